/* What a DAGAN gives: trains one on image classes, draws from it for classes it has never seen, and measures what the
   made images do to classifiers and Matching Networks that have few real ones.
     cc -O2 -fopenmp examples/dagan_lab.c -o dagan_lab -lm     (without -fopenmp: one thread)
     ./dagan_lab run --preset quick                             on drawn characters; writes out/dagan/report.html
     ./dagan_lab run --data omniglot/ --out out/omniglot        a class each folder of images; IDX and .npy as well
     ./dagan_lab plan --seeds 5 --out out/seeds                 several seeds in many processes: dagan_seeds.h        */
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define STBI_NO_STDIO
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#define STBI_NO_PIC
#define STBI_NO_PNM
#define STBI_NO_PSD
#define STBI_NO_TGA
#define STB_IMAGE_IMPLEMENTATION
#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC push_options
#pragma GCC optimize("O1") /* reading pictures takes no time to speak of, optimising their readers would */
#endif
#if __has_include(<stb_image.h>) /* for PNG and JPEG; a copy beside this file is found with -I. */
#include <stb_image.h>
#elif __has_include(<stb/stb_image.h>)
#include <stb/stb_image.h>
#endif
#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC pop_options
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
#include "jobs.h"
#include "plot.h"
#include "dagan_quality.h"
#include "dagan_show.h"

static const char *const usage =
    "dagan_lab: further images of classes never seen, and what they are good for\n"
    "\n"
    "  dagan_lab train      trains generator and critic on the source classes; goes on where it was stopped\n"
    "  dagan_lab sample     OUT/samples.png and others: target classes, real and made ones, failures, nearest sources\n"
    "  dagan_lab make       OUT/made: images of the target classes as files, class by class, real and made\n"
    "  dagan_lab classify   classifiers on few real samples of the target classes, with and without made ones\n"
    "  dagan_lab match      Matching Networks and nearest neighbours, with and without; quality of the made images\n"
    "  dagan_lab transfer   classify, on the classes of another set\n"
    "  dagan_lab report     OUT/report.html and OUT/report.json from what there is\n"
    "  dagan_lab run        all of these in turn but make; what a set has too little for is left out, and said\n"
    "\n"
    "The same for several seeds, in many processes, each seed in a folder of its own below OUT:\n"
    "  dagan_lab plan       OUT/plan.json: --seeds tasks with the options given; a Makefile and slurm.sbatch for them\n"
    "  dagan_lab tasks      lists the tasks, finished or not\n"
    "  dagan_lab task [N ...]   `run` of the tasks with these numbers; without any, of the one whose number is in\n"
    "                       SLURM_ARRAY_TASK_ID, PBS_ARRAY_INDEX, JOB_COMPLETION_INDEX or, from 1, SGE_TASK_ID\n"
    "  dagan_lab join       OUT/seeds.csv, .json and .html: what they found, its mean and spread\n"
    "\n"
    "A step is not done again with the same images, networks and options and its files as it wrote them.\n";

/* ---- Settings ---- */

#define MAX_RUNS 20
#define TEST_SAMPLES 5          /* of each target class at least, never trained on */
#define MAX_TEST_SAMPLES 1000
#define MAX_CLASSES 256         /* of a study: that of classifiers, of nearest neighbours */
#define MAX_QUERIES 5           /* a class of a training episode: each costs less than a support set does */
#define LOOKED_AT 40            /* validation classes, during the training */
#define MAX_NEIGHBOURS 20       /* images a class that nearest neighbours are looked for among */
#define MIN_CLASSES 10          /* of a set: six to train on, two to choose on, two to test on */

typedef struct settings {
    const char *data, *labels, *target, *target_labels, *split, *range, *out, *preset_name, *format, *weights;
    int size, cells, channels, invert, transpose, max_classes, max_samples, runs, critic_steps, count, quarter_turns;
    int seeds;
    int64_t steps, classifier_steps, episodes;
    double rate, mismatch, diversity, teach, average, anneal, kept, share, low, high;
    program_ints samples, made;
} settings;

typedef struct sizes {
    const char *name;
    dagan_preset preset;
    int filters[3];                             /* of the generator; 0: the preset's */
    int classes, samples;                       /* of the drawn set */
    int64_t steps;
    int critic_steps;
    double rate, mismatch, teach, average, anneal;
    int quarter_turns;
    int runs;
    int64_t classifier_steps, episodes, test_episodes;
    program_ints real, made;
} sizes;

static const sizes presets[] = {
    { "quick", DAGAN_QUICK, { 0 }, 200, 20, 300, 2, 1e-3, 0.5, 0, 0.99, 0, 1, 2, 100, 150, 200, { 1, { 2 } },
      { 1, { 5 } } },
    { "compact", DAGAN_COMPACT, { 0 }, 600, 20, 8000, 2, 5e-4, 0.5, 5, 0.999, 0.5, 2, 3, 6000, 6000, 1000,
      { 3, { 5, 10, 15 } }, { 2, { 2, 10 } } },
    { "wide", DAGAN_COMPACT, { 32, 64, 96 }, 600, 20, 8000, 2, 5e-4, 0.5, 5, 0.999, 0.5, 2, 3, 6000, 6000, 1000,
      { 3, { 5, 10, 15 } }, { 2, { 2, 10 } } },
    { "paper", DAGAN_PAPER, { 0 }, 1600, 20, 100000, 5, 1e-4, 0, 0, 0, 0, 1, 3, 12000, 20000, 1000,
      { 3, { 5, 10, 15 } }, { 2, { 2, 10 } } }
};

/* What a checkpoint was trained on; a later step with other target classes would measure classes that it has seen. And
   by whom: a training goes on with the same teacher. */
enum { SEED, DATA, TARGET, SPLIT, FACTS, TEACHER = FACTS, ALL_FACTS };
static const char *const fact_names[ALL_FACTS] = {
    "lab.seed", "lab.data", "lab.target", "lab.split", "lab.teach"
};

/* Steps that a set may have too little for. */
enum { CLASSIFY, MATCH, TRANSFER, STEPS };

typedef struct lab {
    mde_context *c;
    program p;
    settings s;
    sizes z;
    dagan_images *source, *validation, *target;
    dagan_images *few[STEPS];                   /* of the target, or another set: classes with images enough */
    dagan_images *few_source;                   /* those that episodes can be made of */
    char why[STEPS][300];                       /* a step is left out; "": it is not */
    int ways[2], way_count, shots[2], shot_count;       /* of the episodes */
    char facts[ALL_FACTS][24];
    const char *fact_list[2 * ALL_FACTS];
    dagan *g;
    dagan_matcher *screener, *teacher;
    dagan_images *looked_at;                    /* during the training; NULL: nothing is */
    char look_key[24];
    const char *training;                       /* what is being trained; */
    int64_t first_step;                         /* before which step it began or went on, */
    int told;                                   /* and whether it was said how long it takes */
    char other_name[64];                        /* of the set that transfer uses */
    dagan_images *other;
    mde_text *measured;                         /* rows of classify.csv that this process measured */
    const char *planned;                        /* data_key of the plan that this is a task of, or NULL */
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
    if (!bad(l) && table->bytes && !l->p.json) fputs(table->bytes, stdout);
    fflush(stdout);
    mde_text_free(table);
}

static int minimum(int a, int b)
{
    return a < b ? a : b;
}

static int maximum_of(const program_ints *list)
{
    int i, maximum = 1;
    for (i = 0; i < list->count; i++) {
        if (list->values[i] > maximum) maximum = list->values[i];
    }
    return maximum;
}

static int minimum_of(const program_ints *list)
{
    int i, smallest = list->values[0];
    for (i = 1; i < list->count; i++) smallest = minimum(smallest, list->values[i]);
    return smallest;
}

/* ---- Sets ---- */

/* A sheet: one PBM picture (P4) of square cells, a class each row of them, ink 1. Cells become images of --size, 28 by
   default, by area average; blank ones at the end of a row are left out. */
static dagan_images *open_sheet(lab *l, const char *path)
{
    int cell = l->s.cells, size = l->s.size ? l->s.size : 28, width, height, rows, columns, x, y, i, k;
    size_t bytes = 0, at = 0, stride, area = (size_t)size * (size_t)size;
    unsigned char *file = mde_file_read(l->c, path, (size_t)1 << 28, &bytes);
    double scale = (double)cell / size, sum, ink;
    float *pixels = NULL;
    int *labels = NULL;
    int64_t count = 0;
    dagan_images *set = NULL;
    if (!file) return NULL;
    if (sscanf((const char *)file, "P4 %d %d%n", &width, &height, &i) == 2 && width > 0 && height > 0) {
        at = (size_t)i + 1;
    }
    stride = at ? ((size_t)width + 7) / 8 : 1;
    if (!at || width > 1 << 16 || height > 1 << 16 || bytes - at != stride * (size_t)height || width % cell ||
        height % cell) {
        mde_fail(l->c, MDE_BAD_FILE, "%s: is no binary PBM picture of whole cells of %d x %d pixels, as --cells says",
                 path, cell, cell);
        mde_release(l->c, file);
        return NULL;
    }
    columns = width / cell;
    rows = height / cell;
    pixels = (float *)mde_alloc(l->c, (size_t)rows * (size_t)columns, area * sizeof *pixels);
    labels = (int *)mde_alloc(l->c, (size_t)rows * (size_t)columns, sizeof *labels);
    for (k = 0; pixels && labels && k < rows * columns; k++) {
        float *image = pixels + (size_t)count * area;
        for (ink = 0, i = 0; i < (int)area; i++) {
            double top = i / size * scale, left = i % size * scale;
            for (sum = 0, y = (int)top; y < cell && y < top + scale; y++) {
                for (x = (int)left; x < cell && x < left + scale; x++) {
                    size_t row = (size_t)(k / columns * cell + y), column = (size_t)(k % columns * cell + x);
                    double high = fmin(y + 1.0, top + scale) - fmax(y, top);
                    double wide = fmin(x + 1.0, left + scale) - fmax(x, left);
                    sum += (file[at + row * stride + column / 8] >> (7 - column % 8) & 1) * high * wide;
                }
            }
            ink += sum;
            sum = 2 * sum / (scale * scale) - 1;
            image[i] = (float)(sum > 1 ? 1 : sum);
        }
        if (ink > 0) labels[count++] = k / columns;
    }
    if (!bad(l)) set = dagan_images_from(l->c, count, size, size, 1, pixels, labels);
    mde_release(l->c, pixels);
    mde_release(l->c, labels);
    mde_release(l->c, file);
    return set;
}

static dagan_images *open_set(lab *l, const char *path, const char *labels, int size, int channels)
{
    dagan_images_desc d;
    dagan_images *set;
    const char *first;
    if (path && l->s.cells) return open_sheet(l, path);
    memset(&d, 0, sizeof d);
    d.path = path;
    d.labels = labels;
    d.size = size;
    d.channels = channels;
    d.invert = l->s.invert;
    d.transpose = l->s.transpose;
    d.low = path ? l->s.low : 0;
    d.high = path ? l->s.high : 0;
    d.classes = l->s.max_classes ? l->s.max_classes : path ? 0 : l->z.classes;
    d.samples = l->s.max_samples ? l->s.max_samples : path ? 0 : l->z.samples;
    d.seed = l->p.seed;
    set = dagan_images_open(l->c, &d);
    if (dagan_images_left_out(set, &first) && !l->p.quiet) {
        fprintf(stderr, "%s: %lld images are left out, of formats that are not read, such as %s\n", path,
                (long long)dagan_images_left_out(set, NULL), first);
    }
    return set;
}

/* The classes with so many images, at most `limit` of them; NULL without two of them. */
static dagan_images *with_images(lab *l, const dagan_images *set, int images, int limit)
{
    int k, count = 0, classes = dagan_images_class_count(set);
    mde_mark mark = mde_arena_mark(l->c);
    int *list = (int *)mde_scratch(l->c, (size_t)classes, sizeof *list);
    dagan_images *out = NULL;
    for (k = 0; list && k < classes && count < limit; k++) {
        if (dagan_images_sample_count(set, k) >= images) list[count++] = k;
    }
    if (count >= 2) out = dagan_images_pick(set, count, list);
    mde_arena_rewind(l->c, mark);
    return out;
}

/* Source, validation and perhaps target classes by the seed: 75, 10 and 15 %, at least two of the last ones. */
static void split_by_seed(lab *l, const dagan_images *all)
{
    dagan_images *mixed = dagan_images_shuffle(all, l->p.seed);
    int n = dagan_images_class_count(all), first, second = n;
    if (n < MIN_CLASSES) {
        mde_fail(l->c, MDE_BAD_ARGUMENT, "%s: has %d class%s; a DAGAN learns from many: expected %d or more",
                 l->s.data ? l->s.data : "drawn set", n, n == 1 ? "" : "es", MIN_CLASSES);
    }
    if (!mixed || bad(l)) return;
    first = (int)((l->s.target ? 0.85 : 0.75) * n + 0.5);
    if (!l->s.target) second = minimum((int)(0.85 * n + 0.5), n - 2);
    first = minimum(first, second - 2);
    l->source = dagan_images_classes(mixed, 0, (double)first / n);
    l->validation = dagan_images_classes(mixed, (double)first / n, (double)second / n);
    if (!l->s.target) l->target = dagan_images_classes(mixed, (double)second / n, 1);
}

