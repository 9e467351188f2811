"""SIGINT and SIGTERM as a wish to stop at the next good moment."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from .errors import InterruptedJobError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def heeded() -> list[signal.Signals]:
    """Those that this process does not ignore, as one does that a script began with `&`."""
    return [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]


class Interrupts:
    """Takes the first signal as a wish, which `check` passes on; a second one acts at once.

    Signals can be taken in a program's main thread only: in others nothing is changed. One that
    the process ignores stays ignored.

    Attributes
    ----------
    wanted : int or None
        The signal that came.
    """

    def __init__(self) -> None:
        self.wanted: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._take) for number in heeded()}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    def check(self) -> None:
        """Stop here, if that is wanted.

        Raises
        ------
        InterruptedJobError
            With the signal's number.
        """
        if self.wanted is not None:
            name = signal.Signals(self.wanted).name
            raise InterruptedJobError(f"stopped by {name}", self.wanted)

    def _take(self, number: int, _: FrameType | None) -> None:
        self.wanted = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
