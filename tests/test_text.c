/* Tokenizers, corpus and sampler. */
#define MDEDEF static
#define MDEMIX_IMPLEMENTATION
#include "../mdemix.h"
#include "test.h"

#define FOLDER "test_text.tmp"

static const char *shared_path(const char *name)
{
    static char path[2048];
    const char *root = getenv("MDEMIX_SHARED");
    snprintf(path, sizeof path, "%s/%s", root ? root : "../shared", name);
    return path;
}

static void write_file(mde_context *c, const char *path, const char *text)
{
    mde_file_write(c, path, text, strlen(text));
}

/* ---- Tokenizers ---- */

/* The same text again after encoding and putting the tokens' bytes together. */
static int round_trips(const mde_tokenizer *t, const char *text, size_t length)
{
    size_t count, i, at = 0, size;
    int32_t *ids = mde_tokenizer_encode(t, text, length, &count);
    int same = ids != NULL;
    for (i = 0; same && i < count; i++) {
        const char *bytes = mde_tokenizer_token(t, ids[i], &size);
        same = at + size <= length && memcmp(text + at, bytes, size) == 0;
        at += size;
    }
    mde_release(t->context, ids);
    return same && at == length;
}

static void byte_tokens_are_the_bytes(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_tokenizer *t = mde_tokenizer_bytes(c);
    size_t count;
    int32_t *ids = mde_tokenizer_encode(t, "\xff\x00z", 3, &count);
    CHECK(mde_tokenizer_vocabulary(t) == 256);
    CHECK(count == 3 && ids[0] == 255 && ids[1] == 0 && ids[2] == 'z');
    mde_context_free(c);
}

static void words_are_cut_at_spaces_and_newlines(void)
{
    const char *text = "ab  cd\n\tef g\n", *expected[] = {"ab", " ", " cd", "\n\t", "ef", " g", "\n"};
    size_t start, end, length = strlen(text);
    int word = 0;
    for (start = 0; start < length; start = end, word++) {
        end = mde__word_end(text, start, length);
        if (word == 7) break;
        CHECK(strlen(expected[word]) == end - start && memcmp(expected[word], text + start, end - start) == 0);
    }
    CHECK(word == 7 && start == length);
}

/* Merges by counting every pair anew each time. Text of words with single spaces between. */
static int brute_force_merges(const char *text, int merges, int32_t (*out)[2])
{
    enum { most = 9000 };
    static int32_t ids[most], word[most];
    size_t n = strlen(text), i;
    int made, length = 0;
    for (i = 0, made = 0; i < n; i++) {
        if (text[i] == ' ') made++;
        ids[length] = (unsigned char)text[i];
        word[length++] = made;
    }
    for (made = 0; made < merges; made++) {
        int best = 0, a, b, k, to = 0;
        int32_t left = 0, right = 0;
        for (a = 0; a + 1 < length; a++) {
            int count = 0;
            if (word[a] != word[a + 1]) continue;
            for (b = 0; b + 1 < length; b++) {
                count += word[b] == word[b + 1] && ids[b] == ids[a] && ids[b + 1] == ids[a + 1];
            }
            if (count > best || (count == best && (ids[a] < left || (ids[a] == left && ids[a + 1] < right)))) {
                best = count;
                left = ids[a];
                right = ids[a + 1];
            }
        }
        if (best < 2) break;
        out[made][0] = left;
        out[made][1] = right;
        for (k = 0; k < length; to++) {
            int both = k + 1 < length && word[k] == word[k + 1] && ids[k] == left && ids[k + 1] == right;
            int32_t id = both ? 256 + made : ids[k];
            word[to] = word[k];
            k += both ? 2 : 1;
            ids[to] = id;
        }
        length = to;
    }
    return made;
}

