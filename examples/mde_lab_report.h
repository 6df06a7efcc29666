/* mde_lab_report.h - what mde_lab tells of an experiment: report.html to read, report.json with all numbers, and the
   verified outcome in a few lines. All of it comes from the files that the steps wrote. Included by mde_lab.c alone. */
#ifndef MDE_LAB_REPORT_H
#define MDE_LAB_REPORT_H

#include "plot.h"

static const char *const objective_titles[OBJECTIVES] = { "the average validation loss", "the end task",
                                                          "both (half the average, half the end task)" };

/* ---- Reading what the steps wrote ---- */

/* Index of the row whose number is the smallest, or the largest; -1 when there is none. */
static int best_row(const mde_json *rows, const char *outer, const char *inner, int largest)
{
    const mde_json *row;
    int best = -1, i = 0;
    double minimum = 0;
    for (row = rows ? rows->child : NULL; row; row = row->next, i++) {
        double value = mde_json_number(mde_json_get(row, outer), inner, (double)NAN);
        if (largest) value = -value;
        if (value == value && (best < 0 || value < minimum)) {
            best = i;
            minimum = value;
        }
    }
    return best;
}

/* A number of verify.json: of a mixture, for an objective, "predicted" or "true". */
static double verified_value(const mde_json *verify, const char *mixture, int objective, const char *what)
{
    const mde_json *rows = mde_json_get(verify, "mixtures"), *row = rows ? rows->child : NULL;
    while (row && strcmp(mde_json_string(row, "mixture", ""), mixture) != 0) row = row->next;
    return mde_json_number(mde_json_get(row, objective_names[objective]), what, (double)NAN);
}

/* ---- The page ---- */

static void page_headline(mde_text *t, const experiment *x, const mde_json *verify)
{
    int o;
    mde_text_add(t, "<ul>\n");
    for (o = 0; o < OBJECTIVES; o++) {
        double predicted = verified_value(verify, best_names[o], o, "predicted");
        double truth = verified_value(verify, best_names[o], o, "true");
        double uniform = verified_value(verify, "uniform", o, "true");
        double proportional = verified_value(verify, "proportional", o, "true");
        mde_text_format(t,
                        "<li>Best mixture for %s: predicted %.4f, trained <b>%.4f</b> nats a token; uniform %.4f, "
                        "proportional %.4f%s</li>\n",
                        objective_titles[o], predicted, truth, uniform, proportional,
                        truth < uniform && truth < proportional ? "." : ": no better than those.");
    }
    mde_text_format(t, "</ul>\n<p><code>mixture.json</code> holds the one for: %s.</p>\n", x->settings.objective);
}

#define SHOWN 5

