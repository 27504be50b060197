"""
The audit in receivers.py, with uses of Django and with broken promises.

In ordinary uses, the audit must find nothing. Each case in BROKEN makes Django
break a promise of the signals, and its text is a part of the problem that the
audit must report.
"""

import json
import types
import unittest
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from unittest import mock

import pytest
from django.db import connection, transaction
from django.db.models import F, QuerySet, sql
from django.db.models.signals import post_update, pre_update
from django.test.utils import CaptureQueriesContext
from receivers import Audit, Report

from live import naive
from live.models import Account, Member, Owner, ProxyAccount, SpecialAccount

pre_and_post = pytest.mark.parametrize("signal", [pre_update, post_update])


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Make three accounts, and install the audit. Return its report."""
    for pk, name in enumerate(["ann", "bob"], 1):
        Account.objects.create(pk=pk, name=name, owner=Owner.objects.create(pk=pk))
    SpecialAccount.objects.create(pk=5, name="eve")
    report = Report(tmp_path / "report")
    report.watch_tests(monkeypatch.setattr)
    audit = Audit(report)
    audit.install(monkeypatch.setattr)
    yield report
    pre_update.disconnect(audit.pre_update)
    post_update.disconnect(audit.post_update)


@contextmanager
def connected(signal, receiver, sender=None):
    signal.connect(receiver, sender, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receiver, sender)


def update():
    Account.objects.update(name="x")


def update_children():
    SpecialAccount.objects.update(name="x", level=1)


def update_owners():
    Account.objects.update(owner=1)
    Owner.objects.update(name="x")


def save():
    Account.objects.get(pk=1).save()


def delete():
    Owner.objects.get(pk=1).delete()


# Ordinary uses.


def updates():
    assert Account.objects.update(name="x") == 3
    Account.objects.filter(name="y").update(name="z")
    Account.objects.filter(pk=2).update(id=3)
    Account.objects.filter(pk=3).update(id=2)
    Account.objects.none().update(name="z")
    Account.objects.filter(owner__name="x").update(owner=Owner.objects.first())
    Account.objects.filter(pk=1).update(owner_id=2, name=F("name"))
    ProxyAccount.objects.update(name="p")


def saves():
    for model in (Account, ProxyAccount, SpecialAccount):
        instance = model.objects.create(pk=8, name="x")
        instance.save()
        instance.save_base(raw=True)
        instance.delete()
    Account.objects.update_or_create(name="ann", defaults={"name": "x"})


def batches_and_deletions():
    accounts = list(Account.objects.all())
    accounts[0].name = "x"
    Account.objects.bulk_update(accounts, ["name"], batch_size=1)
    Owner.objects.get(pk=1).delete()
    Owner.objects.filter(pk=2).delete()


def children():
    update_children()
    SpecialAccount.objects.update(name="x")
    SpecialAccount.objects.filter(name="nobody").update(name="x", level=2)
    SpecialAccount.objects.update(level=F("level"))


def automatic_through_table():
    with mock.patch.object(Account._meta, "auto_created", True):
        update()


def own_use():
    """What tests do themselves is no concern of the audit's."""
    pre_update.send(sender=Account, anything=1)
    sql.UpdateQuery(Account).update_batch([1], {"name": "x"}, "default")
    connection.cursor().execute("UPDATE live_account SET name = 'x'")


def receivers_write():
    def receive(values, **kwargs):
        pre_update.disconnect(receive)
        values["name"] = "changed"
        Account.objects.filter(pk=1).delete()

    with connected(pre_update, receive):
        Account.objects.update(owner=None)


def receivers_save():
    def receive(**kwargs):
        pre_update.disconnect(receive)
        Account.objects.filter(pk=1).update(name="y")
        Account.objects.get(pk=2).save()

    with connected(pre_update, receive):
        SpecialAccount.objects.get(pk=5).save()


def receivers_remove_all():
    for sender in (None, Account):
        with connected(pre_update, lambda values, **kwargs: values.clear(), sender):
            update_children()
            save()


