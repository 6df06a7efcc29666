/* Search on the simplex: against sorting, enumeration, closed forms and the conditions of an optimum. */
#include "../mdemix.h"
#include "test.h"

static double sum_of(int n, const double *w)
{
    double sum = 0;
    int i;
    for (i = 0; i < n; i++) sum += w[i];
    return sum;
}

static int feasible(int n, const double *low, const double *high, const double *w)
{
    int i;
    for (i = 0; i < n; i++) {
        if (!(w[i] >= (low ? low[i] : 0) && w[i] <= (high ? high[i] : 1))) return 0;
    }
    return fabs(sum_of(n, w) - 1) <= 1e-15;
}

/* ---- Projection ---- */

/* The projection by trying every breakpoint of its piecewise linear sum. */
static void plain_project(int n, const double *low, const double *high, const double *w, double *out)
{
    double best = (double)INFINITY, sum, shift;
    int i, j, k;
    for (k = 0; k < 2 * n; k++) {
        for (j = 0; j < 2 * n; j++) {
            double a = k < n ? w[k] - low[k] : w[k - n] - high[k - n];
            double b = j < n ? w[j] - low[j] : w[j - n] - high[j - n];
            double middle = 0.5 * (a + b), fixed = 0, free_sum = 0, error = 0, trial[8];
            int free_count = 0;
            for (i = 0; i < n; i++) {
                if (w[i] - middle <= low[i]) {
                    fixed += low[i];
                } else if (w[i] - middle >= high[i]) {
                    fixed += high[i];
                } else {
                    free_sum += w[i];
                    free_count++;
                }
            }
            shift = free_count ? (free_sum + fixed - 1) / free_count : middle;
            sum = 0;
            for (i = 0; i < n; i++) {
                trial[i] = fmin(fmax(w[i] - shift, low[i]), high[i]);
                sum += trial[i];
                error += (trial[i] - w[i]) * (trial[i] - w[i]);
            }
            if (fabs(sum - 1) < 1e-12 && error < best) {
                best = error;
                for (i = 0; i < n; i++) out[i] = trial[i];
            }
        }
    }
}

static void projection_is_the_nearest_feasible_point(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_random random = mde_random_start(5, 5);
    int trial, i, n;
    for (trial = 0; trial < 500; trial++) {
        double low[8], high[8], w[8], start[8], plain[8], total_low = 0, total_high = 0, scale = trial % 3 ? 1 : 100;
        n = 2 + trial % 7;
        for (i = 0; i < n; i++) {
            low[i] = trial % 2 ? 0.5 * mde_random_uniform(&random) / n : 0;
            high[i] = trial % 4 > 1 ? fmin(1, low[i] + 2.5 * mde_random_uniform(&random) / n) : 1;
            start[i] = w[i] = scale * mde_random_normal(&random);
            if (trial % 5 == 0) start[i] = w[i] = floor(3 * mde_random_uniform(&random)) / n;   /* ties */
            total_low += low[i];
            total_high += high[i];
        }
        if (total_low > 1 || total_high < 1) continue;
        CHECK(mde_simplex_project(c, n, low, high, w) == MDE_OK);
        CHECK(feasible(n, low, high, w));
        plain_project(n, low, high, start, plain);
        for (i = 0; i < n; i++) CLOSE(w[i], plain[i], 1e-15 * (1 + 4 * scale));
    }
    mde_context_free(c);
}

static void projection_of_a_mixture_is_itself(void)
{
    double w[4] = { 0.125, 0.5, 0.25, 0.125 }, far[3] = { 1e300, -1e300, 0 }, same[3] = { 1e6, 1e6, 1e6 };
    double tiny[3] = { 1e-320, 1, 0 };
    mde_context *c = mde_context_create(NULL);
    CHECK(mde_simplex_project(c, 4, NULL, NULL, w) == MDE_OK);
    CHECK(w[0] == 0.125 && w[1] == 0.5 && w[2] == 0.25 && w[3] == 0.125);
    CHECK(mde_simplex_project(c, 3, NULL, NULL, far) == MDE_OK);
    CHECK(far[0] == 1 && far[1] == 0 && far[2] == 0);
    CHECK(mde_simplex_project(c, 3, NULL, NULL, same) == MDE_OK);
    CLOSE(same[1], 1.0 / 3, 1e-15);
    CHECK(fabs(sum_of(3, same) - 1) <= 1e-15);
    CHECK(mde_simplex_project(c, 3, NULL, NULL, tiny) == MDE_OK);
    CLOSE(tiny[1], 1, 1e-15);
    mde_context_free(c);
}

