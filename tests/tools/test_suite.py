"""What "series.py test" runs and reports, on the tiny Django."""

import json
import signal
import subprocess
import sys
import time

import pytest

from conftest import ROOT

TEST = "update.tests.UpdateTests.test_update"
UPDATE, OTHER = "django/tests/update/tests.py", "django/tests/other/tests.py"
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
    repo.edit(path, "self.assertIn", f"{statement}; self.assertIn")


def test_labels(repo):
    """A label of Django's tests is run, and each test is reported."""
    output = repo.good("test", "update")
    assert "Django's update on sqlite" in output
    assert "2 passed, 0 failed, 1 skipped\n" in output and "The tests passed." in output
    assert not [*repo.root.glob(".work/test-*")]
    # What is left to look at if a test fails.
    break_test(repo, OTHER)
    output = repo.bad("test", "update", "other")
    (place,) = repo.root.glob(".work/test-*")
    assert f"is in .work/{place.name}/" in output
    text = (place / "tests.jsonl").read_text()
    first, *tests, last = [json.loads(line) for line in text.splitlines()]
    assert first == {"found": 5} and last == {"passed": 2, "failed": 1, "skipped": 2}
    assert {"test": TEST, "outcome": "passed", "text": ""} in tests
    assert [x["text"] for x in tests if x["outcome"] == "skipped"] == ["always"] * 2
    # The next run deletes it, when that run has ended.
    repo.bad("test", "other")
    assert not place.exists()


def test_failures(repo):
    """
    Each kind of failure is reported with the label that runs it again, unless
    it fails on the unpatched tree, too.
    """
    for path in (UPDATE, OTHER):
        break_test(repo, path)
    old = repo.git("rev-parse", "upstream/6.1.3^{tree}")
    new = repo.shell("""git read-tree upstream/6.1.3; git add tests/update/tests.py
        git tag -f upstream/6.1.3 `git commit-tree -m Base. $(git write-tree)` >&2
        git write-tree; git reset -q""")
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


SKIPS = """
import pytest

def test_one():
    pytest.skip("needs this")

@pytest.mark.skipif(True, reason="needs that")
@pytest.mark.parametrize("number", range(3))
def test_three(number):
    pass
"""


