import unittest


class DiscoverRunner:
    def get_resultclass(self):
        pass

    def run_suite(self, suite, **kwargs):
        return unittest.TextTestRunner(resultclass=self.get_resultclass()).run(suite)
