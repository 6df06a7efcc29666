/* What the page of this folder computes: `make web` compiles this to WebAssembly, and page.html calls the functions
   below. Each answers with a JSON text that lives until the next call: {"error": "a sentence"} when something was
   wrong. Compiled by any C compiler it is the same program; a test compares the two, byte for byte. */
#define main mix_optimize_main
#include "../mix_optimize.c"
#undef main
#define DAGAN_IMPLEMENTATION
#include "../../dagan.h"

#ifdef __EMSCRIPTEN__
#include <emscripten.h>
#define PAGE_CALL EMSCRIPTEN_KEEPALIVE
EM_JS(void, page_report, (const char *stage, double share), { Module.report(UTF8ToString(stage), share); });
#else
#define PAGE_CALL static
static void page_report(const char *stage, double share)
{
    (void)stage;
    (void)share;
}
#endif

#define PAGE_DIGITS 9           /* of a number in an answer: tells any two floats apart */

/* ---- Three experts: networks that read a letter from the three before it ---- */

#define KINDS 3
#define DIVISIONS 4             /* mixtures that are trained: all whose weights are multiples of a fourth, */
#define MIXTURES 15             /* the experts among them */
#define FINE 16                 /* the predicted surface: multiples of a sixteenth */
#define FINE_MIXTURES 153
#define BEFORE 3                /* letters */
#define WIDTH 8                 /* of a letter's embedding */
#define HIDDEN 24
#define BATCH 32
#define STEPS 250
#define LONGEST 1000            /* letters of the text that is judged */

static const char alphabet[] = "?\n abcdefghijklmnopqrstuvwxyz0123456789+-*/=<>()[]{},;.:'\"_";
#define LETTERS ((int)sizeof alphabet - 1)
static const char *const kinds[KINDS] = { "prose", "program", "sums" };
static const char judged[] =
    "let the angle of incidence be equal to 12 + 30 = 42 degrees, and that of refraction be\n"
    "    double angle = 42, other = 0;\n    for (int i = 0; i < count; i++) other += angle * share[i];\n"
    "which makes the ray more or less refracted in the same proportion as before, namely as\n"
    "17 + 25 = 42\n38 + 44 = 82\n51 + 16 = 67\n"
    "to the whole light; and this i take to be manifest by the first of the experiments above.\n";
#define JUDGED ((int)sizeof judged - 1 - BEFORE)

typedef struct reader { mde_params *params; mde_tensor *embedding, *w[2], *b[2]; } reader;

typedef struct lesson {
    int32_t *text[KINDS];
    int64_t length[KINDS];
    int32_t letter[sizeof judged];
    double mixture[MIXTURES][KINDS], loss[MIXTURES];
    reader reader[MIXTURES];
    float logp[KINDS][LONGEST];
    int64_t step;
} lesson;

/* ---- What a page holds ---- */

typedef struct page {
    mde_context *c;
    mde_text *answer;
    optimization *found;                /* what was found about mixtures; NULL: nothing yet */
    lesson *lesson;
    mde_experts *experts;               /* what the lesson's first three readers say of the letter */
    dagan *generator;
    float drawing[28 * 28];
} page;

PAGE_CALL page *page_open(void)
{
    mde_context *c = mde_context_create(NULL);
    page *p = (page *)mde_alloc(c, 1, sizeof *p);
    if (!p) return NULL;
    p->c = c;
    p->answer = mde_text_create(c);
    return p;
}

/* The answer is begun with an object; an error of the call before is forgotten. */
static mde_json_writer answer_start(page *p)
{
    mde_json_writer w;
    mde_clear_error(p->c);
    p->answer->length = 0;
    w = mde_json_start(p->answer, MDE_JSON_COMPACT);
    mde_json_open(&w, NULL, '{');
    return w;
}

static const char *answer_end(page *p, mde_json_writer *w)
{
    char error[600];
    if (!program_failed(p->c)) {
        mde_json_close(w);
        mde_json_end(w);
    }
    if (!program_failed(p->c)) return p->answer->bytes;
    snprintf(error, sizeof error, "%s", mde_error(p->c));
    *w = answer_start(p);
    mde_json_write_string(w, "error", error);
    mde_json_close(w);
    return mde_json_end(w) == MDE_OK ? p->answer->bytes : "{\"error\": \"out of memory\"}";
}

