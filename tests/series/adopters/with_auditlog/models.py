import abstract
from auditlog.registry import auditlog


@auditlog.register()
class Author(abstract.Author):
    pass


@auditlog.register()
class Book(abstract.Book):
    pass
