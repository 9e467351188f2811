"""Two sets of logits for the same positions: how far apart, and whether that is rounding."""

import math
from dataclasses import dataclass

import numpy as np

from reference import most_likely
from reference.tokenizer import Choices

from .engine import IntArray
from .kv_cache import FloatArray

# Largest allowed difference, in standard deviations of the reference's logits. Measured on
# 124M shapes: onnxruntime and NumPy, both in float32, differ by 2.5e-5 of it with random
# weights and by 4.2e-4 with outliers like those of trained ones.
TOLERANCE = 2e-3

# With 8 bits, a rounding that falls the other way is passed on: engine and reference may differ by
# as much as the 8 bits themselves change. Measured in 3,000 rows of the demo model and 48 of 124M
# shapes, of 2 and 16 tokens: up to 0.81 of the largest difference that they make in a row, half of
# the rows by 0 to 0.29. Weights that are rounded in other ways are caught (tests/runner).
INT8_SHARE = 1.0

BLOCK_POSITIONS = 64  # compared at a time: float64 of a whole vocabulary takes memory


@dataclass(frozen=True)
class Comparison:
    """Two sets of logits for the same positions.

    Attributes
    ----------
    positions : int
        How many.
    max_abs_diff, mean_abs_diff : float
        Over all positions and the whole vocabulary.
    tolerance : float
        What `max_abs_diff` may be: `TOLERANCE` standard deviations of the reference's logits, or
        `INT8_SHARE` of the largest difference that 8 bits make.
    top1_agreement : int
        Positions with the same greedy choice.
    near_ties : int
        Positions with another choice, whose logit in the reference is less than twice the tolerance
        below the best: either is right.
    disagreements : int
        Positions with another choice, without that excuse.
    """

    positions: int
    max_abs_diff: float
    mean_abs_diff: float
    tolerance: float
    top1_agreement: int
    near_ties: int
    disagreements: int

    @property
    def agrees(self) -> bool:
        # Written so that a NaN fails.
        return self.max_abs_diff <= self.tolerance and self.disagreements == 0


def compare(
    found: FloatArray,
    reference: FloatArray,
    choices: Choices = slice(None),
    chosen: IntArray | None = None,
    tolerance: float | None = None,
) -> Comparison:
    """Compare the logits of some positions.

    Parameters
    ----------
    found, reference : float32 [n_positions, n_vocab]
        Logits.
    choices : slice or int64 array
        Ids that can be chosen. The others pad a vocabulary: their spread says nothing.
    chosen : int64 [n_positions], optional
        Ids that were chosen; by default those that `found` speaks for.
    tolerance : float, optional
        By default `TOLERANCE` standard deviations of the reference.
    """
    expected = most_likely(reference, choices)
    chosen = most_likely(found, choices) if chosen is None else chosen
    rows = np.arange(len(reference))
    lost = reference[rows, expected] - reference[rows, chosen]
    found, reference = found[:, choices], reference[:, choices]
    if tolerance is None:
        tolerance = TOLERANCE * spread(reference)
    highest, total, n_same, n_near = 0.0, 0.0, 0, 0
    for at in _blocks(reference):
        diff = np.abs(found[at].astype(np.float64) - reference[at])
        highest = float(np.maximum(highest, np.max(diff)))  # which keeps a NaN
        total += float(np.sum(diff))
        same = chosen[at] == expected[at]
        n_same += int(np.sum(same))
        n_near += int(np.sum(~same & (lost[at] < 2 * tolerance)))
    return Comparison(
        positions=len(reference),
        max_abs_diff=highest,
        mean_abs_diff=total / reference.size,
        tolerance=tolerance,
        top1_agreement=n_same,
        near_ties=n_near,
        disagreements=len(reference) - n_same - n_near,
    )


def spread(logits: FloatArray) -> float:
    """The standard deviation of all numbers."""
    blocks = _blocks(logits)
    mean = sum(float(np.sum(logits[at], dtype=np.float64)) for at in blocks) / logits.size
    squares = sum(float(np.sum(np.square(logits[at] - np.float64(mean)))) for at in blocks)
    return math.sqrt(squares / logits.size)


def _blocks(logits: FloatArray) -> list[slice]:
    starts = range(0, len(logits), BLOCK_POSITIONS)
    return [slice(start, start + BLOCK_POSITIONS) for start in starts]
