#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# checks_test.sh CC READELF OBJDUMP
#
# Do the checks notice anything? Each is given small trees and archives made here, some of them right, some
# wrong in one way, and has to tell them apart. An empty CC, READELF or OBJDUMP leaves out what needs it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cc=$1 readelf=$2 objdump=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

# expect STATUS PATTERN COMMAND...: it ends so (0 or 1), and says something that matches
expect() {
    local status=$1 pattern=$2 actual=0 output
    shift 2
    output=$("$@" 2>&1) || actual=1
    if [[ $actual != "$status" ]] || ! grep -q -- "$pattern" <<<"$output"; then
        printf 'checks: status %s instead of %s, or nothing about "%s", from: %s\n%s\n' "$actual" "$status" "$pattern" \
            "$*" "$output" >&2
        bad=1
    fi
}

# ---- rooms ----

# tree NAME: a tree that is right
tree() {
    mkdir -p "$work/$1"/{include/routines,src/{base,os,sched}}
    cd "$work/$1"
    echo '#include "routines/a.h"' >include/routines.h
    echo '#include <stddef.h>' >include/routines/a.h
    echo '#include <stdint.h>' >src/base/base.h
    echo '#include "../base/base.h"' >src/os/os.h
    printf '#include "sched.h"\n#include "os/os.h"\n#include <routines/a.h>\n' >src/sched/sched.c
    echo '  #  include "../os/os.h" /* why */' >src/sched/sched.h
}

tree right
expect 0 '6 files' "$here/rooms_check.sh" .
tree upward
echo '#include "../sched/sched.h"' >>src/os/os.h
expect 1 'os (floor 1) includes src/sched/sched.h' "$here/rooms_check.sh" .
tree upward-from-src
echo '#include "sched/sched.h"' >src/base/base.c
expect 1 'base (floor 0) includes src/sched/sched.h' "$here/rooms_check.sh" .
tree upward-in-angles
echo '#include <sched/sched.h>' >src/base/base.c
expect 1 'base (floor 0) includes src/sched/sched.h' "$here/rooms_check.sh" .
tree upward-in-assembly
echo '# include "../sched/sched.h"' >src/os/os.S
expect 1 'src/os/os.S:1' "$here/rooms_check.sh" .
tree public
echo '#include "../../src/base/base.h"' >>include/routines/a.h
expect 1 'a public header includes src/base/base.h' "$here/rooms_check.sh" .
tree unknown
mkdir src/cellar
touch src/cellar/wine.h
expect 1 'src/cellar/wine.h: is in no room' "$here/rooms_check.sh" .
tree homeless
touch src/stray.c
expect 1 'src/stray.c: is in no room' "$here/rooms_check.sh" .
tree missing
echo '#include "nowhere.h"' >>src/os/os.h
expect 1 '"nowhere.h" is nowhere' "$here/rooms_check.sh" .
tree itself
echo '#include "os.h"' >>src/os/os.h
expect 1 'includes itself' "$here/rooms_check.sh" .
tree circle
echo '#include "b.h"' >src/base/a.h
echo '#include "c.h"' >src/base/b.h
echo '#include "a.h"' >src/base/c.h
expect 1 'src/base/b.h' "$here/rooms_check.sh" .

# ---- symbols and thread-local addresses ----

cd "$work"
# archive NAME, C on stdin
archive() {
    "$cc" -O2 -fPIE -fvisibility=hidden -x c -c - -o "$1.o"
    rm -f "$1.a"
    ar rc "$1.a" "$1.o"
}

if [[ -n $cc && -n $readelf ]]; then
    public='__attribute__((visibility("default")))'
    archive names-right <<<"$public int routine_a(void) { return 1; } int rt_a; static int b; int *rt_b(void) { return &b; }"
    expect 0 'alone' "$here/symbols_check.sh" names-right.a "$readelf" "$cc"
    archive names-visible <<<"$public int rt_a;"
    expect 1 'rt_a is internal but visible' "$here/symbols_check.sh" names-visible.a "$readelf" "$cc"
    archive names-hidden <<<'int routine_a(void) { return 1; }'
    expect 1 'routine_a is named like a public symbol' "$here/symbols_check.sh" names-hidden.a "$readelf" "$cc"
    archive names-stray <<<'int helper(void) { return 1; }'
    expect 1 'helper is no name of ours' "$here/symbols_check.sh" names-stray.a "$readelf" "$cc"
    archive names-weak <<<'__attribute__((weak)) int helper(void) { return 1; }'
    expect 1 'helper is no name of ours' "$here/symbols_check.sh" names-weak.a "$readelf" "$cc"
    archive names-wanting <<<'int elsewhere(int); int rt_a(int x) { return elsewhere(x); }'
    expect 1 'needs more than' "$here/symbols_check.sh" names-wanting.a "$readelf" "$cc"
fi

if [[ -n $cc && -n $objdump ]] && "$objdump" --version | grep -q '^GNU objdump' && echo | "$cc" -dM -E - | grep -q __x86_64__; then
    # what can switch: directly, and by way of functions that are far from each other
    switching='
        #include <errno.h>
        #include <pthread.h>
        void *stack;
        __attribute__((noinline)) void *rt_context_switch(void **s, void *t, void *v) { *s = t; __asm__(""); return v; }
        __attribute__((noinline, cold)) static void park(void) { rt_context_switch(&stack, 0, 0); stack = 0; }
        __attribute__((noinline)) static void wait(void) { park(); stack = 0; }
        void rt_wait(void) { wait(); }
        __attribute__((noinline)) int rt_error(void) { return errno; }
        '
    archive tls-right <<<"$switching int rt_a(void) { wait(); return rt_error(); }
        int rt_b(void) { return (int)(long)pthread_self() + errno; }
        void *thread_main(void *a) { wait(); return (char *)a + (long)pthread_self(); }"
    expect 0 'none keeps' "$here/tls_check.sh" tls-right.a "$objdump"
    archive tls-errno <<<"$switching int rt_a(void) { errno = 1; wait(); return errno; }"
    expect 1 'rt_a uses __errno_location' "$here/tls_check.sh" tls-errno.a "$objdump"
    archive tls-self <<<"$switching long rt_a(void) { rt_context_switch(&stack, 0, 0); return (long)pthread_self(); }"
    expect 1 'rt_a uses pthread_self' "$here/tls_check.sh" tls-self.a "$objdump"
    archive tls-variable <<<"$switching static __thread int v[9]; void rt_b(int i) { v[i] = i; }
        int rt_a(int i) { int *p = v + i; __asm__(\"\" : \"+r\"(p)); wait(); return *p; }"
    expect 1 'rt_a uses %fs:0' "$here/tls_check.sh" tls-variable.a "$objdump"
    archive tls-nothing <<<'int rt_a;'
    expect 1 'no rt_context_switch' "$here/tls_check.sh" tls-nothing.a "$objdump"
    archive tls-nobody <<<'void rt_context_switch(void) {}'
    expect 1 'nothing in this archive calls' "$here/tls_check.sh" tls-nobody.a "$objdump"
fi

((bad)) || echo "checks: they tell right from wrong"
exit "$bad"
