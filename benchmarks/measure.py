"""
Measure times and memory, and write them down with pyperf.

    python -m benchmarks.measure BASE PATCHED DIRECTORY NAME ...

BASE and PATCHED are trees of Django. Each NAME is a key of SUITES. The
database is the one that SERIES_DB names: see settings.py. The results are in
DIRECTORY/DATABASE-NAME.json, for pyperf. What couldn't be measured is in
DIRECTORY/DATABASE-NAME.notes.json.

The operations that are compared run in turn, in a new random order in each
round, in processes that stay: so whatever slows the machine down for a while
slows all of them. pyperf's values are those of the rounds, and its runs those
of the processes.
"""

import argparse
import contextlib
import json
import math
import os
import random
import sys
from pathlib import Path

import pyperf

from .process import Failed, Process, Skipped

SIZES = [1, 100, 10000, 100000, 1000000]
# Some packages take minutes for more.
PEERS_ROWS = 10000
# Seconds that a value should take at least, so that the clock doesn't matter.
VALUE = 0.02
# Rounds in a process, if there's time for them.
ROUNDS = 10
LEAST_ROUNDS = 3
# Seconds for an operation in a process, that limit the rounds.
ENOUGH = 10
# An operation of so many seconds is measured once.
SLOW = 20


def say(text):
    print(text, flush=True)


class Results:
    """The benchmarks of one suite on one database."""

    def __init__(self, facts):
        self.facts = facts
        self.runs, self.notes = {}, {}

    def add(self, name, values, unit="second", loops=1):
        """Add the values of one process to a benchmark."""
        metadata = {"name": name, "unit": unit, "loops": loops, **self.facts}
        run = pyperf.Run(values, metadata=metadata, collect_metadata=False)
        self.runs.setdefault(name, []).append(run)

    def note(self, name, text):
        """Say why there is no value, or what else is to know."""
        self.notes[name] = text
        say(f"    {name}: {text}")

    def write(self, path):
        benchmarks = [pyperf.Benchmark(runs) for runs in self.runs.values()]
        pyperf.BenchmarkSuite(benchmarks).dump(str(path), replace=True)
        text = json.dumps(self.notes, indent=1, sort_keys=True)
        path.with_suffix(".notes.json").write_text(text + "\n", encoding="utf-8")

    def median(self, name):
        """Return the median of what was measured, or None."""
        if name in self.runs:
            return pyperf.Benchmark(self.runs[name]).median()


def compare(results, contestants, rounds=ROUNDS):
    """
    Measure operations in turn, and add what they took to the results.

    contestants: {the name of a benchmark: (the process, the method)}.
    """
    estimates, loops, values = {}, {}, {}
    for name, (process, method) in list(contestants.items()):
        try:
            first = process.ask("time", method, 1)
            # The first call compiles and caches.
            second = process.ask("time", method, 1) if first < 2 else first
        except (Failed, Skipped) as error:
            if isinstance(error, Failed):
                results.note(name, f"failed: {error}")
            del contestants[name]
            continue
        estimates[name], values[name] = second, []
        loops[name] = max(1, math.ceil(VALUE / second))
        if second > SLOW:
            values[name].append(second)
    wanted = {
        name: (
            0
            if estimate > SLOW
            else min(rounds, max(LEAST_ROUNDS, int(ENOUGH / (estimate * loops[name]))))
        )
        for name, estimate in estimates.items()
    }
    for number in range(rounds):
        names = [name for name in contestants if number < wanted[name]]
        random.shuffle(names)
        for name in names:
            process, method = contestants[name]
            values[name].append(process.ask("time", method, loops[name]))
    for name in contestants:
        results.add(name, values[name], loops=loops[name])


def database_facts(options):
    """Return what the results were measured with, as pyperf's metadata."""
    import datetime

    with Process(options.patched, database="bench_facts") as process:
        facts = process.ask("facts")
    facts["date"] = datetime.date.today().isoformat()
    facts["cpu_count"] = os.cpu_count()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line for line in lines if line.startswith("model name"))
        facts["cpu_model_name"] = model.partition(":")[2].strip()
    return facts


