"""The environment in .venv: which Python, what is installed, when anew."""

import json
import sys
from subprocess import CompletedProcess

import pytest

from conftest import EMPTY, write_script
from tools.common import Error, must

VERSION = ".".join(map(str, sys.version_info[:2]))
ENSURE = "import sys; from tools.environment import ensure; ensure(*sys.argv[1:])"


def ensure(repo, *groups, **env):
    """Call ensure() as a command does. Return what was printed."""
    process = repo.start(sys.executable, "-c", ENSURE, *groups, cwd=repo.root, **env)
    return "".join(process.communicate())


def groups(repo):
    """Return the groups in the stamp; none without one."""
    stamp = repo.root / ".venv" / "series.json"
    return set(json.loads(stamp.read_text())["groups"]) if stamp.exists() else set()


def imports(repo, module):
    """Return the file that a module comes from in .venv, or ""."""
    code, python = f"import {module}; print({module}.__file__)", ".venv/bin/python"
    return repo.start(repo.root / python, "-c", code).communicate()[0].strip()


def test_groups(repo, tmp_path):
    """
    A missing group is added; a changed one makes .venv anew. What pip can't
    install is told, and is not in the stamp.
    """
    here = str(repo.checkout / "django" / "query.py")
    assert imports(repo, "django.query") == here
    assert imports(repo, "first") and not imports(repo, "second")
    said = ensure(repo, "extra", PIP_FIND_LINKS=str(tmp_path))
    assert "pip could not install requirements/extra.txt" in said
    assert "second" in said and "Without a network" in said
    assert groups(repo) == {"django", *EMPTY}
    said = ensure(repo, "extra")
    assert "requirements/extra.txt" in said and "Making" not in said
    assert groups(repo) == {"django", "extra", *EMPTY}
    # It depends on Django, which pip must not bring.
    assert imports(repo, "second") and imports(repo, "django.query") == here
    assert ensure(repo, "extra") == ""
    (repo.root / "requirements" / "extra.txt").unlink()
    (repo.root / "requirements" / "django.txt").write_text("nosuch==1.0\n")
    output = repo.refuses("apply")
    assert "Making .venv" in output and "nosuch" in output
    assert not groups(repo) and not imports(repo, "second")


def test_user_settings(repo, tmp_path):
    """
    A .venv without a stamp, which may be half made, is made anew, and the
    user's settings for pip and Python do not lead elsewhere.
    """
    (repo.root / ".venv" / "junk").touch()
    (repo.root / ".venv" / "series.json").unlink()
    (tmp_path / "json.py").write_text("1 / 0")
    target, names = tmp_path / "target", ("PIP_TARGET", "PIP_PREFIX", "PYTHONUSERBASE")
    hostile = {"PIP_USER": "1", "PYTHONHOME": "", "DJANGO_SETTINGS_MODULE": "nosuch"}
    output = repo.good("apply", **hostile, **dict.fromkeys(names, str(target)))
    assert "Making .venv" in output and not target.exists()
    assert not (repo.root / ".venv" / "junk").exists()
    assert imports(repo, "first").startswith(str(repo.root / ".venv"))


def test_newest_python(repo, tmp_path):
    """The newest that works is taken. If there's none, all are named."""
    write_script(tmp_path / "python3.99", "echo 'shim: not found' >&2; exit 127")
    write_script(tmp_path / "python3.98", "echo 3.98.0; echo no venv >&2; exit 1")
    new = tmp_path / "versions" / "3.99.1" / "bin" / "python3"
    write_script(new, '[ "$1" = -I ] || exit 1; echo 3.99.1')
    path = f"{tmp_path}:{repo.env['PATH']}"
    repo.edit("upstream.toml", f'["{VERSION}"]', '["3.98", "3.99"]')
    output = repo.refuses("apply", PATH=path)
    assert f"{tmp_path}/python3.99:  shim: not found" in output
    assert f"{tmp_path}/python3.98: 3.98.0 no venv" in output
    assert f": {VERSION}." in output and "not supported" in output
    assert "uv python" in output and "apt install python3-venv" in output
    assert groups(repo) == {"django", *EMPTY}
    repo.edit("upstream.toml", '["3.98", ', f'["3.98", "{VERSION}", ')
    said = ensure(repo, PATH=path, PYENV_ROOT=str(tmp_path))
    assert f"Making .venv with {new}" in said
    assert "can't make .venv" in said and not groups(repo)


def test_full_disk():
    """Who has a full disk is told that, whatever the advice would be."""
    said = "OSError: [Errno 28] No space left on device"
    with pytest.raises(Error, match="Make room") as caught:
        must(CompletedProcess([], 1, "", said), "pip could not", "Get an index.")
    assert "an index" not in str(caught.value)


def test_another_base(repo):
    """Another base of the same Python leaves .venv, and is its only Django."""
    repo.edit("upstream.toml", 'version = "6.1.3"', 'version = "6.1.4"')
    assert ensure(repo) == ""
    assert groups(repo) == {"django", *EMPTY}
    names = [x.parent.name for x in repo.root.glob(".venv/**/django-*/METADATA")]
    assert names == ["django-6.1.4.dist-info"]
