#!/bin/sh
# dagan_lab as a user meets it: a whole small run, a killed run that goes on, a stopped one, threads, wrong input.
# Closes with "N passed, N failed" like the test programs. CC as in the Makefile.
set -u
cd "$(dirname "$0")/.." || exit 1
CC=${CC:-cc}
. tests/try.sh
. tests/program.sh

lab="$work/dagan_lab"
try builds_with_the_command_at_its_top build_by_its_command dagan_lab "$lab"
or_leave "$lab"
try has_help_version_and_exit_codes has_help_version_and_exit_codes dagan_lab "$lab"

tiny="--preset quick --size 16 --steps 20 --classifier-steps 4 --episodes 3 --runs 1 --quiet"

try a_run_ends_with_a_report "$lab" run $tiny --threads 1 --out "$work/one"
for file in dagan.safetensors weights.safetensors weights.matcher.safetensors training.png training.csv samples.png \
    interpolation.png failures.png nearest.png train.json sample.json classify.json classify.csv match.json transfer.json \
    report.html report.json; do
    try "run_writes_$file" test -s "$work/one/$file"
done
for part in 'look like another class' 'No copies of the training' 'diversity of made images' 'by made images a real one'; do
    try "the_report_shows_$(echo "$part" | tr ' ' '_')" grep -q "$part" "$work/one/report.html"
done
try looks_are_taken_at_every_twentieth test "$(wc -l <"$work/one/training.csv")" -eq 21
try report_is_one_file_without_references sh -c "! grep -Eq '(src|href)=\"[^d]' '$work/one/report.html'"

try two_threads_train "$lab" train $tiny --threads 2 --out "$work/two"
try two_threads_classify "$lab" classify $tiny --threads 2 --out "$work/two"
for file in dagan.safetensors train.json classify.json; do
    try "one_thread_and_two_give_the_same_$file" cmp "$work/one/$file" "$work/two/$file"
done

# Again: nothing is done, and that is said; with another setting it is done anew.
"$lab" classify ${tiny% --quiet} --out "$work/two" --json >"$work/result.json" 2>"$work/stderr"
try a_finished_step_says_that_it_is_done grep -q "^classify: is done: $work/two/classify.json" "$work/stderr"
try json_is_the_result_and_nothing_else cmp "$work/result.json" "$work/one/classify.json"
try a_step_with_another_setting_is_done_anew "$lab" classify $tiny --classifier-steps 3 --out "$work/two"
try and_gives_another_result sh -c "! cmp -s '$work/one/classify.json' '$work/two/classify.json'"
done="${tiny% --quiet} --out $work/one"
(cd "$work/one" && find . -type f -exec cksum {} + | sort) >"$work/before"
"$lab" run $done >"$work/said" 2>&1
(cd "$work/one" && find . -type f -exec cksum {} + | sort) >"$work/after"
try a_finished_run_stays_as_it_is cmp "$work/before" "$work/after"
for step in train sample classify match transfer report; do
    try "again_${step}_says_that_it_is_done" grep -q "^$step: is done: $work/one/" "$work/said"
    try "${step}_alone_says_so_too" says_done $step "$lab" $step $done
done
try a_finished_run_says_no_more test "$(grep -cv ': is done: ' "$work/said")" -eq 0
rm "$work/one/interpolation.png"
try a_deleted_picture_is_made_anew is_done_anew sample "$lab" sample $done
sed 's/"mean": 0/"mean": 1/' "$work/one/transfer.json" >"$work/edited" && cp "$work/edited" "$work/one/transfer.json"
try a_report_of_edited_results_is_made_anew is_done_anew report "$lab" report $done
try an_edited_result_is_found_anew is_done_anew transfer "$lab" transfer $done
head -c 1000 "$work/one/training.png" >"$work/edited" && cp "$work/edited" "$work/one/training.png"
try a_cut_picture_of_the_training_is_made_anew is_done_anew train "$lab" train $done
try the_report_of_what_it_was_is_made_anew is_done_anew report "$lab" report $done
(cd "$work/one" && find . -type f -exec cksum {} + | sort) >"$work/after"
try and_all_is_as_it_was cmp "$work/before" "$work/after"

