/* Gaussian processes with a length scale a feature (ARD), beside scikit-learn's on the same table: seconds of fitting
   all targets and of predicting means and standard deviations of 2000 mixtures. From the repository's folder:
     cc -O2 -fopenmp bench/bench_gp.c -o bench_gp -lm && ./bench_gp [FOLDER] [--no-multitask] [--no-peer] [--auto]
   FOLDER holds RegMix's train_mixture_1m.csv and train_pile_loss_1m.csv (512 runs, 17 domains, 13 targets); without it
   $MDEMIX_SHARED/data/regmix is tried, and then a table of the same shape is made up. The peer, bench/peer_gp.py, on
   one thread, fits 1 target, and its seconds are scaled to all. It starts its search from one point, and so does
   gp_fit_1_start, whose noise is normal like the peer's; gp_fit is the recipe "gp" as mix_optimize fits it, whose noise
   has heavy tails. --auto: user CPU seconds of MDE_AUTO. Shapes are runs (or mixtures) x domains x targets. */
#define _POSIX_C_SOURCE 200809L
#define MDEMIX_IMPLEMENTATION
#include "../mdemix.h"
#include "bench.h"
#include <time.h>

#define NEW 2000
#define MADE_RUNS 512
#define MADE_DOMAINS 17
#define MADE_TARGETS 13
#define PEER_TARGETS 1
#define FOLDER "build"

typedef struct table {
    int n, k, m;
    double *weights, *losses; /* [n, k], [n, m] */
    double *mixtures;         /* [NEW, k] */
    double *mean, *sd;        /* [NEW, m] */
} table;

/* Smooth in the logarithms, with noise of a hundredth: losses as proxies of a domain's share have them. */
static void make_table(mde_context *c, table *t)
{
    double alpha[MADE_DOMAINS];
    int i, j;
    t->n = MADE_RUNS, t->k = MADE_DOMAINS, t->m = MADE_TARGETS;
    t->weights = (double *)mde_alloc(c, (size_t)t->n * (size_t)t->k, sizeof *t->weights);
    t->losses = (double *)mde_alloc(c, (size_t)t->n * (size_t)t->m, sizeof *t->losses);
    if (mde_context_status(c) != MDE_OK) return;
    for (j = 0; j < t->k; j++) alpha[j] = 0.3;
    for (i = 0; i < t->n; i++) {
        mde_random r = mde_random_start(1, (uint64_t)i);
        double *w = t->weights + i * t->k;
        mde_random_dirichlet(&r, t->k, alpha, w);
        for (j = 0; j < t->m; j++) {
            t->losses[i * t->m + j] =
                3 - 0.3 * log(w[j] + 0.002) - 0.1 * log(w[(j + 3) % t->k] + 0.01) + 0.01 * mde_random_normal(&r);
        }
    }
}

static int read_table(mde_context *c, const char *folder, table *t)
{
    char *ratios = mde__join_path(c, folder, "train_mixture_1m.csv");
    char *losses = mde__join_path(c, folder, "train_pile_loss_1m.csv");
    mde_runs *runs = ratios && mde_is_file(ratios) ? mde_runs_open(c, ratios, losses) : NULL;
    mde_release(c, ratios);
    mde_release(c, losses);
    if (!runs) return 0;
    t->n = runs->count, t->k = runs->domains, t->m = runs->metrics;
    t->weights = runs->weights;
    t->losses = runs->losses;
    return 1;
}

typedef enum recipe { ONE_START, NAMED, MULTITASK, AUTO } recipe;

/* Seconds of fitting and of predicting; the last predictions stay in t. */
static void ours(const table *t, int threads, recipe kind, double *fit, double *predict)
{
    static const char *const names[4] = { NULL, "gp", "mtgp", "auto" };
    mde_context *c = bench_context(threads);
    mde_surrogate_desc desc;
    mde_surrogate *s;
    double start = mde_seconds();
    memset(&desc, 0, sizeof desc);
    if (kind == ONE_START) {
        desc.fit.model = MDE_GP;
        desc.fit.kernel = MDE_MATERN52;
        desc.fit.normal_noise = 1;
        desc.fit.restarts = 1;
    } else {
        mde_surrogate_recipe(c, names[kind], &desc);
    }
    s = mde_surrogate_fit(c, t->n, t->k, t->m, t->weights, t->losses, &desc);
    *fit = mde_seconds() - start;
    start = mde_seconds();
    mde_surrogate_predict(s, NEW, t->mixtures, t->mean, t->sd);
    *predict = mde_seconds() - start;
    if (mde_context_status(c) != MDE_OK) printf("# %s\n", mde_error(c));
    mde_context_free(c);
}

