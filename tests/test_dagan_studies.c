/* Classifier, Matching Network, selector of z, quality of made images. */
#define DAGAN_IMPLEMENTATION
#include "../dagan.h"
#include "../examples/dagan_quality.h"
#include "../examples/dagan_show.h"
#include "test.h"

/* ---- Helpers ---- */

static mde_context *start(void)
{
    mde_context_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.threads = 1;
    return mde_context_create(&desc);
}

static void finish(mde_context *c)
{
    CHECK(*mde_error(c) == 0);
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

static void refused(mde_context *c, const char *part)
{
    CHECK(mde_context_status(c) != MDE_OK);
    CHECK_TEXT(mde_error(c), part);
    mde_clear_error(c);
}

static dagan *small_generator(mde_context *c, const dagan_images *like, int noise)
{
    dagan_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.preset = DAGAN_QUICK;
    desc.noise = noise;
    desc.levels = 2;
    desc.generator[0] = 3;
    desc.generator[1] = 4;
    desc.critic[0] = 3;
    desc.critic[1] = 3;
    desc.seed = 9;
    return dagan_create(c, like, &desc);
}

static dagan_classifier_desc small_classifier(void)
{
    dagan_classifier_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.growth_rate = 6;
    desc.layers = 2;
    desc.blocks = 3;
    desc.dropout = 0.1;
    desc.seed = 4;
    return desc;
}

static uint64_t params_hash(const mde_params *p)
{
    uint64_t hash = 1;
    int i;
    size_t k;
    for (i = 0; i < mde_params_count(p); i++) {
        const mde_tensor *t = mde_params_tensor(p, i);
        for (k = 0; k < t->count; k++) {
            uint32_t bits;
            memcpy(&bits, t->data + k, sizeof bits);
            hash = (hash ^ bits) * UINT64_C(0x100000001b3);
        }
    }
    return hash;
}

static mde_tensor *random_matrix(mde_context *c, int64_t rows, int64_t columns, uint64_t seed)
{
    mde_tensor *t = dagan__matrix(c, rows, columns);
    dagan__normals(mde_random_start(seed, 77), t->count, t->data);
    return t;
}

static int count_steps(const mde_progress *p, void *user)
{
    int64_t *seen = (int64_t *)user;
    seen[0]++;
    seen[1] = p->step;
    seen[2] = p->steps;
    return 0;
}

static int stop_at_once(const mde_progress *p, void *user)
{
    *(const char **)user = p->stage;
    return 1;
}

/* ---- Classifier ---- */

static void classifier_has_the_shapes_that_its_description_says(void)
{
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, 7, 3, 13, 1);
    dagan_classifier_desc desc = small_classifier();
    dagan_classifier *k = dagan_classifier_create(c, set, &desc);
    mde_params *p = dagan_classifier_params(k);
    mde_tensor *hidden = mde_params_find(p, "hidden.weight"), *output = mde_params_find(p, "output.weight");
    mde_tensor *stem = mde_params_find(p, "stem.weight"), *down = mde_params_find(p, "block0.down.weight");
    mde_tensor *x = dagan__batch(c, dagan__size_of(set), 5, NULL), *logits;
    CHECK(stem && stem->shape[2] == 1 && stem->shape[3] == 12);
    CHECK(mde_params_find(p, "block0.conv1.weight") && mde_params_find(p, "block0.conv1.weight")->shape[2] == 18);
    CHECK(down && down->shape[2] == 24 && down->shape[3] == 12);
    CHECK(hidden && hidden->shape[0] == 24 + 2);        /* 12 + 2 x 6 again and again, and the flag */
    CHECK(output && output->shape[1] == 7);
    logits = dagan__classifier_apply(k, x, 5, 0, 0, 0);
    CHECK(logits && logits->rank == 2 && logits->shape[0] == 5 && logits->shape[1] == 7);
    desc.no_flag = 1;
    desc.classes = 11;
    k = dagan_classifier_create(c, set, &desc);
    p = dagan_classifier_params(k);
    CHECK(mde_params_find(p, "hidden.weight")->shape[0] == 24);
    CHECK(mde_params_find(p, "output.weight")->shape[1] == 11);
    finish(c);
}

static void the_flag_reaches_the_output_unless_it_is_left_out(void)
{
    int no_flag;
    for (no_flag = 0; no_flag < 2; no_flag++) {
        mde_context *c = start();
        dagan_images *set = dagan_images_draw(c, 4, 2, 12, 1);
        dagan_classifier_desc desc = small_classifier();
        dagan_classifier *k;
        const float *images[2];
        mde_tensor *x, *real, *made;
        size_t i, different = 0;
        desc.no_flag = no_flag;
        k = dagan_classifier_create(c, set, &desc);
        images[0] = dagan_images_pixels(set, 0, 0);
        images[1] = dagan_images_pixels(set, 1, 0);
        x = dagan__batch(c, dagan__size_of(set), 2, images);
        real = dagan__classifier_apply(k, x, 2, 0, 0, 0);
        made = dagan__classifier_apply(k, x, 1, 0, 0, 0);
        for (i = 0; i < 8; i++) different += real->data[i] != made->data[i];
        CHECK(different == (no_flag ? 0u : 4u));        /* the second image alone */
        for (i = 0; i < 4; i++) CHECK(real->data[i] == made->data[i]);
        finish(c);
    }
}

/* d loss along a random direction of each parameter against central differences. */
static void check_gradients(mde_context *c, mde_params *p, mde_tensor *(*loss_of)(void *user), void *user)
{
    int i;
    size_t k;
    mde_mark mark = mde_arena_mark(c);
    mde_params_zero_grad(p);
    mde_backward(c, loss_of(user));
    mde_arena_rewind(c, mark);
    for (i = 0; i < mde_params_count(p); i++) {
        mde_tensor *t = mde_params_tensor(p, i);
        float *direction = (float *)malloc(t->count * sizeof *direction);
        float *was = (float *)malloc(t->count * sizeof *was);
        double slope = 0, value[2], norm = 0, step = 5e-4;
        int side, agrees;
        if (t->requires_grad) {
            mde_random r = mde_random_start(5, (uint64_t)i);
            for (k = 0; k < t->count; k++) {
                direction[k] = (float)mde_random_normal(&r);
                norm += (double)direction[k] * (double)direction[k];
            }
            for (k = 0; k < t->count; k++) {
                direction[k] = (float)((double)direction[k] / sqrt(norm));
                slope += (double)direction[k] * (double)t->grad[k];
            }
            memcpy(was, t->data, t->count * sizeof *was);
            for (side = 0; side < 2; side++) {
                mark = mde_arena_mark(c);
                for (k = 0; k < t->count; k++) {
                    t->data[k] = (float)((double)was[k] + (side ? -step : step) * (double)direction[k]);
                }
                value[side] = mde_item(loss_of(user));
                mde_arena_rewind(c, mark);
            }
            memcpy(t->data, was, t->count * sizeof *was);
            agrees = fabs((value[0] - value[1]) / (2 * step) - slope) <= 2e-3 + 0.02 * fabs(slope);
            CHECK(agrees);
            if (!agrees) {
                printf("    %s: slope %.6f, by differences %.6f\n", mde_params_name(p, i), slope,
                       (value[0] - value[1]) / (2 * step));
            }
        }
        free(direction);
        free(was);
    }
}

typedef struct classifier_case { dagan_classifier *k; const dagan_images *set; } classifier_case;

static mde_tensor *classifier_loss(void *user)
{
    const classifier_case *one = (const classifier_case *)user;
    static const int32_t labels[6] = { 0, 1, 2, 0, 1, 2 };
    const float *images[6];
    mde_context *c = one->k->context;
    int i;
    for (i = 0; i < 6; i++) images[i] = dagan_images_pixels(one->set, i % 3, i / 3);
    return mde_mean(c, mde_cross_entropy(c, dagan__classifier_apply(one->k, dagan__batch(c,
                    dagan__size_of(one->set), 6, images), 4, 1, 3, 2), labels));
}

