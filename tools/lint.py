"""
What Django's pull request checks run, on every commit of each pull request:
black, isort, flake8 and blacken-docs on the files that it touches, the form of
its message and, if it touches docs/, the docs linter, and the docs as HTML and
for the spelling, with warnings as errors. This repository's files, too.

The rules are those of Django's main branch: tox.ini, .flake8, docs/Makefile,
.github/workflows/ (linters.yml, docs.yml, check_commit_messages.yml) and
docs/internals/contributing/committing-code.txt. Not run: biome and zizmor,
which look at JavaScript and GitHub workflows.
"""

import os
import re
import time

from tools import checkout, environment, queue
from tools.git import DJANGO, ROOT, WORK, Error, git, indent, run, say

TREE = WORK / "lint" / "django"
OWN = ("series.py", "tools", "benchmarks", "tests")
NO_SPELLING = "the spelling needs: apt install libenchant-2-2 aspell-en"
# Added to docs/conf.py, since Sphinx gets no inventory from the network, and
# no names of contributors from the history of a release.
CONF = """
import builtins, sys
intersphinx_mapping = {}
nitpick_ignore_regex = [
    ("py:.*", rf"({'|'.join({*dir(builtins), *sys.stdlib_module_names})})([.].*)?")
]
smartquotes = False  # The spelling doesn't know them.
spelling_ignore_contributor_names = False
"""


def lint(options):
    """Lint own files and the commits in django/. Return the exit status."""
    tag, rows = checkout.base(), []
    owners, ids = queue.plan(tag), checkout.commits(tag, pretty="%H")
    tickets = {one.name: one.ticket for one in queue.pull_requests()}
    for number, (commit, name) in enumerate(zip(ids, owners), 1):
        rows.append((commit, tickets[name], name not in owners[number:]))
    python = environment.ensure("lint", "docs")
    if not TREE.exists():
        TREE.parent.mkdir(parents=True, exist_ok=True)
        git("clone", "-q", "--shared", "--no-checkout", DJANGO, TREE, cwd=ROOT)
    git("fetch", "-q", "--force", "--tags", DJANGO, checkout.TIP, cwd=TREE)
    say("This repository's own files")
    files = [name for name in OWN if (ROOT / name).exists()]
    failures = lint_python(python, ROOT, "own files", files)
    failures += lint_commits(python, TREE, tag, rows[-1:] if options.tip else rows)
    failed = f"The linters FAILED:\n{indent(failures)}"
    say(failed if failures else "The linters passed.")
    return 1 if failures else 0


def message_faults(message, ticket, last):
    """
    Return what is wrong with a commit message, as text.

    ticket: the number of its pull request's, or None, which is XXXXX before
    there is one. last: whether it is the commit that may close the ticket.
    """
    (subject, *body), number = message.splitlines() or [""], ticket or "XXXXX"
    form = rf"Refs #(\d+|{number}) -- [A-Z].*\."
    if last:
        form = rf"{form}|Fixed #{number} -- [A-Z].*\."
    found = [] if re.fullmatch(form, subject) else [f"the subject isn't like {form}"]
    found += ["the second line isn't blank"] if body and body[0] else []
    # The limit is a soft one for subjects, and an address can't be broken.
    long = [line for line in body if len(line) > 72 and " " in line]
    return "\n".join(found + [f"more than 72 characters: {line}" for line in long])


def report(name, where, found, started):
    """Print how a linter ended. Return a list with its failure, or none."""
    seconds = time.monotonic() - started
    say(f"  {name}: {'FAILED' if found else 'passed'} ({seconds:.1f} s)")
    if found:
        say(indent(indent(found)))
    return [f"{name}: {where}"] if found else []


def call(python, cwd, where, name, *args):
    """Run a linter, a module or a file. Return a list with its failure."""
    started = time.monotonic()
    command = [name] if name.endswith(".py") else ["-m", name]
    done = run(python, "-B", *command, *args, cwd=cwd)
    found = (done.stdout + done.stderr).strip() or f"status {done.returncode}"
    return report(name, where, found if done.returncode else "", started)


