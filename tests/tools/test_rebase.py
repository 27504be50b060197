"""What "rebase" does with a clone and with a release; "version"."""

import hashlib
import re

from conftest import ALONE, SDIST, SECOND, SUBJECTS

QUERY = "django/query.py"
NEXT = "6.1.4"
NOTES = "docs/releases/6.2.txt"


def resolve(repo, room):
    """Resolve the conflict in query.py."""
    text, new = (room / QUERY).read_text(), '    return "sent loudly"'
    (room / QUERY).write_text(re.sub("(?s)<<<<<<<.*>>>>>>>[^\n]*", new, text))
    repo.git("add", QUERY, cwd=room)


def test_wrong_arguments(repo):
    """What is neither a clone nor a release is named, and what pip has."""
    for target in ("nonsense", "."):
        assert "of Django" in repo.refuses("rebase", target)
    output = repo.refuses("rebase", "6.1.99")
    assert "get the sdist of Django 6.1.99" in output and "6.1.3" in output
    assert "Pip's index has no such version" in output


def test_main_has_moved(repo, clone):
    """Git merges what it can, and others' notes; the clone stays as it is."""
    notes = f"sed -i '3s/[.]*$/Others./' {NOTES}"
    repo.shell(f"{notes}; sed -i 's/= 13$/= 130/' {QUERY}; git commit -qam X", clone)
    there, patches = repo.contents(clone), repo.series()
    assert "All patches apply" in repo.good("rebase", str(clone), "main")
    after = repo.contents()
    repo.good("rebase", str(clone))
    assert (repo.contents(), repo.contents(clone)) == (after, there)
    assert repo.series() == patches
    assert not (repo.root / ".work" / "main").exists()


def test_main_conflict(repo, clone):
    """
    A conflict names the patch and the file, and changes nothing. What is
    resolved becomes a patch for main by the commands that are given.
    """
    repo.shell(f"sed -i s/quiet/silent/ {QUERY}; git commit -qam X", clone)
    before, patches = repo.contents(), repo.series()
    output = repo.bad("rebase", str(clone))
    assert f"signals does not apply: {SUBJECTS[2]}" in output and QUERY in output
    assert repo.contents() == before
    room = repo.root / ".work" / "main" / "django"
    resolve(repo, room)
    for line in output.replace("FILES", ".").splitlines():
        if line.startswith("  git "):
            repo.shell(line, room)
    (path,) = (repo.root / "patches-main" / "signals").glob("*-Fixed-22543*")
    assert '"silent"\n+    return "sent loudly"' in path.read_text()
    repo.good("rebase", str(clone))
    repo.good("check")
    assert repo.series() == patches


def test_release(repo, tmp_path):
    """
    The base and the patches become those of a release. Where git stops in
    django/, nothing is written until that is resolved.
    """
    sdist = tmp_path / f"django-{NEXT}.tar.gz"
    repo.env.update(PIP_FIND_LINKS=str(tmp_path), GIT_EDITOR="true")
    repo.shell(
        f"""tar -xf "$ROOT/.work/{SDIST}"; mv django-* django-{NEXT}; cd django-{NEXT}
        sed -i s/6.1.3/{NEXT}/ *.py *.toml PKG-INFO
        sed -i 's/= 9$/= 99/;s/quiet/silent/' {QUERY}
        cd ..; tar -czf {sdist} django-{NEXT}""",
        tmp_path,
    )
    repo.shell("git rm -q extras/run; git commit -qm Mine.")
    assert "django/ and patches/ differ" in repo.refuses("rebase", NEXT)
    repo.git("reset", "--quiet", "--hard", "HEAD~1")
    toml, before = (repo.root / "upstream.toml").read_text(), repo.series()
    output = repo.bad("rebase", NEXT)
    assert QUERY in output and "rebase --continue" in output
    repo.bad("rebase", NEXT)
    assert (repo.root / "upstream.toml").read_text() == toml
    assert repo.series() == before
    resolve(repo, repo.checkout)
    repo.git("rebase", "--continue")
    repo.good("rebase", NEXT)
    toml, after = (repo.root / "upstream.toml").read_text(), repo.series()
    assert hashlib.sha256(sdist.read_bytes()).hexdigest() in toml
    assert repo.git("rev-parse", f"upstream/{NEXT}^{{tree}}") in toml
    assert "LINE_9 = 99" in (repo.checkout / QUERY).read_text()
    assert after.keys() == before.keys() and after[ALONE] != before[ALONE]
    assert b'"silent"\n+    return "sent loudly"' in after[SECOND]
    repo.good("check")


def test_version(repo, clone):
    """One command changes the version in all that follows from it."""
    doc = '"""\n.. versionadded:: 6.2\n"""\n'
    repo.commit(SUBJECTS[2], {"django/doc.py": doc}, "--amend")
    repo.good("export")
    repo.good("version", "7.0")
    assert 'lands = "7.0"' in (repo.patches / "series.toml").read_text()
    assert b"\n+.. versionadded:: 7.0\n" in repo.series()[SECOND]
    for path in repo.root.glob("patches*/*/*.patch"):
        assert "6.2" not in path.read_text()
    repo.good("check")
    assert "isn't like 6.2" in repo.refuses("version", "seven")
    script = "cd docs/releases; sed s/6.2/7.0/ 6.2.txt >7.0.txt; git add 7.0.txt"
    repo.shell(f"{script}; git commit -qm X", clone)
    repo.good("rebase", str(clone))
