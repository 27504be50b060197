"""Git with a configuration and an identity of its own, and what all share."""

import contextlib
import functools
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

from tools import DJANGO, ROOT

# What would change what git writes, or which packages Python sees.
UNWANTED = re.compile(
    r"GIT_|PYTHON|__PYVENV|DJANGO_SETTINGS_MODULE$|PIP_(TARGET|PREFIX|ROOT)$"
)
# Who commits, at the author's date: so the same patches give the same ids.
OWN = {
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
    """Return the user's environment without UNWANTED, with OWN and extra."""
    kept = {name: os.environ[name] for name in os.environ if not UNWANTED.match(name)}
    return {**kept, **OWN, **extra}


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
    if done.returncode:
        said = (done.stdout + done.stderr).strip() or f"status {done.returncode}"
        raise Error(f"{problem}:\n{indent(said.splitlines()[-16:])}\n{advice}".strip())
    return done.stdout.removesuffix("\n")


def git(*args, cwd=DJANGO, check=True, env=None):
    """Return what git prints. Raise Error if it fails, if check is True."""
    done = run("git", *args, cwd=cwd, env=env)
    done.returncode = check and done.returncode
    return must(done, f'"git {args[0]}" failed in {cwd}')


def succeeds(*args, cwd=DJANGO):
    """Return whether git ends well, such as "git diff --quiet"."""
    return run("git", *args, cwd=cwd).returncode == 0


def require_git():
    """Raise Error unless git is there, and reads GIT_CONFIG_GLOBAL (2.32)."""
    said = run("git", "--version").stdout.strip() if shutil.which("git") else "none"
    if [int(number) for number in re.findall(r"\d+", said)[:2]] < [2, 32]:
        raise Error(f"this needs git 2.32 or newer, and found: {said}. Install it.")


def upstream():
    """Return upstream.toml and "tag", the base in django/, or raise Error."""
    keys = ("version", "file", "size", "sha256", "tree", "pythons")
    try:
        found = tomllib.loads((ROOT / "upstream.toml").read_text(encoding="utf-8"))
        return {"tag": f"upstream/{found['version']}", **{k: found[k] for k in keys}}
    except (OSError, ValueError, KeyError) as error:
        advice = "Nothing was changed. Restore it: git checkout upstream.toml"
        raise Error(f"upstream.toml cannot be used: {error!r}.\n{advice}") from None


@contextlib.contextmanager
def tree_of(commit, *paths):
    """Give a directory with the files, or some, of a commit in django/."""
    with tempfile.TemporaryDirectory(prefix="series-") as temp:
        tree = Path(temp, "django").resolve()
        tree.mkdir()
        env = {"GIT_INDEX_FILE": f"{tree}.index", "GIT_WORK_TREE": str(tree)}
        git("checkout", commit, "--", *paths or ".", env=env)
        yield tree
