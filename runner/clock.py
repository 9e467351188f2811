"""Where a job's time goes, and how much memory it takes."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

if sys.platform != "win32":
    import resource

STAGES = ("load", "read", "tokenize", "check", "write")


class Clock:
    """Seconds since it was made, and seconds by stage.

    Attributes
    ----------
    stages : dict of str to float
        Seconds of each of `STAGES` so far.
    """

    def __init__(self) -> None:
        self._start_s = time.perf_counter()
        self.stages = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start_s = time.perf_counter()
        yield
        self.stages[stage] += time.perf_counter() - start_s

    def seconds(self, **others: float) -> dict[str, float]:
        """By stage, with `others` among them, and in all."""
        total = time.perf_counter() - self._start_s
        stages = self.stages | others | {"total": total}
        return {name: round(seconds, 3) for name, seconds in stages.items()}


def used_bytes() -> int:
    """Memory that this process takes now."""
    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """Memory that this process took at most."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
