"""Some rows of a job, chosen by a seed, for what is too dear to do with all."""

import random


class RowSample:
    """Chooses rows by their places alone.

    Where a chosen row is not usable, the next one that is stands in for it.

    Parameters
    ----------
    n_rows : int
        Rows that will be asked for.
    count : int or None
        How many to choose; None means all.
    seed : int or str
        Chooses them.
    """

    def __init__(self, n_rows: int, count: int | None, seed: int | str) -> None:
        self._chosen: range | set[int] = range(n_rows)  # all: a set of them would grow with the job
        if count is not None and count < n_rows:
            self._chosen = set(random.Random(seed).sample(range(n_rows), count))  # noqa: S311
        self._asked = self._due = 0

    def wants(self, *, usable: bool) -> bool:
        """Whether the next row is one of them; asked once for every row, in input order."""
        self._due += self._asked in self._chosen
        self._asked += 1
        if not (usable and self._due):
            return False
        self._due -= 1
        return True
