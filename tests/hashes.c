/* hashes.c - a hash of the bits of every kind of result, a line each, which `make portability` compares.

     hashes [--threads N] [--simd N] [--locale NAME] [--folder DIR]

   With --locale all is computed and written under that locale; with --folder the results that go through files are
   there, too. Exit codes: 0; 1 when the library reports an error, which stands in place of the hash; 2, with a
   sentence, where mde_other_bits says that bits differ; 3 where this machine lacks the instruction set or the locale. */
#define MDEMIX_IMPLEMENTATION
#define DAGAN_IMPLEMENTATION
#ifdef HASHES_WIDE
#define MDE__WITH_WIDE              /* the kernels of AVX-512 without its instructions: --simd 4 */
#endif
#include "../dagan.h"

static mde_context *c;
static const char *folder;          /* NULL: no files */
static uint64_t hash;
static int failures;

/* ---- Bits: least byte first, whatever the machine's order ---- */

static void add_bytes(const void *bytes, size_t size)
{
    const unsigned char *p = (const unsigned char *)bytes;
    size_t i;
    for (i = 0; i < size; i++) hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
}

static void add_bits(uint64_t bits, int bytes)
{
    unsigned char p[8];
    int i;
    for (i = 0; i < bytes; i++) p[i] = (unsigned char)(bits >> (8 * i) & 255);
    add_bytes(p, (size_t)bytes);
}

/* Sign and payload of a NaN that arithmetic gives are the machine's: it counts as NaN. */
static void add_floats(size_t count, const float *x)
{
    uint32_t bits;
    size_t i;
    for (i = 0; i < count; i++) {
        memcpy(&bits, x + i, sizeof bits);
        add_bits(x[i] == x[i] ? bits : UINT32_C(0x7fc00000), 4);
    }
}

static void add_doubles(size_t count, const double *x)
{
    uint64_t bits;
    size_t i;
    for (i = 0; i < count; i++) {
        memcpy(&bits, x + i, sizeof bits);
        add_bits(x[i] == x[i] ? bits : UINT64_C(0x7ff8000000000000), 8);
    }
}

/* A NaN that is kept has one sign. */
static void add_kept_nan(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    add_bits(bits, 4);
}

static void add_double(double x)
{
    add_doubles(1, &x);
}

static void add_text(const char *text)
{
    add_bytes(text ? text : "(null)", text ? strlen(text) + 1 : 7);
}

static void add_tensor(const mde_tensor *t)
{
    if (t) add_floats(t->count, t->data);
}

static void add_params(const mde_params *p)
{
    int i;
    for (i = 0; p && i < mde_params_count(p); i++) {
        add_text(mde_params_name(p, i));
        add_tensor(mde_params_tensor(p, i));
    }
}

static void done(const char *name)
{
    if (mde_context_status(c)) printf("%-22s %s\n", name, mde_error(c));
    else printf("%-22s %08lx%08lx\n", name, (unsigned long)(hash >> 32), (unsigned long)(hash & 0xffffffffu));
    fflush(stdout);
    failures += mde_context_status(c) != MDE_OK;
    mde_clear_error(c);
    hash = UINT64_C(0xcbf29ce484222325);
}

/* ---- Random numbers and text ---- */

static void random_numbers(void)
{
    static const double alpha[5] = { 0.1, 1, 2.5, 30, 0.003 };
    mde_random r = mde_random_start(12345, 678);
    double weights[5];
    int64_t order[37];
    int i;
    for (i = 0; i < 200; i++) {
        add_bits(mde_random_bits(&r), 8);
        add_double(mde_random_uniform(&r));
        add_double(mde_random_normal(&r));
        add_double(mde_random_gamma(&r, (i + 1) * 0.0625));
        add_bits(mde_random_below(&r, (uint64_t)i * (uint64_t)i + 3), 8);
    }
    for (i = 0; i < 20; i++) {
        mde_random_dirichlet(&r, 5, alpha, weights);
        add_doubles(5, weights);
        mde_random_mixture(&r, 5, weights);
        add_doubles(5, weights);
    }
    mde_random_permutation(&r, 37, order);
    for (i = 0; i < 37; i++) add_bits((uint64_t)order[i], 8);
    done("random");
}

