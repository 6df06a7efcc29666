/* mix_suggest.h - which runs to make next: mixtures; with a budget of FLOPs, also their sizes and tokens. Included by
   mix_report.h alone.

   With a budget, what the objective of mixture w is at a size, x = (w, N, D), is taken to be
     y(x) = f(x) + g(w) + h(w, N) + e,
   f the law, in its joint form, whose parameters are known up to the covariance of its fit; g what it leaves at all
   sizes alike and h what it leaves at each, Gaussian processes whose variances, reach and noise e are those under which
   the residuals of the runs are most likely, and which the runs then are observations of. Before a run is made, its
   effect on the target is known but for one number: y(x) is mean + sd z with z standard normal, and moves the
   expectation of F_q, the objective at the target of mixture q, by s_q z, s_q = cov(F_q, y(x)) / sd. The best mixture
   is then the one that minimises mu_q + s_q z, so that the run is worth
     V(x) = min_q mu_q - E_z min_q (mu_q + s_q z)
   (the knowledge gradient; with sources of differing cost, Poloczek, Wang and Frazier 2017). The run made next has the
   largest V(x) / C(x), C being its 6 N D FLOPs; as runs are limited in number, too, C is no less than an equal share
   of the FLOPs that are left. What was chosen is believed: the covariances are then those given that run. */
#ifndef MIX_SUGGEST_H
#define MIX_SUGGEST_H

#define SPEND_POINTS 1500               /* mixtures times sizes that are looked at */
#define SPEND_RUNS 300                  /* that the processes are conditioned on, at most */
#define SPEND_SIZE_REACH 2.3            /* in log N: at a tenth of the size h has a correlation of exp(-1) */

/* Three decimals are what people type: rounds down, and deals out what is left to those that lost most, inside bounds.
   Where bounds leave no such mixture, the weights stay as they are. */
static void round_mixture(int k, const double *lower, const double *upper, double *w)
{
    int units[MDE_MAX_DOMAINS], minimum[MDE_MAX_DOMAINS], maximum[MDE_MAX_DOMAINS], rest = 1000, i;
    for (i = 0; i < k; i++) {
        minimum[i] = (int)ceil(1000.0 * lower[i] - 1e-9);
        maximum[i] = (int)floor(1000.0 * upper[i] + 1e-9);
        if (minimum[i] > maximum[i]) return;
        units[i] = (int)floor(1000.0 * w[i]);
        if (units[i] < minimum[i]) units[i] = minimum[i];
        if (units[i] > maximum[i]) units[i] = maximum[i];
        rest -= units[i];
    }
    while (rest != 0) {
        int step = rest > 0 ? 1 : -1, furthest = -1;
        double largest = -(double)INFINITY;
        for (i = 0; i < k; i++) {
            double lost = step * (1000.0 * w[i] - units[i]);
            if ((step > 0 ? units[i] >= maximum[i] : units[i] <= minimum[i]) || !(lost > largest)) continue;
            largest = lost;
            furthest = i;
        }
        if (furthest < 0) return;
        units[furthest] += step;
        rest -= step;
    }
    for (i = 0; i < k; i++) w[i] = units[i] / 1000.0;
}

static void describe_suggestions(const optimization *o, mde_suggest_desc *desc, int *made)
{
    memset(desc, 0, sizeof *desc);
    desc->acquisition = o->settings.acquisition;
    desc->objective = o->objective;
    desc->lower = o->allowed_lower;
    desc->upper = o->allowed_upper;
    desc->spread = o->spread;
    desc->seed = o->settings.seed;
    desc->progress = o->settings.progress;
    desc->user = o->settings.user;
    desc->best = o->best_tried;
    desc->centre = o->surrogate ? o->best.weights : NULL;
    desc->made = made;
}

/* ---- With a budget ---- */

/* 6 a token and parameter. */
static double run_flops(const run_scale *at)
{
    return 6 * at->params * at->tokens;
}

/* Sizes as 20M:400M,60M:1.2B, parameters and tokens, out [LARGEST_SIZES]; returns how many, 0 with the item that is
   none in `wrong` [64]. */
