#!/bin/sh
# Every reader under libFuzzer: sh tests/fuzz.sh SECONDS [READER...]
# Each reader gets that many seconds, from a valid file and what earlier runs found (build/fuzz/NAME). A line a reader:
# inputs tried, and the file that it fails on, if any, which stays in build/fuzz and belongs in tests/faulty once it is
# understood: `make test` reads all that stands there. Last the total, "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
seconds=$1
shift
folder=build/fuzz
flags="-std=gnu99 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -w"
mkdir -p $folder
passed=0
failed=0

if ! printf '#include <stddef.h>\nint LLVMFuzzerTestOneInput(const unsigned char *d, size_t n) { return d && n > 1e9; }\n' |
    clang -fsanitize=fuzzer -x c - -o $folder/probe 2> /dev/null; then
    echo "skip: clang with -fsanitize=fuzzer is not here"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
for build in files: paths: tables:-DFUZZ_MIX; do
    name=${build%%:*}
    source=paths
    [ "$name" = files ] && source=files
    # shellcheck disable=SC2086 # flags
    clang $flags ${build#*:} -DLIBFUZZER -fsanitize=fuzzer tests/fuzz_$source.c -o $folder/fuzz_"$name" -lm ||
        exit 1
done

# fuzz PROGRAM READER SECONDS: runs the fuzzer on the corpus of the reader
fuzz() {
    corpus=$folder/$2
    log=$folder/$2.log
    rm -f "$folder/$2".fault-*
    FUZZ_READER=$2 timeout $(($3 * 2 + 120)) "$folder/fuzz_$1" -max_total_time="$3" -timeout=20 -rss_limit_mb=2048 \
        -max_len=2000000 -close_fd_mask=3 -artifact_prefix="$folder/$2.fault-" -print_final_stats=1 "$corpus" > "$log" 2>&1
    code=$?
    inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    fault=$(ls "$folder/$2".fault-* 2> /dev/null | head -n 1)
    if [ $code -eq 0 ] && [ -z "$fault" ]; then
        passed=$((passed + 1))
        printf '%-18s %10s inputs, no fault\n' "$2" "${inputs:-?}"
    else
        failed=$((failed + 1))
        printf '%-18s %10s inputs, FAULT %s (exit code %d, log %s)\n' "$2" "${inputs:-?}" "$fault" $code "$log"
    fi
}

wanted() { # wanted READER LIST...: is it of the list, or is there no list
    [ $# -eq 1 ] && return 0
    case " $* " in *" $1 "*" $1 "*) return 0 ;; esac
    return 1
}

if wanted parsers "$@"; then
    mkdir -p $folder/parsers
    $folder/fuzz_files --seeds $folder/parsers || exit 1
    fuzz files parsers $((seconds * 8))
fi
for name in paths tables; do
    for reader in $($folder/fuzz_$name --list); do
        wanted "$reader" "$@" || continue
        mkdir -p "$folder/$reader"
        if ! FUZZ_READER=$reader $folder/fuzz_$name --seed "$folder/$reader/seed" > "$folder/$reader.log" 2>&1; then
            failed=$((failed + 1))
            echo "$reader: no seed: $(tail -n 1 "$folder/$reader.log")"
            continue
        fi
        fuzz $name "$reader" "$seconds"
    done
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
