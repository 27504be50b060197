"""
Naive variants of the series, which the tests show to be wrong.

Each is a context manager that changes the patched Django.
"""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from unittest import mock

from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.operations import BaseDatabaseOperations
from django.db.models import query as models_query
from django.db.models import signals
from django.db.models.query import QuerySet
from django.db.models.sql import compiler
from django.db.models.sql.compiler import SQLUpdateCompiler


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
        BaseDatabaseOperations, "in_subquery_threshold", float("inf")
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
