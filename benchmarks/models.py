from django.db import models

try:
    from django_bulk_hooks import BulkHookManager
except ImportError:
    # Only the peers need it.
    BulkHookManager = models.Manager


class Owner(models.Model):
    pass


class Account(models.Model):
    owner = models.ForeignKey(Owner, models.SET_NULL, null=True)
    active = models.BooleanField(default=True)
    points = models.IntegerField(default=0)


class Other(models.Model):
    """Another model, which has the receivers."""


class Row(models.Model):
    active = models.BooleanField(default=True)
    points = models.IntegerField(default=0)


class Keys(Row):
    """The same table, with a receiver that takes the keys."""

    class Meta:
        proxy = True


class Instances(Row):
    """The same table, with a receiver that evaluates the queryset."""

    class Meta:
        proxy = True


class Saved(Row):
    """The same table, with a receiver of post_save."""

    class Meta:
        proxy = True


class Hooked(Row):
    """The same table, with a hook of django-bulk-hooks."""

    objects = BulkHookManager()

    class Meta:
        proxy = True
