from django.db import connection

from ...utils import Numbers, bench_setup, fill, settle, update_signals
from .models import Account, Other, Owner

ROWS = 10000


def receiver(**kwargs):
    """Do nothing."""


class UpdateUnused:
    """
    Operations that update rows of a model, with receivers on the model that
    the parameter names: none, another one, or the model itself.
    """

    params = ["none", "other", "pre_update", "post_update"]
    param_names = ["receivers"]

    def setup(self, receivers):
        bench_setup(migrate=True)
        self.connected = []
        if receivers != "none":
            pre_update, post_update = update_signals()
            if receivers == "other":
                self.connected = [(pre_update, Other), (post_update, Other)]
            else:
                signal = {"pre_update": pre_update, "post_update": post_update}
                self.connected = [(signal[receivers], Account)]
        for signal, sender in self.connected:
            signal.connect(receiver, sender=sender)
        fill(Account, ROWS)
        self.number = Numbers()
        self.account = Account.objects.get(pk=1)
        self.accounts = list(Account.objects.filter(pk__lte=1000))

    def teardown(self, receivers):
        for signal, sender in self.connected:
            signal.disconnect(receiver, sender=sender)
        Account.objects.all().delete()
        Owner.objects.all().delete()

    def settle(self, method):
        if method == "time_update_10000":
            settle(Account, ROWS)

    def time_update_1(self, receivers):
        Account.objects.filter(pk=1).update(points=self.number())

    def time_update_10000(self, receivers):
        Account.objects.filter(active=True).update(points=self.number())

    def time_save(self, receivers):
        self.account.points = self.number()
        self.account.save()

    def time_bulk_update_1000(self, receivers):
        for account in self.accounts:
            account.points = self.number()
        Account.objects.bulk_update(self.accounts, ["points"])

    def time_delete_set_null(self, receivers):
        # An owner of ten accounts, made without the code that's measured.
        owner = Owner(pk=self.number())
        with connection.cursor() as cursor:
            table, column = Owner._meta.db_table, Owner._meta.pk.column
            cursor.execute(f"INSERT INTO {table} ({column}) VALUES (%s)", [owner.pk])
            table, column = Account._meta.db_table, Account._meta.pk.column
            cursor.execute(
                f"UPDATE {table} SET owner_id = %s WHERE {column} <= 10", [owner.pk]
            )
        owner.delete()
