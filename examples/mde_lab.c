/* The whole method on real text: trains one expert a domain and some proxies, predicts the loss of any mixture, finds
   the best one, trains it to see whether that is true, and writes a report.
     cc -O2 -fopenmp examples/mde_lab.c -o mde_lab -lm     (without -fopenmp: one thread)
     ./mde_lab run out/demo                                 on six kinds of text that the program makes up
     ./mde_lab run out/real --data texts --preset small     each folder or file in texts/ is a domain

   Every step is files in one folder. A finished one is skipped, and a run that was cut off continues from its
   checkpoint to the same bits:
     plan      plan.json, see mde_lab_runs.h; Makefile and slurm.sbatch, see jobs.h; --mixtures adds proxies to it later
     tasks     the training runs
     fit       tables (ratios.csv, losses.csv, features.csv, ... and .npy), regressions compared by cross-validation
     search    the best mixture for three objectives; mixture.json, search.json
     verify    trains the mixtures found; verify.csv
   With --sizes, proxies of larger models, too: fit writes them to sizes.csv, search moves losses to the largest by a
   law of their parameters and says the mixture for it, which verify trains there, beside others.
     report    report.html and report.json, see mde_lab_report.h */
#define MDEDEF static /* what this program does not call is not compiled */
#define MDEMIX_IMPLEMENTATION
#if __has_include("../mdemix.h") /* in the repository; a copy beside this file does as well */
#include "../mdemix.h"
#else
#include "mdemix.h"
#endif
#include "program.h"
#include "jobs.h"
#include "mde_lab_runs.h"
#include "mde_lab_report.h"

/* ---- Fit: which regression predicts proxies that it has not seen ---- */

static mde_surrogate_desc regression_desc(const experiment *x, const mde_experts *experts, const regression *which)
{
    mde_surrogate_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.fit.model = which->model;
    desc.fit.seed = x->settings.seed;
    desc.features = which->features;
    desc.experts = experts;
    return desc;
}

/* On all proxies. */
static mde_surrogate *fit_regression(experiment *x, const tables *t, const regression *which)
{
    mde_surrogate_desc desc = regression_desc(x, t->experts, which);
    return mde_surrogate_fit(x->context, t->n, t->k, t->v, t->proxy_weights, t->proxy_losses, &desc);
}

static int fold_count(const tables *t)
{
    return t->n < 16 ? t->n : 8;
}

/* Predictions [n, v] of every proxy by a model that has not seen it. */
static void cross_validate(experiment *x, const tables *t, const regression *which, double *predicted)
{
    mde_surrogate_desc desc = regression_desc(x, t->experts, which);
    size_t size = (size_t)t->n * (size_t)t->v * sizeof *predicted;
    mde_evaluate_desc how;
    mde_evaluation *e;
    memset(&how, 0, sizeof how);
    how.folds = fold_count(t);
    how.seed = x->settings.seed;
    if (!which->fitted) {
        memcpy(predicted, t->proxy_features, size);
        return;
    }
    e = mde_evaluate(x->context, t->n, t->k, t->v, t->proxy_weights, t->proxy_losses, &desc, &how);
    if (e) memcpy(predicted, e->predicted, size);
    mde_evaluation_free(e);
}

typedef struct fit_score {
    double mse[OBJECTIVES], spearman[OBJECTIVES], domain_spearman;
} fit_score;

static void score_predictions(experiment *x, const tables *t, const double *predicted, fit_score *out)
{
    double *a = program_doubles(x->context, 2, t->n), *b = a ? a + t->n : NULL;
    int o, i, j;
    memset(out, 0, sizeof *out);
    for (o = 0; o < OBJECTIVES && a; o++) {
        for (i = 0; i < t->n; i++) {
            a[i] = objective_value(t->k, o, predicted + i * t->v);
            b[i] = objective_value(t->k, o, t->proxy_losses + i * t->v);
        }
        out->mse[o] = mde_mse(t->n, a, b);
        out->spearman[o] = mde_spearman(x->context, t->n, a, b);
    }
    for (j = 0; j < t->k && a; j++) {
        for (i = 0; i < t->n; i++) {
            a[i] = predicted[i * t->v + j];
            b[i] = t->proxy_losses[i * t->v + j];
        }
        out->domain_spearman += mde_spearman(x->context, t->n, a, b) / t->k;
    }
    mde_release(x->context, a);
}

static void add_predictions(mde_text *csv, const experiment *x, const tables *t, const char *model,
                            const double *predicted)
{
    int i, j, first = x->own - t->n;
    for (i = 0; i < t->n; i++) {
        for (j = 0; j < t->v; j++) {
            mde_text_add_csv(csv, model);
            mde_text_add(csv, ",");
            mde_text_add_csv(csv, x->tasks[first + i].name);
            mde_text_add(csv, ",");
            mde_text_add_csv(csv, validation_name(x, j));
            mde_text_format(csv, ",%.9g,%.9g\n", predicted[i * t->v + j], t->proxy_losses[i * t->v + j]);
        }
    }
}

static void json_score(mde_json_writer *w, const char *model, const fit_score *score)
{
    int o;
    mde_json_open(w, NULL, '{');
    mde_json_write_string(w, "model", model);
    for (o = 0; o < OBJECTIVES; o++) {
        mde_json_open(w, objective_names[o], '{');
        mde_json_write_number(w, "mse", score->mse[o], 6);
        mde_json_write_number(w, "spearman", score->spearman[o], 6);
        mde_json_close(w);
    }
    mde_json_write_number(w, "mean_domain_spearman", score->domain_spearman, 6);
    mde_json_close(w);
}

/* Compares the regressions: rows of predictions.csv, entries of fit.json; best [OBJECTIVES] is the choice. */
static void compare_regressions(experiment *x, const tables *t, mde_json_writer *w, mde_text *csv, int *best)
{
    mde_context *c = x->context;
    double *predicted = program_doubles(c, t->n, t->v), best_mse[OBJECTIVES];
    fit_score score;
    int i, o;
    for (o = 0; o < OBJECTIVES; o++) best[o] = -1;
    for (i = 0; i < REGRESSIONS && !program_failed(c); i++) {
        if (program_step(c, x->progress, x->user, "fit", i, REGRESSIONS)) break;
        cross_validate(x, t, &regressions[i], predicted);
        if (program_failed(c)) break;
        score_predictions(x, t, predicted, &score);
        add_predictions(csv, x, t, regressions[i].name, predicted);
        json_score(w, regressions[i].name, &score);
        for (o = 0; o < OBJECTIVES; o++) {
            if (!regressions[i].fitted || (best[o] >= 0 && !(score.mse[o] < best_mse[o]))) continue;
            best[o] = i;
            best_mse[o] = score.mse[o];
        }
    }
    mde_release(c, predicted);
}

