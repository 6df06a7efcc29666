/* dagan_seeds.h - a study of dagan_lab over seeds, and over splits of the classes: a plan of tasks, each of which is
   `dagan_lab run` in a folder of its own with the settings of the plan, and what all of them found, side by side.
     plan.json                  the options, a row a task: its name, seed, split and a fingerprint of its images
     NAME/                      a task's results; NAME/task.done says that it was finished, and of which plan
     seeds.csv, .json, .html    accuracies and qualities: a row a task; mean and standard deviation over tasks
   Included by dagan_lab.c alone. */
#ifndef DAGAN_SEEDS_H
#define DAGAN_SEEDS_H

#define DEFAULT_SEEDS 5
#define MAX_MEASURES 512

/* One number of each task, NaN where the task has none. */
typedef struct measure {
    const char *part;           /* of report.json */
    char name[80];
    int is_share;               /* shown in % */
    double *values;             /* [tasks] */
} measure;

typedef struct seed_study {
    lab *l;
    mde_json *plan;
    char key[60];               /* version and fingerprint of plan.json */
    int count;
    const mde_json **tasks;
    int measure_count;
    measure *measures;
} seed_study;

/* ---- Plan ---- */

/* The value of an option if it is not the one that stands when the option is not given; otherwise NULL. */
static mde_text *given_value(const lab *l, const settings *defaults, const program_option *o)
{
    size_t at = (size_t)((const char *)o->target - (const char *)&l->s);
    mde_text *value = mde_text_create(l->c), *usual = mde_text_create(l->c);
    int same;
    program_add_value(value, o, o->target);
    program_add_value(usual, o, (const char *)defaults + at);
    same = bad(l) || (value->length == usual->length &&
                      (value->length == 0 || memcmp(value->bytes, usual->bytes, value->length) == 0));
    mde_text_free(usual);
    if (!same) return value;
    mde_text_free(value);
    return NULL;
}

/* Options that say where and how often, not what. */
static int is_of_the_plan(const program_option *o)
{
    return strcmp(o->name, "--out") == 0 || strcmp(o->name, "--seeds") == 0 || strcmp(o->name, "--split") == 0;
}

/* The lab of one task, with a context of its own. */
static lab lab_of_task(const lab *l, uint64_t seed, const char *split)
{
    lab one = *l;
    one.p.seed = seed;
    one.s.split = split;
    one.c = program_context(&one.p);
    return one;
}

/* Ends it; its error becomes ours. */
static void end_task(lab *l, lab *one)
{
    if (bad(one) && !bad(l)) mde_fail(l->c, mde_context_status(one->c), "%s", mde_error(one->c));
    mde_context_free(one->c);
}

/* The tasks of one split; its images are opened once, so that what is wrong with them is said now. */
static void plan_split(lab *l, mde_json_writer *w, const char *split, int number)
{
    lab one = lab_of_task(l, l->p.seed, split);
    char key[24] = "", name[60], seed[24];
    int i;
    open_sets(&one);
    if (!bad(&one)) plan(&one, "run");
    if (!bad(&one)) data_key(&one, key);
    for (i = 0; i < l->s.seeds; i++) {
        snprintf(seed, sizeof seed, "%llu", (unsigned long long)(l->p.seed + (uint64_t)i));
        if (number > 0) snprintf(name, sizeof name, "split-%d-seed-%s", number, seed);
        else snprintf(name, sizeof name, "seed-%s", seed);
        mde_json_open(w, NULL, '{');
        mde_json_write_string(w, "name", name);
        mde_json_write_string(w, "seed", seed);
        if (split) mde_json_write_string(w, "split", split);
        mde_json_write_string(w, "images", key);
        mde_json_close(w);
    }
    end_task(l, &one);
}

