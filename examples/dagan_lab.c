/* What a DAGAN gives: trains one on image classes, draws from it for classes it has never seen, and measures what the
   made images do to classifiers and Matching Networks that have few real ones.
     cc -O2 -fopenmp examples/dagan_lab.c -o dagan_lab -lm     (without -fopenmp: one thread)
     ./dagan_lab run --preset quick                             on drawn characters; writes out/dagan/report.html
     ./dagan_lab run --data omniglot/ --out out/omniglot        a class each folder of images; IDX and .npy as well  */
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if __has_include(<stb_image.h>) /* for PNG and JPEG; a copy beside this file is found with -I. */
#define STBI_NO_STDIO
#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>
#elif __has_include(<stb/stb_image.h>)
#define STBI_NO_STDIO
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>
#endif
#define MDEDEF static /* what this program does not call is not compiled */
#define MDEMIX_IMPLEMENTATION
#define DAGAN_IMPLEMENTATION
#if __has_include("../dagan.h") /* in the repository; copies beside this file do as well */
#include "../dagan.h"
#else
#include "dagan.h"
#endif
#include "program.h"

static const char *const usage =
    "dagan_lab: further images of classes never seen, and what they are good for\n"
    "\n"
    "  dagan_lab train      trains generator and critic on the source classes; goes on where it was stopped\n"
    "  dagan_lab sample     OUT/samples.png and OUT/interpolation.png: target classes, real and made\n"
    "  dagan_lab classify   classifiers on few real samples of the target classes, with and without made ones\n"
    "  dagan_lab match      Matching Networks and nearest neighbours, with and without; quality of the made images\n"
    "  dagan_lab transfer   classify, on the classes of another set\n"
    "  dagan_lab report     OUT/report.html and OUT/report.json from what there is\n"
    "  dagan_lab run        all of these in turn\n";

/* ---- Settings ---- */

#define MOST_RUNS 20
#define TEST_SAMPLES 5          /* of each target class at least, never trained on */
#define MOST_TEST_SAMPLES 50

typedef struct settings {
    const char *data, *labels, *target, *target_labels, *out, *preset_name;
    int size, invert, runs, critic_steps;
    int64_t steps, classifier_steps, episodes;
    double rate, mismatch, diversity;
    program_ints samples, made;
} settings;

typedef struct sizes {
    const char *name;
    dagan_preset preset;
    int classes, samples;                       /* of the drawn set */
    int64_t steps;
    int critic_steps;
    double rate, mismatch;
    int runs;
    int64_t classifier_steps, episodes, test_episodes;
    program_ints real, made;
} sizes;

static const sizes presets[] = {
    { "quick", DAGAN_QUICK, 200, 20, 300, 2, 1e-3, 0.5, 2, 100, 150, 200, { 1, { 2 } }, { 1, { 5 } } },
    { "compact", DAGAN_COMPACT, 600, 20, 8000, 2, 5e-4, 0.5, 3, 1000, 3000, 1000, { 3, { 5, 10, 15 } },
      { 3, { 2, 5, 20 } } },
    { "paper", DAGAN_PAPER, 1600, 20, 100000, 5, 1e-4, 0, 3, 4000, 10000, 1000, { 3, { 5, 10, 15 } },
      { 3, { 2, 5, 20 } } }
};

typedef struct lab {
    mde_context *c;
    program p;
    settings s;
    sizes z;
    dagan_images *source, *validation, *target;
    dagan *g;
    char other_name[64];                        /* of the set that transfer uses */
    dagan_images *other;
} lab;

/* Of one training among many: for a terminal only, and gone at its end. */
static int passing_progress(const mde_progress *p, void *user)
{
    mde_progress shown = *p;
    shown.reported = shown.step;
    if (shown.step < shown.steps) return program_progress(&shown, user);
    return program_progress(NULL, user);
}

static int bad(const lab *l)
{
    return mde_context_status(l->c) != MDE_OK;
}

static void say(const lab *l, const char *text)
{
    if (!l->p.quiet && !bad(l)) fprintf(stderr, "%s\n", text);
}

static const char *in_out(const lab *l, const char *name, char *path, size_t size)
{
    snprintf(path, size, "%s/%s", l->s.out, name);
    return path;
}

static void write_file(lab *l, mde_text *t, const char *name)
{
    char path[4096];
    mde_text_write(t, in_out(l, name, path, sizeof path));
    mde_text_free(t);
}

/* A table, once it is whole. */
static void show(const lab *l, mde_text *table)
{
    if (!bad(l) && table->bytes) fputs(table->bytes, stdout);
    fflush(stdout);
    mde_text_free(table);
}

/* ---- Sets ---- */

static dagan_images *open_set(lab *l, const char *path, const char *labels, int size, uint64_t seed)
{
    dagan_images_desc d;
    memset(&d, 0, sizeof d);
    d.path = path;
    d.labels = labels;
    d.size = size;
    d.invert = l->s.invert;
    if (!path) {
        d.classes = l->z.classes;
        d.samples = l->z.samples;
        d.seed = seed;
    }
    return dagan_images_open(l->c, &d);
}

/* Enough for the test and one to learn from, or as many as --samples asks for. */
static void check_samples(lab *l, const dagan_images *set, const char *what)
{
    int i, k, most = 1;
    for (i = 0; i < l->s.samples.count; i++) {
        if (l->s.samples.values[i] > most) most = l->s.samples.values[i];
    }
    for (k = 0; k < dagan_images_class_count(set) && !bad(l); k++) {
        if (dagan_images_sample_count(set, k) >= TEST_SAMPLES + most) continue;
        mde_fail(l->c, MDE_BAD_ARGUMENT, "%s: %s has %d images; expected %d to learn from and %d for the test", what,
                 dagan_images_name(set, k), dagan_images_sample_count(set, k), most, TEST_SAMPLES);
    }
}

