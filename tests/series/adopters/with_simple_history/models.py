import abstract
from simple_history.models import HistoricalRecords


class Author(abstract.Author):
    pass


class Book(abstract.Book):
    history = HistoricalRecords()
