/* A training step of a transformer of GPT-2's form as one writes it first: a loop nest a layer, shared out over rows
   with OpenMP, all activations kept. What bench_lm compares with:
     cc -O3 -march=native -fopenmp bench/plain_lm.c -o build/plain_lm -lm
     ./build/plain_lm LAYERS WIDTH HEADS CONTEXT VOCABULARY BATCH SECONDS
   prints the median tokens a second and the peak of resident memory in bytes. */
#define _POSIX_C_SOURCE 199309L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef _OPENMP
#define DIRECTIVE(text) _Pragma(#text)
#define PARALLEL(clause) DIRECTIVE(omp parallel for clause)
#else
#define PARALLEL(clause)
#endif

static long layers, width, heads, context, vocabulary, batch, rows;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *floats(long size)
{
    float *p = (float *)calloc((size_t)size, sizeof *p);
    if (!p) exit(1);
    return p;
}

/* y [rows, n] = x [rows, k] w [n, k]^T + b; eight rows share one reading of w. */
static void linear(const float *x, const float *w, const float *b, long k, long n, float *y)
{
    long r0;
    PARALLEL()
    for (r0 = 0; r0 < rows; r0 += 8) {
        long j, i, r;
        for (j = 0; j < n; j++) {
            float sum[8];
            for (r = 0; r < 8; r++) sum[r] = b ? b[j] : 0;
            for (i = 0; i < k; i++) {
                float weight = w[j * k + i];
                for (r = 0; r < 8; r++) sum[r] += x[(r0 + r) * k + i] * weight;
            }
            for (r = 0; r < 8; r++) y[(r0 + r) * n + j] = sum[r];
        }
    }
}

/* dx += g w; dw += g^T x, db += sum of g. */
static void linear_back(const float *x, const float *w, const float *g, long k, long n, float *dx, float *dw, float *db)
{
    long r, j;
    PARALLEL()
    for (r = 0; r < rows; r++) {
        long n0, i;
        float *to = dx + r * k;
        for (n0 = 0; n0 < n; n0++) {
            float scale = g[r * n + n0];
            const float *from = w + n0 * k;
            for (i = 0; i < k; i++) to[i] += scale * from[i];
        }
    }
    PARALLEL()
    for (j = 0; j < n; j++) {
        long row, i;
        float *to = dw + j * k;
        for (row = 0; row < rows; row++) {
            float scale = g[row * n + j];
            const float *from = x + row * k;
            if (db) db[j] += scale;
            for (i = 0; i < k; i++) to[i] += scale * from[i];
        }
    }
}

static void norm(const float *x, const float *gain, const float *bias, float *y, float *stats)
{
    long r;
    PARALLEL()
    for (r = 0; r < rows; r++) {
        const float *a = x + r * width;
        float mean = 0, square = 0, scale;
        long i;
        for (i = 0; i < width; i++) mean += a[i];
        mean /= (float)width;
        for (i = 0; i < width; i++) square += (a[i] - mean) * (a[i] - mean);
        scale = 1 / sqrtf(square / (float)width + 1e-5f);
        for (i = 0; i < width; i++) y[r * width + i] = (a[i] - mean) * scale * gain[i] + bias[i];
        stats[2 * r] = mean;
        stats[2 * r + 1] = scale;
    }
}

static void norm_back(const float *x, const float *gain, const float *stats, const float *g, float *dx, float *dgain,
                      float *dbias)
{
    long r;
    for (r = 0; r < rows; r++) {
        const float *a = x + r * width, *d = g + r * width;
        float mean = stats[2 * r], scale = stats[2 * r + 1], mean_h = 0, mean_hn = 0;
        long i;
        for (i = 0; i < width; i++) {
            float n = (a[i] - mean) * scale, h = d[i] * gain[i];
            mean_h += h;
            mean_hn += h * n;
            dgain[i] += d[i] * n;
            dbias[i] += d[i];
        }
        mean_h /= (float)width;
        mean_hn /= (float)width;
        for (i = 0; i < width; i++) {
            float n = (a[i] - mean) * scale;
            dx[r * width + i] += scale * (d[i] * gain[i] - mean_h - n * mean_hn);
        }
    }
}

