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


class ProxyAccount(Account):
    class Meta:
        proxy = True


class SpecialAccount(Account):
    """A model in two tables."""

    level = models.IntegerField(default=0)


class ProxySpecialAccount(SpecialAccount):
    class Meta:
        proxy = True


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


class Tally(models.Model):
    """A table that only receivers write to."""

    count = models.IntegerField(default=0)


class Club(models.Model):
    name = models.CharField(max_length=50)


def set_null_of_instances(collector, field, sub_objs, using):
    """An on_delete that gets evaluated instances, since it isn't lazy."""
    collector.add_field_update(field, None, sub_objs)


class Member(models.Model):
    club = models.ForeignKey(Club, set_null_of_instances, null=True)
    previous = models.ForeignKey(
        Club, models.SET_DEFAULT, null=True, default=None, related_name="former"
    )
    next = models.ForeignKey(Club, models.SET(None), null=True, related_name="future")
    score = models.IntegerField(default=0, db_column="s")
    double = models.GeneratedField(
        expression=models.F("score") * 2,
        output_field=models.IntegerField(),
        db_persist=True,
    )

    class Meta:
        order_with_respect_to = "club"


class Left(models.Model):
    left_id = models.BigAutoField(primary_key=True)
    a = models.IntegerField(default=0)


class Right(models.Model):
    right_id = models.BigAutoField(primary_key=True, db_column="r")
    b = models.IntegerField(default=0, db_column="bb")


class Both(Left, Right):
    """A child whose key is not the key of its second parent."""

    c = models.IntegerField(default=0)


class Lower(Both):
    """A grandchild."""

    d = models.IntegerField(default=0)


class Captain(Member):
    """A child with a foreign key of its own."""

    sponsor = models.ForeignKey(Club, models.SET_NULL, null=True, related_name="+")


class Badge(models.Model):
    """A model whose key is a relation."""

    club = models.OneToOneField(Club, models.CASCADE, primary_key=True)
    points = models.IntegerField(default=0)


class Seat(models.Model):
    """A model whose key has a relation in it."""

    pk = models.CompositePrimaryKey("club_id", "number")
    club = models.ForeignKey(Club, models.CASCADE, related_name="seats")
    number = models.IntegerField()
    points = models.IntegerField(default=0)


class Top(models.Model):
    x = models.IntegerField(default=0)


class West(Top):
    west_top = models.OneToOneField(
        Top, models.CASCADE, parent_link=True, primary_key=True
    )
    w = models.IntegerField(default=0)


class East(Top):
    east_top = models.OneToOneField(
        Top, models.CASCADE, parent_link=True, primary_key=True
    )
    e = models.IntegerField(default=0)


class Corner(West, East):
    """A child with two parents that have a parent in common."""

    z = models.IntegerField(default=0)


class VisiblePages(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(hidden=False)


class Page(models.Model):
    """A model that refers to itself, and hides rows from its manager."""

    code = models.IntegerField(unique=True, default=0)
    hidden = models.BooleanField(default=False)
    parent = models.ForeignKey("self", models.SET_NULL, null=True)
    linked = models.ForeignKey(
        "self", models.SET_NULL, null=True, to_field="code", related_name="links"
    )

    objects = VisiblePages()
