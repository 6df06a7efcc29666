/* mix_scale.h - runs of several sizes, or with checkpoints: a law of parameters and tokens moves each run's losses to
   the target, where they are regressed on the mixture as those of any other table, and says what that leaves open. A
   few large runs may set level and slope instead. Included by mix_report.h alone. */
#ifndef MIX_SCALE_H
#define MIX_SCALE_H

#define FEWEST_MIXTURES 10              /* of a size that can say on its own which mixtures are good */
#define SLOPE_SD 0.3                    /* of what is known, before any anchor, of a large loss over a small one: 1 */

/* "70M", with four digits at most. */
static const char *scale_text(double value, char text[32])
{
    static const char letters[] = " KMBT";
    int i = 0;
    while (value >= 999.95 && i < 4) value /= 1000, i++;
    snprintf(text, 32, i > 0 ? "%.4g%c" : "%.4g", value, letters[i]);
    return text;
}

static int has_scale(const run_scale *s, double params, double tokens)
{
    return (params != params || same_scale(s->params, params)) && (tokens != tokens || same_scale(s->tokens, tokens));
}

/* Rows [count] of runs as a table of their own. */
static mde_runs *copy_rows(const mde_runs *runs, int count, const int *rows)
{
    mde_context *c = runs->context;
    size_t k = (size_t)runs->domains, m = (size_t)runs->metrics;
    mde_runs *copy = (mde_runs *)mde_alloc(c, 1, sizeof *copy);
    int i;
    if (!copy) return NULL;
    copy->context = c;
    copy->count = count;
    copy->domains = runs->domains;
    copy->metrics = runs->metrics;
    copy->names = (const char **)mde_alloc(c, (size_t)count + 1, sizeof *copy->names);
    copy->domain_names = (const char **)mde_alloc(c, k, sizeof *copy->names);
    copy->metric_names = (const char **)mde_alloc(c, m + 1, sizeof *copy->names);
    copy->weights = program_doubles(c, count + 1, runs->domains);
    copy->losses = program_doubles(c, count + 1, runs->metrics + 1);
    for (i = 0; i < runs->domains && !program_failed(c); i++) {
        copy->domain_names[i] = program_copy(c, runs->domain_names[i]);
    }
    for (i = 0; i < runs->metrics && !program_failed(c); i++) {
        copy->metric_names[i] = program_copy(c, runs->metric_names[i]);
    }
    for (i = 0; i < count && !program_failed(c); i++) {
        copy->names[i] = program_copy(c, runs->names[rows[i]]);
        memcpy(copy->weights + (size_t)i * k, runs->weights + (size_t)rows[i] * k, k * sizeof(double));
        memcpy(copy->losses + (size_t)i * m, runs->losses + (size_t)rows[i] * m, m * sizeof(double));
    }
    if (!program_failed(c)) return copy;
    mde_runs_free(copy);
    return NULL;
}

static int count_mixtures(mde_context *c, const mde_runs *runs, int count, const int *rows)
{
    int i, k = runs->domains, mixtures = 0, *first = (int *)mde_alloc(c, (size_t)count, sizeof(int));
    double *weights = program_doubles(c, count, k);
    for (i = 0; i < count && weights; i++) {
        memcpy(weights + i * k, runs->weights + rows[i] * k, (size_t)k * sizeof(double));
    }
    if (weights && first) mixtures = mde_first_repeats(c, count, k, weights, first);
    mde_release(c, weights);
    mde_release(c, first);
    return mixtures;
}

/* Of runs of a size (NaN: any), the tokens that occur with the largest number of them; of several such the largest. */
static double common_tokens(mde_context *c, int n, const run_scale *of, double params)
{
    double found = (double)NAN, *tokens = program_doubles(c, n, 1);
    int i, known = 0, unknown = 0, low = 0, high = 0, largest = 0;
    for (i = 0; i < n && tokens; i++) {
        if (!has_scale(&of[i], params, (double)NAN)) continue;
        if (of[i].tokens == of[i].tokens) tokens[known++] = of[i].tokens;
        else unknown++;
    }
    if (tokens) qsort(tokens, (size_t)known, sizeof *tokens, program_compare_doubles);
    for (i = 0; i < known; i++) {
        while (!same_scale(tokens[low], tokens[i])) low++;
        while (high < known && same_scale(tokens[high], tokens[i])) high++;
        if (high - low < largest) continue;
        largest = high - low;
        found = tokens[i];
    }
    mde_release(c, tokens);
    return unknown > largest ? (double)NAN : found;
}

static int rows_at(int n, const run_scale *of, double params, double tokens, int *rows)
{
    int i, count = 0;
    for (i = 0; i < n; i++) if (has_scale(&of[i], params, tokens)) rows[count++] = i;
    return count;
}

