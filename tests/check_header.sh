#!/bin/sh
# What the header says of itself is true, and what it must not do it does not do. Reads the source, compiles little.
# Ends with "N passed, N failed[, N skipped]".
cd "$(dirname "$0")/.." || exit 1
LC_ALL=C
export LC_ALL
CC=${CC:-cc}
header=mdemix.h
. tests/try.sh
. tests/program.sh

# The code without comments and with empty strings, every line in its place, its section's number in front of it.
awk '
    /^\/\* =====/ { banner = 1; print section ":"; next }
    banner == 1 && /^ +[0-9]+\. [A-Z]/ { section = $1 + 0; banner = 2 }
    banner && /==== \*\/$/ { banner = 0; print section ":"; next }
    {
        out = ""; line = $0; n = length(line)
        for (i = 1; i <= n; i++) {
            two = substr(line, i, 2); one = substr(line, i, 1)
            if (comment) { if (two == "*/") { comment = 0; i++ } }
            else if (text != "") { if (one == "\\") i++; else if (one == text) { text = ""; out = out one } }
            else if (two == "/*") { comment = 1; i++ }
            else if (one == "\"" || one == "\047") { text = one; out = out one }
            else out = out one
        }
        print (section == "" ? 1 : section) ":" out
    }' $header > "$work/code"
awk -F: '{ print $1 + 0 ":" NR ": " substr($0, index($0, ":") + 1) }' "$work/code" > "$work/lines"

# calls FUNCTIONS: the lines that call one of them, as section:line: text
calls() {
    grep -E "(^|[^A-Za-z0-9_>.])($1) *\(" "$work/lines"
}

# ---- The doc block ----

awk '/CONTENTS/ { on = 1; next } on && /^ +[0-9]+\. / { sub(/^ +/, ""); print; next } on && NF { exit }' $header > "$work/contents"
awk '/^\/\* =====/ { getline; sub(/^ +/, ""); if (/^[0-9]+\. [A-Z]/) print }' $header > "$work/banners"
diff "$work/contents" "$work/banners" > "$work/log"
[ -s "$work/contents" ] || echo "no contents in the doc block" >> "$work/log"
nothing_in "$work/log" contents_are_the_banners_in_order

awk '/^       #include <stdio.h>/ { on = 1 } on { print substr($0, 8) } on && /^       }$/ { exit }' $header > "$work/program.c"
cat > "$work/build_program" <<'END'
set -e
"$1" -std=c99 -O1 -DMDEDEF=static -I. "$2/program.c" -o "$2/program" -lm
"$2/program" > "$2/output"
cat "$2/output"
grep -q 'nats' "$2/output"
END
try the_program_of_the_doc_block_builds_and_runs sh "$work/build_program" "$CC" "$work"

awk '/^```c$/ { on = 1; next } /^```$/ { if (on) exit } on' README.md > "$work/program.c"
try the_program_of_the_readme_builds_and_runs sh "$work/build_program" "$CC" "$work"

awk 'length($0) > 120 { print FILENAME ":" FNR ": " length($0) " columns" }' ./*.h examples/*.[ch] examples/course/*.[ch] > "$work/log"
nothing_in "$work/log" lines_have_at_most_120_columns

# ---- One door for each thing ----

calls 'malloc|calloc|realloc|free|aligned_alloc|MDE_MALLOC|MDE_FREE' | grep -v -E '^(2|4):' > "$work/log"
nothing_in "$work/log" memory_comes_from_the_platform_section
calls 'fopen|freopen|fdopen|_wfopen|open|fclose|fread|fwrite|fseek|ftell|rename|remove|unlink|mkdir|opendir|readdir|stat' |
    grep -v '^4:' > "$work/log"
nothing_in "$work/log" files_are_opened_in_the_platform_section
calls 'time|clock|clock_gettime|gettimeofday|getpid|strtod|setlocale|localeconv' | grep -v '^4:' > "$work/log"
nothing_in "$work/log" clock_and_locale_are_met_in_the_platform_section
calls 'getenv|system|popen|exit|_exit|abort|assert|rand|srand|atof|atoi|sscanf|strtok|printf|puts|putchar|sprintf|strcpy|strcat|gets' \
    > "$work/log"
grep -n 'stdout' "$work/lines" >> "$work/log"
nothing_in "$work/log" no_call_that_exits_prints_or_depends_on_the_environment
awk -F: '/mde_print_progress\(/ && !/;$/ { inside = 1 }
         /(^|[^A-Za-z0-9_])(fprintf|fputs|fputc|fflush|stderr)([^A-Za-z0-9_]|$)/ && !inside { print }
         inside && /: }/ { inside = 0 }' "$work/lines" > "$work/log"
nothing_in "$work/log" only_print_progress_writes_to_stderr
calls '(exp|exp2|expm1|log|log2|log10|log1p|sin|cos|tan|sinh|cosh|tanh|asin|acos|atan|atan2|pow|cbrt|hypot|erf|erfc|lgamma|tgamma)[fl]?' \
    > "$work/log"
nothing_in "$work/log" no_function_of_libm_whose_bits_differ_between_machines

# ---- Names ----

# The public functions: what section 3 declares.
awk -F: '$1 == 3 { print substr($0, index($0, ":") + 1) }' "$work/code" | grep -v '^#' | tr '\n' ' ' | tr ';{}' '\n\n\n' |
    sed -n 's/^.*MDEDEF  *[^(]*[ *]\(mde_[A-Za-z0-9_]*\) *(.*/\1/p' | sort > "$work/declared"
