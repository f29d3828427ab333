#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# pool.ctest.sh <program> <project>: the picture against one computed by awk, which must not depend on the
# number of workers or of routines, and what the pool says about itself.
set -euo pipefail
export LC_ALL=C
program=$1

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
    printf 'pool: %s\n' "$*" >&2
    exit 1
}

# by_awk <width> <height> <limit>: the letters, then how many points are inside. All numbers stay below 2^53.
by_awk() {
    awk -v width="$1" -v height="$2" -v limit="$3" 'BEGIN {
        one = 4194304
        shades = " .,:;-=+*oxOX&%"
        for (y = 0; y < height; y++) {
            ci = 5 * one / 4 - int(5 * one / 2 * y / height)
            line = ""
            for (x = 0; x < width; x++) {
                cr = int(7 * one / 2 * x / width) - 5 * one / 2
                zr = zi = 0
                for (n = 0; n < limit; n++) {
                    rr = int(zr * zr / one)
                    ii = int(zi * zi / one)
                    if (rr + ii > 4 * one)
                        break
                    zi = int(2 * zr * zi / one) + ci
                    zr = rr - ii + cr
                }
                inside += n == limit
                line = line (n == limit ? "#" : substr(shades, n < 14 ? n + 1 : 15, 1))
            }
            print line
        }
        print inside + 0
    }'
}

# check <routines> <width> <height> <limit>
check() {
    local width=$2 height=$3 limit=$4 plural=s most
    by_awk "$width" "$height" "$limit" >"$scratch/want"
    "$program" -j "$1" -s "${width}x$height" -i "$limit" >"$scratch/got" || fail "$*, workers: $number: status $?"
    diff <(head -n "$height" "$scratch/want") <(head -n "$height" "$scratch/got") >"$scratch/diff" ||
        fail "$*, workers: $number: another picture:"$'\n'"$(cat "$scratch/diff")"
    [[ $1 == 1 ]] && plural=
    [[ $(tail -n 3 "$scratch/got") =~ ^"jobs    $height by $1 routine$plural, at most "([0-9]+)" at once
points  $((width * height)), of them inside: $(tail -n 1 "$scratch/want")
time    "[0-9]+\.[0-9]{3}" s"$ ]] || fail "$*, workers: $number: unexpected summary:"$'\n'"$(tail -n 3 "$scratch/got")"
    most=${BASH_REMATCH[1]}
    ((most >= 1 && most <= $1 && most <= height)) || fail "$*, workers: $number: $most at once"
    [[ $number != 1 || $most == 1 ]] || fail "$*: $most at once on one worker"
}

for number in 1 2 8 ''; do
    unset ROUTINES_WORKERS
    [[ -n $number ]] && export ROUTINES_WORKERS=$number
    check 1 50 20 60
    check 4 50 20 60
    check 7 1 1 100
    check 30 3 100 20
    check 2000 40 50 1
    "$program" -j 3 -s 300x200 -i 500 -o "$scratch/picture.pgm" >"$scratch/got" || fail "-o: status $?"
    sum=$(cksum <"$scratch/picture.pgm")
    [[ $sum == "${first_sum:=$sum}" ]] || fail "another picture with $number workers"
    [[ $sum == *" $((15 + 300 * 200))" ]] || fail "the size of the picture: $sum"
done
[[ $(head -c 15 "$scratch/picture.pgm" | tr '\n' ' ') == 'P5 300 200 255 ' ]] || fail 'not a picture'
[[ $(wc -l <"$scratch/got") == 3 ]] || fail "-o prints letters:"$'\n'"$(cat "$scratch/got")"
[[ $("$program" | head -n 30 | awk '{ n += length }END { print n }') == $((78 * 30)) ]] || fail 'the default size'

status=0
message=$("$program" -s 5x5 -o "$scratch/nowhere/picture.pgm" 2>&1 >/dev/null) || status=$?
[[ $status == 1 && $message == "pool: $scratch/nowhere/picture.pgm: "* ]] || fail "no directory: $status, $message"

for bad in '-j 0' '-j 10001' '-j x' '-j 1x' '-s 10' '-s 0x10' '-s 10x' '-s 10x20001' '-s 10x10x10' '-i 0' '-i 65536' \
    -x -j extra '-j 2 extra'; do
    read -r -a arguments <<<"$bad"
    status=0
    message=$("$program" "${arguments[@]}" 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == *usage:* ]] || fail "'$bad': status $status, $message"
done
