# SPDX-License-Identifier: MIT
#
# The charts, as SVG. The same results give the same files: no dates, no random names in them.
import io
import statistics
from typing import NamedTuple

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update(
    {
        "svg.hashsalt": "routines",
        "svg.fonttype": "none",
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#555555",
        "axes.axisbelow": True,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
    }
)

from matplotlib import pyplot, ticker  # noqa: E402 (after use)

from figures import PEERS, SCALING, SUMMARY, figures, number, ranked  # noqa: E402
from results import ratio  # noqa: E402

# who: colour and marker. The colours are Okabe's and Ito's, which all eyes can tell apart; the markers say it once more.
LOOK = {
    "": ("#000000", "o"),  # ours
    "go": ("#0072b2", "s"),
    "tokio": ("#e69f00", "D"),
    "boost": ("#009e73", "^"),
    "tbb": ("#cc79a7", "v"),
    "openmp": ("#56b4e9", "P"),
    "pthread": ("#d55e00", "X"),
    "limit": ("#999999", "_"),
}
OTHER = ("#f0e442", "*")


def look(key):
    colour, marker = LOOK.get("limit" if key.who.kind == "limit" else key.who.who, OTHER)
    return {"color": colour, "marker": marker}


def save(figure, path):
    svg = io.StringIO()
    figure.savefig(svg, format="svg", bbox_inches="tight", pad_inches=0.15, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    # texts stay texts; who has not this font takes one as wide
    text = svg.getvalue().replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", encoding="utf-8")


def grid(axes, which):
    axes.grid(True, axis=which, color="#dddddd", linewidth=0.6)


def plain_numbers(axis):
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def best_ways(results, question, figure, workers, wanted=ranked):
    """{who: (key, values)}: the best of each peer's ways of doing it."""
    found = {}
    for key in results.keys(question, figure.name):
        if not wanted(key) or key.workers not in (0, workers) or results.beside(key, figure.name) != "routines":
            continue
        values = results.figures[key][figure.name]
        if key.who.who not in found or statistics.median(values.values()) < statistics.median(
            found[key.who.who][1].values()
        ):
            found[key.who.who] = (key, values)
    return found


def legend(figure, peers, **more):
    """One line for each that is in the charts, ours first."""
    handles = [
        pyplot.Line2D([], [], linestyle=more.get("line", "none"), color=LOOK[who][0], marker=LOOK[who][1], markersize=6)
        for who in peers
    ]
    names = ["routines" if who == "" else "limit" if who == "limit" else PEERS[who] for who in peers]
    figure.legend(handles, names, loc="upper center", ncol=len(peers), frameon=False, bbox_to_anchor=(0.5, more["at"]))


# ---- all of the summary ----


MOST = 1000  # times: what is farther off stands at the edge


def overview(results, path):
    columns = results.ends()
    rows = [
        row for row in SUMMARY if any(best_ways(results, row.question, row.figure, workers) for workers in columns)
    ]
    if not rows:
        return None
    points = {workers: {} for workers in columns}  # {workers: {who: [(x, y)]}}
    far = {workers: [] for workers in columns}  # {workers: [(y, how far)]}
    for workers in columns:
        for at, row in enumerate(rows):
            ours = results.get(row.question, "routines", workers, row.figure.name)
            for who, (_, values) in best_ways(results, row.question, row.figure, workers).items():
                times = ratio(values, ours)
                if times:
                    # each in a lane of its own, so that none hides another
                    lane = at + 0.09 * (list(LOOK).index(who) - 3.5) if who in LOOK else at
                    points[workers].setdefault(who, []).append((min(times, MOST), lane))
                    if times > MOST:
                        far[workers].append((lane, times))
    there = {who for of in points.values() for who in of}
    least = min(0.5, min(x for of in points.values() for found in of.values() for x, _ in found) / 1.6)

    figure, panels = pyplot.subplots(
        1, len(columns), figsize=(4.6 * len(columns) + 1, 0.3 * len(rows) + 1.2), sharey=True, squeeze=False
    )
    for axes, workers in zip(panels[0], columns):
        for at in range(0, len(rows), 2):
            axes.axhspan(at - 0.5, at + 0.5, color="#f2f2f2", linewidth=0, zorder=-2)
        axes.axvspan(least, 1, color="#e8b88a", alpha=0.35, linewidth=0, zorder=-1)
        axes.axvline(1, color=LOOK[""][0], linewidth=1.4)
        for who, found in points[workers].items():
            colour, marker = LOOK.get(who, OTHER)
            axes.plot(*zip(*found), linestyle="none", markersize=6.5, markeredgecolor="white", markeredgewidth=0.5,
                      color=colour, marker=marker, clip_on=False)
        for at, times in far[workers]:
            axes.annotate(f"→ {times:,.0f}", (MOST, at), xytext=(7, 0), textcoords="offset points", va="center",
                          fontsize=7, annotation_clip=False)
        axes.set_xscale("log")
        axes.set_xlim(least, MOST)
        axes.set_title("one worker" if workers == 1 else f"{workers} workers", fontsize=10)
        axes.set_xlabel("times as much time, memory or CPU as routines")
        axes.annotate("peer ahead", (0.97, -0.6), ha="right", va="bottom", fontsize=7.5, annotation_clip=False)
        axes.annotate("routines ahead", (1.04, -0.6), ha="left", va="bottom", fontsize=7.5, annotation_clip=False)
        axes.xaxis.set_major_locator(ticker.LogLocator(10, numticks=12))
        plain_numbers(axes.xaxis)
        axes.tick_params(axis="y", length=0)
        grid(axes, "x")
    panels[0][0].set_yticks(range(len(rows)), [row.title for row in rows])
    panels[0][0].set_ylim(len(rows) - 0.5, -0.5)
    for axes in panels[0]:
        axes.set_title(axes.get_title(), fontsize=10, pad=14)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / figure.get_figheight()))
    legend(figure, [who for who in LOOK if who in there], at=1.0)
    save(figure, path)
    return (
        "Each peer's time, memory or CPU for the same work, as a multiple of what routines need; in the shade, to the "
        "left of the line, the peer is ahead"
    )


