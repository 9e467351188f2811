"""Signals while Ray is at work in this process: its C++ parts lose what a handler raises."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ..interrupts import heeded


class Exits:
    """Lets a handler of SIGTERM exit with the code that it chose.

    Inside a call of Ray any SystemExit comes out with code 1, and other exceptions not at all. A
    KeyboardInterrupt passes: what was raised is kept until that is outside.

    Attributes
    ----------
    wanted : SystemExit or None
        What the handler raised.
    """

    def __init__(self) -> None:
        self.wanted: SystemExit | None = None
        self._before: Any = signal.getsignal(signal.SIGTERM)

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Take the place of the handler, which Ray puts away for its own meanwhile."""
        try:
            yield
            handler = self._exit if callable(self._before) else self._before
            if handler is not None and _is_main_thread():
                signal.signal(signal.SIGTERM, handler)
        except SystemExit:  # of Ray's handler, with a code of its own
            if callable(self._before):
                self._before(signal.SIGTERM, None)
            raise

    def give_back(self) -> None:
        if self._before is not None and _is_main_thread():
            signal.signal(signal.SIGTERM, self._before)

    def _exit(self, number: int, frame: FrameType | None) -> None:
        try:
            self._before(number, frame)
        except SystemExit as e:
            self.wanted = e
            raise KeyboardInterrupt from None


@contextmanager
def held() -> Iterator[None]:
    """A signal that comes meanwhile acts after it: a Ray that is half stopped leaves processes."""
    came: list[int] = []

    def hold(number: int, _: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:  # somebody means it
            raise KeyboardInterrupt

    with contextlib.ExitStack() as stack:
        if _is_main_thread():
            for number in heeded():
                before = signal.signal(number, hold)
                if before is not None:
                    stack.callback(signal.signal, number, before)
        yield
    if came:
        signal.raise_signal(came[0])


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
