from cases import LateCases
from haystack.query import SearchQuerySet
from with_haystack.models import Author, Book


class TestHaystack(LateCases):
    Author, Book = Author, Book

    def known(self):
        results = SearchQuerySet().models(Book)
        return {
            int(result.pk): (result.text, result.author or None)
            for result in results
            if int(result.pk) in self.pks
        }
