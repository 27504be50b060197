"""
What happens when something fails in the middle of an update with receivers.

Each test looks at three things: what is in the database afterwards, read over
a second connection; what the caller gets; and that the connection that failed
can be used again. What must stay as it is without receivers is run without
them too, and compared.
"""

import asyncio
import itertools
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import SimpleNamespace
from unittest import mock

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import FieldDoesNotExist, SynchronousOnlyOperation
from django.core.handlers.wsgi import WSGIHandler
from django.db import (
    DataError,
    Error,
    IntegrityError,
    InternalError,
    OperationalError,
    close_old_connections,
    connection,
    connections,
    transaction,
)
from django.db.backends.signals import connection_created
from django.db.models import F, UUIDField
from django.db.models.expressions import RawSQL
from django.db.models.signals import post_delete, post_update, pre_delete, pre_update
from django.db.transaction import TransactionManagementError
from django.http import HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import path

from live import naive
from live.models import Account, IntegerKey, Owner, SpecialAccount, TextKey, UUIDKey

VENDOR = connection.vendor
TIMEOUT = 10  # seconds, for what should take none
SIGNALS = {"pre_update": pre_update, "post_update": post_update}
INTERRUPTS = [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError]

both_signals = pytest.mark.parametrize("signal", SIGNALS.values(), ids=SIGNALS)


class Fault(Exception):
    """What a receiver raises; no code of Django catches it."""


# The second connection.


# Don't wait for the disk, and not for a lock that nobody gives back.
SET_UP = {
    "sqlite": "PRAGMA synchronous = OFF",
    "postgresql": f"SET synchronous_commit = off; SET lock_timeout = '{TIMEOUT}s'",
    "mysql": (
        f"SET SESSION lock_wait_timeout = {TIMEOUT},"
        f" SESSION innodb_lock_wait_timeout = {TIMEOUT}"
    ),
}[VENDOR]


@pytest.fixture(scope="module")
def _set_up(_databases):
    """Execute SET_UP for each new connection."""

    def set_up(connection, **kwargs):
        with connection.cursor() as cursor:
            cursor.execute(SET_UP)

    connections.close_all()
    connection_created.connect(set_up)
    yield
    connection_created.disconnect(set_up)
    connections.close_all()


@pytest.fixture(scope="module")
def _observers(_set_up):
    """A second connection to each database."""
    made = {alias: connections.create_connection(alias) for alias in connections}
    yield made
    for observer in made.values():
        observer.close()


@pytest.fixture
def observer(_observers):
    """The second connection to the default database."""
    return _observers["default"]


@pytest.fixture
def stored(_observers):
    """Return a function that reads what is committed to a database."""

    def read(*columns, alias="default"):
        """
        Return the sorted rows of a table's columns, given as "table.column",
        or a dictionary of all the tables.
        """
        with _observers[alias].cursor() as cursor:
            if columns:
                table = columns[0].partition(".")[0]
                names = ", ".join(columns)
                cursor.execute(f"SELECT {names} FROM {table}")
                rows = sorted(cursor.fetchall())
                return [row[0] for row in rows] if len(columns) == 1 else rows
            tables = {}
            for model in (Owner, Account, SpecialAccount, IntegerKey, TextKey):
                table = model._meta.db_table
                cursor.execute(f"SELECT * FROM {table}")
                tables[table] = sorted(cursor.fetchall())
            return tables

    return read


def in_transaction(connection):
    """Return whether the driver has left a transaction open."""
    if connection.vendor == "sqlite":
        return connection.connection.in_transaction
    if connection.vendor == "postgresql":
        return connection.connection.info.transaction_status.name != "IDLE"
    with connection.cursor() as cursor:
        if connection.mysql_is_mariadb:
            cursor.execute("SELECT @@in_transaction")
        else:
            cursor.execute(
                "SELECT COUNT(*) FROM performance_schema.events_transactions_current"
                " WHERE thread_id = ps_current_thread_id()"
                " AND state = 'ACTIVE' AND autocommit = 'NO'"
            )
        return bool(cursor.fetchone()[0])


def assert_idle(alias="default", autocommit=True):
    """Check that no transaction, and nothing of one, is left."""
    connection = connections[alias]
    assert connection.in_atomic_block is False
    assert connection.get_autocommit() is autocommit
    assert connection.closed_in_transaction is False
    assert connection.needs_rollback is False
    assert connection.savepoint_ids == []
    assert connection.atomic_blocks == []
    assert connection.run_on_commit == []
    assert not in_transaction(connection)


@pytest.fixture
def assert_usable(_observers):
    """Return a function that checks that a connection is as good as new."""

    def check(alias="default"):
        assert_idle(alias)
        owner = Owner.objects.using(alias).create(name="usable")
        with _observers[alias].cursor() as cursor:
            cursor.execute("SELECT name FROM live_owner WHERE id = %s", [owner.pk])
            assert list(cursor.fetchall()) == [("usable",)]
        owner.delete()
        assert_idle(alias)

    return check


@pytest.fixture(autouse=True)
def _replace_connections(_set_up, _clean):
    """Let a test that failed take only its own connections with it."""
    yield
    for wrapper in connections.all():
        try:
            assert_idle(wrapper.alias)
        except (AssertionError, Error):
            with suppress(Error):
                wrapper.close()
            wrapper.connection = None
            wrapper.in_atomic_block = False


# The rows.


@pytest.fixture
def rows():
    """Three accounts of one owner, a special one, and another owner."""
    return make_rows()


def make_rows(using="default"):
    ann = Owner.objects.using(using).create(name="ann")
    bob = Owner.objects.using(using).create(name="bob")
    accounts = [Account(name=name, points=1, owner=ann) for name in "abc"]
    with transaction.atomic(using=using):
        for account in accounts:
            account.save(using=using)
        special = SpecialAccount(name="s", points=1, level=1)
        special.save(using=using)
    return SimpleNamespace(
        ann=ann, bob=bob, accounts=accounts, a=accounts[0], special=special
    )


# The updates. Each takes the rows and writes to the table of Account.


def update(rows):
    return Account.objects.filter(points=1).update(points=2, active=False)


def aupdate(rows):
    return async_to_sync(Account.objects.filter(points=1).aupdate)(points=2)


def save(rows):
    rows.a.points = 2
    rows.a.save()


def save_of_two_tables(rows):
    rows.special.points = rows.special.level = 2
    rows.special.save()


def update_of_two_tables(rows):
    return SpecialAccount.objects.filter(points=1).update(level=2, points=2)


def update_or_create(rows):
    Account.objects.update_or_create({"points": 2}, name="a")


def bulk_update(rows):
    for account in rows.accounts:
        account.points = 2
    return Account.objects.bulk_update(rows.accounts, ["points"], batch_size=1)


def delete(rows):
    """All its accounts get a NULL; nothing else of the owner stays."""
    return rows.ann.delete()


def add(rows):
    rows.bob.account_set.add(*rows.accounts)


def remove(rows):
    rows.ann.account_set.remove(*rows.accounts)


def clear(rows):
    rows.ann.account_set.clear()


def set_(rows):
    rows.ann.account_set.set([rows.accounts[0]])


UPDATES = [
    aupdate,
    update,
    save,
    save_of_two_tables,
    update_of_two_tables,
    update_or_create,
    bulk_update,
    delete,
    add,
    remove,
    clear,
    set_,
]
OF_TWO_TABLES = [save_of_two_tables, update_of_two_tables]

# The blocks that an update is in.


def in_autocommit(call, *args, **kwargs):
    """No block at all."""
    seen = {}
    try:
        seen["result"] = call(*args, **kwargs)
    except BaseException as exc:
        seen["error"] = exc
    return seen


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

    with transaction.atomic():
        TextKey.objects.create(key="outer")
        seen = in_autocommit(in_atomic)
        seen["needs_rollback"] = connection.needs_rollback
        seen["goes_on"] = TextKey.objects.filter(key="outer").exists()
    return seen


BLOCKS = [in_autocommit, in_block, in_block_caught_inside, in_savepoint]
all_blocks = pytest.mark.parametrize("block", BLOCKS, ids=lambda f: f.__name__)


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


class Record(list):
    """A receiver that appends the signal and the set of keys."""

    __hash__ = object.__hash__

    def __call__(self, signal, pk_set=None, **kwargs):
        self.append(signal if pk_set is None else (signal, set(pk_set)))

    @property
    def posted(self):
        return [one for one in self if isinstance(one, tuple)]


