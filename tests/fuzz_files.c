/* Mutates valid files and feeds them to every parser: cc -O1 -g -fsanitize=address,undefined tests/fuzz_files.c -lm.
   The program takes the number of iterations; the same number gives the same inputs on every machine; or --seeds
   FOLDER, and writes the valid files that it starts from. Built with
   -DLIBFUZZER -fsanitize=fuzzer it is a target for libFuzzer, where the first byte of the input chooses the parser.
   It stops at once when a parser returns neither a result nor an error, or keeps memory. */
#define MDEDEF static
#define MDEMIX_IMPLEMENTATION
#include "../mdemix.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FUZZ_JSON, FUZZ_CSV, FUZZ_NPY, FUZZ_NPY_DOUBLE, FUZZ_SAFETENSORS, FUZZ_TOKENIZER, FUZZ_INDEX, FUZZ_CONFIG,
    FUZZ_PARSERS
};

static mde_context *fuzz_context(void)
{
    mde_context_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.max_bytes = (size_t)1 << 26;       /* a small file must not ask for more */
    return mde_context_create(&desc);
}

/* Encoding leaves its chunks of the arena for the next time. */
static size_t fuzz_arena(const mde_context *c)
{
    const mde__chunk *chunk;
    size_t bytes = 0;
    for (chunk = c->first; chunk; chunk = chunk->next) bytes += chunk->capacity + 3 * MDE__ALIGNMENT;
    return bytes;
}

/* The sum of all that was read, so that every value is touched. */
static double fuzz_json_sum(const mde_json *value)
{
    double sum = value->number + (double)value->length;
    const mde_json *child;
    size_t members = 0;
    if (value->kind == MDE_JSON_STRING && value->string[value->length] != 0) abort();
    for (child = value->child; child; child = child->next, members++) {
        if ((value->kind == MDE_JSON_OBJECT) != (child->key != NULL)) abort();
        if (child->key && mde_json_get(value, child->key) != child) abort();
        sum += fuzz_json_sum(child);
    }
    if (value->kind >= MDE_JSON_ARRAY && members != value->length) abort();
    return sum;
}

static double fuzz_csv_sum(mde_context *c, mde_csv *csv)
{
    double sum = 0;
    int row, column;
    for (column = 0; column < csv->columns; column++) {
        if (mde_csv_column(csv, csv->names[column]) != column) abort();
        for (row = 0; row < csv->rows; row++) {
            sum += mde_csv_number(csv, row, column);
            mde_clear_error(c);
        }
    }
    return sum;
}

static double fuzz_floats_sum(size_t count, const float *values)
{
    double sum = 0;
    size_t i;
    for (i = 0; i < count; i++) sum += (double)values[i];
    return sum;
}

/* A tokenizer that was read encodes any text to tokens whose bytes are that text again. */
static double fuzz_encode(mde_context *c, mde_tokenizer *t)
{
    static const char text[] = "The cat's  12345 \xC3\xA9t\xC3\xA9\n\n\t<|end|>\xFF\x00 aab\r\n";
    size_t count = 0, i, length, at = 0;
    int32_t *ids = mde_tokenizer_encode(t, text, sizeof text - 1, &count);
    if (!ids && mde_context_status(c) == MDE_OK) abort();
    for (i = 0; ids && i < count; i++) {
        const char *bytes = mde_tokenizer_token(t, ids[i], &length);
        if (t->published) continue;     /* a space comes first */
        if (length > sizeof text - 1 - at || memcmp(bytes, text + at, length) != 0) abort();
        at += length;
    }
    if (ids && !t->published && at != sizeof text - 1) abort();
    mde_release(c, ids);
    mde_clear_error(c);
    return (double)count;
}

/* What a model's folder says in JSON: config.json, or the list of its files. */
static int fuzz_model(mde_context *c, int parser, const mde_json *root, double *sum)
{
    mde_lm_desc desc, resolved;
    const mde_json *map = mde_json_get(root, "weight_map");
    const char **files;
    memset(&desc, 0, sizeof desc);
    if (parser == FUZZ_CONFIG) {
        mde__config g;
        g.context = c;
        g.path = "config.json";
        g.object = root;
        mde__config_read(&g, &desc);
        if (mde__bad(c) || !mde__lm_resolve(c, &desc, 0, &resolved)) return 0;
        *sum = resolved.rope_base + resolved.width;
        return 1;
    }
    files = (const char **)mde_alloc(c, map ? map->length + 1 : 1, sizeof *files);
    *sum = (double)mde__index_files(c, "index.json", root, files);
    mde_release(c, files);
    return *sum > 0;
}

