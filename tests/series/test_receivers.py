"""
The receivers in receivers.py.

The audit is tested with the Django in django/, in one process for all cases:
each sends signals that break one promise.
"""

import json
import os
import subprocess

import pytest

from tools import DJANGO
from tools.environment import PYTHON
from tools.suite import SERIES

needs_django = pytest.mark.skipif(
    not PYTHON.exists() or not (DJANGO / "tests").exists(),
    reason="needs django/ and .venv, which series.py apply makes",
)
PATH = os.pathsep.join([str(DJANGO), str(SERIES)])


@needs_django
def test_audit():
    """The audit finds each broken promise, and nothing in ordinary uses."""
    done = subprocess.run(
        [PYTHON, SERIES / "audit_cases.py"],
        env={"PYTHONPATH": PATH},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)
    assert len(cases) > 50
    for case, text, problems in cases:
        if text:
            assert any(text in problem for problem in problems), (case, problems)
        else:
            assert not problems, case


@needs_django
@pytest.mark.parametrize("mode", ["quiet", "audit"])
def test_settings(tmp_path, mode):
    """The receivers are connected in Django's own runtests.py."""
    report = tmp_path / "report"
    done = subprocess.run(
        [PYTHON, "runtests.py", "--settings=databases", "--parallel=2"]
        + ["update.tests.SimpleTest", "update.tests.AdvancedTests"],
        cwd=DJANGO / "tests",
        env={
            "PYTHONPATH": PATH,
            "SERIES_DB": "sqlite",
            "SERIES_RECEIVERS": mode,
            "SERIES_REPORT": str(report),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert not any("problem" in line for line in lines)
    updates = {line["test"]: line["updates"] for line in lines if "updates" in line}
    test = "update.tests.AdvancedTests.test_update_multiple_fields"
    assert updates[test] == 1
    assert updates["update.tests.SimpleTest.test_empty_update"] == 1
    assert {"test": test, "outcome": "passed", "text": ""} in lines
