"""
A copy of this repository with the tiny Django in tiny/, not the real one.

series.py runs in it as a program, without a network: pip finds the sdist in a
directory. The copy is made once, by a real "apply"; each test gets it anew at
the same path, so that its .venv stays valid.
"""

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = Path(__file__).with_name("tiny")
VERSION = "6.1.3"
SDIST = f"django-{VERSION}.tar.gz"
# The commits, and the pull requests and patches that they are, in order.
SUBJECTS = """\
Fixed #1 -- Changed a line.
Refs #22543 -- Added the signals.
Fixed #22543 -- Sent the signals from update().""".splitlines()
ALONE = "lines/0001-Fixed-1-Changed-a-line.patch"
FIRST = "signals/0001-Refs-22543-Added-the-signals.patch"
SECOND = "signals/0002-Fixed-22543-Sent-the-signals-from-update.patch"
# What git or a file system may change.
ODD = {
    "Django.egg-info/SOURCES.txt": "not part of the base\n",
    "extras/dos.txt": "one\r\ntwo\r\n",
    "extras/a name \u2297.txt": "x",
    "extras/run": "#!/bin/sh\n",
}
# Groups of packages which the tests need, but none of their packages.
EMPTY = ("lint", "docs", "postgres", "mysql")
# Finds what it should where it's black, and nothing where it's another linter.
LINTER = "import sys\nsys.exit(any('FAULT' in open(x).read() for x in sys.argv[4:]))\n"


