"""
Write the tables and the plots of docs/performance.md.

    python -m benchmarks.report DIRECTORY PAGE

DIRECTORY has the results of counts.py and measure.py. PAGE is the Markdown
file; what is between its markers is replaced:

    <!-- bench: NAME -->
    <!-- end -->

NAME is a key of SECTIONS. The prose around them is written by hand. The plots
are in the directory next to PAGE that has its name.
"""

import json
import math
import statistics
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt  # noqa: E402
import pyperf  # noqa: E402
from matplotlib.ticker import LogLocator, NullLocator  # noqa: E402

from .counts import LIMITS, MORE, SAVE_LIMITS, UNUSED, ratios  # noqa: E402
from .text import (  # noqa: E402
    Missing,
    met,
    middle,
    paired,
    replace_sections,
    seconds,
)

DATABASES = {
    "sqlite": "SQLite",
    "postgres": "PostgreSQL",
    "mariadb": "MariaDB",
    "mysql": "MySQL",
}
# What pk_set may cost, against the driver, from FROM rows up.
GOALS = {"sqlite": 1.15, "postgres": 1.15, "mariadb": 1.3, "mysql": 1.3}
FROM = 10000
# Without receivers, a time counts as more if it's by so much more, and by more
# than twice its spread: clocks don't tell less.
TIME = 1.02
# What must be slower for one row: the packages that tell the rows.
PACKAGES = ("bulk_hooks", "cacheops")
PEERS = ("bulk_signals", "values_list", "locked", "save_each", *PACKAGES)
# Grey works on white and on black, and so do these, which differ in lightness,
# too. Markers and styles are for who doesn't see the colours.
GREY = "#808080"
STYLES = [
    ("#d55e00", "o", "-"),
    ("#0072b2", "s", "--"),
    ("#009e73", "^", "-."),
    ("#cc79a7", "D", ":"),
    ("#b58900", "v", (0, (5, 1))),
    ("#56b4e9", "x", (0, (3, 1, 1, 1, 1, 1))),
    (GREY, "P", (0, (1, 3))),
]


class Results:
    """What measure.py wrote for one database and one name."""

    def __init__(self, directory, database, name):
        path = directory / f"{database}-{name}.json"
        if not path.exists():
            raise Missing(f"no results of {name} on {database}")
        suite = pyperf.BenchmarkSuite.load(str(path))
        self.benchmarks = {one.get_name(): one for one in suite}
        notes = path.with_suffix(".notes.json").read_text(encoding="utf-8")
        self.notes = json.loads(notes)

    def __contains__(self, name):
        return name in self.benchmarks

    def benchmark(self, name):
        """Return a benchmark. Raise Missing if there is none."""
        try:
            return self.benchmarks[name]
        except KeyError:
            raise Missing(f"no result of {name}; measure it again") from None

    def median(self, name):
        return self.benchmark(name).median()

    def values(self, name):
        """Return a list for each process."""
        return [list(run.values) for run in self.benchmark(name).get_runs()]

    def ratio(self, name, other):
        return paired(self.values(name), self.values(other))

    def sizes(self):
        """Return the numbers of rows that were measured, in order."""
        names = [*self.benchmarks, *self.notes]
        return sorted({int(name.split("/")[1]) for name in names})

    def facts(self):
        """Return what it was measured with."""
        return next(iter(self.benchmarks.values())).get_metadata()


def each(directory, name):
    """Return {database: Results}. Raise Missing if there are none."""
    found = {}
    for database in DATABASES:
        try:
            found[database] = Results(directory, database, name)
        except Missing:
            continue
    if not found:
        raise Missing(f"no results of {name}")
    return found


# What the kinds of counts.MORE are.
WITH = {
    "pre_update": "a receiver of `pre_update` that does nothing",
    "post_update": "a receiver of `post_update` that does nothing",
    "transaction": "a transaction, and no receiver",
    "saved": "receivers of `pre_save`, `post_save` and both that do nothing",
}


