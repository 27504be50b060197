"""
Move the series to another release of Django, or see to it that it applies to
a commit of a clone, such as main.

The patches are applied in .work/rebase/, a repository of its own, which can
take the objects of django/ and of the clone for a merge. Neither of them
changes, nor patches/, before all patches apply.

- A release becomes the base: upstream.toml and patches/ are written anew.
- A commit of a clone can't become the base, since "apply" has only PyPI.
  There patches/ stays as it is, and patches-main/ is written anew: the fixup!
  commits as they are on that commit, and those patches that didn't apply there
  as they were resolved. "pr" takes these in place of the ones in patches/.
"""

import hashlib
import json
import re
import tomllib
from pathlib import Path

import series
from series import (
    CHECKOUT,
    PATCHES,
    PATCHES_MAIN,
    ROOT,
    WORK,
    Error,
    git,
    indent,
    relative,
    say,
)

HELP = (
    "Move the series to another release of Django, or bring patches-main/ in line "
    "with a commit of a clone."
)
ROOM = WORK / "rebase"
STATE = ROOM / ".git" / "series-rebase.json"
UNTOUCHED = "upstream.toml, patches/, patches-main/, and django/."
CLASSIFIER = re.compile(r'"Programming Language :: Python :: (\d+\.\d+)"')


def add_arguments(parser):
    """Add the command's arguments."""
    parser.usage = (
        "%(prog)s VERSION\n       %(prog)s CLONE [COMMIT]\n"
        "       %(prog)s (--continue | --abort)"
    )
    parser.add_argument(
        "target",
        nargs="?",
        metavar="TARGET",
        help="the version of a release on PyPI, or a clone of django/django",
    )
    parser.add_argument(
        "commit",
        nargs="?",
        metavar="COMMIT",
        help="a commit of the clone (default: main)",
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--continue",
        dest="go_on",
        action="store_true",
        help="go on, with a conflict resolved in .work/rebase/",
    )
    group.add_argument(
        "--abort", action="store_true", help="give up, and delete .work/rebase/"
    )
    parser.set_defaults(parser=parser)


def run(options):
    """Run the command. Return the exit status."""
    if bool(options.target) == (options.go_on or options.abort):
        options.parser.error("give a target, --continue, or --abort")
    series.require_git()
    with series.only_one():
        if options.target:
            state = start(options)
        else:
            state = read_state()
        if options.abort:
            series.remove(ROOM)
            say("Gave up. Nothing has changed.")
            return 0
        if options.go_on:
            commit_resolved(state)
        apply_rest(state)
        finish(state)
    return 0


def read_state():
    """Return what was left to do, or raise Error if nothing was."""
    if not STATE.exists():
        raise Error(
            "no rebase is under way.",
            UNTOUCHED,
            "start one: python3 series.py rebase TARGET",
        )
    return json.loads(STATE.read_text(encoding="utf-8"))


def write_state(state):
    """Keep what is left to do for --continue."""
    STATE.write_text(json.dumps(state, indent=1), encoding="utf-8")


def start(options):
    """
    Make .work/rebase/ with the target checked out.

    Return the state: what the target is, the patches left to apply, the
    commits made of those that were, and which of these were resolved. Raise
    Error if there's a rebase already, work to export, or no such target.
    """
    if STATE.exists():
        raise Error(
            "a rebase is under way already.",
            UNTOUCHED,
            "end it: python3 series.py rebase (--continue | --abort)",
        )
    series.require_checkout()
    base = series.load_upstream()["tag"]
    complaints = series.check_files()
    if complaints:
        raise Error(
            f"patches/ has mistakes:\n{indent(complaints)}",
            UNTOUCHED,
            "see what check says, and put them right.",
        )
    if series.read_state() or not series.in_patches(base):
        raise Error(
            "django/ and patches/ differ.",
            UNTOUCHED,
            "export the commits in django/, or apply those in patches/, first.",
        )
    target = Path(options.target)
    series.remove(ROOM)
    ROOM.mkdir(parents=True)
    git("init", "--quiet", "--template=", cwd=ROOM)
    if target.is_dir():
        state = start_at_commit(target.resolve(), options.commit or "main")
    elif re.fullmatch(r"\d+(\.\d+)+((a|b|rc)\d+)?", options.target):
        if options.commit:
            options.parser.error("a release takes no COMMIT")
        state = start_at_release(options.target)
    else:
        series.remove(ROOM)
        raise Error(
            f"{options.target} is neither a version nor a directory.",
            UNTOUCHED,
            "give a version such as 6.1.3, or a clone of\n"
            "  https://github.com/django/django and, if it's not main, a commit.",
        )
    write_state(state)
    return state


