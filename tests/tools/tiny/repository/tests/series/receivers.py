import json
import os
import unittest


def report(**line):
    with open(os.environ["SERIES_REPORT"], "a") as file:
        print(json.dumps(line), file=file)


def reporting_run(test, result=None, run=unittest.TestCase.run):
    run(test, result)
    report(test=test.id(), updates=2)


def connect_at_setup():
    unittest.TestCase.run = reporting_run
