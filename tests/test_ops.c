/* Tensors, tape and ops: every op and its derivatives of first and second order against plain double precision. */
#define MDEDEF static
#define MDEMIX_IMPLEMENTATION
#include "../mdemix.h"
#include "test.h"

#define ROUNDING 1e-5       /* what some tens of float32 roundings may add up to, relative to the scale */
#define MOST 512            /* elements of a tensor in the table */

/* ---- The table: one line a case, an op by its name with a reference ---- */

typedef struct shape_of { int rank; int64_t n[MDE_MAX_RANK]; } shape_of;

typedef struct op_case op_case;
struct op_case {
    const char *op;             /* name of the row */
    int inputs;
    shape_of in[MDE_MAX_INPUTS], out;
    mde_tensor *(*apply)(mde_context *c, const op_case *t, mde_tensor **in);
    void (*reference)(const op_case *t, double *const *x, double *y);
    double low, high;           /* range of the inputs; where it spans 0, values within 0.05 of 0 are left out */
    int i[5];                   /* arguments */
    double f[2];
    double (*f1)(double);       /* of elementwise cases */
    double (*f2)(double, double);
    const int32_t *ids;
};

static size_t count_of(const shape_of *s)
{
    size_t count = 1;
    int i;
    for (i = 0; i < s->rank; i++) count *= (size_t)s->n[i];
    return count;
}

/* Place in a tensor of shape `narrow`, broadcast to `wide`, of the element at flat place i of `wide`. */
static size_t place_in(const shape_of *narrow, const shape_of *wide, size_t i)
{
    size_t place = 0, step = 1;
    int k;
    for (k = 1; k <= wide->rank; k++) {
        size_t n = (size_t)wide->n[wide->rank - k], at = i % n;
        i /= n;
        if (k > narrow->rank) continue;
        if (narrow->n[narrow->rank - k] != 1) place += at * step;
        step *= (size_t)narrow->n[narrow->rank - k];
    }
    return place;
}

static void plain_f1(const op_case *t, double *const *x, double *y)
{
    size_t i;
    for (i = 0; i < count_of(&t->out); i++) y[i] = t->f1(x[0][i]);
}

static void plain_f2(const op_case *t, double *const *x, double *y)
{
    size_t i;
    for (i = 0; i < count_of(&t->out); i++) {
        y[i] = t->f2(x[0][place_in(&t->in[0], &t->out, i)], x[1][place_in(&t->in[1], &t->out, i)]);
    }
}

static double plus(double a, double b) { return a + b; }
static double minus(double a, double b) { return a - b; }
static double times(double a, double b) { return a * b; }
static double over(double a, double b) { return a / b; }
static double logistic(double x) { return 1 / (1 + exp(-x)); }
static double positive(double x) { return x > 0 ? x : 0; }
static double larger(double a, double b) { return a > b ? a : b; }
static double pass(double a, double b) { return a > 0 ? b : 0; }
static double self_gate(double x) { return x * logistic(x); }

