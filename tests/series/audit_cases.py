"""
Cases for the audit in receivers.py, run by test_receivers.py.

Each function in GOOD is an ordinary use of Django, in which the audit must
find nothing. Each case in BROKEN makes Django break one promise of the
signals; its text is a part of the problem that the audit must report. The
output is a JSON list of [case, text, problems], with no text for good uses.
"""

import contextlib
import json
import sys
import tempfile
import types
import unittest
from functools import partial
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

from live import naive  # NOQA: E402
from receivers import Audit, Report  # NOQA: E402


class Author(models.Model):
    name = models.CharField(max_length=9)
    mentor = models.ForeignKey(
        "self", models.SET_NULL, null=True, related_name="apprentices"
    )
    friends = models.ManyToManyField("self")
    shout = models.GeneratedField(
        expression=models.functions.Upper("name"),
        output_field=models.TextField(),
        db_persist=True,
    )

    class Meta:
        app_label = "cases"


class Proxy(Author):
    class Meta:
        app_label = "cases"
        proxy = True


class EditorQuerySet(QuerySet):
    pass


class Editor(Author):
    level = models.IntegerField(default=0)

    objects = EditorQuerySet.as_manager()

    class Meta:
        app_label = "cases"


# Ordinary uses.


def update():
    assert Author.objects.update(name="x") == 3
    Author.objects.filter(name="y").update(name="z")
    Author.objects.filter(pk=2).update(id=3)
    Author.objects.filter(pk=3).update(id=2)
    Author.objects.none().update(name="z")
    Author.objects.filter(mentor__name="x").update(mentor=Author.objects.first())
    Author.objects.filter(pk=1).update(mentor_id=2, name=F("name"))
    Proxy.objects.update(name="p")


def save():
    for model in (Author, Proxy, Editor):
        instance = model.objects.create(pk=8, name="x")
        instance.save()
        instance.save_base(raw=True)
        instance.delete()
    Author.objects.update_or_create(name="ann", defaults={"name": "x"})


def many():
    authors = list(Author.objects.all())
    authors[0].name = "x"
    Author.objects.bulk_update(authors, ["name"], batch_size=1)
    Author.objects.get(pk=1).delete()
    Author.objects.filter(pk=2).delete()


def children():
    Editor.objects.update(name="x")
    Editor.objects.update(name="x", level=2)
    Editor.objects.filter(name="nobody").update(name="x", level=2)
    Editor.objects.update(level=F("level"))


def through():
    Author.objects.get(pk=1).friends.add(2)
    Author.friends.through.objects.update(to_author=1)


def own_use():
    """What tests do themselves is no concern of the audit's."""
    pre_update.send(sender=Author, anything=1)
    models.sql.UpdateQuery(Author).update_batch([1], {"name": "x"}, "default")
    connection.cursor().execute("UPDATE cases_author SET name = 'x'")


def receivers_write():
    def receive(values, **kwargs):
        pre_update.disconnect(receive)
        values["name"] = "changed"
        Author.objects.filter(pk=1).delete()

    with connected(pre_update, receive):
        Author.objects.update(mentor=None)


def receivers_save():
    def receive(instance, **kwargs):
        pre_update.disconnect(receive)
        Author.objects.filter(pk=1).update(name="y")
        Author.objects.get(pk=2).save()

    with connected(pre_update, receive):
        Editor.objects.get(pk=9).save()


def receivers_remove_all():
    with connected(pre_update, lambda values, **kwargs: values.clear()):
        Author.objects.update(name="x")
        Editor.objects.update(name="x", level=1)
        Author.objects.get(pk=1).save()
    with connected(pre_update, lambda values, **kwargs: values.clear(), Author):
        Editor.objects.update(name="x")


def receivers_raise():
    def receive(**kwargs):
        raise ValueError

    for signal in (pre_update, post_update):
        with connected(signal, receive), contextlib.suppress(ValueError):
            Author.objects.update(name="x")


def receivers_amend_ancestors():
    def receive(values, **kwargs):
        values["name"] = "changed"
        values["mentor_id"] = 1

    with connected(pre_update, receive, sender=Author):
        Editor.objects.update(name="x", level=3)
    assert Editor.objects.get().name == "changed"


def broken_transaction():
    with contextlib.suppress(transaction.TransactionManagementError):
        with transaction.atomic():
            transaction.set_rollback(True)
            Author.objects.update(name="x")


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


def update_authors():
    Author.objects.update(name="x")


def update_editors():
    Editor.objects.update(name="x", level=1)


