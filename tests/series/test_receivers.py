"""
"series.py test --receivers", and the audit of updates.

The driver is tested with the tiny Django, whose receivers only report. The
audit is tested with the real one in django/, in one process for all cases:
each sends signals that break one promise.
"""

import json
import os
import re
import subprocess

import pytest

from conftest import ROOT
from series import CHECKOUT, RECEIVERS, read_report, venv_python

TEST = "update.tests.UpdateTests.test_update"


def break_test(repo):
    """Make a test of the tiny Django fail, with and without the series."""
    repo.edit(
        "django/tests/update/tests.py",
        "        self.assertIn",
        "        self.fail()\n        self.assertIn",
    )


def list_test(repo, mode, test=TEST):
    """List a test as one that fails with receivers."""
    repo.edit(
        "tests/receivers.toml", f"[{mode}]\n", f'[{mode}]\n"{test}" = "looks at SQL"\n'
    )


def test_modes(repo):
    """Labels are run with receivers, and what these report is read."""
    for mode, what in (("quiet", "do nothing"), ("audit", "check every update")):
        output = repo.good("test", "other", "--receivers", mode)
        assert f"Django's other, with receivers that {what}" in output
        # The skipped test is reported by the tiny receivers too.
        assert "told of 4 updates, in 2 tests of 1 packages." in output
        assert "1 passed, 0 failed, 1 skipped" in output


def test_mode_is_passed_on(repo):
    """The receivers are told of the mode and of the database's settings."""
    repo.edit(
        "tests/receivers.py",
        "def report",
        'assert os.environ["SERIES_SETTINGS"] == "test_sqlite"\n'
        'assert os.environ["SERIES_RECEIVERS"] == "audit"\n\n\ndef report',
    )
    repo.good("test", "other", "--receivers", "audit")
    assert "without a result" in repo.bad("test", "other", "--receivers", "quiet")


def test_touched_labels(repo):
    """Without labels the touched ones are run, and no tests of ours."""
    output = repo.good("test", "--receivers", "quiet")
    assert "Django's update, with" in output and "2 passed, 0 failed" in output
    assert "This repository's tests" not in output


def test_full(repo):
    """The whole suite is run with receivers."""
    output = repo.good("test", "--full", "--receivers", "audit")
    assert "Django's whole suite, with" in output
    assert "3 passed, 0 failed, 2 skipped" in output


def test_unknown_mode(repo):
    """An unknown mode is refused, with those which are known."""
    output = repo.bad("test", "--receivers", "loud", status=2)
    assert "'loud'" in output and "quiet" in output and "audit" in output


def test_refused_together(repo):
    """The receivers are for Django's tests, with all the patches."""
    output = repo.bad("test", "tests/scenario.py", "--receivers", "quiet")
    assert "for Django's tests only: tests/scenario.py" in output
    output = repo.bad("test", "--each", "--receivers", "quiet", status=2)
    assert "--each takes no --receivers" in output


def test_listed(repo):
    """A listed test may fail, and is named with its reason."""
    break_test(repo)
    assert f"{TEST}: FAILS" in repo.bad("test", "update", "--receivers", "quiet")
    list_test(repo, "quiet")
    for mode in ("quiet", "audit"):
        output = repo.good("test", "update", "--receivers", mode)
        assert f"{TEST}: fails with receivers, as expected: looks at SQL" in output


def test_listed_for_audit(repo):
    """What's listed for the audit isn't excused with quiet receivers."""
    break_test(repo)
    list_test(repo, "audit")
    repo.good("test", "update", "--receivers", "audit")
    assert f"{TEST}: FAILS" in repo.bad("test", "update", "--receivers", "quiet")


def test_listed_but_passes(repo):
    """A listed test that passes fails the command, if it is run."""
    list_test(repo, "quiet")
    output = repo.bad("test", "update", "--receivers", "quiet")
    assert f"{TEST}: PASSES BUT IS LISTED in tests/receivers.toml" in output
    repo.good("test", "other", "--receivers", "quiet")


def test_listed_but_missing(repo):
    """A listed test that does not exist fails a run of the whole suite."""
    list_test(repo, "quiet", "update.tests.UpdateTests.test_nosuch")
    repo.good("test", "update", "--receivers", "quiet")
    output = repo.bad("test", "--full", "--receivers", "quiet")
    assert "test_nosuch: DOESN'T EXIST BUT IS LISTED" in output


