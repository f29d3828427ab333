#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# runtimes.ctest.sh <program> <project>: all that it prints is known beforehand, but for the order of two
# lines, what follows the prefix in the threads' names, and how the C library calls ETIMEDOUT.
set -euo pipefail
program=$1

fail() {
    printf 'runtimes: %s\n' "$*" >&2
    exit 1
}

# check <workers in the environment> <limit> <primes below it>
check() {
    local out want
    out=$(ROUTINES_WORKERS=$1 "$program" "$2" 2>&1) || fail "status $?, limit $2:"$'\n'"$out"
    out=$(sed -E 's/(named (primes|flood)).*/\1/; s/Operation timed out/Connection timed out/' <<<"$out" | LC_ALL=C sort)
    want=$(LC_ALL=C sort <<END
the counting of primes runs on a thread named primes
the flood runs on a thread named flood
primes below $2: $3
the largest cave has 11916 cells
primes  3 workers, 101 routines started, 101 completed, 0 cancelled
flood   1 worker, 1 routines started, 1 completed, 0 cancelled
flood is shut down; of 10 routines left behind 10 have finished
waiting 50 ms for primes: Connection timed out
primes is shut down; 3 running routines stopped, 50 sleeping ones woken
a go to it now: Operation canceled
primes  3 workers, 154 routines started, 154 completed, 0 cancelled
END
    )
    [[ $out == "$want" ]] || fail "limit $2:"$'\n'"$(diff <(printf '%s\n' "$want") <(printf '%s\n' "$out"))"
}

export LC_ALL=C
for workers in 1 2 8; do
    check "$workers" 0 0
    check "$workers" 3 1
    check "$workers" 100000 9592
done

for bad in x -1 1x 1000000001 '1 2'; do
    status=0
    # shellcheck disable=SC2086  # more than one argument
    message=$("$program" $bad 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == usage:* ]] || fail "'$bad': status $status, $message"
done
