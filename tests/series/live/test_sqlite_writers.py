"""
Two connections that write to the same SQLite file.

SQLite has one writer at a time. A statement that writes waits for the lock,
unless its transaction has read before: then another writer must not have come
between, and "database is locked" is raised at once. So receivers that read, or
a SELECT of the rows to update, must not make an update fail that only waits
today.
"""

import threading

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models import F
from django.db.models.signals import post_update, pre_update

from live import naive
from live.models import Account, Owner, SpecialAccount

pytestmark = pytest.mark.skipif(
    connection.vendor != "sqlite", reason="it's about the locks of SQLite"
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
def account():
    return SpecialAccount.objects.create(name="ann", points=0, level=0)


@pytest.fixture
def connect():
    """Return a function that connects receivers until the test ends."""
    connected = []

    def connect(signal, receiver):
        for sender in (Account, SpecialAccount):
            signal.connect(receiver, sender=sender, weak=False)
            connected.append((signal, receiver, sender))

    yield connect
    for signal, receiver, sender in connected:
        signal.disconnect(receiver, sender=sender)


def read_first(queryset, **kwargs):
    """A receiver that looks at the rows."""
    list(queryset)


def ignore(**kwargs):
    """A receiver that doesn't."""


def run_both(operation, account, seconds=SECONDS):
    """
    Call operation(account, 1) here and operation(account, 2) in another
    thread, so that both transactions read before one of them writes, if both
    can.

    Return the exceptions that were raised.
    """
    both_read = threading.Barrier(2)
    problems = []

    def wait_after_reading():
        waited = []

        def wrapper(execute, sql, params, many, context):
            result = execute(sql, params, many, context)
            read = sql.startswith("SELECT") and connection.in_atomic_block
            if read and not waited:
                waited.append(True)
                try:
                    both_read.wait(seconds)
                except threading.BrokenBarrierError:
                    pass
            return result

        return connection.execute_wrapper(wrapper)

    def run(number):
        try:
            with wait_after_reading():
                operation(account, number)
        except Exception as exc:
            problems.append(exc)

    def run_in_thread():
        try:
            run(2)
        finally:
            connection.close()

    thread = threading.Thread(target=run_in_thread)
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


def save_two_tables(account, number):
    SpecialAccount(pk=account.pk, points=number, level=number).save()


def delete(account, number):
    owner = Owner.objects.create()
    Account.objects.bulk_create([Account(owner=owner)])
    owner.delete()


def bulk_update(account, number):
    Account.objects.bulk_update([Account(pk=account.pk, points=number)], ["points"])


# What is called, and the receivers that make it read before it writes.
CASES = [
    pytest.param(update, pre_update, read_first, id="update"),
    pytest.param(update_two_tables, post_update, ignore, id="two-tables"),
    pytest.param(save, pre_update, read_first, id="save"),
    pytest.param(bulk_update, pre_update, read_first, id="bulk-update"),
    pytest.param(save_two_tables, pre_update, read_first, id="save-two-tables"),
    pytest.param(delete, pre_update, read_first, id="delete"),
]


@pytest.mark.parametrize("operation, signal, receiver", CASES)
def test_waits(account, connect, operation, signal, receiver):
    """With receivers, an update waits for another one to end."""
    connect(signal, receiver)
    assert run_both(operation, account) == []
    account.refresh_from_db()
    if operation is delete:
        assert not Account.objects.exclude(owner=None).exists()
    else:
        assert account.points in (1, 2)


@pytest.mark.parametrize("operation, signal, receiver", CASES)
def test_waits_without_receivers(account, operation, signal, receiver):
    """Without receivers, it does so today."""
    assert run_both(operation, account) == []


@pytest.mark.parametrize("operation, signal, receiver", CASES)
def test_naive(account, connect, operation, signal, receiver):
    """If the transaction doesn't begin as a writer, one of them fails."""
    connect(signal, receiver)
    with naive.transaction_begun_as_reader():
        problems = run_both(operation, account, ENOUGH_SECONDS)
    assert [type(problem) for problem in problems] == [OperationalError]
    assert str(problems[0]) == "database is locked"


def test_open_transaction(account, connect):
    """
    In a transaction that began as a reader, the update can fail. It does so
    without receivers as well if the transaction has read.
    """

    def update_in_transaction(account, number):
        # A row that stays the same isn't written.
        with transaction.atomic():
            Account.objects.update(points=F("points") + number)

    assert run_both(update_in_transaction, account) == []
    connect(pre_update, read_first)
    problems = run_both(update_in_transaction, account, ENOUGH_SECONDS)
    assert [str(problem) for problem in problems] == ["database is locked"]
