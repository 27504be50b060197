"""
The examples of docs/howto/update-signals.txt, and the arguments that
docs/ref/signals.txt lists.

The code blocks of the page become an app, myapp, so that what runs is what its
readers see: those with models are its models.py, methods that test are put
into a TestCase in its tests.py, and all others are its signals.py, in the
order of the page. What the page takes for granted is in GIVEN.
"""

import re
import unittest
from contextlib import ExitStack
from importlib import import_module
from io import StringIO
from pathlib import Path
from textwrap import indent
from types import SimpleNamespace
from unittest import mock

import pytest
from django.apps import apps
from django.core import serializers
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.db import connections, transaction
from django.db.models import F, Sum, Value, signals
from django.db.models.functions import Concat
from django.test import modify_settings
from django.utils import timezone
from django.utils.functional import SimpleLazyObject
from docutils import nodes
from docutils.core import publish_doctree

DOCS = Path(__file__).resolve().parents[3] / "django" / "docs"
HOWTO = DOCS / "howto" / "update-signals.txt"
REFERENCE = DOCS / "ref" / "signals.txt"
GIVEN = {
    "models": """
class BonusProxy(BonusAward):
    class Meta:
        proxy = True
""",
    "signals": """
from myapp.models import BonusProxy

class Index(dict):
    def add(self, awards):
        self.update((award.pk, award.reason) for award in awards)

index, mailed, handled = Index(), [], []

def mail(award):
    mailed.append(award.pk)

def handle(model, pk_set, name, value, using):
    handled.append((model, pk_set, name, value, using))
""",
    "tests": """
from django.test import TestCase
from myapp.signals import *

class PointsTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.account = Account.objects.create(name="Ann")
""",
}


def code_blocks(path):
    """Return the Python blocks of a page, in order."""
    # Docutils doesn't know Sphinx's directives: what's in them isn't code.
    options = {"report_level": 5, "file_insertion_enabled": False}
    page = publish_doctree(path.read_text("utf-8"), settings_overrides=options)
    return [
        block.astext()
        for block in page.findall(nodes.literal_block)
        if not isinstance(block.parent, nodes.system_message)
        and block["classes"] in ([], ["code", "python"])
    ]


def write_app(directory):
    """Write the modules of the app."""
    parts = {"models": [], "signals": [GIVEN["signals"]], "tests": [GIVEN["tests"]]}
    for block in code_blocks(HOWTO):
        if "(models.Model)" in block:
            parts["models"].append(block)
        elif block.startswith("def test_"):
            parts["tests"].append(indent(block, "    "))
        else:
            parts["signals"].append(block)
    parts["models"].append(GIVEN["models"])
    directory.mkdir()
    for name, blocks in {"__init__": [], **parts}.items():
        Path(directory, f"{name}.py").write_text("\n\n".join(blocks), "utf-8")


@pytest.fixture(scope="module")
def app(_databases, tmp_path_factory):
    """Install the app. Return its module signals, which has its models."""
    directory = tmp_path_factory.mktemp("howto")
    write_app(directory / "myapp")
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).syspath_prepend(directory)
        for signal in vars(signals).values():
            if isinstance(signal, signals.ModelSignal):
                before = [*signal.receivers]
                stack.enter_context(mock.patch.object(signal, "receivers", before))
        stack.enter_context(modify_settings(INSTALLED_APPS={"append": "myapp"}))
        module = import_module("myapp.signals")
        models = [
            model
            for model in apps.get_app_config("myapp").get_models()
            if not model._meta.proxy
        ]
        for connection in connections.all():
            with connection.schema_editor() as editor:
                for model in models:
                    editor.create_model(model)
        yield module
        for connection in connections.all():
            with connection.schema_editor() as editor:
                for model in reversed(models):
                    editor.delete_model(model)


@pytest.fixture
def page(app):
    """The module, an account with two awards, and another one."""
    cache.clear()
    for kept in (app.index, app.mailed, app.handled):
        kept.clear()
    app.ann, app.bob = (app.Account.objects.create(name=name) for name in ("A", "B"))
    app.one, app.two = (
        app.PointAward.objects.create(account=app.ann, points=points)
        for points in (1, 2)
    )
    return app


