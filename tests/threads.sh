#!/bin/sh
# tests/threads.c under ThreadSanitizer, without and with OpenMP, by each compiler at hand that can: gcc's OpenMP library is
# not instrumented, so that clang alone has the second. Last the total, "N passed, N failed[, N skipped]".
cd "$(dirname "$0")/.." || exit 1
mkdir -p build
built=
skipped=0
for build in gcc: clang: clang:-fopenmp; do
    compiler=${build%%:*}
    flags="-std=gnu99 -O1 -g -fsanitize=thread -pthread ${build#*:}"
    program=build/threads_$compiler${build#*:}
    echo 'int main(void) { return 0; }' > build/threads_probe.c
    # shellcheck disable=SC2086 # flags
    if ! $compiler $flags build/threads_probe.c -o build/threads_probe 2> /dev/null || ! ./build/threads_probe; then
        echo "skip: $compiler with $flags does not work here"
        skipped=$((skipped + 1))
        continue
    fi
    # shellcheck disable=SC2086
    $compiler $flags tests/threads.c -o "$program" -lm || { echo "0 passed, 1 failed"; exit 1; }
    built="$built $program"
done
if [ -z "$built" ]; then
    echo "0 passed, 0 failed, $skipped skipped"
    exit 0
fi
# shellcheck disable=SC2086
TSAN_OPTIONS="ignore_noninstrumented_modules=1" sh tests/run.sh $built
