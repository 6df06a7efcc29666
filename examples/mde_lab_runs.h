/* mde_lab_runs.h - the experiment of mde_lab: settings, plan, training runs, and their results as tables.

   The plan holds every setting, and all that follows is a function of the plan and the data; so a step reads what the
   steps before it wrote, and any step can be run again, by any process, with the same result. A training run is a task
   with one output file, which names the plan it belongs to. In the folder of an experiment:
     plan.json                  all settings, the mixtures to train, a fingerprint of the data
     runs/NAME.safetensors      a finished run: one expert a domain (with its log-probabilities of every validation
                                token), uniform and proportional mixtures, and the proxies, at random mixtures; with
                                larger sizes, NAME-SIZE: those mixtures and the first half of the proxies at each
     mixtures.csv               further proxies, added to the plan later: their names and mixtures
   Included by mde_lab.c alone. */
#ifndef MDE_LAB_RUNS_H
#define MDE_LAB_RUNS_H

#include <float.h>

#define END_TASK "end_task" /* name of the end task among the validation texts */
#define CHOICES 4           /* of a question: the right one and three others */
#define MAX_PROXIES 100000

typedef enum task_kind { EXPERT, BASELINE, PROXY, BEST } task_kind;

typedef struct task {
    const char *name;
    task_kind kind;
    int size;           /* of the experiment's; 0: the plan's own */
    double weights[MDE_MAX_DOMAINS];
} task;

#define LAB_SIZES 6     /* larger ones than the plan's own, at most */
typedef struct lab_size { char name[32]; int layers, width, heads; double params; } lab_size;

typedef struct lab_settings {
    const char *data;   /* folder: each entry of it, folder or file, is a domain; NULL: OUT/data, made-up text */
    const char *preset; /* "quick" (default), "small" or "study": the defaults of what follows */
    int proxies;        /* runs at random mixtures */
    int64_t tokens;     /* to train on in each run */
    int layers, width, heads, context, batch;
    const char *sizes;  /* larger models, LAYERSxWIDTH, commas between; NULL: none */
    double learning_rate;
    int vocabulary;            /* 0: bytes */
    int64_t validation_tokens; /* of each domain, at most */
    int questions;             /* of the end task */
    int64_t max_bytes;         /* of each domain, at most */
    const char *task_domains;  /* comma-separated domains that the end task is made from; NULL: all */
    const char *objective;     /* whose mixture goes to mixture.json: "average" (default), "task" or "both" */
    uint64_t seed;
    const char *mixtures;      /* table of further proxies that are added to the plan; NULL: none */
} lab_settings;

/* A stretch of held-out text that a model reads at once; the first token is given, the others are predicted. */
typedef struct window {
    int64_t start, length, document;    /* length: tokens predicted, at most the context */
} window;

typedef struct experiment {
    mde_context *context;
    mde_progress_fn *progress; /* may be NULL */
    void *user;
    int quiet;
    char *out;
    lab_settings settings; /* resolved; its strings belong to the experiment */
    mde_corpus *corpus;
    int domains;
    int count, own;         /* runs, the first of which are of the plan's own size, */
    int further;            /* and the last of those at mixtures that were added to the plan */
    task *tasks;
    int sizes;              /* larger ones */
    lab_size size[LAB_SIZES + 1];   /* with the plan's own, ascending */
    window *windows[MDE_MAX_DOMAINS];   /* of each domain's validation text */
    int64_t window_count[MDE_MAX_DOMAINS], window_tokens[MDE_MAX_DOMAINS], window_documents[MDE_MAX_DOMAINS];
    char *plan;           /* text of plan.json */
    char fingerprint[17]; /* of the plan, hexadecimal */
    char key[40];         /* version and fingerprint of all in the plan but where the data are, and of what was added */
    int64_t choice;       /* tokens of a choice, and of the prompt before it */
    uint16_t *questions;  /* [questions, CHOICES, 2 choice] the right choice first */
} experiment;

/* ---- Settings ---- */

typedef struct preset {
    const char *name;
    int proxies;
    int64_t tokens;
    int layers, width, heads, context, batch;
    double learning_rate;
    int64_t validation_tokens;
    int questions;
    int64_t max_bytes;
} preset;

static const preset presets[3] = { { "quick", 24, 60000, 2, 48, 3, 64, 8, 6e-3, 3000, 100, 1000000 },
                                   { "small", 32, 400000, 3, 64, 4, 128, 8, 4e-3, 12000, 300, 3000000 },
                                   { "study", 64, 4000000, 4, 128, 4, 128, 16, 3e-3, 65536, 1000, 8000000 } };

static const preset *find_preset(mde_context *c, const char *name)
{
    int i;
    for (i = 0; i < 3; i++) {
        if (!name || strcmp(name, presets[i].name) == 0) return &presets[i];
    }
    mde_fail(c, MDE_BAD_ARGUMENT, "preset %s: is not known; expected quick, small or study", name);
    return NULL;
}

/* What the plan's user left at 0 takes the preset's value. The strings are copied. */
static mde_status resolve_settings(mde_context *c, const lab_settings *desc, lab_settings *out)
{
    const preset *sizes = find_preset(c, desc->preset);
    const char *objective = desc->objective ? desc->objective : "average";
    if (!sizes) return mde_context_status(c);
    *out = *desc;
    out->data = out->objective = out->task_domains = out->sizes = out->mixtures = NULL; /* until they are copies */
    if (!out->proxies) out->proxies = sizes->proxies;
    if (!out->tokens) out->tokens = sizes->tokens;
    if (!out->layers) out->layers = sizes->layers;
    if (!out->width) out->width = sizes->width;
    if (!out->heads) out->heads = desc->width ? (out->width >= 32 ? out->width / 16 : 1) : sizes->heads;
    if (!out->context) out->context = sizes->context;
    if (!out->batch) out->batch = sizes->batch;
    if (!(out->learning_rate > 0)) out->learning_rate = sizes->learning_rate;
    if (!out->validation_tokens) out->validation_tokens = sizes->validation_tokens;
    if (!out->questions) out->questions = sizes->questions;
    if (!out->max_bytes) out->max_bytes = sizes->max_bytes;
    if (desc->data && !*desc->data) return mde_fail(c, MDE_BAD_ARGUMENT, "plan: no data folder was given");
    if (out->proxies < 6 || out->proxies > MAX_PROXIES) {
        return mde_fail(c, MDE_BAD_ARGUMENT, "plan: proxies is %d; a regression needs 6 or more", out->proxies);
    }
    if (out->tokens < 1 || out->context < 8 || out->batch < 1 || out->questions < 1 || out->validation_tokens < 64 ||
        out->max_bytes < 1 || out->vocabulary < 0) {
        return mde_fail(c, MDE_BAD_ARGUMENT,
                        "plan: tokens %lld, context %d, batch %d, questions %d, validation tokens "
                        "%lld: too small (context at least 8, validation tokens at least 64)",
                        (long long)out->tokens, out->context, out->batch, out->questions,
                        (long long)out->validation_tokens);
    }
    if (strcmp(objective, "average") != 0 && strcmp(objective, "task") != 0 && strcmp(objective, "both") != 0) {
        return mde_fail(c, MDE_BAD_ARGUMENT, "objective %s: is not known; expected average, task or both", objective);
    }
    out->preset = sizes->name;
    out->data = desc->data ? program_copy(c, desc->data) : NULL;
    out->objective = program_copy(c, objective);
    out->task_domains = desc->task_domains ? program_copy(c, desc->task_domains) : NULL;
    out->sizes = desc->sizes ? program_copy(c, desc->sizes) : NULL;
    return mde_context_status(c);
}

/* ---- Names ---- */

static int validations(const experiment *x)
{
    return x->domains + 1;
}

static const char *validation_name(const experiment *x, int validation)
{
    return validation < x->domains ? mde_corpus_name(x->corpus, validation) : END_TASK;
}

/* ---- Validation texts ---- */

/* Tokens that can be predicted in document i of chosen: it is one of `count`, spread evenly over `documents`. */
static int64_t predictable(const int64_t *starts, int64_t documents, int64_t count, int64_t i, int64_t *document)
{
    *document = i * documents / count;
    return starts[*document + 1] - starts[*document] - 1;
}

/* All held-out documents of a domain give equally many of the tokens, from their middle, and short ones all they have.
   Of more documents than would have half a context each, some are taken, evenly spread. */