/* Parses a copy of exactly that size, so that a sanitizer sees a read past the end. */
static double fuzz_one(mde_context *c, int parser, const unsigned char *bytes, size_t size)
{
    unsigned char *copy = (unsigned char *)malloc(size ? size : 1);
    size_t held = c->held - fuzz_arena(c), i;
    double sum = 0;
    int k, good = 0;
    if (!copy) abort();
    if (size) memcpy(copy, bytes, size);
    if (parser == FUZZ_JSON) {
        mde_json *root = mde_json_parse(c, "fuzz.json", (const char *)copy, size);
        good = root != NULL;
        if (root) sum = fuzz_json_sum(root);
        mde_json_free(c, root);
    } else if (parser == FUZZ_CSV) {
        mde_csv *csv = mde_csv_parse(c, "fuzz.csv", (const char *)copy, size);
        good = csv != NULL;
        if (good != (mde_context_status(c) == MDE_OK)) abort();
        if (csv) sum = fuzz_csv_sum(c, csv);
        mde_csv_free(csv);
    } else if (parser == FUZZ_SAFETENSORS) {
        mde_safetensors *file = mde_safetensors_parse(c, "fuzz.safetensors", copy, size);
        good = file != NULL;
        for (k = 0; file && k < file->count; k++) {
            sum += fuzz_floats_sum(file->tensors[k].count, file->tensors[k].data);
            if (mde_safetensors_find(file, file->tensors[k].name) != &file->tensors[k]) abort();
        }
        for (k = 0; file && k < file->pairs; k++) {
            if (!mde_safetensors_metadata(file, file->metadata[2 * k])) abort();
        }
        mde_safetensors_free(c, file);
    } else if (parser == FUZZ_TOKENIZER) {
        mde_tokenizer *t = mde__tokenizer_parse(c, "fuzz.tokenizer", copy, size);
        good = t != NULL;
        if (good != (mde_context_status(c) == MDE_OK)) abort();
        if (t) sum = fuzz_encode(c, t);
        mde_tokenizer_free(t);
    } else if (parser == FUZZ_INDEX || parser == FUZZ_CONFIG) {
        mde_json *root = mde_json_parse(c, "fuzz.json", (const char *)copy, size);
        good = root && fuzz_model(c, parser, root, &sum);
        mde_json_free(c, root);
    } else {
        mde_array *a = mde_npy_parse(c, "fuzz.npy", copy, size, parser == FUZZ_NPY_DOUBLE);
        good = a != NULL;
        if (a && a->f32) sum = fuzz_floats_sum(a->count, a->f32);
        for (i = 0; a && a->f64 && i < a->count; i++) sum += a->f64[i];
        mde_array_free(c, a);
    }
    if (good != (mde_context_status(c) == MDE_OK)) abort();
    if (!good && mde_error(c)[0] == 0) abort();
    if (c->held - fuzz_arena(c) != held) abort();
    mde_clear_error(c);
    free(copy);
    return sum;
}

#define FUZZ_SIZE 8192

/* Writes a .npy file in memory; returns its size. */
static size_t fuzz_npy(unsigned char *out, int version, const char *header, const void *data, size_t size)
{
    size_t length = strlen(header), start = version == 1 ? 10 : 12;
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (unsigned char)version;
    out[7] = 0;
    memset(out + 8, 0, 4);
    out[8] = (unsigned char)(length & 255);
    out[9] = (unsigned char)(length >> 8 & 255);
    if (version != 1) out[10] = (unsigned char)(length >> 16 & 255);
    memcpy(out + start, header, length);
    if (size) memcpy(out + start + length, data, size);
    return start + length + size;
}

static size_t fuzz_safetensors(unsigned char *out, const char *header, const void *data, size_t size)
{
    size_t length = strlen(header);
    memset(out, 0, 8);
    out[0] = (unsigned char)(length & 255);
    out[1] = (unsigned char)(length >> 8 & 255);
    out[2] = (unsigned char)(length >> 16 & 255);
    memcpy(out + 8, header, length);
    if (size) memcpy(out + 8 + length, data, size);
    return 8 + length + size;
}

