#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# http_server.ctest.sh <program> <project>: real clients, as far as they are installed (curl, wrk, nc or socat), and
# some that no browser is: garbage, heads in pieces, bodies of all kinds, half-closed connections, resets,
# clients that send or read too slowly or not at all, a thousand that are idle, too few descriptors, and signals
# while all that goes on.
# shellcheck disable=SC2154,SC2261,SC2015,SC2059,SC2094 # descriptors that exec names; formats are data here
set -euo pipefail
export LC_ALL=C
program=$1
slowdown=${ROUTINES_TEST_SLOWDOWN:-1}

scratch=$(mktemp -d)
pid=''
trap '[[ -z $pid ]] || kill -9 "$pid" 2>/dev/null || :; rm -rf "$scratch"' EXIT
cd "$scratch"
trap '' PIPE # who writes to one that is gone is told by an error

fail() {
    printf 'http_server: %s\n' "$*" >&2
    tail -n 20 out errors >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null && return
    [[ " $missing " == *" $1 "* ]] || echo "without $1: what needs it is left out"
    missing+=" $1"
    return 1
}
missing=''

# begin <argument...>: in the background; sets port, base
begin() {
    : >out
    what="$*, workers: ${ROUTINES_WORKERS-}"
    (
        [[ -z ${descriptors-} ]] || ulimit -n "$descriptors"
        exec "$program" "$@" >out 2>errors
    ) &
    pid=$!
    until [[ $(<out) =~ ^listening\ on\ [^$'\n']*:([0-9]+)\; ]]; do
        kill -0 "$pid" 2>/dev/null || fail "$what: has not begun"
        sleep 0.01
    done
    port=${BASH_REMATCH[1]} base=http://127.0.0.1:$port
}

# finish <status wanted> [signal]: ends it, and looks at what it says in the end
finish() {
    local status=0 last
    [[ -z ${2-} ]] || kill -s "$2" "$pid"
    wait "$pid" || status=$?
    pid=''
    [[ $status == "$1" ]] || fail "$what: status $status"
    ((status < 128)) || return 0
    last=$(tail -n 1 out)
    [[ $last =~ ^([0-9]+)\ connections,\ ([0-9]+)\ requests\;\ ([0-9]+)\ cut\ off$ ]] || fail "$what: says: $last"
    cut=${BASH_REMATCH[3]}
    (((cut == 0) == (status == 0))) || fail "$what: status $status: $last"
}

# open <variable>: a connection, as a descriptor of ours
open() {
    local _opened
    exec {_opened}<>"/dev/tcp/127.0.0.1/$port" || fail "$what: cannot connect"
    printf -v "$1" %s "$_opened"
}

# shut <descriptor>
shut() {
    local fd=$1
    exec {fd}>&-
}

# send <descriptor> <text as printf knows it>: by one write if it is not too long; bash's own would be one for each
# line
send() {
    printf "$2" | cat >&"$1"
}

# ask <request with \r\n as printf knows it>: sends it, and sets answer to all that comes until the server closes
ask() {
    local fd
    open fd
    send "$fd" "$1"
    answer=$(timeout $((20 * slowdown)) cat <&"$fd") || fail "$what: no end of the answer to $1"
    shut "$fd"
}

# expect <status> <request>
expect() {
    ask "$2"
    [[ $answer == "HTTP/1.1 $1 "*$'\r\n\r'* ]] || fail "$what: not $1: $2: $answer"
}

# opened: how many connections the server says are open, that which asks included
opened() {
    local line fd
    open fd
    printf 'GET /stats HTTP/1.0\r\n\r\n' >&"$fd"
    line=$(grep -o 'now open: [0-9]*' <&"$fd") || fail "$what: no statistics"
    shut "$fd"
    echo "${line##* }"
}

# await_opened <most>
await_opened() {
    local i
    for ((i = 0; i < 200 * slowdown; i++)); do
        (($(opened) > $1)) || return 0
        sleep 0.05
    done
    fail "$what: connections that never end: $(opened)"
}

