/* Losses of many mixtures of experts and the certified minimum over mixtures, beside numpy's. From the repository's
   folder:
     cc -O2 -fopenmp bench/bench_mixture.c -o bench_mixture -lm && ./bench_mixture [--no-peer]
   One million tokens, as likely as those of a small model. mixture_losses: nanoseconds a token and mixture;
   mixture_minimize: seconds until the loss is within 1e-6 nats of its minimum, for sure. The peer,
   bench/peer_mixture.py, multiplies float32 matrices and takes logarithms, and descends by exponentiated gradient,
   whose rate grows by a fifth after a step that lowers the loss and halves after one that does not; its mixtures are
   the first 200, as its time a mixture does not depend on how many there are. */
#define _POSIX_C_SOURCE 200809L
#define MDEMIX_IMPLEMENTATION
#include "../mdemix.h"
#include "bench.h"

#define TOKENS 1000000
#define MIXTURES 1000
#define PEER_MIXTURES 200
#define MOST_EXPERTS 17

typedef struct task {
    mde_experts *experts;
    int64_t mixtures;
    double *weights, *losses;
    mde_optimum optimum;
} task;

static void many_losses(void *user)
{
    task *t = (task *)user;
    mde_mixture_losses(t->experts, t->mixtures, t->weights, t->losses);
}

static void minimum(void *user)
{
    task *t = (task *)user;
    mde_mixture_minimize(t->experts, NULL, &t->optimum);
}

/* Log-probabilities of -2.3 or so, apart by 0.8; each expert is a little worse than the one before, so that the best
   mixture leaves some out, as it does where experts come from domains unlike the validation text. */
static mde_experts *make_experts(mde_context *c, int count)
{
    static const char *const names[MOST_EXPERTS] = {
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"
    };
    mde_experts *experts = mde_experts_create(c, count, names);
    float *logp = (float *)mde_alloc(c, (size_t)count * TOKENS, sizeof *logp);
    const float *rows[MOST_EXPERTS];
    mde_random random = mde_random_start(1, 0);
    int t, i;
    for (t = 0; logp && t < TOKENS; t++) {
        double base = 0.3 + 2.5 * fabs(mde_random_normal(&random));
        for (i = 0; i < count; i++) {
            double deviation = mde_random_normal(&random) + 0.15 * i;
            logp[i * TOKENS + t] = (float)(-base * exp(0.4 * deviation));
        }
    }
    for (i = 0; i < count; i++) rows[i] = logp + (logp ? i * TOKENS : 0);
    if (logp) mde_experts_add(experts, "validation", TOKENS, rows, NULL, 0);
    if (logp && mde_context_status(c) == MDE_OK) {
        int64_t shape[2];
        shape[0] = count, shape[1] = TOKENS;
        for (t = 0; t < count * TOKENS; t++) logp[t] = expf(logp[t]);
        mde_make_folder(c, "build");
        mde_npy_write(c, "build/bench_mixture_p.npy", 2, shape, logp);
    }
    mde_release(c, logp);
    return experts;
}

static int run(int count, int threads, const char *python)
{
    static const int64_t sizes[] = { MIXTURES, 64 };
    mde_context *c = bench_context(threads);
    bench_program peer;
    bench_pairs pairs[3];
    task t;
    double alpha[MOST_EXPERTS], theirs[2] = { 0, 0 };
    char shape[64];
    mde_random random = mde_random_start(2, 0);
    int64_t file[2];
    int i, k, there;
    memset(pairs, 0, sizeof pairs);
    memset(&t, 0, sizeof t);
    t.experts = make_experts(c, count);
    t.weights = (double *)mde_alloc(c, (size_t)MIXTURES * (size_t)count, sizeof *t.weights);
    t.losses = (double *)mde_alloc(c, MIXTURES, sizeof *t.losses);
    if (mde_context_status(c) == MDE_OK) {
        for (i = 0; i < count; i++) alpha[i] = 0.5;
        for (i = 0; i < MIXTURES; i++) mde_random_dirichlet(&random, count, alpha, t.weights + i * count);
        file[0] = PEER_MIXTURES, file[1] = count;
        mde_npy_write_f64(c, "build/bench_mixture_w.npy", 2, file, t.weights);
        there = bench_start_peer(&peer, python, "peer_mixture.py", "", threads);
        minimum(&t);                            /* memory is there before the first turn */
        for (k = 0; k < BENCH_PAIRS; k++) {
            double ours[3];
            for (i = 0; i < 2; i++) {
                t.mixtures = sizes[i];
                ours[i] = bench_time(many_losses, &t, 0.2) * 1e9 / TOKENS / (double)sizes[i];
            }
            ours[2] = bench_time(minimum, &t, 0.2);
            there = there && bench_turn(&peer, 2, theirs) == 2;
            for (i = 0; i < 3; i++) {
                pairs[i].better = '-';
                bench_add(&pairs[i], ours[i], there ? theirs[i == 2] : 0);
            }
        }
        bench_stop(&peer);
        if (python && !there) printf("# peer_mixture.py failed, skipped\n");
        for (i = 0; i < 2; i++) {
            snprintf(shape, sizeof shape, "%dx%dx%d", TOKENS, (int)sizes[i], count);
            bench_figure("mixture_losses", shape, threads, "ns", &pairs[i]);
        }
        snprintf(shape, sizeof shape, "%dx%d", TOKENS, count);
        bench_figure("mixture_minimize", shape, threads, "s", &pairs[2]);
        printf("# gap %.1e after %d steps\n", t.optimum.gap, t.optimum.iterations);
    }
    if (mde_context_status(c) != MDE_OK) fprintf(stderr, "bench_mixture: %s\n", mde_error(c));
    i = mde_context_status(c) != MDE_OK;
    mde_release(c, t.losses);
    mde_release(c, t.weights);
    mde_experts_free(t.experts);
    mde_context_free(c);
    return i;
}

int main(int argc, char **argv)
{
    mde_context *c = mde_context_create(NULL);
    const char *python = argc > 1 && strcmp(argv[1], "--no-peer") == 0 ? NULL : bench_python("numpy");
    int all = mde_threads(c), failed = 0;
    printf("# %s\n", mde_simd_name(c));
    mde_context_free(c);
    failed |= run(7, 1, python);
    if (all > 1) failed |= run(7, all, python);
    failed |= run(17, 1, python);
    if (all > 1) failed |= run(17, all, python);
    return failed;
}
