/* The whole method on real text: trains one expert a domain and some proxies, predicts the loss of any mixture, finds
   the best one, trains it to see whether that is true, and writes a report.
     cc -O2 -fopenmp examples/mde_lab.c -o mde_lab -lm     (without -fopenmp: one thread)
     ./mde_lab run out/demo                                 on six kinds of text that the program makes up
     ./mde_lab run out/real --data texts --preset small     each folder or file in texts/ is a domain                 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define MDEMIX_IMPLEMENTATION
#if __has_include("../mdemix.h") /* in the repository; a copy beside this file does as well */
#include "../mdemix.h"
#else
#include "mdemix.h"
#endif

static const char *const usage =
    "mde_lab: from folders of text to the best training mixture\n"
    "\n"
    "  mde_lab run OUT [--data DIR] [options]   all steps; a second call goes on where the first was stopped\n"
    "  mde_lab plan OUT [--data DIR] [options]  writes OUT/plan.json: the settings and the runs to make\n"
    "  mde_lab tasks OUT                        lists the runs of the plan, finished or not\n"
    "  mde_lab task OUT N [M ...]               trains the runs with these numbers (for job arrays and make -j)\n"
    "  mde_lab fit OUT                          compares regressions on held-out proxies; tables as CSV and .npy\n"
    "  mde_lab search OUT                       finds the best mixtures; OUT/mixture.json\n"
    "  mde_lab verify OUT                       trains the mixtures found\n"
    "  mde_lab report OUT                       OUT/report.html and OUT/report.json\n"
    "  mde_lab generate DIR                     writes the made-up text domains, to look at or to train on\n"
    "\n"
    "Options of run and plan (defaults depend on the preset):\n"
    "  --data DIR              each folder or file in it is a domain; default: text that the program makes up\n"
    "  --preset NAME           quick (a minute or two), small (about a quarter of an hour), study (hours)\n"
    "  --proxies N             runs at random mixtures, at least 6         quick 24, small 32, study 64\n"
    "  --tokens N              training tokens of each run                 60000, 400000, 4000000\n"
    "  --layers N --width N --heads N --context N --batch N                the model and its batches\n"
    "  --lr X                  peak learning rate\n"
    "  --vocab N               byte-pair encoding with so many tokens; default: bytes\n"
    "  --validation-tokens N   of each domain, at most                     3000, 12000, 65536\n"
    "  --questions N           of the end task                             100, 300, 1000\n"
    "  --max-bytes N           of each domain, at most                     1, 3, 8 million\n"
    "  --task-domains A,B      domains that the end task is made from; default: all\n"
    "  --objective NAME        whose mixture goes to mixture.json: average, task or both; default: average\n"
    "  --seed N                default 0\n"
    "Options of every command:\n"
    "  --threads N             default: all; results do not depend on it\n"
    "  --quiet                 no progress\n";

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

static mde_status generate(mde_context *c, const char *folder)
{
    size_t i;
    mde_make_folder(c, folder);
    for (i = 0; i < sizeof generators / sizeof *generators; i++) {
        char path[4096];
        writer w;
        w.random = mde_random_start(2025, i);
        w.text = mde_text_create(c);
        while (w.text && !mde_context_status(c) && w.text->length < generators[i].bytes) generators[i].write(&w);
        snprintf(path, sizeof path, "%s/%s", folder, generators[i].name);
        mde_text_write(w.text, path);
        mde_text_free(w.text);
    }
    return mde_context_status(c);
}

/* Takes back what generate wrote, and the folders if nothing else is in them. */
static void remove_generated(const char *out, const char *folder)
{
    size_t i;
    for (i = 0; i < sizeof generators / sizeof *generators; i++) {
        char path[4200];
        snprintf(path, sizeof path, "%s/%s", folder, generators[i].name);
        remove(path);
    }
    remove(folder);
    remove(out);
}

/* ---- Progress, and stopping by Ctrl-C ---- */

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

