/* The matrix product beside OpenBLAS, GFLOP/s, both in one run and in turns:
     cc -O2 -fopenmp bench/bench_matmul.c -o bench_matmul -lm
     cc -O2 -fopenmp -DHAVE_CBLAS bench/bench_matmul.c -o bench_matmul -lopenblas -lm
   Arguments: threads (default 1), runs (default 7; the median counts). OMP_WAIT_POLICY=PASSIVE is fair to both. */
#define MDEMIX_IMPLEMENTATION
#include "../mdemix.h"
#include <stdio.h>
#include <stdlib.h>
#ifdef HAVE_CBLAS
#include <cblas.h>
#ifdef __cplusplus
extern "C"
#endif
void openblas_set_num_threads(int threads);
#endif

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct product { int ta, tb; int64_t m, n, k; const float *a, *b; float *out, *workspace; } product;

static void ours(mde_context *c, const product *p)
{
    mde__gemm(c, p->ta, p->tb, p->m, p->n, p->k, p->a, p->ta ? p->m : p->k, p->b, p->tb ? p->k : p->n, 0, p->out, p->n,
              p->workspace);
}

static void theirs(mde_context *c, const product *p)
{
    (void)c;
#ifdef HAVE_CBLAS
    cblas_sgemm(CblasRowMajor, p->ta ? CblasTrans : CblasNoTrans, p->tb ? CblasTrans : CblasNoTrans, (int)p->m,
                (int)p->n, (int)p->k, 1.0f, p->a, (int)(p->ta ? p->m : p->k), p->b, (int)(p->tb ? p->k : p->n), 0.0f,
                p->out, (int)p->n);
#else
    (void)p;
#endif
}

/* Seconds of one call; enough calls for 20 ms. */
static double seconds(void (*f)(mde_context *, const product *), mde_context *c, const product *p)
{
    double flops = 2 * (double)p->m * (double)p->n * (double)p->k, start;
    int calls = (int)(2e9 / flops) + 1, i;
    start = mde_seconds();
    for (i = 0; i < calls; i++) f(c, p);
    return (mde_seconds() - start) / calls;
}

int main(int argc, char **argv)
{
    static const int64_t shapes[][3] = {
        { 1024, 256, 256 }, { 1024, 1024, 256 }, { 1024, 256, 1024 }, { 4096, 512, 512 }, { 2048, 2048, 2048 },
        { 64, 64, 64 }, { 8192, 256, 128 }, { 1, 1024, 1024 }, { 4, 4096, 512 }
    };
    static const char *const kinds[] = { "NN", "NT", "TN" };
    int runs = argc > 2 ? atoi(argv[2]) : 7, s, kind, r;
    mde_context_desc desc;
    mde_context *c;
    double log_ratios = 0;
    memset(&desc, 0, sizeof desc);
    desc.threads = argc > 1 ? atoi(argv[1]) : 1;
    c = mde_context_create(&desc);
    if (runs < 1 || runs > 99) runs = 7;
#ifdef HAVE_CBLAS
    openblas_set_num_threads(desc.threads);
#endif
    printf("%s, %d threads; GFLOP/s, and their ratio to OpenBLAS\n%-18s", mde_simd_name(c), mde_threads(c),
           "M x N x K");
    for (kind = 0; kind < 3; kind++) printf("  %-22s", kinds[kind]);
    printf("\n");
    for (s = 0; s < (int)(sizeof shapes / sizeof *shapes); s++) {
        int64_t m = shapes[s][0], n = shapes[s][1], k = shapes[s][2], i;
        float *a = (float *)mde_alloc(c, (size_t)(m * k), sizeof *a);
        float *b = (float *)mde_alloc(c, (size_t)(k * n), sizeof *b);
        product p;
        p.m = m, p.n = n, p.k = k, p.a = a, p.b = b;
        p.out = (float *)mde_alloc(c, (size_t)(m * n), sizeof *p.out);
        p.workspace = (float *)mde_alloc(c, mde__gemm_workspace(c, m, n, k), sizeof *p.workspace);
        if (mde_context_status(c) != MDE_OK) break;
        for (i = 0; i < m * k; i++) a[i] = (float)(i % 17) / 17 - 0.5f;
        for (i = 0; i < k * n; i++) b[i] = (float)(i % 19) / 19 - 0.5f;
        printf("%5lld %5lld %5lld ", (long long)m, (long long)n, (long long)k);
        for (kind = 0; kind < 3; kind++) {
            double mine[99], other[99], flops = 2e-9 * (double)m * (double)n * (double)k, ratio;
            p.ta = kind == 2, p.tb = kind == 1;
            for (r = 0; r < runs; r++) {
                mine[r] = seconds(ours, c, &p);
                other[r] = seconds(theirs, c, &p);
            }
            qsort(mine, (size_t)runs, sizeof *mine, ascending);
            qsort(other, (size_t)runs, sizeof *other, ascending);
            ratio = other[runs / 2] / mine[runs / 2];
#ifdef HAVE_CBLAS
            printf("  %6.1f / %6.1f = %.2f ", flops / mine[runs / 2], flops / other[runs / 2], ratio);
            log_ratios += log(ratio);
#else
            printf("  %6.1f                ", flops / mine[runs / 2]);
            (void)ratio;
#endif
            fflush(stdout);
        }
        printf("\n");
        mde_release(c, p.workspace);
        mde_release(c, p.out);
        mde_release(c, b);
        mde_release(c, a);
    }
#ifdef HAVE_CBLAS
    printf("geometric mean of the ratios: %.3f\n", exp(log_ratios / (3.0 * s)));
#endif
    if (mde_context_status(c) != MDE_OK) printf("%s\n", mde_error(c));
    (void)log_ratios;
    mde_context_free(c);
    return 0;
}