def receivers_raise():
    for signal in (pre_update, post_update):
        with connected(signal, mock.Mock(side_effect=ValueError)):
            with suppress(ValueError):
                update()


def receivers_amend_ancestors():
    def receive(values, **kwargs):
        values.update(name="changed", owner_id=1)

    with connected(pre_update, receive, sender=Account):
        SpecialAccount.objects.update(name="x", level=3)
    assert SpecialAccount.objects.get().name == "changed"


def broken_transaction():
    with suppress(transaction.TransactionManagementError), transaction.atomic():
        transaction.set_rollback(True)
        update()


def wrapper_of_statements():
    """Like that of django-pghistory, which puts SQL before the statement."""

    def wrap(execute, sql, *args):
        return execute(f"/* context */ {sql}", *args)

    with connection.execute_wrapper(wrap):
        updates()
        saves()


def unnoticed():
    """The audit's queries are neither logged nor seen by wrappers."""
    wrapper = mock.Mock(side_effect=lambda execute, *args: execute(*args))
    with connection.execute_wrapper(wrapper):
        with CaptureQueriesContext(connection) as queries:
            update()
    seen = [call.args[1].split()[0] for call in wrapper.call_args_list]
    assert seen.count("UPDATE") == 1 and set(seen) <= {"BEGIN", "SELECT", "UPDATE"}
    selected_first = not connection.features.can_return_rows_from_update
    assert seen.count("SELECT") == selected_first
    logged = [query["sql"].split()[0] for query in queries]
    assert [word for word in logged if word != "COMMIT"] == seen


ORDINARY = [updates, saves, batches_and_deletions, children, automatic_through_table]
ORDINARY += [own_use, receivers_write, receivers_save, receivers_remove_all]
ORDINARY += [receivers_raise, receivers_amend_ancestors, broken_transaction]
ORDINARY += [wrapper_of_statements, unnoticed]


@pytest.mark.parametrize("use", ORDINARY, ids=lambda use: use.__name__)
def test_ordinary_use(report, use):
    use()
    assert report.unread == []


# Broken promises.


def sending(signal, action=update, to=None, times=1, during=nullcontext(), **changes):
    """
    Return a case that sends a signal with other arguments, of which functions
    get the right one, so many times. to: the sender whose signal it is.
    """
    send = signal.send

    def changed_send(**kwargs):
        if to in (None, kwargs["sender"]):
            for name, value in changes.items():
                right = kwargs.get(name)
                kwargs[name] = value(right) if callable(value) else value
            for _ in range(times):
                with during:
                    send(**kwargs)
        else:
            send(**kwargs)

    def case():
        with mock.patch.object(signal, "send", changed_send):
            action()

    return case


def post_with_pre(sender):
    """Return a case that sends post_update at once after pre_update."""
    send = pre_update.send

    def send_both(**kwargs):
        send(**kwargs)
        if kwargs["sender"] is sender:
            pks = set(kwargs["queryset"].values_list("pk", flat=True))
            post_update.send(**kwargs, pk_set=pks)

    def case():
        with mock.patch.object(pre_update, "send", send_both):
            update_children()

    return case


def with_other_sql():
    as_sql = sql.compiler.SQLUpdateCompiler.as_sql

    def other_sql(self):
        text, params = as_sql(self)
        return text.replace("UPDATE", "UPDATE "), params

    with mock.patch.object(sql.compiler.SQLUpdateCompiler, "as_sql", other_sql):
        update()


def naively(variant, action):
    with variant():
        action()


def within(name, function):
    """Return a case that calls a function as if a module of Django had it."""
    names = {**function.__globals__, "__name__": name}
    return types.FunctionType(function.__code__, names)


def compile_alone():
    query = sql.UpdateQuery(Account)
    query.add_update_values({"name": "x"})
    query.get_compiler("default").execute_sql("row count")


def execute_alone():
    connection.cursor().execute("UPDATE live_account SET name = 'x'")


