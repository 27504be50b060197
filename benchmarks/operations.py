"""
What is measured: the methods of these classes whose names begin with "time_"
or "peak_". worker.py calls setup(), with parameters, then one of them.
"""

import itertools
import random
from concurrent.futures import ThreadPoolExecutor

from django.db import OperationalError, connection, transaction
from django.db.models import signals
from django.db.models.sql.compiler import SQLUpdateCompiler

from .models import Account, Instances, Keys, Other, Owner, Row, Saved
from .tables import fill, raw_connection, settle

SIGNALS = ("pre_update", "post_update")


def receiver(**kwargs):
    """Do nothing."""


def returning(compiler, result_type):
    """Do what execute_sql() does, and read the keys of the rows."""
    return len(compiler.execute_returning_sql([compiler.query.get_meta().pk]))


class Unused:
    """
    Operations on rows of a model without receivers, or with ones that do
    nothing.

    receivers: "none"; "other", of both signals on another model; one of
    SIGNALS; or "saved", of all four signals of save(). What they cannot cost
    less than has none: "transaction", around an update of a queryset that is
    ready, and "returning", which reads the keys of its rows, too.
    """

    rows = 10000

    def setup(self, receivers):
        fill(Account, self.rows)
        self.number = itertools.count(1)
        self.ready = Account.objects.filter(pk=1)
        self.account = Account.objects.get(pk=1)
        self.accounts = list(Account.objects.filter(pk__lte=1000))
        if receivers in ("transaction", "returning"):
            self.time_update_ready = self.update_in_transaction
        if receivers == "returning":
            SQLUpdateCompiler.execute_sql = returning
        sender = Other if receivers == "other" else Account
        names = {
            "other": SIGNALS,
            "saved": (*SIGNALS, "pre_save", "post_save"),
            **{name: [name] for name in SIGNALS},
        }
        for name in names.get(receivers, ()):
            getattr(signals, name).connect(receiver, sender=sender)

    def settle(self, method):
        if method == "time_update_10000":
            settle(Account, self.rows)

    def time_update_1(self):
        Account.objects.filter(pk=1).update(points=next(self.number))

    def time_update_ready(self):
        self.ready.update(points=next(self.number))

    def update_in_transaction(self):
        with transaction.atomic(savepoint=False):
            self.ready.update(points=next(self.number))

    def time_update_10000(self):
        Account.objects.filter(active=True).update(points=next(self.number))

    def time_save(self):
        self.account.points = next(self.number)
        self.account.save()

    def time_get(self):
        # Not an update, but each queryset has one attribute more.
        Account.objects.get(pk=1)

    def time_bulk_update_1000(self):
        for account in self.accounts:
            account.points = next(self.number)
        Account.objects.bulk_update(self.accounts, ["points"])

    def time_delete_set_null(self):
        # An owner of ten accounts, made without the code that's measured.
        owner = Owner(pk=next(self.number))
        with connection.cursor() as cursor:
            table, column = Owner._meta.db_table, Owner._meta.pk.column
            cursor.execute(f"INSERT INTO {table} ({column}) VALUES (%s)", [owner.pk])
            table, column = Account._meta.db_table, Account._meta.pk.column
            cursor.execute(
                f"UPDATE {table} SET owner_id = %s WHERE {column} <= 10", [owner.pk]
            )
        owner.delete()


class AllRows:
    """An update of all rows of a table, of which somebody learns."""

    found = None

    def setup(self, rows):
        fill(Row, rows)
        self.rows = rows
        self.number = itertools.count(1)

    def settle(self, method):
        settle(Row, self.rows)

    def update(self, model):
        self.found = None
        return model.objects.filter(active=True).update(points=next(self.number))

    def check(self, found):
        """Raise SystemExit if somebody learned of another number of rows."""
        if found != self.rows:
            raise SystemExit(f"{found} rows found instead of {self.rows}")

    # The only code here that takes arguments of the signals.

    def connect_keys(self):
        signals.post_update.connect(self.take_keys, sender=Keys)

    def take_keys(self, pk_set, **kwargs):
        self.found = len(pk_set)

    def connect_instances(self):
        signals.post_update.connect(self.take_instances, sender=Instances)

    def take_instances(self, queryset, **kwargs):
        self.found = len(queryset)


class Used(AllRows):
    """With receivers, and the raw driver doing the same."""

    def setup(self, rows):
        super().setup(rows)
        self.connect_keys()
        self.connect_instances()
        self.raw = raw_connection()
        self.mark = "?" if connection.vendor == "sqlite" else "%s"

    def teardown(self):
        if connection.vendor != "sqlite":
            self.raw.close()

    def time_none(self):
        self.check(self.update(Row))

    def time_keys(self):
        self.update(Keys)
        self.check(self.found)

    def time_instances(self):
        self.update(Instances)
        self.check(self.found)

    def driver(self, keys):
        """
        Update the rows with the driver alone. Return how many there are.

        keys: whether to read their keys, as a set.
        """
        cursor, table = self.raw.cursor(), Row._meta.db_table
        update = f"UPDATE {table} SET points = {self.mark}"
        if connection.vendor == "sqlite":
            cursor.execute("BEGIN IMMEDIATE")
        if not keys:
            cursor.execute(f"{update} WHERE active", [next(self.number)])
            found = cursor.rowcount
        elif connection.features.can_return_rows_from_update:
            cursor.execute(f"{update} WHERE active RETURNING id", [next(self.number)])
            found = len({key for key, in cursor})
        else:
            cursor.execute(f"SELECT id FROM {table} WHERE active FOR UPDATE")
            listed = [key for key, in cursor]
            marks = ", ".join(["%s"] * len(listed))
            values = [next(self.number), *listed]
            cursor.execute(f"{update} WHERE id IN ({marks})", values)
            found = len(set(listed))
        if connection.vendor == "sqlite":
            cursor.execute("COMMIT")
        else:
            self.raw.commit()
        return found

    def time_driver_update(self):
        self.check(self.driver(keys=False))

    def time_driver_keys(self):
        self.check(self.driver(keys=True))

    def time_driver_instances(self):
        """The driver, and Django reading the rows without a list of keys."""
        self.check(self.driver(keys=True))
        self.check(len(Row.objects.filter(active=True)))


