/* Generator, critic and their training: gradients against differences, runs that stop, go on and give the same bits. */
#define DAGAN_IMPLEMENTATION
#include "../dagan.h"
#include "test.h"

#define FOLDER "test_dagan_training.tmp"

/* ---- Small things to train ---- */

static dagan_desc tiny_desc(void)
{
    dagan_desc d;
    memset(&d, 0, sizeof d);
    d.levels = 2;
    d.noise = 3;
    d.generator[0] = 4;
    d.generator[1] = 5;
    d.critic[0] = 4;
    d.critic[1] = 3;
    d.seed = 3;
    return d;
}

/* The paper's form with few filters: everything joined and bypassed, z concatenated, two inner convolutions. */
static dagan_desc tiny_paper(void)
{
    dagan_desc d = tiny_desc();
    d.preset = DAGAN_PAPER;
    d.generator_layers = d.critic_layers = 2;
    d.dropout = MDE_ZERO;
    d.norm = DAGAN_INSTANCE_NORM;
    return d;
}

static dagan_images *tiny_set(mde_context *c)
{
    return dagan_images_draw(c, 5, 4, 9, 1);
}

static mde_tensor *random_batch(mde_context *c, int64_t n, int size, int channels, uint64_t seed)
{
    int64_t shape[4];
    mde_random r = mde_random_start(seed, 7);
    mde_tensor *t;
    size_t i;
    shape[0] = n;
    shape[1] = shape[2] = size;
    shape[3] = channels;
    t = mde_tensor_create(c, 4, shape);
    for (i = 0; i < t->count; i++) t->data[i] = (float)(2 * mde_random_uniform(&r) - 1);
    return t;
}

static uint64_t bits_of(const mde_params *p)
{
    uint64_t hash = 1469598103934665603u;
    int i;
    size_t k;
    for (i = 0; i < mde_params_count(p); i++) {
        const mde_tensor *t = mde_params_tensor(p, i);
        for (k = 0; k < t->count; k++) {
            uint32_t bits;
            memcpy(&bits, t->data + k, sizeof bits);
            hash = (hash ^ bits) * 1099511628211u;
        }
    }
    return hash;
}

static uint64_t bits_of_dagan(const dagan *g)
{
    return bits_of(dagan_generator_params(g)) ^ bits_of(dagan_critic_params(g)) * 3;
}

static uint64_t bits_of_curve(const dagan *g)
{
    uint64_t hash = 5;
    const int64_t *steps;
    int points, i, k;
    const dagan_step *s = dagan_curve(g, &points, &steps);
    for (i = 0; i < points; i++) {
        double v[4];
        v[0] = s[i].distance;
        v[1] = s[i].penalty;
        v[2] = s[i].gradient_norm;
        v[3] = s[i].generator_loss;
        for (k = 0; k < 4; k++) {
            uint64_t bits;
            memcpy(&bits, v + k, sizeof bits);
            hash = (hash ^ bits) * 1099511628211u;
        }
        hash = (hash ^ (uint64_t)steps[i]) * 1099511628211u;
    }
    return hash;
}

static int exists(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f) fclose(f);
    return f != NULL;
}

/* ---- Networks ---- */

static void presets_have_the_sizes_they_claim(void)
{
    static const dagan_preset presets[3] = { DAGAN_COMPACT, DAGAN_QUICK, DAGAN_PAPER };
    int i, k;
    for (i = 0; i < 3; i++) {
        mde_context *c = mde_context_create(NULL);
        dagan_images *set = dagan_images_draw(c, 2, 2, 28, 1);
        dagan_desc d;
        dagan *g;
        mde_mark mark = mde_arena_mark(c);
        mde_tensor *x, *z, *y, *s;
        size_t trained[2] = { 0, 0 };
        int64_t shape[2];
        memset(&d, 0, sizeof d);
        d.preset = presets[i];
        g = dagan_create(c, set, &d);
        CHECK(g != NULL);
        if (!g) return;
        for (k = 0; k < 2; k++) {
            mde_params *p = k ? dagan_critic_params(g) : dagan_generator_params(g);
            int j;
            for (j = 0; j < mde_params_count(p); j++) {
                if (!strstr(mde_params_name(p, j), "running")) trained[k] += mde_params_tensor(p, j)->count;
            }
        }
        printf("    preset %d: generator %zu parameters, critic %zu\n", i, trained[0], trained[1]);
        if (presets[i] == DAGAN_PAPER) {
            /* The authors' graph has 10,546,217 with a projection of z (100 -> 14 x 14) that nothing uses. */
            CHECK(trained[0] == 10546217 - 101 * 14 * 14 || trained[0] == 10546217);
            CHECK(trained[1] == 7072551);
        }
        shape[0] = 2;
        shape[1] = dagan_describe(g)->noise;
        mde_set_recording(c, 0);
        x = random_batch(c, 2, 28, 1, 1);
        z = mde_tensor_create(c, 2, shape);
        y = dagan_generator_apply(g, x, z, 0, 0);
        s = dagan_critic_apply(g, y, x);
        CHECK(y && y->rank == 4 && y->shape[0] == 2 && y->shape[1] == 28 && y->shape[2] == 28 && y->shape[3] == 1);
        CHECK(s && s->rank == 1 && s->shape[0] == 2);
        for (k = 0; y && k < (int)y->count; k++) CHECK(y->data[k] > -1 && y->data[k] < 1);
        CHECK(mde_context_status(c) == MDE_OK);
        mde_arena_rewind(c, mark);
        mde_context_free(c);
    }
}

static void sizes_that_do_not_halve_evenly_and_colours_work(void)
{
    static const int sizes[3][2] = { { 13, 9 }, { 8, 21 }, { 2, 3 } };
    static const int levels[2][3] = { { 3, 3, 1 }, { 4, 3, 1 } };      /* the preset's, or what the size allows */
    int i, form;
    for (i = 0; i < 3; i++) {
        for (form = 0; form < 3; form++) {
            mde_context *c = mde_context_create(NULL);
            int h = sizes[i][0], w = sizes[i][1], label[2] = { 0, 0 };
            float *pixels = (float *)calloc((size_t)(2 * h * w * 3), sizeof *pixels);
            dagan_images *set = dagan_images_from(c, 2, h, w, 3, pixels, label);
            dagan_desc d = form ? tiny_paper() : tiny_desc();
            dagan *g;
            float *out = (float *)calloc((size_t)(2 * h * w * 3), sizeof *out);
            d.levels = 0;
            if (form == 2) d.no_input_skip = 1;
            g = dagan_create(c, set, &d);
            CHECK(g != NULL && dagan_describe(g)->levels == levels[form > 0][i]);
            CHECK(dagan_generate(g, 2, pixels, NULL, 1, out) == MDE_OK);
            mde_context_free(c);
            free(pixels);
            free(out);
        }
    }
}