static void numbers_as_text(void)
{
    static const double values[] = { 0, -0.0, 1, 0.1, 1.5e-5, 123456789.123, 1e21, 1e22, 1e23, 5e-324,
                                     2.2250738585072014e-308, 1.7976931348623157e308, 0.3, 2.5, 1e-100, 9.995, 0.045 };
    static const char *const read[] = { "0.1", "1e23", "8.5e-324", "1.7976931348623157e308", "9007199254740993", ".5",
                                        "2.2250738585072011e-308", "123456789012345678", "1e400", "-1e-400", "nan" };
    const size_t count = sizeof values / sizeof *values, cells = sizeof read / sizeof *read;
    mde_text *t = mde_text_create(c);
    mde_json_writer w = mde_json_start(t, 1);
    mde_csv *csv;
    mde_json *json;
    size_t i;
    int digits;
    for (i = 0; i < count; i++) {
        for (digits = 0; digits <= 17; digits++) {
            mde_text_add_number(t, values[i], digits);
            mde_text_add(t, ";");
            mde_text_add_fixed(t, values[i], digits);
            mde_text_format(t, ";%g;%.3f;%8.2f\n", values[i], values[i], values[i]);
        }
    }
    mde_text_format(t, "%d %lld %llu %llx %zu %-8s| %05d %c%%\n", -3, -5000000000LL, 18446744073709551615ULL,
                    0xdeadbeefcafeULL, (size_t)77, "ab", 42, 'x');
    add_text(t->bytes);
    done("numbers printed");
    t->length = 0;
    mde_json_open(&w, NULL, '{');
    mde_json_write_numbers(&w, "values", count, values, 17);
    mde_json_write_string(&w, "text", "d\xc3\xa9utsch \"\\\n");
    mde_json_close(&w);
    mde_json_end(&w);
    add_text(t->bytes);
    json = mde_json_parse(c, "values", t->bytes, t->length);
    if (json) {
        const mde_json *value = mde_json_get(json, "values")->child;
        for (; value; value = value->next) add_double(value->number);
        add_text(mde_json_string(json, "text", ""));
    }
    mde_json_free(c, json);
    done("json");
    t->length = 0;
    mde_text_add(t, "name,value\r\n");
    for (i = 0; i < cells; i++) mde_text_format(t, "a,\"%s\"\r\n", read[i]);
    csv = mde_csv_parse(c, "numbers", t->bytes, t->length);
    for (i = 0; csv && i < cells; i++) add_double(mde_csv_number(csv, (int)i, 1));
    mde_csv_free(csv);
    mde_text_free(t);
    done("csv");
}

#define DOMAINS 3
static const char *const domains[DOMAINS] = { "stories", "code", "d\xc3\xa9utsch" };
static mde_corpus *bytes_corpus, *pairs_corpus;

static char *some_text(int kind, size_t *length)
{
    static const char *const words[DOMAINS][8] = {
        { "the ", "cat ", "sat ", "on ", "a ", "mat", ".\n", "dogs " },
        { "if (", "x", ") ", "return ", "y;\n", "int ", "z = ", "0;\n" },
        { "und ", "der ", "Stra\xc3\x9f" "e ", "sch\xc3\xb6n ", "ist ", "nicht ", "gr\xc3\xbc\xc3\x9f" "t.\n", "ja " }
    };
    mde_random r = mde_random_start(77, (uint64_t)kind);
    mde_text *t = mde_text_create(c);
    char *text;
    while (t && t->length < 9000) mde_text_add(t, words[kind][mde_random_below(&r, 4) + mde_random_below(&r, 5)]);
    *length = t ? t->length : 0;
    text = t ? t->bytes : NULL;
    return text;
}

static void texts(void)
{
    static const double weights[DOMAINS] = { 0.5, 0.2, 0.3 };
    char *text[DOMAINS];
    size_t length[DOMAINS], count = 0, size, i;
    mde_tokenizer *pairs;
    mde_corpus_desc desc;
    mde_sampler sampler;
    uint16_t window[4 * 17];
    int32_t *ids;
    int k;
    for (k = 0; k < DOMAINS; k++) text[k] = some_text(k, length + k);
    pairs = mde_tokenizer_train(c, text[2], length[2], 290);
    for (k = 0; pairs && k < mde_tokenizer_vocabulary(pairs); k++) {
        const char *bytes = mde_tokenizer_token(pairs, k, &size);
        add_bytes(bytes, size);
        add_bits(0, 1);
    }
    ids = pairs ? mde_tokenizer_encode(pairs, text[0], length[0], &count) : NULL;
    for (i = 0; i < count; i++) add_bits((uint64_t)ids[i], 4);
    mde_release(c, ids);
    mde_tokenizer_free(pairs);
    done("byte pairs");
    memset(&desc, 0, sizeof desc);
    desc.document = 256;
    bytes_corpus = mde_corpus_from_texts(c, DOMAINS, domains, (const char *const *)text, length, &desc);
    desc.vocabulary = 300;
    pairs_corpus = mde_corpus_from_texts(c, DOMAINS, domains, (const char *const *)text, length, &desc);
    add_bits(mde_corpus_hash(bytes_corpus), 8);
    add_bits(mde_corpus_hash(pairs_corpus), 8);
    mde_sampler_start(&sampler, pairs_corpus, weights, 9);
    for (k = 0; k < 20 && mde_sampler_next(&sampler, 4, 16, window) == MDE_OK; k++) {
        for (i = 0; i < sizeof window / sizeof *window; i++) add_bits(window[i], 2);
    }
    done("corpus");
}

/* ---- Ops: values, gradients, and gradients of these ---- */

static mde_tensor *noise(uint64_t seed, double scale, int rank, int64_t a, int64_t b, int64_t d, int64_t e)
{
    mde_random r = mde_random_start(seed, 99);
    int64_t shape[4];
    mde_tensor *t;
    size_t i;
    shape[0] = a, shape[1] = b, shape[2] = d, shape[3] = e;
    t = mde_tensor_create(c, rank, shape);
    for (i = 0; t && i < t->count; i++) t->data[i] = (float)(mde_random_normal(&r) * scale);
    if (t) t->requires_grad = 1;
    return t;
}

static mde_tensor *square(mde_tensor *x)
{
    return mde_sum(c, mde_mul(c, x, x));
}

