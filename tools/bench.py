"""
Measures what the signals cost.

counts: instructions and statements on SQLite, and unused: seconds, without
receivers and with ones that do nothing, against the base. used: with others,
against the raw driver doing the same. peers: of other ways to tell which rows
an update changed. memory: the peak of an update of many rows. writers: the
updates that fail because others write the same rows.
"""

import contextlib
import shutil
import subprocess

from tools import DJANGO, ROOT, WORK
from tools.checkout import base
from tools.common import Error, clean_environment, say
from tools.environment import ensure
from tools.git import tree_of
from tools.servers import server

NAMES = ("counts", "unused", "used", "peers", "memory", "writers")
BENCH = WORK / "bench"


def bench(options):
    """Run what the options say. Return the exit status, or raise Error."""
    names = ["counts"] if options.short else options.names or NAMES
    if set(names).difference(NAMES):
        raise Error(f"the names are {', '.join(NAMES)}. Nothing ran.")
    tag, status = base(whole=True), 0
    fast = ["--fast"] * options.fast
    if "counts" in names and not shutil.which("valgrind"):
        raise Error("there is no valgrind to count with. Install it; nothing ran.")
    timed = [name for name in names if name != "counts"]
    ensure(*["bench"] * bool(timed or options.write))
    for name in options.db if timed else ():
        with server(name):
            say("It's there. What is missing is found before anything is measured.")
    with tree_of(tag, "django") as tree:
        if "counts" in names:
            arguments = [tree, DJANGO, BENCH / "counts.json"]
            arguments += ["--strict", "--seeds=3"] * options.short
            arguments += ["--seeds=1"] * options.fast
            status |= execute("counts", {"SERIES_DB": "sqlite"}, *arguments)
        for name in options.db if timed else ():
            with server(name) as env:
                status |= execute("measure", env, tree, DJANGO, BENCH, *timed, *fast)
    if options.write and not status:
        status = execute("report", {}, BENCH, ROOT / "docs" / "performance.md")
    say("The benchmarks FAILED." if status else "The benchmarks are done.")
    return status


def execute(module, env, *arguments):
    """Run a module of benchmarks/, showing its output; return its status."""
    command = [ensure(), "-m", f"benchmarks.{module}", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(**env), stdin=subprocess.DEVNULL
    ) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # It gets Ctrl-C, too, and prints what it has.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.terminate()
            raise
