from django.db import transaction
from django.db.models.signals import post_update
from haystack import connection_router, connections

models = connections["default"].get_unified_index().get_indexed_models()


def index_rows(sender, queryset, instance, using, **kwargs):
    def index():
        for alias in connection_router.for_write():
            engine = connections[alias]
            index = engine.get_unified_index().get_index(sender)
            engine.get_backend().update(index, queryset.all())

    if instance is None:
        transaction.on_commit(index, using=using)


for model in models:
    post_update.connect(index_rows, sender=model)
