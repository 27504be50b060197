"""What "series.py apply" does, and what bad input gets from it."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys

import pytest

from conftest import FILES, FIRST, SDIST, SECOND, Repo

HOSTILE = """
[user]
    name = Someone Else
    email = else@example.com
    signingKey = none
[core]
    autocrlf = true
    abbrev = 5
    hooksPath = {home}/hooks
    attributesFile = {home}/attributes
    excludesFile = {home}/ignore
    fileMode = false
[commit]
    gpgSign = true
[diff]
    noprefix = true
    mnemonicPrefix = true
    algorithm = patience
    context = 9
[format]
    signature = hello
    numbered = true
    signOff = true
    attach = true
    coverLetter = true
    suffix = .txt
    subjectPrefix = RFC
[am]
    threeWay = true
[init]
    templateDir = {home}/template
    defaultBranch = trunk
[apply]
    whitespace = error
"""


def contents(directory):
    """Return {path: digest} of the files in a directory."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_first_apply(template, repo):
    """The base is one tagged commit, the patches follow, .venv imports it."""
    output = template[3]
    for text in (f"Python {sys.version_info[0]}.", "2 of 2: ", "STALE", "coherent"):
        assert text in output
    assert "without pylibmc: for a test" in output
    log = repo.git("log", "--reverse", "--format=%s|%an|%cn").splitlines()
    assert [line.split("|")[0] for line in log] == [
        "Django 6.1.3, as released on PyPI.",
        "Refs #22543 -- Added the signals.",
        "Fixed #22543 -- Sent the signals from update().",
    ]
    assert log[1].endswith("|Ann|Django patch series")
    assert repo.git("rev-parse", "upstream/6.1.3") == repo.git("rev-parse", "HEAD~2")
    assert repo.git("branch", "--show-current") == "ticket_22543"
    assert repo.status() == ""


def test_base_has_every_file(repo):
    """The base has the sdist's bytes and modes, but not its egg-info."""
    names = repo.git("ls-tree", "-r", "-z", "--name-only", "upstream/6.1.3")
    assert set(names.strip("\0").split("\0")) == {
        name for name in FILES if "egg-info" not in name
    }
    assert (repo.checkout / "extras" / "dos.txt").read_bytes() == b"one\r\ntwo\r\n"
    assert os.access(repo.checkout / "extras" / "run", os.X_OK)
    assert (repo.checkout / "Django.egg-info").is_dir()


def test_second_apply_changes_nothing(repo, tmp_path):
    """A second apply needs no network, changes no file, prints the table."""
    before = contents(repo.root)
    output = repo.good("apply", PIP_FIND_LINKS=str(tmp_path))
    after = contents(repo.root)
    for name in ("django/.git/index", "django/.git/logs/HEAD"):
        before.pop(name, None), after.pop(name, None)
    assert after == before
    assert "has all 2 patches" in output and "STALE" in output


