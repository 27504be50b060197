"""
The settings of Django's suite and of tests/series/live.

SERIES_DB is "sqlite", "postgres", "mariadb", or "mysql". The server's address
is in SERIES_POSTGRES_URL, SERIES_MARIADB_URL, or SERIES_MYSQL_URL, such as
postgresql://user:password@localhost:5432 or mysql://root@127.0.0.1:3306:
tools/servers.py sets it. SERIES_DB_NAME is the start of the names of the
databases that the tests make there ("series" unless set), so that two runs can
share a server. SERIES_RECEIVERS connects receivers: see receivers.py. As a
program, this file prints the server's version.
"""

import os
from urllib.parse import unquote, urlsplit

ENGINES = {
    "sqlite": "django.db.backends.sqlite3",
    "postgres": "django.db.backends.postgresql",
    "mariadb": "django.db.backends.mysql",
    "mysql": "django.db.backends.mysql",
}
DB = os.environ.get("SERIES_DB", "sqlite")
NAME = os.environ.get("SERIES_DB_NAME", "series")


def database(suffix=""):
    """Return the settings of one database on the server of SERIES_DB."""
    config = {"ENGINE": ENGINES[DB]}
    if DB == "sqlite":
        return config
    url = urlsplit(os.environ[f"SERIES_{DB.upper()}_URL"])
    config.update(
        # Nothing is written here: the tests make test_NAME.
        NAME="postgres" if DB == "postgres" else f"{NAME}{suffix}",
        HOST=url.hostname or "",
        PORT=str(url.port or ""),
        USER=unquote(url.username or ""),
        PASSWORD=unquote(url.password or ""),
        TEST={"NAME": f"test_{NAME}{suffix}"},
    )
    if DB in ("mariadb", "mysql"):
        config["TEST"].update(CHARSET="utf8mb4", COLLATION="utf8mb4_general_ci")
    return config


DATABASES = {"default": database(), "other": database("_other")}
# Reports each test in SERIES_REPORT.
TEST_RUNNER = "results.Runner"
# The same as in Django's test_sqlite: some of its tests compare it.
SECRET_KEY = "django_tests_secret_key"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = False

if "SERIES_RECEIVERS" in os.environ:
    import receivers

    receivers.connect_at_setup()

if "SERIES_RECORD" in os.environ:
    import statements

    statements.record()

if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "databases"
    from django.db import connection

    with connection._nodb_cursor() as cursor:
        cursor.execute("SELECT version()")
        print(cursor.fetchone()[0].partition(" on ")[0])
