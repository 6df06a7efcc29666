/* Parameters, optimizers, schedules and checkpoints. */
#include "../mdemix.h"
#include "test.h"
#ifdef _WIN32
#include <process.h>
#define process_id() _getpid()
#else
#include <unistd.h>
#define process_id() getpid()
#endif

static const int64_t matrix[2] = {4, 5}, vector[1] = {7}, column[2] = {5, 4};

/* A path below build/, of this process alone. */
static const char *scratch_path(const char *name)
{
    static char path[2][256];
    static int turn;
    char *p = path[turn ^= 1];
    snprintf(p, sizeof path[0], "build/test_training_%ld_%s.safetensors", (long)process_id(), name);
    return p;
}

static mde_params *small_set(mde_context *c, uint64_t seed)
{
    mde_params *p = mde_params_create(c, seed);
    mde_param(p, "matrix", 2, matrix, MDE_INIT_NORMAL, 0.5);
    mde_param(p, "vector", 1, vector, MDE_INIT_UNIFORM, 0.5);
    return p;
}

static void fill_gradients(mde_params *p, mde_random *random)
{
    int i;
    size_t j;
    for (i = 0; i < mde_params_count(p); i++) {
        mde_tensor *t = mde_params_tensor(p, i);
        for (j = 0; j < t->count; j++) t->grad[j] = (float)mde_random_normal(random);
    }
}

/* Of all that a checkpoint holds: weights, moments and the number of steps. The set's context is without error. */
static uint64_t hash_of_set(const mde_params *p)
{
    mde_context *c = mde_context_create(NULL);
    char path[256];
    unsigned char *bytes;
    size_t size = 0;
    uint64_t hash;
    snprintf(path, sizeof path, "build/test_training_%ld_hash.safetensors", (long)process_id());
    CHECK(mde_checkpoint_write(p, path, 0, NULL) == MDE_OK);
    bytes = mde_file_read(c, path, SIZE_MAX, &size);
    CHECK(bytes != NULL);
    hash = mde_fingerprint(bytes, size);
    remove(path);
    mde_context_free(c);
    return hash;
}

static mde_adamw_desc adamw_of(double rate)
{
    mde_adamw_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.learning_rate = rate;
    return desc;
}

/* ---- Parameters ---- */

static void initial_values_follow_their_distribution(void)
{
    int64_t n = 20000;
    mde_context *c = mde_context_create(NULL);
    mde_params *p = mde_params_create(c, 3);
    mde_tensor *t[4];
    const double scale = 0.5, root = sqrt((double)n);
    double mean[4], variance[4];
    int i;
    size_t j;
    t[0] = mde_param(p, "zeros", 1, &n, MDE_INIT_ZEROS, scale);
    t[1] = mde_param(p, "ones", 1, &n, MDE_INIT_ONES, scale);
    t[2] = mde_param(p, "normal", 1, &n, MDE_INIT_NORMAL, scale);
    t[3] = mde_param(p, "uniform", 1, &n, MDE_INIT_UNIFORM, scale);
    for (i = 0; i < 4; i++) {
        mean[i] = variance[i] = 0;
        for (j = 0; j < t[i]->count; j++) mean[i] += (double)t[i]->data[j] / (double)n;
        for (j = 0; j < t[i]->count; j++) variance[i] += pow((double)t[i]->data[j] - mean[i], 2) / (double)n;
    }
    CHECK(mean[0] == 0 && variance[0] == 0);
    CLOSE(mean[1], 1, 1e-9);
    CHECK(variance[1] < 1e-18);
    /* Four standard deviations of the estimates. */
    CLOSE(mean[2], 0, 4 * scale / root);
    CLOSE(variance[2], scale * scale, 4 * scale * scale * sqrt(2.0) / root);
    CLOSE(mean[3], 0, 4 * scale / sqrt(3.0) / root);
    CLOSE(variance[3], scale * scale / 3, 4 * scale * scale * sqrt(4.0 / 45) / root);
    for (j = 0; j < t[3]->count; j++) CHECK(fabs((double)t[3]->data[j]) <= scale);
    CHECK(mde_params_elements(p) == 80000);
    mde_context_free(c);
}

