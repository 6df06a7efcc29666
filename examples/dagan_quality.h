/* dagan_quality.h - what made images are worth, on classes that neither network has seen: how much they vary, how far
   they are from what they were made from, whether a Matching Network takes them for their class. For dagan_lab.c. */
#ifndef DAGAN_QUALITY_H
#define DAGAN_QUALITY_H
#include "dagan_screen.h"

/* Distances are Euclidean. */
typedef struct dagan_quality {
    double diversity;           /* mean distance of siblings (one image, two z) over that of two real ones of a class */
    double copy;                /* mean distance to the conditioning image over that of two real ones */
    double recognisability;     /* 20-way 1-shot accuracy of the matcher on made images, real ones as support */
    double real_recognisability;/* the same on real images */
    double embedded_diversity, embedded_copy;   /* the first two in the matcher's embedding */
    double z_share;             /* of the variance of made images, the share due to z (the rest: to the image) */
} dagan_quality;

/* At most 200 classes, of each at most four real images, two of which are the conditions of four siblings each. */
enum { QUALITY_CLASSES = 200, QUALITY_REALS = 4, QUALITY_CONDITIONS = 2, QUALITY_SIBLINGS = 4, QUALITY_MADE = 8,
       QUALITY_EPISODES = 200, QUALITY_WAY = 20 };

/* Streams of random numbers: z is drawn as dagan_generate does it for an image of that number. */
enum { QUALITY_NOISE_STREAM = 6, QUALITY_CLASS_STREAM = 40, QUALITY_EPISODE_STREAM = 42 };

static mde_random quality_random(uint64_t seed, int what, int64_t index)
{
    return mde_random_start(seed, (uint64_t)what << 56 | (uint64_t)index);
}

/* Sums and numbers of distances in one space: of two real images, of siblings, of a made image and the one it was made
   from. */
enum { QUALITY_OF_REALS, QUALITY_OF_SIBLINGS, QUALITY_OF_COPIES };
typedef struct quality_distances { double sum[3], count[3]; } quality_distances;

static void quality_distance(quality_distances *d, int kind, const float *a, const float *b, size_t size)
{
    d->sum[kind] += sqrt(screen_distance(size, a, b, HUGE_VAL));
    d->count[kind] += 1;
}

/* One class: real [reals], of which the first are the conditions; made [conditions, siblings]. */
static void quality_distances_add(quality_distances *d, size_t size, int reals, const float *const *real,
                                  const float *made)
{
    int i, j, k;
    for (i = 0; i < reals; i++) {
        for (j = i + 1; j < reals; j++) quality_distance(d, QUALITY_OF_REALS, real[i], real[j], size);
    }
    for (k = 0; k < QUALITY_CONDITIONS; k++, made += QUALITY_SIBLINGS * size) {
        for (i = 0; i < QUALITY_SIBLINGS; i++) {
            const float *a = made + (size_t)i * size;
            quality_distance(d, QUALITY_OF_COPIES, a, real[k], size);
            for (j = i + 1; j < QUALITY_SIBLINGS; j++) {
                quality_distance(d, QUALITY_OF_SIBLINGS, a, made + (size_t)j * size, size);
            }
        }
    }
}

/* The mean of one kind over that of real images. */
static double quality_over_reals(const quality_distances *d, int kind)
{
    return d->sum[kind] / d->count[kind] / (d->sum[QUALITY_OF_REALS] / d->count[QUALITY_OF_REALS]);
}

/* One-way analysis of variance of the made images, all pixels together: a group is one condition. */
typedef struct quality_variance { double *sum, squares, within; int64_t groups; } quality_variance;

static void quality_variance_add(quality_variance *v, size_t size, const float *group)
{
    size_t i;
    int j;
    for (i = 0; i < size; i++) {
        double mean = 0;
        for (j = 0; j < QUALITY_SIBLINGS; j++) mean += (double)group[(size_t)j * size + i];
        mean /= (double)QUALITY_SIBLINGS;
        for (j = 0; j < QUALITY_SIBLINGS; j++) {
            double apart = (double)group[(size_t)j * size + i] - mean;
            v->within += apart * apart;
        }
        v->sum[i] += mean;
        v->squares += mean * mean;
    }
    v->groups++;
}

