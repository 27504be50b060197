"""What the short form of "series.py bench" must find, and how it reports."""

import contextlib
import os
import shutil
import sys
from argparse import Namespace

import pytest

from benchmarks import counts, text
from tools import DJANGO, ROOT, bench
from tools.checkout import state
from tools.common import Error, run, upstream
from tools.git import tree_of

UPDATE = "        with transaction.mark_for_rollback_on_error(using=compiler.using):\n"
CLONE = f"        self._clone()\n{UPDATE}"
ATOMIC = "        with transaction.atomic(using=self.db, savepoint=False):\n"

needs_checkout = pytest.mark.skipif(
    "SERIES_SLOW" not in os.environ
    or not (DJANGO / ".git").is_dir()
    or state() != ""
    or not shutil.which("valgrind"),
    reason="takes minutes, and needs SERIES_SLOW=1 and valgrind",
)


@pytest.fixture(scope="module")
def base():
    """The base's tree."""
    with tree_of(upstream()["tag"], "django") as tree:
        yield tree


@pytest.fixture
def judge(base, tmp_path):
    """Give a function that judges the series, changed in QuerySet.update()."""

    def run(replacement):
        shutil.copytree(DJANGO / "django", tmp_path / "django")
        path = tmp_path / "django" / "db" / "models" / "query.py"
        code = path.read_text(encoding="utf-8")
        head, update, rest = code.partition("    def update(self, **kwargs):\n")
        assert UPDATE in rest
        changed = head + update + rest.replace(UPDATE, replacement, 1)
        path.write_text(changed, encoding="utf-8")
        return counts.judge(counts.collect(base, tmp_path, ["update_1"], seeds=2))

    return run


@needs_checkout
def test_clone_fails(judge):
    """A clone without receivers is found by the instructions alone."""
    failures = judge(CLONE)
    assert len(failures) == 2
    assert all("times the instructions" in failure for failure in failures)


@needs_checkout
def test_transaction_fails(judge):
    """A transaction without receivers is found by the statements."""
    failures = judge(ATOMIC)
    found = [failure for failure in failures if "other statements" in failure]
    assert len(found) == 2
    assert "BEGIN; UPDATE" in found[0]


def found(instructions=1000, none=("U",), pre_update=None, post_update=None):
    """Return a result of collect() for one operation."""
    around = ["BEGIN", "U", "COMMIT"]
    return {
        "unpatched": {"one": {"statements": ["U"], "instructions": [1000] * 3}},
        "none": {"one": {"statements": [*none], "instructions": [instructions] * 3}},
        "other": {"one": {"statements": ["U"], "instructions": [1000] * 3}},
        "pre_update": {"one": {"statements": pre_update or around}},
        "post_update": {"one": {"statements": post_update or around}},
    }


@pytest.mark.parametrize(
    "changes, word",
    [
        ({}, None),
        ({"instructions": 1010}, None),
        ({"instructions": 1011}, "1.0110 times the instructions"),
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
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    code = (ROOT / "benchmarks" / "report.py").read_text(encoding="utf-8")
    names = [match[2] for match in text.MARKER.finditer(page)]
    assert len(names) == len(set(names)) > 5
    for name in names:
        assert f'    "{name}": {name},\n' in code


def test_short_takes_no_names():
    code = "import series; series.parse_arguments(['bench', '--short', 'unused'])"
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
        short=False, names=["unused"], db=["sqlite", "mysql"], write=False
    )
    with pytest.raises(Error, match="no mysql server"):
        bench.bench(options)
    assert measured == []
