#!/bin/sh
# Everything compiles without a warning: the header's implementation with every compiler, standard and option, then each
# example and test. Ends with "N passed, N failed[, N skipped]".
cd "$(dirname "$0")/.." || exit 1
flags="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"    # so what compiles keeps silent
. tests/try.sh

have() {
    command -v "$1" > /dev/null 2>&1 && return 0
    skip "$1" "is not installed"
    return 1
}

openmp_works() {
    printf '\043include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n' > "$work/openmp.c"
    "$1" -fopenmp "$work/openmp.c" -o "$work/openmp" > /dev/null 2>&1
}

# One unit a header, with its implementation turned on; all of them stand on mdemix.h.
units=
for header in *.h; do
    unit=$(basename "$header" .h)
    printf '\043define MDEMIX_IMPLEMENTATION\n\043define %s_IMPLEMENTATION\n\043include "%s"\n' \
        "$(echo "$unit" | tr 'a-z' 'A-Z')" "$header" > "$work/$unit.c"
    cp "$work/$unit.c" "$work/$unit.cc"
    units="$units $unit"
done

# header COMPILER STANDARD ENDING LANGUAGE
header() {
    for unit in $units; do
        file=$work/$unit.$3
        check="$1 -std=$2 $flags -I. -fsyntax-only"
        try "$1 -std=$2 $unit.h" $check "$file"
        if openmp_works "$1"; then try "$1 -std=$2 $unit.h -fopenmp" $check -fopenmp "$file"; fi
        try "$1 -std=$2 $unit.h MDEDEF=static" $check -DMDEDEF=static "$file"
        try "$1 -std=$2 $unit.h MDE_NO_STDIO" $check -DMDE_NO_STDIO "$file"
        try "$1 -std=$2 $unit.h MDE_NO_SIMD" $check -DMDE_NO_SIMD "$file"
        try "$1 -std=$2 $unit.h declarations" $check -x "$4" -include "$unit.h" /dev/null
    done
}

# programs COMPILER STANDARD
programs() {
    for file in examples/*.c examples/course/*.c tests/*.c bench/*.c; do
        [ -f "$file" ] || continue
        try "$1 -std=$2 $file" "$1" "-std=$2" $flags -I. -fsyntax-only "$file"
    done
}

# Optimisation brings warnings of its own; and -fopenmp, where it works.
optimised() {
    for unit in $units; do
        options=
        openmp_works "$1" && options=-fopenmp
        try "$1 -std=$2 -O3 $unit.h $options" "$1" "-std=$2" $flags $options -I. -O3 -c "$work/$unit.$3" -o "$work/unit.o"
    done
}

if have gcc; then
    for standard in c99 c11 c17; do header gcc $standard c c; done
    programs gcc c99
    optimised gcc c99 c
fi
if have clang; then
    header clang c99 c c
    programs clang c99
    optimised clang c99 c
fi
if have g++; then header g++ c++17 cc c++; optimised g++ c++17 cc; fi
if have clang++; then header clang++ c++17 cc c++; optimised clang++ c++17 cc; fi

# Microsoft's compiler as far as clang stands in for it, with the system headers of MinGW, which want GNU C for themselves.
microsoft() {
    {
        printf '\043define __GNUC__ 4\n\043include <_mingw.h>\n'
        printf '\043undef %s\n' __MINGW_IMPORT __MINGW_ATTRIB_NORETURN __MINGW_ATTRIB_DEPRECATED
        printf '\043define %s\n' '__MINGW_IMPORT extern' __MINGW_ATTRIB_NORETURN __MINGW_ATTRIB_DEPRECATED
        printf '\043define WIN32_LEAN_AND_MEAN\n\043define NOMINMAX\n'
        printf '\043include <%s>\n' windows.h direct.h errno.h fcntl.h float.h io.h limits.h locale.h math.h process.h shellapi.h \
            signal.h stdarg.h stddef.h stdint.h stdio.h stdlib.h string.h sys/stat.h sys/types.h time.h
        printf '\043undef __GNUC__\n\043undef __attribute__\n'
        printf '\043define MDEMIX_IMPLEMENTATION\n\043define DAGAN_IMPLEMENTATION\n\043include CHECKED\n'
    } > "$work/microsoft.c"
    for file in mdemix.h dagan.h examples/*.c; do
        try "clang as MSVC $file" clang --target=x86_64-pc-windows-msvc -fms-extensions -fms-compatibility-version=19.30 \
            -std=c11 -fsyntax-only $flags -Wno-unused-function -I. -isystem "$1" "-DCHECKED=\"$file\"" "$work/microsoft.c"
    done
}
windows=/usr/share/mingw-w64/include
if [ -d $windows ] && have clang; then
    microsoft $windows
else
    skip "clang as MSVC" "no headers of MinGW"
fi

finish
