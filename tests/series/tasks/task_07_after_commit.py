"""Something that happens once the update is committed, and only then."""

from django.db import transaction
from django.db.models.signals import post_save, post_update
from django.dispatch import receiver
from project import Item, create

create()
log = []


@receiver(post_update, sender=Item)
def send_mail(sender, queryset, instance, using, **kwargs):
    transaction.on_commit(
        lambda: log.append(("mail", *queryset.values_list("price", flat=True))),
        using=using,
    )


@receiver(post_save, sender=Item)
def saved(sender, **kwargs):
    log.append("post_save")


pen = Item.objects.create(name="Pen")
log.clear()
with transaction.atomic():
    Item.objects.update(price=1)
    Item.objects.update(price=2)
    assert log == []
assert log == [("mail", 2), ("mail", 2)]
with transaction.atomic():
    Item.objects.update(price=3)
    transaction.set_rollback(True)
assert len(log) == 2
# In autocommit, before post_save; in an atomic block, after it.
log.clear()
pen.price = 5
pen.save()
assert log == [("mail", 5), "post_save"]
log.clear()
with transaction.atomic():
    pen.save()
assert log == ["post_save", ("mail", 5)]
print("done")
