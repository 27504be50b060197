"""What the short form of "series.py bench" must find, and how it reports."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace

import pytest

from benchmarks import counts, text
from tools import DJANGO, ROOT, bench
from tools.checkout import state
from tools.common import Error, clean_environment, run, upstream
from tools.environment import ensure
from tools.git import tree_of

PAGE_PATH = ROOT / "docs" / "performance.md"
CHANGED = """

def changed(self, *args, update=QuerySet.update, **kwargs):
    {}
        return update(self, *args, **kwargs)


QuerySet.update = changed
"""
CLONE = "if self._clone() is not None:"
ATOMIC = "with transaction.atomic(savepoint=False):"

slow = pytest.mark.skipif(
    "SERIES_SLOW" not in os.environ or not (DJANGO / ".git").is_dir() or state() != "",
    reason="takes minutes, and needs SERIES_SLOW=1 and django/",
)
valgrind = pytest.mark.skipif(not shutil.which("valgrind"), reason="needs valgrind")


@pytest.fixture(scope="module")
def base():
    """The base's tree."""
    with tree_of(upstream()["tag"], "django") as tree:
        yield tree


@pytest.fixture
def judge(base, tmp_path):
    """Give a function that judges the series, with update() in a statement."""

    def run(statement):
        shutil.copytree(DJANGO / "django", tmp_path / "django")
        with open(tmp_path / "django/db/models/query.py", "a") as file:
            file.write(CHANGED.format(statement))
        failures = counts.judge(counts.collect(base, tmp_path, ["update_ready"], 1))
        unused = tuple(f"update_ready, {counts.WITH[kind]}" for kind in counts.UNUSED)
        return [failure for failure in failures if failure.startswith(unused)]

    return run


@slow
@valgrind
def test_clone_fails(judge):
    """A clone without receivers is found by the instructions alone."""
    failures = judge(CLONE)
    assert len(failures) == 2
    assert all("times the instructions" in failure for failure in failures)


@slow
@valgrind
def test_transaction_fails(judge):
    """A transaction without receivers is found by the statements."""
    failures = judge(ATOMIC)
    found = [failure for failure in failures if "other statements" in failure]
    assert len(found) == 2
    assert "BEGIN; UPDATE" in found[0]


def measure(base, directory, *arguments):
    """Start a measurement on SQLite."""
    command = [ensure("bench"), "-m", "benchmarks.measure", base, DJANGO, directory]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env=clean_environment(SERIES_DB="sqlite"),
        stdout=subprocess.PIPE,
        text=True,
        # A job in the background of a shell ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@slow
def test_stopped(base, tmp_path):
    """A measurement that is stopped prints and keeps what it has."""
    path = tmp_path / "sqlite-used.json"
    with measure(base, tmp_path, "used") as process:
        while not path.exists() and process.poll() is None:
            time.sleep(0.1)
        # What comes next takes longer.
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert "| SQLite | 1 |" in printed
    assert '"keys/1"' in path.read_text()


@slow
def test_report(base, tmp_path):
    """Each suite prints its table, which also gets its place in the page."""
    suites = ("unused", "used", "peers", "memory")
    with measure(base, tmp_path, "--fast", *suites) as process:
        printed = process.communicate()[0]
    assert process.returncode == 0
    page = tmp_path / "page.md"
    shutil.copy(PAGE_PATH, page)
    command = [ensure("bench"), "-m", "benchmarks.report", tmp_path, page]
    assert run(*command).returncode == 0
    tables = [table.strip() for table in printed.split("\n\n") if table.strip()]
    assert len(tables) == len(suites)
    assert all(table in page.read_text(encoding="utf-8") for table in tables)


def found(instructions=1000, none=("U",), used=1000, pre_update=None, post_update=None):
    """Return a result of collect() for one operation."""
    around = ["BEGIN", "U", "COMMIT"]
    statements = {
        "unpatched": ["U"],
        "none": [*none],
        "other": ["U"],
        "pre_update": pre_update or around,
        "post_update": post_update or around,
    }
    numbers = {"unpatched": 1000, "none": instructions, "other": 1000}
    numbers |= {"pre_update": used, "post_update": 1000, "transaction": 9000}
    return {
        "statements": {"update_ready": statements},
        "instructions": {
            "update_ready": {kind: [number] * 3 for kind, number in numbers.items()}
        },
    }


