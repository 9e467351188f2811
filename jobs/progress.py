"""How far an evaluation is: a bar on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reference.progress import say

PLAIN_INTERVAL_S = 10.0


class TaskProgress:
    """Tells on stderr which task runs, and how many of its requests are done.

    Parameters
    ----------
    n_tasks : int
        Of the job.
    """

    def __init__(self, n_tasks: int) -> None:
        self._n_tasks = n_tasks
        self._begun = 0
        self._name = ""
        self._wanted = self._done = 0
        self._start_s = self._said_s = 0.0
        self._bar: Any = None

    @contextmanager
    def task(self, name: str, kind: str) -> Iterator[None]:
        """While a task runs."""
        self._begun += 1
        self._name, self._wanted, self._done = name, 0, 0
        self._start_s = self._said_s = time.monotonic()
        say(f"task {self._begun} of {self._n_tasks}: {name} ({kind})")
        try:
            yield
        finally:
            if self._bar is not None:
                self._bar.close()
                self._bar = None

    def expect(self, n_requests: int) -> None:
        """Count requests that are about to be made."""
        self._wanted += n_requests
        if sys.stderr is None or not sys.stderr.isatty():
            return
        if self._bar is None:
            self._bar = _bar(self._name)
        self._bar.total = self._wanted
        self._bar.refresh()

    def advance(self, n_requests: int) -> None:
        """Count requests that are done."""
        self._done += n_requests
        if self._bar is not None:
            self._bar.update(n_requests)
            return
        now_s = time.monotonic()
        if now_s - self._said_s >= PLAIN_INTERVAL_S:
            self._said_s = now_s
            left_s = (now_s - self._start_s) * (self._wanted / self._done - 1)
            say(
                f"{self._name}: {self._done:,} of {self._wanted:,} requests done, "
                f"{left_s:,.0f} s left"
            )


def _bar(name: str) -> Any:
    from tqdm import tqdm  # noqa: PLC0415 - only where somebody looks

    return tqdm(unit="request", desc=name, leave=False)
