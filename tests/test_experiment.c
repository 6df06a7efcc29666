/* The experiment of mde_lab: questions, tasks, tables, and what becomes of broken files. */
#define main mde_lab_main
#include "../examples/mde_lab.c"
#undef main
#include "test.h"

static char folder[512];

static lab_settings tiny_settings(const char *data)
{
    lab_settings desc;
    memset(&desc, 0, sizeof desc);
    desc.data = data;
    desc.layers = 1;
    desc.width = 16;
    desc.heads = 2;
    desc.context = 16;
    desc.batch = 4;
    desc.tokens = 640;
    desc.proxies = 6;
    desc.validation_tokens = 200;
    desc.questions = 20;
    return desc;
}

/* Two domains of numbered lines; document i of a domain holds its own number, so that leaks would show. */
static void write_data(mde_context *c, const char *data)
{
    int domain, i;
    for (domain = 0; domain < 2; domain++) {
        char path[700];
        mde_text *t = mde_text_create(c);
        for (i = 0; i < 2000; i++) mde_text_format(t, domain ? "line %d of the second\n" : "%d is a number here\n", i);
        snprintf(path, sizeof path, "%s/%s.txt", data, domain ? "second" : "first");
        mde_make_folder(c, data);
        mde_text_write(t, path);
        mde_text_free(t);
    }
}

static void a_question_holds_held_out_text_and_three_other_continuations(void)
{
    mde_context *c = mde_context_create(NULL);
    char out[600], data[600];
    lab_settings desc;
    experiment *x;
    int q, a, b;
    snprintf(out, sizeof out, "%s/questions", folder);
    snprintf(data, sizeof data, "%s/data", folder);
    desc = tiny_settings(data);
    CHECK(experiment_plan(c, out, &desc) == MDE_OK);
    x = experiment_open(c, out);
    CHECK(x != NULL);
    for (q = 0; x && q < desc.questions; q++) {
        const uint16_t *question = x->questions + (int64_t)q * CHOICES * 2 * x->choice;
        size_t count, at, bytes = (size_t)x->choice * sizeof *question;
        const uint16_t *test = mde_corpus_tokens(x->corpus, MDE_TEST, q % 2, &count);
        int found = 0;
        for (at = 0; at + 2 * (size_t)x->choice <= count; at++) found |= memcmp(test + at, question, 2 * bytes) == 0;
        CHECK(found);
        for (a = 1; a < CHOICES; a++) {
            const uint16_t *other = question + a * 2 * x->choice;
            CHECK(memcmp(other, question, bytes) == 0);
            found = 0;
            for (at = 0; at + (size_t)x->choice <= count; at++)
                found |= memcmp(test + at, other + x->choice, bytes) == 0;
            CHECK(found);
        }
    }
    for (b = 0; x && b < x->count; b++) {
        double sum = 0;
        for (a = 0; a < x->domains; a++) sum += x->tasks[b].weights[a];
        CLOSE(sum, 1, 1e-12);
    }
    mde_context_free(c);
}

/* Two domains, one of a single file and one of 300 files of 1 to 400 bytes. */
static void write_many_files(mde_context *c, const char *data)
{
    int i;
    for (i = -1; i < 300; i++) {
        char path[700];
        mde_text *t = mde_text_create(c);
        if (i < 0) snprintf(path, sizeof path, "%s/one.txt", data);
        else snprintf(path, sizeof path, "%s/many/%03d.txt", data, i);
        while (t->length < (i < 0 ? 40000 : (size_t)(1 + i * i % 400))) mde_text_format(t, "%d", i + 3);
        mde_text_write(t, path);
        mde_text_free(t);
    }
}

