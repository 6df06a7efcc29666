/* Files and formats: text, JSON, CSV, .npy and safetensors. */
#define FUZZ_NO_MAIN
#include "fuzz_files.c"
#include "test.h"
#include <locale.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- Text ---- */

static void check_number(double value, int digits, const char *expected)
{
    mde_context *c = mde_context_create(NULL);
    mde_text *t = mde_text_create(c);
    mde_text_add_number(t, value, digits);
    CHECK(strcmp(t->bytes, expected) == 0);
    if (strcmp(t->bytes, expected) != 0) printf("    \"%s\", expected \"%s\"\n", t->bytes, expected);
    mde_text_free(t);
    mde_context_free(c);
}

static void check_fixed(double value, int decimals, const char *expected)
{
    mde_context *c = mde_context_create(NULL);
    mde_text *t = mde_text_create(c);
    mde_text_add_fixed(t, value, decimals);
    CHECK(strcmp(t->bytes, expected) == 0);
    if (strcmp(t->bytes, expected) != 0) printf("    \"%s\", expected \"%s\"\n", t->bytes, expected);
    mde_text_free(t);
    mde_context_free(c);
}

static void numbers_print_as_asked(void)
{
    check_number(0.1, 3, "0.1");
    check_number(1.0 / 3, 4, "0.3333");
    check_number(1.0 / 3, 0, "0.3");
    check_number(1234567, 3, "1.23e+06");
    check_number((double)NAN, 9, "nan");
    check_number((double)INFINITY, 9, "inf");
    check_number(-(double)INFINITY, 9, "-inf");
    check_number(-0.0, 9, "0");
    check_number(0.1, 17, "0.10000000000000001");
    check_number(0.1, 99, "0.10000000000000001");
    check_fixed(2.0 / 3, 2, "0.67");
    check_fixed(-2.0 / 3, 3, "-0.667");
    check_fixed(-0.001, 2, "0.00");
    check_fixed(12345.5, 0, "12346");
    check_fixed(12, -3, "12");
    check_fixed((double)NAN, 2, "nan");
    check_number(-(double)NAN, 9, "nan");
    check_fixed(1e300 * 1e10, 2, "inf");
    check_fixed(-100, 0, "-100");
}

static void a_text_grows_and_formats(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_text *t = mde_text_create(c);
    const char *expected = "a|-7|1099511627776|9|x|%|0.1|0.667|1.2e+03|18446744073709551615";
    size_t length = strlen(expected) + 100000;
    int i;
    mde_text_format(t, "%s|%d|%lld|%zu|%c|%%|%g|%.3f|%.2g|%llu", "a", -7, 1LL << 40, (size_t)9, 'x', 0.1, 2.0 / 3,
                    1234.5, 18446744073709551615ULL);
    CHECK(strcmp(t->bytes, expected) == 0);
    mde_text_free(t);
    t = mde_text_create(c);
    mde_text_format(t, "[%5d|%-6s|%06.2f|%8.3g|%llx|%5.1f|%.2f]", 42, "ab", 3.14159, 0.00012345, 255LL, -0.01,
                    -(double)NAN);
    CHECK(strcmp(t->bytes, "[   42|ab    |003.14|0.000123|ff|  0.0|nan]") == 0);
    mde_text_free(t);
    t = mde_text_create(c);
    mde_text_add(t, expected);
    for (i = 0; i < 10000; i++) mde_text_add(t, "0123456789");
    CHECK(t->length == length && strlen(t->bytes) == t->length);
    mde_text_add(t, NULL);
    mde_text_add(NULL, "x");
    CHECK(t->length == length && mde_context_status(c) == MDE_OK);
    for (i = 0; i < 5; i++) {
        static const char *const wrong[5] = { "%x", "a%", "%ld", "%*d", "%9999999999999d" };
        mde_text_format(t, wrong[i], 1, 1);
        CHECK(mde_context_status(c) == MDE_BAD_ARGUMENT);
        CHECK_TEXT(mde_error(c), "has a conversion that is not known");
        mde_clear_error(c);
    }
    mde_text_free(t);
    CHECK(c->held == 0);
    mde_context_free(c);
}

static void text_is_escaped_for_json_and_html(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_text *t = mde_text_create(c);
    mde_text_add_json(t, "a\"b\\c\n\t\x01 \xC3\xA9 \xFF");
    CHECK(strcmp(t->bytes, "\"a\\\"b\\\\c\\n\\u0009\\u0001 \xC3\xA9 \xEF\xBF\xBD\"") == 0);
    mde_text_free(t);
    t = mde_text_create(c);
    mde_text_add_html(t, "<a href=\"x\">&\xE2\x82\xAC \x02 \xC3");
    CHECK(strcmp(t->bytes, "&lt;a href=&quot;x&quot;&gt;&amp;\xE2\x82\xAC \xEF\xBF\xBD \xEF\xBF\xBD") == 0);
    mde_text_free(t);
    mde_context_free(c);
}

static void a_format_for_pages_escapes_its_strings_and_nothing_else(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_text *t = mde_text_create(c);
    mde_text_format_html(t, "<b class=\"x\">%s</b> %d &lt; %.2f %s%%", "a<b & \"c\"", 3, 0.5, "");
    CHECK(strcmp(t->bytes, "<b class=\"x\">a&lt;b &amp; &quot;c&quot;</b> 3 &lt; 0.50 %") == 0);
    mde_text_free(t);
    mde_context_free(c);
}

static void csv_cells_round_trip(void)
{
    static const char *const cells[] = { "plain", "with space", "a,b", "say \"x\"", "two\nlines", "" };
    mde_context *c = mde_context_create(NULL);
    mde_text *t = mde_text_create(c);
    mde_csv *csv;
    int i;
    mde_text_add(t, "a,b,c,d,e,f\n");
    for (i = 0; i < 6; i++) {
        if (i) mde_text_add(t, ",");
        mde_text_add_csv(t, cells[i]);
    }
    CHECK_TEXT(t->bytes, "\nplain,with space,\"a,b\",\"say \"\"x\"\"\",");
    csv = mde_csv_parse(c, "t", t->bytes, t->length);
    for (i = 0; csv && i < 6; i++) CHECK(strcmp(csv->cells[i], cells[i]) == 0);
    CHECK(csv && csv->rows == 1 && csv->columns == 6);
    mde_context_free(c);
}

/* What is written as JSON is read as the same text. */
static void json_text_round_trips(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_text *t = mde_text_create(c);
    const char *text = "quote \" slash / backslash \\ tab \t bell \a \xF0\x9F\x98\x80 end";
    mde_json *root;
    mde_text_add_json(t, text);
    root = mde_json_parse(c, "t", t->bytes, t->length);
    CHECK(root && strcmp(root->string, text) == 0);
    mde_context_free(c);
}

static const char *write_example(mde_context *c, mde_text **t, int lines)
{
    const double values[4] = { 0.5, -2, (double)NAN, (double)INFINITY };
    mde_json_writer w;
    *t = mde_text_create(c);
    w = mde_json_start(*t, lines);
    mde_json_open(&w, NULL, '{');
    mde_json_write_string(&w, "na\"me", "a\\b");
    mde_json_write_numbers(&w, "values", 4, values, 9);
    mde_json_open(&w, "empty", '{');
    mde_json_close(&w);
    mde_json_open(&w, "rows", '[');
    mde_json_write_int(&w, NULL, INT64_MIN);
    mde_json_write_raw(&w, NULL, "true");
    mde_json_open(&w, NULL, '[');
    mde_json_write_string(&w, NULL, NULL);
    mde_json_write_raw(&w, NULL, "{}");
    mde_json_close(&w);
    mde_json_close(&w);
    mde_json_write_number(&w, "third", 1.0 / 3, 3);
    mde_json_close(&w);
    return mde_json_end(&w) == MDE_OK && *t ? (*t)->bytes : "";
}

