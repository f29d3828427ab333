#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# wordcount.ctest.sh <program> <project>: compares with find, cat, tr, sort and uniq, on the project's own
# sources and on made-up trees: odd names, deep directories, words across the chunks that are read, files
# that can't be read, more files than may be open.
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
    printf 'wordcount: %s\n' "$*" >&2
    exit 1
}

# Is there a zero byte in the first 64 KiB?
is_binary() {
    ! cmp -s <(head -c 65536 -- "$1") <(head -c 65536 -- "$1" | tr -d '\0')
}

# text_files <path...>: what is to be counted, each name ended by a zero byte
text_files() {
    local file
    find "$@" -type f -print0 | while IFS= read -r -d '' file; do
        if ! is_binary "$file"; then
            printf '%s\0' "$file"
        fi
    done
}

# The same list by standard tools, from the names in $scratch/files; no word goes from one file to the next.
count_by_tools() {
    local file
    while IFS= read -r -d '' file; do
        cat -- "$file"
        echo
    done <"$scratch/files" | tr -cs 'A-Za-z' '\n' | tr '[:upper:]' '[:lower:]' | sed '/^$/d' | sort | uniq -c |
        sort -k1,1nr -k2,2 | awk '{ printf "%7d %s\n", $1, $2 }'
}

# compare <what> <status wanted> <path...>: the list, and the figures of the summary
compare() {
    local what=$1 want_status=$2 workers status line
    shift 2
    text_files "$@" >"$scratch/files"
    count_by_tools >"$scratch/want"
    local words distinct files bytes
    words=$(awk '{ n += $1 } END { print n + 0 }' "$scratch/want")
    distinct=$(wc -l <"$scratch/want")
    files=$(tr -dc '\0' <"$scratch/files" | wc -c)
    bytes=$(xargs -0 -r cat -- <"$scratch/files" | wc -c)
    for workers in 1 2 8; do
        status=0
        ROUTINES_WORKERS=$workers "$program" --list "$@" >"$scratch/got" 2>"$scratch/errors" || status=$?
        [[ $status == "$want_status" ]] ||
            fail "$what, $workers workers: status $status, expected $want_status: $(head -n 20 "$scratch/errors")"
        diff "$scratch/want" "$scratch/got" >"$scratch/diff" ||
            fail "$what, $workers workers: the lists differ:"$'\n'"$(head -n 20 "$scratch/diff")"

        status=0
        "$program" --workers "$workers" --no-stats "$@" >"$scratch/got" 2>/dev/null || status=$?
        [[ $status == "$want_status" ]] || fail "$what, --workers $workers: status $status"
        head -n 10 "$scratch/want" | awk '{ printf "%10d  %s\n", $1, $2 } END { print "" }' >"$scratch/head"
        for line in "words     $words" "distinct  $distinct" "bytes     $bytes"; do
            grep -qxF -- "$line" "$scratch/got" ||
                fail "$what, --workers $workers: no line '$line' in:"$'\n'"$(cat "$scratch/got")"
        done
        grep -q "^files     $files (not counted: " "$scratch/got" ||
            fail "$what, --workers $workers: not $files files in:"$'\n'"$(cat "$scratch/got")"
        head -n "$(wc -l <"$scratch/head")" "$scratch/got" | diff "$scratch/head" - >"$scratch/diff" ||
            fail "$what, --workers $workers: the first words differ:"$'\n'"$(cat "$scratch/diff")"
    done
}

# letters <n> <character>
letters() {
    head -c "$1" /dev/zero | tr '\0' "$2"
}

# ---- the project itself ----

own=()
for directory in src include docs; do
    if [[ -d $project/$directory ]]; then
        own+=("$project/$directory")
    fi
done
compare 'the project' 0 "${own[@]}"
[[ $(wc -l <"$scratch/want") -gt 500 ]] || fail 'the project has no words?'

# ---- files ----

tree=$scratch/tree
mkdir "$tree"
: >"$tree/empty"
printf 'no newline at the End' >"$tree/no newline"
printf 'END' >"$tree/one word"
printf 'x' >"$tree/one letter"
printf '  \n\t 1234 @[`{ \n' >"$tree/no words"
printf "don't e-mail na\xc3\xafve UPPER Upper upper a1b2c3\r\n" >"$tree/mixed"
printf 'name\n' >"$tree/with spaces  in it"
printf 'name\n' >"$tree/"$'with\na newline'
printf 'name\n' >"$tree/-n"
printf 'name\n' >"$tree/"$'\xff\xfe'
for length in 65535 65536 65537 131071 131072 131073; do # a word up to, at and over the ends of chunks
    { letters $((length - 9)) ' '; printf 'BorderWord'; } >"$tree/crosses $length"
    { letters $((length - 10)) '.'; printf 'uptohereXY next'; } >"$tree/ends $length"
    { letters "$length" '\n'; printf 'beginshere'; } >"$tree/begins $length"
    letters "$length" 'q' >"$tree/all of one $length"
done
{ letters 300000 'Z'; printf ' '; letters 300000 'z'; printf '1'; letters 299999 'z'; } >"$tree/long words"
awk 'BEGIN { for (i = 0; i < 60000; i++) { s = ""; for (n = i * 7919 % 50021; n > 0; n = int(n / 26))
    s = s sprintf("%c", 97 + n % 26); printf "%s%s", s, i % 11 ? " " : "\n" } }' >"$tree/many words"
compare 'made-up files' 0 "$tree"
compare 'each by itself' 0 "$tree/one word" "$tree/empty" "$tree/-n" "$tree/mixed"
compare 'twice the same' 0 "$tree/mixed"
compare 'an empty file' 0 "$tree/empty"

# ---- what is not text, or not a file ----