def unused(options, results):
    """Operations on a model without receivers, against unpatched."""
    kinds = {
        "unpatched": (options.base, "none"),
        "none": (options.patched, "none"),
        "other": (options.patched, "other"),
        "pre_update": (options.patched, "pre_update"),
        "post_update": (options.patched, "post_update"),
    }
    for repeat in range(options.processes):
        say(f"  process {repeat + 1} of {options.processes}")
        with contextlib.ExitStack() as stack:
            processes = {}
            for kind, (tree, receivers) in kinds.items():
                process = Process(tree, database=f"bench_{kind}")
                processes[kind] = stack.enter_context(process)
                methods = process.ask(
                    "setup", "update_unused", "UpdateUnused", receivers
                )
            for method in methods:
                contestants = {
                    f"{method.removeprefix('time_')}/{kind}": (process, method)
                    for kind, process in processes.items()
                }
                compare(results, contestants)


def used(options, results):
    """Updates with receivers, against the raw driver."""
    for rows in options.sizes:
        for repeat in range(options.processes if rows < 100000 else 1):
            say(f"  {rows:,} rows, process {repeat + 1}")
            with Process(options.patched, database="bench_used") as process:
                methods = process.ask("setup", "update_used", "UpdateUsed", rows)
                contestants = {
                    f"{method.removeprefix('time_')}/{rows}": (process, method)
                    for method in methods
                }
                compare(results, contestants)


# The class, whether it runs on the patched Django, and the app it needs.
PEERS = [
    ("PostUpdate", True, ""),
    ("ByHand", False, ""),
    ("BulkSignals", False, "bulk_signals"),
    ("BulkHooks", False, ""),
    ("Cacheops", False, "cacheops"),
]


def peers(options, results):
    """Other ways to tell which rows an update changed."""
    for rows in (rows for rows in options.sizes if rows <= PEERS_ROWS):
        for repeat in range(options.processes):
            say(f"  {rows:,} rows, process {repeat + 1}")
            with contextlib.ExitStack() as stack:
                contestants = {}
                for name, patched, app in PEERS:
                    tree = options.patched if patched else options.base
                    process = Process(tree, app, f"bench_{name.lower()}")
                    stack.enter_context(process)
                    methods = process.ask("setup", "update_peers", name, rows)
                    for method in methods:
                        label = method.removeprefix("time_")
                        contestants[f"{label}/{rows}"] = process, method
                compare(results, contestants)


def memory(options, results):
    """The peak memory of one update of many rows."""
    rows = options.sizes[-1]
    for repeat in range(LEAST_ROUNDS):
        say(f"  process {repeat + 1} of {LEAST_ROUNDS}")
        for kind, tree, receiver in (
            ("unpatched", options.base, "none"),
            ("none", options.patched, "none"),
            ("pk_set", options.patched, "pk_set"),
            ("queryset", options.patched, "queryset"),
        ):
            with Process(tree, database="bench_memory") as process:
                process.ask("setup", "update_used", "UpdateMemory", receiver, rows)
                peak = process.ask("peak", "peakmem_update")
            # pyperf takes no zero.
            results.add(f"{kind}/{rows}", [max(peak, 1)], unit="byte")


SUITES = {"unused": unused, "used": used, "peers": peers, "memory": memory}


def main(argv):
    """Measure. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("base")
    parser.add_argument("patched")
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="+", choices=SUITES)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options = parser.parse_args(argv)
    database = os.environ.get("SERIES_DB", "sqlite")
    options.directory.mkdir(parents=True, exist_ok=True)
    try:
        facts = database_facts(options)
        for name in options.names:
            say(f"{database}: {name}")
            results = Results(facts)
            SUITES[name](options, results)
            results.write(options.directory / f"{database}-{name}.json")
    except (Failed, Skipped) as error:
        print(f"the benchmark failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