static mde_status fit(experiment *x)
{
    mde_context *c = x->context;
    mde_text *json = mde_text_create(c), *csv = mde_text_create(c);
    mde_json_writer w = mde_json_start(json, 2);
    tables t;
    int best[OBJECTIVES], o;
    if (load_tables(x, &t) == MDE_OK) write_tables(x, &t);
    if (x->sizes > 0) write_sizes(x);
    mde_text_add(csv, "model,run,validation,predicted,true\n");
    mde_json_open(&w, NULL, '{');
    mde_json_write_string(&w, "settings", x->key);
    mde_json_write_int(&w, "proxies", t.n);
    mde_json_write_int(&w, "folds", fold_count(&t));
    mde_json_open(&w, "models", '[');
    compare_regressions(x, &t, &w, csv, best);
    mde_json_close(&w);
    mde_json_open(&w, "chosen", '{');
    for (o = 0; o < OBJECTIVES && !program_failed(c); o++) {
        mde_json_write_string(&w, objective_names[o], regressions[best[o]].name);
    }
    mde_json_close(&w);
    mde_json_close(&w);
    mde_json_end(&w);
    program_write(c, csv, x->out, "predictions.csv");
    program_write(c, json, x->out, "fit.json");
    if (!program_failed(c)) program_step(c, x->progress, x->user, "fit", REGRESSIONS, REGRESSIONS);
    mde_text_free(json);
    mde_text_free(csv);
    tables_free(x, &t);
    return mde_context_status(c);
}

/* ---- Search: the mixtures that it promises most of ---- */

/* The regression that cross-validation chose for an objective. */
static const regression *chosen_regression(experiment *x, const mde_json *fitted, int objective)
{
    const char *name = mde_json_string(mde_json_get(fitted, "chosen"), objective_names[objective], "");
    int i;
    for (i = 0; i < REGRESSIONS; i++) {
        if (strcmp(regressions[i].name, name) == 0) return &regressions[i];
    }
    mde_fail(x->context, MDE_BAD_FILE, "%s/fit.json: model \"%s\" is not known", x->out, name);
    return NULL;
}

static void json_mixture(mde_json_writer *w, const char *key, const experiment *x, const double *weights)
{
    int i;
    mde_json_open(w, key, '{');
    for (i = 0; i < x->domains; i++) mde_json_write_number(w, mde_corpus_name(x->corpus, i), weights[i], 17);
    mde_json_close(w);
}

/* The mixture that minimises the experts' own loss, with the certificate and the bootstrap's intervals. */
static void search_experts(experiment *x, const tables *t, int objective, const double *lower, const double *upper,
                           mde_json_writer *w)
{
    double shares[MDE_MAX_DOMAINS + 1], ends[2];
    mde_minimize_desc minimize;
    mde_bootstrap_desc resample;
    const mde_optimum *best;
    mde_bootstrap interval;
    int i;
    memset(&minimize, 0, sizeof minimize);
    memset(&resample, 0, sizeof resample);
    objective_weights(t->k, objective, shares);
    minimize.objective = shares;
    minimize.lower = lower;
    minimize.upper = upper;
    resample.minimize = &minimize;
    resample.replicates = 100;
    resample.seed = x->settings.seed;
    if (mde_mixture_bootstrap(t->experts, &resample, &interval) != MDE_OK) return;
    best = &interval.optimum;
    mde_json_open(w, objective_names[objective], '{');
    mde_json_write_number(w, "loss", best->loss, 9);
    mde_json_write_number(w, "gap", best->gap, 6);
    mde_json_write_numbers(w, "loss_interval_90", 2, interval.loss, 9);
    mde_json_write_string(w, "intervals", interval.note);
    json_mixture(w, "weights", x, best->weights);
    mde_json_open(w, "weights_interval_90", '{');
    for (i = 0; i < t->k; i++) {
        ends[0] = interval.lower[i];
        ends[1] = interval.upper[i];
        mde_json_write_numbers(w, mde_corpus_name(x->corpus, i), 2, ends, 6);
    }
    mde_json_close(w);
    mde_json_open(w, "shadow_prices", '{');     /* of the bounds that hold a weight; null where none is known */
    for (i = 0; i < t->k && lower; i++) {
        if (best->active[i] > 0 || (best->active[i] < 0 && lower[i] > 0)) {
            mde_json_write_number(w, mde_corpus_name(x->corpus, i), best->price[i], 6);
        }
    }
    mde_json_close(w);
    mde_json_close(w);
}

/* The weights of one objective's mixture and its predicted loss. */
static void search_objective(experiment *x, const tables *t, const mde_json *fitted, int objective, const double *lower,
                             const double *upper, mde_json_writer *w, double *weights)
{
    const regression *chosen = chosen_regression(x, fitted, objective);
    mde_surrogate *s = chosen ? fit_regression(x, t, chosen) : NULL;
    double shares[MDE_MAX_DOMAINS + 1];
    mde_choose_desc desc;
    mde_choice best;
    memset(&desc, 0, sizeof desc);
    objective_weights(t->k, objective, shares);
    desc.objective = shares;
    desc.lower = lower;
    desc.upper = upper;
    desc.tried = t->proxy_weights;
    desc.runs = t->n;
    desc.seed = x->settings.seed;
    desc.progress = x->progress;
    desc.user = x->user;
    if (s && mde_surrogate_minimize(s, &desc, &best) == MDE_OK) {
        memcpy(weights, best.weights, (size_t)t->k * sizeof *weights);
        mde_json_open(w, objective_names[objective], '{');
        mde_json_write_string(w, "model", chosen->name);
        mde_json_write_number(w, "predicted", best.loss, 9);
        mde_json_write_number(w, "sd", best.sd, 6);
        json_mixture(w, "weights", x, weights);
        mde_json_close(w);
    }
    mde_surrogate_free(s);
}

/* Proxies of all sizes, as rows of weights and log N: x [rows, k + 2], y [rows, v]; log D is the same for all. */
static int load_sizes(experiment *x, const tables *t, double *rows, double *losses)
{
    mde_context *c = x->context;
    int i, j, count = 0;
    for (i = 0; i < x->count && !program_failed(c); i++) {
        const task *which = &x->tasks[i];
        mde_safetensors *run = which->kind == PROXY ? read_run(x, c, which) : NULL;
        double *row = rows + count * (t->k + 2);
        if (which->kind != PROXY) continue;
        if (!run) {
            mde_fail(c, MDE_BAD_ARGUMENT, "%s: task %d (%s) is not finished; run it first", x->out, i, which->name);
            break;
        }
        memcpy(row, which->weights, (size_t)t->k * sizeof *row);
        row[t->k] = log(x->size[which->size].params);
        row[t->k + 1] = log((double)x->settings.tokens);
        for (j = 0; j < t->v; j++) losses[count * t->v + j] = (double)mde_safetensors_find(run, "losses")->data[j];
        count++;
        mde_safetensors_free(c, run);
    }
    return count;
}

