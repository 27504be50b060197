"""
The servers of "series.py test --db".

Programs that don't serve take the place of servers, except in the last test.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tools.git import Error
from tools.servers import started

TEST = "update.tests.UpdateTests.test_update"
NAMES = ["postgres", "mariadb", "mysql"]
PROGRAMS = {
    "postgres": ("initdb", "postgres"),
    "mariadb": ("mariadb-install-db", "mariadbd"),
    "mysql": ("mysqld", "mysqld"),
}
VERSIONS = {
    "postgres": "PostgreSQL 99 on Linux",
    "mariadb": "99-MariaDB",
    "mysql": "99",
}
# What answers instead of Django's connection.
DB = """
import contextlib
import os


class connection:
    def execute(self, sql):
        assert os.environ["DJANGO_SETTINGS_MODULE"] == "databases"

    def fetchone(self):
        return [os.environ["FAKE_VERSION"]]

    _nodb_cursor = contextlib.contextmanager(lambda: (yield connection()))
"""
SERVE = "echo ready to accept connections; echo ready for connections; exec sleep 60"


@pytest.fixture
def place():
    """Give a directory that every user may use, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="ein Ordner \u00fc ") as path:
        os.chmod(path, 0o777)
        yield Path(path)


@pytest.fixture
def copy(repo, place):
    """Give the copy, where no server of this machine is found."""
    (repo.checkout / "django" / "db.py").write_text(DB)
    for group in ("postgres", "mysql"):
        (repo.root / "requirements" / f"{group}.txt").write_text("first==1.0\n")
    (place / "temp").mkdir()
    os.chmod(place / "temp", 0o777)
    repo.env.update(TMPDIR=str(place / "temp"), PATH=f"{place}:{repo.env['PATH']}")
    return repo


def install(place, name, make="exit 0", serve=SERVE):
    """Put shell scripts in the place of a server's programs."""
    for program, script in zip(PROGRAMS[name], (make, serve)):
        if name == "mysql":
            script = f'case "$*" in\n  *--initialize*) {make};;\n  *) {serve};;\nesac'
        said = 'case "$1" in --version) echo Version 99; exit;; esac'
        path = place / program
        path.write_text(f"#!/bin/sh\n{said}\n{script}\n")
        path.chmod(0o755)


def ends(pid, seconds=30):
    """Return whether a process ends in time."""
    for _ in range(seconds * 10):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


def wait_for(path):
    """Return the words in a file once it's there."""
    for _ in range(300):
        if path.exists() and path.read_text():
            return path.read_text().split("|")
        time.sleep(0.1)
    pytest.fail(f"no {path.name} in 30 seconds")


@pytest.mark.parametrize("name", NAMES)
def test_given(copy, name):
    """A given server is taken, and named without the password."""
    variable = f"SERIES_{name.upper()}_URL"
    env = {variable: "scheme://me:secret@given:1", "FAKE_VERSION": VERSIONS[name]}
    output = copy.good("test", "update", "--db", name, **env)
    version = VERSIONS[name].partition(" on ")[0]
    assert f"{name}: {version} at given:1 (given by {variable})\n" in output
    assert f"Django's update on {name}" in output and "secret" not in output


def test_given_does_not_answer(copy, place):
    """Then no other server is taken."""
    install(place, "postgres")
    output = copy.bad("test", "--db", "postgres", SERIES_POSTGRES_URL="x://given")
    assert "given by SERIES_POSTGRES_URL is not a postgres that can be used" in output
    assert "FAKE_VERSION" in output and "No test ran." in output


@pytest.mark.parametrize("name, other", [("mysql", "mariadb"), ("mariadb", "mysql")])
def test_given_is_another(copy, name, other):
    """MariaDB isn't MySQL."""
    env = {f"SERIES_{name.upper()}_URL": "x://y", "FAKE_VERSION": VERSIONS[other]}
    output = copy.bad("test", "--db", name, **env)
    assert f"is not a {name} that can be used:\n  {VERSIONS[other]}" in output


