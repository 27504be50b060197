"""
Count instructions and statements, which don't depend on the machine.

    python -m benchmarks.counts BASE PATCHED RESULTS [--strict] [--seeds N]

BASE and PATCHED are trees of Django, RESULTS is a JSON file. The operations
are those of Unused in operations.py, on SQLite in memory. callgrind counts the
instructions, without the garbage collector, which runs at other moments if
anything changes. With --strict, the exit status is 1 if the patched Django
breaks what PLANS and judge() say. With --seeds, so many at most are counted of
each; with one, the numbers are rough, and bulk_update() is left out.
"""

import argparse
import collections
import contextlib
import itertools
import json
import random
import re
import shutil
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .process import Failed, Process
from .text import Progress, met, middle, table

# For each operation: how often it runs at full speed before it's counted, so
# that the interpreter has adapted to it; how often it's counted; and with how
# many seeds of the hashes of text. Each seed gives a process in which others
# share a place in Python's caches, which is some of the instructions. The
# fewer instructions, the more that matters. Then the receivers, and how many
# times the instructions of the base it may take with them.
Plan = collections.namedtuple("Plan", "warmups loops seeds limits")
PLANS = {
    "update_ready": Plan(
        *(200, 20, 7),
        {
            "none": 1.01,
            # Two looks into caches; where the code lies in memory makes 0.5 %.
            "other": 1.02,
            "pre_update": 2.0,
            "post_update": 2.0,
            "transaction": None,
            "returning": None,
        },
    ),
    "update_1": Plan(
        *(200, 20, 7),
        {"none": 1.01, "other": 1.02, "pre_update": None, "post_update": None},
    ),
    # It makes a dictionary, too.
    "save": Plan(200, 20, 7, {"none": 1.02, "other": 1.04, "saved": None}),
    "get": Plan(200, 20, 5, {"none": 1.01, "other": 1.02}),
    "delete_set_null": Plan(100, 10, 3, {"none": 1.01, "other": 1.02}),
    "update_10000": Plan(20, 5, 2, {"none": 1.01, "other": 1.02}),
    "bulk_update_1000": Plan(5, 1, 2, {"none": 1.01, "other": 1.02}),
}
# What is counted in processes of its own: what runs before it in the same one
# changes its instructions by a percent.
ALONE = ("update_ready",)
SEEDS = max(plan.seeds for plan in PLANS.values())
# Fewer will do for what has receivers of the model itself.
USED_SEEDS = 3
# With callgrind at work, before it's counted.
RUNUPS = 2
UNUSED = ("none", "other")
USED = ("pre_update", "post_update")
# What runs on the base. All other receivers are on the patched Django.
ON_BASE = ("unpatched", "transaction", "returning")
# What the receivers are; see also operations.py.
WITH = {
    "none": "no receiver",
    "other": "receivers on another model",
    "pre_update": "a `pre_update` receiver that does nothing",
    "post_update": "a `post_update` receiver that does nothing",
    "transaction": "unpatched, in a transaction",
    "returning": "unpatched, in a transaction, with RETURNING of the key",
    "saved": "receivers of `pre_save`, `post_save` and both that do nothing",
}
TRANSACTION = re.compile(r"(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b")


def receivers_of(kind):
    """Return the parameter of Unused for a key of WITH, or "unpatched"."""
    return "none" if kind == "unpatched" else kind


def instructions(tree, kind, methods, seed):
    """
    Return {method: the instructions of one call}.

    tree: of Django. kind: a key of WITH, or "unpatched". methods: keys of
    PLANS. seed: for PYTHONHASHSEED. Raise Failed if callgrind doesn't count.
    """
    with tempfile.TemporaryDirectory(prefix="series-callgrind-") as temp:
        wrapper = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
        wrapper += ["--dump-before=getloadavg", f"--callgrind-out-file={temp}/out"]
        if shutil.which("setarch"):
            wrapper = ["setarch", "-R", *wrapper]
        env = {"PYTHONHASHSEED": str(seed)}
        with Process(tree, wrapper=wrapper, env=env) as process:
            process.ask("setup", "Unused", receivers_of(kind))
            for method in methods:
                process.ask("time", f"time_{method}", PLANS[method].warmups)
            if process.ask("instrument"):
                raise Failed("callgrind_control could not start callgrind")
            for method in methods:
                loops = PLANS[method].loops
                process.ask("count", f"time_{method}", min(RUNUPS, loops - 1), loops)
        found = {}
        for number, method in enumerate(methods, 1):
            # The first mark of each ends the dump of what came before.
            path = Path(temp, f"out.{2 * number}")
            text = path.read_text(errors="replace") if path.exists() else ""
            total = re.search(r"^summary: (\d+)", text, re.M)
            if not total:
                raise Failed(f"callgrind wrote no count for {method}")
            found[method] = int(total[1]) / PLANS[method].loops
        return found


def is_planned(kind, method, seed):
    """Return whether something is counted with this seed."""
    if kind not in ("unpatched", *PLANS[method].limits):
        return False
    few = kind not in ("unpatched", *UNUSED)
    return seed < min(PLANS[method].seeds, USED_SEEDS if few else seed + 1)


