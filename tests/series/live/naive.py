"""
Naive variants of the series, which the tests show to be wrong.

Each is a context manager that changes the patched Django.
"""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from unittest import mock

from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import query as models_query
from django.db.models import signals
from django.db.models.deletion import Collector
from django.db.models.query import QuerySet
from django.db.models.sql import compiler
from django.db.models.sql.compiler import SQLUpdateCompiler
from django.db.models.sql.subqueries import UpdateQuery


@contextmanager
def _update_in(atomic):
    """
    Let the signals of an update use another atomic().

    The keys are selected in a transaction of their own, because they could
    not be locked otherwise.
    """
    update = QuerySet._update_with_signals
    execute = SQLUpdateCompiler.execute_returning_pks_sql
    module = SimpleNamespace(**{**vars(transaction), "atomic": atomic})

    def naive_update(self, *args, **kwargs):
        with mock.patch.object(models_query, "transaction", module):
            return update(self, *args, **kwargs)

    def naive_execute(self, *args, **kwargs):
        with transaction.atomic(using=self.using, savepoint=False):
            return execute(self, *args, **kwargs)

    with (
        mock.patch.object(QuerySet, "_update_with_signals", naive_update),
        mock.patch.object(
            SQLUpdateCompiler, "execute_returning_pks_sql", naive_execute
        ),
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


def update_in_transaction_by_hand():
    """The transaction turns autocommit off, and on again at its end."""

    @contextmanager
    def atomic(using, savepoint):
        transaction.set_autocommit(False, using=using)
        try:
            yield
        except BaseException:
            transaction.rollback(using=using)
            raise
        else:
            transaction.commit(using=using)
        finally:
            transaction.set_autocommit(True, using=using)

    return _update_in(atomic)


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


@contextmanager
def post_update_sent_on_commit():
    """post_update is sent when the transaction has been committed."""
    send = signals.post_update.send

    def naive_send(sender, using, **kwargs):
        transaction.on_commit(
            lambda: send(sender=sender, using=using, **kwargs), using=using
        )

    with mock.patch.object(signals.post_update, "send", naive_send):
        yield


@contextmanager
def update_signals_sent_robustly():
    """An exception of a receiver is logged, and nothing else."""
    with (
        mock.patch.object(signals.pre_update, "send", signals.pre_update.send_robust),
        mock.patch.object(signals.post_update, "send", signals.post_update.send_robust),
    ):
        yield


def transaction_begun_as_reader():
    """On SQLite, the transaction of an update begins like any other."""
    never = property(lambda self: False, lambda self, value: None)
    return mock.patch.object(BaseDatabaseWrapper, "begin_for_write", never, create=True)


def lists_as_parameters():
    """Each value of a list in the "in" lookup is a parameter."""
    return mock.patch.object(
        type(connection.ops), "in_subquery_threshold", float("inf")
    )


def update_in_one_statement():
    """An update that is limited to selected rows isn't split."""
    return mock.patch.object(compiler, "UPDATE_BATCH_SIZE", float("inf"))


@contextmanager
def keys_of_pre_update():
    """The keys are those of the rows that pre_update's queryset has."""
    execute = SQLUpdateCompiler.execute_returning_pks_sql
    send = signals.pre_update.send
    keys = []

    def naive_send(sender, queryset, **kwargs):
        keys.append(set(queryset.values_list("pk", flat=True)))
        return send(sender=sender, queryset=queryset, **kwargs)

    def naive_execute(self, *args, **kwargs):
        rows, pks = execute(self, *args, **kwargs)
        return rows, {model: keys.pop() for model in pks}

    with (
        mock.patch.object(signals.pre_update, "send", naive_send),
        mock.patch.object(
            SQLUpdateCompiler, "execute_returning_pks_sql", naive_execute
        ),
    ):
        yield


@contextmanager
def rows_selected_without_lock():
    """The rows to update are selected without FOR UPDATE."""
    features = connection.features
    with mock.patch.object(features, "has_select_for_update", False):
        yield


def keys_without_limit():
    """MySQL and MariaDB aren't told how many rows an update's keys select."""
    return mock.patch.object(UpdateQuery, "set_limits", lambda self, **kwargs: None)


@contextmanager
def update_not_limited_to_selected_rows():
    """The rows are selected and locked, and updated by the original filter."""

    def naive_execute(self, returning_fields=()):
        pks = self.query.chain().get_compiler(self.using).select_ids_for_update()[2]
        return [()] * self.execute_sql(compiler.ROW_COUNT), pks

    with mock.patch.object(
        SQLUpdateCompiler, "execute_returning_pks_sql", naive_execute
    ):
        yield


def _post_update_sent_by(naive_send):
    """Let another function send post_update, given the real one."""
    send = signals.post_update.send

    def sent(sender, **kwargs):
        return naive_send(send, sender, **kwargs)

    return mock.patch.object(signals.post_update, "send", sent)


def queryset_evaluated_again():
    """After update(), the queryset that it was called on is evaluated."""

    def naive_send(send, sender, origin, queryset, pk_set, **kwargs):
        if isinstance(origin, QuerySet) and origin.model is sender:
            pk_set = set(origin.values_list("pk", flat=True))
            if not pk_set:
                return
            queryset = queryset.filter(pk__in=list(pk_set))
        send(sender, origin=origin, queryset=queryset, pk_set=pk_set, **kwargs)

    return _post_update_sent_by(naive_send)


def parents_not_announced():
    """Only the model that update() was called on is announced."""

    def naive_send(send, sender, origin, **kwargs):
        if isinstance(origin, QuerySet) and sender in origin.model._meta.all_parents:
            return
        send(sender, origin=origin, **kwargs)

    return _post_update_sent_by(naive_send)


def save_not_announced():
    """save() sends only pre_save and post_save, as ever."""

    def naive_send(send, sender, origin, **kwargs):
        if isinstance(origin, sender):
            return
        send(sender, origin=origin, **kwargs)

    return _post_update_sent_by(naive_send)


def bulk_update_not_announced():
    """bulk_update() updates without receivers."""
    bulk_update = QuerySet.bulk_update

    def naive_bulk_update(self, *args, **kwargs):
        with mock.patch.object(QuerySet, "_has_update_listeners", return_value=False):
            return bulk_update(self, *args, **kwargs)

    return mock.patch.object(QuerySet, "bulk_update", naive_bulk_update)


def on_delete_not_announced():
    """The updates by delete() are made without receivers."""
    delete = Collector.delete

    def naive_delete(self):
        with mock.patch.object(QuerySet, "_has_update_listeners", return_value=False):
            return delete(self)

    return mock.patch.object(Collector, "delete", naive_delete)


@contextmanager
def old_keys_in_pk_set():
    """pk_set has the keys that the rows had before the update."""
    execute = SQLUpdateCompiler.execute_returning_pks_sql
    select = SQLUpdateCompiler.select_ids_for_update

    def naive_execute(self, *args, **kwargs):
        features = self.connection.features
        with mock.patch.object(features, "can_return_rows_from_update", False):
            return execute(self, *args, **kwargs)

    def naive_select(self):
        ids, related_ids, pks = select(self)
        pks = {model: set(related_ids.get(model, ids)) for model in pks}
        return ids, related_ids, pks

    with (
        mock.patch.object(
            SQLUpdateCompiler, "execute_returning_pks_sql", naive_execute
        ),
        mock.patch.object(SQLUpdateCompiler, "select_ids_for_update", naive_select),
    ):
        yield


def changed_values_not_used():
    """pre_update's receivers change what is announced, and not the update."""
    update = QuerySet._update_with_signals

    def naive_update(self, query, *args, **kwargs):
        query.chain = lambda *args, **kwargs: naive_chain(query, *args, **kwargs)
        return update(self, query, *args, **kwargs)

    def naive_chain(query, *args, **kwargs):
        chained = UpdateQuery.chain(query, *args, **kwargs)
        if isinstance(chained, UpdateQuery):
            chained.values = query.values.copy()
            chained.related_updates = query.related_updates.copy()
            chained.add_update_values = lambda values: None
        return chained

    return mock.patch.object(QuerySet, "_update_with_signals", naive_update)