static int progress(const mde_progress *p, void *user)
{
    const int *quiet = (const int *)user;
    if (!*quiet) mde_print_progress(p, NULL);
    return interrupted;
}

/* ---- Options ---- */

typedef struct options {
    mde_experiment_desc plan;
    int threads, quiet;
    int positional_count;
    const char *positional[256];
} options;

typedef struct option {
    const char *name;
    int kind;
    void *target;
} option; /* kinds: i, l (64 bits), d, s, u */

static int set_option(const option *o, const char *value)
{
    char *end;
    errno = 0;
    if (o->kind == 's') {
        *(const char **)o->target = value;
        return 1;
    }
    if (o->kind == 'd') {
        double x = strtod(value, &end);
        *(double *)o->target = x;
        return end != value && *end == 0 && x > 0 && x < 1e6;
    }
    if (o->kind == 'u') {
        *(uint64_t *)o->target = strtoull(value, &end, 10);
        return *value >= '0' && *value <= '9' && *end == 0 && errno == 0;
    }
    {
        long long x = strtoll(value, &end, 10);
        if (end == value || *end || errno || x < 1 || (o->kind == 'i' && x > 1000000000)) return 0;
        if (o->kind == 'i') *(int *)o->target = (int)x;
        else *(int64_t *)o->target = (int64_t)x;
        return 1;
    }
}

static int parse_options(int argc, char **argv, options *out)
{
    mde_experiment_desc *p = &out->plan;
    const option table[] = { { "--data", 's', &p->data },
                             { "--preset", 's', &p->preset },
                             { "--proxies", 'i', &p->proxies },
                             { "--tokens", 'l', &p->tokens },
                             { "--layers", 'i', &p->layers },
                             { "--width", 'i', &p->width },
                             { "--heads", 'i', &p->heads },
                             { "--context", 'i', &p->context },
                             { "--batch", 'i', &p->batch },
                             { "--lr", 'd', &p->learning_rate },
                             { "--vocab", 'i', &p->vocabulary },
                             { "--validation-tokens", 'l', &p->validation_tokens },
                             { "--questions", 'i', &p->questions },
                             { "--max-bytes", 'l', &p->max_bytes },
                             { "--task-domains", 's', &p->task_domains },
                             { "--objective", 's', &p->objective },
                             { "--seed", 'u', &p->seed },
                             { "--threads", 'i', &out->threads } };
    int i;
    size_t o;
    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quiet") == 0) {
            out->quiet = 1;
            continue;
        }
        if (strncmp(argv[i], "--", 2) != 0) {
            if (out->positional_count == 256) {
                fprintf(stderr, "mde_lab: too many arguments\n");
                return 0;
            }
            out->positional[out->positional_count++] = argv[i];
            continue;
        }
        for (o = 0; o < sizeof table / sizeof *table; o++) {
            if (strcmp(argv[i], table[o].name) == 0) break;
        }
        if (o == sizeof table / sizeof *table) {
            fprintf(stderr, "mde_lab: %s is not an option; see mde_lab --help\n", argv[i]);
            return 0;
        }
        if (i + 1 == argc || !set_option(&table[o], argv[i + 1])) {
            fprintf(stderr, "mde_lab: %s: \"%s\" is not a value for it\n", argv[i], i + 1 < argc ? argv[i + 1] : "");
            return 0;
        }
        i++;
    }
    return 1;
}

/* ---- Commands ---- */

/* Without --data the text is made up and kept beside the results. */
static void make_plan(mde_context *c, const char *out, options *o)
{
    static char data[4096];
    int generated = 0;
    if (!o->plan.data) {
        snprintf(data, sizeof data, "%s/data", out);
        generated = !mde_is_folder(data);
        generate(c, data);
        o->plan.data = data;
    }
    if (mde_experiment_plan(c, out, &o->plan) != MDE_OK && generated) remove_generated(out, data);
}