static void write_plan(lab *l, const settings *defaults)
{
    mde_text *t = mde_text_create(l->c);
    mde_json_writer w = mde_json_start(t, 2);
    char path[PROGRAM_PATH], split[PROGRAM_PATH];
    const char *rest = l->s.split;
    unsigned char *there = NULL;
    size_t size = 0;
    int i, several = rest && program_is_list(rest);
    if (!l->s.seeds) l->s.seeds = DEFAULT_SEEDS;
    mde_json_open(&w, NULL, '{');
    mde_json_write_string(&w, "dagan_lab", MDE_VERSION);
    mde_json_open(&w, "options", '{');
    for (i = 0; i < l->p.option_count && !bad(l); i++) {
        const program_option *o = &l->p.options[i];
        mde_text *value = is_of_the_plan(o) ? NULL : given_value(l, defaults, o);
        if (value) mde_json_write_string(&w, o->name, value->bytes);
        if (value) mde_text_free(value);
    }
    mde_json_close(&w);
    mde_json_open(&w, "tasks", '[');
    if (!rest) plan_split(l, &w, NULL, 0);
    for (i = 1; rest && !bad(l); i++) {
        if (several) rest = program_list_path(l->c, rest, split);
        plan_split(l, &w, several ? split : l->s.split, several ? i : 0);
        if (!several) break;
    }
    mde_json_close(&w);
    mde_json_close(&w);
    mde_json_end(&w);
    in_out(l, "plan.json", path, sizeof path);
    if (!bad(l) && mde_is_file(path)) there = mde_file_read(l->c, path, (size_t)1 << 30, &size);
    if (!bad(l) && there && (size != t->length || memcmp(there, t->bytes, size) != 0)) {
        mde_fail(l->c, MDE_BAD_ARGUMENT, "%s: is another plan; name another folder with --out", path);
    }
    mde_release(l->c, there);
    if (!bad(l) && mde_make_folder(l->c, l->s.out) == MDE_OK) mde_text_write(t, path);
    mde_text_free(t);
}

/* The options of the plan become those of this process; it may have been given no other ones. */
static void take_options(seed_study *x, const settings *defaults, const char *path)
{
    lab *l = x->l;
    const mde_json *member = mde_json_get(x->plan, "options");
    int i;
    for (i = 0; i < l->p.option_count && !bad(l); i++) {
        const program_option *o = &l->p.options[i];
        if (strcmp(o->name, "--out") == 0 || !given_value(l, defaults, o)) continue;
        mde_fail(l->c, MDE_BAD_ARGUMENT, "%s: is for plan; settings of the tasks are those of %s", o->name, path);
    }
    if (!bad(l) && l->p.seed != 1) {
        mde_fail(l->c, MDE_BAD_ARGUMENT, "--seed: is for plan; seeds of the tasks are those of %s", path);
    }
    if (!bad(l) && (!member || member->kind != MDE_JSON_OBJECT)) {
        mde_fail(l->c, MDE_BAD_FILE, "%s: options: expected an object", path);
    }
    for (member = bad(l) ? NULL : member->child; member && !bad(l); member = member->next) {
        const program_option *o = program_find(l->p.options, l->p.option_count, member->key, strlen(member->key));
        if (o && o->kind == PROGRAM_FLAG) *(int *)o->target = 1;
        else if (!o || member->kind != MDE_JSON_STRING || !program_set(o, member->string)) {
            mde_fail(l->c, MDE_BAD_FILE, "%s: %s: is no option, or has no such value", path, member->key);
        }
    }
    if (!bad(l) && !resolve(l)) mde_fail(l->c, MDE_BAD_FILE, "%s: its options do not go together", path);
}

