/* Image sets: readers, subsets, drawn characters, augmentation, pictures. */
#include "../dagan.h"
#include "test.h"
#include <limits.h>

#define BYTES(text) (text), sizeof(text) - 1
#define FOLDER "build/test_dagan_images.tmp"
#define DRAWN_HASH UINT64_C(0x358b3afebca87477)    /* of the default drawn set */

/* ---- Helpers ---- */

static mde_context *start(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_make_folder(c, FOLDER);
    CHECK(mde_context_status(c) == MDE_OK);
    return c;
}

/* The call failed, and the message names what was wrong. */
static void refused(mde_context *c, const dagan_images *set, const char *part)
{
    CHECK(set == NULL);
    CHECK(mde_context_status(c) != MDE_OK);
    CHECK_TEXT(mde_error(c), part);
    mde_clear_error(c);
}

static dagan_images *open_file(mde_context *c, const char *path, const char *labels)
{
    dagan_images_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.path = path;
    desc.labels = labels;
    return dagan_images_open(c, &desc);
}

static void write_bytes(mde_context *c, const char *path, const void *bytes, size_t size)
{
    CHECK(mde_file_write(c, path, bytes, size) == MDE_OK);
}

static void write_text(mde_context *c, const char *path, const char *text)
{
    write_bytes(c, path, text, strlen(text));
}

/* An IDX file of numbers of 1, 2 or 4 bytes. */
static size_t idx_bytes(unsigned char *out, int type, int rank, const int *shape, const int *values)
{
    int bytes = type == 0x08 ? 1 : type == 0x0B ? 2 : 4, total = 1, k, i;
    unsigned char *p = out;
    *p++ = 0;
    *p++ = 0;
    *p++ = (unsigned char)type;
    *p++ = (unsigned char)rank;
    for (k = 0; k < rank; k++) {
        for (i = 3; i >= 0; i--) *p++ = (unsigned char)((unsigned)shape[k] >> 8 * i & 255u);
        total *= shape[k];
    }
    for (k = 0; k < total; k++) {
        for (i = bytes - 1; i >= 0; i--) *p++ = (unsigned char)((unsigned)values[k] >> 8 * i & 255u);
    }
    return (size_t)(p - out);
}

static void write_idx(mde_context *c, const char *path, int type, int rank, const int *shape, const int *values)
{
    unsigned char bytes[4096];
    write_bytes(c, path, bytes, idx_bytes(bytes, type, rank, shape, values));
}

static int shape_is(const dagan_images *set, int classes, int count, int height, int width, int channels)
{
    int h, w, k;
    dagan_images_shape(set, &h, &w, &k);
    return dagan_images_class_count(set) == classes && dagan_images_count(set) == count && h == height && w == width &&
           k == channels;
}

/* A set of `classes` classes, class k with first + k samples of 1 x 2 pixels that tell class and sample. */
static dagan_images *small_set(mde_context *c, int classes, int first)
{
    float pixels[400];
    int label[200], n = 0, k, j;
    for (k = 0; k < classes; k++) {
        for (j = 0; j < first + k; j++, n++) {
            label[n] = 10 * k;
            pixels[2 * n] = (float)k / 100;
            pixels[2 * n + 1] = (float)j / 100;
        }
    }
    return dagan_images_from(c, n, 1, 2, 1, pixels, label);
}

/* ---- From memory, subsets ---- */

static void classes_are_the_distinct_labels_in_ascending_order(void)
{
    mde_context *c = start();
    const float pixels[] = { 0.1f, 0.2f, 0.3f, 0.4f, 0.5f, -1, 1 };
    const int label[] = { 70, 3, 70, 0, 3, 3, 2000000000 };
    const int order[] = { 3, 1, 4, 5, 0, 2, 6 }, samples[] = { 1, 3, 2, 1 };
    dagan_images *set = dagan_images_from(c, 7, 1, 1, 1, pixels, label);
    int k, j, n = 0;
    CHECK(shape_is(set, 4, 7, 1, 1, 1));
    for (k = 0; k < 4; k++) {
        CHECK(dagan_images_sample_count(set, k) == samples[k]);
        for (j = 0; j < samples[k]; j++) CHECK(dagan_images_pixels(set, k, j)[0] == pixels[order[n++]]);
    }
    CHECK(strcmp(dagan_images_name(set, 2), "class 2") == 0);
    CHECK(dagan_images_pixels(set, 0, 0) != pixels + 3);
    dagan_images_free(set);
    dagan_images_free(NULL);
    mde_context_free(c);
}

static void questions_outside_a_set_are_answered_with_nothing(void)
{
    mde_context *c = start();
    dagan_images *set = small_set(c, 2, 1);
    int h = 5, w = 5, k = 5;
    CHECK(!dagan_images_pixels(set, -1, 0) && !dagan_images_pixels(set, 2, 0) && !dagan_images_pixels(set, 0, 1));
    CHECK(!dagan_images_pixels(set, 1, -1) && !dagan_images_pixels(NULL, 0, 0));
    CHECK(dagan_images_sample_count(set, 2) == 0 && dagan_images_sample_count(NULL, 0) == 0);
    CHECK(strcmp(dagan_images_name(set, -1), "") == 0 && strcmp(dagan_images_name(NULL, 0), "") == 0);
    CHECK(dagan_images_class_count(NULL) == 0 && dagan_images_count(NULL) == 0 && dagan_images_hash(NULL) == 0);
    dagan_images_shape(NULL, &h, &w, &k);
    CHECK(h == 0 && w == 0 && k == 0);
    dagan_images_shape(set, NULL, NULL, NULL);
    CHECK(!dagan_images_classes(NULL, 0, 1) && !dagan_images_samples(NULL, 0, 1, 0) && !dagan_images_shuffle(NULL, 0));
    CHECK(!dagan_images_pick(NULL, 1, &h) && !dagan_images_draw(NULL, 1, 1, 1, 0) && !dagan_images_open(NULL, NULL));
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

static void images_from_memory_are_checked(void)
{
    mde_context *c = start();
    float pixels[] = { 0, 1, -1, 0 };
    int label[] = { 0, 1, 2, 3 };
    refused(c, dagan_images_from(c, 0, 1, 1, 1, pixels, label), "0 images");
    refused(c, dagan_images_from(c, 4, 1, 1, 1, NULL, label), "no pixels");
    refused(c, dagan_images_from(c, 4, 1, 1, 1, pixels, NULL), "no labels");
    refused(c, dagan_images_from(c, 1, 2, 1, 2, pixels, label), "2 channels");
    refused(c, dagan_images_from(c, 1, 0, 1, 1, pixels, label), "0 x 1");
    refused(c, dagan_images_from(c, 1, 1, 5000, 1, pixels, label), "1 x 5000");
    label[2] = -3;
    refused(c, dagan_images_from(c, 4, 1, 1, 1, pixels, label), "label -3 of image 2");
    label[2] = 2;
    pixels[3] = 1.5f;
    refused(c, dagan_images_from(c, 2, 1, 2, 1, pixels, label), "pixel 1 of image 1 is 1.5");
    pixels[3] = (float)NAN;
    CHECK(!dagan_images_from(c, 2, 1, 2, 1, pixels, label) && mde_context_status(c) == MDE_NOT_FINITE);
    CHECK(!dagan_images_from(c, 1, 1, 2, 1, pixels, label));        /* the first error sticks */
    mde_context_free(c);
}

static void shares_of_classes_cut_the_list_without_gap_or_overlap(void)
{
    mde_context *c = start();
    dagan_images *set = small_set(c, 7, 1), *a, *b, *d;
    int classes[] = { 6, 0, 6 }, k;
    a = dagan_images_classes(set, 0, 0.5);
    b = dagan_images_classes(set, 0.5, 1);
    CHECK(dagan_images_class_count(a) == 4 && dagan_images_class_count(b) == 3);
    for (k = 0; k < 7; k++) {
        const dagan_images *part = k < 4 ? a : b;
        CHECK(dagan_images_pixels(part, k < 4 ? k : k - 4, 0) == dagan_images_pixels(set, k, 0));
        CHECK(dagan_images_name(part, k < 4 ? k : k - 4) == dagan_images_name(set, k));
    }
    d = dagan_images_pick(set, 3, classes);
    CHECK(shape_is(d, 3, 7 + 1 + 7, 1, 2, 1));
    CHECK(dagan_images_pixels(d, 2, 6) == dagan_images_pixels(set, 6, 6));
    CHECK(dagan_images_pixels(d, 1, 0) == dagan_images_pixels(set, 0, 0));
    refused(c, dagan_images_classes(set, 0.5, 0.5), "0.5 to 0.5");
    refused(c, dagan_images_classes(set, 0.5, 1.1), "to 1.1");
    refused(c, dagan_images_classes(set, -0.1, 1), "from -0.1");
    refused(c, dagan_images_classes(set, 0, NAN), "nan");
    refused(c, dagan_images_classes(set, 0.45, 0.49), "hold none");
    refused(c, dagan_images_pick(set, 0, classes), "0 of them");
    refused(c, dagan_images_pick(set, 1, NULL), "expected at least one");
    classes[1] = 7;
    refused(c, dagan_images_pick(set, 3, classes), "number 7; expected 0 to 6");
    classes[1] = -1;
    refused(c, dagan_images_pick(set, 3, classes), "number -1");
    mde_context_free(c);
}

static void shuffling_is_a_permutation_that_depends_on_the_seed(void)
{
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, 50, 1, 8, 0), *a = dagan_images_shuffle(set, 1);
    dagan_images *b = dagan_images_shuffle(set, 2), *again = dagan_images_shuffle(set, 1);
    int seen[50] = { 0 }, k, j, moved = 0, differ = 0;
    for (k = 0; k < 50; k++) {
        for (j = 0; j < 50; j++) {
            if (dagan_images_pixels(a, k, 0) != dagan_images_pixels(set, j, 0)) continue;
            seen[j]++;
            moved += j != k;
        }
        CHECK(dagan_images_pixels(a, k, 0) == dagan_images_pixels(again, k, 0));
        differ += dagan_images_pixels(a, k, 0) != dagan_images_pixels(b, k, 0);
    }
    for (k = 0; k < 50; k++) CHECK(seen[k] == 1);
    CHECK(moved > 40 && differ > 40);
    mde_context_free(c);
}

