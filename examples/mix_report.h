/* mix_report.h - what mix_optimize finds out, and how it tells: OUT/report.json with all numbers, OUT/report.html to
   read, OUT/mixture.json, OUT/next_runs.csv, and a summary for the terminal. Included by mix_optimize.c alone. */
#ifndef MIX_REPORT_H
#define MIX_REPORT_H

#include "plot.h"

#define LEVEL_90 1.6448536269514722     /* of a normal distribution, 90 % lie within so many sds */

typedef struct optimize_settings {
    const char *ratios, *losses;            /* tables of runs; NULL: log-probabilities alone */
    const char *table;                      /* both in one, instead */
    const char *test_ratios, *test_losses, *test_table; /* runs to judge on, columns in any order; may be NULL */
    table_options columns;
    const char *compare;                    /* table of mixtures to predict; may be NULL */
    int standardize;                        /* 1: the objective counts each loss in its sds between runs */
    const char *logp;                       /* folder of log-probabilities; may be NULL */
    int nll;                                /* 1: it holds negative log-likelihoods */
    int memory;                             /* MB of them that are held; 0: 1024 */
    const char *domains;                    /* CSV: domain, and any of tokens, prior, min, max; may be NULL */
    const char *objective, *model, *features;
    double max_ratio;                       /* 0: 15 */
    double target_params, target_tokens;    /* 0: no target */
    const char *anchor;                     /* table of a few large runs; may be NULL */
    double max_epochs;                      /* 0: 4 */
    double budget_flops;                    /* of the runs to make next; 0: they have no sizes */
    const char *sizes;                      /* on offer, as 20M:400M,60M:1.2B; NULL: those of the runs */
    double kl, caution;
    int folds, suggest;                     /* folds 0: 5 */
    mde_acquisition acquisition;
    uint64_t seed;
    const char *out;                        /* NULL: nothing is written */
    program_work *work;                     /* is told of each file that is written; may be NULL */
    mde_progress_fn *progress;
    void *user;
} optimize_settings;

typedef struct metric_score {
    double spearman, low, high, mse, coverage;      /* coverage: of 90 % intervals */
} metric_score;

/* A mixture on the way from the best for one loss to the best for another. */
#define FRONT_POINTS 5
typedef struct front_point { double share, a, b, weights[MDE_MAX_DOMAINS]; } front_point;

/* The objective of test runs. */
typedef struct test_score {
    double spearman[3];                 /* and its 90 % interval */
    double coverage, bias, bias_error;  /* of 90 % intervals; mean of predicted less true, and its standard error */
} test_score;

/* Predictions of n mixtures: the objective and its sd [n], losses and sds [n, m] in the units of the tables. */
typedef struct predictions {
    int n;
    double *value, *value_sd, *loss, *loss_sd;
} predictions;

/* One of the sizes that runs have. */
typedef struct size_result {
    run_scale at;                       /* tokens: those of most of its runs */
    int rows, mixtures;                 /* mixtures: at those tokens */
    mde_surrogate *own;                 /* of its runs there; NULL: too few */
    int searched;                       /* 1: there is a best mixture by them */
    double weights[MDE_MAX_DOMAINS];
    int judged;                         /* 1: it was left out */
    double error, bias, coverage;       /* relative, means over rows and losses; of 90 % intervals */
    double spearman, single;            /* mean over losses; single: the best of another size's runs alone */
    double loss, sd;                    /* objective of the recommended mixture */
} size_result;

/* What is known across sizes: all rows of the tables, and how their losses get to a target. */
#define LARGEST_SIZES 32
typedef struct scaling {
    run_scale *of;                      /* [rows] */
    mde_runs *runs;                     /* all rows; NULL: without a target */
    mde_regressor **law;                /* [m]; NULL: without a target */
    double *sign;                       /* [m] -1: more is better */
    int interactions;                   /* the law's form, */
    double form_errors[2];              /* chosen by the error at the largest size, left out */
    run_scale target, origin;           /* origin: what is moved to the target */
    double factor;                      /* of the sds that the way there adds */
    double *anchor_sd;                  /* [m]; NULL: no anchors */
    int sizes;
    size_result size[LARGEST_SIZES];
} scaling;

/* The runs to make next where each has a size. */
typedef struct spending {
    int sizes;
    run_scale size[LARGEST_SIZES];      /* on offer */
    run_table table;                    /* of the runs, with its columns of sizes and tokens (-1: none) */
    int params, tokens;
    double params_unit, tokens_unit;
    int *at;                            /* [suggested] which of them */
    double *value;                      /* [suggested] of the objective, expected when it was chosen */
    double flops;                       /* of all */
} spending;