/* ---- The best mixture from finished runs ---- */

static int page_progress(const mde_progress *progress, void *user)
{
    (void)user;
    page_report(progress->stage, progress->steps > 0 ? (double)progress->step / (double)progress->steps : 0);
    return 0;
}

/* The mixture, its bounds and what they cost; in the order of domains and losses in which page_predict takes weights
   and gives losses. */
static void write_mixture(mde_json_writer *w, const optimization *o)
{
    int i;
    mde_json_open(w, "domains", '[');
    for (i = 0; i < o->k; i++) mde_json_write_string(w, NULL, o->domains[i]);
    mde_json_close(w);
    mde_json_open(w, "losses", '[');
    for (i = 0; i < o->m; i++) mde_json_write_string(w, NULL, o->metrics[i]);
    mde_json_close(w);
    mde_json_write_numbers(w, "weights", (size_t)o->k, o->best.weights, PAGE_DIGITS);
    mde_json_write_numbers(w, "prior", (size_t)o->k, o->prior, PAGE_DIGITS);
    mde_json_write_numbers(w, "lower", (size_t)o->k, o->lower, PAGE_DIGITS);
    mde_json_write_numbers(w, "upper", (size_t)o->k, o->upper, PAGE_DIGITS);
    mde_json_write_numbers(w, "tried_lower", (size_t)o->k, o->tried_lower, PAGE_DIGITS);
    mde_json_write_numbers(w, "tried_upper", (size_t)o->k, o->tried_upper, PAGE_DIGITS);
    mde_json_open(w, "held", '[');              /* "": by no bound */
    for (i = 0; i < o->k; i++) {
        mde_json_write_string(w, NULL, !held_by_bound(o, i) ? "" : o->best.active[i] < 0 ? "lower bound"
                                                                                         : o->upper_reason[i]);
    }
    mde_json_close(w);
    mde_json_write_numbers(w, "price", (size_t)o->k, o->best.price, PAGE_DIGITS);
}

/* What mix_optimize does, with its files in the folder `out`. losses "": ratios holds both; domains "": none; 0: the
   default. */
PAGE_CALL const char *page_mix(page *p, const char *ratios, const char *losses, const char *domains,
                               double target_tokens, double max_epochs, int suggest)
{
    mde_json_writer w = answer_start(p);
    optimize_settings s;
    optimization_free(p->found);
    memset(&s, 0, sizeof s);
    if (*losses) {
        s.ratios = ratios;
        s.losses = losses;
    } else {
        s.table = ratios;
    }
    if (*domains) s.domains = domains;
    s.target_tokens = target_tokens > 0 ? target_tokens : 0;
    s.max_epochs = max_epochs > 0 ? max_epochs : 0;
    s.suggest = suggest;
    s.out = "out";
    s.progress = page_progress;
    p->found = optimize(p->c, &s);
    if (p->found) write_mixture(&w, p->found);
    return answer_end(p, &w);
}

/* What is predicted at weights [domains], with half of the width of a 90 % interval. */
PAGE_CALL const char *page_predict(page *p, const double *weights)
{
    mde_json_writer w = answer_start(p);
    predictions at;
    int j;
    memset(&at, 0, sizeof at);
    if (!p->found) mde_fail(p->c, MDE_BAD_ARGUMENT, "there is no mixture yet to start from");
    if (p->found && predict_mixtures(p->found, 1, weights, &at)) {
        at.value_sd[0] *= LEVEL_90;
        for (j = 0; j < p->found->m; j++) at.loss_sd[j] *= LEVEL_90;
        mde_json_write_number(&w, "value", at.value[0], PAGE_DIGITS);
        mde_json_write_number(&w, "value_half", at.value_sd[0], PAGE_DIGITS);
        mde_json_write_numbers(&w, "loss", (size_t)p->found->m, at.loss, PAGE_DIGITS);
        mde_json_write_numbers(&w, "loss_half", (size_t)p->found->m, at.loss_sd, PAGE_DIGITS);
    }
    mde_release(p->c, at.value);
    return answer_end(p, &w);
}

