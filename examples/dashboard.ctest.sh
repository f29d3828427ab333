#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# dashboard.ctest.sh <program> <project>: the three ways in which it ends; no job is lost; as many lines as it says,
# and none of them early.
set -euo pipefail
export LC_ALL=C
program=$1

fail() {
    printf 'dashboard: %s\n' "$*" >&2
    exit 1
}

number_pattern='[0-9]+(\.[0-9]+)?'
line_pattern="^ *($number_pattern) s \[#*\.*\] +([0-9]+) done +[0-9]+/s +[0-9]+ in flight +[0-9]+ queued +p99 wait +$number_pattern ms\$"

# The last three lines, and what stands before them: sets why, elapsed, lines, made, done, cut, queued. In ms.
run() {
    local -a line
    local before=0 before_done=0 i
    what="$*, workers: $number"
    out=$("$program" "$@") || fail "$what: status $?"
    mapfile -t line <<<"$(tr '\r' '\n' <<<"$out")"
    (($# == 0 || ${#line[@]} >= 3)) || fail "$what: $out"
    set -- "${line[@]: -3}"
    [[ $1 =~ ^([a-z ]+),\ after\ ([0-9]+)\.([0-9]{3})\ s\ and\ ([0-9]+)\ lines$ ]] || fail "$what: $1"
    why=${BASH_REMATCH[1]} elapsed=$((10#${BASH_REMATCH[2]}${BASH_REMATCH[3]})) lines=${BASH_REMATCH[4]}
    [[ $2 =~ ^jobs\ made:\ ([0-9]+)\;\ done:\ ([0-9]+),\ cut\ short:\ ([0-9]+),\ still\ queued:\ ([0-9]+)\;\ [0-9]+\ per\ second$ ]] ||
        fail "$what: $2"
    made=${BASH_REMATCH[1]} done=${BASH_REMATCH[2]} cut=${BASH_REMATCH[3]} queued=${BASH_REMATCH[4]}
    [[ $3 =~ ^wait:\ p50\ $number_pattern\ ms,\ p99\ $number_pattern\ ms$ ]] ||
        fail "$what: $3"
    ((made == done + cut + queued)) || fail "$what: jobs are missing: $2"
    unset 'line[-1]' 'line[-1]' 'line[-1]'
    i=0
    for text in "${line[@]}"; do
        text=${text%$'\033[K'}
        [[ -n $text ]] || continue # before the first \r, behind the last line
        [[ $text =~ $line_pattern ]] || fail "$what: unexpected line: $text"
        i=$((i + 1))
        now=$((10#${BASH_REMATCH[1]/./}))
        ((now >= before && BASH_REMATCH[3] >= before_done && BASH_REMATCH[3] <= done)) || fail "$what: $text"
        ((now >= i * every)) || fail "$what: early: $text"
        before=$now before_done=${BASH_REMATCH[3]}
    done
    ((i == lines && elapsed >= before)) || fail "$what: $i lines instead of $lines, after $elapsed ms"
}

for number in 1 2 8 ''; do
    unset ROUTINES_WORKERS
    [[ -n $number ]] && export ROUTINES_WORKERS=$number

    every=5
    run -n 300 -r 10000 -m 500 -e 5
    [[ "$why: $made $done" == 'all jobs are done: 300 300' ]] || fail "$what: $out"
    run -n 1 -w 5 -e 5
    [[ "$why: $made $done" == 'all jobs are done: 1 1' ]] || fail "$what: $out"
    run -n 100 -q 0 -w 1 -m 0 -r 1000000 -e 5 -T
    [[ "$why: $made $done" == 'all jobs are done: 100 100' ]] || fail "$what: $out"

    # The jobs would take many minutes, but there are lines enough before; one worker has one job at most.
    every=10
    run -n 0 -e 10 -c 5 -w 1 -m 1000000000 -r 1000
    [[ "$why: $lines $done" == 'enough lines: 5 0' && $cut -le 1 ]] || fail "$what: $out"
    run -n 0 -e 10 -c 3 -T
    [[ "$why: $lines" == 'enough lines: 3' ]] || fail "$what: $out"
    [[ $(tr -dc '\r' <<<"$out" | wc -c) == 3 && $(wc -l <<<"$out") == 4 ]] || fail "$what: not rewritten: $out"

    run -n 0 -e 10 -t 60 -r 5000
    [[ $why == 'the time is over' && $elapsed -ge 60 ]] || fail "$what: $out"
    # No line: it would come too late.
    every=3600000
    run -n 0 -e 3600000 -t 30 -r 1 -w 100
    [[ "$why: $lines" == 'the time is over: 0' && $elapsed -ge 30 ]] || fail "$what: $out"
done
"$program" >/dev/null || fail "the default: status $?"

for bad in '-n x' '-n 0' '-r 0' '-w 0' '-q -1' '-m -1' '-e 0' '-t x' '-c x' -n -y extra; do
    read -r -a arguments <<<"$bad"
    status=0
    message=$("$program" "${arguments[@]}" 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == *usage:* ]] || fail "'$bad': status $status, $message"
done