/* One part of a split file: names of classes, or of folders of them. taken: by which part, 0: by none. */
static dagan_images *split_part(lab *l, const dagan_images *all, const mde_json *file, const char *part, int number,
                                char *taken)
{
    const mde_json *name = mde_json_get(file, part);
    int classes = dagan_images_class_count(all), count = 0, k;
    int *list = (int *)mde_scratch(l->c, (size_t)classes, sizeof *list);
    if (!name || name->kind != MDE_JSON_ARRAY) {
        mde_fail(l->c, MDE_BAD_FILE, "%s: no list \"%s\" of names of classes", l->s.split, part);
        return NULL;
    }
    for (name = name->child; name && list && !bad(l); name = name->next) {
        size_t length = name->kind == MDE_JSON_STRING ? name->length : 0;
        int before = count;
        for (k = 0; k < classes && length; k++) {
            const char *have = dagan_images_name(all, k);
            if (strncmp(have, name->string, length) != 0 || (have[length] && have[length] != '/')) continue;
            if (taken[k]) {
                mde_fail(l->c, MDE_BAD_FILE, "%s: %s is named twice", l->s.split, have);
                return NULL;
            }
            taken[k] = (char)number;
            list[count++] = k;
        }
        if (count == before) {
            mde_fail(l->c, MDE_BAD_FILE, "%s: \"%s\" has %s, which is no class of the data and no folder of them",
                     l->s.split, part, length ? name->string : "something that is no name");
        }
    }
    if (!bad(l) && count < 2) mde_fail(l->c, MDE_BAD_FILE, "%s: \"%s\" has fewer than two classes", l->s.split, part);
    return bad(l) ? NULL : dagan_images_pick(all, count, list);
}

/* Parts as a file says: {"source": ["Latin", "Greek"], "validation": ["Futurama"], "target": ["Tifinagh"]} */
static void split_by_file(lab *l, const dagan_images *all)
{
    mde_json *file = mde_json_read(l->c, l->s.split);
    mde_mark mark = mde_arena_mark(l->c);
    char *taken = (char *)mde_scratch(l->c, (size_t)dagan_images_class_count(all), 1);
    if (file && taken) {
        memset(taken, 0, (size_t)dagan_images_class_count(all));
        l->source = split_part(l, all, file, "source", 1, taken);
        if (!bad(l)) l->validation = split_part(l, all, file, "validation", 2, taken);
        if (!bad(l) && !l->s.target) l->target = split_part(l, all, file, "target", 3, taken);
    }
    mde_arena_rewind(l->c, mark);
    mde_json_free(l->c, file);
}

static void fact(lab *l, int number, uint64_t value, const char *text)
{
    if (text) snprintf(l->facts[number], sizeof l->facts[number], "%s", text);
    else snprintf(l->facts[number], sizeof l->facts[number], number == SEED ? "%llu" : "%016llx",
                  (unsigned long long)value);
    l->fact_list[2 * number] = fact_names[number];
    l->fact_list[2 * number + 1] = l->facts[number];
}

/* For a generator from a file all classes are targets, or those that the split file says. */
static void open_target(lab *l)
{
    dagan_images *all = l->s.target ? open_set(l, l->s.target, l->s.target_labels, l->s.size, l->s.channels)
                                    : open_set(l, l->s.data, l->s.labels, l->s.size, l->s.channels);
    mde_json *file = all && l->s.split ? mde_json_read(l->c, l->s.split) : NULL;
    mde_mark mark = mde_arena_mark(l->c);
    char *taken = file ? (char *)mde_scratch(l->c, (size_t)dagan_images_class_count(all), 1) : NULL;
    if (taken) memset(taken, 0, (size_t)dagan_images_class_count(all));
    l->target = taken ? split_part(l, all, file, "target", 1, taken) : all;
    mde_arena_rewind(l->c, mark);
    mde_json_free(l->c, file);
}

/* Source and validation classes from --data, target classes from it or from --target. */
static void open_sets(lab *l)
{
    dagan_images *all, *target = NULL;
    int height, width, channels, h, w, k;
    if (l->s.weights) {
        open_target(l);
        return;
    }
    all = open_set(l, l->s.data, l->s.labels, l->s.size, l->s.channels);
    if (!all) return;
    dagan_images_shape(all, &height, &width, &channels);
    if (l->s.target) {
        target = open_set(l, l->s.target, l->s.target_labels, height == width ? height : l->s.size, channels);
        dagan_images_shape(target, &h, &w, NULL);
        if (target && (h != height || w != width)) {
            mde_fail(l->c, MDE_BAD_SHAPE, "%s: images of %d x %d, those of --data are %d x %d; --size makes both "
                     "square", l->s.target, h, w, height, width);
        }
    }
    if (bad(l)) return;
    if (l->s.split) split_by_file(l, all);
    else split_by_seed(l, all);
    if (bad(l)) return;
    fact(l, SEED, l->p.seed, NULL);
    fact(l, DATA, dagan_images_hash(all), NULL);
    fact(l, TARGET, dagan_images_hash(target), target ? NULL : "of the data");
    fact(l, SPLIT, dagan_images_hash(l->source), l->s.split ? NULL : "by the seed");
    if (target) {
        l->target = l->other = target;
        snprintf(l->other_name, sizeof l->other_name, "%.60s", l->s.target);
    } else if (channels == 1 && height == width) {
        l->other = dagan_images_draw(l->c, 60, 20, height, l->p.seed + 1000);
        snprintf(l->other_name, sizeof l->other_name, "drawn characters of another seed");
    }
    for (k = 0; k < dagan_images_class_count(l->source) && dagan_images_sample_count(l->source, k) < 2; k++) {}
    if (k == dagan_images_class_count(l->source)) {
        mde_fail(l->c, MDE_BAD_ARGUMENT, "%s: no source class has two images, which the training's pairs are of",
                 l->s.data ? l->s.data : "drawn set");
    }
}

static void hash_set(mde_text *t, const dagan_images *set)
{
    mde_text_format(t, " %016llx", set ? (long long)dagan_images_hash(set) : 0LL);
}

/* What a plan expects of the images, whatever the seed is: those of files, and a trained generator. */
static void data_key(lab *l, char key[24])
{
    mde_text *t = mde_text_create(l->c);
    if (l->s.weights) program_add_content(t, l->c, l->s.weights);
    if (l->s.weights && (l->s.data || l->s.target)) hash_set(t, l->target);
    if (!l->s.weights && l->s.data) mde_text_format(t, " %s %s", l->facts[DATA], l->facts[SPLIT]);
    if (!l->s.weights && l->s.target) mde_text_format(t, " %s", l->facts[TARGET]);
    snprintf(key, 24, "%016llx", bad(l) ? 0 : (unsigned long long)mde_fingerprint(t->bytes, t->length));
    mde_text_free(t);
}

static void check_planned(lab *l)
{
    char key[24];
    data_key(l, key);
    if (bad(l) || strcmp(key, l->planned) == 0) return;
    mde_fail(l->c, MDE_BAD_FILE, "%s: the images, the split or the generator are not those of the plan; were they "
             "changed since?", l->s.data ? l->s.data : l->s.weights ? l->s.weights : l->s.target);
}

/* ---- What can be done ---- */

static const char *const step_names[STEPS] = { "classify", "match", "transfer" };

/* Classes for a step, or why it is left out. */
static void plan_set(lab *l, int step, const dagan_images *set, int images, int limit, int asked, const char *what)
{
    int classes = dagan_images_class_count(set), enough;
    l->few[step] = with_images(l, set, images, limit);
    enough = dagan_images_class_count(l->few[step]);
    if (!enough) {
        snprintf(l->why[step], sizeof l->why[step],
                 "it takes two %s classes of %d images or more, and fewer of the %d have so many", what, images,
                 classes);
    } else if (enough < classes && asked && !l->p.quiet) {
        fprintf(stderr, "%s: %d of the %d %s classes, %s\n", step_names[step], enough, classes, what,
                enough == limit ? "as many as it takes" : "for others have too few images");
    }
}

/* Before anything is trained: what each later step needs. */
static void plan(lab *l, const char *command)
{
    int asked[STEPS];
    int images = TEST_SAMPLES + minimum_of(&l->z.real), k, i, classes, smallest;
    for (k = 0; k < STEPS; k++) asked[k] = strcmp(command, "run") == 0 || strcmp(command, step_names[k]) == 0;
    plan_set(l, CLASSIFY, l->target, images, MAX_CLASSES, asked[CLASSIFY], "target");
    plan_set(l, MATCH, l->target, 2, INT_MAX, asked[MATCH], "target");
    if (l->other) plan_set(l, TRANSFER, l->other, images, MAX_CLASSES, asked[TRANSFER], "other");
    else snprintf(l->why[TRANSFER], sizeof l->why[0], "colour or oblong images need --target, another set of them");
    if (l->s.weights) {
        for (k = MATCH; k <= TRANSFER; k++) {
            snprintf(l->why[k], sizeof l->why[k], "with --weights there are no source classes, and all are targets");
        }
        return;
    }
    l->few_source = with_images(l, l->source, 2, INT_MAX);
    if (!l->few_source && !*l->why[MATCH]) {
        snprintf(l->why[MATCH], sizeof l->why[MATCH], "it takes two source classes of two images or more");
    }
    if (*l->why[MATCH]) return;
    classes = dagan_images_class_count(l->few[MATCH]);
    smallest = dagan_images_sample_count(l->few[MATCH], 0);
    for (k = 1; k < classes; k++) smallest = minimum(smallest, dagan_images_sample_count(l->few[MATCH], k));
    for (i = 0; i < 2; i++) {
        static const int ways[2] = { 5, 20 }, shots[2] = { 1, 5 };
        int way = minimum(ways[i], classes);
        if (i == 0 || way != l->ways[0]) l->ways[l->way_count++] = way;
        if (shots[i] < smallest) l->shots[l->shot_count++] = shots[i];
    }
    if ((classes < 20 || l->shot_count < 2) && asked[MATCH] && !l->p.quiet) {
        fprintf(stderr, "match: %d-way%s for %d classes of %d images or more\n", l->ways[l->way_count - 1],
                l->shot_count < 2 ? ", one shot only," : "", classes, smallest);
    }
}

/* What was asked for by itself is an error if it cannot be done. */
static void insist(lab *l, int step)
{
    const dagan_images *set = step == TRANSFER ? l->other : l->target;
    int k, need = maximum_of(&l->s.samples);
    if (*l->why[step]) mde_fail(l->c, MDE_BAD_ARGUMENT, "%s: %s", step_names[step], l->why[step]);
    for (k = 0; step != MATCH && l->s.samples.count && k < dagan_images_class_count(set) && !bad(l); k++) {
        if (dagan_images_sample_count(set, k) >= TEST_SAMPLES + need) continue;
        mde_fail(l->c, MDE_BAD_ARGUMENT, "%s: %s has %d images; expected %d to learn from and %d for the test",
                 step_names[step], dagan_images_name(set, k), dagan_images_sample_count(set, k), need, TEST_SAMPLES);
    }
}

/* A file that says why there are no results; 0: there are to be some. */
static int left_out(lab *l, int step, const char *file)
{
    mde_text *t;
    mde_json_writer w;
    if (!*l->why[step]) return 0;
    if (!l->p.quiet) fprintf(stderr, "%s: left out: %s\n", step_names[step], l->why[step]);
    t = mde_text_create(l->c);
    w = mde_json_start(t, 1);
    mde_json_open(&w, NULL, '{');
    mde_json_write_string(&w, "left_out", l->why[step]);
    mde_json_close(&w);
    mde_json_end(&w);
    write_file(l, t, file);
    return 1;
}

static void hash_list(mde_text *t, int count, const int *values)
{
    int i;
    for (i = 0; i < count; i++) mde_text_format(t, "%s%d", i ? "," : " ", values[i]);
}

static void hash_params(mde_text *t, const mde_params *p)
{
    int k;
    for (k = 0; k < mde_params_count(p); k++) {
        const mde_tensor *x = mde_params_tensor(p, k);
        mde_text_format(t, " %016llx", (unsigned long long)mde_fingerprint(x->data, x->count * sizeof(float)));
    }
}

/* The file of generator and critic. */
static const char *network_file(const lab *l, char *path, size_t size)
{
    return l->s.weights ? l->s.weights : in_out(l, "dagan.safetensors", path, size);
}

/* A step that writes a file; it depends on the images and, with `networks`, on what makes further ones. The caller adds
   the rest. */
static program_work work_of(lab *l, const char *name, const char *file, int networks)
{
    program_work w = program_work_start(&l->p, l->c, l->s.out, name);
    char path[4096];
    mde_text_format(w.key, " %s %llu", l->z.name, (unsigned long long)l->p.seed);
    hash_set(w.key, l->source);
    hash_set(w.key, l->validation);
    hash_set(w.key, l->target);
    if (networks) program_work_input(&w, network_file(l, path, sizeof path));
    program_work_output(&w, file);
    return w;
}

