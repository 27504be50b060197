#!/usr/bin/env python3
"""
The driver of this patch series against Django.

    python3 series.py apply     make django/ from the sdist and the patches
    python3 series.py test      run the tests
    python3 series.py sizes     measure updates of many rows
    python3 series.py export    write patches/ from the commits in django/
    python3 series.py check     look for mistakes in patches/

"python3 series.py COMMAND --help" tells more about each command.

The file needs Python 3.11 or newer, git, and nothing else. It has six parts:
running other programs, the files in patches/, the checkout in django/, the
environment in .venv, the tests and their database servers, and the commands,
each of which uses those above it. Each module in commands/ is a command more,
with HELP, add_arguments(parser), and run(options).
"""

import argparse
import collections
import contextlib
import errno
import fcntl
import getpass
import glob
import hashlib
import importlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

ROOT = Path(__file__).resolve().parent
PATCHES = ROOT / "patches"
PATCHES_MAIN = ROOT / "patches-main"
CHECKOUT = ROOT / "django"
VENV = ROOT / ".venv"
WORK = ROOT / ".work"
TESTS = ROOT / "tests"
COMMANDS = ROOT / "commands"
STAMP = VENV / "series.json"
SCENARIO = TESTS / "scenario.py"
SIZES = TESTS / "sizes.py"

TICKET = "22543"
BRANCH = f"ticket_{TICKET}"
# Where the last apply or export left the branch.
APPLIED = "refs/series/applied"
# This file exists until all patches are applied. It says "running" while they
# are, or where the last apply stopped.
STATE = CHECKOUT / ".git" / "series-state"

# Every commit made here is committed by this name, at its author's date, so
# that the same patches give the same commit ids everywhere.
COMMITTER = "Django patch series"
COMMITTER_EMAIL = "series@localhost"

MINIMUM_PYTHON = (3, 11)
# The first git which reads GIT_CONFIG_GLOBAL.
MINIMUM_GIT = (2, 32)
MESSAGE_WIDTH = 72
# What git commit --fixup puts before the subject of the commit it is for.
FIXUP = "fixup! "
PROGRESS_SECONDS = 30

EXCLUDE = """\
# Written by series.py.
*.egg-info
__pycache__/
*.py[co]
/build/
/dist/
/docs/_build/
/docs/_theme/djangodocs/static/*.map
"""

# settings: the module for Django's tests. url: the variable with the server's
# address. requirements: the driver's file in Django's tests/requirements/.
# packages, build_packages: the Debian packages with the server, and those that
# build the driver. address: where a server usually is.
Database = collections.namedtuple(
    "Database", "settings about url requirements packages build_packages address"
)
# What --db may name. tests/databases.py tells how each is configured.
DATABASES = {
    "sqlite": Database("test_sqlite", "needs no server", *[None] * 5),
    "postgres": Database(
        "databases",
        "a PostgreSQL server",
        "SERIES_POSTGRES_URL",
        "postgres.txt",
        "postgresql",
        "",
        "postgresql://{user}@127.0.0.1:{port}",
    ),
    "mariadb": Database(
        "databases",
        "a MariaDB server",
        "SERIES_MARIADB_URL",
        "mysql.txt",
        "mariadb-server",
        "default-libmysqlclient-dev pkg-config gcc",
        "mysql://{user}@127.0.0.1:{port}",
    ),
}
PORTS = {"postgres": 5432, "mariadb": 3306}
PROBE_SECONDS = 30
START_SECONDS = 60

# What --receivers may name, and what these receivers do. The module is one of
# settings, which connects them; the file names the tests that can't pass.
RECEIVERS = {
    "quiet": "do nothing",
    "audit": "check every update against what the signals promise",
}
RECEIVERS_MODULE = TESTS / "receivers.py"
RECEIVERS_EXCEPTIONS = TESTS / "receivers.toml"


class Error(Exception):
    """
    A failure with everything that its reader needs.

    what: what happened, the first line being a summary.
    kept: what was left as it was.
    todo: what to do next.
    """

    def __init__(self, what, kept, todo):
        super().__init__(what)
        self.what, self.kept, self.todo = what, kept, todo

    def __str__(self):
        return f"{self.what}\nLeft as it was: {self.kept}\nNext: {self.todo}"


def say(text=""):
    """Print one line of progress at once."""
    print(text, flush=True)


def indent(lines):
    """Return the lines (a string or a list) as one indented block."""
    if isinstance(lines, str):
        lines = lines.splitlines()
    return "\n".join(f"  {line}" for line in lines)


def relative(path):
    """Return a path as seen from the repository, for messages."""
    path = Path(path)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


# Running other programs.


def plain_environment(**extra):
    """
    Return the environment for Python and pip, without what would lead them
    to other packages than those in .venv.
    """
    unwanted = {"DJANGO_SETTINGS_MODULE", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"}
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in unwanted
        and not name.startswith(("PYTHON", "GIT_"))
        and name != "__PYVENV_LAUNCHER__"
    }
    env.update(PIP_USER="0", PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    env.update(extra)
    return env


def git_environment(**extra):
    """
    Return the environment for git: no configuration, hooks, attributes,
    identity, language or time zone of the user's.
    """
    settings = {
        "am.threeWay": "false",
        "commit.gpgSign": "false",
        "core.abbrev": "auto",
        "core.attributesFile": os.devnull,
        "core.autocrlf": "false",
        "core.eol": "lf",
        "core.excludesFile": os.devnull,
        "core.fileMode": "true",
        "core.fsmonitor": "false",
        "core.hooksPath": os.devnull,
        "core.quotePath": "true",
        "core.safecrlf": "false",
        "diff.algorithm": "default",
        "diff.indentHeuristic": "true",
        "diff.mnemonicPrefix": "false",
        "diff.noprefix": "false",
        "diff.renames": "true",
        "diff.suppressBlankEmpty": "false",
        "format.signOff": "false",
        "gc.auto": "0",
        "i18n.commitEncoding": "UTF-8",
        "i18n.logOutputEncoding": "UTF-8",
        "init.defaultBranch": BRANCH,
        "log.showSignature": "false",
    }
    env = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_")
    }
    env.update(
        GIT_ATTR_NOSYSTEM="1",
        GIT_CEILING_DIRECTORIES=str(ROOT),
        GIT_CONFIG_GLOBAL=os.devnull,
        GIT_CONFIG_NOSYSTEM="1",
        GIT_CONFIG_SYSTEM=os.devnull,
        GIT_CONFIG_COUNT=str(len(settings)),
        GIT_EDITOR=":",
        GIT_PAGER="cat",
        GIT_TERMINAL_PROMPT="0",
        GIT_AUTHOR_NAME=COMMITTER,
        GIT_AUTHOR_EMAIL=COMMITTER_EMAIL,
        GIT_COMMITTER_NAME=COMMITTER,
        GIT_COMMITTER_EMAIL=COMMITTER_EMAIL,
        LC_ALL="C",
        TZ="UTC",
    )
    for number, (name, value) in enumerate(settings.items()):
        env[f"GIT_CONFIG_KEY_{number}"] = name
        env[f"GIT_CONFIG_VALUE_{number}"] = value
    env.update(extra)
    return env


def run_git(*args, cwd=CHECKOUT, env=None, stdin=b""):
    """
    Run git whatever its outcome.

    args: the arguments. cwd: the directory. env: variables to add. stdin:
    bytes for its standard input. Return the CompletedProcess; its output is
    text. Raise Error if there is no git.
    """
    try:
        done = subprocess.run(
            ["git", *map(str, args)],
            cwd=cwd,
            env=git_environment(**(env or {})),
            input=stdin,
            capture_output=True,
        )
    except FileNotFoundError as error:
        if error.filename != "git":
            raise
        raise Error(
            "git was not found.",
            "everything.",
            "install git and run the command again.",
        ) from None
    done.stdout = done.stdout.decode(errors="replace")
    done.stderr = done.stderr.decode(errors="replace")
    return done


def git(*args, **kwargs):
    """Run git, return its output without the last newline, or raise Error."""
    done = run_git(*args, **kwargs)
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"status {done.returncode}"
        raise Error(
            f'"git {args[0]}" failed:\n{indent(said)}',
            "what git had not yet changed.",
            "put right what git names and run the command again.",
        )
    return done.stdout.rstrip("\n")


def require_git():
    """Raise Error if git is missing or too old."""
    said = git("--version", cwd=ROOT)
    found = re.search(r"(\d+)\.(\d+)", said)
    if not found or tuple(map(int, found.groups())) < MINIMUM_GIT:
        wanted = ".".join(map(str, MINIMUM_GIT))
        raise Error(
            f"this needs git {wanted} or newer and found: {said}",
            "everything.",
            "install a newer git and run the command again.",
        )


def last_lines(text, count=12):
    """Return the last lines of a program's output as an indented block."""
    return indent([line for line in text.splitlines() if line.strip()][-count:])


# The base and the files in patches/.


