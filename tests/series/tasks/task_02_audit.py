"""An audit trail with old prices, the user, and the time."""

# isort: skip_file
from contextvars import ContextVar

# It configures Django, which the models of users need.
from project import Item, create

from django.contrib.auth.models import User
from django.db import models
from django.db.models import F
from django.db.models.signals import pre_delete, pre_update
from django.dispatch import receiver
from django.test import RequestFactory


class OldItem(models.Model):
    item_id = models.BigIntegerField(db_index=True)
    price = models.IntegerField()
    changed_by = models.CharField(max_length=150)
    changed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "tasks"


create(OldItem)
current_request = ContextVar("current_request", default=None)


def current_request_middleware(get_response):
    def middleware(request):
        token = current_request.set(request)
        try:
            return get_response(request)
        finally:
            current_request.reset(token)

    return middleware


@receiver([pre_update, pre_delete], sender=Item)
def keep_old_items(sender, instance, using, queryset=None, **kwargs):
    if queryset is None:
        queryset = sender._base_manager.using(using).filter(pk=instance.pk)
    request = current_request.get()
    changed_by = "" if request is None else str(request.user)
    rows = queryset.select_for_update()
    OldItem.objects.using(using).bulk_create(
        OldItem(changed_by=changed_by, **row)
        for row in rows.values("price", item_id=F("pk"))
    )


def view(request):
    Item.objects.filter(price__lt=5).update(price=F("price") * 2)


pen = Item.objects.create(name="Pen", price=2)
Item.objects.create(name="Cup", price=5)
request = RequestFactory().get("/")
request.user = User(username="ann")
current_request_middleware(view)(request)
pen.price = 9
pen.save()
pk = pen.pk
pen.delete()
trail = OldItem.objects.filter(item_id=pk).order_by("pk")
assert list(trail.values_list("price", "changed_by")) == [(2, "ann"), (4, ""), (9, "")]
assert all(old.changed_at for old in trail)
assert OldItem.objects.count() == 3
print("done")
