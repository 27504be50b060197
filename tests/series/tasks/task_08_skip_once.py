"""Skipping a receiver for one job, while other threads keep it."""

import threading
from contextvars import ContextVar

from django.db import connection
from django.db.models.signals import post_update
from django.dispatch import receiver
from project import Item, create

create()
skip = ContextVar("skip", default=False)
log = []


@receiver(post_update, sender=Item)
def index(sender, instance, values, **kwargs):
    if not skip.get():
        log.append(values["price"])


def in_other_thread():
    Item.objects.update(price=2)
    connection.close()


def job():
    token = skip.set(True)
    try:
        Item.objects.update(price=1)
        thread = threading.Thread(target=in_other_thread)
        thread.start()
        thread.join()
    finally:
        skip.reset(token)


Item.objects.create(name="Pen")
job()
assert log == [2]
Item.objects.update(price=3)
assert log == [2, 3]
print("done")
