"""
Records the statements of each test of Django's suite.

The settings in databases.py call record() if SERIES_RECORD is set. Each
test then adds a line of JSON to the file that SERIES_REPORT names: {"test":
its id, "statements": how many, "digest": of their text}. The text has
placeholders for the parameters. The names of savepoints have numbers of
threads, and are left out. What a test runs in other processes isn't seen.
"""

import functools
import hashlib
import json
import os
import re
import unittest

from django.db.backends.utils import CursorWrapper

SAVEPOINT = re.compile(r"(SAVEPOINT )\W?s\d+_x\d+\W?")


def record():
    """Make each test that runs report its statements."""
    running = []

    def recording(method):
        @functools.wraps(method)
        def execute(self, sql, *args, **kwargs):
            if running:
                count, digest = running[-1]
                digest.update(SAVEPOINT.sub(r"\1", str(sql)).encode() + b"\0")
                running[-1] = count + 1, digest
            return method(self, sql, *args, **kwargs)

        return execute

    def reporting(run):
        @functools.wraps(run)
        def reporting_run(test, result=None):
            running.append((0, hashlib.sha256()))
            try:
                return run(test, result)
            finally:
                count, digest = running.pop()
                line = {"test": test.id(), "statements": count}
                line["digest"] = digest.hexdigest()
                # In one piece, since processes share the file.
                with open(os.environ["SERIES_REPORT"], "ab", buffering=0) as file:
                    file.write(json.dumps(line).encode() + b"\n")

        return reporting_run

    for name in ("execute", "executemany"):
        setattr(CursorWrapper, name, recording(getattr(CursorWrapper, name)))
    unittest.TestCase.run = reporting(unittest.TestCase.run)
