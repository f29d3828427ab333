#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# sieve.ctest.sh <program> <project>: the primes against those of a plain sieve in awk.
set -euo pipefail
program=$1

fail() {
    printf 'sieve: %s\n' "$*" >&2
    exit 1
}

# The primes below 20,000 (there are 2262), one a line.
mapfile -t primes < <(awk 'BEGIN {
    for (n = 2; n < 20000; n++) {
        if (n in composite)
            continue
        print n
        for (m = n * n; m < 20000; m += n)
            composite[m]
    }
}')
[[ ${#primes[@]} == 2262 ]] || fail "the plain sieve found ${#primes[@]} primes"

# summary <count> <text>: what follows the primes
summary() {
    local pattern plural=s
    [[ $1 == 1 ]] && plural=
    pattern="^numbers sent  [0-9]+, along a chain of $1 routine$plural
time          [0-9]+\\.[0-9]{3} s with $workers, [0-9]+\\.[0-9] ns per number sent\$"
    [[ $2 =~ $pattern ]] || fail "$1 primes, $workers: unexpected summary:"$'\n'"$2"
}

# check <count> [buffer]: in rows of ten, and the last one only
check() {
    local out want
    out=$("$program" "$@")
    want=$(printf '%s\n' "${primes[@]:0:$1}" | awk '{ printf "%s%7d", NR % 10 == 1 ? "" : " ", $1 }
        NR % 10 == 0 { print "" }')
    [[ ${out%%$'\n\n'*} == "$want" ]] || fail "$*, $workers: these are not the primes:"$'\n'"$out"
    summary "$1" "${out##*$'\n\n'}"
    out=$("$program" -l "$@")
    [[ ${out%%$'\n\n'*} == "${primes[$1 - 1]}" ]] || fail "-l $*, $workers: not ${primes[$1 - 1]}:"$'\n'"$out"
    summary "$1" "${out##*$'\n\n'}"
}

for number in 1 2 8 ''; do
    workers='[0-9]+ workers?'
    if [[ -n $number ]]; then
        export ROUTINES_WORKERS=$number
        workers="$number workers"
        [[ $number == 1 ]] && workers='1 worker'
    else
        unset ROUTINES_WORKERS
    fi
    for count in 1 2 10 11; do
        check "$count"
    done
    check 200
    check 60 1
    check 60 100
done
check 700
out=$("$program")
[[ $(head -n 10 <<<"$out" | tr -s ' \n' '\n' | sed '/^$/d') == "$(printf '%s\n' "${primes[@]:0:100}")" ]] ||
    fail "the default is not the first 100 primes:"$'\n'"$out"

for bad in x 0 -1 1x 20001 -x '10 x' '10 -1' '10 1000001' '1 2 3' '-l 0'; do
    read -r -a arguments <<<"$bad"
    status=0
    message=$("$program" "${arguments[@]}" 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == *usage:* ]] || fail "'$bad': status $status, $message"
done