/* What the peer gets: the features that a surrogate has by default, standardised as it does. */
static void write_features(mde_context *c, const table *t)
{
    int width = mde_feature_count(MDE_FEATURE_LOG, t->k, t->m), i, j;
    double *x = (double *)mde_alloc(c, (size_t)(t->n + NEW) * (size_t)width, sizeof *x), *added;
    int64_t shape[2];
    if (!x) return;
    added = x + t->n * width;
    mde_features(c, MDE_FEATURE_LOG, t->n, t->k, t->weights, t->m, NULL, 0, x);
    mde_features(c, MDE_FEATURE_LOG, NEW, t->k, t->mixtures, t->m, NULL, 0, added);
    for (j = 0; j < width; j++) {
        double mean = 0, square = 0, sd;
        for (i = 0; i < t->n; i++) mean += x[i * width + j] / t->n;
        for (i = 0; i < t->n; i++) square += (x[i * width + j] - mean) * (x[i * width + j] - mean) / t->n;
        sd = square > 0 ? sqrt(square) : 1;
        for (i = 0; i < t->n + NEW; i++) x[i * width + j] = (x[i * width + j] - mean) / sd;
    }
    mde_make_folder(c, FOLDER);
    shape[0] = t->n, shape[1] = width;
    mde_npy_write_f64(c, FOLDER "/bench_gp_x.npy", 2, shape, x);
    shape[1] = t->m;
    mde_npy_write_f64(c, FOLDER "/bench_gp_y.npy", 2, shape, t->losses);
    shape[0] = NEW, shape[1] = width;
    mde_npy_write_f64(c, FOLDER "/bench_gp_new.npy", 2, shape, added);
    mde_release(c, x);
}

/* How far apart the two predict, in standard deviations of the target: that both fitted the same thing. */
static void compare(mde_context *c, const table *t)
{
    mde_array *means = mde_npy_read(c, FOLDER "/bench_gp_mean.npy", 1);
    int i, j;
    for (j = 0; means && means->count == NEW * PEER_TARGETS && j < PEER_TARGETS; j++) {
        double mean = 0, square = 0, apart = 0;
        for (i = 0; i < t->n; i++) mean += t->losses[i * t->m + j] / t->n;
        for (i = 0; i < t->n; i++) {
            double d = t->losses[i * t->m + j] - mean;
            square += d * d / t->n;
        }
        for (i = 0; i < NEW; i++) {
            double d = t->mean[i * t->m + j] - means->f64[i * PEER_TARGETS + j];
            apart += d * d / NEW;
        }
        printf("# target %d: the two means differ by %.4f standard deviations of the target\n", j,
               sqrt(apart / square));
    }
    mde_array_free(c, means);
}

/* On one thread, beside the peer, which has one. */
static void figures(const table *t, int multitask, const char *python)
{
    enum { FIT_1_START, PREDICT, FIT, MULTITASK_FIT, MULTITASK_PREDICT, COUNT };
    static const char *const names[COUNT] = {
        "gp_fit_1_start", "gp_predict", "gp_fit", "multitask_gp_fit", "multitask_gp_predict"
    };
    bench_program peer;
    bench_pairs pairs[COUNT];
    double share = (double)t->m / PEER_TARGETS, theirs[2] = { 0, 0 }, seconds[COUNT];
    char arguments[64], shape[64];
    int count = multitask ? COUNT : MULTITASK_FIT, there, i, k;
    memset(pairs, 0, sizeof pairs);
    snprintf(arguments, sizeof arguments, FOLDER " %d", PEER_TARGETS);
    there = bench_start_peer(&peer, python, "peer_gp.py", arguments, 1);
    for (i = 0; i < BENCH_PAIRS; i++) {
        there = there && bench_turn(&peer, 2, theirs) == 2;
        if (multitask) ours(t, 1, MULTITASK, &seconds[MULTITASK_FIT], &seconds[MULTITASK_PREDICT]);
        ours(t, 1, NAMED, &seconds[FIT], &seconds[PREDICT]);
        ours(t, 1, ONE_START, &seconds[FIT_1_START], &seconds[PREDICT]);
        for (k = 0; k < count; k++) {
            pairs[k].better = '-';
            bench_add(&pairs[k], seconds[k], !there || k >= MULTITASK_FIT ? 0 : share * theirs[k == PREDICT]);
        }
    }
    bench_stop(&peer);
    if (python && !there) printf("# peer_gp.py failed, skipped\n");
    for (k = 0; k < count; k++) {
        int rows = k == PREDICT || k == MULTITASK_PREDICT ? NEW : t->n;
        snprintf(shape, sizeof shape, "%dx%dx%d", rows, t->k, t->m);
        bench_figure(names[k], shape, 1, "s", &pairs[k]);
    }
}

