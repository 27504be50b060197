"""What "series.py apply" does, and what bad input gets from it."""

import fcntl
import hashlib
import os
import shutil
import sys

import pytest

from conftest import FILES, FIRST, SDIST, SECOND, Repo

HOSTILE = """
[user]
    name = Someone Else
    email = else@example.com
[core]
    autocrlf = true
    abbrev = 5
    hooksPath = {home}/hooks
    fileMode = false
[commit]
    gpgSign = true
[diff]
    noprefix = true
    algorithm = patience
    context = 9
[format]
    signature = hello
    numbered = true
    signOff = true
    attach = true
    suffix = .txt
    subjectPrefix = RFC
[am]
    threeWay = true
[init]
    templateDir = {home}/template
    defaultBranch = trunk
"""
KILL = 'case "$* " in {}) kill -9 $PPID; exit 1;; esac'


def contents(directory):
    """Return {path: digest} of the files in a directory."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_first_apply(template, repo):
    """The base is one tagged commit, the patches follow in order."""
    output = template[3]
    for text in ("/python3", "Applying 3 patches", "update() STALE coherent"):
        assert text in output
    log = repo.git("log", "--reverse", "--format=%s|%an|%cn").splitlines()
    assert log == [
        "Django 6.1.3, as released on PyPI.|Django patch series|Django patch series",
        "Fixed #1 -- Changed a line.|Ann|Django patch series",
        "Refs #22543 -- Added the signals.|Ann|Django patch series",
        "Fixed #22543 -- Sent the signals from update().|Ann|Django patch series",
    ]
    assert repo.git("rev-parse", "upstream/6.1.3") == repo.git("rev-parse", "HEAD~3")
    assert repo.git("branch", "--show-current") == "ticket_22543"
    assert (repo.status(), len(repo.git("worktree", "list").splitlines())) == ("", 1)


def test_base_has_every_file(repo):
    """The base has the sdist's bytes and modes, but not its egg-info."""
    names = repo.git("ls-tree", "-r", "-z", "--name-only", "upstream/6.1.3")
    assert set(names.strip("\0").split("\0")) == {
        name for name in FILES if "egg-info" not in name
    }
    assert (repo.checkout / "extras" / "dos.txt").read_bytes() == b"one\r\ntwo\r\n"
    assert os.access(repo.checkout / "extras" / "run", os.X_OK)


def test_second_apply_changes_nothing(repo, tmp_path):
    """A second apply needs no network, changes no file, prints the table."""
    before = contents(repo.root)
    output = repo.good("apply", PIP_FIND_LINKS=str(tmp_path))
    after = contents(repo.root)
    before.pop("django/.git/index"), after.pop("django/.git/index")
    assert after == before
    assert "has all 3 patches" in output and "STALE coherent" in output


def test_same_commits_whatever_the_user_has(repo, template, tmp_path):
    """
    Hostile git configuration, hooks, umask, locale and variables change
    neither the commit ids nor the exported bytes, in another directory.
    """
    head, series = repo.head(), repo.series()
    home = tmp_path / "home"
    for name in ("hooks", "template/hooks", ".config/git"):
        (home / name).mkdir(parents=True)
    for name in ("hooks/applypatch-msg", "hooks/pre-commit", "hooks/post-checkout"):
        (home / name).write_text("#!/bin/sh\nexit 1\n")
        (home / name).chmod(0o755)
    shutil.copy(home / "hooks" / "pre-commit", home / "template" / "hooks")
    (home / ".gitconfig").write_text(HOSTILE.format(home=home))
    (home / ".config/git/attributes").write_text("* text eol=crlf\n*.py -diff\n")
    other = Repo(tmp_path / "other", {**repo.env, "HOME": str(home)})
    ignore = shutil.ignore_patterns("django", ".work")
    shutil.copytree(template[0], other.root, symlinks=True, ignore=ignore)
    # Making .venv takes long and is not what is tested here.
    stamp = other.root / ".venv" / "series.json"
    text = stamp.read_text().replace(str(repo.root).replace("ü", r"\u00fc"), "{}")
    stamp.write_text(text.replace("{}", str(other.root)))
    del other.env["GIT_CONFIG_NOSYSTEM"]
    hostile = {
        "LANG": "de_DE.UTF-8",
        "LC_ALL": "tr_TR.UTF-8",
        "TZ": "Asia/Kathmandu",
        "GIT_DIR": "/nowhere",
        "GIT_INDEX_FILE": "/nowhere",
        "GIT_AUTHOR_NAME": "Nobody",
        "GIT_COMMITTER_DATE": "2001-01-01T00:00:00Z",
        "GIT_DIFF_OPTS": "--unified=7",
        "PYTHONPATH": str(tmp_path),
    }
    umask = os.umask(0o077)
    try:
        assert "Making .venv" not in other.good("apply", **hostile)
        hooks = other.checkout / ".git" / "hooks"
        shutil.copytree(home / "hooks", hooks)
        (other.checkout / ".git" / "series-state").write_text("applying")
        other.good("apply", **hostile)
        other.good("check", **hostile)
        assert "up to date already" in other.good("export", **hostile)
    finally:
        os.umask(umask)
    git_dir = other.checkout / ".git"
    assert (git_dir / "refs/heads/ticket_22543").read_text().strip() == head
    assert other.series() == series