/* Of y alone, by its inputs, and of the length of the gradients by the inputs again. */
static void differentiate(mde_tensor *y, int inputs, mde_tensor *const *x)
{
    mde_tensor *dx[4], *sum = NULL;
    int i;
    add_tensor(y);
    if (mde_grad(c, square(y), inputs, x, dx, 1) != MDE_OK) return;
    for (i = 0; i < inputs; i++) {
        add_tensor(dx[i]);
        sum = sum ? mde_add(c, sum, square(dx[i])) : square(dx[i]);
    }
    if (mde_grad(c, sum, inputs, x, dx, 0) != MDE_OK) return;
    for (i = 0; i < inputs; i++) add_tensor(dx[i]);
}

static void elements(void)
{
    static const struct { const char *name; mde_tensor *(*op)(mde_context *c, mde_tensor *x); } unary[] = {
        { "exp", mde_exp }, { "log", mde_log }, { "sqrt", mde_sqrt }, { "tanh", mde_tanh }, { "sigmoid", mde_sigmoid },
        { "relu", mde_relu }, { "silu", mde_silu }, { "gelu", mde_gelu }
    };
    static const struct {
        const char *name;
        mde_tensor *(*op)(mde_context *c, mde_tensor *x, mde_tensor *y);
    } binary[] = {
        { "add", mde_add }, { "sub", mde_sub }, { "mul", mde_mul }, { "div", mde_div }, { "gate", mde_gate }
    };
    static const float special[] = { 0.0f, -0.0f, 1e-45f, -1e-45f, 1e-40f, -1e-40f, 1.17549435e-38f, 88.7f, 89.5f,
                                     -87.4f, -103.9f, -110.0f, 3.4e38f, -3.4e38f, 0.625f, 0.6249999f, 1.0f, -1.0f };
    const mde_mark mark = mde_arena_mark(c);
    mde_tensor *x[2];
    size_t i, k;
    x[0] = noise(5, 3, 1, 5003, 0, 0, 0);
    x[1] = noise(6, 3, 1, 5003, 0, 0, 0);
    for (i = 0; x[0] && i < sizeof special / sizeof *special; i++) x[0]->data[37 * i + 5] = special[i];
    for (k = 0; k < sizeof unary / sizeof *unary; k++) {
        mde_tensor *y = unary[k].op(c, x[0]);
        differentiate(y, 1, x);
        if (y && unary[k].op == mde_log) add_kept_nan(y->data[37 * 17 + 5]);
        done(unary[k].name);
    }
    for (k = 0; k < sizeof binary / sizeof *binary; k++) {
        differentiate(binary[k].op(c, x[0], x[1]), 2, x);
        done(binary[k].name);
    }
    differentiate(mde_affine(c, x[1], 1.7, -0.3), 1, x + 1);
    differentiate(mde_sum(c, x[1]), 1, x + 1);
    differentiate(mde_mean(c, x[1]), 1, x + 1);
    done("affine, sum, mean");
    for (i = 0; x[0] && i < sizeof special / sizeof *special; i++) x[1]->data[31 * i + 9] = 7919.0f * (float)(i * i * i);
    differentiate(mde_sin(c, x[1]), 1, x + 1);
    differentiate(mde_cos(c, x[0]), 1, x);
    done("sin, cos");
    differentiate(mde_abs(c, x[0]), 1, x);
    differentiate(mde_pow(c, mde_abs(c, x[1]), 1.7), 1, x + 1);
    differentiate(mde_clip(c, x[0], -0.5, 0.8), 1, x);
    differentiate(mde_maximum(c, x[0], x[1]), 2, x);
    done("abs, pow, clip, max");
    mde_arena_rewind(c, mark);
}

static void networks(void)
{
    static const int sizes[][3] = { { 1, 1, 1 }, { 3, 5, 7 }, { 17, 33, 9 }, { 64, 48, 65 }, { 13, 200, 31 } };
    const mde_mark mark = mde_arena_mark(c);
    mde_tensor *x[4];
    int32_t ids[40];
    size_t k;
    int i;
    for (k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        x[0] = noise(10 + k, 1, 2, sizes[k][0], sizes[k][2], 0, 0);
        x[1] = noise(20 + k, 1, 2, sizes[k][2], sizes[k][1], 0, 0);
        differentiate(mde_matmul(c, x[0], x[1]), 2, x);
    }
    done("matmul");
    x[0] = noise(40, 3, 2, 19, 37, 0, 0);
    differentiate(mde_softmax(c, x[0]), 1, x);
    differentiate(mde_log_softmax(c, x[0]), 1, x);
    done("softmax");
    x[0] = noise(41, 3, 2, 11, 45, 0, 0);
    x[1] = noise(42, 1, 1, 45, 0, 0, 0);
    x[2] = noise(43, 1, 1, 45, 0, 0, 0);
    differentiate(mde_layer_norm(c, x[0], x[1], x[2], 1e-5), 3, x);
    differentiate(mde_rms_norm(c, x[0], x[1], 1e-5), 2, x);
    done("norms");
    x[0] = noise(44, 1, 4, 2, 9, 4, 8);
    x[1] = noise(45, 1, 4, 2, 9, 2, 8);
    x[2] = noise(46, 1, 4, 2, 9, 2, 8);
    differentiate(mde_attention(c, x[0], x[1], x[2], 0.35, 1), 3, x);
    differentiate(mde_rope(c, x[0], 10000, 3), 1, x);
    x[0] = noise(47, 1, 4, 2, 9, 8, 8);
    differentiate(mde_packed_attention(c, x[0], 2, 0.35, 1, 10000), 1, x);
    done("attention");
    for (i = 0; i < 40; i++) ids[i] = i * 7 % 23;
    x[0] = noise(48, 1, 2, 40, 12, 0, 0);
    x[1] = noise(49, 1, 2, 23, 12, 0, 0);
    x[2] = noise(50, 2, 2, 40, 23, 0, 0);
    differentiate(mde_linear_cross_entropy(c, x[0], x[1], ids), 2, x);
    differentiate(mde_gather(c, x[1], 40, ids), 1, x + 1);
    differentiate(mde_cross_entropy(c, x[2], ids), 1, x + 2);
    differentiate(mde_dropout(c, x[2], 0.3, 7, 8), 1, x + 2);
    done("losses");
    mde_arena_rewind(c, mark);
}