/* The law of all losses in the form, additive or joint, with the smaller errors for mixtures left out. */
static mde_regressor *fit_sizes(experiment *x, const tables *t, const char **form)
{
    mde_context *c = x->context;
    double *rows = program_doubles(c, x->count, t->k + 2), *losses = program_doubles(c, x->count, 2 * t->v), error[2];
    double *left = losses ? losses + x->count * t->v : NULL;
    int count = rows && losses ? load_sizes(x, t, rows, losses) : 0, joint, i, j;
    mde_regressor *law[2] = { NULL, NULL };
    mde_fit_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.model = MDE_SCALE_LAW;
    for (joint = 0; joint < 2 && !program_failed(c); joint++) {
        desc.interactions = joint;
        law[joint] = mde_regressor_fit(c, count, t->k + 2, t->v, rows, losses, &desc);
        if (law[joint]) mde_regressor_left_out(law[joint], left);
        error[joint] = 0;
        for (j = 0; j < t->v; j++) {
            double squares = 0, spread = 0, mean = 0;
            for (i = 0; i < count; i++) mean += losses[i * t->v + j] / count;
            for (i = 0; i < count; i++) {
                double y = losses[i * t->v + j];
                squares += (left[i * t->v + j] - y) * (left[i * t->v + j] - y);
                spread += (y - mean) * (y - mean);
            }
            if (spread > 0) error[joint] += squares / spread;
        }
    }
    joint = !program_failed(c) && error[1] < error[0];
    *form = joint ? "joint" : "additive";
    mde_regressor_free(law[!joint]);
    mde_release(c, rows);
    mde_release(c, losses);
    return law[joint];
}

/* Losses [v] of a mixture at a size by the law, and their sds. */
static void law_at(const experiment *x, const tables *t, const mde_regressor *law, const double *weights, int size,
                   double *mean, double *sd)
{
    double row[MDE_MAX_DOMAINS + 2];
    memcpy(row, weights, (size_t)t->k * sizeof *row);
    row[t->k] = log(x->size[size].params);
    row[t->k + 1] = log((double)x->settings.tokens);
    mde_regressor_predict(law, 1, row, mean, sd);
}

/* What the objective of a mixture is predicted to be at the largest size, and the sd: that of the regression, whose
   runs' losses are moved there, and what the law adds on the way. */
static void json_transferred(experiment *x, const tables *t, const mde_regressor *law, const mde_surrogate *s,
                             const char *name, const double *weights, mde_json_writer *w)
{
    double shares[MDE_MAX_DOMAINS + 1], mean[MDE_MAX_DOMAINS + 1], sd[MDE_MAX_DOMAINS + 1], here[MDE_MAX_DOMAINS + 1];
    double there[MDE_MAX_DOMAINS + 1], unused[MDE_MAX_DOMAINS + 1], value = 0, spread = 0, added = 0;
    int j;
    objective_weights(t->k, objective_index(x), shares);
    if (mde_surrogate_predict(s, 1, weights, mean, sd)) return;
    law_at(x, t, law, weights, 0, unused, here);
    law_at(x, t, law, weights, x->sizes, unused, there);
    for (j = 0; j < t->v; j++) {
        value += shares[j] * mean[j];
        spread += shares[j] * sd[j];
        if (there[j] > here[j]) added += shares[j] * sqrt(there[j] * there[j] - here[j] * here[j]);
    }
    mde_json_open(w, name, '{');
    mde_json_write_number(w, "predicted", value, 9);
    mde_json_write_number(w, "sd", sqrt(spread * spread + added * added), 6);
    json_mixture(w, "weights", x, weights);
    mde_json_close(w);
}

/* The mixture for the largest size: the proxies' losses, moved there by the law, take the place of what they were, and
   the regression that was chosen, and its search, are as for the plan's own size. weights comes as the mixture for that
   size, and goes as the one for the largest. */
static void search_sizes(experiment *x, const tables *t, const mde_json *fitted, const double *lower,
                         const double *upper, mde_json_writer *w, double *weights)
{
    mde_context *c = x->context;
    const regression *chosen = chosen_regression(x, fitted, objective_index(x));
    const char *form = "";
    mde_regressor *law = chosen ? fit_sizes(x, t, &form) : NULL;
    double *moved = program_doubles(c, t->n, t->v), shares[MDE_MAX_DOMAINS + 1];
    double here[MDE_MAX_DOMAINS + 1], there[MDE_MAX_DOMAINS + 1];
    tables at_largest = *t;
    mde_surrogate *s = NULL;
    mde_choose_desc desc;
    mde_choice best;
    int i, j;
    for (i = 0; i < t->n && law && moved; i++) {
        law_at(x, t, law, t->proxy_weights + i * t->k, 0, here, NULL);
        law_at(x, t, law, t->proxy_weights + i * t->k, x->sizes, there, NULL);
        for (j = 0; j < t->v; j++) moved[i * t->v + j] = t->proxy_losses[i * t->v + j] + there[j] - here[j];
    }
    at_largest.proxy_losses = moved;
    if (!program_failed(c)) s = fit_regression(x, &at_largest, chosen);
    memset(&desc, 0, sizeof desc);
    objective_weights(t->k, objective_index(x), shares);
    desc.objective = shares;
    desc.lower = lower;
    desc.upper = upper;
    desc.tried = t->proxy_weights;
    desc.runs = t->n;
    desc.seed = x->settings.seed;
    desc.progress = x->progress;
    desc.user = x->user;
    if (s && mde_surrogate_minimize(s, &desc, &best) == MDE_OK) {
        mde_json_open(w, "sizes", '{');
        mde_json_write_string(w, "largest", x->size[x->sizes].name);
        mde_json_write_number(w, "params", x->size[x->sizes].params, 9);
        mde_json_write_string(w, "form", form);
        json_transferred(x, t, law, s, transfer_names[0], best.weights, w);
        json_transferred(x, t, law, s, transfer_names[1], weights, w);
        json_transferred(x, t, law, s, "uniform", x->tasks[t->k].weights, w);
        json_transferred(x, t, law, s, "proportional", x->tasks[t->k + 1].weights, w);
        mde_json_close(w);
        memcpy(weights, best.weights, (size_t)t->k * sizeof *weights);
    }
    mde_surrogate_free(s);
    mde_regressor_free(law);
    mde_release(c, moved);
}

