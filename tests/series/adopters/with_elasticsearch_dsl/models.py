import abstract
import reversion


class Author(abstract.Author):
    pass


# A second package, whose receiver reads the same queryset.
@reversion.register
class Book(abstract.Book):
    pass
