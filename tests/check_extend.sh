#!/bin/sh
# "Where to add" in the header's opening and "How to add" in examples/INSIDE.md are true: on a scratch copy, an op, a
# kernel, a regressor and a file format are added by the edits that the page has and no other, as few as the opening
# names; a program uses all four. Ends with "N passed, N failed".
cd "$(dirname "$0")/.." || exit 1
CC=${CC:-cc}
. tests/try.sh
header=$work/mdemix.h
cp mdemix.h "$header"

# edit After|Before|At LINE: the text on the input goes behind or in front of the one line that begins with LINE, or to
# its end
edit() {
    cat > "$work/text"
    awk -v how="$1" -v line="$2" -v file="$work/text" '
        BEGIN { while ((getline part < file) > 0) text = text (text == "" ? "" : "\n") part }
        index($0, line) == 1 {
            found++
            if (how == "Before") print text
            if (how == "At") print $0 text
            else print
            if (how == "After") print text
            next
        }
        { print }
        END { if (found != 1) { printf "%d lines begin with \"%s\", expected 1\n", found, line; exit 1 } }
    ' "$header" > "$work/edited" || { tail -n 1 "$work/edited"; return 1; }
    mv "$work/edited" "$header"
}

# The page's blocks, in the order of their names: which addition, how, at which line, the text.
awk -v folder="$work" '
    /^### / { part = tolower(substr($0, 5)); gsub(/ /, "_", part) }
    /^(After|Before|At the end of) the line that begins with `.*`:$/ {
        how = $1
        line = $0
        sub(/^[^`]*`/, "", line)
        sub(/`:$/, "", line)
        next
    }
    /^```$/ { if (file) close(file); file = how = "" }
    file { print > file }
    /^```c$/ {
        if (how == "" || part == "") { print "line " NR ": no sentence says where the block goes"; bad = 1 }
        file = folder "/edit" sprintf("%02d", ++edits)
        printf "%s\n%s\n%s\n", part, how, line > file
    }
    END { exit bad || edits == 0 || file != "" }
' examples/INSIDE.md > "$work/log" || echo "its blocks cannot be read" >> "$work/log"
nothing_in "$work/log" the_page_says_of_each_block_where_it_goes

# add NAME LIMIT: makes the edits of an addition, one to so many
add() {
    edits=0
    missed=0
    for file in "$work"/edit[0-9][0-9]; do
        { IFS= read -r part; IFS= read -r how; IFS= read -r line; } < "$file"
        [ "$part" = "$1" ] || continue
        edits=$((edits + 1))
        sed 1,3d "$file" | edit "$how" "$line" || missed=1
    done
    echo "$edits edits"
    [ $edits -ge 1 ] && [ $edits -le "$2" ] && [ $missed -eq 0 ]
}
try an_op_of_one_element_takes_four_edits_at_most add an_op_of_one_element 4
try a_kernel_takes_two_edits_at_most add a_kernel 2
try a_regressor_takes_three_edits_at_most add a_regressor 3
try a_file_format_takes_two_edits_at_most add a_file_format 2

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
try the_extended_header_compiles_without_a_warning $CC -std=c99 -O1 -Wall -Wextra -Wpedantic -Wshadow -Wconversion \
    -Werror -I"$work" -Itests "$work/program.c" -o "$work/program" -lm
if [ -x "$work/program" ]; then
    (cd "$work" && ./program) > "$work/output" 2>&1
    grep -v '^[0-9]* passed' "$work/output"
    passed=$((passed + $(grep -c '^ok' "$work/output")))
    failed=$((failed + $(grep -c '^FAIL' "$work/output")))
    try the_program_runs_to_its_end sh -c "tail -n 1 '$work/output' | grep -q '^5 passed, 0 failed$'"
fi

finish