/* Texts of some hundred words, and one of more than a thousand, nearly all different. */
static void bpe_merges_equal_brute_force(void)
{
    mde_context *c = mde_context_create(NULL);
    uint64_t seed;
    for (seed = 0; seed < 13; seed++) {
        mde_random r = mde_random_start(seed, 0);
        char text[9001];
        int32_t merges[60][2];
        size_t i, n = seed < 12 ? 1499 : sizeof text - 1, size, a, b;
        int letters = seed < 12 ? 2 + (int)(seed % 4) : 26, wanted = seed < 12 ? 60 : 3, made, k;
        mde_tokenizer *t;
        for (i = 0; i < n; i++) {
            int space = mde_random_below(&r, 6) == 0 && i > 0 && i + 1 < n && text[i - 1] != ' ';
            text[i] = space ? ' ' : (char)('a' + (int)mde_random_below(&r, (uint64_t)letters));
        }
        text[n] = 0;
        t = mde_tokenizer_train(c, text, n, 256 + wanted);
        made = brute_force_merges(text, wanted, merges);
        CHECK(mde_tokenizer_vocabulary(t) == 256 + made);
        for (k = 0; k < made && k + 256 < mde_tokenizer_vocabulary(t); k++) {
            const char *token = mde_tokenizer_token(t, 256 + k, &size);
            const char *left = mde_tokenizer_token(t, merges[k][0], &a);
            const char *right = mde_tokenizer_token(t, merges[k][1], &b);
            CHECK(size == a + b && memcmp(token, left, a) == 0 && memcmp(token + a, right, b) == 0);
        }
        CHECK(round_trips(t, text, n));
    }
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

/* Best score first, leftmost of equals, by looking at all pairs each time; one word. */
static size_t naive_encode(const mde_tokenizer *t, const char *word, size_t length, int32_t *out)
{
    size_t starts[64], n = length, i;
    for (i = 0; i <= n; i++) starts[i] = i;
    for (;;) {
        size_t best = n;
        float score = 0;
        for (i = 0; i + 1 < n; i++) {
            int32_t id = mde__tokenizer_find(t, word + starts[i], starts[i + 2] - starts[i]);
            if (id >= 0 && (best == n || t->scores[id] > score)) {
                best = i;
                score = t->scores[id];
            }
        }
        if (best == n) break;
        for (i = best + 1; i < n; i++) starts[i] = starts[i + 1];
        n--;
    }
    for (i = 0; i < n; i++) out[i] = mde__tokenizer_find(t, word + starts[i], starts[i + 1] - starts[i]);
    return n;
}

static void encoding_merges_the_best_pair_first(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_random r = mde_random_start(5, 0);
    char text[4000];
    size_t i;
    int round;
    mde_tokenizer *t;
    for (i = 0; i < sizeof text; i++) text[i] = "aabbbc d"[mde_random_below(&r, 8)];
    t = mde_tokenizer_train(c, text, sizeof text, 400);
    for (round = 0; round < 300; round++) {
        char word[40];
        int32_t expected[40], *ids;
        size_t length = 1 + (size_t)mde_random_below(&r, 39), count, n;
        for (i = 0; i < length; i++) word[i] = "aabbbc"[mde_random_below(&r, 6)];
        n = naive_encode(t, word, length, expected);
        ids = mde_tokenizer_encode(t, word, length, &count);
        CHECK(count == n && memcmp(ids, expected, n * sizeof *ids) == 0);
        mde_release(c, ids);
    }
    mde_context_free(c);
}

static void bpe_round_trips_arbitrary_bytes(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_random r = mde_random_start(1, 0);
    char text[20000];
    size_t i, length;
    int round;
    mde_tokenizer *t;
    for (i = 0; i < sizeof text; i++) {
        text[i] = (char)(unsigned char)mde_random_below(&r, mde_random_below(&r, 3) ? 8 : 256);
    }
    t = mde_tokenizer_train(c, text, sizeof text, 1000);
    CHECK(mde_tokenizer_vocabulary(t) == 1000);
    CHECK(round_trips(t, text, sizeof text));
    for (round = 0; round < 200; round++) {
        length = (size_t)mde_random_below(&r, 700);
        for (i = 0; i < length; i++) text[i] = (char)(unsigned char)mde_random_below(&r, 256);
        CHECK(round_trips(t, text, length));
    }
    memset(text, 'x', sizeof text);
    CHECK(round_trips(t, text, sizeof text));
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

static void a_vocabulary_out_of_range_is_refused(void)
{
    mde_context *c = mde_context_create(NULL);
    CHECK(mde_tokenizer_train(c, "abc", 3, 256) == NULL);
    CHECK_TEXT(mde_error(c), "vocabulary is 256; expected 257 to 65536");
    mde_context_free(c);
}

static int same_tokenizer(const mde_tokenizer *a, const mde_tokenizer *b)
{
    int same = a && b && a->vocabulary == b->vocabulary && a->published == b->published, id;
    for (id = 0; same && id < a->vocabulary; id++) {
        size_t x, y;
        const char *p = mde_tokenizer_token(a, id, &x), *q = mde_tokenizer_token(b, id, &y);
        same = x == y && memcmp(p, q, x) == 0 && memcmp(&a->scores[id], &b->scores[id], sizeof(float)) == 0;
    }
    return same;
}

static void a_tokenizer_file_holds_the_tokenizer(void)
{
    mde_context *c = mde_context_create(NULL);
    const char *text = "the cat and the hat and the other cat there";
    mde_tokenizer *t = mde_tokenizer_train(c, text, strlen(text), 270), *read;
    mde_tokenizer_write(t, FOLDER "/a.tokenizer");
    read = mde_tokenizer_read(c, FOLDER "/a.tokenizer");
    CHECK(same_tokenizer(t, read));
    CHECK(mde_tokenizer_vocabulary(t) > 260);
    CHECK(*mde_error(c) == 0);
    mde_context_free(c);
    remove(FOLDER "/a.tokenizer");
}

static void damaged_tokenizer_files_are_refused(void)
{
    mde_context *c = mde_context_create(NULL);
    const char *text = "to be or not to be that is the question to be";
    mde_tokenizer *t = mde_tokenizer_train(c, text, strlen(text), 262);
    mde_random r = mde_random_start(3, 0);
    unsigned char *file, *copy;
    size_t size, cut;
    int round, refused = 0;
    mde_tokenizer_write(t, FOLDER "/b.tokenizer");
    file = mde_file_read(c, FOLDER "/b.tokenizer", 1 << 20, &size);
    for (cut = 0; cut < size; cut++) {
        /* Every token of the file is at least 9 bytes, so most lengths end inside one. */
        if (cut > 300 && cut + 60 < size && cut % 37 != 0) continue;
        mde_file_write(c, FOLDER "/c.tokenizer", file, cut);
        if (!mde_tokenizer_read(c, FOLDER "/c.tokenizer")) {
            CHECK(mde_context_status(c) == MDE_BAD_FILE);
            refused++;
        }
        mde_clear_error(c);
    }
    CHECK(refused > 300);
    mde_file_write(c, FOLDER "/c.tokenizer", file, size - 1);
    CHECK(mde_tokenizer_read(c, FOLDER "/c.tokenizer") == NULL);
    CHECK_TEXT(mde_error(c), "is cut off");
    mde_clear_error(c);
    copy = (unsigned char *)mde_alloc(c, size, 1);
    for (round = 0; round < 400; round++) {
        memcpy(copy, file, size);
        copy[mde_random_below(&r, size)] = (unsigned char)mde_random_below(&r, 256);
        mde_file_write(c, FOLDER "/c.tokenizer", copy, size);
        t = mde_tokenizer_read(c, FOLDER "/c.tokenizer");
        if (t) CHECK(round_trips(t, text, strlen(text)));
        mde_clear_error(c);
        mde_tokenizer_free(t);
    }
    mde_context_free(c);
    remove(FOLDER "/b.tokenizer");
    remove(FOLDER "/c.tokenizer");
}

/* The line of ref_nll.txt that begins with the word; what follows the tab. */
static char *reference_line(char *file, const char *word)
{
    char *at = strstr(file, word), *end;
    if (!at) return NULL;
    at += strlen(word) + 1;
    end = strchr(at, '\n');
    if (end) *end = 0;
    return at;
}

static void a_published_tokenizer_gives_the_published_ids(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_tokenizer *t = mde_tokenizer_read(c, shared_path("data/stories260K/tok512.bin")), *again;
    size_t size, count, length, i;
    char *file = (char *)mde_file_read(c, shared_path("data/stories260K/ref_nll.txt"), 1 << 20, &size);
    char *next = file ? reference_line(file, "\ntokens") : NULL, *text = file ? reference_line(file, "text") : NULL;
    int32_t *ids = text ? mde_tokenizer_encode(t, text, strlen(text), &count) : NULL;
    CHECK(t && t->published && mde_tokenizer_vocabulary(t) == 512 && ids);
    if (ids && next) {
        CHECK(strtol(next, &next, 10) == 1);
        for (i = 0; i < count; i++) CHECK(strtol(next, &next, 10) == ids[i]);
        CHECK(*next == 0 || *next == '\r' || *next == '\n');
    }
    CHECK(memcmp(mde_tokenizer_token(t, 3 + '\n', &length), "\n", 1) == 0 && length == 1);
    mde_release(c, ids);
    /* A character without a piece of its own becomes its bytes. */
    ids = mde_tokenizer_encode(t, "\xe2\x98\x83", 3, &count);
    CHECK(count == 4 && ids[1] == 3 + 0xe2 && ids[2] == 3 + 0x98 && ids[3] == 3 + 0x83);
    mde_tokenizer_write(t, FOLDER "/d.bin");
    again = mde_tokenizer_read(c, FOLDER "/d.bin");
    CHECK(same_tokenizer(t, again));
    CHECK(*mde_error(c) == 0);
    mde_context_free(c);
    remove(FOLDER "/d.bin");
}

/* ---- tokenizer.json ---- */

/* The character that stands for a byte, written by the rule of GPT-2's own script: bytes that print as they are, the
   others from U+0100 on in order. */
static int prints(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

static void add_mapped(mde_text *t, int byte)
{
    int code = byte, k;
    char utf8[3] = {0, 0, 0};
    if (!prints(byte)) {
        for (code = 256, k = 0; k < byte; k++) code += !prints(k);
    }
    if (code < 128) utf8[0] = (char)code;
    else utf8[0] = (char)(0xC0 | code >> 6), utf8[1] = (char)(0x80 | (code & 63));
    if (code == '"' || code == '\\') mde_text_add(t, "\\");
    mde_text_add(t, utf8);
}

/* Bytes are tokens 0 to 255; merges "a b" are 256 and on, each token once; the text `more` is put before the model. */
static char *tokenizer_json(mde_context *c, int count, const char *const *merges, const char *more)
{
    mde_text *t = mde_text_create(c);
    char *bytes;
    int i, k;
    mde_text_format(t, "{\"version\": \"1.0\", %s, ", more);
    mde_text_add(t, "\"model\": {\"type\": \"BPE\", \"dropout\": null, \"vocab\": {");
    for (i = 0; i < 256; i++) {
        mde_text_add(t, i ? ", \"" : "\"");
        add_mapped(t, i);
        mde_text_format(t, "\": %d", i);
    }
    for (i = 0; i < count; i++) {
        mde_text_add(t, ", \"");
        for (k = 0; merges[i][k]; k++) {
            char one[2] = {merges[i][k], 0};
            if (one[0] != ' ') mde_text_add(t, one);
        }
        mde_text_format(t, "\": %d", 256 + i);
    }
    mde_text_add(t, "}, \"merges\": [");
    for (i = 0; i < count; i++) mde_text_format(t, "%s\"%s\"", i ? ", " : "", merges[i]);
    mde_text_add(t, "]}}");
    bytes = mde__copy_text(c, t->bytes);
    mde_text_free(t);
    return bytes;
}

#define BYTE_LEVEL "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": "
#define GPT2_STEPS "\"normalizer\": null, \"pre_tokenizer\": " BYTE_LEVEL "true}, " \
    "\"decoder\": {\"type\": \"ByteLevel\"}"
#define LLAMA_WORDS(digits) "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" digits \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define SPLIT_STEPS(pattern) "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", " \
    "\"pattern\": {\"Regex\": \"" pattern "\"}, \"behavior\": \"Isolated\", \"invert\": false}, " BYTE_LEVEL "false}]}"
#define END_TOKEN "\"added_tokens\": [{\"id\": 270, \"content\": \"<|endoftext|>\", \"single_word\": false, " \
    "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true}, " \
    "{\"id\": 271, \"content\": \"<|end\"}]"

static mde_tokenizer *parse_tokenizer(mde_context *c, int count, const char *const *merges, const char *more)
{
    char *json = tokenizer_json(c, count, merges, more);
    mde_tokenizer *t = mde__tokenizer_parse_json(c, "tokenizer.json", json, strlen(json));
    mde_release(c, json);
    return t;
}

static void check_ids(const mde_tokenizer *t, const char *text, size_t count, const int32_t *expected)
{
    size_t n = 0;
    int32_t *ids = mde_tokenizer_encode(t, text, strlen(text), &n);
    CHECK(n == count && ids && memcmp(ids, expected, count * sizeof *ids) == 0);
    if (t) mde_release(t->context, ids);
}

static void tokenizer_json_merges_by_its_rules(void)
{
    /* "abc" is a token that only (ab, c) makes: behind (b, c) it is not reached by a and bc. */
    static const char *const merges[] = {"b c", "a b", "ab c", "\xC4\xA0 t", "\xC4\xA0t h"};
    static const int32_t abc[] = {'a', 256}, ab[] = {257, 'x'}, spaced[] = {'t', 'h', 260}, far[] = {'a', 270, 260};
    static const int32_t nested[] = {271, '|', 'x'}, whole[] = {258};
    mde_context *c = mde_context_create(NULL);
    mde_tokenizer *t = parse_tokenizer(c, 5, merges, GPT2_STEPS ", " END_TOKEN), *read, *copy;
    CHECK(*mde_error(c) == 0);
    CHECK(mde_tokenizer_vocabulary(t) == 272);
    check_ids(t, "abc", 2, abc);
    check_ids(t, "abx", 2, ab);
    check_ids(t, "th th", 3, spaced);
    check_ids(t, "a<|endoftext|> th", 3, far);
    check_ids(t, "<|end|x", 3, nested);
    CHECK(round_trips(t, "the abc<|end of abc's\n\n  \xFF\x80 \xC3\xA9t\xC3\xA9 12345", 36));
    CHECK(mde__separator(t) == 270 && mde__is_end(t, 270) && !mde__is_end(t, 0));
    /* Written and copied it is the same. */
    CHECK(mde_tokenizer_write(t, FOLDER "/e.tokenizer") == MDE_OK);
    read = mde_tokenizer_read(c, FOLDER "/e.tokenizer");
    copy = mde__tokenizer_copy(c, read);
    check_ids(copy, "a<|endoftext|> th", 3, far);
    mde_tokenizer_free(t);
    mde_tokenizer_free(read);
    mde_tokenizer_free(copy);
    CHECK(*mde_error(c) == 0);
    t = parse_tokenizer(c, 3, merges, SPLIT_STEPS(LLAMA_WORDS("\\\\p{N}{1,3}")) ", \"x\": 1");
    check_ids(t, "abc", 2, abc);
    t->json->whole = 1;             /* as "ignore_merges" has it */
    check_ids(t, "abc", 1, whole);
    mde_context_free(c);
    remove(FOLDER "/e.tokenizer");
}

/* The words that the regular expressions give in an engine for them. */
static void tokenizer_json_cuts_words_as_its_pattern_does(void)
{
    static const struct { const char *text, *gpt2, *llama, *qwen2; } cases[] = {
        {"It's 12345 we'LL  see", "It|'s| 12345| we|'|LL| | see", "It|'s| |123|45| we|'LL| | see",
         "It|'s| |1|2|3|4|5| we|'LL| | see"},
        {"x  \n\n  y\n", "x|  \n\n | y|\n", "x|  \n\n| | y|\n", "x|  \n\n| | y|\n"},
        {"a\xC2\xA0" "b \xE3\x80\x80" "c", "a|\xC2\xA0|b| |\xE3\x80\x80|c", "a|\xC2\xA0" "b| |\xE3\x80\x80" "c",
         "a|\xC2\xA0" "b| |\xE3\x80\x80" "c"},
        {"\xC3\xA9t\xC3\xA9 \xE6\x9D\xB1\xE4\xBA\xAC\xD9\xA3\xEF\xBC\x94",
         "\xC3\xA9t\xC3\xA9| \xE6\x9D\xB1\xE4\xBA\xAC|\xD9\xA3\xEF\xBC\x94",
         "\xC3\xA9t\xC3\xA9| \xE6\x9D\xB1\xE4\xBA\xAC|\xD9\xA3\xEF\xBC\x94",
         "\xC3\xA9t\xC3\xA9| \xE6\x9D\xB1\xE4\xBA\xAC|\xD9\xA3|\xEF\xBC\x94"},
        {"\t--> ok!\r\n\r\n  end  ", "\t|-->| ok|!|\r\n\r\n | end|  ", "\t|-->| ok|!\r\n\r\n| | end|  ",
         "\t|-->| ok|!\r\n\r\n| | end|  "},
        {"e\xCC\x81 don'T 'tis", "e|\xCC\x81| don|'|T| '|tis", "e|\xCC\x81| don|'T| '|tis",
         "e|\xCC\x81| don|'T| '|tis"}
    };
    static const char *const digits_first = "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": ["
        "{\"type\": \"Digits\", \"individual_digits\": true}, " BYTE_LEVEL "true}]}";
    static const char *const merges[] = {"1 2", "\xC4\xA0 \xC4\xA0", "\xC4\xA0 1"};
    static const int32_t digits[] = {'a', 257, '1', '2'};
    mde_context *c = mde_context_create(NULL);
    mde_tokenizer *t[3];
    size_t i, start, end, at;
    int which;
    t[0] = parse_tokenizer(c, 0, NULL, GPT2_STEPS);
    t[1] = parse_tokenizer(c, 0, NULL, SPLIT_STEPS(LLAMA_WORDS("\\\\p{N}{1,3}")));
    t[2] = parse_tokenizer(c, 0, NULL, "\"normalizer\": {\"type\": \"NFC\"}, " SPLIT_STEPS(LLAMA_WORDS("\\\\p{N}")));
    CHECK(*mde_error(c) == 0);
    for (which = 0; which < 3 && t[which]; which++) {
        for (i = 0; i < sizeof cases / sizeof *cases; i++) {
            const char *expected = which == 0 ? cases[i].gpt2 : which == 1 ? cases[i].llama : cases[i].qwen2;
            size_t length = strlen(cases[i].text);
            char found[100];
            for (start = at = 0; start < length; start = end) {
                end = mde__json_word_end(t[which]->json, cases[i].text, start, length);
                if (start) found[at++] = '|';
                memcpy(found + at, cases[i].text + start, end - start);
                at += end - start;
            }
            found[at] = 0;
            CHECK(strcmp(found, expected) == 0);
            CHECK_TEXT(found, expected);
        }
    }
    /* Text that NFC would change is an error, other text with marks is not. */
    CHECK(mde_tokenizer_encode(t[2], "caf\xC3\xA9 \xE0\xA4\x95\xE0\xA5\x8D", 12, &at));
    CHECK(!mde_tokenizer_encode(t[2], "cafe\xCC\x81", 6, &at));
    CHECK_TEXT(mde_error(c), "U+0301");
    mde_clear_error(c);
    t[0] = parse_tokenizer(c, 3, merges, digits_first);
    check_ids(t[0], "a  12", 4, digits);
    mde_context_free(c);
}

static void other_tokenizer_json_is_refused_by_name(void)
{
    static const struct { const char *more, *error; } cases[] = {
        {"\"normalizer\": {\"type\": \"Lowercase\"}, \"pre_tokenizer\": " BYTE_LEVEL "true}", "normalizer: Lowercase"},
        {"\"pre_tokenizer\": null", "pre_tokenizer: "},
        {"\"pre_tokenizer\": {\"type\": \"Metaspace\"}", "pre_tokenizer: Metaspace"},
        {"\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true}", "add_prefix_space"},
        {"\"pre_tokenizer\": " BYTE_LEVEL "false}", "without ByteLevel"},
        {SPLIT_STEPS("\\\\p{L}+"), "Split at \\p{L}+"},
        {GPT2_STEPS ", \"post_processor\": {\"type\": \"BertProcessing\"}", "post_processor: BertProcessing"},
        {GPT2_STEPS ", \"added_tokens\": [{\"id\": 300, \"content\": \"x\", \"lstrip\": true}]",
         "lstrip, rstrip or single_word of x"},
        {GPT2_STEPS ", \"added_tokens\": [{\"id\": -1, \"content\": \"x\"}]", "the number of token x"},
        {GPT2_STEPS ", \"added_tokens\": [{\"id\": 65, \"content\": \"x\"}]", "two tokens of one number: x"}
    };
    static const char *const texts[][2] = {
        {"{\"model\": {\"type\": \"Unigram\"}}", "model: Unigram"},
        {"{\"model\": {\"type\": \"BPE\", \"byte_fallback\": true, \"vocab\": {}, \"merges\": []}}",
         "model: byte_fallback"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}}", "all of the 256 bytes"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1e9}, \"merges\": []}}", "the number of token a"},
        {"{\"a\": 1}", "model without vocab"}, {"\xEF\xBB\xBF \n{\"a\": 1}", "model without vocab"},
        {"\n\016\n\005<unk>\025", "is a model of SentencePiece"}
    };
    static const char *const outside[] = {"a b", "ab q"};
    mde_context *c = mde_context_create(NULL);
    char *json, *q;
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(!parse_tokenizer(c, 0, NULL, cases[i].more));
        CHECK_TEXT(mde_error(c), "tokenizer.json: ");
        CHECK_TEXT(mde_error(c), cases[i].error);
        mde_clear_error(c);
    }
    for (i = 0; i < sizeof texts / sizeof *texts; i++) {
        CHECK(!mde__tokenizer_parse(c, "tokenizer.json", (const unsigned char *)texts[i][0], strlen(texts[i][0])));
        CHECK_TEXT(mde_error(c), texts[i][1]);
        mde_clear_error(c);
    }
    json = tokenizer_json(c, 2, outside, GPT2_STEPS);
    q = strstr(json, "\"ab q\"");
    if (q) q[4] = 'z';              /* abz is no token */
    CHECK(!mde__tokenizer_parse_json(c, "tokenizer.json", json, strlen(json)));
    CHECK_TEXT(mde_error(c), "merge 1: expected two tokens of the vocabulary that make a third");
    mde_clear_error(c);
    mde_release(c, json);
    CHECK(c->blocks == NULL || c->blocks == (mde__block *)(void *)((unsigned char *)c->first - MDE__ALIGNMENT));
    mde_context_free(c);
}

/* ---- Corpus ---- */

/* Lines "NAME 0000\n", one document each when `document` is the length of a line. */
static char *numbered_lines(mde_context *c, const char *name, int lines)
{
    size_t each = strlen(name) + 6;
    char *text = (char *)mde_alloc(c, each * (size_t)lines + 1, 1);
    int i;
    for (i = 0; text && i < lines; i++) snprintf(text + each * (size_t)i, each + 1, "%s %04d\n", name, i);
    return text;
}

static void splits_are_disjoint_complete_and_interleaved(void)
{
    mde_context *c = mde_context_create(NULL);
    enum { lines = 103 };
    char *text = numbered_lines(c, "line", lines);
    size_t length = strlen(text), count;
    const char *name = "d", *texts[1];
    int seen[lines], split, i;
    int64_t documents, k;
    mde_corpus_desc desc;
    mde_corpus *corpus;
    memset(&desc, 0, sizeof desc);
    memset(seen, 0, sizeof seen);
    desc.document = 10;
    desc.validation = 0.2;
    texts[0] = text;
    corpus = mde_corpus_from_texts(c, 1, &name, texts, &length, &desc);
    for (split = 0; split < 3; split++) {
        const uint16_t *tokens = mde_corpus_tokens(corpus, (mde_split)split, 0, &count);
        const int64_t *starts = mde_corpus_documents(corpus, (mde_split)split, 0, &documents);
        int last = -1, widest = 0;
        CHECK(documents == (split == MDE_TRAIN ? 72 : split == MDE_VALIDATION ? 21 : 10));
        CHECK(starts[0] == 0 && starts[documents] == (int64_t)count);
        for (k = 0; k < documents; k++) {
            int number = 0;
            for (i = 5; i < 9; i++) number = number * 10 + (tokens[starts[k] + i] - '0');
            CHECK(starts[k + 1] - starts[k] == 11 && tokens[starts[k + 1] - 1] == 0);
            CHECK(number > last && number < lines);
            if (number - last > widest) widest = number - last;
            last = number;
            seen[number]++;
        }
        /* No stretch of the text is without a held-out document: the gaps stay below twice the mean distance. */
        CHECK(split == MDE_TRAIN || widest <= 2 * (lines / (int)documents));
    }
    for (i = 0; i < lines; i++) CHECK(seen[i] == 1);
    mde_context_free(c);
}

static void documents_are_cut_at_line_ends(void)
{
    const char *text = "short\nlonger line\nx\n\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\nend";
    const size_t expected[] = {6, 18, 20, 32, 38};
    mde_context *c = mde_context_create(NULL);
    mde__source s;
    size_t i;
    memset(&s, 0, sizeof s);
    s.text = mde_text_create(c);
    mde__source_add(c, &s, text, strlen(text), 13);     /* 20 + 13 is inside a character */
    CHECK(s.documents == 5);
    for (i = 0; i < s.documents && i < 5; i++) CHECK(s.ends[i] == expected[i]);
    mde_context_free(c);
}

static void max_bytes_takes_documents_from_all_over(void)
{
    mde_context *c = mde_context_create(NULL);
    char *text = numbered_lines(c, "line", 1000);
    size_t length = strlen(text), total = 0, count;
    const char *name = "d", *texts[1];
    int split, first = 1000, last = 0;
    int64_t documents, k, all = 0;
    mde_corpus_desc desc;
    mde_corpus *corpus;
    memset(&desc, 0, sizeof desc);
    desc.document = 10;
    desc.max_bytes = 1005;
    texts[0] = text;
    corpus = mde_corpus_from_texts(c, 1, &name, texts, &length, &desc);
    for (split = 0; split < 3; split++) {
        const uint16_t *tokens = mde_corpus_tokens(corpus, (mde_split)split, 0, &count);
        const int64_t *starts = mde_corpus_documents(corpus, (mde_split)split, 0, &documents);
        total += count - (size_t)documents;
        all += documents;
        for (k = 0; k < documents; k++) {
            int number = (tokens[starts[k] + 5] - '0') * 1000 + (tokens[starts[k] + 6] - '0') * 100;
            if (number < first) first = number;
            if (number > last) last = number;
        }
    }
    CHECK(total <= 1005 && all == 100);
    CHECK(first == 0 && last == 900);
    mde_context_free(c);
}

/* The fingerprint of a corpus by its definition: numbers, the lowest byte first, and names. */
static uint64_t plain_fingerprint(const mde_corpus *corpus)
{
    unsigned char bytes[4096];
    size_t size = 0, count, j;
    int domain, split, k;
    int64_t documents, i;
    for (k = 0; k < 8; k++) bytes[size++] = (unsigned char)(k ? 0 : mde_corpus_domains(corpus));
    for (domain = 0; domain < mde_corpus_domains(corpus); domain++) {
        const char *name = mde_corpus_name(corpus, domain);
        memcpy(bytes + size, name, strlen(name) + 1);
        size += strlen(name) + 1;
        for (split = 0; split < 3; split++) {
            const int64_t *starts = mde_corpus_documents(corpus, (mde_split)split, domain, &documents);
            const uint16_t *tokens = mde_corpus_tokens(corpus, (mde_split)split, domain, &count);
            for (i = -1; i <= documents; i++) {
                for (k = 0; k < 8; k++) bytes[size++] = (unsigned char)((i < 0 ? documents : starts[i]) >> (8 * k));
            }
            for (j = 0; j < 2 * count; j++) bytes[size++] = (unsigned char)(tokens[j / 2] >> (8 * (j % 2)));
        }
    }
    return mde_fingerprint(bytes, size);
}

static void a_folder_gives_domains_by_name(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_corpus_desc desc;
    mde_corpus *corpus;
    size_t count;
    uint64_t hash;
    mde_make_folder(c, FOLDER "/corpus/poems/deep/er");
    mde_make_folder(c, FOLDER "/corpus/.git");
    write_file(c, FOLDER "/corpus/tales.txt", "once\nupon\na time\n");
    write_file(c, FOLDER "/corpus/poems/b", "roses\nare\nred\n");
    write_file(c, FOLDER "/corpus/poems/a", "violets\n");
    write_file(c, FOLDER "/corpus/poems/empty", "");
    write_file(c, FOLDER "/corpus/poems/deep/er/z", "are\nblue\n");
    write_file(c, FOLDER "/corpus/.git/x", "hidden\n");
    write_file(c, FOLDER "/corpus/c.c", "int x;\nint y;\nint z;\n");
    write_file(c, FOLDER "/corpus/c.h", "int p;\nint q;\nint r;\n");
    memset(&desc, 0, sizeof desc);
    desc.path = FOLDER "/corpus";
    desc.document = 8;
    corpus = mde_corpus_open(c, &desc);
    CHECK(*mde_error(c) == 0);
    CHECK(mde_corpus_domains(corpus) == 4);
    if (mde_corpus_domains(corpus) == 4) {
        CHECK(strcmp(mde_corpus_name(corpus, 0), "c.c") == 0 && strcmp(mde_corpus_name(corpus, 1), "c.h") == 0);
        CHECK(strcmp(mde_corpus_name(corpus, 2), "poems") == 0 && strcmp(mde_corpus_name(corpus, 3), "tales") == 0);
        /* Files in order of their names, folders among them: violets, roses, are red, are, blue. */
        CHECK(mde_corpus_tokens(corpus, MDE_TRAIN, 2, &count)[0] == 'v');
    }
    hash = mde_corpus_hash(corpus);
    CHECK(hash == mde_corpus_hash(mde_corpus_open(c, &desc)));
    CHECK(hash == plain_fingerprint(corpus));
    write_file(c, FOLDER "/corpus/poems/a", "violins\n");
    CHECK(hash != mde_corpus_hash(mde_corpus_open(c, &desc)));
    desc.path = FOLDER "/corpus/tales.txt";
    corpus = mde_corpus_open(c, &desc);
    CHECK(mde_corpus_domains(corpus) == 1 && strcmp(mde_corpus_name(corpus, 0), "tales") == 0);
    desc.path = FOLDER "/corpus";
    write_file(c, FOLDER "/corpus/poems.txt", "");
    CHECK(mde_corpus_open(c, &desc) == NULL);
    CHECK_TEXT(mde_error(c), "domain \"poems.txt\" has no text");
    mde_clear_error(c);
    write_file(c, FOLDER "/corpus/poems.txt", "a\nb");
    CHECK(mde_corpus_open(c, &desc) == NULL);
    CHECK_TEXT(mde_error(c), "domain \"poems.txt\" has 1 documents; its splits need at least 3");
    mde_clear_error(c);
    desc.path = FOLDER "/nowhere";
    CHECK(mde_corpus_open(c, &desc) == NULL);
    CHECK_TEXT(mde_error(c), "nowhere: cannot be opened");
    mde_context_free(c);
    remove(FOLDER "/corpus/tales.txt");
    remove(FOLDER "/corpus/poems/b");
    remove(FOLDER "/corpus/poems/a");
    remove(FOLDER "/corpus/poems/empty");
    remove(FOLDER "/corpus/poems/deep/er/z");
    remove(FOLDER "/corpus/.git/x");
    remove(FOLDER "/corpus/c.c");
    remove(FOLDER "/corpus/c.h");
    remove(FOLDER "/corpus/poems.txt");
    remove(FOLDER "/corpus/poems/deep/er");
    remove(FOLDER "/corpus/poems/deep");
    remove(FOLDER "/corpus/poems");
    remove(FOLDER "/corpus/.git");
    remove(FOLDER "/corpus");
}

static mde_corpus *three_domains(mde_context *c, int vocabulary)
{
    const char *names[3] = {"one", "two", "three"}, *texts[3];
    size_t lengths[3];
    int i;
    mde_corpus_desc desc;
    mde_corpus *corpus;
    memset(&desc, 0, sizeof desc);
    desc.document = 64;
    desc.vocabulary = vocabulary;
    for (i = 0; i < 3; i++) {
        texts[i] = numbered_lines(c, names[i], 100 * (i + 1));
        lengths[i] = texts[i] ? strlen(texts[i]) : 0;
    }
    corpus = mde__bad(c) ? NULL : mde_corpus_from_texts(c, 3, names, texts, lengths, &desc);
    for (i = 0; i < 3; i++) mde_release(c, (void *)(uintptr_t)texts[i]);
    return corpus;
}

/* What is no text is named before anything is made of it. */
static void what_is_no_text_is_named(void)
{
    static const struct { const char *bytes; size_t size; const char *error; } cases[] = {
        {"\x1F\x8B\x08\0", 4, "is compressed (gzip)"}, {"\xFF\xFE" "a\0b\0", 6, "is UTF-16"},
        {"\xFE\xFF\0a\0b", 6, "is UTF-16"}, {"a\0b\0c\0", 6, "byte 1 is zero"}, {"BZh91AY", 7, "is compressed (bzip2)"},
        {"\x28\xB5\x2F\xFDxx", 6, "is compressed (zstd)"}, {"\xFD" "7zXZ\0", 6, "is compressed (xz)"},
        {"PK\3\4xx", 6, "is a zip archive"}
    };
    mde_context *c = mde_context_create(NULL);
    mde_corpus_desc desc;
    size_t i;
    memset(&desc, 0, sizeof desc);
    mde_make_folder(c, FOLDER "/odd");
    write_file(c, FOLDER "/odd/good.txt", "some text\n");
    desc.path = FOLDER "/odd";
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        mde_file_write(c, FOLDER "/odd/bad.txt", cases[i].bytes, cases[i].size);
        CHECK(!mde_corpus_open(c, &desc) && mde_context_status(c) == MDE_BAD_FILE);
        CHECK_TEXT(mde_error(c), FOLDER "/odd/bad.txt: ");
        CHECK_TEXT(mde_error(c), cases[i].error);
        mde_clear_error(c);
    }
    remove(FOLDER "/odd/bad.txt");
#ifndef _WIN32
    CHECK(system("mkfifo " FOLDER "/odd/pipe") == 0);
    CHECK(!mde_corpus_open(c, &desc));
    CHECK_TEXT(mde_error(c), "pipe: is a device or a pipe");
    mde_clear_error(c);
    remove(FOLDER "/odd/pipe");
    desc.path = "/dev/null";
    CHECK(!mde_corpus_open(c, &desc));
    CHECK_TEXT(mde_error(c), "/dev/null: is a device");
#endif
    remove(FOLDER "/odd/good.txt");
    remove(FOLDER "/odd");
    mde_context_free(c);
}

