/* mix_tables.h - what the columns of people's tables are: names of runs, weights, losses, accuracies, bookkeeping; and
   the names of one table as another one has them. For mix_optimize.c. */
#ifndef MIX_TABLES_H
#define MIX_TABLES_H

typedef struct table_options {
    const char *weights, *losses;       /* columns to take, commas between, "x*" for all that begin with x; or NULL */
    const char *maximize, *minimize;    /* of the losses, against what their names say; or NULL */
    const char *objective;              /* what it names is taken, too; or NULL */
    int skip_unmatched;
    int sizes_by_name;                  /* 1: a size that no column has may stand in the run's name, or the file's */
    double tokens_per_step;             /* 0: steps are counted, where there are no tokens */
} table_options;

/* ---- Names ---- */

/* RegMix's columns are called train_the_pile_X and metric/the_pile_X_val_loss: X is what they are about. */
static char *short_name(mde_context *c, const char *name)
{
    static const char *const heads[] = { "metric/", "train_", "the_pile_" }, *const tails[] = { "_val_loss", "_loss" };
    size_t i, length = strlen(name);
    char *copy = program_copy(c, name);
    for (i = 0; copy && i < 3; i++) {
        size_t head = strlen(heads[i]);
        if (length > head && strncmp(copy, heads[i], head) == 0) {
            memmove(copy, copy + head, length - head + 1);
            length -= head;
        }
    }
    for (i = 0; copy && i < 2; i++) {
        size_t tail = strlen(tails[i]);
        if (length > tail && strcmp(copy + length - tail, tails[i]) == 0) {
            length -= tail;
            copy[length] = 0;
        }
    }
    return copy;
}

/* Short names [count] of names, whole where two would be the same; owned by the caller. */
static void short_names(mde_context *c, int count, const char *const *names, const char **out)
{
    char *twice = (char *)mde_alloc(c, (size_t)count + 1, 1);
    int i, j;
    for (i = 0; i < count && !program_failed(c); i++) out[i] = short_name(c, names[i]);
    for (i = 0; i < count && !program_failed(c); i++) {
        for (j = 0; j < i; j++) if (strcmp(out[i], out[j]) == 0) twice[i] = twice[j] = 1;
    }
    for (i = 0; i < count && !program_failed(c); i++) {
        if (!twice[i]) continue;
        mde_release(c, (void *)out[i]);
        out[i] = program_copy(c, names[i]);
    }
    mde_release(c, twice);
}

/* Index of a name, long or short; -1 when there is none. */
static int find_name(int count, const char *const *names, const char *const *shorter, const char *name, size_t length)
{
    int i;
    for (i = 0; i < count; i++) if (strlen(names[i]) == length && strncmp(names[i], name, length) == 0) return i;
    for (i = 0; i < count; i++) if (strlen(shorter[i]) == length && strncmp(shorter[i], name, length) == 0) return i;
    return -1;
}

/* As find_name, and then by the short form of the name itself. */
static int find_any_name(mde_context *c, int count, const char *const *names, const char *const *shorter,
                         const char *name)
{
    int found = find_name(count, names, shorter, name, strlen(name));
    char *shortened = found < 0 ? short_name(c, name) : NULL;
    if (shortened) found = find_name(count, names, shorter, shortened, strlen(shortened));
    mde_release(c, shortened);
    return found;
}

