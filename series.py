#!/usr/bin/env python3
"""
The commands of this patch series against Django; what each does is in tools/.
They need git, Python 3.11, and one that Django supports, with its venv module.
"""

import argparse
import importlib
import os
import signal
import sys

DATABASES = ("sqlite", "postgres", "mariadb", "mysql")


def parse_arguments(argv):
    """Return the parsed arguments; argparse exits with 2 if they are wrong."""
    parser = argparse.ArgumentParser(prog="series.py", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(function, text, alone=False):
        # alone: it changes what the others read.
        module, _, name = function.partition(".")
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(module=module, function=name, alone=alone)
        return sub

    def flag(sub, name, text):
        sub.add_argument(name, action="store_true", help=text)

    text = "make django/ with all patches, and .venv"
    sub = command("queue.apply", text, alone=True)
    flag(sub, "--force", "drop work in django/ that isn't in patches/, naming it")
    text = "write patches/ from the commits in django/"
    sub = command("queue.export", text, alone=True)
    sub.add_argument("--to", metavar="NAME", help="where commits that are new belong")
    command("queue.check", "look for mistakes in patches/ and django/")
    test = command("suite.test", "run the tests that the series touches, and its own")
    test.add_argument("labels", nargs="*", help="of Django's tests, or paths of ours")
    test.add_argument("--db", default="sqlite", choices=DATABASES)
    group = test.add_mutually_exclusive_group()
    flag(group, "--each", "after every patch, and each pull request alone")
    flag(group, "--full", "Django's whole suite, compared with unpatched Django")
    flag(group, "--adopters", "the packages in docs/adopters.md that use the signals")
    flag(test, "--suites", "with --adopters: the packages' own test suites, too")
    text = "with receivers of every model that do nothing, or check every update"
    test.add_argument("--receivers", choices=("quiet", "audit"), help=text)
    sub = command("lint.lint", "run Django's linters on every commit")
    flag(sub, "--no-docs", "leave out the docs, which take minutes")
    sub = command("bench.bench", "measure what the signals cost")
    text = "of counts, unused, used, peers, memory, and writers"
    sub.add_argument("--db", nargs="+", default=DATABASES, choices=DATABASES)
    either = sub.add_mutually_exclusive_group()
    either.add_argument("names", nargs="*", default=[], metavar="NAME", help=text)
    flag(either, "--short", "count instructions and statements, and enforce limits")
    either = sub.add_mutually_exclusive_group()
    flag(either, "--write", "write the results to docs/performance.md")
    flag(either, "--fast", "rough numbers in a minute, to see that it works")
    sub = command("wheel.wheel", "build a wheel to try the signals in a project")
    text = "stop after this pull request, a directory in patches/"
    sub.add_argument("name", nargs="?", metavar="NAME", help=text)
    text = "make the branch of one pull request in a clone"
    sub = command("pr.pr", text, alone=True)
    sub.add_argument("name", metavar="NAME", help="a directory in patches/")
    sub.add_argument("clone", metavar="CLONE", help="a clone of django/django")
    flag(sub, "--commits", "keep the commits, instead of one for the pull request")
    text = "try the series on main, or move it to a release"
    sub = command("rebase.rebase", text, alone=True)
    sub.add_argument("target", nargs="+", help="CLONE [BRANCH], or VERSION")
    text = "change the release that gets the signals"
    sub = command("rebase.version", text, alone=True)
    sub.add_argument("version", metavar="X", help="such as 6.2")
    options = parser.parse_args(argv)
    if options.function == "test":
        if options.labels and (options.full or options.adopters):
            test.error("--full and --adopters take no labels")
        if options.receivers and (options.each or options.adopters):
            test.error("--receivers goes without --each and --adopters")
        if options.suites and not options.adopters:
            test.error("--suites goes with --adopters")
    return options


def main(argv):
    """Run the command in argv. Return the exit status."""
    if sys.version_info < (3, 11):
        print("series.py: error: this needs Python 3.11 or newer.", file=sys.stderr)
        return 1
    # Also if PYTHONSAFEPATH is set.
    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
    from tools.common import Error, lock
    from tools.git import require_git

    # When nobody reads the output any more, the command ends silently.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        options = parse_arguments(argv)
        require_git()
        module = importlib.import_module(f"tools.{options.module}")
        lock(options.alone)
        return getattr(module, options.function)(options)
    except (Error, OSError) as error:
        problem, status = f"error: {error}", 1
    except KeyboardInterrupt:
        problem, status = "interrupted. Run the command again to finish it.", 130
    print(f"series.py: {problem}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
