#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# rooms_check.sh [directory of the project]
#
# Who may include whom. src/ is divided into rooms, each on a floor; a file includes files of its own floor or
# lower ones. Public headers may be included by all and include only public ones. No header may include itself,
# however long the way round. Exit 1 after naming every violation.
set -euo pipefail

cd "${1:-$(dirname "$0")/..}"

declare -A floor=([base]=0 [os]=1 [context]=2 [sched]=3 [observe]=4 [routine]=5 [comm]=6 [sync]=6 [io]=7 [sim]=8)

bad=0
complain() {
    echo "rooms: $*" >&2
    bad=1
}

# The room of a path, "public" for include/, empty for anything else.
room_of() {
    case $1 in
        include/*) echo public ;;
        src/*/*) local rest=${1#src/}; echo "${rest%%/*}" ;;
    esac
}

# What an include written in file $1 as $2 ("name" or <name>) means: a path in the project, or nothing for
# the system's headers.
resolve() {
    local name=${2:1:-1} place
    if [[ ${2:0:1} == '"' ]]; then
        for place in "$(dirname "$1")" src include; do
            if [[ -f $place/$name ]]; then
                realpath --relative-to=. "$place/$name"
                return
            fi
        done
        echo "?"
    elif [[ -f include/$name ]]; then
        echo "include/$name"
    elif [[ -f src/$name ]]; then
        realpath --relative-to=. "src/$name"
    fi
}

mapfile -t files < <(find include src -type f -name '*.[chS]' | sort)
if ((${#files[@]} == 0)); then
    complain "no files below $PWD"
fi
edges=$(mktemp)
trap 'rm -f "$edges" "$edges.loops"' EXIT

for file in "${files[@]}"; do
    room=$(room_of "$file")
    if [[ $room != public && -z ${floor[${room:-none}]+known} ]]; then
        complain "$file: is in no room (${!floor[*]})"
        continue
    fi
    while IFS=: read -r line text; do
        target=$(resolve "$file" "$text")
        [[ -n $target ]] || continue
        if [[ $target == "?" ]]; then
            complain "$file:$line: $text is nowhere"
            continue
        fi
        other=$(room_of "$target")
        if [[ $room == public ]]; then
            [[ $other == public ]] || complain "$file:$line: a public header includes $target"
        elif [[ $other != public ]]; then
            if [[ -z ${floor[${other:-none}]+known} ]]; then
                complain "$file:$line: $target is in no room"
            elif ((floor[$other] > floor[$room])); then
                complain "$file:$line: $room (floor ${floor[$room]}) includes $target of $other (floor ${floor[$other]})"
            fi
        fi
        if [[ $file == "$target" ]]; then
            complain "$file:$line: includes itself"
        elif [[ $file == *.h ]]; then
            echo "$file $target" >>"$edges"
        fi
    done < <(sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*("[^"]+"|<[^>]+>).*/\1/; T; =; p' "$file" |
        paste -d: - -)
done

# tsort names the members of each loop on stderr
if ! tsort "$edges" >/dev/null 2>"$edges.loops"; then
    complain "headers include each other in a circle:"
    sed -n 's/^tsort: //p' "$edges.loops" >&2
fi

((bad)) || echo "rooms: ${#files[@]} files, each includes its own floor or lower, and no header itself"
exit "$bad"
