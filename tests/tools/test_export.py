"""What "series.py export" writes and refuses, and what "check" finds."""

import shutil

import pytest

from conftest import ALONE, FIRST, SECOND, SUBJECTS

NEW = "Refs #22543 -- Added a third."
NEW_NAME = "Refs-22543-Added-a-third.patch"


def rebuild(repo, *steps):
    """Make the branch anew, of old commits (numbers) and new (subjects)."""
    old = repo.git("rev-list", "--reverse", "upstream/6.1.3..HEAD").split()
    repo.git("reset", "--quiet", "--hard", "upstream/6.1.3")
    for step in steps:
        if isinstance(step, int):
            repo.git("cherry-pick", old[step])
        else:
            repo.commit(step, {"django/new.py": "NEW = 1\n"})


def test_new_commit_at_the_tip(repo):
    """A commit becomes a new file; the others keep their bytes."""
    before = repo.series()
    assert "3 patches were up to date already" in repo.good("export")
    assert sorted(before) == [ALONE, FIRST, SECOND] and repo.series() == before
    rebuild(repo, 0, 1, 2, NEW)
    (repo.checkout / "django" / "query.py").write_text("x = 1\n")
    output = repo.good("export", "--to", "signals")
    assert "isn't committed" in output and "django/query.py" in output
    after = repo.series()
    new = after.pop(f"signals/0003-{NEW_NAME}")
    assert after == before and f"\nSubject: [PATCH] {NEW}\n".encode() in new
    # The branch holds no work of its own from now on.
    repo.shell(
        "git checkout django/query.py; sed -i s/=.1/=2/ ../patches/signals/0003*"
    )
    repo.good("apply")
    assert (repo.checkout / "django" / "new.py").read_text() == "NEW =2\n"


def test_rewritten_branch(repo):
    """What a rebase changes stays in place; a new subject is a new name."""
    rebuild(repo, 0, 1, NEW, 2)
    repo.git("commit", "--quiet", "--amend", "-m", "Fixed #22543 -- Said it.")
    repo.edit("django/django/query.py", "LINE_15 = 55", "LINE_15 = 56")
    repo.git("commit", "-q", "-a", "--fixup", "HEAD~3")
    repo.env["GIT_SEQUENCE_EDITOR"] = "true"
    repo.git("rebase", "--interactive", "--autosquash", "upstream/6.1.3")
    assert f"removed patches/{SECOND}" in repo.good("export", "--to", "signals")
    after = repo.series()
    assert b"+LINE_15 = 56" in after[ALONE]
    third = "signals/0003-Fixed-22543-Said-it.patch"
    assert sorted(after) == [ALONE, FIRST, f"signals/0002-{NEW_NAME}", third]
    repo.good("check")


@pytest.mark.parametrize(
    "name, number, steps",
    [
        ("lines", 2, (0, NEW, 1, 2)),
        ("signals", 1, (0, NEW, 1, 2)),
        ("lines", 1, (NEW, 1, 2)),
        ("more", 1, (0, 1, 2, NEW)),
    ],
)
def test_new_commit_of_no_known_place(repo, name, number, steps):
    """A commit whose pull request isn't clear goes where --to says."""
    if name == "more":
        with (repo.patches / "series.toml").open("a") as file:
            file.write('[[pull_request]]\nname = "more"\nafter = []\n')
    rebuild(repo, *steps)
    assert "is new" in repo.refuses("export")
    assert "has no nosuch" in repo.refuses("export", "--to", "nosuch")
    repo.good("export", "--to", name)
    assert f"{name}/000{number}-{NEW_NAME}" in repo.series()
    assert len(repo.series()) == len(steps)
    # From now on it's known.
    assert "up to date already" in repo.good("export")


def test_odd_contents_come_back(repo):
    """Carriage returns, a file mode, a binary and odd names survive."""
    (repo.checkout / "extras" / "run").chmod(0o644)
    (repo.checkout / "extras" / "logo.png").write_bytes(bytes(range(256)))
    files = {"extras/dos.txt": "one\r\n2\r\n", "extras/a b\u2297.txt": "no newline"}
    repo.commit("Fixed #22543 -- Added \u00e9 and odd files.", files)
    tree = repo.git("rev-parse", "HEAD^{tree}")
    repo.good("export", "--to", "signals")
    repo.git("reset", "--quiet", "--hard", "upstream/6.1.3")
    repo.good("apply", "--force")
    assert repo.git("rev-parse", "HEAD^{tree}") == tree
    assert "up to date already" in repo.good("export")


@pytest.mark.parametrize(
    "script, text",
    [
        ("git checkout -q --detach", "on no branch and not on ticket_22543"),
        ("git commit -q --allow-empty -m Nothing.", "changes nothing"),
        ("git reset -q --hard HEAD~3", "no commits on top of upstream/6.1.3"),
        (
            "echo x >> django/query.py; git commit -qa --fixup HEAD~1",
            "git rebase -i --autosquash",
        ),
        ("git reset --hard `git commit-tree HEAD^{tree} -m X`", "upstream/6.1.3"),
        (
            "git reset --hard `git commit-tree HEAD^{tree} -p HEAD -p HEAD~2 -m X`",
            "is a merge commit",
        ),
        (
            "git reset -q --hard HEAD~3;"
            "git cherry-pick ORIG_HEAD~1 ORIG_HEAD~2 ORIG_HEAD",
            "are mixed",
        ),
        ("git format-patch -1 -o ../patches/lines", "have the same subject"),
    ],
)
def test_refused(repo, script, text):
    """What is no plain row of commits on the base is refused."""
    repo.shell(script)
    assert text in repo.refuses("export")


def test_killed(repo, tmp_path):
    """An export that was killed is completed by the next."""
    repo.commit(NEW, {"django/new.py": ""})
    kill = repo.wrap_git(tmp_path, 'case "$1" in update-ref) kill -9 $PPID;; esac')
    assert repo.run("export", "--to", "signals", **kill)[0] == -9
    repo.good("export")
    repo.good("check")
    assert len(repo.series()) == 4


@pytest.mark.parametrize("command", ["export", "check", "test", "lint"])
def test_no_checkout(repo, command):
    """Without django/ the commands say to run apply."""
    shutil.rmtree(repo.checkout)
    assert "Run: python3 series.py apply" in repo.refuses(command)


WRONG = [
    (f"sed -i 's/PATCH/PATCH 1/' ../patches/{ALONE}", f"{ALONE}: "),
    (f"sed -i 's/\"sent\"/1/' ../patches/{SECOND}", f"{SECOND}: "),
    ("echo x >../patches/0001-a.patch", "patches/0001-a.patch"),
    ("mkdir ../patches/a; echo x >../patches/a/0001-a.patch", "patches/a/0001-a.patch"),
    (f"git rm -q extras/run; git commit -qm '{NEW}'", f"{NEW}: is new"),
    ("git tag -f upstream/6.1.3 HEAD", "as upstream.toml says"),
    ("echo applying >.git/series-state", "was interrupted"),
]


@pytest.mark.parametrize("wrong", [[], *([one] for one in WRONG), WRONG[:4]])
def test_check(repo, wrong):
    """All mistakes are found, and nothing is changed."""
    repo.shell(";".join(script for script, _ in wrong))
    output = repo.refuses("check") if wrong else repo.good("check")
    assert all(text in output for _, text in wrong)


def test_check_spaces(repo):
    """A trailing space in an added line is found, and no commit is changed."""
    repo.commit(SUBJECTS[2], {"django/new.py": "x = 1 \n"}, "--amend")
    repo.good("export")
    assert "django/new.py:1: trailing whitespace" in repo.refuses("check")
