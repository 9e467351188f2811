"""How many bytes rows have, known of stretches of rows only."""

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field


def _zero() -> "array[int]":
    return array("q", [0])  # a billion rows of a kilobyte are a million stretches: 8 MB


@dataclass
class Sizes:
    """Stretches of rows, one behind the other; within one, rows count as equally long.

    Attributes
    ----------
    rows : array of int64
        Where each stretch begins, and where the last one ends.
    n_bytes : array of int64
        What all rows before these have together.
    """

    rows: "array[int]" = field(default_factory=_zero)
    n_bytes: "array[int]" = field(default_factory=_zero)

    def add(self, row: int, n_bytes: int) -> None:
        """Tell what all rows before one have together: neither less than was told last."""
        self.rows.append(row)
        self.n_bytes.append(n_bytes)

    def stretch(self, row: int) -> int:
        """The last one that begins at or before a row."""
        return bisect_right(self.rows, row) - 1

    def of(self, rows: range) -> int:
        """About how many bytes some rows have; those of ranges side by side add up."""
        return self._before(rows.stop) - self._before(rows.start) if rows else 0

    def _before(self, row: int) -> int:
        place = self.stretch(row)
        start = self.n_bytes[place]
        if place + 1 == len(self.rows):
            return start
        first, end = self.rows[place], self.rows[place + 1]
        return start + (self.n_bytes[place + 1] - start) * (row - first) // (end - first)