/* The sizes of runs, ascending, each with its common tokens. Runs that say no size have one, unknown. */
static void list_sizes(scaling *s, const mde_runs *runs)
{
    int i, j;
    s->sizes = 0;
    for (i = 0; i < runs->count; i++) {
        for (j = 0; j < s->sizes && !same_scale(s->size[j].at.params, s->of[i].params); j++) {
        }
        if (j < s->sizes) continue;
        if (s->sizes == LARGEST_SIZES) {
            mde_fail(runs->context, MDE_BAD_FILE, "runs of more than %d sizes", LARGEST_SIZES);
            return;
        }
        for (j = s->sizes++; j > 0 && s->size[j - 1].at.params > s->of[i].params; j--) s->size[j] = s->size[j - 1];
        memset(&s->size[j], 0, sizeof s->size[j]);
        s->size[j].at.params = s->of[i].params;
    }
    for (j = 0; j < s->sizes; j++) {
        s->size[j].at.tokens = common_tokens(runs->context, runs->count, s->of, s->size[j].at.params);
    }
}

/* ---- The law ---- */

/* The law of each loss, law [m], of the runs but for those of a size (NaN: of all). */
static void fit_law(optimization *o, const mde_runs *runs, double without, int interactions, mde_regressor **law)
{
    mde_context *c = o->context;
    const scaling *s = &o->scaling;
    int d = o->k + 2, n = runs->count, i, j, count;
    double *x = program_doubles(c, n, d + 1), *y = x ? x + n * d : NULL;
    mde_fit_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.model = MDE_SCALE_LAW;
    desc.interactions = interactions;
    for (j = 0; j < o->m && !program_failed(c); j++) {
        for (i = count = 0; i < n; i++) {
            double loss = runs->losses[i * o->m + j], *row = x + count * d;
            if (loss != loss || (without == without && same_scale(s->of[i].params, without))) continue;
            memcpy(row, runs->weights + i * o->k, (size_t)o->k * sizeof *row);
            row[o->k] = s->of[i].params > 0 ? log(s->of[i].params) : 0;
            row[o->k + 1] = s->of[i].tokens > 0 ? log(s->of[i].tokens) : 0;
            y[count++] = s->sign[j] * loss;
        }
        law[j] = mde_regressor_fit(c, count, d, 1, x, y, &desc);
    }
    mde_release(c, x);
}

static void free_law(int m, mde_regressor **law)
{
    int j;
    for (j = 0; law && j < m; j++) mde_regressor_free(law[j]);
    for (j = 0; law && j < m; j++) law[j] = NULL;
}

/* Loss j of mixture w as the law has it, in the units of the tables. */
static double law_at(const optimization *o, mde_regressor *const *law, int j, const double *w, const run_scale *at,
                     double *sd)
{
    double x[MDE_MAX_DOMAINS + 2], mean = (double)NAN;
    memcpy(x, w, (size_t)o->k * sizeof *x);
    x[o->k] = at->params > 0 ? log(at->params) : 0;
    x[o->k + 1] = at->tokens > 0 ? log(at->tokens) : 0;
    mde_regressor_predict(law[j], 1, x, &mean, sd);
    return o->scaling.sign[j] * mean;
}

/* What getting from one scale to another adds to a loss, and the sd that this adds. */
static double law_step(const optimization *o, mde_regressor *const *law, int j, const double *w, const run_scale *from,
                       const run_scale *to, double *sd)
{
    double sd_here = 0, sd_there = 0, step;
    step = law_at(o, law, j, w, to, sd ? &sd_there : NULL) - law_at(o, law, j, w, from, sd ? &sd_here : NULL);
    if (sd) *sd = sd_there > sd_here ? sqrt(sd_there * sd_there - sd_here * sd_here) : 0;
    return step;
}

#define REPEAT_REACH 15.4               /* epochs beyond the first at which further ones are worth 1/e of fresh data:
                                           Muennighoff et al. 2023, not fitted */

/* What w of the target's tokens are worth where domains are repeated: U_i tokens seen 1 + R_i times as
   U_i (1 + R* (1 - exp(-R_i / R*))) fresh ones. fresh [k] is the mixture that these make, at scale *at; returns how
   many domains are repeated, 0 where no file says how much there is. */
static int effective_data(const optimization *o, const double *w, double *fresh, run_scale *at)
{
    double total = o->settings.target_tokens, sum = 0;
    int i, repeated = 0;
    *at = o->scaling.target;
    memcpy(fresh, w, (size_t)o->k * sizeof *fresh);
    if (!o->scaling.law || !(total > 0)) return 0;
    for (i = 0; i < o->k; i++) {
        double tokens = w[i] * total, epochs = o->tokens[i] > 0 ? tokens / o->tokens[i] : 0;
        if (epochs > 1) {
            tokens = o->tokens[i] * (1 + REPEAT_REACH * (1 - exp((1 - epochs) / REPEAT_REACH)));
            repeated++;
        }
        fresh[i] = tokens;
        sum += tokens;
    }
    for (i = 0; i < o->k; i++) fresh[i] = repeated ? fresh[i] / sum : w[i];
    if (repeated) at->tokens = sum;
    return repeated;
}

/* The sd that the way to the target adds to loss j, in the units of the tables. */
static double extrapolation_sd(const optimization *o, int j, const double *w)
{
    const scaling *s = &o->scaling;
    double sd = 0;
    if (s->law) law_step(o, s->law, j, w, &s->origin, &s->target, &sd);
    sd *= s->factor;
    return s->anchor_sd ? sqrt(sd * sd + s->anchor_sd[j] * s->anchor_sd[j]) : sd;
}

