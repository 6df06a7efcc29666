/* What the benchmarks share: calls and peers timed in turns, and the line of a figure:
     name shape threads ours unit peer unit ratio least greatest
   A ratio above 1 means that ours is the better one; "-" stands where there is no peer. Where the pairs of one figure
   differ by more than 15 %, a * follows it. Lines that begin with # are remarks. BENCH_SIMD=avx2 in the environment
   holds both sides to AVX2. Needs POSIX. */
#ifndef MDEMIX_BENCH_H
#define MDEMIX_BENCH_H
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BENCH_MOST_RUNS 99
#define BENCH_PAIRS 5

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

/* Median seconds of one call: calls until `seconds` have passed. */
static inline double bench_time(void (*call)(void *user), void *user, double seconds)
{
    double times[BENCH_MOST_RUNS], begun = mde_seconds();
    int runs = 0;
    while (runs < BENCH_MOST_RUNS && (runs == 0 || mde_seconds() - begun < seconds)) {
        double start = mde_seconds();
        call(user);
        times[runs++] = mde_seconds() - start;
    }
    return bench_median(runs, times);
}

static int bench_avx2(void)
{
    const char *simd = getenv("BENCH_SIMD");
    return simd && strcmp(simd, "avx2") == 0;
}

/* The context of our side. */
static mde_context *bench_context(int threads)
{
    mde_context_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.threads = threads;
    desc.simd = bench_avx2() ? MDE_SIMD_AVX2 : MDE_SIMD_BEST;
    return mde_context_create(&desc);
}

/* What both sides reached, turn by turn. */
typedef struct bench_pairs {
    int count, better;                  /* '+' where more is better (tokens a second), '-' where less is (seconds) */
    double ours[BENCH_MOST_RUNS], peer[BENCH_MOST_RUNS];
} bench_pairs;

/* peer <= 0: there is none. */
static void bench_add(bench_pairs *p, double ours, double peer)
{
    if (p->count == BENCH_MOST_RUNS) return;
    p->ours[p->count] = ours;
    p->peer[p->count++] = peer;
}

/* Prints the medians of both sides and of the ratios of the pairs, which it returns; 0 without a peer. */
static double bench_figure(const char *name, const char *shape, int threads, const char *unit, const bench_pairs *p)
{
    double ours[BENCH_MOST_RUNS], peer[BENCH_MOST_RUNS], ratio[BENCH_MOST_RUNS], middle;
    int i, there = p->count > 0;
    for (i = 0; i < p->count; i++) {
        ours[i] = p->ours[i];
        peer[i] = p->peer[i];
        there = there && peer[i] > 0 && ours[i] > 0;
        ratio[i] = !there ? 0 : p->better == '+' ? ours[i] / peer[i] : peer[i] / ours[i];
    }
    if (p->count == 0) return 0;
    printf("%-24s %-22s %2d %11.4g %-12s", name, shape, threads, bench_median(p->count, ours), unit);
    if (!there) {
        printf(" %11s %-12s %7s\n", "-", unit, "-");
        fflush(stdout);
        return 0;
    }
    middle = bench_median(p->count, ratio);
    printf(" %11.4g %-12s %7.2f %7.2f %7.2f%s\n", bench_median(p->count, peer), unit, middle, ratio[0],
           ratio[p->count - 1], ratio[p->count - 1] > 1.15 * ratio[0] ? " *" : "");
    fflush(stdout);
    return middle;
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

/* A program that works in turns: it reads a line, works, prints its numbers in a line, and ends with its input. Between
   its turns it is stopped, for threads that wait by spinning would take a core from who has the turn. */
typedef struct bench_program { FILE *to, *from; pid_t process; } bench_program;

/* Starts a command of the shell; 0, with a remark, when that fails. */
static int bench_start(bench_program *p, const char *command)
{
    int in[2], out[2];
    memset(p, 0, sizeof *p);
    if (pipe(in) != 0) return 0;
    if (pipe(out) != 0) {
        close(in[0]), close(in[1]);
        return 0;
    }
    fflush(stdout);
    signal(SIGPIPE, SIG_IGN);           /* a program that has died is a turn that fails */
    p->process = fork();
    if (p->process == 0) {
        setpgid(0, 0);                  /* with its own children, to be stopped together */
        dup2(in[0], 0), dup2(out[1], 1);
        close(in[0]), close(in[1]), close(out[0]), close(out[1]);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    if (p->process > 0) {
        setpgid(p->process, p->process);
        kill(-p->process, SIGSTOP);
    }
    close(in[0]), close(out[1]);
    p->to = fdopen(in[1], "w");
    p->from = fdopen(out[0], "r");
    return p->process > 0 && p->to && p->from;
}

/* One turn: returns how many numbers the program printed, at most `capacity`; 0 when it has failed. */
static int bench_turn(bench_program *p, int capacity, double *numbers)
{
    char line[1024], *at = line, *end;
    int count = 0;
    memset(numbers, 0, (size_t)capacity * sizeof *numbers);
    if (!p->to || !p->from || fputs("\n", p->to) < 0 || fflush(p->to) != 0) return 0;
    kill(-p->process, SIGCONT);
    if (!fgets(line, sizeof line, p->from)) return 0;
    kill(-p->process, SIGSTOP);
    for (; count < capacity; at = end, count++) {
        numbers[count] = strtod(at, &end);
        if (end == at) break;
    }
    return count;
}

static void bench_stop(bench_program *p)
{
    if (p->to) fclose(p->to);
    if (p->from) fclose(p->from);
    if (p->process > 0) kill(-p->process, SIGCONT);
    if (p->process > 0) waitpid(p->process, NULL, 0);
    memset(p, 0, sizeof *p);
}

/* Starts `PYTHON bench/SCRIPT ARGUMENTS` on so many threads. Its libraries wait passively, which is the faster way on
   two threads, and choose their kernels themselves unless they are held to AVX2. */
static int bench_start_peer(bench_program *p, const char *python, const char *script, const char *arguments,
                            int threads)
{
    char command[1024];
    memset(p, 0, sizeof *p);
    if (!python) return 0;
    snprintf(command, sizeof command,
             "exec env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE %s OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=%d "
             "OPENBLAS_NUM_THREADS=%d %s bench/%s %s",
             bench_avx2() ? "OPENBLAS_CORETYPE=Haswell ATEN_CPU_CAPABILITY=avx2 DNNL_MAX_CPU_ISA=AVX2 "
                            "ONEDNN_MAX_CPU_ISA=AVX2 NPY_DISABLE_CPU_FEATURES='AVX512F AVX512CD AVX512_SKX'" : "",
             threads, threads, python, script, arguments);
    return bench_start(p, command);
}

#endif
