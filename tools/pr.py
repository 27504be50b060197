"""
Pull requests on Django's main branch, in a clone: pr, and rebase CLONE.

On main, a pull request is on those that it needs, and in patches-main/,
a patch with "fixup! " before its subject becomes part of that commit; without,
it takes the place of that patch. ROOM, where this is done, borrows the objects
of the clone and of django/, so that "git am -3" can merge. Of release notes
git keeps both. All that a clone gets is a branch.
"""

import re
import shlex
import subprocess
from pathlib import Path

from tools import DJANGO, PATCHES, PATCHES_MAIN, ROOT, WORK, checkout, lint, queue
from tools.common import Error, indent, must, remove, run, say
from tools.environment import ensure
from tools.git import AM, CHECKOUT, changed, git, succeeds

ROOM = WORK / "main" / "django"
# The tag of the commit in ROOM that the pull requests are put on.
START = "start"
TEMPLATE = ".github/pull_request_template.md"
RESOLVE = f"""Nothing was changed. Resolve it in {ROOM}, then there
  git add FILES && git am --continue
  git format-patch -1 --zero-commit --full-index -o '{{}}'
puts it in the place of that in patches/. Run it again."""


def make_room(clone, commit):
    """Make the room with a commit of a clone, or raise Error."""
    template = ("rev-parse", "-q", "--verify", f"{commit}:{TEMPLATE}")
    if not (clone / ".git").exists() or not succeeds(*template, cwd=clone):
        problem = f"{clone} is not the top of a clone of Django that has {commit}."
        raise Error(f"{problem} Nothing was changed.")
    remove(ROOM.parent)
    borrow = ("--shared", f"--reference={DJANGO}", "--no-checkout")
    git("clone", "-q", *borrow, clone, ROOM, cwd=ROOT)
    (ROOM / ".git/info/attributes").write_text("docs/releases/*.txt merge=union\n")
    git("tag", "--force", START, git("rev-parse", commit, cwd=clone), cwd=ROOM)


def patches_of(pull):
    """Return the patches for main. Raise Error if one belongs to no other."""
    paths, found = sorted((PATCHES_MAIN / pull.name).glob("*.patch")), []
    more = [(queue.subject_of(path), path) for path in paths]
    for path in pull.patches:
        subject = queue.subject_of(path)
        found += [other for text, other in more if text == subject] or [path]
        found += [other for text, other in more if text == f"fixup! {subject}"]
    for path in set(paths).difference(found):
        raise Error(f"{path.relative_to(ROOT)} belongs to no patch. Correct it.")
    return found


def put_on_main(pull):
    """
    Put a pull request, after what it needs, on START in the room. Return
    [(pull request, ids of commits)], or raise Error if a patch doesn't apply.
    """
    say(f"  {pull.name}")
    git(*CHECKOUT, START, cwd=ROOM)
    found = []
    for one in (*pull.needs, pull):
        below = git("rev-parse", "HEAD", cwd=ROOM)
        for path in patches_of(one):
            done = run("git", *AM, "-3", path, cwd=ROOM)
            done.stdout = git("diff", "--name-only", "--diff-filter=U", cwd=ROOM)
            problem = f"{one.name} does not apply: {queue.subject_of(path)}"
            must(done, problem, RESOLVE.format(PATCHES_MAIN / one.name))
        git("rebase", "-q", "--interactive", "--autosquash", below, cwd=ROOM)
        found.append((one, checkout.commits(below, "HEAD", "%H", ROOM)))
    return found


def try_all(clone, commit):
    """Put each pull request on a commit of a clone, or raise Error."""
    checkout.base()
    make_room(clone, commit)
    for pull in queue.pull_requests():
        put_on_main(pull)
    remove(ROOM.parent)


