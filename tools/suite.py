"""
Runs this repository's tests with pytest, and Django's with the settings in
tests/series/databases.py, whose runner writes each test as a line of JSON: see
results.py there. Each run has a directory in .work/ for these and the output.
"""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tools import DJANGO, ROOT
from tools.checkout import TIP, base, commits
from tools.common import (
    Error,
    clean_environment,
    indent,
    remove,
    run,
    say,
    upstream,
    work_directory,
)
from tools.environment import ensure
from tools.git import git, tree_of
from tools.queue import pull_requests
from tools.servers import server

SERIES = ROOT / "tests" / "series"
ADOPTERS = SERIES / "adopters"
PROGRESS_SECONDS = 10
PROCESSES = len(os.sched_getaffinity(0))


def test(options):
    """Run what the options say. Return the exit status, or raise Error."""
    tag, labels, paths = base(whole=True), [], []
    for label in options.labels:
        path = (ROOT / label.partition("::")[0]).resolve()
        ours = path.exists() and path.is_relative_to(ROOT / "tests")
        if is_known(label, DJANGO):
            labels.append(label)
        elif ours and not options.receivers:
            paths.append(label)
        else:
            known = f"The series touches: {' '.join(touched_labels(tag))}"
            more = "No test ran. Paths, as tests/series/live, go without --receivers."
            raise Error(f"unknown label: {label}\n{known}\n{more}")
    if options.adopters:
        ensure("adopters")
        paths = [ADOPTERS]
    elif not options.labels and not options.full:
        labels = touched_labels(tag)
        if not options.each and not options.receivers:
            # The others don't depend on the database.
            paths = [ROOT / "tests" if options.db == "sqlite" else SERIES / "live"]
            say("This takes about three minutes on two cores.")
    reports = work_directory("test")
    with server(options.db) as env:
        if options.receivers:
            env["SERIES_RECEIVERS"] = options.receivers
        if options.full:
            env["SERIES_WHOLE"] = "1"
        if options.suites:
            env["SERIES_SUITES"] = "1"
        good = []
        if options.each:
            good += run_each(labels, env, tag, reports)
        elif labels or options.full:
            good.append(run_django(labels, env, DJANGO, reports / "tests"))
        if paths:
            good.append(run_pytest(paths, env))
    if all(good):
        remove(reports)
        say("The tests passed.")
        return 0
    if any(reports.iterdir()):
        say(f"What Django's suite said is in {reports.relative_to(ROOT)}/.")
    say("Tests FAILED.")
    return 1


def is_known(label, tree):
    """Return whether a tree of Django has the package of a label's tests."""
    return Path(tree, "tests", label.split(".")[0], "__init__.py").exists()


def touched_labels(tag):
    """Return the labels of Django's tests that differ from the base's."""
    paths = git("diff", "--name-only", tag, "--", "tests").splitlines()
    names = {path.split("/")[1] for path in paths}
    return sorted(name for name in names if is_known(name, DJANGO))


def run_pytest(paths, env):
    """Run this repository's tests; return whether they passed."""
    say(f"This repository's tests on {env['SERIES_DB']}:")
    command = [ensure(), "-m", "pytest", "-q", "-p", "tools.skips"]
    if ADOPTERS in paths:
        command.append("-s")  # The packages' suites say how far they are.
    else:
        command.append(f"--ignore={ADOPTERS}")
        if env["SERIES_DB"] == "sqlite":
            # Each process has files of its own, but they share a server.
            command += ["-n", str(PROCESSES), "--dist=loadfile"]
    return run(*command, *paths, env=env, stdout=None).returncode == 0


def steps(tag):
    """
    Yield (what it is, commit or tree): the series after each patch, and each
    pull request with what it needs. Leave out the whole series, which "test"
    runs, and what differs from others in docs/ only.
    """
    found = [(f"after {line}", line.split()[0]) for line in commits(tag)]
    for one in pull_requests():
        paths = [path for part in (*one.needs, one) for path in part.patches]
        found.append((f"with {one.name} and only what it needs", patched(tag, paths)))
    seen = {code_of(TIP)}
    for what, tree in found:
        code = code_of(tree)
        if code not in seen:
            yield what, tree
        seen.add(code)


