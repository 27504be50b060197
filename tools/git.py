"""Git, in django/ unless told otherwise, with the settings in gitconfig."""

import contextlib
import re
import shutil
import tempfile
from pathlib import Path

from tools import DJANGO
from tools.common import Error, must, run

# How patches become commits. It's for us to say what to do after a conflict.
AM = (
    "am -q --keep-cr --no-scissors --whitespace=nowarn --resolvemsg= "
    "--committer-date-is-author-date"
).split()
CHECKOUT = "checkout", "-q", "--force", "--detach"
FORMAT = "format-patch -q -N --zero-commit --full-index --no-signature".split()


def git(*args, cwd=DJANGO, check=True, env=None):
    """Return what git prints. Raise Error if it fails, if check is True."""
    done = run("git", *args, cwd=cwd, env=env)
    if not check:
        return done.stdout.removesuffix("\n")
    return must(done, f'"git {args[0]}" failed in {cwd}')


def succeeds(*args, cwd=DJANGO):
    """Return whether git ends well, such as "git diff --quiet"."""
    return run("git", *args, cwd=cwd).returncode == 0


def require_git():
    """Raise Error unless git is there, and reads GIT_CONFIG_GLOBAL (2.32)."""
    said = run("git", "--version").stdout.strip() if shutil.which("git") else "none"
    if [int(number) for number in re.findall(r"\d+", said)[:2]] < [2, 32]:
        raise Error(f"this needs git 2.32 or newer, and found: {said}. Install it.")


def ref(name):
    """Return the commit id of a name in django/, or ""."""
    return git("rev-parse", "--verify", "-q", f"{name}^{{commit}}", check=False)


def changed(tree, since, until, pattern=".*"):
    """Return the names of the files that differ, and are there in the end."""
    args = ("--name-only", "-z", "--no-renames", "--diff-filter=d", since, until)
    names = filter(None, git("diff", *args, cwd=tree).split("\0"))
    return [name for name in names if re.fullmatch(pattern, name)]


@contextlib.contextmanager
def tree_of(commit, *paths):
    """Give a directory with the files, or some, of a commit in django/."""
    with tempfile.TemporaryDirectory(prefix="series-") as temp:
        tree = Path(temp, "django").resolve()
        tree.mkdir()
        env = {"GIT_INDEX_FILE": f"{tree}.index", "GIT_WORK_TREE": str(tree)}
        git("checkout", commit, "--", *paths or ".", env=env)
        yield tree
