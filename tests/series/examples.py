"""
Run the examples of docs/howto/update-signals.txt, and check the arguments that
docs/ref/signals.txt lists.

The code is taken from the pages themselves, so that it can't differ from what
their readers see. Usage: .venv/bin/python tests/series/examples.py [DOCS]

DOCS is the folder of Django's docs, by default that of the checkout. Exit with
an AssertionError, or the exception of an example, if one doesn't do what the
page says.
"""

import asyncio
import re
import sys
import tempfile
import textwrap
import types
import unittest
from io import StringIO
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "django" / "docs"
if len(sys.argv) > 1:
    DOCS = Path(sys.argv[1]).resolve()
HOWTO = DOCS / "howto" / "update-signals.txt"
REFERENCE = DOCS / "ref" / "signals.txt"

# The headings around the sections about the update signals.
SECTIONS = "pre_update", "post_update", "m2m_changed"

sys.path.insert(0, str(DOCS.parent))

import django  # noqa: E402
from django.conf import settings  # noqa: E402


def code_blocks(text):
    """Return the Python blocks of a page, or a part of it, without indent."""
    blocks = re.findall(r"(?<!\.\.)[^\s.]::\n\n((?:    .*\n|\n)+)", text)
    return [textwrap.dedent(block) for block in blocks]


def run_block(block, page, module):
    """Run a block in a module, which is made if it doesn't exist."""
    if module not in sys.modules:
        sys.modules[module] = types.ModuleType(module)
    exec(compile(block, str(page), "exec"), sys.modules[module].__dict__)
    return sys.modules[module]


class Index:
    """What the page calls the index."""

    def __init__(self):
        self.reasons, self.calls = {}, 0

    def add(self, queryset):
        self.calls += 1
        self.reasons.update({award.pk: award.reason for award in queryset})


def add_child(models):
    """
    Return the child of PointAward that the page takes for granted. Make a
    proxy of it, too.
    """
    from django.db.models import IntegerField

    module = {"__module__": models.__name__}
    fields = {"bonus": IntegerField(default=0), **module}
    models.BonusAward = type("BonusAward", (models.PointAward,), fields)
    meta = type("Meta", (), {"proxy": True})
    models.BonusProxy = type(
        "BonusProxy", (models.BonusAward,), {"Meta": meta, **module}
    )
    return models.BonusAward


def set_up(database):
    """Make Django ready for an app whose modules are the pages' blocks."""
    app = sys.modules["myapp"] = types.ModuleType("myapp")
    app.__path__ = [str(Path(__file__).parent)]
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": database,
                "TEST": {"NAME": database},
            }
        },
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "myapp",
        ],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        ROOT_URLCONF="myapp.urls",
        USE_TZ=True,
    )
    django.setup()


def run_howto():
    """
    Run the blocks of the how-to. Return its modules of models and receivers.
    """
    from django.test import TestCase

    *blocks, test = code_blocks(HOWTO.read_text(encoding="utf-8"))
    assert len(blocks) == 9, f"10 examples were expected, {len(blocks) + 1} found"
    is_model = [bool(re.search(r"\(models\.Model\):", block)) for block in blocks]
    assert is_model == [n in (0, 4) for n in range(len(blocks))], is_model
    for block, in_models in zip(blocks, is_model):
        if in_models:
            models = run_block(block, HOWTO, "myapp.models")
    sys.modules["myapp.signals"] = signals = types.ModuleType("myapp.signals")
    # What the page takes for granted.
    signals.index, signals.BonusAward = Index(), add_child(models)
    signals.handled = []
    signals.handle = lambda *arguments: signals.handled.append(arguments)
    for block, in_models in zip(blocks, is_model):
        if not in_models:
            run_block(block, HOWTO, "myapp.signals")

    class PointsTests(TestCase):
        @classmethod
        def setUpTestData(cls):
            cls.account = models.Account.objects.create(name="Ann")

    # The last block is a method of a test case.
    exec(compile(test, str(HOWTO), "exec"), signals.__dict__)
    PointsTests.test_points = signals.test_points
    return models, signals, PointsTests