static void lines_of_json_are_documents(void)
{
    static const char *const wrong[][2] = {
        {"{\"text\": \"a\"}\n{\"txt\": \"b\"}\n", "x.jsonl: document 2: expected an object with a \"text\""},
        {"{\"text\": \"a\"}\n\n{\"text\": 1}", "x.jsonl: document 3: expected an object"},
        {"{\"text\": \"a\"\n", "x.jsonl: document 1 line 1"}, {"{\"text\": \"a\\u0000\"}\n", "byte 1 is zero"}
    };
    mde_context *c = mde_context_create(NULL);
    mde_corpus_desc desc;
    mde_corpus *corpus;
    const uint16_t *tokens;
    const int64_t *starts;
    int64_t documents;
    size_t count, i;
    memset(&desc, 0, sizeof desc);
    desc.path = FOLDER "/x.jsonl";
    desc.document = 4;              /* lines are documents, however long */
    desc.validation = desc.test = MDE_ZERO;
    write_file(c, desc.path, "{\"text\": \"one\\ntwo \\u00e9\", \"id\": 7}\r\n\n"
                             "{\"meta\": {\"a\": []}, \"text\": \"three\"}");
    corpus = mde_corpus_open(c, &desc);
    CHECK(*mde_error(c) == 0);
    tokens = mde_corpus_tokens(corpus, MDE_TRAIN, 0, &count);
    starts = mde_corpus_documents(corpus, MDE_TRAIN, 0, &documents);
    CHECK(documents == 2 && starts && starts[1] == 11 && count == 17 && tokens[0] == 'o' && tokens[8] == 0xC3);
    CHECK(count == 17 && tokens[10] == 0 && tokens[11] == 't' && strcmp(mde_corpus_name(corpus, 0), "x") == 0);
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        write_file(c, desc.path, wrong[i][0]);
        CHECK(!mde_corpus_open(c, &desc));
        CHECK_TEXT(mde_error(c), wrong[i][1]);
        mde_clear_error(c);
    }
    remove(FOLDER "/x.jsonl");
    mde_context_free(c);
}