def patched(tag, paths):
    """Return the id of the tree of a commit with patches, in their order."""
    with tempfile.TemporaryDirectory(prefix="series-") as temp:
        env = {"GIT_INDEX_FILE": f"{temp}/index"}
        git("read-tree", tag, env=env)
        if paths:
            git("apply", "--cached", "--whitespace=nowarn", *paths, env=env)
        return git("write-tree", env=env)


def code_of(tree):
    """Return what is in a tree, without docs/, as text."""
    lines = git("ls-tree", tree).splitlines()
    return "\n".join(line for line in lines if not line.endswith("\tdocs"))


def run_each(labels, env, tag, reports):
    """Run labels on each of steps(). Yield whether they are good."""
    say('What "test" runs, the series after its last patch, is left out.')
    todo = list(steps(tag))
    for number, (what, commit) in enumerate(todo, 1):
        say(f"\n{number} of {len(todo)}: Testing {what}")
        with tree_of(commit) as tree:
            here = [label for label in labels if is_known(label, tree)]
            path = reports / f"each-{number}"
            good = not here or run_django(here, env, tree, path)
        if not good:
            say(f"FAILED {what}")
        yield good


def run_django(labels, env, tree, path):
    """
    Run Django's tests in a tree, or those with labels, and say what came out.
    env: the database, the receivers. path: of the report, without an ending.
    Return whether nothing failed but what fails on unpatched Django, without
    receivers, too.
    """
    version = upstream()["version"]
    say(f"Django's {' '.join(labels) or 'whole suite'} on {env['SERIES_DB']}:")
    lines = report_of(labels, env, tree, path)
    for line in lines:
        if line.get("outcome") == "excused":
            say(f"{line['test']}: fails, as expected: {line['text']}")
    failed, known = failures(lines), {}
    with tree_of(base()) if failed else contextlib.nullcontext() as unpatched:
        again = [label for label in dict(failed) if is_known(label, unpatched)]
        if again:
            say(f"Running {len(again)} that failed on unpatched Django {version}:")
            env = {key: env[key] for key in env if key != "SERIES_RECEIVERS"}
            there = path.with_name(f"{path.name}-unpatched")
            known = dict(failures(report_of(again, env, unpatched, there)))
    for label, text in failed:
        if label in known:
            say(f"{label}: fails on unpatched Django {version} too")
        else:
            where = " WITH THE SERIES ONLY" if label in again else ""
            say(f"{label}: FAILS{where}\n{indent(text)}")
    if lines:
        say(", ".join(f"{count} {word}" for word, count in lines[-1].items()))
    return bool(lines) and dict(failed).keys() <= known.keys()


def failures(lines):
    """Return [(label, text)] of what failed, from the lines of a report."""
    return [(x["test"], x["text"]) for x in lines if x.get("outcome") == "failed"]


def report_of(labels, env, tree, path):
    """Run tests, saying how far they are. Return the report if it's whole."""
    report, log = path.with_suffix(".jsonl"), path.with_suffix(".log")
    report.write_bytes(b"")
    # MySQL's clients copy the databases for parallel processes.
    copies = env["SERIES_DB"] in ("sqlite", "postgres") or shutil.which("mysqldump")
    command = [ensure(), "runtests.py", "--noinput", "--settings=databases"]
    command += [f"--parallel={PROCESSES if copies else 1}", *labels]
    env = {**env, "SERIES_REPORT": str(report), "PYTHONPATH": f"{tree}:{SERIES}"}
    options = {"env": clean_environment(**env), "stdin": subprocess.DEVNULL}
    started, status, lines = time.monotonic(), None, []
    with log.open("wb") as output:
        options.update(cwd=tree / "tests", stdout=output, stderr=output)
        process = subprocess.Popen(command, **options)
    try:
        while status is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(PROGRESS_SECONDS)
            # The last line may not be whole yet.
            text = report.read_text(encoding="utf-8").rpartition("\n")[0]
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
