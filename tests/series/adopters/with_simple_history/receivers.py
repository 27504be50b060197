from django.apps import apps
from django.db.models.signals import post_update


def record_rows(sender, queryset, instance, **kwargs):
    if instance is None:
        name = sender._meta.simple_history_manager_attribute
        getattr(sender, name).bulk_history_create(queryset.all(), update=True)


for model in apps.get_models():
    if hasattr(model._meta, "simple_history_manager_attribute"):
        post_update.connect(record_rows, sender=model)
