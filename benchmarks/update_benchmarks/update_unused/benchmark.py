from django.db import connection, transaction
from django.db.models import signals

from ...utils import Numbers, bench_setup, fill, settle, update_signals
from .models import Account, Other, Owner

ROWS = 10000


def receiver(**kwargs):
    """Do nothing."""


class UpdateUnused:
    """
    Operations on rows of a model, with receivers on the model that the
    parameter names: none, another one, or the model itself. With "transaction"
    there are none, but update() of one row is in a transaction; with "saved",
    there are receivers of all four signals of save().
    """

    params = ["none", "other", "pre_update", "post_update", "transaction", "saved"]
    param_names = ["receivers"]

    def setup(self, receivers):
        bench_setup(migrate=True)
        self.connected = []
        if receivers == "transaction":
            self.time_update_1 = transaction.atomic(self.time_update_1)
        elif receivers != "none":
            both = update_signals()
            self.connected = {
                "other": [(signal, Other) for signal in both],
                "pre_update": [(both[0], Account)],
                "post_update": [(both[1], Account)],
                "saved": [
                    (signal, Account)
                    for signal in (*both, signals.pre_save, signals.post_save)
                ],
            }[receivers]
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

    def time_get(self, receivers):
        # Not an update, but each queryset has one attribute more.
        Account.objects.get(pk=1)

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
