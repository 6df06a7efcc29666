/* What suggested runs are worth: nats by which the recommended mixture is worse than the best one, where the truth is a
   law of known coefficients. Runs at random mixtures first, then rounds of runs, either random ones, too, or those that
   mde_suggest_runs says; the mixture is recommended as mix_optimize does, within what was tried. From the repository's
   folder:
     make build/regret && build/regret [--domains 7|17] [--seeds N] [--first SEED] [--noise SD] [--model NAME]
                                       [--truth law|power|fitted] [--ratios FILE --losses FILE] [--reach X]
                                       [--exploration X] [--strategy random|alc|ucb|ei|space]
   7 domains have 5 losses, 16 runs and two rounds of 8; 17 have 13 losses, 48 runs and two rounds of 16. Without
   options: both, noise of .003, .01 and .03 nats (17 domains: .01), truths of drawn coefficients (law and power), six
   seeds from 1 on, gp, which is tens of times as fast as the stack. The truth `fitted` is the mixing law whose
   coefficients fit a random half of the runs in the two tables, for losses drawn from theirs; the tables have the 7 or
   17 domains. A line a strategy: mean regret over the seeds, each of which has a truth of its own, and its standard
   error, for caution 0, 1/2 and 1, and the (upper) median for 0. A seed's first runs are the same for all
   strategies. */
#define MDEMIX_IMPLEMENTATION
#include "../mdemix.h"
#include <stdio.h>
#include <stdlib.h>

#define DOMAINS 17      /* at most */
#define LOSSES 13
#define RUNS 96
#define CAUTIONS 3

static const double cautions[CAUTIONS] = { 0, 0.5, 1 };

typedef enum kind { LAW, POWER, FITTED, KINDS } kind;
static const char *const kind_names[KINDS] = { "law", "power", "fitted" };

/* Losses c + b exp(t.w), or c + b (e + t.w)^-a: as different as regressions find them; or what one has found. */
typedef struct truth {
    int k, m;
    kind kind;
    double prior[DOMAINS], upper[DOMAINS];
    double c[LOSSES], b[LOSSES], a[LOSSES], t[LOSSES][DOMAINS];
    mde_regressor *fitted;
} truth;

typedef struct setting {
    int k, m, runs, round, first, seeds, only;      /* only: one of the strategies, or -1 */
    kind kind;
    double noise, reach, exploration;
    const char *model;
    const mde_runs *known;      /* to fit to */
} setting;

/* Loss j is about domain j; others help it a little, or with the exponential law hurt it, too. */
static void draw_coefficients(truth *t, mde_random *random)
{
    double alpha[DOMAINS] = { 0 };
    int i, j;
    for (i = 0; i < t->k; i++) alpha[i] = 2;
    mde_random_dirichlet(random, t->k, alpha, t->prior);
    for (j = 0; j < t->m; j++) {
        t->c[j] = 1.5 + mde_random_uniform(random);
        t->b[j] = 0.6 + 0.8 * mde_random_uniform(random);
        t->a[j] = 0.15 + 0.3 * mde_random_uniform(random);
        for (i = 0; i < t->k; i++) {
            double z = mde_random_normal(random);
            if (t->kind == POWER) t->t[j][i] = i == j ? 1 : exp(z - 3.0);
            else t->t[j][i] = i == j ? -3.0 - fabs(z) : 0.5 * z - 0.2;
        }
    }
}

/* To half of the runs, for m of the losses; the prior is what those runs had on average. */
static void fit_coefficients(mde_context *c, const mde_runs *known, truth *t, mde_random *random)
{
    int n = known->count / 2, i, j, q;
    int64_t *order = (int64_t *)mde_alloc(c, (size_t)known->count, sizeof *order);
    int64_t *chosen = (int64_t *)mde_alloc(c, (size_t)known->metrics, sizeof *chosen);
    double *weights = (double *)mde_alloc(c, (size_t)n * (size_t)t->k, sizeof *weights);
    double *losses = (double *)mde_alloc(c, (size_t)n * (size_t)t->m, sizeof *losses);
    mde_fit_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.model = MDE_MIXING_LAW;
    if (order && chosen && weights && losses) {
        mde_random_permutation(random, known->count, order);
        mde_random_permutation(random, known->metrics, chosen);
        for (q = 0; q < n; q++) {
            for (i = 0; i < t->k; i++) {
                weights[q * t->k + i] = known->weights[order[q] * t->k + i];
                t->prior[i] += weights[q * t->k + i] / n;
            }
            for (j = 0; j < t->m; j++) losses[q * t->m + j] = known->losses[order[q] * known->metrics + chosen[j]];
        }
        t->fitted = mde_regressor_fit(c, n, t->k, t->m, weights, losses, &desc);
    }
    mde_release(c, order);
    mde_release(c, chosen);
    mde_release(c, weights);
    mde_release(c, losses);
}

