"""
How series.py finds, starts, and stops the servers of --db.

Real servers are used by "series.py test --db"; here, programs that don't serve
take their place.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys

import pytest

import series
from conftest import ROOT, default_interrupt

# A server for shell scripts, which isn't deaf in background jobs either.
SERVE = (
    f"exec {sys.executable} -c 'import signal, time; "
    "signal.signal(signal.SIGINT, signal.SIG_DFL); time.sleep(60)'"
)


@pytest.fixture(autouse=True)
def no_servers(monkeypatch):
    """Hide the servers and drivers of this machine."""
    for database in series.DATABASES.values():
        if database.url:
            monkeypatch.delenv(database.url, raising=False)
    monkeypatch.delenv("PGUSER", raising=False)
    monkeypatch.setattr(series, "install_driver", lambda name, upstream: None)
    monkeypatch.setattr(series, "probe_server", lambda name, url: (None, "refused"))


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """Return a function that makes shell scripts the installed programs."""

    def install(script):
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(series, "find_program", lambda *names: str(path))
        return str(path)

    # The scripts aren't readable for the user that root would run them as.
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return install


def use(name):
    """Return the Target while it's there."""
    with series.target(name, {}) as target:
        return target


def test_sqlite_needs_no_server():
    assert use("sqlite") == ("sqlite", "test_sqlite", {"SERIES_DB": "sqlite"})


@pytest.mark.parametrize("name", ["postgres", "mariadb"])
def test_given_server_answers(monkeypatch, capsys, name):
    """It's named, without the password."""
    url = series.DATABASES[name].url
    given = "scheme://me:secret@given:1"
    monkeypatch.setenv(url, given)
    monkeypatch.setattr(series, "probe_server", lambda name, url: ("1.0", ""))
    assert use(name) == (name, "databases", {"SERIES_DB": name, url: given})
    assert f"{name}: 1.0 at given:1 (given by {url})\n" == capsys.readouterr().out


def test_given_server_does_not_answer(monkeypatch):
    """Then no other server is taken."""
    monkeypatch.setenv("SERIES_POSTGRES_URL", "postgresql://given")
    monkeypatch.setattr(series, "find_server", lambda name: pytest.fail("looked"))
    with pytest.raises(series.Error) as caught:
        use("postgres")
    assert "SERIES_POSTGRES_URL does not answer:\n  refused" in str(caught.value)


def test_server_on_this_machine(monkeypatch):
    """The usual users are tried on the standard port."""
    tried = []

    def probe_server(name, url):
        tried.append(url)
        return ("1.0" if "me@" in url else None), "refused"

    monkeypatch.setattr(series, "probe_server", probe_server)
    monkeypatch.setattr(series.getpass, "getuser", lambda: "me")
    assert use("mariadb").env["SERIES_MARIADB_URL"] == "mysql://me@127.0.0.1:3306"
    assert tried == ["mysql://root@127.0.0.1:3306", "mysql://me@127.0.0.1:3306"]


def test_postgres_user(monkeypatch):
    """PGUSER is tried first."""
    tried = []
    monkeypatch.setenv("PGUSER", "a@b")
    monkeypatch.setattr(series.getpass, "getuser", lambda: "postgres")
    monkeypatch.setattr(
        series, "probe_server", lambda name, url: (tried.append(url), "refused")
    )
    assert series.find_server("postgres") == (None, None, None)
    assert tried == [
        f"postgresql://{user}@127.0.0.1:5432" for user in ("a%40b", "postgres")
    ]


def test_probe(monkeypatch, programs):
    """The settings of the tests are asked, and only the version is taken."""
    monkeypatch.undo()
    program = programs('echo "$DJANGO_SETTINGS_MODULE $SERIES_DB" on Linux')
    monkeypatch.setattr(series, "venv_python", lambda: program)
    assert series.probe_server("postgres", "a") == ("databases postgres", "")
    program = programs('echo "$SERIES_MARIADB_URL" >&2; exit 1')
    assert series.probe_server("mariadb", "b") == (None, "b")


def test_server_keeps_silent(monkeypatch, programs):
    """Nothing waits forever for what listens and does not answer."""
    monkeypatch.undo()
    program = programs("exec sleep 60")
    monkeypatch.setattr(series, "venv_python", lambda: program)
    monkeypatch.setattr(series, "PROBE_SECONDS", 0.1)
    assert series.probe_server("postgres", "a") == (None, "no answer in 0.1 seconds")