typedef struct optimization {
    mde_context *context;
    optimize_settings settings;         /* its texts are the caller's */
    mde_runs *runs, *test, *mixtures;   /* mixtures: to compare, without losses */
    mde_experts *experts;
    int n, k, m;                        /* runs, domains, losses */
    const char **domains, **metrics;    /* short names, owned */
    const char **table_domains;         /* [k] full names as the table of runs has them; NULL: as domains */
    double *objective;                  /* [m], sums to 1 */
    double *centre, *scale;             /* [m] centre + scale * a loss of runs or test has the units of the table */
    double *nats;                       /* [m] the objective per unit of the tables */
    const char *unit;                   /* of the objective */
    double *prior, *tokens;             /* [k]; tokens NaN where unknown */
    double *lower, *upper;              /* [k] bounds of the search */
    double *tried_lower, *tried_upper;  /* [k] of the runs */
    double *allowed_lower, *allowed_upper;  /* [k] the user's, of the runs to make next */
    const char **upper_reason;          /* [k] what sets the upper bound */
    mde_evaluation *evaluation;
    mde_surrogate *surrogate;
    double spread;                      /* factor of the summed sds of the objective */
    metric_score *held_out, *tested;    /* [m + 1], the last one the means */
    test_score tested_objective;
    int fronts, front_a, front_b;       /* whether there is a trade-off, and between which losses */
    front_point front[FRONT_POINTS];
    double *agreement;                  /* [m, m] rank correlations of the losses */
    double *test_added;                 /* [test runs, m] sd of moving them to the target; NULL: they are not moved */
    double *noise;                      /* [m] sd between repeated runs */
    int repeats;                        /* degrees of freedom of the noise */
    double regret, regret_of_chance, objective_spearman, objective_low, objective_high;
    double best_tried;                  /* minimum of the objective over the runs */
    int best_run;
    int points;
    curve_point curve[CURVE_POINTS];
    mde_choice best, unbounded;
    scaling scaling;
    double fresh_loss;                  /* best.loss, were no domain repeated at the target */
    double shape_sd;                    /* of best.loss, without what extrapolation adds */
    double *compared_weights;           /* [compared.n, k] of the best mixture, others, and those of a table */
    predictions compared;               /* of them */
    double *next;                       /* [suggest, k] */
    int suggested;
    spending spending;
    mde_optimum minimum;                /* of the experts alone, within the bounds */
    mde_bootstrap interval;
    double *prices;                     /* [k] at that minimum, with the ends of their intervals [2, k] behind */
    double *text_losses;                /* of the validation texts at that minimum */
    mde_text *warnings;                 /* a line each */
    mde_text *notes;                    /* a line each: what of the tables was not used, and the like */
    mde_text *summary;
} optimization;

/* The domain's name as the tables have it. */
static const char *full_name(const optimization *o, int i)
{
    return o->runs ? o->runs->domain_names[i] : o->domains[i];
}

/* What one would pay for a bound that could be another; nothing lies beyond a lower bound of 0. */
static int held_by_bound(const optimization *o, int i)
{
    return o->best.active[i] > 0 || (o->best.active[i] < 0 && o->lower[i] > 0);
}

/* Objective of a run's losses or predictions [m]. A loss that is missing makes it NaN, unless it does not count. */
static double objective_of(const optimization *o, const double *losses)
{
    return weighted(o->m, o->objective, losses);
}

/* The mixture, [k]; NULL when there is none. */
static const double *chosen_mixture(const optimization *o)
{
    return o->evaluation ? o->best.weights : o->experts ? o->minimum.weights : NULL;
}

/* Copies the next line of *at, cut to size, without its end; 0 when there is none. */
static int next_line(const char **at, char *line, size_t size)
{
    size_t length = strcspn(*at, "\n");
    if (**at == 0) return 0;
    snprintf(line, size, "%.*s", (int)(length < size ? length : size - 1), *at);
    *at += length + ((*at)[length] == '\n');
    return 1;
}

/* A name, whole, and blanks up to the width, which counts characters. */
static void add_name(mde_text *t, const char *name, int width)
{
    int length = 0;
    const char *p;
    for (p = name; *p; p++) length += (*p & 0xC0) != 0x80;
    mde_text_add(t, name);
    for (; length < width; length++) mde_text_add(t, " ");
}

/* ---- As JSON ---- */

static void json_interval(mde_json_writer *w, const char *key, double low, double high)
{
    double ends[2];
    ends[0] = low;
    ends[1] = high;
    mde_json_write_numbers(w, key, 2, ends, 9);
}

static void json_mixture(mde_json_writer *w, const char *key, const optimization *o, const double *weights)
{
    int i;
    mde_json_open(w, key, '{');
    for (i = 0; i < o->k; i++) mde_json_write_number(w, full_name(o, i), weights[i], 9);
    mde_json_close(w);
}

#include "mix_scale.h"
#include "mix_suggest.h"
#include "mix_compare.h"

static void json_score(mde_json_writer *w, const metric_score *score)
{
    mde_json_write_number(w, "spearman", score->spearman, 9);
    json_interval(w, "spearman_interval_90", score->low, score->high);
    mde_json_write_number(w, "mse", score->mse, 9);
    mde_json_write_number(w, "coverage_90", score->coverage, 9);
}

static void json_scores(mde_json_writer *w, const char *key, const optimization *o, const metric_score *scores)
{
    int j;
    mde_json_open(w, key, '{');
    mde_json_open(w, "metrics", '[');
    for (j = 0; j < o->m; j++) {
        mde_json_open(w, NULL, '{');
        mde_json_write_string(w, "name", o->runs->metric_names[j]);
        json_score(w, &scores[j]);
        if (o->repeats > 0 && scores == o->held_out) {
            mde_json_write_number(w, "sd_of_repeated_runs", o->noise[j], 9);
        }
        mde_json_close(w);
    }
    mde_json_close(w);
    mde_json_open(w, "mean", '{');
    json_score(w, &scores[o->m]);
    mde_json_close(w);
    mde_json_close(w);
}

static void json_file(mde_json_writer *w, const char *key, const optimization *o, const char *path)
{
    uint64_t size, fingerprint;
    char hash[17];
    if (!mde_is_file(path)) return;
    if (mde_file_fingerprint(o->context, path, &size, &fingerprint) != MDE_OK) return;
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)fingerprint);
    mde_json_open(w, key, '{');
    mde_json_write_string(w, "path", path);
    mde_json_write_string(w, "fnv1a64", hash);
    mde_json_close(w);
}

/* A list of paths is an array. */
static void json_input(mde_json_writer *w, const char *key, const optimization *o, const char *path)
{
    char part[PROGRAM_PATH];
    if (!path) return;
    if (!program_is_list(path)) {
        json_file(w, key, o, path);
        return;
    }
    mde_json_open(w, key, '[');
    while (path) {
        path = program_list_path(o->context, path, part);
        json_file(w, NULL, o, part);
    }
    mde_json_close(w);
}

