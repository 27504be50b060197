"""
A reusable app: it counts the updated rows for each model, field, and database,
whichever apps are installed, and each change of a child once.
"""

# isort: skip_file
from collections import Counter

from project import Book, Item, Order, Shop, create

from django.apps import apps
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import models
from django.db.models.signals import post_update


class BookProxy(Book):
    class Meta:
        app_label = "tasks"
        proxy = True


class Unmanaged(models.Model):
    class Meta:
        app_label = "tasks"
        managed = False


create()
call_command("migrate", verbosity=0)
call_command("migrate", database="archive", verbosity=0)
counts = Counter()


def count_own_values(sender, values, pk_set, using, **kwargs):
    model = sender._meta.concrete_model
    for name in values:
        if model._meta.get_field(name).model is model:
            counts[using, model.__name__, name] += len(pk_set)


def ready():
    for model in apps.get_models():
        post_update.connect(count_own_values, sender=model)


def counted(update):
    counts.clear()
    update()
    return {key: n for key, n in counts.items() if key[2] != "modified"}


ready()
user = User.objects.create(username="ann")
assert counted(lambda: User.objects.update(first_name="Ann")) == {
    ("default", "User", "first_name"): 1
}
for using in ("default", "archive"):
    shop = Shop.objects.using(using).create(name="One")
    items = Item.objects.using(using)
    items.bulk_create(Item(name=name, shop=shop) for name in ("Pen", "Cup"))
    assert counted(lambda: items.update(price=1)) == {(using, "Item", "price"): 2}
    assert counted(shop.delete) == {(using, "Item", "shop"): 2}
    book = Book.objects.using(using).create(name="Django")
    own = {(using, "Item", "price"): 1, (using, "Book", "pages"): 1}
    for model in (Book, BookProxy):
        assert (
            counted(lambda: model.objects.using(using).update(price=2, pages=3)) == own
        )
    book.price = 5
    assert counted(lambda: book.save(update_fields=["price", "pages"])) == own
    assert counted(lambda: items.filter(pk=book.pk).update(price=3)) == {
        (using, "Item", "price"): 1
    }
    order = Order.objects.using(using).create(item=book)
    order.status = "paid"
    assert counted(
        lambda: Order.objects.using(using).bulk_update([order], ["status"])
    ) == {(using, "Order", "status"): 1}
print("done")
