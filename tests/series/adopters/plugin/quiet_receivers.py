"""A pytest plugin with receivers of both signals that do nothing."""

import json
import os

import pytest

calls = {"pre_update": 0, "post_update": 0}


def count_pre_update(**kwargs):
    calls["pre_update"] += 1


def count_post_update(**kwargs):
    calls["post_update"] += 1


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    """Connect them once Django is set up."""
    from django.db.models.signals import post_update, pre_update

    pre_update.connect(count_pre_update)
    post_update.connect(count_post_update)


def pytest_unconfigure(config):
    """Say how often they were called."""
    with open(os.environ["SERIES_CALLS"], "w") as file:
        json.dump(calls, file)
