"""
A pytest plugin with receivers of both signals for every model.

SERIES_RECEIVERS is "quiet" or "audit", as in receivers.py. SERIES_REPORT is a
file to which each problem that the audit finds adds a line of JSON, {"test",
"problem"}; the last line has how many "updates" the receivers were told of.
"""

import os
import sys
from pathlib import Path

import pytest

# Last, so that nothing in that directory hides a module of the package.
sys.path.append(str(Path(__file__).resolve().parents[2]))

import receivers  # noqa: E402

report = receivers.Report(os.environ["SERIES_REPORT"])


def count(**kwargs):
    report.updates += 1


def do_nothing(**kwargs):
    pass


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    """Connect the receivers once Django is set up."""
    from django.db.models.signals import post_update, pre_update

    if os.environ["SERIES_RECEIVERS"] == "audit":
        receivers.Audit(report).install()
    else:
        pre_update.connect(count)
        post_update.connect(do_nothing)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Tell the report which test runs."""
    report.test, report.unread = item.nodeid, []
    return (yield)


def pytest_unconfigure(config):
    """Say how many updates there were."""
    report.write(updates=report.updates)