# Sends its input, shuts that direction down, and prints what comes.
half_closing() {
    if have socat; then
        timeout $((20 * slowdown)) socat -t 10 - "TCP:127.0.0.1:$port"
    else
        timeout $((20 * slowdown)) nc -N 127.0.0.1 "$port"
    fi
}

{ : </dev/tcp/127.0.0.1/1; } 2>errors || [[ $(<errors) != *'No such file'* ]] || {
    echo 'this bash has no /dev/tcp'
    exit 77
}

mkdir -p site/sub/deep site/empty
for size in 0 1 700 800 850 900 1000 1024 5000 131072 140000; do
    head -c "$size" "$program" >"site/$size.bin"
done
seq 1 4500000 >site/big.txt # larger than all buffers between the server and a client
echo '<p>index</p>' >site/index.html
echo '<p>sub</p>' >site/sub/index.html
echo 'body {}' >'site/sub/a b.css'
echo secret >secret
echo secret >site/.hidden
ln -s ../secret site/link
ln -s /etc site/etc
mkfifo site/fifo
{ yes $'GET /hello HTTP/1.1\nHost: a\n' 2>/dev/null || :; } | head -n 900000 >hellos

serve() {
    local fd fds=() i expected=''

    # ---- requests by hand ----
    expect 200 'GET /hello HTTP/1.0\r\n\r\n'
    [[ $answer == *'Content-Length: 14'*'Connection: close'*'Hello, world!' ]] || fail "$what: $answer"
    expect 200 'GET /hello?x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'
    expect 200 '\r\n\r\nGET http://a/hello HTTP/1.1\nHost: a\nConnection: close\n\n'
    expect 200 'HEAD /hello HTTP/1.0\r\n\r\n'
    [[ $answer == *'Content-Length: 14'* && $answer != *Hello* ]] || fail "$what: HEAD: $answer"
    expect 200 'GET / HTTP/1.0\r\n\r\n'
    [[ $answer == *text/html*'<p>index</p>' ]] || fail "$what: $answer"
    expect 400 'GET /hello\r\n'
    expect 400 'GET /hello HTTP/1.1\r\n\r\n'
    expect 400 '\x16\x03\x01\x02\x00garbage'
    expect 400 'GET /../secret HTTP/1.0\r\n\r\n'
    expect 400 'GET /%%2e%%2e/secret HTTP/1.0\r\n\r\n'
    expect 400 'GET /sub/.%%2E/../secret HTTP/1.0\r\n\r\n'
    expect 400 'GET /a%%00 HTTP/1.0\r\n\r\n'
    expect 400 'GET //sub HTTP/1.0\r\n\r\n'
    expect 400 'GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n'
    expect 301 'GET /sub?x HTTP/1.0\r\n\r\n'
    [[ $answer == *'Location: /sub/'$'\r'* ]] || fail "$what: $answer"
    for i in /link /etc/passwd /etc/ /.hidden /sub/. /fifo /nothing /empty/ /hello/ /index.html/ /0.bin/x; do
        [[ $i == */. ]] && expect 400 "GET $i HTTP/1.0\r\n\r\n" || expect 404 "GET $i HTTP/1.0\r\n\r\n"
        [[ $answer != *secret* && $answer != *root:* ]] || fail "$what: $i: $answer"
    done
    expect 405 'DELETE / HTTP/1.0\r\n\r\n'
    [[ $answer == *'Allow: GET, HEAD'* ]] || fail "$what: $answer"
    expect 501 'BREW /pot HTTP/1.0\r\n\r\n'
    expect 501 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n'
    expect 505 'GET / HTTP/2.0\r\n\r\n'
    expect 417 'POST / HTTP/1.1\r\nHost: a\r\nExpect: money\r\nConnection: close\r\n\r\n'
    expect 413 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n'
    expect 414 "GET /$(printf '%05000d' 0) HTTP/1.0\r\n\r\n"
    expect 431 "GET / HTTP/1.0\r\nX: $(printf '%09000d' 0)\r\n\r\n"
    expect 431 "GET / HTTP/1.0\r\n$(printf 'X: %d\\r\\n' {1..70})\r\n"
    expect 200 "GET /hello HTTP/1.0\r\nX: $(printf '%07000d' 0)\r\n\r\n" # larger than the buffer of a connection

    # Pipelined: all answers, in order, with bodies to be dropped in between; the large head is in the middle.
    ask "$(
        for i in {1..60}; do
            printf 'GET /hello HTTP/1.1\\r\\nHost: a\\r\\nX: %d\\r\\n\\r\\n' "$i"
            printf 'POST /%d HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 5\\r\\n\\r\\nGET /' "$i"
            printf 'PUT /%d HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n5;x\\r\\nGET /\\r\\n0\\r\\n\\r\\n' "$i"
        done
        printf 'GET /hello HTTP/1.1\\r\\nHost: a\\r\\nX: %07000d\\r\\n\\r\\n' 0
        printf 'GET /0.bin HTTP/1.1\\r\\nHost: a\\r\\n\\r\\nGET /nothing HTTP/1.0\\r\\n\\r\\nGET /never HTTP/1.1\\r\\n'
    )"
    for i in {1..60}; do expected+='200 405 405 '; done
    expected+='200 200 404 '
    [[ $(grep -a '^HTTP/1.1 ' <<<"$answer" | cut -d ' ' -f 2 | tr '\n' ' ') == "$expected" ]] ||
        fail "$what: pipelined: $answer"

    # Whoever goes on to send what is not wanted is not reset, and gets its answer.
    open fd
    { printf 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n' && head -c 900000 site/big.txt; } >post
    cat post >&"$fd" 2>/dev/null || fail "$what: reset"
    [[ $(timeout $((20 * slowdown)) cat <&"$fd") == 'HTTP/1.1 413'* ]] || fail "$what: no answer"
    shut "$fd"

    # In pieces.
    open fd
    for i in G E 'T /he' 'llo HT' 'TP/1.1' '\r' '\nHo' 'st: a\r\nConnection:' ' close\r\n\r' '\n'; do
        printf "$i" >&"$fd"
        sleep 0.01
    done
    [[ $(timeout $((10 * slowdown)) cat <&"$fd") == *Hello* ]] || fail "$what: in pieces"
    shut "$fd"

    # ---- curl ----
    if have curl; then
        local size
        for size in site/*.bin site/big.txt; do
            curl -sf "$base/${size#site/}" | cmp - "$size" || fail "$what: $size differs"
        done
        curl -sf "$base/sub/a%20b.css" | cmp - 'site/sub/a b.css' || fail "$what: a b.css"
        [[ $(curl -sfL "$base/sub") == '<p>sub</p>' ]] || fail "$what: not redirected"
        [[ $(curl -sfI "$base/big.txt") == *"Content-Length: $(stat -c %s site/big.txt)"* ]] || fail "$what: HEAD"
        [[ $(curl -s -o /dev/null -w '%{http_code}' -z site/big.txt "$base/big.txt") == 304 ]] || fail "$what: not 304"
        [[ $(curl -s --path-as-is -o /dev/null -w '%{http_code}' "$base/../secret") == 400 ]] || fail "$what: .."
        # One connection for many requests, with bodies too, of known length and in chunks; but not behind one
        # that was too large.
        [[ $(curl -s -o /dev/null -w '%{http_code} %{num_connects},' "$base/hello" -o /dev/null "$base/140000.bin" \
            -o /dev/null "$base/none" -o /dev/null "$base/") == '200 1,200 0,404 0,200 0,' ]] || fail "$what: keep-alive"
        [[ $(curl -s --data-binary @site/140000.bin -H Expect: -o /dev/null -w '%{http_code} %{num_connects},' \
            "$base/a" -o /dev/null "$base/b") == '405 1,405 0,' ]] || fail "$what: a body"
        [[ $(curl -s -X POST -T site/140000.bin -H 'Transfer-Encoding: chunked' -H Expect: -o /dev/null \
            -w '%{http_code} %{num_connects},' "$base/a" -T site/1.bin -o /dev/null "$base/b") == '405 1,405 0,' ]] ||
            fail "$what: a body in chunks"
        [[ $(curl -s -T site/big.txt -o /dev/null -w '%{http_code}' "$base/a") == 413 ]] || fail "$what: too large"
        [[ $(curl -s -0 "$base/hello") == Hello* ]] || fail "$what: HTTP/1.0"
        [[ $(curl -s "$base/stats") == *'routines: runtime'* ]] || fail "$what: /stats"
        # Gone in the middle of an answer, with a reset.
        for i in 1 2; do
            curl -s --limit-rate 10000 -m 0.1 "$base/big.txt" >/dev/null && fail "$what: too early"
        done
    fi

    # ---- half-closed ----
    if have socat || nc -h 2>&1 | grep -q -- '-N'; then
        for i in hello 140000.bin; do
            answer=$(printf 'GET /%s HTTP/1.1\r\nHost: a\r\n\r\n' "$i" | half_closing | wc -c)
            ((answer > 100)) || fail "$what: no answer to one that is half-closed"
        done
        answer=$(printf 'GET /hello HTTP/1.1\r\nHo' | half_closing)
        [[ $answer == 'HTTP/1.1 400'* ]] || fail "$what: half a head: $answer"
        head -c 300000 "$program" | half_closing >/dev/null || : # garbage
    fi

    # ---- many ----
    local load=''
    if have wrk; then
        wrk -t 1 -c 20 -d 1 "$base/hello" >load 2>&1 &
        load=$!
    fi
    for ((i = 0; i < many; i++)); do
        open fd
        fds+=("$fd")
        ((i % 10)) || printf 'GET /' >&"$fd"
    done
    (($(opened) > many)) || fail "$what: of $many only $(opened) are open"
    if [[ -n $load ]]; then
        wait "$load" || fail "$what: wrk: $(<load)"
        [[ $(<load) =~ ([1-9][0-9]*)\ requests\ in && $(<load) != *errors* && $(<load) != *Non-2xx* ]] ||
            fail "$what: wrk: $(<load)"
        echo "workers: ${ROUTINES_WORKERS-}: $(grep Requests/sec load), while $many idle connections came"
    fi
    for fd in "${fds[@]}"; do
        shut "$fd"
    done
    await_opened 1
}

many=1000
((slowdown == 1)) || many=100
ulimit -S -n "$(ulimit -H -n)"
(($(ulimit -n) > many + 100)) || many=$(($(ulimit -n) / 2))

for number in 1 2 8; do
    export ROUTINES_WORKERS=$number
    begin -d site 127.0.0.1:0
    serve
    [[ ! -s errors ]] || fail "$what: complains"
    # Within a request at the signal: it is answered, and the connection closed; idle ones end, new ones are refused.
    open idle
    open asking
    send "$asking" 'GET /1.bin HTTP/1.1\r\nHost: a\r\n\r\nGET /hello HTTP/1.1\r\nHos'
    read -r -t $((10 * slowdown)) answer <&"$asking" || fail "$what: no answer" # so it waits for the second now
    kill "$pid"
    [[ -z $(timeout $((10 * slowdown)) cat <&"$idle") ]] || fail "$what: an idle connection got something"
    (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && fail "$what: accepts behind the signal"
    send "$asking" 't: a\r\n\r\n'
    answer=$(timeout $((10 * slowdown)) cat <&"$asking")
    [[ $answer == *'Connection: close'*Hello* ]] || fail "$what: not answered behind the signal: $answer"
    shut "$idle"
    shut "$asking"
    finish 0
done

for number in 1 2; do
    export ROUTINES_WORKERS=$number
    # Those who dawdle. All wait at the same time, and beside them others are served.
    begin -d site -r $((300 * slowdown)) -i $((600 * slowdown)) -w $((400 * slowdown)) -g 100 127.0.0.1:0
    open silent # in its first request
    open loris  # a byte now and then
    open stops  # in its body
    open idle
    open deaf
    open deafer # the same with small answers
    cat hellos >&"$deafer" 2>/dev/null &
    asking=$!
    printf 'GET / HT' >&"$silent"
    printf 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc' >&"$stops"
    for i in {1..3}; do # it asks for 100 MB, and reads nothing
        printf 'GET /big.txt HTTP/1.1\r\nHost: a\r\n\r\n' >&"$deaf"
    done
    (
        for i in {1..100}; do
            printf 'X' >&"$loris" || break
            sleep 0.01
        done
    ) 2>/dev/null &
    dripping=$!
    expect 200 'GET /hello HTTP/1.0\r\n\r\n'
    answer=$(timeout $((10 * slowdown)) cat <&"$silent")
    [[ $answer == 'HTTP/1.1 408'* ]] || fail "$what: silent: $answer"
    answer=$(timeout $((10 * slowdown)) cat <&"$loris" || :)
    [[ $answer == 'HTTP/1.1 408'* ]] || fail "$what: slow-loris: $answer"
    answer=$(timeout $((10 * slowdown)) cat <&"$stops")
    [[ $answer == 'HTTP/1.1 405'* ]] || fail "$what: no body: $answer"
    answer=$(timeout $((10 * slowdown)) cat <&"$idle")
    [[ -z $answer ]] || fail "$what: idle: $answer"
    await_opened 1
    kill "$dripping" "$asking" 2>/dev/null || :
    wait "$dripping" "$asking" || :
    for fd in "$silent" "$loris" "$stops" "$idle" "$deaf" "$deafer"; do
        shut "$fd"
    done

    # Behind the grace: cut off.
    open asking
    send "$asking" 'GET /hello HTTP/1.1\r\nHost: a\r\n\r\nGET /hel'
    read -r -t $((10 * slowdown)) answer <&"$asking" || fail "$what: no answer"
    finish 3 INT
    shut "$asking"
done
unset ROUTINES_WORKERS

# No descriptors: it says so once, waits (and does not spin), and goes on when there are some again.
descriptors=40 begin -c 1000 127.0.0.1:0
what='without descriptors'
fds=()
for i in {1..60}; do
    open fd
    fds+=("$fd")
done
until [[ -s errors ]]; do
    kill -0 "$pid" || fail "$what: has ended"
    sleep 0.01
done
ticks() {
    local stat
    read -r -a stat <"/proc/$pid/stat"
    echo $((stat[13] + stat[14]))
}
before=$(ticks)
sleep 0.5
(($(ticks) - before < 5 * slowdown)) || fail "$what: spins: $(($(ticks) - before)) ticks in half a second"
[[ $(<errors) == 'http_server: no more connections for now: Too many open files' ]] || fail "$what: says something else"
for fd in "${fds[@]}"; do
    shut "$fd"
done
expect 200 'GET /hello HTTP/1.0\r\n\r\n'
finish 0 TERM

# No more connections than are allowed at once: others wait.
begin -c 2 127.0.0.1:0
what='two connections'
open one
open two
open three
printf 'GET / HTTP/1.1\r\nHost: a\r\n\r\n' >&"$three"
read -r -t 0.3 answer <&"$three" && fail "$what: a third was served: $answer"
shut "$one"
read -r -t $((10 * slowdown)) answer <&"$three" || fail "$what: the third was never served"
shut "$two"
shut "$three"
finish 0 TERM

for bad in '-c 0' '-c x' '-w 0' '-i -1' '-r 1x' '-g' '-y' 'a b'; do
    read -r -a arguments <<<"$bad"
    status=0
    message=$("$program" "${arguments[@]}" 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == *usage:* ]] || fail "'$bad': status $status, $message"
done
for bad in '-d /nowhere :0' 'nonsense' '127.0.0.1:99999'; do
    read -r -a arguments <<<"$bad"
    status=0
    message=$(timeout 20 "$program" "${arguments[@]}" 2>&1 >/dev/null) || status=$?
    [[ $status == 1 && $message == *http_server:* ]] || fail "'$bad': status $status, $message"
done