static void make_windows(experiment *x, int domain)
{
    mde_context *c = x->context;
    int64_t wanted = x->settings.validation_tokens, context = x->settings.context, documents, count, i, d, n = 0;
    int64_t level, low = 0, high = wanted, sum, rest;
    const int64_t *starts = mde_corpus_documents(x->corpus, MDE_VALIDATION, domain, &documents);
    window *w;
    count = wanted / (context / 2) < documents ? wanted / (context / 2) : documents;
    if (count < 1) count = 1;
    while (low < high) {    /* the largest share with which all together have no more than is wanted */
        level = low + (high - low + 1) / 2;
        for (i = sum = 0; i < count && sum <= wanted; i++) {
            int64_t has = predictable(starts, documents, count, i, &d);
            sum += has < level ? has : level;
        }
        if (sum <= wanted) low = level;
        else high = level - 1;
    }
    for (i = sum = 0; i < count; i++) {
        int64_t has = predictable(starts, documents, count, i, &d);
        sum += has < low ? has : low;
        n += has / context + 2;
    }
    rest = wanted - sum;    /* what equal shares leave: one more for the first that have more */
    w = x->windows[domain] = (window *)mde_alloc(c, (size_t)n, sizeof *w);
    for (i = n = 0; w && i < count; i++) {
        int64_t has = predictable(starts, documents, count, i, &d), take = has < low ? has : low, start;
        if (has > take && rest > 0) take++, rest--;
        start = starts[d] + (has - take) / 2;
        x->window_documents[domain] += take > 0;
        x->window_tokens[domain] += take;
        for (; take > 0; n++) {
            w[n].start = start;
            w[n].length = take < context ? take : context;
            w[n].document = d;
            start += w[n].length;
            take -= w[n].length;
        }
    }
    x->window_count[domain] = n;
    if (w && n == 0) {
        mde_fail(c, MDE_BAD_FILE, "domain %s: its held-out documents are of one token each; give it more text",
                 mde_corpus_name(x->corpus, domain));
    }
}

/* ---- The end task ---- */

static int is_listed(const char *list, const char *name)
{
    size_t length = strlen(name);
    const char *at = list;
    while (at && *at) {
        const char *comma = strchr(at, ',');
        size_t n = comma ? (size_t)(comma - at) : strlen(at);
        if (n == length && strncmp(at, name, n) == 0) return 1;
        at = comma ? comma + 1 : NULL;
    }
    return 0;
}

/* Every name of the list is a domain. */
static mde_status check_list(experiment *x, const char *list)
{
    const char *at = list;
    while (at && *at) {
        const char *comma = strchr(at, ',');
        size_t n = comma ? (size_t)(comma - at) : strlen(at);
        int i, found = 0;
        for (i = 0; i < x->domains; i++) {
            const char *name = mde_corpus_name(x->corpus, i);
            if (strlen(name) == n && strncmp(name, at, n) == 0) found = 1;
        }
        if (!found) {
            return mde_fail(x->context, MDE_BAD_ARGUMENT, "end task: %.*s is not a domain", (int)n, at);
        }
        at = comma ? comma + 1 : NULL;
    }
    return MDE_OK;
}

/* A question is a stretch of held-out text, cut in two: which of four continuations is the true one? The three others
   come from elsewhere in the same domain, so that knowing the domain does not help. */
static mde_status make_questions(experiment *x)
{
    mde_context *c = x->context;
    int chosen[MDE_MAX_DOMAINS], choices = 0, i, q, a;
    int64_t half = x->settings.context / 2 < 64 ? x->settings.context / 2 : 64;
    if (x->settings.task_domains && check_list(x, x->settings.task_domains) != MDE_OK) return mde_context_status(c);
    for (i = 0; i < x->domains; i++) {
        const char *name = mde_corpus_name(x->corpus, i);
        if (!x->settings.task_domains || is_listed(x->settings.task_domains, name)) chosen[choices++] = i;
    }
    x->choice = half;
    x->questions =
        (uint16_t *)mde_alloc(c, (size_t)x->settings.questions * CHOICES, (size_t)(2 * half) * sizeof *x->questions);
    if (!x->questions) return mde_context_status(c);
    for (q = 0; q < x->settings.questions; q++) {
        int domain = chosen[q % choices];
        mde_random r = mde_random_start(x->settings.seed, UINT64_C(0x7a5c000000000000) + (uint64_t)q);
        uint16_t *question = x->questions + (int64_t)q * CHOICES * 2 * half;
        size_t count;
        const uint16_t *tokens = mde_corpus_tokens(x->corpus, MDE_TEST, domain, &count);
        size_t start;
        if (count < (size_t)(4 * half)) {
            return mde_fail(c, MDE_BAD_FILE,
                            "domain %s: its test split has %zu tokens; the end task needs %lld: give "
                            "it more text",
                            mde_corpus_name(x->corpus, domain), count, (long long)(4 * half));
        }
        start = (size_t)mde_random_below(&r, count - (size_t)(2 * half) + 1);
        for (a = 0; a < CHOICES; a++) {
            size_t from = start + (size_t)half;
            uint16_t *sequence = question + a * 2 * half;
            /* Another continuation lies at least half a choice away from the true one. */
            while (a > 0 && from + (size_t)half / 2 > start && from < start + (size_t)(2 * half)) {
                from = (size_t)mde_random_below(&r, count - (size_t)half + 1);
            }
            memcpy(sequence, tokens + start, (size_t)half * sizeof *sequence);
            memcpy(sequence + half, tokens + from, (size_t)half * sizeof *sequence);
        }
    }
    return MDE_OK;
}

/* ---- Sizes ---- */

static mde_lm_desc model_shape(const experiment *x, int size)
{
    mde_lm_desc shape;
    memset(&shape, 0, sizeof shape);
    shape.layers = x->size[size].layers;
    shape.width = x->size[size].width;
    shape.heads = x->size[size].heads;
    shape.context = x->settings.context;
    shape.seed = x->settings.seed;
    return shape;
}

/* A model that cannot be built is found before anything is written; its parameters are counted. */
static void check_model(experiment *x, int size)
{
    mde_lm_desc shape = model_shape(x, size);
    mde_lm *lm = mde_lm_create(x->context, x->corpus, &shape);
    if (lm) x->size[size].params = (double)mde_params_elements(mde_lm_params(lm));
    mde_lm_free(lm);
}

/* The plan's own size and the larger ones, as 2x64,3x96. */
static void read_sizes(experiment *x)
{
    mde_context *c = x->context;
    const char *at = x->settings.sizes;
    x->size[0].layers = x->settings.layers;
    x->size[0].width = x->settings.width;
    x->size[0].heads = x->settings.heads;
    if (at) check_model(x, 0);
    while (at && *at && !program_failed(c)) {
        size_t item = strcspn(at, ","), layers = strcspn(at, "x,");
        lab_size *s = &x->size[x->sizes + 1];
        double l = 0, w = 0;
        if (x->sizes == LAB_SIZES || item > 20 || layers >= item || !program_number(at, layers, &l) ||
            !program_number(at + layers + 1, item - layers - 1, &w) || l != (int)l || w != (int)w || l < 1 || w < 1) {
            mde_fail(c, MDE_BAD_ARGUMENT, "sizes: \"%.*s\" is none; expected layers x width, at most %d of them, as "
                     "2x64,3x96", (int)(item < 60 ? item : 60), at, LAB_SIZES);
            return;
        }
        x->sizes++;
        s->layers = (int)l;
        s->width = (int)w;
        s->heads = w >= 32 ? (int)w / 16 : 1;
        snprintf(s->name, sizeof s->name, "%dx%d", s->layers, s->width);
        check_model(x, x->sizes);
        if (!program_failed(c) && !(s->params > s[-1].params)) {
            mde_fail(c, MDE_BAD_ARGUMENT, "sizes: %s has %.0f parameters, no more than the %.0f of the model before "
                     "it; expected larger ones than %d layers of width %d, ascending", s->name, s->params, s[-1].params,
                     x->settings.layers, x->settings.width);
        }
        at += item + (at[item] == ',');
    }
}

/* ---- Plan ---- */

static mde_status add_task(experiment *x, task_kind kind, const char *prefix, const char *name, const double *weights)
{
    task *added = &x->tasks[x->count];
    size_t size = strlen(prefix) + strlen(name) + 1;
    char *full = (char *)mde_alloc(x->context, size, 1);
    if (!full) return mde_context_status(x->context);
    snprintf(full, size, "%s%s", prefix, name);
    added->name = full;
    added->kind = kind;
    memcpy(added->weights, weights, (size_t)x->domains * sizeof *weights);
    x->count++;
    return MDE_OK;
}

/* A row of a table as a mixture of the domains: columns by their names or weight_NAME, shares or percents. What asks
   for runs of another size or length than the plan's is refused. */
static mde_status read_mixture(const experiment *x, const mde_csv *table, int row, double *weights)
{
    static const char *const columns[2] = { "params", "tokens" };
    mde_context *c = x->context;
    const char *path = table->path;
    double sum = 0;
    int line = table->lines[row], i, column;
    for (i = 0; i < x->domains && !program_failed(c); i++) {
        const char *name = mde_corpus_name(x->corpus, i);
        char longer[PROGRAM_PATH];
        column = mde_csv_column(table, name);
        if (column < 0) column = mde_csv_column(table, program_path(c, longer, "weight_%s", name));
        if (column < 0) return mde_fail(c, MDE_BAD_FILE, "%s: has no column %s, a domain", path, name);
        weights[i] = mde_csv_number(table, row, column);
        sum += weights[i];
        if (weights[i] >= 0) continue;
        mde_fail(c, MDE_BAD_FILE, "%s line %d: the weight of %s is %.9g; expected 0 or more", path, line, name,
                 weights[i]);
    }
    if (!(fabs(sum - 1) <= 0.01 || fabs(sum - 100) <= 1)) {
        mde_fail(c, MDE_BAD_FILE, "%s line %d: weights sum to %.9g; expected 1 or 100", path, line, sum);
    }
    for (i = 0; i < 2 && !program_failed(c); i++) {
        double own = i == 0 ? x->size[0].params : (double)x->settings.tokens, asked;
        column = mde_csv_column(table, columns[i]);
        asked = column < 0 ? own : mde_csv_number(table, row, column);
        if (fabs(asked - own) <= 0.01 * own) continue;
        mde_fail(c, MDE_BAD_FILE, "%s line %d: %s is %.9g; expected %.9g, as of the plan's runs", path, line,
                 columns[i], asked, own);
    }
    if (program_failed(c)) return mde_context_status(c);
    for (i = 0; i < x->domains && fabs(sum - 1) > 1e-12; i++) weights[i] /= sum;
    return MDE_OK;
}

