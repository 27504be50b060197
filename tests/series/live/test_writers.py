"""
Other connections that write while an update with receivers runs, on servers.

The rows that get TOKEN must always be the ones that are announced, whatever
another transaction does meanwhile. Statements that have to wait fail at once
on the other connection, so no test waits for them.
"""

import threading
import time
from contextlib import contextmanager

import pytest
from django.db import OperationalError, connection
from django.db.models.signals import post_update, pre_update

from live import naive
from live.models import Account, IntegerKey, Owner, SpecialAccount

pytestmark = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="it has one writer: test_sqlite_writers.py"
)
TOKEN = "updated"
ISOLATION_LEVELS = ["READ COMMITTED", "REPEATABLE READ"]
SECONDS = 30


@pytest.fixture(params=ISOLATION_LEVELS)
def isolation(request):
    """Run the updates at each isolation level."""
    set_isolation(connection, request.param)
    yield request.param
    connection.close()


def set_isolation(connection, level):
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                f"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {level}"
            )
        else:
            cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")


@pytest.fixture
def other():
    """Another connection, which hardly waits for locks."""
    other = connection.copy()
    with other.cursor() as cursor:
        if other.vendor == "postgresql":
            cursor.execute("SET lock_timeout = '200ms'")
        else:
            cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
    yield other
    other.close()


def execute(other, sql, *params):
    with other.cursor() as cursor:
        cursor.execute(sql, params)


class Rows:
    """Three rows, of which the updates select the first two."""

    def __init__(self, model=SpecialAccount):
        self.owner = Owner.objects.create(name="selected")
        no_owner = Owner.objects.create(name="not selected")
        self.a, self.b, self.c = [
            model.objects.create(name=name, points=points, owner=owner)
            for name, points, owner in [
                ("a", 1, self.owner),
                ("b", 1, self.owner),
                ("c", 2, no_owner),
            ]
        ]

    def change(self, other, what):
        """Make another transaction change what matches points=1."""
        if what == "starts to match":
            execute(
                other, "UPDATE live_account SET points = 1 WHERE id = %s", self.c.pk
            )
        elif what == "stops to match":
            execute(
                other, "UPDATE live_account SET points = 2 WHERE id = %s", self.b.pk
            )
        elif what == "is deleted":
            execute(
                other,
                "DELETE FROM live_specialaccount WHERE account_ptr_id = %s",
                self.b.pk,
            )
            execute(other, "DELETE FROM live_account WHERE id = %s", self.b.pk)
        elif what == "is inserted":
            execute(
                other,
                "INSERT INTO live_account (name, points, active) VALUES (%s, 1, true)",
                "d",
            )


CHANGES = ["starts to match", "stops to match", "is deleted", "is inserted"]


@contextmanager
def receivers(model, before=None):
    """Connect receivers, and give the list of what post_update announced."""
    announced = []

    def pre(queryset, **kwargs):
        before(queryset)

    def post(queryset, pk_set, **kwargs):
        assert {instance.pk for instance in queryset} == pk_set
        announced.append(pk_set)

    if before:
        pre_update.connect(pre, sender=model)
    post_update.connect(post, sender=model)
    try:
        yield announced
    finally:
        pre_update.disconnect(pre, sender=model)
        post_update.disconnect(post, sender=model)


@contextmanager
def before_update(action):
    """Call action() before the first UPDATE that this connection executes."""
    called = []

    def wrapper(execute, sql, params, many, context):
        if sql.startswith("UPDATE") and not called:
            called.append(True)
            action()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrapper):
        yield
    assert called


def updated():
    """Return the keys of the rows that have been updated."""
    return set(Account.objects.filter(name=TOKEN).values_list("pk", flat=True))


def union(announced):
    return set().union(*announced)


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

    # With a snapshot of its own, PostgreSQL doesn't update what has changed.
    fails = (
        connection.vendor == "postgresql"
        and isolation == "REPEATABLE READ"
        and reads
        and what in ("stops to match", "is deleted")
    )
    with receivers(Account, change) as announced:
        if fails:
            with pytest.raises(OperationalError, match="could not serialize"):
                update()
            assert updated() == set()
            return
        count = update()
    assert updated() == union(announced)
    assert count == len(updated())
    assert rows.a.pk in updated()
    assert (rows.b.pk in updated()) == (what in ("starts to match", "is inserted"))
    # A snapshot that was taken before hides it.
    hidden = connection.vendor == "postgresql" and isolation != "READ COMMITTED"
    if what in ("starts to match", "is inserted"):
        assert count == (2 if hidden and reads else 3)


def test_naive_keys_before_update(other):
    """Keys that were collected in pre_update aren't those that are updated."""
    rows = Rows()

    def change(queryset):
        rows.change(other, "starts to match")

    set_isolation(connection, "READ COMMITTED")
    with naive.keys_of_pre_update(), receivers(Account, change) as announced:
        Account.objects.filter(points=1).update(name=TOKEN)
    connection.close()
    assert updated() - union(announced) == {rows.c.pk}


@pytest.mark.parametrize("what", CHANGES)
def test_change_after_selection(isolation, other, what):
    """A row changes between the SELECT of the rows and the UPDATE."""
    if connection.features.can_return_rows_from_update:
        pytest.skip("the rows aren't selected first")
    rows = Rows()
    waits = []

    def change():
        try:
            rows.change(other, what)
        except OperationalError:
            waits.append(what)

    with receivers(Account) as announced, before_update(change):
        count = Account.objects.filter(points=1).update(name=TOKEN)
    assert updated() == union(announced) == {rows.a.pk, rows.b.pk}
    assert count == 2
    if what in ("stops to match", "is deleted"):
        # The row is locked.
        assert waits