static void infeasible_bounds_are_named(void)
{
    double w[3] = { 0.2, 0.3, 0.5 }, low[3] = { 0.5, 0.4, 0.3 }, high[3] = { 0.2, 0.3, 0.4 }, bad[3];
    mde_context *c = mde_context_create(NULL);
    CHECK(mde_simplex_project(c, 3, low, NULL, w) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "lower bounds sum to 1.2");
    mde_clear_error(c);
    CHECK(mde_simplex_project(c, 3, NULL, high, w) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "upper bounds sum to 0.9");
    mde_clear_error(c);
    CHECK(mde_simplex_project(c, 3, low, high, w) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "weight 0 has the lower bound 0.5 above its upper bound 0.2");
    mde_clear_error(c);
    bad[0] = bad[2] = 1;
    bad[1] = (double)NAN;
    CHECK(mde_simplex_project(c, 3, NULL, bad, w) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "weight 1 has bounds 0 and nan");
    mde_clear_error(c);
    CHECK(mde_simplex_project(c, 3, NULL, NULL, bad) == MDE_NOT_FINITE);
    CHECK_TEXT(mde_error(c), "weight 1 is nan");
    mde_context_free(c);
}

static void bounds_of_runs_hold_all_runs(void)
{
    double w[6] = { 0.1, 0.9, 0.3, 0.7, 0.2, 0.8 }, low[2], high[2];
    mde_bounds_of_runs(3, 2, w, 0, low, high);
    CHECK(low[0] == 0.1 && high[0] == 0.3 && low[1] == 0.7 && high[1] == 0.9);
    mde_bounds_of_runs(3, 2, w, 1, low, high);
    CLOSE(low[0], 0, 1e-15);
    CLOSE(high[0], 0.5, 1e-15);
    CLOSE(low[1], 0.5, 1e-15);
    CLOSE(high[1], 1, 1e-15);
}

/* ---- Search ---- */

/* What the objectives below share: a target, how many calls, and what is done to the gradient or the value. */
typedef struct problem {
    int calls, no_gradient, kind;
    const double *target;
} problem;

/* sum (w - t)^2, least at the projection of t. */
static double quadratic(int n, const double *w, double *gradient, void *user)
{
    problem *p = (problem *)user;
    double value = 0;
    int i;
    p->calls++;
    for (i = 0; i < n; i++) {
        value += (w[i] - p->target[i]) * (w[i] - p->target[i]);
        if (gradient) gradient[i] = 2 * (w[i] - p->target[i]);
    }
    CHECK(!gradient || !p->no_gradient);
    if (p->kind == 1 && w[0] > 0.6) return (double)NAN;
    if (p->kind == 2 && w[0] > 0.6) return (double)INFINITY;
    if (p->kind == 3) return (double)NAN;
    if (p->kind == 4 && w[1] > 0.5) return -(double)INFINITY;
    return value;
}

/* -sum t log w, least at w = t: the cross-entropy of a mixture. */
static double cross_entropy(int n, const double *w, double *gradient, void *user)
{
    problem *p = (problem *)user;
    double value = 0;
    int i;
    p->calls++;
    for (i = 0; i < n; i++) {
        value -= p->target[i] * log(w[i]);
        if (gradient) gradient[i] = -p->target[i] / w[i];
    }
    CHECK(!gradient || !p->no_gradient);
    return value;
}

/* Least at the corner with the least target. */
static double linear(int n, const double *w, double *gradient, void *user)
{
    problem *p = (problem *)user;
    double value = 0;
    int i;
    for (i = 0; i < n; i++) {
        value += p->target[i] * w[i];
        if (gradient) gradient[i] = p->target[i];
    }
    CHECK(!gradient || !p->no_gradient);
    return value;
}