static void classifier_gradients_agree_with_differences(void)
{
    mde_context *c = start();
    classifier_case one;
    dagan_classifier_desc desc = small_classifier();
    desc.growth_rate = 3;
    desc.blocks = 2;
    one.set = dagan_images_draw(c, 3, 2, 10, 2);
    one.k = dagan_classifier_create(c, one.set, &desc);
    check_gradients(c, dagan_classifier_params(one.k), classifier_loss, &one);
    finish(c);
}

static void classifier_learns_the_drawn_set(void)
{
    mde_context *c = start();
    dagan_images *all = dagan_images_draw(c, 10, 12, 16, 3);
    dagan_images *train = dagan_images_samples(all, 0, 6, 1), *test = dagan_images_samples(all, 6, 0, 1);
    dagan_classifier_desc desc = small_classifier();
    dagan_classifier *k = dagan_classifier_create(c, train, &desc);
    dagan_fit_desc fit;
    double before = dagan_classifier_accuracy(k, test), after;
    int64_t seen[3] = { 0, 0, 0 };
    memset(&fit, 0, sizeof fit);
    fit.steps = 120;
    fit.batch = 24;
    fit.learning_rate = 3e-3;
    fit.augment.shift = 1;
    fit.augment.rotate = 10;
    fit.progress = count_steps;
    fit.user = seen;
    CHECK(dagan_classifier_train(k, train, &fit) == MDE_OK);
    after = dagan_classifier_accuracy(k, test);
    CHECK(before < 0.35);
    CHECK(after > 0.6);
    CHECK(dagan_classifier_accuracy(k, train) >= after - 0.05);
    CHECK(seen[0] >= 2 && seen[1] == 120 && seen[2] == 120);
    finish(c);
}

static void made_images_take_their_share_of_a_batch(void)
{
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, 4, 3, 12, 1), *made = dagan_images_draw(c, 4, 5, 12, 2);
    dagan_classifier_desc desc = small_classifier();
    dagan__fit f;
    int i, of_made = 0;
    size_t size = 12 * 12;
    mde_tensor *x;
    memset(&f, 0, sizeof f);
    f.k = dagan_classifier_create(c, set, &desc);
    f.desc.made = made;
    f.desc.batch = 10;
    f.desc.made_share = 0.3;
    f.desc.steps = 5;
    CHECK(dagan__fit_resolve(&f));
    CHECK(f.reals == 7);
    dagan__deck_open(c, set, 1, DAGAN__OF_REAL_ORDER, &f.real);
    dagan__deck_open(c, made, 1, DAGAN__OF_MADE_ORDER, &f.made);
    f.images = (const float **)mde_alloc(c, 10, sizeof *f.images);
    f.labels = (int32_t *)mde_alloc(c, 10, sizeof *f.labels);
    x = dagan__batch(c, f.k->size, 10, NULL);
    f.pixels = x->data;
    f.step = 3;
    dagan__fit_draw(&f);
    for (i = 0; i < 10; i++) {
        const dagan_images *from = i < 7 ? set : made;
        int j, found = 0;
        for (j = 0; j < dagan_images_sample_count(from, f.labels[i]); j++) {
            found |= dagan_images_pixels(from, f.labels[i], j) == f.images[i];
        }
        CHECK(found);
        CHECK(memcmp(f.images[i], x->data + (size_t)i * size, size * sizeof(float)) == 0);
        of_made += i >= 7;
    }
    CHECK(of_made == 3);
    finish(c);
}

static void every_image_is_drawn_once_a_pass_whatever_was_drawn_before(void)
{
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, 5, 3, 8, 1);
    dagan__deck a, b;
    int seen[3][15];
    int64_t i;
    memset(seen, 0, sizeof seen);
    dagan__deck_open(c, set, 8, DAGAN__OF_REAL_ORDER, &a);
    dagan__deck_open(c, set, 8, DAGAN__OF_REAL_ORDER, &b);
    for (i = 0; i < 45; i++) seen[i / 15][dagan__deck_at(&a, i)]++;
    for (i = 0; i < 45; i++) CHECK(seen[i / 15][i % 15] == 1);
    CHECK(dagan__deck_at(&b, 37) == dagan__deck_at(&a, 37));
    CHECK(dagan__deck_at(&b, 3) == dagan__deck_at(&a, 3));
    finish(c);
}

/* ---- Matching Network ---- */

static double cosine(const float *a, const float *b, int64_t n)
{
    double ab = 0, aa = 1e-12, bb = 1e-12;
    int64_t i;
    for (i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return ab / sqrt(aa * bb);
}

static void attention_agrees_with_its_formula(void)
{
    enum { WAY = 4, ITEMS = 3, QUERIES = 5 };
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, 4, 4, 8, 1);
    dagan_matcher_desc desc;
    dagan_matcher *m;
    mde_tensor *support, *queries, *shares;
    double scale;
    int q, k, i;
    memset(&desc, 0, sizeof desc);
    desc.filters = 6;
    m = dagan_matcher_create(c, set, &desc);
    support = random_matrix(c, WAY * ITEMS, 6, 1);
    queries = random_matrix(c, QUERIES, 6, 2);
    shares = mde_softmax(c, dagan_matcher_logits(m, support, queries, WAY));
    scale = exp((double)mde_params_find(dagan_matcher_params(m), "log_scale")->data[0]);
    CLOSE(scale, 10, 1e-6);
    for (q = 0; q < QUERIES; q++) {
        double part[WAY], sum = 0;
        for (k = 0; k < WAY; k++) {
            part[k] = 0;
            for (i = 0; i < ITEMS; i++) {
                part[k] += exp(scale * cosine(queries->data + 6 * q, support->data + 6 * (k * ITEMS + i), 6));
            }
            sum += part[k];
        }
        for (k = 0; k < WAY; k++) CLOSE(shares->data[q * WAY + k], part[k] / sum, 1e-5);
    }
    finish(c);
}

static void log_sum_exp_does_not_overflow(void)
{
    mde_context *c = start();
    static const float values[8] = { 500, 499, -500, -501, 0, 0, 3, -300 };
    static const int64_t shape[3] = { 2, 2, 2 };
    mde_tensor *x = mde_tensor_from(c, 3, shape, values), *y = dagan__log_sum_exp(c, x);
    CLOSE(y->data[0], 500 + log1p(exp(-1.0)), 1e-6);
    CLOSE(y->data[1], -500 + log1p(exp(-1.0)), 1e-6);
    CLOSE(y->data[2], log(2.0), 1e-6);
    CLOSE(y->data[3], 3, 1e-6);
    finish(c);
}

static double squash(double x)
{
    return 1 / (1 + exp(-x));
}

static void lstm_agrees_with_its_formula(void)
{
    enum { N = 5, W = 3 };
    mde_context *c = start();
    mde_params *p = mde_params_create(c, 2);
    dagan__lstm lstm;
    mde_tensor *x, *y;
    int backward, t, i, j;
    dagan__lstm_make(p, "lstm", W, &lstm);
    for (i = 0; i < 4 * W; i++) lstm.bias->data[i] = 0.1f * (float)(i - 5);
    x = random_matrix(c, N, W, 3);
    for (backward = 0; backward < 2; backward++) {
        double state[W] = { 0, 0, 0 }, cell[W] = { 0, 0, 0 };
        y = dagan__lstm_apply(c, &lstm, x, backward);
        for (t = 0; t < N; t++) {
            int at = backward ? N - 1 - t : t;
            double a[4 * W];
            for (i = 0; i < 4 * W; i++) {
                a[i] = (double)lstm.bias->data[i];
                for (j = 0; j < W; j++) {
                    a[i] += (double)x->data[at * W + j] * (double)lstm.input->data[j * 4 * W + i];
                    a[i] += state[j] * (double)lstm.state->data[j * 4 * W + i];
                }
            }
            for (i = 0; i < W; i++) {
                cell[i] = squash(a[W + i]) * cell[i] + squash(a[i]) * tanh(a[3 * W + i]);
                state[i] = squash(a[2 * W + i]) * tanh(cell[i]);
                CLOSE(y->data[at * W + i], state[i], 1e-5);
            }
        }
    }
    finish(c);
}

