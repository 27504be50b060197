import argparse
import importlib
import sys
import unittest

parser = argparse.ArgumentParser()
parser.add_argument("--settings")
options, labels = parser.parse_known_args()
module, name = importlib.import_module(options.settings).TEST_RUNNER.split(".")
runner = getattr(importlib.import_module(module), name)()
names = [x if "." in x else x + ".tests" for x in labels if x[0] != "-"]
loader = unittest.defaultTestLoader
suite = loader.loadTestsFromNames(names) if names else loader.discover(".", "tests*")
sys.exit(bool(runner.suite_result(suite, runner.run_suite(suite))))
