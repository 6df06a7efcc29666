/* study_mde.h - the study's names, and its three tables as rows that belong together: what study_mde.c writes and
   study_tables.c reads. In the folder of a study:
     study.json       what all runs share, and a fingerprint of the text
     plan.csv         every run: kind, size, share of the tokens, seed, weights of the domains
     runs.csv         every finished run: its losses, how often it was right, seconds
     features.csv     every planned run of the size of the table: what the experts predict, a row for each way */
#ifndef STUDY_MDE_H
#define STUDY_MDE_H

/* The domains that are mixed, and how much of each is taken, in bytes: as unequal as a budget without many epochs
   allows. Nothing of the other domains is in any mixture; the end tasks are made from them. */
#define DOMAINS 7
#define UNSEEN 3
#define TEXTS (DOMAINS + UNSEEN)
#define TASKS 4
#define SHOTS 3
static const char *const text_names[TEXTS] = { "essays", "manuals",  "c",     "encyclopedia", "perl",
                                               "german", "theorems", "bible", "dictionary",   "javascript" };
static const size_t text_bytes[TEXTS] = { 6000000, 5000000, 4000000, 3000000, 2500000,
                                          2000000, 1500000, 6000000, 6000000, 6000000 };
static const char *const task_names[TASKS] = { "continuation", "definition", "verse", "identifier" };
static const int shot_counts[SHOTS] = { 0, 1, 4 };

/* The losses of a run: of the texts, then of the tasks' right answers after 0, 1 and 4 answered questions. The first
   TARGETS of them are what is predicted. Then, in the same order, the shares of questions answered rightly. */
#define TARGETS (TEXTS + TASKS)
#define LOSSES (TEXTS + TASKS * SHOTS)
#define COLUMNS (LOSSES + TASKS * SHOTS)

/* What the experts predict for a mixture: the loss of their mixed probabilities; the same gated by how well each
   predicted the sequence so far; both with each expert read after about the tokens that the mixture gives it; the
   first with experts of fewer tokens or half the width; and the loss of one model whose parameters are the mean of the
   experts', weighted by the mixture, or of experts that branch from a common trained start. */
enum { PLAIN, GATED, MATCHED, MATCHED_GATED, HALF, QUARTER, EIGHTH, NARROW, MERGED, BRANCHED, FEATURES };
static const char *const feature_names[FEATURES] = { "mde",     "gated",  "matched", "matched-gated", "half",
                                                     "quarter", "eighth", "narrow",  "merged",        "branched" };

static void column_name(int column, char name[48])
{
    int task = (column - TEXTS) % TASKS, shots = (column - TEXTS) / TASKS % SHOTS;
    if (column < TEXTS) snprintf(name, 48, "%s", text_names[column]);
    else snprintf(name, 48, "%s.%d%s", task_names[task], shot_counts[shots], column < LOSSES ? "" : ".right");
}

typedef struct study_run {
    char name[64], kind[24], size[8];
    double share; /* of the size's tokens */
    int seed;
    double weights[DOMAINS];
    int finished;
    double values[COLUMNS], seconds;
    int predicted[FEATURES];
    double features[FEATURES][TARGETS];
} study_run;

typedef struct study_rows {
    mde_context *context;
    const char *folder;
    int count;
    study_run *runs;
} study_rows;

static study_run *find_run(const study_rows *s, const char *name)
{
    int i;
    for (i = 0; i < s->count; i++) {
        if (strcmp(s->runs[i].name, name) == 0) return &s->runs[i];
    }
    return NULL;
}

static int is_kind(const study_run *r, const char *kind)
{
    return strcmp(r->kind, kind) == 0;
}

/* A table of the folder; NULL, without an error, where it is not there. */
static mde_csv *read_table(const study_rows *s, const char *name)
{
    char path[PROGRAM_PATH];
    program_path(s->context, path, "%s/%s", s->folder, name);
    return !program_failed(s->context) && mde_is_file(path) ? mde_csv_read(s->context, path) : NULL;
}

static int table_column(const mde_csv *csv, const char *name)
{
    int column = mde_csv_column(csv, name);
    if (column < 0) mde_fail(csv->context, MDE_BAD_FILE, "%s: has no column %s", csv->path, name);
    return column;
}

static const char *table_cell(const mde_csv *csv, int row, const char *name)
{
    int column = table_column(csv, name);
    return column < 0 ? "" : csv->cells[row * csv->columns + column];
}

static double table_number(const mde_csv *csv, int row, const char *name)
{
    int column = table_column(csv, name);
    double value = column < 0 ? 0 : mde_csv_number(csv, row, column);
    if (value == value || program_failed(csv->context)) return value;
    mde_fail(csv->context, MDE_BAD_FILE, "%s line %d: %s is not a number", csv->path, csv->lines[row], name);
    return 0;
}

