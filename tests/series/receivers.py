"""
Receivers of pre_update and post_update for every model of Django's suite.

The settings in databases.py have them connected when Django is set up.
SERIES_RECEIVERS is "quiet", for receivers that do nothing, or "audit".
SERIES_REPORT is a file to which each test adds a line of JSON, {"test": its
label, "updates": how many the receivers were told of}, and each problem one of
its own, {"test", "problem"}, as soon as it's found, so that no test can hide
it.

What the audit checks at every call of QuerySet.update() and
QuerySet._update():

- Each signal is sent once at most, by the queryset's model, or by the class of
  the saved instance if that's a proxy of it; not for none(), and not for
  tables that Django created. Both have exactly the documented arguments, and
  are sent in a transaction on "using", which is queryset.db as well. The
  querysets are not evaluated yet, have the class of the one that was updated
  (of an ancestor: QuerySet), and their model is the sender.
- "values" is a dictionary whose keys are names of concrete fields that aren't
  generated; both signals have the same one.
- "instance" is what is saved if the call is the first one of _save_table(),
  else None. Then it's "origin", too, and "raw" is what save_base() got. Else
  "origin" is the "self" of a calling function, or that of the Collector.
- For an update of ancestors' tables, the signals are sent for each with its
  part of the child's values, after the UPDATE of the child and before its
  post_update.
- "pk_set" is a set, not empty, with exactly the keys that the querysets of
  both signals give, each once. If the update changed primary keys, only one of
  them has these. update() returns the number of its keys.
- A call that ends well has sent post_update if its pre_update had rows, unless
  receivers removed all the values.
- Completeness: each UPDATE that is given to a cursor is attributed, as it is
  before execute wrappers change it. If SQLUpdateCompiler executes it, the same
  call must have sent pre_update, for the same database, with exactly the
  columns it sets and the values it sets them to (expressions aren't compared),
  and must not have sent post_update yet. Conversely, post_update must not be
  sent without an UPDATE. An UPDATE that doesn't come from SQLUpdateCompiler
  must come from outside of the ORM: its nearest caller that isn't a backend or
  in django/db/models/sql/ must not be in django/db/models/.

Tests that send the signals or use a compiler themselves are left alone. If
something else writes between pre_update and post_update, the two sets of keys
may differ, and aren't compared; nor are they if the transaction is broken. The
audit's own queries are hidden from execute wrappers and the log of queries.
Updates of processes that tests start with settings of their own aren't seen,
and a method which a test mocks isn't watched there.
"""

import contextlib
import functools
import inspect
import json
import os
import re
import threading
import traceback
import unittest
from collections.abc import Hashable

ARGUMENTS = {
    *("signal", "sender", "queryset", "values"),
    *("using", "instance", "origin", "raw"),
}
UPDATE = re.compile(r"\s*UPDATE\b", re.I)
WRITE = re.compile(r"\s*(?:INSERT|UPDATE|DELETE|REPLACE)\b", re.I)
# The modules whose code runs between the audit and what called for it.
PASSED_OVER = (
    __name__,
    "contextlib",
    "functools",
    "django.db.backends",
    "django.db.models.sql",
    "django.dispatch",
)


class Report:
    """The file with what was found, and the test that runs."""

    def __init__(self, path):
        self.path = path
        self.test = "no test"
        self.updates = 0
        self.unread = []

    def write(self, **line):
        """Add a line of JSON to the file."""
        # In one piece, since processes share it.
        with open(self.path, "ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")

    def problem(self, text):
        """Note a problem in the file and for the test that runs."""
        if text not in self.unread:
            self.unread.append(text)
            self.write(test=self.test, problem=text)

    def raise_problems(self):
        """Fail the test that runs if there are problems."""
        problems, self.unread = self.unread, []
        if problems:
            raise AssertionError("audit of updates:\n- " + "\n- ".join(problems))

    def watch_tests(self, replace=setattr):
        """Make each test report itself, and fail because of its problems."""
        run = unittest.TestCase.run

        @functools.wraps(run)
        def reporting_run(test, result=None):
            outer = self.test, self.updates
            self.test, self.updates = test.id(), 0
            # The first cleanup runs last, even if the test fails.
            test.addCleanup(self.raise_problems)
            try:
                return run(test, result)
            finally:
                self.write(test=self.test, updates=self.updates)
                self.test, self.updates = outer

        replace(unittest.TestCase, "run", reporting_run)


