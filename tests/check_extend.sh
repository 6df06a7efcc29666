#!/bin/sh
# "Where to add" in the header's opening is true: on a scratch copy, an op, a kernel, a regressor and a file format are
# added by the edits that it names and no other; a program uses all four. Ends with "N passed, N failed".
cd "$(dirname "$0")/.." || exit 1
CC=${CC:-cc}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
passed=0
failed=0
header=$work/mdemix.h
cp mdemix.h "$header"

# verdict NAME STATUS
verdict() {
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok   $1"
    else
        failed=$((failed + 1))
        echo "FAIL $1"
    fi
}

# edit after|before|append LINE: the text on the input goes behind or in front of the one line that begins with LINE, or
# to its end. Counts itself.
edit() {
    edits=$((edits + 1))
    cat > "$work/text"
    awk -v how="$1" -v line="$2" -v file="$work/text" '
        BEGIN { while ((getline part < file) > 0) text = text (text == "" ? "" : "\n") part }
        index($0, line) == 1 {
            found++
            if (how == "before") print text
            if (how == "append") print $0 text
            else print
            if (how == "after") print text
            next
        }
        { print }
        END { if (found != 1) { printf "    %d lines begin with \"%s\", expected 1\n", found, line; exit 1 } }
    ' "$header" > "$work/edited" || { tail -n 1 "$work/edited"; missed=1; return 1; }
    mv "$work/edited" "$header"
}

# count NAME LIMIT: closes the edits of an addition
count() {
    [ "$edits" -le "$2" ] && [ $missed -eq 0 ]
    verdict "$1_takes_${edits}_edits" $?
    edits=0
    missed=0
}
edits=0
missed=0

# ---- An op of one element: softplus, log(1 + e^x) ----

edit after 'MDEDEF mde_tensor *mde_relu(mde_context *c, mde_tensor *x);' <<'END'
MDEDEF mde_tensor *mde_softplus(mde_context *c, mde_tensor *x);
END
edit append '#define MDE__PLAIN_FUNCTIONS(X)' <<'END'
 X(softplus)
END
edit before '/* ---- Elements: out[0] from in[0] (and in[1]) ---- */' <<'END'
static inline MDE__V MDE__K(softplus_of)(MDE__V x)
{
    MDE__V positive = MDE__K(relu_of)(x);
    MDE__V e = MDE__K(exp_of)(x - positive - positive);         /* of -|x| */
    return positive + MDE__K(log_of)(e + MDE__K(set)(1.0f));
}

END
edit before '/* Of each function: how the op runs, its row, and what users call. */' <<'END'
static void mde__softplus_vjp(MDE__VJP)
{
    (void)want;
    din[0] = mde_mul(c, g, mde_sigmoid(c, node->in[0]));
}

END
count an_op_of_one_element 4

# ---- A kernel: cubes ----

edit after '#define MDE__KERNELS(JOB, OTHER)' <<'END'
    JOB(cube) \
END
edit after 'MDE__GATED_FUNCTIONS(MDE__UNARY)' <<'END'

static void MDE__K(cube)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t i;
    for (i = from; i < to; i++) j->out[0][i] = j->in[0][i] * j->in[0][i] * j->in[0][i];
}
END
count a_kernel 2

# ---- A regressor: what the nearest run gave ----

edit after '    MDE_TREES, ' <<'END'
    MDE_NEAREST,                /* the losses of the nearest run */
END
edit before '/* ---- Fitting and predicting ---- */' <<'END'
/* ---- The nearest run ---- */

typedef struct mde__nearest { double *spread; } mde__nearest;       /* [m] root mean square error of runs left out */

static void mde__nearest_lay_out(mde_regressor *r, const mde_fit_desc *desc, mde__workspace *memory)
{
    (void)desc;
    ((mde__nearest *)r->state)->spread = mde__take(memory, (size_t)r->m, 1);
}

static size_t mde__nearest_work(const mde_regressor *r)
{
    (void)r;
    return 0;
}

/* The run nearest to standardised x, but for one. */
static int mde__nearest_run(const mde_regressor *r, const double *x, int but)
{
    int best = -1, i, k;
    double minimum = 0;
    for (i = 0; i < r->n; i++) {
        double square = 0;
        for (k = 0; k < r->used; k++) {
            double difference = r->x[mde__cell(i, r->used, k)] - x[k];
            square += difference * difference;
        }
        if (i != but && (best < 0 || square < minimum)) {
            best = i;
            minimum = square;
        }
    }
    return best;
}

