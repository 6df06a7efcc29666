/* The best mixture of training domains from runs that are already there, from log-probabilities of experts, or from
   both; how far to trust it; and which runs to make next. Writes OUT/report.html, report.json and mixture.json.
     cc -O2 -fopenmp examples/mix_optimize.c -o mix_optimize -lm     (without -fopenmp: one thread)
     ./mix_optimize --ratios ratios.csv --losses losses.csv --suggest 4 --out out/mix

   Everything is read and checked first, then judged on runs held out, then searched; the files are written last, when
   nothing but the disk can go wrong any more. */
#define MDEDEF static /* what this program does not call is not compiled */
#define MDEMIX_IMPLEMENTATION
#if __has_include("../mdemix.h") /* in the repository; a copy beside this file does as well */
#include "../mdemix.h"
#else
#include "mdemix.h"
#endif
#include "program.h"
#include "mix_tables.h"
#include "mix_trust.h"
#include "mix_report.h"

/* ---- Names and columns ---- */

/* Moves the columns of a table [rows, columns] so that column order[i] becomes column i. */
static void order_columns(mde_context *c, int rows, int columns, const int *order, double *table)
{
    double *row = program_doubles(c, columns, 1);
    int i, j;
    for (i = 0; row && i < rows; i++) {
        for (j = 0; j < columns; j++) row[j] = table[i * columns + order[j]];
        memcpy(table + i * columns, row, (size_t)columns * sizeof(double));
    }
    mde_release(c, row);
}

/* Brings the columns of `table`, called names, into the order of wanted; other is where those come from. */
static mde_status match_columns(mde_context *c, const char *path, const char *other, int count, const char **names,
                                int wanted_count, const char *const *wanted, int rows, double *table)
{
    int *order = (int *)mde_alloc(c, (size_t)count, sizeof(int));
    const char **shorter = (const char **)mde_alloc(c, (size_t)count, 2 * sizeof *shorter), **moved;
    int i, j;
    if (!program_failed(c)) short_names(c, count, names, shorter);
    moved = shorter ? shorter + count : NULL;
    for (i = 0; i < wanted_count && !program_failed(c); i++) {
        int found = find_any_name(c, count, names, shorter, wanted[i]);
        for (j = 0; j < i && order[j] != found; j++) {
        }
        if (found < 0) {
            mde_fail(c, MDE_BAD_FILE, "%s: has no column %s, which %s has", path, wanted[i], other);
        } else if (j < i) {
            mde_fail(c, MDE_BAD_FILE, "%s: column %s stands for both %s and %s of %s", path, names[found], wanted[j],
                     wanted[i], other);
        } else {
            order[i] = found;
            moved[i] = names[found];
        }
    }
    for (i = 0; i < count && count > wanted_count && !program_failed(c); i++) {
        for (j = 0; j < wanted_count && order[j] != i; j++) {
        }
        if (j < wanted_count) continue;
        mde_fail(c, MDE_BAD_FILE, "%s: column %s has no counterpart in %s", path, names[i], other);
    }
    if (!program_failed(c)) {
        memcpy((void *)names, moved, (size_t)count * sizeof *names);
        order_columns(c, rows, count, order, table);
    }
    for (i = 0; shorter && i < count; i++) mde_release(c, (void *)shorter[i]);
    mde_release(c, (void *)shorter);
    mde_release(c, order);
    return mde_context_status(c);
}

typedef struct named_run { const char *name; int run; } named_run;

static int compare_runs(const void *a, const void *b)
{
    return strcmp(((const named_run *)a)->name, ((const named_run *)b)->name);
}

/* By name, so that the order of a file's rows does not matter. */
static void sort_runs(mde_runs *runs, run_scale *scales)
{
    mde_context *c = runs->context;
    size_t n = (size_t)runs->count, k = (size_t)runs->domains, m = (size_t)runs->metrics, i;
    named_run *order = (named_run *)mde_alloc(c, n, sizeof *order);
    double *w = (double *)mde_alloc(c, n * (k + m), sizeof *w), *y = w ? w + n * k : NULL;
    run_scale *old = (run_scale *)mde_alloc(c, n, sizeof *old);
    for (i = 0; order && i < n; i++) {
        order[i].name = runs->names[i];
        order[i].run = (int)i;
    }
    if (order && w && old) {
        qsort(order, n, sizeof *order, compare_runs);
        memcpy(w, runs->weights, n * k * sizeof *w);
        memcpy(y, runs->losses, n * m * sizeof *y);
        memcpy(old, scales, n * sizeof *old);
        for (i = 0; i < n; i++) {
            runs->names[i] = order[i].name;
            scales[i] = old[order[i].run];
            memcpy(runs->weights + i * k, w + (size_t)order[i].run * k, k * sizeof *w);
            memcpy(runs->losses + i * m, y + (size_t)order[i].run * m, m * sizeof *y);
        }
    }
    mde_release(c, old);
    mde_release(c, w);
    mde_release(c, order);
}

/* Leaves out the losses that the experts have no text for. */
static void drop_losses(optimization *o)
{
    mde_context *c = o->context;
    mde_runs *runs = o->runs;
    int i, j, v, kept = 0;
    for (j = 0; j < runs->metrics && !program_failed(c); j++) {
        char *name = short_name(c, runs->metric_names[j]);
        int found = 0;
        for (v = 0; name && v < mde_experts_validations(o->experts) && !found; v++) {
            char *text = short_name(c, mde_experts_validation(o->experts, v));
            found = text && strcmp(text, name) == 0;
            mde_release(c, text);
        }
        if (found) {
            const char *swap = runs->metric_names[kept];
            runs->metric_names[kept] = runs->metric_names[j];
            runs->metric_names[j] = swap;
            for (i = 0; i < runs->count; i++) {
                double *row = runs->losses + i * runs->metrics, y = row[kept];
                row[kept] = row[j];
                row[j] = y;
            }
            kept++;
        } else if (name) {
            mde_text_format(o->warnings, "%s has no log-probabilities and is left out\n", name);
        }
        mde_release(c, name);
    }
    if (program_failed(c) || kept == runs->metrics) return;
    for (i = 0; i < runs->count; i++) {
        memmove(runs->losses + i * kept, runs->losses + i * runs->metrics, (size_t)kept * sizeof(double));
    }
    for (j = kept; j < runs->metrics; j++) {
        mde_release(c, (void *)runs->metric_names[j]);
        runs->metric_names[j] = NULL;
    }
    runs->metrics = kept;
}

static const char *const domain_keys[] = { "domain", "tokens", "prior", "min", "max" };
#define SCALES_APART 10                 /* sds of losses that differ so much are worth a word */
#define DOMAIN_KEYS ((int)(sizeof domain_keys / sizeof *domain_keys))

/* A column of the file of domains, in small letters or large; -1 when there is none. The first named one has the names
   when none is called domain. */
static int domain_key(const mde_csv *csv, int key)
{
    char wanted[16];
    int i;
    snprintf(wanted, sizeof wanted, " %s ", domain_keys[key]);
    for (i = 0; i < csv->columns; i++) if (is_one_of(csv->names[i], wanted)) return i;
    return key > 0 ? -1 : csv->columns > 1 && is_unnamed(csv->names[0]) ? 1 : 0;
}

/* The losses of runs, in the units of the search. */
static void to_units(const optimization *o, mde_runs *runs)
{
    int i, j;
    for (i = 0; runs && i < runs->count; i++) {
        for (j = 0; j < o->m; j++) {
            double *y = runs->losses + i * o->m + j;
            *y = (*y - o->centre[j]) / o->scale[j];
        }
    }
}

/* Names of domains and metrics, from the runs, or else from the experts, or else from the file of domains. */
static void read_names(optimization *o, const mde_csv *domains)
{
    mde_context *c = o->context;
    const char **names;
    int i, column = domains ? domain_key(domains, 0) : 0;
    o->k = o->runs ? o->runs->domains : o->experts ? mde_experts_count(o->experts) : domains->rows;
    o->m = o->runs ? o->runs->metrics : o->experts ? mde_experts_validations(o->experts) : 0;
    if (o->k < 2 || o->k > MDE_MAX_DOMAINS) {
        const char *from = o->runs ? o->settings.ratios : o->experts ? o->settings.logp : o->settings.domains;
        mde_fail(c, MDE_BAD_FILE, "%s: %d domains; expected 2 to %d", from, o->k, MDE_MAX_DOMAINS);
        return;
    }
    o->domains = (const char **)mde_alloc(c, (size_t)o->k, sizeof *o->domains);
    o->metrics = (const char **)mde_alloc(c, (size_t)o->m + 1, sizeof *o->metrics);
    names = (const char **)mde_alloc(c, (size_t)o->k + (size_t)o->m, sizeof *names);
    if (!program_failed(c)) {
        for (i = 0; i < o->k; i++) {
            names[i] = o->runs ? o->runs->domain_names[i] : o->experts ? mde_experts_name(o->experts, i)
                                                          : domains->cells[i * domains->columns + column];
        }
        for (i = 0; i < o->m; i++) {
            names[o->k + i] = o->runs ? o->runs->metric_names[i] : mde_experts_validation(o->experts, i);
        }
        short_names(c, o->k, names, o->domains);
        short_names(c, o->m, names + o->k, o->metrics);
    }
    mde_release(c, (void *)names);
}

