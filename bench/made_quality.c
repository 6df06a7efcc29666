/* What limits how well made images are recognised: the images themselves, or how they are drawn and chosen? From the
   repository's folder:
     make build/made_quality
     build/made_quality IMAGES SPLIT GENERATOR JUDGE SCREENER > bench/study/dagan_scale.csv
   On the target classes of a split file (as of dagan_lab --split): recognisability and diversity when z is multiplied
   by a number below 1, and when only the share that a screener likes best is kept. With z 0 there is one image for each
   real one. Generator, judge and screener are weights.safetensors and two weights.matcher.safetensors of dagan_lab
   train; the judge should be another network than the screener. */
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

/* The classes that the split file names as targets; NULL and an error where one of them is not in the set. */
static dagan_images *targets_of(mde_context *c, const dagan_images *all, const char *path)
{
    mde_json *split = mde_json_read(c, path);
    const mde_json *target = mde_json_get(split, "target"), *name;
    int *list = target ? (int *)mde_alloc(c, target->length, sizeof *list) : NULL, count = 0, k;
    dagan_images *picked = NULL;
    if (!target || target->kind != MDE_JSON_ARRAY || target->length < 2) {
        mde_fail(c, MDE_BAD_FILE, "%s: expected \"target\", a list of two classes or more", path);
    }
    for (name = list ? target->child : NULL; name && mde_context_status(c) == MDE_OK; name = name->next) {
        const char *wanted = name->kind == MDE_JSON_STRING ? name->string : "";
        for (k = 0; k < dagan_images_class_count(all) && strcmp(dagan_images_name(all, k), wanted) != 0; k++) {}
        if (k < dagan_images_class_count(all)) list[count++] = k;
        else mde_fail(c, MDE_BAD_FILE, "%s: target: the images have no class \"%.100s\"", path, wanted);
    }
    if (mde_context_status(c) == MDE_OK) picked = dagan_images_pick(all, count, list);
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

static void measure_all(dagan *g, dagan_matcher *judge, dagan_matcher *screener, const dagan_images *set)
{
    static const double scales[4] = { 1, 0.8, 0.5, 0 }, kept[3] = { 1, 0.25, 0.1 };
    int i, k;
    printf("z_scale,kept,recognised,real_recognised,diversity\n");
    for (i = 0; i < 4; i++) {
        for (k = 0; k < (scales[i] > 0 ? 3 : 1); k++) {
            dagan_matcher *other = kept[k] < 1 ? screener : NULL;
            dagan_quality q;
            if (dagan_measure(g, judge, other, kept[k], scales[i], set, 1, &q) != MDE_OK) return;
            printf("%g,%g,%.6g,%.6g,%.6g\n", scales[i], kept[k], q.recognisability, q.real_recognisability,
                   q.diversity);
            fflush(stdout);
        }
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
    if (argc == 6) {
        desc.path = argv[1];
        all = dagan_images_open(c, &desc);
        set = all ? targets_of(c, all, argv[2]) : NULL;
        g = set ? dagan_open(c, argv[3]) : NULL;
        judge = g ? matcher_of(c, set, argv[4]) : NULL;
        screener = judge ? matcher_of(c, set, argv[5]) : NULL;
        if (screener && mde_context_status(c) == MDE_OK) measure_all(g, judge, screener, set);
        if (mde_context_status(c) != MDE_OK) fprintf(stderr, "made_quality: %s\n", mde_error(c));
    } else {
        fprintf(stderr, "made_quality IMAGES SPLIT GENERATOR JUDGE SCREENER\n");
    }
    failed = argc != 6 || mde_context_status(c) != MDE_OK;
    dagan_matcher_free(screener);
    dagan_matcher_free(judge);
    dagan_free(g);
    dagan_images_free(set);
    dagan_images_free(all);
    mde_context_free(c);
    return failed;
}
