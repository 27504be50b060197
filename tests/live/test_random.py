"""
Random sequences of operations, and a mirror that hears of them by signals.

The mirror is a copy of the rows, kept in Python. It starts as the tables do,
and then learns everything from post_save (of new rows), post_delete,
pre_update, and post_update. It must always have the same rows as the tables.

A sequence is a small script. When a test fails, the shortest script that makes
it fail is printed with the outcome of each line, and run first the next time.
SERIES_SEQUENCES is the number of sequences.
"""

import ast
import os
import uuid
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from string import Formatter
from unittest import mock

import pytest
from django.core.exceptions import MultipleObjectsReturned, ObjectDoesNotExist
from django.db import IntegrityError, connection, connections, router, transaction
from django.db.models import (
    Case,
    Count,
    Exists,
    F,
    ObjectNotUpdated,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Concat, Length, Upper
from django.db.models.signals import post_delete, post_save, post_update, pre_update
from django.db.models.sql import compiler
from hypothesis import HealthCheck, Phase, event, given, note, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from . import models, naive
from .models import (
    Account,
    Both,
    Club,
    CompositeKey,
    IntegerKey,
    Left,
    Lower,
    Member,
    Owner,
    Right,
    SpecialAccount,
    Tally,
    TextKey,
    UUIDKey,
)

# Ignored by git. Examples that failed are kept here, and run first.
set_hypothesis_home_dir(Path(__file__).resolve().parents[2] / ".work" / "hypothesis")

MARIADB = connection.vendor == "mysql"
SEQUENCES = int(
    os.environ.get("SERIES_SEQUENCES", 1000 if connection.vendor == "sqlite" else 200)
)
FIRST_AUTO_PK = 1000

# The tables.

# The rows that every sequence starts with, by the tables that depend on each
# other.
FAMILIES = {
    "accounts": {
        Owner: [(1, "a"), (2, "b"), (3, "b")],
        Account: [
            (1, "a", 0, True, 1),
            (2, "a", 1, True, 1),
            (3, "b", 1, False, 2),
            (4, "c", 3, True, None),
            (5, "s", 1, True, 1),
            (6, "s", 2, False, 3),
        ],
        SpecialAccount: [(5, 0), (6, 1)],
    },
    "clubs": {
        Club: [(1, "a"), (2, "b"), (3, "c")],
        Member: [
            (1, 1, None, None, 0, 0),
            (2, 1, 2, 3, 1, 1),
            (3, 2, 1, 1, 2, 0),
            (4, None, 2, 1, 1, 0),
        ],
    },
    "several tables": {
        Left: [(1, 0), (2, 1), (3, 1)],
        Right: [(1, 0), (7, 1), (8, 2)],
        Both: [(2, 8, 0), (3, 7, 1)],
        Lower: [(3, 0)],
    },
    "integer": {IntegerKey: [(1, 0), (2, 1), (3, 1)]},
    "text": {TextKey: [("a", 0), ("b", 1), ("c", 1)]},
    "uuid": {UUIDKey: [(uuid.UUID(int=number), number) for number in range(3)]},
    "composite": {CompositeKey: [(1, 1, 0), (1, 2, 1), (2, 1, 1), (2, 5, 2)]},
    "tally": {Tally: [(1, 0)]},
}


@lru_cache
def columns(model):
    """Return the fields of the model's own table that can be written."""
    return [one for one in model._meta.local_concrete_fields if not one.generated]


@lru_cache
def attnames(model):
    return [column.attname for column in columns(model)]


@lru_cache
def key_indexes(model):
    return [columns(model).index(one) for one in model._meta.pk_fields]


def key_of(model, row):
    """Return the primary key of a row, which is a tuple of the columns."""
    key = tuple(row[index] for index in key_indexes(model))
    return key if model._meta.is_composite_pk else key[0]


def changes_key(model, values):
    return any(one.name in values for one in model._meta.pk_fields)


def read(queryset, model):
    """Return a dictionary of the rows of the model's own table."""
    # values_list() doesn't need the tables of the parents.
    return {
        key_of(model, row): row for row in queryset.values_list(*attnames(model))
    }


INITIAL = {
    model: {key_of(model, row): row for row in rows}
    for family in FAMILIES.values()
    for model, rows in family.items()
}
changed = {alias: set(FAMILIES) for alias in connections}


def reset(families, using):
    """Put the initial rows into those tables that have others."""
    families = [name for name in families if name in changed[using]]
    tables = [model for name in families for model in FAMILIES[name]]
    connection = connections[using]
    with transaction.atomic(using=using), connection.cursor() as cursor:
        for model in reversed(tables):
            model._base_manager.using(using)._raw_delete(using)
        for model in tables:
            quote = connection.ops.quote_name
            names = ", ".join(quote(column.column) for column in columns(model))
            places = ", ".join(["%s"] * len(columns(model)))
            cursor.executemany(
                f"INSERT INTO {quote(model._meta.db_table)} ({names}) VALUES ({places})",
                [
                    [
                        column.get_db_prep_save(value, connection)
                        for column, value in zip(columns(model), row)
                    ]
                    for row in INITIAL[model].values()
                ],
            )


@pytest.fixture(scope="module")
def tables(_databases):
    """
    Let the automatic primary keys start after those that sequences choose, so
    that their order doesn't depend on what ran before. Don't wait for a disk.
    """
    for connection in connections.all():
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.execute("PRAGMA synchronous = OFF")
            elif connection.vendor == "postgresql":
                cursor.execute("SET synchronous_commit TO off")
            for model in INITIAL:
                if not model._meta.auto_field:
                    continue
                if connection.vendor == "postgresql":
                    cursor.execute(
                        "SELECT setval(name, greatest(nextval(name), %s)) "
                        "FROM pg_get_serial_sequence(%s, %s) AS name",
                        [
                            FIRST_AUTO_PK,
                            model._meta.db_table,
                            model._meta.auto_field.column,
                        ],
                    )
                else:
                    one = model(pk=FIRST_AUTO_PK)
                    one.save(using=connection.alias)
                    one.delete()
    yield
    for families in changed.values():
        families.update(FAMILIES)
    for connection in connections.all():
        connection.close()


# The mirror.


class Wrong(AssertionError):
    """The signals contradict themselves."""


class Stale(AssertionError):
    """The mirror has other rows than the tables."""


class Lost(Exception):
    """The mirror can't know which rows moved, by its own choice."""


class Mirror:
    """
    The copies of the tables. `plan` tells how it's kept, and `strict` whether
    the signals are compared with each other, too.
    """

    def __init__(self, plan, strict):
        self.plan = plan
        self.strict = strict
        self.tables = {
            model: dict(INITIAL[model])
            for family in plan.families
            for model in FAMILIES[family]
        }
        self.forget()

    def forget(self):
        """Start to listen to another operation."""
        self.announced = {}
        self.updated = {}

    def check(self, good, problem):
        if self.strict and not good:
            raise Wrong(problem)

    @contextmanager
    def connected(self):
        """Connect the receivers for all models, or for each one."""
        receivers = [
            (post_save, self.post_save, [None]),
            (post_delete, self.post_delete, [None]),
        ]
        if self.plan.connect == "all":
            senders = keyed = [None]
        else:
            senders = [
                model
                for model in models.__dict__.values()
                if getattr(model, "_meta", None) and model is not self.plan.deaf
            ]
            keyed = [IntegerKey, TextKey, UUIDKey, CompositeKey]
        receivers.append((post_update, self.post_update, senders))
        receivers.append(
            (pre_update, self.pre_update, senders if self.plan.always else keyed)
        )
        with ExitStack() as stack:
            for signal, receiver, senders in receivers:
                for sender in senders:
                    signal.connect(receiver, sender=sender)
                    stack.callback(signal.disconnect, receiver, sender=sender)
            yield

    def pre_update(self, sender, queryset, values, using, origin, **kwargs):
        self.check(using == self.plan.using == queryset.db, "another database")
        self.check(queryset._result_cache is None, "an evaluated queryset")
        keys = None
        if self.plan.always or changes_key(sender, values):
            keys = self.keys(queryset)
        self.announced[sender, id(origin)] = origin, values, keys

    def keys(self, queryset):
        if self.plan.style == "instances":
            rows = [one.pk for one in queryset]
        else:
            rows = list(queryset.values_list("pk", flat=True))
        self.check(len(rows) == len(set(rows)), "a row is twice in the queryset")
        return set(rows)

    def post_update(
        self, sender, queryset, values, using, origin, pk_set, **kwargs
    ):
        self.check(using == self.plan.using == queryset.db, "another database")
        self.check(queryset._result_cache is None, "an evaluated queryset")
        self.check(pk_set and type(pk_set) is set, "no pk_set")
        self.updated.setdefault(id(origin), (origin, {}))[1].setdefault(
            sender, []
        ).append(pk_set)
        moves = changes_key(sender, values)
        _, announced_values, keys = self.announced.pop(
            (sender, id(origin)), (None, values, None)
        )
        self.check(announced_values == values, "other values")
        if moves and keys is None:
            raise Lost
        if keys is not None:
            self.check(
                len(keys) == len(pk_set) and (moves or keys == pk_set),
                f"{sender.__name__}: {keys} were announced, {pk_set} were updated",
            )
        model = sender._meta.concrete_model
        if model not in self.tables:
            return
        if self.plan.style == "on_commit":
            copy = partial(self.copy, model, queryset, keys if moves else pk_set)
            transaction.on_commit(copy, using=using)
        elif self.plan.style == "values" and not any(
            hasattr(value, "resolve_expression") for value in values.values()
        ):
            self.apply(model, values, keys if moves else pk_set, pk_set)
        else:
            if self.plan.style == "values":
                manager = model._base_manager.using(using)
                queryset = manager.filter(pk__in=list(pk_set))
            rows = self.copy(model, queryset, keys if moves else pk_set)
            self.check(
                rows.keys() == pk_set,
                f"{sender.__name__}: {pk_set} were updated, {set(rows)} found",
            )

    def copy(self, model, queryset, keys):
        """Replace the rows with these keys by those of the queryset."""
        if self.plan.style in ("instances", "iterator"):
            names = attnames(model)
            if self.plan.style == "iterator":
                queryset = queryset.iterator(chunk_size=1)
            rows = {
                one.pk: tuple(getattr(one, name) for name in names)
                for one in queryset
            }
        else:
            rows = read(queryset, model)
        for key in keys:
            self.tables[model].pop(key, None)
        self.tables[model].update(rows)
        return rows

    def apply(self, model, values, keys, pk_set):
        """Set these constants in the rows with these keys."""
        table = self.tables[model]
        moved = {}
        for key in keys:
            self.check(key in table, f"{key} was updated, but isn't there")
            row = list(table.pop(key, ()))
            for index, column in enumerate(columns(model)):
                if row and column.name in values:
                    value = values[column.name]
                    if column.remote_field:
                        value = getattr(value, "pk", value)
                        column = column.target_field
                    row[index] = column.to_python(value)
            if row:
                moved[key_of(model, row)] = tuple(row)
        self.check(
            moved.keys() == pk_set,
            f"{model.__name__}: {pk_set} instead of {set(moved)} were updated",
        )
        table.update(moved)

    def post_save(self, sender, instance, created, using, **kwargs):
        if not created:
            return
        for model in (sender, *sender._meta.all_parents):
            model = model._meta.concrete_model
            if model in self.tables:
                insert = partial(
                    self.insert, model, getattr(instance, model._meta.pk.attname), using
                )
                if self.plan.style == "on_commit":
                    transaction.on_commit(insert, using=using)
                else:
                    insert()

    def insert(self, model, key, using):
        # A parent may have existed. If it changed, it was announced.
        if key not in self.tables[model]:
            rows = model._base_manager.using(using).filter(pk=key)
            self.tables[model].update(read(rows, model))

    def post_delete(self, sender, instance, using, **kwargs):
        model = sender._meta.concrete_model
        if model in self.tables:
            delete = partial(self.tables[model].pop, instance.pk, None)
            if self.plan.style == "on_commit":
                transaction.on_commit(delete, using=using)
            else:
                delete()

    def compare(self):
        """Check that the tables have the same rows."""
        lines = []
        for model, mirrored in self.tables.items():
            if model is self.plan.deaf:
                continue
            stored = read(model._base_manager.using(self.plan.using), model)
            for key in sorted(mirrored.keys() | stored.keys()):
                if mirrored.get(key) != stored.get(key):
                    lines.append(
                        f"{model.__name__} {key} is {stored.get(key)}, "
                        f"the mirror has {mirrored.get(key)}"
                    )
        if lines:
            raise Stale("\n".join(lines))


# The scripts.


class Fault(Exception):
    """What a receiver raises, or what rolls a block back."""


class Skip(Exception):
    """The row that the line is about doesn't exist."""


# What lines may raise. Then they must not have changed anything.
EXPECTED = (
    IntegrityError,
    ObjectNotUpdated,
    ObjectDoesNotExist,
    MultipleObjectsReturned,
    Fault,
    Skip,
    Lost,
)


@dataclass
class Block:
    """A with statement."""

    header: str
    body: list


@dataclass
class Plan:
    """A script, and how the mirror listens to it."""

    # The database.
    using: str
    # How the mirror learns new values: "instances", "iterator", and "rows"
    # evaluate post_update's queryset at once, "on_commit" after the commit.
    # "values" needs only pk_set if the values are constants.
    style: str
    # Whether pre_update's queryset is evaluated even if no key changes.
    always: bool
    # Whether the receivers are connected for "all" models, or for "each".
    connect: str
    # The model without receivers of updates.
    deaf: object
    # The number of selected rows that one statement updates.
    batch: int
    families: list
    steps: list = field(default_factory=list)

    def _repr_pretty_(self, printer, cycle):
        printer.text(str(self))

    def __str__(self):
        deaf = self.deaf and self.deaf.__name__
        lines = [
            f"# using={self.using!r}, style={self.style!r}, always={self.always}, "
            f"connect={self.connect!r}, deaf={deaf}, batch={self.batch}"
        ]

        def add(steps, indent):
            for step in steps:
                if isinstance(step, Block):
                    lines.append(f"{indent}with {step.header}:")
                    add(step.body, indent + "    ")
                else:
                    lines.append(indent + step)

        add(self.steps, "")
        return "\n".join(lines)

    __repr__ = __str__


@dataclass
class Atomic:
    end: str = "commit"
    swallow: bool = False
    savepoint: bool = True


@lru_cache(maxsize=10000)
def compiled(code):
    """Return the code of all statements, and of a final expression if any."""
    tree = ast.parse(code)
    last = None
    if isinstance(tree.body[-1], ast.Expr):
        last = compile(ast.Expression(tree.body.pop().value), "<step>", "eval")
    return compile(tree, "<step>", "exec"), last


class Script:
    """Runs a plan's steps, and compares the mirror with the tables."""

    def __init__(self, plan, strict):
        self.plan = plan
        self.using = plan.using
        self.connection = connections[plan.using]
        self.mirror = Mirror(plan, strict)
        self.strict = strict
        self.log = []
        self.depth = 0
        self.receivers = 0
        self.kept = []
        self.silent = False
        self.names = {
            **{name: value for name, value in vars(models).items() if name[0] != "_"},
            "Case": Case,
            "Concat": Concat,
            "Count": Count,
            "Exists": Exists,
            "F": F,
            "Length": Length,
            "OuterRef": OuterRef,
            "Q": Q,
            "Subquery": Subquery,
            "UUID": uuid.UUID,
            "Upper": Upper,
            "Value": Value,
            "When": When,
            "atomic": Atomic,
            "changing": self.changing,
            "clearing": self.clearing,
            "get": self.get,
            "keep": self.keep,
            "kept": self.get_kept,
            "pick": self.pick,
            "post_update": post_update,
            "pre_update": pre_update,
            "raising": self.raising,
            "removing": self.removing,
            "some": self.some,
            "writing": self.writing,
        }

    # What the lines call.

    def pks(self, queryset):
        return sorted(queryset.order_by().values_list("pk", flat=True))

    def get(self, model, index, **kwargs):
        """Return one of the rows there are."""
        manager = model._base_manager.using(self.using)
        pks = self.pks(manager.all())
        if not pks:
            raise Skip
        rows = manager.filter(pk=pks[index % len(pks)])
        return rows.only(*kwargs["only"]).get() if kwargs else rows.get()

    def pick(self, model, *indexes):
        """Return a list of rows, without duplicates."""
        rows = [self.get(model, index) for index in indexes]
        return list({row.pk: row for row in rows}.values())

    def some(self, model, order, start, stop):
        """Return a slice of the rows, as a subquery if it's allowed."""
        rows = model.objects.order_by(order, "pk")[start:stop]
        if self.connection.features.allow_sliced_subqueries_with_in:
            return rows
        return [row.pk for row in rows]

    def keep(self, row):
        self.kept.append(row)

    def get_kept(self, index):
        if not self.kept:
            raise Skip
        return self.kept[index % len(self.kept)]

    @contextmanager
    def connected(self, signal, sender, receiver):
        """Connect a receiver; the mirror's pre_update is the last to run."""
        if self.plan.deaf is not None and sender is self.plan.deaf:
            sender = None
        signal.connect(receiver, sender=sender, weak=False)
        left = pre_update.receivers
        if signal is pre_update:
            mirrors = [one for one in left if one[1]() == self.mirror.pre_update]
            pre_update.receivers = [one for one in left if one not in mirrors] + mirrors
            pre_update.sender_receivers_cache.clear()
        self.receivers += 1
        try:
            yield
        finally:
            self.receivers -= 1
            signal.disconnect(receiver, sender=sender)

    def raising(self, signal, sender, at=1):
        """A receiver raises an exception when it's called the nth time."""
        calls = iter(range(1, at + 1))

        def receiver(**kwargs):
            if next(calls, None) == at:
                raise Fault

        return self.connected(signal, sender, receiver)

    def changing(self, sender, **new_values):
        """A receiver adds values, or replaces them."""

        def receiver(values, **kwargs):
            values.update(new_values)

        return self.connected(pre_update, sender, receiver)

    def removing(self, sender, *names):
        """A receiver removes values."""

        def receiver(values, **kwargs):
            for name in names:
                values.pop(name, None)

        return self.connected(pre_update, sender, receiver)

    def clearing(self, sender):
        """A receiver removes all values."""

        def receiver(values, **kwargs):
            values.clear()

        return self.connected(pre_update, sender, receiver)

    def writing(self, signal, sender, **values):
        """
        A receiver updates another table or, given values, updates the rows
        that were just updated once more.
        """
        active = []

        def receiver(sender, queryset, **kwargs):
            if active or sender is Tally:
                return
            active.append(1)
            try:
                if values:
                    queryset.filter(pk__isnull=False).update(**values)
                else:
                    Tally.objects.update(count=F("count") + 1)
            finally:
                active.pop()

        return self.connected(signal, sender, receiver)

    # How they run.

    def snapshot(self):
        return {model: dict(rows) for model, rows in self.mirror.tables.items()}

    def restore(self, snapshot):
        self.mirror.tables = {model: dict(rows) for model, rows in snapshot.items()}

    def compare(self):
        if self.depth and self.plan.style == "on_commit":
            return
        if not self.connection.needs_rollback:
            self.mirror.compare()

    def run(self):
        for step in self.plan.steps:
            self.run_step(step)

    def say(self, text):
        self.log.append("    " * (self.depth + self.receivers) + text)

    def run_step(self, step):
        if not isinstance(step, Block):
            return self.run_code(step)
        self.say(f"with {step.header}:")
        block = eval(step.header, self.names)
        if isinstance(block, Atomic):
            return self.run_atomic(block, step.body)
        with block:
            for inner in step.body:
                self.run_step(inner)

    def execute(self, code):
        statements, expression = compiled(code)
        exec(statements, self.names)
        return expression and eval(expression, self.names)

    def run_code(self, code):
        self.say(code)
        line = len(self.log) - 1
        before = self.snapshot()
        self.mirror.forget()
        try:
            result = self.execute(code)
        except EXPECTED as exc:
            self.log[line] += f"  # {type(exc).__name__}: {exc}".partition("\n")[0]
            if not self.depth:
                self.restore(before)
                self.compare()
                if not self.receivers and not isinstance(exc, (Lost, Skip)):
                    self.check_unheard(code, exc)
            raise_in_block = self.depth
            if raise_in_block:
                raise
        except Exception as exc:
            self.log[line] += f"  # {type(exc).__name__}: {exc}"
            raise
        else:
            self.log[line] += f"  # {result}".partition("\n")[0]
            if self.strict:
                self.check_announced(code, result)
            self.compare()
        
    def check_unheard(self, code, error):
        """Check that the line fails without receivers as well."""
        with mock.patch.object(QuerySet, "_has_update_listeners", lambda *args: False):
            with transaction.atomic(using=self.using):
                try:
                    self.execute(code)
                    self.connection.check_constraints()
                except EXPECTED as exc:
                    same = type(exc) is type(error)
                else:
                    same = False
                transaction.set_rollback(True, using=self.using)
        if not same:
            raise Wrong(f"{type(error).__name__} because of receivers") from error

    def check_announced(self, code, result):
        """Check that what was announced was updated, and how often."""
        for (sender, _), (_, values, keys) in self.mirror.announced.items():
            if keys and values:
                raise Wrong(f"{sender.__name__}: there was no post_update")
        if code.startswith("held"):
            return
        if ".update(" in code or ".bulk_update(" in code:
            for origin, updated in self.mirror.updated.values():
                if origin.model in updated:
                    pk_sets = updated[origin.model]
                    if not self.receivers and sum(map(len, pk_sets)) != result:
                        raise Wrong(f"{result} rows were updated, not {pk_sets}")

    def run_atomic(self, block, body):
        before = self.snapshot()
        try:
            with transaction.atomic(using=self.using, savepoint=block.savepoint):
                self.depth += 1
                try:
                    self.run_body(block, body)
                    rolled_back = self.connection.needs_rollback
                finally:
                    self.depth -= 1
        except EXPECTED as exc:
            self.say(f"# rolled back: {type(exc).__name__}")
            self.restore(before)
            if self.connection.needs_rollback:
                raise
        else:
            if rolled_back:
                self.say("# rolled back")
                self.restore(before)
                if self.connection.needs_rollback:
                    raise Fault
        self.compare()

    def run_body(self, block, body):
        for step in body:
            before = self.snapshot()
            try:
                self.run_step(step)
            except EXPECTED:
                if not block.swallow:
                    raise
                if self.connection.needs_rollback:
                    return
                # Nothing may have changed.
                self.restore(before)
                self.compare()
        if block.end == "raise":
            raise Fault
        if block.end == "rollback":
            transaction.set_rollback(True, using=self.using)


class Router:
    """Sends everything to one database."""

    def __init__(self, using):
        self.using = using

    def db_for_read(self, model, **hints):
        return self.using

    db_for_write = db_for_read


def run(plan, strict=True):
    """Run a plan."""
    script = Script(plan, strict)
    reset(plan.families, plan.using)
    changed[plan.using].update(plan.families)
    try:
        with (
            mock.patch.object(router, "routers", [Router(plan.using)]),
            mock.patch.object(compiler, "UPDATE_BATCH_SIZE", plan.batch),
            script.mirror.connected(),
        ):
            script.run()
            script.compare()
    except BaseException:
        note("What happened:\n" + "\n".join(script.log))
        raise
    for family in plan.families:
        if plan.deaf not in FAMILIES[family] and all(
            script.mirror.tables[model] == INITIAL[model] for model in FAMILIES[family]
        ):
            changed[plan.using].discard(family)
