/* What the rows of the study say so far, from its tables alone: OUT/STUDY-MDE.md and two pictures beside the tables.
     make study-tables
   Same rows give the same bytes. A question whose rows are not there yet is left open and says how many there are. */
#define MDEDEF static /* what this program does not call is not compiled */
#define MDEMIX_IMPLEMENTATION
#include "../mdemix.h"
#include "../examples/program.h"
#include "../examples/plot.h"
#include "study_mde.h"

#define COUNTS 5
static const int model_counts[COUNTS] = { 8, 16, 24, 32, 48 }; /* trained models in all, the experts among them */
#define HEADLINE 3                                             /* index of 32: the paper's 25 proxies and 7 experts */
#define SUBSETS 10                                             /* of the proxies, at each count */
#define FEW_SUBSETS 3                                          /* for what takes long */
#define MIN_FIT 4                                              /* proxies for a regression */

/* ---- Predictors ---- */

enum { WEIGHTS_ALONE = -1 };

typedef struct predictor {
    const char *name;
    const char *recipe; /* of a surrogate on the weights alone; NULL: the following */
    mde_model model;
    int features;    /* 0: no fit, the experts' feature as it is; without feature: the mean of the runs */
    int kind;        /* which of the experts' features; WEIGHTS_ALONE: no experts */
    int experts_too; /* 1: fitted to the experts as runs of one domain as well */
    int subsets;
    const char *paper; /* 1e-4 MSE and Spearman of domains, of both */
} predictor;

#define LOG MDE_FEATURE_LOG
#define OWN MDE_FEATURE_OWN
#define RAW MDE_FEATURE_RAW
static const predictor predictors[] = {
    { "mean of the runs", NULL, MDE_RIDGE, 0, WEIGHTS_ALONE, 0, SUBSETS, "115, -; 125, -" },
    { "weights, ridge", NULL, MDE_RIDGE, RAW, WEIGHTS_ALONE, 0, SUBSETS, "164, 0.234; 66, 0.646" },
    { "square roots, ridge", NULL, MDE_RIDGE, MDE_FEATURE_SQRT, WEIGHTS_ALONE, 0, SUBSETS, "" },
    { "log weights, ridge", NULL, MDE_RIDGE, LOG, WEIGHTS_ALONE, 0, SUBSETS, "" },
    { "weights, trees", NULL, MDE_TREES, RAW, WEIGHTS_ALONE, 0, SUBSETS, "24, 0.923; 43, 0.814" },
    { "mixing law", NULL, MDE_MIXING_LAW, RAW, WEIGHTS_ALONE, 0, SUBSETS, "30, 0.920; 12, 0.892" },
    { "pooled law", NULL, MDE_POOLED_LAW, RAW, WEIGHTS_ALONE, 0, FEW_SUBSETS, "" },
    { "log weights, GP", NULL, MDE_GP, LOG, WEIGHTS_ALONE, 0, SUBSETS, "" },
    { "log weights, multi-task GP", NULL, MDE_MULTITASK_GP, LOG, WEIGHTS_ALONE, 0, SUBSETS, "" },
    { "stack", "stack", MDE_STACK, 0, WEIGHTS_ALONE, 0, FEW_SUBSETS, "" },
    { "MDE, no fit", NULL, MDE_RIDGE, 0, PLAIN, 0, 1, "281, 0.912; 39, 0.886" },
    { "gated MDE, no fit", NULL, MDE_RIDGE, 0, GATED, 0, 1, "" },
    { "matched MDE, no fit", NULL, MDE_RIDGE, 0, MATCHED, 0, 1, "" },
    { "matched and gated MDE, no fit", NULL, MDE_RIDGE, 0, MATCHED_GATED, 0, 1, "" },
    { "own MDE, ridge", NULL, MDE_RIDGE, OWN, PLAIN, 0, SUBSETS, "" },
    { "weights + all MDE, ridge", NULL, MDE_RIDGE, RAW | MDE_FEATURE_MDE, PLAIN, 0, SUBSETS, "5.0, 0.976; 4.8, 0.953" },
    { "weights + own MDE, ridge", NULL, MDE_RIDGE, RAW | OWN, PLAIN, 0, SUBSETS, "" },
    { "log weights + own MDE, ridge", NULL, MDE_RIDGE, LOG | OWN, PLAIN, 0, SUBSETS, "" },
    { "the same, experts as runs, too", NULL, MDE_RIDGE, LOG | OWN, PLAIN, 1, SUBSETS, "" },
    { "log weights + own gated MDE, ridge", NULL, MDE_RIDGE, LOG | OWN, GATED, 0, SUBSETS, "" },
    { "log weights + own matched MDE, ridge", NULL, MDE_RIDGE, LOG | OWN, MATCHED, 0, SUBSETS, "" },
    { "log weights + own matched and gated MDE, ridge", NULL, MDE_RIDGE, LOG | OWN, MATCHED_GATED, 0, SUBSETS, "" },
    { "weights + all MDE, trees", NULL, MDE_TREES, RAW | MDE_FEATURE_MDE, PLAIN, 0, SUBSETS, "14, 0.950; 8.9, 0.955" },
    { "log weights + own MDE, GP", NULL, MDE_GP, LOG | OWN, PLAIN, 0, SUBSETS, "" },
    { "log weights + own matched and gated MDE, GP", NULL, MDE_GP, LOG | OWN, MATCHED_GATED, 0, SUBSETS, "" },
    { "weights + all MDE, multi-task GP", NULL, MDE_MULTITASK_GP, RAW | MDE_FEATURE_MDE, PLAIN, 0, SUBSETS,
      "5.3, 0.984; 12, 0.935" },
};
#define PREDICTORS ((int)(sizeof predictors / sizeof *predictors))

/* Rows of the tables that the questions are about. */
typedef struct rows {
    int count;
    const study_run *run[512];
} rows;

static void collect(const study_rows *s, const char *kind, int kinds_of_features, rows *out)
{
    int i, k, ready;
    out->count = 0;
    for (i = 0; i < s->count && out->count < 512; i++) {
        const study_run *r = &s->runs[i];
        ready = is_kind(r, kind) && r->finished && strcmp(r->size, "S") == 0 && r->share == 1;
        for (k = 0; k < kinds_of_features; k++) ready &= r->predicted[k];
        if (ready) out->run[out->count++] = r;
    }
}

static int planned(const study_rows *s, const char *kind)
{
    int i, n = 0;
    for (i = 0; i < s->count; i++)
        n += is_kind(&s->runs[i], kind) && strcmp(s->runs[i].size, "S") == 0 && s->runs[i].share == 1;
    return n;
}

/* Weights, losses and one kind of features of rows, as matrices. */
typedef struct matrices {
    int n;
    double *weights, *losses, *features;
} matrices;

static matrices make_matrices(mde_context *c, int n, const study_run *const *run, int kind)
{
    matrices m;
    int i, j;
    m.n = n;
    m.weights = program_doubles(c, n, DOMAINS);
    m.losses = program_doubles(c, n, TARGETS);
    m.features = program_doubles(c, n, TARGETS);
    for (i = 0; i < n && m.features; i++) {
        double sum = 0;
        for (j = 0; j < DOMAINS; j++) sum += run[i]->weights[j];
        for (j = 0; j < DOMAINS; j++) m.weights[i * DOMAINS + j] = run[i]->weights[j] / sum;
        for (j = 0; j < TARGETS; j++) m.losses[i * TARGETS + j] = run[i]->values[j];
        for (j = 0; j < TARGETS && kind >= 0; j++) m.features[i * TARGETS + j] = run[i]->features[kind][j];
    }
    return m;
}

static void free_matrices(mde_context *c, matrices *m)
{
    mde_release(c, m->weights);
    mde_release(c, m->losses);
    mde_release(c, m->features);
}

