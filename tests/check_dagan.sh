#!/bin/sh
# dagan_lab as a user meets it: a whole small run, a killed run that goes on, a stopped one, threads, wrong input.
# Closes with "N passed, N failed" like the test programs. CC as in the Makefile.
set -u
cd "$(dirname "$0")/.." || exit 1
CC=${CC:-cc}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

ok() { passed=$((passed + 1)); echo "ok   $1"; }
bad() { failed=$((failed + 1)); echo "FAIL $1"; [ $# -gt 1 ] && echo "    $2"; }
check() { name=$1; shift; if "$@" >"$work/last" 2>&1; then ok "$name"; else bad "$name" "$(tail -n 3 "$work/last")"; fi; }

# From a flat copy of the headers and the program, as somebody has it who copied them.
mkdir "$work/flat"
cp mdemix.h dagan.h examples/program.h examples/dagan_lab.c "$work/flat"
openmp=
echo 'int main(void){return 0;}' >"$work/probe.c"
$CC -fopenmp "$work/probe.c" -o "$work/probe" >/dev/null 2>&1 && openmp=-fopenmp
lab="$work/flat/dagan_lab"
(cd "$work/flat" && $CC -O2 $openmp dagan_lab.c -o dagan_lab -lm) || { echo "0 passed, 1 failed"; exit 1; }

tiny="--preset quick --steps 6 --classifier-steps 4 --episodes 3 --runs 1 --quiet"

check a_run_ends_with_a_report "$lab" run $tiny --threads 1 --out "$work/one"
for file in dagan.safetensors training.png samples.png interpolation.png train.json classify.json match.json \
    transfer.json report.html report.json; do
    check "run_writes_$file" test -s "$work/one/$file"
done
check report_is_one_file_without_references sh -c "! grep -Eq '(src|href)=\"[^d]' '$work/one/report.html'"

check two_threads_train "$lab" train $tiny --threads 2 --out "$work/two"
check two_threads_classify "$lab" classify $tiny --threads 2 --out "$work/two"
for file in dagan.safetensors train.json classify.json; do
    check "one_thread_and_two_give_the_same_$file" cmp "$work/one/$file" "$work/two/$file"
done

# Killed after its first checkpoint; the same command goes on and ends with the same bytes.
"$lab" train $tiny --threads 1 --out "$work/cut" >/dev/null 2>&1 &
pid=$!
for pause in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
    [ -s "$work/cut/dagan.safetensors" ] && break
    sleep 0.1
done
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
check a_killed_training_was_not_finished test ! -e "$work/cut/train.json"
check a_killed_training_goes_on "$lab" train $tiny --threads 1 --out "$work/cut"
check a_killed_training_gives_the_same_networks cmp "$work/one/dagan.safetensors" "$work/cut/dagan.safetensors"
check a_killed_training_gives_the_same_curve cmp "$work/one/train.json" "$work/cut/train.json"

# Stopped by a signal: a valid checkpoint, and the exit code of an interrupted program.
"$lab" train $tiny --steps 100000 --threads 1 --out "$work/stop" >/dev/null 2>&1 &
pid=$!
sleep 2
kill -INT $pid 2>/dev/null
wait $pid
code=$?
if [ $code -eq 130 ]; then ok a_signal_stops_with_code_130; else bad a_signal_stops_with_code_130 "code $code"; fi
check a_stopped_training_leaves_usable_networks "$lab" sample --preset quick --quiet --out "$work/stop"

# Wrong input: one clear line on stderr, an exit code other than 0, nothing half-written.
wrong() {
    name=$1; expected=$2; shift 2
    "$@" --out "$work/wrong" >"$work/stdout" 2>"$work/stderr"
    code=$?
    lines=$(wc -l <"$work/stderr")
    if [ $code -eq 0 ] || [ $code -gt 125 ]; then bad "$name" "exit code $code"
    elif [ "$lines" -ne 1 ]; then bad "$name" "$lines lines on stderr: $(cat "$work/stderr")"
    elif ! grep -q -- "$expected" "$work/stderr"; then bad "$name" "$(cat "$work/stderr")"
    elif [ -e "$work/wrong" ]; then bad "$name" "left a folder behind"
    else ok "$name"; fi
}
mkdir "$work/empty" "$work/single" "$work/single/a"
printf 'P5\n4 4\n255\n0123456789abcdef' >"$work/single/a/x.pgm"
printf '\000\000\010\003\000\000\000\144\000\000\000\034\000\000\000\034cut off' >"$work/cut-images-idx3-ubyte"
printf '\000\000\010\001\000\000\000\003abc' >"$work/three-labels"
printf '\000\000\010\003\000\000\000\002\000\000\000\001\000\000\000\001ab' >"$work/two-images"
printf '\223NUMPY\001\000\106\000%-69s\n' "{'descr': '<U3', 'fortran_order': False, 'shape': (1, 1, 1), }" >"$work/strings.npy"
printf '123456789012' >>"$work/strings.npy"
wrong missing_folder "missing" "$lab" train --data "$work/missing"
wrong empty_folder "empty" "$lab" train --data "$work/empty"
wrong one_class_only "1 class" "$lab" train --data "$work/single"
wrong truncated_idx "cut off" "$lab" train --data "$work/cut-images-idx3-ubyte" --labels "$work/three-labels"
wrong more_labels_than_images "3" "$lab" train --data "$work/two-images" --labels "$work/three-labels"
wrong npy_of_strings "strings" "$lab" train --data "$work/strings.npy" --labels "$work/three-labels"
wrong fewer_samples_than_asked "expected 16 to learn from" "$lab" classify --preset quick --samples 4,16
wrong value_that_is_no_number "not a value" "$lab" run --steps abc
wrong unknown_option "not an option" "$lab" run --frobnicate 3
wrong unknown_preset "preset" "$lab" run --preset huge
wrong no_command "expected a command" "$lab"
wrong sample_before_train "not there" "$lab" sample --preset quick --quiet
"$lab" train $tiny --out "$work/one/train.json/out" >"$work/stdout" 2>"$work/stderr"
if [ $? -eq 1 ] && [ "$(wc -l <"$work/stderr")" -eq 1 ]; then ok unwritable_out; else bad unwritable_out "$(cat "$work/stderr")"; fi

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
