"""The branch that "series.py pr" makes in a clone, and what it refuses."""

import os
import re
import subprocess
import sys

import pytest

from conftest import FIRST

BRANCH = "ticket_22543_signals"
NOTES = "docs/releases/6.2.txt"
# The parts of Django's template that its robot and series.py look at.
TEMPLATE = """\
#### Trac ticket number
<!-- Or write "N/A". -->

ticket-XXXXX

#### Branch description
<!-- Provide a concise overview of the change. -->

#### AI Assistance Disclosure (REQUIRED)
- [ ] **No AI tools were used** in preparing this PR.
- [ ] **If AI tools were used**, I have said which.

#### Checklist
- [ ] This PR follows the [guidelines](https://example.com/).
- [ ] This PR does not disclose a vulnerability.
- [ ] This PR targets the `main` branch. <!-- Always. -->
- [ ] The commit message is written in past tense, and ends with a period.
- [ ] I have not requested a review by a tool.

- [ ] I have added or updated relevant tests.
- [ ] I have added or updated relevant docs, including release notes.
"""
TEXT = """\
# Fixed #{0} -- {1}.

## Ticket

The text of a ticket.

## Branch description

This is what the branch does and why.

## Hunks

- `query.py`: all of it.
"""
MAIN = {
    ".github/pull_request_template.md": TEMPLATE,
    NOTES: "Models\n\n* ...\n\nSignals\n\n* ...\n",
    "django/other.py": "",
}
FAULTY = "import sys\nsys.exit(any('FAULT' in open(x).read() for x in sys.argv[4:]))\n"


def commit(repo, clone, files, message="Changed main."):
    """Commit files, given as {path: text}, on the branch of the clone."""
    for path, text in files.items():
        file = clone / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    repo.git("add", "--all", cwd=clone)
    repo.git("commit", "--quiet", "-m", message, cwd=clone)


def write_note(repo, clone, pull, section, subject):
    """Write a patch for main with a release note for a commit."""
    text = (clone / NOTES).read_text()
    files = {NOTES: text.replace(f"{section}\n\n* ...", f"{section}\n\n* {pull}.")}
    commit(repo, clone, files, f"fixup! {subject}")
    options = "-1 --zero-commit --full-index --no-numbered --no-signature".split()
    directory = repo.root / "patches-main" / pull
    repo.git("format-patch", *options, f"--output-directory={directory}", cwd=clone)
    repo.git("reset", "--quiet", "--hard", "HEAD~1", cwd=clone)


@pytest.fixture
def clone(repo, tmp_path):
    """
    Give a clone of a Django whose main is newer than the base, with linters
    that find what has FAULT in it.
    """
    for group in ("lint", "docs"):
        (repo.root / "requirements" / f"{group}.txt").write_text("")
    (site,) = (repo.root / ".venv").glob("lib/python*/site-packages")
    for name in ("black", "isort", "flake8", "blacken_docs", "sphinx"):
        (site / f"{name}.py").write_text(FAULTY if name == "black" else "")
    (repo.root / "docs").mkdir(exist_ok=True)
    way = "# A proposal\n\n## The way, step by step\n\n1. Go on.\n"
    (repo.root / "docs" / "proposal.md").write_text(way)
    for name, ticket in (("lines", 1), ("signals", 22543)):
        text = TEXT.format(ticket, f"Did {name}")
        (repo.patches / name / "pull-request.md").write_text(text)
    clone = tmp_path / "clone"
    repo.git("clone", "--quiet", str(repo.checkout), str(clone), cwd=tmp_path)
    repo.git("checkout", "--quiet", "-B", "main", "upstream/6.1.3", cwd=clone)
    commit(repo, clone, {**MAIN, "docs/conf.py": "", "docs/lint.py": ""})
    write_note(repo, clone, "lines", "Models", "Fixed #1 -- Changed a line.")
    subject = "Refs #22543 -- Added the signals."
    write_note(repo, clone, "signals", "Signals", subject)
    for role in ("AUTHOR", "COMMITTER"):
        repo.env[f"GIT_{role}_NAME"] = "Bea"
        repo.env[f"GIT_{role}_EMAIL"] = "bea@example.com"
    return clone


def state(repo, clone):
    """Return the refs of the clone, its HEAD, and its changes."""
    args = (["for-each-ref"], ["rev-parse", "HEAD"], ["status", "--porcelain"])
    return [repo.git(*one, cwd=clone) for one in args]


