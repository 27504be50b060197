"""
Records the statements of each test of Django's suite.

The settings in databases.py call record() if SERIES_RECORD is set. Each
test then adds a line of JSON to the file that SERIES_REPORT names: {"test":
its id, "statements": how many, "digest": of their text, whatever their order,
which may be that of a set of models}. The text has placeholders for the
parameters. The names of savepoints have numbers of threads, and are left out.
What a test runs in other processes isn't seen.
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
                text = SAVEPOINT.sub(r"\1", str(sql)).encode()
                running[-1].append(hashlib.sha256(text).hexdigest())
            return method(self, sql, *args, **kwargs)

        return execute

    def reporting(run):
        @functools.wraps(run)
        def reporting_run(test, result=None):
            running.append([])
            try:
                return run(test, result)
            finally:
                found = running.pop()
                line = {"test": test.id(), "statements": len(found)}
                text = " ".join(sorted(found)).encode()
                line["digest"] = hashlib.sha256(text).hexdigest()
                # In one piece, since processes share the file.
                with open(os.environ["SERIES_REPORT"], "ab", buffering=0) as file:
                    file.write(json.dumps(line).encode() + b"\n")

        return reporting_run

    for name in ("execute", "executemany"):
        setattr(CursorWrapper, name, recording(getattr(CursorWrapper, name)))
    unittest.TestCase.run = reporting(unittest.TestCase.run)
