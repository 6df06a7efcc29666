/* The study of mixtures of data experts: do the paper's claims hold, on real text, at equal cost? Plans the runs, makes
   them, one a core, and writes each one's row as soon as it is there; may be killed at any time and goes on from there.
     make data study-mde            rows go to bench/study, what can be made again to out/study-mde
     make study-tables              what the rows say: bench/STUDY-MDE.md
   Same settings and text give the same rows on every machine, so that several can add to one table. */
#define MDEDEF static /* what this program does not call is not compiled */
#define MDEMIX_IMPLEMENTATION
#include "../mdemix.h"
#include "../examples/program.h"
#include "study_mde.h"

/* ---- Settings ---- */

#define WINDOW 256       /* tokens that a model sees; a token is a byte */
#define ITEM 48          /* of a question with an answer; five of them fit into a window */
#define CHOICES 4        /* answers, the right one first */
#define MARKS 4          /* of an expert on the way: after 1/8, 1/4, 1/2 and all of its tokens */
#define CANDIDATES 20000 /* mixtures that RegMix's procedure looks at */
#define AVERAGED 128     /* and how many of the best it averages */

/* About 20 tokens a parameter (Hoffmann et al. 2022), but for the last. */
typedef struct model_size {
    const char *name;
    int layers, width, heads;
    double tokens, learning_rate;
} model_size;

static const model_size sizes[4] = { { "S", 3, 64, 4, 3.3e6, 4e-3 }, /* of the tables: 0.17 M parameters */
                                     { "narrow", 3, 32, 4, 3.3e6, 5e-3 },
                                     { "M", 3, 96, 4, 7.1e6, 3.5e-3 },   /* 0.36 M */
                                     { "L", 4, 128, 4, 8.4e6, 3e-3 } };  /* 0.84 M, 10 tokens a parameter */

static const int answer_lengths[TASKS] = { 16, 16, 16, 8 };

typedef struct study_settings {
    double scale;             /* of all numbers below, for trying it out */
    int windows;              /* of each validation text */
    int questions;            /* of each task */
    int fit, within, outside; /* mixtures to fit to and, of the same law and of another one, to judge by */
    int repeats, seeds, transferred;
} study_settings;

static int scaled(double scale, int count, int minimum)
{
    int value = (int)(scale * count + 0.5);
    return value < minimum ? minimum : value;
}

static study_settings make_settings(double scale)
{
    study_settings s;
    s.scale = scale;
    s.windows = scaled(scale, 48, 4);
    s.questions = scaled(scale, 100, 8);
    s.fit = scaled(scale, 48, 12);
    s.within = s.outside = s.fit / 2;
    s.repeats = scaled(scale, 6, 2);
    s.seeds = scaled(scale, 5, 1);
    s.transferred = scaled(scale, 6, 1);
    return s;
}

/* ---- Text and questions ---- */

typedef struct study_text {
    uint16_t *windows[TEXTS]; /* [windows, WINDOW + 1] */
    uint16_t *items[TASKS];   /* [questions, CHOICES, ITEM] */
    uint64_t hash;
} study_text;

/* A domain as one text, cut to `limit` bytes: of every 64 KB the first part. */
static char *read_domain(mde_context *c, const char *data, const char *name, size_t limit, size_t *length)
{
    const size_t block = 65536;
    char folder[PROGRAM_PATH], path[PROGRAM_PATH];
    mde_text *t = mde_text_create(c);
    mde_names files;
    char *text;
    size_t size, kept = 0, at, part;
    int i;
    memset(&files, 0, sizeof files);
    program_path(c, folder, "%s/%s", data, name);
    if (!program_failed(c) && !mde_is_folder(folder)) {
        mde_fail(c, MDE_IO, "%s: is not there; `make data` fetches it", folder);
    }
    if (!program_failed(c)) mde_folder_list(c, folder, &files);
    for (i = 0; i < files.count && !program_failed(c); i++) {
        unsigned char *bytes;
        program_path(c, path, "%s/%s", folder, files.items[i]);
        bytes = mde_file_read(c, path, (size_t)1 << 28, &size);
        if (bytes) mde_text_add(t, (const char *)bytes);
        mde_release(c, bytes);
    }
    mde_names_free(c, &files);
    text = program_failed(c) ? NULL : (char *)mde_alloc(c, t->length + 1, 1);
    for (at = 0; text && at < t->length; at += block) {
        size = t->length - at < block ? t->length - at : block;
        part = t->length <= limit ? size : (size_t)((double)size * (double)limit / (double)t->length);
        memcpy(text + kept, t->bytes + at, part);
        kept += part;
    }
    mde_text_free(t);
    *length = kept;
    return text;
}

static mde_corpus *open_corpus(mde_context *c, const char *data)
{
    mde_corpus_desc desc;
    mde_corpus *corpus = NULL;
    char *texts[TEXTS];
    size_t lengths[TEXTS];
    int i;
    memset(&desc, 0, sizeof desc);
    for (i = 0; i < TEXTS; i++) texts[i] = read_domain(c, data, text_names[i], text_bytes[i], &lengths[i]);
    if (!program_failed(c)) {
        corpus = mde_corpus_from_texts(c, TEXTS, text_names, (const char *const *)texts, lengths, &desc);
    }
    for (i = 0; i < TEXTS; i++) mde_release(c, texts[i]);
    return corpus;
}

static int is_word(int byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           byte == '_' || byte == '$';
}

static int begins(const uint16_t *tokens, const char *text)
{
    while (*text && *tokens == (unsigned char)*text) tokens++, text++;
    return *text == 0;
}

/* Whether an answer to a task can begin at position p, with ITEM bytes on either side. */
static int is_answer(int task, const uint16_t *tokens, size_t p)
{
    const uint16_t *at = tokens + p, *end = at + answer_lengths[task];
    const uint16_t *back = at - 1;
    if (task == 0) return p % 97 == 0;
    if (task == 1) { /* the end of a definition, before its source in brackets on a line of its own */
        if (end[-1] != '.' || end[0] != '\n') return 0;
        for (; at < end - 1; at++) {
            if (!(*at >= 'a' && *at <= 'z') && !(*at == ' ' && at[1] != ' ') && *at != ',') return 0;
        }
        for (end++; *end == ' '; end++) {
        }
        return begins(end, "[1913 Webster]");
    }
    if (task == 2) { /* the beginning of a verse, after its number at the beginning of a line */
        if (*back-- != ' ') return 0;
        while ((*back >= '0' && *back <= '9') || *back == ':') back--;
        if (back[1] == ' ' || !((*back >= 'a' && *back <= 'z') || (*back >= 'A' && *back <= 'Z'))) return 0;
        while (is_word(*back)) back--;
        return *back == '\n';
    }
    if (begins(at, "function") || begins(at, "continue")) return 0;
    for (; at < end; at++) { /* a name of just that length */
        if (!is_word(*at)) return 0;
    }
    return !is_word(*back) && !is_word(*end) && !(tokens[p] >= '0' && tokens[p] <= '9');
}

/* Positions of a domain's test split where answers begin, in random order. */
static int64_t *find_answers(mde_context *c, const mde_corpus *corpus, int task, int domain, int64_t *found)
{
    size_t count, p, i, before = (size_t)(ITEM - answer_lengths[task]);
    const uint16_t *tokens = mde_corpus_tokens(corpus, MDE_TEST, domain, &count);
    int64_t *all = (int64_t *)mde_alloc(c, count + 1, sizeof *all);
    int64_t *order = (int64_t *)mde_alloc(c, count + 1, sizeof *order), n = 0;
    mde_random random = mde_random_start(1, (uint64_t)(100 * task + domain));
    for (p = ITEM; order && p + 2 * ITEM < count; p++) {
        if (!is_answer(task, tokens, p)) continue;
        for (i = p - before; i < p - before + ITEM && tokens[i]; i++) {
        } /* all in one document */
        if (i == p - before + ITEM) all[n++] = (int64_t)p;
    }
    if (order) mde_random_permutation(&random, n, order);
    for (i = 0; order && i < (size_t)n; i++) order[i] = all[order[i]];
    mde_release(c, all);
    *found = n;
    return order;
}