static void z_matters_from_the_start(void)
{
    int form;
    for (form = 0; form < 2; form++) {
        mde_context *c = mde_context_create(NULL);
        dagan_images *set = tiny_set(c);
        dagan_desc d = form ? tiny_paper() : tiny_desc();
        dagan *g = dagan_create(c, set, &d);
        float x[2][81], out[2][81], apart = 0;
        int i;
        memcpy(x[0], dagan_images_pixels(set, 0, 0), sizeof x[0]);
        memcpy(x[1], x[0], sizeof x[0]);
        CHECK(dagan_generate(g, 2, x[0], NULL, 1, out[0]) == MDE_OK);
        for (i = 0; i < 81; i++) apart += fabsf(out[0][i] - out[1][i]);
        CHECK(apart / 81 > 0.02f);
        mde_context_free(c);
    }
}

/* ---- Gradients ---- */

/* Thousands of losses of tiny networks: a second thread would only be waited for. */
static mde_context *one_thread(void)
{
    mde_context_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.threads = 1;
    return mde_context_create(&desc);
}

typedef struct problem {
    mde_context *c;
    dagan *g;
    mde_tensor *x, *partner, *made;
    dagan_train_desc d;
    int of_critic;
} problem;

static double loss_of(problem *p, int backward)
{
    mde_mark mark = mde_arena_mark(p->c);
    dagan_step out;
    mde_tensor *loss = p->of_critic ? dagan__critic_loss(p->g, p->x, p->partner, p->made, &p->d, 4, &out)
                                    : dagan__generator_loss(p->g, p->x, p->partner, &p->d, 4, &out);
    double value = mde_item(loss);
    if (backward) mde_backward(p->c, loss);
    mde_arena_rewind(p->c, mark);
    return value;
}

/* Every parameter, element by element. Leaky ReLU may bend on one side within the step, and then the difference to the
   other side is the one that agrees; of a hundred elements one may have bends on both. */
static void check_gradient(problem *p, mde_params *params)
{
    const double h = 2e-4;
    int i, checked = 0, off = 0;
    size_t k;
    double largest = 0, at;
    mde_params_zero_grad(params);
    at = loss_of(p, 1);
    CHECK(mde_context_status(p->c) == MDE_OK);
    for (i = 0; i < mde_params_count(params); i++) {
        const mde_tensor *t = mde_params_tensor(params, i);
        for (k = 0; k < t->count; k++) if (fabs((double)t->grad[k]) > largest) largest = fabs((double)t->grad[k]);
    }
    CHECK(largest > 0);
    for (i = 0; i < mde_params_count(params); i++) {
        mde_tensor *t = mde_params_tensor(params, i);
        const char *name = mde_params_name(params, i);
        int running = strstr(name, "running") != NULL, reached = 0;
        for (k = 0; k < t->count; k++) {
            float was = t->data[k];
            double slope[3], error = HUGE_VAL, tolerance;
            int side;
            if (t->grad[k] != 0) reached = 1;
            if (running) continue;
            t->data[k] = was + (float)h;
            slope[0] = (loss_of(p, 0) - at) / ((double)t->data[k] - (double)was);
            t->data[k] = was - (float)h;
            slope[1] = (at - loss_of(p, 0)) / ((double)was - (double)t->data[k]);
            t->data[k] = was;
            slope[2] = 0.5 * (slope[0] + slope[1]);
            for (side = 0; side < 3; side++) error = fmin(error, fabs(slope[side] - (double)t->grad[k]));
            tolerance = 0.01 * largest + 0.02 * fabs((double)t->grad[k]);
            checked++;
            if (error <= tolerance) continue;
            off++;
            if (off * 100 > checked && off < 12) {
                printf("    %s[%zu]: %g, differences %g and %g\n", name, k, (double)t->grad[k], slope[0], slope[1]);
            }
        }
        /* What is added to all scores falls out of the critic's loss. */
        CHECK(running || strstr(name, "score.bias") ? !reached : reached);
    }
    CHECK(mde_context_status(p->c) == MDE_OK);
    CHECK(checked > 400);
    CHECK(off * 100 <= checked);
}

static problem problem_of(mde_context *c, dagan_desc d, int size)
{
    problem p;
    dagan_images *set = dagan_images_draw(c, 2, 3, size, 1);
    memset(&p, 0, sizeof p);
    p.c = c;
    p.g = dagan_create(c, set, &d);
    p.x = random_batch(c, 3, size, 1, 1);
    p.partner = random_batch(c, 3, size, 1, 2);
    p.made = random_batch(c, 3, size, 1, 3);
    p.d.seed = 5;
    dagan__train_resolve(p.g, &p.d);
    return p;
}

static void gradient_of_the_critic_with_penalty_agrees_with_differences(void)
{
    int form;
    for (form = 0; form < 3; form++) {
        mde_context *c = one_thread();
        problem p = problem_of(c, form == 1 ? tiny_paper() : tiny_desc(), 6);
        p.of_critic = 1;
        if (form == 2) p.d.mismatch = MDE_ZERO;
        check_gradient(&p, dagan_critic_params(p.g));
        mde_context_free(c);
    }
}

/* A term of two tensors alike: 0.7 mean (made - partner)^2. */
static mde_tensor *apart(dagan *g, mde_tensor *partner, mde_tensor *made, void *user)
{
    mde_context *c;
    mde_tensor *d;
    dagan_shape(g, &c, NULL, NULL, NULL);
    d = mde_sub(c, made, partner);
    ++*(int *)user;
    return mde_affine(c, mde_mean(c, mde_mul(c, d, d)), 0.7, 0);
}

static mde_tensor *refuses(dagan *g, mde_tensor *partner, mde_tensor *made, void *user)
{
    (void)g, (void)partner, (void)made;
    mde_fail((mde_context *)user, MDE_BAD_ARGUMENT, "not today");
    return NULL;
}

static void a_term_is_added_to_the_loss_of_the_generator(void)
{
    int twice, i;
    for (twice = 0; twice < 2; twice++) {
        mde_context *c = one_thread();
        problem p = problem_of(c, tiny_desc(), 6);
        int64_t n = twice ? 6 : 3;
        double without, sum = 0;
        int calls = 0;
        float before;
        mde_tensor *weight = mde_params_find(dagan_generator_params(p.g), "generator.enc0.down.weight");
        mde_tensor *z = dagan__noise_new(p.g, n, dagan__random(p.d.seed, DAGAN__OF_GENERATOR_NOISE, 4)), *made;
        dagan_step out;
        if (twice) p.d.diversity = 0.2;
        without = loss_of(&p, 0);
        made = dagan_generator_apply(p.g, twice ? mde_concat(c, p.x, p.x, 0) : p.x, z, 1, 9);
        for (i = 0; i < n * 36; i++) sum += pow(made->data[i] - p.partner->data[i % 108], 2) / (double)(n * 36);
        p.d.term = apart;
        p.d.user = &calls;
        CLOSE(loss_of(&p, 0), without + 0.7 * sum, 1e-5);
        CHECK(calls == 1);
        check_gradient(&p, dagan_generator_params(p.g));
        before = weight->data[0];
        p.d.term = refuses;
        p.d.user = c;
        CHECK(dagan_generator_step(p.g, p.x, &p.d, 4, &out) == MDE_BAD_ARGUMENT);
        CHECK_TEXT(mde_error(c), "not today");
        CHECK(weight->data[0] == before);
        mde_context_free(c);
    }
}