/* A gradient that leads uphill, and so far that no step along it is too small to be seen. */
static double uphill(int n, const double *w, double *gradient, void *user)
{
    int i;
    for (i = 0; gradient && i < n; i++) gradient[i] = i == 0 ? -1e12 : 0;
    ((problem *)user)->calls++;
    return w[0];
}

/* Two valleys; the deeper is at the second corner. */
static double valleys(int n, const double *w, double *gradient, void *user)
{
    double first = exp(-30 * ((w[0] - 0.8) * (w[0] - 0.8) + w[1] * w[1]));
    double second = 1.5 * exp(-30 * ((w[1] - 0.9) * (w[1] - 0.9) + w[0] * w[0]));
    if (gradient) {
        gradient[0] = 60 * ((w[0] - 0.8) * first + w[0] * second);
        gradient[1] = 60 * (w[1] * first + (w[1] - 0.9) * second);
        gradient[2] = 0;
    }
    (void)user;
    (void)n;
    return -first - second;
}

static void both_methods_find_the_projection_inside_bounds(void)
{
    static const double target[5] = { 0.7, 0.25, -0.1, 0.3, 0.1 };
    static const double low[5] = { 0, 0.05, 0.02, 0, 0 }, high[5] = { 0.4, 1, 1, 0.3, 1 };
    int method, bounded, i;
    for (method = 0; method < 2; method++) {
        for (bounded = 0; bounded < 2; bounded++) {
            double w[5], expected[5], value;
            mde_context *c = mde_context_create(NULL);
            mde_search_desc desc;
            problem p = { 0, 0, 0, NULL };
            p.target = target;
            p.no_gradient = method == MDE_POPULATION;
            memset(&desc, 0, sizeof desc);
            desc.method = (mde_search_method)method;
            desc.lower = bounded ? low : NULL;
            desc.upper = bounded ? high : NULL;
            desc.samples = 200;
            desc.starts = 3;
            desc.seed = 3;
            memcpy(expected, target, sizeof expected);
            mde_simplex_project(c, 5, desc.lower, desc.upper, expected);
            value = mde_simplex_minimize(c, 5, quadratic, &p, &desc, w);
            CHECK(feasible(5, desc.lower, desc.upper, w));
            /* strongly convex with constant 2: |w - w*|^2 <= value - least */
            CLOSE(value, quadratic(5, expected, NULL, &p), 2e-8);
            for (i = 0; i < 5; i++) CLOSE(w[i], expected[i], 2e-4);
            mde_context_free(c);
        }
    }
}

static void exponentiated_gradient_solves_cross_entropy_exactly(void)
{
    static const double target[4] = { 0.5, 0.3, 0.15, 0.05 };
    double w[4];
    int i;
    mde_context *c = mde_context_create(NULL);
    mde_search_desc desc;
    problem p = { 0, 0, 0, NULL };
    p.target = target;
    memset(&desc, 0, sizeof desc);
    desc.method = MDE_EXPONENTIATED_GRADIENT;
    desc.samples = 10;
    desc.starts = 1;
    desc.tolerance = 1e-10;
    mde_simplex_minimize(c, 4, cross_entropy, &p, &desc, w);
    for (i = 0; i < 4; i++) CLOSE(w[i], target[i], 1e-5);
    CHECK(p.calls < 2000);
    mde_context_free(c);
}

