"""
A counter of a large table: each row gets one more, in batches, so that no call
of a receiver has more rows than one batch.
"""

from django.db.models import F
from django.db.models.signals import post_update
from django.dispatch import receiver
from project import Item, create

create()
seen = []


@receiver(post_update, sender=Item)
def count(sender, queryset, pk_set, **kwargs):
    assert queryset.count() == len(pk_set)
    seen.append(len(pk_set))


def add_to_stock(items, batch_size=5000):
    last = 0
    pks = items.order_by("pk").values_list("pk", flat=True)
    while batch := list(pks.filter(pk__gt=last)[:batch_size]):
        items.filter(pk__in=batch).update(stock=F("stock") + 1)
        last = batch[-1]


Item.objects.bulk_create(Item(name="Pen", stock=n % 3) for n in range(30000))
# Each of them matches the filter afterwards, too; then none of them does.
add_to_stock(Item.objects.filter(stock__gte=1))
assert seen == [5000] * 4
assert Item.objects.filter(stock=2).count() == 10000
assert Item.objects.filter(stock=3).count() == 10000
seen.clear()
add_to_stock(Item.objects.filter(stock=0))
assert seen == [5000] * 2
assert Item.objects.filter(stock=1).count() == 10000
print("done")
