#!/bin/sh
# mde_lab as a user meets it: a whole run, a killed run that goes on, threads, wrong input.
# Closes with "N passed, N failed" like the test programs. CC as in the Makefile.
set -u
cd "$(dirname "$0")/.." || exit 1
CC=${CC:-cc}
. tests/try.sh
. tests/program.sh

lab="$work/mde_lab"
try builds_with_the_command_at_its_top build_by_its_command mde_lab "$lab"
or_leave "$lab"
try has_help_version_and_exit_codes has_help_version_and_exit_codes mde_lab "$lab"

small="--layers 1 --width 16 --heads 2 --context 16 --batch 4 --tokens 6000 --proxies 6 --validation-tokens 300 --questions 12 --quiet"

# The whole job, once with one thread.
try a_run_ends_with_a_report "$lab" run "$work/one" $small --threads 1
for file in report.html report.json mixture.json fit.json search.json verify.json verify.csv predictions.csv curves.csv \
    ratios.csv ratios.npy losses.csv losses.npy features.csv features.npy logprobs/end_task/expert-none; do
    case $file in
    logprobs/*) try run_writes_log_probabilities test -s "$work/one/logprobs/end_task/doc.npy" ;;
    *) try "run_writes_$file" test -s "$work/one/$file" ;;
    esac
done
try report_is_one_file_without_references sh -c "! grep -Eq '(src|href)=\"' '$work/one/report.html'"

# Again: nothing is done, and that is said; with --json the result alone is printed.
(cd "$work/one" && find . -type f -exec cksum {} + | sort) >"$work/before"
"$lab" run "$work/one" $small --json >"$work/result.json" 2>"$work/stderr"
try a_finished_run_goes_through test $? -eq 0
(cd "$work/one" && find . -type f -exec cksum {} + | sort) >"$work/after"
try a_finished_run_stays_as_it_is cmp "$work/before" "$work/after"
try json_is_the_result_and_nothing_else cmp "$work/result.json" "$work/one/report.json"
"$lab" run "$work/one" ${small% --quiet} >"$work/stdout" 2>"$work/stderr"
for step in "train: all runs are done" "fit: is done" "search: is done" "verify: is done" "report: is done"; do
    try "again_${step%%:*}_says_that_it_is_done" grep -q "^$step" "$work/stderr"
done
try a_finished_step_says_that_it_is_done says_done fit "$lab" fit "$work/one"
for cut in fit.json predictions.csv logprobs/end_task/doc.npy runs/proxy-001.safetensors; do
    cp "$work/one/$cut" "$work/whole"
    head -c "$(($(wc -c <"$work/whole") - 9))" "$work/whole" >"$work/one/$cut"
    "$lab" fit "$work/one" >"$work/stdout" 2>"$work/stderr"
    try "a_cut_${cut##*/}_is_no_finished_fit" sh -c "! grep -q 'fit: is done' '$work/stderr'"
    cp "$work/whole" "$work/one/$cut"
done
"$lab" run "$work/one" $small >"$work/log" 2>&1
rm "$work/one/mixture.json"
try a_deleted_mixture_is_found_anew is_done_anew search "$lab" search "$work/one"
try verify_goes_by_the_same_mixtures says_done verify "$lab" verify "$work/one"
rm "$work/one/report.html"
try a_deleted_report_is_written_anew is_done_anew report "$lab" report "$work/one"
(cd "$work/one" && find . -type f -exec cksum {} + | sort) >"$work/after"
try and_all_is_as_it_was cmp "$work/before" "$work/after"
# Made-up text lies beside the results and moves with them; gone, it is made again.
mv "$work/one" "$work/moved"
"$lab" run "$work/moved" >"$work/stdout" 2>"$work/stderr"
try a_moved_experiment_is_done grep -q '^report: is done' "$work/stderr"
rm -r "$work/moved/data"
"$lab" run "$work/moved" >"$work/stdout" 2>"$work/stderr"
try its_text_is_made_again_by_its_own_settings grep -q '^report: is done' "$work/stderr"
mv "$work/moved" "$work/one"
(cd "$work/one" && find . -type f -exec cksum {} + | sort) >"$work/after"
try a_moved_experiment_stays_as_it_is cmp "$work/before" "$work/after"
"$lab" run "$work/one" ${small% --quiet} >"$work/stdout" 2>"$work/stderr"
try a_run_says_what_it_validates_on grep -Eq "^prose +validated on 300 tokens of [0-9]+ of its [0-9]+ held-out doc" \
    "$work/stdout"
