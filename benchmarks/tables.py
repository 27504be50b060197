"""Fill tables, and reach them without Django."""

from django.db import connection


def fill(model, rows):
    """
    Leave the table of a model with rows that have the keys 1 to rows.

    The database makes them: the memory of this process doesn't grow by it.
    """
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
    connection.ensure_connection()
    if connection.vendor == "sqlite":
        return connection.connection
    names = ("host", "port", "user", "password", "dbname", "database")
    params = connection.get_connection_params()
    raw = connection.Database.connect(
        **{name: params[name] for name in names if name in params}
    )
    if connection.vendor == "mysql":
        # As Django does.
        raw.cursor().execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    return raw
