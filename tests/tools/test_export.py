"""What "series.py export" writes and what it refuses."""

import pytest

from conftest import ALONE, FIRST, SECOND

NEW = "Refs #22543 -- Added a third."


def rebuild(repo, *steps):
    """
    Make the branch anew: a number is the commit that is there now, a text the
    subject of a new one.
    """
    old = repo.git("rev-list", "--reverse", "upstream/6.1.3..HEAD").split()
    repo.git("reset", "--quiet", "--hard", "upstream/6.1.3")
    for step in steps:
        if isinstance(step, int):
            repo.git("cherry-pick", old[step])
        else:
            repo.commit(step, f"django/{len(step)}.py")


def test_export_after_apply_is_a_no_op(repo):
    """Right after apply, export writes the same bytes, and says so."""
    before = repo.series()
    assert sorted(before) == [ALONE, FIRST, SECOND]
    assert "3 patches were up to date already" in repo.good("export")
    assert repo.series() == before


def test_edit_commit_export(repo):
    """A commit at the tip becomes a new file; the others keep their bytes."""
    before = repo.series()
    repo.commit(f"{NEW}\n\nWith a body.")
    tree = repo.git("rev-parse", "HEAD^{tree}")
    output = repo.good("export", "--to", "signals")
    name = "signals/0003-Refs-22543-Added-a-third.patch"
    assert f"wrote patches/{name}" in output
    after = repo.series()
    new = after.pop(name)
    assert after == before
    assert b"\nSubject: [PATCH] Refs #22543 -- Added a third.\n" in new
    assert b"\nFrom: Ann <ann@example.com>\n" in new
    # The branch holds no work of its own from now on.
    (repo.patches / name).write_bytes(new.replace(b"+NEW = 1", b"+NEW = 2"))
    repo.good("apply")
    (repo.patches / name).write_bytes(new)
    repo.good("apply")
    assert repo.git("rev-parse", "HEAD^{tree}") == tree
    assert "has all 4 patches" in repo.good("apply")


def test_autosquash(repo):
    """What a rebase changes stays in the pull request that it is in."""
    before = repo.series()
    repo.edit("django/django/query.py", "LINE_15 = 55", "LINE_15 = 56")
    repo.git("commit", "-q", "-a", "--fixup", "HEAD~2")
    repo.env["GIT_SEQUENCE_EDITOR"] = "true"
    repo.git("rebase", "--interactive", "--autosquash", "upstream/6.1.3")
    repo.good("export")
    after = repo.series()
    assert b"+LINE_15 = 56" in after[ALONE] and sorted(after) == sorted(before)
    repo.good("check")


@pytest.mark.parametrize("name", ["lines", "signals"])
def test_new_commit_between_pull_requests(repo, name):
    """A new commit goes where --to says."""
    rebuild(repo, 0, NEW, 1, 2)
    before = repo.series()
    output = repo.bad("export")
    assert f"{NEW}: is new: say where" in output
    assert repo.series() == before
    assert "has no nosuch" in repo.bad("export", "--to", "nosuch")
    repo.good("export", "--to", name)
    number = {"lines": "0002", "signals": "0001"}[name]
    assert f"{name}/{number}-Refs-22543-Added-a-third.patch" in repo.series()
    assert len(repo.series()) == 4
    # From now on it's known.
    assert "up to date already" in repo.good("export")


def test_new_pull_request(repo):
    """A directory that series.toml adds gets the commits that --to says."""
    with (repo.patches / "series.toml").open("a") as file:
        file.write('[[pull_request]]\nname = "more"\nafter = []\n')
    repo.commit(NEW)
    assert "is new" in repo.bad("export")
    repo.good("export", "--to", "more")
    assert "more/0001-Refs-22543-Added-a-third.patch" in repo.series()


def test_no_commit_left(repo):
    """A new subject of a pull request's only commit can't move it silently."""
    before = repo.series()
    rebuild(repo, "Fixed #1 -- Said it otherwise.", 1, 2)
    assert "is new" in repo.bad("export")
    assert repo.series() == before
    repo.good("export", "--to", "lines")
    assert "lines/0001-Fixed-1-Said-it-otherwise.patch" in repo.series()


def test_reworded_commit(repo):
    """A new subject gives a new name, and the old file is removed."""
    message = "Fixed #22543 -- Said it otherwise."
    repo.git("commit", "--quiet", "--amend", "-m", message)
    output = repo.good("export", "--to", "signals")
    assert f"removed patches/{SECOND}" in output
    assert sorted(repo.series()) == [
        ALONE,
        FIRST,
        "signals/0002-Fixed-22543-Said-it-otherwise.patch",
    ]


def test_odd_contents_come_back(repo):
    """Carriage returns, a file mode, a binary and odd names survive."""
    (repo.checkout / "extras" / "dos.txt").write_bytes(b"one\r\n2\r\n")
    (repo.checkout / "extras" / "run").chmod(0o644)
    (repo.checkout / "extras" / "logo.png").write_bytes(bytes(range(256)))
    (repo.checkout / "extras" / "a b\u2297.txt").write_text("no newline")
    repo.commit("Fixed #22543 -- Added \u00e9 and odd files.")
    tree = repo.git("rev-parse", "HEAD^{tree}")
    repo.good("export", "--to", "signals")
    series = repo.series()
    repo.git("reset", "--quiet", "--hard", "upstream/6.1.3")
    repo.good("apply", "--force")
    assert repo.git("rev-parse", "HEAD^{tree}") == tree
    repo.good("export")
    assert repo.series() == series


def test_uncommitted_changes_are_told(repo):
    """Uncommitted changes are not exported, but named."""
    (repo.checkout / "django" / "query.py").write_text("x = 1\n")
    before = repo.series()
    output = repo.good("export")
    assert "isn't committed" in output and "django/query.py" in output
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


def mixed(repo):
    rebuild(repo, 1, 0, 2)


def same(repo):
    text = repo.series()[FIRST]
    (repo.patches / "lines" / "0002-same.patch").write_bytes(text)


@pytest.mark.parametrize(
    "prepare, text",
    [
        (detach, "on no branch and not on ticket_22543"),
        (merge, "is a merge commit"),
        (empty, "changes nothing"),
        (back, "no commits on top of upstream/6.1.3"),
        (unrelated, "no commits on top of upstream/6.1.3"),
        (mixed, "are mixed"),
        (same, "two patches have the same subject"),
    ],
)
def test_refused(repo, prepare, text):
    """What is no plain row of commits on the base is refused."""
    prepare(repo)
    before = repo.series()
    assert text in repo.bad("export")
    assert repo.series() == before


def test_killed(repo, tmp_path):
    """An export that was killed is completed by the next."""
    repo.commit(NEW)
    kill = repo.wrap_git(tmp_path, 'case "$1" in update-ref) kill -9 $PPID;; esac')
    assert repo.run("export", "--to", "signals", **kill).returncode == -9
    repo.good("export")
    assert len(repo.series()) == 4
    repo.good("check")


def test_no_checkout(repo):
    """Without django/ export says to run apply."""
    repo.checkout.rename(repo.root / "elsewhere")
    assert "Run: python3 series.py apply" in repo.bad("export")