/* The wrong answers are right ones of other questions, from the same domain, so that knowing the kind of text does not
   help. */
static void make_items(mde_context *c, const mde_corpus *corpus, int task, int questions, uint16_t *items)
{
    static const int first[TASKS] = { DOMAINS, DOMAINS + 1, DOMAINS, DOMAINS + 2 };
    int domains = task == 0 ? UNSEEN : 1, length = answer_lengths[task], d, q, a;
    for (d = 0; d < domains && !program_failed(c); d++) {
        size_t count;
        const uint16_t *tokens = mde_corpus_tokens(corpus, MDE_TEST, first[task] + d, &count);
        int64_t found, *at = find_answers(c, corpus, task, first[task] + d, &found);
        mde_random random = mde_random_start(2, (uint64_t)(100 * task + d));
        if (at && found < questions / domains + 8) {
            mde_fail(c, MDE_BAD_FILE, "domain %s: its test split has %lld places for task %s; %d questions need more",
                     text_names[first[task] + d], (long long)found, task_names[task], questions);
        }
        for (q = d; q < questions && !program_failed(c); q += domains) {
            uint16_t *item = items + q * CHOICES * ITEM;
            const uint16_t *right = tokens + at[q / domains];
            for (a = 0; a < CHOICES; a++) {
                const uint16_t *answer = right;
                int tries, b = a;
                for (tries = 0; b > 0 && tries < 1000; tries++) { /* another text than the answers before it */
                    answer = tokens + at[mde_random_below(&random, (uint64_t)found)];
                    for (b = a; b > 0; b--) {
                        const uint16_t *other = item + b * ITEM - length;
                        if (memcmp(other, answer, (size_t)length * sizeof *answer) == 0) break;
                    }
                    if (b == 0) break;
                    b = a;
                }
                if (b > 0) mde_fail(c, MDE_BAD_FILE, "task %s: its answers are all alike", task_names[task]);
                memcpy(item + a * ITEM, right - (ITEM - length), (size_t)(ITEM - length) * sizeof *item);
                memcpy(item + (a + 1) * ITEM - length, answer, (size_t)length * sizeof *item);
            }
        }
        mde_release(c, at);
    }
}

static void make_text(mde_context *c, const mde_corpus *corpus, const study_settings *s, study_text *out)
{
    int i, w;
    memset(out, 0, sizeof *out);
    out->hash = mde_corpus_hash(corpus);
    for (i = 0; i < TEXTS && !program_failed(c); i++) {
        size_t count, room, length = WINDOW + 1;
        const uint16_t *tokens = mde_corpus_tokens(corpus, MDE_VALIDATION, i, &count);
        out->windows[i] = (uint16_t *)mde_alloc(c, (size_t)s->windows, length * sizeof **out->windows);
        if (count < length) {
            mde_fail(c, MDE_BAD_FILE, "domain %s: its validation split has %zu bytes; a window is %zu", text_names[i],
                     count, length);
        }
        room = program_failed(c) ? 0 : count - length;
        for (w = 0; w < s->windows && !program_failed(c); w++) {
            memcpy(out->windows[i] + (size_t)w * length, tokens + room * (size_t)w / (size_t)(s->windows - 1),
                   length * sizeof *tokens);
        }
    }
    for (i = 0; i < TASKS && !program_failed(c); i++) {
        out->items[i] = (uint16_t *)mde_alloc(c, (size_t)s->questions, CHOICES * ITEM * sizeof **out->items);
        if (out->items[i]) make_items(c, corpus, i, s->questions, out->items[i]);
    }
}

/* ---- Scoring ---- */

/* Log-probabilities of what a target's tokens are: of a text all but the first of each window, of a task all but the
   first of each question with its right answer. */
static int sequence_count(const study_settings *s, int target)
{
    return target < TEXTS ? s->windows : s->questions;
}

static int sequence_length(int target)
{
    return target < TEXTS ? WINDOW : ITEM - 1;
}

/* Of a sequence the tokens that count, at its end. */
static int counted_length(int target)
{
    return target < TEXTS ? WINDOW : answer_lengths[target - TEXTS];
}

typedef struct scores {
    double values[COLUMNS];
    float *logp[TARGETS]; /* [sequences, sequence_length] */
} scores;

static double mean_loss(const study_settings *s, int target, const float *logp)
{
    int length = sequence_length(target), counted = counted_length(target), i, t;
    double sum = 0;
    for (i = 0; i < sequence_count(s, target); i++) {
        for (t = length - counted; t < length; t++) sum -= (double)logp[i * length + t];
    }
    return sum / ((double)sequence_count(s, target) * counted);
}

static void score_text(mde_lm *lm, mde_context *c, const study_settings *s, const study_text *text, int target,
                       scores *out)
{
    int length = WINDOW + 1, w;
    float *all = (float *)mde_alloc(c, (size_t)(s->windows * length), sizeof *all);
    float *logp = out->logp[target] = (float *)mde_alloc(c, (size_t)(s->windows * WINDOW), sizeof *logp);
    if (logp && mde_lm_logprobs_batch(lm, text->windows[target], s->windows, length, all) == MDE_OK) {
        for (w = 0; w < s->windows; w++) memcpy(logp + w * WINDOW, all + w * length + 1, WINDOW * sizeof *logp);
        out->values[target] = mean_loss(s, target, logp);
    }
    mde_release(c, all);
}

/* Questions of a task after so many others with their right answers. */
static void score_task(mde_lm *lm, mde_context *c, const study_settings *s, const study_text *text, int task, int shots,
                       scores *out)
{
    int before = shot_counts[shots] * (ITEM + 1), length = before + ITEM, answer = answer_lengths[task], q, a, i, t;
    int column = TEXTS + shots * TASKS + task, sequences = s->questions * CHOICES, right = 0;
    uint16_t *tokens = (uint16_t *)mde_alloc(c, (size_t)(sequences * length), sizeof *tokens);
    float *all = (float *)mde_alloc(c, (size_t)(sequences * length), sizeof *all);
    float *logp = (float *)mde_alloc(c, (size_t)(s->questions * (ITEM - 1)), sizeof *logp);
    for (q = 0; q < s->questions && logp; q++) {
        for (a = 0; a < CHOICES; a++) {
            uint16_t *sequence = tokens + (q * CHOICES + a) * length;
            for (i = 0; i < shot_counts[shots]; i++, sequence += ITEM + 1) {
                int other = (q + 1 + i) % s->questions;
                memcpy(sequence, text->items[task] + other * CHOICES * ITEM, ITEM * sizeof *tokens);
                sequence[ITEM] = '\n';
            }
            memcpy(sequence, text->items[task] + (q * CHOICES + a) * ITEM, ITEM * sizeof *tokens);
        }
    }
    if (logp && mde_lm_logprobs_batch(lm, tokens, sequences, length, all) == MDE_OK) {
        for (q = 0; q < s->questions; q++) {
            double sums[CHOICES] = { 0 };
            int wins = 1;
            for (a = 0; a < CHOICES; a++) {
                const float *end = all + (q * CHOICES + a + 1) * length;
                for (t = 1; t <= answer; t++) sums[a] += (double)end[-t];
                if (a > 0 && !(sums[0] > sums[a])) wins = 0;
            }
            right += wins;
            memcpy(logp + q * (ITEM - 1), all + q * CHOICES * length + before + 1, (ITEM - 1) * sizeof *logp);
        }
        out->values[column] = mean_loss(s, TEXTS + task, logp);
        out->values[LOSSES + shots * TASKS + task] = (double)right / s->questions;
    }
    if (shots == 0) out->logp[TEXTS + task] = logp;
    else mde_release(c, logp);
    mde_release(c, tokens);
    mde_release(c, all);
}

