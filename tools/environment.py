"""
The environment in .venv: the Python it is made with, and what is installed.

There is one rule. requirements/GROUP.txt is the whole list of what a group
needs, with versions. The stamp in .venv says which groups are in it and what
their files said. A group that is missing is installed; if anything else has
changed, .venv is made anew. Django itself isn't installed: a .pth file names
django/, so that nothing has to be built.
"""

import glob
import json
import os
import shutil
import sys

from tools.git import ROOT, VENV, Error, indent, run, say, upstream

PYTHON = VENV / "bin" / "python"
STAMP = VENV / "series.json"
REQUIREMENTS = ROOT / "requirements"
PROBE = "import sys; print('%d.%d.%d' % sys.version_info[:3]); import venv, ensurepip"
NO_PYTHON = """\
Nothing in django/ or patches/ was changed. Get one and run the command again:
  Debian 13 or Ubuntu 24.04: apt install python3-venv
  elsewhere (python3 is 3.11 on Debian 12): pyenv install {0}, or
  uv python install {0}, or the installer of python.org"""
NO_NETWORK = """\
Nothing in django/ or patches/ was changed. Run the command again when pip
reaches an index. Where it never does, README.md says under "Without a network"
what to bring from another machine."""


def ensure(*groups):
    """
    See to it that .venv has the packages of some groups.

    groups: names of files in requirements/, besides "django", which is always
    there. Return the path of its Python. Raise Error if there is no Python
    that Django supports, or if pip fails; what it did not finish isn't stamped.
    """
    texts = {group: read_group(group) for group in dict.fromkeys(("django", *groups))}
    facts = {"directory": str(ROOT)}
    facts.update((key, upstream()[key]) for key in ("version", "pythons"))
    stamp = read_stamp()
    installed = stamp.pop("groups", {})
    if (
        stamp != facts
        or any(read_group(name) != text for name, text in installed.items())
        or not probe(str(PYTHON))[0]
    ):
        make(facts["version"])
        installed = {}
    for group, text in texts.items():
        if group not in installed:
            install(group, text)
            installed[group] = text
            STAMP.write_text(json.dumps({**facts, "groups": installed}, indent=1))
    return PYTHON


def read_group(group):
    """Return the text of a group's file; None if there is no such group."""
    path = REQUIREMENTS / f"{group}.txt"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def read_stamp():
    """Return what the stamp says, or an empty dictionary."""
    try:
        return json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def install(group, text):
    """Install the packages of a group, whose file has the text, in .venv."""
    count = sum(line[:1].isalpha() for line in text.splitlines())
    say(f"Installing the {count} packages of requirements/{group}.txt in .venv ...")
    done = pip("install", "--no-deps", f"--requirement={REQUIREMENTS / group}.txt")
    if done.returncode:
        todo = NO_NETWORK
        if group == "mysql":
            todo += (
                "\nThis package is built here. What that needs, on Debian:\n"
                "  apt install default-libmysqlclient-dev pkg-config gcc python3-dev"
            )
        raise Error(
            f"pip could not install requirements/{group}.txt:\n"
            f"{indent(last_lines(done.stdout + done.stderr))}\n{todo}"
        )


def pip(*args):
    """Run .venv's pip, whatever its outcome. Return the CompletedProcess."""
    return run(PYTHON, "-m", "pip", *args)


def last_lines(text, count=8):
    """Return the last lines of a program's output which are not blank."""
    return [line for line in text.splitlines() if line.strip()][-count:]


def candidates():
    """Return the paths of what may be a Python, the newest names first."""
    versions = sorted(upstream()["pythons"], key=version_key, reverse=True)
    names = [f"python{version}" for version in versions] + ["python3"]
    found = [sys.executable, *filter(None, map(shutil.which, names))]
    home = os.path.expanduser("~")
    pyenv = os.environ.get("PYENV_ROOT") or f"{home}/.pyenv"
    uv = os.environ.get("UV_PYTHON_INSTALL_DIR") or f"{home}/.local/share/uv/python"
    for pattern in (f"{pyenv}/versions/*/bin/python3", f"{uv}/cpython-*/bin/python3"):
        found += sorted(glob.glob(pattern), reverse=True)
    # The Python of an environment such as .venv leads to what it is made with.
    return list(dict.fromkeys(map(os.path.realpath, found)))


def version_key(version):
    """Return a version such as "3.13" as a tuple of numbers."""
    return tuple(map(int, version.split(".")))


def probe(command):
    """
    Run a candidate. Return (version, what it said).

    The version is a tuple, or None if no environment can be made with it.
    """
    try:
        done = run(command, "-I", "-c", PROBE, timeout=30, capture_output=True)
    except Exception as error:
        return None, f"does not work: {error}"
    said = " ".join([done.stdout.strip(), *last_lines(done.stderr, 1)])
    supported = done.stdout.rpartition(".")[0] in upstream()["pythons"]
    if done.returncode or not supported:
        return None, said or f"ended with status {done.returncode}"
    return version_key(done.stdout), said


def make(version):
    """
    Make .venv with the newest supported Python that can, and django/ in it.

    version: that of the Django in django/.
    """
    looked_at, usable = [], []
    for command in candidates():
        found, said = probe(command)
        looked_at.append(f"{command}: {said}")
        if found:
            usable.append((found, command))
    for found, command in sorted(usable, reverse=True):
        say(f"Making .venv with Python {'.'.join(map(str, found))} ({command}) ...")
        STAMP.unlink(missing_ok=True)
        remove(VENV)
        done = run(command, "-m", "venv", VENV)
        if not done.returncode:
            # So that pip doesn't install another as what a package depends on.
            (site,) = VENV.glob("lib/python*/site-packages")
            info = site / f"django-{version}.dist-info"
            info.mkdir()
            metadata = f"Metadata-Version: 2.1\nName: Django\nVersion: {version}\n"
            (info / "METADATA").write_text(metadata)
            # Relative, since Python may read this as ASCII.
            (site / "django-series.pth").write_text("../../../../django\n")
            return
        said = " ".join(last_lines(done.stdout + done.stderr, 2))
        looked_at.append(f"{command}: cannot make an environment: {said}")
    remove(VENV)
    pythons = upstream()["pythons"]
    newest = max(pythons, key=version_key)
    raise Error(
        f"no Python with its venv module was found that Django {version} supports "
        f"({', '.join(pythons)}).\nLooked at:\n{indent(looked_at)}\n"
        + NO_PYTHON.format(newest)
    )


def remove(path):
    """Delete a file or a directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