/* For each objective: the experts' minimum without and with bounds, and the regression's. mixture.json gets that of the
   plan's objective, where there are larger sizes the one for the largest. */
static void search_all(experiment *x, const tables *t, const mde_json *fitted, mde_json_writer *w, mde_text *mixture)
{
    mde_context *c = x->context;
    mde_json_writer single = mde_json_start(mixture, 0);
    double lower[MDE_MAX_DOMAINS], upper[MDE_MAX_DOMAINS], weights[MDE_MAX_DOMAINS], chosen[MDE_MAX_DOMAINS] = { 0 };
    int o;
    /* A regression is not to be trusted outside what was tried. */
    mde_bounds_of_runs(t->n, t->k, t->proxy_weights, 0, lower, upper);
    mde_json_open(w, NULL, '{');
    mde_json_write_string(w, "settings", x->key);
    json_mixture(w, "lower", x, lower);
    json_mixture(w, "upper", x, upper);
    if (program_step(c, x->progress, x->user, "search", 0, OBJECTIVES + 1)) return;
    mde_json_open(w, "mde", '{');
    for (o = 0; o < OBJECTIVES && !program_failed(c); o++) search_experts(x, t, o, NULL, NULL, w);
    mde_json_close(w);
    mde_json_open(w, "mde_bounded", '{');
    for (o = 0; o < OBJECTIVES && !program_failed(c); o++) search_experts(x, t, o, lower, upper, w);
    mde_json_close(w);
    mde_json_open(w, "objectives", '{');
    for (o = 0; o < OBJECTIVES && !program_failed(c); o++) {
        if (program_step(c, x->progress, x->user, "search", o + 1, OBJECTIVES + 1)) return;
        search_objective(x, t, fitted, o, lower, upper, w, weights);
        if (o == objective_index(x)) memcpy(chosen, weights, sizeof chosen);
    }
    mde_json_close(w);
    if (x->sizes > 0 && !program_failed(c)) search_sizes(x, t, fitted, lower, upper, w, chosen);
    if (!program_failed(c)) json_mixture(&single, NULL, x, chosen);
    mde_json_close(w);
    mde_json_end(w);
    mde_json_end(&single);
}

static mde_status search(experiment *x)
{
    mde_context *c = x->context;
    mde_json *fitted = read_step(x, "fit.json", "fit");
    mde_text *json = mde_text_create(c), *mixture = mde_text_create(c);
    mde_json_writer w = mde_json_start(json, 3);
    tables t;
    if (load_tables(x, &t) == MDE_OK) search_all(x, &t, fitted, &w, mixture);
    program_write(c, mixture, x->out, "mixture.json");
    program_write(c, json, x->out, "search.json");
    if (!program_failed(c)) program_step(c, x->progress, x->user, "search", OBJECTIVES + 1, OBJECTIVES + 1);
    mde_text_free(json);
    mde_text_free(mixture);
    mde_json_free(c, fitted);
    tables_free(x, &t);
    return mde_context_status(c);
}

/* ---- Verify: trains them ---- */

/* The mixtures found, as tasks; their names are constants. */
static void read_best_tasks(experiment *x, const mde_json *found, task *best)
{
    int o, i;
    for (o = 0; o < OBJECTIVES; o++) {
        const mde_json *entry = mde_json_get(mde_json_get(found, "objectives"), objective_names[o]);
        const mde_json *weights = mde_json_get(entry, "weights");
        memset(&best[o], 0, sizeof best[o]);
        best[o].name = best_names[o];
        best[o].kind = BEST;
        for (i = 0; i < x->domains; i++) {
            best[o].weights[i] = mde_json_number(weights, mde_corpus_name(x->corpus, i), (double)NAN);
            if (best[o].weights[i] >= 0) continue;
            mde_fail(x->context, MDE_BAD_FILE, "%s/search.json: has no weight of %s", x->out,
                     mde_corpus_name(x->corpus, i));
        }
    }
}

/* One row of verify: what a mixture was predicted to reach and what it reached, for the three objectives. */
static void add_verified(experiment *x, const tables *t, const task *which, mde_surrogate *const *s, mde_text *csv,
                         mde_json_writer *w)
{
    mde_context *c = x->context;
    mde_safetensors *run = read_run(x, c, which);
    double truth[MDE_MAX_DOMAINS + 1], mean[MDE_MAX_DOMAINS + 1], sd[MDE_MAX_DOMAINS + 1], accuracy;
    int j, o;
    if (!run) {
        mde_fail(c, MDE_BAD_FILE, "%s/runs/%s.safetensors: cannot be read back", x->out, which->name);
        return;
    }
    for (j = 0; j < t->v; j++) truth[j] = (double)mde_safetensors_find(run, "losses")->data[j];
    accuracy = (double)mde_safetensors_find(run, "accuracy")->data[0];
    mde_text_add_csv(csv, which->name);
    mde_json_open(w, NULL, '{');
    mde_json_write_string(w, "mixture", which->name);
    for (o = 0; o < OBJECTIVES && !program_failed(c); o++) {
        double predicted, spread, value = objective_value(t->k, o, truth);
        if (mde_surrogate_predict(s[o], 1, which->weights, mean, sd) != MDE_OK) break;
        predicted = objective_value(t->k, o, mean);
        spread = objective_value(t->k, o, sd);
        mde_text_format(csv, ",%.9g,%.6g,%.9g", predicted, spread, value);
        mde_json_open(w, objective_names[o], '{');
        mde_json_write_number(w, "predicted", predicted, 9);
        mde_json_write_number(w, "sd", spread, 6);
        mde_json_write_number(w, "true", value, 9);
        mde_json_close(w);
    }
    mde_text_format(csv, ",%.6g\n", accuracy);
    mde_json_write_number(w, "accuracy", accuracy, 6);
    json_mixture(w, "weights", x, which->weights);
    mde_json_close(w);
    mde_safetensors_free(c, run);
}

/* The proxy whose true value of an objective is the lowest: what one would take without any regression. */
static const task *best_proxy(const experiment *x, const tables *t, int objective)
{
    int i, best = 0;
    for (i = 1; i < t->n; i++) {
        if (objective_value(t->k, objective, t->proxy_losses + i * t->v) <
            objective_value(t->k, objective, t->proxy_losses + best * t->v))
            best = i;
    }
    return &x->tasks[x->own - t->n + best];
}