class Call:
    """A call of QuerySet.update() or QuerySet._update()."""

    def __init__(self, queryset, method, instance, outer):
        self.queryset, self.method = queryset, method
        # The instance that's saved, and the call in which it was made.
        self.instance, self.outer = instance, outer
        self.name = f"{method}() of {queryset.model._meta.label}"
        # What pre_update said, and the keys that its queryset had, if known.
        self.said, self.pks = None, None
        self.pk_set = None
        # The call of the child, if it's an update of an ancestor for that.
        self.child = None
        self.ancestors = []
        self.statements = 0
        # Whether something else wrote while it was at work.
        self.disturbed = False

    def values_of(self, model):
        """Return the values for a model's own table."""
        fields = {
            field.name: field.model._meta.concrete_model
            for field in self.said["sender"]._meta.concrete_fields
        }
        values = self.said["values"].items()
        model = model._meta.concrete_model
        return {name: value for name, value in values if fields.get(name) is model}


def frames():
    """Yield the frames of the callers."""
    frame = inspect.currentframe()
    while frame := frame.f_back:
        yield frame


def caller():
    """
    Return the name of the module of the nearest caller which isn't a part of
    the audit, a signal, a database backend, or a compiler.
    """
    names = (frame.f_globals.get("__name__", "") for frame in frames())
    return next((name for name in names if not name.startswith(PASSED_OVER)), "")