static truth draw_truth(mde_context *c, const setting *s, uint64_t seed)
{
    mde_random random = mde_random_start(seed, 0x74727574);
    truth t;
    int i;
    memset(&t, 0, sizeof t);
    t.k = s->k;
    t.m = s->m;
    t.kind = s->kind;
    if (t.kind == FITTED) fit_coefficients(c, s->known, &t, &random);
    else draw_coefficients(&t, &random);
    for (i = 0; i < t.k; i++) t.upper[i] = 15 * t.prior[i] < 1 ? 15 * t.prior[i] : 1;
    return t;
}

/* The mean of the losses, and its derivatives. losses [m] may be NULL. */
static double true_loss(const truth *t, const double *w, double *losses, double *gradient)
{
    double sum = 0, found[LOSSES], slopes[LOSSES * DOMAINS];
    int i, j;
    for (i = 0; gradient && i < t->k; i++) gradient[i] = 0;
    if (t->kind == FITTED) {
        mde_regressor_gradient(t->fitted, w, found, slopes);
        for (j = 0; j < t->m; j++) {
            if (losses) losses[j] = found[j];
            for (i = 0; gradient && i < t->k; i++) gradient[i] += slopes[j * t->k + i] / t->m;
            sum += found[j] / t->m;
        }
        return sum;
    }
    for (j = 0; j < t->m; j++) {
        double inner = 0, term, slope;
        for (i = 0; i < t->k; i++) inner += t->t[j][i] * w[i];
        term = t->b[j] * (t->kind == POWER ? pow(inner + 0.005, -t->a[j]) : exp(inner));
        slope = t->kind == POWER ? -t->a[j] * term / (inner + 0.005) : term;
        if (losses) losses[j] = t->c[j] + term;
        for (i = 0; gradient && i < t->k; i++) gradient[i] += slope * t->t[j][i] / t->m;
        sum += (t->c[j] + term) / t->m;
    }
    return sum;
}

static double true_objective(int n, const double *w, double *gradient, void *user)
{
    (void)n;
    return true_loss((const truth *)user, w, NULL, gradient);
}

typedef struct table {
    int n;
    double weights[RUNS * DOMAINS], losses[RUNS * LOSSES];
} table;

/* Makes a run at w: its losses with noise. */
static void make_run(const truth *t, table *runs, double noise, const double *w, mde_random *random)
{
    double *losses = runs->losses + runs->n * t->m;
    int j;
    memcpy(runs->weights + runs->n * t->k, w, (size_t)t->k * sizeof *w);
    true_loss(t, w, losses, NULL);
    for (j = 0; j < t->m; j++) losses[j] += noise * mde_random_normal(random);
    runs->n++;
}

/* Around the prior, nearly at it or far from it, within the user's bounds: how such tables are made. */
static void random_run(mde_context *c, const truth *t, table *runs, double noise, mde_random *random)
{
    double alpha[DOMAINS] = { 0 }, w[DOMAINS], strength = exp(log(2.0) + log(20.0) * mde_random_uniform(random));
    int i;
    for (i = 0; i < t->k; i++) alpha[i] = strength * t->prior[i];
    mde_random_dirichlet(random, t->k, alpha, w);
    mde_simplex_project(c, t->k, NULL, t->upper, w);
    make_run(t, runs, noise, w, random);
}

/* The surrogate of the runs, as the program has it; *spread is that of its objective. */
static mde_surrogate *fit(mde_context *c, const truth *t, const table *runs, const char *model, double *spread)
{
    mde_surrogate_desc desc;
    mde_evaluation *e;
    mde_surrogate *s;
    memset(&desc, 0, sizeof desc);
    mde_surrogate_recipe(c, model, &desc);
    e = mde_evaluate(c, runs->n, t->k, t->m, runs->weights, runs->losses, &desc, NULL);
    s = mde_evaluation_fit(e, runs->weights, runs->losses);
    *spread = mde_evaluation_spread(e, runs->losses, NULL);
    mde_evaluation_free(e);
    return s;
}

