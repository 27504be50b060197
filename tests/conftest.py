"""
A copy of this repository with a tiny Django instead of the real one.

series.py runs in it as a program, without a network: pip finds the tiny sdist
in a directory. The copy is made once, by a real "apply"; each test gets it
anew at the same path, so that its .venv stays valid.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

VERSION = "6.1.3"
SDIST = f"django-{VERSION}.tar.gz"
# The pull requests and their patches, in order.
ALONE = "lines/0001-Fixed-1-Changed-a-line.patch"
FIRST = "signals/0001-Refs-22543-Added-the-signals.patch"
SECOND = "signals/0002-Fixed-22543-Sent-the-signals-from-update.patch"
SERIES = """
[[pull_request]]
name = "lines"
after = []
ticket = 1

[[pull_request]]
name = "signals"
after = ["lines"]
ticket = 22543
"""

BACKEND = '''
"""A build backend which needs nothing."""
import pathlib

INFO = "django-6.1.3.dist-info"
METADATA = "Metadata-Version: 2.1\\nName: Django\\nVersion: 6.1.3\\n"
WHEEL = "Wheel-Version: 1.0\\nGenerator: x\\nTag: py3-none-any\\n"


def prepare_metadata_for_build_wheel(directory, config_settings=None):
    path = pathlib.Path(directory, INFO)
    path.mkdir()
    (path / "METADATA").write_text(METADATA)
    (path / "WHEEL").write_text(WHEEL)
    return INFO
'''

RUNTESTS = """
import argparse
import importlib
import sys
import unittest

parser = argparse.ArgumentParser()
parser.add_argument("--noinput", action="store_true")
parser.add_argument("--settings")
parser.add_argument("--parallel")
parser.add_argument("labels", nargs="*")
options = parser.parse_args()
settings = importlib.import_module(options.settings)
module, name = settings.TEST_RUNNER.split(".")
runner = getattr(importlib.import_module(module), name)()
loader = unittest.defaultTestLoader
if options.labels:
    names = [x if "." in x else x + ".tests" for x in options.labels]
    suite = loader.loadTestsFromNames(names)
else:
    suite = loader.discover(".", pattern="tests*.py")
sys.exit(bool(runner.suite_result(suite, runner.run_suite(suite))))
"""

RUNNER = """
import unittest


class DiscoverRunner:
    def get_resultclass(self):
        return None

    def run_suite(self, suite, **kwargs):
        return unittest.TextTestRunner(resultclass=self.get_resultclass()).run(suite)
"""

TESTS = """
import unittest

import django.query


class UpdateTests(unittest.TestCase):
    def test_update(self):
        self.assertIn(django.query.update(), ("quiet", "sent"))

    @unittest.skip("always")
    def test_skipped(self):
        pass
"""

QUERY = (
    "SIGNALS = False\n"
    + "".join(f"LINE_{number} = {number}\n" for number in range(20))
    + "\n\ndef update():\n"
    + '    return "quiet"\n'
)

SCENARIO = """
import pathlib
import sys

texts = [pathlib.Path(x, "django/query.py").read_text() for x in sys.argv[1:]]
before, after = ["coherent" if '"sent"' in text else "STALE" for text in texts]
print("update()", before, after)
sys.exit(after == "STALE")
"""

RECEIVERS = """
import json
import os
import unittest


def report(**line):
    with open(os.environ["SERIES_REPORT"], "a") as file:
        print(json.dumps(line), file=file)


def reporting_run(test, result=None):
    run(test, result)
    report(test=test.id(), updates=2)


def connect_at_setup():
    unittest.TestCase.run = reporting_run


