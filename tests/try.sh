# For checks, which source it: a folder of their own in work, which goes when they end; runs what is to be tried,
# says how it went, and counts.
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
passed=0
failed=0
skipped=0

# ok NAME
ok() {
    passed=$((passed + 1))
    echo "ok   $1"
}

# bad NAME [REASON]: the reason is the end of the file of that name, or the text
bad() {
    failed=$((failed + 1))
    if [ -f "${2-}" ]; then tail -n 12 "$2"; else printf '%s' "${2:+$2
}"; fi | sed 's/^/    /'
    echo "FAIL $1"
}

# try NAME COMMAND...: passes when the command succeeds
try() {
    name=$1
    shift
    if "$@" > "$work/log" 2>&1; then ok "$name"; else bad "$name" "$work/log"; fi
}

# nothing_in FILE NAME: passes when the file, a list of complaints, is empty
nothing_in() {
    if [ -s "$1" ]; then bad "$2" "$1"; else ok "$2"; fi
}

# or_leave PROGRAM: ends here where a program that all the rest needs was not built
or_leave() {
    [ -x "$1" ] || finish
}

# skip NAME WHY
skip() {
    skipped=$((skipped + 1))
    echo "skip $1: $2"
}

# python_with MODULE: the first Python 3 that has it
python_with() {
    for candidate in python3 /usr/bin/python3; do
        "$candidate" -c "import $1" > /dev/null 2>&1 && echo "$candidate" && return
    done
}

# The last line, and the exit code.
finish() {
    echo "$passed passed, $failed failed$([ $skipped -eq 0 ] || echo ", $skipped skipped")"
    [ $failed -eq 0 ]
    exit
}