def assert_unchanged(error, expected):
    """The error is the one that was raised, and nothing was added to it."""
    assert error is expected
    assert error.__cause__ is None
    assert error.__context__ is None


# A receiver raises.


@pytest.mark.parametrize(
    ("call", "block", "position"),
    [
        *((call, block, "second") for call in UPDATES for block in BLOCKS),
        *((call, in_autocommit, "first") for call in UPDATES),
    ],
)
@both_signals
def test_receiver_raises(signal, call, block, position, rows, stored, assert_usable):
    """
    The exception of a receiver reaches the caller as it is. The update, and
    what the other receiver wrote, are undone. A surrounding block can only go
    on if there's a savepoint.
    """
    before = stored()
    error = Fault()
    # The second of three batches.
    fail = failing(error, at=2 if call is bulk_update else 1)
    receivers = [(signal, write), (signal, fail)]
    if position == "first":
        receivers.reverse()
    sender = SpecialAccount if call in OF_TWO_TABLES else Account
    with connected(*receivers, senders=[sender]):
        seen = block(partial(call, rows))
    assert_unchanged(seen["error"], error)
    # update_or_create() has a savepoint of its own.
    if block is in_savepoint or (
        block is in_block_caught_inside and call is update_or_create
    ):
        assert seen["needs_rollback"] is False
        assert seen["goes_on"] is True
        before["live_textkey"] = [("outer", 0)]
    elif block is in_block_caught_inside:
        assert seen["needs_rollback"] is True
        assert seen["goes_on"] is False
        # save() of two tables has an atomic block, which doesn't tell why.
        if call is not save_of_two_tables:
            assert seen["cause"] is error
    assert stored() == before
    assert_usable()


@both_signals
@pytest.mark.parametrize("call", [update_of_two_tables, save_of_two_tables])
def test_receiver_of_ancestor_raises(call, signal, rows, stored, assert_usable):
    """No table is changed if a receiver of one of them raises."""
    before = stored()
    error = Fault()
    with connected((signal, write), (signal, failing(error)), senders=[Account]):
        seen = in_autocommit(partial(call, rows))
    assert_unchanged(seen["error"], error)
    assert stored() == before
    assert_usable()


def test_receiver_raises_naive_without_transaction(rows, stored, assert_usable):
    """Naively, the update stays after a receiver raised."""
    error = Fault()
    with (
        naive.update_without_transaction(),
        connected((post_update, write), (post_update, failing(error))),
    ):
        seen = in_autocommit(partial(update, rows))
    assert seen["error"] is error
    assert stored("live_account.points") == [2, 2, 2, 2]
    assert stored("live_integerkey.points") == [7]
    assert_usable()


def test_receiver_raises_naive_on_commit(rows, stored, assert_usable):
    """Naively, the update is committed before a receiver can undo it."""
    error = Fault()
    with (
        naive.post_update_sent_on_commit(),
        connected((post_update, failing(error))),
    ):
        seen = in_autocommit(partial(update, rows))
    assert seen["error"] is error
    assert stored("live_account.points") == [2, 2, 2, 2]
    assert_usable()


def test_receiver_raises_naive_robustly(rows, stored, assert_usable):
    """Naively, the caller isn't told that a receiver raised."""
    with (
        naive.update_signals_sent_robustly(),
        connected((post_update, failing(Fault()))),
    ):
        seen = in_autocommit(partial(update, rows))
    assert seen == {"result": 4}
    assert stored("live_account.points") == [2, 2, 2, 2]
    assert_usable()


@both_signals
def test_other_database(signal, stored, assert_usable):
    """
    The update is undone on the database that's written to, and only there. An
    atomic block on another database isn't broken.
    """
    for alias in ("default", "other"):
        make_rows(using=alias)
    before = stored(alias="other")
    error = Fault()

    def write_to_both(**kwargs):
        write(using="default")
        write(using="other")

    with connected((signal, write_to_both), (signal, failing(error))):
        with transaction.atomic():
            seen = in_autocommit(Account.objects.using("other").update, points=2)
            assert connection.needs_rollback is False
            TextKey.objects.create(key="outer")
    assert_unchanged(seen["error"], error)
    assert stored(alias="other") == before
    assert stored("live_integerkey.points") == [7]
    assert stored("live_textkey.points") == [0]
    assert_usable("default")
    assert_usable("other")


def test_other_database_naive(stored, assert_usable):
    """Naively, the transaction is on "default", and the update stays."""
    make_rows(using="other")
    error = Fault()
    with (
        naive.update_in_transaction_on_default(),
        connected((post_update, failing(error))),
    ):
        seen = in_autocommit(Account.objects.using("other").update, points=2)
    assert seen["error"] is error
    assert stored("live_account.points", alias="other") == [2, 2, 2, 2]
    assert_usable("other")


def test_changed_values_invalid(rows, stored, assert_usable):
    """A receiver that adds a value for no field undoes what it wrote."""

    def change(values, using, **kwargs):
        write(using=using)
        values["nothing"] = 1

    before = stored()
    with connected((pre_update, change)):
        seen = in_autocommit(partial(update, rows))
    assert type(seen["error"]) is FieldDoesNotExist
    assert stored() == before
    assert_usable()


@both_signals
def test_evaluation_fails(signal, rows, stored, assert_usable):
    """A query of a receiver that fails undoes the update like any error."""
    driver, expected, sql = {
        "sqlite": ("sqlite3", OperationalError, "abs(-9223372036854775808)"),
        "postgresql": ("psycopg", DataError, "1 / (points - points)"),
        # Django's choice for an expression that is out of range.
        "mysql": ("MySQLdb", IntegrityError, "18446744073709551615 + points"),
    }[VENDOR]

    def evaluate(queryset, **kwargs):
        list(queryset.annotate(bad=RawSQL(sql, ())))

    before = stored()
    with connected((signal, evaluate)):
        for block in BLOCKS:
            seen = block(partial(update, rows))
            assert type(seen["error"]) is expected
            # Django raises some errors of MariaDB without a cause.
            cause = seen["error"].__cause__ or seen["error"].__context__
            assert type(cause).__module__.startswith(driver)
            if block is in_savepoint:
                before["live_textkey"] = [("outer", 0)]
            assert stored() == before
            assert_usable()


@pytest.mark.parametrize("error_class", [Fault, KeyboardInterrupt])
def test_conversion_fails(error_class, stored, assert_usable):
    """
    The update is undone if a key that the database returned can't be converted
    to Python, though others could. Without receivers, there's none.
    """
    UUIDKey.objects.bulk_create([UUIDKey() for _ in range(150)])
    error = error_class()
    values = []

    def convert(self, value, expression, connection):
        values.append(value)
        if len(values) == 120:
            raise error
        return value

    record = Record()
    with (
        mock.patch.object(UUIDField, "from_db_value", convert, create=True),
        connected((post_update, write), (post_update, record), senders=[UUIDKey]),
    ):
        seen = in_autocommit(UUIDKey.objects.update, points=1)
    assert_unchanged(seen["error"], error)
    assert record == []
    assert stored("live_uuidkey.points") == [0] * 150
    assert_usable()


def test_evaluation_fails_naive(rows, stored, assert_usable):
    """Naively, the update stays when a receiver can't look at its rows."""

    def evaluate(queryset, **kwargs):
        queryset.get()

    with (
        naive.update_without_transaction(),
        connected((post_update, evaluate)),
    ):
        seen = in_autocommit(partial(update, rows))
    assert type(seen["error"]) is Account.MultipleObjectsReturned
    assert stored("live_account.points") == [2, 2, 2, 2]
    assert_usable()


# The database raises.

