"""The statistics and the text of the report, which need no package."""

import re
import statistics

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


def met(good):
    """Return the word for a goal."""
    return "met" if good else "**not met**"


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