/* Losses as the search takes them: larger is worse, and in standard deviations when that is asked for. What is shown is
   centre + scale times that, in the units of the table. */
static void set_units(optimization *o)
{
    mde_context *c = o->context;
    const optimize_settings *s = &o->settings;
    double narrowest = (double)INFINITY, widest = 0;
    int i, j, narrow = 0, wide = 0;
    o->centre = program_doubles(c, 3, o->m);
    if (!o->centre) return;
    o->scale = o->centre + o->m;
    o->nats = o->scale + o->m;
    o->unit = s->standardize ? "standard deviations" : "nats a token";
    for (j = 0; j < o->m && !program_failed(c); j++) {
        double mean = 0, squares = 0, sd;
        int count = 0, sign = o->runs ? metric_sign(c, &s->columns, o->runs->metric_names[j]) : 1;
        for (i = 0; i < o->n; i++) {
            double y = o->runs->losses[i * o->m + j];
            if (y != y) continue;
            squares += (y - mean) * (y - mean) * count / (count + 1.0);
            mean += (y - mean) / ++count;
        }
        sd = count > 1 ? sqrt(squares / (count - 1)) : 0;
        o->centre[j] = s->standardize ? mean : 0;
        o->scale[j] = sign * (s->standardize && sd > 0 ? sd : 1);
        o->nats[j] = o->objective[j] / fabs(o->scale[j]);
        if (sign < 0) {
            mde_text_format(o->notes, "%s is maximised\n", o->metrics[j]);
            if (!s->standardize) o->unit = "in the units of the tables";
        }
        if (!(sd > 0 && o->objective[j] > 0)) continue;
        if (sd < narrowest) narrowest = sd, narrow = j;
        if (sd > widest) widest = sd, wide = j;
    }
    if (widest > SCALES_APART * narrowest && !s->standardize) {
        mde_text_format(o->warnings, "%s varies %.3g times as much between runs as %s and rules the objective: "
                        "--standardize counts each loss in its own standard deviations\n", o->metrics[wide],
                        widest / narrowest, o->metrics[narrow]);
    }
    to_units(o, o->runs);
    to_units(o, o->test);
}

static void check_runs(optimization *o)
{
    mde_context *c = o->context;
    int i, j, constant = 0;
    for (j = 0; j < o->m && !program_failed(c); j++) {
        double lowest = (double)INFINITY, highest = -(double)INFINITY;
        int count = 0;
        for (i = 0; i < o->n; i++) {
            double y = o->runs->losses[i * o->m + j];
            if (y != y) continue;
            count++;
            if (y < lowest) lowest = y;
            if (y > highest) highest = y;
        }
        if (count < 5) {
            mde_fail(c, MDE_BAD_FILE, "%s: column %s has %d losses; at least 5 runs are needed to fit and to judge",
                     o->settings.losses, o->runs->metric_names[j], count);
        } else if (!(highest > lowest)) {
            constant++;
            mde_text_format(o->warnings, "%s is the same in all runs and says nothing about mixtures\n", o->metrics[j]);
        }
    }
    if (constant == o->m && !program_failed(c)) {
        mde_fail(c, MDE_BAD_FILE, "%s: every loss is the same in all %d runs; there is nothing to choose by",
                 o->settings.losses, o->n);
    }
}

/* ---- Objective and bounds ---- */

/* name=weight,name=weight or avg. */
static void read_objective(optimization *o)
{
    mde_context *c = o->context;
    const char *text = o->settings.objective ? o->settings.objective : "avg";
    double total = 0;
    int j;
    o->objective = program_doubles(c, o->m + 1, 1);
    if (!o->objective || o->m == 0) return;
    if (strcmp(text, "avg") == 0) {
        for (j = 0; j < o->m; j++) o->objective[j] = 1.0 / o->m;
        return;
    }
    while (*text && !program_failed(c)) {
        size_t item = strcspn(text, ","), name = strcspn(text, "=,");
        const char *const *names = o->runs ? o->runs->metric_names : o->metrics;
        double weight = 1;
        j = find_name(o->m, names, o->metrics, text, name);
        if (j < 0) {
            mde_fail(c, MDE_BAD_ARGUMENT, "objective: there is no metric %.*s; there is, for instance, %s", (int)name,
                     text, o->metrics[0]);
        } else if (name < item &&
                   !(program_number(text + name + 1, item - name - 1, &weight) && weight >= 0 && weight <= 1e12)) {
            mde_fail(c, MDE_BAD_ARGUMENT, "objective: the weight of %s is \"%.*s\"; expected a number of 0 or more",
                     o->metrics[j], (int)(item - name - 1), text + name + 1);
        } else {
            o->objective[j] += weight;
            total += weight;
        }
        text += item + (text[item] == ',');
    }
    if (!program_failed(c) && !(total > 0)) mde_fail(c, MDE_BAD_ARGUMENT, "objective: all weights are 0");
    for (j = 0; j < o->m && total > 0; j++) o->objective[j] /= total;
}

/* Which row of the file of domains each domain [k] has, -1 for none. */
static void domain_rows(const optimization *o, const mde_csv *csv, int *rows)
{
    mde_context *c = o->context;
    int names = domain_key(csv, 0), row, i, known = 0;
    for (i = 0; i < o->k; i++) rows[i] = -1;
    for (i = 1; i < DOMAIN_KEYS; i++) known += domain_key(csv, i) >= 0;
    for (i = 0; i < csv->columns; i++) {
        int key;
        for (key = 0; key < DOMAIN_KEYS && domain_key(csv, key) != i; key++) {
        }
        if (key < DOMAIN_KEYS || is_unnamed(csv->names[i])) continue;
        mde_fail(c, MDE_BAD_FILE, "%s%s line 1, column %.100s: is none of domain, tokens, prior, min, max", csv->path,
                 known == 0 ? ": has none of the columns tokens, prior, min, max;" : "", csv->names[i]);
    }
    if ((o->runs || o->experts) && known == 0) {
        mde_fail(c, MDE_BAD_FILE, "%s: has none of the columns tokens, prior, min, max", csv->path);
    }
    for (row = 0; row < csv->rows && !program_failed(c); row++) {
        const char *cell = csv->cells[row * csv->columns + names];
        i = find_any_name(c, o->k, o->runs ? o->runs->domain_names : o->domains, o->domains, cell);
        if (program_failed(c)) return;
        if (i < 0) {
            mde_fail(c, MDE_BAD_FILE, "%s line %d: there is no domain %.100s among the %s", csv->path, csv->lines[row],
                     cell, o->runs ? "runs" : "experts");
        } else if (rows[i] >= 0) {
            mde_fail(c, MDE_BAD_FILE, "%s line %d: domain %.100s stands already in line %d", csv->path, csv->lines[row],
                     cell, csv->lines[rows[i]]);
        } else {
            rows[i] = row;
        }
    }
}

/* A column of the file of domains, by domain; NaN where there is none. shares: at most 1. */
static void domain_column(const optimization *o, const mde_csv *csv, const int *rows, int key, int shares, double *out)
{
    mde_context *c = o->context;
    int column = domain_key(csv, key), i;
    for (i = 0; i < o->k && !program_failed(c); i++) {
        out[i] = column >= 0 && rows[i] >= 0 ? mde_csv_number(csv, rows[i], column) : (double)NAN;
        if (out[i] == out[i] && !(out[i] >= 0 && out[i] < 1e300)) {
            mde_fail(c, MDE_BAD_FILE, "%s line %d, column %s: is %.9g; expected 0 or more", csv->path,
                     csv->lines[rows[i]], domain_keys[key], out[i]);
        } else if (shares && out[i] > 1) {
            mde_fail(c, MDE_BAD_FILE, "%s line %d, column %s: is %.9g; expected a share from 0 to 1, no percents",
                     csv->path, csv->lines[rows[i]], domain_keys[key], out[i]);
        }
    }
}

/* The file of domains: [k] each, NaN where it says nothing. */
typedef struct domain_table {
    double tokens[MDE_MAX_DOMAINS], prior[MDE_MAX_DOMAINS];
    double minimum[MDE_MAX_DOMAINS], maximum[MDE_MAX_DOMAINS];
} domain_table;

/* What the file asks for must be possible: priors of all domains or of none, and a min that is no more than the max and
   than what was tried. */
