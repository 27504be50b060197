"""
Run the test suites of packages as they are: on unpatched Django, on patched
Django, and on patched Django with receivers that do nothing for every model.

    .venv/bin/python tests/series/adopters/suites.py [PACKAGE ...]

prints a table and, below it, each test whose result differs. It fails if
docs/adopters.md has other rows. What the suites print is in .work/suites/.
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
MODES = "unpatched", "patched", "receivers"
HEAD = """\
| package | version | tests | unpatched | patched | receivers | updates |
| --- | --- | --- | --- | --- | --- | --- |
"""


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


def run_suite(package, suite, sdist, mode):
    """Return {test: Counter of outcomes} and how many updates were sent."""
    directory = WORK / mode / package
    unpack(sdist, directory)
    (source,) = directory.iterdir()
    for name, old, new in suite.get("edits", ()):
        text = (source / name).read_text()
        assert old in text, (package, name, old)
        (source / name).write_text(text.replace(old, new))
    (directory / "pytest.ini").touch()
    report, calls = directory / "report.xml", directory / "calls.json"
    output = directory / "output.txt"
    tree = BASE if mode == "unpatched" else ROOT / "django"
    paths = tree, PACKAGES, HERE / "plugin", source / suite.get("path", ".")
    env = {**os.environ, **suite.get("env", {}), "SERIES_CALLS": str(calls)}
    env["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    command = [sys.executable, "-m", "pytest", f"--junitxml={report}", *OPTIONS.split()]
    command += ["-p", "quiet_receivers"] if mode == "receivers" else []
    command += [f"--ds={suite['settings']}"] if "settings" in suite else []
    command += suite["tests"]
    with open(output, "w") as file:
        done = subprocess.run(command, cwd=source, env=env, stdout=file, stderr=file)
    if done.returncode not in (0, 1) or not report.exists():
        sys.exit(f"pytest could not run the suite; see {directory}/output.txt")
    results = collections.defaultdict(collections.Counter)
    for case in ET.parse(report).iter("testcase"):
        tags = {child.tag for child in case} & {"error", "failure", "skipped"}
        name = f"{case.get('classname')}.{case.get('name')}"
        results[name][min(tags, default="passed")] += 1
    return results, calls.exists() and json.loads(calls.read_text())["pre_update"]


def compare(package, version, suite):
    """Return the table's row for a package, and lines about what differs."""
    sdist = fetch(package, suite.get("sdist", version))
    runs, lines = [], []
    for mode in MODES:
        print(f"Running the suite of {package}, {mode} ...", flush=True)
        runs.append(run_suite(package, suite, sdist, mode))
    (base, _), *others = runs
    failed = sum(x["failure"] + x["error"] for x in base.values())
    cells = [package, version, sum(x.total() for x in base.values()), f"{failed} fail"]
    for mode, (results, _) in zip(MODES[1:], others, strict=True):
        names = [x for x in base | results if base[x] != results[x]]
        cells.append(f"{len(names)} differ" if names else "same")
        lines += [f"{package}, {mode}: {name}" for name in sorted(names)]
    cells.append(others[-1][1])
    return f"| {' | '.join(map(str, cells))} |\n", lines


def main():
    """Run the suites that the arguments name, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("packages", nargs="*", metavar="PACKAGE")
    options = parser.parse_args()
    suites = tomllib.loads((HERE / "suites.toml").read_text())
    versions = dict(re.findall(r"^([\w-]+)==(\S+)", PINS.read_text(), re.M))
    prepare()
    table, lines = HEAD, []
    for package in options.packages or suites:
        row, differing = compare(package, versions[package], suites[package])
        table, lines = table + row, lines + differing
        print(row, end="", flush=True)
    print(table, *lines, sep="\n")
    document = (ROOT / "docs" / "adopters.md").read_text(encoding="utf-8")
    rows = [row.rsplit("|", 2)[0] for row in table.splitlines()]
    if other := [row for row in rows if row not in document]:
        sys.exit("\n".join(["docs/adopters.md has other rows:", *other]))


if __name__ == "__main__":
    main()
