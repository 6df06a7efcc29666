/* The best mixture of training domains from runs that are already there, from log-probabilities of experts, or from
   both; how far to trust it; and which runs to make next. Writes OUT/report.html, report.json and mixture.json.
     cc -O2 -fopenmp examples/mix_optimize.c -o mix_optimize -lm     (without -fopenmp: one thread)
     ./mix_optimize --ratios ratios.csv --losses losses.csv --suggest 4 --out out/mix                              */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define MDEMIX_IMPLEMENTATION
#if __has_include("../mdemix.h") /* in the repository; a copy beside this file does as well */
#include "../mdemix.h"
#else
#include "mdemix.h"
#endif

static const char *const usage =
    "mix_optimize: the best mixture of training domains, from finished runs or log-probabilities\n"
    "\n"
    "  mix_optimize --ratios R.csv --losses L.csv --out OUT [options]     a regression on finished runs\n"
    "  mix_optimize --logp DIR --out OUT [options]                        experts alone: certified minimum\n"
    "  mix_optimize --ratios R.csv --losses L.csv --logp DIR --out OUT    the experts' losses as further inputs\n"
    "  mix_optimize --domains D.csv --suggest Q --out OUT                 a first design: Q mixtures to run\n"
    "\n"
    "What is known\n"
    "  --ratios FILE          CSV: run, then a column a domain with its weight; rows sum to 1 within 1 %\n"
    "  --losses FILE          CSV: run, then a column a loss; joined by run; an empty cell is a missing loss\n"
    "  --test-ratios FILE, --test-losses FILE\n"
    "                         runs to judge on; prints a line a loss: NAME SPEARMAN MSE (Spearman in %), the last is mean\n"
    "  --logp DIR             DIR/<loss>/<domain>.npy: natural log of the probability of each token\n"
    "  --nll                  the files of --logp hold negative log-likelihoods\n"
    "  --domains FILE         CSV: domain, and any of the columns tokens, prior, min, max\n"
    "What is wanted\n"
    "  --objective SPEC       avg (default), or name=weight,name=weight,...\n"
    "  --model NAME           auto (default: nested cross-validation decides), ridge, law, pooled, trees, gp, mtgp, stack\n"
    "  --features SET         of a single model, joined by +: raw log sqrt products power pooled scarce mde own\n"
    "  --caution X            standard deviations added to the predicted loss in the search; default 1\n"
    "  --suggest Q            runs to make next; default 0\n"
    "  --acquisition NAME     what makes a run worth making: ei (default, expected improvement), ucb, space\n"
    "Bounds (weights never go beyond what was tried)\n"
    "  --max-ratio X          at most X times the prior; default 15; inf: any. The prior is the file's, else the shares\n"
    "                         of its tokens, else the mean of the runs\n"
    "  --target-tokens T      with the tokens of --domains: at most --max-epochs passes over a domain in T tokens\n"
    "  --max-epochs E         default 4\n"
    "  --kl X                 adds X times the divergence from the prior to the loss; default 0\n"
    "The rest\n"
    "  --folds N              of the cross-validation; default 5\n"
    "  --seed N               default 0\n"
    "  --threads N            default: all; results do not depend on it\n"
    "  --quiet                no progress\n"
    "  --out OUT              folder for report.html, report.json, mixture.json, next_runs.csv\n";

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

static int progress(const mde_progress *p, void *user)
{
    const int *quiet = (const int *)user;
    if (!*quiet) mde_print_progress(p, NULL);
    return interrupted;
}

typedef struct option {
    const char *name;
    char kind; /* 's' text, 'd' number, 'p' number above 0, 'i' int, 'u' seed, 'f' flag */
    void *value;
} option;

static int set_option(const option *o, const char *text)
{
    char *end;
    double number;
    if (o->kind == 's') {
        *(const char **)o->value = text;
        return *text != 0;
    }
    errno = 0;
    if (o->kind == 'u') {
        *(uint64_t *)o->value = strtoull(text, &end, 10);
        return end != text && *end == 0 && errno == 0 && text[0] >= '0' && text[0] <= '9';
    }
    number = strtod(text, &end);
    if (end == text || *end || !(o->kind == 'p' ? number > 0 : number >= 0) ||
        (o->kind == 'i' && (number > 1e6 || number != (double)(int)number)))
        return 0;
    if (o->kind == 'i') *(int *)o->value = (int)number;
    else *(double *)o->value = number;
    return 1;
}