try tasks_as_json sh -c "'$lab' tasks '$work/one' --json | grep -c '\"done\": true' | grep -qx 14"
# Its tables are those that mix_optimize reads.
mix="$work/mix_optimize"
try builds_mix_optimize build_by_its_command mix_optimize "$mix"
try its_tables_go_through_mix_optimize "$mix" --ratios "$work/one/ratios.csv" --losses "$work/one/losses.csv" --model ridge \
    --out "$work/mix" --quiet
cp "$work/log" "$work/log.mix"
try its_accuracy_is_no_loss grep -q "end_task_accuracy is not used: it is called like an accuracy" "$work/log.mix"

# A round of runs that mix_optimize proposes: added to the plan, made by make, fitted with those before; the same as from
# the start in one process.
cp -r "$work/one" "$work/round"
try runs_are_proposed "$mix" --ratios "$work/one/ratios.csv" --losses "$work/one/losses.csv" --logp "$work/one/logprobs" \
    --suggest 3 --model ridge --out "$work/mix" --quiet
next="$work/mix/next_runs.csv"
try they_are_planned sh -c "'$lab' plan '$work/round' --mixtures '$next' >'$work/planned'"
try the_plan_says_so grep -qx "6 proxies, and 3 at the mixtures of mixtures.csv" "$work/planned"
try they_alone_are_to_be_made sh -c "'$lab' tasks '$work/round' | awk '\$2 == \"-\" { print \$3 }' | tr '\n' ' ' |
    grep -qx 'proxy-007 proxy-008 proxy-009 '"
(cd "$work/one/runs" && cksum ./[eup]*.safetensors) >"$work/before"
try they_are_made make -f "$work/round/Makefile" -j2 LAB="$lab"
try the_others_stay sh -c "(cd '$work/round/runs' && cksum ./[eup]*.safetensors) | grep -v -e '-00[789]' | cmp - '$work/before'"
try their_mixtures_are_those_proposed sh -c "sed -n '2,\$s/^next[0-9]*//p' '$next' | tr , '\n' >'$work/proposed' &&
    tail -n 3 '$work/round/ratios.csv' | sed 's/^proxy-00[789]//' | tr , '\n' | paste - '$work/proposed' |
    awk '(\$1 - \$2) ^ 2 > 1e-16 { exit 1 }'"
try the_fit_has_all_proxies grep -q '"proxies": 9' "$work/round/fit.json"
try the_report_names_them grep -q "6 proxies at Dirichlet mixtures and 3 at further ones" "$work/round/report.html"
try in_one_process_from_the_start "$lab" run "$work/alone" $small --mixtures "$next"
for file in mixture.json fit.json losses.npy ratios.csv search.json verify.csv mixtures.csv; do
    try "a_round_gives_the_same_$file" cmp "$work/round/$file" "$work/alone/$file"
done
try they_are_added_once "$lab" plan "$work/round" --mixtures "$next"
try the_list_of_them_stays cmp "$work/round/mixtures.csv" "$work/alone/mixtures.csv"
"$lab" run "$work/round" --mixtures "$next" >"$work/stdout" 2>"$work/stderr"
try a_run_without_options_goes_on sh -c "grep -c 'is done' '$work/stderr' | grep -qx 4"
printf 'weight_%s,' tables prose markup logs code arithmetic >"$work/more.csv"
printf 'name\n10,20,30,20,10,10,one\n' >>"$work/more.csv"
try shares_may_be_percents_in_any_order "$lab" plan "$work/round" --mixtures "$work/more.csv"
try a_further_round_follows sh -c "[ \$(wc -l <'$work/round/mixtures.csv') -eq 5 ] &&
    tail -n 1 '$work/round/mixtures.csv' | grep -qx 'proxy-010,0.1[0-9]*,0.1[0-9]*,0.2[0-9]*,0.\(3\|29\)[0-9]*,0.2[0-9]*,0.1[0-9]*'"

try two_threads_run "$lab" run "$work/two" $small --threads 2
for file in mixture.json fit.json search.json verify.json predictions.csv; do
    try "one_thread_and_two_give_the_same_$file" cmp "$work/one/$file" "$work/two/$file"