@pytest.mark.parametrize("command", ["add*", "commit*", "am*0002*", "checkout*"])
def test_killed(repo, tmp_path, command):
    """An apply from nothing that is killed is completed by the next."""
    head = repo.head()
    shutil.rmtree(repo.checkout)
    killed = repo.run("apply", **repo.wrap_git(tmp_path, KILL.format(command)))
    assert killed.returncode == -9
    repo.bad("export")
    repo.good("apply")
    assert (repo.head(), repo.status()) == (head, "")


@pytest.mark.parametrize("command", ["am*0002*", "checkout*", "update-ref*"])
def test_killed_with_new_patches(repo, tmp_path, command):
    """Killed while django/ gets other patches, it is completed by the next."""
    repo.edit(f"patches/{FIRST}", "+post_update = object()", "+post_update = 1")
    series = repo.series()
    kill = repo.wrap_git(tmp_path, KILL.format(command))
    assert repo.run("apply", **kill).returncode == -9
    assert "interrupted" in repo.bad("export")
    if command == "checkout*":
        # What git itself leaves behind when it is killed as well.
        (repo.checkout / ".git" / "index.lock").touch()
        (repo.checkout / "django" / "query.py").write_text("half\n")
    repo.good("apply")
    assert (repo.checkout / "django/signals.py").read_text() == "post_update = 1\n"
    assert (repo.series(), repo.status()) == (series, "")


def test_killed_then_worked_on(repo, tmp_path):
    """Commits which a user adds to an interrupted apply are not dropped."""
    repo.edit(f"patches/{FIRST}", "+post_update = object()", "+post_update = 1")
    repo.run("apply", **repo.wrap_git(tmp_path, KILL.format("checkout*")))
    repo.commit("My own work.")
    head = repo.head()
    assert "My own work." in repo.bad("apply")
    assert repo.head() == head


def test_control_c(repo, tmp_path):
    """Control-C gives one line and status 130; the next apply finishes."""
    head = repo.head()
    shutil.rmtree(repo.checkout)
    interrupt = 'case "$* " in am*0002*) kill -2 $PPID; sleep 1; exit 1;; esac'
    output = repo.bad("apply", status=130, **repo.wrap_git(tmp_path, interrupt))
    assert output.endswith(
        "series.py: interrupted. Run the command again to finish it.\n"
    )
    repo.good("apply")
    assert repo.head() == head


def test_directory_which_is_no_checkout(repo):
    """A django/ which series.py did not make is left alone."""
    shutil.rmtree(repo.checkout)
    repo.checkout.mkdir()
    for options in ([], ["--force"]):
        assert "did not make it" in repo.bad("apply", *options)
    assert repo.checkout.exists()


def test_broken_checkout(repo):
    """A django/ whose .git is broken doesn't lead git to this repository."""
    shutil.rmtree(repo.checkout / ".git")
    (repo.checkout / ".git").mkdir()
    repo.git("init", "--quiet", cwd=repo.root)
    repo.git("commit", "--allow-empty", "-m", "Outer.", cwd=repo.root)
    repo.git("tag", "upstream/6.1.3", cwd=repo.root)
    before = contents(repo.root)
    for command in (["apply", "--force"], ["export"], ["check"]):
        repo.bad(*command)
    assert contents(repo.root) == before


def test_other_user(repo):
    """What another user has made can be used, if it can be read."""
    if os.getuid():
        pytest.skip("only root can give files to another user")
    for path in [repo.checkout, *repo.checkout.rglob("*")]:
        os.chown(path, 12345, 12345, follow_symlinks=False)
    repo.good("check")