def machine(directory, plots):
    """The machine, the versions, and the date."""
    lines = ["| | date | machine | versions |", "| --- | --- | --- | --- |"]
    for name in ("unused", "used", "peers", "memory"):
        for database, results in each(directory, name).items():
            facts = results.facts()
            versions = [f"Python {facts['python']}", facts["database"]]
            versions.append(facts.get("driver"))
            lines.append(
                f"| {name}, {DATABASES[database]} | {facts['date']} "
                f"| {facts['cpu_count']} × {facts.get('cpu_model_name', '?')} "
                f"| {', '.join(filter(None, versions))} |"
            )
    return "\n".join(lines)


def counts(directory, plots):
    """The instructions and the statements, without receivers and with."""
    path = directory / "counts.json"
    if not path.exists():
        raise Missing("no results of counts")
    found = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        "| operation | instructions, unpatched | no receiver | limit "
        "| receivers on another model | limit | statements |",
        "| --- | ---: | ---: | --- | ---: | --- | --- |",
    ]
    for method, base in found["unpatched"].items():
        cells = []
        for kind in UNUSED:
            median, spread = middle(ratios(found, kind, method))
            limit = (SAVE_LIMITS if method == "save" else LIMITS)[kind]
            cells += [
                f"{median:.4f} ± {spread:.4f}",
                f"{limit}: {met(median <= limit)}",
            ]
        same = all(
            found[kind][method]["statements"] == base["statements"] for kind in UNUSED
        )
        lines.append(
            f"| `{method}` | {statistics.median(base['instructions']):,.0f} "
            f"| {' | '.join(cells)} | {'the same' if same else '**others**'} |"
        )
    lines += ["", "| operation | with | times unpatched |", "| --- | --- | ---: |"]
    for kind, (method, _) in MORE.items():
        median, spread = middle(ratios(found, kind, method))
        lines.append(f"| `{method}` | {WITH[kind]} | {median:.2f} ± {spread:.2f} |")
    return "\n".join(lines)


