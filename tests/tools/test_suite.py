"""What "series.py test" runs and reports, on the tiny Django."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

TEST = "update.tests.UpdateTests.test_update"
TESTS = "django/tests/update/tests.py"


def break_test(repo, path=TESTS, statement="self.fail('on purpose')"):
    """Make test_update() of the tiny Django fail."""
    new = f"        {statement}\n        self.assertIn"
    repo.edit(path, "        self.assertIn", new)


def list_test(repo, table, test=TEST):
    """List a test as one that fails with receivers."""
    path = "tests/series/receivers.toml"
    repo.edit(path, f"[{table}]\n", f'[{table}]\n"{test}" = "looks at SQL"\n')


def into_base(repo, path):
    """Make the base have the checkout's version of a file."""
    old = repo.git("rev-parse", "upstream/6.1.3^{tree}")
    repo.git("read-tree", "upstream/6.1.3")
    repo.git("add", path)
    new = repo.git("write-tree")
    commit = repo.git("commit-tree", new, "-m", "Base.")
    repo.git("tag", "--force", "upstream/6.1.3", commit)
    repo.git("reset", "--quiet")
    repo.edit("upstream.toml", old, new)


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


def test_failing_label(repo):
    """What fails is shown with its traceback, and fails the command."""
    break_test(repo)
    output = repo.bad("test", "update", "other")
    assert f"{TEST}: FAILS WITH THE SERIES ONLY" in output
    assert "AssertionError: on purpose" in output
    assert "2 passed, 1 failed, 2 skipped" in output and "Tests FAILED." in output
    assert "The tests passed." in repo.good("test", "other")


CASES = """

class CasesTests(unittest.TestCase):
    def test_subtests(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertEqual(number, 1)

    @unittest.expectedFailure
    def test_expected(self):
        self.fail()

    @unittest.expectedFailure
    def test_unexpected(self):
        pass


class BrokenTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise ValueError

    def test_never(self):
        pass
"""


def test_outcomes(repo):
    """Each kind of failure is reported with the label that runs it again."""
    path = repo.root / TESTS
    path.write_text(path.read_text() + CASES)
    (repo.checkout / "tests" / "other" / "tests_new.py").write_text("import nosuch\n")
    output = repo.bad("test", "--full")
    for label in (
        "update.tests.CasesTests.test_subtests",
        "update.tests.CasesTests.test_unexpected",
        "update.tests.BrokenTests",
        "other.tests_new",
    ):
        assert f"{label}: FAILS WITH THE SERIES ONLY" in output
    assert "(number=0)" in output and "(number=2)" in output
    assert "CasesTests.test_expected" not in output
    assert "1 failed as expected" in output and "4 failed" in output


def test_touched_labels(repo):
    """Without labels those that differ from the base's are run, and ours."""
    (repo.root / "tests" / "test_ours.py").write_text("def test(): assert False\n")
    output = repo.bad("test")
    assert "This takes about" in output and "Django's update on sqlite" in output
    # The tiny .venv has no pytest.
    assert "This repository's tests on sqlite" in output and "No module" in output


def test_each(repo):
    """The touched labels are run after each patch, and for each directory."""
    output = repo.good("test", "--each")
    lines, first, second = output.split("\nTesting after ")[1:]
    assert "Changed a line." in lines and "1 passed, 0 failed, 1 skipped" in lines
    assert "Added the signals." in first and "1 passed, 0 failed, 1 skipped" in first
    # The tree of the first patch does not have the test of the second.
    assert "Sent the signals" in second and "2 passed, 0 failed, 1 skipped" in second
    assert "only what it needs" not in output
    repo.edit("patches/series.toml", 'after = ["lines"]', "after = []")
    *_, alone = repo.good("test", "--each").split("\nTesting ")
    assert alone.startswith("with signals and only what it needs\n")
    assert "2 passed, 0 failed, 1 skipped" in alone


