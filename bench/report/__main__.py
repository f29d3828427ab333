# SPDX-License-Identifier: MIT
#
# What scripts/bench makes of its rounds:
#
#     python3 bench/report run BUILD FILE.json [NAME=VALUE...]   what it runs on, before it runs
#     python3 bench/report collect ROUNDS RESULTS.json           puts the rounds together, prints the figures
#     python3 bench/report write RESULTS.json DIRECTORY          RESULTS.md, and with matplotlib charts/*.svg, there
#
# collect exits with 1 if a benchmark failed.
import json
import pathlib
import sys

import console
import machine
import markdown
from results import Results


def collect(rounds, file):
    results = Results.of_rounds(pathlib.Path(rounds))
    results.write(pathlib.Path(file))
    console.show(results)
    for key, error in sorted(results.errors.items()):
        print(f"FAILED {key.question}/{key.contender}/w{key.workers}: {error}", file=sys.stderr)
    return 1 if results.errors or not results.figures else 0


def write(file, directory):
    results = Results.of_file(pathlib.Path(file))
    place = pathlib.Path(directory)
    try:
        import charts

        drawn = charts.draw(results, place / "charts")
    except ModuleNotFoundError as missing:
        print(f"no charts: Python has no {missing.name} here", file=sys.stderr)
        drawn = {}
    (place / "RESULTS.md").write_text(markdown.report(results, drawn), encoding="utf-8")
    return 0


def run(build, file, *options):
    found = machine.run(pathlib.Path(build), options)
    pathlib.Path(file).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def main():
    commands = {"collect": collect, "write": write, "run": run}
    if len(sys.argv) < 4 or sys.argv[1] not in commands:
        print("usage: report run | collect | write: see the head of its __main__.py", file=sys.stderr)
        return 2
    return commands[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
