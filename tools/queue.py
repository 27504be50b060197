"""
The queue of patches: what patches/ holds, and apply, export, and check.

patches/series.toml names the pull requests in order; each is a directory of
patches. In django/ all of them are on one branch, one commit for each patch.
A commit belongs to the pull request that has a patch with its subject.
"""

import email.policy
import re
import tempfile
import tomllib
from collections import namedtuple
from pathlib import Path

from tools import DJANGO, PATCHES, WORK, checkout, environment
from tools.checkout import APPLIED, BRANCH, TIP, base, commits, lock, ref, state
from tools.git import Error, git, indent, must, run, say, succeeds, tree_of, upstream

FORMAT = "format-patch -q -N --zero-commit --full-index --no-signature".split()
# A directory in patches/. needs: those in after. ticket: None if it is new.
FIELDS = "name after ticket needs patches"
PullRequest = namedtuple("PullRequest", FIELDS, defaults=(None, (), ()))


def pull_requests():
    """Return the pull requests in order, or raise Error."""
    found = {}
    try:
        text = (PATCHES / "series.toml").read_text(encoding="utf-8")
        for row in tomllib.loads(text)["pull_request"]:
            one = PullRequest(**row)
            if not re.fullmatch(r"[\w-]+", one.name) or one.name in found:
                raise ValueError(f"bad or repeated name: {one.name}")
            if not found.keys() >= set(one.after):
                raise ValueError(f"{one.name} must come after what it needs")
            needs = [found[name] for name in one.after]
            patches = sorted((PATCHES / one.name).glob("*.patch"))
            found[one.name] = one._replace(needs=needs, patches=patches)
    except (OSError, ValueError, KeyError, TypeError) as error:
        advice = "Nothing was changed. Put it right, or restore it with git."
        raise Error(f"patches/series.toml cannot be used: {error}.\n{advice}") from None
    return [*found.values()]


def patches():
    """Return the paths of all patches, in order."""
    return [path for one in pull_requests() for path in one.patches]


def read(paths):
    """Return {"pull request/file": bytes} of patches."""
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in paths}


def subject_of(path):
    """Return the subject that the commit of a patch gets."""
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    return re.sub(r"^\[PATCH.*?\] ", "", message["Subject"] or "")


def exported(tag, owners):
    """Return what read() would of the branch, if its commits have owners."""
    with tempfile.TemporaryDirectory() as temp:
        for number, commit in enumerate(commits(tag, pretty="%H")):
            name, start = owners[number], owners[: number + 1].count(owners[number])
            git(*FORMAT, f"--start-number={start}", f"-o{temp}/{name}", "-1", commit)
        return read(Path(temp).glob("*/*"))


def is_on(tag):
    """Return whether the branch is there and has the base below it."""
    return bool(ref(TIP)) and succeeds("merge-base", "--is-ancestor", tag, TIP)


def in_patches():
    """Return whether the branch has the commits that patches/ give."""
    tag, owners = upstream()["tag"], [path.parent.name for path in patches()]
    same = is_on(tag) and len(owners) == len(commits(tag))
    return same and exported(tag, owners) == read(patches())


def apply(options):
    """Make .venv and django/. Raise Error for work, but with options.force."""
    if not patches():
        raise Error("there are no patches. Restore them: git checkout patches")
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
    say("\nThe ticket's scenario, on SQLite (tests/series/scenario.py):")
    with tree_of(base(), "django") as tree:
        done = run(environment.PYTHON, "-B", "tests/series/scenario.py", tree, DJANGO)
    advice = "With the series it must. Put the patches right in django/."
    say(must(done, "the scenario does not end well", advice))
    return 0


def plan(tag, to=None):
    """
    Return, for each commit of the branch, the name of its pull request; to, if
    no patch has its subject. Raise Error if the branch isn't a plain row of
    commits on the base, in order, or if patches would get lost.
    """
    series, found = [one.name for one in pull_requests()], checkout.out_of_place()
    homes, owners = {subject_of(path): path.parent.name for path in patches()}, []
    rows = commits(tag, pretty="%h%x00%P%x00%s") if is_on(tag) else []
    if not rows:
        found.append(f"{BRANCH} has no commits on top of {tag}")
    if to not in (None, *series):
        found.append(f"patches/series.toml has no {to}")
    if len(homes) < len(patches()):
        found.append("two patches have the same subject")
    for commit, parents, subject in (row.split("\0") for row in rows):
        owners.append(homes.pop(subject, to))
        if " " in parents:
            found.append(f"{commit} is a merge commit: git -C django rebase {tag}")
        elif succeeds("diff", "--quiet", parents, commit):
            found.append(f"{commit} changes nothing: drop it with git rebase")
        if subject.startswith(("fixup! ", "squash! ", "amend! ")):
            found.append(f"{commit} {subject}: git rebase -i --autosquash {tag}")
        elif not owners[-1]:
            found.append(f"{commit} {subject}: is new: say where, export --to NAME")
    if state().startswith("stopped"):
        found += [f"{state()}, and the branch lacks: {one}" for one in homes]
    elif state():
        found.append("the last apply was interrupted: run it again")
    if not found and owners != sorted(owners, key=series.index):
        found.append(f"pull requests are mixed: sort them by git rebase -i {tag}")
    if found:
        advice = "Nothing was changed. Put it right in django/ and run it again."
        raise Error(f"the branch can't be exported:\n{indent(found)}\n{advice}")
    return owners


def export(options):
    """Write patches/ from the branch; options.to is for plan()."""
    tag = base()
    with lock():
        new, old = exported(tag, plan(tag, options.to)), read(patches())
        if changes := checkout.uncommitted():
            say(f"Not exported, since it isn't committed:\n{indent(changes)}")
        for name in sorted({*new, *old}):
            if name not in new:
                (PATCHES / name).unlink()
                say(f"  removed patches/{name}")
            elif new[name] != old.get(name):
                (PATCHES / name).parent.mkdir(exist_ok=True)
                (PATCHES / "part").write_bytes(new[name])
                (PATCHES / "part").rename(PATCHES / name)
                say(f"  wrote patches/{name}")
        git("update-ref", APPLIED, TIP)
        checkout.STATE.unlink(missing_ok=True)
    what = "were up to date already" if new == old else "are written"
    say(f"The {len(new)} patches {what}.")
    return 0


def check(options):
    """Raise Error with the mistakes in patches/ and the branch, if any."""
    tag = base()
    new, old = exported(tag, plan(tag)), read(PATCHES.rglob("*.patch"))
    names = [name for name in sorted({*new, *old}) if new.get(name) != old.get(name)]
    found = [f"patches/{name}: is not what export writes" for name in names]
    spaces = git("diff", "--check", tag, TIP, check=False).splitlines()
    found += [line for line in spaces if not line.startswith("+")]
    if found:
        advice = "Nothing was changed. Correct django/ and export, or apply patches/."
        raise Error(f"check found mistakes:\n{indent(found)}\n{advice}")
    say(f"check: {len(old)} patches, no mistakes.")
    return 0
