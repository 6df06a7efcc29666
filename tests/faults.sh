#!/bin/sh
# Programs that are killed, or whose files cannot be written: sh tests/faults.sh PROGRAM_FOLDER
# Whatever happens, a program ends with one clear line and an exit code that is not 0, or goes on; the same command,
# given again, ends with the bytes of a run that nothing disturbed; and nothing temporary stays behind. A line a program
# and kind of fault: tried, failed, skipped. Last the total, "N passed, N failed".
#   KILLS   kills at a random moment, of all programs together (default 200)
#   CALLS   calls that change files, of each program and kind, at which something happens: evenly spaced, or all when
#           there are no more (default 60)
set -u
cd "$(dirname "$0")/.." || exit 1
exec 2> /dev/null               # the shell tells of every process that is killed
programs=$(cd "$1" && pwd) || exit 1
KILLS=${KILLS:-200}
CALLS=${CALLS:-60}
work=$(mktemp -d) || exit 1
mounted=
trap 'for m in $mounted; do umount "$m" 2>/dev/null; done; rm -rf "$work"' EXIT
passed=0
failed=0
export OMP_NUM_THREADS=1

if ! ${CC:-cc} -O1 -shared -fPIC tests/faults.c -o "$work/faults.so" -ldl 2> "$work/log"; then
    echo "skip: the library of faults does not compile here: $(head -n 1 "$work/log")"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi

# The commands. Each writes to the folder out, or files there, and reads what stands in ../in.
mkdir "$work/in"
awk 'BEGIN { srand(7); while (i++ < 3000) { n = int(rand() * 40); printf "the %d%s ", n, n % 3 ? " cats" : "\n\n" } }' \
    > "$work/in/text.txt"
awk -v ratios="$work/in/ratios.csv" -v losses="$work/in/losses.csv" 'BEGIN {
    srand(3); print "run,web,code,books" > ratios; print "run,news,math" > losses
    for (i = 1; i <= 24; i++) {
        a = rand(); b = rand(); c = rand(); s = a + b + c; a /= s; b /= s; c /= s
        printf "%d,%.6f,%.6f,%.6f\n", i, a, b, 1 - sprintf("%.6f", a) - sprintf("%.6f", b) > ratios
        printf "%d,%.5f,%.5f\n", i, 3 + exp(-2 * a - b), 2 + exp(-3 * b) > losses
    } }'
command_of() {
    case $1 in
    mde_lab) echo "mde_lab run out --layers 1 --width 16 --heads 2 --context 16 --batch 4 --tokens 3000 --proxies 6" \
        "--validation-tokens 300 --questions 12 --quiet" ;;
    train_lm) echo "train_lm ../in/text.txt --layers 1 --width 16 --heads 2 --context 16 --batch 4 --tokens 3000" \
        "--out out/model.safetensors --checkpoint out/check.safetensors --quiet" ;;
    mix_optimize) echo "mix_optimize --ratios ../in/ratios.csv --losses ../in/losses.csv --model ridge --suggest 3" \
        "--out out/report --quiet" ;;
    dagan_lab) echo "dagan_lab run --preset quick --size 12 --max-classes 14 --max-samples 8 --steps 4" \
        "--classifier-steps 2 --episodes 2 --runs 1 --quiet --out out" ;;
    esac
}

# fresh NAME: an empty folder of this case, to run in
fresh() {
    rm -rf "${work:?}/$1"
    mkdir -p "$work/$1"
    case $program in train_lm|mix_optimize) mkdir "$work/$1/out" ;; esac
}

# alone: this program's command, in place of the shell that calls it
alone() {
    # shellcheck disable=SC2046 # words
    exec "$programs/"$(command_of $program) > /dev/null 2> "$work/complaint"
}

