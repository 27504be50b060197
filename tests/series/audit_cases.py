"""
Cases for the audit in receivers.py, run by test_receivers.py.

Each @good function is an ordinary use of Django, and each @breaks(text) makes
Django break one promise of the signals; the text is a part of the problem that
the audit must report. The output is a JSON list of [case, text, problems].
"""

import contextlib
import json
import sys
import tempfile
import types
import unittest
from unittest import mock

import django
from django.apps import AppConfig
from django.conf import settings


class Config(AppConfig):
    name = "__main__"
    label = "cases"


settings.configure(
    INSTALLED_APPS=["__main__.Config"],
    DATABASES={
        alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        for alias in ("default", "other")
    },
)
django.setup()

from django.db import connection, connections, models, transaction  # NOQA: E402
from django.db.models import F, QuerySet  # NOQA: E402
from django.db.models.signals import post_update, pre_update  # NOQA: E402
from django.test.utils import CaptureQueriesContext  # NOQA: E402

from receivers import Audit, Report  # NOQA: E402


class Author(models.Model):
    name = models.CharField(max_length=9)
    mentor = models.ForeignKey(
        "self", models.SET_NULL, null=True, related_name="apprentices"
    )
    friends = models.ManyToManyField("self")

    class Meta:
        app_label = "cases"


class Proxy(Author):
    class Meta:
        app_label = "cases"
        proxy = True


class Editor(Author):
    level = models.IntegerField(default=0)

    class Meta:
        app_label = "cases"


class Other(models.Model):
    class Meta:
        app_label = "cases"


class OtherQuerySet(QuerySet):
    pass


CASES = []


def good(case):
    CASES.append((case, ""))
    return case


def breaks(text):
    def decorator(case):
        CASES.append((case, text))
        return case

    return decorator


# Ordinary uses.


@good
def update():
    assert Author.objects.update(name="x") == 2
    Author.objects.filter(name="y").update(name="z")
    Author.objects.filter(pk=2).update(id=3)
    Author.objects.filter(pk=3).update(id=2)
    Author.objects.none().update(name="z")
    Author.objects.filter(mentor__name="x").update(mentor=Author.objects.first())
    Author.objects.filter(pk=1).update(mentor_id=2, name=F("name"))
    Proxy.objects.update(name="p")


@good
def save():
    for model in (Author, Proxy, Editor):
        instance = model.objects.create(pk=9, name="x")
        instance.save()
        instance.delete()
    Author.objects.update_or_create(name="ann", defaults={"name": "x"})


@good
def many():
    authors = list(Author.objects.all())
    authors[0].name = "x"
    Author.objects.bulk_update(authors, ["name"], batch_size=1)
    Author.objects.get(pk=1).delete()
    Author.objects.filter(pk=2).delete()


@good
def children():
    Editor.objects.create(pk=9)
    Editor.objects.update(name="x")
    Editor.objects.update(name="x", level=2)
    Editor.objects.update(level=F("level"))


@good
def through():
    Author.objects.get(pk=1).friends.add(2)
    Author.friends.through.objects.update(to_author=1)


@good
def own_use():
    """What tests do themselves is no concern of the audit's."""
    pre_update.send(sender=Author, anything=1)
    query = models.sql.UpdateQuery(Author)
    query.add_update_values({"name": "x"})
    query.get_compiler("default").execute_sql("row count")
    connection.cursor().execute("UPDATE cases_author SET name = 'x'")


@good
def receivers_write():
    def receive(values, **kwargs):
        pre_update.disconnect(receive)
        values["name"] = "changed"
        Author.objects.filter(pk=1).delete()

    with connected(pre_update, receive):
        Author.objects.update(mentor=None)


@good
def receivers_remove_all():
    with connected(pre_update, lambda values, **kwargs: values.clear()):
        Author.objects.update(name="x")
        Author.objects.get(pk=1).save()


@good
def receivers_raise():
    def receive(**kwargs):
        raise ValueError

    for signal in (pre_update, post_update):
        with connected(signal, receive), contextlib.suppress(ValueError):
            Author.objects.update(name="x")