static void samples_of_one_seed_are_disjoint_parts_and_stable(void)
{
    mde_context *c = start();
    dagan_images *set = small_set(c, 5, 8), *shuffled = dagan_images_shuffle(set, 3), *a, *b, *d, *other;
    int k, j, i, in_order = 0, same = 0;
    a = dagan_images_samples(set, 0, 5, 9);
    b = dagan_images_samples(set, 5, 0, 9);
    other = dagan_images_samples(set, 0, 5, 10);
    d = dagan_images_samples(shuffled, 0, 5, 9);
    CHECK(dagan_images_count(a) + dagan_images_count(b) == dagan_images_count(set));
    for (k = 0; k < 5; k++) {
        CHECK(dagan_images_sample_count(a, k) == 5 && dagan_images_sample_count(b, k) == 3 + k);
        for (j = 0; j < 8 + k; j++) {
            const float *wanted = dagan_images_pixels(set, k, j);
            int found = 0;
            for (i = 0; i < 5; i++) found += dagan_images_pixels(a, k, i) == wanted;
            for (i = 0; i < 3 + k; i++) found += dagan_images_pixels(b, k, i) == wanted;
            CHECK(found == 1);
        }
        for (j = 0; j < 5; j++) {
            in_order += dagan_images_pixels(a, k, j) == dagan_images_pixels(set, k, j);
            same += dagan_images_pixels(a, k, j) == dagan_images_pixels(other, k, j);
        }
        for (i = 0; i < 5; i++) {       /* the same class elsewhere in a list draws the same samples */
            if (dagan_images_name(shuffled, i) != dagan_images_name(set, k)) continue;
            for (j = 0; j < 5; j++) CHECK(dagan_images_pixels(d, i, j) == dagan_images_pixels(a, k, j));
        }
    }
    CHECK(in_order < 15 && same < 15);
    b = dagan_images_samples(set, 2, 3, 0);
    for (j = 0; j < 3; j++) CHECK(dagan_images_pixels(b, 4, j) == dagan_images_pixels(set, 4, 2 + j));
    b = dagan_images_samples(set, 7, 3, 0);
    CHECK(dagan_images_sample_count(b, 0) == 1 && dagan_images_sample_count(b, 4) == 3);
    refused(c, dagan_images_samples(set, 8, 1, 0), "class 0 has 8; none is left after the first 8");
    refused(c, dagan_images_samples(set, -1, 1, 0), "first -1");
    refused(c, dagan_images_samples(set, 0, -1, 0), "-1 after");
    mde_context_free(c);
}

static void the_hash_sees_pixels_and_shape_but_not_where_they_lie(void)
{
    mde_context *c = start();
    float pixels[12] = { 0 };
    int label[] = { 0, 0, 0, 1, 1, 1 };
    dagan_images *a = dagan_images_from(c, 6, 1, 2, 1, pixels, label);
    dagan_images *b = dagan_images_from(c, 6, 2, 1, 1, pixels, label);
    uint64_t hash = dagan_images_hash(a);
    CHECK(hash != dagan_images_hash(b));
    CHECK(hash == dagan_images_hash(dagan_images_classes(a, 0, 1)));
    label[2] = 1;
    CHECK(hash != dagan_images_hash(dagan_images_from(c, 6, 1, 2, 1, pixels, label)));
    label[2] = 0;
    CHECK(hash == dagan_images_hash(dagan_images_from(c, 6, 1, 2, 1, pixels, label)));
    pixels[11] = 1e-30f;
    CHECK(hash != dagan_images_hash(dagan_images_from(c, 6, 1, 2, 1, pixels, label)));
    mde_context_free(c);
}

/* ---- Drawn characters ---- */

static void drawn_classes_depend_on_seed_and_number_alone(void)
{
    mde_context *c = start(), *two;
    mde_context_desc desc;
    dagan_images *all = dagan_images_draw(c, 30, 6, 28, 7), *few = dagan_images_draw(c, 5, 3, 28, 7), *other;
    const size_t bytes = 28 * 28 * sizeof(float);
    int k, j;
    for (k = 0; k < 5; k++) {
        for (j = 0; j < 3; j++) {
            CHECK(memcmp(dagan_images_pixels(all, k, j), dagan_images_pixels(few, k, j), bytes) == 0);
            CHECK(memcmp(dagan_images_pixels(all, k, j), dagan_images_pixels(all, k, j + 1), bytes) != 0);
            CHECK(memcmp(dagan_images_pixels(all, k, j), dagan_images_pixels(all, k + 1, j), bytes) != 0);
        }
    }
    memset(&desc, 0, sizeof desc);
    desc.threads = 3;
    two = mde_context_create(&desc);
    other = dagan_images_draw(two, 30, 6, 28, 7);
    CHECK(dagan_images_hash(other) == dagan_images_hash(all));
    CHECK(dagan_images_hash(dagan_images_draw(c, 30, 6, 28, 8)) != dagan_images_hash(all));
    mde_context_free(two);
    mde_context_free(c);
}

static void drawn_images_are_the_same_bits_everywhere(void)
{
    mde_context *c = start();
    uint64_t hash = dagan_images_hash(dagan_images_open(c, NULL));
    CHECK(hash == DRAWN_HASH);
    if (hash != DRAWN_HASH) printf("    hash is 0x%016llx\n", (unsigned long long)hash);
    mde_context_free(c);
}

/* Share of images whose nearest neighbour, of one image of each of 20 classes, is of their class. */
static double nearest_neighbour_accuracy(const dagan_images *set, int episodes)
{
    mde_random r = mde_random_start(1, 1);
    int64_t order[200];
    int good = 0, h, w, n, classes = dagan_images_class_count(set), e, q, k, i;
    dagan_images_shape(set, &h, &w, &n);
    n *= h * w;
    for (e = 0; e < episodes; e++) {
        mde_random_permutation(&r, classes, order);
        for (q = 0; q < 20; q++) {
            const float *query = dagan_images_pixels(set, (int)order[q], 1 + (int)mde_random_below(&r, 10));
            double best = 1e30;
            int nearest = -1;
            for (k = 0; k < 20; k++) {
                const float *support = dagan_images_pixels(set, (int)order[k], 0);
                double d = 0;
                for (i = 0; i < n; i++) d += (double)((query[i] - support[i]) * (query[i] - support[i]));
                if (d < best) {
                    best = d;
                    nearest = k;
                }
            }
            good += nearest == q;
        }
    }
    return good / (20.0 * episodes);
}

static void drawn_characters_are_as_hard_to_tell_apart_as_written_ones(void)
{
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, 200, 20, 28, 0);
    double accuracy = nearest_neighbour_accuracy(set, 100), ink = 0;
    int k, j, i, off = 0, edge = 0, faint = 0;
    for (k = 0; k < 200; k++) {
        for (j = 0; j < 20; j++) {
            const float *p = dagan_images_pixels(set, k, j);
            double sum = 0, maximum = -1;
            for (i = 0; i < 784; i++) {
                if (!(p[i] >= -1 && p[i] <= 1)) off++;
                if ((i < 28 || i >= 756 || i % 28 == 0 || i % 28 == 27) && p[i] > 0) edge++;
                sum += 0.5 * ((double)p[i] + 1);
                if ((double)p[i] > maximum) maximum = (double)p[i];
            }
            if (sum < 10 || maximum < 0.5) faint++;
            ink += sum / (4000.0 * 784);
        }
    }
    CHECK(off == 0 && faint == 0 && edge < 1000);       /* of 432000 pixels at an edge */
    CHECK(accuracy > 0.35 && accuracy < 0.60);          /* measured 0.42; chance is 0.05; Omniglot has 0.24 */
    CHECK(ink > 0.07 && ink < 0.15);
    mde_context_free(c);
}

static void the_drawn_set_has_sizes_channels_and_errors(void)
{
    mde_context *c = start(), *small;
    mde_context_desc limit;
    dagan_images_desc desc;
    dagan_images *plain, *colour;
    const float *a, *b;
    int i;
    memset(&limit, 0, sizeof limit);
    limit.max_bytes = (size_t)1 << 24;
    small = mde_context_create(&limit);
    memset(&desc, 0, sizeof desc);
    desc.classes = 3;
    desc.samples = 2;
    desc.size = 50;
    desc.seed = 4;
    plain = dagan_images_open(c, &desc);
    CHECK(shape_is(plain, 3, 6, 50, 50, 1));
    CHECK(dagan_images_hash(plain) == dagan_images_hash(dagan_images_draw(c, 3, 2, 50, 4)));
    desc.channels = 3;
    desc.invert = 1;
    colour = dagan_images_open(c, &desc);
    CHECK(shape_is(colour, 3, 6, 50, 50, 3));
    a = dagan_images_pixels(plain, 2, 1);
    b = dagan_images_pixels(colour, 2, 1);
    for (i = 0; i < 7500; i++) CHECK(b[i] == -a[i / 3]);
    CHECK(shape_is(dagan_images_draw(c, 2, 2, 1, 0), 2, 4, 1, 1, 1));
    refused(c, dagan_images_draw(c, 0, 1, 28, 0), "0 classes");
    refused(c, dagan_images_draw(c, 1, -1, 28, 0), "-1 samples");
    refused(c, dagan_images_draw(c, 1, 1, 0, 0), "0 x 0");
    refused(c, dagan_images_draw(c, 1, 1, 4097, 0), "4097");
    refused(small, dagan_images_draw(small, INT_MAX, INT_MAX, 4096, 0), "memory");
    refused(small, dagan_images_draw(small, 2, 2, 4096, 0), "memory");
    mde_context_free(small);
    desc.size = -1;
    refused(c, dagan_images_open(c, &desc), "size -1");
    desc.size = 4097;
    refused(c, dagan_images_open(c, &desc), "size 4097");
    desc.size = 0;
    desc.channels = 2;
    refused(c, dagan_images_open(c, &desc), "channels is 2");
    desc.channels = 0;
    desc.classes = -1;
    refused(c, dagan_images_open(c, &desc), "classes -1");
    mde_context_free(c);
}

/* ---- IDX and .npy ---- */