static void list_tasks(mde_experiment *x)
{
    int i;
    for (i = 0; i < mde_experiment_tasks(x); i++) {
        printf("%4d  %-8s %s\n", i, mde_experiment_task_done(x, i) ? "done" : "-", mde_experiment_task_name(x, i));
    }
}

static void run_listed_tasks(mde_context *c, mde_experiment *x, options *o)
{
    int i;
    for (i = 2; i < o->positional_count && !mde_context_status(c); i++) {
        char *end;
        long number = strtol(o->positional[i], &end, 10);
        if (*end || end == o->positional[i] || number < 0 || number > 1000000) {
            mde_fail(c, MDE_BAD_ARGUMENT, "task %.200s: is not a number", o->positional[i]);
            return;
        }
        mde_experiment_task(x, (int)number, progress, &o->quiet);
    }
}

static void print_result(mde_experiment *x, const char *out)
{
    const char *summary = mde_experiment_summary(x);
    if (summary) printf("\n%s\nmixture: %s/mixture.json\nreport:  %s/report.html\n", summary, out, out);
}

static void run_command(mde_context *c, const char *command, options *o)
{
    const char *out = o->positional[1];
    int all = strcmp(command, "run") == 0;
    mde_experiment *x;
    if (all || strcmp(command, "plan") == 0) make_plan(c, out, o);
    x = mde_experiment_open(c, out);
    if (!x) return;
    if (strcmp(command, "plan") == 0) {
        printf("%d runs planned: mde_lab tasks %s lists them\n", mde_experiment_tasks(x), out);
    }
    if (strcmp(command, "tasks") == 0) list_tasks(x);
    if (strcmp(command, "task") == 0) run_listed_tasks(c, x, o);
    if (all) mde_experiment_all_tasks(x, progress, &o->quiet);
    if (all || strcmp(command, "fit") == 0) mde_experiment_fit(x, progress, &o->quiet);
    if (all || strcmp(command, "search") == 0) mde_experiment_search(x, progress, &o->quiet);
    if (all || strcmp(command, "verify") == 0) mde_experiment_verify(x, progress, &o->quiet);
    if (all || strcmp(command, "report") == 0) mde_experiment_report(x);
    if (!mde_context_status(c) && (all || strcmp(command, "report") == 0)) print_result(x, out);
}

int main(int argc, char **argv)
{
    static const char *const commands[] = { "run",    "plan",   "tasks",  "task",    "fit",
                                            "search", "verify", "report", "generate" };
    options o;
    mde_context_desc desc;
    mde_context *c;
    mde_status status;
    size_t i, known = sizeof commands / sizeof *commands;
    memset(&o, 0, sizeof o);
    memset(&desc, 0, sizeof desc);
    for (i = 1; i < (size_t)argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            return 0;
        }
    }
    if (!parse_options(argc, argv, &o)) return 2;
    for (i = 0; o.positional_count > 0 && i < known; i++) {
        if (strcmp(o.positional[0], commands[i]) == 0) break;
    }
    if (o.positional_count < 2 || i == known) {
        fprintf(stderr, "mde_lab: expected a command and a folder, as in `mde_lab run OUT`; see mde_lab --help\n");
        return 2;
    }
    if (o.positional_count > 2 && strcmp(o.positional[0], "task") != 0) {
        fprintf(stderr, "mde_lab: \"%s\" is one argument too many; see mde_lab --help\n", o.positional[2]);
        return 2;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    desc.threads = o.threads;
    c = mde_context_create(&desc);
    if (strcmp(o.positional[0], "generate") == 0) generate(c, o.positional[1]);
    else run_command(c, o.positional[0], &o);
    status = mde_context_status(c);
    if (status == MDE_STOPPED) fprintf(stderr, "\nmde_lab: stopped; the same command goes on from here\n");
    else if (status) fprintf(stderr, "mde_lab: %s\n", mde_error(c));
    mde_context_free(c);
    return status ? 1 : 0;
}
