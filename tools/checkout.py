"""
The checkout in django/: the base, which is one tagged commit of Django's
sdist, and the branch with one commit for each patch.

STATE is a file that exists while an apply isn't finished. It says "applying"
while the patches are put together elsewhere and django/ is as it was;
"switching" and a commit while the files in django/ become that commit's;
"stopped" and a patch if that one didn't apply.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import tarfile

from tools import environment
from tools.environment import remove
from tools.git import DJANGO, ROOT, WORK, Error, git, indent, run_git, say, upstream

BRANCH = "ticket_22543"
TIP = f"refs/heads/{BRANCH}"
# Where the last apply or export left the branch.
APPLIED = "refs/series/applied"
STATE = DJANGO / ".git" / "series-state"
EXCLUDE = "*.egg-info\n__pycache__/\n*.py[co]\n/build/\n/dist/\n/docs/_build/\n"
AM = "am -q --keep-cr --whitespace=nowarn --committer-date-is-author-date".split()
# What git status says in the middle of a rebase, an am, a merge and the like.
UNFINISHED = re.compile("in progress|You are (currently|in the)|still merging|unmerged")


# The base.


def base():
    """
    Return the tag of the base in django/.

    Raise Error if it isn't there, or isn't what upstream.toml says.
    """
    tag, tree = upstream()["tag"], upstream()["tree"]
    there = (DJANGO / ".git").is_dir()
    if not there or tree != git("rev-parse", "-q", f"{tag}^{{tree}}", check=False):
        raise Error(
            f"django/ does not have {tag} as upstream.toml says.\n"
            "Nothing was changed. Run: python3 series.py apply"
        )
    return tag


def make_base():
    """Bring the base into django/, which is made if it is missing."""
    wanted = upstream()
    path = sdist()
    say(f"Unpacking {path.name} into django/ ...")
    part = import_sdist(path, wanted["version"])
    tree = git("rev-parse", "HEAD^{tree}", cwd=part)
    if tree != wanted["tree"]:
        raise Error(
            f"the files in {path.name} are not the expected ones.\n"
            f"  expected tree: {wanted['tree']}\n  found tree:    {tree}\n"
            "django/ was left as it was. Compare upstream.toml with the release."
        )
    if DJANGO.exists():
        tag = f"refs/tags/{wanted['tag']}"
        git("fetch", "--quiet", "--force", part, f"{tag}:{tag}")
        remove(part)
    else:
        part.rename(DJANGO)


def import_sdist(path, version):
    """
    Make a git repository in .work/ with one commit of an sdist, on BRANCH.

    path: the archive. version: of the release. Return the repository's path.
    """
    part, room = WORK / "django.part", WORK / "unpack.part"
    remove(part)
    remove(room)
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        for member in members:
            # Root would give the files to a user of the machine that made it.
            member.uid, member.gid = os.getuid(), os.getgid()
        archive.extractall(room, members, numeric_owner=True)
    date = f"{max(int(member.mtime) for member in members)} +0000"
    next(room.iterdir()).rename(part)
    remove(room)
    for info in part.glob("*.egg-info"):
        remove(info)
    git("init", "-q", "--template=", "-b", BRANCH, cwd=part)
    (part / ".git" / "info").mkdir()
    (part / ".git" / "info" / "exclude").write_text(EXCLUDE)
    git("add", "--all", "--force", cwd=part)
    message = f"Django {version}, as released on PyPI."
    dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    git("commit", "-q", "-m", message, cwd=part, env=dates)
    git("tag", f"upstream/{version}", cwd=part)
    git("update-ref", APPLIED, "HEAD", cwd=part)
    return part


def sdist():
    """Return the path of the expected sdist; pip takes it if it's missing."""
    wanted = upstream()
    path = WORK / wanted["file"]
    if not path.exists():
        download(wanted["version"]).rename(path)
    size, digest = path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
    if (size, digest) != (wanted["size"], wanted["sha256"]):
        wrong = path.replace(path.with_suffix(".wrong"))
        raise Error(
            f"{path.name} is not the expected file.\n"
            f"  expected: {wanted['size']} bytes, sha256 {wanted['sha256']}\n"
            f"  found:    {size} bytes, sha256 {digest}\n"
            f"Nothing was unpacked; the file is {wrong} now.\n"
            "Run the command again to take it anew. If that ends the same, find out\n"
            "where pip takes it from (pip config list)."
        )
    return path


def download(version):
    """
    Take the sdist of a release from pip's index, without looking at it.

    Return its path, in .work/. Raise Error if pip can't get it.
    """
    part = WORK / "download.part"
    remove(part)
    say(f"Taking the sdist of Django {version} with pip ...")
    args = ("--no-deps", "--no-binary=django", f"--dest={part}", f"django=={version}")
    done = environment.pip("download", *args)
    if done.returncode:
        raise Error(
            f"pip could not get the sdist of Django {version}:\n"
            f"{environment.last_lines(done)}\n{environment.NO_NETWORK}"
        )
    return next(part.glob("*.tar.gz"))