static const char *name_proxy(char name[32], int number)
{
    snprintf(name, 32, "proxy-%03d", number);
    return name;
}

/* The table of the mixtures that were added, NULL without any. */
static mde_csv *open_further(experiment *x)
{
    char path[PROGRAM_PATH];
    mde_csv *table;
    program_path(x->context, path, "%s/mixtures.csv", x->out);
    table = mde_is_file(path) ? mde_csv_read(x->context, path) : NULL;
    if (table && table->rows > MAX_PROXIES) {
        mde_fail(x->context, MDE_BAD_FILE, "%s: has %d rows; expected at most %d", path, table->rows, MAX_PROXIES);
    }
    x->further = table && !program_failed(x->context) ? table->rows : 0;
    return table;
}

static void add_further(experiment *x, const mde_csv *table)
{
    double weights[MDE_MAX_DOMAINS];
    char name[32];
    int i;
    for (i = 0; i < x->further && read_mixture(x, table, i, weights) == MDE_OK; i++) {
        const char *run = table->cells[i * table->columns];
        if (strcmp(run, name_proxy(name, x->settings.proxies + i + 1)) != 0) {
            mde_fail(x->context, MDE_BAD_FILE, "%s line %d: its run is %.60s; expected %s", table->path,
                     table->lines[i], run, name);
            return;
        }
        add_task(x, PROXY, "", name, weights);
    }
}

static mde_status make_tasks(experiment *x)
{
    mde_context *c = x->context;
    double weights[MDE_MAX_DOMAINS], total = 0;
    mde_csv *further = open_further(x);
    int k = x->domains, i, p;
    int half = (x->settings.proxies + 1) / 2;
    x->tasks = (task *)mde_alloc(c, (size_t)(k + 2 + x->settings.proxies + x->further + x->sizes * (2 + half)),
                                 sizeof *x->tasks);
    if (!x->tasks) {
        mde_csv_free(further);
        return mde_context_status(c);
    }
    for (i = 0; i < k; i++) {
        memset(weights, 0, sizeof weights);
        weights[i] = 1;
        add_task(x, EXPERT, "expert-", mde_corpus_name(x->corpus, i), weights);
    }
    for (i = 0; i < k; i++) weights[i] = 1.0 / k;
    add_task(x, BASELINE, "", "uniform", weights);
    for (i = 0; i < k; i++) {
        size_t count;
        mde_corpus_tokens(x->corpus, MDE_TRAIN, i, &count);
        weights[i] = (double)count;
        total += weights[i];
    }
    for (i = 0; i < k; i++) weights[i] /= total;
    add_task(x, BASELINE, "", "proportional", weights);
    for (p = 0; p < x->settings.proxies; p++) {
        mde_random r = mde_random_start(x->settings.seed, UINT64_C(0x9f0c000000000000) + (uint64_t)p);
        char name[32];
        mde_random_mixture(&r, k, weights);
        add_task(x, PROXY, "", name_proxy(name, p + 1), weights);
    }
    add_further(x, further);
    mde_csv_free(further);
    x->own = x->count;
    for (i = 1; i <= x->sizes; i++) {
        for (p = 0; p < 2 + half && !program_failed(c); p++) {
            const task *like = &x->tasks[k + p];
            char prefix[64];
            snprintf(prefix, sizeof prefix, "%s-", like->name);
            if (add_task(x, like->kind, prefix, x->size[i].name, like->weights) == MDE_OK) {
                x->tasks[x->count - 1].size = i;
            }
        }
    }
    return mde_context_status(c);
}

static void json_domains(mde_json_writer *w, const experiment *x)
{
    int i;
    mde_json_open(w, "domains", '[');
    for (i = 0; i < x->domains; i++) {
        size_t train, validation, test;
        mde_corpus_tokens(x->corpus, MDE_TRAIN, i, &train);
        mde_corpus_tokens(x->corpus, MDE_VALIDATION, i, &validation);
        mde_corpus_tokens(x->corpus, MDE_TEST, i, &test);
        mde_json_open(w, NULL, '{');
        mde_json_write_string(w, "name", mde_corpus_name(x->corpus, i));
        mde_json_write_int(w, "train", (int64_t)train);
        mde_json_write_int(w, "validation", (int64_t)validation);
        mde_json_write_int(w, "test", (int64_t)test);
        mde_json_write_int(w, "validated_tokens", x->window_tokens[i]);
        mde_json_write_int(w, "validated_documents", x->window_documents[i]);
        mde_json_close(w);
    }
    mde_json_close(w);
}

static void json_hexadecimal(mde_json_writer *w, const char *key, uint64_t value)
{
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)value);
    mde_json_write_string(w, key, text);
}

/* As a text: a number of JSON has 53 bits in many readers. */
static void json_seed(mde_json_writer *w, uint64_t seed)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)seed);
    mde_json_write_string(w, "seed", text);
}

static char *plan_text(const experiment *x)
{
    mde_context *c = x->context;
    const lab_settings *s = &x->settings;
    mde_text *t = mde_text_create(c);
    mde_json_writer w = mde_json_start(t, 2);
    char *text;
    int i;
    mde_json_open(&w, NULL, '{');
    mde_json_write_string(&w, "mdemix", MDE_VERSION);
    mde_json_write_string(&w, "data", s->data ? s->data : "");
    json_hexadecimal(&w, "data_hash", mde_corpus_hash(x->corpus));
    mde_json_write_string(&w, "preset", s->preset);
    json_seed(&w, s->seed);
    mde_json_write_int(&w, "proxies", s->proxies);
    mde_json_write_int(&w, "tokens", s->tokens);
    mde_json_write_int(&w, "layers", s->layers);
    mde_json_write_int(&w, "width", s->width);
    mde_json_write_int(&w, "heads", s->heads);
    mde_json_write_int(&w, "context", s->context);
    mde_json_write_int(&w, "batch", s->batch);
    if (s->sizes) mde_json_write_string(&w, "sizes", s->sizes);
    mde_json_write_number(&w, "learning_rate", s->learning_rate, 17);
    mde_json_write_int(&w, "vocabulary", s->vocabulary);
    mde_json_write_int(&w, "validation_tokens", s->validation_tokens);
    mde_json_write_int(&w, "questions", s->questions);
    mde_json_write_int(&w, "max_bytes", s->max_bytes);
    mde_json_write_string(&w, "task_domains", s->task_domains ? s->task_domains : "");
    mde_json_write_string(&w, "objective", s->objective);
    json_domains(&w, x);
    mde_json_open(&w, "tasks", '[');
    for (i = 0; i < x->count; i++) {
        if (i < x->own && i >= x->own - x->further) continue;
        mde_json_open(&w, NULL, '{');
        mde_json_write_string(&w, "name", x->tasks[i].name);
        mde_json_write_numbers(&w, "weights", (size_t)x->domains, x->tasks[i].weights, 17);
        mde_json_close(&w);
    }
    mde_json_close(&w);
    mde_json_close(&w);
    text = mde_json_end(&w) == MDE_OK ? program_copy(c, t->bytes) : NULL;
    mde_text_free(t);
    return text;
}

static void experiment_free(experiment *x)
{
    mde_context *c = x ? x->context : NULL;
    int i;
    if (!x) return;
    for (i = 0; x->tasks && i < x->count; i++) mde_release(c, (void *)x->tasks[i].name);
    for (i = 0; i < MDE_MAX_DOMAINS; i++) mde_release(c, x->windows[i]);
    mde_release(c, x->tasks);
    mde_release(c, x->questions);
    mde_release(c, x->plan);
    mde_release(c, x->out);
    mde_release(c, (void *)x->settings.data);
    mde_release(c, (void *)x->settings.objective);
    mde_release(c, (void *)x->settings.task_domains);
    mde_release(c, (void *)x->settings.sizes);
    mde_corpus_free(x->corpus);
    mde_release(c, x);
}

/* Where the texts are: made-up ones lie beside the results and move with them. */
static const char *data_path(mde_context *c, const char *out, const lab_settings *s, char path[PROGRAM_PATH])
{
    return s->data ? program_path(c, path, "%s", s->data) : program_path(c, path, "%s/data", out);
}

static mde_corpus *open_data(mde_context *c, const char *out, const lab_settings *settings)
{
    char path[PROGRAM_PATH];
    mde_corpus_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.path = data_path(c, out, settings, path);
    desc.validation = 0.1;
    desc.test = 0.1;
    desc.max_bytes = settings->max_bytes;
    desc.vocabulary = settings->vocabulary;
    return mde_corpus_open(c, &desc);
}

