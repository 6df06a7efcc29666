#!/bin/sh
# User seconds that a compiler takes for each example by its own command, and for the implementation alone with all of
# it public, beside those for the implementation of stb_image.h (Debian: libstb-dev) at -O2: the median ratio of three
# rounds, in each of which every third program is followed by stb_image.h. Lines as bench.h writes them: seconds with
# their ratio, above 1 where ours is sooner ready; then ours as a multiple of stb_image.h, and the size of the program.
#   sh bench/bench_compile.sh
# With gcc and clang, those that are installed, or with COMPILERS="..."; side by side, so that each has a core.
cd "$(dirname "$0")/.." || exit 1
[ "${BENCH_SIMD:-}" != avx2 ] || { echo "# compile: the same for every instruction set, skipped"; exit 0; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
printf '\043define STB_IMAGE_IMPLEMENTATION\n\043include <stb/stb_image.h>\n' > "$work/stb.c"

# seconds COMPILER COMMAND: its user CPU, children included
seconds() {
    sh -c "$2 > '$work/log_$1' 2>&1; code=\$?; times; exit \$code" > "$work/times_$1" ||
        { cat "$work/log_$1" >&2; return 1; }
    # the second line: user and system of the children, as 0m1.234s
    sed -n 2p "$work/times_$1" | awk '{ split($1, part, "m"); print 60 * part[1] + part[2] }'
}

# line NAME SHAPE OURS UNIT PEER UNIT RATIO
line() {
    printf '%-24s %-22s %2d %11.4g %-12s %11s %-12s %7s\n' "$1" "$2" 1 "$3" "$4" "$5" "$6" "$7"
}

# command_of COMPILER NAME: what compiles it
command_of() {
    case $2 in
    stb_image) echo "$1 -O2 -c $work/stb.c -o $work/stb_$1.o" ;;
    implementation) echo "$1 -O2 -DMDEMIX_IMPLEMENTATION -x c -c mdemix.h -o $work/mdemix_$1.o" ;;
    *) echo "$1 -O2 examples/$2.c -o $work/$2_$1 -lm" ;;
    esac
}

# rounds COMPILER NAME...: lines "name seconds" of three rounds
rounds() {
    compiler=$1
    shift
    for _ in 1 2 3; do
        count=0
        for name in "$@"; do
            for each in "$name" $([ $((count % 3)) -ne 0 ] || echo stb_image); do
                taken=$(seconds "$compiler" "$(command_of "$compiler" "$each")") || return 1
                echo "$each $taken"
            done
            count=$((count + 1))
        done
        echo "end 0"
    done
}

# pairs NAME < lines of rounds: "ours peer" of each round, the peer being the median of that round
pairs() {
    awk -v name="$1" '
        $1 == name { ours = $2 }
        $1 == "stb_image" { peer[++count] = $2 }
        $1 == "end" {
            for (i = 2; i <= count; i++) for (j = i; j > 1 && peer[j] < peer[j - 1]; j--) {
                swap = peer[j]; peer[j] = peer[j - 1]; peer[j - 1] = swap
            }
            middle = peer[int((count + 1) / 2)]
            printf "%.2f %.2f %.2f %.2f\n", ours, middle, middle / ours, ours / middle
            count = 0
        }'
}

examples=$(for file in examples/*.c; do basename "$file" .c; done)
found=
for compiler in ${COMPILERS:-gcc clang}; do
    command -v "$compiler" > /dev/null 2>&1 || { echo "# compile: $compiler is not installed"; continue; }
    "$compiler" -fsyntax-only "$work/stb.c" 2> /dev/null ||
        { echo "# compile: no <stb/stb_image.h> to compare with (libstb-dev)"; exit 0; }
    found="$found $compiler"
done
for compiler in $found; do
    { rounds "$compiler" $examples implementation > "$work/rounds_$compiler" || : > "$work/failed"; } &
done
wait
[ ! -e "$work/failed" ] || exit 1
for compiler in $found; do
    for name in $examples implementation; do
        pairs "$name" < "$work/rounds_$compiler" | sort -k 4 -n | sed -n 2p | {
            read -r ours peer ratio multiple
            line "compile_$compiler" "$name" "$ours" s "$peer" s "$ratio"
            line "compile_multiple_$compiler" "$name" "$multiple" stb_image - - -
        }
    done
    for name in $examples; do
        line "binary_size_$compiler" "$name" "$(wc -c < "$work/${name}_$compiler" | awk '{ print $1 / 1e6 }')" MB - MB -
    done
done
[ -n "$found" ] || echo "# compile: no compiler found"
