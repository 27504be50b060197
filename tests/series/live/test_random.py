"""
Random sequences of operations, and a mirror that hears of them by signals.

The mirror is a copy of the rows, kept in Python. It starts as the tables do,
and then learns everything from post_save (of new rows), post_delete,
pre_update, and post_update. It must always have the same rows as the tables.
Each line is also run without receivers of updates, and rolled back: it must
come to the same result, rows, or exception. Where all models have receivers of
both signals, the audit in receivers.py checks what is sent.

A sequence is a small script. Its lines come from the fields and relations of
the models, and from lists of what isn't plain. When a test fails, the shortest
script that makes it fail is printed with the outcome of each line, and run
first the next time. SERIES_SEQUENCES is the number of sequences.
"""

import itertools
import os
import re
import uuid
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from string import Formatter
from types import SimpleNamespace
from unittest import mock

import pytest
from django import db
from django.core import exceptions
from django.core.management.color import no_style
from django.db import connection, connections, router, transaction
from django.db.models import F, functions
from django.db.models.signals import post_delete, post_save, post_update, pre_update
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from receivers import Audit, Report

from . import models, naive

# Ignored by git. Examples that failed are kept here, and run first.
set_hypothesis_home_dir(Path(__file__).resolve().parents[3] / ".work" / "hypothesis")

MYSQL = connection.vendor == "mysql"
SEQUENCES = int(os.environ.get("SERIES_SEQUENCES", 25))
FIRST_AUTO_PK = 1000

# The rows that every sequence starts with, by the tables that depend on each
# other.
FAMILIES = {
    "accounts": {
        "Owner": [(1, "a"), (2, "b"), (3, "b")],
        "Account": [
            (1, "a", 0, True, 1),
            (2, "a", 1, True, 1),
            (3, "b", 1, False, 2),
            (4, "c", 3, True, None),
            (5, "s", 1, True, 1),
            (6, "s", 2, False, 3),
        ],
        "SpecialAccount": [(5, 0), (6, 1)],
    },
    "clubs": {
        "Club": [(1, "a"), (2, "b"), (3, "c")],
        "Member": [
            (1, 1, None, None, 0, 0),
            (2, 1, 2, 3, 1, 1),
            (3, 2, 1, 1, 2, 0),
            (4, None, 2, 1, 1, 0),
        ],
        "Captain": [(2, 1), (3, 2)],
        "Badge": [(1, 0), (2, 1)],
        "Seat": [(1, 1, 0), (1, 2, 1), (2, 1, 1)],
    },
    "pages": {
        "Page": [
            (1, 11, False, None, None),
            (2, 12, False, 1, 11),
            (3, 13, True, 1, 11),
            (4, 14, True, 2, 13),
            (5, 15, False, 4, 12),
        ],
    },
    "corner": {
        "Top": [(1, 0), (2, 1), (3, 1), (4, 2)],
        "West": [(1, 0), (2, 1)],
        "East": [(2, 0), (3, 1), (4, 1)],
        # The second has two rows of Top.
        "Corner": [(2, 2, 0), (4, 1, 1)],
    },
    "several tables": {
        "Left": [(1, 0), (2, 1), (3, 1)],
        "Right": [(1, 0), (7, 1), (8, 2)],
        # The key of the second parent comes first.
        "Both": [(8, 2, 0), (7, 3, 1)],
        "Lower": [(3, 0)],
    },
    "keys": {
        "TextKey": [("a", 0), ("b", 1), ("c", 1)],
        "UUIDKey": [(uuid.UUID(int=number), number) for number in range(3)],
        "CompositeKey": [(1, 1, 0), (1, 2, 1), (2, 1, 1), (2, 5, 2)],
    },
    "tally": {"Tally": [(1, 0)]},
}
FAMILIES = {
    family: {getattr(models, name): rows for name, rows in tables.items()}
    for family, tables in FAMILIES.items()
}


@lru_cache
def columns(model):
    """Return the fields of the model's own table that can be written."""
    return [one for one in model._meta.local_concrete_fields if not one.generated]


def key_of(model, row):
    """Return the primary key of a row, which is a tuple of the columns."""
    key = tuple(row[columns(model).index(field)] for field in model._meta.pk_fields)
    return key if model._meta.is_composite_pk else key[0]


def changes_key(model, values):
    return any(one.name in values for one in model._meta.pk_fields)


def read(queryset, model):
    """Return a dictionary of the rows of the model's own table."""
    # values_list() doesn't need the tables of the parents.
    names = [column.attname for column in columns(model)]
    return {key_of(model, row): row for row in queryset.values_list(*names)}


INITIAL = {
    model: {key_of(model, row): row for row in rows}
    for family in FAMILIES.values()
    for model, rows in family.items()
}


