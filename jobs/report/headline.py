"""What a person in a hurry wants to know of a run: what came of it, where, and since when."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..finding import BETTER, FAILING, MISSING, REGRESSION
from ..gate import PASSED, by_metric
from ..results import EvalResult
from .figures import day, differing, figure, plural
from .timeline import Run, disagrees, refuses, since


@dataclass(frozen=True)
class Headline:
    """What came of a run.

    Attributes
    ----------
    state : str
        `passed`, `failed`, or `ungated`.
    word : str
        The same in words, to be read first.
    sentence : str
        Why, and where.
    since : str
        For how long, and what changed then; empty where nothing failed.
    """

    state: str
    word: str
    sentence: str
    since: str = ""


def headline(result: EvalResult, runs: Sequence[Run]) -> Headline:
    """The run's headline.

    Parameters
    ----------
    result : EvalResult
    runs : sequence of Run
        Its timeline.
    """
    gate, check = result.gate or {}, result.check
    findings = [told for told in by_metric(gate).values() if told["verdict"] in FAILING]
    worst = max(findings, key=severity, default=None)
    so_long = how_long(runs, refuses(worst["task"], worst["metric"])) if worst else ""
    if check and not check.get("agrees", True):
        word = "Disagrees with the reference"
        return Headline("failed", word, disagreement(check), how_long(runs, disagrees))
    if result.failed:
        (name, reason), n = next(iter(result.failed.items())), len(result.failed) - 1
        more = f" {plural(n, 'other task')} failed as well." if n else ""
        return Headline("failed", "Failed", f"{name} has no result: {reason}{more}", so_long)
    if worst:
        n = len(findings) - 1
        more = f" {plural(n, 'other metric')} failed as well." if n else ""
        return Headline("failed", "Failed", f"{told(worst)}{more}", so_long)
    n_bad = sum(len(task.bad_rows) for task in result.tasks.values())
    bad = f", with {plural(n_bad, 'bad row')}" if n_bad else ""
    if gate.get("verdict") == PASSED:
        return Headline("passed", f"Passed{bad}", reassurance(result))
    return Headline("ungated", f"Not gated{bad}", reassurance(result))


def severity(finding: dict[str, Any]) -> float:
    """What is missing first, then by standard errors."""
    if finding["verdict"] == MISSING:
        return math.inf
    difference, stderr = finding["difference"], finding["stderr"]
    return abs(difference) / stderr if difference and stderr else 0.0


def told(finding: dict[str, Any]) -> str:
    """A finding as a sentence."""
    name = f"{finding['task']}: {finding['metric']}"
    value, before, difference = finding["value"], finding["before"], finding["difference"]
    if finding["verdict"] != REGRESSION or value is None or before is None:
        return f"{name}: {finding['reason'].rstrip('.')}."
    went = "fell" if value < before else "rose"
    stderr = finding["stderr"]
    by = differing(difference, stderr, value)
    if difference and stderr:
        by += f", {abs(difference) / stderr:.1f} standard errors"
    return f"{name} {went} from {figure(before, stderr)} to {figure(value, stderr)} ({by})."


def how_long(runs: Sequence[Run], is_wrong: Callable[[Run], bool]) -> str:
    """Since which night it is so, and what changed in that night."""
    found = since(runs, is_wrong)
    if len(runs) == 1:
        return ""
    if not found.is_known:
        return f"So it was in each of the {found.runs} runs that the history has."
    when = "New in this run" if found.runs == 1 else f"Since {day(found.run.started)}"
    nights = "" if found.runs == 1 else f" ({found.runs} runs)"
    if not found.changes:
        return f"{when}{nights}: model, weights and versions were those of the run before."
    return f"{when}{nights}, when this changed: {'; '.join(found.changes)}."


def disagreement(check: dict[str, Any]) -> str:
    """How far engine and reference are apart, where they disagree."""
    generated = check.get("generation") or {}
    only_there = not check.get("offending") and generated.get("offending")
    where, found = ("in completions", generated) if only_there else ("in scores", check)
    far, allowed = found.get("max_abs_diff"), found.get("tolerance")
    if far is None or allowed is None:
        return "The engine does not compute what the NumPy reference does. No figure here counts."
    return (
        f"The engine is up to {far:.3g} away from the NumPy reference {where}, where {allowed:.3g} "
        "is allowed. No figure here counts until that is understood."
    )


def reassurance(result: EvalResult) -> str:
    """What was looked at, where nothing failed."""
    gate = result.gate or {}
    n_metrics = sum(len(task.metrics) for task in result.tasks.values())
    metrics = f"{plural(n_metrics, 'metric')} of {plural(len(result.tasks), 'task')}"
    if gate.get("verdict") != PASSED:
        return f"{metrics}, with no thresholds and no baseline to hold them to."
    better = [found for found in by_metric(gate).values() if found["verdict"] == BETTER]
    if better:
        best = max(better, key=severity)
        return f"{metrics}; none got worse. {best['task']}: {best['metric']} got better."
    return f"{metrics}; none got worse than the gate lets pass."