/* Everything that follows from the settings and the data. */
static experiment *experiment_create(mde_context *c, const char *out, const lab_settings *desc)
{
    experiment *x;
    mde_text *what;
    char data[PROGRAM_PATH];
    int i;
    if (program_failed(c)) return NULL;
    x = (experiment *)mde_alloc(c, 1, sizeof *x);
    if (!x) return NULL;
    data_path(c, out, desc, data);
    x->context = c;
    x->out = program_copy(c, out);
    if (x->out && resolve_settings(c, desc, &x->settings) == MDE_OK) x->corpus = open_data(c, out, &x->settings);
    if (x->corpus) x->domains = mde_corpus_domains(x->corpus);
    if (x->corpus && x->domains < 2) {
        mde_fail(c, MDE_BAD_ARGUMENT,
                 "%s: holds one domain only (%s); a mixture needs two or more, each a folder or a "
                 "file in it",
                 data, mde_corpus_name(x->corpus, 0));
    }
    for (i = 0; i < x->domains && !program_failed(c); i++) {
        if (strcmp(mde_corpus_name(x->corpus, i), END_TASK) == 0) {
            mde_fail(c, MDE_BAD_ARGUMENT, "%s: a domain cannot be called %s", data, END_TASK);
        }
        if (!program_failed(c)) make_windows(x, i);
    }
    if (!program_failed(c)) read_sizes(x);
    if (!program_failed(c) && make_tasks(x) == MDE_OK && make_questions(x) == MDE_OK) x->plan = plan_text(x);
    if (program_failed(c) || !x->plan) {
        experiment_free(x);
        return NULL;
    }
    snprintf(x->fingerprint, sizeof x->fingerprint, "%016llx",
             (unsigned long long)mde_fingerprint(x->plan, strlen(x->plan)));
    what = mde_text_create(c);
    mde_text_add(what, strstr(x->plan, "\"data_hash\""));
    for (i = x->own - x->further; i < x->own; i++) {
        mde_json_writer w = mde_json_start(what, 0);
        mde_json_write_numbers(&w, NULL, (size_t)x->domains, x->tasks[i].weights, 17);
    }
    if (!program_failed(c)) {
        snprintf(x->key, sizeof x->key, "%.20s %016llx", MDE_VERSION,
                 (unsigned long long)mde_fingerprint(what->bytes, what->length));
    }
    mde_text_free(what);
    return x;
}

static void describe_value(const mde_json *value, char *buffer, size_t size)
{
    if (!value) snprintf(buffer, size, "absent");
    else if (value->kind == MDE_JSON_STRING) snprintf(buffer, size, "%s", *value->string ? value->string : "\"\"");
    else if (value->kind == MDE_JSON_NUMBER) snprintf(buffer, size, "%.9g", value->number);
    else snprintf(buffer, size, "something else");
}

/* Names the first setting in which two plans differ. */
static mde_status explain_difference(mde_context *c, const char *path, const char *old_text, const char *new_text)
{
    mde_json *a = mde_json_parse(c, path, old_text, strlen(old_text));
    mde_json *b = mde_json_parse(c, path, new_text, strlen(new_text));
    const mde_json *at;
    char old_value[256], new_value[256];
    for (at = b ? b->child : NULL; a && at; at = at->next) {
        const mde_json *other = mde_json_get(a, at->key);
        if (at->kind != MDE_JSON_STRING && at->kind != MDE_JSON_NUMBER) continue;
        if (other && other->kind == at->kind &&
            (at->kind == MDE_JSON_NUMBER ? at->number == other->number : strcmp(at->string, other->string) == 0))
            continue;
        describe_value(other, old_value, sizeof old_value);
        describe_value(at, new_value, sizeof new_value);
        mde_fail(c, MDE_BAD_ARGUMENT, "%s: is another plan: %s is %s there and %s now; take another folder", path,
                 at->key, old_value, new_value);
        break;
    }
    mde_fail(c, MDE_BAD_FILE, "%s: is another plan, or was changed by hand; take another folder", path);
    mde_json_free(c, a);
    mde_json_free(c, b);
    return mde_context_status(c);
}

/* The plan on disk and the one made from the settings and the data are the same text, or one explains why not. One
   that was cut short is written again. */
static mde_status settle_plan(experiment *x, const char *path)
{
    mde_context *c = x->context;
    size_t size;
    char *text = (char *)mde_file_read(c, path, (size_t)1 << 28, &size);
    if (text && strlen(text) < strlen(x->plan) && strncmp(text, x->plan, strlen(text)) == 0) {
        mde_file_write(c, path, x->plan, strlen(x->plan));      /* the beginning of it: it was cut short */
    } else if (text && strcmp(text, x->plan) != 0) {
        explain_difference(c, path, text, x->plan);
    }
    mde_release(c, text);
    return mde_context_status(c);
}

static int is_among(int k, int n, const double *mixtures, const double *weights)
{
    int i, j;
    for (i = 0; i < n; i++) {
        for (j = 0; j < k && fabs(mixtures[i * k + j] - weights[j]) <= 1e-6; j++) { }
        if (j == k) return 1;
    }
    return 0;
}

/* mixtures.csv with those mixtures of a table that no proxy has, too. */
static mde_text *further_text(const experiment *x, const char *path)
{
    mde_context *c = x->context;
    mde_csv *table = mde_csv_read(c, path);
    mde_text *t = mde_text_create(c);
    int k = x->domains, before = x->settings.proxies + x->further, rows = table ? table->rows : 0, n = before, i, j;
    double *mixtures = (double *)mde_alloc(c, (size_t)before + (size_t)rows, (size_t)k * sizeof *mixtures);
    for (i = 0; mixtures && i < n; i++) {
        memcpy(mixtures + i * k, x->tasks[x->own - before + i].weights, (size_t)k * sizeof *mixtures);
    }
    for (i = 0; i < rows && read_mixture(x, table, i, mixtures + n * k) == MDE_OK; i++) {
        n += !is_among(k, n, mixtures, mixtures + n * k);
    }
    if (!program_failed(c) && n > MAX_PROXIES) {
        mde_fail(c, MDE_BAD_ARGUMENT, "%s: makes %d proxies; expected at most %d", path, n, MAX_PROXIES);
    }
    mde_text_add(t, "run");
    for (j = 0; j < k; j++) {
        mde_text_add(t, ",");
        mde_text_add_csv(t, mde_corpus_name(x->corpus, j));
    }
    for (i = x->settings.proxies; i < n && !program_failed(c); i++) {
        char name[32];
        mde_text_format(t, "\n%s", name_proxy(name, i + 1));
        for (j = 0; j < k; j++) mde_text_format(t, ",%.17g", mixtures[i * k + j]);
    }
    mde_text_add(t, "\n");
    mde_release(c, mixtures);
    mde_csv_free(table);
    return t;
}

/* Makes OUT and writes the plan. A plan that is there already must be the same, otherwise it is an error that names the
   setting that differs. Further mixtures are added to it. */
static mde_status experiment_plan(mde_context *c, const char *out, const lab_settings *settings)
{
    experiment *x = experiment_create(c, out, settings);
    mde_text *further = x && settings->mixtures ? further_text(x, settings->mixtures) : NULL;
    char path[PROGRAM_PATH], runs[PROGRAM_PATH];
    program_path(c, path, "%s/plan.json", out);
    program_path(c, runs, "%s/runs", out);
    if (x) check_model(x, 0);
    if (!program_failed(c)) {
        if (mde_is_file(path)) settle_plan(x, path);
        else if (mde_make_folder(c, runs) == MDE_OK) mde_file_write(c, path, x->plan, strlen(x->plan));
    }
    if (further && !program_failed(c)) program_write(c, further, out, "mixtures.csv");
    mde_text_free(further);
    experiment_free(x);
    return mde_context_status(c);
}

/* A plan says all that is needed, as numbers above 0 and texts: what is left out would be the preset's. */
static void check_plan(mde_context *c, const char *path, const mde_json *plan)
{
    static const struct { const char *key; mde_json_kind kind; } settings[] = {
        { "data", MDE_JSON_STRING }, { "preset", MDE_JSON_STRING }, { "seed", MDE_JSON_STRING },
        { "proxies", MDE_JSON_NUMBER }, { "tokens", MDE_JSON_NUMBER }, { "layers", MDE_JSON_NUMBER },
        { "width", MDE_JSON_NUMBER }, { "heads", MDE_JSON_NUMBER }, { "context", MDE_JSON_NUMBER },
        { "batch", MDE_JSON_NUMBER }, { "learning_rate", MDE_JSON_NUMBER }, { "validation_tokens", MDE_JSON_NUMBER },
        { "questions", MDE_JSON_NUMBER }, { "max_bytes", MDE_JSON_NUMBER }, { "task_domains", MDE_JSON_STRING },
        { "objective", MDE_JSON_STRING } };
    size_t i;
    for (i = 0; i < sizeof settings / sizeof *settings; i++) {
        const mde_json *value = mde_json_get(plan, settings[i].key);
        int text = settings[i].kind == MDE_JSON_STRING;
        char is[256];
        if (value && value->kind == settings[i].kind && (text || value->number > 0)) continue;
        describe_value(value, is, sizeof is);
        mde_fail(c, MDE_BAD_FILE, "%s: %s is %s; expected a %s", path, settings[i].key, is,
                 text ? "text" : "number above 0");
        return;
    }
}

