#!/bin/sh
# The lessons of examples/course as a student meets them: each is built by the command in the README, runs in a folder
# of its own, draws its picture and prints numbers that must hold; so do the solutions of the exercises, which are the
# lessons with the changes of tests/course. Given names of lessons, only these; 7_mixture needs 6_experts before it.
# Ends with "N passed, N failed[, N skipped]".
cd "$(dirname "$0")/.." || exit 1
LC_ALL=C
export LC_ALL
CC=${CC:-cc}
root=$(pwd)
course=examples/course
. tests/try.sh
ln -s "$root/examples" "$work/examples"

# build LESSON: by its command in the README
build() {
    command=$(sed -n "s|^    cc \(.* $course/$1\.c -o $1 -lm\)$|\1|p" $course/README.md)
    [ -n "$command" ] || { echo "no command for $1 in $course/README.md"; return 1; }
    (cd "$work" && sh -c "$CC $command")
}

# build_solution LESSON: the lesson, changed
build_solution() {
    cp $course/"$1".c "$work/solution.c" && patch -s "$work/solution.c" tests/course/"$1".diff &&
        $CC -O2 -I$course "$work/solution.c" -o "$work/solution" -lm
}

# run PROGRAM PICTURE: in the folder of the work; what it prints goes to the file `output`
run() {
    (cd "$work" && "./$1" "$2" > output) && grep -qxF "The picture is $2" "$work/output" || {
        cat "$work/output"
        return 1
    }
    is_a_picture "$work/$2"
}

# is_a_picture FILE: a whole SVG of at most 100 KB with no number missing
is_a_picture() {
    [ "$(head -c 40 "$1")" = '<svg xmlns="http://www.w3.org/2000/svg" ' ] && [ "$(tail -n 1 "$1")" = "</svg>" ] &&
        [ "$(grep -c '<svg' "$1")" -eq "$(grep -c '</svg>' "$1")" ] || { echo "$1 is no whole SVG"; return 1; }
    [ "$(wc -c < "$1")" -le 100000 ] || { echo "$1 has $(wc -c < "$1") bytes"; return 2; }
    ! grep -n -E '="[^"]*(nan|inf)[^"]*"' "$1"
}

# number N START: the N-th number behind START in the last line of the output that begins so; a bracket, with which no
# condition holds, if there is none
number() {
    awk -v n="$1" -v start="$2" 'index($0, start) == 1 { line = substr($0, length(start) + 1) }
        END { for (; n > 0 && match(line, /-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?/); n--) {
                  found = substr(line, RSTART, RLENGTH)
                  line = substr(line, RSTART + RLENGTH)
              }
              print n ? ")" : found }' "$work/output"
}

# holds CONDITION...: on numbers
holds() {
    for condition in "$@"; do
        awk "BEGIN { exit !($condition) }" || { echo "does not hold: $condition"; cat "$work/output"; return 1; }
    done
}

# What must hold of the numbers that a lesson prints, and of those of its exercise's solution.

says_1_product() {
    by_hand=$(number 1 "u'v + u v' by hand")
    holds "$(number 1 'dy/dx by the tape') == $by_hand" "$by_hand > 0.1673 - 1e-9 && $by_hand < 0.1674" \
        "$(number 1 '(y(x+h) - y(x-h)) / 2h') - $by_hand < 2e-4"
}
solves_1_product() {
    holds "$(number 1 'dy/dx by the tape') == $(number 1 "(u'v - u v') / v^2 by hand")" \
        "$(number 2 'v = exp(-x)  exp ') < 0" "$(number 1 'dy/dx by the tape') == 23.5289"
}

says_2_curvature() {
    holds "$(number 2 '     4') < 1e-6" "$(number 4 '     5') > 1e-3"
}
solves_2_curvature() {
    holds "$(number 1 'third derivative at the minimum:') == -2"
}

