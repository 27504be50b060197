"""
Write the tables of docs/performance.md.

    python -m benchmarks.report DIRECTORY PAGE

DIRECTORY has the results of counts.py and measure.py. PAGE is the Markdown
file; what is between its markers is replaced:

    <!-- bench: NAME -->
    <!-- end -->

NAME is a key of SECTIONS, "counts" or "machine". The prose around them is
written by hand.
"""

import json
import sys
from pathlib import Path

import pyperf

from . import counts
from .text import Missing, met, paired, ratio, replace_sections, seconds, table

DATABASES = {
    "sqlite": "SQLite",
    "postgres": "PostgreSQL",
    "mariadb": "MariaDB",
    "mysql": "MySQL",
}
# What a receiver that takes the keys may cost, against the driver, from FROM
# rows up.
GOALS = {"sqlite": 1.15, "postgres": 1.15, "mariadb": 1.3, "mysql": 1.3}
FROM = 10000
# What is compared with what the driver needs for the same.
AGAINST = {"keys": "driver_keys", "instances": "driver_instances"}
# Without receivers, a time counts as more if it's by so much more, and by more
# than twice its spread: clocks don't tell less.
TIME = 1.02
# What must be slower for one row: the packages that tell the rows.
PACKAGES = ("bulk_hooks", "cacheops")
PEERS = ("bulk_signals", "values_list", "locked", "save_each", *PACKAGES)


class Results:
    """The benchmarks of one suite on one database. path: what pyperf wrote."""

    def __init__(self, path):
        suite = pyperf.BenchmarkSuite.load(str(path))
        self.benchmarks = {one.get_name(): one for one in suite}

    def median(self, name):
        return self.benchmarks[name].median()

    def values(self, name):
        """Return a list for each process."""
        return [list(run.values) for run in self.benchmarks[name].get_runs()]

    def ratio(self, name, other):
        """Return the median ratio of two benchmarks, and its spread."""
        return paired(self.values(name), self.values(other))

    def extremes(self, name, other):
        """Return the least and the greatest such median of one run."""
        runs = zip(self.values(name), self.values(other))
        medians = [paired([run], [other_run])[0] for run, other_run in runs]
        return min(medians), max(medians)

    def sizes(self):
        """Return the numbers of rows that were measured, in order."""
        return sorted({int(name.split("/")[1]) for name in self.benchmarks})


def unused(found):
    """The seconds without receivers, and with ones that do nothing."""
    rows = []
    for database, results in found.items():
        for method in dict.fromkeys(name.split("/")[0] for name in results.benchmarks):
            cells, more = [], False
            for kind in (*counts.UNUSED, *counts.USED):
                pair = results.ratio(f"{method}/{kind}", f"{method}/unpatched")
                cells.append("{:.3f} ± {:.3f}".format(*pair))
                if kind in counts.UNUSED:
                    more = more or pair[0] - 1 > max(TIME - 1, 2 * pair[1])
            time = seconds(results.median(f"{method}/unpatched"))
            cells.insert(len(counts.UNUSED), "**yes**" if more else "no")
            rows.append([DATABASES[database], f"`{method}`", time, *cells])
    head = ["database", "operation", "unpatched", "no receiver"]
    head += ["receivers on another model", "measurably more"]
    return table([*head, "`pre_update`", "`post_update`"], rows, left=2)


def used(found):
    """The seconds with receivers, against the driver."""
    lines = []
    for database, results in found.items():
        goal = GOALS[database]
        for rows in results.sizes():
            names = ("driver_update", "none", "driver_keys", *AGAINST)
            times = {name: seconds(results.median(f"{name}/{rows}")) for name in names}
            least, most = zip(
                *(
                    results.extremes(f"{name}/{rows}", f"{other}/{rows}")
                    for name, other in AGAINST.items()
                )
            )
            ranges = [
                f"{low:.2f} to {high:.2f}" if low < high else f"{low:.2f}"
                for low, high in zip(least, most)
            ]
            good = met(goal, most[0] <= goal) if rows >= FROM else ""
            cells = [times["driver_update"], times["none"], times["driver_keys"]]
            cells += [times["keys"], ranges[0], good, times["instances"], ranges[1]]
            lines.append([DATABASES[database], f"{rows:,}", *cells])
    head = ["database", "rows", "UPDATE by the driver", "no receiver"]
    head += ["driver, keys", "keys", "keys / driver", "goal", "instances"]
    return table([*head, "instances / driver and instances"], lines)