/* One of the studies. */
static program_work study_of(lab *l, int step, const char *set_name, const char *file)
{
    program_work w = work_of(l, step_names[step], file, 1);
    mde_text_format(w.key, " %s %lld %d %lld %lld", set_name, (long long)l->z.classifier_steps, l->z.runs,
                    (long long)l->z.episodes, (long long)l->z.test_episodes);
    hash_list(w.key, l->z.real.count, l->z.real.values);
    hash_list(w.key, l->z.made.count, l->z.made.values);
    hash_list(w.key, l->way_count, l->ways);
    hash_list(w.key, l->shot_count, l->shots);
    hash_set(w.key, l->few[step]);
    hash_set(w.key, l->few_source);
    return w;
}

/* ---- How long a training takes ---- */

static void start_training(lab *l, const char *name)
{
    l->training = name;
    l->first_step = -1;
    l->told = 0;
}

/* Says once, when its speed is known, how long a training will take, if it is worth saying, and more. */
static void announce(lab *l, const mde_progress *p, const char *unit, double worth_saying, const char *more)
{
    double done, left = (double)(p->steps - p->step);
    if (l->first_step < 0) l->first_step = p->step - 1;
    done = (double)(p->step - l->first_step);
    if (l->told || done < 10 || left <= 0 || p->seconds_left < worth_saying) return;
    if (p->seconds_left * done / left < 2) return;      /* the first steps are slower */
    l->told = 1;
    if (l->p.quiet) return;
    program_progress(NULL, &l->p);
    fprintf(stderr, "%s: %lld %s, about %.0f more minutes on this machine%s\n", l->training, (long long)p->steps, unit,
            ceil(p->seconds_left / 60), more);
}

/* ---- What screens made images ---- */

/* Of a Matching Network: passing, unless it takes so long that a file, too, should show how far it is. */
static int matcher_progress(const mde_progress *p, void *user)
{
    lab *l = (lab *)user;
    mde_progress shown = *p;
    shown.stage = l->training;
    announce(l, p, "episodes", 60, "");
    return l->told ? program_progress(&shown, &l->p) : passing_progress(&shown, &l->p);
}

/* A matcher trained on source classes, by one fall of the learning rate over all episodes of the budget. */
static void train_matcher(lab *l, const char *name, dagan_matcher *m, dagan_episode_desc e)
{
    start_training(l, name);
    e.episodes = l->z.episodes;
    e.progress = matcher_progress;
    e.user = l;
    dagan_matcher_train(m, l->few_source, &e);
    if (program_interrupted && !bad(l)) mde_fail(l->c, MDE_STOPPED, "stopped");
}

static dagan_episode_desc source_episodes(lab *l)
{
    dagan_episode_desc e;
    int k;
    memset(&e, 0, sizeof e);
    e.way = minimum(dagan_images_class_count(l->few_source), 20);
    e.queries = MAX_QUERIES;
    for (k = 0; k < dagan_images_class_count(l->few_source); k++) {
        e.queries = minimum(e.queries, dagan_images_sample_count(l->few_source, k) - 1);
    }
    e.quarter_turns = 1;
    e.seed = l->p.seed;
    return e;
}

/* The file of the matcher that screens: beside --weights, or OUT's own. */
static const char *screener_file(const lab *l, char *path, size_t size)
{
    size_t stem = l->s.weights ? strlen(l->s.weights) : 0;
    if (!l->s.weights) return in_out(l, "weights.matcher.safetensors", path, size);
    if (stem > 12 && strcmp(l->s.weights + stem - 12, ".safetensors") == 0) stem -= 12;
    snprintf(path, size, "%.*s.matcher.safetensors", (int)stem, l->s.weights);
    return path;
}

static int can_screen(const lab *l)
{
    char path[4096];
    return l->s.weights ? mde_is_file(screener_file(l, path, sizeof path)) : l->few_source != NULL;
}

/* A matcher trained once on the source classes, by a seed of its own, and kept in OUT. */
static dagan_matcher *source_matcher(lab *l, const char *name, const char *file, int seed)
{
    char path[4096];
    dagan_matcher_desc d;
    dagan_matcher *m;
    program_work w = work_of(l, name, file, 0);
    mde_text_format(w.key, " %lld %lld", (long long)l->z.episodes, (long long)l->z.test_episodes);
    hash_set(w.key, l->few_source);
    memset(&d, 0, sizeof d);
    d.seed = l->p.seed + (uint64_t)seed;
    m = dagan_matcher_create(l->c, l->few_source, &d);
    in_out(l, file, path, sizeof path);
    if (m && !program_work_is_done(&w, 0)) {
        dagan_episode_desc e = source_episodes(l);
        e.seed += (uint64_t)seed;
        if (!l->p.quiet && !bad(l)) fprintf(stderr, "%s: a Matching Network on the source classes\n", name);
        mde_make_folder(l->c, l->s.out);
        train_matcher(l, name, m, e);
        mde_params_write(dagan_matcher_params(m), path, 0, NULL);
        program_work_finish(&w, NULL);
    } else if (m) {
        mde_params_read(dagan_matcher_params(m), path);
    }
    return m;
}

/* The matcher that screens, of another seed than the one that judges: from a file, or trained on the source classes. */
static dagan_matcher *screener(lab *l)
{
    char path[4096];
    if (l->screener || bad(l)) return l->screener;
    if (l->s.weights) {
        dagan_matcher_desc d;
        memset(&d, 0, sizeof d);
        d.seed = l->p.seed + 4001;
        l->screener = dagan_matcher_create(l->c, l->target, &d);
        if (l->screener) {
            mde_params_read(dagan_matcher_params(l->screener), screener_file(l, path, sizeof path));
        }
    } else {
        l->screener = source_matcher(l, "screener", "weights.matcher.safetensors", 4001);
    }
    return l->screener;
}

/* ---- train ---- */

static void write_curve(mde_json_writer *w, const char *name, int points, const dagan_step *curve, size_t offset)
{
    int i;
    mde_json_open(w, name, '[');
    for (i = 0; i < points; i++) {
        double value;
        memcpy(&value, (const char *)&curve[i] + offset, sizeof value);
        mde_json_write_number(w, NULL, value, 6);
    }
    mde_json_close(w);
}

/* What the generator is worth on the way, on validation classes, by the matcher that screens: a row of OUT/training.csv
   for each look, which a training that goes on keeps. */
#define LOOKS "training.csv"
#define MAX_LOOKS 64
enum { LOOK_STEP, LOOK_RECOGNISED, LOOK_REAL, LOOK_DIVERSITY, LOOK_COLUMNS };
static const char *const look_names[LOOK_COLUMNS] = { "look_step", "recognised", "real_recognised", "diversity" };
static const char looks_header[] = "key,step,recognised,real_recognised,diversity\n";

/* Those of this training before a step; returns how many. */
static int read_looks(lab *l, int64_t before, double rows[MAX_LOOKS][LOOK_COLUMNS])
{
    char path[4096];
    mde_csv *csv = mde_is_file(in_out(l, LOOKS, path, sizeof path)) ? mde_csv_read(l->c, path) : NULL;
    int row, k, n = 0;
    for (row = 0; csv && csv->columns == 1 + LOOK_COLUMNS && row < csv->rows && n < MAX_LOOKS; row++) {
        if (strcmp(csv->cells[(size_t)row * (size_t)csv->columns], l->look_key) != 0) continue;
        for (k = 0; k < LOOK_COLUMNS; k++) rows[n][k] = mde_csv_number(csv, row, 1 + k);
        n += rows[n][LOOK_STEP] < (double)before;
    }
    mde_csv_free(csv);
    return n;
}

static void write_training(lab *l)
{
    mde_text *t = mde_text_create(l->c);
    mde_json_writer w = mde_json_start(t, 1);
    double rows[MAX_LOOKS][LOOK_COLUMNS];
    int points, i, k, looks = l->looked_at ? read_looks(l, INT64_MAX, rows) : 0;
    const int64_t *ends;
    const dagan_step *curve = dagan_curve(l->g, &points, &ends);
    char seed[24];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)l->p.seed);
    mde_json_open(&w, NULL, '{');
    mde_json_write_string(&w, "preset", l->z.name);
    mde_json_write_int(&w, "steps", l->z.steps);
    mde_json_write_int(&w, "critic_steps", l->z.critic_steps);
    mde_json_write_number(&w, "learning_rate", l->z.rate, 6);
    mde_json_write_number(&w, "mismatch", l->z.mismatch, 6);
    mde_json_write_number(&w, "teach", l->z.teach, 6);
    mde_json_write_number(&w, "average", l->z.average, 6);
    mde_json_write_number(&w, "anneal", l->z.anneal, 6);
    mde_json_write_int(&w, "quarter_turns", l->z.quarter_turns);
    mde_json_write_string(&w, "seed", seed);
    mde_json_write_string(&w, "data", l->s.data ? l->s.data : "drawn characters");
    mde_json_write_string(&w, "target", l->s.target ? l->s.target : "classes of the same set");
    mde_json_write_string(&w, "split", l->s.split ? l->s.split : "by the seed");
    mde_json_write_int(&w, "source_classes", dagan_images_class_count(l->source));
    mde_json_write_int(&w, "validation_classes", dagan_images_class_count(l->validation));
    mde_json_write_int(&w, "target_classes", dagan_images_class_count(l->target));
    mde_json_write_int(&w, "generator_parameters", (int64_t)mde_params_elements(dagan_generator_params(l->g)));
    mde_json_write_int(&w, "critic_parameters", (int64_t)mde_params_elements(dagan_critic_params(l->g)));
    mde_json_open(&w, "step", '[');
    for (i = 0; i < points; i++) mde_json_write_int(&w, NULL, ends[i]);
    mde_json_close(&w);
    write_curve(&w, "distance", points, curve, offsetof(dagan_step, distance));
    write_curve(&w, "penalty", points, curve, offsetof(dagan_step, penalty));
    write_curve(&w, "gradient_norm", points, curve, offsetof(dagan_step, gradient_norm));
    write_curve(&w, "generator_loss", points, curve, offsetof(dagan_step, generator_loss));
    for (k = 0; looks > 0 && k < LOOK_COLUMNS; k++) {
        mde_json_open(&w, look_names[k], '[');
        for (i = 0; i < looks; i++) mde_json_write_number(&w, NULL, rows[i][k], 9);
        mde_json_close(&w);
    }
    mde_json_close(&w);
    mde_json_end(&w);
    write_file(l, t, "train.json");
}

/* A generator from a file takes images of its own size. */
static void check_weights(lab *l)
{
    int height, width, channels, h, w, n;
    if (bad(l)) return;
    dagan_shape(l->g, NULL, &height, &width, &channels);
    dagan_images_shape(l->target, &h, &w, &n);
    if (h == height && w == width && n == channels) return;
    mde_fail(l->c, MDE_BAD_SHAPE, "%s: makes images of %d x %d x %d, those of the set are %d x %d x %d; --size %d and "
             "--channels %d make them fit", l->s.weights, height, width, channels, h, w, n, height, channels);
}

/* The trained networks, for a command that does not train: they must not have seen the target classes. */
static void load(lab *l)
{
    static const char *const words[FACTS] = { "--seed", "--data (or its --size, --channels, --preset, ..)", "--target",
                                              "--split" };
    char path[4096];
    mde_safetensors *file;
    int k;
    if (l->s.weights) {
        l->g = dagan_open(l->c, l->s.weights);
        check_weights(l);
        if (!bad(l)) mde_make_folder(l->c, l->s.out);
        return;
    }
    in_out(l, "dagan.safetensors", path, sizeof path);
    if (!mde_is_file(path)) {
        mde_fail(l->c, MDE_IO, "%s: is not there; `dagan_lab train` makes it", path);
        return;
    }
    file = mde_safetensors_read(l->c, path);
    for (k = 0; file && k < FACTS && !bad(l); k++) {
        const char *was = mde_safetensors_metadata(file, fact_names[k]);
        if (!was) {
            mde_fail(l->c, MDE_BAD_FILE, "%s: does not say which classes it was trained on; train again", path);
        } else if (strcmp(was, l->facts[k]) != 0) {
            mde_fail(l->c, MDE_BAD_FILE, "%s: was trained with another %s (%s, now %s): target classes may be among "
                     "those that it has seen", path, words[k], was, l->facts[k]);
        }
    }
    mde_safetensors_free(l->c, file);
    if (!bad(l)) l->g = dagan_open(l->c, path);
}

static int look(dagan *g, int64_t step, void *user)
{
    lab *l = (lab *)user;
    double rows[MAX_LOOKS][LOOK_COLUMNS];
    int n = read_looks(l, step, rows), i, k;
    dagan_quality q;
    mde_text *t;
    if (bad(l) || n == MAX_LOOKS) return bad(l);
    if (dagan_measure(g, l->screener, NULL, 1, 1, l->looked_at, l->p.seed, &q) != MDE_OK) return 1;
    rows[n][LOOK_STEP] = (double)step;
    rows[n][LOOK_RECOGNISED] = q.recognisability;
    rows[n][LOOK_REAL] = q.real_recognisability;
    rows[n++][LOOK_DIVERSITY] = q.diversity;
    t = mde_text_create(l->c);
    mde_text_add(t, looks_header);
    for (i = 0; i < n; i++) {
        mde_text_add(t, l->look_key);
        for (k = 0; k < LOOK_COLUMNS; k++) {
            mde_text_add(t, ",");
            if (rows[i][k] - rows[i][k] == 0) mde_text_add_number(t, rows[i][k], 9);
        }
        mde_text_add(t, "\n");
    }
    write_file(l, t, LOOKS);
    if (!l->p.quiet) {
        fprintf(stderr, "train: after %lld steps %.1f %% of what is made of validation classes is recognised (real "
                "ones: %.1f %%), diversity %.2f\n", (long long)step, 100 * q.recognisability,
                100 * q.real_recognisability, q.diversity);
    }
    return bad(l);
}

