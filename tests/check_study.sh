#!/bin/sh
# The study of mixtures of data experts as one who adds rows meets it: on made-up text a few runs, stopped, killed, by
# one thread and two; wrong input; and its page, which is that of the repository's rows.
# Closes with "N passed, N failed" like the test programs. CC as in the Makefile.
set -u
cd "$(dirname "$0")/.." || exit 1
CC=${CC:-cc}
. tests/try.sh
. tests/program.sh

flags="-std=c99 -O1 $(openmp_flag)"
try the_runs_build sh -c "$CC $flags bench/study_mde.c -o '$work/study_mde' -lm"
try the_tables_build sh -c "$CC $flags bench/study_tables.c -o '$work/study_tables' -lm"
or_leave "$work/study_mde"
or_leave "$work/study_tables"

# Ten domains, each with the shape that its task looks for.
for domain in essays manuals c encyclopedia perl german theorems bible dictionary javascript; do
    mkdir -p "$work/data/$domain"
    awk -v domain=$domain 'function word(  i, w) { w = ""
                               for (i = 0; i < 3 + int(6 * rand()); i++) w = w substr("etaoinsrhldcumfp", 1 + int(16 * rand()), 1)
                               return w }
        BEGIN { srand(length(domain) + index("abcdefghij", substr(domain, 1, 1)))
                for (n = 1; n <= 900; n++) {
                    line = word() " " word() " " word() " " word() " " word()
                    if (domain == "bible") print "Ge1:" n " And " line
                    else if (domain == "dictionary") print "   The " line ".\n   [1913 Webster]\n"
                    else if (domain == "javascript") print "var name" 1000 + int(9000 * rand()) " = " line ";"
                    else print line "." } }' > "$work/data/$domain/text.txt"
done

# rows FOLDER: its results without the seconds, sorted
rows() { sed 's/,[^,]*$//' "$1/runs.csv" | LC_ALL=C sort; }
run() { folder=$1; shift; "$work/study_mde" --data "$work/data" --out "$folder" --work "$folder.work" --scale 0.001 "$@"; }

try a_piece_of_the_study_runs run "$work/one" --runs 8 --threads 1
try every_run_is_a_row test "$(wc -l < "$work/one/runs.csv")" -eq 9
try experts_that_are_there_predict grep -q '^fit-01,matched-gated,' "$work/one/features.csv"
try and_plan_their_optimum grep -q '^optimum-both-1,' "$work/one/plan.csv"

"$work/study_mde" --data "$work/data" --out "$work/two" --work "$work/two.work" --scale 0.001 > "$work/output" 2>&1 &
process=$!
while kill -0 $process 2> /dev/null && [ ! -s "$work/two/runs.csv" ]; do sleep 0.1; done
kill -9 $process 2> /dev/null
wait $process 2> /dev/null
there=$(($(wc -l < "$work/two/runs.csv") - 1))
try a_killed_study_goes_on_with_two_threads run "$work/two" --runs $((8 - there)) --threads 2
rows "$work/one" > "$work/rows.one"
rows "$work/two" > "$work/rows.two"
try to_the_same_rows cmp "$work/rows.one" "$work/rows.two"
LC_ALL=C sort "$work/one/features.csv" > "$work/rows.one"
LC_ALL=C sort "$work/two/features.csv" > "$work/rows.two"
try and_the_same_features cmp "$work/rows.one" "$work/rows.two"

# On another machine the rows are there and the experts are not: choices that wait for them have them made again.
cp -r "$work/one" "$work/moved"
for table in plan features; do grep -v '^optimum' "$work/one/$table.csv" > "$work/moved/$table.csv"; done
try choices_that_lack_the_experts_wait_for_them run "$work/moved" --runs 6
try and_are_not_planned sh -c "! grep -q '^optimum' '$work/moved/plan.csv'"
try the_last_expert_is_made_again run "$work/moved" --runs 1
LC_ALL=C sort "$work/one/plan.csv" > "$work/rows.one"
LC_ALL=C sort "$work/moved/plan.csv" > "$work/rows.two"
try and_the_choices_are_the_same cmp "$work/rows.one" "$work/rows.two"

run "$work/one" --scale 0.002 > "$work/stdout" 2> "$work/stderr"
try rows_of_other_settings_are_left_alone grep -q 'rows are of other settings or other text' "$work/stderr"
mv "$work/data/perl" "$work/perl"
run "$work/three" > "$work/stdout" 2> "$work/stderr"
try a_domain_that_is_missing_is_named grep -q 'data/perl: is not there; `make data` fetches it' "$work/stderr"
try and_nothing_is_made test ! -e "$work/three"
sed 's/^uniform-1,[^,]*/uniform-1,/' "$work/one/runs.csv" > "$work/runs.csv" && mv "$work/runs.csv" "$work/one/runs.csv"
"$work/study_tables" "$work/one" "$work/one" > "$work/stdout" 2> "$work/stderr"
try a_damaged_row_is_named grep -q 'runs.csv line [0-9]*: essays is not a number' "$work/stderr"

mkdir -p "$work/page/study" && cp bench/study/*.csv "$work/page/study"
try the_page_is_made "$work/study_tables" "$work/page/study" "$work/page"
try and_is_that_of_the_rows cmp "$work/page/STUDY-MDE.md" bench/STUDY-MDE.md
for picture in curves.svg mde.svg; do
    [ -f "$work/page/study/$picture" ] || continue
    try "$picture is, too" cmp "$work/page/study/$picture" "bench/study/$picture"
done

finish
