"""Rows in groups along an axis: what a plot shows of any number of them."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

CONFIDENCE = 1.96  # standard errors to each side that hold 95 % of a normal distribution
N_BINS = 10  # between 0 and 1
N_LENGTHS = 6
FEWEST = 10  # rows in a group of lengths

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Bin:
    """Rows that lie together on the x axis.

    Attributes
    ----------
    x, y : float
        Means over its rows.
    error : tuple of float
        How far its interval reaches below and above `y`.
    n : int
        Rows.
    """

    x: float
    y: float
    error: tuple[float, float]
    n: int


def equal_widths(x: FloatArray, correct: FloatArray) -> list[Bin]:
    """Groups of equal width between 0 and 1, empty ones left out; `correct` is 0 or 1.

    The intervals are Wilson's: they stay between 0 and 1.
    """
    at = np.clip((x * N_BINS).astype(np.int64), 0, N_BINS - 1)
    found = []
    for n in range(N_BINS):
        chosen = at == n
        if chosen.any():
            share, rows = float(correct[chosen].mean()), int(chosen.sum())
            found.append(one(x[chosen], share, wilson(share, rows), rows))
    return found


def equal_counts(x: FloatArray, y: FloatArray, *, is_share: bool) -> list[Bin]:
    """Groups with about as many rows each; rows of the same `x` stay together.

    Parameters
    ----------
    x, y : float64 [n]
    is_share : bool
        Whether `y` is 0 or 1 everywhere.
    """
    n_bins = max(1, min(N_LENGTHS, len(x) // FEWEST))
    edges = np.unique(np.quantile(x, np.linspace(0, 1, n_bins + 1)[1:-1])) if len(x) else x
    at = np.searchsorted(edges, x, side="right")
    found = []
    for n in range(len(edges) + 1):
        chosen = at == n
        rows = int(chosen.sum())
        if rows:
            mean = float(y[chosen].mean())
            spread = float(y[chosen].std(ddof=1)) if rows > 1 else 0.0
            side = CONFIDENCE * spread / math.sqrt(rows)
            error = wilson(mean, rows) if is_share else (side, side)
            found.append(one(x[chosen], mean, error, rows))
    return found


def one(x: FloatArray, y: float, error: tuple[float, float], rows: int) -> Bin:
    return Bin(float(x.mean()), y, error, rows)


def wilson(share: float, n: int) -> tuple[float, float]:
    """How far the 95 % interval of a share reaches below and above it.

    References
    ----------
    Wilson 1927, Probable inference, the law of succession, and statistical inference.
    """
    z2 = CONFIDENCE**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    side = CONFIDENCE / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, share - (middle - side)), max(0.0, middle + side - share)
