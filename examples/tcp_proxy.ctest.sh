#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tcp_proxy.ctest.sh <program> <project>: 20 MB through it by curl, both ways at once, and by many clients; one side
# that ends and still listens; silence, on both sides and on one; resets, passed on in both directions; a target
# that is not there, or accepts nothing; the limit of connections; the end by one signal or two. Needs Python for
# the targets, and curl and socat or nc for what these test.
set -euo pipefail
export LC_ALL=C
program=$1

scratch=$(mktemp -d)
pid='' target='' others=()
trap '{ kill -9 "${others[@]}" $pid $target; wait; } 2>/dev/null || :; rm -rf "$scratch"' EXIT
cd "$scratch"
number=''

fail() {
    printf 'tcp_proxy: %s, workers: %s\n' "$*" "$number" >&2
    tail -n 40 out errors targets >&2 || :
    exit 1
}

for bad in '' 'a:1' 'a:1 b:2 x' 'a:1 b:2 -1' 'a:1 b:2 1 2' '-n 0 a:1 b:2' '-d x a:1 b:2' '-g -1 a:1 b:2' '-y a:1 b:2'; do
    read -r -a arguments <<<"$bad"
    status=0
    message=$("$program" "${arguments[@]}" 2>&1 >/dev/null </dev/null) || status=$?
    [[ $status == 2 && $message == *usage:* ]] || fail "'$bad': status $status, $message"
done
status=0
message=$(timeout 20 "$program" nonsense 127.0.0.1:1 2>&1 >/dev/null </dev/null) || status=$?
[[ $status == 1 && $message == 'tcp_proxy: nonsense: '* ]] || fail "nonsense: status $status, $message"

command -v python3 >/dev/null || { echo 'skipped: no python3' && exit 77; }

# Targets on ports of their own, and a client that looks closely. "targets.py serve": prints the ports.
cat >targets.py <<'END'
import hashlib, http.server, os, socket, socketserver, struct, sys, threading

def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.close()

class Sum(socketserver.BaseRequestHandler):  # speaks when the client has no more to say
    def handle(self):
        h = hashlib.sha256()
        while data := self.request.recv(65536):
            h.update(data)
        self.request.sendall(h.hexdigest().encode() + b'\n')

class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
            print('echo: the end', flush=True)
        except OSError as e:
            print('echo:', type(e).__name__, flush=True)

class Drip(socketserver.BaseRequestHandler):  # never silent for long
    def handle(self):
        for i in range(16):
            self.request.sendall(b'.')
            threading.Event().wait(0.25)

class Broken(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b'x' * 1000)
        self.request.recv(1)
        reset(self.request)

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 200

class Files(http.server.SimpleHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *args):
        pass

def serve():
    for name, handler in ('sum', Sum), ('echo', Echo), ('drip', Drip), ('broken', Broken), ('files', Files):
        server = Server(('127.0.0.1', 0), handler)
        threading.Thread(target=server.serve_forever).start()
        print(name, server.server_address[1])
    full = socket.socket()  # accepts nothing: who comes when its queue is full hears nothing
    full.bind(('127.0.0.1', 0))
    full.listen(0)
    inside = [socket.socket() for i in range(3)]
    for s in inside:
        s.setblocking(False)
        s.connect_ex(full.getsockname())
    print('full', full.getsockname()[1])
    print('ready', flush=True)
    threading.Event().wait()

def client(port):
    s = socket.create_connection(('127.0.0.1', port))
    return s

def main(what, port, *rest):
    s = client(int(port))
    if what == 'echo':  # so many at once, each so much, both ways at the same time
        many, size = int(rest[0]), int(rest[1])
        def one(s):
            data = os.urandom(size)
            def send():
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
            t = threading.Thread(target=send)
            t.start()
            got = b''.join(iter(lambda: s.recv(65536), b''))
            t.join()
            good.append(got == data)
        good = []
        threads = [threading.Thread(target=one, args=(s if i == 0 else client(int(port)),)) for i in range(many)]
        for t in threads: t.start()
        for t in threads: t.join()
        print('good', sum(good))
    elif what == 'reset':  # the client
        s.sendall(b'hello')
        s.recv(5)
        reset(s)
    elif what == 'end':  # how it ends: what comes, after an optional word
        n = 0
        try:
            if rest:
                s.sendall(rest[0].encode())
            while data := s.recv(65536):
                n += len(data)
            print('end', n)
        except OSError as e:
            print(type(e).__name__, n)

