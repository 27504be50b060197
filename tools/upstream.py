"""
The way to Django's main branch: pr and rebase.

On main, the commits of a pull request are its patches, each with those that
patches-main/ has for it, on those of the pull requests that it needs. They are
made in .work/upstream/, a repository that borrows the objects of a clone and
of django/, so that "git am -3" can merge. All that a clone gets is a branch.

In patches-main/, a patch whose subject has "fixup! " before it becomes part of
that commit; without it, it takes the place of the patch with that subject.
Release notes never conflict with others: git keeps both.
"""

import re
import subprocess
from pathlib import Path

from tools import checkout, environment, lint, queue, release
from tools.git import (
    DJANGO,
    PATCHES_MAIN,
    ROOT,
    WORK,
    Error,
    git,
    indent,
    run_git,
    say,
)

ROOM = WORK / "upstream" / "django"
AM = "am -3 -q --keep-cr --no-scissors --committer-date-is-author-date".split()
FIXUP = "fixup! "
version = release.version  # Until series.py names release.version itself.
TEMPLATE = ".github/pull_request_template.md"
WAY = ROOT / "docs" / "proposal.md"


def make_room(clone, commit):
    """Make .work/upstream/ with a commit of a clone of Django's main."""
    found = clone.is_dir() and git(
        "rev-parse", "-q", "--verify", f"{commit}^{{commit}}", cwd=clone, check=False
    )
    if not found or run_git("cat-file", "-e", f"{found}:{TEMPLATE}", cwd=clone).stderr:
        raise Error(
            f"{clone} has no {commit} of Django.\nNothing was changed. Give a clone of "
            "https://github.com/django/django, and a commit of its main branch."
        )
    if ROOM.exists():
        raise Error(
            "a rebase is under way.\nNothing was changed. End it first: python3 "
            "series.py rebase --continue, or --abort"
        )
    ROOM.parent.mkdir(parents=True)
    git("clone", "-q", "--shared", "--no-checkout", clone, ROOM, cwd=ROOT)
    with (ROOM / ".git/objects/info/alternates").open("a") as file:
        file.write(f"{DJANGO}/.git/objects\n")
    with (ROOM / ".git/info/attributes").open("a") as file:
        file.write("docs/releases/*.txt merge=union\n")
    git("tag", "--force", "base", found, cwd=ROOM)


def ids(revisions):
    """Return the ids of commits in the room, oldest first."""
    return git("rev-list", "--reverse", revisions, cwd=ROOM).splitlines()


def own(pull):
    """Return the ids of a pull request's own commits in the room."""
    return ids(f"refs/series/{pull.name}-below..refs/series/{pull.name}")


def needs(pull, pulls):
    """Return the pull requests that one needs below it, in order."""
    names = set(pull.after)
    for other in reversed(pulls):
        names.update(other.after if other.name in names else ())
    return [other for other in pulls if other.name in names]


def patches_of(pull):
    """Return the patches of a pull request as they are for main."""
    paths, found = sorted((PATCHES_MAIN / pull.name).glob("*.patch")), []
    more = [(queue.subject_of(path), path) for path in paths]
    for path in pull.patches:
        subject = queue.subject_of(path)
        found += [other for text, other in more if text == subject] or [path]
        found += [other for text, other in more if text == FIXUP + subject]
    return found


def put_together(pulls):
    """
    Put each pull request on "base" and on what it needs, in the room.

    Those that are done are refs/series/NAME; git am knows where it stopped in
    the next one. Raise Error for a patch that doesn't apply.
    """
    for pull in pulls:
        ref, below = f"refs/series/{pull.name}", needs(pull, pulls)
        if git("for-each-ref", ref, cwd=ROOM):
            continue
        if (ROOM / ".git" / "rebase-apply").exists():
            done = run_git("am", "--continue", cwd=ROOM)
        else:
            say(f"  {pull.name}")
            lint.check_out(ROOM, "base")
            # One that main has already gave none.
            files = [ROOM.parent / f"{one.name}.mbox" for one in below if own(one)]
            done = run_git(*AM, *files, *patches_of(pull), cwd=ROOM)
        if done.returncode:
            files = git("diff", "--name-only", "--diff-filter=U", cwd=ROOM)
            said = done.stdout + done.stderr
            patch = re.search(r"Patch failed at \d+ (.*)", said)
            raise Error(
                f"{pull.name} does not apply: {patch[1] if patch else ''}\n"
                f"{indent(files or said)}"
            )
        start = ["base", *ids("base..HEAD")][sum(len(own(one)) for one in below)]
        git("update-ref", f"{ref}-below", start, cwd=ROOM)
        git("update-ref", ref, "HEAD", cwd=ROOM)
        text = git(*queue.FORMAT, "--stdout", f"{start}..HEAD", cwd=ROOM)
        (ROOM.parent / f"{pull.name}.mbox").write_text(f"{text}\n", encoding="utf-8")


