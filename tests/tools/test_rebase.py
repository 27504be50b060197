"""Moving the series to another release, to main, and to another version."""

import hashlib
import re
import subprocess
import tarfile

import pytest

from conftest import SDIST, SECOND, VERSION
from test_pr import NOTES, TEMPLATE, commit, write_note

NEXT = "6.1.4"
FIXED = "Fixed #22543 -- Sent the signals from update()."


@pytest.fixture
def release(repo, tmp_path):
    """
    Give a function that makes the sdist of another release.

    It takes changes of django/query.py as (old text, new text), and returns
    the sha256.
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
        query = tree / "django" / "query.py"
        for old, new in changes:
            assert old in query.read_text()
            query.write_text(query.read_text().replace(old, new))
        sdist = links / f"django-{NEXT}.tar.gz"
        with tarfile.open(sdist, "w:gz") as archive:
            archive.add(tree, tree.name)
        repo.env["PIP_FIND_LINKS"] = str(links)
        return hashlib.sha256(sdist.read_bytes()).hexdigest()

    return release


@pytest.fixture
def clone(repo, tmp_path):
    """Give a clone whose main has more than the base, with notes for it."""
    clone = tmp_path / "clone"
    repo.git("clone", "--quiet", str(repo.checkout), str(clone), cwd=tmp_path)
    repo.git("checkout", "--quiet", "-B", "main", "upstream/6.1.3", cwd=clone)
    notes = "Models in 6.2\n\n* ...\n\nSignals in 6.2\n\n* ...\n"
    commit(repo, clone, {NOTES: notes, ".github/pull_request_template.md": TEMPLATE})
    write_note(repo, clone, "lines", "Models in 6.2", "Fixed #1 -- Changed a line.")
    write_note(repo, clone, "signals", "Signals in 6.2", FIXED)
    return clone


def files(repo):
    """Return what a rebase may write."""
    names = ("patches/*/*", "patches-main/*/*", "*.toml")
    paths = [path for name in names for path in repo.root.glob(name)]
    return {str(path.relative_to(repo.root)): path.read_bytes() for path in paths}


def change(repo, clone, old, new):
    """Commit a change of query.py on main."""
    text = (clone / "django" / "query.py").read_text()
    assert old in text
    commit(repo, clone, {"django/query.py": text.replace(old, new)})


def resolve(repo, room, text):
    """Resolve the conflict in query.py."""
    path = room / "django" / "query.py"
    marked = re.sub(r"<<<<<<<.*>>>>>>>[^\n]*", text, path.read_text(), flags=re.S)
    path.write_text(marked)
    repo.git("add", "django/query.py", cwd=room)


def test_main_applies(repo, clone):
    """
    Git merges what it can, and keeps others' notes. Nothing changes, here or
    in the clone.
    """
    change(repo, clone, "LINE_13 = 13", "LINE_13 = 130")
    text = (clone / NOTES).read_text()
    commit(repo, clone, {NOTES: text.replace("* ...\n\nS", "* Others.\n\nS")})
    before, refs = files(repo), repo.git("for-each-ref", cwd=clone)
    assert "All patches apply" in repo.good("rebase", str(clone), "main")
    repo.good("rebase", str(clone))
    assert (files(repo), repo.git("for-each-ref", cwd=clone)) == (before, refs)
    assert not (repo.root / ".work" / "upstream").exists()


def test_main_conflict(repo, clone):
    """
    A conflict names the patch and the file, and changes nothing. What is
    resolved becomes a patch for main by the commands that are given.
    """
    change(repo, clone, '"quiet"', '"silent"')
    before = files(repo)
    output = repo.bad("rebase", str(clone))
    assert f"signals does not apply: {FIXED}:\n  django/query.py" in output
    assert files(repo) == before
    room = repo.root / ".work" / "upstream" / "django"
    resolve(repo, room, '    return "sent loudly"')
    for line in output.replace("FILES", ".").splitlines():
        if line.startswith("  git "):
            subprocess.run(line, shell=True, cwd=room, env=repo.env, check=True)
    after = files(repo)
    (name,) = after.keys() - before.keys()
    assert name.startswith("patches-main/signals/0001-Fixed-22543")
    assert b'"silent"\n+    return "sent loudly"' in after[name]
    repo.good("rebase", str(clone))
    repo.good("check")


def test_unknown_part(repo, clone):
    """A patch for main whose subject no patch has is named."""
    (path,) = repo.root.glob("patches-main/lines/*")
    repo.edit(path, "Fixed #1 -- Changed", "Fixed #1 -- Changes")
    assert f"{path.name} belongs to no patch" in repo.bad("rebase", str(clone))


@pytest.mark.parametrize("target", ["nonsense", ".", "6.1.99"])
def test_no_target(repo, target):
    """What is no target is refused, and changes nothing."""
    before = files(repo)
    output = repo.bad("rebase", target)
    assert "of Django" in output and files(repo) == before


def test_release(repo, release):
    """The base and the patches become those of the release."""
    sha256 = release(("LINE_9 = 9", "LINE_9 = 99\nMORE = 1"))
    before = repo.series()
    assert sha256 in repo.good("rebase", NEXT)
    text = (repo.root / "upstream.toml").read_text()
    assert f'\nsha256 = "{sha256}"\n' in text and f'version = "{NEXT}"' in text
    after = repo.series()
    assert after.keys() == before.keys() and after != before
    assert "MORE = 1" in (repo.checkout / "django" / "query.py").read_text()
    tree = re.search(r'^tree = "(.*)"', text, re.M)[1]
    assert repo.git("rev-parse", f"upstream/{NEXT}^{{tree}}") == tree
    repo.good("check")


def test_release_conflict(repo, release):
    """Git stops in django/, and nothing is written until that is resolved."""
    release(('"quiet"', '"silent"'))
    before = files(repo)
    output = repo.bad("rebase", NEXT)
    assert "django/query.py" in output and "rebase --continue" in output
    assert files(repo) == before
    assert "rebase" in repo.bad("rebase", NEXT)
    resolve(repo, repo.checkout, '    return "sent loudly"')
    repo.env["GIT_EDITOR"] = "true"
    repo.git("rebase", "--continue")
    repo.good("rebase", NEXT)
    assert b'"silent"\n+    return "sent loudly"' in repo.series()[SECOND]
    repo.good("check")


def test_release_with_work(repo, release):
    """Commits that were not exported are not taken along."""
    release()
    repo.commit("Refs #22543 -- Added more.")
    assert "django/ and patches/ differ" in repo.bad("rebase", NEXT)


def test_version(repo, clone):
    """One command changes the version in all that follows from it."""
    text = '+"""\n+.. versionadded:: 6.2\n+"""\n'
    (repo.checkout / "django" / "doc.py").write_text(text.replace("+", ""))
    repo.git("add", "--all")
    repo.git("commit", "--quiet", "--amend", "--no-edit")
    repo.good("export")
    repo.edit("patches/series.toml", "\n[[pull", 'lands = "6.2"\n\n[[pull')
    repo.good("version", "7.0")
    assert 'lands = "7.0"' in (repo.patches / "series.toml").read_text()
    assert text.replace("6.2", "7.0").encode() in repo.series()[SECOND]
    for path in repo.root.glob("patches*/*/*.patch"):
        assert "6.2" not in path.read_text()
    repo.good("check")
    repo.git("mv", NOTES, NOTES.replace("6.2", "7.0"), cwd=clone)
    notes = (clone / "docs/releases/7.0.txt").read_text().replace("6.2", "7.0")
    commit(repo, clone, {"docs/releases/7.0.txt": notes})
    repo.good("rebase", str(clone))
    assert "differ" in repo.bad("version", "seven")
