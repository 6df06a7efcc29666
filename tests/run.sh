#!/bin/sh
# Runs test programs and scripts one after the other: sh tests/run.sh PROGRAM...
# Each ends with "N passed, N failed[, N skipped]". Shown are the failures, one line a program, and the total as the
# last line. A program that crashes, hangs or does not print its closing line counts as one more failure.
#   WRAPPER   command to run the programs under (not the scripts), such as valgrind
#   TIMEOUT   seconds for one program (default 1200), where the command `timeout` is there

passed=0
failed=0
skipped=0
limit=
command -v timeout > /dev/null 2>&1 && limit="timeout ${TIMEOUT:-1200}"
mkdir -p build/logs

number() { # number TEXT WORD: the number before the word, 0 without it
    n=$(printf '%s\n' "$1" | sed -n "s/.*[^0-9]\([0-9][0-9]*\) $2.*/\1/p; s/^\([0-9][0-9]*\) $2.*/\1/p" | head -n 1)
    echo "${n:-0}"
}

for program in "$@"; do
    name=$(basename "$program" .sh)
    log=build/logs/$(echo "$program" | tr '/' '_').log
    start=$(date +%s)
    case $program in
        *.sh) $limit sh "$program" > "$log" 2>&1 ;;
        *) $limit $WRAPPER "./$program" > "$log" 2>&1 ;;
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
        case $status in
            124) note=" (stopped after ${TIMEOUT:-1200} s)" ;;
            *) note=" (ended with status $status)" ;;
        esac
    fi
    passed=$((passed + p))
    failed=$((failed + f))
    skipped=$((skipped + s))
    if [ "$f" -gt 0 ]; then
        # A failed test's complaints stand above its own line; without any, the log's end tells what there is to tell.
        if grep -q '^FAIL' "$log" && [ -z "$note" ]; then
            awk '/^FAIL/ { printf "%s%s\n", held, $0 } /^(ok|skip|FAIL)/ { held = ""; next } { held = held $0 "\n" }' "$log"
        else
            tail -n 40 "$log"
        fi
    fi
    printf '%-28s %4d passed, %d failed, %d skipped, %d s%s\n' "$name:" "$p" "$f" "$s" "$seconds" "$note"
done

if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ] && [ $((passed + skipped)) -gt 0 ]
