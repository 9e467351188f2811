"""The logits that a job really used, compared with those of the NumPy reference."""

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from reference import Model, most_likely
from reference.gpt2 import layer_norm, log_softmax, transformer, unembed
from reference.kv_cache import cached_logits, empty_cache
from reference.tokenizer import Choices

from .engine import IntArray
from .generate import RunningSequence
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

FLOAT_BYTES = 4
BLOCK_POSITIONS = 64  # compared at a time: float64 of a whole vocabulary takes memory
NAMED_ROWS = 10  # offending rows that a report names


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
    starts = range(0, len(reference), BLOCK_POSITIONS)
    blocks = [slice(start, start + BLOCK_POSITIONS) for start in starts]
    if tolerance is None:
        tolerance = TOLERANCE * _spread(reference, blocks)
    highest, total, n_same, n_near = 0.0, 0.0, 0, 0
    for at in blocks:
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


def _spread(logits: FloatArray, blocks: list[slice]) -> float:
    """The standard deviation of all numbers."""
    mean = sum(float(np.sum(logits[at], dtype=np.float64)) for at in blocks) / logits.size
    squares = sum(float(np.sum(np.square(logits[at] - np.float64(mean)))) for at in blocks)
    return math.sqrt(squares / logits.size)


@dataclass
class Int8Loss:
    """What 8 bits change: the int8 reference against the float32 one, both in NumPy.

    Attributes
    ----------
    positions : int
        How many were compared.
    rms_in_std : float
        Root mean square of the difference of the logits, in standard deviations of the latter.
    top1_agreement : float
        Share of positions with the same greedy choice.
    kl_divergence : float
        From the float32 distribution to the int8 one, in nats; the mean over the positions.
    """

    positions: int = 0
    rms_in_std: float = 0.0
    top1_agreement: float = 0.0
    kl_divergence: float = 0.0

    def add(self, int8: FloatArray, float32: FloatArray) -> float:
        """Take in some positions; returns the largest difference."""
        n, before = len(float32), self.positions
        diff = int8.astype(np.float64) - float32
        rms = math.sqrt(float(np.mean(diff**2))) / float(np.std(float32, dtype=np.float64))
        same = np.argmax(int8, axis=-1) == np.argmax(float32, axis=-1)
        log_p, log_q = log_softmax(float32.astype(np.float64)), log_softmax(int8.astype(np.float64))
        kl = np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)
        squares = (self.rms_in_std**2 * before + rms**2 * n) / (before + n)
        self.rms_in_std = math.sqrt(squares)
        self.top1_agreement = (self.top1_agreement * before + float(np.sum(same))) / (before + n)
        self.kl_divergence = (self.kl_divergence * before + float(np.sum(kl))) / (before + n)
        self.positions += n
        return float(np.max(np.abs(diff)))

    def summary(self) -> str:
        return (
            f"int8: at {self.positions} positions the logits are {self.rms_in_std:.1%} of their "
            f"spread from float32 (rms), same choice at {self.top1_agreement:.1%}, KL "
            f"{self.kl_divergence:.2g}"
        )


@dataclass
class CheckReport:
    """What the check of a job found, over all checked rows.

    Attributes
    ----------
    rows : int
        Rows whose every generated position was compared.
    offending : list of str
        Rows out of tolerance: where, and by how much.
    """

    rows: int = 0
    positions: int = 0
    max_abs_diff: float = 0.0
    mean_abs_diff: float = 0.0
    tolerance: float = 0.0  # the smallest of the rows'
    top1_agreement: int = 0
    near_ties: int = 0
    disagreements: int = 0
    int8: Int8Loss | None = None
    other_rows: int = 0  # with another choice somewhere, near ties too
    offending_rows: int = 0
    offending: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        return self.offending_rows == 0

    def add(self, where: str, row: Sequence[Comparison]) -> None:
        """Take in a row, compared in one or more stretches."""
        self.rows += 1
        self.other_rows += any(part.top1_agreement < part.positions for part in row)
        for part in row:
            self._add_stretch(part)
        if not all(part.agrees for part in row):
            self.offending_rows += 1
            if len(self.offending) < NAMED_ROWS:
                worst = max(row, key=lambda part: (not part.agrees, part.max_abs_diff))
                self.offending.append(
                    f"{where}: logits differ by {worst.max_abs_diff:.3g} (tolerance "
                    f"{worst.tolerance:.3g}), {sum(part.disagreements for part in row)} of "
                    f"{sum(part.positions for part in row)} choices differ"
                )

    def _add_stretch(self, part: Comparison) -> None:
        total = self.positions + part.positions
        self.mean_abs_diff = (
            self.mean_abs_diff * self.positions + part.mean_abs_diff * part.positions
        ) / total
        self.tolerance = min(self.tolerance or part.tolerance, part.tolerance)
        # np.maximum, because it keeps a NaN.
        self.max_abs_diff = float(np.maximum(self.max_abs_diff, part.max_abs_diff))
        self.positions = total
        self.top1_agreement += part.top1_agreement
        self.near_ties += part.near_ties
        self.disagreements += part.disagreements

    def summary(self) -> str:
        """One line for people, and one for each offending row."""
        if not self.rows:
            return "check: no rows were compared with the reference"
        verdict = (
            f"check: {'ok' if self.agrees else 'FAILED'}: {self.rows} rows, "
            f"{self.positions} positions against the NumPy reference: "
            f"max difference {self.max_abs_diff:.2g}, mean {self.mean_abs_diff:.2g} "
            f"(tolerance {self.tolerance:.2g}); same choice at {self.top1_agreement}, "
            f"near ties {self.near_ties}, disagreements {self.disagreements}"
        )
        lines = [verdict, *(f"check: {row}" for row in self.offending)]
        if self.int8 is not None:
            lines.append(self.int8.summary())
        if self.offending_rows > len(self.offending):
            lines.append(f"check: and {self.offending_rows - len(self.offending)} rows more")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        return {"agrees": self.agrees, "tolerance_in_std": TOLERANCE, **asdict(self)}