static void json_model(mde_json_writer *w, const optimization *o)
{
    const mde_evaluation *e = o->evaluation;
    int q, j;
    mde_json_open(w, "model", '{');
    mde_json_write_string(w, "asked", o->settings.model ? o->settings.model : "auto");
    mde_json_write_string(w, "chosen", e->candidate[e->chosen].name);
    mde_json_write_string(w, "reason", e->reason);
    mde_json_write_int(w, "runs", o->n);
    mde_json_write_int(w, "folds", e->folds);
    mde_json_write_number(w, "sd_factor", e->spread, 9);
    mde_json_open(w, "candidates", '[');
    for (q = 0; q < e->candidates; q++) {
        mde_json_open(w, NULL, '{');
        mde_json_write_string(w, "name", e->candidate[q].name);
        mde_json_write_number(w, "error", e->candidate[q].error, 9);
        mde_json_write_number(w, "behind", e->candidate[q].behind, 9);
        mde_json_write_number(w, "behind_standard_error", e->candidate[q].behind_se, 9);
        mde_json_write_number(w, "spearman", e->candidate[q].spearman, 9);
        mde_json_close(w);
    }
    mde_json_close(w);
    mde_json_open(w, "shares", '{');
    for (q = 0; q < mde_surrogate_members(o->surrogate); q++) {
        double share = 0;
        for (j = 0; j < o->m; j++) share += mde_surrogate_share(o->surrogate, j, q) / o->m;
        mde_json_write_number(w, mde_surrogate_member(o->surrogate, q), share, 9);
    }
    mde_json_close(w);
    mde_json_close(w);
}

static void json_prediction(mde_json_writer *w, const optimization *o)
{
    const mde_choice *b = &o->best;
    int j;
    mde_json_open(w, "predicted", '{');
    mde_json_open(w, "objective", '{');
    mde_json_write_number(w, "loss", b->loss, 9);
    mde_json_write_number(w, "sd", b->sd, 9);
    json_interval(w, "interval_90", b->loss - LEVEL_90 * b->sd, b->loss + LEVEL_90 * b->sd);
    mde_json_write_number(w, "best_run", o->best_tried, 9);
    mde_json_close(w);
    mde_json_open(w, "metrics", '[');
    for (j = 0; j < o->m; j++) {
        double half = LEVEL_90 * o->compared.loss_sd[j];
        mde_json_open(w, NULL, '{');
        mde_json_write_string(w, "name", o->runs->metric_names[j]);
        mde_json_write_number(w, "loss", o->compared.loss[j], 9);
        json_interval(w, "interval_90", o->compared.loss[j] - half, o->compared.loss[j] + half);
        mde_json_close(w);
    }
    mde_json_close(w);
    mde_json_close(w);
}

static void json_search(mde_json_writer *w, const optimization *o)
{
    const mde_choice *b = &o->best;
    int i;
    json_mixture(w, "mixture", o, b->weights);
    json_prediction(w, o);
    json_scales(w, o);
    mde_json_open(w, "bounds", '{');
    json_mixture(w, "lower", o, o->lower);
    json_mixture(w, "upper", o, o->upper);
    mde_json_close(w);
    mde_json_open(w, "bounds_of_next_runs", '{');
    json_mixture(w, "lower", o, o->allowed_lower);
    json_mixture(w, "upper", o, o->allowed_upper);
    mde_json_close(w);
    json_mixture(w, "prior", o, o->prior);
    mde_json_open(w, "active", '[');
    for (i = 0; i < o->k; i++) {
        if (!held_by_bound(o, i)) continue;
        mde_json_open(w, NULL, '{');
        mde_json_write_string(w, "domain", full_name(o, i));
        mde_json_write_string(w, "bound", b->active[i] > 0 ? "upper" : "lower");
        mde_json_write_number(w, "at", b->active[i] > 0 ? o->upper[i] : o->lower[i], 9);
        mde_json_write_number(w, "price", b->price[i], 9);
        if (b->active[i] > 0) mde_json_write_string(w, "because", o->upper_reason[i]);
        mde_json_close(w);
    }
    mde_json_close(w);
    mde_json_open(w, "without_bounds", '{');
    json_mixture(w, "mixture", o, o->unbounded.weights);
    mde_json_write_number(w, "loss", o->unbounded.loss, 9);
    mde_json_write_number(w, "sd", o->unbounded.sd, 9);
    mde_json_close(w);
}

static void json_experts(mde_json_writer *w, const optimization *o)
{
    int i, j;
    mde_json_open(w, "experts", '{');
    json_mixture(w, "mixture", o, o->minimum.weights);
    mde_json_write_number(w, "loss", o->minimum.loss, 9);
    mde_json_write_number(w, "gap", o->minimum.gap, 9);
    json_interval(w, "loss_interval_90", o->interval.loss[0], o->interval.loss[1]);
    if (*o->interval.note) mde_json_write_string(w, "intervals", o->interval.note);
    mde_json_open(w, "domains", '[');
    for (i = 0; i < o->k; i++) {
        mde_json_open(w, NULL, '{');
        mde_json_write_string(w, "name", full_name(o, i));
        json_interval(w, "weight_interval_90", o->interval.lower[i], o->interval.upper[i]);
        mde_json_write_number(w, "price", o->prices[i], 9);
        json_interval(w, "price_interval_90", o->prices[o->k + i], o->prices[2 * o->k + i]);
        mde_json_close(w);
    }
    mde_json_close(w);
    mde_json_open(w, "validations", '[');
    for (j = 0; j < mde_experts_validations(o->experts); j++) {
        double loss = o->text_losses[j];
        mde_json_open(w, NULL, '{');
        mde_json_write_string(w, "name", mde_experts_validation(o->experts, j));
        mde_json_write_int(w, "tokens", (int64_t)mde_experts_tokens(o->experts, j));
        mde_json_write_number(w, "loss", loss, 9);
        mde_json_write_number(w, "bits_per_byte", mde_bits_per_byte(o->experts, j, loss), 9);
        mde_json_close(w);
    }
    mde_json_close(w);
    mde_json_close(w);
}

