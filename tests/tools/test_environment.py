"""The environment in .venv: which Python, what is installed, when anew."""

import json
import os
import shutil
import subprocess
import sys

from conftest import ROOT

VERSION = ".".join(map(str, sys.version_info[:2]))


def ensure(repo, *groups, **env):
    """Call ensure() as a command does. Return its CompletedProcess."""
    code = (
        "import sys; from tools.environment import Error, ensure\n"
        "try: ensure(*sys.argv[1:])\nexcept Error as error: sys.exit(str(error))"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *groups],
        cwd=repo.root,
        env={**repo.env, **env},
        capture_output=True,
        text=True,
    )


def groups(repo):
    """Return the groups in the stamp; none without one."""
    stamp = repo.root / ".venv" / "series.json"
    return list(json.loads(stamp.read_text())["groups"]) if stamp.exists() else []


def imports(repo, module):
    """Return the file that a module comes from in .venv, or ""."""
    code = f"import {module}; print({module}.__file__)"
    python = repo.root / ".venv" / "bin" / "python"
    env = {"PATH": repo.env["PATH"], "LC_ALL": "C"}
    done = subprocess.run([python, "-c", code], capture_output=True, env=env)
    return done.stdout.decode().strip()


def fake_python(directory, name, script):
    """Write a shell script which plays a Python."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


def test_groups(repo):
    """A missing group is added; a changed one makes .venv anew."""
    assert imports(repo, "django.query") == str(repo.checkout / "django/query.py")
    assert imports(repo, "first") and not imports(repo, "second")
    done = ensure(repo, "extra")
    assert "requirements/extra.txt" in done.stdout and "Making" not in done.stdout
    assert groups(repo) == ["django", "extra"]
    # It depends on Django, which pip must not bring.
    assert imports(repo, "second")
    assert imports(repo, "django.query") == str(repo.checkout / "django/query.py")
    assert ensure(repo, "extra").stdout == ""
    (repo.root / "requirements" / "extra.txt").unlink()
    assert "Making .venv" in ensure(repo).stdout
    assert groups(repo) == ["django"] and not imports(repo, "second")


def test_failed_installation(repo, tmp_path):
    """What pip can't install is told, and is not in the stamp."""
    done = ensure(repo, "extra", PIP_FIND_LINKS=str(tmp_path))
    assert "pip could not install requirements/extra.txt" in done.stderr
    assert "second" in done.stderr and "Without a network" in done.stderr
    assert groups(repo) == ["django"]
    (repo.root / "requirements" / "django.txt").write_text("nosuch==1.0\n")
    assert "nosuch" in repo.bad("apply")
    assert groups(repo) == []


def test_killed(repo):
    """A .venv without a stamp, which may be half made, is made anew."""
    (repo.root / ".venv" / "junk").touch()
    (repo.root / ".venv" / "series.json").unlink()
    assert "Making .venv" in repo.good("apply")
    assert not (repo.root / ".venv" / "junk").exists()


def test_user_settings(repo, tmp_path):
    """The user's settings for pip and Python do not lead elsewhere."""
    shutil.rmtree(repo.root / ".venv")
    (tmp_path / "json.py").write_text("1 / 0")
    repo.good(
        "apply",
        PIP_TARGET=str(tmp_path / "target"),
        PIP_PREFIX=str(tmp_path / "target"),
        PIP_USER="1",
        PYTHONHOME="",
        PYTHONUSERBASE=str(tmp_path / "target"),
        DJANGO_SETTINGS_MODULE="nosuch",
    )
    assert not (tmp_path / "target").exists()
    assert imports(repo, "first").startswith(str(repo.root / ".venv"))


def test_newest_python(repo, tmp_path):
    """The newest supported Python that works is taken."""
    fake_python(tmp_path, "python3.98", "echo 3.98.0; exit 1")
    answer = '[ "$1" = -I ] || exit 1; echo 3.99.1'
    fake_python(tmp_path / "versions/3.99.1/bin", "python3", answer)
    repo.edit("upstream.toml", f'["{VERSION}"]', f'["3.99", "{VERSION}", "3.98"]')
    path = f"{tmp_path}:{repo.env['PATH']}"
    done = ensure(repo, PATH=path, PYENV_ROOT=str(tmp_path))
    assert f"Making .venv with {tmp_path}/versions/3.99.1/bin/python3" in done.stdout
    assert "can't make .venv" in done.stderr and not groups(repo)
    done = ensure(repo, PATH=path)
    assert f"Making .venv with {os.path.realpath(sys.executable)}" in done.stdout
    assert groups(repo) == ["django"]


def test_no_supported_python(repo, tmp_path):
    """Every candidate is named with what it said, and what to install."""
    shutil.rmtree(repo.root / ".venv")
    repo.edit("upstream.toml", f'["{VERSION}"]', '["3.98", "3.99"]')
    fake_python(tmp_path, "python3.99", "echo 'shim: not found' >&2; exit 127")
    fake_python(tmp_path, "python3.98", "echo 3.98.0; echo no venv >&2; exit 1")
    output = repo.bad("apply", PATH=f"{tmp_path}:{repo.env['PATH']}")
    assert f"{tmp_path}/python3.99:  shim: not found" in output
    assert f"{tmp_path}/python3.98: 3.98.0 no venv" in output
    assert f": {VERSION}." in output and "not supported" in output
    assert "uv python" in output and "apt install python3-venv" in output
    assert not (repo.root / ".venv").exists()


def test_pins():
    """A package has one version in all of requirements/."""
    pins = {}
    for path in (ROOT / "requirements").glob("*.txt"):
        for line in path.read_text().splitlines():
            if line and not line.startswith(("#", "-")):
                name, _, version = line.partition("==")
                assert version and pins.setdefault(name.lower(), version) == version
    assert len(pins) > 50