/* The texts, and the tasks at the first `counts` of the shot counts: 1 is all that is predicted. */
static void score_all(mde_lm *lm, mde_context *c, const study_settings *s, const study_text *text, int counts,
                      scores *out)
{
    int i, shots;
    memset(out, 0, sizeof *out);
    for (i = 0; i < TEXTS && !program_failed(c); i++) score_text(lm, c, s, text, i, out);
    for (shots = 0; shots < counts; shots++) {
        for (i = 0; i < TASKS && !program_failed(c); i++) score_task(lm, c, s, text, i, shots, out);
    }
    for (i = 0; i < LOSSES && !program_failed(c); i++) {
        if (isfinite(out->values[i])) continue;
        mde_fail(c, MDE_NOT_FINITE, "loss %d is not finite", i);
    }
}

static void scores_free(mde_context *c, scores *x)
{
    int i;
    for (i = 0; i < TARGETS; i++) mde_release(c, x->logp[i]);
}

/* ---- One run ---- */

/* Computes one thing at a time, with a context of its own. */
typedef struct worker {
    mde_context *context;
    mde_corpus *corpus;
} worker;

typedef struct lab {
    mde_context *context;
    study_rows study;
    study_settings settings;
    study_text text;
    const char *data, *work;
    char key[17]; /* of the settings and the text */
    int limit;    /* of runs to make now */
    int jobs;     /* things at a time */
    worker *workers;
} lab;