def take_trail(page, using="default"):
    """Return the rows of the audit trail, and delete them."""
    trail = page.PointAwardChange.objects.using(using).order_by("pk")
    names = ("award_id", "old_points", "new_points", "changed_by")
    rows = list(trail.values_list(*names))
    trail.delete()
    return rows


def fail(**kwargs):
    """A receiver."""
    raise ValueError


def test_cache(page):
    """The cached points are those of the database after every change."""
    awards, one, two = page.PointAward.objects, page.one, page.two
    accounts = (page.ann, page.bob)

    def cached():
        return [page.get_points(account.pk) for account in accounts]

    def move():
        two.account = page.bob
        two.save()

    for change in (
        lambda: awards.update(points=F("points") * 10),
        lambda: awards.filter(points=10).update(account=page.bob),
        move,
        lambda: page.ann.pointaward_set.set([one, two]),
        lambda: awards.filter(pk=one.pk).update(account_id=page.bob.pk),
        lambda: awards.create(account=page.bob, points=7),
        lambda: page.BonusAward.objects.create(account=page.bob, points=8),
        awards.filter(pk=two.pk).delete,
    ):
        before = cached()
        with transaction.atomic():
            change()
            assert cached() == before
        total = Sum("points", default=0)
        assert cached() == [
            account.pointaward_set.aggregate(total=total)["total"]
            for account in accounts
        ]


def save_points(award):
    award.points += 1
    award.save(update_fields=["points"])


@pytest.mark.parametrize("change", [save_points, lambda award: award.delete()])
def test_cache_of_stale_instance(page, change):
    """The account that counts is that of the row."""
    award = page.PointAward.objects.get(pk=page.two.pk)
    page.PointAward.objects.update(account=page.bob)
    page.get_points(page.bob.pk)
    change(award)
    points = page.bob.pointaward_set.values_list("points", flat=True)
    assert page.get_points(page.bob.pk) == sum(points)


def test_modified(page, connect):
    """The field is set by every update, but not for given values."""
    awards, one = page.PointAward.objects, page.one

    def modified():
        return awards.get(pk=one.pk).modified

    for change in (
        lambda: awards.update(points=2),
        lambda: awards.bulk_update([one], ["points"]),
        lambda: page.ann.pointaward_set.add(one),
        lambda: one.save(update_fields=["points"]),
    ):
        before = modified()
        change()
        assert modified() > before
    assert one.modified == modified()
    # A child is saved for each of its tables.
    page.BonusAward.objects.create(account=page.ann, points=1)
    connect(signals.pre_update, page.set_modified, page.BonusAward)
    given = timezone.now().replace(year=2020, microsecond=0)
    awards.update(modified=given)
    assert modified() == given
    fixture = serializers.serialize(
        "json", [*awards.all(), *page.BonusAward.objects.all()]
    )
    awards.update(points=3)
    assert modified() > given
    for saved in serializers.deserialize("json", fixture):
        saved.save()
    assert set(awards.values_list("modified", flat=True)) == {given}


def test_forbidden_change(page):
    """An account can't be renamed, but get the name that it has."""
    ann, accounts = page.ann, page.Account.objects
    changes = (
        ann.save,
        lambda: accounts.update(name=Concat(F("name"), Value(ann.name[1:]))),
        lambda: accounts.filter(pk=ann.pk).update(name=ann.name),
        lambda: accounts.bulk_update([page.bob, ann], ["name"]),
    )
    ann.name = "A!"
    for change in changes:
        with pytest.raises(ValidationError, match="can't be changed"):
            change()
        assert set(accounts.values_list("name", flat=True)) == {"A", "B"}
    ann.name = "A"
    for change in changes:
        change()
    # It may exist, so this sends pre_update, too.
    page.Account(pk=ann.pk + 100, name="New").save()


