"""
The ticket's cache: the worth of a shop's items, for all kinds of changes.
"""

from django.core.cache import cache
from django.db import transaction
from django.db.models import F, Sum
from django.db.models.signals import post_save, post_update, pre_delete, pre_update
from django.dispatch import receiver
from project import Book, Item, Shop, create

create()


def get_worth(shop_id):
    items = Item.objects.filter(shop=shop_id)
    return cache.get_or_set(
        f"worth-{shop_id}",
        lambda: items.aggregate(n=Sum(F("price") * F("stock"), default=0))["n"],
        timeout=600,
    )


@receiver(post_save, sender=Book)
@receiver([post_save, pre_delete, post_update], sender=Item)
def forget_worth(sender, instance, using, queryset=None, **kwargs):
    if queryset is None:
        queryset = sender._base_manager.using(using).filter(pk=instance.pk)
    ids = set(queryset.values_list("shop", flat=True))
    keys = [f"worth-{pk}" for pk in ids]
    transaction.on_commit(lambda: cache.delete_many(keys), using=using)


@receiver(pre_update, sender=Item)
def forget_old_worth(sender, queryset, values, using, **kwargs):
    if "shop" in values:
        forget_worth(sender, None, using, queryset.select_for_update())


one, two = Shop.objects.create(name="One"), Shop.objects.create(name="Two")
assert get_worth(one.pk) == get_worth(two.pk) == 0
pen = Item.objects.create(shop=one, name="Pen", price=2, stock=10)
cup = Item.objects.create(shop=one, name="Cup", price=5, stock=3)
assert get_worth(one.pk) == 35
Item.objects.filter(price=2).update(price=F("price") + 1)
assert get_worth(one.pk) == 45
Item.objects.filter(name="Pen").update(shop=two)
assert (get_worth(one.pk), get_worth(two.pk)) == (15, 30)
cup.shop = two
cup.save()
assert (get_worth(one.pk), get_worth(two.pk)) == (0, 45)
stale = Item.objects.get(pk=cup.pk)
Item.objects.filter(pk=cup.pk).update(shop=one)
assert (get_worth(one.pk), get_worth(two.pk)) == (15, 30)
stale.delete()
assert (get_worth(one.pk), get_worth(two.pk)) == (0, 30)
Book.objects.create(shop=one, name="Django", price=9, stock=1)
assert get_worth(one.pk) == 9
pk = two.pk
assert get_worth(None) == 0
two.delete()  # SET_NULL
assert (get_worth(pk), get_worth(None)) == (0, 30)
print("done")