/* The mixture that a caution recommends, inside what was tried. */
static void recommend(const mde_surrogate *s, const truth *t, const table *runs, double spread, double caution,
                      mde_choice *out)
{
    double lower[DOMAINS], upper[DOMAINS];
    mde_choose_desc desc;
    int i;
    memset(&desc, 0, sizeof desc);
    mde_bounds_of_runs(runs->n, t->k, runs->weights, 0, lower, upper);
    for (i = 0; i < t->k; i++) if (t->upper[i] < upper[i]) upper[i] = t->upper[i];
    desc.lower = lower;
    desc.upper = upper;
    desc.caution = caution;
    desc.spread = spread;
    desc.tried = runs->weights;
    desc.runs = runs->n;
    mde_surrogate_minimize(s, &desc, out);
}

/* One round of suggested runs. */
static void suggested_runs(mde_context *c, const truth *t, table *runs, const setting *s, int acquisition,
                           mde_random *random)
{
    double spread, next[RUNS * DOMAINS];
    mde_surrogate *fitted = fit(c, t, runs, s->model, &spread);
    mde_suggest_desc desc;
    mde_choice best;
    int i, j;
    memset(&desc, 0, sizeof desc);
    memset(&best, 0, sizeof best);
    if (fitted) recommend(fitted, t, runs, spread, 0, &best);
    desc.acquisition = (mde_acquisition)acquisition;
    desc.upper = t->upper;
    desc.reach = s->reach;
    desc.exploration = s->exploration;
    desc.centre = best.weights;
    desc.spread = spread;
    desc.seed = mde_random_below(random, 1000000);
    desc.best = INFINITY;
    for (i = 0; i < runs->n; i++) {
        double mean = 0;
        for (j = 0; j < t->m; j++) mean += runs->losses[i * t->m + j] / t->m;
        if (mean < desc.best) desc.best = mean;
    }
    if (fitted && mde_suggest_runs(c, fitted, runs->n, t->k, runs->weights, &desc, s->round, next) == MDE_OK) {
        for (i = 0; i < s->round; i++) make_run(t, runs, s->noise, next + i * t->k, random);
    }
    mde_surrogate_free(fitted);
}

/* Regret [CAUTIONS] of one seed. acquisition < 0: random runs. */
static void one(mde_context *c, const setting *s, int acquisition, uint64_t seed, double *regret)
{
    truth t = draw_truth(c, s, seed);
    mde_random random = mde_random_start(seed, 0x72756e73);
    static table runs;
    double optimum[DOMAINS], smallest, spread = 1;
    mde_search_desc search;
    mde_surrogate *fitted;
    int round, i;
    memset(&search, 0, sizeof search);
    search.upper = t.upper;
    search.starts = 20;
    if (mde_context_status(c) != MDE_OK) return;
    smallest = mde_simplex_minimize(c, t.k, true_objective, &t, &search, optimum);
    runs.n = 0;
    for (i = 0; i < s->runs; i++) random_run(c, &t, &runs, s->noise, &random);
    random = mde_random_start(seed, 0x6e657874);
    for (round = 0; round < 2; round++) {
        for (i = 0; acquisition < 0 && i < s->round; i++) random_run(c, &t, &runs, s->noise, &random);
        if (acquisition >= 0) suggested_runs(c, &t, &runs, s, acquisition, &random);
    }
    fitted = fit(c, &t, &runs, s->model, &spread);
    for (i = 0; i < CAUTIONS && fitted; i++) {
        mde_choice best;
        recommend(fitted, &t, &runs, spread, cautions[i], &best);
        regret[i] = true_loss(&t, best.weights, NULL, NULL) - smallest;
    }
    mde_surrogate_free(fitted);
    mde_regressor_free(t.fitted);
}

#define STRATEGIES 5
static const char *const strategies[STRATEGIES] = { "random", "alc", "ucb", "ei", "space" };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void compare(mde_context *c, const setting *s)
{
    int strategy, seed, i;
    double *calm = (double *)mde_alloc(c, (size_t)s->seeds, sizeof *calm);      /* of caution 0 */
    for (strategy = -1; strategy < STRATEGIES - 1; strategy++) {
        double sum[CAUTIONS] = { 0 }, squares[CAUTIONS] = { 0 }, begun = mde_seconds();
        if (s->only >= 0 && s->only != strategy + 1) continue;
        for (seed = 0; seed < s->seeds && mde_context_status(c) == MDE_OK; seed++) {
            double regret[CAUTIONS] = { 0 };
            one(c, s, strategy, (uint64_t)(s->first + seed), regret);
            calm[seed] = regret[0];
            for (i = 0; i < CAUTIONS; i++) {
                sum[i] += regret[i];
                squares[i] += regret[i] * regret[i];
            }
        }
        printf("%2d domains  %-6s  noise %.3f  %-6s", s->k, kind_names[s->kind], s->noise,
               strategies[strategy + 1]);
        for (i = 0; i < CAUTIONS; i++) {
            double mean = sum[i] / s->seeds, variance = squares[i] / s->seeds - mean * mean;
            printf("  %.5f +- %.5f", mean, s->seeds > 1 ? sqrt((variance > 0 ? variance : 0) / (s->seeds - 1)) : 0);
        }
        if (calm) qsort(calm, (size_t)s->seeds, sizeof *calm, by_value);
        if (calm) printf("  median %.5f  %.1f s\n", calm[s->seeds / 2], mde_seconds() - begun);
        fflush(stdout);
    }
    mde_release(c, calm);
}

