from django.db import models


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
