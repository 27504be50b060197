"""
Other connections that write while an update with receivers runs, on servers.

The rows that get TOKEN must always be the ones that are sent, whatever
another transaction does meanwhile. Statements that have to wait fail at once
on the other connection, so no test waits for them.
"""

import threading
import time
from contextlib import contextmanager

import pytest
from django.db import NotSupportedError, OperationalError, connection
from django.db.models import F
from django.db.models.signals import post_update, pre_update

from live import naive
from live.models import Account, East, Owner, SpecialAccount, West

pytestmark = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="needs a server: test --db NAME"
)
POSTGRES = connection.vendor == "postgresql"
TOKEN = "updated"
SECONDS = 30
CHANGES = ["starts to match", "stops to match", "is deleted", "is inserted"]

no_returning = pytest.mark.skipif(
    connection.features.can_return_rows_from_update,
    reason="the rows aren't selected first",
)


@pytest.fixture(params=["READ COMMITTED", "REPEATABLE READ"])
def isolation(request):
    """Run the updates at each isolation level."""
    set_isolation(request.param)
    yield request.param
    connection.close()


def set_isolation(level):
    characteristics = "CHARACTERISTICS AS " if POSTGRES else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SET SESSION {characteristics}TRANSACTION ISOLATION LEVEL {level}"
        )


@pytest.fixture
def other():
    """Another connection, which hardly waits for locks."""
    other = connection.copy()
    execute(
        other,
        (
            "SET lock_timeout = '200ms'"
            if POSTGRES
            else "SET SESSION innodb_lock_wait_timeout = 1"
        ),
    )
    yield other
    other.close()


def execute(other, sql, *params):
    with other.cursor() as cursor:
        cursor.execute(sql, params)


class Rows:
    """Three rows, of which the updates select the first two."""

    def __init__(self):
        self.owner = Owner.objects.create(name="selected")
        no_owner = Owner.objects.create(name="not selected")
        self.a, self.b, self.c = [
            SpecialAccount.objects.create(name=name, points=points, owner=owner)
            for name, points, owner in [
                ("a", 1, self.owner),
                ("b", 1, self.owner),
                ("c", 2, no_owner),
            ]
        ]

    def change(self, other, what):
        """
        Make another transaction change what matches points=1. Return whether
        it has to wait.
        """
        update = "UPDATE live_account SET points = %s WHERE id = %s"
        table = "live_specialaccount"
        for sql, *params in {
            "starts to match": [(update, 1, self.c.pk)],
            "stops to match": [(update, 2, self.b.pk)],
            "is deleted": [
                (f"DELETE FROM {table} WHERE account_ptr_id = %s", self.b.pk),
                ("DELETE FROM live_account WHERE id = %s", self.b.pk),
            ],
            "is inserted": [
                (
                    "INSERT INTO live_account (name, points, active) "
                    "VALUES ('d', 1, true)",
                )
            ],
        }[what]:
            try:
                execute(other, sql, *params)
            except OperationalError:
                return True
        return False


@contextmanager
def receivers(model, before=None):
    """Connect receivers, and give the set of the keys that were sent."""
    sent = set()

    def pre(queryset, **kwargs):
        before(queryset)

    def post(queryset, pk_set, **kwargs):
        assert {instance.pk for instance in queryset} == pk_set
        sent.update(pk_set)

    if before:
        pre_update.connect(pre, sender=model)
    post_update.connect(post, sender=model)
    try:
        yield sent
    finally:
        pre_update.disconnect(pre, sender=model)
        post_update.disconnect(post, sender=model)


@contextmanager
def before_update(action):
    """
    Call action() before the first UPDATE that this connection executes. Give a
    list with what it returns.
    """
    called = []

    def wrapper(execute, sql, params, many, context):
        if sql.startswith("UPDATE") and not called:
            called.append(action())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrapper):
        yield called
    assert called


def updated():
    """Return the keys of the rows that have been updated."""
    return set(Account.objects.filter(name=TOKEN).values_list("pk", flat=True))