run = unittest.TestCase.run
"""

FILES = {
    "PKG-INFO": b"Metadata-Version: 2.1\nName: Django\nVersion: 6.1.3\n",
    "Django.egg-info/SOURCES.txt": b"not part of the base\n",
    "pyproject.toml": (
        b'[build-system]\nrequires = []\nbuild-backend = "backend"\n'
        b'backend-path = ["."]\n[project]\nname = "Django"\nversion = "6.1.3"\n'
    ),
    "backend.py": BACKEND.encode(),
    "django/__init__.py": b"",
    "django/query.py": QUERY.encode(),
    "django/test/__init__.py": b"",
    "django/test/runner.py": RUNNER.encode(),
    "tests/runtests.py": RUNTESTS.encode(),
    "tests/update/__init__.py": b"",
    "tests/update/tests.py": TESTS.encode(),
    "tests/other/__init__.py": b"",
    "tests/other/tests.py": TESTS.encode(),
    "extras/dos.txt": b"one\r\ntwo\r\n",
    "extras/a name \xe2\x8a\x97.txt".encode("latin-1").decode("utf-8"): b"x",
    "extras/run": b"#!/bin/sh\n",
}


def plain_env(home):
    """Return a plain environment in which git has no configuration."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PYENV_ROOT": str(home),
        "GIT_AUTHOR_NAME": "Ann",
        "GIT_AUTHOR_EMAIL": "ann@example.com",
        "GIT_COMMITTER_NAME": "Ann",
        "GIT_COMMITTER_EMAIL": "ann@example.com",
    }


def default_interrupt():
    """
    Let Control-C interrupt a process that's about to start, even if the tests
    themselves ignore it, like a background job of a shell.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Repo:
    """A copy of the repository and the ways in which tests use it."""

    def __init__(self, root, env):
        self.root, self.env = Path(root), env
        self.patches = self.root / "patches"
        self.checkout = self.root / "django"

    def run(self, *args, **env):
        """Run series.py; return its CompletedProcess with text."""
        done = subprocess.run(
            [sys.executable, str(self.root / "series.py"), *args],
            cwd="/",
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            preexec_fn=default_interrupt,
        )
        # No traceback of series.py; those of failing tests are welcome.
        assert 'series.py", line' not in done.stderr, done.stderr
        return done

    def good(self, *args, **env):
        """Run series.py, which must end well; return what it printed."""
        done = self.run(*args, **env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def bad(self, *args, status=1, **env):
        """Run series.py, which must fail and say so; return its output."""
        done = self.run(*args, **env)
        assert done.returncode == status, done.stdout + done.stderr
        if status == 1 and "Tests FAILED" not in done.stdout:
            assert "series.py: error: " in done.stderr
        return done.stdout + done.stderr

    def git(self, *args, cwd=None):
        """Run git in the checkout as its user would; return the output."""
        return subprocess.run(
            ["git", *args],
            cwd=cwd or self.checkout,
            env=self.env,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def head(self):
        """Return the id of the commit which is checked out."""
        return self.git("rev-parse", "HEAD")

    def status(self):
        """Return git status's lines about the checkout."""
        return self.git("status", "--porcelain")

    def edit(self, path, old, new):
        """Replace some text in a file of the copy."""
        path = self.root / path
        text = path.read_bytes().decode()
        assert old in text
        path.write_bytes(text.replace(old, new, 1).encode())

    def commit(self, message, path="django/new.py", text="NEW = 1\n"):
        """Commit a file in the checkout."""
        file = self.checkout / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", message)

    def series(self):
        """Return {"pull request/name": bytes} of patches/."""
        paths = self.patches.glob("*/*")
        return {f"{x.parent.name}/{x.name}": x.read_bytes() for x in paths}

    def wrap_git(self, directory, script):
        """
        Put a git before the real one which runs a shell script first.

        Return the variable to pass to run().
        """
        directory.mkdir(exist_ok=True)
        real = shutil.which("git", path=self.env["PATH"])
        file = directory / "git"
        file.write_text(f'#!/bin/sh\n{script}\nexec {real} "$@"\n')
        file.chmod(0o755)
        return {"PATH": f"{directory}:{self.env['PATH']}"}


def write_sdist(directory):
    """Write the tiny sdist and its files; return (archive, directory)."""
    tree = directory / f"django-{VERSION}"
    for name, content in FILES.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if name == "extras/run" else 0o644)
        os.utime(path, (1700000000, 1700000000))
    links = directory / "links"
    links.mkdir()
    with tarfile.open(links / SDIST, "w:gz") as archive:
        archive.add(tree, tree.name)
    return links / SDIST, tree


