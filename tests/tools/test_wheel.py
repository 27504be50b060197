"""What "series.py wheel" builds, on the tiny Django."""

import zipfile

from conftest import SUBJECTS

VERSION = "6.1.3+updatesignals"


def built(repo):
    """Return the path of the wheel, which is the only one."""
    (path,) = (repo.root / ".work" / "wheel").iterdir()
    return path


def in_wheel(repo, name):
    """Return the text of a file in the wheel, or None if it has none."""
    with zipfile.ZipFile(built(repo)) as wheel:
        return wheel.read(name).decode() if name in wheel.namelist() else None


def test_commits_only(repo):
    """It has what is committed, and django/ is as it was."""
    repo.commit("Mine.", {"django/mine.py": "MINE = 1\n"})
    (repo.checkout / "django" / "query.py").write_text("uncommitted")
    (repo.checkout / "django" / "new.py").write_text("uncommitted")
    before = repo.contents(), repo.where()
    output = repo.good("wheel")
    assert (repo.contents(), repo.where()) == before
    assert "isn't committed:\n   M django/query.py\n  ?? django/new.py\n" in output
    assert in_wheel(repo, "django/mine.py") == "MINE = 1\n"
    assert '"sent"' in in_wheel(repo, "django/query.py")
    assert in_wheel(repo, "django/new.py") is None
    metadata = in_wheel(repo, f"django-{VERSION}.dist-info/METADATA")
    assert f"Version: {VERSION}\n" in metadata
    # The directory has a space and an umlaut.
    line = f"pip install --force-reinstall --no-deps '{built(repo)}'\n"
    assert line in output and "--no-deps Django===6.1.3\n" in output
    assert not [*repo.root.glob(".work/wheel-*")]


def test_stops_after(repo):
    """With a name it stops after that pull request, and says so."""
    repo.good("wheel")
    output = repo.good("wheel", "lines")
    assert built(repo).name.startswith(f"django-{VERSION}.lines-")
    assert SUBJECTS[0] in output and SUBJECTS[2] not in output
    text = in_wheel(repo, "django/query.py")
    assert "LINE_15 = 55" in text and '"quiet"' in text
    assert in_wheel(repo, "django/signals.py") is None


def test_refused(repo):
    """What can't be built leaves the wheel that is there."""
    repo.good("wheel")
    assert "nope is none of lines, signals" in repo.refuses("wheel", "nope")
    repo.commit("Mine.", {"backend.py": "1 / 0"})
    assert "pip could not build the wheel" in repo.refuses("wheel")
    repo.shell("sed -i s/dynamic/x/ pyproject.toml; git commit -qam X")
    assert "pyproject.toml has changed" in repo.refuses("wheel")
    (repo.checkout / ".git" / "series-state").write_text("applying")
    assert "Run: python3 series.py apply" in repo.refuses("wheel")
    assert built(repo).name.startswith(f"django-{VERSION}-")