static int parse_sizes(const char *text, run_scale *out, char *wrong)
{
    int count = 0;
    while (*text) {
        size_t item = strcspn(text, ","), first = strcspn(text, ":,");
        run_scale *at = &out[count];
        snprintf(wrong, 64, "%.*s", (int)(item < 60 ? item : 60), text);
        if (count == LARGEST_SIZES || first >= item || !scale_number(text, first, &at->params, NULL) ||
            !scale_number(text + first + 1, item - first - 1, &at->tokens, NULL))
            return 0;
        at->steps = 0;
        count++;
        text += item + (text[item] == ',');
    }
    return count;
}

/* What the columns of the runs' table are, the first one's where there are several. */
static void read_next_columns(optimization *o)
{
    spending *s = &o->spending;
    mde_context *c = o->context;
    const optimize_settings *how = &o->settings;
    mde_text *notes = mde_text_create(c);       /* as of the runs: said once */
    char path[PROGRAM_PATH];
    int i;
    if (how->table && program_is_list(how->table)) program_list_path(c, how->table, path);
    else program_path(c, path, "%s", how->ratios);
    if (!program_failed(c) && table_read(c, path, &s->table)) {
        find_runs(&s->table, NULL);
        if (how->table) find_weights_among_others(c, &s->table, &how->columns);
        else find_weights(c, &s->table, &how->columns, notes);
    }
    if (!program_failed(c)) {
        s->params = scale_column(s->table.csv, parameter_names, &s->params_unit, NULL);
        s->tokens = scale_column(s->table.csv, token_names, &s->tokens_unit, NULL);
        for (i = 0; i < s->table.csv->columns && s->tokens < 0 && how->columns.tokens_per_step > 0; i++) {
            if (is_one_of(s->table.csv->names[i], step_names)) s->tokens = i;
            s->tokens_unit = how->columns.tokens_per_step;
        }
        if (s->table.weight_count != o->k) mde_fail(c, MDE_BAD_FILE, "%s: has changed while it was read", path);
    }
    mde_text_free(notes);
}

/* The sizes on offer, and whether one of them is within the budget. */
static void check_spending(optimization *o)
{
    spending *s = &o->spending;
    const char *path = o->settings.losses;
    char wrong[64], params[32], tokens[32];
    int i, cheapest = 0;
    read_next_columns(o);
    if (o->settings.sizes) {
        s->sizes = parse_sizes(o->settings.sizes, s->size, wrong);
    } else {
        for (i = 0; i < o->scaling.sizes; i++) s->size[s->sizes++] = o->scaling.size[i].at;
    }
    for (i = 0; i < s->sizes; i++) {
        if (!(s->size[i].params > 0 && s->size[i].tokens > 0)) {
            mde_fail(o->context, MDE_BAD_FILE, "%s: has no column of %s, without which a run has no price; --sizes "
                     "says what is on offer, as 60M:1.2B", path, s->size[i].params > 0 ? "tokens" : "parameters");
            return;
        }
        if (run_flops(&s->size[i]) < run_flops(&s->size[cheapest])) cheapest = i;
    }
    if (s->sizes > 0 && run_flops(&s->size[cheapest]) > o->settings.budget_flops) {
        mde_fail(o->context, MDE_BAD_ARGUMENT, "a budget of %.4g FLOPs is too small for any run: the cheapest, of %s "
                 "parameters and %s tokens, takes %.4g", o->settings.budget_flops,
                 scale_text(s->size[cheapest].params, params), scale_text(s->size[cheapest].tokens, tokens),
                 run_flops(&s->size[cheapest]));
    }
}

/* Covariance a [n, n], a row of room behind it, and mean [n] (may be NULL) given y, an observation of variable i with a
   noise variance. */
static void observe(int n, double *a, double *mean, int i, double noise, double y)
{
    double *along = a + n * n, variance = a[i * n + i] + noise, step = mean ? (y - mean[i]) / variance : 0;
    int p, q;
    if (!(variance > 0)) return;
    memcpy(along, a + i * n, (size_t)n * sizeof *along);
    for (p = 0; p < n; p++) {
        double factor = along[p] / variance;
        if (mean) mean[p] += along[p] * step;
        for (q = 0; q < n; q++) a[p * n + q] -= factor * along[q];
    }
}

/* What the law leaves: variances of g, h and e, and the Hellinger distance at which the correlation is exp(-1/2). */
typedef struct residual_process { double everywhere, own, noise, reach; } residual_process;

