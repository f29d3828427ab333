# SPDX-License-Identifier: MIT
#
# What the questions ask: their figures, how they are called and in what units they are shown, the rows of the summary,
# and who the contenders are.
import re
from typing import NamedTuple


class Figure(NamedTuple):
    name: str  # as in the results
    what: str
    unit: str
    divisor: float = 1  # shown: value / divisor
    per_second: bool = False  # shown: 1e9 / value / divisor, the value being ns

    def shown(self, value):
        return (1e9 / value if self.per_second else value) / self.divisor


NS = [Figure("ns_per_op", "time", "ns")]
MEMORY = [
    Figure("bytes_each", "resident bytes of each", "B"),
    Figure("page_table_bytes_each", "page tables of each", "B"),
    Figure("ns_per_op", "creating each", "ns"),
    Figure("end_us_each", "ending and joining each", "µs"),
]
REQUESTS = [
    Figure("ns_per_op", "requests", "1000/s", 1000, True),
    Figure("cpu_ns", "the server's CPU time for a request", "µs", 1000),
    Figure("p50_us", "the median latency", "µs"),
    Figure("p99_us", "the latency of the worst hundredth", "µs"),
]


def ns(what):
    return [Figure("ns_per_op", what, "ns")]


# question: its figures. Those that are not here are plain times.
FIGURES = {
    "yield": ns("a yield"),
    "go_join": ns("a pair"),
    "thousand": [Figure("ns_per_op", "a thousand", "µs", 1000)],
    "fib": ns("a routine"),
    "skynet": [
        Figure("ns_per_op", "the tree", "ms", 1e6),
        Figure("peak_bytes", "more resident memory at the worst moment", "MB", 1e6),
    ],
    "ping_pong": ns("a round trip"),
    "buffered": ns("a message"),
    "buffered_4_4": ns("a message"),
    "select": ns("a message"),
    "memory_parked": MEMORY,
    "memory_unstarted": MEMORY,
    "sleepers": [
        Figure("ns_per_op", "CPU time of each", "ns"),
        Figure("wall_s", "wall clock time of all", "s"),
        Figure("late_us", "the worst lateness", "µs"),
        Figure("late_mean_us", "the mean lateness", "µs"),
    ],
    "mutex": ns("lock, add, unlock"),
    "tcp_echo": REQUESTS,
    "http_hello": REQUESTS,
    "sort": [Figure("ns_per_op", "the sort", "ms", 1e6)],
    "tree": ns("a node"),
    "tree_fine": ns("a node"),
    "idle_connections": [
        Figure("bytes_each", "resident bytes of each in the server", "B"),
        Figure("page_table_bytes_each", "page tables of each", "B"),
    ],
    **{f"select_ready_{n}": ns("a select and a send") for n in (1, 4, 16, 64, 256)},
    "mutex_uncontended": ns("lock, add, unlock"),
    "sem": ns("wait and post"),
    "rwlock_read": ns("lock and unlock"),
    "rwlock_write": ns("lock and unlock"),
    "waitgroup": ns("add and done"),
    "once": ns("a call after the first"),
    **{f"timer_{n}": ns("set and stop") for n in ("0", "1000", "million")},
    "limit": ns("entering and leaving"),
    "limit_recv": ns("a receive"),
    "limit_wait": ns("a round trip"),
    "shield": ns("entering and leaving"),
    "defer": ns("entering, leaving and the call"),
    **{f"scope_{n}": ns("a child") for n in (1, 10, 1000)},
    "cancel": ns("cancel and join"),
    "cancel_scope": ns("a child"),
}

# All that a contender's results can contain beside those.
OTHERS = {"cpus", "switched", "routines", "count", "unstarted", "requests_per_s", "leaves"}


class Row(NamedTuple):
    title: str
    question: str
    figure: Figure
    limit: str = ""  # the contender that is the limit, ...
    limit_is: float = 0  # ... or what it is


def row(title, question, at=0, **limit):
    return Row(title, question, FIGURES[question][at], **limit)


