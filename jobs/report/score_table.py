"""The table of scores: each metric beside the baseline's, with the gate's verdict."""

import math
from dataclasses import dataclass
from typing import Any

from ..gate import by_metric
from ..results import EvalResult, Metric
from . import plots
from .figures import differing, error, figure

VERDICTS = {  # of the gate -> sign, words, class
    "regression": ("\N{MULTIPLICATION X}", "regression", "bad"),
    "missing": ("\N{MULTIPLICATION X}", "missing", "bad"),
    "threshold": ("\N{MULTIPLICATION X}", "out of bounds", "bad"),
    "worse": ("\N{BLACK DOWN-POINTING SMALL TRIANGLE}", "worse, let pass", "quiet"),
    "better": ("\N{BLACK UP-POINTING SMALL TRIANGLE}", "better", "good"),
    "same": ("=", "same", "quiet"),
    "new": ("+", "new", "quiet"),
}


@dataclass(frozen=True)
class Score:
    """A line of the table of scores; texts, but for `plot`."""

    metric: str
    direction: str
    value: str
    error: str
    n: int | None
    before: str
    difference: str
    how: str
    plot: str
    sign: str
    verdict: str
    style: str


def scores(result: EvalResult, before: EvalResult | None) -> list[tuple[str, str, list[Score]]]:
    """Tasks with their kinds and their lines of the table.

    Parameters
    ----------
    result : EvalResult
    before : EvalResult or None
        The baseline.
    """
    found = by_metric(result.gate)
    table: dict[str, list[Score]] = {}
    for task, of_task in result.tasks.items():
        for metric in of_task.metrics:
            finding = found.pop((task, metric.name), {})
            line = score(task, metric, finding, old(before, task, metric.name))
            table.setdefault(task, []).append(line)
    for (task, name), finding in found.items():  # what this run should have, and has not
        was = old(before, task, name)
        higher = was.higher_is_better if was else True
        metric = Metric(name, math.nan, None, 0, higher_is_better=higher)
        table.setdefault(task, []).append(score(task, metric, finding, was))
    kinds = {**(before.kinds if before else {}), **result.kinds}
    return [(task, kinds.get(task, "").replace("_", " "), lines) for task, lines in table.items()]


def old(before: EvalResult | None, task: str, name: str) -> Metric | None:
    """The baseline's metric of that name."""
    found = before.tasks.get(task) if before else None
    return (
        next((metric for metric in found.metrics if metric.name == name), None) if found else None
    )


def direction(metric: Metric) -> str:
    return "higher is better" if metric.higher_is_better else "lower is better"


def score(task: str, metric: Metric, finding: dict[str, Any], before: Metric | None) -> Score:
    """A line of the table."""
    difference, stderr = finding.get("difference"), finding.get("stderr")
    verdict = finding.get("verdict", "")
    sign, words, style = VERDICTS.get(verdict, ("", verdict, "quiet"))
    how = plot = ""
    if difference == 0:
        plot = plots.forest_row(0.0, verdict, f"forest-{task}-{metric.name}", "no difference")
    elif difference is not None and stderr:
        ratio = difference / stderr * (1 if metric.higher_is_better else -1)
        how = f"{abs(ratio):.1f} SE{', paired' if finding['paired'] else ''}"
        label = f"{abs(ratio):.1f} standard errors {'better' if ratio >= 0 else 'worse'}"
        plot = plots.forest_row(ratio, verdict, f"forest-{task}-{metric.name}", label)
    was = before.value if before else finding.get("before")
    # Both with the decimals of this run, unless it leaves none to tell.
    spread = metric.stderr or (before.stderr if before else None)
    return Score(
        metric=metric.name,
        direction=direction(metric),
        value=figure(metric.value, spread),
        error=error(metric.value, metric.stderr),
        n=metric.n or None,
        before=figure(was, spread),
        difference=differing(difference, stderr or spread, metric.value),
        how=how,
        plot=plot,
        sign=sign,
        verdict=words,
        style=style,
    )
