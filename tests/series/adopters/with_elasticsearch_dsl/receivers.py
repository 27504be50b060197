from django.apps import apps
from django.db import transaction
from django.db.models.signals import post_update
from django_elasticsearch_dsl.apps import DEDConfig
from django_elasticsearch_dsl.registries import registry


def index_rows(sender, queryset, instance, using, **kwargs):
    def index():
        rows = queryset.all()
        for document in registry.get_documents([sender]):
            if not document.django.ignore_signals:
                document().update(rows)
        for obj in rows:
            registry.update_related(obj)

    if instance is None and DEDConfig.autosync_enabled():
        transaction.on_commit(index, using=using)


for model in apps.get_models():
    if model in registry:
        post_update.connect(index_rows, sender=model)
