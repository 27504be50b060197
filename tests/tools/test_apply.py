"""What "series.py apply" does, and what bad input gets from it."""

import fcntl
import os
import re
import shutil
import tarfile

import pytest

from conftest import FIRST, SDIST, SECOND, SUBJECTS, write_script

HOSTILE = """
[user] name = Someone Else
[core] autocrlf = true
[core] hooksPath = {home}/hooks
[core] fileMode = false
[commit] gpgSign = true
[diff] noprefix = true
[diff] context = 9
[format] signature = hello
[format] numbered = true
[format] attach = true
[format] suffix = .txt
[init] templateDir = {home}
"""
VARIABLES = {
    "LC_ALL": "tr_TR.UTF-8",
    "TZ": "Asia/Kathmandu",
    "GIT_DIR": "/nowhere",
    "GIT_INDEX_FILE": "/nowhere",
    "GIT_AUTHOR_NAME": "Nobody",
    "GIT_COMMITTER_DATE": "2001-01-01T00:00:00Z",
}


NEW = f"sed -i s/object/list/ ../patches/{FIRST}"


def test_first_apply(template, repo):
    """The base is one tagged commit, as in the sdist; then the patches."""
    assert "/python3" in template[2] and "update() STALE coherent" in template[2]
    ours = "Django patch series"
    assert repo.git("log", "--reverse", "--format=%s|%an|%cn").splitlines() == [
        f"Django 6.1.3, as released on PyPI.|{ours}|{ours}",
        *(f"{subject}|Ann|{ours}" for subject in SUBJECTS),
    ]
    assert repo.git("rev-parse", "upstream/6.1.3") == repo.git("rev-parse", "HEAD~3")
    assert repo.where().split("\n")[1:] == ["ticket_22543"]
    names = repo.git("ls-tree", "-r", "-z", "--name-only", "upstream/6.1.3").split("\0")
    with tarfile.open(repo.root / ".work" / SDIST) as archive:
        files = {one.name.partition("/")[2] for one in archive if one.isfile()}
    assert {*names, "Django.egg-info/SOURCES.txt"} == {*files, ""}
    assert (repo.checkout / "extras" / "dos.txt").read_bytes() == b"one\r\ntwo\r\n"
    assert os.access(repo.checkout / "extras" / "run", os.X_OK)
    # A second apply needs no network and changes no file.
    before = repo.contents()
    output = repo.good("apply", PIP_FIND_LINKS="/nowhere")
    assert "has all 3 patches" in output and "STALE coherent" in output
    assert repo.contents() == before


def test_whatever_the_user_has(repo, tmp_path):
    """
    Hostile git configuration, hooks, umask, locale, variables and owners of
    files change neither the commit ids nor the exported bytes.
    """
    before, series = repo.where(), repo.series()
    for name in ("applypatch-msg", "pre-commit", "post-checkout"):
        write_script(tmp_path / "hooks" / name, "exit 1")
    (tmp_path / ".gitconfig").write_text(HOSTILE.format(home=tmp_path))
    (tmp_path / ".config" / "git").mkdir(parents=True)
    (tmp_path / ".config/git/attributes").write_text("* text eol=crlf\n*.py -diff\n")
    hostile = {"HOME": str(tmp_path), "PYTHONPATH": str(tmp_path), **VARIABLES}
    shutil.rmtree(repo.checkout)
    umask = os.umask(0o077)
    try:
        repo.good("apply", **hostile)
        shutil.copytree(tmp_path / "hooks", repo.checkout / ".git" / "hooks")
        (repo.checkout / ".git" / "series-state").write_text("applying")
        repo.good("apply", **hostile)
        if os.getuid() == 0:
            repo.shell("chown -hR 12345:12345 .")
        repo.good("check", **hostile)
        assert "up to date already" in repo.good("export", **hostile)
    finally:
        os.umask(umask)
    repo.shell("chown -hR `id -u`:`id -g` .")
    assert (repo.where(), repo.series()) == (before, series)


@pytest.mark.parametrize(
    "command, fresh, number",
    [
        ("add*", True, 9),
        ("am*0002*", True, 2),
        ("am*0002*", False, 9),
        ("checkout*", False, 9),
        ("checkout*", False, 2),
        ("update-ref*", False, 9),
    ],
)
def test_killed(repo, tmp_path, command, fresh, number):
    """An apply that's killed at any point is completed by the next."""
    repo.shell(NEW)
    if fresh:
        shutil.rmtree(repo.checkout)
    kill = f'case "$* " in {command}) kill -{number} $PPID; sleep 1; exit 1;; esac'
    status, output = repo.run("apply", **repo.wrap_git(tmp_path, kill))
    assert status == (-9 if number == 9 else 130)
    assert ("interrupted" in output) == (number == 2)
    assert fresh or "interrupted" in repo.refuses("export")
    if command == "checkout*":
        # What is committed meanwhile isn't dropped.
        repo.commit("My own work.", {"django/new.py": ""})
        assert "My own work." in repo.refuses("apply")
        repo.git("reset", "--quiet", "--hard", "HEAD~1")
        # What git itself leaves behind when it is killed as well.
        (repo.checkout / ".git" / "index.lock").touch()
        (repo.checkout / "django" / "query.py").write_text("half\n")
    repo.good("apply")
    signals = repo.shell("git status -s; cat django/signals.py")
    assert signals == "post_update = list()"


