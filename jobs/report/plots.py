"""The plots of a report."""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from .bins import CONFIDENCE, Bin
from .svg import ACCENT, BAD, GOOD, INK, LINE, MUTED, SOFT, empty, svg

FOREST_REACH = 6.0  # standard errors that a forest plot shows to each side
FOREST_SHADED = 2.0  # of them, within which a difference is mostly noise
FOREST_SIZE = (176, 28)
PANEL_SIZE = (320, 148)
PLOT_SIZE = (320, 240)
LEAST_SPAN = 0.02  # of a trend's scale, of the largest value
LOG_FROM = 3.0  # times the smallest length: where the largest is more, their scale is logarithmic


@dataclass(frozen=True)
class Night:
    """A metric in one run: when, its value and standard error, and whether the gate refused it."""

    started: dt.datetime
    value: float
    stderr: float | None
    is_bad: bool


def forest_row(difference: float, verdict: str, key: str, label: str) -> str:
    """One line of a forest plot: a difference and its 95 % interval, in standard errors.

    To the right is better. What lies outside is drawn at the edge as an arrow.

    Parameters
    ----------
    difference : float
        In standard errors, positive where it got better.
    verdict : str
        The gate's.
    key, label : str
        For `svg`.
    """
    figure, axes = empty(FOREST_SIZE, (4, 4, 0, 0))
    frame(axes)
    axes.axvspan(-FOREST_SHADED, FOREST_SHADED, color=SOFT, linewidth=0)
    axes.axvline(0, color=MUTED, linewidth=1)
    colour = {"regression": BAD, "better": GOOD}.get(verdict, INK)
    low, shown, high = (
        max(-FOREST_REACH, min(FOREST_REACH, difference + side))
        for side in (-CONFIDENCE, 0, CONFIDENCE)
    )
    if difference:  # nothing has no interval
        axes.plot([low, high], [0, 0], color=colour, linewidth=2)
    marker = {"regression": "D", "better": "o"}.get(verdict, "s")
    if shown != difference:
        marker = ">" if difference > 0 else "<"
    axes.plot([shown], [0], marker=marker, color=colour, markersize=7, clip_on=False)
    return svg(figure, key, label)


def forest_axis(key: str) -> str:
    """The scale above the lines of a forest plot."""
    figure, axes = empty((FOREST_SIZE[0], 14), (4, 4, 0, 0))
    frame(axes)
    for x in (-4, -2, 0, 2, 4):
        name = f"{x:+d}".replace("-", "\N{MINUS SIGN}") if x else "0"
        axes.text(x, 0, name, ha="center", va="center", color=MUTED, fontsize=11)
    return svg(figure, key, "Scale: minus 6 to plus 6 standard errors; right of 0 is better")


def frame(axes: Axes) -> None:
    axes.set(xlim=(-FOREST_REACH, FOREST_REACH), ylim=(-1, 1))
    axes.set_axis_off()