/* Mean relative error of the laws at a size that they were fitted without. */
static double law_error(optimization *o, double params, int interactions)
{
    const scaling *s = &o->scaling;
    mde_regressor **law = (mde_regressor **)mde_alloc(o->context, (size_t)o->m, sizeof *law);
    double sum = 0;
    int i, j, count = 0;
    if (law) fit_law(o, s->runs, params, interactions, law);
    for (i = 0; i < s->runs->count && !program_failed(o->context); i++) {
        for (j = 0; j < o->m && same_scale(s->of[i].params, params); j++) {
            double y = s->runs->losses[i * o->m + j];
            if (y != y || y == 0) continue;
            sum += fabs(law_at(o, law, j, s->runs->weights + i * o->k, &s->of[i], NULL) / y - 1);
            count++;
        }
    }
    free_law(o->m, law);
    mde_release(o->context, law);
    return count > 0 ? sum / count : (double)NAN;
}

/* Squared errors of the laws for mixtures left out, over the variance of what they predict, mean over the losses. */
static double left_out_error(optimization *o, int interactions)
{
    const scaling *s = &o->scaling;
    mde_regressor **law = (mde_regressor **)mde_alloc(o->context, (size_t)o->m, sizeof *law);
    double *left = program_doubles(o->context, s->runs->count, 1), error = 0;
    int i, j;
    if (law && left) fit_law(o, s->runs, (double)NAN, interactions, law);
    for (j = 0; j < o->m && !program_failed(o->context); j++) {
        double mean = 0, spread = 0, squares = 0;
        int count = 0;
        mde_regressor_left_out(law[j], left);
        for (i = 0; i < s->runs->count; i++) {
            double y = s->sign[j] * s->runs->losses[i * o->m + j];
            if (y != y) continue;
            squares += (left[count] - y) * (left[count] - y);
            spread += (y - mean) * (y - mean) * count / (count + 1.0);
            mean += (y - mean) / ++count;
        }
        if (spread > 0) error += squares / spread / o->m;
    }
    free_law(o->m, law);
    mde_release(o->context, law);
    mde_release(o->context, left);
    return error;
}

/* Of size j to the target, in log N. */
static double size_distance(const scaling *s, int j)
{
    return s->target.params > 0 && s->size[j].at.params > 0 ? fabs(log(s->target.params / s->size[j].at.params)) : 0;
}

/* The size nearest to a scale that can speak for itself, but for one (-1: none); -1: there is none. */
static int nearest_size(const scaling *s, double params, int but)
{
    double nearest = (double)INFINITY;
    int j, found = -1;
    for (j = 0; j < s->sizes; j++) {
        double distance = params > 0 && s->size[j].at.params > 0 ? fabs(log(params / s->size[j].at.params)) : 0;
        if (j == but || s->size[j].mixtures < FEWEST_MIXTURES || !(distance <= nearest)) continue;
        nearest = distance;
        found = j;
    }
    return found;
}

/* ---- What the runs are taken for ---- */

/* Where sizes or tokens differ and nothing is asked of a target: the largest size alone, at the tokens that most of its
   runs have. */
static void take_largest_slice(optimization *o)
{
    scaling *s = &o->scaling;
    const run_scale *at = &s->size[s->sizes - 1].at;
    int *rows = (int *)mde_alloc(o->context, (size_t)o->runs->count, sizeof *rows), count;
    char params[32], tokens[32];
    mde_runs *slice;
    if (!rows) return;
    count = rows_at(o->runs->count, s->of, at->params, at->tokens, rows);
    scale_text(at->params, params);
    scale_text(at->tokens, tokens);
    if (count < 5) {
        mde_fail(o->context, MDE_BAD_FILE, "%s: the runs differ in size or tokens, and only %d are alike (%s "
                 "parameters, %s %s); --target-params and --target-tokens take all of them", o->settings.losses, count,
                 params, tokens, s->of[rows[0]].steps ? "steps" : "tokens");
    } else {
        mde_text_format(o->notes, "the runs differ in size or tokens: only the %d of", count);
        if (at->params > 0) mde_text_format(o->notes, " %s parameters%s", params, at->tokens > 0 ? " and" : "");
        if (at->tokens > 0) {
            mde_text_format(o->notes, " %s %s", tokens, s->of[rows[0]].steps ? "steps" : "tokens");
        }
        mde_text_add(o->notes, " are used; --target-params and --target-tokens take all\n");
        slice = copy_rows(o->runs, count, rows);
        if (slice) {
            mde_runs_free(o->runs);
            o->runs = slice;
        }
    }
    mde_release(o->context, rows);
}