static void the_json_writer_places_commas_and_lines(void)
{
    static const struct {
        int lines;
        const char *text;
    } expected[] = {
        { MDE_JSON_COMPACT, "{\"na\\\"me\":\"a\\\\b\",\"values\":[0.5,-2,null,null],\"empty\":{},"
                            "\"rows\":[-9223372036854775808,true,[null,{}]],\"third\":0.333}" },
        { 0, "{\"na\\\"me\": \"a\\\\b\", \"values\": [0.5, -2, null, null], \"empty\": {}, "
             "\"rows\": [-9223372036854775808, true, [null, {}]], \"third\": 0.333}\n" },
        { 1, "{\n  \"na\\\"me\": \"a\\\\b\",\n  \"values\": [0.5, -2, null, null],\n  \"empty\": {},\n"
             "  \"rows\": [-9223372036854775808, true, [null, {}]],\n  \"third\": 0.333\n}\n" },
        { 2, "{\n  \"na\\\"me\": \"a\\\\b\",\n  \"values\": [0.5, -2, null, null],\n  \"empty\": {},\n"
             "  \"rows\": [\n    -9223372036854775808,\n    true,\n    [null, {}]\n  ],\n  \"third\": 0.333\n}\n" }
    };
    mde_context *c = mde_context_create(NULL);
    mde_text *t;
    size_t i;
    for (i = 0; i < sizeof expected / sizeof *expected; i++) {
        CHECK(strcmp(write_example(c, &t, expected[i].lines), expected[i].text) == 0);
        mde_json_free(c, mde_json_parse(c, "t", t->bytes, t->length));
        CHECK(mde_context_status(c) == MDE_OK);
        mde_text_free(t);
    }
    CHECK(c->held == 0);
    mde_context_free(c);
}

static void wrong_use_of_the_json_writer_is_an_error(void)
{
    int k;
    for (k = 0; k < 7; k++) {
        static const char *const expected[] = { "key \"x\" in an array", "key \"\" in an object", "second value",
                                                "brackets open", "nothing open", "cannot open", "at depth 64" };
        mde_context *c = mde_context_create(NULL);
        mde_text *t = mde_text_create(c);
        mde_json_writer w = mde_json_start(t, 0);
        int i;
        if (k == 0) mde_json_open(&w, NULL, '[');
        if (k == 0) mde_json_write_int(&w, "x", 1);
        if (k == 1) mde_json_open(&w, NULL, '{');
        if (k == 1) mde_json_write_int(&w, NULL, 1);
        if (k == 2) mde_json_write_int(&w, NULL, 1);
        if (k == 2) mde_json_write_int(&w, NULL, 2);
        if (k == 3) mde_json_open(&w, NULL, '[');
        if (k == 4) mde_json_close(&w);
        if (k == 5) mde_json_open(&w, NULL, '(');
        for (i = 0; k == 6 && i < MDE_JSON_DEPTH; i++) mde_json_open(&w, NULL, '[');
        CHECK(k < 6 || mde_context_status(c) == MDE_OK);
        if (k == 6) mde_json_open(&w, NULL, '[');
        CHECK(mde_json_end(&w) == MDE_BAD_ARGUMENT);
        CHECK(strstr(mde_error(c), expected[k]) != NULL);
        mde_context_free(c);
    }
}

/* ---- JSON ---- */

static mde_json *parse_json(mde_context *c, const char *text)
{
    return mde_json_parse(c, "x.json", text, strlen(text));
}

static void json_is_read_as_a_tree(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_json *root = mde_json_parse(c, "x", fuzz_json_sample, sizeof fuzz_json_sample - 1);
    const mde_json *weights, *nested;
    CHECK(root && root->kind == MDE_JSON_OBJECT && root->length == 10);
    if (!root) return;
    CHECK(strcmp(mde_json_string(root, "name", ""), "m\xC3\xA9lange \xF0\x9F\x98\x80 \"x\"\n") == 0);
    weights = mde_json_get(root, "weights");
    CHECK(weights && weights->kind == MDE_JSON_ARRAY && weights->length == 5);
    CHECK(weights && weights->child->number == 0.25 && weights->child->next->number == -1.5e-3);
    CHECK(weights && weights->child->next->next->number == 100 && weights->child->key == NULL);
    nested = mde_json_get(mde_json_get(mde_json_get(root, "nested"), "a"), "b");
    CHECK(nested && nested->length == 3 && nested->child->length == 0 && nested->child->next->kind == MDE_JSON_OBJECT);
    CHECK(mde_json_number(root, "k4", -1) == 4 && mde_json_number(root, "name", -1) == -1);
    CHECK(mde_json_number(root, "absent", -1) == -1 && mde_json_get(weights, "x") == NULL);
    CHECK(strcmp(mde_json_string(root, "k1", "other"), "other") == 0);
    CHECK(strcmp(mde_json_string(root, "", "other"), "") == 0);
    mde_json_free(c, root);
    CHECK(c->held == 0);
    root = parse_json(c, "\xEF\xBB\xBF true ");
    CHECK(root && root->kind == MDE_JSON_BOOL && root->number == 1);
    /* The first and last character of each length in UTF-8. */
    root = parse_json(c, "\"\\u0001\\u007f\\u0080\\u07ff\\u0800\\uffff\\ud800\\udc00\\udbff\\udfff\"");
    CHECK(root && strcmp(root->string, "\x01\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF"
                                         "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF") == 0);
    root = parse_json(c, "\"a\\u0000b\\/\\b\\f\\r\\t\\uD83D\\uDE00\"");
    CHECK(root && root->length == 12 && memcmp(root->string, "a\0b/\b\f\r\t\xF0\x9F\x98\x80", 13) == 0);
    root = parse_json(c, "null");
    CHECK(root && root->kind == MDE_JSON_NULL);
    mde_context_free(c);
}

static void wrong_json_is_refused_with_its_place(void)
{
    static const char *const cases[][2] = {
        { "", "line 1 column 1: the text ends where a value should stand" },
        { "   ", "line 1 column 4" },
        { "{\n  \"a\": 1,\n  \"b\" 2\n}", "x.json line 3 column 7: expected a colon" },
        { "[1, 2", "line 1 column 6: expected a comma or ]" },
        { "[1 2]", "line 1 column 4: expected a comma or ]" },
        { "[1,]", "line 1 column 4: expected a value" },
        { "[,1]", "expected a value" },
        { "{\"a\":1,}", "line 1 column 8: expected a key in quotes" },
        { "{a:1}", "expected a key in quotes" },
        { "{\"a\":1]", "expected a comma or }" },
        { "{\"a\":1", "expected a comma or }" },
        { "[1]]", "line 1 column 4: expected the end of the text" },
        { "1 2", "expected the end of the text" },
        { "{\"a\":1,\"b\":2,\"a\":3}", "line 1 column 1: the object that starts here has this key twice: a" },
        { "[{\"1\":0,\"2\":0,\"3\":0,\"4\":0,\"5\":0,\"6\":0,\"7\":0,\"8\":0,\"9\":0,\"3\":0}]",
          "column 2: the object that starts here has this key twice: 3" },
        { "{\"a\\u0000b\":1}", "column 2: a key must not hold \\u0000" },
        { "\"abc", "line 1 column 1: the string that starts here has no end" },
        { "\"abc\\", "this escape is not known" },
        { "\"\\x\"", "this escape is not known" },
        { "\"\\u12g4\"", "four hexadecimal digits" },
        { "\"\\u12", "four hexadecimal digits" },
        { "\"\\ud800\"", "surrogates come in pairs" },
        { "\"\\udc00\"", "surrogates come in pairs" },
        { "\"\\ud800\\u0041\"", "surrogates come in pairs" },
        { "\"a\nb\"", "a control character inside a string must be escaped" },
        { "\"\xC0\x80\"", "line 1 column 2: a byte that is not UTF-8" },
        { "\"\xC3\xA9\xFF\"", "line 1 column 3: a byte that is not UTF-8" },
        { "\"\xED\xA0\x80\"", "not UTF-8" },
        { "\"\xF4\x90\x80\x80\"", "not UTF-8" },
        { "\"\xE0\x80\x80\"", "not UTF-8" },
        { "\"\xE2\x82\"", "not UTF-8" },
        { "01", "expected a number" },
        { "-", "expected a number" },
        { "+1", "expected a value" },
        { ".5", "expected a value" },
        { "1.", "expected a number" },
        { "1e", "expected a number" },
        { "1e+", "expected a number" },
        { "-a", "expected a number" },
        { "NaN", "expected a value" },
        { "Infinity", "expected a value" },
        { "1e999", "this number is too large" },
        { "tru", "expected a value" },
        { "nulll", "expected the end of the text" },
        { "'a'", "expected a value" },
        { "[1] // no", "expected the end of the text" }
    };
    mde_context *c = mde_context_create(NULL);
    size_t i;
    for (i = 0; i < COUNT(cases); i++) {
        CHECK(parse_json(c, cases[i][0]) == NULL);
        CHECK(mde_context_status(c) == MDE_BAD_FILE);
        CHECK_TEXT(mde_error(c), cases[i][1]);
        CHECK(c->held == 0);
        mde_clear_error(c);
    }
    CHECK(mde_json_parse(c, "x", "\"abc\\n\"", 5) == NULL);      /* what follows the text is not read */
    CHECK_TEXT(mde_error(c), "this escape is not known");
    mde_clear_error(c);
    CHECK(mde_json_parse(c, "x", "[1]\0", 4) == NULL);
    CHECK_TEXT(mde_error(c), "a zero byte");
    CHECK(mde_json_parse(c, "x", "[1]", 3) == NULL);        /* the first error sticks */
    mde_clear_error(c);
    CHECK(mde_json_parse(c, NULL, NULL, 3) == NULL && mde_context_status(c) == MDE_BAD_ARGUMENT);
    CHECK(mde_json_parse(NULL, "x", "1", 1) == NULL && mde_json_get(NULL, "a") == NULL);
    mde_context_free(c);
}

