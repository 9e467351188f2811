"""How far a job is: a bar on a terminal, a plain line every few seconds elsewhere, and a file."""

import json
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, Any, Protocol, Self

from .effort import Figures
from .errors import OutputError
from .messages import counted

PLAIN_INTERVAL_S = 10.0
METRICS_INTERVAL_S = 5.0


class Advances(Protocol):
    """Is told how far a job is."""

    def advance(self, rows: int, tokens: int) -> None:
        """Count rows that are finished, and the tokens generated for them."""


class Progress:
    """Counts finished rows and generated tokens on stderr.

    Parameters
    ----------
    n_rows : int
        Rows of the job.
    figures : callable
        How the engine does: `decode_tokens_per_s`, `prefill_tokens_per_s`, `running`,
        `occupancy`, `memory_bytes` and others.
    metrics : str or None
        A file for all figures, as JSON lines.

    Raises
    ------
    OutputError
        Where that file cannot be written.
    """

    def __init__(
        self, n_rows: int, figures: Callable[[], Figures], metrics: str | None = None
    ) -> None:
        self._n_rows = n_rows
        self._figures = figures
        self._rows = self._tokens = 0
        self._start_s = self._said_s = self._noted_s = time.monotonic()
        self._metrics = _open_metrics(metrics)
        self._bar = _bar(n_rows) if sys.stderr.isatty() else None

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
        if self._metrics is not None:
            self._note(time.monotonic())
            self._metrics.close()

    def advance(self, rows: int, tokens: int) -> None:
        """Count rows that are finished, and the tokens generated for them."""
        self._rows += rows
        self._tokens += tokens
        now_s = time.monotonic()
        if now_s - self._said_s >= (PLAIN_INTERVAL_S if self._bar is None else 1):
            self._said_s = now_s
            self._say(now_s)
        if self._bar is not None:
            self._bar.update(rows)
        if self._metrics is not None and now_s - self._noted_s >= METRICS_INTERVAL_S:
            self._noted_s = now_s
            self._note(now_s)

    def _say(self, now_s: float) -> None:
        found = self._figures()
        text = (
            f"{self._tokens / (now_s - self._start_s):,.0f} tokens/s (prefill "
            f"{found['prefill_tokens_per_s']:,.0f}, decode {found['decode_tokens_per_s']:,.0f}), "
            f"{found['running']} rows running, {found['occupancy']:.0%} occupied, "
            f"{found['memory_bytes'] / 2**20:,.0f} MiB"
        )
        if "tasks" in found:
            text += f", {counted(found['tasks'], 'task')} on {counted(found['nodes'], 'node')}"
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
        else:
            if (left_s := self._left_s(now_s)) is not None:
                text += f", {left_s:,.0f} s left"
            sys.stderr.write(f"generating: {self._rows:,} of {self._n_rows:,} rows, {text}\n")

    def _left_s(self, now_s: float) -> float | None:
        """None where nothing is done: a cluster may have no node yet."""
        if self._rows <= 0:
            return None
        return (now_s - self._start_s) * (self._n_rows / self._rows - 1)

    def _note(self, now_s: float) -> None:
        assert self._metrics is not None
        left_s = self._left_s(now_s)
        line = {
            "elapsed_s": round(now_s - self._start_s, 3),
            "rows": self._rows,
            "n_rows": self._n_rows,
            "left_s": None if left_s is None else round(left_s, 3),
            "completion_tokens": self._tokens,
            **self._figures(),
        }
        self._metrics.write(json.dumps(line) + "\n")
        self._metrics.flush()


def _open_metrics(path: str | None) -> IO[str] | None:
    if path is None:
        return None
    try:
        return open(path, "w", encoding="utf-8")  # noqa: PTH123
    except (OSError, ValueError) as e:  # ValueError: no name of a file
        raise OutputError(
            f"{path}: {getattr(e, 'strerror', None) or e}; expected a file to write metrics to. "
            "Check the path."
        ) from None


def _bar(n_rows: int) -> Any:
    from tqdm import tqdm  # noqa: PLC0415 - only where somebody looks

    return tqdm(total=n_rows, unit="row", desc="generating", leave=False)
