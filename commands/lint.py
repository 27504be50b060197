"""
Run the linters of Django's tox.ini and pull request checks on the commits of
the series, and black, isort, and flake8 on this repository's own files.

The commits are read from git into a tree of their own in .work/lint/, so
neither a branch nor a work tree changes, and uncommitted work isn't looked at.

- black, flake8, isort, and blacken-docs look at the files that a commit
  touches; the docs linter (docs/lint.py) at all docs.
- The docs are built, as HTML and for the spelling, after each commit that
  touches docs/, without the inventories of intersphinx, which are on the
  network. That leaves references to Python's docs unresolved, so only what the
  base's docs don't warn of counts (see new_warnings()).
- The message of a commit must be as series.check_message() says, with a blank
  second line and a verb in the past tense. Django's limit for the first line
  is a soft one and is not checked.

JavaScript and GitHub workflows, which biome and zizmor check, aren't looked
at. The rules come from these files of Django's main branch: tox.ini, .flake8,
.pre-commit-config.yaml, docs/Makefile, .github/workflows/linters.yml and
docs.yml, docs/internals/contributing/committing-code.txt.
"""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import series
from series import BRANCH, CHECKOUT, ROOT, WORK, Error, git, indent, relative, say

HELP = (
    "Run Django's linters, the docs build, and the spelling on each commit of "
    "the series in django/, and linters on this repository's own files."
)
PINS = Path(__file__).with_suffix(".txt")
LINT = WORK / "lint"
ENVIRONMENT = LINT / "venv"

# Without --thirdparty, the order would depend on whether django/ is there.
ISORT = ["--profile=black", "--thirdparty=django", "--src=.", "--src=tests"]
# A release's sdist lacks the file; this is the one of the main branch.
FLAKE8 = """\
[flake8]
exclude = build,.git,.tox,./tests/.env
extend-ignore = E203
max-line-length = 88
max-doc-length = 79
per-file-ignores =
    django/core/cache/backends/filebased.py:W601
    django/core/cache/backends/base.py:W601
    django/core/cache/backends/redis.py:W601
    tests/cache/tests.py:W601
"""
# Added to docs/conf.py. The names of contributors come from git's history,
# which the sdist has not.
CONF = """
# Added by series.py lint.
intersphinx_mapping = {}
spelling_ignore_contributor_names = False
"""
WARNING = re.compile(r"^(?:(?P<file>/\S+?):(?:\d+:)?\s)?\s*(?:WARNING|ERROR): ")
TARGET = re.compile(r"py:\w+ reference target not found: ([\w.]+)")
# Verbs of which the past tense doesn't end in "ed".
IRREGULAR = {
    *("Began", "Bound", "Broke", "Brought", "Built", "Chose", "Cut", "Drew"),
    *("Forbade", "Found", "Gave", "Got", "Held", "Hid", "Kept", "Left", "Let"),
    *("Lost", "Made", "Put", "Ran", "Rebuilt", "Reran", "Rethrew", "Rewrote"),
    *("Sent", "Set", "Shrank", "Sped", "Split", "Spread", "Stuck"),
    *("Taught", "Threw", "Took", "Undid", "Unset", "Withdrew", "Wrote"),
}


def add_arguments(parser):
    """Add the command's options."""
    parser.add_argument(
        "--tip", action="store_true", help="only the last commit of the series"
    )


def run(options):
    """Run the command. Return the exit status."""
    series.require_git()
    base = series.load_upstream()["tag"]
    series.require_checkout()
    tip = f"refs/heads/{BRANCH}"
    if series.read_state() or not series.ref(tip) or not series.commits(base, tip):
        raise Error(
            "the patches are not all applied, so there is nothing to lint.",
            "everything.",
            "run: python3 series.py apply",
        )
    if series.uncommitted():
        say("django/ has uncommitted changes, which are not looked at.")
    install()
    failures = lint_files() + lint_commits(CHECKOUT, base, tip, options.tip)
    if not failures:
        say("The linters passed.")
        return 0
    say("The linters FAILED:")
    say(indent(failures))
    return 1


