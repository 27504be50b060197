"""Every kind of fault that "series.py lint" must find, with the real tools."""

import os
import subprocess

import pytest

from conftest import plain_env
from tools import environment, lint

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
    ".flake8": "[flake8]\nmax-line-length = 88\nmax-doc-length = 79\n",
}
CODE = "\n.. code-block:: python\n\n    x = 'y'\n"


@pytest.fixture(scope="module")
def python():
    """Give the Python with the real tools, which CI installs."""
    if os.environ.get("CI") != "true":
        command = [environment.PYTHON, "-c", "import black, flake8, isort, sphinx"]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("the linters are not installed: series.py lint does that")
    return environment.ensure("lint", "docs")


@pytest.fixture
def lint_one(python, tmp_path):
    """Give a function that commits a file on the base and lints the commit."""
    tree = tmp_path / "tree"

    def git(*args):
        args, env = ["git", *args], plain_env(tmp_path)
        done = subprocess.run(args, cwd=tree, env=env, check=True, capture_output=True)
        return done.stdout.decode().strip()

    def commit(files, message):
        for name, text in files.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text)
        git("add", "--all")
        git("commit", "--quiet", "-m", message)
        return git("rev-parse", "HEAD")

    def lint_one(path, text, message=GOOD, ticket=22543, last=True):
        tree.mkdir()
        git("init", "--quiet")
        base = commit(BASE, "Base.")
        rows = [(commit({path: text}, message), ticket, last)]
        (tree / "django/one.py").write_text("not looked at(\n")
        return lint.lint_commits(python, tree, base, rows)

    return lint_one


@pytest.fixture
def spelling(python):
    """Skip a test where there is no dictionary."""
    command = [python, "-c", "import enchant; enchant.Dict('en_US')"]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip(lint.NO_SPELLING)


@pytest.mark.parametrize(
    "name, path, text, said",
    [
        ("black", "django/two.py", "TWO = '2'\n", "+TWO"),
        ("isort", "django/two.py", "import sys\nimport os\n\nos, sys\n", "+import"),
        ("flake8", "django/two.py", "import os\n", "F401"),
        ("flake8", "django/two.py", f'"""{"long " * 15}line."""\n', "W505"),
        ("lint", "docs/contents.txt", DOC + "word " * 17 + "\n", "too long"),
        ("blacken_docs", "docs/contents.txt", DOC + CODE, "Rewriting"),
        ("docs", "docs/contents.txt", DOC + "\n:ref:`gone`\n", "gone"),
        ("docs", "docs/contents.txt", DOC + "\n:nope:`x`\n", "nope"),
        ("docs", "docs/contents.txt", DOC + "\n:func:`foo`\n", "foo"),
        ("docs", "docs/new.txt", "=\nA\n=\n", "toctree"),
    ],
)
def test_faults(lint_one, capfd, name, path, text, said):
    """A fault is found, in the tool's own words, and nothing else is."""
    failures = lint_one(path, text)
    output = capfd.readouterr().out
    assert [one.partition(":")[0] for one in failures] == [name], output
    assert f"  {name}: FAILED" in output and said in output


def test_spelling(lint_one, spelling, capfd):
    """A misspelled word is found, with its place."""
    failures = lint_one("docs/contents.txt", DOC + "\nAn updaet.\n")
    assert [one.partition(":")[0] for one in failures] == ["docs"]
    assert "docs/contents.txt:7" in capfd.readouterr().out


@pytest.mark.parametrize("ci", ["true", ""])
def test_no_dictionary(lint_one, monkeypatch, capfd, ci):
    """Without a dictionary a line says what to install; CI fails."""
    monkeypatch.setenv("CI", ci)
    ours = lint.run
    broken = {"ENCHANT_CONFIG_DIR": "/nonexistent", "PYENCHANT_LIBRARY_PATH": "/no"}

    def run(*args, **kwargs):
        return ours(*args, **kwargs, env=broken)

    monkeypatch.setattr(lint, "run", run)
    text = DOC + "\nAn updaet.\n"
    assert lint_one("docs/contents.txt", text) == ([lint.NO_SPELLING] if ci else [])
    assert capfd.readouterr().out.count(lint.NO_SPELLING) == 1


@pytest.mark.parametrize(
    "message, ticket, last",
    [
        ("Fixed #22543 -- Added a line", 22543, True),
        ("Fixed #1 -- Added a line.", 22543, True),
        ("Fixed #22543 -- Added a line.", 22543, False),
        ("Fixed #22543 -- Added a line.", None, True),
        ("Added a line.", 22543, True),
        ("Fixed #22543 -- Added a line.\nNo blank.", 22543, True),
        ("Fixed #22543 -- Added a line.\n\n" + "long " * 20, 22543, True),
    ],
)
def test_messages(message, ticket, last):
    """A fault in the form of a message is found."""
    assert lint.message_faults(message, ticket, last)


def test_good_messages():
    """What other pull requests may carry is none, nor is a long address."""
    address = "https://example.com/" + "x" * 80
    for message, ticket, last in (
        (f"Fixed #7 -- Added a line.\n\n{address}", 7, True),
        ("Refs #22543 -- Added a line.", 7, True),
        ("Refs #22543 -- Added a line.", None, False),
        ("Fixed #XXXXX -- Added a line.", None, True),
    ):
        assert not lint.message_faults(message, ticket, last)


def test_good(lint_one):
    """
    A good commit passes, whatever the base's docs lack, with a known word and
    a new reference to Python.
    """
    more = "\nA blorptastic :class:`json.JSONEncoder`, :ref:`old-label`.\n"
    assert lint_one("docs/contents.txt", DOC + more) == []


def test_series(repo):
    """The commits in django/ are what is linted, once they are exported."""
    repo.commit("Refs #22543 -- Added more.")
    repo.git("checkout", "--quiet", "--detach")
    assert "django/ is on no branch" in repo.bad("lint")