def test_audit_trail(page):
    """The trail has the points that changed, also of deleted awards."""
    awards, one, two = page.PointAward.objects, page.one, page.two
    keys = one.pk, two.pk
    awards.filter(points=1).update(points=F("points") + 10)
    awards.update(reason="None")
    two.save()
    two.points = 3
    two.save()
    one.points = 20
    awards.bulk_update([one, two], ["points"])
    two.points = 1000  # This isn't stored.
    two.delete()
    page.ann.delete()
    assert take_trail(page) == [
        (keys[0], 1, 11, ""),
        (keys[1], 2, 3, ""),
        (keys[0], 11, 20, ""),
        (keys[1], 3, None, ""),
        (keys[0], 20, None, ""),
    ]


def test_failed_update(page, connect):
    """It leaves nothing in the trail, even if the queryset is used again."""
    awards = page.PointAward.objects.filter(pk=page.one.pk)
    connect(signals.post_update, fail, page.PointAward)
    with pytest.raises(ValueError):
        awards.update(points=5)
    signals.post_update.disconnect(fail, page.PointAward)
    awards.update(points=6)
    assert take_trail(page) == [(page.one.pk, 1, 6, "")]


@pytest.mark.parametrize("signal", [signals.pre_update, signals.post_update])
def test_nested_update(page, connect, signal):
    """A receiver may update with the same origin while old rows are kept."""

    def propose(instance, values, origin, **kwargs):
        if "points" in values and instance is None:
            origin.update(status="proposed")
        elif "points" in values:
            instance.save(update_fields=["status"])

    connect(signal, propose, page.PointAward)
    if signal is signals.post_update:
        signal.receivers.insert(0, signal.receivers.pop())
    page.one.points = 5
    page.one.save()
    page.PointAward.objects.filter(pk=page.one.pk).update(points=6)
    assert take_trail(page) == [(page.one.pk, 1, 5, ""), (page.one.pk, 5, 6, "")]


def test_late_row(page, connect):
    """An award that matches after the old rows were read has none."""
    awards = page.PointAward.objects
    late = page.PointAward(pk=page.two.pk + 100, account=page.bob, points=3)
    connect(
        signals.pre_update,
        lambda **kwargs: awards.bulk_create([late]),
        page.PointAward,
    )
    awards.filter(account=page.bob).update(points=4, status="approved")
    assert take_trail(page) == [(late.pk, None, 4, "")]
    assert page.mailed == [late.pk]


def test_user(page):
    """The trail has the user of the request, and none after it."""

    def view(request):
        page.PointAward.objects.filter(pk=page.one.pk).update(points=F("points") + 1)
        if request is not None:
            fail()

    # As AuthenticationMiddleware sets it.
    request = SimpleNamespace(user=SimpleLazyObject(lambda: "Ann"))
    with pytest.raises(ValueError):
        page.current_request_middleware(view)(request)
    view(None)
    assert [row[3] for row in take_trail(page)] == ["Ann", ""]


def test_approved(page):
    """Mails are sent after the commit, for awards that become approved."""
    awards, one, two = page.PointAward.objects, page.one, page.two
    awards.filter(pk=one.pk).update(status=Value("approved"))
    assert page.mailed == [one.pk]
    awards.update(status="approved")
    assert page.mailed == [one.pk, two.pk]
    two.save()  # It becomes proposed again.
    two.status = "approved"
    with transaction.atomic():
        two.save()
        transaction.set_rollback(True)
    assert page.mailed == [one.pk, two.pk]
    with transaction.atomic():
        awards.bulk_update([two], ["status"])
        two.save()
        assert page.mailed == [one.pk, two.pk]
    assert page.mailed == [one.pk, two.pk, two.pk]


def test_index(page, connect):
    """It gets the committed reasons of update(), unless it's skipped."""
    awards, one = page.PointAward.objects.filter(pk=page.one.pk), page.one
    connect(
        signals.post_update,
        lambda queryset, **kwargs: list(queryset),
        page.PointAward,
    )
    awards.update(points=1)
    one.save()
    with pytest.raises(ValueError), page.without_index():
        awards.update(reason="skipped")
        fail()
    with transaction.atomic():
        awards.update(reason="undone")
        transaction.set_rollback(True)
    assert page.index == {}
    with transaction.atomic():
        awards.update(reason="first")
        one.reason = "second"
        one.save()
        assert page.index == {}
    assert page.index == {one.pk: "second"}