static void initial_values_depend_on_seed_and_name_alone(void)
{
    mde_context *c = mde_context_create(NULL), *d = mde_context_create(NULL);
    mde_params *p = mde_params_create(c, 3), *q = mde_params_create(d, 3), *r = mde_params_create(d, 4);
    mde_tensor *a, *b, *other_seed, *other_name;
    mde_param(p, "first", 2, matrix, MDE_INIT_NORMAL, 1);
    a = mde_param(p, "same", 2, matrix, MDE_INIT_NORMAL, 1);
    b = mde_param(q, "same", 2, matrix, MDE_INIT_NORMAL, 1);
    other_name = mde_param(q, "first", 2, matrix, MDE_INIT_NORMAL, 1);
    other_seed = mde_param(r, "same", 2, matrix, MDE_INIT_NORMAL, 1);
    CHECK(memcmp(a->data, b->data, a->count * sizeof(float)) == 0);
    CHECK(memcmp(a->data, other_name->data, a->count * sizeof(float)) != 0);
    CHECK(memcmp(a->data, other_seed->data, a->count * sizeof(float)) != 0);
    mde_context_free(c);
    mde_context_free(d);
}

static void parameters_are_found_by_name_and_by_place(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_params *p = small_set(c, 1);
    CHECK(mde_params_count(p) == 2);
    CHECK(strcmp(mde_params_name(p, 1), "vector") == 0);
    CHECK(strcmp(mde_params_name(p, 2), "") == 0);
    CHECK(mde_params_tensor(p, 0) == mde_params_find(p, "matrix"));
    CHECK(mde_params_tensor(p, -1) == NULL && mde_params_tensor(p, 2) == NULL);
    CHECK(mde_params_find(p, "absent") == NULL && mde_params_find(p, NULL) == NULL);
    CHECK(mde_params_elements(p) == 27);
    mde_params_free(p);
    mde_params_free(NULL);
    mde_context_free(c);
}

static void a_name_twice_or_none_is_refused(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_params *p = small_set(c, 1);
    CHECK(mde_param(p, "vector", 1, vector, MDE_INIT_ZEROS, 0) == NULL);
    CHECK_TEXT(mde_error(c), "parameter \"vector\": is there already");
    mde_clear_error(c);
    CHECK(mde_param(p, "", 1, vector, MDE_INIT_ZEROS, 0) == NULL);
    CHECK_TEXT(mde_error(c), "no name");
    mde_clear_error(c);
    CHECK(mde_param(p, NULL, 1, vector, MDE_INIT_ZEROS, 0) == NULL);
    mde_clear_error(c);
    CHECK(mde_param(p, "flat", 0, vector, MDE_INIT_ZEROS, 0) == NULL);
    CHECK_TEXT(mde_error(c), "flat: rank is 0");
    CHECK(mde_params_count(p) == 2);
    CHECK(mde_param(NULL, "orphan", 1, vector, MDE_INIT_ZEROS, 0) == NULL);
    mde_context_free(c);
}

/* ---- Optimizers ---- */