def reset(families, using):
    """Put the initial rows into these tables."""
    tables = [model for name in families for model in FAMILIES[name]]
    # MySQL checks a relation to the same table row by row.
    with connections[using].constraint_checks_disabled():
        with transaction.atomic(using=using):
            for model in reversed(tables):
                model._base_manager.using(using)._raw_delete(using)
            for model in tables:
                for row in INITIAL[model].values():
                    one = model(**dict(zip([c.attname for c in columns(model)], row)))
                    # It inserts into the model's own table only.
                    one.save_base(raw=True, force_insert=True, using=using)


@pytest.fixture(autouse=True)
def _tables(_clean):
    """
    Let the automatic primary keys start after those that sequences choose, so
    that their order doesn't depend on what ran before. Don't wait for a disk.
    """
    automatic = [model for model in INITIAL if model._meta.auto_field]
    for each in connections.all():
        with each.cursor() as cursor:
            if each.vendor == "sqlite":
                cursor.execute("PRAGMA synchronous = OFF")
            made = [model(pk=FIRST_AUTO_PK) for model in automatic]
            for one in made:
                one.save(using=each.alias)
            for statement in each.ops.sequence_reset_sql(no_style(), automatic):
                cursor.execute(statement)
            for one in made:
                one.delete()
    yield
    for each in connections.all():
        # It has settings of its own.
        each.close()


# The mirror.


class Wrong(AssertionError):
    """The signals contradict themselves, or change what the ORM does."""


class Stale(AssertionError):
    """The mirror has other rows than the tables."""