def load_upstream():
    """
    Return upstream.toml as a dictionary.

    Raise Error if it is missing, is not TOML or lacks a key.
    """
    import tomllib  # Not at the top: main() reports a Python without it.

    path = ROOT / "upstream.toml"
    try:
        upstream = tomllib.loads(path.read_text(encoding="utf-8"))
        for key in ("version", "file", "size", "sha256", "tree", "pythons"):
            upstream[key]
        for key in ("file", "extra", "without_wheels"):
            upstream["requirements"][key]
    except FileNotFoundError:
        problem = "is missing"
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problem = f"cannot be read: {error}"
    except KeyError as error:
        problem = f"has no {error.args[0]}"
    else:
        upstream["tag"] = f"upstream/{upstream['version']}"
        return upstream
    raise Error(
        f"upstream.toml {problem}.",
        "everything.",
        "restore it with: git checkout upstream.toml",
    )


def patch_files():
    """Return the paths of the patches, in order."""
    return sorted(PATCHES.glob("*.patch"))


def read_patches(directory):
    """Return {name: bytes} of the patches in a directory."""
    return {path.name: path.read_bytes() for path in Path(directory).glob("*.patch")}


def patch_message(path):
    """
    Return (subject, body lines) of a patch, as git am would commit them.

    Raise Error if git cannot read the patch as mail.
    """
    with tempfile.TemporaryDirectory() as temp:
        message = Path(temp, "message")
        headers = git(
            "mailinfo",
            "--encoding=UTF-8",
            message,
            Path(temp, "patch"),
            cwd=temp,
            stdin=path.read_bytes(),
        )
        subject = re.search(r"^Subject: (.*)$", headers, re.M)
        body = message.read_text(encoding="utf-8", errors="replace")
    return (subject.group(1) if subject else "", body.rstrip().splitlines())


def changed_paths(path):
    """
    Return the paths which a patch changes, ours after a rename.

    Raise Error if git cannot read the patch.
    """
    with tempfile.TemporaryDirectory() as temp:
        lines = git("apply", "--numstat", path, cwd=temp).splitlines()
    return [line.split("\t", 2)[2] for line in lines]


def touched_labels(tree):
    """
    Return the labels of Django's tests which the patches change.

    tree: the tree in which a label must exist to be returned.
    """
    parts = [
        path.split("/") for patch in patch_files() for path in changed_paths(patch)
    ]
    names = {part[1] for part in parts if part[0] == "tests" and len(part) > 2}
    return sorted(names & known_labels(tree))


def known_labels(tree):
    """Return the names of the test packages in a Django tree, as a set."""
    return {path.parent.name for path in Path(tree, "tests").glob("*/__init__.py")}


def expected_names(subjects):
    """Return the names which git format-patch gives patches, in order."""
    with tempfile.TemporaryDirectory() as temp:
        git("init", "--quiet", "--template=", cwd=temp)
        tree = git("write-tree", cwd=temp)
        parent = []
        day = "2000-01-01T00:00:00Z"
        dates = {"GIT_AUTHOR_DATE": day, "GIT_COMMITTER_DATE": day}
        for subject in subjects:
            args = ["commit-tree", tree, *parent]
            message = subject.encode(errors="replace")
            parent = ["-p", git(*args, cwd=temp, env=dates, stdin=message)]
        git("update-ref", "HEAD", parent[1], cwd=temp)
        names = git("format-patch", "--no-numbered", "--always", "--root", cwd=temp)
    return names.splitlines()


# The checkout in django/.


def is_checkout():
    """Return whether django/ is a git repository of its own."""
    if not (CHECKOUT / ".git").is_dir():
        return False
    return run_git("rev-parse", "--git-dir").returncode == 0


def ref(name):
    """Return the commit id of a name in the checkout, or None."""
    done = run_git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    return done.stdout.strip() if done.returncode == 0 else None


def commits(since, until="HEAD", pretty="%h %s"):
    """Return one line for each commit in since..until, oldest first."""
    lines = git("log", "--reverse", f"--format={pretty}", f"{since}..{until}", "--")
    return lines.splitlines()


def uncommitted():
    """Return git status's lines about changed and untracked files."""
    return git("status", "--porcelain", "--untracked-files=normal").splitlines()


def operation_in_progress():
    """Return the name of an unfinished git operation in django/, or ""."""
    signs = {
        "rebase-merge": "git rebase",
        "rebase-apply": "git am",
        "MERGE_HEAD": "git merge",
        "CHERRY_PICK_HEAD": "git cherry-pick",
        "REVERT_HEAD": "git revert",
    }
    for sign, name in signs.items():
        if (CHECKOUT / ".git" / sign).exists():
            return name
    return ""


def current_branch():
    """Return the name of the branch which is checked out, or ""."""
    return run_git("symbolic-ref", "--quiet", "--short", "HEAD").stdout.strip()


def read_state():
    """Return what the state file says, or "" if the last apply ended well."""
    return STATE.read_text(encoding="utf-8").strip() if STATE.exists() else ""


def require_checkout():
    """Raise Error unless django/ is there, with the base of upstream.toml."""
    if not is_checkout() or not ref(load_upstream()["tag"]):
        raise Error(
            "there is no checkout of the base in django/.",
            "everything.",
            "run: python3 series.py apply",
        )


def format_patches(revisions, directory, *options, cwd=CHECKOUT):
    """
    Write commits as patches into a directory.

    revisions: such as "base..tip". options: of git format-patch. cwd: the git
    repository.
    """
    git(
        "format-patch",
        "--quiet",
        "--no-numbered",
        "--zero-commit",
        "--full-index",
        "--no-signature",
        "--no-attach",
        "--no-thread",
        "--no-cover-letter",
        "--no-base",
        "--no-encode-email-headers",
        "--find-renames",
        "--unified=3",
        f"--output-directory={directory}",
        *options,
        revisions,
        cwd=cwd,
    )


def exported(base):
    """Return {name: bytes} of the patches which the branch would give."""
    with tempfile.TemporaryDirectory() as temp:
        format_patches(f"{base}..refs/heads/{BRANCH}", temp)
        return read_patches(temp)


def write_patches(new, directory):
    """
    Make a directory hold patches and no others, saying what changes.

    new: {name: bytes}. directory: made if missing. Return whether anything
    changed.
    """
    directory.mkdir(exist_ok=True)
    old = read_patches(directory)
    for name in sorted(new):
        if new[name] != old.get(name):
            part = directory / f".{name}.part"
            part.write_bytes(new[name])
            part.replace(directory / name)
            say(f"  wrote {relative(directory / name)}")
    for name in sorted(old.keys() - new.keys()):
        (directory / name).unlink()
        say(f"  removed {relative(directory / name)}")
    return old != new