static void open_plan(seed_study *x, lab *l, const settings *defaults)
{
    char path[PROGRAM_PATH];
    size_t size = 0;
    unsigned char *bytes = NULL;
    const mde_json *task, *list;
    memset(x, 0, sizeof *x);
    x->l = l;
    in_out(l, "plan.json", path, sizeof path);
    if (bad(l)) return;
    if (!mde_is_file(path)) mde_fail(l->c, MDE_IO, "%s: is not there; `dagan_lab plan` makes it", path);
    else bytes = mde_file_read(l->c, path, (size_t)1 << 30, &size);
    if (!bytes) return;
    x->plan = mde_json_parse(l->c, path, (const char *)bytes, size);
    snprintf(x->key, sizeof x->key, "%.20s %016llx", MDE_VERSION, (unsigned long long)mde_fingerprint(bytes, size));
    mde_release(l->c, bytes);
    list = mde_json_get(x->plan, "tasks");
    if (!bad(l) && strcmp(mde_json_string(x->plan, "dagan_lab", ""), MDE_VERSION) != 0) {
        mde_fail(l->c, MDE_BAD_FILE, "%s: is no plan of this version of dagan_lab, %s", path, MDE_VERSION);
    }
    if (!bad(l)) take_options(x, defaults, path);
    x->tasks = bad(l) ? NULL : (const mde_json **)mde_alloc(l->c, list ? list->length + 1 : 1, sizeof *x->tasks);
    for (task = list ? list->child : NULL; x->tasks && task && !bad(l); task = task->next) {
        const char *name = mde_json_string(task, "name", "");
        if (!*name || strchr(name, '/') || !mde_json_string(task, "seed", NULL) ||
            !mde_json_string(task, "images", NULL)) {
            mde_fail(l->c, MDE_BAD_FILE, "%s: task %d has no name, seed or images", path, x->count);
        }
        x->tasks[x->count++] = task;
    }
    if (!bad(l) && x->count == 0) mde_fail(l->c, MDE_BAD_FILE, "%s: has no tasks", path);
}

/* ---- Tasks ---- */

static const char *name_of_task(const seed_study *x, int number)
{
    return mde_json_string(x->tasks[number], "name", "");
}

/* Where its results are. */
static const char *folder_of_task(const seed_study *x, int number, char path[PROGRAM_PATH])
{
    return program_path(x->l->c, path, "%s/%s", x->l->s.out, name_of_task(x, number));
}

/* The task was done by this plan, and its results are as it left them. */
static program_work work_of_task(const seed_study *x, const program *p, const char *folder)
{
    program_work w = program_work_start(p, x->l->c, folder, "task");
    mde_text_format(w.key, " %s", x->key);
    program_work_output(&w, "report.json");
    program_work_output(&w, "report.html");
    return w;
}

static int seed_is_done(const seed_study *x, int number)
{
    program quiet = x->l->p;
    char folder[PROGRAM_PATH];
    program_work w;
    quiet.quiet = 1;
    w = work_of_task(x, &quiet, folder_of_task(x, number, folder));
    return program_work_is_done(&w, 0);
}

static mde_status run_seed(void *user, int number)
{
    seed_study *x = (seed_study *)user;
    lab *l = x->l, one;
    const mde_json *task = x->tasks[number];
    char folder[PROGRAM_PATH];
    program_work w = work_of_task(x, &l->p, folder_of_task(x, number, folder));
    if (!bad(l) && !program_work_is_done(&w, 0)) {
        one = lab_of_task(l, (uint64_t)strtoull(mde_json_string(task, "seed", "0"), NULL, 10),
                          mde_json_string(task, "split", NULL));
        one.s.out = folder;
        one.planned = mde_json_string(task, "images", "");
        run_command(&one, "run");
        end_task(l, &one);
        if (!bad(l)) program_work_finish(&w, NULL);
    }
    if (l->p.json && !bad(l)) program_print_file(l->c, folder, "report.json");
    return mde_context_status(l->c);
}

static void list_seeds(const seed_study *x)
{
    mde_text *t = mde_text_create(x->l->c);
    mde_json_writer w = mde_json_start(t, 1);
    int i;
    mde_json_open(&w, NULL, '[');
    for (i = 0; i < x->count; i++) list_task(&w, i, name_of_task(x, i), seed_is_done(x, i), x->l->p.json);
    mde_json_close(&w);
    if (x->l->p.json && mde_json_end(&w) == MDE_OK) fputs(t->bytes, stdout);
    mde_text_free(t);
}

/* ---- What all tasks found ---- */

