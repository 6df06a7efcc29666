/* dagan_screen.h - of made images, those that a Matching Network gives to the right class among the few real images,
   and support sets in which made images count as much as pays. For dagan_lab.c.

   The network must have been trained on source classes alone. It knows nothing of the classes but their few real
   images, so that screening takes no more labels than the classifier has. */
#ifndef DAGAN_SCREEN_H
#define DAGAN_SCREEN_H

/* What a network says of images: the rows of a support set, `shot` for each of `way` classes. */
typedef struct screen {
    mde_context *c;
    dagan_matcher *m;
    int way, shot;
    size_t size, width;                 /* floats of an image, of an embedding */
    float *rows;                        /* [way shot, width] */
} screen;

typedef struct screen_candidate { double share; int right, index, taken_for; } screen_candidate;

static int screen_compare(const void *a, const void *b)
{
    const screen_candidate *x = (const screen_candidate *)a, *y = (const screen_candidate *)b;
    if (x->right != y->right) return y->right - x->right;
    if (x->share != y->share) return x->share < y->share ? 1 : -1;
    return x->index - y->index;
}

static size_t screen_image_size(const dagan_images *set)
{
    int height, width, channels;
    dagan_images_shape(set, &height, &width, &channels);
    return (size_t)height * (size_t)width * (size_t)channels;
}

/* Squared Euclidean distance of two images; one that reaches `limit` is not summed to its end. */
static double screen_distance(size_t size, const float *a, const float *b, double limit)
{
    double sum = 0;
    size_t i;
    for (i = 0; i < size && sum < limit; i++) sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sum;
}

/* The images of the set as its support: as many of each class as the smallest has. */
static screen screen_open(mde_context *c, dagan_matcher *m, const dagan_images *set)
{
    screen s;
    int k, i;
    float *pixels;
    memset(&s, 0, sizeof s);
    s.c = c;
    s.m = m;
    s.way = dagan_images_class_count(set);
    s.shot = dagan_images_sample_count(set, 0);
    for (k = 1; k < s.way; k++) {
        if (dagan_images_sample_count(set, k) < s.shot) s.shot = dagan_images_sample_count(set, k);
    }
    s.size = screen_image_size(set);
    s.width = (size_t)dagan_matcher_width(m);
    s.rows = (float *)mde_alloc(c, (size_t)s.way * (size_t)s.shot, s.width * sizeof *s.rows);
    pixels = (float *)mde_alloc(c, (size_t)s.shot, s.size * sizeof *pixels);
    for (k = 0; k < s.way && mde_context_status(c) == MDE_OK; k++) {
        for (i = 0; i < s.shot; i++) {
            memcpy(pixels + (size_t)i * s.size, dagan_images_pixels(set, k, i), s.size * sizeof *pixels);
        }
        dagan_matcher_embed(m, s.shot, pixels, s.rows + (size_t)k * (size_t)s.shot * s.width);
    }
    mde_release(c, pixels);
    return s;
}

static void screen_close(screen *s)
{
    if (s->rows) mde_release(s->c, s->rows);
    s->rows = NULL;
}

/* A matrix in the arena with those numbers. */
static mde_tensor *screen_matrix(mde_context *c, int64_t rows, size_t columns, const float *data)
{
    int64_t shape[2];
    mde_tensor *t;
    shape[0] = rows;
    shape[1] = (int64_t)columns;
    t = mde_tensor_create(c, 2, shape);
    if (t) memcpy(t->data, data, t->count * sizeof *data);
    return t;
}

