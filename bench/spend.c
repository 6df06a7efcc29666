/* What FLOPs are worth by where they are spent: nats by which the mixture that mix_optimize recommends for a large model
   is worse there than the best one, where the truth is a law of mixture, parameters and tokens. 8 runs of 20M parameters
   and 4 of 60M, of random mixtures, come first; then four rounds share a budget, whose runs are those of
   --budget-flops: of 20M alone, of 60M alone, or of 20M, 60M or 120M, 20 tokens a parameter. From the repository's
   folder:
     make build/spend && build/spend [--noise SD] [--seeds N] [--first SEED] [--budget FLOPS] [--rounds N]
                                     [--strategy small|middle|plain|suggested] [--model NAME] [--folder PATH]
   Losses, 5 of 7 domains, are E + exp(b + t.w) + exp(a + u.w) / N^alpha + exp(c + v.w) / D^beta, of drawn
   coefficients; the target has 1B parameters and 20B tokens. `plain` makes the runs of 20M that --suggest says without a
   budget. Without options: noise of .003, .01 and .03 nats, 6 seeds from 1 on, budgets of 2e18 and 8e18 FLOPs beyond the
   first runs' 2.1e18, the GP. A line a strategy: mean regret over the seeds, each of which has a truth of its own, and its
   standard error, before and after; and how many runs were made of each size. */
#define main mix_optimize_main
#include "../examples/mix_optimize.c"
#undef main

#define DOMAINS 7
#define LOSSES 5
#define SIZES 3

static const double sizes_offered[SIZES] = { 2e7, 6e7, 1.2e8 };

typedef struct truth {
    double e[LOSSES], b[LOSSES], t[LOSSES][DOMAINS];
    double a[LOSSES], u[LOSSES][DOMAINS], alpha[LOSSES], c[LOSSES], v[LOSSES][DOMAINS], beta[LOSSES];
} truth;

typedef struct spending_case {
    double noise, budget;
    int seeds, first, rounds, only;     /* only: one of the strategies, or -1 */
    const char *model, *folder;
} spending_case;

/* Loss j is about domain j. At 20M parameters and 400M tokens their terms are 0.3 to 0.6 nats, and change with the
   mixture as exp of a normal number with an sd of 0.7 a domain. */
static truth draw_truth(uint64_t seed)
{
    mde_random random = mde_random_start(seed, 0x74727574);
    truth t;
    int i, j;
    for (j = 0; j < LOSSES; j++) {
        t.e[j] = 1.5 + mde_random_uniform(&random);
        t.b[j] = log(0.6 + 0.8 * mde_random_uniform(&random));
        t.alpha[j] = 0.25 + 0.2 * mde_random_uniform(&random);
        t.beta[j] = 0.22 + 0.15 * mde_random_uniform(&random);
        t.a[j] = log(0.3 + 0.3 * mde_random_uniform(&random)) + t.alpha[j] * log(2e7);
        t.c[j] = log(0.3 + 0.3 * mde_random_uniform(&random)) + t.beta[j] * log(4e8);
        for (i = 0; i < DOMAINS; i++) {
            double z = mde_random_normal(&random);
            t.t[j][i] = i == j ? -3.0 - fabs(z) : 0.5 * z - 0.2;
            t.u[j][i] = 0.7 * mde_random_normal(&random);
            t.v[j][i] = 0.7 * mde_random_normal(&random);
        }
    }
    return t;
}

/* The mean of the losses, and its derivatives by the weights (may be NULL). losses [LOSSES] may be NULL. */
static double true_loss(const truth *t, const double *w, double params, double *losses, double *gradient)
{
    double sum = 0;
    int i, j;
    for (i = 0; gradient && i < DOMAINS; i++) gradient[i] = 0;
    for (j = 0; j < LOSSES; j++) {
        double p = t->b[j], q = t->a[j] - t->alpha[j] * log(params), r = t->c[j] - t->beta[j] * log(20 * params), loss;
        for (i = 0; i < DOMAINS; i++) {
            p += t->t[j][i] * w[i];
            q += t->u[j][i] * w[i];
            r += t->v[j][i] * w[i];
        }
        loss = t->e[j] + exp(p) + exp(q) + exp(r);
        for (i = 0; gradient && i < DOMAINS; i++) {
            gradient[i] += (exp(p) * t->t[j][i] + exp(q) * t->u[j][i] + exp(r) * t->v[j][i]) / LOSSES;
        }
        if (losses) losses[j] = loss;
        sum += loss / LOSSES;
    }
    return sum;
}