/* One regression of target `first` (or, jointly, all) on features, used on the test rows. */
static void regress(mde_context *c, const predictor *p, const matrices *fit, const matrices *test, int target,
                    double *predicted)
{
    int d = mde_feature_count(p->features, DOMAINS, TARGETS), m = p->model == MDE_MULTITASK_GP ? TARGETS : 1;
    double *x = program_doubles(c, fit->n, d), *y = program_doubles(c, fit->n, m), *z = program_doubles(c, test->n, d);
    double *out = program_doubles(c, test->n, m);
    mde_fit_desc desc;
    mde_regressor *r = NULL;
    int i, j;
    memset(&desc, 0, sizeof desc);
    desc.model = p->model;
    for (i = 0; i < fit->n && out; i++) {
        for (j = 0; j < m; j++) y[i * m + j] = fit->losses[i * TARGETS + target + j];
    }
    mde_features(c, p->features, fit->n, DOMAINS, fit->weights, TARGETS, fit->features, target, x);
    mde_features(c, p->features, test->n, DOMAINS, test->weights, TARGETS, test->features, target, z);
    if (!program_failed(c)) r = mde_regressor_fit(c, fit->n, d, m, x, y, &desc);
    if (r) mde_regressor_predict(r, test->n, z, out, NULL);
    for (i = 0; i < test->n && r; i++) {
        for (j = 0; j < m; j++) predicted[i * TARGETS + target + j] = out[i * m + j];
    }
    mde_regressor_free(r);
    mde_release(c, x);
    mde_release(c, y);
    mde_release(c, z);
    mde_release(c, out);
}

/* Losses [test, TARGETS] that a predictor fitted to some rows gives. */
static void predict(mde_context *c, const predictor *p, const matrices *fit, const matrices *test, double *predicted)
{
    int i, j;
    if (p->recipe) {
        mde_surrogate_desc desc;
        mde_surrogate *s = NULL;
        memset(&desc, 0, sizeof desc);
        if (mde_surrogate_recipe(c, p->recipe, &desc) == MDE_OK) {
            s = mde_surrogate_fit(c, fit->n, DOMAINS, TARGETS, fit->weights, fit->losses, &desc);
        }
        if (s) mde_surrogate_predict(s, test->n, test->weights, predicted, NULL);
        mde_surrogate_free(s);
    } else if (p->features) {
        for (j = 0; j < TARGETS && !program_failed(c); j += p->model == MDE_MULTITASK_GP ? TARGETS : 1) {
            regress(c, p, fit, test, j, predicted);
        }
    } else {
        for (j = 0; j < TARGETS; j++) {
            double mean = 0;
            for (i = 0; i < fit->n; i++) mean += fit->losses[i * TARGETS + j] / fit->n;
            for (i = 0; i < test->n; i++) {
                predicted[i * TARGETS + j] = p->kind >= 0 ? test->features[i * TARGETS + j] : mean;
            }
        }
    }
}

/* ---- Scores ---- */

enum { WITHIN, OUTSIDE, LAWS };
#define SCORES (2 * OBJECTIVES + 2) /* MSE and Spearman of each objective; their means over the targets */

typedef struct score {
    int subsets; /* 0: nothing there */
    double mean[LAWS][SCORES], sd[LAWS][SCORES];
} score;

static void score_one(mde_context *c, const matrices *test, const double *predicted, double out[SCORES])
{
    double *a = program_doubles(c, 2, test->n), *b = a ? a + test->n : NULL;
    int o, i, j;
    for (o = 0; o < OBJECTIVES && a; o++) {
        for (i = 0; i < test->n; i++) {
            a[i] = objective_value(o, predicted + i * TARGETS);
            b[i] = objective_value(o, test->losses + i * TARGETS);
        }
        out[2 * o] = mde_mse(test->n, a, b);
        out[2 * o + 1] = mde_spearman(c, test->n, a, b);
    }
    out[2 * OBJECTIVES] = out[2 * OBJECTIVES + 1] = 0;
    for (j = 0; j < TARGETS && a; j++) {
        for (i = 0; i < test->n; i++) {
            a[i] = predicted[i * TARGETS + j];
            b[i] = test->losses[i * TARGETS + j];
        }
        out[2 * OBJECTIVES] += mde_mse(test->n, a, b) / TARGETS;
        out[2 * OBJECTIVES + 1] += mde_spearman(c, test->n, a, b) / TARGETS;
    }
    mde_release(c, a);
}

typedef struct data {
    rows experts, fit, test[LAWS];
} data;

/* A predictor at a number of proxies to fit to, over random subsets of them; none where it cannot be fitted. */
static score evaluate(const predictor *p, int fitted, const data *all)
{
    score out;
    int subset, law, k, i, subsets = fitted == all->fit.count ? 1 : p->subsets;
    memset(&out, 0, sizeof out);
    if (fitted > all->fit.count || (p->features && fitted < MIN_FIT) || fitted < 0) return out;
    for (subset = 0; subset < subsets; subset++) {
        mde_context_desc one;
        mde_context *c;
        const study_run *chosen[512 + DOMAINS];
        int64_t order[512];
        mde_random random = mde_random_start(31, (uint64_t)(1000 * fitted + subset));
        matrices fit;
        int n = 0, failed;
        memset(&one, 0, sizeof one);
        one.threads = 1;
        c = mde_context_create(&one);
        if (all->fit.count > 0) mde_random_permutation(&random, all->fit.count, order);
        for (i = 0; i < fitted; i++) chosen[n++] = all->fit.run[order[i]];
        for (i = 0; i < all->experts.count && p->experts_too; i++) chosen[n++] = all->experts.run[i];
        fit = make_matrices(c, n, chosen, p->kind);
        for (law = 0; law < LAWS && !program_failed(c); law++) {
            matrices test = make_matrices(c, all->test[law].count, all->test[law].run, p->kind);
            double *predicted = program_doubles(c, test.n, TARGETS), scores[SCORES];
            predict(c, p, &fit, &test, predicted);
            if (!program_failed(c)) score_one(c, &test, predicted, scores);
            for (k = 0; k < SCORES && !program_failed(c); k++) {
                out.mean[law][k] += scores[k] / subsets;
                out.sd[law][k] += scores[k] * scores[k] / subsets;
            }
            mde_release(c, predicted);
            free_matrices(c, &test);
        }
        free_matrices(c, &fit);
        failed = program_failed(c);
        mde_context_free(c);
        if (failed) return out; /* subsets is still 0 */
    }
    for (law = 0; law < LAWS; law++) {
        for (k = 0; k < SCORES; k++) {
            double variance = out.sd[law][k] - out.mean[law][k] * out.mean[law][k];
            out.sd[law][k] = variance > 0 ? sqrt(variance) : 0;
        }
    }
    out.subsets = subsets;
    return out;
}

/* Proxies that are left of so many trained models. */
static int proxies_of(const predictor *p, int models)
{
    return models - (p->kind == WEIGHTS_ALONE ? 0 : DOMAINS);
}

/* ---- The page ---- */

static void add_value(mde_text *t, double value, int decimals)
{
    if (value == value) mde_text_add_fixed(t, value, decimals);
    else mde_text_add(t, "-");
}

static void add_signed(mde_text *t, double value, int decimals)
{
    if (value >= 0) mde_text_add(t, "+");
    add_value(t, value, decimals);
}

static void add_spread(mde_text *t, double value, double sd, int decimals)
{
    add_value(t, value, decimals);
    if (!(sd > 0)) return;
    mde_text_add(t, " +- ");
    add_value(t, sd, decimals);
}

/* A question that has too few rows says so; returns whether it has. */
static int is_open(mde_text *t, const char *what, int there, int wanted, int all)
{
    if (there >= wanted) return 0;
    mde_text_format(t, "Open: %d of %d %s are there; this table begins with %d.\n\n", there, all, what, wanted);
    return 1;
}

#define EXPERTS 7 /* kinds of them, all but the first cheaper or merged */

typedef struct page {
    mde_context *context;
    const study_rows *study;
    mde_text *text;
    data all;
    score scores[PREDICTORS][COUNTS];
    double noise[OBJECTIVES]; /* standard deviation of one run's objective; NaN without repeats */
    int pairs;
    score cheaper[EXPERTS]; /* of the ridge with each kind of experts; without subsets where there are none */
} page;

static int find_predictor(const char *name)
{
    int i;
    for (i = 0; i < PREDICTORS; i++) {
        if (strcmp(predictors[i].name, name) == 0) return i;
    }
    return -1;
}

