#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# The regression guard: counts the instructions of the hot paths (hot.c) under Valgrind's callgrind, and compares them
# with those that are committed. Times differ from run to run and from machine to machine; these counts do not.
#
#     check.py PROGRAM COUNTS.json [--update] [--rows REGEX]
#
# Of each path two runs of different lengths are counted, in the thread that did most: the difference, divided by how
# many operations more the longer one did, is what an operation executes. What seems to have become more is counted
# again, and the least is taken, since all that could disturb adds instructions.
#
# COUNTS.json: {"CPU compiler version": {path: instructions of an operation}}. Exits with 1 if a path takes more than
# 5 % more than is written there, or could not be counted; with 0 if there is nothing for this compiler, which it says.
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

TOLERANCE = 0.05
LONGER = 21  # how many times longer the longer run is
USUALLY, AT_MOST = 1, 3  # so often each is counted; if it seems to be too many instructions


class Failed(Exception):
    pass


def said(*command):
    run = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if run.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: {run.stderr.strip() or f'status {run.returncode}'}")
    return run.stdout


def instructions(program, path, times):
    """{thread: instructions}"""
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory) / "out"
        said("valgrind", "-q", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={out}",
             program, path, times)
        totals = {}
        for file in pathlib.Path(directory).glob("out-*"):
            total = re.search(r"^totals: (\d+)", file.read_text(), re.MULTILINE)
            if total:
                totals[file.name] = int(total[1])
    if not totals:
        raise Failed(f"{path}: callgrind has counted nothing")
    return totals


class Path:
    def __init__(self, program, name, least, operations):
        self.program, self.name, self.least, self.operations = program, name, int(least), int(operations)
        self.short, self.long = {}, {}  # {thread: least count}

    def count_once_more(self):
        for counts, times in ((self.short, self.least), (self.long, LONGER * self.least)):
            for thread, count in instructions(self.program, self.name, times).items():
                counts[thread] = min(count, counts.get(thread, count))

    def each(self):
        busiest = max(self.long, key=self.long.get)
        more = self.long[busiest] - self.short.get(busiest, 0)
        return round(more / ((LONGER - 1) * self.least * self.operations), 1)


def counted(path, written):
    """Instructions of an operation; counted again if they seem to be too many."""
    for times in range(1, AT_MOST + 1):
        path.count_once_more()
        if times >= USUALLY and (written is None or path.each() <= written * (1 + TOLERANCE)):
            break
    return path.each()


def check(program, counts_file, update=False, rows=""):
    written = json.loads(counts_file.read_text()) if counts_file.exists() else {}
    compiler = said(program, "--compiler").strip()
    known = written.get(compiler, {})
    counts, worse, better, new = {}, [], [], []
    print(f"{compiler}: instructions of an operation, and what is committed in {counts_file.name}")
    for line in said(program, "--list").splitlines():
        path = Path(program, *line.split())
        if not re.search(rows, path.name):
            continue
        before = known.get(path.name)
        now = counts[path.name] = counted(path, before)
        verdict = ""
        if before is None:
            new.append(path.name)
        elif now > before * (1 + TOLERANCE):
            worse.append(path.name)
            verdict = "  MORE"
        elif now < before * (1 - TOLERANCE):
            better.append(path.name)
            verdict = "  fewer"
        beside = f"{before:9.1f} {now / before - 1:+7.1%}" if before else f"{'-':>9}"
        print(f"  {path.name:14} {now:9.1f} {beside}{verdict}", flush=True)
    if update:
        kept = {} if not rows else known
        written[compiler] = {**kept, **counts}
        counts_file.write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")
        print(f"written to {counts_file}")
        return 0
    if not known:
        print(f"Nothing is committed for {compiler}, so nothing was compared, and this fails nobody. To have them "
              "compared from now on: scripts/bench --check --update, and commit.")
        return 0
    if new:
        print(f"Not compared, since nothing is committed: {', '.join(new)}. scripts/bench --check --update writes it.")
    if better:
        print(f"More than {TOLERANCE:.0%} better: {', '.join(better)}. Please commit that, so that it stays so: "
              "scripts/bench --check --update")
    if worse:
        print(f"FAILED: more than {TOLERANCE:.0%} more instructions: {', '.join(worse)}. If that is worth it: "
              "scripts/bench --check --update, and say why in the commit.")
        return 1
    return 0


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("program", type=pathlib.Path)
    arguments.add_argument("counts", type=pathlib.Path)
    arguments.add_argument("--update", action="store_true")
    arguments.add_argument("--rows", default="")
    given = arguments.parse_args()
    try:
        return check(given.program.resolve(), given.counts, given.update, given.rows)
    except Failed as error:
        print(f"FAILED: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