class Checker:
    """Chooses rows by a seed and compares each with the reference once it is finished.

    The choice depends on the rows' places alone. Where a chosen row is bad, or was asked for
    no tokens, the next one that has any stands in for it.

    Parameters
    ----------
    model : Model
        The reference's own weights.
    n_rows : int
        Rows of the job.
    check_rows : int or None
        How many to check; None means all.
    seed : int
        Chooses them.
    float32 : Model, optional
        What `model` was before it was rounded to 8 bits.
    most_bytes : int, optional
        Of logits that wait for the end of their rows. Without room for more, rows are compared
        while they grow, and the reference begins each time anew.
    """

    def __init__(
        self,
        model: Model,
        n_rows: int,
        check_rows: int | None,
        seed: int,
        float32: Model | None = None,
        most_bytes: int | None = None,
    ) -> None:
        self._model = model
        self._float32 = float32
        self._most_bytes = most_bytes
        self._stretches: defaultdict[int, list[Comparison]] = defaultdict(list)  # by row
        count = n_rows if check_rows is None else min(check_rows, n_rows)
        self._chosen = set(random.Random(seed).sample(range(n_rows), count))  # noqa: S311
        self._due = 0
        self.report = CheckReport()

    def wants(self, row: int, *, usable: bool) -> bool:
        """Whether to check this row; asked once for every row, in input order."""
        self._due += row in self._chosen
        if not (usable and self._due):
            return False
        self._due -= 1
        return True

    def check(self, sequence: RunningSequence) -> None:
        """Compare all positions of a finished sequence that recorded its logits."""
        self._compare(sequence)
        self.report.add(sequence.prompt.where, self._stretches.pop(sequence.prompt.row))

    def make_room(self, running: Sequence[RunningSequence]) -> None:
        """Compare what running sequences have recorded, the longest first, if it is too much."""
        if self._most_bytes is None:
            return
        held = sum(len(sequence.logits) for sequence in running)
        for sequence in sorted(running, key=lambda s: -len(s.logits)):
            if held * self._model.hparams["n_vocab"] * FLOAT_BYTES <= self._most_bytes:
                return
            held -= len(sequence.logits)
            self._compare(sequence)

    def _compare(self, sequence: RunningSequence) -> None:
        """Compare what a sequence has recorded since this was last done."""
        found = np.stack(sequence.logits)
        chosen = np.array(sequence.chosen[-len(found) :])
        reference = self._reference(self._model, sequence)
        tolerance = None
        if self._float32 is not None:
            self.report.int8 = self.report.int8 or Int8Loss()
            exact = self._reference(self._float32, sequence)
            tolerance = INT8_SHARE * self.report.int8.add(reference, exact)
        self._stretches[sequence.prompt.row].append(
            compare(found, reference, self._model.tokenizer.choices, chosen, tolerance)
        )
        sequence.logits = []

    @staticmethod
    def _reference(model: Model, sequence: RunningSequence) -> FloatArray:
        """The reference's logits at the last positions, those that were recorded."""
        params, n_head, n = model.params, model.hparams["n_head"], len(sequence.logits)
        ids = np.array(sequence.prompt.ids + sequence.chosen[:-1], dtype=np.int64)
        if model.kv_scales is not None:  # as each token finds the others
            read = np.arange(len(ids) - n, len(ids))[None]
            cache = empty_cache(model.hparams, 1, len(ids), model.kv_scales)
            start = np.zeros(1, np.int64)
            logits, _ = cached_logits(ids[None], start, read, cache, **params, n_head=n_head)
        else:
            x = transformer(ids, params["wte"], params["wpe"], params["blocks"], n_head)
            x = layer_norm(x[-n:], **params["ln_f"])
            logits = unembed(x, params.get("lm_head", params["wte"]))
        found: FloatArray = logits
        return found