static const char fuzz_json_sample[] =
    "{\"name\": \"m\\u00e9lange \\ud83d\\ude00 \\\"x\\\"\\n\", \"weights\": [0.25, -1.5e-3, 1E+2, 0, -0],\n"
    " \"nested\": {\"a\": {\"b\": [[], {}, [true, false, null]]}}, \"\": \"\",\n"
    " \"k1\": 1, \"k2\": 2, \"k3\": 3, \"k4\": 4, \"k5\": 5, \"k6\": \"\xC3\xA9\xE2\x82\xAC\"}\n";

static const char fuzz_csv_sample[] =
    "\xEF\xBB\xBFrun,web,\"code, all\",\"a \"\"quoted\"\" name\"\r\n1,0.5,0.25,0.25\r\n\r\n2,,nan,\"1e-3\"\n"
    "\"3\",\" 0.5 \",-inf,\"line\nbreak\"\n4,1,2,3";

static const char fuzz_safetensors_sample[] =
    "{\"__metadata__\":{\"layers\":\"2\",\"note\":\"\\u00e9\"},"
    "\"b\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[16,22]},"
    "\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
    "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[16,16]},"
    "\"c\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[22,24]}}  ";

static const unsigned char fuzz_safetensors_data[24] = {
    0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0, 0, 0, 0x20, 0x41, 0, 0, 0, 0,      /* 1, -2, 10, 0 */
    0, 0x3C, 1, 0, 0, 0x7C,                                            /* 1, the least half, infinity */
    0x40, 0x40                                                         /* 3 */
};

static const char *const fuzz_npy_headers[] = {
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }        \n",
    "{\"shape\": (2,3), \"fortran_order\": True, \"descr\": \">f8\"}\n",
    "{'descr': '<f2', 'fortran_order': False, 'shape': (4,), }\n",
    "{'descr': '|b1', 'fortran_order': False, 'shape': (), }\n",
    "{'descr': '>i2', 'fortran_order': True, 'shape': (1, 2, 1, 2, 1), }\n",
    "{'descr': '<u8', 'fortran_order': False, 'shape': (0, 7), }\n"
};
static const size_t fuzz_npy_sizes[] = { 24, 48, 8, 1, 8, 0 };

static const char *const fuzz_configs[] = {
    "{\"model_type\": \"llama\", \"hidden_size\": 8, \"intermediate_size\": 12, \"num_hidden_layers\": 2,"
    " \"vocab_size\": 13, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"max_position_embeddings\": 7,"
    " \"head_dim\": 6,"
    " \"rope_parameters\": {\"rope_theta\": 5e5, \"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1,"
    " \"high_freq_factor\": 4, \"original_max_position_embeddings\": 20}, \"attention_bias\": true, \"mlp_bias\": true,"
    " \"sliding_window\": null, \"layer_types\": [\"full_attention\"]}",
    "{\"model_type\": \"gpt2\", \"n_embd\": 8, \"n_layer\": 2, \"n_head\": 2, \"n_positions\": 7, \"vocab_size\": 13,"
    " \"layer_norm_epsilon\": 1e-5, \"activation_function\": \"gelu_new\", \"n_inner\": null}",
    "{\"model_type\": \"qwen2\", \"hidden_size\": 8, \"intermediate_size\": 12, \"num_hidden_layers\": 2,"
    " \"vocab_size\": 13, \"num_attention_heads\": 2, \"max_position_embeddings\": 7, \"rope_theta\": 10000,"
    " \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}, \"use_sliding_window\": false, \"sliding_window\": 4,"
    " \"tie_word_embeddings\": true}"
};

static const char fuzz_index[] =
    "{\"metadata\": {\"total_size\": 8}, \"weight_map\": {\"a\": \"1.safetensors\", \"b\": \"2.safetensors\", \"c\":"
    " \"1.safetensors\"}}";

