"""
Runs tests: Django's, and with pytest those of this repository.

Django's run with the settings in tests/series/databases.py, whose runner
reports each test as a line of JSON: see results.py there. The report and the
output of a run are .work/NAME.jsonl and .work/NAME.log.
"""

import contextlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from tools.checkout import base, commits, state
from tools.environment import ensure
from tools.git import (
    DJANGO,
    ROOT,
    WORK,
    Error,
    clean_environment,
    git,
    indent,
    say,
    tree_of,
    upstream,
)
from tools.queue import pull_requests
from tools.servers import server

SERIES = ROOT / "tests" / "series"
ADOPTERS = SERIES / "adopters"
PROGRESS_SECONDS = 10
PROCESSES = len(os.sched_getaffinity(0))


def test(options):
    """
    Run the tests that the options ask for. Return the exit status.

    Raise Error if what they need is missing.
    """
    tag = base()
    if state():
        raise Error(
            "the patches are not all applied, so there is nothing to test.\n"
            "No test ran. Run: python3 series.py apply"
        )
    labels, paths = split_labels(options.labels)
    if paths and options.receivers:
        raise Error(
            f"--receivers is for Django's tests, not for {' '.join(paths)}.\n"
            "No test ran. Leave out one of them."
        )
    if options.adopters:
        ensure("adopters")
        paths = [ADOPTERS]
    elif not options.labels and not options.full:
        labels = touched_labels(tag)
        if not options.each and not options.receivers:
            # The others don't depend on the database.
            paths = [ROOT / "tests" if options.db == "sqlite" else SERIES / "live"]
            say("This takes about two minutes on two cores.")
    with server(options.db) as env:
        if options.receivers:
            env["SERIES_RECEIVERS"] = options.receivers
        if options.full:
            env["SERIES_WHOLE"] = "1"
        if options.suites:
            env["SERIES_SUITES"] = "1"
        good = []
        if options.each:
            good += run_each(labels, env, tag)
        elif labels or options.full:
            good.append(run_django(labels, env, DJANGO, options.receivers or "tests"))
        if paths:
            good.append(run_pytest(paths, env))
    say("The tests passed." if all(good) else "Tests FAILED.")
    return 0 if all(good) else 1


def split_labels(labels):
    """
    Return (labels of Django's tests, paths of this repository's tests).

    Raise Error for what is neither.
    """
    django, paths = [], []
    for label in labels:
        path = (ROOT / label.partition("::")[0]).resolve()
        if path.exists() and path.is_relative_to(ROOT / "tests"):
            paths.append(label)
        elif is_known(label, DJANGO):
            django.append(label)
        else:
            raise Error(
                f"unknown label: {label}\n"
                f"The series touches: {' '.join(touched_labels(base()))}\n"
                "All labels are directories in django/tests/. This repository's own "
                "tests are\npaths, such as tests/series/live. No test ran."
            )
    return django, paths


def is_known(label, tree):
    """Return whether a tree of Django has the package of a label's tests."""
    return Path(tree, "tests", label.split(".")[0], "__init__.py").exists()


def touched_labels(tag):
    """Return the labels of Django's tests that differ from the base's."""
    paths = git("diff", "--name-only", tag, "--", "tests").splitlines()
    return sorted(
        name for name in {x.split("/")[1] for x in paths} if is_known(name, DJANGO)
    )


def run_pytest(paths, env):
    """Run this repository's tests; return whether they passed."""
    say(f"This repository's tests on {env['SERIES_DB']}:")
    command = [ensure(), "-m", "pytest", "-q", "-rs"]
    if ADOPTERS not in paths:
        command.append(f"--ignore={ADOPTERS}")
    if env["SERIES_DB"] == "sqlite":
        # Each process has files of its own, but they share a server.
        command += ["-n", str(PROCESSES), "--dist=loadfile"]
    env = clean_environment(**env)
    done = subprocess.run(
        [*command, *paths], cwd=ROOT, env=env, stdin=subprocess.DEVNULL
    )
    return done.returncode == 0