done

# Larger sizes: half of the proxies at each, the mixture for the largest trained there.
try sizes_run "$lab" run "$work/sizes" $small --sizes 1x24,2x32 --threads 2
try sizes_are_planned sh -c "'$lab' tasks '$work/sizes' --json | grep -c '\"done\": true' | grep -qx 24"
for mixture in largest-by-law largest-by-own uniform proportional; do
    try "the_largest_size_trains_$mixture" sh -c "sed -n '/\"largest\"/,\$p' '$work/sizes/verify.json' | grep -q '\"$mixture\"'"
done
try the_mixture_is_the_one_for_the_largest sh -c "grep -o '0\.[0-9]*' '$work/sizes/mixture.json' | head -n 1 >'$work/found' &&
    sed -n '/\"sizes\": {/,\$p' '$work/sizes/search.json' | grep -q -f '$work/found'"
try proxies_of_the_own_size_stay_as_they_were cmp "$work/one/ratios.csv" "$work/sizes/ratios.csv"
try sizes_go_through_mix_optimize "$mix" --table "$work/sizes/sizes.csv" --target-params 100000 --model ridge \
    --out "$work/mix_sizes" --quiet
"$lab" run "$work/sizes" ${small% --quiet} --sizes 1x24,2x32 >"$work/stdout" 2>"$work/stderr"
try sizes_are_done_once sh -c "grep -c 'is done' '$work/stderr' | grep -qx 4"
rm "$work/sizes/runs/largest-by-law.safetensors"
try a_deleted_run_of_the_largest_is_made_anew is_done_anew verify "$lab" verify "$work/sizes"

# Killed in the middle, at several places; the same command goes on.
"$lab" run "$work/cut" $small --threads 1 >/dev/null 2>&1 &
pid=$!
for pause in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
    [ "$(ls "$work/cut/runs" 2>/dev/null | grep -c safetensors)" -ge 4 ] && break
    sleep 0.1
done
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
try a_killed_run_was_not_finished test ! -e "$work/cut/mixture.json"
try a_killed_run_goes_on "$lab" run "$work/cut" $small --threads 1
try a_killed_run_gives_the_same_mixture cmp "$work/one/mixture.json" "$work/cut/mixture.json"

mv "$work/cut/runs/proxy-002.safetensors" "$work/whole"
printf '\020\001\000\000\000\000\000\000{"__metadata__":{"mdemix.mod' >"$work/cut/runs/proxy-002.checkpoint"
try a_checkpoint_cut_short_is_named sh -c "'$lab' run '$work/cut' $small --threads 1 2>&1 |
    grep -q '/cut/runs/proxy-002.checkpoint: .*; the training begins anew'"
try and_the_run_is_trained_anew cmp "$work/whole" "$work/cut/runs/proxy-002.safetensors"

# Stopped by control-C: the exit code of an interrupted program.
"$lab" run "$work/stop" $small --tokens 400000 --threads 1 >/dev/null 2>&1 &
pid=$!
sleep 2
kill -INT $pid 2>/dev/null
wait $pid
code=$?
if [ $code -eq 130 ]; then ok control_c_stops_with_code_130; else bad control_c_stops_with_code_130 "code $code"; fi

# Steps one at a time, tasks in another order.
try plan "$lab" plan "$work/steps" $small
tasks=$("$lab" tasks "$work/steps" | awk '{print $1}' | sort -rn | tr '\n' ' ')
try tasks_in_reverse "$lab" task "$work/steps" $tasks --quiet
for step in fit search verify report; do try "step_$step" "$lab" $step "$work/steps" --quiet; done
try steps_give_the_same_mixture cmp "$work/one/mixture.json" "$work/steps/mixture.json"
"$lab" plan "$work/early" $small >/dev/null 2>&1

# In many processes: by make, and by the script for Slurm, with a stand-in for sbatch that runs at once what it is given.
try plan_for_make "$lab" plan "$work/ma'de" $small
try make_makes_the_runs_and_all_steps make -f "$work/ma'de/Makefile" -j2 LAB="$lab"
try make_gives_the_same_mixture cmp "$work/one/mixture.json" "$work/ma'de/mixture.json"
mkdir "$work/bin"
cat >"$work/bin/sbatch" <<'END'
#!/bin/sh
last= after= valid=
for option in "$@"; do
    case $option in
    --array=0-*) last=${option#--array=0-} ;;
    --dependency=afterok:7) after=1 ;;
    --kill-on-invalid-dep=yes) valid=1 ;;
    --*) ;;
    *) script=$option ;;
    esac
