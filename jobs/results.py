"""What an evaluation found: metrics, and the rows that they follow from."""

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

# A metric's value, from the mean of what its rows have: a log-likelihood becomes a perplexity.
SCALES: dict[str, Callable[[float], float]] = {
    "mean": lambda mean: mean,
    "perplexity": lambda mean: math.exp(-mean) if mean > -math.log(1e308) else math.inf,
    "bits": lambda mean: -mean / math.log(2),
}


@dataclass(frozen=True)
class RowResult:
    """What became of one row of a task.

    Attributes
    ----------
    id : str
        What tells the row from others, whatever its place: the data's own id, or a hash of what
        was asked and expected. Rows of two runs are compared by it.
    prompt, expected, answer : str
        What was asked, what should follow, and what the model says.
    correct : bool or None
        None where there is no right or wrong.
    values : dict of str to float
        What metrics are made of, by name: `acc`, `loglikelihood`, `words`, ...
    """

    id: str
    prompt: str
    expected: str
    answer: str
    correct: bool | None
    values: dict[str, float]


@dataclass(frozen=True)
class BadRow:
    """A row that could not be evaluated.

    Attributes
    ----------
    where : str
        Its file and line or row.
    reason : str
        What was found, and what was expected.
    """

    where: str
    reason: str


@dataclass(frozen=True)
class Metric:
    """One figure of a task.

    Attributes
    ----------
    name : str
        `acc`, `acc_norm`, `perplexity`, `word_perplexity`, ...
    value : float
    stderr : float or None
        Its standard error; None where there is none, as with one row.
    n : int
        Rows that it follows from.
    higher_is_better : bool
    of, per : str or None
        It is `SCALES[scale]` of the sum of the rows' `values[of]`, divided by the sum of their
        `values[per]`, or by their number where that is None. `of` is None for a figure that does
        not follow from rows, such as a speed.
    scale : str
        A key of `SCALES`.
    """

    name: str
    value: float
    stderr: float | None
    n: int
    higher_is_better: bool
    of: str | None = None
    per: str | None = None
    scale: str = "mean"


@dataclass
class TaskResult:
    """What a task found.

    Attributes
    ----------
    metrics : list of Metric
    rows : list of RowResult
        In the order of the data.
    bad_rows : list of BadRow
        Not among `rows`, and in no metric.
    data : list of dict
        `name`, `bytes` and `sha256` of each file that was read.
    details : dict
        What else is worth keeping, as JSON holds it.
    elapsed_s : float
    """

    metrics: list[Metric] = field(default_factory=list)
    rows: list[RowResult] = field(default_factory=list)
    bad_rows: list[BadRow] = field(default_factory=list)
    data: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    elapsed_s: float = 0.0


@dataclass
class EvalResult:
    """What a run of a job found, as its folder keeps it.

    Attributes
    ----------
    run : str
        What tells the run from all others; begins with its time.
    job : dict
        `name`, `file` and `sha256` of the job file.
    started : datetime
        In UTC.
    elapsed_s : float
    model : dict
        `name`, `weights_sha256`, `dtype`, `hparams`.
    kinds : dict of str to str
        The kind of each task.
    tasks : dict of str to TaskResult
        In the order of the job file.
    failed : dict of str to str
        Tasks that have no result, and why.
    check : dict
        The comparison with the NumPy reference.
    environment : dict
        Versions, processor, machine, the commit of the job file's folder; `cluster`, what one did,
        where the engine is `ray`.
    gate : dict or None
        What the run was held to and what came of it; None until that is known.
    exit_code : int
        That the run deserves.
    """

    run: str
    job: dict[str, Any]
    started: dt.datetime
    elapsed_s: float = 0.0
    model: dict[str, Any] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, TaskResult] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    check: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] | None = None
    exit_code: int = 0


def weighted_mean(rows: Sequence[RowResult], of: str, per: str | None) -> float:
    """What a metric's value is the scale of."""
    total = math.fsum(row.values[of] for row in rows)
    weight = len(rows) if per is None else math.fsum(row.values[per] for row in rows)
    return total / weight if weight else math.nan