/* The mixtures to train at the largest size; their names are constants. */
static void read_transfer_tasks(experiment *x, const mde_json *found, task *out)
{
    int q, i;
    for (q = 0; q < 2; q++) {
        const mde_json *row = mde_json_get(mde_json_get(found, "sizes"), transfer_names[q]);
        const mde_json *weights = mde_json_get(row, "weights");
        memset(&out[q], 0, sizeof out[q]);
        out[q].name = transfer_names[q];
        out[q].kind = BEST;
        out[q].size = x->sizes;
        for (i = 0; i < x->domains; i++) {
            out[q].weights[i] = mde_json_number(weights, mde_corpus_name(x->corpus, i), (double)NAN);
            if (out[q].weights[i] >= 0) continue;
            mde_fail(x->context, MDE_BAD_FILE, "%s/search.json: has no weight of %s", x->out,
                     mde_corpus_name(x->corpus, i));
        }
    }
}

/* What they were predicted to reach there and what they reached. */
static void add_transferred(experiment *x, const mde_json *found, const task *trained, mde_json_writer *w)
{
    const task *which[4];
    int q, j;
    which[0] = &trained[0];
    which[1] = &trained[1];
    which[2] = &x->tasks[x->count - (x->count - x->own) / x->sizes];
    which[3] = which[2] + 1;
    mde_json_open(w, "largest", '[');
    for (q = 0; q < 4 && !program_failed(x->context); q++) {
        const char *names[4] = { transfer_names[0], transfer_names[1], "uniform", "proportional" };
        const mde_json *entry = mde_json_get(mde_json_get(found, "sizes"), names[q]);
        mde_safetensors *run = read_run(x, x->context, which[q]);
        double truth[MDE_MAX_DOMAINS + 1];
        if (!run) {
            mde_fail(x->context, MDE_BAD_FILE, "%s/runs/%s.safetensors: cannot be read back", x->out, which[q]->name);
            break;
        }
        for (j = 0; j < validations(x); j++) truth[j] = (double)mde_safetensors_find(run, "losses")->data[j];
        mde_json_open(w, NULL, '{');
        mde_json_write_string(w, "mixture", names[q]);
        mde_json_write_number(w, "predicted", mde_json_number(entry, "predicted", (double)NAN), 9);
        mde_json_write_number(w, "sd", mde_json_number(entry, "sd", (double)NAN), 6);
        mde_json_write_number(w, "true", objective_value(x->domains, objective_index(x), truth), 9);
        mde_json_close(w);
        mde_safetensors_free(x->context, run);
    }
    mde_json_close(w);
}

static void verify_mixtures(experiment *x, const tables *t, const mde_json *fitted, const mde_json *found,
                            const task *best)
{
    mde_context *c = x->context;
    mde_surrogate *s[OBJECTIVES] = { NULL, NULL, NULL };
    mde_text *csv = mde_text_create(c), *json = mde_text_create(c);
    mde_json_writer w = mde_json_start(json, 2);
    int o;
    for (o = 0; o < OBJECTIVES; o++) {
        const regression *chosen = chosen_regression(x, fitted, o);
        if (chosen) s[o] = fit_regression(x, t, chosen);
    }
    mde_text_add(csv, "mixture");
    for (o = 0; o < OBJECTIVES; o++) {
        const char *name = objective_names[o];
        mde_text_format(csv, ",%s_predicted,%s_sd,%s_true", name, name, name);
    }
    mde_text_add(csv, ",accuracy\n");
    mde_json_open(&w, NULL, '{');
    mde_json_write_string(&w, "settings", x->key);
    mde_json_open(&w, "mixtures", '[');
    for (o = 0; o < OBJECTIVES; o++) add_verified(x, t, &best[o], s, csv, &w);
    add_verified(x, t, find_task(x, "uniform"), s, csv, &w);
    add_verified(x, t, find_task(x, "proportional"), s, csv, &w);
    add_verified(x, t, best_proxy(x, t, 0), s, csv, &w);
    mde_json_close(&w);
    if (x->sizes > 0) add_transferred(x, found, best + OBJECTIVES, &w);
    mde_json_close(&w);
    mde_json_end(&w);
    program_write(c, csv, x->out, "verify.csv");
    program_write(c, json, x->out, "verify.json");
    for (o = 0; o < OBJECTIVES; o++) mde_surrogate_free(s[o]);
    mde_text_free(csv);
    mde_text_free(json);
}

static mde_status verify(experiment *x)
{
    mde_context *c = x->context;
    mde_json *found = read_step(x, "search.json", "search"), *fitted = read_step(x, "fit.json", "fit");
    task best[OBJECTIVES + 2];
    tables t;
    if (!program_failed(c)) read_best_tasks(x, found, best);
    if (!program_failed(c) && x->sizes > 0) read_transfer_tasks(x, found, best + OBJECTIVES);
    if (!program_failed(c)) run_pending(x, OBJECTIVES + (x->sizes > 0 ? 2 : 0), best);
    if (load_tables(x, &t) == MDE_OK) verify_mixtures(x, &t, fitted, found, best);
    mde_json_free(c, found);
    mde_json_free(c, fitted);
    tables_free(x, &t);
    return mde_context_status(c);
}

/* ---- Made-up text: six kinds that differ in alphabet, vocabulary and structure ---- */

typedef struct writer {
    mde_random random;
    mde_text *text;
} writer;

static int pick(writer *w, int n)
{
    return (int)mde_random_below(&w->random, (uint64_t)n);
}

static const char *word(writer *w, const char *const *words, int n)
{
    return words[pick(w, n)];
}

static void write_arithmetic(writer *w)
{
    int a = pick(w, 100), b = pick(w, 100), c = pick(w, 10);
    switch (pick(w, 4)) {
    case 0:
        mde_text_format(w->text, "%d + %d = %d\n", a, b, a + b);
        break;
    case 1:
        mde_text_format(w->text, "%d - %d = %d\n", a + b, b, a);
        break;
    case 2:
        mde_text_format(w->text, "%d * %d = %d\n", a, c, a * c);
        break;
    default:
        mde_text_format(w->text, "(%d + %d) * %d = %d\n", a, b, c, (a + b) * c);
        break;
    }
}