right_points() {
    awk '/points are on their side/ { print $1 }' "$work/output"
}
says_3_neuron() {
    holds "$(number 1 '     0') > 0.5" "$(number 1 '   400') < 0.3" "$(right_points) >= 170"
}
solves_3_neuron() {
    holds "$(right_points) >= 190"
}

says_4_process() {
    holds "$(number 1 'The function is inside the 90 % band along') >= 80" \
        "$(number 1 'It is known worst at x =') > 1.5" "$(number 1 'It is known worst at x =') < 3.4"
}
solves_4_process() {
    for length in 0.1 0.2 0.4 1.6 3.2; do
        holds "$(number 1 'length scale 0.8: log likelihood of the points') > \
            $(number 1 "length scale $length: log likelihood of the points")" || return 1
    done
}

says_5_transformer() {
    holds "$(number 1 'step  400:') > 2" "$(number 1 'step 1800:') < 1.75" "$(number 1 'step 1800:') > 1"
}
solves_5_transformer() {
    holds "$(number 1 'step 1800:') < 0.2"
}

# loss EXPERT TEXT
loss() {
    sed -n "s/^the $1 expert:.* \([0-9.]*\) on $2.*/\1/p" "$work/output"
}
says_6_experts() {
    for home in prose program sums; do
        for other in prose program sums; do
            [ $home = $other ] || holds "$(loss $home $home) < $(loss $other $home)" || return 1
        done
        holds "$(loss $home letter) > 2" || return 1
        [ "$(ls "$work/out/logprobs/letter" | wc -l)" -ge 3 ] || return 1
    done
}
solves_6_experts() {
    says_6_experts && for expert in prose program sums; do
        holds "$(loss all letter) < $(loss $expert letter)" "$(loss all $expert) > $(loss $expert $expert)" || return 1
    done
}

says_7_mixture() {
    holds "$(number 1 'best:') < 2.3" "$(number 2 'best:') < 1e-6" "$(number 2 '   40') < 1e-6" \
        "$(number 1 '   40') - $(number 1 'best:') < 2e-5" "$(number 1 '    0') > $(number 1 '    5')" \
        "$(number 3 'best:') + $(number 4 'best:') + $(number 5 'best:') > 0.9998"
}
solves_7_mixture() {
    bound=$(awk '/held by its bound/ { print $1, $7 }' "$work/output")
    holds "${bound% *} == 0.3" "${bound#* } > 0.1"
}

says_8_gan() {
    distance=$(number 1 '  6000')
    holds "$distance < 0.7 && $distance > -0.7" "$(number 2 '  6000') < 0.3"
}
solves_8_gan() {
    reached=$(awk '/of 8 spots are reached/ { print $1 }' "$work/output")
    holds "$reached >= 7"
}

says_9_dagan() {
    holds "$(number 1 'Made images of a character differ from each other by') > 0.05" \
        "$(number 2 'Made images of a character differ from each other by') > 0.1"
}
solves_9_dagan() {
    holds "$(number 1 'from one image to the next') < $(number 1 'from the first image to the last')"
}

has_at_most_80_lines() {
    [ "$(wc -l < $course/"$1".c)" -le 80 ]
}

[ $# -gt 0 ] || set -- $(cd $course && ls [0-9]*.c | sed 's/\.c$//')
for lesson in "$@"; do
    try "lesson_${lesson}_has_at_most_80_lines" has_at_most_80_lines "$lesson"
    try "lesson_${lesson}_builds_by_the_command_of_the_readme" build "$lesson"
    try "lesson_${lesson}_runs_and_draws" run "$lesson" "out/$lesson.svg"
    try "lesson_${lesson}_prints_what_must_hold" "says_$lesson"
    if command -v patch > /dev/null 2>&1; then
        try "solution_${lesson}_builds" build_solution "$lesson"
        try "solution_${lesson}_runs_and_draws" run solution "solution_$lesson.svg"
        try "solution_${lesson}_solves_the_exercise" "solves_$lesson"
    else
        skipped=$((skipped + 1))
        echo "skip solution_$lesson: patch is not installed"
    fi
done

finish