# What was measured is not measured again: without the result it is written anew from the rows.
cp "$work/one/classify.csv" "$work/rows.csv"
mv "$work/one/classify.json" "$work/result.json"
try a_deleted_result_is_made_anew is_done_anew classify "$lab" classify $done
try from_the_rows_that_are_there cmp "$work/rows.csv" "$work/one/classify.csv"
try and_is_the_same cmp "$work/result.json" "$work/one/classify.json"
try every_arm_has_its_row test "$(cut -d, -f2,5 "$work/one/classify.csv" | grep -c '^target,')" -eq 6

# Networks from a file, on a sheet of characters that they never saw.
sheet="--weights $work/one/weights.safetensors --data examples/data/characters.pbm --cells 42"
try weights_make_images "$lab" make --quiet $sheet --size 16 --count 2 --out "$work/sheet"
try of_every_character test "$(wc -l <"$work/sheet/made/classes.txt")" -eq 40
try by_every_hand test "$(grep -c ',0,' "$work/sheet/made/index.csv")" -eq 800
try weights_run "$lab" run $tiny $sheet --samples 1 --out "$work/sheet"
try the_report_opens_with_the_difference grep -q '<b>1 real image a class</b>: .*(difference' "$work/sheet/report.html"
try and_says_whose_networks_they_are grep -q "The generator comes from $work/one/weights.safetensors" "$work/sheet/report.html"

# The trained generator that ships draws the picture of the README.
try the_trained_generator_makes_images "$lab" sample --weights examples/weights/omniglot.safetensors \
    --data examples/data/characters.pbm --cells 42 --quiet --out "$work/characters"
try they_are_the_picture_of_the_readme cmp "$work/characters/samples.png" examples/pictures/characters.png

# Killed after its first checkpoint; the same command goes on and ends with the same bytes.
"$lab" train $tiny --threads 1 --out "$work/cut" >/dev/null 2>&1 &
pid=$!
for pause in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
    [ -s "$work/cut/dagan.safetensors" ] && break
    sleep 0.1
done
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
try a_killed_training_was_not_finished test ! -e "$work/cut/train.json"
try a_killed_training_goes_on "$lab" train $tiny --threads 1 --out "$work/cut"
try a_killed_training_gives_the_same_networks cmp "$work/one/dagan.safetensors" "$work/cut/dagan.safetensors"
try a_killed_training_gives_the_same_curve cmp "$work/one/train.json" "$work/cut/train.json"

head -c 5000 "$work/one/dagan.safetensors" >"$work/cut/dagan.safetensors"
try a_training_with_a_cut_checkpoint_begins_anew sh -c "'$lab' train $tiny --threads 1 --out '$work/cut' 2>&1 |
    grep -q '/cut/dagan.safetensors: .*; the training begins anew'"
try a_training_with_a_cut_checkpoint_gives_the_same cmp "$work/one/dagan.safetensors" "$work/cut/dagan.safetensors"
size=$(wc -c <"$work/cut/dagan.safetensors")
printf '\125' | dd of="$work/cut/dagan.safetensors" bs=1 seek=$((size - 1001)) conv=notrunc 2>/dev/null
try a_training_with_a_damaged_checkpoint_begins_anew sh -c "'$lab' train $tiny --threads 1 --out '$work/cut' 2>&1 |
    grep -q '/cut/dagan.safetensors: was damaged .*; the training begins anew'"
try a_training_with_a_damaged_checkpoint_gives_the_same cmp "$work/one/dagan.safetensors" "$work/cut/dagan.safetensors"

# Stopped by a signal: a valid checkpoint, and the exit code of an interrupted program.
"$lab" train $tiny --steps 100000 --threads 1 --out "$work/stop" >/dev/null 2>&1 &
pid=$!
sleep 2
kill -INT $pid 2>/dev/null
wait $pid
code=$?
if [ $code -eq 130 ]; then ok a_signal_stops_with_code_130; else bad a_signal_stops_with_code_130 "code $code"; fi
try a_stopped_training_leaves_usable_networks "$lab" sample --preset quick --size 16 --quiet --out "$work/stop"

# A Matching Network that takes minutes says so, in a file, too.
"$lab" train --preset quick --size 16 --threads 1 --episodes 1000000 --out "$work/long" >/dev/null 2>"$work/long.log" &
pid=$!
tries=0
while [ $tries -lt 200 ] && ! grep -q 'minutes' "$work/long.log"; do
    sleep 0.3
    tries=$((tries + 1))