static void check_domains(const optimization *o, const mde_csv *csv, const int *rows, const domain_table *d)
{
    mde_context *c = o->context;
    int i, given = 0;
    for (i = 0; i < o->k; i++) given += d->prior[i] == d->prior[i];
    for (i = 0; i < o->k && !program_failed(c); i++) {
        double cap = d->maximum[i] < 1 ? d->maximum[i] : 1; /* 1 for a NaN, too */
        if (given > 0 && d->prior[i] != d->prior[i]) {
            mde_fail(c, MDE_BAD_FILE, "%s: there is no prior of %s, but of other domains", csv->path, o->domains[i]);
        } else if (d->minimum[i] > 1) {
            mde_fail(c, MDE_BAD_FILE, "%s line %d: domain %s has the min %.9g above 1; column min has shares, no "
                     "percents", csv->path, csv->lines[rows[i]], o->domains[i], d->minimum[i]);
        } else if (d->minimum[i] > cap) {
            mde_fail(c, MDE_BAD_FILE, "%s line %d: domain %s has the min %.9g above its max %.9g", csv->path,
                     csv->lines[rows[i]], o->domains[i], d->minimum[i], cap);
        } else if (d->minimum[i] > o->tried_upper[i]) {
            mde_fail(c, MDE_BAD_FILE, "%s line %d: domain %s has the min %.9g, but no run had more than %.9g",
                     csv->path, csv->lines[rows[i]], o->domains[i], d->minimum[i], o->tried_upper[i]);
        }
    }
}

static void read_domains(const optimization *o, const mde_csv *csv, domain_table *d)
{
    int i, rows[MDE_MAX_DOMAINS];
    for (i = 0; i < o->k; i++) d->tokens[i] = d->prior[i] = d->minimum[i] = d->maximum[i] = (double)NAN;
    if (!csv) return;
    domain_rows(o, csv, rows);
    if (program_failed(o->context)) return;
    domain_column(o, csv, rows, 1, 0, d->tokens);
    domain_column(o, csv, rows, 2, 0, d->prior);
    domain_column(o, csv, rows, 3, 0, d->minimum);
    domain_column(o, csv, rows, 4, 1, d->maximum);
    if (!program_failed(o->context)) check_domains(o, csv, rows, d);
}

/* The file's priors, else the shares of its tokens, else the mean of the runs. */
static void set_prior(optimization *o, const domain_table *d, int tokens_known)
{
    double sum = 0;
    int i, r;
    for (i = 0; i < o->k; i++) {
        double mean = 0;
        for (r = 0; r < o->n; r++) mean += o->runs->weights[r * o->k + i] / o->n;
        o->prior[i] = d->prior[i] == d->prior[i] ? d->prior[i] : tokens_known ? d->tokens[i] : o->n > 0 ? mean : 1.0;
        sum += o->prior[i];
    }
    if (!(sum > 0)) mde_fail(o->context, MDE_BAD_FILE, "%s: the priors sum to 0", o->settings.domains);
    for (i = 0; i < o->k; i++) o->prior[i] /= sum;
}

/* The upper bound falls to cap where that is less. The minimum that was tried gives way to a cap that must hold. */
static void lower_the_cap(optimization *o, int i, double cap, int must, const char *reason)
{
    if (!(cap < o->upper[i])) return;
    if (cap < o->lower[i]) {
        if (must) {
            mde_text_format(o->warnings, "no run had as little of %s as the bound %.9g (%s): nothing is known there\n",
                            o->domains[i], cap, reason);
            o->lower[i] = cap;
        }
        cap = o->lower[i];
    }
    o->upper[i] = cap;
    o->upper_reason[i] = reason;
}

/* Prior, tokens and bounds. The user's own: so many times the prior, the token budget, and the file's; runs to make
   next keep to those. The recommended mixture also keeps to what was tried. */
static void set_bounds(optimization *o, const mde_csv *csv)
{
    mde_context *c = o->context;
    const optimize_settings *s = &o->settings;
    double ratio = s->max_ratio > 0 ? s->max_ratio : 15;
    double epochs = s->max_epochs > 0 ? s->max_epochs : 4;
    domain_table d;
    int i, pass, known = 1;
    o->prior = program_doubles(c, 8, o->k);
    o->upper_reason = (const char **)mde_alloc(c, (size_t)o->k, sizeof *o->upper_reason);
    if (program_failed(c)) return;
    o->tokens = o->prior + o->k;
    o->lower = o->tokens + o->k;
    o->upper = o->lower + o->k;
    o->tried_lower = o->upper + o->k;
    o->tried_upper = o->tried_lower + o->k;
    o->allowed_lower = o->tried_upper + o->k;
    o->allowed_upper = o->allowed_lower + o->k;
    for (i = 0; i < o->k; i++) o->tried_upper[i] = 1;
    if (o->n > 0) mde_bounds_of_runs(o->n, o->k, o->runs->weights, 0, o->tried_lower, o->tried_upper);
    read_domains(o, csv, &d);
    if (program_failed(c)) return;
    memcpy(o->tokens, d.tokens, (size_t)o->k * sizeof(double));
    for (i = 0; i < o->k; i++)
        if (!(d.tokens[i] >= 0)) known = 0;
    if (s->target_tokens > 0 && !known && !(s->target_params > 0) && !o->scaling.law) {
        mde_fail(c, MDE_BAD_ARGUMENT, "--target-tokens: a budget needs a file of domains that has a column tokens "
                 "with a number for each of the %d domains; a larger model needs --target-params, too", o->k);
        return;
    }
    set_prior(o, &d, known);
    for (pass = 0; pass < 2 && !program_failed(c); pass++) {
        double highest = 0, lowest = 0;
        for (i = 0; i < o->k && !program_failed(c); i++) {
            double tried = pass ? o->tried_lower[i] : 0;
            o->lower[i] = d.minimum[i] > tried ? d.minimum[i] : tried;
            o->upper[i] = 1;
            if (pass) lower_the_cap(o, i, o->tried_upper[i], 0, "maximum that was tried");
            if (ratio < 1e30 && (o->n > 0 || s->max_ratio > 0)) {
                lower_the_cap(o, i, ratio * o->prior[i], 0, "ratio to the prior");
            }
            if (s->target_tokens > 0 && known) {
                lower_the_cap(o, i, epochs * d.tokens[i] / s->target_tokens, 1, "token budget");
            }
            lower_the_cap(o, i, d.maximum[i], 1, "file of domains");
            if (o->lower[i] < d.minimum[i]) {
                mde_fail(c, MDE_BAD_ARGUMENT, "token budget: it leaves %s at most %.9g, less than its min %.9g",
                         o->domains[i], o->upper[i], d.minimum[i]);
            }
            highest += o->upper[i];
            lowest += o->lower[i];
        }
        if (program_failed(c)) return;
        if (lowest > 1.0 + 1e-9) {
            mde_fail(c, MDE_BAD_ARGUMENT, "bounds: the lower bounds of all domains sum to %.9g, so no mixture fits",
                     lowest);
        } else if (highest < 1.0 - 1e-9) {
            mde_fail(c, MDE_BAD_ARGUMENT,
                     "bounds: the upper bounds of all domains sum to %.9g, so no mixture fits; allow "
                     "more epochs, fewer target tokens or a higher ratio to the prior",
                     highest);
        }
        if (pass) continue;
        memcpy(o->allowed_lower, o->lower, (size_t)o->k * sizeof(double));
        memcpy(o->allowed_upper, o->upper, (size_t)o->k * sizeof(double));
    }
}

/* ---- Which regression ---- */

static int parse_features(mde_context *c, const char *text)
{
    static const struct {
        const char *name;
        int feature;
    } table[] = { { "raw", MDE_FEATURE_RAW },       { "log", MDE_FEATURE_LOG },
                  { "sqrt", MDE_FEATURE_SQRT },     { "products", MDE_FEATURE_PRODUCTS },
                  { "power", MDE_FEATURE_POWER },   { "pooled", MDE_FEATURE_POOLED },
                  { "scarce", MDE_FEATURE_SCARCE }, { "mde", MDE_FEATURE_MDE },
                  { "own", MDE_FEATURE_OWN } };
    int set = 0;
    while (text && *text) {
        size_t length = strcspn(text, "+,"), i;
        for (i = 0; i < sizeof table / sizeof *table; i++) {
            if (strlen(table[i].name) == length && strncmp(text, table[i].name, length) == 0) break;
        }
        if (i == sizeof table / sizeof *table) {
            mde_fail(c, MDE_BAD_ARGUMENT,
                     "features: \"%.*s\" is none of raw, log, sqrt, products, power, pooled, "
                     "scarce, mde, own",
                     (int)length, text);
            return 0;
        }
        set |= table[i].feature;
        text += length + (text[length] != 0);
    }
    return set;
}