static void page_mixtures(mde_text *t, const experiment *x, const mde_json *search)
{
    mde_context *c = x->context;
    static const char *const names[SHOWN] = { "for average", "for task", "for both", "MDE alone", "proportional" };
    const char *domains[MDE_MAX_DOMAINS];
    const mde_json *mde = mde_json_get(mde_json_get(search, "mde"), "average"), *weights[SHOWN];
    const mde_json *lower = mde_json_get(search, "lower"), *upper = mde_json_get(search, "upper");
    double *values = program_doubles(c, x->domains, SHOWN);
    const char *note = mde_json_string(mde, "intervals", "");
    int i, j;
    mde_text_add(t, "<h2>The mixtures</h2>\n");
    for (j = 0; j < OBJECTIVES; j++) {
        weights[j] = mde_json_get(mde_json_get(mde_json_get(search, "objectives"), objective_names[j]), "weights");
    }
    weights[OBJECTIVES] = mde_json_get(mde, "weights");
    for (i = 0; i < x->domains; i++) domains[i] = mde_corpus_name(x->corpus, i);
    for (i = 0; values && i < x->domains; i++) {
        double *row = values + i * SHOWN;
        for (j = 0; j <= OBJECTIVES; j++) row[j] = mde_json_number(weights[j], domains[i], (double)NAN);
        row[OBJECTIVES + 1] = find_task(x, "proportional")->weights[i];
    }
    mde_text_add(t, "<div class=\"wide\">");
    if (values) plot_bars(t, "Weights of the domains", "weight", x->domains, domains, SHOWN, names, values);
    mde_text_add(t, "</div>\n");
    mde_text_add(t, "<div class=\"wide\"><table><tr><th>domain</th><th>for average</th><th>for task</th>"
                    "<th>for both</th><th>bounds</th><th>passes over its text</th><th>MDE alone</th>"
                    "<th>90 % interval</th><th>proportional</th></tr>\n");
    for (i = 0; values && i < x->domains; i++) {
        const double *row = values + i * SHOWN;
        const mde_json *interval = mde_json_get(mde_json_get(mde, "weights_interval_90"), domains[i]);
        const mde_json *low = interval ? interval->child : NULL, *high = low ? low->next : NULL;
        size_t train;
        mde_corpus_tokens(x->corpus, MDE_TRAIN, i, &train);
        mde_text_format_html(t, "<tr><td>%s</td>", domains[i]);
        for (j = 0; j < OBJECTIVES; j++) program_page_number(t, row[j], 3, 0);
        program_page_range(t, mde_json_number(lower, domains[i], 0), mde_json_number(upper, domains[i], 1), 3);
        program_page_number(t, row[0] * (double)x->settings.tokens / (double)train, 2, 0);
        program_page_number(t, row[OBJECTIVES], 3, 0);
        program_page_range(t, low ? low->number : (double)NAN, high ? high->number : (double)NAN, 3);
        program_page_number(t, row[OBJECTIVES + 1], 3, 0);
        mde_text_add(t, "</tr>\n");
    }
    mde_text_format_html(t,
                    "</table></div>\n<p class=\"note\">The searches of the regression minimise the predicted loss "
                    "inside the bounds: the smallest and the largest weight of any proxy. "
                    "\"MDE alone\" is the exact minimum of the experts' mixture loss, no fit and no bounds; certified "
                    "distance to that minimum: %.3g nats. Its intervals come from resampled validation documents%s%s."
                    "</p>\n",
                    mde_json_number(mde, "gap", (double)NAN), *note ? "; " : "", note);
    mde_release(c, values);
}

static void page_verify(mde_text *t, const experiment *x, const mde_json *verify)
{
    const mde_json *rows = mde_json_get(verify, "mixtures"), *row;
    int o, i = 0, best[OBJECTIVES];
    for (o = 0; o < OBJECTIVES; o++) best[o] = best_row(rows, objective_names[o], "true", 0);
    mde_text_add(t, "<h2>Does it hold? Predicted and true loss of trained mixtures</h2>\n"
                    "<div class=\"wide\"><table><tr><th>mixture</th>");
    for (o = 0; o < OBJECTIVES; o++) {
        mde_text_format(t, "<th>%s:<br>predicted &plusmn; sd</th><th>true</th>", objective_names[o]);
    }
    mde_text_add(t, "<th>task<br>accuracy</th></tr>\n");
    for (row = rows ? rows->child : NULL; row; row = row->next, i++) {
        mde_text_format_html(t, "<tr><td>%s</td>", mde_json_string(row, "mixture", ""));
        for (o = 0; o < OBJECTIVES; o++) {
            const mde_json *entry = mde_json_get(row, objective_names[o]);
            mde_text_format(t, "<td>%.4f &plusmn; %.3f</td>", mde_json_number(entry, "predicted", (double)NAN),
                            mde_json_number(entry, "sd", (double)NAN));
            program_page_number(t, mde_json_number(entry, "true", (double)NAN), 4, best[o] == i);
        }
        program_page_number(t, mde_json_number(row, "accuracy", (double)NAN), 3, 0);
        mde_text_add(t, "</tr>\n");
    }
    mde_text_format(t,
                    "</table></div>\n<p class=\"note\">Nats a token; lower is better; the minimum true loss of each "
                    "objective is marked. Each mixture was trained from the same start on %lld tokens; the last row "
                    "is the best of the proxies by average loss, what one would take without any regression. The "
                    "predictions come from the proxies alone: none of the other rows was seen by the regression. One "
                    "run each: differences of the size of a seed's noise mean nothing.</p>\n",
                    (long long)x->settings.tokens);
}

