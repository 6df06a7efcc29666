#!/bin/sh
# Every command of the README runs as it stands there, in a folder like a fresh clone, but for those in the list below;
# and its pictures are what the programs draw. Ends with "N passed, N failed[, N skipped]".
cd "$(dirname "$0")/.." || exit 1
LC_ALL=C
export LC_ALL
CC=${CC:-cc}
. tests/try.sh
. tests/program.sh

# What is not run: the beginning of a command, and why.
cat > "$work/left_out" <<'END'
make run	takes minutes; check_lab.sh runs such an experiment
make test	runs this check
make data	wants the network
make run-dagan	takes minutes; check_dagan.sh runs such a study
build/mde_lab run out/real	wants the data of `make data`
build/mde_lab plan out/real	wants the data of `make data`
make -f out/real/Makefile	wants that plan; check_lab.sh makes one so
build/dagan_lab	wants images of the user's own
make -f out/seeds/Makefile	wants a plan on such images; check_dagan.sh makes one so
./mix logprobs	wants log-probabilities of the user's own
./mix_optimize --logp logprobs	wants log-probabilities of the user's own
END

# A clone: what the repository has, and no outputs.
mkdir "$work/clone"
for entry in *; do
    case $entry in build|out|data) ;; *) ln -s "$(pwd)/$entry" "$work/clone/$entry" ;; esac
done
awk '/^```c$/ { on = 1; next } /^```$/ { if (on) exit } on' README.md > "$work/clone/program.c"
grep -v '^#define MDEMIX_IMPLEMENTATION' "$work/clone/program.c" > "$work/clone/main.c"

# Indented lines that begin with a word that commands begin with, continued lines joined, comments taken off.
awk '/^    (cc|make|\.\/|build\/)/ || more {
         sub(/^ +/, "")
         sub(/  +# .*/, "")
         more = sub(/ *\\$/, "")
         line = line (line == "" ? "" : " ") $0
         if (!more) { print line; line = "" }
     }' README.md | sort -u > "$work/unordered"
# What builds goes first, and objects first of all.
grep -E '^(cc|make) ' "$work/unordered" > "$work/builds"
grep ' -c ' "$work/builds" > "$work/commands"
grep -v ' -c ' "$work/builds" >> "$work/commands"
grep -v -E '^(cc|make) ' "$work/unordered" >> "$work/commands"
[ "$(wc -l < "$work/commands")" -ge 10 ] || echo "only $(wc -l < "$work/commands") commands were found" > "$work/log"
[ -f "$work/log" ] || : > "$work/log"
nothing_in "$work/log" the_readme_has_commands

openmp=$(openmp_flag)
: > "$work/used"
while IFS= read -r command; do
    reason=$(awk -F'\t' -v command="$command" 'index(command, $1) == 1 && (length(command) == length($1) ||
        substr(command, length($1) + 1, 1) == " ") { print $2; exit }' "$work/left_out")
    name=$(printf '%s\n' "$command" | tr -c 'A-Za-z0-9\n' '_' | cut -c 1-60)
    if [ -n "$reason" ]; then
        skip "$name" "$reason"
        printf '%s\n' "$command" >> "$work/used"
        continue
    fi
    here=$command
    case $here in cc\ *) here="$CC ${here#cc }" ;; esac
    [ -n "$openmp" ] || here=$(printf '%s\n' "$here" | sed 's/ -fopenmp//')
    if (cd "$work/clone" && sh -c "$here" < /dev/null) > "$work/output" 2>&1; then : > "$work/log"
    else { echo "$command"; tail -n 10 "$work/output"; } > "$work/log"; fi
    nothing_in "$work/log" "runs_$name"
done < "$work/commands"

cut -f 1 "$work/left_out" | while IFS= read -r start; do
    grep -qF -e "$start" "$work/used" || echo "no command of the README begins with \"$start\", which is to be left out"
done > "$work/log"
nothing_in "$work/log" the_list_of_what_is_left_out_is_needed

# ---- What a program includes ----

for file in examples/*.h; do
    grep -qF "\`${file#examples/}\`" README.md || echo "the README does not name $file, which a program includes"
done > "$work/log"
nothing_in "$work/log" the_files_that_programs_include_are_named

# ---- The pictures ----

grep -o 'examples/pictures/[a-z_]*\.[a-z]*' README.md | sort -u > "$work/shown"
ls examples/pictures/* | diff - "$work/shown" > "$work/log"
nothing_in "$work/log" the_pictures_of_the_folder_are_shown

(build_by_its_command three_experts "$work/three_experts" && cd "$work" && ./three_experts --quiet) > "$work/output" 2>&1
cmp "$work/three_experts.svg" examples/pictures/three_experts.svg > "$work/log" 2>&1
nothing_in "$work/log" three_experts_draws_the_picture_of_the_readme

finish
