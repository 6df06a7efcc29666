/* Language models of GPT-2's form beside PyTorch's on the CPU and beside straightforward loops in C (bench/plain_lm.c):
   tokens a second of a training step (forward, backward, AdamW), of scoring and of generation with a cache of keys and
   values, and the peak of resident memory. From the repository's folder:
     make build/bench_lm && ./build/bench_lm [SECONDS [train|score|generate]]
   Each side is a process that works in turns of SECONDS (default 0.2) or of one step that takes longer; a turn's figure
   is the median of its steps. The plain loops run once and take a quarter of the batch. A shape is layers x width /
   heads, context, vocabulary, batch. Without the peer or the plain loops their lines are left out. The memory is that
   of the whole process: PyTorch's holds its libraries too. */
#define _POSIX_C_SOURCE 200809L
#define MDEMIX_IMPLEMENTATION
#include "../mdemix.h"
#include "bench.h"

typedef struct model { int layers, width, heads, context, vocabulary, batch; } model;

static const model models[3] = { { 4, 128, 4, 128, 256, 16 }, { 6, 256, 8, 256, 512, 8 }, { 8, 512, 8, 256, 4096, 8 } };

/* ---- Our side, a process of its own ---- */

/* A training that is never done is told after each step whether its turn has ended. */
typedef struct stopwatch { double last, times[BENCH_MOST_RUNS], begun, seconds, tokens; int count; } stopwatch;

/* The peak of resident memory so far. */
static double peak_bytes(void)
{
    char line[256];
    double kilobytes = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "VmHWM:", 6) == 0) kilobytes = atof(line + 6);
    }
    if (f) fclose(f);
    return kilobytes * 1024;
}

/* Waits for a turn; 0 when there is none left. */
static int turn(void)
{
    char line[16];
    return fgets(line, sizeof line, stdin) != NULL;
}

static void report(double rate)
{
    printf("%.17g %.17g\n", rate, peak_bytes());
    fflush(stdout);
}

static int tick(const mde_progress *p, void *user)
{
    stopwatch *k = (stopwatch *)user;
    double now = mde_seconds();
    if (p->step > 1) k->times[k->count++] = now - k->last;
    if (p->step <= 1 || k->count == BENCH_MOST_RUNS || (k->count > 0 && now - k->begun > k->seconds)) {
        if (p->step > 1) report(k->tokens / bench_median(k->count, k->times));
        if (!turn()) return 1;
        k->begun = now = mde_seconds();
        k->count = 0;
    }
    k->last = now;
    return 0;
}

static void train(mde_context *c, mde_lm *lm, const model *m, double seconds)
{
    static char text[1 << 17];
    const char *names[1] = { "text" }, *texts[1];
    size_t lengths[1] = { sizeof text }, i;
    mde_random r = mde_random_start(1, 0);
    mde_corpus_desc corpus_desc;
    mde_train_desc desc;
    mde_corpus *corpus;
    stopwatch k;
    for (i = 0; i < sizeof text; i++) text[i] = (char)(' ' + mde_random_uniform(&r) * 64);
    texts[0] = text;
    memset(&corpus_desc, 0, sizeof corpus_desc);
    memset(&desc, 0, sizeof desc);
    memset(&k, 0, sizeof k);
    corpus = mde_corpus_from_texts(c, 1, names, texts, lengths, &corpus_desc);
    k.seconds = seconds;
    k.tokens = m->batch * m->context;
    desc.batch = m->batch;
    desc.tokens = (int64_t)m->batch * m->context * 100000;
    desc.learning_rate = 3e-4;
    desc.progress = tick;
    desc.user = &k;
    mde_lm_train(lm, corpus, &desc);
    mde_corpus_free(corpus);
}

typedef struct scoring { mde_lm *lm; const model *m; uint16_t *tokens; float *out; } scoring;

static void score(void *user)
{
    scoring *s = (scoring *)user;
    mde_lm_logprobs(s->lm, s->tokens, (size_t)(s->m->batch * s->m->context + 1), s->out);
}

static void generate(void *user)
{
    scoring *s = (scoring *)user;
    mde_generate_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.tokens = s->m->context - 1;
    mde_lm_generate(s->lm, &desc);
}

