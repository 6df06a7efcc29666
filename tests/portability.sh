#!/bin/sh
# The same bits from every compiler, option, machine and number of threads that can be had here: tests/hashes.c, built
# and run in each row of the table below, must print what tests/hashes.txt holds.
#   sh tests/portability.sh            all rows; ends with a table and "N passed, N failed[, N skipped]"
#   sh tests/portability.sh WORD...    only rows whose names hold one of the words
#   sh tests/portability.sh --update   writes tests/hashes.txt anew with CC, for a change that is meant to change bits
#   JOBS   how many rows to try at a time (default 1)
#   LIMIT  seconds for one run (default 600)
#   BUDGET seconds after which no further row begins (default: none)
cd "$(dirname "$0")/.." || exit 1
work=build/portability
expected=tests/hashes.txt
warnings="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
export NODE_PATH="${NODE_PATH:-/usr/share/nodejs}"       # where Debian puts what emscripten needs
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}" WINEDEBUG=-all WINEPREFIX="$PWD/$work/wine"

# NAME | compiler and options | what runs the program, if not the machine itself | runs, divided by ;
# A run is a list of arguments. In the place of the runs: "differs" when this build must say by itself that its bits
# differ; "program" for examples/mix_optimize.c, whose files must be those of the same program built by cc.
rows() {
    for o in -O0 -O1 -O3 -Os '-O3 -march=native' '-O2 -flto'; do
        echo "gcc $o | gcc -std=c99 $o | |"
        [ "$o" = '-O2 -flto' ] && o='-O2 -flto -fuse-ld=lld'
        echo "clang $o | clang -std=c99 $o | |"
    done
    all='--threads 1; --threads 2; --threads 3; --threads 8; --simd 1; --simd 1 --threads 3; --simd 2; --simd 3'
    commas='--locale de_DE.UTF-8; --locale fr_FR.UTF-8; --locale ps_AF.UTF-8'
    sse='-std=c99 -O2 -msse2 -mfpmath=sse -static'
    o2='-std=c99 -O2 -static'
    cat << END
gcc -O2, threads and instruction sets | gcc -std=c99 -O2 -fopenmp | | $all
clang -O2, threads and instruction sets | clang -std=c99 -O2 -fopenmp | | $all
gcc, decimal commas | gcc -std=c99 -O1 | | $commas
gcc, kernels of 16 lanes without AVX-512 | gcc -std=c99 -O1 -Wno-psabi -DHASHES_WIDE | | --simd 4
clang, kernels of 16 lanes without AVX-512 | clang -std=c99 -O1 -DHASHES_WIDE | | --simd 4
gcc, MDE_NO_SIMD | gcc -std=c99 -O1 -DMDE_NO_SIMD | |
gcc -mavx2 -mfma, portable kernels | gcc -std=c99 -O2 -mavx2 -mfma | | --simd 1
gcc -ffp-contract=fast | gcc -std=gnu99 -O2 -march=native -ffp-contract=fast | |
clang -ffp-contract=fast | clang -std=c99 -O1 -mfma -ffp-contract=fast | | differs
gcc -mfpmath=387 | gcc -std=c99 -O1 -mfpmath=387 | | differs
tcc | tcc -std=c99 | |
musl, gcc -O2 | musl-gcc $o2 | |
i386 with SSE2, gcc -O2 | i686-linux-gnu-gcc $sse | qemu-i386 |
i386 with x87, gcc -O1 | i686-linux-gnu-gcc -std=c99 -O1 -mfpmath=387 -static | qemu-i386 | differs
AArch64, gcc -O2 | aarch64-linux-gnu-gcc $o2 | qemu-aarch64 |
AArch64, clang -O2 | clang --target=aarch64-linux-gnu $o2 | qemu-aarch64 |
ARMv7, gcc -O2 -mfpu=neon | arm-linux-gnueabihf-gcc $o2 -mfpu=neon | qemu-arm |
ARMv7, clang -O2 -mfpu=neon | clang --target=arm-linux-gnueabihf $o2 -mfpu=neon | qemu-arm |
RISC-V, gcc -O2 | riscv64-linux-gnu-gcc $o2 | qemu-riscv64 |
ppc64le, gcc -O2 | powerpc64le-linux-gnu-gcc $o2 | qemu-ppc64le |
s390x (big-endian), gcc -std=gnu99 -O2 | s390x-linux-gnu-gcc -std=gnu99 -O2 -static | qemu-s390x |
s390x, gcc -std=c99 | s390x-linux-gnu-gcc -std=c99 -O1 -static | qemu-s390x | differs
s390x, gcc -std=c99 -fexcess-precision=fast | s390x-linux-gnu-gcc $o2 -fexcess-precision=fast | qemu-s390x |
Windows x86-64, MinGW -O0 | x86_64-w64-mingw32-gcc -std=c99 -O0 -static $warnings | wine |
Windows x86-64, MinGW -O2 | x86_64-w64-mingw32-gcc $o2 $warnings | wine | --simd 1; --simd 2; --simd 3
Windows x86-64, mix_optimize | x86_64-w64-mingw32-gcc -std=c99 -O1 -static $warnings | wine | program
Windows i686, MinGW -O2 -msse2 | i686-w64-mingw32-gcc $sse $warnings | wine |
WebAssembly, emscripten -O2 | emcc -std=c99 -O2 -sALLOW_MEMORY_GROWTH=1 -sSINGLE_FILE=1 | node |
END
    for s in c11 c17 c2x gnu99 gnu17; do echo "gcc -std=$s | gcc -std=$s -O0 | |"; done
    for s in c11 c17 c2x; do echo "clang -std=$s | clang -std=$s -O0 | |"; done
    for s in c++11 c++14 c++17 c++20 c++23; do echo "g++ -std=$s | g++ -x c++ -std=$s -O0 | |"; done
    for s in c++17 c++2b; do echo "clang++ -std=$s | clang++ -x c++ -std=$s -O0 | |"; done
}

