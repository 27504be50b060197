"""What "series.py test" runs and reports, and how it reads unittest."""

import sys

import pytest

import series
from series import Counts, Failure, count_dots, parse_counts, parse_failures

OUTPUT = """\
Found 9 test(s).
System check identified no issues (0 silenced).
..s.x
.FE
======================================================================
ERROR: setUpClass (update.tests.BrokenTests)
----------------------------------------------------------------------
Traceback (most recent call last):
ValueError: ERROR: not a test (this.is.text) at all

======================================================================
ERROR: nosuch.tests (unittest.loader._FailedTest.nosuch.tests)
----------------------------------------------------------------------
ImportError: Failed to import test module: nosuch.tests

======================================================================
FAIL: test_sub (update.tests.SubTests.test_sub) (number=1)
With a first line of its docstring.
----------------------------------------------------------------------
AssertionError: 1 != 2

======================================================================
FAIL: test_sub (update.tests.SubTests.test_sub) [a message] (number=2)
----------------------------------------------------------------------
AssertionError: 1 != 3

======================================================================
FAIL: test_plain (signals.tests.PlainTests.test_plain)
----------------------------------------------------------------------
AssertionError

======================================================================
ERROR: setUpModule (signals.other)
----------------------------------------------------------------------
ValueError

======================================================================
UNEXPECTED SUCCESS: test_odd (update.tests.OddTests.test_odd)
UNEXPECTED SUCCESS: test_even (update.tests.OddTests.test_even)
----------------------------------------------------------------------
Ran 9 tests in 1.234s

FAILED (failures=3, errors=3, skipped=1, expected failures=1, unexpected successes=2)
Destroying test database for alias 'default'...
"""


def test_parse_failures():
    """Each kind of failure gives the label under which it can be rerun."""
    assert parse_failures(OUTPUT) == [
        Failure("update.tests.BrokenTests", False),
        Failure("nosuch.tests", True),
        Failure("update.tests.SubTests.test_sub", False),
        Failure("signals.tests.PlainTests.test_plain", False),
        Failure("signals.other", False),
        Failure("update.tests.OddTests.test_odd", False),
        Failure("update.tests.OddTests.test_even", False),
    ]


@pytest.mark.parametrize(
    "output, counts",
    [
        (OUTPUT, Counts(9, 8, 1)),
        ("Ran 1 test in 0.001s\n\nOK\n", Counts(1, 0, 0)),
        ("Ran 7 tests in 9.1s\n\nOK (skipped=5)\n", Counts(7, 0, 5)),
        ("Ran 0 tests in 0.000s\n\nNO TESTS RAN\n", None),
        ("Ran 7 tests in 9.1s\n\nKilled\n", None),
        ("..........", None),
        ("", None),
    ],
)
def test_parse_counts(output, counts):
    """The summary is read; where there is none there are no counts."""
    assert parse_counts(output) == counts


def test_progress():
    """The progress is the number of unittest's dots and letters."""
    assert count_dots(OUTPUT) == 8


