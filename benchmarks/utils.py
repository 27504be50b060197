"""What the benchmarks share."""

import os

import django
from django.apps import apps
from django.core.management import call_command


def bench_setup(migrate=False):
    """
    Set Django up, as django-asv's function of this name does.

    migrate: also make the tables.
    """
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    # It's called while models are imported, too.
    if not apps.ready and not apps.loading:
        django.setup()
    if migrate:
        call_command("migrate", run_syncdb=True, verbosity=0)


def update_signals():
    """
    Return (pre_update, post_update).

    Raise NotImplementedError, on which asv skips a benchmark, if this Django
    doesn't have them.
    """
    from django.db.models import signals

    try:
        return signals.pre_update, signals.post_update
    except AttributeError:
        raise NotImplementedError("this Django has no update signals") from None


def fill(model, rows):
    """
    Leave the table of a model with rows that have the keys 1 to rows.

    The database makes them: the memory of this process doesn't grow by it.
    """
    from django.db import connection

    quote = connection.ops.quote_name
    table = quote(model._meta.db_table)
    numbers = (
        "(WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1"
        f" FROM numbers WHERE n < {rows:d}) SELECT n FROM numbers) AS numbers"
    )
    is_mariadb = getattr(connection, "mysql_is_mariadb", False)
    if connection.vendor == "postgresql":
        numbers = f"generate_series(1, {rows:d}) AS numbers(n)"
    elif is_mariadb:
        numbers = f"(SELECT seq AS n FROM seq_1_to_{rows:d}) AS numbers"
    names = [field.column for field in model._meta.concrete_fields]
    values = {"id": "n", "active": "true", "points": "0", "owner_id": "NULL"}
    with connection.cursor() as cursor:
        if connection.vendor == "mysql" and not is_mariadb:
            cursor.execute(f"SET SESSION cte_max_recursion_depth = {rows:d}")
        cursor.execute(f"DELETE FROM {table}")
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(map(quote, names))}) "
            f"SELECT {', '.join(values[name] for name in names)} FROM {numbers}"
        )
    settle(model, rows)


def settle(model, rows):
    """
    Let the database do now what the last update left for later, so that the
    next one doesn't pay for it.
    """
    from django.db import connection

    if rows < 10000:
        return
    table = connection.ops.quote_name(model._meta.db_table)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"VACUUM ANALYZE {table}")
            cursor.execute("CHECKPOINT")
        elif connection.vendor == "mysql":
            cursor.execute(f"ANALYZE TABLE {table}")
            cursor.fetchall()


def raw_connection():
    """
    Return a connection of the driver itself, with its own defaults. On SQLite
    in memory it's Django's, since no other one sees the database.
    """
    from django.db import connection

    connection.ensure_connection()
    config = connection.settings_dict
    if connection.vendor == "sqlite":
        return connection.connection
    if connection.vendor == "postgresql":
        import psycopg

        return psycopg.connect(
            host=config["HOST"],
            port=config["PORT"],
            user=config["USER"],
            password=config["PASSWORD"],
            dbname=config["NAME"],
        )
    import MySQLdb

    raw = MySQLdb.connect(
        host=config["HOST"],
        port=int(config["PORT"]),
        user=config["USER"],
        passwd=config["PASSWORD"],
        db=config["NAME"],
    )
    # As Django does.
    raw.cursor().execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    return raw


class Numbers:
    """Give a new number at each call, so that each update changes the rows."""

    def __init__(self):
        self.last = 0

    def __call__(self):
        self.last += 1
        return self.last