class Audit:
    """The receivers that check every update."""

    def __init__(self, report):
        self.report = report
        self.local = threading.local()

    def stack(self, name):
        """Return a list that belongs to the thread."""
        return self.local.__dict__.setdefault(name, [])

    def call(self):
        return self.stack("calls")[-1] if self.stack("calls") else None

    def check(self, good, text, *args):
        """Report a problem if there is one; it must not raise."""
        if not good:
            self.report.problem(text.format(*args))
        return good

    # Where the audit looks.

    def install(self, replace=setattr):
        """Watch querysets, compilers, collectors, and cursors."""
        from django.db.backends.utils import CursorWrapper
        from django.db.models import Model, QuerySet, signals
        from django.db.models.deletion import Collector
        from django.db.models.sql.compiler import SQLUpdateCompiler

        compilers = self.watch_stacked("compilers")
        for cls, name, watch in (
            (QuerySet, "update", self.watch_call),
            (QuerySet, "_update", self.watch_call),
            (Model, "_save_table", self.watch_stacked("saved")),
            (Collector, "delete", self.watch_stacked("collectors")),
            (SQLUpdateCompiler, "execute_sql", compilers),
            (SQLUpdateCompiler, "execute_returning_sql", compilers),
            (CursorWrapper, "_execute_with_wrappers", self.watch_statement),
        ):
            replace(cls, name, self.watched(getattr(cls, name), name, watch))
        signals.pre_update.connect(self.pre_update, weak=False)
        signals.post_update.connect(self.post_update, weak=False)

    def watched(self, method, name, watch):
        """Return a method that gives the right one to watch() to run."""

        @functools.wraps(method)
        def watched_method(obj, /, *args, **kwargs):
            run = functools.partial(method, obj, *args, **kwargs)
            return watch(run, obj, name, args)

        return watched_method

    def watch_call(self, method, queryset, name, args):
        calls, saved = self.stack("calls"), self.stack("saved")
        # The first call by _save_table() is that of the instance.
        instance, saved[-1:] = saved[-1] if saved else None, [None] * bool(saved)
        call = Call(queryset, name, instance, self.call())
        calls.append(call)
        try:
            result = method()
        finally:
            calls.pop()
        self.guarded(self.check_call, call, result)
        return result

    def watch_stacked(self, name):
        def watch(method, obj, *args):
            self.stack(name).append(obj)
            try:
                return method()
            finally:
                self.stack(name).pop()

        return watch

    def watch_statement(self, method, cursor, name, args):
        sql = str(args[0])
        if not self.stack("aside") and WRITE.match(sql):
            self.guarded(self.check_statement, cursor.db, sql)
        return method()

    def pre_update(self, **kwargs):
        if self.is_djangos():
            self.report.updates += 1
            self.guarded(self.check_pre_update, kwargs)

    def post_update(self, **kwargs):
        if self.is_djangos():
            self.guarded(self.check_post_update, kwargs)

    def is_djangos(self):
        """Return whether Django does it, and not a test by itself."""
        return bool(self.stack("calls")) or caller().startswith("django.")

    def guarded(self, check, *args):
        """Run a check; if it fails itself, that's a problem too."""
        try:
            check(*args)
        except Exception:
            self.check(False, "{}", f"the audit failed:\n{traceback.format_exc()}")

    # What it checks.

    def check_pre_update(self, kwargs):
        sender, values = kwargs["sender"], kwargs["values"]
        name, call = f"pre_update of {sender._meta.label}", self.call()
        if not (
            self.check(call, "{}: sent outside of update() and _update()", name)
            and self.check(call.said is None, "{}: sent twice", name)
            and self.check(isinstance(values, dict), "{}: values is {!r}", name, values)
        ):
            return
        fields = {field.name: field for field in sender._meta.concrete_fields}
        for key in values:
            self.check(
                key in fields and not fields[key].generated,
                "{}: {!r} is not a concrete field's name",
                name,
                key,
            )
        self.check_arguments(name, call, kwargs, ARGUMENTS)
        self.check_origin(name, call, kwargs)
        created = sender._meta.auto_created
        self.check(not created, "{}: its table is an automatic through table", name)
        self.check(not call.queryset.query.is_empty(), "{}: of none()", name)
        call.said = kwargs
        call.pks = self.primary_keys(name, kwargs)
        if call.child:
            self.check_ancestor(name, call, call.child)

    def check_ancestor(self, name, call, child):
        """
        Check an update of an ancestor's table, for the update of a child.
        """
        child.ancestors.append(call.queryset.model)
        given, own = child.values_of(call.queryset.model), call.said["values"]
        self.check(
            own.keys() == given.keys() and all(own[key] is given[key] for key in own),
            "{}: values {}, its child's are {}",
            name,
            own,
            given,
        )
        child_model = child.queryset.model
        self.check(
            child.pk_set is None
            and (child.statements or not child.values_of(child_model) or not call.pks),
            "{}: not between the UPDATE and post_update of {}",
            name,
            child_model._meta.label,
        )

    def check_post_update(self, kwargs):
        sender, pk_set, values = kwargs["sender"], kwargs["pk_set"], kwargs["values"]
        name, call = f"post_update of {sender._meta.label}", self.call()
        if not self.check(
            call and call.said and call.said["values"] is values,
            "{}: no pre_update had this dictionary of values",
            name,
        ):
            return
        self.check_arguments(name, call, kwargs, ARGUMENTS | {"pk_set"})
        for key in ("sender", "using", "instance", "origin", "raw"):
            same = call.said[key] is kwargs[key]
            self.check(same, "{}: another {} than pre_update had", name, key)
        self.check(call.pk_set is None, "{}: sent twice", name)
        self.check(
            call.statements or not call.values_of(sender) and call.ancestors,
            "{}: sent without an UPDATE",
            name,
        )
        call.pk_set = set(pk_set)
        good = isinstance(pk_set, set) and pk_set
        if not self.check(good, "{}: pk_set is {!r}", name, pk_set):
            return
        pks = self.primary_keys(name, kwargs)
        before = None if call.disturbed else call.pks
        if any(field.name in values for field in sender._meta.pk_fields):
            # They are all old ones, or all new ones.
            if before is not None and len(before) == len(pk_set):
                good = pk_set in (pks, before)
                self.check(good, "{}: pk_set {} has other keys", name, pk_set)
            return
        good = pks in (None, pk_set)
        self.check(good, "{}: its queryset has {}, pk_set {}", name, pks, pk_set)
        good = before in (None, pk_set)
        text = "{}: pre_update's queryset had {}, pk_set {}"
        self.check(good, text, name, before, pk_set)

    def check_arguments(self, name, call, kwargs, expected):
        """Check what both signals have in common."""
        from django.db import connections
        from django.db.models import QuerySet

        queryset, using = kwargs["queryset"], kwargs["using"]
        for good, text, *args in (
            (
                kwargs.keys() == expected,
                "arguments {}",
                sorted(kwargs.keys() ^ expected),
            ),
            (queryset.db == using, "queryset.db {}, using {}", queryset.db, using),
            (
                queryset.model is kwargs["sender"],
                "a queryset of {}",
                queryset.model._meta.label,
            ),
            (queryset._result_cache is None, "the queryset is evaluated"),
            (connections[using].in_atomic_block, "not in a transaction on {}", using),
        ):
            self.check(good, "{}: " + text, name, *args)
        outer = call.outer
        if (
            outer
            and outer.said
            and outer.said["origin"] is kwargs["origin"]
            and call.queryset.model in outer.queryset.model._meta.all_parents
        ):
            call.child = outer
        expected = QuerySet if call.child else type(call.queryset)
        good = type(queryset) is expected
        self.check(good, "{}: the queryset is a {}", name, type(queryset))

    def check_origin(self, name, call, kwargs):
        """Check the sender, and what says why there is an update."""
        from django.db.models import Model, QuerySet

        sender, model = kwargs["sender"], call.queryset.model
        instance, origin, raw = (kwargs[key] for key in ("instance", "origin", "raw"))
        # A receiver may have added values of ancestors to those of a save().
        saved = (call.child or call).instance
        good = instance is saved and (saved is None or origin is saved)
        self.check(good, "{}: instance {!r}, {!r} is saved", name, instance, saved)
        expected_raw = False
        if saved is not None:
            if type(saved)._meta.concrete_model is model._meta.concrete_model:
                model = type(saved)
            expected_raw = next(
                (
                    frame.f_locals["raw"]
                    for frame in frames()
                    if frame.f_code.co_name == "_save_table"
                ),
                raw,
            )
        good = sender is model
        self.check(good, "{}: but {} was updated", name, model._meta.label)
        self.check(raw is expected_raw, "{}: raw={!r}", name, raw)
        collectors = self.stack("collectors")
        if not (collectors and origin is collectors[-1].origin):
            good = isinstance(origin, (Model, QuerySet)) and any(
                frame.f_locals.get("self") is origin for frame in frames()
            )
            self.check(good, "{}: origin is {!r}", name, type(origin))

    def check_statement(self, connection, sql):
        """Attribute a statement that writes, before it's executed."""
        calls, compilers = self.stack("calls"), self.stack("compilers")
        compiler, call = compilers[-1] if compilers else None, self.call()
        if not compiler or not UPDATE.match(sql):
            for one in calls:
                one.disturbed = True
            self.check(
                not UPDATE.match(sql) or not caller().startswith("django.db.models"),
                "the ORM executed it without SQLUpdateCompiler: {}",
                sql,
            )
            return
        model, table = compiler.query.model, compiler.query.base_table
        for one in calls[:-1]:
            one.disturbed |= one is not call.child
        start = f"UPDATE {connection.ops.quote_name(table)} SET "
        good = connection is compiler.connection and sql.lstrip().startswith(start)
        self.check(good, "not an UPDATE of {}: {}", table, sql)
        if model._meta.auto_created or not call and not self.is_djangos():
            # It sends no signals, or a test uses a compiler by itself.
            return
        if not self.check(
            call
            and call.said
            and call.queryset.model._meta.concrete_model is model._meta.concrete_model
            and call.said["using"] == connection.alias,
            "no pre_update was sent for: {}",
            sql,
        ):
            return
        call.statements += 1
        self.check(call.pk_set is None, "executed after its post_update: {}", sql)
        self.check(call.statements == 1, "a second UPDATE: {}", sql)
        said = call.values_of(model)
        does = {field.name: value for field, _, value in compiler.query.values}
        good = said.keys() == does.keys()
        self.check(good, "sent with values for {}: {}", sorted(said), sql)
        for key in said.keys() & does.keys():
            good = said[key] is does[key] or hasattr(does[key], "resolve_expression")
            self.check(good, "sent with {}={!r}: {}", key, said[key], sql)

    def check_call(self, call, result):
        """Check a call that ended without an exception."""
        if not call.said or not call.said["values"]:
            return
        rows = result if isinstance(result, int) else len(result)
        if call.pk_set is not None:
            good = rows == len(call.pk_set)
            self.check(good, "{}: {} rows, pk_set {}", call.name, rows, call.pk_set)
        elif not call.ancestors or call.statements:
            # Else the receivers of the ancestors may have removed the values.
            good = not rows and (call.disturbed or not call.pks)
            self.check(good, "{}: no post_update for {}", call.name, call.pks or rows)
        model = call.queryset.model._meta.concrete_model
        for parent in model._meta.all_parents if call.pks else ():
            good = not call.values_of(parent) or parent in call.ancestors
            text = "{}: no pre_update for {}"
            self.check(good, text, call.name, parent._meta.label)

    def primary_keys(self, name, kwargs):
        """
        Return the set of primary keys of a signal's queryset, or None if the
        database can't be asked because its transaction is broken.
        """
        from django.db import connections

        connection = connections[kwargs["using"]]
        if connection.needs_rollback:
            return None
        with self.unnoticed(connection):
            pks = list(kwargs["queryset"].values_list("pk", flat=True))
        if not all(isinstance(pk, Hashable) for pk in pks):
            # post_update isn't sent for such ones, as the docs say.
            return None
        good = len(pks) == len(set(pks))
        self.check(good, "{}: its queryset has rows twice: {}", name, pks)
        return set(pks)

    @contextlib.contextmanager
    def unnoticed(self, connection):
        """Hide the audit's queries from execute wrappers and the log."""
        wrappers, connection.execute_wrappers = connection.execute_wrappers, []
        connection.make_debug_cursor = connection.make_cursor
        self.stack("aside").append(connection)
        try:
            yield
        finally:
            self.stack("aside").pop()
            del connection.make_debug_cursor
            connection.execute_wrappers = wrappers


def connect(mode, path):
    """Connect the receivers and watch the tests. Django must be set up."""
    from django.db.models import signals

    report = Report(path)
    report.watch_tests()
    if mode == "audit":
        Audit(report).install()
        return

    def count(**kwargs):
        report.updates += 1

    def do_nothing(**kwargs):
        pass

    signals.pre_update.connect(count, weak=False)
    signals.post_update.connect(do_nothing, weak=False)


def connect_at_setup():
    """
    Connect the receivers that the environment names once Django is set up.

    Settings are imported too early to import models. runtests.py calls
    django.setup() in each of its processes that doesn't inherit the
    receivers, and always after it imported the settings.
    """
    import django

    setup = django.setup

    @functools.wraps(setup)
    def setup_and_connect(*args, **kwargs):
        setup(*args, **kwargs)
        django.setup = setup
        connect(os.environ["SERIES_RECEIVERS"], os.environ["SERIES_REPORT"])

    django.setup = setup_and_connect
