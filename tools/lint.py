"""
What Django's pull request checks run: black, isort and flake8 on the files
that each commit touches, and the form of its message; on the docs after the
last one, blacken-docs, the docs linter, and Sphinx for HTML and the spelling.
The rules are those of Django's main branch: tox.ini, .flake8, docs/Makefile,
.github/workflows/ and docs/internals/contributing/committing-code.txt.
"""

import os
import re

from tools import DJANGO, ROOT, checkout, environment, queue
from tools.common import indent, must, remove, run, say, work_directory
from tools.git import CHECKOUT, changed, git

OWN_FILES = ("series.py", "tools", "benchmarks", "tests")
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
    """
    Lint own files and the commits in django/. Return the exit status.
    options.no_docs: leave out the docs, which take minutes.
    """
    tag, rows = checkout.base(), []
    owners, ids = queue.plan(tag), checkout.commits(tag, pretty="%H")
    for one in queue.pull_requests():
        own = [commit for commit, owner in zip(ids, owners) if owner == one.name]
        main = main_commit(DJANGO, own) if own else None
        rows += [(commit, one.ticket, commit == main) for commit in own]
    python = environment.ensure("lint", *[] if options.no_docs else ["docs"])
    say("This repository's own files")
    files = [name for name in OWN_FILES if (ROOT / name).exists()]
    failures = lint_python(python, ROOT, "own files", files)
    # Flake8 finds its settings in setup.cfg, which is above.
    room = work_directory("lint")
    git("clone", "-q", "--shared", "--no-checkout", DJANGO, room / "django", cwd=ROOT)
    failures += lint_commits(python, room / "django", tag, rows, not options.no_docs)
    remove(room)
    say(f"The linters FAILED:\n{indent(failures)}" if failures else "They passed.")
    return 1 if failures else 0


def main_commit(tree, ids):
    """
    Return the commit that a pull request is about, the only one that may close
    its ticket: the last that changes more than docs, or the last of all.
    """
    for commit in reversed(ids):
        if changed(tree, f"{commit}^", commit, r"(?!docs/).*"):
            return commit
    return ids[-1]


def message_faults(message, ticket, closes):
    """Return what is wrong; ticket: what a commit that closes it may name."""
    (subject, *body), number = message.splitlines() or [""], ticket or "XXXXX"
    fixed = f"|Fixed #{number}" if closes else ""
    form = rf"(Refs #(\d+|{number}){fixed}) -- [A-Z].*\."
    found = [] if re.fullmatch(form, subject) else [f"the subject isn't like {form}"]
    found += ["the second line isn't blank"] if body and body[0] else []
    # The limit is a soft one for subjects, and an address can't be broken.
    long = [line for line in body if len(line) > 72 and " " in line]
    return "\n".join(found + [f"more than 72 characters: {line}" for line in long])


def report(name, where, found):
    """Print how a linter ended. Return a list with its failure, or none."""
    say(f"  {name}: FAILED\n{indent(indent(found))}" if found else f"  {name}: passed")
    return [f"{name}: {where}"] if found else []


def call(python, cwd, where, name, *args):
    """Run a linter, which is a module. Return a list with its failure."""
    done = run(python, "-B", "-m", name, *args, cwd=cwd)
    found = (done.stdout + done.stderr).strip() or f"status {done.returncode}"
    return report(name, where, found if done.returncode else "")


def lint_python(python, cwd, where, files):
    """Run black, isort and flake8. Return the failures."""
    failures = call(python, cwd, where, "black", "--check", "--diff", "-q", *files)
    failures += call(python, cwd, where, "isort", "-c", "--diff", *files)
    return failures + call(python, cwd, where, "flake8", *files)


def lint_commits(python, tree, tag, rows, docs=True):
    """
    Lint commits, and the docs of the last, in a tree whose changes are lost.
    Return the failures. python: that of the linters. tag: the commit below.
    rows: for each (id, ticket or None, whether it may close the ticket).
    """
    failures = []
    for number, (commit, ticket, closes) in enumerate(rows, 1):
        git(*CHECKOUT, commit, cwd=tree)
        message = git("log", "-1", "--format=%B", cwd=tree)
        where = f"{commit[:10]} {message.splitlines()[0]}"
        say(f"{number} of {len(rows)}: {where}")
        failures += report("message", where, message_faults(message, ticket, closes))
        code = changed(tree, f"{commit}^", commit, r".*\.py")
        failures += lint_python(python, tree, where, code) if code else []
    texts = changed(tree, tag, commit, r"docs/.*\.txt")
    if docs and texts:
        say("The docs, compared with those of the base: this takes minutes")
        args = ("blacken_docs", "--rst-literal-block", *texts)
        failures += call(python, tree, where, *args)
        failures += call(python, tree / "docs", where, "lint")
        done = run(python, "-c", "import enchant; enchant.Dict('en_US')")
        if done.returncode:
            say(f"Not checked: {NO_SPELLING}")
            failures += [NO_SPELLING] if os.environ.get("CI") == "true" else []
        remove(tree.with_name("build"))
        git(*CHECKOUT, tag, cwd=tree)
        known = docs_warnings(python, tree, not done.returncode, ())
        git(*CHECKOUT, commit, cwd=tree)
        found = docs_warnings(python, tree, not done.returncode, texts)
        new = [line for key, line in found.items() if key not in known]
        failures += report("docs", where, "\n".join(new))
    return failures


def docs_warnings(python, tree, spells, files):
    """Build docs, check spelling in files. Return {warning: with place}."""
    with (tree / "docs" / "conf.py").open("a") as conf:
        conf.write(CONF)
    build, said = tree.with_name("build"), ""
    args, builders = ["-q", "-n", "-j", "auto"], ["html"]
    if spells:
        # Django's conf.py looks for this word in the arguments.
        args += ["-t", "spelling"]
    if spells and files:
        builders.append("spelling")
    for builder in builders:
        names = files if builder == "spelling" else ()
        to = (f"-d{build}/doctrees", f"-b{builder}", "docs", build / builder)
        done = run(python, "-B", "-m", "sphinx", *args, *to, *names, cwd=tree)
        must(done, "the docs cannot be built")
        said += done.stderr.replace(f"{tree}/", "")
    found = re.findall(r"^.*(?:WARNING|ERROR): .*$", said, re.M)
    return {line.partition(": ")[2]: line for line in found}