@pytest.mark.parametrize("reads", [False, True], ids=["doesn't read", "reads"])
@pytest.mark.parametrize("what", CHANGES)
def test_change_before_update(isolation, other, what, reads):
    """A row changes between pre_update and the UPDATE."""
    rows = Rows()

    def change(queryset):
        if reads:
            assert {account.pk for account in queryset} == {rows.a.pk, rows.b.pk}
        rows.change(other, what)

    def update():
        return Account.objects.filter(points=1).update(name=TOKEN)

    snapshot = POSTGRES and isolation == "REPEATABLE READ" and reads
    with receivers(Account, change) as sent:
        if snapshot and what in ("stops to match", "is deleted"):
            # With a snapshot, PostgreSQL doesn't update what has changed.
            with pytest.raises(OperationalError, match="could not serialize"):
                update()
            assert updated() == set()
            return
        count = update()
    assert updated() == sent
    assert count == len(updated())
    assert rows.a.pk in updated()
    assert (rows.b.pk in updated()) == (what in ("starts to match", "is inserted"))
    if what in ("starts to match", "is inserted"):
        # A snapshot that was taken before hides it.
        assert count == (2 if snapshot else 3)


@pytest.mark.parametrize("what", CHANGES)
@no_returning
def test_change_after_selection(isolation, other, what):
    """A row changes between the SELECT of the rows and the UPDATE."""
    rows = Rows()
    with receivers(Account) as sent:
        with before_update(lambda: rows.change(other, what)) as waits:
            count = Account.objects.filter(points=1).update(name=TOKEN)
    assert updated() == sent == {rows.a.pk, rows.b.pk}
    assert count == 2
    if what in ("stops to match", "is deleted"):
        # The row is locked.
        assert waits == [True]


@pytest.mark.parametrize("what", CHANGES)
def test_two_tables(isolation, other, what):
    """A row changes between the SELECT of two tables and the first UPDATE."""
    rows = Rows()
    with receivers(SpecialAccount) as sent, receivers(Account) as ancestors:
        with before_update(lambda: rows.change(other, what)) as waits:
            queryset = SpecialAccount.objects.filter(points=1)
            assert queryset.update(name=TOKEN, level=5) == 2
    levels = set(SpecialAccount.objects.filter(level=5).values_list("pk", flat=True))
    assert levels == updated() == sent == ancestors == {rows.a.pk, rows.b.pk}
    if what in ("stops to match", "is deleted"):
        # The rows of both tables are locked.
        assert waits == [True]


def test_references(isolation, other):
    """On PostgreSQL, rows can be referred to while they are updated."""
    if not POSTGRES:
        pytest.skip("its locks have no such strength")
    west = West.objects.create(x=1)
    sql = "INSERT INTO live_east (east_top_id, e) VALUES (%s, 1)"

    def insert():
        try:
            execute(other, sql, west.pk)
        except OperationalError as exc:
            return str(exc)

    with receivers(West) as sent, before_update(insert) as problems:
        West.objects.filter(x=1).update(x=2, w=2)
    assert sent == {west.pk}
    assert problems == [None]
    East.objects.get().delete(keep_parents=True)
    with naive.rows_locked_against_references(), receivers(West):
        with before_update(insert) as problems:
            West.objects.filter(x=2).update(x=3, w=3)
    assert "lock timeout" in problems[0]


def blocked(connection):
    """Return whether a connection of this database waits for a lock."""
    sql = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        "AND datname = current_database()"
        if POSTGRES
        else "SELECT count(*) FROM information_schema.innodb_trx "
        "WHERE trx_state = 'LOCK WAIT'"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0] > 0


def update_that_waits(other, rows, update, isolation):
    """
    Call update() in another thread, let a row that it waits for stop to match,
    and return its result or its exception.
    """
    results = []

    def run():
        try:
            set_isolation(isolation)
            results.append(update())
        except Exception as exc:
            results.append(exc)
        finally:
            connection.close()

    other.set_autocommit(False)
    assert not rows.change(other, "stops to match")
    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + SECONDS
    while not blocked(connection):
        assert time.monotonic() < deadline and thread.is_alive()
        # MariaDB doesn't refresh the table while it's read all the time.
        time.sleep(0.2)
    other.commit()
    other.set_autocommit(True)
    thread.join(SECONDS)
    assert not thread.is_alive()
    return results[0]


FILTERS = {
    "column": lambda: Account.objects.filter(points=1),
    "join": lambda: Account.objects.filter(owner__name="selected", points=1),
    "distinct": lambda: Account.objects.filter(points=1).distinct(),
    "ancestor": lambda: SpecialAccount.objects.filter(points=1),
    "ancestor, distinct": lambda: SpecialAccount.objects.filter(points=1).distinct(),
}