def write_tree_to(commit, directory, *paths):
    """
    Write the files of a commit into a directory.

    commit: which one. directory: where to, made if missing. paths: only
    these. The checkout and its index are left alone.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temp:
        env = {"GIT_INDEX_FILE": str(Path(temp, "index"))}
        git("read-tree", commit, env=env)
        names = git("ls-files", "-z", "--", *paths, env=env)
        git(
            "checkout-index",
            "-z",
            "--stdin",
            f"--prefix={directory}/",
            env=env,
            stdin=names.encode(),
        )


def import_sdist(sdist, upstream, repository):
    """
    Make one commit of the sdist and tag it.

    The files go straight from the archive into git's objects, so neither the
    file system nor the umask can change them. The date is that of the newest
    file in the archive.

    sdist: the archive. upstream: upstream.toml; without its tree, any will do.
    repository: the git repository to use. Return the tree. Raise Error if it
    is not the expected one; the repository then has no tag.
    """
    with tarfile.open(sdist) as archive:
        members = [
            (member, name.encode())
            for member in archive
            for name in [member.name.partition("/")[2]]
            if member.isfile() and not name.partition("/")[0].endswith(".egg-info")
        ]
        message = f"Django {upstream['version']}, as released on PyPI.\n".encode()
        newest = max(int(member.mtime) for member, _ in members)
        stream = [
            b"commit refs/series/import\n",
            f"committer {COMMITTER} <{COMMITTER_EMAIL}> {newest} +0000\n".encode(),
            b"data %d\n%s" % (len(message), message),
        ]
        for member, name in members:
            mode = b"100755" if member.mode & 0o100 else b"100644"
            content = archive.extractfile(member).read()
            stream.append(b"M %s inline %s\ndata %d\n" % (mode, name, len(content)))
            stream += [content, b"\n"]
    git("update-ref", "-d", "refs/series/import", cwd=repository)
    git("fast-import", "--quiet", cwd=repository, stdin=b"".join(stream))
    tree = git("rev-parse", "refs/series/import^{tree}", cwd=repository)
    if tree != upstream.get("tree", tree):
        raise Error(
            f"the files in {upstream['file']} are not the expected ones.\n"
            f"  expected tree: {upstream['tree']}\n"
            f"  found tree:    {tree}",
            "django/ and patches/.",
            "compare upstream.toml with the release on PyPI.",
        )
    tag = f"refs/tags/{upstream['tag']}"
    git("update-ref", tag, "refs/series/import", cwd=repository)
    git("update-ref", "-d", "refs/series/import", cwd=repository)
    return tree


def make_checkout(sdist, upstream):
    """
    Make django/ with the base on the series' branch.

    It is made under another name and renamed when it is whole. Raise Error
    as import_sdist() does.
    """
    part = WORK / "django.part"
    remove(part)
    part.mkdir(parents=True)
    git("init", "--quiet", "--template=", cwd=part)
    for name, value in (("core.autocrlf", "false"), ("core.fileMode", "true")):
        git("config", name, value, cwd=part)
    (part / ".git" / "info").mkdir(exist_ok=True)
    (part / ".git" / "info" / "exclude").write_text(EXCLUDE, encoding="utf-8")
    import_sdist(sdist, upstream, part)
    git("checkout", "--quiet", "-B", BRANCH, upstream["tag"], cwd=part)
    git("update-ref", APPLIED, upstream["tag"], cwd=part)
    state = "stopped before the first patch\n"
    (part / ".git" / STATE.name).write_text(state, encoding="utf-8")
    part.rename(CHECKOUT)


def own_work(base):
    """
    Return what in the checkout an apply would drop, as (title, lines) pairs.

    base: the base's commit, or None when the base is another one now.
    """
    state, applied, tip = read_state(), ref(APPLIED), ref(f"refs/heads/{BRANCH}")
    if state == "running":
        # An apply was interrupted. Its commits and its half-written files are
        # no one's work; anybody else's commits are.
        lines = commits(applied or base, pretty="%ce %h %s") if applied or base else []
        others = [line for line in lines if not line.startswith(f"{COMMITTER_EMAIL} ")]
        others = [line.split(" ", 1)[1] for line in others]
        return [("commits that are not in patches/:", others)] if others else []
    work = []
    operation = operation_in_progress()
    if operation:
        work.append((f"an unfinished {operation}", []))
    if current_branch() != BRANCH:
        name = current_branch() or "no branch"
        work.append((f"django/ is on {name} and not on {BRANCH}", []))
    changes = uncommitted()
    if changes:
        work.append(("uncommitted changes:", changes))
    if tip and applied != tip and not (base and in_patches(base)):
        added = commits(applied, tip) if applied else commits(base, tip) if base else []
        removed = commits(tip, applied) if applied else []
        if added:
            work.append(("commits that are not in patches/:", added))
        if removed:
            work.append(("commits taken off the branch since:", removed))
        if not added and not removed:
            work.append((f"{BRANCH} is not where the last apply left it", []))
    return work


def describe_work(work):
    """Return own_work()'s pairs as an indented block."""
    return indent(
        [line for title, lines in work for line in (title, *indent_all(lines))]
    )


def indent_all(lines):
    """Return each of the lines indented."""
    return [f"  {line}" for line in lines]


def in_patches(base):
    """Return whether the branch's commits on a base are those in patches/."""
    if run_git("merge-base", "--is-ancestor", base, f"refs/heads/{BRANCH}").returncode:
        return False
    return exported(base) == read_patches(PATCHES)


def refuse_to_drop(base, force):
    """
    Raise Error if an apply would drop somebody's work.

    With force say what is dropped instead, and put it where git can bring it
    back: files into git stash, commits under a name which is printed.
    """
    work = own_work(base)
    interrupted = read_state() == "running"
    if work and not force:
        raise Error(
            "django/ holds work of its own, which apply would drop:\n"
            + describe_work(work),
            "everything, in django/ and elsewhere.",
            'commit it and run "python3 series.py export" to keep it,\n'
            '  or "python3 series.py apply --force" to drop it.',
        )
    if interrupted:
        say("An earlier apply was interrupted; it is done again.")
        with contextlib.suppress(FileNotFoundError):
            (CHECKOUT / ".git" / "index.lock").unlink()
    if work:
        say(f"Dropped from django/:\n{describe_work(work)}")
    if work or interrupted:
        set_aside()


def set_aside():
    """
    Leave the checkout without changes or an operation in progress.

    Changed files go into git stash. A line tells the commit's id.
    """
    say(f"What was checked out is still commit {git('rev-parse', '--short', 'HEAD')}.")
    for name in ("am", "rebase", "cherry-pick", "revert"):
        run_git(name, "--quit")
    git("reset", "--quiet")
    if uncommitted():
        message = "Set aside by series.py apply."
        git("stash", "push", "--quiet", "--include-untracked", f"--message={message}")
        say('The changed files are in git stash: see "git -C django stash list".')
    if current_branch() != BRANCH and ref(f"refs/heads/{BRANCH}"):
        git("checkout", "--quiet", BRANCH)


def failed_hunks(path, said):
    """
    Return the heads of the hunks which git apply names in its errors.

    path: the patch. said: the errors.
    """
    heads, current = [], None
    wanted = set(re.findall(r"patch failed: (.+):(\d+)$", said, re.M))
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("diff --git "):
            current = line.rpartition(" b/")[2]
        found = re.match(r"@@ -(\d+)", line)
        if found and (current, found.group(1)) in wanted:
            heads.append(f"{current}: hunk {line}")
    return heads


def apply_patches(upstream):
    """
    Put the branch on the base and the patches on the branch, one by one.

    Raise Error for a patch that does not apply; the branch then ends with
    the patch before it.
    """
    paths = patch_files()
    STATE.write_text("running\n", encoding="utf-8")
    git("checkout", "--quiet", "--force", "-B", BRANCH, upstream["tag"])
    git("update-ref", APPLIED, "HEAD")
    for number, path in enumerate(paths, 1):
        say(f"  {number} of {len(paths)}: {path.name}")
        done = run_git(
            "am",
            "--quiet",
            "--no-3way",
            "--keep-cr",
            "--no-scissors",
            "--no-gpg-sign",
            "--whitespace=nowarn",
            "--committer-date-is-author-date",
            path,
        )
        if done.returncode:
            said = run_git("apply", "--check", "--whitespace=nowarn", path).stderr
            run_git("am", "--abort")
            STATE.write_text(f"stopped at {path.name}\n", encoding="utf-8")
            lines = (said or done.stderr).strip().splitlines()
            raise Error(
                f"{path.name} does not apply.\n"
                + indent(lines + failed_hunks(path, said)),
                f"the {number - 1} patches before it are on {BRANCH} in django/, "
                "without changes of this one.",
                f"put right patches/{path.name} and run apply again.",
            )
        git("update-ref", APPLIED, "HEAD")
    STATE.unlink()


def remove(path):
    """Delete a file or a directory, if it is there."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()


# The environment in .venv.

PROBE = """
import importlib.util as u, json, sys
parts = [name for name in ("venv", "ensurepip") if not u.find_spec(name)]
print(json.dumps([sys.version_info[:3], sys.executable, parts]))
"""


def python_candidates(supported):
    """
    Return the commands which may be a supported Python, without repeats.

    supported: versions such as "3.13".
    """
    newest_first = sorted(supported, key=version_key, reverse=True)
    found = [sys.executable]
    names = [f"python{version}" for version in newest_first] + ["python3", "python"]
    found += [shutil.which(name) for name in names]
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    for version in newest_first:
        pattern = os.path.join(glob.escape(pyenv), "versions", f"{version}.*")
        found += sorted(glob.glob(os.path.join(pattern, "bin", "python")))
    if shutil.which("uv"):
        for version in newest_first:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                done = subprocess.run(
                    ["uv", "python", "find", version],
                    capture_output=True,
                    stdin=subprocess.DEVNULL,
                    text=True,
                    timeout=30,
                )
                found.append(done.stdout.strip() if done.returncode == 0 else None)
    # .venv itself may be replaced, so it cannot be what makes it.
    own = str(VENV) + os.sep
    return list(
        dict.fromkeys(path for path in found if path and not path.startswith(own))
    )


def version_key(version):
    """Return a version such as "3.13" as a tuple of numbers."""
    return tuple(map(int, version.split(".")))


def probe_python(command, supported):
    """
    Run a candidate. Return (version, what it said).

    command: its path. supported: versions such as "3.13". The version is a
    tuple, or None if this Python will not do.
    """
    try:
        done = subprocess.run(
            [command, "-I", "-c", PROBE],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=30,
            env=plain_environment(),
        )
        version, _, missing = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return None, "did not answer in 30 seconds"
    except OSError as error:
        return None, f"cannot be run: {error.strerror}"
    except ValueError:
        said = (done.stderr.strip() or f"status {done.returncode}").splitlines()[0]
        return None, f"does not work: {said}"
    text = ".".join(map(str, version))
    if ".".join(map(str, version[:2])) not in supported:
        return None, f"Python {text}, not supported"
    if missing:
        return None, f"Python {text}, without its {' and '.join(missing)} module"
    return tuple(version), f"Python {text}"


def make_venv(supported):
    """
    Make .venv with the newest supported Python that can.

    supported: versions such as "3.13". Raise Error if there is none.
    """
    looked_at, usable = [], []
    for command in python_candidates(supported):
        version, said = probe_python(command, supported)
        looked_at.append(f"{command}: {said}")
        if version:
            usable.append((version, command))
    usable.sort(key=lambda pair: pair[0], reverse=True)
    for version, command in usable:
        text = ".".join(map(str, version))
        say(f"Python {text} ({command}): making .venv ...")
        old = WORK / "venv.old"
        remove(old)
        if VENV.exists() or VENV.is_symlink():
            VENV.rename(old)
            remove(old)
        done = subprocess.run(
            [command, "-m", "venv", str(VENV)],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env=plain_environment(),
        )
        if done.returncode == 0:
            return
        remove(VENV)
        said = last_lines(done.stdout + done.stderr, 3).strip()
        looked_at.append(f"{command}: cannot make an environment: {said}")
        say(f"It cannot: {said}")
    raise Error(
        f"no supported Python ({', '.join(supported)}) was found.\n"
        f"These were looked at:\n{indent(looked_at)}",
        "django/ and patches/.",
        f"install Python {max(supported, key=version_key)} with its venv module "
        "(pyenv, uv,\n  python.org, or your system's packages: on Debian "
        "python3-venv) and run apply again.",
    )


def venv_python():
    """Return the path of .venv's Python."""
    return VENV / "bin" / "python"


