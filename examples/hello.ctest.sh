#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# hello.ctest.sh <program> <project>: both routines greet, in whatever order.
set -euo pipefail
program=$1

for workers in 1 2 8; do
    got=$(ROUTINES_WORKERS=$workers "$program" | LC_ALL=C sort)
    want=$'hello, routines\nhello, world'
    if [[ $got != "$want" ]]; then
        printf 'with %s workers, expected:\n%s\ngot:\n%s\n' "$workers" "$want" "$got" >&2
        exit 1
    fi
done