def install():
    """
    Make .work/lint/venv with the tools of lint.txt, unless it's there.

    Raise Error if that fails, or if the spelling has no dictionary.
    """
    supported = series.load_upstream()["pythons"]
    stamp = ENVIRONMENT / PINS.name
    python = tool("python")
    ready = stamp.exists() and stamp.read_bytes() == PINS.read_bytes()
    if not ready or not series.probe_python(python, supported)[0]:
        say(f"Installing the tools of {relative(PINS)} in {relative(ENVIRONMENT)} ...")
        series.remove(ENVIRONMENT)
        # The base's warnings are those of another Sphinx.
        series.remove(LINT / "trees")
        for command in series.python_candidates(supported):
            if series.probe_python(command, supported)[0]:
                break
        else:
            raise Error(
                f"no supported Python ({', '.join(supported)}) was found.",
                "everything.",
                "run apply, which says which were looked at.",
            )
        for args in (
            [command, "-m", "venv", ENVIRONMENT],
            [python, "-m", "pip", "install", "--only-binary=:all:", "-r", PINS],
        ):
            status, said = execute(args, ROOT)
            if status:
                raise Error(
                    f"the tools could not be installed.\n{series.last_lines(said)}",
                    "everything; nothing was linted.",
                    "look to the network or to what pip says, and run lint again.",
                )
        stamp.write_bytes(PINS.read_bytes())
    code = "import enchant; enchant.Dict('en_US')"
    status, said = execute([python, "-c", code], ROOT)
    if status:
        raise Error(
            "the spelling cannot be checked: enchant or its dictionary en_US is "
            f"missing.\n{series.last_lines(said, 2)}",
            "everything; nothing was linted.",
            "install them; on Debian: apt-get install libenchant-2-2 aspell-en",
        )


def tool(name):
    """Return the path of a program in the linters' environment."""
    return str(ENVIRONMENT / "bin" / name)


def execute(args, cwd):
    """Run a program. Return (its status, what it printed)."""
    done = subprocess.run(
        list(map(str, args)),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=series.plain_environment(PYTHONDONTWRITEBYTECODE="1", NO_COLOR="1"),
    )
    return done.returncode, done.stdout


def report(name, where, found, started):
    """
    Print the outcome of a linter.

    name: the linter. where: what it looked at. found: its own words about
    faults, or "". started: the clock then. Return a list of failures.
    """
    seconds = time.monotonic() - started
    say(f"  {name}: {'FAILED' if found else 'passed'} ({seconds:.1f} s)")
    if not found:
        return []
    say(indent(indent(found)))
    return [f"{name}: {where}"]


def lint_with(name, args, cwd, where):
    """Run a linter that tells by its status. Return a list of failures."""
    started = time.monotonic()
    status, said = execute(args, cwd)
    found = (said.strip() or f"status {status}") if status else ""
    return report(name, where, found, started)


def lint_files():
    """Lint this repository's own Python files. Return a list of failures."""
    where = "this repository's own files"
    say(f"{where[0].upper()}{where[1:]}")
    paths = [
        name
        for name in ("series.py", "benchmarks", "commands", "tests")
        if (ROOT / name).exists()
    ]
    failures = []
    for name, *args in (
        ("black", "--check", "--diff", "--quiet"),
        ("isort", "--check-only", "--diff", *ISORT),
        ("flake8", "--config=tox.ini"),
    ):
        failures += lint_with(name, [tool(name), *args, *paths], ROOT, where)
    return failures


def lint_commits(repository, base, tip, tip_only=False):
    """
    Lint the commits base..tip of a clone of Django. install() comes first.

    repository: the clone, which stays as it is. base, tip: commits. tip_only:
    leave out all but the last one. Return a list of failures, one line each.
    """

    def ask(*args, **kwargs):
        return git(*args, cwd=repository, **kwargs)

    base = ask("rev-parse", "--verify", f"{base}^{{commit}}")
    commits = ask("rev-list", "--reverse", f"{base}..{tip}").splitlines()
    messages = [ask("log", "-1", "--format=%B", one).splitlines() for one in commits]
    # Commits may follow the one that closes the ticket: the release notes.
    closing = len(commits) - 1
    for number, lines in enumerate(messages):
        if lines and lines[0].startswith("Fixed "):
            closing = number
    room = LINT / "trees" / base[:12]
    tree = room / "tree"
    tree.mkdir(parents=True, exist_ok=True)
    env = {
        "GIT_DIR": ask("rev-parse", "--absolute-git-dir"),
        "GIT_WORK_TREE": str(tree),
        "GIT_INDEX_FILE": str(room / "index"),
    }

    def move_to(commit):
        git("read-tree", "--reset", "-u", commit, cwd=tree, env=env)
        names = ask("ls-tree", "--name-only", commit, ".flake8")
        if not names:
            (tree / ".flake8").write_text(FLAKE8, encoding="utf-8")

    def changed(since, until):
        names = ask(
            "diff", "--name-only", "-z", "--no-renames", "--diff-filter=d", since, until
        )
        return [name for name in names.split("\0") if name]

    failures = []
    for number, (commit, lines) in enumerate(zip(commits, messages)):
        if tip_only and commit != commits[-1]:
            continue
        subject = lines[0] if lines else ""
        say(f"{number + 1} of {len(commits)}: {commit[:10]} {subject}")
        where = f"{commit[:10]} {subject}"
        started = time.monotonic()
        complaints = check_commit_message(lines, number == closing)
        failures += report("message", where, "\n".join(complaints), started)
        move_to(commit)
        files = changed(f"{commit}^", commit)
        failures += lint_python(tree, files, where)
        if not any(name.startswith("docs/") for name in files):
            continue
        texts = [name for name in files if re.match(r"docs/.*\.txt$", name)]
        failures += lint_texts(tree, texts, where, env)
        known = room / "warnings.json"
        if not known.exists():
            say("  The base's docs are built first ...")
            series.remove(room / "build")
            move_to(base)
            known.write_text(json.dumps(docs_warnings(room, [])), encoding="utf-8")
            move_to(commit)
        started = time.monotonic()
        # What was read in an earlier run is read again, to hear its warnings.
        said = docs_warnings(room, changed(base, commit))
        found = new_warnings(said, json.loads(known.read_text(encoding="utf-8")), tree)
        failures += report("docs and spelling", where, "\n".join(found), started)
    return failures


