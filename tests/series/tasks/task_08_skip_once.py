"""Skipping a receiver for one job, while other threads keep it."""

import threading
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from django.db import connection
from django.db.models.signals import post_update
from django.dispatch import receiver
from project import Item, create

create()
skip_index = ContextVar("skip_index", default=False)
log = []


@contextmanager
def without_index():
    token = skip_index.set(True)
    try:
        yield
    finally:
        skip_index.reset(token)


@receiver(post_update, sender=Item)
def index(sender, values, **kwargs):
    if not skip_index.get():
        log.append(values["price"])


def in_other_thread():
    Item.objects.update(price=2)
    connection.close()


Item.objects.create(name="Pen")
with without_index():
    Item.objects.update(price=1)
    thread = threading.Thread(target=in_other_thread)
    thread.start()
    thread.join()
    Item.objects.update(price=3)
assert log == [2]
with suppress(ValueError), without_index():
    raise ValueError
Item.objects.update(price=4)
assert log == [2, 4]
print("done")