/* ---- Three experts ---- */

static int32_t letter_number(int byte)
{
    const char *at = byte ? strchr(alphabet, byte >= 'A' && byte <= 'Z' ? byte - 'A' + 'a' : byte) : NULL;
    return at ? (int32_t)(at - alphabet) : 0;
}

static int32_t *letter_numbers(mde_context *c, const char *text, size_t length)
{
    int32_t *out = (int32_t *)mde_alloc(c, length, sizeof *out);
    size_t i;
    for (i = 0; out && i < length; i++) out[i] = letter_number((unsigned char)text[i]);
    return out;
}

/* Sums of two numbers below 100. */
static mde_text *sums_text(mde_context *c)
{
    mde_text *t = mde_text_create(c);
    mde_random random = mde_random_start(6, 0);
    int i;
    for (i = 0; i < 4000; i++) {
        int a = (int)mde_random_below(&random, 100), b = (int)mde_random_below(&random, 100);
        mde_text_format(t, "%d + %d = %d\n", a, b, a + b);
    }
    return t;
}

static reader reader_create(mde_context *c)
{
    const int64_t table[2] = { LETTERS, WIDTH }, in[2] = { BEFORE * WIDTH, HIDDEN }, out[2] = { HIDDEN, LETTERS };
    reader r;
    memset(&r, 0, sizeof r);
    r.params = mde_params_create(c, 1);         /* all begin as the same network */
    r.embedding = mde_param(r.params, "embedding", 2, table, MDE_INIT_NORMAL, 0.5);
    r.w[0] = mde_param(r.params, "w0", 2, in, MDE_INIT_NORMAL, sqrt(1.0 / (BEFORE * WIDTH)));
    r.b[0] = mde_param(r.params, "b0", 1, in + 1, MDE_INIT_ZEROS, 0);
    r.w[1] = mde_param(r.params, "w1", 2, out, MDE_INIT_NORMAL, sqrt(1.0 / HIDDEN));
    r.b[1] = mde_param(r.params, "b1", 1, out + 1, MDE_INIT_ZEROS, 0);
    return r;
}

/* -ln P(letter | the three before it), [count]; before [count, 3]. */
static mde_tensor *read_letters(mde_context *c, const reader *r, int64_t count, const int32_t *before,
                                const int32_t *next)
{
    const int64_t joined[2] = { count, BEFORE * WIDTH };
    mde_tensor *x = mde_reshape(c, mde_gather(c, r->embedding, count * BEFORE, before), 2, joined);
    x = mde_tanh(c, mde_linear(c, x, r->w[0], 0, r->b[0], NULL));
    return mde_cross_entropy(c, mde_linear(c, x, r->w[1], 0, r->b[1], NULL), next);
}

/* One step of all readers. The windows that a kind of text would give are the same for every mixture, so that readers
   differ by their mixtures alone. */
static void lesson_step(mde_context *c, lesson *l)
{
    const mde_schedule rate = { MDE_COSINE, 0.02, STEPS, 15, 0.05, 0 };
    mde_adamw_desc adam;
    int m, i, k, q;
    memset(&adam, 0, sizeof adam);
    adam.learning_rate = mde_schedule_rate(&rate, l->step);
    adam.clip = 1;
    for (m = 0; m < MIXTURES; m++) {
        mde_random random = mde_random_start(1, (uint64_t)l->step);
        mde_mark mark = mde_arena_mark(c);
        int32_t before[BATCH * BEFORE], next[BATCH];
        for (i = 0; i < BATCH; i++) {
            double draw = (i + mde_random_uniform(&random)) / BATCH, where = mde_random_uniform(&random);
            const int32_t *at;
            for (k = 0; k < KINDS - 1 && draw >= l->mixture[m][k]; k++) draw -= l->mixture[m][k];
            while (!(l->mixture[m][k] > 0)) k--;
            at = l->text[k] + (int64_t)(where * (double)(l->length[k] - BEFORE));
            for (q = 0; q < BEFORE; q++) before[i * BEFORE + q] = at[q];
            next[i] = at[BEFORE];
        }
        mde_params_zero_grad(l->reader[m].params);
        mde_backward(c, mde_mean(c, read_letters(c, &l->reader[m], BATCH, before, next)));
        mde_adamw_step(l->reader[m].params, &adam);
        mde_arena_rewind(c, mark);
    }
    l->step++;
}

