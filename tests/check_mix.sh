#!/bin/sh
# mix_optimize as a person meets it: its help, tables that are right in unusual ways, and every way to be wrong.
# Closes with "N passed, N failed" like the test programs. CC as in the Makefile; MDEMIX_SHARED has real tables or none.
set -u
cd "$(dirname "$0")/.." || exit 1
CC=${CC:-cc}
shared=${MDEMIX_SHARED:-../shared}
. tests/try.sh
. tests/program.sh

mix="$work/mix_optimize"
try builds_with_the_command_at_its_top build_by_its_command mix_optimize "$mix"
or_leave "$mix"
try has_help_version_and_exit_codes has_help_version_and_exit_codes mix_optimize "$mix"
cd "$work" || exit 1

# 24 runs of 4 domains with 3 losses, from a generator of its own so that every awk makes the same.
make_runs() { # make_runs SEED ID RATIOS LOSSES
    awk -v x="$1" -v id="$2" -v ratios="$3" -v losses="$4" '
        function uniform() { x = (x * 16807) % 2147483647; return x / 2147483647 }
        BEGIN {
            print id ",web,code,books,wiki" > ratios
            print id ",news,math,talk" > losses
            for (run = 1; run <= 24; run++) {
                sum = rest = 0
                for (i = 1; i <= 4; i++) sum += w[i] = -log(uniform())
                for (i = 1; i < 4; i++) rest += w[i] = int(1000 * w[i] / sum) / 1000
                w[4] = 1 - rest
                printf "r%d,%.3f,%.3f,%.3f,%.3f\n", run, w[1], w[2], w[3], w[4] > ratios
                printf "r%d,%.5f,%.5f,%.5f\n", run, 3 + 0.5 * exp(-4 * w[1]) + 0.3 * exp(-3 * w[3]) + 0.01 * uniform(),
                    2.5 + 0.9 * exp(-5 * w[2]) + 0.1 * w[4] + 0.01 * uniform(),
                    3.2 + 0.4 * exp(-3 * w[1]) + 0.3 * exp(-6 * w[4]) + 0.01 * uniform() > losses
            }
        }'
}
make_runs 1 run ratios.csv losses.csv
make_runs 77 index test_ratios.csv test_losses.csv

# ---- Help and options ----

"$mix" --help >help.txt 2>stderr.txt
[ $? -eq 0 ] && [ ! -s stderr.txt ] && ok help_is_no_error || bad help_is_no_error
try help_names_every_option help_names_what_is_taken mix_optimize "$mix"
sed -n 's/.*{ "\(--[a-z-]*\)", PROGRAM_.*/\1/p' "$OLDPWD/examples/mix_optimize.c" "$OLDPWD/examples/program.h" >t.csv
printf '%s\n' --help --version >>t.csv
sort -u t.csv >u.csv
try help_is_the_list_of_the_source cmp u.csv named

# One clear line on stderr, the exit code, and no file written.
wrong() { # wrong CODE NAME EXPECTED ARGUMENTS...
    wanted=$1; name=$2; expected=$3; shift 3
    rm -rf out
    "$mix" "$@" >stdout.txt 2>stderr.txt </dev/null
    code=$?
    if [ $code -ne "$wanted" ]; then bad "$name" "exit code $code: $(head -c 300 stderr.txt)"
    elif [ "$(wc -l <stderr.txt)" -ne 1 ]; then bad "$name" "$(wc -l <stderr.txt) lines: $(head -c 300 stderr.txt)"
    elif [ -s stdout.txt ]; then bad "$name" "printed $(head -n 1 stdout.txt)"
    elif ! grep -q -e "$expected" stderr.txt; then bad "$name" "$(cat stderr.txt)"
    elif [ -d out ] && [ -n "$(ls out)" ]; then bad "$name" "wrote $(ls out)"
    else ok "$name"; fi
}
wrong 2 unknown_option "frobnicate is not an option" --frobnicate 3 --out out
wrong 2 option_without_value "\"\" is not a value" --ratios ratios.csv --out
wrong 2 value_behind_an_equals_sign "\"many\" is not a value" --ratios=ratios.csv --losses=losses.csv --suggest=many \
    --out=out
wrong 2 flag_with_a_value "nll takes no value" --nll=1 --out out
wrong 2 argument_that_is_none_of_the_options "one argument too many" ratios.csv --out out
wrong 2 number_that_is_none "\"many\" is not a value" --ratios ratios.csv --losses losses.csv --suggest many --out out
wrong 2 number_below_zero "\"-1\" is not a value" --ratios ratios.csv --losses losses.csv --kl -1 --out out
wrong 2 ratio_of_zero "\"0\" is not a value" --ratios ratios.csv --losses losses.csv --max-ratio 0 --out out
wrong 2 part_of_a_fold "\"2.5\" is not a value" --ratios ratios.csv --losses losses.csv --folds 2.5 --out out
wrong 2 seed_below_zero "\" -1\" is not a value" --ratios ratios.csv --losses losses.csv --seed " -1" --out out
wrong 2 missing_out "out names the folder" --ratios ratios.csv --losses losses.csv
wrong 2 unknown_acquisition "none of alc, ucb, ei, space" --ratios ratios.csv --losses losses.csv --acquisition best \
    --out out
wrong 2 acquisition_of_no_runs "chooses the runs of --suggest" --ratios ratios.csv --losses losses.csv \
    --acquisition ucb --out out
wrong 2 acquisition_without_runs "alc goes by runs, of which there are none" --domains domains.csv --suggest 4 \
    --acquisition alc --out out
tables() { # tables NAME EXPECTED RATIOS LOSSES OPTIONS...: what is wrong with two tables
    t_name=$1; t_expected=$2; t_ratios=$3; t_losses=$4; shift 4
    wrong 1 "$t_name" "$t_expected" --ratios "$t_ratios" --losses "$t_losses" --model ridge --quiet --out out "$@"
}
tables unknown_model 'model: "best" is none of' ratios.csv losses.csv --model best
tables unknown_features 'features: "cubes" is none of' ratios.csv losses.csv --features log+cubes
tables features_of_auto "chooses its own" ratios.csv losses.csv --model auto --features log
tables unknown_loss_in_objective "there is no metric chess" ratios.csv losses.csv --objective news=1,chess=2
tables weight_that_is_no_number 'the weight of news is "x"' ratios.csv losses.csv --objective news=x
tables objective_of_nothing "all weights are 0" ratios.csv losses.csv --objective news=0
tables one_fold "1 folds" ratios.csv losses.csv --folds 1
tables endless_caution "caution" ratios.csv losses.csv --caution inf
tables cap_that_leaves_no_mixture "upper bounds of all domains sum to" ratios.csv losses.csv --max-ratio 0.5
tables tokens_without_a_file "column tokens" ratios.csv losses.csv --target-tokens 1e9
wrong 1 nothing_to_go_by "nothing to go by" --out out
wrong 1 ratios_alone "ratios.csv is given alone" --ratios ratios.csv --out out
wrong 1 test_alone "runs to judge on need" --test-ratios ratios.csv --test-losses losses.csv --logp x --out out

# ---- Tables that are wrong ----