def lint_python(python, cwd, where, files):
    """Run black, isort and flake8. Return the failures."""
    failures = call(python, cwd, where, "black", "--check", "--diff", "-q", *files)
    failures += call(python, cwd, where, "isort", "-c", "--diff", *files)
    return failures + call(python, cwd, where, "flake8", *files)


def lint_commits(python, tree, tag, rows):
    """
    Lint commits, each with its files checked out. Return the failures.

    python: that of the linters. tree: a clone to check them out in, whose
    changes are lost. tag: the commit below them all. rows: for each (its id,
    its pull request's ticket or None, whether it is the last one of that).
    """
    failures, known = [], None
    enchant = run(python, "-c", "import enchant; enchant.Dict('en_US')")
    if enchant.returncode:
        say(f"Not checked: {NO_SPELLING}")
        failures += [NO_SPELLING] if os.environ.get("CI") == "true" else []
    tags = () if enchant.returncode else ("-t", "spelling")
    environment.remove(tree.with_name("build"))
    for number, (commit, ticket, last) in enumerate(rows, 1):
        started = time.monotonic()
        check_out(tree, commit)
        message = git("log", "-1", "--format=%B", cwd=tree)
        where = f"{commit[:10]} {message.splitlines()[0]}"
        say(f"{number} of {len(rows)}: {where}")
        faults = message_faults(message, ticket, last)
        failures += report("message", where, faults, started)
        files = changed(tree, f"{commit}^", commit)
        code = [name for name in files if name.endswith(".py")]
        failures += lint_python(python, tree, where, code) if code else []
        texts = [name for name in files if re.match(r"docs/.*\.txt$", name)]
        if texts:
            args = ("blacken_docs", "--rst-literal-block", *texts)
            failures += call(python, tree, where, *args)
            failures += call(python, tree / "docs", where, "lint.py")
            if known is None:
                say("  docs: building those of the base first ...")
                check_out(tree, tag)
                known = docs_warnings(python, tree, tags, ())
            started = time.monotonic()
            check_out(tree, commit)
            for name in changed(tree, tag, commit):
                os.utime(tree / name)  # What is read again warns again.
            found = docs_warnings(python, tree, tags, texts)
            new = [line for key, line in found.items() if key not in known]
            failures += report("docs", where, "\n".join(new), started)
    return failures


def check_out(tree, commit):
    """Check a commit out in a tree, whose changes are lost."""
    git("checkout", "-q", "--force", "--detach", commit, cwd=tree)


def changed(tree, since, until):
    """Return the names of the files that differ, and are there in the end."""
    args = ("--name-only", "-z", "--no-renames", "--diff-filter=d", since, until)
    return [name for name in git("diff", *args, cwd=tree).split("\0") if name]


def docs_warnings(python, tree, tags, files):
    """
    Build docs. Return {what Sphinx warns of: the line with its place}.

    tags: with "spelling", which conf.py looks for in the arguments, if it is
    to be checked. files: those in which it is.
    """
    with (tree / "docs" / "conf.py").open("a") as conf:
        conf.write(CONF)
    build, said = tree.with_name("build"), ""
    for builder, names in (("html", ()), ("spelling", files)):
        if builder == "html" or tags and files:
            args = ("-q", "-n", *tags, "-j", "auto", "-d", build / "doctrees")
            args = (*args, "-b", builder, "docs", build / builder, *names)
            done = run(python, "-B", "-m", "sphinx", *args, cwd=tree)
            said += done.stderr.replace(f"{tree}/", "")
            if done.returncode:
                raise Error(f"the docs cannot be built:\n{indent(said[-2000:])}")
    found = re.findall(r"^.*(?:WARNING|ERROR): .*$", said, re.M)
    return {line.partition(": ")[2]: line for line in found}