serve() if sys.argv[1] == 'serve' else main(*sys.argv[1:])
END
head -c 20000000 /dev/urandom >file
: >targets
python3 targets.py serve >targets 2>&1 &
target=$!
until grep -q '^ready' targets; do
    kill -0 "$target" 2>/dev/null || fail 'the targets do not start'
    sleep 0.02
done
at() {
    printf '127.0.0.1:%s\n' "$(sed -n "s/^$1 //p" targets)"
}

# until_line <pattern>: in the output
until_line() {
    until grep -q -- "$1" out; do
        kill -0 "$pid" 2>/dev/null || grep -q -- "$1" out || fail "ended without: $1"
        sleep 0.01
    done
}

# begin <argument...>: sets pid, port; what is not said is port 0 of this machine
begin() {
    : >out
    "$program" "${@:1:$#-2}" 127.0.0.1:0 "${@:$#-1}" >out 2>errors &
    pid=$!
    until_line '^ready: process [0-9]* listens on 127.0.0.1:[0-9]*$'
    port=$(sed -n 's/^ready: .*://p' out)
}

finish() {
    local status=0
    wait "$pid" || status=$?
    pid=''
    [[ $status == 0 && ! -s errors ]] || fail "status $status"
}

# sum <connections> <finished> <silent> <broken> <cancelled> <no target>
sum() {
    [[ $(tail -n 2 out | head -n 1) == "connections: $1; finished: $2, silent: $3, broken: $4, cancelled: $5, no target: $6" ]] ||
        fail "expected $*"
    (($1 == $2 + $3 + $4 + $5 + $6 && $(grep -c '^[0-9]*: 127.0.0.1:[0-9]*: ' out) == $1)) || fail 'the sums'
}

# Silence is when both sides are silent. This takes its time, beside the others.
: >drip.out
"$program" 127.0.0.1:0 "$(at drip)" 2 >drip.out 2>&1 &
others+=($!)
until grep -q ^ready drip.out; do sleep 0.01; done
python3 targets.py end "$(sed -n 's/^ready: .*://p' drip.out)" >drip.end &
dripping=$!