done
kill -INT $pid 2>/dev/null
wait $pid
try a_long_training_of_a_matcher_says_how_long grep -q '^screener: 1000000 episodes, about [0-9]* more minutes' \
    "$work/long.log"

# Images out, in three formats, which are sets themselves: 20 real and 3 made images of each of 30 target classes.
try make "$lab" make $done --count 2
try made_images_say_that_they_are_done says_done make "$lab" make $done --count 2
try another_number_of_images_is_made is_done_anew make "$lab" make $done --count 1
rm "$(find "$work/one/made" -name 'made-00000.png' | head -n 1)"
try a_deleted_image_is_made_anew is_done_anew make "$lab" make $done --count 1
"$lab" train $done --steps 21 --quiet
try images_of_other_networks_are_made_anew is_done_anew make "$lab" make $done --count 1
rm -r "$work/one/made"
for format in folder npy idx; do
    try "make_writes_$format" "$lab" make --preset quick --size 16 --quiet --count 3 --format $format --out "$work/one"
done
first=$(head -n 1 "$work/one/made/classes.txt")
try made_folders_hold_real_images test -s "$work/one/made/$first/real-00019.png"
try made_folders_hold_made_images test -s "$work/one/made/$first/made-00002.png"
try the_index_names_every_image test "$(wc -l <"$work/one/made/index.csv")" -eq 691
try the_flags_tell_made_from_real sh -c "tail -c 23 '$work/one/made/made-idx1-ubyte' | od -An -v -tu1 | tr -s ' \n' ' ' |
    grep -q '^ 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 1 $'"
mkdir "$work/arrays" && mv "$work"/one/made/*.npy "$work"/one/made/*ubyte "$work/arrays"
# The folder holds PNG, which is read where stb_image.h is there to build with.
once="--preset quick --quiet --steps 1 --episodes 3"
"$lab" train $once --data "$work/one/made" --out "$work/pictures" >"$work/stdout" 2>"$work/stderr"
grep -q 'include stb_image.h' "$work/stderr" && reads_png='' || reads_png=1
for set in ${reads_png:+made} arrays/images.npy arrays/images-idx3-ubyte; do
    [ $set = made ] && path="$work/one/made" || path="$work/$set"
    try "made_images_are_a_set:$set" "$lab" train $once --data "$path" \
        --out "$work/again-${set##*/}"
done

# A range that says what the values say anyway gives the same images; another one is refused.
data_of() { grep -a -o '"lab.data":"[0-9a-f]*"' "$1"; }
"$lab" train $once --data "$work/arrays/images.npy" --range -1,1 --out "$work/ranged"
try a_range_gives_the_same_images test -n "$(data_of "$work/ranged/dagan.safetensors")" -a \
    "$(data_of "$work/ranged/dagan.safetensors")" = "$(data_of "$work/again-images.npy/dagan.safetensors")"
"$lab" train $once --data "$work/arrays/images.npy" --range=0,1 --out "$work/unmade" \
    2>"$work/stderr"
try another_range_is_refused grep -q 'values from -1 to .*expected 0 to 1' "$work/stderr"

# A checkpoint knows what it was trained on. Refused with one line that names the option, by every later step.
split() {
    name=$1; expected=$2; shift 2
    "$@" --quiet >"$work/stdout" 2>"$work/stderr"
    code=$?
    if [ $code -eq 1 ] && [ "$(wc -l <"$work/stderr")" -eq 1 ] && grep -q -- "$expected" "$work/stderr"; then ok "$name"
    else bad "$name" "code $code: $(cat "$work/stderr")"; fi
}
for step in sample classify match transfer make; do
    split "another_seed_is_refused_by_$step" 'another --seed (1, now 2)' "$lab" $step $tiny --seed 2 --out "$work/one"