edit() { # edit FILE AWK: the losses or weights, changed
    awk -F, -v OFS=, "$2" "$1"
}
edit losses.csv 'NR == 5 { $1 = "r99" } { print }' >t.csv
tables ids_that_do_not_match "ratios.csv line 5: run r4 is not in t.csv" ratios.csv t.csv
edit losses.csv '{ print } END { print "r99,3,3,3" }' >t.csv
tables a_run_without_weights "t.csv line 26: run r99 is not in ratios.csv" ratios.csv t.csv
edit losses.csv 'NR == 7 { $1 = "r5" } { print }' >t.csv
tables a_run_twice "t.csv line 7: run r5 stands already in line 6" ratios.csv t.csv
tables no_steps_tell_checkpoints_apart "a column of tokens or steps tells the checkpoints" ratios.csv t.csv
edit t.csv 'NR == 1 { print $0, "step" } NR > 1 { print $0, 1000 }' >t2.csv
tables a_checkpoint_twice "t2.csv line 7: run r5 stands already in line 6 with as many tokens" ratios.csv t2.csv
edit ratios.csv 'NR == 7 { $1 = "r5" } { print }' >t.csv
tables a_mixture_twice "t.csv line 7: run r5 stands already in line 6" t.csv losses.csv
edit ratios.csv 'NR == 9 { $2 += 0.02 } { print }' >t.csv
tables weights_that_sum_to_more "t.csv line 9 (run r8): weights sum to 1.02; expected 1 within 0.01" t.csv losses.csv
edit ratios.csv 'NR > 1 { for (i = 2; i <= 5; i++) $i *= 2 } { print }' >t.csv
tables weights_that_sum_to_two "t.csv line 2 (run r1): weights sum to 2" t.csv losses.csv
edit ratios.csv 'NR == 4 { $3 = -0.125 } { print }' >t.csv
tables a_negative_weight "t.csv line 4 (run r3), column code: a weight is -0.125" t.csv losses.csv
edit ratios.csv 'NR == 4 { $3 = "nan" } { print }' >t.csv
tables a_weight_of_nan "t.csv line 4 (run r3), column code: a weight is nan" t.csv losses.csv
edit ratios.csv 'NR == 4 { $3 = "inf" } { print }' >t.csv
tables a_weight_of_inf "t.csv line 4 (run r3)" t.csv losses.csv
edit losses.csv 'NR == 6 { $4 = "3.1 nats" } { print }' >t.csv
tables text_in_a_number 't.csv line 6, column talk: "3.1 nats" is not a number' ratios.csv t.csv
edit losses.csv 'NR == 6 { $4 = "3;1" } { print }' >t.csv
tables another_comma 't.csv line 6, column talk: "3;1" is not a number' ratios.csv t.csv
edit losses.csv 'NR == 6 { $4 = "-inf" } { print }' >t.csv
tables a_loss_of_inf "t.csv line 6 (run r5), column talk: a loss is -inf" ratios.csv t.csv
edit losses.csv 'NR == 6 { $4 = $4 ",1" } { print }' >t.csv
tables a_row_too_long "t.csv line 6: the row has 5 cells; the header has 4" ratios.csv t.csv
edit losses.csv 'NR == 1 { $4 = "news" } { print }' >t.csv
tables a_column_twice "t.csv: the header names the column news twice" ratios.csv t.csv
edit losses.csv 'NR == 1 { $4 = "" } { print }' >t.csv
tables a_column_without_name "t.csv: column 4 has no name" ratios.csv t.csv
head -n 4 ratios.csv >t.csv
head -n 4 losses.csv >u.csv
tables three_runs_only "u.csv: column news has 3 losses; at least 5 runs are needed" t.csv u.csv
edit losses.csv 'NR > 1 { $2 = 3; $3 = 2.5; $4 = 4 } { print }' >t.csv
tables constant_losses "t.csv: every loss is the same in all 24 runs" ratios.csv t.csv
edit losses.csv 'NR > 6 { $3 = "" } { print }' >t.csv
tables few_losses_of_one_kind "t.csv: column math has so few losses" ratios.csv t.csv --folds 2
edit losses.csv 'NR > 1 { $3 = "" } { print }' >t.csv
tables no_losses_of_one_kind "t.csv: column math has 0 losses" ratios.csv t.csv
edit ratios.csv 'NR > 1 { $2 = $3 = $4 = $5 = 0.25 } { print }' >t.csv
tables all_runs_alike "all 24 runs have the same weights" t.csv losses.csv
edit ratios.csv 'NR > 1 { $2 = 1 } { print $1, $2 }' >t.csv
tables one_domain "t.csv: 1 domains; expected 2 to 64" t.csv losses.csv
: >t.csv
tables an_empty_file "t.csv: is empty" t.csv losses.csv
tables an_empty_file_of_losses "t.csv: is empty" ratios.csv t.csv
head -n 1 ratios.csv >t.csv
tables a_header_only "t.csv" t.csv losses.csv
head -n 1 losses.csv >t.csv
tables a_header_of_losses_only "ratios.csv line 2: run r1 is not in t.csv" ratios.csv t.csv
tables a_folder_for_a_file "\.: is a folder; expected a file" . losses.csv
tables a_file_that_is_not_there "none.csv" none.csv losses.csv
tables a_program_for_a_table "mix_optimize line [0-9]*: a zero byte; this is no text" "$mix" losses.csv
awk 'BEGIN { for (i = 0; i < 3000; i++) printf "%c", 128 + (i * 73) % 127; }' >t.csv
tables bytes_for_a_table "t.csv" t.csv losses.csv
tables losses_for_weights "losses.csv line 2 (run r1): weights sum to" losses.csv ratios.csv
edit ratios.csv '{ print $2, $3, $4, $5 }' >t.csv
tables weights_without_runs "t.csv line 2" t.csv losses.csv
printf 'run,web,"co\nde\n' >t.csv
tables a_quote_without_end "t.csv line 1: a quoted cell starts here and has no end" t.csv losses.csv
mkdir -p file-in-the-way.d
: >file-in-the-way
wrong 1 an_out_that_cannot_be "file-in-the-way" --ratios ratios.csv --losses losses.csv --model ridge --quiet \
    --out file-in-the-way/out
wrong 1 an_out_that_is_a_file "file-in-the-way" --ratios ratios.csv --losses losses.csv --model ridge --quiet \
    --out file-in-the-way
edit test_losses.csv '{ print $1, $2, $3 }' >t.csv
tables a_missing_test_column "t.csv: has no column talk, which losses.csv has" ratios.csv losses.csv \
    --test-ratios test_ratios.csv --test-losses t.csv
edit test_ratios.csv 'NR == 1 { $3 = "cod" } { print }' >t.csv
tables another_test_column "t.csv: has no column code, which ratios.csv has" ratios.csv losses.csv \
    --test-ratios t.csv --test-losses test_losses.csv
edit test_losses.csv '{ print $0, NR == 1 ? "chess" : 3 }' >t.csv
tables one_test_column_more "t.csv: column chess has no counterpart in losses.csv" ratios.csv losses.csv \
    --test-ratios test_ratios.csv --test-losses t.csv
printf 'domain,min\nweb,0.2\nwobble,0.1\n' >t.csv
tables an_unknown_domain "t.csv line 3: there is no domain wobble" ratios.csv losses.csv --domains t.csv
printf 'domain,tokens,maximum\nweb,1e9,0.2\n' >t.csv
tables a_misspelt_key "t.csv line 1, column maximum: is none of domain, tokens, prior, min, max" ratios.csv losses.csv \
    --domains t.csv