/* Which worker a parallel loop's thread is. */
static int worker_number(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

/* What a worker failed at, at which all stop, says more than that they were stopped. */
static void pass_error(mde_context *c, const worker *w, const char *name)
{
    if (!program_failed(w->context)) return;
    if (mde_context_status(c) == MDE_STOPPED) mde_clear_error(c);
    mde_fail(c, mde_context_status(w->context), "%s: %s", name, mde_error(w->context));
}

static void target_name(int target, char name[48])
{
    column_name(target, name);
}

static void expert_path(mde_context *c, const lab *x, const char *name, int mark, char path[PROGRAM_PATH])
{
    static const char *const endings[MARKS] = { ".1of8", ".1of4", ".1of2", "" };
    program_path(c, path, "%s/%s%s.safetensors", x->work, name, endings[mark]);
}

static void write_expert(mde_context *c, const lab *x, const char *name, int mark, const scores *result)
{
    char path[PROGRAM_PATH], names[TARGETS][48];
    const char *pairs[2] = { "study", x->key };
    mde_safetensor entries[TARGETS];
    int i;
    memset(entries, 0, sizeof entries);
    for (i = 0; i < TARGETS; i++) {
        target_name(i, names[i]);
        entries[i].name = names[i];
        entries[i].rank = 1;
        entries[i].count = (size_t)(sequence_count(&x->settings, i) * sequence_length(i));
        entries[i].shape[0] = (int64_t)entries[i].count;
        entries[i].data = result->logp[i];
    }
    expert_path(c, x, name, mark, path);
    if (!program_failed(c)) mde_safetensors_write(c, path, TARGETS, entries, 1, pairs);
}

/* NULL, without an error, where there is none of this study. */
static mde_safetensors *read_file(mde_context *c, const lab *x, const char *path)
{
    mde_safetensors *file = NULL;
    const char *key;
    if (!program_failed(c) && mde_is_file(path)) file = mde_safetensors_read(c, path);
    if (!file && mde_context_status(c) == MDE_BAD_FILE) mde_clear_error(c);
    if (!file) return NULL;
    key = mde_safetensors_metadata(file, "study");
    if (key && strcmp(key, x->key) == 0) return file;
    mde_safetensors_free(c, file);
    return NULL;
}

/* Likewise. */
static mde_safetensors *read_expert(mde_context *c, const lab *x, const char *name, int mark)
{
    char path[PROGRAM_PATH], tensor[48];
    mde_safetensors *file;
    int i, whole = 1;
    expert_path(c, x, name, mark, path);
    file = read_file(c, x, path);
    for (i = 0; i < TARGETS && file && whole; i++) {
        const mde_safetensor *t;
        target_name(i, tensor);
        t = mde_safetensors_find(file, tensor);
        whole = t && t->count == (size_t)(sequence_count(&x->settings, i) * sequence_length(i));
    }
    if (whole) return file;
    mde_safetensors_free(c, file);
    return NULL;
}

/* Whether an expert is read on the way, too. */
static int has_marks(const study_run *r)
{
    return is_kind(r, "expert") && r->share == 1 && strcmp(r->size, "S") == 0;
}

static int expert_is_there(const lab *x, const study_run *r)
{
    int mark;
    for (mark = has_marks(r) ? 0 : MARKS - 1; mark < MARKS; mark++) {
        mde_safetensors *file = read_expert(x->context, x, r->name, mark);
        if (!file) return 0;
        mde_safetensors_free(x->context, file);
    }
    return 1;
}

/* ---- Models, for experts that are merged by averaging their parameters ---- */

/* Whether a run's parameters are needed after it. */
static int has_model(const study_run *r)
{
    return has_marks(r) || is_kind(r, "start") || is_kind(r, "branch");
}

static void model_path(mde_context *c, const lab *x, const char *name, char path[PROGRAM_PATH])
{
    program_path(c, path, "%s/%s.model.safetensors", x->work, name);
}

static void write_model(mde_context *c, const lab *x, const char *name, const mde_lm *lm)
{
    char path[PROGRAM_PATH];
    const char *pairs[2] = { "study", x->key };
    model_path(c, x, name, path);
    if (!program_failed(c)) mde_params_write(mde_lm_params(lm), path, 1, pairs);
}

/* NULL, without an error, where there is none of this study. */
static mde_safetensors *read_model(mde_context *c, const lab *x, const char *name)
{
    char path[PROGRAM_PATH];
    model_path(c, x, name, path);
    return read_file(c, x, path);
}

static int model_is_there(const lab *x, const char *name)
{
    mde_safetensors *file = read_model(x->context, x, name);
    mde_safetensors_free(x->context, file);
    return file != NULL;
}

static mde_lm *create_model(mde_context *c, const mde_corpus *corpus, const model_size *size, int seed)
{
    mde_lm_desc shape;
    memset(&shape, 0, sizeof shape);
    shape.layers = size->layers;
    shape.width = size->width;
    shape.heads = size->heads;
    shape.context = WINDOW;
    shape.seed = (uint64_t)seed;
    return mde_lm_create(c, corpus, &shape);
}

/* A model's parameters become the mean of those in files, by weights that sum to 1. */
static void set_mean(mde_lm *lm, mde_context *c, int count, mde_safetensors *const *files, const double *weights)
{
    const mde_params *p = mde_lm_params(lm);
    int i, k;
    size_t j;
    for (k = 0; k < mde_params_count(p) && !program_failed(c); k++) {
        mde_tensor *to = mde_params_tensor(p, k);
        const float *from[DOMAINS];
        for (i = 0; i < count && !program_failed(c); i++) {
            const mde_safetensor *t = mde_safetensors_find(files[i], mde_params_name(p, k));
            if (t && t->count == to->count) from[i] = t->data;
            else mde_fail(c, MDE_BAD_FILE, "a model's file: parameter %s does not fit", mde_params_name(p, k));
        }
        for (j = 0; j < to->count && !program_failed(c); j++) {
            double sum = 0;
            for (i = 0; i < count; i++) sum += weights[i] * (double)from[i][j];
            to->data[j] = (float)sum; /* rounded once */
        }
    }
}

/* A branch's parameters begin as those of the start. */
static void begin_branch(mde_lm *lm, mde_context *c, const lab *x)
{
    const double one = 1;
    mde_safetensors *file = read_model(c, x, "start");
    if (!file) mde_fail(c, MDE_IO, "the model of the start is gone; called again, the study makes it anew");
    if (file) set_mean(lm, c, 1, &file, &one);
    mde_safetensors_free(c, file);
}

/* ---- Training ---- */

typedef struct watch {
    const lab *x;
    mde_context *context;
    mde_lm *lm;
    const study_run *run;
} watch;

/* Scores an expert on the way, before the step's checkpoint, so that a run that goes on from one has no gap. */
static int on_step(const mde_progress *p, void *user)
{
    const watch *w = (const watch *)user;
    int mark;
    for (mark = 0; mark < MARKS - 1 && has_marks(w->run); mark++) {
        scores result;
        int64_t step = p->steps >> (MARKS - 1 - mark);
        if (p->step != (step > 0 ? step : 1)) continue;
        score_all(w->lm, w->context, &w->x->settings, &w->x->text, SHOTS, &result);
        if (!program_failed(w->context)) write_expert(w->context, w->x, w->run->name, mark, &result);
        scores_free(w->context, &result);
    }
    return program_interrupted || program_failed(w->context);
}

static const model_size *find_size(mde_context *c, const study_run *r)
{
    int i;
    for (i = 0; i < 4; i++) {
        if (strcmp(sizes[i].name, r->size) == 0) return &sizes[i];
    }
    mde_fail(c, MDE_BAD_FILE, "plan.csv: run %s has size %s, which is not known", r->name, r->size);
    return NULL;
}

/* Trains and scores; what it finds goes to r, but whether it is finished. */
static void make_run(mde_context *c, const lab *x, const mde_corpus *corpus, study_run *r)
{
    const model_size *size = find_size(c, r);
    char checkpoint[PROGRAM_PATH];
    double weights[TEXTS] = { 0 }, sum = 0, begun = mde_seconds();
    mde_train_desc train;
    scores result;
    watch w;
    mde_status status;
    int i;
    memset(&train, 0, sizeof train);
    if (!size) return;
    for (i = 0; i < DOMAINS; i++) sum += r->weights[i];
    for (i = 0; i < DOMAINS; i++) weights[i] = r->weights[i] / sum;
    train.tokens = (int64_t)(size->tokens * r->share * x->settings.scale);
    train.batch = 8;
    train.learning_rate = size->learning_rate;
    train.weights = weights;
    train.seed = (uint64_t)r->seed;
    train.checkpoint = program_path(c, checkpoint, "%s/%s.checkpoint", x->work, r->name);
    train.progress = on_step;
    train.user = &w;
    w.x = x;
    w.context = c;
    w.run = r;
    w.lm = create_model(c, corpus, size, r->seed);
    if (w.lm && is_kind(r, "branch")) begin_branch(w.lm, c, x); /* its checkpoint, if there, comes after */
    status = w.lm ? mde_lm_train(w.lm, corpus, &train) : MDE_OUT_OF_MEMORY;
    if (status == MDE_STOPPED) mde_fail(c, MDE_STOPPED, "%s: stopped", r->name);
    memset(&result, 0, sizeof result);
    if (!program_failed(c)) score_all(w.lm, c, &x->settings, &x->text, SHOTS, &result);
    if (!program_failed(c) && is_kind(r, "expert")) write_expert(c, x, r->name, MARKS - 1, &result);
    if (!program_failed(c) && has_model(r)) write_model(c, x, r->name, w.lm);
    memcpy(r->values, result.values, sizeof r->values);
    r->seconds = mde_seconds() - begun;
    scores_free(c, &result);
    mde_lm_free(w.lm);
}

/* ---- Tables ---- */

/* Adds rows to a table of the study, all at once; a new one begins with the header. A row whose first cells, so many as
   name it, are there already is left out: another process may have made it. */
static void add_rows(lab *x, const char *name, const mde_text *header, const mde_text *rows, int cells)
{
    mde_context *c = x->context;
    char path[PROGRAM_PATH], key[200], row[2000];
    const char *at, *end;
    mde_text *all = mde_text_create(c);
    unsigned char *there = NULL;
    size_t size = 0;
    int i;
    program_path(c, path, "%s/%s", x->study.folder, name);
    if (!program_failed(c) && mde_is_file(path)) there = mde_file_read(c, path, (size_t)1 << 28, &size);
    mde_text_add(all, there ? (const char *)there : program_failed(c) ? "" : header->bytes);
    for (at = program_failed(c) ? "" : rows->bytes; *at; at = strchr(at, '\n') + 1) {
        for (end = at, i = 0; i < cells; i++) end = strchr(end, ',') + 1;
        snprintf(key, sizeof key, "\n%.*s", (int)(end - at), at);
        if (!there || !strstr((const char *)there, key)) {
            snprintf(row, sizeof row, "%.*s", (int)(strchr(at, '\n') + 1 - at), at);
            mde_text_add(all, row);
        }
    }
    if (!program_failed(c) && (!there || all->length > size)) mde_text_write(all, path);
    mde_release(c, there);
    mde_text_free(all);
}

static void add_names(mde_text *t, int columns)
{
    char name[48];
    int i;
    for (i = 0; i < columns; i++) {
        column_name(i, name);
        mde_text_format(t, ",%s", name);
    }
}

static void add_result(lab *x, const study_run *r)
{
    mde_text *header = mde_text_create(x->context), *row = mde_text_create(x->context);
    int i;
    mde_text_add(header, "run");
    add_names(header, COLUMNS);
    mde_text_add(header, ",seconds\n");
    mde_text_add(row, r->name);
    for (i = 0; i < COLUMNS; i++) mde_text_format(row, i < LOSSES ? ",%.6f" : ",%.4g", r->values[i]);
    mde_text_format(row, ",%.1f\n", r->seconds);
    add_rows(x, "runs.csv", header, row, 1);
    mde_text_free(header);
    mde_text_free(row);
}

/* A row of the plan; the weights as they will be read again. */
static void plan_row(mde_text *t, const char *name, const char *kind, const char *size, double share, int seed,
                     const double *weights)
{
    int i;
    mde_text_format(t, "%s,%s,%s,%.9g,%d", name, kind, size, share, seed);
    for (i = 0; i < DOMAINS; i++) mde_text_format(t, ",%.9g", weights[i]);
    mde_text_add(t, "\n");
}

static void add_plan(lab *x, const mde_text *rows)
{
    mde_text *header = mde_text_create(x->context);
    int i;
    mde_text_add(header, "run,kind,size,share,seed");
    for (i = 0; i < DOMAINS; i++) mde_text_format(header, ",%s", text_names[i]);
    mde_text_add(header, "\n");
    add_rows(x, "plan.csv", header, rows, 1);
    mde_text_free(header);
}

/* ---- Plan ---- */

static void proportional(double *weights)
{
    double sum = 0;
    int i;
    for (i = 0; i < DOMAINS; i++) sum += (double)text_bytes[i];
    for (i = 0; i < DOMAINS; i++) weights[i] = (double)text_bytes[i] / sum;
}

/* Another law than that of the proxies: two or three domains, in any ratio. */
static void sparse_mixture(mde_random *r, double *weights)
{
    double ones[3] = { 1, 1, 1 }, few[3];
    int64_t order[DOMAINS];
    int count = 2 + (int)mde_random_below(r, 2), i;
    mde_random_permutation(r, DOMAINS, order);
    mde_random_dirichlet(r, count, ones, few);
    memset(weights, 0, DOMAINS * sizeof *weights);
    for (i = 0; i < count; i++) weights[order[i]] = few[i];
}

static void plan_experts(mde_text *t, const char *kind, const char *ending, const char *size, double share, int seed)
{
    char name[64];
    int i, j;
    for (i = 0; i < DOMAINS; i++) {
        double weights[DOMAINS];
        for (j = 0; j < DOMAINS; j++) weights[j] = i == j;
        snprintf(name, sizeof name, "%s-%s%s", kind, text_names[i], ending);
        plan_row(t, name, kind, size, share, seed, weights);
    }
}

/* What can be planned before any result is there, in the order in which it is wanted; the order of larger sizes is
   behind all others. What a plan lacks of it is added. */
static void make_plan(lab *x)
{
    const study_settings *s = &x->settings;
    mde_text *t = mde_text_create(x->context);
    double weights[DOMAINS], equal[DOMAINS], share[DOMAINS];
    char name[64];
    int i, size;
    for (i = 0; i < DOMAINS; i++) equal[i] = 1.0 / DOMAINS;
    proportional(share);
    plan_experts(t, "expert", "", "S", 1, 1);
    plan_row(t, "uniform-1", "baseline", "S", 1, 1, equal);
    plan_row(t, "proportional-1", "baseline", "S", 1, 1, share);
    for (i = 0; i < s->fit; i++) {
        mde_random r = mde_random_start(11, (uint64_t)i);
        mde_random_mixture(&r, DOMAINS, weights);
        snprintf(name, sizeof name, "fit-%02d", i + 1);
        plan_row(t, name, "fit", "S", 1, 1, weights);
        if (i % 2 == 0 || i / 2 >= s->within) continue;
        r = mde_random_start(12, (uint64_t)(i / 2));
        mde_random_mixture(&r, DOMAINS, weights);
        snprintf(name, sizeof name, "within-%02d", i / 2 + 1);
        plan_row(t, name, "within", "S", 1, 1, weights);
        r = mde_random_start(13, (uint64_t)(i / 2));
        sparse_mixture(&r, weights);
        snprintf(name, sizeof name, "outside-%02d", i / 2 + 1);
        plan_row(t, name, "outside", "S", 1, 1, weights);
    }
    for (i = 0; i < s->repeats; i++) { /* the first proxies again, with another start and other windows */
        mde_random r = mde_random_start(11, (uint64_t)i);
        mde_random_mixture(&r, DOMAINS, weights);
        snprintf(name, sizeof name, "repeat-%02d", i + 1);
        plan_row(t, name, "repeat", "S", 1, 2, weights);
    }
    plan_experts(t, "expert", "-half", "S", 0.5, 1);
    plan_experts(t, "expert", "-quarter", "S", 0.25, 1);
    plan_experts(t, "expert", "-eighth", "S", 0.125, 1);
    plan_experts(t, "expert", "-narrow", "narrow", 1, 1);
    /* Branches begin with the start's parameters; their seed gives them other windows than the start had. */
    plan_row(t, "start", "start", "S", 0.25, 1, equal);
    plan_experts(t, "branch", "", "S", 0.75, 2);
    for (i = 2; i <= s->seeds; i++) {
        snprintf(name, sizeof name, "uniform-%d", i);
        plan_row(t, name, "baseline", "S", 1, i, equal);
        snprintf(name, sizeof name, "proportional-%d", i);
        plan_row(t, name, "baseline", "S", 1, i, share);
    }
    for (size = 2; size < 4; size++) {
        snprintf(name, sizeof name, "uniform-%s", sizes[size].name);
        plan_row(t, name, "transfer", sizes[size].name, 1, 1, equal);
        snprintf(name, sizeof name, "proportional-%s", sizes[size].name);
        plan_row(t, name, "transfer", sizes[size].name, 1, 1, share);
        for (i = 0; i < (size == 2 ? s->transferred : (2 * s->transferred + 2) / 3); i++) { /* L: some minutes each */
            mde_random r = mde_random_start(12, (uint64_t)i);
            mde_random_mixture(&r, DOMAINS, weights);
            snprintf(name, sizeof name, "within-%02d-%s", i + 1, sizes[size].name);
            plan_row(t, name, "transfer", sizes[size].name, 1, 1, weights);
        }
    }
    add_plan(x, t);
    mde_text_free(t);
}

/* ---- What the experts predict ---- */

/* Files of the experts, a set for each way to read them: their log-probabilities, or their models. */
typedef struct expert_set {
    mde_safetensors *files[DOMAINS];
} expert_set;

static void close_set(mde_context *c, expert_set *set)
{
    int i;
    for (i = 0; i < DOMAINS; i++) mde_safetensors_free(c, set->files[i]);
}

#define MODELS (-1) /* in place of a mark */

/* Experts, or branches, read at a mark, or their models; 0, and nothing open, where one is not there. */
static int open_set(const lab *x, const char *kind, const char *ending, int mark, expert_set *set)
{
    char name[64];
    int i;
    memset(set, 0, sizeof *set);
    for (i = 0; i < DOMAINS; i++) {
        snprintf(name, sizeof name, "%s-%s%s", kind, text_names[i], ending);
        set->files[i] = mark == MODELS ? read_model(x->context, x, name) : read_expert(x->context, x, name, mark);
        if (set->files[i]) continue;
        close_set(x->context, set);
        return 0;
    }
    return 1;
}

static const float *set_logp(const expert_set *set, int expert, int target)
{
    char name[48];
    target_name(target, name);
    return mde_safetensors_find(set->files[expert], name)->data;
}

/* Experts of several sets side by side, of the tokens that count. */
static mde_experts *make_experts(const lab *x, int sets, const expert_set *set)
{
    mde_context *c = x->context;
    const char *names[DOMAINS * MARKS];
    char name[DOMAINS * MARKS][64], target_text[48];
    mde_experts *e;
    int i, j, k, t;
    for (i = 0; i < sets * DOMAINS; i++) {
        snprintf(name[i], sizeof name[i], "%s-%d", text_names[i % DOMAINS], i / DOMAINS);
        names[i] = name[i];
    }
    e = mde_experts_create(c, sets * DOMAINS, names);
    for (j = 0; j < TARGETS && e && !program_failed(c); j++) {
        int count = sequence_count(&x->settings, j), length = sequence_length(j), counted = counted_length(j);
        size_t tokens = (size_t)(count * counted);
        float *all = (float *)mde_alloc(c, tokens * (size_t)(sets * DOMAINS), sizeof *all);
        double *documents = (double *)mde_alloc(c, tokens, sizeof *documents);
        const float *logp[DOMAINS * MARKS];
        for (i = 0; i < sets * DOMAINS && all && documents; i++) {
            const float *from = set_logp(&set[i / DOMAINS], i % DOMAINS, j);
            float *to = all + (size_t)i * tokens;
            logp[i] = to;
            for (k = 0; k < count; k++) {
                for (t = length - counted; t < length; t++) *to++ = from[k * length + t];
                for (t = 0; t < counted; t++) documents[k * counted + t] = k;
            }
        }
        target_name(j, target_text);
        if (!program_failed(c)) mde_experts_add(e, target_text, tokens, logp, documents, 0);
        mde_release(c, all);
        mde_release(c, documents);
    }
    return e;
}

/* The mark at which expert i has seen about the tokens that a mixture gives its domain. */
static int matching_mark(double weight)
{
    double mark = weight > 0 ? floor(log(weight) / log(2.0) + MARKS - 1 + 0.5) : 0;
    return mark < 0 ? 0 : mark > MARKS - 1 ? MARKS - 1 : (int)mark;
}

static double log_sum(const double *weights, const double *logs)
{
    double largest = -INFINITY, sum = 0;
    int i;
    for (i = 0; i < DOMAINS; i++) {
        if (weights[i] > 0 && logs[i] > largest) largest = logs[i];
    }
    for (i = 0; i < DOMAINS; i++) {
        if (weights[i] > 0) sum += weights[i] * exp(logs[i] - largest);
    }
    return largest + log(sum);
}

/* By the chain rule, gates in proportion to the likelihood of the sequence so far make the likelihood of the sequence
   the mean of the experts'. set [MARKS]. */
static double gated_loss(const lab *x, const expert_set *set, const double *weights, int matched, int target)
{
    int count = sequence_count(&x->settings, target), length = sequence_length(target);
    int counted = counted_length(target), i, k, t;
    const float *logp[DOMAINS];
    double sum = 0;
    for (i = 0; i < DOMAINS; i++) {
        logp[i] = set_logp(&set[matched ? matching_mark(weights[i]) : MARKS - 1], i, target);
    }
    for (k = 0; k < count; k++) {
        double all[DOMAINS] = { 0 }, given[DOMAINS] = { 0 };
        for (i = 0; i < DOMAINS; i++) {
            for (t = 0; t < length; t++) {
                if (t == length - counted) given[i] = all[i];
                all[i] += (double)logp[i][k * length + t];
            }
        }
        sum += log_sum(weights, given) - log_sum(weights, all);
    }
    return sum / ((double)count * counted);
}

static int is_of_table(const study_run *r)
{
    return strcmp(r->size, "S") == 0 && r->share == 1;
}

static int lacks(const study_run *r, int kind)
{
    return is_of_table(r) && !r->predicted[kind];
}

static void format_features(const study_run *r, int kind, mde_text *rows)
{
    int j;
    mde_text_format(rows, "%s,%s", r->name, feature_names[kind]);
    for (j = 0; j < TARGETS; j++) mde_text_format(rows, ",%.6f", r->features[kind][j]);
    mde_text_add(rows, "\n");
}

static void add_features(lab *x, const mde_text *rows)
{
    mde_text *header = mde_text_create(x->context);
    mde_text_add(header, "run,feature");
    add_names(header, TARGETS);
    mde_text_add(header, "\n");
    if (!program_failed(x->context) && rows->length > 0) add_rows(x, "features.csv", header, rows, 2);
    mde_text_free(header);
}

/* One kind of features, from mixed probabilities, of all runs of the table that lack it. */
static void predict_kind(lab *x, int kind, mde_text *rows)
{
    static const char *const endings[MERGED] = { "", "", "", "", "-half", "-quarter", "-eighth", "-narrow" };
    mde_context *c = x->context;
    int sets = kind < HALF ? MARKS : 1, matched = kind == MATCHED || kind == MATCHED_GATED, missing = 0, i, j, n;
    expert_set set[MARKS];
    mde_experts *e = NULL;
    double *weights = NULL, *losses = NULL;
    for (i = 0; i < x->study.count; i++) missing += lacks(&x->study.runs[i], kind);
    for (i = 0; i < sets && missing; i++) {
        if (open_set(x, "expert", endings[kind], sets > 1 ? i : MARKS - 1, &set[i])) continue;
        while (i-- > 0) close_set(c, &set[i]);
        return;
    }
    if (!missing) return;
    if (kind != GATED && kind != MATCHED_GATED) e = make_experts(x, sets, set);
    weights = program_doubles(c, missing, sets * DOMAINS);
    losses = program_doubles(c, missing, TARGETS);
    for (i = n = 0; i < x->study.count && losses; i++) {
        const study_run *r = &x->study.runs[i];
        double sum = 0;
        if (!lacks(r, kind)) continue;
        for (j = 0; j < DOMAINS; j++) sum += r->weights[j];
        for (j = 0; j < DOMAINS; j++) {
            int mark = sets == 1 ? 0 : matched ? matching_mark(r->weights[j]) : MARKS - 1;
            weights[(n * sets + mark) * DOMAINS + j] = r->weights[j] / sum;
        }
        for (j = 0; j < TARGETS && !e; j++) losses[n * TARGETS + j] = gated_loss(x, set, r->weights, matched, j);
        n++;
    }
    if (e && !program_failed(c)) mde_mixture_losses(e, missing, weights, losses);
    for (i = n = 0; i < x->study.count && !program_failed(c); i++) {
        study_run *r = &x->study.runs[i];
        if (!lacks(r, kind)) continue;
        memcpy(r->features[kind], losses + n * TARGETS, sizeof r->features[kind]);
        r->predicted[kind] = 1;
        format_features(r, kind, rows);
        n++;
    }
    for (i = 0; i < sets; i++) close_set(c, &set[i]);
    mde_experts_free(e);
    mde_release(c, weights);
    mde_release(c, losses);
}

/* One mixture's losses by one worker's model, whose parameters become the mean of the experts'. */
static void predict_by_mean(const lab *x, mde_context *c, mde_lm *lm, const expert_set *set, int kind, study_run *r)
{
    double weights[DOMAINS], sum = 0;
    scores result;
    int i;
    if (program_interrupted || program_failed(c)) return;
    for (i = 0; i < DOMAINS; i++) sum += r->weights[i];
    for (i = 0; i < DOMAINS; i++) weights[i] = r->weights[i] / sum;
    memset(&result, 0, sizeof result);
    set_mean(lm, c, DOMAINS, set->files, weights);
    if (!program_failed(c)) score_all(lm, c, &x->settings, &x->text, 1, &result);
    memcpy(r->features[kind], result.values, sizeof r->features[kind]);
    r->predicted[kind] = !program_failed(c);
    scores_free(c, &result);
}

/* The kinds from averaged parameters. Their rows are added a few at a time, as each takes a model's scoring. */
static void predict_merged(lab *x, int kind)
{
    mde_context *c = x->context;
    int piece = 4 * x->jobs, begin, i, n = 0;
    double begun = mde_seconds();
    study_run **runs = (study_run **)mde_alloc(c, (size_t)x->study.count + 1, sizeof *runs);
    mde_lm **models = (mde_lm **)mde_alloc(c, (size_t)x->jobs, sizeof *models);
    expert_set set;
    for (i = 0; i < x->study.count && runs && models; i++) {
        if (lacks(&x->study.runs[i], kind)) runs[n++] = &x->study.runs[i];
    }
    if (n > 0 && !open_set(x, kind == MERGED ? "expert" : "branch", "", MODELS, &set)) n = 0;
    for (i = 0; i < x->jobs && n > 0; i++) {
        models[i] = create_model(x->workers[i].context, x->workers[i].corpus, &sizes[0], 1);
    }
    for (begin = 0; begin < n && !program_failed(c); begin += piece) {
        mde_text *rows = mde_text_create(c);
        int end = begin + piece < n ? begin + piece : n;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1) num_threads(x->jobs)
#endif
        for (i = begin; i < end; i++) {
            int job = worker_number();
            predict_by_mean(x, x->workers[job].context, models[job], &set, kind, runs[i]);
        }
        for (i = begin; i < end; i++) {
            if (runs[i]->predicted[kind]) format_features(runs[i], kind, rows);
        }
        add_features(x, rows);
        mde_text_free(rows);
        if (program_interrupted) mde_fail(c, MDE_STOPPED, "%s: stopped", feature_names[kind]);
        for (i = 0; i < x->jobs; i++) pass_error(c, &x->workers[i], feature_names[kind]);
    }
    if (n > 0 && !program_failed(c) && mde_seconds() - begun > 2) {
        printf("%s: %.1f s; %d mixtures\n", feature_names[kind], mde_seconds() - begun, n);
        fflush(stdout);
    }
    for (i = 0; i < x->jobs && models; i++) mde_lm_free(models[i]);
    if (n > 0) close_set(c, &set);
    mde_release(c, models);
    mde_release(c, runs);
}

