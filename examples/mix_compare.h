/* mix_compare.h - mixtures side by side: those that people ask about, moves of one domain, and the trade-off between
   two losses; all as the regression predicts them. Included by mix_report.h alone. */
#ifndef MIX_COMPARE_H
#define MIX_COMPARE_H

static int predict_mixtures(const optimization *o, int n, const double *weights, predictions *p)
{
    int i, j;
    p->n = n;
    p->value = program_doubles(o->context, n, 2 * o->m + 2);
    if (!p->value) return 0;
    p->value_sd = p->value + n;
    p->loss = p->value_sd + n;
    p->loss_sd = p->loss + n * o->m;
    for (i = 0; i < n; i++) {
        double fresh[MDE_MAX_DOMAINS], *loss = p->loss + i * o->m;
        run_scale at;
        int repeated = effective_data(o, weights + i * o->k, fresh, &at);
        if (mde_surrogate_predict(o->surrogate, 1, fresh, loss, p->loss_sd + i * o->m)) return 0;
        for (j = 0; j < o->m && repeated; j++) {
            loss[j] += law_step(o, o->scaling.law, j, fresh, &o->scaling.target, &at, NULL) / o->scale[j];
        }
    }
    for (i = 0; i < n; i++) {
        p->value[i] = objective_of(o, p->loss + i * o->m);
        p->value_sd[i] = o->spread * objective_of(o, p->loss_sd + i * o->m);
    }
    for (i = 0; i < n * o->m; i++) {
        p->loss[i] = o->centre[i % o->m] + o->scale[i % o->m] * p->loss[i];
        p->loss_sd[i] *= fabs(o->scale[i % o->m]);
    }
    for (i = 0; i < n && (o->scaling.law || o->scaling.anchor_sd); i++) {
        double all = 0;             /* errors of the law's level are common to the losses */
        for (j = 0; j < o->m; j++) {
            double added = extrapolation_sd(o, j, weights + i * o->k), *sd = p->loss_sd + i * o->m + j;
            *sd = sqrt(*sd * *sd + added * added);
            all += o->objective[j] * added / fabs(o->scale[j]);
        }
        p->value_sd[i] = sqrt(p->value_sd[i] * p->value_sd[i] + all * all);
    }
    return 1;
}

/* ---- The mixtures of a table, the best, the uniform one and the prior ---- */

#define ALWAYS_COMPARED 3

static const char *compared_name(const optimization *o, int i)
{
    static const char *const names[ALWAYS_COMPARED] = { "recommended", "uniform", "prior" };
    return i < ALWAYS_COMPARED ? names[i] : o->mixtures->names[i - ALWAYS_COMPARED];
}

/* Their weights, and what is predicted of them; the first is the best mixture. */
static void predict_compared(optimization *o)
{
    int asked = o->mixtures ? o->mixtures->count : 0, count = ALWAYS_COMPARED + asked, i;
    double *w = o->compared_weights = program_doubles(o->context, count, o->k);
    if (!w) return;
    for (i = 0; i < o->k; i++) {
        w[i] = o->best.weights[i];
        w[o->k + i] = 1.0 / o->k;
        w[2 * o->k + i] = o->prior[i];
    }
    if (asked > 0) memcpy(w + ALWAYS_COMPARED * o->k, o->mixtures->weights, (size_t)(asked * o->k) * sizeof *w);
    predict_mixtures(o, count, w, &o->compared);
}

/* The domain whose weight is furthest outside of what was tried; -1 when none is. */
static int domain_beyond(const optimization *o, const double *w)
{
    double furthest = 1e-3;
    int i, found = -1;
    for (i = 0; i < o->k; i++) {
        double beyond = w[i] > o->tried_upper[i] ? w[i] - o->tried_upper[i] : o->tried_lower[i] - w[i];
        if (beyond > furthest) furthest = beyond, found = i;
    }
    return found;
}

static void csv_interval(mde_text *t, double mean, double sd)
{
    mde_text_format(t, ",%.9g,%.9g,%.9g", mean, mean - LEVEL_90 * sd, mean + LEVEL_90 * sd);
}

static void csv_head(mde_text *t, const char *name, const char *end)
{
    mde_text *whole = t ? mde_text_create(t->context) : NULL;
    if (!whole) return;
    mde_text_format(whole, "%s%s", name, end);
    mde_text_add(t, ",");
    mde_text_add_csv(t, whole->bytes);
    mde_text_free(whole);
}

