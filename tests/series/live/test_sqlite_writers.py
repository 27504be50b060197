"""
Two connections that write to the same SQLite file.

SQLite has one writer at a time. A statement that writes waits for the lock,
unless its transaction has read before: then another writer must not have come
between, and "database is locked" is raised at once. So a receiver that reads
before the first write needs transactions that begin as writers, which is
`"transaction_mode": "IMMEDIATE"` in OPTIONS, as it does for pre_delete.
"""

import threading

import pytest
from django.db import connection
from django.db.models.signals import post_update, pre_delete, pre_update

from live.models import Account, SpecialAccount

pytestmark = pytest.mark.skipif(
    connection.vendor != "sqlite", reason="needs test, without --db"
)
# How long one connection waits for the other one to read before it writes. The
# first is for tests in which the other one can't read yet, and the second for
# those in which it can.
SECONDS = 0.5
ENOUGH_SECONDS = 60


@pytest.fixture(params=["delete", "wal"], autouse=True)
def journal_mode(request):
    """Use a mode in which readers block a commit, and one without that."""

    def set_mode(mode):
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA journal_mode = {mode}")
            assert cursor.fetchone() == (mode,)

    set_mode(request.param)
    yield request.param
    connection.close()
    set_mode("delete")


@pytest.fixture
def immediate():
    """Let transactions begin as writers, as the docs say."""
    options = connection.settings_dict["OPTIONS"]
    connection.close()
    options["transaction_mode"] = "IMMEDIATE"
    yield
    connection.close()
    del options["transaction_mode"]


@pytest.fixture
def account():
    return SpecialAccount.objects.create(name="ann", points=0, level=0)


def read(**kwargs):
    """A receiver that reads."""
    list(Account.objects.all())


def ignore(**kwargs):
    """A receiver that doesn't."""


def run_both(operation, account, seconds):
    """
    Call operation(account, 1) here and operation(account, 2) in another
    thread, so that both transactions read before one of them writes, if both
    can. Return the exceptions that were raised.
    """
    both_read = threading.Barrier(2)
    problems = []

    def run(number):
        waited = []

        def wait_after_reading(execute, sql, params, many, context):
            result = execute(sql, params, many, context)
            in_block = connection.in_atomic_block
            if sql.startswith("SELECT") and in_block and not waited:
                waited.append(True)
                try:
                    both_read.wait(seconds)
                except threading.BrokenBarrierError:
                    pass
            return result

        try:
            with connection.execute_wrapper(wait_after_reading):
                operation(account, number)
        except Exception as exc:
            problems.append(str(exc))
        finally:
            if number == 2:
                connection.close()

    thread = threading.Thread(target=run, args=[2])
    thread.start()
    run(1)
    thread.join(2 * ENOUGH_SECONDS)
    assert not thread.is_alive()
    return problems


def update(account, number):
    Account.objects.update(points=number)


def update_two_tables(account, number):
    SpecialAccount.objects.update(points=number, level=number)


def save(account, number):
    Account(pk=account.pk, points=number).save(update_fields=["points"])


def bulk_update(account, number):
    Account.objects.bulk_update([Account(pk=account.pk, points=number)], ["points"])


def delete(account, number):
    Account.objects.filter(pk=account.pk).delete()


@pytest.mark.parametrize("operation", [update, save, bulk_update])
def test_waits(account, connect, operation):
    """If no receiver reads first, an update waits for another one to end."""
    connect(pre_update, ignore)
    connect(post_update, read)
    assert run_both(operation, account, SECONDS) == []
    account.refresh_from_db()
    assert account.points in (1, 2)


# What reads before it writes.
READING = pytest.mark.parametrize(
    "operation, signal, receiver",
    [
        pytest.param(update, pre_update, read, id="update"),
        pytest.param(save, pre_update, read, id="save"),
        pytest.param(bulk_update, pre_update, read, id="bulk_update"),
        pytest.param(update_two_tables, post_update, ignore, id="two tables"),
        pytest.param(delete, pre_delete, read, id="delete"),
    ],
)


@READING
def test_waits_as_writer(account, connect, immediate, operation, signal, receiver):
    """It waits as well if transactions begin as writers."""
    connect(signal, receiver)
    assert run_both(operation, account, SECONDS) == []


@READING
def test_fails_as_reader(account, connect, operation, signal, receiver):
    """Else one of two fails, and so does it with a receiver of pre_delete."""
    connect(signal, receiver)
    problems = run_both(operation, account, ENOUGH_SECONDS)
    assert problems == ["database is locked"]
