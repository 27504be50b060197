"""
Draw the plot of docs/performance.md: what its table doesn't show at a glance.
"""

import re

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import (  # noqa: E402
    EngFormatter,
    FixedLocator,
    LogLocator,
    NullLocator,
)

from .report import AGAINST, DATABASES, GOALS  # noqa: E402

# Grey works on white and on black, and so do these, which differ in lightness,
# too. Markers and styles are for who doesn't see the colours.
GREY = "#808080"
CURVES = {
    "keys": ("a receiver takes the keys", "#d55e00", "o", "-"),
    "instances": ("a receiver takes instances", "#0072b2", "s", "--"),
    "none": ("no receiver", GREY, "P", (0, (1, 3))),
}
STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "font.sans-serif": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor"), GREY),
    **dict.fromkeys(("xtick.color", "ytick.color"), GREY),
}


def draw(path, found):
    """
    Draw the ratios to the driver over the number of rows.

    path: of the SVG. found: {database: report.Results}.
    """
    against = {**AGAINST, "none": "driver_update"}
    path.parent.mkdir(exist_ok=True)
    settings = {**STYLE, "svg.hashsalt": path.name}
    with plt.rc_context(settings):
        figure, axes = plt.subplots(
            *(1, len(found)),
            figsize=(2.3 * len(found), 3.4),
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        axes[0][0].set_ylabel("times the driver doing the same")
        for axis, (database, results) in zip(axes.flat, found.items()):
            sizes = results.sizes()
            axis.set(title=DATABASES[database], xlabel="rows")
            axis.set(xscale="log", yscale="log")
            axis.xaxis.set_major_locator(FixedLocator(sizes))
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
            for one in (axis.xaxis, axis.yaxis):
                one.set_minor_locator(NullLocator())
            axis.tick_params(length=0)
            axis.axhline(1, color=GREY, linewidth=0.5, clip_on=False)
            for name, other in against.items():
                text, color, marker, style = CURVES[name]
                ratios = [
                    results.ratio(f"{name}/{rows}", f"{other}/{rows}")[0]
                    for rows in sizes
                ]
                axis.plot(
                    *(sizes, ratios),
                    label=text,
                    color=color,
                    marker=marker,
                    linestyle=style,
                    markersize=4,
                    clip_on=False,
                )
            style = {"color": GREY, "linewidth": 1, "linestyle": ":"}
            goal = GOALS[database]
            axis.axhline(goal, label="goal of the keys", clip_on=False, **style)
        handles = axes[0][0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=4)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(path, transparent=True, metadata=nothing)
        plt.close(figure)
    path.write_text(shorten(path.read_text(encoding="utf-8")), encoding="utf-8")


def shorten(svg):
    """Return an SVG with fewer decimals, and without what draws nothing."""
    svg = re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]):.1f}", svg)
    svg = re.sub(r' *<!--.*?-->\n| *<g id="[^"]*"/>\n', "", svg)
    svg = re.sub(r' *<g id="[^"]*">\s*</g>\n', "", svg)
    svg = re.sub(r'\n(?=[LCQz"])', "", svg)
    # Groups of one element, from the inside.
    group = re.compile(r'( *)<g id="[^"]*">\n *(<.*)\n\1</g>')
    while group.search(svg):
        svg = group.sub(r"\1\2", svg)
    return svg