def test_naive_selection_without_lock(other):
    """Without a lock, a row that no longer matches is overwritten."""
    if connection.features.can_return_rows_from_update:
        pytest.skip("the rows aren't selected first")
    rows = Rows()
    with naive.rows_selected_without_lock(), receivers(Account):
        with before_update(lambda: rows.change(other, "stops to match")):
            Account.objects.filter(points=1).update(name=TOKEN)
    rows.b.refresh_from_db()
    assert (rows.b.points, rows.b.name) == (2, TOKEN)


def test_naive_original_filter(other):
    """With a lock but the original filter, a row isn't announced."""
    if connection.features.can_return_rows_from_update:
        pytest.skip("the rows aren't selected first")
    rows = Rows()
    set_isolation(connection, "READ COMMITTED")
    with naive.update_not_limited_to_selected_rows(), receivers(Account) as announced:
        with before_update(lambda: rows.change(other, "starts to match")):
            Account.objects.filter(points=1).update(name=TOKEN)
    connection.close()
    assert updated() - union(announced) == {rows.c.pk}


@pytest.fixture
def locked_row(other):
    """Two hundred rows, of which another transaction has locked the last."""
    IntegerKey.objects.bulk_create([IntegerKey(points=n) for n in range(200)])
    last = IntegerKey.objects.latest("pk")
    other.set_autocommit(False)
    execute(other, "SELECT * FROM live_integerkey WHERE id = %s FOR UPDATE", last.pk)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET lock_timeout = '200ms'")
        else:
            cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
    yield last
    connection.close()
    other.rollback()
    other.set_autocommit(True)


@pytest.mark.parametrize("rows", [1, 50, 150])
def test_does_not_wait_for_other_rows(isolation, locked_row, rows):
    """Rows that the update doesn't select aren't waited for."""
    queryset = IntegerKey.objects.filter(pk__lte=locked_row.pk - 200 + rows)
    with receivers(IntegerKey) as announced:
        assert queryset.update(points=5) == rows
    assert len(union(announced)) == rows


def test_naive_keys_without_limit(locked_row):
    """MariaDB scans the table for the keys, and waits for the locked row."""
    if connection.features.can_return_rows_from_update:
        pytest.skip("the rows aren't selected first")
    set_isolation(connection, "REPEATABLE READ")
    queryset = IntegerKey.objects.filter(pk__lt=locked_row.pk - 50)
    assert queryset.update(points=5) == 149
    with naive.keys_without_limit(), receivers(IntegerKey):
        with pytest.raises(OperationalError, match="Lock wait timeout"):
            queryset.update(points=6)


@pytest.mark.parametrize("what", CHANGES)
def test_two_tables(isolation, other, what):
    """An update of two tables announces the rows of both that it updated."""
    rows = Rows()
    waits = []

    def change():
        try:
            rows.change(other, what)
        except OperationalError:
            waits.append(what)

    def update():
        return SpecialAccount.objects.filter(points=1).update(name=TOKEN, level=5)

    with receivers(SpecialAccount) as announced, receivers(Account) as parents:
        with before_update(change):
            if (
                connection.vendor == "postgresql"
                and isolation == "REPEATABLE READ"
                and what == "stops to match"
            ):
                # The row of the ancestor isn't locked before.
                with pytest.raises(OperationalError, match="could not serialize"):
                    update()
                count = 0
            else:
                count = update()
    levels = set(SpecialAccount.objects.filter(level=5).values_list("pk", flat=True))
    assert levels == updated() == union(announced) == union(parents)
    assert count == len(levels)
    assert count or what == "stops to match"
    if what == "is deleted":
        assert waits


def blocked(connection):
    """Return whether a connection of this database waits for a lock."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND datname = current_database()"
            )
        else:
            cursor.execute(
                "SELECT count(*) FROM information_schema.innodb_trx "
                "WHERE trx_state = 'LOCK WAIT'"
            )
        return cursor.fetchone()[0] > 0


@pytest.mark.parametrize("has_receivers", [False, True], ids=["without", "with"])
@pytest.mark.parametrize("by", ["column", "join", "distinct"])
def test_waits_for_writer(isolation, other, by, has_receivers):
    """
    Another transaction has changed a row that the update waits for.

    With receivers, the update ends like without them, and announces its rows.
    """
    rows = Rows()
    problems, results = [], []

    def update():
        queryset = {
            "column": Account.objects.filter(points=1),
            "join": Account.objects.filter(owner__name="selected", points=1),
            "distinct": Account.objects.filter(points=1).distinct(),
        }[by]
        try:
            set_isolation(connection, isolation)
            results.append(queryset.update(name=TOKEN))
        except Exception as exc:
            problems.append(exc)
        finally:
            connection.close()

    with receivers(Account) if has_receivers else receivers(Owner) as announced:
        other.set_autocommit(False)
        rows.change(other, "stops to match")
        thread = threading.Thread(target=update)
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
    if connection.vendor == "postgresql" and isolation == "REPEATABLE READ":
        assert "could not serialize" in str(problems[0])
        assert updated() == set() == union(announced)
        return
    assert not problems
    if has_receivers:
        assert updated() == union(announced)
    assert results == [len(updated())]
    # PostgreSQL looks at the row's own columns again when it has waited, but
    # not at a subquery's result.
    again = connection.vendor == "mysql" or by != "join"
    assert (rows.b.pk not in updated()) == again


def test_save_of_deleted_row(isolation, other):
    """A row that's deleted before the UPDATE of save() is inserted again."""
    account = Account.objects.create(name="a", points=1)

    def delete(queryset):
        execute(other, "DELETE FROM live_account WHERE id = %s", account.pk)

    with receivers(Account, delete) as announced:
        account.name = TOKEN
        account.save()
    assert updated() == {account.pk}
    assert announced == []