static mde_text *compare_table(const optimization *o)
{
    mde_text *t = mde_text_create(o->context);
    const predictions *p = &o->compared;
    int i, j;
    mde_text_add(t, "mixture,objective,objective_low,objective_high");
    for (j = 0; j < o->m; j++) {
        csv_head(t, o->runs->metric_names[j], "");
        csv_head(t, o->runs->metric_names[j], "_low");
        csv_head(t, o->runs->metric_names[j], "_high");
    }
    mde_text_add(t, ",beyond\n");
    for (i = 0; i < p->n; i++) {
        int beyond = domain_beyond(o, o->compared_weights + i * o->k);
        mde_text_add_csv(t, compared_name(o, i));
        csv_interval(t, p->value[i], p->value_sd[i]);
        for (j = 0; j < o->m; j++) csv_interval(t, p->loss[i * o->m + j], p->loss_sd[i * o->m + j]);
        mde_text_add(t, ",");
        if (beyond >= 0) mde_text_add_csv(t, full_name(o, beyond));
        mde_text_add(t, "\n");
    }
    return t;
}

static void json_compare(mde_json_writer *w, const optimization *o)
{
    const predictions *p = &o->compared;
    int i, j;
    mde_json_open(w, "compared", '[');
    for (i = 0; i < p->n; i++) {
        int beyond = domain_beyond(o, o->compared_weights + i * o->k);
        mde_json_open(w, NULL, '{');
        mde_json_write_string(w, "name", compared_name(o, i));
        mde_json_write_number(w, "objective", p->value[i], 9);
        json_interval(w, "interval_90", p->value[i] - LEVEL_90 * p->value_sd[i],
                      p->value[i] + LEVEL_90 * p->value_sd[i]);
        mde_json_open(w, "losses", '{');
        for (j = 0; j < o->m; j++) mde_json_write_number(w, o->runs->metric_names[j], p->loss[i * o->m + j], 9);
        mde_json_close(w);
        mde_json_write_string(w, "beyond", beyond >= 0 ? full_name(o, beyond) : NULL);
        mde_json_close(w);
    }
    mde_json_close(w);
}

static void page_compare(mde_text *t, const optimization *o)
{
    const predictions *p = &o->compared;
    int i, j;
    mde_text_add(t, "<h2>Mixtures side by side</h2>\n<div class=\"wide\"><table><tr><th>mixture</th><th>objective</th>"
                    "<th>90 % interval</th>");
    for (j = 0; j < o->m; j++) mde_text_format_html(t, "<th>%s</th><th>90 %% interval</th>", o->metrics[j]);
    mde_text_add(t, "<th>beyond what was tried</th></tr>\n");
    for (i = 0; i < p->n; i++) {
        int beyond = domain_beyond(o, o->compared_weights + i * o->k);
        mde_text_format_html(t, "<tr><td>%s</td>", compared_name(o, i));
        for (j = -1; j < o->m; j++) {
            double mean = j < 0 ? p->value[i] : p->loss[i * o->m + j];
            double half = LEVEL_90 * (j < 0 ? p->value_sd[i] : p->loss_sd[i * o->m + j]);
            program_page_number(t, mean, 4, 0);
            program_page_range(t, mean - half, mean + half, 4);
        }
        mde_text_format_html(t, "<td>%s</td></tr>\n", beyond >= 0 ? o->domains[beyond] : "");
    }
    mde_text_add(t, "</table></div>\n<p class=\"note\"><code>compare.csv</code> has them as a table.</p>\n");
}

/* A line a mixture, and below it a line a loss of those that were asked about. */
static void add_compared(mde_text *t, const optimization *o)
{
    const predictions *p = &o->compared;
    int i, j, width = 28;
    mde_text_add(t, "\n");
    add_name(t, "mixture", width);
    mde_text_format(t, " %8s %18s\n", "loss", "90 % interval");
    for (i = 0; i < p->n; i++) {
        int beyond = domain_beyond(o, o->compared_weights + i * o->k);
        double half = LEVEL_90 * p->value_sd[i];
        add_name(t, compared_name(o, i), width);
        mde_text_format(t, " %8.4f %9.4f %8.4f", p->value[i], p->value[i] - half, p->value[i] + half);
        if (beyond >= 0) mde_text_format(t, "  beyond what was tried: %s", o->domains[beyond]);
        mde_text_add(t, "\n");
        for (j = 0; j < o->m && o->mixtures; j++) {
            double mean = p->loss[i * o->m + j];
            half = LEVEL_90 * p->loss_sd[i * o->m + j];
            mde_text_add(t, "  ");
            add_name(t, o->metrics[j], width - 2);
            mde_text_format(t, " %8.4f %9.4f %8.4f\n", mean, mean - half, mean + half);
        }
    }
}