/* The candidates of a class, [count] images, best first: those that are given to it, by its share of the attention. */
static void screen_rank(const screen *s, int class_index, int count, const float *images, screen_candidate *ranked)
{
    mde_mark mark = mde_arena_mark(s->c);
    float *rows = (float *)mde_scratch(s->c, (size_t)count, s->width * sizeof *rows);
    mde_tensor *support, *logits;
    int i, k, recording = mde_set_recording(s->c, 0);
    if (rows) dagan_matcher_embed(s->m, count, images, rows);
    support = rows ? screen_matrix(s->c, (int64_t)s->way * s->shot, s->width, s->rows) : NULL;
    logits = support ? dagan_matcher_logits(s->m, support, screen_matrix(s->c, count, s->width, rows), s->way) : NULL;
    for (i = 0; logits && i < count; i++) {
        const float *row = logits->data + (size_t)i * (size_t)s->way;
        double own = (double)row[class_index], sum = 0;
        ranked[i].index = i;
        ranked[i].taken_for = class_index;
        for (k = 0; k < s->way; k++) {
            sum += exp((double)row[k] - own);
            if (k == class_index) continue;
            if (row[k] > row[ranked[i].taken_for] ||
                (ranked[i].taken_for == class_index && row[k] == row[class_index])) ranked[i].taken_for = k;
        }
        ranked[i].right = ranked[i].taken_for == class_index;
        ranked[i].share = 1 / sum;
    }
    if (logits) qsort(ranked, (size_t)count, sizeof *ranked, screen_compare);
    mde_set_recording(s->c, recording);
    mde_arena_rewind(s->c, mark);
}

/* Made images of the classes of `real`, at most `each` a real image: more are made, of which the share `kept` is taken,
   best first, none that is given to another class; of a class without any, the best one. kept 1: all, as they come.
   *right: the share of what was made that is given to its class; may be NULL. */
static dagan_images *screen_make(dagan *g, dagan_matcher *m, const dagan_images *real, int each, double kept,
                                 uint64_t seed, double *right)
{
    mde_context *c;
    dagan_images *made, *out = NULL;
    screen s;
    screen_candidate *ranked;
    float *pixels, *of_class;
    int *labels, k, i, all = (int)ceil(each / kept - 1e-9), largest = 0, height, width, channels;
    int64_t count = 0, good = 0;
    if (right) *right = (double)NAN;
    dagan_shape(g, &c, &height, &width, &channels);
    made = dagan_make(g, real, kept < 1 ? all : each, seed);
    if (!made || !(kept < 1)) return made;
    s = screen_open(c, m, real);
    for (k = 0; k < s.way; k++) {
        if (dagan_images_sample_count(made, k) > largest) largest = dagan_images_sample_count(made, k);
    }
    pixels = (float *)mde_alloc(c, (size_t)dagan_images_count(real) * (size_t)each, s.size * sizeof *pixels);
    labels = (int *)mde_alloc(c, (size_t)dagan_images_count(real) * (size_t)each, sizeof *labels);
    of_class = (float *)mde_alloc(c, (size_t)largest, s.size * sizeof *of_class);
    ranked = (screen_candidate *)mde_alloc(c, (size_t)largest, sizeof *ranked);
    for (k = 0; k < s.way && mde_context_status(c) == MDE_OK; k++) {
        int candidates = dagan_images_sample_count(made, k), wanted = dagan_images_sample_count(real, k) * each;
        for (i = 0; i < candidates; i++) {
            memcpy(of_class + (size_t)i * s.size, dagan_images_pixels(made, k, i), s.size * sizeof *of_class);
        }
        screen_rank(&s, k, candidates, of_class, ranked);
        for (i = 0; i < candidates; i++) good += ranked[i].right;
        for (i = 0; i < wanted && (i == 0 || ranked[i].right); i++, count++) {
            memcpy(pixels + (size_t)count * s.size, of_class + (size_t)ranked[i].index * s.size,
                   s.size * sizeof *pixels);
            labels[count] = k;
        }
    }
    if (right) *right = (double)good / (double)dagan_images_count(made);
    if (mde_context_status(c) == MDE_OK) out = dagan_images_from(c, count, height, width, channels, pixels, labels);
    mde_release(c, ranked);
    mde_release(c, of_class);
    mde_release(c, labels);
    mde_release(c, pixels);
    screen_close(&s);
    dagan_images_free(made);
    return out;
}

