from auditlog import get_logentry_model
from auditlog.diff import model_instance_diff
from auditlog.receivers import check_disable
from auditlog.registry import auditlog
from django.db.models.signals import post_update, pre_update


def keep_old_rows(sender, queryset, instance, values, origin, **kwargs):
    if instance is None:
        rows = {obj.pk: obj for obj in queryset.all()}
        vars(origin).setdefault("_auditlog", {})[id(values)] = rows


@check_disable
def log_updates(sender, queryset, instance, values, origin, **kwargs):
    if instance is None:
        LogEntry = get_logentry_model()
        old_rows = origin._auditlog.pop(id(values))
        for obj in queryset.all():
            if changes := model_instance_diff(old_rows.get(obj.pk), obj):
                action = LogEntry.Action.UPDATE
                LogEntry.objects.log_create(obj, action=action, changes=changes)


for model in auditlog.get_models():
    pre_update.connect(keep_old_rows, sender=model)
    post_update.connect(log_updates, sender=model)