def requirements(upstream, text):
    """
    Return what to install next to Django, one requirement a line.

    upstream: upstream.toml. text: the requirements file of Django's tests.
    """
    left_out = {name.lower() for name in upstream["requirements"]["without_wheels"]}
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    kept = [
        line
        for line in lines
        if re.match(r"[\w.-]*", line).group().lower() not in left_out
    ]
    return kept + upstream["requirements"]["extra"]


def venv_stamp(upstream):
    """
    Return what .venv is made from, as text: as long as this is what the
    stamp in .venv says, there is nothing to install.
    """
    facts = {
        "directory": str(ROOT),
        "pythons": upstream["pythons"],
        "sha256": upstream["sha256"],
        "requirements": upstream["requirements"],
    }
    return json.dumps(facts, indent=1, sort_keys=True) + "\n"


def venv_ready(upstream):
    """Return whether .venv is whole, works, and fits upstream.toml."""
    try:
        if STAMP.read_text(encoding="utf-8") != venv_stamp(upstream):
            return False
    except OSError:
        return False
    return probe_python(str(venv_python()), upstream["pythons"])[0] is not None


def require_venv():
    """Raise Error unless .venv is ready."""
    if not venv_ready(load_upstream()):
        raise Error(
            ".venv is missing or is not the one which upstream.toml asks for.",
            "everything.",
            "run: python3 series.py apply",
        )