static const int idx_values[12] = { 0, 255, 51, 102, 153, 204, 255, 255, 0, 0, 17, 34 };

static void idx_images_and_labels_of_every_type_are_read(void)
{
    mde_context *c = start();
    const int shape[] = { 3, 2, 2 }, colour[] = { 1, 2, 2, 3 };
    const int label[] = { 700, 3, 700 }, byte_label[] = { 200, 3, 200 };
    const int types[] = { 0x08, 0x0B, 0x0C };
    const char *images = FOLDER "/a-images-idx3-ubyte";
    const char *labels[] = { FOLDER "/one-labels", FOLDER "/two-labels", FOLDER "/four-labels" };
    int wide[12], k, i;
    dagan_images *set;
    const float *p;
    write_idx(c, images, 0x08, 3, shape, idx_values);
    for (k = 0; k < 3; k++) {
        write_idx(c, labels[k], types[k], 1, shape, k == 0 ? byte_label : label);
        set = open_file(c, images, labels[k]);
        CHECK(shape_is(set, 2, 3, 2, 2, 1));
        CHECK(dagan_images_sample_count(set, 0) == 1 && dagan_images_sample_count(set, 1) == 2);
        p = dagan_images_pixels(set, 0, 0);
        for (i = 0; set && i < 4; i++) CHECK(p[i] == (float)(2.0 * idx_values[4 + i] / 255.0 - 1));
        p = dagan_images_pixels(set, 1, 1);
        for (i = 0; set && i < 4; i++) CHECK(p[i] == (float)(2.0 * idx_values[8 + i] / 255.0 - 1));
        CHECK(dagan_images_pixels(set, 1, 0)[0] == -1 && dagan_images_pixels(set, 1, 0)[1] == 1);
    }
    for (i = 0; i < 12; i++) wide[i] = idx_values[i] * 100;
    wide[1] = 32767;
    write_idx(c, images, 0x0B, 3, shape, wide);
    set = open_file(c, images, labels[1]);
    CHECK(dagan_images_pixels(set, 1, 0)[1] == 1 && dagan_images_pixels(set, 1, 0)[0] == -1);
    CLOSE(dagan_images_pixels(set, 1, 0)[2], 2.0 * 5100 / 32767 - 1, 1e-6);
    for (i = 0; i < 12; i++) wide[i] = 256;
    write_idx(c, images, 0x0B, 3, shape, wide);
    CHECK(dagan_images_pixels(open_file(c, images, labels[1]), 1, 0)[1] == 1);      /* the largest is white */
    write_idx(c, images, 0x0B, 3, shape, idx_values);           /* 16 bits that hold bytes */
    CHECK(dagan_images_pixels(open_file(c, images, labels[1]), 1, 0)[1] == 1);
    write_idx(c, images, 0x08, 4, colour, idx_values);
    write_idx(c, labels[0], 0x08, 1, colour, byte_label);
    set = open_file(c, images, labels[0]);
    CHECK(shape_is(set, 1, 1, 2, 2, 3));
    CHECK(dagan_images_pixels(set, 0, 0)[7] == 1);
    mde_context_free(c);
}

static void labels_are_found_beside_the_images(void)
{
    mde_context *c = start();
    const int shape[] = { 3, 2, 2 }, label[] = { 1, 3, 1 };
    const int64_t count = 3;
    const float floats[] = { 1, 3, 1 };
    CHECK(mde_make_folder(c, FOLDER "/images-beside") == MDE_OK);
    write_idx(c, FOLDER "/images-beside/b-images-idx3-ubyte", 0x08, 3, shape, idx_values);
    write_text(c, FOLDER "/images-beside/b-labels-idx1-short.gz", "packed");
    remove(FOLDER "/images-beside/b-labels-idx1-short");
    refused(c, open_file(c, FOLDER "/images-beside/b-images-idx3-ubyte", NULL), "b-labels-idx1-short.gz first");
    remove(FOLDER "/images-beside/b-labels-idx1-short.gz");
    refused(c, open_file(c, FOLDER "/images-beside/b-images-idx3-ubyte", NULL), "no labels b-labels");
    write_idx(c, FOLDER "/images-beside/b-labels-idx1-short", 0x0B, 1, shape, label);
    CHECK(shape_is(open_file(c, FOLDER "/images-beside/b-images-idx3-ubyte", NULL), 2, 3, 2, 2, 1));
    CHECK(shape_is(open_file(c, FOLDER "/images-beside", NULL), 2, 3, 2, 2, 1));          /* by name */
    write_idx(c, FOLDER "/images-beside/images", 0x08, 3, shape, idx_values);
    mde_npy_write(c, FOLDER "/images-beside/labels", 1, &count, floats);
    CHECK(shape_is(open_file(c, FOLDER "/images-beside/images", NULL), 2, 3, 2, 2, 1));
    write_idx(c, FOLDER "/images-beside/pictures", 0x08, 3, shape, idx_values);
    refused(c, open_file(c, FOLDER "/images-beside/pictures", NULL), "pictures: needs labels");
    write_idx(c, FOLDER "/images-beside/c-images.idx3", 0x08, 3, shape, idx_values);
    refused(c, open_file(c, FOLDER "/images-beside", NULL), "b-images-idx3-ubyte and c-images.idx3");
    remove(FOLDER "/images-beside/c-images.idx3");
    mde_context_free(c);
}

static void classes_samples_size_channels_and_invert_apply_to_files(void)
{
    mde_context *c = start();
    const int shape[] = { 6, 1, 2 }, label[] = { 5, 4, 5, 4, 5, 9 };
    dagan_images_desc desc;
    dagan_images *set;
    write_idx(c, FOLDER "/limit-images-idx3-ubyte", 0x08, 3, shape, idx_values);
    write_idx(c, FOLDER "/limit-labels-idx1-ubyte", 0x08, 1, shape, label);
    memset(&desc, 0, sizeof desc);
    desc.path = FOLDER "/limit-images-idx3-ubyte";
    desc.classes = 2;
    desc.samples = 2;
    desc.size = 3;
    desc.channels = 3;
    desc.invert = 1;
    set = dagan_images_open(c, &desc);
    CHECK(shape_is(set, 2, 4, 3, 3, 3));
    CHECK(dagan_images_pixels(set, 1, 0)[0] == 1 && dagan_images_pixels(set, 1, 0)[8] == -1);   /* image 0: 0, 255 */
    CLOSE(dagan_images_pixels(set, 1, 0)[4], 0, 1e-6);
    CLOSE(dagan_images_pixels(set, 0, 0)[0], 1 - 2 * 51.0 / 255, 1e-6);                         /* image 1 */
    mde_context_free(c);
}

static void write_npy(mde_context *c, const char *path, int rank, int a, int b, int d, int e, int f, const float *data)
{
    int64_t shape[5];
    shape[0] = a;
    shape[1] = b;
    shape[2] = d;
    shape[3] = e;
    shape[4] = f;
    CHECK(mde_npy_write(c, path, rank, shape, data) == MDE_OK);
}

static void npy_images_of_three_shapes_are_read(void)
{
    mde_context *c = start();
    const char *path = FOLDER "/x-images.npy";
    float values[12], labels[] = { 8, 2, 8 };
    dagan_images *set;
    int i;
    for (i = 0; i < 12; i++) values[i] = (float)i / 11;
    write_npy(c, FOLDER "/x-labels.npy", 1, 3, 0, 0, 0, 0, labels);
    write_npy(c, path, 3, 3, 2, 2, 0, 0, values);
    set = open_file(c, path, NULL);
    CHECK(shape_is(set, 2, 3, 2, 2, 1));
    CHECK(dagan_images_pixels(set, 1, 1)[3] == 1 && dagan_images_pixels(set, 1, 0)[0] == -1);
    CLOSE(dagan_images_pixels(set, 0, 0)[1], 2 * 5.0 / 11 - 1, 1e-6);
    write_npy(c, path, 4, 3, 2, 2, 1, 0, values);
    CHECK(dagan_images_hash(open_file(c, path, NULL)) == dagan_images_hash(set));
    write_npy(c, path, 5, 2, 3, 2, 1, 1, values);
    set = open_file(c, path, NULL);
    CHECK(shape_is(set, 2, 6, 2, 1, 1));
    CHECK(dagan_images_sample_count(set, 0) == 3);
    CLOSE(dagan_images_pixels(set, 1, 1)[1], 2 * 9.0 / 11 - 1, 1e-6);
    write_npy(c, path, 5, 1, 2, 2, 1, 3, values);
    CHECK(shape_is(open_file(c, path, NULL), 1, 2, 2, 1, 3));
    write_npy(c, FOLDER "/x-labels.npy", 1, 2, 0, 0, 0, 0, labels);
    CHECK(shape_is(open_file(c, path, FOLDER "/x-labels.npy"), 2, 2, 2, 1, 3));
    mde_context_free(c);
}

