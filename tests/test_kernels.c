/* Kernels: each against a plain loop in double, at odd sizes; every instruction set and number of threads the same
   bits. */
/* -DMDE__WITH_WIDE -Wno-psabi: the width of AVX-512 on machines without it, too, by the same text with vectors of 16
   floats that the compiler takes apart. */
#define MDEDEF static
#define MDEMIX_IMPLEMENTATION
#include "../mdemix.h"
#include "test.h"

#define SETS 4

/* A context of the instruction set, NULL if this machine lacks it. */
static mde_context *context_of(int set, int threads)
{
    mde_context_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.simd = set + 1;
    desc.threads = threads;
    if (!mde__simd_choose(desc.simd)) return NULL;
    return mde_context_create(&desc);
}

/* A norm of rows for the calls below; bias and mean are those of a layer norm. */
static mde__row_norm norm_of(int64_t rows, int64_t cols, const float *x, const float *gain, float epsilon, float *rstd)
{
    mde__row_norm n;
    memset(&n, 0, sizeof n);
    n.rows = rows;
    n.cols = cols;
    n.x = x;
    n.gain = gain;
    n.epsilon = epsilon;
    n.rstd = rstd;
    return n;
}

static mde__rotation rotation_of(int64_t batch, int64_t time, int64_t heads, int64_t dim, const float *cosines,
                                 const float *sines)
{
    mde__rotation r;
    memset(&r, 0, sizeof r);
    r.batch = batch;
    r.time = time;
    r.heads = r.rotated = heads;
    r.dim = dim;
    r.cosines = cosines;
    r.sines = sines;
    return r;
}

static mde__attention_call attention_of(const mde__attention_shape *s, const float *q, const float *k, const float *v,
                                        float scale, float *out, float *logsumexp, float *scratch)
{
    mde__attention_call a;
    memset(&a, 0, sizeof a);
    a.s = *s;
    a.q = q;
    a.k = k;
    a.v = v;
    a.scale = scale;
    a.out = out;
    a.logsumexp = logsumexp;
    a.scratch = scratch;
    return a;
}

static void attention(mde_context *c, mde__attention_call a)
{
    mde__attend(c, &a);
}

static void attention_vjp(mde_context *c, mde__attention_call a, const float *g, float *dq, float *dk, float *dv)
{
    a.g = g;
    a.dq = dq;
    a.dk = dk;
    a.dv = dv;
    mde__attention_vjp(c, &a);
}

static void product(mde_context *c, mde_product p, int accumulate, float *out, float *workspace)
{
    p.accumulate = accumulate;
    p.out = out;
    mde__gemm_threaded(c, &p, workspace);
}

/* The corrections are 1 - beta^step. */
static mde__adam adam_of(double rate, double beta1, double beta2, double decay, double correction1, double correction2,
                         float grad_scale)
{
    mde__adam adam;
    adam.grad_scale = grad_scale;
    adam.beta1 = (float)beta1;
    adam.rest1 = (float)(1.0 - beta1);
    adam.beta2 = (float)beta2;
    adam.rest2 = (float)(1.0 - beta2);
    adam.correction2 = (float)(1.0 / correction2);
    adam.epsilon = 1e-8f;
    adam.step = (float)(rate / correction1);
    adam.decay = (float)(1.0 - rate * decay);
    return adam;
}

static mde_context *best(void)
{
    return mde_context_create(NULL);
}

static const int64_t sizes[] = { 1, 2, 3, 5, 15, 16, 17, 31, 33, 64, 100, 257 };
#define SIZES ((int)(sizeof sizes / sizeof *sizes))

static uint64_t state = 1;

static float noise(void)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)((double)(state >> 40) / 8388608.0 - 1.0);
}

/* n floats in -size .. size; aligned to nothing. */
static float *noise_array(int64_t n, float size)
{
    float *x = (float *)malloc(((size_t)n + 1) * sizeof *x);
    int64_t i;
    for (i = 0; i < n; i++) x[i] = noise() * size;
    return x;
}

static float *zeros(size_t n)
{
    return (float *)calloc(n + 1, sizeof(float));
}

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* |x - exact| in units of the last place of exact as a float. */
static double ulps(float x, double exact)
{
    int exponent;
    double unit;
    if (exact != exact || x != x) return exact != exact && x != x ? 0 : 1e9;
    if (fabs(exact) > 3.4028235677973366e38) return isinf(x) && (x > 0) == (exact > 0) ? 0 : 1e9;
    frexp(exact, &exponent);
    if (exponent < -125) exponent = -125;
    unit = ldexp(1.0, exponent - 24);
    if (isinf(x)) return fabs(exact) > 3.4028234e38 ? 1 : 1e9;
    return fabs((double)x - exact) / unit;
}

/* ---- Fused multiply-add ---- */

static void emulated_fma_is_rounded_once(void)
{
    int i, wrong = 0;
    for (i = 0; i < 3000000; i++) {
        float a, b, c, x, y;
        uint64_t r;
        noise();
        r = state;
        noise();
        r ^= state >> 13;
        a = from_bits((uint32_t)(r >> 32));
        b = from_bits((uint32_t)r);
        c = from_bits((uint32_t)(state >> 32));
        if (i % 3 == 0) c = -a * b;                                             /* cancels but for the low bits */
        if (i % 3 == 1) c = (float)(-(double)a * b * (1 + ldexp(1.0, -20 - i % 9)));
        x = mde__fma_emulated(a, b, c);
        y = (float)fmaf(a, b, c);
        if (memcmp(&x, &y, sizeof x) != 0 && !(x != x && y != y)) wrong++;
    }
    CHECK(wrong == 0);
}

static void vector_fma_of_every_set_is_rounded_once(void)
{
    enum { N = 4096 };
    int set, round, i;
    for (set = 0; set < SETS; set++) {
        mde_context *c = context_of(set, 1);
        int wrong = 0;
        if (!c) continue;
        for (round = 0; round < 100; round++) {
            float x[N], y[N], expected[N], a = noise() * (float)ldexp(1.0, round - 50);
            for (i = 0; i < N; i++) {
                uint32_t bits = (uint32_t)(state >> 32) & UINT32_C(0xbfffffff);
                noise();
                x[i] = from_bits(bits);
                y[i] = i % 2 ? -a * x[i] : from_bits((uint32_t)(state >> 32));
                expected[i] = fmaf(a, x[i], y[i]);
            }
            mde__vaxpy(c, N, a, x, y);
            for (i = 0; i < N; i++) {
                if (memcmp(&y[i], &expected[i], 4) != 0 && !(y[i] != y[i] && expected[i] != expected[i])) wrong++;
            }
        }
        CHECK(wrong == 0);
        mde_context_free(c);
    }
}

/* ---- Elementary functions ---- */

typedef void unary(mde_context *c, int64_t n, const float *x, float *y);