def test_unpatched_failure(repo):
    """What fails on unpatched Django too needn't be listed."""
    test = "        import os; assert os.path.exists('/nosuch')\n"
    repo.edit(
        "django/tests/other/tests.py",
        "        self.assert",
        test + "        self.assert",
    )
    label = "other.tests.UpdateTests.test_update"
    assert f"{label}: FAILS" in repo.bad("test", "other", "--receivers", "quiet")
    old = repo.git("rev-parse", "upstream/6.1.3^{tree}")
    repo.git("read-tree", "upstream/6.1.3")
    repo.git("add", "tests/other/tests.py")
    new = repo.git("write-tree")
    commit = repo.git("commit-tree", new, "-m", "Base.")
    repo.git("tag", "--force", "upstream/6.1.3", commit)
    repo.git("reset", "--quiet")
    repo.edit("upstream.toml", old, new)
    output = repo.good("test", "other", "--receivers", "quiet")
    assert f"{label}: fails on unpatched Django 6.1.3 too" in output


@pytest.mark.parametrize("listed", [False, True])
def test_problem(repo, listed):
    """A problem that the receivers found fails the run, whatever the test."""
    repo.edit(
        "tests/receivers.py", "    run(", '    report(test="x", problem="y")\n    run('
    )
    if listed:
        break_test(repo)
        list_test(repo, "quiet")
    output = repo.bad("test", "update", "--receivers", "quiet")
    assert "x: THE RECEIVERS FOUND A PROBLEM:\n  y" in output


def test_no_updates(repo):
    """A label may have no update, but the whole suite has some."""
    repo.edit("tests/receivers.py", "updates=2", "updates=0")
    output = repo.good("test", "other", "--receivers", "quiet")
    assert "told of 0 updates" in output
    output = repo.bad("test", "--full", "--receivers", "quiet")
    assert "NOT CONNECTED" in output


def test_not_connected(repo):
    """A run in which no test reported itself fails."""
    repo.edit("tests/receivers.py", "    report(test", "    (lambda **kwargs: 0)(test")
    output = repo.bad("test", "other", "--receivers", "quiet")
    assert "NOT CONNECTED" in output


@pytest.mark.parametrize("text", ["[quiet]\n", "[quiet\n", None])
def test_bad_list(repo, text):
    """A list which cannot be read is named, and no test runs."""
    path = repo.root / "tests" / "receivers.toml"
    path.write_text(text) if text else path.unlink()
    output = repo.bad("test", "other", "--receivers", "audit")
    assert "tests/receivers.toml cannot be read" in output
    assert "with receivers" not in output


@pytest.fixture(scope="module")
def audited():
    """Return {case: (text, problems)} of audit_cases.py."""
    if not venv_python().exists() or not (CHECKOUT / "tests").exists():
        pytest.skip("needs django/ and .venv, which series.py apply makes")
    path = os.pathsep.join([str(CHECKOUT), str(ROOT / "tests")])
    done = subprocess.run(
        [str(venv_python()), str(ROOT / "tests" / "audit_cases.py")],
        env={"PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {case: (text, problems) for case, text, problems in json.loads(done.stdout)}


def case_names(decorator):
    """Return the names of the functions with a decorator in audit_cases.py."""
    text = (ROOT / "tests" / "audit_cases.py").read_text(encoding="utf-8")
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


@pytest.mark.parametrize("mode", RECEIVERS)
def test_settings(audited, tmp_path, mode):
    """The receivers are connected in the real runtests.py."""
    report = tmp_path / "report"
    done = subprocess.run(
        [str(venv_python()), "runtests.py", "--settings=receivers", "--parallel=2"]
        + ["update.tests.SimpleTest", "update.tests.AdvancedTests"],
        cwd=CHECKOUT / "tests",
        env={
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(ROOT / "tests")]),
            "SERIES_RECEIVERS": mode,
            "SERIES_SETTINGS": "test_sqlite",
            "SERIES_REPORT": str(report),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    updates, problems = read_report(report)
    assert not problems
    test = "update.tests.AdvancedTests.test_update_multiple_fields"
    assert updates[test] == 1
    assert updates["update.tests.SimpleTest.test_empty_update"] == 1
