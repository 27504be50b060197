from cacheops import invalidate_obj
from cacheops.conf import model_profile
from django.apps import apps
from django.db.models.signals import post_update, pre_update


def invalidate_rows(queryset, instance, using, **kwargs):
    if instance is None:
        for obj in queryset.nocache():
            invalidate_obj(obj, using=using)


for model in filter(model_profile, apps.get_models()):
    # What was cached for the old values is stale, and for the new ones.
    pre_update.connect(invalidate_rows, sender=model)
    post_update.connect(invalidate_rows, sender=model)