static double reference_exp(double x) { return exp(x); }
static double reference_log(double x) { return log(x); }
static double reference_tanh(double x) { return tanh(x); }
static double reference_sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double reference_silu(double x) { return x > -1e30 ? x / (1 + exp(-x)) : (double)NAN; }
static double reference_gelu(double x)
{
    return x / (1 + exp(-2 * sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}
static double reference_abs(double x) { return fabs(x); }
static double reference_sin(double x) { return sin(x); }
static double reference_cos(double x) { return cos(x); }
static double reference_sqrt(double x) { return sqrt(x); }
static double reference_relu(double x) { return x < 0 ? 0 : x; }

/* The worst error over floats of all magnitudes; `range` bounds |x|. */
static double worst(unary *f, double (*reference)(double), double range)
{
    enum { N = 1 << 16 };
    mde_context *c = best();
    float *x = zeros(N), *y = zeros(N);
    double largest = 0;
    int round, i;
    for (round = 0; round < 24; round++) {
        for (i = 0; i < N; i++) {
            if (round < 16) x[i] = from_bits(((uint32_t)round << 28) + (uint32_t)i * 4096u + (uint32_t)i % 4093u);
            else x[i] = noise() * (float)(range < 100 ? range : 100) * (float)(round % 8 + 1) / 8;
            if (!(fabs((double)x[i]) <= range)) x[i] = noise();
        }
        f(c, N, x, y);
        for (i = 0; i < N; i++) {
            double e = ulps(y[i], reference((double)x[i]));
            if (e > largest) largest = e;
        }
    }
    free(x);
    free(y);
    mde_context_free(c);
    return largest;
}

static void elementary_functions_err_by_two_units_at_most(void)
{
    double infinite = 1e39;
    CHECK(worst(mde__vexp, reference_exp, infinite) <= 2);
    CHECK(worst(mde__vlog, reference_log, infinite) <= 2);
    CHECK(worst(mde__vtanh, reference_tanh, infinite) <= 2);
    CHECK(worst(mde__vsigmoid, reference_sigmoid, infinite) <= 2);
    CHECK(worst(mde__vsqrt, reference_sqrt, infinite) <= 0.5);
    CHECK(worst(mde__vrelu, reference_relu, infinite) == 0);
    CHECK(worst(mde__vabs, reference_abs, infinite) == 0);
    CHECK(worst(mde__vsin, reference_sin, infinite) <= 2);
    CHECK(worst(mde__vcos, reference_cos, infinite) <= 2);
}

/* x sigmoid(x) rounds once more than sigmoid; gelu's argument has an error of 1.5 units, which sigmoid magnifies by
   the size of the argument. */
static void gated_units_follow_their_formula(void)
{
    enum { N = 4001 };
    mde_context *c = best();
    float *x = zeros(N), *y = zeros(N);
    int i;
    CHECK(worst(mde__vsilu, reference_silu, 80) <= 3);
    for (i = 0; i < N; i++) x[i] = (float)(i - 2000) / 200;
    mde__vgelu(c, N, x, y);
    for (i = 0; i < N; i++) CLOSE(y[i], reference_gelu((double)x[i]), 3e-7);
    free(x);
    free(y);
    mde_context_free(c);
}

/* Rows of gates and values, and slopes by which gradients are multiplied, of widths with and without a remainder. */
static void slopes_and_packed_gates_follow_their_formulas(void)
{
    static const int64_t widths[4] = { 1, 15, 32, 200 };
    mde_context *c = best();
    int k;
    for (k = 0; k < 4; k++) {
        int64_t n = widths[k], rows = 3, i;
        float *x = noise_array(rows * 2 * n, 3), *g = noise_array(rows * n, 1), *y = zeros((size_t)(rows * 2 * n));
        const double h = 1e-5;
        mde__vgelu_vjp(c, rows * n, x, g, y);
        for (i = 0; i < rows * n; i++) {
            double a = (double)x[i], slope = (reference_gelu(a + h) - reference_gelu(a - h)) / (2 * h);
            CLOSE(y[i], g[i] * slope, 1e-6);
        }
        mde__vsilu_vjp(c, rows * n, x, g, y);
        for (i = 0; i < rows * n; i++) {
            double a = (double)x[i], slope = (reference_silu(a + h) - reference_silu(a - h)) / (2 * h);
            CLOSE(y[i], g[i] * slope, 1e-6);
        }
        mde__glu_rows(c, rows, n, x, y);
        for (i = 0; i < rows * n; i++) {
            const float *row = x + i / n * 2 * n;
            CLOSE(y[i], reference_silu((double)row[i % n]) * row[n + i % n], 1e-6);
        }
        mde__glu_rows_vjp(c, rows, n, x, g, y);
        for (i = 0; i < rows * n; i++) {
            int64_t at = i / n * 2 * n + i % n;
            double a = (double)x[at], slope = (reference_silu(a + h) - reference_silu(a - h)) / (2 * h);
            CLOSE(y[at], g[i] * x[at + n] * slope, 3e-6);
            CLOSE(y[at + n], g[i] * reference_silu(a), 1e-6);
        }
        free(x), free(g), free(y);
    }
    mde_context_free(c);
}

static void special_values_are_right(void)
{
    mde_context *c = best();
    float inf = (float)INFINITY, nan = (float)NAN, tiny = from_bits(1);
    float x[9], y[9];
    x[0] = inf, x[1] = -inf, x[2] = nan, x[3] = 0.0f, x[4] = -0.0f, x[5] = tiny, x[6] = -1.0f, x[7] = -100.0f, x[8] = 1;
    mde__vexp(c, 9, x, y);
    CHECK(y[0] == inf && y[1] == 0 && y[2] != y[2] && y[3] == 1 && y[4] == 1 && y[5] == 1);
    CHECK(y[7] > 0 && y[7] < 1e-38f);
    mde__vlog(c, 9, x, y);
    CHECK(y[0] == inf && y[1] != y[1] && y[2] != y[2] && y[3] == -inf && y[4] == -inf && y[6] != y[6] && y[8] == 0);
    CLOSE(y[5], -103.27892990343185, 1e-6);
    mde__vtanh(c, 9, x, y);
    CHECK(y[0] == 1 && y[1] == -1 && y[2] != y[2] && y[3] == 0 && y[5] == tiny && signbit(y[4]));
    mde__vsigmoid(c, 9, x, y);
    CHECK(y[0] == 1 && y[1] == 0 && y[2] != y[2] && y[3] == 0.5f && y[7] > 0 && y[7] < 1e-38f);
    mde__vsin(c, 9, x, y);
    CHECK(y[0] != y[0] && y[1] != y[1] && y[2] != y[2] && y[3] == 0 && y[4] == 0 && signbit(y[4]) && y[5] == tiny);
    mde__vcos(c, 9, x, y);
    CHECK(y[0] != y[0] && y[1] != y[1] && y[2] != y[2] && y[3] == 1 && y[4] == 1 && y[5] == 1);
    mde_context_free(c);
}

static void elementwise_kernels_do_each_element_once(void)
{
    mde_context *c = best();
    int s, k;
    for (s = 0; s < SIZES + 1; s++) {
        int64_t n = s < SIZES ? sizes[s] : 40000, i;
        float *a = noise_array(n, 3), *b = noise_array(n, 3), *y = zeros((size_t)n + 8);
        for (k = 0; k < 6; k++) {
            int wrong = 0;
            for (i = 0; i < n + 8; i++) y[i] = i < n ? b[i] : 7;
            if (k == 0) mde__vadd(c, n, a, y, y);
            if (k == 1) mde__vsub(c, n, a, y, y);
            if (k == 2) mde__vmul(c, n, a, y, y);
            if (k == 3) mde__vdiv(c, n, a, y, y);
            if (k == 4) mde__vaxpy(c, n, 0.3f, a, y);
            if (k == 5) mde__vaffine(c, n, a, 0.3f, -2.0f, y);
            for (i = 0; i < n; i++) {
                float e = k == 0 ? a[i] + b[i] : k == 1 ? a[i] - b[i] : k == 2 ? a[i] * b[i] : k == 3 ? a[i] / b[i]
                        : k == 4 ? fmaf(0.3f, a[i], b[i]) : fmaf(a[i], 0.3f, -2.0f);
                wrong += y[i] != e;
            }
            for (i = n; i < n + 8; i++) wrong += y[i] != 7;
            CHECK(wrong == 0);
        }
        free(a);
        free(b);
        free(y);
    }
    mde_context_free(c);
}

static void a_product_of_no_terms_is_zero_and_stays_in_its_rows(void)
{
    mde_context *c = best();
    float out[3 * 2 + 2];
    mde_product p = mde_product_of(0, 0, 3, 2, 0, NULL, NULL);
    int i;
    for (i = 0; i < 8; i++) out[i] = 7;
    p.out = out;
    mde_gemm(c, &p, NULL);
    for (i = 0; i < 8; i++) CHECK(out[i] == (i < 6 ? 0.0f : 7.0f));
    mde_context_free(c);
}

/* ---- Reductions ---- */

/* Error of a float sum in 16 lanes and a tree: n/16 + 5 roundings of at most the sum of magnitudes. */
static double sum_bound(int64_t n, double magnitudes)
{
    return ((double)n / 16 + 8) * 6e-8 * magnitudes + 1e-30;
}

/* In chunks of 50,000. */
static float dot_of(mde_context *c, int64_t n, const float *x, const float *y)
{
    mde__job job = mde__new_job(x, y, NULL);
    double dot[3] = { 0, 0, 0 };
    int64_t from;
    job.partial = dot;
    job.chunk = 50000;
    for (from = 0; from < n; from += job.chunk) {
        mde__kernel_dot(c->simd)(&job, from, n - from < job.chunk ? n : from + job.chunk);
    }
    return (float)(dot[0] + dot[1] + dot[2]);
}

static void reductions_add_every_element_once(void)
{
    mde_context *c = best();
    int s;
    for (s = 0; s < SIZES + 1; s++) {
        int64_t n = s < SIZES ? sizes[s] : 100003, i;
        float *x = noise_array(n, 2), *y = noise_array(n, 2);
        double sum = 0, dot = 0, squares = 0, m1 = 0, m2 = 0;
        for (i = 0; i < n; i++) {
            sum += (double)x[i];
            dot += (double)x[i] * (double)y[i];
            squares += (double)x[i] * (double)x[i];
            m1 += fabs((double)x[i]);
            m2 += fabs((double)x[i] * (double)y[i]);
        }
        CHECK(fabs((double)mde__sum_all(c, n, x) - sum) <= sum_bound(n, m1));
        CHECK(fabs((double)dot_of(c, n, x, y) - dot) <= sum_bound(n, m2));
        CHECK(fabs(mde__sum_squares(c, n, x) - squares) <= 1e-12 * squares);
        free(x);
        free(y);
    }
    CHECK(mde__sum_all(c, 0, NULL) == 0);
    mde_context_free(c);
}

static void row_and_column_sums_are_sums(void)
{
    mde_context *c = best();
    int a, b;
    for (a = 0; a < SIZES + 1; a++) {
        for (b = 0; b < SIZES; b += 2) {
            int64_t rows = a < SIZES ? sizes[a] : 700, cols = sizes[b], i, j;
            float *x = noise_array(rows * cols, 1), *r = zeros((size_t)rows), *k = noise_array(cols, 1);
            float *before = zeros((size_t)cols);
            memcpy(before, k, (size_t)cols * sizeof *k);
            mde__sum_rows(c, rows, cols, x, r);
            mde__sum_columns(c, rows, cols, x, 1, k);
            for (i = 0; i < rows; i++) {
                double sum = 0;
                for (j = 0; j < cols; j++) sum += (double)x[i * cols + j];
                CHECK(fabs((double)r[i] - sum) <= sum_bound(cols, (double)cols));
            }
            for (j = 0; j < cols; j++) {
                double sum = (double)before[j];
                for (i = 0; i < rows; i++) sum += (double)x[i * cols + j];
                CHECK(fabs((double)k[j] - sum) <= 6e-8 * (double)(rows + 2) * (double)(rows + 1));
            }
            free(x);
            free(r);
            free(k);
            free(before);
        }
    }
    mde_context_free(c);
}

/* ---- Rows ---- */

static void softmax_and_cross_entropy_follow_their_formulas(void)
{
    mde_context *c = best();
    int s;
    for (s = 0; s < SIZES; s++) {
        int64_t rows = 5, cols = sizes[s], i, j;
        size_t n = (size_t)(rows * cols);
        float *x = noise_array(rows * cols, 6), *g = noise_array(rows * cols, 1), *y = zeros(n), *l = zeros(n);
        float loss[5], lse[5], gl[5], *d = zeros(n), *e = zeros(n);
        int32_t target[5];
        for (i = 0; i < rows; i++) {
            target[i] = i == 3 ? -1 : (int32_t)((i * 7) % cols);
            gl[i] = noise();
        }
        mde__softmax_rows(c, rows, cols, x, y);
        mde__log_softmax_rows(c, rows, cols, x, l);
        mde__softmax_rows_vjp(c, rows, cols, y, g, d);
        mde__cross_entropy_rows(c, rows, cols, x, target, loss, lse);
        mde__cross_entropy_rows_vjp(c, rows, cols, x, target, lse, gl, e);
        for (i = 0; i < rows; i++) {
            double sum = 0, dot = 0;
            const float *xi = x + i * cols, *gi = g + i * cols;
            for (j = 0; j < cols; j++) sum += exp((double)xi[j]);
            for (j = 0; j < cols; j++) dot += exp((double)xi[j]) / sum * (double)gi[j];
            CLOSE(lse[i], log(sum), 1e-6);
            CLOSE(loss[i], target[i] < 0 ? 0 : log(sum) - (double)xi[target[i]], 2e-6);
            for (j = 0; j < cols; j++) {
                double p = exp((double)xi[j]) / sum;
                CLOSE(y[i * cols + j], p, 1e-6);
                CLOSE(l[i * cols + j], log(p), 1e-6);
                CLOSE(d[i * cols + j], p * ((double)gi[j] - dot), 2e-6);
                CLOSE(e[i * cols + j], target[i] < 0 ? 0 : (double)gl[i] * (p - (target[i] == j)), 2e-6);
            }
        }
        free(x), free(g), free(y), free(l), free(d), free(e);
    }
    mde_context_free(c);
}

static void norms_and_their_gradients_follow_their_formulas(void)
{
    mde_context *c = best();
    int s, layer, affine;
    for (s = 1; s < SIZES; s++) {
        for (layer = 0; layer < 2; layer++) {
            for (affine = 0; affine < 2; affine++) {
                int64_t rows = s == 4 ? 600 : 7, cols = sizes[s], i, j;
                size_t n = (size_t)(rows * cols);
                float *x = noise_array(rows * cols, 2), *g = noise_array(rows * cols, 1), *y = zeros(n), *dx = zeros(n);
                float *gain = noise_array(cols, 1), *bias = noise_array(cols, 1), *mean = zeros((size_t)rows);
                float *rstd = zeros((size_t)rows), *dgain = zeros((size_t)cols), *dbias = zeros((size_t)cols);
                double *want_gain = (double *)calloc((size_t)cols, sizeof(double));
                double *want_bias = (double *)calloc((size_t)cols, sizeof(double));
                float *use_gain = affine ? gain : NULL, *use_bias = affine ? bias : NULL;
                mde__row_norm norm = norm_of(rows, cols, x, use_gain, 1e-3f, rstd);
                if (layer) {
                    norm.bias = use_bias;
                    norm.mean = mean;
                    mde__layer_norm_rows(c, &norm, y);
                    mde__norm_rows_vjp(c, mde__kernel_layer_norm_vjp(c->simd), &norm, g, 0, dx, dgain, dbias);
                } else {
                    mde__rms_norm_rows(c, &norm, y);
                    mde__norm_rows_vjp(c, mde__kernel_rms_norm_vjp(c->simd), &norm, g, 0, dx, dgain, NULL);
                }
                for (i = 0; i < rows; i++) {
                    double mu = 0, spread = 0, mh = 0, mhn = 0, r;
                    const float *xi = x + i * cols, *gi = g + i * cols;
                    for (j = 0; j < cols; j++) mu += (double)xi[j] / (double)cols;
                    if (!layer) mu = 0;
                    for (j = 0; j < cols; j++) spread += ((double)xi[j] - mu) * ((double)xi[j] - mu) / (double)cols;
                    r = 1 / sqrt(spread + (double)1e-3f);
                    for (j = 0; j < cols; j++) {
                        double h = (double)gi[j] * (affine ? (double)gain[j] : 1), nj = ((double)xi[j] - mu) * r;
                        mh += h / (double)cols;
                        mhn += h * nj / (double)cols;
                        want_gain[j] += (double)gi[j] * nj;
                        want_bias[j] += (double)gi[j];
                    }
                    if (!layer) mh = 0;
                    for (j = 0; j < cols; j++) {
                        double h = (double)gi[j] * (affine ? (double)gain[j] : 1), nj = ((double)xi[j] - mu) * r;
                        double out = nj * (affine ? (double)gain[j] : 1) + (affine && layer ? (double)bias[j] : 0);
                        /* 1e-3 in the root: r is at most 32, and errors of 1e-7 grow by it at most. */
                        CLOSE(y[i * cols + j], out, 5e-6);
                        CLOSE(dx[i * cols + j], r * (h - mh - nj * mhn), 3e-5);
                    }
                }
                for (j = 0; j < cols; j++) {
                    CLOSE(dgain[j], want_gain[j], 2e-5 * (rows > 100 ? 10 : 1));
                    if (layer) CLOSE(dbias[j], want_bias[j], 2e-5);
                }
                free(x), free(g), free(y), free(dx), free(gain), free(bias), free(mean), free(rstd), free(dgain);
                free(dbias), free(want_gain), free(want_bias);
            }
        }
    }
    mde_context_free(c);
}

static void rope_turns_pairs_and_back(void)
{
    mde_context *c = best();
    int64_t batch = 2, time = 5, heads = 3, dims[] = { 2, 6, 16, 34, 64 }, b, t, h, i;
    int k;
    for (k = 0; k < 5; k++) {
        int64_t dim = dims[k], half = dim / 2, n = batch * time * heads * dim;
        float *x = noise_array(n, 1), *y = zeros((size_t)n), *z = zeros((size_t)n);
        float *cosine = zeros((size_t)(time * half)), *sine = zeros((size_t)(time * half));
        mde__rotation rotation = rotation_of(batch, time, heads, dim, cosine, sine);
        for (i = 0; i < time * half; i++) {
            cosine[i] = (float)cos((double)i);
            sine[i] = (float)sin((double)i);
        }
        mde__rotate_heads(c, &rotation, x, y);
        memcpy(z, y, (size_t)n * sizeof *z);
        rotation.inverse = 1;
        mde__rotate_heads(c, &rotation, z, z);
        for (b = 0; b < batch; b++) for (t = 0; t < time; t++) for (h = 0; h < heads; h++) for (i = 0; i < half; i++) {
            int64_t at = ((b * time + t) * heads + h) * dim + i;
            double co = (double)cosine[t * half + i], si = (double)sine[t * half + i];
            CLOSE(y[at], (double)x[at] * co - (double)x[at + half] * si, 2e-7);
            CLOSE(y[at + half], (double)x[at + half] * co + (double)x[at] * si, 2e-7);
            CLOSE(z[at], x[at], 5e-7);
        }
        free(x), free(y), free(z), free(cosine), free(sine);
    }
    mde_context_free(c);
}

/* ---- Matrix product ---- */

/* One chain of fused multiply-adds: this is what every kernel promises to the bit. */
static void slow_gemm(int ta, int tb, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
                      int64_t ldb, int accumulate, float *out, int64_t ldo)
{
    int64_t i, j, p;
    for (i = 0; i < m; i++) {
        for (j = 0; j < n; j++) {
            float chain = accumulate ? out[i * ldo + j] : 0;
            for (p = 0; p < k; p++) {
                chain = fmaf(ta ? a[p * lda + i] : a[i * lda + p], tb ? b[j * ldb + p] : b[p * ldb + j], chain);
            }
            out[i * ldo + j] = chain;
        }
    }
}

static int gemm_differs(mde_context *c, int64_t m, int64_t n, int64_t k, int flags)
{
    int ta = flags & 1, tb = flags >> 1 & 1, accumulate = flags >> 2 & 1, wrong;
    int64_t lda = (ta ? m : k) + 3, ldb = (tb ? k : n) + 1, ldo = n + 2, i;
    float *a = noise_array((ta ? k : m) * lda, 1), *b = noise_array((tb ? n : k) * ldb, 1);
    float *x = noise_array(m * ldo, 1), *y = zeros((size_t)(m * ldo)), *z = zeros((size_t)(m * ldo));
    size_t space = mde__gemm_workspace(c, m, n, k), one_thread = mde_gemm_floats(c, m, n, k);
    float *workspace = zeros((space > one_thread ? space : one_thread) + 16);
    int64_t *row = (int64_t *)malloc((size_t)m * sizeof *row);
    mde_product p = mde_product_of(ta, tb, m, n, k, a, b);
    for (i = 0; i < 16; i++) workspace[space + (size_t)i] = 5;
    memcpy(y, x, (size_t)(m * ldo) * sizeof *y);
    memcpy(z, x, (size_t)(m * ldo) * sizeof *z);
    p.accumulate = accumulate;
    p.lda = lda;
    p.ldb = ldb;
    p.ldo = ldo;
    p.out = x;
    mde__gemm_threaded(c, &p, workspace);
    slow_gemm(ta, tb, m, n, k, a, lda, b, ldb, accumulate, y, ldo);
    wrong = memcmp(x, y, (size_t)(m * ldo) * sizeof *y) != 0;
    for (i = 0; i < 16; i++) wrong += workspace[space + (size_t)i] != 5;
    for (i = 0; i < 16; i++) workspace[one_thread + (size_t)i] = 5;
    p.out = z;
    mde_gemm(c, &p, workspace);
    wrong += memcmp(z, y, (size_t)(m * ldo) * sizeof *y) != 0;
    for (i = 0; i < 16; i++) wrong += workspace[one_thread + (size_t)i] != 5;
    /* Rows from last to first, told where they lie. */
    for (i = 0; i < m && !tb && !accumulate; i++) row[i] = (m - 1 - i) * (ta ? 1 : lda);
    if (!tb && !accumulate) {
        p.row = row;
        p.step = ta ? lda : 1;
        mde_gemm(c, &p, workspace);
        for (i = 0; i < m; i++) wrong += memcmp(z + (m - 1 - i) * ldo, y + i * ldo, (size_t)n * sizeof *y) != 0;
        for (i = 0; i < 16; i++) wrong += workspace[one_thread + (size_t)i] != 5;
    }
    free(row);
    free(a), free(b), free(x), free(y), free(z), free(workspace);
    return wrong;
}

static void workspace_for_many_rows_does_for_few(void)
{
    int64_t m, k;
    int set;
    for (set = 0; set < SETS; set++) {
        mde_context *c = context_of(set, 1);
        if (!c) continue;
        for (m = 1; m < 300; m += 13) {
            for (k = 1; k < 600; k += 37) CHECK(mde_gemm_floats(c, 300, 18, k) >= mde_gemm_floats(c, m, 18, k));
        }
        mde_context_free(c);
    }
}

static void products_are_one_chain_in_order_of_k(void)
{
    static const int64_t some[] = { 1, 2, 5, 6, 7, 12, 13, 16, 17, 31, 33, 64, 100 };
    int set, i, j, k, flags, count = (int)(sizeof some / sizeof *some);
    for (set = 0; set < SETS; set++) {
        mde_context *c = context_of(set, 2);
        int slow = set == 0 || set == SETS - 1, wrong = 0;
        if (!c) continue;
        for (i = 0; i < count; i += slow ? 2 : 1) {
            for (j = 0; j < count; j += slow ? 2 : 1) {
                for (k = 0; k < count; k += 3) {
                    for (flags = 0; flags < 8; flags += slow ? 3 : 1) {
                        wrong += gemm_differs(c, some[i], some[j], some[k], flags);
                    }
                }
            }
        }
        CHECK(wrong == 0);
        for (flags = 0; flags < 8; flags++) {
            CHECK(!gemm_differs(c, 5, 40, 600, flags));
            if (slow) continue;
            CHECK(!gemm_differs(c, 201, 66, 300, flags));
            CHECK(!gemm_differs(c, 3, 1100, 270, flags));
            CHECK(!gemm_differs(c, 50, 40, 1021, flags));       /* rows of A 4 kilobytes apart */
            CHECK(!gemm_differs(c, 30, 530, 70, flags));
            CHECK(!gemm_differs(c, 66, 1050, 40, flags));
            CHECK(!gemm_differs(c, 130, 140, 70, flags));
        }
        mde_context_free(c);
    }
}

static void the_product_of_one_row_has_the_bits_of_all_products(void)
{
    static const int64_t some[] = { 1, 7, 8, 9, 16, 31, 100, 300, 1100 };
    int set, i, k, accumulate;
    for (set = 0; set < SETS; set++) {
        mde_context *c = context_of(set, 2);
        if (!c) continue;
        for (i = 0; i < 9; i++) {
            for (k = 0; k < 9; k++) {
                int64_t n = some[i], m = some[k];
                float *x = noise_array(m, 1), *w = noise_array(m * n, 1), *y = noise_array(n, 1);
                float *z = zeros((size_t)n), *workspace = zeros(mde__gemm_workspace(c, 1, n, m));
                memcpy(z, y, (size_t)n * sizeof *y);
                for (accumulate = 1; accumulate >= 0; accumulate--) {
                    product(c, mde_product_of(0, 0, 1, n, m, x, w), accumulate, y, workspace);
                    mde__row_product(c, n, m, x, w, accumulate, z);
                    CHECK(memcmp(y, z, (size_t)n * sizeof *y) == 0);
                }
                free(x), free(w), free(y), free(z), free(workspace);
            }
        }
        mde_context_free(c);
    }
}

static void batched_products_equal_single_ones(void)
{
    mde_context *c = best();
    int64_t batch = 9, m = 40, n = 50, k = 60, i;
    int shared;
    float *a = noise_array(batch * m * k, 1), *b = noise_array(batch * k * n, 1), *x = noise_array(batch * m * n, 1);
    float *y = zeros((size_t)(batch * m * n)), *workspace = zeros(mde__gemm_workspace(c, m, n, k));
    mde_product p = mde_product_of(0, 0, m, n, k, a, b);
    p.accumulate = 1;
    p.out = x;
    for (shared = 0; shared < 2; shared++) {
        memcpy(y, x, (size_t)(batch * m * n) * sizeof *y);
        mde__gemm_batch(c, &p, batch, m * k, shared ? 0 : k * n, m * n, workspace);
        for (i = 0; i < batch; i++) {
            slow_gemm(0, 0, m, n, k, a + i * m * k, k, b + (shared ? 0 : i * k * n), n, 1, y + i * m * n, n);
        }
        CHECK(memcmp(x, y, (size_t)(batch * m * n) * sizeof *y) == 0);
    }
    memcpy(y, x, (size_t)(m * n) * sizeof *y);
    mde__gemm_batch(c, &p, batch, m * k, k * n, 0, workspace);
    for (i = 0; i < batch; i++) slow_gemm(0, 0, m, n, k, a + i * m * k, k, b + i * k * n, n, 1, y, n);
    CHECK(memcmp(x, y, (size_t)(m * n) * sizeof *y) == 0);
    free(a), free(b), free(x), free(y), free(workspace);
    mde_context_free(c);
}

/* ---- Attention ---- */

static mde__attention_shape shape_of(int64_t batch, int64_t time_q, int64_t time_k, int64_t heads, int64_t kv_heads,
                                     int64_t dim, int causal)
{
    mde__attention_shape s;
    memset(&s, 0, sizeof s);
    s.batch = batch;
    s.time_q = time_q;
    s.time_k = time_k;
    s.heads = heads;
    s.kv_heads = kv_heads;
    s.dim = dim;
    s.causal = causal;
    return s;
}

/* Probabilities [time_k] of a query in double, and the logsumexp. */
static double slow_weights(const mde__attention_shape *s, const float *q, const float *k, int64_t b, int64_t t,
                           int64_t h, double scale, double *p)
{
    int64_t kv = h / (s->heads / s->kv_heads), seen = s->causal ? t + 1 + s->time_k - s->time_q : s->time_k, j, i;
    const float *query = q + ((b * s->time_q + t) * s->heads + h) * s->dim;
    double sum = 0;
    for (j = 0; j < s->time_k; j++) {
        const float *key = k + ((b * s->time_k + j) * s->kv_heads + kv) * s->dim;
        p[j] = 0;
        if (j >= seen) continue;
        for (i = 0; i < s->dim; i++) p[j] += (double)query[i] * (double)key[i];
        p[j] = exp(p[j] * scale);
        sum += p[j];
    }
    for (j = 0; j < s->time_k; j++) p[j] /= sum;
    return log(sum);
}

static void attention_and_its_gradients_follow_their_formulas(void)
{
    mde__attention_shape shapes[9];
    int set, n;
    shapes[0] = shape_of(1, 1, 1, 1, 1, 1, 1);
    shapes[1] = shape_of(2, 5, 5, 2, 2, 3, 1);
    shapes[2] = shape_of(2, 17, 33, 4, 2, 16, 1);
    shapes[3] = shape_of(1, 100, 100, 3, 1, 20, 1);
    shapes[4] = shape_of(1, 130, 130, 2, 1, 8, 0);
    shapes[5] = shape_of(1, 70, 150, 2, 2, 32, 1);
    shapes[6] = shape_of(1, 1, 100, 6, 2, 12, 1);
    shapes[7] = shape_of(2, 64, 64, 1, 1, 64, 1);
    shapes[8] = shape_of(1, 200, 200, 2, 2, 10, 1);
    for (set = 0; set < SETS; set++) {
        mde_context *c = context_of(set, 2);
        if (!c) continue;
        for (n = 0; n < 9; n++) {
            const mde__attention_shape *s = &shapes[n];
            int64_t nq = s->batch * s->time_q * s->heads * s->dim, nk = s->batch * s->time_k * s->kv_heads * s->dim;
            int64_t b, h, t, j, i, group = s->heads / s->kv_heads;
            float *q = noise_array(nq, 2), *k = noise_array(nk, 2), *v = noise_array(nk, 1), *g = noise_array(nq, 1);
            float *out = zeros((size_t)nq), *dq = zeros((size_t)nq), *dk = zeros((size_t)nk), *dv = zeros((size_t)nk);
            float *lse = zeros((size_t)(s->batch * s->heads * s->time_q)), scale = 1 / sqrtf((float)s->dim);
            size_t need = mde__attention_scratch(c, s), need_vjp = mde__attention_vjp_scratch(c, s);
            float *scratch = zeros(need + 16), *scratch_vjp = zeros(need_vjp + 16);
            double *p = (double *)calloc((size_t)s->time_k, sizeof *p), *eq = (double *)calloc((size_t)nq, sizeof *eq);
            double *ek = (double *)calloc((size_t)nk, sizeof *ek), *ev = (double *)calloc((size_t)nk, sizeof *ev);
            for (i = 0; i < 16; i++) scratch[need + (size_t)i] = scratch_vjp[need_vjp + (size_t)i] = 5;
            attention(c, attention_of(s, q, k, v, scale, out, lse, scratch));
            attention_vjp(c, attention_of(s, q, k, v, scale, out, lse, scratch_vjp), g, dq, dk, dv);
            for (i = 0; i < 16; i++) CHECK(scratch[need + (size_t)i] == 5 && scratch_vjp[need_vjp + (size_t)i] == 5);
            for (b = 0; b < s->batch; b++) for (h = 0; h < s->heads; h++) for (t = 0; t < s->time_q; t++) {
                int64_t at = ((b * s->time_q + t) * s->heads + h) * s->dim;
                double total = slow_weights(s, q, k, b, t, h, (double)scale, p), d = 0;
                CLOSE(lse[(b * s->heads + h) * s->time_q + t], total, 1e-6);
                for (i = 0; i < s->dim; i++) {
                    double o = 0;
                    for (j = 0; j < s->time_k; j++) {
                        o += p[j] * (double)v[((b * s->time_k + j) * s->kv_heads + h / group) * s->dim + i];
                    }
                    CLOSE(out[at + i], o, 2e-6);
                    d += o * (double)g[at + i];
                }
                for (j = 0; j < s->time_k; j++) {
                    int64_t at_k = ((b * s->time_k + j) * s->kv_heads + h / group) * s->dim;
                    double dp = 0, ds;
                    for (i = 0; i < s->dim; i++) dp += (double)g[at + i] * (double)v[at_k + i];
                    ds = p[j] * (dp - d) * (double)scale;
                    for (i = 0; i < s->dim; i++) {
                        eq[at + i] += ds * (double)k[at_k + i];
                        ek[at_k + i] += ds * (double)q[at + i];
                        ev[at_k + i] += p[j] * (double)g[at + i];
                    }
                }
            }
            for (i = 0; i < nq; i++) CLOSE(dq[i], eq[i], 5e-6);
            for (i = 0; i < nk; i++) {
                CLOSE(dk[i], ek[i], 1e-5);
                CLOSE(dv[i], ev[i], 1e-5);
            }
            free(q), free(k), free(v), free(g), free(out), free(dq), free(dk), free(dv), free(lse), free(scratch);
            free(scratch_vjp), free(p), free(eq), free(ek), free(ev);
        }
        mde_context_free(c);
    }
}

static void decoding_one_token_gives_the_bits_of_the_full_pass(void)
{
    int set;
    for (set = 0; set < SETS; set++) {
        mde_context *c = context_of(set, 1);
        mde__attention_shape full = shape_of(1, 150, 150, 4, 2, 24, 1), one = full;
        int64_t nq = full.time_q * full.heads * full.dim, nk = full.time_k * full.kv_heads * full.dim, t, i;
        int64_t row = full.heads * full.dim;
        float *q, *k, *v, *out, *single, *scratch, lse[4], *all;
        if (!c) continue;
        q = noise_array(nq, 3), k = noise_array(nk, 3), v = noise_array(nk, 1), out = zeros((size_t)nq);
        single = zeros((size_t)row), scratch = zeros(mde__attention_scratch(c, &full));
        all = zeros((size_t)(full.heads * full.time_q));
        for (i = 0; i < full.kv_heads * full.dim; i++) v[(full.time_k - 1) * full.kv_heads * full.dim + i] = (float)NAN;
        attention(c, attention_of(&full, q, k, v, 0.2f, out, all, scratch));
        for (t = 0; t < full.time_q; t++) {
            one.time_q = 1;
            one.time_k = t + 1;
            attention(c, attention_of(&one, q + t * row, k, v, 0.2f, single, lse, scratch));
            if (t < full.time_q - 1) CHECK(memcmp(single, out + t * row, (size_t)row * sizeof *out) == 0);
            for (i = 0; i < full.heads; i++) CHECK(lse[i] == all[i * full.time_q + t]);
        }
        free(q), free(k), free(v), free(out), free(single), free(scratch), free(all);
        mde_context_free(c);
    }
}

/* ---- AdamW, mixtures ---- */

static void adamw_follows_its_paper(void)
{
    mde_context *c = best();
    int64_t n = 37, i, step;
    float *w = noise_array(n, 1), *m = zeros((size_t)n), *v = zeros((size_t)n);
    double ew[37], em[37], ev[37], b1 = 0.9, b2 = 0.95, lr = 0.01, decay = 0.1, eps = 1e-8;
    for (i = 0; i < n; i++) {
        ew[i] = (double)w[i];
        em[i] = ev[i] = 0;
    }
    for (step = 1; step <= 20; step++) {
        float *g = noise_array(n, 2);
        double c1 = 1 - pow(b1, (double)step), c2 = 1 - pow(b2, (double)step);
        mde__adam adam = adam_of(lr, b1, b2, decay, c1, c2, 0.5f);
        mde__adamw(c, &adam, n, g, w, m, v);
        for (i = 0; i < n; i++) {
            double gi = 0.5 * (double)g[i];
            em[i] = b1 * em[i] + (1 - b1) * gi;
            ev[i] = b2 * ev[i] + (1 - b2) * gi * gi;
            ew[i] -= lr * (em[i] / c1 / (sqrt(ev[i] / c2) + eps) + decay * ew[i]);
            CLOSE(w[i], ew[i], 2e-6);
        }
        free(g);
    }
    free(w), free(m), free(v);
    mde_context_free(c);
}

/* One mixture of a text in one part, with both halves of the Hessian. */
static double mixture_logsum(mde_context *c, int64_t tokens, int experts, const float *r, int64_t stride, const double *w,
                             const float *count, double *gradient, double *hessian)
{
    mde__mixture_sums m = { experts, w, 0, gradient, hessian };
    int i, k;
    mde__mixture_clear(&m);
    CHECK(mde__mixture_add(c, &m, tokens, r, stride, count));
    for (i = 0; hessian && i < experts; i++) {
        for (k = 0; k < i; k++) hessian[k * experts + i] = hessian[i * experts + k];
    }
    return m.sum;
}

/* The first block's terms are written, and nothing behind them. */
static void mixture_keeps_to_its_terms(mde_context *c, int64_t tokens, int experts, const float *r, const double *w)
{
    double partial[1 + 17 + 17 * 17 + 17 + 2];
    mde__job job = mde__new_job(r, NULL, NULL);
    int64_t i;
    job.order = 2;
    job.weights = w;
    job.experts = experts;
    job.stride = tokens;
    job.terms = 1 + experts + experts * experts;
    job.partial = partial;
    for (i = 0; i < job.terms + experts + 2; i++) partial[i] = 7;
    mde__kernel_mixture(c->simd)(&job, 0, tokens < MDE__MIXTURE_BLOCK ? tokens : MDE__MIXTURE_BLOCK);
    for (i = job.terms; i < job.terms + experts + 2; i++) CHECK(partial[i] == 7);
}

/* Many mixtures of a text in parts of `part` tokens, each in memory of its own. */
static void mixture_logsums(mde_context *c, int64_t tokens, int64_t part, int experts, const float *r, int64_t stride,
                            int64_t mixtures, const double *w, double *out)
{
    mde_mark mark = mde_arena_mark(c);
    mde__mixtures m;
    int64_t first;
    int e;
    memset(&m, 0, sizeof m);
    m.experts = experts;
    m.mixtures = mixtures;
    m.tokens = tokens;
    m.weights = w;
    m.sums = out;
    CHECK(mde__mixtures_start(c, &m));
    for (first = 0; first < tokens; first += part) {
        int64_t here = tokens - first < part ? tokens - first : part;
        float *copy = zeros((size_t)(experts * here));
        for (e = 0; e < experts; e++) memcpy(copy + e * here, r + e * stride + first, (size_t)here * sizeof *copy);
        CHECK(mde__mixtures_add(c, &m, here, copy, here));
        free(copy);
    }
    mde__mixtures_end(c, &m);
    mde_arena_rewind(c, mark);
}

/* The smallest and largest sums of which eight can be multiplied are such themselves. */
static void a_strip_of_sums_says_whether_they_can_be_multiplied(void)
{
    static const double bounds[4] = { 1e-30, 0.999999e-30, 1e30, 1.000001e30 };
    float r[MDE__MIXTURE_STRIP];
    double s[MDE__MIXTURE_STRIP];
    int i, t, at;
    for (i = 0; i < 4; i++) {
        for (at = 0; at < MDE__MIXTURE_STRIP; at++) {
            for (t = 0; t < MDE__MIXTURE_STRIP; t++) r[t] = t == at ? 1.0f : i < 2 ? 1e30f : 1e-30f;
            CHECK(mde__mixture_sums_portable(1, &bounds[i], r, MDE__MIXTURE_STRIP, s) == (i % 2 == 0));
            CHECK(s[at] == bounds[i]);
        }
    }
}

static void mixture_likelihood_and_derivatives_follow_their_formulas(void)
{
    static const int64_t tokens[] = { 1, 7, 63, 64, 65, 4097, 10000 };
    static const int experts[] = { 1, 2, 7, 17 };
    mde_context *c = best();
    int a, b, counted, i, j;
    for (a = 0; a < 7; a++) for (b = 0; b < 4; b++) for (counted = 0; counted < 2; counted++) {
        int64_t n = tokens[a], t;
        int k = experts[b];
        float *r = zeros((size_t)(n * k)), *count = zeros((size_t)n);
        double w[17], g[17], h[17 * 17], eg[17], eh[17 * 17], sum = 0, got;
        for (i = 0; i < k; i++) w[i] = 1.0 / k;
        memset(eg, 0, sizeof eg);
        memset(eh, 0, sizeof eh);
        for (t = 0; t < n * k; t++) r[t] = expf(noise() * (t % 97 == 0 ? 60.0f : 8.0f));
        for (t = 0; t < n; t++) count[t] = (float)((t * 7) % 4);
        for (t = 0; t < n; t++) {
            double s = 0, m = counted ? (double)count[t] : 1;
            for (i = 0; i < k; i++) s += w[i] * (double)r[i * n + t];
            sum += m * log(s);
            for (i = 0; i < k; i++) {
                eg[i] += m * (double)r[i * n + t] / s;
                for (j = 0; j < k; j++) eh[i * k + j] += m * (double)r[i * n + t] / s * (double)r[j * n + t] / s;
            }
        }
        got = mixture_logsum(c, n, k, r, n, w, counted ? count : NULL, g, h);
        CHECK(fabs(got - sum) <= 1e-12 * (double)n * 10);
        CHECK(got == mixture_logsum(c, n, k, r, n, w, counted ? count : NULL, NULL, NULL));
        mixture_keeps_to_its_terms(c, n, k, r, w);
        for (i = 0; i < k; i++) {
            CHECK(fabs(g[i] - eg[i]) <= 1e-11 * (double)n * (double)k);
            for (j = 0; j < k; j++) CHECK(fabs(h[i * k + j] - eh[i * k + j]) <= 1e-11 * (double)n * k * k);
        }
        r[0] = 0;
        if (k == 1) CHECK(mixture_logsum(c, n, k, r, n, w, NULL, NULL, NULL) == -(double)INFINITY);
        free(r), free(count);
    }
    mde_context_free(c);
}

/* Float32 sums against double ones: roundings of 6e-8 average out over tokens, so 1e-8 a token. Some tokens are as
   improbable as float32 can tell, some impossible without the last expert. */
static void many_mixtures_give_the_sums_of_one_by_one(void)
{
    mde_context *c = best();
    enum { TOKENS = 9001, EXPERTS = 5, MIXTURES = 131 };
    static const int64_t tokens[] = { 1, 255, 256, 300, 8191, 8192, 8193, TOKENS };
    float *r = zeros(TOKENS * EXPERTS);
    double *w = (double *)calloc(MIXTURES * EXPERTS, sizeof *w), out[MIXTURES], parts[MIXTURES];
    int i, e, kind;
    size_t size;
    for (kind = 0; kind < 3; kind++) {
        for (i = 0; i < TOKENS; i++) {
            float most = 0;
            for (e = 0; e < EXPERTS; e++) {
                r[i + e * TOKENS] = expf(5 * noise());
                if (r[i + e * TOKENS] > most) most = r[i + e * TOKENS];
            }
            for (e = 0; e < EXPERTS; e++) r[i + e * TOKENS] /= most;
            if (kind > 0 && i % 700 == 0) {
                for (e = 0; e < EXPERTS; e++) r[i + e * TOKENS] = e == EXPERTS - 1 ? 1.0f : kind == 1 ? 1.2e-38f : 0.0f;
            }
        }
        for (i = 0; i < MIXTURES; i++) {
            double sum = 0;
            for (e = 0; e < EXPERTS; e++) sum += w[i * EXPERTS + e] = (double)expf(2 * noise());
            if (kind > 0 && i % 3 == 0) sum -= w[i * EXPERTS + EXPERTS - 1], w[i * EXPERTS + EXPERTS - 1] = 0;
            for (e = 0; e < EXPERTS; e++) w[i * EXPERTS + e] /= sum;
        }
        for (size = 0; size < sizeof tokens / sizeof *tokens; size++) {
            int64_t n = tokens[size];
            mixture_logsums(c, n, n, EXPERTS, r, TOKENS, MIXTURES, w, out);
            mixture_logsums(c, n, MDE__MIXTURES_BLOCK, EXPERTS, r, TOKENS, MIXTURES, w, parts);
            for (i = 0; i < MIXTURES; i++) {
                double one = mixture_logsum(c, n, EXPERTS, r, TOKENS, w + i * EXPERTS, NULL, NULL, NULL);
                CHECK(parts[i] == out[i]);
                if (one < -1e300) CHECK(out[i] == one && kind == 2);
                else CLOSE(out[i], one, 1e-8 * (double)n);
            }
        }
    }
    CHECK(mde_context_status(c) == MDE_OK);
    free(r), free(w);
    mde_context_free(c);
}

/* ---- Same bits ---- */

typedef struct bits { const char *name[64]; uint64_t hash[64]; int count; } bits;

static void keep(bits *b, const char *name, const void *p, size_t bytes)
{
    int i = 0;
    while (i < b->count && strcmp(b->name[i], name) != 0) i++;
    if (i == b->count) {
        b->name[i] = name;
        b->hash[i] = MDE__HASH_START;
        b->count++;
    }
    b->hash[i] = mde__hash(b->hash[i], p, bytes);
}

/* Runs everything on inputs that are always the same. */
static void run_all(mde_context *c, bits *b)
{
    static const struct { const char *name; unary *f; } unaries[] = {
        { "exp", mde__vexp }, { "log", mde__vlog }, { "tanh", mde__vtanh }, { "sigmoid", mde__vsigmoid },
        { "silu", mde__vsilu }, { "gelu", mde__vgelu }, { "sqrt", mde__vsqrt }, { "relu", mde__vrelu },
        { "abs", mde__vabs }, { "sin", mde__vsin }, { "cos", mde__vcos }
    };
    static const int64_t cols[] = { 1, 3, 16, 33, 257 };
    enum { N = 70001 };
    float *x, *y, *z, *r, *gain;
    int64_t i;
    int u, s;
    b->count = 0;
    state = 12345;
    x = noise_array(N, 1), z = noise_array(N, 1), y = zeros(N), r = zeros(N), gain = noise_array(300, 1);
    for (u = 0; u < 11; u++) {
        float *in = zeros(N);
        for (i = 0; i < N; i++) in[i] = u == 1 || u == 6 ? fabsf(x[i]) * 9 : x[i] * 20;
        for (i = 0; i < 2000; i++) {
            in[i] = from_bits((uint32_t)i * 2137621u);
            if (in[i] != in[i] || (u == 6 && in[i] < 0) || (u == 1 && in[i] < 0)) in[i] = 1;
            if (u == 4 || u == 5) in[i] = in[i] < -1e30f ? -1e9f : in[i];
        }
        unaries[u].f(c, N, in, y);
        keep(b, unaries[u].name, y, N * sizeof *y);
        free(in);
    }
    {
        float one = mde__sum_all(c, N, x), two = dot_of(c, N, x, z);
        double three = mde__sum_squares(c, N, x);
        keep(b, "sum", &one, sizeof one);
        keep(b, "dot", &two, sizeof two);
        keep(b, "sum_squares", &three, sizeof three);
    }
    for (s = 0; s < 5; s++) {
        int64_t n = cols[s], rows = s == 3 ? 600 : 13;
        float *mean = zeros(700), *rstd = zeros(700), *dgain = zeros(300), *dbias = zeros(300);
        mde__row_norm norm = norm_of(rows, n, x, gain, 1e-5f, rstd);
        int32_t target[700];
        for (i = 0; i < rows; i++) target[i] = (int32_t)(i % n);
        mde__sum_rows(c, rows, n, x, r);
        keep(b, "sum_rows", r, (size_t)rows * 4);
        mde__sum_columns(c, rows, n, x, 0, r);
        keep(b, "sum_columns", r, (size_t)n * 4);
        mde__softmax_rows(c, rows, n, x, y);
        keep(b, "softmax", y, (size_t)(rows * n) * 4);
        mde__softmax_rows_vjp(c, rows, n, y, z, r);
        keep(b, "softmax_vjp", r, (size_t)(rows * n) * 4);
        mde__log_softmax_rows(c, rows, n, x, y);
        keep(b, "log_softmax", y, (size_t)(rows * n) * 4);
        mde__cross_entropy_rows(c, rows, n, x, target, mean, rstd);
        keep(b, "cross_entropy", mean, (size_t)rows * 4);
        keep(b, "cross_entropy", rstd, (size_t)rows * 4);
        mde__cross_entropy_rows_vjp(c, rows, n, x, target, rstd, z, y);
        keep(b, "cross_entropy_vjp", y, (size_t)(rows * n) * 4);
        mde__rms_norm_rows(c, &norm, y);
        keep(b, "rms_norm", y, (size_t)(rows * n) * 4);
        mde__norm_rows_vjp(c, mde__kernel_rms_norm_vjp(c->simd), &norm, z, 0, y, dgain, NULL);
        keep(b, "rms_norm_vjp", y, (size_t)(rows * n) * 4);
        keep(b, "rms_norm_vjp", dgain, (size_t)n * 4);
        norm.bias = gain;
        norm.mean = mean;
        mde__layer_norm_rows(c, &norm, y);
        keep(b, "layer_norm", y, (size_t)(rows * n) * 4);
        mde__norm_rows_vjp(c, mde__kernel_layer_norm_vjp(c->simd), &norm, z, 0, y, dgain, dbias);
        keep(b, "layer_norm_vjp", y, (size_t)(rows * n) * 4);
        keep(b, "layer_norm_vjp", dgain, (size_t)n * 4);
        keep(b, "layer_norm_vjp", dbias, (size_t)n * 4);
        free(mean), free(rstd), free(dgain), free(dbias);
        if (2 * rows * n > N) continue;
        mde__glu_rows(c, rows, n, x, y);
        keep(b, "glu", y, (size_t)(rows * n) * 4);
        mde__glu_rows_vjp(c, rows, n, x, z, y);
        keep(b, "glu_vjp", y, (size_t)(2 * rows * n) * 4);
    }
    mde__vsilu_vjp(c, N, x, z, y);
    keep(b, "silu_vjp", y, N * sizeof *y);
    mde__vgelu_vjp(c, N, x, z, y);
    keep(b, "gelu_vjp", y, N * sizeof *y);
    {
        mde__attention_shape s1 = shape_of(2, 70, 90, 4, 2, 20, 1);
        size_t nq = 2 * 70 * 4 * 20, nk = 2 * 90 * 2 * 20;
        float *lse = zeros(600), *dq = zeros(nq), *dk = zeros(nk), *dv = zeros(nk);
        mde__rotation rotation = rotation_of(2, 70, 4, 20, z, z + 700);
        float *scratch = zeros(mde__attention_scratch(c, &s1) + mde__attention_vjp_scratch(c, &s1));
        attention(c, attention_of(&s1, x, z, x + 20000, 0.9f, y, lse, scratch));
        keep(b, "attention", y, nq * 4);
        keep(b, "attention", lse, 560 * 4);
        attention_vjp(c, attention_of(&s1, x, z, x + 20000, 0.9f, y, lse, scratch), z + 30000, dq, dk, dv);
        keep(b, "attention_vjp", dq, nq * 4);
        keep(b, "attention_vjp", dk, nk * 4);
        keep(b, "attention_vjp", dv, nk * 4);
        mde__rotate_heads(c, &rotation, x, y);
        keep(b, "rope", y, nq * 4);
        free(lse), free(dq), free(dk), free(dv), free(scratch);
    }
    {
        float *workspace = zeros(mde__gemm_workspace(c, 130, 150, 300));
        product(c, mde_product_of(0, 0, 130, 150, 60, x, z), 0, y, workspace);
        product(c, mde_product_of(1, 1, 130, 150, 300, x, z), 1, y, workspace);
        keep(b, "gemm", y, 130 * 150 * 4);
        free(workspace);
    }
    {
        float *m = zeros(N), *v = zeros(N);
        memcpy(y, x, N * sizeof *y);
        for (i = 1; i < 4; i++) {
            mde__adam adam = adam_of(1e-3, 0.9, 0.99, 0.1, 0.1 * (double)i, 0.01, 0.7f);
            mde__adamw(c, &adam, N, z, y, m, v);
        }
        keep(b, "adamw", y, N * sizeof *y);
        free(m), free(v);
    }
    {
        double w[7], g[7], h[49], sum;
        float *count = zeros(9999);
        for (i = 0; i < 7; i++) w[i] = (double)(i + 1) / 28;
        for (i = 0; i < N; i++) y[i] = expf(3 * x[i]);
        for (i = 0; i < 9999; i++) count[i] = (float)(i % 3);
        sum = mixture_logsum(c, 9999, 7, y, 10000, w, NULL, g, h);
        keep(b, "mixture", &sum, sizeof sum);
        keep(b, "mixture", g, sizeof g);
        keep(b, "mixture", h, sizeof h);
        for (i = 0; i < N; i++) z[i] = y[i] < 1 ? y[i] : 1;
        mixture_logsums(c, 9999, 9999, 7, z, 10000, 1, w, &sum);
        keep(b, "mixtures", &sum, sizeof sum);
        sum = mixture_logsum(c, 9999, 7, y, 10000, w, count, g, h);
        keep(b, "mixture", &sum, sizeof sum);
        keep(b, "mixture", g, sizeof g);
        free(count);
    }
    free(x), free(y), free(z), free(r), free(gain);
}

static void every_instruction_set_and_number_of_threads_gives_the_same_bits(void)
{
    bits expected, got;
    int set, threads, i;
    mde_context *c = context_of(0, 1);
    run_all(c, &expected);
    mde_context_free(c);
    for (set = 0; set < SETS; set++) {
        for (threads = 1; threads <= 3; threads++) {
            if ((set == 0 || set == SETS - 1) && threads == 2) continue;
            c = context_of(set, threads);
            if (!c) continue;
            run_all(c, &got);
            CHECK(got.count == expected.count);
            for (i = 0; i < got.count && i < expected.count; i++) {
                if (got.hash[i] != expected.hash[i]) {
                    printf("    %s, %s, %d threads\n", got.name[i], mde_simd_name(c), threads);
                }
                CHECK(got.hash[i] == expected.hash[i]);
            }
            mde_context_free(c);
        }
    }
    if (getenv("MDE_TEST_HASHES")) {
        for (i = 0; i < expected.count; i++) {
            printf("    %s %016llx\n", expected.name[i], (unsigned long long)expected.hash[i]);
        }
    }
}

int main(void)
{
    TEST(emulated_fma_is_rounded_once);
    TEST(vector_fma_of_every_set_is_rounded_once);
    TEST(elementary_functions_err_by_two_units_at_most);
    TEST(gated_units_follow_their_formula);
    TEST(slopes_and_packed_gates_follow_their_formulas);
    TEST(special_values_are_right);
    TEST(elementwise_kernels_do_each_element_once);
    TEST(a_product_of_no_terms_is_zero_and_stays_in_its_rows);
    TEST(reductions_add_every_element_once);
    TEST(row_and_column_sums_are_sums);
    TEST(softmax_and_cross_entropy_follow_their_formulas);
    TEST(norms_and_their_gradients_follow_their_formulas);
    TEST(rope_turns_pairs_and_back);
    TEST(workspace_for_many_rows_does_for_few);
    TEST(products_are_one_chain_in_order_of_k);
    TEST(the_product_of_one_row_has_the_bits_of_all_products);
    TEST(batched_products_equal_single_ones);
    TEST(attention_and_its_gradients_follow_their_formulas);
    TEST(decoding_one_token_gives_the_bits_of_the_full_pass);
    TEST(adamw_follows_its_paper);
    TEST(a_strip_of_sums_says_whether_they_can_be_multiplied);
    TEST(mixture_likelihood_and_derivatives_follow_their_formulas);
    TEST(many_mixtures_give_the_sums_of_one_by_one);
    TEST(every_instruction_set_and_number_of_threads_gives_the_same_bits);
    return test_end();
}