static void write_code(writer *w)
{
    static const char *const names[] = {
        "count", "total", "index", "limit", "value", "offset", "size", "left", "right"
    };
    static const char *const verbs[] = { "read", "update", "find", "merge", "scale", "reset" };
    static const char *const types[] = { "int", "double", "size_t", "char *" };
    const char *a = word(w, names, 9), *b = word(w, names, 9), *c = word(w, names, 9);
    mde_text_format(w->text, "static %s %s_%s(%s %s, int %s)\n{\n", word(w, types, 4), word(w, verbs, 6), a,
                    word(w, types, 4), b, c);
    switch (pick(w, 3)) {
    case 0:
        mde_text_format(w->text, "    for (int i = 0; i < %s; i++) {\n        %s += i * %d;\n    }\n", c, b,
                        pick(w, 9));
        break;
    case 1:
        mde_text_format(w->text, "    if (%s > %d) {\n        return %s;\n    }\n", b, pick(w, 100), b);
        break;
    default:
        mde_text_format(w->text, "    while (%s < %s) {\n        %s = %s + 1;\n    }\n", b, c, b, b);
        break;
    }
    mde_text_format(w->text, "    return %s - %s;\n}\n\n", b, c);
}

static void write_noun_phrase(writer *w)
{
    static const char *const adjectives[] = { "old", "quiet", "grey", "clever", "distant", "broken", "small", "proud" };
    static const char *const nouns[] = { "sailor",  "garden", "river",    "teacher",  "window", "horse",
                                         "village", "letter", "stranger", "mountain", "lamp",   "child" };
    mde_text_add(w->text, pick(w, 2) ? "the " : "a ");
    if (pick(w, 2)) mde_text_format(w->text, "%s ", word(w, adjectives, 8));
    mde_text_add(w->text, word(w, nouns, 12));
}

static void write_prose(writer *w)
{
    static const char *const verbs[] = { "remembered", "followed", "loved", "forgot",
                                         "painted",    "crossed",  "heard", "left" };
    static const char *const links[] = { ", and ", ", but ", ", because ", "; then ", " while " };
    static const char *const openings[] = { "Every evening ", "Long ago ", "In the winter ", "Once more ",
                                            "That morning " };
    int sentences = 3 + pick(w, 4), i;
    for (i = 0; i < sentences; i++) {
        mde_text_add(w->text, word(w, openings, 5));
        write_noun_phrase(w);
        mde_text_format(w->text, " %s ", word(w, verbs, 8));
        write_noun_phrase(w);
        if (pick(w, 2)) {
            mde_text_add(w->text, word(w, links, 5));
            write_noun_phrase(w);
            mde_text_format(w->text, " %s ", word(w, verbs, 8));
            write_noun_phrase(w);
        }
        mde_text_add(w->text, ". ");
    }
    mde_text_add(w->text, "\n\n");
}

static void write_table(writer *w)
{
    static const char *const cities[] = { "Lisbon", "Oslo", "Cairo", "Lima", "Quito", "Hanoi", "Tunis", "Perth" };
    static const char *const goods[] = { "copper", "cotton", "coffee", "timber", "salt" };
    int i, rows = 6 + pick(w, 6);
    mde_text_add(w->text, "city\tgoods\ttons\tprice\n");
    for (i = 0; i < rows; i++) {
        int tons = 10 + pick(w, 90), cents = 100 + pick(w, 900);
        mde_text_format(w->text, "%s\t%s\t%d\t%d.%02d\n", word(w, cities, 8), word(w, goods, 5), tons, cents / 100,
                        cents % 100);
    }
    mde_text_add(w->text, "\n");
}

static void write_markup(writer *w)
{
    static const char *const titles[] = { "Overview", "Contents", "History", "Notes", "Index", "Links" };
    static const char *const items[] = { "apple", "engine", "forest", "harbor", "island", "jacket", "kettle" };
    int i, entries = 2 + pick(w, 4);
    mde_text_format(w->text, "<section id=\"s%d\">\n  <h2>%s</h2>\n  <ul>\n", pick(w, 1000), word(w, titles, 6));
    for (i = 0; i < entries; i++) {
        const char *item = word(w, items, 7);
        mde_text_format(w->text, "    <li class=\"%s\"><a href=\"/%s/%d\">%s</a></li>\n", pick(w, 2) ? "odd" : "even",
                        item, pick(w, 100), item);
    }
    mde_text_add(w->text, "  </ul>\n</section>\n");
}

static void write_log(writer *w)
{
    static const char *const levels[] = { "INFO", "INFO", "INFO", "WARN", "ERROR" };
    static const char *const units[] = { "kernel", "network", "storage", "scheduler" };
    static const char *const events[] = { "started", "stopped", "timeout after %d ms", "retry %d",
                                          "queue at %d percent" };
    mde_text_format(w->text, "2031-%02d-%02dT%02d:%02d:%02dZ %s %s[%d]: ", 1 + pick(w, 12), 1 + pick(w, 28),
                    pick(w, 24), pick(w, 60), pick(w, 60), word(w, levels, 5), word(w, units, 4), 100 + pick(w, 900));
    mde_text_format(w->text, word(w, events, 5), pick(w, 100));
    mde_text_add(w->text, "\n");
}

static const struct {
    const char *name;
    void (*write)(writer *w);
    size_t bytes;
} generators[] = { { "arithmetic.txt", write_arithmetic, 120000 },
                   { "code.txt", write_code, 240000 },
                   { "logs.txt", write_log, 100000 },
                   { "markup.txt", write_markup, 160000 },
                   { "prose.txt", write_prose, 320000 },
                   { "tables.txt", write_table, 140000 } };

#define GENERATORS ((int)(sizeof generators / sizeof *generators))

static int is_generated(const char *name)
{
    int i;
    for (i = 0; i < GENERATORS; i++) {
        if (strcmp(generators[i].name, name) == 0) return 1;
    }
    return 0;
}

/* Writes the texts that are not there yet; made [GENERATORS] says which (may be NULL). */
static void generate(mde_context *c, const char *folder, int *made)
{
    int i;
    mde_make_folder(c, folder);
    for (i = 0; i < GENERATORS && !program_failed(c); i++) {
        char path[PROGRAM_PATH];
        writer w;
        program_path(c, path, "%s/%s", folder, generators[i].name);
        if (mde_is_file(path)) continue;
        w.random = mde_random_start(2025, (uint64_t)i);
        w.text = mde_text_create(c);
        while (w.text && !program_failed(c) && w.text->length < generators[i].bytes) generators[i].write(&w);
        if (!program_failed(c) && mde_text_write(w.text, path) == MDE_OK && made) made[i] = 1;
        mde_text_free(w.text);
    }
}

/* ---- Commands ---- */

/* A plan on made-up text, which is kept beside the results. When there can be no such plan, what was made for it, and
   nothing else, is taken back. */
