#!/bin/sh
# The study of made images as one who adds rows meets it: its page is that of its rows; where there are images, its path
# to rows and tables is run, and what was measured is not measured again when only the rows are left. (make study-dagan
# runs the path on drawn images.)
# Closes with "N passed, N failed" like the test programs. CC as in the Makefile.
set -u
cd "$(dirname "$0")/.." || exit 1
CC=${CC:-cc}
. tests/try.sh
. tests/program.sh

command -v python3 >/dev/null || { skip the_study_of_made_images "no python3"; finish; }
lab=$work/dagan_lab
try builds_with_the_command_at_its_top build_by_its_command dagan_lab "$lab"
or_leave "$lab"

page_is_that_of_its_rows() {
    python3 bench/study_dagan.py tables "$work/page.md" && cmp bench/STUDY-DAGAN.md "$work/page.md"
}
study() { STUDY=$work/study LAB=$lab SCALE=0.001 python3 bench/study_dagan.py "$@"; }
study_goes_from_images_to_tables() {
    study run "$data" "$work/studied" 1 1 compact && study tables "$work/page.md" &&
        grep -q '^| 5, 1 compact |' "$work/page.md" && grep -q '^| 1 compact | made images, weighted |' "$work/page.md"
}
rows_are_not_measured_again() { # what would be measured is not .5
    sed '2,$s/[^,]*$/0.5/' "$work/study/dagan_classify.csv" >"$work/rows" && cp "$work/rows" "$work/study/dagan_classify.csv" &&
        rm "$work/studied"/classify.* && study run "$data" "$work/studied" 1 1 compact && cmp "$work/rows" "$work/study/dagan_classify.csv"
}
quality='z_scale,kept,recognised,real_recognised,diversity\n1,1,0.75,0.9,0.8\n'
a_judged_generator_is_a_row() {
    printf "$quality" >"$work/part.csv" && study judged wide source "$work/part.csv" &&
        grep -qx 'wide,source,0.75,0.9,0.8' "$work/study/dagan_judged.csv"
}
several_rows_are_no_judgement() {
    printf "${quality}1,0.1,0.8,0.9,0.7\n" >"$work/part.csv"
    ! study judged wide target "$work/part.csv" 2>"$work/stderr" && grep -q 'part.csv: expected one row' "$work/stderr"
}
try the_study_page_is_that_of_its_rows page_is_that_of_its_rows
try a_judged_generator_is_a_row a_judged_generator_is_a_row
try several_rows_are_no_judgement several_rows_are_no_judgement
images=omniglot28-background
if [ -f "${MDEMIX_SHARED:-}/data/omniglot/$images-images-idx3-ubyte.gz" ]; then
    for part in images-idx3-ubyte labels-idx1-short; do
        gzip -dc "$MDEMIX_SHARED/data/omniglot/$images-$part.gz" >"$work/$images-$part"
    done
    data=$work/$images-images-idx3-ubyte
    try the_study_goes_from_images_to_tables study_goes_from_images_to_tables
    try rows_are_not_measured_again_where_only_they_are_left rows_are_not_measured_again
else
    skip the_study_goes_from_images_to_tables "no images: MDEMIX_SHARED"
fi

finish