def pr(options):
    """
    Make the branch of options.name in options.clone, and say what comes next;
    or raise Error, and leave the clone as it was. options.commits: keep them.
    """
    checkout.base()
    pulls = {one.name: one for one in queue.pull_requests()}
    if options.name not in pulls:
        raise Error(f"{options.name} is none of {', '.join(pulls)}.")
    pull, clone = pulls[options.name], Path(options.clone).resolve()
    branch = f"ticket_{pull.ticket or 'XXXXX'}_{pull.name}"
    make_room(clone, "refs/heads/main")
    try:
        if git("branch", "--list", branch, cwd=clone):
            raise Error(f"there is a branch {branch}: rename or delete it.")
        say(f"Applying to main of {clone}:")
        rows = commit_in(clone, put_on_main(pull), options.commits)
        text, left = fill_in(pull, changed(ROOM, START, rows[-1][0]))
        way = sections(ROOT / "docs" / "proposal.md", "The way, step by step")[1]
        python = ensure("lint", "docs")
        if failures := lint.lint_commits(python, ROOM, START, rows):
            raise Error(f"the linters found faults:\n{indent(failures)}")
        git("branch", "--no-track", branch, rows[-1][0], cwd=clone)
        remove(ROOM.parent)
    except Error as error:
        raise Error(f"{error}\nThe clone is as it was.") from None
    say(f"\nOnly you can fill in and tick this:\n{indent(left)}\n\nTitle: {text}\n")
    say(f"{'-' * 79}\nThe way:\n\n{way}\n\nMade in {clone}, and not pushed:")
    say(indent(checkout.commits("main", branch, cwd=clone)))
    say(f"Next: git -C {shlex.quote(str(clone))} switch {branch}")
    return 0


def commit_in(clone, made, keep):
    """
    Commit in a clone, by its user and on no branch, what put_on_main() made:
    one commit for each pull request, or, to keep them, all. Return what
    lint_commits() takes. Raise Error if git doesn't know the user, or if there
    is nothing to commit.
    """
    rows, tip = [], git("rev-parse", START, cwd=ROOM)
    git("fetch", "-q", "--no-tags", "--no-write-fetch-head", ROOM, "HEAD", cwd=clone)
    for pull, ids in made:
        if not ids:
            continue  # Main has all of it.
        main = lint.main_commit(ROOM, ids)
        for one in ids if keep else ids[-1:]:
            source = one if keep else main
            message = git("log", "-1", "--format=%B", source, cwd=ROOM)
            message = message.replace("#XXXXX", f"#{pull.ticket or 'XXXXX'}", 1)
            if source == main:
                message = "\n".join([describe(pull)[0], *message.splitlines()[1:]])
            # In the user's environment, whose name git must not guess.
            args = ["commit-tree", f"{one}^{{tree}}", "-p", tip, "-m", message]
            command = ["git", "-c", "user.useConfigOnly=true", *args]
            done = subprocess.run(command, cwd=clone, capture_output=True, text=True)
            tip = must(done, "you are the author, and git says")
            rows.append((tip, pull.ticket, source == main))
    if not rows:
        raise Error("main has all of it already.")
    return rows


def sections(path, *wanted):
    """Return the title of a Markdown file, and the texts below headings."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = re.split(r"^##? (.+)\n", text, flags=re.M)
    found = {name: text.strip() for name, text in zip(parts[1::2], parts[2::2])}
    if missing := [name for name in wanted if not found.get(name)]:
        raise Error(f"{path.relative_to(ROOT)} lacks: {', '.join(missing)}.")
    return [parts[1], *(found[name] for name in wanted)]


def describe(pull):
    """Return the title, ticket and description in a pull-request.md."""
    path = PATCHES / pull.name / "pull-request.md"
    title, *texts = sections(path, "Ticket", "Branch description", "Hunks")
    return title.replace("XXXXX", str(pull.ticket or "XXXXX")), *texts[:2]


def fill_in(pull, files):
    """
    Fill in Django's template of a pull request, which changes these files.
    Return the text, and what is left to the person. Raise Error if the
    template isn't what this was written for.
    """
    title, _, description = describe(pull)
    text = git("show", f"{START}:{TEMPLATE}", cwd=ROOM)
    boxes = ["This PR targets the `main` branch", "The commit message is written in"]
    for name in ("tests", "docs"):
        if any(file.startswith(f"{name}/") for file in files):
            boxes.append(f"I have added or updated relevant {name}")
    for old, new in (
        ("ticket-XXXXX", f"ticket-{pull.ticket or 'XXXXX'}"),
        ("<!-- Provide a concise overview .*-->", description),
        *((rf"- \[ \] {box}", f"- [x] {box}") for box in boxes),
    ):
        text, count = re.subn(old, lambda match: new, text, count=1)
        if not count:
            raise Error(f"{TEMPLATE} has changed, and fill_in() must: no {old}")
    left = [
        f"Open this ticket, and put its number in series.toml:\n{describe(one)[1]}\n"
        for one in (*pull.needs, pull)
        if not one.ticket
    ]
    left += re.findall(r"^- (\[ \] .*?) *(?:<!--.*)?$", text, re.M)
    return f"{title}\n\n{text}", left