/* A tokenizer.json (0 and 1), or one of the binary form. */
static size_t fuzz_tokenizer(int which, unsigned char *out)
{
    static const char *const steps[2] = {
        "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"normalizer\":{\"type\":\"NFC\"},",
        "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\""
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}|"
        " ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|"
        "\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":"
        "\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},"
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<|end|>\","
        "\"type_id\":0}}]},"
    };
    size_t at = 0;
    int i;
    if (which > 2) return 0;
    if (which == 2) {
        out[0] = 1;
        out[1] = out[2] = out[3] = 0;
        for (i = 0, at = 4; i < 256; i++, at += 9) {
            memset(out + at, 0, 8);
            out[at + 4] = 1;
            out[at + 8] = (unsigned char)i;
        }
        memcpy(out + at, "\0\0\200\277\2\0\0\0aa", 10);
        return at + 10;
    }
    at = (size_t)snprintf((char *)out, FUZZ_SIZE, "%s\"added_tokens\":[{\"id\":258,\"content\":\"<|end|>\"}],\"model\":"
                          "{\"type\":\"BPE\",\"merges\":[\"a a\",[\"aa\",\"b\"]],\"vocab\":{\"aa\":256,\"aab\":257",
                          steps[which]);
    for (i = 0; i < 256; i++) {
        int printed = (i > 32 && i < 127) || (i > 160 && i != 173);
        char character[5] = {0};
        mde__utf8_write(character, (uint32_t)(printed ? i : i < 33 ? 256 + i : i == 173 ? 323 : 162 + i));
        at += (size_t)snprintf((char *)out + at, FUZZ_SIZE - at, ",\"%s%s\":%d", i == '"' || i == '\\' ? "\\" : "",
                               character, i);
    }
    return at + (size_t)snprintf((char *)out + at, FUZZ_SIZE - at, "}}}");
}

/* Valid file `which` of a parser; 0 when there is none. */
static size_t fuzz_sample(int parser, int which, unsigned char *out)
{
    unsigned char data[64];
    size_t i;
    if (parser == FUZZ_NPY || parser == FUZZ_NPY_DOUBLE) {
        if (which >= 6) return 0;
        for (i = 0; i < sizeof data; i++) data[i] = (unsigned char)(17 + 31 * i);
        return fuzz_npy(out, 1 + which % 3, fuzz_npy_headers[which], data, fuzz_npy_sizes[which]);
    }
    if (parser == FUZZ_TOKENIZER) return fuzz_tokenizer(which, out);
    if (parser == FUZZ_CONFIG && which < 3) {
        memcpy(out, fuzz_configs[which], strlen(fuzz_configs[which]));
        return strlen(fuzz_configs[which]);
    }
    if (which > 0) return 0;
    if (parser == FUZZ_INDEX) {
        memcpy(out, fuzz_index, sizeof fuzz_index - 1);
        return sizeof fuzz_index - 1;
    }
    if (parser == FUZZ_SAFETENSORS) {
        return fuzz_safetensors(out, fuzz_safetensors_sample, fuzz_safetensors_data, sizeof fuzz_safetensors_data);
    }
    if (parser == FUZZ_JSON) {
        memcpy(out, fuzz_json_sample, sizeof fuzz_json_sample - 1);
        return sizeof fuzz_json_sample - 1;
    }
    memcpy(out, fuzz_csv_sample, sizeof fuzz_csv_sample - 1);
    return sizeof fuzz_csv_sample - 1;
}

/* xorshift64*; the fuzzer has its own so as not to depend on what it tests. */
static uint64_t fuzz_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static size_t fuzz_below(uint64_t *state, size_t n)
{
    return n ? (size_t)(fuzz_random(state) >> 33) % n : 0;
}