done
split other_data_are_refused 'another --data' "$lab" sample $tiny --data "$work/arrays/images.npy" --out "$work/one"
split another_size_is_refused 'another --data' "$lab" sample $tiny --size 20 --out "$work/one"
split another_target_is_refused 'another --target' "$lab" classify $tiny --target "$work/arrays/images.npy" --out "$work/one"
split weights_of_another_size_are_refused 'makes images of 16 x 16 x 1' "$lab" make $sheet --out "$work/unmade"
split a_sheet_of_other_cells_is_refused 'no binary PBM picture of whole cells' "$lab" make $sheet --cells 41 --out "$work/unmade"
split training_goes_on_with_its_own_seed_only 'seed' "$lab" train $tiny --seed 2 --out "$work/one"
try a_teacher_is_trained_first "$lab" train $tiny --threads 1 --teach 3 --out "$work/taught"
try and_kept test -s "$work/taught/teacher.safetensors"
try a_taught_generator_is_another_one sh -c "! cmp -s '$work/one/weights.safetensors' '$work/taught/weights.safetensors'"
split training_goes_on_with_its_own_teacher_only 'teach' "$lab" train $tiny --teach 4 --out "$work/taught"

# A split by names: of classes, or of folders of them.
if [ $reads_png ]; then
    quote() { sed -n "$1" "$work/one/made/classes.txt" | sed 's/.*/"&"/' | paste -sd, -; }
    printf '{"source": [%s], "validation": [%s], "target": [%s]}' "$(quote 1,24p)" "$(quote 25,27p)" "$(quote 28,30p)" \
        >"$work/split.json"
    try a_split_by_file_trains "$lab" train $once --data "$work/one/made" \
        --split "$work/split.json" --out "$work/split"
    try a_split_by_file_has_its_target "$lab" sample $once --data "$work/one/made" --split "$work/split.json" --out "$work/split"
    split another_split_is_refused 'another --split' "$lab" sample --preset quick --data "$work/one/made" --out "$work/split"
    printf '{"source": ["%s", "nobody"], "validation": [], "target": []}' "$first" >"$work/bad.json"
    split a_split_of_unknown_names_is_refused '"source" has nobody' "$lab" train --preset quick --data "$work/one/made" \
        --split "$work/bad.json" --out "$work/unmade"
    printf '{"source": ["%s", "%s"]}' "$first" "$first" >"$work/bad.json"
    split a_class_named_twice_is_refused "$first is named twice" "$lab" train --preset quick --data "$work/one/made" \
        --split "$work/bad.json" --out "$work/unmade"
else
    skip splits_by_file "built without stb_image.h"
fi

# Few classes, few images, many classes: what cannot be done is said before the training, and there is a report.
run() {
    name=$1; shift
    "$lab" run --preset quick --steps 2 --classifier-steps 3 --episodes 2 --runs 1 --threads 1 "$@" --out "$work/$name" \
        >"$work/stdout" 2>"$work/stderr"
    code=$?
    if [ $code -eq 0 ] && [ -s "$work/$name/report.html" ] && [ -s "$work/$name/report.json" ]; then ok "run_with_$name"
    else bad "run_with_$name" "code $code: $(tail -n 2 "$work/stderr")"; fi
}
before() { sed '/^train /,$d' "$work/stderr" | grep -q -- "$1"; }     # said before the first step
run ten_classes --max-classes 10 --size 8
try ten_classes_are_matched_two_by_two grep -q '"way": 2' "$work/ten_classes/match.json"
try ten_classes_say_so_first before '2-way'
run three_images --max-samples 3 --size 8
try three_images_are_not_classified grep -q 'left_out.*7 images or more' "$work/three_images/classify.json"
try three_images_say_so_first before 'classify is left out'
try three_images_are_matched_by_one_shot grep -q '"shot": 1' "$work/three_images/match.json"
try the_report_says_what_is_left_out grep -q 'Left out: it takes two target classes' "$work/three_images/report.html"
if [ $reads_png ]; then
    cp -r "$work/one/made" "$work/lonely"
    for image in "$work/lonely/$first"/real-0000[1-9].png "$work/lonely/$first"/real-0001?.png "$work/lonely/$first"/made*; do
        rm "$image"
    done
    run a_source_class_of_one_image --data "$work/lonely" --split "$work/split.json" --size 8
    printf '{"source": [%s], "validation": [%s], "target": [%s]}' "$(quote 7,30p)" "$(quote 4,6p)" "$(quote 1,3p)" \
        >"$work/lonely.json"
    run a_target_class_of_one_image --data "$work/lonely" --split "$work/lonely.json" --size 8
    try a_target_class_of_one_image_is_left_out grep -q '"classes": 2' "$work/a_target_class_of_one_image/match.json"
    try and_that_is_said_first before 'match: 2 of the 3 target classes'
