import shutil

import pytest
from cases import Cases
from with_cacheops.models import Author, Book


@pytest.mark.skipif(not shutil.which("redis-server"), reason="needs redis-server")
@pytest.mark.usefixtures("redis")
class TestCacheops(Cases):
    Author, Book = Author, Book

    def known(self):
        # Each of these queries is answered by Redis once it was asked.
        return {
            book.pk: (book.title, book.author_id)
            for pk in (*self.author_pks, None)
            for book in Book.objects.filter(author=pk)
            if book.pk in self.pks
        }
