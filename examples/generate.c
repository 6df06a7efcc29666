/* Writes text with a language model, as it comes.

     cc -O2 examples/generate.c -o generate -lm
     ./generate library.safetensors --prompt "In the beginning"
     ./generate stories260K.safetensors --tokenizer tok512.bin --temperature 0.8

   The weights are those of train_lm, or published ones of llama's or GPT-2's form with their config.json beside them,
   or their folder. A published model has its tokenizer.json there, if it is of byte-level BPE; others need
   --tokenizer, a file in the format of llama2.c. */
#include <time.h>
#define MDEDEF static /* what this program does not call is not compiled */
#define MDEMIX_IMPLEMENTATION
#if __has_include("../mdemix.h")   /* in the repository; a copy beside this file does as well */
#include "../mdemix.h"
#else
#include "mdemix.h"
#endif
#include "program.h"

static const char *const usage =
    "generate: writes text with a model in safetensors format\n"
    "\n"
    "  generate WEIGHTS [options]\n"
    "\n"
    "The text is made each time, the same one of the same seed.\n";

typedef struct stream { program *p; int tokens; clock_t began; } stream;

static void print_piece(const char *bytes, size_t length, void *user)
{
    stream *s = (stream *)user;
    if (s->tokens++ == 0) s->began = clock();
    if (!s->p->json) {
        fwrite(bytes, 1, length, stdout);
        if (!program_printed(s->p)) exit(PROGRAM_FAILED);
    }
    if (program_interrupted) exit(PROGRAM_INTERRUPTED);
}

int main(int argc, char **argv)
{
    program p;
    mde_generate_desc text;
    mde_context *c;
    mde_lm *lm;
    const char *tokenizer = NULL, *whole;
    stream s = { &p, 0, 0 };
    double temperature = 1;
    const program_option options[] = {
        { "--prompt", PROGRAM_TEXT, "TEXT", &text.prompt, 0, 0, "what the text begins with" },
        { "--tokens", PROGRAM_INT, "N", &text.tokens, 1, 1e8,
          "at most so many tokens (256); the text may end earlier" },
        { "--temperature", PROGRAM_REAL, "X", &temperature, 0, 1000, "0 takes the likeliest token always (1)" },
        { "--top-k", PROGRAM_INT, "N", &text.top_k, 0, 65536, "draw from the N likeliest tokens only; 0: all (0)" },
        { "--top-p", PROGRAM_REAL, "X", &text.top_p, 1e-6, 1,
          "draw from the likeliest tokens that have this probability together (1)" },
        { "--tokenizer", PROGRAM_FILE, "FILE", &tokenizer, 0, 0, "vocabulary of a published model" }
    };
    memset(&text, 0, sizeof text);
    program_start(&p, "generate", usage, options, (int)(sizeof options / sizeof *options));
    p.max_arguments = 1;
    p.json_help = "the text";
    p.threads = 1; /* one token at a time is too little work to share */
    if (!program_parse(&p, argc, argv)) return p.code;
    if (p.count == 0) {
        program_misused(&p, "", "which model? generate WEIGHTS [options]");
        return p.code;
    }
    text.temperature = temperature > 0 ? temperature : MDE_ZERO;
    text.seed = p.seed;
    text.emit = print_piece;
    text.user = &s;

    c = program_context(&p);
    lm = mde_lm_open(c, p.arguments[0]);
    if (tokenizer) mde_lm_set_tokenizer(lm, mde_tokenizer_read(c, tokenizer));
    if (!program_failed(c) && !p.json) {
        printf("%s", text.prompt ? text.prompt : "");
        fflush(stdout);
    }
    whole = mde_lm_generate(lm, &text);
    if (!program_failed(c) && !p.json) printf("\n");
    if (!program_failed(c) && p.json) {
        mde_text *t = mde_text_create(c);
        mde_json_writer w = mde_json_start(t, 1);
        mde_json_open(&w, NULL, '{');
        mde_json_write_string(&w, "text", whole);
        mde_json_write_int(&w, "tokens", s.tokens);
        mde_json_close(&w);
        if (mde_json_end(&w) == MDE_OK) fputs(t->bytes, stdout);
    }
    if (s.tokens > 1 && !p.quiet && !program_failed(c)) {
        double seconds = (double)(clock() - s.began) / CLOCKS_PER_SEC;
        fprintf(stderr, "%d tokens, %.0f tokens/s\n", s.tokens, seconds > 0 ? (s.tokens - 1) / seconds : 0.0);
    }
    return program_end(&p, c);
}
