"""The series itself, on the real checkout in django/."""

import subprocess
import sys

import pytest

import series

pytestmark = pytest.mark.skipif(
    not (series.CHECKOUT / ".git").is_dir() or series.read_state() != "",
    reason="there is no finished django/: run series.py apply",
)


def test_check():
    """The patches pass check, against the checkout too."""
    done = subprocess.run(
        [sys.executable, str(series.ROOT / "series.py"), "check"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the files and the checkout" in done.stdout


def test_names_the_labels():
    """The series has tests in Django's suite."""
    assert series.touched_labels(series.CHECKOUT)


def test_scenario_without_the_series():
    """Without the series only update() makes the cache stale."""
    with series.tree_of(series.load_upstream()["tag"], "django") as tree:
        steps = series.scenario(tree)
    stale = [not step["coherent"] for step in steps]
    first = stale.index(True)
    assert steps[first]["step"].startswith("update(")
    assert stale[:first] == [False] * first and first > 0


def test_scenario_with_the_series():
    """With the series the cache is coherent after every step."""
    steps = series.scenario(series.CHECKOUT)
    assert steps and all(step["coherent"] for step in steps)


def test_examples_of_the_docs():
    """The examples of docs/ref/signals.txt do what the page says."""
    done = subprocess.run(
        [str(series.venv_python()), str(series.TESTS / "examples.py")],
        capture_output=True,
        text=True,
        env=series.plain_environment(PYTHONPATH=str(series.CHECKOUT)),
    )
    assert done.returncode == 0, done.stderr
