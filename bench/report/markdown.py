# SPDX-License-Identifier: MIT
#
# RESULTS.md: the machine, where somebody else is ahead, a summary, a section for each question.
import statistics
from typing import NamedTuple, Optional

from figures import SCALING, SUMMARY, Figure, contender, figures, growth, number
from results import ratio, ratios, spread


def table(head, rows, right=()):
    """Lines of a table; the columns whose numbers are in `right` are numbers."""
    line = ["--:" if at in right else "---" for at in range(len(head))]
    return ["| " + " | ".join(map(str, cells)) + " |" for cells in [head, line, *rows]] + [""]


def percent(by_round):
    return f"{spread(by_round):.0%}"


# ---- comparisons ----


class Pair(NamedTuple):
    """One of ours beside the best of the others."""

    question: str
    figure: Figure
    workers: int
    name: str  # of ours
    ours: dict  # {round: value}
    best: str  # the contender that is the best peer
    theirs: dict

    @property
    def ratio(self):
        return ratio(self.ours, self.theirs)

    @property
    def unsure(self):
        """In some rounds the one was ahead, in some the other."""
        each = ratios(self.ours, self.theirs)
        return each[0] < 1 < each[-1]


def rivals(results, question, workers, figure, name="routines"):
    """Peers that stand beside this one of ours; the code of others without any tasks is none."""
    for key in results.keys(question, figure.name):
        if key.who.kind == "peer" and key.who.variant != "serial" and key.workers in (0, workers):
            if results.beside(key, figure.name) == name:
                yield key


def best(results, question, workers, figure, name="routines") -> Optional[Pair]:
    ours = results.get(question, name, workers, figure.name)
    found = [
        Pair(question, figure, workers, name, ours, key.contender, results.figures[key][figure.name])
        for key in rivals(results, question, workers, figure, name)
    ]
    return max((p for p in found if p.ratio is not None), key=lambda p: p.ratio, default=None)


def limit(results, row, workers):
    """(what it is, {round: value}) of a row's limit; None if there is none for so many workers."""
    if row.limit_is:
        return number(row.figure.shown(row.limit_is)), {n: row.limit_is for n in range(1, results.rounds + 1)}
    if not row.limit:
        return None
    by_round = results.get(row.question, row.limit, workers, row.figure.name)
    if not by_round:
        # measured on a plain thread: code without tasks can at best be spread evenly, all else is for one worker
        by_round = results.get(row.question, row.limit, 0, row.figure.name)
        if workers > 1:
            by_round = {n: v / workers for n, v in by_round.items()} if row.limit == "limit-serial" else {}
    if not by_round:
        return None
    return number(row.figure.shown(statistics.median(by_round.values()))), by_round


def shown(figure, by_round):
    return number(figure.shown(statistics.median(by_round.values())))


def marked(value):
    """A ratio; in bold where somebody else is ahead."""
    if value is None:
        return "–"
    return f"**{number(value)}** ▲" if value > 1 else number(value)


# ---- parts of the report ----


def heading(results):
    run = results.run
    options = run.get("options", {})
    rounds = f"{results.rounds} alternating rounds" if results.rounds > 1 else "one round"
    lines = [
        "# Results",
        "",
        "<!-- Written by scripts/bench: changes by hand will be lost. -->",
        "",
        f"Written by `scripts/bench`, {run.get('date', 'undated')}: {rounds}, each benchmark in a process of its own, "
        f"{options.get('seconds', '?')} s each. What is asked, and how it is measured: [README.md](README.md).",
        "A figure is the median of the rounds; the spread is greatest less least, as a part of it. A ratio is the "
        "median of the ratios within the rounds, always ours to theirs in time, memory or CPU: below 1 the library "
        "is ahead. w1 has one worker, or thread, on one CPU.",
        "",
    ]
    if options.get("quick") == "yes":
        lines += ["**A quick run, with small sizes: it shows that everything works; don't compare by it.**", ""]
    if options.get("filter"):
        lines += [f"**A part only: what matches `{options['filter']}`.**", ""]
    if run.get("load", 0) >= 0.5:
        lines += [f"**The machine was not quiet: its load was {run['load']:.1f} when this began.**", ""]
    return lines