static void a_corpus_can_learn_its_tokens(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_corpus *corpus = three_domains(c, 300), *bytes = three_domains(c, 0);
    const mde_tokenizer *t = mde_corpus_tokenizer(corpus);
    size_t count, byte_count, i, at = 0, length;
    const uint16_t *tokens = mde_corpus_tokens(corpus, MDE_TEST, 2, &count);
    const uint16_t *plain = mde_corpus_tokens(bytes, MDE_TEST, 2, &byte_count);
    CHECK(mde_corpus_vocabulary(corpus) == 300 && mde_corpus_vocabulary(bytes) == 256);
    CHECK(count * 2 < byte_count);
    for (i = 0; i < count; i++) {
        const char *piece = mde_tokenizer_token(t, tokens[i], &length);
        for (; length && at < byte_count; length--) CHECK((unsigned char)*piece++ == plain[at++]);
    }
    CHECK(at == byte_count);
    mde_context_free(c);
}

/* ---- Sampler ---- */

static void sampler_counts_follow_the_mixture_within_one(void)
{
    mde_context *c = mde_context_create(NULL);
    const char *names[MDE_MAX_DOMAINS], *texts[MDE_MAX_DOMAINS];
    char name[MDE_MAX_DOMAINS][8];
    size_t lengths[MDE_MAX_DOMAINS];
    mde_corpus_desc desc;
    mde_corpus *corpus;
    mde_sampler s;
    int i, step, mixture;
    double worst = 0;
    memset(&desc, 0, sizeof desc);
    desc.document = 4;
    for (i = 0; i < MDE_MAX_DOMAINS; i++) {
        snprintf(name[i], sizeof name[i], "d%d", i);
        names[i] = name[i];
        texts[i] = "abc\nabc\nabc\nabc\n";
        lengths[i] = 16;
    }
    corpus = mde_corpus_from_texts(c, MDE_MAX_DOMAINS, names, texts, lengths, &desc);
    for (mixture = 0; mixture < 20; mixture++) {
        double alpha[MDE_MAX_DOMAINS], weights[MDE_MAX_DOMAINS];
        mde_random r = mde_random_start(7, (uint64_t)mixture);
        for (i = 0; i < MDE_MAX_DOMAINS; i++) alpha[i] = mixture % 2 ? 0.2 : 2;
        mde_random_dirichlet(&r, MDE_MAX_DOMAINS, alpha, weights);
        CHECK(mde_sampler_start(&s, corpus, weights, 1) == MDE_OK);
        for (step = 1; step <= 700; step++) {
            uint16_t window[4];
            CHECK(mde_sampler_next(&s, 1, 3, window) == MDE_OK);
            for (i = 0; i < MDE_MAX_DOMAINS; i++) {
                double off = fabs((double)s.drawn[i] - s.weights[i] * step);
                if (off > worst) worst = off;
            }
        }
    }
    CHECK(worst < 1 + 1e-9);
    mde_context_free(c);
}