static int mde__nearest_fit(mde_regressor *r, int target, double *work)
{
    const double *y = mde__target(r, target);
    double sum = 0;
    int i;
    (void)work;
    for (i = 0; i < r->n; i++) {
        double left_out = y[mde__nearest_run(r, r->x + mde__cell(i, r->used, 0), i)];
        mde__leave_out(r, target, i, left_out);
        sum += (left_out - y[i]) * (left_out - y[i]);
    }
    ((mde__nearest *)r->state)->spread[target] = sqrt(sum / r->n);
    return 1;
}

static void mde__nearest_predict(const mde_regressor *r, const mde__inputs *in, double *mean, double *sd, double *work)
{
    const mde__nearest *s = (const mde__nearest *)r->state;
    int i, j;
    (void)work;
    for (i = 0; i < in->rows; i++) {
        int run = mde__nearest_run(r, in->x + mde__cell(i, r->used, 0), -1);
        for (j = 0; j < r->m; j++) {
            if (!(r->target_sd[j] > 0)) continue;
            mean[mde__cell(i, r->m, j)] = r->target_mean[j] + r->target_sd[j] * mde__target(r, j)[run];
            if (sd) sd[mde__cell(i, r->m, j)] = r->target_sd[j] * s->spread[j];
        }
    }
}

static const mde__regressor_kind mde__nearest_kind = {
    "nearest run", MDE_FEATURE_RAW, MDE_FEATURE_OWN, 0, 0, 0, sizeof(mde__nearest), 0,
    mde__nearest_lay_out, NULL, mde__nearest_work, mde__nearest_fit, "", NULL, mde__nearest_predict, NULL, NULL, NULL
};

END
edit after '    static const struct { mde_model model; const mde__regressor_kind *kind; } kinds[] = {' <<'END'
        { MDE_NEAREST, &mde__nearest_kind },
END
count a_regressor 3

# ---- A file format: numbers between spaces, on one line ----

edit before '/* safetensors: named float tensors' <<'END'
MDEDEF mde_array *mde_line_parse(mde_context *c, const char *name, const char *text, size_t length);
#ifndef MDE_NO_STDIO
MDEDEF mde_array *mde_line_read(mde_context *c, const char *path);
#endif
END
edit before '/* ---- safetensors ---- */' <<'END'
/* ---- Numbers on one line ---- */

MDEDEF mde_array *mde_line_parse(mde_context *c, const char *name, const char *text, size_t length)
{
    mde_array *a = (mde_array *)mde_alloc(c, 1, sizeof *a);
    size_t from = 0, to;
    if (a) a->f64 = (double *)mde_alloc(c, length / 2 + 1, sizeof *a->f64);
    while (!mde__bad(c) && from < length) {
        for (to = from; to < length && text[to] != ' ' && text[to] != '\n'; to++) continue;
        if (!mde__parse_number(text + from, to - from, a->f64 + a->count)) {
            mde_fail(c, MDE_BAD_FILE, "%s: number %lld is none", name, (long long)a->count + 1);
        }
        a->count++;
        from = to + 1;
    }
    if (!mde__bad(c)) {
        a->rank = 1;
        a->shape[0] = (int64_t)a->count;
        return a;
    }
    mde_array_free(c, a);
    return NULL;
}

#ifndef MDE_NO_STDIO
MDEDEF mde_array *mde_line_read(mde_context *c, const char *path)
{
    size_t size = 0;
    char *bytes = (char *)mde_file_read(c, path, INT_MAX, &size);
    mde_array *a = bytes ? mde_line_parse(c, path, bytes, size) : NULL;
    mde_release(c, bytes);
    return a;
}
#endif

END
count a_file_format 2

# ---- A program that uses them ----

cat > "$work/program.c" <<'END'
#define MDEDEF static
#define MDEMIX_IMPLEMENTATION
#include "mdemix.h"
#include "test.h"