static void json_nests_64_levels_and_no_more(void)
{
    mde_context *c = mde_context_create(NULL);
    char text[200];
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    CHECK(mde_json_parse(c, "x", text + 1, 128) != NULL);
    CHECK(mde_json_parse(c, "x", text, 130) == NULL);
    CHECK_TEXT(mde_error(c), "column 65: nested too deeply");
    mde_context_free(c);
}

/* An object of many keys is checked for duplicates in linear time; an array of many numbers is read whole. */
static void large_json_is_read(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_text *t = mde_text_create(c);
    mde_json *root;
    const mde_json *child;
    double sum = 0;
    int i;
    mde_text_add(t, "{");
    for (i = 0; i < 20000; i++) mde_text_format(t, "\"key%d\":%d,", i, i);
    mde_text_add(t, "\"last\":0}");
    root = mde_json_parse(c, "x", t->bytes, t->length);
    CHECK(root && root->length == 20001);
    for (child = root ? root->child : NULL; child; child = child->next) sum += child->number;
    CHECK(sum == 19999.0 * 20000 / 2);
    t->bytes[t->length - 1] = ',';
    mde_text_add(t, "\"key777\":1}");
    CHECK(mde_json_parse(c, "x", t->bytes, t->length) == NULL);
    CHECK_TEXT(mde_error(c), "this key twice: key777");
    mde_context_free(c);
}

/* ---- CSV ---- */

static mde_csv *parse_csv(mde_context *c, const char *text)
{
    return mde_csv_parse(c, "x.csv", text, strlen(text));
}

static void csv_is_read_with_quotes_blank_lines_and_either_line_end(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_csv *csv = mde_csv_parse(c, "runs.csv", fuzz_csv_sample, sizeof fuzz_csv_sample - 1);
    CHECK(csv && csv->rows == 4 && csv->columns == 4 && strcmp(csv->path, "runs.csv") == 0);
    if (!csv) return;
    CHECK(mde_csv_column(csv, "run") == 0 && mde_csv_column(csv, "code, all") == 2);
    CHECK(mde_csv_column(csv, "a \"quoted\" name") == 3 && mde_csv_column(csv, "Run") == -1);
    CHECK(csv->lines[0] == 2 && csv->lines[1] == 4 && csv->lines[2] == 5 && csv->lines[3] == 7);
    CHECK(mde_csv_number(csv, 0, 1) == 0.5 && mde_csv_number(csv, 1, 3) == 1e-3);
    CHECK(mde_csv_number(csv, 2, 1) == 0.5);                /* blanks around a number do not matter */
    CHECK(isnan(mde_csv_number(csv, 1, 1)) && isnan(mde_csv_number(csv, 1, 2)));
    CHECK(mde_csv_number(csv, 2, 2) == -(double)INFINITY && mde_csv_number(csv, 3, 3) == 3);
    CHECK(strcmp(csv->cells[2 * 4 + 3], "line\nbreak") == 0);
    CHECK(mde_context_status(c) == MDE_OK);
    CHECK(isnan(mde_csv_number(csv, 2, 3)));
    CHECK_TEXT(mde_error(c), "runs.csv line 5, column a \"quoted\" name: \"line\nbreak\" is not a number");
    mde_clear_error(c);
    CHECK(isnan(mde_csv_number(csv, 4, 0)) && mde_context_status(c) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "runs.csv: row 4, column 0; there are 4 rows and 4 columns");
    mde_clear_error(c);
    mde_csv_free(csv);
    CHECK(c->held == 0);
    csv = parse_csv(c, "a\r1\r2\r");
    CHECK(csv && csv->rows == 2 && mde_csv_number(csv, 1, 0) == 2);
    csv = parse_csv(c, "a,b");
    CHECK(csv && csv->rows == 0 && csv->columns == 2);
    csv = parse_csv(c, "a,b\n,");
    CHECK(csv && csv->rows == 1 && isnan(mde_csv_number(csv, 0, 1)));
    csv = parse_csv(c, "a\n\"\"\n\n\"x\"");
    CHECK(csv && csv->rows == 2 && csv->cells[0][0] == 0 && strcmp(csv->cells[1], "x") == 0);
    CHECK(mde_context_status(c) == MDE_OK && isnan(mde_csv_number(NULL, 0, 0)) && mde_csv_column(NULL, "a") == -1);
    mde_context_free(c);
}

static void csv_is_parted_by_what_the_header_has_more_of(void)
{
    static const struct { const char *text; int columns; double first, second; } cases[] = {
        { "run;a;\"b;c\"\nx;0,25;1e-3\n", 3, 0.25, 1e-3 },
        { "run;a, b;c\nx;.5;-1,5e1\n", 3, 0.5, -15 },
        { "run\ta\tb, c\nx\t0.5\t\n", 3, 0.5, (double)NAN },
        { "run,a;b,c\nx,1,2\n", 3, 1, 2 }
    };
    mde_context *c = mde_context_create(NULL);
    mde_csv *csv;
    size_t i;
    for (i = 0; i < COUNT(cases); i++) {
        csv = parse_csv(c, cases[i].text);
        CHECK(csv && csv->columns == cases[i].columns && mde_csv_number(csv, 0, 1) == cases[i].first);
        CHECK(csv && (mde_csv_number(csv, 0, 2) == cases[i].second || isnan(cases[i].second)));
    }
    CHECK(mde_context_status(c) == MDE_OK);
    csv = parse_csv(c, "run\ta\nx\t0,25\n");
    CHECK(csv && isnan(mde_csv_number(csv, 0, 1)));
    CHECK_TEXT(mde_error(c), "x.csv line 2, column a: \"0,25\" is not a number (a decimal comma");
    mde_clear_error(c);
    csv = parse_csv(c, "run;a\nx;1.234,5\n");
    CHECK(csv && isnan(mde_csv_number(csv, 0, 1)) && mde_context_status(c) == MDE_BAD_FILE);
    mde_context_free(c);
}

static void blanks_around_a_cell_do_not_count(void)
{
    static const char *const cells[] = { "r1", "two words", "quoted", "", "last" };
    mde_context *c = mde_context_create(NULL);
    mde_csv *csv = parse_csv(c, " run , b,\tc , d,e\nr1 ,  two words, \" quoted \" ,  ,last\t\n");
    int i;
    CHECK(csv && mde_csv_column(csv, "run") == 0 && mde_csv_column(csv, "c") == 2);
    for (i = 0; csv && i < 5; i++) CHECK(strcmp(csv->cells[i], cells[i]) == 0);
    csv = parse_csv(c, "a\tb\n\t2 \n");                           /* between tabs a tab is no blank */
    CHECK(csv && csv->cells[0][0] == 0 && mde_csv_number(csv, 0, 1) == 2);
    csv = parse_csv(c, ",a\n0,1\n");                              /* as pandas writes its index */
    CHECK(csv && csv->names[0][0] == 0 && csv->columns == 2);
    mde_context_free(c);
}

