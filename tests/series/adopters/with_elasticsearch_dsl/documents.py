from django_elasticsearch_dsl import Document, fields
from django_elasticsearch_dsl.registries import registry
from with_elasticsearch_dsl.models import Book


@registry.register_document
class BookDocument(Document):
    author = fields.IntegerField(attr="author_id")

    class Index:
        name = "books"

    class Django:
        model = Book
        fields = ["title"]