static void gradient_of_the_generator_agrees_with_differences(void)
{
    int form;
    for (form = 0; form < 4; form++) {
        mde_context *c = one_thread();
        dagan_desc d = form == 1 ? tiny_paper() : tiny_desc();
        problem p;
        if (form == 2) d.norm = DAGAN_INSTANCE_NORM;
        if (form == 3) d.dropout = 0.3;
        p = problem_of(c, d, 6);
        if (form != 0) p.d.diversity = 0.2;
        CHECK(dagan__freeze(c, dagan_critic_params(p.g)) != NULL);
        check_gradient(&p, dagan_generator_params(p.g));
        CHECK(mde_params_grad_norm(dagan_critic_params(p.g)) == 0);
        mde_context_free(c);
    }
}

/* The norm that the penalty holds at 1 is that of the slope of the score of each pair in its own candidate. */
static void the_gradient_norm_is_that_of_each_image(void)
{
    mde_context *c = mde_context_create(NULL);
    problem p = problem_of(c, tiny_desc(), 6);
    mde_tensor *between = random_batch(c, 3, 6, 1, 9);
    mde_random r = dagan__random(p.d.seed, DAGAN__OF_MIXING, 4);
    dagan_step out;
    double mean = 0, penalty = 0;
    int i, k;
    p.d.mismatch = MDE_ZERO;
    for (i = 0; i < 3; i++) {
        float a = (float)mde_random_uniform(&r);
        for (k = 0; k < 36; k++) {
            between->data[36 * i + k] = (1 - a) * p.partner->data[36 * i + k] + a * p.made->data[36 * i + k];
        }
    }
    dagan__critic_loss(p.g, p.x, p.partner, p.made, &p.d, 4, &out);
    for (i = 0; i < 3; i++) {
        double square = 0;
        for (k = 0; k < 36; k++) {
            float was = between->data[36 * i + k];
            double up, down;
            between->data[36 * i + k] = was + 2e-3f;
            up = (double)dagan_critic_apply(p.g, between, p.x)->data[i];
            between->data[36 * i + k] = was - 2e-3f;
            down = (double)dagan_critic_apply(p.g, between, p.x)->data[i];
            between->data[36 * i + k] = was;
            square += (up - down) * (up - down) / 1.6e-5;
        }
        mean += sqrt(square) / 3;
        penalty += (sqrt(square) - 1) * (sqrt(square) - 1) / 3;
    }
    CLOSE(out.gradient_norm, mean, 0.01);
    CLOSE(out.penalty, penalty, 0.02);
    mde_context_free(c);
}

static void each_step_changes_its_own_network_alone(void)
{
    mde_context *c = mde_context_create(NULL);
    problem p = problem_of(c, tiny_desc(), 6);
    uint64_t generator = bits_of(dagan_generator_params(p.g)), critic = bits_of(dagan_critic_params(p.g));
    mde_tensor *weight = mde_params_find(dagan_generator_params(p.g), "generator.enc0.down.weight");
    float before = weight ? weight->data[0] : 0;
    size_t peak;
    dagan_step out;
    int i;
    CHECK(dagan_critic_step(p.g, p.x, p.partner, &p.d, 0, &out) == MDE_OK);
    CHECK(bits_of(dagan_critic_params(p.g)) != critic);
    CHECK(weight && weight->data[0] == before);        /* running statistics do move */
    CHECK(out.distance == out.distance && out.gradient_norm > 0 && out.generator_loss != out.generator_loss);
    critic = bits_of(dagan_critic_params(p.g));
    generator = bits_of(dagan_generator_params(p.g));
    CHECK(dagan_generator_step(p.g, p.x, &p.d, 0, &out) == MDE_OK);
    CHECK(bits_of(dagan_critic_params(p.g)) == critic);
    CHECK(bits_of(dagan_generator_params(p.g)) != generator);
    CHECK(out.generator_loss == out.generator_loss);
    for (i = 0; i < mde_params_count(dagan_critic_params(p.g)); i++) {
        CHECK(mde_params_tensor(dagan_critic_params(p.g), i)->requires_grad);
    }
    peak = mde_peak_bytes(c);
    for (i = 0; i < 5; i++) {
        dagan_critic_step(p.g, p.x, p.partner, &p.d, i, &out);
        dagan_generator_step(p.g, p.x, &p.d, i, &out);
    }
    CHECK(mde_peak_bytes(c) == peak);
    mde_context_free(c);
}

static void the_diversity_term_is_the_inverse_ratio_of_distances(void)
{
    mde_context *c = mde_context_create(NULL);
    problem p = problem_of(c, tiny_desc(), 6);
    mde_tensor *made = random_batch(c, 4, 6, 1, 4), *z;
    int64_t shape[2] = { 4, 3 };
    double sum = 0;
    int i, k;
    z = mde_tensor_create(c, 2, shape);
    for (i = 0; i < 12; i++) z->data[i] = (float)(i * i % 5) - 2;
    for (i = 0; i < 2; i++) {
        double image = 0, code = 0;
        const float *a = made->data + 36 * i, *b = a + 72, *za = z->data + 3 * i, *zb = za + 6;
        for (k = 0; k < 36; k++) image += fabs((double)a[k] - (double)b[k]) / 36;
        for (k = 0; k < 3; k++) code += fabs((double)za[k] - (double)zb[k]) / 3;
        sum += 0.5 * 0.7 / (image / code + 1e-5);
    }
    CLOSE(mde_item(dagan__diversity(p.g, made, z, 0.7)), sum, 1e-5);
    mde_context_free(c);
}

/* ---- Pairs ---- */

/* Images whose first pixel tells class and sample. */
static dagan_images *marked_set(mde_context *c, int classes, const int *samples)
{
    float pixels[40 * 16];
    int label[40], n = 0, k, i, j;
    for (k = 0; k < classes; k++) {
        for (i = 0; i < samples[k]; i++) {
            for (j = 0; j < 16; j++) pixels[16 * n + j] = -1;
            pixels[16 * n] = (float)k / 16;
            pixels[16 * n + 1] = (float)i / 16;
            label[n++] = k;
        }
    }
    return dagan_images_from(c, n, 4, 4, 1, pixels, label);
}