/* Value and derivative in double precision, over more elements than a vector holds, with every instruction set. */
static void the_op_agrees_with_differences(void)
{
    int64_t n = 37;
    int set, i;
    for (set = MDE_SIMD_PORTABLE; set <= MDE_SIMD_AVX512; set++) {
        mde_context_desc desc;
        mde_context *c;
        mde_tensor *x, *y, *slope, *second;
        memset(&desc, 0, sizeof desc);
        desc.simd = set;
        c = mde_context_create(&desc);
        x = mde_tensor_create(c, 1, &n);
        for (i = 0; x && i < n; i++) x->data[i] = (float)(i - 18) * 0.7f;
        if (x) x->requires_grad = 1;
        y = mde_softplus(c, x);
        if (mde_grad(c, mde_sum(c, y), 1, &x, &slope, 1) == MDE_OK) {
            mde_grad(c, mde_sum(c, slope), 1, &x, &second, 0);
            for (i = 0; i < n; i++) {
                double at = (double)x->data[i], h = 1e-4;
                CLOSE(y->data[i], log1p(exp(at)), 1e-6);
                CLOSE(slope->data[i], (log1p(exp(at + h)) - log1p(exp(at - h))) / (2 * h), 1e-6);
                CLOSE(second->data[i], (1 / (1 + exp(-at - h)) - 1 / (1 + exp(h - at))) / (2 * h), 1e-6);
            }
        } else {                                    /* an instruction set that is not here */
            CHECK(set != MDE_SIMD_PORTABLE);
            CHECK_TEXT(mde_error(c), "CPU");
        }
        mde_context_free(c);
    }
}

static void the_op_has_a_row_in_the_table(void)
{
    int i, rows = 0;
    for (i = 0; i < mde_op_count(); i++) rows += strcmp(mde_op_row(i)->name, "softplus") == 0;
    CHECK(rows == 1);
}

static void the_kernel_runs(void)
{
    mde_context *c = mde_context_create(NULL);
    float x[37], y[37];
    mde__job job = mde__new_job(x, NULL, y);
    int i;
    for (i = 0; i < 37; i++) x[i] = (float)(i - 18);
    mde__kernel_cube(c->simd)(&job, 0, 37);
    for (i = 0; i < 37; i++) CHECK(y[i] == x[i] * x[i] * x[i]);
    mde_context_free(c);
}

static void the_regressor_fits_and_predicts(void)
{
    static const double x[4] = { 0, 1, 3, 7 }, y[8] = { 1, 5, 2, 5, 3, 5, 4, 5 }, at[2] = { 2.5, 6 };
    mde_context *c = mde_context_create(NULL);
    mde_fit_desc desc;
    mde_regressor *r;
    double mean[4], sd[4], left_out[8];
    memset(&desc, 0, sizeof desc);
    desc.model = MDE_NEAREST;
    r = mde_regressor_fit(c, 4, 1, 2, x, y, &desc);
    CHECK(mde_regressor_predict(r, 2, at, mean, sd) == MDE_OK);
    CLOSE(mean[0], 3, 1e-12);
    CLOSE(mean[2], 4, 1e-12);
    CHECK(mean[1] == 5 && mean[3] == 5);            /* the same in all runs */
    CLOSE(sd[0], 1, 1e-12);                         /* without itself a run is told 2, 1, 2, 3 */
    CHECK(mde_regressor_left_out(r, left_out) == MDE_OK);
    CLOSE(left_out[0], 2, 1e-12);
    CLOSE(left_out[4], 2, 1e-12);
    mde_context_free(c);
}

static void the_file_format_is_read_and_refused(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_array *a;
    mde_file_write(c, "numbers", "1 -2.5 3e2\n", 11);
    a = mde_line_read(c, "numbers");
    CHECK(a && a->count == 3 && a->f64[0] == 1 && a->f64[1] == -2.5 && a->f64[2] == 300);
    mde_array_free(c, a);
    mde_file_write(c, "numbers", "1 two", 5);
    CHECK(!mde_line_read(c, "numbers") && mde_context_status(c) == MDE_BAD_FILE);
    CHECK_TEXT(mde_error(c), "numbers: number 2");
    mde_context_free(c);
}

int main(void)
{
    TEST(the_op_agrees_with_differences);
    TEST(the_op_has_a_row_in_the_table);
    TEST(the_kernel_runs);
    TEST(the_regressor_fits_and_predicts);
    TEST(the_file_format_is_read_and_refused);
    return test_end();
}
END
$CC -std=c99 -O1 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -I"$work" -Itests "$work/program.c" \
    -o "$work/program" -lm > "$work/log" 2>&1
status=$?
grep -E 'error|warning' "$work/log" | head -n 12 | sed 's/^/    /'
verdict the_extended_header_compiles_without_a_warning $status
if [ $status -eq 0 ]; then
    (cd "$work" && ./program) > "$work/log" 2>&1
    grep -v '^[0-9]* passed' "$work/log"
    passed=$((passed + $(grep -c '^ok' "$work/log")))
    failed=$((failed + $(grep -c '^FAIL' "$work/log")))
    tail -n 1 "$work/log" | grep -q '^5 passed, 0 failed$'
    verdict the_program_runs_to_its_end $?
fi

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