static void corners_are_found(void)
{
    static const double target[6] = { 3, 2, 5, 1, 4, 2 };
    static const double high[6] = { 1, 1, 1, 0.6, 1, 0.3 };
    int method, i;
    for (method = 0; method < 2; method++) {
        double w[6];
        mde_context *c = mde_context_create(NULL);
        mde_search_desc desc;
        problem p = { 0, 0, 0, NULL };
        p.target = target;
        memset(&desc, 0, sizeof desc);
        desc.method = (mde_search_method)method;
        desc.samples = 100;
        desc.starts = 2;
        CLOSE(mde_simplex_minimize(c, 6, linear, &p, &desc, w), 1, 1e-8);
        CLOSE(w[3], 1, 1e-8);
        desc.upper = high;
        /* 0.6 of the best corner, then 0.4 of the two that come next */
        CLOSE(mde_simplex_minimize(c, 6, linear, &p, &desc, w), 0.6 + 0.8, 1e-8);
        for (i = 0; i < 6; i++) CHECK(w[i] <= high[i]);
        mde_context_free(c);
    }
}

static void many_starts_find_the_deeper_valley(void)
{
    int method;
    for (method = 0; method < 2; method++) {
        double w[3], again[3], start[3] = { 0.8, 0.05, 0.15 }, value;
        mde_context *c = mde_context_create(NULL);
        mde_search_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.method = (mde_search_method)method;
        value = mde_simplex_minimize(c, 3, valleys, NULL, &desc, w);
        CLOSE(value, -1.5, 1e-6);
        CLOSE(w[1], 0.9, 1e-3);
        CHECK(mde_simplex_minimize(c, 3, valleys, NULL, &desc, again) == value);
        CHECK(memcmp(w, again, sizeof w) == 0);
        desc.start = start;     /* one start of the caller's: the valley it lies in */
        CLOSE(mde_simplex_minimize(c, 3, valleys, NULL, &desc, w), -1, 1e-6);
        CLOSE(w[0], 0.8, 1e-3);
        mde_context_free(c);
    }
}

static void points_that_are_not_finite_are_avoided(void)
{
    static const double target[3] = { 0.55, 0.3, 0.15 };
    int method, kind;
    for (method = 0; method < 2; method++) {
        for (kind = 1; kind <= 4; kind++) {
            double w[3], value;
            mde_context *c = mde_context_create(NULL);
            mde_search_desc desc;
            problem p = { 0, 0, 0, NULL };
            p.target = target;
            p.kind = kind;
            memset(&desc, 0, sizeof desc);
            desc.method = (mde_search_method)method;
            desc.samples = 50;
            value = mde_simplex_minimize(c, 3, quadratic, &p, &desc, w);
            if (kind == 3) {
                CHECK(value != value);
                CHECK(mde_context_status(c) == MDE_NOT_FINITE);
                CHECK_TEXT(mde_error(c), "not finite at any of 50 mixtures");
            } else {
                CLOSE(value, 0, 1e-8);
                CLOSE(w[0], 0.55, 1e-4);
            }
            mde_context_free(c);
        }
    }
}

static void a_descent_ends_where_no_step_leads_down(void)
{
    double w[3], start[3] = { 0.2, 0.3, 0.5 };
    mde_context *c = mde_context_create(NULL);
    mde_search_desc desc;
    problem p = { 0, 0, 0, NULL };
    memset(&desc, 0, sizeof desc);
    desc.samples = desc.starts = 1;
    desc.start = start;
    CHECK(mde_simplex_minimize(c, 3, uphill, &p, &desc, w) == 0.2);
    CHECK(p.calls == 1 + 1 + 60);       /* the start, once more with its gradient, and the steps tried from there */
    mde_context_free(c);
}

static void bad_searches_are_named(void)
{
    double w[2], low[2] = { 0.7, 0.7 }, start[2] = { 0.5, 0 };
    mde_context *c = mde_context_create(NULL);
    mde_search_desc desc;
    problem p = { 0, 0, 0, NULL };
    p.target = low;
    start[1] = (double)NAN;
    memset(&desc, 0, sizeof desc);
    desc.lower = low;
    CHECK(isnan(mde_simplex_minimize(c, 2, quadratic, &p, &desc, w)));
    CHECK_TEXT(mde_error(c), "lower bounds sum to 1.4");
    CHECK(p.calls == 0);
    mde_clear_error(c);
    desc.lower = NULL;
    desc.start = start;
    CHECK(isnan(mde_simplex_minimize(c, 2, quadratic, &p, &desc, w)));
    CHECK_TEXT(mde_error(c), "weight 1 of the start is not finite");
    mde_clear_error(c);
    CHECK(isnan(mde_simplex_minimize(c, 0, quadratic, &p, NULL, w)));
    CHECK(mde_context_status(c) == MDE_BAD_ARGUMENT);
    mde_context_free(c);
}

