/* Ops over images: each against a plain loop in double, every derivative of first and second order against finite
   differences, adjoints against each other, and the same bits for any number of threads and any instruction set. */
#include "../dagan.h"
#include "test.h"

static mde_context *context_with(int threads, int simd)
{
    mde_context_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.threads = threads;
    desc.simd = simd;
    return mde_context_create(&desc);
}

static mde_tensor *noise(mde_context *c, int rank, const int64_t *shape, uint64_t seed)
{
    mde_tensor *t = mde_tensor_create(c, rank, shape);
    mde_random r = mde_random_start(seed, 0);
    size_t i;
    for (i = 0; t && i < t->count; i++) t->data[i] = (float)mde_random_normal(&r);
    return t;
}

static mde_tensor *noise4(mde_context *c, int64_t a, int64_t b, int64_t d, int64_t e, uint64_t seed)
{
    int64_t shape[4];
    shape[0] = a;
    shape[1] = b;
    shape[2] = d;
    shape[3] = e;
    return noise(c, 4, shape, seed);
}

static double inner(const mde_tensor *a, const mde_tensor *b)
{
    double sum = 0;
    size_t i;
    if (!a || !b || a->count != b->count) return (double)NAN;
    for (i = 0; i < a->count; i++) sum += (double)a->data[i] * (double)b->data[i];
    return sum;
}

/* ---- Values ---- */

static double plain_conv(const mde_tensor *x, const mde_tensor *w, int stride, int padding, const int64_t *at)
{
    double sum = 0;
    int64_t i, j, k;
    for (i = 0; i < w->shape[0]; i++) {
        for (j = 0; j < w->shape[1]; j++) {
            int64_t row = at[1] * stride + i - padding, column = at[2] * stride + j - padding;
            if (row < 0 || column < 0 || row >= x->shape[1] || column >= x->shape[2]) continue;
            for (k = 0; k < x->shape[3]; k++) {
                sum += (double)x->data[((at[0] * x->shape[1] + row) * x->shape[2] + column) * x->shape[3] + k] *
                       (double)w->data[((i * w->shape[1] + j) * w->shape[2] + k) * w->shape[3] + at[3]];
            }
        }
    }
    return sum;
}

static void convolutions_agree_with_a_plain_loop(void)
{
    static const int64_t sizes[][6] = { /* h, w, in, kh, kw, out */
        { 7, 6, 3, 3, 2, 5 }, { 5, 5, 1, 3, 3, 1 }, { 9, 4, 17, 1, 1, 7 }, { 28, 28, 8, 3, 3, 12 },
        { 6, 11, 2, 5, 5, 33 }, { 13, 13, 16, 3, 3, 16 }
    };
    size_t s;
    for (s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int64_t *z = sizes[s];
        mde_context *c = context_with(2, MDE_SIMD_BEST);
        mde_tensor *x = noise4(c, 3, z[0], z[1], z[2], 1), *w = noise4(c, z[3], z[4], z[2], z[5], 2);
        int stride, padding;
        for (stride = 1; stride <= 3; stride++) {
            for (padding = 0; padding <= 2; padding++) {
                mde_tensor *y = dagan_conv2d(c, x, w, stride, padding);
                double worst = 0;
                int64_t at[4], i;
                CHECK(y != NULL);
                if (!y) break;
                CHECK(y->shape[1] == (z[0] + 2 * padding - z[3]) / stride + 1);
                CHECK(y->shape[2] == (z[1] + 2 * padding - z[4]) / stride + 1);
                for (i = 0; i < (int64_t)y->count; i++) {
                    double d;
                    at[3] = i % y->shape[3];
                    at[2] = i / y->shape[3] % y->shape[2];
                    at[1] = i / y->shape[3] / y->shape[2] % y->shape[1];
                    at[0] = i / y->shape[3] / y->shape[2] / y->shape[1];
                    d = fabs(plain_conv(x, w, stride, padding, at) - (double)y->data[i]);
                    if (!(d <= worst)) worst = d;
                }
                CLOSE(worst, 0, 5e-5);
            }
        }
        mde_context_free(c);
    }
}