printf 'domain,weight\nweb,0.2\n' >t.csv
tables a_key_of_another_kind "t.csv: .*line 1, column weight: is none of" ratios.csv losses.csv --domains t.csv
printf 'domain,max\nweb,20\ncode,60\n' >t.csv
tables percents_for_bounds "t.csv line 2, column max: is 20; expected a share from 0 to 1" ratios.csv losses.csv --domains t.csv
printf 'domain,min\nweb,20\n' >t.csv
tables percents_for_a_min "t.csv line 2: domain web has the min 20 above 1; column min has shares" ratios.csv losses.csv \
    --domains t.csv
printf ',Domain,Max\n0,web,20\n' >t.csv
tables an_index_among_domains "t.csv line 2, column max: is 20" ratios.csv losses.csv --domains t.csv
sed '1s/web/caf\xE9/' ratios.csv >t.csv
tables names_that_are_not_utf8 "t.csv line 1, column 2: is not UTF-8" t.csv losses.csv
sed '3s/^r2/r\xFC/' losses.csv >t.csv
tables ids_that_are_not_utf8 "t.csv line 3, column 1: is not UTF-8" ratios.csv t.csv
edit losses.csv 'NR == 8 { $1 = "" } { print }' >t.csv
tables a_run_without_name "t.csv line 8: the run has no name" ratios.csv t.csv
edit ratios.csv 'NR == 4 { $3 = 1e300 } { print }' >t.csv
tables a_huge_weight "t.csv line 4 (run r3): weights sum to 1e+300" t.csv losses.csv
edit ratios.csv 'NR == 4 { $3 = "" } { print }' >t.csv
tables a_weight_that_is_missing "t.csv line 4 (run r3), column code: a weight is nan" t.csv losses.csv
printf 'domain,min,max\nweb,0.2,0.1\n' >t.csv
tables a_min_above_its_max "t.csv line 2: domain web has the min 0.2 above its max 0.1" ratios.csv losses.csv \
    --domains t.csv

# ---- Log-probabilities ----

npy() { # npy FILE SCALE SEED: 64 float32 numbers, those with two bits of fraction that are near SCALE times -1 to -3
    header="{'descr': '<f4', 'fortran_order': False, 'shape': (64,), }"
    {
        printf '\223NUMPY\001\000v\000%-117s\n' "$header"
        awk -v x="$3" -v scale="$2" 'BEGIN {
            for (i = 0; i < 64; i++) {
                x = (x * 16807) % 2147483647
                value = scale * (1 + int(8 * x / 2147483647) / 4)
                for (exponent = 127; value >= 2; exponent++) value /= 2
                fraction = int((value - 1) * 128 + 0.5)
                printf "\\000\\000\\%03o\\%03o\n", (exponent % 2) * 128 + fraction, 128 + int(exponent / 2)
            }
        }' | while IFS= read -r bytes; do printf "$bytes"; done
    } >"$1"
}
for text in news math talk; do
    for domain in web code books wiki; do
        mkdir -p "logp/$text" "sums/$text"
        npy "logp/$text/$domain.npy" 1 "$((${#text} * 1000 + $(printf '%d' "'$text") * 31 + $(printf '%d' "'$domain")))"
        npy "sums/$text/$domain.npy" 300 5
    done
done
try log_probabilities_alone "$mix" --logp logp --out logp_out --quiet
[ -s logp_out/mixture.json ] && grep -q "experts alone" log && ok log_probabilities_give_a_mixture ||
    bad log_probabilities_give_a_mixture
try log_probabilities_and_runs "$mix" --ratios ratios.csv --losses losses.csv --logp logp --model gp \
    --out both --quiet
head -1 ratios.csv >columns
"$mix" --ratios ratios.csv --losses losses.csv --logp logp --model ridge --suggest 2 --out next --quiet >log 2>&1
head -1 next/next_runs.csv | cmp -s - columns && ok next_runs_with_experts_have_the_tables_columns ||
    bad next_runs_with_experts_have_the_tables_columns "$(head -1 next/next_runs.csv)"
awk -F, '{ print $1 "," $5 "," $2 "," $3 "," $4 }' ratios.csv >moved.csv
"$mix" --ratios moved.csv --losses losses.csv --logp logp --model ridge --suggest 2 --out moved --quiet >log 2>&1
awk -F, '{ print $1 "," $3 "," $4 "," $5 "," $2 }' moved/next_runs.csv | cmp -s - next/next_runs.csv &&
    ok and_their_weights_stand_below_their_names || bad and_their_weights_stand_below_their_names "$(cat moved/next_runs.csv)"
awk -F, 'NR > 1 { $2 *= 100; $3 *= 100; $4 *= 100; $5 *= 100 } { print $1 "," $2 "," $3 "," $4 "," $5 }' ratios.csv >hundred.csv
"$mix" --ratios hundred.csv --losses losses.csv --model ridge --suggest 2 --out hundred --quiet >log 2>&1
try next_runs_are_in_percent_where_the_table_is awk -F, \
    'NR > 1 && ($2 + $3 + $4 + $5 < 99.99 || $2 + $3 + $4 + $5 > 100.01) { exit 1 }' hundred/next_runs.csv
wrong 1 sums_over_sequences "sums over sequences, not tokens" --logp sums --out out
wrong 1 positive_log_probabilities "log-probability is .*expected at most 0" --logp logp --nll --out out
wrong 1 no_folder_of_log_probabilities "no such folder" --logp none --out out
edit ratios.csv '{ print $1, $2, $3, $4 }' | edit - 'NR > 1 { s = $2 + $3 + $4; for (i = 2; i <= 4; i++) $i /= s }
    { print }' >t.csv
tables experts_that_are_no_domains "t.csv: has no column wiki, which logp has" t.csv losses.csv --logp logp

# ---- Tables that are right in unusual ways ----

try a_run_on_tables "$mix" --ratios ratios.csv --losses losses.csv --model gp --suggest 3 --threads 1 \
    --out plain --quiet
for file in report.html report.json mixture.json held_out.csv compare.csv next_runs.csv; do
    try "a_run_writes_$file" test -s "plain/$file"
done
"$mix" --ratios ratios.csv --losses losses.csv --model ridge --out json --json >log 2>stderr.txt
cmp log json/report.json >/dev/null 2>&1 && ok json_is_the_report_and_nothing_else || bad json_is_the_report_and_nothing_else
"$mix" --ratios ratios.csv --losses losses.csv --out ratios.csv/out >log 2>stderr.txt
[ $? -eq 1 ] && grep -q "ratios.csv/out: the folder cannot be made: a file has the name ratios.csv" stderr.txt &&
    ok an_output_is_tried_first || bad an_output_is_tried_first "$(cat stderr.txt)"
"$mix" --ratios ratios.csv --losses losses.csv --model ridge --suggest 2 --out again >first.txt 2>stderr.txt
try an_optimization_is_done test $? -eq 0 -a -s first.txt
again() { says_done mix_optimize "$mix" --ratios ratios.csv --losses losses.csv --model ridge --suggest 2 --out again "$@"; }
anew() { is_done_anew mix_optimize "$mix" --ratios ratios.csv --losses losses.csv --model ridge --suggest 2 --out again "$@"; }
try done_again_it_says_that_it_is_done again --threads 1
try done_again_it_prints_the_same cmp first.txt stdout
try done_again_it_gives_the_same_json sh -c "'$mix' --ratios ratios.csv --losses losses.csv --model ridge --suggest 2 \
    --out again --json 2>/dev/null | cmp - again/report.json"