static void add_measure(seed_study *x, int task, const char *part, int is_share, const char *name, double value)
{
    mde_context *c = x->l->c;
    measure *m;
    int i;
    for (i = 0; i < x->measure_count; i++) {
        if (strcmp(x->measures[i].part, part) == 0 && strcmp(x->measures[i].name, name) == 0) break;
    }
    if (i == MAX_MEASURES) mde_fail(c, MDE_BAD_FILE, "%s: more than %d measures", x->l->s.out, MAX_MEASURES);
    if (program_failed(c)) return;
    m = &x->measures[i];
    if (i == x->measure_count) {
        m->part = part;
        m->is_share = is_share;
        snprintf(m->name, sizeof m->name, "%s", name);
        m->values = program_doubles(c, x->count, 1);
        for (i = 0; m->values && i < x->count; i++) m->values[i] = (double)NAN;
        x->measure_count++;
    }
    if (m->values) m->values[task] = value;
}

static void take_classify(seed_study *x, int task, const char *part, const mde_json *found)
{
    static const char *const differences[3][2] = { { "dagan_minus_none", "DAGAN - none" },
                                                   { "screened_minus_none", "screened - none" },
                                                   { "both_minus_classic", "classic + screened - classic" } };
    const mde_json *row = mde_json_get(found, "rows"), *arm;
    char name[80];
    int k;
    for (row = row ? row->child : NULL; row; row = row->next) {
        int samples = program_int(row, "samples");
        for (arm = mde_json_get(row, "arms"), arm = arm ? arm->child : NULL; arm; arm = arm->next) {
            snprintf(name, sizeof name, "%d real, %.40s", samples, mde_json_string(arm, "arm", ""));
            add_measure(x, task, part, 1, name, mde_json_number(arm, "mean", (double)NAN));
        }
        for (k = 0; k < 3; k++) {
            snprintf(name, sizeof name, "%d real, %s", samples, differences[k][1]);
            add_measure(x, task, part, 1, name,
                        mde_json_number(mde_json_get(row, differences[k][0]), "mean", (double)NAN));
        }
    }
}

static void take_match(seed_study *x, int task, const mde_json *found)
{
    static const char *const qualities[4][2] = { { "quality", "all kept" }, { "quality_half_kept", "half kept" },
                                                 { "quality_quarter_kept", "a quarter kept" },
                                                 { "quality_tenth_kept", "a tenth kept" } };
    const mde_json *matcher = mde_json_get(found, "matchers"), *cell;
    char name[80];
    int k;
    for (matcher = matcher ? matcher->child : NULL; matcher; matcher = matcher->next) {
        cell = mde_json_get(matcher, "accuracy");
        for (cell = cell ? cell->child : NULL; cell; cell = cell->next) {
            snprintf(name, sizeof name, "%d-way %d-shot, %.40s", program_int(cell, "way"), program_int(cell, "shot"),
                     mde_json_string(matcher, "matcher", ""));
            add_measure(x, task, "match", 1, name, mde_json_number(cell, "mean", (double)NAN));
        }
    }
    for (k = 0; k < 4; k++) {
        const mde_json *quality = mde_json_get(found, qualities[k][0]);
        for (cell = quality ? quality->child : NULL; cell; cell = cell->next) {
            if (cell->kind == MDE_JSON_STRING || strcmp(cell->key, "kept") == 0) continue;
            snprintf(name, sizeof name, "made images, %s: %.40s", qualities[k][1], cell->key);
            add_measure(x, task, "match", 0, name, mde_json_number(quality, cell->key, (double)NAN));
        }
    }
}

/* Of nearest neighbours by pixels. */
static void take_pixels(seed_study *x, int task, const mde_json *found)
{
    static const char *const names[3][2] = { { "real", "without made images" }, { "with_made", "with 10 made images" },
                                             { "with_100_made", "with 100 made images" } };
    char name[80];
    int k;
    for (k = 0; k < 3; k++) {
        if (!mde_json_get(found, names[k][0])) continue;
        snprintf(name, sizeof name, "%d-way 1-shot, pixels, %s", program_int(found, "way"), names[k][1]);
        add_measure(x, task, "match", 1, name, mde_json_number(found, names[k][0], (double)NAN));
    }
}

