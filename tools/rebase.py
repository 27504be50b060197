"""
Other bases: rebase, to a release or to try main, and version, the release of
Django that gets the signals.
"""

import hashlib
import json
import re
from argparse import Namespace
from pathlib import Path

from tools import PATCHES, PATCHES_MAIN, ROOT, WORK, checkout, pr, queue
from tools.common import Error, say, upstream
from tools.git import git, ref

LANDS = re.compile(rb'^lands = "(.*)"$', re.M)
# Where a person looks for what else names a release: not in the patches, which
# have been written, nor in the tests of the tools, which have versions of
# their own.
LOOK = "git grep -nwF {} -- ':!patches*' ':!tests/tools' ':!upstream.toml'"


def rebase(options):
    """Try the series on a commit of a clone, or make a release its base."""
    target, commit = [*options.target, "refs/heads/main"][:2]
    if re.fullmatch(r"\d+(\.\d+)+((a|b|rc)\d+)?", target):
        return release(target)
    pr.try_all(Path(target).resolve(), commit)
    say("All patches apply, with what is in patches-main/.")
    return 0


def release(version):
    """Make a release the base, in django/, upstream.toml, and patches/."""
    tag, old, sdist = f"upstream/{version}", upstream(), f"django-{version}.tar.gz"
    path = WORK / sdist
    if not ref(tag) or not path.exists():
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
    say(f"what else names the old release: {LOOK.format(old['version'])}")
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
    say(f"What else names the old version: {LOOK.format(found[1].decode())}")
    return 0
