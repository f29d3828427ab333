#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/models/run.sh [--long] [model...]
#
# Checks the models of the protocols with SPIN, every state of them, and then every mutation named in their
# heads, which must be found wrong: a model that cannot fail shows nothing. Prints a table; exit 1 if anything
# was otherwise, 77 without SPIN or a C compiler. --long: with the larger sizes too (minutes, 5 GB).
# A trail of a failure: spin -t -p -DMUTATION -k FILE.trail model.pml, in a directory kept by KEEP=directory.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# model, "holds" or "fails", definitions
list() {
    cat <<'EOF'
deque holds
deque holds FALLBACK STEALS=1
deque fails NO_HEAVY
deque fails THIEF_LOOKS_FIRST
deque fails OWNER_LOOKS_FIRST
deque fails NO_OWNER_IN
deque fails FALLBACK LIGHT_FALLBACK
deque fails NO_BARRIER_TAKE
deque fails NO_BARRIER_JOIN
deque fails NO_CAS_LAST
deque fails STEAL_BACKWARDS
deque fails CLAIM_NO_CAS
deque fails SLOT_LATE
deque fails REMOVE_BLIND
ready holds
ready holds FALLBACK
ready fails NO_HEAVY
ready fails THIEF_SWAPPED
ready fails OWNER_SWAPPED
ready fails NO_CAS
ready fails FALLBACK LIGHT_FALLBACK
idle holds
idle holds MOVE
idle holds SLEEPERS=3
idle holds PUSHERS=2 ITEMS=1
idle fails NO_HEAVY
idle fails NO_LAST_LOOK
idle fails NO_I5
idle fails STATE_FIRST
idle fails QUIET_MOVE
idle fails LOST_PERMIT
block holds WISHES=1
block holds TWO_RUNTIMES WISHES=1
block fails RELEASE_BLIND
block fails RELEASE_TORN
block fails DROP_TORN
block fails START_TORN
block fails DETACH_TORN
block fails NO_ID
block fails NO_CLAIMED
block fails BLANK_BACKWARDS
block fails SETTLE_IGNORED
block fails TWO_RUNTIMES RUNTIME_UNCHECKED
EOF
    if [[ $long ]]; then
        cat <<'EOF'
deque holds ITEMS=3 STEALS=1
ready holds ROUNDS=3
idle holds PUSHERS=2
idle holds SLEEPERS=3 ITEMS=3
block holds WISHES=2
block holds TWO_RUNTIMES WISHES=2
block holds WISHES=1 INCARNATIONS=3
EOF
    fi
}

# check model expected definition...: a line of the table; "as expected" is its last column
check() {
    local model=$1 expected=$2 directory begin=$EPOCHREALTIME got states found verdict
    shift 2
    directory=$(mktemp -d "$work/$model.XXXXXX")
    cd "$directory"
    if ! spin -a "${@/#/-D}" "$here/$model.pml" >spin.out 2>&1 ||
        ! cc -w -O"$([[ $expected == holds ]] && echo 1 || echo 0)" -DSAFETY -DCOLLAPSE -DMEMLIM=5000 -o pan pan.c >cc.out 2>&1; then
        cat spin.out cc.out >&2
        got=broken
    else
        ./pan -m100000 -n >pan.out 2>&1 || true
        states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' pan.out)
        found=$(sed -n 's/^pan:1: //p' pan.out)
        if grep -q 'errors: [1-9]' pan.out && [[ $found == *"assertion violated"* || $found == *"invalid end state"* ]]; then
            got=fails
        elif grep -q 'errors: 0' pan.out && ! grep -qE 'Search not completed|too small|out of memory' pan.out; then
            got=holds
        else
            cat pan.out >&2
            got=incomplete
        fi
    fi
    [[ $got == "$expected" ]] && verdict=yes || verdict=NO
    printf '%-6s %-30s %-6s %-10s %10s %5.1f s  %s\n' "$model" "${*:--}" "$expected" "$got" "${states:-0}" \
        "$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')" "$verdict"
    if [[ $verdict == NO && -n ${KEEP-} ]]; then
        mkdir -p "$KEEP"
        cp -r "$directory" "$KEEP"
    fi
    rm -rf "$directory"
}

long=
if [[ ${1-} == --long ]]; then
    long=yes
    shift
fi
for tool in spin cc; do
    if ! command -v "$tool" >/dev/null; then
        echo "models: no $tool"
        exit 77
    fi
done
wanted=" ${*:-deque ready idle block} "

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
jobs=$(nproc)
((jobs > 4)) && jobs=4

printf '%-6s %-30s %-6s %-10s %10s %7s  %s\n' model variant must does states time "as expected"
n=0
running=0
while read -r model expected definitions; do
    [[ $wanted == *" $model "* ]] || continue
    if ((running >= jobs)); then
        wait -n || true
        running=$((running - 1))
    fi
    read -ra words <<<"$definitions"
    check "$model" "$expected" "${words[@]}" >"$work/line.$(printf %03d $n)" &
    n=$((n + 1))
    running=$((running + 1))
done < <(list)
wait

cat "$work"/line.*
if ((n == 0 || $(cat "$work"/line.* | grep -c ' yes$') != n)); then
    echo "models: not all as expected" >&2
    exit 1
fi
echo "models: $n variants, all as expected"