/* From runs that repeat another's mixture with another seed. */
static void measure_noise(page *g)
{
    const study_rows *s = g->study;
    int i, o;
    double sum[OBJECTIVES] = { 0 };
    for (i = 0; i < s->count; i++) {
        char name[64];
        const study_run *r = &s->runs[i], *first;
        if (!is_kind(r, "repeat") || !r->finished) continue;
        snprintf(name, sizeof name, "fit%s", strchr(r->name, '-'));
        first = find_run(s, name);
        if (!first || !first->finished) continue;
        for (o = 0; o < OBJECTIVES; o++) {
            double d = objective_value(o, r->values) - objective_value(o, first->values);
            sum[o] += d * d / 2;
        }
        g->pairs++;
    }
    for (o = 0; o < OBJECTIVES; o++) g->noise[o] = g->pairs > 0 ? sqrt(sum[o] / g->pairs) : (double)NAN;
}

static double spread_of(const rows *r, int objective)
{
    double sum = 0, squares = 0;
    int i;
    for (i = 0; i < r->count; i++) {
        double v = objective_value(objective, r->run[i]->values);
        sum += v / r->count;
        squares += v * v / r->count;
    }
    return r->count > 1 ? sqrt((squares - sum * sum) * r->count / (r->count - 1)) : (double)NAN;
}

static void page_rows(page *g)
{
    static const char *const kinds[] = { "expert",  "start",   "branch", "baseline", "fit",
                                         "within",  "outside", "repeat", "optimum",  "mde-weights",
                                         "weights", "regmix",  "law",    "law-kl",   "transfer" };
    static const char *const what[] = { "one domain each, and the same with fewer tokens or half the width",
                                        "uniform mixture, a quarter of the tokens",
                                        "experts that go on from the start, three quarters of the tokens",
                                        "uniform and proportional mixtures",
                                        "random mixtures to fit to",
                                        "random mixtures of the same law, to judge by",
                                        "mixtures of two or three domains, to judge by",
                                        "mixtures to fit to again, with another seed",
                                        "minimum of the experts' loss",
                                        "chosen by GP on log weights and own MDE",
                                        "chosen by GP on log weights",
                                        "chosen by RegMix's procedure",
                                        "chosen by the mixing law",
                                        "the same with KL",
                                        "at the larger sizes" };
    const study_rows *s = g->study;
    double seconds = 0;
    int i, k, done = 0;
    for (i = 0; i < s->count; i++) {
        done += s->runs[i].finished;
        if (s->runs[i].finished) seconds += s->runs[i].seconds;
    }
    mde_text_format(g->text,
                    "## Rows\n\n%d of %d planned runs are there (choices are planned when what they depend on "
                    "is); they took %.1f hours, beside other work, of one core. A row a run in `study/runs.csv`.\n\n"
                    "| kind | there | planned | what |\n| --- | --- | --- | --- |\n",
                    done, s->count, seconds / 3600);
    for (k = 0; k < (int)(sizeof kinds / sizeof *kinds); k++) {
        int there = 0, all = 0;
        for (i = 0; i < s->count; i++) {
            if (!is_kind(&s->runs[i], kinds[k])) continue;
            all++;
            there += s->runs[i].finished;
        }
        mde_text_format(g->text, "| %s | %d | %d | %s |\n", kinds[k], there, all, what[k]);
    }
    mde_text_add(g->text, "\n");
}

static void page_noise(page *g)
{
    int o;
    mde_text_add(g->text, "## Noise floor\n\n");
    if (is_open(g->text, "repeated runs", g->pairs, 1, planned(g->study, "repeat"))) return;
    mde_text_format(g->text,
                    "From %d mixtures trained twice, with another start and other windows.\n\n"
                    "| objective | sd of one run | sd between mixtures | Spearman at most |\n"
                    "| --- | --- | --- | --- |\n",
                    g->pairs);
    for (o = 0; o < OBJECTIVES; o++) {
        double sd = spread_of(&g->all.test[WITHIN], o), left = 1 - g->noise[o] * g->noise[o] / (sd * sd);
        mde_text_format(g->text, "| %s | ", objective_names[o]);
        add_value(g->text, g->noise[o], 4);
        mde_text_add(g->text, " | ");
        add_value(g->text, sd, 4);
        mde_text_add(g->text, " | ");
        add_value(g->text, left > 0 ? sqrt(left) : left == left ? 0 : left, 3);
        mde_text_add(g->text, " |\n");
    }
    mde_text_add(g->text, "\n");
}

/* Whether the rows that question 1 needs are there. */
static int can_judge(page *g, int say)
{
    const study_rows *s = g->study;
    int full = 0, i;
    for (i = 0; i < g->all.experts.count; i++) full += g->all.experts.run[i]->predicted[PLAIN];
    if (say) {
        return !is_open(g->text, "experts", full, DOMAINS, DOMAINS) &&
               !is_open(g->text, "mixtures to fit to", g->all.fit.count, 8, planned(s, "fit")) &&
               !is_open(g->text, "mixtures to judge by", g->all.test[WITHIN].count, 4, planned(s, "within")) &&
               !is_open(g->text, "mixtures of another law", g->all.test[OUTSIDE].count, 4, planned(s, "outside"));
    }
    return full >= DOMAINS && g->all.fit.count >= 8 && g->all.test[WITHIN].count >= 4 &&
           g->all.test[OUTSIDE].count >= 4;
}

static void evaluate_all(page *g)
{
    int unit;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1)
#endif
    for (unit = 0; unit < PREDICTORS * COUNTS; unit++) {
        const predictor *p = &predictors[unit / COUNTS];
        g->scores[unit / COUNTS][unit % COUNTS] = evaluate(p, proxies_of(p, model_counts[unit % COUNTS]), &g->all);
    }
}

/* The largest number of trained models for which both kinds of predictors have rows. */
static int headline(const page *g)
{
    int at = HEADLINE;
    while (at > 0 && model_counts[at] > g->all.fit.count) at--;
    return at;
}

static void page_predictors(page *g)
{
    int at = headline(g), i, o, k;
    mde_text_format(
        g->text,
        "At %d trained models in all: %d proxies, or %d and the %d experts; means over random subsets "
        "of the proxies. MSE in units of 1e-4 nats^2 and Spearman, of %d mixtures of the proxies' law; the "
        "last two columns of %d mixtures of two or three domains. The paper (280 M parameters, 25 proxies): "
        "MSE and Spearman of its domains; of domains and tasks, in the same units.\n\n"
        "| predictor | domains: MSE | rho | tasks: MSE | rho | both: MSE | rho | each text: MSE | rho | "
        "outside, both: MSE | rho | paper |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        model_counts[at], model_counts[at], model_counts[at] - DOMAINS, DOMAINS, g->all.test[WITHIN].count,
        g->all.test[OUTSIDE].count);
    for (i = 0; i < PREDICTORS; i++) {
        const score *x = &g->scores[i][at];
        if (x->subsets == 0) continue;
        mde_text_format(g->text, "| %s |", predictors[i].name);
        for (o = 0; o <= OBJECTIVES + 1; o++) {
            int law = o <= OBJECTIVES ? WITHIN : OUTSIDE;
            k = o <= OBJECTIVES ? 2 * o : 2 * BOTH;
            mde_text_add(g->text, " ");
            add_value(g->text, 1e4 * x->mean[law][k], 1);
            mde_text_add(g->text, " | ");
            add_value(g->text, x->mean[law][k + 1], 3);
            mde_text_add(g->text, " |");
        }
        mde_text_format(g->text, " %s |\n", predictors[i].paper);
    }
    mde_text_add(g->text, "\nBy the number of trained models in all, objective both, mixtures of the proxies' law: MSE "
                          "in 1e-4 +- its sd over subsets; Spearman.\n\n| predictor |");
    for (k = 0; k < COUNTS; k++) mde_text_format(g->text, " %d |", model_counts[k]);
    mde_text_add(g->text, "\n| --- |");
    for (k = 0; k < COUNTS; k++) mde_text_add(g->text, " --- |");
    mde_text_add(g->text, "\n");
    for (i = 0; i < PREDICTORS; i++) {
        mde_text_format(g->text, "| %s |", predictors[i].name);
        for (k = 0; k < COUNTS; k++) {
            const score *x = &g->scores[i][k];
            mde_text_add(g->text, " ");
            if (x->subsets == 0) {
                mde_text_add(g->text, "- |");
                continue;
            }
            add_spread(g->text, 1e4 * x->mean[WITHIN][2 * BOTH], 1e4 * x->sd[WITHIN][2 * BOTH], 1);
            mde_text_add(g->text, "; ");
            add_value(g->text, x->mean[WITHIN][2 * BOTH + 1], 3);
            mde_text_add(g->text, " |");
        }
        mde_text_add(g->text, "\n");
    }
    mde_text_add(g->text, "\n![Error by number of trained models](study/curves.svg)\n\n");
}

