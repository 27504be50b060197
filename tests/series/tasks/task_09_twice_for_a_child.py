"""Why a receiver is called twice for a child, and once for each change."""

from django.db.models.signals import post_save, post_update
from django.dispatch import receiver
from project import Book, Item, create

create()
log = []


@receiver(post_update, sender=Item)
@receiver(post_update, sender=Book)
def changed(sender, instance, values, **kwargs):
    log.append((sender.__name__, sorted(values), instance))


def calls(update):
    log.clear()
    update()
    return list(log)


book = Book.objects.create(name="Django", price=1, pages=100)
own = ["modified", "name", "price", "shop", "stock"]
assert calls(lambda: Book.objects.update(pages=1, price=2)) == [
    ("Item", ["price"], None),
    ("Book", ["pages", "price"], None),
]
assert calls(lambda: Book.objects.update(pages=1)) == [("Book", ["pages"], None)]
assert calls(book.save) == [("Item", own, book), ("Book", ["pages"], book)]
assert calls(lambda: book.save(update_fields=["price"])) == [("Item", ["price"], book)]
assert calls(lambda: Item.objects.update(price=3)) == [("Item", ["price"], None)]

# Once for each change of a book: each table's own fields, at its own sender.
post_update.disconnect(changed, sender=Item)
post_update.disconnect(changed, sender=Book)
post_save.connect(lambda **kwargs: log.append("saved"), sender=Book, weak=False)


@receiver(post_update, sender=Item)
@receiver(post_update, sender=Book)
def changed_once(sender, instance, values, **kwargs):
    model = sender._meta.concrete_model
    for name in values:
        if instance is None and model._meta.get_field(name).model is model:
            log.append((sender.__name__, name))


assert calls(lambda: Book.objects.update(price=2)) == [("Item", "price")]
assert calls(lambda: Book.objects.update(pages=2)) == [("Book", "pages")]
both = [("Item", "price"), ("Book", "pages")]
assert calls(lambda: Book.objects.update(price=3, pages=3)) == both
assert calls(book.save) == ["saved"]
print("done")
