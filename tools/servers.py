"""
Private database servers, started from the installed programs. A server and
its data, in a temporary directory, belong to a keeper: this file as a program,
which ends them when its standard input ends, even if the command is killed.
"""

import contextlib
import glob
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from tools import ROOT
from tools.common import Error, clean_environment, indent, run, say
from tools.environment import ensure

# For each: how Debian gets a server.
SERVERS = {
    "postgres": "apt-get install postgresql",
    "mariadb": "apt-get install mariadb-server",
    "mysql": "debootstrap --variant=minbase --include=mysql-server-core sid /DIR\n"
    "  and set SERIES_MYSQL_ROOT=/DIR",
}
# The programs, with options, that make the data in the working directory and
# serve them. The socket is relative to the data: a whole path may be long.
MAKE = "--no-defaults --datadir=./data"
SERVE = (
    f"{MAKE} --port={{port}} --bind-address=127.0.0.1 --socket=socket --skip-log-bin "
    "--innodb-flush-method=nosync --innodb-flush-log-at-trx-commit=0"
)
PROGRAMS = {
    "postgres": (
        "initdb -D data -U postgres -A trust -E UTF8 --locale=C --no-sync",
        # Django's whole suite makes its tables in one transaction.
        "postgres -D data -p {port} -c listen_addresses=127.0.0.1 -c fsync=off "
        "-c unix_socket_directories= -c max_locks_per_transaction=256",
    ),
    "mariadb": (
        f"mariadb-install-db {MAKE} --auth-root-authentication-method=normal "
        "--skip-test-db",
        f"mariadbd {SERVE}",
    ),
    "mysql": (
        f"mysqld {MAKE} --initialize-insecure",
        f"mysqld {SERVE} --mysqlx=OFF --secure-file-priv=NULL",
    ),
}
READY = "ready to accept connections", "ready for connections"
SECONDS = 60


@contextlib.contextmanager
def server(name):
    """
    Give the environment in which tests/series/databases.py finds the server in
    SERIES_NAME_URL, or one that is started. Put its driver in .venv. name: of
    SERVERS, or "sqlite", which needs none. Raise Error if there's no server.
    """
    if name == "sqlite":
        yield {"SERIES_DB": name}
        return
    variable = f"SERIES_{name.upper()}_URL"
    if not os.environ.get(variable):
        # Before the driver, which may have to be built.
        commands_of(name)
    python = ensure("postgres" if name == "postgres" else "mysql")
    with contextlib.ExitStack() as stack:
        url, origin = os.environ.get(variable), f"given by {variable}"
        if not url:
            url, origin = stack.enter_context(started(name)), "started for this run"
        env = {"SERIES_DB": name, variable: url}
        done = run(python, "-W", "ignore", "tests/series/databases.py", env=env)
        said = (done.stdout or done.stderr).strip().splitlines()[-1:]
        is_right = name == "postgres" or ("MariaDB" in said[0]) == (name == "mariadb")
        if done.returncode or not is_right:
            problem = f"the server {origin} is not a {name} that can be used"
            advice = f"Nothing ran. Correct {variable}; without it, one is started."
            raise Error(f"{problem}:\n{indent(said)}\n{advice}")
        address = urlsplit(url).netloc.rpartition("@")[2]
        say(f"{name}: {said[0]} at {address} ({origin})")
        yield env


def missing(name, what):
    """Return the Error that says what a server lacks, and what to do."""
    return Error(
        f"no {name} server could be started: {what}\n"
        "Nothing ran. Put the address of one, scheme://user:password@host:port, in\n"
        f"SERIES_{name.upper()}_URL, or install one; on Debian:\n  {SERVERS[name]}"
    )