/* Whether what the experts cost is why they do not help: the change of the error at (nearly) equal proxies instead. */
static void without_cost(page *g, int a, int b)
{
    int o;
    mde_text_format(g->text, " Were the experts free (%d proxies, and %d with them), the error would change by",
                    model_counts[HEADLINE - 1], model_counts[HEADLINE] - DOMAINS);
    for (o = 0; o < OBJECTIVES; o++) {
        double before = g->scores[a][HEADLINE - 1].mean[WITHIN][2 * o];
        double after = g->scores[b][HEADLINE].mean[WITHIN][2 * o];
        mde_text_add(g->text, o ? ", " : " ");
        add_signed(g->text, 100 * (after / before - 1), 0);
        mde_text_format(g->text, " %% (%s)", objective_names[o]);
    }
    mde_text_add(g->text, ".");
}

/* A sentence on two predictors: what the second makes of the first's error and rank. */
static void compare(page *g, const char *claim, const char *without, const char *with, double cut, double gain)
{
    int a = find_predictor(without), b = find_predictor(with), at = headline(g), o, held = 0, tried = 0;
    mde_text_format(g->text, "- %s: %s -> %s", claim, without, with);
    for (o = 0; o < OBJECTIVES; o++) {
        const score *x = &g->scores[a][at], *y = &g->scores[b][at];
        double less, more;
        if (!x->subsets || !y->subsets) continue;
        less = 1 - y->mean[WITHIN][2 * o] / x->mean[WITHIN][2 * o];
        more = y->mean[WITHIN][2 * o + 1] - x->mean[WITHIN][2 * o + 1];
        mde_text_format(g->text, "%s %s MSE ", o ? ";" : ":", objective_names[o]);
        add_signed(g->text, -100 * less, 0);
        mde_text_add(g->text, " %, rho ");
        add_signed(g->text, more, 3);
        held += less >= cut && more >= gain;
        tried++;
    }
    mde_text_format(g->text, ". **%s.**", !tried ? "Open" : held == tried ? "Holds" : held ? "In part" : "Not here");
    if (held < tried && predictors[a].kind == WEIGHTS_ALONE && predictors[b].kind != WEIGHTS_ALONE && at == HEADLINE) {
        without_cost(g, a, b);
    }
    mde_text_add(g->text, "\n");
}

static void page_question_1(page *g)
{
    const study_rows *s = g->study;
    mde_text_add(g->text, "## 1. Do the experts' features help to predict?\n\n");
    if (!can_judge(g, 1)) return;
    page_predictors(g);
    if (g->all.fit.count < planned(s, "fit") || g->all.test[WITHIN].count < planned(s, "within")) {
        mde_text_format(g->text, "Verdict so far, from %d of %d mixtures to fit to and %d of %d to judge by:\n\n",
                        g->all.fit.count, planned(s, "fit"), g->all.test[WITHIN].count, planned(s, "within"));
    } else {
        mde_text_add(g->text, "Verdict:\n\n");
    }
    compare(g,
            "The paper's jump of linear regression (MSE -93 to -97 %, rho up by 0.3 and more; here -80 % and 0.3 "
            "wanted)",
            "weights, ridge", "weights + all MDE, ridge", 0.8, 0.3);
    compare(g, "Trees gain (MSE -42 to -79 %; here -30 % and no loss of rank wanted)", "weights, trees",
            "weights + all MDE, trees", 0.3, 0);
    compare(g, "Beside log weights, the fair opponent, the feature still cuts the error by a tenth",
            "log weights, ridge", "log weights + own MDE, ridge", 0.1, 0);
    compare(g, "So it does for the Gaussian process", "log weights, GP", "log weights + own MDE, GP", 0.1, 0);
    compare(g, "What losses share helps the Gaussian process", "log weights, GP", "log weights, multi-task GP", 0, 0);
    compare(g, "Gating and matching, not in the paper, cut a further tenth", "log weights + own MDE, ridge",
            "log weights + own matched and gated MDE, ridge", 0.1, 0);
    compare(g, "Experts as runs of one domain help", "log weights + own MDE, ridge", "the same, experts as runs, too",
            0, 0);
    mde_text_add(g->text, "\n");
}

/* Trained models at which a predictor reaches an error, between the counts on logarithmic scales; NaN beyond them. */
static double models_for(const page *g, int predictor_index, int objective, double error)
{
    int k;
    double before_models = 0, before = 0;
    for (k = 0; k < COUNTS; k++) {
        const score *x = &g->scores[predictor_index][k];
        double now = x->mean[WITHIN][2 * objective];
        if (!x->subsets) continue;
        if (now <= error) {
            if (before_models <= 0) return model_counts[k];
            return before_models * exp(log(model_counts[k] / before_models) * log(before / error) / log(before / now));
        }
        before_models = model_counts[k];
        before = now;
    }
    return (double)NAN;
}

/* Whether the experts alone rank as regressions on three times as many models do. */
static void compare_rank(page *g)
{
    static const char *const rivals[4] = { "weights, ridge", "log weights, ridge", "log weights, GP", "stack" };
    const score *alone = &g->scores[find_predictor("MDE, no fit")][headline(g)];
    double rank = alone->mean[WITHIN][2 * BOTH + 1];
    int i, k, held = 0;
    mde_text_add(g->text, "- The paper: the experts alone rank as well as regressions on three times as many models. "
                          "Here they rank both at ");
    add_value(g->text, rank, 3);
    mde_text_format(g->text, ", %d models;", DOMAINS);
    for (i = 0; i < 4; i++) {
        const score *s = g->scores[find_predictor(rivals[i])];
        for (k = 0; k < COUNTS && !(s[k].subsets && s[k].mean[WITHIN][2 * BOTH + 1] >= rank); k++) continue;
        held += k == COUNTS || model_counts[k] >= 3 * DOMAINS;
        if (k < COUNTS) mde_text_format(g->text, "%s %s does with %d", i ? "," : "", rivals[i], model_counts[k]);
        else mde_text_format(g->text, "%s %s does not", i ? "," : "", rivals[i]);
    }
    mde_text_format(g->text, ". **%s.**\n\n", held == 4 ? "Holds" : held ? "In part" : "Not here");
}

static void page_question_2(page *g)
{
    static const char *const pairs[3][2] = { { "log weights, ridge", "log weights + own MDE, ridge" },
                                             { "log weights, GP", "log weights + own MDE, GP" },
                                             { "weights, trees", "weights + all MDE, trees" } };
    int i, k, o;
    mde_text_add(g->text, "## 2. How many runs do they save?\n\n");
    if (!can_judge(g, 1)) return;
    mde_text_add(g->text,
                 "Trained models at which the weights alone have the error that the same model with MDE has at "
                 "so many, experts among them; '>' where they do not reach it.\n\n| with MDE | objective |");
    for (k = 1; k < COUNTS; k++) mde_text_format(g->text, " %d |", model_counts[k]);
    mde_text_add(g->text, "\n| --- | --- | --- | --- | --- | --- |\n");
    for (i = 0; i < 3; i++) {
        int a = find_predictor(pairs[i][0]), b = find_predictor(pairs[i][1]);
        for (o = 0; o < OBJECTIVES; o++) {
            mde_text_format(g->text, "| %s | %s |", pairs[i][1], objective_names[o]);
            for (k = 1; k < COUNTS; k++) {
                const score *x = &g->scores[b][k];
                double models = x->subsets ? models_for(g, a, o, x->mean[WITHIN][2 * o]) : (double)NAN;
                int last = COUNTS - 1;
                while (last > 0 && !g->scores[a][last].subsets) last--;
                if (!x->subsets) mde_text_add(g->text, " - |");
                else if (models == models) mde_text_format(g->text, " %.0f |", models);
                else mde_text_format(g->text, " > %d |", model_counts[last]);
            }
            mde_text_add(g->text, "\n");
        }
    }
    mde_text_add(g->text, "\n");
    compare_rank(g);
}

