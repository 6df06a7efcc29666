#!/bin/sh
# User seconds that a compiler takes for each example by its own command, and for the implementation alone with all of
# it public, beside those for the implementation of stb_image.h (Debian: libstb-dev) at -O2, which every third
# measurement is followed by: its median, and one measurement of each of ours, whose user seconds move by a few percent.
# Lines as bench.h writes them: seconds with their ratio, above 1 where ours is sooner ready; then ours as a multiple of
# stb_image.h, and the size of the program.
#   sh bench/bench_compile.sh
# With gcc and clang, those that are installed, or with COMPILERS="..."; two at a time, so that each has a core.
cd "$(dirname "$0")/.." || exit 1
[ "${BENCH_SIMD:-}" != avx2 ] || { echo "# compile: the same for every instruction set, skipped"; exit 0; }
longest="mde_lab dagan_lab implementation mix_optimize"     # first, so that neither core waits at the end

# measure WORK COMPILER NAME: adds "compiler name seconds" to the measurements, user CPU with all children
measure() {
    out=$1/$2.$3.$$
    case $3 in
    stb_image) command="$2 -O2 -c $1/stb.c -o $out" ;;
    implementation) command="$2 -O2 -DMDEMIX_IMPLEMENTATION -x c -c mdemix.h -o $out" ;;
    *) command="$2 -O2 examples/$3.c -o $out -lm" ;;
    esac
    sh -c "$command > $out.log 2>&1; code=\$?; times; exit \$code" > "$out.times" || { cat "$out.log" >&2; exit 255; }
    # the second line: user and system of the children, as 0m1.234s
    sed -n "2s/m/ /p" "$out.times" | awk -v who="$2 $3" '{ print who, 60 * $1 + $2 }' >> "$1/seconds"
    mv "$out" "$1/$3_$2"
}
[ "${1:-}" != measure ] || { shift; measure "$@"; exit; }

# line NAME SHAPE OURS UNIT PEER UNIT RATIO
line() {
    printf '%-24s %-22s %2d %11.4g %-12s %11s %-12s %7s\n' "$1" "$2" 1 "$3" "$4" "$5" "$6" "$7"
}

# median COMPILER NAME
median() {
    sed -n "s/^$1 $2 //p" "$work/seconds" | sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}

# round COMPILER NAME...: lines "compiler name", to be measured in this order
round() {
    compiler=$1 count=0
    shift
    for name in "$@"; do
        echo "$compiler $name"
        [ $((count % 3)) -ne 0 ] || echo "$compiler stb_image"
        count=$((count + 1))
    done
}

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
printf '\043define STB_IMAGE_IMPLEMENTATION\n\043include <stb/stb_image.h>\n' > "$work/stb.c"
examples=$(for file in examples/*.c; do basename "$file" .c; done)
found=
for compiler in ${COMPILERS:-gcc clang}; do
    command -v "$compiler" > /dev/null 2>&1 || { echo "# compile: $compiler is not installed"; continue; }
    "$compiler" -fsyntax-only "$work/stb.c" 2> /dev/null ||
        { echo "# compile: no <stb/stb_image.h> to compare with (libstb-dev)"; exit 0; }
    found="$found $compiler"
done
[ -n "$found" ] || { echo "# compile: no compiler found"; exit 0; }
for compiler in $found; do round "$compiler" $longest $(for name in $examples; do
    case " $longest " in *" $name "*) ;; *) echo "$name" ;; esac
done); done | xargs -P 2 -L 1 sh bench/bench_compile.sh measure "$work" || exit 1
for compiler in $found; do
    peer=$(median "$compiler" stb_image)
    for name in $examples implementation; do
        ours=$(median "$compiler" "$name")
        ratio=$(echo "$peer $ours" | awk '{ printf "%.2f", $1 / $2 }')
        line "compile_$compiler" "$name" "$ours" s "$peer" s "$ratio"
        line "compile_multiple_$compiler" "$name" "$(echo "$ours $peer" | awk '{ printf "%.2f", $1 / $2 }')" \
            stb_image - - -
    done
    for name in $examples; do
        line "binary_size_$compiler" "$name" "$(wc -c < "$work/${name}_$compiler" | awk '{ print $1 / 1e6 }')" MB - MB -
    done
done