mkdir "$scratch/odd"
printf 'text\0binary' >"$scratch/odd/zero in the middle"
{ letters 65535 'b'; printf '\0'; } >"$scratch/odd/zero at the end of the first chunk"
{ letters 65536 'c'; printf '\0more text\0'; } >"$scratch/odd/zero after the first chunk is text"
ln -s "$tree" "$scratch/odd/link to a directory"
ln -s "$tree/mixed" "$scratch/odd/link to a file"
ln -s . "$scratch/odd/loop"
ln -s /nowhere "$scratch/odd/dangling"
mkfifo "$scratch/odd/pipe"
compare 'binary files, links, a pipe' 0 "$scratch/odd"
grep -qxF 'files     1 (not counted: 2 binary, 5 special, 0 unreadable)' "$scratch/got" ||
    fail "not 2 binary, 5 special in:"$'\n'"$(cat "$scratch/got")"
mkdir "$scratch/nothing"
compare 'an empty directory' 0 "$scratch/nothing"

# ---- what can't be read: reported, counted, and the rest is counted all the same ----

unreadable=("$scratch/missing" "$scratch/missing/too")
if [[ -f /proc/self/mem && ! -L /proc/self/mem ]]; then
    unreadable+=(/proc/self/mem) # opens, but its first page does not read
fi
mkdir "$scratch/closed"
printf 'closed' >"$scratch/closed/file"
mkdir "$scratch/closed/directory"
printf 'closed' >"$scratch/closed/directory/file"
chmod 0 "$scratch/closed/file" "$scratch/closed/directory"
if [[ ! -r $scratch/closed/file ]]; then # who is root can read everything
    unreadable+=("$scratch/closed/file" "$scratch/closed/directory")
fi
status=0
"$program" --no-stats -n 3 "$tree/mixed" "${unreadable[@]}" "$tree/one word" \
    >"$scratch/got" 2>"$scratch/errors" || status=$?
[[ $status == 1 ]] || fail "unreadable files: status $status"
printf '%10d  %s\n' 3 upper 1 a 1 b >"$scratch/want"
head -n 3 "$scratch/got" | diff "$scratch/want" - || fail 'unreadable files: other words'
grep -qxF "files     2 (not counted: 0 binary, 0 special, ${#unreadable[@]} unreadable)" "$scratch/got" ||
    fail "unreadable files: not counted in:"$'\n'"$(cat "$scratch/got")"
for file in "${unreadable[@]}"; do
    grep -q "^wordcount: $file: [A-Z]" "$scratch/errors" ||
        fail "no word about $file in:"$'\n'"$(cat "$scratch/errors")"
done
[[ $(wc -l <"$scratch/errors") == "${#unreadable[@]}" ]] || fail "more was said: $(cat "$scratch/errors")"

# ---- deep, and many ----

deep=$scratch/deep
path=$deep
for ((i = 0; i < 900; i++)); do
    path+=/d
done
mkdir -p "$path"
for ((i = 0; i < 900; i += 30)); do
    printf 'level deep down %s\n' "$i" >"${path:0:${#deep} + 2 + 2 * i}/file"
done
compare '900 directories deep' 0 "$deep"
(
    ulimit -n 20
    exec "$program" --list --workers 8 "$deep"
) >"$scratch/got" || fail "900 directories, 20 descriptors: status $?"
diff "$scratch/want" "$scratch/got" || fail '900 directories, 20 descriptors: the lists differ'

mkdir -p "$scratch/many"
(
    cd "$scratch/many"
    mkdir a b c
    awk 'BEGIN { for (i = 0; i < 24000; i++) { print "common"; s = ""; for (n = i; n > 0; n = int(n / 26))
        s = s sprintf("%c", 97 + n % 26); print s } }' >words
    split -a 4 -l 24 words a/
    split -a 4 -l 48 words b/
    split -a 4 -l 96 words c/
    rm words
)
find "$scratch/many" -type f -exec cat {} + | tr -cs 'A-Za-z' '\n' | sed '/^$/d' | sort | uniq -c |
    sort -k1,1nr -k2,2 | awk '{ printf "%7d %s\n", $1, $2 }' >"$scratch/want"
for workers in 1 2 8; do # 3500 files, 8 workers, 20 descriptors
    (
        ulimit -n 20
        exec "$program" --list --workers "$workers" "$scratch/many"
    ) >"$scratch/got" || fail "many files, $workers workers: status $?"
    diff "$scratch/want" "$scratch/got" >"$scratch/diff" ||
        fail "many files, $workers workers: the lists differ:"$'\n'"$(head -n 20 "$scratch/diff")"
done

# ---- options ----

out=$("$program" -n 2 "$tree/mixed")
[[ $out == "         3  upper
         1  a

words     "*$'\n\n'*spawned* ]] || fail "-n 2 with statistics: $out"
out=$("$program" -n 0 --no-stats "$tree/mixed" | head -n 1)
[[ $out == 'words     12' ]] || fail "-n 0: $out"
mkdir "$scratch/cwd" "$scratch/cwd/docs"
printf 'one two two' >"$scratch/cwd/docs/text"
printf 'two' >"$scratch/cwd/README.md"
printf 'no' >"$scratch/cwd/other"
absolute=$(realpath "$program")
out=$(cd "$scratch/cwd" && "$absolute" --list)
[[ $out == "      3 two
      1 one" ]] || fail "default arguments: $out"
help=$("$program" --help)
[[ $help == usage:* ]] || fail "--help: $help"

cd "$scratch/nothing"
for bad in '' '-n x .' '-n -1 .' '-n' '--workers 0 .' '--workers 1025 .' '--what .'; do
    status=0
    # shellcheck disable=SC2086  # more than one argument
    message=$("$absolute" $bad 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == *usage:* ]] || fail "'$bad': status $status, $message"
done
