# SPDX-License-Identifier: MIT
#
# What a run was done on and with: the machine (no names of hosts), the compiler, the peers and their versions.
import datetime
import os
import pathlib
import platform
import re
import shutil
import subprocess


def said(*command, text=""):
    """What a command prints; empty if it is not there, or fails."""
    if not shutil.which(command[0]):
        return ""
    environment = dict(os.environ, LC_ALL="C", GOTOOLCHAIN="local")
    run = subprocess.run(command, input=text, capture_output=True, text=True, check=False, env=environment)
    return run.stdout.strip() if run.returncode == 0 else ""


def content(path):
    try:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def first(pattern, text, otherwise=""):
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else otherwise


def size(kib):
    return f"{kib / 2**20:.1f} GiB" if kib >= 2**20 else f"{kib / 2**10:.0f} MiB"


def machine():
    lscpu, cpuinfo = said("lscpu"), content("/proc/cpuinfo")
    model = first(r"^model name\s*:\s*(.*)$", cpuinfo) or first(r"^Model name:\s*(.*)$", lscpu, platform.machine())
    hypervisor = first(r"^Hypervisor vendor:\s*(.*)$", lscpu)
    if not hypervisor and re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE):
        hypervisor = "yes"
    memory = first(r"^MemTotal:\s*(\d+) kB$", content("/proc/meminfo"), "0")
    threads = first(r"^Thread.s. per core:\s*(.*)$", lscpu, "?")
    kernel = first(r"^(\d+(?:\.\d+)*)", platform.release(), platform.release())
    facts = {
        "CPU": f"{model}, {platform.machine()}",
        "CPUs": f"{os.cpu_count()}, of which {len(os.sched_getaffinity(0))} may be used; "
        f"{threads} a core",
        "caches": ", ".join(
            f"{name} {found}" for name in ("L1d", "L2", "L3") if (found := first(rf"^{name}(?: cache)?:\s*(.*)$", lscpu))
        ),
        "memory": size(int(memory)),
        "virtual machine": hypervisor or "no",
        "kernel": f"{platform.system()} {kernel}",
        "system": first(r'^PRETTY_NAME="?([^"\n]*)', content("/etc/os-release")),
        "transparent huge pages": first(r"\[(\w+)\]", content("/sys/kernel/mm/transparent_hugepage/enabled")),
        "frequency governor": content("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip(),
        "C library": os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else "",
    }
    return {name: fact for name, fact in facts.items() if fact}


def compiler(build):
    """Its version, and what the library was compiled with that matters for speed."""
    cc = first(r"^CMAKE_C_COMPILER:[^=]*=(.*)$", content(build / "CMakeCache.txt"), "cc")
    command = first(r'^ *"command": "(.*/src/sched/scheduler\.c)",?$', content(build / "compile_commands.json"))
    flags = [word for word in command.split() if re.match(r"-O|-m|-flto|-DNDEBUG", word)]
    return ", ".join(part for part in ((said(cc, "--version") or cc).splitlines()[0], " ".join(flags)) if part)


def macros(header, *names):
    """What macros of a C++ header are; [] if there is no such header."""
    text = f"#include <{header}>\n" + "".join(f"value {at} = {name}\n" for at, name in enumerate(names))
    out = said("c++", "-x", "c++", "-E", "-P", "-", text=text)
    return [first(rf"^value {at} = (.*)$", out).strip('"') for at in range(len(names))] if out else []


def of_cargo(package):
    lock = content(pathlib.Path(__file__).resolve().parents[1] / "peers" / "tokio" / "Cargo.lock")
    return first(rf'^name = "{package}"\nversion = "(.*)"$', lock)


def go(_build):
    return said("go", "env", "GOVERSION").removeprefix("go")


def tokio(_build):
    return f"{of_cargo('tokio')}; {said('rustc', '--version')}"


def boost(_build):
    version = macros("boost/version.hpp", "BOOST_LIB_VERSION")
    return version[0].replace("_", ".") if version else ""


def tbb(_build):
    for header in ("oneapi/tbb/version.h", "tbb/tbb_stddef.h"):
        version = macros(header, "TBB_VERSION_MAJOR", "TBB_VERSION_MINOR")
        if version:
            return ".".join(version)
    return ""


def openmp(_build):
    version = first(r"^#define _OPENMP (\d+)$", said("gcc", "-fopenmp", "-dM", "-E", "-x", "c", "-"))
    return f"gcc {said('gcc', '-dumpfullversion')}, _OPENMP {version}"


def google_benchmark(build):
    config = first(r"^benchmark_DIR:[^=]*=(.*)$", content(build / "CMakeCache.txt"))
    return first(r'set\(PACKAGE_VERSION "(.*?)"\)', content(f"{config}/benchmarkConfigVersion.cmake"))


# name: (its program in the build directory; its version)
PEERS = {
    "Go": ("peer-go", go),
    "tokio": ("tokio/release/peer-tokio", tokio),
    "Boost.Fiber": ("peer-boost-fiber", boost),
    "oneTBB": ("peer-tbb", tbb),
    "OpenMP": ("peer-openmp", openmp),
    "POSIX threads": ("peer-pthreads", lambda _: ""),
}


def wrk():
    run = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False) if shutil.which("wrk") else None
    return first(r"wrk\s+(?:debian/)?([\d.]+)", run.stdout + run.stderr, "there") if run else "not there"


def run(build, options):
    """All of it, for results.json. options: what scripts/bench was told, as NAME=VALUE."""
    given = dict(option.split("=", 1) for option in options)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "machine": machine(),
        "compiler": compiler(build),
        "peers": {name: version(build) for name, (program, version) in PEERS.items() if (build / program).exists()},
        "tools": {"Google Benchmark": google_benchmark(build), "wrk": wrk()},
        "options": given,
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith("ROUTINES_") and not name.endswith(("_PROGRAMS", "_SECONDS"))
        },
    }
