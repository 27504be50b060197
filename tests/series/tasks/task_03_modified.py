"""The time of the last change, for every kind of update."""

from django.db.models.signals import pre_update
from django.dispatch import receiver
from django.utils import timezone
from project import Item, create

create()


@receiver(pre_update, sender=Item)
def set_modified(sender, instance, values, raw, **kwargs):
    if not raw and "modified" not in values:
        values["modified"] = timezone.now()
        if instance is not None:
            instance.modified = values["modified"]


pen = Item.objects.create(name="Pen")
for update in (
    lambda: Item.objects.update(price=1),
    lambda: Item.objects.bulk_update([pen], ["price"]),
    lambda: pen.save(update_fields=["price"]),
    lambda: pen.save(),
):
    before = Item.objects.get().modified
    update()
    assert Item.objects.get().modified > before
assert pen.modified == Item.objects.get().modified
Item.objects.update(modified=before)
assert Item.objects.get().modified == before
cup = Item(pk=50, name="Cup")
cup.save()
assert Item.objects.get(pk=50).modified == cup.modified > before
print("done")
