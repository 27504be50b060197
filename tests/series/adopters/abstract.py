"""The models that each package is tried with, without their package."""

from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=100)

    class Meta:
        abstract = True


class Book(models.Model):
    title = models.CharField(max_length=100)
    author = models.ForeignKey(
        "Author", models.SET_NULL, null=True, related_name="books"
    )

    class Meta:
        abstract = True