def check_cache(models, signals):
    """The cached points are those of the database after every change."""
    from django.core.cache import cache
    from django.db import transaction
    from django.db.models import F, Sum

    PointAward = models.PointAward
    ann, bob = (models.Account.objects.create(name=name) for name in ("Ann", "Bob"))

    def coherent():
        for account in (ann, bob):
            awards = PointAward.objects.filter(account=account)
            total = awards.aggregate(total=Sum("points"))["total"] or 0
            assert signals.get_points(account.pk) == total

    coherent()
    one, two = (PointAward.objects.create(account=ann, points=n) for n in (1, 2))
    coherent()
    PointAward.objects.update(points=F("points") * 10)
    coherent()
    one.points = 7
    one.save()
    coherent()
    # Awards that get another account.
    assert PointAward.objects.filter(account=ann, points=7).update(account=bob) == 1
    coherent()
    two.account = bob
    two.save()
    coherent()
    ann.pointaward_set.set([one, two])
    coherent()
    PointAward.objects.filter(pk=one.pk).update(account_id=bob.pk)
    coherent()
    # Nothing changes before the commit.
    with transaction.atomic():
        before = signals.get_points(ann.pk)
        ann.pointaward_set.update(points=100)
        assert signals.get_points(ann.pk) == before
    coherent()
    one.refresh_from_db()
    one.delete()
    coherent()
    two.delete()
    coherent()
    assert cache.get(f"points-{ann.pk}") == 0


def check_modified(models, signals):
    """The field is set on every update, and as the page says otherwise."""
    from django.core import serializers
    from django.db.models.signals import pre_update
    from django.utils import timezone

    PointAward = models.PointAward
    account = models.Account.objects.create(name="Ann")
    start = timezone.now()
    award = PointAward.objects.create(account=account, points=1)
    assert award.modified >= start

    def modified():
        return PointAward.objects.get(pk=award.pk).modified

    for update in (
        lambda: PointAward.objects.update(points=2),
        lambda: PointAward.objects.bulk_update([award], ["points"]),
        lambda: account.pointaward_set.add(award),
        lambda: award.save(update_fields=["points"]),
        award.save,
    ):
        before = modified()
        update()
        assert modified() > before
    # save() sets the attribute of the instance.
    assert award.modified == modified()
    award.save(update_fields=["points"])
    assert award.modified == modified()
    # Explicit values and fixtures.
    PointAward.objects.update(modified=start)
    assert modified() == start
    data = serializers.serialize("json", PointAward.objects.all())
    PointAward.objects.update(points=2)
    assert modified() > start
    for obj in serializers.deserialize("json", data):
        obj.save()
    assert abs(modified() - start).total_seconds() < 0.001
    # The fixture of a child, for which the receiver is connected, too.
    pre_update.connect(signals.set_modified, sender=models.BonusAward)
    bonus = models.BonusAward.objects.create(account=account, points=1)
    models.BonusAward.objects.update(modified=start)
    data = serializers.serialize(
        "json", [PointAward.objects.get(pk=bonus.pk), models.BonusAward.objects.get()]
    )
    models.BonusAward.objects.update(bonus=2)
    assert PointAward.objects.get(pk=bonus.pk).modified > start
    for obj in serializers.deserialize("json", data):
        obj.save()
    kept = PointAward.objects.get(pk=bonus.pk).modified
    assert abs(kept - start).total_seconds() < 0.001
    bonus.delete()
    pre_update.disconnect(signals.set_modified, sender=models.BonusAward)
    # A new row with a primary key, for which pre_update is sent.
    new = PointAward(pk=award.pk + 1, account=account, points=3)
    new.save()
    assert PointAward.objects.get(pk=new.pk).modified == new.modified > start