/* What the readers say of the letter: measured losses of all, and of the experts every single probability. */
static void lesson_judge(page *p)
{
    mde_context *c = p->c;
    lesson *l = p->lesson;
    const float *logp[KINDS];
    int32_t before[JUDGED * BEFORE];
    mde_mark mark = mde_arena_mark(c);
    int m, t, q, recording = mde_set_recording(c, 0);
    for (t = 0; t < JUDGED; t++) for (q = 0; q < BEFORE; q++) before[t * BEFORE + q] = l->letter[t + q];
    for (m = 0; m < MIXTURES; m++) {
        mde_tensor *loss = read_letters(c, &l->reader[m], JUDGED, before, l->letter + BEFORE);
        double sum = 0;
        int expert = -1;
        for (q = 0; q < KINDS; q++) if (l->mixture[m][q] == 1) expert = q;
        for (t = 0; loss && t < JUDGED; t++) {
            sum += (double)loss->data[t];
            if (expert >= 0) l->logp[expert][t] = -loss->data[t];
        }
        l->loss[m] = sum / JUDGED;
    }
    mde_set_recording(c, recording);
    mde_arena_rewind(c, mark);
    mde_experts_free(p->experts);
    p->experts = mde_experts_create(c, KINDS, kinds);
    for (q = 0; q < KINDS; q++) logp[q] = l->logp[q];
    mde_experts_add(p->experts, "letter", JUDGED, logp, NULL, 0);
}

/* All mixtures of three whose weights are multiples of 1 / divisions, [count, 3]. */
static void grid_of_mixtures(int divisions, double *out)
{
    int a, b;
    for (a = divisions; a >= 0; a--) {
        for (b = divisions - a; b >= 0; b--) {
            *out++ = (double)a / divisions;
            *out++ = (double)b / divisions;
            *out++ = (double)(divisions - a - b) / divisions;
        }
    }
}

static void lesson_free(page *p)
{
    int i;
    if (!p->lesson) return;
    for (i = 0; i < KINDS; i++) mde_release(p->c, p->lesson->text[i]);
    for (i = 0; i < MIXTURES; i++) mde_params_free(p->lesson->reader[i].params);
    mde_release(p->c, p->lesson);
    mde_experts_free(p->experts);
    p->lesson = NULL;
    p->experts = NULL;
}

static const char *lesson_answer(page *p, mde_json_writer *w)
{
    static const char *const inputs[2] = { "measured", "predicted" };
    lesson *l = p->lesson;
    double fine[FINE_MIXTURES][KINDS], surface[FINE_MIXTURES], predicted[MIXTURES], rank[3];
    mde_optimum best;
    int m;
    if (program_failed(p->c)) return answer_end(p, w);
    lesson_judge(p);
    grid_of_mixtures(FINE, fine[0]);
    mde_mixture_losses(p->experts, FINE_MIXTURES, fine[0], surface);
    mde_mixture_losses(p->experts, MIXTURES, l->mixture[0], predicted);
    mde_mixture_minimize(p->experts, NULL, &best);
    spearman_interval(p->c, MIXTURES, l->loss, predicted, 0.9, 0, 0, rank);
    if (program_failed(p->c)) return answer_end(p, w);
    mde_json_write_int(w, "step", l->step);
    mde_json_write_int(w, "steps", STEPS);
    mde_json_write_int(w, "letters_a_step", BATCH);
    mde_json_write_int(w, "weights_a_network", (int64_t)mde_params_elements(l->reader[0].params));
    mde_json_open(w, "mixtures", '[');
    for (m = 0; m < MIXTURES; m++) mde_json_write_numbers(w, NULL, KINDS, l->mixture[m], PAGE_DIGITS);
    mde_json_close(w);
    mde_json_write_numbers(w, inputs[0], MIXTURES, l->loss, PAGE_DIGITS);
    mde_json_write_numbers(w, inputs[1], MIXTURES, predicted, PAGE_DIGITS);
    mde_json_write_int(w, "divisions", FINE);
    mde_json_write_numbers(w, "surface", FINE_MIXTURES, surface, PAGE_DIGITS);
    mde_json_write_numbers(w, "best", KINDS, best.weights, PAGE_DIGITS);
    mde_json_write_number(w, "best_loss", best.loss, PAGE_DIGITS);
    mde_json_write_number(w, "spearman", rank[0], PAGE_DIGITS);
    return answer_end(p, w);
}