def log(repo, clone, pretty="%an %cn %s"):
    """Return the commits of the branch, newest first."""
    args = ("log", f"--format={pretty}", f"main..{BRANCH}")
    return repo.git(*args, cwd=clone).splitlines()


def test_branch(repo, clone):
    """
    There is one commit for each pull request, by the person, with the notes;
    nothing else in the clone changes; the rest is printed.
    """
    before = state(repo, clone)
    output = repo.good("pr", "signals", str(clone))
    after = state(repo, clone)
    (new,) = set(after[0].splitlines()) - set(before[0].splitlines())
    assert new.endswith(f"refs/heads/{BRANCH}") and after[1:] == before[1:]
    assert log(repo, clone) == [
        "Bea Bea Fixed #22543 -- Did signals.",
        "Bea Bea Fixed #1 -- Did lines.",
    ]
    notes = repo.git("show", f"{BRANCH}:{NOTES}", cwd=clone)
    assert notes == "Models\n\n* lines.\n\nSignals\n\n* signals."
    paths = "query.py signals.py".split()
    for path in paths:
        theirs = repo.git("show", f"{BRANCH}:django/{path}", cwd=clone)
        assert theirs == (repo.checkout / "django" / path).read_text().strip()
    left, _, text = output.partition("\nTitle: ")
    assert "[ ] This PR follows the [guidelines](" in left.partition("\nOnly you")[2]
    assert "#### Trac ticket" in text and "\nticket-22543\n" in text
    assert "This is what the branch does and why." in text
    assert text.count("- [x] ") == 4 and text.count("- [ ] ") == 5
    assert "1. Go on." in text and f"git switch {BRANCH}" in text
    assert not (repo.root / ".work" / "upstream").exists()


def test_commits(repo, clone):
    """--commits keeps them, each with its own notes, and the same files."""
    repo.good("pr", "signals", str(clone))
    tree = repo.git("rev-parse", f"{BRANCH}^{{tree}}", cwd=clone)
    repo.git("branch", "--quiet", "-D", BRANCH, cwd=clone)
    repo.good("pr", "signals", str(clone), "--commits")
    assert repo.git("rev-parse", f"{BRANCH}^{{tree}}", cwd=clone) == tree
    assert log(repo, clone, "%s|%b") == [
        "Fixed #22543 -- Did signals.|",
        "Refs #22543 -- Added the signals.|A body.",
        "",
        "Fixed #1 -- Did lines.|",
    ]
    names = ("show", "--format=", "--name-only", f"{BRANCH}~1")
    assert NOTES in repo.git(*names, cwd=clone).splitlines()


def test_independent(repo, clone):
    """A pull request that needs no other has no other below it."""
    repo.good("pr", "lines", str(clone))
    args = ("log", "--format=%s", "main..ticket_1_lines")
    assert repo.git(*args, cwd=clone) == "Fixed #1 -- Did lines."


def test_no_ticket_yet(repo, clone):
    """Without a number, the text of the ticket comes first."""
    repo.edit("patches/series.toml", "\nticket = 1\n", "\n")
    path = repo.patches / "lines" / "pull-request.md"
    path.write_text(TEXT.format("XXXXX", "Did lines"))
    output = repo.good("pr", "lines", str(clone))
    left = output.partition("\nTitle: ")[0]
    assert "Open this ticket" in left and "text of a ticket" in left
    assert "ticket_XXXXX_lines" in output


def test_main_has_one(repo, clone):
    """What main has already is left out, whatever else it has."""
    query = (clone / "django" / "query.py").read_text()
    files = {
        "django/query.py": query.replace("LINE_15 = 15", "LINE_15 = 55"),
        NOTES: "Models\n\n* lines.\n\nSignals\n\n* Of others.\n",
    }
    commit(repo, clone, files)
    repo.good("pr", "signals", str(clone))
    assert log(repo, clone, "%s") == ["Fixed #22543 -- Did signals."]
    notes = repo.git("show", f"{BRANCH}:{NOTES}", cwd=clone)
    assert "* Of others.\n* signals." in notes or "* signals.\n* Of others." in notes


def nowhere(repo, clone):
    return clone / "nowhere"


