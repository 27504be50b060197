"""Every kind of fault that "series.py lint" must find, with the real tools."""

import subprocess

import pytest

from commands import lint
from conftest import plain_env

CONF = """
import sys

extensions = ["sphinx.ext.intersphinx"]
if "spelling" in sys.argv:
    extensions.append("sphinxcontrib.spelling")
spelling_lang = "en_US"
spelling_word_list_filename = "spelling_wordlist"
spelling_warning = True
source_suffix = {".txt": "restructuredtext"}
root_doc = "contents"
intersphinx_mapping = {"python": ("http://127.0.0.1:9/", None)}
"""
LINTER = """
import pathlib
import sys

text = pathlib.Path("contents.txt").read_text()
if any(len(line) > 79 for line in text.splitlines()):
    sys.exit("contents.txt: Line too long")
"""
DOC = "=====\nTitle\n=====\n\nA :class:`json.JSONDecoder` and :ref:`old-label`.\n"
GOOD = "Fixed #22543 -- Added a line.\n\nWhy."
BASE = {
    "docs/conf.py": CONF,
    "docs/lint.py": LINTER,
    "docs/spelling_wordlist": "blorptastic\n",
    "docs/contents.txt": DOC,
    "django/one.py": "ONE = 1\n",
}


@pytest.fixture(scope="module", autouse=True)
def tools():
    """Install the pinned tools where they aren't there yet."""
    lint.install()


@pytest.fixture
def lint_one(tmp_path, monkeypatch):
    """Give a function which commits a file on the base and lints that."""
    monkeypatch.setattr(lint, "LINT", tmp_path / "lint")
    clone = tmp_path / "clone"

    def git(*args):
        args, env = ["git", *args], plain_env(tmp_path)
        done = subprocess.run(
            args, cwd=clone, env=env, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(files, message):
        for name, text in files.items():
            path = clone / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        git("add", "--all")
        git("commit", "--quiet", "-m", message)
        return git("rev-parse", "HEAD")

    def lint_one(path, text, message=GOOD):
        clone.mkdir()
        git("init", "--quiet")
        base = commit(BASE, "Base.")
        commit({path: text}, message)
        before = git("rev-parse", "HEAD"), git("status", "--porcelain")
        (clone / "django/one.py").write_text("not looked at(\n")
        failures = lint.lint_commits(clone, base, "HEAD")
        # A second run finds the same.
        assert lint.lint_commits(clone, base, "HEAD") == failures
        git("checkout", "django/one.py")
        assert (git("rev-parse", "HEAD"), git("status", "--porcelain")) == before
        return failures

    return lint_one


CODE = "\n.. code-block:: python\n\n    x = 'y'\n"


@pytest.mark.parametrize(
    "name, path, text, said",
    [
        ("black", "django/two.py", "TWO = '2'\n", "+TWO"),
        ("isort", "django/two.py", "import sys\nimport os\n\nos, sys\n", "+import"),
        ("flake8", "django/two.py", "import os\n", "F401"),
        ("flake8", "django/two.py", f'"""{"long " * 15}line."""\n', "W505"),
        ("docs linter", "docs/contents.txt", DOC + "word " * 17 + "\n", "too long"),
        ("blacken-docs", "docs/contents.txt", DOC + CODE, '+    x = "y"'),
        ("docs and spelling", "docs/contents.txt", DOC + "\nAn updaet.\n", "updaet"),
        ("docs and spelling", "docs/contents.txt", DOC + "\n:ref:`gone`\n", "gone"),
        ("docs and spelling", "docs/contents.txt", DOC + "\n:nope:`x`\n", "nope"),
        ("docs and spelling", "docs/contents.txt", DOC + "\n:func:`foo`\n", "foo"),
        ("docs and spelling", "docs/new.txt", "=\nA\n=\n", "toctree"),
    ],
)
def test_faults(lint_one, capfd, name, path, text, said):
    """A fault is found, in the tool's own words, and nothing else is."""
    failures = lint_one(path, text)
    output = capfd.readouterr().out
    assert [one.partition(":")[0] for one in failures] == [name], output
    assert f"  {name}: FAILED" in output and said in output


@pytest.mark.parametrize(
    "message",
    [
        "Fixed #22543 -- Added a line",
        "Fixed #1 -- Added a line.",
        "Fixed #22543 -- Add a line.",
        "Fixed #22543 -- Adding a line.",
        "Fixed #22543 -- Added a line.\nNo blank.",
        "Fixed #22543 -- Added a line.\n\n" + "long " * 20,
    ],
)
def test_messages(lint_one, message):
    """A fault in the form of a message is found."""
    failures = lint_one("django/two.py", "TWO = 2\n", message)
    assert [one.partition(":")[0] for one in failures] == ["message"]


def test_good(lint_one):
    """
    A good commit passes, whatever the base's docs lack, with a known word
    and a new reference to Python.
    """
    more = "\nA blorptastic :class:`json.JSONEncoder`, :ref:`old-label`.\n"
    assert lint_one("docs/contents.txt", DOC + more) == []
