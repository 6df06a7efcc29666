#!/bin/sh
# The study of mixtures of data experts as one who adds rows meets it: on made-up text a few runs and merged experts,
# stopped, killed, by one thread and two, and of an older study; wrong input; and its page, which is that of the
# repository's rows.
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

# same_rows FOLDER FOLDER, same_table NAME FOLDER FOLDER: in any order
same_rows() { rows "$1" > "$work/rows.one" && rows "$2" > "$work/rows.two" && cmp "$work/rows.one" "$work/rows.two"; }
same_table() {
    LC_ALL=C sort "$2/$1.csv" > "$work/rows.one" && LC_ALL=C sort "$3/$1.csv" > "$work/rows.two" &&
        cmp "$work/rows.one" "$work/rows.two"
}

# merges_alone_to_itself FOLDER KIND RUN: the mean of experts in which KIND-c has all the weight has the losses of RUN
merges_alone_to_itself() {
    grep "^expert-c,$2," "$1/features.csv" | cut -d, -f3- > "$work/rows.one"
    grep "^$3," "$1/runs.csv" | cut -d, -f2-15 > "$work/rows.two"
    [ -s "$work/rows.one" ] && cmp "$work/rows.one" "$work/rows.two"
}

# study FOLDER OPTION...: in place of the shell; run: beside it; run_until COMMAND: and is stopped when that succeeds
study() {
    folder=$1
    shift
    exec "$work/study_mde" --data "$work/data" --out "$folder" --work "$folder.work" --scale 0.001 "$@"
}
run() { (study "$@"); }
run_until() {
    condition=$1
    shift
    study "$@" &
    process=$!
    while kill -0 $process && ! $condition; do sleep 0.02; done 2> /dev/null
    kill $process
    wait $process
    [ $? -eq 130 ]
}

try a_piece_of_the_study_runs run "$work/one" --runs 8 --threads 1
try every_run_is_a_row test "$(wc -l < "$work/one/runs.csv")" -eq 9
try experts_that_are_there_predict grep -q '^fit-01,matched-gated,' "$work/one/features.csv"
try merged_ones_too merges_alone_to_itself "$work/one" merged expert-c
try and_plan_their_optimum grep -q '^optimum-both-1,' "$work/one/plan.csv"
grep -e '^start,start,S,0.25,1,' -e '^branch-[a-z]*,branch,S,0.75,2,' "$work/one/plan.csv" > "$work/rows.one"
try branches_are_planned test "$(wc -l < "$work/rows.one")" -eq 8

study "$work/two" > "$work/output" 2>&1 &
process=$!
while kill -0 $process 2> /dev/null && [ ! -s "$work/two/runs.csv" ]; do sleep 0.1; done
kill -9 $process 2> /dev/null
wait $process 2> /dev/null
there=$(($(wc -l < "$work/two/runs.csv") - 1))
is_merging() { grep -q ',merged,' "$work/two/features.csv"; }
try a_killed_study_goes_on_until_stopped run_until is_merging "$work/two" --runs $((8 - there)) --threads 2
try and_then_with_two_threads run "$work/two" --runs 0 --threads 2
try to_the_same_rows same_rows "$work/one" "$work/two"
try and_the_same_features same_table features "$work/one" "$work/two"

# On another machine the rows are there and the experts are not: choices that wait for them have them made again.
cp -r "$work/one" "$work/moved"
for table in plan features; do grep -v '^optimum' "$work/one/$table.csv" > "$work/moved/$table.csv"; done
try choices_that_lack_the_experts_wait_for_them run "$work/moved" --runs 6
try and_are_not_planned sh -c "! grep -q '^optimum' '$work/moved/plan.csv'"
try the_last_expert_is_made_again run "$work/moved" --runs 1
try and_the_choices_are_the_same same_table plan "$work/one" "$work/moved"

# An older study, its numbers made up: no branches in its plan, all its runs there, features of a few kinds. What it
# lacks of those from branches is four rows.
mkdir "$work/old" && cp "$work/one/study.json" "$work/old"
grep -v -e '^start,' -e '^branch-' "$work/one/plan.csv" > "$work/old/plan.csv"
for method in mde-weights weights regmix law law-kl; do
    sed -n "s/^optimum-domains-1,optimum/$method-domains-1,$method/p" "$work/one/plan.csv"
done >> "$work/old/plan.csv"
awk -F, 'NR == FNR { if (FNR == 1) print; else if ($1 == "uniform-1") row = $0; next }
         FNR > 1 { sub(/^[^,]*/, $1, row); print row }' "$work/one/runs.csv" "$work/old/plan.csv" > "$work/old/runs.csv"
