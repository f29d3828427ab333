# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# What the scripts share; to be sourced.
#   root                        the project's directory
#   say, fail                   messages
#   have_command, have_working, have_cmocka, have_openssl, have_build_tool, newest
#                               what is on this machine
#   want CHECK... -- PACKAGE... notes Debian packages, unless the check succeeds
#   install_wanted              installs what was noted, or says what is missing and fails
#   configure DIRECTORY OPTION...
#                               runs CMake there, with Ninja where there is one
#   jobs                        how many jobs to run at once

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() {
    printf '== %s\n' "$*"
}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

jobs() {
    nproc 2>/dev/null || echo 2
}

have_command() {
    command -v "$1" >/dev/null 2>&1
}

# have_working COMPILER [flag...]: it makes programs (a compiler can be there without headers or runtime).
have_working() {
    local cc=$1 out status=0
    shift
    have_command "$cc" || return 1
    out=$(mktemp)
    printf '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n' |
        "$cc" -x c - -o "$out" "$@" >/dev/null 2>&1 || status=1
    rm -f "$out"
    return "$status"
}

have_cmocka() {
    have_command cc &&
        printf '#include <%s.h>\n' stdarg stddef stdint setjmp cmocka | cc -E -x c - >/dev/null 2>&1 &&
        have_working cc -lcmocka
}

have_openssl() {
    have_command cc && printf '#include <openssl/ssl.h>\n' | cc -E -x c - >/dev/null 2>&1 && have_working cc -lssl -lcrypto
}

have_build_tool() {
    have_command ninja || have_command make
}

# newest NAME: prints the command by that name, else the highest of NAME-30 to NAME-11; false if there is none.
newest() {
    local version
    if have_command "$1"; then
        echo "$1"
        return
    fi
    for version in {30..11}; do
        if have_command "$1-$version"; then
            echo "$1-$version"
            return
        fi
    done
    return 1
}

wanted=()

want() {
    local check=()
    while [[ $1 != -- ]]; do
        check+=("$1")
        shift
    done
    shift
    if ! "${check[@]}" >/dev/null 2>&1; then
        wanted+=("$@")
    fi
}

install_wanted() {
    ((${#wanted[@]})) || return 0
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q) packages=("${wanted[@]}")
    wanted=()
    have_command apt-get ||
        fail "this is missing: ${packages[*]} (so Debian calls it; there is no apt-get here to install it with)"
    if (($(id -u) != 0)); then
        have_command sudo || fail "this is missing: ${packages[*]}; only root, or sudo, could install it"
        apt=(sudo "${apt[@]}")
    fi
    say "installing ${packages[*]}"
    if compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null &&
        "${apt[@]}" install -y --no-install-recommends "${packages[@]}" </dev/null; then
        return 0
    fi
    # no package lists yet, or old ones
    "${apt[@]}" update </dev/null || fail "apt-get update failed; this is missing: ${packages[*]}"
    "${apt[@]}" install -y --no-install-recommends "${packages[@]}" </dev/null ||
        fail "could not be installed: ${packages[*]}"
}

configure() {
    local directory=$1 generator=()
    shift
    if [[ ! -e $directory/CMakeCache.txt ]] && have_command ninja; then
        generator=(-G Ninja)
    fi
    cmake -S "$root" -B "$directory" "${generator[@]}" "$@"
}
