# For the checks of programs, which source it: builds an example as a user does and tries what all programs have in
# common. Expects CC, and a folder of its own in work.

# openmp_flag: -fopenmp where it works
openmp_flag() {
    printf 'int main(void) { return 0; }\n' > "$work/probe.c"
    $CC -fopenmp "$work/probe.c" -o "$work/probe" > /dev/null 2>&1 && echo -fopenmp
}

# build_by_its_command NAME OUTPUT: the one command in the comment at the program's top, its output elsewhere
build_by_its_command() {
    command=$(sed -n 's|^ *\(cc .* -lm\).*|\1|p' "examples/$1.c" | head -n 1 | sed "s|^cc |$CC |; s| -o [^ ]*| -o $2|")
    [ -n "$command" ] || { echo "no command 'cc ... -lm' in the first comment of examples/$1.c"; return 1; }
    case $command in
        *-fopenmp*) [ -n "$(openmp_flag)" ] || command=${command%%-fopenmp*}${command#*-fopenmp} ;;
    esac
    sh -c "$command"
}

# is_the_same_alone NAME: copied into one folder with the headers, the program is the same text after preprocessing
is_the_same_alone() {
    mkdir -p "$work/alone"
    cp ./*.h examples/*.h "examples/$1.c" "$work/alone"
    $CC -E -P "examples/$1.c" > "$work/here.i" && (cd "$work/alone" && $CC -E -P "$1.c") > "$work/alone.i" &&
        cmp "$work/here.i" "$work/alone.i"
}

# is_an_option NAME PROGRAM OPTION: whether the program takes it; nothing is done, for another one is wrong
is_an_option() {
    case $3 in --help|--version) return 0 ;; esac
    "$2" "$3=" --frobnicate > "$work/output" 2> "$work/complaint"
    ! grep -q "^$1: $3= is not an option" "$work/complaint"
}

# help_names_what_is_taken NAME PROGRAM: of all that looks like an option in the program's own file, its help names what
# is taken, and nothing else
help_names_what_is_taken() {
    tr -c -- '-a-z' '\n' < "$2" | grep -x -e '--[a-z][a-z-]*' | sort -u > "$work/words"
    for option in $(cat "$work/words"); do is_an_option "$1" "$2" "$option" && echo "$option"; done > "$work/taken"
    "$2" --help | sed -n 's/^  \(--[a-z-]*\).*/\1/p' | sort -u > "$work/named"
    grep -qx -e --seed "$work/taken" && diff "$work/taken" "$work/named"
}

# says_done STEP COMMAND...: that the step is done, in a line, and so it was
says_done() {
    step=$1
    shift
    "$@" > "$work/stdout" 2> "$work/stderr" && [ "$(grep -c "^$step: is done: " "$work/stderr")" -eq 1 ]
}

# is_done_anew STEP COMMAND...: it says no such thing, and is done the next time
is_done_anew() {
    step=$1
    shift
    "$@" > "$work/stdout" 2> "$work/stderr" || return 1
    ! grep -q "^$step: is done: " "$work/stderr" || { echo "$step was not done anew"; return 2; }
    says_done "$step" "$@"
}

# has_help_version_and_exit_codes NAME PROGRAM
has_help_version_and_exit_codes() {
    "$2" --help > "$work/help" 2> "$work/complaint" || return 1
    [ ! -s "$work/complaint" ] || return 2
    for option in --seed --threads --quiet --version --help; do
        grep -q -e "^  $option" "$work/help" || { echo "$option is not in the help"; return 3; }
    done
    "$2" -h | cmp - "$work/help" || return 4
    help_names_what_is_taken "$1" "$2" || return 10
    # What cannot be printed is a failure, and a file that is opened does not take the place of a closed stream.
    if [ -c /dev/full ]; then
        "$2" --help > /dev/full 2> "$work/complaint"
        [ $? -eq 1 ] && [ "$(grep -c "standard output" "$work/complaint")" -eq 1 ] || { echo "a full device"; return 7; }
    fi
    "$2" --version >&- 2> "$work/complaint"
    [ $? -eq 1 ] && [ "$(grep -c "standard output" "$work/complaint")" -eq 1 ] || { echo "a closed stdout"; return 8; }
    "$2" --version | grep -qE "^$1 [0-9]+\.[0-9]+\.[0-9]+$" || return 5
    # Threads that wait sleep, unless the environment says otherwise.
    if [ "$(uname)" = Linux ] && OMP_DISPLAY_ENV=true "$2" --version 2>&1 | grep -q "OPENMP DISPLAY ENVIRONMENT BEGIN"; then
        env -u OMP_WAIT_POLICY OMP_DISPLAY_ENV=true "$2" --version 2>&1 | grep -q "OMP_WAIT_POLICY *= *'PASSIVE'" &&
            ! OMP_WAIT_POLICY=active OMP_DISPLAY_ENV=true "$2" --version 2>&1 | grep -q "'PASSIVE'" ||
            { echo "threads spin"; return 9; }
    fi
    for wrong in --frobnicate --frobnicate=3 --seed=-1 --threads=x --threads --quiet=1 -x; do
        "$2" $wrong > "$work/output" 2> "$work/complaint"
        [ $? -eq 2 ] && [ ! -s "$work/output" ] && [ "$(wc -l < "$work/complaint")" -eq 1 ] &&
            grep -q "^$1: " "$work/complaint" || { echo "$wrong: $(cat "$work/complaint")"; return 6; }
    done
}