/* ---- Chosen mixtures, trained ---- */

typedef struct means {
    int count;
    double mean, se, over, over_se; /* over: mean difference to another method of equal seed */
} means;

/* A run at the mixture that a method chose for an objective, NULL where there is none; baselines know no objective. */
static const study_run *chosen_run(const study_rows *s, const char *method, int objective, int seed)
{
    char name[64];
    const study_run *r;
    int baseline = strcmp(method, "uniform") == 0 || strcmp(method, "proportional") == 0;
    if (baseline) snprintf(name, sizeof name, "%s-%d", method, seed);
    else snprintf(name, sizeof name, "%s-%s-%d", method, objective_names[objective], seed);
    r = find_run(s, name);
    return r && r->finished ? r : NULL;
}

/* Its objective, or, with a column, the mean over the tasks from there. */
static double chosen_value(const study_run *r, int objective, int column)
{
    double sum = 0;
    int i;
    if (column < 0) return objective_value(objective, r->values);
    for (i = 0; i < TASKS; i++) sum += r->values[column + i] / TASKS;
    return sum;
}

static void mean_of(int count, const double *values, double *mean, double *se)
{
    double squares = 0;
    int i;
    *mean = 0;
    for (i = 0; i < count; i++) *mean += values[i] / count;
    for (i = 0; i < count; i++) squares += (values[i] - *mean) * (values[i] - *mean);
    *se = count > 1 ? sqrt(squares / (count - 1) / count) : (double)NAN;
    if (!count) *mean = (double)NAN;
}

#define SEEDS 16 /* at most */

/* Mean difference of what a method chose for one objective to what another chose for one, over equal seeds. */
static means paired(const study_rows *s, const char *method, int chosen_for, const char *other, int other_for,
                    int objective, int column)
{
    means m;
    double values[SEEDS], differences[SEEDS];
    int seed, pairs = 0;
    memset(&m, 0, sizeof m);
    for (seed = 1; seed <= SEEDS; seed++) {
        const study_run *r = chosen_run(s, method, chosen_for, seed), *u = chosen_run(s, other, other_for, seed);
        if (!r) continue;
        values[m.count++] = chosen_value(r, objective, column);
        if (u) differences[pairs++] = values[m.count - 1] - chosen_value(u, objective, column);
    }
    mean_of(m.count, values, &m.mean, &m.se);
    mean_of(pairs, differences, &m.over, &m.over_se);
    return m;
}

static means seed_means(const study_rows *s, const char *method, int objective, int column)
{
    return paired(s, method, objective, "uniform", 0, objective, column);
}

/* -1 below, 1 above by more than two standard errors, else 0; NaN ends up as 0. */
static int beyond_noise(double difference, double se)
{
    return difference < -2 * se ? -1 : difference > 2 * se ? 1 : 0;
}

static void chosen_table(page *g, int count, const char *const *methods)
{
    int i, o;
    mde_text_add(g->text, "| mixture | seeds | domains | over uniform | tasks | over uniform | both | over uniform |\n"
                          "| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for (i = 0; i < count; i++) {
        means m = seed_means(g->study, methods[i], 0, -1);
        if (!m.count) continue;
        mde_text_format(g->text, "| %s | %d |", methods[i], m.count);
        for (o = 0; o < OBJECTIVES; o++) {
            m = seed_means(g->study, methods[i], o, -1);
            mde_text_add(g->text, " ");
            add_value(g->text, m.mean, 4);
            mde_text_add(g->text, " | ");
            if (strcmp(methods[i], "uniform") == 0) mde_text_add(g->text, "-");
            else add_spread(g->text, m.over, m.over_se, 4);
            mde_text_add(g->text, " |");
        }
        mde_text_add(g->text, "\n");
    }
    mde_text_add(g->text, "\n");
}

static void best_proxies(page *g)
{
    int i, o, best;
    mde_text_add(g->text, "Best of the proxies, chosen after the fact:");
    for (o = 0; o < OBJECTIVES; o++) {
        for (i = 1, best = 0; i < g->all.fit.count; i++) {
            const study_run *r = g->all.fit.run[i];
            if (objective_value(o, r->values) < objective_value(o, g->all.fit.run[best]->values)) best = i;
        }
        if (!g->all.fit.count) break;
        mde_text_format(g->text, "%s %s %.4f (%s)", o ? "," : "", objective_names[o],
                        objective_value(o, g->all.fit.run[best]->values), g->all.fit.run[best]->name);
    }
    mde_text_add(g->text, ". Standard deviation of one run:");
    for (o = 0; o < OBJECTIVES; o++) {
        mde_text_format(g->text, "%s %s ", o ? "," : "", objective_names[o]);
        add_value(g->text, g->noise[o], 4);
    }
    mde_text_add(g->text, ".\n\n");
}

static void page_question_3(page *g)
{
    static const char *const shown[3] = { "uniform", "proportional", "optimum" };
    rows r;
    int o, i;
    mde_text_add(g->text, "## 3. Is the optimum of the experts' loss a good mixture?\n\n");
    collect(g->study, "optimum", 0, &r);
    if (is_open(g->text, "runs at the optimum", r.count, OBJECTIVES, planned(g->study, "optimum"))) return;
    chosen_table(g, 3, shown);
    best_proxies(g);
    for (o = 0; o < OBJECTIVES; o++) {
        char name[64];
        means m = seed_means(g->study, "optimum", o, -1), p = seed_means(g->study, "proportional", o, -1);
        double margin = m.over_se == m.over_se ? 2 * m.over_se : 2 * sqrt(2.0) * g->noise[o];
        const study_run *at;
        snprintf(name, sizeof name, "optimum-%s-1", objective_names[o]);
        at = find_run(g->study, name);
        mde_text_format(g->text, "- %s (", objective_names[o]);
        for (i = 0; at && i < DOMAINS; i++) {
            mde_text_format(g->text, "%s%s %.2f", i ? ", " : "", text_names[i], at->weights[i]);
        }
        mde_text_format(g->text, "): **%s uniform**, %s proportional.\n",
                        margin != margin           ? "no noise floor yet to judge by, against"
                        : m.over < -margin ? "better than"
                        : m.over > margin  ? "worse than"
                                                   : "no different from",
                        m.mean < p.mean ? "below" : "not below");
    }
    mde_text_add(g->text, "\n");
}

/* A method beside each other one, by trained loss, over equal seeds. */
static void compare_methods(page *g, const char *method, const char *called)
{
    static const char *const others[7] = { "uniform", "proportional", "regmix", "law", "law-kl", "weights", "optimum" };
    static const char *const outcomes[3] = { "better", "no different", "worse" };
    int i, o;
    for (i = 0; i < 7; i++) {
        int better = 0, worse = 0, tried = 0;
        for (o = 0; o < OBJECTIVES; o++) {
            means m = paired(g->study, method, o, others[i], o, o, -1);
            if (!(m.over_se == m.over_se)) continue;
            if (!tried++) mde_text_format(g->text, "- %s less %s:", called, others[i]);
            mde_text_format(g->text, "%s %s ", tried > 1 ? "," : "", objective_names[o]);
            add_signed(g->text, m.over, 4);
            mde_text_add(g->text, " +- ");
            add_value(g->text, m.over_se, 4);
            mde_text_format(g->text, " (%s)", outcomes[1 + beyond_noise(m.over, m.over_se)]);
            better += beyond_noise(m.over, m.over_se) < 0;
            worse += beyond_noise(m.over, m.over_se) > 0;
        }
        if (!tried) continue;
        mde_text_format(g->text, ". **%s.**\n", better && !worse   ? better == tried ? "Better" : "Better in part"
                                                : worse && !better ? worse == tried ? "Worse" : "Worse in part"
                                                : better           ? "Better and worse"
                                                                   : "No different");
    }
}