# The rows of which the words choose.
chosen() {
    rows | while IFS= read -r line; do
        [ $# -eq 0 ] && echo "$line"
        for word in "$@"; do
            case ${line%%|*} in *"$word"*) echo "$line"; break ;; esac
        done
    done
}

trim() {
    echo "$1" | sed 's/^ *//; s/ *$//'
}

# say WHAT: the verdict on the row that is being tried
say() {
    printf '%-4s %s: %d s%s\n' "$1" "$name" $(($(date +%s) - start)) "${2:+, $2}" | tee "$folder/verdict"
    exit 0
}

# mix_optimize on a small table, built by cc and by the row's compiler, there with a path as Windows has it.
program() {
    awk 'BEGIN { print "run,a,b,c" > ARGV[1]; print "run,a,b" > ARGV[2]
        for (i = 0; i < 24; i++) {
            a = (i * 7 % 24 + 1) / 50; b = (i * 5 % 24 + 1) / 60
            printf "r%d,%.4f,%.4f,%.4f\n", i, a, b, 1 - a - b > ARGV[1]
            printf "r%d,%.4f,%.4f\n", i, 2 + 0.1 / (a + 0.1), 1 + 0.2 / (b + 0.2) > ARGV[2]
        } }' "$folder/räte.csv" "$folder/losses.csv"
    source=examples/mix_optimize.c
    options="--losses $folder/losses.csv --model gp --suggest 2 --quiet"
    # shellcheck disable=SC2086
    {
        ${CC:-cc} -std=c99 -O1 $source -o "$folder/native" -lm &&
            $compile $source -o "$program" -lm &&
            "$folder/native" --ratios "$folder/räte.csv" $options --out "$folder/nativ/ö" &&
            $runner "$program" --ratios "$folder\\räte.csv" $options --out "$folder\\win\\ö"
    } > "$folder/log" 2>&1 < /dev/null || say FAIL "$(tail -n 1 "$folder/log")"
    for file in mixture.json next_runs.csv report.json report.html; do
        sed 's|[^"]*r.*te.csv||' "$folder/nativ/ö/$file" > "$folder/a"
        sed 's|[^"]*r.*te.csv||' "$folder/win/ö/$file" > "$folder/b"
        cmp -s "$folder/a" "$folder/b" || say FAIL "$file differs"
    done
    say ok
}