def test_each_names_the_failing_patch(repo):
    """A patch which breaks its tests is named, also if a later one mends."""
    query = repo.checkout / "django" / "query.py"
    good = query.read_text()
    for message, text in (("Refs #22543 -- Broke.", "x"), ("Mended.", good)):
        query.write_text(text)
        repo.git("commit", "--quiet", "--all", "-m", message)
    output = repo.bad("test", "--each")
    assert output.count("FAILED after") == 1
    assert "Refs #22543 -- Broke." in output.partition("FAILED after")[2].split("\n")[0]


@pytest.mark.parametrize("label", ["nosuch", "tests/nosuch.py", "tests/../series.py"])
def test_unknown_label(repo, label):
    """An unknown label is refused, with those that the series touches."""
    output = repo.bad("test", label)
    assert f"unknown label: {label}" in output and "touches: update\n" in output
    assert "No test ran." in output


def test_without_apply(repo):
    """What isn't applied whole isn't tested."""
    (repo.checkout / ".git" / "series-state").write_text("applying")
    assert "Run: python3 series.py apply" in repo.bad("test")


def test_full(repo):
    """The whole suite ends with a line of counts."""
    output = repo.good("test", "--full")
    assert "Django's whole suite on sqlite" in output
    assert "3 passed, 0 failed, 2 skipped\n" in output


def test_known_failure(repo):
    """What fails on the unpatched tree too is named and does not count."""
    for name in ("update", "other"):
        break_test(repo, f"django/tests/{name}/tests.py")
    into_base(repo, "tests/update/tests.py")
    output = repo.bad("test", "--full")
    assert "Running 2 that failed on unpatched Django 6.1.3" in output
    assert f"{TEST}: fails on unpatched Django 6.1.3 too" in output
    other = TEST.replace("update.", "other.", 1)
    assert f"{other}: FAILS WITH THE SERIES ONLY" in output
    repo.git("checkout", "--quiet", "tests/other/tests.py")
    output = repo.good("test", "--full")
    assert f"{TEST}: fails on unpatched" in output and "1 failed" in output


def test_new_test_fails(repo):
    """A test which the unpatched tree does not have cannot fail there."""
    old = "    def test_sent(self):\n        pass"
    repo.edit(TESTS, old, old.replace("pass", "self.fail()"))
    output = repo.bad("test", "--full")
    assert "update.tests.UpdateTests.test_sent: FAILS WITH THE SERIES ONLY" in output


@pytest.mark.parametrize("status", [0, 1, 139])
@pytest.mark.parametrize("when", ["before", "in a test"])
def test_crash(repo, status, when):
    """A run without a summary fails whatever its exit status."""
    end = f"import os; print('..', flush=True); os._exit({status})"
    if when == "before":
        repo.edit("django/tests/runtests.py", "import argparse", end)
    else:
        break_test(repo, statement=end)
    output = repo.bad("test", "--full")
    assert f"ended with status {status} and without a result" in output


def test_no_test(repo):
    """A run of no test at all fails."""
    (repo.root / TESTS).write_text("")
    assert "without a result" in repo.bad("test", "update")