static void page_sizes(mde_text *t, const experiment *x, const mde_json *search, const mde_json *verify)
{
    const mde_json *rows = mde_json_get(verify, "largest"), *row;
    int i;
    if (!rows) return;
    mde_text_format(t, "<h2>At the largest size</h2>\n<p>Proxies of %.0f", x->size[0].params);
    for (i = 1; i <= x->sizes; i++) mde_text_format(t, "%s %.0f", i < x->sizes ? "," : " and", x->size[i].params);
    mde_text_format_html(t, " parameters; a law of parameters, in its %s form, moves losses to %s layers x width. Each "
                         "mixture was trained there.</p>\n",
                         mde_json_string(mde_json_get(search, "sizes"), "form", ""), x->size[x->sizes].name);
    mde_text_format(t, "<div class=\"wide\"><table><tr><th>mixture</th><th>%s: predicted &plusmn; sd</th><th>true</th>"
                       "</tr>\n", x->settings.objective);
    for (row = rows->child; row; row = row->next) {
        mde_text_format_html(t, "<tr><td>%s</td>", mde_json_string(row, "mixture", ""));
        mde_text_format(t, "<td>%.4f &plusmn; %.3f</td>", mde_json_number(row, "predicted", (double)NAN),
                        mde_json_number(row, "sd", (double)NAN));
        program_page_number(t, mde_json_number(row, "true", (double)NAN), 4, 0);
        mde_text_add(t, "</tr>\n");
    }
    mde_text_format(t, "</table></div>\n<p class=\"note\">%s is the mixture for that size, and that of "
                       "<code>mixture.json</code>; %s the one found for the smallest. <code>sizes.csv</code> has the "
                       "runs of all sizes, for <code>mix_optimize --table sizes.csv --target-params</code>.</p>\n",
                    transfer_names[0], transfer_names[1]);
}

static void page_regressions(mde_text *t, const mde_json *fit)
{
    const mde_json *rows = mde_json_get(fit, "models"), *chosen = mde_json_get(fit, "chosen"), *row;
    int o, i = 0, closest[OBJECTIVES], ranked[OBJECTIVES];
    for (o = 0; o < OBJECTIVES; o++) {
        closest[o] = best_row(rows, objective_names[o], "mse", 0);
        ranked[o] = best_row(rows, objective_names[o], "spearman", 1);
    }
    mde_text_add(t, "<h2>Which regression predicts best?</h2>\n<div class=\"wide\"><table><tr><th>inputs, model</th>");
    for (o = 0; o < OBJECTIVES; o++) {
        mde_text_format(t, "<th>%s:<br>MSE</th><th>Spearman</th>", objective_names[o]);
    }
    mde_text_add(t, "<th>mean Spearman<br>of the domains</th></tr>\n");
    for (row = rows ? rows->child : NULL; row; row = row->next, i++) {
        mde_text_format_html(t, "<tr><td>%s</td>", mde_json_string(row, "model", ""));
        for (o = 0; o < OBJECTIVES; o++) {
            const mde_json *entry = mde_json_get(row, objective_names[o]);
            program_page_number(t, mde_json_number(entry, "mse", (double)NAN), 5, closest[o] == i);
            program_page_number(t, mde_json_number(entry, "spearman", (double)NAN), 3, ranked[o] == i);
        }
        program_page_number(t, mde_json_number(row, "mean_domain_spearman", (double)NAN), 3, 0);
        mde_text_add(t, "</tr>\n");
    }
    mde_text_format(t,
                    "</table></div>\n<p class=\"note\">On proxies the model has not seen: %d proxies, %d folds. \"MDE "
                    "loss\" is the loss of the experts' mixed probabilities; \"own\" is that of the predicted text "
                    "alone; \"log weights\" is log(w + 0.001), the fair opponent of the MDE features. The fitted model "
                    "of minimum MSE does the search",
                    program_int(fit, "proxies"), program_int(fit, "folds"));
    for (o = 0; o < OBJECTIVES; o++) {
        mde_text_format_html(t, "%s %s: %s", o ? ";" : ":", objective_names[o],
                             mde_json_string(chosen, objective_names[o], ""));
    }
    mde_text_add(t, ".</p>\n");
}

