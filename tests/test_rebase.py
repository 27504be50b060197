"""Moving the series to another release, and to a commit of a clone."""

import hashlib
import re
import sys
import tarfile

import pytest

from conftest import FIRST, SDIST, SECOND, VERSION

NEXT = "6.1.4"
SUBJECT = "Fixed #22543 -- Sent the signals from update()."
NOTES = "docs/releases/6.2.txt"


@pytest.fixture
def release(repo, tmp_path):
    """
    Give a function which makes the sdist of another release.

    It takes changes as (path, old text, new text), and returns the sha256.
    """

    def release(*changes):
        links = tmp_path / "links"
        links.mkdir()
        with tarfile.open(f"{repo.env['PIP_FIND_LINKS']}/{SDIST}") as archive:
            archive.extractall(tmp_path, filter="fully_trusted")
        tree = (tmp_path / f"django-{VERSION}").rename(tmp_path / f"django-{NEXT}")
        for name in ("PKG-INFO", "pyproject.toml", "backend.py"):
            file = tree / name
            file.write_text(file.read_text().replace(VERSION, NEXT))
        with (tree / "pyproject.toml").open("a") as file:
            file.write('classifiers = ["Programming Language :: Python :: 3.99"]\n')
        for path, old, new in changes:
            file = tree / path
            assert old in file.read_text()
            file.write_text(file.read_text().replace(old, new))
        sdist = links / f"django-{NEXT}.tar.gz"
        with tarfile.open(sdist, "w:gz") as archive:
            archive.add(tree, tree.name)
        repo.env["PIP_FIND_LINKS"] = str(links)
        return hashlib.sha256(sdist.read_bytes()).hexdigest()

    return release


@pytest.fixture
def clone(repo, tmp_path):
    """Give a clone of django/ whose main has one commit more than the base."""
    clone = tmp_path / "clone"
    repo.git("clone", "--quiet", str(repo.checkout), str(clone), cwd=tmp_path)
    repo.git("checkout", "--quiet", "-B", "main", "upstream/6.1.3", cwd=clone)
    commit(repo, clone, {NOTES: "Signals\n\n* ...\n\nTasks\n\n* ...\n"})
    return clone


def commit(repo, clone, files):
    """Commit files, given as {path: text}, on the branch of the clone."""
    for path, text in files.items():
        file = clone / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    repo.git("add", "--all", cwd=clone)
    repo.git("commit", "--quiet", "-m", "Changed main.", cwd=clone)


def replace(clone, path, old, new):
    """Return {path: text} with some text of a file replaced."""
    text = (clone / path).read_text()
    assert old in text
    return {path: text.replace(old, new)}


def write_notes(repo, clone):
    """Write two fixup! patches of the notes, one upon the other."""
    repo.git("checkout", "--quiet", "-b", "notes", cwd=clone)
    for old, new, subject in (
        ("Signals\n\n* ...", "Signals\n\n* Two.", "Refs #22543 -- Added the signals."),
        ("Tasks\n\n* ...", "Tasks\n\n* More.", SUBJECT),
    ):
        commit(repo, clone, replace(clone, NOTES, old, new))
        message = f"fixup! {subject}"
        repo.git("commit", "--quiet", "--amend", "-m", message, cwd=clone)
    directory = repo.root / "patches-main"
    options = "--zero-commit --full-index --no-numbered --no-signature".split()
    args = ("format-patch", *options, f"--output-directory={directory}", "main")
    repo.git(*args, cwd=clone)
    repo.git("checkout", "--quiet", "main", cwd=clone)
    return read(directory)


