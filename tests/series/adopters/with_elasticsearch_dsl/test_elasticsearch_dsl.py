from cases import Cases
from with_elasticsearch_dsl.models import Author, Book
from with_elasticsearch_dsl.server import indexed


class TestElasticsearchDsl(Cases):
    Author, Book = Author, Book

    def known(self):
        documents = {pk: indexed[pk] for pk in self.pks}
        return {pk: (doc["title"], doc["author"]) for pk, doc in documents.items()}