/* What more threads give the recipe. */
static void figure_of_threads(const table *t, int threads)
{
    bench_pairs pairs = { 0, '-', { 0 }, { 0 } };
    double fit, predict;
    char shape[64];
    int i;
    for (i = 0; i < BENCH_PAIRS; i++) {
        ours(t, threads, NAMED, &fit, &predict);
        bench_add(&pairs, fit, 0);
    }
    snprintf(shape, sizeof shape, "%dx%dx%d", t->n, t->k, t->m);
    bench_figure("gp_fit", shape, threads, "s", &pairs);
}

static void figure_of_auto(const table *t)
{
    bench_pairs pairs = { 0, '-', { 0 }, { 0 } };
    double fit, predict;
    char shape[64];
    clock_t start = clock();
    ours(t, 1, AUTO, &fit, &predict);
    bench_add(&pairs, (double)(clock() - start) / CLOCKS_PER_SEC, 0);
    snprintf(shape, sizeof shape, "%dx%dx%d", t->n, t->k, t->m);
    bench_figure("auto_fit", shape, 1, "s", &pairs);
}

int main(int argc, char **argv)
{
    mde_context *c = mde_context_create(NULL);
    const char *folder = NULL, *shared = getenv("MDEMIX_SHARED"), *python = NULL;
    char *found;
    double alpha[MDE_MAX_DOMAINS];
    int all = mde_threads(c), multitask = 1, want_peer = 1, want_auto = 0, i, read;
    mde_random random = mde_random_start(2, 0);
    table t;
    memset(&t, 0, sizeof t);
    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--no-multitask") == 0) multitask = 0;
        else if (strcmp(argv[i], "--no-peer") == 0) want_peer = 0;
        else if (strcmp(argv[i], "--auto") == 0) want_auto = 1;
        else folder = argv[i];
    }
    found = mde__join_path(c, shared && *shared ? shared : ".", "data/regmix");
    read = found && read_table(c, folder ? folder : found, &t);
    if (!read) {
        if (folder) printf("# %s: has no train_mixture_1m.csv\n", folder);
        make_table(c, &t);
    }
    mde_release(c, found);
    t.mixtures = (double *)mde_alloc(c, NEW * (size_t)t.k, sizeof *t.mixtures);
    t.mean = (double *)mde_alloc(c, NEW * (size_t)t.m, sizeof *t.mean);
    t.sd = (double *)mde_alloc(c, NEW * (size_t)t.m, sizeof *t.sd);
    if (mde_context_status(c) == MDE_OK) {
        for (i = 0; i < t.k; i++) alpha[i] = 0.5;
        for (i = 0; i < NEW; i++) mde_random_dirichlet(&random, t.k, alpha, t.mixtures + i * t.k);
        if (want_peer) python = bench_python("sklearn");
        if (python) write_features(c, &t);
    }
    if (mde_context_status(c) != MDE_OK) {
        fprintf(stderr, "bench_gp: %s\n", mde_error(c));
        mde_context_free(c);
        return 1;
    }
    printf("# %s, %s\n", mde_simd_name(c), read ? "RegMix's runs" : "a made-up table");
    figures(&t, multitask, python);
    if (python) compare(c, &t);
    if (all > 1) figure_of_threads(&t, all);
    if (want_auto) figure_of_auto(&t);
    mde_context_free(c);
    return 0;
}