# series.py pr


def pr(options):
    """
    Make the branch of a pull request in a clone, and print what comes next.

    options.name: of the pull request. options.clone: the clone.
    options.commits: whether to keep the commits, where Django asks for one.
    """
    checkout.base()
    pulls, clone = queue.pull_requests(), Path(options.clone).resolve()
    chain = [one for one in pulls if one.name == options.name]
    if not chain:
        names = ", ".join(one.name for one in pulls)
        raise Error(f"{options.name} is none of {names}.\nNothing was changed.")
    chain = [*needs(chain[0], pulls), *chain]
    branch = f"ticket_{chain[-1].ticket or 'XXXXX'}_{options.name}"
    _, way = read(WAY, "The way, step by step")
    with checkout.lock():
        make_room(clone, "refs/heads/main")
        try:
            person = identity(clone)
            if git("branch", "--list", branch, cwd=clone):
                raise Error(f"there is a branch {branch}: rename or delete it.")
            say(f"Applying to main of {clone}:")
            put_together(chain)
            rows = commit(chain, person, options.commits)
            files = lint.changed(ROOM, "base", rows[-1][0])
            title, text, left = fill_in(chain, files)
            python = environment.ensure("lint", "docs")
            failures = lint.lint_commits(python, ROOM, "base", rows)
            if failures:
                raise Error(f"the linters found faults:\n{indent(failures)}")
            ref = f"{rows[-1][0]}:refs/heads/{branch}"
            git(
                "fetch",
                "-q",
                "--no-tags",
                "--no-write-fetch-head",
                ROOM,
                ref,
                cwd=clone,
            )
        except Error as error:
            raise Error(
                f"{error}\nThe clone is as it was. Put it right and run it again. What "
                f"doesn't apply: python3 series.py rebase {clone} main"
            ) from None
        finally:
            environment.remove(ROOM.parent)
    say(f"\nOnly you can fill in and tick this:\n{indent(left)}\n\nTitle: {title}\n")
    say(f"{text}\n{'-' * 79}\nThe way:\n\n{way}\n\nMade in {clone}, and not pushed:")
    say(git("log", "--reverse", "--format=  %h %s", f"main..{branch}", cwd=clone))
    say(f"Next: git switch {branch}")
    return 0


def identity(clone):
    """Return git's variables with the name and address of the clone's user."""
    # They come from the user's settings alone, and not from the host's name.
    command = "git -c user.useConfigOnly=true var GIT_AUTHOR_IDENT".split()
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    found = re.match(r"(.+) <(.+)> \d+ ", done.stdout)
    if not found:
        raise Error(
            f"git in {clone} does not know you, and you are the author. Set it:\n"
            "git config user.name NAME && git config user.email ADDRESS"
        )
    names = ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL")
    return {f"GIT_{name}": value for name, value in zip(names, found.groups() * 2)}


def commit(chain, person, keep):
    """
    Commit what is in the room anew, by the person.

    chain: the pull requests, in order. keep: whether to keep their commits.
    Return what lint_commits() takes. Raise Error if there's nothing to commit.
    """
    tip, rows = "base", []
    rest = iter(ids(f"base..refs/series/{chain[-1].name}"))
    for pull in chain:
        groups = []
        for one in [next(rest) for _ in own(pull)]:
            message = git("log", "-1", "--format=%B", one, cwd=ROOM)
            if groups and message.startswith(FIXUP):
                message = groups.pop()[1]
            groups = [*groups, (one, message)] if keep else [(one, message)]
        for one, message in groups:
            last = one == groups[-1][0]
            if last:
                message = "\n".join([describe(pull)[0], *message.splitlines()[1:]])
            args = ("commit-tree", f"{one}^{{tree}}", "-p", tip)
            tip = git(*args, cwd=ROOM, input=message, env=person)
            rows.append((tip, pull.ticket, last))
    if not rows:
        raise Error("main has all of it already.")
    return rows