def test_uncommitted_work(repo):
    """Changed and new files are refused and kept; --force stashes them."""
    repo.edit("django/django/query.py", "LINE_7 = 7", "LINE_7 = 77")
    (repo.checkout / "notes.txt").write_text("mine\n")
    before = contents(repo.checkout / "django")
    output = repo.bad("apply")
    assert "django/query.py" in output and "notes.txt" in output
    assert contents(repo.checkout / "django") == before
    output = repo.good("apply", "--force")
    assert "Dropped" in output and "notes.txt" in output
    assert repo.status() == ""
    repo.git("stash", "pop")
    assert (repo.checkout / "notes.txt").read_text() == "mine\n"


def test_own_commits(repo):
    """Commits which are not in patches/ are refused, or named and dropped."""
    clean = repo.head()
    repo.commit("My own work.")
    head = repo.head()
    assert "My own work." in repo.bad("apply")
    assert repo.head() == head
    output = repo.good("apply", "--force")
    assert "My own work." in output and head[:7] in output
    assert repo.head() == clean
    assert repo.git("cat-file", "-t", head) == "commit"


def test_commits_taken_off(repo):
    """A branch which was set back is refused, naming what is gone."""
    repo.git("reset", "--quiet", "--hard", "HEAD~1")
    head = repo.head()
    assert "taken off the branch: " in repo.bad("apply")
    assert repo.head() == head


def test_other_branch(repo):
    """Another branch in django/ is refused, or left as it is by --force."""
    repo.git("checkout", "--quiet", "-b", "mine")
    repo.commit("My own work.")
    head = repo.head()
    assert "on mine and not on ticket_22543" in repo.bad("apply")
    repo.good("apply", "--force")
    assert repo.git("branch", "--show-current") == "ticket_22543"
    assert repo.git("rev-parse", "mine") == head


def test_unfinished_rebase(repo):
    """An unfinished rebase is refused, or given up by --force."""
    head = repo.head()
    repo.env["GIT_SEQUENCE_EDITOR"] = "sed -i 1s/pick/edit/"
    repo.git("rebase", "--interactive", "HEAD~2")
    assert "something is unfinished" in repo.bad("apply")
    assert "something is unfinished" in repo.bad("export")
    repo.good("apply", "--force")
    assert (repo.head(), repo.status()) == (head, "")


def test_changed_patches(repo):
    """When patches/ changed and django/ has no own work, it follows."""
    repo.edit(f"patches/{FIRST}", "+post_update = object()", "+post_update = 1")
    repo.good("apply")
    assert (repo.checkout / "django/signals.py").read_text() == "post_update = 1\n"
    assert repo.status() == ""


def test_patch_which_does_not_apply(repo):
    """The patch and the place are named; the last good commit stays."""
    first = repo.git("rev-parse", "HEAD~1")
    repo.edit(f"patches/{SECOND}", '-    return "quiet"', '-    return "loud"')
    series = repo.series()
    output = repo.bad("apply")
    assert f"{SECOND} does not apply" in output
    assert "patch failed: django/query.py:" in output
    assert (repo.head(), repo.status()) == (first, "")
    # The rest of the series must not get lost by an export now.
    assert "the branch lacks: Fixed #22543 -- Sent" in repo.bad("export")
    assert repo.series() == series
    repo.edit(f"patches/{SECOND}", '-    return "loud"', '-    return "quiet"')
    repo.good("apply")


def test_patch_which_is_brought_by_hand(repo):
    """What does not apply can be committed in django/ and exported."""
    repo.edit(f"patches/{SECOND}", '-    return "quiet"', '-    return "loud"')
    repo.bad("apply")
    repo.edit("django/django/query.py", '"quiet"', '"sent"')
    repo.commit("Fixed #22543 -- Sent the signals from update().")
    repo.good("export")
    assert "has all 3 patches" in repo.good("apply")


def test_wrong_file(repo):
    """A file of another size or hash is refused and nothing is unpacked."""
    shutil.rmtree(repo.checkout)
    found = hashlib.sha256((repo.root / ".work" / SDIST).read_bytes()).hexdigest()
    for old, new in ((found, "0" * 64), ("size = ", "size = 1")):
        repo.edit("upstream.toml", old, new)
        output = repo.bad("apply")
        assert "  expected: {" in output and f"'sha256': '{found}'" in output
        assert not repo.checkout.exists()
        assert not list((repo.root / ".work").glob("*.gz"))
        repo.edit("upstream.toml", new, old)


