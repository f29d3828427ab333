#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# stress.ctest.sh <program> <project>: small counts; the form of every line, and the states in between.
set -euo pipefail
program=$1

fail() {
    printf 'stress: %s\n' "$*" >&2
    exit 1
}

step=' +[0-9]+\.[0-9]{3} s +[0-9.]+ ns each   resident +[0-9.]+ MB, +-?[0-9.]+ bytes each \+ page tables +-?[0-9.]+'
memory=' +[0-9]+\.[0-9] MB'

# match <pattern> <argument...>
match() {
    local pattern=$1 out
    shift
    out=$("$program" "$@")
    [[ $out =~ ^$pattern$ ]] || fail "$*: unexpected output:"$'\n'"$out"
}

# One worker: it is the one who starts them, so none has begun.
match "5000 routines, unstarted, workers: 1
before$memory
started$step
  now: 5001 live, 5000 of them unstarted, 0 parked; [0-9]+ stacks
joined$step
runtime freed$memory
all 5000 joined after [0-9]+\\.[0-9]{3} s" 5000

for workers in 1 2 8; do
    match "3000 routines, unstarted, workers: $workers
before$memory
started$step
  now: [0-9]+ live, [0-9]+ of them unstarted, 0 parked; [0-9]+ stacks
joined$step
runtime freed$memory
all 3000 joined after [0-9]+\\.[0-9]{3} s" --workers "$workers" 3000

    match "2000 routines, parked, workers: $workers
before$memory
started$step
  now: 2001 live, [0-9]+ of them unstarted, [0-9]+ parked; [0-9]+ stacks
all wait$step
  now: 2001 live, 0 of them unstarted, 2000 parked; 2001 stacks
woken$step
joined$step
runtime freed$memory
all 2000 joined after [0-9]+\\.[0-9]{3} s" -w "$workers" --parked 2000
done

help=$("$program" --help)
[[ $help == usage:* ]] || fail "--help: $help"
for bad in x 0 -1 1x '5 5' '--workers 0' '--workers 1025' '--workers x 5' --what; do
    status=0
    # shellcheck disable=SC2086  # more than one argument
    message=$("$program" $bad 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == *usage:* ]] || fail "'$bad': status $status, $message"
done