static mde_tensor *matcher_loss(void *user)
{
    return dagan__episode_loss((dagan__matching *)user, 6);
}

static void matcher_gradients_agree_with_differences(void)
{
    int kind;
    for (kind = 0; kind < 3; kind++) {          /* plain, full context, selector */
        mde_context *c = start();
        dagan_images *set = dagan_images_draw(c, 6, 5, 12, 2);
        dagan_matcher_desc desc;
        dagan__matching run;
        memset(&desc, 0, sizeof desc);
        memset(&run, 0, sizeof run);
        desc.filters = 5;
        desc.full_context = kind == 1;
        run.m = dagan_matcher_create(c, set, &desc);
        run.desc.way = 3;
        run.desc.shot = 2;
        run.desc.queries = 2;
        run.desc.seed = 8;
        if (kind == 2) {
            run.desc.generator = small_generator(c, set, 3);
            run.desc.selector = 1;
            run.desc.made = 2;
            CHECK(dagan__selector_make(run.m, 3));
            CHECK(dagan__freeze(c, dagan_generator_params(run.desc.generator)) != NULL);
        }
        CHECK(dagan__episode_resolve(run.m, "test", set, 10, &run.desc));
        CHECK(dagan__episode_open(c, set, &run.desc, 1, &run.episode));
        run.targets = (int32_t *)mde_alloc(c, 6, sizeof *run.targets);
        if (kind == 2) {
            /* The embedding that the selector sees is a constant to the embedding's parameters, so they are checked
               with a selector that ignores it. */
            memset(run.m->selector[0].weight->data, 0, run.m->selector[0].weight->count * sizeof(float));
            dagan__normals(mde_random_start(1, 1), run.m->selector[0].bias->count, run.m->selector[0].bias->data);
            dagan__normals(mde_random_start(1, 2), run.m->selector[1].bias->count, run.m->selector[1].bias->data);
        }
        check_gradients(c, dagan_matcher_params(run.m), matcher_loss, &run);
        finish(c);
    }
}

static void selected_noise_follows_its_formula(void)
{
    enum { N = 3, EACH = 2, NOISE = 4 };
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, 4, 4, 8, 1);
    dagan_matcher_desc desc;
    dagan_matcher *m;
    mde_tensor *e, *normals, *z;
    int i, j, k, h;
    memset(&desc, 0, sizeof desc);
    desc.filters = 3;
    m = dagan_matcher_create(c, set, &desc);
    CHECK(dagan__selector_make(m, NOISE));
    for (i = 0; i < 4; i++) {
        mde_tensor *t = i % 2 ? m->selector[i / 2].bias : m->selector[i / 2].weight;
        dagan__normals(mde_random_start(3, (uint64_t)i), t->count, t->data);
    }
    e = random_matrix(c, N, 3, 1);
    normals = random_matrix(c, N * EACH, NOISE, 2);
    z = dagan__select(m, e, normals, EACH);
    for (i = 0; i < N * EACH; i++) {
        for (j = 0; j < NOISE; j++) {
            double out[2], x;
            for (k = 0; k < 2; k++) {
                out[k] = (double)m->selector[1].bias->data[k * NOISE + j];
                for (h = 0; h < DAGAN__SELECTOR_HIDDEN; h++) {
                    double hidden = (double)m->selector[0].bias->data[h];
                    int w;
                    for (w = 0; w < 3; w++) {
                        hidden += (double)e->data[i / EACH * 3 + w] *
                                  (double)m->selector[0].weight->data[w * DAGAN__SELECTOR_HIDDEN + h];
                    }
                    if (hidden < 0) hidden *= DAGAN__SLOPE;
                    out[k] += hidden * (double)m->selector[1].weight->data[h * 2 * NOISE + k * NOISE + j];
                }
            }
            x = out[0] + exp(tanh(out[1])) * (double)normals->data[i * NOISE + j];
            CLOSE(z->data[i * NOISE + j], 2 * tanh(x / 2), 2e-5);
            CHECK(fabs((double)z->data[i * NOISE + j]) <= 2);
        }
    }
    finish(c);
}

static void episodes_hold_different_classes_and_samples(void)
{
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, 5, 6, 8, 1);
    dagan_episode_desc d;
    dagan__episode e;
    int64_t k;
    int i, j, n, rotated = 0;
    memset(&d, 0, sizeof d);
    d.way = 5;
    d.shot = 2;
    d.queries = 4;
    dagan__episode_open(c, set, &d, 1, &e);
    for (k = 0; k < 50; k++) {
        dagan__episode_draw(&e, mde_random_start(1, (uint64_t)k));
        for (i = 0; i < 5; i++) {
            int mask = 0;
            for (j = 0; j < i; j++) CHECK(e.classes[i] != e.classes[j] || e.quarters[i] != e.quarters[j]);
            for (n = 0; n < 6; n++) mask |= 1 << e.samples[i * 6 + n];
            CHECK(mask == 63);
            rotated += e.quarters[i] > 0;
        }
    }
    CHECK(rotated > 150 && rotated < 225);        /* three quarters of 250 */
    finish(c);
}

static void matcher_learns_to_learn(void)
{
    mde_context *c = start();
    dagan_images *all = dagan_images_draw(c, 60, 8, 16, 5);
    dagan_images *source = dagan_images_classes(all, 0, 0.7), *target = dagan_images_classes(all, 0.7, 1);
    dagan_matcher_desc desc;
    dagan_episode_desc train, test;
    dagan_matcher *m;
    double accuracy, error, loose;
    memset(&desc, 0, sizeof desc);
    memset(&train, 0, sizeof train);
    memset(&test, 0, sizeof test);
    desc.filters = 16;
    m = dagan_matcher_create(c, source, &desc);
    CHECK(dagan_matcher_width(m) == 16);
    train.episodes = 120;
    train.way = 10;
    train.queries = 3;
    train.learning_rate = 3e-3;
    CHECK(dagan_matcher_train(m, source, &train) == MDE_OK);
    test.episodes = 100;
    test.way = 10;
    accuracy = dagan_matcher_accuracy(m, target, &test, &error);
    CHECK(accuracy > 0.6);
    CHECK(error > 0.002 && error < 0.05);
    test.shot = 5;
    loose = dagan_matcher_accuracy(m, target, &test, NULL);
    CHECK(loose > accuracy);
    finish(c);
}

/* One-shot trials by hand, in double, from the public embeddings. */
static void accuracy_agrees_with_the_nearest_support_image(void)
{
    enum { WAY = 6, EPISODES = 20 };
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, 9, 4, 12, 5);
    dagan_matcher_desc desc;
    dagan_episode_desc d;
    dagan__episode e;
    dagan_matcher *m;
    float rows[2 * WAY][8];
    double accuracy;
    int episode, i, j, right = 0;
    memset(&desc, 0, sizeof desc);
    memset(&d, 0, sizeof d);
    desc.filters = 8;
    m = dagan_matcher_create(c, set, &desc);
    d.way = WAY;
    d.shot = d.queries = 1;
    d.episodes = EPISODES;
    d.seed = 3;
    accuracy = dagan_matcher_accuracy(m, set, &d, NULL);
    dagan__episode_open(c, set, &d, 0, &e);
    for (episode = 0; episode < EPISODES; episode++) {
        dagan__episode_draw(&e, dagan__random(3, DAGAN__OF_TEST_EPISODE, episode));
        for (i = 0; i < WAY; i++) {
            for (j = 0; j < 2; j++) {
                dagan_matcher_embed(m, 1, dagan_images_pixels(set, e.classes[i], e.samples[2 * i + j]),
                                    rows[j * WAY + i]);
            }
        }
        for (i = 0; i < WAY; i++) {
            int best = 0;
            for (j = 1; j < WAY; j++) {
                if (cosine(rows[j], rows[WAY + i], 8) > cosine(rows[best], rows[WAY + i], 8)) best = j;
            }
            right += best == i;
        }
    }
    CLOSE(accuracy, (double)right / (WAY * EPISODES), 1e-9);
    finish(c);
}

