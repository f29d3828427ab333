#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# pingpong.ctest.sh <program> <project>: the form of what it prints, with one pair and with many. (That no ball
# was lost or counted twice, the program checks itself.)
set -euo pipefail
program=$1

fail() {
    printf 'pingpong: %s\n' "$*" >&2
    exit 1
}

# check <pairs as printed> <trips as printed> <argument...>
check() {
    local out pattern first="$1, $2 each"
    shift 2
    out=$("$program" "$@")
    pattern="^$first
time  [0-9]+\\.[0-9]{3} s with $workers, [0-9]+\\.[0-9] ns per round trip\$"
    [[ $out =~ $pattern ]] || fail "$*, $workers: unexpected output:"$'\n'"$out"
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
    check '1 pair' '1 round trip' 1
    check '1 pair' '20000 round trips' 20000
    check '1 pair' '2 round trips' 2 1
    check '7 pairs' '1000 round trips' 1000 7
    check '500 pairs' '20 round trips' 20 500
done

for bad in x 0 -1 1x 1000000001 '' '10 0' '10 x' '10 100001' '1 2 3'; do
    arguments=("$bad")
    [[ $bad == *' '* ]] && read -r -a arguments <<<"$bad"
    status=0
    message=$("$program" "${arguments[@]}" 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == usage:* ]] || fail "'$bad': status $status, $message"
done