/* ---- Support sets with made images ---- */

/* Weights of the made images of a support image together, against 1 of the image itself. */
enum { SCREEN_WEIGHTS = 6, SCREEN_POOL = 8 };
static const double screen_weights[SCREEN_WEIGHTS] = { 0, 0.05, 0.1, 0.25, 0.5, 1 };

/* Embeddings of at most `limit` images a class and of SCREEN_POOL made ones of each. */
typedef struct screen_gallery {
    mde_context *c;
    dagan_matcher *m;
    const dagan_images *set;
    int limit;
    size_t width;
    float *real, *made;                 /* [classes, limit, width], [classes, limit, SCREEN_POOL, width] */
} screen_gallery;

static screen_gallery screen_gallery_open(dagan *g, dagan_matcher *m, const dagan_images *set, int limit, uint64_t seed)
{
    screen_gallery y;
    int classes = dagan_images_class_count(set), k, i, j;
    size_t size = screen_image_size(set), images = (size_t)classes * (size_t)limit;
    float *from, *made;
    memset(&y, 0, sizeof y);
    dagan_shape(g, &y.c, NULL, NULL, NULL);
    y.m = m;
    y.set = set;
    y.limit = limit;
    y.width = (size_t)dagan_matcher_width(m);
    y.real = (float *)mde_alloc(y.c, images, y.width * sizeof *y.real);
    y.made = (float *)mde_alloc(y.c, images * SCREEN_POOL, y.width * sizeof *y.made);
    from = (float *)mde_alloc(y.c, SCREEN_POOL, size * sizeof *from);
    made = (float *)mde_alloc(y.c, SCREEN_POOL, size * sizeof *made);
    for (k = 0; k < classes; k++) {
        for (i = 0; i < limit && i < dagan_images_sample_count(set, k) && mde_context_status(y.c) == MDE_OK; i++) {
            size_t at = (size_t)k * (size_t)limit + (size_t)i;
            for (j = 0; j < SCREEN_POOL; j++) {
                memcpy(from + (size_t)j * size, dagan_images_pixels(set, k, i), size * sizeof *from);
            }
            dagan_matcher_embed(m, 1, from, y.real + at * y.width);
            dagan_generate(g, SCREEN_POOL, from, NULL, seed * 1000003 + at, made);
            dagan_matcher_embed(m, SCREEN_POOL, made, y.made + at * SCREEN_POOL * y.width);
        }
    }
    mde_release(y.c, made);
    mde_release(y.c, from);
    return y;
}

static void screen_gallery_close(screen_gallery *y)
{
    mde_release(y->c, y->real);
    mde_release(y->c, y->made);
}

static int screen_samples(const screen_gallery *y, int class_index)
{
    int samples = dagan_images_sample_count(y->set, class_index);
    return samples < y->limit ? samples : y->limit;
}

/* One episode with one query a class; hits[w] are those of the weight of that number. A made image counts as much as
   the attention gives it to its own class, so that one that looks like another class counts for little. */