static void page_question_4(page *g)
{
    static const char *const shown[8] = { "uniform", "proportional", "regmix",      "law",
                                          "law-kl",  "weights",      "mde-weights", "optimum" };
    rows r;
    mde_text_add(g->text, "## 4. Which procedure chooses the best mixture?\n\n");
    collect(g->study, "mde-weights", 0, &r);
    if (is_open(g->text, "runs of MDE + weights", r.count, OBJECTIVES, planned(g->study, "mde-weights"))) return;
    chosen_table(g, 8, shown);
    best_proxies(g);
    compare_methods(g, "mde-weights", "MDE + weights");
    mde_text_add(g->text, "\n![Mixtures that were chosen, trained](study/chosen.svg)\n\n");
}

/* Mixtures trained at size S and at a larger one: their objectives at both. */
typedef struct transfer {
    int count;
    double small[OBJECTIVES][64], large[OBJECTIVES][64];
} transfer;

static const char *const larger[2] = { "M", "L" };

static transfer collect_transfer(const study_rows *s, const char *size)
{
    transfer out;
    int i, o;
    out.count = 0;
    for (i = 0; i < s->count && out.count < 64; i++) {
        const study_run *r = &s->runs[i], *small;
        char name[80];
        if (!is_kind(r, "transfer") || !r->finished || strcmp(r->size, size) != 0) continue;
        snprintf(name, sizeof name, "%.*s", (int)(strlen(r->name) - 2), r->name); /* without -M */
        small = find_run(s, name);
        if (!small) strcat(name, "-1");
        if (!small) small = find_run(s, name);
        if (!small || !small->finished) continue;
        for (o = 0; o < OBJECTIVES; o++) {
            out.small[o][out.count] = objective_value(o, small->values);
            out.large[o][out.count] = objective_value(o, r->values);
        }
        out.count++;
    }
    return out;
}

/* What a method's mixture for both makes of the uniform one's loss at a larger size. */
static double transferred_gain(const study_rows *s, const char *method, const char *size)
{
    char name[80];
    const study_run *r, *uniform;
    snprintf(name, sizeof name, "%s-both-%s", method, size);
    r = find_run(s, name);
    snprintf(name, sizeof name, "uniform-%s", size);
    uniform = find_run(s, name);
    if (!r || !uniform || !r->finished || !uniform->finished) return (double)NAN;
    return objective_value(BOTH, r->values) - objective_value(BOTH, uniform->values);
}

static void page_question_5(page *g)
{
    static const char *const shown[3] = { "weights", "mde-weights", "optimum" };
    const study_rows *s = g->study;
    double ranks[2][OBJECTIVES], lowest = 1;
    int i, k, o, there = 0, all = 0;
    mde_text_add(g->text, "## 5. Does it hold at larger sizes?\n\n");
    for (i = 0; i < s->count; i++) {
        all += is_kind(&s->runs[i], "transfer");
        there += is_kind(&s->runs[i], "transfer") && s->runs[i].finished;
    }
    if (is_open(g->text, "runs at larger sizes", there, 4, all)) return;
    mde_text_add(g->text, "Spearman between the objective at size S and at the larger one, over the same mixtures; "
                          "change from the uniform mixture to those chosen at size S for both, one seed each (sd of "
                          "the difference of two runs at size S: ");
    add_value(g->text, sqrt(2.0) * g->noise[BOTH], 4);
    mde_text_add(g->text, ").\n\n| size | mixtures | domains | tasks | both | weights | mde-weights | optimum |\n"
                          "| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for (k = 0; k < 2; k++) {
        transfer x = collect_transfer(s, larger[k]);
        mde_text_format(g->text, "| %s | %d |", larger[k], x.count);
        for (o = 0; o < OBJECTIVES; o++) {
            ranks[k][o] = x.count > 2 ? mde_spearman(g->context, x.count, x.small[o], x.large[o]) : (double)NAN;
            if (!(ranks[k][o] >= lowest)) lowest = ranks[k][o];
            mde_text_add(g->text, " ");
            add_value(g->text, ranks[k][o], 3);
            mde_text_add(g->text, " |");
        }
        for (i = 0; i < 3; i++) {
            mde_text_add(g->text, " ");
            add_value(g->text, transferred_gain(s, shown[i], larger[k]), 4);
            mde_text_add(g->text, " |");
        }
        mde_text_add(g->text, "\n");
    }
    if (lowest == lowest) {
        mde_text_format(g->text, "\n- Ranks at size S are those at larger sizes (0.8 wanted everywhere). **%s.**\n",
                        lowest >= 0.8 ? "Holds" : lowest >= 0.5 ? "In part" : "Not here");
    }
    mde_text_add(g->text, "\n![The same mixtures at two sizes](study/sizes.svg)\n\n");
}

/* Whether all mixtures that predictors are fitted to and judged by have a kind of the experts' features. */
static int has_features(const data *all, int kind)
{
    const rows *sets[1 + LAWS] = { &all->fit, &all->test[WITHIN], &all->test[OUTSIDE] };
    int i, k;
    for (k = 0; k < 1 + LAWS; k++) {
        for (i = 0; i < sets[k]->count; i++) {
            if (!sets[k]->run[i]->predicted[kind]) return 0;
        }
    }
    return all->test[WITHIN].count > 0;
}


/* Of each kind of experts, in runs. Narrow: by parameters times tokens; branched: the start and seven times the rest of
   the tokens. */
static const double expert_costs[EXPERTS] = { 7, 3.5, 1.75, 0.875, 2.3, 7, 5.5 };

static void page_question_6(page *g)
{
    static const int kinds[EXPERTS] = { PLAIN, HALF, QUARTER, EIGHTH, NARROW, MERGED, BRANCHED };
    static const char *const names[EXPERTS] = { "all tokens",
                                                "half of the tokens",
                                                "a quarter",
                                                "an eighth",
                                                "half the width",
                                                "averaged weights, same start",
                                                "averaged weights, branched from a trained start" };
    int i, k, have = 0, fitted = g->all.fit.count < 25 ? g->all.fit.count : 25;
    mde_text_add(g->text, "## 6. Cheaper experts\n\n");
    for (k = 1; k < EXPERTS; k++) have += has_features(&g->all, kinds[k]);
    if (is_open(g->text, "sets of cheaper experts", have, 1, EXPERTS - 1) || !can_judge(g, 1)) return;
    mde_text_format(g->text,
                    "Ridge on log weights and the own MDE loss, of %d proxies besides; MSE in 1e-4 and Spearman "
                    "of both; cost of the experts in runs.",
                    fitted);
    if (has_features(&g->all, MERGED) || has_features(&g->all, BRANCHED)) {
        mde_text_add(
            g->text,
            " Averaged weights: the loss is that of one model, whose parameters are the mean of the experts', "
            "weighted by the mixture; these are the experts of all tokens, which share a random start, or ones "
            "that begin with a model trained on the uniform mixture for a quarter of the tokens and go on, "
            "each with its domain, for three quarters.");
    }
    mde_text_add(g->text, "\n\n| experts | cost | no fit: MSE | rho | ridge: MSE | rho |\n"
                          "| --- | --- | --- | --- | --- | --- |\n");
    for (k = 0; k < EXPERTS; k++) {
        predictor p = predictors[find_predictor("log weights + own MDE, ridge")];
        score alone, ridge;
        if (!has_features(&g->all, kinds[k])) continue;
        p.kind = kinds[k];
        ridge = g->cheaper[k] = evaluate(&p, fitted, &g->all);
        p.features = 0;
        p.subsets = 1;
        alone = evaluate(&p, 0, &g->all);
        mde_text_format(g->text, "| %s | %.1f |", names[k], expert_costs[k]);
        for (i = 0; i < 2; i++) {
            const score *x = i ? &ridge : &alone;
            mde_text_add(g->text, " ");
            add_value(g->text, 1e4 * x->mean[WITHIN][2 * BOTH], 1);
            mde_text_add(g->text, " | ");
            add_value(g->text, x->mean[WITHIN][2 * BOTH + 1], 3);
            mde_text_add(g->text, " |");
        }
        mde_text_add(g->text, "\n");
    }
    mde_text_add(g->text, "\n");
    for (k = 1; k < EXPERTS; k++) {
        double change = g->cheaper[k].mean[WITHIN][2 * BOTH] / g->cheaper[0].mean[WITHIN][2 * BOTH] - 1;
        if (!g->cheaper[k].subsets) continue;
        mde_text_format(g->text, "- %s instead (an error within a fifth wanted): ", names[k]);
        add_signed(g->text, 100 * change, 0);
        mde_text_format(g->text, " %%. **%s.**\n", change <= 0.2 ? "Serve as well" : "Serve worse");
    }
    mde_text_add(g->text, "\n![Error by what the experts cost](study/cheaper.svg)\n\n");
}

