/* Trains a small language model on text of your own and lets it write.

     cc -O2 examples/train_lm.c -o train_lm -lm          (add -fopenmp for more than one thread)
     ./train_lm book.txt --prompt "In the beginning"
     ./train_lm library --vocab 4096 --out library.safetensors

   A file is one domain; in a folder each file or folder is one. Every tenth document or so is held out, and the loss on
   it is shown for each domain. A run with --checkpoint can be stopped with control-C and started again; one that is
   finished, with --checkpoint or --out, only shows again what it found. */
#define MDEDEF static /* what this program does not call is not compiled */
#define MDEMIX_IMPLEMENTATION
#if __has_include("../mdemix.h")   /* in the repository; a copy beside this file does as well */
#include "../mdemix.h"
#else
#include "mdemix.h"
#endif
#include "program.h"

static const char *const usage =
    "train_lm: trains a transformer on a text file, or on a folder with a file or folder for each domain\n"
    "\n"
    "  train_lm PATH [options]\n"
    "\n"
    "With --checkpoint or --out, the same options, the same text and its files as it wrote them, what it printed is\n"
    "printed again, and no more is done.\n";

/* The loss of single steps jumps about, so the line shows a running mean. */
typedef struct display {
    program *p;
    double mean, bytes_a_token;
} display;