static void wrong_csv_is_refused_with_its_line(void)
{
    static const char *const cases[][2] = {
        { "", "x.csv: is empty" },
        { "\n\r\n\n", "x.csv: is empty" },
        { "a,b\n1,2\n3\n", "x.csv line 3: the row has 1 cells; the header has 2" },
        { "a,b\n\n\"x\ny\",2\n1,2,3", "x.csv line 5: the row has 3 cells; the header has 2" },
        { "a,,c\n", "x.csv: column 2 has no name" },
        { "a,b,\"a\"\n", "x.csv: the header names the column a twice" },
        { "a,b\n1,\"2\n3,4\n", "x.csv line 2: a quoted cell starts here and has no end" },
        { "a,b\n1,\"2\"3\n", "x.csv line 2: text follows a closing quote" },
        { "a,b\n1,2\"3\n", "x.csv line 2: a quote inside a cell that is not quoted" },
        { "a,caf\xE9\n1,2\n", "x.csv line 1, column 2: is not UTF-8" },
        { "a,b\n1,2\n\xFC\xFE,2\n", "x.csv line 3, column 1: is not UTF-8" }
    };
    mde_context *c = mde_context_create(NULL);
    size_t i;
    for (i = 0; i < COUNT(cases); i++) {
        CHECK(parse_csv(c, cases[i][0]) == NULL);
        CHECK(mde_context_status(c) == MDE_BAD_FILE);
        CHECK_TEXT(mde_error(c), cases[i][1]);
        CHECK(c->held == 0);
        mde_clear_error(c);
    }
    CHECK(mde_csv_parse(c, "x.csv", "a,b\n1,\0\n", 8) == NULL);
    CHECK_TEXT(mde_error(c), "x.csv line 2: a zero byte");
    mde_clear_error(c);
    CHECK(mde_csv_parse(c, "x.csv", "a", (size_t)INT_MAX) == NULL);
    CHECK_TEXT(mde_error(c), "is larger than 2 GB");
    mde_clear_error(c);
    CHECK(mde_csv_parse(c, NULL, NULL, 0) == NULL && mde_context_status(c) == MDE_BAD_ARGUMENT);
    mde_context_free(c);
}

/* ---- .npy ---- */

static mde_array *parse_npy(mde_context *c, int version, const char *header, const void *data, size_t size,
                            int as_double)
{
    unsigned char bytes[FUZZ_SIZE];
    return mde_npy_parse(c, "x.npy", bytes, fuzz_npy(bytes, version, header, data, size), as_double);
}

static void npy_types_are_read_in_both_byte_orders(void)
{
    static const struct { const char *type; unsigned char bytes[16]; double first, second; } cases[] = {
        { "<f4", { 0, 0, 0x80, 0x3F, 0, 0, 0x20, 0xC1 }, 1, -10 },
        { ">f4", { 0x3F, 0x80, 0, 0, 0xC1, 0x20, 0, 0 }, 1, -10 },
        { "<f8", { 0, 0, 0, 0, 0, 0, 0xF0, 0x3F, 0, 0, 0, 0, 0, 0, 0x24, 0xC0 }, 1, -10 },
        { ">f8", { 0x3F, 0xF0, 0, 0, 0, 0, 0, 0, 0xC0, 0x24, 0, 0, 0, 0, 0, 0 }, 1, -10 },
        { "<f2", { 0, 0x3C, 0, 0xC9 }, 1, -10 },
        { ">f2", { 0x3C, 0, 0x80, 0x01 }, 1, -1.0 / 16777216 },
        { "|i1", { 0x7F, 0x80 }, 127, -128 },
        { "|u1", { 0x7F, 0x80 }, 127, 128 },
        { "<i1", { 0xFF, 1 }, -1, 1 },
        { "<i2", { 0xFE, 0xFF, 0, 0x80 }, -2, -32768 },
        { ">u2", { 0xFF, 0xFE, 0, 1 }, 65534, 1 },
        { ">i4", { 0xFF, 0xFF, 0xFF, 0xFD, 0x80, 0, 0, 0 }, -3, -2147483648.0 },
        { "<u4", { 0xFF, 0xFF, 0xFF, 0xFF, 1, 0, 0, 0 }, 4294967295.0, 1 },
        { "<i8", { 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0x80 }, -1,
          -9223372036854775808.0 },
        { ">u8", { 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0 }, 9223372036854775808.0, 256 },
        { "|b1", { 1, 0 }, 1, 0 }
    };
    mde_context *c = mde_context_create(NULL);
    size_t i;
    int as_double, version;
    for (i = 0; i < COUNT(cases); i++) {
        size_t size = 2 * (size_t)(cases[i].type[2] - '0');
        char header[128];
        snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (2,), }\n", cases[i].type);
        for (as_double = 0; as_double < 2; as_double++) {
            for (version = 1; version <= 3; version++) {
                mde_array *a = parse_npy(c, version, header, cases[i].bytes, size, as_double);
                CHECK(a && a->rank == 1 && a->shape[0] == 2 && a->count == 2 && (a->f64 != NULL) == as_double);
                if (!a) continue;
                if (as_double) CHECK(a->f64[0] == cases[i].first && a->f64[1] == cases[i].second);
                else CHECK(a->f32[0] == (float)cases[i].first && a->f32[1] == (float)cases[i].second);
                mde_array_free(c, a);
            }
        }
    }
    CHECK(c->held == 0);
    mde_context_free(c);
}

/* Every half against its definition: (-1)^s 2^(e - 15) (1 + m / 1024), subnormals 2^-14 m / 1024. */
static void every_half_is_converted_exactly(void)
{
    uint32_t half;
    int wrong = 0;
    for (half = 0; half < 65536; half++) {
        int exponent = (int)(half >> 10 & 31u), fraction = (int)(half & 1023u);
        double expected = exponent ? ldexp(1 + fraction / 1024.0, exponent - 15) : ldexp(fraction / 1024.0, -14);
        double got = (double)mde__float_of_half(half);
        if (half & 0x8000u) expected = -expected;
        if (exponent == 31 && fraction) wrong += !isnan(got);
        else if (exponent == 31) wrong += got != (half & 0x8000u ? -(double)INFINITY : (double)INFINITY);
        else wrong += got != expected || signbit(got) != signbit(expected);
    }
    CHECK(wrong == 0);
}

static void npy_fortran_order_is_transposed(void)
{
    mde_context *c = mde_context_create(NULL);
    unsigned char data[24];
    mde_array *a;
    int i, j, k, wrong = 0;
    for (i = 0; i < 24; i++) data[i] = (unsigned char)i;
    a = parse_npy(c, 1, "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3, 4), }\n", data, 24, 0);
    CHECK(a && a->rank == 3);
    for (i = 0; a && i < 2; i++) {
        for (j = 0; j < 3; j++) {
            for (k = 0; k < 4; k++) wrong += a->f32[(i * 3 + j) * 4 + k] != (float)(i + 2 * j + 6 * k);
        }
    }
    CHECK(wrong == 0);
    a = parse_npy(c, 1, "{'descr': '|u1', 'fortran_order': True, 'shape': (), }\n", data + 7, 1, 1);
    CHECK(a && a->rank == 0 && a->count == 1 && a->f64[0] == 7);
    a = parse_npy(c, 1, "{'descr': '|u1', 'fortran_order': True, 'shape': (0, 3), }\n", data, 0, 1);
    CHECK(a && a->rank == 2 && a->count == 0 && a->shape[1] == 3);
    mde_context_free(c);
}

static void npy_headers_may_vary_in_order_quotes_and_space(void)
{
    static const char *const headers[] = {
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }        \n",
        "{'shape':(2,),'fortran_order':False,'descr':'<f4'}",
        "{ \"fortran_order\" : False ,\n\t\"descr\": \"<f4\" , \"shape\" : ( 2 , ) , } \r\n",
    };
    mde_context *c = mde_context_create(NULL);
    static const unsigned char data[8] = { 0, 0, 0x80, 0x3F, 0, 0, 0, 0x40 };
    size_t i;
    for (i = 0; i < COUNT(headers); i++) {
        mde_array *a = parse_npy(c, 1, headers[i], data, 8, 0);
        CHECK(a && a->f32[1] == 2);
    }
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

