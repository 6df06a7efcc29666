#!/bin/sh
# User seconds that a compiler takes for each example by its own command, and for the implementation alone with all of
# it public, beside those for the implementation of stb_image.h (Debian: libstb-dev) at -O2: median ratio of three
# pairs, taken in turns. Lines as bench.h writes them: seconds with their ratio, above 1 where ours is sooner ready; then
# ours as a multiple of stb_image.h, and the size of the program.
#   sh bench/bench_compile.sh
# With gcc and clang, those that are installed, or with COMPILERS="...".
cd "$(dirname "$0")/.." || exit 1
[ "${BENCH_SIMD:-}" != avx2 ] || { echo "# compile: the same for every instruction set, skipped"; exit 0; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
printf '\043define STB_IMAGE_IMPLEMENTATION\n\043include <stb/stb_image.h>\n' > "$work/stb.c"

# seconds COMMAND: its user CPU, children included
seconds() {
    sh -c "$1 > '$work/log' 2>&1; code=\$?; times; exit \$code" > "$work/times" || { cat "$work/log" >&2; exit 1; }
    # the second line: user and system of the children, as 0m1.234s
    sed -n 2p "$work/times" | awk '{ split($1, part, "m"); print 60 * part[1] + part[2] }'
}

# line NAME SHAPE OURS UNIT PEER UNIT RATIO
line() {
    printf '%-24s %-22s %2d %11.4g %-12s %11s %-12s %7s\n' "$1" "$2" 1 "$3" "$4" "$5" "$6" "$7"
}

# measure COMPILER NAME COMMAND
measure() {
    for _ in 1 2 3; do
        ours=$(seconds "$3") && peer=$(seconds "$1 -O2 -c $work/stb.c -o $work/stb.o") || return 1
        echo "$ours $peer"
    done > "$work/pairs"
    awk '{ printf "%.2f %.2f %.2f %.2f\n", $1, $2, $2 / $1, $1 / $2 }' "$work/pairs" | sort -k 4 -n | sed -n 2p |
        while read -r ours peer ratio multiple; do
            line "compile_$1" "$2" "$ours" s "$peer" s "$ratio"
            line "compile_multiple_$1" "$2" "$multiple" stb_image - - -
        done
}

found=
for compiler in ${COMPILERS:-gcc clang}; do
    command -v "$compiler" > /dev/null 2>&1 || { echo "# compile: $compiler is not installed"; continue; }
    found=1
    "$compiler" -fsyntax-only "$work/stb.c" 2> /dev/null ||
        { echo "# compile: no <stb/stb_image.h> to compare with (libstb-dev)"; exit 0; }
    for file in examples/*.c; do
        example=$(basename "$file" .c)
        measure "$compiler" "$example" "$compiler -O2 $file -o $work/program -lm" || exit 1
        line "binary_size_$compiler" "$example" "$(wc -c < "$work/program" | awk '{ print $1 / 1e6 }')" MB - MB -
    done
    measure "$compiler" implementation "$compiler -O2 -DMDEMIX_IMPLEMENTATION -x c -c mdemix.h -o $work/mdemix.o" || exit 1
done
[ -n "$found" ] || echo "# compile: no compiler found"