static void pairs_are_of_one_class_and_evenly_drawn(void)
{
    static const int samples[4] = { 3, 1, 4, 2 };
    mde_context *c = mde_context_create(NULL);
    dagan_images *set = marked_set(c, 4, samples);
    int same, rotated;
    dagan_desc net;
    dagan *g;
    memset(&net, 0, sizeof net);
    net.generator[0] = net.critic[0] = 2;
    g = dagan_create(c, set, &net);
    for (same = 0; same < 2; same++) {
        for (rotated = 0; rotated < 3; rotated++) {
            dagan_train_desc d;
            dagan__training run;
            int count[4] = { 0 }, pair[4][4] = { { 0 } }, equal = 0, turns = 0, step, i;
            memset(&d, 0, sizeof d);
            d.same_allowed = same;
            d.quarter_turns = rotated;
            CHECK(dagan__training_start(&run, g, set, &d));
            CHECK(run.eligible == (same ? 4 : 3));
            for (step = 0; step < 100; step++) {
                mde_mark mark = mde_arena_mark(c);
                mde_tensor *x = dagan__batch(c, g->size, 40, NULL), *y = dagan__batch(c, g->size, 40, NULL);
                dagan__draw_pairs(&run, DAGAN__OF_CRITIC_PAIRS, step, x, y);
                for (i = 0; i < 40; i++) {
                    const float *a = x->data + 16 * i, *b = y->data + 16 * i;
                    int k, at = -1, first, second;
                    static const int corner[4] = { 0, 12, 15, 3 }, next[4] = { 1, 8, 14, 7 };
                    for (k = 0; k < 4; k++) if (a[corner[k]] >= 0) at = k;
                    CHECK(at >= 0 && a[corner[at]] == b[corner[at]]);
                    if (at < 0) continue;
                    if (at > 0) turns++;
                    count[(int)(16 * a[corner[at]])]++;
                    first = (int)(16 * a[next[at]]);
                    second = (int)(16 * b[next[at]]);
                    CHECK(first >= 0 && second >= 0);
                    if (first == second) equal++;
                    if (a[corner[at]] == 2.0f / 16) pair[first][second]++;
                }
                mde_arena_rewind(c, mark);
            }
            /* 4000 draws: five standard deviations of a count with p = 1/3 are 149. */
            CHECK(same || (equal == 0 && count[1] == 0 && abs(count[0] - 1333) < 150 && abs(count[2] - 1333) < 150));
            CHECK(!same || (equal > 0 && abs(count[1] - 1000) < 140));
            CHECK(same || (pair[0][1] > 60 && pair[1][0] > 60 && pair[3][2] > 60 && pair[0][0] == 0));
            CHECK(rotated ? abs(turns - 1500 * rotated) < 160 : turns == 0);
            mde_release(c, run.classes);
        }
    }
    mde_context_free(c);
}

static void classes_of_one_image_cannot_be_trained_on(void)
{
    static const int samples[2] = { 1, 1 };
    mde_context *c = mde_context_create(NULL);
    dagan_images *set = marked_set(c, 2, samples);
    dagan_desc net;
    dagan_train_desc d;
    dagan *g;
    memset(&net, 0, sizeof net);
    memset(&d, 0, sizeof d);
    net.generator[0] = net.critic[0] = 2;
    d.steps = 1;
    d.batch = 2;
    g = dagan_create(c, set, &net);
    CHECK(dagan_train(g, set, &d) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "none of the 2 classes has 2 images");
    mde_clear_error(c);
    d.same_allowed = 1;
    CHECK(dagan_train(g, set, &d) == MDE_OK);
    mde_context_free(c);
}

/* ---- Runs ---- */

static dagan_train_desc tiny_training(int64_t steps)
{
    dagan_train_desc d;
    memset(&d, 0, sizeof d);
    d.steps = steps;
    d.batch = 4;
    d.critic_steps = 2;
    d.seed = 9;
    return d;
}

/* Bits of both networks and the curve after a run. */
static uint64_t bits_after(int threads, int simd, dagan_desc net, dagan_train_desc d)
{
    mde_context_desc desc;
    mde_context *c;
    dagan_images *set;
    dagan *g;
    uint64_t bits;
    memset(&desc, 0, sizeof desc);
    desc.threads = threads;
    desc.simd = simd;
    c = mde_context_create(&desc);
    if (mde_context_status(c) != MDE_OK) {
        mde_context_free(c);
        return 0;
    }
    set = tiny_set(c);
    g = dagan_create(c, set, &net);
    CHECK(dagan_train(g, set, &d) == MDE_OK);
    bits = bits_of_dagan(g) + bits_of_curve(g);
    mde_context_free(c);
    return bits;
}

static void weights_do_not_depend_on_threads_or_instruction_set(void)
{
    int form;
    for (form = 0; form < 2; form++) {
        dagan_desc net = form ? tiny_paper() : tiny_desc();
        dagan_train_desc d = tiny_training(6);
        uint64_t one, other;
        int simd;
        if (form) {
            net.norm = DAGAN_BATCH_RENORM;
            net.dropout = 0.2;
            d.diversity = 0.1;
            d.mismatch = 0.3;
            d.quarter_turns = 2;
            d.average = 0.9;
            d.anneal = 0.5;
        }
        one = bits_after(1, MDE_SIMD_PORTABLE, net, d);
        CHECK(one == bits_after(2, MDE_SIMD_BEST, net, d));
        for (simd = MDE_SIMD_AVX2; simd <= MDE_SIMD_AVX512; simd++) {
            other = bits_after(1, simd, net, d);
            CHECK(other == one || other == 0);
        }
        d.seed++;
        CHECK(one != bits_after(1, MDE_SIMD_BEST, net, d));
    }
}

static int stop_at_once(const mde_progress *p, void *user)
{
    (void)p;
    (*(int *)user)++;
    return 1;
}

static int count_calls(const mde_progress *p, void *user)
{
    int *count = (int *)user;
    CHECK(strcmp(p->stage, "train") == 0 && p->step >= 1 && p->step <= p->steps && p->loss == p->loss && p->rate > 0);
    (*count)++;
    return 0;
}

static void check_a_stopped_run(double average)
{
    const char *path = FOLDER "/run.safetensors";
    dagan_train_desc d = tiny_training(5);
    mde_context *c = mde_context_create(NULL);
    dagan_images *set = tiny_set(c);
    dagan_desc net = tiny_desc();
    dagan *whole = dagan_create(c, set, &net), *last = NULL;
    int calls = 0, run, points;
    const int64_t *steps;
    d.average = average;
    CHECK(dagan_train(whole, set, &d) == MDE_OK);
    remove(path);
    d.checkpoint = path;
    d.user = &calls;
    for (run = 0; run < 5; run++) {
        mde_status status;
        dagan_free(last);
        last = dagan_create(c, set, &net);
        d.progress = stop_at_once;
        status = dagan_train(last, set, &d);
        CHECK(status == (run < 4 ? MDE_STOPPED : MDE_OK));
        CHECK(mde_context_status(c) == MDE_OK);
        CHECK(exists(path));
        dagan_curve(last, &points, &steps);
        CHECK(points == run + 1 && steps[run] == run + 1);
    }
    CHECK(calls == 5);
    CHECK(bits_of_dagan(last) == bits_of_dagan(whole));
    CHECK(bits_of_curve(last) == bits_of_curve(whole));
    /* A finished run is only loaded; with more steps it goes on. */
    dagan_free(last);
    last = dagan_create(c, set, &net);
    CHECK(dagan_train(last, set, &d) == MDE_OK && bits_of_dagan(last) == bits_of_dagan(whole) && calls == 5);
    d.steps = 7;
    d.progress = count_calls;
    CHECK(dagan_train(last, set, &d) == MDE_OK);
    dagan_free(whole);
    whole = dagan_create(c, set, &net);
    d.checkpoint = NULL;
    CHECK(dagan_train(whole, set, &d) == MDE_OK);
    CHECK(bits_of_dagan(last) == bits_of_dagan(whole) && bits_of_curve(last) == bits_of_curve(whole));
    dagan_free(last);
    last = dagan_open(c, path);
    CHECK(last && bits_of_dagan(last) == bits_of_dagan(whole));
    remove(path);
    mde_context_free(c);
}