static double residual_covariance(const residual_process *p, int k, const double *v, double n, const double *w,
                                  double m)
{
    double squares = 0, apart = n > 0 && m > 0 ? fabs(log(n / m)) : 0;
    int i;
    for (i = 0; i < k; i++) squares += 0.5 * (sqrt(v[i]) - sqrt(w[i])) * (sqrt(v[i]) - sqrt(w[i]));
    return exp(-0.5 * squares / (p->reach * p->reach)) * (p->everywhere + p->own * exp(-apart / SPEND_SIZE_REACH));
}

/* Mixtures [n, k] at parameters [n]. */
static void fill_covariance(const residual_process *p, int n, int k, const double *w, const double *params, double *a)
{
    int i, j;
    for (i = 0; i < n; i++) {
        for (j = 0; j <= i; j++) {
            a[i * n + j] = a[j * n + i] = residual_covariance(p, k, w + i * k, params[i], w + j * k, params[j]);
        }
    }
}

/* The process under which residuals [n] are most likely, of a grid; its scale is fitted to each. */
static residual_process fit_process(const optimization *o, int n, const double *w, const double *params,
                                    const double *residual)
{
    static const double noises[] = { 0.1, 0.3, 0.6, 0.02 }, owns[] = { 0.5, 0.8, 0.2 }, reaches[] = { 0.25, 0.5 };
    double *a = program_doubles(o->context, n + 2, n), *mean = a ? a + n * n + n : NULL, best = -(double)INFINITY;
    residual_process found = { 0, 0, 0, 1 };
    int t, i;
    for (t = 0; t < 24 && a; t++) {
        double noise = noises[t % 4], own = (1 - noise) * owns[t / 4 % 3], likelihood = 0, scale = 0;
        residual_process p;
        p.everywhere = 1 - noise - own;
        p.own = own;
        p.noise = noise;
        p.reach = reaches[t / 12];
        fill_covariance(&p, n, o->k, w, params, a);
        for (i = 0; i < n; i++) mean[i] = 0;
        for (i = 0; i < n; i++) {
            double error = residual[i] - mean[i], variance = a[i * n + i] + noise;
            scale += error * error / variance / n;
            likelihood -= 0.5 * log(variance);
            observe(n, a, mean, i, noise, residual[i]);
        }
        likelihood -= 0.5 * n * log(scale > 1e-20 ? scale : 1e-20);
        if (!(likelihood > best)) continue;
        best = likelihood;
        found = p;
        found.everywhere *= scale;
        found.own *= scale;
        found.noise *= scale;
    }
    mde_release(o->context, a);
    return found;
}

/* What the joint law misses of the objective of each row, left out [rows], NaN where a loss is missing; returns the
   variance of that over the sum of the losses' own, which says how far their errors go together. */
static double law_residuals(const optimization *o, mde_regressor *const *law, double *residual)
{
    const scaling *s = &o->scaling;
    int n = s->runs->count, i, j, count;
    double *left = program_doubles(o->context, n, 1), own = 0, squares = 0;
    for (i = 0; i < n; i++) residual[i] = 0;
    for (j = 0; j < o->m && left && !program_failed(o->context); j++) {
        if (o->objective[j] == 0 || mde_regressor_left_out(law[j], left)) continue;
        for (i = count = 0; i < n; i++) {
            double y = s->runs->losses[i * o->m + j], error = y == y ? o->nats[j] * (s->sign[j] * y - left[count]) : y;
            count += y == y;
            residual[i] += error;
            if (y == y) own += error * error;
        }
    }
    for (i = 0; i < n; i++) if (residual[i] == residual[i]) squares += residual[i] * residual[i];
    mde_release(o->context, left);
    return own > 0 ? squares / own : 1;
}

/* Points that are looked at: mixture q at size s, q * sizes + s; then each at the target; then rows of the runs. */
typedef struct spend_points {
    int mixtures, sizes, count, rows;
    double *w, *params;                 /* [count + rows, k], [count + rows] */
    double *mu;                         /* [mixtures] expectations at the target */
    double *a;                          /* [count, count] covariance, of the objective less e */
    double noise;                       /* variance of e */
    char *made;                         /* [mixtures * sizes] */
} spend_points;

/* Mixtures [at most `count`, k] that may be worth a run: the best one, those of the runs that promise most, which may
   be made again at another size, and new ones. Returns how many. */