static void validation_takes_equal_shares_of_all_held_out_documents(void)
{
    static const int64_t wanted[4] = { 64, 300, 1500, 1000000 };
    mde_context *c = mde_context_create(NULL);
    char data[600], many[700], out[600];
    lab_settings desc;
    int q, k, all = 0, some = 0;
    snprintf(data, sizeof data, "%s/files", folder);
    snprintf(many, sizeof many, "%s/many", data);
    snprintf(out, sizeof out, "%s/windows", folder);
    mde_make_folder(c, many);
    write_many_files(c, data);
    for (q = 0; q < 4; q++) {
        experiment *x;
        desc = tiny_settings(data);
        desc.validation_tokens = wanted[q];
        x = experiment_create(c, out, &desc);
        CHECK(x != NULL);
        for (k = 0; x && k < 2; k++) {
            int64_t documents, i, d, tokens = 0, used = 0, possible = 0, largest = 0, taken[400];
            const int64_t *starts = mde_corpus_documents(x->corpus, MDE_VALIDATION, k, &documents);
            memset(taken, 0, sizeof taken);
            for (i = 0; i < x->window_count[k]; i++) {
                const window *w = &x->windows[k][i];
                d = w->document;
                CHECK(w->length > 0 && w->length <= desc.context && d < documents && d < 400);
                CHECK(w->start >= starts[d] && w->start + w->length < starts[d + 1]);
                CHECK(i == 0 || w->start >= w[-1].start + w[-1].length);
                taken[d] += w->length;
                tokens += w->length;
            }
            for (d = 0; d < documents; d++) {
                possible += starts[d + 1] - starts[d] - 1;
                used += taken[d] > 0;
                if (taken[d] > largest) largest = taken[d];
            }
            CHECK(tokens == x->window_tokens[k] && used == x->window_documents[k]);
            CHECK(tokens <= wanted[q]);
            /* Half a context each, or some are left out. */
            if (documents <= wanted[q] / 8) {
                CHECK(tokens == (possible < wanted[q] ? possible : wanted[q]));
                for (d = 0; d < documents; d++) {
                    int64_t has = starts[d + 1] - starts[d] - 1;
                    CHECK(taken[d] == has || taken[d] >= largest - 1);
                }
                all += documents > 10;
            } else {
                for (d = used = 0; d < documents / 4; d++) used += taken[d] > 0;
                CHECK(used > 0);
                for (; d < documents; d++) used -= taken[d] > 0;
                CHECK(used < 0);
                some++;
            }
            if (tokens == wanted[q]) CHECK(largest >= desc.context / 2);
        }
        experiment_free(x);
    }
    CHECK(all > 0 && some > 0 && mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

static void a_broken_run_file_is_run_again_and_gives_the_same_bytes(void)
{
    mde_context *c = mde_context_create(NULL);
    char out[600], data[600], path[800];
    lab_settings desc;
    experiment *x;
    unsigned char *before, *after;
    size_t size, size_after;
    snprintf(out, sizeof out, "%s/broken", folder);
    snprintf(data, sizeof data, "%s/data", folder);
    desc = tiny_settings(data);
    experiment_plan(c, out, &desc);
    x = experiment_open(c, out);
    CHECK(run_numbered_task(x, 0) == MDE_OK);
    CHECK(task_is_done(x, &x->tasks[0]));
    CHECK(!task_is_done(x, &x->tasks[1]));
    snprintf(path, sizeof path, "%s/runs/%s.safetensors", out, x->tasks[0].name);
    before = mde_file_read(c, path, 1 << 24, &size);
    CHECK(mde_file_write(c, path, before, size / 2) == MDE_OK);
    CHECK(!task_is_done(x, &x->tasks[0]));
    CHECK(mde_context_status(c) == MDE_OK);
    CHECK(run_numbered_task(x, 0) == MDE_OK);
    after = mde_file_read(c, path, 1 << 24, &size_after);
    CHECK(after && before && size == size_after && memcmp(before, after, size) == 0);
    CHECK(fit(x) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "not finished");
    mde_context_free(c);
}

/* Writes the file of a task anew with one tensor as given; NULL data: without it. */
static void put_tensor(mde_context *c, const char *path, const mde_safetensors *run, const char *name, int rank,
                       int64_t rows, int64_t columns, const float *data)
{
    mde_safetensor tensors[16];
    int i, count = 0;
    for (i = 0; i < run->count && count < 16; i++) {
        tensors[count] = run->tensors[i];
        if (strcmp(run->tensors[i].name, name) == 0) {
            if (!data) continue;
            tensors[count] = tensor_entry(run->tensors[i].name, rank, rows, columns, data);
        }
        count++;
    }
    CHECK(mde_safetensors_write(c, path, count, tensors, run->pairs, run->metadata) == MDE_OK);
}

static void a_run_file_with_tensors_of_other_shapes_is_refused_by_file_and_tensor(void)
{
    static float data[4096];
    static const float bad[3] = { 2.5f, (float)NAN, 2.5f }, endless[3] = { (float)INFINITY, 1, 1 }, minus[1] = { -1 };
    static const struct {
        const char *name;
        int rank;
        int64_t rows, columns;
        const float *data;
        const char *error;
    } cases[] = {
        { "losses", 1, 2, 0, data, "another shape than [3]" }, { "losses", 2, 3, 1, data, "another shape than [3]" },
        { "losses", 1, 0, 0, NULL, "is not there; expected [3]" }, { "losses", 1, 3, 0, bad, "has nan at 1" },
        { "losses", 1, 3, 0, endless, "has inf at 0" }, { "accuracy", 1, 0, 0, data, "another shape than [1]" },
        { "accuracy", 1, 2, 0, data, "another shape than [1]" }, { "accuracy", 1, 1, 0, minus, "has -1 at 0" },
        { "curve", 2, 1, 64, data, "another shape than [2, points]" }, { "curve", 1, 2, 0, data, "another shape than" },
        { "curve", 2, 2, 0, data, "another shape than" }, { "curve", 2, 2, 2000, data, "another shape than" },
        { "curve", 2, 3, 3, data, "another shape than" }, { "logp.first", 1, 5, 0, data, "another shape than [200]" },
        { "logp.second", 1, 201, 0, data, "another shape than [200]" },
        { "logp.end_task", 1, 0, 0, NULL, "is not there; expected [160]" },
        { "logp.end_task", 2, 160, 2, data, "another shape than [160]" }
    };
    mde_context *c = mde_context_create(NULL);
    char out[600], data_path[600], path[800];
    unsigned char *before;
    lab_settings desc;
    experiment *x;
    size_t size, size_after, q;
    snprintf(out, sizeof out, "%s/shapes", folder);
    snprintf(data_path, sizeof data_path, "%s/data", folder);
    desc = tiny_settings(data_path);
    experiment_plan(c, out, &desc);
    x = experiment_open(c, out);
    CHECK(run_numbered_task(x, 0) == MDE_OK);
    snprintf(path, sizeof path, "%s/runs/%s.safetensors", out, x->tasks[0].name);
    before = mde_file_read(c, path, 1 << 24, &size);
    for (q = 0; q < sizeof cases / sizeof *cases; q++) {
        mde_safetensors *run = mde_safetensors_parse(c, path, before, size);
        tables t;
        put_tensor(c, path, run, cases[q].name, cases[q].rank, cases[q].rows, cases[q].columns, cases[q].data);
        CHECK(!task_is_done(x, &x->tasks[0]) && mde_context_status(c) == MDE_BAD_FILE);
        CHECK_TEXT(mde_error(c), path);
        CHECK_TEXT(mde_error(c), cases[q].name);
        CHECK_TEXT(mde_error(c), cases[q].error);
        mde_clear_error(c);
        CHECK(load_tables(x, &t) == MDE_BAD_FILE);
        mde_clear_error(c);
        tables_free(x, &t);
        CHECK(run_numbered_task(x, 0) == MDE_BAD_FILE);
        mde_clear_error(c);
        mde_safetensors_free(c, run);
    }
    /* Numbers that a run could have had. */
    for (q = 1; q <= 64; q *= 4) {
        unsigned char *after;
        mde_file_write(c, path, before, size);
        CHECK(task_is_done(x, &x->tasks[0]));
        after = mde_file_read(c, path, 1 << 24, &size_after);
        after[size - 4 * q] ^= 1;
        mde_file_write(c, path, after, size);
        CHECK(!task_is_done(x, &x->tasks[0]) && mde_context_status(c) == MDE_BAD_FILE);
        CHECK_TEXT(mde_error(c), "numbers are not those that the run wrote; delete the file");
        mde_clear_error(c);
        mde_release(c, after);
    }
    mde_file_write(c, path, before, size);
    CHECK(task_is_done(x, &x->tasks[0]));
    mde_context_free(c);
}

static int stop_at_once(const mde_progress *p, void *user)
{
    (void)p;
    (void)user;
    return 1;
}

static void the_experts_of_a_table_have_the_losses_of_their_runs(void)
{
    mde_context *c = mde_context_create(NULL);
    char out[600], data[600];
    lab_settings desc;
    experiment *x;
    tables t;
    int i, j;
    snprintf(out, sizeof out, "%s/tables", folder);
    snprintf(data, sizeof data, "%s/data", folder);
    desc = tiny_settings(data);
    experiment_plan(c, out, &desc);
    x = experiment_open(c, out);
    CHECK(run_pending(x, x->count, x->tasks) == MDE_OK);
    CHECK(load_tables(x, &t) == MDE_OK);
    /* At a vertex of the simplex the mixture is the expert itself (float32 log-probabilities and losses). */
    for (i = 0; i < x->domains; i++) {
        for (j = 0; j < t.v; j++) CLOSE(t.features[i * t.v + j], t.losses[i * t.v + j], 2e-6);
    }
    tables_free(x, &t);
    x->progress = stop_at_once;
    CHECK(fit(x) == MDE_STOPPED);
    mde_context_free(c);
}

static void changed_data_are_noticed(void)
{
    mde_context *c = mde_context_create(NULL);
    char out[600], data[600], path[700];
    lab_settings desc;
    mde_text *t;
    snprintf(out, sizeof out, "%s/changed", folder);
    snprintf(data, sizeof data, "%s/data2", folder);
    write_data(c, data);
    desc = tiny_settings(data);
    CHECK(experiment_plan(c, out, &desc) == MDE_OK);
    t = mde_text_create(c);
    while (t->length < 30000) mde_text_add(t, "something else altogether\n");
    snprintf(path, sizeof path, "%s/first.txt", data);
    mde_text_write(t, path);
    CHECK(experiment_open(c, out) == NULL);
    CHECK_TEXT(mde_error(c), "data_hash");
    mde_context_free(c);
}

/* Numbers of a plan that no int can hold are an error like others that differ, not undefined. */
static void a_plan_with_numbers_out_of_range_is_refused(void)
{
    static const char *const wrong[] = { "8e21", "-8e21", "1e308", "1.5", "\"x\"" };
    mde_context *c = mde_context_create(NULL);
    char out[600], data[600], path[700];
    lab_settings desc;
    unsigned char *plan;
    const char *at;
    size_t size, i;
    snprintf(out, sizeof out, "%s/numbers", folder);
    snprintf(data, sizeof data, "%s/data", folder);
    snprintf(path, sizeof path, "%s/plan.json", out);
    desc = tiny_settings(data);
    CHECK(experiment_plan(c, out, &desc) == MDE_OK);
    plan = mde_file_read(c, path, (size_t)1 << 20, &size);
    at = plan ? strstr((const char *)plan, "\"width\": 16,") : NULL;
    CHECK(at != NULL);
    for (i = 0; at && i < sizeof wrong / sizeof *wrong; i++) {
        mde_text *t = mde_text_create(c);
        mde_text_format(t, "%.*s\"width\": %s%s", (int)(at - (const char *)plan), plan, wrong[i], at + 11);
        mde_text_write(t, path);
        mde_text_free(t);
        CHECK(experiment_open(c, out) == NULL && mde_error(c)[0]);
        mde_clear_error(c);
    }
    mde_release(c, plan);
    mde_context_free(c);
}

int main(void)
{
    mde_context *c = mde_context_create(NULL);
    char data[600];
    snprintf(folder, sizeof folder, "build/test_experiment.%d", (int)getpid());
    snprintf(data, sizeof data, "%s/data", folder);
    write_data(c, data);
    mde_context_free(c);
    TEST(a_question_holds_held_out_text_and_three_other_continuations);
    TEST(validation_takes_equal_shares_of_all_held_out_documents);
    TEST(a_broken_run_file_is_run_again_and_gives_the_same_bytes);
    TEST(a_run_file_with_tensors_of_other_shapes_is_refused_by_file_and_tensor);
    TEST(the_experts_of_a_table_have_the_losses_of_their_runs);
    TEST(changed_data_are_noticed);
    TEST(a_plan_with_numbers_out_of_range_is_refused);
    snprintf(data, sizeof data, "rm -rf '%s'", folder);
    return test_end() | (system(data) != 0);
}
