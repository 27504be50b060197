"""
Measures what the signals cost.

counts: instructions (by callgrind) and statements, without receivers. unused:
seconds of operations without receivers, against the base. used: seconds with
receivers, against the raw driver doing the same. peers: seconds of other ways
to tell which rows an update changed. memory: the peak of an update of many
rows. counts needs SQLite only, and doesn't depend on the machine; the others
are run on each database. From the results in .work/bench, --write makes the
tables and plots of docs/performance.md.
"""

import shutil

from tools import DJANGO, ROOT, WORK
from tools.checkout import ready
from tools.environment import ensure
from tools.git import Error, run, say, tree_of
from tools.servers import server

NAMES = ("counts", "unused", "used", "peers", "memory")
BENCH = WORK / "bench"


def bench(options):
    """
    Run the benchmarks options.names, or all, on the databases options.db; of
    options.short, only counts, with limits. Return the exit status, or Error.
    """
    names, tag, status = options.names or NAMES, ready(), 0
    if options.short:
        names = ["counts"]
    if "counts" in names and not shutil.which("valgrind"):
        raise Error("there is no valgrind to count with. Install it; nothing ran.")
    timed = [name for name in names if name != "counts"]
    ensure(*["bench"] * bool(timed or options.write))
    with tree_of(tag, "django") as tree:
        if "counts" in names:
            strict = ["--strict"] * options.short
            arguments = (tree, DJANGO, BENCH / "counts.json", *strict)
            status |= execute("counts", {"SERIES_DB": "sqlite"}, *arguments)
        for name in options.db if timed else ():
            with server(name) as env:
                status |= execute("measure", env, tree, DJANGO, BENCH, *timed)
    if options.write and not status:
        status = execute("report", {}, BENCH, ROOT / "docs" / "performance.md")
    say("The benchmarks FAILED." if status else "The benchmarks are done.")
    return status


def execute(module, env, *arguments):
    """Run a module of benchmarks/, showing its output; return its status."""
    command = [ensure(), "-m", f"benchmarks.{module}", *arguments]
    return run(*command, env=env, stdout=None).returncode
