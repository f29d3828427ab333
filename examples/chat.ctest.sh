#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# chat.ctest.sh <program> <project>: conversations by real clients (socat or nc, and bash itself): who hears what,
# and in what order; names; lines that are too long or not printable; a client that reads nothing while thousands
# of lines are said, and what it is told later; one that is dropped; more clients than allowed, or than there are
# descriptors; the end by a signal.
set -euo pipefail
export LC_ALL=C
program=$1

scratch=$(mktemp -d)
pid='' clients=()
declare -A to
trap '{ kill -9 "${clients[@]}" $pid; wait; } 2>/dev/null || :; rm -rf "$scratch"' EXIT
cd "$scratch"
trap '' PIPE # who writes to one that is gone is told by an error

fail() {
    printf 'chat: %s, workers: %s\n' "$*" "$number" >&2
    tail -n 40 out errors ./*.heard >&2 || :
    exit 1
}

# until_true <what> <command...>: waits
until_true() {
    local what=$1
    shift
    until "$@" 2>/dev/null; do
        [[ -z $pid ]] || kill -0 "$pid" 2>/dev/null || "$@" || fail "the server has ended, without: $what"
        sleep 0.01
    done
}

# begin <argument...>: sets pid, port
begin() {
    rm -f out errors ./*.heard ./*.says
    "$program" "$@" 127.0.0.1:0 >out 2>errors &
    pid=$!
    until_true 'the address' grep -q '^ready: process [0-9]* listens on 127.0.0.1:[0-9]*$' out
    port=$(sed -n 's/^ready: .*://p' out)
}

# stop <signal>: it ends, with everybody in it
stop() {
    local status=0
    kill -"$1" "$pid"
    wait "$pid" || status=$?
    pid=''
    [[ $status == 0 && ! -s errors ]] || fail "status $status"
    [[ $(grep -c ^entered out) == "$(grep -c ^left out)" ]] || fail 'some have not left'
    for input in "${to[@]}"; do
        { exec {input}>&-; } 2>/dev/null
    done
    wait "${clients[@]}" || :
    clients=() to=()
}

# client <name>: a client with this name, that says what is written to ${to[<name>]}
client() {
    local fd
    mkfifo "$1.says"
    if command -v socat >/dev/null; then
        socat - "TCP:127.0.0.1:$port" <"$1.says" >"$1.heard" 2>/dev/null &
    else
        nc -N 127.0.0.1 "$port" <"$1.says" >"$1.heard" 2>/dev/null &
    fi
    clients+=($!)
    exec {fd}>"$1.says"
    to[$1]=$fd
    echo "/nick $1" >&"$fd"
    until_true "$1" grep -q "^\* guest-[0-9]* is now $1$" "$1.heard"
}

hears() {
    until_true "$1 hears: $2" grep -qxF -- "$2" "$1.heard"
}

# What a client has received of a flood of x lines, and been told to have missed; they are in order.
account() {
    grep -qv '^flood: x[0-9]*x*$\|^\*' <(grep x "$1") && fail 'lines are mixed up'
    grep -o '^flood: x[0-9]*' "$1" | sed 's/.*x//' >numbers
    sort -n -c -u numbers || fail 'not in order'
    got=$(wc -l <numbers)
    missed=$(sed -nE 's/^\* too slow: ([0-9]+) lines missed$/\1/p' "$1" | paste -s -d + | bc)
    missed=${missed:-0}
}

command -v socat >/dev/null || command -v nc >/dev/null || { echo 'skipped: neither socat nor nc' && exit 77; }
lines=20000
{
    for ((i = 0; i < lines; i++)); do printf '%s\n' "$i"; done
} | sed "s/\(.*\)/x\1$(printf '%080d' 0 | tr 0 x)/" >flood

for number in 1 2 8; do
    unset ROUTINES_WORKERS
    [[ -n $number ]] && export ROUTINES_WORKERS=$number

    # A conversation.
    begin
    client ann
    client bob
    client cat
    hears ann '* guest-2 has come'
    hears ann '* guest-3 is now cat'
    echo 'hello' >&"${to[ann]}"
    hears bob 'ann: hello'
    hears cat 'ann: hello'
    printf 'one\r\ntwo\n\n\nthr\033[2Jee\0\n' >&"${to[bob]}"
    hears ann 'bob: thr?[2Jee?'
    [[ $(grep ^bob: ann.heard) == $'bob: one\nbob: two\nbob: thr?[2Jee?' ]] || fail 'what bob has said'
    if grep -q ^ann: ann.heard; then
        fail 'an echo'
    fi
    echo /who >&"${to[cat]}"
    hears cat '* here are 3: cat bob ann'
    printf '%s\n' '/nick ann' '/nick' '/nick ' '/nick a/b' '/nick aaaaaaaaaaaaaaaaaaaaaaaaaaa' '/x' '/nick eve' >&"${to[cat]}"
    hears bob '* cat is now eve'
    hears cat '* cat is now eve'
    [[ $(grep -c '^\* ann is here already$' cat.heard) == 1 &&
        $(grep -c '^\* a name is 1 to ' cat.heard) == 3 &&
        $(grep -c '^\* there are /nick' cat.heard) == 2 ]] || fail 'bad commands'
    printf '%05000d\n%s\n' 0 after >&"${to[ann]}"
    hears bob 'ann: after'
    hears bob "ann: $(printf '%0399d' 0)"
    hears ann '* only the first 399 bytes were said'
    # Leaving: by a word, by the end of the input, by being killed.
    echo /quit >&"${to[ann]}"
    hears ann '* good-bye, ann'
    hears bob '* ann has left'
    input=${to[cat]}
    exec {input}>&-
    unset 'to[cat]'
    hears bob '* eve has left'
    hears cat '* good-bye, eve'
    echo /who >&"${to[bob]}"
    hears bob '* here are 1: bob'
    client dan
    { kill -9 "${clients[3]}" && wait "${clients[3]}"; } 2>/dev/null || :
    hears bob '* dan has left'
    # Nobody has missed anything so far; and the end.
    stop TERM
    [[ $(tail -n 1 bob.heard) == '* the server stops' ]] || fail 'the last words'
    [[ $(tail -n 1 out) == 'clients: 4; lines said: 6, missed: 0' ]] || fail 'the sums'

    # A flood, while one reads nothing.
    begin -b 50
    exec {lazy}<>"/dev/tcp/127.0.0.1/$port"
    until_true 'lazy' grep -q '^entered  guest-1 ' out
    client flood
    client fast
    cat flood >&"${to[flood]}"
    echo 'done' >&"${to[flood]}"
    hears fast 'flood: done'
    account fast.heard
    ((got + missed == lines && got > 0)) || fail "fast: $got got, $missed missed"
    cat <&"$lazy" >lazy.heard &
    clients+=($!)
    hears lazy 'flood: done'
    account lazy.heard
    # It has missed some of the flood, and maybe of what was said about the others.
    ((missed > 0 && got + missed >= lines && got + missed <= lines + 5)) || fail "lazy: $got got, $missed missed"
    exec {lazy}<&-
    stop INT

    # Clients that read nothing don't hold up the end. (With this backlog all lines go to everybody, and that is
    # more than the kernel keeps.)
    begin -g 1 -b $((lines + 10))
    exec {lazy}<>"/dev/tcp/127.0.0.1/$port"
    client flood
    cat flood >&"${to[flood]}"
    echo /who >&"${to[flood]}"
    until_true 'flood: an answer' grep -q '^\* here are' flood.heard
    stop TERM
    if grep -q missed ./*.heard; then
        fail 'missed'
    fi
    grep -q '^the grace is over$' out || fail 'the lazy one was not cancelled'
    exec {lazy}<&-

    # More than allowed: the next one comes in when somebody has left.
    begin -n 1
    client ann
    exec {next}<>"/dev/tcp/127.0.0.1/$port"
    echo /who >&"${to[ann]}"
    until_true 'who' grep -q '^\* here are' ann.heard
    [[ $(grep -c ^entered out) == 1 ]] || fail 'two are in'
    echo /quit >&"${to[ann]}"
    read -r -u "$next" answer
    [[ $answer == '* welcome, guest-2; '* ]] || fail "next: $answer"
    exec {next}<&-
    stop TERM
done

# One that takes nothing is dropped.
begin -t 1 -b $((lines + 10))
exec {lazy}<>"/dev/tcp/127.0.0.1/$port"
until_true 'lazy' grep -q '^entered  guest-1 ' out
client flood
cat flood >&"${to[flood]}"
until_true 'dropped' grep -q '^left     guest-1; lines missed: .* timed out$' out
hears flood '* guest-1 has left'
stop TERM
exec {lazy}<&-

# No descriptors left: who is in stays in, the server does not spin, and those outside come in later.
(
    ulimit -n 30
    begin
    echo "$pid $port" >server
)
read -r pid port <server
client ann
outside=()
begun=${EPOCHREALTIME/./}
for ((i = 0; i < 40; i++)); do
    exec {one}<>"/dev/tcp/127.0.0.1/$port"
    outside+=("$one")
done
until_true 'no more' grep -q '^no more ' out
sleep 0.5
tries=$(grep -c '^no more ' out)
most=$(((${EPOCHREALTIME/./} - begun) / 50000 + 1)) # one every 50 ms
((tries <= most)) || fail "$tries tries to accept, where $most were to be expected"
echo /who >&"${to[ann]}"
until_true 'who' grep -q '^\* here are' ann.heard
for one in "${outside[@]}"; do
    exec {one}<&-
done
client bob
echo 'still there' >&"${to[bob]}"
hears ann 'bob: still there'
kill "$pid"
until_true 'the end' grep -q '^clients: ' out
pid=''
for input in "${to[@]}"; do
    exec {input}>&-
done
wait "${clients[@]}" || :
clients=()

for bad in '-b 0' '-b x' '-n 0' '-n 1000001' '-t 0' '-t -1' '-g x' '-y' '-b' 'a b'; do
    read -r -a arguments <<<"$bad"
    status=0
    message=$("$program" "${arguments[@]}" 2>&1 >/dev/null </dev/null) || status=$?
    [[ $status == 2 && $message == *usage:* ]] || fail "'$bad': status $status, $message"
done
for bad in nonsense 127.0.0.1:x; do
    status=0
    message=$(timeout 20 "$program" "$bad" 2>&1 >/dev/null </dev/null) || status=$?
    [[ $status == 1 && $message == "chat: $bad: "* ]] || fail "'$bad': status $status, $message"
done