static void the_range_of_npy_values_tells_their_unit(void)
{
    static const struct { float low, high, unit; int negative; const char *refused; } cases[] = {
        { 0, 1, 1, 0, NULL },
        { 0, 0.5f, 1, 0, NULL },
        { 0, 255, 255, 0, NULL },
        { 3, 77, 255, 0, NULL },
        { -1, 1, 1, 1, NULL },
        { -0.25f, 0.5f, 1, 1, NULL },
        /* A hair beyond is clipped; the unit does not flip. */
        { 0, 1.0000002f, 1, 0, NULL },
        { -1e-7f, 1, 1, 0, NULL },
        { -1e-7f, 0.3f, 1, 0, NULL },
        { -1.0000002f, 0.5f, 1, 1, NULL },
        { -0.7f, 1.0001f, 1, 1, NULL },
        { -1e-5f, 255.001f, 255, 0, NULL },
        { 0, 1.2f, 0, 0, "values from 0 to 1.2; expected 0 to 1. Say with desc.low" },
        { 0, 7, 0, 0, "values from 0 to 7" },
        { -1, 2, 0, 0, "values from -1 to 2" },
        { -3, 0, 0, 0, "values from -3 to 0" },
        { 0, 300, 0, 0, "values from 0 to 300" },
        { 0, 65535, 0, 0, "values from 0 to 65535" },
        { 0, 65536, 0, 0, "values from 0 to 65536" },
        { 0, NAN, 0, 0, "value 1 is not a number" },
        { 0, INFINITY, 0, 0, "value 1 is infinite" },
    };
    mde_context *c = start();
    const char *path = FOLDER "/range.npy";
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        float values[2];
        dagan_images *set;
        values[0] = cases[i].low;
        values[1] = cases[i].high;
        write_npy(c, path, 5, 1, 1, 1, 2, 1, values);
        set = open_file(c, path, NULL);
        if (cases[i].refused) {
            refused(c, set, cases[i].refused);
            continue;
        }
        CHECK(set != NULL);
        if (!set) continue;
        CHECK(dagan_images_pixels(set, 0, 0)[0] >= -1 && dagan_images_pixels(set, 0, 0)[1] <= 1);
        CLOSE(dagan_images_pixels(set, 0, 0)[1],
              cases[i].negative ? cases[i].high : 2 * cases[i].high / cases[i].unit - 1, 2e-4);
        if (cases[i].high > cases[i].unit) continue;
        CLOSE(dagan_images_pixels(set, 0, 0)[1],
              cases[i].negative ? cases[i].high : 2 * cases[i].high / cases[i].unit - 1, 1e-6);
        CLOSE(dagan_images_pixels(set, 0, 0)[0],
              cases[i].negative ? cases[i].low : 2 * cases[i].low / cases[i].unit - 1, 1e-6);
    }
    mde_context_free(c);
}

/* A .npy file of two images of one pixel, of any type; the numbers as bytes. */
static void write_typed(mde_context *c, const char *path, const char *type, size_t size, const void *two)
{
    unsigned char bytes[128 + 16];
    char header[119];
    memset(bytes, ' ', sizeof bytes);
    memcpy(bytes, "\x93NUMPY\x01\x00\x76\x00", 10);
    snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (1, 2, 1, 1, 1), }", type);
    memcpy(bytes + 10, header, strlen(header));
    bytes[127] = '\n';
    memcpy(bytes + 128, two, 2 * size);
    mde_file_write(c, path, bytes, 128 + 2 * size);
}

static void the_type_of_npy_numbers_decides_first(void)
{
    static const struct { const char *type; size_t size; const char *two; double want[2]; } cases[] = {
        { "|u1", 1, "\0\1", { -1, 2.0 / 255 - 1 } },             /* bytes: 255 is white whatever there is */
        { "|u1", 1, "\x33\xC8", { -0.6, 400.0 / 255 - 1 } },
        { "|b1", 1, "\0\1", { -1, 1 } },
        { "<u2", 2, "\0\0\xAB\x0F", { -1, 1 } },                 /* 4011: 12 bits in 16 */
        { ">u2", 2, "\0\0\x0F\xAB", { -1, 1 } },
        { "<i4", 4, "\0\0\0\0\x66\0\0\0", { -1, -0.2 } },       /* bytes in wider integers */
        { "<i8", 8, "\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0", { -1, 1 } }
    };
    mde_context *c = start();
    const char *path = FOLDER "/typed.npy";
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        dagan_images *set;
        write_typed(c, path, cases[i].type, cases[i].size, cases[i].two);
        set = open_file(c, path, NULL);
        CHECK(set != NULL);
        if (!set) printf("    in %s: %s\n", cases[i].type, mde_error(c));
        if (!set) break;
        CLOSE(dagan_images_pixels(set, 0, 0)[0], cases[i].want[0], 1e-6);
        CLOSE(dagan_images_pixels(set, 0, 1)[0], cases[i].want[1], 1e-6);
    }
    write_typed(c, path, "<i2", 2, "\xFF\xFF\5\0");
    refused(c, open_file(c, path, NULL), "values from -1 to 5");
    mde_context_free(c);
}

static void a_range_says_what_is_black_and_white(void)
{
    mde_context *c = start();
    const char *path = FOLDER "/ranged.npy", *images = FOLDER "/r-images-idx3-ubyte", *labels = FOLDER "/r-labels";
    const int shape[] = { 2, 1, 1 }, label[] = { 0, 0 }, values[] = { 100, 200 };
    unsigned char floats[16 + 8] = { 0, 0, 0x0D, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0x3E, 0x80, 0, 0, 0x3F, 0x40 };
    unsigned char doubles[16 + 16] = { 0, 0, 0x0E, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0xBF, 0xE0 };
    dagan_images_desc desc;
    dagan_images *set;
    memset(&desc, 0, sizeof desc);
    desc.path = path;
    desc.high = 4095;
    write_typed(c, path, "<u2", 2, "\0\0\xAB\x0F");
    set = dagan_images_open(c, &desc);
    CLOSE(dagan_images_pixels(set, 0, 1)[0], 2.0 * 4011 / 4095 - 1, 1e-6);
    desc.high = 3000;
    refused(c, dagan_images_open(c, &desc), "values from 0 to 4011; expected 0 to 3000");
    desc.low = 5;
    desc.high = 5;
    refused(c, dagan_images_open(c, &desc), "expected 5 to 5");
    desc.low = -2000;
    desc.high = 2000;
    write_typed(c, path, "<i2", 2, "\x18\xFC\xD0\x07");         /* -1000 and 2000 */
    set = dagan_images_open(c, &desc);
    CHECK(set && dagan_images_pixels(set, 0, 0)[0] == -0.5f && dagan_images_pixels(set, 0, 1)[0] == 1);
    desc.path = images;
    desc.labels = labels;
    desc.low = 100;
    desc.high = 200;
    write_idx(c, images, 0x08, 3, shape, values);
    write_idx(c, labels, 0x08, 1, shape, label);
    set = dagan_images_open(c, &desc);
    CHECK(set && dagan_images_pixels(set, 0, 0)[0] == -1 && dagan_images_pixels(set, 0, 1)[0] == 1);
    /* IDX floats and doubles: 0.25 and 0.75, -0.5 and 0. */
    write_bytes(c, images, (const char *)floats, sizeof floats);
    set = open_file(c, images, labels);
    CHECK(set && dagan_images_pixels(set, 0, 0)[0] == -0.5f && dagan_images_pixels(set, 0, 1)[0] == 0.5f);
    write_bytes(c, images, (const char *)doubles, sizeof doubles);
    set = open_file(c, images, labels);
    CHECK(set && dagan_images_pixels(set, 0, 0)[0] == -0.5f && dagan_images_pixels(set, 0, 1)[0] == 0);
    mde_context_free(c);
}

static void transposed_images_change_rows_and_columns(void)
{
    mde_context *c = start();
    const char *images = FOLDER "/t-images-idx3-ubyte", *labels = FOLDER "/t-labels";
    const int shape[] = { 1, 2, 3 }, label[] = { 0 }, values[] = { 0, 51, 102, 153, 204, 255 };
    static const int order[6] = { 0, 3, 1, 4, 2, 5 };
    dagan_images_desc desc;
    dagan_images *set;
    int i;
    memset(&desc, 0, sizeof desc);
    desc.path = images;
    desc.labels = labels;
    desc.transpose = 1;
    write_idx(c, images, 0x08, 3, shape, values);
    write_idx(c, labels, 0x08, 1, shape, label);
    set = dagan_images_open(c, &desc);
    CHECK(shape_is(set, 1, 1, 3, 2, 1));
    for (i = 0; set && i < 6; i++) CLOSE(dagan_images_pixels(set, 0, 0)[i], 2.0 * values[order[i]] / 255 - 1, 1e-6);
    mde_context_free(c);
}

static void folders_of_parts_of_a_set_are_one_set(void)
{
    mde_context *c = start();
    static const char *const files[] = { "parts/train/a/1.pgm", "parts/train/b/1.pgm", "parts/test/a/2.pgm",
                                         "parts/test/b/2.pgm", "parts/test/a/3.pgm", "groups/one/a/1.pgm",
                                         "groups/test/a/1.pgm" };
    dagan_images_desc desc;
    dagan_images *set;
    char path[200];
    size_t i;
    for (i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, FOLDER "/%s", files[i]);
        *strrchr(path, '/') = 0;
        CHECK(mde_make_folder(c, path) == MDE_OK);
        path[strlen(path)] = '/';
        write_bytes(c, path, "P5 1 1 255\n\x33", 12);
    }
    memset(&desc, 0, sizeof desc);
    desc.path = FOLDER "/parts";
    desc.size = 1;
    set = dagan_images_open(c, &desc);
    CHECK(shape_is(set, 2, 5, 1, 1, 1) && dagan_images_sample_count(set, 0) == 3);
    CHECK(strcmp(dagan_images_name(set, 0), "a") == 0 && strcmp(dagan_images_name(set, 1), "b") == 0);
    desc.samples = 1;
    CHECK(shape_is(dagan_images_open(c, &desc), 2, 2, 1, 1, 1));
    desc.samples = 0;
    desc.path = FOLDER "/groups";               /* not all of them are parts */
    set = dagan_images_open(c, &desc);
    CHECK(shape_is(set, 2, 2, 1, 1, 1) && strcmp(dagan_images_name(set, 1), "test/a") == 0);
    mde_context_free(c);
}

static void what_is_not_read_is_counted_and_named(void)
{
    mde_context *c = start();
    dagan_images_desc desc;
    dagan_images *set;
    const char *first = NULL;
    CHECK(mde_make_folder(c, FOLDER "/some/a") == MDE_OK && mde_make_folder(c, FOLDER "/none") == MDE_OK);
    write_bytes(c, FOLDER "/some/a/1.pgm", "P5 1 1 255\n\x33", 12);
    write_bytes(c, FOLDER "/some/a/2.webp", "RIFF", 4);
    write_bytes(c, FOLDER "/some/a/3.TIFF", "II", 2);
    write_bytes(c, FOLDER "/some/a/notes.txt", "x", 1);
    write_bytes(c, FOLDER "/none/1.heic", "x", 1);
    memset(&desc, 0, sizeof desc);
    desc.path = FOLDER "/some";
    set = dagan_images_open(c, &desc);
    CHECK(dagan_images_left_out(set, &first) == 2);
    CHECK_TEXT(first, "some/a/2.webp");
    CHECK(dagan_images_left_out(NULL, &first) == 0 && *first == 0);
    desc.path = FOLDER "/none";
    refused(c, dagan_images_open(c, &desc), "formats that are not read, such as");
    desc.path = FOLDER "/some";
    desc.high = 1;
    refused(c, dagan_images_open(c, &desc), "a range is given");
    mde_context_free(c);
}

