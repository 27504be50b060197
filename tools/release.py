"""Another release as the base (rebase), and the one to land in (version)."""

import argparse
import hashlib
import json
import re

from tools import checkout, environment, queue
from tools.git import (
    PATCHES,
    PATCHES_MAIN,
    ROOT,
    WORK,
    Error,
    git,
    indent,
    run_git,
    say,
    upstream,
)

LANDS = re.compile(rb'^lands = "(.*)"$', re.M)


def rebase(version):
    """
    Make a release the base: git rebases the branch in django/, then
    upstream.toml and patches/ are written.
    """
    tag, old = f"upstream/{version}", upstream()
    sdist = WORK / f"django-{version}.tar.gz"
    if not checkout.ref(tag) or not sdist.exists():
        if not queue.in_patches():
            raise Error("django/ and patches/ differ.\nExport, or apply, first.")
        checkout.download(version).replace(sdist)
        part = checkout.import_sdist(sdist, version)
        git("fetch", "-q", part, f"refs/tags/{tag}:refs/tags/{tag}")
        environment.remove(part)
    if run_git("merge-base", "--is-ancestor", tag, checkout.TIP).returncode:
        done = run_git("rebase", "--onto", tag, old["tag"], checkout.BRANCH)
        if done.returncode:
            raise Error(
                f"git rebase stopped in django/:\n{indent(done.stdout + done.stderr)}\n"
                "Nothing else was changed. Resolve it there, then\n  git -C django "
                f"rebase --continue\n  python3 series.py rebase {version}\n"
                "or give up: git -C django rebase --abort"
            )
    pythons = r'"Programming Language :: Python :: (\d+\.\d+)"'
    text = (ROOT / "upstream.toml").read_text(encoding="utf-8")
    for key, value in {
        "version": version,
        "file": sdist.name,
        "size": sdist.stat().st_size,
        "sha256": hashlib.sha256(sdist.read_bytes()).hexdigest(),
        "tree": git("rev-parse", f"{tag}^{{tree}}"),
        "pythons": re.findall(pythons, git("show", f"{tag}:pyproject.toml")),
    }.items():
        # A value of these types is the same in TOML and JSON.
        text = re.sub(rf"(?m)^{key} = .*$", f"{key} = {json.dumps(value)}", text)
        say(f"  {key} = {json.dumps(value)}")
    (ROOT / "upstream.toml").write_text(text, encoding="utf-8")
    queue.export(argparse.Namespace(to=None))
    say("Compare the sha256 with that on https://pypi.org/project/Django/#files.")
    say(f"What else names the old release: git grep -wF {old['version']}")
    return 0


def version(options):
    """Set the version of Django in which the series lands, options.version."""
    series, new = PATCHES / "series.toml", options.version.encode()
    found = LANDS.search(series.read_bytes())
    if not found or not re.fullmatch(rb"\d+\.\d+", new) or not queue.in_patches():
        raise Error(
            f"{options.version} is no version such as 6.2, series.toml has no lands, "
            "or django/ and patches/ differ.\nNothing was changed. Put it right first."
        )
    old = found[1]
    before = rb"((?:version\w+|deprecated):: |releases/|-|in |Django )"
    pattern = re.compile(before + re.escape(old) + rb"(?!\.?\d)")
    for path in (*PATCHES.glob("*/*.patch"), *PATCHES_MAIN.glob("*/*.patch")):
        path.write_bytes(pattern.sub(rb"\g<1>" + new, path.read_bytes()))
    series.write_bytes(LANDS.sub(b'lands = "%s"' % new, series.read_bytes()))
    # Git writes what else follows from it, such as the blobs' ids.
    queue.apply(argparse.Namespace(force=False))
    queue.export(argparse.Namespace(to=None))
    say("For the release notes: python3 series.py rebase CLONE main")
    say(f"What else names the old version: git grep -wF {old.decode()}")
    return 0
