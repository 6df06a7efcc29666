/* Finds the mixture of training domains that suits a set of validation texts best, from log-probabilities made
   elsewhere: logprobs/<validation>/<expert>.npy holds the natural logarithm of the probability that an expert gave to
   each token. With two tables of finished runs, a regression on their weights and on the experts' losses decides.
     cc -O2 examples/mix.c -o mix -lm && ./mix out/demo/logprobs [out/demo/ratios.csv out/demo/losses.csv]          */
#include <stdio.h>
#include <string.h>
#define MDEMIX_IMPLEMENTATION
#if __has_include("../mdemix.h") /* in the repository; a copy beside this file does as well */
#include "../mdemix.h"
#else
#include "mdemix.h"
#endif

#define MOST_RUNS 2000

static int find_name(mde_context *c, int count, const char **names, const char *name, const char *table)
{
    int i;
    for (i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0) return i;
    }
    mde_fail(c, MDE_BAD_FILE, "%s: has no column %s", table, name);
    return 0;
}

typedef struct objective {
    const mde_surrogate *surrogate;
    int targets;
} objective;

static double mean_loss(int n, const double *weights, double *gradient, void *user)
{
    const objective *o = (const objective *)user;
    double losses[MDE_MAX_DOMAINS], sum = 0;
    int j;
    (void)n;
    if (gradient) gradient[0] = (double)NAN; /* not known: differences will do */
    if (mde_surrogate_predict(o->surrogate, 1, weights, losses, NULL) != MDE_OK) return (double)NAN;
    for (j = 0; j < o->targets; j++) sum += losses[j];
    return sum / o->targets;
}

/* The runs' columns in the order of the experts and of their validation texts; then a Gaussian process on log weights
   and own mixture loss, searched between the least and the greatest weights of the runs. */
static double search_runs(mde_context *c, const mde_experts *e, const char *ratios, const char *losses, double *weights)
{
    static double x[MOST_RUNS * MDE_MAX_DOMAINS], y[MOST_RUNS * MDE_MAX_DOMAINS];
    double lower[MDE_MAX_DOMAINS], upper[MDE_MAX_DOMAINS];
    int k = mde_experts_count(e), m = mde_experts_validations(e), i, j;
    mde_runs *runs = mde_runs_open(c, ratios, losses);
    mde_surrogate_desc desc;
    mde_search_desc search;
    objective o;
    memset(&desc, 0, sizeof desc);
    memset(&search, 0, sizeof search);
    if (runs && (runs->count > MOST_RUNS || m > MDE_MAX_DOMAINS))
        mde_fail(c, MDE_BAD_ARGUMENT, "too many runs or texts");
    if (!runs || mde_context_status(c)) return (double)NAN;
    for (j = 0; j < k; j++) {
        int column = find_name(c, runs->domains, runs->domain_names, mde_experts_name(e, j), ratios);
        for (i = 0; i < runs->count; i++) x[i * k + j] = runs->weights[i * runs->domains + column];
    }
    for (j = 0; j < m; j++) {
        int column = find_name(c, runs->metrics, runs->metric_names, mde_experts_validation(e, j), losses);
        for (i = 0; i < runs->count; i++) y[i * m + j] = runs->losses[i * runs->metrics + column];
    }
    desc.fit.model = MDE_GP;
    desc.experts = e;
    o.surrogate = mde_surrogate_fit(c, runs->count, k, m, x, y, &desc);
    o.targets = m;
    mde_bounds_of_runs(runs->count, k, x, 0, lower, upper);
    search.lower = lower;
    search.upper = upper;
    return o.surrogate ? mde_simplex_minimize(c, k, mean_loss, &o, &search, weights) : (double)NAN;
}

int main(int argc, char **argv)
{
    mde_context *c = mde_context_create(NULL);
    mde_experts *e;
    mde_optimum best;
    double weights[MDE_MAX_DOMAINS], predicted = 0;
    int i, regression = argc == 4;
    if ((argc != 2 && argc != 4) || argv[1][0] == '-') {
        fprintf(argc == 2 ? stdout : stderr, "usage: mix LOGPROBS [RATIOS.csv LOSSES.csv]\n");
        return argc == 2 ? 0 : 2;
    }
    e = mde_experts_open(c, argv[1], 0);
    mde_mixture_minimize(e, NULL, &best);
    if (regression) predicted = search_runs(c, e, argv[2], argv[3], weights);
    if (mde_context_status(c)) {
        fprintf(stderr, "mix: %s\n", mde_error(c));
        mde_context_free(c);
        return 1;
    }
    printf("experts alone: %.4f nats a token, at most %.1e above their minimum\n", best.loss, best.gap);
    if (regression) printf("regression:    %.4f nats a token predicted\n", predicted);
    printf("\n%8s%s\n", "experts", regression ? "  runs" : "");
    for (i = 0; i < best.count; i++) {
        printf("%8.3f", best.weights[i]);
        if (regression) printf("%6.3f", weights[i]);
        printf("  %s\n", mde_experts_name(e, i));
    }
    mde_context_free(c);
    return 0;
}
