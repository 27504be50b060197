"""
The environment in .venv. requirements/GROUP.txt is all that a group needs; the
stamp in .venv says which groups are in it, and what their files said. What is
missing is installed; if anything else has changed, .venv is made anew. Django
isn't installed: a .pth file names django/, so that nothing has to be built.
"""

import fcntl
import glob
import json
import os
import re
import shutil
import sys

from tools import ROOT, VENV
from tools.common import Error, indent, lock, must, remove, run, say, upstream

PYTHON = VENV / "bin" / "python"
STAMP = VENV / "series.json"
PROBE = "import sys; print('%d.%d.%d' % sys.version_info[:3]); import venv, ensurepip"


def ensure(*groups):
    """
    See to it that .venv has some groups, and "django", which is always there.
    Return the path of its Python. Raise Error if there is none that Django
    supports, or if pip fails; what isn't finished isn't in the stamp.
    """
    # Commands that run at the same time share .venv.
    with open(__file__) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        return bring_in_line(groups)


def bring_in_line(groups):
    """Do what ensure() says."""
    facts = {"pythons": upstream()["pythons"], "directory": str(ROOT)}
    paths = (ROOT / "requirements").glob("*.txt")
    texts = {path.stem: path.read_text(encoding="utf-8") for path in paths}
    try:
        stamp = json.loads(STAMP.read_text())
        installed = stamp.pop("groups")
    except (OSError, ValueError, KeyError):
        stamp, installed = {}, {}
    same = stamp == facts and installed.items() <= texts.items()
    if not same or not PYTHON.exists():
        make()
        installed = {}
    name_django()
    for group in dict.fromkeys(("django", *groups)):
        if group not in installed:
            path = f"requirements/{group}.txt"
            say(f"Installing {path} in .venv ...")
            pip(f"install {path}", "install", "--no-deps", "-r", ROOT / path)
            installed[group] = texts[group]
            STAMP.write_text(json.dumps({**facts, "groups": installed}, indent=1))
    return PYTHON


def pip(what, *args):
    """Run .venv's pip. Raise Error, which says what could not be done."""
    done = run(PYTHON, "-m", "pip", *args)
    # Of the versions that there are, the newest three will do.
    versions = r"(from versions: )\S[^)]*?((, [^,)]+){3}\))"
    done.stderr = re.sub(versions, r"\1...\2", done.stderr)
    advice = (
        "django/ and patches/ are as they were. Run it again when pip has an index;\n"
        'where it never does, or cannot build a driver, see "Without a network" and\n'
        '"What needs more packages" in README.md.'
    )
    if re.search(r"from versions: (?!none)", done.stderr):
        advice = (
            "django/ and patches/ are as they were. Pip's index has no such version."
        )
    must(done, f"pip could not {what}", advice)


def find_python():
    """Return the path of the newest Python that will do, or raise Error."""
    pythons, home = upstream()["pythons"], os.path.expanduser("~")
    names = [*(f"python{version}" for version in pythons), "python3"]
    paths = [sys.executable, *filter(None, map(shutil.which, names))]
    pyenv = os.environ.get("PYENV_ROOT") or f"{home}/.pyenv"
    for place in (f"{pyenv}/versions", f"{home}/.local/share/uv/python"):
        paths += sorted(glob.glob(f"{place}/*/bin/python3"))
    usable, looked_at = {}, []
    # What is in an environment such as .venv leads to what made that.
    for path in dict.fromkeys(map(os.path.realpath, paths)):
        done = run(path, "-I", "-c", PROBE)
        version = done.stdout.strip()
        said = (done.stderr.strip() or "not supported").splitlines()[-1]
        looked_at.append(f"{path}: {version} {said}")
        if not done.returncode and version.rpartition(".")[0] in pythons:
            usable[tuple(map(int, version.split(".")))] = path
    if usable:
        return usable[max(usable)]
    raise Error(
        f"no Python that Django {upstream()['version']} supports "
        f"({', '.join(pythons)}) was found, with its\nvenv module. Looked at:\n"
        f"{indent(looked_at)}\nNothing was changed. Get one and run it again: on "
        "Debian 13 or Ubuntu 24.04,\napt install python3-venv; elsewhere (Debian 12 "
        f"has 3.11), uv python install {pythons[-1]}."
    )


def make():
    """Make .venv, with what leads to django/, and without packages."""
    command = find_python()
    # Others may be running what is in it.
    lock(alone=True)
    say(f"Making .venv with {command} ...")
    STAMP.unlink(missing_ok=True)
    remove(VENV)
    advice = "Nothing else was changed. Put right what it says, and run it again."
    must(run(command, "-m", "venv", VENV), f"{command} can't make .venv", advice)
    (site,) = VENV.glob("lib/python*/site-packages")
    # Relative, since Python may read this as ASCII.
    (site / "django-series.pth").write_text("../../../../django\n")


def name_django():
    """
    Let .venv have the metadata of the base, and of no other Django, so that
    pip won't install one as what some package depends on.
    """
    version = upstream()["version"]
    (site,) = VENV.glob("lib/python*/site-packages")
    metadata = site / f"django-{version}.dist-info" / "METADATA"
    if metadata.exists():
        return
    for path in site.glob("django-*.dist-info"):
        remove(path)
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: Django\nVersion: {version}\n")