static int spend_mixtures(optimization *o, int count, double *w)
{
    mde_context *c = o->context;
    int n = o->n, k = o->k, found = 1, i, made = 0;
    double *mean = program_doubles(c, n, o->m);
    sorted_value *order = (sorted_value *)mde_alloc(c, (size_t)n, sizeof *order);
    mde_suggest_desc desc;
    memcpy(w, o->best.weights, (size_t)k * sizeof *w);
    if (order && mean) mde_surrogate_predict(o->surrogate, n, o->runs->weights, mean, NULL);
    for (i = 0; i < n && !program_failed(c); i++) {
        order[i].value = objective_of(o, mean + i * o->m);
        order[i].at = i;
    }
    if (!program_failed(c)) qsort(order, (size_t)n, sizeof *order, compare_sorted);
    for (i = 0; i < n && found < count / 4 && !program_failed(c); i++) {
        const double *run = o->runs->weights + order[i].at * k;
        int q, allowed = 1;
        for (q = 0; q < k; q++) allowed &= run[q] >= o->allowed_lower[q] - 1e-9 && run[q] <= o->allowed_upper[q] + 1e-9;
        if (allowed) memcpy(w + found++ * k, run, (size_t)k * sizeof *w);
    }
    describe_suggestions(o, &desc, &made);
    desc.acquisition = MDE_CONFIDENCE_BOUND;    /* a crowd that may be good, of which the value takes its pick */
    if (!program_failed(c)) {
        mde_suggest_runs(c, o->surrogate, n, k, o->runs->weights, &desc, count - found, w + found * k);
    }
    for (i = found, found += made; i < found; i++) {
        round_mixture(k, o->allowed_lower, o->allowed_upper, w + i * k);
    }
    round_mixture(k, o->allowed_lower, o->allowed_upper, w);
    mde_release(c, order);
    mde_release(c, mean);
    return found;
}

/* The runs that the processes are conditioned on, behind the points, and their residuals. */
static void spend_rows(const optimization *o, spend_points *p, const double *all, double *residual)
{
    const scaling *s = &o->scaling;
    int *rows = (int *)mde_alloc(o->context, (size_t)s->runs->count, sizeof *rows), i, count = 0;
    for (i = 0; i < s->sizes && rows; i++) {
        count += rows_at(s->runs->count, s->of, s->size[i].at.params, s->size[i].at.tokens, rows + count);
    }
    for (i = 0; i < count; i += (count + SPEND_RUNS - 1) / SPEND_RUNS) {
        int row = rows[i], to = p->count + p->rows;
        if (all[row] != all[row]) continue;
        memcpy(p->w + to * o->k, s->runs->weights + row * o->k, (size_t)o->k * sizeof *p->w);
        p->params[to] = s->of[row].params;
        residual[p->rows++] = all[row];
    }
    mde_release(o->context, rows);
}

/* The points' covariance given the runs. */
static void spend_covariance(optimization *o, spend_points *p)
{
    mde_context *c = o->context;
    const scaling *s = &o->scaling;
    int d = o->k + 2, m = p->count, n, i, j;
    mde_regressor **law = (mde_regressor **)mde_alloc(c, (size_t)o->m, sizeof *law);
    double *all = program_doubles(c, s->runs->count, 2), *residual = all ? all + s->runs->count : NULL;
    double *x = program_doubles(c, m, d), *a, *of_law = program_doubles(c, m, m), together;
    residual_process process;
    if (law) fit_law(o, s->runs, (double)NAN, 1, law);
    if (program_failed(c)) {
        free_law(o->m, law);
        return;                             /* the rest goes with the context */
    }
    together = law_residuals(o, law, all);
    spend_rows(o, p, all, residual);
    process = fit_process(o, p->rows, p->w + m * o->k, p->params + m, residual);
    p->noise = process.noise;
    n = m + p->rows;
    a = program_doubles(c, n + 1, n);
    if (a) fill_covariance(&process, n, o->k, p->w, p->params, a);
    for (i = m; i < n && a; i++) observe(n, a, NULL, i, process.noise, 0);
    for (i = 0; i < m && a; i++) memcpy(p->a + i * m, a + i * n, (size_t)m * sizeof *a);
    for (i = 0; i < m; i++) {
        const run_scale *at = i < p->mixtures * p->sizes ? &o->spending.size[i % p->sizes] : &s->target;
        memcpy(x + i * d, p->w + i * o->k, (size_t)o->k * sizeof *x);
        x[i * d + o->k] = at->params > 0 ? log(at->params) : 0;
        x[i * d + o->k + 1] = at->tokens > 0 ? log(at->tokens) : 0;
    }
    for (j = 0; j < o->m && !program_failed(c); j++) {
        double weight = together * o->nats[j] * o->nats[j];
        if (weight == 0 || mde_regressor_covariance(law[j], 0, m, x, of_law)) continue;
        for (i = 0; i < m * m; i++) p->a[i] += weight * of_law[i];
    }
    free_law(o->m, law);
    mde_release(c, law);
    mde_release(c, a);
    mde_release(c, of_law);
    mde_release(c, x);
    mde_release(c, all);
}