for option in "--suggest 3" "--seed 2" "--objective news" "--caution 0.5" "--standardize" "--max-ratio 14"; do
    try "another_${option%% *}_is_done_anew" anew $option
done
try the_first_options_are_done_anew anew
for file in report.html report.json mixture.json held_out.csv compare.csv next_runs.csv; do
    rm "again/$file"
    try "a_deleted_${file}_is_written_anew" anew
    printf ' ' >>"again/$file"
    try "an_edited_${file}_is_written_anew" anew
done
cp losses.csv t.csv
edit t.csv 'NR == 2 { $2 += 0.001 } { print }' >losses.csv
try an_edited_table_is_done_anew anew
cp t.csv losses.csv
cat losses.csv >again/losses.csv
piped() { cat "$1" | "$mix" --ratios ratios.csv --losses /dev/stdin --model ridge --out again >stdout 2>stderr; }
try a_table_from_a_pipe piped losses.csv
try a_table_from_a_pipe_is_never_done sh -c "cat losses.csv | '$mix' --ratios ratios.csv --losses /dev/stdin \
    --model ridge --out again 2>&1 | grep -q '^evaluate'"
same() { # same NAME RATIOS LOSSES OPTIONS...: gives the mixture of the plain tables
    name=$1; s_ratios=$2; s_losses=$3; shift 3
    if ! "$mix" --ratios "$s_ratios" --losses "$s_losses" --model gp --suggest 3 --threads 1 --out same --quiet "$@" \
        >log 2>&1; then bad "$name" "$(cat log)"
    elif ! cmp -s plain/mixture.json same/mixture.json; then bad "$name" "another mixture: $(cat same/mixture.json)"
    else ok "$name"; fi
}
same two_threads_give_the_same_mixture ratios.csv losses.csv --threads 2
cmp plain/report.json same/report.json >log 2>&1 && cmp plain/report.html same/report.html >log 2>&1 &&
    cmp plain/next_runs.csv same/next_runs.csv >log 2>&1 && ok two_threads_give_the_same_reports ||
    bad two_threads_give_the_same_reports "$(cat log)"
{ head -n 1 losses.csv; tail -n +2 losses.csv | sort -t, -k3; } >t.csv
same shuffled_rows ratios.csv t.csv
edit losses.csv '{ print $2, $3, $1, $4 }' >t.csv
same runs_named_in_another_column ratios.csv t.csv
awk '{ printf "%s\r\n", $0 }' ratios.csv >t.csv
awk '{ printf "%s\r\n", $0 }' losses.csv >u.csv
same lines_that_end_with_crlf t.csv u.csv
awk 'NR > 1 { printf "\n" } { printf "%s", $0 }' ratios.csv >t.csv
awk 'NR > 1 { printf "\n" } { printf "%s", $0 }' losses.csv >u.csv
same no_newline_at_the_end t.csv u.csv
{ printf '\357\273\277'; cat ratios.csv; } >t.csv
{ printf '\357\273\277'; cat losses.csv; } >u.csv
same a_byte_order_mark t.csv u.csv
awk '{ print; print "" }' ratios.csv >t.csv
sed 's/,/ , /2; s/,/,	/3' losses.csv | sed '1s/[ 	]//g' >u.csv
same empty_lines_and_spaces t.csv u.csv
awk -F, '{ for (i = 1; i <= NF; i++) printf "%s\"%s\"", (i > 1 ? "," : ""), $i; print "" }' losses.csv >t.csv
same quoted_cells ratios.csv t.csv
edit ratios.csv 'NR > 1 { $1 = " " $1 "  " } { print }' >t.csv
same ids_with_blanks t.csv losses.csv

# ---- What is a loss, and what a weight ----

noted() { # noted NAME PATTERN: said in a line of its own
    grep -q -e "^note: $2" log && ok "$1" || bad "$1" "$(grep ^note: log)"
}
edit losses.csv '{ print $1, NR == 1 ? "index" : NR - 2, $2, $3, $4, NR == 1 ? "run_id" : "x" NR }' >t.csv
same an_index_is_no_loss ratios.csv t.csv
noted an_index_is_named "t.csv: column index is not used"
noted a_second_name_is_named "t.csv: column run_id is not used"
edit losses.csv '{ print NR == 1 ? "Unnamed: 0" : 100 - NR, $0 }' >t.csv
same an_index_of_pandas_is_no_loss ratios.csv t.csv
noted an_index_of_pandas_is_named "t.csv: column Unnamed: 0 is not used: it has no name"
edit losses.csv '{ print NR == 1 ? "" : NR, $0 }' >t.csv
edit ratios.csv '{ print NR == 1 ? "" : 50 - NR, $0 }' >u.csv
same columns_without_a_name u.csv t.csv
edit losses.csv '{ print $0, NR == 1 ? "Step,seed,n_params,wall-time,_timestamp,train_loss,trainTokens" : "4000," NR % 3 ",1e8," NR / 7 "," NR * 1.5 ",2." NR ",2e9" }' >t.csv
same bookkeeping_is_no_loss ratios.csv t.csv
for column in Step seed n_params wall-time _timestamp train_loss trainTokens; do
    noted "bookkeeping_is_named_$column" "t.csv: column $column is not used"
done
noted costs_are_counted "t.csv: the 24 runs cost 4.8e+10 tokens and 2.88e+19 FLOPs"
edit losses.csv '{ print $0, NR == 1 ? "cluster,gadgets,checked" : "node" NR % 2 "," NR * NR ",8" }' >t.csv
same text_and_whole_numbers_are_no_losses ratios.csv t.csv
noted text_is_named "t.csv: column cluster is not used: it holds text"
noted whole_numbers_are_named "t.csv: column gadgets is not used: it holds whole numbers"
noted a_constant_is_named "t.csv: column checked is not used"
edit losses.csv '{ print $0, NR == 1 ? "task_acc,eval/F1,valScore,acc_stderr" : 0.2 + NR / 100 ",0.5" NR ",1." NR ",0.01" NR }' >t.csv
same an_accuracy_is_no_loss ratios.csv t.csv
noted an_accuracy_is_named "t.csv: column task_acc is not used: it is called like an accuracy"
noted a_score_of_f1_is_named "t.csv: column eval/F1 is not used"
noted a_word_may_begin_with_a_capital "t.csv: column valScore is not used"
noted a_standard_error_is_named "t.csv: column acc_stderr is not used"
edit losses.csv 'NR == 1 { $2 = "accent"; $3 = "score_val_loss" } { print }' >t.csv
same words_that_are_no_accuracy ratios.csv t.csv
edit losses.csv 'NR == 1 { $2 = "acc"; $3 = "math accuracy" } NR > 1 { $2 = -$2; $3 = 5 - $3 } { print $1, $2, $3 }' >t.csv
edit losses.csv '{ print $1, $2, $3 }' >u.csv
mixture() { # mixture OUT RATIOS LOSSES OPTIONS...
    m_out=$1; m_ratios=$2; m_losses=$3; shift 3
    "$mix" --ratios "$m_ratios" --losses "$m_losses" --model ridge --out "$m_out" --quiet "$@" >log 2>&1
}
near() { # near NAME A B: the weights of two mixtures differ by less than 1e-5
    tr ',}' '\n\n' <"$2/mixture.json" >a.txt
    tr ',}' '\n\n' <"$3/mixture.json" >b.txt
    paste -d: a.txt b.txt | awk -F: 'NF >= 4 { n++; if (($2 - $4) ^ 2 > 1e-10) bad = 1 } END { exit bad || n < 2 }' && ok "$1" ||
        bad "$1" "$(cat "$2/mixture.json" "$3/mixture.json" log)"
}
mixture as_losses ratios.csv u.csv
mixture as_scores ratios.csv t.csv
near tables_of_accuracies_alone_are_maximised as_losses as_scores
noted what_is_maximised_is_said "acc is maximised"
edit losses.csv 'NR > 1 { $3 = 7 - $3 } { print $1, $2, $3 }' >t.csv
mixture as_scores ratios.csv t.csv --maximize math
near a_loss_that_is_maximised_by_option as_losses as_scores
edit losses.csv 'NR == 1 { $3 = "math_acc" } { print $1, $2, $3 }' >t.csv
mixture as_scores ratios.csv t.csv --minimize math_acc
near an_accuracy_that_is_minimised_by_option as_losses as_scores
mixture as_scores ratios.csv losses.csv --losses-columns "math,ne*"
near losses_by_option as_losses as_scores
edit losses.csv 'NR == 1 { $4 = "acc" } NR > 1 { $4 = -$4 } { print }' >t.csv
mixture as_losses ratios.csv losses.csv --objective talk=2,math=1
mixture as_scores ratios.csv t.csv --objective acc=2,math=1
near an_accuracy_that_the_objective_names as_losses as_scores
tables an_unknown_column_of_losses "losses-columns: losses.csv has no column chess" ratios.csv losses.csv \
    --losses-columns news,chess
