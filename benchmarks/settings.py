"""
The settings of the benchmarks: SQLite in memory, or what SERIES_DB names.

BENCHMARKS_APPS has the names of more apps, separated by commas.
"""

import os

if os.environ.get("SERIES_DB", "sqlite") == "sqlite":
    DATABASES = {
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    }
else:
    # In tests/series, which is on the path.
    import databases

    DATABASES = {"default": databases.DATABASES["default"]}

APPS = os.environ.get("BENCHMARKS_APPS", "").split(",")
INSTALLED_APPS = ["benchmarks", *filter(None, APPS)]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "NOT REALLY SECRET"
USE_TZ = False
# For django-cacheops, which then invalidates nothing and needs no Redis.
CACHEOPS_ENABLED = False
