"""The wheel in a project: over the release, as its tester would install it."""

import os
import re
import shlex
import subprocess

import pytest

from tools import DJANGO, wheel
from tools.checkout import TIP, state
from tools.common import clean_environment, upstream
from tools.environment import PYTHON
from tools.suite import SERIES

pytestmark = pytest.mark.skipif(
    not (DJANGO / ".git").is_dir() or state() != "",
    reason="there is no finished django/: run series.py apply",
)


@pytest.fixture
def project(tmp_path):
    """Give a function that runs a line in an environment with the release."""
    subprocess.run([PYTHON, "-m", "venv", tmp_path], check=True)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    # To compile it all takes longer than what is run.
    env = clean_environment(PATH=path, PIP_NO_COMPILE="1")

    def run(line):
        command, options = shlex.split(line), {"text": True, "cwd": tmp_path}
        done = subprocess.run(command, env=env, capture_output=True, **options)
        return done.returncode, done.stdout + done.stderr

    status, output = run(f"python -m pip install Django=={upstream()['version']}")
    assert status == 0, output
    return run


def test_lines(project, tmp_path_factory):
    """
    Each of the three lines does what it says: the ticket's scenario ends well
    after the first, and before it and after the third it does not.
    """
    release = upstream()["version"]
    minor, ours = release.rpartition(".")[0], f"{release}+tested"
    path = wheel.build(TIP, ours, tmp_path_factory.mktemp("wheel"))
    said = wheel.lines(path, ours)
    use, see, back = re.findall(r"^(?:use it|see that|go back): +(.*)$", said, re.M)
    scenario = f"python {shlex.quote(str(SERIES / 'scenario.py'))}"
    stale = '"coherent": false'
    for line, version, good in (
        ("python -c pass", release, False),
        (use, ours, True),
        # What a project's requirements say is satisfied.
        (f"python -m pip install Django=={release} Django~={minor}", None, True),
        (back, release, False),
    ):
        status, output = project(line)
        assert status == 0, output
        assert version is None or project(see) == (0, f"{version}\n")
        status, output = project(scenario)
        assert status == 0 and (stale not in output) == good, output
