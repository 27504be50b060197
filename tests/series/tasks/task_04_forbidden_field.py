"""
The name of an item can't be changed; other fields can, in the same call, and
other code goes on after a refusal.
"""

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.db.models.signals import pre_update
from django.dispatch import receiver
from project import Item, create

create()


@receiver(pre_update, sender=Item)
def forbid_renaming(sender, queryset, values, **kwargs):
    if "name" in values and queryset.exclude(name=values["name"]).exists():
        raise ValidationError("The name of an item can't be changed.")


def refused(update):
    try:
        with transaction.atomic():
            update()
    except ValidationError:
        return True
    return False


pen, cup = (Item.objects.create(name=name) for name in ("Pen", "Cup"))
pen.price = 3
pen.save()
assert not refused(lambda: Item.objects.filter(pk=pen.pk).update(name="Pen", price=4))
assert not refused(lambda: Item.objects.update(name=F("name"), stock=1))
pen.name = "Pencil"
assert refused(pen.save)
assert refused(lambda: Item.objects.bulk_update([pen, cup], ["name"]))
assert refused(lambda: Item.objects.update(name="Pen"))
assert refused(lambda: Item.objects.update(name=Concat("name", Value("!"))))
with transaction.atomic():
    assert refused(lambda: Item.objects.update(name="Cup", stock=7))
    Item.objects.update(price=5)
rows = Item.objects.order_by("pk").values_list("name", "price", "stock")
assert list(rows) == [("Pen", 5, 1), ("Cup", 5, 1)], list(rows)
Item(pk=50, name="Bag").save()
assert Item.objects.get(pk=50).name == "Bag"
print("done")
