#!/bin/sh
# Every reader under a fuzzer: sh tests/fuzz.sh SECONDS [READER...]
# The fuzzer is libFuzzer, or where that is missing AFL++; FUZZER=libfuzzer or FUZZER=afl in the environment asks for one.
# Each reader gets that many seconds, from a valid file and what earlier runs found (build/fuzz/NAME). A line a reader:
# inputs tried, and the file that it fails on, if any, which stays until the next run: once it is understood, it becomes a
# test of the part that it broke. Last the total, "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
seconds=$1
shift
folder=build/fuzz
flags="-std=gnu99 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -w"
mkdir -p $folder
passed=0
failed=0

# builds COMPILER: can it build a target
builds() {
    printf '#include <stddef.h>\nint LLVMFuzzerTestOneInput(const unsigned char *d, size_t n) { return d && n > 1e9; }\n' |
        "$1" -fsanitize=fuzzer -x c - -o $folder/probe > /dev/null 2>&1
}

compiler=
case ${FUZZER:-} in
    '') for known in clang afl-clang-fast; do builds $known && { compiler=$known; break; }; done ;;
    libfuzzer) builds clang && compiler=clang ;;
    afl) builds afl-clang-fast && compiler=afl-clang-fast ;;
    *) echo "FUZZER is libfuzzer or afl, not $FUZZER"; exit 2 ;;
esac
[ "$compiler" != afl-clang-fast ] || command -v afl-fuzz > /dev/null || compiler=
if [ -z "$compiler" ]; then
    echo "skip: ${FUZZER:-neither clang with libFuzzer nor AFL++ (afl-clang-fast, afl-fuzz)} is not here"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
engine=libFuzzer
suffix=
if [ $compiler = afl-clang-fast ]; then
    engine=AFL++
    suffix=_afl
    # No picture of the terminal, no advice on processors and core dumps.
    export AFL_QUIET=1 AFL_NO_UI=1 AFL_NO_AFFINITY=1 AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1
fi

# Fuzzers end their targets without a farewell: the files that these work on go with this script.
FUZZ_FOLDER=$(TMPDIR=$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}") mktemp -d) || exit 1
export FUZZ_FOLDER
trap 'rm -rf "$FUZZ_FOLDER"' EXIT
trap 'exit 130' INT TERM

for build in files: paths: tables:-DFUZZ_MIX; do
    name=${build%%:*}
    source=paths
    [ "$name" = files ] && source=files
    # shellcheck disable=SC2086 # flags
    $compiler $flags ${build#*:} -DLIBFUZZER -fsanitize=fuzzer tests/fuzz_$source.c -o $folder/fuzz_"$name"$suffix -lm ||
        exit 1
done

# Each runs PROGRAM for SECONDS on the corpus of READER, and sets code, inputs and fault.
run_libfuzzer() { # run_libfuzzer PROGRAM READER SECONDS
    rm -f "$folder/$2".fault-*
    timeout $(($3 * 2 + 120)) "$1" -max_total_time="$3" -timeout=20 -rss_limit_mb=2048 -max_len=2000000 -close_fd_mask=3 \
        -artifact_prefix="$folder/$2.fault-" -print_final_stats=1 "$folder/$2" > "$folder/$2.log" 2>&1
    code=$?
    inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/$2.log")
    fault=$(ls "$folder/$2".fault-* 2> /dev/null | head -n 1)
}

run_afl() { # run_afl PROGRAM READER SECONDS; what it found joins the corpus, from which both fuzzers start
    out=$folder/afl/$2
    rm -rf "$out"
    mkdir -p "$out"
    timeout $(($3 * 2 + 120)) afl-fuzz -V "$3" -t 20000 -m none -i "$folder/$2" -o "$out" -- "$1" > "$folder/$2.log" 2>&1
    code=$?
    inputs=$(sed -n 's/^execs_done *: *//p' "$out/default/fuzzer_stats" 2> /dev/null)
    fault=$(ls "$out"/default/crashes/id* "$out"/default/hangs/id* 2> /dev/null | head -n 1)
    find "$out/default/queue" -name 'id:*,src:*' -exec cp {} "$folder/$2" \; 2> /dev/null
}

# fuzz PROGRAM READER SECONDS
fuzz() {
    export FUZZ_READER="$2"
    if [ $engine = AFL++ ]; then run_afl "$folder/fuzz_$1$suffix" "$2" "$3"; else run_libfuzzer "$folder/fuzz_$1" "$2" "$3"; fi
    if [ $code -eq 0 ] && [ -z "$fault" ]; then
        passed=$((passed + 1))
        printf '%-18s %10s inputs, no fault\n' "$2" "${inputs:-?}"
    else
        failed=$((failed + 1))
        printf '%-18s %10s inputs, FAULT %s (exit code %d, log %s)\n' "$2" "${inputs:-?}" "$fault" $code "$folder/$2.log"
    fi
}

wanted() { # wanted READER LIST...: is it of the list, or is there no list
    [ $# -eq 1 ] && return 0
    reader_wanted=$1
    shift
    case " $* " in *" $reader_wanted "*) return 0 ;; esac
    return 1
}

if wanted parsers "$@"; then
    mkdir -p $folder/parsers
    $folder/fuzz_files$suffix --seeds $folder/parsers || exit 1
    fuzz files parsers $((seconds * 8))
fi
for name in paths tables; do
    for reader in $($folder/fuzz_$name$suffix --list 2> /dev/null); do
        wanted "$reader" "$@" || continue
        mkdir -p "$folder/$reader"
        if ! FUZZ_READER=$reader $folder/fuzz_$name$suffix --seed "$folder/$reader/seed" > "$folder/$reader.log" 2>&1; then
            failed=$((failed + 1))
            echo "$reader: no seed: $(tail -n 1 "$folder/$reader.log")"
            continue
        fi
        fuzz $name "$reader" "$seconds"
    done
done
echo "by $engine"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