static void plan_on_generated(mde_context *c, const char *out, lab_settings *s)
{
    char data[PROGRAM_PATH], path[PROGRAM_PATH + 64];
    int made[GENERATORS] = { 0 }, out_was_there = mde_is_folder(out), data_was_there, i;
    mde_names names;
    memset(&names, 0, sizeof names);
    data_path(c, out, s, data);
    data_was_there = mde_is_folder(data);
    if (data_was_there) mde_folder_list(c, data, &names);
    for (i = 0; i < names.count; i++) {
        if (is_generated(names.items[i])) continue;
        mde_fail(c, MDE_BAD_ARGUMENT, "%s: holds %s, which is no made-up text; name a folder of texts with --data",
                 data, names.items[i]);
    }
    mde_names_free(c, &names);
    generate(c, data, made);
    if (experiment_plan(c, out, s) == MDE_OK) return;
    for (i = 0; i < GENERATORS; i++) {
        snprintf(path, sizeof path, "%s/%s", data, generators[i].name);
        if (made[i]) remove(path);
    }
    if (!data_was_there) remove(data);
    if (!out_was_there) remove(out);
}

/* What the losses of each domain will be of, and proxies beyond those that the plan began with. */
static void print_plan(const experiment *x)
{
    int i;
    for (i = 0; i < x->domains; i++) {
        int64_t documents;
        mde_corpus_documents(x->corpus, MDE_VALIDATION, i, &documents);
        printf("%-24.100s validated on %lld tokens of %lld of its %lld held-out documents\n",
               mde_corpus_name(x->corpus, i), (long long)x->window_tokens[i], (long long)x->window_documents[i],
               (long long)documents);
    }
    if (x->further > 0) printf("%d proxies, and %d at the mixtures of mixtures.csv\n", x->settings.proxies, x->further);
}

static void list_tasks(const experiment *x, int as_json)
{
    mde_text *t = mde_text_create(x->context);
    mde_json_writer w = mde_json_start(t, 1);
    int i;
    mde_json_open(&w, NULL, '[');
    for (i = 0; i < x->count; i++) {
        list_task(&w, i, x->tasks[i].name, task_is_done(x, &x->tasks[i]), as_json);
    }
    mde_json_close(&w);
    if (as_json && mde_json_end(&w) == MDE_OK) fputs(t->bytes, stdout);
    mde_text_free(t);
}

static mde_status run_numbered_task(void *user, int number)
{
    experiment *x = (experiment *)user;
    return run_pending(x, 1, &x->tasks[number]);
}

static job_list jobs_of(const experiment *x)
{
    job_list j = { "mde_lab", "", NULL, 0, 4, { "fit", "search", "verify", "report" } };
    j.out = x->out;
    j.count = x->count;
    return j;
}

/* A step after the training, and what it writes; the first file is its result. */
typedef struct lab_step {
    const char *name;
    mde_status (*run)(experiment *x);
    const char *files[PROGRAM_MAX_OUTPUTS];
} lab_step;

static const lab_step lab_steps[4] = {
    { "fit", fit, { "fit.json", "predictions.csv", "ratios.csv", "ratios.npy", "losses.csv", "losses.npy",
                    "features.csv", "features.npy", "curves.csv", "logprobs" } },
    { "search", search, { "search.json", "mixture.json" } },
    { "verify", verify, { "verify.json", "verify.csv", "runs/best-average.safetensors",
                          "runs/best-task.safetensors", "runs/best-both.safetensors" } },
    { "report", report, { "report.json", "report.html" } }
};

/* Step number `index` depends on the plan and its data, the runs, and the results of the steps before it. */
static program_work work_of(experiment *x, const program *p, int index)
{
    program_work w = program_work_start(p, x->context, x->out, lab_steps[index].name);
    char path[PROGRAM_PATH];
    int i, j;
    mde_text_format(w.key, " %s", x->key);
    for (i = 0; i < x->count; i++) {
        program_work_input(&w, program_path(x->context, path, "%s/runs/%s.safetensors", x->out, x->tasks[i].name));
    }
    for (i = 0; i < index; i++) {
        for (j = 0; j < PROGRAM_MAX_OUTPUTS && lab_steps[i].files[j]; j++) {
            program_work_input(&w, program_path(x->context, path, "%s/%s", x->out, lab_steps[i].files[j]));
        }
    }
    for (i = 0; i < PROGRAM_MAX_OUTPUTS && lab_steps[index].files[i]; i++) {
        program_work_output(&w, lab_steps[index].files[i]);
    }
    if (x->sizes > 0 && index == 0) program_work_output(&w, "sizes.csv");
    for (i = 0; i < 2 && x->sizes > 0 && index == 2; i++) program_work_output(&w, transfer_files[i]);
    return w;
}

/* Without settings, those of a plan that is there, whose strings they keep. */
static mde_json *take_planned(mde_context *c, const char *out, lab_settings *s)
{
    char path[PROGRAM_PATH];
    lab_settings none;
    mde_json *plan;
    memset(&none, 0, sizeof none);
    none.mixtures = s->mixtures;
    program_path(c, path, "%s/plan.json", out);
    if (memcmp(s, &none, sizeof none) != 0 || !mde_is_file(path)) return NULL;
    plan = open_plan(c, path);
    if (!plan) return NULL;
    *s = planned_settings(plan);
    s->mixtures = none.mixtures;
    return plan;
}

static void run_command(mde_context *c, program *p, lab_settings *s)
{
    const char *command = p->arguments[0], *out = p->arguments[1];
    int all = strcmp(command, "run") == 0, plan = strcmp(command, "plan") == 0, i;
    experiment *x;
    job_list j;
    if (strcmp(command, "tasks") != 0) program_try_folder(c, out);
    if (program_failed(c)) return;
    if (all || plan) {
        mde_json *planned = take_planned(c, out, s);
        if (s->data) experiment_plan(c, out, s);
        else if (!program_failed(c)) plan_on_generated(c, out, s);
        mde_json_free(c, planned);
    }
    x = experiment_open(c, out);
    if (!x) return;
    x->progress = program_progress;
    x->user = p;
    x->quiet = p->quiet;
    if (((all && !p->quiet) || plan) && !p->json) print_plan(x);
    j = jobs_of(x);
    if (plan) jobs_write(c, &j);
    if (plan && !p->json) jobs_print(&j);
    if (strcmp(command, "tasks") == 0) list_tasks(x, p->json);
    if (strcmp(command, "task") == 0) {
        run_listed_tasks(c, &j, p->count - 2, p->arguments + 2, run_numbered_task, x);
    }
    if (all) run_pending(x, x->count, x->tasks);
    for (i = 0; i < 4 && !program_failed(c); i++) {
        program_work work;
        if (!all && strcmp(command, lab_steps[i].name) != 0) continue;
        work = work_of(x, p, i);
        if (!program_work_is_done(&work, 0) && lab_steps[i].run(x) == MDE_OK) program_work_finish(&work, NULL);
    }
    if (!program_failed(c) && (all || strcmp(command, "report") == 0) && !p->json) print_summary(x);
    if (p->json && plan) program_print_file(c, out, "plan.json");
    for (i = 0; p->json && i < 4; i++) {
        if (strcmp(all ? "report" : command, lab_steps[i].name) == 0) program_print_file(c, out, lab_steps[i].files[0]);
    }
    experiment_free(x);
}