static void the_jth_window_of_a_domain_does_not_depend_on_the_mixture(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_corpus *corpus = three_domains(c, 0);
    const double even[3] = {0.25, 0.25, 0.5}, only[3] = {0, 0, 1};
    uint16_t first[200][17], window[17];
    mde_sampler a, b, copy;
    int i, k = 0, differ = 0;
    CHECK(mde_sampler_start(&a, corpus, only, 9) == MDE_OK);
    CHECK(mde_sampler_next(&a, 200, 16, &first[0][0]) == MDE_OK);
    mde_sampler_start(&b, corpus, even, 9);
    for (i = 0; i < 400; i++) {
        int64_t before = b.drawn[2];
        copy = b;
        CHECK(mde_sampler_next(&b, 1, 16, window) == MDE_OK);
        if (b.drawn[2] > before) {
            CHECK(k < 200 && memcmp(first[k], window, sizeof window) == 0);
            k++;
        }
    }
    CHECK(k == 200);
    CHECK(mde_sampler_next(&copy, 1, 16, first[0]) == MDE_OK && memcmp(first[0], window, sizeof window) == 0);
    mde_sampler_start(&a, corpus, only, 10);
    mde_sampler_next(&a, 200, 16, &first[0][0]);
    for (i = 1; i < 200; i++) differ += memcmp(first[0], first[i], sizeof window) != 0;
    CHECK(differ > 150);
    mde_context_free(c);
}

