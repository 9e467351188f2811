"""How far a download is: a bar on a terminal, plain lines elsewhere, on stderr."""

import contextlib
import sys
import time

from tqdm import tqdm

PLAIN_INTERVAL_S = 10.0


def say(text: str) -> None:
    """A line on stderr; where that is closed or full, the work goes on."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{text}\n")


class ByteProgress:
    """Counts the bytes of one file.

    Parameters
    ----------
    name : str
        The file.
    n_bytes : int or None
        Its length, where it is known.
    have : int
        What is there already.
    """

    def __init__(self, name: str, n_bytes: int | None, have: int) -> None:
        self._name, self._n_bytes, self._have = name, n_bytes, have
        self._start, self._start_s = have, time.monotonic()
        self._said_s = self._start_s
        self._bar = (
            tqdm(total=n_bytes, initial=have, unit="B", unit_scale=True, desc=name, leave=False)
            if sys.stderr.isatty()
            else None
        )

    def advance(self, n_bytes: int) -> None:
        """Count bytes that have arrived."""
        self._have += n_bytes
        if self._bar is not None:
            self._bar.update(n_bytes)
        elif time.monotonic() - self._said_s >= PLAIN_INTERVAL_S:
            self._said_s = time.monotonic()
            total = "" if self._n_bytes is None else f" of {self._n_bytes / 1e6:,.1f}"
            rate = (self._have - self._start) / (self._said_s - self._start_s) / 1e6
            say(f"{self._name}: {self._have / 1e6:,.1f}{total} MB, {rate:,.1f} MB/s")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