/* ---- Screening ---- */

static dagan_matcher *small_matcher(mde_context *c, const dagan_images *set)
{
    dagan_matcher_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.filters = 8;
    return dagan_matcher_create(c, set, &desc);
}

/* Attention of an image to a class, in double, with the scale that a matcher begins with: of `shot` rows a class. */
static double attention(const float *support, int shot, const float *row, int class_index)
{
    double sum = 0;
    int i;
    for (i = 0; i < shot; i++) sum += exp(10 * cosine(support + (size_t)(class_index * shot + i) * 8, row, 8));
    return sum;
}

static void screening_keeps_the_best_of_those_given_to_their_class(void)
{
    enum { WAY = 5, SHOT = 3, EACH = 4, ALL = 16, SIZE = 144 };
    mde_context *c = start();
    dagan_images *real = dagan_images_draw(c, WAY, SHOT, 12, 5);
    dagan *g = small_generator(c, real, 4);
    dagan_matcher *m = small_matcher(c, real);
    double right, smallest, share[SHOT * ALL];
    dagan_images *all = dagan_make(g, real, ALL, 7), *kept = screen_make(g, m, real, EACH, 0.25, 7, &right);
    float support[WAY * SHOT * 8], row[8];
    int k, i, j, rights = 0;
    for (i = 0; i < WAY * SHOT; i++) {
        dagan_matcher_embed(m, 1, dagan_images_pixels(real, i / SHOT, i % SHOT), support + 8 * i);
    }
    CHECK(dagan_images_class_count(kept) == WAY);
    for (k = 0; k < WAY; k++) {
        int of_class = 0, found = 0, taken = dagan_images_sample_count(kept, k);
        double best = -1;
        smallest = 2;
        for (i = 0; i < SHOT * ALL; i++) {
            double sum = 0, own;
            int is_right = 1;
            dagan_matcher_embed(m, 1, dagan_images_pixels(all, k, i), row);
            own = attention(support, SHOT, row, k);
            for (j = 0; j < WAY; j++) {
                double other = attention(support, SHOT, row, j);
                sum += other;
                if (j != k && other >= own) is_right = 0;
            }
            of_class += is_right;
            share[i] = is_right ? own / sum : -1;
            for (j = 0; j < taken; j++) {
                if (memcmp(dagan_images_pixels(kept, k, j), dagan_images_pixels(all, k, i), SIZE * sizeof *row)) {
                    continue;
                }
                found++;
                CHECK(is_right || taken == 1);
                if (share[i] < smallest) smallest = share[i];
            }
        }
        rights += of_class;
        CHECK(found == taken && taken == (of_class == 0 ? 1 : of_class < SHOT * EACH ? of_class : SHOT * EACH));
        if (taken < SHOT * EACH) continue;
        for (i = 0; i < SHOT * ALL; i++) {              /* what was left out is no better */
            int is_kept = 0;
            for (j = 0; j < taken; j++) {
                is_kept |= !memcmp(dagan_images_pixels(kept, k, j), dagan_images_pixels(all, k, i), SIZE * sizeof *row);
            }
            if (!is_kept && share[i] > best) best = share[i];
        }
        CHECK(best <= smallest + 1e-5);
    }
    CLOSE(right, (double)rights / (WAY * SHOT * ALL), 1e-9);
    CHECK(rights > 0 && rights < WAY * SHOT * ALL);
    kept = screen_make(g, m, real, EACH, 1, 7, NULL);
    all = dagan_make(g, real, EACH, 7);
    CHECK(dagan_images_hash(kept) == dagan_images_hash(all));
    finish(c);
}

/* The class that a matcher with the scale that it begins with gives an image to: of `shot` rows for each of WAY. */
static int given_to(const float *support, int way, int shot, const float *row)
{
    int k, best = 0;
    for (k = 1; k < way; k++) {
        if (attention(support, shot, row, k) > attention(support, shot, row, best)) best = k;
    }
    return best;
}

static void failures_are_those_that_another_class_is_given(void)
{
    enum { WAY = 6, SHOT = 2, EACH = 5, SIZE = 144 };
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, WAY, 4, 12, 5), *few = dagan_images_samples(set, 0, SHOT, 0);
    dagan *g = small_generator(c, set, 4);
    dagan_matcher *m = small_matcher(c, set);
    show_triple found[WAY];
    float support[WAY * SHOT * 8], row[8], made[WAY * EACH * SIZE], from[EACH * SIZE], again[EACH * SIZE];
    double right;
    int n = show_find_failures(g, m, set, SHOT, EACH, 9, made, found, &right), k, i, good = 0, failed = 0;
    for (i = 0; i < WAY * SHOT; i++) {
        dagan_matcher_embed(m, 1, dagan_images_pixels(few, i / SHOT, i % SHOT), support + 8 * i);
    }
    for (k = 0; k < WAY; k++) {
        int of_class = 0, listed = 0;
        for (i = 0; i < EACH; i++) memcpy(from + i * SIZE, dagan_images_pixels(set, k, 0), SIZE * sizeof *from);
        dagan_generate(g, EACH, from, NULL, 9 * 1000003 + (uint64_t)k, again);
        CHECK(memcmp(again, made + k * EACH * SIZE, sizeof again) == 0);
        for (i = 0; i < EACH; i++) {
            dagan_matcher_embed(m, 1, again + i * SIZE, row);
            of_class += given_to(support, WAY, SHOT, row) == k;
        }
        for (i = 0; i < n; i++) listed += found[i].of == dagan_images_pixels(set, k, 0);
        CHECK(listed == (of_class < EACH));
        good += of_class;
        failed += of_class < EACH;
    }
    CHECK(n == failed && n > 0);
    CLOSE(right, (double)good / (WAY * EACH), 1e-12);
    for (i = 0; i < n; i++) {
        dagan_matcher_embed(m, 1, found[i].made, row);
        k = given_to(support, WAY, SHOT, row);
        CHECK(found[i].other == dagan_images_pixels(set, k, 0) && found[i].other != found[i].of);
        CHECK(i == 0 || found[i].order >= found[i - 1].order);
    }
    finish(c);
}

static void the_nearest_image_is_the_nearest(void)
{
    enum { SIZE = 144, QUERIES = 9 };
    mde_context *c = start();
    dagan_images *source = dagan_images_draw(c, 7, 3, 12, 5), *other = dagan_images_draw(c, QUERIES - 1, 1, 12, 6);
    show_search s;
    int q, k, i, j;
    memset(&s, 0, sizeof s);
    s.source = source;
    s.size = SIZE;
    s.query[0] = dagan_images_pixels(source, 4, 1);         /* a copy is found out */
    for (q = 1; q < QUERIES; q++) s.query[q] = dagan_images_pixels(other, q - 1, 0);
    mde_parallel_for(c, QUERIES, show_find, &s);
    CHECK(s.distance[0] == 0 && s.found[0] == s.query[0]);
    for (q = 0; q < QUERIES; q++) {
        double best = HUGE_VAL;
        const float *nearest = NULL;
        for (k = 0; k < 7; k++) {
            for (i = 0; i < 3; i++) {
                const float *x = dagan_images_pixels(source, k, i);
                double sum = 0;
                for (j = 0; j < SIZE; j++) sum += pow((double)x[j] - (double)s.query[q][j], 2);
                if (sum >= best) continue;
                best = sum;
                nearest = x;
            }
        }
        CHECK(s.found[q] == nearest);
        CLOSE(s.distance[q], sqrt(best), 1e-9);
    }
    finish(c);
}