static void windows_lie_everywhere_in_the_training_tokens(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_corpus *corpus = three_domains(c, 0);
    const double only[3] = {1, 0, 0};
    size_t count, i;
    const uint16_t *tokens = mde_corpus_tokens(corpus, MDE_TRAIN, 0, &count);
    uint16_t window[101];
    mde_sampler s;
    int bins[8], k, outside = 0;
    memset(bins, 0, sizeof bins);
    mde_sampler_start(&s, corpus, only, 1);
    for (k = 0; k < 4000; k++) {
        mde_sampler_next(&s, 1, 100, window);
        for (i = 0; i + 101 <= count && memcmp(tokens + i, window, sizeof window) != 0; i++) {}
        if (i + 101 > count) outside++;
        else bins[i * 8 / (count - 100)]++;
    }
    CHECK(outside == 0);
    /* Binomial(4000, 1/8) has standard deviation 21. */
    for (k = 0; k < 8; k++) CHECK(bins[k] > 500 - 5 * 21 && bins[k] < 500 + 5 * 21);
    mde_context_free(c);
}

static void sampler_mistakes_are_named(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_corpus *corpus = three_domains(c, 0);
    const double wrong[3] = {0.5, 0.5, 0.5}, below[3] = {1.5, -0.5, 0}, right[3] = {0, 1, 0};
    static uint16_t window[5000];
    mde_sampler s;
    CHECK(mde_sampler_start(&s, corpus, wrong, 0) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "weights sum to 1.5; expected 1");
    mde_clear_error(c);
    CHECK(mde_sampler_start(&s, corpus, below, 0) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "weight 0 is 1.5; expected 0 to 1");
    mde_clear_error(c);
    CHECK(mde_sampler_start(&s, corpus, right, 0) == MDE_OK);
    CHECK(mde_sampler_next(&s, 1, 4500, window) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "domain \"two\" has");
    mde_context_free(c);
}

