"""
The audit in receivers.py, with uses of Django and with broken promises.

In ordinary uses, the audit must find nothing. Each case in BROKEN makes Django
break a promise of the signals, and its text is a part of the problem that the
audit must report.
"""

import json
import unittest
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from unittest.mock import Mock, patch

import pytest
from django.db import connection, transaction
from django.db.models import F, QuerySet, sql
from django.db.models.signals import post_update, pre_update
from django.db.models.sql.compiler import SQLUpdateCompiler
from django.test.utils import CaptureQueriesContext

from live import naive
from live.models import Account, Member, Owner, ProxyAccount, SpecialAccount
from receivers import Audit, Report


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Make three accounts, and install the audit. Return its report."""
    owner = Owner.objects.create(pk=1)
    for pk, name in enumerate(["ann", "bob"], 1):
        Account.objects.create(pk=pk, name=name, owner=owner)
    SpecialAccount.objects.create(pk=5, name="eve")
    report = Report(tmp_path / "report")
    report.watch_tests(monkeypatch.setattr)
    audit = Audit(report)
    audit.install(monkeypatch.setattr)
    yield report
    pre_update.disconnect(audit.pre_update)
    post_update.disconnect(audit.post_update)


def update():
    Account.objects.update(name="x")


def children():
    SpecialAccount.objects.update(name="x", level=1)


def save():
    Account.objects.get(pk=2).save()


def delete():
    Owner.objects.get(pk=1).delete()


is_through = patch.object(Account._meta, "auto_created", True)

# Ordinary uses.


@pytest.fixture(params=[False, True], ids=["", "with a wrapper"])
def wrapped(request):
    """Execute alone, and like django-pghistory, which puts SQL before it."""

    def wrap(execute, sql, *args):
        return execute(f"/* context */ {sql}", *args)

    with connection.execute_wrapper(wrap) if request.param else nullcontext():
        yield


def test_ordinary_uses(report, wrapped):
    assert Account.objects.update(name="x") == 3
    Account.objects.filter(name="y").update(name="z")
    Account.objects.filter(pk=2).update(id=3)
    Account.objects.none().update(name="z")
    Account.objects.filter(owner__name="x").update(owner=Owner.objects.first())
    Account.objects.filter(pk=1).update(owner_id=1, name=F("name"))
    ProxyAccount.objects.update(name="p")
    SpecialAccount.objects.update(name="x")
    SpecialAccount.objects.filter(name="nobody").update(name="x", level=2)
    SpecialAccount.objects.update(level=F("level"))
    children()
    for model in (Account, ProxyAccount, SpecialAccount):
        instance = model.objects.create(pk=8, name="x")
        instance.save()
        instance.save_base(raw=True)
        instance.delete()
    Account.objects.update_or_create(pk=1, defaults={"name": "x"})
    Account.objects.bulk_update(Account.objects.all(), ["name"], batch_size=1)
    delete()
    with is_through:
        update()
    with suppress(transaction.TransactionManagementError), transaction.atomic():
        transaction.set_rollback(True)
        update()
    # What tests do themselves is no concern of the audit's.
    pre_update.send(sender=Account, anything=1)
    sql.UpdateQuery(Account).update_batch([1], {"name": "x"}, "default")
    connection.cursor().execute("UPDATE live_account SET name = 'x'")
    assert report.unread == []


def update_again(sender, **kwargs):
    if sender is SpecialAccount:
        update()


@pytest.mark.parametrize("sender", [None, Account, SpecialAccount])
@pytest.mark.parametrize(
    "signal, receiver",
    [
        (pre_update, lambda **kwargs: Account.objects.filter(pk=1).delete()),
        (pre_update, lambda values, **kwargs: values.update(name="y", owner_id=1)),
        (pre_update, lambda values, **kwargs: values.clear()),
        (pre_update, update_again),
        (pre_update, Mock(side_effect=ValueError)),
        (post_update, Mock(side_effect=ValueError)),
    ],
)
def test_ordinary_receivers(report, connect, signal, receiver, sender):
    connect(signal, receiver, sender)
    for action in (update, children, save, SpecialAccount.objects.get().save):
        with suppress(ValueError):
            action()
    assert report.unread == []


def test_unnoticed(report):
    """The audit's queries are neither logged nor seen by wrappers."""
    seen = []

    def wrap(execute, sql, *args):
        seen.append(sql)
        return execute(sql, *args)

    with CaptureQueriesContext(connection) as log, connection.execute_wrapper(wrap):
        update()
    for statements in (seen, [query["sql"] for query in log]):
        selected_first = not connection.features.can_return_rows_from_update
        assert sum("SELECT" in sql for sql in statements) == selected_first
        assert sum(sql.startswith("UPDATE") for sql in statements) == 1