/* One series of the scatter: the average losses of the proxies as a model of predictions.csv predicts them. */
static void read_series(const tables *t, const mde_csv *csv, const char *model, double *points, plot_series *series)
{
    double *truth = points, *predicted = points + t->n;
    int i, j, row = 0;
    while (row < csv->rows && strcmp(csv->cells[row * csv->columns], model) != 0) row++;
    if (row + t->n * t->v > csv->rows) {
        mde_fail(csv->context, MDE_BAD_FILE, "%s: has too few rows of model %s", csv->path, model);
        return;
    }
    for (i = 0; i < t->n; i++) {
        double a[MDE_MAX_DOMAINS + 1], b[MDE_MAX_DOMAINS + 1];
        for (j = 0; j < t->v; j++, row++) {
            a[j] = mde_csv_number(csv, row, 3);
            b[j] = mde_csv_number(csv, row, 4);
        }
        predicted[i] = objective_value(t->k, 0, a);
        truth[i] = objective_value(t->k, 0, b);
    }
    series->name = model;
    series->count = t->n;
    series->x = truth;
    series->y = predicted;
    series->points = 1;
}

/* Predicted against true average loss of the held-out proxies: weights alone, the experts alone, the chosen model. */
static void page_scatter(mde_text *t, experiment *x, const tables *runs, const mde_json *fit)
{
    mde_context *c = x->context;
    char path[PROGRAM_PATH];
    mde_csv *csv = mde_csv_read(c, program_path(c, path, "%s/predictions.csv", x->out));
    double *points = program_doubles(c, runs->n, 6);
    const char *names[3];
    plot_series series[3];
    plot_desc plot;
    int m;
    names[0] = regressions[0].name;
    names[1] = regressions[2].name;
    names[2] = mde_json_string(mde_json_get(fit, "chosen"), objective_names[0], "");
    memset(&plot, 0, sizeof plot);
    memset(series, 0, sizeof series);
    for (m = 0; m < 3 && !program_failed(c); m++) {
        read_series(runs, csv, names[m], points + 2 * m * runs->n, &series[m]);
    }
    plot.title = "Average validation loss of the held-out proxies";
    plot.x_label = "true, nats a token";
    plot.y_label = "predicted, nats a token";
    plot.width = 760;
    plot.height = 520;
    plot.diagonal = 1;
    plot.count = 3;
    plot.series = series;
    mde_text_add(t, "<div class=\"wide\">");
    if (!program_failed(c)) plot_xy(t, &plot);
    mde_text_add(t, "</div>\n");
    mde_release(c, points);
    mde_csv_free(csv);
}

/* Learning curves of the experts and of the even mixture. */
static void page_curves(mde_text *t, experiment *x, const tables *runs)
{
    mde_context *c = x->context;
    int shown = runs->k + 1, i, p;
    plot_series *series = (plot_series *)mde_alloc(c, (size_t)shown, sizeof *series);
    plot_desc plot;
    memset(&plot, 0, sizeof plot);
    for (i = 0; i < shown && !program_failed(c); i++) {
        const mde_safetensor *curve = mde_safetensors_find(runs->runs[i], "curve");
        int points = (int)curve->shape[1];
        double *values = program_doubles(c, points, 2);
        for (p = 0; values && p < 2 * points; p++) values[p] = (double)curve->data[p];
        series[i].name = x->tasks[i].name;
        series[i].count = values ? points : 0;
        series[i].x = values;
        series[i].y = values ? values + points : NULL;
    }
    plot.title = "Training loss";
    plot.x_label = "tokens";
    plot.y_label = "nats a token";
    plot.width = 860;
    plot.count = shown;
    plot.series = series;
    mde_text_add(t, "<div class=\"wide\">");
    if (!program_failed(c)) plot_xy(t, &plot);
    mde_text_add(t, "</div>\n");
    for (i = 0; series && i < shown; i++) mde_release(c, (void *)series[i].x);
    mde_release(c, series);
}