tables an_unknown_column_of_weights "weights-columns: ratios.csv has no column x" ratios.csv losses.csv --weights-columns web,x
edit losses.csv '{ print $1, NR == 1 ? "step" : NR }' >t.csv
tables no_column_that_is_a_loss "t.csv: no column is a loss" ratios.csv t.csv
edit ratios.csv '{ print NR == 1 ? "index,step,host" : NR - 2 "," 1000 ",h" NR % 2, $0 }' >t.csv
same bookkeeping_is_no_weight t.csv losses.csv
noted bookkeeping_among_weights_is_named "t.csv: column step is not used: it holds no weights"
edit ratios.csv 'NR == 1 { $3 = "time" } { print }' >t.csv
mixture as_losses ratios.csv losses.csv
mixture as_scores t.csv losses.csv
near a_domain_called_like_bookkeeping as_losses as_scores
edit ratios.csv '{ print $0, NR == 1 ? "gap" : 0.1 * NR }' >t.csv
same weights_by_option t.csv losses.csv --weights-columns web,code,books,wiki
edit ratios.csv 'NR > 1 { for (i = 2; i <= 5; i++) $i *= 100 } { print }' >t.csv
mixture as_scores t.csv losses.csv
near weights_in_percent as_losses as_scores
noted percents_are_said "t.csv: the weights are percents"
sed 's/,/;/g; s/\./,/g' ratios.csv >t.csv
sed 's/,/;/g; s/\./,/g' losses.csv >u.csv
same semicolons_and_decimal_commas t.csv u.csv
tr , '\t' <ratios.csv >t.csv
same tabs t.csv losses.csv
sed 's/,/\t/g; s/\./,/g' ratios.csv >t.csv
tables decimal_commas_between_tabs 't.csv line 2, column web: "[0-9,]*" is not a number (a decimal comma' t.csv losses.csv
edit losses.csv 'NR == 4 { $1 = "new" } NR != 7 { print }' >t.csv
try runs_of_one_file_may_be_skipped "$mix" --ratios ratios.csv --losses t.csv --model ridge --skip-unmatched --out skip --quiet
noted skipped_runs_are_counted "skipped: 2 runs of ratios.csv and 1 of t.csv"
edit losses.csv 'NR > 1 { $3 = exp($3) * 10 } { print }' >t.csv
mixture scaled ratios.csv t.csv
grep -q "^warning: math varies .*standardize" log && ok losses_of_other_scales_are_a_warning ||
    bad losses_of_other_scales_are_a_warning "$(tail -n 3 log)"
edit losses.csv 'NR > 1 { $2 = 1000 * $2 + 5 } { print }' >t.csv
mixture as_losses ratios.csv losses.csv --standardize
mixture as_scores ratios.csv t.csv --standardize
near a_standardised_objective_knows_no_units as_losses as_scores
grep -q "predicted loss .* standard deviations" log && ok the_unit_is_said || bad the_unit_is_said "$(tail -n 3 log)"

# ---- One wide table ----

wide() { # wide NAME TABLE OPTIONS...: gives the mixture of the plain tables
    w_name=$1; w_table=$2; shift 2
    "$mix" --table "$w_table" --model gp --suggest 3 --threads 1 --out wide --quiet "$@" >log 2>&1
    cmp -s plain/mixture.json wide/mixture.json && ok "$w_name" || bad "$w_name" "$(tail -n 1 log; cat wide/mixture.json)"
}
awk -F, -v OFS=, 'NR == FNR { w[$1] = $2 OFS $3 OFS $4 OFS $5; next } { print $1, 1000, w[$1], $2, $3, $4, FNR }' \
    ratios.csv losses.csv | sed '1s/.*/run,step,web,code,books,wiki,news,math,talk,tokens/' >wide.csv
wide one_table wide.csv
noted bookkeeping_of_one_table_is_named "wide.csv: column step is not used"
sed '1s/.*/,batch,w_web,w_code,w_books,w_wiki,val_news,val_math,val_talk,tokens/' wide.csv >t.csv
wide one_table_with_an_index_and_prefixes t.csv
edit wide.csv '{ print $7, $3, $8, $4, $1, $5, $9, $6 }' | sed '1s/.*/news,mix.web,math,mix.code,id,mix.books,talk,mix.wiki/' >t.csv
wide one_table_with_weights_apart t.csv
edit wide.csv '{ print $7, $3, $8, $4, $1, $5, $9, $6 }' | sed '1s/.*/news,web,math,code,id,books,talk,wiki/' >t.csv
wide one_table_by_option t.csv --weights-columns web,code,books,wiki
wrong 1 a_table_whose_weights_are_not_found "t.csv: no columns were found that sum to 1" --table t.csv --out out
edit wide.csv 'NR == 5 { $4 += 0.3 } { print }' >t.csv
wrong 1 a_wrong_row_of_one_table "t.csv line 5 (run r4): weights sum to 1.3" --table t.csv --out out
sed '1s/.*/run,step,w_web,w_code,w_books,w_wiki,news,math,talk,tokens/' wide.csv | edit - 'NR > 1 { $4 *= 3 } { print }' >t.csv
wrong 1 wrong_weights_with_a_prefix "t.csv line 2 (run r1): weights sum to" --table t.csv --out out
wrong 1 one_table_and_two "leaves no room" --table wide.csv --ratios ratios.csv --losses losses.csv --out out
sed 's/,/;/g; s/\./,/g' wide.csv >t.csv
wide one_table_with_semicolons t.csv
try a_test_in_one_table "$mix" --table wide.csv --test-table wide.csv --model ridge --out tested --quiet

# ---- Sizes and tokens ----