static mde_surrogate_desc chosen_model(optimization *o)
{
    const char *name = o->settings.model ? o->settings.model : "auto";
    mde_surrogate_desc desc;
    int features = parse_features(o->context, o->settings.features);
    memset(&desc, 0, sizeof desc);
    desc.fit.seed = o->settings.seed;
    desc.experts = o->experts;
    mde_surrogate_recipe(o->context, name, &desc);
    if (features && (desc.fit.model == MDE_AUTO || desc.fit.model == MDE_STACK)) {
        mde_fail(o->context, MDE_BAD_ARGUMENT, "features: %s chooses its own; name a single model", name);
    }
    if (features) desc.features = features;
    return desc;
}

/* Each fold must leave enough of every loss to fit to; said before anything is fitted, with the loss's name. */
static void check_folds(optimization *o)
{
    mde_context *c = o->context;
    int *fold = (int *)mde_alloc(c, (size_t)o->n, sizeof(int));
    int folds = fold ? mde_deal_folds(c, o->n, o->k, o->runs->weights, o->settings.folds, o->settings.seed, fold) : 0;
    int i, j, f;
    for (j = 0; j < o->m && folds > 1; j++) {
        for (f = 0; f < folds; f++) {
            int count = 0;
            for (i = 0; i < o->n; i++) {
                double y = o->runs->losses[i * o->m + j];
                count += fold[i] != f && y == y;
            }
            if (count >= 3) continue;
            mde_fail(c, MDE_BAD_FILE,
                     "%s: column %s has so few losses that a fold leaves only %d to fit to; at least "
                     "3 are needed: give more of them, or leave the column out",
                     o->settings.losses, o->runs->metric_names[j], count);
        }
    }
    mde_release(c, fold);
}

/* Whether what is asked for has what it needs. */
static void check_request(const optimization *o)
{
    mde_context *c = o->context;
    const optimize_settings *s = &o->settings;
    const char *alone = s->table && (s->ratios || s->losses) ? s->table
                        : !s->losses ? s->ratios : !s->ratios ? s->losses : NULL;
    if (!alone) alone = !s->test_losses ? s->test_ratios : !s->test_ratios ? s->test_losses : NULL;
    if (alone && alone == s->table) {
        mde_fail(c, MDE_BAD_ARGUMENT, "one table of all (%s) leaves no room for tables of weights or losses", alone);
    } else if (alone) {
        mde_fail(c, MDE_BAD_ARGUMENT, "mixture weights and losses come in pairs: %s is given alone", alone);
    } else if (!s->table && !s->ratios && !s->logp && !(s->domains && s->suggest > 0)) {
        mde_fail(c, MDE_BAD_ARGUMENT,
                 "there is nothing to go by: give tables of runs, or log-probabilities, or, for a "
                 "first design, a file of domains and the number of runs to suggest");
    } else if ((s->test_table || s->test_ratios || s->compare || s->standardize || s->anchor || s->target_params > 0) &&
               !s->table && !s->ratios) {
        mde_fail(c, MDE_BAD_ARGUMENT, "%s need runs to fit to", s->compare ? "mixtures to compare" :
                 s->anchor || s->target_params > 0 ? "predictions for a larger size" :
                 s->standardize ? "standardised losses" : "runs to judge on");
    }
}

/* Brings the runs' columns into the order of the experts and their texts. */
static void match_experts(optimization *o)
{
    mde_context *c = o->context;
    const optimize_settings *s = &o->settings;
    const char *domains[MDE_MAX_DOMAINS];
    int i, experts = mde_experts_count(o->experts), texts = mde_experts_validations(o->experts);
    const char **names = (const char **)mde_alloc(c, (size_t)texts, sizeof *names);
    o->table_domains = (const char **)mde_alloc(c, (size_t)o->runs->domains, sizeof *o->table_domains);
    for (i = 0; o->table_domains && i < o->runs->domains; i++) o->table_domains[i] = o->runs->domain_names[i];
    for (i = 0; i < experts; i++) domains[i] = mde_experts_name(o->experts, i);
    for (i = 0; names && i < texts; i++) names[i] = mde_experts_validation(o->experts, i);
    if (!program_failed(c)) {
        match_columns(c, s->ratios, s->logp, o->runs->domains, o->runs->domain_names, experts, domains, o->runs->count,
                      o->runs->weights);
    }
    if (!program_failed(c)) drop_losses(o);
    if (!program_failed(c)) {
        match_columns(c, s->losses, s->logp, o->runs->metrics, o->runs->metric_names, texts, names, o->runs->count,
                      o->runs->losses);
    }
    mde_release(c, (void *)names);
}

/* Adds the runs of b, whose columns are in the same order, to those of a, and their scales; b is freed. */
static void append_runs(mde_runs *a, run_scale **scales, mde_runs *b, const run_scale *more)
{
    mde_context *c = a->context;
    size_t n = (size_t)a->count, extra = (size_t)b->count, k = (size_t)a->domains, m = (size_t)a->metrics;
    const char **names = (const char **)mde_alloc(c, n + extra, sizeof *names);
    double *w = (double *)mde_alloc(c, n + extra, k * sizeof *w), *y = (double *)mde_alloc(c, n + extra, m * sizeof *y);
    run_scale *all = (run_scale *)mde_alloc(c, n + extra, sizeof *all);
    if (!program_failed(c)) {
        memcpy((void *)names, a->names, n * sizeof *names);
        memcpy((void *)(names + n), b->names, extra * sizeof *names);
        memset((void *)b->names, 0, extra * sizeof *names);
        memcpy(w, a->weights, n * k * sizeof *w);
        memcpy(w + n * k, b->weights, extra * k * sizeof *w);
        memcpy(y, a->losses, n * m * sizeof *y);
        memcpy(y + n * m, b->losses, extra * m * sizeof *y);
        memcpy(all, *scales, n * sizeof *all);
        memcpy(all + n, more, extra * sizeof *all);
        mde_release(c, (void *)a->names);
        mde_release(c, a->weights);
        mde_release(c, a->losses);
        mde_release(c, *scales);
        a->names = names;
        a->weights = w;
        a->losses = y;
        a->count += b->count;
        *scales = all;
    }
    mde_runs_free(b);
}

/* As read_runs; one table may be several, commas between, of the same columns, such as one a size. */
static mde_runs *read_tables(mde_context *c, const char *ratios, const char *losses, const table_options *options,
                             const mde_runs *like, mde_text *notes, run_scale **scales)
{
    table_options by_name = *options;
    char path[PROGRAM_PATH];
    mde_runs *runs = NULL;
    if (losses || !program_is_list(ratios)) {
        return read_runs(c, ratios, losses, options, like, notes, scales);
    }
    by_name.sizes_by_name = 1;
    while (ratios && !program_failed(c)) {
        run_scale *more = NULL;
        mde_runs *next;
        ratios = program_list_path(c, ratios, path);
        next = read_runs(c, path, NULL, &by_name, like, runs ? NULL : notes, runs ? &more : scales);
        if (next && runs) {
            match_columns(c, path, "the first table", next->domains, next->domain_names, runs->domains,
                          runs->domain_names, next->count, next->weights);
            if (!program_failed(c)) {
                match_columns(c, path, "the first table", next->metrics, next->metric_names, runs->metrics,
                              runs->metric_names, next->count, next->losses);
            }
            append_runs(runs, scales, next, more);
        } else if (next) {
            runs = next;
        }
        mde_release(c, more);
    }
    return runs;
}

/* Losses of runs to judge on as they would be at the target, and the sds that this adds. */
static void move_test(optimization *o, const run_scale *of)
{
    const scaling *s = &o->scaling;
    int i;
    o->test_added = program_doubles(o->context, o->test->count, o->m);
    for (i = 0; i < o->test->count * o->m && o->test_added && !program_failed(o->context); i++) {
        const double *w = o->test->weights + i / o->m * o->k;
        const run_scale *at = &of[i / o->m];
        if (at->steps || (s->target.params > 0 && !(at->params > 0)) || (s->target.tokens > 0 && !(at->tokens > 0))) {
            mde_fail(o->context, MDE_BAD_FILE, "%s: run %.100s has no %s, which the law needs", o->settings.test_table
                     ? o->settings.test_table : o->settings.test_losses, o->test->names[i / o->m],
                     at->params > 0 ? "tokens" : "size");
        } else {
            o->test->losses[i] += law_step(o, s->law, i % o->m, w, at, &s->target, NULL);
            law_step(o, s->law, i % o->m, w, &s->origin, at, o->test_added + i);
            o->test_added[i] *= s->factor;
        }
    }
}

