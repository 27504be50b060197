"""
Receivers of pre_update and post_update for every model of Django's suite.

The settings in databases.py have them connected when Django is set up.
SERIES_RECEIVERS is "quiet", for receivers that do nothing, or "audit".
SERIES_REPORT is a file to which each test adds a line of JSON, {"test": its
label, "updates": how many the receivers were told of}, and each problem one of
its own, {"test", "problem"}, as soon as it's found, so that no test can hide
it.

What the audit checks at every update:

- Each call of QuerySet.update() and QuerySet._update() announces each model
  once: the model it was called for (a proxy for a proxy's queryset or saved
  instance) and ancestors of that.
- Both signals have exactly the documented arguments. They are sent in a
  transaction on the database "using", which is queryset.db as well. The
  querysets are not evaluated yet, have the class of the one that was updated,
  and their model is the sender.
- "values" is a dictionary whose keys are names of concrete fields.
- "origin" is the object whose method was called: it's the "self" of a calling
  function, or the origin of the Collector at work. It's None only if that
  Collector has none.
- post_update has the values (the same object), using, origin, and raw of a
  pre_update that was sent in the same call, and is sent once at most.
- "pk_set" is a set, not empty, and has exactly the keys which the queryset of
  post_update gives, each once. Unless the update changed primary keys, it also
  has exactly the keys that the queryset of pre_update gave. update() returns
  the number of its keys.
- A call that ends well has sent post_update if its pre_update had rows, unless
  receivers removed all the values.
- Completeness: each UPDATE that reaches a cursor is attributed. If
  SQLUpdateCompiler executes it, its table's model must have been announced in
  the same call, for the same database, with exactly the columns it sets and
  the values it sets them to (expressions aren't compared), and post_update
  must not have been sent yet. Conversely, post_update must not be sent without
  such an UPDATE. Through tables that Django created are the exception: they
  must not be announced. An UPDATE that doesn't come from SQLUpdateCompiler
  must come from outside of the ORM: its nearest caller that isn't a backend
  or in django/db/models/sql/ must not be in django/db/models/. Manager.raw()
  would be reported, but no test uses it for an UPDATE.

Tests that send the signals or use a compiler themselves are left alone.

If a receiver or another statement writes between pre_update and post_update,
the two sets of keys may differ, and this comparison is left out; so it is if
the transaction is broken already. The values of ancestors are compared as they
were before receivers of the ancestors got them, who change them in vain. The
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

ARGUMENTS = {"signal", "sender", "queryset", "values", "using", "origin", "raw"}
UPDATE = re.compile(r"\s*UPDATE\b", re.I)
# The modules whose code runs between the audit and what called for it.
PASSED_OVER = (
    __name__,
    "contextlib",
    "functools",
    "django.db.backends",
    "django.db.models.sql",
    "django.dispatch",
)
WRITE = re.compile(r"\s*(?:INSERT|UPDATE|DELETE|REPLACE)\b", re.I)


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

    def watch_tests(self):
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

        unittest.TestCase.run = reporting_run


class Call:
    """A call of QuerySet.update() or QuerySet._update()."""

    def __init__(self, queryset, method):
        self.queryset, self.method = queryset, method
        self.announcements = []
        # Whether something else wrote while it was at work.
        self.disturbed = False

    def find(self, test):
        """Return the last announcement that passes a test, or None."""
        return next(filter(test, reversed(self.announcements)), None)


class Announcement:
    """What pre_update said, and what became of it."""

    def __init__(self, arguments, pks, is_ancestor):
        self.sender, self.values = arguments["sender"], arguments["values"]
        self.using, self.origin = arguments["using"], arguments["origin"]
        self.raw = arguments["raw"]
        # The primary keys of its queryset, or None if they are not known.
        self.pks = pks
        # What the UPDATE must set: what the receivers of the model that is
        # updated make of it, but not those of ancestors.
        self.final = dict(self.values) if is_ancestor else self.values
        self.statements = 0
        self.pk_set = None

    @property
    def table(self):
        return self.sender._meta.db_table

    def values_for_table(self):
        """Return the values for the sender's own table."""
        fields = ((self.sender._meta.get_field(n), v) for n, v in self.final.items())
        return {
            field.name: value
            for field, value in fields
            if field.model._meta.db_table == self.table
        }


def caller():
    """
    Return the name of the module of the nearest caller which isn't a part of
    the audit, a signal, a database backend, or a compiler.
    """
    frame = inspect.currentframe()
    while frame:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(PASSED_OVER):
            return name
        frame = frame.f_back
    return ""


