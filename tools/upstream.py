"""
The way to other bases: pr, rebase, and version.

On main, a pull request is on those that it needs, and in patches-main/,
a patch with "fixup! " before its subject becomes part of that commit; without,
it takes the place of that patch. ROOM, where this is done, borrows the objects
of a clone and of django/, so that "git am -3" can merge. Of release notes git
keeps both. All that a clone gets is a branch.
"""

import hashlib
import json
import re
import shlex
import subprocess
from argparse import Namespace
from pathlib import Path

from tools import DJANGO, PATCHES, PATCHES_MAIN, ROOT, WORK, checkout, lint, queue
from tools.environment import ensure
from tools.git import Error, git, indent, must, remove, run, say, succeeds, upstream

ROOM = WORK / "upstream" / "django"
AM = "am -3 -q --keep-cr --no-scissors --committer-date-is-author-date".split()
TEMPLATE = ".github/pull_request_template.md"
RESOLVE = f"""Nothing was changed. Resolve it in {ROOM}, then there
  git add FILES && git am --continue
  git format-patch -1 --zero-commit --full-index -o '{{}}'
puts it in the place of that in patches/. Run it again."""
LANDS = re.compile(rb'^lands = "(.*)"$', re.M)


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
    git("tag", "--force", "base", git("rev-parse", commit, cwd=clone), cwd=ROOM)


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


def put_together(pull):
    """
    Put a pull request, after what it needs, on "base" in the room. Return
    [(pull request, ids of commits)], or raise Error if a patch doesn't apply.
    """
    say(f"  {pull.name}")
    git(*lint.CHECKOUT, "base", cwd=ROOM)
    found = []
    for one in (*pull.needs, pull):
        start = git("rev-parse", "HEAD", cwd=ROOM)
        for path in patches_of(one):
            done = run("git", *AM, path, cwd=ROOM)
            done.stdout = git("diff", "--name-only", "--diff-filter=U", cwd=ROOM)
            problem = f"{one.name} does not apply: {queue.subject_of(path)}"
            must(done, problem, RESOLVE.format(PATCHES_MAIN / one.name))
        git("rebase", "-q", "--interactive", "--autosquash", start, cwd=ROOM)
        found.append((one, checkout.commits(start, "HEAD", "%H", ROOM)))
    return found


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
    with checkout.lock():
        make_room(clone, "refs/heads/main")
        try:
            if git("branch", "--list", branch, cwd=clone):
                raise Error(f"there is a branch {branch}: rename or delete it.")
            say(f"Applying to main of {clone}:")
            rows = commit(put_together(pull), clone, options.commits)
            text, left = fill_in(pull, lint.changed(ROOM, "base", rows[-1][0]))
            way = read(ROOT / "docs" / "proposal.md", "The way, step by step")[1]
            python = ensure("lint", "docs")
            if failures := lint.lint_commits(python, ROOM, "base", rows):
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


def commit(made, clone, keep):
    """
    Commit in a clone, by its user and on no branch, what put_together() made.
    Return what lint_commits() takes. keep: all commits. Raise Error if git
    doesn't know the user, or if there is nothing to commit.
    """
    rows, tip = [], git("rev-parse", "base", cwd=ROOM)
    git("fetch", "-q", "--no-tags", "--no-write-fetch-head", ROOM, "HEAD", cwd=clone)
    for pull, ids in made:
        for one in ids if keep else ids[-1:]:
            message = git("log", "-1", "--format=%B", one, cwd=ROOM)
            message = message.replace("#XXXXX", f"#{pull.ticket or 'XXXXX'}", 1)
            if one == ids[-1]:
                message = "\n".join([describe(pull)[0], *message.splitlines()[1:]])
            # In the user's environment, whose name git must not guess.
            args = ["commit-tree", f"{one}^{{tree}}", "-p", tip, "-m", message]
            command = ["git", "-c", "user.useConfigOnly=true", *args]
            done = subprocess.run(command, cwd=clone, capture_output=True, text=True)
            tip = must(done, "you are the author, and git says")
            rows.append((tip, pull.ticket, one == ids[-1]))
    if not rows:
        raise Error("main has all of it already.")
    return rows