def run_each(labels, env, tag):
    """
    Run labels after each patch, and for each pull request with nothing else
    but what it needs. Yield whether they passed. A tree may lack a label.
    """
    runs = [(f"after {line}", line.split()[0], []) for line in commits(tag)]
    below = []
    for one in pull_requests():
        names = set(one.after)
        for other in reversed(below):
            names.update(other.after if other.name in names else ())
        needed = [other for other in below if other.name in names]
        if needed != below:
            paths = [path for part in [*needed, one] for path in part.patches]
            runs.append((f"with {one.name} and only what it needs", tag, paths))
        below.append(one)
    for what, commit, paths in runs:
        say(f"\nTesting {what}")
        with tree_of(commit) as tree:
            for path in paths:
                git("apply", "--whitespace=nowarn", path, cwd=tree)
            here = [label for label in labels if is_known(label, tree)]
            good = not here or run_django(here, env, tree, "each")
        if not good:
            say(f"FAILED {what}")
        yield good


def run_django(labels, env, tree, name):
    """
    Run Django's tests, and say what failed and what came out.

    labels: none for all. env: the database, the receivers. tree: the Django.
    name: of the files in .work. Return whether nothing failed but what fails
    on unpatched Django, without receivers, too.
    """
    version = upstream()["version"]
    say(f"Django's {' '.join(labels) or 'whole suite'} on {env['SERIES_DB']}:")
    lines = report_of(labels, env, tree, name)
    for line in lines:
        if line.get("outcome") == "excused":
            say(f"{line['test']}: fails, as expected: {line['text']}")
    failed, known = failures(lines), []
    with tree_of(base()) if failed else contextlib.nullcontext() as unpatched:
        again = [label for label in dict(failed) if is_known(label, unpatched)]
        if again:
            say(f"Running {len(again)} that failed on unpatched Django {version}:")
            env = {key: env[key] for key in env if key != "SERIES_RECEIVERS"}
            there = dict(failures(report_of(again, env, unpatched, "unpatched")))
            known = [label for label in again if label in there]
    for label, text in failed:
        if label in known:
            say(f"{label}: fails on unpatched Django {version} too")
        else:
            say(f"{label}: FAILS WITH THE SERIES ONLY\n{indent(text)}")
    if lines:
        say(", ".join(f"{count} {word}" for word, count in lines[-1].items()))
    return bool(lines) and not dict(failed).keys() - known


def failures(lines):
    """Return [(label, text)] of what failed, from the lines of a report."""
    return [(x["test"], x["text"]) for x in lines if x.get("outcome") == "failed"]


def report_of(labels, env, tree, name):
    """
    Run Django's tests, saying how far they are.

    The arguments are those of run_django(). Return the lines of the report as
    dictionaries, or none if the run came to no result.
    """
    WORK.mkdir(exist_ok=True)
    path, log = WORK / f"{name}.jsonl", WORK / f"{name}.log"
    path.write_bytes(b"")
    # MySQL's clients copy the databases for parallel processes.
    copies = env["SERIES_DB"] in ("sqlite", "postgres") or shutil.which("mysqldump")
    processes = PROCESSES if copies else 1
    command = [ensure(), "runtests.py", "--noinput", "--settings=databases"]
    env = {**env, "SERIES_REPORT": str(path), "PYTHONPATH": f"{tree}:{SERIES}"}
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, f"--parallel={processes}", *labels],
            cwd=tree / "tests",
            env=clean_environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    status, lines = None, []
    try:
        while status is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(PROGRESS_SECONDS)
            # The last line may not be whole yet.
            text = path.read_text(encoding="utf-8").rpartition("\n")[0]
            lines = [json.loads(line) for line in text.splitlines()]
            if status is None and lines:
                seconds, total = time.monotonic() - started, lines[0]["found"]
                done = sum("outcome" in line for line in lines)
                say(f"  {seconds:4.0f} s: {done} of {total} tests")
    finally:
        process.terminate()
        process.wait()
    has_end = len(lines) > 1 and "test" not in lines[-1] and any(lines[-1].values())
    if has_end and (not status or failures(lines)):
        return lines
    said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
    say(f"The run ended with status {status} and without a result:\n{indent(said)}")
    return []
