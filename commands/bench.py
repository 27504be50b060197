"""
Measure what the signals cost.

    python3 series.py bench [NAME ...] [--db NAME ...] [--write]
    python3 series.py bench --short | --rewrite

Both the patched Django in django/ and the base run the benchmarks in
benchmarks/, which have the layout of django-asv. The names are

    counts   instructions (by callgrind) and statements, without receivers
    unused   seconds of operations without receivers, against the base
    used     seconds with receivers, against the raw driver doing the same
    peers    seconds of other ways to tell which rows an update changed
    memory   peak memory of an update of a million rows

and all of them are run unless some are given. counts needs SQLite only; the
others are run on each database of --db: SQLite in memory, PostgreSQL without
fsync, MariaDB without waiting for its log. The results are in .work/bench.
--write then makes the tables and plots of docs/performance.md from the last
results; --rewrite does that alone.

--short is counts alone, for CI. It fails if an operation without receivers
takes more than 1 % more instructions than on the base, or other statements, or
if there are more statements with receivers than promised. None of it depends
on the machine.
"""

import contextlib
import os
import shutil
import subprocess

import series
from commands import lint
from series import CHECKOUT, DATABASES, ROOT, WORK, Error, relative, say

HELP = (
    "Measure what the signals cost, against the base, the raw driver, and other "
    "packages; write the tables and plots of docs/performance.md."
)
NAMES = ("counts", "unused", "used", "peers", "memory")
PINS = ROOT / "commands" / "bench.txt"
BENCH = WORK / "bench"
ENVIRONMENT = BENCH / "venv"
PAGE = ROOT / "docs" / "performance.md"
# Needs a compiler, so it's installed if MariaDB is asked for.
COMPILED = "mysqlclient"


def add_arguments(parser):
    """Add the command's options."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; or all"
    )
    parser.add_argument(
        "--db",
        nargs="+",
        choices=DATABASES,
        default=list(DATABASES),
        help="the databases (default: all)",
    )
    parser.add_argument(
        "--short",
        action="store_true",
        help="what CI runs: only count instructions and statements",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"then write the tables and plots of {relative(PAGE)}",
    )
    parser.add_argument(
        "--rewrite",
        action="store_true",
        help="only write them again, from the last results",
    )


def run(options):
    """Run the command. Return the exit status."""
    names = options.names or NAMES
    if unknown := [name for name in names if name not in NAMES]:
        raise Error(
            f"unknown benchmark: {' '.join(unknown)}",
            "everything; nothing was measured.",
            f"name some of these: {', '.join(NAMES)}",
        )
    if options.short + options.rewrite + bool(options.names or options.write) > 1:
        raise Error(
            "--short and --rewrite go with no name, with no --write, and not with "
            "each\n  other.",
            "everything; nothing was measured.",
            "leave them out, or the rest.",
        )
    if options.short:
        names = ["counts"]
    elif options.rewrite:
        names = []
    series.require_git()
    upstream = series.load_upstream()
    series.require_checkout()
    series.require_venv()
    if names and series.read_state():
        raise Error(
            "the patches are not all applied, so there is nothing to measure.",
            "everything.",
            "run: python3 series.py apply",
        )
    if "counts" in names:
        require_callgrind()
    timed = [name for name in NAMES if name in names and name != "counts"]
    write = options.write or options.rewrite
    if timed or write:
        install(with_compiled=bool(timed) and "mariadb" in options.db)
    status = 0
    with series.tree_of(upstream["tag"], "django") as base:
        if "counts" in names:
            results = BENCH / "counts.json"
            say("sqlite: counts")
            strict = ["--strict"] if options.short else []
            status |= execute("counts", base, CHECKOUT, results, *strict)
        for name in options.db if timed else ():
            with server(name, upstream) as env:
                status |= execute("measure", base, CHECKOUT, BENCH, *timed, env=env)
    if write and not status:
        status = execute("report", BENCH, PAGE)
    if status:
        say("The benchmarks FAILED.")
    elif options.short:
        say("The counts are as promised.")
    return status


def require_callgrind():
    """Raise Error if there is no valgrind."""
    if not shutil.which("valgrind") or not shutil.which("callgrind_control"):
        raise Error(
            "valgrind, which counts the instructions, was not found.",
            "everything; nothing was measured.",
            "install it; on Debian: apt-get install valgrind",
        )


def install(with_compiled):
    """
    Make .work/bench/venv with what bench.txt names, unless it's there.

    with_compiled: also the driver that has no wheels. Raise Error if it fails.
    """
    lines = [line.strip() for line in PINS.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    python, stamp = str(ENVIRONMENT / "bin" / "python"), ENVIRONMENT / "bench.txt"
    ready = stamp.read_text(encoding="utf-8").split() if stamp.exists() else []
    plain = [line for line in lines if not line.startswith(COMPILED)]
    wanted = lines if with_compiled else plain
    supported = series.load_upstream()["pythons"]
    if set(ready) <= set(lines) and set(wanted) <= set(ready):
        if series.probe_python(python, supported)[0]:
            return
    say(f"Installing what {relative(PINS)} names in {relative(ENVIRONMENT)} ...")
    series.remove(ENVIRONMENT)
    install_wheels = [python, "-m", "pip", "install", "--no-deps"]
    for args in (
        # The same Python that the other commands use.
        [series.venv_python(), "-m", "venv", ENVIRONMENT],
        [*install_wheels, "--only-binary=:all:", *plain],
        *([[*install_wheels, *set(lines) - set(plain)]] if with_compiled else []),
    ):
        status, said = lint.execute(args, ROOT)
        if status:
            todo = "look to the network or to what pip says, and run bench again."
            if with_compiled:
                todo += (
                    f"\n  {COMPILED} is built here. What that needs, on Debian:\n"
                    f"  apt-get install {DATABASES['mariadb'].build_packages}"
                )
            raise Error(
                f"the tools could not be installed.\n{series.last_lines(said)}",
                "everything; nothing was measured.",
                todo,
            )
    stamp.write_text("\n".join(wanted) + "\n", encoding="utf-8")


@contextlib.contextmanager
def server(name, upstream):
    """
    Give the environment for a database.

    A server is started for the measurement, since one that's there may wait
    for its disk; but if an address is given, it's taken. Raise Error if there
    is no server.
    """
    database = DATABASES[name]
    if database.url is None or database.url in os.environ:
        with series.target(name, upstream) as target:
            yield target.env
        return
    # The driver that asks the server for its version.
    series.install_driver(name, upstream)
    with series.start_server(name) as (url, version):
        say(f"{name}: {version} (started for this run)")
        yield {"SERIES_DB": name, database.url: url}


def execute(module, *args, env=None):
    """Run a module of benchmarks/. Return its exit status."""
    # CI runs only counts, which needs no more than .venv has.
    own = ENVIRONMENT / "bin" / "python"
    python = series.venv_python() if module == "counts" else own
    command = [python, "-m", f"benchmarks.{module}", *args]
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        env=series.plain_environment(**(env or {"SERIES_DB": "sqlite"})),
    )
    return done.returncode