static void bitmaps_are_read_plain_and_packed(void)
{
    static const struct { const char *bytes; size_t size; } files[] = {
        { "P1\n# two rows\n10 2\n1 0 1 0 1 0 1 0 1 1\n0000000001", 0 }, { "P4\n10 2\n\xAA\xC0\0\x40", 12 }
    };
    mde_context *c = start();
    dagan_images_desc desc;
    size_t k;
    int i;
    CHECK(mde_make_folder(c, FOLDER "/bitmap") == MDE_OK);
    memset(&desc, 0, sizeof desc);
    desc.path = FOLDER "/bitmap";
    desc.size = 10;
    for (k = 0; k < 2; k++) {
        dagan_images *set;
        write_bytes(c, FOLDER "/bitmap/1.pbm", files[k].bytes, k == 0 ? strlen(files[k].bytes) : files[k].size);
        set = dagan_images_open(c, &desc);
        CHECK(set != NULL);
        for (i = 0; set && i < 10; i++) {       /* 1 is black there */
            CHECK(dagan_images_pixels(set, 0, 0)[i] == (i == 9 || i % 2 == 0 ? -1.0f : 1.0f));
            CHECK(dagan_images_pixels(set, 0, 0)[90 + i] == (i == 9 ? -1.0f : 1.0f));
        }
    }
    write_bytes(c, FOLDER "/bitmap/1.pbm", "P4\n10 2\n\xAA\xC0\0", 11);
    refused(c, dagan_images_open(c, &desc), "ends before");
    write_bytes(c, FOLDER "/bitmap/1.pbm", "P1\n2 2\n1 0 7 1 ", 15);
    refused(c, dagan_images_open(c, &desc), "value 2 is more than");
    mde_context_free(c);
}

static void bad_arrays_are_refused_in_words(void)
{
    mde_context *c = start();
    const int shape[] = { 3, 2, 2 }, empty[] = { 0, 2, 2 }, three[] = { 3 }, two[] = { 2 }, four[] = { 4 };
    const int label[] = { 0, 1, 0 }, minus[12] = { 0, 0, -7 }, negative[] = { 1, -2, 1 };
    const char *path = FOLDER "/bad-images-idx3-ubyte", *good = FOLDER "/good-labels";
    float zeros[64] = { 0 }, half[] = { 0, 0.5f, 1 };
    static const char strings[] = "\x93NUMPY\x01\x00\x46\x00{'descr': '|S4', 'fortran_order': False, 'shape': (1,), }"
                                  "               \nabcd";
    write_idx(c, good, 0x08, 1, three, label);
    refused(c, open_file(c, FOLDER "/nothing", good), "cannot be opened");
    refused(c, open_file(c, "", good), "no file name");
    write_text(c, path, "");
    refused(c, open_file(c, path, good), "is empty");
    write_text(c, path, "hello");
    refused(c, open_file(c, path, good), "neither an IDX nor a .npy");
    write_bytes(c, path, "\x1F\x8B\x08", 3);
    refused(c, open_file(c, path, good), "gunzip");
    write_bytes(c, path, "\0\0\x0A\3zzzz", 8);
    refused(c, open_file(c, path, good), "type 0x0A");
    write_bytes(c, path, "\0\0\x08\5zzzz", 8);
    refused(c, open_file(c, path, good), "5 dimensions");
    write_bytes(c, path, "\0\0\x08\3\0\0\0\1\0\0", 10);
    refused(c, open_file(c, path, good), "ends within its IDX header");
    write_bytes(c, path, "\0\0\x08\3\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFFz", 17);
    refused(c, open_file(c, path, good), "cut off");
    write_bytes(c, path, "\0\0\x08\3\0\0\0\1\0\0\0\1\0\0\0\1ab", 18);
    refused(c, open_file(c, path, good), "2 bytes of data");
    write_idx(c, path, 0x0C, 3, shape, idx_values);
    CHECK(shape_is(open_file(c, path, good), 2, 3, 2, 2, 1));    /* 32 bits that hold bytes */
    write_idx(c, path, 0x0B, 3, shape, minus);
    refused(c, open_file(c, path, good), "values from -7 to 0");
    write_idx(c, path, 0x08, 3, empty, idx_values);
    refused(c, open_file(c, path, good), "no images");
    write_idx(c, path, 0x08, 1, three, idx_values);
    refused(c, open_file(c, path, good), "array of 1 dimensions");
    write_idx(c, path, 0x08, 3, shape, idx_values);
    write_idx(c, FOLDER "/labels-2", 0x08, 1, two, label);
    refused(c, open_file(c, path, FOLDER "/labels-2"), "2 labels for 3 images");
    write_idx(c, FOLDER "/labels-2", 0x08, 1, four, minus);
    refused(c, open_file(c, path, FOLDER "/labels-2"), "4 labels for 3 images");
    write_idx(c, FOLDER "/labels-2", 0x0B, 1, three, negative);
    refused(c, open_file(c, path, FOLDER "/labels-2"), "label -2 of image 1");
    refused(c, open_file(c, path, path), "labels of 3 dimensions");
    write_npy(c, FOLDER "/labels-2", 1, 3, 0, 0, 0, 0, half);
    refused(c, open_file(c, path, FOLDER "/labels-2"), "label 0.5 of image 1");
    refused(c, open_file(c, path, FOLDER "/nothing"), "nothing: cannot be opened");
    write_bytes(c, path, strings, sizeof strings - 1);
    refused(c, open_file(c, path, good), "strings are not read");
    write_npy(c, path, 2, 3, 4, 0, 0, 0, zeros);
    refused(c, open_file(c, path, good), "array of 2 dimensions");
    write_npy(c, path, 4, 3, 2, 2, 2, 0, zeros);
    refused(c, open_file(c, path, good), "2 channels");
    write_npy(c, path, 5, 3, 0, 2, 2, 1, zeros);
    refused(c, open_file(c, path, NULL), "no images");
    write_npy(c, path, 3, 3, 0, 2, 0, 0, zeros);
    refused(c, open_file(c, path, good), "0 x 2");
    mde_context_free(c);
}

/* ---- Image files and folders ---- */

/* Opens the only image of a folder of its own. */
static dagan_images *open_picture(mde_context *c, const char *name, const void *bytes, size_t size, int side,
                                  int channels)
{
    char folder[200], path[300];
    dagan_images_desc desc;
    snprintf(folder, sizeof folder, "%s/only-%s", FOLDER, name);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    CHECK(mde_make_folder(c, folder) == MDE_OK);
    write_bytes(c, path, bytes, size);
    memset(&desc, 0, sizeof desc);
    desc.path = folder;
    desc.size = side;
    desc.channels = channels;
    return dagan_images_open(c, &desc);
}

static void every_form_of_pgm_and_ppm_is_read(void)
{
    static const struct { const char *name, *bytes; size_t size; int channels; float pixels[12]; } cases[] = {
        { "plain.pgm", BYTES("P2\n# a comment\n2 # and\n2\n4\n0 1\n2 4"), 1, { -1, -0.5f, 0, 1 } },
        { "plain.pnm", BYTES("P2 2 2 1#0\n0 1#c\n1 0\n"), 1, { -1, 1, 1, -1 } },
        { "raw.PGM", BYTES("P5 2 2 255\n\0\xFF\x33\xCC"), 1, { -1, 1, -0.6f, 0.6f } },
        { "wide.pgm", BYTES("P5\n2\r\n2\t65535\n\0\0\xFF\xFF\x33\x33\1\0after"), 1,
          { -1, 1, -0.6f, 2 * 256 / 65535.0f - 1 } },
        { "plain.ppm", BYTES("P3 2 2 2  0 1 2  2 1 0  0 0 0  2 2 2"), 3, { -1, 0, 1, 1, 0, -1, -1, -1, -1, 1, 1, 1 } },
        { "raw.ppm", BYTES("P6 2 2 5\n\0\1\2\3\4\5\5\5\5\0\0\0"), 3,
          { -1, -0.6f, -0.2f, 0.2f, 0.6f, 1, 1, 1, 1, -1, -1, -1 } },
    };
    mde_context *c = start();
    size_t i;
    int k;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        dagan_images *set = open_picture(c, cases[i].name, cases[i].bytes, cases[i].size, 2, 0);
        const float *p = dagan_images_pixels(set, 0, 0), *q;
        CHECK(shape_is(set, 1, 1, 2, 2, cases[i].channels));
        if (!p) {
            printf("    %s: %s\n", cases[i].name, mde_error(c));
            mde_clear_error(c);
            continue;
        }
        for (k = 0; k < 4 * cases[i].channels; k++) CLOSE(p[k], cases[i].pixels[k], 1e-6);
        set = open_picture(c, cases[i].name, cases[i].bytes, cases[i].size, 2, 4 - cases[i].channels);
        CHECK(shape_is(set, 1, 1, 2, 2, 4 - cases[i].channels));
        q = dagan_images_pixels(set, 0, 0);
        for (k = 0; k < 4; k++) {
            if (cases[i].channels == 3) {
                double red = (double)p[3 * k], green = (double)p[3 * k + 1], blue = (double)p[3 * k + 2];
                CLOSE(q[k], 0.299 * red + 0.587 * green + 0.114 * blue, 1e-6);
            } else {
                CHECK(q[3 * k] == p[k] && q[3 * k + 1] == p[k] && q[3 * k + 2] == p[k]);
            }
        }
    }
    mde_context_free(c);
}