@pytest.mark.parametrize("by", FILTERS)
def test_waits_for_writer(isolation, other, by):
    """
    A row stops to match while the update waits for it: it isn't overwritten,
    and not sent.
    """
    rows = Rows()
    queryset = FILTERS[by]()
    values = {"name": TOKEN, **({"level": 5} if "ancestor" in by else {})}
    with receivers(queryset.model) as sent:
        result = update_that_waits(
            other, rows, lambda: queryset.update(**values), isolation
        )
    if POSTGRES and isolation == "REPEATABLE READ":
        assert "could not serialize" in str(result)
        assert updated() == set() == sent
        return
    # PostgreSQL looks at the row's own columns again when it has waited, but
    # not at a subquery's result: it does the same without receivers.
    again = {rows.b.pk} if POSTGRES and by == "join" else set()
    assert updated() == sent == {rows.a.pk, *again}
    assert result == len(sent)


def test_many_writers():
    """Updates that run at once send each change of a row."""
    rows = Rows()
    sent, problems = [], []

    def count(pk_set, **kwargs):
        sent.extend(pk_set)

    def run():
        queryset = SpecialAccount.objects.filter(level__lt=25)
        try:
            for _ in range(20):
                before = len(sent)
                try:
                    queryset.update(level=F("level") + 1, points=F("points") + 1)
                except OperationalError as exc:
                    # The other one goes on.
                    assert "eadlock" in str(exc) and before <= len(sent)
        except BaseException as exc:
            problems.append(exc)
        finally:
            connection.close()

    post_update.connect(count, sender=Account)
    try:
        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
    finally:
        post_update.disconnect(count, sender=Account)
    assert not problems
    for row in (rows.a, rows.b, rows.c):
        level, points = row.level, row.points
        row.refresh_from_db()
        assert row.level - level == row.points - points == 25
        assert sent.count(row.pk) == 25


def test_save_of_deleted_row(isolation, other):
    """A row that's deleted before the UPDATE of save() is inserted again."""
    account = Account.objects.create(name="a", points=1)

    def delete(queryset):
        execute(other, "DELETE FROM live_account WHERE id = %s", account.pk)

    with receivers(Account, delete) as sent:
        account.name = TOKEN
        account.save()
    assert updated() == {account.pk}
    assert sent == set()


# Naive variants.


def refused(update):
    """Return whether Django sees itself that other rows are updated."""
    try:
        update()
    except NotSupportedError:
        return True
    return False


def test_naive_keys_of_pre_update(other):
    """Keys that were collected in pre_update aren't those that are updated."""
    rows = Rows()

    def change(queryset):
        rows.change(other, "starts to match")

    set_isolation("READ COMMITTED")
    with naive.keys_of_pre_update(), receivers(Account, change) as sent:
        Account.objects.filter(points=1).update(name=TOKEN)
    connection.close()
    assert updated() - sent == {rows.c.pk}


@pytest.mark.parametrize("model", [Account, SpecialAccount])
def test_naive_selection_without_lock(other, model):
    """Without a lock, a row that no longer matches is overwritten."""
    if model is Account and connection.features.can_return_rows_from_update:
        pytest.skip("the rows aren't selected first")
    rows = Rows()
    values = {"name": TOKEN, **({"level": 5} if model is SpecialAccount else {})}
    queryset = model.objects.filter(points=1)
    with naive.rows_selected_without_lock(), receivers(model):
        with before_update(lambda: rows.change(other, "stops to match")):
            was_refused = refused(lambda: queryset.update(**values))
    rows.b.refresh_from_db()
    assert (rows.b.points, rows.b.name) == (2, "b" if was_refused else TOKEN)


@no_returning
def test_naive_original_filter(other):
    """With a lock but the original filter, a row isn't sent."""
    rows = Rows()
    set_isolation("READ COMMITTED")
    queryset = Account.objects.filter(points=1)
    with naive.update_by_original_filter(), receivers(Account) as sent:
        with before_update(lambda: rows.change(other, "starts to match")):
            was_refused = refused(lambda: queryset.update(name=TOKEN))
    connection.close()
    assert updated() - sent == (set() if was_refused else {rows.c.pk})


def test_naive_lock_through_subquery(other):
    """If a subquery reads a snapshot, as on MySQL, a row is overwritten."""
    if POSTGRES or connection.mysql_is_mariadb:
        pytest.skip("subqueries of statements that lock don't read a snapshot")
    rows = Rows()
    queryset = FILTERS["distinct"]()

    def update():
        # In the thread that updates, since each has connections of its own.
        with naive.rows_locked_through_subquery():
            return refused(lambda: queryset.update(name=TOKEN))

    with receivers(Account) as sent:
        was_refused = update_that_waits(other, rows, update, "REPEATABLE READ")
    assert updated() == sent == (set() if was_refused else {rows.a.pk, rows.b.pk})