/* Looks see what a run of so many steps would keep; they change nothing, and stop the run. */
typedef struct looks { int count, stop_at; int64_t steps[8]; uint64_t bits[8]; } looks;

static int take_look(dagan *g, int64_t step, void *user)
{
    looks *l = (looks *)user;
    float x[81] = { 0 }, out[81];
    CHECK(l->count < 8 && dagan_generate(g, 1, x, NULL, 3, out) == MDE_OK);
    l->steps[l->count] = step;
    l->bits[l->count++] = bits_of_dagan(g);
    return step == l->stop_at;
}

static void a_look_sees_what_would_be_kept(void)
{
    mde_context *c = mde_context_create(NULL);
    dagan_images *set = tiny_set(c);
    dagan_desc net = tiny_desc();
    dagan_train_desc d = tiny_training(5);
    dagan *whole = dagan_create(c, set, &net), *looked = dagan_create(c, set, &net), *shorter;
    looks l;
    int i;
    d.average = 0.8;
    d.checkpoint_steps = 2;
    memset(&l, 0, sizeof l);
    CHECK(dagan_train(whole, set, &d) == MDE_OK);
    d.look = take_look;
    d.user = &l;
    CHECK(dagan_train(looked, set, &d) == MDE_OK);
    CHECK(bits_of_dagan(looked) == bits_of_dagan(whole));
    CHECK(l.count == 3 && l.steps[0] == 2 && l.steps[1] == 4 && l.steps[2] == 5);
    CHECK(l.bits[2] == bits_of_dagan(whole));
    d.look = NULL;
    for (i = 0; i < 2; i++) {
        shorter = dagan_create(c, set, &net);
        d.steps = l.steps[i];
        CHECK(dagan_train(shorter, set, &d) == MDE_OK && bits_of_dagan(shorter) == l.bits[i]);
    }
    memset(&l, 0, sizeof l);
    l.stop_at = 2;
    d.steps = 5;
    d.look = take_look;
    shorter = dagan_create(c, set, &net);
    CHECK(dagan_train(shorter, set, &d) == MDE_STOPPED && l.count == 1);
    mde_context_free(c);
}

static void a_stopped_run_goes_on_to_the_same_bits(void)
{
    check_a_stopped_run(0);
    check_a_stopped_run(0.8);
}

static void the_generator_is_the_moving_average_of_its_weights(void)
{
    mde_context *c = mde_context_create(NULL);
    dagan_images *set = tiny_set(c);
    dagan_desc net = tiny_desc();
    dagan *averaged = dagan_create(c, set, &net), *plain = dagan_create(c, set, &net);
    mde_params *mean = dagan__average_create(plain);
    dagan_train_desc d = tiny_training(3);
    const mde_params *p = dagan_generator_params(averaged);
    const float *expected = mde_params_tensor(mean, 0)->data;
    int step, i;
    size_t k;
    CHECK(mde_params_elements(mean) == mde_params_elements(p));
    dagan__average_do(plain, mean, DAGAN__AVERAGE_MOVE, 1);
    for (step = 1; step <= 3; step++) {         /* shares 0.9, 9/11, 0.8: of the first steps, 1 - average is less */
        dagan_free(plain);
        plain = dagan_create(c, set, &net);
        d.steps = step;
        CHECK(dagan_train(plain, set, &d) == MDE_OK);
        dagan__average_do(plain, mean, DAGAN__AVERAGE_MOVE, step == 1 ? 0.9 : step == 2 ? 9.0 / 11 : 0.8);
    }
    d.average = 0.2;
    CHECK(dagan_train(averaged, set, &d) == MDE_OK);
    CHECK(bits_of(dagan_critic_params(averaged)) == bits_of(dagan_critic_params(plain)));
    CHECK(bits_of(p) != bits_of(dagan_generator_params(plain)));
    for (i = 0; i < mde_params_count(p); i++) {
        const mde_tensor *t = mde_params_tensor(p, i);
        for (k = 0; k < t->count; k++) CLOSE((double)t->data[k], (double)*expected++, 1e-6);
    }
    mde_params_free(mean);
    mde_context_free(c);
}

/* With one critic step, its second one starts from the same weights at half the rate: so half as far. */
static void the_learning_rate_falls_to_nothing(void)
{
    mde_context *c = mde_context_create(NULL);
    dagan_images *set = tiny_set(c);
    dagan_desc net = tiny_desc();
    dagan *g[3];
    const char *path = FOLDER "/annealed.safetensors";
    dagan_train_desc d = tiny_training(1);
    int k, i;
    d.critic_steps = 1;
    for (k = 0; k < 3; k++) {
        g[k] = dagan_create(c, set, &net);
        d.steps = k == 0 ? 1 : 2;
        d.anneal = k == 2 ? 1 : 0;
        CHECK(dagan_train(g[k], set, &d) == MDE_OK);
    }
    for (i = 0; i < mde_params_count(dagan_critic_params(g[0])); i++) {
        const mde_tensor *t = mde_params_tensor(dagan_critic_params(g[0]), i);
        const float *at = mde_params_tensor(dagan_critic_params(g[1]), i)->data;
        const float *annealed = mde_params_tensor(dagan_critic_params(g[2]), i)->data;
        size_t j;
        for (j = 0; j < t->count; j++) CLOSE((double)annealed[j], ((double)t->data[j] + (double)at[j]) / 2, 1e-6);
    }
    remove(path);
    d.checkpoint = path;
    CHECK(dagan_train(g[2], set, &d) == MDE_OK);
    d.steps = 3;
    CHECK(dagan_train(g[2], set, &d) == MDE_BAD_FILE);
    CHECK_TEXT(mde_error(c), "train.anneal_steps 2, this run has 3");
    mde_clear_error(c);
    remove(path);
    mde_context_free(c);
}

