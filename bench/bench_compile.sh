#!/bin/sh
# Seconds that a compiler takes for whole example programs, and the size of what it makes: median of three.
#   sh bench/bench_compile.sh
# Lines as bench.h writes them; there is no peer. CC and CFLAGS may be set.
cd "$(dirname "$0")/.." || exit 1
mkdir -p build
for example in mix dagan_tour; do
    for _ in 1 2 3; do
        begun=$(date +%s%N)
        # shellcheck disable=SC2086
        ${CC:-cc} ${CFLAGS:--O2} -I. "examples/$example.c" -o build/bench_compile -lm || exit 1
        echo $(($(date +%s%N) - begun))
    done | sort -n | sed -n 2p |
        awk -v e="$example" '{ printf "%-24s %-22s %2d %11.4g %-12s %11s %-12s %7s\n",
            "compile", e, 1, $1 * 1e-9, "s", "-", "s", "-" }'
    wc -c < build/bench_compile | awk -v e="$example" '{ printf "%-24s %-22s %2d %11.4g %-12s %11s %-12s %7s\n",
        "binary_size", e, 1, $1 / 1e6, "MB", "-", "MB", "-" }'
done