# Broken promises.


def sending(
    signal, action=update, to=None, times=1, during=nullcontext(), then=None, **changes
):
    """
    Return a case that sends a signal with other arguments, of which functions
    get the right one, so many times, and calls then() with them.
    to: the sender whose signal it is.
    """
    send = signal.send

    def changed_send(**kwargs):
        if to not in (None, kwargs["sender"]):
            return send(**kwargs)
        for name, value in changes.items():
            kwargs[name] = value(kwargs.get(name)) if callable(value) else value
        for _ in range(times):
            with during:
                send(**kwargs)
        if then:
            then(**kwargs)

    def case():
        with patch.object(signal, "send", changed_send):
            action()

    return case


def post_too(queryset, **kwargs):
    pk_set = set(queryset.values_list("pk", flat=True))
    post_update.send(queryset=queryset, pk_set=pk_set, **kwargs)


def with_other_sql():
    as_sql = SQLUpdateCompiler.as_sql

    def other_sql(self):
        text, params = as_sql(self)
        return text.replace("UPDATE", "UPDATE "), params

    with patch.object(SQLUpdateCompiler, "as_sql", other_sql):
        update()


@naive.ancestors_with_class_of_child()
def ancestor_of_other_class():
    OtherQuerySet(SpecialAccount).update(name="x", level=1)


def within(module, code):
    """Return a case that runs code as if it were in a module of Django's."""
    return partial(exec, code, {**globals(), "__name__": module})


COMPILE = """
query = sql.UpdateQuery(Account)
query.add_update_values({"name": "x"})
query.get_compiler("default").execute_sql("row count")
"""
EXECUTE = "connection.cursor().execute('UPDATE live_account SET points = 1')"
SEND = "pre_update.send(sender=Account, values={}, queryset=Account.objects.all())"


def executed_twice():
    def twice(execute):
        return lambda *args: [execute(*args), execute(*args)][1]

    with ExitStack() as stack:
        for name in ("execute_sql", "execute_returning_sql"):
            execute = getattr(SQLUpdateCompiler, name)
            stack.enter_context(patch.object(SQLUpdateCompiler, name, twice(execute)))
        update()


class OtherQuerySet(QuerySet):
    pass


