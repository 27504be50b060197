"""
Django and the six packages, set up for the tests in this directory.

SERIES_DJANGO is the path of another Django than the one that is installed.
SERIES_CONNECT=no leaves the receivers out; unpatched Django has no signals
for them.
"""

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DJANGO = os.environ.get("SERIES_DJANGO")
sys.path[:0] = [DJANGO, str(HERE)] if DJANGO else [str(HERE)]

import django  # noqa: E402
from django.conf import settings  # noqa: E402

APPS = sorted(path.name for path in HERE.glob("with_*"))
# Redis, with nothing but a socket in here; it ends when its input does.
REDIS = """
redis-server --port 0 --unixsocket "$0" --save "" --dir "$(dirname "$0")" >/dev/null &
read _; kill $!; wait"""
directory = tempfile.TemporaryDirectory(prefix="adopters-")
SOCKET = Path(directory.name, "redis")


def configure():
    """Set up Django, and connect the receivers if it has the signals."""
    from with_elasticsearch_dsl.server import RecordingNode

    settings.configure(
        INSTALLED_APPS=[
            "cacheops",
            "haystack",
            "auditlog",
            "simple_history",
            "reversion",
            "django_elasticsearch_dsl",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            *APPS,
        ],
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        },
        CACHEOPS={"with_cacheops.*": {"ops": "all", "timeout": 60}},
        CACHEOPS_ENABLED=bool(shutil.which("redis-server")),
        CACHEOPS_REDIS=f"unix://{SOCKET}",
        HAYSTACK_CONNECTIONS={
            "default": {
                "ENGINE": "haystack.backends.whoosh_backend.WhooshEngine",
                "STORAGE": "ram",
                "SILENTLY_FAIL": False,
            }
        },
        HAYSTACK_SIGNAL_PROCESSOR="haystack.signals.RealtimeSignalProcessor",
        ELASTICSEARCH_DSL={
            "default": {"hosts": "http://recorded:9200", "node_class": RecordingNode}
        },
        USE_TZ=True,
    )
    django.setup()
    from django.db.models import signals

    patched = hasattr(signals, "post_update")
    if patched and os.environ.get("SERIES_CONNECT") != "no":
        for app in APPS:
            importlib.import_module(f"{app}.receivers")


pytest.register_assert_rewrite("cases")
configure()


def pytest_configure(config):
    config.addinivalue_line("markers", "updates: fails on unpatched Django")


def pytest_report_header():
    return f"Django: {Path(django.__file__).parent}"


@pytest.fixture(scope="session", autouse=True)
def tables():
    """Make the tables of all packages, in memory."""
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)


@pytest.fixture(scope="session")
def redis():
    """Run a Redis of our own."""
    command = ["sh", "-c", REDIS, str(SOCKET)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    for _ in range(100):
        if SOCKET.exists():
            break
        time.sleep(0.05)
    yield
    process.communicate()