/* Each run's losses, and what was predicted for it without its fold. */
static mde_text *held_out_table(const optimization *o)
{
    mde_text *t = mde_text_create(o->context);
    int i, j;
    mde_text_add(t, "run");
    for (j = 0; j < o->m; j++) {
        csv_head(t, o->runs->metric_names[j], "");
        csv_head(t, o->runs->metric_names[j], "_predicted");
        csv_head(t, o->runs->metric_names[j], "_low");
        csv_head(t, o->runs->metric_names[j], "_high");
    }
    for (i = 0; i < o->n; i++) {
        mde_text_add(t, "\n");
        mde_text_add_csv(t, o->runs->names[i]);
        for (j = 0; j < o->m; j++) {
            int at = i * o->m + j;
            double y = o->centre[j] + o->scale[j] * o->runs->losses[at];
            mde_text_add(t, ",");
            if (y == y) mde_text_add_number(t, y, 9);
            csv_interval(t, o->centre[j] + o->scale[j] * o->evaluation->predicted[at],
                         fabs(o->scale[j]) * o->evaluation->sd[at]);
        }
    }
    mde_text_add(t, "\n");
    return t;
}

/* ---- One domain more or less ---- */

/* The best mixture with weight x of domain i, the others in proportion. */
static void move_domain(const optimization *o, int i, double x, double *w)
{
    double rest = 1 - o->best.weights[i];
    int q;
    for (q = 0; q < o->k; q++) {
        w[q] = rest > 1e-9 ? o->best.weights[q] * (1 - x) / rest : (1 - x) / (o->k - 1);
    }
    w[i] = x;
}

#define SLICE_POINTS 21

static void page_slices(mde_text *t, const optimization *o)
{
    double *w = program_doubles(o->context, SLICE_POINTS, o->k), x[SLICE_POINTS], ends[2][SLICE_POINTS];
    int i, q;
    mde_text_add(t, "<h2>One domain at a time</h2>\n<p>The predicted objective and its 90 % interval along lines "
                    "through the mixture above: one domain's weight goes from the lowest to the highest that was "
                    "tried, the others give or take in proportion.</p>\n");
    for (i = 0; w && i < o->k; i++) {
        double low = o->tried_lower[i], high = o->tried_upper[i];
        plot_series series[2];
        plot_desc plot;
        predictions p;
        if (!(high > low)) continue;
        for (q = 0; q < SLICE_POINTS; q++) {
            x[q] = low + (high - low) * q / (SLICE_POINTS - 1);
            move_domain(o, i, x[q], w + q * o->k);
        }
        if (!predict_mixtures(o, SLICE_POINTS, w, &p)) break;
        for (q = 0; q < SLICE_POINTS; q++) {
            ends[0][q] = p.value[q] - LEVEL_90 * p.value_sd[q];
            ends[1][q] = p.value[q] + LEVEL_90 * p.value_sd[q];
        }
        memset(series, 0, sizeof series);
        memset(&plot, 0, sizeof plot);
        series[0].x = x;
        series[0].y = p.value;
        series[0].low = ends[0];
        series[0].high = ends[1];
        series[0].count = SLICE_POINTS;
        series[1].x = &o->best.weights[i];
        series[1].y = &o->best.loss;
        series[1].count = series[1].points = 1;
        plot.title = o->domains[i];
        plot.x_label = "weight";
        plot.y_label = o->unit;
        plot.width = 330;
        plot.height = 230;
        plot.count = 2;
        plot.series = series;
        plot_xy(t, &plot);
        mde_release(o->context, p.value);
    }
    mde_release(o->context, w);
}

#define EFFECT_STEP 0.05

/* How each loss changes when a domain gets a share more. */
static void page_effects(mde_text *t, const optimization *o)
{
    double *w = program_doubles(o->context, o->k + 1, o->k);
    predictions p;
    int i, j;
    for (i = 0; w && i < o->k; i++) {
        double x = o->best.weights[i];
        w[o->k * o->k + i] = x;
        move_domain(o, i, x + EFFECT_STEP <= 1 ? x + EFFECT_STEP : x - EFFECT_STEP, w + i * o->k);
    }
    if (!w || !predict_mixtures(o, o->k + 1, w, &p)) {
        mde_release(o->context, w);
        return;
    }
    mde_text_format(t, "<h2>What each domain does to each loss</h2>\n<p>Predicted change of a loss when a domain gets "
                       "%g more of the mixture, given by the others in proportion (less, where it has nearly all)."
                       "</p>\n"
                       "<div class=\"wide\"><table><tr><th>domain</th>", EFFECT_STEP);
    for (j = 0; j < o->m; j++) mde_text_format_html(t, "<th>%s</th>", o->metrics[j]);
    mde_text_add(t, "</tr>\n");
    for (i = 0; i < o->k; i++) {
        mde_text_format_html(t, "<tr><td>%s</td>", o->domains[i]);
        for (j = 0; j < o->m; j++) {
            double change = p.loss[i * o->m + j] - p.loss[o->k * o->m + j];
            program_page_number(t, change, 4, change * o->scale[j] < 0 && fabs(change) > p.loss_sd[i * o->m + j]);
        }
        mde_text_add(t, "</tr>\n");
    }
    mde_text_add(t, "</table></div>\n<p class=\"note\">Marked: better by more than the prediction's sd.</p>\n");
    mde_release(o->context, p.value);
    mde_release(o->context, w);
}