/* V of point i: the expectation over z by its density at 33 points. */
static double spend_value(const spend_points *p, int i)
{
    const double *along = p->a + i * p->count + p->mixtures * p->sizes;
    double sd = sqrt(p->a[i * p->count + i] + p->noise), lowest = (double)INFINITY, sum = 0, total = 0;
    int t, q;
    for (q = 0; q < p->mixtures; q++) if (p->mu[q] < lowest) lowest = p->mu[q];
    for (t = -16; t <= 16 && sd > 0; t++) {
        double z = t / 4.0, weight = exp(-0.5 * z * z), minimum = (double)INFINITY;
        for (q = 0; q < p->mixtures; q++) {
            double value = p->mu[q] + along[q] / sd * z;
            if (value < minimum) minimum = value;
        }
        sum += weight * minimum;
        total += weight;
    }
    return total > 0 ? lowest - sum / total : 0;
}

/* One run after the other. */
static void spend_greedily(optimization *o, spend_points *p)
{
    spending *s = &o->spending;
    double left = o->settings.budget_flops;
    int count = o->settings.suggest, points = p->mixtures * p->sizes, i;
    for (; o->suggested < count; o->suggested++) {
        double highest = -1, share = left / (count - o->suggested), value = 0;
        int best = -1;
        if (program_step(o->context, o->settings.progress, o->settings.user, "suggest", o->suggested, count)) return;
        for (i = 0; i < points; i++) {
            double flops = run_flops(&s->size[i % p->sizes]), found;
            if (p->made[i] || flops > left) continue;
            found = spend_value(p, i);
            if (!(found / (flops > share ? flops : share) > highest)) continue;
            highest = found / (flops > share ? flops : share);
            value = found;
            best = i;
        }
        if (best < 0) return;
        p->made[best] = 1;
        s->at[o->suggested] = best % p->sizes;
        s->value[o->suggested] = value;
        memcpy(o->next + o->suggested * o->k, p->w + best * o->k, (size_t)o->k * sizeof *p->w);
        s->flops += run_flops(&s->size[best % p->sizes]);
        left = o->settings.budget_flops - s->flops;
        observe(p->count, p->a, NULL, best, p->noise, 0);
    }
}

/* Whether a run of mixture w at a size is there already. */
static int is_made(const optimization *o, const double *w, const run_scale *at)
{
    const scaling *s = &o->scaling;
    int i, q;
    for (i = 0; i < s->runs->count; i++) {
        if (!same_scale(s->of[i].params, at->params) || !same_scale(s->of[i].tokens, at->tokens)) continue;
        for (q = 0; q < o->k && fabs(w[q] - s->runs->weights[i * o->k + q]) < 1e-3; q++) {
        }
        if (q == o->k) return 1;
    }
    return 0;
}

