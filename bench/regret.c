/* What suggested runs are worth: nats by which the recommended mixture is worse than the best one, where the truth is a
   law of known coefficients. Runs at random mixtures first, then rounds of runs, either random ones, too, or those that
   mde_suggest_runs says; the mixture is recommended as mix_optimize does, within what was tried. From the repository's
   folder:
     make build/regret && build/regret [--domains K] [--seeds N] [--noise SD] [--model NAME] [--truth law|power]
   Without options: 7 domains (5 losses, 16 runs and two rounds of 8) and 17 (13 losses, 48 and two rounds of 16), noise
   of .003, .01 and .03 nats, both truths, the stack. A line a strategy: mean regret over the seeds, each of which has a
   truth of its own, and its standard error, for caution 0, 1/2 and 1. A seed's first runs are the same for all
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

/* Losses c + b exp(t.w), or c + b (e + t.w)^-a: as different as regressions find them. */
typedef struct truth {
    int k, m, power;
    double prior[DOMAINS], upper[DOMAINS];
    double c[LOSSES], b[LOSSES], a[LOSSES], t[LOSSES][DOMAINS];
} truth;

typedef struct setting {
    int k, m, runs, round, power;
    double noise;
    const char *model;
} setting;

/* Loss j is about domain j; others help it a little, or with the exponential law hurt it, too. */
static truth draw_truth(const setting *s, uint64_t seed)
{
    mde_random random = mde_random_start(seed, 0x74727574);
    double alpha[DOMAINS] = { 0 };
    truth t;
    int i, j;
    memset(&t, 0, sizeof t);
    t.k = s->k;
    t.m = s->m;
    t.power = s->power;
    for (i = 0; i < t.k; i++) alpha[i] = 2;
    mde_random_dirichlet(&random, t.k, alpha, t.prior);
    for (i = 0; i < t.k; i++) t.upper[i] = 15 * t.prior[i] < 1 ? 15 * t.prior[i] : 1;
    for (j = 0; j < t.m; j++) {
        t.c[j] = 1.5 + mde_random_uniform(&random);
        t.b[j] = 0.6 + 0.8 * mde_random_uniform(&random);
        t.a[j] = 0.15 + 0.3 * mde_random_uniform(&random);
        for (i = 0; i < t.k; i++) {
            double z = mde_random_normal(&random);
            if (t.power) t.t[j][i] = i == j ? 1 : exp(z - 3.0);
            else t.t[j][i] = i == j ? -3.0 - fabs(z) : 0.5 * z - 0.2;
        }
    }
    return t;
}

/* The mean of the losses, and its derivatives. losses [m] may be NULL. */
static double true_loss(const truth *t, const double *w, double *losses, double *gradient)
{
    double sum = 0;
    int i, j;
    for (i = 0; gradient && i < t->k; i++) gradient[i] = 0;
    for (j = 0; j < t->m; j++) {
        double inner = 0, term, slope;
        for (i = 0; i < t->k; i++) inner += t->t[j][i] * w[i];
        term = t->b[j] * (t->power ? pow(inner + 0.005, -t->a[j]) : exp(inner));
        slope = t->power ? -t->a[j] * term / (inner + 0.005) : term;
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
    truth t = draw_truth(s, seed);
    mde_random random = mde_random_start(seed, 0x72756e73);
    static table runs;
    double optimum[DOMAINS], smallest, spread = 1;
    mde_search_desc search;
    mde_surrogate *fitted;
    int round, i;
    memset(&search, 0, sizeof search);
    search.upper = t.upper;
    search.starts = 20;
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
}

static void compare(mde_context *c, const setting *s, int seeds)
{
    static const char *const names[] = { "ei", "ucb", "space" };
    int strategy, seed, i;
    for (strategy = -1; strategy < 3; strategy++) {
        double sum[CAUTIONS] = { 0 }, squares[CAUTIONS] = { 0 }, begun = mde_seconds();
        for (seed = 1; seed <= seeds && mde_context_status(c) == MDE_OK; seed++) {
            double regret[CAUTIONS] = { 0 };
            one(c, s, strategy, (uint64_t)seed, regret);
            for (i = 0; i < CAUTIONS; i++) {
                sum[i] += regret[i];
                squares[i] += regret[i] * regret[i];
            }
        }
        printf("%2d domains  %-5s  noise %.3f  %-6s", s->k, s->power ? "power" : "law", s->noise,
               strategy < 0 ? "random" : names[strategy]);
        for (i = 0; i < CAUTIONS; i++) {
            double mean = sum[i] / seeds, variance = squares[i] / seeds - mean * mean;
            printf("  %.5f +- %.5f", mean, seeds > 1 ? sqrt((variance > 0 ? variance : 0) / (seeds - 1)) : 0);
        }
        printf("  %.1f s\n", mde_seconds() - begun);
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    static const double levels[] = { 0.003, 0.01, 0.03 };
    mde_context *c = mde_context_create(NULL);
    setting s;
    int domains = 0, seeds = 6, truths = -1, a, i, failed;
    double noise = -1;
    memset(&s, 0, sizeof s);
    s.model = "stack";
    for (a = 1; a + 1 < argc; a += 2) {
        if (strcmp(argv[a], "--domains") == 0) domains = atoi(argv[a + 1]);
        else if (strcmp(argv[a], "--seeds") == 0) seeds = atoi(argv[a + 1]);
        else if (strcmp(argv[a], "--noise") == 0) noise = atof(argv[a + 1]);
        else if (strcmp(argv[a], "--model") == 0) s.model = argv[a + 1];
        else if (strcmp(argv[a], "--truth") == 0) truths = strcmp(argv[a + 1], "power") == 0;
        else break;
    }
    if (a < argc || (domains != 0 && domains != 7 && domains != 17) || seeds < 1) {
        fprintf(stderr, "usage: regret [--domains 7|17] [--seeds N] [--noise SD] [--model NAME] [--truth law|power]\n");
        mde_context_free(c);
        return 2;
    }
    for (s.k = 7; s.k <= 17; s.k += 10) {
        s.m = s.k == 7 ? 5 : 13;
        s.runs = s.k == 7 ? 16 : 48;
        s.round = s.k == 7 ? 8 : 16;
        for (s.power = 0; s.power < 2; s.power++) {
            for (i = 0; i < 3; i++) {
                s.noise = noise >= 0 ? noise : levels[i];
                if ((domains == 0 || domains == s.k) && (truths < 0 || truths == s.power)) compare(c, &s, seeds);
                if (noise >= 0) break;
            }
        }
    }
    if (mde_context_status(c) != MDE_OK) fprintf(stderr, "regret: %s\n", mde_error(c));
    failed = mde_context_status(c) != MDE_OK;
    mde_context_free(c);
    return failed;
}