def send_alone():
    pre_update.send(sender=Account, values={}, queryset=Account.objects.all())


class OtherQuerySet(QuerySet):
    pass


pre, post = partial(sending, pre_update), partial(sending, post_update)
of_child = "not between the UPDATE and post_update of live.SpecialAccount"
BROKEN = {
    "arguments ['extra']": pre(extra=1),
    "queryset.db other, using default": pre(queryset=lambda q: q.using("other")),
    "no pre_update was sent for: UPDATE": pre(
        using="other", queryset=lambda q: q.using("other")
    ),
    "the queryset is evaluated": post(queryset=lambda q: [len(q), q][1]),
    "a queryset of live.ProxyAccount": pre(queryset=ProxyAccount.objects.all()),
    "live.Account: the queryset is a <class 'live.test_audit.OtherQ": partial(
        naively,
        naive.ancestors_with_class_of_child,
        lambda: OtherQuerySet(SpecialAccount).update(name="x", level=1),
    ),
    "live.SpecialAccount: the queryset is a <class 'live.test_audit.OtherQ": pre(
        update_children, to=SpecialAccount, queryset=OtherQuerySet(SpecialAccount)
    ),
    "not in a transaction on default": post(
        during=mock.patch.object(connection, "in_atomic_block", False)
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
    "post_update of live.SpecialAccount: sent without": post_with_pre(SpecialAccount),
    "executed after its post_update: UPDATE": post_with_pre(Account),
    of_child: post_with_pre(SpecialAccount),
    "of none()": pre(during=mock.patch.object(sql.Query, "is_empty", lambda self: True)),
    "an automatic through table": pre(
        during=mock.patch.object(Account._meta, "auto_created", True)
    ),
    "update() of live.Account: no post_update for {1, 2, 5}": post(times=0),
    "_update() of live.Account: no post_update for {1}": post(save, times=0),
    "no post_update for {5}": post(update_children, to=Account, times=0),
    "no pre_update for live.Account": pre(update_children, to=Account, times=0),
    "pre_update's queryset had {1}, pk_set {1, 2, 5}": pre(
        queryset=lambda q: q.filter(pk=1)
    ),
    "its queryset has rows twice": pre(
        update_owners, to=Owner, queryset=lambda q: q.filter(account__gt=0)
    ),
    "its queryset has {1}, pk_set {1, 2, 5}": post(queryset=lambda q: q.filter(pk=1)),
    "pk_set is set()": post(pk_set=set()),
    "pk_set is [1, 2, 5]": post(pk_set=sorted),
    "update() of live.Account: 3 rows, pk_set {1}": post(pk_set={1}),
    "not an UPDATE of live_account: UPDATE ": with_other_sql,
    "values {'name': 'y'}, its child's are {'name': 'x'}": pre(
        update_children, to=Account, values={"name": "y"}
    ),
    "was sent for: UPDATE": within("django.contrib.x", compile_alone),
    "the ORM executed it without": within("django.db.models.x", execute_alone),
    "sent outside of update() and _update()": within("django.contrib.x", send_alone),
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
    never = post(times=0)

    class Tests(unittest.TestCase):
        def test_good(self):
            updates()

        def test_swallowed(self):
            with suppress(Exception):
                never()

        @unittest.expectedFailure
        def test_expected_failure(self):
            never()
            self.fail()

        def test_in_tear_down(self):
            self.addCleanup(never)

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Tests).run(result)
    assert not result.errors and len(result.failures) == 3
    assert all("no post_update" in text for _, text in result.failures)
    lines = [json.loads(line) for line in report.path.read_text().splitlines()]
    found = {line["test"] for line in lines if "problem" in line}
    assert {test.id() for test, _ in result.failures} == found
    updates_of = {line["test"]: line["updates"] for line in lines if "updates" in line}
    assert len(updates_of) == 4
    assert updates_of[Tests("test_good").id()] == 7
    assert report.test == "no test"