# go NAME [VARIABLE=VALUE...]: the program's command in that folder; its exit code
go() {
    folder=$1
    shift
    # shellcheck disable=SC2046,SC2086 # words
    (cd "$work/$folder" && exec env "$@" "$programs/"$(command_of $program) > "$work/output" 2> "$work/complaint") \
        2> "$work/log"
}

sums() { (cd "$work/$1" && find . -type f -exec cksum {} + | sort -k 3); }

# A run, disturbed or not, was given to the folder; its exit code is $2. Holds if it went on, or ended with a line and
# then, given again, goes on; as the undisturbed one, with nothing left over.
recovers() { # recovers FOLDER CODE WHAT
    if [ "$2" -gt 0 ] && [ "$2" -lt 128 ] && [ "$(grep -c . "$work/complaint")" -ne 1 ]; then
        complain "$3" "exit code $2 and: $(head -n 3 "$work/complaint")"
        return
    fi
    if [ "$2" -ge 128 ] && [ "$2" -ne 137 ]; then
        complain "$3" "ended with code $2: $(tail -n 1 "$work/complaint")"
        return
    fi
    tries=0
    while [ "$2" -ne 0 ] || [ $tries -gt 0 ]; do
        go "$1"
        again=$?
        [ $again -eq 0 ] && break
        tries=$((tries + 1))
        [ $tries -lt 2 ] || break
    done
    if [ "$2" -ne 0 ] && [ $again -ne 0 ]; then
        complain "$3" "does not go on: $(tail -n 1 "$work/complaint")"
    elif sums "$1" > "$work/sums" && cmp -s "$work/sums" "$work/reference"; then
        good=$((good + 1))
    else
        complain "$3" "other files: $(diff "$work/reference" "$work/sums" | grep '^[<>]' | head -n 3 | tr '\n' ' ')"
    fi
}

complain() {
    bad=$((bad + 1))
    [ $bad -le 5 ] && echo "    $program, $1: $2"
}

row() { # row KIND: ends a line of the table
    printf '%-13s %-34s %4d tried, %d failed\n' "$program" "$1" $((good + bad)) $bad
    passed=$((passed + good))
    failed=$((failed + bad))
    good=0
    bad=0
}

skip() { printf '%-13s %-34s skipped: %s\n' "$program" "$1" "$2"; }

# A file system of its own, of $1 KB; sets disk, or reason when there is none.
make_disk() {
    disk="$work/disk$1"
    umount "$disk" 2>/dev/null
    mkdir -p "$disk"
    mount -t tmpfs -o "size=$1k" tmpfs "$disk" 2> "$work/log" && mounted="$mounted $disk"
}