/* With both signs before the leaky ReLU. */
static void a_fused_convolution_gives_the_bits_of_its_parts(void)
{
    mde_context *c = context_with(1, MDE_SIMD_BEST);
    int64_t channels = 5;
    mde_tensor *x = noise4(c, 3, 9, 7, 4, 1), *w = noise4(c, 3, 3, 4, 5, 2), *bias = noise(c, 1, &channels, 3), *y, *z;
    y = dagan_conv2d_leaky(c, x, w, bias, 2, 1, 0.2);
    z = dagan_leaky_relu(c, dagan_scale_channels(c, dagan_conv2d(c, x, w, 2, 1), NULL, bias), 0.2);
    CHECK(y && z && y->count == z->count && memcmp(y->data, z->data, y->count * sizeof *y->data) == 0);
    mde_context_free(c);
}

/* <conv(x, w), g> = <x, transpose(g, w)> = <w, weight(x, g)>: with the loop above this fixes the other two. */
static void the_three_convolutions_are_adjoint(void)
{
    static const int64_t channels[][2] = { { 1, 4 }, { 3, 5 }, { 8, 8 }, { 16, 3 }, { 9, 20 } };
    size_t s;
    for (s = 0; s < sizeof channels / sizeof *channels; s++) {
        int stride, padding, kernel;
        for (kernel = 1; kernel <= 3; kernel++) {
            for (stride = 1; stride <= 3; stride++) {
                for (padding = 0; padding <= 3; padding++) {
                    mde_context *c = context_with(2, MDE_SIMD_BEST);
                    mde_tensor *x = noise4(c, 11, 8, 7, channels[s][0], 1);
                    mde_tensor *w = noise4(c, kernel, kernel, channels[s][0], channels[s][1], 2);
                    mde_tensor *y = dagan_conv2d(c, x, w, stride, padding), *g = NULL;
                    double value, size;
                    if (y) g = noise(c, 4, y->shape, 3);
                    size = sqrt(inner(y, y) * inner(g, g));
                    value = inner(y, g) / size;
                    CLOSE(inner(x, dagan_conv2d_transpose(c, g, w, stride, padding, 8, 7)) / size, value, 1e-6);
                    CLOSE(inner(w, dagan_conv2d_weight(c, x, g, stride, padding, kernel, kernel)) / size, value, 1e-6);
                    CHECK(*mde_error(c) == 0);
                    mde_context_free(c);
                }
            }
        }
    }
}

static void pooling_and_upsampling_agree_with_plain_loops(void)
{
    mde_context *c = context_with(2, MDE_SIMD_BEST);
    mde_tensor *x = noise4(c, 2, 7, 5, 3, 4), *mean = dagan_avg_pool(c, x, 2), *maximum = dagan_max_pool(c, x, 2);
    mde_tensor *all = dagan_global_pool(c, x), *large = dagan_upsample(c, x, 9, 13);
    int64_t n, i, j, k, u, v;
    CHECK(mean && maximum && all && large && all->rank == 2);
    CHECK(mean->shape[1] == 3 && mean->shape[2] == 2 && maximum->shape[1] == 3 && maximum->shape[2] == 2);
    for (n = 0; n < 2; n++) {
        for (k = 0; k < 3; k++) {
            double sum = 0;
            for (i = 0; i < 7; i++) for (j = 0; j < 5; j++) sum += (double)x->data[((n * 7 + i) * 5 + j) * 3 + k];
            CLOSE(all->data[n * 3 + k], sum / 35, 1e-6);
            for (i = 0; i < 3; i++) {
                for (j = 0; j < 2; j++) {
                    double part = 0, top = -1e9;
                    for (u = 0; u < 2; u++) {
                        for (v = 0; v < 2; v++) {
                            double value = (double)x->data[((n * 7 + 2 * i + u) * 5 + 2 * j + v) * 3 + k];
                            part += value / 4;
                            if (value > top) top = value;
                        }
                    }
                    CLOSE(mean->data[((n * 3 + i) * 2 + j) * 3 + k], part, 1e-6);
                    CLOSE(maximum->data[((n * 3 + i) * 2 + j) * 3 + k], top, 0);
                }
            }
            for (i = 0; i < 9; i++) {
                for (j = 0; j < 13; j++) {
                    float want = x->data[((n * 7 + i * 7 / 9) * 5 + j * 5 / 13) * 3 + k];
                    CLOSE(large->data[((n * 9 + i) * 13 + j) * 3 + k], want, 0);
                }
            }
        }
    }
    mde_context_free(c);
}

