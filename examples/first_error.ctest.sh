#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# first_error.ctest.sh <program> <project>: all succeed; one fails, and the others, which would run for ages, are
# stopped; what is reported and returned.
set -euo pipefail
program=$1

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
    printf 'first_error: %s\n' "$*" >&2
    exit 1
}

# run <status wanted> <argument...>: the lines of the standard output without the times, sorted; the other as it is
run() {
    local want=$1 status=0
    shift
    "$program" "$@" >"$scratch/out" 2>"$scratch/errors" <<<'not for the commands' || status=$?
    [[ $status == "$want" ]] || fail "$*, workers: $number: status $status: $(cat "$scratch/out" "$scratch/errors")"
    if grep -vE '^(ok|failed|stopped) +[0-9]+\.[0-9]{3} s  ' "$scratch/out"; then
        fail "$*, workers: $number: unexpected output"
    fi
    out=$(sed -E 's/^([a-z]+) +[0-9.]+ s  /\1 /' "$scratch/out" | LC_ALL=C sort)
    errors=$(cat "$scratch/errors")
}

# expect <standard output> <standard error>
expect() {
    [[ $out == "$1" ]] || fail "workers: $number: expected:"$'\n'"$1"$'\n'"but got:"$'\n'"$out"
    # The C libraries don't agree on what an error is called.
    # shellcheck disable=SC2053 # a pattern
    [[ $errors == $2 ]] || fail "workers: $number: expected on the standard error:"$'\n'"$2"$'\n'"but got:"$'\n'"$errors"
}

for number in 1 2 8 ''; do
    unset ROUTINES_WORKERS
    [[ -n $number ]] && export ROUTINES_WORKERS=$number

    run 0 true
    expect 'ok true' ''
    run 0 true -- sleep 0.05 -- sh -c 'exit 0'
    expect $'ok sh -c exit 0\nok sleep 0.05\nok true' ''
    run 1 false
    expect 'failed false: exit status 1' 'first_error: false: exit status 1'

    # The first failure decides, and nobody is waited for.
    run 1 sleep 100000 -- sh -c 'exit 3' -- sleep 200000
    expect $'failed sh -c exit 3: exit status 3\nstopped sleep 100000: signal 15\nstopped sleep 200000: signal 15' \
        'first_error: sh: exit status 3'
    # shellcheck disable=SC2016 # the inner shell's $$
    run 1 sh -c 'kill -9 $$' -- sleep 100000
    expect $'failed sh -c kill -9 $$: signal 9\nstopped sleep 100000: signal 15' 'first_error: sh: signal 9'

    # One that cannot be started has failed as well.
    run 1 sleep 100000 -- "$scratch/no such program" -x
    [[ $out == "failed $scratch/no such program -x: "*$'\nstopped sleep 100000: signal 15' &&
        $errors == "first_error: $scratch/no such program: No such file or directory" ]] ||
        fail "workers: $number: no such program: $out"$'\n'"$errors"

    # Of several failures the first one counts: here the other comes after it, because of it.
    cat >"$scratch/waits" <<'END'
trap "exit $1" TERM
: >"$0.ready"
while :; do sleep 0.01; done
END
    cat >"$scratch/fails" <<'END'
until [ -e "$1" ]; do sleep 0.01; done
exit 4
END
    failure=(sh "$scratch/fails" "$scratch/waits.ready")
    run 1 sh "$scratch/waits" 7 -- "${failure[@]}"
    expect "failed ${failure[*]}: exit status 4"$'\n'"stopped sh $scratch/waits 7: exit status 7" \
        'first_error: sh: exit status 4'
    rm "$scratch/waits.ready"

    # One that is stopped but ends well all the same.
    run 1 sh "$scratch/waits" 0 -- "${failure[@]}"
    expect "failed ${failure[*]}: exit status 4"$'\n'"ok sh $scratch/waits 0" 'first_error: sh: exit status 4'
    rm "$scratch/waits.ready"
done

# Many at once, and what they are given: nothing to read, no blocked signals.
arguments=(true)
for ((i = 0; i < 40; i++)); do
    arguments+=(-- sh -c '! read -r line')
done
number=''
run 0 "${arguments[@]}"
[[ $(wc -l <"$scratch/out") == 41 ]] || fail "41 commands: $out"
if [[ -r /proc/self/status ]]; then
    run 0 grep -qx 'SigBlk:.0*' /proc/self/status
fi

for bad in '' '--' 'true --' '-- true' 'true -- -- true'; do
    read -r -a arguments <<<"$bad"
    status=0
    message=$("$program" "${arguments[@]}" 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == usage:* ]] || fail "'$bad': status $status, $message"
done