static mde_text *report_json(const optimization *o)
{
    mde_text *t = mde_text_create(o->context);
    mde_json_writer w = mde_json_start(t, 3);
    const optimize_settings *s = &o->settings;
    char seed[24];
    int i, j;
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)s->seed);
    mde_json_open(&w, NULL, '{');
    mde_json_write_string(&w, "version", MDE_VERSION);
    mde_json_write_raw(&w, "seed", seed);
    mde_json_open(&w, "inputs", '{');
    json_input(&w, "ratios", o, s->ratios);
    json_input(&w, "losses", o, s->losses);
    json_input(&w, "test_ratios", o, s->test_ratios);
    json_input(&w, "test_losses", o, s->test_losses);
    json_input(&w, "domains", o, s->domains);
    json_input(&w, "compare", o, s->compare);
    json_input(&w, "anchor", o, s->anchor);
    mde_json_close(&w);
    if (o->m > 0) {
        mde_json_open(&w, "objective", '{');
        for (j = 0; j < o->m; j++) {
            const char *name = o->runs ? o->runs->metric_names[j] : o->metrics[j];
            if (o->objective[j] > 0) mde_json_write_number(&w, name, o->objective[j], 9);
        }
        mde_json_close(&w);
        mde_json_write_string(&w, "unit", o->unit);
    }
    if (o->evaluation) {
        json_model(&w, o);
        json_scores(&w, "held_out", o, o->held_out);
        mde_json_open(&w, "held_out_objective", '{');
        mde_json_write_number(&w, "spearman", o->objective_spearman, 9);
        json_interval(&w, "spearman_interval_90", o->objective_low, o->objective_high);
        mde_json_write_number(&w, "regret", o->regret, 9);
        mde_json_write_number(&w, "regret_of_chance", o->regret_of_chance, 9);
        mde_json_close(&w);
        mde_json_open(&w, "learning_curve", '[');
        for (i = 0; i < o->points; i++) {
            mde_json_open(&w, NULL, '{');
            mde_json_write_int(&w, "runs", o->curve[i].runs);
            mde_json_write_number(&w, "spearman", o->curve[i].spearman, 9);
            mde_json_write_number(&w, "error", o->curve[i].error, 9);
            mde_json_write_number(&w, "error_sd", o->curve[i].error_sd, 9);
            mde_json_close(&w);
        }
        mde_json_close(&w);
        json_search(&w, o);
    }
    if (o->evaluation) {
        json_compare(&w, o);
        json_tradeoff(&w, o);
    }
    if (o->tested) {
        const test_score *s_of = &o->tested_objective;
        json_scores(&w, "test", o, o->tested);
        mde_json_open(&w, "test_objective", '{');
        mde_json_write_number(&w, "spearman", s_of->spearman[0], 9);
        json_interval(&w, "spearman_interval_90", s_of->spearman[1], s_of->spearman[2]);
        mde_json_write_number(&w, "coverage_90", s_of->coverage, 9);
        mde_json_write_number(&w, "bias", s_of->bias, 9);
        mde_json_write_number(&w, "bias_standard_error", s_of->bias_error, 9);
        mde_json_close(&w);
    }
    if (o->experts) {
        if (!o->evaluation) json_mixture(&w, "mixture", o, o->minimum.weights);
        json_experts(&w, o);
    }
    mde_json_open(&w, "next_runs", '[');
    for (i = 0; i < o->suggested; i++) json_mixture(&w, NULL, o, o->next + i * o->k);
    mde_json_close(&w);
    if (o->spending.at) json_spending(&w, o);
    mde_json_write_string(&w, "warnings", o->warnings->bytes);
    mde_json_write_string(&w, "notes", o->notes->bytes);
    mde_json_close(&w);
    mde_json_end(&w);
    return t;
}

/* ---- As a page ---- */

static void page_warnings(mde_text *t, const optimization *o)
{
    const char *at = o->warnings->bytes;
    char line[2048];
    while (next_line(&at, line, sizeof line)) mde_text_format_html(t, "<p class=\"warn\">%s</p>\n", line);
    at = o->notes->bytes;
    while (next_line(&at, line, sizeof line)) mde_text_format_html(t, "<p class=\"note\">%s</p>\n", line);
}