static void wrong_npy_is_refused(void)
{
    static const struct { const char *header; size_t size; const char *error; } cases[] = {
        { "  ", 0, "expected a dictionary" },
        { "['descr']", 0, "expected a dictionary" },
        { "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", 8, "x.npy: type '|O': objects are not read" },
        { "{'descr': '<U5', 'fortran_order': False, 'shape': (1,), }", 20, "strings are not read" },
        { "{'descr': '|S5', 'fortran_order': False, 'shape': (1,), }", 5, "strings are not read" },
        { "{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", 8, "complex numbers are not read" },
        { "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (1,), }", 8, "dates are not read" },
        { "{'descr': '|V8', 'fortran_order': False, 'shape': (1,), }", 8, "a structured type is not read" },
        { "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", 4, "a structured type is not read" },
        { "{'descr': '<f16', 'fortran_order': False, 'shape': (1,), }", 16, "this type is not read; expected f2, f4" },
        { "{'descr': '<f3', 'fortran_order': False, 'shape': (1,), }", 3, "this type is not read" },
        { "{'descr': '=f4', 'fortran_order': False, 'shape': (1,), }", 4, "type '=f4'" },
        { "{'descr': '|f4', 'fortran_order': False, 'shape': (1,), }", 4, "type '|f4'" },
        { "{'descr': '', 'fortran_order': False, 'shape': (1,), }", 4, "type ''" },
        { "{'descr': 4, 'fortran_order': False, 'shape': (1,), }", 4, "descr: expected a type" },
        { "{'descr': '<f4, 'fortran_order': False, 'shape': (1,), }", 4, "type '<f4, '" },
        { "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,), }", 4, "fortran_order: expected True or False" },
        { "{'descr': '<f4', 'fortran_order': Tru, 'shape': (1,), }", 4, "fortran_order: expected True or False" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': [1], }", 4, "shape: expected a tuple" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", 4, "shape: expected dimensions of 0 or more" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1.0,), }", 4, "shape: expected a comma" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1), }", 4, "shape: expected a comma" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (,), }", 4, "shape: expected dimensions" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2", 8, "shape: expected a comma" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1), }", 4, "more than 5 dimensions" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775808,), }", 4,
          "a dimension is too large" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", 0,
          "out of range" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4294967296, 4294967296), }", 0,
          "out of range" },
        { "{'descr': '<f8', 'fortran_order': False, 'shape': (2305843009213693952,), }", 0,
          "shape [2305843009213693952]" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,), }", 8,
          "needs 1000000000 elements of 4 bytes" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", 4,
          "x.npy: shape [2] needs 2 elements of 4 bytes, the file holds 4 bytes of data" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }", 9, "shape [2, 1] needs 2 elements" },
        { "{'descr': '<f4', 'fortran_order': False, }", 4, "expected the keys descr, fortran_order and shape" },
        { "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", 4, "a key is there twice" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", 4, "a key other than" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } x", 4, "text follows the dictionary" },
        { "{'descr' '<f4', 'fortran_order': False, 'shape': (1,), }", 4, "expected a colon" },
        { "{'descr': '<f4' 'fortran_order': False, 'shape': (1,), }", 4, "expected a comma or }" },
        { "{descr: '<f4', 'fortran_order': False, 'shape': (1,), }", 4, "expected a key in quotes" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), ", 4, "expected a key in quotes" }
    };
    mde_context *c = mde_context_create(NULL);
    static const unsigned char zeros[64] = { 0 };
    unsigned char bytes[64];
    size_t i;
    for (i = 0; i < COUNT(cases); i++) {
        CHECK(parse_npy(c, 1 + (int)(i % 3), cases[i].header, zeros, cases[i].size, (int)(i & 1)) == NULL);
        CHECK(mde_context_status(c) == MDE_BAD_FILE);
        CHECK_TEXT(mde_error(c), cases[i].error);
        CHECK(c->held == 0);
        mde_clear_error(c);
    }
    memcpy(bytes, zeros, sizeof bytes);
    CHECK(mde_npy_parse(c, "x.npy", bytes, 64, 0) == NULL);
    CHECK_TEXT(mde_error(c), "x.npy: is not a .npy file");
    mde_clear_error(c);
    CHECK(mde_npy_parse(c, "x.npy", NULL, 0, 0) == NULL);
    mde_clear_error(c);
    memcpy(bytes, "\x93NUMPY\x04\x00\x10\x00", 10);
    CHECK(mde_npy_parse(c, "x.npy", bytes, 64, 0) == NULL);
    CHECK_TEXT(mde_error(c), "version 4.0; expected 1.0, 2.0 or 3.0");
    mde_clear_error(c);
    memcpy(bytes, "\x93NUMPY\x02\x00\xFF\xFF\xFF\xFF", 12);
    CHECK(mde_npy_parse(c, "x.npy", bytes, 64, 0) == NULL);
    CHECK_TEXT(mde_error(c), "header of 4294967295 bytes; at most 10000 are read");
    mde_clear_error(c);
    memcpy(bytes, "\x93NUMPY\x01\x00\x37\x00", 10);
    CHECK(mde_npy_parse(c, "x.npy", bytes, 64, 0) == NULL);
    CHECK_TEXT(mde_error(c), "ends within its .npy header of 55 bytes");
    mde_context_free(c);
}

static void npy_files_round_trip_bit_by_bit(void)
{
    const char *path = "test_files_tmp.npy";
    mde_context *c = mde_context_create(NULL);
    float values[24];
    double doubles[24];
    static const int64_t shape[5] = { 2, 3, 1, 2, 2 };
    static const int64_t empty[2] = { 3, 0 };
    size_t size = 0;
    unsigned char *bytes;
    mde_array *a;
    int rank, i;
    for (i = 0; i < 24; i++) {
        doubles[i] = sqrt(i) - 2;
        values[i] = (float)doubles[i];
    }
    values[3] = (float)NAN;
    values[4] = -(float)INFINITY;
    for (rank = 0; rank <= 5; rank++) {
        size_t count = rank == 0 ? 1 : rank == 1 ? 2 : rank < 4 ? 6 : rank == 4 ? 12 : 24;
        CHECK(mde_npy_write(c, path, rank, shape, values) == MDE_OK);
        a = mde_npy_read(c, path, 0);
        CHECK(a && a->rank == rank && a->count == count && memcmp(a->shape, shape, (size_t)rank * 8) == 0);
        CHECK(a && memcmp(a->f32, values, count * 4) == 0);
        mde_array_free(c, a);
        CHECK(mde_npy_write_f64(c, path, rank, shape, doubles) == MDE_OK);
        a = mde_npy_read(c, path, 1);
        CHECK(a && a->count == count && memcmp(a->f64, doubles, count * 8) == 0);
        mde_array_free(c, a);
    }
    CHECK(mde_npy_write(c, path, 2, empty, NULL) == MDE_OK);
    a = mde_npy_read(c, path, 0);
    CHECK(a && a->count == 0 && a->shape[0] == 3);
    mde_array_free(c, a);
    CHECK(mde_npy_write(c, path, 2, shape, values) == MDE_OK);
    bytes = mde_file_read(c, path, 1000, &size);
    CHECK(size == 128 + 24 && memcmp(bytes, "\x93NUMPY\x01\x00\x76\x00", 10) == 0);
    CHECK(bytes && memcmp(bytes + 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 59) == 0);
    CHECK(bytes && bytes[126] == ' ' && bytes[127] == '\n');
    mde_release(c, bytes);
    CHECK(c->held == 0);
    CHECK(mde_npy_write(c, path, 6, shape, values) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "test_files_tmp.npy: has 6 dimensions; at most 5");
    mde_clear_error(c);
    CHECK(mde_npy_write(c, path, 1, NULL, values) == MDE_BAD_ARGUMENT);
    mde_clear_error(c);
    CHECK(mde_npy_write(c, path, 1, shape, NULL) == MDE_BAD_ARGUMENT);
    mde_clear_error(c);
    remove(path);
    CHECK(mde_npy_read(c, path, 0) == NULL && mde_context_status(c) == MDE_IO);
    CHECK_TEXT(mde_error(c), path);
    mde_context_free(c);
}

/* More than 2^31 elements and 2^32 bytes; but for its ends the file is a hole. */
static void a_large_npy_is_read_in_blocks(void)
{
    static const unsigned char last[6] = { 0, 0xbc, 0, 0xc0, 0, 0xc2 };        /* -1, -2, -3 */
    const char *path = "test_files_tmp.npy";
    const uint64_t count = UINT64_C(2200000000);
    mde_context *c = mde_context_create(NULL);
    unsigned char head[128], read[8];
    size_t size = fuzz_npy(head, 1, "{'descr': '<f2', 'fortran_order': False, 'shape': (2200000000,), }", last, 0);
    FILE *f = fopen(path, "wb");
    mde__npy_file file;
    int good = f && sizeof(long) == 8 && fwrite(head, 1, size, f) == size &&
               fseek(f, (long)(2 * (count - 3)), SEEK_CUR) == 0 && fwrite(last, 1, sizeof last, f) == sizeof last;
    if (f && fclose(f) == 0 && good) {
        CHECK(mde__npy_begin(c, path, &file) == MDE_OK && file.count == (size_t)count);
        CHECK(mde__npy_block(&file, (size_t)count - 4, 4, read) == MDE_OK);
        CHECK(read[0] == 0 && read[1] == 0 && memcmp(read + 2, last, sizeof last) == 0);
        CHECK(mde__npy_block(&file, (size_t)count - 3, 4, read) == MDE_BAD_FILE);
        mde__npy_forget(c, &file);
    } else {
        test_skip("a_large_npy_is_read_in_blocks", "the file system has no holes, or longs have 32 bits");
    }
    remove(path);
    mde_context_free(c);
}

