#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# headers_check.sh DIRECTORY CC CXX [flag...]
#
# Every public header compiles by itself, as the strictest C11 and as C++17, without a warning; and so does a
# use of every macro they define (headers_use.c, both languages). CXX may be empty: then only C is tried.
set -euo pipefail

root=$1 cc=$2 cxx=$3
shift 3

c=("$cc" "$@" -x c -std=c11 -pedantic-errors -Wall -Wextra -Wconversion -Wcast-qual -Werror)
cpp=("$cxx" "$@" -x c++ -std=c++17 -Wall -Wextra -Wpedantic -Werror)
common=(-fsyntax-only -I "$root/include")
bad=0

# try NAME: compiles what comes on stdin
try() {
    local source
    source=$(cat)
    if ! "${c[@]}" "${common[@]}" - <<<"$source"; then
        echo "headers: $1 does not compile as C11" >&2
        bad=1
    fi
    if [[ -n $cxx ]] && ! "${cpp[@]}" "${common[@]}" - <<<"$source"; then
        echo "headers: $1 does not compile as C++17" >&2
        bad=1
    fi
}

count=0
for header in "$root"/include/*.h "$root"/include/routines/*.h; do
    name=${header#"$root/include/"}
    # twice: it must guard itself
    printf '#include <%s>\n#include <%s>\nextern int used;\n' "$name" "$name" | try "$name"
    count=$((count + 1))
done
try "tests/headers_use.c" <"$root/tests/headers_use.c"

if [[ -z $cxx ]]; then
    echo "headers: no C++ compiler, only C was tried"
fi
((bad)) || echo "headers: $count compile by themselves"
exit "$bad"
