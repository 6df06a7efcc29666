/* Convolutions and the steps of WGAN-GP beside PyTorch's:
     cc -O2 -fopenmp bench/bench_dagan.c -o bench_dagan -lm
   Arguments: maximum of threads (2). The peer, peer_dagan.py, says what is equal in the two networks. The batch of 32
   images of 28 x 28 goes through the steps first, so that the peak of memory is theirs. */
#define _POSIX_C_SOURCE 200809L
#define MDEMIX_IMPLEMENTATION
#include "../mdemix.h"
#define DAGAN_IMPLEMENTATION
#include "../dagan.h"
#include "bench.h"

#define BATCH 32
#define SIZE 28

/* Most megabytes that were ever resident; 0 where /proc does not tell. */
static double peak_megabytes(void)
{
    char line[256];
    double kilobytes = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "VmHWM:", 6) == 0) kilobytes = strtod(line + 6, NULL);
    }
    if (f) fclose(f);
    return kilobytes / 1024;
}

typedef struct task {
    mde_context *c;
    dagan *g;
    mde_tensor *x, *partner, *weight, *y;
    dagan_train_desc desc;
    int64_t step;
    int kind;
} task;

static void critic_step(void *user)
{
    task *t = (task *)user;
    dagan_critic_step(t->g, t->x, t->partner, &t->desc, t->step++, NULL);
}

static void generator_step(void *user)
{
    task *t = (task *)user;
    dagan_generator_step(t->g, t->x, &t->desc, t->step++, NULL);
}

static void convolution(void *user)
{
    task *t = (task *)user;
    mde_mark mark = mde_arena_mark(t->c);
    if (t->kind == 0) dagan_conv2d(t->c, t->x, t->weight, 1, 1);
    else if (t->kind == 1) dagan_conv2d_transpose(t->c, t->y, t->weight, 1, 1, t->x->shape[1], t->x->shape[2]);
    else dagan_conv2d_weight(t->c, t->x, t->y, 1, 1, 3, 3);
    mde_arena_rewind(t->c, mark);
}

static mde_tensor *random_tensor(mde_context *c, int64_t n, int64_t h, int64_t w, int64_t channels)
{
    int64_t shape[4];
    mde_random r = mde_random_start(1, (uint64_t)n);
    mde_tensor *t;
    size_t i;
    shape[0] = n, shape[1] = h, shape[2] = w, shape[3] = channels;
    t = mde_tensor_create(c, 4, shape);
    for (i = 0; t && i < t->count; i++) {
        double normal = mde_random_normal(&r);
        t->data[i] = (float)(normal < -1 ? -1 : normal > 1 ? 1 : normal);
    }
    return t;
}

/* Turns of `count` calls beside the peer's: its k-th number is that of the k-th call. */
static void compare(task *t, int count, void (*const *calls)(void *user), const char *const *names, const char *shape,
                    double work, const char *unit, const char *python, const char *arguments)
{
    bench_pairs pairs[3];
    bench_program peer;
    double theirs[4] = { 0, 0, 0, 0 };
    int threads = mde_threads(t->c), there = bench_start_peer(&peer, python, "peer_dagan.py", arguments, threads), i, k;
    memset(pairs, 0, sizeof pairs);
    for (k = 0; k < count; k++) t->kind = k, calls[k](t);       /* memory is there before the first turn */
    for (i = 0; i < BENCH_PAIRS; i++) {
        double ours[3];
        for (k = 0; k < count; k++) {
            t->kind = k;
            ours[k] = work / bench_time(calls[k], t, 0.2);
        }
        there = there && bench_turn(&peer, 4, theirs) >= count;
        for (k = 0; k < count; k++) {
            pairs[k].better = '+';
            bench_add(&pairs[k], ours[k], there ? theirs[k] : 0);
        }
    }
    bench_stop(&peer);
    if (python && !there) printf("# peer_dagan.py failed, skipped\n");
    for (k = 0; k < count; k++) bench_figure(names[k], shape, threads, unit, &pairs[k]);
    if (calls[0] == critic_step) {
        bench_pairs memory = { 0, '-', { 0 }, { 0 } };
        bench_add(&memory, peak_megabytes(), there ? theirs[2] : 0);
        bench_figure("wgan_memory", shape, threads, "MB", &memory);
    }
}

static void wgan(mde_context *c, const char *python)
{
    static void (*const calls[2])(void *user) = { critic_step, generator_step };
    static const char *const names[2] = { "wgan_critic_step", "wgan_generator_step" };
    char shape[32];
    task t;
    dagan_images *like = dagan_images_draw(c, 1, 1, SIZE, 1);
    memset(&t, 0, sizeof t);
    t.c = c;
    t.g = dagan_create(c, like, NULL);
    t.x = random_tensor(c, BATCH, SIZE, SIZE, 1);
    t.partner = random_tensor(c, BATCH, SIZE, SIZE, 1);
    t.desc.mismatch = MDE_ZERO;
    snprintf(shape, sizeof shape, "batch%d", BATCH);
    compare(&t, 2, calls, names, shape, BATCH, "images/s", python, "wgan 0.2");
    dagan_free(t.g);
    dagan_images_free(like);
}

static void convolutions(mde_context *c, const char *python, int size)
{
    static void (*const calls[3])(void *user) = { convolution, convolution, convolution };
    static const char *const names[3] = { "conv2d", "conv2d_by_input", "conv2d_by_weight" };
    char shape[32], arguments[32];
    task t;
    memset(&t, 0, sizeof t);
    t.c = c;
    t.x = random_tensor(c, BATCH, size, size, 64);
    t.y = random_tensor(c, BATCH, size, size, 64);
    t.weight = random_tensor(c, 3, 3, 64, 64);
    snprintf(shape, sizeof shape, "%dx%dx%dx64", BATCH, size, size);
    snprintf(arguments, sizeof arguments, "conv %d 64 %d 0.2", BATCH, size);
    mde_set_recording(c, 0);
    compare(&t, 3, calls, names, shape, 2e-9 * BATCH * size * size * 64 * 64 * 9, "GFLOP/s", python, arguments);
    mde_set_recording(c, 1);
}

int main(int argc, char **argv)
{
    int max_threads = argc > 1 ? atoi(argv[1]) : 2, pass, threads;
    const char *python = bench_python("torch");
    for (pass = 0; pass < 2; pass++) {
        for (threads = 1; threads <= max_threads; threads++) {
            mde_context *c = bench_context(threads);
            if (pass == 0) wgan(c, python);
            else convolutions(c, python, 28), convolutions(c, python, 14);
            if (mde_context_status(c) != MDE_OK) printf("# %s\n", mde_error(c));
            mde_context_free(c);
        }
    }
    return 0;
}
