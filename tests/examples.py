"""
Run the examples of pre_update and post_update in docs/ref/signals.txt.

The code is taken from the page itself, so that it can't differ from what its
readers see. Usage: PYTHONPATH=django .venv/bin/python tests/examples.py

Exit with an AssertionError, or the exception of an example, if one doesn't do
what the page says.
"""

import re
import sys
import textwrap
import types
from pathlib import Path

import django
from django.conf import settings

PAGE = Path(__file__).parent.parent / "django" / "docs" / "ref" / "signals.txt"


def code_blocks(page):
    """
    Return the Python blocks of the sections about the update signals.

    page: the text of docs/ref/signals.txt.
    """
    start = page.index("``pre_update``\n--------------")
    end = page.index("``m2m_changed``\n---------------")
    blocks = re.findall(r"::\n\n((?:    .*\n|\n)+)", page[start:end])
    return [textwrap.dedent(block) for block in blocks]


def main():
    settings.configure(
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
    )
    django.setup()
    from django.core.cache import cache
    from django.db import connection, models
    from django.db.models import F

    class Entry(models.Model):
        rating = models.IntegerField(default=0)
        number_of_pingbacks = models.IntegerField(default=0)
        modified = models.DateTimeField(null=True)

        class Meta:
            app_label = "myapp"

    class RatingChange(models.Model):
        entry = models.ForeignKey(Entry, models.CASCADE)
        old = models.IntegerField(null=True)
        new = models.IntegerField()

        class Meta:
            app_label = "myapp"

    with connection.schema_editor() as editor:
        editor.create_model(Entry)
        editor.create_model(RatingChange)
    module = types.ModuleType("myapp.models")
    module.Entry, module.RatingChange = Entry, RatingChange
    sys.modules["myapp"] = types.ModuleType("myapp")
    sys.modules["myapp.models"] = module

    blocks = code_blocks(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) == 3, f"3 examples were expected, {len(blocks)} found"
    namespaces = [{} for _ in blocks]
    for block, namespace in zip(blocks, namespaces):
        exec(compile(block, str(PAGE), "exec"), namespace)

    kept = Entry.objects.create(rating=1)
    entries = [Entry.objects.create(number_of_pingbacks=n) for n in (5, 6)]
    for entry in [kept, *entries]:
        cache.set(f"entry-{entry.pk}", entry.rating)
    queryset = Entry.objects.filter(rating=0)
    assert queryset.update(rating=F("number_of_pingbacks")) == 2
    # The first example: every update sets the modified field.
    assert Entry.objects.filter(modified=None).get() == kept
    # The second: updated and deleted entries aren't in the cache anymore.
    assert cache.get(f"entry-{kept.pk}") == 1
    assert [cache.get(f"entry-{entry.pk}") for entry in entries] == [None, None]
    pk = kept.pk
    kept.delete()
    assert cache.get(f"entry-{pk}") is None
    # The third: the old and the new values of each row are recorded.
    changes = RatingChange.objects.order_by("entry")
    assert list(changes.values_list("entry", "old", "new")) == [
        (entries[0].pk, 0, 5),
        (entries[1].pk, 0, 6),
    ]
    entries[0].rating = 9
    entries[0].save()
    assert changes.filter(entry=entries[0], old=5, new=9).count() == 1
    print("The examples of docs/ref/signals.txt do what the page says.")


if __name__ == "__main__":
    main()