@good
def receivers_of_ancestors_change_values():
    """They do it in vain."""
    Editor.objects.create(pk=9)

    def receive(values, **kwargs):
        values["name"] = "changed"

    with connected(pre_update, receive, sender=Author):
        Editor.objects.update(name="x")


@good
def broken_transaction():
    with contextlib.suppress(transaction.TransactionManagementError):
        with transaction.atomic():
            transaction.set_rollback(True)
            Author.objects.update(name="x")


@good
def unnoticed():
    """The audit's queries are neither logged nor seen by wrappers."""
    wrapper = mock.Mock(side_effect=lambda run, *args: run(*args))
    with connection.execute_wrapper(wrapper):
        with CaptureQueriesContext(connection) as queries:
            with transaction.atomic():
                Author.objects.update(name="x")
    found = [query["sql"].split()[0] for query in queries]
    assert found == ["BEGIN", "UPDATE", "COMMIT"], found
    seen = [call.args[1].split()[0] for call in wrapper.call_args_list]
    assert seen == ["BEGIN", "UPDATE"], seen


# Broken promises.


@contextlib.contextmanager
def connected(signal, receiver, sender=None):
    signal.connect(receiver, sender, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receiver, sender)


@contextlib.contextmanager
def sending(signal, change):
    """Call change(send, kwargs) instead of sending a signal."""
    send = signal.send
    with mock.patch.object(signal, "send", lambda **kwargs: change(send, kwargs)):
        yield


def changed(signal, action=lambda: Author.objects.update(name="x"), **changes):
    """Send a signal with other arguments; functions get the right one."""

    def change(send, kwargs):
        for name, value in changes.items():
            kwargs[name] = value(kwargs.get(name)) if callable(value) else value
        send(**kwargs)

    with sending(signal, change):
        action()


def in_module(name, function):
    """Return a function as if it were defined in another module."""
    return types.FunctionType(
        function.__code__, {**function.__globals__, "__name__": name}
    )


@breaks("queryset.db default, using other")
def wrong_using():
    with transaction.atomic(using="other"):
        changed(pre_update, using="other")


@breaks("queryset.db other, using default")
def wrong_queryset_db():
    changed(pre_update, queryset=lambda queryset: queryset.using("other"))


@breaks("no pre_update was sent for: UPDATE")
def wrong_statement_db():
    def change(send, kwargs):
        kwargs.update(using="other", queryset=kwargs["queryset"].using("other"))
        send(**kwargs)

    with sending(pre_update, change):
        Author.objects.update(name="x")


@breaks("the queryset is evaluated")
def evaluated():
    changed(pre_update, queryset=lambda queryset: [len(queryset), queryset][1])


@breaks("pre_update of cases.Author: a queryset of cases.Proxy")
def wrong_queryset_model():
    changed(pre_update, queryset=Proxy.objects.all())


@breaks("the queryset is a <class '__main__.OtherQuerySet'>")
def wrong_queryset_class():
    changed(post_update, queryset=OtherQuerySet(Author, using="default"))


@breaks("arguments ['extra']")
def extra_argument():
    changed(pre_update, extra=1)


@breaks("arguments ['raw']")
def missing_argument():
    def change(send, kwargs):
        del kwargs["raw"]
        send(**kwargs)

    with sending(pre_update, change):
        Author.objects.update(name="x")


@breaks("not in a transaction on default")
def no_transaction():
    def change(send, kwargs):
        with mock.patch.object(connection, "in_atomic_block", False):
            send(**kwargs)

    with sending(post_update, change):
        Author.objects.update(name="x")


@breaks("values is ['name']")
def values_no_dict():
    changed(pre_update, values=lambda values: list(values))


@breaks("'mentor_id' is not a concrete field's name")
def values_attname():
    changed(pre_update, values={"mentor_id": 1})


@breaks("announced with values for []: UPDATE")
def values_incomplete():
    changed(pre_update, values={})


@breaks("announced with name='y': UPDATE")
def values_others():
    changed(pre_update, values={"name": "y"})