RECEIVERS = {
    "none": (),
    "pre_update": (pre_update,),
    "post_update": (post_update,),
    "both": (pre_update, post_update),
}
some_receivers = pytest.mark.parametrize(
    "receivers", [*RECEIVERS.values()][1:], ids=[*RECEIVERS][1:]
)
any_receivers = pytest.mark.parametrize("receivers", RECEIVERS.values(), ids=RECEIVERS)


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
    condition = f"OLD.name = '{name}'"
    create, drop = {
        "sqlite": (
            [
                f"CREATE TRIGGER refuse BEFORE UPDATE ON live_account WHEN {condition} "
                "BEGIN SELECT RAISE(ABORT, 'refused'); END"
            ],
            ["DROP TRIGGER refuse"],
        ),
        "postgresql": (
            [
                "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN "
                "RAISE EXCEPTION 'refused' USING ERRCODE = 'unique_violation'; "
                "END $$ LANGUAGE plpgsql",
                "CREATE TRIGGER refuse BEFORE UPDATE ON live_account FOR EACH ROW "
                f"WHEN ({condition}) EXECUTE FUNCTION refuse()",
            ],
            ["DROP TRIGGER refuse ON live_account", "DROP FUNCTION refuse()"],
        ),
        "mysql": (
            [
                "CREATE TRIGGER refuse BEFORE UPDATE ON live_account FOR EACH ROW "
                f"IF {condition} THEN SIGNAL SQLSTATE '23000' "
                "SET MYSQL_ERRNO = 1062, MESSAGE_TEXT = 'refused'; END IF"
            ],
            ["DROP TRIGGER refuse"],
        ),
    }[VENDOR]
    with observer.cursor() as cursor:
        for sql in create:
            cursor.execute(sql)
        try:
            yield
        finally:
            if not transaction.get_autocommit():
                transaction.rollback()
            for sql in drop:
                cursor.execute(sql)


@pytest.mark.parametrize(
    ("call", "block", "receivers"),
    [
        *((call, block, "both") for call in UPDATES for block in BLOCKS),
        *((update, block, "pre_update") for block in BLOCKS),
        *((update, block, "post_update") for block in BLOCKS),
    ],
)
def test_update_fails(call, block, receivers, rows, stored, observer, assert_usable):
    """
    An error of the UPDATE is the same as without receivers, and so is the
    state of a surrounding block. post_update isn't sent for the rows, and what
    a receiver wrote is undone.
    """
    receivers = RECEIVERS[receivers]
    before = stored()
    connection.rollback_exc = None
    # A row in the middle, if there is a middle.
    if call in OF_TWO_TABLES:
        pk, name = rows.special.pk, "s"
    else:
        account = rows.accounts[call not in (save, update_or_create)]
        pk, name = account.pk, account.name
    record = Record()
    with failing_trigger(observer, name):
        expected = block(partial(call, rows))
        if call is update_of_two_tables and block is in_autocommit:
            # Without receivers, the update of the other table stays.
            assert stored() != before
            SpecialAccount.objects.update(level=1)
        TextKey.objects.all().delete()
        assert stored() == before
        reloaded = reload(rows)
        with connected(
            *((signal, write) for signal in receivers),
            *((signal, record) for signal in receivers),
            senders=[Account, SpecialAccount],
        ):
            seen = block(partial(call, reloaded))
    assert type(expected["error"]) is IntegrityError
    assert "refused" in str(expected["error"])
    assert summary(seen) == summary(expected)
    if pre_update in receivers:
        assert pre_update in record
    assert not any(pk in pks for signal, pks in record.posted)
    if block is in_savepoint or seen.get("goes_on"):
        before["live_textkey"] = [("outer", 0)]
    assert stored() == before
    assert_usable()


def reload(rows):
    """Return the rows as they are in the database."""
    accounts = [Account.objects.get(pk=account.pk) for account in rows.accounts]
    return SimpleNamespace(
        ann=Owner.objects.get(pk=rows.ann.pk),
        bob=Owner.objects.get(pk=rows.bob.pk),
        accounts=accounts,
        a=accounts[0],
        special=SpecialAccount.objects.get(pk=rows.special.pk),
    )


@some_receivers
@all_blocks
def test_unique_violation(block, receivers, stored, assert_usable):
    """A duplicate key is the same error as without receivers."""
    TextKey.objects.bulk_create([TextKey(key="a"), TextKey(key="b")])
    before = stored()
    call = partial(TextKey.objects.exclude(key="outer").update, key="same")
    expected = block(call)
    TextKey.objects.filter(key="outer").delete()
    record = Record()
    with connected(*((signal, record) for signal in receivers), senders=[TextKey]):
        seen = block(call)
    assert type(seen["error"]) is IntegrityError
    assert summary(seen) == summary(expected)
    assert record == ([pre_update] if pre_update in receivers else [])
    if block is in_savepoint:
        before["live_textkey"].append(("outer", 0))
    assert stored() == before
    assert_usable()


@some_receivers
@pytest.mark.parametrize("block", [in_autocommit, in_block])
def test_foreign_key_violation(block, receivers, rows, stored, assert_usable):
    """
    A missing row is the same error as without receivers. If the database
    checks this at the end of the transaction, post_update has been sent.
    """
    before = stored()
    call = partial(Account.objects.update, owner_id=10**6)
    expected = block(call)
    assert stored() == before
    record = Record()
    with connected(
        *((signal, write) for signal in receivers),
        *((signal, record) for signal in receivers),
    ):
        seen = block(call)
    assert type(seen["error"]) is IntegrityError
    assert summary(seen) == summary(expected)
    deferred = connection.features.can_defer_constraint_checks
    assert bool(record.posted) is (deferred and post_update in receivers)
    assert stored() == before
    assert_usable()


def test_update_fails_naive(stored, assert_usable):
    """Naively, a block around the update gets another error."""
    TextKey.objects.bulk_create([TextKey(key="a"), TextKey(key="b")])
    with (
        naive.update_in_durable_transaction(),
        connected((pre_update, Record()), senders=[TextKey]),
    ):
        seen = in_block(partial(TextKey.objects.update, key="same"))
    assert type(seen["error"]) is RuntimeError
    assert_usable()


@contextmanager
def lock_timeout(observer):
    """Let the UPDATE wait for a lock, but not for long."""
    begin = "BEGIN IMMEDIATE" if VENDOR == "sqlite" else "BEGIN"
    start, end = {
        "sqlite": ("PRAGMA busy_timeout = 50", "PRAGMA busy_timeout = 5000"),
        "postgresql": ("SET lock_timeout = '50ms'", SET_UP),
        "mysql": (
            "SET SESSION innodb_lock_wait_timeout = 0",
            SET_UP,
        ),
    }[VENDOR]
    with observer.cursor() as other, connection.cursor() as cursor:
        other.execute(begin)
        try:
            other.execute("UPDATE live_account SET points = 3")
            cursor.execute(start)
            yield
        finally:
            other.execute("ROLLBACK")
            cursor.execute(end)


@contextmanager
def statement_timeout(observer):
    """Let the UPDATE be too slow for the database."""
    if VENDOR == "sqlite":

        def interrupt(execute, sql, params, many, context):
            if not sql.startswith("UPDATE"):
                return execute(sql, params, many, context)
            connection.connection.set_progress_handler(lambda: 1, 1)
            try:
                return execute(sql, params, many, context)
            finally:
                connection.connection.set_progress_handler(None, 0)

        with connection.execute_wrapper(interrupt):
            yield
        return
    start, end = {
        "postgresql": ("SET statement_timeout = '50ms'", "RESET statement_timeout"),
        "mysql": (
            "SET SESSION max_statement_time = 0.05",
            "SET SESSION max_statement_time = DEFAULT",
        ),
    }[VENDOR]
    with observer.cursor() as other, connection.cursor() as cursor:
        other.execute("BEGIN")
        try:
            other.execute("UPDATE live_account SET points = 3")
            cursor.execute(start)
            yield
        finally:
            other.execute("ROLLBACK")
            cursor.execute(end)


@some_receivers
@pytest.mark.parametrize("timeout", [lock_timeout, statement_timeout])
def test_timeout(timeout, receivers, rows, stored, observer, assert_usable):
    """An update that waits too long fails as it does without receivers."""
    before = stored()
    record = Record()
    call = partial(Account.objects.filter(name="a").update, points=2)
    blocks = [in_autocommit]
    if not (VENDOR == "sqlite" and timeout is lock_timeout):
        # On SQLite, the block would hold the only lock.
        blocks.append(in_block_caught_inside)
    for block in blocks:
        seen = []
        for signals in ((), receivers):
            with (
                connected(*((signal, record) for signal in signals)),
                timeout(observer),
            ):
                one = block(call)
            error, cause = one.pop("error"), one.pop("cause", None)
            # The message may name the place of the row.
            one["error"] = type(error), type(error.__cause__), cause is error
            seen.append(one)
        assert seen[0]["error"][0] is OperationalError
        assert seen[1] == seen[0]
    assert not record.posted
    assert stored() == before
    assert_usable()


# The connection is lost.

has_server = pytest.mark.skipif(
    VENDOR == "sqlite", reason="there is no server that could end a connection"
)


