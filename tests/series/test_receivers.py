"""How receivers.py is connected. live/test_audit.py has what it finds."""

import json
import os
import subprocess

import pytest

from tools import DJANGO
from tools.environment import PYTHON
from tools.suite import SERIES


@pytest.mark.skipif(
    not PYTHON.exists() or not (DJANGO / "tests").exists(),
    reason="needs django/ and .venv, which series.py apply makes",
)
@pytest.mark.parametrize("mode", ["quiet", "audit"])
def test_settings(tmp_path, mode):
    """The receivers are connected in Django's own runtests.py."""
    report = tmp_path / "report"
    done = subprocess.run(
        [PYTHON, "runtests.py", "--settings=databases", "--parallel=2"]
        + ["update.tests.SimpleTest", "update.tests.AdvancedTests"],
        cwd=DJANGO / "tests",
        env={
            "PYTHONPATH": os.pathsep.join([str(DJANGO), str(SERIES)]),
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