awk -F: '$1 == 3 { print substr($0, index($0, ":") + 1) }' "$work/code" | grep -v '^#' | tr '\n' ' ' | tr ';{}' '\n\n\n' |
    grep -E '^ *[a-z].* \**mde_[a-z0-9_]* *\(' | grep -v -E 'typedef|\(\*' > "$work/log"
nothing_in "$work/log" every_public_declaration_starts_with_MDEDEF

# One object of the implementation serves all that follows. Without position-independent code a table of pointers is
# constant; the header twice does no harm.
printf '\043define MDEMIX_IMPLEMENTATION\n\043include "mdemix.h"\n\043include "mdemix.h"\n' > "$work/all.c"
printf 'int main(void) { return 0; }\n' > "$work/probe.c"
no_pie=
$CC -no-pie "$work/probe.c" -o "$work/probe" > /dev/null 2>&1 && no_pie=-no-pie
try the_implementation_compiles "$CC" -std=c99 -fno-pic -I. -c "$work/all.c" -o "$work/all.o"
if ! command -v nm > /dev/null 2>&1; then
    skip names_of_the_object_file "nm is not installed"
elif [ -f "$work/all.o" ]; then
    nm -g "$work/all.o" | awk 'NF == 3 { print $3 }' | sort > "$work/exported"
    diff "$work/declared" "$work/exported" > "$work/log"
    nothing_in "$work/log" what_is_declared_is_what_the_object_file_exports
    grep -v '^mde_[a-z]' "$work/exported" > "$work/log"
    nothing_in "$work/log" every_exported_name_starts_with_mde_
    nm "$work/all.o" | grep -E ' [BDCGSbdcgs] ' > "$work/log"
    nothing_in "$work/log" there_is_no_global_variable
    $CC -std=c99 -DMDE_NO_STDIO -I. -c "$work/all.c" -o "$work/no_stdio.o" > "$work/log" 2>&1
    nm -u "$work/no_stdio.o" | grep -E ' (fopen|fread|fwrite|fclose|rename|remove|mkdir|opendir|stat|__xstat)' >> "$work/log"
    nothing_in "$work/log" without_stdio_no_file_function_is_left
fi

# ---- Compile as users do ----

cat > "$work/one.c" <<'END'
#include "mdemix.h"
#include "mdemix.h"
const char *other(mde_context *c);
int main(void)
{
    mde_context *c = mde_context_create(NULL);
    int bad = other(c)[0] != 0;
    mde_context_free(c);
    return bad;
}
END
cat > "$work/two.c" <<'END'
#include "mdemix.h"
#ifdef __cplusplus
extern "C"
#endif
const char *other(mde_context *c);
const char *other(mde_context *c)
{
    return mde_error(c);
}
END
try two_translation_units_link "$CC" $no_pie -fno-pic -I. "$work/one.c" "$work/two.c" "$work/all.o" -o "$work/two" -lm
try two_translation_units_run "$work/two"
cp "$work/two.c" "$work/two.cc"
if command -v c++ > /dev/null 2>&1; then
    try a_c_plus_plus_unit_links_with_the_c_implementation sh -c \
        "c++ -fno-pic -I. -c '$work/two.cc' -o '$work/two.o' &&
        $CC $no_pie -fno-pic -I. '$work/one.c' '$work/two.o' '$work/all.o' -o '$work/mixed' -lm"
else
    skip a_c_plus_plus_unit_links_with_the_c_implementation "c++ is not installed"
fi
cat > "$work/private.c" <<'END'
#define MDEDEF static
#define MDEMIX_IMPLEMENTATION
#include "mdemix.h"
const char *other(mde_context *c);
const char *other(mde_context *c)
{
    mde_context *mine = mde_context_create(NULL);
    mde_context_free(mine);
    return mde_error((mde_context *)c);
}
END
try two_copies_live_in_one_program "$CC" $no_pie -fno-pic -O1 -I. "$work/one.c" "$work/private.c" "$work/all.o" -o "$work/copies" -lm