for number in 1 2 8; do
    unset ROUTINES_WORKERS
    [[ -n $number ]] && export ROUTINES_WORKERS=$number

    # A file by curl, twice over one connection; then with many others at once.
    begin "$(at files)" 60
    if command -v curl >/dev/null; then
        curl -sS -o copy "http://127.0.0.1:$port/file" -o copy2 "http://127.0.0.1:$port/file" || fail "curl: $?"
        if ! cmp file copy || ! cmp file copy2; then
            fail 'the file has changed'
        fi
        until_line '^1: .* bytes there, 400[0-9]* back, .*: finished$'
    fi
    kill "$pid"
    finish
    begin "$(at echo)" 60
    [[ $(python3 targets.py echo "$port" 20 500000) == 'good 20' ]] || fail 'not all echoes are good'
    kill "$pid"
    finish
    sum 20 20 0 0 0 0
    [[ $(tail -n 1 out) == 'bytes: 10000000 there, 10000000 back' ]] || fail 'the bytes'

    # The client has no more to say, and then the target speaks.
    begin "$(at sum)" 60
    if command -v socat >/dev/null; then
        sum=$(socat -t 60 - "TCP:127.0.0.1:$port" <file)
    elif command -v nc >/dev/null; then
        sum=$(nc -N 127.0.0.1 "$port" <file)
    else
        sum=$(sha256sum <file)
    fi
    [[ $sum == "$(sha256sum <file | cut -d ' ' -f 1)"* ]] || fail "half-closed: $sum"
    kill "$pid"
    finish

    # Resets: of the target, passed on to the client, who is not told that this was all; and of the client.
    begin "$(at broken)" 60
    [[ $(python3 targets.py end "$port" x) == 'ConnectionResetError '* ]] || fail 'a reset of the target'
    kill "$pid"
    finish
    sum 1 0 0 1 0 0
    echoes=$(grep -c '^echo:' targets || :)
    begin "$(at echo)" 60
    python3 targets.py reset "$port"
    until_line '^1: .*: 5 bytes there, 5 back, .*: Connection reset by peer$'
    until (($(grep -c '^echo:' targets) == echoes + 1)); do sleep 0.01; done
    [[ $(tail -n 1 targets) == 'echo: ConnectionResetError' ]] || fail 'a reset of the client'
    kill "$pid"
    finish
    sum 1 0 0 1 0 0

    # Silence on both sides. No target; one that accepts nothing.
    begin "$(at echo)" 0.3
    [[ $(python3 targets.py end "$port" hello) == 'end 5' ]] || fail 'silence'
    kill "$pid"
    finish
    sum 1 0 1 0 0 0
    begin -d 0.3 127.0.0.1:1 60
    [[ $(python3 targets.py end "$port") == 'ConnectionResetError 0' ]] || fail 'no target'
    kill "$pid"
    finish
    sum 1 0 0 0 0 1
    grep -q ': no target: Connection refused$' out || fail 'no target'
    begin -d 0.3 "$(at full)" 60
    [[ $(python3 targets.py end "$port") == 'ConnectionResetError 0' ]] || fail 'a full target'
    kill "$pid"
    finish
    sum 1 0 0 0 0 1
    grep -q ': no target: Connection timed out$' out || fail 'a full target'

    # One at a time: the next one is served when the first has gone.
    begin -n 1 "$(at echo)" 60
    exec {first}<>"/dev/tcp/127.0.0.1/$port"
    echo one >&"$first"
    read -r -u "$first" answer
    exec {next}<>"/dev/tcp/127.0.0.1/$port"
    echo two >&"$next"
    if read -r -t 0.1 -u "$next" answer; then
        fail 'two at once'
    fi
    exec {first}<&-
    read -r -u "$next" answer
    [[ $answer == two ]] || fail "the next one: $answer"

    # A signal: nobody comes in any more; who is inside may finish.
    kill -INT "$pid"
    until_line '^signal 2$'
    echo three >&"$next"
    read -r -u "$next" answer
    [[ $answer == three ]] || fail "behind a signal: $answer"
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        fail 'somebody came in behind the signal'
    fi
    exec {next}<&-
    finish
    sum 2 2 0 0 0 0

    # Two signals, or the end of the grace: whoever is inside is cut off.
    for grace in 1000000 0.1; do
        begin -g $grace "$(at echo)" 1000000
        exec {first}<>"/dev/tcp/127.0.0.1/$port"
        echo one >&"$first"
        read -r -u "$first" answer
        kill -TERM "$pid"
        until_line '^signal 15$'
        [[ $grace != 1000000 ]] || kill -INT "$pid"
        finish
        exec {first}<&-
        sum 1 0 0 0 1 0
        if [[ $grace == 1000000 ]]; then
            grep -q '^signal 2: at once$' out || fail 'the second signal'
        else
            grep -q '^the grace is over$' out || fail 'the grace'
        fi
    done
done
unset ROUTINES_WORKERS

wait "$dripping" || fail 'the slow one'
[[ $(cat drip.end) == 'end 16' ]] || fail "the slow one: $(cat drip.end drip.out)"

# Fewer descriptors than clients: some are refused, the others are served, and afterwards all is as before.
(
    ulimit -n 24
    begin -g 0 "$(at echo)" 60
    echo "$pid $port" >proxy
)
read -r pid port <proxy
outside=()
for ((i = 0; i < 40; i++)); do
    exec {one}<>"/dev/tcp/127.0.0.1/$port"
    outside+=("$one")
done
until_line '^busy: \|Too many open files$'
for one in "${outside[@]}"; do
    exec {one}<&-
done
until [[ $(python3 targets.py echo "$port" 1 100000 2>/dev/null) == 'good 1' ]]; do
    kill -0 "$pid" || fail 'the end, for lack of descriptors'
    sleep 0.1
done
kill "$pid"
until_line '^bytes: '
pid=''