/* ---- Faults ---- */

static void make_corpus(mde_context *c, void *user)
{
    mde_corpus *corpus = three_domains(c, 300);
    CHECK((corpus != NULL) == (mde_context_status(c) == MDE_OK));
    if (corpus) {
        mde_corpus_free(corpus);
        CHECK(c->blocks == NULL || c->blocks == (mde__block *)(void *)((unsigned char *)c->first - MDE__ALIGNMENT));
    }
    (void)user;
}

static void every_failed_allocation_is_survived(void)
{
    CHECK(test_failing_allocations(make_corpus, NULL, 2000) > 20);
}

int main(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_make_folder(c, FOLDER);
    mde_context_free(c);
    TEST(byte_tokens_are_the_bytes);
    TEST(words_are_cut_at_spaces_and_newlines);
    TEST(bpe_merges_equal_brute_force);
    TEST(encoding_merges_the_best_pair_first);
    TEST(bpe_round_trips_arbitrary_bytes);
    TEST(a_vocabulary_out_of_range_is_refused);
    TEST(a_tokenizer_file_holds_the_tokenizer);
    TEST(damaged_tokenizer_files_are_refused);
    if (mde_is_file(shared_path("data/stories260K/tok512.bin"))) TEST(a_published_tokenizer_gives_the_published_ids);
    else test_skip("a_published_tokenizer_gives_the_published_ids", "stories260K is not there (MDEMIX_SHARED)");
    TEST(tokenizer_json_merges_by_its_rules);
    TEST(tokenizer_json_cuts_words_as_its_pattern_does);
    TEST(other_tokenizer_json_is_refused_by_name);
    TEST(splits_are_disjoint_complete_and_interleaved);
    TEST(documents_are_cut_at_line_ends);
    TEST(max_bytes_takes_documents_from_all_over);
    TEST(a_folder_gives_domains_by_name);
    TEST(what_is_no_text_is_named);
    TEST(lines_of_json_are_documents);
    TEST(a_corpus_can_learn_its_tokens);
    TEST(sampler_counts_follow_the_mixture_within_one);
    TEST(the_jth_window_of_a_domain_does_not_depend_on_the_mixture);
    TEST(windows_lie_everywhere_in_the_training_tokens);
    TEST(sampler_mistakes_are_named);
    TEST(every_failed_allocation_is_survived);
    remove(FOLDER);
    return test_end();
}
