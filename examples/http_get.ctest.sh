#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# http_get.ctest.sh <program> <project>: pages of all kinds from a server made for it (Python): with a length, in
# chunks, without an end; redirects; answers that are broken, late, or never come; a port where nobody is. What
# each line must say is known beforehand, and so is the sum.
set -euo pipefail
export LC_ALL=C
program=$1

scratch=$(mktemp -d)
server=''
trap '[[ -z $server ]] || { kill "$server" && wait "$server"; } 2>/dev/null || :; rm -rf "$scratch"' EXIT
cd "$scratch"

fail() {
    printf 'http_get: %s\n' "$*" >&2
    head -c 10000 out errors log >&2 || :
    exit 1
}

for bad in '-n 0' '-n x' '-n 100001' '-t 0' '-t x' '-t -1' '-t 1000001' '-o' '-o http://a/ http://b/' '-x' '-n'; do
    read -r -a arguments <<<"$bad"
    status=0
    message=$("$program" "${arguments[@]}" 2>&1 >/dev/null </dev/null) || status=$?
    [[ $status == 2 && $message == *usage:* ]] || fail "'$bad': status $status, $message"
done

command -v python3 >/dev/null || { echo 'skipped: no python3' && exit 77; }

cat >server.py <<'END'
import os, socketserver, sys, threading

big = bytes(range(256)) * 4096  # 1 MiB
busy, peak, lock = 0, 0, threading.Lock()

def head(status, *headers):
    return '\r\n'.join(['HTTP/1.1 %s' % status, 'Server: test', *headers, '', '']).encode()

def length(body, status='200 OK'):
    return head(status, 'Content-Length: %d' % len(body)) + body

def to(location, status='302 Found'):
    return head(status, 'Location: ' + location, 'Content-Length: 3') + b'no\n'

answers = {
    '/': length(b'hello\n'),
    '/empty': length(b''),
    '/big': length(big),
    '/old': b'HTTP/1.0 200 OK\r\n\r\nto the end',
    '/lf': b'HTTP/1.1 200\ncontent-length:4\n\nfine',
    '/none': head('204 No Content'),
    '/chunks': head('200 OK', 'transfer-encoding: CHUNKED') +
        b'5;x=y\r\nhello\r\n1F\r\n' + b'z' * 31 + b'\r\n10000 \r\n' + big[:65536] + b'\r\n0\r\nTrailer: 1\r\n\r\n',
    '/early': head('103 Early Hints', 'Link: </x>') + length(b'late'),
    '/missing': length(b'not here', '404 Not Found'),
    '/hop': to('/dir/a'),
    '/dir/a': to('b?c=d', '307 Temporary Redirect'),
    '/dir/b?c=d': to('?e=f#there', '308 Permanent Redirect'),
    '/dir/b?e=f': to('HTTP://127.0.0.1:PORT', '301 Moved Permanently'),
    '/same': to('//127.0.0.1:PORT/chunks', '303 See Other'),
    '/still': head('300 Multiple Choices', 'Content-Length: 4') + b'here',
    '/loop': to('/loop'),
    '/away': to('https://127.0.0.1:PORT/'),
    '/astray': to('http://127.0.0.1:99999/'),
    '/far': to('/' + 'x' * 3000),
    '/garbage': b'\x00\x01\x02 SSH-2.0\r\n\r\n',
    '/silent': b'',
    '/half-head': b'HTTP/1.1 200 OK\r\nContent-Length: 1',
    '/short': head('200 OK', 'Content-Length: 1000') + b'short',
    '/short-chunk': head('200 OK', 'Transfer-Encoding: chunked') + b'100\r\nshort',
    '/bad-chunk': head('200 OK', 'Transfer-Encoding: chunked') + b'5\r\nhello, world\r\n0\r\n\r\n',
    '/no-chunk': head('200 OK', 'Transfer-Encoding: chunked') + b'xyz\r\n',
    '/huge-chunk': head('200 OK', 'Transfer-Encoding: chunked') + b'ffffffffffffffff\r\n',
    '/bad-length': head('200 OK', 'Content-Length: -5') + b'hello',
    '/huge-length': head('200 OK', 'Content-Length: 99999999999999999999999') + b'hello',
    '/two-lengths': head('200 OK', 'Content-Length: 3', 'Content-Length: 4') + b'hello',
    '/long-header': head('200 OK', 'X: ' + 'x' * 20000, 'Content-Length: 3') + b'abc',
    '/many-headers': head('200 OK', *['X: x'] * 1000, 'Content-Length: 3') + b'abc',
}

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        global busy, peak
        path = self.rfile.readline().decode().split(' ')[1]
        headers = []
        for line in self.rfile:
            if line == b'\r\n':
                break
            headers.append(line.decode().strip())
        with lock:
            print(path, sorted(headers)[2], flush=True)
        if path == '/never':
            self.rfile.read()
        elif path == '/drip':  # fast enough each time, but there is no end to it
            self.wfile.write(head('200 OK', 'Content-Length: 1000000'))
            try:
                while True:
                    self.wfile.write(b'.')
                    threading.Event().wait(0.01)
            except OSError:
                pass
        elif path == '/count':
            with lock:
                busy += 1
                peak = max(peak, busy)
            threading.Event().wait(0.02)
            with lock:
                body = b'%4d' % peak
                busy -= 1
            self.wfile.write(length(body))
        else:
            self.wfile.write(answers[path].replace(b'PORT', str(self.server.server_address[1]).encode()))

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 200