def environment(results):
    run = results.run
    rows = list(run.get("machine", {}).items())
    cas = results.get("go_join", "limit-cas", 0)
    if cas:
        rows.append(("a compare-and-swap that nobody contends for", f"{number(statistics.median(cas.values()))} ns"))
    switch = results.get("yield", "limit-switch", 0)
    if switch:
        rows.append(("a bare switch between two stacks", f"{number(statistics.median(switch.values()))} ns"))
    rows.append(("compiler", run.get("compiler", "?")))
    for name, version in {**run.get("peers", {}), **run.get("tools", {})}.items():
        rows.append((name, version or "as the system has it"))
    if run.get("options", {}).get("cpus"):
        rows.append(("CPUs used", run["options"]["cpus"]))
    rows += [(f"`{name}`", value) for name, value in run.get("environment", {}).items()]
    return ["## Measured on", "", *table(["", ""], rows)]


def pairs(results, rows):
    for question, figure in rows:
        for workers in results.workers(question):
            found = best(results, question, workers, figure)
            if found:
                yield found


def title(question, figure):
    for row in SUMMARY:
        if (row.question, row.figure) == (question, figure):
            return row.title
    return f"`{question}`, {figure.what}"


def ahead(results):
    """Where somebody else is."""
    summary = {(row.question, row.figure): None for row in SUMMARY}
    further = {(q, f): None for q in results.questions() for f in figures(q) if not f.name.startswith("p")}

    def listed(rows):
        return [
            f"- {title(p.question, p.figure)}, w{p.workers}: {contender(p.best).name} {shown(p.figure, p.theirs)} "
            f"{p.figure.unit}, routines {shown(p.figure, p.ours)}: ours / theirs {number(p.ratio)}"
            + (", though not in every round" if p.unsure else "")
            for p in pairs(results, rows)
            if p.ratio > 1
        ]

    lines = ["## Where somebody else is ahead", ""]
    of_summary = listed(summary)
    lines += of_summary or ["Nobody is, in any row of the summary."]
    others = listed(row for row in further if row not in summary)
    if others:
        lines += ["", "And in questions, or figures, that are not in the summary:", "", *others]
    return lines + [""]


def failures(results):
    if not results.errors:
        return []
    return [
        "## What failed",
        "",
        *(
            f"- `{key.question}/{key.contender}`" + (f", w{key.workers}" if key.workers else "") + f": {error}"
            for key, error in sorted(results.errors.items())
        ),
        "",
    ]


def summary(results):
    rows = []
    for row in SUMMARY:
        for workers in results.workers(row.question):
            ours = results.get(row.question, "routines", workers, row.figure.name)
            if not ours:
                continue
            found = best(results, row.question, workers, row.figure)
            bound = limit(results, row, workers)
            rows.append(
                [
                    f"[{row.title}](#{row.question})",
                    row.figure.unit,
                    f"w{workers}",
                    shown(row.figure, ours),
                    percent(ours),
                    f"{contender(found.best).name} {shown(row.figure, found.theirs)}" if found else "–",
                    marked(found.ratio) if found else "–",
                    bound[0] if bound else "–",
                    number(ratio(ours, bound[1])) if bound and ratio(ours, bound[1]) else "–",
                ]
            )
    if not rows:
        return []
    head = ["question", "unit", "", "routines", "spread", "best peer", "ours / it", "limit", "ours / limit"]
    return [
        "## Summary",
        "",
        "▲: somebody else is ahead. The limit is what no library can beat, such as the bare switch or the bare epoll "
        "loop; of code without tasks the time divided by the number of workers. What each is: "
        "[README.md](README.md). Rates are compared by their times.",
        "",
        *table(head, rows, range(3, 9)),
    ]