static void page_experts(mde_text *t, experiment *x, const tables *runs)
{
    const char *rows[MDE_MAX_DOMAINS + 1], *columns[MDE_MAX_DOMAINS + 1];
    int i, j, own = 0;
    for (i = 0; i < runs->k; i++) {
        int best = 0;
        rows[i] = x->tasks[i].name;
        columns[i] = mde_corpus_name(x->corpus, i);
        for (j = 0; j < runs->k; j++) {
            if (runs->losses[j * runs->v + i] < runs->losses[best * runs->v + i]) best = j;
        }
        own += best == i;
    }
    rows[runs->k] = x->tasks[runs->k].name;
    columns[runs->k] = END_TASK;
    mde_text_add(t, "<h2>The experts</h2>\n");
    mde_text_add(t, "<div class=\"wide\">");
    plot_heat(t, "Loss of each expert (row) on each validation text (column), nats a token", runs->k + 1, rows,
              runs->v, columns, runs->losses, 1);
    mde_text_add(t, "</div>\n");
    mde_text_format(t,
                    "<p class=\"note\">%d of %d experts are the best of all on their own domain; the minimum of each "
                    "column is outlined.</p>\n",
                    own, runs->k);
    page_curves(t, x, runs);
}

static void page_settings(mde_text *t, const experiment *x)
{
    const lab_settings *s = &x->settings;
    char further[40] = "";
    if (x->further > 0) snprintf(further, sizeof further, " and %d at further ones", x->further);
    mde_text_format_html(t,
                         "<h2>Settings</h2>\n<p>Data: <code>%s</code>, %d domains. Every run: %d layers, width %d, "
                         "%d heads, context %d, batch %d, %lld tokens, learning rate %.3g. %d experts, %d proxies at "
                         "Dirichlet mixtures%s, 2 baselines, 3 verification runs; preset %s, seed %llu, plan %s, "
                         "mdemix %s.</p>\n",
                         s->data, x->domains, s->layers, s->width, s->heads, s->context, s->batch, (long long)s->tokens,
                         s->learning_rate, x->domains, s->proxies, further, s->preset, (unsigned long long)s->seed,
                         x->fingerprint, MDE_VERSION);
    mde_text_format(t,
                    "<p>End task: %d questions, the true next %lld tokens of held-out text against %d others of the "
                    "same domain, scored by log-probability. Its loss is the mean cross-entropy of the right answer's "
                    "tokens.</p>\n",
                    s->questions, (long long)x->choice, CHOICES - 1);
    mde_text_add(t, "<p>The numbers behind the pictures: <code>ratios</code>, <code>losses</code>, "
                    "<code>features</code> (.csv, .npy), <code>curves.csv</code>, <code>predictions.csv</code>, "
                    "<code>verify.csv</code>, <code>logprobs/</code>, <code>fit.json</code>, <code>search.json</code>, "
                    "<code>report.json</code>.</p>\n");
}

/* ---- All numbers ---- */

/* A member that is another file of the experiment, as it is. */
static void json_file(mde_json_writer *w, const char *key, const experiment *x)
{
    mde_context *c = x->context;
    char path[PROGRAM_PATH], *text;
    size_t size;
    program_path(c, path, "%s/%s.json", x->out, key);
    text = program_failed(c) ? NULL : (char *)mde_file_read(c, path, (size_t)1 << 28, &size);
    if (!text) return;
    while (size > 0 && text[size - 1] == '\n') text[--size] = 0;
    mde_json_write_raw(w, key, text);
    mde_release(c, text);
}