static double true_objective(int n, const double *w, double *gradient, void *user)
{
    (void)n;
    return true_loss((const truth *)user, w, 1e9, NULL, gradient);
}

typedef struct table {
    mde_text *text;
    int runs, of_size[SIZES];
    mde_random random;
} table;

static void make_run(const truth *t, table *runs, double noise, const double *w, int size)
{
    double losses[LOSSES];
    int i;
    true_loss(t, w, sizes_offered[size], losses, NULL);
    mde_text_format(runs->text, "r%d,%.0f,%.0f", runs->runs++, sizes_offered[size], 20 * sizes_offered[size]);
    for (i = 0; i < DOMAINS; i++) mde_text_format(runs->text, ",%.9f", w[i]);
    for (i = 0; i < LOSSES; i++) {
        mde_text_format(runs->text, ",%.9f", losses[i] + noise * mde_random_normal(&runs->random));
    }
    mde_text_add(runs->text, "\n");
    runs->of_size[size]++;
}

/* What mix_optimize does up to its suggestions, without what it says of them. */
static optimization *recommend(mde_context *c, const optimize_settings *settings)
{
    optimization *o = (optimization *)mde_alloc(c, 1, sizeof *o);
    mde_surrogate_desc desc;
    mde_choose_desc choose;
    if (!o) return NULL;
    o->context = c;
    o->settings = *settings;
    o->warnings = mde_text_create(c);
    o->notes = mde_text_create(c);
    read_inputs(o);
    if (mde_context_status(c) == MDE_OK) desc = chosen_model(o);
    if (mde_context_status(c) == MDE_OK) {
        o->evaluation = mde_evaluate(c, o->n, o->k, o->m, o->runs->weights, o->runs->losses, &desc, NULL);
    }
    if (o->evaluation) o->surrogate = mde_evaluation_fit(o->evaluation, o->runs->weights, o->runs->losses);
    if (o->surrogate) judge_objective(o);
    if (mde_context_status(c) == MDE_OK) {
        choose_within_bounds(o, &choose);
        mde_surrogate_minimize(o->surrogate, &choose, &o->best);
    }
    if (mde_context_status(c) == MDE_OK) suggest(o);
    return o;
}

/* The recommended mixture's regret; then a round of runs, as the strategy has it, where flops are above 0. */
static double one_round(mde_context *c, const spending_case *how, const truth *t, double lowest, table *runs,
                        int strategy, double flops)
{
    static const char *const offers[] = { "20M:400M", "60M:1.2B", NULL, "20M:400M,60M:1.2B,120M:2.4B" };
    optimize_settings s;
    optimization *o;
    char path[PROGRAM_PATH];
    double regret = (double)NAN;
    int q, size;
    memset(&s, 0, sizeof s);
    s.table = program_path(c, path, "%s/spend.csv", how->folder);
    mde_text_write(runs->text, path);
    s.model = how->model;
    s.target_params = 1e9;
    s.target_tokens = 2e10;
    if (flops > 0) {
        s.suggest = strategy == 2 ? (int)(flops / (120 * sizes_offered[0] * sizes_offered[0]) + 1e-9) : 64;
        s.budget_flops = strategy == 2 ? 0 : flops;
        s.sizes = strategy == 2 ? NULL : offers[strategy];
    }
    o = recommend(c, &s);
    if (mde_context_status(c) == MDE_OK) {
        regret = true_loss(t, o->best.weights, 1e9, NULL, NULL) - lowest;
        for (q = 0; q < o->suggested; q++) {
            double params = o->spending.at ? o->spending.size[o->spending.at[q]].params : sizes_offered[0];
            for (size = 0; !same_scale(sizes_offered[size], params); size++) {
            }
            make_run(t, runs, how->noise, o->next + q * DOMAINS, size);
        }
    }
    optimization_free(o);
    return regret;
}

#define STRATEGIES 4
static const char *const strategies[STRATEGIES] = { "small", "middle", "plain", "suggested" };

