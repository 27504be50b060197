"""
What happens when something fails in the middle of an update with receivers.

Each test looks at what is in the database afterwards, read over a second
connection; at what the caller gets; and at whether the connection that failed
can be used again. What must stay as it is without receivers is run without
them too, and compared.
"""

import asyncio
import itertools
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import (
    Error,
    IntegrityError,
    close_old_connections,
    connection,
    connections,
    transaction,
)
from django.db.backends.signals import connection_created
from django.db.models.signals import post_update, pre_update
from django.db.transaction import TransactionManagementError

from live import naive
from live.models import Account, IntegerKey, Owner, SpecialAccount, TextKey

VENDOR = connection.vendor
TIMEOUT = 10  # seconds, for what should take none
SIGNALS = {"pre_update": pre_update, "post_update": post_update}
# Don't wait for the disk, and not for a lock that nobody gives back.
SET_UP = {
    "sqlite": "PRAGMA synchronous = OFF",
    "postgresql": f"SET lock_timeout = '{TIMEOUT}s'",
    "mysql": f"SET SESSION innodb_lock_wait_timeout = {TIMEOUT}",
}[VENDOR]

both_signals = pytest.mark.parametrize("signal", SIGNALS.values(), ids=SIGNALS)
has_server = pytest.mark.skipif(
    VENDOR == "sqlite", reason="needs a server: test --db NAME"
)


class Fault(Exception):
    """What a receiver raises; no code of Django catches it."""


# The second connection.


@pytest.fixture(scope="module")
def observers(_databases):
    """A second connection to each database."""

    def set_up(connection, **kwargs):
        with connection.cursor() as cursor:
            cursor.execute(SET_UP)

    connections.close_all()
    connection_created.connect(set_up)
    made = {alias: connections.create_connection(alias) for alias in connections}
    yield made
    for observer in made.values():
        observer.close()
    connection_created.disconnect(set_up)
    connections.close_all()


@pytest.fixture
def stored(observers):
    """
    Return a function that reads what is committed: the sorted values of a
    column, given as "table.column", or all tables.
    """

    def read(column=None, alias="default"):
        with observers[alias].cursor() as cursor:
            if column:
                table = column.partition(".")[0]
                cursor.execute(f"SELECT {column} FROM {table}")
                return sorted(row[0] for row in cursor.fetchall())
            tables = {}
            for model in (Owner, Account, SpecialAccount, IntegerKey, TextKey):
                cursor.execute(f"SELECT * FROM {model._meta.db_table}")
                tables[model.__name__] = sorted(cursor.fetchall())
            return tables

    return read


def assert_usable(alias="default"):
    """Check that no transaction, and nothing of one, is left."""
    used = connections[alias]
    # It may have been closed.
    used.ensure_connection()
    assert not used.in_atomic_block and not used.needs_rollback
    assert used.get_autocommit()
    assert used.savepoint_ids == used.run_on_commit == used.atomic_blocks == []
    owner = Owner.objects.using(alias).create(name="usable")
    other = connections.create_connection(alias)
    with other.cursor() as cursor:
        cursor.execute("SELECT name FROM live_owner WHERE id = %s", [owner.pk])
        assert list(cursor.fetchall()) == [("usable",)]
    other.close()
    owner.delete()


@pytest.fixture(autouse=True)
def _replace_connections(observers, _clean):
    """Let a test that failed take only its own connections with it."""
    yield
    for wrapper in connections.all():
        if wrapper.in_atomic_block or not wrapper.get_autocommit():
            wrapper.connection.close()
            wrapper.connection, wrapper.in_atomic_block = None, False


# The rows, and what updates the table of Account.


def make_rows(using="default"):
    ann = Owner.objects.using(using).create(name="ann")
    bob = Owner.objects.using(using).create(name="bob")
    accounts = [Account(name=name, points=1, owner=ann) for name in "abc"]
    special = SpecialAccount(name="s", points=1, level=1)
    for account in (*accounts, special):
        account.save(using=using)
    return SimpleNamespace(ann=ann, bob=bob, accounts=accounts, special=special)


@pytest.fixture
def rows():
    """Three accounts of one owner, a special one, and another owner."""
    return make_rows()


def update(rows):
    return Account.objects.filter(points=1).update(points=2, active=False)


def aupdate(rows):
    return async_to_sync(Account.objects.filter(points=1).aupdate)(points=2)


def save(rows):
    rows.accounts[0].points = 2
    rows.accounts[0].save()


def save_of_two_tables(rows):
    rows.special.points = rows.special.level = 2
    rows.special.save()


