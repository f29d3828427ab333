#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# install_check.sh SOURCES BUILD CMAKE GENERATOR CC [flag...]
#
# Can others use the library? Installs the build, moves the installed tree elsewhere, and builds and runs a program
# against it by find_package and by pkg-config (where there is one), and against the sources by
# add_subdirectory, which must bring the library alone: no tests, no examples.
set -euo pipefail

sources=$1 build=$2 cmake=$3 generator=$4 cc=$5
shift 5

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CMAKE_GENERATOR=$generator CC=$cc CFLAGS="$*"

fail() {
    printf 'install: %s\n' "$*" >&2
    exit 1
}

# quietly COMMAND...: its output only if it fails
quietly() {
    "$@" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        fail "failed: $*"
    }
}

quietly "$cmake" --install "$build" --prefix "$work/first"
mv "$work/first" "$work/moved"
cd "$work/moved"
for file in include/routines.h include/routines/routine.h share/doc/routines/LICENSE; do
    [[ -f $file ]] || fail "there is no $file"
done
for file in $(cd "$sources/include" && find . -name '*.h'); do
    cmp "$sources/include/$file" "include/$file" || fail "$file is not installed"
done
if grep -rIlF -e "$work/first" -e "$sources" -e "$build" --include='*.cmake' --include='*.pc' .; then
    fail "these know where they were built or installed"
fi

mkdir "$work/consumer"
cd "$work/consumer"
cat >main.c <<'END'
#include <routines.h>
static void *same(void *arg) { return arg; }
int main(int argc, char **argv)
{
    void *result;
    (void)argc;
    return routine_join(go(same, argv), &result) != 0 || result != argv;
}
END
cat >CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.16)
project(consumer LANGUAGES C)
if(SOURCES)
    enable_language(ASM)
    add_subdirectory("${SOURCES}" routines)
    if(TARGET smoke OR TARGET example_hello)
        message(FATAL_ERROR "the library's tests or examples are part of this build")
    endif()
else()
    find_package(routines 0.1 REQUIRED)
    find_package(routines 0.1.0 EXACT REQUIRED)
endif()
add_executable(consumer main.c)
target_link_libraries(consumer routines::routines)
END

quietly "$cmake" -S . -B found "-DCMAKE_PREFIX_PATH=$work/moved"
quietly "$cmake" --build found
quietly found/consumer

quietly "$cmake" -S . -B within "-DSOURCES=$sources"
quietly "$cmake" --build within
quietly within/consumer

if command -v pkg-config >/dev/null; then
    PKG_CONFIG_PATH=$(dirname "$(find "$work/moved" -name routines.pc)")
    export PKG_CONFIG_PATH
    read -ra flags < <(pkg-config --cflags --libs routines)
    [[ " ${flags[*]} " == *"$work/moved"* ]] || fail "pkg-config does not follow the move: ${flags[*]}"
    quietly "$cc" "$@" main.c -o by-pkg-config "${flags[@]}"
    quietly ./by-pkg-config
else
    echo "install: without pkg-config"
fi
echo "install: used by find_package, by add_subdirectory and by pkg-config"
