/* What limits how well made images are recognised: the images themselves, or how they are drawn and chosen? From the
   repository's folder:
     make build/made_quality
     build/made_quality IMAGES SPLIT GENERATOR JUDGE SCREENER > bench/study/dagan_scale.csv
     build/made_quality IMAGES SPLIT GENERATOR JUDGE SCREENER PART
   On the target classes of a split file (as of dagan_lab --split): recognisability and diversity when z is multiplied
   by a number below 1, and when only the share that a screener likes best is kept. With z 0 there is one image for each
   real one. With a PART of the split file (source, validation, target): on its classes, images as they come alone. Of a
   part's classes at most 250 are taken. Generator, judge and screener are weights.safetensors and two
   weights.matcher.safetensors of dagan_lab train; the judge should be another network than the screener. */
#define MDEMIX_IMPLEMENTATION
#define DAGAN_IMPLEMENTATION
#include "../dagan.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wunused-function"      /* a part of what these files are for */
#endif
#include "../examples/dagan_quality.h"

#define MAX_CLASSES 250

/* The classes that the split file names as a part, MAX_CLASSES of them at most, evenly from all; NULL and an error
   where one is not in the set. */
static dagan_images *part_of(mde_context *c, const dagan_images *all, const char *path, const char *part)
{
    mde_json *split = mde_json_read(c, path);
    const mde_json *listed = mde_json_get(split, part), *name;
    int *list = listed ? (int *)mde_alloc(c, listed->length, sizeof *list) : NULL, count = 0, k;
    dagan_images *picked = NULL;
    if (!listed || listed->kind != MDE_JSON_ARRAY || listed->length < 2) {
        mde_fail(c, MDE_BAD_FILE, "%s: expected \"%.100s\", a list of two classes or more", path, part);
    }
    for (name = list ? listed->child : NULL; name && mde_context_status(c) == MDE_OK; name = name->next) {
        const char *wanted = name->kind == MDE_JSON_STRING ? name->string : "";
        for (k = 0; k < dagan_images_class_count(all) && strcmp(dagan_images_name(all, k), wanted) != 0; k++) {}
        if (k < dagan_images_class_count(all)) list[count++] = k;
        else mde_fail(c, MDE_BAD_FILE, "%s: %s: the images have no class \"%.100s\"", path, part, wanted);
    }
    if (mde_context_status(c) == MDE_OK) {
        for (k = 0; count > MAX_CLASSES && k < MAX_CLASSES; k++) list[k] = list[(int64_t)k * count / MAX_CLASSES];
        count = count < MAX_CLASSES ? count : MAX_CLASSES;
        picked = dagan_images_pick(all, count, list);
    }
    mde_release(c, list);
    mde_json_free(c, split);
    return picked;
}

static dagan_matcher *matcher_of(mde_context *c, const dagan_images *like, const char *path)
{
    dagan_matcher_desc desc;
    dagan_matcher *m;
    memset(&desc, 0, sizeof desc);
    m = dagan_matcher_create(c, like, &desc);
    if (m) mde_params_read(dagan_matcher_params(m), path);
    return m;
}

static void measure(dagan *g, dagan_matcher *judge, dagan_matcher *screener, const dagan_images *set, double scale,
                    double kept)
{
    dagan_quality q;
    if (dagan_measure(g, judge, kept < 1 ? screener : NULL, kept, scale, set, 1, &q) != MDE_OK) return;
    printf("%g,%g,%.6g,%.6g,%.6g\n", scale, kept, q.recognisability, q.real_recognisability, q.diversity);
    fflush(stdout);
}

static void measure_all(dagan *g, dagan_matcher *judge, dagan_matcher *screener, const dagan_images *set)
{
    static const double scales[4] = { 1, 0.8, 0.5, 0 }, kept[3] = { 1, 0.25, 0.1 };
    int i, k;
    for (i = 0; i < 4; i++) {
        for (k = 0; k < (scales[i] > 0 ? 3 : 1); k++) measure(g, judge, screener, set, scales[i], kept[k]);
    }
}

int main(int argc, char **argv)
{
    mde_context *c = mde_context_create(NULL);
    dagan_images_desc desc;
    dagan_images *all = NULL, *set = NULL;
    dagan *g = NULL;
    dagan_matcher *judge = NULL, *screener = NULL;
    int failed;
    memset(&desc, 0, sizeof desc);
    if (argc == 6 || argc == 7) {
        desc.path = argv[1];
        all = dagan_images_open(c, &desc);
        set = all ? part_of(c, all, argv[2], argc == 7 ? argv[6] : "target") : NULL;
        g = set ? dagan_open(c, argv[3]) : NULL;
        judge = g ? matcher_of(c, set, argv[4]) : NULL;
        screener = judge ? matcher_of(c, set, argv[5]) : NULL;
        if (screener && mde_context_status(c) == MDE_OK) {
            printf("z_scale,kept,recognised,real_recognised,diversity\n");
            if (argc == 7) measure(g, judge, screener, set, 1, 1);
            else measure_all(g, judge, screener, set);
        }
        if (mde_context_status(c) != MDE_OK) fprintf(stderr, "made_quality: %s\n", mde_error(c));
    } else {
        fprintf(stderr, "made_quality IMAGES SPLIT GENERATOR JUDGE SCREENER [PART]\n");
    }
    failed = (argc != 6 && argc != 7) || mde_context_status(c) != MDE_OK;
    dagan_matcher_free(screener);
    dagan_matcher_free(judge);
    dagan_free(g);
    dagan_images_free(set);
    dagan_images_free(all);
    mde_context_free(c);
    return failed;
}
