"""Asynchronous receivers of both signals, which query, and act on commit."""

import asyncio
from contextlib import suppress

from asgiref.sync import sync_to_async
from django.db import transaction
from django.db.models.signals import post_update, pre_update
from django.dispatch import receiver
from project import Item, create

create()
log = []


@receiver(pre_update, sender=Item)
async def add_stock(sender, instance, queryset, values, **kwargs):
    log.append(await queryset.acount())
    values["stock"] = 7


@receiver(pre_update, sender=Item)
def before(sender, **kwargs):
    log.append("sync")


@receiver(post_update, sender=Item)
async def report(sender, instance, queryset, using, **kwargs):
    stock = [item.stock async for item in queryset]
    await sync_to_async(transaction.on_commit)(lambda: log.append(stock), using=using)
    log.append("post_update")


pen = Item.objects.create(name="Pen")
for update in (
    lambda: Item.objects.update(price=1),
    lambda: asyncio.run(Item.objects.aupdate(price=2)),
    lambda: asyncio.run(pen.asave()),
):
    log.clear()
    update()
    assert log == ["sync", 1, "post_update", [7]], log


@receiver(post_update, sender=Item)
async def refuse(sender, **kwargs):
    raise ValueError("no")


with suppress(ValueError):
    Item.objects.update(price=100)
assert Item.objects.get().price != 100
print("done")
