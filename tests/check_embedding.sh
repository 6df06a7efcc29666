#!/bin/sh
# mdemix in other people's builds: installed, by pkg-config, by CMake's find_package and FetchContent, in C++. Ends with
# "N passed, N failed[, N skipped]".
cd "$(dirname "$0")/.." || exit 1
LC_ALL=C
export LC_ALL
CC=${CC:-cc}
CXX=${CXX:-c++}
. tests/try.sh

version=$(sed -n 's/^#define MDE_VERSION "\(.*\)"/\1/p' mdemix.h)
cat > "$work/program.c" <<'END'
#include <stdio.h>
#define MDEDEF static
#define MDEMIX_IMPLEMENTATION
#include "mdemix.h"
int main(void)
{
    mde_context *c = mde_context_create(NULL);
    int bad = mde_context_status(c) != MDE_OK;
    printf("%s\n", mde_version());
    mde_context_free(c);
    return bad;
}
END

# says_version PROGRAM
says_version() {
    [ "$("$1")" = "$version" ]
}

try make_install_copies_headers_and_files make install PREFIX=/usr DESTDIR="$work/stage"
mkdir -p "$work/prefix"
try make_install_serves_a_prefix make install PREFIX="$work/prefix"
for file in include/mdemix.h include/dagan.h share/pkgconfig/mdemix.pc share/cmake/mdemix/mdemix-config.cmake; do
    [ -s "$work/prefix/$file" ] && [ -s "$work/stage/usr/$file" ] || echo "$file is missing"
done > "$work/missing"
try what_is_installed_is_there test ! -s "$work/missing"

if command -v pkg-config > /dev/null 2>&1; then
    flags=$(PKG_CONFIG_PATH=$work/prefix/share/pkgconfig pkg-config --cflags --libs "mdemix = $version")
    # shellcheck disable=SC2086
    try a_program_builds_by_pkg_config "$CC" "$work/program.c" -o "$work/by_pkg_config" $flags
    try the_program_built_by_pkg_config_runs says_version "$work/by_pkg_config"
else
    skip a_program_builds_by_pkg_config "pkg-config is not installed"
fi

# by_cmake NAME LINES OPTION...: a project of one program that gets the target by these lines
by_cmake() {
    folder=$work/$1
    mkdir -p "$folder" && cp "$work/program.c" "$folder"
    printf 'cmake_minimum_required(VERSION 3.18)\nproject(program LANGUAGES C)\n%s\n%s\n%s\n' "$2" \
        'add_executable(program program.c)' 'target_link_libraries(program PRIVATE mdemix::mdemix)' \
        > "$folder/CMakeLists.txt"
    shift 2
    cmake -S "$folder" -B "$folder/build" -DCMAKE_C_COMPILER="$CC" "$@" && cmake --build "$folder/build" &&
        says_version "$folder/build/program"
}

if command -v cmake > /dev/null 2>&1; then
    try find_package_finds_it by_cmake find "find_package(mdemix ${version%.*} REQUIRED)" -DCMAKE_PREFIX_PATH="$work/prefix"
    by_cmake other "find_package(mdemix 9.1 REQUIRED)" -DCMAKE_PREFIX_PATH="$work/prefix" > "$work/other.log" 2>&1
    try find_package_refuses_another_version grep -q "with requested version \"9.1\"" "$work/other.log"
    try fetch_content_makes_it_available by_cmake fetch "include(FetchContent)
FetchContent_Declare(mdemix URL https://example.invalid/mdemix.tar.gz SOURCE_SUBDIR examples/cmake)
FetchContent_MakeAvailable(mdemix)" -DFETCHCONTENT_SOURCE_DIR_MDEMIX="$PWD"
else
    skip find_package_finds_it "cmake is not installed"
fi

if command -v "$CXX" > /dev/null 2>&1; then
    command=$(sed -n 's|^ *\(c++ .* -lm\).*|\1|p' examples/raii.cpp | sed "s|^c++ |$CXX |; s| -o [^ ]*| -o $work/raii|")
    try the_example_in_cpp_builds_by_the_command_at_its_top sh -c "$command -Wall -Wextra -Wshadow -Wconversion -Werror"
    "$work/raii" > "$work/output" 2>&1
    try the_example_in_cpp_finds_the_minimum grep -q "^loss 0.9575 nats a token, at most .* above the minimum" "$work/output"
    try the_example_in_cpp_makes_errors_exceptions \
        grep -q "^refused: MDE_BAD_ARGUMENT: validation wrong, expert manuals, token 5" "$work/output"
else
    skip the_example_in_cpp_builds_by_the_command_at_its_top "$CXX is not installed"
fi

finish
