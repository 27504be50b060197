"""
Measure updates of many rows, with receivers that look at them.

    python3 series.py sizes [--db NAME] [-- [--rows N ...] [--keys NAME ...]
        [--receivers NAME ...]]

Each update runs in a process of its own, so that its peak memory is not that
of another; MB is by how much the update made it grow. Lines of a Markdown
table are printed as they are measured.
"""

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "django"))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "databases")

KEYS = {
    "integer": "IntegerKey",
    "text": "TextKey",
    "UUID": "UUIDKey",
    "composite": "CompositeKey",
}
# What a receiver does with post_update; None is no receiver.
RECEIVERS = {
    "none": None,
    "pk_set": lambda queryset, pk_set: len(pk_set),
    "count": lambda queryset, pk_set: queryset.count(),
    "filter": lambda queryset, pk_set: queryset.filter(points=1).count(),
    "iterate": lambda queryset, pk_set: sum(1 for _ in queryset.iterator()),
    "delete": lambda queryset, pk_set: queryset.delete()[0],
}


def setup():
    """Set Django up for the models of live/."""
    import django
    from django.conf import settings

    settings.INSTALLED_APPS = ["live"]
    if name := os.environ.get("SERIES_SIZES_NAME"):
        settings.DATABASES["default"]["NAME"] = name
    django.setup()


def fill(model, rows):
    """Leave the table of the model with that many rows, all with 0 points."""
    import uuid

    from django.db import connection, transaction

    def values():
        for number in range(rows):
            if model.__name__ == "TextKey":
                yield f"a key with some text {number:012}", 0
            elif model.__name__ == "UUIDKey":
                key = uuid.uuid5(uuid.NAMESPACE_OID, str(number))
                native = connection.features.has_native_uuid_field
                yield str(key) if native else key.hex, 0
            elif model.__name__ == "CompositeKey":
                yield number % 100, number, 0
            else:
                yield number + 1, 0

    names = [field.column for field in model._meta.concrete_fields]
    quoted = ", ".join(map(connection.ops.quote_name, names))
    marks = ", ".join(["%s"] * len(names))
    table = connection.ops.quote_name(model._meta.db_table)
    with connection.cursor() as cursor, transaction.atomic():
        cursor.execute(f"DELETE FROM {table}")
        batch = []
        for row in values():
            batch.append(row)
            if len(batch) == 10000:
                cursor.executemany(
                    f"INSERT INTO {table} ({quoted}) VALUES ({marks})", batch
                )
                batch.clear()
        if batch:
            cursor.executemany(
                f"INSERT INTO {table} ({quoted}) VALUES ({marks})", batch
            )
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"VACUUM ANALYZE {table}")
        elif connection.vendor == "mysql":
            cursor.execute(f"ANALYZE TABLE {table}")


def measure(key, receiver, rows):
    """Update all rows in this process. Return what was measured."""
    setup()
    from django.apps import apps
    from django.db import connection
    from django.db.models import F

    model = apps.get_model("live", KEYS[key])
    found = []
    if look := RECEIVERS[receiver]:
        from django.db.models.signals import post_update

        def listen(queryset, pk_set, **kwargs):
            found.append(look(queryset, pk_set))

        post_update.connect(listen, sender=model)
    connection.ensure_connection()
    model.objects.filter(points=-1).update(points=F("points"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    updated = model.objects.filter(points=0).update(points=F("points") + 1)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if updated != rows or found != ([rows] if look else []):
        raise SystemExit(f"{updated} rows of {rows} updated, receiver found {found}")
    return {"seconds": seconds, "peak": (after - before) * 1024}


def main(argv):
    """Print the table. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 1000000])
    parser.add_argument("--keys", nargs="+", choices=KEYS, default=list(KEYS))
    parser.add_argument(
        "--receivers", nargs="+", choices=RECEIVERS, default=list(RECEIVERS)
    )
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.one:
        key, receiver, rows = options.one
        print(json.dumps(measure(key, receiver, int(rows))))
        return 0
    setup()
    from django.apps import apps
    from django.db import connection
    from django.test.utils import setup_databases, teardown_databases

    import databases

    good = True
    print("| database | key | rows | receiver | seconds | MB |", flush=True)
    print("| --- | --- | ---: | --- | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory() as temp:
        if connection.vendor == "sqlite":
            name = str(Path(temp, "sizes.sqlite3"))
            connection.settings_dict["TEST"]["NAME"] = name
        old = setup_databases(verbosity=0, interactive=False, aliases=["default"])
        env = {**os.environ, "SERIES_SIZES_NAME": connection.settings_dict["NAME"]}
        try:
            for key, rows, receiver in itertools.product(
                options.keys, options.rows, options.receivers
            ):
                fill(apps.get_model("live", KEYS[key]), rows)
                done = subprocess.run(
                    [sys.executable, __file__, "--one", key, receiver, str(rows)],
                    env=env,
                    capture_output=True,
                    text=True,
                )
                if done.returncode:
                    good = False
                    result = "failed: " + done.stderr.strip().splitlines()[-1] + " | "
                else:
                    found = json.loads(done.stdout)
                    result = f"{found['seconds']:.3f} | {found['peak'] / 1e6:.0f}"
                database = databases.DB
                print(
                    f"| {database} | {key} | {rows:,} | {receiver} | {result} |",
                    flush=True,
                )
        finally:
            teardown_databases(old, verbosity=0)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