/* By hand, with made images that are any. */
static void made_images_count_in_a_support_set_by_weight_and_share(void)
{
    enum { CLASSES = 7, WAY = 4, LIMIT = 3, EPISODES = 30 };
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, CLASSES, LIMIT, 12, 5);
    dagan *g = small_generator(c, set, 4);
    dagan_matcher *m = small_matcher(c, set);
    screen_gallery y = screen_gallery_open(g, m, set, LIMIT, 3);
    double accuracy[SCREEN_WEIGHTS], gain[SCREEN_WEIGHTS], error[SCREEN_WEIGHTS];
    int right[SCREEN_WEIGHTS] = { 0 }, e, q, k, j, w, urn[CLASSES];
    screen_accuracy(&y, WAY, 1, EPISODES, 11, accuracy, gain, error);
    for (e = 0; e < EPISODES; e++) {
        mde_random r = mde_random_start(11, UINT64_C(0x5c3e) << 40 | (uint64_t)e);
        float support[WAY * 8], query[WAY * 8], made[WAY * SCREEN_POOL * 8];
        int classes[WAY];
        mde_random_draw(&r, CLASSES, WAY, urn);
        memcpy(classes, urn, sizeof classes);
        for (k = 0; k < WAY; k++) {
            const float *rows = y.real + (size_t)(classes[k] * LIMIT) * 8;
            mde_random_draw(&r, LIMIT, 2, urn);
            memcpy(support + 8 * k, rows + 8 * urn[0], 8 * sizeof *rows);
            memcpy(query + 8 * k, rows + 8 * urn[1], 8 * sizeof *rows);
            memcpy(made + (size_t)(8 * SCREEN_POOL * k),
                   y.made + (size_t)((classes[k] * LIMIT + urn[0]) * SCREEN_POOL) * 8, sizeof made / WAY);
        }
        for (w = 0; w < SCREEN_WEIGHTS; w++) {
            for (q = 0; q < WAY; q++) {
                double best = -1;
                int found = -1;
                for (k = 0; k < WAY; k++) {
                    double sum = attention(support, 1, query + 8 * q, k);
                    for (j = SCREEN_POOL * k; j < SCREEN_POOL * (k + 1); j++) {
                        double all = 0;
                        int i;
                        for (i = 0; i < WAY; i++) all += attention(support, 1, made + 8 * j, i);
                        sum += screen_weights[w] / SCREEN_POOL * attention(support, 1, made + 8 * j, k) / all *
                               attention(made, 1, query + 8 * q, j);
                    }
                    if (sum > best) {
                        best = sum;
                        found = k;
                    }
                }
                right[w] += found == q;
            }
        }
    }
    for (w = 0; w < SCREEN_WEIGHTS; w++) {
        CLOSE(accuracy[w], (double)right[w] / (WAY * EPISODES), 1e-9);
        CLOSE(gain[w], accuracy[w] - accuracy[0], 1e-9);
    }
    CHECK(gain[0] == 0 && error[0] == 0 && right[SCREEN_WEIGHTS - 1] != right[0]);
    screen_gallery_close(&y);
    finish(c);
}

static void screened_images_are_recognised_more_often(void)
{
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, 12, 4, 12, 5);
    dagan *g = small_generator(c, set, 4);
    dagan_matcher *m = small_matcher(c, set);
    dagan_quality all, kept;
    CHECK(dagan_measure(g, m, NULL, 1, 1, set, 7, &all) == MDE_OK);
    CHECK(dagan_measure(g, m, m, 0.1, 1, set, 7, &kept) == MDE_OK);
    CHECK(kept.recognisability > all.recognisability + 0.02);
    CHECK(kept.real_recognisability == all.real_recognisability);
    finish(c);
}

static void embeddings_do_not_depend_on_the_batch(void)
{
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, 70, 1, 10, 5);
    dagan_matcher *m = dagan_matcher_create(c, set, NULL);
    size_t size = 100, width = (size_t)dagan_matcher_width(m);
    float *pixels = (float *)mde_alloc(c, 70, size * sizeof *pixels);
    float *all = (float *)mde_alloc(c, 70, width * sizeof *all), *one = (float *)mde_alloc(c, width, sizeof *one);
    int i;
    CHECK(width == 32);
    for (i = 0; i < 70; i++) {
        memcpy(pixels + (size_t)i * size, dagan_images_pixels(set, i, 0), size * sizeof *pixels);
    }
    CHECK(dagan_matcher_embed(m, 70, pixels, all) == MDE_OK);
    for (i = 0; i < 70; i += 23) {
        CHECK(dagan_matcher_embed(m, 1, pixels + (size_t)i * size, one) == MDE_OK);
        CHECK(memcmp(one, all + (size_t)i * width, width * sizeof *one) == 0);
    }
    CHECK(dagan_matcher_embed(m, 0, NULL, NULL) == MDE_OK);
    finish(c);
}

static void embeddings_on_the_tape_are_the_same_and_have_gradients(void)
{
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, 4, 1, 8, 5);
    dagan_matcher *m = dagan_matcher_create(c, set, NULL);
    mde_params *p = dagan_matcher_params(m);
    int64_t shape[4] = { 3, 8, 8, 1 }, other[4] = { 3, 8, 7, 1 };
    mde_tensor *x = mde_tensor_create(c, 4, shape), *weights, *sum, *slope;
    size_t width = (size_t)dagan_matcher_width(m);
    float *rows = (float *)mde_alloc(c, 3, width * sizeof *rows);
    int i, checked = 0, off = 0;
    for (i = 0; i < 3; i++) memcpy(x->data + 64 * i, dagan_images_pixels(set, i, 0), 64 * sizeof(float));
    for (i = 0; i < 192; i++) x->data[i] += 0.1f * (float)sin(i);       /* no two of a window alike */
    dagan_matcher_embed(m, 3, x->data, rows);
    CHECK(memcmp(dagan_matcher_apply(m, x)->data, rows, 3 * width * sizeof *rows) == 0);
    weights = mde_tensor_create(c, 2, dagan_matcher_apply(m, x)->shape);
    for (i = 0; i < (int)weights->count; i++) weights->data[i] = (float)cos(i);
    x->requires_grad = 1;
    mde_params_zero_grad(p);
    mde_set_recording(c, 1);
    for (i = 0; i < mde_params_count(p); i++) mde_params_tensor(p, i)->requires_grad = 0;
    sum = mde_sum(c, mde_mul(c, dagan_matcher_apply(m, x), weights));
    CHECK(mde_grad(c, sum, 1, &x, &slope, 0) == MDE_OK);
    mde_backward(c, sum);
    CHECK(mde_params_grad_norm(p) == 0);
    mde_set_recording(c, 0);
    for (i = 0; i < 192; i += 5) {
        float was = x->data[i];
        double up, down;
        x->data[i] = was + 1e-3f;
        up = mde_item(mde_sum(c, mde_mul(c, dagan_matcher_apply(m, x), weights)));
        x->data[i] = was - 1e-3f;
        down = mde_item(mde_sum(c, mde_mul(c, dagan_matcher_apply(m, x), weights)));
        x->data[i] = was;
        checked++;
        off += !(fabs((up - down) / 2e-3 - (double)slope->data[i]) < 2e-2 * (1 + fabs((double)slope->data[i])));
    }
    CHECK(checked == 39 && off <= 1);                                   /* a kink may lie between the two */
    CHECK(dagan_matcher_apply(m, mde_tensor_create(c, 4, other)) == NULL);
    CHECK_TEXT(mde_error(c), "x is no batch of any number of images of 8 x 8 x 1");
    CHECK(dagan_matcher_apply(NULL, x) == NULL);
    mde_clear_error(c);
    finish(c);
}