/* Without a law, checkpoints to judge on are those of the largest size that are most common. */
static void slice_test(optimization *o, const run_scale *of)
{
    int *rows = (int *)mde_alloc(o->context, (size_t)o->test->count, sizeof *rows), i, count, largest = 0;
    mde_runs *slice;
    for (i = 1; i < o->test->count; i++) if (of[i].params > of[largest].params) largest = i;
    if (rows) {
        count = rows_at(o->test->count, of, of[largest].params,
                        common_tokens(o->context, o->test->count, of, of[largest].params), rows);
        slice = count < o->test->count ? copy_rows(o->test, count, rows) : NULL;
        if (slice) {
            mde_text_format(o->notes, "of the runs to judge on, the %d that are alike in size and tokens are used\n",
                            count);
            mde_runs_free(o->test);
            o->test = slice;
        }
    }
    mde_release(o->context, rows);
}

/* The test's columns are those of the runs, whatever else they hold. */
static void read_test(optimization *o)
{
    run_scale *of = NULL;
    mde_context *c = o->context;
    const optimize_settings *s = &o->settings;
    const char *ratios = s->test_table ? s->test_table : s->test_ratios;
    const char *losses = s->test_table ? s->test_table : s->test_losses;
    mde_text *notes = mde_text_create(c);       /* as of the runs: said once */
    o->test = read_tables(c, ratios, s->test_table ? NULL : losses, &s->columns, o->runs, notes, &of);
    mde_text_free(notes);
    if (o->test) {
        match_columns(c, ratios, s->ratios, o->test->domains, o->test->domain_names, o->k, o->runs->domain_names,
                      o->test->count, o->test->weights);
    }
    if (!program_failed(c)) {
        match_columns(c, losses, s->losses, o->test->metrics, o->test->metric_names, o->m, o->runs->metric_names,
                      o->test->count, o->test->losses);
    }
    if (!program_failed(c)) (o->scaling.law ? move_test : slice_test)(o, of);
    mde_release(c, of);
}

static void read_anchors(optimization *o)
{
    mde_context *c = o->context;
    const optimize_settings *s = &o->settings;
    mde_text *notes = mde_text_create(c);
    run_scale *of = NULL;
    mde_runs *anchors = read_tables(c, s->anchor, NULL, &s->columns, o->runs, notes, &of);
    if (anchors) {
        match_columns(c, s->anchor, s->ratios, anchors->domains, anchors->domain_names, o->k, o->runs->domain_names,
                      anchors->count, anchors->weights);
    }
    if (!program_failed(c)) {
        match_columns(c, s->anchor, s->losses, anchors->metrics, anchors->metric_names, o->m, o->runs->metric_names,
                      anchors->count, anchors->losses);
    }
    if (!program_failed(c)) use_anchors(o, anchors);
    mde_runs_free(anchors);
    mde_release(c, of);
    mde_text_free(notes);
}

static void read_mixtures(optimization *o)
{
    const char *path = o->settings.compare;
    o->mixtures = read_mixture_table(o->context, path, o->runs);
    if (!o->mixtures) return;
    match_columns(o->context, path, o->settings.ratios, o->mixtures->domains, o->mixtures->domain_names, o->k,
                  o->runs->domain_names, o->mixtures->count, o->mixtures->weights);
}

static void read_inputs(optimization *o)
{
    mde_context *c = o->context;
    const optimize_settings *s = &o->settings;
    mde_csv *domains = NULL;
    check_request(o);
    o->settings.columns.sizes_by_name = s->target_params > 0;
    if (s->domains && !program_failed(c)) domains = mde_csv_read(c, s->domains);
    if (domains && domains->rows < 1) mde_fail(c, MDE_BAD_FILE, "%s: has no domain", s->domains);
    if (s->table && !program_failed(c)) {
        o->settings.ratios = o->settings.losses = s->table;
        o->runs = read_tables(c, s->table, NULL, &o->settings.columns, NULL, o->notes, &o->scaling.of);
    } else if (s->ratios && !program_failed(c)) {
        o->runs = read_tables(c, s->ratios, s->losses, &o->settings.columns, NULL, o->notes, &o->scaling.of);
    }
    if (o->runs && !program_failed(c)) sort_runs(o->runs, o->scaling.of);
    if (s->logp && !program_failed(c)) {
        mde_experts_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.nll = s->nll;
        desc.memory = (size_t)s->memory << 20;
        desc.progress = s->progress;
        desc.user = s->user;
        o->experts = mde_experts_open(c, s->logp, &desc);
    }
    if (o->runs && o->experts) match_experts(o);
    o->n = o->runs ? o->runs->count : 0;
    if (!program_failed(c)) read_names(o, domains);
    if (!program_failed(c) && o->runs) use_scales(o);
    if (!program_failed(c) && s->budget_flops > 0) check_spending(o);
    if (!program_failed(c) && s->anchor) read_anchors(o);
    if (!program_failed(c) && o->runs) check_runs(o);
    if (!program_failed(c) && (s->test_table || s->test_ratios)) read_test(o);
    if (!program_failed(c) && s->compare) read_mixtures(o);
    if (!program_failed(c)) read_objective(o);
    if (!program_failed(c)) set_units(o);
    if (!program_failed(c)) set_bounds(o, domains);
    if (!program_failed(c) && o->runs) check_folds(o);
    if (!program_failed(c) && o->runs) chosen_model(o);
    mde_csv_free(domains);
}

/* ---- Judged on runs held out ---- */

static void score_metric(mde_context *c, int n, int m, int j, const double *predicted, const double *sd,
                         const double *losses, uint64_t seed, double *a, double *b, metric_score *out)
{
    double rank[3] = { (double)NAN, (double)NAN, (double)NAN };
    int i, count = 0, covered = 0;
    for (i = 0; i < n; i++) {
        int at = i * m + j;
        if (losses[at] != losses[at]) continue;
        if (fabs(predicted[at] - losses[at]) <= LEVEL_90 * sd[at]) covered++;
        a[count] = predicted[at];
        b[count++] = losses[at];
    }
    out->mse = mde_mse(count, a, b);
    out->coverage = count > 0 ? (double)covered / count : (double)NAN;
    if (count >= 3) spearman_interval(c, count, a, b, 0.9, 0, seed, rank);
    out->spearman = rank[0];
    out->low = rank[1];
    out->high = rank[2];
}

/* A score a metric and, last, their means over the metrics that have one. */
static metric_score *score_metrics(optimization *o, int n, const double *predicted, const double *sd,
                                   const double *losses)
{
    mde_context *c = o->context;
    metric_score *scores = (metric_score *)mde_alloc(c, (size_t)o->m + 1, sizeof *scores), *mean;
    double *a = program_doubles(c, 2, n);
    int j, ranked = 0, judged = 0;
    mean = scores ? scores + o->m : NULL;
    for (j = 0; j < o->m && !program_failed(c); j++) {
        score_metric(c, n, o->m, j, predicted, sd, losses, o->settings.seed, a, a + n, scores + j);
        scores[j].mse *= o->scale[j] * o->scale[j];
        if (scores[j].mse == scores[j].mse) {
            mean->mse += scores[j].mse;
            mean->coverage += scores[j].coverage;
            judged++;
        }
        if (scores[j].spearman != scores[j].spearman) continue;
        mean->spearman += scores[j].spearman;
        mean->low += scores[j].low;
        mean->high += scores[j].high;
        ranked++;
    }
    if (mean) {
        mean->mse = judged ? mean->mse / judged : (double)NAN;
        mean->coverage = judged ? mean->coverage / judged : (double)NAN;
        mean->spearman = ranked ? mean->spearman / ranked : (double)NAN;
        mean->low = ranked ? mean->low / ranked : (double)NAN;
        mean->high = ranked ? mean->high / ranked : (double)NAN;
    }
    mde_release(c, a);
    return scores;
}

/* Objective of held-out runs: how it ranks them, and the best that was reached. */
static void judge_objective(optimization *o)
{
    mde_context *c = o->context;
    const mde_evaluation *e = o->evaluation;
    double *predicted = program_doubles(c, 2, o->n), *truth = predicted ? predicted + o->n : NULL;
    double rank[3] = { (double)NAN, (double)NAN, (double)NAN };
    int i, count = 0;
    o->best_tried = (double)INFINITY;
    for (i = 0; i < o->n && predicted; i++) {
        truth[count] = objective_of(o, o->runs->losses + i * o->m);
        predicted[count] = objective_of(o, e->predicted + i * o->m);
        if (truth[count] != truth[count]) continue;
        if (truth[count] < o->best_tried) {
            o->best_tried = truth[count];
            o->best_run = i;
        }
        count++;
    }
    if (count >= 3) spearman_interval(c, count, predicted, truth, 0.9, 0, o->settings.seed, rank);
    o->objective_spearman = rank[0];
    o->objective_low = rank[1];
    o->objective_high = rank[2];
    mde_release(c, predicted);
    o->regret = picking_regret(e, o->runs->losses, o->objective, &o->regret_of_chance);
    o->spread = mde_evaluation_spread(e, o->runs->losses, o->objective);
    if (count == 0) mde_fail(c, MDE_BAD_FILE, "%s: no run has all losses of the objective", o->settings.losses);
}

