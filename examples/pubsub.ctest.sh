#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# pubsub.ctest.sh <program> <project>: who gets how many messages. Known beforehand for all but the board, of
# whom only the sum of what it has got and missed is known. (That the numbers of the messages fit what each
# subscriber was told to have missed, the program checks itself.)
set -euo pipefail
program=$1

fail() {
    printf 'pubsub: %s\n' "$*" >&2
    exit 1
}

# line <who> <topic> <received> <missed> <gaps>: with the last message, which has this number
line() {
    local last=none
    if (($3 > 0)); then
        last="number $(($3 + $4 - 1)): $((($3 + $4 - 1) * 7 % 41))"
    fi
    printf '%-8s  %-7s  %8s  %6s  %4s  %s' "$1" "$2" "$3" "$4" "$5" "$last"
}

# check <messages> <backlog> <pause>
check() {
    local out kept=$(($1 < $2 ? $1 : $2)) guest=$(($1 < 5 ? $1 : 5)) received missed gaps
    out=$("$program" -n "$1" -b "$2" -p "$3") || fail "$*, workers: $number: status $?"
    mapfile -t got <<<"$out"
    [[ ${#got[@]} == 7 ]] || fail "$*, workers: $number: ${#got[@]} lines:"$'\n'"$out"
    [[ ${got[0]} == "published: $1 messages on each topic; a subscriber can be $2 behind" &&
        ${got[2]} == "$(line archive weather "$1" 0 0)" &&
        ${got[3]} == "$(line archive traffic "$1" 0 0)" &&
        ${got[5]} == "$(line night traffic "$kept" $(($1 - kept)) $(($1 > kept)))" ]] ||
        fail "$*, workers: $number: unexpected output:"$'\n'"$out"

    read -r _ _ received missed gaps _ <<<"${got[4]}"
    [[ ${got[4]} == "$(line board weather "$received" "$missed" "$gaps")" && $((received + missed)) == "$1" &&
        $received -ge $kept && $gaps -le $received && $gaps -le $missed && $((gaps > 0)) == $((missed > 0)) ]] ||
        fail "$*, workers: $number: the board:"$'\n'"${got[4]}"

    read -r _ _ received missed gaps _ <<<"${got[6]}"
    [[ ${got[6]} == "$(line guest traffic "$received" "$missed" "$gaps")" && $((received + missed)) -le $1 ]] ||
        fail "$*, workers: $number: the guest:"$'\n'"${got[6]}"
    ((received == guest || (received < guest && received >= $2))) ||
        fail "$*, workers: $number: the guest has read $received messages"
}

for number in 1 2 8 ''; do
    unset ROUTINES_WORKERS
    [[ -n $number ]] && export ROUTINES_WORKERS=$number
    check 0 4 0
    check 1 4 100
    check 100 1 50
    check 500 16 200
    check 20000 100 0
    check 30 1000 0
done
out=$("$program") || fail "the default: status $?"
[[ $out == "published: 1000 messages on each topic; a subscriber can be 16 behind"$'\n'* ]] || fail "the default: $out"

for bad in '-n x' '-n -1' '-n 1000000001' '-b 0' '-b x' '-p -1' '-p 1000001' -n -x extra; do
    read -r -a arguments <<<"$bad"
    status=0
    message=$("$program" "${arguments[@]}" 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == *usage:* ]] || fail "'$bad': status $status, $message"
done