def lose(observer):
    """Let the server end the connection."""
    if VENDOR == "postgresql":
        pid = connection.connection.info.backend_pid
        with observer.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
            assert cursor.fetchone() == (True,)
    else:
        number = connection.connection.thread_id()
        with observer.cursor() as cursor:
            cursor.execute(f"KILL {number}")
            sql = "SELECT 1 FROM information_schema.processlist WHERE id = %s"
            deadline = time.monotonic() + TIMEOUT
            while cursor.execute(sql, [number]):
                assert time.monotonic() < deadline
                time.sleep(0.001)


class Loser:
    """
    Loses the connection once, as an execute_wrapper() after an UPDATE, or as a
    receiver, which can make a query afterwards.
    """

    def __init__(self, observer, query=True):
        self.observer, self.query, self.lost = observer, query, False

    def __call__(self, **kwargs):
        if not self.lost:
            self.lost = True
            lose(self.observer)
        if self.query:
            IntegerKey.objects.create(points=7)

    def wrap(self, execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if sql.startswith("UPDATE") and not self.lost:
            self.lost = True
            lose(self.observer)
        return result


LOST_IN = [in_autocommit, in_block, in_block_caught_inside]


@has_server
@pytest.mark.parametrize(
    ("call", "block", "query"),
    [
        *((update, block, query) for block in LOST_IN for query in (True, False)),
        *((call, in_autocommit, True) for call in (save, bulk_update, delete, add)),
    ],
)
@both_signals
def test_connection_lost_in_receiver(
    signal, call, block, query, rows, stored, observer, assert_usable
):
    """
    The update is undone if the connection is lost before or after it, even if
    only the end of the transaction tells so.
    """
    before = stored()
    record = Record()
    loser = Loser(observer, query)
    with connected((signal, record), (signal, loser)):
        if signal is post_update and block is in_block_caught_inside and not query:
            with pytest.raises(OperationalError):
                block(partial(call, rows))
        else:
            seen = block(partial(call, rows))
            assert type(seen["error"]) is OperationalError
            assert seen.get("goes_on", False) is False
    assert loser.lost
    assert len(record) == 1
    assert stored() == before
    close_old_connections()
    assert_usable()


@has_server
@pytest.mark.parametrize("block", LOST_IN)
@any_receivers
def test_connection_lost_after_update(
    receivers, block, rows, stored, observer, assert_usable
):
    """
    An UPDATE that ran is undone if the connection is lost before the end of
    the transaction. Without one, it stays, as ever.
    """
    before = stored()
    loser = Loser(observer)
    with (
        connected(*((signal, write) for signal in receivers)),
        connection.execute_wrapper(loser.wrap),
    ):
        if block is in_autocommit and not receivers:
            seen = block(partial(update, rows))
            if VENDOR != "sqlite":
                assert seen == {"result": 4}
            assert stored("live_account.points") == [2] * 4
        elif block is in_block_caught_inside and post_update not in receivers:
            # Nothing is asked of the database before the end of the block.
            with pytest.raises((OperationalError, TransactionManagementError)):
                block(partial(update, rows))
            assert stored() == before
        else:
            seen = block(partial(update, rows))
            assert type(seen["error"]) is OperationalError
            assert stored() == before
    assert loser.lost
    if block is in_autocommit and not receivers:
        # The next query is the first to fail.
        assert type(in_autocommit(Account.objects.count)["error"]) is OperationalError
    close_old_connections()
    assert_usable()


@has_server
@any_receivers
def test_connection_lost_before_update(
    receivers, rows, stored, observer, assert_usable
):
    """
    A connection that was lost before gives the error of today, and the usual
    way to replace it works.
    """
    before = stored()
    record = Record()
    connection.ensure_connection()
    lose(observer)
    with connected(*((signal, record) for signal in receivers)):
        seen = in_autocommit(partial(update, rows))
    assert type(seen["error"]) is OperationalError
    assert not record.posted
    close_old_connections()
    assert_usable()
    assert stored() == before


@has_server
@any_receivers
def test_health_check(receivers, rows, stored, observer, assert_usable):
    """If health checks are enabled, a connection that was lost is replaced."""
    lose(observer)
    connection.health_check_enabled = True
    connection.health_check_done = False
    with connected(*((signal, write) for signal in receivers)):
        assert in_autocommit(partial(update, rows)) == {"result": 4}
    assert stored("live_account.points") == [2, 2, 2, 2]
    assert stored("live_integerkey.points") == [7] * len(receivers)
    assert_usable()


@any_receivers
def test_no_connection(receivers, rows, stored, assert_usable):
    """If there's no connection, no receiver is called."""
    before = stored()
    record = Record()
    error = OperationalError("No server.")
    connection.close()
    with (
        connected(*((signal, record) for signal in receivers)),
        mock.patch.object(
            type(connections["default"]), "get_new_connection", side_effect=error
        ),
    ):
        seen = in_autocommit(partial(update, rows))
    assert seen["error"] is error
    assert record == []
    assert_usable()
    assert stored() == before


@has_server
def test_connection_lost_naive(rows, stored, observer, assert_usable):
    """Naively, the update stays though a receiver couldn't work."""
    with (
        naive.update_without_transaction(),
        connected((post_update, Loser(observer))),
    ):
        seen = in_autocommit(partial(update, rows))
    assert type(seen["error"]) is OperationalError
    assert stored("live_account.points") == [2, 2, 2, 2]
    assert stored("live_integerkey.points") == []
    close_old_connections()
    assert_usable()


# A receiver does what it shouldn't.


def duplicate():
    """Insert a row that exists, with the ORM."""
    Owner.objects.create(pk=Owner.objects.values_list("pk", flat=True)[0])


def duplicate_in_cursor():
    """The same with SQL, of which Django's blocks know nothing."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO live_owner SELECT * FROM live_owner")


def swallow(write):
    """A receiver that goes on after an error."""
    with pytest.raises(IntegrityError):
        write()


def swallow_in_atomic(write):
    """A receiver that goes on after an error as it should."""
    with pytest.raises(IntegrityError), transaction.atomic():
        write()


MISTAKES = {
    "swallow": partial(swallow, duplicate),
    "swallow in cursor": partial(swallow, duplicate_in_cursor),
    "swallow in atomic": partial(swallow_in_atomic, duplicate),
    "swallow in cursor in atomic": partial(swallow_in_atomic, duplicate_in_cursor),
    "set_rollback": lambda: transaction.set_rollback(True),
    "close": lambda: connection.close(),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@both_signals
def test_receiver_mistakes(signal, mistake, rows, stored, assert_usable):
    """
    A receiver that leaves the transaction in a state in which it can't be
    committed loses the update. It's loud before the update, and silent after
    it. A receiver of delete() does the same to delete().
    """
    fine = "in atomic" in mistake or (
        mistake == "swallow in cursor" and VENDOR != "postgresql"
    )
    before = stored()
    TextKey.objects.create(key="a")
    hooks = []

    def receiver(**kwargs):
        transaction.on_commit(lambda: hooks.append(1))
        MISTAKES[mistake]()

    with connected((signal, receiver)):
        seen = in_autocommit(partial(update, rows))
    assert (stored()["live_account"] != before["live_account"]) is fine
    assert_usable()
    signal_of_delete = pre_delete if signal is pre_update else post_delete
    updated, hooks[:] = bool(hooks), []
    with connected((signal_of_delete, receiver), senders=[TextKey]):
        seen_of_delete = in_autocommit(TextKey.objects.all().delete)
    assert (stored("live_textkey.points") == []) is fine
    assert_usable()

    if fine or signal is post_update:
        assert seen == {"result": 4}
        assert seen_of_delete == {"result": (1, {"live.TextKey": 1})}
    else:
        error = seen["error"]
        assert type(error) is type(seen_of_delete["error"])
        if mistake == "swallow in cursor":
            assert type(error) is InternalError
        elif mistake != "close":
            assert type(error) is TransactionManagementError
    # PostgreSQL answers COMMIT with ROLLBACK, and Django doesn't notice.
    lost = mistake == "swallow in cursor" and signal is post_update
    assert updated is bool(hooks) is (fine or lost)


@both_signals
def test_receiver_ends_transaction(signal, rows, stored, assert_usable):
    """A receiver can't end the transaction, or ask for one of its own."""
    before = stored()

    def durable():
        with transaction.atomic(durable=True):
            write(using="default")

    for end, error in (
        (transaction.commit, TransactionManagementError),
        (transaction.rollback, TransactionManagementError),
        (partial(transaction.set_autocommit, True), TransactionManagementError),
        (durable, RuntimeError),
    ):
        with connected((signal, lambda **kwargs: end())):
            seen = in_autocommit(partial(update, rows))
        assert type(seen["error"]) is error
        assert stored() == before
        assert_usable()


# Interrupts.


@pytest.mark.parametrize(
    ("call", "block", "interrupt"),
    [
        # Without aupdate(), where it would end the event loop.
        *((call, in_autocommit, KeyboardInterrupt) for call in UPDATES[1:]),
        *((update, block, KeyboardInterrupt) for block in BLOCKS[1:]),
        *((update, in_autocommit, interrupt) for interrupt in INTERRUPTS[1:]),
    ],
)
@both_signals
def test_interrupt(signal, call, block, interrupt, rows, stored, assert_usable):
    """Exceptions that aren't an Exception undo the update too."""
    before = stored()
    error = interrupt()
    fail = failing(error, at=2 if call is bulk_update else 1)
    with connected((signal, write), (signal, fail), senders=[Account, SpecialAccount]):
        seen = block(partial(call, rows))
    assert_unchanged(seen["error"], error)
    assert seen.get("goes_on", False) is (block is in_savepoint)
    if block is in_savepoint:
        before["live_textkey"] = [("outer", 0)]
    assert stored() == before
    assert_usable()


def test_interrupt_after_update(rows, stored, assert_usable):
    """An interrupt after the UPDATE, but before the receivers, undoes it."""
    before = stored()
    error = KeyboardInterrupt()

    def interrupt(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if sql.startswith("UPDATE"):
            raise error
        return result

    for receivers in ((), (pre_update,), (post_update,)):
        record = Record()
        with (
            connected(*((signal, record) for signal in receivers)),
            connection.execute_wrapper(interrupt),
        ):
            seen = in_autocommit(partial(update, rows))
        assert_unchanged(seen["error"], error)
        if receivers:
            assert stored() == before
        else:
            # Without receivers, it has been committed already.
            assert stored("live_account.points") == [2, 2, 2, 2]
            Account.objects.update(points=1, active=True)
        assert not record.posted
        assert_usable()


def test_interrupt_naive(rows, stored, assert_usable):
    """Naively, an interrupted update is committed."""
    with (
        naive.update_undone_for_exceptions_only(),
        connected((post_update, failing(KeyboardInterrupt()))),
    ):
        seen = in_autocommit(partial(update, rows))
    assert type(seen["error"]) is KeyboardInterrupt
    assert stored("live_account.points") == [2, 2, 2, 2]
    assert_usable()


# asyncio.


def run(main):
    """
    Run a coroutine whose database connection is that of another thread. Check
    that it is idle, and close it.
    """

    def finish():
        try:
            assert_idle()
        finally:
            connections.close_all()

    async def with_timeout():
        try:
            return await asyncio.wait_for(main(), TIMEOUT)
        finally:
            # This thread has one job at a time, so the update has ended.
            await sync_to_async(finish)()

    return asyncio.run(with_timeout())


async def seen_by(coroutine):
    """The counterpart of in_autocommit()."""
    try:
        return {"result": await coroutine}
    except BaseException as exc:
        return {"error": exc}


def aupdate_all():
    return Account.objects.filter(points=1).aupdate(points=2)


@both_signals
def test_async_receiver_raises(signal, rows, stored, assert_usable):
    """
    An async receiver works in the transaction of the update, and undoes it.
    """
    before = stored()
    error = Fault()
    points = []

    async def fail(queryset, using, **kwargs):
        points.append([account.points async for account in queryset])
        await IntegerKey.objects.using(using).acreate(points=7)
        raise error

    async def main():
        return await seen_by(aupdate_all())

    with connected((signal, fail)):
        seen = [run(main), in_autocommit(partial(update, rows))]
    for one in seen:
        assert one["error"] is error
        assert error.__cause__ is None
    assert points == [[1 if signal is pre_update else 2] * 4] * 2
    assert stored() == before
    assert_usable()


@both_signals
def test_async_receivers_raise(signal, rows, stored, assert_usable):
    """
    Async receivers run at once. If one raises, the other is cancelled. If both
    do, a group of their exceptions reaches the caller.
    """
    before = stored()
    errors = [Fault("one"), Fault("other")]
    started = []

    async def fail(**kwargs):
        raise errors[0]

    async def wait(**kwargs):
        started.append(wait)
        await asyncio.sleep(TIMEOUT)

    async def fail_too(**kwargs):
        try:
            await wait()
        except asyncio.CancelledError:
            raise errors[1]

    with connected((signal, wait), (signal, fail)):
        seen = in_autocommit(partial(update, rows))
    # Its context is the group that Signal.send() took it from.
    assert seen["error"] is errors[0]
    assert errors[0].__cause__ is None
    assert stored() == before
    assert_usable()
    with connected((signal, fail_too), (signal, fail)):
        seen = in_autocommit(partial(update, rows))
    assert type(seen["error"]) is ExceptionGroup
    assert list(seen["error"].exceptions) == errors
    assert seen["error"].__cause__ is None
    assert started == [wait, wait]
    assert stored() == before
    assert_usable()


@both_signals
def test_async_receiver_uses_sync_method(signal, rows, stored, assert_usable):
    """An async receiver that uses a method for synchronous code undoes it."""
    before = stored()

    async def evaluate(queryset, **kwargs):
        len(queryset)

    async def main():
        return await seen_by(aupdate_all())

    with connected((signal, evaluate)):
        for seen in (run(main), in_autocommit(partial(update, rows))):
            assert type(seen["error"]) is SynchronousOnlyOperation
    assert stored() == before
    assert_usable()


async def cancel(entered, release=None):
    """Cancel aupdate() once something is in the middle of it."""
    task = asyncio.create_task(aupdate_all())
    assert await asyncio.to_thread(entered.wait, TIMEOUT)
    task.cancel()
    if release:
        # Let the task notice first.
        await asyncio.sleep(0)
        release.set()
    return await seen_by(task)


@pytest.mark.parametrize("ignored", [False, True], ids=["raised", "ignored"])
@both_signals
def test_cancelled_in_async_receiver(signal, ignored, rows, stored, assert_usable):
    """
    Cancelling aupdate() cancels an async receiver, and undoes the update, even
    if the receiver goes on.
    """
    before = stored()
    entered, left = threading.Event(), threading.Event()

    async def wait(using, **kwargs):
        await IntegerKey.objects.using(using).acreate(points=7)
        entered.set()
        try:
            await asyncio.sleep(TIMEOUT)
        except asyncio.CancelledError:
            left.set()
            if not ignored:
                raise

    with connected((signal, wait)):
        seen = run(partial(cancel, entered))
    assert type(seen["error"]) is asyncio.CancelledError
    assert left.is_set()
    assert stored() == before
    assert_usable()


def test_cancelled_naive(rows, stored, assert_usable):
    """Naively, a cancelled update is committed."""
    entered = threading.Event()

    async def wait(**kwargs):
        entered.set()
        await asyncio.sleep(TIMEOUT)

    with naive.update_undone_for_exceptions_only(), connected((post_update, wait)):
        seen = run(partial(cancel, entered))
    assert type(seen["error"]) is asyncio.CancelledError
    assert stored("live_account.points") == [2, 2, 2, 2]
    assert_usable()


@pytest.mark.parametrize("signal", [None, pre_update, post_update])
def test_cancelled_in_sync_code(signal, rows, stored, assert_usable):
    """
    Cancelling aupdate() doesn't stop its thread. The update is finished, in a
    receiver as in the UPDATE itself.
    """
    entered, release = threading.Event(), threading.Event()

    def wait(**kwargs):
        entered.set()
        assert release.wait(TIMEOUT)

    def wrap(execute, sql, params, many, context):
        if sql.startswith("UPDATE"):
            wait()
        return execute(sql, params, many, context)

    async def main():
        if signal is None:
            # The connection is that of the thread, and is closed at the end.
            await sync_to_async(lambda: connection.execute_wrappers.append(wrap))()
        return await cancel(entered, release)

    with connected(*([(signal, wait)] if signal else [])):
        seen = run(main)
    assert type(seen["error"]) is asyncio.CancelledError
    assert stored("live_account.points") == [2, 2, 2, 2]
    assert_usable()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@both_signals
def test_interrupt_in_aupdate(signal, interrupt, rows, stored, assert_usable):
    """An interrupt of the thread that updates undoes the update."""
    before = stored()
    error = interrupt()

    async def main():
        return await seen_by(aupdate_all())

    with connected((signal, write), (signal, failing(error))):
        seen = run(main)
    assert seen["error"] is error
    assert stored() == before
    assert_usable()


# Manual transaction management.


@pytest.fixture
def manual():
    """Turn autocommit off for the test."""
    transaction.set_autocommit(False)
    yield
    if not transaction.get_autocommit():
        transaction.rollback()
        transaction.set_autocommit(True)


@pytest.fixture
def manual_rows(rows, manual):
    """Rows that were committed before autocommit was turned off."""
    return rows


# Without update_or_create(), which has a savepoint. On SQLite, a savepoint
# that isn't in a transaction is committed when it's released.
manual_updates = pytest.mark.parametrize(
    "call",
    [call for call in UPDATES if call is not update_or_create],
    ids=lambda f: f.__name__,
)


@pytest.mark.parametrize("end", [transaction.commit, transaction.rollback])
@pytest.mark.parametrize(
    "receivers", [(), (pre_update, post_update)], ids=["none", "both"]
)
@manual_updates
def test_manual(call, receivers, end, manual_rows, stored, assert_usable):
    """
    With autocommit off, the caller's commit() or rollback() ends the
    transaction of the update.
    """
    before = stored()
    hooks = []

    def hook(**kwargs):
        transaction.on_commit(lambda: hooks.append(stored() == before))

    with connected(
        *((signal, write) for signal in receivers),
        *((signal, hook) for signal in receivers),
    ):
        call(manual_rows)
    assert connection.in_atomic_block is False
    assert connection.needs_rollback is False
    assert connection.savepoint_ids == []
    assert transaction.get_autocommit() is False
    assert stored() == before
    # The caller can go on.
    TextKey.objects.create(key="outer")
    end()
    assert hooks == []
    committed = end is transaction.commit
    assert (stored() != before) is committed
    assert stored("live_textkey.points") == [0] * committed
    calls = len(stored("live_integerkey.points"))
    assert bool(calls) is (committed and bool(receivers))
    transaction.set_autocommit(True)
    # on_commit() waits for autocommit, as ever.
    assert hooks == [False] * calls
    assert_usable()


@both_signals
@manual_updates
def test_manual_receiver_raises(call, signal, manual_rows, stored, assert_usable):
    """
    With autocommit off, an exception of a receiver reaches the caller, who has
    to roll back before another query.
    """
    before = stored()
    error = Fault()
    sender = SpecialAccount if call in OF_TWO_TABLES else Account
    with connected((signal, write), (signal, failing(error)), senders=[sender]):
        seen = in_autocommit(partial(call, manual_rows))
    assert_unchanged(seen["error"], error)
    assert connection.in_atomic_block is False
    assert connection.needs_rollback is True
    with pytest.raises(TransactionManagementError):
        Account.objects.exists()
    assert stored() == before
    transaction.rollback()
    assert connection.needs_rollback is False
    assert Account.objects.exists()
    transaction.rollback()
    transaction.set_autocommit(True)
    assert stored() == before
    assert_usable()


def test_manual_naive(manual_rows, stored, assert_usable):
    """Naively, the caller's rollback() comes too late."""
    with naive.update_in_transaction_by_hand(), connected((post_update, write)):
        update(manual_rows)
    transaction.rollback()
    assert stored("live_account.points") == [2, 2, 2, 2]
    assert_usable()


@any_receivers
@pytest.mark.parametrize("call", [save, update, save_of_two_tables])
def test_manual_update_fails(
    call, receivers, manual_rows, stored, observer, assert_usable
):
    """
    With autocommit off, and without receivers, the caller of an UPDATE that
    fails may roll back to a savepoint, if the database has savepoints then.
    With receivers, the caller has to roll back everything, as after a save()
    of several tables, which is atomic by itself.
    """
    before = stored()
    atomic = bool(receivers) or call is save_of_two_tables
    with (
        failing_trigger(observer, "s" if call is save_of_two_tables else "a"),
        connected(*((signal, write) for signal in receivers)),
    ):
        TextKey.objects.create(key="outer")
        sid = transaction.savepoint_create()
        seen = in_autocommit(partial(call, manual_rows))
        assert type(seen["error"]) is IntegrityError
        assert connection.in_atomic_block is False
        assert connection.needs_rollback is atomic
        assert transaction.get_autocommit() is False
        if atomic:
            with pytest.raises(TransactionManagementError):
                TextKey.objects.exists()
            if VENDOR != "sqlite":
                with pytest.raises(TransactionManagementError):
                    transaction.savepoint_rollback(sid)
        else:
            transaction.savepoint_rollback(sid)
            assert TextKey.objects.exists()
        assert stored() == before
        transaction.rollback()
        assert connection.needs_rollback is False
        assert not TextKey.objects.exists()
        transaction.rollback()
    transaction.set_autocommit(True)
    assert stored() == before
    assert_usable()


def test_manual_commit_after_exception(manual, stored, assert_usable):
    """
    With autocommit off, commit() after the exception of a post_update receiver
    commits the update, as commit() after that of a post_delete receiver does
    the deletion. The connection has to be rolled back all the same.
    """
    for signal in (post_update, post_delete):
        TextKey.objects.create(key="a")
        transaction.commit()
        with connected((signal, failing(Fault())), senders=[TextKey]):
            keys = TextKey.objects.all()
            seen = in_autocommit(
                partial(keys.update, points=2) if signal is post_update else keys.delete
            )
        assert type(seen["error"]) is Fault
        assert connection.needs_rollback is True
        transaction.commit()
        assert stored("live_textkey.points") == ([2] if signal is post_update else [])
        assert connection.needs_rollback is True
        transaction.rollback()
        TextKey.objects.all().delete()
        transaction.commit()
    transaction.set_autocommit(True)
    assert_usable()


@has_server
@both_signals
def test_manual_connection_lost(signal, manual_rows, stored, observer, assert_usable):
    """With autocommit off, the usual way to replace a connection works."""
    before = stored()
    with connected((signal, Loser(observer))):
        seen = in_autocommit(partial(update, manual_rows))
    assert type(seen["error"]) is OperationalError
    assert connection.in_atomic_block is False
    assert connection.needs_rollback is True
    close_old_connections()
    assert stored() == before
    assert_usable()


# Requests.


def view(request):
    Owner.objects.create(name="before")
    Account.objects.filter(points=1).update(points=2)
    Owner.objects.create(name="after")
    return HttpResponse("done")


urlpatterns = [path("", view)]


@pytest.fixture(params=[True, False], ids=["atomic", "not atomic"])
def atomic_requests(request):
    """Whether each request is an atomic block."""
    with (
        override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"]),
        mock.patch.dict(connection.settings_dict, ATOMIC_REQUESTS=request.param),
    ):
        yield request.param


@pytest.mark.parametrize("fails", [False, True], ids=["works", "fails"])
@both_signals
def test_request(signal, fails, atomic_requests, rows, stored, assert_usable):
    """
    If a receiver raises, the response is an error, and nothing of an atomic
    request is left. on_commit() callbacks run once the request is committed.
    """
    hooks = []
    owners = stored("live_owner.name")

    def hook(**kwargs):
        transaction.on_commit(lambda: hooks.append(stored("live_owner.name")))

    receivers = [(signal, write), (signal, hook)]
    if fails:
        receivers.append((signal, failing(Fault())))
    with connected(*receivers):
        response = Client(raise_request_exception=False).get("/")
    if fails:
        assert response.status_code == 500
        assert response.exc_info[0] is Fault
        assert hooks == []
        # What isn't in the transaction of the update stays.
        owners += [] if atomic_requests else ["before"]
        assert stored("live_account.points") == [1, 1, 1, 1]
        assert stored("live_integerkey.points") == []
    else:
        assert response.status_code == 200
        owners += ["before", "after"]
        assert hooks == [sorted(owners if atomic_requests else owners[:-1])]
        assert stored("live_account.points") == [2, 2, 2, 2]
        assert stored("live_integerkey.points") == [7]
    assert stored("live_owner.name") == sorted(owners)
    assert_usable()


def test_request_naive(rows, stored, assert_usable):
    """
    Naively, the response is an error because the request is a transaction, or
    it isn't an error though a receiver raised.
    """
    settings = connection.settings_dict
    for variant, status in (
        (naive.update_in_durable_transaction, 500),
        (naive.update_signals_sent_robustly, 200),
    ):
        receiver = Record() if status == 500 else failing(Fault())
        with (
            override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"]),
            mock.patch.dict(settings, ATOMIC_REQUESTS=True),
            variant(),
            connected((post_update, receiver)),
        ):
            response = Client(raise_request_exception=False).get("/")
        assert response.status_code == status
    assert stored("live_account.points") == [2, 2, 2, 2]
    assert_usable()


@has_server
@both_signals
def test_next_request(signal, atomic_requests, rows, stored, observer, assert_usable):
    """After a request that lost the connection, the next one works."""
    before = stored()
    environ = RequestFactory().get("/").environ
    handler = WSGIHandler()
    loser = Loser(observer)

    def get():
        # The signals of a request check the connection.
        response = handler(dict(environ), lambda *args: None)
        response.close()
        return response.status_code

    with connected((signal, loser)):
        assert get() == 500
        assert stored()["live_account"] == before["live_account"]
        assert stored("live_integerkey.points") == []
        assert get() == 200
    assert stored("live_account.points") == [2, 2, 2, 2]
    assert stored("live_integerkey.points") == [7]
    assert_usable()


# on_commit().


@pytest.fixture
def hooked(stored):
    """
    A receiver of both signals that registers a callback, and what the
    callbacks found in the database.
    """
    found = []

    def receiver(signal, using, **kwargs):
        def hook():
            assert connection.in_atomic_block is False
            found.append((signal, stored("live_account.points")))

        transaction.on_commit(hook, using=using)

    return SimpleNamespace(
        receivers=[(signal, receiver) for signal in SIGNALS.values()],
        found=found,
        all=[(signal, [2, 2, 2, 2]) for signal in SIGNALS.values()],
    )


def test_on_commit(rows, hooked, stored, assert_usable):
    """The callbacks run once, after the commit of the outermost block."""
    with connected(*hooked.receivers):
        update(rows)
        assert hooked.found == hooked.all
        Account.objects.update(points=1)
        hooked.found.clear()
        with transaction.atomic():
            with transaction.atomic():
                update(rows)
            assert hooked.found == []
        assert hooked.found == hooked.all
    assert_usable()


@all_blocks
@both_signals
def test_on_commit_after_exception(signal, block, rows, hooked, stored, assert_usable):
    """The callbacks don't run if a receiver raises."""
    with connected(*hooked.receivers, (signal, failing(Fault()))):
        seen = block(partial(update, rows))
    assert type(seen["error"]) is Fault
    assert hooked.found == []
    assert_usable()


def test_on_commit_after_rollback(rows, hooked, stored, assert_usable):
    """The callbacks don't run if the caller's block raises."""
    error = Fault()

    def fail():
        update(rows)
        raise error

    for block in (in_block, in_savepoint):
        with connected(*hooked.receivers):
            seen = block(fail)
        assert_unchanged(seen["error"], error)
        assert hooked.found == []
        assert stored("live_account.points") == [1, 1, 1, 1]
        assert_usable()


@pytest.mark.parametrize("robust", [False, True], ids=["plain", "robust"])
def test_on_commit_raises(robust, rows, hooked, stored, assert_usable, caplog):
    """
    A callback that raises is too late to undo the update. Robust ones are
    logged; others keep the rest from running and reach the caller, as ever.
    """
    error = Fault()

    def hook():
        raise error

    def receiver(**kwargs):
        transaction.on_commit(hook, robust=robust)

    with connected((pre_update, receiver), *hooked.receivers):
        seen = in_autocommit(partial(update, rows))
    assert stored("live_account.points") == [2, 2, 2, 2]
    if robust:
        assert seen == {"result": 4}
        assert hooked.found == hooked.all
        assert [record.exc_info[1] for record in caplog.records] == [error]
    else:
        assert_unchanged(seen["error"], error)
        assert hooked.found == []
    assert_usable()


def test_on_commit_naive(rows, hooked, stored, assert_usable):
    """Naively, the callbacks run at once, before another receiver raises."""
    with (
        naive.update_without_transaction(),
        connected(*hooked.receivers, (post_update, failing(Fault()))),
    ):
        seen = in_autocommit(partial(update, rows))
    assert type(seen["error"]) is Fault
    assert hooked.found == [
        (pre_update, [1, 1, 1, 1]),
        (post_update, [2, 2, 2, 2]),
    ]
    assert_usable()


# Durable blocks.


@all_blocks
def test_durable(block, rows, stored, assert_usable):
    """An update can be in a durable block, and doesn't need to."""
    before = stored()
    error = Fault()
    if block is in_autocommit:
        call = transaction.atomic(durable=True)(update)
    else:
        call = update
    with connected((pre_update, write), (post_update, write)):
        seen = block(partial(call, rows))
        assert seen["result"] == 4
        assert stored("live_account.points") == [2, 2, 2, 2]
        assert stored("live_integerkey.points") == [7, 7]
    Account.objects.update(points=1, active=True)
    IntegerKey.objects.all().delete()
    TextKey.objects.all().delete()
    with connected((post_update, write), (post_update, failing(error))):
        seen = block(partial(call, rows))
    assert_unchanged(seen["error"], error)
    assert stored()["live_account"] == before["live_account"]
    assert_usable()


def test_durable_naive(rows, stored, assert_usable):
    """Naively, an update can't be in a block, not even in bulk_update()."""
    with (
        naive.update_in_durable_transaction(),
        connected((post_update, write)),
    ):
        for seen in (
            in_block(partial(update, rows)),
            in_autocommit(partial(bulk_update, rows)),
        ):
            assert type(seen["error"]) is RuntimeError
    assert_usable()


# A database without transactions.


@contextmanager
def without_transactions(observer):
    """
    Use what the database has without transactions: tables of MyISAM on
    MariaDB, and autocommit that stays on elsewhere.
    """
    wrapper = connections["default"]
    features = wrapper.features
    with ExitStack() as stack:
        for name in ("supports_transactions", "uses_savepoints"):
            stack.enter_context(mock.patch.object(features, name, False))
        if VENDOR == "mysql":
            with observer.cursor() as cursor:
                for table in ("live_textkey", "live_integerkey"):
                    sql = f"ALTER TABLE {table} ENGINE = "
                    cursor.execute(sql + "MyISAM")
                    stack.callback(observer.cursor().execute, sql + "InnoDB")
        else:
            names = ["_set_autocommit"]
            if VENDOR == "sqlite":
                names.append("_start_transaction_under_autocommit")
            for name in names:
                stack.enter_context(mock.patch.object(wrapper, name))
        yield


@pytest.mark.parametrize("block", [in_autocommit, in_block])
@pytest.mark.parametrize("signal", [None, pre_update, post_update])
def test_without_transactions(signal, block, stored, observer, assert_usable):
    """
    Without transactions, the signals are sent with the same keys, but an
    exception of a receiver undoes nothing. on_commit() callbacks don't run.
    """
    TextKey.objects.bulk_create([TextKey(key="a"), TextKey(key="b")])
    record, hooks, error = Record(), [], Fault()
    receivers = [
        (one, receiver)
        for one in SIGNALS.values()
        for receiver in (
            write,
            record,
            lambda **kwargs: transaction.on_commit(lambda: hooks.append(1)),
        )
    ]
    if signal is not None:
        receivers.append((signal, failing(error)))
    with without_transactions(observer):
        with connected(*receivers, senders=[TextKey]):
            seen = block(partial(TextKey.objects.filter(points=0).update, points=2))
    outer = ["outer"] * (block is in_block)
    if signal is None:
        assert seen == {"result": 2 + len(outer)}
        assert hooks == [1, 1]
    else:
        assert_unchanged(seen["error"], error)
        assert hooks == []
    if signal is pre_update:
        assert record == [pre_update]
        assert stored("live_textkey.points") == [0] * len(["a", "b", *outer])
        assert stored("live_integerkey.points") == [7]
    else:
        assert record == [pre_update, (post_update, {"a", "b", *outer})]
        assert stored("live_textkey.points") == [2] * len(["a", "b", *outer])
        assert stored("live_integerkey.points") == [7, 7]
    assert_usable()


# Receivers that update the same model.


class Nested:
    """A receiver that does something that isn't done again inside of it."""

    def __init__(self, function):
        self.function, self.running = function, False

    def __call__(self, queryset, **kwargs):
        if not self.running:
            self.running = True
            try:
                self.function(queryset)
            finally:
                self.running = False


class NestedRecord(list):
    """A receiver that appends the level of an update, its signal, and keys."""

    __hash__ = object.__hash__

    def __init__(self, nested):
        self.nested = nested

    def __call__(self, signal, queryset, pk_set=None, **kwargs):
        self.append(("inner" if self.nested.running else "outer", signal, pk_set))
        if pk_set is not None:
            assert set(queryset.values_list("pk", flat=True)) == pk_set


@contextmanager
def nested(signal, function):
    """
    Connect the receiver between others that record: before it and after it.
    """
    receiver = Nested(function)
    first, last = NestedRecord(receiver), NestedRecord(receiver)
    both = SIGNALS.values()
    with connected(
        *((one, first) for one in both),
        (signal, receiver),
        *((one, last) for one in both),
    ):
        yield first, last


@both_signals
@pytest.mark.parametrize("method", ["update", "save"])
def test_nested_update_of_other_row(signal, method, rows, stored, assert_usable):
    """
    An update in a receiver is announced in between, with its own rows. A later
    receiver of the outer update hears of the inner one first.
    """
    a, b, _ = rows.accounts

    def update_b(queryset):
        Account.objects.filter(pk=b.pk).update(points=3)

    with nested(signal, update_b) as (first, last):
        if method == "update":
            assert Account.objects.filter(pk=a.pk).update(points=2) == 1
        else:
            save(rows)
    outer = [("outer", pre_update, None), ("outer", post_update, {a.pk})]
    inner = [("inner", pre_update, None), ("inner", post_update, {b.pk})]
    if signal is pre_update:
        assert first == [outer[0], *inner, outer[1]]
        assert last == [*inner, *outer]
    else:
        assert first == [*outer, *inner]
        assert last == [outer[0], *inner, outer[1]]
    assert stored("live_account.name", "points") == [
        ("a", 2),
        ("b", 3),
        ("c", 1),
        ("s", 1),
    ]
    assert_usable()


@both_signals
def test_nested_update_of_same_rows(signal, rows, stored, assert_usable):
    """The last update wins: the outer one for pre_update, else the inner."""

    def update_again(queryset):
        assert queryset.update(points=3) == 4

    with nested(signal, update_again) as (first, last):
        assert Account.objects.filter(name__lt="t").update(points=2) == 4
    pks = set(Account.objects.values_list("pk", flat=True))
    for record in (first, last):
        assert [one for one in record if one[2]] == (
            [("inner", post_update, pks), ("outer", post_update, pks)]
            if signal is pre_update or record is last
            else [("outer", post_update, pks), ("inner", post_update, pks)]
        )
    points = 2 if signal is pre_update else 3
    assert stored("live_account.points") == [points] * 4
    assert_usable()


def test_nested_update_changes_filtered_rows(rows, stored, assert_usable):
    """
    The outer update is of the rows that match after pre_update. If none does,
    post_update isn't sent for it.
    """
    a, b, c = rows.accounts
    Account.objects.exclude(pk=a.pk).update(points=5)

    def swap(queryset):
        assert queryset.get() == a
        queryset.update(points=6)
        Account.objects.filter(name__in="bc").update(points=1)

    with nested(pre_update, swap) as (first, last):
        assert Account.objects.filter(points=1).update(active=False) == 2
    assert first[-1] == ("outer", post_update, {b.pk, c.pk})

    def take_away(queryset):
        assert queryset.update(points=7) == 2

    with nested(pre_update, take_away) as (first, last):
        assert Account.objects.filter(points=1).update(active=False) == 0
    assert [one[:2] for one in first] == [
        ("outer", pre_update),
        ("inner", pre_update),
        ("inner", post_update),
    ]
    assert stored("live_account.name", "points", "active") == [
        ("a", 6, True),
        ("b", 7, False),
        ("c", 7, False),
        ("s", 5, True),
    ]
    assert_usable()


@all_blocks
@pytest.mark.parametrize("failing_signal", SIGNALS.values(), ids=SIGNALS)
@both_signals
def test_nested_update_fails(
    signal, failing_signal, block, rows, stored, assert_usable
):
    """An exception of an inner receiver undoes the outer update too."""
    before = stored()
    error = Fault()
    receiver = Nested(lambda queryset: queryset.update(points=3))

    def fail(**kwargs):
        if receiver.running:
            raise error

    with connected((signal, write), (signal, receiver), (failing_signal, fail)):
        seen = block(partial(update, rows))
    assert_unchanged(seen["error"], error)
    if block is in_savepoint:
        before["live_textkey"] = [("outer", 0)]
    elif block is in_block_caught_inside:
        assert seen["cause"] is error
    assert stored() == before
    assert_usable()


@pytest.mark.parametrize("savepoint", [False, True], ids=["", "savepoint"])
@both_signals
def test_nested_update_fails_and_is_caught(
    signal, savepoint, rows, stored, assert_usable
):
    """
    A receiver that goes on after its update failed needs a savepoint, like
    everything in an atomic block.
    """
    before = stored()
    error = Fault()

    def update_other(queryset):
        with pytest.raises(Fault):
            with transaction.atomic() if savepoint else ExitStack():
                Account.objects.filter(name="s").update(points=3)

    receiver = Nested(update_other)

    def fail(**kwargs):
        if receiver.running:
            raise error

    with connected((signal, receiver), (post_update, fail)):
        seen = in_autocommit(Account.objects.filter(name__in="abc").update, points=2)
    if savepoint:
        assert seen == {"result": 3}
        assert stored("live_account.points") == [1, 2, 2, 2]
    else:
        if signal is pre_update:
            assert type(seen["error"]) is TransactionManagementError
            assert seen["error"].__cause__ is error
        else:
            # As in test_receiver_mistakes().
            assert seen == {"result": 3}
        assert stored() == before
    assert_usable()


@both_signals
def test_recursion(signal, rows, stored, assert_usable):
    """A receiver that doesn't stop updating ends in a RecursionError."""
    before = stored()
    calls = []

    def recurse(queryset, **kwargs):
        calls.append(1)
        queryset.update(points=F("points") + 1)

    with connected((signal, recurse)):
        seen = in_autocommit(partial(update, rows))
    assert type(seen["error"]) is RecursionError
    assert len(calls) > 5
    assert stored() == before
    assert_usable()


# Instances.


@both_signals
def test_instances(signal, rows, stored, assert_usable):
    """
    An instance whose save() or delete() failed is as it was, and can be saved
    or deleted again.
    """
    expression = F("points") + 1
    rows.a.points = expression
    pk = rows.ann.pk
    with connected((signal, failing(Fault()))):
        assert type(in_autocommit(rows.a.save)["error"]) is Fault
    assert rows.a.points is expression
    with connected((signal, failing(Fault()))):
        assert type(in_autocommit(rows.ann.delete)["error"]) is Fault
    assert rows.ann.pk == pk
    rows.a.save()
    rows.ann.delete()
    assert rows.ann.pk is None
    assert stored("live_account.name", "points", "owner_id")[0] == ("a", 2, None)
    assert_usable()


def test_save_that_inserts(rows, stored, assert_usable):
    """
    If save() tries an UPDATE first, and then has to INSERT, pre_update can
    prevent both. But its transaction is that of the UPDATE only: what a
    receiver wrote stays if the INSERT fails.
    """
    before = stored()
    error = Fault()
    account = Account(pk=10**6, name=None)
    with connected((pre_update, write), (pre_update, failing(error))):
        assert_unchanged(in_autocommit(account.save)["error"], error)
    assert account._state.adding is True
    assert stored() == before
    assert_usable()
    with connected((pre_update, write)):
        seen = in_autocommit(account.save)
    assert type(seen["error"]) is IntegrityError
    assert account._state.adding is True
    assert stored()["live_account"] == before["live_account"]
    assert stored("live_integerkey.points") == [7]
    assert_usable()


def test_save_that_updates_nothing(rows, stored, assert_usable):
    """An UPDATE of no row commits what receivers of pre_update wrote."""
    rows.a.pk = 10**6
    with connected((pre_update, write), (post_update, write)):
        seen = in_autocommit(partial(rows.a.save, force_update=True))
    assert type(seen["error"]) is Account.NotUpdated
    assert stored("live_integerkey.points") == [7]
    assert_usable()