/* p [batch, heads, context, context], y [rows, width] */
static void attention(const float *qkv, float *p, float *y)
{
    long dim = width / heads, pair;
    float scale = 1 / sqrtf((float)dim);
    PARALLEL()
    for (pair = 0; pair < batch * heads; pair++) {
        long b = pair / heads, h = pair % heads, t, s, i;
        for (t = 0; t < context; t++) {
            const float *q = qkv + (b * context + t) * 3 * width + h * dim;
            float *weights = p + (pair * context + t) * context;
            float *out = y + (b * context + t) * width + h * dim;
            float largest = -1e30f, sum = 0;
            for (s = 0; s <= t; s++) {
                const float *k = qkv + (b * context + s) * 3 * width + width + h * dim;
                float dot = 0;
                for (i = 0; i < dim; i++) dot += q[i] * k[i];
                weights[s] = dot * scale;
                if (weights[s] > largest) largest = weights[s];
            }
            for (s = 0; s <= t; s++) sum += weights[s] = expf(weights[s] - largest);
            for (i = 0; i < dim; i++) out[i] = 0;
            for (s = 0; s <= t; s++) {
                const float *v = qkv + (b * context + s) * 3 * width + 2 * width + h * dim;
                weights[s] /= sum;
                for (i = 0; i < dim; i++) out[i] += weights[s] * v[i];
            }
        }
    }
}

static void attention_back(const float *qkv, const float *p, const float *g, float *dqkv)
{
    long dim = width / heads, pair;
    float scale = 1 / sqrtf((float)dim);
    PARALLEL()
    for (pair = 0; pair < batch * heads; pair++) {
        long b = pair / heads, h = pair % heads, t, s, i;
        float *dweights = (float *)malloc((size_t)context * sizeof *dweights);
        for (t = 0; dweights && t < context; t++) {
            long at = (b * context + t) * 3 * width + h * dim;
            const float *d = g + (b * context + t) * width + h * dim;
            const float *weights = p + (pair * context + t) * context;
            float along = 0;
            for (s = 0; s <= t; s++) {
                long key = (b * context + s) * 3 * width + h * dim;
                float dot = 0;
                for (i = 0; i < dim; i++) {
                    dot += d[i] * qkv[key + 2 * width + i];
                    dqkv[key + 2 * width + i] += weights[s] * d[i];
                }
                dweights[s] = dot;
                along += dot * weights[s];
            }
            for (s = 0; s <= t; s++) {
                long key = (b * context + s) * 3 * width + h * dim;
                float slope = weights[s] * (dweights[s] - along) * scale;
                for (i = 0; i < dim; i++) {
                    dqkv[at + i] += slope * qkv[key + width + i];
                    dqkv[key + width + i] += slope * qkv[at + i];
                }
            }
        }
        free(dweights);
    }
}

static void gelu(const float *x, float *y)
{
    long i, n = rows * 4 * width;
    PARALLEL()
    for (i = 0; i < n; i++) y[i] = 0.5f * x[i] * (1 + tanhf(0.7978845608f * (x[i] + 0.044715f * x[i] * x[i] * x[i])));
}

static void gelu_back(const float *x, const float *g, float *dx)
{
    long i, n = rows * 4 * width;
    PARALLEL()
    for (i = 0; i < n; i++) {
        float a = x[i], t = tanhf(0.7978845608f * (a + 0.044715f * a * a * a));
        float slope = 0.7978845608f * (1 + 3 * 0.044715f * a * a);
        dx[i] = g[i] * (0.5f * (1 + t) + 0.5f * a * (1 - t * t) * slope);
    }
}

/* Parameters of a layer, one after the other in one block; the same places hold their gradients. */
enum { GAIN_1, SHIFT_1, QKV, QKV_BIAS, OUT, OUT_BIAS, GAIN_2, SHIFT_2, UP, UP_BIAS, DOWN, DOWN_BIAS, LAYER_PARTS };

static long part_size(long part)
{
    long w = width;
    static const long vectors[LAYER_PARTS] = { 1, 1, 0, 3, 0, 1, 1, 1, 0, 4, 0, 1 };
    static const long matrices[LAYER_PARTS] = { 0, 0, 3, 0, 1, 0, 0, 0, 4, 0, 4, 0 };
    return vectors[part] * w + matrices[part] * w * w;
}

typedef struct activations {
    float *x, *n1, *stats1, *qkv, *p, *a, *middle, *n2, *stats2, *up, *h, *branch;
} activations;

static long count;
static float *weights, *gradients, *m1, *m2, *logits, *last, *last_stats, *d[7];
static activations *layer;
static long *tokens;

