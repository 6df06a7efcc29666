/* The matrix product beside OpenBLAS, GFLOP/s, both in one run and in turns; OpenBLAS is loaded when it is there:
     cc -O2 -fopenmp bench/bench_matmul.c -o bench_matmul -lm
   Arguments: threads (default 1 and then 2), pairs (default 5). */
#define _POSIX_C_SOURCE 200809L
#define MDEMIX_IMPLEMENTATION
#include "../mdemix.h"
#include "bench.h"
#include <dlfcn.h>
#include <time.h>

typedef struct product { int ta, tb; int64_t m, n, k; const float *a, *b; float *out, *workspace; } product;

/* What is used of OpenBLAS: cblas_sgemm and two of its own functions. */
typedef struct openblas {
    void (*sgemm)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                  int ldb, float beta, float *out, int ldo);
    void (*set_num_threads)(int threads);
    char *(*get_corename)(void);
} openblas;

/* The peer chooses its kernels itself, and its threads do not stay on a core while it is not their turn. */
static int openblas_load(openblas *blas)
{
    void *library, *symbol;
    if (bench_avx2()) setenv("OPENBLAS_CORETYPE", "Haswell", 1);
    else unsetenv("OPENBLAS_CORETYPE");
    unsetenv("OPENBLAS_L2_SIZE");
    setenv("OPENBLAS_THREAD_TIMEOUT", "16", 1);
    library = dlopen("libopenblas.so.0", RTLD_NOW);
    if (!library) {
        printf("# OpenBLAS: libopenblas.so.0 is not there, skipped\n");
        return 0;
    }
    symbol = dlsym(library, "cblas_sgemm");
    memcpy(&blas->sgemm, &symbol, sizeof symbol);
    symbol = dlsym(library, "openblas_set_num_threads");
    memcpy(&blas->set_num_threads, &symbol, sizeof symbol);
    symbol = dlsym(library, "openblas_get_corename");
    memcpy(&blas->get_corename, &symbol, sizeof symbol);
    if (!blas->sgemm || !blas->set_num_threads || !blas->get_corename) return 0;
    printf("# OpenBLAS with the kernels of %s\n", blas->get_corename());
    return 1;
}

static void once(mde_context *c, const openblas *blas, const product *p)
{
    int64_t lda = p->ta ? p->m : p->k, ldb = p->tb ? p->k : p->n;
    if (!blas) {
        mde_product each = mde_product_of(p->ta, p->tb, p->m, p->n, p->k, p->a, p->b);
        each.out = p->out;
        mde__gemm_threaded(c, &each, p->workspace);
    } else {
        blas->sgemm(101, p->ta ? 112 : 111, p->tb ? 112 : 111, (int)p->m, (int)p->n, (int)p->k, 1.0f, p->a, (int)lda,
                    p->b, (int)ldb, 0.0f, p->out, (int)p->n);
    }
}

/* Seconds of one call: enough calls for 15 ms, after a pause in which the other's threads fall asleep. */
static double seconds(mde_context *c, const openblas *blas, const product *p)
{
    struct timespec pause = { 0, 2000000 };
    int calls = (int)(1.5e9 / (2 * (double)p->m * (double)p->n * (double)p->k)) + 1, i;
    double start;
    nanosleep(&pause, NULL);
    once(c, blas, p);
    start = mde_seconds();
    for (i = 0; i < calls; i++) once(c, blas, p);
    return (mde_seconds() - start) / calls;
}

/* The sum of the logarithms of the ratios; counts them. */
static double compare(mde_context *c, const openblas *blas, const int64_t *shape, int runs, int *count)
{
    static const char *const names[] = { "matmul_nn", "matmul_nt", "matmul_tn" };
    int64_t m = shape[0], n = shape[1], k = shape[2], i;
    double log_ratios = 0, flops = 2e-9 * (double)m * (double)n * (double)k;
    float *a = (float *)mde_alloc(c, (size_t)(m * k), sizeof *a);
    float *b = (float *)mde_alloc(c, (size_t)(k * n), sizeof *b);
    product p;
    int kind, r;
    p.m = m, p.n = n, p.k = k, p.a = a, p.b = b;
    p.out = (float *)mde_alloc(c, (size_t)(m * n), sizeof *p.out);
    p.workspace = (float *)mde_alloc(c, mde__gemm_workspace(c, m, n, k), sizeof *p.workspace);
    for (i = 0; a && i < m * k; i++) a[i] = (float)(i % 17) / 17 - 0.5f;
    for (i = 0; b && i < k * n; i++) b[i] = (float)(i % 19) / 19 - 0.5f;
    for (kind = 0; kind < 3 && mde_context_status(c) == MDE_OK; kind++) {
        bench_pairs pairs = { 0, '+', { 0 }, { 0 } };
        double ratio;
        char text[64];
        p.ta = kind == 2, p.tb = kind == 1;
        for (r = 0; r < runs; r++) {
            double ours = seconds(c, NULL, &p);
            bench_add(&pairs, flops / ours, blas ? flops / seconds(c, blas, &p) : 0);
        }
        snprintf(text, sizeof text, "%dx%dx%d", (int)m, (int)n, (int)k);
        ratio = bench_figure(names[kind], text, mde_threads(c), "GFLOP/s", &pairs);
        if (ratio > 0) {
            log_ratios += log(ratio);
            ++*count;
        }
    }
    mde_release(c, p.workspace);
    mde_release(c, p.out);
    mde_release(c, b);
    mde_release(c, a);
    return log_ratios;
}

int main(int argc, char **argv)
{
    static const int64_t shapes[][3] = {
        { 1024, 256, 256 }, { 1024, 1024, 256 }, { 1024, 256, 1024 }, { 4096, 512, 512 }, { 2048, 2048, 2048 },
        { 64, 64, 64 }, { 8192, 256, 128 }
    };
    int threads = argc > 1 ? atoi(argv[1]) : 1, last = argc > 1 ? threads : 2, runs = argc > 2 ? atoi(argv[2]) : BENCH_PAIRS;
    openblas blas;
    int there = openblas_load(&blas);
    if (runs < 1 || runs > BENCH_MOST_RUNS) runs = BENCH_PAIRS;
    for (; threads <= last; threads++) {
        mde_context *c = bench_context(threads);
        double log_ratios = 0;
        int count = 0, s;
        if (there) blas.set_num_threads(threads);
        printf("# %s, %d threads\n", mde_simd_name(c), mde_threads(c));
        for (s = 0; s < (int)(sizeof shapes / sizeof *shapes); s++) {
            log_ratios += compare(c, there ? &blas : NULL, shapes[s], runs, &count);
        }
        if (count) printf("# geometric mean of the %d ratios: %.3f\n", count, exp(log_ratios / count));
        if (mde_context_status(c) != MDE_OK) printf("# %s\n", mde_error(c));
        mde_context_free(c);
    }
    return 0;
}