def other_project(repo, clone):
    repo.git("rm", "-q", "-r", ".github", cwd=clone)
    repo.git("commit", "--quiet", "-m", "Not Django.", cwd=clone)


def no_main(repo, clone):
    repo.git("branch", "--quiet", "-m", "main", "trunk", cwd=clone)


def branch_exists(repo, clone):
    repo.git("branch", BRANCH, cwd=clone)


def stranger(repo, clone):
    for name in [name for name in repo.env if name.startswith("GIT_")]:
        del repo.env[name]


def new_template(repo, clone):
    text = TEMPLATE.replace("I have added or updated relevant tests", "Tests")
    commit(repo, clone, {".github/pull_request_template.md": text})


def conflict(repo, clone):
    text = (clone / "django" / "query.py").read_text()
    commit(repo, clone, {"django/query.py": text.replace('"quiet"', '"silent"')})


def no_text(repo, clone):
    (repo.patches / "signals" / "pull-request.md").unlink()


def fault(repo, clone):
    repo.edit(f"patches/{FIRST}", "+post_update = object()", "+post_update = 'FAULT'")


@pytest.mark.parametrize(
    "prepare, text",
    [
        (nowhere, "has no refs/heads/main of Django"),
        (other_project, "has no refs/heads/main of Django"),
        (no_main, "has no refs/heads/main of Django"),
        (branch_exists, "there is a branch ticket_22543_signals"),
        (stranger, "you are the author, and git says:"),
        (new_template, "has changed, and fill_in() must: no - \\[ \\] I have added"),
        (conflict, "signals does not apply: Fixed #22543 -- Sent the signals"),
        (no_text, "patches/signals/pull-request.md lacks: Ticket"),
        (fault, "the linters found faults:\n  black: "),
    ],
)
def test_refused(repo, clone, prepare, text):
    """What is refused leaves the clone as it is."""
    where = prepare(repo, clone) or clone
    before = state(repo, clone)
    assert text in repo.bad("pr", "signals", str(where))
    assert state(repo, clone) == before


def test_unknown_name(repo, clone):
    """The names that there are are given."""
    assert "nope is none of lines, signals" in repo.bad("pr", "nope", str(clone))


# Runs Django's own check on a text, with an accepted ticket and no network.
CHECK = """
import sys
sys.path.insert(0, sys.argv[1])
from pr_quality import check_pr
check_pr.get_recent_commit_count = lambda *args, **kwargs: 0
check_pr.get_pr_total_changes = lambda *args: 1000
check_pr.get_comment_ids_to_delete = lambda *args: []
check_pr.github_request = lambda *args: None
check_pr.fetch_trac_ticket = lambda number: {
    "custom": {"stage": "Accepted", "has_patch": "1"}, "status": "assigned"
}
text, title, report = sys.stdin.read(), *sys.argv[2:]
check_pr.main("x", "", "x", text, "1", title, summary_file=report)
"""


def test_djangos_own_check(repo, clone, tmp_path):
    """
    Django's check_pr.py has nothing to say to the text but what the person
    fills in; and nothing to what the person has filled in.
    """
    django = os.environ.get("DJANGO_MAIN", "")
    if not os.path.exists(f"{django}/scripts/pr_quality/check_pr.py"):
        pytest.skip("DJANGO_MAIN names no clone of Django's main branch")
    path = ".github/pull_request_template.md"
    show = ["git", "-c", "safe.directory=*", "show", f"main:{path}"]
    text = subprocess.run(show, cwd=django, capture_output=True, text=True, check=True)
    commit(repo, clone, {path: text.stdout})
    output = repo.good("pr", "signals", str(clone)).partition("\nTitle: ")[2]
    title, _, body = output.partition("\n")
    body = re.split(r"^-{79}$", body, flags=re.M)[0].strip()

    def complaints(body):
        report = tmp_path / "report"
        report.write_text("")
        command = [sys.executable, "-c", CHECK, f"{django}/scripts", title, report]
        subprocess.run(command, input=body, text=True, check=True)
        return re.findall(r"\| ([^|]*) \| (?:Error|Warning) \|", report.read_text())

    assert complaints(body) == ["AI disclosure completed", "Checklist completed"]
    filled = body.replace("- [ ] **No AI", "- [x] **No AI")
    filled = filled.replace("- [ ] This", "- [x] This")
    assert complaints(filled.replace("- [ ] I have not", "- [x] I have not")) == []