else
    skip classes_of_one_image "built without stb_image.h"
fi
run six_thousand_classes --max-classes 6000 --max-samples 7 --size 6
"$lab" classify --preset quick --max-samples 3 --size 8 --quiet --out "$work/three_images" >"$work/stdout" 2>"$work/stderr"
try asked_for_alone_it_is_an_error grep -q 'classify: it takes two target classes' "$work/stderr"
"$lab" train --preset quick --steps 1 --max-samples 1 --out "$work/unmade" >"$work/stdout" 2>"$work/stderr"
try one_image_a_class_is_refused grep -q 'no source class has two images' "$work/stderr"

# All images of a class alike: no distance to compare with, so null, and what we write is JSON that we read.
{
    printf '\000\000\010\003\000\000\000\300\000\000\000\004\000\000\000\004'
    i=0
    while [ $i -lt 192 ]; do
        value=$(printf '\\%03o' $((i / 8 * 10)))
        # shellcheck disable=SC2059 # the format is the byte
        printf "$value$value$value$value$value$value$value$value\\000\\377\\000\\377\\000\\000\\377\\377"
        i=$((i + 1))
    done
} >"$work/alike-images-idx3-ubyte"
{
    printf '\000\000\010\001\000\000\000\300'
    i=0
    # shellcheck disable=SC2059
    while [ $i -lt 192 ]; do printf "$(printf '\\%03o' $((i / 8)))"; i=$((i + 1)); done
} >"$work/alike-labels-idx1-ubyte"
run alike_images --data "$work/alike-images-idx3-ubyte"
try alike_images_give_null grep -q '"diversity": null' "$work/alike_images/match.json"
try alike_images_say_why grep -q '"why_null": ".*alike' "$work/alike_images/match.json"
try no_infinity_is_written sh -c "! grep -Eq '[: ]-?(inf|nan)' '$work'/*/*.json"
try the_report_of_alike_images_is_read "$lab" report --out "$work/alike_images"

# Several seeds and splits: a plan, its tasks in any order and by any process, and what they found together.
few="--preset quick --steps 2 --classifier-steps 2 --episodes 2 --runs 1 --size 8 --max-classes 10"
study="$work/st'udy"
refused() {
    name=$1; expected=$2; shift 2
    "$lab" "$@" >"$work/stdout" 2>"$work/stderr"
    code=$?
    if [ $code -eq 1 ] && [ "$(wc -l <"$work/stderr")" -eq 1 ] && grep -q -- "$expected" "$work/stderr"; then ok "$name"
    else bad "$name" "code $code: $(cat "$work/stderr")"; fi
}
try a_plan_of_seeds "$lab" plan --seeds 3 --seed 4 $few --invert --out "$study" --quiet
try tasks_are_listed sh -c "'$lab' tasks --out \"$study\" | tr -s ' \n' ' ' | grep -qx ' 0 - seed-4 1 - seed-5 2 - seed-6 '"
array() { env -u SLURM_ARRAY_TASK_ID -u PBS_ARRAY_INDEX -u JOB_COMPLETION_INDEX -u SGE_TASK_ID "$@"; }
try a_task_of_an_array array JOB_COMPLETION_INDEX=1 "$lab" task --out "$study" --quiet
try is_the_seed_of_its_number test -s "$study/seed-5/report.json" -a ! -e "$study/seed-4"
refused a_join_names_what_is_missing '2 of 3 tasks are not finished.*first is task 0 (seed-4)' join --out "$study"
try a_join_that_is_refused_writes_nothing test ! -e "$study/seeds.csv"
try make_does_the_tasks_and_joins make -f "$study/Makefile" -j2 LAB="$lab"
try a_task_is_a_run "$lab" run $few --invert --seed 6 --out "$work/sixth" --quiet
try with_the_settings_of_the_plan cmp "$work/sixth/report.json" "$study/seed-6/report.json"
try a_finished_task_says_so says_done task "$lab" task 2 --out "$study"
# Mean and standard deviation of a column of seeds.csv, as awk has them.
awk -F'","' 'NR == 1 { for (i = NF; i > 0; i--) if ($i ~ /^match: [0-9]*-way 1-shot, no made/) n = i + 3; next }
             { split($0, cell, ","); s += cell[n]; q += cell[n] * cell[n]; k++ }
             END { printf "%.4f %.4f\n", s / k, sqrt((q - s * s / k) / (k - 1)) }' "$study/seeds.csv" >"$work/by_awk"