awk -F, 'NR == FNR { if (FNR == 1) print; row = $0; sub(/^[^,]*,[^,]*/, "", row); next }
         $3 == "S" && $4 == 1 {
             n = split("mde gated matched matched-gated half quarter eighth narrow merged branched", kinds, " ")
             if ($1 ~ /^fit-0[1-3]|^expert-c$/) n--
             for (k = 1; k <= n; k++) print $1 "," kinds[k] row }' \
    "$work/one/features.csv" "$work/old/plan.csv" > "$work/old/features.csv"
cp -r "$work/old" "$work/cut"
try an_older_study_gets_branches run "$work/old" --threads 2
try all_of_them test "$(grep -c -e '^start,' -e '^branch-' "$work/old/runs.csv")" -eq 8
try and_their_features merges_alone_to_itself "$work/old" branched branch-c
at_the_start() { test -e "$work/cut.work/start.checkpoint"; }
try a_branch_is_stopped_on_the_way run_until at_the_start "$work/cut" --threads 1
try and_kept test -s "$work/cut.work/branch-essays.checkpoint"
try it_goes_on run "$work/cut" --threads 1
try to_the_rows_of_one_that_was_not_stopped same_rows "$work/old" "$work/cut"
try and_the_features same_table features "$work/old" "$work/cut"
rm -r "$work/cut.work"
grep -v '^fit-02,branched,' "$work/old/features.csv" > "$work/cut/features.csv"
try branches_that_are_gone_are_made_again run "$work/cut"
try for_the_feature_that_lacks_them same_table features "$work/old" "$work/cut"
try and_no_others test ! -e "$work/cut.work/expert-c.safetensors"

run "$work/one" --scale 0.002 > "$work/stdout" 2> "$work/stderr"
try rows_of_other_settings_are_left_alone grep -q 'rows are of other settings or other text' "$work/stderr"
mv "$work/data/perl" "$work/perl"
run "$work/three" > "$work/stdout" 2> "$work/stderr"
try a_domain_that_is_missing_is_named grep -q 'data/perl: is not there; `make data` fetches it' "$work/stderr"
try and_nothing_is_made test ! -e "$work/three"
sed 's/^uniform-1,[^,]*/uniform-1,/' "$work/one/runs.csv" > "$work/runs.csv" && mv "$work/runs.csv" "$work/one/runs.csv"
"$work/study_tables" "$work/one" "$work/one" > "$work/stdout" 2> "$work/stderr"
try a_damaged_row_is_named grep -q 'runs.csv line [0-9]*: essays is not a number' "$work/stderr"

# Features of other kinds in the place of those of merged experts, of as few rows as make a page.
mkdir "$work/few"
few='^(run|expert-[a-z]*|(fit|within|outside)-0[0-9]),'
for table in plan runs; do grep -E "$few" "bench/study/$table.csv" > "$work/few/$table.csv"; done
grep -E "$few" bench/study/features.csv | grep -v -e ',merged,' -e ',branched,' > "$work/few/features.csv"
try a_page_without_merged_experts "$work/study_tables" "$work/few" "$work/few"
try does_not_speak_of_them sh -c "! grep -q -i 'averaged weights' '$work/few/STUDY-MDE.md'"
sed -n 's/,mde,/,merged,/p; s/,half,/,branched,/p' "$work/few/features.csv" > "$work/rows.one"
cat "$work/rows.one" >> "$work/few/features.csv"
try a_page_with_them "$work/study_tables" "$work/few" "$work/few"
sed -n 's/^| averaged weights, same start | 7.0 /| all tokens | 7.0 /p
        s/^| averaged weights, branched from a trained start | 5.5 /| half of the tokens | 3.5 /p' \
    "$work/few/STUDY-MDE.md" > "$work/rows.one"
grep -e '^| all tokens ' -e '^| half of the tokens ' "$work/few/STUDY-MDE.md" > "$work/rows.two"
try has_a_row_for_each cmp "$work/rows.one" "$work/rows.two"

mkdir -p "$work/page/study" && cp bench/study/*.csv "$work/page/study"
try the_page_is_made "$work/study_tables" "$work/page/study" "$work/page"
try and_is_that_of_the_rows cmp "$work/page/STUDY-MDE.md" bench/STUDY-MDE.md
for picture in bench/study/*.svg; do
    try "${picture##*/} is, too" cmp "$work/page/study/${picture##*/}" "$picture"
done

finish
