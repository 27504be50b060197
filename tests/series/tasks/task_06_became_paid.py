"""
A mail for each order that becomes paid, once it is committed, whoever sets the
status, and no mail for one that was paid before.
"""

from functools import partial

from django.db import transaction
from django.db.models import Case, F, Value, When
from django.db.models.signals import post_save, post_update, pre_update
from django.dispatch import receiver
from project import Item, Order, create

create()
mailed = []


@receiver(pre_update, sender=Order)
def keep_old_statuses(sender, queryset, values, origin, **kwargs):
    rows = queryset.select_for_update().values_list("pk", "status")
    old = dict(rows) if "status" in values else {}
    vars(origin).setdefault("_old_statuses", {})[id(values)] = old


@receiver(post_update, sender=Order)
def mail_paid(sender, queryset, values, origin, using, **kwargs):
    old = origin._old_statuses.pop(id(values))
    if "status" in values:
        for order in queryset.filter(status="paid"):
            if old.get(order.pk) != "paid":
                transaction.on_commit(partial(mailed.append, order.pk), using=using)


@receiver(post_save, sender=Order)
def mail_new(sender, instance, created, using, **kwargs):
    if created and instance.status == "paid":
        transaction.on_commit(partial(mailed.append, instance.pk), using=using)


def mails(update):
    mailed.clear()
    update()
    return sorted(mailed)


item = Item.objects.create(name="Pen")
one, two, three = (Order.objects.create(item=item) for _ in range(3))
orders = Order.objects.all()
assert mails(lambda: orders.filter(pk=one.pk).update(status="paid")) == [one.pk]
assert mails(lambda: orders.update(status=F("status"))) == []
one.refresh_from_db()
assert mails(one.save) == []
one.status = two.status = "paid"
assert mails(lambda: orders.bulk_update([one, two], ["status"])) == [two.pk]
case = Case(When(pk=three.pk, then=Value("paid")), default=F("status"))
assert mails(lambda: orders.update(status=case)) == [three.pk]
assert mails(lambda: orders.update(status="new")) == []
two.status = "paid"
assert mails(two.save) == [two.pk]
assert mails(lambda: orders.update(status="paid")) == [one.pk, three.pk]
assert mails(lambda: orders.update(item=item)) == []
assert len(mails(lambda: Order.objects.create(item=item, status="paid"))) == 1


def rolled_back():
    orders.update(status="new")
    with transaction.atomic():
        orders.update(status="paid")
        transaction.set_rollback(True)


assert mails(rolled_back) == []
assert mails(lambda: orders.filter(pk=one.pk).update(status="paid")) == [one.pk]
print("done")
