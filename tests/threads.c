/* Contexts side by side in threads, for ThreadSanitizer: cc -fsanitize=thread -pthread tests/threads.c -lm. Each thread
   has a context and does the whole of the library in small; all must get the same numbers. They also write and read one
   file at once, which must always be whole. With OpenMP, every context has threads of its own as well. */
#define MDEDEF static
#define MDEMIX_IMPLEMENTATION
#include "../mdemix.h"
#define DAGANDEF static
#define DAGAN_IMPLEMENTATION
#include "../dagan.h"
#include "test.h"
#include <pthread.h>

#define THREADS 4

static const char shared[] = "build/threads_shared";

typedef struct worker {
    pthread_t thread;
    int number;
    double loss, weight, prediction;
    uint64_t images;
    char error[400];
    int mixed;      /* readings of the shared file that were of no one writer */
} worker;

static void train(mde_context *c, worker *w)
{
    static const char *const names[2] = { "a", "b" };
    char text[6000];
    const char *texts[2];
    size_t lengths[2], i;
    mde_corpus_desc from;
    mde_lm_desc shape;
    mde_train_desc desc;
    mde_corpus *corpus;
    mde_lm *lm;
    memset(&from, 0, sizeof from);
    memset(&shape, 0, sizeof shape);
    memset(&desc, 0, sizeof desc);
    for (i = 0; i < sizeof text; i++) text[i] = "the cat sat on a mat.\n"[i * (1 + i / 3000) % 22];
    texts[0] = text;
    texts[1] = text + 2500;
    lengths[0] = lengths[1] = 3000;
    from.document = 200;
    shape.layers = 1;
    shape.width = 32;
    shape.heads = 2;
    shape.context = 16;
    desc.tokens = 640;
    desc.batch = 4;
    corpus = mde_corpus_from_texts(c, 2, names, texts, lengths, &from);
    lm = mde_lm_create(c, corpus, &shape);
    if (lm && mde_lm_train(lm, corpus, &desc) == MDE_OK) {
        size_t count;
        const uint16_t *tokens = mde_corpus_tokens(corpus, MDE_VALIDATION, 0, &count);
        float logp[64];
        if (count > 64) count = 64;
        mde_lm_logprobs(lm, tokens, count, logp);
        for (i = 1; i < count; i++) w->loss -= (double)logp[i];
    }
    mde_lm_free(lm);
    mde_corpus_free(corpus);
}

static void mix(mde_context *c, worker *w)
{
    static const char *const names[2] = { "a", "b" };
    float logp[2][4000];
    const float *rows[2];
    mde_experts *experts = mde_experts_create(c, 2, names);
    mde_optimum best;
    mde_bootstrap_desc how;
    mde_bootstrap interval;
    int t;
    memset(&how, 0, sizeof how);
    how.replicates = 20;
    for (t = 0; t < 4000; t++) {
        logp[0][t] = -0.1f - (float)(t * 7 % 31) / 5.0f;
        logp[1][t] = -0.1f - (float)(t * 11 % 37) / 6.0f;
    }
    rows[0] = logp[0];
    rows[1] = logp[1];
    mde_experts_add(experts, "v", 4000, rows, NULL, 0);
    if (mde_mixture_minimize(experts, NULL, &best) == MDE_OK) w->weight = best.weights[0];
    mde_mixture_bootstrap(experts, &how, &interval);
}

static void regress(mde_context *c, worker *w)
{
    double weights[24 * 3], losses[24 * 2], at[3] = { 0.2, 0.3, 0.5 }, mean[2], sd[2];
    mde_random random = mde_random_start(1, 2);
    mde_surrogate_desc desc;
    mde_surrogate *s;
    int i;
    memset(&desc, 0, sizeof desc);
    for (i = 0; i < 24; i++) {
        double u = mde_random_uniform(&random), v = (1 - u) * mde_random_uniform(&random);
        weights[3 * i] = u;
        weights[3 * i + 1] = v;
        weights[3 * i + 2] = 1 - u - v;
        losses[2 * i] = 2 + exp(-2 * u) + v * v;
        losses[2 * i + 1] = 3 - 0.5 * v + u;
    }
    mde_surrogate_recipe(c, "stack", &desc);
    s = mde_surrogate_fit(c, 24, 3, 2, weights, losses, &desc);
    if (s && mde_surrogate_predict(s, 1, at, mean, sd) == MDE_OK) w->prediction = mean[0] + sd[1];
    mde_surrogate_free(s);
}

static void make_images(mde_context *c, worker *w)
{
    dagan_images *set = dagan_images_draw(c, 4, 4, 8, 1);
    dagan_desc desc;
    dagan_train_desc train_desc;
    dagan *g;
    memset(&desc, 0, sizeof desc);
    memset(&train_desc, 0, sizeof train_desc);
    desc.preset = DAGAN_QUICK;
    train_desc.steps = train_desc.critic_steps = 1;
    train_desc.batch = 2;
    g = dagan_create(c, set, &desc);
    if (g && dagan_train(g, set, &train_desc) == MDE_OK) {
        dagan_images *made = dagan_make(g, set, 1, 3);
        w->images = made ? dagan_images_hash(made) : 0;
        dagan_images_free(made);
    }
    dagan_free(g);
    dagan_images_free(set);
}

/* Writes a file of its own letter over and over and reads what is there. */
static void share_a_file(mde_context *c, worker *w)
{
    char own[5000];
    int round;
    memset(own, 'a' + w->number, sizeof own);
    for (round = 0; round < 50 && mde_context_status(c) == MDE_OK; round++) {
        size_t size = 0, i;
        unsigned char *bytes;
        mde_file_write(c, shared, own, sizeof own);
        bytes = mde_file_read(c, shared, sizeof own + 1, &size);
        for (i = 0; bytes && i < size && bytes[i] == bytes[0]; i++) {}
        w->mixed += i != sizeof own;
        mde_release(c, bytes);
    }
}

static void *work(void *user)
{
    worker *w = (worker *)user;
    mde_context_desc desc;
    mde_context *c;
    memset(&desc, 0, sizeof desc);
    desc.threads = 2;
    c = mde_context_create(&desc);
    train(c, w);
    mix(c, w);
    regress(c, w);
    make_images(c, w);
    share_a_file(c, w);
    snprintf(w->error, sizeof w->error, "%s", mde_error(c));
    mde_context_free(c);
    return NULL;
}

static void contexts_in_threads_compute_the_same_and_share_nothing(void)
{
    static worker workers[THREADS];
    int i;
    for (i = 0; i < THREADS; i++) {
        workers[i].number = i;
        CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    }
    for (i = 0; i < THREADS; i++) pthread_join(workers[i].thread, NULL);
    for (i = 0; i < THREADS; i++) {
        if (workers[i].error[0]) printf("    %s\n", workers[i].error);
        CHECK(workers[i].error[0] == 0);
        CHECK(workers[i].mixed == 0);
        CHECK(workers[i].loss > 0 && workers[i].loss == workers[0].loss);
        CHECK(workers[i].weight > 0 && workers[i].weight == workers[0].weight);
        CHECK(workers[i].prediction > 0 && workers[i].prediction == workers[0].prediction);
        CHECK(workers[i].images != 0 && workers[i].images == workers[0].images);
    }
    remove(shared);
}

int main(void)
{
    TEST(contexts_in_threads_compute_the_same_and_share_nothing);
    return test_end();
}
