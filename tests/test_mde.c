/* Mixtures of data experts: loss, gradient, exact minimum with its certificate, bootstrap, folders of log-probabilities. */
#include "../mdemix.h"
#include "test.h"

#define FOLDER "build/test_mde.tmp"
#define MAX_EXPERTS 20

static const char *const names[MAX_EXPERTS] = { "e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7", "e8", "e9", "e10",
                                                "e11", "e12", "e13", "e14", "e15", "e16", "e17", "e18", "e19" };

/* Log-probabilities of `experts` experts for `tokens` tokens: a common difficulty and an own deviation of each. */
typedef struct table { int experts; size_t tokens; float *logp[MAX_EXPERTS]; } table;

static table make_table(int experts, size_t tokens, double spread, uint64_t seed)
{
    table x;
    int i;
    size_t t;
    x.experts = experts;
    x.tokens = tokens;
    for (i = 0; i < experts; i++) x.logp[i] = (float *)malloc(tokens * sizeof(float));
    for (t = 0; t < tokens; t++) {
        mde_random r = mde_random_start(seed, t);
        double common = 3 * mde_random_uniform(&r);
        for (i = 0; i < experts; i++) {
            double value = -common - spread * fabs(mde_random_normal(&r)) * (1 + 0.1 * i);
            x.logp[i][t] = (float)value;
        }
    }
    return x;
}

static void free_table(table *x)
{
    int i;
    for (i = 0; i < x->experts; i++) free(x->logp[i]);
}

static mde_experts *experts_of(mde_context *c, const table *x)
{
    mde_experts *e = mde_experts_create(c, x->experts, names);
    mde_experts_add(e, "text", x->tokens, (const float *const *)x->logp, NULL, 0);
    return e;
}

/* The definition, in double. */
static double plain_loss(const table *x, const double *w, double *gradient)
{
    double loss = 0;
    size_t t;
    int i;
    for (i = 0; gradient && i < x->experts; i++) gradient[i] = 0;
    for (t = 0; t < x->tokens; t++) {
        double p = 0;
        for (i = 0; i < x->experts; i++) p += w[i] * exp((double)x->logp[i][t]);
        loss -= log(p) / (double)x->tokens;
        for (i = 0; gradient && i < x->experts; i++) {
            gradient[i] -= exp((double)x->logp[i][t]) / p / (double)x->tokens;
        }
    }
    return loss;
}

static void random_weights(uint64_t seed, int k, double alpha, double *w)
{
    double a[MAX_EXPERTS];
    mde_random r = mde_random_start(seed, 12345);
    int i;
    for (i = 0; i < k; i++) a[i] = alpha;
    mde_random_dirichlet(&r, k, a, w);
}

/* ---- Loss ---- */

/* Ratios are stored as float32, so each probability is off by at most 2^-24 of itself, and so is any mixture of them. */
#define ROUNDING 6e-8