static void a_checkpoint_of_another_run_is_refused(void)
{
    const char *path = FOLDER "/other.safetensors";
    mde_context *c = mde_context_create(NULL);
    dagan_images *set = tiny_set(c), *other = dagan_images_draw(c, 5, 4, 9, 2);
    dagan_desc net = tiny_desc();
    dagan *g = dagan_create(c, set, &net);
    dagan_train_desc d = tiny_training(2), changed;
    uint64_t bits;
    int i;
    remove(path);
    d.checkpoint = path;
    CHECK(dagan_train(g, set, &d) == MDE_OK);
    bits = bits_of_dagan(g);
    for (i = 0; i < 5; i++) {
        static const char *const says[5] = { "train.batch 4, this run has 3", "train.penalty", "train.images",
                                             "\"2\"; expected 0 to 1", "noise 3, this run has 4" };
        dagan *h = NULL;
        changed = d;
        if (i == 0) changed.batch = 3;
        if (i == 1) changed.penalty = 3;
        if (i == 3) changed.steps = 1;
        if (i == 4) {
            net.noise = 4;
            h = dagan_create(c, set, &net);
        }
        CHECK(dagan_train(h ? h : g, i == 2 ? other : set, &changed) == MDE_BAD_FILE);
        CHECK_TEXT(mde_error(c), says[i]);
        CHECK(bits_of_dagan(g) == bits);
        mde_clear_error(c);
    }
    CHECK(dagan_write(g, path) == MDE_OK);
    CHECK(dagan_train(g, set, &d) == MDE_BAD_FILE);
    CHECK_TEXT(mde_error(c), "is no checkpoint of a training");
    mde_clear_error(c);
    {
        FILE *f = fopen(path, "wb");
        fputs("nonsense", f);
        fclose(f);
    }
    CHECK(dagan_train(g, set, &d) != MDE_OK);
    CHECK_TEXT(mde_error(c), path);
    remove(path);
    mde_context_free(c);
}

static void a_long_curve_is_folded(void)
{
    mde_context *c = mde_context_create(NULL);
    dagan_images *set = tiny_set(c);
    dagan_desc net = tiny_desc();
    dagan *g = dagan_create(c, set, &net);
    const int64_t *steps;
    int points, i;
    double sum = 0;
    const dagan_step *s;
    g->span_steps = 1;
    for (i = 0; i < 301; i++) {
        dagan_step one;
        one.distance = i;
        one.penalty = 1;
        one.gradient_norm = -i;
        one.generator_loss = 2;
        dagan__curve_add(g, &one);
    }
    dagan__curve_finish(g);
    s = dagan_curve(g, &points, &steps);
    CHECK(points == 38 && steps[0] == 8 && steps[36] == 296 && steps[37] == 301);
    CLOSE(s[0].distance, 3.5, 1e-12);
    CLOSE(s[37].distance, 298, 1e-12);
    CLOSE(s[37].penalty, 1, 1e-12);
    for (i = 0; i < points; i++) sum += s[i].distance * (double)(steps[i] - (i ? steps[i - 1] : 0));
    CLOSE(sum, 301.0 * 150, 1e-9);
    mde_context_free(c);
}

static void what_is_not_finite_ends_the_run_with_its_step(void)
{
    mde_context *c = mde_context_create(NULL);
    problem p = problem_of(c, tiny_desc(), 6);
    dagan_step out;
    uint64_t bits = bits_of(dagan_critic_params(p.g));
    p.partner->data[5] = (float)NAN;
    CHECK(dagan_critic_step(p.g, p.x, p.partner, &p.d, 17, &out) == MDE_NOT_FINITE);
    CHECK_TEXT(mde_error(c), "gradient of the critic is not finite in its step 17");
    CHECK(bits_of(dagan_critic_params(p.g)) == bits);
    mde_clear_error(c);
    p.x->data[5] = (float)INFINITY;
    CHECK(dagan_generator_step(p.g, p.x, &p.d, 3, &out) == MDE_NOT_FINITE);
    CHECK_TEXT(mde_error(c), "gradient of the generator is not finite in its step 3");
    mde_context_free(c);
}

/* Facts of the caller's are kept with the checkpoint, and compared. */
static void a_checkpoint_knows_further_facts(void)
{
    static const char path_of_data[] = "a path of any length, longer than the table of the settings that are the "
                                       "library's own has room for";
    static const char *const facts[4] = { "lab.seed", "7", "lab.data", path_of_data };
    static const char *const others[4] = { "lab.seed", "8", "lab.data", "elsewhere" };
    const char *path = FOLDER "/facts.safetensors";
    mde_context *c = mde_context_create(NULL);
    dagan_images *set = tiny_set(c);
    dagan_desc net = tiny_desc();
    dagan *g = dagan_create(c, set, &net);
    dagan_train_desc d = tiny_training(1);
    mde_safetensors *file;
    remove(path);
    d.checkpoint = path;
    d.pairs = 2;
    d.metadata = facts;
    CHECK(dagan_train(g, set, &d) == MDE_OK);
    file = mde_safetensors_read(c, path);
    CHECK(file && strcmp(mde_safetensors_metadata(file, "lab.data"), facts[3]) == 0);
    d.steps = 2;
    CHECK(dagan_train(g, set, &d) == MDE_OK);
    d.metadata = others;
    CHECK(dagan_train(g, set, &d) == MDE_BAD_FILE);
    CHECK_TEXT(mde_error(c), "was made with lab.seed 7, this run has 8");
    mde_clear_error(c);
    d.pairs = 0;
    CHECK(dagan_train(g, set, &d) == MDE_OK);   /* nothing is asked for */
    d.pairs = 17;
    CHECK(dagan_train(g, set, &d) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "17 pairs of metadata");
    mde_clear_error(c);
    remove(path);
    d.pairs = 0;
    d.steps = 1;
    CHECK(dagan_train(g, set, &d) == MDE_OK);
    d.pairs = 2;
    CHECK(dagan_train(g, set, &d) == MDE_BAD_FILE);
    CHECK_TEXT(mde_error(c), "does not hold lab.seed");
    mde_context_free(c);
}

