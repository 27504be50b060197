"""What "series.py test" runs and reports, on the tiny Django."""

import json
import os
import signal
import sys
import time

import pytest

TEST = "update.tests.UpdateTests.test_update"
UPDATE, OTHER = "django/tests/update/tests.py", "django/tests/other/tests.py"
RECEIVERS = "tests/series/receivers.py"
ONLY = "FAILS WITH THE SERIES ONLY"
CASES = """
class CasesTests(unittest.TestCase):
    def test_subtests(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertEqual(number, 1)

    test_expected = unittest.expectedFailure(lambda self: self.fail())
    test_unexpected = unittest.expectedFailure(lambda self: None)

class BrokenTests(CasesTests):
    def setUpClass():
        raise ValueError
"""


def break_test(repo, path=UPDATE, statement="self.fail('on purpose')"):
    """Make test_update() of the tiny Django fail."""
    repo.edit(
        path, "        self.assertIn", f"        {statement}\n        self.assertIn"
    )


def list_test(repo, table="quiet audit"):
    """List that test as one that fails with receivers."""
    text = f'["{table}"]\n"{TEST}" = "looks at SQL"\n'
    (repo.root / "tests" / "series" / "receivers.toml").write_text(text)


def report(repo, name="tests"):
    """Return the lines of a report."""
    text = (repo.root / ".work" / f"{name}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_labels(repo):
    """A label of Django's tests is run, and each test is reported."""
    output = repo.good("test", "update")
    assert "Django's update on sqlite" in output
    assert "2 passed, 0 failed, 1 skipped\n" in output and "The tests passed." in output
    first, *tests, last = report(repo)
    assert first == {"found": 3} and last == {"passed": 2, "failed": 0, "skipped": 1}
    assert {"test": TEST, "outcome": "passed", "text": ""} in tests
    assert [x["text"] for x in tests if x["outcome"] == "skipped"] == ["always"]


def test_failures(repo):
    """
    Each kind of failure is reported with the label that runs it again, unless
    it fails on the unpatched tree, too.
    """
    for path in (UPDATE, OTHER):
        break_test(repo, path)
    # The base gets what UPDATE is now.
    old = repo.git("rev-parse", "upstream/6.1.3^{tree}")
    repo.git("read-tree", "upstream/6.1.3")
    repo.git("add", "tests/update/tests.py")
    new = repo.git("write-tree")
    commit = repo.git("commit-tree", new, "-m", "Base.")
    repo.git("tag", "--force", "upstream/6.1.3", commit)
    repo.git("reset", "--quiet")
    repo.edit("upstream.toml", old, new)
    (repo.root / UPDATE).write_text((repo.root / UPDATE).read_text() + CASES)
    imports = repo.checkout / "tests" / "other" / "tests_new.py"
    imports.write_text("import nosuch\n")
    output = repo.bad("test", "--full")
    for label in (
        "update.tests.CasesTests.test_subtests",
        "update.tests.CasesTests.test_unexpected",
        "update.tests.BrokenTests",
        "other.tests_new",
        "other.tests.UpdateTests.test_update",
    ):
        assert f"{label}: {ONLY}" in output
    assert f"{TEST}: fails on unpatched Django 6.1.3 too" in output
    assert "AssertionError: on purpose" in output and "(number=2)" in output
    assert "CasesTests.test_expected" not in output
    assert "1 failed as expected" in output and "6 failed" in output
    repo.git("checkout", "--quiet", OTHER.removeprefix("django/"))
    repo.edit(UPDATE, CASES, "")
    imports.unlink()
    output = repo.good("test", "--full")
    assert "Django's whole suite on sqlite" in output and "1 failed" in output


def test_each(repo):
    """The touched labels are run after each patch, and for each directory."""
    output = repo.good("test", "--each")
    lines, first, second = output.split("\nTesting after ")[1:]
    assert "Changed a line." in lines and "1 passed, 0 failed, 1 skipped" in lines
    assert "Added the signals." in first and "1 passed, 0 failed, 1 skipped" in first
    # The tree of the first patch does not have the test of the second.
    assert "Sent the signals" in second and "2 passed, 0 failed, 1 skipped" in second
    assert "only what it needs" not in output
    # What one breaks is named, also if a later one mends it.
    repo.edit("patches/series.toml", 'after = ["lines"]', "after = []")
    good = (repo.checkout / "django" / "query.py").read_text()
    repo.commit("Refs #22543 -- Broke.", {"django/query.py": "x"})
    repo.commit("Mended.", {"django/query.py": good})
    output = repo.bad("test", "--each")
    assert output.count("FAILED after") == 1
    assert "Refs #22543 -- Broke." in output.partition("FAILED after")[2].split("\n")[0]
    alone = output.partition("\nTesting with signals and only what it needs\n")[2]
    assert "2 passed, 0 failed, 1 skipped" in alone


def test_wrong_labels(repo):
    """
    What is unknown is refused, with what the series touches; so is what isn't
    applied whole. Without labels the touched ones are run, and our own tests.
    """
    for label in ("nosuch", "tests/nosuch.py", "tests/../series.py"):
        output = repo.refuses("test", label)
        assert f"unknown label: {label}" in output and "touches: update\n" in output
    path = "tests/series/scenario.py"
    assert "without --receivers" in repo.refuses("test", path, "--receivers", "quiet")
    output = repo.bad("test")
    assert "This takes about" in output and "Django's update on sqlite" in output
    # The tiny .venv has no pytest.
    assert "This repository's tests on sqlite" in output and "No module" in output
    (repo.checkout / ".git" / "series-state").write_text("applying")
    assert "Run: python3 series.py apply" in repo.refuses("test")


END = "import os; print('..', flush=True); os._exit({})"


@pytest.mark.parametrize(
    "path, old, new",
    [
        ("django/tests/runtests.py", "import argparse", END.format(0)),
        (OTHER, "    self.assert", f"    {END.format(0)}\n        self.assert"),
        (OTHER, "    self.assert", f"    {END.format(139)}\n        self.assert"),
        (OTHER, "unittest.TestCase", "object"),
        ("tests/series/receivers.toml", "[audit]", "[audit"),
    ],
)
def test_no_result(repo, path, old, new):
    """
    A run without a summary, or without a test, fails whatever its status.
    """
    repo.edit(path, old, new)
    options = ("--receivers", "quiet") if "receivers" in path else ()
    assert "without a result" in repo.bad("test", "other", *options)


def test_progress_and_interrupt(repo):
    """Progress is shown, and after Ctrl-C no test goes on."""
    repo.edit("tools/suite.py", "PROGRESS_SECONDS = 10", "PROGRESS_SECONDS = 0.1")
    mark = repo.root / "pid"
    code = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid()))"
    break_test(repo, statement=f"{code}; time.sleep(60)")
    process = repo.start(sys.executable, repo.root / "series.py", "test", "update")
    assert any("s: 2 of 3 tests" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in error
    for _ in range(100):
        try:
            os.kill(int(mark.read_text()), 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the tests go on")


def test_receivers(repo):
    """The touched labels, or those given, run with receivers; ours don't."""
    code = "import os; assert os.environ['SERIES_RECEIVERS'] == 'audit'"
    break_test(repo, statement=code)
    output = repo.good("test", "--receivers", "audit")
    assert "Django's update on" in output and "2 passed, 0 failed, 1 skipped" in output
    assert "This repository's tests" not in output
    assert {"test": TEST, "updates": 2} in report(repo, "audit")


@pytest.mark.parametrize(
    "table, mode, good",
    [
        ("quiet audit", "quiet", True),
        ("audit", "audit", True),
        ("audit", "quiet", False),
        ("sqlite", "quiet", True),
        ("mariadb mysql", "quiet", False),
    ],
)
def test_excused(repo, table, mode, good):
    """A listed test may fail, and is named with its reason."""
    break_test(repo)
    list_test(repo, table)
    output = (repo.good if good else repo.bad)("test", "update", "--receivers", mode)
    reason = "fails, as expected: looks at SQL" if good else ONLY
    assert f"{TEST}: {reason}" in output and (", 1 excused" in output) == good


def test_stale(repo):
    """A listed test that passes or doesn't exist fails the run."""
    list_test(repo)
    repo.good("test", "other", "--receivers", "quiet")
    output = repo.bad("test", "update", "--receivers", "quiet")
    assert f"{TEST} passes, but is in receivers.toml" in output
    repo.edit("tests/series/receivers.toml", "test_update", "test_nosuch")
    output = repo.bad("test", "--full", "--receivers", "quiet")
    assert "test_nosuch doesn't exist, but is in receivers.toml" in output


def test_problem(repo):
    """A problem that the receivers found fails the run, whatever the test."""
    repo.edit(RECEIVERS, "    run(", '    report(test="x", problem="y")\n    run(')
    break_test(repo)
    list_test(repo)
    output = repo.bad("test", "update", "--receivers", "quiet")
    assert f"receivers: {ONLY}\n  x: y" in output


def test_not_connected(repo):
    """Receivers that weren't connected fail the run."""
    repo.edit(RECEIVERS, "updates=2", "updates=0")
    # A label may have no update, but the whole suite has some.
    repo.good("test", "other", "--receivers", "quiet")
    assert "not connected" in repo.bad("test", "--full", "--receivers", "quiet")
    repo.edit(RECEIVERS, "    unittest.TestCase.run = reporting_run", "    pass")
    assert "not connected" in repo.bad("test", "other", "--receivers", "quiet")