pre, post = partial(sending, pre_update), partial(sending, post_update)
BROKEN = {
    "arguments ['extra']": pre(extra=1),
    "queryset.db other, using default": pre(queryset=lambda q: q.using("other")),
    "no pre_update was sent for: UPDATE": pre(
        using="other", queryset=lambda q: q.using("other")
    ),
    "the queryset is evaluated": post(queryset=lambda q: [len(q), q][1]),
    "a queryset of live.ProxyAccount": pre(queryset=ProxyAccount.objects.all()),
    "live.Account: the queryset is a <class 'live.test_audit": ancestor_of_other_class,
    "live.SpecialAccount: the queryset is a": pre(
        children, to=SpecialAccount, queryset=OtherQuerySet(SpecialAccount)
    ),
    "not in a transaction on default": post(
        during=patch.object(connection, "in_atomic_block", False)
    ),
    "values is ['name']": pre(values=list),
    "'owner_id' is not a concrete": pre(values={"owner_id": 1}),
    "'double' is not a concrete": pre(
        lambda: [Member.objects.create(pk=1), Member.objects.update(score=1)],
        values={"double": 2},
    ),
    "sent with values for []: UPDATE": pre(values={}),
    "sent with name='y': UPDATE": pre(values={"name": "y"}),
    "no pre_update had this dictionary": post(values=dict),
    "is saved": pre(save, instance=None),
    "None is saved": pre(delete, instance=Account(pk=1)),
    "another instance than": post(save, instance=Account(pk=1)),
    "origin is <class 'NoneType'>": pre(delete, origin=None),
    "origin is <class 'django.db.models.query.Q": pre(origin=Account.objects.all()),
    "another origin than pre_update had": post(origin=lambda origin: origin.all()),
    "raw=True": pre(save, raw=True),
    "but live.ProxyAccount was updated": pre(
        lambda: ProxyAccount.objects.update(name="x"), sender=Account
    ),
    "pre_update of live.Account: sent twice": pre(times=2),
    "post_update of live.Account: sent twice": post(times=2),
    "post_update of live.SpecialAccount: sent without": pre(
        children, to=SpecialAccount, then=post_too
    ),
    "executed after its post_update: UPDATE": pre(children, to=Account, then=post_too),
    "and post_update of live.SpecialAccount": pre(
        children, to=SpecialAccount, then=post_too
    ),
    "of none()": pre(during=patch.object(sql.Query, "is_empty", lambda self: True)),
    "an automatic through table": pre(during=is_through),
    "update() of live.Account: no post_update for {1, 2, 5}": post(times=0),
    "_update() of live.Account: no post_update for {2}": post(save, times=0),
    "no post_update for {5}": post(children, to=Account, times=0),
    "no pre_update for live.Account": pre(children, to=Account, times=0),
    "pre_update's queryset had {1}, pk_set {1, 2, 5}": pre(
        queryset=lambda q: q.filter(pk=1)
    ),
    "its queryset has rows twice": pre(
        queryset=lambda q: q.filter(owner__account__gt=0)
    ),
    "its queryset has {1}, pk_set {1, 2, 5}": post(queryset=lambda q: q.filter(pk=1)),
    "pk_set is set()": post(pk_set=set()),
    "pk_set is [1, 2, 5]": post(pk_set=sorted),
    "update() of live.Account: 3 rows, pk_set {1}": post(pk_set={1}),
    "pk_set {7} has other keys": post(
        lambda: Account.objects.filter(pk=2).update(id=3), pk_set={7}
    ),
    "a second UPDATE: ": executed_twice,
    "not an UPDATE of live_account: UPDATE ": with_other_sql,
    "values {'name': 'y'}, its child's are {'name': 'x'}": pre(
        children, to=Account, values={"name": "y"}
    ),
    "was sent for: UPDATE": within("django.contrib.x", COMPILE),
    "the ORM executed it without": within("django.db.models.x", EXECUTE),
    "sent outside of update() and _update()": within("django.contrib.x", SEND),
    "the audit failed:": pre(queryset=None),
}


@pytest.mark.parametrize("text", BROKEN)
def test_broken_promise(report, text):
    # Some cases make Django itself fail later.
    with suppress(Exception):
        BROKEN[text]()
    assert any(text in problem for problem in report.unread), report.unread


def test_tests_fail(report):
    """What the audit finds fails the test, and is in the report."""

    class Tests(unittest.TestCase):
        def test_good(self):
            update()

        def test_swallowed(self):
            with suppress(Exception):
                post(times=0)()

        @unittest.expectedFailure
        def test_expected_failure(self):
            post(times=0)()
            self.fail()

        def test_in_tear_down(self):
            self.addCleanup(post(times=0))

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Tests).run(result)
    failed = {test.id() for test, _ in result.failures}
    assert len(failed) == 3 and not result.errors
    lines = [json.loads(line) for line in report.path.read_text().splitlines()]
    assert {line["test"] for line in lines if "problem" in line} == failed
    updates = {line["test"]: line["updates"] for line in lines if "updates" in line}
    assert updates == dict.fromkeys([*failed, Tests("test_good").id()], 1)
    assert report.test == "no test"
