"""The models of the tests in this directory."""

import uuid

from django.db import models


class Owner(models.Model):
    name = models.CharField(max_length=50)


class Account(models.Model):
    name = models.CharField(max_length=50)
    points = models.IntegerField(default=0)
    active = models.BooleanField(default=True)
    owner = models.ForeignKey(Owner, models.SET_NULL, null=True)


class SpecialAccount(Account):
    """A model in two tables."""

    level = models.IntegerField(default=0)


class IntegerKey(models.Model):
    points = models.IntegerField(default=0)


class TextKey(models.Model):
    key = models.CharField(primary_key=True, max_length=50)
    points = models.IntegerField(default=0)


class UUIDKey(models.Model):
    key = models.UUIDField(primary_key=True, default=uuid.uuid4)
    points = models.IntegerField(default=0)


class CompositeKey(models.Model):
    pk = models.CompositePrimaryKey("tenant", "number")
    tenant = models.IntegerField()
    number = models.IntegerField()
    points = models.IntegerField(default=0)
