#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# graceful.ctest.sh <program> <project>: real signals, in all situations: without jobs, with jobs that finish in
# time or would run for ages, at the limit of jobs, after the end of the input, twice, with a journal that hangs.
set -euo pipefail
export LC_ALL=C
program=$1

scratch=$(mktemp -d)
pid=''
trap '[[ -z $pid ]] || kill -9 "$pid" 2>/dev/null || :; rm -rf "$scratch"' EXIT
cd "$scratch"
mkfifo input
trap '' PIPE # who writes to one that is gone is told by an error

fail() {
    printf 'graceful: %s\n' "$*" >&2
    cat out errors >&2
    exit 1
}

ages=1000000000

# begin <argument...>: in the background, reading from us
begin() {
    what="$*, workers: $number"
    : >out
    "$program" "$@" - <input >out 2>errors &
    pid=$!
    exec 3>input
    await ready 1
}

# await <begin of a line> <n>: until there are n such lines
await() {
    until [[ $(grep -c "^$1" out) -ge $2 ]]; do
        kill -0 "$pid" 2>/dev/null || [[ $(grep -c "^$1" out) -ge $2 ]] || fail "$what: ended without $2 lines '$1'"
        sleep 0.005
    done
}

# finish <status wanted>: sets what the last two lines say
finish() {
    local status=0 last=()
    wait "$pid" || status=$?
    pid=''
    exec 3>&-
    [[ $status == "$1" && ! -s errors ]] || fail "$what: status $status"
    (($1 < 128)) || return 0
    mapfile -t last < <(tail -n 2 out)
    [[ ${last[1]-} =~ ^last\ words:\ ([0-9]+)\ in\ the\ journal,\ ([0-9]+)\ lost$ ]] || fail "$what: unexpected end"
    written=${BASH_REMATCH[1]} lost=${BASH_REMATCH[2]}
    [[ ${last[0]} =~ ^accepted:\ ([0-9]+)\;\ finished:\ ([0-9]+),\ cancelled:\ ([0-9]+),\ never\ begun:\ ([0-9]+)\;\ refused:\ ([0-9]+)$ ]] ||
        fail "$what: unexpected end"
    accepted=${BASH_REMATCH[1]} finished=${BASH_REMATCH[2]} cancelled=${BASH_REMATCH[3]} untouched=${BASH_REMATCH[4]}
    refused=${BASH_REMATCH[5]}
    ((accepted == finished + cancelled + untouched && cancelled == written + lost &&
        $(grep -c ^begun out) == finished + cancelled && $(grep -c ^finished out) == finished &&
        $(grep -c ^cancelled out) == cancelled && $(grep -c ^journal out) == written &&
        $(grep -c ^refused out) == refused)) ||
        fail "$what: the sums do not fit"
    # What has begun was either finished or cancelled, and once.
    [[ $(sed -n 's/^begun  *//p' out | sort) == "$(sed -nE 's/^(finished|cancelled)  +//p' out | sort)" ]] ||
        fail "$what: jobs begun and ended differ"
}

# expect <accepted> <finished> <cancelled>
expect() {
    [[ "$accepted $finished $cancelled $untouched" == "$1 $2 $3 0" ]] || fail "$what: expected $*"
}

for number in 1 2 8 ''; do
    unset ROUTINES_WORKERS
    [[ -n $number ]] && export ROUTINES_WORKERS=$number

    # No signal: the end of the input is the end. What can't be read is skipped.
    begin -j 2
    printf 'a 1\nb 20\nc\n\nd 5 x\ne -1\nf 1000000001\ng 0\nh 3' >&3
    exec 3>&-
    finish 0
    expect 4 4 0
    [[ $(grep -c ^unreadable out) == 5 ]] || fail "$what: unreadable lines"
    if grep -q signal out; then
        fail "$what: there was no signal"
    fi

    # No jobs.
    begin -g $ages
    kill -TERM "$pid"
    finish 0
    expect 0 0 0
    await 'signal 15: no more jobs' 1

    # A job that finishes in time; what comes after the signal is not accepted.
    begin -g $ages
    printf 'good 50\n' >&3
    await begun 1
    kill -INT "$pid"
    await 'signal 2: no more jobs' 1
    { printf 'late 0\n' >&3; } 2>/dev/null || : # it may be gone
    finish 0
    expect 1 1 0
    ((refused == 0)) || fail "$what: a job that was not accepted"

    # Jobs that would run for ages say their last words.
    begin -g 20 -w $ages
    printf 'one %s\ntwo 0\nthree %s\nfour %s\n' $ages $ages $ages >&3
    await begun 4
    await finished 1
    kill -INT "$pid"
    finish 3
    expect 4 1 3
    [[ $(sed -nE 's/^journal +([a-z]+): [0-9.]+ % were done$/\1/p' out | sort) == $'four\none\nthree' && $lost == 0 ]] ||
        fail "$what: last words"

    # More jobs than may run: the next one waits, and is refused. No grace.
    begin -j 2 -g 0 -w $ages
    printf '%s\n' "one $ages" "two $ages" "three $ages" "four $ages" >&3
    await begun 2
    kill -TERM "$pid"
    finish 3
    expect 2 0 2
    ((refused <= 1 && written == 2)) || fail "$what: refused: $refused, written: $written"

    # The input has ended, and the jobs go on.
    begin -g 10 -w $ages
    printf 'one %s\n' $ages >&3
    exec 3>&-
    await begun 1
    kill -INT "$pid"
    finish 3
    expect 1 0 1

    # A second signal, of the same kind or another, does not wait for anything.
    for pair in 'INT TERM 143' 'TERM INT 130' 'INT INT 130'; do
        read -r first second status <<<"$pair"
        begin -g $ages
        printf 'one %s\n' $ages >&3
        await begun 1
        kill -"$first" "$pid"
        await 'signal .*no more jobs' 1
        kill -"$second" "$pid"
        finish "$status"
        await 'signal .*at once' 1
    done

    # The journal hangs: it hears one of them at most, and nobody waits for it for ever.
    begin -g 0 -w 20 -s $ages
    printf '%s\n' "one $ages" "two $ages" "three $ages" >&3
    await begun 3
    kill -INT "$pid"
    finish 3
    expect 3 0 3
    ((written == 0 && lost == 3)) || fail "$what: a journal that hangs has written"

    # Jobs that are made up: all of them; or until a signal comes, at whatever moment.
    what="made up, workers: $number"
    "$program" -n 20 -m 2 >out 2>errors </dev/null || fail "$what: status $?"
    [[ $(grep -c ^finished out) == 20 ]] || fail "$what: not 20 jobs"
    for usual in 0 1 5; do
        what="-m $usual, workers: $number"
        : >out
        "$program" -m $usual -g 0 -j 3 >out 2>errors </dev/null &
        pid=$!
        await finished 10
        kill -INT "$pid"
        status=0
        wait "$pid" || status=$?
        pid=''
        [[ $status == 0 || $status == 3 ]] || fail "$what: status $status"
        [[ $(sed -n 's/^begun  *//p' out | sort) == "$(sed -nE 's/^(finished|cancelled)  +//p' out | sort)" ]] ||
            fail "$what: jobs begun and ended differ"
    done
done

for bad in '-j 0' '-j x' '-g -1' '-w x' '-s 1000000001' '-n x' '-m -1' -j -y extra '- -'; do
    read -r -a arguments <<<"$bad"
    status=0
    message=$("$program" "${arguments[@]}" 2>&1 >/dev/null </dev/null) || status=$?
    [[ $status == 2 && $message == *usage:* ]] || fail "'$bad': status $status, $message"
done
