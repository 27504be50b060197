"""
The servers of "series.py test --db".

Programs that don't serve take the place of servers, except in the last test.
"""

import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import pytest

from conftest import write_script
from tools.common import Error
from tools.servers import started

# The programs that make the data and that serve, and what a server answers.
SERVERS = {
    "postgres": ("initdb", "postgres", "PostgreSQL 99"),
    "mariadb": ("mariadb-install-db", "mariadbd", "99-MariaDB"),
    "mysql": ("mysqld", "mysqld", "99"),
}
# What answers instead of Django's connection.
DB = """
import contextlib, os

class connection:
    execute = print
    fetchone = lambda self: [os.environ["FAKE_VERSION"]]
    _nodb_cursor = contextlib.contextmanager(lambda: (yield connection()))
"""
READY = "echo ready to accept connections; echo ready for connections"


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
    (place / "temp").mkdir()
    os.chmod(place / "temp", 0o777)
    repo.env.update(TMPDIR=str(place / "temp"), PATH=f"{place}:{repo.env['PATH']}")
    return repo


def install(place, name, make="exit 0", serve=f"{READY}; exec sleep 60", version="99"):
    """Put shell scripts in the place of a server's programs."""
    for program, script in zip(SERVERS[name], (make, serve)):
        if name == "mysql":
            script = f'case "$*" in\n  *--initialize*) {make};;\n  *) {serve};;\nesac'
        said = f'case "$1" in --version) echo Version {version}; exit;; esac'
        write_script(place / program, f"{said}\n{script}")


def until(condition):
    """Wait until a function returns something true, and return that."""
    for _ in range(300):
        if found := condition():
            return found
        time.sleep(0.1)
    pytest.fail("not in 30 seconds")


def words(path):
    """Return the words in a file once it's there."""
    return until(lambda: path.exists() and path.read_text()).split("|")


def has_ended(pid):
    """Return whether a process has ended."""
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("name", SERVERS)
def test_given(copy, place, name):
    """It's taken if it is the right one and answers, and no other is."""
    install(place, name)
    version, variable = SERVERS[name][2], f"SERIES_{name.upper()}_URL"
    copy.env |= {variable: "scheme://me:secret@given:1", "FAKE_VERSION": version}
    output = copy.good("test", "update", "--db", name)
    assert f"{name}: {version} at given:1 (given by {variable})\n" in output
    assert f"Django's update on {name}" in output and "secret" not in output
    if name != "postgres":
        copy.env["FAKE_VERSION"] = "99-MariaDB" if name == "mysql" else "99"
    else:
        (copy.checkout / "django" / "db.py").write_text("raise ValueError")
    output = copy.bad("test", "--db", name)
    assert f"is not a {name} that can be used:\n" in output and "Nothing ran" in output


@pytest.mark.parametrize("name", SERVERS)
def test_started(copy, place, name):
    """An installed one is started, and gone afterwards with its directory."""
    what = f'echo "$$|$(id -u)|$TMPDIR|$PWD|" > "{place}/serving"'
    if name == "mariadb":
        # The command ends even if the server does not when told.
        copy.edit("tools/servers.py", "SECONDS = 60", "SECONDS = 6")
        what = f'trap "" QUIT; {what}'
    install(place, name, serve=f"{what}; {READY}; exec sleep 60")
    output = copy.good("test", "update", "--db", name, FAKE_VERSION=SERVERS[name][2])
    assert "at 127.0.0.1:" in output and "(started for this run)" in output
    pid, user, temp, directory, _ = words(place / "serving")
    assert until(lambda: has_ended(pid)) and not os.listdir(place / "temp")
    # MariaDB deletes in there what looks like its own temporary tables.
    assert temp == directory and directory.startswith(f"{place}/temp/")
    assert user != "0"


def test_not_available(copy, place):
    """What's missing is named, and how to get it; a usual port isn't tried."""
    install(place, "postgres", make="echo cannot; exit 1")
    output = copy.bad("test", "--db", "postgres", FAKE_VERSION="PostgreSQL 99")
    assert "initdb failed:\n  cannot" in output and "SERIES_POSTGRES_URL" in output
    assert "install postgresql" in output and not os.listdir(place / "temp")
    copy.edit("tools/servers.py", "mariadbd", "nosuch")
    # It's looked for before the driver is built.
    (copy.root / "requirements" / "mysql.txt").write_text("nosuch==1.0\n")
    output = copy.bad("test", "--db", "mariadb")
    assert "is not installed" in output and "install mariadb-server" in output
    install(place, "mysql", version="99-MariaDB")
    output = copy.bad("test", "--db", "mysql")
    assert f"{place}/mysqld is MariaDB's" in output and "debootstrap" in output
    output = copy.bad("test", "--db", "mysql", SERIES_MYSQL_ROOT=str(place))
    assert f"SERIES_MYSQL_ROOT={place} has no usr/sbin/mysqld" in output


@pytest.mark.parametrize("stage", ["make", "serve"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_signal(copy, place, stage, number):
    """No program, nor what it started, nor a file survives the command."""
    # Like mariadb-install-db, which waits for programs that it starts.
    slow = f'sleep 60 &\necho "$$|$!|" > "{place}/{stage}"; wait'
    scripts = {"make": slow} if stage == "make" else {"serve": f"{READY}; {slow}"}
    install(place, "mariadb", **scripts)
    code = "from tools.servers import *\nwith started('mariadb'): time.sleep(60)"
    process = copy.start(sys.executable, "-c", code, cwd=copy.root)
    pids = words(place / stage)[:2]
    process.send_signal(number)
    process.communicate(timeout=30)
    until(lambda: all(map(has_ended, pids)) and not os.listdir(place / "temp"))


@pytest.mark.parametrize("name", SERVERS)
def test_real(name, place, monkeypatch):
    """A real server answers, whatever the name of the temporary directory."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(place))
    try:
        with started(name) as url:
            address = "127.0.0.1", int(url.rpartition(":")[2])
            with socket.create_connection(address, 30) as sock:
                if name == "postgres":
                    # A request for encryption, which it doesn't offer.
                    sock.sendall(bytes.fromhex("0000000804d2162f"))
                    assert sock.recv(1) == b"N"
                else:
                    assert (b"MariaDB" in sock.recv(100)) == (name == "mariadb")
    except Error as error:
        if "not installed" in str(error) or "MariaDB's" in str(error):
            pytest.skip(str(error).splitlines()[0])
        raise
    assert not os.listdir(place)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 30)
