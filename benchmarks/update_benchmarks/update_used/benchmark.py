from ...utils import (
    Numbers,
    bench_setup,
    fill,
    raw_connection,
    settle,
    update_signals,
)
from .models import Row, WithPkSet, WithQuerySet


class UpdateUsed:
    """
    An update of all rows of a table with receivers that learn which they are,
    and the raw driver doing the same.
    """

    params = [1, 100, 10000, 100000, 1000000]
    param_names = ["rows"]

    def setup(self, rows):
        from django.db import connection

        update_signals()
        bench_setup(migrate=True)
        fill(Row, rows)
        self.rows = rows
        self.number = Numbers()
        self.vendor = connection.vendor
        self.raw = raw_connection()
        signal = update_signals()[1]
        signal.connect(self.take_pk_set, sender=WithPkSet)
        signal.connect(self.evaluate_queryset, sender=WithQuerySet)

    def teardown(self, rows):
        signal = update_signals()[1]
        signal.disconnect(self.take_pk_set, sender=WithPkSet)
        signal.disconnect(self.evaluate_queryset, sender=WithQuerySet)
        if self.vendor != "sqlite":
            self.raw.close()
        Row.objects.all().delete()

    def settle(self, method):
        settle(Row, self.rows)

    def take_pk_set(self, pk_set, **kwargs):
        self.found = len(pk_set)

    def evaluate_queryset(self, queryset, **kwargs):
        self.found = len(queryset)

    def check(self, found):
        """Raise SystemExit if an operation found another number of rows."""
        if found != self.rows:
            raise SystemExit(f"{found} rows found instead of {self.rows}")

    def update(self, model):
        self.found = None
        model.objects.filter(active=True).update(points=self.number())

    def time_none(self, rows):
        self.update(Row)

    def time_pk_set(self, rows):
        self.update(WithPkSet)
        self.check(self.found)

    def time_queryset(self, rows):
        self.update(WithQuerySet)
        self.check(self.found)

    def driver(self):
        """Update the rows with the driver alone. Return the set of keys."""
        table = Row._meta.db_table
        cursor = self.raw.cursor()
        if self.vendor == "sqlite":
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute(
                f"UPDATE {table} SET points = ? WHERE active RETURNING id",
                [self.number()],
            )
            keys = {key for key, in cursor}
            cursor.execute("COMMIT")
        elif self.vendor == "postgresql":
            cursor.execute(
                f"UPDATE {table} SET points = %s WHERE active RETURNING id",
                [self.number()],
            )
            keys = {key for key, in cursor.fetchall()}
            self.raw.commit()
        else:
            cursor.execute(f"SELECT id FROM {table} WHERE active FOR UPDATE")
            keys = [key for key, in cursor]
            marks = ", ".join(["%s"] * len(keys))
            cursor.execute(
                f"UPDATE {table} SET points = %s WHERE id IN ({marks})",
                [self.number(), *keys],
            )
            keys = set(keys)
            self.raw.commit()
        return keys

    def time_driver(self, rows):
        self.check(len(self.driver()))

    def time_driver_instances(self, rows):
        """The driver, and Django reading the rows without a list of keys."""
        self.check(len(self.driver()))
        self.check(len(Row.objects.filter(active=True)))

    def time_driver_update(self, rows):
        """UPDATE by the driver alone, which doesn't tell the keys."""
        cursor = self.raw.cursor()
        mark = "?" if self.vendor == "sqlite" else "%s"
        if self.vendor == "sqlite":
            cursor.execute("BEGIN IMMEDIATE")
        cursor.execute(
            f"UPDATE {Row._meta.db_table} SET points = {mark} WHERE active",
            [self.number()],
        )
        if self.vendor == "sqlite":
            cursor.execute("COMMIT")
        else:
            self.raw.commit()


class UpdateMemory:
    """The peak memory of a process in which one update changes a table."""

    params = [["none", "pk_set", "queryset"], [1000000]]
    param_names = ["receiver", "rows"]

    def setup(self, receiver, rows):
        self.model = {"none": Row, "pk_set": WithPkSet, "queryset": WithQuerySet}[
            receiver
        ]
        if receiver != "none":
            update_signals()[1].connect(self.receive, sender=self.model)
        bench_setup(migrate=True)
        fill(Row, rows)
        self.found = None
        # What the first update of all loads.
        self.model.objects.filter(active=False).update(points=1)

    def teardown(self, receiver, rows):
        if receiver != "none":
            update_signals()[1].disconnect(self.receive, sender=self.model)
        Row._base_manager.all()._raw_delete("default")

    def receive(self, queryset, pk_set, **kwargs):
        self.found = len(queryset if self.model is WithQuerySet else pk_set)

    def peakmem_update(self, receiver, rows):
        found = self.model.objects.filter(active=True).update(points=1)
        if {found, self.found or found} != {rows}:
            raise SystemExit(f"{found} rows updated, {self.found} received")
