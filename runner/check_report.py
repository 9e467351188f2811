"""What the check of a job found, row by row and over all of its parts."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from reference.gpt2 import log_softmax

from .comparison import TOLERANCE, Comparison
from .kv_cache import FloatArray
from .shape import fits, is_count, is_number, is_text, or_none

NAMED_ROWS = 10  # offending rows that a report names
LOSS_SHAPE = {
    "positions": is_count,
    **dict.fromkeys(("rms_in_std", "top1_agreement", "kl_divergence"), is_number),
}
SHAPE = {
    **dict.fromkeys(("rows", "positions", "top1_agreement", "near_ties"), is_count),
    **dict.fromkeys(("disagreements", "other_rows", "offending_rows"), is_count),
    **dict.fromkeys(("max_abs_diff", "mean_abs_diff", "tolerance"), is_number),
    "int8": or_none(LOSS_SHAPE),
    "offending": [is_text],
}


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
        diff = int8.astype(np.float64) - float32
        rms = math.sqrt(float(np.mean(diff**2))) / float(np.std(float32, dtype=np.float64))
        same = np.argmax(int8, axis=-1) == np.argmax(float32, axis=-1)
        log_p, log_q = log_softmax(float32.astype(np.float64)), log_softmax(int8.astype(np.float64))
        kl = np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)
        self.merge(Int8Loss(len(float32), rms, float(np.mean(same)), float(np.mean(kl))))
        return float(np.max(np.abs(diff)))

    def merge(self, other: "Int8Loss") -> None:
        """Take in what was found at other positions."""
        n = self.positions + other.positions
        ours, theirs = self.positions / n, other.positions / n
        self.positions = n
        self.rms_in_std = math.sqrt(
            ours * self.rms_in_std * self.rms_in_std + theirs * other.rms_in_std * other.rms_in_std
        )
        self.top1_agreement = ours * self.top1_agreement + theirs * other.top1_agreement
        self.kl_divergence = ours * self.kl_divergence + theirs * other.kl_divergence

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

    def add(self, where: str, row: Sequence[Comparison], compared: str = "logits") -> None:
        """Take in a row, compared in one or more stretches, and what of it was compared."""
        self.rows += 1
        self.other_rows += any(part.top1_agreement < part.positions for part in row)
        for part in row:
            self._add_stretch(part)
        if not all(part.agrees for part in row):
            self.offending_rows += 1
            if len(self.offending) < NAMED_ROWS:
                worst = max(row, key=lambda part: (not part.agrees, part.max_abs_diff))
                self.offending.append(
                    f"{where}: {compared} differ by {worst.max_abs_diff:.3g} (tolerance "
                    f"{worst.tolerance:.3g}), {sum(part.disagreements for part in row)} of "
                    f"{sum(part.positions for part in row)} choices differ"
                )

    def merge(self, other: "CheckReport") -> None:
        """Take in what was found in other rows."""
        if not other.rows:
            return
        self._add_stretch(other)
        self.rows += other.rows
        self.other_rows += other.other_rows
        self.offending_rows += other.offending_rows
        self.offending = [*self.offending, *other.offending][:NAMED_ROWS]
        if other.int8 is not None:
            self.int8 = self.int8 or Int8Loss()
            self.int8.merge(other.int8)

    def _add_stretch(self, part: "Comparison | CheckReport") -> None:
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

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> "CheckReport":
        """The report that `dataclasses.asdict` made this of.

        Raises
        ------
        TypeError, ValueError
            Where it is none.
        """
        if not fits(found, SHAPE):
            raise ValueError("no report of a check")
        loss = found["int8"]
        if (found["rows"] and not found["positions"]) or (loss and not loss["positions"]):
            raise ValueError("rows without a position")
        return cls(**(found | {"int8": loss and Int8Loss(**loss)}))
