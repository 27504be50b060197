"""
Run benchmarks in this process, as somebody else asks for.

    python -m benchmarks.worker

reads lines of JSON from standard input, and answers each with a line. A line
is [NAME, ARGUMENT, ...] for a method of Worker that is called "do_" + NAME.
PYTHONPATH says which Django it is. The answer is {"result": ...}, or {"skip":
reason} for a benchmark that this Django can't run, or {"error": text}.
"""

import gc
import importlib
import json
import os
import platform
import resource
import subprocess
import sys
import traceback
from time import perf_counter


class Worker:
    """The state between two lines: a benchmark that is set up."""

    def __init__(self):
        self.benchmark, self.params = None, ()

    def do_facts(self):
        """Return what this process measures with."""
        import django
        from django.db import connection

        facts = {"python": platform.python_version(), "django": django.get_version()}
        if connection.vendor == "sqlite":
            facts["database"] = f"SQLite {connection.Database.sqlite_version}"
            return facts
        with connection._nodb_cursor() as cursor:
            cursor.execute("SELECT version()")
            version = cursor.fetchone()[0].partition(" on ")[0]
        if connection.vendor == "mysql":
            name = "MariaDB" if connection.mysql_is_mariadb else "MySQL"
            facts["database"] = f"{name} {version.partition('-')[0]}"
            driver = ".".join(map(str, connection.Database.version_info[:3]))
            facts["driver"] = f"mysqlclient {driver}"
        else:
            facts["database"] = version
            facts["driver"] = f"psycopg {connection.Database.__version__}"
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

        if connection.vendor != "sqlite":
            connection.close()
            connection.creation._destroy_test_db(connection.settings_dict["NAME"], 0)

    def do_setup(self, package, name, *params):
        """
        Set a benchmark up.

        package: its place in update_benchmarks. name: of its class. params:
        one value for each of its parameters. Return its methods.
        """
        module = importlib.import_module(
            f"benchmarks.update_benchmarks.{package}.benchmark"
        )
        benchmark = getattr(module, name)()
        benchmark.setup(*params)
        self.benchmark, self.params = benchmark, params
        return [one for one in dir(benchmark) if one.startswith(("time_", "peakmem_"))]

    def settle(self, method):
        """Leave nothing of the last operation to the next."""
        if hasattr(self.benchmark, "settle"):
            self.benchmark.settle(method)
        gc.collect()

    def do_time(self, method, loops):
        """Call a method so many times. Return the seconds of one."""
        self.settle(method)
        call, params = getattr(self.benchmark, method), self.params
        started = perf_counter()
        for _ in range(loops):
            call(*params)
        return (perf_counter() - started) / loops

    def do_peak(self, method):
        """Call a method. Return by how many bytes it made the process grow."""
        self.settle(method)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        getattr(self.benchmark, method)(*self.params)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return (after - before) * 1024

    def do_statements(self, method):
        """Call a method. Return the statements that it sends."""
        from django.db import connection, reset_queries

        getattr(self.benchmark, method)(*self.params)
        connection.force_debug_cursor = True
        reset_queries()
        try:
            getattr(self.benchmark, method)(*self.params)
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
        call, params = getattr(self.benchmark, method), self.params
        for _ in range(warmups):
            call(*params)
        gc.collect()
        gc.disable()
        os.getloadavg()
        for _ in range(loops):
            call(*params)
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
    worker = Worker()
    for line in sys.stdin:
        name, *args = json.loads(line)
        try:
            answer = {"result": getattr(worker, f"do_{name}")(*args)}
        except NotImplementedError as error:
            answer = {"skip": str(error)}
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
