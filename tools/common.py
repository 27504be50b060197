"""What all tools share: errors, programs, the lock, and upstream.toml."""

import fcntl
import functools
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

from tools import ROOT, WORK

# What would change what git writes, or which packages Python sees.
UNWANTED = re.compile(
    r"GIT_|PYTHON|__PYVENV|DJANGO_SETTINGS_MODULE$|PIP_(TARGET|PREFIX|ROOT)$"
)
# Git has no configuration but ours. It commits at the author's date, so the
# same patches give the same ids.
VARIABLES = {
    "LC_ALL": "C",
    "TZ": "UTC",
    "PIP_USER": "0",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CEILING_DIRECTORIES": str(ROOT),
    "GIT_CONFIG_GLOBAL": str(ROOT / "tools" / "gitconfig"),
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_EDITOR": ":",
    **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "Django patch series"),
    **dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "series@localhost"),
}
DISK_FULL = "No space left on device"


# Say how far it is, at once; and delete a directory, if it's there.
say = functools.partial(print, flush=True)
remove = functools.partial(shutil.rmtree, ignore_errors=True)


class Error(Exception):
    """Tells a user what happened, what was left alone, and what to do."""


def indent(lines):
    """Return lines (a string or a list) as one indented block."""
    lines = lines.splitlines() if isinstance(lines, str) else lines
    return "\n".join(f"  {line}" for line in lines)


def clean_environment(**extra):
    """Return the user's environment without UNWANTED, with ours and extra."""
    kept = {name: os.environ[name] for name in os.environ if not UNWANTED.match(name)}
    return {**kept, **VARIABLES, **extra}


def run(*command, cwd=ROOT, env=None, **kwargs):
    """Run a program with env added. kwargs: instead of capture_output=True."""
    options = {"encoding": "utf-8", "errors": "replace", "cwd": cwd}
    options.update(kwargs or {"capture_output": True}, stdin=subprocess.DEVNULL)
    return subprocess.run(command, env=clean_environment(**(env or {})), **options)


def must(done, problem, advice=""):
    """
    Return what a program that run() ran has printed. If it failed, raise Error
    with the problem, the end of what it said, and an advice.
    """
    if done.returncode == 0:
        return done.stdout.removesuffix("\n")
    said = (done.stdout + done.stderr).strip() or f"status {done.returncode}"
    if DISK_FULL in said:
        advice = "The disk is full. Make room, and run it again."
    raise Error(f"{problem}:\n{indent(said.splitlines()[-16:])}\n{advice}".strip())


@functools.cache
def lock_file():
    """Return the open file of the lock, which ends with the command."""
    return open(ROOT / "series.py")


def lock(alone):
    """
    Let this command change what is in the repository (alone), or read it at
    the same time as others. Raise Error if another is in the way.
    """
    mode = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    try:
        fcntl.flock(lock_file(), mode | fcntl.LOCK_NB)
    except BlockingIOError:
        problem = "another series.py is at work. Nothing was changed."
        raise Error(f"{problem} Wait for it to end.") from None


def work_directory(name):
    """Make .work/NAME-PID. Delete those of runs that have ended."""
    for path in WORK.glob(f"{name}-*"):
        if not Path("/proc", path.name.rpartition("-")[2]).exists():
            remove(path)
    directory = WORK / f"{name}-{os.getpid()}"
    remove(directory)
    directory.mkdir(parents=True)
    return directory


def upstream():
    """Return upstream.toml and "tag", the base in django/, or raise Error."""
    keys = ("version", "file", "size", "sha256", "tree", "pythons")
    try:
        found = tomllib.loads((ROOT / "upstream.toml").read_text(encoding="utf-8"))
        return {"tag": f"upstream/{found['version']}", **{k: found[k] for k in keys}}
    except (OSError, ValueError, KeyError) as error:
        advice = "Nothing was changed. Restore it: git checkout upstream.toml"
        raise Error(f"upstream.toml cannot be used: {error!r}.\n{advice}") from None