def update_of_two_tables(rows):
    return SpecialAccount.objects.filter(points=1).update(level=2, points=2)


def bulk_update(rows):
    for account in rows.accounts:
        account.points = 2
    return Account.objects.bulk_update(rows.accounts, ["points"], batch_size=1)


def delete(rows):
    """All its accounts get a NULL; nothing else of the owner stays."""
    return rows.ann.delete()


def add(rows):
    rows.bob.account_set.add(*rows.accounts)


OF_TWO_TABLES = [save_of_two_tables, update_of_two_tables]
UPDATES = [update, save, *OF_TWO_TABLES, bulk_update, delete, add]

# The blocks that an update is in.


def in_autocommit(call):
    """No block at all."""
    try:
        return {"result": call()}
    except BaseException as exc:
        return {"error": exc}


def in_block(call):
    """An atomic block; the exception is caught outside of it."""

    def in_atomic():
        with transaction.atomic():
            TextKey.objects.create(key="outer")
            return call()

    return in_autocommit(in_atomic)


def in_block_caught_inside(call):
    """An atomic block; the exception is caught inside of it."""
    with transaction.atomic():
        TextKey.objects.create(key="outer")
        seen = in_autocommit(call)
        seen["needs_rollback"] = connection.needs_rollback
        try:
            seen["goes_on"] = TextKey.objects.filter(key="outer").exists()
        except Error as exc:
            seen["goes_on"] = False
            # If it's another error, the connection was lost.
            if isinstance(exc, TransactionManagementError):
                seen["cause"] = exc.__cause__
    return seen


def in_savepoint(call):
    """An atomic block in another one, which catches the exception."""

    def in_atomic():
        with transaction.atomic():
            return call()

    return in_block_caught_inside(in_atomic)


BLOCKS = [in_autocommit, in_block, in_block_caught_inside, in_savepoint]
# Each update, and each block.
CALLS = pytest.mark.parametrize(
    "call, block",
    [(call, in_autocommit) for call in (*UPDATES, aupdate)]
    + [(call, block) for call in (update, save) for block in BLOCKS[1:]],
)


def assert_undone(before, after, block):
    """Check that nothing but what was done outside of a savepoint is left."""
    if block is in_savepoint:
        before = {**before, "TextKey": [("outer", 0)]}
    assert after == before
    assert_usable()


# The receivers.


@contextmanager
def connected(*receivers, senders=(Account,)):
    """Connect pairs of a signal and a receiver, in this order."""
    with ExitStack() as stack:
        for signal, receiver in receivers:
            for sender in senders:
                signal.connect(receiver, sender=sender, weak=False)
                stack.callback(signal.disconnect, receiver, sender=sender)
        yield


def write(using, **kwargs):
    """A receiver that writes a row."""
    IntegerKey.objects.using(using).create(points=7)


def failing(error, at=1):
    """Return a receiver that raises the error when called the nth time."""
    calls = itertools.count(1)

    def fail(**kwargs):
        if next(calls) == at:
            raise error

    return fail


# A receiver raises.


@pytest.mark.parametrize(
    "error", [Fault(), KeyboardInterrupt()], ids=["exception", "interrupt"]
)
@CALLS
@both_signals
def test_receiver_raises(signal, call, block, error, rows, stored):
    """
    The exception of a receiver reaches the caller as it is. The update, and
    what the other receiver wrote, are undone. A surrounding block can only go
    on if there's a savepoint.
    """
    if call is aupdate and isinstance(error, KeyboardInterrupt):
        pytest.skip("an interrupt would end the event loop")
    before = stored()
    error.__context__ = error.__cause__ = None
    # The second of three batches.
    fail = failing(error, at=2 if call is bulk_update else 1)
    sender = SpecialAccount if call in OF_TWO_TABLES else Account
    with connected((signal, write), (signal, fail), senders=[sender]):
        seen = block(partial(call, rows))
    assert seen["error"] is error
    assert error.__cause__ is error.__context__ is None
    if "goes_on" in seen:
        assert seen["goes_on"] is (block is in_savepoint)
        assert seen["needs_rollback"] is not seen["goes_on"]
        assert isinstance(error, KeyboardInterrupt) or seen.get("cause") in (
            None,
            error,
        )
    assert_undone(before, stored(), block)


@both_signals
@pytest.mark.parametrize("call", OF_TWO_TABLES)
def test_receiver_of_ancestor_raises(call, signal, rows, stored):
    """No table is changed if a receiver of one of them raises."""
    before, error = stored(), Fault()
    with connected((signal, write), (signal, failing(error)), senders=[Account]):
        assert in_autocommit(partial(call, rows))["error"] is error
    assert_undone(before, stored(), in_autocommit)


