# For checks, which source it: runs what is to be tried, says how it went, and counts. Expects a folder of its own in work,
# and passed, failed and skipped.

# try NAME COMMAND...: passes when the command succeeds
try() {
    name=$1
    shift
    if "$@" > "$work/log" 2>&1; then
        passed=$((passed + 1))
        echo "ok   $name"
    else
        failed=$((failed + 1))
        tail -n 12 "$work/log" | sed 's/^/    /'
        echo "FAIL $name"
    fi
}

# skip NAME WHY
skip() {
    skipped=$((skipped + 1))
    echo "skip $1: $2"
}
