"""
Run the test suites of packages as they are: on unpatched Django, on patched
Django, and on patched Django with receivers that do nothing for every model.

    .venv/bin/python tests/series/adopters/suites.py [--write] [PACKAGE ...]

prints a table and, below it, each test whose result differs. --write replaces
the table in docs/adopters.md. The packages come from their sdists, and are
tested in an environment of their own, in .work/suites/.
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
PYTHON = WORK / "venv" / "bin" / "python"
PINS = HERE / "suites.txt"
DOCUMENT = ROOT / "docs" / "adopters.md"
MODES = "unpatched", "patched", "receivers"
HEAD = """\
| package | version | tests | unpatched | patched | receivers | updates |
| --- | --- | --- | --- | --- | --- | --- |
"""
TABLE = re.compile(r"\| package \| version \| tests \|.*?\n\n", re.S)


def run(*command, **kwargs):
    """Run a program; if it fails, end with what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done.stdout


def prepare():
    """Make the environment, and a directory with unpatched Django."""
    checkout = ROOT / "django"
    version = tomllib.loads((ROOT / "upstream.toml").read_text())["version"]
    tag = f"upstream/{version}"
    archive = WORK / "django.tar"
    shutil.rmtree(WORK / "unpatched", ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    run("git", "-C", checkout, "archive", f"--output={archive}", tag, "django")
    with tarfile.open(archive) as file:
        file.extractall(WORK / "unpatched", filter="data")
    stamp = WORK / "venv" / "stamp"
    if not stamp.exists() or stamp.read_text() != PINS.read_text():
        print(f"Installing {PINS.name} ...", flush=True)
        run(sys.executable, "-m", "venv", "--clear", WORK / "venv")
        # Packages that ask for Django must find one.
        (site,) = WORK.glob("venv/lib/python*/site-packages")
        info = site / f"django-{version}.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: Django\nVersion: {version}\n"
        (info / "METADATA").write_text(metadata)
        run(PYTHON, "-m", "pip", "install", "--no-deps", "-r", PINS)
        stamp.write_text(PINS.read_text())


def fetch(package, version):
    """Return the path of a package's sdist."""
    name = re.sub("[-_.]+", "[-_.]", package)
    pattern = f"{name}-{version}.tar.gz"
    if not list(WORK.glob(f"sdists/{pattern}")):
        print(f"Fetching {package} {version} ...", flush=True)
        options = f"--no-deps --no-binary=:all: --dest={WORK / 'sdists'}".split()
        run(PYTHON, "-m", "pip", "download", *options, f"{package}=={version}")
    return next(WORK.glob(f"sdists/{pattern}"))


def run_suite(package, suite, sdist, mode):
    """Return {test: Counter of outcomes} and the calls of the receivers."""
    directory = WORK / mode / package
    shutil.rmtree(directory, ignore_errors=True)
    with tarfile.open(sdist) as file:
        file.extractall(directory, filter="data")
    (source,) = directory.iterdir()
    for name in suite.get("remove", ()):
        shutil.rmtree(source / name)
    for name, old, new in suite.get("edits", ()):
        text = (source / name).read_text()
        assert old in text, (package, name, old)
        (source / name).write_text(text.replace(old, new))
    # For a suite without a configuration, so that pytest takes no other.
    (directory / "pytest.ini").touch()
    report, calls = directory / "report.xml", directory / "calls.json"
    tree = WORK / "unpatched" if mode == "unpatched" else ROOT / "django"
    paths = [tree, HERE / "plugin", *(source / x for x in suite.get("paths", ()))]
    env = {**os.environ, **suite.get("env", {}), "SERIES_CALLS": str(calls)}
    env["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    if "settings" in suite:
        env["DJANGO_SETTINGS_MODULE"] = suite["settings"]
    command = [PYTHON, "-m", "pytest", "-o", "addopts=", *suite["tests"]]
    command += ["-p", "no:cacheprovider", "--rootdir=.", f"--junitxml={report}"]
    if mode == "receivers":
        command += ["-p", "quiet_receivers"]
    with open(directory / "output.txt", "w") as file:
        subprocess.run(command, cwd=source, env=env, stdout=file, stderr=file)
    results = collections.defaultdict(collections.Counter)
    if report.exists():
        for case in ET.parse(report).iter("testcase"):
            tags = {child.tag for child in case} & {"error", "failure", "skipped"}
            name = f"{case.get('classname')}.{case.get('name')}"
            results[name][min(tags, default="passed")] += 1
    return results, json.loads(calls.read_text()) if calls.exists() else {}


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
        names = [x for x in base | results if base.get(x) != results.get(x)]
        cells.append(f"{len(names)} differ" if names else "same")
        lines += [f"{package}, {mode}: {name}" for name in sorted(names)]
    cells.append(others[-1][1].get("pre_update", "none"))
    return f"| {' | '.join(map(str, cells))} |\n", lines


def main():
    """Run the suites that the arguments name, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="write the table")
    parser.add_argument("packages", nargs="*", metavar="PACKAGE")
    options = parser.parse_args()
    suites = tomllib.loads((HERE / "suites.toml").read_text())
    versions = dict(re.findall(r"^([\w-]+)==(\S+)", PINS.read_text(), re.M))
    if unknown := set(options.packages) - suites.keys():
        sys.exit(f"suites.toml has no {', '.join(sorted(unknown))}")
    prepare()
    table, lines = HEAD, []
    for package in options.packages or suites:
        row, differing = compare(package, versions[package], suites[package])
        table, lines = table + row, lines + differing
    print(table, *lines, sep="\n")
    if options.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(TABLE.sub(lambda _: f"{table}\n", text), encoding="utf-8")


if __name__ == "__main__":
    main()