static void modulation_agrees_with_a_plain_loop(void)
{
    mde_context *c = context_with(2, MDE_SIMD_BEST);
    int64_t shape[2] = { 3, 6 }, i;
    mde_tensor *x = noise4(c, 3, 5, 4, 6, 7), *gain = noise(c, 2, shape, 8), *shift = noise(c, 2, shape, 9);
    mde_tensor *y = dagan_modulate(c, x, gain, shift), *z = dagan_modulate(c, x, gain, NULL);
    CHECK(y && z && y->rank == 4 && y->count == x->count && z->count == x->count);
    for (i = 0; y && z && i < (int64_t)x->count; i++) {
        int64_t at = i / (5 * 4 * 6) * 6 + i % 6;
        double product = (double)x->data[i] * (double)gain->data[at];
        CLOSE(z->data[i], product, 1e-6);
        CLOSE(y->data[i], product + (double)shift->data[at], 1e-6);
    }
    mde_context_free(c);
}

/* Groups by hand: all of the batch, one image, one channel of one image. */
static void normalizations_have_mean_zero_and_variance_one(void)
{
    mde_context *c = context_with(2, MDE_SIMD_BEST);
    mde_tensor *x = noise4(c, 5, 19, 7, 6, 5), *y[3];
    int kind;
    size_t i;
    for (i = 0; i < x->count; i++) x->data[i] = x->data[i] * (float)(1 + i % 6) + (float)(i % 6) * 10;
    y[0] = dagan_batch_normalize(c, x, 1e-3);
    y[1] = dagan_image_normalize(c, x, 1e-3);
    y[2] = dagan_instance_normalize(c, x, 1e-3);
    for (kind = 0; kind < 3; kind++) {
        int64_t n, k;
        for (n = 0; n < (kind == 0 ? 1 : 5); n++) {
            for (k = 0; k < (kind == 1 ? 1 : 6); k++) {
                double sum = 0, square = 0, count = 0, mean, variance;
                size_t first = 0;
                for (i = 0; i < x->count; i++) {
                    if ((kind && (int64_t)(i / (19 * 7 * 6)) != n) || (kind != 1 && (int64_t)(i % 6) != k)) continue;
                    if (count++ == 0) first = i;
                    sum += (double)x->data[i];
                    square += (double)x->data[i] * (double)x->data[i];
                }
                mean = sum / count;
                variance = square / count - mean * mean;
                CLOSE(y[kind]->data[first], ((double)x->data[first] - mean) / sqrt(variance + 1e-3), 1e-5);
            }
        }
    }
    mde_context_free(c);
}

static void batch_norm_keeps_running_statistics(void)
{
    mde_context *c = context_with(1, MDE_SIMD_BEST);
    int64_t channels = 2;
    mde_tensor *x = noise4(c, 8, 6, 6, 2, 6), *mean = mde_tensor_create(c, 1, &channels);
    mde_tensor *variance = mde_tensor_create(c, 1, &channels), *y, *z;
    float m[2], v[2];
    size_t i;
    dagan_batch_norm_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.running_mean = mean;
    desc.running_variance = variance;
    desc.momentum = 0.9;
    desc.epsilon = 1e-3;
    variance->data[0] = variance->data[1] = 1;
    for (i = 0; i < x->count; i++) x->data[i] = 3 + 2 * x->data[i];
    dagan_channel_moments(c, x, m, v);
    CLOSE(m[0], 3, 0.3);
    CLOSE(v[0], 4, 0.3);
    desc.training = 1;
    y = dagan_batch_norm(c, x, &desc);
    CLOSE(mean->data[0], 0.1 * (double)m[0], 1e-6);
    CLOSE(variance->data[1], 0.9 + 0.1 * (double)v[1], 1e-6);
    CLOSE(y->data[5], ((double)x->data[5] - (double)m[1]) / sqrt((double)v[1] + 1e-3), 1e-5);
    desc.training = 0;
    z = dagan_batch_norm(c, x, &desc);
    CLOSE(z->data[5], ((double)x->data[5] - (double)mean->data[1]) / sqrt((double)variance->data[1] + 1e-3), 1e-5);
    CLOSE(mean->data[0], 0.1 * (double)m[0], 1e-6);
    /* Renormalized, a batch gives what the running statistics give, as long as the corrections are within bounds. */
    mean->data[1] = 2.5f;
    variance->data[1] = 3;
    z = dagan_batch_norm(c, x, &desc);
    desc.training = desc.renorm = 1;
    y = dagan_batch_norm(c, x, &desc);
    CLOSE(y->data[5], z->data[5], 1e-5);
    mde_context_free(c);
}