def test_same_commits_whatever_the_user_has(repo, template, tmp_path):
    """
    Hostile git configuration, umask, locale and variables change neither the
    commit ids nor the exported bytes, in another directory.
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
    for name in ("attributes", ".config/git/attributes"):
        (home / name).write_text("* text eol=crlf\n*.py -diff\n")
    for name in ("ignore", ".config/git/ignore"):
        (home / name).write_text("*.py\n")
    other = Repo(tmp_path / "other", {**repo.env, "HOME": str(home)})
    ignore = shutil.ignore_patterns("django", ".work")
    shutil.copytree(template[0], other.root, symlinks=True, ignore=ignore)
    # Making .venv takes long and is not what is tested here.
    other.edit(".venv/series.json", str(repo.root), str(other.root))
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
        other.good("apply", **hostile)
        other.good("check", **hostile)
        assert "up to date already" in other.good("export", **hostile)
    finally:
        os.umask(umask)
    git_dir = other.checkout / ".git"
    assert (git_dir / "refs/heads/ticket_22543").read_text().strip() == head
    assert other.series() == series


def test_killed_while_a_patch_is_applied(repo, tmp_path):
    """An apply killed at a patch is done again by the next, without fuss."""
    head = repo.head()
    shutil.rmtree(repo.checkout)
    kill = 'case "$* " in am*0002*) kill -9 $PPID; exit 1;; esac'
    done = repo.run("apply", **repo.wrap_git(tmp_path, kill))
    assert done.returncode == -9
    assert repo.head() != head
    assert "interrupted" in repo.bad("export")
    # What git itself leaves behind when it is killed as well.
    (repo.checkout / ".git" / "index.lock").touch()
    (repo.checkout / "django" / "query.py").write_text("half\n")
    output = repo.good("apply")
    assert "interrupted" in output
    assert (repo.head(), repo.status()) == (head, "")


def test_killed_then_worked_on(repo, tmp_path):
    """Commits which a user adds to an interrupted apply are not dropped."""
    shutil.rmtree(repo.checkout)
    kill = 'case "$* " in am*0002*) kill -9 $PPID; exit 1;; esac'
    repo.run("apply", **repo.wrap_git(tmp_path, kill))
    repo.commit("My own work.")
    head = repo.head()
    assert "My own work." in repo.bad("apply")
    assert repo.head() == head


@pytest.mark.parametrize("command", ["fast-import", "checkout"])
def test_killed_while_unpacking(repo, tmp_path, command):
    """An apply killed while unpacking leaves no django/; the next makes it."""
    head = repo.head()
    shutil.rmtree(repo.checkout)
    kill = f'case "$1" in {command}) kill -9 $PPID; exit 1;; esac'
    assert repo.run("apply", **repo.wrap_git(tmp_path, kill)).returncode == -9
    assert not repo.checkout.exists()
    repo.good("apply")
    assert (repo.head(), repo.status()) == (head, "")


def test_control_c(repo, tmp_path):
    """Control-C gives one line and status 130; the next apply finishes."""
    head = repo.head()
    shutil.rmtree(repo.checkout)
    interrupt = 'case "$* " in am*0002*) kill -2 $PPID; sleep 1; exit 1;; esac'
    output = repo.bad("apply", status=130, **repo.wrap_git(tmp_path, interrupt))
    assert "series.py: interrupted" in output
    repo.good("apply")
    assert repo.head() == head


def test_failed_installation(repo):
    """A failed installation is told; .venv is not taken as made."""
    head = repo.head()
    repo.edit("upstream.toml", "extra = []", 'extra = ["nosuch-thing"]')
    output = repo.bad("apply")
    assert "pip could not install" in output and "nosuch-thing" in output
    assert not (repo.root / ".venv" / "series.json").exists()
    assert repo.head() == head


def test_directory_which_is_no_checkout(repo):
    """A django/ which series.py did not make is refused, or forced away."""
    head = repo.head()
    shutil.rmtree(repo.checkout)
    repo.checkout.mkdir()
    (repo.checkout / "mine").touch()
    assert "did not make it" in repo.bad("apply")
    assert (repo.checkout / "mine").exists()
    assert "Dropped: django/" in repo.good("apply", "--force")
    assert repo.head() == head


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
    assert "Sent the signals" in repo.bad("apply")
    assert repo.head() == head


def test_other_branch(repo):
    """Another branch in django/ is refused, or left as it is by --force."""
    repo.git("checkout", "--quiet", "-b", "mine")
    assert "on mine and not on ticket_22543" in repo.bad("apply")
    repo.good("apply", "--force")
    assert repo.git("branch", "--show-current") == "ticket_22543"
    assert "mine" in repo.git("branch")


def test_unfinished_rebase(repo):
    """An unfinished rebase is refused, or given up by --force."""
    head = repo.head()
    repo.env["GIT_SEQUENCE_EDITOR"] = "sed -i 1s/pick/edit/"
    repo.git("rebase", "--interactive", "HEAD~2")
    assert "an unfinished git rebase" in repo.bad("apply")
    assert "git rebase" in repo.bad("export")
    repo.good("apply", "--force")
    assert (repo.head(), repo.status()) == (head, "")


def test_changed_patches(repo):
    """When patches/ changed and django/ has no own work, it follows."""
    repo.edit(f"patches/{FIRST}", "+post_update = object()", "+post_update = 1")
    repo.good("apply")
    assert (repo.checkout / "django/signals.py").read_text() == "post_update = 1\n"
    assert repo.status() == ""


def test_patch_which_does_not_apply(repo):
    """The patch and its hunk are named; the last good commit stays."""
    first = repo.git("rev-parse", "HEAD~1")
    repo.edit(f"patches/{SECOND}", '-    return "quiet"', '-    return "loud"')
    series = repo.series()
    output = repo.bad("apply")
    assert f"{SECOND} does not apply" in output
    assert "django/query.py: hunk @@ -" in output
    assert (repo.head(), repo.status()) == (first, "")
    assert not (repo.checkout / ".git" / "rebase-apply").exists()
    # The rest of the series must not get lost by an export now.
    assert "lacks patches" in repo.bad("export")
    assert repo.series() == series
    assert "not all applied" in repo.bad("test", "update")
    repo.edit(f"patches/{SECOND}", '-    return "loud"', '-    return "quiet"')
    repo.good("apply")


def test_wrong_file(repo):
    """A file of another size or hash is refused and nothing is unpacked."""
    shutil.rmtree(repo.checkout)
    found = hashlib.sha256((repo.root / ".work" / SDIST).read_bytes()).hexdigest()
    repo.edit("upstream.toml", found, "0" * 64)
    repo.edit(".venv/series.json", found, "0" * 64)
    output = repo.bad("apply")
    assert f"sha256 {'0' * 64}" in output and f"sha256 {found}" in output
    assert "nothing was unpacked" in output
    assert not repo.checkout.exists()
    assert not list((repo.root / ".work").glob("*.gz"))


def test_damaged_file_is_taken_again(repo):
    """A damaged sdist from an earlier run is replaced."""
    head = repo.head()
    shutil.rmtree(repo.checkout)
    (repo.root / ".work" / SDIST).write_bytes(b"half")
    assert "taken again" in repo.good("apply")
    assert repo.head() == head


def test_wrong_tree(repo):
    """Files which do not give the expected tree are refused."""
    tree = repo.git("rev-parse", "upstream/6.1.3^{tree}")
    shutil.rmtree(repo.checkout)
    repo.edit("upstream.toml", tree, "0" * 40)
    output = repo.bad("apply")
    assert f"expected tree: {'0' * 40}" in output and f"found tree:    {tree}" in output
    assert not repo.checkout.exists()


def test_no_network(repo, tmp_path):
    """Without the file anywhere, what was expected is told."""
    shutil.rmtree(repo.checkout)
    (repo.root / ".work" / SDIST).unlink()
    output = repo.bad("apply", PIP_FIND_LINKS=str(tmp_path))
    assert f"could not get {SDIST}" in output and "sha256 " in output
    assert "No matching distribution" in output
    assert not repo.checkout.exists()


def fake_python(directory, name, script):
    """Write a shell script which plays a Python."""
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


def test_no_supported_python(repo, tmp_path):
    """Every candidate is named with what it said, and what to install."""
    shutil.rmtree(repo.root / ".venv")
    version = ".".join(map(str, sys.version_info[:2]))
    repo.edit("upstream.toml", f'pythons = ["{version}"]', 'pythons = ["3.99"]')
    fake_python(tmp_path, "python3.99", "echo 'shim: not found' >&2; exit 127")
    path = f"{tmp_path}:{repo.env['PATH']}"
    output = repo.bad("apply", PATH=path)
    assert f"{tmp_path}/python3.99: does not work: shim: not found" in output
    assert f"{sys.executable}: Python {version}." in output
    assert "not supported" in output and "install Python 3.99" in output
    assert not (repo.root / ".venv").exists()


def test_making_venv_again(repo, tmp_path):
    """
    A half-made .venv is made again, by the newest Python that can, and the
    user's settings for pip and Python do not lead elsewhere.
    """
    head = repo.head()
    (repo.root / ".venv" / "series.json").unlink()
    (repo.root / ".venv" / "junk").touch()
    version = ".".join(map(str, sys.version_info[:2]))
    repo.edit("upstream.toml", f'["{version}"]', f'["{version}", "3.98", "3.99"]')
    bin = tmp_path / "versions" / "3.99.1" / "bin"
    bin.mkdir(parents=True)
    answer = '[ "$1" = -I ] || { echo "no pip here" >&2; exit 1; }; echo '
    fake_python(bin, "python", answer + "'[[3, 99, 1], \"x\", []]'")
    fake_python(tmp_path, "python3.98", 'echo \'[[3, 98, 0], "x", ["ensurepip"]]\'')
    output = repo.good(
        "apply",
        PATH=f"{tmp_path}:{repo.env['PATH']}",
        PYENV_ROOT=str(tmp_path),
        PIP_TARGET=str(tmp_path / "target"),
        PIP_USER="1",
        PYTHONPATH=str(tmp_path),
    )
    assert output.index("Python 3.99.1") < output.index("It cannot: no pip here")
    assert output.index("no pip here") < output.index(f"Python {version}.")
    assert "3.98.0 (" not in output
    assert not (repo.root / ".venv" / "junk").exists()
    assert not (tmp_path / "target").exists()
    assert repo.head() == head
    python = repo.root / ".venv" / "bin" / "python"
    code = "import django.query; print(django.query.__file__)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == str(repo.checkout / "django" / "query.py")


def test_no_git(repo, tmp_path):
    """Without git there is one clear error."""
    for command in ("apply", "export", "check", "test"):
        assert "git was not found" in repo.bad(command, PATH=str(tmp_path))


def test_old_git(repo, tmp_path):
    """A git which is too old is named with its version."""
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
    assert "the cache is stale after: update()" in output


def test_two_at_once(repo):
    """A second apply or export at the same time is refused."""
    handle = os.open(repo.root, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        assert "at work" in repo.bad("apply")
        assert "at work" in repo.bad("export")
    finally:
        os.close(handle)


def test_no_patches(repo):
    """An empty patches/ is an error and not an empty series."""
    shutil.rmtree(repo.patches)
    assert "no patches" in repo.bad("apply")


@pytest.mark.parametrize("text", [None, "version = ", 'version = "1"\n'])
def test_bad_upstream(repo, text):
    """A missing, broken or incomplete upstream.toml is named."""
    (repo.root / "upstream.toml").unlink()
    if text:
        (repo.root / "upstream.toml").write_text(text)
    assert "upstream.toml" in repo.bad("apply")


@pytest.mark.parametrize("command", ["apply", "test", "export", "check"])
def test_help(repo, command):
    """Every command explains itself."""
    assert "usage: series.py" in repo.good(command, "--help")
