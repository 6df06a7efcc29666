/* dagan_show.h - made images as people look at them: beside the nearest image that the generator was trained on, and
   those that look like another class. For dagan_lab.c. */
#ifndef DAGAN_SHOW_H
#define DAGAN_SHOW_H
#include "dagan_screen.h"

/* A picture of SHOW_ROWS x SHOW_GROUPS triples of images with a gap between them. */
enum { SHOW_ROWS = 8, SHOW_GROUPS = 3, SHOW_TRIPLES = SHOW_ROWS * SHOW_GROUPS };

typedef struct show_triple { const float *of, *made, *other; double order; } show_triple;

static int show_compare(const void *a, const void *b)
{
    const show_triple *x = (const show_triple *)a, *y = (const show_triple *)b;
    return x->order < y->order ? -1 : x->order > y->order;
}

static void show_write(mde_context *c, const dagan_images *like, int count, const show_triple *t, const char *path)
{
    const float *cells[SHOW_ROWS * (4 * SHOW_GROUPS - 1)] = { NULL };
    int columns = 4 * SHOW_GROUPS - 1, rows = (count + SHOW_GROUPS - 1) / SHOW_GROUPS, height, width, channels, i;
    unsigned char *png;
    size_t size;
    dagan_images_shape(like, &height, &width, &channels);
    for (i = 0; i < count; i++) {
        const float **cell = cells + (i / SHOW_GROUPS) * columns + 4 * (i % SHOW_GROUPS);
        cell[0] = t[i].of;
        cell[1] = t[i].made;
        cell[2] = t[i].other;
    }
    png = dagan_grid_png(c, rows > 0 ? rows : 1, columns, height, width, channels, cells, 0, &size);
    if (png) mde_file_write(c, path, png, size);
    mde_release(c, png);
}

/* ---- Failures ---- */

/* Made images that the matcher gives to another class than that of the image they were made from, when it compares them
   with up to `shot` real images of every class of the set, the one they were made from among them: that image, the made
   one, and a real one of the class that it is taken for; the most mistaken ones first, one a class. `each` are made of
   the first image of every class, into made [classes, each, size]. found [classes]; returns how many; *right: the share
   of what was made that is given to its class. */
static int show_find_failures(dagan *g, dagan_matcher *m, const dagan_images *set, int shot, int each, uint64_t seed,
                              float *made, show_triple *found, double *right)
{
    mde_context *c;
    dagan_images *support = dagan_images_samples(set, 0, shot, 0);
    int classes = dagan_images_class_count(set), n = 0, k, i;
    int64_t good = 0;
    screen s;
    mde_mark mark;
    screen_candidate *ranked;
    float *from;
    dagan_shape(g, &c, NULL, NULL, NULL);
    mark = mde_arena_mark(c);
    s = screen_open(c, m, support);
    ranked = (screen_candidate *)mde_scratch(c, (size_t)each, sizeof *ranked);
    from = (float *)mde_scratch(c, (size_t)each, s.size * sizeof *from);
    for (k = 0; k < classes && mde_context_status(c) == MDE_OK; k++) {
        float *out = made + (size_t)k * (size_t)each * s.size;
        int worst = -1;
        for (i = 0; i < each; i++) {
            memcpy(from + (size_t)i * s.size, dagan_images_pixels(set, k, 0), s.size * sizeof *from);
        }
        dagan_generate(g, each, from, NULL, seed * 1000003 + (uint64_t)k, out);
        if (mde_context_status(c) == MDE_OK) screen_rank(&s, k, each, out, ranked);
        for (i = 0; i < each && mde_context_status(c) == MDE_OK; i++) {
            good += ranked[i].right;
            if (!ranked[i].right) worst = i;
        }
        if (worst < 0) continue;
        found[n].of = dagan_images_pixels(set, k, 0);
        found[n].made = out + (size_t)ranked[worst].index * s.size;
        found[n].other = dagan_images_pixels(set, ranked[worst].taken_for, 0);
        found[n++].order = ranked[worst].share;
    }
    *right = (double)good / ((double)classes * each);
    if (mde_context_status(c) == MDE_OK) qsort(found, (size_t)n, sizeof *found, show_compare);
    screen_close(&s);
    mde_arena_rewind(c, mark);
    dagan_images_free(support);
    return n;
}