/* Prints tokens a second and peak bytes, turn by turn. */
static int serve(const char *work, const model *m, int threads, double seconds)
{
    mde_context *c = bench_context(threads);
    mde_lm_desc desc;
    mde_tokenizer *bytes;
    scoring s;
    int i, count = m->batch * m->context + 1, scores = strcmp(work, "score") == 0, failed;
    memset(&desc, 0, sizeof desc);
    desc.layers = m->layers;
    desc.width = m->width;
    desc.heads = m->heads;
    desc.context = m->context;
    desc.vocabulary = m->vocabulary;
    desc.layer_norm = desc.learned_positions = desc.gelu = desc.biases = 1;
    s.lm = mde_lm_create(c, NULL, &desc);
    s.m = m;
    s.tokens = (uint16_t *)mde_alloc(c, (size_t)count, sizeof *s.tokens);
    s.out = (float *)mde_alloc(c, (size_t)count, sizeof *s.out);
    bytes = mde_tokenizer_bytes(c);
    mde_lm_set_tokenizer(s.lm, bytes);
    for (i = 0; s.tokens && i < count; i++) s.tokens[i] = (uint16_t)(i * 37 % m->vocabulary);
    if (strcmp(work, "train") == 0) {
        train(c, s.lm, m, seconds);
        if (mde_context_status(c) == MDE_STOPPED) mde_clear_error(c);
    } else {
        (scores ? score : generate)(&s);        /* memory is there before the first turn */
        while (mde_context_status(c) == MDE_OK && turn()) {
            double each = bench_time(scores ? score : generate, &s, seconds);
            report((scores ? count - 1 : m->context - 1) / each);
        }
    }
    failed = mde_context_status(c) != MDE_OK;
    if (failed) fprintf(stderr, "# %s\n", mde_error(c));
    mde_tokenizer_free(bytes);
    mde_lm_free(s.lm);
    mde_context_free(c);
    return failed;
}

/* ---- Side by side ---- */

/* The two numbers that a program prints; 0 when it fails. */
static int run_program(const char *command, double *numbers)
{
    FILE *f = popen(command, "r");
    int read = f ? fscanf(f, "%lf %lf", &numbers[0], &numbers[1]) : 0;
    if (f && pclose(f) != 0) return 0;
    return read == 2 && numbers[0] > 0;
}

static void compare(const char *self, const char *python, const char *work, int index, int threads, double seconds)
{
    const model *m = &models[index];
    char command[512], shape[64], arguments[256], name[64];
    bench_pairs rate = { 0, '+', { 0 }, { 0 } }, memory = { 0, '-', { 0 }, { 0 } }, loops = { 0, '+', { 0 }, { 0 } };
    bench_program ours, peer;
    double mine[2] = { 0, 0 }, other[2] = { 0, 0 }, plain[2];
    int trains = strcmp(work, "train") == 0, i, there;
    snprintf(shape, sizeof shape, "%dx%d/%d,%d,%d,%d", m->layers, m->width, m->heads, m->context, m->vocabulary,
             m->batch);
    snprintf(command, sizeof command, "OMP_WAIT_POLICY=PASSIVE exec %s %s %d %d %g", self, work, index, threads,
             seconds);
    snprintf(arguments, sizeof arguments, "%s %d %d %d %d %d %d %g", work, m->layers, m->width, m->heads, m->context,
             m->vocabulary, m->batch, seconds);
    bench_start(&ours, command);
    there = bench_start_peer(&peer, python, "peer_lm.py", arguments, threads);
    for (i = 0; i < BENCH_PAIRS; i++) {
        if (bench_turn(&ours, 2, mine) < 2) break;
        there = there && bench_turn(&peer, 2, other) == 2;
        bench_add(&rate, mine[0], there ? other[0] : 0);
    }
    bench_stop(&peer);
    bench_stop(&ours);
    if (i < BENCH_PAIRS) {
        printf("# %s: %s failed\n", self, work);
        return;
    }
    if (python && !there) printf("# peer_lm.py failed, skipped\n");
    snprintf(name, sizeof name, "lm_%s", work);
    bench_figure(name, shape, threads, "tokens/s", &rate);
    snprintf(name, sizeof name, "lm_%s_memory", work);
    bench_add(&memory, mine[1] / 1e6, there ? other[1] / 1e6 : 0);
    if (trains || threads == 1) bench_figure(name, shape, threads, "MB", &memory);
    if (!trains || threads > 1) return;
    snprintf(command, sizeof command, "OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=%d build/plain_lm %d %d %d %d %d %d %g",
             threads, m->layers, m->width, m->heads, m->context, m->vocabulary, m->batch / 4, seconds);
    if (run_program(command, plain)) {
        bench_add(&loops, mine[0], plain[0]);
        bench_figure("lm_train_plain", shape, threads, "tokens/s", &loops);
    } else {
        printf("# build/plain_lm: not there, skipped\n");
    }
}

int main(int argc, char **argv)
{
    static const char *const works[3] = { "train", "score", "generate" };
    double seconds = argc > 1 ? atof(argv[1]) : 0.2;
    const char *python;
    int work, index, threads;
    if (argc == 5) return serve(argv[1], &models[atoi(argv[2]) % 3], atoi(argv[3]), atof(argv[4]));
    python = bench_python("torch");
    for (work = 0; work < 3; work++) {
        if (argc > 2 && strcmp(argv[2], works[work]) != 0) continue;
        for (threads = 1; threads <= 2; threads++) {
            for (index = 0; index < 3; index++) {
                compare(argv[0], python, works[work], index, threads, seconds);
            }
        }
    }
    return 0;
}
