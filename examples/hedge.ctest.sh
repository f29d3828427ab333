#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# hedge.ctest.sh <program> <project>: every request is answered, or given up, once; every attempt has an end; and
# what is known beforehand: who needs a second attempt because the first goes to a dead replica, and that
# nobody is asked again before the time.
set -euo pipefail
export LC_ALL=C
program=$1

fail() {
    printf 'hedge: %s\n' "$*" >&2
    exit 1
}

# A line of the table: sets p50 in microseconds, asked, given_up. They never are early, and are in order.
row() {
    local -a column
    local before=0 i
    [[ $2 =~ ^$1\ +([0-9]+\.[0-9]{3}\ +){6}([0-9]+)\ +([0-9]+)$ ]] || fail "$what: unexpected line: $2"
    asked=${BASH_REMATCH[2]} given_up=${BASH_REMATCH[3]}
    read -r -a column <<<"${2#"$1"}"
    for ((i = 0; i < 6; i++)); do
        column[i]=$((10#${column[i]/./}))
        ((column[i] >= before)) || fail "$what: percentiles that decrease: $2"
        before=${column[i]}
    done
    p50=${column[0]}
}

# check <requests> <usual time> <attempts> <argument...>: sets plain_asked, plain_given_up, asked, given_up, extra,
# later, cut, late, idle (not begun)
check() {
    local requests=$1 usual=$2 attempts=$3 out
    local -a line
    shift 3
    what="-n $requests -m $usual -k $attempts $*, workers: $number"
    out=$("$program" -n "$requests" -m "$usual" -k "$attempts" "$@") || fail "$what: status $?"
    mapfile -t line <<<"$out"
    plain_asked=0 plain_given_up=0
    if [[ " $* " != *' -d '* ]]; then
        [[ ${#line[@]} == 6 ]] || fail "$what: unexpected output:"$'\n'"$out"
        row 'asked once' "${line[2]}"
        plain_asked=$asked plain_given_up=$given_up
        # The time is rounded to a microsecond.
        ((plain_asked <= requests && (given_up == requests || p50 >= usual / 2))) || fail "$what: ${line[2]}"
        unset 'line[2]'
        line=("${line[@]}")
    fi
    [[ ${#line[@]} == 5 ]] || fail "$what: unexpected output:"$'\n'"$out"
    [[ ${line[0]} == "$requests requests, "* && ${line[1]} == milliseconds* ]] || fail "$what: $out"
    row hedged "${line[2]}"
    ((given_up == requests || p50 >= usual / 2)) || fail "$what: early: ${line[2]}"
    [[ ${line[3]} =~ ^asked\ again\ after\ [0-9.]+\ ms:\ ([0-9]+)\ times\ \([0-9.]+\ %\),\ and\ was\ first:\ ([0-9]+)\ times$ ]] ||
        fail "$what: ${line[3]}"
    extra=${BASH_REMATCH[1]} later=${BASH_REMATCH[2]}
    [[ ${line[4]} =~ ^losers:\ ([0-9]+)\ cut\ short,\ ([0-9]+)\ answered\ too\ late,\ ([0-9]+)\ had\ not\ begun\;\ none\ is\ left$ ]] ||
        fail "$what: ${line[4]}"
    cut=${BASH_REMATCH[1]} late=${BASH_REMATCH[2]} idle=${BASH_REMATCH[3]}
    ((extra <= requests * (attempts - 1) && later <= extra && later <= requests - given_up &&
        asked == requests + extra - idle && asked == requests - given_up + late + cut)) ||
        fail "$what: the sums do not fit:"$'\n'"$out"
}

for number in 1 2 8 ''; do
    unset ROUTINES_WORKERS
    [[ -n $number ]] && export ROUTINES_WORKERS=$number

    check 300 400 2 -c 30 -x 30 -f 20
    [[ "$plain_asked $plain_given_up $given_up" == '300 0 0' ]] || fail "$what: not all were answered"

    # Nobody is so late that somebody else would be asked.
    check 100 200 2 -c 25 -d 1000000000
    [[ "$asked $given_up $extra $later $cut $late $idle" == '100 0 0 0 0 0 0' ]] || fail "$what: asked again"
    # Nor is there a second attempt if only one is allowed.
    check 100 200 1 -d 1
    [[ "$asked $given_up $extra" == '100 0 0' ]] || fail "$what: asked again"

    # Every third request goes to a dead replica first: another one answers, and the attempt is cancelled.
    check 60 200 2 -c 60 -r 3 -D 1 -d 2000 -t 3600000
    ((given_up == 0 && extra >= 20 && later >= 20 && cut >= 20)) || fail "$what: $extra, $later, $cut"
    # Two are dead: a third attempt is needed by a third of them.
    check 60 200 3 -c 60 -r 3 -D 2 -d 2000 -t 3600000
    ((given_up == 0 && extra >= 60 && later >= 40 && cut >= 60)) || fail "$what: $extra, $later, $cut"

    # Nobody answers, ever.
    check 20 200 2 -c 20 -D 3 -t 30
    ((plain_given_up == 20 && given_up == 20 && later == 0 && late == 0 && cut == asked)) || fail "$what: answers"

    # Asked again at once: the answers race each other.
    check 300 50 3 -c 40 -d 1 -x 0
    ((given_up == 0)) || fail "$what: given up"
done
"$program" >/dev/null || fail "the default: status $?"

for bad in '-n 0' '-n x' '-n 1000001' '-c 0' '-r 0' '-D 4' '-m 0' '-x 1001' '-f 0' '-k 0' '-k 17' '-p 0' '-p 101' \
    '-d -1' '-t 0' '-s x' -n -y extra; do
    read -r -a arguments <<<"$bad"
    status=0
    message=$("$program" "${arguments[@]}" 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == *usage:* ]] || fail "'$bad': status $status, $message"
done