def test_progress_and_interrupt(repo):
    """Progress is shown, and after Ctrl-C no test goes on."""
    repo.edit("tools/suite.py", "PROGRESS_SECONDS = 10", "PROGRESS_SECONDS = 0.1")
    mark = repo.root / "pid"
    code = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid()))"
    break_test(repo, statement=f"{code}; time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, repo.root / "series.py", "test", "update"],
        env=repo.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert any("s: 2 of 3 tests" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in error
    pid = int(mark.read_text())
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the tests go on")


@pytest.mark.parametrize("mode", ["quiet", "audit"])
def test_receivers(repo, mode):
    """The touched labels, or those given, run with receivers; ours don't."""
    break_test(
        repo, statement=f"import os; assert os.environ['SERIES_RECEIVERS'] == '{mode}'"
    )
    output = repo.good("test", "--receivers", mode)
    assert "Django's update on" in output and "2 passed, 0 failed, 1 skipped" in output
    assert "This repository's tests" not in output
    assert {"test": TEST, "updates": 2} in report(repo, mode)
    assert "1 passed, 0 failed, 1 skipped" in repo.good(
        "test", "other", "--receivers", mode
    )


def test_receivers_and_paths(repo):
    """The receivers are for Django's tests."""
    output = repo.bad("test", "tests/series/scenario.py", "--receivers", "quiet")
    assert "unknown label: tests/series/scenario.py" in output


def test_excused(repo):
    """A listed test may fail, and is named with its reason."""
    break_test(repo)
    assert f"{TEST}: FAILS" in repo.bad("test", "update", "--receivers", "quiet")
    list_test(repo, '"quiet audit"')
    for mode in ("quiet", "audit"):
        output = repo.good("test", "update", "--receivers", mode)
        assert f"{TEST}: fails, as expected: looks at SQL" in output
        assert "1 passed, 0 failed, 1 skipped, 1 excused" in output
    assert f"{TEST}: FAILS" in repo.bad("test", "update")


@pytest.mark.parametrize("table, good", [("sqlite", True), ("mariadb mysql", False)])
def test_excused_on_a_database(repo, table, good):
    """Tests may be listed for some databases."""
    break_test(repo)
    repo.edit("tests/series/receivers.toml", '["quiet audit"]', f'["{table}"]')
    list_test(repo, f'"{table}"')
    (repo.good if good else repo.bad)("test", "update", "--receivers", "quiet")


def test_excused_for_audit(repo):
    """What's listed for the audit isn't excused with quiet receivers."""
    break_test(repo)
    list_test(repo, "audit")
    repo.good("test", "update", "--receivers", "audit")
    assert f"{TEST}: FAILS" in repo.bad("test", "update", "--receivers", "quiet")


def test_stale(repo):
    """A listed test that passes or doesn't exist fails the run."""
    list_test(repo, '"quiet audit"')
    repo.good("test", "other", "--receivers", "quiet")
    output = repo.bad("test", "update", "--receivers", "quiet")
    assert f"{TEST} passes, but is in receivers.toml" in output
    repo.edit("tests/series/receivers.toml", "test_update", "test_nosuch")
    repo.good("test", "update", "--receivers", "quiet")
    output = repo.bad("test", "--full", "--receivers", "quiet")
    assert "test_nosuch doesn't exist, but is in receivers.toml" in output


@pytest.mark.parametrize("listed", [False, True])
def test_problem(repo, listed):
    """A problem that the receivers found fails the run, whatever the test."""
    path = "tests/series/receivers.py"
    repo.edit(path, "    run(", '    report(test="x", problem="y")\n    run(')
    if listed:
        break_test(repo)
        list_test(repo, '"quiet audit"')
    output = repo.bad("test", "update", "--receivers", "quiet")
    assert "receivers: FAILS WITH THE SERIES ONLY\n  x: y" in output


def test_not_connected(repo):
    """Receivers that weren't connected fail the run."""
    path = "tests/series/receivers.py"
    repo.edit(path, "updates=2", "updates=0")
    # A label may have no update, but the whole suite has some.
    repo.good("test", "other", "--receivers", "quiet")
    assert "not connected" in repo.bad("test", "--full", "--receivers", "quiet")
    repo.edit(path, "    unittest.TestCase.run = reporting_run", "    pass")
    assert "not connected" in repo.bad("test", "other", "--receivers", "quiet")


@pytest.mark.parametrize("text", ["[quiet\n", None])
def test_bad_list(repo, text):
    """A list which cannot be read fails the run."""
    path = repo.root / "tests" / "series" / "receivers.toml"
    path.write_text(text) if text else path.unlink()
    output = repo.bad("test", "other", "--receivers", "audit")
    assert "without a result" in output