def save_author():
    Author.objects.get(pk=1).save()


def delete_author():
    Author.objects.update(mentor=1)
    Author.objects.get(pk=1).delete()


def changing(signal, action=update_authors, **changes):
    """Send a signal with other arguments; functions get the right one."""

    def change(send, kwargs):
        for name, value in changes.items():
            kwargs[name] = value(kwargs.get(name)) if callable(value) else value
        send(**kwargs)

    with sending(signal, change):
        action()


def never(signal, action=update_authors, sender=None):
    """Don't send a signal, or not for a sender."""

    def change(send, kwargs):
        if sender not in (None, kwargs["sender"]):
            send(**kwargs)

    with sending(signal, change):
        action()


def twice(signal):
    with sending(signal, lambda send, kwargs: [send(**kwargs), send(**kwargs)]):
        update_authors()


def naively(variant, action):
    with variant():
        action()


def without_raw():
    def change(send, kwargs):
        del kwargs["raw"]
        send(**kwargs)

    with sending(pre_update, change):
        update_authors()


def without_transaction():
    def change(send, kwargs):
        with mock.patch.object(connection, "in_atomic_block", False):
            send(**kwargs)

    with sending(post_update, change):
        update_authors()


def on_other_database():
    def change(send, kwargs):
        kwargs.update(using="other", queryset=kwargs["queryset"].using("other"))
        send(**kwargs)

    with sending(pre_update, change):
        update_authors()


def post_with_pre(sender):
    """Send post_update at once after pre_update."""

    def change(send, kwargs):
        send(**kwargs)
        if kwargs["sender"] is sender:
            pks = set(kwargs["queryset"].values_list("pk", flat=True))
            post_update.send(**kwargs, pk_set=pks)

    with sending(pre_update, change):
        update_editors()


def rows_twice():
    Author.objects.filter(pk__gt=1).update(mentor=1)
    changing(pre_update, queryset=lambda q: q.filter(apprentices__gt=0))


def none_announced():
    with mock.patch.object(models.sql.UpdateQuery, "is_empty", lambda self: False):
        Author.objects.none().update(name="x")


def as_sql(change):
    """Let an UPDATE have another SQL."""
    compiler = models.sql.compiler.SQLUpdateCompiler
    right = compiler.as_sql

    def changed_as_sql(self):
        sql, params = right(self)
        return change(sql), params if change(sql) else ()

    with mock.patch.object(compiler, "as_sql", changed_as_sql):
        update_authors()


def through_announced():
    def send_as_through(send, kwargs):
        with mock.patch.object(Author.friends.through._meta, "auto_created", True):
            send(**kwargs)

    with mock.patch.object(Author.friends.through._meta, "auto_created", False):
        with sending(pre_update, send_as_through):
            Author.friends.through.objects.update(to_author=1)


def in_module(name, function):
    """Call a function as if it were defined in another module."""
    globals = {**function.__globals__, "__name__": name}
    types.FunctionType(function.__code__, globals)()


def compile_alone():
    query = models.sql.UpdateQuery(Author)
    query.add_update_values({"name": "x"})
    query.get_compiler("default").execute_sql("row count")


def execute_alone():
    connection.cursor().execute("UPDATE cases_author SET name = 'x'")


def send_alone():
    pre_update.send(sender=Author, values={}, queryset=Author.objects.all())


