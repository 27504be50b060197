"""A receiver that only handles updates of the price, whoever makes them."""

from django.db.models.signals import post_update
from django.dispatch import receiver
from project import Item, create

create()
log = []


@receiver(post_update, sender=Item)
def price_changed(sender, instance, values, queryset, **kwargs):
    if "price" in values:
        kind = "update" if instance is None else "save"
        log.append((kind, *queryset.values_list("price", flat=True)))


pen = Item.objects.create(name="Pen", price=2)
Item.objects.update(stock=1)
pen.save(update_fields=["stock"])
assert log == []
Item.objects.update(price=3, stock=5)
pen.price = 4
pen.save(update_fields=["price"])
pen.save()
assert log == [("update", 3), ("save", 4), ("save", 4)]
print("done")