def test_other_database(page):
    """All is done there, and after the commit there."""
    account = page.Account.objects.using("other").create(name="O")
    awards = page.PointAward.objects.using("other")
    pk, key = awards.create(account=account, points=1).pk, f"points-{account.pk}"
    cache.set(key, 1)
    with transaction.atomic(using="other"):
        awards.update(points=2, reason="other", status="approved")
        assert (cache.get(key), page.mailed, page.index) == (1, [], {})
    assert (cache.get(key), page.mailed, page.index) == (None, [pk], {pk: "other"})
    assert {one[4] for one in page.handled} == {"other"}
    awards.get().delete()
    assert take_trail(page, "other") == [(pk, 1, 2, ""), (pk, 2, None, "")]


def test_all_models(page):
    """Each value is handled once, by the model that has the field."""
    award, bonus, change = page.PointAward, page.BonusAward, page.PointAwardChange
    pk = bonus.objects.create(account=page.ann, points=1).pk
    change.objects.create(pk=pk, award_id=pk)

    def handled(model, **values):
        page.handled.clear()
        model.objects.filter(pk=pk).update(**values)
        # Another receiver adds "modified".
        return [one for one in page.handled if one[2] != "modified"]

    points = award, {pk}, "points", 2, "default"
    extra = bonus, {pk}, "bonus", 3, "default"
    assert handled(award, points=2) == [points]
    assert handled(bonus, points=2, bonus=3) == [points, extra]
    assert handled(bonus, points=2) == [points]
    assert handled(bonus, bonus=3) == [extra]
    assert handled(page.BonusProxy, bonus=3) == []
    before = [*signals.post_update.receivers]
    with mock.patch.object(signals.post_update, "receivers", before):
        page.connect_to_all_models()
        assert handled(page.BonusProxy, points=2, bonus=3) == [points, extra]
        assert handled(bonus, points=2, bonus=3) == [points, extra]
        assert handled(change, award_id=4) == [(change, {pk}, "award_id", 4, "default")]


def test_batches(page, connect):
    """The points of approved awards are doubled once, in batches."""
    sizes, awards = [], page.PointAward.objects
    connect(
        signals.pre_update,
        lambda queryset, **kwargs: sizes.append(queryset.count()),
        page.PointAward,
    )
    awards.bulk_create(
        page.PointAward(account=page.bob, points=points, status="approved")
        for points in (3, 4, 5)
    )
    page.double_points(batch_size=2)
    assert sizes == [2, 1]
    points = awards.order_by("pk").values_list("points", flat=True)
    assert list(points) == [1, 2, 6, 8, 10]
    page.double_points()
    assert sizes == [2, 1, 3]


def test_test_of_the_page(app):
    """It passes, and fails if the callbacks aren't executed."""

    def run():
        cache.clear()
        cases = unittest.defaultTestLoader.loadTestsFromName("myapp.tests")
        assert cases.countTestCases() == 1
        return unittest.TextTestRunner(StringIO()).run(cases)

    assert run().wasSuccessful()
    with mock.patch.object(transaction, "on_commit"):
        assert len(run().failures) == 1


def test_arguments(page, connect):
    """The reference lists what is sent, and has no examples."""
    text = REFERENCE.read_text("utf-8")
    first, _, end = sorted(
        text.index(f"\n``{name}``\n---")
        for name in ("pre_update", "post_update", "m2m_changed")
    )
    listed = set(re.findall(r"^``(\w+)``$(?=\n    )", text[first:end], re.M))
    sent = {}
    for signal in (signals.pre_update, signals.post_update):
        connect(signal, lambda **kwargs: sent.update(kwargs), page.PointAward)
    page.PointAward.objects.update(points=5)
    assert sent.keys() - {"signal"} == listed