sed -n 's/.*-way 1-shot, no made images", "count": 3, "mean": \([0-9.e-]*\), "spread": \([0-9.e-]*\),.*/\1 \2/p' \
    "$study/seeds.json" | head -n 1 | awk '{ printf "%.4f %.4f\n", $1, $2 }' >"$work/by_join"
try mean_and_spread_are_those_of_the_rows cmp "$work/by_awk" "$work/by_join"
try and_they_are_spread sh -c "grep -q '^0[.]' '$work/by_awk' && ! grep -q ' 0.0000' '$work/by_awk'"
try the_page_of_seeds_has_them grep -q '<td>3 of 3</td>' "$study/seeds.html"
"$lab" join --out "$study" --json >"$work/stdout" 2>"$work/stderr"
try json_of_a_join_is_its_file cmp "$work/stdout" "$study/seeds.json"
cp "$work/one/report.json" "$study/seed-5/report.json"
refused a_join_refuses_results_that_are_not_the_tasks '1 of 3 .*task 1 (seed-5)' join --out "$study"
refused another_plan_is_refused 'is another plan' plan --seeds 2 $few --out "$study" --quiet
refused a_task_has_no_other_settings '--steps: is for plan' task 0 --steps 3 --out "$study"
refused a_task_has_no_other_seed '--seed: is for plan' task 0 --seed 3 --out "$study"
refused a_task_is_of_the_plan 'task 3: is not in the plan; expected 0 to 2' task 3 --out "$study"
refused a_task_needs_a_plan 'plan.json: is not there' task 0 --out "$work/unmade"
mkdir "$work/listed"
tr '\n' ' ' <"$study/plan.json" | sed 's/"options": *{[^}]*}/"options": [3]/' >"$work/listed/plan.json"
refused a_plan_whose_options_are_a_list 'plan.json: options: expected an object' task 0 --out "$work/listed"
sed 's/"0[.]/"9./' "$study/plan.json" >"$work/edited" && mkdir "$work/older" && cp "$work/edited" "$work/older/plan.json"
refused a_plan_of_another_version_is_refused 'is no plan of this version' tasks --out "$work/older"
if [ $reads_png ]; then
    cp -r "$work/one/made" "$work/changing"
    cp "$work/split.json" "$work/other.json"
    try a_plan_of_splits "$lab" plan --seeds 1 --preset quick --data "$work/changing" --size 8 --quiet \
        --split "$work/split.json,$work/other.json" --out "$work/splits"
    try has_a_task_a_split grep -q '"split-2-seed-1", "seed": "1", "split": ".*/other.json"' "$work/splits/plan.json"
    rm "$work/changing/$first/real-00000.png"
    refused changed_images_are_refused 'not those of the plan' task 0 --out "$work/splits" --quiet
    try and_nothing_is_made_of_them test ! -e "$work/splits/split-1-seed-1"
else
    skip plans_of_splits "built without stb_image.h"
fi

# By the script for Slurm, as an element of its array and as the job after it. A task that is told to end can go on.
try a_plan_for_slurm "$lab" plan --seeds 1 $few --out "$work/array" --quiet
slurm() { array LAB="$lab" SLURM_JOB_ID=1 "$@" sh "$work/array/slurm.sbatch"; }
try an_element_of_the_array slurm SLURM_ARRAY_JOB_ID=1 SLURM_ARRAY_TASK_ID=0
try and_the_job_after_it slurm A=
try have_joined test -s "$work/array/seeds.html"
"$lab" plan --seeds 1 $few --steps 100000 --out "$work/long" --quiet >"$work/log" 2>&1
"$lab" task 0 --threads 1 --out "$work/long" >"$work/log" 2>&1 &
pid=$!
sleep 2
kill -TERM $pid 2>/dev/null
wait $pid
code=$?
if [ $code -eq 130 ]; then ok a_task_that_is_told_to_end_stops; else bad a_task_that_is_told_to_end_stops "code $code"; fi
try with_a_checkpoint test -s "$work/long/seed-1/dagan.safetensors" -a ! -e "$work/long/seed-1/task.done"

