"""
Naive variants of the series, which the tests show to be wrong.

Each is a context manager that changes the patched Django.
"""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from unittest import mock

from django.db import transaction
from django.db.models import query as models_query
from django.db.models import signals
from django.db.models.deletion import Collector
from django.db.models.query import QuerySet


def _update_by(naive_update):
    """Let naive_update(the right one, queryset, ...) update with signals."""
    update = QuerySet._update_with_signals

    def replaced(self, *args, **kwargs):
        return naive_update(update, self, *args, **kwargs)

    return mock.patch.object(QuerySet, "_update_with_signals", replaced)


def _selection_by(naive_select):
    """Let naive_select(the right one, queryset, ...) select rows first."""
    select = QuerySet._select_pks

    def replaced(self, *args, **kwargs):
        return naive_select(select, self, *args, **kwargs)

    return mock.patch.object(QuerySet, "_select_pks", replaced)


def _post_update_by(naive_send):
    """Let naive_send(the right one, sender, ...) send post_update."""
    send = signals.post_update.send

    def replaced(sender, **kwargs):
        return naive_send(send, sender, **kwargs)

    return mock.patch.object(signals.post_update, "send", replaced)


@contextmanager
def _update_in(atomic):
    """
    Let the signals of an update use another atomic().

    The keys are selected in a transaction of their own, because they could
    not be locked otherwise.
    """
    module = SimpleNamespace(**{**vars(transaction), "atomic": atomic})

    def naive_update(update, self, *args):
        with mock.patch.object(models_query, "transaction", module):
            return update(self, *args)

    def naive_select(select, self, *args):
        with transaction.atomic(using=self.db, savepoint=False):
            return select(self, *args)

    with _update_by(naive_update), _selection_by(naive_select):
        yield


def update_without_transaction():
    """The update and its receivers aren't in one transaction."""
    return _update_in(lambda using, savepoint: nullcontext())


def update_in_transaction_on_default():
    """The transaction is on "default", whichever database is written to."""
    return _update_in(lambda using, savepoint: transaction.atomic(savepoint=savepoint))


def update_in_durable_transaction():
    """The transaction insists on being the outermost."""
    return _update_in(lambda using, savepoint: transaction.atomic(using, durable=True))


def update_undone_for_exceptions_only():
    """The transaction is committed after KeyboardInterrupt and the like."""

    @contextmanager
    def atomic(using, savepoint):
        interrupt = None
        with transaction.atomic(using=using, savepoint=savepoint):
            try:
                yield
            except Exception:
                raise
            except BaseException as exc:
                interrupt = exc
        if interrupt is not None:
            raise interrupt

    return _update_in(atomic)


def post_update_sent_on_commit():
    """post_update is sent when the transaction has been committed."""
    return _post_update_by(
        lambda send, sender, using, **kwargs: transaction.on_commit(
            lambda: send(sender=sender, using=using, **kwargs), using=using
        )
    )


def post_update_sent_robustly():
    """An exception of a receiver is logged, and nothing else."""
    return mock.patch.object(
        signals.post_update, "send", signals.post_update.send_robust
    )


def rows_selected_without_lock():
    """The rows to update are selected without FOR UPDATE."""
    return mock.patch.object(QuerySet, "select_for_update", lambda self, **kwargs: self)


def rows_locked_against_references():
    """The rows to update are locked as if their keys changed."""
    lock = QuerySet.select_for_update
    return mock.patch.object(
        QuerySet, "select_for_update", lambda self, **kwargs: lock(self)
    )


def update_by_original_filter():
    """The rows are selected and locked, and updated by the original filter."""

    def naive_select(select, self, query, *args):
        rows = select(self, query, *args)
        for name in ("clear_where", "reset_refcounts", "add_filter"):
            setattr(query, name, lambda *args: None)
        return rows

    return _selection_by(naive_select)


@contextmanager
def rows_locked_through_distinct():
    """A distinct() wraps the lock in a subquery that reads a snapshot."""

    def naive_select(select, self, *args):
        if self.query.distinct:
            self = QuerySet(self.model, using=self.db).filter(pk__in=self.values("pk"))
        return select(self, self.query, *args[1:])

    with _selection_by(naive_select):
        yield