static void spend(optimization *o)
{
    mde_context *c = o->context;
    spending *s = &o->spending;
    spend_points p;
    int k = o->k, i, q, sizes = s->sizes;
    double *mean = program_doubles(c, SPEND_POINTS, o->m);
    memset(&p, 0, sizeof p);
    p.sizes = sizes;
    p.w = program_doubles(c, SPEND_POINTS + SPEND_RUNS + 1, k + 1);
    p.mu = program_doubles(c, SPEND_POINTS, 1);
    p.made = (char *)mde_alloc(c, SPEND_POINTS, 1);
    s->at = (int *)mde_alloc(c, (size_t)o->settings.suggest, sizeof *s->at);
    s->value = program_doubles(c, o->settings.suggest, 1);
    o->next = program_doubles(c, o->settings.suggest, k);
    if (!program_failed(c)) {
        double *w = p.w + SPEND_POINTS * k;     /* behind, until it is known how many there are */
        int room = SPEND_POINTS / (sizes + 1);
        p.params = p.w + (SPEND_POINTS + SPEND_RUNS + 1) * k;
        p.mixtures = spend_mixtures(o, room < SPEND_RUNS ? room : SPEND_RUNS, w);
        p.count = p.mixtures * (sizes + 1);
        if (!program_failed(c)) mde_surrogate_predict(o->surrogate, p.mixtures, w, mean, NULL);
        for (q = 0; q < p.mixtures; q++) {
            p.mu[q] = objective_of(o, mean + q * o->m);
            for (i = 0; i <= sizes; i++) {
                int at = i < sizes ? q * sizes + i : p.mixtures * sizes + q;
                memcpy(p.w + at * k, w + q * k, (size_t)k * sizeof *w);
                p.params[at] = i < sizes ? s->size[i].params : o->scaling.target.params;
                if (i < sizes) p.made[at] = (char)is_made(o, w + q * k, &s->size[i]);
            }
        }
    }
    if (!program_failed(c)) p.a = program_doubles(c, p.count + 1, p.count);
    if (!program_failed(c)) spend_covariance(o, &p);
    if (!program_failed(c)) spend_greedily(o, &p);
    mde_release(c, p.a);
    mde_release(c, p.made);
    mde_release(c, p.mu);
    mde_release(c, p.w);
    mde_release(c, mean);
}

static void suggest(optimization *o)
{
    mde_context *c = o->context;
    mde_suggest_desc desc;
    int count = o->settings.suggest, i;
    if (count <= 0) return;
    if (o->settings.budget_flops > 0) {
        spend(o);
        return;
    }
    describe_suggestions(o, &desc, &o->suggested);
    o->next = program_doubles(c, count, o->k);
    if (!o->next ||
        mde_suggest_runs(c, o->surrogate, o->n, o->k, o->n > 0 ? o->runs->weights : NULL, &desc, count, o->next))
        return;
    if (o->suggested < count) {
        mde_text_format(o->warnings, "there is room for %d further runs only that are not near to others\n",
                        o->suggested);
    }
    for (i = 0; i < o->suggested; i++) round_mixture(o->k, o->allowed_lower, o->allowed_upper, o->next + i * o->k);
}

/* ---- As JSON, as a page, as text, as a table ---- */

static void json_spending(mde_json_writer *w, const optimization *o)
{
    const spending *s = &o->spending;
    int q;
    mde_json_open(w, "next_sizes", '[');
    for (q = 0; q < o->suggested; q++) {
        mde_json_open(w, NULL, '{');
        mde_json_write_number(w, "params", s->size[s->at[q]].params, 9);
        mde_json_write_number(w, "tokens", s->size[s->at[q]].tokens, 9);
        mde_json_write_number(w, "flops", run_flops(&s->size[s->at[q]]), 9);
        mde_json_write_number(w, "value", s->value[q], 9);
        mde_json_close(w);
    }
    mde_json_close(w);
    mde_json_write_number(w, "next_flops", s->flops, 9);
    mde_json_write_number(w, "budget_flops", o->settings.budget_flops, 9);
}

/* Ends the table of the runs' weights. */
static void page_spending(mde_text *t, const optimization *o)
{
    static const char *const rows[] = { "parameters", "tokens", "FLOPs", "value" };
    const spending *s = &o->spending;
    char text[32];
    int row, q;
    for (row = 0; row < 4; row++) {
        mde_text_format(t, "<tr><td><b>%s</b></td>", rows[row]);
        for (q = 0; q < o->suggested; q++) {
            const run_scale *at = &s->size[s->at[q]];
            if (row == 3) mde_text_format(t, "<td>%.2g</td>", s->value[q]);
            else if (row == 2) mde_text_format(t, "<td>%.3g</td>", run_flops(at));
            else mde_text_format(t, "<td>%s</td>", scale_text(row ? at->tokens : at->params, text));
        }
        mde_text_add(t, "</tr>\n");
    }
    mde_text_format(t, "</table></div>\n<p class=\"note\">%.4g FLOPs of %.4g. Value: by how much the run, made after "
                       "those before it, lowers the expected objective of the mixture that is best at the target; "
                       "each was chosen for its value per FLOP. <code>next_runs.csv</code> has them in the columns of "
                       "the runs' table.</p>\n", s->flops, o->settings.budget_flops);
}

