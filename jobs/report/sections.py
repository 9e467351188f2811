"""What each section of a report shows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..finding import FAILING, MISSING, THRESHOLD
from ..gate import by_metric
from ..results import EvalResult, Metric
from . import plots
from .figures import (
    clean,
    compared,
    day,
    duration,
    figure,
    minute,
    plural,
    size,
    unindented,
)
from .row_plots import RowPlots, row_plots
from .score_table import direction, old, scores
from .timeline import FACTS, Run, changes

MOST_LINES = 50  # of a list, of each task
FEW_LINES = 5  # of those, that are shown before a click
MOST_FILES = 100
MOST_TASKS = 200
MOST_PANELS = 48
MOST_PLOTTED = 24  # tasks
MOST_CHANGES = 26
MOST_NIGHTS = 120  # that are drawn


@dataclass(frozen=True)
class Panel:
    """A plot with its caption."""

    title: str
    subtitle: str
    plot: str


def as_text(value: Any) -> Any:
    """What becomes of a value that the template shows: markup and numbers stay as they are."""
    return clean(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def view(
    result: EvalResult,
    counts: dict[str, int],
    before: EvalResult | None,
    folder: Path,
    baseline: Path | None,
    runs: Sequence[Run],
) -> dict[str, Any]:
    """All that the template shows.

    Parameters
    ----------
    result : EvalResult
    counts : dict of str to int
        Rows of each task.
    before : EvalResult or None
        The baseline.
    folder, baseline : Path
        Where both lie.
    runs : sequence of Run
        The timeline.
    """
    gate = result.gate or {}
    findings = gate.get("findings", [])
    panels, more_panels = trends(result, before, runs)
    plotted, more_plotted = row_plots_of(result, folder, baseline)
    failing = [f for f in findings if f["verdict"] in (MISSING, THRESHOLD)]
    table = scores(result, before)
    files = [(task, file) for task, found in result.tasks.items() for file in found.data]
    return {
        "when": minute(result.started),
        "duration": duration(result.elapsed_s),
        "baseline": gate.get("baseline"),
        "tiles": tiles(result, counts),
        # What regressed stands in the table, with all that there is to say of it.
        "failing": failing[:MOST_LINES],
        "more_failing": len(failing) - MOST_LINES,
        "notes": gate.get("notes", []),
        "counts": counts,
        "scores": table[:MOST_TASKS],
        "more_scores": len(table) - MOST_TASKS,
        "forest_axis": plots.forest_axis("forest-axis") if findings else "",
        "trends": panels,
        "more_trends": more_panels,
        "changed": changed(runs),
        "nights": len(runs),
        "most_nights": MOST_NIGHTS,
        "rows": plotted,
        "more_rows": more_plotted,
        "flips": flips(gate.get("flipped", [])),
        "most": MOST_LINES,
        "few": FEW_LINES,
        "speed": speed(result, counts),
        "provenance": provenance(result),
        "check": check(result.check),
        "offending": offending(result.check),
        "data": files[:MOST_FILES],
        "more_data": len(files) - MOST_FILES,
        "day": day,
        "size": size,
        "plural": plural,
    }


def tiles(result: EvalResult, counts: dict[str, int]) -> list[tuple[str, str]]:
    """A few figures of the whole run."""
    gate, check = result.gate or {}, result.check
    flipped = gate.get("flipped", [])
    judged = by_metric(gate).values()
    failing = sum(told["verdict"] in FAILING for told in judged)
    lost = sum(flip["was_correct"] for flip in flipped)
    n_bad = sum(len(task.bad_rows) for task in result.tasks.values())
    found = [("metrics failed", f"{failing} of {len(judged)}")] if judged else []
    if gate.get("baseline"):
        found.append(("answers", f"{lost:,} lost, {len(flipped) - lost:,} won"))
    found.append(("rows", f"{sum(counts.values()):,}"))
    found.append(("bad rows", f"{n_bad:,}"))
    if check:
        found.append(("reference", "agrees" if check.get("agrees") else "disagrees"))
    return found


def changed(runs: Sequence[Run]) -> list[tuple[Run, list[str]]]:
    """The latest runs since which a model or a version is another, and which.

    Not the processor: where machines are lent, each night may have another.
    """
    facts = [fact for fact in FACTS if fact != "processor"]
    pairs = pairwise(runs[-MOST_NIGHTS:])
    told = [(after, changes(before, after, facts)) for before, after in pairs]
    return [(run, found) for run, found in told if found][-MOST_CHANGES:]


def trends(
    result: EvalResult, before: EvalResult | None, runs: Sequence[Run]
) -> tuple[list[Panel], int]:
    """A panel for each metric that more than one run has; and how many are left out."""
    shown = runs[-MOST_NIGHTS:]
    marks = [run.started for run, _ in changed(runs)]
    span = (shown[0].started, shown[-1].started)
    found = {
        (task, metric): [
            plots.Night(run.started, one.value, one.stderr, one.verdict in FAILING)
            for run in shown
            if (one := run.metrics.get((task, metric.name)))
        ]
        for task, of_task in result.tasks.items()
        for metric in of_task.metrics
    }
    drawn = {key: nights for key, nights in found.items() if len(nights) > 1}
    # Of too many those that fail now; a sort keeps the order of the others.
    chosen = {*sorted(drawn, key=lambda key: not drawn[key][-1].is_bad)[:MOST_PANELS]}
    panels = []
    for (task, metric), nights in drawn.items():
        if (task, metric) in chosen:
            was = old(before, task, metric.name)
            label = told_trend(task, metric, nights)
            key = f"trend-{task}-{metric.name}"
            plot = plots.trend(nights, marks, was.value if was else None, span, key, label)
            now = f"{figure(metric.value, metric.stderr)}, {direction(metric)}"
            panels.append(Panel(f"{task}: {metric.name}", now, plot))
    return panels, len(drawn) - len(panels)


def told_trend(task: str, metric: Metric, nights: Sequence[plots.Night]) -> str:
    """A trend in words."""
    values = [night.value for night in nights if math.isfinite(night.value)]
    bad = sum(night.is_bad for night in nights)
    between = (
        f", between {figure(min(values), metric.stderr)} and {figure(max(values), metric.stderr)}"
        if values
        else ""
    )
    return clean(
        f"{task}, {metric.name}: {len(nights)} runs{between}, "
        f"{figure(metric.value, metric.stderr)} in this one; the gate refused it in {bad} of them"
    )


def row_plots_of(
    result: EvalResult, folder: Path, baseline: Path | None
) -> tuple[list[RowPlots], int]:
    """Plots of the tasks whose rows tell something; and how many tasks are not looked at."""
    tasks = [*result.tasks]
    shown = tasks[:MOST_PLOTTED]
    found = [row_plots(task, result.kinds[task], folder, baseline) for task in shown]
    plotted = [plot for plot in found if plot.calibration or plot.by_length]
    return plotted, len(tasks) - len(shown)


def flips(flipped: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose answer was right and is wrong, or the other way round, task by task."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    for flip in flipped:
        tasks.setdefault(flip["task"], []).append(flip)
    found = []
    for task, all_of_it in tasks.items():
        lost = sum(flip["was_correct"] for flip in all_of_it)
        shown = sorted(all_of_it, key=lambda flip: not flip["was_correct"])[:MOST_LINES]
        lines = []
        for flip in shown:
            expected, old, new = unindented(flip["expected"], flip["before"], flip["after"])
            before, after = compared(old, new)
            lines.append({**flip, "expected": expected, "before": before, "after": after})
        won, more = len(all_of_it) - lost, len(all_of_it) - len(lines)
        found.append({"task": task, "lost": lost, "won": won, "lines": lines, "more": more})
    return found


def check(told: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """What was compared with the reference, and how far apart it was."""
    scored = ("requests", "tokens", "max_abs_diff", "tolerance", "same_choice")
    generated = ("rows", "positions", "max_abs_diff", "tolerance", "top1_agreement")
    both = ("near_ties", "disagreements")
    found = [("log-probabilities", told, scored), ("logits", told.get("generation"), generated)]
    return [
        (name, [significant(table.get(key)) for key in (*keys, *both)])
        for name, table, keys in found
        if table
    ]


def significant(value: float | None) -> str:
    """A number that may be tiny."""
    return "" if value is None else f"{value:,}" if isinstance(value, int) else figure(value)


def offending(told: dict[str, Any]) -> list[str]:
    """Requests and rows that disagree."""
    generated = told.get("generation") or {}
    return [*told.get("offending", []), *generated.get("offending", [])]


def speed(result: EvalResult, counts: dict[str, int]) -> list[tuple[str, str, str, str]]:
    """Task, rows, time, and rows in a second."""
    return [
        (
            task,
            f"{counts[task]:,}",
            duration(found.elapsed_s),
            f"{counts[task] / found.elapsed_s:,.3g}" if counts[task] and found.elapsed_s else "",
        )
        for task, found in result.tasks.items()
    ]


def provenance(result: EvalResult) -> list[tuple[str, str]]:
    """Where the figures come from, by name."""
    model, job = result.model, result.job
    hparams = ", ".join(f"{name} {value}" for name, value in model["hparams"].items())
    found = {
        "run": result.run,
        "job file": job["file"],
        "its SHA-256": job["sha256"],
        "model": model["name"],
        "weights' SHA-256": model["weights_sha256"],
        "dtype": model["dtype"],
        "sizes": hparams,
        **flat(result.environment),
    }
    return [(name, str(value)) for name, value in found.items() if value not in (None, "")]


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A table without tables in it."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.") if not prefix else {f"{prefix}{name}": "..."}
        else:
            found[f"{prefix}{name}"] = value
    return found
