/* What the benchmarks share: medians of timed calls, peers run as programs, and the line of a figure:
     name shape threads ours unit peer unit ratio
   A ratio above 1 means that ours is the better one; "-" stands where there is no peer. Lines that begin with # are
   remarks. */
#ifndef MDEMIX_BENCH_H
#define MDEMIX_BENCH_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BENCH_MOST_RUNS 99

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wunused-function"     /* a benchmark uses what it needs */
#endif

static int bench_ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double bench_median(int count, double *values)
{
    qsort(values, (size_t)count, sizeof *values, bench_ascending);
    return values[count / 2];
}

/* Median seconds of one call: at least 3 calls, then until `seconds` have passed. */
static inline double bench_time(void (*call)(void *user), void *user, double seconds)
{
    double times[BENCH_MOST_RUNS], begun = mde_seconds();
    int runs = 0;
    while (runs < BENCH_MOST_RUNS && (runs < 3 || mde_seconds() - begun < seconds)) {
        double start = mde_seconds();
        call(user);
        times[runs++] = mde_seconds() - start;
    }
    return bench_median(runs, times);
}

/* better is '+' where more is better (tokens a second), '-' where less is (seconds, bytes). peer <= 0: none. */
static void bench_figure(const char *name, const char *shape, int threads, double ours, const char *unit, double peer,
                         char better)
{
    printf("%-24s %-22s %2d %11.4g %-12s", name, shape, threads, ours, unit);
    if (peer > 0) printf(" %11.4g %-12s %7.2f\n", peer, unit, better == '+' ? ours / peer : peer / ours);
    else printf(" %11s %-12s %7s\n", "-", unit, "-");
    fflush(stdout);
}

/* A python3 that can import the module; NULL, with a remark, when there is none. */
static const char *bench_python(const char *module)
{
    static const char *const programs[2] = { "/usr/bin/python3", "python3" };
    char command[256];
    int i;
    for (i = 0; i < 2; i++) {
        snprintf(command, sizeof command, "%s -c 'import %s' > /dev/null 2>&1", programs[i], module);
        if (system(command) == 0) return programs[i];
    }
    printf("# %s: no python3 that has it, skipped\n", module);
    return NULL;
}

/* Runs `PYTHON bench/SCRIPT ARGUMENTS` on so many threads and reads the numbers of its last line; returns how many, 0
   when it failed. OpenBLAS waits passively, which is the faster way on two threads, and chooses its kernels itself. */
static int bench_peer(const char *python, const char *script, const char *arguments, int threads, int capacity,
                      double *numbers)
{
    char command[1024], line[1024] = "", *at = line, *end;
    int count = 0;
    FILE *f;
    if (!python) return 0;
    snprintf(command, sizeof command,
             "mkdir -p build && env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE OMP_WAIT_POLICY=PASSIVE "
             "OMP_NUM_THREADS=%d OPENBLAS_NUM_THREADS=%d %s bench/%s %s > build/bench_peer.txt",
             threads, threads, python, script, arguments);
    if (system(command) != 0) {
        printf("# %s failed, skipped\n", script);
        return 0;
    }
    f = fopen("build/bench_peer.txt", "r");
    if (!f) return 0;
    while (fgets(line, sizeof line, f)) { }
    fclose(f);
    for (; count < capacity; at = end, count++) {
        numbers[count] = strtod(at, &end);
        if (end == at) break;
    }
    return count;
}

#endif
