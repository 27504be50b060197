"""
The runner of Django's suite that reports each test as a line of JSON.

The lines are added to the file that SERIES_REPORT names: first {"found": the
number of tests}; for each test {"test": its label, "outcome": a key of
OUTCOMES, "text": the traceback or the reason for skipping}; at the end {"ran":
the number of tests that were started}, which a run that's cut short lacks. An
error of setUpClass() is reported for the class, one of setUpModule() or of an
import for the module; each failing subtest for its test.
"""

import json
import os
import re
import unittest

from django.test.runner import DiscoverRunner

# What a test can come to, and whether that's a failure.
OUTCOMES = {
    "passed": False,
    "failed": True,
    "error": True,
    "skipped": False,
    "expected failure": False,
    "unexpected success": True,
}


def write(**line):
    """Add a line to the report, in one piece: processes share the file."""
    if "SERIES_REPORT" in os.environ:
        with open(os.environ["SERIES_REPORT"], "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def label(test):
    """Return the label that runs a test again, also for what unittest made."""
    name = test.id()
    if place := re.search(r"\(([\w.]+)\)$", name):
        return place[1]
    return name.removeprefix("unittest.loader._FailedTest.")


class Result(unittest.TextTestResult):
    """A result that reports, also what parallel processes send to it."""

    def addSuccess(self, test):
        super().addSuccess(test)
        write(test=label(test), outcome="passed", text="")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        write(test=label(test), outcome="failed", text=self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        write(test=label(test), outcome="error", text=self.errors[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            text = f"{subtest}\n{self._exc_info_to_string(err, test)}"
            write(test=label(test), outcome="failed", text=text)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        write(test=label(test), outcome="skipped", text=reason)

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        write(test=label(test), outcome="expected failure", text="")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        write(test=label(test), outcome="unexpected success", text="")


class Runner(DiscoverRunner):
    """Django's runner with that result."""

    def get_resultclass(self):
        return super().get_resultclass() or Result

    def run_suite(self, suite, **kwargs):
        write(found=suite.countTestCases())
        result = super().run_suite(suite, **kwargs)
        write(ran=result.testsRun)
        return result