/* Returns 1, with an error, when the job is to stop. */
static int report_step(const optimization *o, const char *stage, int step, int steps)
{
    return program_step(o->context, o->settings.progress, o->settings.user, stage, step, steps);
}

static void fit(optimization *o)
{
    mde_context *c = o->context;
    mde_surrogate_desc desc = chosen_model(o), chosen;
    mde_evaluate_desc how;
    const double *weights = o->runs->weights, *losses = o->runs->losses;
    int j;
    if (program_failed(c)) return;
    memset(&how, 0, sizeof how);
    how.folds = o->settings.folds;
    how.seed = o->settings.seed;
    how.progress = o->settings.progress;
    how.user = o->settings.user;
    o->evaluation = mde_evaluate(c, o->n, o->k, o->m, weights, losses, &desc, &how);
    if (!o->evaluation) return;
    if (report_step(o, "fit", 0, 1)) return;
    o->surrogate = mde_evaluation_fit(o->evaluation, weights, losses);
    if (program_failed(c) || report_step(o, "fit", 1, 1)) return;
    o->held_out = score_metrics(o, o->n, o->evaluation->predicted, o->evaluation->sd, losses);
    o->noise = program_doubles(c, o->m, 1);
    if (!o->noise) return;
    o->repeats = repeat_noise(c, o->n, o->k, o->m, weights, losses, o->noise);
    for (j = 0; j < o->m; j++) o->noise[j] *= fabs(o->scale[j]);
    judge_objective(o);
    chosen = mde_evaluation_choice(o->evaluation);
    if (program_failed(c)) return;
    o->points = learning_curve(c, o->n, o->k, o->m, weights, losses, &chosen, &how, o->n <= 64 ? 5 : 2, o->curve);
}

static void choose_within_bounds(const optimization *o, mde_choose_desc *desc)
{
    memset(desc, 0, sizeof *desc);
    desc->objective = o->objective;
    desc->prior = o->prior;
    desc->kl = o->settings.kl;
    desc->caution = o->settings.caution;
    desc->spread = o->spread;
    desc->tried = o->runs->weights;
    desc->runs = o->n;
    desc->seed = o->settings.seed;
    desc->progress = o->settings.progress;
    desc->user = o->settings.user;
    desc->lower = o->lower;
    desc->upper = o->upper;
}

/* What repeated domains make of the losses of the mixtures found. */
static void count_repeats(optimization *o)
{
    double fresh[MDE_MAX_DOMAINS], total = o->settings.target_tokens;
    run_scale at;
    predictions p;
    int i, r, again = 0;
    if (effective_data(o, o->best.weights, fresh, &at)) {
        char tokens[32], worth[32];
        o->best.loss = o->compared.value[0];
        mde_text_format(o->notes, "of %s tokens, domains are repeated that have fewer: worth %s fresh ones;",
                        scale_text(total, tokens), scale_text(at.tokens, worth));
        for (i = 0; i < o->k; i++) {
            double epochs = o->tokens[i] > 0 ? o->best.weights[i] * total / o->tokens[i] : 0;
            if (epochs > 1) mde_text_format(o->notes, " %s %.2f epochs;", o->domains[i], epochs);
        }
        mde_text_format(o->notes, " R* is fixed at %.1f\n", REPEAT_REACH);
    }
    if (effective_data(o, o->unbounded.weights, fresh, &at) && predict_mixtures(o, 1, o->unbounded.weights, &p)) {
        o->unbounded.loss = p.value[0];
        mde_release(o->context, p.value);
    }
    for (r = 0; o->scaling.law && r < o->scaling.runs->count; r++) {
        for (i = 0; i < o->k; i++) {
            if (o->scaling.runs->weights[r * o->k + i] * o->scaling.of[r].tokens > o->tokens[i] * 1.001) break;
        }
        again += i < o->k;
    }
    if (again > 0) {
        mde_text_format(o->warnings, "%d of the runs repeated a domain: their tokens are taken for fresh ones\n",
                        again);
    }
}

static void search(optimization *o)
{
    mde_context *c = o->context;
    mde_choose_desc desc;
    int i;
    choose_within_bounds(o, &desc);
    if (o->scaling.law) judge_sizes(o, &desc);
    if (program_failed(c)) return;
    if (report_step(o, "search", 0, 2) || mde_surrogate_minimize(o->surrogate, &desc, &o->best)) return;
    if (report_step(o, "search", 1, 2)) return;
    desc.lower = desc.upper = NULL;
    desc.caution = 0;
    if (mde_surrogate_minimize(o->surrogate, &desc, &o->unbounded)) return;
    if (report_step(o, "search", 2, 2)) return;
    predict_compared(o);
    if (program_failed(c)) return;
    o->shape_sd = o->best.sd;
    o->fresh_loss = o->best.loss;
    count_repeats(o);
    if (o->scaling.law || o->scaling.anchor_sd) o->best.sd = o->compared.value_sd[0];
    predict_sizes(o);
    for (i = 0; i < o->k; i++) {
        double w = o->unbounded.weights[i];
        if (w > o->tried_upper[i] + 0.001) {
            mde_text_format(o->warnings,
                            "without bounds the optimum has %.9g of %s, but no run had more than %.9g: "
                            "nothing is known there\n",
                            0.001 * (int)(1000 * w + 0.5), o->domains[i],
                            0.001 * (int)(1000 * o->tried_upper[i] + 0.5));
        }
    }
    if (o->objective_low < 0.2 || o->objective_spearman != o->objective_spearman) {
        mde_text_add(o->warnings, "the regression hardly ranks runs it has not seen: do not trust the mixture\n");
    }
    if (o->best.loss + LEVEL_90 * o->best.sd > o->best_tried && o->best.loss < o->best_tried) {
        mde_text_add(o->warnings, "the predicted gain over the best run is within the prediction's 90 % interval\n");
    }
    if (o->best.loss >= o->best_tried) {
        int outside = 0;
        for (i = 0; i < o->k; i++) {
            double w = o->runs->weights[o->best_run * o->k + i];
            outside |= w > o->upper[i] + 1e-3 || w < o->lower[i] - 1e-3;
        }
        mde_text_format(o->warnings, "the mixture is predicted to be no better than the best run, %s\n",
                        outside ? "which lies outside of the bounds" : "whose loss may be luck");
    }
}

/* What the regression promises on the way from the best for one loss to the best for another: the two whose ranks agree
   worst over the runs. */
static void trade_off(optimization *o)
{
    mde_context *c = o->context;
    double *shares = program_doubles(c, o->m, 1), *a = program_doubles(c, 2, o->n), lowest = 2;
    mde_choose_desc desc;
    mde_choice best;
    predictions p;
    int i, j, q;
    if (o->m > 1) o->agreement = program_doubles(c, o->m, o->m);
    for (i = 0; i < o->m && o->agreement && a && !program_failed(c); i++) {
        for (j = 0; j < i; j++) {
            double rank[3] = { (double)NAN, 0, 0 };
            int count = 0;
            for (q = 0; q < o->n; q++) {
                double x = o->runs->losses[q * o->m + i], y = o->runs->losses[q * o->m + j];
                if (x != x || y != y) continue;
                a[count] = x;
                a[o->n + count++] = y;
            }
            if (count >= 3) spearman_interval(c, count, a, a + o->n, 0.9, 1, 0, rank);
            o->agreement[i * o->m + j] = o->agreement[j * o->m + i] = rank[0];
            if (!(rank[0] < lowest)) continue;
            lowest = rank[0];
            o->front_a = j;
            o->front_b = i;
        }
    }
    choose_within_bounds(o, &desc);
    desc.objective = shares;
    desc.starts = 2;
    for (i = 0; i < FRONT_POINTS && lowest <= 1 && shares && !program_failed(c); i++) {
        front_point *f = &o->front[i];
        if (report_step(o, "trade-off", i, FRONT_POINTS)) break;
        f->share = 1 - i / (FRONT_POINTS - 1.0);
        shares[o->front_a] = f->share;
        shares[o->front_b] = 1 - f->share;
        if (mde_surrogate_minimize(o->surrogate, &desc, &best)) break;
        memcpy(f->weights, best.weights, sizeof f->weights);
        if (!predict_mixtures(o, 1, f->weights, &p)) break;
        f->a = p.loss[o->front_a];
        f->b = p.loss[o->front_b];
        mde_release(c, p.value);
        o->fronts = 1;
    }
    mde_release(c, a);
    mde_release(c, shares);
}

