/* Trains a small language model on text of your own and lets it write.

     cc -O2 examples/train_lm.c -o train_lm -lm          (add -fopenmp for more than one thread)
     ./train_lm book.txt --prompt "In the beginning"
     ./train_lm library --vocab 4096 --out library.safetensors

   A file is one domain; in a folder each file or folder is one. Every tenth document or so is held out, and the loss on
   it is shown for each domain. A run with --checkpoint can be stopped with control-C and started again. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define MDEMIX_IMPLEMENTATION
#if __has_include("../mdemix.h")   /* in the repository; a copy beside this file does as well */
#include "../mdemix.h"
#else
#include "mdemix.h"
#endif

static const char *help =
    "usage: train_lm PATH [options]\n"
    "Trains a transformer on a text file, or on a folder with a file or folder for each domain.\n"
    "  --layers N         layers of the model (4)\n"
    "  --width N          width of the model (128)\n"
    "  --heads N          attention heads (width / 32)\n"
    "  --context N        tokens the model sees at once (128)\n"
    "  --batch N          windows of that length a step (16)\n"
    "  --tokens N         tokens to train on in all (4000000)\n"
    "  --lr X             peak learning rate (0.003)\n"
    "  --vocab N          learn a byte-pair vocabulary of N tokens; without it tokens are bytes\n"
    "  --seed N           of initial weights and sampling (0)\n"
    "  --checkpoint FILE  continue from FILE if it is there; save to it now and then\n"
    "  --out FILE         write the weights (safetensors; a vocabulary goes beside it)\n"
    "  --prompt TEXT      what the sample at the end begins with\n"
    "  --sample N         tokens of the sample (300)\n"
    "  --threads N        0: all that OpenMP offers (0)\n"
    "  --help             this text\n";

static volatile sig_atomic_t interrupted;

static void interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static int fail(const char *text, const char *what)
{
    fprintf(stderr, "train_lm: %s%s\n", text, what);
    return 1;
}

/* A number after an option; exits with a sentence otherwise. */
static double number(const char *option, const char *text, double least, double most)
{
    char *end = NULL;
    double value = text ? strtod(text, &end) : 0;
    if (text && *text && *end == 0 && value >= least && value <= most) return value;
    fprintf(stderr, "train_lm: %s needs a number from %g to %g, not \"%s\"\n", option, least, most, text ? text : "");
    exit(1);
}

static int64_t whole(const char *option, const char *text, double least, double most)
{
    double value = number(option, text, least, most);
    if (value == (double)(int64_t)value) return (int64_t)value;
    fprintf(stderr, "train_lm: %s needs a whole number, not \"%s\"\n", option, text);
    exit(1);
}

/* The loss of single steps jumps about, so the line shows a running mean. */
typedef struct display { double mean, bytes_a_token; } display;

static int show(const mde_progress *p, void *user)
{
    display *d = (display *)user;
    long long left = (long long)p->seconds_left;
    d->mean += (p->loss - d->mean) * (d->mean == 0 ? 1 : 0.02);
    if (p->step % 10 == 0 || p->step == p->steps) {
        fprintf(stderr, "\rstep %lld/%lld  loss %.3f nats a token, %.3f bits a byte  %.0f tokens/s  %lld:%02lld left  ",
                (long long)p->step, (long long)p->steps, d->mean, d->mean / 0.69314718056 / d->bytes_a_token, p->rate,
                left / 60, left % 60);
    }
    if (p->step == p->steps || interrupted) fprintf(stderr, "\n");
    return interrupted;
}

static void print_piece(const char *bytes, size_t length, void *user)
{
    (void)user;
    fwrite(bytes, 1, length, stdout);
    fflush(stdout);
}

/* Bytes that the tokens of one split of a domain stand for. */
static double bytes_of(const mde_corpus *corpus, mde_split split, int domain, size_t *count)
{
    const uint16_t *tokens = mde_corpus_tokens(corpus, split, domain, count);
    double bytes = 0;
    size_t i, length;
    for (i = 0; i < *count; i++) {
        mde_tokenizer_token(mde_corpus_tokenizer(corpus), tokens[i], &length);
        bytes += (double)length;
    }
    return bytes;
}