static void page_mixture(mde_text *t, const optimization *o)
{
    static const char *const names[3] = { "best within bounds", "prior", "without bounds" };
    double *values = program_doubles(o->context, o->k, 3);
    const mde_choice *b = &o->best;
    int i, budget = o->settings.target_tokens > 0 && o->tokens[0] == o->tokens[0];
    mde_text_format_html(t, "<h2>The mixture</h2>\n<p>Predicted loss: <b>%.4f</b> %s, 90 %% interval %.4f to "
                            "%.4f. The best run that was made, %s, reached %.4f.</p>\n",
                         b->loss, o->unit, b->loss - LEVEL_90 * b->sd, b->loss + LEVEL_90 * b->sd,
                         o->runs->names[o->best_run], o->best_tried);
    for (i = 0; values && i < o->k; i++) {
        values[3 * i] = b->weights[i];
        values[3 * i + 1] = o->prior[i];
        values[3 * i + 2] = o->unbounded.weights[i];
    }
    if (values) {
        mde_text_add(t, "<div class=\"wide\">");
        plot_bars(t, "Weights of the domains", "weight", o->k, o->domains, 3, names, values);
        mde_text_add(t, "</div>\n");
    }
    mde_release(o->context, values);
    mde_text_add(t, "<div class=\"wide\"><table><tr><th>domain</th><th>weight</th><th>prior</th><th>tried</th>"
                    "<th>bounds</th><th>upper bound from</th>");
    if (budget) mde_text_add(t, "<th>epochs</th>");
    mde_text_add(t, "<th>shadow price</th><th>without bounds</th></tr>\n");
    for (i = 0; i < o->k; i++) {
        double open = o->unbounded.weights[i];
        mde_text_format_html(t, "<tr><td>%s</td>", o->domains[i]);
        program_page_number(t, b->weights[i], 4, 0);
        program_page_number(t, o->prior[i], 4, 0);
        program_page_range(t, o->tried_lower[i], o->tried_upper[i], 3);
        program_page_range(t, o->lower[i], o->upper[i], 3);
        mde_text_format_html(t, "<td>%s</td>", o->upper_reason[i]);
        if (budget) program_page_number(t, b->weights[i] * o->settings.target_tokens / o->tokens[i], 2, 0);
        if (held_by_bound(o, i) && b->price[i] != b->price[i]) mde_text_add(t, "<td>not known</td>");
        else program_page_number(t, held_by_bound(o, i) ? b->price[i] : (double)NAN, 3, b->active[i] > 0);
        program_page_number(t, open, 4, open > o->tried_upper[i] + 0.001);
        mde_text_add(t, "</tr>\n");
    }
    mde_text_format(t, "</table></div>\n<p class=\"note\">Shadow price: what the objective would gain, %s, per unit of "
                       "share beyond the bound that holds the weight (a tenth of it for a share of 0.1), given "
                       "or taken by the domain that is best for it; not known where bounds let no other move. "
                       "Marked in the last column: more than any run had. The search minimises the predicted loss plus "
                       "%.3g standard deviations, inside what was tried.%s</p>\n",
                    o->unit, o->settings.caution,
                    mde_surrogate_smooth(o->surrogate) ? "" : " Trees are steps: there are no prices.");
    if (o->best.loss != o->fresh_loss) {
        mde_text_format(t, "<p class=\"note\">Were the tokens of repeated domains fresh ones, the objective would be "
                           "%.4f; predictions here count them as Muennighoff et al. (2023) do, with their R* of %.1f, "
                           "the search as fresh up to the cap of the epochs.</p>\n", o->fresh_loss, REPEAT_REACH);
    }
}

static void page_scores(mde_text *t, const optimization *o, const metric_score *scores, int predicted)
{
    int j;
    mde_text_add(t, "<div class=\"wide\"><table><tr><th>loss</th><th>Spearman, %</th><th>90 % interval</th><th>MSE</th>"
                    "<th>90 % intervals hold</th>");
    if (predicted) mde_text_add(t, "<th>predicted for the mixture</th><th>90 % interval</th>");
    if (predicted && o->repeats > 0) mde_text_add(t, "<th>sd of repeated runs</th>");
    mde_text_add(t, "</tr>\n");
    for (j = 0; j <= o->m; j++) {
        mde_text_format_html(t, "<tr><td>%s</td>", j < o->m ? o->metrics[j] : "mean");
        program_page_number(t, 100 * scores[j].spearman, 2, 0);
        program_page_range(t, 100 * scores[j].low, 100 * scores[j].high, 2);
        program_page_number(t, scores[j].mse, 5, 0);
        program_page_number(t, 100 * scores[j].coverage, 1, 0);
        if (predicted && j < o->m) {
            double half = LEVEL_90 * o->compared.loss_sd[j];
            program_page_number(t, o->compared.loss[j], 4, 0);
            program_page_range(t, o->compared.loss[j] - half, o->compared.loss[j] + half, 4);
            if (o->repeats > 0) program_page_number(t, o->noise[j], 4, 0);
        }
        mde_text_add(t, "</tr>\n");
    }
    mde_text_add(t, "</table></div>\n");
}

/* Predicted against true objective of the runs, each predicted without its fold. */
static void page_scatter(mde_text *t, const optimization *o)
{
    double *points = program_doubles(o->context, 2, o->n);
    char label[64];
    plot_series series;
    plot_desc plot;
    int i;
    memset(&series, 0, sizeof series);
    memset(&plot, 0, sizeof plot);
    for (i = 0; points && i < o->n; i++) {
        double truth = objective_of(o, o->runs->losses + i * o->m);
        if (truth != truth) continue;
        points[series.count] = truth;
        points[o->n + series.count++] = objective_of(o, o->evaluation->predicted + i * o->m);
    }
    if (points) {
        series.x = points;
        series.y = points + o->n;
        series.points = 1;
        plot.title = "Objective of the runs, held out";
        snprintf(label, sizeof label, "true loss, %s", o->unit);
        plot.x_label = label;
        plot.y_label = "predicted";
        plot.diagonal = 1;
        plot.count = 1;
        plot.series = &series;
        mde_text_add(t, "<div class=\"wide\">");
        plot_xy(t, &plot);
        mde_text_add(t, "</div>\n");
    }
    mde_release(o->context, points);
}