pre, post = partial(changing, pre_update), partial(changing, post_update)
update_proxies = partial(Proxy.objects.update, name="x")
GOOD = [
    *(update, save, many, children, through, own_use),
    *(receivers_write, receivers_save, receivers_remove_all, receivers_raise),
    *(receivers_amend_ancestors, broken_transaction, unnoticed),
]
BROKEN = {
    # The text of the problem, and what breaks the promise.
    "queryset.db other, using default": partial(
        pre, queryset=lambda q: q.using("other")
    ),
    "no pre_update was sent for: UPDATE": on_other_database,
    "post_update of cases.Author: the queryset is evaluated": partial(
        post, queryset=lambda q: [len(q), q][1]
    ),
    "a queryset of cases.Proxy": partial(pre, queryset=Proxy.objects.all()),
    "cases.Author: the queryset is a <class '__main__.EditorQuerySet'>": partial(
        naively, naive.ancestors_with_class_of_child, update_editors
    ),
    "cases.Editor: the queryset is a <class 'django.db.models.query.": partial(
        post, update_editors, queryset=lambda q: QuerySet(Editor, using="default")
    ),
    "arguments ['extra']": partial(pre, extra=1),
    "arguments ['raw']": without_raw,
    "not in a transaction on default": without_transaction,
    "values is ['name']": partial(pre, values=list),
    "'mentor_id' is not a concrete": partial(pre, values={"mentor_id": 1}),
    "'shout' is not a concrete": partial(pre, values={"shout": "X"}),
    "announced with values for []: UPDATE": partial(pre, values={}),
    "announced with name='y': UPDATE": partial(pre, values={"name": "y"}),
    "no pre_update had this dictionary": partial(post, values=dict),
    "is saved": partial(pre, save_author, instance=None),
    "None is saved": partial(pre, delete_author, instance=lambda _: Author(pk=1)),
    "another instance than": partial(post, save_author, instance=Author(pk=1)),
    "origin is <class 'NoneType'>": partial(pre, delete_author, origin=None),
    "origin is <class 'django.db.models.query.QuerySet'>": partial(
        pre, origin=Author.objects.all()
    ),
    "another origin than pre_update had": partial(post, origin=lambda o: o.all()),
    "raw=True": partial(pre, save_author, raw=True),
    "but cases.Proxy was updated": partial(pre, update_proxies, sender=Author),
    "pre_update of cases.Author: sent twice": partial(twice, pre_update),
    "post_update of cases.Author: sent twice": partial(twice, post_update),
    "post_update of cases.Editor: sent without an UPDATE": partial(
        post_with_pre, Editor
    ),
    "executed after its post_update: UPDATE": partial(post_with_pre, Author),
    "pre_update of cases.Author: of none()": none_announced,
    "update() of cases.Author: no post_update for {1, 2, 9}": partial(
        never, post_update
    ),
    "_update() of cases.Author: no post_update for {1}": partial(
        never, post_update, save_author
    ),
    "no post_update for {9}": partial(never, post_update, update_editors, Author),
    "pre_update's queryset had {1}, pk_set {1, 2, 9}": partial(
        pre, queryset=lambda q: q.filter(pk=1)
    ),
    "its queryset has rows twice": rows_twice,
    "its queryset has {1}, pk_set {1, 2, 9}": partial(
        post, queryset=lambda q: q.filter(pk=1)
    ),
    "pk_set is set()": partial(post, pk_set=set()),
    "pk_set is [1, 2, 9]": partial(post, pk_set=sorted),
    "update() of cases.Author: 3 rows, pk_set {1}": partial(
        post, pk_set={1}, queryset=Author.objects.filter(pk=1)
    ),
    "not an UPDATE of cases_author: UPDATE OR FAIL": partial(
        as_sql, lambda sql: sql.replace("UPDATE", "UPDATE OR FAIL")
    ),
    "not between the UPDATE and post_update of cases.Editor": partial(
        post_with_pre, Editor
    ),
    "values {'name': 'y'}, its child's are {'name': 'x'}": partial(
        pre,
        update_editors,
        values=lambda values: values if len(values) > 1 else {"name": "y"},
    ),
    "its table is an automatic through table": through_announced,
    "was sent for: UPDATE": partial(in_module, "django.contrib.x", compile_alone),
    "the ORM executed it without SQLUpdateCompiler": partial(
        in_module, "django.db.models.x", execute_alone
    ),
    "sent outside of update() and _update()": partial(
        in_module, "django.contrib.x", send_alone
    ),
    "the audit failed:": partial(pre, queryset=lambda q: q.extra(where=["nosuch"])),
}


# The tests which fail because of what the audit found.


class Tests(unittest.TestCase):
    def test_good(self):
        update()

    def test_swallowed(self):
        with contextlib.suppress(Exception):
            never(post_update)

    @unittest.expectedFailure
    def test_expected_failure(self):
        never(post_update)
        self.fail()

    def test_in_tear_down(self):
        self.addCleanup(never, post_update)


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
    assert updates["__main__.Tests.test_good"] == 7, updates
    assert REPORT.test == "no test"


def run(case):
    """Run a case on fresh rows; return the problems."""
    REPORT.unread = []
    for model in (Author.friends.through, Editor, Author):
        model.objects.all()._raw_delete("default")
    Author.objects.bulk_create([Author(pk=1, name="ann"), Author(pk=2, name="bob")])
    Editor.objects.create(pk=9, name="eve")
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
        found = [[case.__name__, "", run(case)] for case in (*GOOD, tests_fail)]
        found += [[text, text, run(case)] for text, case in BROKEN.items()]
    json.dump(found, sys.stdout)