good=0
bad=0
for program in train_lm mde_lab mix_optimize dagan_lab; do
    [ -x "$programs/$program" ] || { skip "all" "not built"; continue; }
    fresh one
    if ! go one LD_PRELOAD="$work/faults.so" FAULT_COUNT="$work/count"; then
        complain "undisturbed" "$(cat "$work/complaint")"
        row "undisturbed"
        continue
    fi
    total=$(cat "$work/count")
    sums one > "$work/reference"
    echo "again" > "$work/complaint"
    recovers one 1 "a second run of what is done"
    row "a second run of what is done"

    for kind in kill after fail full; do
        step=$(((total + CALLS - 1) / CALLS))
        k=1
        while [ $k -le "$total" ]; do
            fresh $kind
            go $kind LD_PRELOAD="$work/faults.so" FAULT=$kind:$k
            recovers $kind $? "$kind:$k of $total"
            k=$((k + step))
        done
        case $kind in
        kill) row "killed before a call" ;;
        after) row "killed after a call" ;;
        fail) row "a call fails" ;;
        full) row "all fail from one on" ;;
        esac
    done

    # Chains of kills, at moments of a run's length.
    fresh time
    start=$(date +%s%N)
    go time
    length=$((($(date +%s%N) - start) / 1000000))
    i=0
    while [ $i -lt $((KILLS / 4)) ]; do
        fresh chain
        link=0
        code=137
        while [ $link -lt 5 ] && [ $i -lt $((KILLS / 4)) ] && [ $code -ne 0 ]; do
            moment=$(awk "BEGIN { srand($i + 1000); printf \"%.3f\", rand() * $length / 1000 + .001 }")
            # shellcheck disable=SC2046 # words
            (cd "$work/chain" && exec timeout -s KILL "$moment" "$programs/"$(command_of $program) > /dev/null \
                2> "$work/complaint") 2> "$work/log"
            code=$?
            if [ $code -ne 0 ] && [ $code -ne 137 ]; then break; fi
            link=$((link + 1))
            i=$((i + 1))
        done
        recovers chain $code "a chain of $link kills ending with kill $i"
        good=$((good + link - 1))
    done
    row "killed at a random moment"

    for blocks in 1 8 64; do
        fresh limit
        (cd "$work/limit" && ulimit -f $blocks && alone) 2> "$work/log"
        recovers limit $? "files of at most $blocks blocks"
    done
    row "files of limited size"

    if make_disk 40; then
        fresh full
        rm -rf "$work/full/out"
        ln -s "$disk" "$work/full/out"
        go full
        code=$?
        if [ $code -gt 0 ] && [ $code -lt 128 ] && [ "$(grep -c . "$work/complaint")" -eq 1 ]; then
            good=$((good + 1))
        elif [ $code -eq 0 ]; then
            good=$((good + 1))
        else
            complain "a full disk" "exit code $code and: $(head -n 3 "$work/complaint")"
        fi
        leftover=$(find "$disk" -name '.*.tmp' | wc -l)
        [ "$leftover" -eq 0 ] || complain "a full disk" "$leftover temporary files stay"
        mount -o remount,ro "$disk"
        go full
        code=$?
        { [ $code -gt 0 ] && [ $code -lt 128 ] && [ "$(grep -c . "$work/complaint")" -eq 1 ] && good=$((good + 1)); } ||
            complain "a read-only disk" "exit code $code and: $(head -n 3 "$work/complaint")"
        row "a full disk, then a read-only one"
    else
        skip "a full disk, then a read-only one" "$(head -n 1 "$work/log")"
    fi

    # Two at once in one folder: each ends well or says why not, and no file is of neither.
    i=0
    while [ $i -lt $((KILLS / 20)) ]; do
        i=$((i + 1))
        fresh pair
        # shellcheck disable=SC2046 # words
        (cd "$work/pair" && exec "$programs/"$(command_of $program) > /dev/null 2> "$work/other") &
        sleep "$(awk "BEGIN { srand($i); print rand() * $length / 2000 }")"
        go pair
        code=$?
        wait $!
        other=$?
        if [ $other -ge 128 ] || { [ $other -ne 0 ] && [ "$(grep -c . "$work/other")" -ne 1 ]; }; then
            complain "pair $i" "the first ended with $other: $(head -n 3 "$work/other")"
        else
            recovers pair $code "pair $i"
        fi
    done
    row "two at once in one folder"

    # The folder goes while the program works.
    for moment in 2 4 6 8; do
        fresh gone
        (sleep "$(awk "BEGIN { print $length * $moment / 10000 }")"; rm -rf "$work/gone/out") &
        go gone
        code=$?
        wait
        case $program in train_lm|mix_optimize) mkdir -p "$work/gone/out" ;; esac
        if [ $code -eq 0 ]; then code=1; echo "went on" > "$work/complaint"; fi
        recovers gone $code "its folder is deleted after $moment tenths"
    done
    row "its folder is deleted"

    fresh pipe
    # shellcheck disable=SC2046 # words
    (cd "$work/pipe" && { "$programs/"$(command_of $program) 2> "$work/complaint"; echo $? > "$work/code"; } | true)
    recovers pipe "$(sed 's/^141$/137/' "$work/code")" "a closed pipe"
    row "a closed pipe"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