done
if [ -n "$last" ]; then
    : >"$STAND_IN/failed"
    i=0
    while [ $i -le "$last" ]; do
        SLURM_JOB_ID=1 SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$i sh "$script" >>"$STAND_IN/log" 2>&1 || echo $i >>"$STAND_IN/failed"
        i=$((i + 1))
    done
    echo "7;cluster"
elif [ -z "$after" ] || [ -z "$valid" ]; then
    exit 3
elif [ ! -s "$STAND_IN/failed" ]; then
    SLURM_JOB_ID=8 sh "$script" >>"$STAND_IN/log" 2>&1
fi
END
printf '#!/bin/sh\necho "$@" >>"$STAND_IN/requeued"\n' >"$work/bin/scontrol"
printf '#!/bin/sh\n[ "$SLURM_ARRAY_TASK_ID" != 3 ] && exec "%s" "$@"\n' "$lab" >"$work/bin/failing"
printf '#!/bin/sh\ntrap "exit 130" TERM\nkill -TERM $PPID\nwhile :; do sleep 0.1; done\n' >"$work/bin/stopped"
chmod +x "$work"/bin/*
slurm() { program=$1; shift; env "$@" PATH="$work/bin:$PATH" STAND_IN="$work" LAB="$program" sh "$work/slurm/slurm.sbatch"; }
try plan_for_slurm "$lab" plan "$work/slurm" $small
try slurm_takes_the_runs slurm "$work/bin/failing" A=
try slurm_runs_no_step_after_a_run_that_failed sh -c "grep -qx 3 '$work/failed' && ! [ -e '$work/slurm/fit.json' ]"
try slurm_takes_them_again slurm "$lab" A=
try slurm_gives_the_same_mixture cmp "$work/one/mixture.json" "$work/slurm/mixture.json"
slurm "$work/bin/stopped" SLURM_JOB_ID=1 SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=2 >"$work/log" 2>&1
try a_run_that_was_stopped_is_queued_again grep -qx "requeue 7_2" "$work/requeued"
array() { env -u SLURM_ARRAY_TASK_ID -u PBS_ARRAY_INDEX -u JOB_COMPLETION_INDEX -u SGE_TASK_ID "$@" "$lab" task "$work/early" --quiet; }
try a_task_by_pbs array PBS_ARRAY_INDEX=2
try a_task_by_kubernetes array JOB_COMPLETION_INDEX=3
try a_task_by_grid_engine_is_counted_from_1 array SGE_TASK_ID=5
try they_are_the_runs_with_these_numbers sh -c \
    "'$lab' tasks '$work/early' | awk '\$2 == \"done\" { print \$1 }' | tr '\n' ' ' | grep -qx '2 3 4 '"

# Wrong input: one clear line on stderr, an exit code other than 0, nothing half-written.
wrong() {
    name=$1; expected=$2; out=$3; shift 3
    "$@" >"$work/stdout" 2>"$work/stderr"
    code=$?
    lines=$(wc -l <"$work/stderr")
    if [ $code -eq 0 ] || [ $code -gt 125 ]; then bad "$name" "exit code $code"
    elif [ "$lines" -ne 1 ]; then bad "$name" "$lines lines on stderr: $(cat "$work/stderr")"
    elif ! grep -q -- "$expected" "$work/stderr"; then bad "$name" "$(cat "$work/stderr")"
    elif [ "$out" != - ] && [ -e "$out/plan.json" ]; then bad "$name" "left a plan behind"
    else ok "$name"; fi
}
mkdir "$work/single" "$work/empty" "$work/withempty"
head -c 20000 "$work/one/data/prose.txt" >"$work/single/prose.txt"
head -c 20000 "$work/one/data/code.txt" >"$work/withempty/code.txt"
: >"$work/withempty/nothing.txt"
wrong missing_data_folder "missing" "$work/w1" "$lab" run "$work/w1" --data "$work/missing"
wrong empty_data_folder "empty" "$work/w2" "$lab" run "$work/w2" --data "$work/empty"
wrong empty_file "nothing" "$work/w3" "$lab" run "$work/w3" --data "$work/withempty"
wrong one_domain_only "one domain" "$work/w4" "$lab" run "$work/w4" --data "$work/single"
wrong width_and_heads_that_do_not_fit "width 7" "$work/w5" "$lab" run "$work/w5" --data "$work/one/data" --width 7 --heads 2
wrong width_and_heads_on_built_in_text "width 7" "$work/w5b" "$lab" run "$work/w5b" --width 7 --heads 2
wrong unknown_option "not an option" "$work/w6" "$lab" run "$work/w6" --frobnicate 3
wrong value_that_is_no_number "not a value" "$work/w7" "$lab" run "$work/w7" --tokens many
wrong unknown_preset "preset" "$work/w8" "$lab" run "$work/w8" --data "$work/one/data" --preset huge
wrong too_few_proxies "proxies" "$work/w9" "$lab" run "$work/w9" --data "$work/one/data" --proxies 2
wrong unwritable_out "cannot be" - "$lab" run "$work/one/mixture.json/out" --data "$work/one/data"
wrong another_plan_in_the_folder "tokens" - "$lab" run "$work/one" $small --tokens 7000
wrong sizes_that_shrink "1x8 has .* no more than" "$work/w10" "$lab" run "$work/w10" --data "$work/one/data" $small --sizes 1x8
wrong sizes_that_are_none "\"wide\" is none" "$work/w11" "$lab" run "$work/w11" --data "$work/one/data" $small --sizes wide
wrong sizes_that_are_others "sizes" - "$lab" run "$work/sizes" $small --sizes 1x24,2x48
wrong fit_before_the_runs "not finished" - "$lab" fit "$work/early"
wrong search_before_fit "fit" - "$lab" search "$work/early"
wrong task_out_of_range "not in the plan" - "$lab" task "$work/early" 999
wrong task_of_no_array "no task is named" - array SGE_TASK_ID=undefined
wrong task_of_a_strange_array "which is no number of a task" - array SLURM_ARRAY_TASK_ID=first
wrong_round() { # NAME EXPECTED SED-EXPRESSION: a changed table is refused, and nothing changes
    sed "$3" "$next" >"$work/bad.csv"
    cp "$work/round/mixtures.csv" "$work/was"
    wrong "$1" "bad.csv$2" - "$lab" plan "$work/round" --mixtures "$work/bad.csv"
    wrong "$1_in_a_new_folder" "bad.csv$2" "$work/w0" "$lab" plan "$work/w0" $small --mixtures "$work/bad.csv"
    try "$1_changes_nothing" cmp "$work/was" "$work/round/mixtures.csv"
}
wrong_round a_round_without_a_domain ": has no column code, a domain" '1s/code/coda/'
wrong_round a_round_of_sums " line 3: weights sum to [0-9.]*; expected 1 or 100" '3s/,[^,]*$/,0.9/'
wrong_round a_round_of_a_negative_weight " line 2: the weight of arithmetic is -0.5" '2s/,[^,]*/,-0.5/'
wrong_round a_round_of_a_larger_model " line 2: params is 1e+09; expected" '1s/$/,params/; 2,$s/$/,1e9/'
wrong_round a_round_of_longer_runs " line 2: tokens is 7000; expected 6000" '1s/$/,tokens/; 2,$s/$/,7000/'
wrong no_round "missing.csv" - "$lab" plan "$work/round" --mixtures "$work/missing.csv"
wrong a_round_for_a_step "belongs to run and plan" - "$lab" fit "$work/round" --mixtures "$next"
wrong a_fit_without_the_round "proxy-010) is not finished" - "$lab" fit "$work/round"
sed '3s/proxy-008/proxy-009/' "$work/was" >"$work/round/mixtures.csv"
wrong a_list_that_was_changed "mixtures.csv line 3: its run is proxy-009; expected proxy-008" - "$lab" tasks "$work/round"
# A plan that was cut short is written again by those who know its settings; of one that was edited the setting is named.
cp "$work/early/plan.json" "$work/whole"
for bytes in 0 9 700; do
    head -c $bytes "$work/whole" >"$work/early/plan.json"
    wrong "a_plan_of_${bytes}_bytes_is_named" "early/plan.json line" - "$lab" tasks "$work/early"
    try "a_plan_of_${bytes}_bytes_is_planned_again" "$lab" plan "$work/early" $small
    try "a_plan_of_${bytes}_bytes_is_as_it_was" cmp "$work/whole" "$work/early/plan.json"
