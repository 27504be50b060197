"""
The examples of docs/howto/update-signals.txt, and the arguments that
docs/ref/signals.txt lists.

The code blocks of the page become an app, myapp, so that what runs is what its
readers see: those with models are its models.py, methods that test are put
into a TestCase in its tests.py, and all others are its signals.py, in the
order of the page. What the page takes for granted is in GIVEN.
"""

import asyncio
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
from asgiref.sync import sync_to_async
from django.apps import apps
from django.core import serializers
from django.core.cache import cache
from django.db import connections, transaction
from django.db.models import F, Sum, signals
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
class BonusAward(PointAward):
    bonus = models.IntegerField(default=0)

class BonusProxy(BonusAward):
    class Meta:
        proxy = True
""",
    "signals": """
from myapp.models import *

class Index(dict):
    def add(self, queryset):
        self.update(queryset.values_list("pk", "reason"))

index = Index()
handled = []

def handle(pk_set, name, value):
    handled.append((pk_set, name, value))
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
    app.handled.clear()
    app.index.clear()
    app.ann, app.bob = (app.Account.objects.create(name=name) for name in ("A", "B"))
    app.one, app.two = (
        app.PointAward.objects.create(account=app.ann, points=points)
        for points in (1, 2)
    )
    return app


def test_cache(page):
    """The cached points are those of the database after every change."""
    awards, one, two = page.PointAward.objects, page.one, page.two

    def move():
        two.account = page.bob
        two.save()

    for change in (
        lambda: awards.update(points=F("points") * 10),
        lambda: awards.filter(points=10).update(account=page.bob),
        move,
        lambda: page.ann.pointaward_set.set([one, two]),
        lambda: awards.filter(pk=one.pk).update(account_id=page.bob.pk),
        awards.filter(pk=two.pk).delete,
    ):
        before = page.get_points(page.ann.pk), page.get_points(page.bob.pk)
        with transaction.atomic():
            change()
            assert before == (
                page.get_points(page.ann.pk),
                page.get_points(page.bob.pk),
            )
        for account in (page.ann, page.bob):
            total = account.pointaward_set.aggregate(total=Sum("points", default=0))
            assert page.get_points(account.pk) == total["total"]


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


def test_audit_trail(page):
    """The trail has the old rows, and who changed them."""
    awards, one, two = page.PointAward.objects, page.one, page.two
    # Loading the user is a query, which must not be in an event loop.
    user = SimpleLazyObject(lambda: page.Account.objects.get(name="A").name)

    def view(request):
        awards.filter(pk=two.pk).update(points=6)

    middleware = page.current_request_middleware(view)

    async def serve():
        await sync_to_async(middleware)(SimpleNamespace(user=user))
        await sync_to_async(connections.close_all)()

    awards.filter(points=1).update(points=F("points") + 10)
    two.points = 5
    two.save()
    middleware(SimpleNamespace(user="B"))
    view(None)
    asyncio.run(serve())
    page.ann.delete()
    trail = page.OldPointAward.objects.order_by("pk")
    assert list(trail.values_list("award_id", "points", "changed_by")) == [
        (one.pk, 1, ""),
        (two.pk, 2, ""),
        (two.pk, 5, "B"),
        (two.pk, 6, ""),
        (two.pk, 6, "A"),
        (one.pk, 11, ""),
        (two.pk, 6, ""),
    ]


def test_index(page):
    """Reasons are indexed after the commit, other fields never."""
    awards = page.PointAward.objects
    awards.update(points=1)
    page.one.save()
    assert page.index == {}
    with transaction.atomic():
        awards.filter(pk=page.one.pk).update(reason="first")
        awards.bulk_update([page.two], ["reason"])
        page.two.delete()
        assert page.index == {}
    assert page.index == {page.one.pk: "first"}


@pytest.mark.parametrize("name", ["BonusAward", "BonusProxy"])
def test_child(page, connect, name):
    """Each value of a child is handled once, through a proxy, too."""
    bonus = page.BonusAward.objects.create(account=page.ann, points=1)
    model = getattr(page, name)
    connect(signals.post_update, page.handle_own_values, page.BonusProxy)
    for values in ({"points": 2, "bonus": 3}, {"points": 4}, {"bonus": 5}):
        page.handled.clear()
        model.objects.update(**values)
        # That of PointAward also sets "modified".
        found = [one for one in page.handled if one[1] != "modified"]
        assert found == [({bonus.pk}, *value) for value in values.items()]


def test_batches(page, connect):
    """All rows are reset, in batches."""
    sizes = []
    connect(
        signals.pre_update,
        lambda queryset, **kwargs: sizes.append(queryset.count()),
        page.PointAward,
    )
    page.PointAward.objects.create(account=page.bob, points=3)
    page.reset_points(batch_size=2)
    assert sizes == [2, 1]
    assert not page.PointAward.objects.exclude(points=0).exists()


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
