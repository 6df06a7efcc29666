#!/bin/sh
# The page of `make web` as a visitor has it: one file of less than 1.5 MB that asks for no other, used in headless
# Chromium with clicks, keys and files by tests/web.js; its numbers are compared byte for byte with those of native
# programs. Pictures of it go to build/web. Ends with "N passed, N failed[, N skipped]".
cd "$(dirname "$0")/.." || exit 1
LC_ALL=C
export LC_ALL
CC=${CC:-cc}
page=build/web/index.html
. tests/try.sh

# What `make web` needs, beyond the program of each name.
links() {
    echo 'int main(void) { return 0; }' > "$work/empty.c"
    NODE_PATH=${NODE_PATH:-/usr/share/nodejs} emcc -O2 "$work/empty.c" -o "$work/empty.js" > "$work/log" 2>&1
}
for tool in emcc node; do
    command -v $tool > /dev/null 2>&1 || { skip the_page "$tool is not installed"; finish; }
done
links || { skip the_page "emcc links nothing here: $(grep -m 1 Error "$work/log")"; finish; }

is_one_small_file() {
    [ "$(wc -c < $page)" -lt 1500000 ] || { wc -c $page; return 1; }
    # There is no address but the name of SVG's namespace; nothing is loaded by a tag, a style or a script.
    ! grep -n -o -i -E '(https?:)?//[a-z0-9.-]+\.(com|org|net|io)[^" )]*' $page | grep -v 'www.w3.org/2000/svg' &&
        ! grep -n -E '<(link|script|img|iframe)[^>]* (src|href)="[^"d]|@import|url\(' $page
}
try the_page_is_built make web
try it_is_one_small_file is_one_small_file

chromium=
for tool in chromium chromium-browser google-chrome; do
    [ -n "$chromium" ] || chromium=$(command -v $tool)
done
[ -n "$chromium" ] || { skip the_visit "chromium is not installed"; finish; }

mkdir "$work/page"
cp examples/data/*.csv "$work"
cp examples/data/opticks.txt "$work/prose.txt"
cp examples/plot.h "$work/program.txt"
cp examples/weights/omniglot.compact.safetensors "$work/generator.safetensors"
printf 'run,code,web\na1,0.5,0.5\na2,much,0.5\n' > "$work/rubbish.csv"

limit=
command -v timeout > /dev/null 2>&1 && limit="timeout 420"
# shellcheck disable=SC2086
$limit node tests/web.js "$chromium" $page "$work" | tee "$work/visit"
passed=$((passed + $(grep -c '^ok' "$work/visit")))
failed=$((failed + $(grep -c '^FAIL' "$work/visit")))
grep -q '^ok   nothing_was_fetched' "$work/visit" || try the_visit_came_to_its_end false

# Same bits as native: mix_optimize by its options, and the page's other functions.
native() {
    $CC -std=c99 -O1 tests/web_native.c -o "$work/native" -lm && (
        cd "$work" &&
            ./native --ratios ratios.csv --losses losses.csv --domains domains.csv --target-tokens 1e12 --max-epochs 4 \
                --suggest 4 --out out --quiet && mv out report && ./native
    )
}
try the_same_runs_natively native
for file in report.json mixture.json report.html held_out.csv compare.csv next_runs.csv; do
    try "${file%.*}_${file##*.}_has_the_same_bytes_as_native" cmp "$work/report/$file" "$work/page/$file"
done
for file in "$work"/page/*.json; do
    name=$(basename "$file" .json)
    case $name in report | mixture) continue ;; esac
    try "${name}_has_the_same_bytes_as_native" cmp "$work/answers/$name.json" "$file"
done
finish
