"""Every kind of fault that "series.py lint" must find, with the real tools."""

import os
import shutil

import pytest

from tools import environment, lint

CONF = """
import sys

extensions = ["sphinx.ext.intersphinx", "sphinxcontrib.spelling"]
extensions = extensions[: 1 + ("spelling" in sys.argv)]
spelling_lang, spelling_warning = "en_US", True
spelling_word_list_filename = "spelling_wordlist"
source_suffix = {".txt": "restructuredtext"}
root_doc = "contents"
intersphinx_mapping = {"python": ("http://127.0.0.1:9/", None)}
"""
LINTER = """
import sys
if any(len(line) > 79 for line in open("contents.txt")):
    sys.exit("contents.txt: Line too long")
"""
DOC = "=====\nTitle\n=====\n\nA :class:`json.JSONDecoder` and :ref:`old-label`.\n"
CODE = "\n.. code-block:: python\n\n    x = 'y'\n"
KNOWN = "\nA blorptastic :class:`json.JSONEncoder`, :ref:`old-label`.\n"
GOOD = "Fixed #22543 -- Added a line."
BASE = {
    "docs/conf.py": CONF,
    "docs/lint.py": LINTER,
    "docs/spelling_wordlist": "blorptastic\n",
    "docs/contents.txt": DOC,
    "django/one.py": "ONE = 1\n",
    ".flake8": "[flake8]\nmax-line-length = 88\nmax-doc-length = 79\n",
}


@pytest.fixture(scope="module")
def python():
    """Give the Python with the real tools, which CI installs."""
    if "SERIES_SLOW" not in os.environ:
        pytest.skip("takes minutes, and needs SERIES_SLOW=1")
    return environment.ensure("lint", "docs")


def lint_one(repo, python, path, text):
    """Commit a file on the base; return the names of the linters that fail."""
    shutil.rmtree(repo.checkout)
    repo.checkout.mkdir()
    repo.git("init", "--quiet")
    repo.commit("Base.", BASE)
    base = repo.git("rev-parse", "HEAD")
    repo.commit(GOOD, {path: text})
    rows = [(repo.git("rev-parse", "HEAD"), 22543, True)]
    (repo.checkout / "django/one.py").write_text("not looked at(\n")
    failures = lint.lint_commits(python, repo.checkout, base, rows)
    return [one.partition(":")[0].removesuffix(".py") for one in failures]


@pytest.mark.parametrize(
    "name, path, text, said",
    [
        ("black", "django/two.py", "TWO = '2'\n", "+TWO"),
        ("isort", "django/two.py", "import sys\nimport os\n\nos, sys\n", "+import"),
        ("flake8", "django/two.py", "import os\n", "F401"),
        ("lint", "docs/contents.txt", DOC + "word " * 17 + "\n", "too long"),
        ("blacken_docs", "docs/contents.txt", DOC + CODE, "Rewriting"),
        ("docs", "docs/contents.txt", DOC + "\n:ref:`gone`\n", "gone"),
        ("docs", "docs/contents.txt", DOC + "\n:func:`foo`\n", "foo"),
        ("docs", "docs/new.txt", "=\nA\n=\n", "toctree"),
        ("docs", "docs/contents.txt", DOC + "\nAn updaet.\n", "contents.txt:7"),
        # A known word, a new reference to Python, whatever the base lacks.
        (None, "docs/contents.txt", DOC + KNOWN, "docs: passed"),
    ],
)
def test_faults(repo, python, capfd, name, path, text, said):
    """A fault is found, in the tool's own words, and nothing else is."""
    found, output = lint_one(repo, python, path, text), capfd.readouterr().out
    if "updaet" in text and lint.NO_SPELLING in output:
        pytest.skip(lint.NO_SPELLING)
    assert (found or [None]) == [name] and said in output, output


@pytest.mark.parametrize("ci", ["true", ""])
def test_no_dictionary(repo, python, monkeypatch, capfd, ci):
    """Without a dictionary a line says what to install; CI fails."""
    for name in ("ENCHANT_CONFIG_DIR", "PYENCHANT_LIBRARY_PATH"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("CI", ci)
    found = lint_one(repo, python, "docs/contents.txt", DOC + "\nAn updaet.\n")
    assert found == (["the spelling needs"] if ci else [])
    assert capfd.readouterr().out.count(lint.NO_SPELLING) == 1


@pytest.mark.parametrize(
    "good, ticket, last, message",
    [
        (False, 22543, True, "Fixed #22543 -- Added a line"),
        (False, 22543, True, "Fixed #1 -- Added a line."),
        (False, 22543, False, GOOD),
        (False, None, True, GOOD),
        (False, 22543, True, f"{GOOD}\nNo blank."),
        (False, 22543, True, f"{GOOD}\n\n" + "long " * 20),
        (True, 22543, True, f"{GOOD}\n\nhttps://example.com/" + "x" * 80),
        (True, 7, True, "Refs #22543 -- Added a line."),
        (True, None, True, "Fixed #XXXXX -- Added a line."),
    ],
)
def test_messages(good, ticket, last, message):
    """A fault in the form of a message is found."""
    assert bool(lint.message_faults(message, ticket, last)) != good
