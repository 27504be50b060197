"""The tiny Django, its series of patches, and its main branch."""

VERSION = "6.1.3"
SDIST = f"django-{VERSION}.tar.gz"
# The commits, and the pull requests and patches that they are, in order.
SUBJECTS = """\
Fixed #1 -- Changed a line.
Refs #22543 -- Added the signals.
Fixed #22543 -- Sent the signals from update().""".splitlines()
ALONE = "lines/0001-Fixed-1-Changed-a-line.patch"
FIRST = "signals/0001-Refs-22543-Added-the-signals.patch"
SECOND = "signals/0002-Fixed-22543-Sent-the-signals-from-update.patch"
SERIES = """
lands = "6.2"
[[pull_request]]
name = "lines"
after = []
ticket = 1
[[pull_request]]
name = "signals"
after = ["lines"]
ticket = 22543
"""
PULL_REQUEST = (
    "# Fixed #{} -- Did {}.\n\n## Ticket\n\nThe text of a ticket.\n\n"
    "## Branch description\n\nThis is what it does.\n\n## Hunks\n\nAll.\n"
)
BACKEND = """
import pathlib

def prepare_metadata_for_build_wheel(directory, config_settings=None):
    path = pathlib.Path(directory, "django-6.1.3.dist-info")
    path.mkdir()
    (path / "METADATA").write_text(pathlib.Path("PKG-INFO").read_text())
    return path.name
"""
RUNTESTS = """
import argparse, importlib, sys, unittest

parser = argparse.ArgumentParser()
parser.add_argument("--settings")
options, labels = parser.parse_known_args()
module, name = importlib.import_module(options.settings).TEST_RUNNER.split(".")
runner = getattr(importlib.import_module(module), name)()
names = [x if "." in x else x + ".tests" for x in labels if x[0] != "-"]
loader = unittest.defaultTestLoader
suite = loader.loadTestsFromNames(names) if names else loader.discover(".", "tests*")
sys.exit(bool(runner.suite_result(suite, runner.run_suite(suite))))
"""
RUNNER = """
import unittest

class DiscoverRunner:
    def get_resultclass(self):
        pass

    def run_suite(self, suite, **kwargs):
        return unittest.TextTestRunner(resultclass=self.get_resultclass()).run(suite)
"""
TESTS = """
import unittest
import django.query

class UpdateTests(unittest.TestCase):
    def test_update(self):
        self.assertIn(django.query.update(), ("quiet", "sent"))

    @unittest.skip("always")
    def test_skipped(self):
        pass
"""
SENT = "\n    def test_sent(self):\n        pass\n"
LINES = "\n".join(f"LINE_{number} = {number}" for number in range(20))
QUERY = f'SIGNALS = False\n{LINES}\n\n\ndef update():\n    return "quiet"\n'
# What the commits change in query.py, and in other files.
CHANGES = (
    ("= 15\n", "= 55\n", {}),
    ("= 3\n", "= 33\n", {"django/signals.py": "post_update = object()\n"}),
    ('"quiet"', '"sent"', {"tests/update/tests.py": f"{TESTS}{SENT}"}),
)
# The repository's own files.
SCENARIO = """
import pathlib, sys

texts = [pathlib.Path(x, "django/query.py").read_text() for x in sys.argv[1:]]
before, after = ["coherent" if '"sent"' in text else "STALE" for text in texts]
print("update()", before, after)
sys.exit(after == "STALE")
"""
RECEIVERS = """
import json, os, unittest

def report(**line):
    print(json.dumps(line), file=open(os.environ["SERIES_REPORT"], "a"))

def reporting_run(test, result=None, run=unittest.TestCase.run):
    run(test, result)
    report(test=test.id(), updates=2)

def connect_at_setup():
    unittest.TestCase.run = reporting_run
"""
FILES = {
    "PKG-INFO": "Metadata-Version: 2.1\nName: Django\nVersion: 6.1.3\n",
    "Django.egg-info/SOURCES.txt": "not part of the base\n",
    "pyproject.toml": (
        '[build-system]\nrequires = []\nbuild-backend = "backend"\n'
        'backend-path = ["."]\n[project]\nname = "Django"\nversion = "6.1.3"\n'
        'classifiers = ["Programming Language :: Python :: 3.99"]\n'
    ),
    "backend.py": BACKEND,
    "django/query.py": QUERY,
    "django/test/runner.py": RUNNER,
    "tests/runtests.py": RUNTESTS,
    "tests/update/tests.py": TESTS,
    "tests/other/tests.py": TESTS,
    "extras/dos.txt": "one\r\ntwo\r\n",
    "extras/a name \u2297.txt": "x",
    "extras/run": "#!/bin/sh\n",
    "django/__init__.py": "",
    **{f"{x}/__init__.py": "" for x in ("django/test", "tests/update", "tests/other")},
}
# What its main branch has besides, with the lines that series.py looks for.
NOTES = "docs/releases/6.2.txt"
TEMPLATE = """\
ticket-XXXXX
<!-- Provide a concise overview of the change. -->
- [ ] This PR follows the [guidelines](https://example.com/).
- [ ] This PR targets the `main` branch. <!-- Always. -->
- [ ] The commit message is written in past tense, and ends with a period.
- [ ] I have added or updated relevant tests.
- [ ] I have added or updated relevant docs, including release notes.
"""
MAIN = {
    ".github/pull_request_template.md": TEMPLATE,
    NOTES: "Models in 6.2\n\n* ...\n\nSignals in 6.2\n\n* ...\n",
    "docs/conf.py": "",
    "docs/lint.py": "",
}
