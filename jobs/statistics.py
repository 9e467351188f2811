"""Standard errors, as lm-evaluation-harness counts them.

References
----------
EleutherAI, lm-evaluation-harness 0.4.13: a mean's from the sample, a perplexity's by bootstrap.
"""

import math
from collections.abc import Sequence

import numpy as np

from .results import Metric, RowResult

RESAMPLES = 100_000
CHUNK = 1000  # resamples from one generator; its number is the generator's seed
DRAWN = 1 << 22  # numbers drawn at a time, so that memory does not grow with the rows


def mean_metric(rows: Sequence[RowResult], of: str) -> Metric:
    """The mean of what each row has under a name, such as `acc`; more is better."""
    values = [row.values[of] for row in rows]
    return Metric(
        of,
        value=math.fsum(values) / len(values),
        stderr=mean_stderr(values),
        n=len(values),
        higher_is_better=True,
        of=of,
    )


def mean_stderr(values: Sequence[float]) -> float | None:
    """Standard error of a mean, by the standard deviation of the sample; None of one value."""
    if len(values) < 2:
        return None
    return float(np.std(np.asarray(values, np.float64), ddof=1) / math.sqrt(len(values)))


def perplexity_stderr(loglikelihoods: Sequence[float]) -> float | None:
    """Standard error of `exp(-mean)`, by bootstrap; None of one value, or where it overflows.

    The numbers drawn are those of Python's `random.Random(chunk).choices`: NumPy's generator is
    the same, seeded with a list.
    """
    n = len(loglikelihoods)
    if n < 2:
        return None
    values = np.asarray(loglikelihoods, np.float64)
    means = np.concatenate([_resampled_means(values, chunk) for chunk in range(RESAMPLES // CHUNK)])
    with np.errstate(over="ignore", invalid="ignore"):
        stderr = float(np.std(np.exp(-means), ddof=1))
    return stderr if math.isfinite(stderr) else None


def _resampled_means(values: np.ndarray, seed: int) -> np.ndarray:  # [n] -> [CHUNK]
    generator = np.random.RandomState([seed])  # the one that Python has
    n = len(values)
    rows = max(1, DRAWN // n)
    means = []
    for start in range(0, CHUNK, rows):
        drawn = generator.random_sample((min(rows, CHUNK - start), n))
        means.append(values[(drawn * n).astype(np.int64)].mean(axis=1))
    return np.concatenate(means)
