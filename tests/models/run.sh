#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/models/run.sh [--long] [model...]
#
# Checks the models of the protocols with SPIN, every state of them, and then every mutation named in their
# heads, which must be found wrong: a model that cannot fail shows nothing. Prints a table; exit 1 if anything
# was otherwise, 77 without SPIN or a C compiler. --long: with the larger sizes too (minutes, 5 GB).
# A trail of a failure: spin -t -p -DMUTATION -k FILE.trail model.pml, in a directory kept by KEEP=directory.
# With PROGRESS a cycle without progress is looked for, under weak fairness, instead of a bad state.
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
bias holds
bias holds LEAF
bias holds TWO THREADS=2 ROOM=3
bias holds PROGRESS THREADS=2
bias fails NO_HEAVY
bias fails BARRIER_FIRST
bias fails NO_SECOND_LOOK
bias fails LOOKS_FIRST
bias fails NO_WAIT
bias fails OWNER_STAYS
bias fails GOES_BLIND
bias fails GOES_LATE
bias fails WANTED_LATE
bias fails BIASED_OUTSIDE
bias fails LEAF SEAT_IN_LEAF
bias fails TWO MIXED THREADS=2 ROOM=3
bias fails PROGRESS FLAG THREADS=2
select holds
select holds CLOSE
select holds NO_CHANNELS
select fails UNORDERED
select fails TWO_PHASE
select fails ENTERS_EARLY
select fails CLAIM_TORN
select fails CLAIM_BLIND
select fails CLOCK_BLIND
select fails KEEPS_LOSERS
select fails KEEPS_ALARM
select fails TAKES_UNLOCKED
select fails NOTED_LATE
select fails TOUCHES_LIST
select fails LEAVES_FIRST
select fails NO_CHANNELS READS_LATE
mutex holds
mutex holds LOCKERS=4 ROUNDS=1
mutex holds FREES_INSIDE
mutex fails READY_FIRST
mutex fails NO_MARK
mutex fails ENTERS_UNMARKED
mutex fails RETURNS_UNMARKED
mutex fails MARK_TORN
mutex fails MARK_FIRST
mutex fails RELEASE_TORN
mutex fails LOOKS_AFTER
mutex fails COMING_STAYS
mutex fails LATE_CLEAR
mutex fails LATE_TORN
mutex fails LATE_UNSEEN
mutex fails HANDOVER_CLEAR
timers holds
timers holds FALLBACK
timers holds ITEM
timers holds NAPS OWN
timers fails NO_HEAVY
timers fails EARLY_LOOK
timers fails NO_ALARM
timers fails COVER_FIRST
timers fails ANY_COVER
timers fails COVER_STAYS
timers fails FIRST_KEEPER
timers fails COVER_OF_WOKEN
timers fails NO_I5
timers fails FALLBACK LIGHT_FALLBACK
wait holds
wait holds FALLBACK
wait holds TWO WAITS=1
wait holds LIMITS
wait holds LIMITS FALLBACK WAKES=1
wait fails NO_HEAVY
wait fails WAKER_LOOKS_FIRST
wait fails WAKER_BLIND
wait fails OPENER_LOOKS_FIRST
wait fails OPENER_BLIND
wait fails OPENS_EARLY
wait fails OPENS_LATE
wait fails NO_ID
wait fails ID_FIRST
wait fails SETTLE_NO_ID
wait fails SETTLE_BLIND
wait fails NO_STOP
wait fails TWO STAYS_ALONE WAITS=1
wait fails WOKEN_AS_ALONE
wait fails POPS_FIRST
wait fails STAYS_QUEUED
wait fails DEAF_OPENED
wait fails FALLBACK LIGHT_FALLBACK
wait fails TWO SECOND_NO_HEAVY WAITS=1
wait fails LIMITS EXPOSES_EARLY
wait fails LIMITS EXPOSES_BLIND
wait fails LIMITS EXPOSES_FIRST
wait fails LIMITS EXPOSER_LOOKS_FIRST WAITS=1
wait fails LIMITS EXPOSER_BLIND
wait fails LIMITS CLOCK_AT_ONCE
wait fails LIMITS EARLY_IGNORED
wait fails LIMITS PASSED_OPEN
handover holds
handover holds THREADS=3 ROUNDS=1
handover fails NO_HEAVY
handover fails ENTERS_LATE
handover fails LOOKS_FIRST
handover fails LEAVES_EARLY
handover fails TAKES_BLIND
handover fails GIVES_BLIND
handover fails WITHDRAWS_BLIND
handover fails ENTERS_BLIND
handover fails NOTES_LATE
handover fails GIVEN_EARLY
handover fails GIVING_IS_GIVEN
handover fails GIVEN_CLEARED
handover fails TAKEN_STAYS
handover fails KEEPS
handover fails FORGETS
handover fails PERMIT_FIRST
handover fails PERMIT_LOST
handover fails ENDS_BLIND
handover holds SLEEP THREADS=1
handover fails SLEEP THREADS=1 NO_HEAVY
handover fails SLEEP THREADS=1 BUSY_LATE
handover fails SLEEP THREADS=1 NO_LOOK
handover fails SLEEP THREADS=1 RUNG_LATE
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
bias holds ROOM=6
bias holds TWO THREADS=2 ROOM=5
bias holds PROGRESS
select holds ANY
mutex holds ROUNDS=3
mutex holds LOCKERS=4
timers holds ITEM NAPS OWN
timers holds SLEEPERS=3
wait holds WAITS=3
wait holds TWO
wait holds THREADS=3
wait holds LIMITS ANY
wait holds LIMITS TWO WAITS=1
handover holds ROUNDS=3 TRIES=3
handover holds THREADS=3 ROUNDS=1 TRIES=3
EOF
    fi
}

# check model expected definition...: a line of the table; "as expected" is its last column
check() {
    local model=$1 expected=$2 directory begin=$EPOCHREALTIME got states found verdict kind=(-DSAFETY) search=(-m100000)
    shift 2
    [[ $model == bias ]] && search=(-m5000000) # its threads go on for ever, so its paths are long
    if [[ " $* " == *" PROGRESS "* ]]; then
        kind=(-DNP -DNFAIR=3)
        search+=(-l -f)
    fi
    directory=$(mktemp -d "$work/$model.XXXXXX")
    cd "$directory"
    if ! spin -a "${@/#/-D}" "$here/$model.pml" >spin.out 2>&1 ||
        ! cc -w -O"$([[ $expected == holds ]] && echo 1 || echo 0)" "${kind[@]}" -DCOLLAPSE -DMEMLIM=5000 -o pan pan.c >cc.out 2>&1; then
        cat spin.out cc.out >&2
        got=broken
    else
        ./pan "${search[@]}" -n >pan.out 2>&1 || true
        states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' pan.out)
        found=$(sed -n 's/^pan:1: //p' pan.out)
        if grep -q 'errors: [1-9]' pan.out &&
            [[ $found == *"assertion violated"* || $found == *"invalid end state"* || $found == *"non-progress cycle"* ]]; then
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
wanted=" ${*:-deque ready idle block bias select mutex timers wait handover} "

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
