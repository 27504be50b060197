import reversion
from cases import Cases
from reversion.models import Version
from with_reversion.models import Author, Book


class TestReversion(Cases):
    Author, Book = Author, Book
    acting = staticmethod(reversion.create_revision)

    def versions(self):
        versions = Version.objects.get_for_model(Book).order_by("pk")
        return versions.filter(object_id__in=map(str, self.pks))

    def known(self):
        fields = [version.field_dict for version in self.versions()]
        return {book["id"]: (book["title"], book["author_id"]) for book in fields}

    def records(self):
        return len(self.versions())