with Server(('127.0.0.1', 0), Handler) as server:
    if len(sys.argv) > 1:
        open(sys.argv[1], 'wb').write(big)
    print('port', server.server_address[1], flush=True)
    server.serve_forever()
END
: >log
python3 server.py big >log 2>errors &
server=$!
until grep -q '^port' log; do
    kill -0 "$server" 2>/dev/null || fail 'the server does not start'
    sleep 0.02
done
port=$(sed -n 's/^port //p' log)
here=http://127.0.0.1:$port

# pages <status wanted> <argument...>: sets out
pages() {
    local status=0 wanted=$1
    shift
    what="$*, workers: $number"
    "$program" "$@" >out 2>errors </dev/null || status=$?
    [[ $status == "$wanted" && ! -s errors ]] || fail "$what: status $status"
}

# line <status> <bytes> <url, and what follows it>: is there, once
line() {
    [[ $(awk -v status="$1" -v bytes="$2" -v rest="$3" \
        '$1 == status && $2 == bytes && $3 ~ /^[0-9]+\.[0-9]$/ && substr($0, 33) == rest' out | wc -l) == 1 ]] ||
        fail "$what: no line: $1 $2 $3"
}

# sum <fetched> <failed> <bytes>
sum() {
    [[ $(tail -n 1 out) =~ ^"$1 fetched, $2 failed; $3 bytes in "[0-9]+\.[0-9]{3}\ s,\ at\ most\ ([0-9]+)\ at\ once$ ]] ||
        fail "$what: $(tail -n 1 out)"
    at_once=${BASH_REMATCH[1]}
}