/* They as a picture. */
static void show_failures(dagan *g, dagan_matcher *m, const dagan_images *set, int shot, int each, uint64_t seed,
                          const char *path, double *right)
{
    mde_context *c;
    mde_mark mark;
    size_t classes = (size_t)dagan_images_class_count(set);
    show_triple *found;
    float *made;
    int n;
    dagan_shape(g, &c, NULL, NULL, NULL);
    mark = mde_arena_mark(c);
    found = (show_triple *)mde_scratch(c, classes, sizeof *found);
    made = (float *)mde_scratch(c, classes * (size_t)each, screen_image_size(set) * sizeof *made);
    n = found && made ? show_find_failures(g, m, set, shot, each, seed, made, found, right) : 0;
    if (mde_context_status(c) == MDE_OK) show_write(c, set, n < SHOW_TRIPLES ? n : SHOW_TRIPLES, found, path);
    mde_arena_rewind(c, mark);
}

/* ---- Nearest images of the training ---- */

enum { SHOW_QUERIES = 96 };             /* made images, and as many real ones */

/* Queries go through all source images side by side. */
typedef struct show_search {
    const dagan_images *source;
    size_t size;
    const float *query[2 * SHOW_QUERIES], *found[2 * SHOW_QUERIES];
    double distance[2 * SHOW_QUERIES];
} show_search;

static void show_find(int64_t index, void *user)
{
    show_search *s = (show_search *)user;
    const float *q = s->query[index];
    double best = HUGE_VAL;
    for (int k = 0; k < dagan_images_class_count(s->source); k++) {
        for (int i = 0; i < dagan_images_sample_count(s->source, k); i++) {
            const float *x = dagan_images_pixels(s->source, k, i);
            double distance = screen_distance(s->size, q, x, best);
            if (distance < best) {
                best = distance;
                s->found[index] = x;
            }
        }
    }
    s->distance[index] = sqrt(best);
}

static int show_compare_distances(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Made images beside the image of the training that is nearest to them by pixels: were they copies of it, their
   distance would be far below that of real images of the same classes. medians[2]: of the made ones' distances and of
   those of the real images that they were made from. In the picture the latter, the made one, and the nearest. */
static void show_nearest(dagan *g, const dagan_images *source, const dagan_images *set, uint64_t seed, const char *path,
                         double medians[2])
{
    mde_context *c;
    show_search s;
    show_triple t[SHOW_TRIPLES];
    int classes = dagan_images_class_count(set), n = classes < SHOW_QUERIES ? classes : SHOW_QUERIES, k;
    mde_mark mark;
    float *from, *made;
    dagan_shape(g, &c, NULL, NULL, NULL);
    mark = mde_arena_mark(c);
    memset(&s, 0, sizeof s);
    s.source = source;
    s.size = screen_image_size(set);
    from = (float *)mde_scratch(c, (size_t)n, s.size * sizeof *from);
    made = (float *)mde_scratch(c, (size_t)n, s.size * sizeof *made);
    medians[0] = medians[1] = (double)NAN;
    for (k = 0; from && made && k < n; k++) {
        s.query[k] = made + (size_t)k * s.size;
        s.query[n + k] = dagan_images_pixels(set, (int)((int64_t)k * classes / n), 0);
        memcpy(from + (size_t)k * s.size, s.query[n + k], s.size * sizeof *from);
    }
    if (from && made && dagan_generate(g, n, from, NULL, seed, made) == MDE_OK) {
        mde_parallel_for(c, 2 * (int64_t)n, show_find, &s);
        for (k = 0; k < n && k < SHOW_TRIPLES; k++) {
            int at = n < SHOW_TRIPLES ? k : k * n / SHOW_TRIPLES;
            t[k].of = s.query[n + at];
            t[k].made = s.query[at];
            t[k].other = s.found[at];
        }
        show_write(c, set, k, t, path);
        for (k = 0; k < 2; k++) {
            qsort(s.distance + k * n, (size_t)n, sizeof *s.distance, show_compare_distances);
            medians[k] = (s.distance[k * n + (n - 1) / 2] + s.distance[k * n + n / 2]) / 2;
        }
    }
    mde_arena_rewind(c, mark);
}

#endif /* DAGAN_SHOW_H */