@pytest.mark.parametrize("git", ["nothing", ".git"])
def test_directory_of_others(repo, git):
    """A django/ without a good .git is left alone, and what is around it."""
    repo.shell("rm -rf .git; cd ..; git init -q; git commit -q --allow-empty -m Outer.")
    repo.git("tag", "upstream/6.1.3", cwd=repo.root)
    (repo.checkout / git).mkdir()
    for command in (["apply"], ["apply", "--force"], ["export"], ["check"]):
        output = repo.refuses(*command)
        if git == "nothing" and "apply" in command:
            assert "series.py did not make it" in output


@pytest.mark.parametrize(
    "script, texts",
    [
        ("sed -i s/_7/_77/ django/query.py; touch notes", ["query.py", "notes"]),
        ("git rm -q extras/run; git commit -qm Mine.", ["not in patches/", "Mine."]),
        ("git reset -q --hard HEAD~1", ["taken off the branch: ", SUBJECTS[2]]),
        ("git checkout -qb mine; git commit -q --allow-empty -m M", ["is on mine"]),
        (
            "GIT_SEQUENCE_EDITOR='sed -i 1s/pick/edit/' git rebase -qi HEAD~2",
            ["something is unfinished"],
        ),
    ],
)
def test_work_of_its_own(repo, script, texts):
    """What apply would drop is refused, or named and kept aside by --force."""
    before = repo.where()
    repo.shell(script)
    head, mine = repo.git("rev-parse", "HEAD"), repo.git("branch", "--list", "mine")
    output = repo.refuses("apply")
    assert all(text in output for text in texts)
    output = repo.good("apply", "--force")
    assert all(text in output for text in ("Dropped", head[:7], *texts))
    assert repo.where() == before
    assert repo.git("branch", "--list", "mine").strip() == mine.strip("* ")
    assert repo.git("cat-file", "-t", head) == "commit"
    if "notes" in script:
        repo.shell("git stash pop; test -e notes; grep LINE_77 django/query.py")


def test_patch_which_does_not_apply(repo):
    """It's named, the last good commit stays, export loses nothing."""
    first = repo.git("rev-parse", "HEAD~1")
    repo.edit(f"patches/{SECOND}", '-    return "quiet"', '-    return "loud"')
    output = repo.bad("apply")
    assert f"{SECOND} does not apply" in output and "failed: django/query.py" in output
    # Git's own advice is about a directory that is gone.
    assert "--continue" not in output and "--show-current-patch" not in output
    assert repo.where().split("\n") == [first, "ticket_22543"]
    assert f"the branch lacks: {SUBJECTS[2]}" in repo.refuses("export")
    repo.edit("django/django/query.py", '"quiet"', '"sent"')
    repo.commit(SUBJECTS[2])
    repo.good("export")
    assert "has all 3 patches" in repo.good("apply")
    repo.shell(NEW)
    repo.good("apply")
    signals = repo.shell("git status -s; cat django/signals.py")
    assert signals == "post_update = list()"


@pytest.mark.parametrize("key", ["size", "sha256", "tree"])
def test_wrong_sdist(repo, key):
    """A file of another size, hash or tree is refused."""
    text = (repo.root / "upstream.toml").read_text()
    value = re.search(rf'{key} = "?(\w+)', text)[1]
    shutil.rmtree(repo.checkout)
    repo.edit("upstream.toml", value, f"1{value}")
    output = repo.bad("apply")
    assert "expected" in output and f"1{value}" in output
    assert not (repo.checkout / ".git/refs/heads/ticket_22543").exists()
    assert key == "tree" or "Unpacking" not in output


def test_no_sdist(repo, tmp_path):
    """A damaged one is put aside; then pip is asked, whose answer is told."""
    before = repo.where()
    shutil.rmtree(repo.checkout)
    (repo.root / ".work" / SDIST).write_bytes(b"half")
    assert "found:" in repo.refuses("apply")
    output = repo.refuses("apply", PIP_FIND_LINKS=str(tmp_path))
    assert "No matching distribution" in output and "Without a network" in output
    repo.good("apply")
    assert repo.where() == before


def test_bad_surroundings(repo, tmp_path):
    """Without git, a lock, or a good disk, there is one clear error."""
    assert "found: none" in repo.refuses("apply", PATH=str(tmp_path))
    old = repo.wrap_git(tmp_path, 'echo "git version 2.20.1"; exit 0')
    assert "found: git version 2.20.1" in repo.refuses("export", **old)
    handle = os.open(repo.root / "series.py", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    for command in ("apply", "export", "check", "lint", "test", "wheel"):
        assert "at work" in repo.refuses(command)
    os.close(handle)
    repo.shell("rm -r ../.work; touch ../.work")
    output = repo.refuses("apply")
    assert ".work" in output and len(output.splitlines()) == 1


@pytest.mark.parametrize(
    "path, old, new, text",
    [
        ("upstream.toml", "version = ", "other = ", "upstream.toml cannot be used"),
        ("patches/series.toml", '["lines"]', '["nosuch"]', "must come after"),
        ("patches/series.toml", '"signals"', '"lines"', "repeated name"),
        ("patches/series.toml", "[[pull_request]]", "[[", "cannot be used"),
        ("series.py", "info < (3, 11)", "info < (4, 0)", "needs Python 3.11"),
    ],
)
def test_bad_input(repo, path, old, new, text):
    """What can't be used is named, with what is wrong."""
    repo.edit(path, old, new)
    assert text in repo.refuses("apply")


def test_too_few_patches(repo):
    """Patches that leave the cache stale make apply fail; no patch, too."""
    repo.shell(f"rm ../patches/{SECOND}")
    assert "update() STALE STALE" in repo.bad("apply")
    repo.shell("rm ../patches/*/*.patch")
    assert "no patches" in repo.refuses("apply")