/* Its index, or count. */
static int find_name(const char *const *names, int count, const char *name)
{
    int i;
    for (i = 0; i < count && strcmp(names[i], name) != 0; i++) {}
    return i;
}

int main(int argc, char **argv)
{
    static const double levels[] = { 0.003, 0.01, 0.03 };
    mde_context *c = mde_context_create(NULL);
    mde_runs *known = NULL;
    const char *ratios = NULL, *losses = NULL;
    setting s;
    int domains = 0, only = -1, shape, a, i, failed;
    double noise = -1;
    memset(&s, 0, sizeof s);
    s.model = "gp";
    s.seeds = 6;
    s.first = 1;
    s.only = -1;
    for (a = 1; a + 1 < argc; a += 2) {
        if (strcmp(argv[a], "--domains") == 0) domains = atoi(argv[a + 1]);
        else if (strcmp(argv[a], "--seeds") == 0) s.seeds = atoi(argv[a + 1]);
        else if (strcmp(argv[a], "--first") == 0) s.first = atoi(argv[a + 1]);
        else if (strcmp(argv[a], "--noise") == 0) noise = atof(argv[a + 1]);
        else if (strcmp(argv[a], "--model") == 0) s.model = argv[a + 1];
        else if (strcmp(argv[a], "--reach") == 0) s.reach = atof(argv[a + 1]);
        else if (strcmp(argv[a], "--exploration") == 0) s.exploration = atof(argv[a + 1]);
        else if (strcmp(argv[a], "--ratios") == 0) ratios = argv[a + 1];
        else if (strcmp(argv[a], "--losses") == 0) losses = argv[a + 1];
        else if (strcmp(argv[a], "--strategy") == 0) s.only = find_name(strategies, STRATEGIES, argv[a + 1]);
        else if (strcmp(argv[a], "--truth") == 0) only = find_name(kind_names, KINDS, argv[a + 1]);
        else break;
    }
    if (a < argc || (domains != 0 && domains != 7 && domains != 17) || s.seeds < 1 || only == KINDS ||
        s.only == STRATEGIES || (only == FITTED) != (ratios && losses)) {
        fprintf(stderr, "usage: regret [--domains 7|17] [--seeds N] [--first SEED] [--noise SD] [--model NAME] "
                        "[--truth law|power|fitted] [--ratios FILE --losses FILE] [--reach X] "
                        "[--exploration X] [--strategy random|alc|ucb|ei|space]\n");
        mde_context_free(c);
        return 2;
    }
    if (only == FITTED) s.known = known = mde_runs_open(c, ratios, losses);
    if (known) domains = known->domains;
    if (known && domains != 7 && domains != 17) {
        mde_fail(c, MDE_BAD_FILE, "%s: has %d domains; expected 7 or 17", ratios, domains);
    }
    for (s.k = 7; s.k <= DOMAINS && mde_context_status(c) == MDE_OK; s.k += 10) {
        s.m = s.k == 7 ? 5 : LOSSES;
        if (known && known->metrics < s.m) s.m = known->metrics;
        s.runs = s.k == 7 ? 16 : 48;
        s.round = s.k == 7 ? 8 : 16;
        for (shape = 0; shape < KINDS; shape++) {
            s.kind = (kind)shape;
            for (i = 0; i < 3; i++) {
                s.noise = noise >= 0 ? noise : levels[i];
                if (noise < 0 && s.k == 17 && i != 1) continue;
                if ((domains == 0 || domains == s.k) && (only < 0 ? shape != FITTED : shape == only)) compare(c, &s);
                if (noise >= 0) break;
            }
        }
    }
    if (mde_context_status(c) != MDE_OK) fprintf(stderr, "regret: %s\n", mde_error(c));
    failed = mde_context_status(c) != MDE_OK;
    mde_runs_free(known);
    mde_context_free(c);
    return failed;
}
