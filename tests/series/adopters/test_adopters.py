"""
The other tests fail without the signals, and docs/adopters.md is right.

They run here in processes of their own: with unpatched Django, with patched
Django but without the receivers, and with both.
"""

import importlib.metadata
import inspect
import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path

import django
import pytest
from cases import LateCases

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SERIES = "SERIES_DJANGO", "SERIES_CONNECT"
UPDATES = {
    name
    for name, value in inspect.getmembers(LateCases)
    if any(mark.name == "updates" for mark in getattr(value, "pytestmark", []))
}

if any(name in os.environ for name in SERIES):
    pytest.skip(f"chooses {SERIES} itself", allow_module_level=True)


def run(directory, **env):
    """
    Run the other tests. Return {(package, test): (failure, numbers)}.

    directory: where the report is written. env: more variables. A failure is
    the report's text of it, or None; numbers are what the test has recorded.
    """
    report = directory / "report.xml"
    command = [sys.executable, "-m", "pytest", str(HERE), f"--junitxml={report}"]
    env = {**os.environ, **env}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    results = {}
    for case in ET.parse(report).iter("testcase"):
        package = case.get("classname").rpartition("test_")[2].partition(".")[0]
        outcome = {x.tag: x.get("message") for x in case}
        if "skipped" not in outcome:
            failure = outcome.get("error") or outcome.get("failure")
            numbers = {
                x.get("name"): int(x.get("value")) for x in case.iter("property")
            }
            results[package, case.get("name")] = failure, numbers
    return results


@pytest.fixture(scope="module")
def unpatched(tmp_path_factory):
    """Run the tests with Django as it was before the series."""
    directory = tmp_path_factory.mktemp("unpatched")
    archive = directory / "django.tar"
    tag = f"upstream/{django.get_version()}"
    checkout = Path(django.__file__).parents[1]
    command = ["git", "-C", checkout, "archive", f"--output={archive}", tag, "django"]
    subprocess.run(command, check=True)
    with tarfile.open(archive) as file:
        file.extractall(directory, filter="data")
    return run(directory, SERIES_DJANGO=str(directory))


@pytest.fixture(scope="module")
def unheard(tmp_path_factory):
    return run(tmp_path_factory.mktemp("unheard"), SERIES_CONNECT="no")


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    return run(tmp_path_factory.mktemp("heard"), SERIES_CONNECT="yes")


@pytest.mark.parametrize("name", ["unpatched", "unheard"])
def test_each_fails(name, request, heard):
    results = request.getfixturevalue(name)
    assert results.keys() == heard.keys()
    assert len(UPDATES) == 8
    for (package, test), (failure, _) in results.items():
        if test in UPDATES:
            # It's the package that's wrong, and not the test.
            assert failure.startswith("AssertionError: assert {"), (package, test)
        else:
            assert failure is None, (package, test)


def test_each_passes(heard):
    assert not [key for key, (failure, _) in heard.items() if failure]


def test_document(unpatched, heard):
    """The table says what was measured, for each package that could run."""
    text = (ROOT / "docs" / "adopters.md").read_text(encoding="utf-8")
    for app in HERE.glob("with_*"):
        name = app.name.removeprefix("with_")
        package = "django-" + name.replace("_", "-")
        receivers = (app / "receivers.py").read_text()
        lines = [line for line in receivers.splitlines() if line.strip()]
        facts = [package, importlib.metadata.version(package), len(lines)]
        key = name, "test_count_queries"
        if key in heard:
            (_, before), (_, after) = unpatched[key], heard[key]
            for action in ("save", "update"):
                facts += [before[action], after[action]]
        row = f"\n| {' | '.join(map(str, facts))} |"
        assert row in text, row


@pytest.mark.skipif(
    "SERIES_SUITES" not in os.environ, reason="series.py test --adopters --suites"
)
def test_suites():
    """The suites have the results that the document says they have."""
    done = subprocess.run([sys.executable, HERE / "suites.py"])
    assert done.returncode == 0