/* The plan, freed with mde_json_free. */
static mde_json *open_plan(mde_context *c, const char *path)
{
    mde_json *plan = mde_json_read(c, path);
    if (plan) check_plan(c, path, plan);
    if (!program_failed(c)) return plan;
    mde_json_free(c, plan);
    return NULL;
}

/* The settings that a plan has; its strings stay the plan's. */
static lab_settings planned_settings(const mde_json *plan)
{
    const char *data = mde_json_string(plan, "data", ""), *list = mde_json_string(plan, "task_domains", "");
    lab_settings s;
    memset(&s, 0, sizeof s);
    s.data = *data ? data : NULL;
    s.preset = mde_json_string(plan, "preset", NULL);
    s.proxies = program_int(plan, "proxies");
    s.tokens = program_integer(plan, "tokens");
    s.layers = program_int(plan, "layers");
    s.width = program_int(plan, "width");
    s.heads = program_int(plan, "heads");
    s.context = program_int(plan, "context");
    s.batch = program_int(plan, "batch");
    s.sizes = mde_json_string(plan, "sizes", NULL);
    s.learning_rate = mde_json_number(plan, "learning_rate", 0);
    s.vocabulary = program_int(plan, "vocabulary");
    s.validation_tokens = program_integer(plan, "validation_tokens");
    s.questions = program_int(plan, "questions");
    s.max_bytes = program_integer(plan, "max_bytes");
    s.task_domains = *list ? list : NULL;
    s.objective = mde_json_string(plan, "objective", NULL);
    s.seed = (uint64_t)strtoull(mde_json_string(plan, "seed", "0"), NULL, 10);
    return s;
}

/* Opens a planned experiment and its data, which must not have changed. */
static experiment *experiment_open(mde_context *c, const char *out)
{
    experiment *x = NULL;
    mde_json *plan = NULL;
    char path[PROGRAM_PATH];
    if (program_failed(c)) return NULL;
    program_path(c, path, "%s/plan.json", out);
    if (!mde_is_file(path)) mde_fail(c, MDE_IO, "%s: is not there; make a plan first", path);
    else plan = open_plan(c, path);
    if (plan) {
        lab_settings s = planned_settings(plan);
        x = experiment_create(c, out, &s);
        if (x) settle_plan(x, path);
    }
    mde_json_free(c, plan);
    if (!program_failed(c)) return x;
    experiment_free(x);
    return NULL;
}

/* ---- One training run ---- */

/* The weights as the text that names them in a run's file. */
static mde_text *weights_text(mde_context *c, int k, const double *weights)
{
    mde_text *t = mde_text_create(c);
    mde_json_writer w = mde_json_start(t, 0);
    mde_json_write_numbers(&w, NULL, (size_t)k, weights, 17);
    return t;
}

/* Tokens predicted of a validation text. */
static int64_t validation_tokens(const experiment *x, int validation)
{
    return validation < x->domains ? x->window_tokens[validation] : x->settings.questions * x->choice;
}

/* A tensor of a run's file has the shape [rows] or, for columns above 0, [rows, 1 to columns], and its numbers are
   finite and not below minimum. */
static void check_tensor(mde_context *c, const char *path, const mde_safetensors *run, const char *name, int64_t rows,
                         int64_t columns, double minimum)
{
    const mde_safetensor *t = mde_safetensors_find(run, name);
    size_t i;
    if (program_failed(c)) return;
    if (!t || t->rank != (columns ? 2 : 1) || t->shape[0] != rows ||
        (columns && (t->shape[1] < 1 || t->shape[1] > columns))) {
        mde_fail(c, MDE_BAD_FILE, "%s: tensor %s %s [%lld%s]; delete the file to run the task again", path, name,
                 t ? "has another shape than" : "is not there; expected", (long long)rows, columns ? ", points" : "");
        return;
    }
    for (i = 0; i < t->count; i++) {
        if ((double)t->data[i] >= minimum && (double)t->data[i] <= (double)FLT_MAX) continue;
        mde_fail(c, MDE_BAD_FILE, "%s: tensor %s has %.9g at %zu; delete the file to run the task again", path, name,
                 (double)t->data[i], i);
        return;
    }
}

/* A fingerprint of names and numbers, the same on machines of either byte order. */
static void describe_content(mde_context *c, int count, const mde_safetensor *tensors, char out[17])
{
    mde_text *t = mde_text_create(c);
    int i, k;
    for (i = 0; i < count && !program_failed(c); i++) {
        unsigned char *bytes = (unsigned char *)mde_alloc(c, tensors[i].count + 1, 4);
        size_t j;
        for (j = 0; bytes && j < tensors[i].count; j++) {
            uint32_t bits;
            memcpy(&bits, &tensors[i].data[j], sizeof bits);
            for (k = 0; k < 4; k++) bytes[4 * j + (size_t)k] = (unsigned char)(bits >> (8 * k));
        }
        mde_text_format(t, "%s %016llx\n", tensors[i].name,
                        bytes ? (unsigned long long)mde_fingerprint(bytes, 4 * tensors[i].count) : 0ULL);
        mde_release(c, bytes);
    }
    snprintf(out, 17, "%016llx", program_failed(c) ? 0ULL : (unsigned long long)mde_fingerprint(t->bytes, t->length));
    mde_text_free(t);
}

/* What this program wrote is as it wrote it. */
static void check_run(const experiment *x, mde_context *c, const char *path, const task *which,
                      const mde_safetensors *run)
{
    const char *content = mde_safetensors_metadata(run, "content");
    char name[PROGRAM_PATH], is[17];
    int i;
    check_tensor(c, path, run, "losses", validations(x), 0, 0);
    check_tensor(c, path, run, "accuracy", 1, 0, 0);
    check_tensor(c, path, run, "curve", 2, 1024, 0);
    for (i = 0; which->kind == EXPERT && i < validations(x); i++) {
        program_path(c, name, "logp.%s", validation_name(x, i));
        check_tensor(c, path, run, name, validation_tokens(x, i), 0, -(double)FLT_MAX);
    }
    describe_content(c, run->count, run->tensors, is);
    if (!program_failed(c) && content && strcmp(content, is) != 0) {
        mde_fail(c, MDE_BAD_FILE, "%s: its numbers are not those that the run wrote; delete the file to run the task "
                 "again", path);
    }
}

/* The file of a finished task if it belongs to this plan and these weights; otherwise NULL, without an error: then the
   task has still to be run. One that does, but holds something else, is an error. */
static mde_safetensors *read_run(const experiment *x, mde_context *c, const task *which)
{
    char path[PROGRAM_PATH];
    mde_text *weights;
    mde_safetensors *run = NULL;
    if (program_failed(c)) return NULL;
    program_path(c, path, "%s/runs/%s.safetensors", x->out, which->name);
    weights = weights_text(c, x->domains, which->weights);
    if (!program_failed(c) && mde_is_file(path)) {
        run = mde_safetensors_read(c, path);
        if (!run && mde_context_status(c) != MDE_OUT_OF_MEMORY) mde_clear_error(c);
    }
    if (run) {
        const char *plan = mde_safetensors_metadata(run, "plan"), *at = mde_safetensors_metadata(run, "weights");
        int ours = plan && strcmp(plan, x->fingerprint) == 0 && at && strcmp(at, weights->bytes) == 0;
        if (ours) check_run(x, c, path, which, run);
        if (!ours || program_failed(c)) {
            mde_safetensors_free(c, run);
            run = NULL;
        }
    }
    mde_text_free(weights);
    return run;
}

/* The training of a finished task goes on no more. */
static void remove_checkpoint(mde_context *c, const char *path)
{
    if (remove(path) != 0 && errno != ENOENT) {
        mde_fail(c, MDE_IO, "%s: cannot be removed: %s", path, strerror(errno));
    }
}

/* A process that ended between its last two steps left the checkpoint of a finished task. */
static int task_is_done(const experiment *x, const task *which)
{
    mde_safetensors *run = read_run(x, x->context, which);
    char path[PROGRAM_PATH];
    program_path(x->context, path, "%s/runs/%s.checkpoint", x->out, which->name);
    if (run) remove_checkpoint(x->context, path);
    mde_safetensors_free(x->context, run);
    return run != NULL;
}

/* What one run says of every validation text. */
typedef struct scores {
    float losses[MDE_MAX_DOMAINS + 1];
    float accuracy;
    float *logp[MDE_MAX_DOMAINS + 1];
    size_t tokens[MDE_MAX_DOMAINS + 1];
} scores;

static float mean_loss(const float *logp, size_t tokens)
{
    double sum = 0;
    size_t t;
    for (t = 0; t < tokens; t++) sum -= (double)logp[t];
    return (float)(sum / (double)tokens);
}

