"""What "series.py export" writes and what it refuses."""

import pytest

from conftest import FIRST, SECOND


def test_export_after_apply_is_a_no_op(repo):
    """Right after apply, export writes the same bytes, and says so."""
    before = repo.series()
    assert len(before) == 2
    assert "up to date already: 2 patches" in repo.good("export")
    assert repo.series() == before


def test_edit_commit_export(repo):
    """A new commit becomes one new file; the others keep their bytes."""
    before = repo.series()
    repo.commit("Refs #22543 -- Added a third.\n\nWith a body.")
    tree = repo.git("rev-parse", "HEAD^{tree}")
    assert "wrote patches/0003-" in repo.good("export")
    after = repo.series()
    new = after.pop("0003-Refs-22543-Added-a-third.patch")
    assert after == before
    assert b"\nSubject: [PATCH] Refs #22543 -- Added a third.\n" in new
    assert b"\nFrom: Ann <ann@example.com>\n" in new
    # The branch holds no work of its own from now on.
    (repo.patches / "0003-Refs-22543-Added-a-third.patch").write_bytes(
        new.replace(b"+NEW = 1", b"+NEW = 2")
    )
    repo.good("apply")
    (repo.patches / "0003-Refs-22543-Added-a-third.patch").write_bytes(new)
    repo.good("apply")
    assert repo.git("rev-parse", "HEAD^{tree}") == tree
    assert "has all 3 patches" in repo.good("apply")


def test_reworded_commit(repo):
    """A new subject gives a new name, and the old file is removed."""
    message = "Fixed #22543 -- Said it otherwise."
    repo.git("commit", "--quiet", "--amend", "-m", message)
    output = repo.good("export")
    assert f"removed patches/{SECOND}" in output
    assert sorted(repo.series()) == [
        FIRST,
        "0002-Fixed-22543-Said-it-otherwise.patch",
    ]


def test_odd_contents_come_back(repo):
    """Carriage returns, a file mode, a binary and odd names survive."""
    (repo.checkout / "extras" / "dos.txt").write_bytes(b"one\r\n2\r\n")
    (repo.checkout / "extras" / "run").chmod(0o644)
    (repo.checkout / "extras" / "logo.png").write_bytes(bytes(range(256)))
    (repo.checkout / "extras" / "a b\u2297.txt").write_text("no newline")
    repo.commit("Fixed #22543 -- Added \u00e9 and odd files.")
    tree = repo.git("rev-parse", "HEAD^{tree}")
    repo.good("export")
    series = repo.series()
    repo.git("update-ref", "refs/heads/ticket_22543", "upstream/6.1.3")
    repo.git("reset", "--quiet", "--hard")
    repo.good("apply", "--force")
    assert repo.git("rev-parse", "HEAD^{tree}") == tree
    repo.good("export")
    assert repo.series() == series


def test_uncommitted_changes_are_told(repo):
    """Uncommitted changes are not exported, but named."""
    (repo.checkout / "django" / "query.py").write_text("x = 1\n")
    before = repo.series()
    output = repo.good("export")
    assert "Warning" in output and "django/query.py" in output
    assert repo.series() == before


def detach(repo):
    repo.git("checkout", "--quiet", "--detach")


def merge(repo):
    repo.git("checkout", "--quiet", "-b", "side", "HEAD~1")
    repo.commit("Side.")
    repo.git("checkout", "--quiet", "ticket_22543")
    repo.git("merge", "--quiet", "--no-edit", "side")


def empty(repo):
    repo.git("commit", "--quiet", "--allow-empty", "-m", "Nothing.")


def back(repo):
    repo.git("reset", "--quiet", "--hard", "upstream/6.1.3")


def unrelated(repo):
    tree = repo.git("rev-parse", "HEAD^{tree}")
    repo.git("reset", "--hard", repo.git("commit-tree", tree, "-m", "Alone."))


@pytest.mark.parametrize(
    "prepare, text",
    [
        (detach, "on no branch and not on ticket_22543"),
        (merge, "merge commits"),
        (empty, "commits which change nothing"),
        (back, "no commits on top of upstream/6.1.3"),
        (unrelated, "not based on upstream/6.1.3"),
    ],
)
def test_refused(repo, prepare, text):
    """What is no plain row of commits on the base is refused."""
    before = repo.series()
    prepare(repo)
    assert text in repo.bad("export")
    assert repo.series() == before


def test_no_checkout(repo):
    """Without django/ export says to run apply."""
    repo.checkout.rename(repo.root / "elsewhere")
    assert "run: python3 series.py apply" in repo.bad("export")