@pytest.mark.parametrize(
    "name, package", [("postgres", "postgresql"), ("mariadb", "mariadb-server")]
)
def test_no_server(monkeypatch, name, package):
    monkeypatch.setattr(series, "find_program", lambda *names: None)
    with pytest.raises(series.Error) as caught:
        use(name)
    assert f"there is no {name} server" in str(caught.value)
    assert f"apt-get install {package}" in str(caught.value)


@pytest.mark.parametrize("name", ["postgres", "mariadb"])
def test_server_does_not_start(programs, name):
    programs("echo no space left; exit 1")
    with pytest.raises(series.Error) as caught:
        use(name)
    assert "did not start.\n  no space left" in str(caught.value)


@pytest.mark.parametrize("name", ["postgres", "mariadb"])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt, series.Error])
def test_server_is_stopped(monkeypatch, programs, tmp_path, name, error):
    """The server that was started is stopped, whatever happened meanwhile."""
    programs(
        # The same script first makes the data, and then serves.
        f"if [ -e {tmp_path}/made ]; then\n"
        f"  echo $$ $PWD > {tmp_path}/serving; {SERVE}\n"
        f"fi\n"
        f"touch {tmp_path}/made"
    )
    serving = tmp_path / "serving"

    def probe_server(name, url):
        return ("1.0" if serving.exists() and serving.read_text() else None), ""

    monkeypatch.setattr(series, "find_server", lambda name: (None, None, None))
    monkeypatch.setattr(series, "probe_server", probe_server)
    context = series.target(name, {})
    target = context.__enter__()
    assert "127.0.0.1:" in target.env[series.DATABASES[name].url]
    pid, directory = serving.read_text().split()
    os.kill(int(pid), 0)
    if error is series.Error:
        error = series.Error("what", "kept", "todo")
    if error is None:
        context.__exit__(None, None, None)
    else:
        raised = error() if isinstance(error, type) else error
        context.__exit__(type(raised), raised, raised.__traceback__)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    assert not os.path.exists(directory)


@pytest.mark.parametrize("name", ["postgres", "mariadb"])
def test_temporary_files(programs, name):
    """They are in the server's directory: MariaDB deletes those of others."""
    programs("echo its own: $([ $TMPDIR = $PWD ] && echo yes); exit 1")
    with pytest.raises(series.Error, match="its own: yes"):
        use(name)