/* What a method gains in accuracy when it looks at the tasks instead of the domains. */
static void compare_accuracy(page *g, const char *method)
{
    int shots, more = 0, less = 0, tried = 0;
    mde_text_format(g->text, "- %s chosen for the tasks, less chosen for the domains:", method);
    for (shots = 0; shots < SHOTS; shots++) {
        means m = paired(g->study, method, END_TASKS, method, SEEN, END_TASKS, LOSSES + shots * TASKS);
        if (!(m.over_se == m.over_se)) continue;
        mde_text_format(g->text, "%s %d shots ", tried++ ? "," : "", shot_counts[shots]);
        add_signed(g->text, 100 * m.over, 1);
        mde_text_add(g->text, " +- ");
        add_value(g->text, 100 * m.over_se, 1);
        more += beyond_noise(m.over, m.over_se) > 0;
        less += beyond_noise(m.over, m.over_se) < 0;
    }
    mde_text_format(g->text, " points. **%s.**\n",
                    !tried                  ? "Open"
                    : more == tried         ? "It pays"
                    : less                  ? "It costs"
                    : more                  ? "It pays in part"
                                            : "No difference beyond the noise");
}

/* Mean share of right answers over the tasks, by shots and objective of the choice. */
static void page_question_7(page *g)
{
    static const char *const methods[2] = { "mde-weights", "optimum" };
    rows r;
    int i, o, shots;
    mde_text_add(g->text, "## 7. Does end-task loss in the objective pay in few-shot accuracy?\n\n");
    collect(g->study, "mde-weights", 0, &r);
    if (r.count == 0) collect(g->study, "optimum", 0, &r);
    if (is_open(g->text, "runs at mixtures chosen for three objectives", r.count, OBJECTIVES,
                planned(g->study, "mde-weights") + planned(g->study, "optimum")))
        return;
    mde_text_add(g->text, "Share of questions answered rightly, in %, mean over four tasks (one in four is a guess) +- "
                          "its standard error over seeds.\n\n| mixture | objective | seeds | 0 shots | 1 | 4 |\n"
                          "| --- | --- | --- | --- | --- | --- |\n");
    for (i = -1; i < 2; i++) {
        for (o = 0; o < OBJECTIVES; o++) {
            const char *method = i < 0 ? "uniform" : methods[i];
            means m = seed_means(g->study, method, o, LOSSES);
            if (!m.count || (i < 0 && o > 0)) continue;
            mde_text_format(g->text, "| %s | %s | %d |", method, i < 0 ? "-" : objective_names[o], m.count);
            for (shots = 0; shots < SHOTS; shots++) {
                m = seed_means(g->study, method, o, LOSSES + shots * TASKS);
                mde_text_add(g->text, " ");
                add_spread(g->text, 100 * m.mean, 100 * m.se, 1);
                mde_text_add(g->text, " |");
            }
            mde_text_add(g->text, "\n");
        }
    }
    mde_text_add(g->text, "\n");
    for (i = 0; i < 2; i++) compare_accuracy(g, methods[i]);
    mde_text_add(g->text, "\n![Questions answered rightly](study/shots.svg)\n\n");
}

/* ---- Pictures ---- */

/* A picture of some series, which are marks or lines with what they vary by. */
#define MOST_SERIES 8
#define MOST_POINTS 64

typedef struct drawing {
    int count;
    plot_series series[MOST_SERIES];
    double x[MOST_SERIES][MOST_POINTS], y[MOST_SERIES][MOST_POINTS];
    double low[MOST_SERIES][MOST_POINTS], high[MOST_SERIES][MOST_POINTS];
} drawing;

static void add_series(drawing *d, const char *name, int points)
{
    plot_series *s = &d->series[d->count];
    memset(s, 0, sizeof *s);
    s->name = name;
    s->points = points;
    s->x = d->x[d->count];
    s->y = d->y[d->count];
    s->low = d->low[d->count];
    s->high = d->high[d->count];
    d->count++;
}

/* To the newest series; spread NaN: no bar. */
static void add_point(drawing *d, double x, double y, double spread)
{
    int k = d->count - 1, i = d->series[k].count;
    if (i == MOST_POINTS || !(y == y)) return;
    d->x[k][i] = x;
    d->y[k][i] = y;
    d->low[k][i] = y - spread;
    d->high[k][i] = y + spread;
    d->series[k].count++;
}

static void write_drawing(page *g, drawing *d, plot_desc *plot, const char *name)
{
    mde_text *svg = mde_text_create(g->context);
    plot->count = d->count;
    plot->series = d->series;
    plot_xy(svg, plot);
    program_write(g->context, svg, g->study->folder, name);
    mde_text_free(svg);
}

static void draw_curves(page *g, drawing *d)
{
    static const char *const shown[6] = {
        "log weights, ridge", "log weights + own MDE, ridge", "log weights, GP", "log weights + own MDE, GP", "stack",
        "MDE, no fit"
    };
    plot_desc plot;
    int i, k;
    memset(&plot, 0, sizeof plot);
    d->count = 0;
    for (i = 0; i < 6; i++) {
        add_series(d, shown[i], 0);
        for (k = 0; k < COUNTS; k++) {
            const score *s = &g->scores[find_predictor(shown[i])][k];
            double error = s->mean[WITHIN][2 * BOTH], *low = &d->low[i][d->series[i].count];
            if (!s->subsets) continue;
            add_point(d, model_counts[k], error, s->subsets > 1 ? s->sd[WITHIN][2 * BOTH] : (double)NAN);
            if (*low <= 0) *low = error / 2; /* the axis is logarithmic */
        }
    }
    plot.title = "Error of the predicted mean of domains and tasks";
    plot.x_label = "trained models, experts among them";
    plot.y_label = "MSE, nats\xc2\xb2";
    plot.log_y = 1;
    write_drawing(g, d, &plot, "curves.svg");
}

/* What the experts say beside what training gives, of all proxies. */
static void draw_scatter(page *g, drawing *d)
{
    static const char *const names[3] = { "proxies to fit to", "of the same law", "of two or three domains" };
    const rows *sets[3] = { &g->all.fit, &g->all.test[WITHIN], &g->all.test[OUTSIDE] };
    plot_desc plot;
    int i, k;
    memset(&plot, 0, sizeof plot);
    d->count = 0;
    for (k = 0; k < 3; k++) {
        add_series(d, names[k], 1);
        for (i = 0; i < sets[k]->count; i++) {
            const study_run *r = sets[k]->run[i];
            add_point(d, objective_value(BOTH, r->features[PLAIN]), objective_value(BOTH, r->values), (double)NAN);
        }
    }
    plot.title = "The experts' mixture and the trained model";
    plot.x_label = "MDE loss of domains and tasks, nats a byte";
    plot.y_label = "trained model's loss, nats a byte";
    plot.diagonal = 1;
    write_drawing(g, d, &plot, "mde.svg");
}