def check_out(room, commit, *repositories):
    """
    Check a commit out in a git repository, at no branch.

    room: the directory of the repository, or of a new one. repositories:
    others that it takes objects from.
    """
    if not (room / ".git").exists():
        git("init", "--quiet", "--template=", cwd=room)
    lines = []
    for repository in repositories:
        common = git("rev-parse", "--git-common-dir", cwd=repository)
        lines.append(f"{Path(repository, common).resolve() / 'objects'}\n")
    info = room / ".git" / "objects" / "info"
    info.mkdir(exist_ok=True)
    (info / "alternates").write_text("".join(lines), encoding="utf-8")
    git("checkout", "--quiet", "--detach", commit, cwd=room)


def apply_patch(room, path):
    """Commit a patch, merging if need be. Return git am's CompletedProcess."""
    return series.run_git(
        "am",
        "--quiet",
        "--3way",
        "--keep-cr",
        "--no-scissors",
        "--no-gpg-sign",
        "--whitespace=nowarn",
        "--committer-date-is-author-date",
        path,
        cwd=room,
    )


def files_in_conflict(room):
    """Return the paths of the files that git could not merge."""
    return git("diff", "--name-only", "--diff-filter=U", cwd=room).splitlines()


def start_at_commit(clone, commit):
    """Check a clone's commit out. Return the state, or raise Error."""
    done = series.run_git("rev-parse", "--verify", f"{commit}^{{commit}}", cwd=clone)
    tip = done.stdout.strip()
    if (
        done.returncode
        or series.run_git(
            "cat-file", "-e", f"{tip}:django/__init__.py", cwd=clone
        ).returncode
    ):
        series.remove(ROOM)
        raise Error(
            f"{clone} has no commit {commit} of Django.",
            UNTOUCHED,
            "give a clone of https://github.com/django/django, and one of its commits.",
        )
    check_out(ROOM, tip, CHECKOUT, clone)
    paths = [path for _, paths in series.main_parts() for path in paths]
    make_blobs(path for path in paths if path.parent == PATCHES_MAIN)
    say(f"Applying the patches to {commit} of {clone}, {tip[:10]}:")
    return {
        "target": f"{commit} of {clone}",
        "todo": [str(path.relative_to(ROOT)) for path in paths],
        "done": [],
        "upstream": None,
    }


def start_at_release(version):
    """Get a release and check it out. Return the state, or raise Error."""
    say(f"Taking Django {version} with pip ...")
    part, ok, said = series.download(version)
    sdist = next(iter(part.glob("*.tar.gz")), None) if ok else None
    if not sdist:
        series.remove(ROOM)
        raise Error(
            f"pip could not get the sdist of Django {version}.\n"
            f"{series.last_lines(said, 6)}",
            UNTOUCHED,
            "see which releases there are: python3 -m pip index versions django",
        )
    upstream = {
        "version": version,
        "file": sdist.name,
        "size": sdist.stat().st_size,
        "sha256": hashlib.sha256(sdist.read_bytes()).hexdigest(),
        "tag": f"upstream/{version}",
    }
    upstream["tree"] = series.import_sdist(sdist, upstream, ROOM)
    sdist.replace(WORK / sdist.name)
    series.remove(part)
    check_out(ROOM, upstream.pop("tag"), CHECKOUT)
    pyproject = (ROOM / "pyproject.toml").read_text(encoding="utf-8")
    upstream["pythons"] = CLASSIFIER.findall(pyproject)
    say(f"Applying the patches to Django {version}:")
    return {
        "target": f"Django {version}",
        "todo": [str(path.relative_to(ROOT)) for path in series.patch_files()],
        "done": [],
        "upstream": upstream,
    }


def make_blobs(paths):
    """
    Make the blobs that patches give, where those that they start from are
    there, so that git can merge a patch which builds on another.
    """
    env = {"GIT_INDEX_FILE": str(ROOM / ".git" / "blobs")}
    for path in paths:
        text = path.read_bytes().decode(errors="replace")
        git("read-tree", "--empty", cwd=ROOM, env=env)
        for name, old, mode in re.findall(
            r"^diff --git a/(.+) b/.+\nindex (\w{40})\.\.\w{40} (\d+)$", text, re.M
        ):
            info = f"{mode},{old},{name}"
            args = ("update-index", "--add", "--cacheinfo", info)
            series.run_git(*args, cwd=ROOM, env=env)
        series.run_git("apply", "--cached", path, cwd=ROOM, env=env)


def apply_rest(state):
    """
    Apply the patches that are left.

    Raise Error at the first conflict, which then is in .work/rebase/.
    """
    count = len(state["todo"]) + len(state["done"])
    while state["todo"]:
        name = state["todo"][0]
        say(f"  {len(state['done']) + 1} of {count}: {name}")
        before = git("rev-parse", "HEAD", cwd=ROOM)
        done = apply_patch(ROOM, ROOT / name)
        if done.returncode:
            raise conflict(name, state["target"], done.stdout + done.stderr)
        note_commit(state, before, resolved=False)