/* The values that there are, their mean and standard deviation, which of one is NaN. */
static int summary_of(const seed_study *x, const measure *m, double *mean, double *spread, double range[2])
{
    double *values = program_doubles(x->l->c, x->count, 1);
    int i, n = 0;
    *mean = *spread = range[0] = range[1] = (double)NAN;
    for (i = 0; values && i < x->count; i++) {
        if (!(m->values[i] == m->values[i])) continue;
        values[n++] = m->values[i];
        if (n == 1 || m->values[i] < range[0]) range[0] = m->values[i];
        if (n == 1 || m->values[i] > range[1]) range[1] = m->values[i];
    }
    if (n > 0) *mean = mean_of(n, values);
    if (n > 0) *spread = spread_of(n, values);
    mde_release(x->l->c, values);
    return n;
}

static void write_seeds_csv(seed_study *x)
{
    mde_text *t = mde_text_create(x->l->c);
    char name[100];
    int i, k;
    mde_text_add(t, "task,seed,split");
    for (k = 0; k < x->measure_count; k++) {
        snprintf(name, sizeof name, "%s: %s", x->measures[k].part, x->measures[k].name);
        mde_text_add(t, ",");
        mde_text_add_csv(t, name);
    }
    mde_text_add(t, "\n");
    for (i = 0; i < x->count; i++) {
        mde_text_format(t, "%s,%s,", name_of_task(x, i), mde_json_string(x->tasks[i], "seed", ""));
        mde_text_add_csv(t, mde_json_string(x->tasks[i], "split", ""));
        for (k = 0; k < x->measure_count; k++) {
            mde_text_add(t, ",");
            if (x->measures[k].values[i] == x->measures[k].values[i]) {
                mde_text_add_number(t, x->measures[k].values[i], 6);
            }
        }
        mde_text_add(t, "\n");
    }
    write_file(x->l, t, "seeds.csv");
}

static void write_seeds_json(seed_study *x)
{
    mde_text *t = mde_text_create(x->l->c);
    mde_json_writer w = mde_json_start(t, 2);
    int i, k;
    mde_json_open(&w, NULL, '{');
    mde_json_open(&w, "tasks", '[');
    for (i = 0; i < x->count; i++) mde_json_write_string(&w, NULL, name_of_task(x, i));
    mde_json_close(&w);
    mde_json_open(&w, "measures", '[');
    for (k = 0; k < x->measure_count; k++) {
        const measure *m = &x->measures[k];
        double mean, spread, range[2];
        int n = summary_of(x, m, &mean, &spread, range);
        mde_json_open(&w, NULL, '{');
        mde_json_write_string(&w, "part", m->part);
        mde_json_write_string(&w, "name", m->name);
        mde_json_write_int(&w, "count", n);
        mde_json_write_number(&w, "mean", mean, 6);
        mde_json_write_number(&w, "spread", spread, 6);
        mde_json_write_numbers(&w, "values", (size_t)x->count, m->values, 6);
        mde_json_close(&w);
    }
    mde_json_close(&w);
    mde_json_close(&w);
    mde_json_end(&w);
    write_file(x->l, t, "seeds.json");
}

static void write_seeds_page(seed_study *x)
{
    mde_text *t = mde_text_create(x->l->c);
    const char *part = "";
    int k;
    program_page_open(t, "DAGAN over seeds", "Images made for classes never seen, over seeds");
    mde_text_format_html(t, "<p>%d tasks of %s/plan.json, each with a training, a choice of test images and, unless a "
                         "file says the split, target classes of its own seed: the spread is the standard deviation "
                         "over tasks, which has all of these in it. With several splits, tasks of the same one share "
                         "its classes. A measure that some tasks do not have is of the others alone; how many stands "
                         "beside it.</p>\n", x->count, x->l->s.out);
    for (k = 0; k < x->measure_count; k++) {
        const measure *m = &x->measures[k];
        double mean, spread, range[2], scale = m->is_share ? 100 : 1;
        int n = summary_of(x, m, &mean, &spread, range);
        if (strcmp(part, m->part) != 0) {
            mde_text_format_html(t, "<h2>%s</h2>\n<table><tr><th>measure</th><th>mean</th><th>spread</th><th>range"
                                 "</th><th>tasks</th></tr>\n", m->part);
            part = m->part;
        }
        mde_text_format_html(t, "<tr><td>%s%s</td>", m->name, m->is_share ? ", %" : "");
        program_page_number(t, scale * mean, m->is_share ? 2 : 3, 0);
        program_page_number(t, scale * spread, m->is_share ? 2 : 3, 0);
        program_page_range(t, scale * range[0], scale * range[1], m->is_share ? 2 : 3);
        mde_text_format(t, "<td>%d of %d</td></tr>\n", n, x->count);
        if (k + 1 == x->measure_count || strcmp(part, x->measures[k + 1].part) != 0) mde_text_add(t, "</table>\n");
    }
    if (x->measure_count == 0) mde_text_add(t, "<p class=\"note\">No task could measure anything.</p>\n");
    program_page_close(t);
    write_file(x->l, t, "seeds.html");
}