# Programs of many options have a check of their own, which builds them.
for file in examples/*.c; do
    example=$(basename "$file" .c)
    try "example_${example}_is_the_same_alone_beside_the_headers" is_the_same_alone "$example"
    grep -l "build_by_its_command $example " tests/check_*.sh > "$work/log" && continue
    try "example_${example}_builds_with_the_command_at_its_top" build_by_its_command "$example" "$work/program"
    grep -q '^#include "program.h"' "$file" && try "example_${example}_has_help_version_and_exit_codes" \
        has_help_version_and_exit_codes "$example" "$work/program"
done

# ---- The second header ----

if [ -f dagan.h ]; then
    awk '/^ *\/\*/ { on = 1 } !on { print FILENAME ":" FNR ": " $0 } /\*\// { on = 0 }' dagan.h > "$work/dagan"
    grep -E '(^|[^A-Za-z0-9_])(mde__|MDE__)' "$work/dagan" > "$work/log"
    nothing_in "$work/log" dagan_uses_only_the_public_names_of_mdemix
    grep -E '(^|[^A-Za-z0-9_>.])(malloc|calloc|realloc|free|fopen|fread|fwrite|fclose|rename|opendir|readdir|stat|time|clock|gettimeofday|getenv|system|exit|abort|assert|rand|printf|fprintf|puts|sprintf|strcpy|strcat) *\(' \
        "$work/dagan" > "$work/log"
    nothing_in "$work/log" dagan_leaves_memory_files_and_clock_to_mdemix
    grep -E '(^|[^A-Za-z0-9_>.])(exp|exp2|expm1|log|log2|log10|sin|cos|tan|sinh|cosh|tanh|asin|acos|atan|atan2|pow|cbrt|hypot)[fl]? *\(' \
        "$work/dagan" > "$work/log"
    nothing_in "$work/log" dagan_calls_no_function_of_libm_whose_bits_differ_between_machines
    awk '/CONTENTS/ { on = 1; next } on && /^ +[0-9]+\. / { sub(/^ +/, ""); print; next } on && NF { exit }' dagan.h > "$work/contents"
    awk '/^\/\* =====/ { getline; sub(/^ +/, ""); if (/^[0-9]+\. [A-Z]/) print }' dagan.h > "$work/banners"
    diff "$work/contents" "$work/banners" > "$work/log"
    nothing_in "$work/log" dagan_contents_are_the_banners_in_order
    printf '\043define DAGAN_IMPLEMENTATION\n\043include "dagan.h"\n' > "$work/dagan.c"
    try the_implementation_of_dagan_compiles "$CC" -std=c99 -fno-pic -I. -c "$work/dagan.c" -o "$work/dagan.o"
    if command -v nm > /dev/null 2>&1 && [ -f "$work/dagan.o" ]; then
        nm -g "$work/dagan.o" | awk 'NF == 3 { print $3 }' | grep -v '^dagan_[a-z]' > "$work/log"
        nothing_in "$work/log" every_exported_name_of_dagan_starts_with_dagan_
        nm "$work/dagan.o" | grep -E ' [BDCGSbdcgs] ' > "$work/log"
        nothing_in "$work/log" dagan_has_no_global_variable
    fi
    awk '/^       #include <stdio.h>/ { on = 1 } on { print substr($0, 8) } on && /^       }$/ { exit }' dagan.h > "$work/program.c"
    try the_program_of_the_second_doc_block_compiles "$CC" -std=c99 -I. -fsyntax-only "$work/program.c"
    printf '\043include "dagan.h"\nint main(void) { mde_context *c = mde_context_create(NULL); dagan_images_free(dagan_images_draw(c, 2, 2, 8, 1)); mde_context_free(c); return 0; }\n' > "$work/third.c"
    try the_two_implementations_link_from_two_translation_units \
        "$CC" $no_pie -fno-pic -std=c99 -I. "$work/all.o" "$work/dagan.o" "$work/third.c" -o "$work/three" -lm
    try the_two_implementations_run_together "$work/three"
fi

# ---- What must not be in any file ----

if git rev-parse --git-dir > /dev/null 2>&1; then
    git ls-files -co --exclude-standard | while read -r file; do [ -f "$file" ] && echo "$file"; done > "$work/files"
else
    find . -type f -not -path './build/*' -not -path './out/*' -not -path './data/*' > "$work/files"
fi
xargs grep -nIE '(^|[^A-Za-z0-9_.~/-])/(work|home|root|Users)/[A-Za-z]' < "$work/files" > "$work/log" 2> /dev/null
xargs grep -nI '/tmp/' < "$work/files" 2> /dev/null | grep -v -E '^(\./)?(tests|\.ci)/' >> "$work/log"
nothing_in "$work/log" no_file_names_a_path_of_one_machine
xargs grep -nIE '(TO''DO|FIX''ME|XX''X)' < "$work/files" > "$work/log" 2> /dev/null
nothing_in "$work/log" no_file_has_unfinished_business

finish