static void draw_chosen(page *g, drawing *d)
{
    static const char *const shown[7] = { "proportional", "regmix", "law", "law-kl", "weights", "mde-weights",
                                          "optimum" };
    plot_desc plot;
    int i, o;
    memset(&plot, 0, sizeof plot);
    d->count = 0;
    for (i = 0; i < 7; i++) {
        if (!seed_means(g->study, shown[i], 0, -1).count) continue;
        add_series(d, shown[i], 1);
        for (o = 0; o < OBJECTIVES; o++) {
            means m = seed_means(g->study, shown[i], o, -1);
            add_point(d, o + 1 + 0.1 * (i - 3), m.over, m.over_se);
        }
    }
    plot.title = "Trained loss over the uniform mixture's, and standard errors over seeds";
    plot.x_label = "chosen for and judged by: 1 domains, 2 tasks, 3 both";
    plot.y_label = "nats a byte";
    if (d->count) write_drawing(g, d, &plot, "chosen.svg");
}

static void draw_sizes(page *g, drawing *d)
{
    plot_desc plot;
    int k, i;
    memset(&plot, 0, sizeof plot);
    d->count = 0;
    for (k = 0; k < 2; k++) {
        transfer x = collect_transfer(g->study, larger[k]);
        if (!x.count) continue;
        add_series(d, k == 0 ? "size M" : "size L", 1);
        for (i = 0; i < x.count; i++) add_point(d, x.small[BOTH][i], x.large[BOTH][i], (double)NAN);
    }
    plot.title = "The same mixtures at two sizes";
    plot.x_label = "loss of domains and tasks at size S, nats a byte";
    plot.y_label = "at the larger size";
    if (d->count) write_drawing(g, d, &plot, "sizes.svg");
}

static void draw_cheaper(page *g, drawing *d)
{
    static const char *const names[3] = { "the experts' probabilities", "averaged weights, same start",
                                          "averaged weights, branched" };
    plot_desc plot;
    int k;
    memset(&plot, 0, sizeof plot);
    d->count = 0;
    for (k = 0; k < EXPERTS; k++) {
        const score *s = &g->cheaper[k];
        if (!s->subsets) continue;
        if (k == 0 || k > 4) add_series(d, names[k == 0 ? 0 : k - 4], 1);
        if (!d->count) continue;
        add_point(d, expert_costs[k], 1e4 * s->mean[WITHIN][2 * BOTH], 1e4 * s->sd[WITHIN][2 * BOTH]);
    }
    plot.title = "Error of the ridge with each kind of experts, and its sd over subsets";
    plot.x_label = "cost of the experts, in runs";
    plot.y_label = "MSE of both, 1e-4 nats\xc2\xb2";
    if (d->count) write_drawing(g, d, &plot, "cheaper.svg");
}

static void draw_shots(page *g, drawing *d)
{
    static const char *const names[OBJECTIVES] = { "mde-weights for domains", "mde-weights for tasks",
                                                   "mde-weights for both" };
    plot_desc plot;
    int o, shots;
    memset(&plot, 0, sizeof plot);
    d->count = 0;
    for (o = -1; o < OBJECTIVES; o++) {
        const char *method = o < 0 ? "uniform" : "mde-weights";
        if (!seed_means(g->study, method, o < 0 ? 0 : o, LOSSES).count) continue;
        add_series(d, o < 0 ? "uniform" : names[o], 0);
        for (shots = 0; shots < SHOTS; shots++) {
            means m = seed_means(g->study, method, o < 0 ? 0 : o, LOSSES + shots * TASKS);
            add_point(d, shot_counts[shots] + 0.06 * o, 100 * m.mean, 100 * m.se);
        }
    }
    plot.title = "Questions answered rightly, and standard errors over seeds";
    plot.x_label = "shots";
    plot.y_label = "% (a guess: 25)";
    if (d->count) write_drawing(g, d, &plot, "shots.svg");
}

static void draw_answers(page *g)
{
    drawing *d = (drawing *)mde_alloc(g->context, 1, sizeof *d);
    if (!d) return;
    if (can_judge(g, 0)) {
        draw_curves(g, d);
        draw_scatter(g, d);
    }
    draw_chosen(g, d);
    draw_sizes(g, d);
    draw_cheaper(g, d);
    draw_shots(g, d);
    mde_release(g->context, d);
}

/* ---- All of it ---- */

static void write_page(page *g, const char *out)
{
    mde_text *t = g->text;
    mde_text_add(
        t,
        "# The study of mixtures of data experts\n\n"
        "Do the claims of Belenki et al. 2025 (arXiv 2502.15950) hold on real text, at equal numbers of trained "
        "models?\n"
        "Seven domains of unequal size and quality are mixed (essays, manuals, C, an encyclopedia, Perl's "
        "documentation,\n"
        "German manuals, theorems); no mixture contains the Bible, a dictionary or JavaScript, from which the four "
        "end\n"
        "tasks are made (the true continuation among four, the end of a definition, the next verse, the right\n"
        "identifier). The loss of a task is that of the right answer's bytes. Models read bytes, 256 at a time: S has\n"
        "0.17 M parameters and 3.3 M tokens (20 a parameter; all tables unless they say otherwise), M 0.36 M and 7.1 "
        "M,\n"
        "L 0.84 M and 8.4 M (10 a parameter). All runs but repeats and branches share start and windows (common\n"
        "random numbers).\n\n"
        "    make data study-mde         runs, a row each as soon as it is there; stop and repeat it at will (hours)\n"
        "    make study-tables           this page and its pictures, from study/*.csv alone\n"
        "    make study-mde study-tables SCALE=0.02      all of it small, in out/study-0.02\n\n"
        "The same settings and text give the same rows on every machine, so that several machines can make them in\n"
        "turn. Objectives are unweighted means, as in the paper: of the seven domains, of the four tasks (no shots), "
        "of\n"
        "both together.\n\n");
    page_rows(g);
    page_noise(g);
    page_question_1(g);
    if (can_judge(g, 0)) mde_text_add(t, "![MDE loss and trained loss](study/mde.svg)\n\n");
    page_question_2(g);
    page_question_3(g);
    page_question_4(g);
    page_question_5(g);
    page_question_6(g);
    page_question_7(g);
    mde_text_add(t, "## What is not here\n\n"
                    "DoReMi and DoGE; few-shot tasks of natural language at a size that can solve them. The paper's "
                    "numbers are from\n"
                    "a note on its text, not from its tables.\n");
    program_write(g->context, t, out, "STUDY-MDE.md");
}

int main(int argc, char **argv)
{
    static const char *const usage =
        "study_tables: what the rows of the study of mixtures of data experts say\n"
        "\n"
        "  study_tables FOLDER OUT      reads FOLDER/*.csv; writes OUT/STUDY-MDE.md and the pictures, FOLDER/*.svg\n";
    program p;
    mde_context *c;
    study_rows s;
    page *g;
    program_start(&p, "study_tables", usage, NULL, 0);
    p.max_arguments = 2;
    if (!program_parse(&p, argc, argv)) return p.code;
    if (p.count < 2) return program_misused(&p, "", "expected the study's folder and where the page goes"), p.code;
    c = program_context(&p);
    study_read(&s, c, p.arguments[0]);
    g = (page *)mde_alloc(c, 1, sizeof *g);
    if (g && s.count == 0) {
        fprintf(stderr, "study_tables: %s holds no plan yet, nothing to tell; `make study-mde` makes it\n", s.folder);
    } else if (g) {
        g->context = c;
        g->study = &s;
        g->text = mde_text_create(c);
        collect(&s, "expert", 0, &g->all.experts);
        collect(&s, "fit", MATCHED_GATED + 1, &g->all.fit);
        collect(&s, "within", MATCHED_GATED + 1, &g->all.test[WITHIN]);
        collect(&s, "outside", MATCHED_GATED + 1, &g->all.test[OUTSIDE]);
        measure_noise(g);
        if (can_judge(g, 0)) {
            evaluate_all(g);
        } else if (!p.quiet) {
            fprintf(stderr, "study_tables: too few rows to fit yet: %d mixtures to fit to, %d and %d to judge by\n",
                    g->all.fit.count, g->all.test[WITHIN].count, g->all.test[OUTSIDE].count);
        }
        write_page(g, p.arguments[1]);
        draw_answers(g);
        mde_text_free(g->text);
    }
    study_free(&s);
    return program_end(&p, c);
}
