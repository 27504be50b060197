"""What docs/ref/databases.txt says of post_update on MySQL and MariaDB."""

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.db.models.signals import post_update

from live.models import Account, Owner, TextKey

pytestmark = pytest.mark.skipif(
    connection.vendor != "mysql", reason="needs test --db mariadb, or mysql"
)


def ignore(**kwargs):
    """A receiver that does nothing."""


@pytest.fixture(params=["alone", "with a receiver"])
def has_receiver(request, connect):
    """Run the test without a receiver, and with one of post_update."""
    if request.param == "alone":
        return False
    connect(post_update, ignore)
    return True


@pytest.fixture
def other():
    """A second connection."""
    other = connections.create_connection("default")
    yield other
    other.close()


@pytest.fixture
def small_packets(other):
    """Let the server refuse statements of more than 64 kB."""
    with other.cursor() as cursor:
        cursor.execute("SELECT @@datadir, @@GLOBAL.max_allowed_packet")
        [(directory, size)] = cursor.fetchall()
        if "/series-" not in directory:
            pytest.skip("it changes a setting of the server, not for a given one")
        cursor.execute("SET GLOBAL max_allowed_packet = 65536")
        connection.close()
        yield
        connection.close()
        cursor.execute("SET GLOBAL max_allowed_packet = %s", [size])


def test_max_allowed_packet(has_receiver, small_packets):
    """The keys must fit in a statement; if they don't, nothing is updated."""
    for first in range(0, 2000, 500):
        TextKey.objects.bulk_create(
            TextKey(key=f"{number:050}") for number in range(first, first + 500)
        )
    few = TextKey.objects.filter(key__lt=f"{500:050}")
    assert few.update(points=1) == 500
    if has_receiver:
        with pytest.raises(OperationalError):
            TextKey.objects.update(points=2)
        connection.close()
        assert TextKey.objects.filter(points=2).count() == 0
    else:
        assert TextKey.objects.update(points=2) == 2000


@pytest.mark.parametrize("level", ["read committed", "repeatable read"])
def test_subquery_of_filter(has_receiver, other, level):
    """At REPEATABLE READ, it reads the snapshot if rows are selected first."""
    owner = Owner.objects.create(name="ann")
    Account.objects.create(owner=owner)
    options = connection.settings_dict["OPTIONS"]
    before = options.get("isolation_level")
    connection.close()
    options["isolation_level"] = level
    try:
        with transaction.atomic():
            # The snapshot is that of the first read.
            assert Owner.objects.get().name == "ann"
            with other.cursor() as cursor:
                cursor.execute("UPDATE live_owner SET name = 'bob'")
            subquery = Owner.objects.filter(name="bob").values("pk")
            updated = Account.objects.filter(owner__in=subquery).update(points=1)
    finally:
        connection.close()
        options["isolation_level"] = before
    assert updated == (not has_receiver or level == "read committed")
