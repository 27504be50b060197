"""Telling save() from update(), bulk_update(), and delete()."""

from django.db.models import QuerySet
from django.db.models.signals import post_update
from django.dispatch import receiver
from project import Item, Shop, create

create()
log = []


@receiver(post_update, sender=Item)
def note(sender, instance, origin, pk_set, **kwargs):
    if instance is not None:
        log.append("save")
    elif isinstance(origin, QuerySet) and origin.model is Item:
        log.append("update")
    else:
        log.append("delete")


shop = Shop.objects.create(name="One")
pen = Item.objects.create(name="Pen", shop=shop)
pen.save()
Item.objects.update_or_create(name="Pen", defaults={"price": 3})
Item.objects.update(price=1)
Item.objects.bulk_update([pen], ["price"])
shop.item_set.clear()
shop.item_set.add(pen)
shop.delete()
assert log == ["save"] * 2 + ["update"] * 4 + ["delete"]
print("done")
