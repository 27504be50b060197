"""Statistics, tables, and progress, which need no package."""

import re
import statistics
import sys
from time import monotonic

MARKER = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- end -->)", re.S)


class Missing(Exception):
    """There are no results for a section, or no place for it."""


def middle(values):
    """Return (the median, the median absolute deviation)."""
    median = statistics.median(values)
    return median, statistics.median(abs(value - median) for value in values)


def paired(values, others):
    """
    Return (the median, its spread) of the ratios of what was measured in turn.

    values, others: a list for each process, of one value for each round.
    """
    return middle(
        [
            value / other
            for run, other_run in zip(values, others)
            for value, other in zip(run, other_run)
        ]
    )


def seconds(value):
    """Return a time with a unit."""
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}" if value < 1000 else f"{value:.0f} s"
    return f"{value / 1e-6:.3g} µs"


def about(value):
    """Return a time to wait, in words."""
    return f"{value / 60:.0f} min" if value >= 90 else f"{value:.0f} s"


def met(limit, good):
    """Return a limit, and whether it's met."""
    return f"{limit:.2f}: {'met' if good else '**not met**'}"


def ratio(pair):
    """Return a ratio and its spread."""
    return f"{pair[0]:.2f} ± {pair[1]:.2f}"


def table(head, rows, left=1):
    """Return a table in Markdown, with so many columns on the left."""
    rule = ["---:" if number >= left else "---" for number in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


class Progress:
    """
    Say on standard error how far it is, and how long it will take.

    total: the sum of the weights of all steps. pause: so many seconds at least
    are between two lines.
    """

    def __init__(self, total, pause=0):
        self.total, self.done, self.pause = total, 0, pause
        self.started = self.said = monotonic()

    def say(self, what):
        """Say what is done next, and how long all of it will take from now."""
        now = monotonic()
        if self.done and now - self.said < self.pause:
            return
        self.said = now
        if self.done:
            left = (now - self.started) / self.done * (self.total - self.done)
            what = f"{what}; about {about(left)} left"
        print(f"  {what}", file=sys.stderr, flush=True)

    def add(self, weight=1):
        """Add the weight of a step that is done."""
        self.done += weight


def replace_sections(text, sections):
    """
    Return the text with what's between its markers replaced.

    sections: {name: text}. What is not in it stays as it is. Raise Missing if
    the text has no markers for one.
    """
    names = {match[2] for match in MARKER.finditer(text)}
    if lost := set(sections) - names:
        raise Missing(f"the page has no markers for {', '.join(sorted(lost))}")
    return MARKER.sub(
        lambda match: (
            f"{match[1]}{sections[match[2]].strip()}\n{match[3]}"
            if match[2] in sections
            else match[0]
        ),
        text,
    )
