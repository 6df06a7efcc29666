/* Writes text with a language model, as it comes.

     cc -O2 examples/generate.c -o generate -lm
     ./generate library.safetensors --prompt "In the beginning"
     ./generate stories260K.safetensors --tokenizer tok512.bin --temperature 0.8

   The weights are those of train_lm, or published ones of llama's or GPT-2's form with their config.json beside them,
   or their folder. A published model has its tokenizer.json there, if it is of byte-level BPE; others need
   --tokenizer, a file in the format of llama2.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define MDEMIX_IMPLEMENTATION
#if __has_include("../mdemix.h")   /* in the repository; a copy beside this file does as well */
#include "../mdemix.h"
#else
#include "mdemix.h"
#endif

static const char *help =
    "usage: generate WEIGHTS [options]\n"
    "Writes text with a model in safetensors format.\n"
    "  --prompt TEXT      what the text begins with\n"
    "  --tokens N         at most so many tokens (256); the text may end earlier\n"
    "  --temperature X    0 takes the likeliest token always (1)\n"
    "  --top-k N          draw from the N likeliest tokens only; 0: all (0)\n"
    "  --top-p X          draw from the likeliest tokens that have this probability together (1)\n"
    "  --seed N           another seed, another text (0)\n"
    "  --tokenizer FILE   vocabulary of a published model\n"
    "  --help             this text\n";

static int fail(const char *text, const char *what)
{
    fprintf(stderr, "generate: %s%s\n", text, what);
    return 1;
}

/* A number after an option; exits with a sentence otherwise. */
static double number(const char *option, const char *text, double least, double most)
{
    char *end = NULL;
    double value = text ? strtod(text, &end) : 0;
    if (text && *text && *end == 0 && value >= least && value <= most) return value;
    fprintf(stderr, "generate: %s needs a number from %g to %g, not \"%s\"\n", option, least, most, text ? text : "");
    exit(1);
}

typedef struct stream { int tokens; clock_t began; } stream;

static void print_piece(const char *bytes, size_t length, void *user)
{
    stream *s = (stream *)user;
    if (s->tokens++ == 0) s->began = clock();
    fwrite(bytes, 1, length, stdout);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    mde_context_desc settings = {0};
    mde_generate_desc text = {0};
    const char *weights = NULL, *tokenizer = NULL;
    stream s = {0, 0};
    int i;

    settings.threads = 1;               /* one token at a time is too little work to share */
    for (i = 1; i < argc; i++) {
        const char *option = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(option, "--help") == 0) {
            fputs(help, stdout);
            return 0;
        }
        if (option[0] != '-') {
            if (weights) return fail("one file of weights is enough; there is also ", option);
            weights = option;
            continue;
        }
        if (strcmp(option, "--tokens") == 0) text.tokens = (int)number(option, value, 1, 1e8);
        else if (strcmp(option, "--temperature") == 0) text.temperature = number(option, value, 0, 1000);
        else if (strcmp(option, "--top-k") == 0) text.top_k = (int)number(option, value, 0, 65536);
        else if (strcmp(option, "--top-p") == 0) text.top_p = number(option, value, 1e-6, 1);
        else if (strcmp(option, "--seed") == 0) text.seed = (uint64_t)number(option, value, 0, 9e15);
        else if (strcmp(option, "--prompt") == 0) text.prompt = value;
        else if (strcmp(option, "--tokenizer") == 0) tokenizer = value;
        else return fail("there is no option ", option);
        if (!value) return fail("a value is missing after ", option);
        if (strcmp(option, "--temperature") == 0 && text.temperature == 0) text.temperature = MDE_ZERO;
        i++;
    }
    if (!weights) return fail("which model? generate WEIGHTS [options]; --help shows them", "");

    mde_context *c = mde_context_create(&settings);
    mde_lm *lm = mde_lm_open(c, weights);
    if (tokenizer) mde_lm_set_tokenizer(lm, mde_tokenizer_read(c, tokenizer));
    if (mde_context_status(c) == MDE_OK) {
        printf("%s", text.prompt ? text.prompt : "");
        fflush(stdout);
    }
    text.emit = print_piece;
    text.user = &s;
    mde_lm_generate(lm, &text);
    if (mde_context_status(c) != MDE_OK) {
        fail(mde_error(c), "");
        mde_context_free(c);
        return 1;
    }
    printf("\n");
    if (s.tokens > 1) {
        double seconds = (double)(clock() - s.began) / CLOCKS_PER_SEC;
        fprintf(stderr, "%d tokens, %.0f tokens/s\n", s.tokens, seconds > 0 ? (s.tokens - 1) / seconds : 0.0);
    }
    mde_context_free(c);
    return 0;
}