static void bad_pictures_are_refused_by_name(void)
{
    static const struct { const char *bytes; size_t size; const char *says; } cases[] = {
        { BYTES("P5 2 2 255\n\0\xFF\x33"), "ends before its 2 x 2" },
        { BYTES("P5 2 2 300\n\0\0\0\0\0\0\0"), "ends before its 2 x 2" },
        { BYTES("P5 2 2 100\nabcz"), "value 3 is more than" },
        { BYTES("P2 2 2 9 1 2 3"), "ends before" },
        { BYTES("P2 2 2 9 1 2 3   "), "value 3 is missing" },
        { BYTES("P2 2 2 9 1 2 x 4 "), "value 2 is missing" },
        { BYTES("P2 2 2 9 1 2 33 4 "), "value 2 is more" },
        { BYTES("P5 2 2"), "header" },
        { BYTES("P5 2 2 255"), "header" },
        { BYTES("P5 2 2 70000\n...."), "header" },
        { BYTES("P5 2 2 0\n...."), "header" },
        { BYTES("P5 x 2 9\n...."), "header" },
        { BYTES("P5 -2 2 9\n...."), "header" },
        { BYTES("P5 2147483647 2147483647 9\n."), "ends before" },
        { BYTES("P6 65536 65536 255\n."), "ends before" },
        { BYTES("P5 99999999999999999999 1 9\n."), "header" },
        { BYTES("P5 0 2 9\n...."), "0 pixels" },
        { BYTES(""), "is empty" },
        { BYTES("P4 2 2\n\0"), "ends before its 2 x 2" },
        { BYTES("P7\nWIDTH 2\n"), "stb_image.h" },
        { BYTES("GIF89a"), "stb_image.h" },
        { BYTES("\x89PNG\r\n\x1A\n"), "stb_image.h" },
    };
    mde_context *c = start();
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        dagan_images *set = open_picture(c, "bad.pgm", cases[i].bytes, cases[i].size, 2, 0);
        CHECK_TEXT(mde_error(c), "only-bad.pgm/bad.pgm: ");
        refused(c, set, cases[i].says);
    }
    mde_context_free(c);
}

static void folders_are_classes_at_any_depth(void)
{
    static const char *const files[] = {
        "/set/Latin/character02/0.pgm", "/set/Latin/character01/1.pgm", "/set/Latin/character01/0.pgm",
        "/set/Greek/alpha/1/2/3/0.pgm", "/set/z.pgm", "/set/Greek/0.pgm",
    };
    static const char *const names[] = { "set", "Greek", "Greek/alpha/1/2/3", "Latin/character01",
                                         "Latin/character02" };
    mde_context *c = start();
    dagan_images_desc desc;
    dagan_images *set;
    char path[300], text[64];
    int k;
    for (k = 0; k < 6; k++) {
        snprintf(path, sizeof path, "%s%s", FOLDER, files[k]);
        *strrchr(path, '/') = 0;
        CHECK(mde_make_folder(c, path) == MDE_OK);
        snprintf(path, sizeof path, "%s%s", FOLDER, files[k]);
        snprintf(text, sizeof text, "P2 1 1 5 %d\n", k);
        write_text(c, path, text);
    }
    write_text(c, FOLDER "/set/Greek/alpha/notes.txt", "not an image");
    mde_make_folder(c, FOLDER "/set/empty");
    for (k = 0; k < 2; k++) {
        set = open_file(c, k ? FOLDER "/set//" : FOLDER "/set", NULL);
        CHECK(shape_is(set, 5, 6, 28, 28, 1));
        CHECK(strcmp(dagan_images_name(set, 0), names[0]) == 0);
    }
    set = open_file(c, FOLDER "/set/", NULL);
    for (k = 0; k < 5; k++) {
        CHECK(strcmp(dagan_images_name(set, k), names[k]) == 0);
        CHECK(dagan_images_sample_count(set, k) == (k == 3 ? 2 : 1));
    }
    CLOSE(dagan_images_pixels(set, 0, 0)[5], 0.4 * 4 - 1, 1e-6);        /* z.pgm */
    CLOSE(dagan_images_pixels(set, 3, 0)[5], 0.4 * 2 - 1, 1e-6);        /* character01/0.pgm before 1.pgm */
    CLOSE(dagan_images_pixels(set, 3, 1)[783], 0.4 * 1 - 1, 1e-6);
    memset(&desc, 0, sizeof desc);
    desc.path = FOLDER "/set";
    desc.classes = 4;
    desc.samples = 1;
    desc.size = 3;
    set = dagan_images_open(c, &desc);
    CHECK(shape_is(set, 4, 4, 3, 3, 1));
    CHECK(strcmp(dagan_images_name(set, 3), names[3]) == 0);
    refused(c, open_file(c, FOLDER "/set", "labels"), "labels labels are given");
    refused(c, open_file(c, FOLDER "/set/empty", NULL), "hold images");
    mde_context_free(c);
}

static void a_folder_of_mixed_images_has_one_size_and_colour_if_any_has(void)
{
    mde_context *c = start();
    dagan_images *set;
    const float *grey, *red;
    mde_make_folder(c, FOLDER "/mixed/a");
    mde_make_folder(c, FOLDER "/mixed/b");
    write_text(c, FOLDER "/mixed/a/0.pgm", "P2 1 1 5 4\n");
    write_text(c, FOLDER "/mixed/a/1.ppm", "P3 2 1 1 1 0 0 0 0 0\n");
    write_text(c, FOLDER "/mixed/b/0.pgm", "P2 1 3 5 0 1 2\n");
    set = open_file(c, FOLDER "/mixed", NULL);
    CHECK(shape_is(set, 2, 3, 28, 28, 3));
    grey = dagan_images_pixels(set, 0, 0);
    red = dagan_images_pixels(set, 0, 1);
    CHECK(grey && grey[0] == 0.6f && grey[1] == 0.6f && grey[3 * 783 + 2] == 0.6f);
    CHECK(red && red[0] == 1 && red[1] == -1 && red[3 * 13] == 1 && red[3 * 14] == -1);
    CLOSE(dagan_images_pixels(set, 1, 0)[3 * 783], -0.2, 1e-6);
    mde_context_free(c);
}

static void folders_nested_without_end_are_refused(void)
{
    mde_context *c = start();
    mde_make_folder(c, FOLDER "/deep/1/2/3/4/5/6/7/8");
    write_text(c, FOLDER "/deep/1/2/3/4/5/6/7/8/0.pgm", "P2 1 1 5 4\n");
    CHECK(shape_is(open_file(c, FOLDER "/deep", NULL), 1, 1, 28, 28, 1));
    mde_make_folder(c, FOLDER "/loop/1/2/3/4/5/6/7/8/9");
    refused(c, open_file(c, FOLDER "/loop", NULL), "more than 8 deep");
    mde_context_free(c);
}

/* ---- Resizing ---- */

/* A grid fine enough that every pixel of both sizes is whole cells. */
static double resize_reference(const float *in, int h, int w, int height, int width, int y, int x)
{
    double sum = 0;
    int i, j;
    for (i = y * h; i < (y + 1) * h; i++) {
        for (j = x * w; j < (x + 1) * w; j++) sum += (double)in[i / height * w + j / width];
    }
    return sum / (h * w);
}

static void resizing_takes_the_mean_over_the_area_of_a_pixel(void)
{
    static const int cases[][3] = { { 105, 105, 28 }, { 5, 7, 3 }, { 3, 2, 8 }, { 1, 1, 4 }, { 64, 32, 32 },
                                    { 9, 30, 1 }, { 13, 28, 28 } };
    mde_context *c = start();
    size_t i;
    int k, y, x;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        int h = cases[i][0], w = cases[i][1], side = cases[i][2];
        mde_random r = mde_random_start(1, i);
        float *in = (float *)malloc((size_t)(h * w) * sizeof *in);
        dagan_images_desc desc;
        dagan_images *set;
        for (k = 0; k < h * w; k++) in[k] = (float)(2 * mde_random_uniform(&r) - 1);
        in[0] = -0.5f;
        write_npy(c, FOLDER "/resize.npy", 5, 1, 1, h, w, 1, in);
        memset(&desc, 0, sizeof desc);
        desc.path = FOLDER "/resize.npy";
        desc.size = side;
        set = dagan_images_open(c, &desc);
        CHECK(shape_is(set, 1, 1, side, side, 1));
        for (y = 0; set && y < side; y++) {
            for (x = 0; x < side; x++) {
                CLOSE(dagan_images_pixels(set, 0, 0)[y * side + x], resize_reference(in, h, w, side, side, y, x), 1e-6);
            }
        }
        for (k = 0; k < h * w; k++) in[k] = 1;
        in[0] = -1;
        write_npy(c, FOLDER "/resize.npy", 5, 1, 1, h, w, 1, in);
        set = dagan_images_open(c, &desc);
        if (h * w > 1 && side > 1) CHECK(dagan_images_pixels(set, 0, 0)[side * side - 1] == 1);    /* exactly */
        free(in);
    }
    mde_context_free(c);
}

/* ---- Damaged files ---- */

/* Opens every truncation and every change of one byte; whatever comes back must be usable. Returns how many opened. */
static int open_damaged(const char *path, const char *opened, const char *labels, const unsigned char *bytes,
                        size_t size)
{
    mde_context_desc limit;
    mde_context *c;
    unsigned char copy[512];
    size_t i;
    int good = 0, flip;
    memset(&limit, 0, sizeof limit);
    limit.max_bytes = (size_t)1 << 26;
    c = mde_context_create(&limit);
    for (i = 0; i < size + 6 * size; i++) {
        size_t length = i < size ? i : size, at = i < size ? 0 : (i - size) / 6;
        static const unsigned char masks[] = { 0, 1, 0x80, 0xFF, 0x10, 0x06 };
        dagan_images *set;
        flip = i < size ? 0 : (int)((i - size) % 6);
        memcpy(copy, bytes, size);
        copy[at] = (unsigned char)(copy[at] ^ masks[flip]);
        mde_file_write(c, path, copy, length);
        set = open_file(c, opened, labels);
        CHECK((set != NULL) == (mde_context_status(c) == MDE_OK));
        if (set) {
            CHECK(dagan_images_hash(set) != 0 && dagan_images_count(set) > 0);
            good++;
        } else {
            CHECK(mde_error(c)[0] != 0);
        }
        dagan_images_free(set);
        mde_clear_error(c);
    }
    mde_context_free(c);
    return good;
}