static void check_scales(optimization *o, int params_vary, int tokens_vary)
{
    mde_context *c = o->context;
    scaling *s = &o->scaling;
    const char *path = o->settings.losses;
    const run_scale *largest = &s->size[s->sizes - 1].at;
    int i, known = 0;
    char text[32];
    for (i = 0; i < o->runs->count; i++) known += s->of[i].params == s->of[i].params;
    s->target.params = o->settings.target_params;
    s->target.tokens = o->settings.target_tokens;
    if (s->target.params > 0 && known == 0) {
        mde_fail(c, MDE_BAD_FILE, "%s: no column has sizes (params, model_size, N), and no name of a run or file "
                 "says one, as 70M does", path);
    } else if (s->target.params > 0 && !params_vary && !same_scale(s->target.params, largest->params)) {
        mde_fail(c, MDE_BAD_FILE, "%s: all runs have %s parameters, so nothing says how losses fall with size: give "
                 "runs of another size, or a few large ones with --anchor", path, scale_text(largest->params, text));
    } else if (s->target.tokens > 0 && !tokens_vary && !same_scale(s->target.tokens, largest->tokens)) {
        mde_fail(c, MDE_BAD_FILE, "%s: %s, so nothing says how losses fall with tokens: leave --target-tokens out",
                 path, largest->tokens > 0 ? "all runs saw the same tokens"
                                           : "no column has tokens (tokens, n_tokens, D)");
    }
    for (i = 0; i < o->runs->count && !program_failed(c); i++) {
        if (s->of[i].steps) {
            mde_fail(c, MDE_BAD_FILE, "%s: has steps and no tokens; --tokens-per-step says how many tokens a step is",
                     path);
        } else if ((known > 0 && s->of[i].params != s->of[i].params) ||
                   (tokens_vary && s->of[i].tokens != s->of[i].tokens)) {
            mde_fail(c, MDE_BAD_FILE, "%s: run %.100s has no %s, which others have", path, o->runs->names[i],
                     s->of[i].params == s->of[i].params ? "tokens" : "size");
        }
    }
    if (!(s->target.params > 0)) s->target.params = largest->params;
    if (!(s->target.tokens > 0)) s->target.tokens = largest->tokens;
    if (s->target.params < s->size[0].at.params || (params_vary && s->target.params < largest->params * 0.98)) {
        mde_text_add(o->notes, "the target has fewer parameters than runs that are there\n");
    }
}