/* ---- safetensors ---- */

static mde_safetensors *parse_safetensors(mde_context *c, const char *header, size_t size)
{
    unsigned char bytes[FUZZ_SIZE];
    static const unsigned char zeros[1024] = { 0 };
    return mde_safetensors_parse(c, "w.safetensors", bytes, fuzz_safetensors(bytes, header, zeros, size));
}

static void safetensors_are_read_from_three_types(void)
{
    mde_context *c = mde_context_create(NULL);
    unsigned char bytes[FUZZ_SIZE];
    size_t size = fuzz_sample(FUZZ_SAFETENSORS, 0, bytes);
    mde_safetensors *file = mde_safetensors_parse(c, "w", bytes, size);
    const mde_safetensor *a = mde_safetensors_find(file, "a.weight"), *b = mde_safetensors_find(file, "b");
    const mde_safetensor *d = mde_safetensors_find(file, "c"), *e = mde_safetensors_find(file, "empty");
    CHECK(file && file->count == 4 && file->pairs == 2);
    CHECK(a && a->rank == 2 && a->shape[0] == 2 && a->count == 4 && a->data[1] == -2 && a->data[2] == 10);
    CHECK(b && b->rank == 1 && b->data[0] == 1 && b->data[1] == ldexpf(1, -24) && isinf(b->data[2]));
    CHECK(d && d->rank == 0 && d->count == 1 && d->data[0] == 3);
    CHECK(e && e->rank == 2 && e->count == 0 && e->shape[1] == 5);
    CHECK(file && strcmp(file->tensors[0].name, "b") == 0);         /* in the header's order */
    CHECK(a && (uintptr_t)a->data % 64 == 0 && (uintptr_t)b->data % 64 == 0 && (uintptr_t)d->data % 64 == 0);
    CHECK(strcmp(mde_safetensors_metadata(file, "layers"), "2") == 0);
    CHECK(strcmp(mde_safetensors_metadata(file, "note"), "\xC3\xA9") == 0);
    CHECK(mde_safetensors_metadata(file, "absent") == NULL && mde_safetensors_find(file, "absent") == NULL);
    CHECK(mde_safetensors_find(NULL, "a") == NULL && mde_safetensors_metadata(NULL, "a") == NULL);
    mde_safetensors_free(c, file);
    CHECK(c->held == 0);
    file = parse_safetensors(c, "{}", 0);
    CHECK(file && file->count == 0 && file->pairs == 0);
    mde_context_free(c);
}

static void fill_tensor(mde_safetensor *t, const char *name, int rank, int64_t first, int64_t second, const float *data)
{
    memset(t, 0, sizeof *t);
    t->name = name;
    t->rank = rank;
    t->shape[0] = first;
    t->shape[1] = second;
    t->count = rank == 0 ? 1 : rank == 1 ? (size_t)first : (size_t)(first * second);
    t->data = data;
}

/* What nobody asks for may be of any type and rank; who asks is told. */
static void other_tensors_are_passed_over(void)
{
    static const char header[] = "{\"mask\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[4,7]},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
        "\"deep\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1],\"data_offsets\":[7,11]},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[11,15]}}";
    mde_context *c = mde_context_create(NULL);
    mde_safetensors *file = parse_safetensors(c, header, 15);
    const int64_t one = 1;
    mde_params *p = mde_params_create(c, 0);
    unsigned char bytes[1024];
    size_t size = fuzz_safetensors(bytes, header, NULL, 0);
    CHECK(*mde_error(c) == 0);
    CHECK(file && file->count == 2 && file->others == 2);
    CHECK(mde_safetensors_find(file, "a") && mde_safetensors_find(file, "b") && !mde_safetensors_find(file, "mask"));
    CHECK(file && strcmp(file->other[0], "mask") == 0 && strcmp(file->other[1], "U8") == 0);
    mde_safetensors_free(c, file);
    memset(bytes + size, 0, 15);
    mde_param(p, "mask", 1, &one, MDE_INIT_ZEROS, 0);
    mde_file_write(c, "test_files_other.tmp", bytes, size + 15);
    CHECK(mde_params_read(p, "test_files_other.tmp") == MDE_BAD_FILE);
    CHECK_TEXT(mde_error(c), "test_files_other.tmp: tensor mask: type U8");
    remove("test_files_other.tmp");
    mde_context_free(c);
}

static void write_shard(mde_context *c, const char *path, const char *first, const char *second, const float *data)
{
    mde_safetensor t[2];
    fill_tensor(&t[0], first, 1, 2, 0, data);
    fill_tensor(&t[1], second, 1, 2, 0, data + 2);
    mde_safetensors_write(c, path, 2, t, 0, NULL);
}

static void a_list_of_files_is_read_as_one(void)
{
    static const struct { const char *list, *error; } wrong[] = {
        { "{}", "expected \"weight_map\"" }, { "{\"weight_map\": {}}", "expected \"weight_map\"" },
        { "{\"weight_map\": {\"a\": 1}}", "tensor a: expected the name" },
        { "{\"weight_map\": {\"a\": \"../1.safetensors\"}}", "in the same folder" },
        { "{\"weight_map\": {\"a\": \"files.index.json\"}}", "in the same folder" },
        { "{\"weight_map\": {\"a\": \"none.safetensors\"}}", "none.safetensors: cannot be opened" },
        { "{\"weight_map\": {\"c\": \"test_1.safetensors\"}}", "tensor c is not in test_1.safetensors" }
    };
    static const float data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const char *list = "{\"metadata\": {\"total_size\": 24}, \"weight_map\": {\"a\": \"test_1.safetensors\", "
                       "\"c\": \"test_2.safetensors\", \"b\": \"test_1.safetensors\"}}";
    const char *path = "test_model.safetensors.index.json";
    mde_context *c = mde_context_create(NULL);
    const mde_safetensor *t;
    mde_safetensors *file;
    size_t i;
    write_shard(c, "test_1.safetensors", "a", "b", data);
    write_shard(c, "test_2.safetensors", "a", "c", data + 4);
    mde_file_write(c, path, list, strlen(list));
    file = mde_safetensors_read(c, path);
    CHECK(*mde_error(c) == 0);
    CHECK(file && file->count == 3);
    t = mde_safetensors_find(file, "a");
    CHECK(t && t->data[0] == 1 && t->count == 2);       /* that of the file which the list names */
    t = mde_safetensors_find(file, "c");
    CHECK(t && t->data[0] == 7);
    mde_safetensors_free(c, file);
    CHECK(c->held == 0);
    for (i = 0; i < COUNT(wrong); i++) {
        mde_file_write(c, path, wrong[i].list, strlen(wrong[i].list));
        CHECK(!mde_safetensors_read(c, path));
        CHECK_TEXT(mde_error(c), wrong[i].error);
        CHECK(c->held == 0);
        mde_clear_error(c);
    }
    remove("test_1.safetensors");
    remove("test_2.safetensors");
    remove(path);
    mde_context_free(c);
}

#define ENTRY(name, type, shape, begin, end) \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