/* ---- One loss against another ---- */

static void json_tradeoff(mde_json_writer *w, const optimization *o)
{
    int i;
    if (!o->fronts) return;
    mde_json_open(w, "tradeoff", '[');
    for (i = 0; i < FRONT_POINTS; i++) {
        const front_point *f = &o->front[i];
        mde_json_open(w, NULL, '{');
        mde_json_write_number(w, o->runs->metric_names[o->front_a], f->a, 9);
        mde_json_write_number(w, o->runs->metric_names[o->front_b], f->b, 9);
        json_mixture(w, "mixture", o, f->weights);
        mde_json_close(w);
    }
    mde_json_close(w);
}

static void page_tradeoff(mde_text *t, const optimization *o)
{
    double x[FRONT_POINTS + 1], y[FRONT_POINTS + 1];
    const char *a, *b;
    char title[300];
    plot_series series[2];
    plot_desc plot;
    int i, j;
    if (!o->fronts) return;
    a = o->metrics[o->front_a];
    b = o->metrics[o->front_b];
    mde_text_add(t, "<h2>One loss against another</h2>\n<p>Rank correlation of the losses over the runs, in %; where "
                    "it is low, one is paid for with the other.</p>\n<div class=\"wide\"><table><tr><th></th>");
    for (j = 0; j < o->m; j++) mde_text_format_html(t, "<th>%s</th>", o->metrics[j]);
    mde_text_add(t, "</tr>\n");
    for (i = 0; i < o->m; i++) {
        mde_text_format_html(t, "<tr><td>%s</td>", o->metrics[i]);
        for (j = 0; j < o->m; j++) {
            program_page_number(t, i == j ? (double)NAN : 100 * o->agreement[i * o->m + j], 1,
                                (i == o->front_a && j == o->front_b) || (j == o->front_a && i == o->front_b));
        }
        mde_text_add(t, "</tr>\n");
    }
    mde_text_format_html(t, "</table></div>\n<p>Mixtures within the bounds from the best for %s to the best for %s:"
                            "</p>\n<div class=\"wide\"><table><tr><th>share of %s in the objective</th><th>%s</th>"
                            "<th>%s</th>", a, b, a, a, b);
    for (i = 0; i < o->k; i++) mde_text_format_html(t, "<th>%s</th>", o->domains[i]);
    mde_text_add(t, "</tr>\n");
    for (i = 0; i < FRONT_POINTS; i++) {
        mde_text_add(t, "<tr>");
        program_page_number(t, o->front[i].share, 2, 0);
        program_page_number(t, x[i] = o->front[i].a, 4, 0);
        program_page_number(t, y[i] = o->front[i].b, 4, 0);
        for (j = 0; j < o->k; j++) program_page_number(t, o->front[i].weights[j], 3, 0);
        mde_text_add(t, "</tr>\n");
    }
    mde_text_add(t, "</table></div>\n");
    memset(series, 0, sizeof series);
    memset(&plot, 0, sizeof plot);
    x[FRONT_POINTS] = o->compared.loss[o->front_a];
    y[FRONT_POINTS] = o->compared.loss[o->front_b];
    series[0].name = "trade-off";
    series[0].x = x;
    series[0].y = y;
    series[0].count = FRONT_POINTS;
    series[1].name = "recommended";
    series[1].x = x + FRONT_POINTS;
    series[1].y = y + FRONT_POINTS;
    series[1].count = series[1].points = 1;
    snprintf(title, sizeof title, "%.100s against %.100s", b, a);
    plot.title = title;
    plot.x_label = a;
    plot.y_label = b;
    plot.count = 2;
    plot.series = series;
    mde_text_add(t, "<div class=\"wide\">");
    plot_xy(t, &plot);
    mde_text_add(t, "</div>\n");
}

#endif /* MIX_COMPARE_H */