# The row number $1 in the table that was chosen.
one() {
    folder=$work/$1
    mkdir -p "$folder"
    start=$(date +%s)
    IFS='|' read -r name compile runner runs << END
$(sed -n "$1p" $work/rows)
END
    name=$(trim "$name")
    runs=$(trim "$runs")
    [ "$start" -lt "$END_TIME" ] || say skip "no time was left for it"
    runner=$(trim "$runner")
    for tool in $(trim "$compile" | cut -d' ' -f1) $runner; do
        command -v "$tool" > /dev/null 2>&1 || say skip "$tool is not installed"
    done
    ending=exe
    case $compile in *emcc*) ending=js ;; esac
    program=$folder/hashes.$ending
    # What a compiler lacks, such as the library of a machine, shows with an empty program.
    echo 'int main(void) { return 0; }' > "$folder/empty.c"
    # shellcheck disable=SC2086 # flags
    $compile "$folder/empty.c" -o "$folder/empty.$ending" -lm > "$folder/log" 2>&1 ||
        say skip "$(echo $compile | cut -d' ' -f1) links nothing with these options here"
    # shellcheck disable=SC2086
    [ "$runs" = program ] || $compile tests/hashes.c -o "$program" -lm > "$folder/log" 2>&1 ||
        say FAIL "does not compile, see $folder/log"
    $runner "$folder/empty.$ending" > "$folder/log" 2>&1 < /dev/null || say skip "compiles; $runner cannot run it here"
    [ "$runs" = program ] && program
    missing=
    tried=0
    while [ -n "$runs" ] || [ $tried -eq 0 ]; do
        run=${runs%%;*}
        rest=${runs#"$run"}
        runs=${rest#;}
        tried=$((tried + 1))
        arguments=$run
        [ "$run" = differs ] && arguments=
        # shellcheck disable=SC2086
        timeout "${LIMIT:-600}" $runner "$program" $arguments --folder "$folder/files" \
            > "$folder/output" 2> "$folder/errors" < /dev/null
        status=$?
        tr -d '\r' < "$folder/output" > "$folder/hashes"
        if [ "$run" = differs ]; then
            [ $status -eq 2 ] && say ok "says that its bits differ"
            say FAIL "does not say that its bits differ"
        fi
        [ $status -eq 3 ] && missing="$missing, not $run" && continue
        [ $status -eq 0 ] || say FAIL "$run ends with $status: $(head -n 1 "$folder/errors")"
        diff $expected "$folder/hashes" > "$folder/differences" ||
            say FAIL "$run: $(sed -n 's/^< \(.*[^ ]\) *[0-9a-f]\{16\}$/\1/p' "$folder/differences" | tr '\n' ' ')"
    done
    say ok "$tried runs$missing"
}

case $1 in
    --one) one "$2" ;;
    --update)
        mkdir -p $work && ${CC:-cc} -std=c99 -O1 tests/hashes.c -o $work/update -lm &&
            $work/update --threads 1 --folder $work/files > $work/new && mv $work/new $expected
        exit
        ;;
esac

rm -rf "${work:?}"
mkdir -p $work
chosen "$@" > $work/rows
command -v wine > /dev/null 2>&1 && timeout 120 wine wineboot -i > /dev/null 2>&1 < /dev/null
count=$(wc -l < $work/rows)
END_TIME=$(($(date +%s) + ${BUDGET:-100000}))
export END_TIME
seq "$count" | xargs -P "${JOBS:-1}" -n 1 sh "$0" --one
echo
sort -s -k1,1 $work/*/verdict
passed=$(cat $work/*/verdict | grep -c '^ok')
skipped=$(cat $work/*/verdict | grep -c '^skip')
failed=$((count - passed - skipped))
printf '%d passed, %d failed' "$passed" "$failed"
[ "$skipped" -gt 0 ] && printf ', %d skipped' "$skipped"
echo
[ $failed -eq 0 ]