@pytest.mark.parametrize("name", ["postgres", "mariadb"])
def test_deaf_server_is_killed(monkeypatch, programs, tmp_path, name):
    """The command ends even if the server does not stop when told."""
    programs(
        f"if [ -e {tmp_path}/made ]; then\n"
        f"  trap '' INT TERM; echo $$ > {tmp_path}/serving; exec sleep 60\n"
        f"fi\n"
        f"touch {tmp_path}/made"
    )
    serving = tmp_path / "serving"

    def probe_server(name, url):
        return ("1.0" if serving.exists() and serving.read_text() else None), ""

    monkeypatch.setattr(series, "find_server", lambda name: (None, None, None))
    monkeypatch.setattr(series, "probe_server", probe_server)
    with series.target(name, {}):
        monkeypatch.setattr(series, "START_SECONDS", 0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(int(serving.read_text()), 0)


# Says "waiting" once it waits for the program that makes the data, and
# "serving" once the server is there.
INTERRUPTED = """
import os, signal, sys
import series

class Popen(series.subprocess.Popen):
    def wait(self, *args):
        print("waiting", flush=True)
        return super().wait(*args)

name, program = sys.argv[1:]
os.geteuid = lambda: 1000
series.subprocess.Popen = Popen
series.install_driver = lambda name, upstream: None
series.find_server = lambda name: (None, None, None)
series.probe_server = lambda name, url: ("1.0", "")
series.find_program = lambda *names: program
with series.target(name, {}):
    print("serving", flush=True)
    signal.pause()
"""


def read_fifo(fifo):
    """Return what's in a FIFO, which is b"" if all its writers ended."""
    ready, _, _ = select.select([fifo], [], [], 30)
    assert ready, "nothing in 30 seconds"
    return os.read(fifo, 100)


@pytest.mark.parametrize("name", ["postgres", "mariadb"])
@pytest.mark.parametrize("stage", ["waiting", "serving"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_nothing(programs, tmp_path, name, stage, number):
    """Neither what makes the data nor the server survives, nor their files."""
    os.mkfifo(tmp_path / "fifo")
    fifo = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    program = programs(
        f"if [ {stage} = serving -a ! -e {tmp_path}/made ]; then\n"
        f"  touch {tmp_path}/made; exit\n"
        f"fi\n"
        f"exec 9> {tmp_path}/fifo\n"
        f"echo ready >&9\n"
        # Like mariadb-install-db, which waits for programs that it starts.
        f"if [ {stage} = waiting ]; then sleep 60 & wait; else {SERVE}; fi"
    )
    (tmp_path / "temp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, name, program],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "temp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=default_interrupt,
    )
    try:
        assert any(line.strip() == stage for line in process.stdout)
        assert read_fifo(fifo) == b"ready\n"
        process.send_signal(number)
        process.wait(30)
        assert read_fifo(fifo) == b""
        assert not os.listdir(tmp_path / "temp")
    finally:
        process.kill()
        process.communicate()
        os.close(fifo)


def test_driver_cannot_be_built(monkeypatch):
    """The packages that are missing are named."""
    monkeypatch.undo()
    monkeypatch.setattr(series, "venv_python", lambda: "false")
    monkeypatch.setattr(series, "git", lambda *args: "# comment\nmysqlclient >= 2\n")
    monkeypatch.setattr(series, "pip", lambda *args: (False, "no mysql.h"))
    with pytest.raises(series.Error) as caught:
        series.install_driver("mariadb", {"tag": "upstream/1"})
    assert "could not install mysqlclient >= 2.\n  no mysql.h" in str(caught.value)
    assert "default-libmysqlclient-dev pkg-config gcc" in str(caught.value)


POSTGRES = series.Target("postgres", "databases", {"SERIES_DB": "postgres"})
SQLITE = series.Target("sqlite", "test_sqlite", {"SERIES_DB": "sqlite"})


@pytest.mark.parametrize(
    "database, ours", [(POSTGRES, "tests/live"), (SQLITE, "tests")]
)
def test_no_labels(monkeypatch, database, ours):
    """Touched labels are run, and on a server only the tests that use it."""
    ran = []
    monkeypatch.setattr(series, "touched_labels", lambda tree: ["touched"])
    for function in ("run_labels", "run_pytest"):
        monkeypatch.setattr(series, function, lambda *args: ran.append(args) or True)
    options = series.parse_arguments(["test"])
    assert series.run_tests(options, {}, database, [], [])
    assert ran == [(["touched"], database), ([ROOT / ours], database)]


@pytest.mark.parametrize("database", [POSTGRES, SQLITE])
def test_environment(monkeypatch, tmp_path, database):
    """Django's tests get the settings in tests/, and both get the database."""
    ran = []

    def run(command, cwd, env, **kwargs):
        ran.append((command, env["SERIES_DB"], env.get("PYTHONPATH")))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert series.run_labels(["update"], database, tmp_path)
    assert series.run_pytest(["tests/live"], database)
    (labels, *first), (ours, *second) = ran
    assert "--noinput" in labels and f"--settings={database.settings}" in labels
    assert first == [database.name, f"{tmp_path}{os.pathsep}{series.TESTS}"]
    assert ours[-1] == "tests/live"
    assert second == [database.name, None]


def test_unpatched_server(monkeypatch, tmp_path):
    """What failed is compared with unpatched Django on the same server."""
    failure = series.Failure("update.tests.UpdateTests.test_update", False)
    output = "FAIL: test_update (update.tests.UpdateTests.test_update)\n"
    monkeypatch.setattr(series, "tree_of", lambda commit: contextlib.nullcontext("t"))
    monkeypatch.setattr(series, "known_labels", lambda tree: {"update"})

    def run_logged(labels, database, tree, log, parallel):
        return 1, output if (database, tree) == (POSTGRES, "t") else ""

    monkeypatch.setattr(series, "run_logged", run_logged)
    found = series.failing_unpatched([failure], {"tag": "upstream/1"}, POSTGRES)
    assert found == [failure]


def test_exceptions_of_a_database(monkeypatch, tmp_path):
    """Tests may be listed as failing with receivers on one database only."""
    path = tmp_path / "receivers.toml"
    path.write_text('[quiet]\na = "1"\n[audit]\nb = "2"\n[postgres]\nc = "3"\n')
    monkeypatch.setattr(series, "RECEIVERS_EXCEPTIONS", path)
    for database, more in ((SQLITE, {}), (POSTGRES, {"c": "3"})):
        quiet = series.load_exceptions("quiet", database)
        audit = series.load_exceptions("audit", database)
        assert quiet == {"a": "1", **more} and audit == {**quiet, "b": "2"}
