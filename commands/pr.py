"""
Make the branch of the pull request in a clone of Django.

The patches are applied to main one by one, each with what patches-main/ has
for it, in a repository of their own, from which the clone gets the files. Only
when the linters have passed do its branches and its work tree change.

The text for the pull request is the clone's own template, filled in from
docs/pull-request.md.
"""

import os
import re
import subprocess
import tempfile
import textwrap
from pathlib import Path

import series
from commands import lint, rebase
from series import (
    BRANCH,
    MESSAGE_WIDTH,
    ROOT,
    TICKET,
    WORK,
    Error,
    git,
    indent,
    relative,
    say,
)

HELP = (
    f"Make the branch {BRANCH} in a clone of Django's main branch, run Django's "
    "linters on it, and print what is left to do by hand. Never pushes."
)
TEXT = ROOT / "docs" / "pull-request.md"
TEMPLATE = ".github/pull_request_template.md"
# What the template has for the ticket, and where the description belongs.
PLACEHOLDER = "ticket-XXXXX"
DESCRIPTION = re.compile(r"^Provide a concise overview .*$", re.M)
UNTOUCHED = "everything, in the clone and here."


def add_arguments(parser):
    """Add the command's arguments."""
    parser.add_argument("clone", metavar="CLONE", help="a clone of django/django")
    parser.add_argument(
        "--squash",
        action="store_true",
        help="make a single commit, as Django's checklist prefers",
    )


def run(options):
    """Run the command. Return the exit status."""
    series.require_git()
    upstream = series.load_upstream()
    clone = Path(options.clone).resolve()
    complaints = series.check_files()
    if complaints:
        raise Error(
            f"patches/ has mistakes:\n{indent(complaints)}",
            UNTOUCHED,
            "see what check says, and put them right.",
        )
    committer = require_clone(clone, upstream)
    base = git("rev-parse", "refs/heads/main", cwd=clone)
    body = fill_template(
        git("show", f"{base}:{TEMPLATE}", cwd=clone),
        TEXT.read_text(encoding="utf-8"),
    )
    say(f"Applying the patches to main, {base[:10]}:")
    tip = make_commits(clone, base, committer)
    if tip == base:
        raise Error("main has all of the series.", UNTOUCHED, "nothing.")
    if options.squash:
        tip = squash(clone, base, tip, committer)
        say("  squashed into one commit")
    lint.install()
    failures = lint.lint_commits(clone, base, tip)
    if failures:
        raise Error(
            f"the linters found faults:\n{indent(failures)}",
            f"the clone's branches and files; there is no {BRANCH}.",
            "put them right in django/, export, and run pr again.",
        )
    theirs(clone, "branch", "--no-track", BRANCH, tip)
    theirs(clone, "switch", "--quiet", BRANCH)
    WORK.mkdir(exist_ok=True)
    file = WORK / "pull-request.md"
    file.write_text(body, encoding="utf-8")
    say(f"\n{clone} is on {BRANCH} now:")
    log = git("log", "--reverse", "--format=%h %s", f"{base}..{tip}", cwd=clone)
    say(indent(log))
    say(f"\nThe text of the pull request, also in {relative(file)}:\n")
    say(f"{body.rstrip()}\n")
    say(left_to_do(clone, base, tip, committer["GIT_COMMITTER_NAME"]))
    return 0