def check_commit_message(lines, last):
    """
    Return the complaints about a commit message.

    lines: all of them. last: whether it closes the ticket.
    """
    subject, body = (lines[0], lines[1:]) if lines else ("", [])
    found = series.check_message(subject, body, last)
    if body and body[0]:
        found.append("the second line is not blank")
    verb = re.search(r"-- (\w+)", subject)
    if verb and not verb[1].endswith("ed") and verb[1] not in IRREGULAR:
        found.append(f'the subject has no verb in the past tense first: "{verb[1]}"')
    return found


def lint_python(tree, files, where):
    """Run black, isort, and flake8 on the Python files of a commit."""
    python = [name for name in files if name.endswith(".py")]
    sorted_files = [
        name for name in python if name.startswith(("django/", "tests/", "scripts/"))
    ]
    failures = []
    for name, args, paths in (
        ("black", ["--check", "--diff", "--quiet"], python),
        ("isort", ["--check-only", "--diff"], sorted_files),
        ("flake8", [], python),
    ):
        if paths:
            failures += lint_with(name, [tool(name), *args, *paths], tree, where)
    return failures


def lint_texts(tree, texts, where, env):
    """Run blacken-docs and the docs linter for a commit that touches docs."""
    failures = []
    if texts:
        started = time.monotonic()
        args = [tool("blacken-docs"), "--rst-literal-block", *texts]
        status, said = execute(args, tree)
        found = ""
        if status:
            found = said + git("diff", "--", *texts, cwd=tree, env=env)
            git("checkout-index", "--force", "--", *texts, cwd=tree, env=env)
        failures += report("blacken-docs", where, found, started)
    args = [tool("python"), "lint.py"]
    return failures + lint_with("docs linter", args, tree / "docs", where)


def docs_warnings(room, again):
    """
    Build the docs of a tree; return the lines of Sphinx's warnings.

    room: the directory with tree/ and build/. again: files to be read even if
    they were before. Raise Error if Sphinx itself fails.
    """
    docs, build = room / "tree" / "docs", room / "build"
    conf = docs / "conf.py"
    text = conf.read_text(encoding="utf-8")
    if not text.endswith(CONF):
        conf.write_text(text + CONF, encoding="utf-8")
    for name in again:
        if name.endswith(".txt"):
            os.utime(room / "tree" / name)
    log = []
    # Django's conf.py looks for the word "spelling" among the arguments. It's
    # there for both builders, since they share what was read.
    for builder in ("spelling", "html"):
        args = [tool("sphinx-build"), "-q", "-n", "-t", "spelling", "-b", builder]
        args += ["-j", "auto", "-d", build / "doctrees", docs, build / builder]
        status, said = execute(args, docs)
        if status:
            raise Error(
                f"the docs cannot be built ({builder}).\n{series.last_lines(said)}",
                "the commits; they are linted in a tree of their own.",
                "put right what Sphinx names, and run lint again.",
            )
        log += said.splitlines()
    return list(dict.fromkeys(line for line in log if WARNING.match(line)))


def new_warnings(said, known, tree):
    """
    Return those of Sphinx's warnings which a commit brought.

    said: all. known: those of the base. tree: the directory to leave out of
    the paths. A reference counts as known wherever the base has it. One that
    the base doesn't have is still no fault if Python has what it names.
    """

    def key(line):
        rest = WARNING.sub("", line)
        reference = re.search(r" \[ref\.\w+\]$", line)
        return rest if reference else (WARNING.match(line)["file"], rest)

    old = {key(line) for line in known}
    new = [line for line in said if key(line) not in old]
    targets = [match[1] for line in new if (match := TARGET.search(line))]
    code = (
        "import json, pydoc, sys; print(json.dumps([name for name in sys.argv[1:]"
        " if not name.startswith('django') and pydoc.locate(name) is not None]))"
    )
    status, found = execute([tool("python"), "-I", "-c", code, *targets], tree)
    python = [] if status else json.loads(found)
    return [
        line.replace(f"{tree}/", "")
        for line in new
        if not ((match := TARGET.search(line)) and match[1] in python)
    ]