def check_audit(models, signals):
    """The trail has the old rows, who changed them, and when."""
    from django.contrib.auth.models import AnonymousUser, User
    from django.db import connection
    from django.db.models import F
    from django.test import RequestFactory
    from django.utils import timezone
    from django.utils.functional import SimpleLazyObject

    PointAward, OldPointAward = models.PointAward, models.OldPointAward
    account = models.Account.objects.create(name="Ann")
    PointAward.objects.all().delete()
    OldPointAward.objects.all().delete()

    def trail():
        rows = OldPointAward.objects.order_by("pk")
        return list(rows.values_list("award_id", "points", "changed_by"))

    one, two = (PointAward.objects.create(account=account, points=n) for n in (1, 2))
    assert trail() == []
    start = timezone.now()
    PointAward.objects.filter(points=1).update(points=F("points") + 10)
    assert trail() == [(one.pk, 1, "")]
    assert start <= OldPointAward.objects.get().changed_at <= timezone.now()
    two.points = 5
    two.save()
    assert trail()[1:] == [(two.pk, 2, "")]

    request = RequestFactory().get("/")
    # What AuthenticationMiddleware sets.
    User.objects.create(username="ann")
    request.user = SimpleLazyObject(lambda: User.objects.get(username="ann"))

    def view(request):
        PointAward.objects.filter(pk=two.pk).update(points=6)

    middleware = signals.current_request_middleware(view)
    middleware(request)
    assert trail()[2:] == [(two.pk, 5, "ann")]
    view(request)
    request.user = AnonymousUser()
    middleware(request)
    assert [row[2] for row in trail()[3:]] == ["", "AnonymousUser"]
    # As ASGIHandler calls it. No user may be loaded in the event loop.
    request.user = SimpleLazyObject(lambda: User.objects.get(username="ann"))
    asyncio.run(in_event_loop(middleware, request))
    assert [row[2] for row in trail()[5:]] == ["ann"]

    # Deletions, also by CASCADE, and what's left of the trail then.
    account.delete()
    assert trail()[6:] == [(one.pk, 11, ""), (two.pk, 6, "")]
    assert OldPointAward.objects.filter(account_id=account.pk).count() == 0
    # A trail that can't be written undoes the update.
    account = models.Account.objects.create(name="Ann")
    one = PointAward.objects.create(account=account, points=1)
    with connection.schema_editor() as editor:
        editor.delete_model(OldPointAward)
    try:
        PointAward.objects.update(points=-1)
    except Exception as error:
        assert "no such table" in str(error)
    else:
        raise AssertionError("the update succeeded")
    assert PointAward.objects.get().points == 1
    with connection.schema_editor() as editor:
        editor.create_model(OldPointAward)


async def in_event_loop(middleware, request):
    """Call a middleware with a request, as a server with ASGI does."""
    from asgiref.sync import sync_to_async

    await sync_to_async(middleware, thread_sensitive=True)(request)


def check_others(models, signals):
    """The search index and the batches."""
    from django.db import transaction
    from django.db.models.signals import pre_update

    PointAward, index = models.PointAward, signals.index
    account = models.Account.objects.create(name="Ann")
    PointAward.objects.all().delete()
    index.reasons.clear()
    awards = PointAward.objects.bulk_create(
        PointAward(account=account, points=n % 3) for n in range(12)
    )
    calls = index.calls
    PointAward.objects.update(points=1)
    awards[0].save()
    assert index.calls == calls
    with transaction.atomic():
        PointAward.objects.filter(pk=awards[0].pk).update(reason="first")
        PointAward.objects.filter(pk=awards[0].pk).update(points=3)
        PointAward.objects.bulk_update([awards[1]], ["reason"])
        awards[1].delete()
        assert index.reasons == {}
    assert index.reasons == {awards[0].pk: "first"}
    sent = []

    def record(queryset, **kwargs):
        sent.append(queryset.count())

    pre_update.connect(record, sender=PointAward)
    signals.reset_points(batch_size=4)
    assert sent == [4, 4, 3] and not PointAward.objects.exclude(points=0).exists()
    sent.clear()
    signals.reset_points()
    assert sent == []
    pre_update.disconnect(record, sender=PointAward)