static void score_domain(mde_context *c, const experiment *x, const mde_corpus *corpus, mde_lm *lm, int domain,
                         scores *out)
{
    int64_t context = x->settings.context, count = x->window_count[domain], tokens = x->window_tokens[domain], i, j;
    int64_t at, n = 0;
    const window *w = x->windows[domain];
    size_t all;
    const uint16_t *text = mde_corpus_tokens(corpus, MDE_VALIDATION, domain, &all);
    uint16_t *sequences = (uint16_t *)mde_alloc(c, (size_t)count, (size_t)(context + 1) * sizeof *sequences);
    float *logp = (float *)mde_alloc(c, (size_t)tokens, sizeof *logp);
    float *scored = (float *)mde_alloc(c, (size_t)count, (size_t)(context + 1) * sizeof *scored);
    for (i = 0; i < count && !program_failed(c); i = j) {
        int64_t length = w[i].length + 1;       /* all windows of one length that follow each other at once */
        for (j = i; j < count && w[j].length == w[i].length; j++) {
            memcpy(sequences + (j - i) * length, text + w[j].start, (size_t)length * sizeof *sequences);
        }
        mde_lm_logprobs_batch(lm, sequences, j - i, length, scored);
        for (at = 0; at < j - i; at++, n += length - 1) {
            memcpy(logp + n, scored + at * length + 1, (size_t)(length - 1) * sizeof *logp);
        }
    }
    mde_release(c, sequences);
    mde_release(c, scored);
    out->logp[domain] = logp;
    out->tokens[domain] = (size_t)tokens;
    if (!program_failed(c)) out->losses[domain] = mean_loss(logp, (size_t)tokens);
}

static void score_end_task(mde_context *c, const experiment *x, mde_lm *lm, scores *out)
{
    int64_t half = x->choice, length = 2 * half, t;
    int questions = x->settings.questions, right = 0, q, a;
    float *all = (float *)mde_alloc(c, (size_t)questions * CHOICES, (size_t)length * sizeof *all);
    float *logp = (float *)mde_alloc(c, (size_t)questions, (size_t)half * sizeof *logp);
    if (all && logp && mde_lm_logprobs_batch(lm, x->questions, (int64_t)questions * CHOICES, length, all) == MDE_OK) {
        for (q = 0; q < questions; q++) {
            double sums[CHOICES];
            int best = 1;
            for (a = 0; a < CHOICES; a++) {
                const float *choice = all + ((int64_t)q * CHOICES + a) * length + half;
                sums[a] = 0;
                for (t = 0; t < half; t++) sums[a] += (double)choice[t];
                if (a == 0) memcpy(logp + (int64_t)q * half, choice, (size_t)half * sizeof *logp);
                if (a > 1 && sums[a] > sums[best]) best = a;
            }
            right += sums[0] > sums[best];
        }
        out->accuracy = (float)right / (float)questions;
        out->tokens[x->domains] = (size_t)questions * (size_t)half;
        out->losses[x->domains] = mean_loss(logp, out->tokens[x->domains]);
    }
    out->logp[x->domains] = logp;
    mde_release(c, all);
}

static mde_safetensor tensor_entry(const char *name, int rank, int64_t rows, int64_t columns, const float *data)
{
    mde_safetensor entry;
    memset(&entry, 0, sizeof entry);
    entry.name = name;
    entry.rank = rank;
    entry.shape[0] = rows;
    entry.shape[1] = columns;
    entry.count = (size_t)(rank == 2 ? rows * columns : rows);
    entry.data = data;
    return entry;
}

/* One file holds all that a run leaves. Nothing in it depends on time or machine. */
static void write_run(mde_context *c, const experiment *x, const task *which, const scores *e, int points,
                      const double *curve, const double *curve_tokens)
{
    mde_safetensor entries[MDE_MAX_DOMAINS + 4];
    const char *pairs[8];
    char *names[MDE_MAX_DOMAINS + 1], path[PROGRAM_PATH], content[17];
    mde_text *weights = weights_text(c, x->domains, which->weights);
    float *curve32 = (float *)mde_alloc(c, (size_t)points * 2 + 1, sizeof *curve32);
    int count = 0, i, v = validations(x);
    memset(names, 0, sizeof names);
    program_path(c, path, "%s/runs/%s.safetensors", x->out, which->name);
    for (i = 0; curve32 && i < points; i++) {
        curve32[i] = (float)curve_tokens[i];
        curve32[points + i] = (float)curve[i];
    }
    entries[count++] = tensor_entry("losses", 1, v, 0, e->losses);
    entries[count++] = tensor_entry("accuracy", 1, 1, 0, &e->accuracy);
    entries[count++] = tensor_entry("curve", 2, 2, points, curve32);
    for (i = 0; which->kind == EXPERT && i < v; i++) {
        size_t size = strlen(validation_name(x, i)) + 6;
        names[i] = (char *)mde_alloc(c, size, 1);
        if (!names[i]) break;
        snprintf(names[i], size, "logp.%s", validation_name(x, i));
        entries[count++] = tensor_entry(names[i], 1, (int64_t)e->tokens[i], 0, e->logp[i]);
    }
    if (!program_failed(c)) {
        pairs[0] = "plan";
        pairs[1] = x->fingerprint;
        pairs[2] = "task";
        pairs[3] = which->name;
        pairs[4] = "weights";
        pairs[5] = weights->bytes;
        pairs[6] = "content";
        pairs[7] = content;
        describe_content(c, count, entries, content);
        mde_safetensors_write(c, path, count, entries, 4, pairs);
    }
    for (i = 0; i < v; i++) mde_release(c, names[i]);
    mde_release(c, curve32);
    mde_text_free(weights);
}

static mde_status train_task(mde_context *c, const experiment *x, const mde_corpus *corpus, const task *which,
                             mde_progress_fn *progress, void *user)
{
    const lab_settings *s = &x->settings;
    mde_lm_desc shape = model_shape(x, which->size);
    mde_train_desc train;
    scores result;
    mde_lm *lm;
    char checkpoint[PROGRAM_PATH];
    int i, points;
    const double *curve, *curve_tokens;
    mde_status status = MDE_OUT_OF_MEMORY;
    memset(&train, 0, sizeof train);
    memset(&result, 0, sizeof result);
    train.tokens = s->tokens;
    train.batch = s->batch;
    train.learning_rate = s->learning_rate;
    train.weights = which->weights;
    train.seed = s->seed;
    train.checkpoint = program_path(c, checkpoint, "%s/runs/%s.checkpoint", x->out, which->name);
    train.progress = progress;
    train.user = user;
    program_check_checkpoint(c, "mde_lab", checkpoint);
    lm = mde_lm_create(c, corpus, &shape);
    if (lm) status = mde_lm_train(lm, corpus, &train);
    if (status == MDE_STOPPED) mde_fail(c, MDE_STOPPED, "%s: stopped", which->name);
    if (status == MDE_OK) {
        for (i = 0; i < x->domains && !program_failed(c); i++) score_domain(c, x, corpus, lm, i, &result);
        if (!program_failed(c)) score_end_task(c, x, lm, &result);
        for (i = 0; i < validations(x) && !program_failed(c); i++) {
            if ((double)result.losses[i] <= (double)FLT_MAX) continue;
            mde_fail(c, MDE_NOT_FINITE, "%s: its loss on %s is not finite; a smaller --lr may help", which->name,
                     validation_name(x, i));
        }
        curve = mde_lm_curve(lm, &points, &curve_tokens);
        if (!program_failed(c)) write_run(c, x, which, &result, points, curve, curve_tokens);
        if (!program_failed(c)) remove_checkpoint(c, checkpoint);
    }
    for (i = 0; i < validations(x); i++) mde_release(c, result.logp[i]);
    mde_lm_free(lm);
    return mde_context_status(c);
}

/* ---- Many training runs ---- */

/* Shared by the threads that train; touched inside the critical section only. */
typedef struct run_state {
    const experiment *x;
    int64_t done, skipped, total; /* steps: finished, finished earlier, of all tasks */
    double tokens_per_step, started, reported;
    int64_t reported_step;
    int stop;
} run_state;

typedef struct task_progress {
    run_state *run;
    const char *name;
    int64_t step; /* of the task so far */
} task_progress;

static int report_run(run_state *run, const char *stage, double loss, int byte_tokens)
{
    mde_progress p;
    double now = mde_seconds(), elapsed = now - run->started;
    double rate = elapsed > 0 ? (double)(run->done - run->skipped) / elapsed : 0;
    memset(&p, 0, sizeof p);
    p.stage = stage;
    p.step = run->done;
    p.steps = run->total;
    p.loss = loss;
    p.rate = rate * run->tokens_per_step;
    p.seconds_left = rate > 0 ? (double)(run->total - run->done) / rate : 0;
    p.bytes_tokens = byte_tokens;
    p.reported = run->reported_step;
    run->reported = now;
    run->reported_step = run->done;
    return run->x->progress ? run->x->progress(&p, run->x->user) : 0;
}

/* Called by the training loop after each step: adds it up over the tasks, and reports a few times a second. */
static int task_step(const mde_progress *p, void *user)
{
    task_progress *t = (task_progress *)user;
    run_state *run = t->run;
    int stop;
#ifdef _OPENMP
#pragma omp critical(lab_progress)
#endif
    {
        if (t->step == 0 && p->step > 1) run->skipped += p->step - 1;
        run->done += p->step - t->step;
        t->step = p->step;
        if (mde_seconds() - run->reported > 0.2 && report_run(run, t->name, p->loss, p->bytes_tokens)) run->stop = 1;
        stop = run->stop;
    }
    return stop;
}

/* One of the tasks, by a job with a context and data of its own. */
static void run_task(mde_context *c, const experiment *x, const mde_corpus *corpus, const task *which, run_state *run)
{
    task_progress t;
    t.run = run;
    t.name = which->name;
    t.step = 0;
    train_task(c, x, corpus, which, task_step, &t);
}