def unused(directory, plots):
    """The seconds without receivers, and with ones that do nothing."""
    lines = [
        "| database | operation | unpatched | no receiver | receivers on another "
        "model | measurably more | `pre_update` | `post_update` |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    for database, results in each(directory, "unused").items():
        methods = dict.fromkeys(name.split("/")[0] for name in results.benchmarks)
        for method in methods:
            cells, good = [], True
            for kind in (*UNUSED, "pre_update", "post_update"):
                median, spread = results.ratio(
                    f"{method}/{kind}", f"{method}/unpatched"
                )
                cells.append(f"{median:.3f} ± {spread:.3f}")
                if kind in UNUSED:
                    good = good and median - 1 <= max(TIME - 1, 2 * spread)
            cells.insert(len(UNUSED), "no" if good else "**yes**")
            lines.append(
                f"| {DATABASES[database]} | `{method}` "
                f"| {seconds(results.median(f'{method}/unpatched'))} "
                f"| {' | '.join(cells)} |"
            )
    return "\n".join(lines)


def used(directory, plots):
    """The seconds with receivers, against the driver."""
    lines = [
        "| database | rows | UPDATE by the driver | no receiver | driver | `pk_set` "
        "| `pk_set` / driver | goal | `queryset` | `queryset` / driver and instances |",
        "| --- | ---: " + "| ---: " * 5 + "| --- | ---: | ---: |",
    ]
    everything = each(directory, "used")
    against = {"pk_set": "driver", "queryset": "driver_instances"}
    for database, results in everything.items():
        goal = GOALS[database]
        for rows in results.sizes():
            times, ratios = {}, {}
            for name in ("driver_update", "none", "driver", *against):
                times[name] = seconds(results.median(f"{name}/{rows}"))
            for name, other in against.items():
                ratios[name] = results.ratio(f"{name}/{rows}", f"{other}/{rows}")
            good = f"{goal}: {met(ratios['pk_set'][0] <= goal)}" if rows >= FROM else ""
            median, spread = ratios["queryset"]
            lines.append(
                f"| {DATABASES[database]} | {rows:,} | {times['driver_update']} "
                f"| {times['none']} | {times['driver']} | {times['pk_set']} "
                f"| {ratios['pk_set'][0]:.2f} ± {ratios['pk_set'][1]:.2f} | {good} "
                f"| {times['queryset']} | {median:.2f} ± {spread:.2f} |"
            )
    names = {
        "queryset": "queryset",
        "driver_instances": "driver, instances",
        "pk_set": "pk_set",
        "driver": "driver",
        "none": "no receiver",
    }
    curves = {
        database: {
            label: [
                (rows, results.median(f"{name}/{rows}")) for rows in results.sizes()
            ]
            for name, label in names.items()
        }
        for database, results in everything.items()
    }
    draw(plots / "used.svg", curves, "seconds of an update")
    curves = {
        database: {
            name: [
                (rows, results.ratio(f"{name}/{rows}", f"{other}/{rows}")[0])
                for rows in results.sizes()
                if rows > 1
            ]
            for name, other in against.items()
        }
        for database, results in everything.items()
    }
    draw(plots / "driver.svg", curves, "times the driver", GOALS)
    return "\n".join([*lines, "", image(plots, "used"), "", image(plots, "driver")])


def growth(directory, plots):
    """How the seconds with receivers grow with the rows."""
    lines = [
        "| database | receiver | rows | seconds for each row | growth |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for database, results in each(directory, "used").items():
        for name in ("driver", "driver_instances", "pk_set", "queryset"):
            before = None
            for rows in results.sizes():
                if rows < FROM:
                    continue
                one = results.median(f"{name}/{rows}") / rows
                more = f"{one / before:.2f}" if before else ""
                lines.append(
                    f"| {DATABASES[database]} | `{name}` | {rows:,} "
                    f"| {seconds(one)} | {more} |"
                )
                before = one
    return "\n".join(lines)


def peers(directory, plots):
    """The seconds of other ways, against post_update."""
    lines = [
        "| database | rows | `post_update` | "
        + " | ".join(f"`{name}`" for name in PEERS)
        + " | ahead of packages |",
        "| --- | ---: " + "| ---: " * (1 + len(PEERS)) + "| --- |",
    ]
    everything = each(directory, "peers")
    notes = []
    for database, results in everything.items():
        for rows in results.sizes():
            cells, good = [], True
            for name in PEERS:
                if f"{name}/{rows}" in results:
                    median, spread = results.ratio(
                        f"{name}/{rows}", f"post_update/{rows}"
                    )
                    count = len(results.benchmarks[f"{name}/{rows}"].get_values())
                    cells.append(
                        f"{median:.2f} ± {spread:.2f}"
                        if count > 1
                        else f"{median:.2f} (once)"
                    )
                    good = good and (name not in PACKAGES or median > 1)
                else:
                    notes.append(
                        f"- {DATABASES[database]}, {rows:,} rows, `{name}`: "
                        + results.notes[f"{name}/{rows}"]
                    )
                    cells.append("see below")
            lines.append(
                f"| {DATABASES[database]} | {rows:,} "
                f"| {seconds(results.median(f'post_update/{rows}'))} "
                f"| {' | '.join(cells)} | {met(good) if rows == 1 else ''} |"
            )
    curves = {
        database: {
            name: [
                (rows, results.median(f"{name}/{rows}"))
                for rows in results.sizes()
                if f"{name}/{rows}" in results
            ]
            for name in ("post_update", *PEERS)
        }
        for database, results in everything.items()
    }
    draw(plots / "peers.svg", curves, "seconds of an update")
    return "\n".join([*lines, "", *notes, "", image(plots, "peers")])


def memory(directory, plots):
    """The peak memory of an update."""
    lines = [
        "| database | rows | unpatched | no receiver | `pk_set` | `queryset` |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for database, results in each(directory, "memory").items():
        for rows in results.sizes():
            base = results.median(f"unpatched/{rows}")
            cells = [
                f"{(results.median(f'{kind}/{rows}') - base) / 1e6:+.1f} MB"
                for kind in ("none", "pk_set", "queryset")
            ]
            lines.append(
                f"| {DATABASES[database]} | {rows:,} | {base / 1e6:.1f} MB "
                f"| {' | '.join(cells)} |"
            )
    return "\n".join(lines)


SECTIONS = {
    "machine": machine,
    "counts": counts,
    "unused": unused,
    "used": used,
    "growth": growth,
    "peers": peers,
    "memory": memory,
}


def image(plots, name):
    """Return the Markdown for a plot."""
    return f"![{name}: the numbers of the table above]({plots.name}/{name}.svg)"


def draw(path, curves, label, goals=None):
    """
    Draw a plot for each database, side by side, over the number of rows.

    curves: {database: {name: [(rows, value), ...]}}. label: of the values.
    goals: {database: a value to draw a line at}. Each curve has its name at
    its end, and the names are in the order of the ends.
    """
    settings = {"svg.hashsalt": path.name, "svg.fonttype": "none", "font.size": 9}
    for what in ("text.color", "axes.edgecolor", "axes.labelcolor"):
        settings[what] = GREY
    settings.update({"xtick.color": GREY, "ytick.color": GREY})
    with plt.rc_context(settings):
        columns = min(2, len(curves))
        rows = math.ceil(len(curves) / columns)
        size = 4.6 * columns, 3.4 * rows
        figure, axes = plt.subplots(
            rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False
        )
        figure.supylabel(label, color=GREY, fontsize=9)
        for axis in axes[-1]:
            axis.set_xlabel("rows")
        for axis in axes.flat[len(curves) :]:
            axis.remove()
        names = []
        for axis, (database, named) in zip(axes.flat, curves.items()):
            axis.set_title(DATABASES[database])
            axis.set(xscale="log", yscale="log")
            if goals:
                # Of a ratio, the small numbers are the important ones.
                axis.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5)))
                axis.yaxis.set_major_formatter("{x:g}")
                axis.yaxis.set_minor_locator(NullLocator())
            ends = []
            for (name, points), (color, marker, style) in zip(named.items(), STYLES):
                if points:
                    xs, ys = zip(*points)
                    axis.plot(xs, ys, marker=marker, linestyle=style, color=color, ms=4)
                    ends.append((ys[-1], name, color))
            if goals:
                axis.axhline(goals[database], color=GREY, linewidth=0.8)
                ends.append((goals[database], f"goal: {goals[database]}", GREY))
            names.append((axis, ends))
        # The names have their room beside each plot.
        figure.tight_layout()
        figure.subplots_adjust(wspace=0.5, right=1 - 0.33 / columns)
        for axis, ends in names:
            place_names(axis, ends)
        figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
        plt.close(figure)


def place_names(axis, ends):
    """Write names at the ends of curves, none over another."""
    lowest, height = None, 9 * axis.figure.dpi / 72 * 1.2
    for value, name, color in sorted(ends):
        y = axis.transData.transform((1, value))[1]
        y = y if lowest is None else max(y, lowest + height)
        lowest = y
        x, y = axis.get_xlim()[1], axis.transData.inverted().transform((0, y))[1]
        axis.text(x, y, f" {name}", va="center", color=color)


def main(argv):
    """Write the page and the plots. Return the exit status."""
    directory, page = map(Path, argv)
    plots = page.with_suffix("")
    plots.mkdir(exist_ok=True)
    sections = {}
    for name, section in SECTIONS.items():
        try:
            sections[name] = section(directory, plots)
        except Missing as error:
            print(f"{name} stays as it is: {error}")
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
