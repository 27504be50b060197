"""
The queue of patches: what patches/ holds, and apply, export, and check.

patches/series.toml names the pull requests in order; each is a directory of
patches. In django/ all of them are on one branch, one commit for each patch.
A commit belongs to the pull request that has a patch with its subject.
"""

import os
import re
import tempfile
import tomllib
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tools import checkout, environment
from tools.checkout import APPLIED, BRANCH, TIP, base, commits, lock, ref, state
from tools.git import (
    DJANGO,
    PATCHES,
    PATCHES_MAIN,
    ROOT,
    WORK,
    Error,
    git,
    indent,
    run,
    run_git,
    say,
    tree_of,
    upstream,
)

SCENARIO = ROOT / "tests" / "series" / "scenario.py"
FORMAT = (
    "format-patch -q --no-numbered --zero-commit --full-index --no-signature".split()
)


@dataclass(frozen=True)
class PullRequest:
    """
    A directory in patches/, as series.toml describes it.

    after: the names of those whose commits it needs below its own. ticket: its
    number, or None where a new ticket has to be opened.
    """

    name: str
    after: list
    ticket: int | None = None

    @property
    def path(self):
        """Return its directory."""
        return PATCHES / self.name

    @property
    def patches(self):
        """Return the paths of its patches, in order."""
        return sorted(self.path.glob("*.patch"))


def pull_requests():
    """Return the pull requests in order, or raise Error."""
    names, found = set(), []
    try:
        text = (PATCHES / "series.toml").read_text(encoding="utf-8")
        for row in tomllib.loads(text)["pull_request"]:
            one = PullRequest(**row)
            if not re.fullmatch(r"[\w-]+", one.name) or one.name in names:
                raise ValueError(f"bad or repeated name: {one.name}")
            if not names.issuperset(one.after):
                raise ValueError(f"{one.name} must come after what it needs")
            names.add(one.name)
            found.append(one)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Error(
            f"patches/series.toml cannot be used: {error}.\nNothing was changed. "
            "Put it right, or restore it: git checkout patches/series.toml"
        ) from None
    return found


def patches():
    """Return the paths of all patches, in order."""
    return [path for one in pull_requests() for path in one.patches]


def read_patches():
    """Return {"pull request/file": bytes} of all patches."""
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in patches()}


def subject_of(path):
    """Return the subject that the commit of a patch gets."""
    args = ("mailinfo", "--encoding=UTF-8", os.devnull, os.devnull)
    headers = git(*args, cwd=ROOT, input=path.read_bytes())
    return re.search(r"^Subject: (.*)$", f"{headers}\nSubject: ", re.M).group(1)


def subjects():
    """Return {subject: name of its pull request} of all patches."""
    return {subject_of(path): path.parent.name for path in patches()}


def exported(since, owners):
    """
    Return {"pull request/file": bytes} of what the branch gives.

    since: the base. owners: for each of its commits, the name of its pull
    request; those of one follow each other.
    """
    ids = [since, *commits(since, pretty="%H")]
    found, done = {}, 0
    for name, group in groupby(owners):
        start, done = done, done + len(list(group))
        with tempfile.TemporaryDirectory() as temp:
            git(*FORMAT, f"--output-directory={temp}", f"{ids[start]}..{ids[done]}")
            for path in Path(temp).iterdir():
                found[f"{name}/{path.name}"] = path.read_bytes()
    return found


def in_patches():
    """Return whether the branch has the commits that patches/ give."""
    tag, owners = upstream()["tag"], [path.parent.name for path in patches()]
    if not ref(TIP) or run_git("merge-base", "--is-ancestor", tag, TIP).returncode:
        return False
    same = len(owners) == len(commits(tag))
    return same and exported(tag, owners) == read_patches()


def apply(options):
    """
    Make .venv and django/, put the patches on the branch, show the scenario.

    options.force: whether to drop work in django/. Return the exit status.
    """
    if not patches():
        raise Error(
            "there are no patches in patches/.\n"
            "Nothing was changed. Restore them: git checkout patches"
        )
    with lock():
        WORK.mkdir(exist_ok=True)
        checkout.guard(options.force, in_patches)
        if not DJANGO.exists():
            say("The first time, this takes a minute or two and 45 MB from PyPI.")
        environment.ensure()
        try:
            base()
        except Error:
            checkout.make_base()
        if not state() and in_patches():
            git("update-ref", APPLIED, TIP)
            say(f"django/ has all {len(patches())} patches already.")
        else:
            checkout.put_together(patches())
    say(f"\nThe ticket's scenario, on SQLite ({SCENARIO.relative_to(ROOT)}):")
    with tree_of(base(), "django") as tree:
        done = run(environment.PYTHON, "-B", SCENARIO, tree, DJANGO)
    say((done.stdout + done.stderr).rstrip())
    if done.returncode:
        raise Error(
            "with the series the scenario does not end well, as it must.\n"
            f"The patches are on {BRANCH} in django/. Put right what they do there."
        )
    return 0