static void predict(lab *x)
{
    mde_text *rows = mde_text_create(x->context);
    int kind;
    for (kind = 0; kind < MERGED && !program_failed(x->context); kind++) predict_kind(x, kind, rows);
    add_features(x, rows);
    mde_text_free(rows);
    for (kind = MERGED; kind < FEATURES && !program_failed(x->context); kind++) predict_merged(x, kind);
}

/* ---- Mixtures that are chosen ---- */

typedef struct method {
    const char *name;
    mde_model model;
    int features; /* 0: the experts' own optimum, no regression */
    double kl;    /* to the proportional mixture */
} method;

#define METHODS 6
static const method methods[METHODS] = {
    { "optimum", MDE_RIDGE, 0, 0 }, /* minimum of the experts' loss, certified */
    { "mde-weights", MDE_GP, MDE_FEATURE_LOG | MDE_FEATURE_OWN, 0 },
    { "weights", MDE_GP, MDE_FEATURE_LOG, 0 },
    { "regmix", MDE_TREES, MDE_FEATURE_RAW, 0 }, /* mean of the best of random mixtures */
    { "law", MDE_MIXING_LAW, MDE_FEATURE_RAW, 0 },
    { "law-kl", MDE_MIXING_LAW, MDE_FEATURE_RAW, 0.05 } /* as Olmix */
};

