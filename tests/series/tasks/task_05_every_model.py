"""
A reusable app: it counts the updated rows for each model, field, and database,
whichever apps are installed, and each change of a child once.
"""

from collections import Counter
from functools import partial

from django.apps import apps
from django.db import transaction
from django.db.models.signals import post_update
from project import Book, Item, Order, Shop, create


class BookProxy(Book):
    class Meta:
        app_label = "tasks"
        proxy = True


create()
counts = Counter()


def count_own_values(sender, values, pk_set, using, **kwargs):
    model = sender._meta.concrete_model
    own = [name for name in values if model._meta.get_field(name).model is model]
    new = {f"{using}.{model.__name__}.{name}": len(pk_set) for name in own}
    transaction.on_commit(partial(counts.update, new), using=using)


# As in AppConfig.ready().
for model in apps.get_models():
    post_update.connect(count_own_values, sender=model)


def check(update, **expected):
    counts.clear()
    update()
    found = {name: n for name, n in counts.items() if "modified" not in name}
    assert found == {name.replace("_", "."): n for name, n in expected.items()}


shop = Shop.objects.create(name="One")
book = Book.objects.create(shop=shop)
item = Item.objects.create(shop=shop)
order = Order.objects.create(item=book)
both = {"default_Item_price": 1, "default_Book_pages": 1}
check(lambda: Item.objects.update(price=1), default_Item_price=2)
check(lambda: Book.objects.update(price=2), default_Item_price=1)
check(lambda: Book.objects.update(price=2, pages=3), **both)
check(lambda: BookProxy.objects.update(price=2, pages=3), **both)
check(lambda: book.save(update_fields=["price", "pages"]), **both)
check(lambda: Book.objects.bulk_update([book], ["price", "pages"]), **both)
check(lambda: book.order_set.update(status="paid"), default_Order_status=1)
check(lambda: Order.objects.filter(status="new").update(status="paid"))
check(shop.delete, default_Item_shop=2)
BookProxy.objects.using("archive").create()
check(lambda: Item.objects.using("archive").update(stock=1), archive_Item_stock=1)
with transaction.atomic():
    Item.objects.update(price=5)
    transaction.set_rollback(True)
assert "default.Item.price" not in counts
print("done")