# Twelve mixtures at three sizes, three checkpoints a run, of a known law.
awk 'BEGIN {
    print "run,model_size,n_tokens,w_web,w_code,w_wiki,news,talk"
    split("20M 50M 120M", size); split("2e7 5e7 1.2e8", n); split("1 2 4", d)
    for (s = 1; s <= 3; s++) for (r = 1; r <= 12; r++) for (t = 1; t <= 3; t++) {
        a = 0.05 + (r * 7 % 13) / 20; b = (1 - a) * (0.1 + (r * 5 % 11) / 14); c = 1 - a - b
        l = 300 * n[s] ^ -0.34 + 400 * (d[t] * 1e9) ^ -0.28 + sin(r * 31 + s) / 2000
        printf "m%d,%s,%dB,%.4f,%.4f,%.4f,%.5f,%.5f\n", r, size[s], d[t], a, b, c, 1.5 + exp(-a) + l, 1.2 + exp(-2 * b) + l
    }
}' >sizes.csv
scaled() { # scaled NAME TABLE OPTIONS...
    s_name=$1; s_table=$2; shift 2
    try "$s_name" "$mix" --table "$s_table" --model ridge --threads 1 --out "scaled_$s_name" --quiet "$@"
}
predicted() { # the objective of the recommended mixture
    sed -n 's/^predicted loss \([0-9.]*\).*/\1/p' log
}
scaled target sizes.csv --target-params 500M --target-tokens 16B
value=$(predicted)
web=$(sed -n 's/.*"web": *\([0-9.e-]*\).*/\1/p' scaled_target/mixture.json)
code=$(sed -n 's/.*"code": *\([0-9.e-]*\).*/\1/p' scaled_target/mixture.json)
awk -v y="$value" -v a="$web" -v b="$code" 'BEGIN {
    truth = 1.35 + (exp(-a) + exp(-2 * b)) / 2 + 300 * 5e8 ^ -0.34 + 400 * 1.6e10 ^ -0.28
    exit !(y > 0.98 * truth && y < 1.02 * truth) }' \
    && ok target_has_the_laws_level || bad target_has_the_laws_level "predicted $value of web $web, code $code"
grep -q '"left_out"' scaled_target/report.json && ok each_size_is_left_out || bad each_size_is_left_out "no left_out"
noted a_target_moves_the_runs "losses of 12 runs are moved to 500M parameters 16B tokens by a law fitted to all 108 rows"
sed 's/model_size/params_M/; s/,20M,/,20,/; s/,50M,/,50,/; s/,120M,/,120,/' sizes.csv >t.csv
scaled unit_in_the_name t.csv --target-params 5e8 --target-tokens 1.6e10
[ "$(predicted)" = "$value" ] && ok units_are_the_same_number || bad units_are_the_same_number "$(predicted), not $value"
edit sizes.csv '{ print $1 "_" $2 "," $3 "," $4 "," $5 "," $6 "," $7 "," $8 }' | sed '1s/run_model_size/run/' >t.csv
scaled size_in_the_runs_name t.csv --target-params 500M --target-tokens 16B
[ "$(predicted)" = "$value" ] && ok names_say_the_same || bad names_say_the_same "$(predicted), not $value"
edit sizes.csv 'NR == 1 || $2 == "20M"' >a.csv
edit sizes.csv 'NR == 1 || $2 != "20M"' >b.csv
scaled tables_of_sizes a.csv,b.csv --target-params 500M --target-tokens 16B
[ "$(predicted)" = "$value" ] && ok tables_are_one || bad tables_are_one "$(predicted), not $value"
both="$(grep -c '"path": "[ab].csv", "fnv1a64"' scaled_tables_of_sizes/report.json)"
[ "$both" -eq 4 ] && ok each_tables_fingerprint || bad each_tables_fingerprint "$both of 4, twice as weights and as losses"
listed() {
    "$1" mix_optimize "$mix" --table a.csv,b.csv --model ridge --threads 1 --out scaled_tables_of_sizes \
        --target-params 500M --target-tokens 16B
}
try tables_in_a_list_are_done listed says_done
edit b.csv 'NR == 2 { $7 += 0.001 } { print }' >t.csv
mv t.csv b.csv
try one_edited_table_of_a_list_is_done_anew listed is_done_anew
edit sizes.csv 'NR == 1 || !seen[$1]++ { print $1, $4, $5, $6 }' >t.csv
edit sizes.csv '{ print $1, $2, $3, $7, $8 }' >u.csv
try checkpoints_beside_their_weights "$mix" --ratios t.csv --losses u.csv --model ridge --threads 1 --out beside --quiet \
    --target-params 500M --target-tokens 16B
[ "$(predicted)" = "$value" ] && ok two_tables_say_the_same || bad two_tables_say_the_same "$(predicted), not $value"
edit sizes.csv 'NR == 1 || $2 != "120M"' >two.csv
edit sizes.csv 'NR == 1 || $2 == "120M"' >large.csv
scaled two_sizes_and_runs_to_judge_on two.csv --target-params 500M --target-tokens 16B --test-table large.csv
noted two_sizes_have_a_law "losses of 12 runs are moved to 500M parameters 16B tokens by a law fitted to all 72 rows"
# They are judged where the target is: what the law says of three checkpoints of one mixture agrees.
awk '/^mean / { good = $2 > 99 && $3 < 0.001 } END { exit !good }' log \
    && ok larger_runs_are_judged_at_the_target || bad larger_runs_are_judged_at_the_target "$(tail -n 1 log)"
sed 's/,120M,/,,/' large.csv >t.csv
wrong 1 runs_to_judge_on_have_sizes "t.csv: run m1 at 1e+09 has no size, which the law needs" --table two.csv --out out \
    --target-params 500M --target-tokens 16B --test-table t.csv
scaled largest_size_alone sizes.csv
noted without_a_target_one_size_is_used ".*only the 12 of 120M parameters and 4B tokens are used"
edit sizes.csv 'NR == 1 || ($2 == "120M" && $3 == "4B" && NR % 4 == 0)' >b.csv
edit sizes.csv 'NR == 1 || ($2 == "20M" && $3 == "4B")' >a.csv
scaled anchors_set_the_level a.csv --anchor b.csv
noted anchors_are_counted "b.csv: 3 large runs set level and slope of each loss"
scaled anchors_and_a_target a.csv --anchor b.csv --target-params 1B --target-tokens 10B
noted anchors_have_a_size_of_their_own "without runs of several sizes losses are those of the large runs' own size, whatever the target is"
wrong 1 tokens_alone "a larger model needs --target-params, too" --table a.csv --target-tokens 10B --out out
wrong 1 one_size_only "all runs have 20M parameters, so nothing says how losses fall with size" --table a.csv \
    --target-params 1B --out out
wrong 2 size_that_is_none "big is no number of parameters" --table sizes.csv --target-params big --out out
sed 's/n_tokens/step/; s/B,/,/' sizes.csv >t.csv
wrong 1 steps_are_no_tokens "has steps and no tokens; --tokens-per-step" --table t.csv --target-params 1B --out out
edit sizes.csv 'NR == 1 || $3 == "4B" { print $1 "x" NR, $4, $5, $6, $7, $8 }' | sed '1s/^[^,]*/run/' >t.csv
wrong 1 no_sizes_at_all "no column has sizes" --table t.csv --target-params 1B --out out
edit sizes.csv 'NR == 1 || NR % 3 == 1 + ($1 == "m4") { $1 = $1 "x" NR; if (NR == 31) $3 = ""; print }' |
    sed '1s/x1//' >t.csv