class Mirror:
    """The copies of the tables, kept as the plan tells."""

    def __init__(self, plan):
        self.plan = plan
        self.tables = {
            model: dict(INITIAL[model])
            for family in plan.families
            for model in FAMILIES[family]
        }
        # The keys that pre_update's queryset had, by the identity of values,
        # and the values, so that no other dictionary gets this identity.
        self.keys = {}

    @contextmanager
    def connected(self):
        """Connect the receivers for all models, or for each one."""
        senders = [None]
        if self.plan.deaf:
            every = [one for one in vars(models).values() if hasattr(one, "_meta")]
            senders = [one for one in every if one.__name__ != self.plan.deaf]
        connecting = [
            (post_save, self.post_save, [None]),
            (post_delete, self.post_delete, [None]),
            (post_update, self.post_update, senders),
            (pre_update, self.pre_update, senders if self.plan.pre else []),
        ]
        with ExitStack() as stack:
            for signal, receiver, senders in connecting:
                for sender in senders:
                    signal.connect(receiver, sender=sender)
                    stack.callback(signal.disconnect, receiver, sender=sender)
            yield

    def pre_update(self, queryset, values, **kwargs):
        if self.plan.style == "instances":
            keys = {one.pk for one in queryset}
        else:
            keys = set(queryset.values_list("pk", flat=True))
        self.keys[id(values)] = keys, values

    def post_update(self, sender, queryset, values, pk_set, **kwargs):
        model = sender._meta.concrete_model
        keys, _ = self.keys.pop(id(values), (pk_set, None))
        if model not in self.tables:
            return
        if changes_key(sender, values):
            # Nothing says which key became which one.
            keys = list(self.tables[model])
            queryset = model._base_manager.using(self.plan.using).all()
        elif self.plan.style == "on_commit":
            copy = partial(self.copy, model, queryset, keys)
            return transaction.on_commit(copy, using=self.plan.using)
        else:
            self.check_values(model, queryset, values)
        self.copy(model, queryset, keys)

    def check_values(self, model, queryset, values):
        """Check that plain values of the own table are what was written."""
        for field in columns(model):
            value = values.get(field.name, F(field.name))
            if not (field.is_relation or hasattr(value, "resolve_expression")):
                found = set(queryset.values_list(field.name, flat=True))
                if found != {value}:
                    raise Stale(f"{field.name} is {found}, {value!r} was sent")

    def copy(self, model, queryset, keys):
        """Replace the rows with these keys by those of the queryset."""
        if self.plan.style == "instances":
            names = [column.attname for column in columns(model)]
            rows = {
                one.pk: tuple(getattr(one, name) for name in names) for one in queryset
            }
        else:
            rows = read(queryset, model)
        for key in keys:
            self.tables[model].pop(key, None)
        self.tables[model].update(rows)

    def post_save(self, sender, instance, created, using, **kwargs):
        for model in (sender, *sender._meta.all_parents) if created else ():
            model = model._meta.concrete_model
            if model in self.tables:
                key = getattr(instance, model._meta.pk.attname)
                self.do(partial(self.insert, model, key), using)

    def insert(self, model, key):
        # A parent may have existed. If it changed, the signals were sent.
        if key not in self.tables[model]:
            rows = model._base_manager.using(self.plan.using).filter(pk=key)
            self.tables[model].update(read(rows, model))

    def post_delete(self, sender, instance, using, **kwargs):
        model = sender._meta.concrete_model
        if model in self.tables:
            self.do(partial(self.delete, model, instance.pk), using)

    def delete(self, model, key):
        self.tables[model].pop(key, None)

    def do(self, function, using):
        if self.plan.style == "on_commit":
            transaction.on_commit(function, using=using)
        else:
            function()

    def stored(self):
        """Return the rows of the tables."""
        return {
            model: read(model._base_manager.using(self.plan.using), model)
            for model in self.tables
        }

    def compare(self):
        """Check that the tables have the same rows."""
        lines = []
        for model, rows in self.stored().items():
            mirrored = self.tables[model]
            if model.__name__ == self.plan.deaf:
                continue
            for key in sorted(mirrored.keys() | rows.keys()):
                if mirrored.get(key) != rows.get(key):
                    lines.append(
                        f"{model.__name__} {key} is {rows.get(key)}, "
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
    db.IntegrityError,
    db.NotSupportedError,
    # MySQL itself can't update a table that a subquery selects from.
    *([db.OperationalError] if MYSQL else []),
    exceptions.MultipleObjectsReturned,
    exceptions.ObjectDoesNotExist,
    exceptions.ObjectNotUpdated,
    Fault,
    IndexError,
    Skip,
    transaction.TransactionManagementError,
    ValueError,
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
    # How the mirror learns new values: "instances" and "rows" evaluate
    # post_update's queryset at once, "on_commit" after the commit.
    style: str
    # Whether the mirror listens to pre_update, too.
    pre: bool
    # None if the receivers are connected for all models at once; else the name
    # of the only model without receivers of updates, or "nobody".
    deaf: str
    families: list
    steps: list


@dataclass
class Atomic:
    end: str = "commit"
    swallow: bool = False
    savepoint: bool = True


class Script:
    """Runs a plan's steps, and compares the mirror with the tables."""

    CALLED = "amending get pick raising some writing"

    def __init__(self, plan, strict, report):
        self.plan = plan
        self.using = plan.using
        self.connection = connections[plan.using]
        self.mirror = Mirror(plan)
        # Whether it's compared with a run without receivers; of the audit.
        self.strict, self.report = strict, report
        self.log = []
        self.depth = 0
        self.receivers = 0
        self.writers = 0
        self.names = {
            **vars(functions),
            **vars(db.models),
            **vars(models),
            **{name: getattr(self, name) for name in self.CALLED.split()},
            "UUID": uuid.UUID,
            "atomic": Atomic,
            "kept": [],
            "post_update": post_update,
            "pre_update": pre_update,
        }

    # What the lines call.

    def get(self, model, index, **kwargs):
        """Return one of the rows there are."""
        manager = model._base_manager.using(self.using)
        pks = sorted(manager.order_by().values_list("pk", flat=True))
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

    @contextmanager
    def connected(self, signal, sender, receiver):
        signal.connect(receiver, sender=sender, weak=False)
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

    def amending(self, sender, method, *args, **kwargs):
        """A receiver calls a method of the values."""

        def receiver(values, **_):
            getattr(values, method)(*args, **kwargs)

        return self.connected(pre_update, sender, receiver)

    @contextmanager
    def writing(self, signal, sender, **values):
        """
        A receiver updates another table or, given values, updates the rows
        that were just updated once more.
        """
        active = []

        def receiver(sender, queryset, **kwargs):
            if active or sender is models.Tally:
                return
            active.append(1)
            try:
                if values:
                    queryset.filter(pk__isnull=False).update(**values)
                else:
                    models.Tally.objects.update(count=F("count") + 1)
            finally:
                active.pop()

        self.writers += 1
        try:
            with self.connected(signal, sender, receiver):
                yield
        finally:
            self.writers -= 1

    # How they run.

    def snapshot(self):
        return {model: dict(rows) for model, rows in self.mirror.tables.items()}

    def restore(self, snapshot):
        self.mirror.tables = {model: dict(rows) for model, rows in snapshot.items()}

    def compare(self):
        if self.report and self.report.unread:
            raise Wrong("\n".join(self.report.unread))
        if self.depth and self.plan.style == "on_commit":
            return
        if not self.connection.needs_rollback:
            self.mirror.compare()

    def say(self, text):
        self.log.append("    " * (self.depth + self.receivers) + text)

    def run_step(self, step):
        if not isinstance(step, Block):
            return self.run_code(step)
        self.say(f"with {step.header}:")
        try:
            block = eval(step.header, self.names)
        except Skip:
            return
        if isinstance(block, Atomic):
            return self.run_atomic(block, step.body)
        with block:
            for inner in step.body:
                self.run_step(inner)

    def execute(self, code):
        *statements, expression = code.split("; ")
        for statement in statements:
            exec(statement, self.names)
        return eval(expression, self.names)

    def is_comparable(self, code):
        """Return whether a line must do the same without receivers."""
        # An instance that's kept would be another one after that, and
        # select_for_update() wants a transaction. Without RETURNING, SQLite
        # evaluates a subquery of the table while it updates that.
        others = "kept|for_update"
        if connection.vendor == "sqlite":
            others += "|Exists|owner__account"
        return self.strict and not self.receivers and not re.search(others, code)

    def run_code(self, code):
        self.say(code)
        line = len(self.log) - 1
        before = self.snapshot()
        unheard = self.run_unheard(code) if self.is_comparable(code) else None
        self.restore(before)
        # Before save() inserts, it commits what receivers of its update wrote.
        # They aren't to blame if there's an error after that.
        whole = transaction.atomic(using=self.using) if self.writers else nullcontext()
        try:
            with whole:
                result = self.execute(code)
        except EXPECTED as exc:
            self.log[line] += f"  # {type(exc).__name__}: {exc}".partition("\n")[0]
            self.restore(before)
            self.compare()
            self.check_result(unheard, exc)
            if self.depth:
                raise
        except Exception as exc:
            self.log[line] += f"  # {type(exc).__name__}: {exc}"
            raise
        else:
            self.log[line] += f"  # {result}".partition("\n")[0]
            if unheard:
                self.check_result(unheard, result, self.mirror.stored(), before)
            self.compare()

    def run_unheard(self, code):
        """
        Run the line without receivers of updates, and roll it back. Return its
        result or exception, and the rows.
        """
        with (
            mock.patch.object(pre_update, "receivers", []),
            mock.patch.object(post_update, "receivers", []),
            mock.patch.object(self.report or Report, "problem"),
            transaction.atomic(using=self.using),
        ):
            try:
                result = self.execute(code)
                if not self.depth and not MYSQL:
                    self.connection.check_constraints()
                return result, self.mirror.stored()
            except EXPECTED as exc:
                return exc, None
            finally:
                transaction.set_rollback(True, using=self.using)
                for signal in (pre_update, post_update):
                    signal.sender_receivers_cache.clear()

    def check_result(self, unheard, result, stored=None, before=None):
        """Check that a line did the same without receivers."""
        # With receivers, MySQL can do more if the rows are selected first.
        if unheard is None or isinstance(unheard[0], db.OperationalError):
            return
        found = unheard[0]
        if isinstance(result, Exception) or isinstance(found, Exception):
            same = type(result) is type(found)
        else:
            # The others have instances, which may be new ones.
            is_number = isinstance(result, int) or repr(result).endswith("})")
            same = not is_number or result == found
        if not same:
            raise Wrong(f"{found!r} without receivers, {result!r} with them")
        for model, known in (before or {}).items():
            rows, others = unheard[1][model], stored[model]
            if model._meta.auto_field:
                # New rows have other keys.
                rows, others = (
                    {key: table[key] for key in table.keys() & known.keys()}
                    for table in (rows, others)
                )
            values = itertools.chain(*rows.values(), *others.values())
            new = any(isinstance(one, int) and one >= FIRST_AUTO_PK for one in values)
            if rows != others and not new:
                raise Wrong(f"{model.__name__}: {rows} without receivers, not {others}")

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
            try:
                self.run_step(step)
            except EXPECTED:
                if not block.swallow:
                    raise
                if self.connection.needs_rollback:
                    return
        if block.end == "raise":
            raise Fault
        if block.end == "rollback":
            transaction.set_rollback(True, using=self.using)


@contextmanager
def audited():
    """Let the audit check every update. Give its report."""
    report = Report(os.devnull)
    audit = Audit(report)
    with pytest.MonkeyPatch.context() as patch:
        audit.install(patch.setattr)
        try:
            yield report
        finally:
            pre_update.disconnect(audit.pre_update)
            post_update.disconnect(audit.post_update)


def run(plan, strict=True):
    """Run a plan."""
    # Everything goes to one database.
    to = SimpleNamespace(
        db_for_read=lambda model, **hints: plan.using,
        db_for_write=lambda model, **hints: plan.using,
    )
    reset(plan.families, plan.using)
    has_audit = strict and plan.pre and not plan.deaf
    with (
        mock.patch.object(router, "routers", [to]),
        audited() if has_audit else nullcontext() as report,
    ):
        script = Script(plan, strict, report)
        try:
            with script.mirror.connected():
                for step in plan.steps:
                    script.run_step(step)
                script.compare()
        except BaseException:
            note("What happened:\n" + "\n".join(script.log))
            raise


# What the scripts are made of. These are templates: the names in braces are
# keys of PLACES.

PLACES = {
    "b": st.booleans(),
    "i": st.integers(0, 4),
    "j": st.integers(0, 4),
    "k": st.integers(-1, 4),
    "l": st.integers(-1, 4),
    "n": st.sampled_from("abcs").map(repr),
    "pk": st.sampled_from([901, 902, 1, 5]),
    "size": st.integers(1, 3),
    "t": st.sampled_from("abxy").map(repr),
    "c": st.integers(9, 16),
    "order": st.sampled_from(["points", "-points", "name", "-pk"]).map(repr),
}


@lru_cache
def filled(template):
    """Return a strategy of the template with values for its names."""
    names = {name for _, name, _, _ in Formatter().parse(template) if name}
    places = st.fixed_dictionaries({name: PLACES[name] for name in sorted(names)})
    return places.map(lambda values: template.format(**values))


def one_of(templates):
    return st.sampled_from(templates).flatmap(filled)


def name_of(value):
    """Return the name of the field that a template assigns to."""
    return value.partition("=")[0].removesuffix("_id")


def unambiguous(values):
    """
    Leave out values that use a column that's assigned as well. MySQL gives
    them its new value, unless the filter selects from the updated table.
    """
    kept = {}
    for value in values:
        name = name_of(value)
        used = set(map(name_of, re.findall("[a-z]+", value.partition("=")[2])))
        if used.isdisjoint(kept) and not any(name in used for _, used in kept.values()):
            kept[name] = value, used
    return [value for value, _ in kept.values()]


def some_of(values):
    """
    Return a strategy of lists of up to three values, for different fields.
    """
    some = st.lists(
        st.sampled_from(values), min_size=1, max_size=3, unique_by=name_of
    ).map(unambiguous if MYSQL else list)
    return some.flatmap(lambda some: st.tuples(*map(filled, some)))


# The lines. For each model, these are made from its fields and relations; what
# isn't plain is added below.

PLAIN = {"BooleanField": "{b}", "CharField": "{n}", "IntegerField": "{k}"}


def plain(model, field):
    """Return a template of the field's values; None for keys."""
    if field.unique or field in model._meta.pk_fields:
        return None
    if field.is_relation:
        return f"get({field.related_model.__name__},{{i}})"
    return PLAIN[getattr(field, "output_field", field).get_internal_type()]


def plain_fields(model):
    """Return the fields with plain values, the model's own ones first."""
    opts = model._meta
    fields = dict.fromkeys([*opts.local_concrete_fields, *opts.concrete_fields])
    return {field: plain(model, field) for field in fields if plain(model, field)}


def plain_filters(model):
    """Return the filters of a model."""
    filters = []
    for field, value in plain_fields(model).items():
        name = field.name
        filters += [f".filter({name}={value})", f".exclude({name}={value})"]
        if field.is_relation:
            filters.append(f".exclude({name}=None)")
            continue
        filters += [f".values('{name}')", f".filter({name}__lt={value})"]
        # Django can't execute such an update if it's of parents' columns only.
        if not (MYSQL and model._meta.parents):
            filters.append(f".order_by('-{name}')")
    for relation in model._meta.get_fields():
        if relation.is_relation:
            field, value = next(iter(plain_fields(relation.related_model).items()))
            filters.append(f".filter({relation.name}__{field.name}={value})")
    return filters


def plain_values(model):
    """Return the values of a model; the first can be set in any row."""
    values = []
    for field, value in plain_fields(model).items():
        name = field.name
        if field.generated:
            continue
        values.append(f"{name}={value}")
        if field.is_relation and field.null:
            values.append(f"{name}=None")
        elif value == "{k}":
            values += [f"{name}=F('{name}')+{{k}}", f"{name}=F('{name}')*-1"]
        elif value == "{n}":
            values.append(f"{name}=Concat('{name}',Value('x'))")
    return values


def plain_operations(model):
    """Return the other operations on a model."""
    name, opts = model.__name__, model._meta
    values = [
        f"{field.name}={value}"
        for field, value in plain_fields(model).items()
        if not field.generated and field.name != "_order"
    ]
    key = KEY_VALUES.get(name)
    operations = [f"{name}.objects.filter({values[0]}).delete()"]
    operations.append(
        f"{name}.objects.create({', '.join(filter(None, [key, *values]))})"
    )
    # A row of Corner may have two rows of Top, of which an instance has one.
    if name != "Corner":
        found, defaults = key or values[0], ", ".join(values[not key :])
        operations.append(
            f"{name}.objects.update_or_create({found}, defaults=dict({defaults}))"
        )
    if len(opts.all_parents) < 2:
        made = f"{name}({', '.join([key or 'pk={pk}', *values])})"
        operations += [f"{made}.save()", f"{made}.save(force_update=True)"]
    if opts.parents:
        operations.append(f"get({name}, {{i}}).delete(keep_parents=True)")
    for relation in opts.get_fields():
        if not relation.one_to_many:
            continue
        manager = f"get({name}, {{i}}).{relation.get_accessor_name()}"
        some = f"pick({relation.related_model.__name__}, {{j}}, {{k}})"
        operations += [f"{manager}.add(*{some})", f"{manager}.set({some}, bulk=False)"]
        if relation.field.null:
            operations += [
                f"{manager}.set({some})",
                f"{manager}.set({some}, clear=True)",
                f"{manager}.remove(*{manager}.all()[:{{size}}])",
                f"{manager}.clear()",
            ]
    return operations


# The keys that aren't automatic, and a unique value.
KEY_VALUES = {
    "TextKey": "key={t}",
    "UUIDKey": "key=UUID(int={i})",
    "CompositeKey": "tenant={i}, number={j}",
    "Badge": "club=get(Club, {i})",
    "Seat": "club=get(Club, {i}), number={j}",
    "Page": "code={c}",
}
# They are split at spaces.
ACCOUNT_FILTERS = """
.filter(pk=get(Account,{i}).pk) .exclude(owner__name={n}) .none() .distinct()
.filter(~Q(points={k}),active={b}) .filter(pk__in=some(Account,{order},{i},{j}))
.filter(pk__in=Account.objects.filter(points__lt={k}))
.exclude(pk__in=Account.objects.filter(points={k}).values('pk'))
.filter(owner__in=Owner.objects.filter(account__points={k}))
.filter(owner__account__points__gt={k}) .exclude(owner__account__points__gt={k})
.annotate(twice=F('points')*2).filter(twice__gt={k})
.annotate(size=Count('owner__account')).filter(size__gt={k})
.alias(whose=F('owner__name')).filter(whose={n})
.annotate(others=F('owner__account__points')) .values('owner__account__name')
.annotate(mine=FilteredRelation('owner',condition=Q(owner__name={n}))).filter(mine=None)
.values_list('name',flat=True) .only('name') .select_related('owner')
.select_for_update(nowait=True,of=['self'])
""".split()
SPECIAL_FILTERS = [
    one.replace("(Account", "(SpecialAccount") for one in ACCOUNT_FILTERS
]
ACCOUNT_FILTERS += """
.filter(Exists(Account.objects.filter(owner=OuterRef('owner'),points={k})))
.filter(specialaccount=None) .order_by('owner__account__points')
.extra(where=['live_account.id>{k}'])
""".split()
# The last ones raise an IntegrityError: NULL for some rows, and no such owner.
ACCOUNT_VALUES = """
points=Length('name') owner=F('owner')
points=Case(When(active=True,then={k}),default=F('points'))
active=Case(When(points__gt={k},then=True),default=False)
points=Subquery(Owner.objects.filter(pk=OuterRef('owner')).values('pk')) owner_id=999
""".split()
TEXT_VALUES = ["key={t}", "key=Concat('key',Value('x'))"]
if not MYSQL:
    # It can't select from the updated table.
    ACCOUNT_VALUES.append(
        "points=Subquery(Account.objects.filter(points__gt={k}).annotate("
        "same=Value(1)).values('same').annotate(n=Count('pk')).values('n'))"
    )
    # It also finds rows by a key in another case, which save() then sends.
    TEXT_VALUES.append("key=Upper('key')")
# Filters and values.
CORNERS = {
    "Account": (ACCOUNT_FILTERS, ACCOUNT_VALUES),
    "ProxyAccount": (ACCOUNT_FILTERS, ACCOUNT_VALUES),
    "SpecialAccount": (SPECIAL_FILTERS, ACCOUNT_VALUES),
    "ProxySpecialAccount": (SPECIAL_FILTERS, ACCOUNT_VALUES),
    "Owner": ([".exclude(account=None)"], []),
    "Member": (
        [".filter(previous=F('next'))", ".filter(next__future__score={k})"],
        ["score=F('double')-F('score')+{k}", "previous=F('club')"],
    ),
    "Badge": ([], ["club=get(Club,{i})"]),
    "Seat": (
        [".filter(number={i})", ".filter(club__seats__points__lt={k})"],
        ["club=get(Club,{i})", "number=F('number')*-1"],
    ),
    "Both": ([".filter(Q(a={k})|Q(c={l}))", ".distinct()"], []),
    "Lower": ([".filter(Q(a={k})|Q(c={l}))", ".distinct()"], []),
    "Corner": ([".filter(west_ptr=F('east_ptr'))"], []),
    "Page": (
        [
            ".filter(code__lt={c})",
            ".exclude(parent__parent=None)",
            ".filter(linked__in=Page.objects.all())",
        ],
        ["parent=F('id')", "linked_id={c}", "code={c}", "code=F('code')*-1"],
    ),
    "TextKey": ([".filter(key={t})", ".order_by('-key')"], TEXT_VALUES),
    "UUIDKey": (
        [".filter(pk=UUID(int={i}))"],
        ["key=UUID(int={i})", "key=str(UUID(int={j}))"],
    ),
    "CompositeKey": (
        """
        .filter(tenant={i}) .filter(pk__in=[({i},{j}),(1,1)]) .exclude(pk=({i},{j}))
        .order_by('-number')
        .filter(pk__in=CompositeKey.objects.filter(points={k}).values('pk'))
        """.split(),
        ["tenant={i}", "number=F('number')*-1", "number=F('points')"],
    ),
}
# What else update() is called on.
STARTS = {
    "Account": ["get(Owner,{i}).account_set.all()"],
    "Member": ["get(Club,{i}).member_set.all()"],
    "Seat": ["get(Club,{i}).seats.all()"],
    "Page": ["Page._base_manager.all()", "get(Page,{i}).links.all()"],
}
KEYS = ("id", "key", "tenant", "number", "club", "account_ptr")
# One a line.
OPERATIONS = {
    "accounts": """
(Account.objects.filter(points={k}) | Account.objects.filter(name={n})).update(points=1)
Account.objects.annotate(twice=F('points') * 2).update(points=F('twice') + {l})
a = get(Account, {i}, only=['name']); a.name = {n}; a.save()
a = get(Account, {i}); a.pk = None; a._state.adding = True; a.save()
a = get(Account, {i}); a.pk = {pk}; a.points = {k}; a.save()
Account(pk={pk}, name={n}, points={k}).save(force_insert=True)
Account(pk=str({pk}), name={n}, points={k}).save()
Account(pk=Value({pk}), name={n}, points={k}).save(force_update=True)
ProxyAccount(pk=get(Account,{i}).pk, name={n}, points={k}).save()
SpecialAccount(pk=get(Account,{i}).pk, name={n}, points={k}).save()
SpecialAccount(account_ptr=get(Account,{i}), name={n}, level={l}).save()
kept.append(get(Account, {i}))
kept.append(get(SpecialAccount, {i}))
o = kept[-{size}]; o.points = {k}; o.save()
kept[-{size}].delete()
Account.objects.update_or_create(pk={pk}, defaults=dict(points={k}))
get(Owner, {i}).account_set.update_or_create(points={k}, defaults=dict(name={n}))
get(Owner, {i}).account_set.add(*pick(Account, {j}, {k}), bulk=False)
""",
    "clubs": """
m = get(Member, {i}); m.club = get(Club, {j}); m.previous = m.next; m.save()
c = get(Club, {i}); c.set_member_order(list(c.get_member_order())[::-1])
Club.objects.all().delete()
Club.objects.filter(member__score__gte={k}).delete()
""",
    "several tables": "",
    "corner": """
c = Corner.objects.get(east_ptr=2); c.e = {k}; c.x = {l}; c.save()
c = Corner.objects.get(east_ptr=2); c.x = {k}; c.save(update_fields=['x'])
o = get(Corner, {i}); o.e = o.x = {l}; Corner.objects.bulk_update([o], ['e', 'x'])
""",
    "pages": """
Page._base_manager.filter(hidden={b}).delete()
Page.objects.all().delete()
""",
    "keys": """
TextKey(key={k}, points={k}).save()
UUIDKey(key=str(UUID(int={i})), points={k}).save()
CompositeKey(tenant=str({i}), number={j}, points={k}).save()
""",
}
UPDATES = {}
for family, text in OPERATIONS.items():
    UPDATES[family] = {}
    OPERATIONS[family] = text.split("\n")[1:-1]
    for model in FAMILIES[family]:
        OPERATIONS[family] += plain_operations(model)
        proxies = [one for one in model.__subclasses__() if one._meta.proxy]
        for each in (model, *proxies):
            filters, values = CORNERS.get(each.__name__, ([], []))
            UPDATES[family][each.__name__] = (
                plain_filters(each) + filters,
                plain_values(each) + values,
            )
if connection.features.can_defer_constraint_checks:
    OPERATIONS["accounts"] += [
        "SpecialAccount.objects.filter(pk=get(SpecialAccount, {i}).pk).update("
        "id={pk}, account_ptr={pk}, level={k}, points={l})",
        "SpecialAccount.objects.filter(level={k}).update("
        "id=F('id') * -1, account_ptr=F('account_ptr') * -1)",
    ]
SAVES = """
o.save()
o.save(update_fields=FIELDS)
o.save(force_update=True)
o.save_base(raw=True)
MODEL.objects.bulk_update([o], FIELDS)
MODEL.objects.bulk_update([o, *pick(MODEL, {i})], FIELDS, batch_size={size})
""".split("\n")[1:-1]


def update_of(draw, family, model):
    """A call of update()."""
    filters, values = UPDATES[family][model]
    links = draw(st.lists(one_of(filters), max_size=2))
    # Some methods refuse to be called after values().
    links.sort(key=lambda link: link.startswith(".values"))
    start = draw(one_of([f"{model}.objects", *STARTS.get(model, ())]))
    return f"{start}{''.join(links)}.update({', '.join(draw(some_of(values)))})"


@st.composite
def lines(draw, families):
    """One operation."""
    family = draw(st.sampled_from(families))
    kind = draw(st.integers(0, 9))
    if kind > 6:
        return draw(one_of(OPERATIONS[family]))
    model = draw(st.sampled_from(list(UPDATES[family])))
    if kind == 6:
        return f"get({model}, {draw(PLACES['i'])}).delete()"
    # A row of Corner may have two rows of Top, of which an instance has one.
    if kind < 4 or model == "Corner":
        return update_of(draw, family, model)
    values = draw(some_of(UPDATES[family][model][1]))
    # bulk_update() refuses primary keys.
    names = [name for name in map(name_of, values) if name not in KEYS]
    how = draw(one_of([one for one in SAVES if names or "FIELDS" not in one]))
    how = how.replace("MODEL", model).replace("FIELDS", repr(names))
    values = "; ".join("o." + value.replace("=", " = ", 1) for value in values)
    return f"o = get({model}, {draw(PLACES['j'])}); {values}; {how}"


@st.composite
def interference(draw, families, inner):
    """A block with a receiver of a model, which starts with its update."""
    family = draw(st.sampled_from(families))
    model = draw(st.sampled_from(list(UPDATES[family])))
    values = UPDATES[family][model][1]
    signal = draw(st.sampled_from(["pre_update", "post_update"]))
    # The column that's used may be assigned: see unambiguous().
    constants = [value for value in values if not (MYSQL and "F(" in value)]
    name = name_of(draw(st.sampled_from(values)))
    headers = [
        f"raising({signal}, {model})",
        f"raising({signal}, None, at={draw(st.integers(1, 3))})",
        f"amending({model}, 'update', {draw(one_of(constants))})",
        f"amending({model}, 'pop', {name!r}, None)",
        f"amending({model}, 'clear')",
        f"writing({signal}, {model})",
        f"writing(post_update, {model}, {draw(filled(values[0]))})",
    ]
    body = [update_of(draw, family, model), *draw(inner)]
    return Block(draw(st.sampled_from(headers)), body)


ATOMIC = [
    "atomic()",
    "atomic(end='raise')",
    "atomic(end='rollback')",
    "atomic(swallow=True)",
    "atomic(savepoint=False)",
    "atomic(end='rollback', savepoint=False)",
]


def flat(steps):
    """
    Leave out some lines and headers. To shorten a script, Hypothesis would
    have to remove all the choices for a line at once, which it doesn't try.
    """
    lines = []
    for kind, step in steps:
        if kind == 1 and isinstance(step, Block):
            lines.extend(step.body)
        elif kind:
            lines.append(step)
    return lines


def steps(families, depth=2, sizes=(6, 12)):
    """A list of lines and blocks."""
    line = step = lines(families)
    if depth:
        inner = steps(families, depth - 1, (1, 4))
        atomic = st.builds(Block, st.sampled_from(ATOMIC), inner)
        step = line | line | interference(families, inner) | atomic
    some = st.tuples(st.integers(0, 9), step)
    return st.lists(some, min_size=sizes[0], max_size=sizes[1]).map(flat)


@st.composite
def plans(draw):
    families = draw(
        st.lists(st.sampled_from(list(OPERATIONS)), min_size=1, max_size=2, unique=True)
    )
    deaf = ["nobody", "Account", "SpecialAccount", "Right", "Both", "Member", "Top"]
    return Plan(
        using=draw(st.sampled_from(["default", "other"])),
        style=draw(st.sampled_from(["rows", "instances", "on_commit"])),
        pre=draw(st.integers(0, 3)) > 0,
        deaf=draw(st.none() | st.sampled_from(deaf)),
        families=["tally", *families],
        steps=draw(steps(families)),
    )


base_settings = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    print_blob=True,
    # The scripts are long, and run on a real database.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@settings(base_settings, max_examples=SEQUENCES)
@given(plans())
def test_mirror(plan):
    """Signals alone keep a copy of the tables right, whatever happens."""
    run(plan)


@pytest.mark.parametrize("variant", naive.SEEN_BY_MIRROR, ids=lambda v: v.__name__)
def test_naive_variant(variant):
    """Some sequence leaves a mirror of a naive variant with other rows."""

    # Always the same sequences, and no shorter ones.
    @settings(
        base_settings,
        max_examples=1000,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(plans())
    def search(plan):
        # The signals may contradict themselves, too, but the rows count.
        run(plan, strict=False)

    with variant(), pytest.raises(Stale):
        search()
