#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# The benchmarks with a server and a client, each a process of its own, in the words of the peers:
#
#     servers.py --list           the names of those whose programs are there
#     servers.py NAME WORKERS     runs one, prints it as a line of JSON
#
# ROUTINES_BENCH_PROGRAMS: where the programs are (default: build/bench, as scripts/bench builds them).
# ROUTINES_BENCH_SECONDS (0.5): a sixth of how long to measure. ROUTINES_BENCH_MILLION (1000000): a hundred times the
# idle connections. ROUTINES_BENCH_SERVER_CPUS, ROUTINES_BENCH_CLIENT_CPUS: lists for taskset (default: as this process).
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

root = pathlib.Path(__file__).resolve().parents[2]
programs = pathlib.Path(os.environ.get("ROUTINES_BENCH_PROGRAMS", root / "build" / "bench"))
seconds = 6 * float(os.environ.get("ROUTINES_BENCH_SECONDS", "0.5"))
CONNECTIONS = 64

# contender: program and arguments; {} are what to serve, and the number of workers
SERVERS = {
    "routines": ["bench/bench_server_routines", "{what}", "0", "{workers}"],
    "routines-recv": ["bench/bench_server_routines", "{what}", "0", "{workers}", "recv"],
    "limit-epoll": ["bench/bench_server_epoll", "{what}", "0", "{workers}"],
    "peer-tokio": ["tokio/release/peer-tokio", "{what}", "0", "{workers}"],
    "peer-tokio-multi": ["tokio/release/peer-tokio", "{what}", "0", "{workers}", "multi"],
    "peer-go": ["peer-go-net", "{what}", "0", "{workers}"],
}
USUAL = ["routines", "limit-epoll", "peer-tokio", "peer-tokio-multi", "peer-go"]
BENCHMARKS = {
    "tcp_echo": {name: SERVERS[name] for name in ["routines-recv", *USUAL]},
    "http_hello": {
        **{name: SERVERS[name] for name in USUAL},
        "routines-server": ["examples/http_server", "127.0.0.1:0"],
        "peer-go-server": ["peer-go-net", "nethttp", "0", "{workers}"],
    },
    "idle_connections": {name: SERVERS[name] for name in USUAL},
}


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(1)


def pinned(cpus, command):
    return ["taskset", "-c", cpus, *command] if cpus and shutil.which("taskset") else command


def start(question, contender, workers):
    """The server's process, and its port: the first line that it prints is that number, or has an address."""
    what = "http" if question == "http_hello" else "echo"
    program, *arguments = BENCHMARKS[question][contender]
    command = [str(programs / program), *(a.format(what=what, workers=workers) for a in arguments)]
    command = pinned(os.environ.get("ROUTINES_BENCH_SERVER_CPUS"), command)
    environment = dict(os.environ, ROUTINES_WORKERS=str(workers))
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    port = re.search(r"(?:^|:)(\d+)\b", server.stdout.readline())
    if not port:
        server.kill()
        fail(f"{command[0]} does not say its port")
    return server, port[1]


def client(*arguments):
    command = pinned(os.environ.get("ROUTINES_BENCH_CLIENT_CPUS"), [*map(str, arguments)])
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=250)
    if run.returncode != 0:
        fail(f"{arguments[0]} failed")
    return run.stdout


def own_client(what, port, pid, *more):
    return json.loads(client(programs / "bench" / "bench_client", what, port, "-p", pid, *more))


def cpu_of(pid):
    """CPU seconds of another process, to the nanosecond: the clock that clock_getcpuclockid(3) gives."""
    return time.clock_gettime((~pid << 3) | 2)


def wrk(port, pid):
    def run(how_long):
        return client("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{how_long}", "--latency", f"http://127.0.0.1:{port}/")

    run("1s")  # warming up
    before, begun = cpu_of(pid), time.monotonic()
    said = run(f"{max(1, round(seconds))}s")
    cpu, wall = cpu_of(pid) - before, time.monotonic() - begun
    if "Socket errors" in said or "Non-2xx" in said:
        fail("wrk met errors")
    requests = int(re.search(r"(\d+) requests in", said)[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])
    figures = {"ns_per_op": 1e9 / rate, "requests_per_s": rate, "cpu_ns": cpu * 1e9 / requests, "cpus": cpu / wall}
    for part in ("50", "99"):
        value, unit = re.search(rf"\s{part}%\s+([\d.]+)(us|ms|s)", said).groups()
        figures[f"p{part}_us"] = float(value) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]
    return figures


def measure(question, port, pid):
    if question == "idle_connections":
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100
        return own_client("idle", port, pid, "-c", min(most, int(os.environ.get("ROUTINES_BENCH_MILLION", 10**6)) // 100))
    if question == "http_hello" and shutil.which("wrk"):
        return wrk(port, pid)
    what = "http" if question == "http_hello" else "echo"
    return own_client(what, port, pid, "-c", CONNECTIONS, "-s", seconds, "-w", min(0.5, seconds))


def main():
    if sys.argv[1:] == ["--list"]:
        for question, contenders in BENCHMARKS.items():
            for contender, (program, *_) in contenders.items():
                if (programs / program).exists():
                    print(f"{question}/{contender}")
        return
    if len(sys.argv) != 3 or sys.argv[1].count("/") != 1:
        fail("usage: servers.py --list | servers.py NAME WORKERS")
    question, contender = sys.argv[1].split("/")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, lambda *_: fail("told to end"))  # that is an exception: the server ends too
    server, port = start(question, contender, sys.argv[2])
    try:
        figures = measure(question, port, server.pid)
        if server.poll() is not None:
            fail("the server has ended")
    finally:
        server.kill()
        server.wait()
    value = figures.pop("ns_per_op", figures.get("bytes_each"))
    print(json.dumps({"name": sys.argv[1], "workers": int(sys.argv[2]), "value": value, "unit": "ns", "counters": figures}))


if __name__ == "__main__":
    main()