def plan(tag, to=None):
    """
    Return, for each commit of the branch, the name of its pull request.

    tag: the base. to: the name for commits whose subject no patch has; else
    they go where both their neighbours are. Raise Error if that leaves
    a choice, if the branch isn't a plain row of commits on the base, or if
    patches would get lost.
    """
    series, homes = [one.name for one in pull_requests()], subjects()
    found, owners = checkout.out_of_place(), []
    rows = commits(tag, pretty="%h%x00%P%x00%s") if ref(TIP) else []
    rows = [row.split("\0") for row in rows]
    known = [homes.get(subject, to) for _, _, subject in rows]
    if to not in (None, *series):
        found.append(f"patches/series.toml has no {to}")
    if not rows:
        found.append(f"{BRANCH} has no commits on top of {tag}")
    elif run_git("merge-base", "--is-ancestor", tag, TIP).returncode:
        found.append(f"{BRANCH} isn't based on {tag}: git -C django rebase {tag}")
    if state().startswith("stopped"):
        lost = homes.keys() - {subject for _, _, subject in rows}
        found += [f"{state()}, and the branch lacks: {one}" for one in sorted(lost)]
    elif state():
        found.append("the last apply was interrupted: run it again")
    if len(homes) < len(patches()):
        found.append("two patches have the same subject")
    for number, (commit, parents, subject) in enumerate(rows):
        if " " in parents:
            found.append(f"{commit} is a merge commit: git -C django rebase {tag}")
        elif parents and not run_git("diff", "--quiet", parents, commit).returncode:
            found.append(f"{commit} changes nothing: drop it with git rebase")
        before = owners[-1] if owners else None
        after = next(filter(None, known[number:]), before)
        owners.append(known[number] or before or after)
        if not known[number] and (not after or before not in (None, after)):
            found.append(
                f"{commit} {subject}: is new between {before} and {after}; "
                "say which it belongs to: export --to NAME"
            )
        elif subject not in homes:
            say(f"  {commit} {subject}: is new, in {after}")
    found += [
        f"{name} would be empty: say that new commits belong to it (export --to "
        "NAME), or take it out of series.toml"
        for name in series
        if name not in owners
    ]
    if not found and owners != sorted(owners, key=series.index):
        found.append(
            "the commits of different pull requests are mixed: put them in the "
            f"order of series.toml (git rebase -i {tag})"
        )
    if found:
        raise Error(
            f"the branch can't be exported:\n{indent(found)}\n"
            "Nothing was changed. Put it right in django/ and run the command again."
        )
    return owners


def export(options):
    """
    Write patches/ from the branch.

    options.to: see plan(). Return the exit status.
    """
    tag = base()
    with lock():
        new, old = exported(tag, plan(tag, options.to)), read_patches()
        changes = checkout.uncommitted()
        if changes:
            say(f"Not exported, since it isn't committed:\n{indent(changes)}")
        for name in sorted(new):
            if new[name] != old.get(name):
                part = PATCHES / f"{name}.part"
                part.parent.mkdir(exist_ok=True)
                part.write_bytes(new[name])
                part.rename(PATCHES / name)
                say(f"  wrote patches/{name}")
        for name in sorted(old.keys() - new.keys()):
            (PATCHES / name).unlink()
            say(f"  removed patches/{name}")
        git("update-ref", APPLIED, TIP)
        environment.remove(checkout.STATE)
    what = "were up to date already" if new == old else "are written"
    say(f"The {len(new)} patches {what}.")
    return 0


def check(options):
    """
    Look for mistakes in patches/, patches-main/, and the branch.

    Nothing is changed. Return the exit status, or raise Error with all that
    was found.
    """
    tag, found, homes = base(), [], subjects()
    known = patches()
    for path in sorted([*PATCHES.rglob("*.patch"), *PATCHES_MAIN.rglob("*.patch")]):
        subject = subject_of(path).removeprefix("fixup! ")
        if homes.get(subject) != path.parent.name and path not in known:
            found.append(f"{path.relative_to(ROOT)} belongs to no pull request")
    try:
        new, old = exported(tag, plan(tag)), read_patches()
        for name in sorted({*new, *old}):
            if new.get(name) != old.get(name):
                found.append(f"patches/{name}: export would change it")
        spaces = run_git("diff", "--check", tag, TIP).stdout.splitlines()
        found += [line for line in spaces if not line.startswith("+")]
    except Error as error:
        found += str(error).splitlines()
    if found:
        raise Error(
            f"check found mistakes:\n{indent(found)}\nNothing was changed. Put them "
            "right in django/ and export; or run apply if patches/ is right."
        )
    say(f"check: {len(old)} patches, no mistakes.")
    return 0