def ask_theirs(clone, *args):
    """Run git in the clone as its user would. Return the CompletedProcess."""
    env = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_")
    }
    # Who commits may be given by variables.
    for name in ("NAME", "EMAIL"):
        for who in ("AUTHOR", "COMMITTER"):
            key = f"GIT_{who}_{name}"
            if key in os.environ:
                env[key] = os.environ[key]
    return subprocess.run(
        ["git", *args],
        cwd=clone,
        env={**env, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )


def theirs(clone, *args):
    """Run git in the clone as its user would, or raise Error."""
    done = ask_theirs(clone, *args)
    if done.returncode:
        raise Error(
            f'"git {args[0]}" failed in {clone}:\n{indent(done.stderr.strip())}',
            "the clone's main branch.",
            f"put right what git names, delete {BRANCH} if it is there, and run\n"
            "  pr again.",
        )
    return done.stdout.rstrip("\n")


def require_clone(clone, upstream):
    """
    Raise Error unless a directory is a clean clone with a main to build on.

    Return git's variables with the name and address of its user.
    """

    def refuse(what, todo):
        raise Error(what, UNTOUCHED, todo)

    def at_main(path):
        return series.run_git("show", f"refs/heads/main:{path}", cwd=clone)

    def has(name):
        return not series.run_git(
            "show-ref", "--verify", "--quiet", name, cwd=clone
        ).returncode

    get = "give the directory of a clone of https://github.com/django/django"
    top = clone.is_dir() and ask_theirs(clone, "rev-parse", "--show-toplevel")
    if not top or top.returncode or Path(top.stdout.strip()).resolve() != clone:
        refuse(f"{clone} is not the top of a git clone.", f"{get}.")
    if not has("refs/heads/main"):
        refuse(f"{clone} has no branch main.", f"{get}, with its main branch.")
    found = re.search(
        r"^VERSION = \((\d+), (\d+)", at_main("django/__init__.py").stdout, re.M
    )
    if not found or at_main(TEMPLATE).returncode:
        refuse(f"main in {clone} is not Django's.", f"{get}.")
    version = tuple(map(int, found.groups()))
    if version <= series.version_key(upstream["version"])[:2]:
        refuse(
            f"main in {clone} is Django {found[1]}.{found[2]}, which is older than "
            f"what follows {upstream['version']}.",
            "update it: git switch main && git pull",
        )
    if has(f"refs/heads/{BRANCH}"):
        refuse(
            f"{clone} has a branch {BRANCH} already.",
            f"rename it (git branch -m {BRANCH} old) or delete it.",
        )
    changes = theirs(clone, "status", "--porcelain").splitlines()
    if changes:
        refuse(
            f"{clone} has uncommitted changes:\n{indent(changes)}",
            "commit them, or put them away with: git stash --include-untracked",
        )
    done = ask_theirs(clone, "var", "GIT_COMMITTER_IDENT")
    identity = re.match(r"(.+) <(.+)> \d+ [+-]\d{4}$", done.stdout.strip())
    if not identity:
        refuse(
            "git does not know who you are.",
            "set it: git config user.name NAME && git config user.email EMAIL",
        )
    return dict(zip(("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"), identity.groups()))


def read_mail(path):
    """Return (subject, message, git's variables of the author) of a patch."""
    with tempfile.TemporaryDirectory() as temp:
        headers = git(
            *("mailinfo", "--encoding=UTF-8", "message", "patch"),
            cwd=temp,
            stdin=path.read_bytes(),
        )
    fields = dict(re.findall(r"^(\w+): (.*)$", headers, re.M))
    subject, body = series.patch_message(path)
    author = {
        "GIT_AUTHOR_NAME": fields["Author"],
        "GIT_AUTHOR_EMAIL": fields["Email"],
        "GIT_AUTHOR_DATE": fields["Date"],
    }
    return subject, "\n".join([subject, "", *body]).strip() + "\n", author


def make_commits(clone, base, committer):
    """
    Commit the patches as they are for main on a commit of the clone.

    Neither its work tree, nor its index, nor a branch changes. Return the id
    of the last commit. Raise Error for a patch that doesn't apply.
    """
    commits, made = series.main_parts(), []
    with tempfile.TemporaryDirectory(prefix="series-") as temp:
        room = Path(temp)
        # Git can merge if it has the files that a patch was made from.
        known = [series.CHECKOUT] if series.is_checkout() else []
        rebase.check_out(room, base, clone, *known)
        for number, (subject, paths) in enumerate(commits, 1):
            say(f"  {number} of {len(commits)}: {subject}")
            for path in paths:
                if rebase.apply_patch(room, path).returncode:
                    raise conflict(clone, path, rebase.files_in_conflict(room))
            made.append((paths[0], git("rev-parse", "HEAD^{tree}", cwd=room)))
        git(
            *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", room, "HEAD"),
            cwd=clone,
        )
    tip, last = base, git("rev-parse", f"{base}^{{tree}}", cwd=clone)
    for path, tree in made:
        subject, message, author = read_mail(path)
        if tree == last:
            say(f"  main has this already; left out: {subject}")
            continue
        tip = git(
            *("commit-tree", tree, "-p", tip),
            cwd=clone,
            env={**author, **committer},
            stdin=message.encode(),
        )
        last = tree
    return tip


def conflict(clone, path, files):
    """Return the Error for a patch that does not apply to main."""
    return Error(
        f"{relative(path)} does not apply to main:\n"
        + indent(files or ["git found nothing to merge it with"]),
        "the clone's branches and files.",
        f"resolve it: python3 series.py rebase {clone} main",
    )


def squash(clone, base, tip, committer):
    """Make one commit of base..tip. Return its id."""
    rows = git("log", "--reverse", "--format=%s", f"{base}..{tip}", cwd=clone)
    *others, _ = rows.splitlines()
    _, (path, *_) = series.main_parts()[-1]
    _, message, author = read_mail(path)
    # Trailers and thanks end the message.
    body, thanks = re.fullmatch(r"(.*?)((?:\n\nThanks .*)?)\n", message, re.S).groups()
    items = [
        textwrap.fill(
            re.sub(r"^.*? -- ", "", subject),
            MESSAGE_WIDTH,
            initial_indent="* ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for subject in others
    ]
    listed = "\n\nIn preparation:\n\n" + "\n".join(items) if items else ""
    return git(
        *("commit-tree", f"{tip}^{{tree}}", "-p", base),
        cwd=clone,
        env={**author, **committer},
        stdin=f"{body}{listed}{thanks}\n".encode(),
    )


def sections(text):
    """Return {title: text} of the parts of a Markdown file."""
    parts = re.split(r"^## (.+)\n", text, flags=re.M)
    return {title: part.strip() for title, part in zip(parts[1::2], parts[2::2])}


def fill_template(template, text):
    """
    Fill in Django's pull request template.

    template: its text. text: that of docs/pull-request.md, whose sections
    "Branch description" and "Checklist" are used. Of the checklist, those
    items are ticked that the latter names. The disclosure of assistance stays
    open.
    Raise Error if the template isn't the one that this was written for.
    """
    parts = sections(text)
    named = re.findall(r"^- \[x\] (.+)$", parts["Checklist"], re.M)
    problems = [
        f"the template has no {what}"
        for what, found in (
            (f'"{PLACEHOLDER}"', PLACEHOLDER in template),
            ("place for the description", DESCRIPTION.search(template)),
            ("disclosure of assistance", "AI Assistance Disclosure" in template),
        )
        if not found
    ]
    filled = template.replace(PLACEHOLDER, f"ticket-{TICKET}")
    description = parts["Branch description"]
    filled = DESCRIPTION.sub(lambda match: description, filled, count=1)
    for item in named:
        ticked = filled.replace(f"- [ ] {item}", f"- [x] {item}", 1)
        if ticked == filled:
            problems.append(f"its checklist has no item: {item}")
        filled = ticked
    if problems:
        raise Error(
            f"Django's {TEMPLATE} has changed:\n{indent(problems)}",
            UNTOUCHED,
            f"bring {relative(TEXT)} and commands/pr.py in line with it.",
        )
    return filled


def left_to_do(clone, base, tip, name):
    """Return what the person has to do, as text."""
    authors = git("show", f"{base}:AUTHORS", cwd=clone)
    who = git("log", "-1", "--format=%an <%ae>", tip, cwd=clone)
    # What to do, and the command or address for it.
    steps = [
        ("Read every commit. You answer for it in the review.", ""),
        (
            "Disclose which tools assisted, truthfully, in the text above, and tick "
            "those items of the checklist that are left open if they hold.",
            "",
        ),
        (
            f"The author of the commits is {who}, as in the patches. If that is not "
            "you:",
            "git rebase --exec 'git commit --quiet --amend --no-edit --reset-author' "
            f"{base[:10]}",
        ),
        ("Push to your fork:", f"git push FORK {BRANCH}"),
        (
            "Open the pull request against main:",
            f"https://github.com/django/django/compare/main...YOU:{BRANCH}",
        ),
        (
            'Take the ticket ("assigned to"), link the pull request, set "Has patch", '
            'and unset "Needs documentation", "Needs tests" and "Patch needs '
            'improvement":',
            f"https://code.djangoproject.com/ticket/{TICKET}",
        ),
    ]
    if f"    {name} <" not in authors:
        steps.insert(
            1,
            (f"Add yourself to AUTHORS ({name} is not in it), in the last commit.", ""),
        )
    lines = ["Left for you:"]
    for number, (step, command) in enumerate(steps, 1):
        lines.append(
            textwrap.fill(
                step,
                79,
                initial_indent=f"{number}. ",
                subsequent_indent="   ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
        if command:
            lines.append(f"   {command}")
    return "\n".join(lines)