def read(path, *wanted):
    """
    Return the first heading of a Markdown file, and the texts below others.

    Raise Error if one of these is missing or empty.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = re.split(r"^##? (.+)\n", text, flags=re.M)
    found = {name: text.strip() for name, text in zip(parts[1::2], parts[2::2])}
    missing = [name for name in wanted if not found.get(name)]
    if missing:
        raise Error(f"{path.relative_to(ROOT)} lacks: {', '.join(missing)}.")
    return [parts[1], *(found[name] for name in wanted)]


def describe(pull):
    """Return the title, ticket and description in a pull-request.md."""
    wanted = ("Ticket", "Branch description", "Hunks")
    title, ticket, description, _ = read(pull.path / "pull-request.md", *wanted)
    return title.replace("XXXXX", str(pull.ticket or "XXXXX")), ticket, description


def fill_in(chain, files):
    """
    Fill in Django's template of a pull request.

    chain: the pull request, after those it needs. files: those that it
    changes. Return the title, the text, and a line for each thing that is left
    to the person. Raise Error if the template isn't what this was written for.
    """
    title, _, description = describe(chain[-1])
    text = git("show", f"base:{TEMPLATE}", cwd=ROOM)
    about = re.search("<!-- Provide a concise overview .*-->", text)
    for old, new in (
        ("ticket-XXXXX", f"ticket-{chain[-1].ticket or 'XXXXX'}"),
        (about[0] if about else "<!-- Provide", description),
        ("- [ ] This PR targets the `main` branch", True),
        ("- [ ] The commit message is written in past tense", True),
        ("- [ ] I have added or updated relevant tests", "'tests/" in str(files)),
        ("- [ ] I have added or updated relevant docs", "'docs/" in str(files)),
    ):
        if old not in text:
            raise Error(f"{TEMPLATE} has changed, and fill_in() must: no {old}")
        new = old.replace("[ ]", "[x]") if new is True else new
        text = text.replace(old, new or old, 1)
    left = [
        f"XXXXX of {pull.name}: open this ticket, and put its number in "
        f"patches/series.toml\n{describe(pull)[1]}\n"
        for pull in chain
        if not pull.ticket
    ]
    left += re.findall(r"^- (\[ \] .*)$", re.sub("<!--.*?-->", "", text), re.M)
    return title, text, [re.sub(r"\]\(.*?\)", "]", line) for line in left]


# series.py rebase


def rebase(options):
    """
    Bring patches-main/ in line with a commit of a clone, or make a release the
    base, by what is in options.base. Or go on with what was resolved
    (options.continue), or give up (options.abort).
    """
    target, commit = (*options.base, "refs/heads/main")[:2] if options.base else (0, 0)
    if target and re.fullmatch(r"\d+(\.\d+)+((a|b|rc)\d+)?", target):
        return release.rebase(target)
    pulls = queue.pull_requests()
    with checkout.lock():
        if not target and not ROOM.exists():
            raise Error("no rebase is under way.\nNothing was changed. Begin one.")
        if options.abort:
            environment.remove(ROOM.parent)
            say("Gave up. Nothing has changed.")
            return 0
        if target:
            checkout.base()
            make_room(Path(target).resolve(), commit)
        marks = (
            run_git("diff", "HEAD", "--check", cwd=ROOM).stdout if not target else ""
        )
        try:
            if "leftover conflict marker" in marks:
                raise Error(f"there still are conflicts:\n{indent(marks)}")
            put_together(pulls)
        except Error as error:
            raise Error(
                f"{error}\nNothing is written before all applies. Resolve it in "
                f"{ROOM}, and\n  git -C {ROOM} add FILES\n  python3 series.py rebase "
                "--continue\nor give up: python3 series.py rebase --abort"
            ) from None
        for pull in pulls:
            write_main(pull)
        environment.remove(ROOM.parent)
    say("All patches apply, with what is in patches-main/.")
    return 0


def write_main(pull):
    """
    Write a pull request's patches-main/: what is for main alone, and what git
    can't apply there as it is in patches/.
    """
    new, old = ROOM.parent / pull.name, PATCHES_MAIN / pull.name
    known = {queue.subject_of(path): path for path in pull.patches}
    for one in own(pull):
        path = known.get(git("log", "-1", "--format=%s", one, cwd=ROOM))
        lint.check_out(ROOM, f"{one}^")
        failed = not path or run_git(*AM, path, cwd=ROOM).returncode
        if failed or run_git("diff", "--quiet", one, "HEAD", cwd=ROOM).returncode:
            number = f"--start-number={len(list(new.glob('*'))) + 1}"
            git(*queue.FORMAT, number, f"-o{new}", f"{one}^..{one}", cwd=ROOM)
        run_git("am", "--abort", cwd=ROOM)
    texts = [{path.name: path.read_bytes() for path in d.glob("*")} for d in (old, new)]
    if texts[0] != texts[1]:
        environment.remove(old)
        old.mkdir(parents=True)
        for name, text in texts[1].items():
            (old / name).write_bytes(text)
        say(f"  wrote {old.relative_to(ROOT)}/")