/* One change: of a bit, a byte or a number, or something removed, doubled, inserted or cut off. */
static size_t fuzz_mutate(uint64_t *state, unsigned char *bytes, size_t size)
{
    static const char *const tokens[] = {
        "\"", "\\", "\\u", "\\ud800", "{", "}", "[", "]", "[[[[", ",", ":", "(", ")", "'", "\n", "\r\n", "0", "-1",
        "1e999", "9007199254740993", "18446744073709551616", "4294967296", "9223372036854775807", "null", "true", "nan",
        "inf",
        "\xEF\xBB\xBF", "\xC3", "\xED\xA0\x80", "F32", "BF16", "<f8", "|O", "shape", "dtype", "data_offsets",
        "__metadata__", "descr", "fortran_order", "True", "0,", "\"a\":", " ",
        "\"type\"", "Sequence", "llama3", "2147483647", "1e9", "-", "\xC4\xA0"
    };
    size_t at = fuzz_below(state, size), length, to;
    const char *token;
    if (size == 0) at = 0;
    switch (fuzz_below(state, 8)) {
    case 0:
        if (size) bytes[at] = (unsigned char)(bytes[at] ^ (1u << fuzz_below(state, 8)));
        return size;
    case 1:
        if (size) bytes[at] = (unsigned char)fuzz_below(state, 256);
        return size;
    case 2:
        for (; at < size; at++) {
            if (bytes[at] < '0' || bytes[at] > '9') continue;
            bytes[at] = (unsigned char)('0' + fuzz_below(state, 10));
            break;
        }
        return size;
    case 3:
        length = fuzz_below(state, 16);
        if (length > size - at) length = size - at;
        memmove(bytes + at, bytes + at + length, size - at - length);
        return size - length;
    case 4:
        length = fuzz_below(state, 64);
        if (length > size - at) length = size - at;
        if (size + length > FUZZ_SIZE) return size;
        memmove(bytes + at + length, bytes + at, size - at);
        return size + length;
    case 5:
    case 6:
        token = tokens[fuzz_below(state, sizeof tokens / sizeof *tokens)];
        length = strlen(token);
        if (fuzz_below(state, 2)) {             /* over what stands there */
            if (length > size - at) length = size - at;
            memcpy(bytes + at, token, length);
            return size;
        }
        if (size + length > FUZZ_SIZE) return size;
        memmove(bytes + at + length, bytes + at, size - at);
        memcpy(bytes + at, token, length);
        return size + length;
    default:
        if (fuzz_below(state, 4) == 0) return at;
        if (size == 0) return 0;
        to = fuzz_below(state, size);
        bytes[to] = bytes[at];
        return size;
    }
}

static double fuzz_run(long iterations)
{
    unsigned char bytes[FUZZ_SIZE];
    mde_context *c = fuzz_context();
    double sum = 0;
    long i;
    for (i = 0; i < iterations; i++) {
        uint64_t state = (uint64_t)(i + 1) * UINT64_C(0x9E3779B97F4A7C15);
        int parser = (int)(i % FUZZ_PARSERS), changes;
        size_t size = fuzz_sample(parser, (int)fuzz_below(&state, 6), bytes);
        if (size == 0) size = fuzz_sample(parser, 0, bytes);
        for (changes = 1 + (int)fuzz_below(&state, 6); changes > 0; changes--) size = fuzz_mutate(&state, bytes, size);
        sum += fuzz_one(c, parser, bytes, size);
    }
    mde_context_free(c);
    return sum;
}

#ifndef FUZZ_NO_MAIN
/* Valid files for libFuzzer to start from, each behind the byte that names its parser. */
static int fuzz_write_seeds(const char *folder)
{
    unsigned char bytes[FUZZ_SIZE + 1];
    int parser, which;
    for (parser = 0; parser < FUZZ_PARSERS; parser++) {
        for (which = 0; which < 6; which++) {
            size_t size = fuzz_sample(parser, which, bytes + 1);
            char path[1024];
            FILE *file;
            if (size == 0) continue;
            bytes[0] = (unsigned char)parser;
            snprintf(path, sizeof path, "%s/seed-%d-%d", folder, parser, which);
            file = fopen(path, "wb");
            if (!file || fwrite(bytes, 1, size + 1, file) != size + 1 || fclose(file) != 0) return 1;
        }
    }
    return 0;
}

#ifdef LIBFUZZER

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
    if (*count > 2 && strcmp((*arguments)[1], "--seeds") == 0) exit(fuzz_write_seeds((*arguments)[2]));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mde_context *c;
    if (size == 0) return 0;
    c = fuzz_context();
    fuzz_one(c, data[0] % FUZZ_PARSERS, data + 1, size - 1);
    mde_context_free(c);
    return 0;
}

#else

int main(int count, char **arguments)
{
    long iterations = count > 1 ? atol(arguments[1]) : 100000;
    if (count > 2 && strcmp(arguments[1], "--seeds") == 0) return fuzz_write_seeds(arguments[2]);
    fuzz_run(iterations);
    printf("fuzz_files: %ld inputs, no fault\n", iterations);
    return 0;
}
#endif
#endif