/* ---- Derivatives ---- */

typedef mde_tensor *op_fn(mde_context *c, mde_tensor *const *in);
/* Steps of the differences: where the loss is a polynomial of degree four or less a large one is exact. */
enum { POLYNOMIAL, SMOOTH, KINKED };
typedef struct op_case { const char *name; op_fn *call; int inputs, kind; int64_t shape[3][4]; } op_case;

static mde_tensor *conv_1(mde_context *c, mde_tensor *const *in) { return dagan_conv2d(c, in[0], in[1], 1, 1); }
/* Channels are kept to one side of the kink each by a bias of 30 or -30. */
static mde_tensor *conv_leaky(mde_context *c, mde_tensor *const *in)
{
    int64_t channels = in[2]->shape[3], k;
    mde_tensor *apart = mde_tensor_create(c, 1, &channels);
    for (k = 0; apart && k < channels; k++) apart->data[k] = k % 2 ? 30.0f : -30.0f;
    return dagan_conv2d_leaky(c, in[0], in[1], mde_add(c, mde_reshape(c, in[2], 1, &channels), apart), 1, 1, 0.2);
}
static mde_tensor *conv_2(mde_context *c, mde_tensor *const *in) { return dagan_conv2d(c, in[0], in[1], 2, 1); }
static mde_tensor *transpose_1(mde_context *c, mde_tensor *const *in)
{
    return dagan_conv2d_transpose(c, in[0], in[1], 1, 1, 5, 6);
}
static mde_tensor *transpose_2(mde_context *c, mde_tensor *const *in)
{
    return dagan_conv2d_transpose(c, in[0], in[1], 2, 1, 5, 6);
}
static mde_tensor *weight_2(mde_context *c, mde_tensor *const *in)
{
    return dagan_conv2d_weight(c, in[0], in[1], 2, 1, 3, 3);
}
static mde_tensor *avg_pool(mde_context *c, mde_tensor *const *in) { return dagan_avg_pool(c, in[0], 2); }
static mde_tensor *max_pool(mde_context *c, mde_tensor *const *in) { return dagan_max_pool(c, in[0], 2); }
static mde_tensor *global_pool(mde_context *c, mde_tensor *const *in) { return dagan_global_pool(c, in[0]); }
static mde_tensor *upsample(mde_context *c, mde_tensor *const *in) { return dagan_upsample(c, in[0], 9, 11); }
static mde_tensor *leaky(mde_context *c, mde_tensor *const *in) { return dagan_leaky_relu(c, in[0], 0.2); }
static mde_tensor *scale(mde_context *c, mde_tensor *const *in)
{
    int64_t channels = in[1]->shape[3];
    return dagan_scale_channels(c, in[0], mde_reshape(c, in[1], 1, &channels), mde_reshape(c, in[2], 1, &channels));
}
static mde_tensor *scale_images(mde_context *c, mde_tensor *const *in)
{
    return dagan_modulate(c, in[0], mde_reshape(c, in[1], 2, in[1]->shape + 2), NULL);
}
static mde_tensor *modulate(mde_context *c, mde_tensor *const *in)
{
    return dagan_modulate(c, in[0], mde_reshape(c, in[1], 2, in[1]->shape + 2),
                          mde_reshape(c, in[2], 2, in[2]->shape + 2));
}

