# SPDX-License-Identifier: MIT
#
# The results as a text for the terminal.
import statistics

from figures import figures, number
from results import ratio, spread


def block(results, question, figure):
    keys = results.keys(question, figure.name)
    if not keys:
        return
    print(f"\n{question}: {figure.what}, {figure.unit}")
    print(f"  {'':28} {'workers':>7} {'median':>10} {'spread':>7} {'cpus':>5}   ours / it")
    for key in keys:
        by_round = results.figures[key][figure.name]
        median = number(figure.shown(statistics.median(by_round.values())))
        cpus = results.figures[key].get("cpus") if figure.name == "ns_per_op" else None
        used = f"{statistics.median(cpus.values()):.2f}" if cpus else "-"
        beside = []
        if key.who.kind != "routines":
            name = results.beside(key, figure.name)
            for workers in [key.workers] if key.workers else results.workers(question):
                it = ratio(results.get(question, name, workers, figure.name), by_round)
                if it is not None:
                    beside.append(number(it) + ("" if key.workers else f" (w{workers})"))
        line = (
            f"  {key.contender:28} {key.workers or '-':>7} {median:>10} {spread(by_round):>7.0%} {used:>5}   "
            f"{'  '.join(beside)}"
        )
        said = results.note(key)
        print(line.rstrip() + (f"  [{said}]" if said else ""))


def show(results):
    for question in results.questions():
        for figure in figures(question):
            block(results, question, figure)