static void image_ops(void)
{
    const mde_mark mark = mde_arena_mark(c);
    mde_tensor *x[3];
    x[0] = noise(60, 1, 4, 2, 9, 11, 3);
    x[1] = noise(61, 1, 4, 3, 3, 3, 5);
    x[2] = noise(62, 1, 1, 5, 0, 0, 0);
    differentiate(dagan_conv2d(c, x[0], x[1], 2, 1), 2, x);
    differentiate(dagan_conv2d(c, x[0], x[1], 1, 1), 2, x);
    differentiate(dagan_conv2d_leaky(c, x[0], x[1], x[2], 1, 1, 0.2), 3, x);
    done("convolutions");
    differentiate(dagan_batch_normalize(c, x[0], 1e-5), 1, x);
    differentiate(dagan_image_normalize(c, x[0], 1e-5), 1, x);
    differentiate(dagan_instance_normalize(c, x[0], 1e-5), 1, x);
    differentiate(dagan_upsample(c, x[0], 14, 13), 1, x);
    differentiate(dagan_max_pool(c, x[0], 2), 1, x);
    differentiate(dagan_avg_pool(c, x[0], 2), 1, x);
    differentiate(dagan_leaky_relu(c, x[0], 0.2), 1, x);
    done("image ops");
    mde_arena_rewind(c, mark);
}

/* ---- Language models ---- */

