"""The series itself, on the real checkout in django/."""

import json
import subprocess
import sys

import pytest

from tools import DJANGO, ROOT
from tools.checkout import state
from tools.common import clean_environment, upstream
from tools.environment import PYTHON
from tools.git import tree_of
from tools.suite import SERIES, touched_labels

pytestmark = pytest.mark.skipif(
    not (DJANGO / ".git").is_dir() or state() != "",
    reason="there is no finished django/: run series.py apply",
)


def run(*command, tree=DJANGO):
    """Run a program with the Django in a tree; return what it printed."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=clean_environment(PYTHONPATH=str(tree)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_check():
    """The patches pass check, against the checkout too."""
    run(sys.executable, ROOT / "series.py", "check")


def test_names_the_labels():
    """The series has tests in Django's suite."""
    assert touched_labels(upstream()["tag"])


def test_scenario_without_the_series():
    """Without the series only update() makes the cache stale."""
    with tree_of(upstream()["tag"], "django") as tree:
        steps = json.loads(run(PYTHON, SERIES / "scenario.py", tree=tree))
    stale = [not step["coherent"] for step in steps]
    first = stale.index(True)
    assert steps[first]["step"].startswith("update(")
    assert stale[:first] == [False] * first and first > 0


def test_scenario_with_the_series():
    """With the series the cache is coherent after every step."""
    steps = json.loads(run(PYTHON, SERIES / "scenario.py"))
    assert steps and all(step["coherent"] for step in steps)


def test_pins():
    """A package has one version in all of requirements/."""
    pins = {}
    for path in (ROOT / "requirements").glob("*.txt"):
        for line in path.read_text().splitlines():
            if line and not line.startswith(("#", "-")):
                name, _, version = line.partition("==")
                assert version and pins.setdefault(name.lower(), version) == version
    assert len(pins) > 50


@pytest.mark.parametrize("path", sorted(SERIES.glob("tasks/task_*.py")), ids=str)
def test_tasks_of_a_reader(path):
    """What was written by the docs alone does what its docstring says."""
    run(PYTHON, path)
