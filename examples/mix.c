/* Finds the mixture of training domains that suits a set of validation texts best, from log-probabilities made
   elsewhere: logprobs/<validation>/<expert>.npy holds the natural logarithm of the probability that an expert gave to
   each token. mix_optimize.c does the same with tables of finished runs, bounds, prices and a report.
     cc -O2 examples/mix.c -o mix -lm && ./mix out/demo/logprobs                                                  */
#define MDEDEF static /* what this program does not call is not compiled */
#define MDEMIX_IMPLEMENTATION
#if __has_include("../mdemix.h") /* in the repository; a copy beside this file does as well */
#include "../mdemix.h"
#else
#include "mdemix.h"
#endif
#include "program.h"

static void print_mixture(const mde_experts *experts, const mde_bootstrap *interval)
{
    const mde_optimum *best = &interval->optimum;
    int i;
    printf("%.4f nats a token, at most %.1e above the minimum", best->loss, best->gap);
    if (interval->replicates) printf("; 90 %% interval %.4f to %.4f", interval->loss[0], interval->loss[1]);
    printf("\n%s%s\n", interval->note, *interval->note ? "\n" : "");
    for (i = 0; i < best->count; i++) {
        printf("%6.3f  ", best->weights[i]);
        if (interval->replicates) printf("(%.3f to %.3f)  ", interval->lower[i], interval->upper[i]);
        printf("%s\n", mde_experts_name(experts, i));
    }
    for (i = 0; i < mde_experts_validations(experts); i++) {
        if (mde_experts_rounded(experts, i) == 0) continue;
        printf("%s: %zu log-probabilities just above 0 were taken for 0\n", mde_experts_validation(experts, i),
               mde_experts_rounded(experts, i));
    }
}

static void print_json(mde_context *c, const mde_experts *experts, const mde_bootstrap *interval)
{
    const mde_optimum *best = &interval->optimum;
    mde_text *t = mde_text_create(c);
    mde_json_writer w = mde_json_start(t, 2);
    int i;
    mde_json_open(&w, NULL, '{');
    mde_json_write_number(&w, "loss", best->loss, 9);
    mde_json_write_number(&w, "gap", best->gap, 9);
    mde_json_write_numbers(&w, "loss_interval_90", 2, interval->loss, 9);
    mde_json_write_string(&w, "intervals", interval->note);
    mde_json_open(&w, "domains", '[');
    for (i = 0; i < best->count; i++) {
        double ends[2] = { interval->lower[i], interval->upper[i] };
        mde_json_open(&w, NULL, '{');
        mde_json_write_string(&w, "name", mde_experts_name(experts, i));
        mde_json_write_number(&w, "weight", best->weights[i], 9);
        mde_json_write_numbers(&w, "weight_interval_90", 2, ends, 9);
        mde_json_close(&w);
    }
    mde_json_close(&w);
    mde_json_close(&w);
    if (mde_json_end(&w) == MDE_OK) fputs(t->bytes, stdout);
    mde_text_free(t);
}

static mde_status minimize_alone(const mde_experts *experts, mde_bootstrap *out)
{
    int i;
    memset(out, 0, sizeof *out);
    out->loss[0] = out->loss[1] = (double)NAN;
    for (i = 0; i < MDE_MAX_DOMAINS; i++) out->lower[i] = out->upper[i] = (double)NAN;
    return mde_mixture_minimize(experts, NULL, &out->optimum);
}

int main(int argc, char **argv)
{
    program p;
    mde_context *c;
    mde_experts *experts;
    mde_experts_desc desc = { 0, 0, program_progress, &p };
    mde_bootstrap interval;
    int memory = 0, bare = 0;
    const program_option options[] = { { "--memory", PROGRAM_INT, "MB", &memory, 0, 1e6,
                                         "of probabilities that are held, default 1024; more is read in blocks" },
                                       { "--no-intervals", PROGRAM_FLAG, NULL, &bare, 0, 0,
                                         "the minimum alone, in a few passes over the tokens" } };
    program_start(&p, "mix", "mix: the best mixture from log-probabilities\n\n  mix LOGPROBS [options]\n", options, 2);
    p.json_help = "the mixture";
    p.max_arguments = 1;
    if (!program_parse(&p, argc, argv)) return p.code;
    if (p.count == 0) {
        program_misused(&p, "", "expected a folder of log-probabilities");
        return p.code;
    }
    c = program_context(&p);
    desc.memory = (size_t)memory << 20;
    experts = mde_experts_open(c, p.arguments[0], &desc);
    if ((bare ? minimize_alone(experts, &interval) : mde_mixture_bootstrap(experts, NULL, &interval)) == MDE_OK) {
        if (p.json) print_json(c, experts, &interval);
        else print_mixture(experts, &interval);
    }
    return program_end(&p, c);
}
