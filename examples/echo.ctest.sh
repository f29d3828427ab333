#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# echo.ctest.sh <program> <project>: what comes back is what was sent, for one and for many at once, and to those
# who half-close; idle ones, and one that never reads, disturb nobody; too few descriptors; and signals: with
# nobody there, with connections that finish in their grace and with some that don't.
# shellcheck disable=SC2154,SC2261,SC2015,SC2059,SC2094 # descriptors that exec names; formats are data here
set -euo pipefail
export LC_ALL=C
program=$1
slowdown=${ROUTINES_TEST_SLOWDOWN:-1}

scratch=$(mktemp -d)
pid=''
trap '[[ -z $pid ]] || kill -9 "$pid" 2>/dev/null || :; rm -rf "$scratch"' EXIT
cd "$scratch"
trap '' PIPE # who writes to one that is gone is told by an error

fail() {
    printf 'echo: %s\n' "$*" >&2
    tail -n 20 out errors >&2
    exit 1
}

# begin <argument...>: in the background; sets port
begin() {
    : >out
    what="$*, workers: ${ROUTINES_WORKERS-}"
    (
        [[ -z ${descriptors-} ]] || ulimit -n "$descriptors"
        exec "$program" "$@" >out 2>errors
    ) &
    pid=$!
    until [[ $(<out) =~ ^listening\ on\ [^$'\n']*:([0-9]+)$ ]]; do
        kill -0 "$pid" 2>/dev/null || fail "$what: has not begun"
        sleep 0.01
    done
    port=${BASH_REMATCH[1]}
}

# finish <status wanted> [signal]: ends it; sets connections, bytes, cut
finish() {
    local status=0
    [[ -z ${2-} ]] || kill -s "$2" "$pid"
    wait "$pid" || status=$?
    pid=''
    [[ $status == "$1" ]] || fail "$what: status $status"
    ((status < 128)) || return 0
    [[ $(tail -n 1 out) =~ ^([0-9]+)\ connections,\ ([0-9]+)\ bytes\;\ ([0-9]+)\ cut\ off$ ]] || fail "$what: unexpected end"
    connections=${BASH_REMATCH[1]} bytes=${BASH_REMATCH[2]} cut=${BASH_REMATCH[3]}
    (((cut == 0) == (status == 0))) || fail "$what: status $status"
}

# open <variable>: a connection, as a descriptor of ours
open() {
    local _opened
    exec {_opened}<>"/dev/tcp/127.0.0.1/$port" || fail "$what: cannot connect"
    printf -v "$1" %s "$_opened"
}

shut() {
    local _opened=$1
    exec {_opened}>&-
}

# say <descriptor> <word>: sends a line and reads it back
say() {
    local line
    printf '%s\n' "$2" >&"$1"
    read -r -t $((20 * slowdown)) line <&"$1" || fail "$what: no answer"
    [[ $line == "$2" ]] || fail "$what: sent $2, got $line"
}

# Sends its input, shuts that direction down, and prints what comes.
half_closing() {
    if [[ -n $(command -v socat) ]]; then
        timeout $((60 * slowdown)) socat -t 30 - "TCP:127.0.0.1:$port"
    else
        timeout $((60 * slowdown)) nc -N 127.0.0.1 "$port"
    fi
}

{ : </dev/tcp/127.0.0.1/1; } 2>errors || [[ $(<errors) != *'No such file'* ]] || {
    echo 'this bash has no /dev/tcp'
    exit 77
}

seq 1 700000 >file
size=$(stat -c %s file)
many=1000
((slowdown == 1)) || many=100
ulimit -S -n "$(ulimit -H -n)"
(($(ulimit -n) > many + 100)) || many=$(($(ulimit -n) / 2))

