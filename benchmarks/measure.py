"""
Measure times and memory, and write them down with pyperf.

    python -m benchmarks.measure BASE PATCHED DIRECTORY [--fast] NAME ...

BASE and PATCHED are trees of Django. Each NAME is a key of SUITES. The
database is the one that SERIES_DB names: see settings.py. The results are in
DIRECTORY/DATABASE-NAME.json, for pyperf, and the table of each suite is
printed when it ends, also if it's stopped or fails. With --fast there are few
rows and one run, which is enough to see that it works.

The operations that are compared run in turn, in a new random order in each
round, in processes that stay: so whatever slows the machine down for a while
slows all of them. pyperf's values are those of the rounds, and its runs those
of the processes. All sizes are measured in one run before the next begins.
"""

import argparse
import contextlib
import itertools
import math
import os
import random
import sys
from pathlib import Path

import pyperf

from . import report
from .process import Failed, Process
from .text import Progress

SIZES = [1, 100, 10000, 100000, 1000000]
# Some packages take minutes for more.
PEERS_ROWS = 10000
RUNS = 3
# Seconds that a value should take at least, so that the clock doesn't matter.
VALUE = 0.02
# Rounds in a run, and the seconds for an operation that limit them.
ROUNDS, LEAST_ROUNDS = 10, 2
ENOUGH = 5


class Results(report.Results):
    """The benchmarks of one suite on one database, while they are measured."""

    def __init__(self, path, facts, rounds):
        self.path, self.facts, self.rounds, self.runs = path, facts, rounds, {}

    def add(self, name, values, unit="second", loops=1):
        """Add the values of one process to a benchmark."""
        metadata = {"name": name, "unit": unit, "loops": loops, **self.facts}
        self.runs.setdefault(name, []).append(pyperf.Run(values, metadata=metadata))
        benchmarks = {key: pyperf.Benchmark(runs) for key, runs in self.runs.items()}
        self.benchmarks = benchmarks

    def write(self):
        suite = pyperf.BenchmarkSuite(self.benchmarks.values())
        suite.dump(str(self.path), replace=True)

    def compare(self, contestants):
        """
        Measure operations in turn, and add what they took.

        contestants: {the name of a benchmark: (the process, the method)}.
        """
        loops, rounds, values = {}, {}, {name: [] for name in contestants}
        for name, (process, method) in contestants.items():
            # The first call compiles and caches.
            process.ask("time", method, 1)
            took = process.ask("time", method, 1)
            loops[name] = max(1, math.ceil(VALUE / took))
            wanted = int(ENOUGH / (took * loops[name]))
            rounds[name] = min(self.rounds, max(LEAST_ROUNDS, wanted))
        for number in range(self.rounds):
            names = [name for name in contestants if number < rounds[name]]
            for name in random.sample(names, len(names)):
                process, method = contestants[name]
                values[name].append(process.ask("time", method, loops[name]))
        for name in contestants:
            self.add(name, values[name], loops=loops[name])
        self.write()


def steps(options, sizes):
    """
    Give the number of rows for each step of all runs, and show the progress.

    From some rows on, a step takes as long as it has rows.
    """
    weights = {rows: 1 + rows / 50000 for rows in sizes}
    progress = Progress(options.runs * sum(weights.values()))
    for run in range(options.runs):
        for rows, weight in weights.items():
            progress.say(f"run {run + 1} of {options.runs}, {rows:,} rows")
            yield rows
            progress.add(weight)


def unused(options, results):
    """Operations on a model without receivers, against unpatched."""
    kinds = {"unpatched": (options.base, "none")}
    for kind in ("none", "other", "pre_update", "post_update"):
        kinds[kind] = options.patched, kind
    progress = Progress(options.runs)
    for run in range(options.runs):
        with contextlib.ExitStack() as stack:
            processes = {}
            for kind, (tree, receivers) in kinds.items():
                process = stack.enter_context(Process(tree, database=f"bench_{kind}"))
                processes[kind] = process
                methods = process.ask("setup", "Unused", receivers)
            for method in methods:
                name = method.removeprefix("time_")
                progress.say(f"run {run + 1} of {options.runs}, {name}")
                results.compare(
                    {
                        f"{name}/{kind}": (process, method)
                        for kind, process in processes.items()
                    }
                )
                progress.add(1 / len(methods))


