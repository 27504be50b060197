"""
The receivers in receivers.py.

The audit is tested with the Django in django/, in one process for all cases:
each sends signals that break one promise.
"""

import json
import os
import re
import subprocess

import pytest

from tools.environment import PYTHON
from tools.git import DJANGO
from tools.suite import SERIES

PATH = os.pathsep.join([str(DJANGO), str(SERIES)])


@pytest.fixture(scope="module")
def audited():
    """Return {case: (text, problems)} of audit_cases.py."""
    if not PYTHON.exists() or not (DJANGO / "tests").exists():
        pytest.skip("needs django/ and .venv, which series.py apply makes")
    done = subprocess.run(
        [PYTHON, SERIES / "audit_cases.py"],
        env={"PYTHONPATH": PATH},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {case: (text, problems) for case, text, problems in json.loads(done.stdout)}


def case_names(decorator):
    """Return the names of the functions with a decorator in audit_cases.py."""
    text = (SERIES / "audit_cases.py").read_text(encoding="utf-8")
    return re.findall(rf"^@{decorator}\b.*\n(?:  .*\n|\)\n)*def (\w+)", text, re.M)


@pytest.mark.parametrize("case", case_names("good"))
def test_audit_of_good_updates(audited, case):
    """The audit finds nothing in ordinary uses of Django."""
    assert audited[case] == ("", [])


@pytest.mark.parametrize("case", case_names("breaks"))
def test_audit_of_broken_promises(audited, case):
    """The audit finds each broken promise."""
    text, problems = audited[case]
    assert any(text in problem for problem in problems), problems


def test_audit_of_all_cases(audited):
    """No case is left out."""
    assert set(audited) == {*case_names("good"), *case_names("breaks")}
    assert len(audited) > 40


@pytest.mark.parametrize("mode", ["quiet", "audit"])
def test_settings(audited, tmp_path, mode):
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