typedef struct candidate {
    double loss;
    int index;
} candidate;

static int by_loss(const void *a, const void *b)
{
    const candidate *p = (const candidate *)a, *q = (const candidate *)b;
    return p->loss < q->loss ? -1 : p->loss > q->loss ? 1 : p->index - q->index;
}

/* RegMix's search: candidates around the proportional mixture, the best of them averaged. */
static void search_candidates(mde_context *c, const mde_surrogate *s, int objective, double *out)
{
    double *weights = program_doubles(c, CANDIDATES, DOMAINS), *losses = program_doubles(c, CANDIDATES, TARGETS);
    candidate *list = (candidate *)mde_alloc(c, CANDIDATES, sizeof *list);
    double share[DOMAINS], alpha[DOMAINS];
    mde_random r = mde_random_start(21, 0);
    int i, j;
    proportional(share);
    for (i = 0; i < CANDIDATES && list; i++) {
        double strength = exp(log(0.1) + log(50.0) * mde_random_uniform(&r)), sum = 0;
        for (j = 0; j < DOMAINS; j++) sum += sqrt(share[j]);
        for (j = 0; j < DOMAINS; j++) alpha[j] = DOMAINS * strength * sqrt(share[j]) / sum;
        mde_random_dirichlet(&r, DOMAINS, alpha, weights + i * DOMAINS);
    }
    if (list && losses && mde_surrogate_predict(s, CANDIDATES, weights, losses, NULL) == MDE_OK) {
        for (i = 0; i < CANDIDATES; i++) {
            list[i].index = i;
            list[i].loss = objective_value(objective, losses + i * TARGETS);
        }
        qsort(list, CANDIDATES, sizeof *list, by_loss);
        memset(out, 0, DOMAINS * sizeof *out);
        for (i = 0; i < AVERAGED; i++) {
            for (j = 0; j < DOMAINS; j++) out[j] += weights[list[i].index * DOMAINS + j] / AVERAGED;
        }
    }
    mde_release(c, list);
    mde_release(c, weights);
    mde_release(c, losses);
}

