"""
Run the test suites of packages as they are: on unpatched Django, on patched
Django, and on that with receivers of both signals for every model, which first
do nothing and then, as the audit in receivers.py, check each update.

    .venv/bin/python tests/series/adopters/suites.py [PACKAGE ...]

prints a table and, below it, each test whose result differs and each problem
that the audit found. It fails if docs/adopters.md has other rows. What the
suites print is in .work/suites/.
"""

import argparse
import collections
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
WORK = ROOT / ".work" / "suites"
BASE = WORK / "django"
PACKAGES = WORK / "packages"
PIP = sys.executable, "-m", "pip"
PINS = HERE / "suites.txt"
OPTIONS = "-o addopts= -p no:cacheprovider --rootdir=."
MODES = "unpatched", "patched", "receivers", "audit"
HEAD = """\
| package | version | tests | unpatched | patched | receivers | audit | updates |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


class CouldNotRun(Exception):
    """A suite ended without a report."""


def run(*command):
    """Run a program; if it fails, end with what it printed."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")


def unpack(archive, directory):
    """Unpack an archive in a directory that it has to itself."""
    shutil.rmtree(directory, ignore_errors=True)
    with tarfile.open(archive) as file:
        file.extractall(directory, filter="data")


def prepare():
    """Install the packages, and unpack unpatched Django."""
    tag = f"upstream/{tomllib.loads((ROOT / 'upstream.toml').read_text())['version']}"
    tar = WORK / "django.tar"
    WORK.mkdir(parents=True, exist_ok=True)
    run("git", "-C", ROOT / "django", "archive", f"--output={tar}", tag, "django")
    unpack(tar, BASE)
    stamp = PACKAGES / "installed.txt"
    if not stamp.exists() or stamp.read_text() != PINS.read_text():
        print(f"Installing {PINS.name} ...", flush=True)
        shutil.rmtree(PACKAGES, ignore_errors=True)
        run(*PIP, "install", "--no-deps", "-r", PINS, "--target", PACKAGES)
        stamp.write_text(PINS.read_text())


def fetch(package, version):
    """Return the path of a package's sdist."""
    name = re.sub("[-_.]+", "[-_.]", package)
    pattern = f"sdists/{name}-{version}.tar.gz"
    if not list(WORK.glob(pattern)):
        print(f"Fetching {package} {version} ...", flush=True)
        options = "--no-deps", "--no-binary=:all:", f"--dest={WORK / 'sdists'}"
        run(*PIP, "download", *options, f"{package}=={version}")
    return next(WORK.glob(pattern))


def install_older(pins):
    """Return a directory with packages of other versions than in PINS."""
    directory = WORK / "older" / "+".join(pins)
    if not directory.exists():
        print(f"Installing {' '.join(pins)} ...", flush=True)
        run(*PIP, "install", "--no-deps", "--target", directory, *pins)
    return directory


def run_suite(package, suite, sdist, mode):
    """
    Return {test: Counter of outcomes} and the lines of the receivers' report.
    """
    directory = WORK / mode / package
    unpack(sdist, directory)
    (source,) = directory.iterdir()
    for name, old, new in suite.get("edits", ()):
        text = (source / name).read_text()
        assert old in text, (package, name, old)
        (source / name).write_text(text.replace(old, new))
    (directory / "pytest.ini").touch()
    results, told = directory / "results.xml", directory / "report.jsonl"
    output = directory / "output.txt"
    tree = BASE if mode == "unpatched" else ROOT / "django"
    paths = [tree, PACKAGES, HERE / "plugin", source / suite.get("path", ".")]
    if "older" in suite:
        paths.insert(1, install_older(suite["older"]))
    env = {**os.environ, **suite.get("env", {})}
    env["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    command = [sys.executable, "-m", "pytest", f"--junitxml={results}"]
    command += OPTIONS.split()
    if mode in ("receivers", "audit"):
        command += ["-p", "suite_receivers"]
        env["SERIES_RECEIVERS"] = "audit" if mode == "audit" else "quiet"
        env["SERIES_REPORT"] = str(told)
    command += [f"--ds={suite['settings']}"] if "settings" in suite else []
    command += suite["tests"]
    with open(output, "w") as file:
        done = subprocess.run(command, cwd=source, env=env, stdout=file, stderr=file)
    if done.returncode not in (0, 1) or not results.exists():
        raise CouldNotRun(f"pytest could not run the suite; see {output}")
    outcomes = collections.defaultdict(collections.Counter)
    for case in ET.parse(results).iter("testcase"):
        tags = {child.tag for child in case} & {"error", "failure", "skipped"}
        name = f"{case.get('classname')}.{case.get('name')}"
        outcomes[name][min(tags, default="passed")] += 1
    lines = told.read_text().splitlines() if told.exists() else []
    return outcomes, [json.loads(line) for line in lines]


def compare(package, version, suite, progress):
    """
    Return the table's row for a package, and lines about what differs.

    progress: what is printed before each run.
    """
    sdist = fetch(package, suite.get("sdist", version))
    base, cells, lines, updates = None, [package, version], [], "?"
    for mode in MODES:
        started = time.monotonic()
        print(f"{progress} {package}, {mode} ... ", end="", flush=True)
        try:
            results, told = run_suite(package, suite, sdist, mode)
        except CouldNotRun as error:
            print("could not run", flush=True)
            cells.append("could not run")
            lines.append(f"{package}, {mode}: {error}")
            if base is None:
                # There's nothing to compare the others with.
                break
            continue
        tests = sum(outcomes.total() for outcomes in results.values())
        print(f"{tests} tests in {time.monotonic() - started:.0f} s", flush=True)
        if base is None:
            base = results
            failed = sum(x["failure"] + x["error"] for x in base.values())
            cells += [tests, f"{failed} fail"]
            continue
        names = [x for x in base | results if base[x] != results[x]]
        problems = [x for x in told if "problem" in x]
        parts = [f"{len(names)} differ"] * bool(names)
        parts += [f"{len(problems)} problems"] * bool(problems)
        cells.append(", ".join(parts) or "same")
        lines += [f"{package}, {mode}: {name}" for name in sorted(names)]
        lines += [f"{package}, {mode}: {x['test']}: {x['problem']}" for x in problems]
        if mode == "audit":
            updates = told[-1]["updates"]
    return f"| {' | '.join(map(str, [*cells, updates]))} |\n", lines


def main():
    """Run the suites that the arguments name, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("packages", nargs="*", metavar="PACKAGE")
    options = parser.parse_args()
    suites = tomllib.loads((HERE / "suites.toml").read_text())
    versions = dict(re.findall(r"^([\w-]+)==(\S+)", PINS.read_text(), re.M))
    prepare()
    table, lines, started = HEAD, [], time.monotonic()
    packages = options.packages or list(suites)
    for number, package in enumerate(packages, 1):
        minutes = (time.monotonic() - started) / 60
        progress = f"[{number}/{len(packages)}, {minutes:.0f} min]"
        row, differing = compare(package, versions[package], suites[package], progress)
        table, lines = table + row, lines + differing
        print(row, end="", flush=True)
    print(table, *lines, sep="\n")
    document = (ROOT / "docs" / "adopters.md").read_text(encoding="utf-8")
    rows = [row.rsplit("|", 2)[0] for row in table.splitlines()]
    if other := [row for row in rows if row not in document]:
        sys.exit("\n".join(["docs/adopters.md has other rows:", *other]))


if __name__ == "__main__":
    main()