def used(options, results):
    """Updates with receivers, against the raw driver."""
    for rows in steps(options, options.sizes):
        with Process(options.patched, database="bench_used") as process:
            methods = process.ask("setup", "Used", rows)
            results.compare(
                {
                    f"{method.removeprefix('time_')}/{rows}": (process, method)
                    for method in methods
                }
            )


# The class, whether it runs on the patched Django, and the app it needs.
PEERS = [
    ("Signal", True, ""),
    ("ByHand", False, ""),
    ("BulkSignals", False, "bulk_signals"),
    ("BulkHooks", False, ""),
    ("Cacheops", False, "cacheops"),
]


def peers(options, results):
    """Other ways to tell which rows an update changed."""
    for rows in steps(options, [one for one in options.sizes if one <= PEERS_ROWS]):
        with contextlib.ExitStack() as stack:
            contestants = {}
            for name, patched, app in PEERS:
                tree = options.patched if patched else options.base
                process = Process(tree, app, f"bench_{name.lower()}")
                stack.enter_context(process)
                for method in process.ask("setup", name, rows):
                    label = f"{method.removeprefix('time_')}/{rows}"
                    contestants[label] = process, method
            results.compare(contestants)


def memory(options, results):
    """The peak memory of one update of many rows."""
    for rows in steps(options, options.sizes[-1:]):
        peaks = {}
        for kind in ("unpatched", "none", "keys", "instances"):
            tree = options.base if kind == "unpatched" else options.patched
            with Process(tree, database="bench_memory") as process:
                receiver = "none" if kind == "unpatched" else kind
                process.ask("setup", "Memory", receiver, rows)
                peaks[kind] = process.ask("peak", "peak_update")
        for kind, peak in peaks.items():
            # pyperf takes no zero.
            results.add(f"{kind}/{rows}", [max(peak, 1)], unit="byte")
        results.write()


LEVELS = ["READ COMMITTED", "REPEATABLE READ"]


def writers(options, results):
    """Updates that don't fail while others write. SQLite has one writer."""
    levels = [] if results.facts["database"].startswith("SQLite") else LEVELS
    for run, level in itertools.product(range(options.runs), levels):
        for kind in ("none", "post_update"):
            with Process(options.patched, database="bench_writers") as process:
                process.ask("setup", "Writers", kind, f"ISOLATION LEVEL {level}")
                good = process.ask("call", "count_updates")
            results.add(f"{level}/{kind}", [good], unit="integer")
    if levels:
        results.write()


SUITES = {
    "unused": unused,
    "used": used,
    "peers": peers,
    "memory": memory,
    "writers": writers,
}


def main(argv):
    """Measure. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("base")
    parser.add_argument("patched")
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="+", choices=SUITES)
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args(argv)
    options.runs, options.sizes, rounds = RUNS, SIZES, ROUNDS
    if options.fast:
        options.runs, options.sizes, rounds = 1, SIZES[:2], LEAST_ROUNDS
    database = os.environ.get("SERIES_DB", "sqlite")
    options.directory.mkdir(parents=True, exist_ok=True)
    with Process(options.patched, database="bench_facts") as process:
        facts = process.ask("facts")
    for name in options.names:
        print(f"{name} on {database}", file=sys.stderr, flush=True)
        path = options.directory / f"{database}-{name}.json"
        results, problem = Results(path, facts, rounds), None
        try:
            SUITES[name](options, results)
        except Failed as error:
            problem, status = f"the benchmark failed: {error}", 1
        except KeyboardInterrupt:
            problem, status = "stopped.", 130
        if results.runs:
            print(f"\n{report.SECTIONS[name][0]({database: results})}\n", flush=True)
        elif not problem:
            print(f"{name} on {database}: there is nothing to measure.")
        if problem:
            print(f"{name} on {database}: {problem}", file=sys.stderr)
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
