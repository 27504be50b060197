from cases import LateCases
from with_elasticsearch_dsl.models import Author, Book
from with_elasticsearch_dsl.server import indexed


class TestElasticsearchDsl(LateCases):
    Author, Book = Author, Book

    def known(self):
        documents = {pk: indexed[pk] for pk in self.pks}
        return {pk: (doc["title"], doc["author"]) for pk, doc in documents.items()}
