#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Is the call frame information of src/context/x86_64.S right at every instruction? Steps through
# context_cfi_main under gdb and compares, at each instruction of the functions below, the
# callers, the end of the backtrace, the caller's stack pointer and its callee-saved
# registers with what they have to be; an instruction that was never reached is a failure too.
# At a ret gdb guesses by the instruction instead of reading the CFI, so there the table itself is
# read as well, if readelf is there.
#
# Usage: context_cfi_test.sh <path to context_cfi_main>
# Exit status: 0 right, 1 wrong, 77 no gdb with Python, or no permission to trace.
set -eu

[ $# -eq 1 ] || { echo "usage: $0 <path to context_cfi_main>" >&2; exit 2; }
command -v gdb >/dev/null || { echo "skipped: no gdb"; exit 77; }
gdb -nx -batch -ex 'python print("has" + " python")' 2>/dev/null | grep -q 'has python' ||
    { echo "skipped: gdb without Python"; exit 77; }
gdb -nx -batch -ex 'set disable-randomization off' -ex starti "$1" 2>&1 | grep -q 'Program stopped' ||
    { echo "skipped: gdb may not trace"; exit 77; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/check.py" <<'PYTHON'
import gdb
import re
import subprocess
import traceback

SAVED = ["rbx", "rbp", "r12", "r13", "r14", "r15"]
OUTSIDE = ("context_abi_switch", "outside", "main")
INSIDE = ("context_abi_switch", "inner", "inside", "rt_context_first")
CALL = ("context_abi_call", "calling", "main")
DEEP = ("returning_deeper", "returning", "rt_context_call") + CALL

# Which callers each function may have, and the array with the registers of the nearest one.
EXPECTED = {
    "rt_context_switch": {OUTSIDE: "outside_words", INSIDE: "inside_words", ("rt_context_first",): None},
    "rt_context_first": {(): None},
    "rt_context_make": {("main",): None},
    "rt_context_call": {CALL: "call_words"},
    "rt_context_return": {DEEP: None, CALL: "call_words"},
}
# Never executed: what follows a call that does not return, and padding.
UNREACHED = re.compile(r"\b(ud2|nop\w*|xchg\s+%ax,%ax)\b|data16|cs nop")
BAD = re.compile(r"corrupt|identical|inner to this frame|stopped:|Cannot access", re.I)

failures = []
cfa_rules = {}  # address in the file: how the CFA is found from there on
seen = {name: set() for name in EXPECTED}
stack_pointers = {}
steps = 0


def value(frame, register):
    return int(frame.read_register(register)) & 0xFFFFFFFFFFFFFFFF


def words(array):
    return [int(gdb.parse_and_eval("((unsigned long *)&%s)[%d]" % (array, i))) for i in range(len(SAVED))]


def check(frame, entered):
    def wrong(text):
        failures.append("%s: %s" % (gdb.execute("x/i $pc", to_string=True).strip(), text))

    name, pc = frame.name(), frame.pc()
    seen[name].add(pc)
    chain, last = [], frame
    while last.older() is not None and len(chain) < 20:
        last = last.older()
        chain.append(last.name())
    chain = tuple(chain)
    if chain not in EXPECTED[name]:
        return wrong("callers are %s" % (chain,))
    if last.name() != "main" and last.unwind_stop_reason() != gdb.FRAME_UNWIND_OUTERMOST:
        wrong("ends with %s" % gdb.frame_stop_reason_string(last.unwind_stop_reason()))
    bt = gdb.execute("bt", to_string=True)
    if BAD.search(bt) or len(re.findall(r"^#\d", bt, re.M)) != len(chain) + 1:
        wrong("bt says:\n" + bt)
    if not chain:
        return
    caller = frame.older()
    sp = value(caller, "rsp")
    # One caller, one stack pointer; a function entered anew may have another.
    key = (name, chain)
    if pc == entered:
        stack_pointers[key] = sp
        if sp != value(frame, "rsp") + 8:
            wrong("caller's rsp is not above the return address")
    elif name == "rt_context_return" and chain == CALL:
        key = ("rt_context_call", chain)
    if stack_pointers.setdefault(key, sp) != sp:
        wrong("caller's rsp is %#x, was %#x" % (sp, stack_pointers[key]))
    array = EXPECTED[name][chain]
    if array is not None:
        for register, expected in zip(SAVED, words(array)):
            if value(caller, register) != expected:
                wrong("caller's %s is %#x, not %#x" % (register, value(caller, register), expected))


def instructions(name):
    listing = gdb.execute("disassemble %s" % name, to_string=True)
    return {int(m.group(1), 16): m.group(2)
            for m in re.finditer(r"^(?:=>)?\s+(0x[0-9a-f]+)[^:]*:\s*(.*)$", listing, re.M)}


def read_cfa_rules(binary):
    try:
        listing = subprocess.run(["readelf", "-W", "--debug-dump=frames-interp", binary], check=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True)
    except (OSError, subprocess.CalledProcessError):
        return
    for m in re.finditer(r"^([0-9a-f]{16}) (\S+)", listing.stdout, re.M):
        cfa_rules[int(m.group(1), 16)] = m.group(2)


def check_rets(starts, file_starts):
    for name, start in starts.items():
        for address, text in instructions(name).items():
            in_file = address - start + file_starts[name]
            rules = [a for a in cfa_rules if file_starts[name] <= a <= in_file]
            if re.search(r"\bret\b", text) and rules and cfa_rules[max(rules)] != "rsp+8":
                failures.append("%s: ret at %#x with CFA %s" % (name, in_file, cfa_rules[max(rules)]))


def addresses():
    return {name: int(gdb.parse_and_eval("(unsigned long)&%s" % name)) for name in EXPECTED}


def run():
    global steps
    for setting in ("pagination off", "confirm off", "disable-randomization off", "debuginfod enabled off",
                    "print frame-arguments none", "width 0", "disassembly-flavor att"):
        try:
            gdb.execute("set " + setting, to_string=True)
        except gdb.error:
            pass  # an older gdb
    read_cfa_rules(gdb.current_progspace().filename)
    file_starts = addresses()
    gdb.execute("break begin", to_string=True)
    gdb.execute("run", to_string=True)
    gdb.execute("finish", to_string=True)
    starts = addresses()
    while True:
        frame = gdb.newest_frame()
        name = frame.name()
        if name == "end":
            break
        if name in EXPECTED:
            check(frame, starts[name])
        steps += 1
        if steps > 20000:
            failures.append("never came to its end")
            break
        gdb.execute("stepi", to_string=True)
    check_rets(starts, file_starts)
    for name in EXPECTED:
        for address, text in sorted(instructions(name).items()):
            if address not in seen[name] and not UNREACHED.search(text):
                failures.append("%s: never reached %#x %s" % (name, address, text))


try:
    run()
except Exception:
    failures.append(traceback.format_exc())
with open(result_path, "w") as result:  # gdb's own output has a line for each step
    for failure in failures:
        result.write("WRONG " + failure + "\n")
    result.write("%d steps, %d instructions checked, %d wrong\n"
                 % (steps, sum(len(s) for s in seen.values()), len(failures)))
gdb.execute("kill", to_string=True)
gdb.execute("quit %d" % (1 if failures else 0))
PYTHON

status=0
gdb -nx -batch -ex "python result_path = '$work/result'; exec(open('$work/check.py').read())" "$1" \
    >"$work/log" 2>&1 || status=$?
if [ -s "$work/result" ]; then
    cat "$work/result"
else
    cat "$work/log"
    status=1
fi
exit $((status != 0))
