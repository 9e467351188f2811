"""Figures of matplotlib as SVG that stands inside a page: with its colours, and with its font."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, LINE = "#010101", "#020202", "#030303"
ACCENT, BAD, GOOD, SOFT = "#040404", "#050505", "#060606", "#070707"
COLOURS = {  # what is drawn with -> a variable of the page's style sheet
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    BAD: "var(--bad)",
    GOOD: "var(--good)",
    SOFT: "var(--soft)",
}
PER_INCH = 72  # units of the drawing, which a page shows as its pixels
BARE = re.compile(
    r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>|<defs>\s*</defs>", re.DOTALL
)


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib as it comes, whatever the user has set, with what all plots share."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "svg.fonttype": "none",
                "font.size": 11,
                "text.color": INK,
                "text.parse_math": False,
                "axes.edgecolor": LINE,
                "axes.labelcolor": MUTED,
                "axes.labelsize": 11,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.spines.left": False,
                "axes.unicode_minus": True,
                "axes.linewidth": 1,
                "figure.facecolor": "none",
                "axes.facecolor": "none",
                "grid.color": LINE,
                "grid.linewidth": 1,
                "xtick.color": LINE,
                "ytick.color": LINE,
                "xtick.labelcolor": MUTED,
                "ytick.labelcolor": MUTED,
                "xtick.labelsize": 11,
                "ytick.labelsize": 11,
                "xtick.major.size": 3,
                "ytick.major.size": 0,
                "lines.solid_capstyle": "round",
            }
        )
        yield


def svg(figure: Figure, key: str, label: str) -> str:
    """A figure as an `svg` element.

    Parameters
    ----------
    figure : Figure
    key : str
        Another one for each figure of a page: ids follow from it.
    label : str
        What it shows, in words.
    """
    # Made from the key and from what is drawn: the same bytes each time, and no id twice.
    mpl.rcParams["svg.hashsalt"] = key
    text = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(text, format="svg", metadata=nothing)
    drawn = BARE.sub("", text.getvalue())
    drawn = drawn[drawn.index("<svg") :].replace("xlink:href", "href").replace("\n", " ")
    wanted = {*re.findall(r'(?:href="|url\()#([^")]+)', drawn)}
    drawn = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in wanted else "", drawn)
    drawn = re.sub(r"font-family: [^;\"]*;?", "", drawn)  # the page's
    drawn = re.sub(r' transform="rotate\(-?0 [^"]*\)"', "", drawn)
    for colour, variable in COLOURS.items():
        drawn = drawn.replace(colour, variable)
    width, height = (side * PER_INCH for side in figure.get_size_inches())
    opening = (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        f'role="img" aria-label="{escape(label)}">'
    )
    return re.sub(r"\s+", " ", opening + drawn[drawn.index(">") + 1 :]).replace("> <", "><")


def empty(size: tuple[int, int], margins: tuple[float, float, float, float]) -> tuple[Figure, Axes]:
    """A figure of so many pixels, and axes that leave margins: left, right, bottom, top."""
    width, height = size
    left, right, bottom, top = margins
    figure = Figure(figsize=(width / PER_INCH, height / PER_INCH), dpi=PER_INCH)
    axes = figure.add_axes(
        (
            left / width,
            bottom / height,
            (width - left - right) / width,
            (height - bottom - top) / height,
        )
    )
    return figure, axes