for number in 1 2 8; do
    export ROUTINES_WORKERS=$number
    begin 127.0.0.1:0
    finish 0 INT
    ((connections == 0 && bytes == 0)) || fail "$what: connections from nowhere"

    begin 127.0.0.1:0
    fds=()
    for ((i = 0; i < many; i++)); do
        open fd
        fds+=("$fd")
    done
    for ((i = 0; i < many; i += many / 20)); do
        say "${fds[i]}" "line $i"
    done
    expected=$many sent=$(for ((i = 0; i < many; i += many / 20)); do echo "line $i"; done | wc -c)
    open deaf # it reads nothing, so it can send no more at some point
    timeout 0.3 cat file file file file file /dev/zero >&"$deaf" && fail "$what: sent without end" || :
    say "${fds[0]}" again
    expected=$((expected + 1)) sent=$((sent + 6))
    if [[ -n $(command -v socat) ]] || nc -h 2>&1 | grep -q -- '-N'; then
        half_closing <file | cmp - file || fail "$what: not what was sent"
        for i in {1..8}; do
            half_closing <file >"back.$i" &
            clients[i]=$!
        done
        for i in {1..8}; do
            wait "${clients[i]}" || fail "$what: a client failed"
            cmp "back.$i" file || fail "$what: not what was sent"
        done
        expected=$((expected + 9)) sent=$((sent + 9 * size))
    else
        [[ $number != 1 ]] || echo 'without socat or nc -N: no large transfers'
    fi
    shut "$deaf"
    for fd in "${fds[@]}"; do
        shut "$fd"
    done
    finish 0 TERM
    ((connections == expected && bytes >= sent)) || fail "$what: $connections connections, $bytes bytes"

    # A grace: one finishes within it, one does not; nobody else comes in.
    begin -g $((1000 * slowdown)) 127.0.0.1:0
    open polite
    open stays
    say "$polite" hello
    say "$stays" hello
    kill "$pid"
    until grep -q '^signal 15: no more connections; those there are, 2, ' out; do
        sleep 0.01
    done
    (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && fail "$what: accepts behind the signal"
    say "$polite" 'a last word'
    shut "$polite"
    finish 3
    ((connections == 2 && bytes == 24 && cut == 1)) || fail "$what: $connections, $bytes, $cut"
    shut "$stays"
done
unset ROUTINES_WORKERS

# A second signal.
begin -g 100000 127.0.0.1:0
open stays
say "$stays" hello
kill "$pid"
until grep -q '^signal 15' out; do
    sleep 0.01
done
finish 143 TERM
shut "$stays"

# No descriptors: it says so once, waits (and does not spin), and goes on when there are some again.
descriptors=40 begin 127.0.0.1:0
fds=()
for i in {1..60}; do
    open fd
    fds+=("$fd")
done
until [[ -s errors ]]; do
    kill -0 "$pid" || fail "$what: has ended"
    sleep 0.01
done
ticks() {
    local stat
    read -r -a stat <"/proc/$pid/stat"
    echo $((stat[13] + stat[14]))
}
before=$(ticks)
sleep 0.5
(($(ticks) - before < 5 * slowdown)) || fail "$what: spins: $(($(ticks) - before)) ticks in half a second"
[[ $(<errors) == 'echo: no more connections for now: Too many open files' ]] || fail "$what: says something else"
say "${fds[0]}" 'still there'
printf 'later\n' >&"${fds[59]}"
for fd in "${fds[@]:0:59}"; do
    shut "$fd"
done
read -r -t $((20 * slowdown)) line <&"${fds[59]}" || fail "$what: the last one was never served"
shut "${fds[59]}"
finish 0 TERM
((connections == 60)) || fail "$what: $connections connections"

for bad in '-g' '-g x' '-g -1' '-y' 'a b'; do
    read -r -a arguments <<<"$bad"
    status=0
    message=$("$program" "${arguments[@]}" 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == *usage:* ]] || fail "'$bad': status $status, $message"
done
for bad in 'nonsense' '127.0.0.1:99999'; do
    status=0
    message=$(timeout 20 "$program" "$bad" 2>&1 >/dev/null) || status=$?
    [[ $status == 1 && $message == echo:* ]] || fail "'$bad': status $status, $message"
done