static float *part_of(float *block, long l, long part)
{
    long at = 0;
    long i;
    for (i = 0; i < LAYER_PARTS; i++) at += part_size(i) * l;
    for (i = 0; i < part; i++) at += part_size(i);
    return block + at;
}

static void sum(const float *a, const float *b, float *y)
{
    long i;
    for (i = 0; i < rows * width; i++) y[i] = a[i] + b[i];
}

static void forward(const float *embedding, const float *positions, const float *gain)
{
    long r, i, l;
    for (r = 0; r < rows; r++) {
        for (i = 0; i < width; i++) {
            layer[0].x[r * width + i] = embedding[tokens[r] * width + i]
                                              + positions[(r % context) * width + i];
        }
    }
    for (l = 0; l < layers; l++) {
        activations *a = &layer[l];
        norm(a->x, part_of(weights, l, GAIN_1), part_of(weights, l, SHIFT_1), a->n1, a->stats1);
        linear(a->n1, part_of(weights, l, QKV), part_of(weights, l, QKV_BIAS), width, 3 * width, a->qkv);
        attention(a->qkv, a->p, a->a);
        linear(a->a, part_of(weights, l, OUT), part_of(weights, l, OUT_BIAS), width, width, a->branch);
        sum(a->x, a->branch, a->middle);
        norm(a->middle, part_of(weights, l, GAIN_2), part_of(weights, l, SHIFT_2), a->n2, a->stats2);
        linear(a->n2, part_of(weights, l, UP), part_of(weights, l, UP_BIAS), width, 4 * width, a->up);
        gelu(a->up, a->h);
        linear(a->h, part_of(weights, l, DOWN), part_of(weights, l, DOWN_BIAS), 4 * width, width, a->branch);
        sum(a->middle, a->branch, layer[l + 1].x);
    }
    norm(layer[layers].x, gain, gain + width, last, last_stats);
    linear(last, embedding, NULL, width, vocabulary, logits);
}

/* Logits become their gradients; returns the loss. */
static double cross_entropy(void)
{
    double loss = 0;
    long r;
    PARALLEL(reduction(+ : loss))
    for (r = 0; r < rows; r++) {
        float *x = logits + r * vocabulary, largest = x[0], total = 0;
        long target = tokens[r + 1], i;
        for (i = 1; i < vocabulary; i++) largest = x[i] > largest ? x[i] : largest;
        for (i = 0; i < vocabulary; i++) total += x[i] = expf(x[i] - largest);
        loss -= log((double)(x[target] / total));
        for (i = 0; i < vocabulary; i++) x[i] /= total * (float)rows;
        x[target] -= 1 / (float)rows;
    }
    return loss / (double)rows;
}

static void clear(float *x, long n)
{
    memset(x, 0, (size_t)(rows * n) * sizeof *x);
}

static void backward(const float *embedding, float *dembedding, float *dpositions, const float *gain, float *dgain)
{
    float *dx = d[0], *dn = d[1], *dup = d[2], *dh = d[3], *dqkv = d[4], *da = d[5];
    long l, r, i;
    memset(gradients, 0, (size_t)count * sizeof *gradients);
    clear(dn, width);
    linear_back(last, embedding, logits, width, vocabulary, dn, dembedding, NULL);
    clear(dx, width);
    norm_back(layer[layers].x, gain, last_stats, dn, dx, dgain, dgain + width);
    for (l = layers - 1; l >= 0; l--) {
        activations *a = &layer[l];
        clear(dh, 4 * width);
        linear_back(a->h, part_of(weights, l, DOWN), dx, 4 * width, width, dh, part_of(gradients, l, DOWN),
                    part_of(gradients, l, DOWN_BIAS));
        gelu_back(a->up, dh, dup);
        clear(dn, width);
        linear_back(a->n2, part_of(weights, l, UP), dup, width, 4 * width, dn, part_of(gradients, l, UP),
                    part_of(gradients, l, UP_BIAS));
        norm_back(a->middle, part_of(weights, l, GAIN_2), a->stats2, dn, dx, part_of(gradients, l, GAIN_2),
                  part_of(gradients, l, SHIFT_2));
        clear(da, width);
        linear_back(a->a, part_of(weights, l, OUT), dx, width, width, da, part_of(gradients, l, OUT),
                    part_of(gradients, l, OUT_BIAS));
        clear(dqkv, 3 * width);
        attention_back(a->qkv, a->p, da, dqkv);
        clear(dn, width);
        linear_back(a->n1, part_of(weights, l, QKV), dqkv, width, 3 * width, dn, part_of(gradients, l, QKV),
                    part_of(gradients, l, QKV_BIAS));
        norm_back(a->x, part_of(weights, l, GAIN_1), a->stats1, dn, dx, part_of(gradients, l, GAIN_1),
                  part_of(gradients, l, SHIFT_1));
    }
    for (r = 0; r < rows; r++) {
        for (i = 0; i < width; i++) {
            dembedding[tokens[r] * width + i] += dx[r * width + i];
            dpositions[(r % context) * width + i] += dx[r * width + i];
        }
    }
}

