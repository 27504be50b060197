from django.db import models

from ...utils import bench_setup

bench_setup()


class Row(models.Model):
    active = models.BooleanField(default=True)
    points = models.IntegerField(default=0)


class WithPkSet(Row):
    """The same table, with a receiver that takes the keys."""

    class Meta:
        proxy = True


class WithQuerySet(Row):
    """The same table, with a receiver that evaluates the queryset."""

    class Meta:
        proxy = True