static double quality_variance_share(const quality_variance *v, size_t size)
{
    double groups = (double)v->groups, of_sum = 0, inner, outer;
    size_t i;
    for (i = 0; i < size; i++) of_sum += v->sum[i] * v->sum[i];
    inner = v->within / (groups * (QUALITY_SIBLINGS - 1));
    outer = (v->squares - of_sum / groups) / (groups - 1) - inner / (double)QUALITY_SIBLINGS;
    return inner / (inner + (outer > 0 ? outer : 0));
}

/* Where a measurement stands. */
typedef struct quality_judging {
    mde_context *c;
    dagan *g;
    dagan_matcher *m, *screener;            /* the latter takes the share `kept` of what is made; or NULL */
    double kept, z_scale;
    screen support;                         /* the conditions of all classes, as the screener sees them */
    const dagan_images *set;
    uint64_t seed;
    size_t size, width, noise;              /* floats of an image, of an embedding, of z */
    int count, *urn;
    int classes[QUALITY_CLASSES];           /* those that are looked at */
    int reals[QUALITY_CLASSES];             /* of each of them, at most QUALITY_REALS */
    float *real, *from, *made, *z;          /* of one class: real ones, what each made one is of, it, its z */
    mde_tensor *real_rows, *made_rows;      /* embeddings at unit length: [count reals, width], [count made, width] */
    quality_distances pixels, embedded;
    quality_variance variance;
} quality_judging;

static mde_tensor *quality_rows(const quality_judging *j, int rows)
{
    int64_t shape[2];
    shape[0] = (int64_t)QUALITY_CLASSES * rows;
    shape[1] = (int64_t)j->width;
    return mde_tensor_create(j->c, 2, shape);
}

static void quality_open(quality_judging *j)
{
    int classes = dagan_images_class_count(j->set), k, maximum = classes;
    mde_random r = quality_random(j->seed, QUALITY_CLASS_STREAM, 0);
    for (k = 0; k < classes; k++) {
        if (dagan_images_sample_count(j->set, k) > maximum) maximum = dagan_images_sample_count(j->set, k);
    }
    j->urn = (int *)mde_scratch(j->c, (size_t)maximum, sizeof *j->urn);
    j->real = (float *)mde_scratch(j->c, QUALITY_REALS, j->size * sizeof *j->real);
    j->from = (float *)mde_scratch(j->c, QUALITY_MADE, j->size * sizeof *j->from);
    j->made = (float *)mde_scratch(j->c, QUALITY_MADE, j->size * sizeof *j->made);
    j->z = (float *)mde_scratch(j->c, QUALITY_MADE, j->noise * sizeof *j->z);
    j->variance.sum = (double *)mde_scratch(j->c, j->size, sizeof *j->variance.sum);
    if (j->m) j->real_rows = quality_rows(j, QUALITY_REALS);
    if (j->m) j->made_rows = quality_rows(j, QUALITY_MADE);
    if (mde_context_status(j->c) != MDE_OK) return;
    memset(j->variance.sum, 0, j->size * sizeof *j->variance.sum);
    mde_random_draw(&r, classes, classes, j->urn);
    for (k = 0; k < classes && j->count < QUALITY_CLASSES; k++) {
        if (dagan_images_sample_count(j->set, j->urn[k]) >= 2) j->classes[j->count++] = j->urn[k];
    }
    if (j->count < 2) {
        mde_fail(j->c, MDE_BAD_ARGUMENT, "measure: %d of the %d classes have 2 images or more; expected 2 such classes",
                 j->count, classes);
    }
}