static void one(mde_context *c, const spending_case *how, int strategy, uint64_t seed, double *before, double *after,
                double *made)
{
    truth t = draw_truth(seed);
    double optimum[DOMAINS], lowest, alpha[DOMAINS], w[DOMAINS];
    mde_search_desc search;
    table runs;
    int i, q, round;
    memset(&search, 0, sizeof search);
    memset(&runs, 0, sizeof runs);
    search.starts = 20;
    lowest = mde_simplex_minimize(c, DOMAINS, true_objective, &t, &search, optimum);
    runs.random = mde_random_start(seed, 0x72756e73);
    runs.text = mde_text_create(c);
    mde_text_add(runs.text, "run,params,tokens");
    for (i = 0; i < DOMAINS; i++) mde_text_format(runs.text, ",w_d%d", i);
    for (i = 0; i < LOSSES; i++) mde_text_format(runs.text, ",loss_%d", i);
    mde_text_add(runs.text, "\n");
    for (q = 0; q < 12; q++) {
        double strength = exp(log(2.0) + log(20.0) * mde_random_uniform(&runs.random));
        for (i = 0; i < DOMAINS; i++) alpha[i] = strength / DOMAINS;
        mde_random_dirichlet(&runs.random, DOMAINS, alpha, w);
        make_run(&t, &runs, how->noise, w, q >= 8);
    }
    for (round = 0; round <= how->rounds && mde_context_status(c) == MDE_OK; round++) {
        *after = one_round(c, how, &t, lowest, &runs, strategy, round < how->rounds ? how->budget / how->rounds : 0);
        if (round == 0) *before = *after;
    }
    for (i = 0; i < SIZES; i++) made[i] += (double)runs.of_size[i] / how->seeds;
    mde_text_free(runs.text);
}

static void compare(mde_context *c, const spending_case *how)
{
    int strategy, seed;
    for (strategy = 0; strategy < STRATEGIES; strategy++) {
        double sum = 0, squares = 0, first = 0, made[SIZES] = { 0 }, begun = mde_seconds(), variance;
        if (how->only >= 0 && how->only != strategy) continue;
        for (seed = 0; seed < how->seeds && mde_context_status(c) == MDE_OK; seed++) {
            double before = 0, after = 0;
            one(c, how, strategy, (uint64_t)(how->first + seed), &before, &after, made);
            first += before / how->seeds;
            sum += after / how->seeds;
            squares += after * after / how->seeds;
        }
        if (mde_context_status(c) != MDE_OK) return;
        variance = squares - sum * sum;
        printf("noise %.3f  %.2g FLOPs  %-9s  %.5f -> %.5f +- %.5f  runs %5.1f %5.1f %5.1f  %.1f s\n", how->noise,
               how->budget, strategies[strategy], first, sum,
               how->seeds > 1 ? sqrt((variance > 0 ? variance : 0) / (how->seeds - 1)) : 0, made[0], made[1], made[2],
               mde_seconds() - begun);
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    static const double levels[] = { 0.003, 0.01, 0.03 }, budgets[] = { 2e18, 8e18 };
    mde_context *c = mde_context_create(NULL);
    spending_case s;
    double noise = -1, budget = 0;
    int a, i, j, failed;
    memset(&s, 0, sizeof s);
    s.model = "gp";
    s.folder = "build";
    s.seeds = 6;
    s.first = 1;
    s.rounds = 4;
    s.only = -1;
    for (a = 1; a + 1 < argc; a += 2) {
        if (strcmp(argv[a], "--seeds") == 0) s.seeds = atoi(argv[a + 1]);
        else if (strcmp(argv[a], "--first") == 0) s.first = atoi(argv[a + 1]);
        else if (strcmp(argv[a], "--rounds") == 0) s.rounds = atoi(argv[a + 1]);
        else if (strcmp(argv[a], "--noise") == 0) noise = atof(argv[a + 1]);
        else if (strcmp(argv[a], "--budget") == 0) budget = atof(argv[a + 1]);
        else if (strcmp(argv[a], "--model") == 0) s.model = argv[a + 1];
        else if (strcmp(argv[a], "--folder") == 0) s.folder = argv[a + 1];
        else if (strcmp(argv[a], "--strategy") == 0) {
            for (s.only = 0; s.only < STRATEGIES && strcmp(argv[a + 1], strategies[s.only]); s.only++) {
            }
        } else break;
    }
    if (a < argc || s.seeds < 1 || s.rounds < 1 || s.only == STRATEGIES) {
        fprintf(stderr, "usage: spend [--noise SD] [--seeds N] [--first SEED] [--budget FLOPS] [--rounds N] "
                        "[--strategy small|middle|plain|suggested] [--model NAME] [--folder PATH]\n");
        mde_context_free(c);
        return 2;
    }
    for (i = 0; i < 3 && mde_context_status(c) == MDE_OK; i++) {
        for (j = 0; j < 2; j++) {
            s.noise = noise >= 0 ? noise : levels[i];
            s.budget = budget > 0 ? budget : budgets[j];
            if (!(noise >= 0 && i > 0) && !(budget > 0 && j > 0)) compare(c, &s);
        }
    }
    failed = mde_context_status(c) != MDE_OK;
    if (failed) fprintf(stderr, "%s\n", mde_error(c));
    mde_context_free(c);
    return failed;
}