static void wrong_safetensors_are_refused(void)
{
    static const struct { const char *header; size_t size; const char *error; } cases[] = {
        { "{" ENTRY("model.norm.weight", "F32", "[64]", 0, 128) "}", 128,
          "w.safetensors: tensor model.norm.weight: shape [64] needs 256 bytes, offsets give 128" },
        { "{" ENTRY("a", "I64", "[1]", 0, 8) "," ENTRY("b", "F32", "[1]", 4, 8) "}", 8,
          "tensor b: data_offsets are 4 to 8" },
        { "{" ENTRY("a", "I64", "[1]", 0, 9) "}", 8, "tensor a: data_offsets are 0 to 9" },
        { "{" ENTRY("a", "F32", "[1]", 0, 4) "," ENTRY("a", "F32", "[1]", 4, 8) "}", 8, "this key twice: a" },
        { "{" ENTRY("a", "F32", "[1]", 0, 4) "," ENTRY("b", "F32", "[1]", 8, 12) "}", 12,
          "tensor b: data_offsets are 8 to 12" },
        { "{" ENTRY("a", "F32", "[2]", 0, 8) "," ENTRY("b", "F32", "[1]", 4, 8) "}", 8,
          "tensor b: data_offsets are 4 to 8" },
        { "{" ENTRY("a", "F32", "[1]", 0, 4) "," ENTRY("b", "F32", "[1]", 0, 4) "}", 4,
          "tensor b: data_offsets are 0 to 4" },
        { "{" ENTRY("a", "F32", "[1]", 4, 8) "}", 8,
          "tensor a: data_offsets are 4 to 8; the data before it ends at 0" },
        { "{" ENTRY("a", "F32", "[2]", 0, 8) "}", 4,
          "tensor a: data_offsets are 0 to 8" },
        { "{" ENTRY("a", "F32", "[1]", 0, 4) "}", 8,
          "w.safetensors: the tensors need 4 bytes, the file holds 8 bytes" },
        { "{}", 1, "the tensors need 0 bytes" },
        { "{" ENTRY("a", "F32", "[1]", 4, 0) "}", 4, "the second not below the first" },
        { "{" ENTRY("a", "F32", "[1]", 0, 4.5) "}", 4, "two whole numbers" },
        { "{" ENTRY("a", "F32", "[1]", -4, 0) "}", 4, "two whole numbers" },
        { "{" ENTRY("a", "F32", "[-1]", 0, 4) "}", 4, "dimensions must be whole numbers" },
        { "{" ENTRY("a", "F32", "[\"1\"]", 0, 4) "}", 4, "dimensions must be whole numbers" },
        { "{" ENTRY("a", "F32", "[1e300]", 0, 4) "}", 4, "dimensions must be whole numbers" },
        { "{" ENTRY("a", "F32", "[4294967296,4294967296]", 0, 4) "}", 4, "out of range" },
        { "{" ENTRY("a", "F32", "[4503599627370496,1024,4]", 0, 0) "}", 0, "out of range" },
        { "{" ENTRY("a", "F32", "4", 0, 4) "}", 4, "expected dtype, shape and two data_offsets" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4,
          "expected dtype, shape and two data_offsets" },
        { "{\"a\":{\"dtype\":5,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "expected dtype" },
        { "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "expected dtype" },
        { "{\"a\":[]}", 0, "tensor a: expected dtype" },
        { "{\"__metadata__\":[]}", 0, "__metadata__ must be an object" },
        { "{\"__metadata__\":{\"a\":1}}", 0, "__metadata__: a is not a string" },
        { "{\"a\":", 0, "w.safetensors: header line 1 column 6" },
        { "[]", 0, "is not a whole safetensors file" },
        { " {}", 0, "is not a whole safetensors file" },
        { "", 0, "is not a whole safetensors file" }
    };
    static const unsigned char huge[16] = { 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, '{', '}' };
    mde_context *c = mde_context_create(NULL);
    size_t i;
    for (i = 0; i < COUNT(cases); i++) {
        CHECK(parse_safetensors(c, cases[i].header, cases[i].size) == NULL);
        CHECK(mde_context_status(c) == MDE_BAD_FILE);
        CHECK_TEXT(mde_error(c), cases[i].error);
        CHECK(c->held == 0);
        mde_clear_error(c);
    }
    CHECK(mde_safetensors_parse(c, "w", huge, sizeof huge) == NULL);
    CHECK_TEXT(mde_error(c), "its header claims 9223372036854775807");
    mde_clear_error(c);
    CHECK(mde_safetensors_parse(c, "w", huge, 7) == NULL);
    CHECK_TEXT(mde_error(c), "is not a safetensors file (7 bytes)");
    mde_clear_error(c);
    CHECK(mde_safetensors_parse(c, "w", NULL, 0) == NULL);
    mde_context_free(c);
}

static void safetensors_files_round_trip_and_are_the_same_bytes_each_time(void)
{
    static const char *const metadata[] = { "format", "test \"1\"", "seed", "18446744073709551615" };
    static const float data[6] = { 1.5f, -2, 3e-40f, 4, 5e30f, 6 };
    const char *path = "test_files_tmp.safetensors";
    const char *header = "{\"__metadata__\":{\"format\":\"test \\\"1\\\"\",\"seed\":\"18446744073709551615\"},"
                         "\"z\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                         "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[24,28]},"
                         "\"none\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[28,28]}}";
    mde_context *c = mde_context_create(NULL);
    mde_safetensor tensors[3];
    mde_safetensors *file;
    unsigned char *bytes;
    size_t size = 0, length = (strlen(header) + 7) / 8 * 8;
    fill_tensor(&tensors[0], "z", 2, 2, 3, data);
    fill_tensor(&tensors[1], "a", 0, 0, 0, data + 4);
    fill_tensor(&tensors[2], "none", 1, 0, 0, NULL);
    CHECK(mde_safetensors_write(c, path, 3, tensors, 2, metadata) == MDE_OK);
    bytes = mde_file_read(c, path, 10000, &size);
    CHECK(bytes && size == 8 + length + 28 && mde__get_bytes(bytes, 8, 0) == length);
    CHECK(bytes && memcmp(bytes + 8, header, strlen(header)) == 0);
    CHECK(bytes && memcmp(bytes + 8 + length, "\0\0\xC0\x3F\0\0\0\xC0", 8) == 0);
    mde_release(c, bytes);
    file = mde_safetensors_read(c, path);
    CHECK(file && file->count == 3 && file->pairs == 2);
    CHECK(file && memcmp(file->tensors[0].data, data, sizeof data) == 0 && file->tensors[1].data[0] == data[4]);
    CHECK(file && strcmp(mde_safetensors_metadata(file, "format"), metadata[1]) == 0);
    mde_safetensors_free(c, file);
    CHECK(mde_safetensors_write(c, path, 0, NULL, 0, NULL) == MDE_OK);
    file = mde_safetensors_read(c, path);
    CHECK(file && file->count == 0);
    mde_safetensors_free(c, file);
    CHECK(c->held == 0);
    remove(path);
    mde_context_free(c);
}

static void safetensors_that_could_not_be_read_are_not_written(void)
{
    static const char *const twice[] = { "k", "1", "k", "2" };
    static const char *const not_text[] = { "k", "\xFF" };
    static const char *const no_key[] = { NULL, "1" }, *const no_value[] = { "k", NULL };
    static const float data[4] = { 0 };
    const char *path = "test_files_tmp.safetensors";
    mde_context *c = mde_context_create(NULL);
    mde_safetensor t[2];
    int i;
    for (i = 0; i < 11; i++) {
        static const char *const errors[] = {
            "two tensors have the name a", "other than __metadata__", "needs a name in UTF-8", "needs a name in UTF-8",
            "its shape has 4 elements; count is 3", "its shape has 4 elements", "has 6 dimensions", "the key k twice",
            "metadata pair 0 must be two texts", "metadata pair 0 must be two texts",
            "metadata pair 0 must be two texts"
        };
        static const char *const *const metadata[] = { twice, not_text, no_key, no_value };
        fill_tensor(&t[0], "a", 1, 4, 0, data);
        fill_tensor(&t[1], i == 0 ? "a" : "b", 1, 4, 0, data);
        if (i == 1) t[1].name = "__metadata__";
        if (i == 2) t[1].name = "\xFF";
        if (i == 3) t[1].name = NULL;
        if (i == 4) t[1].count = 3;
        if (i == 5) t[1].data = NULL;
        if (i == 6) t[1].rank = 6;
        mde_safetensors_write(c, path, 2, t, i == 7 ? 2 : i > 7, i < 7 ? NULL : metadata[i - 7]);
        CHECK(mde_context_status(c) == MDE_BAD_ARGUMENT);
        CHECK_TEXT(mde_error(c), errors[i]);
        CHECK(c->held == 0);
        mde_clear_error(c);
    }
    CHECK(mde_safetensors_write(c, path, 1, NULL, 0, NULL) == MDE_BAD_ARGUMENT);
    mde_clear_error(c);
    CHECK(!mde_is_file(path));
    mde_context_free(c);
}

/* ---- All formats ---- */

static void files_read_by_name_name_themselves_in_errors(void)
{
    const char *path = "test_files_tmp.txt";
    mde_context *c = mde_context_create(NULL);
    mde_text *t = mde_text_create(c);
    mde_json *root;
    mde_csv *csv;
    mde_text_add(t, "[1,\n2]");
    CHECK(mde_text_write(t, path) == MDE_OK);
    root = mde_json_read(c, path);
    CHECK(root && root->length == 2);
    mde_json_free(c, root);
    csv = mde_csv_read(c, path);
    CHECK(csv == NULL);
    CHECK_TEXT(mde_error(c), "test_files_tmp.txt line 2: the row has 1 cells; the header has 2");
    mde_clear_error(c);
    CHECK(mde_safetensors_read(c, path) == NULL);
    CHECK_TEXT(mde_error(c), "test_files_tmp.txt: is not a safetensors file");
    mde_clear_error(c);
    CHECK(mde_npy_read(c, path, 0) == NULL);
    CHECK_TEXT(mde_error(c), "test_files_tmp.txt: is not a .npy file");
    mde_clear_error(c);
    remove(path);
    CHECK(mde_json_read(c, path) == NULL && mde_context_status(c) == MDE_IO);
    mde_clear_error(c);
    CHECK(mde_csv_read(c, path) == NULL && mde_context_status(c) == MDE_IO);
    mde_clear_error(c);
    CHECK(mde_safetensors_read(c, NULL) == NULL && mde_context_status(c) == MDE_BAD_ARGUMENT);
    mde_text_free(t);
    CHECK(c->held == 0 && mde_text_write(NULL, path) == MDE_BAD_ARGUMENT);
    mde_context_free(c);
}

/* Binary files cut off anywhere, and JSON cut off before its closing brace, are errors; no cut is a fault. */
static void a_file_cut_off_at_any_byte_is_an_error(void)
{
    mde_context *c = mde_context_create(NULL);
    unsigned char bytes[FUZZ_SIZE];
    int parser, which;
    for (parser = 0; parser < FUZZ_PARSERS; parser++) {
        for (which = 0; which < 6; which++) {
            size_t size = fuzz_sample(parser, which, bytes), cut;
            for (cut = 0; cut < size; cut++) {
                void *result = NULL;
                fuzz_one(c, parser, bytes, cut);
                if (parser == FUZZ_NPY) result = mde_npy_parse(c, "x", bytes, cut, 0);
                if (parser == FUZZ_SAFETENSORS) result = mde_safetensors_parse(c, "x", bytes, cut);
                if (parser >= FUZZ_TOKENIZER) continue;
                if (parser == FUZZ_JSON && cut + 1 < size) result = mde_json_parse(c, "x", (const char *)bytes, cut);
                CHECK(result == NULL);
                mde_clear_error(c);
            }
            if (size) {
                double sum = fuzz_one(c, parser, bytes, size);
                CHECK(c->held == fuzz_arena(c) && (parser < FUZZ_TOKENIZER || sum > 0));
            }
        }
    }
    mde_context_free(c);
}

static void twenty_thousand_mutated_files_do_no_harm(void)
{
    double sum = fuzz_run(20000);
    CHECK(sum == sum || sum != sum);        /* a fault would have ended the program */
}

static void *parse_sample(mde_context *c, int parser, const unsigned char *bytes, size_t size)
{
    switch (parser) {
    case FUZZ_JSON: return mde_json_parse(c, "x", (const char *)bytes, size);
    case FUZZ_CSV: return mde_csv_parse(c, "x", (const char *)bytes, size);
    case FUZZ_SAFETENSORS: return mde_safetensors_parse(c, "x", bytes, size);
    case FUZZ_TOKENIZER: return mde__tokenizer_parse(c, "x", bytes, size);
    case FUZZ_INDEX: case FUZZ_CONFIG: return mde_json_parse(c, "x", (const char *)bytes, size);
    default: return mde_npy_parse(c, "x", bytes, size, parser == FUZZ_NPY_DOUBLE);
    }
}

/* What is parsed, or if it is none of these, written. */
typedef struct sample { int parser; size_t size; unsigned char bytes[FUZZ_SIZE]; } sample;

static void parse_or_write(mde_context *c, void *user)
{
    static const char *const metadata[2] = { "a", "b" };
    static const int64_t shape[1] = { 1 };
    static const float one = 1;
    const char *path = "test_files_tmp.bin";
    const sample *s = (const sample *)user;
    void *result = NULL;
    if (!c) return;
    if (s->parser < FUZZ_PARSERS) {
        result = parse_sample(c, s->parser, s->bytes, s->size);
        CHECK((result == NULL) == (mde_context_status(c) == MDE_OUT_OF_MEMORY));
    } else if (s->parser == FUZZ_PARSERS) {
        CHECK(mde_npy_write(c, path, 1, shape, &one) == mde_context_status(c));
    } else if (s->parser == FUZZ_PARSERS + 1) {
        mde_safetensor t;
        fill_tensor(&t, "t", 0, 0, 0, &one);
        CHECK(mde_safetensors_write(c, path, 1, &t, 1, metadata) == mde_context_status(c));
    } else {
        mde_text *t = mde_text_create(c);
        int i;
        for (i = 0; i < 1000; i++) mde_text_format(t, "%d,", i);
        CHECK(!t || t->length <= 3890);
        mde_text_free(t);
    }
    if (!result) CHECK(c->held == 0);
}

static void every_failed_allocation_is_an_error_and_leaks_nothing(void)
{
    sample s;
    for (s.parser = 0; s.parser < FUZZ_PARSERS + 3; s.parser++) {
        s.size = s.parser < FUZZ_PARSERS ? fuzz_sample(s.parser, 0, s.bytes) : 0;
        CHECK(test_failing_allocations(parse_or_write, &s, 100) > 2);
    }
    remove("test_files_tmp.bin");
}

/* Under a locale with a decimal comma numbers still print and parse with a point. */
static void numbers_do_not_depend_on_the_locale(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_text *t = mde_text_create(c);
    mde_json *root = parse_json(c, "[1.5e3]");
    mde_csv *csv = parse_csv(c, "a\n0.25\n");
    CHECK(root && root->child->number == 1500);
    CHECK(csv && mde_csv_number(csv, 0, 0) == 0.25);
    mde_text_format(t, "%g %.2f", 0.5, 1234.5);
    mde_text_add_number(t, 0.125, 3);
    mde_text_add_fixed(t, -0.125, 3);
    CHECK(t && strcmp(t->bytes, "0.5 1234.500.125-0.125") == 0);
    csv = parse_csv(c, "a\n\"0,25\"\n");
    CHECK(csv && isnan(mde_csv_number(csv, 0, 0)) && mde_context_status(c) == MDE_BAD_FILE);
    mde_context_free(c);
}

static int set_comma_locale(void)
{
    static const char *const names[] = { "de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8", "nl_NL.UTF-8",
                                         "it_IT.UTF-8", "es_ES.UTF-8", "pt_BR.UTF-8", "ru_RU.UTF-8", "German" };
    size_t i;
    for (i = 0; i < COUNT(names); i++) {
        if (setlocale(LC_ALL, names[i]) && strcmp(localeconv()->decimal_point, ".") != 0) return 1;
    }
    setlocale(LC_ALL, "C");
    return 0;
}

int main(void)
{
    TEST(numbers_print_as_asked);
    TEST(a_text_grows_and_formats);
    TEST(text_is_escaped_for_json_and_html);
    TEST(a_format_for_pages_escapes_its_strings_and_nothing_else);
    TEST(csv_cells_round_trip);
    TEST(json_text_round_trips);
    TEST(the_json_writer_places_commas_and_lines);
    TEST(wrong_use_of_the_json_writer_is_an_error);
    TEST(json_is_read_as_a_tree);
    TEST(wrong_json_is_refused_with_its_place);
    TEST(json_nests_64_levels_and_no_more);
    TEST(large_json_is_read);
    TEST(csv_is_read_with_quotes_blank_lines_and_either_line_end);
    TEST(csv_is_parted_by_what_the_header_has_more_of);
    TEST(blanks_around_a_cell_do_not_count);
    TEST(wrong_csv_is_refused_with_its_line);
    TEST(npy_types_are_read_in_both_byte_orders);
    TEST(every_half_is_converted_exactly);
    TEST(npy_fortran_order_is_transposed);
    TEST(npy_headers_may_vary_in_order_quotes_and_space);
    TEST(wrong_npy_is_refused);
    TEST(npy_files_round_trip_bit_by_bit);
    TEST(a_large_npy_is_read_in_blocks);
    TEST(safetensors_are_read_from_three_types);
    TEST(other_tensors_are_passed_over);
    TEST(a_list_of_files_is_read_as_one);
    TEST(wrong_safetensors_are_refused);
    TEST(safetensors_files_round_trip_and_are_the_same_bytes_each_time);
    TEST(safetensors_that_could_not_be_read_are_not_written);
    TEST(files_read_by_name_name_themselves_in_errors);
    TEST(a_file_cut_off_at_any_byte_is_an_error);
    TEST(twenty_thousand_mutated_files_do_no_harm);
    TEST(every_failed_allocation_is_an_error_and_leaks_nothing);
    if (set_comma_locale()) {
        TEST(numbers_do_not_depend_on_the_locale);
        TEST(numbers_print_as_asked);
    } else {
        test_skip("numbers_do_not_depend_on_the_locale", "no locale with a decimal comma is installed");
    }
    return test_end();
}
