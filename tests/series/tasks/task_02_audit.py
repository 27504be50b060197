"""
An audit trail: each change of a price, with the old and the new one, the user,
and the time, whoever makes it; and deletions.
"""

# isort: skip_file
from contextvars import ContextVar

# It configures Django, which the models of users need.
from project import Item, Order, Shop, create

from django.contrib.auth.models import User
from django.db import models
from django.db.models import F
from django.db.models.signals import post_update, pre_delete, pre_update
from django.dispatch import receiver
from django.test import RequestFactory


class PriceChange(models.Model):
    item_id = models.BigIntegerField(db_index=True)
    old_price = models.IntegerField(null=True)
    new_price = models.IntegerField(null=True)
    changed_by = models.CharField(max_length=150)
    changed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "tasks"


create(PriceChange)
current_request = ContextVar("current_request", default=None)


def current_request_middleware(get_response):
    def middleware(request):
        token = current_request.set(request)
        try:
            return get_response(request)
        finally:
            current_request.reset(token)

    return middleware


def add_to_trail(changes, using):
    request = current_request.get()
    changed_by = "" if request is None else str(request.user)
    PriceChange.objects.using(using).bulk_create(
        PriceChange(item_id=pk, old_price=old, new_price=new, changed_by=changed_by)
        for pk, old, new in changes
        if old != new
    )


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
    rows = sender._base_manager.using(using).filter(pk=instance.pk)
    add_to_trail(
        [(pk, old, None) for pk, old in rows.values_list("pk", "price")], using
    )


def trail():
    rows = PriceChange.objects.order_by("pk")
    return list(rows.values_list("item_id", "old_price", "new_price", "changed_by"))


def view(request):
    Item.objects.filter(price__lt=5).update(price=F("price") * 2)


pen = Item.objects.create(name="Pen", price=2)
cup = Item.objects.create(name="Cup", price=5)
request = RequestFactory().get("/")
request.user = User(username="ann")
current_request_middleware(view)(request)
assert trail() == [(pen.pk, 2, 4, "ann")]
pen.price, cup.price = 9, 5
pen.save()
cup.save()
assert trail()[1:] == [(pen.pk, 4, 9, "")]
pen.price = cup.price = 7
Item.objects.bulk_update([pen, cup], ["price"])
assert sorted(trail()[2:]) == [(pen.pk, 9, 7, ""), (cup.pk, 5, 7, "")]


# A receiver that makes an update of its own, with the same origin.
@receiver(pre_update, sender=Item)
def limit_stock(sender, instance, values, **kwargs):
    if instance is not None and "price" in values:
        instance.stock = 1
        instance.save(update_fields=["stock"])


pen.price = 8
pen.save()
assert trail()[4:] == [(pen.pk, 7, 8, "")]
pk = pen.pk
pen.delete()
assert trail()[5:] == [(pk, 8, None, "")]
assert all(change.changed_at for change in PriceChange.objects.all())
# What no update changes isn't in the trail.
Order.objects.create(item=cup).delete()
Shop.objects.create(name="One").delete()
assert len(trail()) == 6
print("done")
