from cases import Cases
from with_simple_history.models import Author, Book


class TestSimpleHistory(Cases):
    Author, Book = Author, Book

    def known(self):
        records = Book.history.filter(id__in=self.pks).order_by("history_id")
        return {record.id: (record.title, record.author_id) for record in records}

    def records(self):
        return Book.history.filter(id__in=self.pks).count()