/* Source and validation classes from --data, target classes from it or from --target. */
static void open_sets(lab *l)
{
    dagan_images *all = open_set(l, l->s.data, l->s.labels, l->s.size, l->p.seed);
    dagan_images *mixed = all ? dagan_images_shuffle(all, l->p.seed) : NULL;
    int height, width, channels;
    if (!mixed) return;
    dagan_images_shape(all, &height, &width, &channels);
    if (dagan_images_class_count(all) < 10) {
        mde_fail(l->c, MDE_BAD_ARGUMENT, "%s: has %d classes; a DAGAN learns from many: expected 10 or more",
                 l->s.data ? l->s.data : "drawn set", dagan_images_class_count(all));
        return;
    }
    l->source = dagan_images_classes(mixed, 0, l->s.target ? 0.85 : 0.75);
    l->validation = dagan_images_classes(mixed, l->s.target ? 0.85 : 0.75, l->s.target ? 1 : 0.85);
    if (l->s.target) {
        l->other = open_set(l, l->s.target, l->s.target_labels, height, 0);
        l->target = l->other;
        snprintf(l->other_name, sizeof l->other_name, "%.60s", l->s.target);
    } else {
        l->target = dagan_images_classes(mixed, 0.85, 1);
        if (channels == 1) l->other = dagan_images_draw(l->c, 60, 20, height, l->p.seed + 1000);
        snprintf(l->other_name, sizeof l->other_name, "drawn characters of another seed");
    }
    if (l->target) check_samples(l, l->target, "target classes");
    if (l->validation) check_samples(l, l->validation, "validation classes");
}

/* ---- train ---- */

static void add_curve(mde_text *t, const char *name, int points, const dagan_step *curve, size_t offset)
{
    int i;
    mde_text_format(t, ",\n\"%s\": [", name);
    for (i = 0; i < points; i++) {
        double value;
        memcpy(&value, (const char *)&curve[i] + offset, sizeof value);
        if (i) mde_text_add(t, ", ");
        mde_text_add_number(t, value, 6);
    }
    mde_text_add(t, "]");
}

static void write_training(lab *l)
{
    mde_text *t = mde_text_create(l->c);
    int points, i;
    const int64_t *ends;
    const dagan_step *curve = dagan_curve(l->g, &points, &ends);
    mde_text_format(t, "{\"preset\": \"%s\", \"steps\": %lld, \"critic_steps\": %d, \"learning_rate\": ", l->z.name,
                    (long long)l->z.steps, l->z.critic_steps);
    mde_text_add_number(t, l->z.rate, 6);
    mde_text_add(t, ", \"mismatch\": ");
    mde_text_add_number(t, l->z.mismatch, 6);
    mde_text_format(t, ", \"seed\": \"%llu\",\n\"data\": ", (unsigned long long)l->p.seed);
    mde_text_add_json(t, l->s.data ? l->s.data : "drawn characters");
    mde_text_add(t, ", \"target\": ");
    mde_text_add_json(t, l->s.target ? l->s.target : "classes of the same set");
    mde_text_format(t, ",\n\"source_classes\": %d, \"validation_classes\": %d, \"target_classes\": %d",
                    dagan_images_class_count(l->source), dagan_images_class_count(l->validation),
                    dagan_images_class_count(l->target));
    mde_text_format(t, ",\n\"generator_parameters\": %zu, \"critic_parameters\": %zu",
                    mde_params_elements(dagan_generator_params(l->g)), mde_params_elements(dagan_critic_params(l->g)));
    mde_text_add(t, ",\n\"step\": [");
    for (i = 0; i < points; i++) mde_text_format(t, "%s%lld", i ? ", " : "", (long long)ends[i]);
    mde_text_add(t, "]");
    add_curve(t, "distance", points, curve, offsetof(dagan_step, distance));
    add_curve(t, "penalty", points, curve, offsetof(dagan_step, penalty));
    add_curve(t, "gradient_norm", points, curve, offsetof(dagan_step, gradient_norm));
    add_curve(t, "generator_loss", points, curve, offsetof(dagan_step, generator_loss));
    mde_text_add(t, "}\n");
    write_file(l, t, "train.json");
}

static void train(lab *l)
{
    char checkpoint[4096], grid[4096];
    dagan_desc d;
    dagan_train_desc t;
    memset(&d, 0, sizeof d);
    memset(&t, 0, sizeof t);
    d.preset = l->z.preset;
    d.seed = l->p.seed;
    t.steps = l->z.steps;
    t.critic_steps = l->z.critic_steps;
    t.learning_rate = l->z.rate;
    t.mismatch = l->z.mismatch > 0 ? l->z.mismatch : MDE_ZERO;
    t.diversity = l->s.diversity;
    t.seed = l->p.seed;
    t.quarter_turns = 1;
    t.checkpoint = in_out(l, "dagan.safetensors", checkpoint, sizeof checkpoint);
    t.grid = in_out(l, "training.png", grid, sizeof grid);
    t.grid_set = l->validation;
    t.progress = program_progress;
    t.user = &l->p;
    say(l, "train: generator and critic on the source classes");
    mde_make_folder(l->c, l->s.out);
    l->g = dagan_create(l->c, l->source, &d);
    if (l->g && dagan_train(l->g, l->source, &t) == MDE_OK) write_training(l);
    else if (l->g && !bad(l)) mde_fail(l->c, MDE_STOPPED, "stopped");
}

/* The trained networks, for a command that does not train. */
static void load(lab *l)
{
    char path[4096];
    if (l->g || bad(l)) return;
    in_out(l, "dagan.safetensors", path, sizeof path);
    if (!mde_is_file(path)) {
        mde_fail(l->c, MDE_IO, "%s: is not there; `dagan_lab train` makes it", path);
        return;
    }
    l->g = dagan_open(l->c, path);
}

/* ---- sample ---- */