def test_skips(tmp_path):
    """What tests need that were skipped has a line each, with their number."""
    (tmp_path / "test_skips.py").write_text(SKIPS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tools.skips", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "3 skipped: needs that\n1 skipped: needs this\n" in done.stdout


def test_each(repo):
    """
    The touched labels are run after each patch, and for each directory, but
    not twice on the same code, and not on what "test" runs.
    """
    repo.edit("patches/series.toml", 'after = ["lines"]', "after = []")
    good = (repo.checkout / "django" / "query.py").read_text()
    repo.commit("Broke.", {"django/query.py": "x"})
    repo.commit("Described.", {"docs/new.txt": "x"})
    repo.commit("Mended.", {"django/query.py": good})
    output = repo.bad("test", "--each")
    lines, first, broken, alone = output.split(": Testing ")[1:]
    assert "1 of 4" in output and "Sent the signals" not in output
    assert "Changed a line." in lines and "1 passed, 0 failed, 1 skipped" in lines
    # The tree of the first patch does not have the test of the second.
    assert "Added the signals." in first and "1 passed, 0 failed, 1 skipped" in first
    # What one breaks is named, also if a later one mends it.
    assert output.count("FAILED after") == 1 and "FAILED after" in broken
    assert alone.startswith("with signals and only what it needs\n")
    assert "2 passed, 0 failed, 1 skipped" in alone


WAIT = """import os, time
        end = time.monotonic() + 300
        while not os.path.exists("go") and time.monotonic() < end:
            time.sleep(0.1)
        pass"""


def test_two_at_once(repo):
    """
    Readers of django/ run at once, each with its own files. What changes it
    waits for none of them: it's refused, and so are they while it is at work.
    """
    break_test(repo, OTHER, WAIT)
    command = sys.executable, repo.root / "series.py", "test", "other"
    process = repo.start(*command)
    deadline = time.monotonic() + 60
    while not [*repo.root.glob(".work/test-*/tests.jsonl")]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "2 passed, 0 failed, 1 skipped\n" in repo.good("test", "update")
    repo.good("check")
    for command in ("apply", "export", "rebase .", "version 7.0", "pr lines ."):
        assert "another series.py is at work" in repo.refuses(*command.split())
    # Nor is .venv made anew below its feet.
    with (repo.root / "requirements" / "django.txt").open("a") as file:
        file.write("second==1.0\n")
    assert "another series.py is at work" in repo.refuses("test", "update")
    (repo.checkout / "tests" / "go").touch()
    output, _ = process.communicate()
    assert "1 passed, 0 failed, 1 skipped\n" in output and not process.returncode


def test_wrong_labels(repo):
    """
    What is unknown is refused, with what the series touches; so is what isn't
    applied whole. Without labels the touched ones are run, and our own tests.
    """
    for label in ("nosuch", "tests/nosuch.py", "tests/../series.py"):
        output = repo.refuses("test", label)
        assert f"unknown label: {label}" in output and "touches: update\n" in output
    path = "tests/series/scenario.py"
    assert path in repo.refuses("test", path, "--receivers", "quiet")
    output = repo.bad("test")
    assert "This takes about" in output and "Django's update on sqlite" in output
    # The tiny .venv has no pytest.
    assert "This repository's tests on sqlite" in output and "No module" in output
    output = repo.good("test", "--receivers", "audit")
    assert "Django's update on" in output and "This repository's" not in output
    (repo.checkout / ".git" / "series-state").write_text("applying")
    assert "Run: python3 series.py apply" in repo.refuses("test")


END = "import os; print('..', flush=True); os._exit({})"


@pytest.mark.parametrize(
    "path, old, new",
    [
        ("django/tests/runtests.py", "import argparse", END.format(0)),
        (OTHER, "self.assertIn", f"{END.format(0)}; self.assertIn"),
        (OTHER, "self.assertIn", f"{END.format(139)}; self.assertIn"),
        (OTHER, "unittest.TestCase", "object"),
    ],
)
def test_no_result(repo, path, old, new):
    """A run without a summary or a test fails, whatever its status."""
    repo.edit(path, old, new)
    assert "without a result" in repo.bad("test", "other")


def test_progress_and_interrupt(repo):
    """Progress is shown, and after Ctrl-C no test goes on."""
    repo.edit("tools/suite.py", "PROGRESS_SECONDS = 10", "PROGRESS_SECONDS = 0.1")
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    break_test(repo, statement=code)
    process = repo.start(sys.executable, repo.root / "series.py", "test", "update")
    assert any("s: 2 of 3 tests" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in error
    repo.shell("timeout 20 tail --pid=`cat tests/pid` -f /dev/null")


@pytest.mark.parametrize(
    "table, mode, broken, good, text",
    [
        ("quiet audit", "quiet", True, True, ", 1 excused\n"),
        ("audit", "audit", True, True, f"{TEST}: fails, as expected: looks at SQL"),
        ("audit", "quiet", True, False, f"{TEST}: {ONLY}"),
        ("sqlite", "quiet", True, True, ", 1 excused\n"),
        ("mariadb mysql", "quiet", True, False, f"{TEST}: {ONLY}"),
        ("quiet", "quiet", False, False, f"{TEST} passes, but is in receivers.toml"),
    ],
)
def test_exceptions(repo, table, mode, broken, good, text):
    """A test that is listed may fail, and must."""
    if broken:
        break_test(repo)
    listed = f'["{table}"]\n"{TEST}" = "looks at SQL"\n'
    (repo.root / "tests/series/receivers.toml").write_text(listed)
    repo.good("test", "other", "--receivers", mode)
    output = (repo.good if good else repo.bad)("test", "update", "--receivers", mode)
    assert text in output


PROBLEM = 'run(test, result); report(test="x", problem="y")'


@pytest.mark.parametrize(
    "name, old, new, label, text",
    [
        ("receivers.py", "updates=2", "updates=0", "--full", "not connected"),
        ("receivers.py", "TestCase.run = r", "x = r", "other", "not connected"),
        ("receivers.py", "run(test, result)", PROBLEM, "other", "x: y"),
        ("receivers.toml", "[audit]", "[quiet]\nx = 'y'", "--full", "x doesn't exist"),
        ("receivers.toml", "[audit]", "[audit", "other", "without a result"),
    ],
)
def test_wrong_receivers(repo, name, old, new, label, text):
    """What's wrong with the receivers themselves fails the run."""
    repo.edit(f"tests/series/{name}", old, new)
    assert text in repo.bad("test", label, "--receivers", "quiet")