# The summary.
SUMMARY = [
    row("yield", "yield", limit="limit-switch"),
    row("go + join", "go_join", limit="limit-cas"),
    row("1000 go, then 1000 join", "thousand"),
    row("fib: a routine for each call", "fib", limit="limit-serial"),
    row("skynet: a million leaves, channels", "skynet"),
    row("skynet: peak memory", "skynet", 1),
    row("ping-pong, two rendezvous channels", "ping_pong", limit="limit-switches"),
    row("buffered channel, 1 → 1", "buffered"),
    row("buffered channel, 4 → 4", "buffered_4_4"),
    row("select over four channels", "select"),
    row("a parked routine: memory", "memory_parked", limit_is=4096),
    row("a parked routine: to create it", "memory_parked", 2),
    row("an unstarted routine: memory", "memory_unstarted"),
    row("an unstarted routine: to create it", "memory_unstarted", 2),
    row("100,000 sleepers: CPU time of each", "sleepers"),
    row("a mutex that a thousand want", "mutex", limit="limit-cas"),
    row("TCP echo: requests", "tcp_echo", limit="limit-epoll"),
    row("TCP echo: CPU for a request", "tcp_echo", 1, limit="limit-epoll"),
    row("HTTP hello: requests", "http_hello", limit="limit-epoll"),
    row("HTTP hello: CPU for a request", "http_hello", 1, limit="limit-epoll"),
    row("an idle connection: memory", "idle_connections", limit="limit-epoll"),
    row("mergesort of 20 million numbers", "sort", limit="limit-serial"),
    row("search in an unbalanced tree", "tree", limit="limit-serial"),
    row("the same, nodes that cost nothing", "tree_fine", limit="limit-serial"),
]

# Those whose times with several numbers of workers are set side by side.
SCALING = ["fib", "skynet", "sort", "tree", "tree_fine", "mutex", "buffered_4_4", "tcp_echo"]

PEERS = {
    "go": "Go",
    "tokio": "tokio",
    "boost": "Boost.Fiber",
    "tbb": "oneTBB",
    "openmp": "OpenMP",
    "pthread": "threads",
    "posix": "POSIX",
}


class Contender(NamedTuple):
    kind: str  # routines, limit, peer
    who: str  # of a peer: a key of PEERS, or whatever it is called
    variant: str  # "": the plain one

    @property
    def name(self):
        """For people."""
        if self.kind == "limit":
            return f"limit: {self.variant}"
        who = PEERS.get(self.who, self.who) if self.kind == "peer" else "routines"
        return f"{who} ({self.variant})" if self.variant else who


def contender(text):
    kind, _, rest = text.partition("-")
    if kind not in ("limit", "peer"):
        return Contender("routines", "", rest)
    if kind == "limit":
        return Contender("limit", "", rest)
    for who in sorted(PEERS, key=len, reverse=True):
        if rest == who or rest.startswith(who + "-"):
            return Contender("peer", who, rest[len(who) + 1 :])
    who, _, variant = rest.partition("-")
    return Contender("peer", who, variant)


def note(key, counters, ours):
    """What has to be said beside a contender's figures, or "". counters, ours: its counters, those of ours."""
    if "leaves" in counters and counters["leaves"] < ours.get("leaves", 0):
        return f"{counters['leaves']:,.0f} leaves, scaled"
    if "count" in counters and counters["count"] < ours.get("count", 0):
        return f"of {counters['count']:,.0f}"
    return "run at once, as calls" if is_call(key) else ""


def is_call(key):
    """gcc's OpenMP runs a task at once, as a call, when it has one thread: that is nobody's scheduler."""
    return key.who.who == "openmp" and key.workers == 1


def ranked(key):
    """Whether it can be the best peer: code without tasks can't."""
    return key.who.kind == "peer" and key.who.variant != "serial" and not is_call(key)


def growth(question):
    """(what grows, how many) of growth_<what>_<how many>; None for other questions."""
    match = re.fullmatch(r"growth_(.+)_(\d+)", question)
    if match:
        return match[1], int(match[2])
    return None


GROWTH = {"memory": MEMORY[:3], "spawn": ns("to start, to wake and to join each"), "yield": ns("a yield")}


def figures(question):
    if growth(question):
        return GROWTH.get(growth(question)[0], NS)
    return FIGURES.get(question, NS)


def number(value):
    """Three figures or so."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    if abs(value) >= 0.095 or value == 0:
        return f"{value:.2f}"
    return f"{value:.3f}" if abs(value) >= 0.0095 else f"{value:.1g}" if abs(value) >= 0.0005 else "0.000"