def read(path, *wanted):
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
    title, *texts = read(path, "Ticket", "Branch description", "Hunks")
    return title.replace("XXXXX", str(pull.ticket or "XXXXX")), *texts[:2]


def fill_in(pull, files):
    """
    Fill in Django's template of a pull request, which changes these files.
    Return the text, and what is left to the person. Raise Error if the
    template isn't what this was written for.
    """
    title, _, description = describe(pull)
    text = git("show", f"base:{TEMPLATE}", cwd=ROOM)
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


def rebase(options):
    """Try the series on a commit of a clone, or make a release its base."""
    target, commit = [*options.base, "refs/heads/main"][:2]
    if re.fullmatch(r"\d+(\.\d+)+((a|b|rc)\d+)?", target):
        return release(target)
    checkout.base()
    with checkout.lock():
        make_room(Path(target).resolve(), commit)
        for pull in queue.pull_requests():
            put_together(pull)
        remove(ROOM.parent)
    say("All patches apply, with what is in patches-main/.")
    return 0


def release(version):
    """Make a release the base, in django/, upstream.toml, and patches/."""
    tag, old, sdist = f"upstream/{version}", upstream(), f"django-{version}.tar.gz"
    path = WORK / sdist
    if not checkout.ref(tag) or not path.exists():
        if not queue.in_patches():
            raise Error("django/ and patches/ differ.\nExport, or apply, first.")
        commit = checkout.import_sdist(checkout.download(version), version)
        git("tag", "--force", tag, commit)
    if not queue.is_on(tag):
        say(f'Rebasing. If git stops, finish it in django/, then "rebase {version}".')
        git("rebase", "-q", "--onto", tag, old["tag"], checkout.BRANCH)
    new = {"version": version, "file": sdist, "size": path.stat().st_size}
    new["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    new["tree"] = git("rev-parse", f"{tag}^{{tree}}")
    text = (ROOT / "upstream.toml").read_text(encoding="utf-8")
    for key, value in new.items():
        text = re.sub(rf"(?m)^{key} = .*$", f"{key} = {json.dumps(value)}", text)
    (ROOT / "upstream.toml").write_text(text, encoding="utf-8")
    queue.export(Namespace(to=None))
    say(f"{text}\nCompare the sha256 with https://pypi.org/project/Django/#files, and")
    say(f"what else names the old release: git grep -wF {old['version']}")
    return 0


def version(options):
    """Set the version of Django in which the series lands, options.version."""
    series, new = PATCHES / "series.toml", options.version.encode()
    found = LANDS.search(series.read_bytes())
    if not found or not re.fullmatch(rb"\d+\.\d+", new):
        problem = f"{options.version} isn't like 6.2, or series.toml has no lands."
        raise Error(f"{problem} Nothing was changed.")
    if not queue.in_patches():
        raise Error("django/ and patches/ differ.\nRun apply, then export, first.")
    before = rb"((?:version\w+|deprecated):: |releases/|-|in |Django )"
    pattern = re.compile(before + re.escape(found[1]) + rb"(?!\.?\d)")
    for path in (*PATCHES.glob("*/*.patch"), *PATCHES_MAIN.glob("*/*.patch")):
        path.write_bytes(pattern.sub(rb"\g<1>" + new, path.read_bytes()))
    series.write_bytes(LANDS.sub(b'lands = "%s"' % new, series.read_bytes()))
    # Git writes what else follows from it, such as the blobs' ids.
    queue.apply(Namespace(force=False))
    queue.export(Namespace(to=None))
    say(f"What else names the old version: git grep -wF {found[1].decode()}")
    return 0
