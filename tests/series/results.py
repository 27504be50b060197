"""
The runner of Django's suite that reports each test as a line of JSON.

The lines are added to the file that SERIES_REPORT names: first {"found": the
number of tests}; then {"test": its label, "outcome": a word, "text": the
traceback or the reason} for each; at the end how many tests came to what, such
as {"passed": 2, "failed": 0, …}, which a run that's cut short lacks. An error
of setUpClass() is reported for the class, one of setUpModule() or of an import
for the module, and a subtest that fails for its test, a second time.

With receivers connected, tests may fail that receivers.toml names: they are
"excused". What's wrong with the receivers themselves is reported as a failure
of "receivers". SERIES_WHOLE says that all tests were run.
"""

import collections
import json
import os
import re
import tomllib
import unittest
from pathlib import Path

from django.test.runner import DiscoverRunner

EXCEPTIONS = Path(__file__).with_name("receivers.toml")


def write(**line):
    """Add a line to the report, in one piece: processes share the file."""
    if "SERIES_REPORT" in os.environ:
        with open(os.environ["SERIES_REPORT"], "ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")


def label(test):
    """Return the label that runs a test again, also for what unittest made."""
    name = getattr(test, "test_case", test).id()
    if place := re.search(r"\(([\w.]+)\)$", name):
        return place[1]
    return name.removeprefix("unittest.loader._FailedTest.")


def exceptions():
    """
    Return {label: reason} of the tests that can't pass with receivers.

    The names of the tables in receivers.toml are words: the kinds of receivers
    and the databases, to which they apply.
    """
    if "SERIES_RECEIVERS" not in os.environ:
        return {}
    here, found = {os.environ["SERIES_RECEIVERS"], os.environ["SERIES_DB"]}, {}
    for words, table in tomllib.loads(EXCEPTIONS.read_text("utf-8")).items():
        found.update(table if here & set(words.split()) else {})
    return found


class Result(unittest.TextTestResult):
    """A result that reports, also what parallel processes send to it."""

    excused = exceptions()

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.outcomes = {}

    def report(self, test, outcome, text="", fails=False):
        name = label(test)
        if fails and name in self.excused:
            outcome, text, fails = "excused", self.excused[name], False
        if self.outcomes.get(name) != "failed":
            self.outcomes[name] = "failed" if fails else outcome
        write(test=name, outcome="failed" if fails else outcome, text=text)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.report(test, "passed")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.report(test, "failed", self.failures[-1][1], fails=True)

    def addError(self, test, err):
        super().addError(test, err)
        self.report(test, "failed", self.errors[-1][1], fails=True)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            text = f"{subtest}\n{self._exc_info_to_string(err, test)}"
            self.report(test, "failed", text, fails=True)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.report(test, "skipped", reason)

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self.report(test, "failed as expected")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.report(test, "failed", "It was expected to fail.", fails=True)

    def judge_receivers(self):
        """Report what's wrong with the receivers, as failures."""
        text = Path(os.environ["SERIES_REPORT"]).read_text(encoding="utf-8")
        lines, whole = [json.loads(x) for x in text.splitlines()], "SERIES_WHOLE"
        updates = {x["test"]: x["updates"] for x in lines if "updates" in x}
        found = [
            f"{x['test']}: {x['problem']}"
            for x in lines
            if "problem" in x and x["test"] not in self.excused
        ]
        if not updates or whole in os.environ and not any(updates.values()):
            found.append("They were not connected.")
        for name, outcome in self.outcomes.items():
            if name in self.excused and outcome not in ("excused", "skipped"):
                found.append(f"{name} passes, but is in {EXCEPTIONS.name}.")
        if whole in os.environ:
            for name in self.excused.keys() - self.outcomes:
                found.append(f"{name} doesn't exist, but is in {EXCEPTIONS.name}.")
        for problem in found:
            self.outcomes[problem] = "failed"
            write(test="receivers", outcome="failed", text=problem)


class Runner(DiscoverRunner):
    """Django's runner with that result."""

    def get_resultclass(self):
        return super().get_resultclass() or Result

    def run_suite(self, suite, **kwargs):
        write(found=suite.countTestCases())
        result = super().run_suite(suite, **kwargs)
        if isinstance(result, Result):
            if "SERIES_RECEIVERS" in os.environ:
                result.judge_receivers()
            counts = collections.Counter(passed=0, failed=0, skipped=0)
            counts.update(result.outcomes.values())
            write(**counts)
        return result

    def suite_result(self, suite, result, **kwargs):
        if isinstance(result, Result):
            return list(result.outcomes.values()).count("failed")
        return super().suite_result(suite, result, **kwargs)
