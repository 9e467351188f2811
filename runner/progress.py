"""How far a job is: a bar on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

PLAIN_INTERVAL_S = 10.0


class Progress:
    """Counts finished rows and generated tokens on stderr.

    Parameters
    ----------
    n_rows : int
        Rows of the job.
    """

    def __init__(self, n_rows: int) -> None:
        self._n_rows = n_rows
        self._rows = self._tokens = 0
        self._start_s = self._said_s = time.monotonic()
        self._bar = (
            tqdm(total=n_rows, unit="row", desc="generating", leave=False)
            if sys.stderr.isatty()
            else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, rows: int, tokens: int) -> None:
        """Count rows that are finished, and the tokens generated for them."""
        self._rows += rows
        self._tokens += tokens
        now_s = time.monotonic()
        tokens_per_s = self._tokens / max(now_s - self._start_s, 1e-9)
        if self._bar is not None:
            self._bar.set_postfix_str(f"{tokens_per_s:,.0f} tokens/s", refresh=False)
            self._bar.update(rows)
        elif now_s - self._said_s >= PLAIN_INTERVAL_S:
            self._said_s = now_s
            left_s = (now_s - self._start_s) * (self._n_rows / max(self._rows, 1) - 1)
            sys.stderr.write(
                f"generating: {self._rows:,} of {self._n_rows:,} rows, "
                f"{tokens_per_s:,.0f} tokens/s, {left_s:,.0f} s left\n"
            )