static void loss_and_gradient_equal_the_plain_double_loop(void)
{
    mde_context *c = mde_context_create(NULL);
    int k, i;
    size_t n;
    for (k = 1; k <= MAX_EXPERTS; k += k < 4 ? 1 : 4) {
        for (n = 1; n < 20000; n = n * 3 + 1) {
            table x = make_table(k, n, 2, (uint64_t)(k * 100) + n);
            mde_experts *e = experts_of(c, &x);
            double w[MAX_EXPERTS], g[MAX_EXPERTS], expected[MAX_EXPERTS], loss, truth;
            random_weights(n, k, 0.5, w);
            loss = mde_validation_loss(e, 0, w, g);
            truth = plain_loss(&x, w, expected);
            CLOSE(loss, truth, 2 * ROUNDING);
            for (i = 0; i < k; i++) CHECK(fabs(g[i] - expected[i]) <= 4 * ROUNDING * fabs(expected[i]));
            CHECK(mde_validation_loss(e, 0, w, NULL) == loss);
            CHECK(mde_mixture_loss(e, NULL, w, NULL) == loss);
            mde_experts_free(e);
            free_table(&x);
        }
    }
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

static void weights_times_gradient_is_minus_one(void)
{
    mde_context *c = mde_context_create(NULL);
    table x = make_table(7, 5000, 3, 5);
    mde_experts *e = experts_of(c, &x);
    double w[MAX_EXPERTS], g[MAX_EXPERTS], sum = 0;
    int i;
    random_weights(3, 7, 1, w);
    mde_validation_loss(e, 0, w, g);
    for (i = 0; i < 7; i++) sum += w[i] * g[i];
    CLOSE(sum, -1, 1e-12);
    free_table(&x);
    mde_context_free(c);
}

/* At a corner of the simplex the mixture is the expert itself. */
static void loss_at_a_vertex_is_the_experts_own_loss(void)
{
    mde_context *c = mde_context_create(NULL);
    table x = make_table(5, 3000, 2, 8);
    mde_experts *e = experts_of(c, &x);
    int i;
    size_t t;
    for (i = 0; i < 5; i++) {
        double w[5] = { 0, 0, 0, 0, 0 }, own = 0;
        w[i] = 1;
        for (t = 0; t < x.tokens; t++) own -= (double)x.logp[i][t] / (double)x.tokens;
        CLOSE(mde_validation_loss(e, 0, w, NULL), own, 2 * ROUNDING);
    }
    free_table(&x);
    mde_context_free(c);
}

/* The loss is convex, and no worse than the share of one expert alone. */
static void loss_keeps_jensens_bound_and_the_bound_of_each_expert(void)
{
    mde_context *c = mde_context_create(NULL);
    table x = make_table(6, 2000, 2, 9);
    mde_experts *e = experts_of(c, &x);
    double own[6], w[MAX_EXPERTS], loss, mean;
    int i, trial;
    for (i = 0; i < 6; i++) {
        double corner[6] = { 0, 0, 0, 0, 0, 0 };
        corner[i] = 1;
        own[i] = mde_validation_loss(e, 0, corner, NULL);
    }
    for (trial = 0; trial < 200; trial++) {
        random_weights((uint64_t)trial, 6, 0.3, w);
        loss = mde_validation_loss(e, 0, w, NULL);
        for (i = 0, mean = 0; i < 6; i++) {
            mean += w[i] * own[i];
            if (w[i] > 0) CHECK(loss <= own[i] - log(w[i]) + 1e-12);
        }
        CHECK(loss <= mean + 1e-12);
    }
    free_table(&x);
    mde_context_free(c);
}

/* Proposition 3.1 of the paper on counts: pooling the weighted counts of the domains and normalising is the same as mixing
   the domains' own conditional models with weights in proportion to lambda_i D_i(x). */
#define SYMBOLS 5
static void mixing_with_prefix_weights_is_exactly_training_on_pooled_counts(void)
{
    static const double lambda[3] = { 0.2, 0.5, 0.3 };
    mde_context *c = mde_context_create(NULL);
    double share[3][SYMBOLS][SYMBOLS];                       /* relative frequency of prefix x followed by y */
    int i, x, y;
    for (i = 0; i < 3; i++) {
        mde_random r = mde_random_start(31, (uint64_t)i);
        double total = 0;
        for (x = 0; x < SYMBOLS; x++) {
            for (y = 0; y < SYMBOLS; y++) total += share[i][x][y] = 1.0 + (double)mde_random_below(&r, 50);
        }
        for (x = 0; x < SYMBOLS; x++) {
            for (y = 0; y < SYMBOLS; y++) share[i][x][y] /= total;
        }
    }
    for (x = 0; x < SYMBOLS; x++) {
        float rows[3][SYMBOLS];
        const float *logp[3] = { rows[0], rows[1], rows[2] };
        mde_experts *e = mde_experts_create(c, 3, names);
        double prefix[3], weights[3], all = 0, loss = 0, mixture_loss = 0;
        for (i = 0; i < 3; i++) {
            for (y = 0, prefix[i] = 0; y < SYMBOLS; y++) prefix[i] += share[i][x][y];
            all += lambda[i] * prefix[i];
        }
        for (i = 0; i < 3; i++) weights[i] = lambda[i] * prefix[i] / all;
        for (y = 0; y < SYMBOLS; y++) {
            double pooled = 0, mixed = 0;
            for (i = 0; i < 3; i++) {
                pooled += lambda[i] * share[i][x][y] / all;
                mixed += weights[i] * (share[i][x][y] / prefix[i]);
                rows[i][y] = (float)log(share[i][x][y] / prefix[i]);
            }
            CLOSE(mixed, pooled, 1e-14);
            loss -= log(pooled) / SYMBOLS;
        }
        mde_experts_add(e, "after x", SYMBOLS, logp, NULL, 0);
        mixture_loss = mde_validation_loss(e, 0, weights, NULL);
        CLOSE(mixture_loss, loss, 8 * ROUNDING);             /* log-probabilities of up to 6 nats came as float32 */
        mde_experts_free(e);
    }
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

/* Tokens that all experts find nearly impossible: float32 probabilities would all be 0. */
static void very_improbable_tokens_keep_their_precision(void)
{
    mde_context *c = mde_context_create(NULL);
    float a[4] = { -500.25f, -1000, -3, -20000 }, b[4] = { -501.25f, -1000, -300, -20000.5f };
    const float *logp[2] = { a, b };
    mde_experts *e = mde_experts_create(c, 2, names);
    double w[2] = { 0.25, 0.75 }, corner[2] = { 0, 1 }, truth;
    mde_experts_add(e, "text", 4, logp, NULL, 0);
    truth = 500.25 - log(0.25 + 0.75 * exp(-1.0)) + 1000 + 3 - log(0.25) + 20000 - log(0.25 + 0.75 * exp(-0.5));
    CLOSE(mde_validation_loss(e, 0, w, NULL) * 4, truth, 2 * ROUNDING / 1e3);
    CHECK(mde_validation_loss(e, 0, corner, NULL) < 1e9);    /* 297 nats worse than the other expert is not impossible */
    mde_context_free(c);
}

static void zero_probabilities_are_allowed_as_long_as_one_expert_has_none(void)
{
    mde_context *c = mde_context_create(NULL);
    float a[3] = { -1, -(float)INFINITY, -2 }, b[3] = { -2, -1, -(float)INFINITY }, all[3] = { -1, -1, -1 };
    const float *logp[2] = { a, b }, *both[2] = { a, a };
    mde_experts *e = mde_experts_create(c, 2, names);
    double w[2] = { 0.5, 0.5 }, corner[2] = { 1, 0 }, lower[2] = { 1, 0 };
    mde_minimize_desc bounds;
    mde_optimum best;
    mde_experts_add(e, "text", 3, logp, NULL, 0);
    CLOSE(mde_validation_loss(e, 0, w, NULL) * 3, -log(0.5 * (exp(-1) + exp(-2))) + 3 - 2 * log(0.5), 4 * ROUNDING);
    CHECK(mde_validation_loss(e, 0, corner, NULL) == (double)INFINITY);
    CHECK(mde_mixture_minimize(e, NULL, &best) == MDE_OK && best.weights[0] > 0.1 && best.weights[1] > 0.1);
    memset(&bounds, 0, sizeof bounds);
    bounds.lower = lower;
    CHECK(mde_mixture_minimize(e, &bounds, &best) == MDE_NOT_FINITE);
    CHECK_TEXT(mde_error(c), "probability 0");
    mde_clear_error(c);
    CHECK(mde_experts_add(e, "impossible", 3, both, NULL, 0) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "token 1: every expert gives it probability 0");
    mde_clear_error(c);
    both[1] = all;
    CHECK(mde_experts_add(e, "possible", 3, both, NULL, 0) == MDE_OK && mde_experts_validations(e) == 2);
    mde_context_free(c);
}

static void the_objective_weighs_the_validation_texts(void)
{
    mde_context *c = mde_context_create(NULL);
    table x = make_table(3, 700, 2, 1), y = make_table(3, 900, 1, 2);
    mde_experts *e = mde_experts_create(c, 3, names);
    double w[3] = { 0.2, 0.3, 0.5 }, objective[2] = { 3, 1 }, only[2] = { 0, 5 }, none[2] = { 0, 0 }, minus[2] = { 1, -1 };
    double gx[3], gy[3], g[3], lx, ly, out[4], mixtures[6] = { 0.2, 0.3, 0.5, 1, 0, 0 };
    int i;
    mde_experts_add(e, "x", x.tokens, (const float *const *)x.logp, NULL, 1400);
    mde_experts_add(e, "y", y.tokens, (const float *const *)y.logp, NULL, 0);
    lx = mde_validation_loss(e, 0, w, gx);
    ly = mde_validation_loss(e, 1, w, gy);
    CLOSE(mde_mixture_loss(e, NULL, w, NULL), (lx + ly) / 2, 1e-14);
    CLOSE(mde_mixture_loss(e, objective, w, g), (3 * lx + ly) / 4, 1e-14);
    for (i = 0; i < 3; i++) CLOSE(g[i], (3 * gx[i] + gy[i]) / 4, 1e-14);
    CHECK(mde_mixture_loss(e, only, w, NULL) == ly);
    CHECK(mde_mixture_losses(e, 2, mixtures, out) == MDE_OK);
    CLOSE(out[0], lx, 1e-8);
    CLOSE(out[1], ly, 1e-8);
    CHECK(mde_experts_find_validation(e, "y") == 1 && mde_experts_find_validation(e, "z") == -1);
    CHECK(mde_experts_tokens(e, 1) == 900 && mde_experts_tokens(e, 2) == 0 && mde_experts_bytes(e, 0) == 1400);
    CHECK(strcmp(mde_experts_name(e, 2), "e2") == 0 && strcmp(mde_experts_validation(e, 0), "x") == 0);
    CHECK(mde_mixture_loss(e, none, w, NULL) != mde_mixture_loss(e, none, w, NULL));
    CHECK_TEXT(mde_error(c), "no validation text has a weight above 0");
    mde_clear_error(c);
    CHECK(mde_mixture_loss(e, minus, w, NULL) != 0 && mde_context_status(c) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "weight of y is -1");
    mde_context_free(c);
    free_table(&x);
    free_table(&y);
}

static void losses_of_many_mixtures_are_those_of_one_by_one(void)
{
    mde_context *c = mde_context_create(NULL);
    table x = make_table(7, 5003, 2, 41), y = make_table(7, 77, 1, 42);
    mde_experts *e = mde_experts_create(c, 7, names);
    double weights[150 * 7], out[150 * 2];
    int n;
    mde_experts_add(e, "x", x.tokens, (const float *const *)x.logp, NULL, 0);
    mde_experts_add(e, "y", y.tokens, (const float *const *)y.logp, NULL, 0);
    for (n = 0; n < 150; n++) random_weights((uint64_t)n, 7, 0.4, weights + n * 7);
    CHECK(mde_mixture_losses(e, 150, weights, out) == MDE_OK);
    for (n = 0; n < 150; n++) {
        CLOSE(out[2 * n], mde_validation_loss(e, 0, weights + n * 7, NULL), 1e-8);
        CLOSE(out[2 * n + 1], mde_validation_loss(e, 1, weights + n * 7, NULL), 1e-8);
    }
    CHECK(mde_mixture_losses(e, 0, NULL, NULL) == MDE_OK);
    free_table(&x);
    free_table(&y);
    mde_context_free(c);
}

static void wrong_weights_and_log_probabilities_are_errors_that_say_where(void)
{
    mde_context *c = mde_context_create(NULL);
    float good[3] = { -1, -2, -3 }, bad[3] = { -1, -2, 0.5f };
    const float *logp[2] = { good, good };
    double documents[3] = { 2, 2, 1 }, w[2] = { 0.5, 0.6 };
    mde_experts *e = mde_experts_create(c, 2, names);
    CHECK(mde_mixture_minimize(e, NULL, &(mde_optimum){ 0 }) == MDE_BAD_ARGUMENT);     /* no validation text yet */
    mde_clear_error(c);
    CHECK(mde_experts_add(e, "text", 3, logp, documents, 0) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "document of token 2 is 1");
    mde_clear_error(c);
    documents[1] = (double)NAN;
    CHECK(mde_experts_add(e, "text", 3, logp, documents, 0) == MDE_BAD_ARGUMENT);
    mde_clear_error(c);
    logp[1] = bad;
    CHECK(mde_experts_add(e, "text", 3, logp, NULL, 0) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "validation text, expert e1, token 2: log-probability is 0.5");
    mde_clear_error(c);
    bad[2] = (float)NAN;
    CHECK(mde_experts_add(e, "text", 3, logp, NULL, 0) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "nan");
    mde_clear_error(c);
    logp[1] = good;
    CHECK(mde_experts_add(e, "text", 0, logp, NULL, 0) == MDE_BAD_ARGUMENT);
    mde_clear_error(c);
    CHECK(mde_experts_validations(e) == 0);
    CHECK(mde_experts_add(e, "text", 3, logp, NULL, 0) == MDE_OK);
    CHECK(mde_experts_add(e, "text", 3, logp, NULL, 0) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "is there already");
    mde_clear_error(c);
    CHECK(mde_validation_loss(e, 0, w, NULL) != mde_validation_loss(e, 0, w, NULL));
    CHECK_TEXT(mde_error(c), "weights sum to 1.1");
    mde_clear_error(c);
    w[0] = -0.1;
    w[1] = 1.1;
    mde_mixture_losses(e, 1, w, documents);
    CHECK_TEXT(mde_error(c), "mixture 0: weight of e0 is -0.1");
    mde_clear_error(c);
    w[0] = 0.5;
    w[1] = 0.5;
    mde_validation_loss(e, 1, w, NULL);
    CHECK_TEXT(mde_error(c), "validation is 1; expected 0 to 0");
    mde_clear_error(c);
    CHECK(mde_experts_create(c, 0, names) == NULL && mde_context_status(c) == MDE_BAD_ARGUMENT);
    mde_clear_error(c);
    CHECK(mde_experts_create(c, MDE_MAX_DOMAINS + 1, names) == NULL && mde_context_status(c) == MDE_BAD_ARGUMENT);
    CHECK(mde_validation_loss(NULL, 0, w, NULL) != 0 && mde_mixture_losses(NULL, 1, w, w) != MDE_OK);
    mde_experts_free(NULL);
    mde_context_free(c);
}

static void a_loss_is_given_in_bits_a_byte(void)
{
    mde_context *c = mde_context_create(NULL);
    table x = make_table(3, 700, 2, 1);
    mde_experts *e = mde_experts_create(c, 3, names);
    double unknown;
    mde_experts_add(e, "known", x.tokens, (const float *const *)x.logp, NULL, 2800);
    mde_experts_add(e, "unknown", x.tokens, (const float *const *)x.logp, NULL, 0);
    CLOSE(mde_bits_per_byte(e, 0, log(2.0)), 0.25, 1e-15);   /* a bit for each token of four bytes */
    CLOSE(mde_bits_per_byte(e, 0, 3.5), 3.5 / log(2.0) / 4, 1e-15);
    unknown = mde_bits_per_byte(e, 1, 3.5);
    CHECK(unknown != unknown && mde_context_status(c) == MDE_OK);
    unknown = mde_bits_per_byte(e, 2, 3.5);
    CHECK(unknown != unknown && mde_context_status(c) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "validation is 2; expected 0 to 1");
    mde_clear_error(c);
    CHECK(mde_bits_per_byte(NULL, 0, 1) != 0.0);
    free_table(&x);
    mde_context_free(c);
}

/* ---- Prices ---- */

static void prices_are_the_slopes_of_the_loss_towards_each_domain(void)
{
    mde_context *c = mde_context_create(NULL);
    table x = make_table(6, 900, 2, 61), y = make_table(6, 500, 1, 62);
    mde_experts *e = mde_experts_create(c, 6, names);
    double objective[2] = { 3, 1 }, w[MAX_EXPERTS], prices[MAX_EXPERTS], step = 1e-5, sum = 0;
    int i, l;
    mde_experts_add(e, "x", x.tokens, (const float *const *)x.logp, NULL, 0);
    mde_experts_add(e, "y", y.tokens, (const float *const *)y.logp, NULL, 0);
    random_weights(4, 6, 2, w);
    CHECK(mde_mixture_prices(e, objective, w, prices) == MDE_OK);
    for (i = 0; i < 6; i++) {
        double more[MAX_EXPERTS], less[MAX_EXPERTS];
        for (l = 0; l < 6; l++) {
            more[l] = (1 - step) * w[l] + (l == i) * step;
            less[l] = (1 + step) * w[l] - (l == i) * step;
        }
        CLOSE((mde_mixture_loss(e, objective, more, NULL) - mde_mixture_loss(e, objective, less, NULL)) / (2 * step),
              prices[i], 1e-7);
        /* Convex: the loss cannot fall faster than it does at first. */
        for (l = 0; l < 6; l++) more[l] = 0.9 * w[l] + 0.1 * (l == i);
        CHECK(mde_mixture_loss(e, objective, more, NULL) >= mde_mixture_loss(e, objective, w, NULL) + 0.1 * prices[i]);
        sum += w[i] * prices[i];
    }
    CLOSE(sum, 0, 1e-12);                                    /* giving every domain its share again changes nothing */
    free_table(&x);
    free_table(&y);
    mde_context_free(c);
}

static void prices_are_zero_in_the_optimum_and_none_is_negative_outside(void)
{
    mde_context *c = mde_context_create(NULL);
    int problem, i, in = 0, out = 0;
    for (problem = 0; problem < 20; problem++) {
        table x = make_table(9, 600, 2, (uint64_t)(80 + problem));
        mde_experts *e = experts_of(c, &x);
        mde_minimize_desc desc;
        mde_optimum best;
        double prices[MAX_EXPERTS];
        memset(&desc, 0, sizeof desc);
        desc.gap = 1e-10;
        CHECK(mde_mixture_minimize(e, &desc, &best) == MDE_OK);
        CHECK(mde_mixture_prices(e, NULL, best.weights, prices) == MDE_OK);
        for (i = 0; i < 9; i++) {
            CHECK(prices[i] >= -1e-10);
            if (best.weights[i] > 1e-3) CHECK(fabs(prices[i]) <= 1e-6);
            in += best.weights[i] > 1e-3;
            out += best.weights[i] == 0 && prices[i] > 1e-6;
        }
        mde_experts_free(e);
        free_table(&x);
    }
    CHECK(in > 20 && out > 10);
    mde_context_free(c);
}

/* What the minimum falls by, per unit of share, when bound i of low (side 0) or high (side 1) gives way: one-sided
   differences of the second order. */
static double price_by_differences(const mde_experts *e, int k, const double *low, const double *high, int i, int side)
{
    const double h = 1e-4;
    double bounds[2][MAX_EXPERTS], value[3];
    mde_minimize_desc desc;
    mde_optimum best;
    int step;
    memcpy(bounds[0], low, (size_t)k * sizeof *low);
    memcpy(bounds[1], high, (size_t)k * sizeof *high);
    memset(&desc, 0, sizeof desc);
    desc.lower = bounds[0];
    desc.upper = bounds[1];
    desc.gap = 1e-12;
    for (step = 0; step < 3; step++) {
        CHECK(mde_mixture_minimize(e, &desc, &best) == MDE_OK);
        value[step] = best.loss;
        bounds[side][i] += side ? h : -h;
    }
    return (3 * value[0] - 4 * value[1] + value[2]) / (2 * h);
}

/* Around a mixture at which the smaller gradients stand at their upper bounds and the larger at their lower ones, so that
   it is the minimum: with a weight that is free or without, with a fixed one, or with all others fixed. */
static void shadow_prices_are_differences_of_the_minimum_at_vertices_too(void)
{
    enum { K = 5 };
    mde_context *c = mde_context_create(NULL);
    int problem, i, l, priced[2] = { 0, 0 }, unknown = 0;
    for (problem = 0; problem < 24; problem++) {
        table x = make_table(K, 700, 2, (uint64_t)(300 + problem));
        mde_experts *e = experts_of(c, &x);
        double w[K], low[K], high[K], gradient[K];
        int kind = problem % 4, fixed = problem % K, below[K];
        mde_minimize_desc desc;
        mde_optimum best;
        random_weights((uint64_t)problem, K, 2, w);
        for (i = 0; i < K; i++) w[i] = 0.5 * w[i] + 0.1;
        mde_mixture_loss(e, NULL, w, gradient);
        for (i = 0; i < K; i++) {
            for (l = below[i] = 0; l < K; l++) below[i] += gradient[l] < gradient[i];
            low[i] = below[i] < 2 ? w[i] - 0.03 : w[i];
            high[i] = below[i] < 2 ? w[i] : w[i] + 0.03;
            if (kind == 1 && below[i] == 2) low[i] -= 0.03;                           /* free */
            if ((kind == 2 && i == fixed) || (kind == 3 && i != fixed)) low[i] = high[i] = w[i];
        }
        memset(&desc, 0, sizeof desc);
        desc.lower = low;
        desc.upper = high;
        desc.gap = 1e-12;
        CHECK(mde_mixture_minimize(e, &desc, &best) == MDE_OK);
        for (i = 0; i < K; i++) {
            double moved[2] = { -1, -1 };
            int side, other, held = 0;
            if (kind != 1) CLOSE(best.weights[i], w[i], 1e-12);
            for (side = 0; side < 2; side++) {
                if (fabs(best.weights[i] - (side ? high : low)[i]) > 1e-9) continue;
                held = 1;
                /* Without another that can give (or take), a bound that gives way changes nothing. */
                for (l = other = 0; l < K; l++) {
                    other += l != i && fabs(best.weights[l] - (side ? low : high)[l]) > 1e-9;
                }
                if (other) moved[side] = price_by_differences(e, K, low, high, i, side);
            }
            CHECK((best.active[i] != 0) == held);
            if (!held) CHECK(best.price[i] == 0);
            else if (moved[0] == -1 && moved[1] == -1) CHECK(best.price[i] != best.price[i]);
            else CLOSE(best.price[i], moved[moved[1] > moved[0]], 1e-4);
            if (fabs(moved[1] - moved[0]) > 1e-6) CHECK(best.active[i] == (moved[1] > moved[0] ? 1 : -1));
            unknown += best.price[i] != best.price[i];
            if (best.price[i] > 0.02) priced[best.active[i] > 0]++;
        }
        mde_experts_free(e);
        free_table(&x);
    }
    CHECK(priced[0] > 10 && priced[1] > 10 && unknown >= 6);
    mde_context_free(c);
}

static void prices_of_wrong_mixtures_are_errors_that_say_where(void)
{
    mde_context *c = mde_context_create(NULL);
    float a[3] = { -1, -(float)INFINITY, -2 }, b[3] = { -2, -1, -1 };
    const float *logp[2] = { a, b };
    mde_experts *e = mde_experts_create(c, 2, names);
    double corner[2] = { 1, 0 }, wrong[2] = { 0.5, 0.6 }, w[2] = { 0.5, 0.5 }, none[1] = { 0 };
    double prices[2], low[2], high[2];
    mde_price_desc desc;
    memset(&desc, 0, sizeof desc);
    CHECK(mde_mixture_prices(e, NULL, w, prices) == MDE_BAD_ARGUMENT);       /* no validation text yet */
    mde_clear_error(c);
    mde_experts_add(e, "text", 3, logp, NULL, 0);
    CHECK(mde_mixture_prices(e, NULL, wrong, prices) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "weights sum to 1.1");
    mde_clear_error(c);
    CHECK(mde_mixture_prices(e, none, w, prices) == MDE_BAD_ARGUMENT);
    mde_clear_error(c);
    CHECK(mde_mixture_prices(e, NULL, corner, prices) == MDE_NOT_FINITE);
    CHECK_TEXT(mde_error(c), "probability 0 under the mixture");
    mde_clear_error(c);
    CHECK(mde_mixture_price_intervals(e, NULL, corner, NULL, low, high) == MDE_NOT_FINITE);
    mde_clear_error(c);
    CHECK(mde_mixture_price_intervals(e, NULL, wrong, NULL, low, high) == MDE_BAD_ARGUMENT);
    mde_clear_error(c);
    desc.level = 1;
    CHECK(mde_mixture_price_intervals(e, NULL, w, &desc, low, high) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "level must be below 1");
    mde_clear_error(c);
    CHECK(mde_mixture_prices(NULL, NULL, w, prices) != MDE_OK);
    CHECK(mde_mixture_price_intervals(NULL, NULL, w, NULL, low, high) != MDE_OK);
    mde_context_free(c);
}

/* ---- Minimum ---- */

static int feasible(int k, const double *w, const double *lower, const double *upper)
{
    double sum = 0;
    int i;
    for (i = 0; i < k; i++) {
        if (!(w[i] >= (lower ? lower[i] : 0) && w[i] <= (upper ? upper[i] : 1))) return 0;
        sum += w[i];
    }
    return fabs(sum - 1) < 1e-12;
}

/* Every mixture of three whose weights are multiples of 1/200. */
static double grid_minimum(const table *x, const double *lower, const double *upper)
{
    double least = 1e9, w[3];
    int a, b;
    for (a = 0; a <= 200; a++) {
        for (b = 0; a + b <= 200; b++) {
            double loss = 0;
            size_t t;
            w[0] = a / 200.0;
            w[1] = b / 200.0;
            w[2] = (200 - a - b) / 200.0;
            if (!feasible(3, w, lower, upper)) continue;
            for (t = 0; t < x->tokens; t++) {
                loss -= log(w[0] * (double)x->logp[0][t] + w[1] * (double)x->logp[1][t] + w[2] * (double)x->logp[2][t]);
            }
            if (loss / (double)x->tokens < least) least = loss / (double)x->tokens;
        }
    }
    return least;
}

static void the_minimum_is_that_of_a_search_over_all_mixtures_of_three(void)
{
    static const double lower[3] = { 0.1, 0, 0.2 }, upper[3] = { 0.3, 0.5, 0.9 };
    mde_context *c = mde_context_create(NULL);
    int seed, i;
    for (seed = 0; seed < 5; seed++) {
        table x = make_table(3, 150, seed == 4 ? 0.01 : 2, (uint64_t)(50 + seed)), p = make_table(3, 150, 1, 1);
        mde_experts *e = experts_of(c, &x);
        mde_minimize_desc desc;
        mde_optimum best;
        size_t t;
        for (t = 0; t < x.tokens; t++) {
            for (i = 0; i < 3; i++) p.logp[i][t] = (float)exp((double)x.logp[i][t]);
        }
        CHECK(mde_mixture_minimize(e, NULL, &best) == MDE_OK && best.count == 3 && best.gap <= 1e-6);
        CHECK(feasible(3, best.weights, NULL, NULL));
        /* No grid point is better than the certificate allows; the nearest one is within h^2 times the curvature. */
        CHECK(best.loss <= grid_minimum(&p, NULL, NULL) + 1e-6 + 2 * ROUNDING);
        CHECK(best.loss >= grid_minimum(&p, NULL, NULL) - 1e-3);
        memset(&desc, 0, sizeof desc);
        desc.lower = lower;
        desc.upper = upper;
        CHECK(mde_mixture_minimize(e, &desc, &best) == MDE_OK && best.gap <= 1e-6);
        CHECK(feasible(3, best.weights, lower, upper));
        CHECK(best.loss <= grid_minimum(&p, lower, upper) + 1e-6 + 2 * ROUNDING);
        CHECK(best.loss >= grid_minimum(&p, lower, upper) - 1e-3);
        free_table(&x);
        free_table(&p);
        mde_experts_free(e);
    }
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

/* A random point between the bounds: from the lower ones upwards, in random order. */
static void random_feasible(mde_random *r, int k, const double *lower, const double *upper, double *v)
{
    double left = 1;
    int64_t order[MAX_EXPERTS];
    int i, round;
    mde_random_permutation(r, k, order);
    for (i = 0; i < k; i++) {
        v[i] = lower[i];
        left -= lower[i];
    }
    for (round = 0; round < 2; round++) {
        for (i = 0; i < k; i++) {
            double room = upper[order[i]] - v[order[i]], mass = round ? room : room * mde_random_uniform(r);
            if (mass > left) mass = left;
            v[order[i]] += mass;
            left -= mass;
        }
    }
}

static void the_certificate_is_reached_and_true_for_many_random_problems_with_bounds(void)
{
    mde_context *c = mde_context_create(NULL);
    int problem, i, trial;
    for (problem = 0; problem < 150; problem++) {
        mde_random r = mde_random_start(77, (uint64_t)problem);
        int k = 2 + (int)mde_random_below(&r, 11);
        table x = make_table(k, 200 + mde_random_below(&r, 800), 0.2 + 3 * mde_random_uniform(&r), (uint64_t)problem);
        mde_experts *e = experts_of(c, &x);
        mde_minimize_desc desc;
        mde_optimum best;
        double middle[MAX_EXPERTS], lower[MAX_EXPERTS], upper[MAX_EXPERTS], v[MAX_EXPERTS];
        random_weights((uint64_t)problem, k, 0.7, middle);
        for (i = 0; i < k; i++) {
            lower[i] = problem % 3 == 0 ? 0 : middle[i] * mde_random_uniform(&r);
            upper[i] = problem % 3 == 1 ? 1 : middle[i] + (1 - middle[i]) * 0.3 * mde_random_uniform(&r);
        }
        memset(&desc, 0, sizeof desc);
        desc.lower = lower;
        desc.upper = upper;
        desc.gap = problem % 2 ? 1e-9 : 1e-6;
        CHECK(mde_mixture_minimize(e, &desc, &best) == MDE_OK);
        CHECK(best.gap >= 0 && best.gap <= desc.gap && feasible(k, best.weights, lower, upper));
        for (trial = 0; trial < 30 && mde_context_status(c) == MDE_OK; trial++) {
            random_feasible(&r, k, lower, upper, v);
            CHECK(mde_validation_loss(e, 0, v, NULL) >= best.loss - best.gap - 1e-12);
        }
        if (mde_context_status(c) != MDE_OK) printf("    problem %d: %s\n", problem, mde_error(c));
        mde_clear_error(c);
        mde_experts_free(e);
        free_table(&x);
    }
    mde_context_free(c);
}

static void twenty_experts_on_a_hundred_thousand_tokens_reach_the_certificate(void)
{
    mde_context *c = mde_context_create(NULL);
    table x = make_table(20, 100000, 2, 3);
    mde_experts *e = experts_of(c, &x);
    mde_optimum best;
    double g[MAX_EXPERTS], least = 0, v[MAX_EXPERTS];
    int i;
    CHECK(mde_mixture_minimize(e, NULL, &best) == MDE_OK);
    CHECK(best.gap <= 1e-6 && feasible(20, best.weights, NULL, NULL));
    /* The certificate again, from the gradient of the plain loop: w.g = -1, so the gap is max(-g) - 1. */
    CLOSE(plain_loss(&x, best.weights, g), best.loss, 2 * ROUNDING);
    for (i = 0; i < 20; i++) least = g[i] < least ? g[i] : least;
    CHECK(-least - 1 <= 1e-6 + 4 * ROUNDING);
    for (i = 0; i < 20; i++) {
        random_weights((uint64_t)i, 20, i % 2 ? 0.1 : 2, v);
        CHECK(mde_validation_loss(e, 0, v, NULL) >= best.loss - best.gap);
    }
    free_table(&x);
    mde_context_free(c);
}

/* Texts whose sample misleads: half of them of one kind and half of another, in order; a rare token that only the last
   expert knows, between the sampled ones; and a sample that says the opposite of the rest, 16 tokens of every 128. */
static void misleading_samples_still_reach_the_certificate(void)
{
    enum { TOKENS = 150000 };
    int kind, i;
    for (kind = 0; kind < 3; kind++) {
        mde_context *c = mde_context_create(NULL);
        table x = make_table(5, TOKENS, 2, (uint64_t)(60 + kind));
        mde_experts *e;
        mde_optimum best;
        double g[MAX_EXPERTS], least = 0;
        size_t t;
        for (t = 0; t < TOKENS; t++) {
            int favoured = kind == 0 ? (t < TOKENS / 2 ? 0 : 3) : kind == 1 ? 1 : t % 128 < 16 ? 0 : 4;
            x.logp[favoured][t] *= 0.2f;
            if (kind == 1) x.logp[4][t] = t % 12800 == 100 ? -0.5f : -40.0f;
            for (i = 0; kind == 1 && i < 4; i++) x.logp[i][t] = t % 12800 == 100 ? -200.0f : x.logp[i][t];
        }
        e = experts_of(c, &x);
        CHECK(mde_mixture_minimize(e, NULL, &best) == MDE_OK);
        CHECK(best.gap <= 1e-6 && best.iterations < 30 && feasible(5, best.weights, NULL, NULL));
        CLOSE(plain_loss(&x, best.weights, g), best.loss, 2 * ROUNDING);
        for (i = 0; i < 5; i++) least = g[i] < least ? g[i] : least;
        CHECK(-least - 1 <= 1e-6 + 4 * ROUNDING);
        if (kind == 1) CHECK(best.weights[4] > 1e-5 && best.weights[4] < 1e-3);
        mde_experts_free(e);
        free_table(&x);
        mde_context_free(c);
    }
}

static void identical_and_useless_experts_do_no_harm(void)
{
    mde_context *c = mde_context_create(NULL);
    table x = make_table(4, 500, 2, 4);
    mde_experts *e = mde_experts_create(c, 6, names);
    const float *logp[6] = { x.logp[0], x.logp[0], x.logp[0], x.logp[1], x.logp[1], NULL };
    float *hopeless = (float *)malloc(500 * sizeof *hopeless);
    mde_experts *same = mde_experts_create(c, 3, names), *two;
    mde_optimum best, without;
    size_t t;
    for (t = 0; t < 500; t++) hopeless[t] = -60;
    logp[5] = hopeless;
    mde_experts_add(e, "text", 500, logp, NULL, 0);
    CHECK(mde_mixture_minimize(e, NULL, &best) == MDE_OK && best.gap <= 1e-6 && best.weights[5] == 0);
    logp[1] = x.logp[1];
    two = mde_experts_create(c, 2, names);
    mde_experts_add(two, "text", 500, logp, NULL, 0);
    CHECK(mde_mixture_minimize(two, NULL, &without) == MDE_OK);
    CLOSE(best.loss, without.loss, 1e-6);
    CLOSE(best.weights[0] + best.weights[1] + best.weights[2], without.weights[0], 1e-2);
    logp[0] = logp[1] = logp[2] = x.logp[2];
    mde_experts_add(same, "text", 500, logp, NULL, 0);
    CHECK(mde_mixture_minimize(same, NULL, &best) == MDE_OK && feasible(3, best.weights, NULL, NULL));
    free(hopeless);
    free_table(&x);
    mde_context_free(c);
}

static void one_expert_and_fixed_weights_have_one_answer(void)
{
    mde_context *c = mde_context_create(NULL);
    table x = make_table(3, 400, 2, 6), one = make_table(1, 50, 1, 6);
    mde_experts *e = experts_of(c, &x), *single = experts_of(c, &one);
    double fixed[3] = { 0.1, 0.2, 0.7 }, thirds[3] = { 1 / 3.0, 1 / 3.0, 1 / 3.0 }, zero[3] = { 0, 0, 1 };
    mde_minimize_desc desc;
    mde_optimum best;
    memset(&desc, 0, sizeof desc);
    CHECK(mde_mixture_minimize(single, NULL, &best) == MDE_OK && best.weights[0] == 1);
    desc.lower = fixed;
    CHECK(mde_mixture_minimize(e, &desc, &best) == MDE_OK);
    CLOSE(best.weights[2], 0.7, 1e-12);
    desc.lower = NULL;
    desc.upper = thirds;
    CHECK(mde_mixture_minimize(e, &desc, &best) == MDE_OK);
    CLOSE(best.weights[1], 1 / 3.0, 1e-12);
    desc.upper = zero;
    CHECK(mde_mixture_minimize(e, &desc, &best) == MDE_OK && best.weights[2] == 1);
    free_table(&x);
    free_table(&one);
    mde_context_free(c);
}

static void bounds_between_which_no_mixture_lies_are_errors(void)
{
    mde_context *c = mde_context_create(NULL);
    table x = make_table(3, 100, 2, 6);
    mde_experts *e = experts_of(c, &x);
    double high[3] = { 0.5, 0.4, 0.2 }, low[3] = { 0.3, 0.3, 0.3 }, over[3] = { 0.5, 0.5, 1.5 }, crossed[3] = { 0.6, 0, 0 };
    mde_minimize_desc desc;
    mde_optimum best;
    memset(&desc, 0, sizeof desc);
    desc.lower = high;
    CHECK(mde_mixture_minimize(e, &desc, &best) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "lower bounds sum to 1.1");
    CHECK(best.loss != best.loss);
    mde_clear_error(c);
    desc.lower = NULL;
    desc.upper = low;
    CHECK(mde_mixture_minimize(e, &desc, &best) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "upper bounds sum to 0.9");
    mde_clear_error(c);
    desc.upper = over;
    CHECK(mde_mixture_minimize(e, &desc, &best) == MDE_BAD_ARGUMENT);
    mde_clear_error(c);
    desc.lower = crossed;
    desc.upper = high;
    CHECK(mde_mixture_minimize(e, &desc, &best) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "weight 0 has the lower bound 0.6 above its upper bound 0.5");
    free_table(&x);
    mde_context_free(c);
}

static void too_few_iterations_are_an_error_that_still_gives_the_best_found(void)
{
    mde_context *c = mde_context_create(NULL);
    table x = make_table(8, 500, 3, 6);
    mde_experts *e = experts_of(c, &x);
    mde_minimize_desc desc;
    mde_optimum best;
    memset(&desc, 0, sizeof desc);
    desc.gap = 1e-12;
    desc.iterations = 1;
    CHECK(mde_mixture_minimize(e, &desc, &best) == MDE_NOT_FINITE);
    CHECK_TEXT(mde_error(c), "after 1 steps");
    CHECK(feasible(8, best.weights, NULL, NULL) && best.loss > 0 && best.gap > 1e-12);
    free_table(&x);
    mde_context_free(c);
}

/* ---- Bootstrap ---- */

/* Documents that differ: expert i has a good or a bad day for a whole document. */
static void make_documents(uint64_t seed, int documents, int length, float *logp[3], double *document)
{
    int d, t, i;
    for (d = 0; d < documents; d++) {
        mde_random r = mde_random_start(seed, (uint64_t)d);
        double day[3];
        for (i = 0; i < 3; i++) day[i] = 1 + mde_random_gamma(&r, 1.0);
        for (t = 0; t < length; t++) {
            for (i = 0; i < 3; i++) logp[i][d * length + t] = (float)(-day[i] * (0.5 + mde_random_uniform(&r)));
            document[d * length + t] = d * 3;
        }
    }
}

static double documents_loss(mde_context *c, uint64_t seed, int documents, int length, const double *w, double interval[2],
                             int replicates)
{
    size_t n = (size_t)documents * (size_t)length;
    float *logp[3];
    double *document = (double *)mde_alloc(c, n, sizeof *document), loss;
    mde_experts *e = mde_experts_create(c, 3, names);
    int i;
    for (i = 0; i < 3; i++) logp[i] = (float *)mde_alloc(c, n, sizeof(float));
    make_documents(seed, documents, length, logp, document);
    mde_experts_add(e, "text", n, (const float *const *)logp, document, 0);
    loss = mde_validation_loss(e, 0, w, NULL);
    if (interval) {
        mde_bootstrap_desc desc;
        mde_bootstrap out;
        memset(&desc, 0, sizeof desc);
        desc.weights = w;
        desc.replicates = replicates;
        desc.seed = seed;
        CHECK(mde_mixture_bootstrap(e, &desc, &out) == MDE_OK && out.replicates == replicates);
        interval[0] = out.loss[0];
        interval[1] = out.loss[1];
        CHECK(out.loss[0] <= loss && loss <= out.loss[1]);
        for (i = 0; i < 3; i++) CHECK(out.lower[i] >= 0 && out.lower[i] <= out.upper[i] && out.upper[i] <= 1);
    }
    mde_experts_free(e);
    for (i = 0; i < 3; i++) mde_release(c, logp[i]);
    mde_release(c, document);
    return loss;
}

/* 90 % intervals from 200 data sets of 60 documents: 180 should hold the true loss; the binomial's standard deviation is
   4.2, and percentile intervals of 60 documents are a little short (by about 2 %). */
static void bootstrap_intervals_hold_the_true_loss_at_about_the_nominal_rate(void)
{
    static const double w[3] = { 0.5, 0.3, 0.2 };
    mde_context *c = mde_context_create(NULL);
    double truth = documents_loss(c, 999, 50000, 5, w, NULL, 0);       /* standard error: a hundredth of an interval */
    int hits = 0, set;
    for (set = 0; set < 200; set++) {
        double interval[2];
        documents_loss(c, (uint64_t)set, 60, 5, w, interval, 100);
        hits += interval[0] <= truth && truth <= interval[1];
    }
    if (hits < 180 - 4 - 13 || hits > 180 + 13) printf("    %d of 200 intervals hold the true loss\n", hits);
    CHECK(hits >= 180 - 4 - 13 && hits <= 180 + 13);
    mde_context_free(c);
}

static void bootstrap_depends_on_its_seed_alone(void)
{
    mde_context *c = mde_context_create(NULL);
    table x = make_table(4, 256 * 30, 2, 12);
    mde_experts *e = experts_of(c, &x);
    mde_bootstrap_desc desc;
    mde_bootstrap a, b;
    double w[MAX_EXPERTS] = { 0.7, 0.1, 0.1, 0.1 };
    mde_optimum best;
    int i;
    memset(&desc, 0, sizeof desc);
    desc.replicates = 50;
    CHECK(mde_mixture_bootstrap(e, &desc, &a) == MDE_OK && mde_mixture_bootstrap(e, &desc, &b) == MDE_OK);
    CHECK(memcmp(&a, &b, sizeof a) == 0);
    desc.seed = 1;
    CHECK(mde_mixture_bootstrap(e, &desc, &b) == MDE_OK && b.loss[0] != a.loss[0]);
    CHECK(mde_mixture_minimize(e, NULL, &best) == MDE_OK && b.optimum.loss == best.loss && b.optimum.gap == best.gap);
    CHECK(memcmp(b.optimum.weights, best.weights, sizeof best.weights) == 0);
    for (i = 0; i < 4; i++) CHECK(a.lower[i] <= best.weights[i] + 1e-3 && best.weights[i] - 1e-3 <= a.upper[i]);
    desc.level = 0.5;
    CHECK(mde_mixture_bootstrap(e, &desc, &a) == MDE_OK && a.loss[1] - a.loss[0] < b.loss[1] - b.loss[0]);
    desc.level = 1;
    CHECK(mde_mixture_bootstrap(e, &desc, &a) == MDE_BAD_ARGUMENT);
    mde_clear_error(c);
    desc.level = 0;
    desc.weights = w;
    w[0] = 2;
    CHECK(mde_mixture_bootstrap(e, &desc, &a) == MDE_BAD_ARGUMENT);
    free_table(&x);
    mde_context_free(c);
}

/* documents of `length` tokens each; NULL numbers when `unknown`. */
static void bootstrap_of(mde_context *c, int documents, int length, int unknown, mde_bootstrap *out, double price[4])
{
    static const double w[2] = { 0.6, 0.4 };
    table x = make_table(2, (size_t)(documents * length), 2, 77);
    double *document = (double *)malloc(x.tokens * sizeof *document);
    mde_experts *e = mde_experts_create(c, 2, names);
    mde_bootstrap_desc desc;
    size_t t;
    for (t = 0; t < x.tokens; t++) document[t] = (double)(t / (size_t)length);
    memset(&desc, 0, sizeof desc);
    desc.weights = w;
    mde_experts_add(e, "text", x.tokens, (const float *const *)x.logp, unknown ? NULL : document, 0);
    CHECK(mde_mixture_bootstrap(e, &desc, out) == MDE_OK);
    CHECK(mde_mixture_price_intervals(e, NULL, w, NULL, price, price + 2) == MDE_OK);
    mde_experts_free(e);
    free(document);
    free_table(&x);
}

static void a_text_of_few_documents_is_resampled_in_blocks_or_has_no_interval(void)
{
    static const struct { int documents, length, unknown; const char *note; } cases[] = {
        { 1, 80, 0, "no interval: text has 80 tokens and 1 document; 10 documents or 311 tokens would do" },
        { 1, 310, 1, "no interval: text has 310 tokens and no known documents" },
        { 9, 30, 0, "no interval: text has 270 tokens and 9 documents" },
        { 1, 311, 0, "blocks of 32 tokens stand for documents: text has 1 document" },
        { 9, 40, 0, "blocks of 36 tokens stand for documents: text has 9 documents" },
        { 1, 10000, 1, "blocks of 256 tokens stand for documents: text has no known documents" },
        { 10, 3, 0, "" }
    };
    mde_context *c = mde_context_create(NULL);
    int q, i;
    for (q = 0; q < 7; q++) {
        int none = strncmp(cases[q].note, "no ", 3) == 0;
        double price[4];
        mde_bootstrap out;
        bootstrap_of(c, cases[q].documents, cases[q].length, cases[q].unknown, &out, price);
        CHECK_TEXT(out.note, cases[q].note);
        CHECK((out.note[0] == 0) == (q == 6) && out.replicates == (none ? 0 : 200));
        CHECK(none ? isnan(out.loss[0]) && isnan(out.loss[1]) : out.loss[0] < out.loss[1]);
        for (i = 0; i < 2; i++) {
            CHECK(none ? isnan(out.lower[i]) && isnan(out.upper[i]) : out.lower[i] < out.upper[i]);
            CHECK(none ? isnan(price[i]) && isnan(price[2 + i]) : price[i] < price[2 + i]);
        }
    }
    mde_context_free(c);
}

/* Tokens here are independent, so the interval is that of a mean; its width from 40 blocks is uncertain by a ninth, and
   from 200 replicates by a twelfth more. */
static void an_interval_of_blocks_has_the_width_of_the_mean_of_independent_tokens(void)
{
    mde_context *c = mde_context_create(NULL);
    table x = make_table(2, 10000, 2, 77);
    double price[4], sum = 0, squares = 0, sd;
    mde_bootstrap out;
    size_t t;
    for (t = 0; t < x.tokens; t++) {
        double loss = -log(0.6 * exp((double)x.logp[0][t]) + 0.4 * exp((double)x.logp[1][t]));
        sum += loss;
        squares += loss * loss;
    }
    sd = sqrt((squares - sum * sum / 10000) / 9999 / 10000);
    bootstrap_of(c, 1, 10000, 0, &out, price);
    CLOSE((out.loss[1] - out.loss[0]) / (2 * 1.645 * sd), 1, 0.28);
    CHECK(out.loss[0] < sum / 10000 && sum / 10000 < out.loss[1]);
    free_table(&x);
    mde_context_free(c);
}

static void a_text_that_does_not_count_has_no_say_in_the_intervals(void)
{
    mde_context *c = mde_context_create(NULL);
    table x = make_table(2, 5000, 2, 77);
    mde_experts *e = mde_experts_create(c, 2, names);
    double objective[3] = { 1, 0, 0 };
    mde_minimize_desc minimize;
    mde_bootstrap_desc desc;
    mde_bootstrap out;
    memset(&minimize, 0, sizeof minimize);
    memset(&desc, 0, sizeof desc);
    minimize.objective = objective;
    desc.minimize = &minimize;
    mde_experts_add(e, "long", 5000, (const float *const *)x.logp, NULL, 0);
    mde_experts_add(e, "short", 100, (const float *const *)x.logp, NULL, 0);
    mde_experts_add(e, "brief", 50, (const float *const *)x.logp, NULL, 0);
    CHECK(mde_mixture_bootstrap(e, &desc, &out) == MDE_OK);
    CHECK(out.loss[0] < out.loss[1]);
    CHECK_TEXT(out.note, "blocks of 256 tokens stand for documents: long has no known documents");
    objective[1] = objective[2] = 1;
    CHECK(mde_mixture_bootstrap(e, &desc, &out) == MDE_OK);
    CHECK(isnan(out.loss[0]));
    CHECK_TEXT(out.note, "no interval: short has 100 tokens");
    CHECK_TEXT(out.note, "and 1 other text like it");
    free_table(&x);
    mde_context_free(c);
}

/* As with the losses, 90 % intervals from 200 data sets of 60 documents, for each of three prices; slopes are more
   skewed than losses, so the intervals may be short by a little more. */
static void intervals_of_prices_hold_the_true_price_at_about_the_nominal_rate(void)
{
    static const double w[3] = { 0.5, 0.3, 0.2 };
    mde_context *c = mde_context_create(NULL);
    double truth[3];
    int hits[3] = { 0, 0, 0 }, set, i;
    for (set = -1; set < 200; set++) {                                 /* the first is large and stands for the truth */
        int documents = set < 0 ? 50000 : 60, length = 5;
        size_t n = (size_t)(documents * length);
        float *logp[3];
        double *document = (double *)malloc(n * sizeof *document), prices[3], low[3], high[3];
        mde_experts *e = mde_experts_create(c, 3, names);
        mde_price_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.replicates = 100;
        desc.seed = (uint64_t)(set + 1);
        for (i = 0; i < 3; i++) logp[i] = (float *)malloc(n * sizeof(float));
        make_documents((uint64_t)(set + 5000), documents, length, logp, document);
        mde_experts_add(e, "text", n, (const float *const *)logp, document, 0);
        CHECK(mde_mixture_prices(e, NULL, w, set < 0 ? truth : prices) == MDE_OK);
        if (set >= 0) CHECK(mde_mixture_price_intervals(e, NULL, w, &desc, low, high) == MDE_OK);
        for (i = 0; i < 3; i++) {
            if (set >= 0) {
                CHECK(low[i] <= prices[i] && prices[i] <= high[i]);
                hits[i] += low[i] <= truth[i] && truth[i] <= high[i];
            }
            free(logp[i]);
        }
        free(document);
        mde_experts_free(e);
    }
    for (i = 0; i < 3; i++) {
        if (hits[i] < 180 - 6 - 13 || hits[i] > 180 + 13) printf("    price %d: %d of 200\n", i, hits[i]);
        CHECK(hits[i] >= 180 - 6 - 13 && hits[i] <= 180 + 13);
    }
    mde_context_free(c);
}

static void intervals_of_prices_depend_on_their_seed_and_level_alone(void)
{
    mde_context *c = mde_context_create(NULL);
    table x = make_table(4, 256 * 30, 2, 12);
    mde_experts *e = experts_of(c, &x);
    double w[4] = { 0.4, 0.1, 0.2, 0.3 }, low[4], high[4], other_low[4], other_high[4];
    mde_price_desc desc;
    int i;
    memset(&desc, 0, sizeof desc);
    CHECK(mde_mixture_price_intervals(e, NULL, w, NULL, low, high) == MDE_OK);
    desc.replicates = 200;
    desc.level = 0.9;
    CHECK(mde_mixture_price_intervals(e, NULL, w, &desc, other_low, other_high) == MDE_OK);
    CHECK(memcmp(low, other_low, sizeof low) == 0 && memcmp(high, other_high, sizeof high) == 0);
    desc.level = 0.5;
    CHECK(mde_mixture_price_intervals(e, NULL, w, &desc, other_low, other_high) == MDE_OK);
    for (i = 0; i < 4; i++) CHECK(low[i] < other_low[i] && other_low[i] < other_high[i] && other_high[i] < high[i]);
    desc.level = 0;
    desc.seed = 1;
    CHECK(mde_mixture_price_intervals(e, NULL, w, &desc, other_low, other_high) == MDE_OK && other_low[0] != low[0]);
    free_table(&x);
    mde_context_free(c);
}

/* ---- Same bits, memory ---- */

typedef struct outcome {
    double loss, gradient[5], losses[2], prices[5], low[5], high[5], bits;
    mde_optimum best;
    mde_bootstrap bootstrap;
} outcome;

static mde_status everything(mde_context *c, const table *x, outcome *o)
{
    static const double w[5] = { 0.3, 0.1, 0.2, 0.15, 0.25 };
    mde_experts *e;
    mde_bootstrap_desc desc;
    mde_price_desc price_desc;
    memset(o, 0, sizeof *o);
    memset(&desc, 0, sizeof desc);
    memset(&price_desc, 0, sizeof price_desc);
    desc.replicates = price_desc.replicates = 5;
    e = mde_experts_create(c, 5, names);
    mde_experts_add(e, "a", x->tokens, (const float *const *)x->logp, NULL, 1000);
    mde_experts_add(e, "b", x->tokens / 3, (const float *const *)x->logp, NULL, 0);
    o->loss = mde_mixture_loss(e, NULL, w, o->gradient);
    mde_mixture_losses(e, 1, w, o->losses);
    mde_mixture_minimize(e, NULL, &o->best);
    mde_mixture_bootstrap(e, &desc, &o->bootstrap);
    mde_mixture_prices(e, NULL, w, o->prices);
    mde_mixture_price_intervals(e, NULL, w, &price_desc, o->low, o->high);
    o->bits = mde_bits_per_byte(e, 0, o->loss);
    mde_experts_free(e);
    return mde_context_status(c);
}

static void results_are_the_same_bits_for_any_threads_and_instruction_set(void)
{
    static const int sets[] = { MDE_SIMD_BEST, MDE_SIMD_PORTABLE, MDE_SIMD_AVX2, MDE_SIMD_AVX512 };
    table x = make_table(5, 30011, 2, 21);
    outcome first, other;
    int s, threads;
    for (s = 0; s < 4; s++) {
        for (threads = 1; threads <= 5; threads += 2) {
            mde_context_desc desc;
            mde_context *c;
            memset(&desc, 0, sizeof desc);
            desc.simd = sets[s];
            desc.threads = threads;
            c = mde_context_create(&desc);
            if (mde_context_status(c) == MDE_OK) {      /* an instruction set that is not here is an error */
                CHECK(everything(c, &x, s + threads == 1 ? &first : &other) == MDE_OK);
                CHECK(s + threads == 1 || memcmp(&first, &other, sizeof first) == 0);
            }
            mde_context_free(c);
        }
    }
    free_table(&x);
}

static void do_everything(mde_context *c, void *user)
{
    outcome o;
    everything(c, (const table *)user, &o);
}

static void any_failing_allocation_is_reported_and_nothing_is_lost(void)
{
    table x = make_table(5, 700, 2, 22);
    CHECK(test_failing_allocations(do_everything, &x, 2000) > 20);
    free_table(&x);
}

static void do_minimize(mde_context *c, void *user)
{
    mde_optimum best;
    mde_mixture_minimize(experts_of(c, (const table *)user), NULL, &best);
}

static void any_failing_allocation_on_the_way_through_samples_is_reported(void)
{
    table x = make_table(4, 20000, 1, 24);
    CHECK(test_failing_allocations(do_minimize, &x, 2000) > 10);
    free_table(&x);
}

static void a_freed_set_of_experts_leaves_nothing_behind(void)
{
    mde_context *c = mde_context_create(NULL);
    table x = make_table(5, 3000, 2, 23);
    outcome o;
    size_t peak;
    int i;
    everything(c, &x, &o);
    peak = mde_peak_bytes(c);
    for (i = 0; i < 5; i++) everything(c, &x, &o);
    CHECK(mde_peak_bytes(c) == peak);
    free_table(&x);
    mde_context_free(c);
}

/* ---- Folders of log-probabilities ---- */

static void put(mde_context *c, const char *folder, const char *file, int64_t n, const float *values)
{
    char path[512];
    snprintf(path, sizeof path, FOLDER "/%s", folder);
    mde_make_folder(c, path);
    snprintf(path, sizeof path, FOLDER "/%s/%s", folder, file);
    mde_npy_write(c, path, 1, &n, values);
}

/* The first text of e, of 80 tokens, has ten documents of eight: its interval is that of the same numbers with such
   documents, which are drawn by their number and their ends. */
static void check_ten_documents(mde_context *c, const mde_experts *e, const char *folder)
{
    const char *text = e ? mde_experts_validation(e, 0) : "", *expert[MAX_EXPERTS];
    const float *logp[MAX_EXPERTS];
    double documents[80];
    char path[1100];
    mde_bootstrap found, expected;
    mde_experts *same;
    int i, count = e ? mde_experts_count(e) : 0;
    for (i = 0; i < 80; i++) documents[i] = i / 8;
    for (i = 0; i < count; i++) {
        mde_array *a;
        expert[i] = mde_experts_name(e, i);
        snprintf(path, sizeof path, "%s/%s/%s.npy", folder, text, expert[i]);
        a = mde_npy_read(c, path, 0);
        CHECK(a && a->count == 80);
        logp[i] = a ? a->f32 : NULL;
    }
    same = mde_experts_create(c, count, expert);
    CHECK(mde_experts_add(same, text, 80, logp, documents, 0) == MDE_OK);
    CHECK(mde_mixture_bootstrap(e, NULL, &found) == MDE_OK && mde_mixture_bootstrap(same, NULL, &expected) == MDE_OK);
    CHECK_TEXT(found.note, expected.note);
    CHECK(expected.note[0] == 0 && found.note[0] == 0 && expected.loss[0] < expected.loss[1]);
    CHECK(found.loss[0] == expected.loss[0] && found.loss[1] == expected.loss[1]);
    mde_experts_free(same);
}

static void a_folder_is_read_as_it_was_written(void)
{
    mde_bootstrap interval;
    mde_context *c = mde_context_create(NULL);
    float a[4] = { -1, -2, -3, -0.5f }, b[4] = { -2, -1, -0.25f, -4 }, doc[4] = { 0, 0, 1, 1 }, bytes[4] = { 1, 2, 3, 4 };
    double w[2] = { 0.4, 0.6 }, expected = 0;
    mde_experts *e;
    int i;
    put(c, "open/first", "anna.npy", 4, a);
    put(c, "open/first", "bert.npy", 4, b);
    put(c, "open/first", "doc.npy", 4, doc);
    put(c, "open/first", "bytes.npy", 4, bytes);
    put(c, "open/second", "anna.npy", 2, b);
    put(c, "open/second", "bert.npy", 2, a);
    mde_file_write(c, FOLDER "/open/README", "text beside", 11);
    e = mde_experts_open(c, FOLDER "/open", 0);
    CHECK(mde_context_status(c) == MDE_OK);
    CHECK(mde_experts_count(e) == 2 && strcmp(mde_experts_name(e, 0), "anna") == 0);
    CHECK(mde_experts_validations(e) == 2 && strcmp(mde_experts_validation(e, 1), "second") == 0);
    CHECK(mde_experts_tokens(e, 0) == 4 && mde_experts_tokens(e, 1) == 2);
    CHECK(mde_experts_bytes(e, 0) == 10 && mde_experts_bytes(e, 1) == 0);
    CHECK(mde_mixture_bootstrap(e, NULL, &interval) == MDE_OK);
    CHECK_TEXT(interval.note, "first has 4 tokens and 2 documents");
    for (i = 0; i < 4; i++) expected -= log(0.4 * exp((double)a[i]) + 0.6 * exp((double)b[i])) / 4;
    CLOSE(mde_validation_loss(e, 0, w, NULL), expected, 2 * ROUNDING);
    mde_context_free(c);
}

static void negative_log_likelihoods_are_read_when_asked_for(void)
{
    mde_context *c = mde_context_create(NULL);
    float a[3] = { 1, 2, 0 }, mixed[3] = { 1, -2, 3 };
    double w[1] = { 1 };
    mde_experts_desc nll = { 1, 0, NULL, NULL };
    mde_experts *e;
    put(c, "nll/text", "a.npy", 3, a);
    put(c, "mixed/text", "a.npy", 3, mixed);
    e = mde_experts_open(c, FOLDER "/nll", &nll);
    CHECK(mde_context_status(c) == MDE_OK);
    CLOSE(mde_validation_loss(e, 0, w, NULL), 1, 2 * ROUNDING);
    CHECK(mde_experts_open(c, FOLDER "/nll", 0) == NULL && mde_context_status(c) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "validation text, expert a, token 0: log-probability is 1");
    mde_clear_error(c);
    CHECK(mde_experts_open(c, FOLDER "/mixed", 0) == NULL && mde_context_status(c) == MDE_BAD_ARGUMENT);
    mde_clear_error(c);
    CHECK(mde_experts_open(c, FOLDER "/mixed", &nll) == NULL && mde_context_status(c) == MDE_BAD_ARGUMENT);
    mde_context_free(c);
}

/* Opening the folder fails with a message that holds all three parts. */
static void refused(const char *folder, const char *part, const char *other)
{
    mde_context *c = mde_context_create(NULL);
    char path[512];
    snprintf(path, sizeof path, FOLDER "/%s", folder);
    CHECK(mde_experts_open(c, path, 0) == NULL && mde_context_status(c) != MDE_OK);
    CHECK_TEXT(mde_error(c), path);
    CHECK_TEXT(mde_error(c), part);
    CHECK_TEXT(mde_error(c), other);
    mde_context_free(c);
}

static void wrong_folders_are_refused_with_the_name_of_what_is_wrong(void)
{
    mde_context *c = mde_context_create(NULL);
    float a[4] = { -1, -2, -3, -4 };
    int64_t shape[2] = { 2, 2 };
    refused("absent", "no such folder", "");
    mde_make_folder(c, FOLDER "/empty");
    refused("empty", "no folder of a validation text", "");
    mde_make_folder(c, FOLDER "/hollow/text");
    refused("hollow", "text", "no expert");
    put(c, "missing/one", "a.npy", 4, a);
    put(c, "missing/one", "b.npy", 4, a);
    put(c, "missing/two", "a.npy", 4, a);
    refused("missing", "two/b.npy", "");
    put(c, "surplus/one", "a.npy", 4, a);
    put(c, "surplus/two", "a.npy", 4, a);
    put(c, "surplus/two", "b.npy", 4, a);
    refused("surplus", "two/b.npy", "no such expert");
    put(c, "lengths/one", "a.npy", 4, a);
    put(c, "lengths/one", "b.npy", 3, a);
    refused("lengths", "one/b.npy", "3 tokens");
    put(c, "docs/one", "a.npy", 4, a);
    put(c, "docs/one", "doc.npy", 3, a);
    refused("docs", "doc.npy", "4 tokens");
    put(c, "square/one", "a.npy", 4, a);
    mde_npy_write(c, FOLDER "/square/one/a.npy", 2, shape, a);
    refused("square", "one/a.npy: has 2 dimensions (2 x 2)", "end to end without their padding");
    put(c, "square_docs/one", "a.npy", 4, a);
    put(c, "square_docs/one", "doc.npy", 4, a);
    mde_npy_write(c, FOLDER "/square_docs/one/doc.npy", 2, shape, a);
    refused("square_docs", "one/doc.npy: has 2 dimensions (2 x 2)", "one number for each token");
    put(c, "junk/one", "a.npy", 4, a);
    mde_file_write(c, FOLDER "/junk/one/a.npy", "not numpy", 9);
    refused("junk", "a.npy", "");
    CHECK(mde_context_status(c) == MDE_OK);
    a[2] = (float)NAN;
    mde_context_free(c);
    c = mde_context_create(NULL);
    put(c, "nan/one", "a.npy", 4, a);
    CHECK(mde_experts_open(c, FOLDER "/nan", 0) == NULL);
    CHECK_TEXT(mde_error(c), "validation one, expert a, token 2: log-probability is nan");
    mde_context_free(c);
}

static void put_ids(mde_context *c, const char *path, int64_t first, int count, int length)
{
    unsigned char bytes[10 + 118 + 8 * 100];
    char header[119];
    int i, k;
    snprintf(header, sizeof header, "{'descr': '<i8', 'fortran_order': False, 'shape': (%d,), }", count);
    memset(bytes, ' ', sizeof bytes);
    memcpy(bytes, "\x93NUMPY\x01\x00\x76\x00", 10);
    memcpy(bytes + 10, header, strlen(header));
    bytes[127] = '\n';
    for (i = 0; i < count; i++) {
        for (k = 0; k < 8; k++) bytes[128 + 8 * i + k] = (unsigned char)((uint64_t)(first + i / length) >> (8 * k));
    }
    mde_file_write(c, path, bytes, 128 + 8 * (size_t)count);
}

/* Numbers of documents that differ in their last bits only, of either sign. */
static void documents_of_64_bits_are_told_apart(void)
{
    static const int64_t firsts[] = { 0, INT64_C(1152921504606846976), INT64_C(-9223372036854775807) - 1, -5 };
    mde_context *c = mde_context_create(NULL);
    mde_experts *e;
    float a[80], numbers[80];
    size_t i;
    int t;
    for (t = 0; t < 80; t++) a[t] = -1 - (float)(t % 7);
    for (i = 0; i < sizeof firsts / sizeof *firsts; i++) {
        put(c, "ids/text", "a.npy", 80, a);
        put_ids(c, FOLDER "/ids/text/doc.npy", firsts[i], 80, 8);
        e = mde_experts_open(c, FOLDER "/ids", 0);
        CHECK(*mde_error(c) == 0);
        check_ten_documents(c, e, FOLDER "/ids");
        mde_experts_free(e);
    }
    for (t = 0; t < 80; t++) numbers[t] = (float)(t / 8);
    put(c, "ids/text", "doc.npy", 80, numbers);
    e = mde_experts_open(c, FOLDER "/ids", 0);
    check_ten_documents(c, e, FOLDER "/ids");
    put_ids(c, FOLDER "/ids/text/doc.npy", INT64_C(1) << 62, 80, -8);
    refused("ids", "ids/text/doc.npy: the document of token 8 is less", "");
    mde_context_free(c);
}

static void what_no_natural_logarithm_can_be_is_refused(void)
{
    mde_context *c = mde_context_create(NULL);
    float zeros[16], good[16], tiny[16], base2[16], ones[16], large[16];
    double w[2] = { 0.5, 0.5 };
    mde_experts *e;
    int t;
    for (t = 0; t < 16; t++) {
        zeros[t] = 0;
        good[t] = -2;
        tiny[t] = t < 3 ? 1.2e-7f : -1;
        base2[t] = -9;
        ones[t] = 1;
        large[t] = 500;
    }
    put(c, "zeros/val", "broken.npy", 16, zeros);
    put(c, "zeros/val", "good.npy", 16, good);
    refused("zeros", "val/broken.npy: ", "every log-probability is 0");
    put(c, "base/val", "a.npy", 16, base2);
    put(c, "base/val", "bytes.npy", 16, ones);
    refused("base", "base/val: validation val", "worse than a guess among 256 bytes");
    put(c, "base/val", "a.npy", 16, good);
    put(c, "base/val", "bytes.npy", 16, large);
    refused("base", "base/val", "");
    zeros[3] = -1e-3f;
    put(c, "base/val", "a.npy", 16, zeros);
    put(c, "base/val", "bytes.npy", 16, ones);
    refused("base", "base/val: validation val", "less than any text takes");
    ones[2] = -1;
    put(c, "base/val", "bytes.npy", 16, ones);
    refused("base", "base/val/bytes.npy: token 2 has -1 bytes", "");
    put(c, "round/val", "a.npy", 16, tiny);
    put(c, "round/val", "b.npy", 16, good);
    e = mde_experts_open(c, FOLDER "/round", 0);
    CHECK(*mde_error(c) == 0);
    CHECK(mde_experts_rounded(e, 0) == 3 && mde_experts_rounded(e, 1) == 0);
    CLOSE(mde_validation_loss(e, 0, w, NULL), -(3 * log((1 + exp(-2)) / 2) + 13 * log((exp(-1) + exp(-2)) / 2)) / 16,
          4 * ROUNDING);
    tiny[1] = 2e-3f;
    put(c, "round/val", "a.npy", 16, tiny);
    refused("round", "round/val/a.npy: validation val, expert a, token 1", "expected at most 0");
    put(c, "names/val", "a.npy", 16, good);
    put(c, "names/val", "b.NPY", 16, good);
    refused("names", "names/val/b.NPY: would be left out", "");
    put(c, "archive/val", "a.npy", 16, good);
    put(c, "archive/val", "b.npz", 16, good);
    refused("archive", "archive/val/b.npz: would be left out", "");
    CHECK(*mde_error(c) == 0);
    mde_context_free(c);
}

/* What a killed writer leaves is neither an expert nor a validation text. */
static void temporary_files_are_no_experts(void)
{
    mde_context *c = mde_context_create(NULL);
    float a[4] = { -1, -2, -3, -4 };
    mde_experts *e;
    put(c, "left/val", "a.npy", 4, a);
    mde_file_write(c, FOLDER "/left/val/.mde-0123456789abcdef-000.tmp", "", 0);
    mde_file_write(c, FOLDER "/left/.mde-0123456789abcdef-001.tmp", "", 0);
    e = mde_experts_open(c, FOLDER "/left", 0);
    CHECK(mde_context_status(c) == MDE_OK);
    CHECK(mde_experts_count(e) == 1 && mde_experts_validations(e) == 1);
    mde_context_free(c);
}

/* Cases of other tools' users, where they are at hand. */
static void shared_cases_are_read_or_refused_right(void)
{
    static const struct { const char *folder, *error; } cases[] = {
        { "doc_ids/small_ids", "" }, { "doc_ids/ids_above_2_53", "" }, { "logp_all_zero/broken", "val/broken.npy: " },
        { "messages/logp/nan0", "val/a.npy: " }, { "messages/logp/nll", "val/a.npy: " },
        { "messages/logp/docdesc", "val/doc.npy: " }, { "messages/logp/posrt", "" }, { "doc_ids/one_document", "" }
    };
    const char *root = getenv("MDEMIX_SHARED");
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        mde_context *c = mde_context_create(NULL);
        char path[1024];
        mde_experts *e;
        snprintf(path, sizeof path, "%s/cases/logprobs/%s", root, cases[i].folder);
        e = mde_experts_open(c, path, 0);
        CHECK((e == NULL) == (cases[i].error[0] != 0));
        CHECK_TEXT(mde_error(c), cases[i].error);
        if (i < 2) check_ten_documents(c, e, path);
        if (i == 6) CHECK(mde_experts_rounded(e, 0) > 0);
        if (i == 7) {
            mde_bootstrap interval;
            CHECK(mde_mixture_bootstrap(e, NULL, &interval) == MDE_OK && isnan(interval.loss[0]));
            CHECK_TEXT(interval.note, "no interval: val has 80 tokens and 1 document");
        }
        mde_context_free(c);
    }
}

#define ROWS 40

/* Rows of a text: each around -`nats`, `bytes` long, in documents of `length` rows; bytes, length 0: not written. */
static void put_rows(mde_context *c, const char *folder, int rows, double nats, float bytes, int length)
{
    float a[ROWS], b[ROWS], doc[ROWS], size[ROWS];
    mde_random r = mde_random_start(71, 0);
    int t;
    for (t = 0; t < rows; t++) {
        a[t] = (float)(-nats * (0.8 + 0.4 * mde_random_uniform(&r)));
        b[t] = (float)(-nats * (0.8 + 0.4 * mde_random_uniform(&r)));
        doc[t] = (float)(length ? t / length : 0);
        size[t] = bytes;
    }
    put(c, folder, "anna.npy", rows, a);
    put(c, folder, "bert.npy", rows, b);
    if (length) put(c, folder, "doc.npy", rows, doc);
    if (bytes > 0) put(c, folder, "bytes.npy", rows, size);
}

static void sums_over_sequences_are_refused_with_what_gives_them_away(void)
{
    mde_context *c = mde_context_create(NULL);
    float row[ROWS];
    double document[ROWS];
    const float *logp[1] = { row };
    mde_experts *e;
    int t;
    put_rows(c, "sums/short", 30, 30, 0, 1);                 /* sequences of some ten tokens */
    refused("sums", "sums/short/anna.npy: these are sums over sequences", "1 row a document");
    put_rows(c, "long/text", 30, 300, 0, 0);                 /* nothing but the numbers */
    refused("long", "median -2", "token by token");
    put_rows(c, "bytes/text", 30, 5, 300, 0);                /* bytes of whole sequences */
    refused("bytes", "and 300 bytes a row", "[tokens]");
    put_rows(c, "all/text", 8, 250, 1200, 1);
    refused("all", "and 1200 bytes a row, 1 row a document", "export_logprobs.py");
    CHECK(mde_experts_open(c, FOLDER "/all", 0) == NULL && mde_context_status(c) == MDE_BAD_FILE);
    mde_clear_error(c);
    for (t = 0; t < ROWS; t++) {
        row[t] = -(float)(200 + t);
        document[t] = t;
    }
    e = mde_experts_create(c, 1, names);
    CHECK(mde_experts_add(e, "text", ROWS - 1, logp, document, 0) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "validation text: these are sums over sequences, not tokens (median -219 nats a row, "
                             "1 row a document)");
    CHECK(mde_experts_validations(e) == 0);
    mde_context_free(c);
}

static void unusual_tokens_are_not_taken_for_sums(void)
{
    mde_context *c = mde_context_create(NULL);
    float row[ROWS];
    double document[ROWS];
    const float *logp[1] = { row };
    mde_experts *e = mde_experts_create(c, 1, names);
    int t;
    put_rows(c, "usual/answers", ROWS, 11, 5, 1);            /* documents of a token, guessed blindly */
    put_rows(c, "usual/foreign", ROWS, 30, 3, 7);            /* experts that know nothing of the text */
    put_rows(c, "usual/few", 7, 700, 700, 1);                /* too few to say */
    put_rows(c, "usual/wide", ROWS, 3, 60, 5);
    CHECK(mde_experts_validations(mde_experts_open(c, FOLDER "/usual", 0)) == 4);
    for (t = 0; t < ROWS; t++) {
        row[t] = t % 2 ? -1.0f : -1e4f;                      /* every other token very improbable */
        document[t] = t;
    }
    CHECK(mde_experts_add(e, "half", ROWS, logp, document, 64 * ROWS) == MDE_OK);
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

/* The message about sums needs the median, which needs memory. */
static void an_allocation_that_fails_on_the_way_to_a_refusal_is_reported(void)
{
    test_heap heap;
    float row[ROWS];
    const float *logp[1] = { row };
    int t, n, refusals = 0;
    for (t = 0; t < ROWS; t++) row[t] = -300;
    for (n = 1; !refusals && n < 100; n++) {
        mde_context *c = test_heap_context(&heap, n);
        if (c) {
            mde_experts *e = mde_experts_create(c, 1, names);
            mde_experts_add(e, "text", ROWS, logp, NULL, 0);
            refusals += mde_context_status(c) == MDE_BAD_ARGUMENT;
            CHECK(refusals || mde_context_status(c) == MDE_OUT_OF_MEMORY);
            mde_experts_free(e);
        }
        mde_context_free(c);
        CHECK(heap.held == 0);
    }
    CHECK(refusals == 1 && n > 5);
}

/* ---- Texts that stay in their files ---- */

#define MANY 64

static const char *many_name(int i)
{
    static char text[MANY][4];
    text[i][0] = 'e';
    text[i][1] = (char)('0' + i / 10);
    text[i][2] = (char)('0' + i % 10);
    return text[i];
}

/* Writes n numbers of each of k experts, and documents of about 500 tokens. Numbers of the second kind are float64. */
static void put_many(mde_context *c, const char *folder, int k, int64_t n, int wide)
{
    float *row = (float *)malloc((size_t)n * sizeof *row);
    double *wide_row = (double *)malloc((size_t)n * sizeof *wide_row);
    uint64_t state = 7;
    char path[512], file[300];
    int64_t t;
    int i;
    for (i = 0; i < k; i++) {
        for (t = 0; t < n; t++) {
            state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
            wide_row[t] = -0.01 - (double)(state >> 40) / 16777216.0 * (double)(1 + (t * 7 + i) % 5) - 0.01 * i;
            row[t] = (float)wide_row[t];
        }
        snprintf(file, sizeof file, "%s.npy", many_name(i));
        snprintf(path, sizeof path, FOLDER "/%s/%s", folder, file);
        put(c, folder, file, 1, row);
        if (wide) mde_npy_write_f64(c, path, 1, &n, wide_row);
        else mde_npy_write(c, path, 1, &n, row);
    }
    for (t = 0; t < n; t++) row[t] = (float)(t / 500);
    put(c, folder, "doc.npy", n, row);
    free(row);
    free(wide_row);
}

static void remove_many(const char *folder, int k)
{
    char path[512];
    int i;
    for (i = 0; i <= k; i++) {
        snprintf(path, sizeof path, FOLDER "/%s/%s.npy", folder, i < k ? many_name(i) : "doc");
        CHECK(remove(path) == 0);
    }
}

typedef struct streamed {
    double loss, gradient[MANY], losses[6], prices[MANY], low[MANY], high[MANY];
    mde_optimum best;
    mde_bootstrap bootstrap;
} streamed;

static void all_of(mde_context *c, const char *folder, size_t memory, streamed *out)
{
    mde_experts_desc desc = { 0, 0, NULL, NULL };
    mde_bootstrap_desc bootstrap;
    mde_price_desc price;
    double w[3 * MANY];
    mde_experts *e;
    int i, m, k;
    memset(out, 0, sizeof *out);
    memset(&bootstrap, 0, sizeof bootstrap);
    memset(&price, 0, sizeof price);
    desc.memory = memory;
    bootstrap.replicates = price.replicates = 3;
    e = mde_experts_open(c, folder, &desc);
    k = mde_experts_count(e);
    for (m = 0; m < 3; m++) for (i = 0; i < k; i++) w[m * k + i] = m == 0 ? 1.0 / k : (i == m) * 0.5 + 0.5 / k;
    out->loss = mde_mixture_loss(e, NULL, w + k, out->gradient);
    mde_mixture_losses(e, 3, w, out->losses);
    mde_mixture_minimize(e, NULL, &out->best);
    mde_mixture_bootstrap(e, &bootstrap, &out->bootstrap);
    mde_mixture_prices(e, NULL, w, out->prices);
    mde_mixture_price_intervals(e, NULL, w, &price, out->low, out->high);
    mde_experts_free(e);
}

/* 64 experts: a window has 32768 tokens, the sample of the first text 70000. */
static void texts_in_files_give_the_bits_of_texts_in_memory(void)
{
    static const size_t memory[] = { 1, 64 * 4 * 40000, 64 * 4 * 145000 };
    mde_context *c = mde_context_create(NULL);
    streamed loaded, other;
    size_t i;
    put_many(c, "many/first", MANY, 140000, 0);
    put_many(c, "many/second", MANY, 9000, 1);
    all_of(c, FOLDER "/many", 0, &loaded);
    CHECK(*mde_error(c) == 0);
    CHECK(loaded.best.gap <= 1e-6 && loaded.bootstrap.replicates == 3);
    for (i = 0; i < sizeof memory / sizeof *memory; i++) {
        all_of(c, FOLDER "/many", memory[i], &other);
        CHECK(*mde_error(c) == 0);
        CHECK(memcmp(&loaded, &other, sizeof loaded) == 0);
    }
    remove_many("many/first", MANY);
    remove_many("many/second", MANY);
    mde_context_free(c);
}

static int stop_at_once(const mde_progress *progress, void *user)
{
    int *calls = (int *)user;
    CHECK(progress->step >= 0 && progress->step <= progress->steps && progress->steps == 100);
    return ++*calls >= 0;
}

/* Two million tokens and 7 experts are 56 MB; a context of 50 MB cannot hold them. */
static void a_text_larger_than_the_memory_is_taken_and_can_be_stopped(void)
{
    enum { most = 64000 };          /* mixtures that take longer than it takes to be reported, on any machine */
    const int64_t tokens = 2000000;
    double *weights = (double *)malloc(7 * most * sizeof *weights), *losses = (double *)malloc(most * sizeof *losses);
    mde_context *c = mde_context_create(NULL);
    mde_context_desc limits;
    mde_experts_desc desc = { 0, 1, NULL, NULL };
    mde_optimum loaded, best;
    mde_bootstrap interval;
    mde_experts *e;
    int calls = -1000000;
    memset(&limits, 0, sizeof limits);
    put_many(c, "large/text", 7, tokens, 0);
    CHECK(mde_mixture_minimize(mde_experts_open(c, FOLDER "/large", NULL), NULL, &loaded) == MDE_OK);
    mde_context_free(c);
    limits.max_bytes = 50000000;
    c = mde_context_create(&limits);
    CHECK(mde_experts_open(c, FOLDER "/large", NULL) == NULL && mde_context_status(c) == MDE_OUT_OF_MEMORY);
    mde_clear_error(c);
    desc.progress = stop_at_once;
    desc.user = &calls;
    e = mde_experts_open(c, FOLDER "/large", &desc);
    CHECK(mde_mixture_minimize(e, NULL, &best) == MDE_OK);
    CHECK(*mde_error(c) == 0);
    CHECK(memcmp(&loaded, &best, sizeof best) == 0);
    for (int i = 0; weights && i < 7 * most; i++) weights[i] = 1.0 / 7;
    for (int64_t n = 1000; weights && losses && n <= most && calls == -1000000; n *= 2) {
        CHECK(mde_mixture_losses(e, n, weights, losses) == MDE_OK);
    }
    CHECK(calls > -1000000);
    calls = 0;      /* the next report asks to stop, and no pass goes on after it */
    CHECK(mde_mixture_bootstrap(e, NULL, &interval) == MDE_STOPPED && calls == 1);
    mde_context_free(c);
    free(weights);
    free(losses);
    remove_many("large/text", 7);
}

static void files_that_change_while_they_are_in_use_are_named(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_experts_desc desc = { 0, 1, NULL, NULL };
    float a[50], b[50], changed[50];
    double w[2] = { 0.5, 0.5 }, loss;
    mde_experts *e;
    int t;
    for (t = 0; t < 50; t++) {
        a[t] = -1 - (float)(t % 3);
        b[t] = -2 - (float)(t % 5);
        changed[t] = t == 40 ? -9.0f : b[t];
    }
    put(c, "change/val", "a.npy", 50, a);
    put(c, "change/val", "b.npy", 50, b);
    e = mde_experts_open(c, FOLDER "/change", &desc);
    loss = mde_validation_loss(e, 0, w, NULL);
    CHECK(loss > 1);
    put(c, "change/val", "b.npy", 50, changed);
    CHECK(isnan(mde_validation_loss(e, 0, w, NULL)) && mde_context_status(c) == MDE_BAD_FILE);
    CHECK_TEXT(mde_error(c), "change/val/b.npy: has changed while it was in use: tokens 0 to 49");
    mde_clear_error(c);
    put(c, "change/val", "b.npy", 50, b);
    CHECK(mde_validation_loss(e, 0, w, NULL) == loss);      /* a file that was touched only has not changed */
    put(c, "change/val", "b.npy", 49, b);
    CHECK(mde_mixture_losses(e, 1, w, &loss) == MDE_BAD_FILE);
    CHECK_TEXT(mde_error(c), "change/val/b.npy: has changed while it was in use: it has 324 bytes now, it had 328");
    mde_clear_error(c);
    CHECK(remove(FOLDER "/change/val/b.npy") == 0);
    CHECK(mde_mixture_losses(e, 1, w, &loss) == MDE_IO);
    CHECK_TEXT(mde_error(c), "change/val/b.npy: cannot be opened");
    mde_context_free(c);
}

static void one_token_and_one_expert_are_enough(void)
{
    size_t memory;
    for (memory = 0; memory < 2; memory++) {
        mde_context *c = mde_context_create(NULL);
        mde_experts_desc desc = { 0, memory, NULL, NULL };
        float a[1] = { -1.5f };
        mde_optimum best;
        mde_bootstrap interval;
        mde_experts *e;
        put(c, "token/val", "a.npy", 1, a);
        e = mde_experts_open(c, FOLDER "/token", &desc);
        CHECK(mde_mixture_minimize(e, NULL, &best) == MDE_OK && best.weights[0] == 1 && best.loss == 1.5);
        CHECK(mde_mixture_bootstrap(e, NULL, &interval) == MDE_OK && interval.replicates == 0);
        CHECK_TEXT(interval.note, "no interval: val has 1 tokens");
        put(c, "nothing/val", "a.npy", 0, a);
        CHECK(mde_experts_open(c, FOLDER "/nothing", &desc) == NULL);
        CHECK_TEXT(mde_error(c), "nothing/val: the validation text has no tokens");
        mde_context_free(c);
    }
}

static void do_open(mde_context *c, void *user)
{
    mde_experts_desc desc = { 0, 1, NULL, NULL };
    mde_experts *e = mde_experts_open(c, FOLDER "/heap", &desc);
    mde_optimum best;
    (void)user;
    if (e) mde_mixture_minimize(e, NULL, &best);
}

static void any_failing_allocation_of_texts_in_files_is_reported(void)
{
    mde_context *c = mde_context_create(NULL);
    put_many(c, "heap/text", 3, 17000, 0);
    CHECK(mde_context_status(c) == MDE_OK);
    CHECK(test_failing_allocations(do_open, NULL, 2000) > 20);
    remove_many("heap/text", 3);
    mde_context_free(c);
}

int main(void)
{
    TEST(loss_and_gradient_equal_the_plain_double_loop);
    TEST(weights_times_gradient_is_minus_one);
    TEST(loss_at_a_vertex_is_the_experts_own_loss);
    TEST(loss_keeps_jensens_bound_and_the_bound_of_each_expert);
    TEST(mixing_with_prefix_weights_is_exactly_training_on_pooled_counts);
    TEST(very_improbable_tokens_keep_their_precision);
    TEST(zero_probabilities_are_allowed_as_long_as_one_expert_has_none);
    TEST(the_objective_weighs_the_validation_texts);
    TEST(losses_of_many_mixtures_are_those_of_one_by_one);
    TEST(wrong_weights_and_log_probabilities_are_errors_that_say_where);
    TEST(a_loss_is_given_in_bits_a_byte);
    TEST(prices_are_the_slopes_of_the_loss_towards_each_domain);
    TEST(prices_are_zero_in_the_optimum_and_none_is_negative_outside);
    TEST(shadow_prices_are_differences_of_the_minimum_at_vertices_too);
    TEST(prices_of_wrong_mixtures_are_errors_that_say_where);
    TEST(the_minimum_is_that_of_a_search_over_all_mixtures_of_three);
    TEST(the_certificate_is_reached_and_true_for_many_random_problems_with_bounds);
    TEST(twenty_experts_on_a_hundred_thousand_tokens_reach_the_certificate);
    TEST(misleading_samples_still_reach_the_certificate);
    TEST(identical_and_useless_experts_do_no_harm);
    TEST(one_expert_and_fixed_weights_have_one_answer);
    TEST(bounds_between_which_no_mixture_lies_are_errors);
    TEST(too_few_iterations_are_an_error_that_still_gives_the_best_found);
    TEST(bootstrap_intervals_hold_the_true_loss_at_about_the_nominal_rate);
    TEST(bootstrap_depends_on_its_seed_alone);
    TEST(a_text_of_few_documents_is_resampled_in_blocks_or_has_no_interval);
    TEST(an_interval_of_blocks_has_the_width_of_the_mean_of_independent_tokens);
    TEST(a_text_that_does_not_count_has_no_say_in_the_intervals);
    TEST(intervals_of_prices_hold_the_true_price_at_about_the_nominal_rate);
    TEST(intervals_of_prices_depend_on_their_seed_and_level_alone);
    TEST(results_are_the_same_bits_for_any_threads_and_instruction_set);
    TEST(any_failing_allocation_is_reported_and_nothing_is_lost);
    TEST(any_failing_allocation_on_the_way_through_samples_is_reported);
    TEST(a_freed_set_of_experts_leaves_nothing_behind);
    TEST(a_folder_is_read_as_it_was_written);
    TEST(negative_log_likelihoods_are_read_when_asked_for);
    TEST(wrong_folders_are_refused_with_the_name_of_what_is_wrong);
    TEST(documents_of_64_bits_are_told_apart);
    TEST(what_no_natural_logarithm_can_be_is_refused);
    TEST(temporary_files_are_no_experts);
    if (getenv("MDEMIX_SHARED")) TEST(shared_cases_are_read_or_refused_right);
    else test_skip("shared_cases_are_read_or_refused_right", "the cases are not there (MDEMIX_SHARED)");
    TEST(sums_over_sequences_are_refused_with_what_gives_them_away);
    TEST(unusual_tokens_are_not_taken_for_sums);
    TEST(an_allocation_that_fails_on_the_way_to_a_refusal_is_reported);
    TEST(texts_in_files_give_the_bits_of_texts_in_memory);
    TEST(a_text_larger_than_the_memory_is_taken_and_can_be_stopped);
    TEST(files_that_change_while_they_are_in_use_are_named);
    TEST(one_token_and_one_expert_are_enough);
    TEST(any_failing_allocation_of_texts_in_files_is_reported);
    return test_end();
}
