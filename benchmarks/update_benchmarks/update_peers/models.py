from django.db import models

from ...utils import bench_setup

bench_setup()

try:
    from django_bulk_hooks import BulkHookManager
except ImportError:
    BulkHookManager = None


class Row(models.Model):
    active = models.BooleanField(default=True)
    points = models.IntegerField(default=0)


class Signalled(Row):
    """The same table, for a receiver of post_update."""

    class Meta:
        proxy = True


class Saved(Row):
    """The same table, for a receiver of post_save."""

    class Meta:
        proxy = True


if BulkHookManager:

    class Hooked(Row):
        """The same table, for a hook of django-bulk-hooks."""

        objects = BulkHookManager()

        class Meta:
            proxy = True