/* A row that no public function calls. args: as it takes them. */
static mde_tensor *row_named(mde_context *c, const char *name, mde_tensor *const *in, int64_t a, int64_t b, int64_t d)
{
    mde_args args;
    int i;
    memset(&args, 0, sizeof args);
    args.i[0] = a;
    args.i[1] = b;
    args.i[2] = d;
    args.f[0] = 1e-2;
    for (i = 0; i < dagan_op_count(); i++) {
        if (strcmp(dagan_op_row(i)->name, name) == 0) return mde_apply(c, dagan_op_row(i), in, &args);
    }
    return NULL;
}
static mde_tensor *avg_adjoint(mde_context *c, mde_tensor *const *in)
{
    return row_named(c, "avg_pool_adjoint", in, 2, 5, 7);
}
static mde_tensor *upsample_adjoint(mde_context *c, mde_tensor *const *in)
{
    return row_named(c, "upsample_adjoint", in, 0, 3, 4);
}
/* The maxima of a tensor that does not move, which the values do. */
static mde_tensor *max_adjoint(mde_context *c, mde_tensor *const *in)
{
    mde_tensor *both[2];
    both[0] = noise4(c, 2, 5, 6, 4, 8);
    both[1] = in[0];
    return row_named(c, "max_pool_adjoint", both, 2, 0, 0);
}
static mde_tensor *deviation(mde_context *c, mde_tensor *const *in)
{
    return row_named(c, "inverse_deviation", in, 2, 0, 0);
}
static mde_tensor *batch(mde_context *c, mde_tensor *const *in) { return dagan_batch_normalize(c, in[0], 1e-2); }
static mde_tensor *image(mde_context *c, mde_tensor *const *in) { return dagan_image_normalize(c, in[0], 1e-2); }
static mde_tensor *instance(mde_context *c, mde_tensor *const *in) { return dagan_instance_normalize(c, in[0], 1e-2); }

static const op_case cases[] = {
    { "conv2d", conv_1, 2, POLYNOMIAL, { { 3, 5, 6, 4 }, { 3, 3, 4, 5 }, { 0, 0, 0, 0 } } },
    { "conv2d, stride 2", conv_2, 2, POLYNOMIAL, { { 3, 5, 6, 4 }, { 3, 3, 4, 5 }, { 0, 0, 0, 0 } } },
    { "conv2d_leaky", conv_leaky, 3, POLYNOMIAL, { { 3, 5, 6, 4 }, { 3, 3, 4, 5 }, { 1, 1, 1, 5 } } },
    { "conv2d_transpose", transpose_1, 2, POLYNOMIAL, { { 3, 5, 6, 5 }, { 3, 3, 9, 5 }, { 0, 0, 0, 0 } } },
    { "conv2d_transpose, stride 2", transpose_2, 2, POLYNOMIAL, { { 3, 3, 3, 5 }, { 3, 3, 4, 5 }, { 0, 0, 0, 0 } } },
    { "conv2d_weight", weight_2, 2, POLYNOMIAL, { { 3, 5, 6, 4 }, { 3, 3, 3, 5 }, { 0, 0, 0, 0 } } },
    { "avg_pool", avg_pool, 1, POLYNOMIAL, { { 2, 5, 6, 4 }, { 0, 0, 0, 0 }, { 0, 0, 0, 0 } } },
    { "max_pool", max_pool, 1, KINKED, { { 2, 5, 6, 4 }, { 0, 0, 0, 0 }, { 0, 0, 0, 0 } } },
    { "global_pool", global_pool, 1, POLYNOMIAL, { { 2, 5, 6, 4 }, { 0, 0, 0, 0 }, { 0, 0, 0, 0 } } },
    { "upsample", upsample, 1, POLYNOMIAL, { { 2, 5, 6, 4 }, { 0, 0, 0, 0 }, { 0, 0, 0, 0 } } },
    { "leaky_relu", leaky, 1, KINKED, { { 2, 5, 6, 4 }, { 0, 0, 0, 0 }, { 0, 0, 0, 0 } } },
    { "scale_channels", scale, 3, POLYNOMIAL, { { 2, 5, 6, 4 }, { 1, 1, 1, 4 }, { 1, 1, 1, 4 } } },
    { "scale_images", scale_images, 2, POLYNOMIAL, { { 2, 5, 6, 4 }, { 1, 1, 2, 4 }, { 0, 0, 0, 0 } } },
    { "modulate", modulate, 3, POLYNOMIAL, { { 2, 5, 6, 4 }, { 1, 1, 2, 4 }, { 1, 1, 2, 4 } } },
    { "avg_pool_adjoint", avg_adjoint, 1, POLYNOMIAL, { { 2, 2, 3, 4 }, { 0, 0, 0, 0 }, { 0, 0, 0, 0 } } },
    { "max_pool_adjoint", max_adjoint, 1, POLYNOMIAL, { { 2, 2, 3, 4 }, { 0, 0, 0, 0 }, { 0, 0, 0, 0 } } },
    { "upsample_adjoint", upsample_adjoint, 1, POLYNOMIAL, { { 2, 5, 7, 4 }, { 0, 0, 0, 0 }, { 0, 0, 0, 0 } } },
    { "inverse_deviation", deviation, 1, SMOOTH, { { 3, 5, 6, 4 }, { 0, 0, 0, 0 }, { 0, 0, 0, 0 } } },
    { "normalize, over the batch", batch, 1, SMOOTH, { { 3, 5, 6, 4 }, { 0, 0, 0, 0 }, { 0, 0, 0, 0 } } },
    { "normalize, over an image", image, 1, SMOOTH, { { 3, 5, 6, 4 }, { 0, 0, 0, 0 }, { 0, 0, 0, 0 } } },
    { "normalize, over an instance", instance, 1, SMOOTH, { { 3, 5, 6, 4 }, { 0, 0, 0, 0 }, { 0, 0, 0, 0 } } }
};

