"""
A project for the tasks: shops, their items, and orders, in two databases,
which are files.

Usage of each task: .venv/bin/python task_NN_name.py. PYTHONPATH can name
another Django than that in django/. A task ends with "done", or an exception.
"""

import os
import sys
import tempfile
import types

import django
from django.conf import settings

# An app, so that Django knows the relations between its models.
app = sys.modules["tasks"] = types.ModuleType("tasks")
app.__path__ = [os.path.dirname(__file__)]
folder = tempfile.TemporaryDirectory()
settings.configure(
    DATABASES={
        alias: {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.path.join(folder.name, f"{alias}.sqlite3"),
        }
        for alias in ("default", "archive")
    },
    INSTALLED_APPS=["tasks"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

from django.db import connections, models  # noqa: E402


class Base(models.Model):
    class Meta:
        abstract = True
        app_label = "tasks"


class Shop(Base):
    name = models.CharField(max_length=50)


class Item(Base):
    shop = models.ForeignKey(Shop, models.SET_NULL, null=True)
    name = models.CharField(max_length=50)
    price = models.IntegerField(default=0)
    stock = models.IntegerField(default=0)
    modified = models.DateTimeField(auto_now=True)


class Book(Item):
    pages = models.IntegerField(default=0)

    class Meta:
        app_label = "tasks"


class Order(Base):
    item = models.ForeignKey(Item, models.CASCADE)
    status = models.CharField(max_length=20, default="new")


def create(*extra):
    for connection in connections.all():
        with connection.schema_editor() as editor:
            for model in (Shop, Item, Book, Order, *extra):
                editor.create_model(model)
