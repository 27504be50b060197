"""
Run the examples of docs/howto/update-signals.txt and docs/ref/signals.txt.

The code is taken from the pages themselves, so that it can't differ from what
their readers see. Usage: .venv/bin/python tests/series/examples.py

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

DOCS = Path(__file__).resolve().parents[2] / "django" / "docs"
HOWTO = DOCS / "howto" / "update-signals.txt"
REFERENCE = DOCS / "ref" / "signals.txt"

# The headings around the sections about the update signals.
SECTIONS = "pre_update", "m2m_changed"


def code_blocks(text):
    """Return the Python blocks of a page, or a part of it, without indent."""
    start = r"(?:::|\.\. code-block:: python\n    :caption: .*)\n\n"
    blocks = re.findall(start + r"((?:    .*\n|\n)+)", text)
    return [textwrap.dedent(block) for block in blocks]


def run_block(block, page, module):
    """Run a block as a module, and return it."""
    module = types.ModuleType(module)
    sys.modules[module.__name__] = module
    exec(compile(block, str(page), "exec"), module.__dict__)
    return module


class Index:
    """What the page calls the client of a search engine."""

    def __init__(self):
        self.documents = {}

    def add(self, documents):
        self.documents.update({one["pk"]: one["headline"] for one in documents})

    def remove(self, pks):
        for pk in pks:
            self.documents.pop(pk, None)


def main():
    app = sys.modules["myapp"] = types.ModuleType("myapp")
    app.__path__ = [str(Path(__file__).parent)]
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    settings.configure(
        DATABASES={"default": database},
        INSTALLED_APPS=["myapp"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
    )
    django.setup()
    from django.core.cache import cache
    from django.db import connection, transaction
    from django.db.models import F
    from django.db.models.signals import post_update

    models, *blocks = code_blocks(HOWTO.read_text(encoding="utf-8"))
    assert len(blocks) == 4, f"4 examples were expected, {len(blocks)} found"
    myapp = run_block(models, HOWTO, "myapp.models")
    Entry, RatingChange = myapp.Entry, myapp.RatingChange
    with connection.schema_editor() as editor:
        editor.create_model(Entry)
        editor.create_model(RatingChange)
    search = sys.modules["myapp.search"] = types.ModuleType("myapp.search")
    index = search.index = Index()
    modules = [
        run_block(block, HOWTO, f"myapp.signals{n}") for n, block in enumerate(blocks)
    ]
    get_entry = modules[1].get_entry

    def trail():
        return list(
            RatingChange.objects.order_by("pk").values_list("entry", "old", "new")
        )

    def coherent():
        entries = {entry.pk: entry for entry in Entry.objects.all()}
        headlines = {pk: entry.headline for pk, entry in entries.items()}
        ratings = {pk: entry.rating for pk, entry in entries.items()}
        assert {pk: get_entry(pk).rating for pk in entries} == ratings
        assert index.documents == headlines

    one, two, three = (
        Entry.objects.create(headline=f"Entry {n}", rating=n) for n in range(3)
    )
    coherent()
    # update(): in a transaction, nothing changes before its end.
    modified = one.modified
    with transaction.atomic():
        assert Entry.objects.filter(rating=0).update(rating=5, headline="New") == 1
        assert get_entry(one.pk).rating == 0
        assert index.documents[one.pk] == "Entry 0"
    coherent()
    assert Entry.objects.get(pk=one.pk).modified > modified
    assert list(Entry.objects.filter(modified=modified)) == []
    assert Entry.objects.get(pk=two.pk).modified == two.modified
    assert trail() == [(one.pk, 0, 5)]
    # An expression, and a row that keeps its value.
    RatingChange.objects.all().delete()
    assert Entry.objects.exclude(pk=one.pk).update(rating=F("rating") * 2 - 1) == 2
    coherent()
    assert trail() == [(three.pk, 2, 3)]
    # save() sets the instance's attribute, too.
    modified = three.modified
    three.refresh_from_db()
    three.rating, three.headline = 9, "Third"
    three.save()
    coherent()
    assert trail()[1:] == [(three.pk, 3, 9)]
    assert three.modified == Entry.objects.get(pk=three.pk).modified > modified
    # An update without the headline doesn't touch the index.
    index.documents[two.pk] = "unknown"
    Entry.objects.filter(pk=two.pk).update(rating=4)
    assert index.documents[two.pk] == "unknown"
    Entry.objects.bulk_update([two], ["headline"])
    coherent()
    # A trail that can't be written undoes the update.
    with connection.schema_editor() as editor:
        editor.delete_model(RatingChange)
    try:
        Entry.objects.update(rating=-1)
    except Exception as error:
        assert "no such table" in str(error)
    else:
        raise AssertionError("the update succeeded")
    assert not Entry.objects.filter(rating=-1).exists()
    with connection.schema_editor() as editor:
        editor.create_model(RatingChange)
    # delete().
    pk = two.pk
    two.delete()
    coherent()
    assert cache.get(f"entry-{pk}") is None

    # The reference's handler, with the arguments of its table.
    page = REFERENCE.read_text(encoding="utf-8")
    start, end = (page.index(f"\n``{name}``\n---") for name in SECTIONS)
    blocks = code_blocks(page[start:end])
    assert len(blocks) == 1, f"1 example was expected, {len(blocks)} found"
    sent = []
    block = blocks[0].replace("pass", "sent.append(kwargs)")
    app.sent = sent
    run_block("from myapp import sent\n" + block, REFERENCE, "myapp.handlers")
    Entry.objects.update(rating=0)
    sent.clear()
    queryset = Entry.objects.filter(rating=0)
    queryset.update(rating=F("id"))
    (kwargs,) = sent
    rows = re.findall(r"^``(\w+)``  ", page[start:end], re.MULTILINE)
    assert {"sender", *kwargs} - {"signal"} == set(rows)
    assert kwargs["signal"] is post_update
    assert set(kwargs["queryset"]) == {one, three}
    assert not queryset.exists()
    assert kwargs["values"]["rating"] == F("id")
    assert kwargs["using"] == "default"
    assert kwargs["origin"] is queryset
    assert kwargs["raw"] is False
    assert kwargs["pk_set"] == {one.pk, three.pk}
    print("The examples of the docs do what the pages say.")


if __name__ == "__main__":
    main()
