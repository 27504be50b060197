"""
The checkout in django/: the base, which is one tagged commit of Django's
sdist, and the branch with one commit for each patch.

The file STATE exists while an apply isn't finished: "applying" if django/ is
as it was, "switching" and the commit that the files are becoming, or "stopped"
and the patch that didn't apply.
"""

import hashlib
import re

from tools import DJANGO, ROOT, WORK, environment
from tools.common import Error, must, remove, run, say, upstream
from tools.git import AM, git

BRANCH = "ticket_22543"
TIP = f"refs/heads/{BRANCH}"
# Where the last apply or export left the branch.
APPLIED = "refs/series/applied"
STATE = DJANGO / ".git" / "series-state"
# What git status says in the middle of a rebase, an am, a merge and the like.
UNFINISHED = re.compile("in progress|You are (currently|in the)|still merging|unmerged")


def base(whole=False):
    """Return the base's tag. Raise Error if it, or all on it, isn't there."""
    tag, tree = upstream()["tag"], upstream()["tree"]
    there = (DJANGO / ".git").is_dir()
    if not there or tree != git("rev-parse", "-q", f"{tag}^{{tree}}", check=False):
        advice = "Nothing was changed. Run: python3 series.py apply"
        raise Error(f"django/ has no {tag} as upstream.toml says.\n{advice}")
    if whole and state():
        raise Error("the patches are not all applied. Run: python3 series.py apply")
    return tag


def expect(path, **found):
    """Raise Error if an sdist isn't what upstream.toml says."""
    wanted = {key: upstream()[key] for key in found}
    if found != wanted:
        wrong = path.replace(path.with_suffix(".wrong"))
        raise Error(
            f"{path.name} is not the expected file.\n  expected: {wanted}\n"
            f"  found:    {found}\nIt is {wrong} now; the branch is as it was.\nRun "
            "it again; if that ends the same, see where pip gets it (pip config list)."
        )


def make_base():
    """Bring the base into django/. Raise Error if it isn't as expected."""
    version, path = upstream()["version"], WORK / upstream()["file"]
    if not path.exists():
        download(version)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    expect(path, size=path.stat().st_size, sha256=digest)
    commit = import_sdist(path, version)
    expect(path, tree=git("rev-parse", f"{commit}^{{tree}}"))
    git("tag", "--force", upstream()["tag"], commit)


def download(version):
    """Bring a release's sdist from pip's index to .work/. Return its path."""
    part, what = WORK / "download.part", f"get the sdist of Django {version}"
    remove(part)
    say(f"Taking the sdist of Django {version} with pip ...")
    args = ("download", "--no-deps", "--no-binary=django", f"--dest={part}")
    environment.pip(what, *args, f"django=={version}")
    (path,) = part.iterdir()
    return path.replace(WORK / path.name)


def import_sdist(path, version):
    """Return a commit in django/ of the files in the sdist of a release."""
    say(f"Unpacking {path.name} ...")
    part, index = WORK / "unpack" / "django", WORK / "unpack" / "index"
    remove(part.parent)
    part.mkdir(parents=True)
    # Root would give the files to a user of the machine that made it.
    tar = "tar", "--no-same-owner", "--strip-components=1", "-xf", path
    must(run(*tar, cwd=part), f"{path} cannot be unpacked", "Delete it; run it again.")
    date = max(int(file.lstat().st_mtime) for file in part.rglob("*"))
    for info in part.glob("*.egg-info"):
        remove(info)
    if not DJANGO.exists():
        template = f"--template={ROOT / 'tools' / 'template'}"
        new = part.with_name("new")
        git("init", "-q", template, "-b", BRANCH, new, cwd=ROOT)
        new.rename(DJANGO)
    env = {"GIT_INDEX_FILE": str(index), "GIT_WORK_TREE": str(part)}
    git("add", "--all", "--force", env=env)
    args = (git("write-tree", env=env), "-m", f"Django {version}, as released on PyPI.")
    remove(part.parent)
    dates = ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE")
    return git("commit-tree", *args, env=dict.fromkeys(dates, f"{date} +0000"))


def commits(since, until=TIP, pretty="%h %s", cwd=DJANGO):
    """Return a line for each commit in since..until, oldest first."""
    args = ("log", "--reverse", f"--format={pretty}", f"{since}..{until}", "--")
    return git(*args, cwd=cwd).splitlines()


def state():
    """Return what STATE says, or "" if the last apply finished."""
    return STATE.read_text(encoding="utf-8") if STATE.exists() else ""


def switching():
    """Return the commit that the files are becoming, or ""."""
    return state().partition("switching ")[2]


def uncommitted():
    """Return git status's lines about changed and new files in django/."""
    return git("status", "--porcelain", "--untracked-files=normal").splitlines()


def out_of_place():
    """Return what keeps the branch from being what is worked on, as lines."""
    branch, found = git("symbolic-ref", "-q", "--short", "HEAD", check=False), []
    if branch != BRANCH:
        where = f"django/ is on {branch or 'no branch'} and not on {BRANCH}"
        found.append(f"{where}: git -C django switch {BRANCH}")
    if UNFINISHED.search(git("status", "--long", "--untracked-files=no")):
        found.append("something is unfinished: see git -C django status")
    return found


def set_aside():
    """
    Make django/ ready to switch to other commits, whatever is unfinished. Put
    changed and new files into git stash; what is committed stays in git.
    """
    (DJANGO / ".git" / "index.lock").unlink(missing_ok=True)
    for name in ("am", "rebase", "cherry-pick", "revert"):
        git(name, "--quit", check=False)
    git("reset", "--quiet")
    if uncommitted():
        git("stash", "push", "-q", "-u", "-m", "Set aside by series.py apply.")
        say("Its changed files are in git stash now: git -C django stash list")
    git("checkout", "-q", BRANCH, check=False)


def put_on_branch(paths):
    """Make the branch of patches. For one that doesn't apply, raise Error."""
    room, tag = WORK / "apply", base()
    STATE.write_text("applying", encoding="utf-8")
    remove(room)
    git("worktree", "add", "-q", "--force", "--detach", room, tag)
    say(f"Applying {len(paths)} patches to {tag} ...")
    done = run("git", *AM, *paths, cwd=room)
    tip = git("rev-parse", "HEAD", cwd=room)
    git("worktree", "remove", "--force", room)
    STATE.write_text(f"switching {tip}", encoding="utf-8")
    git("checkout", "-q", "--force", "-B", BRANCH, tip)
    git("update-ref", APPLIED, tip)
    if done.returncode == 0:
        STATE.unlink()
        return
    number = len(commits(tag))
    name = paths[number].relative_to(ROOT)
    STATE.write_text(f"stopped at {name}", encoding="utf-8")
    advice = (
        f"The {number} before it are on {BRANCH} in django/. Correct it and apply;\n"
        f"or bring it and the rest there (git am --3way ../{name}), and export."
    )
    must(done, f"{name} does not apply", advice)
