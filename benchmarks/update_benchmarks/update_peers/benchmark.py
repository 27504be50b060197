"""
Ways to tell somebody which rows an update changed.

Each class is one of them, and runs only where what it needs is installed.
"""

from django.apps import apps
from django.db import transaction

from ...utils import Numbers, bench_setup, fill, settle, update_signals
from . import models
from .models import Row, Saved, Signalled


class Peer:
    """What the ways have in common; it has no benchmark."""

    params = [1, 100, 10000, 100000, 1000000]
    param_names = ["rows"]

    def setup(self, rows):
        bench_setup(migrate=True)
        fill(Row, rows)
        self.rows = rows
        self.number = Numbers()

    def teardown(self, rows):
        Row._base_manager.all()._raw_delete("default")

    def settle(self, method):
        settle(Row, self.rows)

    def check(self, found):
        """Raise SystemExit if a way found another number of rows."""
        if found != self.rows:
            raise SystemExit(f"{found} rows found instead of {self.rows}")


class PostUpdate(Peer):
    def setup(self, rows):
        signal = update_signals()[1]
        super().setup(rows)
        signal.connect(self.receive, sender=Signalled)

    def teardown(self, rows):
        update_signals()[1].disconnect(self.receive, sender=Signalled)
        super().teardown(rows)

    def receive(self, pk_set, **kwargs):
        self.found = len(pk_set)

    def time_post_update(self, rows):
        self.found = None
        Signalled.objects.filter(active=True).update(points=self.number())
        self.check(self.found)


class ByHand(Peer):
    def setup(self, rows):
        from django.db.models.signals import post_save

        super().setup(rows)
        post_save.connect(self.receive, sender=Saved)

    def teardown(self, rows):
        from django.db.models.signals import post_save

        post_save.disconnect(self.receive, sender=Saved)
        super().teardown(rows)

    def receive(self, instance, **kwargs):
        self.keys.add(instance.pk)

    def time_values_list(self, rows):
        queryset = Row.objects.filter(active=True)
        with transaction.atomic():
            keys = set(queryset.values_list("pk", flat=True))
            queryset.update(points=self.number())
        self.check(len(keys))

    def time_locked(self, rows):
        """Like time_values_list(), but exact on all databases."""
        with transaction.atomic():
            queryset = Row.objects.filter(active=True).select_for_update()
            keys = set(queryset.values_list("pk", flat=True))
            Row.objects.filter(pk__in=keys).update(points=self.number())
        self.check(len(keys))

    def time_save_each(self, rows):
        self.keys = set()
        number = self.number()
        with transaction.atomic():
            for row in Saved.objects.filter(active=True):
                row.points = number
                row.save()
        self.check(len(self.keys))


class BulkSignals(Peer):
    """django-bulk-signals, which doesn't tell which rows were updated."""

    def setup(self, rows):
        if not apps.is_installed("bulk_signals"):
            raise NotImplementedError("django-bulk-signals is not installed")
        from bulk_signals.signals import post_query_update

        super().setup(rows)
        post_query_update.connect(self.receive, sender=Row)

    def teardown(self, rows):
        from bulk_signals.signals import post_query_update

        post_query_update.disconnect(self.receive, sender=Row)
        super().teardown(rows)

    def receive(self, update_count, **kwargs):
        self.found = update_count

    def time_bulk_signals(self, rows):
        self.found = None
        Row.objects.filter(active=True).update(points=self.number())
        self.check(self.found)


class BulkHooks(Peer):
    """django-bulk-hooks, whose hooks get the old and new instances."""

    found = None

    def setup(self, rows):
        if not models.BulkHookManager:
            raise NotImplementedError("django-bulk-hooks is not installed")
        super().setup(rows)
        connect_hook()

    def time_bulk_hooks(self, rows):
        BulkHooks.found = None
        models.Hooked.objects.filter(active=True).update(points=self.number())
        self.check(BulkHooks.found)


def connect_hook():
    """Register the hook, which is a class; a second time changes nothing."""
    if BulkHooks.found is not None:
        return
    from django_bulk_hooks import Hook, after_update

    BulkHooks.found = 0

    class Receive(Hook):
        @after_update(models.Hooked)
        def receive(self, changeset, **kwargs):
            BulkHooks.found = len(changeset.changes)


class Cacheops(Peer):
    """invalidated_update() of django-cacheops, with its invalidation off."""

    def setup(self, rows):
        if not apps.is_installed("cacheops"):
            raise NotImplementedError("django-cacheops is not installed")
        super().setup(rows)

    def time_cacheops(self, rows):
        found = Row.objects.filter(active=True).invalidated_update(points=self.number())
        self.check(found)