class Audit:
    """The receivers that check every update."""

    def __init__(self, report):
        self.report = report
        self.local = threading.local()

    def stack(self, name):
        """Return a list that belongs to the thread."""
        return self.local.__dict__.setdefault(name, [])

    def problem(self, text, *args):
        """Report a problem; it must not raise."""
        self.report.problem(text.format(*args))

    # Where the audit looks.

    def install(self):
        """Watch querysets, compilers, collectors, and cursors."""
        from django.db.backends.utils import CursorWrapper
        from django.db.models import QuerySet, signals
        from django.db.models.deletion import Collector
        from django.db.models.sql.compiler import SQLUpdateCompiler

        self.wrap(QuerySet, "update", self.watch_call)
        self.wrap(QuerySet, "_update", self.watch_call)
        for name in (
            "execute_sql",
            "execute_returning_sql",
            "execute_returning_pks_sql",
        ):
            self.wrap(SQLUpdateCompiler, name, self.watch_compiler)
        self.wrap(Collector, "delete", self.watch_collector)
        self.wrap(CursorWrapper, "_execute", self.watch_statement)
        self.wrap(CursorWrapper, "_executemany", self.watch_statement)
        signals.pre_update.connect(self.pre_update, weak=False)
        signals.post_update.connect(self.post_update, weak=False)

    def wrap(self, cls, name, watch):
        """Replace a method by one that gives it to watch() to run."""
        method = getattr(cls, name)

        @functools.wraps(method)
        def watched(obj, /, *args, **kwargs):
            return watch(lambda: method(obj, *args, **kwargs), obj, name, args)

        setattr(cls, name, watched)

    def watch_call(self, method, queryset, name, args):
        calls = self.stack("calls")
        call = Call(queryset, name)
        calls.append(call)
        try:
            result = method()
        finally:
            calls.pop()
        self.guarded(self.check_call, call, result)
        return result

    def watch_compiler(self, method, compiler, name, args):
        compilers = self.stack("compilers")
        compilers.append(compiler)
        try:
            return method()
        finally:
            compilers.pop()

    def watch_collector(self, method, collector, name, args):
        collectors = self.stack("collectors")
        collectors.append(collector)
        try:
            return method()
        finally:
            collectors.pop()

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
            self.problem("{}", f"the audit failed:\n{traceback.format_exc()}")

    # What it checks.

    def check_pre_update(self, kwargs):
        sender, values, using = kwargs["sender"], kwargs["values"], kwargs["using"]
        name = f"pre_update of {sender._meta.label}"
        self.check_arguments(name, kwargs, ARGUMENTS)
        if not isinstance(values, dict):
            self.problem("{}: values is {!r}", name, values)
            return
        for key in values:
            if key not in {field.name for field in sender._meta.concrete_fields}:
                self.problem("{}: {!r} is not a concrete field's name", name, key)
        if sender._meta.auto_created:
            self.problem("{}: its table is an automatic through table", name)
        self.check_origin(name, sender, kwargs["origin"], kwargs["raw"])
        call = self.stack("calls")[-1] if self.stack("calls") else None
        if call is None:
            self.problem("{}: sent outside of update() and _update()", name)
            return
        self.check_sender(name, call, sender, kwargs["origin"])
        if call.find(lambda one: one.sender is sender):
            self.problem("{}: sent twice in one {}()", name, call.method)
        pks = self.primary_keys(name, kwargs["queryset"], using)
        call.announcements.append(Announcement(kwargs, pks, bool(call.announcements)))

    def check_post_update(self, kwargs):
        sender, pk_set = kwargs["sender"], kwargs["pk_set"]
        name = f"post_update of {sender._meta.label}"
        self.check_arguments(name, kwargs, ARGUMENTS | {"pk_set"})
        call = self.stack("calls")[-1] if self.stack("calls") else None
        before = call and call.find(lambda one: one.values is kwargs["values"])
        if before is None:
            self.problem("{}: no pre_update had this dictionary of values", name)
            return
        for key in ("sender", "using", "origin", "raw"):
            if getattr(before, key) is not kwargs[key]:
                self.problem("{}: another {} than pre_update had", name, key)
        if before.pk_set is not None:
            self.problem("{}: sent twice for one pre_update", name)
        # A child whose own table isn't changed is announced as well.
        own = [before] if before.values_for_table() else call.announcements
        if not any(one.statements for one in own):
            self.problem("{}: sent without an UPDATE", name)
        before.pk_set = pk_set
        if not isinstance(pk_set, set) or not pk_set:
            self.problem("{}: pk_set is {!r}", name, pk_set)
            return
        pks = self.primary_keys(name, kwargs["queryset"], kwargs["using"])
        if pks is not None and pks != pk_set:
            self.problem("{}: its queryset has {}, pk_set {}", name, pks, pk_set)
        changes_pk = any(
            field.name in before.values for field in sender._meta.pk_fields
        )
        if before.pks is None or call.disturbed:
            return
        if len(before.pks) != len(pk_set) if changes_pk else before.pks != pk_set:
            self.problem(
                "{}: pre_update's queryset had {}, pk_set {}", name, before.pks, pk_set
            )

    def check_arguments(self, name, kwargs, expected):
        """Check what both signals have in common."""
        from django.db import connections

        queryset, using = kwargs["queryset"], kwargs["using"]
        if kwargs.keys() != expected:
            self.problem("{}: arguments {}", name, sorted(kwargs.keys() ^ expected))
        if queryset.db != using:
            self.problem("{}: queryset.db {}, using {}", name, queryset.db, using)
        if queryset.model is not kwargs["sender"]:
            self.problem("{}: a queryset of {}", name, queryset.model._meta.label)
        if queryset._result_cache is not None:
            self.problem("{}: the queryset is evaluated", name)
        calls = self.stack("calls")
        if calls and type(queryset) is not type(calls[-1].queryset):
            self.problem("{}: the queryset is a {}", name, type(queryset))
        if not connections[using].in_atomic_block:
            self.problem("{}: not in a transaction on {}", name, using)

    def check_origin(self, name, sender, origin, raw):
        from django.db.models import Model, QuerySet

        if raw not in (True, False) or raw and not isinstance(origin, Model):
            self.problem("{}: raw={!r} with origin {!r}", name, raw, type(origin))
        collectors = self.stack("collectors")
        if collectors and origin is collectors[-1].origin:
            return
        if not isinstance(origin, (Model, QuerySet)):
            self.problem("{}: origin is of {}", name, type(origin))
            return
        model = origin.model if isinstance(origin, QuerySet) else type(origin)
        if not issubclass(model, sender._meta.concrete_model):
            self.problem("{}: origin is of {}", name, model._meta.label)
        frame = inspect.currentframe()
        while frame:
            if frame.f_locals.get("self") is origin:
                return
            frame = frame.f_back
        self.problem("{}: no method of its origin was called", name)

    def check_sender(self, name, call, sender, origin):
        """Check that the first announcement is of the model itself."""
        from django.db.models import Model

        model = call.queryset.model
        if call.announcements:
            if sender not in model._meta.all_parents:
                self.problem("{}: not an ancestor of {}", name, model._meta.label)
            return
        if call.method == "_update" and isinstance(origin, Model):
            if type(origin)._meta.concrete_model is model._meta.concrete_model:
                model = type(origin)
        if sender is not model:
            self.problem("{}: but {} was updated", name, model._meta.label)

    def check_statement(self, connection, sql):
        """Attribute a statement that writes, before it's executed."""
        calls, compilers = self.stack("calls"), self.stack("compilers")
        compiler = compilers[-1] if compilers else None
        table = compiler and compiler.query.base_table
        call = calls[-1] if calls else None
        if not compiler or not UPDATE.match(sql):
            for one in calls:
                one.disturbed = True
            if UPDATE.match(sql):
                self.check_foreign_update(sql)
            return
        for one in calls[:-1]:
            one.disturbed = True
        if connection is not compiler.connection or not sql.lstrip().startswith(
            f"UPDATE {connection.ops.quote_name(table)} SET "
        ):
            self.problem("not an UPDATE of {}: {}", table, sql)
        model = compiler.query.model
        announced = call and call.find(
            lambda one: one.sender._meta.concrete_model is model._meta.concrete_model
        )
        if model._meta.auto_created:
            return
        if not call and not self.is_djangos():
            # A test uses a compiler by itself.
            return
        if not announced or announced.using != connection.alias:
            self.problem("no pre_update was sent for: {}", sql)
            return
        announced.statements += 1
        if announced.pk_set is not None:
            self.problem("executed after its post_update: {}", sql)
        said = announced.values_for_table()
        does = {field.name: value for field, _, value in compiler.query.values}
        if said.keys() != does.keys():
            self.problem("announced with values for {}: {}", sorted(said), sql)
        for key in said.keys() & does.keys():
            expression = hasattr(does[key], "resolve_expression")
            if said[key] is not does[key] and not expression:
                self.problem("announced with {}={!r}: {}", key, said[key], sql)

    def check_foreign_update(self, sql):
        """Check that an UPDATE of no compiler isn't one of the ORM's."""
        if caller().startswith("django.db.models"):
            self.problem("the ORM executed it without SQLUpdateCompiler: {}", sql)

    def check_call(self, call, result):
        """Check a call that ended without an exception."""
        rows = result if isinstance(result, int) else len(result)
        model = call.queryset.model._meta.concrete_model
        for one in call.announcements:
            name = f"{call.method}() of {one.sender._meta.label}"
            main = one.sender._meta.concrete_model is model
            if one.pk_set is None:
                if one.values and (one.pks and not call.disturbed):
                    self.problem("{}: no post_update for {}", name, one.pks)
                if one.values and main and rows:
                    self.problem("{}: no post_update, but {} rows", name, rows)
            elif main and rows != len(one.pk_set):
                self.problem("{}: {} rows, pk_set {}", name, rows, one.pk_set)

    def primary_keys(self, name, queryset, using):
        """
        Return the set of primary keys of a queryset, or None if the database
        can't be asked because its transaction is broken.
        """
        from django.db import connections

        connection = connections[using]
        if connection.needs_rollback:
            return None
        with self.unnoticed(connection):
            pks = list(queryset.values_list("pk", flat=True))
        if len(pks) != len(set(pks)):
            self.problem("{}: its queryset has rows twice: {}", name, pks)
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