static void sample(lab *l)
{
    char path[4096];
    dagan_grid_desc grid;
    memset(&grid, 0, sizeof grid);
    grid.rows = 10;
    grid.columns = 14;
    grid.seed = l->p.seed;
    dagan_write_grid(l->g, l->target, &grid, in_out(l, "samples.png", path, sizeof path));
    grid.interpolate = 1;
    dagan_write_grid(l->g, l->target, &grid, in_out(l, "interpolation.png", path, sizeof path));
    say(l, "sample: samples.png and interpolation.png");
}

/* ---- classify ---- */

enum { NONE, CLASSIC, MADE, BOTH, ARMS };
static const char *const arm_names[ARMS] = { "none", "classic", "DAGAN", "classic + DAGAN" };

/* Test images a class: what the largest number of real samples leaves. */
static int test_samples(const lab *l, const dagan_images *set, int *least)
{
    int i, most = 0;
    *least = INT_MAX;
    for (i = 0; i < l->z.real.count; i++) {
        if (l->z.real.values[i] > most) most = l->z.real.values[i];
    }
    for (i = 0; i < dagan_images_class_count(set); i++) {
        int samples = dagan_images_sample_count(set, i);
        if (samples < *least) *least = samples;
    }
    if (*least - most < TEST_SAMPLES) return TEST_SAMPLES;
    return *least - most < MOST_TEST_SAMPLES ? *least - most : MOST_TEST_SAMPLES;
}

/* Accuracy on the test samples of the classes of a classifier that was trained on n real samples a class. */
static double accuracy(lab *l, const dagan_images *set, int n, int arm, int each, int run)
{
    uint64_t split = l->p.seed * 1000 + (uint64_t)run + 1;
    int least, tests = test_samples(l, set, &least);
    dagan_images *test = dagan_images_samples(set, 0, tests, split);
    dagan_images *real = dagan_images_samples(set, tests, n, split);
    dagan_images *made = arm >= MADE && real ? dagan_make(l->g, real, each, split) : NULL;
    dagan_classifier_desc d;
    dagan_fit_desc f;
    dagan_classifier *k;
    double result = (double)NAN;
    memset(&d, 0, sizeof d);
    memset(&f, 0, sizeof f);
    d.seed = split;
    f.steps = l->z.classifier_steps;
    f.seed = split;
    f.made = made;
    if (arm == CLASSIC || arm == BOTH) {
        f.augment.shift = 2;
        f.augment.rotate = 15;
        f.augment.scale = 0.1;
    }
    f.progress = passing_progress;
    f.user = &l->p;
    k = real ? dagan_classifier_create(l->c, real, &d) : NULL;
    if (k && dagan_classifier_train(k, real, &f) == MDE_OK && !bad(l)) result = dagan_classifier_accuracy(k, test);
    if (program_interrupted && !bad(l)) mde_fail(l->c, MDE_STOPPED, "stopped");
    if (!bad(l) && !l->p.quiet) {
        fprintf(stderr, "classify: %s%d samples a class, %s, run %d: %.2f %%\n",
                set == l->validation ? "validation classes, " : "", n, arm_names[arm], run + 1, 100 * result);
    }
    dagan_classifier_free(k);
    dagan_images_free(made);
    dagan_images_free(real);
    dagan_images_free(test);
    return result;
}

static double mean_of(int n, const double *x)
{
    double sum = 0;
    int i;
    for (i = 0; i < n; i++) sum += x[i];
    return n ? sum / n : (double)NAN;
}

