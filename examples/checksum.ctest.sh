#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# checksum.ctest.sh <program> <project>: compares with cksum, on the project's own sources and on made-up trees:
# sizes around the chunks that are read, odd names, deep directories, more files than may be under way, files
# that can't be read. The order must not depend on the number of workers, nor of digesters.
set -euo pipefail
export LC_ALL=C
program=$1
project=$2
[[ -d $project/src ]] || project=$project/..

scratch=$(mktemp -d)
finish() {
    chmod -R u+rwX "$scratch"
    rm -rf "$scratch"
}
trap finish EXIT

fail() {
    printf 'checksum: %s\n' "$*" >&2
    exit 1
}

# compare <what> <path...>: the same lines as cksum, and always in the same order
compare() {
    local what=$1 setting workers digesters
    shift
    find "$@" -type f -exec cksum {} + | sort >"$scratch/want"
    for setting in 1:1 1:3 2:1 2:3 2:40 8:40 2: :; do # workers:digesters, or what they are by themselves
        workers=${setting%:*} digesters=${setting#*:}
        (
            unset ROUTINES_WORKERS
            [[ -n $workers ]] && export ROUTINES_WORKERS=$workers
            exec "$program" -s ${digesters:+-j "$digesters"} "$@"
        ) >"$scratch/got" 2>"$scratch/errors" || fail "$what, $setting: status $?: $(cat "$scratch/errors")"
        if [[ $setting == 1:1 ]]; then
            cp "$scratch/got" "$scratch/order"
            sort "$scratch/got" | diff "$scratch/want" - >"$scratch/diff" ||
                fail "$what: not what cksum says:"$'\n'"$(head "$scratch/diff")"
        fi
        cmp -s "$scratch/order" "$scratch/got" || fail "$what, $setting: not the same lines as with 1:1"
        [[ $(cat "$scratch/errors") =~ ^"files $(wc -l <"$scratch/want"), bytes $(awk \
            '{ n += $2 } END { printf "%.0f", n }' "$scratch/want"), errors 0; "[0-9]+\.[0-9]{3}" s, "[0-9.]+" MB/s"$ ]] ||
            fail "$what, $setting: unexpected summary: $(cat "$scratch/errors")"
    done
}

# bytes <n>: not all the same
bytes() {
    awk 'BEGIN { for (;;) print i++ * 7919 }' 2>/dev/null | head -c "$1" || true
}

compare 'the project' "$project/src" "$project/include"
[[ $(wc -l <"$scratch/want") -gt 20 ]] || fail 'the project has no files?'

tree=$scratch/tree
mkdir -p "$tree/b/empty directory" "$tree/a/c"
: >"$tree/empty"
for size in 1 255 256 65535 65536 65537 131072 1000003; do
    bytes "$size" >"$tree/$size bytes"
done
head -c 70000 /dev/zero >"$tree/b/zeros"
printf 'x' >"$tree/a/-j"
printf 'y' >"$tree/a/  two spaces"
printf 'z' >"$tree/a/c/"$'\xff\xfe'
ln -s ../a "$tree/b/link to a directory"
ln -s "$tree/empty" "$tree/b/link to a file"
ln -s . "$tree/b/loop"
mkfifo "$tree/b/pipe"
compare 'made-up files' "$tree"
compare 'files by name' "$tree/empty" "$tree/1000003 bytes" "$tree/a" "$tree/empty"
compare 'a slash at the end' "$tree/"
compare 'an empty directory' "$tree/b/empty directory"

(cd "$tree" && "$(realpath "$program")") | sort | diff <(cd "$tree" && find . -type f -exec cksum {} + | sort) - ||
    fail 'without arguments'
[[ $("$program" "$tree/b/link to a file") == "4294967295 0 $tree/b/link to a file" ]] || fail 'a link given by name'

# In order: by name within a directory, what is in one in its place.
mkdir -p "$scratch/order me/m"
for name in z a m/2 m/1 m.x b; do
    : >"$scratch/order me/$name"
done
[[ $("$program" -j 8 "$scratch/order me" | sed 's,.*/order me/,,' | tr '\n' ' ') == 'a b m/1 m/2 m.x z ' ]] ||
    fail "the order: $("$program" -j 8 "$scratch/order me")"

path=$scratch/deep
for ((i = 0; i < 900; i++)); do
    path+=/d
done
mkdir -p "$path"
bytes 1000 >"$path/file"
compare '900 directories deep' "$scratch/deep"

# 2000 files: more than may be under way, and the first one is the largest; few may be open at once.
mkdir "$scratch/many"
bytes 5000000 >"$scratch/many/_"
(cd "$scratch/many" && bytes 30000 | split -a 3 -b 15)
compare 'many files' "$scratch/many"
(
    ulimit -n 24
    ROUTINES_WORKERS=8 exec "$program" -j 8 "$scratch/many"
) | cmp -s "$scratch/order" - || fail 'many files, 24 descriptors'

# What can't be read is reported, the rest is summed all the same.
for number in 1 2 8; do
    status=0
    ROUTINES_WORKERS=$number "$program" -s "$tree/1 bytes" "$scratch/missing" "$tree/empty/x" /proc/self/mem \
        /dev/null "$tree/empty" >"$scratch/got" 2>"$scratch/errors" || status=$?
    [[ $status == 1 ]] || fail "unreadable files: status $status"
    cksum "$tree/1 bytes" "$tree/empty" | diff - "$scratch/got" || fail 'unreadable files: what could be read'
    for file in "$scratch/missing" "$tree/empty/x" /proc/self/mem /dev/null; do
        grep -q "^checksum: $file: [A-Z]" "$scratch/errors" || fail "no word about $file: $(cat "$scratch/errors")"
    done
    grep -q '^files 2, bytes 1, errors 4; ' "$scratch/errors" || fail "the summary: $(cat "$scratch/errors")"
    [[ $(wc -l <"$scratch/errors") == 5 ]] || fail "more was said: $(cat "$scratch/errors")"
done
if [[ $(id -u) != 0 ]]; then
    chmod 0 "$tree/a" "$tree/empty"
    status=0
    "$program" "$tree" >"$scratch/got" 2>"$scratch/errors" || status=$?
    [[ $status == 1 && $(wc -l <"$scratch/errors") == 2 ]] || fail "no permission: $status, $(cat "$scratch/errors")"
fi
if [[ -w /dev/full ]]; then
    status=0
    "$program" "$project/src" >/dev/full 2>"$scratch/errors" || status=$?
    [[ $status == 2 ]] || fail "the output could not be written: status $status"
fi

[[ $("$program" -h) == usage:* ]] || fail 'no help'
for bad in '-j 0' '-j x' '-j 1025' '-j' '-x'; do
    read -r -a arguments <<<"$bad"
    status=0
    message=$("$program" "${arguments[@]}" 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == *usage:* ]] || fail "'$bad': status $status, $message"
done
