"""The branch that "series.py pr" makes in a clone, and what it refuses."""

import shutil
import subprocess

import pytest

from commands import lint
from conftest import FIRST, ROOT, SECOND, TESTS
from test_lint import BASE

BRANCH = "ticket_22543"
NOTES = "docs/releases/6.2.txt"
TEMPLATE = """\
#### Ticket
ticket-XXXXX

#### Branch description
Provide a concise overview of the change.

#### AI Assistance Disclosure (REQUIRED)
- [ ] None.
- [ ] Some.

#### Checklist
- [ ] This PR targets the `main` branch. <!-- Always. -->
- [ ] The commit message is written in past tense, mentions the ticket number, \
and ends with a period (see the guidelines).
- [ ] Something that only the person knows.
- [ ] I have added or updated relevant tests.
- [ ] I have added or updated relevant docs, including release notes if applicable.
"""
MAIN = {
    **BASE,
    ".github/pull_request_template.md": TEMPLATE,
    "AUTHORS": "    Somebody Else <else@example.com>\n",
    "django/__init__.py": 'VERSION = (6, 2, 0, "alpha", 0)\n',
    NOTES: "===\n6.2\n===\n\nSignals\n\n* ...\n",
    "tests/update/tests.py": TESTS.lstrip(),
}


@pytest.fixture(scope="module", autouse=True)
def tools():
    """Install the pinned tools where they aren't there yet."""
    lint.install()


@pytest.fixture
def clone(repo, tmp_path):
    """Give a clone of a Django whose main is newer than the base."""
    (repo.root / "docs").mkdir(exist_ok=True)
    shutil.copy(ROOT / "docs" / "pull-request.md", repo.root / "docs")
    (repo.root / ".work" / "lint").mkdir(parents=True)
    (repo.root / ".work" / "lint" / "venv").symlink_to(lint.ENVIRONMENT)
    # The tools may be those of another Python than the tests.
    text = (repo.root / "upstream.toml").read_text()
    line = next(one for one in text.splitlines() if one.startswith("pythons"))
    repo.edit("upstream.toml", line, 'pythons = ["3.12", "3.13", "3.14"]')
    origin = tmp_path / "origin"
    repo.git("clone", "--quiet", str(repo.checkout), str(origin), cwd=tmp_path)
    repo.git("checkout", "--quiet", "-B", "main", "upstream/6.1.3", cwd=origin)
    commit(repo, origin, MAIN)
    # The notes, for the first patch.
    repo.git("checkout", "--quiet", "-b", "notes", cwd=origin)
    notes = MAIN[NOTES].replace("...", "Signals are sent.")
    commit(repo, origin, {NOTES: notes}, "fixup! Refs #22543 -- Added the signals.")
    options = "--zero-commit --full-index --no-numbered --no-signature".split()
    directory = f"--output-directory={repo.root / 'patches-main'}"
    repo.git("format-patch", *options, directory, "main", cwd=origin)
    repo.git("checkout", "--quiet", "main", cwd=origin)
    for name in ("notes", BRANCH):
        repo.git("branch", "--quiet", "-D", name, cwd=origin)
    clone = tmp_path / "clone"
    repo.git("clone", "--quiet", str(origin), str(clone), cwd=tmp_path)
    return clone


def commit(repo, clone, files, message="Changed main."):
    """Commit files, given as {path: text}, on the branch of the clone."""
    for path, text in files.items():
        file = clone / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    repo.git("add", "--all", cwd=clone)
    repo.git("commit", "--quiet", "-m", message, cwd=clone)


def state(repo, clone):
    """Return the branches of the clone and of its origin, and its changes."""
    origin = clone.parent / "origin"
    return (
        repo.git("for-each-ref", cwd=clone),
        repo.git("for-each-ref", cwd=origin),
        repo.git("symbolic-ref", "HEAD", cwd=clone),
        repo.git("status", "--porcelain", cwd=clone),
    )


