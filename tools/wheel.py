"""
A wheel of Django with the series, to try the signals in a project.

Its version, RELEASE+updatesignals, is one that "Django==RELEASE" takes, but
that pip and a person can tell from the release. If it stops at a pull request,
it has that one's name, too. django.__version__ isn't changed.
"""

import shlex

from tools import WORK, checkout, environment, queue
from tools.common import Error, indent, remove, say, upstream, work_directory
from tools.git import git, tree_of

LOCAL = "updatesignals"
WHEELS = WORK / "wheel"
DYNAMIC = 'dynamic = ["version"]\n', 'version = {attr = "django.__version__"}\n'


def wheel(options):
    """
    Build the wheel in .work/wheel/, in the place of the one before, from the
    commits in django/: up to the last of options.name, if it's given. Say how
    it's used. Raise Error if there is no such pull request, or if pip fails.
    """
    tag, commit = checkout.base(whole=True), checkout.TIP
    version = f"{upstream()['version']}+{LOCAL}"
    if options.name:
        commit = last_of(options.name, tag)
        version += "." + options.name.replace("-", ".").replace("_", ".")
    if changes := checkout.uncommitted():
        say(f"Not in the wheel, since it isn't committed:\n{indent(changes)}")
    say(f"Building {version} from {git('log', '-1', '--format=%h %s', commit)} ...")
    room = work_directory("wheel")
    name = build(commit, version, room).name
    remove(WHEELS)
    room.rename(WHEELS)
    say(lines(WHEELS / name, version))
    return 0


def build(commit, version, directory):
    """
    Build the wheel of a commit in a directory. Return its path. Raise Error if
    pyproject.toml isn't what this was written for, or if pip fails.
    """
    environment.ensure()
    with tree_of(commit) as tree:
        path, (listed, read) = tree / "pyproject.toml", DYNAMIC
        text = path.read_text(encoding="utf-8")
        if not (listed in text and read in text):
            problem = "pyproject.toml has changed, and tools/wheel.py must"
            raise Error(f"{problem}: it lacks {listed}{read}Nothing was built.")
        text = text.replace(listed, f'version = "{version}"\n').replace(read, "")
        path.write_text(text, encoding="utf-8")
        args = ("wheel", "-q", "--no-deps", f"--wheel-dir={directory}", tree)
        environment.pip("build the wheel", *args)
    (built,) = directory.glob("*.whl")
    return built


def lines(path, version):
    """Return what a tester needs to know of a wheel, as text."""
    release = upstream()["version"]
    minor = release.rpartition(".")[0]
    install = "python -m pip install --force-reinstall --no-deps"
    return f"""
Built. In the environment of your project, with "uv pip" in the place of
"python -m pip" if it was made by uv:

use it:       {install} {quoted(path)}
see that:     python -c 'from importlib.metadata import *; print(version("Django"))'
go back:      {install} Django==={release}

The second prints {version}. Where something else installs Django,
as tox does, PIP_FIND_LINKS={quoted(path.parent)} or UV_FIND_LINKS
lets it take the wheel for Django~={minor} and Django=={release}."""


def quoted(path):
    """Return a path as a shell needs it."""
    return shlex.quote(str(path))


def last_of(name, tag):
    """Return the last commit of a pull request, or raise Error."""
    owners = queue.plan(tag)
    if name not in owners:
        names = ", ".join(dict.fromkeys(owners))
        raise Error(f"{name} is none of {names}. Nothing was built.")
    number = len(owners) - owners[::-1].index(name) - 1
    return checkout.commits(tag, pretty="%H")[number]