/* The experts alone: their certified minimum inside the bounds, its prices, and what resampled documents say. */
static void minimize_experts(optimization *o)
{
    mde_context *c = o->context;
    mde_minimize_desc minimize;
    mde_bootstrap_desc bootstrap;
    int j;
    memset(&minimize, 0, sizeof minimize);
    memset(&bootstrap, 0, sizeof bootstrap);
    minimize.objective = o->nats;
    minimize.lower = o->lower;
    minimize.upper = o->upper;
    bootstrap.minimize = &minimize;
    bootstrap.seed = o->settings.seed;
    if (report_step(o, "experts", 0, 2)) return;
    o->prices = program_doubles(c, 3, o->k);
    if (!o->prices || mde_mixture_bootstrap(o->experts, &bootstrap, &o->interval)) return;
    o->minimum = o->interval.optimum;
    if (report_step(o, "experts", 1, 2)) return;
    if (mde_mixture_prices(o->experts, o->nats, o->minimum.weights, o->prices)) return;
    if (mde_mixture_price_intervals(o->experts, o->nats, o->minimum.weights, NULL, o->prices + o->k,
                                    o->prices + 2 * o->k))
        return;
    if (report_step(o, "experts", 2, 2)) return;
    o->text_losses = program_doubles(c, mde_experts_validations(o->experts), 1);
    for (j = 0; !program_failed(c) && j < mde_experts_validations(o->experts); j++) {
        o->text_losses[j] = mde_validation_loss(o->experts, j, o->minimum.weights, NULL);
    }
}

static void test_objective(optimization *o, const double *mean, const double *sd)
{
    mde_context *c = o->context;
    test_score *s = &o->tested_objective;
    double *a = program_doubles(c, 2, o->test->count), *b = a ? a + o->test->count : NULL, squares = 0;
    int i, count = 0, covered = 0;
    memset(s, 0, sizeof *s);
    s->spearman[0] = s->spearman[1] = s->spearman[2] = (double)NAN;
    for (i = 0; a && i < o->test->count; i++) {
        double truth = objective_of(o, o->test->losses + i * o->m), error;
        if (truth != truth) continue;
        a[count] = objective_of(o, mean + i * o->m);
        b[count] = truth;
        error = a[count++] - truth;
        covered += fabs(error) <= LEVEL_90 * o->spread * objective_of(o, sd + i * o->m);
        squares += (error - s->bias) * (error - s->bias) * (count - 1) / count;
        s->bias += (error - s->bias) / count;
    }
    if (count >= 3) spearman_interval(c, count, a, b, 0.9, 0, o->settings.seed, s->spearman);
    s->coverage = count > 0 ? (double)covered / count : (double)NAN;
    s->bias = count > 0 ? s->bias : (double)NAN;
    s->bias_error = count > 1 ? sqrt(squares / (count - 1) / count) : (double)NAN;
    mde_release(c, a);
}

static void test_model(optimization *o)
{
    mde_context *c = o->context;
    int n = o->test->count, i;
    double *mean = program_doubles(c, 2 * n, o->m), *sd = mean ? mean + n * o->m : NULL;
    if (mean && mde_surrogate_predict(o->surrogate, n, o->test->weights, mean, sd) == MDE_OK) {
        for (i = 0; o->test_added && i < n * o->m; i++) {
            double added = o->test_added[i] / o->scale[i % o->m];
            sd[i] = sqrt(sd[i] * sd[i] + added * added);
        }
        o->tested = score_metrics(o, n, mean, sd, o->test->losses);
        test_objective(o, mean, sd);
    }
    mde_release(c, mean);
}

/* ---- The whole job ---- */

static void optimization_free(optimization *o)
{
    mde_context *c = o ? o->context : NULL;
    int i;
    if (!o) return;
    mde_surrogate_free(o->surrogate);
    mde_evaluation_free(o->evaluation);
    mde_experts_free(o->experts);
    for (i = 0; o->domains && i < o->k; i++) mde_release(c, (void *)o->domains[i]);
    for (i = 0; o->metrics && i < o->m; i++) mde_release(c, (void *)o->metrics[i]);
    mde_release(c, (void *)o->domains);
    mde_release(c, (void *)o->metrics);
    mde_release(c, (void *)o->upper_reason);
    mde_release(c, o->objective);
    mde_release(c, o->centre);
    mde_release(c, o->prior);
    mde_release(c, o->held_out);
    mde_release(c, o->tested);
    mde_release(c, o->noise);
    mde_release(c, o->compared.value);
    mde_release(c, o->compared_weights);
    mde_release(c, o->next);
    mde_release(c, o->spending.at);
    mde_release(c, o->spending.value);
    table_free(c, &o->spending.table);
    mde_release(c, o->prices);
    mde_release(c, o->text_losses);
    mde_text_free(o->summary);
    mde_text_free(o->warnings);
    mde_text_free(o->notes);
    mde_runs_free(o->runs);
    mde_runs_free(o->test);
    mde_runs_free(o->mixtures);
    free_scaling(o);
    mde_release(c, (void *)o->table_domains);
    mde_release(c, o->test_added);
    mde_release(c, o->agreement);
    mde_release(c, o);
}

static optimization *optimize(mde_context *c, const optimize_settings *settings)
{
    optimization *o = (optimization *)mde_alloc(c, 1, sizeof *o);
    if (!o) return NULL;
    o->context = c;
    o->settings = *settings;
    o->spread = 1;
    o->warnings = mde_text_create(c);
    o->notes = mde_text_create(c);
    if (!program_failed(c)) read_inputs(o);
    if (!program_failed(c) && settings->out) mde_make_folder(c, settings->out); /* not only after an hour of fitting */
    if (!program_failed(c) && o->runs) fit(o);
    if (!program_failed(c) && o->runs) search(o);
    if (!program_failed(c) && o->runs) trade_off(o);
    if (!program_failed(c) && o->test) test_model(o);
    if (!program_failed(c) && o->experts) minimize_experts(o);
    if (!program_failed(c)) suggest(o);
    if (!program_failed(c)) o->summary = summary_text(o);
    if (!program_failed(c) && settings->out) write_report(o);
    if (!program_failed(c)) return o;
    optimization_free(o);
    return NULL;
}

/* ---- Command line ---- */

/* By its short name; 0 where there is none such. Without a name what the library takes by default. */
static int parse_acquisition(const char *name, mde_acquisition *out)
{
    static const struct { const char *name; mde_acquisition acquisition; } known[] = {
        { "alc", MDE_VARIANCE_REDUCTION }, { "ucb", MDE_CONFIDENCE_BOUND }, { "ei", MDE_EXPECTED_IMPROVEMENT },
        { "space", MDE_SPACE_FILLING }
    };
    size_t i;
    for (i = 0; name && i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i].name) != 0) continue;
        *out = known[i].acquisition;
        return 1;
    }
    return !name;
}

static const char *const usage =
    "mix_optimize: the best mixture of training domains, from finished runs or log-probabilities\n"
    "\n"
    "  mix_optimize --ratios R.csv --losses L.csv --out OUT [options]     a regression on finished runs\n"
    "  mix_optimize --logp DIR --out OUT [options]                        experts alone: certified minimum\n"
    "  mix_optimize --ratios R.csv --losses L.csv --logp DIR --out OUT    the experts' losses as further inputs\n"
    "  mix_optimize --domains D.csv --suggest Q --out OUT                 a first design: Q mixtures to run\n"
    "\n"
    "With the same options, the same files to read and its results as it wrote them, it prints the summary again and\n"
    "does no more.\n";

