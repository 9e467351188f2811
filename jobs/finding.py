"""What becomes of one metric: against its threshold, and against the baseline's."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .difference import Difference, Key, difference
from .results import SCALES, Metric, RowResult
from .task_spec import Threshold

BETTER, SAME, WORSE, NEW = "better", "same", "worse", "new"
REGRESSION, MISSING, THRESHOLD = "regression", "missing", "threshold"
FAILING = (REGRESSION, MISSING, THRESHOLD)
# Of the value before: what is no change where the job file says nothing. Float32 that is rounded in
# another order, as by another version of a runtime, moves log-likelihoods by some 1e-6 of them.
ROUNDING = 1e-5

Rows = Mapping[Key, RowResult]


@dataclass(frozen=True)
class Finding:
    """What became of a metric.

    Attributes
    ----------
    task, metric : str
    verdict : str
        `better`, `same`, `worse` (but let pass), `new` (the baseline has none), or one that fails
        the run: `regression`, `missing`, `threshold`.
    value : float or None
        Now.
    reason : str
        The verdict in words.
    before, difference : float or None
        In the baseline; now minus before.
    stderr : float or None
        Of the difference, in the metric's unit.
    paired : bool
        Whether both are of the same rows.
    rows : int
        That both have.
    """

    task: str
    metric: str
    verdict: str
    value: float | None
    reason: str
    before: float | None = None
    difference: float | None = None
    stderr: float | None = None
    paired: bool = False
    rows: int = 0

    @property
    def fails(self) -> bool:
        return self.verdict in FAILING


def breach(metric: Metric, threshold: Threshold) -> str | None:
    """How a metric is out of its bounds, in words; None where it keeps them."""
    if not math.isfinite(metric.value):
        return no_number(metric.value)
    if threshold.min is not None and metric.value < threshold.min:
        return f"{figure(metric.value)}; expected {figure(threshold.min)} or more"
    if threshold.max is not None and metric.value > threshold.max:
        return f"{figure(metric.value)}; expected {figure(threshold.max)} or less"
    return None


def compare(
    task: str,
    metric: Metric,
    old: Metric,
    rows: Rows,
    old_rows: Rows,
    allow: float | None,
    z: float,
    *,
    noisy: bool = False,
) -> Finding:
    """Judge a metric against the baseline's.

    Parameters
    ----------
    task : str
    metric, old : Metric
        Now, and in the baseline.
    rows, old_rows : dict of RowResult
        As `keyed` makes them.
    allow : float or None
        Worsening that is let pass; None where the job file says nothing of it.
    z : float
        Standard errors of the difference that a worsening must exceed.
    noisy : bool
        Whether what follows from no rows varies from night to night: it is then let pass where
        `allow` is None.
    """
    spread = _spread(metric, old, rows, old_rows)
    verdict, reason = _verdict(metric, old, spread, allow, z, noisy=noisy)
    return Finding(
        task,
        metric.name,
        verdict,
        metric.value,
        reason,
        old.value,
        metric.value - old.value,
        spread.stderr,
        spread.paired,
        spread.rows,
    )


def _verdict(
    metric: Metric, old: Metric, spread: "_Spread", allow: float | None, z: float, *, noisy: bool
) -> tuple[str, str]:
    """Of a metric beside the baseline's, and why."""
    if not math.isfinite(metric.value):
        return REGRESSION, f"{no_number(metric.value)}; {figure(old.value)} before"
    if not math.isfinite(old.value):
        return NEW, f"the baseline has {old.value}: nothing to compare with"
    change = metric.value - old.value
    if abs(change) <= (ROUNDING * abs(old.value) if allow is None else 0.0):
        return SAME, f"{figure(metric.value)}, as before{spread.told}"
    worse = -change if metric.higher_is_better else change
    word = "better" if worse < 0 else "worse"
    said = (
        f"{figure(metric.value)}, {word} by {figure(abs(change))} than {figure(old.value)}"
        f"{spread.told}"
    )
    if spread.errors is not None and spread.errors <= z:
        verdict, why = SAME, f"; up to {z:g} standard errors are noise"
    elif worse < 0:
        verdict, why = BETTER, ""
    elif noisy and allow is None and not spread.is_known:
        verdict, why = WORSE, "; let pass: nothing tells its noise, and `allow` does not name it"
    elif allow is not None and worse <= allow:
        verdict, why = WORSE, f"; {figure(allow)} is let pass"
    else:
        verdict, why = REGRESSION, ""
    return verdict, said + why


@dataclass(frozen=True)
class _Spread:
    """How far a difference is from nothing.

    `errors` is its size in standard errors; None where it has none. `is_known` says whether the
    rows were looked at, or a standard error is there.
    """

    stderr: float | None = None
    errors: float | None = None
    paired: bool = False
    rows: int = 0
    told: str = ""
    is_known: bool = False


def _spread(metric: Metric, old: Metric, rows: Rows, old_rows: Rows) -> _Spread:
    """By the rows; where there are none, by the standard errors of both."""
    follows = (metric.of, metric.per, metric.scale)
    if metric.of is not None and follows == (old.of, old.per, old.scale):
        of_rows = difference(rows, old_rows, metric.of, metric.per)
        if of_rows is not None:
            return _by_rows(of_rows, metric.scale)
    if metric.stderr is None or old.stderr is None:
        return _Spread()
    stderr = math.hypot(metric.stderr, old.stderr)
    errors = _in_errors(metric.value - old.value, stderr)
    return _Spread(stderr, errors, told=_told(errors, "not paired"), is_known=True)


def _by_rows(found: Difference, scale: str) -> _Spread:
    told = f"{found.same:,} rows, paired"
    if not found.paired:
        told = (
            f"{found.same:,} rows of both, {found.only_now:,} only now, {found.only_before:,} only "
            "in the baseline"
        )
    if found.stderr is None:
        return _Spread(None, None, found.paired, found.same, f" ({told})", is_known=True)
    errors = _in_errors(found.now - found.before, found.stderr)
    middle = (found.now + found.before) / 2
    in_unit = (SCALES[scale](middle + found.stderr) - SCALES[scale](middle - found.stderr)) / 2
    return _Spread(
        abs(in_unit), errors, found.paired, found.same, _told(errors, told), is_known=True
    )


def _in_errors(change: float, stderr: float) -> float | None:
    """None where the standard error is nothing: any change is beyond it."""
    return abs(change) / stderr if stderr > 0 else None


def _told(errors: float | None, how: str) -> str:
    return f" ({how})" if errors is None else f" ({errors:.1f} standard errors; {how})"


def no_number(value: float) -> str:
    return f"is {value}; expected a finite number"


def figure(value: float) -> str:
    """A metric's value for people."""
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:.6g}"
