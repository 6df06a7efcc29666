#!/bin/sh
# What clang-format, clang-tidy and cppcheck say of the given sources; a tool that is not installed is left out. Before
# them: no private name of the headers is a public one with another underscore. Names that macros paste are seen as the
# preprocessor leaves them; the kernels' macro MDE__K(name) adds its instruction set, so those cannot clash.
bad=0
clashes=$({ cat mdemix.h dagan.h
            ${CC:-cc} -E -P -DMDEMIX_IMPLEMENTATION -DDAGAN_IMPLEMENTATION -x c dagan.h; } |
          grep -oE '\b(mde|dagan|MDE|DAGAN)_[A-Za-z0-9_]+' | sort -u | sed 'h; s/__*/_/g; G; s/\n/ /' | sort |
          awk '$1 == last { print "lint: " name " and " $2 " differ by an underscore alone" } { last = $1; name = $2 }')
if [ -n "$clashes" ]; then
    echo "$clashes"
    bad=1
fi
have() {
    command -v "$1" > /dev/null 2>&1 && return 0
    echo "lint: $1 is not installed, left out"
    return 1
}
units=$(printf '%s\n' "$@" | grep '\.c$')

if have clang-format; then
    clang-format --dry-run -Werror "$@" || bad=1
fi
if have clang-tidy; then
    for unit in $units; do
        clang-tidy --quiet "$unit" -- -std=c99 -I. -Itests || bad=1
    done
fi
if have cppcheck; then
    # One configuration, as compiled: the others are the compilers' business (make warnings).
    cppcheck --quiet --std=c99 --language=c --error-exitcode=1 --inline-suppr --enable=warning,portability -I. -Itests \
        -D__GNUC__=12 -U_WIN32 -U__clang__ -U__cplusplus --suppress=missingIncludeSystem $units || bad=1
fi
exit $bad