# The branch.


@contextlib.contextmanager
def lock():
    """Raise Error if another command is changing this repository."""
    handle = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Error(
            "another series.py is at work in this repository.\n"
            "Nothing was changed. Wait for it to end and run the command again."
        ) from None
    finally:
        os.close(handle)


def ref(name):
    """Return the commit id of a name in django/, or ""."""
    return git("rev-parse", "--verify", "-q", f"{name}^{{commit}}", check=False)


def commits(since, until=TIP, pretty="%h %s"):
    """Return a line for each commit in since..until, oldest first."""
    args = ("log", "--reverse", f"--format={pretty}", f"{since}..{until}", "--")
    return git(*args).splitlines()


def state():
    """Return what STATE says, or "" if the last apply finished."""
    return STATE.read_text(encoding="utf-8") if STATE.exists() else ""


def uncommitted():
    """Return git status's lines about changed and new files in django/."""
    return git("status", "--porcelain", "--untracked-files=normal").splitlines()


def out_of_place():
    """Return what keeps the branch from being what is worked on, as lines."""
    branch, found = git("symbolic-ref", "-q", "--short", "HEAD", check=False), []
    if branch != BRANCH:
        found.append(f"django/ is on {branch or 'no branch'} and not on {BRANCH}")
    if UNFINISHED.search(git("status", "--long", "--untracked-files=no")):
        found.append("something is unfinished: see git -C django status")
    return found


def guard(force, exported):
    """
    Raise Error if an apply would drop what somebody did in django/.

    force: say what is dropped, instead, and put changed files into git stash.
    exported: a function that tells whether the branch is what patches/ give.
    """
    if not DJANGO.exists():
        return
    if not (DJANGO / ".git").is_dir():
        raise Error(
            "django/ is there, but series.py did not make it: it has no .git.\n"
            "Nothing was changed. Move it away and run the command again."
        )
    switching = state().partition("switching ")[2]
    work = out_of_place()
    if not switching:
        work += uncommitted()
    tip, since = ref(TIP), ref(APPLIED) or upstream()["tag"]
    if tip and tip not in (since, switching) and not exported():
        work += [f"not in patches/: {line}" for line in commits(since, tip)]
        work += [f"taken off the branch: {line}" for line in commits(tip, since)]
    if work and not force:
        raise Error(
            f"django/ has work of its own, which apply would drop:\n{indent(work)}\n"
            'Nothing was changed. Commit it and run "python3 series.py export" to\n'
            'keep it, or "python3 series.py apply --force" to drop it.'
        )
    if work:
        say(f"Dropped from django/ (it was at {ref('HEAD')[:10]}):\n{indent(work)}")
    if work or switching:
        (DJANGO / ".git" / "index.lock").unlink(missing_ok=True)
        for name in ("am", "rebase", "cherry-pick", "revert"):
            run_git(name, "--quit")
        git("reset", "--quiet")
        if uncommitted():
            git("stash", "push", "-q", "-u", "-m", "Set aside by series.py apply.")
            say("Its changed files are in git stash now: git -C django stash list")
        if tip:
            git("checkout", "-q", BRANCH)


def put_together(paths):
    """
    Apply patches to the base in a work tree of their own, and switch django/
    to the result.

    Raise Error for a patch that doesn't apply; the branch then ends with the
    one before it.
    """
    room, stopped, tag = WORK / "apply", "", base()
    STATE.write_text("applying", encoding="utf-8")
    remove(room)
    git("worktree", "prune")
    git("worktree", "add", "-q", "--detach", room, tag)
    for number, path in enumerate(paths, 1):
        name = path.relative_to(ROOT)
        say(f"  {number} of {len(paths)}: {name}")
        done = run_git(*AM, path, cwd=room)
        if done.returncode:
            said = run_git("apply", "--check", path, cwd=room).stderr or done.stderr
            stopped = f"stopped at {name}"
            break
    tip = git("rev-parse", "HEAD", cwd=room)
    remove(room)
    git("worktree", "prune")
    STATE.write_text(f"switching {tip}", encoding="utf-8")
    git("checkout", "-q", "--force", "-B", BRANCH, tip)
    git("update-ref", APPLIED, tip)
    if not stopped:
        return STATE.unlink()
    STATE.write_text(stopped, encoding="utf-8")
    raise Error(
        f"{name} does not apply:\n{indent(said.strip())}\n"
        f"The {number - 1} patches before it are on {BRANCH} in django/. Put it right\n"
        "and run apply again; or bring it and those after it onto the branch there\n"
        f"(git am --3way ../{name}) and run export."
    )