def update_split():
    """The UPDATE is split into one for each row."""
    update = QuerySet.update

    def naive_update(self, **kwargs):
        if not signals.post_update.has_listeners(self.model):
            return update(self, **kwargs)
        pks = set(self.order_by().values_list("pk", flat=True))
        return sum(update(self.filter(pk=pk), **kwargs) for pk in pks)

    return mock.patch.object(QuerySet, "update", naive_update)


def ancestors_with_class_of_child():
    """The querysets of ancestors have the class of the child's."""

    def naive_update(update, self, *args):
        with mock.patch.object(models_query, "QuerySet", type(self)):
            return update(self, *args)

    return _update_by(naive_update)


def keys_of_pre_update():
    """The keys are those of the rows that pre_update's queryset has."""
    send = signals.pre_update.send
    keys = {}

    def naive_send(sender, queryset, values, **kwargs):
        keys[id(values)] = set(queryset.values_list("pk", flat=True))
        return send(sender=sender, queryset=queryset, values=values, **kwargs)

    def naive_post(send, sender, values, pk_set, queryset, **kwargs):
        pk_set = keys.pop(id(values))
        queryset = QuerySet(sender, using=queryset.db).filter(pk__in=list(pk_set))
        send(sender, values=values, pk_set=pk_set, queryset=queryset, **kwargs)

    @contextmanager
    def patched():
        with (
            _post_update_by(naive_post),
            mock.patch.object(signals.pre_update, "send", naive_send),
        ):
            yield

    return patched()


def queryset_evaluated_again():
    """After update(), the queryset that it was called on is evaluated."""

    def naive_send(send, sender, origin, queryset, pk_set, **kwargs):
        if isinstance(origin, QuerySet) and origin.model is sender:
            pk_set = set(origin.values_list("pk", flat=True))
            if not pk_set:
                return
            queryset = queryset.filter(pk__in=list(pk_set))
        send(sender, origin=origin, queryset=queryset, pk_set=pk_set, **kwargs)

    return _post_update_by(naive_send)


def ancestors_not_announced():
    """Only the model that update() was called on is announced."""

    def naive_send(send, sender, origin, **kwargs):
        if isinstance(origin, QuerySet) and sender in origin.model._meta.all_parents:
            return
        send(sender, origin=origin, **kwargs)

    return _post_update_by(naive_send)


def save_not_announced():
    """save() sends only pre_save and post_save, as ever."""

    def naive_send(send, sender, instance, **kwargs):
        if instance is None:
            send(sender, instance=instance, **kwargs)

    return _post_update_by(naive_send)


def _without_receivers(cls, name):
    """Let a method of a class work without receivers of updates."""
    method = getattr(cls, name)

    def replaced(*args, **kwargs):
        with (
            mock.patch.object(signals.pre_update, "receivers", []),
            mock.patch.object(signals.post_update, "receivers", []),
        ):
            return method(*args, **kwargs)

    return mock.patch.object(cls, name, replaced)


def bulk_update_not_announced():
    """bulk_update() updates without receivers."""
    return _without_receivers(QuerySet, "bulk_update")


def on_delete_not_announced():
    """The updates by delete() are made without receivers."""
    return _without_receivers(Collector, "delete")


def changed_values_not_used():
    """pre_update's receivers change what is announced, and not the update."""
    send = signals.pre_update.send

    def naive_send(sender, values, **kwargs):
        before = dict(values)
        send(sender=sender, values=values, **kwargs)
        changed.append((values, dict(values)))
        values.clear()
        values.update(before)

    def naive_post(send, sender, values, **kwargs):
        said = [after for before, after in changed if before is values]
        send(sender, values=said[-1] if said else values, **kwargs)

    changed = []

    @contextmanager
    def patched():
        with (
            _post_update_by(naive_post),
            mock.patch.object(signals.pre_update, "send", naive_send),
        ):
            yield

    return patched()


# What a mirror of the rows that hears of them by signals alone must notice.
SEEN_BY_MIRROR = [
    queryset_evaluated_again,
    save_not_announced,
    bulk_update_not_announced,
    on_delete_not_announced,
    ancestors_not_announced,
    changed_values_not_used,
    post_update_sent_on_commit,
    update_split,
]