static void damaged_files_are_refused_or_read_but_never_crash(void)
{
    static const struct { const char *bytes; size_t size; } pictures[] = {
        { BYTES("P2\n# c\n2 2\n4\n0 1\n2 4\n") },
        { BYTES("P5 2 3 255\nabcdef") },
        { BYTES("P3 2 1 9 1 2 3 4 5 6 ") },
        { BYTES("P6 1 2 65535\nabcdefghijkl") },
    };
    mde_context *c = start();
    const int shape[] = { 3, 2, 2 }, label[] = { 1, 0, 1 };
    float values[12] = { 0, 1, 0.5f };
    unsigned char bytes[512], *npy;
    const char *images = FOLDER "/damaged-images-idx3-ubyte", *labels = FOLDER "/damaged-labels-idx1-ubyte";
    size_t size, i;
    int good;
    write_idx(c, labels, 0x08, 1, shape, label);
    size = idx_bytes(bytes, 0x08, 3, shape, idx_values);
    good = open_damaged(images, images, NULL, bytes, size);
    CHECK(good >= 6 * 12 && good < 100);
    size = idx_bytes(bytes, 0x0B, 3, shape, idx_values);
    good = open_damaged(images, images, NULL, bytes, size);
    CHECK(good >= 4 * 24 && good < 200);
    write_idx(c, images, 0x08, 3, shape, idx_values);
    size = idx_bytes(bytes, 0x0B, 1, shape, label);
    good = open_damaged(labels, images, labels, bytes, size);
    CHECK(good >= 20 && good < 60);
    write_npy(c, FOLDER "/damaged.npy", 5, 3, 1, 2, 2, 1, values);
    npy = mde_file_read(c, FOLDER "/damaged.npy", sizeof bytes, &size);
    CHECK(npy && size <= sizeof bytes);
    memcpy(bytes, npy, size);
    good = open_damaged(FOLDER "/damaged.npy", FOLDER "/damaged.npy", NULL, bytes, size);
    CHECK(good >= 40);
    mde_make_folder(c, FOLDER "/damaged");
    for (i = 0; i < sizeof pictures / sizeof *pictures; i++) {
        memcpy(bytes, pictures[i].bytes, pictures[i].size);
        good = open_damaged(FOLDER "/damaged/0.pgm", FOLDER "/damaged", NULL, bytes, pictures[i].size);
        CHECK(good >= 10);
    }
    mde_context_free(c);
}

/* ---- Augmentation ---- */

static void no_augmentation_is_a_copy_and_draws_nothing(void)
{
    mde_random r = mde_random_start(3, 4);
    dagan_augment_desc none;
    float in[60], out[60];
    int i;
    memset(&none, 0, sizeof none);
    for (i = 0; i < 60; i++) in[i] = (float)i / 60;
    dagan_augment(&none, &r, 4, 5, 3, in, out);
    CHECK(memcmp(in, out, sizeof in) == 0 && r.position == 0);
    memset(out, 0, sizeof out);
    dagan_augment(NULL, &r, 4, 5, 3, in, out);
    CHECK(memcmp(in, out, sizeof in) == 0 && r.position == 0);
    dagan_augment(&none, &r, 0, 5, 3, in, out);
    dagan_augment(&none, &r, 1, 5, 3, NULL, out);
}

static void quarter_turns_and_flips_move_pixels_exactly(void)
{
    mde_random r = mde_random_start(1, 1);
    dagan_augment_desc desc;
    float in[2 * 49], out[2 * 49];
    int seen[8] = { 0 }, n, k, y, x, side;
    for (n = 0; n < 98; n++) in[n] = (float)sin(n + 1.0);
    for (n = 0; n < 400; n++) {
        int found = -1;
        side = n % 2 ? 6 : 7;
        memset(&desc, 0, sizeof desc);
        desc.quarter_turns = 1;
        desc.flip = n % 4 >= 2;
        dagan_augment(&desc, &r, side, side, 2, in, out);
        for (k = 0; k < 8; k++) {       /* turn k % 4 times, mirrored first if k >= 4 */
            int same = 1;
            for (y = 0; y < side; y++) {
                for (x = 0; x < side; x++) {
                    int fy = k % 4 == 0 ? y : k % 4 == 1 ? side - 1 - x : k % 4 == 2 ? side - 1 - y : x;
                    int fx = k % 4 == 0 ? x : k % 4 == 1 ? y : k % 4 == 2 ? side - 1 - x : side - 1 - y;
                    if (k >= 4) fx = side - 1 - fx;
                    if (memcmp(out + 2 * (y * side + x), in + 2 * (fy * side + fx), 2 * sizeof *in)) same = 0;
                }
            }
            if (same) found = k;
        }
        CHECK(found >= 0);
        if (found >= 0) seen[found]++;
        CHECK(desc.flip || found < 4);
    }
    for (k = 0; k < 8; k++) CHECK(seen[k] > 8);
    for (n = 0; n < 20; n++) {          /* an image that is not square keeps its shape */
        int straight, half = 1;
        memset(&desc, 0, sizeof desc);
        desc.quarter_turns = 1;
        dagan_augment(&desc, &r, 3, 5, 1, in, out);
        straight = memcmp(in, out, 15 * sizeof *in) == 0;
        for (k = 0; k < 15; k++) if (out[k] != in[14 - k]) half = 0;
        CHECK(straight != half);
    }
}

static void affine_augmentation_equals_bilinear_sampling_at_the_inverse_map(void)
{
    const double pi = 3.14159265358979323846;
    const int h = 9, w = 12;
    dagan_augment_desc desc;
    float in[108], out[108];
    int n, y, x, k;
    for (n = 0; n < 108; n++) in[n] = (float)sin(2.0 * n + 1.0);
    for (n = 0; n < 60; n++) {
        mde_random r = mde_random_start(5, (uint64_t)n), same = r;
        double dx, dy, angle, scale;
        memset(&desc, 0, sizeof desc);
        desc.shift = 2.5;
        desc.rotate = n % 2 ? 360 : 20;
        desc.scale = 0.3;
        dagan_augment(&desc, &r, h, w, 1, in, out);
        dx = desc.shift * (2 * mde_random_uniform(&same) - 1);
        dy = desc.shift * (2 * mde_random_uniform(&same) - 1);
        angle = desc.rotate * (2 * mde_random_uniform(&same) - 1) * pi / 180;
        scale = desc.scale * (2 * mde_random_uniform(&same) - 1);
        scale = scale < 0 ? 1 / (1 - scale) : 1 + scale;
        CHECK(r.position == same.position);
        for (y = 0; y < h; y++) {
            for (x = 0; x < w; x++) {
                double u = (x - (w - 1) / 2.0 - dx) / scale, v = (y - (h - 1) / 2.0 - dy) / scale, sum = 0;
                double fx = cos(angle) * u + sin(angle) * v + (w - 1) / 2.0;
                double fy = cos(angle) * v - sin(angle) * u + (h - 1) / 2.0;
                int i = (int)floor(fy), j = (int)floor(fx);
                for (k = 0; k < 4; k++) {
                    int yy = i + k / 2, xx = j + k % 2;
                    double weight = (1 - fabs(fy - yy)) * (1 - fabs(fx - xx));
                    sum += weight * (yy >= 0 && yy < h && xx >= 0 && xx < w ? (double)in[yy * w + xx] : -1);
                }
                CLOSE(out[y * w + x], sum, 1e-6);
            }
        }
    }
    {
        mde_random r = mde_random_start(5, 5);
        memset(&desc, 0, sizeof desc);
        desc.shift = NAN;
        desc.rotate = NAN;
        dagan_augment(&desc, &r, h, w, 1, in, out);
        for (n = 0; n < 108; n++) CHECK(out[n] == -1);
        desc.shift = 1e300;
        desc.rotate = 1e300;
        desc.scale = 1e300;
        dagan_augment(&desc, &r, h, w, 1, in, out);
        for (n = 0; n < 108; n++) CHECK(out[n] >= -1 && out[n] <= 1);
        memset(&desc, 0, sizeof desc);
        desc.rotate = INFINITY;
        dagan_augment(&desc, &r, h, w, 1, in, out);
        for (n = 0; n < 108; n++) CHECK(out[n] == -1);
    }
}

static void noise_has_its_deviation_and_stays_in_range(void)
{
    enum { N = 10000 };
    static float in[N], out[N];
    dagan_augment_desc desc;
    mde_random r = mde_random_start(5, 5);
    double sum = 0, squares = 0;
    int i;
    memset(&desc, 0, sizeof desc);
    desc.noise = 0.1;
    dagan_augment(&desc, &r, 100, 100, 1, in, out);
    for (i = 0; i < N; i++) {
        sum += (double)out[i];
        squares += (double)out[i] * (double)out[i];
    }
    CLOSE(sum / N, 0, 0.004);                   /* four standard errors */
    CLOSE(sqrt(squares / N), 0.1, 0.003);
    for (i = 0; i < N; i++) in[i] = i % 2 ? 1.0f : -1.0f;
    dagan_augment(&desc, &r, 100, 100, 1, in, out);
    for (i = 0; i < N; i++) CHECK(out[i] >= -1 && out[i] <= 1);
}

/* ---- Pictures ---- */