/* Embeddings at unit length. */
static void quality_embed(const quality_judging *j, int count, const float *images, float *rows)
{
    size_t i;
    int k;
    if (dagan_matcher_embed(j->m, count, images, rows) != MDE_OK) return;
    for (k = 0; k < count; k++, rows += j->width) {
        double sum = 0, scale;
        for (i = 0; i < j->width; i++) sum += (double)rows[i] * (double)rows[i];
        scale = sum > 0 ? 1 / sqrt(sum) : 0;
        for (i = 0; i < j->width; i++) rows[i] = (float)((double)rows[i] * scale);
    }
}

/* The z of an image of that number. */
static void quality_noise(const quality_judging *j, uint64_t seed, int64_t number, float *z)
{
    mde_random normal = quality_random(seed, QUALITY_NOISE_STREAM, number);
    size_t k;
    for (k = 0; k < j->noise; k++) z[k] = (float)(j->z_scale * mde_random_normal(&normal));
}

/* Of more siblings for each condition the best ones, as screening of two real images a class takes them. */
static void quality_screen(quality_judging *j, int number)
{
    int all = (int)ceil((double)QUALITY_SIBLINGS / j->kept - 1e-9), i, k;
    mde_mark mark = mde_arena_mark(j->c);
    screen_candidate *ranked = (screen_candidate *)mde_scratch(j->c, (size_t)all, sizeof *ranked);
    float *from = (float *)mde_scratch(j->c, (size_t)all, j->size * sizeof *from);
    float *made = (float *)mde_scratch(j->c, (size_t)all, j->size * sizeof *made);
    float *z = (float *)mde_scratch(j->c, (size_t)all, j->noise * sizeof *z);
    for (k = 0; k < QUALITY_CONDITIONS && mde_context_status(j->c) == MDE_OK; k++) {
        uint64_t seed = j->seed * 1000003 + (uint64_t)(number * QUALITY_CONDITIONS + k);
        float *out = j->made + (size_t)(k * QUALITY_SIBLINGS) * j->size;
        for (i = 0; i < all; i++) {
            memcpy(from + (size_t)i * j->size, j->from + (size_t)(k * QUALITY_SIBLINGS) * j->size,
                   j->size * sizeof *from);
            quality_noise(j, seed, i, z + (size_t)i * j->noise);
        }
        dagan_generate(j->g, all, from, z, 0, made);
        screen_rank(&j->support, number, all, made, ranked);
        for (i = 0; i < QUALITY_SIBLINGS && mde_context_status(j->c) == MDE_OK; i++) {
            memcpy(out + (size_t)i * j->size, made + (size_t)ranked[i].index * j->size, j->size * sizeof *out);
        }
    }
    mde_arena_rewind(j->c, mark);
}

/* Which real images are those of class `number`; the first are the conditions. */
static int quality_draw(quality_judging *j, int number)
{
    int samples = dagan_images_sample_count(j->set, j->classes[number]);
    int reals = samples < QUALITY_REALS ? samples : QUALITY_REALS;
    mde_random r = quality_random(j->seed, QUALITY_CLASS_STREAM, 1 + number);
    mde_random_draw(&r, samples, reals, j->urn);
    return reals;
}

/* The conditions of all classes, as the support that the screener compares with. */
static void quality_open_screen(quality_judging *j)
{
    size_t count = (size_t)j->count * QUALITY_CONDITIONS;
    float *pixels = (float *)mde_scratch(j->c, count, j->size * sizeof *pixels);
    int height, width, channels, k, i, *labels = (int *)mde_scratch(j->c, count, sizeof *labels);
    dagan_images *conditions = NULL;
    for (k = 0; pixels && labels && k < j->count; k++) {
        quality_draw(j, k);
        for (i = 0; i < QUALITY_CONDITIONS; i++) {
            size_t at = (size_t)k * QUALITY_CONDITIONS + (size_t)i;
            memcpy(pixels + at * j->size, dagan_images_pixels(j->set, j->classes[k], j->urn[i]),
                   j->size * sizeof *pixels);
            labels[at] = k;
        }
    }
    dagan_images_shape(j->set, &height, &width, &channels);
    if (mde_context_status(j->c) == MDE_OK) {
        conditions = dagan_images_from(j->c, (int64_t)count, height, width, channels, pixels, labels);
    }
    if (conditions) j->support = screen_open(j->c, j->screener, conditions);
    dagan_images_free(conditions);
}