done
for edit in context=[] context=0 batch=-2 questions='"8"' preset=null data=true learning_rate=-1e300; do
    sed "s/\"${edit%%=*}\": [^,]*,/\"${edit%%=*}\": ${edit#*=},/" "$work/whole" >"$work/early/plan.json"
    wrong "a_plan_with_$edit" "early/plan.json: ${edit%%=*} is .*; expected a" - "$lab" tasks "$work/early"
done
cp "$work/whole" "$work/early/plan.json"

# Outputs are tried before the work.
train="$work/train_lm"
try train_lm_builds_with_the_command_at_its_top build_by_its_command train_lm "$train"
tiny="--layers 1 --width 16 --heads 2 --context 16 --batch 4 --tokens 640 --sample 5"
for option in --out --checkpoint; do
    wrong "train_lm${option}_in_a_missing_folder" "cannot be written" - "$train" "$work/single/prose.txt" $tiny $option \
        "$work/no/such/file"
    try "train_lm${option}_is_tried_first" test ! -s "$work/stdout"
    wrong "train_lm${option}_is_a_folder" "is a folder" - "$train" "$work/single/prose.txt" $tiny $option "$work/single"
    wrong "train_lm${option}_on_a_full_disk" "cannot be written" - \
        sh -c "trap '' XFSZ; ulimit -f 8; exec '$train' '$work/single/prose.txt' $tiny $option '$work/large'"
    try "train_lm${option}_on_a_full_disk_is_tried_first" test ! -s "$work/stdout"
