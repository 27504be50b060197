"""
Naive variants of the series, which the tests show to be wrong.

Each is a context manager that changes the patched Django. They know as little
of its code as they can: the signals, the functions of transactions and of
locks, and the statements.
"""

import re
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from unittest import mock

from django.db import connections, transaction
from django.db.models import query as models_query
from django.db.models import signals
from django.db.models.deletion import Collector
from django.db.models.query import QuerySet


def _sent_by(signal, naive_send):
    """Let naive_send(the right one, sender, ...) send a signal."""
    send = signal.send

    def replaced(sender, **kwargs):
        return naive_send(send, sender, **kwargs)

    return mock.patch.object(signal, "send", replaced)


def _post_update_by(naive_send):
    return _sent_by(signals.post_update, naive_send)


@contextmanager
def _patched(attribute, name, value):
    """Replace what an attribute of all connections, as "ops", has."""
    with ExitStack() as stack:
        for connection in connections.all():
            owner = getattr(connection, attribute)
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


# The transaction.


@contextmanager
def _update_in(atomic):
    """Let the signals of an update use another atomic()."""
    module = SimpleNamespace(**{**vars(transaction), "atomic": atomic})
    # Rows can't be locked outside of a transaction.
    with (
        mock.patch.object(models_query, "transaction", module),
        _patched("features", "has_select_for_update", False),
    ):
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


# The rows.


def rows_selected_without_lock():
    """The rows to update are selected without FOR UPDATE."""
    return _patched("features", "has_select_for_update", False)


def rows_locked_against_references():
    """The rows to update are locked as if their keys changed."""
    return _patched("ops", "for_update_sql", lambda **kwargs: "FOR UPDATE")


@contextmanager
def _statements_by(connection, rewrite):
    """Let rewrite(sql, params) return other statements."""

    def wrap(execute, sql, params, many, context):
        return execute(*rewrite(sql, params), many, context)

    with connection.execute_wrapper(wrap):
        yield


LOCKING_SELECT = re.compile(r"(SELECT (.*?) FROM .*?) WHERE (.*) FOR UPDATE", re.S)


def update_by_original_filter():
    """The rows are selected and locked, and updated by the original filter."""
    filters = []

    def rewrite(sql, params):
        if match := LOCKING_SELECT.fullmatch(sql):
            filters.append((match[3], params))
        elif sql.startswith("UPDATE") and filters:
            condition, values = filters[-1]
            start = sql.partition(" WHERE ")[0]
            sql, params = f"{start} WHERE {condition}", params[: start.count("%s")]
            params += values
        return sql, params

    return _statements_by(connections["default"], rewrite)


def rows_locked_through_subquery():
    """The lock is that of a subquery, which reads a snapshot."""

    def rewrite(sql, params):
        if match := LOCKING_SELECT.fullmatch(sql):
            start, key, condition = match.groups()
            key = key.partition(" AS ")[0]
            sql = f"{start} WHERE {key} IN ({start} WHERE {condition}) FOR UPDATE"
        return sql, params

    return _statements_by(connections["default"], rewrite)


def update_split():
    """The UPDATE is split into one for each row."""
    update = QuerySet.update

    def naive_update(self, **kwargs):
        if not signals.post_update.has_listeners(self.model):
            return update(self, **kwargs)
        pks = sorted(set(self.order_by().values_list("pk", flat=True)))
        return sum(update(self.filter(pk=pk), **kwargs) for pk in pks)

    return mock.patch.object(QuerySet, "update", naive_update)


# What is sent.


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


def _is_of_ancestor(sender, origin):
    return isinstance(origin, QuerySet) and sender in origin.model._meta.all_parents


def ancestors_with_class_of_child():
    """The querysets of ancestors have the class of the child's."""

    def naive_send(send, sender, queryset, origin, **kwargs):
        if _is_of_ancestor(sender, origin):
            queryset.__class__ = type(origin)
        send(sender, queryset=queryset, origin=origin, **kwargs)

    return _sent_by(signals.pre_update, naive_send)


def ancestors_not_sent():
    """post_update is sent only for the model that update() was called on."""

    def naive_send(send, sender, origin, **kwargs):
        if not _is_of_ancestor(sender, origin):
            send(sender, origin=origin, **kwargs)

    return _post_update_by(naive_send)


def save_not_sent():
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


def bulk_update_not_sent():
    """bulk_update() updates without receivers."""
    return _without_receivers(QuerySet, "bulk_update")


def on_delete_not_sent():
    """The updates by delete() are made without receivers."""
    return _without_receivers(Collector, "delete")


@contextmanager
def keys_of_pre_update():
    """The keys are those of the rows that pre_update's queryset has."""
    keys = {}

    def naive_pre(send, sender, queryset, values, **kwargs):
        keys[id(values)] = set(queryset.values_list("pk", flat=True))
        return send(sender=sender, queryset=queryset, values=values, **kwargs)

    def naive_post(send, sender, values, pk_set, queryset, **kwargs):
        pk_set = keys.pop(id(values))
        queryset = QuerySet(sender, using=queryset.db).filter(pk__in=list(pk_set))
        send(sender, values=values, pk_set=pk_set, queryset=queryset, **kwargs)

    with _sent_by(signals.pre_update, naive_pre), _post_update_by(naive_post):
        yield


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


@contextmanager
def changed_values_not_used():
    """pre_update's receivers change what is sent, and not the update."""
    changed = []

    def naive_pre(send, sender, values, **kwargs):
        before = dict(values)
        send(sender=sender, values=values, **kwargs)
        changed.append((values, dict(values)))
        values.clear()
        values.update(before)

    def naive_post(send, sender, values, **kwargs):
        said = [after for before, after in changed if before is values]
        send(sender, values=said[-1] if said else values, **kwargs)

    with _sent_by(signals.pre_update, naive_pre), _post_update_by(naive_post):
        yield


# What a mirror of the rows that hears of them by signals alone must notice.
SEEN_BY_MIRROR = [
    queryset_evaluated_again,
    save_not_sent,
    bulk_update_not_sent,
    on_delete_not_sent,
    ancestors_not_sent,
    changed_values_not_used,
    post_update_sent_on_commit,
    update_split,
]
