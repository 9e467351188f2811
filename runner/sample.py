"""Some rows of a job, chosen by a seed, for what is too dear to do with all."""

import random
from bisect import bisect_left


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
        # All of them as a range: a list would grow with the job.
        self._chosen: range | list[int] = range(n_rows)
        if count is not None and count < n_rows:
            self._chosen = sorted(random.Random(seed).sample(range(n_rows), count))  # noqa: S311
        self._asked = self._passed = self._due = 0

    def wants(self, *, usable: bool) -> bool:
        """Whether the next row is one of them; asked once for every row, in input order."""
        if self._passed < len(self._chosen) and self._chosen[self._passed] == self._asked:
            self._passed += 1
            self._due += 1
        self._asked += 1
        if not (usable and self._due):
            return False
        self._due -= 1
        return True

    def among(self, places: range) -> "RowSample":
        """The same choice for some of the rows, one after another, that are asked for alone."""
        first, stop = (bisect_left(self._chosen, place) for place in (places.start, places.stop))
        chosen = self._chosen[first:stop]
        found = RowSample(0, 0, 0)
        if isinstance(chosen, range):
            found._chosen = range(chosen.start - places.start, chosen.stop - places.start)
        else:
            found._chosen = [place - places.start for place in chosen]
        return found


def checked_rows(n_rows: int, count: int | None, seed: int) -> RowSample:
    """Rows whose logits are compared with the reference."""
    return RowSample(n_rows, count, seed)


def repeated_rows(n_rows: int, count: int | None, seed: int) -> RowSample:
    """Rows that are run once more, alone: not those that are checked with the same seed."""
    return RowSample(n_rows, count, f"alone {seed}")