def read(directory):
    """Return {name: bytes} of the files in a directory."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def in_the_way(repo, clone):
    """Let main change the line that the second patch changes."""
    changes = replace(clone, "django/query.py", '"quiet"', '"silent"')
    commit(repo, clone, changes)


def test_release(repo, release):
    """The base and the patches are those of the release, and apply follows."""
    sha256 = release(("django/query.py", "LINE_9 = 9", "LINE_9 = 99\nMORE = 1"))
    before, head = repo.series(), repo.head()
    (repo.root / "NOTES.txt").write_text(f"It is for {VERSION}.\n")
    repo.git("init", "--quiet", cwd=repo.root)
    repo.git("add", "NOTES.txt", "upstream.toml", cwd=repo.root)
    output = repo.good("rebase", NEXT)
    assert sha256 in output
    assert re.search(rf"name Django {VERSION}:\n  NOTES.txt\n", output)
    text = (repo.root / "upstream.toml").read_text()
    assert f'\nsha256 = "{sha256}"\n' in text and f'version = "{NEXT}"' in text
    assert '\npythons = ["3.99"]\n' in text
    after = repo.series()
    assert after.keys() == before.keys() and after != before
    assert b"LINE_19 = 19" in after[SECOND]
    # django/ is as it was until apply.
    assert repo.head() == head and not (repo.root / ".work" / "rebase").exists()
    repo.edit("upstream.toml", '"3.99"', '"%d.%d"' % sys.version_info[:2])
    repo.good("apply")
    assert "MORE = 1" in (repo.checkout / "django" / "query.py").read_text()
    assert "up to date already" in repo.good("export")
    repo.good("check")


def test_release_has_a_patch(repo, release):
    """A change that the release has already is no patch any more."""
    end = "def test_skipped(self):\n        pass\n"
    release(
        ("django/query.py", '"quiet"', '"sent"'),
        (
            "tests/update/tests.py",
            end,
            f"{end}\n    def test_sent(self):\n        pass\n",
        ),
    )
    output = repo.good("rebase", NEXT)
    assert f"Django {NEXT} has this already; left out" in output
    assert list(repo.series()) == [FIRST]


def test_release_conflict(repo, release):
    """
    A conflict names the patch and the file. Until it's resolved, nothing
    changes; then the patches are those of the resolved commits.
    """
    release(("django/query.py", '"quiet"', '"silent"'))
    before = repo.series(), (repo.root / "upstream.toml").read_bytes(), repo.head()

    def now():
        return repo.series(), (repo.root / "upstream.toml").read_bytes(), repo.head()

    output = repo.bad("rebase", NEXT)
    assert f"patches/{SECOND} does not apply to Django {NEXT}" in output
    assert "\n  django/query.py\n" in output and "--continue" in output
    assert now() == before
    # Another can't begin, and this one can't go on as it is.
    assert "under way already" in repo.bad("rebase", NEXT)
    assert "does not apply" in repo.bad("rebase", "--continue")
    room = repo.root / ".work" / "rebase"
    repo.git("add", "django/query.py", cwd=room)
    assert "conflict markers" in repo.bad("rebase", "--continue")
    assert now() == before
    text = (room / "django" / "query.py").read_text()
    assert "<<<<<<<" in text
    text = re.sub(
        r"<<<<<<<.*>>>>>>>[^\n]*", '    return "sent loudly"', text, flags=re.S
    )
    (room / "django" / "query.py").write_text(text)
    repo.git("add", "django/query.py", cwd=room)
    repo.good("rebase", "--continue")
    assert b'-    return "silent"\n+    return "sent loudly"' in repo.series()[SECOND]
    assert "no rebase is under way" in repo.bad("rebase", "--continue")


def test_abort(repo, release):
    """Giving up leaves everything as it was."""
    release(("django/query.py", '"quiet"', '"silent"'))
    before = repo.series()
    repo.bad("rebase", NEXT)
    repo.good("rebase", "--abort")
    assert repo.series() == before and not (repo.root / ".work" / "rebase").exists()
    assert "no rebase is under way" in repo.bad("rebase", "--abort")


def test_commit_is_a_no_op(repo, clone):
    """Where all applies as it is, patches-main/ keeps its bytes."""
    notes, before = write_notes(repo, clone), repo.series()
    status = repo.git("status", "--porcelain", cwd=clone)
    assert len(notes) == 2
    assert "was right already for main" in repo.good("rebase", str(clone))
    assert read(repo.root / "patches-main") == notes and repo.series() == before
    assert repo.git("status", "--porcelain", cwd=clone) == status


def test_commit_with_other_notes(repo, clone):
    """
    Where somebody else added a note, the conflict is in that file, and the
    notes are written anew with what was resolved.
    """
    write_notes(repo, clone)
    before = repo.series()
    commit(repo, clone, replace(clone, NOTES, "* ...\n\nT", "* Theirs.\n\nT"))
    output = repo.bad("rebase", str(clone), "main")
    assert "patches-main/0001-fixup-Refs" in output and f"\n  {NOTES}\n" in output
    room = repo.root / ".work" / "rebase"
    text = (room / NOTES).read_text()
    text = re.sub(r"<<<<<<<.*>>>>>>>[^\n]*", "* Theirs.\n\n* Two.", text, flags=re.S)
    (room / NOTES).write_text(text)
    repo.git("add", NOTES, cwd=room)
    output = repo.good("rebase", "--continue")
    first, second = sorted(read(repo.root / "patches-main").items())
    assert b"\n * Theirs.\n" in first[1] and b"\n+* Two.\n" in first[1]
    assert b"\n-* ...\n+* More.\n" in second[1]
    assert repo.series() == before
    assert "was right already" in repo.good("rebase", str(clone))


def test_commit_conflict(repo, clone):
    """A patch resolved for main is kept next to the one for the base."""
    write_notes(repo, clone)
    before = repo.series()
    in_the_way(repo, clone)
    assert f"patches/{SECOND} does not apply to main" in repo.bad("rebase", str(clone))
    room = repo.root / ".work" / "rebase"
    repo.git("checkout", "--theirs", "django/query.py", cwd=room)
    repo.git("add", "django/query.py", cwd=room)
    repo.good("rebase", "--continue")
    names = sorted(read(repo.root / "patches-main"))
    assert [name[:12] for name in names] == [
        "0001-fixup-R",
        "0002-Fixed-2",
        "0003-fixup-F",
    ]
    assert repo.series() == before
    repo.good("check")
    assert "was right already" in repo.good("rebase", str(clone))


@pytest.mark.parametrize(
    "args, text",
    [
        (["6.1.99"], "pip could not get the sdist of Django 6.1.99"),
        (["nonsense"], "neither a version nor a directory"),
        ([".", "main"], "has no commit main of Django"),
    ],
)
def test_no_target(repo, args, text):
    """What is no target is refused, and nothing is left under way."""
    before = repo.series()
    assert text in repo.bad("rebase", *args)
    assert repo.series() == before
    assert "no rebase is under way" in repo.bad("rebase", "--abort")


def test_work_to_export(repo):
    """Commits that were not exported are not left behind."""
    repo.commit("Refs #22543 -- Added more.")
    assert "django/ and patches/ differ" in repo.bad("rebase", NEXT)


def test_usage(repo):
    """A target and --continue don't go together, and one is needed."""
    for args in ([], [NEXT, "--continue"], ["--continue", "--abort"]):
        assert "usage:" in repo.bad("rebase", *args, status=2)
