import unittest

import django.query


class UpdateTests(unittest.TestCase):
    def test_update(self):
        self.assertIn(django.query.update(), ("quiet", "sent"))

    @unittest.skip("always")
    def test_skipped(self):
        pass