static double report_corpus(const mde_corpus *corpus)
{
    double bytes = 0, tokens = 0;
    size_t train, held;
    int i;
    for (i = 0; i < mde_corpus_domains(corpus); i++) {
        bytes += bytes_of(corpus, MDE_TRAIN, i, &train);
        mde_corpus_tokens(corpus, MDE_VALIDATION, i, &held);
        tokens += (double)train;
        printf("%-24s %9zu tokens to train on, %8zu to validate\n", mde_corpus_name(corpus, i), train, held);
    }
    return tokens > 0 ? bytes / tokens : 1;
}

int main(int argc, char **argv)
{
    mde_context_desc settings = {0};
    mde_corpus_desc text = {0};
    mde_lm_desc model = {0};
    mde_train_desc training = {0};
    mde_generate_desc sample = {0};
    const char *out = NULL;
    display shown = {0, 1};
    mde_status status = MDE_OK;
    int i;

    training.tokens = 4000000;
    sample.tokens = 300;
    for (i = 1; i < argc; i++) {
        const char *option = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(option, "--help") == 0) {
            fputs(help, stdout);
            return 0;
        }
        if (option[0] != '-') {
            if (text.path) return fail("one PATH is enough; there is also ", option);
            text.path = option;
            continue;
        }
        if (strcmp(option, "--layers") == 0) model.layers = (int)whole(option, value, 1, 1000);
        else if (strcmp(option, "--width") == 0) model.width = (int)whole(option, value, 1, 65536);
        else if (strcmp(option, "--heads") == 0) model.heads = (int)whole(option, value, 1, 65536);
        else if (strcmp(option, "--context") == 0) model.context = (int)whole(option, value, 1, 1 << 20);
        else if (strcmp(option, "--batch") == 0) training.batch = (int)whole(option, value, 1, 1 << 20);
        else if (strcmp(option, "--tokens") == 0) training.tokens = whole(option, value, 1, 1e15);
        else if (strcmp(option, "--lr") == 0) training.learning_rate = number(option, value, 1e-9, 100);
        else if (strcmp(option, "--vocab") == 0) text.vocabulary = (int)whole(option, value, 257, 65536);
        else if (strcmp(option, "--seed") == 0) model.seed = (uint64_t)whole(option, value, 0, 1e15);
        else if (strcmp(option, "--sample") == 0) sample.tokens = (int)whole(option, value, 1, 1e8);
        else if (strcmp(option, "--threads") == 0) settings.threads = (int)whole(option, value, 0, 256);
        else if (strcmp(option, "--checkpoint") == 0) training.checkpoint = value;
        else if (strcmp(option, "--out") == 0) out = value;
        else if (strcmp(option, "--prompt") == 0) sample.prompt = value;
        else return fail("there is no option ", option);
        if (!value) return fail("a value is missing after ", option);
        i++;
    }
    training.seed = sample.seed = model.seed;
    if (!text.path) return fail("which text? train_lm PATH [options]; --help shows them", "");

    mde_context *c = mde_context_create(&settings);
    mde_corpus *corpus = mde_corpus_open(c, &text);
    mde_lm *lm = mde_lm_create(c, corpus, &model);
    if (lm) {
        shown.bytes_a_token = report_corpus(corpus);
        printf("model of %zu parameters, vocabulary %d, %d threads, %s\n", mde_params_elements(mde_lm_params(lm)),
               mde_corpus_vocabulary(corpus), mde_threads(c), mde_simd_name(c));
        fflush(stdout);
    }
    signal(SIGINT, interrupt);
    training.progress = show;
    training.user = &shown;
    status = mde_lm_train(lm, corpus, &training);
    if (status == MDE_STOPPED) fprintf(stderr, "stopped%s\n", training.checkpoint ? "; start again to continue" : "");

    for (i = 0; i < mde_corpus_domains(corpus) && mde_context_status(c) == MDE_OK; i++) {
        size_t count;
        double bytes = bytes_of(corpus, MDE_VALIDATION, i, &count);
        double loss = mde_lm_loss(lm, corpus, MDE_VALIDATION, i);
        printf("%-24s validation loss %.4f nats a token, %.4f bits a byte\n", mde_corpus_name(corpus, i), loss,
               loss / 0.69314718056 * (double)count / bytes);
    }
    if (out) mde_lm_write(lm, out);
    if (mde_context_status(c) == MDE_OK) {
        printf("\n%s", sample.prompt ? sample.prompt : "");
        sample.emit = print_piece;
        mde_lm_generate(lm, &sample);
        printf("\n");
    }
    if (mde_context_status(c) != MDE_OK) {
        fail(mde_error(c), "");
        mde_context_free(c);
        return 1;
    }
    mde_context_free(c);
    return 0;
}
