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
NO_NETWORK = """\
Nothing in django/ or patches/ was changed. Run the command again when pip
reaches an index. Where it never does, README.md says under "Without a network"
what to bring from another machine."""
NO_COMPILER = """
It's built here. What that needs, on Debian:
  apt install default-libmysqlclient-dev pkg-config gcc python3-dev"""


def ensure(*groups):
    """
    See to it that .venv has the packages of some groups.

    groups: names of files in requirements/, besides "django", which is always
    there. Return the path of its Python. Raise Error if there is none that
    Django supports, or if pip fails; what isn't finished isn't in the stamp.
    """
    facts = {key: upstream()[key] for key in ("version", "pythons")}
    facts["directory"] = str(ROOT)
    stamp = read_stamp()
    installed = stamp.pop("groups", {})
    changed = any(read_group(name) != text for name, text in installed.items())
    if changed or stamp != facts or run(PYTHON, "-c", PROBE).returncode:
        make()
        installed = {}
    for group in dict.fromkeys(("django", *groups)):
        if group not in installed:
            install(group)
            installed[group] = read_group(group)
            STAMP.write_text(json.dumps({**facts, "groups": installed}, indent=1))
    return PYTHON


def read_stamp():
    """Return what the stamp says, or an empty dictionary."""
    try:
        return json.loads(STAMP.read_text()) if PYTHON.exists() else {}
    except (OSError, ValueError):
        return {}


def read_group(group):
    """Return the text of a group's file; None if there is no such group."""
    path = REQUIREMENTS / f"{group}.txt"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def install(group):
    """Install the packages of a group in .venv."""
    count = sum(line[0].isalpha() for line in read_group(group).split("\n") if line)
    say(f"Installing the {count} packages of requirements/{group}.txt in .venv ...")
    done = pip("install", "--no-deps", f"--requirement={REQUIREMENTS / group}.txt")
    if done.returncode:
        raise Error(
            f"pip could not install requirements/{group}.txt:\n{last_lines(done)}\n"
            + (NO_NETWORK + NO_COMPILER if group == "mysql" else NO_NETWORK)
        )


def pip(*args):
    """Run .venv's pip, whatever its outcome. Return the CompletedProcess."""
    return run(PYTHON, "-m", "pip", *args)


def last_lines(done, count=8):
    """Return the last lines that a program printed, indented."""
    lines = (done.stdout + done.stderr).splitlines()
    return indent([line for line in lines if line.strip()][-count:])


def version_key(version):
    """Return a version such as "3.13" as a tuple of numbers."""
    return tuple(map(int, version.split(".")))


def find_python():
    """Return the path of the newest Python that will do, or raise Error."""
    pythons = sorted(upstream()["pythons"], key=version_key)
    names = [f"python{version}" for version in pythons] + ["python3"]
    paths = [sys.executable, *filter(None, map(shutil.which, names))]
    home = os.path.expanduser("~")
    pyenv = os.environ.get("PYENV_ROOT") or f"{home}/.pyenv"
    paths += sorted(glob.glob(f"{pyenv}/versions/*/bin/python3"))
    paths += sorted(glob.glob(f"{home}/.local/share/uv/python/*/bin/python3"))
    usable, looked_at = {}, []
    # What is in an environment such as .venv leads to what made that.
    for path in dict.fromkeys(map(os.path.realpath, paths)):
        done = run(path, "-I", "-c", PROBE)
        version = done.stdout.strip()
        said = (done.stderr.strip() or "not supported").splitlines()
        line = said[-1] if said[0].startswith("Traceback") else said[0]
        looked_at.append(f"{path}: {version} {line}")
        if not done.returncode and version.rpartition(".")[0] in pythons:
            usable[version_key(version)] = path
    if usable:
        return usable[max(usable)]
    raise Error(
        f"no Python that Django {upstream()['version']} supports "
        f"({', '.join(pythons)}) was found, with its\nvenv module. Looked at:\n"
        f"{indent(looked_at)}\n"
        "Nothing was changed. Get one and run the command again:\n"
        "  on Debian 13 or Ubuntu 24.04: apt install python3-venv\n"
        "  elsewhere (the python3 of Debian 12 is 3.11): with pyenv or uv (uv python\n"
        f"  install {pythons[-1]}), or from python.org"
    )


def make():
    """Make .venv, with what leads to django/, and without packages."""
    command = find_python()
    say(f"Making .venv with {command} ...")
    STAMP.unlink(missing_ok=True)
    remove(VENV)
    done = run(command, "-m", "venv", VENV)
    if done.returncode:
        raise Error(
            f"{command} can't make .venv:\n{last_lines(done)}\n"
            "Nothing else was changed. Put right what it says, and run it again."
        )
    (site,) = VENV.glob("lib/python*/site-packages")
    # Relative, since Python may read this as ASCII.
    (site / "django-series.pth").write_text("../../../../django\n")
    # So that pip won't install another as what some package depends on.
    version = upstream()["version"]
    info = site / f"django-{version}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: Django\nVersion: {version}\n"
    (info / "METADATA").write_text(metadata)


def remove(path):
    """Delete a file or a directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