static void one_weight_and_fixed_weights_are_fine(void)
{
    static const double target[3] = { 0.2, 0.3, 0.9 }, fixed[3] = { 0.5, 0.25, 0.25 };
    int method;
    for (method = 0; method < 2; method++) {
        double w[3];
        mde_context *c = mde_context_create(NULL);
        mde_search_desc desc;
        problem p = { 0, 0, 0, NULL };
        p.target = target;
        memset(&desc, 0, sizeof desc);
        desc.method = (mde_search_method)method;
        CLOSE(mde_simplex_minimize(c, 1, quadratic, &p, &desc, w), 0.64, 1e-15);
        CHECK(w[0] == 1);
        desc.lower = desc.upper = fixed;
        mde_simplex_minimize(c, 3, quadratic, &p, &desc, w);
        CHECK(w[0] == 0.5 && w[1] == 0.25 && w[2] == 0.25);
        CHECK(mde_context_status(c) == MDE_OK);
        mde_context_free(c);
    }
}

static void a_population_serves_in_seventeen_dimensions(void)
{
    double target[17], w[17], expected[17];
    int i;
    mde_context *c = mde_context_create(NULL);
    mde_search_desc desc;
    problem p = { 0, 0, 0, NULL };
    for (i = 0; i < 17; i++) target[i] = expected[i] = i < 4 ? 0.3 - 0.05 * i : 0.02 * (i % 3) - 0.01;
    p.target = target;
    p.no_gradient = 1;
    memset(&desc, 0, sizeof desc);
    desc.method = MDE_POPULATION;
    desc.iterations = 2000;
    mde_simplex_project(c, 17, NULL, NULL, expected);
    CLOSE(mde_simplex_minimize(c, 17, quadratic, &p, &desc, w), quadratic(17, expected, NULL, &p), 1e-5);
    CHECK(feasible(17, NULL, NULL, w));
    mde_context_free(c);
}

static void project_and_minimize(mde_context *c, void *user)
{
    static const double target[3] = { 0.2, 0.3, 0.5 };
    double w[3] = { 0.1, 0.2, 0.3 };
    mde_search_desc search;
    problem p = { 0, 0, 0, NULL };
    p.target = target;
    memset(&search, 0, sizeof search);
    search.samples = search.starts = 1;
    mde_simplex_project(c, 3, NULL, NULL, w);
    mde_simplex_minimize(c, 3, quadratic, &p, &search, w);
    (void)user;
}

static void every_failed_allocation_is_an_error(void)
{
    CHECK(test_failing_allocations(project_and_minimize, NULL, 100) > 0);
}

/* ---- Interrupts ---- */

typedef struct interrupted { int calls, stop_at, after; } interrupted;

static int interrupt(const mde_progress *p, void *user)
{
    interrupted *x = (interrupted *)user;
    CHECK(p->step >= 0 && p->step <= p->steps);
    return ++x->calls == x->stop_at;
}

/* Takes a millisecond. */
static double slow_value(int n, const double *w, double *gradient, void *user)
{
    interrupted *x = (interrupted *)user;
    double start = mde_seconds();
    int i;
    while (mde_seconds() - start < 1e-3) {}
    if (x->stop_at && x->calls >= x->stop_at) x->after++;
    for (i = 0; gradient && i < n; i++) gradient[i] = 2 * (w[i] - 0.1 * i);
    return 1 + fabs(w[0] - 0.3) + w[1] * w[1];
}