static void adamw(long step)
{
    float c1 = 1 - powf(0.9f, (float)step), c2 = 1 - powf(0.95f, (float)step);
    double square = 0;
    float scale;
    long i;
    for (i = 0; i < count; i++) square += (double)gradients[i] * (double)gradients[i];
    scale = square > 1 ? (float)(1 / sqrt(square)) : 1;
    PARALLEL()
    for (i = 0; i < count; i++) {
        float g = gradients[i] * scale;
        m1[i] = 0.9f * m1[i] + 0.1f * g;
        m2[i] = 0.95f * m2[i] + 0.05f * g * g;
        weights[i] -= 3e-4f * (m1[i] / c1 / (sqrtf(m2[i] / c2) + 1e-8f) + 0.1f * weights[i]);
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static double times[99];
    double seconds, begun, loss = 0, kilobytes = 0;
    long w, layer_size = 0, head, i;
    long l, runs = 0, sizes[6];
    char line[256];
    float *embedding, *dembedding;
    FILE *f;
    if (argc != 8) return 1;
    layers = atol(argv[1]), width = atol(argv[2]), heads = atol(argv[3]), context = atol(argv[4]);
    vocabulary = atol(argv[5]), batch = atol(argv[6]), seconds = atof(argv[7]);
    rows = batch * context;
    w = width;
    for (l = 0; l < LAYER_PARTS; l++) layer_size += part_size(l);
    head = layer_size * layers;
    count = head + (vocabulary + context + 2) * w;
    weights = floats(count), gradients = floats(count), m1 = floats(count), m2 = floats(count);
    srand(1);
    for (i = 0; i < count; i++) weights[i] = 0.04f * ((float)rand() / (float)RAND_MAX - 0.5f);
    embedding = weights + head, dembedding = gradients + head;
    layer = (activations *)calloc((size_t)layers + 1, sizeof *layer);
    tokens = (long *)calloc((size_t)rows + 1, sizeof *tokens);
    if (!layer || !tokens) return 1;
    for (l = 0; l <= rows; l++) tokens[l] = rand() % vocabulary;
    for (l = 0; l <= layers; l++) {
        activations *a = &layer[l];
        long n = rows * w;
        a->x = floats(n);
        if (l == layers) break;
        a->n1 = floats(n), a->stats1 = floats(2 * rows), a->qkv = floats(3 * n), a->a = floats(n);
        a->p = floats(rows * heads * context), a->branch = floats(n), a->middle = floats(n);
        a->n2 = floats(n), a->stats2 = floats(2 * rows), a->up = floats(4 * n), a->h = floats(4 * n);
    }
    last = floats(rows * w), last_stats = floats(2 * rows);
    logits = floats(rows * vocabulary);
    sizes[0] = sizes[1] = sizes[5] = 1, sizes[2] = sizes[3] = 4, sizes[4] = 3;
    for (l = 0; l < 6; l++) d[l] = floats(rows * w * sizes[l]);
    for (begun = now(); runs < 99 && (runs < 2 || now() - begun < seconds); runs++) {
        double start = now();
        float *positions = embedding + vocabulary * w, *gain = positions + context * w;
        float *dpositions = dembedding + vocabulary * w, *dgain = dpositions + context * w;
        for (l = 0; runs == 0 && l < width; l++) gain[l] = 1, gain[width + l] = 0;
        forward(embedding, positions, gain);
        loss = cross_entropy();
        backward(embedding, dembedding, dpositions, gain, dgain);
        adamw(runs + 1);
        times[runs] = now() - start;
    }
    qsort(times, (size_t)runs, sizeof *times, ascending);
    f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "VmHWM:", 6) == 0) kilobytes = atof(line + 6);
    }
    if (f) fclose(f);
    fprintf(stderr, "# plain_lm: loss %.4f after %ld steps\n", loss, runs);
    printf("%.17g %.17g\n", (double)rows / times[runs / 2], kilobytes * 1024);
    return 0;
}
