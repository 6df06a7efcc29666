/* mix_trust.h - how far to trust what a regression says of runs: the noise between repeated runs, what picking by the
   regression costs, the interval of a rank correlation, and whether more runs would help. For mix_optimize.c. */
#ifndef MIX_TRUST_H
#define MIX_TRUST_H

/* The mean of values [m] by weights; NULL: equal ones. */
static double weighted(int m, const double *weights, const double *values)
{
    double sum = 0, total = 0;
    int j;
    for (j = 0; j < m; j++) {
        double weight = weights ? weights[j] : 1;
        if (weight > 0) sum += weight * values[j];
        total += weight;
    }
    return sum / total;
}

typedef struct sorted_value { double value; int at; } sorted_value;

static int compare_sorted(const void *a, const void *b)
{
    const sorted_value *x = (const sorted_value *)a, *y = (const sorted_value *)b;
    if (x->value != y->value) return x->value < y->value ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

/* sd [m] of a loss between repeated runs (equal weights to 1e-9); NaN without any. Returns the degrees of freedom. */
static int repeat_noise(mde_context *c, int n, int k, int m, const double *weights, const double *losses, double *sd)
{
    int *next = (int *)mde_alloc(c, (size_t)n, 3 * sizeof *next), *first = next ? next + n : NULL;
    int *last = first ? first + n : NULL;       /* so far, of the mixture whose first run it is */
    int i, j, l, freedom = 0;
    if (first) mde_first_repeats(c, n, k, weights, first);
    for (i = 0; i < n && !program_failed(c); i++) {
        next[i] = n;
        if (first[i] < i) next[last[first[i]]] = i;
        last[first[i]] = i;
    }
    for (j = 0; j < m && !program_failed(c); j++) {
        double squares = 0;
        int pairs = 0;
        for (i = 0; i < n; i++) {
            double mean = 0;
            int count = 0;
            if (first[i] < i) continue;
            for (l = i; l < n; l = next[l]) {
                double y = losses[l * m + j];
                if (y != y) continue;
                mean += y;
                count++;
            }
            mean /= count > 0 ? count : 1;
            for (l = i; l < n; l = next[l]) {
                double y = losses[l * m + j];
                if (y == y) squares += (y - mean) * (y - mean);
            }
            if (count > 1) pairs += count - 1;
        }
        sd[j] = pairs > 0 ? sqrt(squares / pairs) : (double)NAN;
        if (pairs > freedom) freedom = pairs;
    }
    mde_release(c, next);
    return freedom;
}

/* Objective's loss of the run that held-out predictions would pick out of each tenth of the runs, above the lowest
   there, mean over the tenths; objective [targets] weighs the losses (NULL: equal weights). *of_chance (may be NULL):
   the same for a run picked blindly. NaN on error. */
static double picking_regret(const mde_evaluation *e, const double *losses, const double *objective, double *of_chance)
{
    int tenth, tenths, i, counted = 0;
    double sum = 0, chance = 0;
    if (of_chance) *of_chance = (double)NAN;
    if (!e || !losses) return (double)NAN;
    /* tenths, whatever the folds were: as many to pick from, however many folds there are */
    tenths = e->runs >= 20 ? 10 : 1;
    for (tenth = 0; tenth < tenths; tenth++) {
        double lowest = (double)INFINITY, picked = 0, best = (double)INFINITY, mean = 0;
        int count = 0;
        for (i = tenth; i < e->runs; i += tenths) {
            double p = weighted(e->targets, objective, e->predicted + i * e->targets);
            double y = weighted(e->targets, objective, losses + i * e->targets);
            if (y != y) continue;
            if (p < lowest) {
                lowest = p;
                picked = y;
            }
            if (y < best) best = y;
            mean += y;
            count++;
        }
        if (count == 0) continue;
        sum += picked - best;
        chance += mean / count - best;
        counted++;
    }
    if (counted == 0) return (double)NAN;
    if (of_chance) *of_chance = chance / counted;
    return sum / counted;
}

/* The q-quantile of n sorted values, linear between order statistics. */
static double sorted_quantile(const double *values, int n, double q)
{
    double at = q * (n - 1);
    int low = (int)at;
    return low >= n - 1 ? values[n - 1] : values[low] + (at - low) * (values[low + 1] - values[low]);
}

/* For values sorted, each drawn count times (by .at): how many draws are smaller less how many are larger, rank [n]. */
static void centred_ranks(int n, const sorted_value *sorted, const int *count, double *rank)
{
    int from, to, i, smaller = 0;
    for (from = 0; from < n; from = to) {
        int equal = 0;
        for (to = from; to < n && sorted[to].value == sorted[from].value; to++) equal += count[sorted[to].at];
        for (i = from; i < to; i++) rank[sorted[i].at] = smaller - (n - smaller - equal);
        smaller += equal;
    }
}

/* Spearman's correlation of n pairs, in time n log n, and the ends of the percentile interval of pairs drawn with
   replacement. NaN where one side is constant. level 0: 0.9; replicates 0: 200. */
static mde_status spearman_interval(mde_context *c, int n, const double *a, const double *b, double level,
                                    int replicates, uint64_t seed, double out[3])
{
    mde_random random = mde_random_start(seed, 0x72616e6b);
    sorted_value *sorted[2];
    double *values, *rank;
    int *drawn, r, i, count = 0;
    if (replicates == 0) replicates = 200;
    if (!(level > 0)) level = 0.9;
    if (n < 3 || !a || !b || replicates < 1 || !(level < 1)) {
        return mde_fail(c, MDE_BAD_ARGUMENT, "interval: %d pairs, %d replicates; at least 3 and 1 are needed, and a "
                        "level below 1", n, replicates);
    }
    values = (double *)mde_alloc(c, (size_t)replicates, sizeof *values);
    rank = (double *)mde_alloc(c, (size_t)n * 2, sizeof *rank);
    drawn = (int *)mde_alloc(c, (size_t)n, sizeof *drawn);
    sorted[0] = (sorted_value *)mde_alloc(c, (size_t)n * 2, sizeof **sorted);
    if (!program_failed(c)) {
        sorted[1] = sorted[0] + n;
        for (i = 0; i < n; i++) {
            sorted[0][i].value = a[i];
            sorted[1][i].value = b[i];
            sorted[0][i].at = sorted[1][i].at = i;
        }
        for (i = 0; i < 2; i++) qsort(sorted[i], (size_t)n, sizeof **sorted, compare_sorted);
        for (r = -1; r < replicates; r++) {             /* -1: each pair once */
            double aa = 0, bb = 0, ab = 0, *u = rank, *v = rank + n;
            for (i = 0; i < n; i++) drawn[i] = r < 0;
            for (i = 0; r >= 0 && i < n; i++) drawn[mde_random_below(&random, (uint64_t)n)]++;
            centred_ranks(n, sorted[0], drawn, u);
            centred_ranks(n, sorted[1], drawn, v);
            for (i = 0; i < n; i++) {
                aa += drawn[i] * u[i] * u[i];
                bb += drawn[i] * v[i] * v[i];
                ab += drawn[i] * u[i] * v[i];
            }
            ab = aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : (double)NAN;
            if (r < 0) out[0] = ab;
            else if (ab == ab) values[count++] = ab;
        }
        qsort(values, (size_t)count, sizeof *values, program_compare_doubles);
        out[1] = count ? sorted_quantile(values, count, 0.5 - 0.5 * level) : (double)NAN;
        out[2] = count ? sorted_quantile(values, count, 0.5 + 0.5 * level) : (double)NAN;
    }
    mde_release(c, sorted[0]);
    mde_release(c, drawn);
    mde_release(c, rank);
    mde_release(c, values);
    return mde_context_status(c);
}

/* ---- Would more runs help? ---- */

#define CURVE_POINTS 4
typedef struct curve_point {
    int runs;
    double spearman;                    /* mean over targets and subsets */
    double error, error_sd;             /* squared error over the target's variance; sd between subsets */
} curve_point;

/* A table of runs and what a learning curve needs of it. */
typedef struct curve_table {
    int n, k, m;
    const double *weights, *losses;
    double *variance;                   /* [m] of the losses that are there; 0: constant */
    int64_t *order;                     /* [n] */
    double *train_w, *train_y, *test_w, *test_y, *mean;     /* of n runs each */
    double *a, *b;                      /* [n] */
} curve_table;

static void loss_variances(curve_table *t)
{
    int i, j;
    for (j = 0; j < t->m; j++) {
        double mean = 0, squares = 0;
        int count = 0;
        for (i = 0; i < t->n; i++) {
            double y = t->losses[i * t->m + j];
            if (y != y) continue;
            mean += y;
            count++;
        }
        mean /= count > 0 ? count : 1;
        for (i = 0; i < t->n; i++) {
            double y = t->losses[i * t->m + j];
            if (y == y) squares += (y - mean) * (y - mean);
        }
        t->variance[j] = count > 0 ? squares / count : 0;
        if (!(t->variance[j] > 1e-24 * (1.0 + mean * mean))) t->variance[j] = 0;
    }
}

/* Spearman and squared error in variances, means over the losses, of predictions of the test runs. */
static void curve_scores(mde_context *c, curve_table *t, int tests, double *spearman, double *error)
{
    int i, j, ranked = 0, counted = 0;
    *spearman = *error = 0;
    for (j = 0; j < t->m; j++) {
        double rank;
        int count = 0;
        for (i = 0; i < tests; i++) {
            double y = t->test_y[i * t->m + j];
            if (y != y) continue;
            t->a[count] = t->mean[i * t->m + j];
            t->b[count++] = y;
        }
        rank = mde_spearman(c, count, t->a, t->b);
        if (rank == rank) {
            *spearman += rank;
            ranked++;
        }
        if (count > 0 && t->variance[j] > 0) {
            *error += mde_mse(count, t->a, t->b) / t->variance[j];
            counted++;
        }
    }
    *spearman = ranked > 0 ? *spearman / ranked : (double)NAN;
    *error = counted > 0 ? *error / counted : (double)NAN;
}

/* Whether a model can be fitted to these runs where losses are missing: three of each, and three whole ones for a
   process of all losses together. */
static int enough_losses(mde_model model, int n, int m, const double *losses)
{
    int i, j, whole = 0;
    for (i = 0; i < n; i++) {
        for (j = 0; j < m && losses[i * m + j] == losses[i * m + j]; j++) {
        }
        whole += j == m;
    }
    for (j = 0; j < m; j++) {
        int count = 0;
        for (i = 0; i < n; i++) count += losses[i * m + j] == losses[i * m + j];
        if (count < 3) return 0;
    }
    return whole >= 3 || model != MDE_MULTITASK_GP;
}

static void take_run(const curve_table *t, int64_t run, int to, double *weights, double *losses)
{
    memcpy(weights + to * t->k, t->weights + run * t->k, (size_t)t->k * sizeof *weights);
    memcpy(losses + to * t->m, t->losses + run * t->m, (size_t)t->m * sizeof *losses);
}

/* A fit to the first `size` runs of the order, tested on its last quarter. Returns 0 when it cannot be. */
static int curve_subset(mde_context *c, curve_table *t, const mde_surrogate_desc *desc, int size, double *spearman,
                        double *error)
{
    int tests = t->n / 4, i;
    mde_surrogate *s;
    for (i = 0; i < size; i++) take_run(t, t->order[i], i, t->train_w, t->train_y);
    for (i = 0; i < tests; i++) take_run(t, t->order[t->n - tests + i], i, t->test_w, t->test_y);
    if (!enough_losses(desc->fit.model, size, t->m, t->train_y)) return 0;
    s = mde_surrogate_fit(c, size, t->k, t->m, t->train_w, t->train_y, desc);
    if (s && mde_surrogate_predict(s, tests, t->test_w, t->mean, NULL) == MDE_OK) {
        curve_scores(c, t, tests, spearman, error);
    }
    mde_surrogate_free(s);
    return mde_context_status(c) == MDE_OK && *error == *error;
}

static int curve_progress(mde_context *c, const mde_evaluate_desc *how, int step, int steps)
{
    mde_progress p;
    if (!how->progress) return 1;
    memset(&p, 0, sizeof p);
    p.stage = "learning curve";
    p.step = step;
    p.steps = steps;
    p.loss = (double)NAN;
    p.reported = step - 1;
    if (how->progress(&p, how->user)) mde_fail(c, MDE_STOPPED, "learning curve: stopped");
    return mde_context_status(c) == MDE_OK;
}

/* A model fitted to 1/8, 1/4, 1/2 and 3/4 of the runs, `repeats` random subsets of each (0: 3), tested on another
   quarter; how (NULL: nothing) has the seed and the progress. Returns the number of points, fewer than CURVE_POINTS
   where there are few runs. */
static int learning_curve(mde_context *c, int n, int k, int m, const double *weights, const double *losses,
                          const mde_surrogate_desc *desc, const mde_evaluate_desc *how, int repeats,
                          curve_point *points)
{
    static const int eighths[CURVE_POINTS] = { 1, 2, 4, 6 };
    mde_evaluate_desc plain;
    curve_table t;
    double *memory;
    int p, r, count = 0, fewest = 2 * (k < 8 ? k : 8);
    memset(&plain, 0, sizeof plain);
    if (!how) how = &plain;
    if (repeats == 0) repeats = 3;
    if (n < 1 || k < 1 || m < 1 || repeats < 1) {
        mde_fail(c, MDE_BAD_ARGUMENT, "learning curve: %d runs, %d repeats", n, repeats);
        return 0;
    }
    t.n = n;
    t.k = k;
    t.m = m;
    t.weights = weights;
    t.losses = losses;
    memory = (double *)mde_alloc(c, (size_t)n * (2 * (size_t)k + 3 * (size_t)m + 2) + (size_t)m, sizeof *memory);
    t.order = (int64_t *)mde_alloc(c, (size_t)n, sizeof *t.order);
    if (memory && t.order) {
        t.variance = memory;
        t.train_w = t.variance + m;
        t.test_w = t.train_w + n * k;
        t.train_y = t.test_w + n * k;
        t.test_y = t.train_y + n * m;
        t.mean = t.test_y + n * m;
        t.a = t.mean + n * m;
        t.b = t.a + n;
        loss_variances(&t);
    }
    for (p = 0; p < CURVE_POINTS && mde_context_status(c) == MDE_OK; p++) {
        int size = n * eighths[p] / 8;
        double spearman = 0, error = 0, squares = 0;
        if (size < fewest || n / 4 < 4) continue;
        for (r = 0; r < repeats; r++) {
            mde_random random = mde_random_start(how->seed, UINT64_C(0x63757276) + (uint64_t)r);
            double rank = 0, each = 0;
            if (!curve_progress(c, how, p * repeats + r, CURVE_POINTS * repeats)) break;
            mde_random_permutation(&random, n, t.order);
            if (!curve_subset(c, &t, desc, size, &rank, &each)) break;
            spearman += rank / repeats;
            error += each / repeats;
            squares += each * each / repeats;
        }
        if (r < repeats) continue;
        points[count].runs = size;
        points[count].spearman = spearman;
        points[count].error = error;
        squares = squares > error * error ? squares - error * error : 0;
        points[count++].error_sd = repeats > 1 ? sqrt(squares * repeats / (repeats - 1)) : (double)NAN;
    }
    if (mde_context_status(c) == MDE_OK) curve_progress(c, how, CURVE_POINTS * repeats, CURVE_POINTS * repeats);
    mde_release(c, t.order);
    mde_release(c, memory);
    return mde_context_status(c) == MDE_OK ? count : 0;
}

#endif