static void quality_judge_class(quality_judging *j, int number)
{
    int class_index = j->classes[number], reals = quality_draw(j, number), i;
    const float *real[QUALITY_REALS];
    for (i = 0; i < reals; i++) {
        real[i] = dagan_images_pixels(j->set, class_index, j->urn[i]);
        memcpy(j->real + (size_t)i * j->size, real[i], j->size * sizeof *j->real);
    }
    for (i = 0; i < QUALITY_MADE; i++) {
        memcpy(j->from + (size_t)i * j->size, real[i / QUALITY_SIBLINGS], j->size * sizeof *j->from);
        quality_noise(j, j->seed, (int64_t)number * QUALITY_MADE + i, j->z + (size_t)i * j->noise);
    }
    j->reals[number] = reals;
    if (j->screener) quality_screen(j, number);
    else dagan_generate(j->g, QUALITY_MADE, j->from, j->z, 0, j->made);
    if (mde_context_status(j->c) != MDE_OK) return;
    quality_distances_add(&j->pixels, j->size, reals, real, j->made);
    for (i = 0; i < QUALITY_CONDITIONS; i++) {
        quality_variance_add(&j->variance, j->size, j->made + (size_t)(i * QUALITY_SIBLINGS) * j->size);
    }
    if (j->m) {
        float *real_rows = j->real_rows->data + (size_t)number * QUALITY_REALS * j->width;
        float *made_rows = j->made_rows->data + (size_t)number * QUALITY_MADE * j->width;
        quality_embed(j, reals, j->real, real_rows);
        quality_embed(j, QUALITY_MADE, j->made, made_rows);
        for (i = 0; i < reals; i++) real[i] = real_rows + (size_t)i * j->width;
        quality_distances_add(&j->embedded, j->width, reals, real, made_rows);
    }
}

/* Hits of one episode, hits[0] on made images and hits[1] on real ones: queries are a made image of each class and the
   real one that it was made from, the support another real image. */
static void quality_judge_episode(quality_judging *j, int episode, int way, int64_t *hits)
{
    mde_mark mark = mde_arena_mark(j->c);
    mde_random r = quality_random(j->seed, QUALITY_EPISODE_STREAM, episode);
    int32_t support[QUALITY_WAY], made[QUALITY_WAY], real[QUALITY_WAY];
    mde_tensor *queries, *logits;
    int i, k;
    mde_random_draw(&r, j->count, way, j->urn);
    for (i = 0; i < way; i++) {
        int number = j->urn[i], copy = (int)mde_random_below(&r, QUALITY_MADE);
        int condition = copy / QUALITY_SIBLINGS;
        int other = (int)mde_random_below(&r, (uint64_t)(j->reals[number] - 1));
        support[i] = number * QUALITY_REALS + other + (other >= condition);
        made[i] = number * QUALITY_MADE + copy;
        real[i] = number * QUALITY_REALS + condition;
    }
    queries = mde_concat(j->c, mde_gather(j->c, j->made_rows, way, made), mde_gather(j->c, j->real_rows, way, real), 0);
    logits = dagan_matcher_logits(j->m, mde_gather(j->c, j->real_rows, way, support), queries, way);
    for (i = 0; logits && i < 2 * way; i++) {
        const float *row = logits->data + i * way;
        int best = 0;
        for (k = 1; k < way; k++) if (row[k] > row[best]) best = k;
        hits[i / way] += best == i % way;
    }
    mde_arena_rewind(j->c, mark);
}