def write_wheel(directory, name):
    """Write a wheel with one module."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(directory / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        wheel.writestr(f"{info}/METADATA", metadata + "Requires-Dist: Django>=4\n")
        tag = "Wheel-Version: 1.0\nGenerator: x\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tag)
        wheel.writestr(f"{info}/RECORD", "")


def write_patches(tree, env, directory):
    """
    Commit the tree and three patches with git itself, not with series.py.

    Return the id of the tree's git tree; the patches are in directory.
    """

    def git(*args):
        return subprocess.run(
            ["git", *args],
            cwd=tree,
            env=env,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def change(path, old, new):
        (tree / path).write_text((tree / path).read_text().replace(old, new))

    shutil.rmtree(tree / "Django.egg-info")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "-m", "Base.")
    base = git("rev-parse", "HEAD^{tree}")
    change("django/query.py", "LINE_15 = 15", "LINE_15 = 55")
    git("commit", "-a", "-m", "Fixed #1 -- Changed a line.")
    change("django/query.py", "LINE_3 = 3", "LINE_3 = 33")
    (tree / "django" / "signals.py").write_text("post_update = object()\n")
    git("add", "--all")
    git("commit", "--quiet", "-m", "Refs #22543 -- Added the signals.\n\nA body.")
    change("django/query.py", '"quiet"', '"sent"')
    tests = tree / "tests" / "update" / "tests.py"
    tests.write_text(tests.read_text() + "\n    def test_sent(self):\n        pass\n")
    git("commit", "-a", "-m", "Fixed #22543 -- Sent the signals from update().")
    options = "--zero-commit --full-index --no-numbered --no-signature".split()
    for name, commits in (("lines", "-1 HEAD~2"), ("signals", "HEAD~2")):
        to = f"--output-directory={directory / name}"
        git("format-patch", *options, to, *commits.split())
    (directory / "series.toml").write_text(SERIES)
    return base


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """Make the copy once. Return (its directory, path to use, env, output)."""
    directory = tmp_path_factory.mktemp("series")
    # As a user would have it.
    root, home = directory / "mein Ordner \u00fc", directory / "home"
    home.mkdir()
    (root / "tests" / "series").mkdir(parents=True)
    env = plain_env(home)
    sdist, tree = write_sdist(directory)
    env["PIP_FIND_LINKS"] = str(sdist.parent)
    shutil.copy(ROOT / "series.py", root)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tools", root / "tools", ignore=ignore)
    (root / "requirements").mkdir()
    for group, name in (("django", "first"), ("extra", "second")):
        write_wheel(sdist.parent, name)
        (root / "requirements" / f"{group}.txt").write_text(f"{name}==1.0\n")
    for name, text in (
        ("scenario.py", SCENARIO),
        ("receivers.py", RECEIVERS),
        ("receivers.toml", '["quiet audit"]\n[audit]\n'),
    ):
        (root / "tests" / "series" / name).write_text(text)
    for name in ("databases.py", "results.py"):
        shutil.copy(ROOT / "tests" / "series" / name, root / "tests" / "series")
    base = write_patches(tree, env, root / "patches")
    python = ".".join(map(str, sys.version_info[:2]))
    (root / "upstream.toml").write_text(
        f'version = "{VERSION}"\nfile = "{SDIST}"\nsize = {sdist.stat().st_size}\n'
        f'sha256 = "{hashlib.sha256(sdist.read_bytes()).hexdigest()}"\n'
        f'tree = "{base}"\npythons = ["{python}"]\n'
    )
    output = Repo(root, env).good("apply")
    root.rename(directory / "template")
    return directory / "template", root, env, output


@pytest.fixture
def repo(template):
    """Give the copy as the first apply left it."""
    source, root, env, _ = template
    stamp = Path(".venv", "series.json")
    whole = (root / stamp).exists() and (
        (root / stamp).read_bytes() == (source / stamp).read_bytes()
    )
    # .venv is by far the largest part, so it stays if it is whole.
    kept = {".venv"} if whole else set()
    for path in root.iterdir() if root.exists() else []:
        if path.is_dir() and path.name not in kept:
            shutil.rmtree(path)
        elif not path.is_dir():
            path.unlink()
    ignore = shutil.ignore_patterns(*kept)
    shutil.copytree(source, root, symlinks=True, ignore=ignore, dirs_exist_ok=True)
    return Repo(root, dict(env))
