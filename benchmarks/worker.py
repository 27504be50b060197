"""
Run benchmarks in this process, as somebody else asks for.

    python -m benchmarks.worker

reads lines of JSON from standard input, and answers each with a line. A line
is [NAME, ARGUMENT, ...] for a method of Worker that is called "do_" + NAME.
PYTHONPATH says which Django it is. The answer is {"result": ...}, or {"error":
text}.
"""

import gc
import json
import os
import resource
import subprocess
import sys
import traceback
from time import perf_counter

import django


class Worker:
    """The state between two lines: a benchmark that is set up."""

    benchmark = None

    def do_facts(self):
        """Return the versions of the database and of its driver."""
        from importlib.metadata import version as version_of

        from django.db import connection

        version = ".".join(map(str, connection.get_database_version()))
        facts = {"database": f"{connection.display_name} {version}"}
        driver = {"postgresql": "psycopg", "mysql": "mysqlclient"}
        if name := driver.get(connection.vendor):
            facts["driver"] = f"{name} {version_of(name)}"
        return facts

    def do_create(self):
        """Make the test database, unless it's in memory."""
        from django.db import connection

        if connection.vendor != "sqlite":
            connection.creation._create_test_db(0, autoclobber=True)
            name = connection.creation._get_test_db_name()
            connection.close()
            connection.settings_dict["NAME"] = name

    def do_destroy(self):
        """Drop the test database."""
        from django.db import connection

        if hasattr(self.benchmark, "teardown"):
            self.benchmark.teardown()
        if connection.vendor != "sqlite":
            connection.close()
            connection.creation._destroy_test_db(connection.settings_dict["NAME"], 0)

    def create_tables(self):
        """Make the tables of the models, without the time of "migrate"."""
        from django.apps import apps
        from django.db import connection

        with connection.schema_editor() as editor:
            for model in apps.get_app_config("benchmarks").get_models():
                if not model._meta.proxy:
                    editor.create_model(model)

    def do_setup(self, name, *params):
        """
        Set a benchmark up: the class of this name in operations.py, with these
        parameters. Return the names of its methods.
        """
        from . import operations

        self.create_tables()
        self.benchmark = getattr(operations, name)()
        self.benchmark.setup(*params)
        return [one for one in dir(self.benchmark) if one.startswith("time_")]

    def settle(self, method):
        """Leave nothing of the last operation to the next."""
        if hasattr(self.benchmark, "settle"):
            self.benchmark.settle(method)
        gc.collect()

    def do_time(self, method, loops):
        """Call a method so many times. Return the seconds of one."""
        self.settle(method)
        call = getattr(self.benchmark, method)
        started = perf_counter()
        for _ in range(loops):
            call()
        return (perf_counter() - started) / loops

    def do_peak(self, method):
        """Call a method. Return by how many bytes it made the process grow."""
        self.settle(method)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        getattr(self.benchmark, method)()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return (after - before) * 1024

    def do_call(self, method):
        """Call a method. Return its result."""
        return getattr(self.benchmark, method)()

    def do_statements(self, method):
        """Call a method. Return the statements that it sends."""
        from django.db import connection, reset_queries

        getattr(self.benchmark, method)()
        connection.force_debug_cursor = True
        reset_queries()
        try:
            getattr(self.benchmark, method)()
            return [query["sql"] for query in connection.queries]
        finally:
            connection.force_debug_cursor = False

    def do_count(self, method, warmups, loops):
        """
        Call a method between two marks that callgrind sees.

        getloadavg() is a function of the C library that nothing else calls:
        with --dump-before=getloadavg, the instructions since the last call
        are written down.
        """
        call = getattr(self.benchmark, method)
        for _ in range(warmups):
            call()
        gc.collect()
        gc.disable()
        os.getloadavg()
        for _ in range(loops):
            call()
        os.getloadavg()
        gc.enable()

    def do_instrument(self):
        """Let callgrind begin, which slows this process down much more."""
        command = ["callgrind_control", "--instr=on", str(os.getpid())]
        with subprocess.Popen(command, stdout=2) as process:
            # Not to be waked up: that would need the right to trace.
            while process.poll() is None:
                pass
        return process.returncode


def main():
    """Answer until the end of the input."""
    # What Django or a package prints is not an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    django.setup()
    worker = Worker()
    for line in sys.stdin:
        name, *args = json.loads(line)
        try:
            answer = {"result": getattr(worker, f"do_{name}")(*args)}
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
