"""
Without receivers, every test of Django's suite runs the statements that it
runs on unpatched Django.

SERIES_STATEMENTS has labels of Django's suite, or is "all": it's "update"
unless set. SERIES_DB is the database: see databases.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.checkout import base
from tools.git import DJANGO, clean_environment, tree_of

SERIES = Path(__file__).parent
LABELS = os.environ.get("SERIES_STATEMENTS", "update").split()


def statements(tree, path, labels):
    """Run Django's tests. Return {test: (number of statements, digest)}."""
    env = {key: os.environ[key] for key in os.environ if key.startswith("SERIES_")}
    env.update(SERIES_RECORD="yes", SERIES_REPORT=str(path), PYTHONHASHSEED="0")
    env["PYTHONPATH"] = f"{tree}{os.pathsep}{SERIES}"
    command = [sys.executable, "runtests.py", "--noinput", "--settings=databases"]
    parallel = 1 if os.environ.get("SERIES_DB") in ("mariadb", "mysql") else 2
    subprocess.run(
        [*command, f"--parallel={parallel}", "-v0", *labels],
        cwd=tree / "tests",
        env=clean_environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    # A run that ended early has no summary.
    assert "test" not in lines[-1], lines[-1]
    found = [line for line in lines if "digest" in line]
    return {line["test"]: (line["statements"], line["digest"]) for line in found}


def test_same_statements(tmp_path):
    """
    Tests that both have run the same statements. Those that differ are run on
    unpatched Django again: some depend on the time or on a random number.
    """
    labels = [] if LABELS == ["all"] else LABELS
    here = statements(DJANGO, tmp_path / "patched.jsonl", labels)
    with tree_of(base()) as tree:
        there = statements(tree, tmp_path / "unpatched.jsonl", labels)
        other = [test for test in here.keys() & there if here[test] != there[test]]
        if other:
            again = statements(tree, tmp_path / "again.jsonl", other)
            other = [test for test in other if there[test] == again.get(test)]
    total = sum(here[test][0] for test in here.keys() & there)
    print(f"{len(here.keys() & there)} tests, {total} statements")
    assert total and not other


@pytest.mark.skipif("SERIES_SLOW" not in os.environ, reason="SERIES_SLOW isn't set")
def test_difference(tmp_path):
    """A statement that differs is found."""
    with tree_of(base()) as tree:
        there = statements(tree, tmp_path / "unpatched.jsonl", ["update"])
        path = tree / "django" / "db" / "models" / "sql" / "compiler.py"
        text = path.read_text()
        assert '"UPDATE %s SET" %' in text
        path.write_text(text.replace('"UPDATE %s SET" %', '"UPDATE  %s SET" %'))
        here = statements(tree, tmp_path / "changed.jsonl", ["update"])
    assert here.keys() == there.keys() and here != there
