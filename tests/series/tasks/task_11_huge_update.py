"""An update of more rows than a receiver wants at once, in batches."""

from django.db.models.signals import post_update
from django.dispatch import receiver
from project import Item, create

create()
seen = []


@receiver(post_update, sender=Item)
def count(sender, instance, queryset, pk_set, **kwargs):
    assert queryset.count() == len(pk_set)
    seen.append(len(pk_set))


def reset_stock(batch_size=5000):
    items = Item.objects.exclude(stock=0)
    while pks := list(items.values_list("pk", flat=True)[:batch_size]):
        items.filter(pk__in=pks).update(stock=0)


Item.objects.bulk_create(Item(name="Pen", stock=n % 3) for n in range(30000))
assert Item.objects.exclude(stock=0).count() == 20000
reset_stock()
assert seen == [5000] * 4
assert not Item.objects.exclude(stock=0).exists()
print("done")
