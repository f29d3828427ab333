#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# Does the regression guard notice? Counts some paths of PROGRAM (bench_hot), and has them compared with counts that are
# 6 % lower, as if the library had become so much slower since; with higher ones; with the same; with those of another
# compiler. Usage: check_test.py PROGRAM
import contextlib
import io
import json
import pathlib
import sys
import tempfile

import check

PATHS = ["mutex", "send_recv"]


def outcome(program, counts, rows, update=False):
    """(exit status, what was said, the file afterwards)"""
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory) / "counts.json"
        file.write_text(json.dumps(counts))
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            status = check.check(program, file, update, rows)
        return status, said.getvalue(), json.loads(file.read_text())


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    rows = f"^({'|'.join(PATHS)})$"
    compiler = check.said(program, "--compiler").strip()
    bad = []

    def expect(right, what, said):
        if not right:
            bad.append(what)
            print(f"NOT SO: {what}\n{said}")

    status, said, written = outcome(program, {"other 1": {"mutex": 1}}, rows, update=True)
    counts = written.get(compiler, {})
    expect(status == 0 and sorted(counts) == sorted(PATHS), "--update writes the counts", said)
    expect(written.get("other 1") == {"mutex": 1}, "--update leaves other compilers alone", said)
    expect(all(count > 20 for count in counts.values()), "an operation is more than 20 instructions", said)

    status, said, _ = outcome(program, {compiler: counts}, rows)
    expect(status == 0 and "FAILED" not in said, "the same counts pass", said)

    for path in PATHS:
        faster = {**counts, path: counts[path] / 1.06}
        status, said, _ = outcome(program, {compiler: faster}, rows)
        failed = [line for line in said.splitlines() if line.startswith("FAILED")]
        expect(status == 1 and len(failed) == 1 and f"instructions: {path}." in failed[0],
               f"6 % more in {path} fail, and it is named", said)
        slower = {**counts, path: counts[path] * 1.06}
        status, said, _ = outcome(program, {compiler: slower}, rows)
        expect(status == 0 and f"better: {path}." in said, f"6 % fewer in {path} ask to be committed", said)

    status, said, _ = outcome(program, {"other 1": counts}, rows)
    expect(status == 0 and "nothing was compared" in said, "an unknown compiler fails nobody, and that is said", said)

    status, said, _ = outcome(program, {compiler: {PATHS[0]: counts[PATHS[0]]}}, rows)
    expect(status == 0 and f"Not compared, since nothing is committed: {PATHS[1]}." in said, "a new path is named", said)

    try:
        check.instructions(program, "no_such_path", 1)
        expect(False, "a program that fails is noticed", "")
    except check.Failed:
        pass
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