/* Standard deviation over runs. */
static double spread_of(int n, const double *x)
{
    double mean = mean_of(n, x), sum = 0;
    int i;
    for (i = 0; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
    return n > 1 ? sqrt(sum / (n - 1)) : (double)NAN;
}

static void add_value(mde_text *t, const char *key, double value)
{
    mde_text_format(t, "\"%s\": ", key);
    if (value == value) mde_text_add_number(t, value, 6);
    else mde_text_add(t, "null");
}

/* Mean of a - b over runs on the same split, with its standard error. */
static void add_difference(mde_text *t, const char *key, int n, const double *a, const double *b)
{
    double d[MOST_RUNS];
    int i;
    for (i = 0; i < n; i++) d[i] = a[i] - b[i];
    mde_text_format(t, ", \"%s\": {", key);
    add_value(t, "mean", mean_of(n, d));
    mde_text_add(t, ", ");
    add_value(t, "standard_error", spread_of(n, d) / sqrt((double)n));
    mde_text_add(t, "}");
}

/* How many made images a real one, by the accuracy on the validation classes. */
static int choose_made(lab *l, mde_text *t)
{
    double best = -1, value;
    int i, chosen = l->z.made.values[0];
    mde_text_add(t, ",\n\"chosen_on_validation_classes\": [");
    for (i = 0; i < l->z.made.count && l->z.made.count > 1 && !bad(l); i++) {
        value = accuracy(l, l->validation, l->z.real.values[0], MADE, l->z.made.values[i], 0);
        mde_text_format(t, "%s{\"made\": %d, ", i ? ", " : "", l->z.made.values[i]);
        add_value(t, "accuracy", value);
        mde_text_add(t, "}");
        if (value > best) {
            best = value;
            chosen = l->z.made.values[i];
        }
    }
    mde_text_format(t, "],\n\"made\": %d", chosen);
    return chosen;
}

static void classify(lab *l, const dagan_images *set, const char *set_name, const char *file)
{
    mde_text *t = mde_text_create(l->c), *table = mde_text_create(l->c);
    int i, arm, run, first = 1, each, least, tests = test_samples(l, set, &least);
    mde_text_add(t, "{\"set\": ");
    mde_text_add_json(t, set_name);
    mde_text_format(t, ", \"classes\": %d, \"test_samples\": %d, \"steps\": %lld, \"runs\": %d",
                    dagan_images_class_count(set), tests, (long long)l->z.classifier_steps, l->z.runs);
    each = choose_made(l, t);
    mde_text_format(table, "\n%s: accuracy in %%, %d classes, %d test images each, %d runs, %d made images a real "
                    "one\n", set_name, dagan_images_class_count(set), tests, l->z.runs, each);
    mde_text_format(table, "%-10s", "samples");
    for (arm = 0; arm < ARMS; arm++) mde_text_format(table, "%20s", arm_names[arm]);
    mde_text_add(table, "\n");
    mde_text_add(t, ",\n\"rows\": [");
    for (i = 0; i < l->z.real.count && !bad(l); i++) {
        int n = l->z.real.values[i];
        double got[ARMS][MOST_RUNS];
        if (tests + n > least) {
            if (!l->p.quiet) fprintf(stderr, "classify: not with %d samples a class, for some have %d\n", n, least);
            continue;
        }
        mde_text_format(table, "%-10d", n);
        mde_text_format(t, "%s\n{\"samples\": %d, \"arms\": [", first ? "" : ",", n);
        first = 0;
        for (arm = 0; arm < ARMS && !bad(l); arm++) {
            for (run = 0; run < l->z.runs && !bad(l); run++) got[arm][run] = accuracy(l, set, n, arm, each, run);
            mde_text_format(t, "%s{\"arm\": \"%s\", ", arm ? ", " : "", arm_names[arm]);
            add_value(t, "mean", mean_of(l->z.runs, got[arm]));
            mde_text_add(t, ", ");
            add_value(t, "spread", spread_of(l->z.runs, got[arm]));
            mde_text_add(t, ", \"accuracy\": [");
            for (run = 0; run < l->z.runs; run++) {
                if (run) mde_text_add(t, ", ");
                mde_text_add_number(t, got[arm][run], 6);
            }
            mde_text_add(t, "]}");
            mde_text_format(table, "%13.2f", 100 * mean_of(l->z.runs, got[arm]));
            if (l->z.runs > 1) mde_text_format(table, " +-%5.2f", 100 * spread_of(l->z.runs, got[arm]));
            else mde_text_add(table, "       ");
        }
        mde_text_add(t, "]");
        mde_text_add(table, "\n");
        if (!bad(l)) {
            add_difference(t, "dagan_minus_none", l->z.runs, got[MADE], got[NONE]);
            add_difference(t, "both_minus_classic", l->z.runs, got[BOTH], got[CLASSIC]);
        }
        mde_text_add(t, "}");
    }
    mde_text_add(t, "]}\n");
    show(l, table);
    write_file(l, t, file);
}

/* ---- match ---- */

/* Nearest neighbour by pixels, one support image a class and `each` made ones beside it. */
static double nearest_pixels(lab *l, int way, int each, int64_t episodes)
{
    const dagan_images *set = l->target;
    int classes = dagan_images_class_count(set), height, width, channels, i, j, m;
    int64_t e, right = 0, *order;
    dagan_images *made = each ? dagan_make(l->g, set, each, l->p.seed) : NULL;
    mde_mark mark = mde_arena_mark(l->c);
    order = (int64_t *)mde_scratch(l->c, (size_t)classes, sizeof *order);
    dagan_images_shape(set, &height, &width, &channels);
    for (e = 0; e < episodes && order && !bad(l); e++) {
        mde_random r = mde_random_start(l->p.seed, UINT64_C(0xe915) << 32 | (uint64_t)e);
        int support[64] = { 0 }, query, samples;
        const float *x;
        double best = 1e300;
        int found = -1;
        mde_random_permutation(&r, classes, order);
        for (i = 0; i < way; i++) {
            support[i] = (int)mde_random_below(&r, (uint64_t)dagan_images_sample_count(set, (int)order[i]));
        }
        samples = dagan_images_sample_count(set, (int)order[0]);
        query = (int)mde_random_below(&r, (uint64_t)(samples - 1));
        if (query >= support[0]) query++;
        x = dagan_images_pixels(set, (int)order[0], query);
        for (i = 0; i < way; i++) {
            for (m = 0; m <= each; m++) {
                const float *y = m == 0 ? dagan_images_pixels(set, (int)order[i], support[i])
                                        : dagan_images_pixels(made, (int)order[i], support[i] * each + m - 1);
                double distance = 0;
                for (j = 0; j < height * width * channels; j++) {
                    double d = (double)x[j] - (double)y[j];
                    distance += d * d;
                }
                if (distance < best) {
                    best = distance;
                    found = i;
                }
            }
        }
        right += found == 0;
    }
    mde_arena_rewind(l->c, mark);
    dagan_images_free(made);
    return bad(l) ? (double)NAN : (double)right / (double)episodes;
}

enum { PLAIN, WITH_MADE, WITH_SELECTOR, MATCHERS };
static const char *const matcher_names[MATCHERS] = { "no made images", "made images", "made images, z selected" };

static void add_matcher(lab *l, mde_text *t, mde_text *table, dagan_matcher *m, int kind)
{
    static const int ways[2] = { 5, 20 }, shots[2] = { 1, 5 };
    int w, s;
    mde_text_format(t, "%s\n{\"matcher\": \"%s\", \"accuracy\": [", kind ? "," : "", matcher_names[kind]);
    mde_text_format(table, "%-26s", matcher_names[kind]);
    for (w = 0; w < 2; w++) {
        for (s = 0; s < 2 && !bad(l); s++) {
            dagan_episode_desc d;
            double value, error = 0;
            memset(&d, 0, sizeof d);
            d.episodes = l->z.test_episodes;
            d.way = ways[w];
            d.shot = shots[s];
            d.generator = kind == PLAIN ? NULL : l->g;
            d.selector = kind == WITH_SELECTOR;
            d.seed = l->p.seed + 77;
            d.progress = passing_progress;
            d.user = &l->p;
            value = dagan_matcher_accuracy(m, l->target, &d, &error);
            mde_text_format(t, "%s{\"way\": %d, \"shot\": %d, ", w || s ? ", " : "", ways[w], shots[s]);
            add_value(t, "mean", value);
            mde_text_add(t, ", ");
            add_value(t, "standard_error", error);
            mde_text_add(t, "}");
            mde_text_format(table, "%12.2f +-%5.2f", 100 * value, 100 * error);
            if (!bad(l) && !l->p.quiet) {
                fprintf(stderr, "match: %s, %d-way %d-shot: %.2f %%\n", matcher_names[kind], ways[w], shots[s],
                        100 * value);
            }
        }
    }
    mde_text_add(t, "]}");
    mde_text_add(table, "\n");
}

static void add_quality(lab *l, mde_text *t, mde_text *table, dagan_matcher *m)
{
    dagan_quality q;
    if (dagan_measure(l->g, m, l->target, l->p.seed, &q) != MDE_OK) return;
    mde_text_add(t, ",\n\"quality\": {");
    add_value(t, "diversity", q.diversity);
    mde_text_add(t, ", ");
    add_value(t, "copy", q.copy);
    mde_text_add(t, ", ");
    add_value(t, "recognisability", q.recognisability);
    mde_text_add(t, ", ");
    add_value(t, "real_recognisability", q.real_recognisability);
    mde_text_add(t, ", ");
    add_value(t, "embedded_diversity", q.embedded_diversity);
    mde_text_add(t, ", ");
    add_value(t, "embedded_copy", q.embedded_copy);
    mde_text_add(t, ", ");
    add_value(t, "z_share", q.z_share);
    mde_text_add(t, "}");
    mde_text_format(table, "made images: diversity %.3f, copy ratio %.3f, recognised %.3f (real ones %.3f), share of z "
                    "%.3f\n", q.diversity, q.copy, q.recognisability, q.real_recognisability, q.z_share);
}

static void match(lab *l)
{
    mde_text *t = mde_text_create(l->c), *table = mde_text_create(l->c);
    int kind, classes = dagan_images_class_count(l->target), way = classes < 20 ? classes : 20;
    double plain, made;
    dagan_matcher *judge = NULL;                /* of made images: it has never met one */
    if (classes < 20 || dagan_images_class_count(l->source) < 20) {
        mde_fail(l->c, MDE_BAD_ARGUMENT, "match: %d target and %d source classes; 20-way episodes need 20 of each",
                 classes, dagan_images_class_count(l->source));
    }
    mde_text_format(table, "\nMatching Networks on target classes: accuracy in %%, %lld episodes\n",
                    (long long)l->z.test_episodes);
    mde_text_format(table, "%-26s%20s%20s%20s%20s\n", "", "5-way 1-shot", "5-way 5-shot", "20-way 1-shot",
                    "20-way 5-shot");
    mde_text_format(t, "{\"episodes\": %lld, \"test_episodes\": %lld, \"matchers\": [", (long long)l->z.episodes,
                    (long long)l->z.test_episodes);
    for (kind = 0; kind < MATCHERS && !bad(l); kind++) {
        dagan_matcher_desc d;
        dagan_episode_desc e;
        dagan_matcher *m;
        memset(&d, 0, sizeof d);
        memset(&e, 0, sizeof e);
        d.seed = l->p.seed;
        e.episodes = l->z.episodes;
        e.quarter_turns = 1;
        e.generator = kind == PLAIN ? NULL : l->g;
        e.selector = kind == WITH_SELECTOR;
        e.seed = l->p.seed;
        e.progress = passing_progress;
        e.user = &l->p;
        m = dagan_matcher_create(l->c, l->source, &d);
        if (m) dagan_matcher_train(m, l->source, &e);
        if (program_interrupted && !bad(l)) mde_fail(l->c, MDE_STOPPED, "stopped");
        if (!bad(l)) add_matcher(l, t, table, m, kind);
        if (kind == PLAIN) judge = m;
        else dagan_matcher_free(m);
    }
    mde_text_add(t, "]");
    if (!bad(l)) add_quality(l, t, table, judge);
    dagan_matcher_free(judge);
    plain = bad(l) ? (double)NAN : nearest_pixels(l, way, 0, l->z.test_episodes);
    made = bad(l) ? (double)NAN : nearest_pixels(l, way, 10, l->z.test_episodes);
    mde_text_format(table, "nearest neighbour by pixels, %d-way 1-shot: %.2f %%; with 10 made images a support image "
                    "%.2f %%\n", way, 100 * plain, 100 * made);
    show(l, table);
    mde_text_add(t, ",\n\"pixels\": {");
    add_value(t, "real", plain);
    mde_text_add(t, ", ");
    add_value(t, "with_made", made);
    mde_text_add(t, "}}\n");
    write_file(l, t, "match.json");
}

/* ---- report ---- */

static void add_base64(mde_text *t, const unsigned char *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char line[5] = "";
    size_t i;
    for (i = 0; i < size; i += 3) {
        unsigned v = (unsigned)bytes[i] << 16;
        if (i + 1 < size) v |= (unsigned)bytes[i + 1] << 8;
        if (i + 2 < size) v |= (unsigned)bytes[i + 2];
        line[0] = digits[v >> 18];
        line[1] = digits[v >> 12 & 63];
        line[2] = i + 1 < size ? digits[v >> 6 & 63] : '=';
        line[3] = i + 2 < size ? digits[v & 63] : '=';
        mde_text_add(t, line);
    }
}

/* A picture of the folder inside the page, or a sentence that it is missing. */
static void add_picture(lab *l, mde_text *t, const char *name, const char *note)
{
    char path[4096];
    size_t size;
    unsigned char *bytes;
    in_out(l, name, path, sizeof path);
    if (!mde_is_file(path)) {
        mde_text_format(t, "<p class=\"note\">%s is not there yet.</p>\n", name);
        return;
    }
    bytes = mde_file_read(l->c, path, (size_t)1 << 26, &size);
    if (!bytes) return;
    mde_text_format(t, "<p><img alt=\"%s\" src=\"data:image/png;base64,", name);
    add_base64(t, bytes, size);
    mde_text_format(t, "\"></p>\n<p class=\"note\">%s</p>\n", note);
    mde_release(l->c, bytes);
}

static mde_json *read_json(lab *l, const char *name)
{
    char path[4096];
    in_out(l, name, path, sizeof path);
    return mde_is_file(path) ? mde_json_read(l->c, path) : NULL;
}

#define MOST_POINTS 256

static int numbers(const mde_json *array, double *out)
{
    const mde_json *p;
    int n = 0;
    for (p = array ? array->child : NULL; p && n < MOST_POINTS; p = p->next) out[n++] = p->number;
    return n;
}

static void add_training(mde_text *t, const mde_json *j)
{
    static const char *const keys[4] = { "distance", "generator_loss", "gradient_norm", "penalty" };
    static const char *const titles[4] = { "Critic's distance, real against made", "Generator loss",
                                           "Mean gradient norm of the critic", "Gradient penalty" };
    double x[MOST_POINTS], y[MOST_POINTS];
    int k;
    mde_text_format(t, "<p>%d source, %d validation and %d target classes; generator of %d and critic of %d "
                    "parameters; %lld steps with %d critic steps each.</p>\n",
                    (int)mde_json_number(j, "source_classes", 0),
                    (int)mde_json_number(j, "validation_classes", 0), (int)mde_json_number(j, "target_classes", 0),
                    (int)mde_json_number(j, "generator_parameters", 0), (int)mde_json_number(j, "critic_parameters", 0),
                    (long long)mde_json_number(j, "steps", 0), (int)mde_json_number(j, "critic_steps", 0));
    for (k = 0; k < 4; k++) {
        mde_series s;
        mde_plot p;
        memset(&s, 0, sizeof s);
        memset(&p, 0, sizeof p);
        s.count = numbers(mde_json_get(j, "step"), x);
        numbers(mde_json_get(j, keys[k]), y);
        s.x = x;
        s.y = y;
        p.title = titles[k];
        p.x_label = "generator steps";
        p.width = 500;
        p.height = 260;
        p.count = 1;
        p.series = &s;
        mde_svg_plot(t, &p);
    }
}

static void add_percent(mde_text *t, const mde_json *j, const char *mean, const char *spread, int best)
{
    double value = mde_json_number(j, mean, (double)NAN), error = mde_json_number(j, spread, (double)NAN);
    mde_text_add(t, best ? "<td class=\"best\">" : "<td>");
    mde_text_add_fixed(t, 100 * value, 2);
    if (error == error) {
        mde_text_add(t, " &plusmn; ");
        mde_text_add_fixed(t, 100 * error, 2);
    }
    mde_text_add(t, "</td>");
}

static void add_classify(mde_text *t, const mde_json *j)
{
    const mde_json *row, *arm;
    double values[PROGRAM_MAX_INTS * ARMS];
    char names[PROGRAM_MAX_INTS][32];
    const char *groups[PROGRAM_MAX_INTS];
    int n = 0, k;
    mde_text_add(t, "<p>Set: ");
    mde_text_add_html(t, mde_json_string(j, "set", ""));
    mde_text_format(t, ". %d classes, %d test images of each, %lld steps for every classifier, %d runs with a split of "
                    "their own, %d made images a real one.</p>\n<table><tr><th>real samples a class</th>",
                    (int)mde_json_number(j, "classes", 0), (int)mde_json_number(j, "test_samples", 0),
                    (long long)mde_json_number(j, "steps", 0), (int)mde_json_number(j, "runs", 0),
                    (int)mde_json_number(j, "made", 0));
    for (k = 0; k < ARMS; k++) mde_text_format(t, "<th>%s</th>", arm_names[k]);
    mde_text_add(t, "<th>DAGAN &minus; none</th><th>both &minus; classic</th></tr>\n");
    row = mde_json_get(j, "rows") ? mde_json_get(j, "rows")->child : NULL;
    for (; row && n < PROGRAM_MAX_INTS; row = row->next) {
        double best = -1;
        const mde_json *arms = mde_json_get(row, "arms");
        snprintf(names[n], sizeof names[n], "%d a class", (int)mde_json_number(row, "samples", 0));
        groups[n] = names[n];
        for (k = 0, arm = arms ? arms->child : NULL; arm && k < ARMS; arm = arm->next, k++) {
            values[n * ARMS + k] = 100 * mde_json_number(arm, "mean", (double)NAN);
            if (values[n * ARMS + k] > best) best = values[n * ARMS + k];
        }
        mde_text_format(t, "<tr><td>%d</td>", (int)mde_json_number(row, "samples", 0));
        for (k = 0, arm = arms ? arms->child : NULL; arm && k < ARMS; arm = arm->next, k++) {
            add_percent(t, arm, "mean", "spread", values[n * ARMS + k] >= best);
        }
        add_percent(t, mde_json_get(row, "dagan_minus_none"), "mean", "standard_error", 0);
        add_percent(t, mde_json_get(row, "both_minus_classic"), "mean", "standard_error", 0);
        mde_text_add(t, "</tr>\n");
        n++;
    }
    mde_text_add(t, "</table>\n<p class=\"note\">Accuracy in %, mean &plusmn; standard deviation over runs; the "
                    "differences are of runs on the same split, &plusmn; standard error. All arms take the same number "
                    "of optimiser steps; the number of made images was chosen on validation classes.</p>\n");
    if (n) mde_svg_bars(t, "Accuracy on held-out images of target classes", "%", n, groups, ARMS, arm_names, values);
}

static void add_match(mde_text *t, const mde_json *j)
{
    static const char *const rows[7][3] = {
        { "diversity", "distance of two made images of one real image, over that of two real images of a class",
          "1 is as varied as real ones, 0 says that z is ignored" },
        { "copy", "distance of a made image to the image it was made from, over that of two real images of a class",
          "0 is a copy" },
        { "recognisability", "20-way 1-shot accuracy of the Matching Network on made images", "" },
        { "real_recognisability", "the same on real images", "" },
        { "embedded_diversity", "diversity in the embedding of the Matching Network", "" },
        { "embedded_copy", "copy ratio in that embedding", "" },
        { "z_share", "share of z in the variance of made images", "the rest is due to the image" } };
    const mde_json *row, *cell, *quality = mde_json_get(j, "quality"), *pixels = mde_json_get(j, "pixels");
    int k;
    mde_text_add(t, "<table><tr><th>support set</th><th>5-way 1-shot</th><th>5-way 5-shot</th><th>20-way 1-shot</th>"
                    "<th>20-way 5-shot</th></tr>\n");
    for (row = mde_json_get(j, "matchers") ? mde_json_get(j, "matchers")->child : NULL; row; row = row->next) {
        mde_text_add(t, "<tr><td>");
        mde_text_add_html(t, mde_json_string(row, "matcher", ""));
        mde_text_add(t, "</td>");
        cell = mde_json_get(row, "accuracy");
        for (cell = cell ? cell->child : NULL; cell; cell = cell->next) {
            add_percent(t, cell, "mean", "standard_error", 0);
        }
        mde_text_add(t, "</tr>\n");
    }
    mde_text_format(t, "</table>\n<p class=\"note\">Accuracy in %% on target classes, &plusmn; standard error over %d "
                    "episodes; each network was trained for %d episodes on source classes.</p>\n",
                    (int)mde_json_number(j, "test_episodes", 0), (int)mde_json_number(j, "episodes", 0));
    mde_text_add(t, "<p>Nearest neighbour by pixels, 20-way 1-shot: ");
    mde_text_add_fixed(t, 100 * mde_json_number(pixels, "real", (double)NAN), 2);
    mde_text_add(t, " %; with ten made images beside each support image ");
    mde_text_add_fixed(t, 100 * mde_json_number(pixels, "with_made", (double)NAN), 2);
    mde_text_add(t, " %.</p>\n<h2>The made images in numbers</h2>\n<table><tr><th>measure</th><th>value</th>"
                    "<th style=\"text-align:left\">meaning</th></tr>\n");
    for (k = 0; k < 7; k++) {
        mde_text_format(t, "<tr><td>%s</td><td>", rows[k][0]);
        mde_text_add_fixed(t, mde_json_number(quality, rows[k][0], (double)NAN), 3);
        mde_text_format(t, "</td><td style=\"text-align:left\">%s%s%s</td></tr>\n", rows[k][1],
                        *rows[k][2] ? "; " : "", rows[k][2]);
    }
    mde_text_add(t, "</table>\n");
}

/* report.json: the other files, word for word, under their names. */
static void write_report_json(lab *l)
{
    static const char *const files[4] = { "train", "classify", "match", "transfer" };
    mde_text *t = mde_text_create(l->c);
    int k, first = 1;
    mde_text_add(t, "{");
    for (k = 0; k < 4; k++) {
        char name[64], path[4096];
        size_t size;
        unsigned char *bytes;
        snprintf(name, sizeof name, "%s.json", files[k]);
        if (!mde_is_file(in_out(l, name, path, sizeof path))) continue;
        bytes = mde_file_read(l->c, path, (size_t)1 << 26, &size);
        mde_text_format(t, "%s\n\"%s\": ", first ? "" : ",", files[k]);
        if (bytes) mde_text_add(t, (const char *)bytes);
        mde_release(l->c, bytes);
        first = 0;
    }
    mde_text_add(t, "}\n");
    write_file(l, t, "report.json");
}

static void report(lab *l)
{
    mde_json *training = read_json(l, "train.json"), *classes = read_json(l, "classify.json");
    mde_json *matches = read_json(l, "match.json"), *other = read_json(l, "transfer.json");
    mde_text *t = mde_text_create(l->c);
    char path[4096];
    program_page_open(t, "DAGAN report", "Images made for classes never seen");
    mde_text_format_html(t, "<p>Data: %s; target: %s; preset %s, seed %s.</p>\n",
                         mde_json_string(training, "data", "unknown"), mde_json_string(training, "target", "unknown"),
                         mde_json_string(training, "preset", "unknown"), mde_json_string(training, "seed", "?"));
    add_picture(l, t, "samples.png", "Target classes, one a row: a real image first, then images made from it, each "
                                     "with a z of its own. They should be of the same class, and differ.");
    add_picture(l, t, "interpolation.png", "The same with z going from one point to another along a row.");
    mde_text_add(t, "<h2>Classifiers with few real samples</h2>\n");
    if (classes) add_classify(t, classes);
    else mde_text_add(t, "<p class=\"note\">classify.json is not there yet.</p>\n");
    mde_text_add(t, "<h2>Matching Networks</h2>\n");
    if (matches) add_match(t, matches);
    else mde_text_add(t, "<p class=\"note\">match.json is not there yet.</p>\n");
    mde_text_add(t, "<h2>On another set</h2>\n");
    if (other) add_classify(t, other);
    else mde_text_add(t, "<p class=\"note\">transfer.json is not there yet.</p>\n");
    mde_text_add(t, "<h2>Training</h2>\n");
    if (training) add_training(t, training);
    else mde_text_add(t, "<p class=\"note\">train.json is not there yet.</p>\n");
    add_picture(l, t, "training.png", "Validation classes at the end of the training.");
    program_page_close(t);
    write_file(l, t, "report.html");
    mde_json_free(l->c, training);
    mde_json_free(l->c, classes);
    mde_json_free(l->c, matches);
    mde_json_free(l->c, other);
    write_report_json(l);
    if (!bad(l)) printf("report: %s\n", in_out(l, "report.html", path, sizeof path));
}

/* ---- Command line ---- */

/* The preset's sizes with the options over them. */
static int resolve(lab *l)
{
    size_t i;
    const char *name = l->s.preset_name ? l->s.preset_name : "compact";
    for (i = 0; i < sizeof presets / sizeof *presets && strcmp(presets[i].name, name) != 0; i++) {}
    if (i == sizeof presets / sizeof *presets) {
        return program_misused(&l->p, name, " is no preset; expected quick, compact or paper");
    }
    l->z = presets[i];
    if (l->s.steps) l->z.steps = l->s.steps;
    if (l->s.critic_steps) l->z.critic_steps = l->s.critic_steps;
    if (l->s.rate > 0) l->z.rate = l->s.rate;
    if (l->s.mismatch >= 0) l->z.mismatch = l->s.mismatch;
    if (l->s.runs) l->z.runs = l->s.runs;
    if (l->s.classifier_steps) l->z.classifier_steps = l->s.classifier_steps;
    if (l->s.episodes) l->z.episodes = l->s.episodes;
    if (l->s.samples.count) l->z.real = l->s.samples;
    if (l->s.made.count) l->z.made = l->s.made;
    return 1;
}

static void run_command(lab *l, const char *command)
{
    int all = strcmp(command, "run") == 0, only_report = strcmp(command, "report") == 0;
    if (!only_report) open_sets(l);
    if (bad(l)) return;
    if (all || strcmp(command, "train") == 0) train(l);
    else if (!only_report) load(l);
    if (!bad(l) && (all || strcmp(command, "sample") == 0)) sample(l);
    if (!bad(l) && (all || strcmp(command, "classify") == 0)) {
        classify(l, l->target, l->s.target ? l->s.target : "target classes", "classify.json");
    }
    if (!bad(l) && (all || strcmp(command, "match") == 0)) match(l);
    if (!bad(l) && (all || strcmp(command, "transfer") == 0)) {
        if (l->other && !(all && l->s.target)) classify(l, l->other, l->other_name, "transfer.json");
        else if (!all) mde_fail(l->c, MDE_BAD_ARGUMENT, "transfer: colour images need --target, another set of them");
    }
    if (!bad(l) && (all || only_report)) report(l);
}

int main(int argc, char **argv)
{
    static const char *const commands[] = { "run", "train", "sample", "classify", "match", "transfer", "report" };
    lab l;
    settings *s = &l.s;
    size_t i;
    const program_option options[] = {
        { "--data", PROGRAM_FILE, "PATH", &s->data, 0, 0,
          "folder of images (a class each folder), IDX or .npy; without it: drawn characters" },
        { "--labels", PROGRAM_FILE, "PATH", &s->labels, 0, 0, "labels of --data, if not found by name" },
        { "--target", PROGRAM_FILE, "PATH", &s->target, 0, 0,
          "take the target classes from this set; without it: 15 % of the classes of --data" },
        { "--target-labels", PROGRAM_FILE, "PATH", &s->target_labels, 0, 0, "labels of --target" },
        { "--size", PROGRAM_INT, "N", &s->size, 1, 1e6, "height and width of the images (default: as they are)" },
        { "--invert", PROGRAM_FLAG, NULL, &s->invert, 0, 0, "dark ink on white paper becomes light on dark" },
        { "--preset", PROGRAM_FILE, "NAME", &s->preset_name, 0, 0,
          "quick, compact (default) or paper: sizes of networks and of the studies" },
        { "--steps", PROGRAM_INT64, "N", &s->steps, 1, 1e12,
          "of the generator (quick 300, compact 8000, paper 100000)" },
        { "--critic-steps", PROGRAM_INT, "N", &s->critic_steps, 1, 1e6,
          "for each of them (quick and compact 2, paper 5)" },
        { "--rate", PROGRAM_REAL, "X", &s->rate, 0, 1e6, "learning rate (default 5e-4; quick 1e-3, paper 1e-4)" },
        { "--mismatch", PROGRAM_REAL, "X", &s->mismatch, 0, 1e6,
          "share of real images of other classes among what the critic learns to turn down\n"
          "(default 0.5; paper 0: then made images drift to other classes in short trainings)" },
        { "--diversity", PROGRAM_REAL, "X", &s->diversity, 0, 1e6,
          "weight of the term that rewards different images for different z (default 0)" },
        { "--samples", PROGRAM_INTS, "LIST", &s->samples, 1, 1000,
          "real samples a class of the classifiers (default 5,10,15; quick 2)" },
        { "--made", PROGRAM_INTS, "LIST", &s->made, 1, 1000,
          "made images a real one to choose from on validation classes (default 2,5,20; quick 5)" },
        { "--runs", PROGRAM_INT, "N", &s->runs, 1, MOST_RUNS, "seeds of each classifier (default 3; quick 2)" },
        { "--classifier-steps", PROGRAM_INT64, "N", &s->classifier_steps, 1, 1e12, "(default 1000; quick 100)" },
        { "--episodes", PROGRAM_INT64, "N", &s->episodes, 1, 1e12,
          "training episodes of each Matching Network (default 3000; quick 150)" },
        { "--out", PROGRAM_FILE, "DIR", &s->out, 0, 0, "(default out/dagan)" }
    };
    memset(&l, 0, sizeof l);
    program_start(&l.p, "dagan_lab", usage, options, (int)(sizeof options / sizeof *options));
    l.p.seed = 1;
    l.p.max_arguments = 1;
    l.p.when_stopped = "stopped; the same command goes on from here";
    s->out = "out/dagan";
    s->mismatch = -1;
    if (!program_parse(&l.p, argc, argv)) return l.p.code;
    for (i = 0; l.p.count && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(l.p.arguments[0], commands[i]) == 0) break;
    }
    if (!l.p.count || i == sizeof commands / sizeof *commands) {
        program_misused(&l.p, "", "expected a command, as in `dagan_lab run --preset quick`");
        return l.p.code;
    }
    if (!resolve(&l)) return l.p.code;
    l.c = program_context(&l.p);
    run_command(&l, commands[i]);
    return program_end(&l.p, l.c);
}
