import abstract


class Author(abstract.Author):
    pass


class Book(abstract.Book):
    pass
