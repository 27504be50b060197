"""The branch that "pr" makes in a clone; "rebase" and "version"."""

import hashlib
import re

import pytest

from conftest import ALONE, SDIST, SECOND, SUBJECTS

BRANCH = "ticket_22543_signals"
QUERY = "django/query.py"
NEXT = "6.1.4"
NOTES = "docs/releases/6.2.txt"


def log(repo, clone, branch=BRANCH, pretty="%s"):
    """Return the commits of a branch, newest first."""
    args = ("log", f"--format={pretty}", f"main..{branch}")
    return repo.git(*args, cwd=clone).splitlines()


def resolve(repo, room):
    """Resolve the conflict in query.py."""
    text, new = (room / QUERY).read_text(), '    return "sent loudly"'
    (room / QUERY).write_text(re.sub("(?s)<<<<<<<.*>>>>>>>[^\n]*", new, text))
    repo.git("add", QUERY, cwd=room)


def test_branch(repo, clone):
    """
    There is one commit for each pull request, by the person, with the notes;
    nothing else in the clone changes, or is pushed; the rest is printed.
    """
    repo.env.update(GIT_AUTHOR_NAME="Bea", GIT_COMMITTER_NAME="Bea")
    before, origin = repo.contents(clone), repo.contents()
    output = repo.good("pr", "signals", str(clone))
    after = repo.contents(clone)
    assert {path.name for path in after.keys() - before.keys()} == {BRANCH}
    assert all(after[path] == before[path] for path in before)
    assert repo.contents() == origin
    assert log(repo, clone, pretty="%an %cn %s") == [
        "Bea Bea Fixed #22543 -- Did signals.",
        "Bea Bea Fixed #1 -- Did lines.",
    ]
    notes = repo.git("show", f"{BRANCH}:{NOTES}", cwd=clone)
    assert notes == "Models in 6.2\n\n* lines.\n\nSignals in 6.2\n\n* signals."
    ours = (repo.checkout / QUERY).read_text()
    assert repo.git("show", f"{BRANCH}:{QUERY}", cwd=clone) == ours.strip()
    left, _, text = output.partition("\nTitle: ")
    assert "[ ] This PR follows the [guidelines" in left.partition("\nOnly you")[2]
    assert "\nticket-22543\n" in text and "This is what it does." in text
    assert text.count("- [x] ") == 4 and text.count("- [ ] ") == 1
    assert "1. Go on." in text and f" switch {BRANCH}" in text
    # --commits keeps them, each with its own notes, and the same files.
    tree = repo.git("rev-parse", f"{BRANCH}^{{tree}}", cwd=clone)
    repo.git("branch", "--quiet", "-D", BRANCH, cwd=clone)
    repo.good("pr", "signals", str(clone), "--commits")
    assert repo.git("rev-parse", f"{BRANCH}^{{tree}}", cwd=clone) == tree
    commits = ["Fixed #22543 -- Did signals.", SUBJECTS[1], "Fixed #1 -- Did lines."]
    assert log(repo, clone) == commits
    assert NOTES in repo.git("show", "--name-only", f"{BRANCH}~1", cwd=clone)


def test_independent_without_a_ticket(repo, clone):
    """It has no other below it; the text of a ticket to open is told."""
    repo.edit("patches/series.toml", "\nticket = 1\n", "\n")
    repo.edit("patches/lines/pull-request.md", "#1 ", "#XXXXX ")
    left = repo.good("pr", "lines", str(clone)).partition("\nTitle: ")[0]
    assert "XXXXX" in left and "text of a ticket" in left
    subjects = log(repo, clone, "ticket_XXXXX_lines")
    assert subjects == ["Fixed #XXXXX -- Did lines."]


def test_number_in_all_subjects(repo, clone):
    """A ticket that was opened later has its number in each commit."""
    repo.shell("sed -i 's/Refs #22543/Refs #XXXXX/' patches*/signals/0001*", repo.root)
    repo.good("pr", "signals", str(clone), "--commits")
    assert log(repo, clone)[1] == SUBJECTS[1]


def test_main_has_one(repo, clone):
    """What main has already is left out, whatever else it has."""
    notes = f"sed -i '3s/[.]*$/lines./;7s/[.]*$/Others./' {NOTES}"
    repo.shell(f"{notes}; sed -i 's/= 15$/= 55/' {QUERY}; git commit -qam X", clone)
    repo.good("pr", "signals", str(clone))
    assert log(repo, clone) == ["Fixed #22543 -- Did signals."]
    notes = repo.git("show", f"{BRANCH}:{NOTES}", cwd=clone)
    assert "* Others.\n* signals." in notes or "* signals.\n* Others." in notes


@pytest.mark.parametrize(
    "script, text",
    [
        ("git branch -m main trunk", "clone of Django that has refs/heads/main"),
        (f"git branch {BRANCH}", f"there is a branch {BRANCH}"),
        ("sed -i s/updated/changed/ .github/*.md", "fill_in() must"),
        (f"sed -i s/quiet/silent/ {QUERY}", f"does not apply: {SUBJECTS[2]}"),
        ('sed -i s/Ticket/T/ "$ROOT"/patches/signals/*.md', "lacks: Ticket"),
        ('sed -i s/Changed/X/ "$ROOT"/patches-main/lines/*', "belongs to no patch"),
        ('sed -i s/+post_up/+FAULT/ "$ROOT"/patches/signals/0001*', "  black: "),
    ],
)
def test_refused(repo, clone, script, text):
    """What is refused leaves the clone as it is."""
    repo.shell(f"{script}; git commit -qam X || true", clone)
    before = repo.contents(clone)
    assert text in repo.refuses("pr", "signals", str(clone))
    assert repo.contents(clone) == before