static void the_generator_is_left_as_it_was(void)
{
    int selector;
    for (selector = 0; selector < 2; selector++) {
        mde_context *c = start();
        dagan_images *set = dagan_images_draw(c, 8, 4, 12, 5);
        dagan *g = small_generator(c, set, 3);
        mde_params *p = dagan_generator_params(g);
        dagan_matcher *m;
        dagan_matcher_desc desc;
        dagan_episode_desc d;
        uint64_t before;
        double first, second;
        int i, learned[64], count = 0;
        memset(&desc, 0, sizeof desc);
        memset(&d, 0, sizeof d);
        desc.filters = 5;
        m = dagan_matcher_create(c, set, &desc);
        mde_params_tensor(p, 2)->requires_grad = 0;
        mde_params_zero_grad(p);
        before = params_hash(p);
        CHECK(mde_params_count(p) <= 64);
        for (i = 0; i < mde_params_count(p); i++) count += learned[i] = mde_params_tensor(p, i)->requires_grad;
        CHECK(count > 5);
        d.generator = g;
        d.selector = selector;
        d.way = 4;
        d.episodes = 3;
        d.quarter_turns = 1;
        CHECK(dagan_matcher_train(m, set, &d) == MDE_OK);
        CHECK(params_hash(p) == before);
        CHECK(mde_params_grad_norm(p) == 0);
        for (i = 0; i < mde_params_count(p); i++) CHECK(mde_params_tensor(p, i)->requires_grad == learned[i]);
        CHECK((mde_params_find(dagan_matcher_params(m), "selector.output.weight") != NULL) == selector);
        first = dagan_matcher_accuracy(m, set, &d, NULL);
        second = dagan_matcher_accuracy(m, set, &d, NULL);
        CHECK(first == second && first >= 0 && first <= 1);
        d.made = 6;                             /* more than the pool has by itself */
        first = dagan_matcher_accuracy(m, set, &d, NULL);
        CHECK(first >= 0 && first <= 1);
        finish(c);
    }
}

/* ---- Threads, stopping ---- */

typedef struct outcome { uint64_t hash[2]; double accuracy[3]; dagan_quality quality; } outcome;

static outcome run_all(int threads, int simd)
{
    mde_context_desc cd;
    mde_context *c;
    dagan_images *set, *made;
    dagan *g;
    dagan_classifier_desc kd = small_classifier();
    dagan_classifier *k;
    dagan_matcher_desc md;
    dagan_matcher *m;
    dagan_fit_desc fit;
    dagan_episode_desc d;
    outcome out;
    memset(&cd, 0, sizeof cd);
    memset(&md, 0, sizeof md);
    memset(&fit, 0, sizeof fit);
    memset(&d, 0, sizeof d);
    memset(&out, 0, sizeof out);
    cd.threads = threads;
    cd.simd = simd;
    c = mde_context_create(&cd);
    set = dagan_images_draw(c, 8, 6, 12, 5);
    g = small_generator(c, set, 3);
    made = dagan_make(g, set, 2, 1);
    k = dagan_classifier_create(c, set, &kd);
    fit.steps = 4;
    fit.batch = 12;
    fit.made = made;
    fit.augment.shift = 1;
    fit.augment.noise = 0.1;
    dagan_classifier_train(k, set, &fit);
    out.hash[0] = params_hash(dagan_classifier_params(k));
    out.accuracy[0] = dagan_classifier_accuracy(k, set);
    md.filters = 6;
    md.full_context = 1;
    m = dagan_matcher_create(c, set, &md);
    d.way = 5;
    d.episodes = 4;
    d.generator = g;
    d.selector = 1;
    dagan_matcher_train(m, set, &d);
    out.hash[1] = params_hash(dagan_matcher_params(m));
    d.episodes = 20;
    out.accuracy[1] = dagan_matcher_accuracy(m, set, &d, &out.accuracy[2]);
    dagan_measure(g, m, NULL, 1, 1, set, 3, &out.quality);
    finish(c);
    return out;
}

static void results_do_not_depend_on_threads_or_instructions(void)
{
    outcome one = run_all(1, MDE_SIMD_BEST), two = run_all(2, MDE_SIMD_BEST), plain = run_all(1, MDE_SIMD_PORTABLE);
    CHECK(memcmp(&one, &two, sizeof one) == 0);
    CHECK(memcmp(&one, &plain, sizeof one) == 0);
}

static void a_callback_stops_cleanly(void)
{
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, 8, 6, 12, 5);
    dagan_classifier_desc kd = small_classifier();
    dagan_classifier *k = dagan_classifier_create(c, set, &kd);
    dagan_matcher *m = dagan_matcher_create(c, set, NULL);
    dagan_fit_desc fit;
    dagan_episode_desc d;
    const char *stage = "";
    memset(&fit, 0, sizeof fit);
    memset(&d, 0, sizeof d);
    fit.progress = stop_at_once;
    fit.user = (void *)&stage;
    CHECK(dagan_classifier_train(k, set, &fit) == MDE_STOPPED);
    CHECK_TEXT(stage, "classifier");
    CHECK(dagan_classifier_accuracy(k, set) >= 0);
    d.progress = stop_at_once;
    d.user = (void *)&stage;
    d.way = 4;
    CHECK(dagan_matcher_train(m, set, &d) == MDE_STOPPED);
    CHECK_TEXT(stage, "matcher");
    CHECK(isnan(dagan_matcher_accuracy(m, set, &d, NULL)));
    CHECK(mde_context_status(c) == MDE_OK);
    d.progress = NULL;
    CHECK(dagan_matcher_accuracy(m, set, &d, NULL) > 0);
    finish(c);
}

/* ---- Quality ---- */

static void distances_agree_with_their_formula(void)
{
    /* Two real points at distance 5, siblings of the first at (0 | 1 | 2 | 3, 0) and of the second all on it. */
    static const float a[2] = { 0, 0 }, b[2] = { 3, 4 };
    static const float made[16] = { 0, 0, 1, 0, 2, 0, 3, 0, 3, 4, 3, 4, 3, 4, 3, 4 };
    const float *real[2];
    quality_distances d;
    memset(&d, 0, sizeof d);
    real[0] = a;
    real[1] = b;
    quality_distances_add(&d, 2, 2, real, made);
    CLOSE(d.sum[QUALITY_OF_REALS] / d.count[QUALITY_OF_REALS], 5, 1e-12);
    CLOSE(d.sum[QUALITY_OF_SIBLINGS], 10, 1e-12);           /* 1 + 2 + 3 + 1 + 2 + 1 */
    CLOSE(d.count[QUALITY_OF_SIBLINGS], 12, 0);
    CLOSE(d.sum[QUALITY_OF_COPIES] / d.count[QUALITY_OF_COPIES], 6.0 / 8, 1e-12);
    CLOSE(quality_over_reals(&d, QUALITY_OF_SIBLINGS), 10.0 / 12 / 5, 1e-12);
}

