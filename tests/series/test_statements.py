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

from tools import DJANGO
from tools.checkout import base
from tools.common import clean_environment
from tools.git import tree_of

SERIES = Path(__file__).parent
LABELS = os.environ.get("SERIES_STATEMENTS", "update").split()


def statements(django, tests, path, labels):
    """
    Run the tests of a tree of Django on the Django of another. Return {test:
    (number of statements, digest)}.
    """
    env = {key: os.environ[key] for key in os.environ if key.startswith("SERIES_")}
    env.update(SERIES_RECORD="yes", SERIES_REPORT=str(path), PYTHONHASHSEED="0")
    env["PYTHONPATH"] = f"{django}{os.pathsep}{SERIES}"
    command = [sys.executable, "runtests.py", "--noinput", "--settings=databases"]
    parallel = 1 if os.environ.get("SERIES_DB") in ("mariadb", "mysql") else 2
    subprocess.run(
        [*command, f"--parallel={parallel}", "-v0", *labels],
        cwd=tests / "tests",
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
    Unpatched Django's own tests run the same statements. Those that differ are
    run again on both, twice: some depend on what ran before, or on chance.
    """
    other = [] if LABELS == ["all"] else LABELS
    with tree_of(base()) as tree:
        for name in ("all", "again", "once-more"):
            here = statements(DJANGO, tree, tmp_path / f"{name}-patched", other)
            there = statements(tree, tree, tmp_path / f"{name}-unpatched", other)
            assert here and here.keys() == there.keys()
            missing = {test.split(".")[-1] for test in here if "_FailedTest" in test}
            # Not those that tests of the runner itself can't import.
            assert not missing & {label.split(".")[-1] for label in LABELS}
            other = [test for test in here if here[test] != there[test]]
            total = sum(number for number, _ in here.values())
            print(f"{len(here)} tests, {total} statements, {len(other)} differ")
            if not other:
                break
    assert not other


@pytest.mark.skipif(
    "SERIES_SLOW" not in os.environ, reason="takes minutes, and needs SERIES_SLOW=1"
)
def test_difference(tmp_path):
    """A statement that differs is found."""
    with tree_of(base()) as tree:
        there = statements(tree, tree, tmp_path / "unpatched", ["update"])
        path = tree / "django" / "db" / "models" / "sql" / "compiler.py"
        text = path.read_text()
        assert '"UPDATE %s SET" %' in text
        path.write_text(text.replace('"UPDATE %s SET" %', '"UPDATE  %s SET" %'))
        here = statements(tree, tree, tmp_path / "changed", ["update"])
    assert here.keys() == there.keys() and here != there