class Signal(AllRows):
    """What the other ways to tell which rows were updated compare with."""

    def setup(self, rows):
        super().setup(rows)
        self.connect_keys()

    def time_keys(self):
        self.update(Keys)
        self.check(self.found)


class ByHand(AllRows):
    def setup(self, rows):
        super().setup(rows)
        signals.post_save.connect(self.take, sender=Saved)

    def take(self, instance, **kwargs):
        self.found.add(instance.pk)

    def time_values_list(self):
        queryset = Row.objects.filter(active=True)
        with transaction.atomic():
            keys = set(queryset.values_list("pk", flat=True))
            queryset.update(points=next(self.number))
        self.check(len(keys))

    def time_locked(self):
        """Like time_values_list(), but exact on all databases."""
        with transaction.atomic():
            queryset = Row.objects.filter(active=True).select_for_update()
            keys = set(queryset.values_list("pk", flat=True))
            Row.objects.filter(pk__in=keys).update(points=next(self.number))
        self.check(len(keys))

    def time_save_each(self):
        self.found = set()
        number = next(self.number)
        with transaction.atomic():
            for row in Saved.objects.filter(active=True):
                row.points = number
                row.save()
        self.check(len(self.found))


class BulkSignals(AllRows):
    """django-bulk-signals, which doesn't tell which rows were updated."""

    def setup(self, rows):
        from bulk_signals.signals import post_query_update

        super().setup(rows)
        post_query_update.connect(self.take, sender=Row)

    def take(self, update_count, **kwargs):
        self.found = update_count

    def time_bulk_signals(self):
        self.update(Row)
        self.check(self.found)


class BulkHooks(AllRows):
    """django-bulk-hooks, whose hooks get the old and new instances."""

    def setup(self, rows):
        from django_bulk_hooks import BulkHookManager, Hook, after_update

        super().setup(rows)
        benchmark = self

        class Hooked(Row):
            objects = BulkHookManager()

            class Meta:
                proxy = True

        self.model = Hooked

        class Take(Hook):
            @after_update(Hooked)
            def take(self, changeset, **kwargs):
                benchmark.found = len(changeset.changes)

    def time_bulk_hooks(self):
        self.update(self.model)
        self.check(self.found)


class Cacheops(AllRows):
    """invalidated_update() of django-cacheops, with its invalidation off."""

    def time_cacheops(self):
        rows = Row.objects.filter(active=True)
        self.check(rows.invalidated_update(points=next(self.number)))


class Writers:
    """
    Six threads update a hundred rows, each 60 times, about ten of them, which
    they find by the key, an index that the updates change, or a scan.

    receivers: "none", or one of SIGNALS. level: of isolation.
    """

    def setup(self, receivers, level):
        fill(Account, 100)
        for _ in range(10):
            Owner.objects.create()
        self.level, self.owners = level, list(Owner.objects.all())
        Account.objects.update(owner=self.owners[0])
        if receivers != "none":
            getattr(signals, receivers).connect(receiver, sender=Account)

    def write(self, seed):
        """Update in this thread. Return how many updates didn't fail."""
        chosen, rows, good = random.Random(seed), Account.objects.all(), 0
        session = "CHARACTERISTICS AS" if connection.vendor == "postgresql" else ""
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION {session} TRANSACTION {self.level}")
        for _ in range(60):
            owner, other = chosen.sample(self.owners, 2)
            queryset = chosen.choice(
                [
                    rows.filter(pk__in=chosen.sample(range(1, 101), 10)),
                    rows.filter(owner=other),
                    rows.filter(points=chosen.randrange(10)),
                ]
            )
            try:
                queryset.update(owner=owner, points=chosen.randrange(10))
                good += 1
            except OperationalError:
                # A deadlock, or a row that changed since the snapshot.
                pass
        connection.close()
        return good

    def count_updates(self):
        """Return how many of all 360 updates didn't fail."""
        with ThreadPoolExecutor(6) as pool:
            return sum(pool.map(self.write, range(6)))


class Memory(AllRows):
    """The peak memory of a process in which one update changes a table."""

    def setup(self, receiver, rows):
        super().setup(rows)
        self.model = {"none": Row, "keys": Keys, "instances": Instances}[receiver]
        if receiver != "none":
            getattr(self, f"connect_{receiver}")()
        # What the first update of all loads.
        self.model.objects.filter(active=False).update(points=1)

    def peak_update(self):
        updated = self.update(self.model)
        self.check(self.found or updated)