static void z_share_finds_the_parts_of_the_variance(void)
{
    enum { SIZE = 5, GROUPS = 4000 };
    double sum[SIZE] = { 0, 0, 0, 0, 0 };
    quality_variance v;
    mde_random r = mde_random_start(1, 2);
    int g, i, j;
    memset(&v, 0, sizeof v);
    v.sum = sum;
    for (g = 0; g < GROUPS; g++) {
        float group[QUALITY_SIBLINGS * SIZE];
        for (i = 0; i < SIZE; i++) {
            double mean = 5 + 2 * mde_random_normal(&r);        /* between: 4, within: 1 */
            for (j = 0; j < QUALITY_SIBLINGS; j++) group[j * SIZE + i] = (float)(mean + mde_random_normal(&r));
        }
        quality_variance_add(&v, SIZE, group);
    }
    CLOSE(quality_variance_share(&v, SIZE), 0.2, 0.01);
}

static void a_generator_that_ignores_z_is_found_out(void)
{
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, 25, 4, 12, 5);
    dagan *g = small_generator(c, set, 3);
    dagan_matcher *m = dagan_matcher_create(c, set, NULL);
    dagan_quality q, again, blind, half;
    mde_params *p = dagan_generator_params(g);
    int i;
    CHECK(dagan_measure(g, m, NULL, 1, 1, set, 7, &q) == MDE_OK);
    CHECK(dagan_measure(g, m, NULL, 1, 1, set, 7, &again) == MDE_OK);
    CHECK(memcmp(&q, &again, sizeof q) == 0);
    CHECK(q.diversity > 0 && q.copy > 0 && q.embedded_diversity > 0 && q.embedded_copy > 0);
    CHECK(q.z_share > 0 && q.z_share < 1);
    CHECK(q.recognisability >= 0 && q.recognisability < q.real_recognisability);
    CHECK(q.real_recognisability > 0.1 && q.real_recognisability <= 1);
    CHECK(dagan_measure(g, NULL, NULL, 1, 1, set, 7, &blind) == MDE_OK);
    CHECK(blind.diversity == q.diversity && blind.copy == q.copy && blind.z_share == q.z_share);
    CHECK(isnan(blind.recognisability) && isnan(blind.embedded_copy));
    CHECK(dagan_measure(g, m, NULL, 1, 0.5, set, 7, &half) == MDE_OK && half.diversity < q.diversity);
    CHECK(dagan_measure(g, m, NULL, 1, 0, set, 7, &half) == MDE_OK && half.diversity == 0 && half.copy > 0);
    CHECK(dagan_measure(g, m, m, 0.5, 0, set, 7, &half) == MDE_OK && half.diversity == 0);
    for (i = 0; i < mde_params_count(p); i++) {
        mde_tensor *t = mde_params_tensor(p, i);
        if (strstr(mde_params_name(p, i), "film")) memset(t->data, 0, t->count * sizeof *t->data);
    }
    CHECK(dagan_measure(g, m, NULL, 1, 1, set, 7, &q) == MDE_OK);
    CHECK(q.diversity == 0 && q.embedded_diversity == 0 && q.z_share < 1e-9 && q.copy > 0);
    finish(c);
}

/* ---- Errors ---- */

static void classifier_errors_name_what_is_wrong(void)
{
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, 4, 3, 12, 1), *more = dagan_images_draw(c, 5, 3, 12, 1);
    dagan_images *larger = dagan_images_draw(c, 4, 3, 14, 1), *single = dagan_images_draw(c, 1, 3, 12, 1);
    dagan_classifier_desc desc = small_classifier();
    dagan_classifier *k;
    dagan_fit_desc fit;
    CHECK(!dagan_classifier_create(c, NULL, &desc));
    refused(c, "classifier: no set of images");
    CHECK(!dagan_classifier_create(c, single, &desc));
    refused(c, "1 classes; expected 2 or more");
    desc.growth_rate = -1;
    CHECK(!dagan_classifier_create(c, set, &desc));
    refused(c, "growth_rate -1");
    desc = small_classifier();
    desc.dropout = 1;
    CHECK(!dagan_classifier_create(c, set, &desc));
    refused(c, "dropout 1");
    desc = small_classifier();
    k = dagan_classifier_create(c, set, &desc);
    memset(&fit, 0, sizeof fit);
    CHECK(dagan_classifier_train(k, NULL, &fit) == MDE_BAD_ARGUMENT);
    refused(c, "no set of images");
    CHECK(dagan_classifier_train(k, more, &fit) == MDE_BAD_ARGUMENT);
    refused(c, "a set of 5 classes; the network tells 4 apart");
    CHECK(dagan_classifier_train(k, larger, &fit) == MDE_BAD_SHAPE);
    refused(c, "images of 14 x 14 x 1; the network takes 12 x 12 x 1");
    fit.made = more;
    CHECK(dagan_classifier_train(k, set, &fit) == MDE_BAD_ARGUMENT);
    refused(c, "made images: a set of 5 classes");
    fit.made = larger;
    CHECK(dagan_classifier_train(k, set, &fit) == MDE_BAD_SHAPE);
    refused(c, "made images: images of 14 x 14");
    fit.made = NULL;
    fit.made_share = 1.5;
    CHECK(dagan_classifier_train(k, set, &fit) == MDE_BAD_ARGUMENT);
    refused(c, "made_share 1.5");
    fit.made_share = 0;
    fit.steps = -3;
    CHECK(dagan_classifier_train(k, set, &fit) == MDE_BAD_ARGUMENT);
    refused(c, "-3 steps");
    fit.steps = 0;
    fit.learning_rate = -1;
    CHECK(dagan_classifier_train(k, set, &fit) == MDE_BAD_ARGUMENT);
    refused(c, "learning_rate -1");
    CHECK(isnan(dagan_classifier_accuracy(k, more)));
    refused(c, "classifier test: a set of 5 classes");
    CHECK(isnan(dagan_classifier_accuracy(NULL, set)));
    CHECK(dagan_classifier_train(NULL, set, NULL) == MDE_BAD_ARGUMENT);
    CHECK(dagan_classifier_params(NULL) == NULL);
    dagan_classifier_free(NULL);
    finish(c);
}