static int training_progress(const mde_progress *p, void *user)
{
    lab *l = (lab *)user;
    announce(l, p, "steps", 0, "; stopped, it goes on with the same command. training.png shows it every twentieth of "
             "the way: blots first, then the right shape of broken strokes, simple characters before complex ones");
    return program_progress(p, &l->p);
}

/* What a matcher that neither screens nor judges says of made images: whether each would be taken for the class of its
   partner among those of the batch. */
static mde_tensor *teach(dagan *g, mde_tensor *partner, mde_tensor *made, void *user)
{
    const lab *l = (const lab *)user;
    int64_t n = made->shape[0], i;
    int32_t *classes = (int32_t *)mde_scratch(l->c, (size_t)n, sizeof *classes);
    mde_tensor *support = dagan_matcher_apply(l->teacher, partner), *queries = dagan_matcher_apply(l->teacher, made);
    mde_tensor *logits = dagan_matcher_logits(l->teacher, support, queries, n);
    (void)g;
    for (i = 0; classes && i < n; i++) classes[i] = (int32_t)i;
    return mde_affine(l->c, mde_mean(l->c, mde_cross_entropy(l->c, logits, classes)), l->z.teach, 0);
}

/* A teacher that stays as it is. */
static void open_teacher(lab *l)
{
    mde_params *p;
    mde_text *known = mde_text_create(l->c);
    int i;
    if (l->z.teach > 0) l->teacher = source_matcher(l, "teacher", "teacher.safetensors", 8001);
    p = dagan_matcher_params(l->teacher);
    for (i = 0; i < mde_params_count(p); i++) mde_params_tensor(p, i)->requires_grad = 0;
    mde_text_format(known, "%.17g", l->z.teach);
    if (p) hash_params(known, p);
    fact(l, TEACHER, bad(l) || !p ? 0 : mde_fingerprint(known->bytes, known->length), NULL);
    mde_text_free(known);
}

/* needed: by a later step, so that those that are trained already are opened. */
static void train(lab *l, int needed)
{
    char checkpoint[4096], grid[4096];
    dagan_desc d;
    dagan_train_desc t;
    dagan_grid_desc last;
    program_work w = work_of(l, "train", "dagan.safetensors", 0);
    if (!l->few_source && l->s.teach > 0) {
        mde_fail(l->c, MDE_BAD_ARGUMENT, "--teach: the source classes have too few images for a Matching Network");
    }
    if (!l->few_source) l->z.teach = 0;
    program_work_output(&w, "train.json");
    program_work_output(&w, "training.png");
    program_work_output(&w, "weights.safetensors");
    mde_text_format(w.key, " %lld %d %.17g %.17g %.17g %.17g %.17g %d", (long long)l->z.steps, l->z.critic_steps,
                    l->z.rate, l->z.mismatch, l->s.diversity, l->z.average, l->z.anneal, l->z.quarter_turns);
    if (l->z.teach > 0) mde_text_format(w.key, " %.17g", l->z.teach);
    mde_text_format(w.key, " %s %s %s", l->s.data ? l->s.data : "", l->s.target ? l->s.target : "",
                    l->s.split ? l->s.split : "");
    if (can_screen(l) && screener(l)) l->looked_at = with_images(l, l->validation, 2, LOOKED_AT);
    if (l->looked_at) program_work_output(&w, LOOKS);
    if (program_work_is_done(&w, 0)) {
        if (needed) load(l);
        return;
    }
    memset(&d, 0, sizeof d);
    memset(&t, 0, sizeof t);
    snprintf(l->look_key, sizeof l->look_key, "%016llx",
             bad(l) ? 0 : (unsigned long long)mde_fingerprint(w.key->bytes, w.key->length));
    t.look = l->looked_at ? look : NULL;
    d.preset = l->z.preset;
    memcpy(d.generator, l->z.filters, sizeof l->z.filters);
    d.seed = l->p.seed;
    t.steps = l->z.steps;
    t.critic_steps = l->z.critic_steps;
    t.learning_rate = l->z.rate;
    t.mismatch = l->z.mismatch > 0 ? l->z.mismatch : MDE_ZERO;
    t.diversity = l->s.diversity;
    t.seed = l->p.seed;
    t.quarter_turns = l->z.quarter_turns;
    t.average = l->z.average;
    t.anneal = l->z.anneal;
    t.checkpoint = in_out(l, "dagan.safetensors", checkpoint, sizeof checkpoint);
    program_check_checkpoint(l->c, l->p.name, t.checkpoint);
    t.term = l->z.teach > 0 ? teach : NULL;
    open_teacher(l);
    t.pairs = ALL_FACTS;
    t.metadata = l->fact_list;
    t.grid = in_out(l, "training.png", grid, sizeof grid);
    t.grid_set = l->validation;
    t.progress = training_progress;
    t.user = l;
    start_training(l, "train");
    say(l, "train: generator and critic on the source classes");
    mde_make_folder(l->c, l->s.out);
    l->g = dagan_create(l->c, l->source, &d);
    if (l->g && dagan_train(l->g, l->source, &t) == MDE_OK) {
        memset(&last, 0, sizeof last);
        last.seed = l->p.seed;
        dagan_write_grid(l->g, l->validation, &last, grid);     /* a training that was finished writes none */
        write_training(l);
        dagan_write(l->g, in_out(l, "weights.safetensors", checkpoint, sizeof checkpoint));
    } else if (l->g && !bad(l)) {
        mde_fail(l->c, MDE_STOPPED, "stopped");
    }
    program_work_finish(&w, NULL);
}

/* ---- sample ---- */

/* How close made images are to those that were trained on, and how many look like another class: pictures, numbers. */
static void look_closer(lab *l)
{
    char path[4096];
    mde_text *t = mde_text_create(l->c);
    mde_json_writer w = mde_json_start(t, 1);
    double right = (double)NAN, medians[2];
    mde_json_open(&w, NULL, '{');
    if (can_screen(l)) {
        show_failures(l->g, screener(l), l->target, 5, 4, l->p.seed, in_out(l, "failures.png", path, sizeof path),
                      &right);
        mde_json_write_int(&w, "made", (int64_t)dagan_images_class_count(l->target) * 4);
        mde_json_write_number(&w, "right", right, 6);
    }
    if (l->source) {
        show_nearest(l->g, l->source, l->target, l->p.seed, in_out(l, "nearest.png", path, sizeof path), medians);
        mde_json_write_number(&w, "made_to_source", medians[0], 6);
        mde_json_write_number(&w, "real_to_source", medians[1], 6);
    }
    mde_json_close(&w);
    mde_json_end(&w);
    write_file(l, t, "sample.json");
}

static void sample(lab *l)
{
    char path[4096];
    dagan_grid_desc grid;
    program_work w = work_of(l, "sample", "samples.png", 1);
    program_work_output(&w, "interpolation.png");
    program_work_output(&w, "sample.json");
    if (can_screen(l)) program_work_output(&w, "failures.png");
    if (l->source) program_work_output(&w, "nearest.png");
    if (program_work_is_done(&w, 0)) return;
    memset(&grid, 0, sizeof grid);
    grid.rows = 10;
    grid.columns = 14;
    grid.seed = l->p.seed;
    dagan_write_grid(l->g, l->target, &grid, in_out(l, "samples.png", path, sizeof path));
    grid.interpolate = 1;
    dagan_write_grid(l->g, l->target, &grid, in_out(l, "interpolation.png", path, sizeof path));
    if (!bad(l)) look_closer(l);
    program_work_finish(&w, NULL);
    say(l, l->source ? "sample: samples.png, interpolation.png, failures.png, nearest.png"
                     : "sample: samples.png, interpolation.png");
}

/* ---- make ---- */

/* Where made images go. Of a folder each image is a file; the arrays are written at the end. */
typedef struct album {
    int64_t count, next;
    int height, width, channels, label_bytes;
    float *pixels, *labels, *flags;             /* .npy */
    unsigned char *bytes, *label_list, *flag_list;      /* IDX, big-endian */
    mde_text *index;                            /* index.csv: image, class, made, the real one it was made from */
} album;

/* As it would be read again: black 0, white 255; undoes --invert. */
static unsigned char shade(const lab *l, float value)
{
    double x = 127.5 + 127.5 * (l->s.invert ? -(double)value : (double)value);
    return (unsigned char)(x < 0 ? 0 : x > 255 ? 255 : x + 0.5);
}

static void album_add(lab *l, album *a, const dagan_images *set, int class_index, const float *image, int is_made,
                      int number, int from)
{
    size_t size = (size_t)a->height * (size_t)a->width * (size_t)a->channels, k;
    const char *name = dagan_images_name(set, class_index), *kind = is_made ? "made" : "real";
    char path[4096], file[4096];
    if (a->pixels) {
        for (k = 0; k < size; k++) a->pixels[(size_t)a->next * size + k] = l->s.invert ? -image[k] : image[k];
        a->labels[a->next] = (float)class_index;
        a->flags[a->next] = (float)is_made;
    } else if (a->label_list) {
        for (k = 0; k < size; k++) a->bytes[(size_t)a->next * size + k] = shade(l, image[k]);
        for (k = 0; k < (size_t)a->label_bytes; k++) {
            a->label_list[(size_t)a->next * (size_t)a->label_bytes + k] =
                (unsigned char)(class_index >> (8 * (a->label_bytes - 1 - (int)k)) & 255);
        }
        a->flag_list[a->next] = (unsigned char)is_made;
    } else {
        snprintf(file, sizeof file, "made/%s/%s-%05d.png", name, kind, number);
        for (k = 0; k < size; k++) a->bytes[k] = shade(l, image[k]);
        mde_png_write(l->c, in_out(l, file, path, sizeof path), a->width, a->height, a->channels, a->bytes);
    }
    if (a->pixels || a->label_list) mde_text_format(a->index, "%lld,\"", (long long)a->next);
    else mde_text_format(a->index, "\"%s\",\"", file + 5);
    for (; *name; name++) mde_text_format(a->index, *name == '"' ? "\"\"" : "%c", *name);
    mde_text_format(a->index, "\",%d,%d\n", is_made, from);
    a->next++;
}

/* An IDX file of bytes behind the header that its shape takes. */
static void write_idx(lab *l, const char *name, int type, int rank, const int64_t *shape, const void *data, size_t size)
{
    unsigned char *bytes = (unsigned char *)mde_alloc(l->c, 4 + 4 * (size_t)rank + size, 1);
    char path[4096];
    int k;
    if (!bytes) return;
    bytes[2] = (unsigned char)type;
    bytes[3] = (unsigned char)rank;
    for (k = 0; k < 4 * rank; k++) bytes[4 + k] = (unsigned char)(shape[k / 4] >> (24 - 8 * (k % 4)) & 255);
    memcpy(bytes + 4 + 4 * rank, data, size);
    mde_file_write(l->c, in_out(l, name, path, sizeof path), bytes, 4 + 4 * (size_t)rank + size);
    mde_release(l->c, bytes);
}

static void album_close(lab *l, album *a, const dagan_images *set)
{
    int64_t shape[4];
    size_t size = (size_t)a->height * (size_t)a->width * (size_t)a->channels;
    mde_text *names = mde_text_create(l->c);
    char path[4096];
    int k;
    shape[0] = a->count;
    shape[1] = a->height;
    shape[2] = a->width;
    shape[3] = a->channels;
    if (a->pixels) {
        mde_npy_write(l->c, in_out(l, "made/images.npy", path, sizeof path), 4, shape, a->pixels);
        mde_npy_write(l->c, in_out(l, "made/labels.npy", path, sizeof path), 1, shape, a->labels);
        mde_npy_write(l->c, in_out(l, "made/made.npy", path, sizeof path), 1, shape, a->flags);
    } else if (a->label_list) {
        int rank = a->channels == 1 ? 3 : 4;
        const char *images = rank == 3 ? "made/images-idx3-ubyte" : "made/images-idx4-ubyte";
        const char *labels = a->label_bytes == 1 ? "made/labels-idx1-ubyte" : "made/labels-idx1-int";
        write_idx(l, images, 0x08, rank, shape, a->bytes, (size_t)a->count * size);
        write_idx(l, labels, a->label_bytes == 1 ? 0x08 : 0x0C, 1, shape, a->label_list,
                  (size_t)a->count * (size_t)a->label_bytes);
        write_idx(l, "made/made-idx1-ubyte", 0x08, 1, shape, a->flag_list, (size_t)a->count);
    }
    for (k = 0; k < dagan_images_class_count(set); k++) mde_text_format(names, "%s\n", dagan_images_name(set, k));
    write_file(l, names, "made/classes.txt");
    write_file(l, a->index, "made/index.csv");
    mde_release(l->c, a->pixels);
    mde_release(l->c, a->labels);
    mde_release(l->c, a->flags);
    mde_release(l->c, a->bytes);
    mde_release(l->c, a->label_list);
    mde_release(l->c, a->flag_list);
}

