#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# limiter.ctest.sh <program> <project>: never more than allowed, at any time; and numbers that do not depend on
# the time: how many ask, and how many get through if no token is added, or if everybody waits.
set -euo pipefail
export LC_ALL=C
program=$1

fail() {
    printf 'limiter: %s\n' "$*" >&2
    exit 1
}

# check <rate> <burst> <argument...>: sets asked, through, refused, milliseconds
check() {
    local rate=$1 burst=$2 last
    shift 2
    out=$("$program" -r "$rate" -b "$burst" "$@") || fail "$*, workers: $number: status $?:"$'\n'"$out"
    last=$(tail -n 1 <<<"$out")
    [[ $last =~ ^asked\ ([0-9]+),\ let\ through\ ([0-9]+),\ refused\ ([0-9]+)\ in\ ([0-9]+)\.([0-9]{3})\ s$ ]] ||
        fail "$*, workers: $number: unexpected last line: $last"
    asked=${BASH_REMATCH[1]} through=${BASH_REMATCH[2]} refused=${BASH_REMATCH[3]}
    milliseconds=$((10#${BASH_REMATCH[4]}${BASH_REMATCH[5]}))
    # Each line: until, asked, refused, through, so far, allowed, and a bar. A clock that is printed in
    # milliseconds can be half of one early: that much more of the rate. The last line (13) ends when the clients
    # have ended, which can be within the same millisecond as the demand.
    sed '1,2d;$d' <<<"$out" | awk -v rate="$rate" -v burst="$burst" -v asked="$asked" -v through="$through" '
        { a += $2; r += $3; t += $4 }
        $2 != $3 + $4 || $5 != t || $5 > $6 || $6 > burst + rate * ($1 + 0.0005) { bad = 1 }
        $1 < before || ($1 == before && NR < 13) { bad = 1 }
        length($7) != ($4 <= 40 ? $4 : 43) { bad = 1 }
        { before = $1 }
        END { exit bad || NR < 12 || NR > 13 || a != asked || t != through }' ||
        fail "-r $rate -b $burst $*, workers: $number: the table does not fit:"$'\n'"$out"
    ((asked == through + refused)) || fail "$*, workers: $number: $asked asked"
    # Somebody who is refused has seen an empty bucket.
    ((through >= (asked < burst ? asked : burst))) || fail "$*, workers: $number: only $through let through"
}

for number in 1 2 8 ''; do
    unset ROUTINES_WORKERS
    [[ -n $number ]] && export ROUTINES_WORKERS=$number

    check 100 10 -t 240 # of 24 times the first 8 and the last 8, 8 clients
    [[ $asked == 128 ]] || fail "workers: $number: $asked asked instead of 128"

    # No token is added while this runs (the next one would come after 1000 s): exactly the burst.
    check 0.001 7 -t 60 -c 5 -e 5 -p 0
    [[ "$asked $through $refused" == '40 7 33' ]] || fail "workers: $number: a burst of 7:"$'\n'"$out"
    check 0.001 1000 -t 60 -c 5 -e 5 -p 0
    [[ "$asked $through $refused" == '40 40 0' ]] || fail "workers: $number: a large bucket:"$'\n'"$out"

    # However long it was quiet before: in no interval more than a full bucket and what is added meanwhile (and
    # three: two tokens that fall on its ends, one that was taken before and is counted in it). A single client.
    check 100 3 -t 300 -c 1 -e 1 -p 0
    sed '1,2d;$d' <<<"$out" | awk '$4 > 3 + 100 * ($1 - before) + 3.1 { exit 1 } { before = $1 }' ||
        fail "workers: $number: more than a burst:"$'\n'"$out"

    # All wait until it is their turn: everybody is let through, and that takes its time.
    check 200 5 -t 60 -c 10 -e 5 -p 3600000
    [[ "$asked $through $refused" == '80 80 0' ]] || fail "workers: $number: patient clients:"$'\n'"$out"
    ((milliseconds >= 375)) || fail "workers: $number: 75 tokens at 200 per second took only $milliseconds ms"
done

"$program" >/dev/null || fail "the default: status $?"

for bad in '-r 0' '-r x' '-r 1x' '-r 100001' '-r nan' '-b 0' '-b 1000001' '-c 0' '-e 0' '-t 0' '-p -1' '-p x' -x -r \
    extra; do
    read -r -a arguments <<<"$bad"
    status=0
    message=$("$program" "${arguments[@]}" 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == *usage:* ]] || fail "'$bad': status $status, $message"
done