def pip(*args):
    """Run .venv's pip; return (whether it went well, its output)."""
    done = subprocess.run(
        [str(venv_python()), "-m", "pip", *map(str, args)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=plain_environment(),
    )
    return done.returncode == 0, done.stdout


def sdist_problem(path, upstream):
    """Return how a file differs from the sdist in upstream.toml, or ""."""
    size = path.stat().st_size
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if (size, sha256) == (upstream["size"], upstream["sha256"]):
        return ""
    return (
        f"  expected: {upstream['size']} bytes, sha256 {upstream['sha256']}\n"
        f"  found:    {size} bytes, sha256 {sha256}"
    )


def download(version):
    """
    Get the sdist of a release from PyPI, without a look at what it is.

    Return (the directory that it's in, whether pip ended well, what it said).
    """
    part = WORK / "download.part"
    remove(part)
    ok, said = pip(
        "download",
        "--no-deps",
        "--no-binary=django",
        "--retries=2",
        f"--dest={part}",
        f"django=={version}",
    )
    return part, ok, said


def fetch_sdist(upstream):
    """
    Return the path of the sdist, taken from PyPI unless it is there already.

    Raise Error if pip cannot get it or if it is not the expected file.
    """
    path = WORK / upstream["file"]
    if path.exists():
        problem = sdist_problem(path, upstream)
        if not problem:
            return path
        say(f"{relative(path)} is not the expected file and is taken again:")
        say(problem)
        remove(path)
    say(f"Taking {upstream['file']} with pip ...")
    part, ok, said = download(upstream["version"])
    expected = f"{upstream['size']} bytes, sha256 {upstream['sha256']}"
    if not ok or not (part / upstream["file"]).exists():
        raise Error(
            f"pip could not get {upstream['file']}.\n"
            f"  expected: {expected}\n  found:    nothing. pip said:\n"
            + last_lines(said, 6),
            "django/ and patches/; nothing was unpacked.",
            "look to the network or to pip's settings (pip config list) and run\n"
            f"  apply again; or put the file at {relative(path)} by hand.",
        )
    problem = sdist_problem(part / upstream["file"], upstream)
    if problem:
        remove(part)
        raise Error(
            f"{upstream['file']} is not the expected file.\n{problem}",
            "django/ and patches/; nothing was unpacked.",
            "find out what pip takes it from (pip config list), and if PyPI has\n"
            "  another file now, do not use it before you know why.",
        )
    (part / upstream["file"]).rename(path)
    remove(part)
    return path


def install(upstream):
    """
    Install Django from django/, editable, and what its tests need.

    Only wheels are taken, since a machine may have no compiler. Raise Error
    if pip fails; .venv then has no stamp and is made again.
    """
    say("Installing Django and what its tests need in .venv ...")
    for name, reason in upstream["requirements"]["without_wheels"].items():
        say(f"  without {name}: {reason}")
    text = git("show", f"{upstream['tag']}:{upstream['requirements']['file']}")
    listed = WORK / "requirements.txt"
    lines = requirements(upstream, text)
    listed.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    ok, said = pip(
        "install",
        "--only-binary=:all:",
        f"--requirement={listed}",
        "--editable",
        CHECKOUT,
    )
    if not ok:
        raise Error(
            f"pip could not install what Django's tests need.\n{last_lines(said)}",
            "django/ and patches/; .venv is not finished.",
            "look to the network or to what pip says, and run apply again.",
        )
    STAMP.write_text(venv_stamp(upstream), encoding="utf-8")


# Running the ticket's scenario and the tests.


@contextlib.contextmanager
def tree_of(commit, *paths):
    """Give a temporary directory with the files of a commit, or some."""
    with tempfile.TemporaryDirectory(prefix="series-") as temp:
        tree = Path(temp).resolve()
        write_tree_to(commit, tree, *paths)
        yield tree


def scenario(tree):
    """
    Run the ticket's scenario with the Django in a tree.

    Return its steps: [{"step", "database", "cache", "coherent"}, ...].
    Raise Error if it fails.
    """
    done = subprocess.run(
        [str(venv_python()), "-B", str(SCENARIO), "--json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=plain_environment(PYTHONPATH=str(tree), PYTHONIOENCODING="utf-8"),
    )
    try:
        steps = json.loads(done.stdout)
    except ValueError:
        raise Error(
            f"{relative(SCENARIO)} failed with the Django in {tree}.\n"
            + last_lines(done.stdout + done.stderr, 3),
            f"everything; the patches are on {BRANCH} in django/.",
            f"run it by hand: PYTHONPATH=django .venv/bin/python {relative(SCENARIO)}",
        ) from None
    return steps


def scenario_table(before, after, version):
    """Return the table of the steps without and with the series."""

    def cell(step):
        return f"{step['cache']} {'coherent' if step['coherent'] else 'STALE'}"

    rows = [("", "database", f"cache, Django {version}", "cache, with the series")]
    for old, new in zip(before, after):
        rows.append((new["step"], str(new["database"]), cell(old), cell(new)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows
    )


def show_scenario(upstream):
    """
    Run the scenario on both trees and print the table.

    Raise Error if the cache is stale with the series.
    """
    say(f"\nThe ticket's scenario, on SQLite ({relative(SCENARIO)}):")
    with tree_of(upstream["tag"], "django") as tree:
        before = scenario(tree)
    after = scenario(CHECKOUT)
    say(scenario_table(before, after, upstream["version"]))
    stale = [step["step"] for step in after if not step["coherent"]]
    if stale:
        raise Error(
            f"with the series the cache is stale after: {', '.join(stale)}.",
            f"everything; the patches are on {BRANCH} in django/.",
            "put right the series; the scenario must end coherent.",
        )


Target = collections.namedtuple("Target", "name settings env")


def python_path(tree):
    """Return the PYTHONPATH for a Django and the settings in tests/."""
    return f"{tree}{os.pathsep}{TESTS}"


@contextlib.contextmanager
def target(name, upstream):
    """
    Give the Target for a key of DATABASES, with a server that answers.

    That's the one whose address is given, one on this machine, or one that is
    started here and stopped at the end. Raise Error if there is none.
    """
    database = DATABASES[name]
    if database.url is None:
        yield Target(name, database.settings, {"SERIES_DB": name})
        return
    install_driver(name, upstream)
    with contextlib.ExitStack() as stack:
        url, origin = os.environ.get(database.url), f"given by {database.url}"
        if url:
            version, said = probe_server(name, url)
            if not version:
                raise Error(
                    f"the server given by {database.url} does not answer:\n"
                    f"{last_lines(said, 2)}",
                    "everything; no test ran.",
                    f"correct {database.url}, or unset it to find or start one.",
                )
        else:
            url, version, origin = find_server(name)
        if not url:
            url, version = stack.enter_context(start_server(name))
            origin = "started for this run"
        address = urlsplit(url).netloc.rpartition("@")[2]
        say(f"{name}: {version} at {address} ({origin})")
        yield Target(name, database.settings, {"SERIES_DB": name, database.url: url})


def install_driver(name, upstream):
    """Install the Python driver of a database in .venv if it's not there."""
    database = DATABASES[name]
    module = {"postgres": "psycopg", "mariadb": "MySQLdb"}[name]
    done = subprocess.run(
        [str(venv_python()), "-c", f"import {module}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=plain_environment(),
    )
    if not done.returncode:
        return
    file = f"{upstream['tag']}:tests/requirements/{database.requirements}"
    lines = [line.strip() for line in git("show", file).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    say(f"Installing {' '.join(lines)} in .venv ...")
    ok, said = pip("install", *lines)
    if not ok:
        todo = "look to the network or to what pip says, and run the command again."
        if database.build_packages:
            todo += (
                "\n  It has no wheels and is built here. What that needs, on Debian:\n"
                f"  apt-get install {database.build_packages}"
            )
        raise Error(
            f"pip could not install {' '.join(lines)}.\n{last_lines(said)}",
            "everything; no test ran.",
            todo,
        )


def probe_server(name, url):
    """
    Ask a server for its version.

    Return (the version, ""), or (None, what was said) if it doesn't answer.
    """
    code = (
        "from django.db import connection\n"
        "with connection._nodb_cursor() as cursor:\n"
        "    cursor.execute('SELECT version()')\n"
        "    print(cursor.fetchone()[0])\n"
    )
    env = {
        "SERIES_DB": name,
        DATABASES[name].url: url,
        "PYTHONPATH": python_path(CHECKOUT),
        "DJANGO_SETTINGS_MODULE": "databases",
        "PYTHONWARNINGS": "ignore",
    }
    try:
        done = subprocess.run(
            [str(venv_python()), "-c", code],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_SECONDS,
            env=plain_environment(**env),
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer in {PROBE_SECONDS} seconds"
    if done.returncode:
        return None, done.stderr.strip() or f"status {done.returncode}"
    # PostgreSQL adds what it was built with.
    return done.stdout.partition(" on ")[0].strip(), ""


def find_server(name):
    """
    Return (URL, version, where) of a server on this machine, or Nones.

    psycopg itself reads PGPASSWORD.
    """
    users = {"postgres": [os.environ.get("PGUSER"), "postgres"], "mariadb": ["root"]}
    port = PORTS[name]
    for user in dict.fromkeys(filter(None, [*users[name], getpass.getuser()])):
        url = DATABASES[name].address.format(user=quote(user, safe=""), port=port)
        version, _ = probe_server(name, url)
        if version:
            return url, version, f"it answered there, as {user}"
    return None, None, None


def find_program(*names):
    """Return the path of the first of some programs that is there, or None."""
    directories = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    path = os.pathsep.join([*os.get_exec_path(), *directories, "/usr/sbin"])
    return next(filter(None, (shutil.which(one, path=path) for one in names)), None)


@contextlib.contextmanager
def start_server(name):
    """
    Start a server from the installed packages, in a temporary directory.

    Give (URL, version), and stop it at the end, also after Ctrl-C or SIGTERM.
    Raise Error if it's not installed or does not start.
    """
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with tempfile.TemporaryDirectory(
        prefix=f"series-{name}-", ignore_cleanup_errors=True
    ) as temp:
        # No server runs as root.
        user = {"postgres": "postgres", "mariadb": "mysql"}[name]
        who = {}
        if os.geteuid() == 0:
            try:
                entry = pwd.getpwnam(user)
            except KeyError:
                entry = pwd.getpwnam("nobody")
            who = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(temp, entry.pw_uid, entry.pw_gid)
        data = f"{temp}/data"
        if name == "postgres":
            install = [find_program("initdb"), "-D", data, "-U", "postgres"]
            install += ["-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
            serve = [find_program("postgres"), "-D", data, "-p", str(port)]
            for option in (
                "listen_addresses=127.0.0.1",
                f"unix_socket_directories={temp}",
                "fsync=off",
                # Django's whole suite makes its tables in one transaction.
                "max_locks_per_transaction=256",
            ):
                serve += ["-c", option]
            url = f"postgresql://postgres@127.0.0.1:{port}"
        else:
            install = [find_program("mariadb-install-db", "mysql_install_db")]
            install += ["--no-defaults", f"--datadir={data}", "--skip-test-db"]
            install += ["--auth-root-authentication-method=normal"]
            serve = [find_program("mariadbd", "mysqld"), "--no-defaults"]
            serve += [f"--datadir={data}", f"--port={port}"]
            serve += ["--bind-address=127.0.0.1", f"--socket={temp}/socket"]
            serve += [f"--pid-file={temp}/pid", "--innodb-flush-log-at-trx-commit=0"]
            url = f"mysql://root@127.0.0.1:{port}"
        todo = (
            f"give the address of a server in {DATABASES[name].url}, or install\n"
            f"  one: apt-get install {DATABASES[name].packages}"
        )
        if not install[0] or not serve[0]:
            raise Error(
                f"there is no {name} server: none is given, none answers on port\n"
                f"  {PORTS[name]}, and none is installed.",
                "everything; no test ran.",
                todo,
            )
        say(f"Starting {relative(serve[0])} in {temp} ...")
        log = Path(temp, "log")
        with log.open("wb") as file:
            run = {"cwd": temp, "stdin": subprocess.DEVNULL, **who}
            # MariaDB deletes there what looks like its own temporary tables.
            run["env"] = {**os.environ, "TMPDIR": temp}
            run.update(stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
            process, version, stop = None, None, signal.SIGKILL
            terminate = signal.signal(signal.SIGTERM, signal.default_int_handler)
            try:
                process = subprocess.Popen(install, **run)
                if not process.wait():
                    # PostgreSQL doesn't wait for its clients after SIGINT.
                    stop = signal.SIGINT if name == "postgres" else signal.SIGTERM
                    process = subprocess.Popen(serve, **run)
                    version = wait_for_server(name, url, process)
                if not version:
                    said = log.read_text(encoding="utf-8", errors="replace")
                    raise Error(
                        f"the {name} server did not start.\n{last_lines(said)}",
                        "everything; no test ran.",
                        todo,
                    )
                yield url, version
            finally:
                if process and process.poll() is None:
                    # With what a script for installing started.
                    os.killpg(process.pid, stop)
                    try:
                        process.wait(START_SECONDS)
                    except subprocess.TimeoutExpired:
                        os.killpg(process.pid, signal.SIGKILL)
                        process.wait()
                signal.signal(signal.SIGTERM, terminate)


def wait_for_server(name, url, process):
    """Return the version of a server that is starting, or None if it ends."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        version, _ = probe_server(name, url)
        if version:
            return version
        time.sleep(0.2)
    return None


def processors():
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def runtests_command(labels, settings, parallel):
    """Return the command which runs Django's tests, in its tests/."""
    return [
        str(venv_python()),
        "runtests.py",
        "--noinput",
        f"--settings={settings}",
        f"--parallel={parallel}",
        *labels,
    ]


def run_labels(labels, database, tree=CHECKOUT):
    """
    Run labels of Django's tests, showing their output.

    labels: at least one. database: the Target. tree: the Django to test.
    Return whether they passed.
    """
    say(f"Django's tests on {database.name}: {' '.join(labels)}")
    done = subprocess.run(
        runtests_command(labels, database.settings, processors()),
        cwd=tree / "tests",
        stdin=subprocess.DEVNULL,
        env=plain_environment(**database.env, PYTHONPATH=python_path(tree)),
    )
    return done.returncode == 0


def run_pytest(paths, database):
    """
    Run this repository's tests; return whether they passed.

    database: the Target, for those which use one.
    """
    say(f"This repository's tests, on {database.name}:")
    done = subprocess.run(
        [str(venv_python()), "-m", "pytest", "-q", *map(str, paths)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        env=plain_environment(**database.env),
    )
    return done.returncode == 0


Failure = collections.namedtuple("Failure", "label unloadable")
Counts = collections.namedtuple("Counts", "ran failed skipped")

FAILURE = re.compile(
    r"^(?:FAIL|ERROR|UNEXPECTED SUCCESS): (\S+) \(([\w.]+)\)(?: .*)?$", re.M
)
RAN = re.compile(r"^Ran (\d+) tests? in ", re.M)
VERDICT = re.compile(r"^(?:OK|FAILED)(?: \((.*)\))?\s*$", re.M)


def parse_failures(output):
    """
    Return the failed tests in unittest's output, without repeats.

    A subtest counts as its test, an error in setUpClass or setUpModule as
    the class or the module, and a module which cannot be imported as itself,
    with unloadable set.
    """
    found = []
    for name, place in FAILURE.findall(output):
        if "_FailedTest" in place.split("."):
            found.append(Failure(name, True))
        else:
            found.append(Failure(place, False))
    return list(dict.fromkeys(found))


def parse_counts(output):
    """
    Return the Counts in unittest's summary, or None if there is no summary.
    """
    ran = RAN.search(output)
    verdict = VERDICT.search(output, ran.end()) if ran else None
    if not verdict:
        return None
    numbers = dict(re.findall(r"([a-z ]+)=(\d+)", verdict.group(1) or ""))
    numbers = {name.strip(): int(number) for name, number in numbers.items()}
    failing = ("failures", "errors", "unexpected successes")
    failed = sum(numbers.get(name, 0) for name in failing)
    return Counts(int(ran.group(1)), failed, numbers.get("skipped", 0))


def count_dots(output):
    """Return about how many tests ran, from unittest's line of dots."""
    return sum(map(len, re.findall(r"^[.sFExu]+$", output, re.M)))


def run_logged(labels, database, tree, log, parallel, receivers=None):
    """
    Run Django's tests into a log, saying how far they are now and then.

    labels: none for all tests. database: the Target. tree: the Django to
    test. log: the file.
    receivers: a key of RECEIVERS, for those that report into a file next to
    the log. Return (exit status, output).
    """
    started = time.monotonic()
    settings = database.settings
    env = {**database.env, "PYTHONPATH": python_path(tree)}
    ran = 0
    if receivers:
        env["SERIES_RECEIVERS"] = receivers
        env["SERIES_SETTINGS"] = settings
        env["SERIES_REPORT"] = str(report_of(log))
        report_of(log).write_bytes(b"")
        settings = RECEIVERS_MODULE.stem
    with log.open("wb") as file:
        process = subprocess.Popen(
            runtests_command(labels, settings, parallel),
            cwd=tree / "tests",
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=plain_environment(**env),
        )
        try:
            while process.poll() is None:
                try:
                    process.wait(PROGRESS_SECONDS)
                except subprocess.TimeoutExpired:
                    output = log.read_text(encoding="utf-8", errors="replace")
                    total = re.search(r"^Found (\d+) test", output, re.M)
                    of = f" of {total.group(1)}" if total else ""
                    seconds = int(time.monotonic() - started)
                    # A test that prints hides the others of its line.
                    ran = max(ran, count_dots(output))
                    say(f"  {seconds:4} s: {ran}{of} tests ran")
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    return process.returncode, log.read_text(encoding="utf-8", errors="replace")


def report_of(log):
    """Return the path of the receivers' report that belongs to a log."""
    return log.with_suffix(".jsonl")


def read_report(path):
    """
    Return what the receivers reported: a dictionary of the number of updates
    of each test that ran, and a list of (test, problem) pairs.
    """
    updates, problems = {}, []
    for line in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(line)
        if "problem" in line:
            problems.append((line["test"], line["problem"]))
        else:
            updates[line["test"]] = line["updates"]
    return updates, problems


def load_exceptions(receivers, database):
    """
    Return {test: reason} of the tests which cannot pass with receivers.

    database: the Target, which may have a table of its own. What quiet
    receivers break, an audit breaks as well. Raise Error if the file cannot
    be read.
    """
    import tomllib

    try:
        tables = tomllib.loads(RECEIVERS_EXCEPTIONS.read_text(encoding="utf-8"))
        found = dict(tables["quiet"])
        if receivers == "audit":
            found.update(tables["audit"])
        found.update(tables.get(database.name, {}))
        return found
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise Error(
            f"{relative(RECEIVERS_EXCEPTIONS)} cannot be read: {error}",
            "everything; no test ran.",
            "restore it with: git checkout " + relative(RECEIVERS_EXCEPTIONS),
        ) from None


def judge_receivers(failures, exceptions, whole, log):
    """
    Look at what a run with receivers gave besides its failures.

    failures: those of the run. exceptions: those of load_exceptions().
    whole: whether it was the whole suite. log: its log. Return whether it's
    good, and the failures which are not excused by name. An exception excuses
    a failure, but not a problem that the receivers reported.
    """
    updates, problems = read_report(report_of(log))
    good = not problems
    with_updates = [test for test in updates if updates[test]]
    packages = {test.split(".")[0] for test in with_updates}
    say(
        f"The receivers were told of {sum(updates.values())} updates, in "
        f"{len(with_updates)} tests of {len(packages)} packages."
    )
    if not updates or whole and not with_updates:
        say("The receivers were NOT CONNECTED.")
        good = False
    failed = {failure.label for failure in failures}
    for test, problem in problems:
        say(f"{test}: THE RECEIVERS FOUND A PROBLEM:\n{indent(problem)}")
    for test, reason in exceptions.items():
        if test in failed:
            say(f"{test}: fails with receivers, as expected: {reason}")
        elif test in updates or whole:
            what = "passes" if test in updates else "doesn't exist"
            listed = relative(RECEIVERS_EXCEPTIONS)
            say(f"{test}: {what.upper()} BUT IS LISTED in {listed}")
            good = False
    return good, [one for one in failures if one.label not in exceptions]


def failing_unpatched(failures, upstream, database):
    """
    Return those of the failures which fail on the unpatched tree too.

    A test which does not exist there does not fail there.
    """
    with tree_of(upstream["tag"]) as tree:
        known = known_labels(tree)
        labels = [one.label for one in failures if one.label.split(".")[0] in known]
        if not labels:
            return []
        say(f"Running {len(labels)} of the failed on unpatched Django ...")
        log = WORK / "unpatched.log"
        _, output = run_logged(labels, database, tree, log, 1)
    there = set(parse_failures(output))
    return [failure for failure in failures if failure in there]


def run_full(upstream, database, labels=(), receivers=None):
    """
    Run Django's whole suite, or labels, on the patched tree.

    receivers: a key of RECEIVERS, or None. Return whether nothing failed but
    what fails on the unpatched tree too or, with receivers, is known to.
    """
    exceptions = load_exceptions(receivers, database) if receivers else {}
    WORK.mkdir(exist_ok=True)
    log = WORK / (f"{receivers}.log" if receivers else "full.log")
    what = " ".join(labels) if labels else "whole suite"
    if receivers:
        what += f", with receivers that {RECEIVERS[receivers]}"
    say(f"Django's {what}, on {database.name}; the output is in {relative(log)}.")
    status, output = run_logged(
        labels, database, CHECKOUT, log, processors(), receivers
    )
    counts, failures = parse_counts(output), parse_failures(output)
    if not counts or (status and not failures):
        say(f"The run ended with status {status} and without a result:")
        say(last_lines(output))
        return False
    good, new = True, failures
    if receivers:
        good, new = judge_receivers(failures, exceptions, not labels, log)
    if status and new:
        known = failing_unpatched(new, upstream, database)
        new = [failure for failure in new if failure not in known]
        for failure in known:
            say(f"{failure.label}: fails on unpatched Django {upstream['version']} too")
        for failure in new:
            say(f"{failure.label}: FAILS WITH THE SERIES ONLY")
    passed = max(counts.ran - counts.failed - counts.skipped, 0)
    say(f"{passed} passed, {counts.failed} failed, {counts.skipped} skipped")
    return good and not new


# The commands.


@contextlib.contextmanager
def only_one():
    """Raise Error if another apply or export is at work in this repository."""
    handle = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Error(
                "another apply or export is at work in this repository.",
                "everything.",
                "wait for it to end and run the command again.",
            ) from None
        yield
    finally:
        os.close(handle)


def apply_command(options):
    """Make .venv and django/ and apply the patches. Return the exit status."""
    require_git()
    upstream = load_upstream()
    if not patch_files():
        raise Error(
            "there are no patches in patches/.",
            "everything.",
            "restore them with: git checkout patches",
        )
    with only_one():
        WORK.mkdir(exist_ok=True)
        prepare_checkout(upstream, options.force)
        if venv_ready(upstream):
            say("Python: .venv is ready.")
        else:
            make_venv(upstream["pythons"])
        if not is_checkout():
            sdist = fetch_sdist(upstream)
            say(f"Unpacking {upstream['file']} into django/ ...")
            make_checkout(sdist, upstream)
        elif not ref(upstream["tag"]):
            import_sdist(fetch_sdist(upstream), upstream, CHECKOUT)
        require_base(upstream)
        if not venv_ready(upstream):
            install(upstream)
        if not read_state() and in_patches(upstream["tag"]):
            git("update-ref", APPLIED, "HEAD")
            say(f"django/ has all {len(patch_files())} patches on {BRANCH} already.")
        else:
            say(f"Applying patches/ on {BRANCH}:")
            apply_patches(upstream)
        show_scenario(upstream)
    return 0


def require_base(upstream):
    """Raise Error if the base's tag does not have the expected tree."""
    tree = git("rev-parse", f"{upstream['tag']}^{{tree}}")
    if tree != upstream["tree"]:
        raise Error(
            f"the tag {upstream['tag']} in django/ is not the base.\n"
            f"  expected tree: {upstream['tree']}\n  found tree:    {tree}",
            "everything.",
            f"run: git -C django tag --delete {upstream['tag']}\n"
            "  and run apply again.",
        )


def prepare_checkout(upstream, force):
    """
    Before anything else, see that an apply would lose nothing.

    Raise Error if it would, unless force is set.
    """
    if is_checkout():
        refuse_to_drop(ref(upstream["tag"]), force)
    elif CHECKOUT.exists() or CHECKOUT.is_symlink():
        if not force:
            raise Error(
                "django/ is there, but series.py did not make it: it is no git "
                "checkout.",
                "everything.",
                'move it away, or "python3 series.py apply --force" to delete it.',
            )
        say("Dropped: django/, which was no git checkout.")
        remove(CHECKOUT)


def export_command(options):
    """Write patches/ from the branch. Return the exit status."""
    require_git()
    require_checkout()
    base = load_upstream()["tag"]
    with only_one():
        require_exportable(base)
        changes = uncommitted()
        if changes:
            say(
                "Warning: django/ has uncommitted changes, which are not exported:\n"
                + indent(changes)
            )
        new = exported(base)
        changed = write_patches(new, PATCHES)
        git("update-ref", APPLIED, f"refs/heads/{BRANCH}")
        remove(STATE)
    if changed:
        say(f"patches/ has the {len(new)} commits of {BRANCH} now.")
    else:
        say(f"patches/ was up to date already: {len(new)} patches.")
    return 0


def require_exportable(base):
    """
    Raise Error unless the branch is a plain row of commits on the base, and
    all there is to export.
    """
    operation, branch, state = operation_in_progress(), current_branch(), read_state()
    rows = (
        [line.split() for line in commits(base, BRANCH, pretty="%h %P")]
        if (ref(f"refs/heads/{BRANCH}"))
        else []
    )
    merges = [row[0] for row in rows if len(row) != 2]
    empty = [
        row[0]
        for row in rows
        if len(row) == 2 and not run_git("diff", "--quiet", *row).returncode
    ]
    if operation:
        problem = f"an unfinished {operation} is in django/."
        todo = f'end it with "{operation} --continue" or "{operation} --abort" there.'
    elif branch != BRANCH:
        problem = f"django/ is on {branch or 'no branch'} and not on {BRANCH}."
        todo = f"run: git -C django checkout {BRANCH}"
    elif state == "running":
        problem = "an apply was interrupted, so the branch may lack patches."
        todo = "run: python3 series.py apply"
    elif run_git("merge-base", "--is-ancestor", base, "HEAD").returncode:
        problem = f"{BRANCH} is not based on {base}."
        todo = f"run: git -C django rebase {base}"
    elif merges:
        problem = f"{BRANCH} has merge commits: {' '.join(merges)}."
        todo = f"run: git -C django rebase {base}"
    elif empty:
        problem = f"{BRANCH} has commits which change nothing: {' '.join(empty)}."
        todo = f"drop them: git -C django rebase --interactive {base}"
    elif not rows:
        problem = f"{BRANCH} has no commits on top of {base}."
        todo = 'commit something there, or run "python3 series.py apply".'
    elif state and len(rows) < len(patch_files()):
        problem = f"the last apply {state}, so the branch lacks patches."
        todo = (
            "bring the rest onto the branch (git am --3way), or delete the files\n"
            "  which are no longer wanted from patches/, and export again."
        )
    else:
        return
    raise Error(f"cannot export: {problem}", "patches/ and django/.", todo)


def check_command(options):
    """Look for mistakes in the series. Return the exit status."""
    require_git()
    upstream = load_upstream()
    complaints = check_files()
    if patch_files() and is_checkout() and ref(upstream["tag"]):
        complaints += check_against_checkout(upstream)
        where = "the files and the checkout"
    else:
        where = "the files only"
        say('django/ is not there: "python3 series.py apply" makes it.')
    for complaint in complaints:
        say(complaint)
    if complaints:
        raise Error(
            f"check found mistakes: {len(complaints)}.",
            "everything: check changes nothing.",
            "put them right in django/ and export, or in the files named above.",
        )
    say(f"check: {len(patch_files())} patches, no mistakes; looked at {where}.")
    return 0


def check_files():
    """Return the complaints about patches/ which need no checkout."""
    if not patch_files():
        return ["patches/: there are no patches"]
    complaints = []
    for directory in (PATCHES, PATCHES_MAIN):
        for path in sorted(directory.iterdir()) if directory.is_dir() else []:
            if path.suffix != ".patch" or not path.is_file():
                complaints.append(f"{relative(path)}: is not a patch")
    messages = [patch_message(path) for path in patch_files()]
    names = expected_names([subject or "no subject" for subject, _ in messages])
    for path, name, (subject, body) in zip(patch_files(), names, messages):
        found = []
        if path.name != name:
            found.append(f"should be named {name}")
        last = path == patch_files()[-1]
        found += check_message(subject, body, last) + check_form(path)
        complaints += [f"patches/{path.name}: {one}" for one in found]
    subjects = [subject for subject, _ in messages]
    for path in sorted(PATCHES_MAIN.glob("*.patch")):
        found = check_form(path)
        subject = patch_message(path)[0]
        if subject.removeprefix(FIXUP) not in subjects:
            found.append(f"its subject is that of no patch in patches/: {subject}")
        complaints += [f"patches-main/{path.name}: {one}" for one in found]
    return complaints


def main_parts():
    """
    Return what each commit consists of on Django's main branch: a list of
    (subject, paths), the first path being that of the patch itself.

    A patch in patches-main/ takes the place of the one in patches/ that has
    its subject. One with "fixup! " before that is added to it.
    """
    parts = {patch_message(path)[0]: [path] for path in patch_files()}
    for path in sorted(PATCHES_MAIN.glob("*.patch")):
        subject = patch_message(path)[0]
        if subject.startswith(FIXUP):
            parts[subject.removeprefix(FIXUP)].append(path)
        else:
            parts[subject][0] = path
    return list(parts.items())


def check_message(subject, body, last):
    """
    Return the complaints about a commit message.

    subject: the first line. body: the other lines. last: whether it is that
    of the last patch, which closes the ticket.
    """
    found = []
    start = f"{'Fixed' if last else 'Refs'} #{TICKET} -- "
    if not re.match(re.escape(start) + r"\S", subject):
        found.append(f'the subject does not start with "{start}": {subject}')
    if not subject.endswith("."):
        found.append(f"the subject does not end with a period: {subject}")
    for line in body:
        if len(line) > MESSAGE_WIDTH and " " in line.strip():
            found.append(
                f"a line of the message has {len(line)} characters, more than "
                f"{MESSAGE_WIDTH}: {line}"
            )
    return found


def check_form(path):
    """Return the complaints about a patch which export did not write so."""
    found = []
    text = path.read_bytes().decode(errors="replace")
    head, _, diff = text.partition("\ndiff --git ")
    if not head.startswith(f"From {'0' * 40} "):
        found.append("the first line has a commit id (git format-patch --zero-commit)")
    if not re.search(r"^Subject: \[PATCH\] ", head, re.M):
        found.append("the subject is numbered (git format-patch --no-numbered)")
    if re.search(r"\n-- \n\S+\s*\Z", text):
        found.append("a signature ends it (git format-patch --no-signature)")
    for line in re.findall(r"^index .*$", diff, re.M):
        if not re.match(r"index [0-9a-f]{40}\.\.[0-9a-f]{40}( \d+)?$", line):
            found.append(f"an index line is not full (--full-index): {line}")
    if re.search(r"^diff --git (?!\"?a/)", "\ndiff --git " + diff, re.M):
        found.append("its paths have no a/ and b/ (diff.noprefix is set)")
    try:
        changed_paths(path)
    except Error as error:
        found.append("git cannot read it: " + error.what.partition("\n")[2].strip())
    return found


def check_against_checkout(upstream):
    """
    Return the complaints about the patches and the checkout together.

    The patches are applied in a temporary index, without looking at nearby
    lines or at both sides; nothing in django/ is changed.
    """
    base, complaints = upstream["tag"], []
    require_base(upstream)
    with tempfile.TemporaryDirectory() as temp:
        objects = Path(temp, "objects")
        objects.mkdir()
        env = {
            "GIT_INDEX_FILE": str(Path(temp, "index")),
            "GIT_OBJECT_DIRECTORY": str(objects),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(CHECKOUT / ".git" / "objects"),
        }
        git("read-tree", base, env=env)
        for path in patch_files():
            spaces = run_git(
                "apply", "--cached", "--check", "--whitespace=error", path, env=env
            )
            done = run_git("apply", "--cached", "--whitespace=nowarn", path, env=env)
            if done.returncode:
                said = indent(done.stderr.strip().splitlines())
                heads = failed_hunks(path, done.stderr)
                said += "\n" + indent(heads) if heads else ""
                complaints.append(f"patches/{path.name}: does not apply:\n{said}")
                return complaints
            if spaces.returncode:
                said = indent(spaces.stderr.strip().splitlines())
                complaints.append(f"patches/{path.name}: whitespace errors:\n{said}")
        tree = git("write-tree", env=env)
    return complaints + check_branch(base, tree)


def check_branch(base, tree):
    """
    Return the complaints about the branch.

    base: the base's tag. tree: the tree which the patches give.
    """
    tip = f"refs/heads/{BRANCH}"
    if not ref(tip):
        return [f"django/ has no branch {BRANCH}: run apply"]
    complaints = []
    for commit in commits(base, tip, pretty="%h"):
        lines = git("log", "-1", "--format=%B", commit).splitlines()
        if len(lines) > 1 and lines[1]:
            complaints.append(f"django/: {commit}: the second line is not blank")
    if git("rev-parse", f"{tip}^{{tree}}") != tree:
        complaints.append(
            f"the patches give other files than {BRANCH} in django/ has: "
            "run export or apply"
        )
    old, new = read_patches(PATCHES), exported(base)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            complaints.append(f"patches/{name}: export would change it")
    return complaints


def split_labels(labels):
    """
    Return (labels of Django's tests, paths of this repository's tests).

    Raise Error for a label which is neither.
    """
    known, django, ours = known_labels(CHECKOUT), [], []
    for label in labels:
        path = Path(label.partition("::")[0])
        inside = (ROOT / path).resolve()
        if (
            label.startswith("tests/")
            and inside.exists()
            and inside.is_relative_to(TESTS)
        ):
            ours.append(label)
        elif label.split(".")[0] in known:
            django.append(label)
        else:
            touched = ", ".join(touched_labels(CHECKOUT)) or "none"
            raise Error(
                f"unknown label: {label}\n"
                f"  labels which the series touches: {touched}\n"
                f"  there are {len(known)} in all: the directories in django/tests/\n"
                "  this repository's own tests: paths such as tests/test_series.py",
                "everything; no test ran.",
                "name one of those.",
            )
    return django, ours


def run_each(labels, upstream, database):
    """
    Run labels after each patch, in a temporary tree of its own.

    labels: labels of Django's tests; those which a tree does not have yet
    are left out there. Return whether all passed.
    """
    good = True
    for line in commits(upstream["tag"], BRANCH):
        say(f"\nAfter {line}")
        with tree_of(line.split()[0]) as tree:
            here = [one for one in labels if one.split(".")[0] in known_labels(tree)]
            if here and not run_labels(here, database, tree):
                say(f"FAILED after {line}")
                good = False
    return good


def require_applied(options):
    """
    Raise Error unless --db is known and all patches are applied and installed.

    Return upstream.toml as a dictionary.
    """
    require_git()
    upstream = load_upstream()
    if options.db not in DATABASES:
        known = [f"{name}: {row.about}" for name, row in DATABASES.items()]
        raise Error(
            f"unknown database: {options.db}\nKnown are:\n{indent(known)}",
            "everything; no test ran.",
            "name one of those with --db.",
        )
    require_checkout()
    require_venv()
    if read_state():
        raise Error(
            "the patches are not all applied, so there is nothing to test.",
            "everything; no test ran.",
            "run: python3 series.py apply",
        )
    return upstream


def sizes_command(options):
    """Measure updates of many rows. Return the exit status."""
    upstream = require_applied(options)
    arguments = options.arguments
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    with target(options.db, upstream) as database:
        done = subprocess.run(
            [str(venv_python()), str(SIZES), *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            env=plain_environment(**database.env, PYTHONPATH=str(CHECKOUT)),
        )
    return done.returncode


def test_command(options):
    """Run tests. Return the exit status."""
    upstream = require_applied(options)
    django, ours = split_labels(options.labels)
    with target(options.db, upstream) as database:
        good = run_tests(options, upstream, database, django, ours)
    say("The tests passed." if good else "Tests FAILED.")
    return 0 if good else 1


def run_tests(options, upstream, database, django, ours):
    """
    Run what the options ask for.

    database: the Target. django, ours: the labels. Return whether all passed.
    """
    if options.receivers:
        if ours:
            raise Error(
                f"--receivers is for Django's tests only: {' '.join(ours)}",
                "everything; no test ran.",
                "leave out the paths, or --receivers.",
            )
        if not options.labels and not options.full:
            django = touched_labels(CHECKOUT)
    if options.full or options.receivers:
        return run_full(upstream, database, django, options.receivers)
    if not options.labels:
        django = touched_labels(CHECKOUT)
        if not options.each:
            # The others don't depend on the database.
            ours = [TESTS if database.name == "sqlite" else TESTS / "live"]
    if options.each:
        results = [run_each(django, upstream, database)]
    else:
        results = [run_labels(django, database)] if django else []
    if ours:
        results.append(run_pytest(ours, database))
    return all(results)


def parse_arguments(argv):
    """Return the parsed arguments; argparse exits with 2 if they are wrong."""
    parser = argparse.ArgumentParser(
        prog="series.py",
        description="Work with this patch series against Django.",
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)

    def add_database(sub):
        sub.add_argument(
            "--db",
            default="sqlite",
            metavar="NAME",
            help=f"the database: {', '.join(DATABASES)} (default: sqlite)",
        )

    def command(name, function, text):
        sub = subparsers.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        return sub

    sub = command(
        "apply",
        apply_command,
        "Take Django's sdist, unpack it into django/, apply patches/, install "
        "both Django and what its tests need in .venv, and show the ticket's "
        "scenario. A second run changes nothing.",
    )
    sub.add_argument(
        "--force",
        action="store_true",
        help="drop work in django/ which is not in patches/, after listing it",
    )
    sub = command(
        "test",
        test_command,
        "Run this repository's tests and those labels of Django's which the "
        "patches change; or the labels given.",
    )
    sub.add_argument(
        "labels",
        nargs="*",
        metavar="LABEL",
        help="a label of Django's tests (signals, update.tests.SimpleTest) or a "
        "path in tests/ of this repository",
    )
    add_database(sub)
    choice = sub.add_mutually_exclusive_group()
    choice.add_argument(
        "--full",
        action="store_true",
        help="Django's whole suite; what fails is run on unpatched Django too",
    )
    choice.add_argument(
        "--each", action="store_true", help="run the labels after each patch"
    )
    sub.add_argument(
        "--receivers",
        choices=RECEIVERS,
        help="run Django's tests with receivers of both signals for every model, "
        "which " + "; or ".join(f"{what} ({name})" for name, what in RECEIVERS.items()),
    )
    test_parser = sub
    sub = command(
        "sizes",
        sizes_command,
        "Measure updates of many rows with receivers that look at them, and "
        "print the rows of a table: seconds and peak memory.",
    )
    add_database(sub)
    sub.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        metavar="...",
        help=f"options of {relative(SIZES)}, after --: see -- --help",
    )
    command(
        "export",
        export_command,
        f"Write patches/ from the commits on {BRANCH} in django/.",
    )
    command(
        "check",
        check_command,
        "Look for mistakes in patches/, and compare them with django/ if it is "
        "there. Changes nothing.",
    )
    for path in sorted(COMMANDS.glob("[a-z]*.py")):
        module = importlib.import_module(f"commands.{path.stem}")
        module.add_arguments(command(path.stem, module.run, module.HELP))
    options = parser.parse_args(argv)
    if options.command is test_command and options.full and options.labels:
        test_parser.error("--full takes no labels")
    if options.command is test_command and options.each and options.receivers:
        test_parser.error("--each takes no --receivers")
    return options


def main(argv):
    """Run the command in argv. Return the exit status."""
    if sys.version_info < MINIMUM_PYTHON:
        wanted = ".".join(map(str, MINIMUM_PYTHON))
        print(f"series.py: error: this needs Python {wanted} or newer.")
        return 1
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    try:
        options = parse_arguments(argv)
        return options.command(options)
    except Error as error:
        problem, status = f"error: {error}", 1
    except KeyboardInterrupt:
        problem = "interrupted. Run the command again; it starts afresh."
        status = 130
    except BrokenPipeError:
        # Nobody reads the output any more; say nothing, also not at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or error
        full = " Make room and" if error.errno == errno.ENOSPC else " Put it right and"
        problem, status = f"error: {name}{reason}.{full} run the command again.", 1
    sys.stdout.flush()
    print(f"series.py: {problem}", file=sys.stderr)
    return status


if __name__ == "__main__":
    # The modules in commands/ import this one.
    sys.modules["series"] = sys.modules["__main__"]
    sys.exit(main(sys.argv[1:]))
