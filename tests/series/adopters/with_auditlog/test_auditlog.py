from auditlog.models import LogEntry
from cases import Cases
from with_auditlog.models import Author, Book


class TestAuditlog(Cases):
    Author, Book = Author, Book

    def entries(self):
        entries = LogEntry.objects.get_for_objects(Book.objects.all())
        return entries.filter(object_id__in=self.pks).order_by("pk")

    def known(self):
        # What has the last word in the log, of all that it says of a book.
        books = {pk: {} for pk in self.pks}
        for entry in self.entries():
            for name, (_, new) in entry.changes.items():
                books[entry.object_id][name] = new
        return {
            pk: (book["title"], None if (a := book["author"]) == "None" else int(a))
            for pk, book in books.items()
        }

    def records(self):
        return len(self.entries())