def growth(found):
    """By how much the seconds for a row grow with ten times the rows."""
    changes = []
    for database, results in found.items():
        sizes = [rows for rows in results.sizes() if rows >= FROM]
        for before, after in zip(sizes, sizes[1:]):
            for name in AGAINST:
                low, high = (
                    results.median(f"{name}/{rows}") / rows for rows in (before, after)
                )
                place = f"{name}, {after:,} rows on {DATABASES[database]}"
                changes.append((high / low, place))
    if not changes:
        raise Missing(f"no results of two sizes from {FROM:,} rows on")
    (least, where), (most, there) = min(changes), max(changes)
    return (
        f"From {FROM:,} rows on, with ten times the rows each row takes {least:.2f} "
        f"({where}) to {most:.2f} ({there}) times as long."
    )


def peers(found):
    """The seconds of other ways, against post_update."""
    lines = []
    for database, results in found.items():
        for rows in results.sizes():
            pairs = {
                name: results.ratio(f"{name}/{rows}", f"keys/{rows}") for name in PEERS
            }
            ahead = all(pairs[name][0] > 1 for name in PACKAGES)
            lines.append(
                [
                    DATABASES[database],
                    f"{rows:,}",
                    seconds(results.median(f"keys/{rows}")),
                    *map(ratio, pairs.values()),
                    ("yes" if ahead else "**no**") if rows == 1 else "",
                ]
            )
    head = ["database", "rows", "`post_update`", *(f"`{name}`" for name in PEERS)]
    return table([*head, "ahead of packages"], lines)


def memory(found):
    """The peak memory of an update."""
    lines = []
    for database, results in found.items():
        for rows in results.sizes():
            base = results.median(f"unpatched/{rows}")
            cells = [f"{base / 1e6:.1f} MB"]
            for kind in ("none", *AGAINST):
                more = results.median(f"{kind}/{rows}") - base
                cells.append(f"{more / 1e6:+.1f} MB")
            lines.append([DATABASES[database], f"{rows:,}", *cells])
    head = ["database", "rows", "unpatched", "no receiver", "keys", "instances"]
    return table(head, lines)


def writers(found):
    """How many of the 360 updates of six writers failed."""
    lines = []
    for database, results in found.items():
        for level in dict.fromkeys(name.split("/")[0] for name in results.benchmarks):
            cells = []
            for kind in ("none", "post_update"):
                good = sum(results.values(f"{level}/{kind}"), [])
                least, most = 360 - max(good), 360 - min(good)
                cells.append(f"{least:.0f} to {most:.0f}")
            lines.append([DATABASES[database], level, *cells])
    head = ["database", "isolation level", "no receiver", "`post_update`"]
    return table(head, lines, left=2)


def machine(everything):
    """
    The machine, the versions, and the dates.

    everything: {suite: {database: Results}}.
    """
    lines = []
    for database, title in DATABASES.items():
        suites = [found[database] for found in everything.values() if database in found]
        benchmarks = [one for suite in suites for one in suite.benchmarks.values()]
        # pyperf takes all values for seconds when it looks for the end.
        benchmarks = [one for one in benchmarks if one.get_unit() == "second"]
        if not benchmarks:
            continue
        facts = benchmarks[0].get_metadata()
        dates = [date for one in benchmarks for date in one.get_dates()]
        dates = sorted({f"{date:%Y-%m-%d}" for date in (min(dates), max(dates))})
        cpu = f"{facts['cpu_count']} × {facts.get('cpu_model_name', '?')}"
        versions = [f"Python {facts['python_version']}", facts["database"]]
        versions += [facts["driver"]] if "driver" in facts else []
        lines.append([title, " to ".join(dates), cpu, ", ".join(versions)])
    return table(["database", "measured", "machine", "versions"], lines)


# {the name of a section: (its function, the suite that it's made of)}.
SECTIONS = {
    "unused": (unused, "unused"),
    "used": (used, "used"),
    "growth": (growth, "used"),
    "peers": (peers, "peers"),
    "memory": (memory, "memory"),
    "writers": (writers, "writers"),
}


def load(directory):
    """Return {suite: {database: Results}} with all that is in a directory."""
    found = {}
    for suite in dict.fromkeys(suite for _, suite in SECTIONS.values()):
        paths = {name: directory / f"{name}-{suite}.json" for name in DATABASES}
        found[suite] = {
            name: Results(path) for name, path in paths.items() if path.exists()
        }
    return {suite: results for suite, results in found.items() if results}


def main(argv):
    """Write the page. Return the exit status."""
    directory, page = map(Path, argv)
    everything, sections = load(directory), {}
    if (path := directory / "counts.json").exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        sections["counts"] = counts.tables(found)
    for name, (section, suite) in SECTIONS.items():
        try:
            if suite in everything:
                sections[name] = section(everything[suite])
        except Missing as error:
            print(f"{name} stays as it is: {error}")
    if everything:
        sections["machine"] = machine(everything)
    try:
        text = replace_sections(page.read_text(encoding="utf-8"), sections)
    except Missing as error:
        print(f"{page}: {error}", file=sys.stderr)
        return 1
    page.write_text(text, encoding="utf-8")
    print(f"Wrote {page.name}: {', '.join(sections)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