def collect(base, patched, methods, seeds=None):
    """
    Count everything. Return {"statements": {method: {kind: [...]}},
    "instructions": {method: {kind: [a number for each seed]}}}, and after
    Ctrl-C "stopped": how far it was.

    base, patched: trees of Django. methods: keys of PLANS. seeds: how many at
    most, if not as planned.
    """
    trees = {kind: base if kind in ON_BASE else patched for kind in WITH}
    trees["unpatched"] = base
    statements = {method: {} for method in methods}
    for kind in ("unpatched", *UNUSED, *USED):
        with Process(trees[kind]) as process:
            process.ask("setup", "Unused", receivers_of(kind))
            for method in methods:
                sent = process.ask("statements", f"time_{method}")
                statements[method][kind] = sent
    together = [method for method in methods if method not in ALONE]
    groups = [*([method] for method in methods if method in ALONE), together]
    jobs = []
    for kind, seed in itertools.product(trees, range(seeds or SEEDS)):
        for group in groups:
            counted = [method for method in group if is_planned(kind, method, seed)]
            if counted:
                jobs.append((kind, counted, seed))
    # So that those which are done tell how long the others will take.
    random.Random(0).shuffle(jobs)
    progress = Progress(len(jobs), pause=10)
    counts = {method: collections.defaultdict(list) for method in methods}
    # Two processors are what CI has, and callgrind takes one.
    found = {"statements": statements, "instructions": counts}
    with ThreadPoolExecutor(2) as pool:
        running = pool.map(lambda job: instructions(trees[job[0]], *job), jobs)
        # Closing it cancels those that haven't begun.
        with contextlib.closing(running):
            try:
                for (kind, _, _), count in zip(jobs, running):
                    for method, number in count.items():
                        counts[method][kind].append(number)
                    progress.add()
                    progress.say(f"{progress.done} of {len(jobs)} processes counted")
            except KeyboardInterrupt:
                found["stopped"] = f"{progress.done} of {len(jobs)} processes"
    return found


def ratios(counts, kind):
    """
    Return the median, and its spread, of the instructions against unpatched,
    for each pair of seeds. counts: {kind: [...]}.
    """
    return middle(
        [patched / base for patched in counts[kind] for base in counts["unpatched"]]
    )


def exceeds(limit, ratio, spread):
    """Return whether a ratio, less its spread, is beyond a limit, or None."""
    return limit is not None and ratio - spread > limit


def shorten(sent):
    """Return the statements as one line, without what makes them long."""
    return "; ".join(one if len(one) < 80 else f"{one[:77]}..." for one in sent)


def judge(found):
    """Return what in the result of collect() breaks the promises, as lines."""
    failures = []
    for method, counts in found["instructions"].items():
        for kind in counts.keys() - {"unpatched"}:
            limit = PLANS[method].limits[kind]
            ratio, spread = ratios(counts, kind)
            if exceeds(limit, ratio, spread):
                failures.append(
                    f"{method}, {WITH[kind]}: {ratio:.4f} ± {spread:.4f} times the "
                    f"instructions of unpatched, more than {limit}"
                )
    for method, statements in found["statements"].items():
        base = statements["unpatched"]
        for kind in UNUSED:
            if statements[kind] != base:
                failures.append(
                    f"{method}, {WITH[kind]}: other statements than unpatched:\n"
                    f"  unpatched: {shorten(base)}\n"
                    f"  patched:   {shorten(statements[kind])}"
                )
        plain = [one for one in base if not TRANSACTION.match(one)]
        most = max(len(base) - len(plain), 2)
        for kind in USED:
            sent = statements[kind]
            work = [one for one in sent if not TRANSACTION.match(one)]
            around = len(sent) - len(work)
            # SQLite returns the rows, so nothing has to be selected.
            same = work == plain if kind == "pre_update" else len(work) == len(plain)
            if not same or around > most:
                failures.append(
                    f"{method}, {WITH[kind]}: {len(work)} statements and {around} "
                    f"around them, not {len(plain)} and at most {most}: "
                    f"{shorten(sent)}"
                )
    return failures


def tables(found):
    """Return the result of collect() as a table in Markdown."""
    rows = []
    for method, counts in found["instructions"].items():
        statements = found["statements"][method]
        if "unpatched" not in counts:
            continue
        base = statistics.median(counts["unpatched"])
        rows.append([f"`{method}`", "unpatched", f"{base:,.0f}", "", ""])
        for kind, limit in PLANS[method].limits.items():
            if kind not in counts:
                continue
            ratio, spread = ratios(counts, kind)
            good = not exceeds(limit, ratio, spread)
            same = statements.get(kind) == statements["unpatched"]
            rows.append(
                [
                    "",
                    WITH[kind],
                    f"{ratio:.4f} ± {spread:.4f}",
                    "" if limit is None else met(limit, good),
                    ("the same" if same else "**others**") if kind in UNUSED else "",
                ]
            )
    head = ["operation", "with", "instructions, or times unpatched"]
    return table([*head, "limit", "statements"], rows, left=2)


def main(argv):
    """Count and judge. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("base")
    parser.add_argument("patched")
    parser.add_argument("results", type=Path)
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--seeds", type=int)
    options = parser.parse_args(argv)
    methods = list(PLANS)
    if options.seeds == 1:
        methods.remove("bulk_update_1000")
    try:
        found = collect(options.base, options.patched, methods, options.seeds)
    except Failed as error:
        print(f"counting failed: {error}", file=sys.stderr)
        return 1
    options.results.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1)
    options.results.write_text(text + "\n", encoding="utf-8")
    print(tables(found), flush=True)
    if "stopped" in found:
        print(f"Stopped after {found['stopped']}; nothing was judged.")
        return 130
    failures = judge(found)
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures and options.strict else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
