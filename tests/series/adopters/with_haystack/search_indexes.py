from haystack import indexes
from with_haystack.models import Book


class BookIndex(indexes.SearchIndex, indexes.Indexable):
    text = indexes.CharField(document=True, model_attr="title")
    author = indexes.IntegerField(model_attr="author_id", default=0)

    def get_model(self):
        return Book