class Repo:
    """A copy of the repository and the ways in which tests use it."""

    def __init__(self, root, env):
        self.root, self.env = Path(root), env
        self.patches = self.root / "patches"
        self.checkout = self.root / "django"

    def start(self, *command, cwd="/", **env):
        """Start a program; return its Popen."""
        return subprocess.Popen(
            command,
            cwd=cwd,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Background jobs of a shell ignore it, and what they start, too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *args, **env):
        """Run series.py; return (its exit status, what it printed)."""
        process = self.start(sys.executable, self.root / "series.py", *args, **env)
        output, errors = process.communicate()
        # No traceback of series.py; those of failing tests are welcome.
        assert 'series.py", line' not in errors, errors
        if process.returncode == 1 and " FAILED" not in output:
            assert "series.py: error: " in errors
        return process.returncode, output + errors

    def good(self, *args, **env):
        """Run series.py, which must end well; return what it printed."""
        status, output = self.run(*args, **env)
        assert status == 0, output
        return output

    def bad(self, *args, **env):
        """Run series.py, which must fail and say so; return its output."""
        status, output = self.run(*args, **env)
        assert status == 1, output
        return output

    def refuses(self, *args, **env):
        """Run series.py, which must fail and change nothing, like bad()."""
        before = self.contents()
        output = self.bad(*args, **env)
        assert self.contents() == before
        return output

    def contents(self, root=None):
        """Return {path: bytes} of all files, except what can be made anew."""
        made = {".venv", ".work", "__pycache__", "index", "objects"}
        paths = [path for path in (root or self.root).rglob("*") if path.is_file()]
        return {x: x.read_bytes() for x in paths if not made & set(x.parts)}

    def series(self):
        """Return {"pull request/name": bytes} of patches/."""
        paths = self.patches.glob("*/*.patch")
        return {f"{x.parent.name}/{x.name}": x.read_bytes() for x in paths}

    def shell(self, script, cwd=None):
        """Run a shell's script in the checkout; return its output."""
        return subprocess.run(
            ["sh", "-ec", script],
            cwd=cwd or self.checkout,
            env={**self.env, "ROOT": str(self.root)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def git(self, *args, cwd=None):
        """Run git in the checkout; return its output."""
        return self.shell(shlex.join(["git", *args]), cwd)

    def where(self):
        """Return the commit, the branch, and the changes in the checkout."""
        return self.shell("git rev-parse HEAD; git branch --show; git status -s")

    def edit(self, path, old, new):
        """Replace some text in a file of the copy."""
        path = self.root / path
        text = path.read_bytes().decode()
        assert old in text
        path.write_bytes(text.replace(old, new, 1).encode())

    def commit(self, message, files=None, *options, cwd=None):
        """Commit all, and {path: text}, in the checkout or elsewhere."""
        write_files(cwd or self.checkout, files or {})
        self.git("add", "--all", cwd=cwd)
        self.git("commit", "--quiet", "-m", message, *options, cwd=cwd)

    def wrap_git(self, directory, script):
        """Run a script before each git. Return the variable for run()."""
        real = shutil.which("git", path=self.env["PATH"])
        write_script(directory / "git", f'{script}\nexec {real} "$@"')
        return {"PATH": f"{directory}:{self.env['PATH']}"}


def write_files(root, files):
    """Write {path: text} in a directory."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(text.encode())


def write_script(path, text):
    """Write a shell script that can be run."""
    write_files(path.parent, {path.name: f"#!/bin/sh\n{text}\n"})
    path.chmod(0o755)


def write_wheel(directory, name):
    """Write a wheel with one module, which needs Django."""
    directory.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    with zipfile.ZipFile(directory / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", f"{metadata}Requires-Dist: Django>=4\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def make_release(repo, sdist):
    """Write the sdist, and upstream.toml."""
    shutil.copytree(TINY / "sdist", repo.checkout)
    shutil.copytree(TINY / "sdist/tests/update", repo.checkout / "tests/other")
    write_files(repo.checkout, ODD)
    (repo.checkout / "extras" / "run").chmod(0o755)
    with tarfile.open(sdist, "w:gz") as archive:
        archive.add(repo.checkout, f"django-{VERSION}")
    tree = repo.shell("rm -r *.egg-info; git init -q; git add .; git write-tree")
    shutil.rmtree(repo.checkout)
    digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    python = "{}.{}".format(*sys.version_info)
    toml = f'version = "{VERSION}"\nfile = "{SDIST}"\nsize = {sdist.stat().st_size}\n'
    toml += f'sha256 = "{digest}"\ntree = "{tree}"\npythons = ["{python}"]\n'
    write_files(repo.root, {"upstream.toml": toml})


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """Return the copy, the directory of what's copied, and apply's output."""
    directory = tmp_path_factory.mktemp("series")
    home, links = directory / "home", directory / "links"
    env = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": str(links),
        "PYENV_ROOT": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{x}_NAME": "Ann" for x in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{x}_EMAIL": "ann@example.com" for x in ("AUTHOR", "COMMITTER")},
    }
    # As a user would have it.
    repo = Repo(directory / "mein Ordner \u00fc", env)
    home.mkdir()
    shutil.copytree(TINY / "repository", repo.root)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tools", repo.root / "tools", ignore=ignore)
    for name in ("series.py", "tests/series/databases.py", "tests/series/results.py"):
        shutil.copy(ROOT / name, repo.root / name)
    write_files(repo.root, {f"requirements/{group}.txt": "" for group in EMPTY})
    write_wheel(links, "first")
    write_wheel(links, "second")
    make_release(repo, links / SDIST)
    output = repo.good("apply")
    # As if the groups and the linters had been installed, which takes long.
    stamp = repo.root / ".venv" / "series.json"
    facts = json.loads(stamp.read_text())
    facts["groups"].update(dict.fromkeys(EMPTY, ""))
    stamp.write_text(json.dumps(facts))
    (site,) = (repo.root / ".venv").glob("lib/python*/site-packages")
    for name in ("black", "isort", "flake8", "blacken_docs", "sphinx"):
        (site / f"{name}.py").write_text(LINTER if name == "black" else "")
    # The clone for "pr" and "rebase", whose main is newer.
    clone = directory / "clone"
    repo.git("clone", "--quiet", str(repo.checkout), str(clone))
    repo.git("checkout", "--quiet", "-B", "main", "upstream/6.1.3", cwd=clone)
    shutil.copytree(TINY / "main", clone, dirs_exist_ok=True)
    repo.commit("Changed main.", cwd=clone)
    repo.root.rename(directory / "template")
    return repo, directory, output


@pytest.fixture
def repo(template):
    """Give the copy as the first apply left it."""
    repo, source, kept = template[0], template[1] / "template", template[1] / "kept"
    venv = repo.root / ".venv"
    stamps = [x / ".venv" / "series.json" for x in (repo.root, source)]
    # .venv is by far the largest part, so it stays if it is whole.
    if stamps[0].exists() and stamps[0].read_bytes() == stamps[1].read_bytes():
        venv.rename(kept)
    else:
        shutil.copytree(source / ".venv", kept, symlinks=True)
    shutil.rmtree(repo.root, ignore_errors=True)
    ignore = shutil.ignore_patterns(".venv")
    shutil.copytree(source, repo.root, symlinks=True, ignore=ignore)
    kept.rename(venv)
    return Repo(repo.root, dict(repo.env))


@pytest.fixture
def clone(template, tmp_path):
    """Give a clone of the tiny Django, for "pr" and "rebase"."""
    return shutil.copytree(template[1] / "clone", tmp_path / "clone", symlinks=True)