for number in 1 2 8; do
    unset ROUTINES_WORKERS
    [[ -n $number ]] && export ROUTINES_WORKERS=$number

    pages 0 "$here/" "$here" "$here/empty" "$here/big" "$here/old" "$here/lf" "$here/none" "$here/chunks" \
        "$here/early" "$here/hop" "$here/same" "$here/still" "HTTP://127.0.0.1:$port/#top"
    line 200 6 "$here/"
    line 200 6 "$here"
    line 200 0 "$here/empty"
    line 200 1048576 "$here/big"
    line 200 10 "$here/old"
    line 200 4 "$here/lf"
    line 204 0 "$here/none"
    line 200 65572 "$here/chunks"
    line 200 4 "$here/early"
    line 200 6 "$here/hop (redirects: 4)"
    line 200 65572 "$here/same (redirects: 1)"
    line 300 4 "$here/still"
    line 200 6 "HTTP://127.0.0.1:$port/#top"
    sum 13 0 $((4 * 6 + 1048576 + 10 + 4 + 2 * 65572 + 4 + 4))

    bad=('/loop' '/away' '/astray' '/garbage' '/silent' '/half-head' '/short' '/short-chunk' '/bad-chunk'
        '/no-chunk' '/huge-chunk' '/bad-length' '/huge-length' '/two-lengths' '/long-header' '/many-headers'
        '/missing' '/far')
    pages 1 "${bad[@]/#/$here}" http://127.0.0.1:1/ "https://127.0.0.1:$port/" 'http://a b/' http:///x http://a:x/ \
        http://a:123456/ http://b@a/ 'http://[::1/' x ''
    line 404 8 "$here/missing"
    line 302 0 "$here/loop (redirects: 5): redirected too often"
    line 302 0 "$here/away (redirects: 1): redirected to something that is not http"
    line 302 0 "$here/astray (redirects: 1): not an http:// URL"
    line - 0 "$here/garbage: that is no answer in HTTP"
    for page in silent half-head; do
        line - 0 "$here/$page: the connection ended before the answer did"
    done
    line 200 5 "$here/short: the connection ended before the answer did"
    line 200 5 "$here/short-chunk: the connection ended before the answer did"
    line 200 5 "$here/bad-chunk: that is no answer in HTTP"
    for page in no-chunk huge-chunk; do
        line 200 0 "$here/$page: that is no answer in HTTP"
    done
    for page in bad-length huge-length two-lengths; do
        line - 0 "$here/$page: that is no answer in HTTP"
    done
    line - 0 "$here/long-header: a header is too long"
    line - 0 "$here/far: a header is too long"
    line - 0 "$here/many-headers: a header is too long"
    line - 0 'http://127.0.0.1:1/: Connection refused'
    for page in "https://127.0.0.1:$port/" 'http://a b/' http:///x http://a:x/ http://a:123456/ http://b@a/ \
        'http://[::1/' x ''; do
        line - 0 "$page: not an http:// URL"
    done
    sum 0 28 $((8 + 3 * 5))

    # Each has its own time; who never answers, or goes on for ever, holds up nobody else.
    pages 1 -t 0.3 -n 3 "$here/never" "$here/drip" "$here/never"
    [[ $(grep -c "^     - .*  $here/never: not done in time$" out) == 2 &&
        $(grep -c "^   200 .*  $here/drip: not done in time$" out) == 1 ]] || fail "$what: limits"
    [[ $(tail -n 1 out) == '0 fetched, 3 failed; '*', at most 3 at once' ]] || fail "$what: the sum"

    # No more at once than allowed: the server has counted too. The list may come by and by.
    what="a list, workers: $number"
    { for ((i = 0; i < 30; i++)); do echo "$here/count"; done && echo && printf '%s' "$here/empty"; } |
        "$program" -n 4 >out 2>errors || fail "$what: status $?"
    sum 31 0 120
    ((at_once <= 4)) || fail "$what: $at_once at once"
    rm -f one
    (
        echo "$here/empty"
        until grep -q '/empty$' one 2>/dev/null; do sleep 0.01; done # it is not read to its end first
        echo "$here/"
        printf '%s/%05000d\n' "$here" 0
    ) | "$program" 2>errors | tee one >out && fail "$what: a URL of 5000 bytes"
    sum 2 1 6
    grep -q '/0000.*too long$' out || fail "$what: a URL of 5000 bytes"

    # The body alone on the standard output.
    what="-o, workers: $number"
    "$program" -o "$here/big" 2>errors | cmp - big || fail "$what: the body"
    "$program" -o "$here/hop" >out 2>errors || fail "$what: status $?"
    [[ $(cat out) == hello && $(tail -n 1 errors) == '1 fetched, 0 failed; 6 bytes in '* ]] || fail "$what: hop"
done
((at_once >= 1)) || fail 'the peak'
# The server has never seen more than 4 at once, though it was slow; and our port in the Host header.
"$program" -o "$here/count" >out 2>errors
(($(cat out) <= 4)) || fail "the server counted $(cat out) at once"
if grep '^/' log | grep -qv " Host: 127.0.0.1:$port\$"; then
    fail 'a Host header'
fi

# The server of the other example, if it is there.
other=$(dirname "$program")/http_server
if [[ -x $other ]]; then
    kill "$server"
    wait "$server" || :
    mkdir public
    mv big public
    "$other" -d public 127.0.0.1:0 >log 2>errors &
    server=$!
    until [[ $(<log) =~ ^listening\ on\ [^$'\n']*:([0-9]+)\; ]]; do
        kill -0 "$server" 2>/dev/null || fail 'http_server does not start'
        sleep 0.02
    done
    here=http://127.0.0.1:${BASH_REMATCH[1]}
    pages 1 "$here/hello" "$here/big" "$here/big" "$here/nothing"
    [[ $(grep -c "^   200      1048576 .*$here/big$" out) == 2 ]] || fail "$what: big"
    grep -q "^   404 .*$here/nothing$" out || fail "$what: nothing"
    "$program" -o "$here/big" 2>errors | cmp - public/big || fail "$what: the body"
fi