/* The real images of each target class, then --count made ones, from each real one in turn. */
static void make(lab *l)
{
    const dagan_images *set = l->target;
    const char *format = l->s.format ? l->s.format : "folder";
    int classes = dagan_images_class_count(set), k, i;
    int64_t count = dagan_images_count(set) + (int64_t)classes * l->s.count;
    size_t size;
    album a;
    float *from, *made;
    char path[4096];
    program_work w = work_of(l, "make", "made", 1);
    mde_text_format(w.key, " %d %s %d", l->s.count, format, l->s.invert);
    for (k = 0; k < classes; k++) mde_text_add_json(w.key, dagan_images_name(set, k));
    if (program_work_is_done(&w, 0)) return;
    memset(&a, 0, sizeof a);
    dagan_images_shape(set, &a.height, &a.width, &a.channels);
    size = (size_t)a.height * (size_t)a.width * (size_t)a.channels;
    a.count = count;
    a.label_bytes = classes <= 256 ? 1 : 4;
    mde_make_folder(l->c, in_out(l, "made", path, sizeof path));
    a.index = mde_text_create(l->c);
    mde_text_add(a.index, "image,class,made,from\n");
    if (strcmp(format, "npy") == 0) {
        a.pixels = (float *)mde_alloc(l->c, (size_t)count, size * sizeof *a.pixels);
        a.labels = (float *)mde_alloc(l->c, (size_t)count, sizeof *a.labels);
        a.flags = (float *)mde_alloc(l->c, (size_t)count, sizeof *a.flags);
    } else if (strcmp(format, "idx") == 0) {
        a.bytes = (unsigned char *)mde_alloc(l->c, (size_t)count, size);
        a.label_list = (unsigned char *)mde_alloc(l->c, (size_t)count, (size_t)a.label_bytes);
        a.flag_list = (unsigned char *)mde_alloc(l->c, (size_t)count, 1);
    } else {
        a.bytes = (unsigned char *)mde_alloc(l->c, size, 1);
    }
    from = (float *)mde_alloc(l->c, (size_t)l->s.count, size * sizeof *from);
    made = (float *)mde_alloc(l->c, (size_t)l->s.count, size * sizeof *made);
    for (k = 0; k < classes && !bad(l); k++) {
        int reals = dagan_images_sample_count(set, k);
        char folder[4096];
        snprintf(folder, sizeof folder, "made/%s", dagan_images_name(set, k));
        if (!a.pixels && !a.label_list) mde_make_folder(l->c, in_out(l, folder, path, sizeof path));
        for (i = 0; i < reals && !bad(l); i++) album_add(l, &a, set, k, dagan_images_pixels(set, k, i), 0, i, i);
        for (i = 0; i < l->s.count; i++) {
            memcpy(from + (size_t)i * size, dagan_images_pixels(set, k, i % reals), size * sizeof *from);
        }
        dagan_generate(l->g, l->s.count, from, NULL, l->p.seed * 1000003 + (uint64_t)k, made);
        for (i = 0; i < l->s.count && !bad(l); i++) {
            album_add(l, &a, set, k, made + (size_t)i * size, 1, i, i % reals);
        }
        if (program_interrupted && !bad(l)) mde_fail(l->c, MDE_STOPPED, "stopped");
    }
    mde_release(l->c, from);
    mde_release(l->c, made);
    album_close(l, &a, set);
    program_work_finish(&w, NULL);
    if (!bad(l) && !l->p.json) {
        printf("make: %lld images of %d classes, %d made ones each: %s\n", (long long)count, classes, l->s.count,
               in_out(l, "made", path, sizeof path));
    }
}

/* ---- classify ---- */

/* `standard` is the augmentation of the paper's baseline; `raw` takes made images as they come, as the paper does. */
enum { NONE, STANDARD, CLASSIC, RAW, MADE, BOTH, ARMS };
static const char *const arm_names[ARMS] = { "none", "standard", "classic", "DAGAN", "screened",
                                             "classic + screened" };

/* All arms take the same number of steps. On the validation classes each also trains for a quarter and for half of
   them, from the start and with its own fall of the learning rate, so that the rows show what more would give. */
enum { LENGTHS = 3 };

static int64_t length_steps(int64_t largest, int length)
{
    int64_t steps = largest >> (LENGTHS - 1 - length);
    return steps < 1 ? 1 : steps;
}

/* How an arm learns: what is chosen on validation classes. */
typedef struct recipe {
    int each;                           /* made images a real one */
    double kept, share;                 /* of what is made; of a batch, 0: none are made */
} recipe;

/* One training: which images, how, and what came out. */
typedef struct trial {
    const dagan_images *set;
    int n, arm, run;                    /* real samples a class */
    int every_length;                   /* 0: all steps alone */
    recipe how;
    double values[LENGTHS];             /* accuracy by each length, on images that were not trained on, or NaN */
    int64_t steps;                      /* of the longest */
    double right;                       /* share of the candidates that screening found right */
} trial;

/* Test images a class: what the largest number of real samples leaves. */
static int test_samples(const lab *l, const dagan_images *set, int *smallest)
{
    int i, learned = maximum_of(&l->z.real);
    *smallest = INT_MAX;
    for (i = 0; i < dagan_images_class_count(set); i++) {
        *smallest = minimum(*smallest, dagan_images_sample_count(set, i));
    }
    if (*smallest - learned < TEST_SAMPLES) return TEST_SAMPLES;
    return minimum(*smallest - learned, MAX_TEST_SAMPLES);
}

static void augmentation(int arm, dagan_augment_desc *a)
{
    memset(a, 0, sizeof *a);
    if (arm == STANDARD) {
        a->shift = 2;
        a->noise = 0.1;
        a->quarter_turns = 1;
    }
    if (arm == CLASSIC || arm == BOTH) {
        a->shift = 2;
        a->rotate = 15;
        a->scale = 0.1;
    }
}

/* Steps of every arm, in proportion to the real images if there are many. */
static int64_t budget_of(const lab *l, const dagan_images *real)
{
    double thousands = (double)dagan_images_count(real) / 1000;
    return (int64_t)((double)l->z.classifier_steps * (thousands > 1 ? thousands : 1));
}

/* OUT/classify.csv gets a row as soon as it is measured; what is there already is not measured again. A writer adds all
   rows of its own to those that are there, sorted by what they are of, so that processes in one folder end with the
   same file, in whatever order they wrote. */
#define ROWS "classify.csv"
static const char rows_header[] = "key,set,classes,samples,arm,run,made,kept,share,right,steps,"
                                  "accuracy_quarter,accuracy_half,accuracy_all\n";

/* Of the networks in use; their files may be replaced, or deleted, in the meantime. */
static void trial_key(lab *l, const trial *t, char key[24])
{
    mde_text *k = mde_text_create(l->c);
    mde_text_format(k, MDE_VERSION " %d %d %d %llu %lld %d length %d", t->n, t->arm, t->run,
                    (unsigned long long)l->p.seed, (long long)l->z.classifier_steps, maximum_of(&l->z.real),
                    t->every_length ? -1 : LENGTHS - 1);
    hash_set(k, t->set);
    if (t->arm >= RAW && t->how.share > 0) {
        mde_text_format(k, " %d %.6g %.6g", t->how.each, t->how.kept, t->how.share);
        hash_params(k, dagan_generator_params(l->g));
        if (t->how.kept < 1 && screener(l)) hash_params(k, dagan_matcher_params(screener(l)));
    }
    snprintf(key, 24, "%016llx", bad(l) ? 0 : (unsigned long long)mde_fingerprint(k->bytes, k->length));
    mde_text_free(k);
}

static const char *set_name_of(const lab *l, const trial *t)
{
    return t->set == l->few[CLASSIFY] ? "target" : t->set == l->few[TRANSFER] ? "other" : "validation";
}

static int trial_read(lab *l, const char *key, trial *t)
{
    char path[4096];
    mde_csv *csv = mde_is_file(in_out(l, ROWS, path, sizeof path)) ? mde_csv_read(l->c, path) : NULL;
    int row, found = 0, k;
    for (row = 0; csv && csv->columns == 11 + LENGTHS && row < csv->rows && !found; row++) {
        found = strcmp(csv->cells[(size_t)row * (size_t)csv->columns], key) == 0;
        if (!found) continue;
        t->right = mde_csv_number(csv, row, 9);
        t->steps = (int64_t)mde_csv_number(csv, row, 10);
        for (k = 0; k < LENGTHS; k++) t->values[k] = mde_csv_number(csv, row, 11 + k);
    }
    mde_csv_free(csv);
    return found;
}

/* By all but the key, with which a row begins; of equal ones by the key. */
static int compare_rows(const void *a, const void *b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    int order = strcmp(strchr(x, ','), strchr(y, ','));
    return order ? order : strcmp(x, y);
}

/* Cuts text into its lines [capacity] that are rows; returns how many. */
static int cut_rows(char *text, int capacity, char **rows)
{
    int count = 0;
    char *end;
    for (; *text && count < capacity; text = end + 1) {
        end = strchr(text, '\n');
        if (!end) break;
        *end = 0;
        if (strchr(text, ',') && strncmp(text, "key,", 4) != 0) rows[count++] = text;
    }
    return count;
}

static void write_rows(lab *l)
{
    mde_text *text = mde_text_create(l->c), *sorted = mde_text_create(l->c);
    char path[4096], **rows;
    unsigned char *there = NULL;
    size_t size = 0, lines = 0, i;
    int count = 0, k;
    if (mde_is_file(in_out(l, ROWS, path, sizeof path))) there = mde_file_read(l->c, path, (size_t)1 << 26, &size);
    if (there) mde_text_add(text, (const char *)there);
    mde_text_add(text, l->measured->bytes);
    for (i = 0; !bad(l) && i < text->length; i++) lines += text->bytes[i] == '\n';
    rows = bad(l) ? NULL : (char **)mde_alloc(l->c, lines + 1, sizeof *rows);
    if (rows) count = cut_rows(text->bytes, (int)lines, rows);
    if (count > 0) qsort(rows, (size_t)count, sizeof *rows, compare_rows);
    mde_text_add(sorted, rows_header);
    for (k = 0; k < count; k++) {
        if (k == 0 || strcmp(rows[k - 1], rows[k]) != 0) mde_text_format(sorted, "%s\n", rows[k]);
    }
    if (bad(l)) mde_text_free(sorted);
    else write_file(l, sorted, ROWS);
    mde_release(l->c, rows);
    mde_release(l->c, there);
    mde_text_free(text);
}

static void trial_write(lab *l, const char *key, const trial *t)
{
    mde_text *row;
    int k;
    if (!l->measured) l->measured = mde_text_create(l->c);
    row = l->measured;
    mde_text_format(row, "%s,%s,%d,%d,%s,%d,%d,", key, set_name_of(l, t), dagan_images_class_count(t->set), t->n,
                    arm_names[t->arm], t->run, t->arm >= RAW ? t->how.each : 0);
    mde_text_add_number(row, t->arm >= RAW ? t->how.kept : 0, 6);
    mde_text_add(row, ",");
    mde_text_add_number(row, t->arm >= RAW ? t->how.share : 0, 6);
    mde_text_add(row, ",");
    if (t->right == t->right) mde_text_add_number(row, t->right, 6);
    mde_text_format(row, ",%lld", (long long)t->steps);
    for (k = 0; k < LENGTHS; k++) {
        mde_text_add(row, ",");
        if (t->values[k] == t->values[k]) mde_text_add_number(row, t->values[k], 6);
    }
    mde_text_add(row, "\n");
    if (!bad(l)) write_rows(l);
}

/* One classifier, from the start, in so many steps; its accuracy on the test images. */
static double train_classifier(lab *l, const trial *t, const dagan_images *real, const dagan_images *made,
                               const dagan_images *test, int64_t steps, uint64_t seed)
{
    dagan_classifier_desc d;
    dagan_fit_desc f;
    dagan_classifier *k;
    double accuracy = (double)NAN;
    memset(&d, 0, sizeof d);
    memset(&f, 0, sizeof f);
    d.seed = f.seed = seed;
    f.steps = steps;
    f.made = made;
    f.made_share = t->how.share;
    augmentation(t->arm, &f.augment);
    f.progress = passing_progress;
    f.user = &l->p;
    k = dagan_classifier_create(l->c, real, &d);
    if (k) dagan_classifier_train(k, real, &f);
    if (program_interrupted && !bad(l)) mde_fail(l->c, MDE_STOPPED, "stopped");
    if (!bad(l)) accuracy = dagan_classifier_accuracy(k, test);
    dagan_classifier_free(k);
    return accuracy;
}

/* The simpler arm that the recipe comes to: no made images beside classic augmentation, or all that is made. */
static int same_as(const trial *t)
{
    if (t->arm == BOTH && !(t->how.share > 0)) return CLASSIC;
    if (t->arm == MADE && t->how.share > 0 && !(t->how.kept < 1)) return RAW;
    return t->arm;
}