#define CASES ((int)(sizeof cases / sizeof *cases))

/* Inputs of a case, moved by `move` along fixed directions. Where the op has kinks, values keep away from them: a tenth
   apart within a window of 2 x 2, and at least 0.05 from 0, more than a move shifts them by. */
static void make_inputs(mde_context *c, const op_case *o, double move, mde_tensor **in)
{
    int k;
    size_t i;
    for (k = 0; k < o->inputs; k++) {
        mde_tensor *way = noise(c, 4, o->shape[k], 20 + (uint64_t)k);
        in[k] = noise(c, 4, o->shape[k], 10 + (uint64_t)k);
        for (i = 0; o->kind == KINKED && i < in[k]->count; i++) in[k]->data[i] = 0.1f * (float)((i * 89) % 25) - 1.25f;
        for (i = 0; i < in[k]->count; i++) in[k]->data[i] += (float)(move * (double)way->data[i]);
        in[k]->requires_grad = 1;
    }
}

/* L = sum of weights * y^2, S = sum over inputs of <dL/dx, q>: returns L (in double), and S with its gradients. */
static double evaluate(mde_context *c, const op_case *o, mde_tensor **in, mde_tensor **dx, double *second,
                       mde_tensor **ddx, double *gap)
{
    mde_tensor *y = o->call(c, in), *weights, *loss, *s = NULL, *fast[3];
    double value = 0;
    size_t i;
    int k;
    if (!y) return (double)NAN;
    weights = noise(c, y->rank, y->shape, 9);
    loss = mde_sum(c, mde_mul(c, mde_mul(c, y, y), weights));
    for (i = 0; i < y->count; i++) value += (double)y->data[i] * (double)y->data[i] * (double)weights->data[i];
    mde_grad(c, loss, o->inputs, in, fast, 0);
    mde_grad(c, loss, o->inputs, in, dx, 1);
    *second = 0;
    *gap = 0;
    for (k = 0; k < o->inputs && mde_context_status(c) == MDE_OK; k++) {
        mde_tensor *q = noise(c, in[k]->rank, in[k]->shape, 30 + (uint64_t)k);
        mde_tensor *part = mde_sum(c, mde_mul(c, dx[k], q));
        s = s ? mde_add(c, s, part) : part;
        *second += inner(dx[k], q);
        for (i = 0; i < dx[k]->count; i++) {
            double size = fabs((double)dx[k]->data[i]);
            double d = fabs((double)dx[k]->data[i] - (double)fast[k]->data[i]) / (size > 1 ? size : 1);
            if (!(d <= *gap)) *gap = d;
        }
    }
    if (ddx) mde_grad(c, s, o->inputs, in, ddx, 1);
    return value;
}

