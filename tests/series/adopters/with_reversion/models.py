import abstract
import reversion


class Author(abstract.Author):
    pass


@reversion.register()
class Book(abstract.Book):
    pass