@breaks("no pre_update had this dictionary of values")
def values_copied():
    changed(post_update, values=dict)


@breaks("origin is of <class 'NoneType'>")
def origin_none():
    changed(pre_update, origin=None)


@breaks("origin is of <class 'NoneType'>")
def origin_none_on_delete():
    author = Author.objects.get(pk=1)
    Author.objects.update(mentor=author)
    changed(pre_update, author.delete, origin=None)


@breaks("no method of its origin was called")
def origin_other():
    changed(pre_update, origin=Author.objects.all())


@breaks("origin is of cases.Other")
def origin_model():
    changed(pre_update, origin=Other())


@breaks("another origin than pre_update had")
def origin_changes():
    changed(post_update, origin=lambda origin: origin.all())


@breaks("raw=True with origin")
def raw_of_update():
    changed(pre_update, raw=True)


@breaks("but cases.Proxy was updated")
def wrong_sender():
    update = Proxy.objects.update
    changed(pre_update, lambda: update(name="x"), sender=Author)


@breaks("but cases.Proxy was updated")
def wrong_sender_of_save():
    changed(pre_update, Proxy.objects.get(pk=1).save, sender=Author)


@breaks("cases.Editor: not an ancestor of cases.Author")
def not_an_ancestor():
    def change(send, kwargs):
        send(**kwargs)
        send(**{**kwargs, "sender": Editor})

    with sending(pre_update, change):
        Author.objects.update(name="x")


@breaks("no pre_update was sent for: UPDATE")
def pre_missing():
    with sending(pre_update, lambda send, kwargs: None):
        Author.objects.update(name="x")


@breaks("sent twice in one update()")
def pre_twice():
    with sending(pre_update, lambda send, kwargs: [send(**kwargs), send(**kwargs)]):
        Author.objects.update(name="x")


@breaks("no post_update for {1, 2}")
def pre_of_nothing():
    with mock.patch.object(
        models.sql.compiler.SQLUpdateCompiler, "as_sql", lambda self: ("", ())
    ):
        Author.objects.update(name="x")


@breaks("pre_update's queryset had {1}, pk_set {1, 2}")
def pre_other_rows():
    changed(pre_update, queryset=lambda queryset: queryset.filter(pk=1))


@breaks("its queryset has rows twice")
def pre_rows_twice():
    Author.objects.update(mentor=Author.objects.get(pk=1))
    changed(
        pre_update, queryset=lambda queryset: queryset.filter(apprentices__in=[1, 2])
    )


@breaks("no post_update for {1, 2}")
def post_missing():
    with sending(post_update, lambda send, kwargs: None):
        Author.objects.update(name="x")


@breaks("_update() of cases.Author: no post_update for {1}")
def post_missing_on_save():
    with sending(post_update, lambda send, kwargs: None):
        Author.objects.get(pk=1).save()


@breaks("sent twice for one pre_update")
def post_twice():
    with sending(post_update, lambda send, kwargs: [send(**kwargs), send(**kwargs)]):
        Author.objects.update(name="x")


@breaks("post_update of cases.Author: sent without an UPDATE")
def post_too_early():
    def change(send, kwargs):
        send(**kwargs)
        post_update.send(**kwargs, pk_set={1, 2})

    with sending(pre_update, change):
        Author.objects.update(name="x")


@breaks("not an UPDATE of cases_author: UPDATE OR FAIL")
def another_statement():
    compiler = models.sql.compiler.SQLUpdateCompiler
    as_sql = compiler.as_sql

    def changed_as_sql(self):
        sql, params = as_sql(self)
        return sql.replace("UPDATE", "UPDATE OR FAIL"), params

    with mock.patch.object(compiler, "as_sql", changed_as_sql):
        Author.objects.update(name="x")


@breaks("executed after its post_update: UPDATE")
def update_too_late():
    post_too_early()


@breaks("another sender than pre_update had")
def post_of_other_sender():
    changed(post_update, sender=Proxy)