static void a_grid_shows_ink_dark_with_frames_and_gaps(void)
{
    mde_context *c = start();
    const float a[] = { 1, -1 }, b[] = { -0.2f, -2 }, dark[] = { -1, -1 }, grey[] = { 0, -2 };
    const float colour[] = { 1, 0, -1, (float)NAN, 7, -7 };
    const float *images[] = { a, NULL, b, dark }, *photograph[] = { a, NULL, grey, a };
    const float *one[] = { colour }, *none[12] = { NULL };
    /* two rows of two images of 1 x 2 pixels, magnified twice: 11 x 7 pixels */
    unsigned char wanted[77];
    unsigned char *png, *same;
    size_t size, other;
    int x, y;
    memset(wanted, 208, sizeof wanted);
    for (y = 0; y < 2; y++) {
        for (x = 0; x < 4; x++) {
            wanted[(1 + y) * 11 + 1 + x] = (unsigned char)(x < 2 ? 0 : 255);
            wanted[(1 + y) * 11 + 6 + x] = 255;
            wanted[(4 + y) * 11 + 1 + x] = (unsigned char)(x < 2 ? 153 : 255);
            wanted[(4 + y) * 11 + 6 + x] = 255;
        }
    }
    png = dagan_grid_png(c, 2, 2, 1, 2, 1, images, 2, &size);
    same = mde_png_encode(c, 11, 7, 1, wanted, &other);
    CHECK(png && size == other && memcmp(png, same, size) == 0);
    mde_release(c, png);
    mde_release(c, same);
    /* mean -1/6, more than ink has */
    for (y = 0; y < 2; y++) {
        for (x = 0; x < 4; x++) {
            wanted[(1 + y) * 11 + 1 + x] = (unsigned char)(x < 2 ? 255 : 0);
            wanted[(4 + y) * 11 + 1 + x] = (unsigned char)(x < 2 ? 128 : 0);
            wanted[(4 + y) * 11 + 6 + x] = (unsigned char)(x < 2 ? 255 : 0);
        }
    }
    png = dagan_grid_png(c, 2, 2, 1, 2, 1, photograph, 2, &size);
    same = mde_png_encode(c, 11, 7, 1, wanted, &other);
    CHECK(png && size == other && memcmp(png, same, size) == 0);
    mde_release(c, png);
    png = dagan_grid_png(c, 1, 1, 1, 2, 3, one, 1, &size);
    {
        unsigned char rgb[36];
        memset(rgb, 208, sizeof rgb);
        memcpy(rgb + 15, "\xFF\x80\x00\x00\xFF\x00", 6);
        same = mde_png_encode(c, 4, 3, 3, rgb, &other);
    }
    CHECK(png && size == other && memcmp(png, same, size) == 0);
    png = dagan_grid_png(c, 1, 12, 28, 28, 1, none, 0, &size);
    CHECK(png && png[18] == 1021 / 256 && png[19] == 1021 % 256);       /* 12 (3 * 28 + 1) + 1 pixels wide */
    CHECK(!dagan_grid_png(c, 0, 1, 1, 2, 1, images, 1, &size));
    CHECK_TEXT(mde_error(c), "0 rows");
    mde_clear_error(c);
    CHECK(!dagan_grid_png(c, 1, 1, 1, 2, 2, images, 1, &size));
    CHECK_TEXT(mde_error(c), "2 channels");
    mde_clear_error(c);
    CHECK(!dagan_grid_png(c, 1, 1, 1, 2, 1, NULL, 1, &size) && mde_context_status(c) == MDE_BAD_ARGUMENT);
    mde_clear_error(c);
    CHECK(!dagan_grid_png(c, 30000, 1, 4096, 4096, 1, images, 1, &size));
    CHECK_TEXT(mde_error(c), "picture would have");
    CHECK(!dagan_grid_png(c, 1, 1, 1, 2, 1, images, 1, &size) && size == 0);
    mde_context_free(c);
}

/* ---- Memory ---- */

/* A little of everything. */
static void use_everything(mde_context *c, void *user)
{
    dagan_images_desc desc;
    dagan_images *set, *a, *b;
    const float *images[2];
    size_t size;
    unsigned char *png;
    memset(&desc, 0, sizeof desc);
    desc.classes = 4;
    desc.samples = 3;
    desc.size = 6;
    desc.channels = 3;
    set = dagan_images_open(c, &desc);
    a = dagan_images_shuffle(set, 1);
    b = dagan_images_samples(a, 1, 1, 5);
    dagan_images_free(a);
    a = dagan_images_classes(b, 0, 0.5);
    images[0] = dagan_images_pixels(a, 0, 0);
    images[1] = dagan_images_pixels(a, 1, 0);
    png = dagan_grid_png(c, 1, 2, 6, 6, 3, images, 1, &size);
    mde_release(c, png);
    dagan_images_free(a);
    dagan_images_free(b);
    dagan_images_free(set);
    desc.path = FOLDER "/memory-images-idx3-ubyte";
    desc.size = 3;
    set = dagan_images_open(c, &desc);
    dagan_images_free(set);
    desc.path = FOLDER "/memory.npy";
    set = dagan_images_open(c, &desc);
    dagan_images_free(set);
    desc.path = FOLDER "/memory";
    desc.channels = 0;
    set = dagan_images_open(c, &desc);
    dagan_images_free(set);
    desc.path = FOLDER "/memory-array";
    set = dagan_images_open(c, &desc);
    dagan_images_free(set);
    (void)user;
}

static void any_allocation_may_fail(void)
{
    mde_context *c = start();
    const int shape[] = { 3, 2, 2 }, label[] = { 1, 0, 1 };
    float values[12] = { 0, 1, 0.5f };
    test_heap heap;
    long long held;
    write_idx(c, FOLDER "/memory-images-idx3-ubyte", 0x08, 3, shape, idx_values);
    write_idx(c, FOLDER "/memory-labels-idx1-ubyte", 0x08, 1, shape, label);
    write_npy(c, FOLDER "/memory.npy", 5, 3, 1, 2, 2, 1, values);
    mde_make_folder(c, FOLDER "/memory/a");
    write_text(c, FOLDER "/memory/a/0.pgm", "P2 1 1 5 4\n");
    write_text(c, FOLDER "/memory/a/1.ppm", "P3 2 1 1 1 0 0 0 0 0\n");
    mde_make_folder(c, FOLDER "/memory-array");
    write_npy(c, FOLDER "/memory-array/x.npy", 5, 3, 1, 2, 2, 1, values);
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
    CHECK(test_failing_allocations(use_everything, NULL, 2000) > 60);
    c = test_heap_context(&heap, 0);
    use_everything(c, NULL);
    held = heap.held;
    use_everything(c, NULL);    /* a second round adds nothing: all is freed but the arena's chunks */
    CHECK(mde_context_status(c) == MDE_OK && heap.held == held);
    mde_context_free(c);
}

/* ---- Real sets ---- */

/* The shared data, unpacked by gzip; 0 if there is none. */
static int unpack(mde_context *c, const char *folder, const char *file)
{
    const char *shared = getenv("MDEMIX_SHARED");
    char command[1000];
    if (!shared) shared = "../shared";
    if (strlen(shared) > 400) return 0;
    snprintf(command, sizeof command, "gzip -dc '%s/data/%s/%s.gz' > '%s/%s' 2> %s/errors", shared, folder, file,
             FOLDER, file, FOLDER);
    return mde_context_status(c) == MDE_OK && system(command) == 0;
}

static void omniglot_olivetti_and_mnist_have_their_classes_and_range(void)
{
    static const struct { const char *folder, *images, *labels; int classes, count, side, maximum; } sets[] = {
        { "omniglot", "omniglot28-background-images-idx3-ubyte", "omniglot28-background-labels-idx1-short", 964, 19280,
          28, 20 },
        { "olivetti", "olivetti-images-idx3-ubyte", "olivetti-labels-idx1-ubyte", 40, 400, 64, 10 },
        { "mnist", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 10, 10000, 28, 1135 },
    };
    mde_context *c = start();
    char path[200];
    size_t i;
    for (i = 0; i < sizeof sets / sizeof *sets; i++) {
        dagan_images *set;
        int k, maximum = 0;
        if (!unpack(c, sets[i].folder, sets[i].images) || !unpack(c, sets[i].folder, sets[i].labels)) {
            test_skip(sets[i].folder, "no such data in MDEMIX_SHARED or ../shared");
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", FOLDER, sets[i].images);
        set = open_file(c, path, NULL);
        CHECK(shape_is(set, sets[i].classes, sets[i].count, sets[i].side, sets[i].side, 1));
        for (k = 0; k < sets[i].classes; k++) {
            if (dagan_images_sample_count(set, k) > maximum) maximum = dagan_images_sample_count(set, k);
        }
        CHECK(maximum == sets[i].maximum);
        dagan_images_free(set);
        remove(path);
        snprintf(path, sizeof path, "%s/%s", FOLDER, sets[i].labels);
        remove(path);
    }
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

int main(void)
{
    TEST(classes_are_the_distinct_labels_in_ascending_order);
    TEST(questions_outside_a_set_are_answered_with_nothing);
    TEST(images_from_memory_are_checked);
    TEST(shares_of_classes_cut_the_list_without_gap_or_overlap);
    TEST(shuffling_is_a_permutation_that_depends_on_the_seed);
    TEST(samples_of_one_seed_are_disjoint_parts_and_stable);
    TEST(the_hash_sees_pixels_and_shape_but_not_where_they_lie);
    TEST(drawn_classes_depend_on_seed_and_number_alone);
    TEST(drawn_images_are_the_same_bits_everywhere);
    TEST(drawn_characters_are_as_hard_to_tell_apart_as_written_ones);
    TEST(the_drawn_set_has_sizes_channels_and_errors);
    TEST(idx_images_and_labels_of_every_type_are_read);
    TEST(labels_are_found_beside_the_images);
    TEST(classes_samples_size_channels_and_invert_apply_to_files);
    TEST(npy_images_of_three_shapes_are_read);
    TEST(the_range_of_npy_values_tells_their_unit);
    TEST(the_type_of_npy_numbers_decides_first);
    TEST(a_range_says_what_is_black_and_white);
    TEST(transposed_images_change_rows_and_columns);
    TEST(folders_of_parts_of_a_set_are_one_set);
    TEST(what_is_not_read_is_counted_and_named);
    TEST(bitmaps_are_read_plain_and_packed);
    TEST(bad_arrays_are_refused_in_words);
    TEST(every_form_of_pgm_and_ppm_is_read);
    TEST(bad_pictures_are_refused_by_name);
    TEST(folders_are_classes_at_any_depth);
    TEST(a_folder_of_mixed_images_has_one_size_and_colour_if_any_has);
    TEST(folders_nested_without_end_are_refused);
    TEST(resizing_takes_the_mean_over_the_area_of_a_pixel);
    TEST(damaged_files_are_refused_or_read_but_never_crash);
    TEST(no_augmentation_is_a_copy_and_draws_nothing);
    TEST(quarter_turns_and_flips_move_pixels_exactly);
    TEST(affine_augmentation_equals_bilinear_sampling_at_the_inverse_map);
    TEST(noise_has_its_deviation_and_stays_in_range);
    TEST(a_grid_shows_ink_dark_with_frames_and_gaps);
    TEST(any_allocation_may_fail);
    TEST(omniglot_olivetti_and_mnist_have_their_classes_and_range);
    return test_end();
}
