"""How far a mean moved between two runs, and the standard error of that.

A question that is hard for one run is hard for the other: where both were asked the same, the
difference of each row is looked at, and what both find hard cancels. A mean here is a ratio, of the
rows' values to their weights (words, bytes, or 1 each), so what a row adds to it is linearised.

References
----------
Cochran, Sampling Techniques, 1977, chapter 6: the variance of a ratio.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .results import RowResult, weighted_mean

Key: TypeAlias = tuple[str, int]  # a row's id, and how many before it have the same
HUGE = 1e150  # from where on sums of products may be no numbers


@dataclass(frozen=True)
class Difference:
    """Between two weighted means of rows.

    Attributes
    ----------
    now, before : float
        The means.
    stderr : float or None
        Of now minus before; None where a run has one row only.
    same, only_now, only_before : int
        Rows that both have, and rows that one of them has.
    """

    now: float
    before: float
    stderr: float | None
    same: int
    only_now: int
    only_before: int

    @property
    def paired(self) -> bool:
        """Whether both are of the same rows."""
        return not (self.only_now or self.only_before)


def keyed(rows: Sequence[RowResult]) -> dict[Key, RowResult]:
    """Rows by what tells them apart: the n-th of an id is the n-th of it in another run."""
    seen: Counter[str] = Counter()
    found = {}
    for row in rows:
        found[row.id, seen[row.id]] = row
        seen[row.id] += 1
    return found


def difference(
    now: Mapping[Key, RowResult], before: Mapping[Key, RowResult], of: str, per: str | None
) -> Difference | None:
    """Between the means that two runs have of a value; None where one of them has no such rows.

    Parameters
    ----------
    now, before : dict of RowResult
        As `keyed` makes them.
    of, per : str, str or None
        As in `Metric`.

    Notes
    -----
    With e the sum of a row's parts in both means, one of them negative, the variance is the sum of
    e squared. Of the same rows that is the variance of a paired difference; of rows that have
    nothing in common, the sum of both variances; of some in common, what lies between.
    """
    parts_now, parts_before = _parts(now, of, per), _parts(before, of, per)
    if not (parts_now and parts_before):
        return None
    stderr = None
    if min(len(parts_now), len(parts_before)) > 1:
        keys = parts_now.keys() | parts_before.keys()
        stderr = math.hypot(*(parts_now.get(key, 0.0) - parts_before.get(key, 0.0) for key in keys))
    same = len(parts_now.keys() & parts_before.keys())
    return Difference(
        weighted_mean([now[key] for key in parts_now], of, per),
        weighted_mean([before[key] for key in parts_before], of, per),
        stderr,
        same,
        len(parts_now) - same,
        len(parts_before) - same,
    )


def _parts(rows: Mapping[Key, RowResult], of: str, per: str | None) -> dict[Key, float]:
    """How far each row moves the mean from what it is without it."""
    has = {
        key: row
        for key, row in rows.items()
        if of in row.values and (per is None or per in row.values)
    }
    n = len(has)
    weights = {key: 1.0 if per is None else row.values[per] for key, row in has.items()}
    figures = (*weights.values(), *(row.values[of] for row in has.values()))
    if not all(abs(value) < HUGE for value in figures):  # a NaN too
        return {}
    total = math.fsum(weights.values())
    if not total:
        return {}
    mean = math.fsum(row.values[of] for row in has.values()) / total
    unbiased = math.sqrt(n / (n - 1)) if n > 1 else 1.0
    return {
        key: (row.values[of] - mean * weights[key]) / total * unbiased for key, row in has.items()
    }