static void page_curve(mde_text *t, const optimization *o)
{
    double x[CURVE_POINTS], y[CURVE_POINTS], doublings, factor;
    plot_series series;
    plot_desc plot;
    int i;
    mde_text_add(t, "<h2>Would more runs help?</h2>\n");
    if (o->points < 2) {
        mde_text_add(t, "<p>There are too few runs to say: a learning curve needs at least some dozens.</p>\n");
        return;
    }
    memset(&series, 0, sizeof series);
    memset(&plot, 0, sizeof plot);
    for (i = 0; i < o->points; i++) {
        x[i] = o->curve[i].runs;
        y[i] = o->curve[i].error;
    }
    series.x = x;
    series.y = y;
    series.count = o->points;
    plot.title = "Held-out error by number of runs";
    plot.x_label = "runs";
    plot.y_label = "squared error / variance";
    plot.log_x = plot.log_y = 1;
    plot.count = 1;
    plot.series = &series;
    mde_text_add(t, "<div class=\"wide\">");
    plot_xy(t, &plot);
    mde_text_add(t, "</div>\n");
    mde_text_add(t, "<table><tr><th>runs</th><th>Spearman, %</th><th>error</th><th>sd between subsets</th></tr>\n");
    for (i = 0; i < o->points; i++) {
        mde_text_format(t, "<tr><td>%d</td>", o->curve[i].runs);
        program_page_number(t, 100 * o->curve[i].spearman, 2, 0);
        program_page_number(t, o->curve[i].error, 5, 0);
        program_page_number(t, o->curve[i].error_sd, 5, 0);
        mde_text_add(t, "</tr>\n");
    }
    /* slope of the line through the first and the last point in logarithms, carried on to twice the runs */
    doublings = log(x[o->points - 1] / x[0]) / log(2.0);
    factor = exp(log(y[o->points - 1] / y[0]) / doublings);
    mde_text_format(t, "</table>\n<p>Each doubling of the runs multiplied the squared error by %.2f: twice as many "
                       "would %s.</p>\n", factor, factor < 0.8 ? "sharpen the predictions" : "change little");
}

static void page_models(mde_text *t, const optimization *o)
{
    const mde_evaluation *e = o->evaluation;
    int q, j;
    mde_text_format_html(t, "<h2>How far to trust it</h2>\n<p>Model: %s. Everything in this section is about runs that "
                            "the model had not seen: %d runs in %d folds, and whatever is chosen, the width of "
                            "intervals too, is chosen without the fold that judges it.</p>\n", e->reason, o->n,
                         e->folds);
    if (e->candidates > 1) {
        mde_text_add(t, "<div class=\"wide\"><table><tr><th>model</th><th>error / variance</th><th>above the chosen one"
                        "</th><th>standard error</th><th>mean Spearman, %</th><th>share in the stack</th></tr>\n");
        for (q = 0; q < e->candidates; q++) {
            double share = q >= 1 && q <= mde_surrogate_members(o->surrogate) ? 0 : (double)NAN;
            for (j = 0; share == share && j < o->m; j++) share += mde_surrogate_share(o->surrogate, j, q - 1) / o->m;
            mde_text_format_html(t, "<tr><td>%s</td>", e->candidate[q].name);
            program_page_number(t, e->candidate[q].error, 5, q == e->chosen);
            program_page_number(t, e->candidate[q].behind, 5, 0);
            program_page_number(t, e->candidate[q].behind_se, 5, 0);
            program_page_number(t, 100 * e->candidate[q].spearman, 2, 0);
            program_page_number(t, share, 2, 0);
            mde_text_add(t, "</tr>\n");
        }
        mde_text_add(t, "</table></div>\n");
    }
    mde_text_format(t, "<p>Rank correlation of the objective: %.2f %%, 90 %% interval %.2f to %.2f. Had it picked the "
                       "best of each tenth of the runs, the runs picked would be %.4f %s above the best "
                       "ones; picked blindly, %.4f.</p>\n", 100 * o->objective_spearman, 100 * o->objective_low,
                    100 * o->objective_high, o->regret, o->unit, o->regret_of_chance);
    page_scatter(t, o);
    page_scores(t, o, o->held_out, 1);
    if (o->repeats > 0) {
        mde_text_format(t, "<p class=\"note\">Repeated runs, of equal weights, give the noise between runs (%d degrees "
                           "of freedom).</p>\n", o->repeats);
    }
}

static void page_experts(mde_text *t, const optimization *o)
{
    int i, j;
    mde_text_format(t, "<h2>The experts alone</h2>\n<p>The exact minimum of the experts' mixture loss within the "
                       "bounds: <b>%.4f</b> nats a token", o->minimum.loss);
    if (o->interval.replicates) {
        mde_text_format(t, " (90 %% interval over %s %.4f to %.4f)", *o->interval.note ? "blocks" : "documents",
                        o->interval.loss[0], o->interval.loss[1]);
    }
    mde_text_format_html(t, ", certified to be at most %.2g above it.</p>\n<p class=\"note\">%s</p>\n", o->minimum.gap,
                         o->interval.note);
    mde_text_add(t, "<div class=\"wide\"><table><tr><th>domain</th><th>weight</th><th>90 % interval</th>"
                    "<th>price</th><th>90 % interval</th></tr>\n");
    for (i = 0; i < o->k; i++) {
        mde_text_format_html(t, "<tr><td>%s</td>", o->domains[i]);
        program_page_number(t, o->minimum.weights[i], 4, 0);
        program_page_range(t, o->interval.lower[i], o->interval.upper[i], 3);
        program_page_number(t, o->prices[i], 4, 0);
        program_page_range(t, o->prices[o->k + i], o->prices[2 * o->k + i], 4);
        mde_text_add(t, "</tr>\n");
    }
    mde_text_add(t, "</table></div>\n<p class=\"note\">Price: change of the loss per unit of share given to the domain "
                    "and taken from the mixture as a whole; below 0 it is worth more than it has.</p>\n"
                    "<div class=\"wide\"><table><tr><th>validation text</th><th>tokens</th><th>nats a token</th>"
                    "<th>bits a byte</th></tr>\n");
    for (j = 0; j < mde_experts_validations(o->experts); j++) {
        double loss = o->text_losses[j];
        mde_text_format_html(t, "<tr><td>%s</td>", mde_experts_validation(o->experts, j));
        program_page_number(t, (double)mde_experts_tokens(o->experts, j), 0, 0);
        program_page_number(t, loss, 4, 0);
        program_page_number(t, mde_bits_per_byte(o->experts, j, loss), 4, 0);
        mde_text_add(t, "</tr>\n");
    }
    mde_text_add(t, "</table></div>\n");
}