/* Twenty steps beside a reference in double precision that sees the same gradients. */
static void check_adamw(const mde_adamw_desc *desc, double beta1, double beta2, double epsilon)
{
    const char *path = scratch_path("steps");
    mde_context *c = mde_context_create(NULL);
    mde_params *p = small_set(c, 1);
    mde_random random = mde_random_start(9, 0);
    double w[2][20], m[2][20], v[2][20];
    int i, step;
    size_t j;
    for (i = 0; i < 2; i++) {
        for (j = 0; j < mde_params_tensor(p, i)->count; j++) {
            w[i][j] = (double)mde_params_tensor(p, i)->data[j];
            m[i][j] = v[i][j] = 0;
        }
    }
    for (step = 1; step <= 20; step++) {
        double norm = 0, scale = 1;
        fill_gradients(p, &random);
        for (i = 0; i < 2; i++) {
            mde_tensor *t = mde_params_tensor(p, i);
            for (j = 0; j < t->count; j++) norm += (double)t->grad[j] * (double)t->grad[j];
        }
        norm = sqrt(norm);
        if (desc->clip > 0 && norm > desc->clip) scale = desc->clip / norm;
        CLOSE(mde_params_grad_norm(p), norm, 1e-6);
        CLOSE(mde_adamw_step(p, desc), norm, 1e-6);
        for (i = 0; i < 2; i++) {
            mde_tensor *t = mde_params_tensor(p, i);
            for (j = 0; j < t->count; j++) {
                double g = (double)t->grad[j] * scale;
                m[i][j] = beta1 * m[i][j] + (1 - beta1) * g;
                v[i][j] = beta2 * v[i][j] + (1 - beta2) * g * g;
                if (t->rank > 1) w[i][j] -= desc->learning_rate * desc->weight_decay * w[i][j];
                w[i][j] -= desc->learning_rate * (m[i][j] / (1 - pow(beta1, step))) /
                           (sqrt(v[i][j] / (1 - pow(beta2, step))) + epsilon);
            }
        }
    }
    /* Twenty roundings of weights near 1. */
    for (i = 0; i < 2; i++) {
        for (j = 0; j < mde_params_tensor(p, i)->count; j++) CLOSE(mde_params_tensor(p, i)->data[j], w[i][j], 2e-6);
    }
    CHECK(mde_checkpoint_write(p, path, 0, NULL) == MDE_OK);
    CHECK_TEXT(mde_safetensors_metadata(mde_safetensors_read(c, path), "adamw.steps"), "20");
    remove(path);
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

static void adamw_agrees_with_double_precision_over_twenty_steps(void)
{
    mde_adamw_desc desc = adamw_of(0.01);
    check_adamw(&desc, 0.9, 0.95, 1e-8);
    desc.weight_decay = 0.1;
    check_adamw(&desc, 0.9, 0.95, 1e-8);
    desc.beta1 = 0.8;
    desc.beta2 = 0.999;
    desc.epsilon = 0.1;
    check_adamw(&desc, 0.8, 0.999, 0.1);
    /* With so large an epsilon the length of the gradient counts, and so does clipping. */
    desc.clip = 0.5;
    check_adamw(&desc, 0.8, 0.999, 0.1);
    desc.clip = 1e6;
    check_adamw(&desc, 0.8, 0.999, 0.1);
    desc.beta1 = MDE_ZERO;
    check_adamw(&desc, 0, 0.999, 0.1);
    desc.beta2 = MDE_ZERO;
    check_adamw(&desc, 0, 0, 0.1);
}

static void a_norm_that_is_not_finite_changes_nothing(void)
{
    const float bad[2] = {NAN, INFINITY};
    mde_context *c = mde_context_create(NULL);
    mde_params *p = small_set(c, 1);
    mde_random random = mde_random_start(9, 0);
    mde_adamw_desc desc = adamw_of(0.01);
    uint64_t before;
    int i;
    fill_gradients(p, &random);
    mde_adamw_step(p, &desc);
    before = hash_of_set(p);
    for (i = 0; i < 2; i++) {
        double norm;
        mde_params_tensor(p, 1)->grad[3] = bad[i];
        norm = mde_adamw_step(p, &desc);
        CHECK(!(norm < INFINITY));
        CHECK(mde_context_status(c) == MDE_NOT_FINITE);
        mde_clear_error(c);
        CHECK(hash_of_set(p) == before);
    }
    mde_fail(c, MDE_BAD_ARGUMENT, "before");
    CHECK(isnan(mde_adamw_step(p, &desc)));
    mde_clear_error(c);
    CHECK(hash_of_set(p) == before);
    CHECK(isnan(mde_adamw_step(NULL, &desc)));
    mde_context_free(c);
}

static void schedules_start_and_end_where_they_should(void)
{
    mde_schedule s;
    int64_t step;
    memset(&s, 0, sizeof s);
    s.peak = 2;
    s.steps = 100;
    s.warmup = 10;
    s.final = 0.1;
    s.decay = 0.2;
    for (s.kind = MDE_COSINE; s.kind <= MDE_WSD; s.kind = (mde_schedule_kind)(s.kind + 1)) {
        CLOSE(mde_schedule_rate(&s, 0), 0.2, 1e-12);
        CLOSE(mde_schedule_rate(&s, 4), 1, 1e-12);
        CLOSE(mde_schedule_rate(&s, 9), 2, 1e-12);
        CLOSE(mde_schedule_rate(&s, 10), 2, 1e-12);
        for (step = 10; step < 120; step++) CHECK(mde_schedule_rate(&s, step + 1) <= mde_schedule_rate(&s, step));
        if (s.kind == MDE_WSD) break;
    }
    s.kind = MDE_COSINE;
    CLOSE(mde_schedule_rate(&s, 55), 1.1, 1e-12);
    CLOSE(mde_schedule_rate(&s, 99), 2 * (0.1 + 0.45 * (1 + cos(3.14159265358979323846 * 89 / 90))), 1e-12);
    CLOSE(mde_schedule_rate(&s, 100), 0.2, 1e-12);
    CLOSE(mde_schedule_rate(&s, 1000), 0.2, 1e-12);
    s.kind = MDE_CONSTANT;
    CLOSE(mde_schedule_rate(&s, 99), 2, 1e-12);
    CLOSE(mde_schedule_rate(&s, 1000), 2, 1e-12);
    s.kind = MDE_WSD;
    CLOSE(mde_schedule_rate(&s, 80), 2, 1e-12);
    CLOSE(mde_schedule_rate(&s, 90), 1.1, 1e-12);
    CLOSE(mde_schedule_rate(&s, 99), 2 * (1 - 0.9 * 0.95), 1e-12);
    CLOSE(mde_schedule_rate(&s, 100), 0.2, 1e-12);
    CLOSE(mde_schedule_rate(&s, 1000), 0.2, 1e-12);
    s.warmup = 0;
    CLOSE(mde_schedule_rate(&s, 0), 2, 1e-12);
}

/* ---- Files ---- */

static void weights_come_back_from_a_file(void)
{
    static const char *const pairs[4] = {"model", "small", "quote", "a \"b\""};
    const char *path = scratch_path("weights");
    mde_context *c = mde_context_create(NULL);
    mde_params *p = small_set(c, 1), *q = small_set(c, 2);
    mde_safetensors *file;
    int i;
    CHECK(mde_params_write(p, path, 2, pairs) == MDE_OK);
    CHECK(mde_params_read(q, path) == MDE_OK);
    CHECK(hash_of_set(p) == hash_of_set(q));
    file = mde_safetensors_read(c, path);
    CHECK(file && file->count == 2);
    for (i = 0; i < 2; i++) CHECK_TEXT(mde_safetensors_metadata(file, pairs[2 * i]), pairs[2 * i + 1]);
    mde_safetensors_free(c, file);
    /* Tensors that the set does not have are no matter: a checkpoint has the moments besides. */
    CHECK(mde_checkpoint_write(p, path, 0, NULL) == MDE_OK);
    q = small_set(c, 3);
    CHECK(mde_params_read(q, path) == MDE_OK);
    CHECK(hash_of_set(p) == hash_of_set(q));
    remove(path);
    CHECK(mde_params_read(q, path) == MDE_IO);
    CHECK_TEXT(mde_error(c), path);
    mde_context_free(c);
}

/* Some steps on a small network, the data of a step being a function of its number. */
static void train(mde_context *c, mde_params *p, int from, int to)
{
    int step;
    for (step = from; step < to; step++) {
        mde_mark mark = mde_arena_mark(c);
        mde_random random = mde_random_start(5, (uint64_t)step);
        mde_adamw_desc desc = adamw_of(0.02);
        mde_tensor *x = mde_tensor_create(c, 2, column), *y;
        size_t j;
        desc.weight_decay = 0.1;
        for (j = 0; x && j < x->count; j++) x->data[j] = (float)mde_random_normal(&random);
        y = mde_tanh(c, mde_matmul(c, x, mde_params_find(p, "matrix")));
        y = mde_mul(c, y, mde_slice(c, mde_params_find(p, "vector"), 0, 0, 5));
        mde_params_zero_grad(p);
        mde_backward(c, mde_mean(c, mde_mul(c, y, y)));
        mde_adamw_step(p, &desc);
        mde_arena_rewind(c, mark);
    }
}

/* A set of one matrix, trained for a few steps. */
static mde_params *one_matrix(mde_context *c, const char *name, uint64_t seed, int steps)
{
    static const int64_t shape[2] = { 4, 3 };
    mde_params *p = mde_params_create(c, seed);
    mde_tensor *w = mde_param(p, name, 2, shape, MDE_INIT_NORMAL, 1);
    mde_adamw_desc desc;
    int i;
    memset(&desc, 0, sizeof desc);
    desc.learning_rate = 0.1;
    for (i = 0; i < steps; i++) {
        mde_mark mark = mde_arena_mark(c);
        mde_params_zero_grad(p);
        mde_backward(c, mde_mean(c, mde_mul(c, w, w)));
        mde_adamw_step(p, &desc);
        mde_arena_rewind(c, mark);
    }
    return p;
}

static void two_sets_go_into_one_checkpoint(void)
{
    const char *path = scratch_path("both");
    mde_context *c = mde_context_create(NULL);
    mde_params *kept[2], *other[2], *alone[1];
    mde_safetensors *file;
    kept[0] = one_matrix(c, "first", 1, 3);
    kept[1] = one_matrix(c, "second", 2, 8);
    other[0] = one_matrix(c, "first", 11, 0);
    other[1] = one_matrix(c, "second", 12, 1);
    CHECK(mde_checkpoint_write_sets(2, kept, path, 0, NULL) == MDE_OK);
    file = mde_safetensors_read(c, path);
    CHECK(mde_checkpoint_load_sets(2, other, path, file) == MDE_OK);
    CHECK(hash_of_set(other[0]) == hash_of_set(kept[0]) && hash_of_set(other[1]) == hash_of_set(kept[1]));
    /* The moments and steps came along: one more step gives the same. */
    {
        mde_adamw_desc desc;
        int k;
        memset(&desc, 0, sizeof desc);
        desc.learning_rate = 0.1;
        for (k = 0; k < 2; k++) {
            mde_params_zero_grad(kept[k]);
            mde_params_zero_grad(other[k]);
            mde_adamw_step(kept[k], &desc);
            mde_adamw_step(other[k], &desc);
            CHECK(hash_of_set(other[k]) == hash_of_set(kept[k]));
        }
    }
    CHECK(mde_context_status(c) == MDE_OK);
    alone[0] = other[0];
    CHECK(mde_checkpoint_load_sets(1, alone, path, file) == MDE_BAD_FILE);
    CHECK_TEXT(mde_error(c), "adamw.steps");
    mde_clear_error(c);
    alone[0] = NULL;
    CHECK(mde_checkpoint_write_sets(1, alone, path, 0, NULL) == MDE_BAD_ARGUMENT);
    other[1] = NULL;
    CHECK(mde_checkpoint_write_sets(2, other, path, 0, NULL) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "number 1 is NULL");
    remove(path);
    mde_context_free(c);
}

/* Each byte of a checkpoint's numbers and of its metadata's values, one bit turned. */
static void a_damaged_checkpoint_is_refused(void)
{
    static const char *const pairs[2] = {"epoch", "7"};
    const char *path = scratch_path("checkpoint");
    mde_context *c = mde_context_create(NULL);
    mde_params *p = small_set(c, 1), *other = small_set(c, 99);
    uint64_t before = hash_of_set(other);
    unsigned char *bytes;
    size_t size = 0, at, data, epoch;
    train(c, p, 0, 3);
    CHECK(mde_checkpoint_write(p, path, 1, pairs) == MDE_OK);
    bytes = mde_file_read(c, path, SIZE_MAX, &size);
    data = 8 + (size_t)bytes[0] + 256 * (size_t)bytes[1];
    for (epoch = 8; memcmp(bytes + epoch, "\"epoch\":\"7\"", 11) != 0; epoch++) {}
    epoch += 9;
    CHECK(size - data == 12 * (mde_params_tensor(p, 0)->count + mde_params_tensor(p, 1)->count));
    for (at = epoch; at < size; at = at == epoch ? data : at + 1) {
        bytes[at] ^= 1u << at % 7;
        CHECK(mde_file_write(c, path, bytes, size) == MDE_OK);
        CHECK(mde_checkpoint_read(other, path) == NULL);
        CHECK_TEXT(mde_error(c), "damaged");
        CHECK(mde_context_status(c) == MDE_BAD_FILE);
        mde_clear_error(c);
        CHECK(mde_params_read(other, path) == MDE_BAD_FILE);
        mde_clear_error(c);
        bytes[at] ^= 1u << at % 7;
    }
    CHECK(hash_of_set(other) == before);
    CHECK(mde_file_write(c, path, bytes, size) == MDE_OK && mde_checkpoint_read(other, path) != NULL);
    CHECK(hash_of_set(other) == hash_of_set(p));
    remove(path);
    mde_context_free(c);
}

static void a_continued_run_gives_the_bits_of_an_uninterrupted_one(void)
{
    static const char *const pairs[2] = {"epoch", "7"};
    const char *path = scratch_path("checkpoint");
    mde_context *c = mde_context_create(NULL), *d = mde_context_create(NULL);
    mde_params *whole = small_set(c, 1), *half = small_set(c, 1), *rest = small_set(d, 99);
    mde_safetensors *file;
    uint64_t start = hash_of_set(whole);
    train(c, whole, 0, 12);
    train(c, half, 0, 5);
    CHECK(mde_checkpoint_write(half, path, 1, pairs) == MDE_OK);
    file = mde_checkpoint_read(rest, path);
    CHECK(file != NULL);
    CHECK_TEXT(mde_safetensors_metadata(file, "epoch"), "7");
    CHECK(hash_of_set(rest) == hash_of_set(half));
    train(d, rest, 5, 12);
    CHECK(hash_of_set(rest) == hash_of_set(whole));
    CHECK(hash_of_set(whole) != start);
    CHECK(mde_context_status(c) == MDE_OK && mde_context_status(d) == MDE_OK);
    remove(path);
    mde_context_free(c);
    mde_context_free(d);
}

/* The file is refused with that text in the error, as weights or as a checkpoint, and the set stays as it was. */
static void check_refused(mde_context *c, mde_params *p, const char *path, int checkpoint, mde_status status,
                          const char *text)
{
    uint64_t before = hash_of_set(p);
    if (checkpoint) CHECK(mde_checkpoint_read(p, path) == NULL);
    else CHECK(mde_params_read(p, path) == status);
    CHECK(mde_context_status(c) == status);
    CHECK_TEXT(mde_error(c), path);
    CHECK_TEXT(mde_error(c), text);
    mde_clear_error(c);
    CHECK(hash_of_set(p) == before);
}

static void files_that_do_not_fit_are_refused_and_change_nothing(void)
{
    static const char *const steps[5] = {"", "x", "-1", "1.5", "nan"};
    const char *path = scratch_path("wrong");
    mde_context *c = mde_context_create(NULL);
    mde_params *p = small_set(c, 1), *q;
    mde_random random = mde_random_start(9, 0);
    mde_adamw_desc desc = adamw_of(0.01);
    int i;
    fill_gradients(p, &random);
    mde_adamw_step(p, &desc);

    /* What is wrong comes last, so that copying along the way would be seen. */
    q = mde_params_create(c, 2);
    mde_param(q, "matrix", 2, matrix, MDE_INIT_NORMAL, 1);
    mde_checkpoint_write(q, path, 0, NULL);
    check_refused(c, p, path, 0, MDE_BAD_FILE, "has no tensor vector");
    check_refused(c, p, path, 1, MDE_BAD_FILE, "has no tensor vector");
    mde_param(q, "vector", 2, matrix, MDE_INIT_NORMAL, 1);
    mde_checkpoint_write(q, path, 0, NULL);
    check_refused(c, p, path, 0, MDE_BAD_FILE, "tensor vector is [4,5]; expected [7]");
    check_refused(c, p, path, 1, MDE_BAD_FILE, "tensor vector is [4,5]; expected [7]");

    /* The same number of elements in another order of axes. */
    q = mde_params_create(c, 2);
    mde_param(q, "matrix", 2, column, MDE_INIT_NORMAL, 1);
    mde_param(q, "vector", 1, vector, MDE_INIT_NORMAL, 1);
    mde_params_write(q, path, 0, NULL);
    check_refused(c, p, path, 0, MDE_BAD_FILE, "tensor matrix is [5,4]; expected [4,5]");

    q = small_set(c, 2);
    mde_params_write(q, path, 0, NULL);
    check_refused(c, p, path, 1, MDE_BAD_FILE, "adamw.steps");
    for (i = 0; i < 5; i++) {
        const char *pairs[2];
        pairs[0] = "adamw.steps";
        pairs[1] = steps[i];
        mde_params_write(q, path, 1, pairs);
        check_refused(c, p, path, 1, MDE_BAD_FILE, "adamw.steps");
        if (i > 0) continue;
        pairs[1] = "3";
        mde_params_write(q, path, 1, pairs);
        check_refused(c, p, path, 1, MDE_BAD_FILE, "has no tensor adamw.m.matrix");
        CHECK(mde_checkpoint_write(q, path, 1, pairs) == MDE_BAD_ARGUMENT);
        CHECK_TEXT(mde_error(c), "adamw.steps");
        mde_clear_error(c);
        pairs[1] = NULL;
        CHECK(mde_checkpoint_write(q, path, 1, pairs) == MDE_BAD_ARGUMENT);
        CHECK_TEXT(mde_error(c), "metadata pair 0");
        mde_clear_error(c);
    }
    CHECK(mde_file_write(c, path, "no tensors", 10) == MDE_OK);
    check_refused(c, p, path, 0, MDE_BAD_FILE, "");
    check_refused(c, p, path, 1, MDE_BAD_FILE, "");
    remove(path);
    check_refused(c, p, path, 1, MDE_IO, "");
    mde_context_free(c);
}

static void a_failed_allocation_in_a_checkpoint_is_reported_and_nothing_leaks(void)
{
    const char *path = scratch_path("memory");
    test_heap heap;
    mde_context_desc desc;
    int64_t n;
    int reading, done;
    memset(&desc, 0, sizeof desc);
    desc.allocate = test_allocate;
    desc.release = test_release;
    desc.user = &heap;
    for (reading = 0; reading < 2; reading++) {
        for (n = 1, done = 0; n < 1000 && !done; n++) {
            mde_context *c;
            mde_params *p;
            uint64_t before;
            int64_t live;
            memset(&heap, 0, sizeof heap);
            c = mde_context_create(&desc);
            p = small_set(c, (uint64_t)reading);
            before = hash_of_set(p);    /* which makes the moments: they stay */
            heap.fail_at = heap.calls + n;
            live = heap.held;
            if (reading) mde_checkpoint_read(p, path);
            else mde_checkpoint_write(p, path, 0, NULL);
            done = heap.calls < heap.fail_at;
            CHECK(mde_context_status(c) == (done ? MDE_OK : MDE_OUT_OF_MEMORY));
            /* Temporaries are gone, and nothing else: only a file that was read stays. */
            CHECK(reading && done ? heap.held > live : heap.held == live);
            heap.fail_at = 0;
            mde_clear_error(c);
            CHECK((hash_of_set(p) == before) == (!reading || !done));
            mde_context_free(c);
            CHECK(heap.held == 0);
        }
        CHECK(done && n > 5);
    }
    remove(path);
}

int main(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_make_folder(c, "build");
    mde_context_free(c);
    TEST(initial_values_follow_their_distribution);
    TEST(initial_values_depend_on_seed_and_name_alone);
    TEST(parameters_are_found_by_name_and_by_place);
    TEST(a_name_twice_or_none_is_refused);
    TEST(adamw_agrees_with_double_precision_over_twenty_steps);
    TEST(a_norm_that_is_not_finite_changes_nothing);
    TEST(schedules_start_and_end_where_they_should);
    TEST(weights_come_back_from_a_file);
    TEST(two_sets_go_into_one_checkpoint);
    TEST(a_damaged_checkpoint_is_refused);
    TEST(a_continued_run_gives_the_bits_of_an_uninterrupted_one);
    TEST(files_that_do_not_fit_are_refused_and_change_nothing);
    TEST(a_failed_allocation_in_a_checkpoint_is_reported_and_nothing_leaks);
    return test_end();
}