wrong 1 a_row_without_tokens "has no tokens, which others have" --table t.csv --target-params 1B --out out

# A budget: rows in the table's own columns, whose FLOPs are within it, and which go straight back.
scaled spend sizes.csv --target-params 500M --target-tokens 16B --suggest 6 --budget-flops 6e18
grep -q "^[1-6] runs to make next, .* FLOPs of 6e+18: next_runs.csv" log && ok what_is_spent_is_said ||
    bad what_is_spent_is_said "$(tail -n 5 log)"
[ "$(head -1 scaled_spend/next_runs.csv)" = "$(head -1 sizes.csv)" ] && ok next_runs_have_the_tables_columns ||
    bad next_runs_have_the_tables_columns "$(head -1 scaled_spend/next_runs.csv)"
spent() { awk -F, 'NR > 1 { n++; sum += 6 * $2 * $3; d += ($4 + $5 + $6 - 1) ^ 2 } END { exit !(n > 0 && sum <= '"$1"' && d < 1e-9) }' "$2"; }
try next_runs_are_within_the_budget spent 6e18 scaled_spend/next_runs.csv
edit scaled_spend/next_runs.csv 'NR > 1 { $7 = 3.1; $8 = 2.9; print }' | cat sizes.csv - >back.csv
scaled next_runs_go_back back.csv --target-params 500M --target-tokens 16B --suggest 2 --budget-flops 6e18
grep -q "^next1," scaled_next_runs_go_back/next_runs.csv && bad names_of_runs_go_on "next1 is there twice" ||
    ok names_of_runs_go_on
scaled sizes_on_offer sizes.csv --target-params 500M --target-tokens 16B --suggest 3 --budget-flops 1e18 --sizes 30M:1B,60M:1.2B
try only_what_is_on_offer awk -F, 'NR > 1 && $2 != 3e7 && $2 != 6e7 { exit 1 }' scaled_sizes_on_offer/next_runs.csv
sed 's/model_size/params_M/; s/,20M,/,20,/; s/,50M,/,50,/; s/,120M,/,120,/' sizes.csv >t.csv
scaled spend_in_the_tables_units t.csv --target-params 500M --target-tokens 16B --suggest 3 --budget-flops 6e18
try units_of_next_runs awk -F, 'NR > 1 && $2 != 20 && $2 != 50 && $2 != 120 { exit 1 }' \
    scaled_spend_in_the_tables_units/next_runs.csv
# Forty epochs of a domain are not forty times its tokens: by the law of the table, of the effective mixture and tokens.
printf 'domain,tokens\nweb,2e8\ncode,1e11\nwiki,1e11\n' >few.csv
printf 'run,web,code,wiki\nrepeated,0.5,0.3,0.2\n' >mixtures.csv
scaled repeated_domains sizes.csv --target-params 500M --target-tokens 16B --domains few.csv --max-epochs 60 --max-ratio inf \
    --compare mixtures.csv
value=$(sed -n 's/^repeated *\([0-9.]*\) .*/\1/p' log)
grep -q "^warning: 96 of the runs repeated a domain: their tokens are taken for fresh ones" log && ok runs_that_repeat_are_named ||
    bad runs_that_repeat_are_named "$(grep ^warning log)"
try repeated_tokens_are_worth_less awk -v y="$value" 'BEGIN {
    u = 2e8; d = u * (1 + 15.4 * (1 - exp(-39 / 15.4))); all = d + 8e9; a = d / all; b = 4.8e9 / all
    truth = 1.35 + (exp(-a) + exp(-2 * b)) / 2 + 300 * 5e8 ^ -0.34 + 400 * all ^ -0.28
    fresh = 1.35 + (exp(-0.5) + exp(-0.6)) / 2 + 300 * 5e8 ^ -0.34 + 400 * 1.6e10 ^ -0.28
    exit !(y > 0.99 * truth && y < 1.01 * truth && fresh < 0.98 * truth) }'
spend="--table sizes.csv --out out --suggest 4"
wrong 1 budget_below_any_run "1e+15 FLOPs is too small for any run: the cheapest, of 20M parameters and 4B tokens, takes 4.8e+17" \
    $spend --target-params 1B --target-tokens 20B --budget-flops 1e15
wrong 2 budget_without_a_target "--budget-flops needs --target-params" $spend --budget-flops 1e18
wrong 2 budget_for_no_runs "--budget-flops needs --suggest" --table sizes.csv --out out --target-params 1B --budget-flops 1e18
wrong 2 acquisition_of_a_budget "is of runs of one size" $spend --target-params 1B --budget-flops 1e18 --acquisition ei
wrong 2 sizes_that_are_none "60M is no size to offer" $spend --target-params 1B --budget-flops 1e18 --sizes 20M:1B,60M
wrong 2 sizes_without_a_budget "may be spent on" $spend --target-params 1B --sizes 20M:1B
edit sizes.csv 'NR == 1 || $3 == "4B" { print $1 "x" NR, $2, $4, $5, $6, $7, $8 }' | sed '1s/^[^,]*/run/' >t.csv
wrong 1 runs_without_tokens_have_no_price "has no column of tokens, without which a run has no price" --table t.csv --out out \
    --suggest 4 --target-params 1B --budget-flops 1e19

edit ratios.csv 'NR > 1 { for (i = 2; i <= 5; i++) $i = sprintf("%.4f", $i * 1.004) } { print }' >t.csv
try weights_that_nearly_sum_to_one "$mix" --ratios t.csv --losses losses.csv --model ridge --out near --quiet
edit losses.csv 'NR > 1 { $3 = 2.5 } { print }' >t.csv
try one_constant_loss "$mix" --ratios ratios.csv --losses t.csv --model gp --out constant --quiet
grep -q "^warning: math is the same in all runs" log && ok a_constant_loss_is_a_warning ||
    bad a_constant_loss_is_a_warning "$(tail -n 3 log)"
edit losses.csv 'NR % 3 == 0 { $3 = NR % 2 ? "" : "nan" } { print }' >t.csv
for model in ridge law gp; do
    try "missing_losses_of_a_$model" "$mix" --ratios ratios.csv --losses t.csv --model $model --out missing --quiet
done

# ---- Runs to judge on, domains, first designs ----

last_line() { # last_line NAME: the scores of the test as the last lines
    tail -n 1 log | grep -Eq '^mean +-?[0-9]+\.[0-9]+ [0-9]+\.[0-9]+$' && ok "$1" || bad "$1" "$(tail -n 1 log)"
}
try a_test "$mix" --ratios ratios.csv --losses losses.csv --model gp --test-ratios test_ratios.csv \
    --test-losses test_losses.csv --out tested --quiet
last_line the_last_line_is_the_mean
tail -n 4 log >expected
edit test_ratios.csv '{ print $5, $3, $1, $4, $2 }' >t.csv
edit test_losses.csv '{ print $4, $1, $2, $3 }' >u.csv
try test_columns_in_another_order "$mix" --ratios ratios.csv --losses losses.csv --model gp --test-ratios t.csv \
    --test-losses u.csv --out tested --quiet
tail -n 4 log >found
try test_columns_in_another_order_score_the_same cmp expected found
edit test_losses.csv 'NR > 1 { $3 = "" } { print }' >u.csv
try a_test_without_one_loss "$mix" --ratios ratios.csv --losses losses.csv --model gp --test-ratios test_ratios.csv \
    --test-losses u.csv --out tested --quiet
