"""
Count instructions and statements, which don't depend on the machine.

    python -m benchmarks.counts BASE PATCHED RESULTS.json [--methods NAME ...]

BASE and PATCHED are trees of Django. The operations are those of UpdateUnused,
on SQLite in memory. callgrind counts the instructions, without the garbage
collector, which runs at other moments if anything changes. With --strict,
the exit status is 1 if the patched Django breaks what LIMITS and judge() say.
"""

import argparse
import collections
import json
import re
import shutil
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .process import Failed, Process, Skipped
from .text import middle

# How many times the instructions of the base a patched operation may take,
# less the spread between processes. With receivers on another model, it looks
# the model up in the caches of two signals. save() makes a dictionary, too.
# Its limits leave room for what runs of the same code differ by.
LIMITS = {"none": 1.01, "other": 1.02}
SAVE_LIMITS = {"none": 1.02, "other": 1.04}
# The same for update_1 with a receiver of its model that does nothing.
USED_LIMIT = 2.0
# For each operation: how often it runs at full speed before it's counted, so
# that the interpreter has adapted to it; how often it's counted; and with how
# many seeds of the hashes of text. Each seed gives a process in which others
# share a place in Python's caches, which is some of the instructions. The
# fewer instructions, the more that matters.
Plan = collections.namedtuple("Plan", "warmups loops seeds")
PLANS = {
    "update_1": Plan(200, 20, 9),
    "save": Plan(200, 20, 9),
    "get": Plan(200, 20, 5),
    "delete_set_null": Plan(100, 10, 3),
    "update_10000": Plan(20, 5, 2),
    "bulk_update_1000": Plan(5, 1, 2),
}
# With callgrind at work, before it's counted.
RUNUPS = 2
UNUSED = ("none", "other")
USED = ("pre_update", "post_update")
# What else is counted: the receivers, the operation, and whether patched.
MORE = {
    "pre_update": ("update_1", True),
    "post_update": ("update_1", True),
    "transaction": ("update_1", False),
    "saved": ("save", True),
}
TRANSACTION = re.compile(r"(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b")


def instructions(tree, receivers, method, seed):
    """
    Return the instructions of one call.

    tree: of Django. receivers: the parameter of UpdateUnused. method: a key of
    PLANS. seed: for PYTHONHASHSEED. Raise Failed if callgrind doesn't count.
    """
    plan = PLANS[method]
    with tempfile.TemporaryDirectory(prefix="series-callgrind-") as temp:
        wrapper = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
        wrapper += ["--dump-before=getloadavg", f"--callgrind-out-file={temp}/out"]
        if shutil.which("setarch"):
            wrapper = ["setarch", "-R", *wrapper]
        env = {"PYTHONHASHSEED": str(seed)}
        with Process(tree, wrapper=wrapper, env=env) as process:
            process.ask("setup", "update_unused", "UpdateUnused", receivers)
            process.ask("time", f"time_{method}", plan.warmups)
            if process.ask("instrument"):
                raise Failed("callgrind_control could not start callgrind")
            runups = min(RUNUPS, plan.loops - 1)
            process.ask("count", f"time_{method}", runups, plan.loops)
        # The first mark ends the dump of what came before.
        path = Path(temp, "out.2")
        text = path.read_text(errors="replace") if path.exists() else ""
        total = re.search(r"^summary: (\d+)", text, re.M)
        if not total:
            raise Failed(f"callgrind wrote no count for {method}")
        return int(total[1]) / plan.loops


def statements(tree, receivers, methods):
    """Return {method: the list of statements of one call}."""
    with Process(tree) as process:
        process.ask("setup", "update_unused", "UpdateUnused", receivers)
        return {
            method: process.ask("statements", f"time_{method}") for method in methods
        }