/* Texts to learn from, two of the three from files; sums are made up. Answers as page_lesson_go. */
PAGE_CALL const char *page_lesson(page *p, const char *prose_path, const char *program_path)
{
    mde_json_writer w = answer_start(p);
    const char *paths[2];
    mde_context *c = p->c;
    mde_text *sums;
    lesson *l;
    int i;
    paths[0] = prose_path;
    paths[1] = program_path;
    lesson_free(p);
    l = p->lesson = (lesson *)mde_alloc(c, 1, sizeof *l);
    for (i = 0; l && i < 2; i++) {
        size_t length = 0;
        char *text = (char *)mde_file_read(c, paths[i], 1 << 20, &length);
        if (length > 60000) length = 60000;
        if (text) l->text[i] = letter_numbers(c, text, length);
        l->length[i] = (int64_t)length;
        mde_release(c, text);
    }
    sums = sums_text(c);
    if (!program_failed(c)) {
        l->text[2] = letter_numbers(c, sums->bytes, sums->length);
        l->length[2] = (int64_t)sums->length;
        for (i = 0; judged[i]; i++) l->letter[i] = letter_number(judged[i]);
        grid_of_mixtures(DIVISIONS, l->mixture[0]);
        for (i = 0; i < MIXTURES; i++) l->reader[i] = reader_create(c);
    }
    mde_text_free(sums);
    return lesson_answer(p, &w);
}

/* So many steps of all readers; then the losses measured, and those that the three experts predict. */
PAGE_CALL const char *page_lesson_go(page *p, int steps)
{
    mde_json_writer w = answer_start(p);
    if (!p->lesson) mde_fail(p->c, MDE_BAD_ARGUMENT, "there are no experts yet");
    while (!program_failed(p->c) && steps-- > 0 && p->lesson->step < STEPS) lesson_step(p->c, p->lesson);
    return lesson_answer(p, &w);
}

/* The loss that the experts predict for a mixture of their texts. */
PAGE_CALL const char *page_lesson_at(page *p, const double *weights)
{
    mde_json_writer w = answer_start(p);
    if (!p->experts) mde_fail(p->c, MDE_BAD_ARGUMENT, "there are no experts yet");
    else mde_json_write_number(&w, "loss", mde_mixture_loss(p->experts, NULL, weights, NULL), PAGE_DIGITS);
    return answer_end(p, &w);
}

/* ---- A character drawn, and images made from it ---- */

#define SIDE 28                 /* of the generator's images, */
#define FINER 3                 /* pixels of the drawing to one of theirs */

/* Pixels in [-1, 1] as two hexadecimal digits each, 00 paper and ff ink. */
static void write_image(mde_json_writer *w, const char *key, const float *pixels)
{
    char digits[2 * SIDE * SIDE + 1];
    int i;
    for (i = 0; i < SIDE * SIDE; i++) {
        double shade = 127.5 + 127.5 * (double)pixels[i];
        snprintf(digits + 2 * i, 3, "%02x", (unsigned)(shade < 0 ? 0 : shade > 255 ? 255 : shade + 0.5) & 255u);
    }
    mde_json_write_string(w, key, digits);
}

/* A drawing of 84 x 84 bytes, 1 is ink, becomes what the generator learned from: averaged over areas, in 8 bits. */
PAGE_CALL const char *page_draw(page *p, const unsigned char *ink)
{
    mde_json_writer w = answer_start(p);
    int x, y, dx, dy;
    for (y = 0; y < SIDE; y++) {
        for (x = 0; x < SIDE; x++) {
            int sum = 0;
            for (dy = 0; dy < FINER; dy++) {
                for (dx = 0; dx < FINER; dx++) {
                    sum += ink[(FINER * y + dy) * FINER * SIDE + FINER * x + dx] ? 255 : 0;
                }
            }
            p->drawing[y * SIDE + x] = (float)((sum + FINER * FINER / 2) / (FINER * FINER)) / 127.5f - 1;
        }
    }
    write_image(&w, "image", p->drawing);
    return answer_end(p, &w);
}

