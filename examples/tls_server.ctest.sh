#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tls_server.ctest.sh <program> <project>: curl as a client that behaves, of TLS 1.2 and 1.3; and others that send
# garbage, stop in the middle of the handshake, say nothing, do not read, or vanish; and the end by a signal.
set -euo pipefail
export LC_ALL=C
program=$1

for tool in curl openssl; do
    command -v "$tool" >/dev/null || { echo "tls_server: no $tool here" >&2 && exit 77; }
done

scratch=$(mktemp -d)
pid='' others=()
trap 'kill -9 $pid "${others[@]}" 2>/dev/null || :; rm -rf "$scratch"' EXIT
cd "$scratch"
trap '' PIPE # who writes to a connection that is gone is told by an error

fail() {
    printf 'tls_server: %s: %s\n' "$what" "$*" >&2
    tail -n 20 out errors >&2
    exit 1
}

# begin <option...>: sets port
begin() {
    what="$*, workers: $number"
    : >out
    "$program" "$@" cert.pem key.pem 127.0.0.1:0 >out 2>errors &
    pid=$!
    until grep -q '^listening' out; do
        kill -0 "$pid" 2>/dev/null || fail "it has ended"
        sleep 0.005
    done
    port=$(sed -nE 's/^listening on .*:([0-9]+)$/\1/p' out)
}

# await <text> [n]: until n lines of what the server complains about have it
await() {
    until [[ $(grep -c "$1" errors) -ge ${2-1} ]]; do
        kill -0 "$pid" 2>/dev/null || fail "it has ended"
        sleep 0.005
    done
}

# end <connections> <failed> <requests>: by a signal, and what it counted ('*': any number)
end() {
    local status=0
    kill -TERM "$pid"
    wait "$pid" || status=$?
    pid=''
    # shellcheck disable=SC2053 # patterns
    [[ $status == 0 && $(tail -n 1 out) == connections:\ $1,\ of\ which\ failed:\ $2\;\ requests:\ $3 ]] ||
        fail "status $status, wanted $*: $(tail -n 1 out)"
}

kill_others() {
    kill -9 "${others[@]}" 2>/dev/null || :
    wait "${others[@]}" 2>/dev/null || :
    others=()
}

get() {
    curl -sS --max-time 60 --cacert cert.pem "$@"
}

what=certificate
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out cert.pem 2>errors || fail "openssl req"
seq -f %015.0f 327680 >lines # 5 MiB

for number in 1 2 8; do
    export ROUTINES_WORKERS=$number

    # Those who behave.
    begin -t 60
    url=https://127.0.0.1:$port
    [[ $(get "$url") == 'Hello, world!' ]] || fail "GET"
    for version in 1.2 1.3; do
        get --tlsv$version --tls-max $version -w '%{http_version}' "$url/lines/327680" -o got >/dev/null ||
            fail "TLS $version: status $?"
        cmp -s lines got || fail "TLS $version: not what was asked for"
    done
    # several requests on one connection; the last number is that of new connections
    [[ $(get -w ' %{num_connects} %{http_code}\n' "$url" "$url/lines/2" "$url/nothing" "$url/lines/10000001") == \
        $'Hello, world!\n 1 200\n000000000000001\n000000000000002\n 0 200\n 0 404\n 0 404' ]] || fail "keep-alive"
    [[ $(get -o /dev/null -w '%{http_code}' -d body "$url") == 405 ]] || fail "POST"
    [[ $(get -H 'Connection: close' "$url" "$url" -w '%{num_connects}') == $'Hello, world!\n1Hello, world!\n1' ]] ||
        fail "close"
    status=0
    get -H "X: $(printf '%05000d' 0)" "$url" >/dev/null 2>&1 || status=$?
    ((status == 52 || status == 56)) || fail "a head that is too long: status $status"
    await 'Message too long'
    end 8 1 10

    # Many at once.
    begin -t 60
    url=https://127.0.0.1:$port
    others=()
    for i in {1..20}; do
        get "$url/lines/$((i * 1000))" "$url/lines/$i" -o "got$i" -o "small$i" &
        others+=($!)
    done
    for i in {1..20}; do
        wait "${others[i - 1]}" || fail "number $i of 20: status $?"
        cmp -s <(head -n $((i * 1000)) lines) "got$i" || fail "number $i of 20: not what was asked for"
    done
    others=()
    end 20 0 40

    # Those who do not speak TLS, or not what we accept, or do not trust us, or go in the middle. The server says
    # of each what it was, and goes on.
    begin -t 60
    url=https://127.0.0.1:$port
    ! curl -sS "http://127.0.0.1:$port" >/dev/null 2>&1 || fail "HTTP without TLS"
    await 'http request'
    ! curl -sS "$url" >/dev/null 2>&1 || fail "a client that does not trust us"
    await 'alert unknown ca'
    ! get --tls-max 1.1 --ciphers 'DEFAULT:@SECLEVEL=0' "$url" >/dev/null 2>&1 || fail "TLS 1.1"
    for length in 1 5 6 100 20000; do
        exec 3<>"/dev/tcp/127.0.0.1/$port"
        { head -c "$length" key.pem lines | head -c "$length" >&3; } 2>/dev/null || :
        exec 3>&-
    done
    hello='\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' # the first bytes of a ClientHello
    for length in 4 12 20 44; do
        exec 3<>"/dev/tcp/127.0.0.1/$port"
        printf '%b' "${hello:0:length}" >&3
        exec 3>&-
    done
    await 'the peer has gone' 4
    [[ $(get "$url") == 'Hello, world!' ]] || fail "after all that"
    end '*' '*' 1

    # Those who stop: nothing, half a hello, no request, an answer that is not read. All are cut off in the end.
    begin -t 0.3 -g 60
    url=https://127.0.0.1:$port
    exec 3<>"/dev/tcp/127.0.0.1/$port" 4<>"/dev/tcp/127.0.0.1/$port"
    printf '%b' "$hello" >&4
    mkfifo silence
    openssl s_client -quiet -connect "127.0.0.1:$port" <silence >/dev/null 2>&1 &
    others+=($!)
    exec 5>silence
    get --limit-rate 1k "$url/lines/10000000" >/dev/null 2>&1 &
    others+=($!)
    await 'timed out' 4
    exec 3>&- 4>&- 5>&-
    rm silence
    [[ $(get "$url") == 'Hello, world!' ]] || fail "after those who stop"
    kill_others
    end 5 4 2

    # The grace is over: what goes on is cut off.
    begin -t 60 -g 0.1
    get --limit-rate 1k "https://127.0.0.1:$port/lines/10000000" >/dev/null 2>&1 &
    others+=($!)
    sleep 0.3
    end 1 1 1
    grep -q 'the grace is over' out || fail "the grace"
    kill_others
done

what=arguments number=
for bad in '' 'cert.pem' 'a b c d' '-x a b' '-t x a b' '-g -1 a b'; do
    read -r -a arguments <<<"$bad"
    status=0
    message=$("$program" "${arguments[@]}" 2>&1 >/dev/null) || status=$?
    [[ $status == 2 && $message == *usage:* ]] || fail "'$bad': status $status, $message"
done
status=0
"$program" cert.pem nothing.pem 127.0.0.1:0 2>/dev/null || status=$?
[[ $status == 1 ]] || fail "a key that is not there: status $status"
