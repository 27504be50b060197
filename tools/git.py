"""
Git with a configuration and an identity of its own, and what all tools share:
the paths, the error that is printed without a traceback, running programs.
"""

import contextlib
import functools
import os
import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DJANGO = ROOT / "django"
PATCHES = ROOT / "patches"
PATCHES_MAIN = ROOT / "patches-main"
VENV = ROOT / ".venv"
WORK = ROOT / ".work"

# Every commit made here is committed by this name, at its author's date, so
# that the same patches give the same commit ids everywhere.
COMMITTER = "Django patch series"
COMMITTER_EMAIL = "series@localhost"
# What would change what git writes, or which packages Python sees.
UNWANTED = re.compile(
    r"GIT_|PYTHON|__PYVENV|DJANGO_SETTINGS_MODULE$|PIP_(TARGET|PREFIX|ROOT)$"
)
OWN = {
    "LC_ALL": "C",
    "TZ": "UTC",
    "PIP_USER": "0",
    "PIP_NO_INPUT": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CEILING_DIRECTORIES": str(ROOT),
    "GIT_CONFIG_GLOBAL": str(ROOT / "tools" / "gitconfig"),
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_EDITOR": ":",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": COMMITTER,
    "GIT_AUTHOR_EMAIL": COMMITTER_EMAIL,
    "GIT_COMMITTER_NAME": COMMITTER,
    "GIT_COMMITTER_EMAIL": COMMITTER_EMAIL,
}


class Error(Exception):
    """
    A failure that a user can meet. Its text is all that is printed: what
    happened, what was left untouched, and what to do next.
    """


def say(*args):
    """Print one line of progress at once."""
    print(*args, flush=True)


def indent(lines):
    """Return lines (a string or a list) as one indented block."""
    lines = lines.splitlines() if isinstance(lines, str) else lines
    return "\n".join(f"  {line}" for line in lines)


def clean_environment(**extra):
    """
    Return the environment for git, Python and pip: the user's, without what
    is UNWANTED and with what is in OWN and in extra.
    """
    kept = {name: os.environ[name] for name in os.environ if not UNWANTED.match(name)}
    return {**kept, **OWN, **extra}


def run(*command, cwd=ROOT, input="", env=None, **kwargs):
    """
    Run a program in the clean environment, whatever its outcome.

    input: text or bytes for its standard input. env: variables to add.
    Return the CompletedProcess, whose output is text.
    """
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean_environment(**(env or {})),
        input=input.encode() if isinstance(input, str) else input,
        **(kwargs or {"capture_output": True}),
    )
    done.stdout = (done.stdout or b"").decode(errors="replace")
    done.stderr = (done.stderr or b"").decode(errors="replace")
    return done


def run_git(*args, cwd=DJANGO, input="", env=None):
    """Run git, whatever its outcome. Return the CompletedProcess."""
    require_git()
    return run("git", *args, cwd=cwd, input=input, env=env)


def git(*args, cwd=DJANGO, check=True, input="", env=None):
    """
    Run git and return its output without the last newline.

    Raise Error with what it said if it fails, unless check is False.
    """
    done = run_git(*args, cwd=cwd, input=input, env=env)
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip() or f"status {done.returncode}"
        raise Error(f'"git {args[0]}" failed in {cwd}:\n{indent(said)}')
    return done.stdout.removesuffix("\n")


@functools.cache
def require_git():
    """Raise Error unless git is there, and reads GIT_CONFIG_GLOBAL (2.32)."""
    try:
        said = run("git", "--version").stdout.strip()
    except FileNotFoundError:
        said = "none"
    found = re.search(r"(\d+)\.(\d+)", said)
    if not found or tuple(map(int, found.groups())) < (2, 32):
        raise Error(
            f"this needs git 2.32 or newer, and found: {said}.\n"
            "Nothing was changed. Install git and run the command again."
        )


def upstream():
    """
    Return upstream.toml, which says what the base is, as a dictionary.

    Besides its own keys it has "tag", the name of the base in django/.
    Raise Error if it cannot be read or lacks a key.
    """
    import tomllib  # Not at the top: series.py tells of a Python without it.

    keys = ("version", "file", "size", "sha256", "tree", "pythons")
    try:
        found = tomllib.loads((ROOT / "upstream.toml").read_text(encoding="utf-8"))
        return {"tag": f"upstream/{found['version']}", **{k: found[k] for k in keys}}
    except (OSError, ValueError, KeyError) as error:
        raise Error(
            f"upstream.toml cannot be used: {error!r}.\n"
            "Nothing was changed. Restore it: git checkout upstream.toml"
        ) from None


@contextlib.contextmanager
def tree_of(commit, *paths):
    """
    Give a temporary directory with the files of a commit in django/.

    paths: only these. The work tree and the index of django/ are left alone.
    """
    with tempfile.TemporaryDirectory(prefix="series-") as temp:
        tree = Path(temp).resolve()
        env = {"GIT_INDEX_FILE": str(tree / ".index")}
        git("read-tree", commit, env=env)
        names = git("ls-files", "-z", "--", *paths, env=env)
        to = f"--prefix={tree}/"
        git("checkout-index", "-z", "--stdin", to, input=names, env=env)
        (tree / ".index").unlink()
        yield tree