static void screen_episode(const screen_gallery *y, int way, int shot, mde_random r, int *urn, int hits[SCREEN_WEIGHTS])
{
    mde_context *c = y->c;
    mde_mark mark = mde_arena_mark(c);
    size_t width = y->width, row = width * sizeof(float);
    int64_t items = (int64_t)way * shot, i, k, q;
    int classes = dagan_images_class_count(y->set), w;
    int *chosen = (int *)mde_scratch(c, (size_t)way, sizeof *chosen);
    float *support = (float *)mde_scratch(c, (size_t)items, row), *query = (float *)mde_scratch(c, (size_t)way, row);
    float *made = (float *)mde_scratch(c, (size_t)items * SCREEN_POOL, row);
    mde_tensor *rows, *queries, *candidates, *of_real, *of_made, *shares;
    memset(hits, 0, SCREEN_WEIGHTS * sizeof *hits);
    if (!chosen || !support || !query || !made) return;
    mde_random_draw(&r, classes, way, urn);
    memcpy(chosen, urn, (size_t)way * sizeof *chosen);
    for (k = 0; k < way; k++) {
        mde_random_draw(&r, screen_samples(y, chosen[k]), shot + 1, urn);
        for (i = 0; i <= shot; i++) {
            size_t at = (size_t)chosen[k] * (size_t)y->limit + (size_t)urn[i], to = (size_t)(k * shot + i);
            if (i == shot) memcpy(query + (size_t)k * width, y->real + at * width, row);
            if (i == shot) break;
            memcpy(support + to * width, y->real + at * width, row);
            memcpy(made + to * SCREEN_POOL * width, y->made + at * SCREEN_POOL * width, SCREEN_POOL * row);
        }
    }
    rows = screen_matrix(c, items, width, support);
    queries = screen_matrix(c, way, width, query);
    candidates = screen_matrix(c, items * SCREEN_POOL, width, made);
    of_real = dagan_matcher_logits(y->m, rows, queries, way);
    of_made = dagan_matcher_logits(y->m, candidates, queries, items * SCREEN_POOL);     /* each for itself */
    shares = mde_softmax(c, dagan_matcher_logits(y->m, rows, candidates, way));
    for (q = 0; of_real && of_made && shares && q < way; q++) {
        for (w = 0; w < SCREEN_WEIGHTS; w++) {
            double best = -1;
            int64_t found = -1;
            for (k = 0; k < way; k++) {
                double sum = exp((double)of_real->data[q * way + k]), more = 0;
                for (i = k * shot * SCREEN_POOL; i < (k + 1) * shot * SCREEN_POOL; i++) {
                    more += (double)shares->data[i * way + k] * exp((double)of_made->data[q * items * SCREEN_POOL + i]);
                }
                sum += screen_weights[w] / (double)SCREEN_POOL * more;
                if (sum > best) {
                    best = sum;
                    found = k;
                }
            }
            hits[w] += found == q;
        }
    }
    mde_arena_rewind(c, mark);
}

/* Accuracy by each weight, of the same episodes; gain and error, [weights]: over none, and its standard error. */
static void screen_accuracy(const screen_gallery *y, int way, int shot, int64_t episodes, uint64_t seed,
                            double accuracy[SCREEN_WEIGHTS], double gain[SCREEN_WEIGHTS], double error[SCREEN_WEIGHTS])
{
    mde_mark mark = mde_arena_mark(y->c);
    int largest = dagan_images_class_count(y->set), recording = mde_set_recording(y->c, 0), w;
    int *urn = (int *)mde_scratch(y->c, (size_t)(largest > y->limit ? largest : y->limit), sizeof *urn);
    double squares[SCREEN_WEIGHTS] = { 0 };
    int64_t e;
    for (w = 0; w < SCREEN_WEIGHTS; w++) accuracy[w] = gain[w] = error[w] = 0;
    for (e = 0; urn && e < episodes && mde_context_status(y->c) == MDE_OK; e++) {
        int hits[SCREEN_WEIGHTS];
        screen_episode(y, way, shot, mde_random_start(seed, UINT64_C(0x5c3e) << 40 | (uint64_t)e), urn, hits);
        for (w = 0; w < SCREEN_WEIGHTS; w++) {
            double more = (double)(hits[w] - hits[0]) / way;
            accuracy[w] += (double)hits[w] / way / (double)episodes;
            gain[w] += more / (double)episodes;
            squares[w] += more * more / (double)episodes;
        }
    }
    for (w = 0; w < SCREEN_WEIGHTS; w++) {
        double variance = squares[w] - gain[w] * gain[w];
        error[w] = sqrt((variance > 0 ? variance : 0) / (double)episodes);
    }
    mde_set_recording(y->c, recording);
    mde_arena_rewind(y->c, mark);
}

#endif /* DAGAN_SCREEN_H */