/* Trains the tasks of the list, as many at a time as there are threads. Each job has a context and the data of its own,
   so that nothing is shared; a job has one thread, since many small models at once use the cores better than one. */
static mde_status run_tasks(experiment *x, int count, const task *const *tasks)
{
    mde_context *c = x->context;
    run_state run;
    int jobs = count < mde_threads(c) ? count : mde_threads(c), i;
    double step_tokens = (double)x->settings.batch * x->settings.context;
    if (program_failed(c) || count == 0) return mde_context_status(c);
    memset(&run, 0, sizeof run);
    run.x = x;
    run.tokens_per_step = step_tokens;
    run.total = (int64_t)ceil((double)x->settings.tokens / step_tokens) * count;
    run.started = run.reported = mde_seconds();
    if (jobs <= 1) {
        for (i = 0; i < count && !program_failed(c); i++) run_task(c, x, x->corpus, tasks[i], &run);
    } else {
#ifdef _OPENMP
#pragma omp parallel num_threads(jobs)
#endif
        {
            mde_context_desc desc;
            mde_context *own;
            mde_corpus *corpus;
            int at;
            memset(&desc, 0, sizeof desc);
            desc.threads = 1;
            own = mde_context_create(&desc);
            corpus = open_data(own, x->out, &x->settings);
#ifdef _OPENMP
#pragma omp for schedule(dynamic, 1)
#endif
            for (at = 0; at < count; at++) {
                if (program_failed(own)) continue;
                run_task(own, x, corpus, tasks[at], &run);
                if (program_failed(own)) {
#ifdef _OPENMP
#pragma omp critical(lab_progress)
#endif
                    run.stop = 1;
                }
            }
            if (program_failed(own)) {
#ifdef _OPENMP
#pragma omp critical(lab_progress)
#endif
                {
                    /* A job that was only told to stop does not hide the reason of the one that failed. */
                    if (mde_context_status(c) == MDE_STOPPED) mde_clear_error(c);
                    mde_fail(c, mde_context_status(own), "%s", own ? mde_error(own) : "out of memory");
                }
            }
            mde_context_free(own);
        }
    }
    if (!program_failed(c)) report_run(&run, "train", (double)NAN, 0);
    return mde_context_status(c);
}

/* Those of the tasks that have no valid file yet. */
static mde_status run_pending(experiment *x, int count, const task *tasks)
{
    mde_context *c = x->context;
    const task **pending = (const task **)mde_alloc(c, (size_t)count + 1, sizeof *pending);
    int n = 0, i;
    for (i = 0; pending && i < count; i++) {
        if (!task_is_done(x, &tasks[i])) pending[n++] = &tasks[i];
    }
    if (pending) run_tasks(x, n, pending);
    if (pending && n == 0 && x->progress && !x->quiet) {
        fprintf(stderr, "train: %s%s\n", count > 1 ? "all runs are done" : tasks->name, count > 1 ? "" : " is done");
    }
    mde_release(c, (void *)pending);
    return mde_context_status(c);
}

/* ---- Tables of the finished runs ---- */

typedef struct tables {
    int k, v, n;                                                 /* domains, validation texts, proxies */
    double *weights;                                             /* [tasks, k] */
    double *losses;                                              /* [tasks, v] */
    double *accuracy;                                            /* [tasks] */
    double *features;                                            /* [tasks, v] mixture losses of the experts */
    const double *proxy_weights, *proxy_losses, *proxy_features; /* the last n rows */
    mde_safetensors **runs;                                      /* [tasks] */
    mde_experts *experts;
} tables;

static void tables_free(experiment *x, tables *t)
{
    mde_context *c = x->context;
    int i;
    for (i = 0; t->runs && i < x->own; i++) mde_safetensors_free(c, t->runs[i]);
    mde_release(c, (void *)t->runs);
    mde_release(c, t->weights);
    mde_release(c, t->losses);
    mde_release(c, t->accuracy);
    mde_release(c, t->features);
    mde_experts_free(t->experts);
}

/* The document of each predicted token of a validation text: its index in the split, or the question's number. */
static double *token_documents(experiment *x, int validation, size_t tokens)
{
    double *documents = (double *)mde_alloc(x->context, tokens + 1, sizeof *documents);
    int64_t i, at;
    size_t t = 0;
    if (!documents) return NULL;
    if (validation == x->domains) {
        for (t = 0; t < tokens; t++) documents[t] = (double)(t / (size_t)x->choice);
        return documents;
    }
    for (i = 0; i < x->window_count[validation]; i++) {
        const window *w = &x->windows[validation][i];
        for (at = 0; at < w->length && t < tokens; at++) documents[t++] = (double)w->document;
    }
    return documents;
}

/* Bytes of each predicted token. */
static double *token_bytes(experiment *x, int validation, size_t tokens)
{
    double *bytes = (double *)mde_alloc(x->context, tokens + 1, sizeof *bytes);
    const mde_tokenizer *tokenizer = mde_corpus_tokenizer(x->corpus);
    int64_t i, at, windows = validation < x->domains ? x->window_count[validation] : 0;
    size_t t = 0, count, length, half = (size_t)x->choice;
    const uint16_t *text = windows ? mde_corpus_tokens(x->corpus, MDE_VALIDATION, validation, &count) : x->questions;
    if (!bytes) return NULL;
    for (i = 0; i < windows; i++) {
        const window *w = &x->windows[validation][i];
        for (at = 1; at <= w->length && t < tokens; at++) {
            mde_tokenizer_token(tokenizer, text[w->start + at], &length);
            bytes[t++] = (double)length;
        }
    }
    for (; windows == 0 && t < tokens; t++) {
        mde_tokenizer_token(tokenizer, text[(t / half) * CHOICES * 2 * half + half + t % half], &length);
        bytes[t] = (double)length;
    }
    return bytes;
}

static void add_expert_table(experiment *x, tables *t, int validation)
{
    mde_context *c = x->context;
    const char *text = validation_name(x, validation);
    const float *logp[MDE_MAX_DOMAINS];
    double *documents;
    size_t tokens = (size_t)validation_tokens(x, validation);
    char name[PROGRAM_PATH];
    int e;
    program_path(c, name, "logp.%s", text);
    for (e = 0; e < t->k && !program_failed(c); e++) logp[e] = mde_safetensors_find(t->runs[e], name)->data;
    documents = token_documents(x, validation, tokens);
    /* without the bytes, by which numbers of unknown origin are judged: experts of few tokens may only guess */
    if (!program_failed(c)) mde_experts_add(t->experts, text, tokens, logp, documents, 0);
    mde_release(c, documents);
}

static mde_status load_tables(experiment *x, tables *t)
{
    mde_context *c = x->context;
    int i, j, first;
    const char *names[MDE_MAX_DOMAINS];
    memset(t, 0, sizeof *t);
    t->k = x->domains;
    t->v = validations(x);
    t->n = x->settings.proxies + x->further;
    first = x->own - t->n;
    t->weights = (double *)mde_alloc(c, (size_t)x->own * (size_t)t->k, sizeof *t->weights);
    t->losses = (double *)mde_alloc(c, (size_t)x->own * (size_t)t->v, sizeof *t->losses);
    t->features = (double *)mde_alloc(c, (size_t)x->own * (size_t)t->v, sizeof *t->features);
    t->accuracy = (double *)mde_alloc(c, (size_t)x->own, sizeof *t->accuracy);
    t->runs = (mde_safetensors **)mde_alloc(c, (size_t)x->own, sizeof *t->runs);
    for (i = 0; i < x->own && !program_failed(c); i++) {
        const mde_safetensor *losses;
        t->runs[i] = read_run(x, c, &x->tasks[i]);
        if (!t->runs[i]) {
            mde_fail(c, MDE_BAD_ARGUMENT, "%s: task %d (%s) is not finished; run it first", x->out, i,
                     x->tasks[i].name);
            break;
        }
        losses = mde_safetensors_find(t->runs[i], "losses");
        for (j = 0; j < t->k; j++) t->weights[i * t->k + j] = x->tasks[i].weights[j];
        for (j = 0; j < t->v; j++) t->losses[i * t->v + j] = (double)losses->data[j];
        t->accuracy[i] = (double)mde_safetensors_find(t->runs[i], "accuracy")->data[0];
    }
    for (i = 0; i < t->k; i++) names[i] = mde_corpus_name(x->corpus, i);
    if (!program_failed(c)) t->experts = mde_experts_create(c, t->k, names);
    for (i = 0; i < t->v && !program_failed(c); i++) add_expert_table(x, t, i);
    if (!program_failed(c)) mde_mixture_losses(t->experts, x->own, t->weights, t->features);
    if (!program_failed(c)) {
        t->proxy_weights = t->weights + first * t->k;
        t->proxy_losses = t->losses + first * t->v;
        t->proxy_features = t->features + first * t->v;
    }
    return mde_context_status(c);
}