last_line the_mean_is_over_the_losses_that_are_there
edit test_losses.csv 'NR > 1 { for (i = 2; i <= 4; i++) $i += 0.1 } { print }' >u.csv
try a_test_of_another_level "$mix" --ratios ratios.csv --losses losses.csv --model gp --test-ratios test_ratios.csv \
    --test-losses u.csv --out tested --quiet
grep -q "too low by 0\.1[01]" log && ok the_levels_bias_is_said_in_words || bad the_levels_bias_is_said_in_words "$(cat log)"
grep -q "objective is ranked with a Spearman correlation of 9[0-9].* intervals hold" log && ok the_objectives_test_is_said ||
    bad the_objectives_test_is_said "$(tail -n 8 log)"
head -n 4 ratios.csv | sed 's/^r/mine-/' >t.csv
try mixtures_to_compare "$mix" --ratios ratios.csv --losses losses.csv --model gp --compare t.csv --out compared --quiet
[ "$(cut -d, -f1 compared/compare.csv | tr '\n' ' ')" = "mixture recommended uniform prior mine-1 mine-2 mine-3 " ] &&
    [ "$(grep -c '^mine-' log)" -eq 3 ] && ok mixtures_are_compared_in_the_summary_and_as_a_table ||
    bad mixtures_are_compared_in_the_summary_and_as_a_table "$(cat compared/compare.csv)"
for heading in "Mixtures side by side" "One domain at a time" "What each domain does to each loss" \
    "One loss against another"; do
    try "the_page_has_$(echo "$heading" | tr ' ' _)" grep -q "<h2>$heading</h2>" compared/report.html
done
printf 'domain,tokens,max\nweb,2e9,0.3\ncode,3e9,\nbooks,9e9,\nwiki,1e9,\n' >domains.csv
try domains "$mix" --ratios ratios.csv --losses losses.csv --model gp --domains domains.csv --target-tokens 1e10 \
    --max-epochs 2 --suggest 3 --out domains --quiet
awk -F'[:,}]' '{ exit !($2 <= 0.3 && $8 <= 0.2) }' domains/mixture.json && ok the_mixture_keeps_to_the_caps ||
    bad the_mixture_keeps_to_the_caps "$(cat domains/mixture.json)"
awk -F, 'NR > 1 { sum = $2 + $3 + $4 + $5; if ($2 > 0.3 || $5 > 0.2 || sum < 0.9999999 || sum > 1.0000001) bad = 1 }
    END { exit bad }' domains/next_runs.csv && ok the_runs_to_make_keep_to_the_caps ||
    bad the_runs_to_make_keep_to_the_caps "$(cat domains/next_runs.csv)"
printf 'domain\nweb\ncode\nbooks\n' >first.csv
try a_first_design "$mix" --domains first.csv --suggest 6 --out first --quiet
[ "$(wc -l <first/next_runs.csv)" -eq 7 ] && [ ! -e first/mixture.json ] && ok a_first_design_is_a_table ||
    bad a_first_design_is_a_table
edit first/next_runs.csv 'NR == 1 { print "run,loss" } NR > 1 { print $1, 3 - $2 + 0.1 * $3 * $3 }' >u.csv
try a_design_that_was_run_is_a_table_to_go_on_from "$mix" --ratios first/next_runs.csv --losses u.csv \
    --model ridge --out on --quiet
try automatic_choice "$mix" --ratios ratios.csv --losses losses.csv --model auto --threads 2 --out auto
grep -q "^model: [a-zA-Z -]*: " log && ok the_choice_is_explained || bad the_choice_is_explained

# Two domains whose short names are the same: both keep their own, and bounds find the right one.
sed '1s/web,code/the_pile_books,train_the_pile_books/' ratios.csv >t.csv
printf 'domain,tokens,max\nthe_pile_books,1e9,1\ntrain_the_pile_books,2e9,0.125\nbooks,1e9,1\nwiki,1e9,1\n' >u.csv
rm -rf names
if "$mix" --ratios t.csv --losses losses.csv --domains u.csv --model ridge --max-ratio inf --quiet --out names >log 2>&1 &&
    grep -q '^the_pile_books ' log && grep -q '^train_the_pile_books .* 0\.1250 ' log &&
    grep -q '"the_pile_books"' names/mixture.json && grep -q '"train_the_pile_books"' names/mixture.json; then
    ok names_that_shorten_alike_stay_distinct
else
    bad names_that_shorten_alike_stay_distinct "$(cat log names/mixture.json)"
fi

# ---- The README's commands, on the tables that come along ----

mkdir -p readme/examples made
cp -r "$OLDPWD/examples/data" readme/examples
try sample_tables_can_be_made_again sh "$OLDPWD/examples/data/make.sh" made
for file in made/*.csv; do try "sample_table_${file#made/}" cmp "$file" "readme/examples/data/${file#made/}"; done
sed -n 's/^ *domain,tokens$/&/; /^ *domain,tokens$/,/^$/s/^    \(.*\)/\1/p' "$OLDPWD/README.md" >readme/pasted.csv
try the_domains_of_the_readme_are_the_sample cmp readme/pasted.csv readme/examples/data/domains.csv
sed -n '/^## Your own runs/,/^## Your own log/p' "$OLDPWD/README.md" | awk '/^    \.\/mix_optimize/ { on = 1 }
    on { line = $0; more = sub(/\\$/, "", line); printf "%s", line; if (!more) { print ""; on = 0 } }' >readme/commands
[ "$(wc -l <readme/commands)" -eq 3 ] && ok the_readme_has_three_commands || bad the_readme_has_three_commands
n=0
while read -r command; do
    n=$((n + 1))
    try "command_${n}_of_the_readme" sh -c "cd readme && mix='$mix' && \"\$mix\" ${command#./mix_optimize} --model ridge --quiet"
    noted "command_${n}_names_the_accuracy" ".*questions_accuracy is not used: it is called like an accuracy"
    noted "command_${n}_counts_the_costs" ".*the 24 runs cost 4.8e+10 tokens"
done <readme/commands
grep -q "^no books  *[0-9.]* " log && ok the_readmes_mixtures_are_compared || bad the_readmes_mixtures_are_compared

# ---- Real runs ----

real="$shared/data/regmix"
case $real in /*) ;; *) real="$OLDPWD/$real" ;; esac
if [ -f "$real/train_mixture_1m.csv" ]; then
    for model in ridge law; do
        "$mix" --ratios "$real/train_mixture_1m.csv" --losses "$real/train_pile_loss_1m.csv" --model $model \
            --test-ratios "$real/test_mixture_1m.csv" --test-losses "$real/test_pile_loss_1m.csv" \
            --quiet --out real >log 2>&1
        mean=$(tail -n 1 log | awk '$1 == "mean" { print $2 }')
        # a ridge is one system of equations, a law is found by steps
        case $model in ridge) known=95.75 room=0.005 ;; law) known=97.51 room=0.1 ;; esac
        awk -v mean="${mean:-0}" -v known=$known -v room=$room 'BEGIN { exit !((mean - known) ^ 2 <= room ^ 2) }' &&
            ok "regmix_${model}_has_the_known_rank_correlation" ||
            bad "regmix_${model}_has_the_known_rank_correlation" "mean $mean, known $known; $(tail -n 1 log)"
    done
else
    skip regmix "$shared/data/regmix is not there"
fi

finish