# ---- lines ----


class Panel(NamedTuple):
    title: str
    x: str
    y: str
    curves: dict  # {Key: {x: y}}
    base: int  # of the logarithms of x


def lines(panels, path):
    columns = min(4, len(panels)) if len(panels) != 5 else 3
    rows = (len(panels) + columns - 1) // columns
    figure, places = pyplot.subplots(rows, columns, figsize=(3.3 * columns, 2.7 * rows + 0.4), squeeze=False)
    there = set()
    flat = [axes for line in places for axes in line]
    for axes, panel in zip(flat, panels):
        values = [y for points in panel.curves.values() for y in points.values()]
        for key, points in panel.curves.items():
            xs = sorted(points)
            thick = key.who.kind == "routines"
            axes.plot(xs, [points[x] for x in xs], markersize=6, linewidth=2 if thick else 1.2, zorder=3 if thick else 2,
                      markeredgecolor="white", markeredgewidth=0.5, clip_on=False, **look(key))
            there.add(key.who.who)
        axes.set_title(panel.title, fontsize=9.5)
        axes.set_xlabel(panel.x)
        axes.set_ylabel(panel.y)
        axes.set_xscale("log", base=panel.base)
        axes.xaxis.set_major_locator(ticker.FixedLocator(sorted({x for points in panel.curves.values() for x in points})))
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        if min(values) > 0 and max(values) > 12 * min(values):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(ticker.LogLocator(10, subs=(1, 2, 5), numticks=12))
            axes.yaxis.set_minor_locator(ticker.NullLocator())
        else:
            axes.set_ylim(0, max(values) * 1.08)
        plain_numbers(axes.xaxis)
        plain_numbers(axes.yaxis)
        grid(axes, "y")
    for axes in flat[len(panels) :]:
        axes.set_visible(False)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / figure.get_figheight()))
    legend(figure, [who for who in LOOK if who in there], at=1.0, line="-")
    save(figure, path)


def scaling(results, path):
    panels = []
    if len(results.workers()) < 2:
        return None
    for question in SCALING:
        figure = figures(question)[0]
        curves = {}
        for workers in results.workers(question):
            for key in results.keys(question, figure.name):
                if key.contender == "routines" and key.workers == workers:
                    curves.setdefault(key._replace(workers=0), {})[workers] = figure.shown(
                        statistics.median(results.figures[key][figure.name].values())
                    )
            for key, values in best_ways(results, question, figure, workers).values():
                if key.workers:
                    at = next((k for k in curves if k.who.who == key.who.who), key._replace(workers=0))
                    curves.setdefault(at, {})[workers] = figure.shown(statistics.median(values.values()))
        curves = {key: points for key, points in curves.items() if len(points) > 1 or key.who.who == "openmp"}
        if curves:
            title = next(row.title for row in SUMMARY if row.question == question)
            y = f"{figure.what}, {figure.unit}" + (" (more is better)" if figure.per_second else "")
            panels.append(Panel(title, "workers", y, curves, 2))
    if not panels:
        return None
    lines(panels, path)
    return "The figures with more workers, of routines and of the best way of each peer"