int main(int argc, char **argv)
{
    static const char *const files[] = { "report.html", "report.json", "mixture.json", "held_out.csv", "compare.csv",
                                         "next_runs.csv" };
    program p;
    program_work work;
    optimize_settings s;
    optimization *result = NULL;
    mde_text *printed;
    int i;
    mde_context *c;
    run_scale sizes[LARGEST_SIZES];
    char wrong[64];
    const char *acquisition = NULL, *target_params = NULL, *target_tokens = NULL;
    const program_option options[] = {
        { NULL, PROGRAM_HEADING, NULL, NULL, 0, 0, "What is known" },
        { "--ratios", PROGRAM_INPUT, "FILE", &s.ratios, 0, 0,
          "CSV: run, then a column a domain with its weight; rows sum to 1 within 1 %" },
        { "--losses", PROGRAM_INPUT, "FILE", &s.losses, 0, 0,
          "CSV: run, then a column a loss; joined by run; an empty cell is a missing loss" },
        { "--table", PROGRAM_INPUT, "FILE", &s.table, 0, 0,
          "weights and losses in one CSV, or in several with the same columns, commas between; the weights are the "
          "columns that sum to 1 or 100" },
        { "--skip-unmatched", PROGRAM_FLAG, NULL, &s.columns.skip_unmatched, 0, 0,
          "leave out runs that stand in one of two files only" },
        { "--test-ratios", PROGRAM_INPUT, "FILE", &s.test_ratios, 0, 0, "runs to judge on, with --test-losses" },
        { "--test-losses", PROGRAM_INPUT, "FILE", &s.test_losses, 0, 0,
          "prints a line a loss: NAME SPEARMAN MSE (Spearman in %); the last is their mean" },
        { "--test-table", PROGRAM_INPUT, "FILE", &s.test_table, 0, 0, "both in one" },
        { "--logp", PROGRAM_INPUT, "DIR", &s.logp, 0, 0,
          "DIR/<loss>/<domain>.npy: natural log of the probability of each token" },
        { "--nll", PROGRAM_FLAG, NULL, &s.nll, 0, 0, "the files of --logp hold negative log-likelihoods" },
        { "--memory", PROGRAM_INT, "MB", &s.memory, 0, 1e6,
          "of their probabilities that are held, default 1024; more is read in blocks" },
        { "--domains", PROGRAM_INPUT, "FILE", &s.domains, 0, 0,
          "CSV: domain, and any of the columns tokens, prior, min, max" },
        { NULL, PROGRAM_HEADING, NULL, NULL, 0, 0,
          "What the columns are (names separated by commas; x* for all that begin with x)" },
        { "--weights-columns", PROGRAM_FILE, "NAMES", &s.columns.weights, 0, 0,
          "the weights; default: all but bookkeeping, in one table what sums to 1 or 100" },
        { "--losses-columns", PROGRAM_FILE, "NAMES", &s.columns.losses, 0, 0,
          "the losses; default: all but bookkeeping, whole numbers, text and accuracies, which are named" },
        { "--maximize", PROGRAM_FILE, "NAMES", &s.columns.maximize, 0, 0,
          "more of these is better; so it is of what is taken and called acc, accuracy, score, em, f1, ..." },
        { "--minimize", PROGRAM_FILE, "NAMES", &s.columns.minimize, 0, 0, "less is better, whatever the name" },
        { NULL, PROGRAM_HEADING, NULL, NULL, 0, 0, "What is wanted" },
        { "--objective", PROGRAM_FILE, "SPEC", &s.objective, 0, 0, "avg (default), or name=weight,name=weight,..." },
        { "--standardize", PROGRAM_FLAG, NULL, &s.standardize, 0, 0,
          "count each loss in its standard deviations between runs" },
        { "--model", PROGRAM_FILE, "NAME", &s.model, 0, 0,
          "auto (default: nested cross-validation decides), ridge, law, pooled, trees, gp, mtgp, stack" },
        { "--features", PROGRAM_FILE, "SET", &s.features, 0, 0,
          "of a single model, joined by +: raw log sqrt products power pooled scarce mde own" },
        { "--caution", PROGRAM_REAL, "X", &s.caution, 0, 0,
          "standard deviations added to the predicted loss in the search; default 0, see bench/README.md" },
        { "--compare", PROGRAM_INPUT, "FILE", &s.compare, 0, 0,
          "CSV: mixtures, as --ratios has them, whose losses are predicted beside the uniform one's and the prior's" },
        { "--suggest", PROGRAM_INT, "Q", &s.suggest, 0, 1e6,
          "runs to make next; default 0. They explore: up to twice what was tried of a domain, plus 0.05" },
        { "--acquisition", PROGRAM_FILE, "NAME", &acquisition, 0, 0,
          "what makes a run worth making: alc (default: it tells how good mixtures differ from the best one), ucb (a "
          "low bound of its loss), ei (expected improvement), space (far from all others)" },
        { NULL, PROGRAM_HEADING, NULL, NULL, 0, 0,
          "A larger size (runs have columns params, as 70M, and tokens; a run may have a row for each checkpoint)" },
        { "--target-params", PROGRAM_FILE, "N", &target_params, 0, 0,
          "parameters of the model that the mixture is for, as 1B: a law of parameters and tokens (--target-tokens) "
          "moves losses there" },
        { "--tokens-per-step", PROGRAM_POSITIVE, "X", &s.columns.tokens_per_step, 0, 0,
          "where a column step stands for tokens" },
        { "--anchor", PROGRAM_INPUT, "FILE", &s.anchor, 0, 0,
          "CSV as --table: a few large runs that set level and slope of each loss, where sizes allow for no law" },
        { "--budget-flops", PROGRAM_POSITIVE, "X", &s.budget_flops, 0, 0,
          "the runs of --suggest, at most so many, also have sizes and tokens, together of X FLOPs (6 a token and "
          "parameter) at most" },
        { "--sizes", PROGRAM_FILE, "LIST", &s.sizes, 0, 0,
          "that these may have, parameters:tokens, as 20M:400M,60M:1.2B; default: those of the runs" },
        { NULL, PROGRAM_HEADING, NULL, NULL, 0, 0,
          "Bounds (the mixture also stays within what was tried; runs to make next need not)" },
        { "--max-ratio", PROGRAM_POSITIVE, "X", &s.max_ratio, 0, 0,
          "at most X times the prior; default 15; inf: any. The prior is the file's, else the shares of its tokens, "
          "else the mean of the runs" },
        { "--target-tokens", PROGRAM_FILE, "T", &target_tokens, 0, 0,
          "as 300B; with the tokens of --domains: at most --max-epochs passes over a domain in T tokens" },
        { "--max-epochs", PROGRAM_POSITIVE, "E", &s.max_epochs, 0, 0, "default 4" },
        { "--kl", PROGRAM_REAL, "X", &s.kl, 0, 0, "adds X times the divergence from the prior to the loss; default 0" },
        { NULL, PROGRAM_HEADING, NULL, NULL, 0, 0, "The rest" },
        { "--folds", PROGRAM_INT, "N", &s.folds, 0, 1e6, "of the cross-validation; default 5" },
        { "--out", PROGRAM_FILE, "OUT", &s.out, 0, 0,
          "folder for report.html, report.json, mixture.json, held_out.csv, compare.csv, next_runs.csv" }
    };
    memset(&s, 0, sizeof s);
    program_start(&p, "mix_optimize", usage, options, (int)(sizeof options / sizeof *options));
    p.when_stopped = "stopped; nothing was written";
    p.json_help = "the report";
    if (!program_parse(&p, argc, argv)) return p.code;
    if (!s.out) program_misused(&p, "", "--out names the folder for the report");
    else if (!parse_acquisition(acquisition, &s.acquisition)) {
        program_misused(&p, acquisition, " is none of alc, ucb, ei, space");
    } else if (acquisition && s.suggest == 0) {
        program_misused(&p, "", "--acquisition chooses the runs of --suggest");
    } else if (acquisition && s.budget_flops > 0) {
        program_misused(&p, "", "--acquisition is of runs of one size; --budget-flops takes what is worth its FLOPs");
    } else if (acquisition && s.acquisition != MDE_SPACE_FILLING && !s.table && !s.ratios && !s.logp) {
        program_misused(&p, acquisition, " goes by runs, of which there are none; a first design is spread over the "
                        "space");
    }
    if (target_params && !scale_number(target_params, strlen(target_params), &s.target_params, NULL)) {
        program_misused(&p, target_params, " is no number of parameters, such as 1B");
    } else if (target_tokens && !scale_number(target_tokens, strlen(target_tokens), &s.target_tokens, NULL)) {
        program_misused(&p, target_tokens, " is no number of tokens, such as 300B");
    }
    if (s.sizes && !parse_sizes(s.sizes, sizes, wrong)) {
        program_misused(&p, wrong, " is no size to offer; expected parameters:tokens, as 20M:400M,60M:1.2B");
    } else if (s.sizes && !(s.budget_flops > 0)) {
        program_misused(&p, "", "--sizes are those that --budget-flops may be spent on");
    } else if (s.budget_flops > 0 && (s.suggest == 0 || !(s.target_params > 0))) {
        program_misused(&p, "", s.suggest == 0
                       ? "--budget-flops needs --suggest, how many runs it is for at most"
                       : "--budget-flops needs --target-params, the size that the runs are for");
    }
    if (p.code) return p.code;
    s.seed = p.seed;
    s.columns.objective = s.objective;
    s.progress = program_progress;
    s.user = &p;
    c = program_context(&p);
    program_try_folder(c, s.out);
    work = program_work_start(&p, c, s.out, "mix_optimize");
    program_work_options(&work);
    s.work = &work;
    for (i = 0; i < 6; i++) program_work_may_output(&work, files[i]);
    if (!program_work_is_done(&work, !p.json)) result = optimize(c, &s);
    if (result) {
        printed = mde_text_create(c);
        mde_text_format(printed, "report: %s/report.html\n\n%s", s.out, result->summary->bytes);
        if (!p.json && !program_failed(c)) fputs(printed->bytes, stdout);
        if (!program_failed(c)) program_work_finish(&work, printed->bytes);
        mde_text_free(printed);
    }
    if (p.json) program_print_file(c, s.out, "report.json");
    optimization_free(result);
    return program_end(&p, c);
}
