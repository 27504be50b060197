"""
A project for the tasks: a shop with products, and a file as its database.

Usage of each task: .venv/bin/python task_NN_name.py [DJANGO], where DJANGO is
another checkout than django/. A task ends with "done", or an exception.
"""

import atexit
import os
import sys
import tempfile
import types
from pathlib import Path

DJANGO = Path(__file__).resolve().parents[3] / "django"
sys.path.insert(0, sys.argv[1] if len(sys.argv) > 1 else str(DJANGO))

import django  # noqa: E402
from django.conf import settings  # noqa: E402

# An app, so that Django knows the relations between its models.
app = sys.modules["tasks"] = types.ModuleType("tasks")
app.__path__ = [os.path.dirname(__file__)]
folder = tempfile.TemporaryDirectory()
atexit.register(folder.cleanup)
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.path.join(folder.name, "db.sqlite3"),
        }
    },
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "tasks"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    ALLOWED_HOSTS=["*"],
)
django.setup()

from django.db import connection, models  # noqa: E402


class Shop(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        app_label = "tasks"


class Item(models.Model):
    shop = models.ForeignKey(Shop, models.SET_NULL, null=True)
    name = models.CharField(max_length=50)
    price = models.IntegerField(default=0)
    stock = models.IntegerField(default=0)
    modified = models.DateTimeField(auto_now=True)

    class Meta:
        app_label = "tasks"


class Book(Item):
    pages = models.IntegerField(default=0)

    class Meta:
        app_label = "tasks"


def create(*extra):
    with connection.schema_editor() as editor:
        for model in (Shop, Item, Book, *extra):
            editor.create_model(model)
