#!/bin/sh
# Runs the benchmarks given as arguments, one after the other, and ends with the table of their figures:
#   name shape threads ours unit peer unit ratio least greatest
# A ratio above 1 means that ours is the better one. PEERS=1 tells how to install what the figures are compared with.
set -u
cd "$(dirname "$0")/.." || exit 1
if [ "${PEERS:-0}" != 0 ]; then
    echo "peers, as Debian's packages:"
    echo "  apt-get install --no-install-recommends python3-torch python3-numpy python3-sklearn libopenblas0-pthread"
    exit 0
fi
mkdir -p build
: > build/bench.txt
start=$(date +%s)
for bench in "$@"; do
    echo "== $(basename "$bench")"
    begun=$(date +%s)
    case $bench in
    *.sh) sh "$bench" ;;
    *) "./$bench" ;;
    esac 2>&1 | tee build/bench_last.txt
    grep -v '^#' build/bench_last.txt >> build/bench.txt
    echo "# $(($(date +%s) - begun)) s"
done
echo
printf '%-24s %-22s %2s %11s %-12s %11s %-12s %7s %7s %7s\n' name shape threads ours unit peer unit ratio least greatest
cat build/bench.txt
echo "$(sed -n 's/^model name.*: //p' /proc/cpuinfo 2> /dev/null | head -n 1), $(nproc 2> /dev/null) cores${BENCH_SIMD:+, held to $BENCH_SIMD};" \
    "$(($(date +%s) - start)) s; build/bench.txt holds this table"