def command_of(name, line):
    """Return the command of a line in PROGRAMS, or raise Error."""
    program, *arguments = line.split()
    if name == "mysql" and (root := os.environ.get("SERIES_MYSQL_ROOT")):
        paths = "lib*/ld-linux*.so.*", "usr/lib/*-linux-gnu", "usr/sbin/mysqld"
        found = [glob.glob(f"{glob.escape(root)}/{path}") for path in paths]
        if not all(found):
            raise missing(name, f"SERIES_MYSQL_ROOT={root} has no {paths[2]}.")
        # With the libraries that are there.
        loader, libraries, path = [one[0] for one in found]
        arguments.append(f"--basedir={root}/usr")
        return [loader, "--library-path", libraries, path, *arguments]
    postgres = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    places = os.pathsep.join([*os.get_exec_path(), *postgres, "/usr/sbin"])
    if not (path := shutil.which(program, path=places)):
        raise missing(name, f"{program} is not installed.")
    if name == "mysql" and "MariaDB" in run(path, "--version").stdout:
        raise missing(name, f"{path} is MariaDB's.")
    return [path, *arguments]


def commands_of(name, port=0):
    """Return the commands of PROGRAMS, or raise Error."""
    return [command_of(name, line.format(port=port)) for line in PROGRAMS[name]]


@contextlib.contextmanager
def started(name):
    """Give the URL of a new server, or raise Error; at the end, stop it."""
    say(f"{name}: starting a server in a temporary directory ...")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    user = "postgres" if name == "postgres" else "mysql"
    commands = commands_of(name, port)
    # Ctrl-C is for the command; the keeper sees that it ends.
    command = [sys.executable, "-m", "tools.servers", json.dumps([user, *commands])]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT}
    options = {"env": clean_environment(), "start_new_session": True, **pipes}
    with subprocess.Popen(command, **options) as keeper:
        if said := json.loads(keeper.stdout.readline() or '"It was killed."'):
            raise missing(name, said)
        scheme = "postgresql://postgres" if name == "postgres" else "mysql://root"
        yield f"{scheme}@127.0.0.1:{port}"


def keep(temp, user, *commands):
    """Run commands in a directory; say "" when the last one's server is up."""
    # MariaDB deletes in TMPDIR what looks like its own temporary tables.
    options = {"cwd": temp, "env": {**os.environ, "TMPDIR": temp}}
    if os.geteuid() == 0:
        # No server runs as root.
        users = {entry.pw_name: entry for entry in pwd.getpwall()}
        entry = users.get(user, users["nobody"])
        options.update(user=entry.pw_uid, group=entry.pw_gid, extra_groups=[])
        os.chown(temp, entry.pw_uid, entry.pw_gid)
    log = Path(temp, "log")
    with log.open("wb") as file:
        options.update(stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        for command in commands:
            process = subprocess.Popen(command, **options)
            deadline = time.monotonic() + SECONDS
            while process.poll() is None and time.monotonic() < deadline:
                said = log.read_text(errors="replace")
                if any(word in said for word in READY):
                    print('""', flush=True)
                    process.wait()
                    return
                time.sleep(0.1)
            if process.returncode != 0:
                break
    said = log.read_text(errors="replace").splitlines()[-5:]
    print(json.dumps(f"{Path(command[0]).name} failed:\n{indent(said)}"), flush=True)


if __name__ == "__main__":
    # Where there's enough memory for Django's suite, it's faster than a disk.
    memory = Path("/dev/shm")
    is_enough = memory.is_dir() and shutil.disk_usage(memory).free > 4 * 1024**3
    place = memory if is_enough and "TMPDIR" not in os.environ else None
    temp = tempfile.mkdtemp(prefix="series-", dir=place)
    arguments = temp, *json.loads(sys.argv[1])
    keeping = threading.Thread(target=keep, args=arguments, daemon=True)
    keeping.start()
    sys.stdin.read()
    # For servers it means not to wait for their clients.
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    os.killpg(0, signal.SIGQUIT)
    keeping.join(SECONDS / 6)
    shutil.rmtree(temp, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)