# Wrong input: one clear line on stderr, an exit code other than 0, nothing half-written.
wrong() {
    name=$1; expected=$2; shift 2
    "$@" --out "$work/wrong" >"$work/stdout" 2>"$work/stderr"
    code=$?
    lines=$(wc -l <"$work/stderr")
    if [ $code -eq 0 ] || [ $code -gt 125 ]; then bad "$name" "exit code $code"
    elif [ "$lines" -ne 1 ]; then bad "$name" "$lines lines on stderr: $(cat "$work/stderr")"
    elif ! grep -q -- "$expected" "$work/stderr"; then bad "$name" "$(cat "$work/stderr")"
    elif [ -e "$work/wrong" ]; then bad "$name" "left a folder behind"
    else ok "$name"; fi
}
mkdir "$work/empty" "$work/single" "$work/single/a"
printf 'P5\n4 4\n255\n0123456789abcdef' >"$work/single/a/x.pgm"
printf '\000\000\010\003\000\000\000\144\000\000\000\034\000\000\000\034cut off' >"$work/cut-images-idx3-ubyte"
printf '\000\000\010\001\000\000\000\003abc' >"$work/three-labels"
printf '\000\000\010\003\000\000\000\002\000\000\000\001\000\000\000\001ab' >"$work/two-images"
printf '\223NUMPY\001\000\106\000%-69s\n' "{'descr': '<U3', 'fortran_order': False, 'shape': (1, 1, 1), }" >"$work/strings.npy"
printf '123456789012' >>"$work/strings.npy"
wrong missing_folder "missing" "$lab" train --data "$work/missing"
wrong empty_folder "empty" "$lab" train --data "$work/empty"
wrong nothing_to_report_on "nothing to report on" "$lab" report
wrong one_class_only "1 class" "$lab" train --data "$work/single"
wrong truncated_idx "cut off" "$lab" train --data "$work/cut-images-idx3-ubyte" --labels "$work/three-labels"
wrong more_labels_than_images "3" "$lab" train --data "$work/two-images" --labels "$work/three-labels"
wrong npy_of_strings "strings" "$lab" train --data "$work/strings.npy" --labels "$work/three-labels"
wrong fewer_samples_than_asked "expected 16 to learn from" "$lab" classify --preset quick --samples 4,16
odd=$(printf '%s/odd/\033[31m' "$work")
mkdir -p "$odd" && printf 'P5 2 2 255\n' >"$odd/x.pgm"
wrong control_characters_do_not_reach_the_terminal 'odd/?\[31m/x.pgm' "$lab" train --data "$work/odd"
wrong value_that_is_no_number "not a value" "$lab" run --steps abc
wrong unknown_option "not an option" "$lab" run --frobnicate 3
wrong unknown_preset "preset" "$lab" run --preset huge
wrong range_without_end "two numbers" "$lab" train --data x --range 5
wrong range_upside_down "two numbers" "$lab" train --data x --range 9,1
wrong two_channels "1 (grey) or 3" "$lab" train --channels 2
wrong weights_to_train "are of a trained generator" "$lab" train --weights "$work/one/weights.safetensors"
wrong unknown_format "folder, npy or idx" "$lab" make --format bmp
wrong range_of_drawn_images "data is missing" "$lab" train --range 0,1
wrong no_command "expected a command" "$lab"
wrong one_command_too_many "one argument too many" "$lab" run train
wrong seeds_of_one_run "option of plan" "$lab" run --seeds 3
wrong a_plan_without_images "missing" "$lab" plan --seeds 2 --data "$work/missing"
wrong sample_before_train "not there" "$lab" sample --preset quick --quiet
"$lab" train $tiny --out "$work/one/train.json/out" >"$work/stdout" 2>"$work/stderr"
if [ $? -eq 1 ] && [ "$(wc -l <"$work/stderr")" -eq 1 ]; then ok unwritable_out; else bad unwritable_out "$(cat "$work/stderr")"; fi

finish