def test_branch(repo, clone):
    """
    The branch has a commit for each patch, with its notes, by its author; the
    rest is printed for the person, and nothing is pushed.
    """
    refs, origin, _, _ = state(repo, clone)
    repo.env.update(GIT_COMMITTER_NAME="Bea", GIT_COMMITTER_EMAIL="bea@example.com")
    repo.env.update(GIT_AUTHOR_NAME="Bea", GIT_AUTHOR_EMAIL="bea@example.com")
    output = repo.good("pr", str(clone))
    after = state(repo, clone)
    new = set(after[0].splitlines()) - set(refs.splitlines())
    assert [line.split("\t")[1] for line in new] == [f"refs/heads/{BRANCH}"]
    assert after[1:] == (origin, f"refs/heads/{BRANCH}", "")
    log = repo.git("log", "--format=%an %cn %s", "--name-only", "main..", cwd=clone)
    assert log.split("\n\n") == [
        "Ann Bea Fixed #22543 -- Sent the signals from update().",
        "django/query.py\ntests/update/tests.py\n"
        "Ann Bea Refs #22543 -- Added the signals.",
        f"django/query.py\ndjango/signals.py\n{NOTES}",
    ]
    assert repo.git("log", "-1", "--format=%b", "HEAD~1", cwd=clone) == "A body."
    assert "Signals are sent." in (clone / NOTES).read_text()
    body = (repo.root / ".work" / "pull-request.md").read_text()
    assert body.strip() in output
    assert "\nticket-22543\n" in body and "This adds two signals" in body
    assert "concise overview" not in body
    # Who sends it discloses, and answers for what only a person knows.
    assert body.count("- [x] ") == 4 and body.count("- [ ] ") == 3
    for text in (
        "Disclose",
        "Add yourself to AUTHORS (Bea is",
        f"git push FORK {BRANCH}",
    ):
        assert text in output


def test_squash(repo, clone):
    """--squash makes one commit of the same files, and tells of the others."""
    repo.good("pr", str(clone))
    tree = repo.git("rev-parse", "HEAD^{tree}", cwd=clone)
    repo.git("checkout", "--quiet", "main", cwd=clone)
    repo.git("branch", "--quiet", "-D", BRANCH, cwd=clone)
    repo.good("pr", str(clone), "--squash")
    assert repo.git("rev-parse", "HEAD^{tree}", cwd=clone) == tree
    assert repo.git("rev-parse", "HEAD~1", cwd=clone) == repo.git(
        "rev-parse", "main", cwd=clone
    )
    assert repo.git("log", "-1", "--format=%B", cwd=clone) == (
        "Fixed #22543 -- Sent the signals from update().\n\n"
        "In preparation:\n\n* Added the signals."
    )


def test_known_author(repo, clone):
    """Who is in AUTHORS isn't told to add themselves."""
    commit(repo, clone, {"AUTHORS": "    Ann <ann@example.com>\n"})
    assert "AUTHORS" not in repo.good("pr", str(clone))


def test_replaced_patch(repo, clone):
    """A patch in patches-main/ takes the place of that with its subject."""
    text = (repo.patches / SECOND).read_text()
    text = text.replace('+    return "sent"', '+    return "SENT"')
    (repo.root / "patches-main" / f"0002-{SECOND[5:]}").write_text(text)
    repo.good("pr", str(clone))
    assert 'return "SENT"' in (clone / "django" / "query.py").read_text()
    assert repo.git("rev-list", "--count", "main..", cwd=clone) == "2"


def test_main_has_a_patch(repo, clone):
    """What main has already is left out."""
    lines = (clone / "django" / "query.py").read_text()
    files = {
        "django/query.py": lines.replace("LINE_3 = 3", "LINE_3 = 33"),
        "django/signals.py": "post_update = object()\n",
        NOTES: MAIN[NOTES].replace("...", "Signals are sent."),
    }
    commit(repo, clone, files)
    assert "main has this already; left out" in repo.good("pr", str(clone))
    assert repo.git("rev-list", "--count", "main..", cwd=clone) == "1"


