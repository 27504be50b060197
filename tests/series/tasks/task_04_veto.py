"""A veto: no update may set a negative price; other code goes on after it."""

from django.db import transaction
from django.db.models import F
from django.db.models.signals import post_update
from django.dispatch import receiver
from project import Item, create

create()


class Veto(Exception):
    pass


@receiver(post_update, sender=Item)
def check_prices(sender, queryset, **kwargs):
    if queryset.filter(price__lt=0).exists():
        raise Veto("A price can't be negative.")


Item.objects.create(name="Pen", price=2)
Item.objects.create(name="Cup", price=5)


def refused(update):
    try:
        with transaction.atomic():
            update()
    except Veto:
        return True
    return False


assert refused(lambda: Item.objects.update(price=F("price") - 3))
assert sorted(Item.objects.values_list("price", flat=True)) == [2, 5]
pen = Item.objects.get(name="Pen")
pen.price = -1
assert refused(pen.save)
with transaction.atomic():
    assert refused(lambda: Item.objects.update(price=-1))
    assert not refused(lambda: Item.objects.update(price=F("price") - 1))
assert sorted(Item.objects.values_list("price", flat=True)) == [1, 4]
print("done")
