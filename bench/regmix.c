/* How well regressions predict RegMix's public runs (512 to fit to, 256 to test on; 17 domains, 13 losses), by the number
   of runs: mean Spearman correlation and MSE over the losses, and how many test losses lie in their 90 % intervals, means
   over random subsets. From the repository's folder:
     make build/regmix && build/regmix FOLDER [MODEL [SUBSETS [LARGEST]]]
   FOLDER holds the four tables {train,test}_{mixture,pile_loss}_1m.csv. MODEL is a name of mde_surrogate_recipe, stack
   by default; SUBSETS at each number of runs is 10, LARGEST number of runs is 512. With auto, intervals are calibrated on held-out
   runs. */
#define MDEMIX_IMPLEMENTATION
#include "../mdemix.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct score {
    double spearman, mse, inside;
} score;

static mde_runs *open_runs(mde_context *c, const char *folder, const char *part)
{
    char ratios[1024], losses[1024];
    snprintf(ratios, sizeof ratios, "%s/%s_mixture_1m.csv", folder, part);
    snprintf(losses, sizeof losses, "%s/%s_pile_loss_1m.csv", folder, part);
    return mde_runs_open(c, ratios, losses);
}

/* Fits to `count` runs, drawn by number `subset`, and scores the test runs. */
static score one(mde_context *c, const mde_runs *train, const mde_runs *test, const char *model, int count, int subset)
{
    int k = train->domains, m = train->metrics, n = test->count, i, j;
    double *weights = (double *)mde_alloc(c, (size_t)(count * k), sizeof(double));
    double *losses = (double *)mde_alloc(c, (size_t)(count * m), sizeof(double));
    double *mean = (double *)mde_alloc(c, (size_t)(2 * n * m), sizeof(double)), *sd = mean + n * m;
    double *a = (double *)mde_alloc(c, (size_t)(2 * n), sizeof(double)), *b = a + n;
    int64_t *order = (int64_t *)mde_alloc(c, (size_t)train->count, sizeof *order);
    mde_random random = mde_random_start(1000 + (uint64_t)subset, (uint64_t)count);
    mde_surrogate_desc desc;
    mde_surrogate *s = NULL;
    score out = { 0, 0, 0 };
    memset(&desc, 0, sizeof desc);
    if (mde_surrogate_recipe(c, model, &desc) == MDE_OK) {
        mde_random_permutation(&random, train->count, order);
        for (i = 0; i < count; i++) {
            memcpy(weights + i * k, train->weights + order[i] * k, (size_t)k * sizeof(double));
            memcpy(losses + i * m, train->losses + order[i] * m, (size_t)m * sizeof(double));
        }
        s = mde_surrogate_fit(c, count, k, m, weights, losses, &desc);
    }
    if (s && mde_surrogate_predict(s, n, test->weights, mean, sd) == MDE_OK) {
        for (j = 0; j < m; j++) {
            for (i = 0; i < n; i++) {
                a[i] = mean[i * m + j];
                b[i] = test->losses[i * m + j];
                out.inside += fabs(a[i] - b[i]) < 1.645 * sd[i * m + j];
            }
            out.spearman += mde_spearman(c, n, a, b) / m;
            out.mse += mde_mse(n, a, b) / m;
        }
        out.inside /= n * m;
    }
    mde_surrogate_free(s);
    mde_release(c, order);
    mde_release(c, a);
    mde_release(c, mean);
    mde_release(c, losses);
    mde_release(c, weights);
    return out;
}

int main(int argc, char **argv)
{
    mde_context *c = mde_context_create(NULL);
    mde_runs *train = argc > 1 ? open_runs(c, argv[1], "train") : NULL;
    mde_runs *test = train ? open_runs(c, argv[1], "test") : NULL;
    const char *model = argc > 2 ? argv[2] : "stack";
    int subsets = argc > 3 ? atoi(argv[3]) : 10, largest = argc > 4 ? atoi(argv[4]) : 512, count, subset;
    if (argc < 2 || subsets < 1) {
        fprintf(stderr, "usage: regmix FOLDER [MODEL [SUBSETS [LARGEST]]]\n");
        mde_context_free(c);
        return 2;
    }
    for (count = 32; test && count <= 512 && count <= largest && count <= train->count; count *= 2) {
        int times = count == train->count ? 1 : subsets;
        double spearman = 0, squares = 0, mse = 0, inside = 0, begun = mde_seconds();
        for (subset = 0; subset < times && mde_context_status(c) == MDE_OK; subset++) {
            score s = one(c, train, test, model, count, subset);
            spearman += s.spearman / times;
            squares += s.spearman * s.spearman / times;
            mse += s.mse / times;
            inside += s.inside / times;
        }
        squares -= spearman * spearman;
        printf("%-9s %4d runs  Spearman %.2f +- %.2f %%  MSE %.5f  inside %.1f %%  %.1f s\n", model, count,
               100 * spearman, 100 * sqrt(squares > 0 ? squares : 0), mse, 100 * inside, mde_seconds() - begun);
        fflush(stdout);
    }
    if (mde_context_status(c) != MDE_OK) fprintf(stderr, "regmix: %s\n", mde_error(c));
    count = mde_context_status(c) != MDE_OK;
    mde_context_free(c);
    return count;
}
