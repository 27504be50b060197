"""A TestCase of a receiver that acts on commit."""

import unittest

from django.core.cache import cache
from django.db import transaction
from django.db.models.signals import post_update
from django.dispatch import receiver
from django.test import TestCase
from project import Item, create

create()


@receiver(post_update, sender=Item)
def forget(sender, instance, pk_set, using, **kwargs):
    keys = [f"item-{pk}" for pk in pk_set]
    transaction.on_commit(lambda: cache.delete_many(keys), using=using)


class ForgetTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.pen = Item.objects.create(name="Pen")

    def test_update(self):
        key = f"item-{self.pen.pk}"
        cache.set(key, "Pen")
        Item.objects.update(price=1)
        self.assertEqual(cache.get(key), "Pen")
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            Item.objects.update(price=2)
        self.assertEqual(len(callbacks), 1)
        self.assertIsNone(cache.get(key))


suite = unittest.defaultTestLoader.loadTestsFromTestCase(ForgetTests)
assert unittest.TextTestRunner(verbosity=0).run(suite).wasSuccessful()
print("done")