static int compare_ints(const void *a, const void *b)
{
    return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

/* Rows at the common tokens of the size nearest to the target that has enough mixtures (-1: there is none), and of all
   sizes nearer than that, which are too few alone; of a mixture the largest size's. Returns how many. */
static int rows_to_move(const scaling *s, int origin, int *rows)
{
    int i, j, count = 0;
    for (j = s->sizes - 1; j >= 0; j--) {
        int of_size = 0, from = count;
        if (origin >= 0 && j != origin && !(size_distance(s, j) < size_distance(s, origin))) continue;
        of_size = rows_at(s->runs->count, s->of, s->size[j].at.params, s->size[j].at.tokens, rows + from);
        for (i = from; i < from + of_size; i++) {
            int q, d, k = s->runs->domains, twice = 0;
            for (q = 0; q < from && !twice && origin >= 0; q++) {
                const double *v = s->runs->weights + rows[q] * k, *w = s->runs->weights + rows[i] * k;
                for (d = 0; d < k && fabs(v[d] - w[d]) <= 1e-9; d++) {
                }
                twice = d == k;
            }
            if (!twice) rows[count++] = rows[i];
        }
    }
    qsort(rows, (size_t)count, sizeof *rows, compare_ints);
    return count;
}

/* o->runs become the runs of the size nearest to the target (all, where none has enough mixtures), their losses moved
   to the target by a law fitted to all of them. */
static void move_to_target(optimization *o)
{
    mde_context *c = o->context;
    scaling *s = &o->scaling;
    int *rows = (int *)mde_alloc(c, (size_t)o->runs->count, sizeof *rows), count = 0, i, j, origin;
    s->runs = o->runs;
    o->runs = NULL;
    s->law = (mde_regressor **)mde_alloc(c, (size_t)o->m, sizeof *s->law);
    for (i = 0; i < s->sizes && rows; i++) {
        count = rows_at(s->runs->count, s->of, s->size[i].at.params, s->size[i].at.tokens, rows);
        s->size[i].mixtures = count_mixtures(c, s->runs, count, rows);
        s->size[i].rows = rows_at(s->runs->count, s->of, s->size[i].at.params, (double)NAN, rows);
    }
    origin = nearest_size(s, s->target.params, -1);
    for (i = 0; i < 2 && s->sizes > 1 && !program_failed(c); i++) {
        s->form_errors[i] = s->sizes > 2 ? law_error(o, s->size[s->sizes - 1].at.params, i) : left_out_error(o, i);
    }
    s->interactions = s->form_errors[1] < s->form_errors[0];
    if (s->law) fit_law(o, s->runs, (double)NAN, s->interactions, s->law);
    if (!program_failed(c)) {
        s->origin = s->size[origin >= 0 ? origin : s->sizes - 1].at;
        count = rows_to_move(s, origin, rows);
        o->runs = copy_rows(s->runs, count, rows);
    }
    for (i = 0; i < count && !program_failed(c); i++) {
        const double *w = o->runs->weights + i * o->k;
        for (j = 0; j < o->m; j++) {
            o->runs->losses[i * o->m + j] += law_step(o, s->law, j, w, &s->of[rows[i]], &s->target, NULL);
        }
    }
    if (!program_failed(c)) {
        char params[32], tokens[32];
        mde_text_format(o->notes, "losses of %d runs are moved to", count);
        if (s->target.params > 0) mde_text_format(o->notes, " %s parameters", scale_text(s->target.params, params));
        if (s->target.tokens > 0) mde_text_format(o->notes, " %s tokens", scale_text(s->target.tokens, tokens));
        mde_text_format(o->notes, " by a law fitted to all %d rows\n", s->runs->count);
    }
    mde_release(c, rows);
}

/* After the runs' names are known and before anything is made of their losses. */
static void use_scales(optimization *o)
{
    scaling *s = &o->scaling;
    const optimize_settings *settings = &o->settings;
    int i, params_vary = 0, tokens_vary = 0;
    s->sign = program_doubles(o->context, o->m, 1);
    for (i = 0; i < o->m && s->sign; i++) {
        s->sign[i] = metric_sign(o->context, &settings->columns, o->runs->metric_names[i]);
    }
    list_sizes(s, o->runs);
    if (program_failed(o->context)) return;
    s->factor = 1;
    params_vary = s->sizes > 1;
    for (i = 1; i < o->runs->count; i++) tokens_vary |= !same_scale(s->of[i].tokens, s->of[0].tokens);
    if (settings->anchor && !params_vary && !tokens_vary) return;
    if (settings->target_params > 0 || (settings->target_tokens > 0 && tokens_vary)) {
        check_scales(o, params_vary, tokens_vary);
        if (!program_failed(o->context)) move_to_target(o);
    } else if (params_vary || tokens_vary) {
        take_largest_slice(o);
    }
    o->n = o->runs ? o->runs->count : 0;
}

/* A few large runs set level and slope of each loss: large = a + b small, where small is what the runs say of the same
   mixture, and b is near 1 unless the anchors say otherwise. The runs' losses become a + b times what they were. */
static void use_anchors(optimization *o, const mde_runs *anchors)
{
    mde_context *c = o->context;
    scaling *s = &o->scaling;
    int n = o->runs->count, q = anchors->count, i, j;
    double *mean = program_doubles(c, 2 * q, o->m), *sd = mean ? mean + q * o->m : NULL;
    mde_surrogate_desc desc;
    mde_surrogate *small = NULL;
    memset(&desc, 0, sizeof desc);
    mde_surrogate_recipe(c, "gp", &desc);
    s->anchor_sd = program_doubles(c, o->m, 1);
    if (!program_failed(c)) small = mde_surrogate_fit(c, n, o->k, o->m, o->runs->weights, o->runs->losses, &desc);
    if (small) mde_surrogate_predict(small, q, anchors->weights, mean, sd);
    for (j = 0; j < o->m && !program_failed(c); j++) {
        double x = 0, y = 0, xx = 0, xy = 0, noise = 0, squares = 0, centre = 0, spread = 0, a, b, strength, variance;
        int count = 0, runs = 0;
        for (i = 0; i < q; i++) {
            double loss = anchors->losses[i * o->m + j];
            if (loss != loss) continue;
            x += mean[i * o->m + j];
            y += loss;
            noise += sd[i * o->m + j] * sd[i * o->m + j];
            count++;
        }
        if (count == 0) {
            mde_fail(c, MDE_BAD_FILE, "%s: no run has loss %s", o->settings.anchor, o->runs->metric_names[j]);
            break;
        }
        x /= count;
        y /= count;
        noise /= count;
        for (i = 0; i < q; i++) {
            double loss = anchors->losses[i * o->m + j], dx = mean[i * o->m + j] - x;
            if (loss == loss) xx += dx * dx, xy += dx * (loss - y);
        }
        strength = noise / (SLOPE_SD * SLOPE_SD);
        b = xx + strength > 0 ? (xy + strength) / (xx + strength) : 1;
        a = y - b * x;
        for (i = 0; i < q; i++) {
            double loss = anchors->losses[i * o->m + j], residual = loss - a - b * mean[i * o->m + j];
            if (loss == loss) squares += residual * residual;
        }
        variance = (squares + 2 * noise) / (count + 1);         /* two runs' worth of what was known before */
        for (i = 0; i < n; i++) {
            double *loss = o->runs->losses + i * o->m + j;
            if (*loss != *loss) continue;
            centre += *loss;
            spread += *loss * *loss;
            runs++;
            *loss = a + b * *loss;
        }
        centre /= runs > 0 ? runs : 1;
        spread = spread / (runs > 0 ? runs : 1) - centre * centre + (centre - x) * (centre - x);
        s->anchor_sd[j] = sqrt(variance / count + variance * spread / (xx + strength + 1e-12));
    }
    mde_text_format(o->notes, "%s: %d large runs set level and slope of each loss\n", o->settings.anchor, q);
    if (!s->law && (o->settings.target_params > 0 || o->settings.target_tokens > 0)) {
        mde_text_format(o->notes, "without runs of several sizes losses are those of the large runs' own size, "
                        "whatever the target is\n");
    }
    mde_surrogate_free(small);
    mde_release(c, mean);
}

/* ---- Each size on its own, and left out ---- */

/* Its own runs at their common tokens, a regression of them, and the mixture that it finds best. */
static void fit_size(optimization *o, size_result *r, const mde_surrogate_desc *desc, const mde_choose_desc *choose)
{
    mde_context *c = o->context;
    const scaling *s = &o->scaling;
    int *rows = (int *)mde_alloc(c, (size_t)s->runs->count, sizeof *rows), i, count;
    mde_runs *own;
    mde_choice best;
    if (!rows || r->mixtures < FEWEST_MIXTURES) {
        mde_release(c, rows);
        return;
    }
    count = rows_at(s->runs->count, s->of, r->at.params, r->at.tokens, rows);
    own = copy_rows(s->runs, count, rows);
    for (i = 0; own && i < count * o->m; i++) {
        own->losses[i] = (own->losses[i] - o->centre[i % o->m]) / o->scale[i % o->m];
    }
    if (own) r->own = mde_surrogate_fit(c, count, o->k, o->m, own->weights, own->losses, desc);
    if (r->own && mde_surrogate_minimize(r->own, choose, &best) == MDE_OK) {
        memcpy(r->weights, best.weights, sizeof r->weights);
        r->searched = 1;
    }
    mde_runs_free(own);
    mde_release(c, rows);
}

/* Mean rank correlation, over the losses, of predictions [count, m] with the rows' losses. */
static double rank_of_rows(const optimization *o, int count, const int *rows, const double *predicted)
{
    double *a = program_doubles(o->context, 2, count), sum = 0;
    int i, j, ranked = 0;
    for (j = 0; j < o->m && a; j++) {
        double rank;
        int found = 0;
        for (i = 0; i < count; i++) {
            double y = o->scaling.runs->losses[rows[i] * o->m + j];
            if (y != y) continue;
            a[found] = predicted[i * o->m + j];
            a[count + found++] = y;
        }
        rank = found >= 3 ? mde_spearman(o->context, found, a, a + count) : (double)NAN;
        if (rank == rank) sum += rank, ranked++;
    }
    mde_release(o->context, a);
    return ranked > 0 ? sum / ranked : (double)NAN;
}

/* Losses of rows, and their sds, as the other sizes predict them: the regression of the nearest one, moved by a law
   that was fitted without theirs. */
static void predict_left_out(const optimization *o, mde_regressor *const *law, const size_result *origin, int count,
                             const int *rows, double *mean, double *sd)
{
    const scaling *s = &o->scaling;
    double *w = program_doubles(o->context, count, o->k);
    int i, j;
    for (i = 0; i < count && w; i++) {
        memcpy(w + i * o->k, s->runs->weights + rows[i] * o->k, (size_t)o->k * sizeof *w);
    }
    if (w && mde_surrogate_predict(origin->own, count, w, mean, sd) == MDE_OK) {
        for (i = 0; i < count * o->m; i++) {
            double added;
            j = i % o->m;
            mean[i] = o->centre[j] + o->scale[j] * mean[i] +
                      law_step(o, law, j, w + i / o->m * o->k, &origin->at, &s->of[rows[i / o->m]], &added);
            sd[i] *= o->evaluation->spread * fabs(o->scale[j]);
            sd[i] = sqrt(sd[i] * sd[i] + added * added);
        }
    }
    mde_release(o->context, w);
}

static void judge_size(optimization *o, int at)
{
    mde_context *c = o->context;
    scaling *s = &o->scaling;
    size_result *r = &s->size[at];
    int origin = nearest_size(s, r->at.params, at), n = s->runs->count, i, q, count, judged = 0, covered = 0;
    int *rows = (int *)mde_alloc(c, (size_t)n, sizeof *rows);
    mde_regressor **law = (mde_regressor **)mde_alloc(c, (size_t)o->m, sizeof *law);
    double *mean = program_doubles(c, 2 * n, o->m), *sd = mean ? mean + n * o->m : NULL;
    double *ratio = program_doubles(c, n, o->m);
    if (origin >= 0 && !program_failed(c)) {
        fit_law(o, s->runs, r->at.params, s->interactions && s->sizes > 3, law);
        count = rows_at(n, s->of, r->at.params, (double)NAN, rows);
        if (!program_failed(c)) predict_left_out(o, law, &s->size[origin], count, rows, mean, sd);
        for (i = 0; i < count * o->m && !program_failed(c); i++) {
            double y = s->runs->losses[rows[i / o->m] * o->m + i % o->m];
            if (y != y || y == 0) continue;
            r->error += fabs(mean[i] / y - 1);
            r->bias += mean[i] / y - 1;
            covered += fabs(mean[i] - y) <= LEVEL_90 * sd[i];
            ratio[judged++] = sd[i] > 0 ? fabs(mean[i] - y) / sd[i] : 0;
        }
        if (judged > 0) {
            r->error /= judged;
            r->bias /= judged;
            r->coverage = (double)covered / judged;
            r->judged = 1;
            qsort(ratio, (size_t)judged, sizeof *ratio, program_compare_doubles);
            if (at == s->sizes - 1) {
                double factor = sorted_quantile(ratio, judged, 0.9) / LEVEL_90;
                s->factor = factor > 1 ? factor : 1;
            }
        }
        count = rows_at(n, s->of, r->at.params, r->at.tokens, rows);
        if (!program_failed(c)) predict_left_out(o, law, &s->size[origin], count, rows, mean, sd);
        r->spearman = rank_of_rows(o, count, rows, mean);
        r->single = -1;
        for (q = 0; q < s->sizes && !program_failed(c); q++) {
            double rank;
            if (q == at || !s->size[q].own) continue;
            for (i = 0; i < count; i++) {
                mde_surrogate_predict(s->size[q].own, 1, s->runs->weights + rows[i] * o->k, mean + i * o->m, NULL);
            }
            for (i = 0; i < count * o->m; i++) mean[i] *= o->scale[i % o->m];
            rank = rank_of_rows(o, count, rows, mean);
            if (rank > r->single) r->single = rank;
        }
    }
    free_law(o->m, law);
    mde_release(c, ratio);
    mde_release(c, mean);
    mde_release(c, law);
    mde_release(c, rows);
}

/* Each size by its own runs, and as the others predict it. The largest size, left out, says by what factor the sds of
   the way to the target were too small. */
static void judge_sizes(optimization *o, const mde_choose_desc *choose)
{
    scaling *s = &o->scaling;
    const optimize_settings *how = &o->settings;
    mde_surrogate_desc desc = mde_evaluation_choice(o->evaluation);
    int i;
    for (i = 0; i < s->sizes && s->sizes > 1 && !program_failed(o->context); i++) {
        if (program_step(o->context, how->progress, how->user, "sizes", i, 2 * s->sizes)) return;
        fit_size(o, &s->size[i], &desc, choose);
    }
    for (i = 0; i < s->sizes && s->sizes > 2 && !program_failed(o->context); i++) {
        if (program_step(o->context, how->progress, how->user, "sizes", s->sizes + i, 2 * s->sizes)) return;
        judge_size(o, i);
    }
}

/* What the recommended mixture has at the sizes tried. */
static void predict_sizes(optimization *o)
{
    scaling *s = &o->scaling;
    const double *w = o->best.weights;
    int i, j;
    double added;
    for (i = 0; i < s->sizes && s->law && !program_failed(o->context); i++) {
        size_result *r = &s->size[i];
        r->loss = o->fresh_loss;
        r->sd = 0;
        for (j = 0; j < o->m; j++) {
            r->loss += o->objective[j] * law_step(o, s->law, j, w, &s->target, &r->at, NULL) / o->scale[j];
            law_step(o, s->law, j, w, &s->origin, &r->at, &added);
            r->sd += o->objective[j] * s->factor * added / fabs(o->scale[j]);
        }
        r->sd = sqrt(r->sd * r->sd + o->shape_sd * o->shape_sd);
    }
}

static void free_scaling(optimization *o)
{
    scaling *s = &o->scaling;
    int i;
    for (i = 0; i < s->sizes; i++) mde_surrogate_free(s->size[i].own);
    free_law(o->m, s->law);
    mde_release(o->context, s->law);
    mde_release(o->context, s->of);
    mde_release(o->context, s->sign);
    mde_release(o->context, s->anchor_sd);
    mde_runs_free(s->runs);
}

/* ---- As JSON, as a page, as text ---- */

static void json_scales(mde_json_writer *w, const optimization *o)
{
    const scaling *s = &o->scaling;
    int i;
    if (!s->law) return;
    mde_json_open(w, "sizes", '{');
    mde_json_write_number(w, "target_params", s->target.params, 9);
    mde_json_write_number(w, "target_tokens", s->target.tokens, 9);
    mde_json_write_string(w, "form", s->interactions ? "joint" : "additive");
    mde_json_write_number(w, "sd_factor", s->factor, 9);
    mde_json_open(w, "tried", '[');
    for (i = 0; i < s->sizes; i++) {
        const size_result *r = &s->size[i];
        mde_json_open(w, NULL, '{');
        mde_json_write_number(w, "params", r->at.params, 9);
        mde_json_write_number(w, "tokens", r->at.tokens, 9);
        mde_json_write_int(w, "rows", r->rows);
        mde_json_write_number(w, "predicted", r->loss, 9);
        json_interval(w, "interval_90", r->loss - LEVEL_90 * r->sd, r->loss + LEVEL_90 * r->sd);
        if (r->searched) json_mixture(w, "best_by_its_runs", o, r->weights);
        if (r->judged) {
            mde_json_open(w, "left_out", '{');
            mde_json_write_number(w, "relative_error", r->error, 9);
            mde_json_write_number(w, "bias", r->bias, 9);
            mde_json_write_number(w, "spearman", r->spearman, 9);
            mde_json_write_number(w, "spearman_of_one_size", r->single, 9);
            mde_json_write_number(w, "coverage_90", r->coverage, 9);
            mde_json_close(w);
        }
        mde_json_close(w);
    }
    mde_json_close(w);
    mde_json_close(w);
}

static void page_scales(mde_text *t, const optimization *o)
{
    const scaling *s = &o->scaling;
    double x[LARGEST_SIZES + 1], *y = s->law ? program_doubles(o->context, o->k, LARGEST_SIZES + 1) : NULL;
    plot_series *series = y ? (plot_series *)mde_alloc(o->context, (size_t)o->k, sizeof *series) : NULL;
    plot_desc plot;
    char params[32], tokens[32];
    int i, q, points = 0, shown = 0;
    if (!series) {
        mde_release(o->context, y);
        return;
    }
    mde_text_format(t, "<h2>Across sizes</h2>\n<p>All of this is predicted for <b>%s</b> parameters",
                    scale_text(s->target.params, params));
    if (s->target.tokens > 0) mde_text_format(t, " and <b>%s</b> tokens", scale_text(s->target.tokens, tokens));
    mde_text_format(t, ". A law of parameters and tokens, in its %s form, moves losses there; the mixture is chosen by "
                       "runs of the nearest size with enough of them.</p>\n<div class=\"wide\"><table><tr>"
                       "<th>parameters</th><th>tokens</th><th>rows</th><th>the mixture's objective</th>"
                       "<th>90 %% interval</th><th>left out: "
                       "error, %%</th><th>bias, %%</th><th>Spearman, %%</th><th>by one size alone, %%</th><th>90 %% "
                       "intervals hold, %%</th></tr>\n", s->interactions ? "joint" : "additive");
    for (i = 0; i < s->sizes; i++) {
        const size_result *r = &s->size[i];
        double none = r->judged ? 100 : (double)NAN;
        mde_text_format(t, "<tr><td>%s</td><td>%s</td><td>%d</td>", scale_text(r->at.params, params),
                        r->at.tokens > 0 ? scale_text(r->at.tokens, tokens) : "", r->rows);
        program_page_number(t, r->loss, 4, 0);
        program_page_range(t, r->loss - LEVEL_90 * r->sd, r->loss + LEVEL_90 * r->sd, 4);
        program_page_number(t, none * r->error, 2, 0);
        program_page_number(t, none * r->bias, 2, 0);
        program_page_number(t, none * r->spearman, 2, 0);
        program_page_number(t, none * r->single, 2, 0);
        program_page_number(t, none * r->coverage, 1, 0);
        mde_text_add(t, "</tr>\n");
        if (r->searched && r->at.params > 0) {
            x[points] = r->at.params;
            for (q = 0; q < o->k; q++) y[q * (LARGEST_SIZES + 1) + points] = r->weights[q];
            points++;
        }
    }
    mde_text_add(t, "</table></div>\n<p class=\"note\">Left out: fitted without any run of that size.</p>\n");
    if (points > 1) {
        x[points] = s->target.params;
        for (q = 0; q < o->k; q++) y[q * (LARGEST_SIZES + 1) + points] = o->best.weights[q];
        memset(&plot, 0, sizeof plot);
        for (q = 0; q < o->k; q++) {
            series[shown].name = o->domains[q];
            series[shown].x = x;
            series[shown].y = y + q * (LARGEST_SIZES + 1);
            series[shown++].count = points + 1;
        }
        plot.title = "The best mixture by the runs of each size, and at the target";
        plot.x_label = "parameters";
        plot.y_label = "weight";
        plot.log_x = 1;
        plot.count = shown;
        plot.series = series;
        mde_text_add(t, "<div class=\"wide\">");
        plot_xy(t, &plot);
        mde_text_add(t, "</div>\n");
    }
    mde_release(o->context, series);
    mde_release(o->context, y);
}

static void add_scales(mde_text *t, const optimization *o)
{
    const scaling *s = &o->scaling;
    char params[32], tokens[32];
    int i;
    if (!s->law) return;
    mde_text_format(t, "\ntarget: %s parameters", scale_text(s->target.params, params));
    if (s->target.tokens > 0) mde_text_format(t, ", %s tokens", scale_text(s->target.tokens, tokens));
    mde_text_format(t, "; %s law\n%29s  the mixture there     left out: error and bias, Spearman, one size's, 90 %% "
                       "hold\n", s->interactions ? "joint" : "additive", "");
    for (i = 0; i < s->sizes; i++) {
        const size_result *r = &s->size[i];
        mde_text_format(t, "%10s %10s %5d  ", scale_text(r->at.params, params),
                        r->at.tokens > 0 ? scale_text(r->at.tokens, tokens) : "", r->rows);
        mde_text_format(t, " %7.4f %7.4f %7.4f", r->loss, r->loss - LEVEL_90 * r->sd, r->loss + LEVEL_90 * r->sd);
        if (r->judged) {
            mde_text_format(t, " %8.2f %% %6.2f %%   %6.2f %6.2f %8.1f %%", 100 * r->error, 100 * r->bias,
                            100 * r->spearman, 100 * r->single, 100 * r->coverage);
        }
        mde_text_add(t, "\n");
    }
    mde_text_format(t, "%29s %7.4f %7.4f %7.4f\n", "target", o->best.loss, o->best.loss - LEVEL_90 * o->best.sd,
                    o->best.loss + LEVEL_90 * o->best.sd);
}

#endif /* MIX_SCALE_H */
