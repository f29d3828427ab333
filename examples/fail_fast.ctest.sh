#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# fail_fast.ctest.sh <program> <project>: what is done, failed, cancelled and never begun is all there is; with one
# at a time it is known which; who failed first; files of all kinds.
set -euo pipefail
export LC_ALL=C
program=$1

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
    printf 'fail_fast: %s\n' "$*" >&2
    exit 1
}

# count <letter>: how often it is in the map
count() {
    local others=${map//[!$1]/}
    printf '%s' "${#others}"
}

# report <at once> <pieces> <line...>: a report; sets map, done, failed, cancelled, untouched, first ('' if none)
report() {
    local at_once=$1 pieces=$2 most taken
    shift 2
    map=''
    while (($# > 0)) && [[ $1 =~ ^\ \ [.+FPx]{1,80}$ ]]; do
        map+=${1:2}
        shift
    done
    [[ ${1-} =~ ^\ \ ([0-9]+)\ done,\ ([0-9]+)\ failed,\ ([0-9]+)\ cancelled\ at\ work,\ ([0-9]+)\ never\ begun\;\ at\ most\ ([0-9]+)\ at\ once$ ]] ||
        fail "$what: unexpected line: ${1-}"
    done=${BASH_REMATCH[1]} failed=${BASH_REMATCH[2]} cancelled=${BASH_REMATCH[3]} untouched=${BASH_REMATCH[4]}
    most=${BASH_REMATCH[5]}
    shift
    first=''
    if [[ ${1-} == '  failed first: '* ]]; then
        first=${1#'  failed first: '}
        shift
    fi
    [[ $# == 1 && $1 =~ ^\ \ ([0-9]+)\ files\ and\ buffers\ taken,\ ([0-9]+)\ given\ back\;\ [0-9]+\.[0-9]{3}\ s(,\ saved\ about\ [0-9]+\.[0-9]{3}\ s)?$ ]] ||
        fail "$what: unexpected line: ${1-}"
    taken=${BASH_REMATCH[1]}
    ((taken == BASH_REMATCH[2] && most == at_once && ${#map} == pieces && $(count +) == done &&
        $(count FP) == failed && $(count x) == cancelled && $(count .) == untouched &&
        pieces == done + failed + cancelled + untouched && taken >= 2 * done)) ||
        fail "$what: the sums do not fit: $map, $done $failed $cancelled $untouched"
    [[ ${first:+failed} == "$( ((done == pieces)) || echo failed)" ]] || fail "$what: $failed failed; first: $first"
}

# times <character> <n>
times() {
    local text
    printf -v text '%*s' "$2" ''
    printf '%s' "${text// /"$1"}"
}

# demonstrate <at once> <pieces> <bad one>
demonstrate() {
    local out i starts=()
    what="-j $1 -n $2 -b $3, workers: $number"
    out=$("$program" -j "$1" -n "$2" -b "$3" -w 100) || fail "$what: status $?"
    mapfile -t line <<<"$out"
    for ((i = 0; i < ${#line[@]}; i++)); do
        [[ ${line[i]} == ' '* ]] || starts+=("$i")
    done
    [[ ${#starts[@]} == 3 && ${line[starts[0]]} == 'all is well' && ${line[starts[1]]} == 'a piece is not UTF-8' &&
        ${line[starts[2]]} == 'a piece makes the checker panic' ]] || fail "$what: unexpected output: $out"
    report "$1" "$2" "${line[@]:starts[0] + 1:starts[1] - starts[0] - 1}"
    [[ $done == "$2" ]] || fail "$what: $map"
    report "$1" "$2" "${line[@]:starts[1] + 1:starts[2] - starts[1] - 1}"
    [[ $failed == 1 && ${map:$3-1:1} == F && $first == "piece $3: not UTF-8, after 237 lines" ]] || fail "$what: $map, $first"
    [[ $1 != 1 || $map == "$(times + $(($3 - 1)))F$(times . $(($2 - $3)))" ]] || fail "$what: $map"
    report "$1" "$2" "${line[@]:starts[2] + 1}"
    [[ $failed == 1 && ${map:$3-1:1} == P &&
        $first == "a panic: piece $3: line 238 is longer than 65536 bytes" ]] || fail "$what: $map, $first"
    [[ $1 != 1 || $map == "$(times + $(($3 - 1)))P$(times . $(($2 - $3)))" ]] || fail "$what: $map"
}

# files <at once> <status wanted> <file...>
files() {
    local at_once=$1 want=$2 status=0 out
    shift 2
    what="-j $at_once $*, workers: $number"
    out=$("$program" -j "$at_once" "$@") || status=$?
    [[ $status == "$want" ]] || fail "$what: status $status: $out"
    mapfile -t line <<<"$out"
    report "$at_once" $# "${line[@]}"
}

cd "$scratch"
: >empty
printf 'gr\303\274n\n\360\237\230\200 \342\202\254 \364\217\277\277 \355\237\277 no newline' >good
printf 'one\ntwo\nthr\377e\n' >bad
printf 'one\n\303' >half
{ printf 'one\n' && head -c 65536 /dev/zero && printf '\n'; } >edge
{ printf 'one\n' && head -c 65537 /dev/zero && printf '\n'; } >long
mkdir directory

for number in 1 2 8 ''; do
    unset ROUTINES_WORKERS
    [[ -n $number ]] && export ROUTINES_WORKERS=$number

    demonstrate 1 20 8
    demonstrate 8 100 40
    demonstrate 100000 100 100
    demonstrate 3 1 1
    demonstrate 2 90 1

    files 4 0 good empty edge good
    [[ $map == ++++ ]] || fail "$what: $map"
    files 1 1 good empty bad good
    [[ "$map $first" == '++F. bad: not UTF-8, after 2 lines' ]] || fail "$what: $map, $first"
    files 1 1 good long bad
    [[ "$map $first" == '+P. a panic: long: line 2 is longer than 65536 bytes' ]] || fail "$what: $map, $first"
    files 1 1 missing good
    [[ "$map $first" == 'F. missing: No such file or directory, after 0 lines' ]] || fail "$what: $map, $first"
    files 1 1 directory
    [[ "$map $first" == 'F directory: Is a directory, after 0 lines' ]] || fail "$what: $map, $first"
    files 1 1 half
    [[ "$map $first" == 'F half: not UTF-8, after 1 lines' ]] || fail "$what: $map, $first"
    # Who is first is not known here, but it must be one that failed.
    files 100 1 good bad long missing half directory bad long good
    case $first in
    'bad: not'* | 'a panic: long: line 2'* | 'missing: No such'* | 'half: not'* | 'directory: Is a'*) ;;
    *) fail "$what: $map, $first" ;;
    esac
done
for bytes in '\200' '\300\200' '\301\277' '\340\237\277' '\355\240\200' '\360\217\277\277' '\364\220\200\200' '\365' \
    '\342\202a' '\303\303'; do
    # shellcheck disable=SC2059 # that is the point
    printf "$bytes" >bytes
    files 1 1 bytes
done
"$program" >/dev/null || fail "the default: status $?"

for bad in '-j 0' '-j x' '-n 0' '-n 10 -b 11' '-b 0' '-w -1' -j -y; do
    read -r -a arguments <<<"$bad"
    status=0
    message=$("$program" "${arguments[@]}" 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == *usage:* ]] || fail "'$bad': status $status, $message"
done