# The database raises.


def summary(seen):
    """Return what can be compared of what a block has seen."""
    error = seen.get("error")
    return {
        **seen,
        "error": (type(error), str(error), type(error.__cause__)),
        "cause": seen.get("cause") is error,
    }


@contextmanager
def failing_trigger(observer, name):
    """Let the database refuse to update the row of that name."""
    start = "CREATE TRIGGER refuse BEFORE UPDATE ON live_account"
    condition = f"OLD.name = '{name}'"
    create, drop = {
        "sqlite": (
            f"{start} WHEN {condition} BEGIN SELECT RAISE(ABORT, 'refused'); END",
            "DROP TRIGGER refuse",
        ),
        "postgresql": (
            "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION "
            "'refused' USING ERRCODE = 'unique_violation'; END $$ LANGUAGE plpgsql;"
            f"{start} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION refuse()",
            "DROP TRIGGER refuse ON live_account; DROP FUNCTION refuse()",
        ),
        "mysql": (
            f"{start} FOR EACH ROW IF {condition} THEN SIGNAL SQLSTATE '23000' "
            "SET MYSQL_ERRNO = 1062, MESSAGE_TEXT = 'refused'; END IF",
            "DROP TRIGGER refuse",
        ),
    }[VENDOR]
    with observer.cursor() as cursor:
        cursor.execute(create)
        try:
            yield
        finally:
            cursor.execute(drop)


@CALLS
def test_update_fails(call, block, rows, stored, observers):
    """
    An error of the UPDATE is the same as without receivers, and so is the
    state of a surrounding block. What a receiver wrote is undone.
    """
    name = "s" if call in OF_TWO_TABLES else "a"
    posted = []
    with failing_trigger(observers["default"], name):
        before = stored()
        expected = block(partial(call, rows))
        # Without receivers, the update of the other table stays.
        SpecialAccount.objects.update(level=1)
        TextKey.objects.all().delete()
        rows.ann.refresh_from_db()
        with connected(
            (pre_update, write),
            (post_update, write),
            (post_update, lambda pk_set, **kwargs: posted.append(pk_set)),
            senders=[Account],
        ):
            seen = block(partial(call, rows))
    assert type(expected["error"]) is IntegrityError
    assert "refused" in str(expected["error"])
    assert summary(seen) == summary(expected)
    assert posted == []
    assert_undone(before, stored(), block)


def lose(observer):
    """Let the server end the connection."""
    if VENDOR == "postgresql":
        pid = connection.connection.info.backend_pid
        sql, done = "SELECT pg_terminate_backend(%s, 10000)", 1
    else:
        pid = connection.connection.thread_id()
        sql, done = "SELECT 1 FROM information_schema.processlist WHERE id = %s", 0
        with observer.cursor() as cursor:
            cursor.execute("KILL %s", [pid])
    deadline = time.monotonic() + TIMEOUT
    with observer.cursor() as cursor:
        while cursor.execute(sql, [pid]) and not done:
            assert time.monotonic() < deadline
            time.sleep(0.001)


