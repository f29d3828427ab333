#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tls_check.sh ARCHIVE OBJDUMP
#
# No thread-local address survives a switch. Compilers think that errno's address, pthread_self() and the address
# of a thread-local variable are the same all through a function; after a switch that function can be on another
# thread. So in the code as compiled (inlining is done by then) no function may both
#   - switch: call rt_context_switch, directly or through other functions of the archive, and
#   - ask for something that belongs to the thread: call __errno_location, ___errno_location, pthread_self
#     or __tls_get_addr, or read the thread pointer itself (%fs:0), from which addresses are made. (A variable
#     read or written as %fs:offset is fetched anew by that very instruction and is harmless.)
# The exceptions are functions at the bottom of a thread's own stack: what comes back to that stack comes back
# to that thread. Anybody else who needs both moves the second into a function that is not inlined and does
# nothing else, as in src/context/self.c.
#
# Calls through pointers are not followed (the caller of a commit function or of user code can be overlooked),
# and names stand for functions: two static functions of one name are judged as one. x86-64 only.
set -euo pipefail

archive=$1 objdump=$2
own_stack="thread_main" # the exceptions: src/routine/runtime.c

if [[ -z $objdump ]] || ! "$objdump" --version | grep -q '^GNU objdump'; then
    echo "tls: no GNU objdump (others write differently)"
    exit 77
fi

"$objdump" -dr --no-show-raw-insn "$archive" | awk -v own_stack="$own_stack" '
    function number(hex,   i, n) {
        n = 0
        for (i = 1; i <= length(hex); i++)
            n = 16 * n + index("0123456789abcdef", substr(hex, i, 1)) - 1
        return n
    }
    # what gcc splits off (.cold, .part.0, .isra.0) belongs to the function it was split from
    function whole(name) {
        sub(/\.(cold|part|isra|constprop).*$/, "", name)
        return name
    }
    /: +file format / { file = $1 }
    /^Disassembly of section / { section = $4; sub(/:$/, "", section) }
    # "0000000000000040 <rt_name>:" begins a function
    /^[0-9a-f]+ <.*>:$/ {
        f = $2
        gsub(/[<>:]/, "", f)
        f = whole(f)
        functions[f] = 1
        starts[file section, number($1)] = f
        next
    }
    # a call or a jump within the section: "call 40 <rt_name>"
    !/R_X86_64_/ { shown = "" }
    /[ \t](call|j[a-z]+)q? +[0-9a-f]+ <[^>+]+>$/ {
        g = $NF
        gsub(/[<>]/, "", g)
        shown = (f, whole(g)) in calls ? "" : f SUBSEP whole(g)
        calls[f, whole(g)] = 1
    }
    /%fs:0x0($|[^0-9a-f(])/ { threads[f] = threads[f] " %fs:0" }
    # the relocation of the instruction before it: "R_X86_64_PLT32 rt_name-0x4", or ".text.unlikely+0x3c" for a
    # static function
    /[ \t]R_X86_64_/ {
        if (branch && shown != "")
            delete calls[shown] # not to there: what was shown is the next instruction, whosever that is
        shown = ""
        g = $NF
        offset = g
        sub(/[-+]0x[0-9a-f]+$/, "", g)
        if (g ~ /^(__errno_location|___errno_location|pthread_self|__tls_get_addr)$/) {
            threads[f] = threads[f] " " g
        } else if (branch && g ~ /^\.text/) {
            sign = offset ~ /-0x[0-9a-f]+$/ ? -1 : 1
            sub(/^.*[-+]0x/, "", offset)
            sections[f, file g, sign * number(offset) + 4] = 1
        } else if (branch) {
            calls[f, whole(g)] = 1
        }
        next
    }
    { branch = /[ \t](call|j[a-z]+)q? / }
    END {
        if (!("rt_context_switch" in functions)) {
            print "tls: there is no rt_context_switch in this archive" > "/dev/stderr"
            exit 1
        }
        for (call in sections) {
            split(call, part, SUBSEP)
            if ((part[2], part[3]) in starts)
                calls[part[1], starts[part[2], part[3]]] = 1
        }
        split(own_stack, names, " ")
        for (i in names)
            exempt[names[i]] = 1
        way["rt_context_switch"] = "rt_context_switch"
        do {
            more = 0
            for (pair in calls) {
                split(pair, ends, SUBSEP)
                if (!(ends[1] in way) && !(ends[1] in exempt) && (ends[2] in way)) {
                    way[ends[1]] = ends[1] " > " way[ends[2]]
                    more = 1
                }
            }
        } while (more)
        for (f in way)
            switching++
        if (switching < 2) {
            print "tls: nothing in this archive calls rt_context_switch" > "/dev/stderr"
            exit 1
        }
        for (f in threads)
            if (f in way) {
                print "tls: " f " uses" threads[f] " and can switch: " way[f] > "/dev/stderr"
                bad = 1
            }
        if (!bad) print "tls: " switching - 1 " functions can switch, none keeps anything of its thread"
        exit bad
    }'