def directory(repo, clone):
    shutil.rmtree(clone / ".git")


def subdirectory(repo, clone):
    return clone / "django"


def nowhere(repo, clone):
    return clone / "nowhere"


def no_main(repo, clone):
    repo.git("branch", "--quiet", "-m", "main", "trunk", cwd=clone)


def other_project(repo, clone):
    commit(repo, clone, {"django/__init__.py": ""})


def old_main(repo, clone):
    text = MAIN["django/__init__.py"].replace("(6, 2", "(6, 1")
    commit(repo, clone, {"django/__init__.py": text})


def branch_exists(repo, clone):
    repo.git("branch", BRANCH, cwd=clone)


def changed_file(repo, clone):
    (clone / "AUTHORS").write_text("")


def new_file(repo, clone):
    (clone / "new.txt").write_text("")


def stranger(repo, clone):
    for name in [name for name in repo.env if name.startswith("GIT_")]:
        del repo.env[name]
    repo.git("config", "user.useConfigOnly", "true", cwd=clone)


def new_template(repo, clone):
    text = TEMPLATE.replace("ticket-XXXXX", "").replace("tests.", "everything.")
    commit(repo, clone, {".github/pull_request_template.md": text})


def conflict(repo, clone):
    text = (clone / "django" / "query.py").read_text()
    commit(repo, clone, {"django/query.py": text.replace('"quiet"', '"silent"')})


def bad_patch(repo, clone):
    repo.edit(f"patches/{FIRST}", "[PATCH] Refs #22543", "[PATCH] Refs #1")


def fault(repo, clone):
    repo.edit(f"patches/{FIRST}", "+post_update = object()", "+post_update=object()")


@pytest.mark.parametrize(
    "prepare, text",
    [
        (directory, "is not the top of a git clone"),
        (subdirectory, "is not the top of a git clone"),
        (nowhere, "is not the top of a git clone"),
        (no_main, "has no branch main"),
        (other_project, "is not Django's"),
        (old_main, "is Django 6.1, which is older"),
        (branch_exists, "has a branch ticket_22543 already"),
        (changed_file, "has uncommitted changes:\n   M AUTHORS"),
        (new_file, "has uncommitted changes:\n  ?? new.txt"),
        (stranger, "does not know who you are"),
        (new_template, 'no "ticket-XXXXX"\n  its checklist has no item: I have added'),
        (conflict, f"patches/{SECOND} does not apply to main:\n  django/query.py"),
        (bad_patch, "patches/ has mistakes"),
        (fault, "the linters found faults:\n  black: "),
    ],
)
def test_refused(repo, clone, prepare, text):
    """What is refused leaves the clone as it is."""
    where = prepare(repo, clone) or clone
    before = state(repo, clone) if (clone / ".git").exists() else None
    assert text in repo.bad("pr", str(where))
    if before:
        assert state(repo, clone) == before


def test_real_text():
    """The sections that go into the template are in docs/pull-request.md."""
    text = (ROOT / "docs" / "pull-request.md").read_text(encoding="utf-8")
    assert "\n## Branch description\n" in text and "\n## Checklist\n" in text


def test_every_file_is_explained():
    """docs/pull-request.md has a section for each patch, naming its files."""
    text = (ROOT / "docs" / "pull-request.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "patches").glob("*.patch")):
        number = path.name[:4]
        _, _, section = text.partition(f"\n### {number} ")
        section = section.partition("\n### ")[0]
        names = subprocess.run(
            ["git", "apply", "--numstat", str(path)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\n")
        for name in filter(None, names):
            name = name.split("\t")[2]
            if name.startswith("django/"):
                short = name.rsplit("/", 1)[1]
                assert f"{short}`" in section, f"{number}: {name}"