static void join_seeds(seed_study *x)
{
    static const char *const parts[2] = { "classify", "transfer" };
    lab *l = x->l;
    int i, k, missing = 0, first = 0;
    char folder[PROGRAM_PATH], path[PROGRAM_PATH];
    mde_json **found;
    for (i = x->count - 1; i >= 0; i--) {
        if (seed_is_done(x, i)) continue;
        first = i;
        missing++;
    }
    if (missing) {
        mde_fail(l->c, MDE_BAD_ARGUMENT, "%s: %d of %d tasks are not finished, or their results were changed; the "
                 "first is task %d (%s)", l->s.out, missing, x->count, first, name_of_task(x, first));
    }
    if (bad(l)) return;
    found = (mde_json **)mde_alloc(l->c, (size_t)x->count, sizeof *found);
    x->measures = (measure *)mde_alloc(l->c, MAX_MEASURES, sizeof *x->measures);
    for (i = 0; i < x->count && !bad(l); i++) {
        found[i] = mde_json_read(l->c, program_path(l->c, path, "%s/report.json", folder_of_task(x, i, folder)));
    }
    for (k = 0; k < 2 && !bad(l); k++) {
        for (i = 0; i < x->count; i++) take_classify(x, i, parts[k], mde_json_get(found[i], parts[k]));
        for (i = 0; i < x->count && k == 0; i++) {
            take_match(x, i, mde_json_get(found[i], "match"));
            take_pixels(x, i, mde_json_get(mde_json_get(found[i], "match"), "pixels"));
        }
    }
    for (i = 0; i < x->count && !bad(l); i++) mde_json_free(l->c, found[i]);
    if (!bad(l)) write_seeds_csv(x);
    if (!bad(l)) write_seeds_json(x);
    if (!bad(l)) write_seeds_page(x);
    if (!bad(l) && !l->p.json) printf("join: %s\n", in_out(l, "seeds.html", path, sizeof path));
}

static void run_seeds(lab *l, const char *command, const settings *defaults)
{
    int is_plan = strcmp(command, "plan") == 0;
    job_list j = { "dagan_lab", "--out ", NULL, 0, 1, { "join", NULL, NULL, NULL } };
    seed_study x;
    const char *out = l->s.out;
    if (is_plan) {                  /* and is then read as a task reads it */
        write_plan(l, defaults);
        l->s = *defaults;
        l->s.out = out;
        l->p.seed = 1;
    }
    open_plan(&x, l, defaults);
    j.out = out;
    j.count = x.count;
    if (bad(l)) return;
    if (is_plan) jobs_write(l->c, &j);
    if (is_plan && !l->p.json && !bad(l)) jobs_print(&j);
    if (strcmp(command, "tasks") == 0) list_seeds(&x);
    if (strcmp(command, "task") == 0) {
        run_listed_tasks(l->c, &j, l->p.count - 1, l->p.arguments + 1, run_seed, &x);
    }
    if (strcmp(command, "join") == 0) join_seeds(&x);
    if (l->p.json && !bad(l) && is_plan) program_print_file(l->c, out, "plan.json");
    if (l->p.json && !bad(l) && strcmp(command, "join") == 0) program_print_file(l->c, out, "seeds.json");
}

#endif