done
try train_lm_trains "$train" "$work/single/prose.txt" $tiny --quiet --out "$work/small.safetensors"
"$train" "$work/single/prose.txt" $tiny --json >"$work/result.json" 2>/dev/null
try train_lm_json_is_its_losses sh -c "head -c 1 '$work/result.json' | grep -q '{' && grep -q bits_a_byte '$work/result.json' &&
    ! grep -q validate '$work/result.json'"
# Finished, it says so and what it found, and does no more, unless the text, an option or a file of it is another one.
words="$work/single/prose.txt $tiny --checkpoint $work/ready --out $work/ready.safetensors"
try train_lm_with_a_checkpoint "$train" $words
grep -A 99 " validation loss " "$work/log" >"$work/found"
try a_finished_training_says_that_it_is_done says_done train_lm "$train" $words
try a_finished_training_prints_what_it_found sh -c "[ -s '$work/found' ] && cmp '$work/found' '$work/stdout'"
"$train" $words --json >"$work/result.json" 2>/dev/null
try a_finished_training_as_json says_done train_lm "$train" $words --json
try a_finished_training_prints_the_same_json cmp "$work/result.json" "$work/stdout"
try another_option_is_no_finished_training is_done_anew train_lm "$train" $words --sample 6
try another_seed_is_no_finished_training sh -c "! '$train' $words --sample 6 --seed 5 2>&1 | grep 'is done'"
try a_training_is_finished_again is_done_anew train_lm "$train" $words
for file in ready ready.safetensors config.json; do
    printf x >>"$work/$file"
    "$train" $words >"$work/stdout" 2>"$work/stderr"
    try "a_longer_${file##*.}_is_no_finished_training" sh -c "! grep 'is done' '$work/stderr'"
    rm "$work/$file"
    try "a_deleted_${file##*.}_is_no_finished_training" is_done_anew train_lm "$train" $words
done
# A checkpoint that was cut short, as a copy or a disk may leave it, is named, and the training begins anew; a file of
# another kind stays.
cp "$work/ready" "$work/whole"
for bytes in 0 5 20 3000 $(($(wc -c <"$work/whole") - 1)); do
    head -c $bytes "$work/whole" >"$work/ready"
    "$train" $words --quiet >"$work/stdout" 2>"$work/stderr"
    try "a_checkpoint_of_${bytes}_bytes_begins_anew" sh -c "[ $? -eq 0 ] && [ \$(wc -l <'$work/stderr') -eq 1 ] &&
        grep -q '^train_lm: $work/ready: .*the training begins anew' '$work/stderr' && cmp '$work/whole' '$work/ready'"
done
for text in me notes 'a few words about the text'; do
    echo "$text" >"$work/ready"
    wrong "a_checkpoint_that_is_${text%% *}" "is not a" - "$train" $words
    try "a_checkpoint_that_is_${text%% *}_stays" grep -qx "$text" "$work/ready"