static void matcher_errors_name_what_is_wrong(void)
{
    mde_context *c = start(), *other = start();
    dagan_images *set = dagan_images_draw(c, 6, 3, 12, 1), *larger = dagan_images_draw(c, 6, 3, 14, 1);
    dagan_images *elsewhere = dagan_images_draw(other, 6, 3, 12, 1);
    dagan *g = small_generator(c, set, 3), *foreign = small_generator(other, elsewhere, 3);
    dagan *wide = small_generator(c, larger, 3), *noisy = small_generator(c, set, 5);
    dagan_matcher *m;
    dagan_matcher_desc desc;
    dagan_episode_desc d;
    dagan_quality q;
    float pixel = 0;
    memset(&desc, 0, sizeof desc);
    CHECK(!dagan_matcher_create(c, NULL, NULL));
    refused(c, "matcher: no set of images");
    desc.filters = -2;
    CHECK(!dagan_matcher_create(c, set, &desc));
    refused(c, "-2 filters");
    desc.filters = 4;
    m = dagan_matcher_create(c, set, &desc);
    memset(&d, 0, sizeof d);
    CHECK(dagan_matcher_train(m, set, &d) == MDE_BAD_ARGUMENT);
    refused(c, "matcher: way 20, but the set has 6 classes");
    d.way = 4;
    d.shot = 2;
    d.queries = 2;
    CHECK(dagan_matcher_train(m, set, &d) == MDE_BAD_ARGUMENT);
    refused(c, "shot 2 and 2 queries need 4 samples, but class 0 has 3");
    CHECK(isnan(dagan_matcher_accuracy(m, set, &d, NULL)));
    refused(c, "matcher test: shot 2 and 2 queries need 4 samples");
    d.queries = 1;
    CHECK(dagan_matcher_train(m, larger, &d) == MDE_BAD_SHAPE);
    refused(c, "images of 14 x 14 x 1; the network takes 12 x 12 x 1");
    d.episodes = -1;
    CHECK(dagan_matcher_train(m, set, &d) == MDE_BAD_ARGUMENT);
    refused(c, "-1 episodes");
    d.episodes = 1;
    d.selector = 1;
    CHECK(dagan_matcher_train(m, set, &d) == MDE_BAD_ARGUMENT);
    refused(c, "a selector without a generator");
    d.generator = g;
    CHECK(isnan(dagan_matcher_accuracy(m, set, &d, NULL)));
    refused(c, "no selector was trained for z of 3 dimensions");
    CHECK(dagan_matcher_train(m, set, &d) == MDE_OK);
    d.generator = noisy;
    CHECK(dagan_matcher_train(m, set, &d) == MDE_BAD_ARGUMENT);
    refused(c, "the selector gives z of 3 dimensions; the generator takes 5");
    d.generator = foreign;
    CHECK(dagan_matcher_train(m, set, &d) == MDE_BAD_ARGUMENT);
    refused(c, "another context");
    d.generator = wide;
    CHECK(dagan_matcher_train(m, set, &d) == MDE_BAD_SHAPE);
    refused(c, "the generator makes images of 14 x 14 x 1");
    CHECK(dagan_matcher_embed(m, 2, NULL, &pixel) == MDE_BAD_ARGUMENT);
    refused(c, "none given");
    CHECK(dagan_measure(wide, m, NULL, 1, 1, larger, 1, &q) == MDE_BAD_SHAPE);
    refused(c, "measure, matcher: images of 14 x 14");
    CHECK(dagan_measure(g, m, NULL, 1, 1, larger, 1, &q) == MDE_BAD_SHAPE);
    refused(c, "measure: images of 14 x 14");
    CHECK(isnan(q.diversity) && isnan(q.z_share));
    CHECK(dagan_measure(g, m, NULL, 1, 1, dagan_images_samples(set, 0, 1, 0), 1, &q) == MDE_BAD_ARGUMENT);
    refused(c, "0 of the 6 classes have 2 images or more");
    CHECK(dagan_measure(g, m, NULL, 1, 1, set, 1, NULL) == MDE_BAD_ARGUMENT);
    refused(c, "no place for the result");
    CHECK(dagan_measure(foreign, m, NULL, 1, 1, elsewhere, 1, &q) == MDE_BAD_ARGUMENT);
    refused(other, "another context");
    CHECK(dagan_matcher_train(NULL, set, NULL) == MDE_BAD_ARGUMENT);
    CHECK(isnan(dagan_matcher_accuracy(NULL, set, NULL, NULL)));
    CHECK(dagan_matcher_width(NULL) == 0 && !dagan_matcher_params(NULL));
    dagan_matcher_free(NULL);
    finish(other);
    finish(c);
}

static void nothing_is_done_after_an_error(void)
{
    mde_context *c = start();
    dagan_images *set = dagan_images_draw(c, 4, 3, 12, 1);
    dagan_classifier *k = dagan_classifier_create(c, set, NULL);
    dagan_matcher *m = dagan_matcher_create(c, set, NULL);
    float out[64];
    mde_fail(c, MDE_IO, "something else");
    CHECK(!dagan_classifier_create(c, set, NULL) && !dagan_matcher_create(c, set, NULL));
    CHECK(dagan_classifier_train(k, set, NULL) == MDE_IO);
    CHECK(isnan(dagan_classifier_accuracy(k, set)));
    CHECK(dagan_matcher_train(m, set, NULL) == MDE_IO);
    CHECK(isnan(dagan_matcher_accuracy(m, set, NULL, NULL)));
    CHECK(dagan_matcher_embed(m, 1, dagan_images_pixels(set, 0, 0), out) == MDE_IO);
    CHECK_TEXT(mde_error(c), "something else");
    mde_context_free(c);
}

/* ---- Memory ---- */

static void use_all(mde_context *c, void *user)
{
    dagan_images *set = dagan_images_draw(c, 4, 3, 8, 1), *made;
    dagan *g = small_generator(c, set, 2);
    dagan_classifier_desc kd = small_classifier();
    dagan_matcher_desc md;
    dagan_classifier *k;
    dagan_matcher *m;
    dagan_fit_desc fit;
    dagan_episode_desc d;
    dagan_quality q;
    memset(&md, 0, sizeof md);
    memset(&fit, 0, sizeof fit);
    memset(&d, 0, sizeof d);
    kd.blocks = 1;
    kd.growth_rate = 2;
    md.filters = 2;
    md.full_context = 1;
    k = dagan_classifier_create(c, set, &kd);
    made = g ? dagan_make(g, set, 1, 1) : NULL;
    fit.steps = 1;
    fit.batch = 4;
    fit.made = made;
    dagan_classifier_train(k, set, &fit);
    dagan_classifier_accuracy(k, set);
    m = dagan_matcher_create(c, set, &md);
    d.way = 2;
    d.episodes = 1;
    d.generator = g;
    d.selector = 1;
    dagan_matcher_train(m, set, &d);
    dagan_matcher_accuracy(m, set, &d, NULL);
    dagan_measure(g, m, NULL, 1, 1, set, 1, &q);
    dagan_measure(g, m, m, 0.5, 1, set, 1, &q);
    dagan_images_free(made);
    made = g && m ? screen_make(g, m, set, 1, 0.5, 1, NULL) : NULL;
    if (g && m) {
        double numbers[3][SCREEN_WEIGHTS];
        screen_gallery y = screen_gallery_open(g, m, set, 2, 1);
        double shares[2];
        screen_accuracy(&y, 2, 1, 1, 1, numbers[0], numbers[1], numbers[2]);
        screen_gallery_close(&y);
        show_failures(g, m, set, 1, 1, 1, "test_dagan_studies_tmp.png", shares);
        show_nearest(g, set, set, 1, "test_dagan_studies_tmp.png", shares);
        remove("test_dagan_studies_tmp.png");
    }
    dagan_classifier_free(k);
    dagan_matcher_free(m);
    (void)user;
}

static void any_allocation_may_fail(void)
{
    CHECK(test_failing_allocations(use_all, NULL, 20000) > 0);
}

int main(void)
{
    TEST(classifier_has_the_shapes_that_its_description_says);
    TEST(the_flag_reaches_the_output_unless_it_is_left_out);
    TEST(classifier_gradients_agree_with_differences);
    TEST(classifier_learns_the_drawn_set);
    TEST(made_images_take_their_share_of_a_batch);
    TEST(every_image_is_drawn_once_a_pass_whatever_was_drawn_before);
    TEST(attention_agrees_with_its_formula);
    TEST(log_sum_exp_does_not_overflow);
    TEST(lstm_agrees_with_its_formula);
    TEST(matcher_gradients_agree_with_differences);
    TEST(selected_noise_follows_its_formula);
    TEST(episodes_hold_different_classes_and_samples);
    TEST(matcher_learns_to_learn);
    TEST(accuracy_agrees_with_the_nearest_support_image);
    TEST(screening_keeps_the_best_of_those_given_to_their_class);
    TEST(failures_are_those_that_another_class_is_given);
    TEST(the_nearest_image_is_the_nearest);
    TEST(made_images_count_in_a_support_set_by_weight_and_share);
    TEST(screened_images_are_recognised_more_often);
    TEST(embeddings_do_not_depend_on_the_batch);
    TEST(embeddings_on_the_tape_are_the_same_and_have_gradients);
    TEST(the_generator_is_left_as_it_was);
    TEST(results_do_not_depend_on_threads_or_instructions);
    TEST(a_callback_stops_cleanly);
    TEST(distances_agree_with_their_formula);
    TEST(z_share_finds_the_parts_of_the_variance);
    TEST(a_generator_that_ignores_z_is_found_out);
    TEST(classifier_errors_name_what_is_wrong);
    TEST(matcher_errors_name_what_is_wrong);
    TEST(nothing_is_done_after_an_error);
    TEST(any_allocation_may_fail);
    return test_end();
}
