#!/bin/sh
# Every command of the README runs, in its order, in a folder like a fresh clone with small data where the README has the
# user's own; but for those in the list below. Its pictures are what `make pictures` draws. Ends with "N passed, N failed[,
# N skipped]".
cd "$(dirname "$0")/.." || exit 1
LC_ALL=C
export LC_ALL
CC=${CC:-cc}
. tests/try.sh
. tests/program.sh

# The beginning of a command, and what is added to it, so that it takes seconds.
lab="--layers 1 --width 16 --heads 2 --context 16 --batch 4 --tokens 6000 --proxies 6 --validation-tokens 400 --questions 12"
dagan="--preset quick --steps 6 --classifier-steps 4 --episodes 3 --runs 1"
cat > "$work/small" <<END
build/mde_lab run out/real	$lab
build/mde_lab plan out/real --data	$lab
build/dagan_lab run	$dagan
build/dagan_lab sample	$dagan
build/dagan_lab plan	$dagan
END
# What is not run, and why.
cat > "$work/left_out" <<'END'
make test	runs this check
make data	wants the network; .ci/run runs it
make run-dagan	takes minutes; check_dagan.sh runs such a study
LAB=build/mde_lab sh out/real/slurm.sbatch	wants Slurm; check_slurm.sh submits such a script
END

# of_list LIST COMMAND: what the list has for it
of_list() {
    awk -F'\t' -v command="$2" 'index(command " ", $1 " ") == 1 { print $2; exit }' "$work/$1"
}

# A clone: what the repository has, and no outputs; and a user's texts, images, log-probabilities and runs.
mkdir -p "$work/clone/data/optics" "$work/clone/data/code" "$work/clone/data/tables"
for entry in *; do
    case $entry in build|out|data) ;; *) cp -r "$entry" "$work/clone/$entry" ;; esac
done
cd "$work/clone" || exit 1
head -c 60000 examples/data/opticks.txt > data/optics/text.txt
head -c 60000 examples/plot.h > data/code/text.txt
cat examples/data/*.csv examples/data/*.csv examples/data/*.csv > data/tables/text.txt
ln -s out/real/logprobs logprobs
ln -s out/real/ratios.csv out/real/losses.csv .
for class in 1 2 3 4 5 6 7 8 9 10 11 12; do
    mkdir -p "faces/$class"
    for image in 1 2 3 4 5; do     # stripes: the class is their direction, the image their place
        awk -v a=$class -v b=$image 'BEGIN { print "P2 32 32 255"
            for (y = 0; y < 32; y++) for (x = 0; x < 32; x++)
                print int(127 + 120 * sin((x * sin(a / 4) + y * cos(a / 4)) / 2 + b)) }' > "faces/$class/$image.pgm"
    done
done
ln -s faces mine
awk '/^```c$/ { on = 1; next } /^```$/ { if (on) exit } on' README.md > program.c
grep -v '^#define MDEMIX_IMPLEMENTATION' program.c > main.c

# Indented lines that begin with a word that commands begin with, continued lines joined, comments taken off.
awk '/^    ([A-Z]+=[^ ]* )?(cc|make|sh|\.\/|build\/)/ || more {
         sub(/^ +/, "")
         sub(/  +# .*/, "")
         more = sub(/ *\\$/, "")
         line = line (line == "" ? "" : " ") $0
         if (!more) { print line; line = "" }
     }' README.md > "$work/commands"
try the_readme_has_commands test "$(wc -l < "$work/commands")" -ge 30

openmp=$(openmp_flag)
: > "$work/used"
while IFS= read -r command; do
    name=$(printf '%s\n' "$command" | tr -c 'A-Za-z0-9\n' '_' | cut -c 1-60)
    reason=$(of_list left_out "$command")
    addition=$(of_list small "$command")
    [ -z "$reason$addition" ] || printf '%s\n' "$command" >> "$work/used"
    if [ -n "$reason" ]; then
        skip "$name" "$reason"
        continue
    fi
    here=$command
    case $here in cc\ *) here="$CC ${here#cc }" ;; esac
    [ -n "$openmp" ] || here=$(printf '%s\n' "$here" | sed 's/ -fopenmp//')
    try "runs_$name" sh -c "$here $addition < /dev/null"
done < "$work/commands"

cut -f 1 "$work/small" "$work/left_out" | while IFS= read -r start; do
    grep -qF -e "$start" "$work/used" || echo "no command of the README begins with \"$start\""
done > "$work/unused"
nothing_in "$work/unused" the_lists_are_needed

# ---- What a program includes ----

for file in examples/*.h; do
    grep -qF "\`${file#examples/}\`" README.md || echo "the README does not name $file, which a program includes"
done > "$work/unnamed"
nothing_in "$work/unnamed" the_files_that_programs_include_are_named

# ---- The pictures ----

grep -o 'examples/pictures/[a-z_]*\.[a-z]*' README.md | sort -u > "$work/shown"
pictures_are_shown() { ls examples/pictures/* | diff - "$work/shown"; }
try the_pictures_of_the_folder_are_shown pictures_are_shown
cp -r examples/pictures "$work/drawn"
rm examples/pictures/*
try pictures_are_drawn make pictures CC="$CC"
try they_are_those_of_the_readme diff -r examples/pictures "$work/drawn"
finish
