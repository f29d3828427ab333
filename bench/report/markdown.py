# SPDX-License-Identifier: MIT
#
# RESULTS.md: the machine, where somebody else is ahead, a summary, a section for each question.
import statistics
from typing import NamedTuple, Optional

from figures import SCALING, SUMMARY, Figure, contender, figures, growth, is_call, number, ranked
from results import Key, order, ratio, ratios, spread


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
    ours: dict  # {round: value}
    peer: Key
    theirs: dict

    @property
    def ratio(self):
        return ratio(self.ours, self.theirs)

    @property
    def unsure(self):
        """In some rounds the one was ahead, in some the other."""
        each = ratios(self.ours, self.theirs)
        return each[0] < 1 < each[-1]


def rivals(results, question, workers, figure, wanted=ranked):
    """A pair for each peer that stands beside our plain contender, the best one first."""
    ours = results.get(question, "routines", workers, figure.name)
    found = [
        Pair(question, figure, workers, ours, key, results.figures[key][figure.name])
        for key in results.keys(question, figure.name)
        if wanted(key) and key.workers in (0, workers) and results.beside(key, figure.name) == "routines"
    ]
    return sorted((p for p in found if p.ratio is not None), key=lambda p: -p.ratio)


def best(results, question, workers, figure) -> Optional[Pair]:
    return next(iter(rivals(results, question, workers, figure)), None)


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
    if float(options.get("load", 0)) >= 0.5:
        lines += [f"**The machine was not quiet: its load was {options['load']} when this began.**", ""]
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


def title(question, figure):
    for row in SUMMARY:
        if (row.question, row.figure) == (question, figure):
            return row.title
    return f"`{question}`, {figure.what}"


def named(results, key):
    said = results.note(key)
    return key.who.name + (f" [{said}]" if said else "")


def listed(results, rows, wanted=ranked):
    """A line for each where somebody is ahead of us."""
    for question, figure in rows:
        for workers in results.ends(question):
            before = [p for p in rivals(results, question, workers, figure, wanted) if p.ratio > 1]
            if before:
                yield (
                    f"- {title(question, figure)}, {figure.unit}, w{workers}: routines {shown(figure, before[0].ours)}; "
                    + ", ".join(
                        f"{named(results, p.peer)} {shown(figure, p.theirs)} ({number(p.ratio)}"
                        + (", not in every round)" if p.unsure else ")")
                        for p in before
                    )
                )


def ahead(results):
    """Where somebody else is, in the rows of the summary."""
    rows = list(dict.fromkeys((row.question, row.figure) for row in SUMMARY))
    ranking, calls = list(listed(results, rows)), list(listed(results, rows, is_call))
    lines = ["## Where somebody else is ahead", ""]
    if ranking:
        lines += ["In brackets: our figure as a multiple of theirs.", "", *ranking]
    else:
        lines += ["Nobody is, in any row of the summary."]
    if calls:
        lines += ["", "Not ranked, since gcc's OpenMP makes calls of its tasks when it has one thread:", "", *calls]
    return lines + [""]


def ahead_elsewhere(results):
    rows = [(question, figure) for question in results.questions() for figure in figures(question)]
    of_summary = {(row.question, row.figure) for row in SUMMARY}
    found = list(listed(results, [row for row in rows if row not in of_summary]))
    if not found:
        return []
    return ["Questions and figures that are not in the summary, in which somebody else is ahead:", "", *found, ""]


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
        for workers in results.ends(row.question):
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
                    f"{named(results, found.peer)} {shown(row.figure, found.theirs)}" if found else "–",
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
                            text = marked(it) if ranked(key) else number(it)
                            each.append(text + ("" if key.workers else f" (w{workers})"))
                    beside = ", ".join(each) or "–"
                rows.append(
                    [
                        named(results, key),
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
            head = [f"{title(question, figure)}, {figure.unit}", *(f"w{w}" for w in counts)]
            lines += table(head, rows, range(1, len(head)))
    if not lines:
        return []
    return ["## With more workers", "", "In brackets: how many times as fast as with one.", "", *lines]


def growing(results):
    lines = []
    for what, sizes in results.grown().items():
        for figure in figures(sizes[max(sizes)]):
            found = {}  # {(contender, workers): {size: {round: value}}}
            for size, question in sizes.items():
                for key in results.keys(question, figure.name):
                    if question != "memory_parked" or (key.workers == 1 and not results.note(key)):
                        found.setdefault((key.contender, key.workers), {})[size] = results.figures[key][figure.name]
            rows = [
                [contender(name).name, f"w{workers}" if workers else ""]
                + [shown(figure, of[size]) if size in of else "–" for size in sizes]
                for (name, workers), of in sorted(found.items(), key=lambda found: kind(*found[0]))
            ]
            if rows and figure in figures(sizes[min(sizes)]):
                head = [f"{what}: {figure.what}, {figure.unit}", "", *(f"{size:,}" for size in sizes)]
                lines += table(head, rows, range(2, len(head)))
    return ["## With more routines", "", *lines] if lines else []


def kind(name, workers):
    return order(Key("", name, workers))


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
        *ahead_elsewhere(results),
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
