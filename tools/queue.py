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
from tools.checkout import APPLIED, BRANCH, TIP, base, commits, state
from tools.common import Error, indent, must, run, say, upstream
from tools.git import FORMAT, git, ref, succeeds, tree_of

# A directory in patches/. needs: all that must be below it, in order, so those
# in after and what they need. ticket: None if it is new.
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
            needed = set(one.after)
            for name in one.after:
                needed.update(each.name for each in found[name].needs)
            needs = [each for name, each in found.items() if name in needed]
            patches = sorted((PATCHES / one.name).glob("*.patch"))
            found[one.name] = one._replace(needs=needs, patches=patches)
    except (OSError, ValueError, KeyError, TypeError) as error:
        advice = "Nothing was changed. Put it right, or restore it with git."
        raise Error(f"patches/series.toml cannot be used: {error}.\n{advice}") from None
    return [*found.values()]


def patches():
    """Return the paths of all patches, in order."""
    return [path for one in pull_requests() for path in one.patches]


def contents(paths):
    """Return {"pull request/file": bytes} of patches."""
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in paths}


def subject_of(path):
    """Return the subject that the commit of a patch gets."""
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    return re.sub(r"^\[PATCH.*?\] ", "", message["Subject"] or "")


def exported(tag, owners):
    """Return contents() of the branch, whose commits have these owners."""
    with tempfile.TemporaryDirectory() as temp:
        for number, commit in enumerate(commits(tag, pretty="%H")):
            name, start = owners[number], owners[: number + 1].count(owners[number])
            git(*FORMAT, f"--start-number={start}", f"-o{temp}/{name}", "-1", commit)
        return contents(Path(temp).glob("*/*"))


def is_on(tag):
    """Return whether the branch is there and has the base below it."""
    return bool(ref(TIP)) and succeeds("merge-base", "--is-ancestor", tag, TIP)


def in_patches():
    """Return whether the branch has the commits that patches/ give."""
    tag, owners = upstream()["tag"], [path.parent.name for path in patches()]
    same = is_on(tag) and len(owners) == len(commits(tag))
    return same and exported(tag, owners) == contents(patches())


def work_of_its_own():
    """Return what an apply would drop from django/, as lines."""
    if not DJANGO.exists():
        return []
    if not (DJANGO / ".git").is_dir():
        raise Error("django/ has no .git: series.py did not make it. Move it away.")
    becoming = checkout.switching()
    found = checkout.out_of_place()
    if not becoming:
        found += checkout.uncommitted()
    tip, since = ref(TIP), ref(APPLIED) or upstream()["tag"]
    if tip not in ("", since, becoming) and not in_patches():
        found += [f"not in patches/: {line}" for line in commits(since, tip)]
        found += [f"taken off the branch: {line}" for line in commits(tip, since)]
    return found


def apply(options):
    """Make .venv and django/. Raise Error for work, but with options.force."""
    if not patches():
        raise Error("there are no patches. Restore them: git checkout patches")
    WORK.mkdir(exist_ok=True)
    work = work_of_its_own()
    if work and not options.force:
        raise Error(
            f"django/ has work of its own, which apply would drop:\n{indent(work)}\n"
            "Nothing was changed. Commit and export it, or drop it by apply --force."
        )
    if work:
        say(f"Dropped from django/ (it was at {ref('HEAD')[:10]}):\n{indent(work)}")
    if work or checkout.switching():
        checkout.set_aside()
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
        checkout.put_on_branch(patches())
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
    new, old = exported(tag, plan(tag, options.to)), contents(patches())
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
    new, old = exported(tag, plan(tag)), contents(PATCHES.rglob("*.patch"))
    names = [name for name in sorted({*new, *old}) if new.get(name) != old.get(name)]
    found = [f"patches/{name}: is not what export writes" for name in names]
    spaces = git("diff", "--check", tag, TIP, check=False).splitlines()
    found += [line for line in spaces if not line.startswith("+")]
    if found:
        advice = "Nothing was changed. Correct django/ and export, or apply patches/."
        raise Error(f"check found mistakes:\n{indent(found)}\n{advice}")
    say(f"check: {len(old)} patches, no mistakes.")
    return 0