@pytest.mark.parametrize("name", NAMES)
def test_started(copy, place, name):
    """An installed one is started, and gone afterwards with its directory."""
    what = f'echo "$$|$(id -u)|$TMPDIR|$PWD|" > "{place}/serving"'
    install(place, name, serve=f"{what}\n{SERVE}")
    output = copy.good("test", "update", "--db", name, FAKE_VERSION=VERSIONS[name])
    assert "at 127.0.0.1:" in output and "(started for this run)" in output
    pid, user, temp, directory, _ = wait_for(place / "serving")
    assert ends(pid, 1) and not os.listdir(place / "temp")
    # MariaDB deletes in there what looks like its own temporary tables.
    assert temp == directory and directory.startswith(f"{place}/temp/")
    assert user != "0"


def test_usual_port(copy, place):
    """A server that merely answers on the usual port isn't taken."""
    install(place, "postgres", make="echo cannot; exit 1")
    output = copy.bad("test", "--db", "postgres", FAKE_VERSION="PostgreSQL 99")
    assert "no postgres server could be started: initdb failed:\n  cannot" in output
    assert "SERIES_POSTGRES_URL" in output and "apt-get install postgresql" in output
    assert not os.listdir(place / "temp")


def test_not_installed(copy):
    """What's missing is named, and how to get it."""
    copy.edit("tools/servers.py", 'f"mariadbd', 'f"nosuch')
    output = copy.bad("test", "--db", "mariadb")
    assert "nosuch is not installed." in output
    assert "apt-get install mariadb-server" in output


def test_mysql_is_not_mariadb(copy, place):
    """MariaDB's mysqld isn't taken for MySQL."""
    install(place, "mysql")
    path = place / "mysqld"
    path.write_text(path.read_text().replace("Version 99", "Version 99-MariaDB"))
    output = copy.bad("test", "--db", "mysql")
    assert f"{path} is MariaDB's." in output and "debootstrap" in output
    output = copy.bad("test", "--db", "mysql", SERIES_MYSQL_ROOT=str(place))
    assert f"SERIES_MYSQL_ROOT={place} has no usr/sbin/mysqld" in output


def test_deaf_server(copy, place):
    """The command ends even if the server does not when told."""
    copy.edit("tools/servers.py", "SECONDS = 60", "SECONDS = 6")
    deaf = f'trap "" QUIT; echo "$$|" > "{place}/serving"; {SERVE}'
    install(place, "mariadb", serve=deaf)
    copy.good("test", "update", "--db", "mariadb", FAKE_VERSION="99-MariaDB")
    assert ends(wait_for(place / "serving")[0], 1)


@pytest.mark.parametrize("stage", ["make", "serve"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signal(copy, place, stage, number):
    """No program, nor what it started, nor a file survives the command."""
    # Like mariadb-install-db, which waits for programs that it starts.
    slow = f'sleep 60 &\necho "$$|$!|" > "{place}/{stage}"; wait'
    say = "echo ready for connections\n" if stage == "serve" else ""
    install(place, "mariadb", **{stage: say + slow})
    code = "from tools.servers import started\n"
    code += "with started('mariadb'): input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=copy.root,
        env=copy.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    pids = wait_for(place / stage)[:2]
    process.send_signal(number)
    process.communicate(timeout=30)
    assert all(ends(pid) for pid in pids)
    for _ in range(100):
        if not os.listdir(place / "temp"):
            return
        time.sleep(0.1)
    pytest.fail("the directory is still there")


@pytest.mark.parametrize("name", NAMES)
def test_real(name, place, monkeypatch):
    """A real server answers, whatever the name of the temporary directory."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(place))
    try:
        with started(name) as url:
            port = int(url.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                if name == "postgres":
                    # A request for encryption, which it doesn't offer.
                    sock.sendall(bytes.fromhex("0000000804d2162f"))
                    assert sock.recv(1) == b"N"
                else:
                    greeting = sock.recv(100)
                    assert (b"MariaDB" in greeting) == (name == "mariadb")
    except Error as error:
        if "not installed" in str(error) or "MariaDB's" in str(error):
            pytest.skip(str(error).splitlines()[0])
        raise
    assert not os.listdir(place)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 30)