/* Returns 0, with a line that says why, when an argument is wrong. */
static int parse(int argc, char **argv, const option *table, size_t options)
{
    int i;
    size_t o;
    for (i = 1; i < argc; i++) {
        for (o = 0; o < options; o++) {
            if (strcmp(argv[i], table[o].name) == 0) break;
        }
        if (o == options) {
            fprintf(stderr, "mix_optimize: %s is not an option; see mix_optimize --help\n", argv[i]);
            return 0;
        }
        if (table[o].kind == 'f') {
            *(int *)table[o].value = 1;
            continue;
        }
        if (i + 1 == argc || !set_option(&table[o], argv[i + 1])) {
            fprintf(stderr, "mix_optimize: %s: \"%s\" is not a value for it\n", argv[i],
                    i + 1 < argc ? argv[i + 1] : "");
            return 0;
        }
        i++;
    }
    return 1;
}

int main(int argc, char **argv)
{
    mde_optimize_desc d;
    mde_context_desc settings;
    mde_optimization *result;
    mde_context *c;
    mde_status status;
    const char *acquisition = "ei";
    double caution = 1;
    int i, quiet = 0;
    const option table[] = { { "--ratios", 's', &d.ratios },
                             { "--losses", 's', &d.losses },
                             { "--test-ratios", 's', &d.test_ratios },
                             { "--test-losses", 's', &d.test_losses },
                             { "--logp", 's', &d.logp },
                             { "--nll", 'f', &d.nll },
                             { "--domains", 's', &d.domains },
                             { "--objective", 's', &d.objective },
                             { "--model", 's', &d.model },
                             { "--features", 's', &d.features },
                             { "--caution", 'd', &caution },
                             { "--suggest", 'i', &d.suggest },
                             { "--acquisition", 's', &acquisition },
                             { "--max-ratio", 'p', &d.max_ratio },
                             { "--target-tokens", 'p', &d.target_tokens },
                             { "--max-epochs", 'p', &d.max_epochs },
                             { "--kl", 'd', &d.kl },
                             { "--folds", 'i', &d.folds },
                             { "--seed", 'u', &d.seed },
                             { "--threads", 'i', &settings.threads },
                             { "--quiet", 'f', &quiet },
                             { "--out", 's', &d.out } };
    memset(&d, 0, sizeof d);
    memset(&settings, 0, sizeof settings);
    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            return 0;
        }
    }
    if (!parse(argc, argv, table, sizeof table / sizeof *table)) return 2;
    if (!d.out) {
        fprintf(stderr, "mix_optimize: --out names the folder for the report; see mix_optimize --help\n");
        return 2;
    }
    if (strcmp(acquisition, "ucb") == 0) d.acquisition = MDE_CONFIDENCE_BOUND;
    else if (strcmp(acquisition, "space") == 0) d.acquisition = MDE_SPACE_FILLING;
    else if (strcmp(acquisition, "ei") != 0) {
        fprintf(stderr, "mix_optimize: --acquisition: \"%s\" is none of ei, ucb, space\n", acquisition);
        return 2;
    }
    d.caution = caution > 0 ? caution : MDE_ZERO;
    d.progress = progress;
    d.user = &quiet;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    c = mde_context_create(&settings);
    result = mde_optimize(c, &d);
    status = mde_context_status(c);
    if (result) {
        printf("report: %s/report.html\n\n%s", d.out, mde_optimization_summary(result));
    } else if (status == MDE_STOPPED) {
        fprintf(stderr, "\nmix_optimize: stopped; nothing was written\n");
    } else {
        fprintf(stderr, "mix_optimize: %s\n", mde_error(c));
    }
    mde_optimization_free(result);
    mde_context_free(c);
    return status ? 1 : 0;
}