def collect(base, patched, methods, seeds=None):
    """
    Count everything. Return {kind: {method: {"statements", "instructions"}}},
    where the instructions are a list with a number for each seed.

    base, patched: trees of Django. methods: keys of PLANS. seeds: how many,
    if not as planned.
    """
    kinds = {"unpatched": (base, "none")}
    kinds.update((kind, (patched, kind)) for kind in UNUSED + USED)
    found = {
        kind: {
            method: {"statements": sent, "instructions": []}
            for method, sent in statements(*where, methods).items()
        }
        for kind, where in kinds.items()
    }
    # Two processors are what CI has, and callgrind takes one.
    with ThreadPoolExecutor(2) as pool:
        counts = [
            (found[kind][method], pool.submit(instructions, *kinds[kind], method, seed))
            for method in methods
            for seed in range(seeds or PLANS[method].seeds)
            for kind in ("unpatched", *UNUSED)
        ]
        for kind, (method, is_patched) in MORE.items():
            if method in methods:
                tree = patched if is_patched else base
                one = found.setdefault(kind, {}).setdefault(method, {})
                one["instructions"] = []
                counts += [
                    (one, pool.submit(instructions, tree, kind, method, seed))
                    for seed in range(seeds or PLANS[method].seeds)
                ]
        for result, count in counts:
            result["instructions"].append(count.result())
    return found


def ratios(found, kind, method):
    """Return the instructions against unpatched, for each pair of seeds."""
    return [
        patched / base
        for patched in found[kind][method]["instructions"]
        for base in found["unpatched"][method]["instructions"]
    ]


def shorten(sent):
    """Return the statements as one line, without what makes them long."""
    return "; ".join(one if len(one) < 80 else f"{one[:77]}..." for one in sent)


def judge(found):
    """Return what in the result of collect() breaks the promises, as lines."""
    failures = []
    for method, base in found["unpatched"].items():
        for kind in UNUSED:
            patched = found[kind][method]
            if patched["statements"] != base["statements"]:
                failures.append(
                    f"{method}, receivers: {kind}: other statements than unpatched:\n"
                    f"  unpatched: {shorten(base['statements'])}\n"
                    f"  patched:   {shorten(patched['statements'])}"
                )
            ratio, spread = middle(ratios(found, kind, method))
            limit = (SAVE_LIMITS if method == "save" else LIMITS)[kind]
            if ratio - spread > limit:
                failures.append(
                    f"{method}, receivers: {kind}: {ratio:.4f} times the "
                    f"instructions of unpatched, more than {limit}"
                )
        for kind, (name, _) in MORE.items():
            if kind in USED and name == method:
                ratio = statistics.median(ratios(found, kind, method))
                if ratio > USED_LIMIT:
                    failures.append(
                        f"{method}, receivers: {kind}: {ratio:.2f} times the "
                        f"instructions of unpatched, more than {USED_LIMIT}"
                    )
        plain = [one for one in base["statements"] if not TRANSACTION.match(one)]
        around = len(base["statements"]) - len(plain)
        for kind in USED:
            sent = found[kind][method]["statements"]
            work = [one for one in sent if not TRANSACTION.match(one)]
            if kind == "pre_update" and work != plain:
                failures.append(f"{method}, receivers: {kind}: {shorten(sent)}")
            # SQLite returns the rows, so nothing has to be selected.
            if len(work) != len(plain) or len(sent) - len(work) > max(around, 2):
                failures.append(
                    f"{method}, receivers: {kind}: {len(work)} statements and "
                    f"{len(sent) - len(work)} around them, not {len(plain)} and "
                    f"at most {max(around, 2)}: {shorten(sent)}"
                )
    return failures


def table(found):
    """Return the lines of a table of the result of collect()."""
    lines = [f"{'instructions':18} {'unpatched':>12} {'none':>17} {'other':>17}"]
    for method, base in found["unpatched"].items():
        line = f"{method:18} {statistics.median(base['instructions']):12,.0f}"
        for kind in UNUSED:
            median, spread = middle(ratios(found, kind, method))
            line += f"  {median - 1:+6.2%} ± {spread:5.2%}"
        lines.append(line)
    for kind, (method, _) in MORE.items():
        if method in found.get(kind, ()):
            ratio = statistics.median(ratios(found, kind, method))
            lines.append(f"{method}, {kind}: {ratio:.2f} times unpatched")
    return lines


def main(argv):
    """Count and judge. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("base")
    parser.add_argument("patched")
    parser.add_argument("results", type=Path)
    parser.add_argument("--methods", nargs="+", choices=PLANS, default=list(PLANS))
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--seeds", type=int)
    options = parser.parse_args(argv)
    try:
        found = collect(options.base, options.patched, options.methods, options.seeds)
    except (Failed, Skipped) as error:
        print(f"counting failed: {error}", file=sys.stderr)
        return 1
    options.results.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1)
    options.results.write_text(text + "\n", encoding="utf-8")
    print("\n".join(table(found)))
    failures = judge(found)
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures and options.strict else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