static void a_search_reports_and_ends_when_it_is_told_to(void)
{
    int method, stop;
    for (method = 0; method < 2; method++) {
        for (stop = 0; stop < 4; stop++) {
            mde_context *c = mde_context_create(NULL);
            mde_search_desc desc;
            interrupted x;
            double value, w[4];
            memset(&x, 0, sizeof x);
            memset(&desc, 0, sizeof desc);
            desc.method = method ? MDE_POPULATION : MDE_EXPONENTIATED_GRADIENT;
            desc.samples = 250;
            desc.iterations = 20;
            desc.progress = interrupt;
            desc.user = &x;
            x.stop_at = stop;           /* the second report is still among the samples, the third after them */
            value = mde_simplex_minimize(c, 4, slow_value, &x, &desc, w);
            CHECK(stop ? x.calls == stop : x.calls >= 3);
            CHECK(mde_context_status(c) == (stop ? MDE_STOPPED : MDE_OK) && isnan(value) == (stop > 0) && x.after == 0);
            if (stop) CHECK_TEXT(mde_error(c), "search: stopped");
            mde_context_free(c);
        }
    }
}

/* A surrogate's search and its suggestions. They report ten times a second, so they get twice as many runs until they
   take long enough to be asked `stop` times. */
static void searches_by_a_surrogate_end_when_they_are_told_to(void)
{
    enum { N = 30, K = 3, LARGEST = 1 << 23 };
    double *w = (double *)malloc((size_t)LARGEST * K * sizeof *w), y[N], next[2 * K];
    mde_random random = mde_random_start(4, 4);
    int i, stop, made = 0, search;
    for (search = 0; search < 2; search++) {
        int runs = 1 << 16;
        for (stop = 1; stop < 4; stop++) {
            mde_context *c = mde_context_create(NULL);
            mde_surrogate_desc desc;
            mde_choose_desc choose;
            mde_suggest_desc suggest;
            mde_status status = MDE_OK;
            mde_choice best;
            interrupted x;
            mde_surrogate *s;
            memset(&x, 0, sizeof x);
            memset(&desc, 0, sizeof desc);
            memset(&choose, 0, sizeof choose);
            memset(&suggest, 0, sizeof suggest);
            for (; made < runs; made++) mde_random_mixture(&random, K, w + (size_t)made * K);
            for (i = 0; i < N; i++) y[i] = 2 + (w[i * K] - 0.5) * (w[i * K] - 0.5) + 0.1 * w[i * K + 1];
            desc.fit.model = MDE_GP;
            s = mde_surrogate_fit(c, N, K, 1, w, y, &desc);
            choose.progress = suggest.progress = interrupt;
            choose.user = suggest.user = &x;
            choose.tried = w;
            suggest.best = 2;
            x.stop_at = stop;
            for (;;) {
                choose.runs = runs;
                status = search ? mde_surrogate_minimize(s, &choose, &best)
                                : mde_suggest_runs(c, s, runs, K, w, &suggest, 2, next);
                if (status != MDE_OK || runs == LARGEST) break;
                CHECK(x.calls < stop);
                x.calls = 0;
                for (runs *= 2; made < runs; made++) mde_random_mixture(&random, K, w + (size_t)made * K);
            }
            CHECK(status == MDE_STOPPED && x.calls == stop);
            CHECK_TEXT(mde_error(c), search ? ": stopped" : "suggest: stopped");
            mde_context_free(c);
        }
    }
    free(w);
}

int main(void)
{
    TEST(projection_is_the_nearest_feasible_point);
    TEST(projection_of_a_mixture_is_itself);
    TEST(infeasible_bounds_are_named);
    TEST(bounds_of_runs_hold_all_runs);
    TEST(both_methods_find_the_projection_inside_bounds);
    TEST(exponentiated_gradient_solves_cross_entropy_exactly);
    TEST(corners_are_found);
    TEST(many_starts_find_the_deeper_valley);
    TEST(points_that_are_not_finite_are_avoided);
    TEST(a_descent_ends_where_no_step_leads_down);
    TEST(bad_searches_are_named);
    TEST(one_weight_and_fixed_weights_are_fine);
    TEST(a_population_serves_in_seventeen_dimensions);
    TEST(every_failed_allocation_is_an_error);
    TEST(a_search_reports_and_ends_when_it_is_told_to);
    TEST(searches_by_a_surrogate_end_when_they_are_told_to);
    return test_end();
}
