#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# symbols_check.sh ARCHIVE READELF CC [flag...]
#
# What the archive brings into a program: global names are either public (routine_, routines_, chan_; default
# visibility) or the library's own (rt_; hidden), so that it collides with nothing, and a shared library that
# contains it exports what the headers declare. And it needs nothing but the C library and pthreads: the
# whole archive links with -lpthread alone, and the result asks for no other shared library.
set -euo pipefail

archive=$1 readelf=$2 cc=$3
shift 3

if [[ -z $readelf ]]; then
    echo "symbols: no readelf"
    exit 77
fi

# Defined global and weak symbols. The sanitizers add names of their own (__asan, __odr_asan, __sanitizer…);
# __x86.get_pc_thunk and DW.ref are the compiler's. A mangled name means C++, and is not one of ours.
if ! "$readelf" -sW "$archive" | awk '
    /^File: / { file = $2 }
    $5 ~ /^(GLOBAL|WEAK|UNIQUE)$/ && $7 != "UND" {
        name = $8; visibility = $6
        if (name ~ /^(__asan|__odr_asan|__tsan|__ubsan|__sanitizer|__start_|__stop_|___asan|asan\.|__x86\.|DW\.ref\.)/)
            next
        total++
        if (name ~ /^(routine|routines|chan)_[a-z0-9_]+$/) {
            if (visibility != "DEFAULT" && visibility != "PROTECTED")
                complain("is named like a public symbol but is hidden: declare it in a public header with " \
                         "ROUTINES_API, or name it rt_…")
        } else if (name ~ /^rt_[a-z0-9_]+$/) {
            if (visibility != "HIDDEN" && visibility != "INTERNAL")
                complain("is internal but visible outside: hide it")
        } else {
            complain("is no name of ours: routine_…, chan_… or rt_…, or make it static")
        }
    }
    function complain(what) { bad = 1; print "symbols: " file ": " name " " what > "/dev/stderr" }
    END {
        if (!total) { print "symbols: no symbols found" > "/dev/stderr"; bad = 1 }
        if (!bad) print "symbols: " total " global names, all ours"
        exit bad
    }'; then
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo 'int main(void) { return 0; }' >"$work/main.c"
if ! "$cc" "$@" -o "$work/program" "$work/main.c" -Wl,--whole-archive "$archive" -Wl,--no-whole-archive \
    -Wl,--no-undefined -lpthread; then
    echo "symbols: the archive needs more than the C library and pthreads" >&2
    exit 1
fi
# libgcc_s would be a surprise; the sanitizers bring theirs
needed=$("$readelf" -dW "$work/program" | sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p')
for library in $needed; do
    case $library in
        libc.so* | libc.musl* | libpthread.so* | ld-linux* | ld-musl*) ;;
        libasan* | libtsan* | libubsan* | libclang_rt* | libm.so* | libgcc_s.so* | libdl.so* | librt.so* | \
            libresolv.so* | libstdc++*)
            if [[ " $* " != *" -fsanitize="* ]]; then
                echo "symbols: the linked archive needs $library" >&2
                exit 1
            fi
            ;;
        *)
            echo "symbols: the linked archive needs $library" >&2
            exit 1
            ;;
    esac
done
echo "symbols: links with the C library and pthreads alone"
