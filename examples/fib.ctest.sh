#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# fib.ctest.sh <program> <project>: known numbers, and the number of routines they take.
set -euo pipefail
program=$1

fail() {
    printf 'fib: %s\n' "$*" >&2
    exit 1
}

# check <workers> <n> <fib(n)> <calls>
check() {
    local out pattern plural=s
    [[ $1 == 1 ]] && plural=
    out=$(ROUTINES_WORKERS=$1 "$program" "$2")
    pattern="^fib\\($2\\) = $3
routines  $4, of them run in place by their joiner: [0-9]+
time      [0-9]+\\.[0-9]{3} s with $1 worker$plural, [0-9]+\\.[0-9] ns per routine\$"
    [[ $out =~ $pattern ]] || fail "with $1 workers, n = $2: unexpected output:"$'\n'"$out"
}

for workers in 1 2 8; do
    check "$workers" 0 0 1
    check "$workers" 1 1 1
    check "$workers" 2 1 3
    check "$workers" 10 55 177
    check "$workers" 22 17711 57313
done
[[ $(ROUTINES_WORKERS=2 "$program" | head -n 1) == 'fib(30) = 832040' ]] || fail 'the default is not fib(30)'

for bad in x 1x -1 61 '' ' 1'; do
    status=0
    message=$("$program" "$bad" 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == usage:* ]] || fail "'$bad': status $status, $message"
done