def test_wrong_arguments(repo, clone):
    """There is no such pull request, Django, or author."""
    assert "nope is none of lines, signals" in repo.refuses("pr", "nope", str(clone))
    for where in ("/nowhere", str(repo.checkout)):
        assert "of Django" in repo.refuses("pr", "signals", where)
    for target in ("nonsense", ".", "6.1.99"):
        assert "of Django" in repo.refuses("rebase", target)
    repo.env = {name: repo.env[name] for name in repo.env if "GIT_" not in name}
    assert "you are the author" in repo.refuses("pr", "signals", str(clone))


def test_main_has_moved(repo, clone):
    """Git merges what it can, and others' notes; the clone stays as it is."""
    notes = f"sed -i '3s/[.]*$/Others./' {NOTES}"
    repo.shell(f"{notes}; sed -i 's/= 13$/= 130/' {QUERY}; git commit -qam X", clone)
    there, patches = repo.contents(clone), repo.series()
    assert "All patches apply" in repo.good("rebase", str(clone), "main")
    after = repo.contents()
    repo.good("rebase", str(clone))
    assert (repo.contents(), repo.contents(clone)) == (after, there)
    assert repo.series() == patches
    assert not (repo.root / ".work" / "upstream").exists()


def test_main_conflict(repo, clone):
    """
    A conflict names the patch and the file, and changes nothing. What is
    resolved becomes a patch for main by the commands that are given.
    """
    repo.shell(f"sed -i s/quiet/silent/ {QUERY}; git commit -qam X", clone)
    before, patches = repo.contents(), repo.series()
    output = repo.bad("rebase", str(clone))
    assert f"signals does not apply: {SUBJECTS[2]}" in output and QUERY in output
    assert repo.contents() == before
    room = repo.root / ".work" / "upstream" / "django"
    resolve(repo, room)
    for line in output.replace("FILES", ".").splitlines():
        if line.startswith("  git "):
            repo.shell(line, room)
    (path,) = (repo.root / "patches-main" / "signals").glob("*-Fixed-22543*")
    assert '"silent"\n+    return "sent loudly"' in path.read_text()
    repo.good("rebase", str(clone))
    repo.good("check")
    assert repo.series() == patches


def test_release(repo, tmp_path):
    """
    The base and the patches become those of a release. Where git stops in
    django/, nothing is written until that is resolved.
    """
    sdist = tmp_path / f"django-{NEXT}.tar.gz"
    repo.env.update(PIP_FIND_LINKS=str(tmp_path), GIT_EDITOR="true")
    repo.shell(
        f"""tar -xf "$ROOT/.work/{SDIST}"; mv django-* django-{NEXT}; cd django-{NEXT}
        sed -i s/6.1.3/{NEXT}/ *.py *.toml PKG-INFO
        sed -i 's/= 9$/= 99/;s/quiet/silent/' {QUERY}
        cd ..; tar -czf {sdist} django-{NEXT}""",
        tmp_path,
    )
    repo.shell("git rm -q extras/run; git commit -qm Mine.")
    assert "django/ and patches/ differ" in repo.refuses("rebase", NEXT)
    repo.git("reset", "--quiet", "--hard", "HEAD~1")
    toml, before = (repo.root / "upstream.toml").read_text(), repo.series()
    output = repo.bad("rebase", NEXT)
    assert QUERY in output and "rebase --continue" in output
    repo.bad("rebase", NEXT)
    assert (repo.root / "upstream.toml").read_text() == toml
    assert repo.series() == before
    resolve(repo, repo.checkout)
    repo.git("rebase", "--continue")
    repo.good("rebase", NEXT)
    toml, after = (repo.root / "upstream.toml").read_text(), repo.series()
    assert hashlib.sha256(sdist.read_bytes()).hexdigest() in toml
    assert repo.git("rev-parse", f"upstream/{NEXT}^{{tree}}") in toml
    assert "LINE_9 = 99" in (repo.checkout / QUERY).read_text()
    assert after.keys() == before.keys() and after[ALONE] != before[ALONE]
    assert b'"silent"\n+    return "sent loudly"' in after[SECOND]
    repo.good("check")


def test_version(repo, clone):
    """One command changes the version in all that follows from it."""
    doc = '"""\n.. versionadded:: 6.2\n"""\n'
    repo.commit(SUBJECTS[2], {"django/doc.py": doc}, "--amend")
    repo.good("export")
    repo.good("version", "7.0")
    assert 'lands = "7.0"' in (repo.patches / "series.toml").read_text()
    assert b"\n+.. versionadded:: 7.0\n" in repo.series()[SECOND]
    for path in repo.root.glob("patches*/*/*.patch"):
        assert "6.2" not in path.read_text()
    repo.good("check")
    assert "isn't like 6.2" in repo.refuses("version", "seven")
    script = "cd docs/releases; sed s/6.2/7.0/ 6.2.txt >7.0.txt; git add 7.0.txt"
    repo.shell(f"{script}; git commit -qm X", clone)
    repo.good("rebase", str(clone))