static void derivatives_agree_with_finite_differences(void)
{
    static const double steps[3] = { 0.05, 0.01, 5e-3 };
    int n, k, at;
    for (n = 0; n < CASES; n++) {
        const op_case *o = &cases[n];
        mde_context *c = context_with(1, MDE_SIMD_BEST);
        mde_tensor *in[3], *dx[3], *ddx[3];
        double first[5], second[5], slope = 0, curvature = 0, gap, scale1, scale2;
        double step = steps[o->kind];
        int before = test_bad;
        for (at = -2; at <= 2; at++) {
            make_inputs(c, o, at * step, in);
            first[at + 2] = evaluate(c, o, in, dx, &second[at + 2], at ? NULL : ddx, &gap);
            for (k = 0; at == 0 && k < o->inputs && mde_context_status(c) == MDE_OK; k++) {
                mde_tensor *way = noise(c, 4, o->shape[k], 20 + (uint64_t)k);
                slope += inner(dx[k], way);
                curvature += inner(ddx[k], way);
            }
            CLOSE(gap, 0, 1e-5);
        }
        CHECK(*mde_error(c) == 0);
        scale1 = (first[0] - 8 * first[1] + 8 * first[3] - first[4]) / (12 * step);
        scale2 = (second[0] - 8 * second[1] + 8 * second[3] - second[4]) / (12 * step);
        CLOSE(slope, scale1, 3e-4);
        CLOSE(curvature, scale2, 3e-4);
        if (test_bad > before) printf("    in %s\n", o->name);
        mde_context_free(c);
    }
}

/* ---- Promises of the whole ---- */

/* Value, gradient and second gradient of every case, in one number. */
static uint64_t hash_of_all(int threads, int simd)
{
    mde_context *c = context_with(threads, simd);
    uint64_t hash = 7;
    int n, k;
    for (n = 0; c && n < CASES; n++) {
        mde_tensor *in[3], *dx[3], *ddx[3];
        double second, gap;
        make_inputs(c, &cases[n], 0, in);
        evaluate(c, &cases[n], in, dx, &second, ddx, &gap);
        for (k = 0; k < cases[n].inputs && mde_context_status(c) == MDE_OK; k++) {
            size_t i;
            for (i = 0; i < dx[k]->count; i++) {
                uint32_t a, b;
                memcpy(&a, dx[k]->data + i, 4);
                memcpy(&b, ddx[k]->data + i, 4);
                hash = (hash ^ a) * UINT64_C(0x100000001b3) ^ b;
            }
        }
    }
    mde_context_free(c);
    return hash;
}

static void threads_and_instruction_sets_do_not_change_the_bits(void)
{
    uint64_t want = hash_of_all(1, MDE_SIMD_BEST);
    CHECK(want != 7);
    CHECK(hash_of_all(2, MDE_SIMD_BEST) == want);
    CHECK(hash_of_all(3, MDE_SIMD_BEST) == want);
    CHECK(hash_of_all(1, MDE_SIMD_PORTABLE) == want);
}

static void bad_shapes_are_refused_with_a_sentence(void)
{
    mde_context *c = context_with(1, MDE_SIMD_BEST);
    mde_tensor *x = noise4(c, 2, 5, 5, 3, 1), *w = noise4(c, 3, 3, 3, 4, 2), *odd = noise4(c, 3, 3, 2, 4, 3);
    mde_tensor *g = noise4(c, 2, 4, 5, 4, 4);
    int64_t three = 3;
    mde_tensor *row = noise(c, 1, &three, 5);
#define REFUSED(call, part) \
    do { \
        CHECK((call) == NULL); \
        CHECK_TEXT(mde_error(c), part); \
        mde_clear_error(c); \
    } while (0)
    REFUSED(dagan_conv2d(c, x, odd, 1, 1), "x has 3 channels");
    REFUSED(dagan_conv2d(c, x, w, 0, 1), "stride 0");
    REFUSED(dagan_conv2d(c, x, w, 1, -1), "padding -1");
    REFUSED(dagan_conv2d(c, row, w, 1, 1), "rank 1");
    REFUSED(dagan_conv2d(c, x, NULL, 1, 1), "NULL");
    REFUSED(dagan_conv2d(c, noise4(c, 1, 1, 1, 3, 1), w, 1, 0), "a kernel of 3 x 3 on images of 1 x 1");
    REFUSED(dagan_conv2d_transpose(c, g, w, 1, 1, 5, 5), "conv2d_transpose: g is [2, 4, 5, 4]");
    REFUSED(dagan_conv2d_weight(c, x, g, 1, 1, 3, 3), "conv2d_weight: g is [2, 4, 5, 4]");
    REFUSED(dagan_avg_pool(c, x, 0), "windows of 0 x 0");
    REFUSED(dagan_max_pool(c, x, 6), "windows of 6 x 6");
    REFUSED(dagan_upsample(c, x, 4, 9), "smaller");
    REFUSED(dagan_scale_channels(c, g, row, row), "channels");
    REFUSED(dagan_modulate(c, x, row, NULL), "scale_images: expected x");
    REFUSED(dagan_modulate(c, x, noise4(c, 2, 1, 1, 3, 1), row), "modulate: expected x");
    REFUSED(dagan_image_normalize(c, row, 1e-3), "rank 1");
    REFUSED(dagan_batch_norm(c, x, NULL), "running statistics");
#undef REFUSED
    mde_context_free(c);
}