def test_progress_never_goes_back(monkeypatch, tmp_path, capsys):
    """Text that a test prints into a line of dots doesn't lower the number."""
    counts, enough = [5, 3], tmp_path / "enough"

    def fewer_dots(output):
        count = counts.pop(0)
        if not counts:
            counts.append(count)
            enough.touch()
        return count

    code = (
        "import os, sys, time\n"
        "end = time.monotonic() + 30\n"
        "while not os.path.exists(sys.argv[1]) and time.monotonic() < end:\n"
        "    time.sleep(0.01)\n"
    )
    command = [sys.executable, "-c", code, str(enough)]
    monkeypatch.setattr(series, "runtests_command", lambda *args: command)
    monkeypatch.setattr(series, "PROGRESS_SECONDS", 0.01)
    monkeypatch.setattr(series, "count_dots", fewer_dots)
    (tmp_path / "tests").mkdir()
    target = series.Target("sqlite", "test_sqlite", {})
    series.run_logged([], target, tmp_path, tmp_path / "log", 1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1 and all(line.endswith(": 5 tests ran") for line in lines)


def test_labels(repo):
    """Labels of Django's tests are run in the checkout."""
    output = repo.run("test", "update.tests.UpdateTests")
    assert output.returncode == 0 and "Ran 3 tests" in output.stderr
    assert "The tests passed." in output.stdout


def test_failing_label(repo):
    """A failing label fails the command."""
    repo.edit("django/tests/update/tests.py", "        pass", "        1 / 0")
    repo.edit("django/tests/update/tests.py", '@unittest.skip("always")', "")
    assert "Tests FAILED." in repo.bad("test", "update")
    assert "The tests passed." in repo.good("test", "other")


def test_touched_labels_after_each_patch(repo):
    """Without labels the touched ones are run, here after each patch."""
    done = repo.run("test", "--each")
    assert done.returncode == 0
    first, second = done.stdout.split("\nAfter ")[1:]
    assert "Added the signals." in first and "Sent the signals" in second
    assert done.stdout.count("Django's tests on sqlite: update\n") == 2
    # The tree of the first patch does not have the test of the second.
    assert done.stderr.index("Ran 2 tests") < done.stderr.index("Ran 3 tests")


def test_each_names_the_failing_patch(repo):
    """A patch which breaks its tests is named, also if a later one mends."""
    query = repo.checkout / "django" / "query.py"
    good = query.read_text()
    for message, text in (("Refs #22543 -- Broke.", "x"), ("Mended.", good)):
        query.write_text(text)
        repo.git("commit", "--quiet", "--all", "-m", message)
    repo.good("export")
    output = repo.bad("test", "--each")
    assert output.count("FAILED after") == 1
    assert "Refs #22543 -- Broke." in output.partition("FAILED after")[2].split("\n")[0]


@pytest.mark.parametrize("label", ["nosuch", "tests/nosuch.py", "tests/../series.py"])
def test_unknown_label(repo, label):
    """An unknown label is refused, with those which are known."""
    output = repo.bad("test", label)
    assert f"unknown label: {label}" in output
    assert "the series touches: update" in output and "2 in all" in output


def test_unknown_database(repo):
    """An unknown database is refused, with those which are known."""
    output = repo.bad("test", "--db", "oracle")
    assert "unknown database: oracle" in output and "sqlite" in output


def test_without_apply(repo):
    """Without the checkout or .venv the tests say to run apply."""
    (repo.root / ".venv" / "series.json").unlink()
    assert "run: python3 series.py apply" in repo.bad("test")


def test_full(repo):
    """The whole suite ends with a line of counts."""
    assert "3 passed, 0 failed, 2 skipped\n" in repo.good("test", "--full")


def test_full_with_a_known_failure(repo):
    """What fails on the unpatched tree too is named and does not count."""
    # It looks for a file which neither tree has where it is run.
    test = "        import os; assert os.path.exists('/nosuch')\n"
    for path in ("tests/update/tests.py", "tests/other/tests.py"):
        repo.edit(
            f"django/{path}", "        self.assertIn", test + "        self.assertIn"
        )
    base_like(repo, "tests/update/tests.py")
    output = repo.bad("test", "--full")
    name = "tests.UpdateTests.test_update"
    assert f"update.{name}: fails on unpatched Django 6.1.3 too" in output
    assert f"other.{name}: FAILS WITH THE SERIES ONLY" in output
    repo.git("checkout", "--quiet", "tests/other/tests.py")
    output = repo.good("test", "--full")
    assert f"update.{name}: fails on unpatched" in output and "1 failed" in output


def base_like(repo, path):
    """
    Make the base of the copy have the checkout's version of a file.

    The tag is moved, and so is the tree in upstream.toml.
    """
    old = repo.git("rev-parse", "upstream/6.1.3^{tree}")
    repo.git("read-tree", "upstream/6.1.3")
    repo.git("add", path)
    new = repo.git("write-tree")
    commit = repo.git("commit-tree", new, "-m", "Base.")
    repo.git("tag", "--force", "upstream/6.1.3", commit)
    repo.git("reset", "--quiet")
    repo.edit("upstream.toml", old, new)


def test_full_with_a_new_test_which_fails(repo):
    """A test which the unpatched tree does not have cannot fail there."""
    repo.edit(
        "django/tests/update/tests.py",
        "    def test_sent(self):\n        pass",
        "    def test_sent(self):\n        self.fail()",
    )
    output = repo.bad("test", "--full")
    assert "update.tests.UpdateTests.test_sent: FAILS WITH THE SERIES ONLY" in output
    assert "2 passed, 1 failed, 2 skipped" in output


def test_full_with_a_module_which_cannot_be_imported(repo):
    """A test module which cannot be imported fails the suite."""
    (repo.checkout / "tests" / "other" / "tests_new.py").write_text("import nosuch\n")
    output = repo.bad("test", "--full")
    assert "other.tests_new: FAILS WITH THE SERIES ONLY" in output


@pytest.mark.parametrize("status", [0, 1, 139])
def test_full_crash(repo, status):
    """A run without a summary fails whatever its exit status."""
    repo.edit(
        "django/tests/runtests.py",
        "import argparse",
        f"import os; print('..', flush=True); os._exit({status})",
    )
    output = repo.bad("test", "--full")
    assert f"ended with status {status} and without a result" in output


def test_full_takes_no_labels(repo):
    """--full with a label is a usage error, and so is --full --each."""
    for extra in ("update", "--each"):
        assert "usage" in repo.bad("test", "--full", extra, status=2)
