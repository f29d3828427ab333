#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# mergesort.ctest.sh <program> <project>: both runs give the same, and what they say has the right form.
# (That the numbers are sorted, and those that went in, the program checks itself.)
set -euo pipefail
program=$1

fail() {
    printf 'mergesort: %s\n' "$*" >&2
    exit 1
}

# check <count> <workers>: the second run has this many workers
check() {
    local out pattern plural='s'
    [[ $2 == 1 ]] && plural=' '
    out=$("$program" "$1" "$2")
    pattern="^sorting $1 numbers
 +1 worker  +[0-9]+\\.[0-9]{3} s +[0-9.]+ million numbers/s  sorted, checksum ([0-9a-f]{16})
 +$2 worker$plural +[0-9]+\\.[0-9]{3} s +[0-9.]+ million numbers/s  sorted, checksum ([0-9a-f]{16})
speed-up [0-9]+\\.[0-9]{2}\$"
    [[ $out =~ $pattern ]] || fail "$1 numbers, $2 workers: unexpected output:"$'\n'"$out"
    [[ ${BASH_REMATCH[1]} == "${BASH_REMATCH[2]}" ]] || fail "$1 numbers: two checksums:"$'\n'"$out"
    checksum=${BASH_REMATCH[1]}
}

for count in 1 2 3 24 25 26 100 4096 4097 16385 65537; do
    check "$count" 2
done
for workers in 1 2 8; do
    check 300000 "$workers"
    # the numbers are the same on every machine
    [[ $checksum == fd7148a70fcbb8d0 ]] || fail "300000 numbers: checksum $checksum"
done
out=$(ROUTINES_WORKERS=3 "$program" 1000)
[[ $out == *$'\n  3 workers '* ]] || fail "ROUTINES_WORKERS=3 was ignored:"$'\n'"$out"

for bad in x 0 -5 1x 1000000001 '10 0' '10 1025' '10 x' '10 2 3'; do
    status=0
    # shellcheck disable=SC2086  # more than one argument
    message=$("$program" $bad 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == usage:* ]] || fail "'$bad': status $status, $message"
done
