"""Every complaint of "series.py check"."""

import shutil

import pytest

from conftest import FIRST, SECOND


def rename(old, new):
    """Return a change which renames a patch."""
    return lambda repo: (repo.patches / old).rename(repo.patches / new)


def replace(name, old, new):
    """Return a change which replaces text in a patch."""
    return lambda repo: repo.edit(f"patches/{name}", old, new)


def create(path):
    """Return a change which adds a file to the repository."""

    def change(repo):
        file = repo.root / path
        file.parent.mkdir(exist_ok=True)
        file.write_text("x\n")

    return change


def number(repo):
    """Shorten the first index line of the first patch."""
    path = repo.patches / FIRST
    head, index, rest = path.read_text().partition("\nindex ")
    path.write_text(head + index + rest[:7] + ".." + rest[42:])


def end(text):
    """Return a change which adds text to the end of the second patch."""
    return lambda repo: (repo.patches / SECOND).open("a").write(text)


LONG = "A body which is " + "long " * 20 + "."

FILES = {
    "gap": (rename(SECOND, SECOND.replace("0002", "0003")), f"named {SECOND}"),
    "name": (rename(FIRST, "0001-other.patch"), f"should be named {FIRST}"),
    "period": (replace(FIRST, "signals.\n", "signals\n"), "end with a period"),
    "ticket": (replace(FIRST, "#22543", "#1"), 'start with "Refs #22543 -- "'),
    "last": (replace(SECOND, "Fixed #", "Refs #"), 'start with "Fixed #22543 -- "'),
    "not last": (replace(FIRST, "Refs #", "Fixed #"), 'start with "Refs #22543 -- "'),
    "body": (replace(FIRST, "A body.", LONG), "more than 72"),
    "commit id": (replace(FIRST, "From 0000", "From 1234"), "--zero-commit"),
    "numbered": (replace(FIRST, "[PATCH]", "[PATCH 1/2]"), "--no-numbered"),
    "signature": (end("-- \n2.39.5\n\n"), "--no-signature"),
    "index": (number, "not full"),
    "prefix": (replace(FIRST, "diff --git a/", "diff --git "), "no a/ and b/"),
    "corrupt": (replace(SECOND, '-    return "quiet"\n', ""), "corrupt patch"),
    "no diff": (create("patches/0003-x.patch"), "git cannot read it"),
    "stray": (create("patches/notes.txt"), "patches/notes.txt: is not a patch"),
    "unknown main": (
        lambda repo: shutil.copytree(repo.patches, repo.root / "patches-main")
        and repo.edit(f"patches-main/{FIRST}", "Added", "Removed"),
        "its subject is that of no patch in patches/: Refs #22543 -- Removed the",
    ),
    "stray main": (create("patches-main/a.orig"), "patches-main/a.orig: is not"),
}


@pytest.mark.parametrize("name", FILES)
def test_files(repo, name):
    """A mistake in the files is found without the checkout."""
    shutil.rmtree(repo.checkout)
    change, text = FILES[name]
    change(repo)
    assert text in repo.bad("check")


def test_good_without_checkout(repo):
    """A good series passes without the checkout, and that is told."""
    shutil.rmtree(repo.checkout)
    output = repo.good("check")
    assert "2 patches, no mistakes; looked at the files only" in output
    assert "apply" in output


def test_good_with_checkout(repo):
    """A good series passes with the checkout, in which nothing changes."""
    objects = repo.git("count-objects", "-v")
    assert "the files and the checkout" in repo.good("check")
    assert repo.git("count-objects", "-v") == objects
    assert repo.status() == ""


def test_long_word_in_a_body(repo):
    """A line which cannot be broken, such as an address, may be long."""
    shutil.rmtree(repo.checkout)
    repo.edit(f"patches/{FIRST}", "A body.", "https://example.com/" + "x" * 80)
    repo.good("check")


def test_all_complaints_at_once(repo):
    """One run names all the mistakes and how many there are."""
    shutil.rmtree(repo.checkout)
    replace(FIRST, "signals.\n", "signals\n")(repo)
    replace(SECOND, "Fixed #", "Refs #")(repo)
    create("patches/notes.txt")(repo)
    # The wrong subject of the second asks for another name too.
    assert "check found mistakes: 4" in repo.bad("check")


def test_whitespace(repo):
    """A trailing space in an added line is found with the checkout."""
    repo.edit(f"patches/{SECOND}", '+    return "sent"', '+    return "sent" ')
    output = repo.bad("check")
    assert f"{SECOND}: whitespace errors" in output and "trailing whitespace" in output


def test_does_not_apply(repo):
    """A patch which does not apply is found, with its hunk."""
    repo.edit(f"patches/{SECOND}", '-    return "quiet"', '-    return "loud"')
    output = repo.bad("check")
    assert f"{SECOND}: does not apply" in output and "hunk @@" in output


def test_other_tree(repo):
    """Patches which give other files than the branch has are found."""
    repo.edit(f"patches/{SECOND}", '+    return "sent"', '+    return "SENT"')
    objects = repo.git("count-objects", "-v")
    output = repo.bad("check")
    assert repo.git("count-objects", "-v") == objects
    assert repo.status() == ""
    assert "the patches give other files" in output
    assert f"{SECOND}: export would change it" in output


def test_shifted_hunk(repo):
    """A patch which only applies some lines away is not what export gives."""
    repo.edit(f"patches/{FIRST}", "@@ -2,", "@@ -3,")
    assert f"{FIRST}: export would change it" in repo.bad("check")


def test_unexported_commit(repo):
    """A commit which was not exported is found."""
    repo.commit("Fixed #22543 -- Added more.")
    assert "0003-Fixed-22543-Added-more.patch: export" in repo.bad("check")


def test_second_line(repo):
    """A message without a blank second line is found in the checkout."""
    repo.git("commit", "--quiet", "--amend", "-m", "Fixed #22543 -- A\nb.")
    repo.good("export")
    assert "the second line is not blank" in repo.bad("check")


def test_no_patches(repo):
    """An empty patches/ does not pass."""
    shutil.rmtree(repo.patches)
    assert "there are no patches" in repo.bad("check")