typedef struct failing { int64_t left; } failing;

static void *allocate_some(size_t bytes, void *user)
{
    failing *f = (failing *)user;
    return f->left-- > 0 ? malloc(bytes) : NULL;
}

static void release_some(void *p, void *user)
{
    (void)user;
    free(p);
}

static void every_failed_allocation_is_reported(void)
{
    int64_t n, ended = 0;
    for (n = 1; n < 200 && !ended; n++) {
        failing f;
        mde_context_desc desc;
        mde_context *c;
        f.left = n;
        memset(&desc, 0, sizeof desc);
        desc.allocate = allocate_some;
        desc.release = release_some;
        desc.user = &f;
        c = mde_context_create(&desc);
        if (!c) continue;
        {
            mde_tensor *x = noise4(c, 40, 28, 28, 8, 1), *w = noise4(c, 3, 3, 8, 8, 2), *dx[2], *in[2], *y;
            if (x) x->requires_grad = 1;
            if (w) w->requires_grad = 1;
            in[0] = x;
            in[1] = w;
            y = mde_context_status(c) == MDE_OK ? dagan_image_normalize(c, dagan_conv2d(c, x, w, 1, 1), 1e-3) : NULL;
            if (y) mde_grad(c, mde_mul(c, y, y), 2, in, dx, 1);
        }
        if (mde_context_status(c) == MDE_OK) ended = 1;
        else CHECK(mde_context_status(c) == MDE_OUT_OF_MEMORY);
        mde_context_free(c);
    }
    CHECK(ended && n > 3);
}

static void the_table_holds_every_op(void)
{
    int i, j;
    CHECK(dagan_op_count() >= 16);
    for (i = 0; i < dagan_op_count(); i++) {
        CHECK(dagan_op_row(i)->name && dagan_op_row(i)->forward && dagan_op_row(i)->vjp);
        for (j = 0; j < i; j++) CHECK(strcmp(dagan_op_row(i)->name, dagan_op_row(j)->name) != 0);
    }
    /* A row without a case fails: a case is named as its row, or as that and a comma. */
    for (i = 0; i < dagan_op_count(); i++) {
        size_t length = strlen(dagan_op_row(i)->name);
        for (j = 0; j < CASES && (strncmp(cases[j].name, dagan_op_row(i)->name, length) != 0 ||
                                  (cases[j].name[length] && cases[j].name[length] != ',')); j++) {}
        CHECK(j < CASES);
        if (j == CASES) printf("    no case for %s\n", dagan_op_row(i)->name);
    }
    CHECK(dagan_op_row(-1) == NULL && dagan_op_row(dagan_op_count()) == NULL);
}

int main(void)
{
    TEST(convolutions_agree_with_a_plain_loop);
    TEST(a_fused_convolution_gives_the_bits_of_its_parts);
    TEST(the_three_convolutions_are_adjoint);
    TEST(pooling_and_upsampling_agree_with_plain_loops);
    TEST(modulation_agrees_with_a_plain_loop);
    TEST(normalizations_have_mean_zero_and_variance_one);
    TEST(batch_norm_keeps_running_statistics);
    TEST(derivatives_agree_with_finite_differences);
    TEST(threads_and_instruction_sets_do_not_change_the_bits);
    TEST(bad_shapes_are_refused_with_a_sentence);
    TEST(every_failed_allocation_is_reported);
    TEST(the_table_holds_every_op);
    return test_end();
}
