"""
Updates of more rows than a statement takes in the usual way.

The limits are lowered, or just passed. sizes.py measures a million rows.
"""

import uuid
from contextlib import contextmanager

import pytest
from django.db import DatabaseError, connection
from django.db.models.signals import post_update

from live import naive
from live.models import CompositeKey, IntegerKey, TextKey, UUIDKey

ROWS = 20_000
# SQLite's own limit is 32,766 in most builds, and 250,000 in Debian's.
SQLITE_PARAMS = 10_000
MODELS = [IntegerKey, TextKey, UUIDKey, CompositeKey]


@pytest.fixture(autouse=True)
def lower_limit():
    """Let SQLite take fewer parameters than there are rows."""
    if connection.vendor != "sqlite":
        yield
        return
    connection.ensure_connection()
    limit = connection.Database.SQLITE_LIMIT_VARIABLE_NUMBER
    old = connection.connection.setlimit(limit, SQLITE_PARAMS)
    yield
    connection.connection.setlimit(limit, old)


def fill(model):
    """Create the rows of a model."""
    make = {
        IntegerKey: lambda number: IntegerKey(),
        TextKey: lambda number: TextKey(key=f'it\'s {number} % of "\\" é'),
        UUIDKey: lambda number: UUIDKey(key=uuid.uuid4()),
        CompositeKey: lambda number: CompositeKey(tenant=number % 7, number=number),
    }[model]
    model.objects.bulk_create([make(number) for number in range(ROWS)], 1000)


@contextmanager
def receivers(model, look):
    """Connect a receiver that looks at the rows, and give what it found."""
    found = []

    def receiver(queryset, pk_set, **kwargs):
        found.append(look(queryset, pk_set))

    post_update.connect(receiver, sender=model)
    try:
        yield found
    finally:
        post_update.disconnect(receiver, sender=model)


def look(queryset, pk_set):
    """Do with the rows what a receiver may do."""
    return (
        len(pk_set),
        queryset.count(),
        queryset.filter(points=1).exclude(points=0).count(),
        {instance.pk for instance in queryset.iterator()} == pk_set,
        queryset.order_by("-pk")[:10][9].points,
        queryset.delete()[0],
    )


@pytest.mark.parametrize("model", MODELS)
def test_many_rows(model):
    """The queryset can be evaluated whatever the number of rows."""
    fill(model)
    with receivers(model, look) as found:
        assert model.objects.filter(points=0).update(points=1) == ROWS
    assert found == [(ROWS, ROWS, ROWS, True, 1, ROWS)]
    assert not model.objects.exists()


@pytest.mark.parametrize("model", MODELS)
def test_naive_list(model):
    """If each value of the list is a parameter, databases refuse some."""
    message = {
        ("sqlite", model): "too many SQL variables",
        ("postgresql", CompositeKey): "stack depth limit exceeded",
    }.get((connection.vendor, model))
    if not message:
        pytest.skip("the database takes such lists")
    fill(model)
    with receivers(model, look), naive.lists_as_parameters():
        with pytest.raises(DatabaseError, match=message):
            model.objects.filter(points=0).update(points=1)
    assert model.objects.filter(points=0).count() == ROWS


@pytest.fixture
def short_packets():
    """Let MariaDB take statements of 256 KiB only."""
    if connection.vendor != "mysql":
        pytest.skip("other databases have no such limit")
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@GLOBAL.max_allowed_packet")
        (old,) = cursor.fetchone()
        try:
            cursor.execute("SET GLOBAL max_allowed_packet = 262144")
        except DatabaseError:
            pytest.skip("the user may not change the limit")
    # It counts for new connections.
    connection.close()
    yield
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("SET GLOBAL max_allowed_packet = %s", [old])
    connection.close()


def test_long_statement(short_packets):
    """The update is split where one statement for all keys is too long."""
    fill(UUIDKey)
    with receivers(UUIDKey, lambda queryset, pk_set: len(pk_set)) as found:
        assert UUIDKey.objects.update(points=1) == ROWS
    assert found == [ROWS]
    assert UUIDKey.objects.filter(points=1).count() == ROWS


def test_naive_long_statement(short_packets):
    """If it's not split, the server ends the connection."""
    fill(UUIDKey)
    with receivers(UUIDKey, lambda queryset, pk_set: len(pk_set)):
        with naive.update_in_one_statement():
            with pytest.raises(DatabaseError):
                UUIDKey.objects.update(points=1)
    connection.close()
    assert UUIDKey.objects.filter(points=0).count() == ROWS


def test_queryset_of_long_keys(short_packets):
    """
    A known limit: on MariaDB, the queryset can't be evaluated if the keys are
    longer than a statement. The update is undone.
    """
    fill(UUIDKey)
    with receivers(UUIDKey, look):
        with pytest.raises(DatabaseError):
            UUIDKey.objects.update(points=1)
    connection.close()
    assert UUIDKey.objects.filter(points=0).count() == ROWS
