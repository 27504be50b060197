"""
The story of the ticket, told with two trees of Django.

A cache holds the points of each account. Receivers of post_save and
post_delete keep it coherent with the database, and so does a receiver of
post_update where Django has that signal. QuerySet.update() is the step which
tells the two apart. The database is SQLite in memory.

    python scenario.py UNPATCHED PATCHED

prints a table. The exit status is 0 if the cache is coherent after every step
with the second tree, else 1. Without arguments the steps are printed as JSON,
with the Django that can be imported.
"""

import json
import os
import subprocess
import sys

import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.db import connection, models  # noqa: E402
from django.db.models import F, signals  # noqa: E402


class Account(models.Model):
    owner = models.CharField(max_length=20)
    points = models.IntegerField()

    class Meta:
        app_label = "scenario"


# The points by owner: what a cache server would hold.
cache = {}


def saved(sender, instance, **kwargs):
    """Put one saved account into the cache."""
    cache[instance.owner] = instance.points


def deleted(sender, instance, **kwargs):
    """Take one deleted account out of the cache."""
    cache.pop(instance.owner, None)


def updated(sender, queryset, **kwargs):
    """Put the accounts which an update() changed into the cache."""
    cache.update(queryset.values_list("owner", "points"))


def connect():
    """Connect the receivers; that of post_update where Django has it."""
    signals.post_save.connect(saved, sender=Account)
    signals.post_delete.connect(deleted, sender=Account)
    if hasattr(signals, "post_update"):
        signals.post_update.connect(updated, sender=Account)


def story():
    """Yield the name of each step after it was done."""
    ann = Account.objects.create(owner="ann", points=10)
    bob = Account.objects.create(owner="bob", points=50)
    yield "create()"
    ann.points = 20
    ann.save()
    yield "save()"
    Account.objects.filter(points__lt=30).update(points=F("points") + 5)
    yield 'update(points=F("points") + 5)'
    bob.delete()
    yield "delete()"


def points(accounts):
    """Return points by owner as text, such as "ann 25, bob 50"."""
    return ", ".join(f"{owner} {accounts[owner]}" for owner in sorted(accounts))


def run():
    """Return what the database and the cache say after each step."""
    connect()
    with connection.schema_editor() as editor:
        editor.create_model(Account)
    steps = []
    for name in story():
        database = dict(Account.objects.values_list("owner", "points"))
        steps.append(
            {
                "step": name,
                "database": points(database),
                "cache": points(cache),
                "coherent": database == cache,
            }
        )
    return steps


def run_with(tree):
    """Return what run() says with the Django in a tree."""
    done = subprocess.run(
        [sys.executable, "-B", __file__],
        env={**os.environ, "PYTHONPATH": tree},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


def table(before, after):
    """Return the steps without and with the series as a table."""
    rows = [("", "database", "cache, unpatched Django", "cache, with the series")]
    for old, new in zip(before, after, strict=True):
        cells = [
            f"{step['cache']} {'coherent' if step['coherent'] else 'STALE'}"
            for step in (old, new)
        ]
        rows.append((new["step"], new["database"], *cells))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows
    )


def main(trees):
    """Print the table of two trees, or the steps. Return the exit status."""
    if not trees:
        print(json.dumps(run()))
        return 0
    before, after = map(run_with, trees)
    print(table(before, after))
    return 0 if all(step["coherent"] for step in after) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
