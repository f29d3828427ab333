#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# Puts the rounds of scripts/bench together: medians and spreads, a table with ratios,
# and a JSON file. Usage: report.py RAW_DIRECTORY RESULTS.json
#
# RAW_DIRECTORY has a directory for each round (1, 2, ...), and in it a file for each benchmark:
# *.json as Google Benchmark writes it, *.jsonl as the peers do. Exits with 1 if a benchmark failed.
import json
import pathlib
import re
import statistics
import sys

# question: (figure, what it is, unit, divisor) for each block of the table
NS = [("ns_per_op", "time", "ns", 1)]
MEMORY = [
    ("bytes_each", "resident bytes of each", "B", 1),
    ("page_table_bytes_each", "page tables of each", "B", 1),
    ("ns_per_op", "creating each", "ns", 1),
    ("end_us_each", "ending and joining each", "us", 1),
]
REQUESTS = [
    ("ns_per_op", "a request", "us", 1000),
    ("cpu_ns", "the server's CPU time for a request", "us", 1000),
    ("p50_us", "the median latency", "us", 1),
    ("p99_us", "the latency of the worst hundredth", "us", 1),
]
SELECT_READY = [("ns_per_op", "a select and a send", "ns", 1)]
TIMER = [("ns_per_op", "set and stop", "ns", 1)]
SCOPE = [("ns_per_op", "a child", "ns", 1)]
FIGURES = {
    "yield": [("ns_per_op", "a yield", "ns", 1)],
    "go_join": [("ns_per_op", "a pair", "ns", 1)],
    "thousand": [("ns_per_op", "a thousand", "us", 1000)],
    "fib": [("ns_per_op", "a routine", "ns", 1)],
    "memory_parked": MEMORY,
    "memory_unstarted": MEMORY,
    "skynet": [
        ("ns_per_op", "the tree", "ms", 1e6),
        ("peak_bytes", "more resident memory at the worst moment", "MB", 1e6),
    ],
    "ping_pong": [("ns_per_op", "a round trip", "ns", 1)],
    "buffered": [("ns_per_op", "a message", "ns", 1)],
    "buffered_4_4": [("ns_per_op", "a message", "ns", 1)],
    "select": [("ns_per_op", "a message", "ns", 1)],
    "select_ready_1": SELECT_READY,
    "select_ready_4": SELECT_READY,
    "select_ready_16": SELECT_READY,
    "select_ready_64": SELECT_READY,
    "select_ready_256": SELECT_READY,
    "mutex": [("ns_per_op", "lock, add, unlock", "ns", 1)],
    "mutex_uncontended": [("ns_per_op", "lock, add, unlock", "ns", 1)],
    "sem": [("ns_per_op", "wait and post", "ns", 1)],
    "rwlock_read": [("ns_per_op", "lock and unlock", "ns", 1)],
    "rwlock_write": [("ns_per_op", "lock and unlock", "ns", 1)],
    "waitgroup": [("ns_per_op", "add and done", "ns", 1)],
    "once": [("ns_per_op", "a call after the first", "ns", 1)],
    "sleepers": [
        ("ns_per_op", "CPU time of each", "ns", 1),
        ("wall_s", "wall clock time of all", "s", 1),
        ("late_us", "the worst lateness", "us", 1),
        ("late_mean_us", "the mean lateness", "us", 1),
    ],
    "timer_0": TIMER,
    "timer_1000": TIMER,
    "timer_million": TIMER,
    "limit": [("ns_per_op", "entering and leaving", "ns", 1)],
    "limit_recv": [("ns_per_op", "a receive", "ns", 1)],
    "limit_wait": [("ns_per_op", "a round trip", "ns", 1)],
    "shield": [("ns_per_op", "entering and leaving", "ns", 1)],
    "defer": [("ns_per_op", "entering, leaving and the call", "ns", 1)],
    "scope_1": SCOPE,
    "scope_10": SCOPE,
    "scope_1000": SCOPE,
    "cancel": [("ns_per_op", "cancel and join", "ns", 1)],
    "cancel_scope": [("ns_per_op", "a child", "ns", 1)],
    "tcp_echo": REQUESTS,
    "http_hello": REQUESTS,
    "idle_connections": [
        ("bytes_each", "resident bytes of each in the server", "B", 1),
        ("page_table_bytes_each", "page tables of each", "B", 1),
    ],
}


