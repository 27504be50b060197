import reversion
from django.db.models.signals import post_update


def add_rows(queryset, instance, using, **kwargs):
    if instance is None and reversion.is_active():
        if not reversion.is_manage_manually():
            for obj in queryset.all():
                reversion.add_to_revision(obj, model_db=using)


for model in reversion.get_registered_models():
    post_update.connect(add_rows, sender=model)
