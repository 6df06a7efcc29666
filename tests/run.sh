#!/bin/sh
# Runs test programs and scripts: sh tests/run.sh PROGRAM...
# Each ends with "N passed, N failed[, N skipped]". Shown are the failures, one line a program, and as the last line the
# total, "N passed, N failed". A program that crashes, hangs or does not print its closing line counts as one more failure.
#   JOBS      how many to run at a time (default 1)
#   WRAPPER   command to run the programs under (not the scripts), such as valgrind
#   TIMEOUT   seconds for one program (default 1200), where the command `timeout` is there

logs=build/logs
# Threads that wait asleep, because several programs share the processors.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"

log_of() {
    echo "$logs/$(echo "$1" | tr '/' '_').log"
}

number() { # number TEXT WORD: the number before the word, 0 without it
    n=$(printf '%s\n' "$1" | sed -n "s/^\(.*[^0-9]\)*\([0-9][0-9]*\) $2.*/\2/p")
    echo "${n:-0}"
}

# Runs one program and shows what there is to show; the counts go to a file beside the log.
one() {
    log=$(log_of "$1")
    limit=
    command -v timeout > /dev/null 2>&1 && limit="timeout ${TIMEOUT:-1200}"
    start=$(date +%s)
    case $1 in
        *.sh) $limit sh "$1" > "$log" 2>&1 ;;
        *) $limit $WRAPPER "./$1" > "$log" 2>&1 ;;
    esac
    status=$?
    seconds=$(($(date +%s) - start))
    closing=$(grep -E '^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' "$log" | tail -n 1)
    p=$(number "$closing" passed)
    f=$(number "$closing" failed)
    s=$(number "$closing" skipped)
    note=
    if [ -z "$closing" ] || { [ $status -ne 0 ] && [ "$f" -eq 0 ]; }; then
        f=$((f + 1))
        note=" (ended with status $status)"
        [ $status -eq 124 ] && note=" (stopped after ${TIMEOUT:-1200} s)"
    fi
    echo "$p $f $s" > "$log.counts"
    line=$(printf '%-28s %4d passed, %d failed, %d skipped, %d s%s' "$(basename "$1" .sh):" "$p" "$f" "$s" "$seconds" "$note")
    # A failed test's complaints stand above its own line; without any, the log's end tells what there is to tell.
    failures=
    if [ "$f" -gt 0 ]; then
        if grep -q '^FAIL' "$log" && [ -z "$note" ]; then
            failures=$(awk '/^FAIL/ { printf "%s%s\n", held, $0 }
                            /^(ok|skip|FAIL)/ { held = ""; next } { held = held $0 "\n" }' "$log")
        else
            failures=$(tail -n 40 "$log")
        fi
        line="$failures
$line"
    fi
    printf '%s\n' "$line"
}

if [ "$1" = --one ]; then
    one "$2"
    exit 0
fi

mkdir -p $logs
for program in "$@"; do rm -f "$(log_of "$program").counts"; done
if [ $# -gt 0 ] && [ "${JOBS:-1}" -gt 1 ] && echo x | xargs -P 2 -n 1 true 2> /dev/null; then
    printf '%s\n' "$@" | xargs -P "$JOBS" -n 1 sh "$0" --one
else
    for program in "$@"; do one "$program"; done
fi

passed=0
failed=0
skipped=0
for program in "$@"; do
    counts=$(cat "$(log_of "$program").counts" 2> /dev/null || echo "0 1 0")
    # shellcheck disable=SC2086 # three numbers
    set -- $counts
    passed=$((passed + $1))
    failed=$((failed + $2))
    skipped=$((skipped + $3))
done
[ "$skipped" -gt 0 ] && echo "$skipped skipped: grep '^skip' $logs/* tells why"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ $((passed + skipped)) -gt 0 ]
