# SPDX-License-Identifier: MIT
#
# The results: out of the files of the rounds, into one JSON file and back; medians, spreads, ratios.
#
# The directory of the rounds has a directory for each (1, 2, ...), and in it a file for each benchmark: *.json as Google
# Benchmark writes it, *.jsonl as the peers do, and what they said in *.log; and run.json, what was run on (machine.py).
import json
import re
import statistics
from typing import NamedTuple

from figures import FIGURES, OTHERS, contender, growth, note


class Key(NamedTuple):
    question: str
    contender: str
    workers: int  # 0: a plain thread, whatever the number of workers

    @property
    def who(self):
        return contender(self.contender)


def order(key):
    return ["routines", "limit", "peer"].index(key.who.kind), key.contender, key.workers


class Results:
    def __init__(self):
        self.run = {}
        self.rounds = 0
        self.figures = {}  # {Key: {figure: {round: value}}}
        self.labels = {}  # {Key: what the benchmark said of itself}
        self.errors = {}  # {Key: what the last one was}

    # ---- out of files, into files ----

    @classmethod
    def of_rounds(cls, directory):
        results = cls()
        run = directory / "run.json"
        results.run = json.loads(run.read_text(encoding="utf-8")) if run.exists() else {}
        for path in sorted(directory.glob("*/*.json*")):
            number = int(path.parent.name)
            results.rounds = max(results.rounds, number)
            try:
                if path.stat().st_size == 0:
                    results.errors[key_of_file(path.stem)] = last_words(path.with_suffix(".log"))
                elif path.suffix == ".jsonl":
                    results.add_peer(number, path.read_text(encoding="utf-8"))
                else:
                    results.add_ours(number, json.loads(path.read_text(encoding="utf-8")))
            except (KeyError, ValueError, TypeError) as error:
                results.errors[key_of_file(path.stem)] = f"its results cannot be read: {error!r}"
        return results

    def add(self, key, number, figure, value):
        self.figures.setdefault(key, {}).setdefault(figure, {})[number] = float(value)

    def add_peer(self, number, text):
        for line in text.splitlines():
            entry = json.loads(line)
            question, name = entry["name"].split("/")
            key = Key(question, name, entry["workers"])
            self.add(key, number, "ns_per_op", entry["value"])
            for figure, value in entry.get("counters", {}).items():
                self.add(key, number, figure, value)

    def add_ours(self, number, run):
        known = {"ns_per_op", *OTHERS, *(figure.name for of_question in FIGURES.values() for figure in of_question)}
        for entry in run["benchmarks"]:
            match = re.match(r"([^/]+)/([^/]+)(?:/w(\d+))?(?:/|$)", entry["name"])
            key = Key(match[1], match[2], int(match[3] or 0))
            if entry.get("error_occurred"):
                self.errors[key] = str(entry.get("error_message"))
                continue
            for figure in known & entry.keys():
                self.add(key, number, figure, entry[figure])
            if entry.get("label"):
                self.labels[key] = entry["label"]

    def write(self, path):
        entries = []
        for key in sorted(self.figures, key=lambda k: (k.question, order(k))):
            entry = {**key._asdict(), "figures": {}}
            if key in self.labels:
                entry["label"] = self.labels[key]
            for figure, by_round in sorted(self.figures[key].items()):
                values = list(by_round.values())
                entry["figures"][figure] = {
                    "median": statistics.median(values),
                    "min": min(values),
                    "max": max(values),
                    "rounds": [by_round.get(n) for n in range(1, self.rounds + 1)],
                }
            entries.append(entry)
        errors = [{**key._asdict(), "error": error} for key, error in sorted(self.errors.items())]
        everything = {"run": self.run, "rounds": self.rounds, "benchmarks": entries, "errors": errors}
        path.write_text(json.dumps(everything, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def of_file(cls, path):
        everything = json.loads(path.read_text(encoding="utf-8"))
        results = cls()
        results.run, results.rounds = everything["run"], everything["rounds"]
        for entry in everything["benchmarks"]:
            key = Key(entry["question"], entry["contender"], entry["workers"])
            for figure, found in entry["figures"].items():
                for number, value in enumerate(found["rounds"], 1):
                    if value is not None:
                        results.add(key, number, figure, value)
            if "label" in entry:
                results.labels[key] = entry["label"]
        for entry in everything["errors"]:
            results.errors[Key(entry["question"], entry["contender"], entry["workers"])] = entry["error"]
        return results

    # ---- what can be asked ----

    def questions(self):
        """Those of FIGURES first, in that order."""
        there = {key.question for key in [*self.figures, *self.errors]}
        return [q for q in FIGURES if q in there] + sorted(there - FIGURES.keys())

    def grown(self):
        """{what grows: {how many: question}}; memory_parked is the last of growth_memory."""
        kinds = {}
        for question in self.questions():
            if growth(question):
                what, size = growth(question)
                kinds.setdefault(what, {})[size] = question
        if "memory" in kinds:
            counts = self.figures.get(Key("memory_parked", "routines", 1), {}).get("count")
            if counts:
                kinds["memory"].setdefault(round(statistics.median(counts.values())), "memory_parked")
        return {what: dict(sorted(sizes.items())) for what, sizes in kinds.items()}

    def keys(self, question, figure=None):
        return sorted(
            (k for k in self.figures if k.question == question and (figure is None or figure in self.figures[k])),
            key=order,
        )

    def workers(self, question=None):
        return sorted({k.workers for k in self.figures if k.workers and question in (None, k.question)})

    def ends(self, question=None):
        """One worker, and all there are."""
        counts = self.workers(question)
        return sorted({counts[0], counts[-1]}) if counts else []

    def get(self, question, name, workers, figure="ns_per_op"):
        """{round: value}; empty if there is none."""
        return self.figures.get(Key(question, name, workers), {}).get(figure, {})

    def median(self, question, name, workers, figure="ns_per_op"):
        values = self.get(question, name, workers, figure)
        return statistics.median(values.values()) if values else None

    def note(self, key):
        """What must be said beside its figures; empty: nothing."""
        counters, ours = (
            {figure: statistics.median(values.values()) for figure, values in self.figures.get(of, {}).items()}
            for of in (key, Key(key.question, "routines", 1))
        )
        return "; ".join(said for said in (note(key, counters, ours), self.labels.get(key)) if said)

    def beside(self, key, figure):
        """What of ours stands beside this one: routines-x if it is somebody's variant x, else routines."""
        same = f"routines-{key.who.variant}"
        if key.who.variant and any(self.get(key.question, same, w, figure) for w in self.workers(key.question)):
            return same
        return "routines"


def spread(by_round):
    """(greatest - least) / median"""
    median = statistics.median(by_round.values())
    return (max(by_round.values()) - min(by_round.values())) / median if median > 0 else 0


def ratios(ours, others):
    """ours / theirs in each round that has both, sorted."""
    return sorted(ours[r] / others[r] for r in ours.keys() & others.keys() if others[r] > 0)


def ratio(ours, others):
    """The median of those; None where that means nothing."""
    both = ratios(ours, others)
    return statistics.median(both) if both else None


def last_words(log):
    said = log.read_text(encoding="utf-8", errors="replace").strip() if log.exists() else ""
    return said.splitlines()[-1] if said else "no results, and it said nothing"


def key_of_file(stem):
    """scripts/bench calls the file of question/contender with W workers question@contender@W."""
    question, name, workers = (stem.split("@") + ["", "0"])[:3]
    return Key(question, name, int(workers) if workers.isdigit() else 0)