@pytest.mark.parametrize(
    "changes, word",
    [
        ({}, None),
        ({"instructions": 1011}, "1.0110 ± 0.0000 times the instructions"),
        ({"used": 2000}, None),
        ({"used": 2001}, "2.0010 ± 0.0000 times the instructions"),
        ({"none": ("U", "U")}, "other statements"),
        ({"pre_update": ["BEGIN", "U RETURNING", "COMMIT"]}, "pre_update"),
        ({"post_update": ["BEGIN", "U RETURNING", "COMMIT"]}, None),
        ({"post_update": ["BEGIN", "SELECT", "U", "COMMIT"]}, "2 statements"),
        ({"post_update": ["BEGIN", "SAVEPOINT", "U", "RELEASE", "COMMIT"]}, "4 around"),
    ],
)
def test_judge(changes, word):
    """Each promise about instructions and statements is checked."""
    failures = counts.judge(found(**changes))
    assert [word in failure for failure in failures] == [True] * bool(word)


def test_spread_is_left_out():
    """A ratio counts as more only if it's by more than its spread."""
    counted = found()
    numbers = counted["instructions"]["update_ready"]
    numbers["none"] = [1014, 1015, 1020]
    assert len(counts.judge(counted)) == 1
    numbers["none"] = [1008, 1014, 1020]
    assert counts.judge(counted) == []


def test_table_of_what_was_counted():
    """After Ctrl-C, the table has the lines of what was counted until then."""
    counted = found()
    counted["statements"]["save"] = {}
    counted["instructions"]["save"] = {"none": [1]}
    del counted["instructions"]["update_ready"]["pre_update"]
    table = counts.tables(counted)
    assert "1.0000 ± 0.0000 | 1.01: met | the same" in table
    assert "pre_update" not in table and "save" not in table


def test_progress(capsys):
    """The time that is left follows the weights of what is done."""
    progress = text.Progress(40)
    progress.say("first")
    progress.started -= 10
    progress.add(4)
    progress.say("second")
    progress.pause = 60
    progress.say("too soon")
    said = capsys.readouterr().err
    assert said == "  first\n  second; about 90 s left\n".replace("90 s", "2 min")


def test_paired():
    """A ratio is of what was measured in the same round."""
    # The machine is half as fast in the second process.
    median, spread = text.paired([[2, 2], [4, 4]], [[1, 1], [2, 2]])
    assert (median, spread) == (2, 0)
    # What was measured fewer times is compared in these rounds.
    assert text.paired([[3], [3]], [[1, 9], [1, 9]]) == (3, 0)


def test_middle():
    """One outlier changes neither the median nor the spread."""
    assert text.middle([1, 2, 3, 4, 1000]) == (3, 1)


@pytest.mark.parametrize(
    "value, words",
    [(2, "2 s"), (0.5, "500 ms"), (0.00012, "120 µs"), (4321, "4321 s")],
)
def test_seconds(value, words):
    """Times have a unit that fits."""
    assert text.seconds(value) == words


PAGE = """\
Prose.
<!-- bench: one -->
old
<!-- end -->
More.
<!-- bench: two -->
old
<!-- end -->
"""


def test_replace_sections():
    """Only what is between the markers of a section changes."""
    new = text.replace_sections(PAGE, {"one": "new\n"})
    assert new == PAGE.replace("old", "new", 1)
    assert text.replace_sections(new, {"one": "new"}) == new


def test_replace_sections_without_markers():
    """A section without a place is an error, so that no result is lost."""
    with pytest.raises(text.Missing, match="three"):
        text.replace_sections(PAGE, {"three": "new"})


def test_page_has_all_sections():
    """docs/performance.md has a place for each table."""
    page = PAGE_PATH.read_text(encoding="utf-8")
    code = (ROOT / "benchmarks" / "report.py").read_text(encoding="utf-8")
    names = [match[2] for match in text.MARKER.finditer(page)]
    sections = re.findall(r'^    "(\w+)": \(\w+, "', code, re.M)
    assert sorted(names) == sorted([*sections, "counts", "machine"])


@pytest.mark.parametrize("arguments", [["--short", "used"], ["--fast", "--write"]])
def test_excluded_arguments(arguments):
    """Limits need all counts, and the page no rough numbers."""
    code = f"import series; series.parse_arguments({['bench', *arguments]})"
    done = run(sys.executable, "-c", code)
    assert done.returncode == 2 and "not allowed with" in done.stderr


def test_missing_server(monkeypatch):
    """A server that's missing is found before anything is measured."""
    measured = []

    @contextlib.contextmanager
    def server(name):
        if name == "mysql":
            raise Error("no mysql server")
        yield {}

    monkeypatch.setattr(bench, "server", server)
    monkeypatch.setattr(bench, "base", lambda whole: "HEAD")
    monkeypatch.setattr(bench, "ensure", lambda *groups: sys.executable)
    monkeypatch.setattr(bench, "tree_of", lambda *args: contextlib.nullcontext())
    monkeypatch.setattr(bench, "execute", lambda *args: measured.append(args) or 0)
    options = Namespace(
        short=False, fast=False, names=["unused"], db=["sqlite", "mysql"], write=False
    )
    with pytest.raises(Error, match="no mysql server"):
        bench.bench(options)
    assert measured == []