@has_server
@pytest.mark.parametrize("when", ["pre_update", "UPDATE", "post_update"])
@pytest.mark.parametrize(
    "call, block",
    [(update, in_block), *((call, in_autocommit) for call in UPDATES)],
)
def test_connection_lost(call, block, when, rows, stored, observers):
    """
    The update is undone if the connection is lost in a receiver, or between
    the UPDATE and the next one. The usual way to replace it works.
    """
    before, lost = stored(), []

    def receive(**kwargs):
        if not lost:
            lost.append(when)
            lose(observers["default"])

    def wrap(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if when == "UPDATE" and sql.startswith("UPDATE"):
            receive()
        return result

    signal = SIGNALS.get(when, post_update)
    sender = SpecialAccount if call in OF_TWO_TABLES else Account
    receivers = [(signal, receive), (signal, write)]
    with connected(*receivers, senders=[sender]), connection.execute_wrapper(wrap):
        seen = block(partial(call, rows))
    assert lost and isinstance(seen["error"], Error)
    close_old_connections()
    assert_undone(before, stored(), in_autocommit)


# asyncio.


def run(main):
    """
    Run a coroutine whose database connection is that of another thread, and
    return its result or exception.
    """

    async def with_timeout():
        try:
            return {"result": await asyncio.wait_for(main(), TIMEOUT)}
        except BaseException as exc:
            return {"error": exc}
        finally:
            # This thread has one job at a time, so the update has ended.
            await sync_to_async(connections.close_all)()

    return asyncio.run(with_timeout())


@both_signals
def test_async_receiver_raises(signal, rows, stored):
    """
    An async receiver works in the transaction of the update, and undoes it.
    """
    before, error, points = stored(), Fault(), []

    async def fail(queryset, using, **kwargs):
        points.append([account.points async for account in queryset])
        await IntegerKey.objects.using(using).acreate(points=7)
        raise error

    with connected((signal, fail)):
        for seen in (
            run(lambda: Account.objects.aupdate(points=2)),
            in_autocommit(partial(update, rows)),
        ):
            assert seen["error"] is error
    assert points == [[1 if signal is pre_update else 2] * 4] * 2
    assert_undone(before, stored(), in_autocommit)


@both_signals
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_cancelled(signal, is_async, rows, stored):
    """
    Cancelling aupdate() cancels an async receiver, and undoes the update. It
    doesn't stop the thread of a sync receiver, which finishes the update.
    """
    before = stored()
    entered, release = threading.Event(), threading.Event()

    async def wait(**kwargs):
        entered.set()
        await asyncio.sleep(TIMEOUT)

    def wait_in_thread(**kwargs):
        entered.set()
        assert release.wait(TIMEOUT)

    async def cancel():
        task = asyncio.create_task(Account.objects.aupdate(points=2))
        assert await asyncio.to_thread(entered.wait, TIMEOUT)
        task.cancel()
        # Let the task notice first.
        await asyncio.sleep(0)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    with connected((signal, wait if is_async else wait_in_thread)):
        assert run(cancel) == {"result": None}
    if is_async:
        assert_undone(before, stored(), in_autocommit)
    else:
        assert stored("live_account.points") == [2, 2, 2, 2]


# Autocommit is off.


@pytest.fixture
def manual(rows):
    """Turn autocommit off for the test, after the rows were committed."""
    transaction.set_autocommit(False)
    yield
    transaction.rollback()
    transaction.set_autocommit(True)


@pytest.mark.parametrize("end", [transaction.commit, transaction.rollback])
@pytest.mark.parametrize("call", UPDATES)
def test_manual(call, end, rows, manual, stored):
    """The caller's commit() or rollback() ends the transaction."""
    before = stored()
    with connected((pre_update, write), (post_update, write)):
        call(rows)
    assert not connection.in_atomic_block and not connection.needs_rollback
    assert stored() == before
    end()
    committed = end is transaction.commit
    assert (stored() != before) is committed
    assert bool(stored("live_integerkey.points")) is committed


@both_signals
@pytest.mark.parametrize("call", UPDATES)
def test_manual_receiver_raises(call, signal, rows, manual, stored):
    """The caller has to roll back before another query."""
    before, error = stored(), Fault()
    with connected((signal, write), (signal, failing(error))):
        assert in_autocommit(partial(call, rows))["error"] is error
    assert not connection.in_atomic_block and connection.needs_rollback
    with pytest.raises(TransactionManagementError):
        Account.objects.exists()
    transaction.rollback()
    assert Account.objects.exists()
    assert stored() == before


# Naive variants, with a receiver of post_update that raises.


@pytest.mark.parametrize(
    "variant, error, using",
    [
        (naive.update_without_transaction, Fault(), "default"),
        (naive.update_in_transaction_on_default, Fault(), "other"),
        (naive.update_undone_for_exceptions_only, KeyboardInterrupt(), "default"),
        (naive.post_update_sent_on_commit, Fault(), "default"),
        (naive.post_update_sent_robustly, Fault(), "default"),
    ],
)
def test_naive_variant(variant, error, using, stored):
    """Naively, the update stays, or the caller isn't told."""
    make_rows(using)
    call = partial(Account.objects.using(using).update, points=2)
    with variant(), connected((post_update, failing(error))):
        seen = in_autocommit(call)
    assert (seen.get("error") is error) is (
        variant is not naive.post_update_sent_robustly
    )
    assert stored("live_account.points", alias=using) == [2, 2, 2, 2]
    assert_usable(using)


def test_naive_durable_transaction(rows):
    """Naively, an update can't be in a block, not even in bulk_update()."""
    with naive.update_in_durable_transaction(), connected((post_update, write)):
        for seen in (
            in_block(partial(update, rows)),
            in_autocommit(partial(bulk_update, rows)),
        ):
            assert type(seen["error"]) is RuntimeError
    assert_usable()