def note_commit(state, before, resolved):
    """Move the first patch to those that are done."""
    name = state["todo"].pop(0)
    commit = git("rev-parse", "HEAD", cwd=ROOM)
    if commit == before:
        say(f"    {state['target']} has this already; left out")
        commit = None
    state["done"].append({"name": name, "commit": commit, "resolved": resolved})
    write_state(state)


def conflict(name, target, said):
    """Return the Error for a patch that doesn't apply to the target."""
    files = files_in_conflict(ROOM)
    room = relative(ROOM)
    if files:
        how = (
            f"resolve the conflict in these files in {room}/, and\n"
            f"  git -C {room} add {' '.join(files)}"
        )
    else:
        # Git has no common ancestor to merge with.
        files = [line for line in said.splitlines() if line.startswith("error: ")]
        how = (
            f"make its changes in {room}/ by hand, which this begins, and add them:\n"
            f"  git -C {room} apply --reject {ROOT / name}\n"
            f"  git -C {room} add FILES"
        )
    return Error(
        f"{name} does not apply to {target}:\n{indent(files)}",
        UNTOUCHED,
        f"{how}\n  python3 series.py rebase --continue\n"
        "or give up: python3 series.py rebase --abort",
    )


def commit_resolved(state):
    """Commit what was resolved. Raise Error if it's not, or not added."""
    if not (ROOM / ".git" / "rebase-apply").exists():
        # The last run was interrupted before the next patch.
        return
    name = state["todo"][0]
    before = git("rev-parse", "HEAD", cwd=ROOM)
    checked = series.run_git("diff", "--cached", "--check", cwd=ROOM)
    if re.search(r"leftover conflict marker", checked.stdout):
        raise Error(
            f"there still are conflict markers:\n{indent(checked.stdout)}",
            UNTOUCHED,
            "resolve these conflicts, add the files, and run it again.",
        )
    done = series.run_git("am", "--continue", cwd=ROOM)
    if done.returncode:
        raise conflict(name, state["target"], done.stdout + done.stderr)
    note_commit(state, before, resolved=True)


def finish(state):
    """Write what the rebase gave, and delete .work/rebase/."""
    upstream = state["upstream"]
    done = [one for one in state["done"] if one["commit"]]
    if upstream:
        old = series.load_upstream()["version"]
        series.write_patches(formatted(done), PATCHES)
        write_upstream(upstream)
        say(f"  wrote upstream.toml: sha256 {upstream['sha256']}")
        say(f"patches/ is based on {state['target']} now. Left for you:")
        say(
            "- Compare the sha256 with https://pypi.org/project/Django/"
            f"{upstream['version']}/#files\n"
            "- Make django/ anew: python3 series.py apply\n"
            "- See what patches-main/ has no use for now: python3 series.py check"
        )
        named = files_that_name(old)
        if named and old != upstream["version"]:
            say(f"- These files name Django {old}:\n{indent(named)}")
    else:
        for_main = [
            one
            for one in done
            if one["resolved"] or one["name"].startswith(f"{PATCHES_MAIN.name}/")
        ]
        changed = series.write_patches(formatted(for_main), PATCHES_MAIN)
        what = "is written for" if changed else "was right already for"
        say(f"All patches apply. patches-main/ {what} {state['target']}.")
    series.remove(ROOM)


def formatted(done):
    """Return {name: bytes} of the patches of commits in .work/rebase/."""
    room = ROOM / ".git" / "patches"
    for number, one in enumerate(done, 1):
        commit = one["commit"]
        series.format_patches(
            f"{commit}^..{commit}", room, f"--start-number={number}", cwd=ROOM
        )
    found = series.read_patches(room) if room.exists() else {}
    series.remove(room)
    return found


def write_upstream(values):
    """Put values into upstream.toml, whose comments stay."""
    path = ROOT / "upstream.toml"
    text = path.read_text(encoding="utf-8")
    for key, value in values.items():
        # A TOML value of these types looks as in JSON.
        line = f"{key} = {json.dumps(value)}"
        text = re.sub(rf"^{key} = .*$", lambda match: line, text, count=1, flags=re.M)
    tomllib.loads(text)
    part = WORK / "upstream.toml"
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def files_that_name(version):
    """Return the files of this repository that name a release, or []."""
    args = ("grep", "-l", "--fixed-strings", "--word-regexp", version, "--", ".")
    found = series.run_git(*args, ":!patches*", cwd=ROOT)
    return found.stdout.splitlines() if found.returncode == 0 else []
