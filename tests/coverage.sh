#!/bin/sh
# How much of the headers and programs the tests run: sh tests/coverage.sh PROGRAM... (built with --coverage -O1 into
# build/coverage). The test programs run, then those checks that use programs as their users do. A line a file: lines
# and branches reached; a kernel counts once, whatever the number of instruction sets it is compiled for. Two threads
# lose some of each other's counts, which may so become negative, but not 0. Needs gcc and gcovr 5 or later. Last the
# total, "N passed, N failed": of 95 % of the lines and 85 % of the branches.
set -u
cd "$(dirname "$0")/.." || exit 1
folder=build/coverage
if ! command -v gcovr > /dev/null; then
    echo "skip: gcovr is not here"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
find $folder -name '*.gcda' -delete
export GCOV_ERROR_FILE=/dev/null    # programs whose disk is full, by intent, are to say one thing
JOBS=${JOBS:-1} TIMEOUT=3000 sh tests/run.sh "$@" | tail -n 1
flags="-std=gnu99 -O1 -fno-inline --coverage -fprofile-update=single"
for check in mix lab dagan; do
    mkdir -p $folder/$check
    CC="gcc $flags -dumpdir $PWD/$folder/$check/" sh tests/check_$check.sh > $folder/$check.log 2>&1
    tail -n 1 $folder/$check.log
done
gcovr -r . --object-directory $folder --filter 'mdemix\.h' --filter 'dagan\.h' --filter 'examples/.*' \
    --gcov-ignore-parse-errors --exclude-throw-branches --csv $folder/coverage.csv $folder > $folder/gcovr.log 2>&1 ||
    { cat $folder/gcovr.log; exit 1; }
awk -F, '
    NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
    {
        lines = $column["line_total"]; hit = $column["line_covered"]
        branches = $column["branch_total"]; taken = $column["branch_covered"]
        printf "%-28s %6d lines %5.1f %%   %6d branches %5.1f %%\n", $1, lines, 100 * hit / (lines ? lines : 1),
            branches, 100 * taken / (branches ? branches : 1)
        l += lines; h += hit; b += branches; t += taken
    }
    END {
        printf "%-28s %6d lines %5.1f %%   %6d branches %5.1f %%\n", "all", l, 100 * h / l, b, 100 * t / b
        good = (h >= 0.95 * l) + (t >= 0.85 * b)
        printf "%d passed, %d failed\n", good, 2 - good
        exit good < 2
    }' $folder/coverage.csv