static void mistakes_are_explained(void)
{
    mde_context *c = mde_context_create(NULL);
    dagan_images *set = tiny_set(c), *large = dagan_images_draw(c, 2, 2, 12, 1);
    dagan_desc net = tiny_desc(), n;
    dagan *g = dagan_create(c, set, &net);
    dagan_train_desc d;
    dagan_grid_desc grid;
    mde_tensor *x = random_batch(c, 2, 9, 1, 1), *wrong = random_batch(c, 2, 8, 1, 1);
    float pixels[81] = { 0 };
#define SAYS(call, text) \
    do { \
        (void)(call); \
        CHECK(mde_context_status(c) != MDE_OK); \
        CHECK_TEXT(mde_error(c), text); \
        mde_clear_error(c); \
    } while (0)
    SAYS(dagan_create(c, NULL, &net), "no set of images");
    n = net; n.levels = 5;
    SAYS(dagan_create(c, set, &n), "5 levels; images of 9 x 9 can be halved 4 times");
    n = net; n.levels = -1;
    SAYS(dagan_create(c, set, &n), "-1 levels");
    n = net; n.noise = -2;
    SAYS(dagan_create(c, set, &n), "noise of -2 dimensions");
    n = net; n.generator[1] = 100000;
    SAYS(dagan_create(c, set, &n), "100000 and 3 filters at level 1");
    n = net; n.critic[0] = -1;
    SAYS(dagan_create(c, set, &n), "4 and -1 filters at level 0");
    n = net; n.generator_layers = 99;
    SAYS(dagan_create(c, set, &n), "99 and 1 inner convolutions");
    n = net; n.dropout = 1;
    SAYS(dagan_create(c, set, &n), "dropout 1");
    n = net; n.dropout = (double)NAN;
    SAYS(dagan_create(c, set, &n), "dropout");
    n = net; n.preset = (dagan_preset)7;
    SAYS(dagan_create(c, set, &n), "preset 7");
    d = tiny_training(-1);
    SAYS(dagan_train(g, set, &d), "-1 steps");
    d = tiny_training(1); d.batch = -4;
    SAYS(dagan_train(g, set, &d), "-4 pairs");
    d = tiny_training(1); d.learning_rate = -1;
    SAYS(dagan_train(g, set, &d), "learning_rate -1");
    d = tiny_training(1); d.mismatch = 1;
    SAYS(dagan_train(g, set, &d), "mismatch");
    d = tiny_training(1); d.average = 1;
    SAYS(dagan_train(g, set, &d), "average 1");
    d = tiny_training(1); d.quarter_turns = 3;
    SAYS(dagan_train(g, set, &d), "quarter_turns 3");
    d = tiny_training(1); d.penalty = (double)NAN;
    SAYS(dagan_train(g, set, &d), "penalty");
    d = tiny_training(1); d.beta2 = 1;
    SAYS(dagan_train(g, set, &d), "beta2 1");
    d = tiny_training(1);
    SAYS(dagan_train(g, NULL, &d), "no set of images");
    SAYS(dagan_train(g, large, &d), "images of 12 x 12 x 1; the networks take 9 x 9 x 1");
    d.grid_set = large;
    SAYS(dagan_train(g, set, &d), "images of 12 x 12 x 1");
    d = tiny_training(1);
    SAYS(dagan_critic_step(g, x, wrong, &d, 0, NULL), "the partner is no batch");
    SAYS(dagan_critic_step(g, wrong, x, &d, 0, NULL), "x is no batch");
    SAYS(dagan_generator_step(g, x, &d, -1, NULL), "step -1");
    SAYS(dagan_generator_apply(g, x, x, 0, 0), "z is not [2, 3]");
    SAYS(dagan_critic_apply(g, x, NULL), "the condition is no batch");
    SAYS(dagan_generate(g, 1, pixels, NULL, 0, NULL), "no place");
    SAYS(dagan_make(g, set, 0, 0), "0 images for each");
    SAYS(dagan_make(g, large, 1, 0), "images of 12 x 12 x 1");
    memset(&grid, 0, sizeof grid);
    grid.columns = 1;
    SAYS(dagan_write_grid(g, set, &grid, FOLDER "/x.png"), "1 images");
    SAYS(dagan_write_grid(g, large, NULL, FOLDER "/x.png"), "images of 12 x 12 x 1");
    SAYS(dagan_open(c, FOLDER "/absent.safetensors"), "absent.safetensors");
    CHECK(!exists(FOLDER "/x.png"));
    CHECK(dagan_train(NULL, set, &d) != MDE_OK && !dagan_create(NULL, set, &net) && !dagan_describe(NULL));
    dagan_free(NULL);
    mde_context_free(c);
}

/* ---- Samples and files ---- */

static void made_sets_follow_their_source(void)
{
    static const int samples[3] = { 3, 1, 2 };
    mde_context *c = mde_context_create(NULL);
    dagan_images *set = marked_set(c, 3, samples), *made, *other;
    dagan_desc net;
    dagan *g;
    float x[64][16], out[64][16];
    int k, i, copy, n = 0, distinct = 0;
    memset(&net, 0, sizeof net);
    net.generator[0] = net.critic[0] = 3;
    g = dagan_create(c, set, &net);
    made = dagan_make(g, set, 10, 4);
    other = dagan_make(g, set, 10, 5);
    CHECK(dagan_images_class_count(made) == 3 && dagan_images_count(made) == 60);
    for (k = 0; k < 3; k++) {
        for (i = 0; i < samples[k]; i++) {
            for (copy = 0; copy < 10; copy++) memcpy(x[n++], dagan_images_pixels(set, k, i), sizeof x[0]);
        }
    }
    CHECK(dagan_generate(g, 60, x[0], NULL, 4, out[0]) == MDE_OK);
    for (k = 0, n = 0; k < 3; k++) {
        CHECK(dagan_images_sample_count(made, k) == samples[k] * 10);
        for (i = 0; i < samples[k] * 10; i++, n++) {
            CHECK(memcmp(dagan_images_pixels(made, k, i), out[n], sizeof out[0]) == 0);
            if (memcmp(dagan_images_pixels(other, k, i), out[n], sizeof out[0]) != 0) distinct++;
        }
    }
    CHECK(distinct == 60);
    /* An image does not depend on those it is made with, nor on the batch. */
    CHECK(dagan_generate(g, 1, x[0], NULL, 4, out[63]) == MDE_OK);
    CHECK(memcmp(out[63], out[0], sizeof out[0]) == 0);
    mde_context_free(c);
}

static void written_networks_make_the_same_images(void)
{
    const char *path = FOLDER "/weights.safetensors";
    int form;
    for (form = 0; form < 3; form++) {
        mde_context *c = mde_context_create(NULL);
        dagan_images *set = tiny_set(c), *made, *again;
        dagan_desc net = form ? tiny_paper() : tiny_desc();
        dagan_train_desc d = tiny_training(2);
        dagan *g, *h;
        if (form == 2) {
            net.norm = DAGAN_BATCH_RENORM;
            net.dropout = 0.25;
            net.no_input_skip = 1;
            net.levels = 3;
        }
        g = dagan_create(c, set, &net);
        CHECK(dagan_train(g, set, &d) == MDE_OK);
        CHECK(dagan_write(g, path) == MDE_OK);
        h = dagan_open(c, path);
        CHECK(h != NULL && memcmp(dagan_describe(g), dagan_describe(h), sizeof net) == 0);
        made = dagan_make(g, set, 2, 1);
        again = dagan_make(h, set, 2, 1);
        CHECK(dagan_images_hash(made) == dagan_images_hash(again) && dagan_images_hash(made) != 0);
        CHECK(bits_of_dagan(g) == bits_of_dagan(h));
        remove(path);
        mde_context_free(c);
    }
}