static int show(const mde_progress *p, void *user)
{
    display *d = (display *)user;
    mde_progress shown = *p;
    char figures[80];
    d->mean += (p->loss - d->mean) * (d->mean == 0 ? 1 : 0.02);
    snprintf(figures, sizeof figures, "loss %.3f nats a token, %.3f bits a byte", d->mean,
             d->mean / 0.69314718056 / d->bytes_a_token);
    shown.figures = figures;
    return program_progress(&shown, d->p);
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

/* Bytes a token of the training text. */
static double report_corpus(const mde_corpus *corpus, int quiet)
{
    double bytes = 0, tokens = 0;
    size_t train, held;
    int i;
    for (i = 0; i < mde_corpus_domains(corpus); i++) {
        bytes += bytes_of(corpus, MDE_TRAIN, i, &train);
        mde_corpus_tokens(corpus, MDE_VALIDATION, i, &held);
        tokens += (double)train;
        if (quiet) continue;
        printf("%-24s %9zu tokens to train on, %8zu to validate\n", mde_corpus_name(corpus, i), train, held);
    }
    return tokens > 0 ? bytes / tokens : 1;
}

/* What mde_lm_write makes; the paths beside the weights live in `beside`. */
static void add_weights(program_work *w, const char *out, char beside[2][PROGRAM_PATH])
{
    size_t length, stem = strlen(out);
    int folder = (int)(mde_path_name(out, &length) - out);
    if (stem > 12 && strcmp(out + stem - 12, ".safetensors") == 0) stem -= 12;
    program_work_output(w, out);
    program_work_may_output(w, program_path(w->context, beside[0], "%.*s.tokenizer", (int)stem, out));
    program_work_may_output(w, program_path(w->context, beside[1], "%.*sconfig.json", folder, out));
}

int main(int argc, char **argv)
{
    program p;
    mde_corpus_desc text;
    mde_lm_desc model;
    mde_train_desc training;
    mde_generate_desc sample;
    mde_context *c;
    mde_corpus *corpus;
    mde_lm *lm;
    const char *out = NULL;
    char beside[2][PROGRAM_PATH];
    display shown;
    program_work work;
    mde_text *found, *json;
    mde_json_writer w;
    mde_status status;
    int i;
    const program_option options[] = {
        { "--layers", PROGRAM_INT, "N", &model.layers, 1, 1000, "layers of the model (4)" },
        { "--width", PROGRAM_INT, "N", &model.width, 1, 65536, "width of the model (128)" },
        { "--heads", PROGRAM_INT, "N", &model.heads, 1, 65536, "attention heads (width / 32)" },
        { "--context", PROGRAM_INT, "N", &model.context, 1, 1 << 20, "tokens the model sees at once (128)" },
        { "--batch", PROGRAM_INT, "N", &training.batch, 1, 1 << 20, "windows of that length a step (16)" },
        { "--tokens", PROGRAM_INT64, "N", &training.tokens, 1, 1e15, "tokens to train on in all (4000000)" },
        { "--lr", PROGRAM_REAL, "X", &training.learning_rate, 1e-9, 100, "peak learning rate (0.003)" },
        { "--vocab", PROGRAM_INT, "N", &text.vocabulary, 257, 65536,
          "learn a byte-pair vocabulary of N tokens; without it tokens are bytes" },
        { "--checkpoint", PROGRAM_FILE, "FILE", &training.checkpoint, 0, 0,
          "continue from FILE if it is there; save to it now and then" },
        { "--out", PROGRAM_FILE, "FILE", &out, 0, 0, "write the weights (safetensors; a vocabulary goes beside it)" },
        { "--prompt", PROGRAM_TEXT, "TEXT", &sample.prompt, 0, 0, "what the sample at the end begins with" },
        { "--sample", PROGRAM_INT, "N", &sample.tokens, 1, 1e8, "tokens of the sample (300)" }
    };
    memset(&text, 0, sizeof text);
    memset(&model, 0, sizeof model);
    memset(&training, 0, sizeof training);
    memset(&sample, 0, sizeof sample);
    training.tokens = 4000000;
    sample.tokens = 300;
    program_start(&p, "train_lm", usage, options, (int)(sizeof options / sizeof *options));
    p.max_arguments = 1;
    p.json_help = "the validation losses";
    if (!program_parse(&p, argc, argv)) return p.code;
    if (p.count == 0) {
        program_misused(&p, "", "which text? train_lm PATH [options]");
        return p.code;
    }
    if (training.checkpoint) p.when_stopped = "stopped; start again to continue";
    text.path = p.arguments[0];
    training.seed = sample.seed = model.seed = p.seed;
    shown.p = &p;
    shown.mean = 0;
    shown.bytes_a_token = 1;

    c = program_context(&p);
    program_try_file(c, out);
    program_try_file(c, training.checkpoint);
    work = program_work_start(&p, c, NULL, p.json ? "json" : "text");
    program_work_options(&work);
    if (training.checkpoint) program_work_output(&work, training.checkpoint);
    if (out) add_weights(&work, out, beside);
    if (work.output_count > 0) {
        program_work_input(&work, text.path);
        if (program_work_is_done(&work, 1)) return program_end(&p, c);
    }
    corpus = mde_corpus_open(c, &text);
    lm = mde_lm_create(c, corpus, &model);
    if (lm) {
        shown.bytes_a_token = report_corpus(corpus, p.json);
        if (!p.json) {
            printf("model of %zu parameters, vocabulary %d, %d threads, %s\n", mde_params_elements(mde_lm_params(lm)),
                   mde_corpus_vocabulary(corpus), mde_threads(c), mde_simd_name(c));
        }
        fflush(stdout);
    }
    training.progress = show;
    training.user = &shown;
    program_check_checkpoint(c, p.name, training.checkpoint);
    status = mde_lm_train(lm, corpus, &training);

    /* A training that was stopped is judged as far as it came. */
    found = mde_text_create(c);
    json = mde_text_create(c);
    w = mde_json_start(json, 2);
    mde_json_open(&w, NULL, '{');
    mde_json_write_int(&w, "parameters", (int64_t)mde_params_elements(mde_lm_params(lm)));
    mde_json_open(&w, "validation", '[');
    for (i = 0; i < mde_corpus_domains(corpus) && !program_failed(c); i++) {
        size_t count;
        double bytes = bytes_of(corpus, MDE_VALIDATION, i, &count);
        double loss = mde_lm_loss(lm, corpus, MDE_VALIDATION, i), bits = loss / 0.69314718056 * (double)count / bytes;
        size_t line = found ? found->length : 0;
        mde_json_open(&w, NULL, '{');
        mde_json_write_string(&w, "domain", mde_corpus_name(corpus, i));
        mde_json_write_number(&w, "loss", loss, 9);
        mde_json_write_number(&w, "bits_a_byte", bits, 9);
        mde_json_close(&w);
        mde_text_format(found, "%-24s validation loss %.4f nats a token, %.4f bits a byte\n",
                        mde_corpus_name(corpus, i), loss, bits);
        if (!p.json && !program_failed(c)) fputs(found->bytes + line, stdout);
    }
    mde_json_close(&w);
    mde_json_close(&w);
    if (out) mde_lm_write(lm, out);
    if (out && text.vocabulary) program_work_made(&work, beside[0]);
    if (p.json && mde_json_end(&w) == MDE_OK) {
        fputs(json->bytes, stdout);
    } else if (!program_failed(c)) {
        printf("\n%s", sample.prompt ? sample.prompt : "");
        sample.emit = print_piece;
        mde_text_add(found, "\n");
        mde_text_add(found, mde_lm_generate(lm, &sample));
        mde_text_add(found, "\n");
        printf("\n");
    }
    if (status == MDE_STOPPED && !program_failed(c)) mde_fail(c, MDE_STOPPED, "stopped");
    if (work.output_count > 0 && !program_failed(c)) program_work_finish(&work, p.json ? json->bytes : found->bytes);
    return program_end(&p, c);
}