static const char *const usage =
    "mde_lab: from folders of text to the best training mixture\n"
    "\n"
    "  mde_lab run OUT [--data DIR] [options]   all steps; a second call goes on where the first was stopped, also\n"
    "                                           without options\n"
    "  mde_lab plan OUT [--data DIR] [options]  writes OUT/plan.json: the settings and the runs to make; and a\n"
    "                                           Makefile and slurm.sbatch that make them in many processes\n"
    "  mde_lab tasks OUT                        lists the runs of the plan, finished or not\n"
    "  mde_lab task OUT [N ...]                 trains the runs with these numbers; without any, the one whose number\n"
    "                                           is in SLURM_ARRAY_TASK_ID, PBS_ARRAY_INDEX, JOB_COMPLETION_INDEX or,\n"
    "                                           counted from 1, SGE_TASK_ID\n"
    "  mde_lab fit OUT                          compares regressions on held-out proxies; tables as CSV and .npy\n"
    "  mde_lab search OUT                       finds the best mixtures; OUT/mixture.json\n"
    "  mde_lab verify OUT                       trains the mixtures found\n"
    "  mde_lab report OUT                       OUT/report.html and OUT/report.json\n"
    "  mde_lab generate DIR                     writes the made-up text domains, to look at or to train on\n"
    "\n"
    "A run or step is not done again with the same plan, data and results before it and its files as it wrote them.\n";

int main(int argc, char **argv)
{
    static const char *const commands[] = { "run",    "plan",   "tasks",  "task",    "fit",
                                            "search", "verify", "report", "generate" };
    program p;
    lab_settings s;
    mde_context *c;
    size_t i, known = sizeof commands / sizeof *commands;
    const program_option options[] = {
        { NULL, PROGRAM_HEADING, NULL, NULL, 0, 0, "Options of run and plan (defaults depend on the preset)" },
        { "--data", PROGRAM_FILE, "DIR", &s.data, 0, 0,
          "each folder or file in it is a domain; default: text that the program makes up" },
        { "--preset", PROGRAM_FILE, "NAME", &s.preset, 0, 0,
          "quick (a minute or two), small (about a quarter of an hour), study (hours)" },
        { "--proxies", PROGRAM_INT, "N", &s.proxies, 1, 0,
          "runs at random mixtures, at least 6; quick 24, small 32, study 64" },
        { "--tokens", PROGRAM_INT64, "N", &s.tokens, 1, 0, "training tokens of each run; 60000, 400000, 4000000" },
        { "--layers", PROGRAM_INT, "N", &s.layers, 1, 0, "of the model; 2, 3, 4" },
        { "--width", PROGRAM_INT, "N", &s.width, 1, 0, "48, 64, 128" },
        { "--heads", PROGRAM_INT, "N", &s.heads, 1, 0, "3, 4, 4" },
        { "--sizes", PROGRAM_FILE, "LIST", &s.sizes, 0, 0,
          "larger models, LAYERSxWIDTH, as 3x64,4x96, ascending: each trains half of the proxies, a law moves losses "
          "to the largest, and the mixture for that is trained there" },
        { "--context", PROGRAM_INT, "N", &s.context, 1, 0, "tokens the model sees at once; 64, 128, 128" },
        { "--batch", PROGRAM_INT, "N", &s.batch, 1, 0, "windows of that length a step; 8, 8, 16" },
        { "--lr", PROGRAM_POSITIVE, "X", &s.learning_rate, 0, 1e6, "peak learning rate; 0.006, 0.004, 0.003" },
        { "--vocab", PROGRAM_INT, "N", &s.vocabulary, 1, 0, "byte-pair encoding with so many tokens; default: bytes" },
        { "--validation-tokens", PROGRAM_INT64, "N", &s.validation_tokens, 1, 0,
          "of each domain, at most; 3000, 12000, 65536" },
        { "--questions", PROGRAM_INT, "N", &s.questions, 1, 0, "of the end task; 100, 300, 1000" },
        { "--max-bytes", PROGRAM_INT64, "N", &s.max_bytes, 1, 0, "of each domain, at most; 1, 3, 8 million" },
        { "--task-domains", PROGRAM_FILE, "A,B", &s.task_domains, 0, 0,
          "domains that the end task is made from; default: all" },
        { "--objective", PROGRAM_FILE, "NAME", &s.objective, 0, 0,
          "whose mixture goes to mixture.json: average, task or both; default: average" },
        { "--mixtures", PROGRAM_FILE, "FILE", &s.mixtures, 0, 0,
          "CSV, a row a mixture, as next_runs.csv of mix_optimize: further proxies for a plan, new or there already" }
    };
    memset(&s, 0, sizeof s);
    program_start(&p, "mde_lab", usage, options, (int)(sizeof options / sizeof *options));
    p.max_arguments = argc;
    p.json_help = "what the step found (the file that it wrote; of tasks the list)";
    p.when_stopped = "stopped; the same command goes on from here";
    if (!program_parse(&p, argc, argv)) return p.code;
    for (i = 0; p.count > 0 && i < known; i++) {
        if (strcmp(p.arguments[0], commands[i]) == 0) break;
    }
    if (p.count < 2 || i == known) {
        program_misused(&p, "", "expected a command and a folder, as in `mde_lab run OUT`");
    } else if (p.count > 2 && strcmp(p.arguments[0], "task") != 0) {
        program_misused(&p, p.arguments[2], " is one argument too many");
    }
    if (!p.code && s.mixtures && strcmp(p.arguments[0], "run") != 0 && strcmp(p.arguments[0], "plan") != 0) {
        program_misused(&p, "--mixtures", " belongs to run and plan");
    }
    if (p.code) return p.code;
    s.seed = p.seed;
    c = program_context(&p);
    if (strcmp(p.arguments[0], "generate") == 0) generate(c, p.arguments[1], NULL);
    else run_command(c, &p, &s);
    return program_end(&p, c);
}
