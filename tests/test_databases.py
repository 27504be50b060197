"""
How series.py finds, starts, and stops the servers of --db.

Real servers are used by "series.py test --db"; here, programs that don't serve
take their place.
"""

import os

import pytest
import series


@pytest.fixture(autouse=True)
def no_servers(monkeypatch):
    """Hide the servers and drivers of this machine."""
    for database in series.DATABASES.values():
        if database.url:
            monkeypatch.delenv(database.url, raising=False)
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
def test_given_server_answers(monkeypatch, name):
    url = series.DATABASES[name].url
    monkeypatch.setenv(url, "scheme://given")
    monkeypatch.setattr(series, "probe_server", lambda name, url: ("1.0", ""))
    assert use(name).env == {"SERIES_DB": name, url: "scheme://given"}


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
        f"  echo $$ $PWD > {tmp_path}/serving; exec sleep 60\n"
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