/* Images of the size that a network takes. */
static int quality_fits(quality_judging *j, const char *what, int height, int width, int channels)
{
    int h, w, n;
    dagan_images_shape(j->set, &h, &w, &n);
    if (h == height && w == width && n == channels) return 1;
    mde_fail(j->c, MDE_BAD_SHAPE, "measure%s: images of %d x %d x %d; the network takes %d x %d x %d", what, h, w, n,
             height, width, channels);
    return 0;
}

/* m: a matcher that was trained without made images, or NULL; then what needs one is NaN. screener: another one, by
   which the share `kept` of what is made is taken, or NULL. z is drawn and multiplied by z_scale. */
static mde_status dagan_measure(dagan *g, dagan_matcher *m, dagan_matcher *screener, double kept, double z_scale,
                                const dagan_images *set, uint64_t seed, dagan_quality *out)
{
    quality_judging j;
    mde_context *of_matcher;
    mde_mark mark;
    int64_t hits[2] = { 0, 0 };
    int recording, way, height, width, channels, i;
    if (out) {
        out->diversity = out->copy = out->recognisability = out->real_recognisability = (double)NAN;
        out->embedded_diversity = out->embedded_copy = out->z_share = (double)NAN;
    }
    if (!g) return MDE_BAD_ARGUMENT;
    memset(&j, 0, sizeof j);
    dagan_shape(g, &j.c, &height, &width, &channels);
    j.g = g;
    j.m = m;
    j.screener = screener;
    j.kept = kept;
    j.z_scale = z_scale;
    j.set = set;
    j.seed = seed;
    j.size = (size_t)height * (size_t)width * (size_t)channels;
    j.width = (size_t)dagan_matcher_width(m);
    j.noise = (size_t)dagan_describe(g)->noise;
    if (mde_context_status(j.c) != MDE_OK) return mde_context_status(j.c);
    if (!set) return mde_fail(j.c, MDE_BAD_ARGUMENT, "measure: no set of images was given");
    if (!quality_fits(&j, "", height, width, channels)) return mde_context_status(j.c);
    if (!out) return mde_fail(j.c, MDE_BAD_ARGUMENT, "measure: no place for the result");
    dagan_matcher_shape(m, &of_matcher, &height, &width, &channels);
    if (m && of_matcher != j.c) {
        return mde_fail(j.c, MDE_BAD_ARGUMENT, "measure: the matcher belongs to another context");
    }
    if (m && !quality_fits(&j, ", matcher", height, width, channels)) return mde_context_status(j.c);
    mark = mde_arena_mark(j.c);
    recording = mde_set_recording(j.c, 0);
    quality_open(&j);
    if (screener && mde_context_status(j.c) == MDE_OK) quality_open_screen(&j);
    way = j.count < QUALITY_WAY ? j.count : QUALITY_WAY;
    for (i = 0; i < j.count && mde_context_status(j.c) == MDE_OK; i++) quality_judge_class(&j, i);
    for (i = 0; m && i < QUALITY_EPISODES && mde_context_status(j.c) == MDE_OK; i++) {
        quality_judge_episode(&j, i, way, hits);
    }
    if (mde_context_status(j.c) == MDE_OK) {
        out->diversity = quality_over_reals(&j.pixels, QUALITY_OF_SIBLINGS);
        out->copy = quality_over_reals(&j.pixels, QUALITY_OF_COPIES);
        out->z_share = quality_variance_share(&j.variance, j.size);
    }
    if (mde_context_status(j.c) == MDE_OK && m) {
        out->embedded_diversity = quality_over_reals(&j.embedded, QUALITY_OF_SIBLINGS);
        out->embedded_copy = quality_over_reals(&j.embedded, QUALITY_OF_COPIES);
        out->recognisability = (double)hits[0] / ((double)QUALITY_EPISODES * way);
        out->real_recognisability = (double)hits[1] / ((double)QUALITY_EPISODES * way);
    }
    screen_close(&j.support);
    mde_set_recording(j.c, recording);
    mde_arena_rewind(j.c, mark);
    return mde_context_status(j.c);
}

#endif /* DAGAN_QUALITY_H */