static void page_next(mde_text *t, const optimization *o)
{
    int i, q, spread = !o->surrogate || o->settings.acquisition == MDE_SPACE_FILLING;
    if (o->suggested == 0) return;
    mde_text_add(t, "<h2>The runs to make next</h2>\n<div class=\"wide\"><table><tr><th>domain</th>");
    for (q = 0; q < o->suggested; q++) mde_text_format(t, "<th>%d</th>", q + 1);
    mde_text_add(t, "</tr>\n");
    for (i = 0; i < o->k; i++) {
        mde_text_format_html(t, "<tr><td>%s</td>", o->domains[i]);
        for (q = 0; q < o->suggested; q++) program_page_number(t, o->next[q * o->k + i], 3, 0);
        mde_text_add(t, "</tr>\n");
    }
    if (o->spending.at) {
        page_spending(t, o);
        return;
    }
    mde_text_format(t, "</table></div>\n<p class=\"note\">%s <code>next_runs.csv</code> has them as a table of "
                       "mixtures.</p>\n",
                    spread ? "Spread over the space inside the bounds, far from all runs."
                           : "Those that promise most, each given the ones before it; none near to a run that was "
                             "made. They keep to the bounds that you gave, but unlike the mixture above they may "
                             "leave what was tried: for up to twice a domain's largest share, plus 0.05.");
}

/* How the objective of the test runs was met, in sentences. */
static void add_test_in_words(mde_text *t, const optimization *o)
{
    const test_score *s = &o->tested_objective;
    mde_text_format(t, "the objective is ranked with a Spearman correlation of %.2f %% (90 %% interval %.2f to %.2f); "
                       "its 90 %% intervals hold %.1f %%. ", 100 * s->spearman[0], 100 * s->spearman[1],
                    100 * s->spearman[2], 100 * s->coverage);
    if (fabs(s->bias) > 2 * s->bias_error) {
        mde_text_format(t, "Predictions are too %s by %.4f %s on average (standard error %.4f): the ranking holds, the "
                           "level does not.", s->bias < 0 ? "low" : "high", fabs(s->bias), o->unit, s->bias_error);
    } else {
        mde_text_format(t, "Their level is right within chance: off by %.4f on average, standard error %.4f.", s->bias,
                        s->bias_error);
    }
}

static mde_text *report_page(const optimization *o)
{
    mde_text *t = mde_text_create(o->context);
    char title[128];
    snprintf(title, sizeof title, "The best mixture of %d domains", o->k);
    program_page_open(t, "mdemix report", title);
    page_warnings(t, o);
    if (o->evaluation) {
        page_mixture(t, o);
        page_compare(t, o);
        page_scales(t, o);
        page_slices(t, o);
        page_effects(t, o);
        page_tradeoff(t, o);
        if (o->tested) {
            mde_text_format(t, "<h2>On %d runs kept for a test</h2>\n<p>", o->test->count);
            add_test_in_words(t, o);
            mde_text_add(t, "</p>\n");
            page_scores(t, o, o->tested, 0);
        }
        page_models(t, o);
        page_curve(t, o);
    }
    if (o->experts) page_experts(t, o);
    page_next(t, o);
    mde_text_format(t, "<p class=\"note\">mdemix %s, seed %llu. <code>report.json</code> holds all numbers, and the "
                       "hashes of the files they come from.</p>\n", MDE_VERSION,
                    (unsigned long long)o->settings.seed);
    program_page_close(t);
    return t;
}

/* ---- As text ---- */

/* In percent, in a column so wide; a dash for NaN. */
static void add_percent(mde_text *t, double share, int width)
{
    char format[16];
    snprintf(format, sizeof format, share == share ? "%%%d.2f" : "%%%ds", width);
    if (share == share) mde_text_format(t, format, 100 * share);
    else mde_text_format(t, format, "-");
}

/* One line a loss, NAME SPEARMAN MSE, with the Spearman correlation in %; the last one is the mean. */
static void add_score_lines(mde_text *t, const optimization *o, const metric_score *scores)
{
    int j, width = 4;
    for (j = 0; j < o->m; j++) {
        int length = (int)strlen(o->runs->metric_names[j]);
        if (length > width) width = length;
    }
    for (j = 0; j <= o->m; j++) {
        const char *name = j < o->m ? o->runs->metric_names[j] : "mean";
        int length;
        /* a name is one word */
        for (length = 0; name[length]; length++) {
            mde_text_format(t, "%c", name[length] >= 0 && name[length] <= ' ' ? '_' : name[length]);
        }
        for (; length <= width; length++) mde_text_add(t, " ");
        add_percent(t, scores[j].spearman, 6);
        mde_text_format(t, " %.5f\n", scores[j].mse);
    }
}

static int domain_width(const optimization *o)
{
    int width = 28, i;
    for (i = 0; i < o->k; i++) if ((int)strlen(o->domains[i]) > width) width = (int)strlen(o->domains[i]);
    return width;
}