static void choose(lab *x, const method *m, const mde_experts *e, const mde_surrogate *s, int n, const double *tried,
                   int objective, double *out)
{
    double shares[TARGETS], share[DOMAINS], lower[DOMAINS], upper[DOMAINS];
    objective_shares(objective, shares);
    proportional(share);
    if (m->features == 0) {
        mde_minimize_desc desc;
        mde_optimum best;
        memset(&desc, 0, sizeof desc);
        desc.objective = shares;
        if (mde_mixture_minimize(e, &desc, &best) == MDE_OK) memcpy(out, best.weights, DOMAINS * sizeof *out);
    } else if (m->model == MDE_TREES) {
        search_candidates(x->context, s, objective, out);
    } else {
        mde_choose_desc desc;
        mde_choice best;
        memset(&desc, 0, sizeof desc);
        mde_bounds_of_runs(n, DOMAINS, tried, 0, lower, upper);
        desc.objective = shares;
        desc.lower = lower;
        desc.upper = upper;
        desc.prior = share;
        desc.kl = m->kl;
        desc.tried = tried;
        desc.runs = n;
        if (mde_surrogate_minimize(s, &desc, &best) == MDE_OK) memcpy(out, best.weights, DOMAINS * sizeof *out);
    }
}

/* The first method whose choices can be planned and are not, METHODS where none is: the experts' optimum first, the
   rest when all proxies to fit to are there. */
static int first_unplanned(const study_rows *s)
{
    int waiting = 0, i, m;
    for (i = 0; i < s->count; i++) waiting += is_kind(&s->runs[i], "fit") && !s->runs[i].finished;
    for (m = 0; m < (waiting ? 1 : METHODS); m++) {
        char name[64];
        snprintf(name, sizeof name, "%s-%s-1", methods[m].name, objective_names[0]);
        if (!find_run(s, name)) return m;
    }
    return METHODS;
}

/* Adds to the plan what the runs so far choose, each with all seeds, and at the larger sizes. Returns whether there was
   anything to add. */
static int plan_choices(lab *x)
{
    mde_context *c = x->context;
    study_rows *s = &x->study;
    int i, j, m = first_unplanned(s), last = m == 0 ? 1 : METHODS, o, seed, size, n = 0;
    double *weights = program_doubles(c, s->count, DOMAINS), *losses = program_doubles(c, s->count, TARGETS);
    mde_text *rows = mde_text_create(c);
    expert_set set;
    mde_experts *e;
    for (i = 0; i < s->count && losses; i++) {
        const study_run *r = &s->runs[i];
        if (!is_kind(r, "fit")) continue;
        for (j = 0; j < DOMAINS; j++) weights[n * DOMAINS + j] = r->weights[j];
        for (j = 0; j < TARGETS; j++) losses[n * TARGETS + j] = r->values[j];
        n++;
    }
    if (m == METHODS || program_failed(c) || !open_set(x, "expert", "", MARKS - 1, &set)) {
        mde_release(c, weights);
        mde_release(c, losses);
        mde_text_free(rows);
        return 0;
    }
    e = make_experts(x, 1, &set);
    for (; m < last && !program_failed(c); m++) {
        mde_surrogate_desc desc;
        mde_surrogate *fitted = NULL;
        double best[OBJECTIVES][DOMAINS];
        char name[64];
        memset(&desc, 0, sizeof desc);
        desc.fit.model = methods[m].model;
        desc.features = methods[m].features;
        if (methods[m].features & MDE_FEATURE_OWN) desc.experts = e;
        if (m > 0) fitted = mde_surrogate_fit(c, n, DOMAINS, TARGETS, weights, losses, &desc);
        for (o = 0; o < OBJECTIVES && !program_failed(c); o++) {
            choose(x, &methods[m], e, fitted, n, weights, o, best[o]);
        }
        for (seed = 1; seed <= x->settings.seeds && !program_failed(c); seed++) {
            for (o = 0; o < OBJECTIVES; o++) {
                snprintf(name, sizeof name, "%s-%s-%d", methods[m].name, objective_names[o], seed);
                plan_row(rows, name, methods[m].name, "S", 1, seed, best[o]);
            }
        }
        for (size = 2; size < 4 && m < 3 && !program_failed(c); size++) {
            snprintf(name, sizeof name, "%s-both-%s", methods[m].name, sizes[size].name);
            plan_row(rows, name, "transfer", sizes[size].name, 1, 1, best[BOTH]);
        }
        mde_surrogate_free(fitted);
    }
    if (!program_failed(c)) add_plan(x, rows);
    close_set(c, &set);
    mde_experts_free(e);
    mde_text_free(rows);
    mde_release(c, weights);
    mde_release(c, losses);
    return !program_failed(c);
}

/* ---- All of it ---- */

/* What all rows share; a study of other settings or other text is an error. */
static void check_study(lab *x)
{
    mde_context *c = x->context;
    mde_text *t = mde_text_create(c);
    mde_json_writer w = mde_json_start(t, 2);
    char path[PROGRAM_PATH], hash[17];
    unsigned char *there = NULL;
    size_t size;
    int i;
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)x->text.hash);
    mde_json_open(&w, NULL, '{');
    mde_json_write_string(&w, "text", hash);
    mde_json_write_number(&w, "scale", x->settings.scale, 9);
    mde_json_write_int(&w, "window", WINDOW);
    mde_json_write_int(&w, "windows", x->settings.windows);
    mde_json_write_int(&w, "questions", x->settings.questions);
    mde_json_open(&w, "sizes", '[');
    for (i = 0; i < 4; i++) {
        mde_json_open(&w, NULL, '{');
        mde_json_write_string(&w, "name", sizes[i].name);
        mde_json_write_int(&w, "layers", sizes[i].layers);
        mde_json_write_int(&w, "width", sizes[i].width);
        mde_json_write_int(&w, "tokens", (int64_t)(sizes[i].tokens * x->settings.scale));
        mde_json_write_number(&w, "learning_rate", sizes[i].learning_rate, 9);
        mde_json_close(&w);
    }
    mde_json_close(&w);
    mde_json_close(&w);
    mde_json_end(&w);
    program_path(c, path, "%s/study.json", x->study.folder);
    if (!program_failed(c)) {
        snprintf(x->key, sizeof x->key, "%016llx", (unsigned long long)mde_fingerprint(t->bytes, t->length));
        if (!mde_is_file(path)) mde_text_write(t, path);
        else there = mde_file_read(c, path, (size_t)1 << 20, &size);
    }
    if (there && strcmp((const char *)there, t->bytes) != 0) {
        mde_fail(c, MDE_BAD_ARGUMENT,
                 "%s: its rows are of other settings or other text (%s: %s); take another folder "
                 "with --out",
                 path, "text is now", hash);
    }
    mde_release(c, there);
    mde_text_free(t);
}