done
echo "more" >>"$work/single/prose.txt"
rm "$work/ready"
try another_text_is_no_finished_training is_done_anew train_lm "$train" $words
mkdir -p "$work/next/examples"
sed 's/^#define MDE_VERSION "/&9/' mdemix.h >"$work/next/mdemix.h"
cp examples/program.h "$work/next/examples"
cp examples/train_lm.c "$work/next/examples/next_lm.c"     # a name of its own, also for what counts coverage
try another_version_is_built $CC -O0 -w "$work/next/examples/next_lm.c" -o "$work/next/train_lm" -lm
try another_version_is_no_finished_training is_done_anew train_lm "$work/next/train_lm" $words
# A device or pipe gets the weights and nothing beside it, and is no finished training.
for option in --out --checkpoint; do
    try "train_lm${option}_to_a_device" "$train" "$work/single/prose.txt" $tiny --quiet $option /dev/null
    try "train_lm${option}_to_a_device_again" "$train" "$work/single/prose.txt" $tiny --quiet $option /dev/null
done
try no_text_goes_beside_a_device sh -c "[ -c /dev/null ] && [ ! -e /dev/config.json ]"
mkdir "$work/pipe" && mkfifo "$work/pipe/weights"
cat "$work/pipe/weights" >"$work/piped" &
try train_lm_out_to_a_pipe "$train" "$work/single/prose.txt" $tiny --quiet --out "$work/pipe/weights"
wait $!
"$train" "$work/single/prose.txt" $tiny --quiet --out "$work/beside.safetensors" >"$work/stdout" 2>&1
try a_pipe_gets_the_same_weights cmp "$work/beside.safetensors" "$work/piped"
try no_text_goes_beside_a_pipe sh -c "[ -p '$work/pipe/weights' ] && [ \$(ls -A '$work/pipe' | wc -l) -eq 1 ]"
if [ -c /dev/full ]; then
    "$train" "$work/single/prose.txt" $tiny --quiet >/dev/full 2>"$work/stderr"
    try what_cannot_be_printed_is_a_failure sh -c "[ $? -eq 1 ] && grep -q 'standard output' '$work/stderr'"
fi
wrong out_in_a_file "the folder cannot be made" - "$lab" run "$work/single/prose.txt/out"
try no_text_was_made test ! -s "$work/stdout"

# What is there already stays as it is.
echo mine >"$work/mine"
wrong out_is_a_file "is a file" - "$lab" run "$work/mine"
try a_file_in_the_way_is_left_alone grep -qx mine "$work/mine"
wrong out_of_a_plan_is_a_file "is a file" - "$lab" plan "$work/mine" --layers 1
try a_file_in_the_way_of_a_plan_is_left_alone grep -qx mine "$work/mine"
mkdir -p "$work/own/data" "$work/hollow"
echo "my text" >"$work/own/data/poems.txt"
echo "my code" >"$work/own/data/code.txt"
wrong a_data_folder_of_ones_own "holds poems.txt" "$work/own" "$lab" run "$work/own"
try ones_own_data_stay sh -c "grep -qx 'my text' '$work/own/data/poems.txt' && grep -qx 'my code' '$work/own/data/code.txt' &&
    [ \$(ls '$work/own/data' | wc -l) -eq 2 ]"
rm "$work/own/data/poems.txt"
wrong a_plan_that_fails_on_ones_own_text "code" "$work/own" "$lab" plan "$work/own"
try what_a_failed_plan_made_is_gone_and_no_more sh -c "grep -qx 'my code' '$work/own/data/code.txt' &&
    [ \$(ls '$work/own/data' | wc -l) -eq 1 ]"
wrong a_plan_that_fails_in_an_empty_folder "width 7" "$work/hollow" "$lab" plan "$work/hollow" --width 7 --heads 2
try an_empty_folder_stays_and_stays_empty sh -c "[ -d '$work/hollow' ] && [ -z \"\$(ls '$work/hollow')\" ]"
wrong a_plan_that_fails_leaves_no_folder "width 7" "$work/new" "$lab" plan "$work/new" --width 7 --heads 2
try no_folder_is_left test ! -e "$work/new"
wrong no_command "expected a command" - "$lab"

finish