/* What is not ASCII is a letter. */
static int is_alphanumeric(char byte)
{
    return byte < 0 || (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

/* The next word of a name, in small letters: letters and digits, up to anything else or a capital after a small one. */
static int next_word(const char **at, char word[32])
{
    int length = 0, capital = 1;
    while (**at && !is_alphanumeric(**at)) ++*at;
    for (; is_alphanumeric(**at); ++*at) {
        char byte = **at;
        int is_capital = byte >= 'A' && byte <= 'Z';
        if (is_capital && !capital) break;
        capital = is_capital;
        if (length < 31) word[length++] = (char)(is_capital ? byte - 'A' + 'a' : byte);
    }
    word[length] = 0;
    return length > 0;
}

/* 1 when a word of the name is one of the list, whose words have blanks around them. */
static int has_word_of(const char *name, const char *list)
{
    char word[32], spaced[36];
    while (next_word(&name, word)) {
        snprintf(spaced, sizeof spaced, " %s ", word);
        if (strstr(list, spaced)) return 1;
    }
    return 0;
}

/* The whole name, its words joined by _, is one of the list. */
static int is_one_of(const char *name, const char *list)
{
    char joined[80] = " ", word[32];
    size_t length = 1;
    while (next_word(&name, word) && length + strlen(word) + 2 < sizeof joined) {
        length += (size_t)snprintf(joined + length, sizeof joined - length, "%s%s", length > 1 ? "_" : "", word);
    }
    joined[length] = ' ';
    joined[length + 1] = 0;
    return length > 1 && strstr(list, joined) != NULL;
}

static const char *const run_keys[] = { " run ", " run_id ", " runid ", " id ", " run_name ", " mixture ", " name ",
                                        " index ", " idx " };
#define RUN_KEYS ((int)(sizeof run_keys / sizeof *run_keys))
static const char *const token_names =
    " tokens n_tokens num_tokens tokens_seen train_tokens training_tokens total_tokens token_count ntokens ";
static const char *const step_names = " step steps global_step train_step train_steps iter iters iteration iterations ";
static const char *const parameter_names =
    " params n_params num_params parameters n_parameters num_parameters param_count parameter_count model_params "
    "model_size model_sizes size nparams non_embedding_params ";
static const char *const bookkeeping_names =
    " run run_id runid id uid uuid run_name name index idx row no nr step steps global_step iter iters iteration "
    "iterations updates seed flops flop epoch epochs time timestamp date datetime created created_at runtime duration "
    "wall_time walltime seconds hours elapsed lr learning_rate batch batch_size group tag tags note notes comment "
    "state status host hostname gpu gpus user sweep commit hash version train_loss training_loss train_nll "
    "training_nll ";

static int is_unnamed(const char *name)
{
    return *name == 0 || strncmp(name, "Unnamed: ", 9) == 0;
}

/* Whether a column is called like sizes, or like tokens; a last word may be its unit, as of params_M, and N and D alone
   are what papers call them. */
static int is_scale(const char *name, const char *list, double *unit)
{
    static const struct { const char *words; double factor; } units[] = {
        { " k thousand thousands ", 1e3 }, { " m million millions ", 1e6 }, { " b g billion billions ", 1e9 },
        { " t trillion trillions ", 1e12 }
    };
    char joined[80] = "", word[32], spaced[36], last[36] = "";
    size_t length = 0, before = 0, i;
    const char *at = name;
    if (unit) *unit = 1;
    if (is_one_of(name, list)) return 1;
    if (strcmp(name, list == parameter_names ? "N" : "D") == 0) return 1;
    while (next_word(&at, word) && length + strlen(word) + 2 < sizeof joined) {
        before = length;
        length += (size_t)snprintf(joined + length, sizeof joined - length, "%s%s", length > 0 ? "_" : "", word);
        snprintf(last, sizeof last, " %s ", word);
    }
    snprintf(spaced, sizeof spaced, " %.*s ", (int)(before < 32 ? before : 32), joined);
    for (i = 0; i < sizeof units / sizeof *units && before > 0; i++) {
        if (!strstr(units[i].words, last) || !strstr(list, spaced)) continue;
        if (unit) *unit = units[i].factor;
        return 1;
    }
    return 0;
}

/* A number of parameters or tokens, such as 70M or 2.1B; *plain (may be NULL) is 1 without a letter. */
static int scale_number(const char *text, size_t length, double *value, int *plain)
{
    static const char letters[] = "kmbgt";
    static const double factors[] = { 1e3, 1e6, 1e9, 1e9, 1e12 };
    char last = length > 0 ? text[length - 1] : ' ';
    const char *letter = strchr(letters, last >= 'A' && last <= 'Z' ? last - 'A' + 'a' : last);
    int has = last != 0 && letter != NULL;
    if (plain) *plain = !has;
    if (!program_number(text, length - (size_t)has, value) || !(*value > 0 && *value < 1e30)) return 0;
    if (has) *value *= factors[letter - letters];
    return 1;
}

/* The size that a name says, as 70M_RP_0 does; NaN without one, or with two. */
static double size_in_name(const char *name)
{
    double found = (double)NAN, value;
    while (*name) {
        size_t length = strcspn(name, "_-/: ()");
        char last = length > 1 ? name[length - 1] : ' ';
        if (length > 5 && strncmp(name + length - 4, ".csv", 4) == 0) last = name[(length -= 4) - 1];
        if (strchr("MBmb", last) && *name >= '0' && *name <= '9' && scale_number(name, length, &value, NULL)) {
            if (found == found && found != value) return (double)NAN;
            found = value;
        }
        name += strcspn(name, "_-/: ()");
        name += *name != 0;
    }
    return found;
}

static int is_bookkeeping(const char *name)
{
    return is_one_of(name, bookkeeping_names) || is_scale(name, parameter_names, NULL) ||
           is_scale(name, token_names, NULL);
}

/* More of it is better. What a name calls a loss is one. */
static int is_accuracy(const char *name)
{
    return has_word_of(name, " acc accuracy score em f1 auc auroc bleu rouge mcc ") &&
           !has_word_of(name, " loss nll ppl perplexity bpb error err ");
}

/* 1 when the comma-separated list (may be NULL) has the name, its short form, or "x*" for its beginning; with ends, an
   item ends at = as well. */
static int list_has(mde_context *c, const char *list, const char *name, char ends)
{
    char *shortened = list ? short_name(c, name) : NULL;
    int found = 0;
    while (shortened && *list && !found) {
        size_t item = strcspn(list, ","), length = item, i;
        if (ends) for (i = 0; i < item; i++) if (list[i] == ends) length = i < length ? i : length;
        while (length > 0 && list[length - 1] == ' ') length--;
        if (length > 0 && list[length - 1] == '*') found = strncmp(name, list, length - 1) == 0;
        else found = find_name(1, &name, (const char *const *)&shortened, list, length) == 0;
        list += item + (list[item] == ',');
        while (*list == ' ') list++;
    }
    mde_release(c, shortened);
    return found;
}

/* Each item of a list must stand for one of the names; option is what gave the list. */
static void check_list(mde_context *c, const char *option, const char *list, const char *path, int count,
                       const char *const *names)
{
    while (list && *list && !program_failed(c)) {
        size_t item = strcspn(list, ",");
        char *one = (char *)mde_alloc(c, item + 1, 1);
        int i, found = 0;
        if (one) memcpy(one, list, item);
        for (i = 0; one && i < count && !found; i++) found = list_has(c, one, names[i], 0);
        if (one && !found) mde_fail(c, MDE_BAD_ARGUMENT, "%s: %s has no column %s", option, path, one);
        mde_release(c, one);
        list += item + (list[item] == ',');
        while (*list == ' ') list++;
    }
}

/* ---- What a column holds ---- */

/* Numbers, wrong ones among them, those without a fraction, and other text. */
typedef struct column_facts { int numbers, whole, texts; } column_facts;

static column_facts column_holds(const mde_csv *csv, int column)
{
    column_facts f = { 0, 0, 0 };
    int row;
    for (row = 0; row < csv->rows && !program_failed(csv->context); row++) {
        double value = mde_csv_number(csv, row, column);
        if (program_failed(csv->context)) {
            int number = strchr("+-.0123456789", csv->cells[row * csv->columns + column][0]) != NULL;
            f.numbers += number;
            f.texts += !number;
            mde_clear_error(csv->context);
        } else if (value == value) {
            f.numbers++;
            f.whole += value == floor(value);
        }
    }
    return f;
}

static int is_text(const mde_csv *csv, int column)
{
    column_facts f = column_holds(csv, column);
    return f.texts > 0 && f.numbers == 0;
}

static int is_whole(const mde_csv *csv, int column)
{
    column_facts f = column_holds(csv, column);
    return f.texts == 0 && f.numbers > 0 && f.whole == f.numbers;
}

/* Whether nine rows in ten sum to 1 or to 100, so that one wrong row is found and named. */
static int columns_sum(const mde_csv *csv, int count, const int *columns)
{
    int row, i, shares = 0, percents = 0;
    if (count < 2 || program_failed(csv->context)) return 0;
    for (row = 0; row < csv->rows; row++) {
        double sum = 0;
        for (i = 0; i < count; i++) {
            double value = mde_csv_number(csv, row, columns[i]);
            sum += value >= 0 ? value : (double)NAN;
        }
        mde_clear_error(csv->context);
        shares += fabs(sum - 1) <= 0.01;
        percents += fabs(sum - 100) <= 1;
        if (10 * (row + 1 - (shares > percents ? shares : percents)) > csv->rows) return 0;
    }
    return csv->rows > 0;
}

/* ---- Which columns ---- */

/* A table and what its columns are, columns [columns] each. */
typedef struct run_table {
    mde_csv *csv;
    int run, weight_count, loss_count;
    int *weights, *losses;
    int prefix;                         /* bytes that only say that a column is a weight */
} run_table;

static void table_free(mde_context *c, run_table *t)
{
    mde_csv_free(t->csv);
    mde_release(c, t->weights);
    memset(t, 0, sizeof *t);
}

static int table_read(mde_context *c, const char *path, run_table *t)
{
    memset(t, 0, sizeof *t);
    t->run = -1;
    t->csv = mde_csv_read(c, path);
    t->weights = t->csv ? (int *)mde_alloc(c, (size_t)t->csv->columns, 2 * sizeof(int)) : NULL;
    if (t->weights) t->losses = t->weights + t->csv->columns;
    return t->weights != NULL;
}

static int find_run_column(const mde_csv *csv, int key)
{
    int i;
    for (i = 0; i < csv->columns; i++) if (is_one_of(csv->names[i], run_keys[key])) return i;
    return -1;
}

/* The column of the runs' names that both tables know, else each its own, else the first. One table alone (b NULL) may
   have none. */
static void find_runs(run_table *a, run_table *b)
{
    int key;
    for (key = 0; b && key < RUN_KEYS; key++) {
        a->run = find_run_column(a->csv, key);
        b->run = find_run_column(b->csv, key);
        if (a->run >= 0 && b->run >= 0) return;
    }
    for (key = 0, a->run = -1; key < RUN_KEYS && a->run < 0; key++) a->run = find_run_column(a->csv, key);
    if (!b) {
        if (a->run < 0 && (is_unnamed(a->csv->names[0]) || is_text(a->csv, 0))) a->run = 0;
        return;
    }
    for (key = 0, b->run = -1; key < RUN_KEYS && b->run < 0; key++) b->run = find_run_column(b->csv, key);
    if (a->run < 0) a->run = 0;
    if (b->run < 0) b->run = 0;
}

static void note_unused(mde_text *notes, const mde_csv *csv, int column, const char *why)
{
    const char *name = csv->names[column];
    mde_text_format(notes, "%s: column %s is not used: %s\n", csv->path, *name ? name : "1", why);
}

static int has_column(int count, const int *columns, int column)
{
    int i;
    for (i = 0; i < count && columns[i] != column; i++) {
    }
    return i < count;
}

/* The columns that a list names and that are no weights, in the order of the file. */
static int listed_columns(mde_context *c, const run_table *t, const char *option, const char *list, int *columns)
{
    int i, count = 0;
    check_list(c, option, list, t->csv->path, t->csv->columns, t->csv->names);
    for (i = 0; i < t->csv->columns && !program_failed(c); i++) {
        if (!has_column(t->weight_count, t->weights, i) && list_has(c, list, t->csv->names[i], 0)) columns[count++] = i;
    }
    return count;
}

/* Columns of a table of mixtures: all but bookkeeping, unless the sums say otherwise. strictness 0: by names; 1: with
   those that are only called so; 2: without whole numbers. */
static int mixture_columns(const run_table *t, int strictness, int *columns)
{
    int i, count = 0;
    for (i = 0; i < t->csv->columns; i++) {
        if (i == t->run || is_unnamed(t->csv->names[i]) || is_text(t->csv, i)) continue;
        if (strictness != 1 && is_bookkeeping(t->csv->names[i])) continue;
        if (strictness == 2 && is_whole(t->csv, i)) continue;
        columns[count++] = i;
    }
    return count;
}

static void find_weights(mde_context *c, run_table *t, const table_options *options, mde_text *notes)
{
    int strictness, i;
    if (options->weights) {
        t->weight_count = listed_columns(c, t, "weights-columns", options->weights, t->weights);
        return;
    }
    for (strictness = 0; strictness < 3; strictness++) {
        t->weight_count = mixture_columns(t, strictness, t->weights);
        if (columns_sum(t->csv, t->weight_count, t->weights)) break;
    }
    if (strictness == 3) t->weight_count = mixture_columns(t, 0, t->weights);
    for (i = 0; i < t->csv->columns; i++) {
        if (i == t->run || has_column(t->weight_count, t->weights, i)) continue;
        note_unused(notes, t->csv, i, "it holds no weights");
    }
}

/* In one wide table: columns whose names begin alike, else those that stand together, which sum to 1 or 100. */
static void find_weights_among_others(mde_context *c, run_table *t, const table_options *options)
{
    static const char *const heads[] = { "weight", "weights", "w", "ratio", "ratios", "mix", "mixture", "share",
                                         "train" };
    int *all = (int *)mde_alloc(c, (size_t)t->csv->columns, 2 * sizeof(int)), *group;
    int count = all ? mixture_columns(t, 0, all) : 0, i, j, first, known = (int)(sizeof heads / sizeof *heads);
    size_t head;
    if (!all || options->weights) {
        if (all) t->weight_count = listed_columns(c, t, "weights-columns", options->weights, t->weights);
        mde_release(c, all);
        return;
    }
    group = all + t->csv->columns;
    for (i = 0; i < count; i++) {
        const char *name = t->csv->names[all[i]];
        for (head = strcspn(name, "_/.: "); name[head]; head += 1 + strcspn(name + head + 1, "_/.: ")) {
            int size = 0;
            for (j = 0; j < count; j++) {
                if (strncmp(t->csv->names[all[j]], name, head + 1) == 0) group[size++] = all[j];
            }
            if (size <= t->weight_count || !columns_sum(t->csv, size, group)) continue;
            memcpy(t->weights, group, (size_t)size * sizeof(int));
            t->weight_count = size;
        }
    }
    for (first = 0; first < count; first++) {
        for (i = count - first; i > t->weight_count && i >= 2; i--) {
            if (!columns_sum(t->csv, i, all + first)) continue;
            memcpy(t->weights, all + first, (size_t)i * sizeof(int));
            t->weight_count = i;
        }
    }
    for (i = 0; i < known && t->weight_count == 0; i++) {       /* they sum to something else: so that a row is named */
        head = strlen(heads[i]);
        for (j = 0; j < count; j++) {
            const char *name = t->csv->names[all[j]];
            if (strncmp(name, heads[i], head) == 0 && strcspn(name + head, "_/.: ") == 0 && name[head]) {
                t->weights[t->weight_count++] = all[j];
            }
        }
    }
    for (i = 0; i < known && t->prefix == 0 && t->weight_count > 0; i++) {
        const char *name = t->csv->names[t->weights[0]];
        head = strlen(heads[i]);
        if (strncmp(name, heads[i], head) || strcspn(name + head, "_/.: ") > 0) continue;
        t->prefix = (int)head + 1;
        for (j = 1; j < t->weight_count; j++) {
            if (strncmp(name, t->csv->names[t->weights[j]], head + 1)) t->prefix = 0;
        }
    }
    if (t->weight_count == 0 && !program_failed(c)) {
        mde_fail(c, MDE_BAD_FILE, "%s: no columns were found that sum to 1 (or 100) in all rows; --weights-columns "
                 "names the weights", t->csv->path);
    }
    mde_release(c, all);
}

/* How a metric counts: 1 as a loss, -1 as an accuracy. */
static int metric_sign(mde_context *c, const table_options *options, const char *name)
{
    if (list_has(c, options->maximize, name, 0)) return -1;
    return is_accuracy(name) && !list_has(c, options->minimize, name, 0) ? -1 : 1;
}

static const char *why_no_loss(const run_table *t, int column, int whole)
{
    const char *name = t->csv->names[column];
    if (is_unnamed(name)) return "it has no name";
    if (is_bookkeeping(name)) return "it is called like bookkeeping (--losses-columns takes it)";
    if (has_word_of(name, " stderr ")) return "it is called like a standard error (--losses-columns takes it)";
    if (is_text(t->csv, column)) return "it holds text";
    if (!whole && is_whole(t->csv, column)) return "it holds whole numbers alone (--losses-columns takes it)";
    return NULL;
}

/* Columns that may be losses; accuracies only when named, or when there is nothing else. whole: 1 takes whole
   numbers. */
static void find_losses(mde_context *c, run_table *t, const table_options *options, int whole, mde_text *notes)
{
    int i, j, accuracies = 0;
    if (options->losses) {
        t->loss_count = listed_columns(c, t, "losses-columns", options->losses, t->losses);
        return;
    }
    for (i = 0; i < t->csv->columns && !program_failed(c); i++) {
        const char *name = t->csv->names[i], *why;
        int named = list_has(c, options->objective, name, '=') || list_has(c, options->maximize, name, 0) ||
                    list_has(c, options->minimize, name, 0);
        if (i == t->run || has_column(t->weight_count, t->weights, i)) continue;
        if (!named && (is_scale(name, parameter_names, NULL) || is_scale(name, token_names, NULL) ||
                       (options->tokens_per_step > 0 && is_one_of(name, step_names)))) {
            mde_text_format(notes, "%s: column %s is not used as a loss: it says how large the run was\n", t->csv->path,
                            name);
            continue;
        }
        why = named ? NULL : why_no_loss(t, i, whole);
        if (why) {
            note_unused(notes, t->csv, i, why);
        } else {
            accuracies += !named && is_accuracy(name);
            t->losses[t->loss_count++] = i;
        }
    }
    if (accuracies == t->loss_count) return;
    for (i = j = 0; i < t->loss_count; i++) {
        const char *name = t->csv->names[t->losses[i]];
        if (!is_accuracy(name) || list_has(c, options->objective, name, '=') ||
            list_has(c, options->maximize, name, 0) || list_has(c, options->minimize, name, 0)) {
            t->losses[j++] = t->losses[i];
        } else {
            note_unused(notes, t->csv, t->losses[i],
                        "it is called like an accuracy (--maximize takes it, as does --objective)");
        }
    }
    t->loss_count = j;
}

/* ---- Sizes and tokens ---- */

#define SMALLEST_SCALE 1000             /* fewer parameters or tokens mean another unit, or something else */

/* Parameters and tokens of a row; NaN where unknown. */
typedef struct run_scale { double params, tokens; int steps; } run_scale;   /* steps 1: that is what tokens counts */

/* A column of sizes or tokens whose cells all say one; -1: none. What is called so and says something else is noted. */
static int scale_column(const mde_csv *csv, const char *list, double *unit, mde_text *notes)
{
    int i, row, plain;
    for (i = 0; i < csv->columns; i++) {
        int good = 1, some = 0;
        double value;
        if (!is_scale(csv->names[i], list, unit)) continue;
        for (row = 0; row < csv->rows && good; row++) {
            const char *cell = csv->cells[row * csv->columns + i];
            if (*cell == 0) continue;
            good = scale_number(cell, strlen(cell), &value, &plain) &&
                       !(plain && value * *unit < SMALLEST_SCALE);
            some = 1;
            if (good || !notes) continue;
            mde_text_format(notes, "%s line %d, column %s: \"%.40s\" is no number of %s, so the column is not used; "
                            "70000000 or 70M are\n", csv->path, csv->lines[row], csv->names[i], cell,
                            list == parameter_names ? "parameters" : "tokens");
        }
        if (good && some) return i;
    }
    return -1;
}

static double scale_cell(const mde_csv *csv, int row, int column, double unit)
{
    const char *cell = column >= 0 ? csv->cells[row * csv->columns + column] : "";
    double value;
    int plain;
    if (!scale_number(cell, strlen(cell), &value, &plain)) return (double)NAN;
    return plain ? value * unit : value;
}

/* What a table says of its rows, out [rows]; NaN where it says nothing. notes may be NULL. */
static void read_scales(const mde_csv *csv, int run, const table_options *options, mde_text *notes, run_scale *out)
{
    const char *file = strrchr(csv->path, '/') ? strrchr(csv->path, '/') + 1 : csv->path;
    double size_unit = 1, token_unit = 1;
    int sizes = scale_column(csv, parameter_names, &size_unit, notes), steps = -1, row, i;
    int tokens = scale_column(csv, token_names, &token_unit, notes);
    for (i = 0; i < csv->columns && steps < 0; i++) if (is_one_of(csv->names[i], step_names)) steps = i;
    if (tokens < 0 && (tokens = steps) >= 0 && options->tokens_per_step > 0) token_unit = options->tokens_per_step;
    for (row = 0; row < csv->rows; row++) {
        const char *name = run >= 0 ? csv->cells[row * csv->columns + run] : "";
        out[row].params = scale_cell(csv, row, sizes, size_unit);
        out[row].tokens = scale_cell(csv, row, tokens, token_unit);
        out[row].steps = tokens >= 0 && tokens == steps && !(options->tokens_per_step > 0);
        if (sizes < 0 && options->sizes_by_name) {
            out[row].params = size_in_name(name);
            if (out[row].params != out[row].params) out[row].params = size_in_name(file);
        }
    }
}

static int same_scale(double a, double b)
{
    return a == b || (a != a && b != b) || fabs(a - b) <= 0.005 * fabs(a);
}

typedef struct checkpoint { const char *run; run_scale scale; int row; } checkpoint;

/* An order needs numbers: what is not known comes first. */
static double known(double value)
{
    return value == value ? value : -1;
}

static int compare_checkpoints(const void *a, const void *b)
{
    const checkpoint *x = (const checkpoint *)a, *y = (const checkpoint *)b;
    int order = strcmp(x->run, y->run);
    if (order) return order;
    if (!same_scale(x->scale.params, y->scale.params)) return x->scale.params < y->scale.params ? -1 : 1;
    if (known(x->scale.tokens) < known(y->scale.tokens)) return -1;
    if (known(x->scale.tokens) > known(y->scale.tokens)) return 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* Rows of a table in order of run, size and tokens, owned by the caller. *repeated: whether a run stands twice, which
   it may at another size or after other tokens. */
static checkpoint *list_checkpoints(mde_context *c, const mde_csv *csv, int run, const run_scale *scales, int *repeated)
{
    checkpoint *list = (checkpoint *)mde_alloc(c, (size_t)csv->rows + 1, sizeof *list);
    int row;
    *repeated = 0;
    for (row = 0; list && row < csv->rows; row++) {
        list[row].run = run >= 0 ? csv->cells[row * csv->columns + run] : "";
        list[row].scale = scales[row];
        list[row].row = row;
    }
    if (list) qsort(list, (size_t)csv->rows, sizeof *list, compare_checkpoints);
    for (row = 1; list && row < csv->rows && run >= 0; row++) {
        const checkpoint *before = &list[row - 1];
        if (strcmp(list[row].run, before->run)) continue;
        *repeated = 1;
        if (same_scale(list[row].scale.params, before->scale.params) &&
            !(list[row].scale.tokens > before->scale.tokens)) {
            mde_fail(c, MDE_BAD_FILE, "%s line %d: run %.100s stands already in line %d%s", csv->path,
                     csv->lines[list[row].row], before->run, csv->lines[before->row],
                     list[row].scale.tokens == list[row].scale.tokens ? " with as many tokens" :
                     "; a column of tokens or steps tells the checkpoints of a run apart");
            break;
        }
    }
    return list;
}

/* What the runs of a table cost: one with checkpoints, up to its last. */
static void note_costs(mde_text *notes, const mde_csv *csv, int run, const checkpoint *list)
{
    double all = 0, flops = 0;
    int row, runs = 0;
    for (row = 0; row < csv->rows; row++) {
        const run_scale *s = &list[row].scale;
        if (run >= 0 && row + 1 < csv->rows && strcmp(list[row].run, list[row + 1].run) == 0 &&
            same_scale(s->params, list[row + 1].scale.params))
            continue;
        runs++;
        if (s->steps) return;
        if (s->tokens > 0) all += s->tokens;
        if (s->tokens > 0 && s->params > 0) flops += 6 * s->tokens * s->params;
    }
    if (!(all > 0)) return;
    mde_text_format(notes, "%s: the %d runs cost %.4g tokens", csv->path, runs, all);
    if (flops > 0) mde_text_format(notes, " and %.3g FLOPs (6 a token and parameter)", flops);
    mde_text_add(notes, "\n");
}

/* ---- Runs ---- */

static mde_runs *join_tables(mde_context *c, const run_table *a, const run_table *b, const table_options *options,
                             mde_text *notes)
{
    mde_run_columns weights, losses;
    mde_runs *runs;
    int skipped[2] = { 0, 0 }, i;
    weights.csv = a->csv;
    weights.run = a->run;
    weights.count = a->weight_count;
    weights.columns = a->weights;
    losses.csv = b->csv;
    losses.run = b->run;
    losses.count = b->loss_count;
    losses.columns = b->losses;
    if (program_failed(c)) return NULL;
    if (losses.count == 0 && losses.csv->columns > 1) {
        mde_fail(c, MDE_BAD_FILE, "%s: no column is a loss; --losses-columns names them", losses.csv->path);
    }
    runs = mde_runs_join(c, &weights, &losses, options->skip_unmatched ? skipped : NULL);
    if (skipped[0] + skipped[1] > 0) {
        mde_text_format(notes, "skipped: %d runs of %s and %d of %s, which are not in the other file\n", skipped[0],
                        weights.csv->path, skipped[1], losses.csv->path);
    }
    if (runs && runs->percent) mde_text_format(notes, "%s: the weights are percents\n", weights.csv->path);
    for (i = 0; runs && a->prefix > 0 && i < runs->domains; i++) {
        char *name = (char *)runs->domain_names[i];
        if (name[a->prefix]) memmove(name, name + a->prefix, strlen(name) - (size_t)a->prefix + 1);
    }
    return runs;
}

/* Adds to columns [*taken] of a table those that stand for names [count], whatever they look like. */
static void add_columns_like(mde_context *c, const run_table *t, int count, const char *const *names, int *columns,
                             int *taken)
{
    const char **shorter = (const char **)mde_alloc(c, (size_t)count + 1, sizeof *shorter);
    int i, at, found = *taken;
    if (!program_failed(c)) short_names(c, count, names, shorter);
    for (i = 0; i < t->csv->columns && !program_failed(c); i++) {
        if (i == t->run || has_column(t->weight_count, t->weights, i) || has_column(t->loss_count, t->losses, i) ||
            find_any_name(c, count, names, shorter, t->csv->names[i]) < 0)
            continue;
        for (at = found++; at > 0 && columns[at - 1] > i; at--) columns[at] = columns[at - 1];
        columns[at] = i;
    }
    *taken = found;
    for (i = 0; shorter && i < count; i++) mde_release(c, (void *)shorter[i]);
    mde_release(c, (void *)shorter);
}

/* Rows of a table as one of their own, whose cells are those of the table. */
static mde_csv *some_rows(mde_context *c, const mde_csv *csv, int count, const int *rows)
{
    mde_csv *view = (mde_csv *)mde_alloc(c, 1, sizeof *view);
    const char **cells = (const char **)mde_alloc(c, (size_t)count + 1, (size_t)csv->columns * sizeof *cells);
    int *lines = (int *)mde_alloc(c, (size_t)count + 1, sizeof *lines), i;
    for (i = 0; i < count && !program_failed(c); i++) {
        memcpy((void *)(cells + i * csv->columns), csv->cells + rows[i] * csv->columns,
               (size_t)csv->columns * sizeof *cells);
        lines[i] = csv->lines[rows[i]];
    }
    if (program_failed(c)) return NULL;         /* what was allocated goes with the context */
    *view = *csv;
    view->rows = count;
    view->cells = cells;
    view->lines = lines;
    return view;
}

static void free_rows(mde_context *c, mde_csv *view)
{
    if (!view) return;
    mde_release(c, (void *)view->cells);
    mde_release(c, (void *)view->lines);
    mde_release(c, view);
}

/* Tables with checkpoints, row by row: views[1] has the rows of b, views[0] those of a with the same run (of the same
   table: itself). A run whose weights are no mixture is left out, and noted. */
static void match_rows(mde_context *c, const run_table *a, const run_table *b, mde_text *notes, mde_csv **views)
{
    int *rows = (int *)mde_alloc(c, (size_t)b->csv->rows + 1, 2 * sizeof *rows);
    int *from = rows ? rows + b->csv->rows : NULL, row, i, at, count = 0;
    const char *noted = "";
    for (row = 0; rows && row < b->csv->rows && !program_failed(c); row++) {
        const char *run = b->csv->cells[row * b->csv->columns + b->run];
        double sum = 0;
        at = a == b ? row : 0;
        while (at < a->csv->rows && strcmp(a->csv->cells[at * a->csv->columns + a->run], run)) at++;
        if (at == a->csv->rows) {
            mde_fail(c, MDE_BAD_FILE, "%s line %d: run %.100s is not in %s", b->csv->path, b->csv->lines[row], run,
                     a->csv->path);
            break;
        }
        for (i = 0; i < a->weight_count; i++) sum += mde_csv_number(a->csv, at, a->weights[i]);
        if (fabs(sum - 1) <= 0.01 || fabs(sum - 100) <= 1 || sum != sum) {
            rows[count] = row;
            from[count++] = at;
        } else if (strcmp(run, noted)) {
            mde_text_format(notes, "%s line %d: run %.100s is left out, its weights sum to %.4g\n", a->csv->path,
                            a->csv->lines[at], run, sum);
            noted = run;
        }
    }
    if (rows && !program_failed(c)) views[0] = some_rows(c, a->csv, count, from);
    if (rows && !program_failed(c)) views[1] = some_rows(c, b->csv, count, rows);
    mde_release(c, rows);
}

/* Takes what a table says of joined runs, by their names, or in its order where runs stand several times. */
static void take_scales(const mde_runs *runs, const run_table *t, const run_scale *scales, int by_row, run_scale *out)
{
    int i, tries, row = 0;
    for (i = 0; i < runs->count; i++, row = (row + 1) % t->csv->rows) {
        for (tries = 0; !by_row && t->run >= 0 && tries < t->csv->rows; tries++, row = (row + 1) % t->csv->rows) {
            if (strcmp(t->csv->cells[row * t->csv->columns + t->run], runs->names[i]) == 0) break;
        }
        if (out[i].params != out[i].params) out[i].params = scales[row].params;
        if (out[i].tokens != out[i].tokens) out[i].tokens = scales[row].tokens, out[i].steps = scales[row].steps;
    }
}

/* Names each row of a run with checkpoints by what it is: RUN at SCALE. */
static void name_checkpoints(mde_runs *runs, const run_table *t, const run_scale *scales)
{
    mde_context *c = runs->context;
    int i;
    for (i = 0; i < runs->count && !program_failed(c); i++) {
        mde_text *text = mde_text_create(c);
        mde_text_format(text, "%s at", t->csv->cells[i * t->csv->columns + t->run]);
        if (scales[i].params == scales[i].params) mde_text_format(text, " %.4g", scales[i].params);
        if (scales[i].tokens == scales[i].tokens) mde_text_format(text, " %.4g", scales[i].tokens);
        mde_release(c, (void *)runs->names[i]);
        runs->names[i] = text ? program_copy(c, text->bytes) : NULL;
        mde_text_free(text);
    }
}

/* Runs of two files, or of one (losses NULL) that has both; what was not used is noted, a line each. like: runs whose
   columns are wanted, or NULL. *scales: sizes and tokens of the runs, owned by the caller. */
static mde_runs *read_runs(mde_context *c, const char *ratios, const char *losses, const table_options *options,
                           const mde_runs *like, mde_text *notes, run_scale **scales)
{
    run_table a, b, *of_losses = &a;
    mde_runs *runs = NULL;
    run_scale *own = NULL, *other = NULL;
    checkpoint *list = NULL, *of_weights = NULL;
    mde_csv *views[2] = { NULL, NULL }, *tables[2];
    int repeated = 0, i;
    *scales = NULL;
    memset(&b, 0, sizeof b);
    if (table_read(c, ratios, &a) && (!losses || table_read(c, losses, &b))) {
        of_losses = losses ? &b : &a;
        find_runs(&a, losses ? &b : NULL);
        if (losses) find_weights(c, &a, options, notes);
        else find_weights_among_others(c, &a, options);
        if (like && losses) add_columns_like(c, &a, like->domains, like->domain_names, a.weights, &a.weight_count);
        if (!program_failed(c)) find_losses(c, of_losses, options, like != NULL, notes);
        if (like) {
            add_columns_like(c, of_losses, like->metrics, like->metric_names, of_losses->losses,
                             &of_losses->loss_count);
        }
        own = (run_scale *)mde_alloc(c, (size_t)of_losses->csv->rows + 1, sizeof *own);
        if (own) read_scales(of_losses->csv, of_losses->run, options, notes, own);
        if (own) list = list_checkpoints(c, of_losses->csv, of_losses->run, own, &repeated);
        for (i = 0; list && i < of_losses->csv->rows && !repeated; i++) if (own[i].steps) own[i].tokens = (double)NAN;
        if (list) note_costs(notes, of_losses->csv, of_losses->run, list);
    }
    tables[0] = a.csv;
    tables[1] = b.csv;
    if (list && repeated) {
        match_rows(c, &a, of_losses, notes, views);
        if (!program_failed(c)) {
            a.csv = views[0];
            of_losses->csv = views[1];
            read_scales(of_losses->csv, of_losses->run, options, NULL, own);
        }
    }
    if (list && losses && !program_failed(c)) {         /* what the other file says of the runs */
        other = (run_scale *)mde_alloc(c, (size_t)a.csv->rows + 1, sizeof *other);
        if (other) read_scales(a.csv, a.run, options, notes, other);
        for (i = 0; other && i < a.csv->rows; i++) if (other[i].steps) other[i].tokens = (double)NAN;
        of_weights = other && !repeated ? list_checkpoints(c, a.csv, a.run, other, &i) : NULL;
        if (of_weights) note_costs(notes, a.csv, a.run, of_weights);
    }
    if (list && !program_failed(c)) {
        run_table weights = a, values = *of_losses;
        if (repeated) weights.run = values.run = -1;
        runs = join_tables(c, &weights, &values, options, notes);
    }
    *scales = runs ? (run_scale *)mde_alloc(c, (size_t)runs->count, sizeof **scales) : NULL;
    if (*scales) {
        for (i = 0; i < runs->count; i++) (*scales)[i].params = (*scales)[i].tokens = (double)NAN;
        take_scales(runs, of_losses, own, repeated, *scales);
        if (other) take_scales(runs, &a, other, repeated, *scales);
        if (repeated) name_checkpoints(runs, of_losses, *scales);
    }
    a.csv = tables[0];
    b.csv = tables[1];
    free_rows(c, views[0]);
    free_rows(c, views[1]);
    mde_release(c, of_weights);
    mde_release(c, list);
    mde_release(c, other);
    mde_release(c, own);
    table_free(c, &a);
    table_free(c, &b);
    return runs;
}

/* Mixtures alone, of the domains that like has, as runs whose losses nobody looks at. */
static mde_runs *read_mixture_table(mde_context *c, const char *path, const mde_runs *like)
{
    table_options plain;
    run_table t;
    mde_text *notes = mde_text_create(c);
    mde_runs *runs = NULL;
    memset(&plain, 0, sizeof plain);
    if (notes && table_read(c, path, &t)) {
        find_runs(&t, NULL);
        find_weights(c, &t, &plain, notes);
        add_columns_like(c, &t, like->domains, like->domain_names, t.weights, &t.weight_count);
        memcpy(t.losses, t.weights, (size_t)t.weight_count * sizeof *t.losses);
        t.loss_count = t.weight_count;
        runs = join_tables(c, &t, &t, &plain, notes);
    }
    if (notes) table_free(c, &t);
    mde_text_free(notes);
    return runs;
}

#endif /* MIX_TABLES_H */