def read(raw):
    """{(question, contender, workers): {figure: {round: value}}}, {key: labels}, context, errors"""
    figures, labels, errors, context = {}, {}, [], {}

    def add(key, number, name, value):
        figures.setdefault(key, {}).setdefault(name, {})[number] = value

    for path in sorted(raw.glob("*/*")):
        number = int(path.parent.name)
        said = path.with_suffix(".log")
        said = said.read_text().strip().splitlines()[-1:] if said.exists() else []
        if path.suffix in (".json", ".jsonl") and path.stat().st_size == 0:
            errors.append(f"{path.stem}: no results; {''.join(said) or 'it said nothing'}")
        elif path.suffix == ".jsonl":
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                question, contender = entry["name"].split("/")
                key = (question, contender, entry["workers"])
                add(key, number, "ns_per_op", entry["value"])
                for name, value in entry.get("counters", {}).items():
                    add(key, number, name, value)
        elif path.suffix == ".json":
            run = json.loads(path.read_text())
            context = {k: run["context"][k] for k in ("num_cpus", "mhz_per_cpu", "caches") if k in run["context"]}
            for entry in run["benchmarks"]:
                match = re.match(r"([^/]+)/([^/]+)(?:/w(\d+))?(?:/|$)", entry["name"])
                if entry.get("error_occurred"):
                    errors.append(f"{entry['name']}: {entry.get('error_message')}")
                    continue
                key = (match[1], match[2], int(match[3]) if match[3] else None)
                known = {"ns_per_op", "cpus", "switched", "routines", "count", "unstarted"}
                known.update(name for of_question in FIGURES.values() for name, *_ in of_question)
                for name in known & entry.keys():
                    add(key, number, name, entry[name])
                if entry.get("label"):
                    labels[key] = entry["label"]
    return figures, labels, context, errors


def number(value):
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def ratios(ours, others):
    """The median over the rounds that have both of ours / theirs; None where that means nothing."""
    both = [ours[r] / others[r] for r in ours.keys() & others.keys() if others[r] > 0]
    return statistics.median(both) if both else None


def order(key):
    kind = ["routines", "limit", "peer"].index(key[1].split("-")[0])
    return kind, key[1], key[2] or 0


def block(figures, labels, question, figure, what, unit, divisor):
    keys = sorted((k for k in figures if k[0] == question and figure in figures[k]), key=order)
    if not keys:
        return
    print(f"\n{question}: {what}, {unit}")
    print(f"  {'':24} {'workers':>7} {'median':>10} {'spread':>7} {'cpus':>5}   ours / it")
    ours = {}  # {contender: {workers: {round: value}}}
    for key in keys:
        if key[1].startswith("routines"):
            ours.setdefault(key[1], {})[key[2]] = figures[key][figure]
    for key in keys:
        values = [v / divisor for v in figures[key][figure].values()]
        median = statistics.median(values)
        spread = f"{(max(values) - min(values)) / median:.0%}" if median > 0 else "-"
        cpus = figures[key].get("cpus") if figure == "ns_per_op" else None
        used = f"{statistics.median(cpus.values()):.2f}" if cpus else "-"
        beside = []
        if not key[1].startswith("routines"):
            # peer-go-x beside routines-x, if there is one; everything else beside routines
            same = "routines-" + "".join(key[1].split("-", 2)[2:])
            it = ours.get(same, ours.get("routines", {}))
            for workers in sorted(it):
                if key[2] in (None, workers):
                    ratio = ratios(it[workers], figures[key][figure])
                    if ratio is not None:
                        beside.append(number(ratio) + (f" (w{workers})" if key[2] is None else ""))
        line = f"  {key[1]:24} {key[2] or '-':>7} {number(median):>10} {spread:>7} {used:>5}   {'  '.join(beside)}"
        print(line.rstrip() + (f"  [{labels[key]}]" if key in labels else ""))


def main():
    raw, results = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    figures, labels, context, errors = read(raw)
    questions = list(FIGURES) + sorted({k[0] for k in figures} - FIGURES.keys())
    for question in questions:
        for what in FIGURES.get(question, NS):
            block(figures, labels, question, *what)
    out = []
    for key in sorted(figures, key=lambda k: (questions.index(k[0]), order(k))):
        entry = {"question": key[0], "contender": key[1], "workers": key[2]}
        for name, by_round in sorted(figures[key].items()):
            values = list(by_round.values())
            entry[name] = {"median": statistics.median(values), "min": min(values), "max": max(values), "values": values}
        out.append(entry)
    results.write_text(json.dumps({"context": context, "benchmarks": out, "errors": errors}, indent=1) + "\n")
    for error in sorted(set(errors)):
        print(f"FAILED {error}", file=sys.stderr)
    return 1 if errors or not figures else 0


if __name__ == "__main__":
    sys.exit(main())