def trend(
    nights: Sequence[Night],
    changes: Sequence[dt.datetime],
    baseline: float | None,
    span: tuple[dt.datetime, dt.datetime],
    key: str,
    label: str,
) -> str:
    """A metric over nights, with a band of 95 % and a mark at each night that the gate refused.

    Parameters
    ----------
    nights : sequence of Night
        In order.
    changes : sequence of datetime
        Nights since which weights or versions are others: upright lines, lettered from A.
    baseline : float or None
        A dashed line.
    span : tuple of datetime
        The first and the last night of all that is drawn on the page.
    key, label : str
        For `svg`.
    """
    figure, axes = empty(PANEL_SIZE, (46, 12, 24, 18))
    first, last = (days(moment) for moment in span)
    margin = (last - first) * 0.03 or 0.5
    axes.set_xlim(first - margin, last + margin)
    known = [night for night in nights if math.isfinite(night.value)]
    x = [days(night.started) for night in known]
    y = [night.value for night in known]
    error = [CONFIDENCE * (night.stderr or 0.0) for night in known]
    error = [side if math.isfinite(side) else 0.0 for side in error]
    if any(error):
        axes.fill_between(
            x,
            [value - side for value, side in zip(y, error, strict=True)],
            [value + side for value, side in zip(y, error, strict=True)],
            color=ACCENT,
            alpha=0.14,
            linewidth=0,
        )
    if baseline is not None and math.isfinite(baseline):
        axes.axhline(baseline, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.plot(x, y, color=ACCENT, linewidth=1.5)
    many = len(known) > 30
    axes.plot(x, y, "o", color=ACCENT, markersize=0 if many else 3.5)
    bad = [(at, night.value) for at, night in zip(x, known, strict=True) if night.is_bad]
    if bad:
        axes.plot(*zip(*bad, strict=True), "X", color=BAD, markersize=8, clip_on=False)
    if known and not known[-1].is_bad:
        axes.plot(x[-1:], y[-1:], "o", color=ACCENT, markersize=6, clip_on=False)
    for n, moment in enumerate(changes):
        axes.axvline(days(moment), color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
        axes.annotate(
            letter(n),
            (days(moment), 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            color=MUTED,
            fontsize=11,
        )
    few_lines(axes, y)
    is_day = span[0].date() == span[1].date()
    names = [f"{moment:%H:%M}" if is_day else f"{moment.day} {moment:%b}" for moment in span]
    axes.set_xticks([first, last], names)
    left, right = axes.get_xticklabels()
    left.set_horizontalalignment("left")
    right.set_horizontalalignment("right")
    return svg(figure, key, label)


def few_lines(axes: Axes, y: Sequence[float]) -> None:
    """A scale of a few lines across, on which a change of a per mille looks like one."""
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.locator_params(axis="y", nbins=3)
    axes.ticklabel_format(axis="y", useOffset=False)
    low, high = axes.get_ylim()
    lack = max(abs(value) for value in y) * LEAST_SPAN - (high - low) if y else 0
    if lack > 0:
        axes.set_ylim(low - lack / 2, high + lack / 2)


def days(moment: dt.datetime) -> float:
    return moment.timestamp() / 86400


def letter(n: int) -> str:
    """A, B, ... Z, AA, AB, ..."""
    return (letter(n // 26 - 1) if n >= 26 else "") + chr(ord("A") + n % 26)


def calibration(bins: Sequence[Bin], key: str, label: str) -> str:
    """How probable the model found what it chose, against how often that was right."""
    figure, axes = empty(PLOT_SIZE, (46, 12, 40, 18))
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    most = max(part.n for part in bins)
    for part in bins:  # how many, as bars along the floor
        height = 0.14 * part.n / most
        axes.bar(part.x, height, width=0.05, color=LINE, linewidth=0)
        axes.text(part.x, height + 0.01, short(part.n), ha="center", color=MUTED, fontsize=9)
    points(axes, bins, ACCENT, "o", line="")
    axes.set(xlim=(-0.02, 1.02), ylim=(0, 1.03), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.set_xticklabels(["0", "0.5", "1"])
    axes.set_yticklabels(["0", "0.5", "1"])
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_xlabel("probability of what was chosen")
    above(figure, "share correct")
    return svg(figure, key, label)


def by_length(
    bins: Sequence[Bin],
    before: Sequence[Bin],
    names: tuple[str, str],
    key: str,
    label: str,
) -> str:
    """A row's value over its length: this run's, and the baseline's beside it.

    Parameters
    ----------
    bins, before : sequence of Bin
        Of this run, and of the baseline.
    names : tuple of str
        Of what lies along and of what stands up.
    key, label : str
        For `svg`.
    """
    figure, axes = empty(PLOT_SIZE, (46, 12, 40, 18))
    points(axes, before, MUTED, "s")
    points(axes, bins, ACCENT, "o")
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.locator_params(axis="y", nbins=4)
    axes.ticklabel_format(axis="y", useOffset=False)
    x = [part.x for part in (*bins, *before)]
    if max(x) > LOG_FROM * min(x) > 0:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.locator_params(axis="x", nbins=5, integer=True)
    axes.set_xlabel(names[0])
    above(figure, names[1])
    return svg(figure, key, label)


def above(figure: Figure, name: str) -> None:
    """What stands up, in the corner: read sooner than along the axis."""
    figure.text(0, 1, name, ha="left", va="top", fontsize=11, color=MUTED)


def short(n: int) -> str:
    """A count in four characters: 12k stands for some 12,000."""
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if n >= unit:
            return f"{n / unit:.1f}{name}" if n < 10 * unit else f"{n // unit}{name}"
    return str(n)


def points(axes: Axes, bins: Sequence[Bin], colour: str, marker: str, line: str = "-") -> None:
    """Means with their intervals."""
    x = [part.x for part in bins]
    y = [part.y for part in bins]
    error = [[part.error[side] for part in bins] for side in (0, 1)]
    fill = "none" if marker == "s" else colour
    axes.errorbar(
        x,
        y,
        yerr=error,
        fmt=f"{marker}{line}",
        color=colour,
        markerfacecolor=fill,
        markersize=5,
        linewidth=1,
        elinewidth=1.5,
    )