/* Order of the sizes: the larger ones come last. */
static int size_rank(const study_run *r)
{
    return strcmp(r->size, "L") == 0 ? 2 : strcmp(r->size, "M") == 0;
}

/* Whether features of a kind are made from what a run leaves. */
static int is_source(const study_run *r, int kind)
{
    static const double shares[MERGED] = { 1, 1, 1, 1, 0.5, 0.25, 0.125, 1 };
    if (kind == BRANCHED) return is_kind(r, "branch");
    if (kind == MERGED) return has_marks(r);
    return is_kind(r, "expert") && r->share == shares[kind] && (strcmp(r->size, "narrow") == 0) == (kind == NARROW);
}

/* Whether a run is to be made, again where features or choices lack what it left and that is gone from this machine.
   lacking [FEATURES]. What the start left is for the branches alone. */
static int is_wanted(const lab *x, const study_run *r, const int *lacking)
{
    int kind;
    if (!r->finished) return 1;
    for (kind = 0; kind < FEATURES; kind++) {
        if (!lacking[kind] || !is_source(r, kind)) continue;
        if (!(kind < MERGED ? expert_is_there(x, r) : model_is_there(x, r->name))) return 1;
    }
    return 0;
}

/* Up to `room` runs that are to be made. Branches wait for the start's model, which is made again for them. */
static int find_pending(const lab *x, int room, study_run **pending)
{
    const study_rows *s = &x->study;
    int n = 0, started = model_is_there(x, "start"), waiting = 0, rank, i, kind, lacking[FEATURES] = { 0 };
    for (i = 0; i < s->count; i++) {
        for (kind = 0; kind < FEATURES; kind++) lacking[kind] += lacks(&s->runs[i], kind);
    }
    lacking[PLAIN] += first_unplanned(s) < METHODS;
    for (i = 0; i < s->count && !started; i++) {
        waiting += is_kind(&s->runs[i], "branch") && is_wanted(x, &s->runs[i], lacking);
    }
    for (rank = 0; rank < 3; rank++) {
        for (i = 0; i < s->count && n < room; i++) {
            study_run *r = &s->runs[i];
            if (size_rank(r) != rank || (is_kind(r, "branch") && !started)) continue;
            if (is_wanted(x, r, lacking) || (is_kind(r, "start") && waiting)) pending[n++] = r;
        }
    }
    return n;
}

static void finish_run(lab *x, study_run *r)
{
    int i, finished = 0;
    if (!r->finished) add_result(x, r);
    r->finished = 1;
    for (i = 0; i < x->study.count; i++) finished += x->study.runs[i].finished;
    printf("%s: %.1f s; %d of %d runs\n", r->name, r->seconds, finished, x->study.count);
    fflush(stdout);
}

/* One run, by a worker whose context is its own; the tables belong to all. */
static void work_on(lab *x, worker *w, study_run *r)
{
    char checkpoint[PROGRAM_PATH];
    if (program_failed(w->context)) return;
    make_run(w->context, x, w->corpus, r);
#ifdef _OPENMP
#pragma omp critical(study)
#endif
    {
        if (program_failed(w->context)) {
            pass_error(x->context, w, r->name);
            program_interrupted = 1;
        } else if (!program_failed(x->context)) {
            finish_run(x, r);
            remove(program_path(x->context, checkpoint, "%s/%s.checkpoint", x->work, r->name));
        }
    }
}

static void open_workers(lab *x)
{
    mde_context *c = x->context;
    int i;
    x->jobs = mde_threads(c);
    x->workers = (worker *)mde_alloc(c, (size_t)x->jobs, sizeof *x->workers);
    for (i = 0; i < x->jobs && !program_failed(c); i++) {
        worker *w = &x->workers[i];
        mde_context_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.threads = 1;
        w->context = mde_context_create(&desc);
        w->corpus = w->context ? open_corpus(w->context, x->data) : NULL;
        if (!w->corpus) mde_fail(c, MDE_IO, "%s", w->context ? mde_error(w->context) : "out of memory");
    }
}

static void close_workers(lab *x)
{
    int i;
    for (i = 0; i < x->jobs && x->workers; i++) {
        if (x->workers[i].context) mde_context_free(x->workers[i].context);
    }
}

static void run_study(lab *x)
{
    mde_context *c = x->context;
    const char *folder = x->study.folder;
    int room, made = 0, i, n;
    study_run **pending;
    open_workers(x);
    room = 4 * x->jobs;
    pending = (study_run **)mde_alloc(c, (size_t)room, sizeof *pending);
    if (!program_failed(c)) make_text(c, x->workers[0].corpus, &x->settings, &x->text);
    if (!program_failed(c)) mde_make_folder(c, folder);
    if (!program_failed(c)) mde_make_folder(c, x->work);
    if (!program_failed(c)) check_study(x);
    if (!program_failed(c)) make_plan(x);
    while (!program_failed(c)) {
        study_free(&x->study);
        study_read(&x->study, c, folder);
        if (program_failed(c) || plan_choices(x)) continue;
        predict(x);
        n = program_failed(c) ? 0 : find_pending(x, room < x->limit - made ? room : x->limit - made, pending);
        if (n == 0) break;
        made += n;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1) num_threads(x->jobs)
#endif
        for (i = 0; i < n; i++) work_on(x, &x->workers[worker_number()], pending[i]);
    }
    close_workers(x);
}

static const char *const usage =
    "study_mde: makes the runs of the study of mixtures of data experts\n"
    "\n"
    "  study_mde [options]      goes on where it was stopped; --threads runs at a time, one a core\n"
    "\n"
    "Every finished run is a row of OUT/runs.csv, written to the disk before the next begins.\n";

int main(int argc, char **argv)
{
    program p;
    lab x;
    double scale = 1;
    const program_option options[] = {
        { "--data", PROGRAM_FILE, "DIR", &x.data, 0, 0, "what `make data` fetched; default: data" },
        { "--out", PROGRAM_FILE, "DIR", &x.study.folder, 0, 0, "where the tables are; default: bench/study" },
        { "--work", PROGRAM_FILE, "DIR", &x.work, 0, 0,
          "for checkpoints, log-probabilities and models, which can be made again; default: out/study-mde" },
        { "--runs", PROGRAM_INT, "N", &x.limit, 0, 1e6, "make so many runs at most; default: all" },
        { "--scale", PROGRAM_POSITIVE, "X", &scale, 0, 1, "of tokens, texts and numbers of runs, to try it out; 1" }
    };
    memset(&x, 0, sizeof x);
    x.data = "data";
    x.study.folder = "bench/study";
    x.work = "out/study-mde";
    x.limit = 1000000;
    program_start(&p, "study_mde", usage, options, (int)(sizeof options / sizeof *options));
    p.when_stopped = "stopped; the same command goes on from here";
    if (!program_parse(&p, argc, argv)) return p.code;
    x.context = x.study.context = program_context(&p);
    x.settings = make_settings(scale);
    if (!program_failed(x.context)) run_study(&x);
    return program_end(&p, x.context);
}
