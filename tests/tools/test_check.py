"""Every complaint of "series.py check", which changes nothing."""

import shutil

import pytest

from conftest import ALONE, FIRST, SECOND


def replace(name, old, new):
    """Return a change which replaces text in a patch."""
    return lambda repo: repo.edit(f"patches/{name}", old, new)


def create(path):
    """Return a change which adds a file to the repository."""

    def change(repo):
        file = repo.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x\n")

    return change


def rename(old, new):
    """Return a change which renames a patch."""
    return lambda repo: (repo.patches / old).rename(repo.patches / new)


def commit(repo):
    """Commit without an export."""
    repo.commit("Refs #22543 -- Added more.")


def main_part(repo, subject):
    """Add a patch to patches-main/."""
    target = repo.root / "patches-main" / FIRST
    target.parent.mkdir(parents=True)
    shutil.copy(repo.patches / FIRST, target)
    repo.edit(f"patches-main/{FIRST}", "Refs #22543 -- Added the signals.", subject)


WRONG = {
    "gap": (rename(SECOND, SECOND.replace("0002", "0003")), f"{SECOND}: is not what"),
    "name": (rename(FIRST, "signals/0001-other.patch"), "0001-other.patch: is not"),
    "commit id": (replace(FIRST, "From 0000", "From 1234"), f"{FIRST}: is not what"),
    "number": (replace(ALONE, "[PATCH]", "[PATCH 1/2]"), f"{ALONE}: is not what"),
    "other tree": (replace(SECOND, '"sent"', '"SENT"'), f"{SECOND}: is not what"),
    "shifted": (replace(FIRST, "@@ -2,", "@@ -3,"), f"{FIRST}: is not what"),
    "commit": (commit, "Added more.: is new"),
    "stray": (create("patches/0001-a.patch"), "patches/0001-a.patch: is not what"),
    "unlisted": (
        create("patches/other/0001-a.patch"),
        "other/0001-a.patch: is not what",
    ),
    "state": (
        lambda repo: (repo.checkout / ".git/series-state").write_text("applying"),
        "was interrupted",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong(repo, name):
    """A mistake is found, and nothing is changed."""
    change, text = WRONG[name]
    change(repo)
    before = repo.git("count-objects", "-v"), repo.git("for-each-ref"), repo.series()
    assert text in repo.bad("check")
    after = repo.git("count-objects", "-v"), repo.git("for-each-ref"), repo.series()
    assert (after, repo.status()) == (before, "")


def test_good(repo):
    """A good series passes, also with what is for main."""
    main_part(repo, "fixup! Refs #22543 -- Added the signals.")
    create("patches/signals/pull-request.md")(repo)
    before = repo.git("count-objects", "-v"), repo.git("for-each-ref")
    assert "check: 3 patches, no mistakes." in repo.good("check")
    assert (repo.git("count-objects", "-v"), repo.git("for-each-ref")) == before


def test_all_complaints_at_once(repo):
    """One run names all the mistakes."""
    for name in ("stray", "unlisted", "other tree"):
        WRONG[name][0](repo)
    output = repo.bad("check")
    for name in ("stray", "unlisted", "other tree"):
        assert WRONG[name][1] in output


def test_whitespace(repo):
    """A trailing space in an added line is found."""
    repo.edit("django/django/query.py", '    return "sent"', '    return "sent" ')
    repo.git("commit", "-q", "-a", "--amend", "--no-edit")
    repo.good("export")
    assert "django/query.py:25: trailing whitespace" in repo.bad("check")


def test_no_checkout(repo):
    """Without django/ check says to run apply."""
    shutil.rmtree(repo.checkout)
    assert "Run: python3 series.py apply" in repo.bad("check")