static void summary_of_runs(mde_text *t, const optimization *o)
{
    const mde_choice *b = &o->best;
    int i, width = domain_width(o);
    mde_text_format(t, "%d runs, %d domains, %d losses\nmodel: %s\n\nheld out, %d folds: mean Spearman", o->n, o->k,
                    o->m, o->evaluation->reason, o->evaluation->folds);
    add_percent(t, o->held_out[o->m].spearman, 7);
    mde_text_add(t, " %, of the objective");
    add_percent(t, o->objective_spearman, 7);
    mde_text_add(t, " % (90 % interval");
    add_percent(t, o->objective_low, 7);
    mde_text_add(t, " to");
    add_percent(t, o->objective_high, 7);
    mde_text_add(t, "); 90 % intervals hold");
    add_percent(t, o->held_out[o->m].coverage, 7);
    mde_text_add(t, " %\n\n");
    add_name(t, "domain", width);
    mde_text_format(t, " %8s %8s %8s %8s %8s %9s\n", "weight", "prior", "minimum", "maximum", "price", "unbounded");
    for (i = 0; i < o->k; i++) {
        add_name(t, o->domains[i], width);
        mde_text_format(t, " %8.4f %8.4f %8.4f %8.4f ", b->weights[i], o->prior[i], o->lower[i], o->upper[i]);
        if (held_by_bound(o, i) && b->price[i] != b->price[i]) mde_text_format(t, "%8s", "unknown");
        else if (held_by_bound(o, i)) mde_text_format(t, "%8.3f", b->price[i]);
        else mde_text_format(t, "%8s", "");
        mde_text_format(t, " %9.4f\n", o->unbounded.weights[i]);
    }
    mde_text_format(t, "\npredicted loss %.4f %s, 90 %% interval %.4f to %.4f; best run %.4f; without bounds "
                       "%.4f\n", b->loss, o->unit, b->loss - LEVEL_90 * b->sd, b->loss + LEVEL_90 * b->sd,
                    o->best_tried, o->unbounded.loss);
}

static mde_text *summary_text(const optimization *o)
{
    mde_text *t = mde_text_create(o->context);
    const char *at = o->warnings->bytes;
    char line[2048];
    int i;
    const char *note = o->notes->bytes;
    while (next_line(&note, line, sizeof line)) mde_text_format(t, "note: %s\n", line);
    if (o->evaluation) summary_of_runs(t, o);
    if (o->evaluation) add_scales(t, o);
    if (o->evaluation) add_compared(t, o);
    if (o->experts) {
        int known = o->interval.replicates > 0;
        mde_text_format(t, "%sexperts alone: %.4f nats a token", o->evaluation ? "\n" : "", o->minimum.loss);
        if (known) mde_text_format(t, ", 90 %% interval %.4f to %.4f", o->interval.loss[0], o->interval.loss[1]);
        mde_text_format(t, ", at most %.2g above the minimum\n", o->minimum.gap);
        if (*o->interval.note) mde_text_format(t, "%s\n", o->interval.note);
        add_name(t, "domain", domain_width(o));
        mde_text_format(t, " %8s %18s %9s %18s\n", "weight", known ? "90 % interval" : "", "price",
                        known ? "90 % interval" : "");
        for (i = 0; i < o->k; i++) {
            add_name(t, o->domains[i], domain_width(o));
            mde_text_format(t, " %8.4f", o->minimum.weights[i]);
            if (known) mde_text_format(t, " %9.4f %8.4f", o->interval.lower[i], o->interval.upper[i]);
            mde_text_format(t, known ? " %9.4f %9.4f %8.4f\n" : " %28.4f\n", o->prices[i], o->prices[o->k + i],
                            o->prices[2 * o->k + i]);
        }
    }
    if (o->spending.at) {
        add_spending(t, o);
    } else if (o->suggested > 0) {
        mde_text_format(t, "\n%d runs to make next: next_runs.csv%s\n", o->suggested,
                        o->surrogate ? "; they may leave what was tried, the mixture above does not" : "");
    }
    if (*at) mde_text_add(t, "\n");
    while (next_line(&at, line, sizeof line)) mde_text_format(t, "warning: %s\n", line);
    if (o->tested) {
        mde_text_format(t, "\non %d test runs: ", o->test->count);
        add_test_in_words(t, o);
        mde_text_add(t, "\nloss, Spearman in %, MSE\n");
        add_score_lines(t, o, o->tested);
    }
    return t;
}

/* ---- Files ---- */

static mde_text *mixture_json(const optimization *o)
{
    mde_text *t = mde_text_create(o->context);
    mde_json_writer w = mde_json_start(t, 0);
    json_mixture(&w, NULL, o, chosen_mixture(o));
    mde_json_end(&w);
    return t;
}

static void write_output(const optimization *o, mde_text *text, const char *file)
{
    program_write(o->context, text, o->settings.out, file);
    if (o->settings.work) program_work_made(o->settings.work, file);
}

/* All texts are made before the first is written. */
static void write_report(const optimization *o)
{
    mde_text *json = report_json(o), *page = report_page(o), *next = next_table(o);
    mde_text *mixture = chosen_mixture(o) ? mixture_json(o) : NULL;
    mde_text *held_out = o->evaluation ? held_out_table(o) : NULL, *compare = o->evaluation ? compare_table(o) : NULL;
    write_output(o, json, "report.json");
    write_output(o, page, "report.html");
    if (mixture) write_output(o, mixture, "mixture.json");
    if (held_out) write_output(o, held_out, "held_out.csv");
    if (compare) write_output(o, compare, "compare.csv");
    if (o->suggested > 0) write_output(o, next, "next_runs.csv");
    mde_text_free(compare);
    mde_text_free(held_out);
    mde_text_free(mixture);
    mde_text_free(next);
    mde_text_free(page);
    mde_text_free(json);
}

#endif /* MIX_REPORT_H */