def sections(results):
    lines = ["## Every question", ""]
    for question in results.questions():
        if growth(question):
            continue
        lines += [f"### {question}", ""]
        for figure in figures(question):
            rows = []
            for key in results.keys(question, figure.name):
                by_round = results.figures[key][figure.name]
                cpus = results.figures[key].get("cpus")
                beside = "–"
                if key.who.kind != "routines":
                    name = results.beside(key, figure.name)
                    each = []
                    for workers in [key.workers] if key.workers else results.workers(question):
                        it = ratio(results.get(question, name, workers, figure.name), by_round)
                        if it is not None:
                            text = marked(it) if key.who.kind == "peer" else number(it)
                            each.append(text + ("" if key.workers else f" (w{workers})"))
                    beside = ", ".join(each) or "–"
                rows.append(
                    [
                        key.who.name + (f" [{results.labels[key]}]" if key in results.labels else ""),
                        f"w{key.workers}" if key.workers else "",
                        shown(figure, by_round),
                        percent(by_round),
                        f"{statistics.median(cpus.values()):.2f}" if cpus else "–",
                        beside,
                    ]
                )
            if rows:
                head = [f"{figure.what}, {figure.unit}", "", "median", "spread", "CPUs busy", "ours / it"]
                lines += table(head, rows, range(2, 6))
        failed = [key for key in results.errors if key.question == question and key not in results.figures]
        lines += [f"Failed: {key.who.name}" + (f", w{key.workers}." if key.workers else ".") + "\n" for key in failed]
    return lines


def scaling(results):
    counts = results.workers()
    if len(counts) < 2:
        return []
    lines = []
    for question in SCALING:
        figure = figures(question)[0]
        rows = []
        for name in dict.fromkeys(key.contender for key in results.keys(question, figure.name) if key.workers):
            one = results.get(question, name, 1, figure.name)
            if not one or len([w for w in counts if results.get(question, name, w, figure.name)]) < 2:
                continue
            cells = [contender(name).name, shown(figure, one)]
            for workers in counts[1:]:
                many = results.get(question, name, workers, figure.name)
                cells.append(f"{shown(figure, many)} ({number(ratio(one, many))})" if ratio(one, many) else "–")
            rows.append(cells)
        if rows:
            head = [f"{title(question, figure)}: {figure.what}, {figure.unit}", *(f"w{w}" for w in counts)]
            lines += table(head, rows, range(1, len(head)))
    if not lines:
        return []
    return ["## With more workers", "", "In brackets: how many times as fast as with one.", "", *lines]


def grown(results):
    """{what: [how many]}"""
    kinds = {}
    for question in results.questions():
        if growth(question):
            kinds.setdefault(growth(question)[0], []).append(growth(question)[1])
    return {what: sorted(sizes) for what, sizes in kinds.items()}


def growing(results):
    lines = []
    for what, sizes in grown(results).items():
        for figure in figures(f"growth_{what}_{sizes[0]}"):
            found = {}
            for size in sizes:
                for key in results.keys(f"growth_{what}_{size}", figure.name):
                    found.setdefault((order_of(key), key.contender, key.workers), {})[size] = results.figures[key][
                        figure.name
                    ]
            rows = [
                [contender(name).name, f"w{workers}" if workers else ""]
                + [shown(figure, of[size]) if size in of else "–" for size in sizes]
                for (_, name, workers), of in sorted(found.items())
            ]
            if rows:
                head = [f"{what}: {figure.what}, {figure.unit}", "", *(f"{size:,}" for size in sizes)]
                lines += table(head, rows, range(2, len(head)))
    return ["## With more routines", "", *lines] if lines else []


def order_of(key):
    return ["routines", "limit", "peer"].index(key.who.kind)


def picture(drawn, name):
    return [f"![{drawn[name]}](charts/{name}.svg)", ""] if name in drawn else []


def report(results, drawn):
    """The text. drawn: {chart: what it shows}"""
    scaled, grow = scaling(results), growing(results)
    lines = [
        *heading(results),
        *ahead(results),
        *failures(results),
        *summary(results),
        *picture(drawn, "overview"),
        *environment(results),
        *scaled,
        *picture(drawn, "scaling"),
        *grow,
        *picture(drawn, "growth"),
        *sections(results),
    ]
    memory = picture(drawn, "memory")
    network = picture(drawn, "network")
    if memory or network:
        at = lines.index("## Every question")
        lines[at:at] = ["## Memory and network", "", *memory, *network]
    return "\n".join(lines).rstrip() + "\n"