static void add_spending(mde_text *t, const optimization *o)
{
    const spending *s = &o->spending;
    char params[32], tokens[32];
    int i, q;
    mde_text_format(t, "\n%d runs to make next, %.4g FLOPs of %.4g: next_runs.csv\n", o->suggested, s->flops,
                    o->settings.budget_flops);
    for (i = 0; i < s->sizes; i++) {
        int count = 0;
        double value = 0;
        for (q = 0; q < o->suggested; q++) if (s->at[q] == i) count++, value += s->value[q];
        mde_text_format(t, "%4d of %s parameters and %s tokens, %.4g FLOPs each, worth %.2g together\n", count,
                        scale_text(s->size[i].params, params), scale_text(s->size[i].tokens, tokens),
                        run_flops(&s->size[i]), value);
    }
}

/* The number behind "next" in the names of runs that were suggested before, the largest one. */
static int last_suggestion(const optimization *o)
{
    const mde_runs *runs = o->scaling.runs ? o->scaling.runs : o->runs;
    int i, number, last = 0;
    for (i = 0; runs && i < runs->count; i++) {
        const char *name = runs->names[i];
        if (strncmp(name, "next", 4) == 0 && (number = atoi(name + 4)) > last && number < 1000000) last = number;
    }
    return last;
}

/* Names of columns, in the order of the runs' table; what it does not have, behind. */
static void add_next_columns(mde_text *t, const spending *s)
{
    int i;
    for (i = 0; i < s->table.csv->columns; i++) {
        mde_text_add(t, i > 0 ? "," : "");
        mde_text_add_csv(t, s->table.csv->names[i]);
    }
    if (s->params < 0) mde_text_add(t, ",params");
    if (s->tokens < 0) mde_text_add(t, ",tokens");
}

/* A run with its size; losses are left empty. */
static void add_next_row(mde_text *t, const optimization *o, int q, int number)
{
    const spending *s = &o->spending;
    const run_scale *at = &s->size[s->at[q]];
    int i, d, columns = s->table.csv->columns;
    for (i = 0; i < columns; i++) {
        mde_text_add(t, i > 0 ? "," : "\n");
        if (i == s->table.run) mde_text_format(t, "next%d", number);
        else if (i == s->params) mde_text_format(t, "%.9g", at->params / s->params_unit);
        else if (i == s->tokens) mde_text_format(t, "%.9g", at->tokens / s->tokens_unit);
        for (d = 0; d < o->k; d++) {
            if (i == s->table.weights[d]) {
                mde_text_format(t, "%.9g", o->next[q * o->k + d] * (o->scaling.runs->percent ? 100 : 1));
            }
        }
    }
    if (s->params < 0) mde_text_format(t, ",%.9g", at->params);
    if (s->tokens < 0) mde_text_format(t, ",%.9g", at->tokens);
}

/* The domain that stands in column i of a table of weights whose rows may be put below those that were read. */
static int domain_of_column(const optimization *o, int i)
{
    int d = i;
    if (o->table_domains) for (d = 0; full_name(o, d) != o->table_domains[i]; d++) { }
    return d;
}

static mde_text *next_table(const optimization *o)
{
    mde_text *t = mde_text_create(o->context);
    int i, q, number = last_suggestion(o);
    if (o->spending.at) add_next_columns(t, &o->spending);
    else mde_text_add(t, "run");
    for (i = 0; i < o->k && !o->spending.at; i++) {
        mde_text_add(t, ",");
        mde_text_add_csv(t, full_name(o, domain_of_column(o, i)));
    }
    for (q = 0; q < o->suggested; q++) {
        if (o->spending.at) {
            add_next_row(t, o, q, ++number);
            continue;
        }
        mde_text_format(t, "\nnext%d", ++number);
        for (i = 0; i < o->k; i++) {
            mde_text_format(t, ",%.9g", o->next[q * o->k + domain_of_column(o, i)] *
                                        (o->runs && o->runs->percent ? 100 : 1));
        }
    }
    mde_text_add(t, "\n");
    return t;
}

#endif /* MIX_SUGGEST_H */