/* Metadata that lie do not make the reader take much memory, and are named. */
static void files_that_lie_are_refused(void)
{
    static const char *const lies[][2] = {
        { "dagan.generator1", "1024" }, { "dagan.critic0", "77" }, { "dagan.levels", "7" }, { "dagan.levels", "3" },
        { "dagan.noise", "4" }, { "dagan.noise", "x" }, { "dagan.height", "0" }, { "dagan.generator_layers", "2" },
        { "dagan.preset", "2" }, { "dagan.norm", "2x" }, { "dagan.channels", "3" }, { "dagan.critic_layers", "16" },
        { "dagan.z_concatenated", "1" }, { "dagan.dropout", "5" }
    };
    const char *path = FOLDER "/lie.safetensors";
    mde_context *c = mde_context_create(NULL);
    dagan_images *set = tiny_set(c);
    dagan_desc net = tiny_desc();
    dagan *g = dagan_create(c, set, &net);
    mde_safetensors *file;
    size_t i;
    int k, failed = 0;
    CHECK(dagan_write(g, path) == MDE_OK);
    file = mde_safetensors_read(c, path);
    CHECK(file != NULL);
    for (i = 0; file && i < sizeof lies / sizeof lies[0]; i++) {
        const char *list[128];
        for (k = 0; k < 2 * file->pairs; k++) list[k] = file->metadata[k];
        for (k = 0; k < file->pairs; k++) if (strcmp(list[2 * k], lies[i][0]) == 0) list[2 * k + 1] = lies[i][1];
        CHECK(mde_safetensors_write(c, path, file->count, file->tensors, file->pairs, list) == MDE_OK);
        CHECK(dagan_open(c, path) == NULL);
        if (mde_context_status(c) != MDE_OK) failed++;
        else printf("    %s %s was taken\n", lies[i][0], lies[i][1]);
        mde_clear_error(c);
    }
    CHECK(failed == (int)i);
    mde_safetensors_free(c, file);
    CHECK(mde_peak_bytes(c) < (size_t)64 << 20);
    remove(path);
    mde_context_free(c);
}

static void grids_are_written_in_training_and_by_hand(void)
{
    const char *path = FOLDER "/grid.png";
    mde_context *c = mde_context_create(NULL);
    dagan_images *set = tiny_set(c);
    dagan_desc net = tiny_desc();
    dagan *g = dagan_create(c, set, &net);
    dagan_train_desc d = tiny_training(2);
    dagan_grid_desc grid;
    unsigned char *bytes, *others;
    size_t size, other_size;
    float a[3] = { 1, 2, -1 }, b[3] = { -2, 0.5f, 1 }, z[3];
    double length = 0;
    int i;
    remove(path);
    d.grid = path;
    CHECK(dagan_train(g, set, &d) == MDE_OK);
    CHECK(exists(path));
    remove(path);
    memset(&grid, 0, sizeof grid);
    grid.rows = 7;              /* more than there are classes */
    grid.columns = 5;
    CHECK(dagan_write_grid(g, set, &grid, path) == MDE_OK);
    bytes = mde_file_read(c, path, 1 << 24, &size);
    grid.interpolate = 1;
    CHECK(dagan_write_grid(g, set, &grid, path) == MDE_OK);
    others = mde_file_read(c, path, 1 << 24, &other_size);
    CHECK(bytes && others && size > 100 && memcmp(bytes, "\211PNG", 4) == 0);
    CHECK(size != other_size || memcmp(bytes, others, size) != 0);
    dagan__along(3, a, b, 0, z);
    for (i = 0; i < 3; i++) CLOSE(z[i], a[i], 1e-6);
    dagan__along(3, a, b, 1, z);
    for (i = 0; i < 3; i++) CLOSE(z[i], b[i], 1e-6);
    b[0] = a[1];                /* as long as a: the length stays the same on the way */
    b[1] = -a[0];
    b[2] = a[2];
    dagan__along(3, a, b, 0.3, z);
    for (i = 0; i < 3; i++) length += (double)z[i] * (double)z[i];
    CLOSE(length, 6, 1e-5);
    mde_release(c, bytes);
    mde_release(c, others);
    remove(path);
    mde_context_free(c);
}

/* ---- Faults ---- */

static void train_and_make(mde_context *c, void *user)
{
    const char *path = (const char *)user;
    dagan_images *set = tiny_set(c), *made;
    dagan *g, *h;
    dagan_desc net = tiny_desc();
    dagan_train_desc d = tiny_training(1);
    remove(path);
    d.batch = 2;
    d.critic_steps = 1;
    d.diversity = 0.1;
    d.average = 0.9;
    d.checkpoint = path;
    d.grid = FOLDER "/fault.png";
    g = dagan_create(c, set, &net);
    dagan_train(g, set, &d);
    dagan_train(g, set, &d);            /* from the checkpoint */
    made = dagan_make(g, set, 1, 1);
    h = dagan_open(c, path);
    dagan_free(h);
    dagan_images_free(made);
    dagan_free(g);
    dagan_images_free(set);
}

static void every_failed_allocation_is_survived(void)
{
    char path[] = FOLDER "/fault.safetensors";
    /* the tensors of a step come from few blocks; the rest is files */
    CHECK(test_failing_allocations(train_and_make, path, 400) > 300);
    remove(path);
    remove(FOLDER "/fault.png");
}

int main(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_make_folder(c, FOLDER);
    mde_context_free(c);
    TEST(presets_have_the_sizes_they_claim);
    TEST(sizes_that_do_not_halve_evenly_and_colours_work);
    TEST(z_matters_from_the_start);
    TEST(gradient_of_the_critic_with_penalty_agrees_with_differences);
    TEST(a_term_is_added_to_the_loss_of_the_generator);
    TEST(gradient_of_the_generator_agrees_with_differences);
    TEST(the_gradient_norm_is_that_of_each_image);
    TEST(each_step_changes_its_own_network_alone);
    TEST(the_diversity_term_is_the_inverse_ratio_of_distances);
    TEST(pairs_are_of_one_class_and_evenly_drawn);
    TEST(classes_of_one_image_cannot_be_trained_on);
    TEST(weights_do_not_depend_on_threads_or_instruction_set);
    TEST(a_look_sees_what_would_be_kept);
    TEST(a_stopped_run_goes_on_to_the_same_bits);
    TEST(the_generator_is_the_moving_average_of_its_weights);
    TEST(the_learning_rate_falls_to_nothing);
    TEST(a_checkpoint_of_another_run_is_refused);
    TEST(a_long_curve_is_folded);
    TEST(what_is_not_finite_ends_the_run_with_its_step);
    TEST(a_checkpoint_knows_further_facts);
    TEST(mistakes_are_explained);
    TEST(made_sets_follow_their_source);
    TEST(written_networks_make_the_same_images);
    TEST(files_that_lie_are_refused);
    TEST(grids_are_written_in_training_and_by_hand);
    TEST(every_failed_allocation_is_survived);
    remove(FOLDER);
    return test_end();
}