/* NAME.csv and NAME.npy: a row a task. */
static void write_run_table(experiment *x, const char *name, int columns, const char *const *column_names,
                            const double *values)
{
    mde_context *c = x->context;
    mde_text *t = mde_text_create(c);
    char path[PROGRAM_PATH];
    int64_t shape[2];
    int i, j;
    mde_text_add(t, "run");
    for (j = 0; j < columns; j++) {
        mde_text_add(t, ",");
        mde_text_add_csv(t, column_names[j]);
    }
    mde_text_add(t, "\n");
    for (i = 0; i < x->own; i++) {
        mde_text_add_csv(t, x->tasks[i].name);
        for (j = 0; j < columns; j++) mde_text_format(t, ",%.9g", values[i * columns + j]);
        mde_text_add(t, "\n");
    }
    shape[0] = x->own;
    shape[1] = columns;
    program_path(c, path, "%s/%s.csv", x->out, name);
    if (!program_failed(c)) mde_text_write(t, path);
    program_path(c, path, "%s/%s.npy", x->out, name);
    if (!program_failed(c)) mde_npy_write_f64(c, path, 2, shape, values);
    mde_text_free(t);
}

/* logprobs/<validation>/<expert>.npy, doc.npy and bytes.npy: what mde_experts_open reads. */
static void write_logprobs(experiment *x, const tables *t, int validation)
{
    mde_context *c = x->context;
    const char *name = validation_name(x, validation);
    char path[PROGRAM_PATH], tensor[PROGRAM_PATH];
    size_t tokens = mde_experts_tokens(t->experts, validation);
    double *documents = token_documents(x, validation, tokens), *bytes = token_bytes(x, validation, tokens);
    int64_t shape = (int64_t)tokens;
    int e;
    program_path(c, path, "%s/logprobs/%s", x->out, name);
    program_path(c, tensor, "logp.%s", name);
    if (!program_failed(c)) mde_make_folder(c, path);
    for (e = 0; e < t->k && !program_failed(c); e++) {
        program_path(c, path, "%s/logprobs/%s/%s.npy", x->out, name, mde_corpus_name(x->corpus, e));
        mde_npy_write(c, path, 1, &shape, mde_safetensors_find(t->runs[e], tensor)->data);
    }
    program_path(c, path, "%s/logprobs/%s/doc.npy", x->out, name);
    if (!program_failed(c)) mde_npy_write_f64(c, path, 1, &shape, documents);
    program_path(c, path, "%s/logprobs/%s/bytes.npy", x->out, name);
    if (!program_failed(c)) mde_npy_write_f64(c, path, 1, &shape, bytes);
    mde_release(c, documents);
    mde_release(c, bytes);
}

static void write_curves(experiment *x, const tables *t)
{
    mde_text *text = mde_text_create(x->context);
    int i, p;
    mde_text_add(text, "run,tokens,training_loss\n");
    for (i = 0; i < x->own; i++) {
        const mde_safetensor *curve = mde_safetensors_find(t->runs[i], "curve");
        int points = (int)curve->shape[1];
        for (p = 0; p < points; p++) {
            mde_text_add_csv(text, x->tasks[i].name);
            mde_text_format(text, ",%.9g,%.9g\n", (double)curve->data[p], (double)curve->data[points + p]);
        }
    }
    program_write(x->context, text, x->out, "curves.csv");
    mde_text_free(text);
}

static void write_tables(experiment *x, const tables *t)
{
    mde_context *c = x->context;
    const char *domains[MDE_MAX_DOMAINS], *validations[MDE_MAX_DOMAINS + 2];
    double *values = (double *)mde_alloc(c, (size_t)x->own * (size_t)(t->v + 1), sizeof *values);
    int i, j;
    for (j = 0; j < t->k; j++) domains[j] = mde_corpus_name(x->corpus, j);
    for (j = 0; j < t->v; j++) validations[j] = validation_name(x, j);
    validations[t->v] = END_TASK "_accuracy";
    for (i = 0; values && i < x->own; i++) {
        for (j = 0; j < t->v; j++) values[i * (t->v + 1) + j] = t->losses[i * t->v + j];
        values[i * (t->v + 1) + t->v] = t->accuracy[i];
    }
    if (!program_failed(c)) write_run_table(x, "ratios", t->k, domains, t->weights);
    if (!program_failed(c)) write_run_table(x, "losses", t->v + 1, validations, values);
    if (!program_failed(c)) write_run_table(x, "features", t->v, validations, t->features);
    if (!program_failed(c)) write_curves(x, t);
    for (j = 0; j < t->v && !program_failed(c); j++) write_logprobs(x, t, j);
    mde_release(c, values);
}

/* sizes.csv: proxies and baselines of all sizes, as mix_optimize reads them. */
static void write_sizes(experiment *x)
{
    mde_context *c = x->context;
    mde_text *t = mde_text_create(c);
    int i, j;
    mde_text_add(t, "run,params,tokens");
    for (i = 0; i < x->domains; i++) {
        mde_text_add(t, ",weight_");
        mde_text_add_csv(t, mde_corpus_name(x->corpus, i));
    }
    for (j = 0; j < validations(x); j++) {
        mde_text_add(t, ",loss_");
        mde_text_add_csv(t, validation_name(x, j));
    }
    for (i = 0; i < x->count && !program_failed(c); i++) {
        const task *which = &x->tasks[i];
        mde_safetensors *run = which->kind == EXPERT ? NULL : read_run(x, c, which);
        if (which->kind == EXPERT) continue;
        if (!run) {
            mde_fail(c, MDE_BAD_ARGUMENT, "%s: task %d (%s) is not finished; run it first", x->out, i, which->name);
            break;
        }
        mde_text_format(t, "\n%s,%.0f,%lld", which->name, x->size[which->size].params, (long long)x->settings.tokens);
        for (j = 0; j < x->domains; j++) mde_text_format(t, ",%.9g", which->weights[j]);
        for (j = 0; j < validations(x); j++) {
            mde_text_format(t, ",%.9g", (double)mde_safetensors_find(run, "losses")->data[j]);
        }
        mde_safetensors_free(c, run);
    }
    mde_text_add(t, "\n");
    program_write(c, t, x->out, "sizes.csv");
    mde_text_free(t);
}

/* ---- Objectives ---- */

#define OBJECTIVES 3

static const char *const objective_names[OBJECTIVES] = { "average", "task", "both" };
static const char *const best_names[OBJECTIVES] = { "best-average", "best-task", "best-both" }; /* their mixtures */
/* Trained at the largest size: the mixture for it, and the one for the plan's own size. */
static const char *const transfer_names[2] = { "largest-by-law", "largest-by-own" };
static const char *const transfer_files[2] = { "runs/largest-by-law.safetensors", "runs/largest-by-own.safetensors" };

/* The plan's. */
static int objective_index(const experiment *x)
{
    int o = 0;
    while (o < OBJECTIVES - 1 && strcmp(objective_names[o], x->settings.objective) != 0) o++;
    return o;
}

/* Shares of the validation texts: the mean over the domains, the end task, half of each. */
static void objective_weights(int k, int objective, double *shares)
{
    int j;
    for (j = 0; j < k; j++) shares[j] = objective == 0 ? 1.0 / k : objective == 1 ? 0 : 0.5 / k;
    shares[k] = objective == 0 ? 0 : objective == 1 ? 1 : 0.5;
}

static double objective_value(int k, int objective, const double *losses)
{
    double shares[MDE_MAX_DOMAINS + 1], sum = 0;
    int j;
    objective_weights(k, objective, shares);
    for (j = 0; j <= k; j++) sum += shares[j] * losses[j];
    return sum;
}

/* ---- Regressions that are compared ---- */

typedef struct regression {
    const char *name;
    int fitted; /* 0: the experts' loss as it is */
    mde_model model;
    int features;
} regression;

#define REGRESSIONS 10
static const regression regressions[REGRESSIONS] = {
    { "weights, ridge", 1, MDE_RIDGE, MDE_FEATURE_RAW },
    { "log weights, ridge", 1, MDE_RIDGE, MDE_FEATURE_LOG },
    { "MDE loss, no fit", 0, MDE_RIDGE, 0 },
    { "own MDE loss, ridge", 1, MDE_RIDGE, MDE_FEATURE_OWN },
    { "log weights + MDE losses, ridge", 1, MDE_RIDGE, MDE_FEATURE_LOG | MDE_FEATURE_MDE },
    { "log weights + own MDE loss, ridge", 1, MDE_RIDGE, MDE_FEATURE_LOG | MDE_FEATURE_OWN },
    { "log weights, GP", 1, MDE_GP, MDE_FEATURE_LOG },
    { "log weights + own MDE loss, GP", 1, MDE_GP, MDE_FEATURE_LOG | MDE_FEATURE_OWN },
    { "log weights, multi-task GP", 1, MDE_MULTITASK_GP, MDE_FEATURE_LOG },
    { "stack of models", 1, MDE_STACK, 0 }
};

/* ---- Finding things ---- */

static const task *find_task(const experiment *x, const char *name)
{
    int i;
    for (i = 0; i < x->count; i++) {
        if (strcmp(x->tasks[i].name, name) == 0) return &x->tasks[i];
    }
    return NULL;
}

/* What an earlier step wrote; an error that names the step when it is not there. */
static mde_json *read_step(experiment *x, const char *name, const char *step)
{
    mde_context *c = x->context;
    char path[PROGRAM_PATH];
    if (program_failed(c)) return NULL;
    program_path(c, path, "%s/%s", x->out, name);
    if (mde_is_file(path)) return mde_json_read(c, path);
    mde_fail(c, MDE_IO, "%s: is not there; run `%s` first", path, step);
    return NULL;
}

#endif /* MDE_LAB_RUNS_H */