/* Trains classifiers on n real samples a class as the recipe says, one for each number of steps that is asked for. */
static void train_lengths(lab *l, trial *t)
{
    uint64_t split = l->p.seed * 1000 + (uint64_t)t->run + 1;
    int smallest, tests = test_samples(l, t->set, &smallest), k;
    dagan_images *test = dagan_images_samples(t->set, 0, tests, split);
    dagan_images *real = dagan_images_samples(t->set, tests, t->n, split), *made = NULL;
    if (t->arm >= RAW && t->how.share > 0) {
        made = screen_make(l->g, t->how.kept < 1 ? screener(l) : NULL, real, t->how.each, t->how.kept, split,
                           &t->right);
    }
    for (k = t->every_length ? 0 : LENGTHS - 1; k < LENGTHS && !bad(l); k++) {
        t->steps = length_steps(budget_of(l, real), k);
        t->values[k] = train_classifier(l, t, real, made, test, t->steps, split);
    }
    dagan_images_free(made);
    dagan_images_free(real);
    dagan_images_free(test);
}

/* What the recipe gives, measured or read. */
static void measure_arm(lab *l, trial *t)
{
    char key[24];
    int k;
    trial_key(l, t, key);
    for (k = 0; k < LENGTHS; k++) t->values[k] = (double)NAN;
    t->right = (double)NAN;
    t->steps = 0;
    if (bad(l) || trial_read(l, key, t) || bad(l)) return;
    if (same_as(t) != t->arm) {
        trial simpler = *t;
        simpler.arm = same_as(t);
        measure_arm(l, &simpler);
        memcpy(t->values, simpler.values, sizeof t->values);
        t->steps = simpler.steps;
    } else {
        train_lengths(l, t);
    }
    if (!bad(l)) trial_write(l, key, t);
    if (!bad(l)) trial_read(l, key, t);     /* as it is written, so that a later run gives the same */
}