static char *path_of(const char *name)
{
    static char path[1000];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void add_file(const char *path)
{
    size_t size;
    unsigned char *bytes = mde_file_read(c, path, (size_t)1 << 26, &size);
    if (bytes) add_bytes(bytes, size);
    mde_release(c, bytes);
}

static void language_model(const char *name, const mde_corpus *corpus, const mde_lm_desc *desc,
                           const mde_train_desc *training)
{
    mde_lm *lm = mde_lm_create(c, corpus, desc), *again;
    mde_generate_desc g;
    const double *curve, *at;
    float logprobs[200] = { 0 };
    size_t count;
    int k, points;
    mde_lm_train(lm, corpus, training);
    add_params(mde_lm_params(lm));
    curve = mde_lm_curve(lm, &points, &at);
    if (curve) add_doubles((size_t)points, curve);
    for (k = 0; k < DOMAINS; k++) {
        const uint16_t *tokens = mde_corpus_tokens(corpus, MDE_VALIDATION, k, &count);
        if (count > 200) count = 200;
        if (mde_lm_logprobs(lm, tokens, count, logprobs) == MDE_OK) add_floats(count, logprobs);
        add_kept_nan(logprobs[0]);
        add_double(mde_lm_loss(lm, corpus, MDE_TEST, k));
    }
    memset(&g, 0, sizeof g);
    g.prompt = "the ";
    g.tokens = 40;
    g.temperature = 0.8;
    g.top_k = 20;
    g.top_p = 0.9;
    g.seed = 4;
    add_text(mde_lm_generate(lm, &g));
    if (folder) {
        char *path = path_of("model.safetensors");
        mde_lm_write(lm, path);
        add_file(path);
        again = mde_lm_open(c, path);
        if (again) add_params(mde_lm_params(again));
        mde_lm_free(again);
    }
    mde_lm_free(lm);
    done(name);
}

static void language_models(void)
{
    static const double weights[DOMAINS] = { 0.6, 0.3, 0.1 };
    mde_lm_desc d;
    mde_train_desc t;
    memset(&d, 0, sizeof d);
    memset(&t, 0, sizeof t);
    d.layers = 2;
    d.width = 32;
    d.heads = 4;
    d.context = 24;
    d.seed = 3;
    t.batch = 4;
    t.tokens = 4 * 24 * 12;
    t.weights = weights;
    t.seed = 11;
    language_model("model as llama", bytes_corpus, &d, &t);
    d.layer_norm = d.learned_positions = d.gelu = d.biases = d.untied = 1;
    d.dropout = 0.1;
    language_model("model as GPT-2", pairs_corpus, &d, &t);
    memset(&d, 0, sizeof d);
    d.layers = 1;
    d.width = 48;
    d.heads = 6;
    d.kv_heads = 2;
    d.context = 24;
    t.schedule = MDE_WSD;
    t.clip = 0.1;
    language_model("model of grouped heads", pairs_corpus, &d, &t);
}

/* ---- Mixtures ---- */

#define TOKENS 3000

static void mixtures(void)
{
    static const double alpha[DOMAINS] = { 1, 1, 1 }, w[DOMAINS] = { 0.2, 0.5, 0.3 };
    static const double objective[2] = { 0.75, 0.25 }, lower[DOMAINS] = { 0.1, 0.1, 0.1 };
    static const double upper[DOMAINS] = { 0.35, 0.7, 0.7 };
    mde_experts *experts = mde_experts_create(c, DOMAINS, domains);
    mde_random r = mde_random_start(1, 2);
    float *logp[DOMAINS];
    double g[DOMAINS], low[DOMAINS], high[DOMAINS], many[50 * DOMAINS], out[50 * 2];
    mde_optimum best;
    mde_minimize_desc how;
    mde_bootstrap_desc b;
    mde_bootstrap bootstrap;
    mde_price_desc price;
    int i, t, v;
    for (i = 0; i < DOMAINS; i++) logp[i] = (float *)mde_alloc(c, TOKENS, sizeof(float));
    for (v = 0; v < 2; v++) {
        for (i = 0; i < DOMAINS; i++) {
            for (t = 0; t < TOKENS && logp[i]; t++) {
                logp[i][t] = -(float)mde_random_gamma(&r, (t / 50 + v) % DOMAINS == i ? 0.5 : 2.0);
            }
        }
        mde_experts_add(experts, domains[v], TOKENS, (const float *const *)logp, NULL, 4.0 * TOKENS);
    }
    for (v = 0; v < 2; v++) {
        add_double(mde_validation_loss(experts, v, w, g));
        add_doubles(DOMAINS, g);
    }
    add_double(mde_mixture_loss(experts, objective, w, g));
    add_doubles(DOMAINS, g);
    done("mixture loss");
    for (i = 0; i < 50; i++) mde_random_dirichlet(&r, DOMAINS, alpha, many + DOMAINS * i);
    many[0] = 1;
    many[1] = many[2] = 0;
    if (mde_mixture_losses(experts, 50, many, out) == MDE_OK) add_doubles(100, out);
    done("mixture losses");
    memset(&price, 0, sizeof price);
    price.replicates = 30;
    if (mde_mixture_prices(experts, objective, w, g) == MDE_OK) add_doubles(DOMAINS, g);
    mde_mixture_price_intervals(experts, objective, w, &price, low, high);
    add_doubles(DOMAINS, low);
    add_doubles(DOMAINS, high);
    done("prices");
    memset(&how, 0, sizeof how);
    for (i = 0; i < 2; i++) {
        if (mde_mixture_minimize(experts, &how, &best) == MDE_OK) add_doubles(DOMAINS, best.weights);
        add_double(best.loss);
        add_double(best.gap);
        how.objective = objective;
        how.lower = lower;
        how.upper = upper;
    }
    done("minimum");
    memset(&b, 0, sizeof b);
    b.replicates = 20;
    b.seed = 3;
    if (mde_mixture_bootstrap(experts, &b, &bootstrap) == MDE_OK) {
        add_doubles(2, bootstrap.loss);
        add_doubles(DOMAINS, bootstrap.lower);
        add_doubles(DOMAINS, bootstrap.upper);
    }
    done("bootstrap");
    if (folder) {
        static const int64_t shape[1] = { TOKENS };
        char path[1100];
        mde_experts *again;
        for (i = 0; i < DOMAINS; i++) {
            snprintf(path, sizeof path, "%s/%s", path_of("logp"), domains[2]);
            mde_make_folder(c, path);
            snprintf(path, sizeof path, "%s/%s/%s.npy", path_of("logp"), domains[2], domains[i]);
            mde_npy_write(c, path, 1, shape, logp[i]);
            add_file(path);
        }
        again = mde_experts_open(c, path_of("logp"), 0);
        for (i = 0; again && i < DOMAINS; i++) add_text(mde_experts_name(again, i));
        add_double(mde_mixture_loss(again, NULL, w, NULL));
        mde_experts_free(again);
        done("log-probability files");
    }
    mde_experts_free(experts);
}

/* ---- Regressions and search ---- */

#define RUNS 30
#define LOSSES 2
#define POINTS 6
static double weights_of[RUNS * DOMAINS], losses_of[RUNS * LOSSES], points[POINTS * DOMAINS];

static void make_runs(void)
{
    static const double alpha[DOMAINS] = { 1.0, 0.8, 1.2 };
    mde_random r = mde_random_start(20, 21);
    int i;
    for (i = 0; i < RUNS; i++) {
        double *w = weights_of + i * DOMAINS;
        mde_random_dirichlet(&r, DOMAINS, alpha, w);
        losses_of[LOSSES * i] = 0.5 / (0.1 + w[0]) + mde_random_uniform(&r) / 32;
        losses_of[LOSSES * i + 1] = 0.4 / (0.2 + w[1]) + mde_random_uniform(&r) / 32;
    }
    for (i = 0; i < POINTS; i++) mde_random_dirichlet(&r, DOMAINS, alpha, points + i * DOMAINS);
}

static void regressor(const char *name, int losses, const mde_fit_desc *desc)
{
    double mean[POINTS * LOSSES], sd[POINTS * LOSSES], left_out[RUNS * LOSSES], g[LOSSES * DOMAINS], y[RUNS * LOSSES];
    mde_regressor *r;
    int i, j;
    for (i = 0; i < RUNS; i++) {
        for (j = 0; j < losses; j++) y[i * losses + j] = losses_of[i * LOSSES + j];
    }
    r = mde_regressor_fit(c, RUNS, DOMAINS, losses, weights_of, y, desc);
    if (mde_regressor_predict(r, POINTS, points, mean, sd) == MDE_OK) {
        add_doubles((size_t)(POINTS * losses), mean);
        add_doubles((size_t)(POINTS * losses), sd);
    }
    if (mde_regressor_left_out(r, left_out) == MDE_OK) add_doubles((size_t)(RUNS * losses), left_out);
    if (desc->model != MDE_TREES && mde_regressor_gradient(r, points, mean, g) == MDE_OK) {
        add_doubles((size_t)(losses * DOMAINS), g);
    }
    for (j = 0; r && j < losses; j++) add_double(mde_regressor_log_likelihood(r, j));
    mde_regressor_free(r);
    done(name);
}

static void regressors(void)
{
    mde_fit_desc d;
    memset(&d, 0, sizeof d);
    d.seed = 5;
    d.restarts = 1;
    regressor("ridge", LOSSES, &d);
    d.model = MDE_GP;
    regressor("process, Matern 3/2", 1, &d);
    d.kernel = MDE_MATERN52;
    d.normal_noise = 1;
    regressor("process, Matern 5/2", LOSSES, &d);
    d.kernel = MDE_RBF;
    d.noises = 1;
    regressor("process, RBF", 1, &d);
    memset(&d, 0, sizeof d);
    d.seed = 5;
    d.restarts = 1;
    d.model = MDE_MULTITASK_GP;
    regressor("multi-task process", LOSSES, &d);
    d.model = MDE_MIXING_LAW;
    regressor("mixing law", LOSSES, &d);
    d.model = MDE_POOLED_LAW;
    regressor("pooled law", LOSSES, &d);
    d.model = MDE_SCALE_LAW;
    d.interactions = 1;
    regressor("law across sizes", LOSSES, &d);
    d.model = MDE_TREES;
    d.trees = 40;
    d.depth = 3;
    regressor("trees", LOSSES, &d);
}

static void surrogate_of(const mde_surrogate *s)
{
    double mean[POINTS * LOSSES], sd[POINTS * LOSSES];
    if (mde_surrogate_predict(s, POINTS, points, mean, sd) != MDE_OK) return;
    add_doubles(POINTS * LOSSES, mean);
    add_doubles(POINTS * LOSSES, sd);
}

static double bowl(int n, const double *w, double *gradient, void *user)
{
    volatile double squared;        /* not to be fused with the sum */
    double sum = 0, d;
    int i;
    (void)user;
    for (i = 0; i < n; i++) {
        d = w[i] - 0.125 * (i + 1);
        squared = d * d;
        sum += squared;
        if (gradient) gradient[i] = 2 * d;
    }
    return sum;
}

static void search(void)
{
    static const double lower[4] = { 0, 0.1, 0.05, 0 }, upper[4] = { 0.5, 0.6, 0.4, 0.9 };
    mde_surrogate_desc d;
    mde_surrogate *gp, *s;
    mde_evaluate_desc how;
    mde_evaluation *e;
    mde_search_desc sd;
    mde_choose_desc ch;
    mde_choice choice;
    mde_suggest_desc suggest;
    double w[4] = { 0.9, 0.4, -0.2, 0.3 }, left_out[RUNS * LOSSES], next[3 * DOMAINS] = { 0 }, features[RUNS * 32];
    const int set = MDE_FEATURE_RAW + MDE_FEATURE_LOG + MDE_FEATURE_SQRT + MDE_FEATURE_PRODUCTS + MDE_FEATURE_POWER +
                    MDE_FEATURE_SCARCE;
    int i, k;
    memset(&d, 0, sizeof d);
    d.fit.restarts = 1;
    d.fit.seed = 6;
    mde_surrogate_recipe(c, "gp", &d);
    gp = mde_surrogate_fit(c, RUNS, DOMAINS, LOSSES, weights_of, losses_of, &d);
    surrogate_of(gp);
    if (mde_surrogate_left_out(gp, left_out) == MDE_OK) add_doubles(RUNS * LOSSES, left_out);
    add_double(mde_spearman(c, RUNS, left_out, losses_of));
    done("surrogate");
    d.fit.trees = 20;
    d.fit.depth = 2;
    d.fit.model = MDE_STACK;
    s = mde_surrogate_fit(c, RUNS, DOMAINS, LOSSES, weights_of, losses_of, &d);
    surrogate_of(s);
    for (i = 0; s && i < mde_surrogate_members(s); i++) add_double(mde_surrogate_share(s, 0, i));
    mde_surrogate_free(s);
    done("stack");
    memset(&how, 0, sizeof how);
    how.folds = 3;
    how.seed = 2;
    mde_surrogate_recipe(c, "ridge", &d);
    e = mde_evaluate(c, RUNS, DOMAINS, LOSSES, weights_of, losses_of, &d, &how);
    for (i = 0; e && i < e->candidates; i++) {
        add_text(e->candidate[i].name);
        add_double(e->candidate[i].error);
        add_double(e->candidate[i].spearman);
    }
    if (e) {
        add_doubles(RUNS * LOSSES, e->predicted);
        add_double(e->spread);
        add_text(e->reason);
    }
    mde_evaluation_free(e);
    if (mde_features(c, set, RUNS, DOMAINS, weights_of, 0, NULL, 0, features) == MDE_OK) {
        add_doubles((size_t)mde_feature_count(set, DOMAINS, 0) * RUNS, features);
    }
    done("evaluation");
    mde_simplex_project(c, 4, lower, upper, w);
    add_doubles(4, w);
    for (k = 0; k < 2; k++) {
        memset(&sd, 0, sizeof sd);
        sd.method = k ? MDE_POPULATION : MDE_EXPONENTIATED_GRADIENT;
        sd.seed = 7;
        sd.starts = k ? 12 : 3;
        sd.samples = 50;
        sd.iterations = 60;
        sd.lower = lower;
        sd.upper = upper;
        add_double(mde_simplex_minimize(c, 4, bowl, NULL, &sd, w));
        add_doubles(4, w);
    }
    done("simplex");
    memset(&ch, 0, sizeof ch);
    ch.caution = 1;
    ch.starts = 3;
    ch.kl = 0.01;
    ch.tried = weights_of;
    ch.runs = RUNS;
    ch.seed = 3;
    if (mde_surrogate_minimize(gp, &ch, &choice) == MDE_OK) {
        add_doubles(DOMAINS, choice.weights);
        add_double(choice.loss);
        add_double(choice.sd);
        add_doubles(DOMAINS, choice.price);
    }
    done("choice");
    for (k = 0; k <= MDE_SPACE_FILLING; k++) {
        memset(&suggest, 0, sizeof suggest);
        suggest.acquisition = (mde_acquisition)k;
        suggest.best = 2.5;
        suggest.seed = 8;
        i = k == MDE_SPACE_FILLING ? 3 : 1;
        s = k == MDE_SPACE_FILLING ? NULL : gp;
        mde_suggest_runs(c, s, RUNS, DOMAINS, weights_of, &suggest, i, next);
        add_doubles((size_t)(i * DOMAINS), next);
    }
    mde_surrogate_free(gp);
    done("suggestions");
}

/* ---- Images ---- */

#define SIDE 8

static void add_images(const dagan_images *set)
{
    int k, s, h, w, channels;
    if (!set) return;
    dagan_images_shape(set, &h, &w, &channels);
    for (k = 0; k < dagan_images_class_count(set); k++) {
        for (s = 0; s < dagan_images_sample_count(set, k); s++) {
            add_floats((size_t)(h * w * channels), dagan_images_pixels(set, k, s));
        }
    }
}

static dagan *generator(const char *name, const dagan_images *like, const dagan_images *seen, dagan_norm norm)
{
    dagan_desc d;
    dagan_train_desc t;
    const int64_t *steps;
    const dagan_step *curve;
    dagan *g;
    int count, i;
    memset(&d, 0, sizeof d);
    memset(&t, 0, sizeof t);
    d.preset = DAGAN_QUICK;
    d.levels = 2;
    d.noise = 4;
    d.generator[0] = d.critic[0] = 6;
    d.generator[1] = d.critic[1] = 8;
    d.generator_layers = d.critic_layers = 1;
    d.dropout = 0.1;
    d.seed = 4;
    d.norm = norm;
    t.steps = 2;
    t.batch = 4;
    t.critic_steps = 1;
    t.seed = 6;
    if (norm == DAGAN_INSTANCE_NORM) {
        d.z_concatenated = t.quarter_turns = 1;
        t.diversity = 0.3;
    }
    g = dagan_create(c, like, &d);
    if (dagan_train(g, seen, &t) == MDE_OK) {
        add_params(dagan_generator_params(g));
        add_params(dagan_critic_params(g));
        curve = dagan_curve(g, &count, &steps);
        for (i = 0; curve && i < count; i++) {
            add_double(curve[i].distance);
            add_double(curve[i].penalty);
            add_double(curve[i].gradient_norm);
            add_double(curve[i].generator_loss);
        }
    }
    done(name);
    return g;
}

static void classifiers(dagan *g, const dagan_images *all, const dagan_images *seen, const dagan_images *unseen,
                        const dagan_images *made)
{
    dagan_classifier_desc cd;
    dagan_fit_desc fd;
    dagan_classifier *k;
    dagan_matcher_desc md;
    dagan_episode_desc ed;
    dagan_matcher *m;
    double error = 0;
    int i;
    memset(&cd, 0, sizeof cd);
    memset(&fd, 0, sizeof fd);
    cd.growth_rate = 4;
    cd.layers = cd.blocks = 2;
    cd.seed = 3;
    fd.steps = 3;
    fd.batch = 6;
    fd.seed = 2;
    fd.made = made;
    fd.augment.shift = 1;
    fd.augment.rotate = 10;
    k = dagan_classifier_create(c, unseen, &cd);
    if (dagan_classifier_train(k, unseen, &fd) == MDE_OK) {
        add_params(dagan_classifier_params(k));
        add_double(dagan_classifier_accuracy(k, unseen));
    }
    dagan_classifier_free(k);
    done("classifier");
    for (i = 0; i < 2; i++) {
        memset(&md, 0, sizeof md);
        memset(&ed, 0, sizeof ed);
        md.filters = 6;
        md.seed = 4;
        md.full_context = i;
        ed.episodes = 2;
        ed.way = 3;
        ed.seed = 3;
        if (i) {
            ed.generator = g;
            ed.made = ed.selector = 1;
        }
        m = dagan_matcher_create(c, all, &md);
        if (dagan_matcher_train(m, seen, &ed) == MDE_OK) {
            add_params(dagan_matcher_params(m));
            add_double(dagan_matcher_accuracy(m, unseen, &ed, &error));
            add_double(error);
        }
        dagan_matcher_free(m);
    }
    done("matching networks");
}

static void images(void)
{
    dagan_images *all = dagan_images_draw(c, 10, 4, SIDE, 3), *seen, *unseen, *made;
    dagan_augment_desc a;
    mde_random r = mde_random_start(3, 3);
    float out[SIDE * SIDE];
    const float *row[10];
    unsigned char *png;
    size_t size = 0;
    dagan *g;
    int k;
    memset(&a, 0, sizeof a);
    a.shift = 1.5;
    a.rotate = 12;
    a.scale = 0.1;
    a.noise = 0.05;
    a.flip = a.quarter_turns = 1;
    add_images(all);
    for (k = 0; all && k < 10; k++) {
        row[k] = dagan_images_pixels(all, k, 0);
        dagan_augment(&a, &r, SIDE, SIDE, 1, row[k], out);
        add_floats(SIDE * SIDE, out);
    }
    png = all ? dagan_grid_png(c, 2, 5, SIDE, SIDE, 1, row, 2, &size) : NULL;
    if (png) add_bytes(png, size);
    mde_release(c, png);
    done("drawn images");
    seen = dagan_images_classes(all, 0.0, 0.7);
    unseen = dagan_images_classes(all, 0.7, 1.0);
    dagan_free(generator("DAGAN, instance norm", all, seen, DAGAN_INSTANCE_NORM));
    g = generator("DAGAN, batch renorm", all, seen, DAGAN_BATCH_RENORM);
    made = dagan_make(g, unseen, 2, 5);
    add_images(made);
    done("made images");
    classifiers(g, all, seen, unseen, made);
    if (folder) {
        char *path = path_of("generator.safetensors");
        dagan *again;
        dagan_write(g, path);
        add_file(path);
        again = dagan_open(c, path);
        if (again) add_params(dagan_generator_params(again));
        dagan_free(again);
        done("DAGAN file");
    }
    dagan_free(g);
}

/* ---- Files ---- */

static void run_tables(void)
{
    static const int64_t shape[2] = { RUNS, DOMAINS };
    char ratios[1100], losses[1100];
    mde_text *t = mde_text_create(c);
    mde_runs *runs;
    mde_array *array;
    int i;
    snprintf(ratios, sizeof ratios, "%s", path_of("rati\xc3\xb6s.csv"));
    snprintf(losses, sizeof losses, "%s", path_of("losses.csv"));
    mde_text_add(t, "run,stories,code,books\r\n");
    for (i = 0; i < RUNS; i++) {
        const double *w = weights_of + i * DOMAINS;
        mde_text_format(t, "r%d,%.6f,%.6f,%.6f\r\n", i, w[0], w[1], w[2]);
    }
    mde_text_write(t, ratios);
    add_file(ratios);
    t->length = 0;
    mde_text_add(t, "\xef\xbb\xbfrun,stories,code\n");
    for (i = RUNS - 1; i >= 0; i--) {
        mde_text_format(t, "r%d,%g,%g\n", i, losses_of[i * LOSSES], losses_of[i * LOSSES + 1]);
    }
    mde_text_write(t, losses);
    add_file(losses);
    runs = mde_runs_open(c, ratios, losses);
    if (runs) add_doubles(RUNS * DOMAINS, runs->weights);
    if (runs) add_doubles(RUNS * LOSSES, runs->losses);
    mde_runs_free(runs);
    mde_npy_write_f64(c, path_of("weights.npy"), 2, shape, weights_of);
    add_file(path_of("weights.npy"));
    array = mde_npy_read(c, path_of("weights.npy"), 1);
    if (array) add_doubles(array->count, array->f64);
    mde_array_free(c, array);
    mde_text_free(t);
    done("tables as files");
}

int main(int argc, char **argv)
{
    mde_context_desc desc;
    const char *locale = NULL;
    int i;
    memset(&desc, 0, sizeof desc);
    for (i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--threads") == 0) desc.threads = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--simd") == 0) desc.simd = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--locale") == 0) locale = argv[i + 1];
        else if (strcmp(argv[i], "--folder") == 0) folder = argv[i + 1];
        else break;
    }
    if (i != argc) {
        fprintf(stderr, "usage: hashes [--threads N] [--simd N] [--locale NAME] [--folder DIR]\n");
        return 1;
    }
    if (locale && !setlocale(LC_ALL, locale)) {
        fprintf(stderr, "there is no locale %s here\n", locale);
        return 3;
    }
    c = mde_context_create(&desc);
    if (mde_context_status(c)) {
        fprintf(stderr, "%s\n", mde_error(c));
        return 3;
    }
    if (mde_other_bits(c)) {
        fprintf(stderr, "%s\n", mde_other_bits(c));
        return 2;
    }
    if (folder) mde_make_folder(c, folder);
    hash = UINT64_C(0xcbf29ce484222325);
    random_numbers();
    numbers_as_text();
    texts();
    elements();
    networks();
    image_ops();
    language_models();
    mixtures();
    make_runs();
    regressors();
    search();
    images();
    if (folder) run_tables();
    mde_context_free(c);
    return failures != 0;
}