def test_damaged_file(repo):
    """A damaged sdist of an earlier run is put aside, and taken again."""
    head = repo.head()
    shutil.rmtree(repo.checkout)
    (repo.root / ".work" / SDIST).write_bytes(b"half")
    assert "found:    {'size': 4," in repo.bad("apply")
    repo.good("apply")
    assert repo.head() == head


def test_wrong_tree(repo):
    """Files which do not give the expected tree are refused."""
    tree = repo.git("rev-parse", "upstream/6.1.3^{tree}")
    shutil.rmtree(repo.checkout)
    repo.edit("upstream.toml", tree, "0" * 40)
    output = repo.bad("apply")
    assert f"'tree': '{'0' * 40}'" in output and f"'tree': '{tree}'" in output
    assert repo.git("for-each-ref") == ""


def test_wrong_tag(repo):
    """A tag of the base that was moved is noticed, and put right by apply."""
    head = repo.head()
    repo.git("tag", "--force", "upstream/6.1.3", "HEAD")
    assert "as upstream.toml says" in repo.bad("check")
    repo.good("apply")
    assert (repo.head(), repo.git("rev-parse", "upstream/6.1.3^{tree}")) != (head, "")
    repo.good("check")


def test_no_network(repo, tmp_path):
    """Without the file anywhere, it's told what pip said and what to do."""
    shutil.rmtree(repo.checkout)
    (repo.root / ".work" / SDIST).unlink()
    output = repo.bad("apply", PIP_FIND_LINKS=str(tmp_path))
    assert "No matching distribution" in output and "Without a network" in output
    assert not repo.checkout.exists()


def test_no_git(repo, tmp_path):
    """Without git, or with one that is too old, there is one clear error."""
    for command in ("apply", "export", "check"):
        assert "found: none" in repo.bad(command, PATH=str(tmp_path))
    old = repo.wrap_git(tmp_path, 'echo "git version 2.20.1"; exit 0')
    assert "found: git version 2.20.1" in repo.bad("apply", **old)


def test_disk_error(repo):
    """An error of the file system is one line."""
    shutil.rmtree(repo.root / ".work")
    (repo.root / ".work").touch()
    done = repo.run("apply")
    assert done.returncode == 1
    assert done.stderr.startswith("series.py: error: ")
    assert len(done.stderr.splitlines()) == 1 and ".work" in done.stderr


def test_stale_scenario(repo):
    """Patches which leave the cache stale make apply fail."""
    (repo.patches / SECOND).unlink()
    output = repo.bad("apply")
    assert "update() STALE STALE" in output and "does not end well" in output


def test_two_at_once(repo):
    """A second apply or export at the same time is refused."""
    handle = os.open(repo.root / "series.py", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        assert "at work" in repo.bad("apply")
        assert "at work" in repo.bad("export")
    finally:
        os.close(handle)


def test_no_patches(repo):
    """An empty patches/ is an error and not an empty series."""
    for path in repo.patches.glob("*/*"):
        path.unlink()
    assert "no patches" in repo.bad("apply")


@pytest.mark.parametrize("text", [None, "version = ", 'version = "1"\n'])
def test_bad_upstream(repo, text):
    """A missing, broken or incomplete upstream.toml is named."""
    (repo.root / "upstream.toml").unlink()
    if text:
        (repo.root / "upstream.toml").write_text(text)
    assert "upstream.toml" in repo.bad("apply")


@pytest.mark.parametrize(
    "old, new, text",
    [
        ('after = ["lines"]', 'after = ["nosuch"]', "must come after"),
        ('"signals"', '"lines"', "repeated name"),
        ('"signals"', '"../x"', "bad or"),
        ("ticket = 1", "tikcet = 1", "tikcet"),
        ("[[pull_request]]", "[[", "cannot be used"),
    ],
)
def test_bad_series(repo, old, new, text):
    """A series.toml that can't be used is named, with what is wrong."""
    repo.edit("patches/series.toml", old, new)
    assert text in repo.bad("apply")


def test_old_python(repo):
    """A Python that is too old to run series.py is told before all else."""
    repo.edit("series.py", "(3, 11)", str(sys.version_info[:2] + (99,)))
    assert "needs Python 3.11" in repo.bad("apply")
