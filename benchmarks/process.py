"""Start and ask workers: see worker.py."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Failed(Exception):
    """The benchmark, or the worker, failed."""


class Process:
    """
    A worker with the Django of a tree.

    tree: the directory. apps: more of INSTALLED_APPS. database: the start of
    the name of its database on a server. wrapper: a command to run it with.
    env: more variables.
    """

    def __init__(self, tree, apps="", database="bench", wrapper=(), env=None):
        # What it says about failures.
        self.log = tempfile.TemporaryFile("w+")
        self.popen = subprocess.Popen(
            [*wrapper, sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(
                    [str(tree), str(ROOT), str(ROOT / "tests" / "series")]
                ),
                "SERIES_DB_NAME": database,
                "BENCHMARKS_APPS": apps,
                **(env or {}),
            },
        )

    def ask(self, name, *args):
        """
        Send a line and return the result. Raise Failed if the worker fails, or
        has ended.
        """
        try:
            print(json.dumps([name, *args]), file=self.popen.stdin, flush=True)
            line = self.popen.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.log.seek(0)
            said = self.log.read().strip().splitlines()[-5:]
            raise Failed("\n".join(["the worker ended.", *said]))
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer["result"]

    def __enter__(self):
        try:
            self.ask("create")
        except BaseException:
            self.__exit__(True)
            raise
        return self

    def __exit__(self, error, *args):
        # When something is wrong, the worker may be at work, and the database
        # goes with the server, or with the next create.
        if error:
            self.popen.kill()
        else:
            self.ask("destroy")
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.close()
        self.popen.wait()
        self.popen.stdout.close()
        self.log.close()
