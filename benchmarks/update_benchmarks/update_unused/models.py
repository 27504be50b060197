from django.db import models

from ...utils import bench_setup

bench_setup()


class Owner(models.Model):
    pass


class Account(models.Model):
    owner = models.ForeignKey(Owner, models.SET_NULL, null=True)
    active = models.BooleanField(default=True)
    points = models.IntegerField(default=0)


class Other(models.Model):
    """Another model, which has the receivers."""

    points = models.IntegerField(default=0)