@breaks("its queryset has {1}, pk_set {1, 2}")
def post_other_rows():
    changed(post_update, queryset=lambda queryset: queryset.filter(pk=1))


@breaks("pk_set is set()")
def pk_set_empty():
    changed(post_update, pk_set=set())


@breaks("pk_set is [1, 2]")
def pk_set_no_set():
    changed(post_update, pk_set=sorted)


@breaks("update() of cases.Author: 2 rows, pk_set {1}")
def pk_set_other():
    changed(post_update, pk_set={1}, queryset=Author.objects.filter(pk=1))


@breaks("post_update, but 2 rows")
def post_of_part():
    def change(send, kwargs):
        kwargs["queryset"] = kwargs["queryset"].none()
        send(**kwargs)

    with sending(pre_update, change), sending(post_update, lambda send, kwargs: None):
        Author.objects.update(name="x")


@breaks("its table is an automatic through table")
def through_announced():
    with mock.patch.object(Author.friends.through._meta, "auto_created", False):
        with sending(pre_update, send_as_through):
            Author.friends.through.objects.update(to_author=1)


def send_as_through(send, kwargs):
    with mock.patch.object(Author.friends.through._meta, "auto_created", True):
        send(**kwargs)


@breaks("no pre_update was sent for: UPDATE")
def compiler_alone():
    def execute():
        query = models.sql.UpdateQuery(Author)
        query.add_update_values({"name": "x"})
        query.get_compiler("default").execute_sql("row count")

    in_module("django.contrib.example", execute)()


@breaks("the ORM executed it without SQLUpdateCompiler: UPDATE")
def orm_without_compiler():
    def execute():
        connection.cursor().execute("UPDATE cases_author SET name = 'x'")

    in_module("django.db.models.example", execute)()


@breaks("sent outside of update() and _update()")
def outside_of_update():
    def send():
        pre_update.send(
            sender=Author,
            queryset=Author.objects.all(),
            values={},
            using="default",
            origin=None,
            raw=False,
        )

    in_module("django.contrib.example", send)()


@breaks("the audit failed:")
def audit_fails():
    changed(pre_update, queryset=lambda queryset: queryset.extra(where=["nosuch"]))


# The tests which fail because of what the audit found.


class Tests(unittest.TestCase):
    def test_good(self):
        update()

    def test_swallowed(self):
        with contextlib.suppress(Exception):
            post_missing()

    @unittest.expectedFailure
    def test_expected_failure(self):
        post_missing()
        self.fail()

    def test_in_tear_down(self):
        self.addCleanup(post_missing)


@good
def tests_fail():
    """What the audit found fails the test, and is in the report."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Tests).run(result)
    failed = sorted(test._testMethodName for test, _ in result.failures)
    assert not result.errors, result.errors
    assert failed == ["test_expected_failure", "test_in_tear_down", "test_swallowed"]
    assert all("no post_update" in text for _, text in result.failures)
    with open(REPORT.path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    found = {line["test"] for line in lines if "problem" in line}
    assert {f"__main__.Tests.{name}" for name in failed} <= found
    updates = {line["test"]: line["updates"] for line in lines if "updates" in line}
    assert updates["__main__.Tests.test_good"] == 8, updates
    assert REPORT.test == "no test"


def run(case):
    """Run a case on fresh rows; return the problems."""
    REPORT.unread = []
    for model in (Author.friends.through, Editor, Author):
        model.objects.all()._raw_delete("default")
    Author.objects.bulk_create([Author(pk=1, name="ann"), Author(pk=2, name="bob")])
    try:
        case()
    except Exception as error:
        REPORT.unread.append(f"{type(error).__name__} in the case: {error}")
    return REPORT.unread


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        REPORT = Report(f"{directory}/report")
        REPORT.watch_tests()
        Audit(REPORT).install()
        for alias in connections:
            with connections[alias].schema_editor() as editor:
                editor.create_model(Author)
                editor.create_model(Editor)
        found = [[case.__name__, text, run(case)] for case, text in CASES]
    json.dump(found, sys.stdout)