/* The planned run that a row of another table is about. */
static study_run *table_run(const study_rows *s, const mde_csv *csv, int row)
{
    const char *name = table_cell(csv, row, "run");
    study_run *r = find_run(s, name);
    if (!r) {
        mde_fail(s->context, MDE_BAD_FILE, "%s line %d: run %s is not in the plan", csv->path, csv->lines[row], name);
    }
    return r;
}

static void read_plan(study_rows *s, const mde_csv *csv)
{
    mde_context *c = s->context;
    int i, j;
    s->runs = (study_run *)mde_alloc(c, (size_t)csv->rows + 1, sizeof *s->runs);
    for (i = 0; i < csv->rows && !program_failed(c); i++) {
        study_run *r = &s->runs[i];
        double sum = 0;
        if (find_run(s, table_cell(csv, i, "run"))) {
            mde_fail(c, MDE_BAD_FILE, "%s line %d: run %s is planned twice", csv->path, csv->lines[i],
                     table_cell(csv, i, "run"));
        }
        snprintf(r->name, sizeof r->name, "%s", table_cell(csv, i, "run"));
        snprintf(r->kind, sizeof r->kind, "%s", table_cell(csv, i, "kind"));
        snprintf(r->size, sizeof r->size, "%s", table_cell(csv, i, "size"));
        r->share = table_number(csv, i, "share");
        r->seed = (int)table_number(csv, i, "seed");
        for (j = 0; j < DOMAINS; j++) sum += r->weights[j] = table_number(csv, i, text_names[j]);
        if (!program_failed(c) && fabs(sum - 1) > 1e-6) {
            mde_fail(c, MDE_BAD_FILE, "%s line %d: the weights sum to %.9g", csv->path, csv->lines[i], sum);
        }
        s->count = i + 1;
    }
}

/* All that is known of a study; without a plan it has no runs. */
static void study_read(study_rows *s, mde_context *c, const char *folder)
{
    mde_csv *plan, *runs, *features;
    char name[48];
    int i, j, kind;
    memset(s, 0, sizeof *s);
    s->context = c;
    s->folder = folder;
    plan = read_table(s, "plan.csv");
    runs = read_table(s, "runs.csv");
    features = read_table(s, "features.csv");
    if (plan) read_plan(s, plan);
    for (i = 0; runs && i < runs->rows && !program_failed(c); i++) {
        study_run *r = table_run(s, runs, i);
        for (j = 0; j < COLUMNS && r; j++) {
            column_name(j, name);
            r->values[j] = table_number(runs, i, name);
        }
        if (r) r->seconds = table_number(runs, i, "seconds");
        if (r) r->finished = 1;
    }
    for (i = 0; features && i < features->rows && !program_failed(c); i++) {
        study_run *r = table_run(s, features, i);
        for (kind = 0; kind < FEATURES; kind++) {
            if (strcmp(table_cell(features, i, "feature"), feature_names[kind]) == 0) break;
        }
        if (kind == FEATURES) {
            mde_fail(c, MDE_BAD_FILE, "%s line %d: feature %s is not known", features->path, features->lines[i],
                     table_cell(features, i, "feature"));
        }
        for (j = 0; j < TARGETS && r && !program_failed(c); j++) {
            column_name(j, name);
            r->features[kind][j] = table_number(features, i, name);
        }
        if (r && !program_failed(c)) r->predicted[kind] = 1;
    }
    mde_csv_free(plan);
    mde_csv_free(runs);
    mde_csv_free(features);
}

static void study_free(study_rows *s)
{
    mde_release(s->context, s->runs);
}

/* ---- Objectives: unweighted means, as in the paper ---- */

enum { SEEN, END_TASKS, BOTH, OBJECTIVES };
static const char *const objective_names[OBJECTIVES] = { "domains", "tasks", "both" };

static void objective_shares(int objective, double shares[TARGETS])
{
    int j, count = (objective != END_TASKS ? DOMAINS : 0) + (objective != SEEN ? TASKS : 0);
    for (j = 0; j < TARGETS; j++) {
        int counts = j < DOMAINS ? objective != END_TASKS : j >= TEXTS && objective != SEEN;
        shares[j] = counts ? 1.0 / count : 0;
    }
}

static double objective_value(int objective, const double *losses)
{
    double shares[TARGETS], sum = 0;
    int j;
    objective_shares(objective, shares);
    for (j = 0; j < TARGETS; j++) sum += shares[j] * losses[j];
    return sum;
}

#endif