/* Measures and says it; returns the accuracy after all steps. */
static double try_arm(lab *l, trial *t)
{
    measure_arm(l, t);
    if (!bad(l) && t->values[LENGTHS - 1] != t->values[LENGTHS - 1]) {
        mde_fail(l->c, MDE_BAD_FILE, "%s: a row without any accuracy; delete it", ROWS);
    }
    if (bad(l)) return (double)NAN;
    if (!l->p.quiet) {
        fprintf(stderr, "classify: %s classes, %d samples a class, %s, run %d: %.2f %% after %lld steps\n",
                set_name_of(l, t), t->n, arm_names[t->arm], t->run + 1, 100 * t->values[LENGTHS - 1],
                (long long)t->steps);
    }
    return t->values[LENGTHS - 1];
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

/* Mean of a - b over runs on the same split, with its standard error. */
static void write_difference(mde_json_writer *w, const char *key, int n, const double *a, const double *b)
{
    double d[MAX_RUNS] = { 0 };
    int i;
    for (i = 0; i < n; i++) d[i] = a[i] - b[i];
    mde_json_open(w, key, '{');
    mde_json_write_number(w, "mean", mean_of(n, d), 6);
    mde_json_write_number(w, "standard_error", spread_of(n, d) / sqrt((double)n), 6);
    mde_json_close(w);
}

/* Tries a recipe on the validation classes and keeps it if it is better than what is kept, or the first. */
static void consider(lab *l, mde_json_writer *w, trial *t, recipe how, double *best, recipe *kept)
{
    double value;
    t->how = how;
    value = try_arm(l, t);
    mde_json_open(w, NULL, '{');
    mde_json_write_string(w, "arm", arm_names[t->arm]);
    mde_json_write_int(w, "made", t->arm >= RAW ? how.each : 0);
    mde_json_write_number(w, "kept", t->arm >= RAW ? how.kept : 0, 6);
    mde_json_write_number(w, "share", t->arm >= RAW ? how.share : 0, 6);
    mde_json_write_numbers(w, "accuracy_by_length", LENGTHS, t->values, 6);
    mde_json_write_number(w, "accuracy", value, 6);
    mde_json_close(w);
    if (!(value > *best)) return;
    *best = value;
    *kept = how;
}

/* How each arm learns from n samples a class, chosen on the validation classes: from how many made images and which of
   them, and how many of a batch they are. 0 of them is the first choice, so that made images are left out
   where they do not help there. */
static void choose(lab *l, mde_json_writer *w, int n, recipe how[ARMS])
{
    static const double kept[2] = { 0.5, 0.25 }, shares[2] = { 0.25, 0.5 };
    dagan_images *set = with_images(l, l->validation, TEST_SAMPLES + n, MAX_CLASSES);
    trial t;
    double best[ARMS];
    recipe next;
    int i, arm;
    memset(&t, 0, sizeof t);
    t.set = set;
    t.n = n;
    t.every_length = 1;
    for (arm = 0; arm < ARMS; arm++) {
        best[arm] = -1;
        how[arm].each = l->z.made.values[0];
        how[arm].kept = arm == RAW ? 1 : l->s.kept > 0 ? l->s.kept : 0.25;
        how[arm].share = arm == BOTH && l->s.share >= 0 ? l->s.share : arm == BOTH ? 0.25 : 0.5;
    }
    if (!set) say(l, "classify: too few images in the validation classes to choose by; every arm takes all its steps");
    mde_json_open(w, "chosen_on_validation_classes", '[');
    for (arm = NONE; set && arm <= RAW && !bad(l); arm++) {
        for (i = 0; i < (arm == RAW ? l->z.made.count : 1) && !bad(l); i++) {
            next = how[arm];
            next.each = l->z.made.values[i];
            t.arm = arm;
            consider(l, w, &t, next, &best[arm], &how[arm]);
        }
    }
    if (set) {
        how[MADE] = how[RAW];
        best[MADE] = best[RAW];
        t.arm = MADE;
        for (i = 0; i < 2 && !(l->s.kept > 0 && i) && !bad(l); i++) {
            next = how[RAW];
            next.kept = l->s.kept > 0 ? l->s.kept : kept[i];
            consider(l, w, &t, next, &best[MADE], &how[MADE]);
        }
        how[BOTH] = how[MADE];
        how[BOTH].share = 0;
        best[BOTH] = best[CLASSIC];
        t.arm = BOTH;
        for (i = 0; i < 2 && !(l->s.share >= 0 && i) && !bad(l); i++) {
            next = how[MADE];
            next.share = l->s.share >= 0 ? l->s.share : shares[i];
            if (next.share > 0) consider(l, w, &t, next, &best[BOTH], &how[BOTH]);
        }
    }
    mde_json_close(w);
    dagan_images_free(set);
}

/* One arm in all its runs. */
typedef struct measured_arm { double got[MAX_RUNS], right[MAX_RUNS]; int64_t steps; } measured_arm;

/* All arms, run by run, so that a study that is stopped has whole runs to compare. */
static void measure_arms(lab *l, trial *t, const recipe how[ARMS], measured_arm out[ARMS])
{
    for (t->run = 0; t->run < l->z.runs && !bad(l); t->run++) {
        for (t->arm = 0; t->arm < ARMS && !bad(l); t->arm++) {
            t->how = how[t->arm];
            out[t->arm].got[t->run] = try_arm(l, t);
            out[t->arm].right[t->run] = t->right;
            out[t->arm].steps = t->steps;
        }
    }
}

static void write_arm(lab *l, mde_json_writer *w, int arm, const recipe *how, const measured_arm *m, mde_text *table)
{
    int runs = l->z.runs;
    mde_json_open(w, NULL, '{');
    mde_json_write_string(w, "arm", arm_names[arm]);
    mde_json_write_int(w, "steps", m->steps);
    if (arm >= RAW) {
        mde_json_write_int(w, "made", how->each);
        mde_json_write_number(w, "kept", how->kept, 6);
        mde_json_write_number(w, "share", how->share, 6);
        mde_json_write_number(w, "right", mean_of(runs, m->right), 6);
    }
    mde_json_write_number(w, "mean", mean_of(runs, m->got), 6);
    mde_json_write_number(w, "spread", spread_of(runs, m->got), 6);
    mde_json_write_numbers(w, "accuracy", (size_t)runs, m->got, 6);
    mde_json_close(w);
    mde_text_format(table, "  %-20s%10.2f", arm_names[arm], 100 * mean_of(runs, m->got));
    if (runs > 1) mde_text_format(table, " +-%5.2f", 100 * spread_of(runs, m->got));
    mde_text_format(table, "%10lld steps", (long long)m->steps);
    if (arm >= RAW && !(how->share > 0)) mde_text_add(table, ", no made images: they did not help to choose by");
    else if (arm >= RAW) {
        mde_text_format(table, ", %d made images a real one, %.0f %% of what is made, %.0f %% of a batch", how->each,
                        100 * how->kept, 100 * how->share);
    }
    mde_text_add(table, "\n");
}

static void classify(lab *l, int step, const char *set_name, const char *file)
{
    const dagan_images *set = l->few[step];
    mde_text *t, *table;
    mde_json_writer w;
    int i, arm, smallest, tests;
    program_work work;
    if (left_out(l, step, file)) return;
    work = study_of(l, step, set_name, file);
    mde_text_format(work.key, " %.6g %.6g", l->s.kept, l->s.share);
    if (program_work_is_done(&work, 0)) return;
    t = mde_text_create(l->c);
    table = mde_text_create(l->c);
    w = mde_json_start(t, 3);
    tests = test_samples(l, set, &smallest);
    mde_json_open(&w, NULL, '{');
    mde_json_write_string(&w, "set", set_name);
    mde_json_write_int(&w, "classes", dagan_images_class_count(set));
    mde_json_write_int(&w, "test_samples", tests);
    mde_json_write_int(&w, "steps", l->z.classifier_steps);
    mde_json_write_int(&w, "runs", l->z.runs);
    mde_text_format(table, "\n%s: accuracy in %%, %d classes, %d test images each, %d runs\n", set_name,
                    dagan_images_class_count(set), tests, l->z.runs);
    mde_json_open(&w, "rows", '[');
    for (i = 0; i < l->z.real.count && !bad(l); i++) {
        measured_arm m[ARMS];
        recipe how[ARMS];
        trial one;
        memset(&one, 0, sizeof one);
        one.set = set;
        one.n = l->z.real.values[i];
        if (tests + one.n > smallest) {
            if (!l->p.quiet) fprintf(stderr, "classify: not with %d samples a class, for some have %d\n", one.n,
                                     smallest);
            continue;
        }
        mde_text_format(table, "%d real samples a class\n", one.n);
        mde_json_open(&w, NULL, '{');
        mde_json_write_int(&w, "samples", one.n);
        choose(l, &w, one.n, how);
        mde_json_open(&w, "arms", '[');
        if (!bad(l)) measure_arms(l, &one, how, m);
        for (arm = 0; arm < ARMS && !bad(l); arm++) write_arm(l, &w, arm, &how[arm], &m[arm], table);
        mde_json_close(&w);
        if (!bad(l)) {
            write_difference(&w, "dagan_minus_none", l->z.runs, m[RAW].got, m[NONE].got);
            write_difference(&w, "screened_minus_none", l->z.runs, m[MADE].got, m[NONE].got);
            write_difference(&w, "both_minus_classic", l->z.runs, m[BOTH].got, m[CLASSIC].got);
        }
        mde_json_close(&w);
    }
    mde_json_close(&w);
    mde_json_close(&w);
    mde_json_end(&w);
    show(l, table);
    write_file(l, t, file);
    program_work_finish(&work, NULL);
}

/* ---- match ---- */

/* Of so few episodes that what takes minutes more is left out. */
static int is_trial(const lab *l)
{
    return l->z.episodes < 1000;
}

/* Episodes of nearest neighbours by pixels: one support image a class, and a query of the first of these classes. */
typedef struct nearest {
    int way;
    int64_t episodes;
    int *classes, *support;     /* [episodes, way] */
    int *query, *found;         /* [episodes]; found: whose image is the nearest so far */
    double *distance;           /* [episodes], to it */
} nearest;

/* In the arena. */
static nearest nearest_draw(lab *l, const dagan_images *set, int way)
{
    nearest n;
    int count = dagan_images_class_count(set), i;
    int64_t e, *order;
    n.way = way;
    n.episodes = l->z.test_episodes;
    order = (int64_t *)mde_scratch(l->c, (size_t)count, sizeof *order);
    n.classes = (int *)mde_scratch(l->c, (size_t)n.episodes * (size_t)way, sizeof *n.classes);
    n.support = (int *)mde_scratch(l->c, (size_t)n.episodes * (size_t)way, sizeof *n.support);
    n.query = (int *)mde_scratch(l->c, (size_t)n.episodes, sizeof *n.query);
    n.found = (int *)mde_scratch(l->c, (size_t)n.episodes, sizeof *n.found);
    n.distance = (double *)mde_scratch(l->c, (size_t)n.episodes, sizeof *n.distance);
    for (e = 0; e < n.episodes && !bad(l); e++) {
        mde_random r = mde_random_start(l->p.seed, UINT64_C(0xe915) << 32 | (uint64_t)e);
        int *classes = n.classes + e * way, *support = n.support + e * way;
        mde_random_permutation(&r, count, order);
        for (i = 0; i < way; i++) {
            classes[i] = (int)order[i];
            support[i] = (int)mde_random_below(&r, (uint64_t)dagan_images_sample_count(set, classes[i]));
        }
        n.query[e] = (int)mde_random_below(&r, (uint64_t)(dagan_images_sample_count(set, classes[0]) - 1));
        n.query[e] += n.query[e] >= support[0];
        n.found[e] = -1;
        n.distance[e] = 1e300;
    }
    return n;
}

/* Adds a class's images to the support sets that hold it: of each of its images `each`, which `from` has in its class
   number `index`. */
static void nearest_add(nearest *n, const dagan_images *set, int class_index, const dagan_images *from, int index,
                        int each)
{
    size_t size = screen_image_size(set);
    int64_t at;
    int m;
    for (at = 0; at < n->episodes * n->way; at++) {
        int64_t e = at / n->way;
        const float *x;
        if (n->classes[at] != class_index) continue;
        x = dagan_images_pixels(set, n->classes[e * n->way], n->query[e]);
        for (m = 0; m < each; m++) {
            const float *y = dagan_images_pixels(from, index, n->support[at] * each + m);
            double distance = screen_distance(size, x, y, n->distance[e]);
            if (!(distance < n->distance[e])) continue;
            n->distance[e] = distance;
            n->found[e] = (int)(at % n->way);
        }
    }
}

static int nearest_has(const nearest *n, int class_index)
{
    int64_t at;
    for (at = 0; at < n->episodes * n->way && n->classes[at] != class_index; at++) {}
    return at < n->episodes * n->way;
}

/* Images for each support image, `before` of which are there; one class at a time, as all of them are many. */
static void nearest_make(lab *l, nearest *n, const dagan_images *set, int before, int each)
{
    int k;
    for (k = 0; k < dagan_images_class_count(set) && !bad(l); k++) {
        uint64_t seed = l->p.seed + ((uint64_t)(k + 1) << 32) + (uint64_t)before;
        dagan_images *one, *made;
        if (!nearest_has(n, k)) continue;
        one = dagan_images_pick(set, 1, &k);
        made = one ? dagan_make(l->g, one, each - before, seed) : NULL;
        if (made) nearest_add(n, set, k, made, 0, each - before);
        dagan_images_free(made);
        dagan_images_free(one);
        if (program_interrupted && !bad(l)) mde_fail(l->c, MDE_STOPPED, "stopped");
    }
}

static double nearest_right(const nearest *n)
{
    int64_t e, right = 0;
    for (e = 0; e < n->episodes; e++) right += n->found[e] == 0;
    return (double)right / (double)n->episodes;
}

static void write_nearest(lab *l, mde_json_writer *w, mde_text *table)
{
    enum { COUNTS = 3, SMALL = 1000000 };       /* parameters: a larger generator would take hours for a hundred */
    static const int made[COUNTS] = { 0, 10, 100 };
    static const char *const names[COUNTS] = { "real", "with_made", "with_100_made" };
    dagan_images *few = with_images(l, l->few[MATCH], 2, MAX_CLASSES);
    dagan_images *set = few ? dagan_images_samples(few, 0, MAX_NEIGHBOURS, 0) : NULL;
    int way = minimum(dagan_images_class_count(set), 20), i, k;
    int many = !is_trial(l) && mde_params_elements(dagan_generator_params(l->g)) <= SMALL;
    mde_mark mark = mde_arena_mark(l->c);
    nearest n;
    if (!set) {
        dagan_images_free(few);
        return;
    }
    n = nearest_draw(l, set, way);
    for (k = 0; k < dagan_images_class_count(set) && !bad(l); k++) nearest_add(&n, set, k, set, k, 1);
    mde_text_format(table, "nearest neighbour by pixels, %d-way 1-shot, by made images a support image:", way);
    mde_json_open(w, "pixels", '{');
    mde_json_write_int(w, "way", way);
    for (i = 0; i < (many ? COUNTS : COUNTS - 1) && !bad(l); i++) {
        double right;
        if (i > 0) nearest_make(l, &n, set, made[i - 1], made[i]);
        right = nearest_right(&n);
        mde_json_write_number(w, names[i], right, 6);
        mde_text_format(table, "%s %d: %.2f +- %.2f %%", i > 0 ? "," : "", made[i], 100 * right,
                        100 * sqrt(right * (1 - right) / (double)n.episodes));
    }
    mde_json_close(w);
    mde_text_add(table, "\n");
    mde_arena_rewind(l->c, mark);
    dagan_images_free(set);
    dagan_images_free(few);
}

enum { PLAIN, WITH_MADE, WITH_SELECTOR, MATCHERS };
static const char *const matcher_names[MATCHERS] = { "no made images", "made images", "made images, z selected" };

static void write_matcher(lab *l, mde_json_writer *w, mde_text *table, dagan_matcher *m, int kind)
{
    int i;
    mde_json_open(w, NULL, '{');
    mde_json_write_string(w, "matcher", matcher_names[kind]);
    mde_json_open(w, "accuracy", '[');
    mde_text_format(table, "%-26s", matcher_names[kind]);
    for (i = 0; i < l->way_count * l->shot_count && !bad(l); i++) {
        dagan_episode_desc d;
        double value, error = 0;
        memset(&d, 0, sizeof d);
        d.episodes = l->z.test_episodes;
        d.way = l->ways[i / l->shot_count];
        d.shot = l->shots[i % l->shot_count];
        d.generator = kind == PLAIN ? NULL : l->g;
        d.selector = kind == WITH_SELECTOR;
        d.seed = l->p.seed + 77;
        d.progress = passing_progress;
        d.user = &l->p;
        value = dagan_matcher_accuracy(m, l->few[MATCH], &d, &error);
        mde_json_open(w, NULL, '{');
        mde_json_write_int(w, "way", d.way);
        mde_json_write_int(w, "shot", d.shot);
        mde_json_write_number(w, "mean", value, 6);
        mde_json_write_number(w, "standard_error", error, 6);
        mde_json_close(w);
        mde_text_format(table, "%12.2f +-%5.2f", 100 * value, 100 * error);
        if (!bad(l) && !l->p.quiet) {
            fprintf(stderr, "match: %s, %d-way %d-shot: %.2f %%\n", matcher_names[kind], d.way, d.shot, 100 * value);
        }
    }
    mde_json_close(w);
    mde_json_close(w);
    mde_text_add(table, "\n");
}

/* kept: of what is made, by another matcher than the one that judges; 1: all. */
static void write_quality(lab *l, mde_json_writer *w, mde_text *table, dagan_matcher *m, const char *key, double kept)
{
    dagan_quality q;
    dagan_matcher *other = kept < 1 ? screener(l) : NULL;
    if (bad(l) || dagan_measure(l->g, m, other, kept, 1, l->few[MATCH], l->p.seed, &q) != MDE_OK) return;
    mde_json_open(w, key, '{');
    mde_json_write_number(w, "kept", kept, 6);
    mde_json_write_number(w, "diversity", q.diversity, 6);
    mde_json_write_number(w, "copy", q.copy, 6);
    mde_json_write_number(w, "recognisability", q.recognisability, 6);
    mde_json_write_number(w, "real_recognisability", q.real_recognisability, 6);
    mde_json_write_number(w, "embedded_diversity", q.embedded_diversity, 6);
    mde_json_write_number(w, "embedded_copy", q.embedded_copy, 6);
    mde_json_write_number(w, "z_share", q.z_share, 6);
    if (!(fabs(q.diversity) < HUGE_VAL && fabs(q.embedded_diversity) < HUGE_VAL && q.z_share == q.z_share)) {
        mde_json_write_string(w, "why_null", "the real images of each class are all alike, so that no distance can be "
                              "measured by theirs");
    }
    mde_json_close(w);
    mde_text_format(table, "made images, %.0f %% kept: diversity %.3f, copy ratio %.3f, recognised %.3f (real ones "
                    "%.3f), share of z %.3f\n", 100 * kept, q.diversity, q.copy, q.recognisability,
                    q.real_recognisability, q.z_share);
}

/* The plain matcher with made images in its support sets, whose weight was chosen on validation classes, 0 among
   them. */
static void write_weighted(lab *l, mde_json_writer *w, mde_text *table, dagan_matcher *m)
{
    static const char name[] = "made images, weighted";
    dagan_images *known = with_images(l, l->validation, 2, MAX_CLASSES);
    dagan_images *few = with_images(l, l->few[MATCH], 2, INT_MAX);
    screen_gallery validation, target;
    int i, smallest = INT_MAX;
    if (!known || !few || bad(l)) {
        dagan_images_free(known);
        dagan_images_free(few);
        return;
    }
    for (i = 0; i < dagan_images_class_count(known); i++) {
        smallest = minimum(smallest, dagan_images_sample_count(known, i));
    }
    validation = screen_gallery_open(l->g, m, known, MAX_NEIGHBOURS, l->p.seed + 1);
    target = screen_gallery_open(l->g, m, few, MAX_NEIGHBOURS, l->p.seed + 2);
    mde_json_open(w, NULL, '{');
    mde_json_write_string(w, "matcher", name);
    mde_json_open(w, "accuracy", '[');
    mde_text_format(table, "%-26s", name);
    for (i = 0; i < l->way_count * l->shot_count && !bad(l); i++) {
        double accuracy[SCREEN_WEIGHTS] = { 0 }, gain[SCREEN_WEIGHTS], error[SCREEN_WEIGHTS] = { 0 };
        int way = l->ways[i / l->shot_count], shot = l->shots[i % l->shot_count], best = 0, k;
        int fewer = minimum(way, dagan_images_class_count(known));
        if (shot < smallest) {
            screen_accuracy(&validation, fewer, shot, l->z.test_episodes, l->p.seed + 78, accuracy, gain, error);
        }
        for (k = 1; k < SCREEN_WEIGHTS; k++) if (accuracy[k] > accuracy[best]) best = k;
        screen_accuracy(&target, way, shot, l->z.test_episodes, l->p.seed + 79, accuracy, gain, error);
        mde_json_open(w, NULL, '{');
        mde_json_write_int(w, "way", way);
        mde_json_write_int(w, "shot", shot);
        mde_json_write_number(w, "weight", screen_weights[best], 6);
        mde_json_write_number(w, "mean", accuracy[best], 6);
        mde_json_write_number(w, "without", accuracy[0], 6);
        if (best > 0) {                         /* by weight 0 nothing is added that could gain */
            mde_json_write_number(w, "gain", gain[best], 6);
            mde_json_write_number(w, "gain_standard_error", error[best], 6);
        }
        mde_json_write_numbers(w, "by_weight", SCREEN_WEIGHTS, accuracy, 6);
        mde_json_close(w);
        mde_text_format(table, "%12.2f by %4.2f", 100 * accuracy[best], screen_weights[best]);
        if (!bad(l) && !l->p.quiet && best == 0) {
            fprintf(stderr, "match: %s, %d-way %d-shot: weight 0 was best to choose by, so %.2f %% without\n", name,
                    way, shot, 100 * accuracy[0]);
        } else if (!bad(l) && !l->p.quiet) {
            fprintf(stderr, "match: %s by %.2f, %d-way %d-shot: %.2f %%, without %.2f %%, gain %.2f +- %.2f\n", name,
                    screen_weights[best], way, shot, 100 * accuracy[best], 100 * accuracy[0], 100 * gain[best],
                    100 * error[best]);
        }
    }
    mde_json_close(w);
    mde_json_close(w);
    mde_text_add(table, "\n");
    screen_gallery_close(&validation);
    screen_gallery_close(&target);
    dagan_images_free(known);
    dagan_images_free(few);
}

static void match(lab *l)
{
    mde_text *t, *table;
    mde_json_writer w;
    int kind, i;
    dagan_matcher *judge = NULL;                /* of made images: it has never met one */
    program_work work;
    if (left_out(l, MATCH, "match.json")) return;
    work = study_of(l, MATCH, "", "match.json");
    if (program_work_is_done(&work, 0)) return;
    t = mde_text_create(l->c);
    table = mde_text_create(l->c);
    w = mde_json_start(t, 3);
    mde_text_format(table, "\nMatching Networks on target classes: accuracy in %%, %lld episodes\n%-26s",
                    (long long)l->z.test_episodes, "");
    for (i = 0; i < l->way_count * l->shot_count; i++) {
        mde_text_format(table, "%7d-way %d-shot", l->ways[i / l->shot_count], l->shots[i % l->shot_count]);
    }
    mde_text_add(table, "\n");
    mde_json_open(&w, NULL, '{');
    mde_json_write_int(&w, "episodes", l->z.episodes);
    mde_json_write_int(&w, "test_episodes", l->z.test_episodes);
    mde_json_write_int(&w, "classes", dagan_images_class_count(l->few[MATCH]));
    mde_json_open(&w, "matchers", '[');
    for (kind = 0; kind < MATCHERS && !bad(l); kind++) {
        dagan_matcher_desc d;
        dagan_episode_desc e = source_episodes(l);
        dagan_matcher *m;
        memset(&d, 0, sizeof d);
        d.seed = l->p.seed;
        e.generator = kind == PLAIN ? NULL : l->g;
        e.selector = kind == WITH_SELECTOR;
        m = dagan_matcher_create(l->c, l->few_source, &d);
        if (m) train_matcher(l, "match", m, e);
        if (!bad(l)) write_matcher(l, &w, table, m, kind);
        if (!bad(l) && kind == PLAIN) write_weighted(l, &w, table, m);
        if (kind == PLAIN) judge = m;
        else dagan_matcher_free(m);
    }
    mde_json_close(&w);
    write_quality(l, &w, table, judge, "quality", 1);
    write_quality(l, &w, table, judge, "quality_half_kept", 0.5);
    write_quality(l, &w, table, judge, "quality_quarter_kept", 0.25);
    if (!is_trial(l)) write_quality(l, &w, table, judge, "quality_tenth_kept", 0.1);
    dagan_matcher_free(judge);
    if (!bad(l)) write_nearest(l, &w, table);
    mde_json_close(&w);
    mde_json_end(&w);
    show(l, table);
    write_file(l, t, "match.json");
    program_work_finish(&work, NULL);
}

/* ---- report ---- */

#include "dagan_report.h"

/* ---- Command line ---- */

/* The preset's sizes with the options over them. */
static int resolve(lab *l)
{
    size_t i;
    const char *name = l->s.preset_name ? l->s.preset_name : "wide";
    for (i = 0; i < sizeof presets / sizeof *presets && strcmp(presets[i].name, name) != 0; i++) {}
    if (i == sizeof presets / sizeof *presets) {
        return program_misused(&l->p, name, " is no preset; expected quick, compact, wide or paper");
    }
    if (l->s.range) {
        char *end = NULL;
        l->s.low = strtod(l->s.range, &end);
        l->s.high = end != l->s.range && *end == ',' ? strtod(end + 1, &end) : l->s.low;
        if (*end || !(l->s.low < l->s.high)) {
            return program_misused(&l->p, l->s.range, " is no range; expected two numbers, as in --range 0,4095");
        }
    }
    if (l->s.format && strcmp(l->s.format, "folder") != 0 && strcmp(l->s.format, "npy") != 0 &&
        strcmp(l->s.format, "idx") != 0) {
        return program_misused(&l->p, l->s.format, " is no format; expected folder, npy or idx");
    }
    if (l->s.channels == 2) return program_misused(&l->p, "--channels: ", "expected 1 (grey) or 3 (colour)");
    if (l->s.weights && strcmp(l->p.arguments[0], "train") == 0) {
        return program_misused(&l->p, "--weights: ", "are of a trained generator; train makes one of its own");
    }
    if (!l->s.data && (l->s.labels || l->s.range || l->s.transpose)) {
        return program_misused(&l->p, "", "--labels, --range and --transpose are about files: --data is missing");
    }
    l->z = presets[i];
    if (l->s.steps) l->z.steps = l->s.steps;
    if (l->s.critic_steps) l->z.critic_steps = l->s.critic_steps;
    if (l->s.rate > 0) l->z.rate = l->s.rate;
    if (l->s.mismatch >= 0) l->z.mismatch = l->s.mismatch;
    if (l->s.teach >= 0) l->z.teach = l->s.teach;
    if (l->s.average >= 0) l->z.average = l->s.average;
    if (l->s.anneal >= 0) l->z.anneal = l->s.anneal;
    if (l->s.quarter_turns >= 0) l->z.quarter_turns = l->s.quarter_turns;
    if (l->s.runs) l->z.runs = l->s.runs;
    if (l->s.classifier_steps) l->z.classifier_steps = l->s.classifier_steps;
    if (l->s.episodes) l->z.episodes = l->s.episodes;
    if (l->s.samples.count) l->z.real = l->s.samples;
    if (l->s.made.count) l->z.made = l->s.made;
    return 1;
}

static void run_command(lab *l, const char *command)
{
    int all = strcmp(command, "run") == 0, only_report = strcmp(command, "report") == 0, k;
    if (!only_report) open_sets(l);
    if (l->planned && !bad(l)) check_planned(l);
    if (!only_report && !bad(l)) plan(l, command);
    for (k = 0; k < STEPS && !bad(l); k++) {
        if (strcmp(command, step_names[k]) == 0) insist(l, k);
        else if (all && *l->why[k] && !l->p.quiet) fprintf(stderr, "%s is left out: %s\n", step_names[k], l->why[k]);
    }
    if (all && l->s.target) {
        snprintf(l->why[TRANSFER], sizeof l->why[TRANSFER], "the target classes are those of another set already");
    }
    if (bad(l)) return;
    if (!l->s.weights && (all || strcmp(command, "train") == 0)) {
        train(l, all);
    } else if (!only_report) load(l);
    if (!bad(l) && (all || strcmp(command, "sample") == 0)) sample(l);
    if (!bad(l) && strcmp(command, "make") == 0) make(l);
    if (!bad(l) && (all || strcmp(command, "classify") == 0)) {
        classify(l, CLASSIFY, l->s.target ? l->s.target : "target classes", "classify.json");
    }
    if (!bad(l) && (all || strcmp(command, "match") == 0)) match(l);
    if (!bad(l) && (all || strcmp(command, "transfer") == 0)) classify(l, TRANSFER, l->other_name, "transfer.json");
    if (!bad(l) && (all || only_report)) report(l);
}

/* For --json: what the command wrote; pictures and images have no numbers, but a place. */
static void print_json(lab *l, const char *command)
{
    char name[40];
    mde_text *t = mde_text_create(l->c);
    mde_json_writer w = mde_json_start(t, 1);
    snprintf(name, sizeof name, "%s.json", strcmp(command, "run") == 0 ? "report" : command);
    if (strcmp(command, "sample") != 0 && strcmp(command, "make") != 0) {
        program_print_file(l->c, l->s.out, name);
    } else {
        mde_json_open(&w, NULL, '{');
        mde_json_write_string(&w, "out", l->s.out);
        mde_json_close(&w);
        if (mde_json_end(&w) == MDE_OK) fputs(t->bytes, stdout);
    }
    mde_text_free(t);
}

#include "dagan_seeds.h"

int main(int argc, char **argv)
{
    static const char *const commands[] = { "run",    "train", "sample", "make", "classify", "match", "transfer",
                                            "report", "plan",  "tasks",  "task", "join" };
    enum { FIRST_OF_SEEDS = 8 };
    lab l;
    settings *s = &l.s, defaults;
    size_t i;
    const program_option options[] = {
        { "--data", PROGRAM_FILE, "PATH", &s->data, 0, 0,
          "folder of images (a class each folder), IDX or .npy; without it: drawn characters" },
        { "--labels", PROGRAM_FILE, "PATH", &s->labels, 0, 0, "labels of --data, if not found by name" },
        { "--target", PROGRAM_FILE, "PATH", &s->target, 0, 0,
          "take the target classes from this set; without it: 15 % of the classes of --data" },
        { "--target-labels", PROGRAM_FILE, "PATH", &s->target_labels, 0, 0, "labels of --target" },
        { "--split", PROGRAM_FILE, "FILE", &s->split, 0, 0,
          "JSON, lists of classes or of folders of them: {\"source\": [..], \"validation\": [..], \"target\": [..]}\n"
          "(default: by the seed); of plan also several, commas between: every seed with each" },
        { "--seeds", PROGRAM_INT, "N", &s->seeds, 1, 100000, "of plan: --seed and those after it (default 5)" },
        { "--weights", PROGRAM_INPUT, "FILE", &s->weights, 0, 0,
          "a trained generator, FILE.safetensors, and what screens, FILE.matcher.safetensors: as train wrote them\n"
          "(weights.*); all classes of --data are targets then" },
        { "--cells", PROGRAM_INT, "N", &s->cells, 1, 4096,
          "--data is one PBM picture of square cells of N pixels, a class each row of them" },
        { "--size", PROGRAM_INT, "N", &s->size, 1, 4096, "height and width of the images (default: as they are)" },
        { "--channels", PROGRAM_INT, "N", &s->channels, 1, 3, "1: grey, 3: colour (default: as they are)" },
        { "--range", PROGRAM_FILE, "LOW,HIGH", &s->range, 0, 0,
          "the numbers of an array that are black and white (default: by their type and values)" },
        { "--invert", PROGRAM_FLAG, NULL, &s->invert, 0, 0, "dark ink on white paper becomes light on dark" },
        { "--transpose", PROGRAM_FLAG, NULL, &s->transpose, 0, 0,
          "rows and columns change places, as EMNIST needs it" },
        { "--max-classes", PROGRAM_INT, "N", &s->max_classes, 1, 1e9, "of a set, the first ones (default: all)" },
        { "--max-samples", PROGRAM_INT, "N", &s->max_samples, 1, 1e9, "of a class, the first ones (default: all)" },
        { "--preset", PROGRAM_FILE, "NAME", &s->preset_name, 0, 0,
          "quick, compact, wide (default) or paper: sizes of networks and of the studies; wide is compact with\n"
          "twice the filters in the generator: better images for half as much time again" },
        { "--steps", PROGRAM_INT64, "N", &s->steps, 1, 1e12,
          "of the generator (quick 300, compact and wide 8000, paper 100000)" },
        { "--critic-steps", PROGRAM_INT, "N", &s->critic_steps, 1, 1e6,
          "for each of them (2; paper 5)" },
        { "--rate", PROGRAM_REAL, "X", &s->rate, 0, 1e6, "learning rate (default 5e-4; quick 1e-3, paper 1e-4)" },
        { "--mismatch", PROGRAM_REAL, "X", &s->mismatch, 0, 1e6,
          "share of real images of other classes among what the critic learns to reject\n"
          "(default 0.5; paper 0: then made images drift to other classes in short trainings)" },
        { "--teach", PROGRAM_REAL, "X", &s->teach, 0, 1e6,
          "weight of the term by which a Matching Network of the source classes teaches the generator to keep to "
          "the class; 0: nobody does (default 5; quick and paper 0)" },
        { "--diversity", PROGRAM_REAL, "X", &s->diversity, 0, 1e6,
          "weight of the term that rewards different images for different z (default 0)" },
        { "--average", PROGRAM_REAL, "X", &s->average, 0, 0.999999,
          "decay of the moving average of the generator's weights, which is kept; 0: the last weights\n"
          "(default 0.999; quick 0.99, paper 0)" },
        { "--anneal", PROGRAM_REAL, "X", &s->anneal, 0, 1,
          "share of the steps, at the end, in which the learning rate falls to 0 (default 0.5; quick and paper 0)" },
        { "--quarter-turns", PROGRAM_INT, "N", &s->quarter_turns, 0, 2,
          "pairs rotated by multiples of 90 degrees: 0 none, 1 half, 2 all, so that a class counts as four\n"
          "(default 2; quick and paper 1)" },
        { "--samples", PROGRAM_INTS, "LIST", &s->samples, 1, 1000,
          "real samples a class of the classifiers (default 5,10,15; quick 2)" },
        { "--made", PROGRAM_INTS, "LIST", &s->made, 1, 1000,
          "made images a real one to choose from on validation classes (default 2,10; quick 5)" },
        { "--kept", PROGRAM_REAL, "X", &s->kept, 0.01, 1,
          "share of what is made that screening keeps (default: of 1, 0.5, 0.25 the best on validation classes)" },
        { "--made-share", PROGRAM_REAL, "X", &s->share, 0, 1,
          "of a batch beside classic augmentation (default: of 0, 0.25, 0.5 the best on validation classes)" },
        { "--runs", PROGRAM_INT, "N", &s->runs, 1, MAX_RUNS, "seeds of each classifier (default 3; quick 2)" },
        { "--classifier-steps", PROGRAM_INT64, "N", &s->classifier_steps, 1, 1e12,
          "of every arm; more in proportion beyond a thousand real images (default 6000; quick 100, paper 12000)" },
        { "--episodes", PROGRAM_INT64, "N", &s->episodes, 1, 1e12,
          "training episodes of a Matching Network (default 6000; quick 150, paper 20000)" },
        { "--count", PROGRAM_INT, "N", &s->count, 1, 1e6, "images that make makes of each target class (default 10)" },
        { "--format", PROGRAM_FILE, "NAME", &s->format, 0, 0,
          "of make: folder (PNG, a folder each class; default), npy or idx (arrays of all images)" },
        { "--out", PROGRAM_FILE, "DIR", &s->out, 0, 0, "(default out/dagan)" }
    };
    memset(&l, 0, sizeof l);
    program_start(&l.p, "dagan_lab", usage, options, (int)(sizeof options / sizeof *options));
    l.p.seed = 1;
    l.p.max_arguments = argc;
    l.p.when_stopped = "stopped; the same command goes on from here";
    l.p.json_help = "what the step found (the JSON file that it wrote)";
    s->out = "out/dagan";
    s->mismatch = s->teach = s->average = s->anneal = -1;
    s->quarter_turns = -1;
    s->share = -1;
    s->count = 10;
    defaults = *s;
    if (!program_parse(&l.p, argc, argv)) return l.p.code;
    for (i = 0; l.p.count && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(l.p.arguments[0], commands[i]) == 0) break;
    }
    if (!l.p.count || i == sizeof commands / sizeof *commands) {
        program_misused(&l.p, "", "expected a command, as in `dagan_lab run --preset quick`");
        return l.p.code;
    }
    if (l.p.count > 1 && strcmp(commands[i], "task") != 0) {
        program_misused(&l.p, l.p.arguments[1], " is one argument too many");
    } else if (s->seeds && strcmp(commands[i], "plan") != 0) {
        program_misused(&l.p, "--seeds: ", "is an option of plan");
    }
    if (l.p.code || !resolve(&l)) return l.p.code;
    l.c = program_context(&l.p);
    program_try_folder(l.c, s->out);
    if (i >= FIRST_OF_SEEDS) {
        run_seeds(&l, commands[i], &defaults);
        return program_end(&l.p, l.c);
    }
    run_command(&l, commands[i]);
    if (l.p.json) print_json(&l, commands[i]);
    return program_end(&l.p, l.c);
}