static double tanh_gelu(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

static double gated(double a, double b) { return self_gate(a) * b; }

static void plain_affine(const op_case *t, double *const *x, double *y)
{
    size_t i;
    for (i = 0; i < count_of(&t->out); i++) y[i] = t->f[0] * x[0][i] + t->f[1];
}

static void plain_pow(const op_case *t, double *const *x, double *y)
{
    size_t i;
    for (i = 0; i < count_of(&t->out); i++) y[i] = pow(x[0][i], t->f[0]);
}

static void plain_clip(const op_case *t, double *const *x, double *y)
{
    size_t i;
    for (i = 0; i < count_of(&t->out); i++) y[i] = fmin(fmax(x[0][i], t->f[0]), t->f[1]);
}

static void plain_copy(const op_case *t, double *const *x, double *y)
{
    memcpy(y, x[0], count_of(&t->out) * sizeof *y);
}

static void plain_permute(const op_case *t, double *const *x, double *y)
{
    size_t i;
    int k, j;
    for (i = 0; i < count_of(&t->out); i++) {
        size_t rest = i, place = 0, at[MDE_MAX_RANK] = {0};
        for (k = t->out.rank - 1; k >= 0; k--) {
            at[t->i[k]] = rest % (size_t)t->out.n[k];
            rest /= (size_t)t->out.n[k];
        }
        for (j = 0; j < t->out.rank; j++) place = place * (size_t)t->in[0].n[j] + at[j];
        y[i] = x[0][place];
    }
}

/* Splits a flat place into the part before, along and behind an axis. */
static void split_place(const shape_of *s, int axis, size_t i, size_t *outer, size_t *at, size_t *inner)
{
    size_t behind = 1;
    int k;
    for (k = axis + 1; k < s->rank; k++) behind *= (size_t)s->n[k];
    *inner = i % behind;
    *at = i / behind % (size_t)s->n[axis];
    *outer = i / behind / (size_t)s->n[axis];
}

static size_t join_place(const shape_of *s, int axis, size_t outer, size_t at, size_t inner)
{
    size_t behind = 1;
    int k;
    for (k = axis + 1; k < s->rank; k++) behind *= (size_t)s->n[k];
    return (outer * (size_t)s->n[axis] + at) * behind + inner;
}

static void plain_slice(const op_case *t, double *const *x, double *y)
{
    size_t i, outer, at, inner;
    for (i = 0; i < count_of(&t->out); i++) {
        split_place(&t->out, t->i[0], i, &outer, &at, &inner);
        y[i] = x[0][join_place(&t->in[0], t->i[0], outer, at + (size_t)t->i[1], inner)];
    }
}

static void plain_pad(const op_case *t, double *const *x, double *y)
{
    size_t i, outer, at, inner;
    memset(y, 0, count_of(&t->out) * sizeof *y);
    for (i = 0; i < count_of(&t->in[0]); i++) {
        split_place(&t->in[0], t->i[0], i, &outer, &at, &inner);
        y[join_place(&t->out, t->i[0], outer, at + (size_t)t->i[1], inner)] = x[0][i];
    }
}

static void plain_concat(const op_case *t, double *const *x, double *y)
{
    size_t i, outer, at, inner, first = (size_t)t->in[0].n[t->i[0]];
    for (i = 0; i < count_of(&t->out); i++) {
        split_place(&t->out, t->i[0], i, &outer, &at, &inner);
        y[i] = at < first ? x[0][join_place(&t->in[0], t->i[0], outer, at, inner)]
                          : x[1][join_place(&t->in[1], t->i[0], outer, at - first, inner)];
    }
}

static void plain_broadcast(const op_case *t, double *const *x, double *y)
{
    size_t i;
    for (i = 0; i < count_of(&t->out); i++) y[i] = x[0][place_in(&t->in[0], &t->out, i)];
}

static void plain_sum_to(const op_case *t, double *const *x, double *y)
{
    size_t i;
    memset(y, 0, count_of(&t->out) * sizeof *y);
    for (i = 0; i < count_of(&t->in[0]); i++) y[place_in(&t->out, &t->in[0], i)] += x[0][i];
}

static void plain_mean(const op_case *t, double *const *x, double *y)
{
    size_t i, n = count_of(&t->out);
    plain_sum_to(t, x, y);
    for (i = 0; i < n; i++) y[i] /= (double)(count_of(&t->in[0]) / n);
}

static void plain_matmul(const op_case *t, double *const *x, double *y)
{
    const shape_of *a = &t->in[0], *b = &t->in[1];
    size_t m = (size_t)t->out.n[t->out.rank - 2], n = (size_t)t->out.n[t->out.rank - 1], i, j, l, s;
    size_t k = count_of(a) / m, batch = count_of(&t->out) / (m * n);
    if (a->rank > 2) k /= batch;
    for (s = 0; s < batch; s++) {
        const double *p = x[0] + (a->rank > 2 ? s * m * k : 0), *q = x[1] + (b->rank > 2 ? s * k * n : 0);
        for (i = 0; i < m; i++) {
            for (j = 0; j < n; j++) {
                double sum = 0;
                for (l = 0; l < k; l++) sum += p[t->i[0] ? l * m + i : i * k + l] * q[t->i[1] ? j * k + l : l * n + j];
                y[(s * m + i) * n + j] = sum;
            }
        }
    }
}

static void softmax_of(size_t n, const double *x, double *y)
{
    double top = x[0], sum = 0;
    size_t i;
    for (i = 0; i < n; i++) top = x[i] > top ? x[i] : top;
    for (i = 0; i < n; i++) sum += y[i] = exp(x[i] - top);
    for (i = 0; i < n; i++) y[i] /= sum;
}

static void plain_softmax(const op_case *t, double *const *x, double *y)
{
    size_t n = (size_t)t->out.n[t->out.rank - 1], i;
    for (i = 0; i < count_of(&t->out); i += n) softmax_of(n, x[0] + i, y + i);
}

static void plain_log_softmax(const op_case *t, double *const *x, double *y)
{
    size_t i;
    plain_softmax(t, x, y);
    for (i = 0; i < count_of(&t->out); i++) y[i] = log(y[i]);
}

static void plain_norm(const op_case *t, double *const *x, double *y)
{
    size_t n = (size_t)t->out.n[t->out.rank - 1], i, j;
    for (i = 0; i < count_of(&t->out); i += n) {
        double mean = 0, square = 0;
        for (j = 0; t->inputs == 3 && j < n; j++) mean += x[0][i + j] / (double)n;
        for (j = 0; j < n; j++) square += (x[0][i + j] - mean) * (x[0][i + j] - mean) / (double)n;
        for (j = 0; j < n; j++) {
            y[i + j] = (x[0][i + j] - mean) / sqrt(square + t->f[0]) * x[1][j] + (t->inputs == 3 ? x[2][j] : 0);
        }
    }
}

static void plain_gather(const op_case *t, double *const *x, double *y)
{
    size_t width = (size_t)t->out.n[1], i;
    for (i = 0; i < count_of(&t->out); i++) y[i] = x[0][(size_t)t->ids[i / width] * width + i % width];
}

static void plain_scatter(const op_case *t, double *const *x, double *y)
{
    size_t width = (size_t)t->out.n[1], i;
    memset(y, 0, count_of(&t->out) * sizeof *y);
    for (i = 0; i < count_of(&t->in[0]); i++) y[(size_t)t->ids[i / width] * width + i % width] += x[0][i];
}

static void plain_cross_entropy(const op_case *t, double *const *x, double *y)
{
    size_t n = (size_t)t->in[0].n[1], i;
    double p[MOST];
    for (i = 0; i < (size_t)t->out.n[0]; i++) {
        softmax_of(n, x[0] + i * n, p);
        y[i] = -log(p[t->ids[i]]);
    }
}

static void plain_rope(const op_case *t, double *const *x, double *y)
{
    int64_t time = t->out.n[1], heads = t->out.n[2], dim = t->out.n[3], i, j, half = dim / 2;
    for (i = 0; i < t->out.n[0] * time * heads; i++) {
        for (j = 0; j < half; j++) {
            double angle = (double)(t->i[0] + i / heads % time) * pow(t->f[0], -(double)j / (double)half);
            double a = x[0][i * dim + j], b = x[0][i * dim + half + j];
            y[i * dim + j] = a * cos(angle) - b * sin(angle);
            y[i * dim + half + j] = a * sin(angle) + b * cos(angle);
        }
    }
}

static void plain_attention(const op_case *t, double *const *x, double *y)
{
    int64_t batch = t->out.n[0], time = t->out.n[1], heads = t->out.n[2], dim = t->out.n[3];
    int64_t keys = t->in[1].n[1], kv = t->in[1].n[2], b, i, h, j, d;
    for (b = 0; b < batch; b++) {
        for (i = 0; i < time; i++) {
            for (h = 0; h < heads; h++) {
                const double *q = x[0] + ((b * time + i) * heads + h) * dim;
                double p[MOST], *out = y + ((b * time + i) * heads + h) * dim;
                int64_t seen = t->i[0] ? i + 1 + keys - time : keys, first = (b * keys * kv + h / (heads / kv)) * dim;
                for (j = 0; j < seen; j++) {
                    p[j] = 0;
                    for (d = 0; d < dim; d++) p[j] += t->f[0] * q[d] * x[1][first + j * kv * dim + d];
                }
                softmax_of((size_t)seen, p, p);
                for (d = 0; d < dim; d++) {
                    out[d] = 0;
                    for (j = 0; j < seen; j++) out[d] += p[j] * x[2][first + j * kv * dim + d];
                }
            }
        }
    }
}

static void plain_packed_swiglu(const op_case *t, double *const *x, double *y)
{
    size_t n = (size_t)t->out.n[t->out.rank - 1], i;
    for (i = 0; i < count_of(&t->out); i++) {
        const double *row = x[0] + i / n * 2 * n;
        y[i] = gated(row[i % n], row[n + i % n]);
    }
}

/* Taken apart, queries and keys turned if f[1] is not 0, and then as attention. */
static void plain_packed_attention(const op_case *t, double *const *x, double *y)
{
    int64_t rows = t->out.n[0] * t->out.n[1], dim = t->out.n[3], kv = t->i[1], heads = t->out.n[2], row, part, at = 0;
    double parts[3][MOST], turned[2][MOST], *in[3];
    op_case apart = *t;
    for (part = 0; part < 3; part++) {
        int64_t n = (part ? kv : heads) * dim, all = (heads + 2 * kv) * dim;
        for (row = 0; row < rows; row++) {
            memcpy(parts[part] + row * n, x[0] + row * all + at, (size_t)n * sizeof(double));
        }
        at += n;
        in[part] = parts[part];
        if (part) apart.in[part] = t->out, apart.in[part].n[2] = kv;
        if (part < 2 && t->f[1] != 0) {
            op_case turn = apart;
            double *from = parts[part];
            if (part) turn.out = apart.in[1];
            turn.f[0] = t->f[1];
            turn.i[0] = 0;
            plain_rope(&turn, &from, turned[part]);
            in[part] = turned[part];
        }
    }
    plain_attention(&apart, in, y);
}

/* i: transposed, what is done before (0 nothing, 1 layer norm, 2 rms norm, 3 gelu, 4 packed swiglu), bias, residual.
   Inputs: x, weight, bias, residual, gain, shift, as far as they are there. */
static int norm_inputs(const op_case *t)
{
    return t->i[1] == 1 ? 2 : t->i[1] == 2;
}

static void plain_linear(const op_case *t, double *const *x, double *y)
{
    int64_t rows = t->out.n[0], n = t->out.n[1], width = t->in[0].n[1], k = t->i[1] == 4 ? width / 2 : width, r, i, j;
    double middle[MOST], *rest[3];
    op_case before = *t;
    int at = 2;
    const double *bias = t->i[2] ? x[at++] : NULL, *residual = t->i[3] ? x[at++] : NULL;
    before.out = t->in[0];
    before.out.n[1] = k;
    before.inputs = 1 + norm_inputs(t);
    rest[0] = x[0];
    for (i = 0; i < norm_inputs(t); i++) rest[i + 1] = x[at++];
    if (t->i[1] == 1 || t->i[1] == 2) plain_norm(&before, rest, middle);
    else if (t->i[1] == 4) plain_packed_swiglu(&before, rest, middle);
    else for (i = 0; i < rows * k; i++) middle[i] = t->i[1] == 3 ? tanh_gelu(x[0][i]) : x[0][i];
    for (r = 0; r < rows; r++) {
        for (j = 0; j < n; j++) {
            double sum = (bias ? bias[j] : 0) + (residual ? residual[r * n + j] : 0);
            for (i = 0; i < k; i++) sum += middle[r * k + i] * (t->i[0] ? x[1][j * k + i] : x[1][i * n + j]);
            y[r * n + j] = sum;
        }
    }
}

static void plain_linear_cross_entropy(const op_case *t, double *const *x, double *y)
{
    int64_t rows = t->in[0].n[0], k = t->in[0].n[1], classes = t->in[1].n[0], r, i, j;
    double p[MOST];
    y[0] = 0;
    for (r = 0; r < rows; r++) {
        for (j = 0; j < classes; j++) {
            for (p[j] = 0, i = 0; i < k; i++) p[j] += x[0][r * k + i] * x[1][j * k + i];
        }
        softmax_of((size_t)classes, p, p);
        y[0] -= log(p[t->ids[r]]) / (double)rows;
    }
}

/* i: first position, positions until they begin anew */
static void plain_embed(const op_case *t, double *const *x, double *y)
{
    int64_t width = t->out.n[1], i;
    for (i = 0; i < t->out.n[0] * width; i++) {
        int64_t row = i / width;
        y[i] = x[0][t->ids[row] * width + i % width] + x[1][(t->i[0] + row % t->i[1]) * width + i % width];
    }
}

static mde_tensor *apply_linear(mde_context *c, const op_case *t, mde_tensor **in)
{
    static const mde_op *const before[5] = {
        NULL, &mde__op_layer_norm, &mde__op_rms_norm, &mde__op_gelu, &mde__op_packed_swiglu
    };
    mde__linear_inputs l;
    int at = 2;
    l.before = before[t->i[1]];
    l.x = in[0];
    l.weight = in[1];
    l.bias = t->i[2] ? in[at++] : NULL;
    l.residual = t->i[3] ? in[at++] : NULL;
    l.gain = norm_inputs(t) > 0 ? in[at++] : NULL;
    l.shift = norm_inputs(t) > 1 ? in[at] : NULL;
    l.epsilon = t->f[0];
    l.transposed = (int)t->i[0];
    if (!t->i[1]) return mde_linear(c, l.x, l.weight, l.transposed, l.bias, l.residual);
    return mde__apply_linear(c, &l);
}

#define APPLY(name, call) \
    static mde_tensor *apply_##name(mde_context *c, const op_case *t, mde_tensor **in) \
    { \
        (void)t; \
        return call; \
    }
APPLY(add, mde_add(c, in[0], in[1]))
APPLY(sub, mde_sub(c, in[0], in[1]))
APPLY(mul, mde_mul(c, in[0], in[1]))
APPLY(div, mde_div(c, in[0], in[1]))
APPLY(affine, mde_affine(c, in[0], t->f[0], t->f[1]))
APPLY(exp, mde_exp(c, in[0]))
APPLY(log, mde_log(c, in[0]))
APPLY(sqrt, mde_sqrt(c, in[0]))
APPLY(tanh, mde_tanh(c, in[0]))
APPLY(sigmoid, mde_sigmoid(c, in[0]))
APPLY(relu, mde_relu(c, in[0]))
APPLY(abs, mde_abs(c, in[0]))
APPLY(sin, mde_sin(c, in[0]))
APPLY(cos, mde_cos(c, in[0]))
APPLY(maximum, mde_maximum(c, in[0], in[1]))
APPLY(pow, mde_pow(c, in[0], t->f[0]))
APPLY(clip, mde_clip(c, in[0], t->f[0], t->f[1]))
APPLY(gate, mde_gate(c, in[0], in[1]))
APPLY(silu, mde_silu(c, in[0]))
APPLY(gelu, mde_gelu(c, in[0]))
APPLY(reshape, mde_reshape(c, in[0], t->out.rank, t->out.n))
APPLY(permute, mde_permute(c, in[0], t->i))
APPLY(slice, mde_slice(c, in[0], t->i[0], t->i[1], t->i[2]))
APPLY(pad, mde_pad(c, in[0], t->i[0], t->i[1], t->i[2]))
APPLY(concat, mde_concat(c, in[0], in[1], t->i[0]))
APPLY(broadcast, mde_broadcast_to(c, in[0], t->out.rank, t->out.n))
APPLY(sum_to, mde_sum_to(c, in[0], t->out.rank, t->out.n))
APPLY(sum, mde_sum(c, in[0]))
APPLY(mean, mde_mean(c, in[0]))
APPLY(sum_axis, mde_sum_axis(c, in[0], t->i[0]))
APPLY(mean_axis, mde_mean_axis(c, in[0], t->i[0]))
APPLY(matmul, mde_matmul_t(c, in[0], in[1], t->i[0], t->i[1]))
APPLY(softmax, mde_softmax(c, in[0]))
APPLY(log_softmax, mde_log_softmax(c, in[0]))
APPLY(rms_norm, mde_rms_norm(c, in[0], in[1], t->f[0]))
APPLY(layer_norm, mde_layer_norm(c, in[0], in[1], in[2], t->f[0]))
APPLY(gather, mde_gather(c, in[0], t->out.n[0], t->ids))
APPLY(scatter, mde_scatter_add(c, in[0], t->out.n[0], t->ids))
APPLY(cross_entropy, mde_cross_entropy(c, in[0], t->ids))
APPLY(rope, mde_rope(c, in[0], t->f[0], t->i[0]))
APPLY(attention, mde_attention(c, in[0], in[1], in[2], t->f[0], t->i[0]))
APPLY(embed, mde__apply_ids(c, &mde__op_embed, in, t->out.n[0], t->ids, t->i[0], t->i[1]))
APPLY(packed_swiglu, mde_packed_swiglu(c, in[0]))
APPLY(packed_attention, mde_packed_attention(c, in[0], t->i[1], t->f[0], t->i[0], t->f[1]))
APPLY(linear_cross_entropy, mde_linear_cross_entropy(c, in[0], in[1], t->ids))

static const int32_t repeated[6] = {2, 0, 2, 3, 2, 0};

#define S1(a) {1, {a, 0, 0, 0, 0}}
#define S2(a, b) {2, {a, b, 0, 0, 0}}
#define S3(a, b, d) {3, {a, b, d, 0, 0}}
#define S4(a, b, d, e) {4, {a, b, d, e, 0}}
#define S5(a, b, d, e, f) {5, {a, b, d, e, f}}
#define NONE {0, {0, 0, 0, 0, 0}}
#define ONE(name, function, low, high) \
    {#name, 1, {S2(2, 3), NONE, NONE}, S2(2, 3), apply_##name, plain_f1, low, high, {0}, {0}, function, NULL, NULL}, \
    {#name, 1, {S1(37), NONE, NONE}, S1(37), apply_##name, plain_f1, low, high, {0}, {0}, function, NULL, NULL}
#define PAIR(name, function, low, high, a, b, out) \
    {#name, 2, {a, b, NONE}, out, apply_##name, plain_f2, low, high, {0}, {0}, NULL, function, NULL}
#define BROADCASTING(name, function, low, high) \
    PAIR(name, function, low, high, S2(5, 7), S2(5, 7), S2(5, 7)), \
    PAIR(name, function, low, high, S2(2, 3), S1(3), S2(2, 3)), \
    PAIR(name, function, low, high, S1(1), S2(2, 3), S2(2, 3)), \
    PAIR(name, function, low, high, S3(2, 1, 4), S2(3, 1), S3(2, 3, 4)), \
    PAIR(name, function, low, high, S5(2, 1, 2, 1, 3), S4(2, 1, 2, 1), S5(2, 2, 2, 2, 3))
#define POW(low, high, power) \
    {"pow", 1, {S2(3, 5), NONE, NONE}, S2(3, 5), apply_pow, plain_pow, low, high, {0}, {power, 0}, NULL, NULL, NULL}
#define MATMUL(a, b, out, ta, tb) \
    {"matmul", 2, {a, b, NONE}, out, apply_matmul, plain_matmul, -1, 1, {ta, tb, 0, 0, 0}, {0}, NULL, NULL, NULL}
#define FROM_ONE(name, apply, plain, in, out, i0, i1, i2) \
    {#name, 1, {in, NONE, NONE}, out, apply, plain, -1, 1, {i0, i1, i2, 0, 0}, {0}, NULL, NULL, NULL}
#define WITH_IDS(name, apply, plain, in, out) \
    {#name, 1, {in, NONE, NONE}, out, apply, plain, -2, 2, {0}, {0}, NULL, NULL, repeated}
#define ROPE(in, start) \
    {"rope", 1, {in, NONE, NONE}, in, apply_rope, plain_rope, -1, 1, {start, 0, 0, 0, 0}, {100, 0}, NULL, NULL, NULL}
#define ATTENTION(q, k, causal) \
    {"attention", 3, {q, k, k}, q, apply_attention, plain_attention, -1.5, 1.5, {causal, 0, 0, 0, 0}, {0.7, 0}, NULL, \
     NULL, NULL}

#define PACKED_ATTENTION(x, y, causal, kv_heads, base) \
    {"packed_attention", 1, {x}, y, apply_packed_attention, plain_packed_attention, -1.5, 1.5, {causal, kv_heads}, \
     {0.7, base}, NULL, NULL, NULL}
#define LINEAR(inputs, x, w, third, fourth, fifth, sixth, out, transposed, before, bias, residual) \
    {"linear", inputs, {x, w, third, fourth, fifth, sixth}, out, apply_linear, plain_linear, -1.5, 1.5, \
     {transposed, before, bias, residual, 0}, {0.1, 0}, NULL, NULL, NULL}

static const op_case cases[] = {
    BROADCASTING(add, plus, -2, 2),
    BROADCASTING(sub, minus, -2, 2),
    BROADCASTING(mul, times, -2, 2),
    BROADCASTING(div, over, 0.5, 2),
    {"affine", 1, {S2(3, 5), NONE, NONE}, S2(3, 5), apply_affine, plain_affine, -2, 2, {0}, {-1.5, 0.25}, NULL,
     NULL, NULL},
    ONE(exp, exp, -2, 1),
    ONE(log, log, 0.5, 3),
    ONE(sqrt, sqrt, 0.5, 3),
    ONE(tanh, tanh, -2, 2),
    ONE(sigmoid, logistic, -3, 3),
    ONE(relu, positive, -2, 2),
    ONE(abs, fabs, -2, 2),
    ONE(sin, sin, -4, 4),
    ONE(cos, cos, -4, 4),
    BROADCASTING(maximum, larger, -2, 2),
    POW(0.5, 2, 1.0 / 3),
    POW(0.5, 2, -2.5),
    POW(-2, 2, 3),
    POW(-2, 2, 2),
    POW(-2, 2, 1),
    POW(-2, 2, 0),
    {"clip", 1, {S1(37), NONE, NONE}, S1(37), apply_clip, plain_clip, -2, 2, {0}, {-0.9, 0.7}, NULL, NULL, NULL},
    PAIR(gate, pass, -2, 2, S2(4, 5), S2(4, 5), S2(4, 5)),
    ONE(silu, self_gate, -3, 3),
    ONE(gelu, tanh_gelu, -2, 2),
    FROM_ONE(reshape, apply_reshape, plain_copy, S3(2, 3, 4), S2(6, 4), 0, 0, 0),
    FROM_ONE(reshape, apply_reshape, plain_copy, S1(6), S5(1, 3, 1, 2, 1), 0, 0, 0),
    FROM_ONE(permute, apply_permute, plain_permute, S2(3, 5), S2(5, 3), 1, 0, 0),
    FROM_ONE(permute, apply_permute, plain_permute, S3(2, 3, 4), S3(4, 2, 3), 2, 0, 1),
    {"permute", 1, {S5(2, 3, 2, 1, 4), NONE, NONE}, S5(3, 4, 2, 2, 1), apply_permute, plain_permute, -1, 1,
     {1, 4, 0, 2, 3}, {0}, NULL, NULL, NULL},
    FROM_ONE(slice, apply_slice, plain_slice, S2(5, 3), S2(2, 3), 0, 1, 2),
    FROM_ONE(slice, apply_slice, plain_slice, S3(2, 4, 3), S3(2, 3, 3), 1, 1, 3),
    FROM_ONE(slice, apply_slice, plain_slice, S2(3, 5), S2(3, 2), 1, 0, 2),
    FROM_ONE(pad, apply_pad, plain_pad, S2(2, 3), S2(5, 3), 0, 1, 2),
    FROM_ONE(pad, apply_pad, plain_pad, S3(2, 2, 3), S3(2, 2, 5), 2, 2, 0),
    {"concat", 2, {S2(2, 3), S2(4, 3), NONE}, S2(6, 3), apply_concat, plain_concat, -1, 1, {0}, {0}, NULL, NULL, NULL},
    {"concat", 2, {S3(2, 3, 2), S3(2, 1, 2), NONE}, S3(2, 4, 2), apply_concat, plain_concat, -1, 1, {1, 0, 0, 0, 0},
     {0}, NULL, NULL, NULL},
    FROM_ONE(broadcast_to, apply_broadcast, plain_broadcast, S1(3), S2(4, 3), 0, 0, 0),
    FROM_ONE(broadcast_to, apply_broadcast, plain_broadcast, S2(3, 1), S3(2, 3, 4), 0, 0, 0),
    FROM_ONE(broadcast_to, apply_broadcast, plain_broadcast, S4(2, 1, 3, 1), S5(2, 2, 2, 3, 2), 0, 0, 0),
    FROM_ONE(sum_to, apply_sum_to, plain_sum_to, S2(4, 3), S1(3), 0, 0, 0),
    FROM_ONE(sum_to, apply_sum_to, plain_sum_to, S3(2, 3, 4), S3(2, 3, 1), 0, 0, 0),
    FROM_ONE(sum_to, apply_sum_to, plain_sum_to, S3(2, 3, 4), S3(1, 3, 4), 0, 0, 0),
    FROM_ONE(sum_to, apply_sum_to, plain_sum_to, S3(2, 3, 4), S3(2, 1, 4), 0, 0, 0),
    FROM_ONE(sum_to, apply_sum_to, plain_sum_to, S3(4, 3, 1), S2(3, 1), 0, 0, 0),
    FROM_ONE(sum_to, apply_sum_to, plain_sum_to, S3(2, 1, 4), S3(2, 1, 4), 0, 0, 0),
    FROM_ONE(sum_to, apply_sum_to, plain_sum_to, S5(2, 3, 2, 2, 3), S4(3, 1, 2, 1), 0, 0, 0),
    FROM_ONE(sum_to, apply_sum, plain_sum_to, S3(3, 5, 4), S1(1), 0, 0, 0),
    FROM_ONE(sum_to, apply_mean, plain_mean, S2(7, 5), S1(1), 0, 0, 0),
    FROM_ONE(sum_to, apply_sum_axis, plain_sum_to, S3(3, 5, 4), S3(3, 1, 4), 1, 0, 0),
    FROM_ONE(sum_to, apply_mean_axis, plain_mean, S3(3, 5, 4), S3(3, 5, 1), 2, 0, 0),
    MATMUL(S2(3, 4), S2(4, 5), S2(3, 5), 0, 0),
    MATMUL(S2(4, 3), S2(4, 5), S2(3, 5), 1, 0),
    MATMUL(S2(3, 4), S2(5, 4), S2(3, 5), 0, 1),
    MATMUL(S2(4, 3), S2(5, 4), S2(3, 5), 1, 1),
    MATMUL(S3(2, 3, 4), S3(2, 4, 5), S3(2, 3, 5), 0, 0),
    MATMUL(S3(2, 4, 3), S3(2, 5, 4), S3(2, 3, 5), 1, 1),
    MATMUL(S4(2, 2, 3, 4), S4(2, 2, 2, 4), S4(2, 2, 3, 2), 0, 1),
    MATMUL(S3(2, 3, 4), S2(4, 5), S3(2, 3, 5), 0, 0),
    MATMUL(S3(2, 3, 4), S2(5, 4), S3(2, 3, 5), 0, 1),
    MATMUL(S3(2, 4, 3), S2(4, 5), S3(2, 3, 5), 1, 0),
    MATMUL(S2(3, 4), S3(2, 4, 5), S3(2, 3, 5), 0, 0),
    MATMUL(S2(4, 3), S3(2, 5, 4), S3(2, 3, 5), 1, 1),
    MATMUL(S2(1, 1), S2(1, 1), S2(1, 1), 0, 0),
    FROM_ONE(softmax, apply_softmax, plain_softmax, S2(3, 5), S2(3, 5), 0, 0, 0),
    FROM_ONE(softmax, apply_softmax, plain_softmax, S3(2, 2, 19), S3(2, 2, 19), 0, 0, 0),
    FROM_ONE(log_softmax, apply_log_softmax, plain_log_softmax, S1(6), S1(6), 0, 0, 0),
    FROM_ONE(log_softmax, apply_log_softmax, plain_log_softmax, S3(2, 2, 19), S3(2, 2, 19), 0, 0, 0),
    {"rms_norm", 2, {S2(3, 6), S1(6), NONE}, S2(3, 6), apply_rms_norm, plain_norm, -2, 2, {0}, {1e-5, 0}, NULL, NULL,
     NULL},
    {"rms_norm", 2, {S3(2, 2, 19), S1(19), NONE}, S3(2, 2, 19), apply_rms_norm, plain_norm, -2, 2, {0}, {0.1, 0}, NULL,
     NULL, NULL},
    {"layer_norm", 3, {S2(3, 6), S1(6), S1(6)}, S2(3, 6), apply_layer_norm, plain_norm, -2, 2, {0}, {1e-5, 0}, NULL,
     NULL, NULL},
    {"layer_norm", 3, {S3(2, 2, 19), S1(19), S1(19)}, S3(2, 2, 19), apply_layer_norm, plain_norm, -2, 2, {0}, {0.1, 0},
     NULL, NULL, NULL},
    WITH_IDS(gather, apply_gather, plain_gather, S2(4, 3), S2(6, 3)),
    WITH_IDS(scatter_add, apply_scatter, plain_scatter, S2(6, 3), S2(5, 3)),
    WITH_IDS(cross_entropy, apply_cross_entropy, plain_cross_entropy, S2(6, 5), S1(6)),
    WITH_IDS(cross_entropy, apply_cross_entropy, plain_cross_entropy, S2(3, 21), S1(3)),
    ROPE(S4(2, 3, 2, 4), 0),
    ROPE(S4(1, 4, 1, 6), 9),
    ATTENTION(S4(2, 3, 2, 4), S4(2, 3, 2, 4), 1),
    ATTENTION(S4(1, 4, 4, 2), S4(1, 4, 2, 2), 1),
    ATTENTION(S4(2, 3, 2, 3), S4(2, 5, 1, 3), 0),
    ATTENTION(S4(1, 2, 2, 3), S4(1, 5, 1, 3), 1),
    ATTENTION(S4(1, 3, 1, 2), S4(1, 2, 1, 2), 0),
    FROM_ONE(packed_swiglu, apply_packed_swiglu, plain_packed_swiglu, S2(3, 10), S2(3, 5), 0, 0, 0),
    FROM_ONE(packed_swiglu, apply_packed_swiglu, plain_packed_swiglu, S3(2, 2, 38), S3(2, 2, 19), 0, 0, 0),
    PACKED_ATTENTION(S4(2, 3, 6, 4), S4(2, 3, 2, 4), 1, 2, 0),
    PACKED_ATTENTION(S4(1, 4, 8, 3), S4(1, 4, 4, 3), 0, 2, 0),
    PACKED_ATTENTION(S4(2, 3, 4, 4), S4(2, 3, 2, 4), 1, 1, 100),
    LINEAR(2, S2(3, 4), S2(4, 5), NONE, NONE, NONE, NONE, S2(3, 5), 0, 0, 0, 0),
    LINEAR(3, S2(3, 4), S2(5, 4), S1(5), NONE, NONE, NONE, S2(3, 5), 1, 0, 1, 0),
    LINEAR(3, S2(3, 4), S2(5, 4), S2(3, 5), NONE, NONE, NONE, S2(3, 5), 1, 0, 0, 1),
    LINEAR(6, S2(3, 4), S2(4, 5), S1(5), S2(3, 5), S1(4), S1(4), S2(3, 5), 0, 1, 1, 1),
    LINEAR(3, S2(2, 6), S2(3, 6), S1(6), NONE, NONE, NONE, S2(2, 3), 1, 2, 0, 0),
    LINEAR(4, S2(3, 4), S2(4, 2), S1(2), S2(3, 2), NONE, NONE, S2(3, 2), 0, 3, 1, 1),
    LINEAR(3, S2(3, 8), S2(5, 4), S2(3, 5), NONE, NONE, NONE, S2(3, 5), 1, 4, 0, 1),
    {"embed", 2, {S2(4, 3), S2(5, 3)}, S2(6, 3), apply_embed, plain_embed, -1, 1, {1, 3, 0, 0, 0}, {0}, NULL, NULL,
     repeated},
    {"linear_cross_entropy", 2, {S2(6, 3), S2(5, 3)}, S1(1), apply_linear_cross_entropy, plain_linear_cross_entropy,
     -2, 2, {0}, {0}, NULL, NULL, repeated}
};
#define CASES ((int)(sizeof cases / sizeof *cases))

static void every_row_of_the_table_has_a_case(void)
{
    int i, j;
    CHECK(mde_op_count() > 0);
    CHECK(mde_op_row(-1) == NULL);
    CHECK(mde_op_row(mde_op_count()) == NULL);
    for (i = 0; i < mde_op_count(); i++) {
        for (j = 0; j < CASES && strcmp(cases[j].op, mde_op_row(i)->name) != 0; j++) continue;
        if (j == CASES) {
            printf("    %s has no case\n", mde_op_row(i)->name);
            test_bad++;
        }
    }
}

/* ---- A case at work ---- */

/* Inputs x, weights g of the outputs and directions r, as tensors and in double precision. */
typedef struct bench {
    const op_case *t;
    mde_tensor *in[MDE_MAX_INPUTS + 1], *direction[MDE_MAX_INPUTS], *y;  /* in[inputs] is g */
    double x[MDE_MAX_INPUTS + 1][MOST], r[MDE_MAX_INPUTS][MOST];
} bench;

static double draw(mde_random *random, double low, double high)
{
    double value;
    do value = (double)(float)(low + (high - low) * mde_random_uniform(random));
    while (fabs(value) < 0.05);
    return value;
}

static mde_tensor *random_tensor(mde_context *c, const shape_of *s, mde_random *random, double low, double high,
                                 double *copy)
{
    mde_tensor *t = mde_tensor_create(c, s->rank, s->n);
    size_t i;
    for (i = 0; t && i < t->count; i++) {
        copy[i] = draw(random, low, high);
        t->data[i] = (float)copy[i];
    }
    return t;
}

static int bench_start(mde_context *c, const op_case *t, bench *b)
{
    mde_random random = mde_random_start(7, (uint64_t)(t - cases));
    int k;
    memset(b, 0, sizeof *b);
    b->t = t;
    for (k = 0; k < t->inputs; k++) {
        b->in[k] = random_tensor(c, &t->in[k], &random, t->low, t->high, b->x[k]);
        b->direction[k] = random_tensor(c, &t->in[k], &random, -1, 1, b->r[k]);
        if (b->in[k]) b->in[k]->requires_grad = 1;
    }
    b->in[k] = random_tensor(c, &t->out, &random, -1, 1, b->x[k]);
    if (b->in[k]) b->in[k]->requires_grad = 1;
    b->y = t->apply(c, t, b->in);
    return b->y != NULL;
}

/* <g, op(x + a r + h e)>, where e is element `at` of input `which`. */
static double plain_value(const bench *b, double a, int which, size_t at, double h)
{
    const op_case *t = b->t;
    double moved[MDE_MAX_INPUTS][MOST], y[MOST], sum = 0, *x[MDE_MAX_INPUTS];
    size_t i;
    int k;
    for (k = 0; k < MDE_MAX_INPUTS; k++) {
        x[k] = moved[k];
        for (i = 0; k < t->inputs && i < count_of(&t->in[k]); i++) moved[k][i] = b->x[k][i] + a * b->r[k][i];
    }
    moved[which][at] += h;
    t->reference(t, x, y);
    for (i = 0; i < count_of(&t->out); i++) sum += b->x[t->inputs][i] * y[i];
    return sum;
}

static double first_difference(const bench *b, int which, size_t at)
{
    const double h = 1e-5;
    return (plain_value(b, 0, which, at, h) - plain_value(b, 0, which, at, -h)) / (2 * h);
}

static double second_difference(const bench *b, int which, size_t at)
{
    const double h = 2e-4;
    return (plain_value(b, h, which, at, h) - plain_value(b, h, which, at, -h) - plain_value(b, -h, which, at, h) +
            plain_value(b, -h, which, at, -h)) / (4 * h * h);
}

/* Derivative of output i along r, which is the derivative of <r, dF/dx> by g_i. */
static void direction_difference(const bench *b, double *slope)
{
    const double h = 1e-5;
    const op_case *t = b->t;
    double moved[MDE_MAX_INPUTS][MOST], y[2][MOST], *x[MDE_MAX_INPUTS];
    size_t i;
    int k, side;
    for (side = 0; side < 2; side++) {
        for (k = 0; k < MDE_MAX_INPUTS; k++) {
            x[k] = moved[k];
            for (i = 0; k < t->inputs && i < count_of(&t->in[k]); i++) {
                moved[k][i] = b->x[k][i] + (side ? h : -h) * b->r[k][i];
            }
        }
        t->reference(t, x, y[side]);
    }
    for (i = 0; i < count_of(&t->out); i++) slope[i] = (y[1][i] - y[0][i]) / (2 * h);
}

/* All within the tolerance, relative to the largest of the expected values, or to 1. */
static void close_all(const op_case *t, const char *what, const mde_tensor *have, const double *want, double tolerance)
{
    double scale = 1;
    size_t i;
    if (!have) {
        printf("    case %d, %s: %s is missing\n", (int)(t - cases), t->op, what);
        test_bad++;
        return;
    }
    for (i = 0; i < have->count; i++) scale = fabs(want[i]) > scale ? fabs(want[i]) : scale;
    for (i = 0; i < have->count; i++) {
        if (fabs((double)have->data[i] - want[i]) <= tolerance * scale) continue;
        printf("    case %d, %s: %s[%d] is %.9g, expected %.9g within %.2g of %.3g\n", (int)(t - cases), t->op, what,
               (int)i, (double)have->data[i], want[i], tolerance, scale);
        test_bad++;
        return;
    }
}

static void forward_values_agree_with_double_precision(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_mark mark = mde_arena_mark(c);
    bench b;
    int i, k;
    for (i = 0; i < CASES; i++) {
        double y[MOST], *x[MDE_MAX_INPUTS];
        if (bench_start(c, &cases[i], &b)) {
            CHECK(b.y->rank == cases[i].out.rank);
            CHECK(memcmp(b.y->shape, cases[i].out.n, (size_t)b.y->rank * sizeof(int64_t)) == 0);
            for (k = 0; k < MDE_MAX_INPUTS; k++) x[k] = b.x[k];
            cases[i].reference(&cases[i], x, y);
        }
        close_all(&cases[i], "y", b.y, y, ROUNDING);
        mde_arena_rewind(c, mark);
    }
    CHECK(*mde_error(c) == 0);
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

static void first_derivatives_agree_with_differences(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_mark mark = mde_arena_mark(c);
    bench b;
    int i, k, n, record;
    size_t j;
    for (i = 0; i < CASES; i++) {
        mde_tensor *f, *dx[2][MDE_MAX_INPUTS + 1];
        const op_case *t = &cases[i];
        if (!bench_start(c, t, &b)) continue;
        n = t->inputs;
        f = mde_mul(c, b.y, b.in[n]);
        for (record = 0; record < 2; record++) CHECK(mde_grad(c, f, n, b.in, dx[record], record) == MDE_OK);
        for (k = 0; k < n && mde_context_status(c) == MDE_OK; k++) {
            double want[MOST], ops[MOST];
            for (j = 0; j < b.in[k]->count; j++) {
                want[j] = first_difference(&b, k, j);
                ops[j] = dx[1][k]->data[j];
            }
            close_all(t, "fast gradient", dx[0][k], want, ROUNDING);
            close_all(t, "gradient", dx[1][k], want, ROUNDING);
            close_all(t, "fast gradient against ops", dx[0][k], ops, 2e-6);
        }
        mde_arena_rewind(c, mark);
    }
    CHECK(*mde_error(c) == 0);
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

/* s = sum over the inputs of <r, dF/dx>, recorded. */
static mde_tensor *slope_along_r(mde_context *c, bench *b)
{
    mde_tensor *dx[MDE_MAX_INPUTS + 1], *s = NULL, *term;
    int k, n = b->t->inputs;
    mde_grad(c, mde_mul(c, b->y, b->in[n]), n, b->in, dx, 1);
    for (k = 0; k < n; k++) {
        term = mde_sum(c, mde_mul(c, dx[k], b->direction[k]));
        s = s ? mde_add(c, s, term) : term;
    }
    return s;
}

static void second_derivatives_agree_with_differences(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_mark mark = mde_arena_mark(c);
    bench b;
    int i, k, n, record;
    size_t j;
    for (i = 0; i < CASES; i++) {
        const op_case *t = &cases[i];
        mde_tensor *s, *ds[MDE_MAX_INPUTS + 1];
        if (!bench_start(c, t, &b)) continue;
        n = t->inputs;
        s = slope_along_r(c, &b);
        for (record = 0; record < 2; record++) {
            CHECK(mde_grad(c, s, n + 1, b.in, ds, record) == MDE_OK);
            for (k = 0; k <= n && mde_context_status(c) == MDE_OK; k++) {
                double want[MOST];
                for (j = 0; k < n && j < b.in[k]->count; j++) want[j] = second_difference(&b, k, j);
                if (k == n) direction_difference(&b, want);
                close_all(t, k < n ? "second derivative" : "derivative by g", ds[k], want, ROUNDING);
            }
        }
        mde_arena_rewind(c, mark);
    }
    CHECK(*mde_error(c) == 0);
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}


/* ---- Errors ---- */

typedef mde_tensor *wrong_fn(mde_context *c, mde_tensor *x, mde_tensor *y);
#define WRONG(name, call) \
    static mde_tensor *wrong_##name(mde_context *c, mde_tensor *x, mde_tensor *y) \
    { \
        static const int64_t shape[3] = {2, 2, 2}; \
        static const int order[2] = {1, 1}; \
        static const int32_t far[2] = {0, 3}; \
        (void)shape, (void)order, (void)far, (void)y; \
        return call; \
    }
/* x is [2,3], y is [4,2]. */
WRONG(add, mde_add(c, x, y))
WRONG(sub, mde_sub(c, x, y))
WRONG(mul, mde_mul(c, x, y))
WRONG(div, mde_div(c, x, y))
WRONG(maximum, mde_maximum(c, x, y))
WRONG(gate, mde_gate(c, x, y))
WRONG(pow, mde_pow(c, x, (double)NAN))
WRONG(clip, mde_clip(c, x, 2, 1))
WRONG(sum_axis, mde_sum_axis(c, x, 2))
WRONG(mean_axis, mde_mean_axis(c, x, -1))
WRONG(reshape, mde_reshape(c, x, 3, shape))
WRONG(reshape_rank, mde_reshape(c, x, -1, shape))
WRONG(sum_to_rank, mde_sum_to(c, x, 99, shape))
WRONG(permute, mde_permute(c, x, order))
WRONG(slice, mde_slice(c, x, 1, 2, 2))
WRONG(slice_axis, mde_slice(c, x, 2, 0, 1))
WRONG(pad, mde_pad(c, x, 0, -1, 0))
WRONG(pad_far, mde_pad(c, x, 0, INT64_MAX, INT64_MAX))
WRONG(concat, mde_concat(c, x, y, 0))
WRONG(broadcast_to, mde_broadcast_to(c, x, 3, shape))
WRONG(sum_to, mde_sum_to(c, x, 2, shape))
WRONG(matmul, mde_matmul(c, x, y))
WRONG(rms_norm, mde_rms_norm(c, x, y, 1e-5))
WRONG(layer_norm, mde_layer_norm(c, x, y, y, 1e-5))
WRONG(gather, mde_gather(c, mde_sum(c, x), 2, far))
WRONG(scatter_add, mde_scatter_add(c, mde_sum(c, x), 2, far))
WRONG(cross_entropy, mde_cross_entropy(c, mde_sum(c, x), far))
WRONG(linear_cross_entropy, mde_linear_cross_entropy(c, x, y, far))
WRONG(gather_id, mde_gather(c, x, 2, far))
WRONG(scatter_id, mde_scatter_add(c, x, 2, far))
WRONG(target_id, mde_cross_entropy(c, x, far))
WRONG(rope, mde_rope(c, x, 100, 0))
WRONG(attention, mde_attention(c, x, y, y, 1, 1))
WRONG(dropout, mde_dropout(c, x, 1.5, 0, 0))

static void wrong_shapes_are_errors_that_name_op_and_shapes(void)
{
    static const struct { wrong_fn *call; const char *op, *first, *second; } table[] = {
        {wrong_add, "add:", "[2,3]", "[4,2]"}, {wrong_sub, "sub:", "[2,3]", "[4,2]"},
        {wrong_mul, "mul:", "[2,3]", "[4,2]"}, {wrong_div, "div:", "[2,3]", "[4,2]"},
        {wrong_gate, "gate:", "[2,3]", "[4,2]"},
        {wrong_reshape, "reshape:", "[2,3]", "[2,2,2]"}, {wrong_permute, "permute:", "[2,3]", "order"},
        {wrong_slice, "slice:", "[2,3]", "2 elements from 2"}, {wrong_slice_axis, "slice:", "[2,3]", "axis 2"},
        {wrong_pad, "pad:", "[2,3]", "-1 before"}, {wrong_pad_far, "pad:", "[2,3]", "before"},
        {wrong_concat, "concat:", "[2,3]", "[4,2]"}, {wrong_broadcast_to, "broadcast_to:", "[2,3]", "[2,2,2]"},
        {wrong_sum_to, "sum_to:", "[2,3]", "[2,2]"}, {wrong_matmul, "matmul:", "[2,3]", "[4,2]"},
        {wrong_rms_norm, "rms_norm:", "[2,3]", "[4,2]"}, {wrong_layer_norm, "layer_norm:", "[2,3]", "[4,2]"},
        {wrong_gather, "gather:", "[1]", "[n, width]"}, {wrong_scatter_add, "scatter_add:", "[1]", "[count, width]"},
        {wrong_cross_entropy, "cross_entropy:", "[1]", "[rows, classes]"}, {wrong_gather_id, "gather:", "3", "0 to 1"},
        {wrong_scatter_id, "scatter_add:", "3", "0 to 1"}, {wrong_target_id, "cross_entropy:", "3", "0 to 2"},
        {wrong_rope, "rope:", "[2,3]", "[batch"}, {wrong_attention, "attention:", "[2,3]", "[4,2]"},
        {wrong_dropout, "dropout:", "probability", "0 to 1"}, {wrong_maximum, "maximum:", "[2,3]", "[4,2]"},
        {wrong_pow, "pow:", "the power is", "nan"}, {wrong_clip, "clip:", "low is 2", "high is 1"},
        {wrong_linear_cross_entropy, "linear_cross_entropy:", "[2,3]", "[4,2]"},
        {wrong_sum_axis, "sum_axis:", "[2,3]", "no axis 2"}, {wrong_mean_axis, "sum_axis:", "[2,3]", "no axis -1"},
        {wrong_reshape_rank, "reshape:", "rank is -1", "1 to 5"}, {wrong_sum_to_rank, "sum_to:", "rank is 99", "1 to 5"}
    };
    static const int64_t x_shape[2] = {2, 3}, y_shape[2] = {4, 2};
    size_t i;
    for (i = 0; i < sizeof table / sizeof *table; i++) {
        mde_context *c = mde_context_create(NULL);
        CHECK(table[i].call(c, mde_tensor_create(c, 2, x_shape), mde_tensor_create(c, 2, y_shape)) == NULL);
        CHECK(mde_context_status(c) == MDE_BAD_SHAPE || mde_context_status(c) == MDE_BAD_ARGUMENT);
        CHECK_TEXT(mde_error(c), table[i].op);
        CHECK_TEXT(mde_error(c), table[i].first);
        CHECK_TEXT(mde_error(c), table[i].second);
        mde_context_free(c);
    }
}

static void a_shape_must_be_positive_and_addressable(void)
{
    static const int64_t zero[1] = {0}, negative[2] = {3, -1}, vast[3] = {INT64_MAX, INT64_MAX, 2};
    mde_context *c = mde_context_create(NULL);
    CHECK(mde_tensor_create(c, 1, zero) == NULL);
    CHECK_TEXT(mde_error(c), "dimension 0 is 0");
    mde_clear_error(c);
    CHECK(mde_tensor_create(c, 2, negative) == NULL);
    CHECK_TEXT(mde_error(c), "dimension 1 is -1");
    mde_clear_error(c);
    CHECK(mde_tensor_create(c, 3, vast) == NULL);
    CHECK(mde_context_status(c) == MDE_BAD_SHAPE);
    mde_clear_error(c);
    CHECK(mde_tensor_create(c, 6, vast) == NULL);
    CHECK_TEXT(mde_error(c), "rank is 6");
    mde_clear_error(c);
    CHECK(mde_tensor_create(c, 0, vast) == NULL);
    CHECK_TEXT(mde_error(c), "rank is 0");
    mde_clear_error(c);
    CHECK(mde_tensor_from(c, 1, vast, NULL) == NULL);
    CHECK(mde_context_status(c) == MDE_BAD_ARGUMENT);
    mde_context_free(c);
}

static mde_tensor *leaf(mde_context *c, int64_t n, const float *data)
{
    mde_tensor *t = mde_tensor_from(c, 1, &n, data);
    if (t) t->requires_grad = 1;
    return t;
}

static void null_in_gives_null_out_and_the_first_error_sticks(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_tensor *x = mde_scalar(c, 1), *nothing[MDE_MAX_INPUTS] = {NULL}, *dx;
    char first[200];
    int i;
    for (i = 0; i < CASES; i++) {
        CHECK(cases[i].apply(c, &cases[i], nothing) == NULL);
        CHECK(mde_context_status(c) == MDE_BAD_ARGUMENT);
        CHECK_TEXT(mde_error(c), "NULL");
        mde_clear_error(c);
    }
    CHECK(mde_dropout(c, NULL, 0.5, 0, 0) == NULL);
    mde_clear_error(c);
    CHECK(mde_exp(c, NULL) == NULL);
    snprintf(first, sizeof first, "%s", mde_error(c));
    CHECK(mde_matmul(c, x, x) == NULL);
    CHECK(mde_add(c, x, x) == NULL);
    CHECK(mde_dropout(c, x, 0, 0, 0) == NULL);
    CHECK(mde_scalar(c, 1) == NULL);
    CHECK(mde_backward(c, x) == MDE_BAD_ARGUMENT);
    CHECK(mde_grad(c, x, 1, &x, &dx, 0) == MDE_BAD_ARGUMENT);
    CHECK(dx == NULL);
    CHECK(strcmp(mde_error(c), first) == 0);
    CHECK(isnan(mde_item(NULL)));
    CHECK(mde_add(NULL, NULL, NULL) == NULL);
    mde_context_free(c);
}

static void a_gradient_needs_requires_grad_and_a_loss_one_element(void)
{
    static const float three[3] = {1, 2, 3};
    mde_context *c = mde_context_create(NULL);
    mde_tensor *x = leaf(c, 3, three), *y = mde_exp(c, x), *dx = x, *plain = mde_scalar(c, 2);
    CHECK(mde_backward(c, y) == MDE_BAD_SHAPE);
    CHECK_TEXT(mde_error(c), "scalar");
    mde_clear_error(c);
    CHECK(mde_grad(c, mde_mul(c, y, plain), 1, &plain, &dx, 0) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "requires_grad");
    CHECK(dx == NULL);
    mde_clear_error(c);
    CHECK(mde_grad(c, NULL, 1, &x, &dx, 0) == MDE_BAD_ARGUMENT);
    mde_clear_error(c);
    dx = NULL;
    CHECK(mde_grad(c, y, 1, &dx, &dx, 0) == MDE_BAD_ARGUMENT);
    mde_context_free(c);
}

static void tensors_of_another_context_are_refused(void)
{
    static const float two[2] = {1, 2};
    mde_context *c = mde_context_create(NULL), *other = mde_context_create(NULL);
    mde_tensor *x = leaf(c, 1, two), *foreign = mde_sum(other, leaf(other, 2, two)), *dx;
    mde_params *p = mde_params_create(other, 1);
    mde_tensor free_for_all = *x;
    CHECK(mde_add(c, x, foreign) == NULL);
    CHECK_TEXT(mde_error(c), "add: input 1 belongs to another context");
    mde_clear_error(c);
    CHECK(mde_exp(c, mde_param(p, "w", 1, x->shape, MDE_INIT_ONES, 0)) == NULL);
    CHECK_TEXT(mde_error(c), "exp: input 0 belongs to another context");
    mde_clear_error(c);
    CHECK(mde_backward(c, foreign) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "another context");
    mde_clear_error(c);
    CHECK(mde_grad(c, foreign, 1, &x, &dx, 0) == MDE_BAD_ARGUMENT && dx == NULL);
    CHECK_TEXT(mde_error(c), "y belongs to another context");
    mde_clear_error(c);
    CHECK(mde_grad(c, mde_sum(c, x), 1, &foreign, &dx, 0) == MDE_BAD_ARGUMENT && dx == NULL);
    CHECK_TEXT(mde_error(c), "x 0 belongs to another context");
    mde_clear_error(c);
    free_for_all.context = NULL;
    CHECK(mde_exp(other, &free_for_all) != NULL && mde_context_status(other) == MDE_OK);
    mde_context_free(c);
    mde_context_free(other);
}

static void a_detached_tensor_is_a_constant(void)
{
    static const float two[2] = {3, 5};
    mde_context *c = mde_context_create(NULL);
    mde_tensor *x = leaf(c, 2, two), *y = mde_exp(c, x), *fixed = mde_detach(c, y), *dx;
    CHECK(fixed && fixed->data == y->data && !fixed->requires_grad && !fixed->node);
    CHECK(mde_grad(c, mde_mul(c, x, fixed), 1, &x, &dx, 0) == MDE_OK);
    CHECK(dx && dx->data[0] == y->data[0] && dx->data[1] == y->data[1]);
    CHECK(mde_detach(c, NULL) == NULL);
    CHECK_TEXT(mde_error(c), "detach: x is NULL");
    mde_context_free(c);
}

static void an_input_that_is_missing_is_named(void)
{
    static const float two[2] = {3, 5};
    mde_context *c = mde_context_create(NULL);
    mde_tensor *x = leaf(c, 2, two);
    CHECK(mde_mul(c, x, NULL) == NULL);
    CHECK_TEXT(mde_error(c), "mul: input 1 is NULL");
    mde_clear_error(c);
    CHECK(mde_linear(c, x, NULL, 0, NULL, NULL) == NULL);
    CHECK_TEXT(mde_error(c), "linear: the weight is NULL");
    mde_clear_error(c);
    CHECK(mde_linear(c, NULL, x, 0, NULL, NULL) == NULL);
    CHECK_TEXT(mde_error(c), "linear: x is NULL");
    mde_context_free(c);
}

static void argmax_takes_the_first_of_equals_and_a_nan_before_all(void)
{
    static const int64_t shape[2] = {4, 3};
    float rows[12] = {1, 3, 2, 5, 5, 4, -2, -1, -1, 7, 0, 9};
    mde_context *c = mde_context_create(NULL);
    mde_tensor *x;
    rows[10] = (float)NAN;
    x = mde_tensor_from(c, 2, shape, rows);
    CHECK(mde_argmax(x, 0) == 1 && mde_argmax(x, 1) == 0 && mde_argmax(x, 2) == 1 && mde_argmax(x, 3) == 1);
    mde_context_free(c);
}

/* Where functions of one number and of two have their kinks, ends and gaps. */
static void elements_know_their_ends(void)
{
    float inf = (float)INFINITY, nan = (float)NAN;
    float special[8] = {0, -0.0f, 1, -1, -8, inf, -inf, nan}, ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    mde_context *c = mde_context_create(NULL);
    mde_tensor *x = leaf(c, 8, special), *one = leaf(c, 8, ones), *in[2], *dx[2];
    const float *y;
    int i;
    y = mde_abs(c, x)->data;
    CHECK(y[0] == 0 && y[1] == 0 && !signbit(y[1]) && y[4] == 8 && y[6] == inf && y[7] != y[7]);
    mde_grad(c, mde_abs(c, x), 1, &x, dx, 0);
    CHECK(dx[0]->data[0] == 0 && dx[0]->data[1] == 0 && dx[0]->data[2] == 1 && dx[0]->data[4] == -1);
    in[0] = x, in[1] = one;
    for (i = 0; i < 2; i++) {
        y = mde_maximum(c, in[i], in[1 - i])->data;
        CHECK(y[0] == 1 && y[2] == 1 && y[5] == inf && y[6] == 1 && y[7] != y[7]);
    }
    mde_grad(c, mde_maximum(c, x, one), 2, in, dx, 0);
    CHECK(dx[0]->data[2] == 0 && dx[1]->data[2] == 1 && dx[0]->data[5] == 1 && dx[1]->data[5] == 0);
    y = mde_clip(c, x, -1, 1)->data;
    CHECK(y[3] == -1 && y[4] == -1 && y[5] == 1 && y[6] == -1 && y[7] != y[7] && signbit(y[1]));
    y = mde_clip(c, x, -(double)INFINITY, 0.5)->data;
    CHECK(y[2] == 0.5f && y[6] == -inf);
    mde_grad(c, mde_clip(c, x, -1, 0.5), 1, &x, dx, 0);
    CHECK(dx[0]->data[0] == 1 && dx[0]->data[2] == 0 && dx[0]->data[3] == 0 && dx[0]->data[5] == 0);
    y = mde_pow(c, x, 1.0 / 3)->data;
    CHECK(y[0] == 0 && y[2] == 1 && y[4] != y[4] && y[5] == inf && y[7] != y[7]);
    y = mde_pow(c, x, 3)->data;
    CHECK(y[4] == -512 && y[6] == -inf && signbit(y[1]));
    y = mde_pow(c, x, -1)->data;
    CHECK(y[0] == inf && y[1] == -inf && y[3] == -1 && y[4] == -0.125f && y[5] == 0);
    y = mde_pow(c, x, 0)->data;
    CHECK(y[0] == 1 && y[4] == 1 && y[5] == 1);
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

/* ---- Ops of the user's own ---- */

static int cube_shape(mde_context *c, mde_tensor *const *in, const mde_args *args, mde_tensor *out)
{
    (void)c, (void)args;
    out->rank = in[0]->rank;
    memcpy(out->shape, in[0]->shape, sizeof out->shape);
    return 1;
}

static void cube_forward(mde_context *c, mde_node *node)
{
    const float *x = node->in[0]->data;
    size_t i;
    (void)c;
    for (i = 0; i < node->out->count; i++) node->out->data[i] = x[i] * x[i] * x[i];
}

static void cube_vjp(mde_context *c, const mde_node *node, mde_tensor *g, unsigned want, mde_tensor **din)
{
    mde_tensor *x = node->in[0];
    (void)want;
    din[0] = mde_mul(c, g, mde_affine(c, mde_mul(c, x, x), 3, 0));
}

static void failing_vjp(mde_context *c, const mde_node *node, mde_tensor *g, unsigned want, mde_tensor **din)
{
    (void)node, (void)g, (void)want, (void)din;
    mde_fail(c, MDE_NOT_FINITE, "broken: on purpose");
}

static void misshapen_vjp(mde_context *c, const mde_node *node, mde_tensor *g, unsigned want, mde_tensor **din)
{
    (void)node, (void)want;
    din[0] = mde_sum(c, g);
}

static int refusing_shape(mde_context *c, mde_tensor *const *in, const mde_args *args, mde_tensor *out)
{
    (void)c, (void)in, (void)args, (void)out;
    return 0;
}

static const mde_op cube = {"cube", 1, cube_shape, cube_forward, cube_vjp, NULL};
static const mde_op rigid = {"rigid", 1, cube_shape, cube_forward, NULL, NULL};
static const mde_op broken = {"broken", 1, cube_shape, cube_forward, failing_vjp, NULL};
static const mde_op misshapen = {"misshapen", 1, cube_shape, cube_forward, misshapen_vjp, NULL};
static const mde_op refusing = {"refusing", 1, refusing_shape, cube_forward, cube_vjp, NULL};
static const mde_op greedy = {"greedy", 7, cube_shape, cube_forward, cube_vjp, NULL};

static void an_op_of_ones_own_has_derivatives_of_all_orders(void)
{
    static const float at[2] = {2, -0.5f};
    mde_context *c = mde_context_create(NULL);
    mde_tensor *x = leaf(c, 2, at), *first, *second, *third;
    mde_grad(c, mde_apply(c, &cube, &x, NULL), 1, &x, &first, 1);
    mde_grad(c, first, 1, &x, &second, 1);
    mde_grad(c, second, 1, &x, &third, 0);
    CHECK(mde_context_status(c) == MDE_OK);
    if (third) {
        CHECK(first->data[0] == 12 && first->data[1] == 0.75f);
        CHECK(second->data[0] == 12 && second->data[1] == -3);
        CHECK(third->data[0] == 6 && third->data[1] == 6);
    }
    mde_context_free(c);
}

static void an_op_that_goes_against_the_rules_is_an_error_that_names_it(void)
{
    static const float at[2] = {2, -0.5f};
    mde_context *c = mde_context_create(NULL);
    mde_tensor *x = leaf(c, 2, at), *dx;
    CHECK(mde_grad(c, mde_apply(c, &rigid, &x, NULL), 1, &x, &dx, 0) == MDE_NOT_DIFFERENTIABLE);
    CHECK_TEXT(mde_error(c), "rigid: has no derivative");
    mde_clear_error(c);
    CHECK(mde_grad(c, mde_apply(c, &misshapen, &x, NULL), 1, &x, &dx, 0) == MDE_BAD_SHAPE);
    CHECK_TEXT(mde_error(c), "misshapen: the gradient of input 0 is [1]; expected [2]");
    mde_clear_error(c);
    CHECK(mde_apply(c, &refusing, &x, NULL) == NULL);
    CHECK_TEXT(mde_error(c), "refusing");
    mde_clear_error(c);
    CHECK(mde_apply(c, &greedy, &x, NULL) == NULL);
    CHECK_TEXT(mde_error(c), "greedy");
    mde_context_free(c);
}

static void an_error_during_backward_leaves_no_adjoints(void)
{
    static const float at[2] = {2, -0.5f};
    mde_context *c = mde_context_create(NULL);
    mde_tensor *t[6], *dx = NULL;
    int i, record;
    for (record = 0; record < 2; record++) {
        t[0] = leaf(c, 2, at);
        t[1] = mde_exp(c, t[0]);
        t[2] = mde_apply(c, &broken, &t[1], NULL);
        t[3] = mde_mul(c, t[2], t[0]);
        t[4] = mde_tanh(c, t[3]);
        t[5] = mde_sum(c, t[4]);
        dx = t[0];
        CHECK(mde_grad(c, t[5], 1, t, &dx, record) == MDE_NOT_FINITE);
        CHECK(dx == NULL);
        for (i = 0; i < 6; i++) CHECK(t[i] && t[i]->adjoint == NULL);
        mde_clear_error(c);
    }
    mde_context_free(c);
}

/* ---- Walks ---- */

static void a_leaf_that_y_does_not_depend_on_gets_zeros(void)
{
    static const float at[3] = {1, 2, 3};
    mde_context *c = mde_context_create(NULL);
    mde_tensor *x[2], *dx[2];
    x[0] = leaf(c, 3, at);
    x[1] = leaf(c, 3, at);
    CHECK(mde_grad(c, mde_exp(c, x[0]), 2, x, dx, 0) == MDE_OK);
    if (dx[1]) CHECK(dx[1]->count == 3 && dx[1]->data[0] == 0 && dx[1]->data[1] == 0 && dx[1]->data[2] == 0);
    CHECK(mde_grad(c, x[1], 2, x, dx, 0) == MDE_OK);
    if (dx[1]) CHECK(dx[0]->data[1] == 0 && dx[1]->data[1] == 1);
    CHECK(x[0]->adjoint == NULL && x[1]->adjoint == NULL);
    mde_context_free(c);
}

static void a_tensor_used_twice_adds_its_gradients(void)
{
    static const float at[2] = {3, -1.5f};
    mde_context *c = mde_context_create(NULL);
    mde_tensor *x = leaf(c, 2, at), *dx = NULL, *y, *dy = NULL;
    mde_grad(c, mde_mul(c, x, x), 1, &x, &dx, 0);
    if (dx) CHECK(dx->data[0] == 6 && dx->data[1] == -3);
    mde_grad(c, mde_add(c, x, x), 1, &x, &dx, 0);
    if (dx) CHECK(dx->data[0] == 2 && dx->data[1] == 2);
    mde_grad(c, mde_sub(c, x, x), 1, &x, &dx, 0);
    if (dx) CHECK(dx->data[0] == 0 && dx->data[1] == 0);
    /* With respect to a tensor in the middle: d (y + y^2) / dy, not what lies before it. */
    y = mde_mul(c, x, x);
    mde_grad(c, mde_add(c, y, mde_mul(c, y, y)), 1, &y, &dy, 0);
    if (dy) CHECK(dy->data[0] == 19 && dy->data[1] == 5.5f);
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

static void backward_adds_into_parameters_that_want_it(void)
{
    int64_t two = 2;
    mde_context *c = mde_context_create(NULL);
    mde_params *p = mde_params_create(c, 1);
    mde_tensor *a = mde_param(p, "a", 1, &two, MDE_INIT_ONES, 0), *b = mde_param(p, "b", 1, &two, MDE_INIT_ONES, 0);
    mde_tensor *one = mde_param(p, "one", 1, mde__scalar_shape, MDE_INIT_ONES, 0);
    int i;
    b->requires_grad = 0;
    for (i = 0; i < 2; i++) mde_backward(c, mde_sum(c, mde_mul(c, mde_affine(c, a, 3, 0), b)));
    CHECK(a->grad[0] == 6 && a->grad[1] == 6);
    CHECK(b->grad[0] == 0 && b->grad[1] == 0);
    CHECK(mde_backward(c, one) == MDE_OK);
    CHECK(one->grad[0] == 1);
    CHECK(a->adjoint == NULL && one->adjoint == NULL);
    mde_params_zero_grad(p);
    CHECK(a->grad[0] == 0 && one->grad[0] == 0);
    mde_context_free(c);
}

static void without_recording_there_is_no_tape(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_tensor *x = mde_scalar(c, 2), *y;
    x->requires_grad = 1;
    CHECK(mde_set_recording(c, 0) == 1);
    y = mde_exp(c, x);
    CHECK(y && !y->node && !y->requires_grad && c->tape_count == 0);
    CHECK(mde_set_recording(c, 1) == 0);
    y = mde_exp(c, x);
    CHECK(y && y->node && c->tape_count == 1);
    mde_context_free(c);
}

/* ---- A gradient penalty: (|df/dx| - 1)^2 of a small network, by its weights ---- */

#define WIDTH 4

/* f(x) = w2 . tanh(W1 x); weights are W1 [WIDTH, 3], then w2 [WIDTH]. */
static double plain_penalty(const double *weights, const double *x)
{
    double slope[3] = {0, 0, 0}, norm;
    int i, j;
    for (i = 0; i < WIDTH; i++) {
        double sum = 0, y;
        for (j = 0; j < 3; j++) sum += weights[3 * i + j] * x[j];
        y = tanh(sum);
        for (j = 0; j < 3; j++) slope[j] += weights[3 * WIDTH + i] * (1 - y * y) * weights[3 * i + j];
    }
    norm = sqrt(slope[0] * slope[0] + slope[1] * slope[1] + slope[2] * slope[2]);
    return (norm - 1) * (norm - 1);
}

static void a_gradient_penalty_has_the_gradient_of_differences(void)
{
    static const int64_t x_shape[2] = {3, 1}, w1_shape[2] = {WIDTH, 3}, w2_shape[2] = {1, WIDTH};
    mde_context *c = mde_context_create(NULL);
    mde_random random = mde_random_start(3, 0);
    mde_tensor *x = mde_tensor_create(c, 2, x_shape), *w[2], *y, *slope, *penalty, *dw[2];
    double weights[4 * WIDTH], at[3];
    const double h = 1e-5;
    int i;
    w[0] = mde_tensor_create(c, 2, w1_shape);
    w[1] = mde_tensor_create(c, 2, w2_shape);
    for (i = 0; i < 3; i++) x->data[i] = (float)(at[i] = draw(&random, -1, 1));
    for (i = 0; i < 4 * WIDTH; i++) {
        weights[i] = draw(&random, -1, 1);
        *(i < 3 * WIDTH ? w[0]->data + i : w[1]->data + i - 3 * WIDTH) = (float)weights[i];
    }
    x->requires_grad = w[0]->requires_grad = w[1]->requires_grad = 1;
    y = mde_matmul(c, w[1], mde_tanh(c, mde_matmul(c, w[0], x)));
    mde_grad(c, y, 1, &x, &slope, 1);
    penalty = mde_affine(c, mde_sqrt(c, mde_sum(c, mde_mul(c, slope, slope))), 1, -1);
    penalty = mde_mul(c, penalty, penalty);
    CLOSE(mde_item(penalty), plain_penalty(weights, at), ROUNDING);
    CHECK(mde_grad(c, penalty, 2, w, dw, 0) == MDE_OK);
    for (i = 0; i < 4 * WIDTH && dw[1]; i++) {
        double kept = weights[i], up, down;
        weights[i] = kept + h;
        up = plain_penalty(weights, at);
        weights[i] = kept - h;
        down = plain_penalty(weights, at);
        weights[i] = kept;
        CLOSE(i < 3 * WIDTH ? dw[0]->data[i] : dw[1]->data[i - 3 * WIDTH], (up - down) / (2 * h), ROUNDING);
    }
    mde_context_free(c);
}

/* ---- Dropout ---- */

static void dropout_scales_what_it_keeps_and_depends_on_seed_and_stream(void)
{
    int64_t n = 10000;
    mde_context *c = mde_context_create(NULL);
    mde_tensor *x = mde_tensor_create(c, 1, &n), *y, *again, *other, *dx = NULL;
    int64_t i, zeros = 0, differ = 0;
    for (i = 0; i < n; i++) x->data[i] = 1;
    x->requires_grad = 1;
    y = mde_dropout(c, x, 0.25, 5, 1);
    again = mde_dropout(c, x, 0.25, 5, 1);
    other = mde_dropout(c, x, 0.25, 5, 2);
    mde_grad(c, y, 1, &x, &dx, 0);
    CHECK(dx != NULL);
    for (i = 0; i < n && dx; i++) {
        zeros += y->data[i] == 0;
        differ += y->data[i] != other->data[i];
        CHECK(y->data[i] == 0 || y->data[i] == (float)(1 / 0.75));
        CHECK(y->data[i] == again->data[i] && dx->data[i] == y->data[i]);
    }
    /* Four standard deviations of a binomial. */
    CHECK(fabs((double)zeros - 2500) < 4 * sqrt(10000 * 0.25 * 0.75));
    CHECK(differ > 0);
    CHECK(mde_dropout(c, x, 0, 5, 1) == x);
    mde_context_free(c);
}

/* ---- Memory ---- */

/* One training step of a small network whose tensors fill several chunks of the arena. */
static double train_step(mde_context *c, mde_params *p, uint64_t stream)
{
    static const int64_t in_shape[2] = {64, 300}, hidden[2] = {300, 400}, out_shape[2] = {400, 9};
    static const int64_t vector = 300;
    mde_adamw_desc desc;
    mde_random random = mde_random_start(1, stream);
    mde_tensor *gain, *w1, *w2, *x = mde_tensor_create(c, 2, in_shape), *loss;
    int32_t targets[64];
    size_t i;
    if (mde_params_count(p) == 0) {
        mde_param(p, "gain", 1, &vector, MDE_INIT_ONES, 0);
        mde_param(p, "w1", 2, hidden, MDE_INIT_NORMAL, 0.05);
        mde_param(p, "w2", 2, out_shape, MDE_INIT_NORMAL, 0.05);
    }
    gain = mde_params_find(p, "gain");
    w1 = mde_params_find(p, "w1");
    w2 = mde_params_find(p, "w2");
    for (i = 0; x && i < x->count; i++) x->data[i] = (float)mde_random_normal(&random);
    for (i = 0; i < 64; i++) targets[i] = (int32_t)mde_random_below(&random, 9);
    x = mde_gelu(c, mde_matmul(c, mde_rms_norm(c, x, gain, 1e-5), w1));
    loss = mde_mean(c, mde_cross_entropy(c, mde_matmul(c, x, w2), targets));
    memset(&desc, 0, sizeof desc);
    desc.learning_rate = 0.01;
    desc.weight_decay = 0.1;
    mde_params_zero_grad(p);
    mde_backward(c, loss);
    mde_adamw_step(p, &desc);
    return mde_item(loss);
}

static void create_and_step(mde_context *c, void *user)
{
    train_step(c, mde_params_create(c, 1), 0);
    (void)user;
}

static void a_failure_of_any_allocation_is_reported_and_nothing_leaks(void)
{
    CHECK(test_failing_allocations(create_and_step, NULL, 1000) > 20);
}

static void a_limit_on_memory_is_kept(void)
{
    mde_context_desc desc;
    mde_context *c;
    memset(&desc, 0, sizeof desc);
    desc.max_bytes = (size_t)3 << 20;
    c = mde_context_create(&desc);
    train_step(c, mde_params_create(c, 1), 0);
    CHECK(mde_context_status(c) == MDE_OUT_OF_MEMORY);
    CHECK_TEXT(mde_error(c), "limit");
    CHECK(mde_peak_bytes(c) <= desc.max_bytes);
    mde_context_free(c);
}

static void rewinding_the_arena_reuses_its_memory(void)
{
    test_heap heap;
    mde_context_desc desc;
    mde_context *c;
    mde_params *p;
    mde_mark mark;
    int64_t calls = 0;
    size_t peak = 0;
    int step;
    memset(&heap, 0, sizeof heap);
    memset(&desc, 0, sizeof desc);
    desc.allocate = test_allocate;
    desc.release = test_release;
    desc.user = &heap;
    c = mde_context_create(&desc);
    p = mde_params_create(c, 1);
    mark = mde_arena_mark(c);
    for (step = 0; step < 5; step++) {
        train_step(c, p, 0);
        CHECK(c->tape_count > 0);
        if (step == 0) calls = heap.calls;
        if (step == 0) peak = mde_peak_bytes(c);
        mde_arena_rewind(c, mark);
        CHECK(c->tape_count == 0);
    }
    CHECK(mde_context_status(c) == MDE_OK);
    CHECK(heap.calls == calls);
    CHECK(mde_peak_bytes(c) == peak);
    mde_context_free(c);
    CHECK(heap.held == 0);
}

static void a_backward_walk_takes_little_more_memory_than_the_values(void)
{
    const int64_t n = 1 << 16, layers = 40;
    mde_context *c = mde_context_create(NULL);
    mde_tensor *x = mde_tensor_create(c, 1, &n), *y = x, *dx;
    int64_t i;
    x->requires_grad = 1;
    for (i = 0; i < layers; i++) y = mde_silu(c, y);
    CHECK(mde_grad(c, y, 1, &x, &dx, 0) == MDE_OK);
    /* The arena's chunks double, so up to twice of what is in use. */
    CHECK(mde_peak_bytes(c) < 2 * (size_t)(layers + 12) * (size_t)n * sizeof(float));
    mde_context_free(c);
}

/* Gradients that a VJP passes on as they are must not share what is recycled: x + x, residuals, reshapes. */
static void recycled_buffers_are_nobody_elses(void)
{
    static const float at[6] = {1, -2, 0.5f, 3, -1, 2};
    static const int64_t shape[2] = {2, 3}, flat[1] = {6};
    mde_context *c = mde_context_create(NULL);
    mde_tensor *x = mde_tensor_from(c, 2, shape, at), *y, *z, *dx[2][3], *goals[3];
    int i, k, record;
    x->requires_grad = 1;
    y = mde_add(c, x, mde_tanh(c, x));
    goals[0] = x;
    goals[1] = y;
    for (i = 0; i < 4; i++) {
        z = mde_reshape(c, mde_add(c, y, mde_mul(c, y, x)), 1, flat);
        z = mde_sub(c, mde_add(c, z, z), mde_silu(c, z));
        y = mde_add(c, mde_reshape(c, z, 2, shape), mde_affine(c, y, 0.5, 1));
    }
    goals[2] = y;
    for (record = 0; record < 2; record++) CHECK(mde_grad(c, y, 3, goals, dx[record], record) == MDE_OK);
    for (k = 0; k < 3; k++) {
        CHECK(dx[0][k] && memcmp(dx[0][k]->data, dx[1][k]->data, 6 * sizeof(float)) == 0);
    }
    mde_context_free(c);
}

/* ---- Same bits ---- */

static uint64_t hash_tensor(uint64_t hash, const mde_tensor *t)
{
    return t ? mde__hash(hash, t->data, t->count * sizeof *t->data) : 0;
}

/* Of the values, first and second derivatives of all cases, an attention and a few training steps. */
static uint64_t hash_of_everything(mde_context *c)
{
    static const int64_t q_shape[4] = {2, 70, 6, 40}, k_shape[4] = {2, 70, 3, 40};
    mde_mark mark = mde_arena_mark(c);
    mde_params *p = mde_params_create(c, 1);
    uint64_t hash = MDE__HASH_START;
    mde_random random = mde_random_start(2, 0);
    mde_tensor *x[3], *dx[MDE_MAX_INPUTS + 1];
    bench b;
    int i, k;
    size_t j;
    for (i = 0; i < CASES; i++) {
        if (!bench_start(c, &cases[i], &b)) return 0;
        hash = hash_tensor(hash, b.y);
        mde_grad(c, mde_mul(c, b.y, b.in[cases[i].inputs]), cases[i].inputs, b.in, dx, 0);
        for (k = 0; k < cases[i].inputs; k++) hash = hash_tensor(hash, dx[k]);
        mde_grad(c, slope_along_r(c, &b), cases[i].inputs + 1, b.in, dx, 0);
        for (k = 0; k <= cases[i].inputs; k++) hash = hash_tensor(hash, dx[k]);
        mde_arena_rewind(c, mark);
    }
    for (i = 0; i < 3; i++) {
        x[i] = mde_tensor_create(c, 4, i ? k_shape : q_shape);
        for (j = 0; x[i] && j < x[i]->count; j++) x[i]->data[j] = (float)mde_random_normal(&random);
        if (x[i]) x[i]->requires_grad = 1;
    }
    x[0] = mde_rope(c, x[0], 10000, 3);
    mde_grad(c, mde_attention(c, x[0], x[1], x[2], 0.15, 1), 3, x, dx, 0);
    for (k = 0; k < 3; k++) hash = hash_tensor(hash, dx[k]);
    mde_arena_rewind(c, mark);
    for (i = 0; i < 3; i++) {
        train_step(c, p, (uint64_t)i);
        mde_arena_rewind(c, mark);
    }
    for (i = 0; i < mde_params_count(p); i++) hash = hash_tensor(hash, mde_params_tensor(p, i));
    return mde_context_status(c) == MDE_OK ? hash : 0;
}

static void threads_and_instruction_sets_do_not_change_the_bits(void)
{
    static const char *const names[4] = {"best", "portable", "avx2", "avx512"};
    uint64_t first = 0;
    mde_context_desc desc;
    memset(&desc, 0, sizeof desc);
    for (desc.simd = MDE_SIMD_BEST; desc.simd <= MDE_SIMD_AVX512; desc.simd++) {
        for (desc.threads = 1; desc.threads <= 2; desc.threads++) {
            mde_context *c = mde_context_create(&desc);
            if (mde_context_status(c) == MDE_OK) {
                uint64_t hash = hash_of_everything(c);
                if (!first) first = hash;
                CHECK(hash != 0);
                CHECK(hash == first);
            } else if (desc.threads == 1) {
                printf("    without %s, which this machine or build has not\n", names[desc.simd]);
            }
            mde_context_free(c);
        }
    }
}

int main(void)
{
    TEST(every_row_of_the_table_has_a_case);
    TEST(forward_values_agree_with_double_precision);
    TEST(first_derivatives_agree_with_differences);
    TEST(second_derivatives_agree_with_differences);
    TEST(wrong_shapes_are_errors_that_name_op_and_shapes);
    TEST(a_shape_must_be_positive_and_addressable);
    TEST(null_in_gives_null_out_and_the_first_error_sticks);
    TEST(a_gradient_needs_requires_grad_and_a_loss_one_element);
    TEST(tensors_of_another_context_are_refused);
    TEST(a_detached_tensor_is_a_constant);
    TEST(an_input_that_is_missing_is_named);
    TEST(argmax_takes_the_first_of_equals_and_a_nan_before_all);
    TEST(elements_know_their_ends);
    TEST(an_op_of_ones_own_has_derivatives_of_all_orders);
    TEST(an_op_that_goes_against_the_rules_is_an_error_that_names_it);
    TEST(an_error_during_backward_leaves_no_adjoints);
    TEST(a_leaf_that_y_does_not_depend_on_gets_zeros);
    TEST(a_tensor_used_twice_adds_its_gradients);
    TEST(backward_adds_into_parameters_that_want_it);
    TEST(without_recording_there_is_no_tape);
    TEST(a_gradient_penalty_has_the_gradient_of_differences);
    TEST(dropout_scales_what_it_keeps_and_depends_on_seed_and_stream);
    TEST(a_failure_of_any_allocation_is_reported_and_nothing_leaks);
    TEST(a_limit_on_memory_is_kept);
    TEST(rewinding_the_arena_reuses_its_memory);
    TEST(a_backward_walk_takes_little_more_memory_than_the_values);
    TEST(recycled_buffers_are_nobody_elses);
    TEST(threads_and_instruction_sets_do_not_change_the_bits);
    return test_end();
}
