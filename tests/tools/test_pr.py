"""The branch that "pr" makes in a clone."""

import pytest

from conftest import SUBJECTS, write_files

BRANCH = "ticket_22543_signals"
QUERY = "django/query.py"
NOTES = "docs/releases/6.2.txt"


def log(repo, clone, branch=BRANCH, pretty="%s"):
    """Return the commits of a branch, newest first."""
    args = ("log", f"--format={pretty}", f"main..{branch}")
    return repo.git(*args, cwd=clone).splitlines()


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


def test_layers(repo, clone):
    """
    Layers may have the same ticket. Each becomes one commit, with the title of
    its pull request and the body of the commit that it's about, whatever docs
    follow; one that needs a layer needs what is below that, too.
    """
    with (repo.patches / "series.toml").open("a") as file:
        for name, after in (("more", "signals"), ("howto", "more"), ("other", "lines")):
            row = f'name = "{name}"\nafter = ["{after}"]\nticket = 22543\n'
            file.write(f"\n[[pull_request]]\n{row}")
    for name, files in (
        ("more", {"django/more.py": "MORE = 1\n"}),
        ("more", {"docs/more.txt": "Docs.\n"}),
        ("howto", {"docs/howto.txt": "How to.\n"}),
        ("other", {"django/other.py": "OTHER = 1\n"}),
    ):
        (path,) = files
        verb = "Fixed" if path == "django/more.py" else "Refs"
        repo.commit(f"{verb} #22543 -- Added {path}.\n\nA body of {path}.", files)
        repo.good("export", "--to", name)
        text = (repo.patches / "lines" / "pull-request.md").read_text()
        text = text.replace("Fixed #1 -- Did lines", f"Refs #22543 -- Did {name}")
        (repo.patches / name / "pull-request.md").write_text(text)
    # What is in patches-main/ is for main only.
    fixup = repo.shell("git format-patch -1 --stdout HEAD~1 | sed /^Sub/!s/how/help/g")
    fixup = fixup.replace("[PATCH] ", "[PATCH] fixup! ")
    write_files(repo.root, {"patches-main/howto/0001-fixup.patch": fixup + "\n"})
    repo.good("check")
    output = repo.run("lint", "--no-docs")[1]
    assert output.count("message: passed") == 7
    first = ["Fixed #1 -- Did lines."]
    layers = [f"Refs #22543 -- Did {name}." for name in ("howto", "more")]
    layers += ["Fixed #22543 -- Did signals.", *first]
    for name, subjects in (
        ("lines", first),
        ("howto", layers),
        ("other", ["Refs #22543 -- Did other.", *first]),
    ):
        repo.good("pr", name, str(clone))
        ticket = 1 if name == "lines" else 22543
        assert log(repo, clone, f"ticket_{ticket}_{name}") == subjects
    more = repo.git("log", "-1", "--format=%b", "ticket_22543_howto~1", cwd=clone)
    assert more == "A body of django/more.py."
    files = ("show", "--format=", "--name-only", "ticket_22543_howto")
    assert repo.git(*files, cwd=clone) == "docs/helpto.txt\ndocs/howto.txt"
    assert "All patches apply" in repo.good("rebase", str(clone))


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
    repo.env = {name: repo.env[name] for name in repo.env if "GIT_" not in name}
    # Nor is one made up of what the machine knows.
    output = repo.refuses("pr", "signals", str(clone), EMAIL="bea@example.com")
    assert "you are the author" in output