/* The generator of a file, once. NULL, and an error, if it takes other images than the page has. */
static dagan *open_generator(page *p, const char *path)
{
    int height, width, channels;
    if (!p->generator) p->generator = dagan_open(p->c, path);
    if (!p->generator) return NULL;
    dagan_shape(p->generator, NULL, &height, &width, &channels);
    if (height == SIDE && width == SIDE && channels == 1) return p->generator;
    mde_fail(p->c, MDE_BAD_FILE, "%s: takes images of %d x %d x %d; expected %d x %d x 1", path, height, width,
             channels, SIDE, SIDE);
    return NULL;
}

/* The z of an image by its number and a seed. */
PAGE_CALL const char *page_noise(page *p, const char *path, double seed, int image)
{
    mde_json_writer w = answer_start(p);
    const dagan *g = open_generator(p, path);
    mde_random random = mde_random_start((uint64_t)seed, (uint64_t)image);
    int i;
    mde_json_open(&w, "z", '[');
    for (i = 0; g && i < dagan_describe(g)->noise; i++) {
        mde_json_write_number(&w, NULL, (double)(float)mde_random_normal(&random), PAGE_DIGITS);
    }
    mde_json_close(&w);
    return answer_end(p, &w);
}

/* One image made from the drawing and z. */
PAGE_CALL const char *page_make(page *p, const char *path, const float *z)
{
    mde_json_writer w = answer_start(p);
    dagan *g = open_generator(p, path);
    float made[SIDE * SIDE];
    if (g && dagan_generate(g, 1, p->drawing, z, 0, made) == MDE_OK) write_image(&w, "image", made);
    return answer_end(p, &w);
}

/* ---- A derivative, step by step ---- */

#define TAPE_NODES 8

typedef struct tape_value { const char *name, *rule; double row; mde_tensor *value; } tape_value;
typedef struct tape { int count, leaves; const char *title; tape_value of[TAPE_NODES]; } tape;

/* rule: how the op hands its adjoint on. */
static mde_tensor *tape_add(tape *t, const char *name, const char *rule, double row, mde_tensor *value)
{
    tape_value *v = &t->of[t->count++];
    v->name = name;
    v->rule = rule;
    v->row = row;
    v->value = value;
    return value;
}

static mde_tensor *tape_leaf(tape *t, mde_context *c, const char *name, double row, double value)
{
    mde_tensor *leaf = mde_scalar(c, value);
    if (leaf) leaf->requires_grad = 1;
    t->leaves++;
    return tape_add(t, name, "", row, leaf);
}

static void tape_product(tape *t, mde_context *c, const double *at)
{
    mde_tensor *x, *u, *minus, *v;
    t->title = "y = x\xC2\xB2 \xC2\xB7 exp(-x)";
    x = tape_leaf(t, c, "x", 0.5, at[0]);
    u = tape_add(t, "u = x x", "of a product: each factor gets the other", 0, mde_mul(c, x, x));
    minus = tape_add(t, "-x", "of a multiple: the multiple", 1, mde_affine(c, x, -1, 0));
    v = tape_add(t, "v = exp(-x)", "of exp: exp itself", 1, mde_exp(c, minus));
    tape_add(t, "y = u v", "of a product: each factor gets the other", 0.5, mde_mul(c, u, v));
}

