"""
Tests that need connections of their own: several at once, to a database that
stays when a transaction is rolled back. They run with the Django in .venv, on
the database that SERIES_DB names: see databases.py.
"""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

# Last, so that PYTHONPATH can name another Django.
sys.path.append(str(Path(__file__).resolve().parents[2] / "django"))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "databases")


def pytest_configure():
    import django
    from django.conf import settings

    settings.INSTALLED_APPS = ["live"]
    django.setup()


@pytest.fixture(scope="session")
def _databases(tmp_path_factory):
    """Make the test databases, in files on SQLite, and drop them later."""
    from django.db import connections
    from django.test.utils import setup_databases, teardown_databases

    for connection in connections.all():
        if connection.vendor == "sqlite":
            name = tmp_path_factory.mktemp("databases") / f"{connection.alias}.sqlite3"
            connection.settings_dict["TEST"]["NAME"] = str(name)
    old = setup_databases(verbosity=0, interactive=False)
    yield
    teardown_databases(old, verbosity=0)


@pytest.fixture(autouse=True)
def _clean(_databases):
    """Leave no rows, receivers, or open connections of other threads."""
    from django.apps import apps
    from django.db import connections, transaction
    from django.db.models import signals

    names = ("pre_update", "post_update", "post_save", "post_delete")
    before = {name: list(getattr(signals, name).receivers) for name in names}
    yield
    for name in names:
        signal = getattr(signals, name)
        left = [one for one in signal.receivers if one not in before[name]]
        signal.receivers = before[name]
        signal.sender_receivers_cache.clear()
        assert not left, f"the test left receivers of {name} connected"
    for connection in connections.all():
        assert not connection.in_atomic_block
        connection.set_autocommit(True)
        # MySQL checks a relation to the same table row by row.
        with (
            connection.constraint_checks_disabled(),
            transaction.atomic(using=connection.alias),
        ):
            for model in reversed(list(apps.get_models())):
                rows = model._base_manager.using(connection.alias)
                rows._raw_delete(connection.alias)


@pytest.fixture
def connect():
    """Return a function that connects a receiver until the test ends."""
    with ExitStack() as stack:

        def connect(signal, receiver, sender=None):
            signal.connect(receiver, sender=sender, weak=False)
            stack.callback(signal.disconnect, receiver, sender=sender)

        yield connect
