"""
An audit trail: each change of a price, with the old and the new one, the user,
and the time, whoever makes it; and deletions.
"""

from contextvars import ContextVar

from django.db import models, transaction
from django.db.models import F
from django.db.models.signals import post_update, pre_delete, pre_update
from django.dispatch import receiver
from project import Base, Book, Item, Shop, create

user = ContextVar("user", default="")


class Change(Base):
    item_id = models.BigIntegerField()
    old = models.IntegerField(null=True)
    new = models.IntegerField(null=True)
    user = models.CharField(max_length=50)
    time = models.DateTimeField(auto_now_add=True)


@receiver(pre_update, sender=Item)
def keep_old_prices(sender, queryset, values, origin, **kwargs):
    rows = queryset.select_for_update().values_list("pk", "price")
    old = dict(rows) if "price" in values else {}
    vars(origin).setdefault("_old_prices", {})[id(values)] = old


@receiver(post_update, sender=Item)
def compare_prices(sender, queryset, values, origin, using, **kwargs):
    old = origin._old_prices.pop(id(values))
    if "price" in values:
        rows = queryset.values_list("pk", "price")
        add_to_trail([(pk, old.get(pk), new) for pk, new in rows], using)


@receiver(pre_delete, sender=Item)
def add_deletion(sender, instance, using, **kwargs):
    items = Item._base_manager.using(using).filter(pk=instance.pk)
    add_to_trail([(item.pk, item.price, None) for item in items], using)


def add_to_trail(rows, using):
    Change.objects.using(using).bulk_create(
        Change(item_id=pk, old=old, new=new, user=user.get())
        for pk, old, new in rows
        if old != new
    )


def check(change, *expected, using="default"):
    change()
    trail = Change.objects.using(using).order_by("pk")
    assert list(trail.values_list("item_id", "old", "new", "user")) == [*expected]
    trail.delete()


def roll_back():
    with transaction.atomic():
        Item.objects.update(price=100)
        transaction.set_rollback(True)


create(Change)
user.set("ann")
shop = Shop.objects.create()
pen = Item.objects.create(shop=shop, price=1)
book = Book.objects.create(shop=shop, price=5)
dear = Item.objects.filter(price__gt=1)
check(lambda: dear.update(price=F("price") + 1), (2, 5, 6, "ann"))
pen.price = 3
check(pen.save, (1, 1, 3, "ann"))
check(pen.save)
check(book.save, (2, 6, 5, "ann"))
check(lambda: Book.objects.update(price=7, pages=3), (2, 5, 7, "ann"))
pen.price = book.price = 7
check(lambda: Item.objects.bulk_update([pen, book], ["price"]), (1, 3, 7, "ann"))
check(lambda: shop.item_set.update(price=2), (1, 7, 2, "ann"), (2, 7, 2, "ann"))
check(roll_back)
Item.objects.using("archive").create(price=1)
archived = Item.objects.using("archive")
check(lambda: archived.update(price=2), (1, 1, 2, "ann"), using="archive")
user.set("bob")
check(shop.delete)
check(Book.objects.all().delete, (2, 2, None, "bob"))
check(pen.delete, (1, 2, None, "bob"))
print("done")