static void tape_neuron(tape *t, mde_context *c, const double *at)
{
    mde_tensor *x, *weight, *b, *s, *h, *e;
    t->title = "a neuron and its error: e = (tanh(w x + b) - 0.5)\xC2\xB2";
    x = tape_leaf(t, c, "x", 0, at[0]);
    weight = tape_leaf(t, c, "w", 1, at[1]);
    b = tape_leaf(t, c, "b", 2, at[2]);
    s = tape_add(t, "w x", "of a product: each factor gets the other", 0.5, mde_mul(c, weight, x));
    s = tape_add(t, "s = w x + b", "of a sum: 1 to each", 1, mde_add(c, s, b));
    h = tape_add(t, "h = tanh(s)", "of tanh: 1 - tanh\xC2\xB2", 1, mde_tanh(c, s));
    e = tape_add(t, "d = h - 0.5", "of a shift: 1", 1, mde_affine(c, h, 1, -0.5));
    tape_add(t, "e = d d", "of a product: each factor gets the other", 1, mde_mul(c, e, e));
}

static void tape_softplus(tape *t, mde_context *c, const double *at)
{
    mde_tensor *x, *u, *v;
    t->title = "y = log(1 + exp(x))";
    x = tape_leaf(t, c, "x", 0, at[0]);
    u = tape_add(t, "u = exp(x)", "of exp: exp itself", 0, mde_exp(c, x));
    v = tape_add(t, "v = 1 + u", "of a shift: 1", 0, mde_affine(c, u, 1, 1));
    tape_add(t, "y = log(v)", "of log: 1 / v", 0, mde_log(c, v));
}

/* The derivatives of a node's op alone by its inputs: it runs once more, on copies that nothing leads to. */
static void write_partials(mde_json_writer *w, mde_context *c, const mde_node *node)
{
    mde_tensor *in[MDE_MAX_INPUTS], *partial[MDE_MAX_INPUTS];
    int k;
    mde_json_open(w, "partial", '[');
    for (k = 0; node && k < node->op->inputs; k++) {
        in[k] = mde_scalar(c, mde_item(node->in[k]));
        if (in[k]) in[k]->requires_grad = 1;
    }
    if (node && mde_grad(c, mde_apply(c, node->op, in, &node->args), node->op->inputs, in, partial, 0) == MDE_OK) {
        for (k = 0; k < node->op->inputs; k++) mde_json_write_number(w, NULL, mde_item(partial[k]), PAGE_DIGITS);
    }
    mde_json_close(w);
}

/* The tape of expression 0, 1 or 2 with its leaves [3] at these values: what each node is, its value, its adjoint. */
PAGE_CALL const char *page_tape(page *p, int expression, const double *at)
{
    mde_context *c = p->c;
    mde_json_writer w = answer_start(p);
    mde_mark mark = mde_arena_mark(c);
    mde_tensor *all[TAPE_NODES], *adjoint[TAPE_NODES];
    tape t;
    int i, j, k;
    memset(&t, 0, sizeof t);
    if (expression == 0) tape_product(&t, c, at);
    else if (expression == 1) tape_neuron(&t, c, at);
    else tape_softplus(&t, c, at);
    for (i = 0; i < t.count; i++) all[i] = t.of[i].value;
    if (mde_grad(c, all[t.count - 1], t.count, all, adjoint, 0) != MDE_OK) return answer_end(p, &w);
    mde_json_write_string(&w, "title", t.title);
    mde_json_write_int(&w, "leaves", t.leaves);
    mde_json_open(&w, "nodes", '[');
    for (i = 0; i < t.count; i++) {
        const mde_node *node = all[i]->node;
        mde_json_open(&w, NULL, '{');
        mde_json_write_string(&w, "name", t.of[i].name);
        mde_json_write_string(&w, "op", node ? node->op->name : "leaf");
        mde_json_write_string(&w, "rule", t.of[i].rule);
        mde_json_write_number(&w, "row", t.of[i].row, PAGE_DIGITS);
        mde_json_write_number(&w, "value", mde_item(all[i]), PAGE_DIGITS);
        mde_json_write_number(&w, "adjoint", mde_item(adjoint[i]), PAGE_DIGITS);
        mde_json_open(&w, "in", '[');
        for (k = 0; node && k < node->op->inputs; k++) {
            for (j = 0; j < i; j++) if (all[j] == node->in[k]) mde_json_write_int(&w, NULL, j);
        }
        mde_json_close(&w);
        write_partials(&w, c, node);
        mde_json_close(&w);
    }
    mde_json_close(&w);
    mde_arena_rewind(c, mark);
    return answer_end(p, &w);
}