def growing(results, path):
    panels = []
    for what, sizes in results.grown().items():
        for figure in figures(sizes[max(sizes)]):
            curves = {}
            for size, question in sizes.items():
                for key in results.keys(question, figure.name):
                    if key.workers <= 1 and not key.who.variant:
                        values = results.figures[key][figure.name].values()
                        curves.setdefault(key._replace(question=""), {})[size] = figure.shown(statistics.median(values))
            if curves and figure in figures(sizes[min(sizes)]) and not figure.name.startswith("page_table"):
                panels.append(Panel(f"{what}: {figure.what}", "how many there are", figure.unit, curves, 10))
    if not panels:
        return None
    lines(panels, path)
    return "What one of N routines costs, N from a thousand to a million, with one worker"


# ---- bars ----


def bars(axes, entries, label):
    """entries: [(name, colour, [parts])], from top to bottom; parts after the first are lighter."""
    for at, (_, colour, parts) in enumerate(entries):
        begin = 0
        for alpha, part in zip((1, 0.45), parts):
            axes.barh(at, part, left=begin, color=colour, alpha=alpha, height=0.68)
            begin += part
        axes.annotate(number(begin), (begin, at), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(entries)), [name for name, _, _ in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.set_xlim(0, 1.14 * max(sum(parts) for _, _, parts in entries))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6))
    plain_numbers(axes.xaxis)
    axes.set_xlabel(label)
    axes.tick_params(axis="y", length=0)
    grid(axes, "x")


def plain(key):
    return ranked(key) or key.who.kind == "limit" or key.contender == "routines"


def memory(results, path):
    panels = []
    for question, title in (
        ("memory_parked", "a parked routine, goroutine, task, fiber or thread"),
        ("idle_connections", "an idle connection in a server"),
    ):
        entries = []
        for key in results.keys(question, "bytes_each"):
            if key.workers <= 1 and plain(key):
                resident = results.median(question, key.contender, key.workers, "bytes_each")
                tables = results.median(question, key.contender, key.workers, "page_table_bytes_each") or 0
                said = results.note(key)
                entries.append((key.who.name + (f" ({said})" if said else ""), look(key)["color"], [resident, tables]))
        unstarted = results.median("memory_unstarted", "routines", 1, "bytes_each")
        if entries and question == "memory_parked" and unstarted:
            tables = results.median("memory_unstarted", "routines", 1, "page_table_bytes_each") or 0
            entries.insert(1, ("routines, not yet started", LOOK[""][0], [unstarted, tables]))
        if entries:
            panels.append((title, entries))
    if not panels:
        return None
    heights = [len(entries) + 1.2 for _, entries in panels]
    figure, places = pyplot.subplots(
        len(panels), 1, figsize=(8, 0.27 * sum(heights) + 0.9), gridspec_kw={"height_ratios": heights}, squeeze=False
    )
    for (axes,), (title, entries) in zip(places, panels):
        bars(axes, entries, "bytes each: resident, and lighter the page tables")
        axes.set_title(title, fontsize=10, loc="left")
    figure.tight_layout()
    save(figure, path)
    return "Bytes of memory for each parked routine, and for each idle connection"


def network(results, path):
    questions = [q for q in ("tcp_echo", "http_hello") if results.keys(q)]
    if not questions:
        return None
    drawn = []
    for question in questions:
        for at, what in ((0, "1000 requests a second"), (1, "µs of the server's CPU time for a request")):
            figure = figures(question)[at]
            entries = []
            for workers in results.ends(question):
                for key in results.keys(question, figure.name):
                    if key.workers == workers and plain(key):
                        shown = figure.shown(statistics.median(results.figures[key][figure.name].values()))
                        entries.append((f"{key.who.name}, w{workers}", look(key)["color"], [shown]))
            drawn.append((question, what, entries))
    rows = max(len(entries) for _, _, entries in drawn)
    figure, places = pyplot.subplots(
        len(questions), 2, figsize=(10.5, len(questions) * (0.25 * rows + 0.9)), squeeze=False
    )
    for axes, (question, what, entries) in zip([a for line in places for a in line], drawn):
        bars(axes, entries, what)
        axes.set_title({"tcp_echo": "TCP echo", "http_hello": "HTTP hello"}[question], fontsize=10, loc="left")
    figure.tight_layout()
    save(figure, path)
    return "Requests per second and CPU time for a request, 64 connections; server and client share the CPUs"


def draw(results, directory):
    """Writes the charts that these results allow; returns {name: what it shows}."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for name, make in (
        ("overview", overview),
        ("scaling", scaling),
        ("growth", growing),
        ("memory", memory),
        ("network", network),
    ):
        path = directory / f"{name}.svg"
        said = make(results, path)
        if said:
            drawn[name] = said
        else:
            path.unlink(missing_ok=True)
    return drawn
