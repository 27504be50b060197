"""What every package is tried with: each way in which the ORM updates rows."""

import contextlib

import pytest
import reversion
from django.db import connection
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.test.utils import CaptureQueriesContext


def count(action):
    """Return how many queries an action executes, without BEGIN and COMMIT."""
    with CaptureQueriesContext(connection) as queries:
        action()
    sql = (query["sql"] for query in queries)
    return sum(not text.startswith(("BEGIN", "COMMIT")) for text in sql)


# The tests that fail on unpatched Django.
updates = pytest.mark.updates


class Cases:
    """
    The tests of a package.

    A subclass has the models, and says with known() what the package knows of
    the books in pks: {primary key: (title, author's primary key)}. Where the
    package keeps records, records() counts those of these books.
    """

    # The context in which its users change something.
    acting = contextlib.nullcontext

    @pytest.fixture(autouse=True)
    def make_books(self):
        with self.acting():
            self.one = self.Author.objects.create(name="One")
            self.two = self.Author.objects.create(name="Two")
            self.books = [
                self.Book.objects.create(title=title, author=self.one)
                for title in ("Alpha", "Beta", "Gamma")
            ]
        self.author_pks = self.one.pk, self.two.pk
        self.pks = {book.pk for book in self.books}
        self.queryset = self.Book.objects.filter(pk__in=self.pks)
        # Before the test, the package is right.
        self.check()

    def check(self):
        """Check that the package knows what is in the table."""
        table = self.Book._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT id, title, author_id FROM {table}")
            rows = {pk: values for pk, *values in cursor if pk in self.pks}
        assert {pk: list(values) for pk, values in self.known().items()} == rows

    def act(self, action, *args, **kwargs):
        """Do something that updates books, and check the package."""
        with self.acting():
            action(*args, **kwargs)
        self.check()

    def save(self):
        self.books[0].title += "!"
        self.books[0].save()

    def update(self):
        assert self.queryset.update(title=Concat(F("title"), Value("!"))) == 3

    @updates
    def test_update(self):
        self.act(self.update)

    @updates
    def test_bulk_update(self):
        for book in self.books:
            book.title += "!"
        self.act(self.Book.objects.bulk_update, self.books, ["title"], batch_size=2)

    @updates
    def test_add(self):
        self.act(self.two.books.add, *self.books)

    @updates
    def test_remove(self):
        self.act(self.one.books.remove, self.books[0])

    @updates
    def test_clear(self):
        self.act(self.one.books.clear)

    @updates
    def test_set(self):
        self.act(self.one.books.set, self.books[1:])

    @updates
    def test_set_null(self):
        self.act(self.one.delete)

    def test_save(self):
        before = self.records()
        self.act(self.save)
        assert self.records() == (before and before + 1)

    def records(self):
        """Return how many records there are of these books, or None."""

    def test_count_queries(self, record_property):
        def act():
            with self.acting():
                action()

        for action in (self.save, self.update):
            # The first one fills caches, such as that of content types.
            act()
            record_property(action.__name__, count(act))


class LateCases(Cases):
    """
    The tests of a package that reads the rows when the transaction ends, with
    models that django-reversion follows as well.
    """

    @updates
    def test_update_and_save(self):
        """The rows aren't those that django-reversion's receiver has read."""
        with reversion.create_revision():
            self.queryset.update(title="Delta")
            self.books[0].title = "Epsilon"
            self.books[0].save()
        self.check()