/* Fixed order, nothing of time or machine: the same plan and data give the same bytes. */
static void write_report_json(experiment *x, const tables *runs)
{
    mde_context *c = x->context;
    mde_text *t = mde_text_create(c);
    mde_json_writer w = mde_json_start(t, 2);
    int i, j;
    mde_json_open(&w, NULL, '{');
    mde_json_write_string(&w, "mdemix", MDE_VERSION);
    mde_json_write_string(&w, "plan", x->fingerprint);
    mde_json_write_string(&w, "settings", x->key);
    json_hexadecimal(&w, "data_hash", mde_corpus_hash(x->corpus));
    json_seed(&w, x->settings.seed);
    mde_json_write_string(&w, "objective", x->settings.objective);
    mde_json_open(&w, "experts", '[');
    for (i = 0; i < runs->k; i++) {
        mde_json_open(&w, NULL, '{');
        mde_json_write_string(&w, "name", x->tasks[i].name);
        mde_json_open(&w, "losses", '{');
        for (j = 0; j < runs->v; j++) {
            mde_json_write_number(&w, validation_name(x, j), runs->losses[i * runs->v + j], 9);
        }
        mde_json_close(&w);
        mde_json_close(&w);
    }
    mde_json_close(&w);
    json_file(&w, "fit", x);
    json_file(&w, "search", x);
    json_file(&w, "verify", x);
    mde_json_close(&w);
    mde_json_end(&w);
    program_write(c, t, x->out, "report.json");
    mde_text_free(t);
}

static mde_status report(experiment *x)
{
    mde_context *c = x->context;
    mde_json *fit = read_step(x, "fit.json", "fit"), *search = read_step(x, "search.json", "search");
    mde_json *verify = read_step(x, "verify.json", "verify");
    tables runs;
    load_tables(x, &runs);
    if (!program_failed(c)) {
        mde_text *t = mde_text_create(c);
        char title[64];
        snprintf(title, sizeof title, "The best mixture of %d domains", x->domains);
        program_page_open(t, "mdemix report", title);
        page_headline(t, x, verify);
        page_mixtures(t, x, search);
        page_verify(t, x, verify);
        page_sizes(t, x, search, verify);
        page_regressions(t, fit);
        page_scatter(t, x, &runs, fit);
        page_experts(t, x, &runs);
        page_settings(t, x);
        program_page_close(t);
        program_write(c, t, x->out, "report.html");
        write_report_json(x, &runs);
        mde_text_free(t);
    }
    mde_json_free(c, fit);
    mde_json_free(c, search);
    mde_json_free(c, verify);
    tables_free(x, &runs);
    return mde_context_status(c);
}

/* The verified outcome in a few lines, for a terminal. */
static void print_summary(experiment *x)
{
    mde_context *c = x->context;
    mde_json *verify = read_step(x, "verify.json", "verify");
    const mde_json *rows = mde_json_get(verify, "mixtures"), *row;
    mde_text *t = mde_text_create(c);
    int o;
    mde_text_format(t, "%-16s %22s %22s %22s %9s\n%-16s", "nats a token", "average", "end task", "both", "accuracy",
                    "");
    for (o = 0; o < OBJECTIVES; o++) mde_text_format(t, " %12s %9s", "predicted", "true");
    mde_text_add(t, "\n");
    for (row = rows ? rows->child : NULL; row; row = row->next) {
        mde_text_format(t, "%-16s", mde_json_string(row, "mixture", ""));
        for (o = 0; o < OBJECTIVES; o++) {
            const mde_json *entry = mde_json_get(row, objective_names[o]);
            mde_text_format(t, " %12.4f %9.4f", mde_json_number(entry, "predicted", (double)NAN),
                            mde_json_number(entry, "true", (double)NAN));
        }
        mde_text_format(t, " %9.3f\n", mde_json_number(row, "accuracy", (double)NAN));
    }
    rows = mde_json_get(verify, "largest");
    if (rows) mde_text_format(t, "\n%-16s %12s %9s\n", x->size[x->sizes].name, "predicted", "true");
    for (row = rows ? rows->child : NULL; row; row = row->next) {
        mde_text_format(t, "%-16s %12.4f %9.4f\n", mde_json_string(row, "mixture", ""),
                        mde_json_number(row, "predicted", (double)NAN), mde_json_number(row, "true", (double)NAN));
    }
    if (!program_failed(c)) {
        printf("\n%s\nmixture: %s/mixture.json\nreport:  %s/report.html\n", t->bytes, x->out, x->out);
    }
    mde_text_free(t);
    mde_json_free(c, verify);
}

#endif /* MDE_LAB_REPORT_H */