def check_child(models, signals):
    """Each value of a child is handled once."""
    from django.db.models.signals import post_update

    handled = signals.handled
    account = models.Account.objects.create(name="Ann")
    bonus = models.BonusAward.objects.create(account=account, points=1)
    pks = {bonus.pk}
    for update, values in (
        ({"points": 2, "bonus": 3}, [("points", 2), ("bonus", 3)]),
        ({"points": 4}, [("points", 4)]),
        ({"bonus": 5}, [("bonus", 5)]),
    ):
        handled.clear()
        models.BonusAward.objects.update(**update)
        # That of PointAward also sets "modified".
        found = [one for one in handled if one[1] in update]
        assert found == [(pks, *value) for value in values], handled
    handled.clear()
    bonus.save()
    names = [name for _, name, _ in handled]
    assert len(names) == len(set(names)) and {"points", "bonus"} < set(names)
    # Through a proxy, for which the receiver is connected, too.
    post_update.connect(signals.handle_own_values, sender=models.BonusProxy)
    handled.clear()
    models.BonusProxy.objects.update(points=6, bonus=7)
    assert [one[1] for one in handled] == ["points", "modified", "bonus"], handled
    post_update.disconnect(signals.handle_own_values, sender=models.BonusProxy)


def check_test(test_case):
    """
    The test of the page passes, again too, and fails without the captured
    callbacks.
    """
    from django.core.cache import cache

    for _ in range(2):
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(test_case)
        stream = StringIO()
        result = unittest.TextTestRunner(stream).run(suite)
        assert result.testsRun == 1 and result.wasSuccessful(), stream.getvalue()
    capture = test_case.captureOnCommitCallbacks
    test_case.captureOnCommitCallbacks = staticmethod(lambda execute: capture())
    cache.clear()
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(test_case)
    result = unittest.TextTestRunner(StringIO()).run(suite)
    assert [error[1].splitlines()[-1] for error in result.failures] == [
        "AssertionError: 1 != 2"
    ]


def check_arguments(models):
    """The reference lists the arguments that are sent, and has no examples."""
    from django.db.models.signals import post_update, pre_update

    page = REFERENCE.read_text(encoding="utf-8")
    start, middle, end = (page.index(f"\n``{name}``\n---") for name in SECTIONS)
    assert code_blocks(page[start:end]) == []
    sent = []

    def record(**kwargs):
        sent.append(set(kwargs) - {"signal"})

    for signal in (pre_update, post_update):
        signal.connect(record, sender=models.PointAward)
    models.PointAward.objects.update(points=5)
    for signal in (pre_update, post_update):
        signal.disconnect(record, sender=models.PointAward)
    argument = re.compile(r"^``(\w+)``$(?=\n    )", re.MULTILINE)
    assert set(argument.findall(page[start:middle])) == sent[0]
    assert sent[0] | set(argument.findall(page[middle:end])) == sent[1]


def main():
    with tempfile.TemporaryDirectory() as folder:
        set_up(str(Path(folder) / "db.sqlite3"))
        from django.core.management import call_command
        from django.db import connection, connections

        call_command("migrate", verbosity=0)
        models, signals, test_case = run_howto()
        with connection.schema_editor() as editor:
            for name in ("Account", "PointAward", "OldPointAward", "BonusAward"):
                editor.create_model(getattr(models, name))
        check_cache(models, signals)
        check_modified(models, signals)
        check_audit(models, signals)
        check_others(models, signals)
        check_child(models, signals)
        check_test(test_case)
        check_arguments(models)
        connections.close_all()
    print("The examples of the docs do what the pages say.")


if __name__ == "__main__":
    main()
