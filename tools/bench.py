"""
Measures what the signals cost.

The names are

    counts   instructions (by callgrind) and statements, without receivers
    unused   seconds of operations without receivers, against the base
    used     seconds with receivers, against the raw driver doing the same
    peers    seconds of other ways to tell which rows an update changed
    memory   peak memory of an update of a million rows

counts needs SQLite only, and its results don't depend on the machine. The
others are run on each database. The results are in .work/bench, from which
--write makes the tables and plots of docs/performance.md.
"""

import shutil

from tools.checkout import base, state
from tools.environment import ensure
from tools.git import DJANGO, ROOT, WORK, Error, run, say, tree_of
from tools.servers import server

NAMES = ("counts", "unused", "used", "peers", "memory")
BENCH = WORK / "bench"
PAGE = ROOT / "docs" / "performance.md"


def bench(options):
    """
    Run benchmarks. Return the exit status.

    options: names, all of them if none; db, the databases; short, to only run
    counts and fail beyond its limits; write. Raise Error if something that is
    needed is missing.
    """
    names = ["counts"] if options.short else options.names or NAMES
    tag = base()
    if state():
        raise Error(
            "the patches are not all applied, so there is nothing to measure.\n"
            "Nothing was changed. Run: python3 series.py apply"
        )
    if "counts" in names and not shutil.which("valgrind"):
        raise Error(
            "valgrind, which counts instructions, was not found.\nNothing was "
            "measured. Install it; on Debian: apt-get install valgrind"
        )
    timed = [name for name in names if name != "counts"]
    ensure(*["bench"] * bool(timed or options.write))
    status = 0
    with tree_of(tag, "django") as tree:
        if "counts" in names:
            strict = ["--strict"] * options.short
            arguments = (tree, DJANGO, BENCH / "counts.json", *strict)
            status |= execute("counts", {"SERIES_DB": "sqlite"}, *arguments)
        for name in options.db if timed else ():
            with server(name) as env:
                status |= execute("measure", env, tree, DJANGO, BENCH, *timed)
    if options.write and not status:
        status = execute("report", {}, BENCH, PAGE)
    say("The benchmarks FAILED." if status else "The benchmarks are done.")
    return status


def execute(module, env, *arguments):
    """Run a module of benchmarks/, showing its output; return its status."""
    command = [ensure(), "-m", f"benchmarks.{module}", *arguments]
    return run(*command, env=env, stdout=None).returncode
