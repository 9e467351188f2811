"""The rows of a job once more, each alone: company must not show in a single bit."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .batch_size import BatchSize
from .engine import Engine
from .generate import RunningSequence
from .messages import shown
from .records import Completion, Result
from .sample import RowSample
from .scheduler import Scheduler
from .shape import fits, is_count, is_text

NAMED_ROWS = 10  # differing rows that a report names
SHAPE = {
    "rows": is_count,
    "threads": [is_count],
    "differing_rows": is_count,
    "differing": [is_text],
}


@dataclass
class InvarianceReport:
    """What became of rows that were run again, alone.

    Attributes
    ----------
    rows : int
        How many were.
    threads : list of int
        Of each engine that ran them all.
    differing_rows : int
        Rows that got another answer, or other bits of `logprob`, from any of them.
    differing : list of str
        The first of them: where, and what differed.
    """

    rows: int = 0
    threads: list[int] = field(default_factory=list)
    differing_rows: int = 0
    differing: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        return self.differing_rows == 0

    def add(self, where: str, found: list[str]) -> None:
        """Take in a row, and what differed in it."""
        self.rows += 1
        self.differing_rows += bool(found)
        if found and len(self.differing) < NAMED_ROWS:
            self.differing.append(f"{where}: {'; '.join(found)}")

    def merge(self, other: "InvarianceReport") -> None:
        """Take in what became of other rows."""
        self.rows += other.rows
        self.threads = sorted({*self.threads, *other.threads})
        self.differing_rows += other.differing_rows
        self.differing = [*self.differing, *other.differing][:NAMED_ROWS]

    def summary(self) -> str:
        """One line for people, and one for each row that differs."""
        if not self.rows:
            return "invariance: no rows were run again"
        rows = f"{self.rows} {'row' if self.rows == 1 else 'rows'} alone"
        if self.agrees:
            others = f"with {' and with '.join(map(str, self.threads))} threads"
            by = f", {others}" if len(self.threads) > 1 else ""
            return f"invariance: ok: {rows} gave the same bits{by}"
        lines = [f"invariance: FAILED: {self.differing_rows} of {rows} gave others"]
        lines += [f"invariance: {row}" for row in self.differing]
        if self.differing_rows > len(self.differing):
            lines.append(f"invariance: and {self.differing_rows - len(self.differing)} rows more")
        return "\n".join(lines)

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> "InvarianceReport":
        """The report that `dataclasses.asdict` made this of.

        Raises
        ------
        ValueError
            Where it is none.
        """
        if not fits(found, SHAPE):
            raise ValueError("no report of rows that were run again")
        return cls(**found)

    def as_dict(self) -> dict[str, Any]:
        return {"agrees": self.agrees, **asdict(self)}


class InvarianceCheck:
    """Keeps what some rows got, and runs each of them alone.

    Where a chosen row is bad, or was asked for no tokens, the next one that has any stands in for
    it.

    Parameters
    ----------
    sample : RowSample
        Chooses them.
    """

    def __init__(self, sample: RowSample) -> None:
        self._sample = sample
        self._awaited: set[int] = set()
        self._kept: list[tuple[RunningSequence, Result]] = []

    def wants(self, row: int, *, usable: bool = True) -> bool:
        """Whether to run this row again; asked once for every row, in input order.

        One that is wanted has to be generated, though its answer may be known: `keep` is given
        its sequence. A row is usable if it is to get at least one token.
        """
        wanted = self._sample.wants(usable=usable)
        if wanted:
            self._awaited.add(row)
        return wanted

    def keep(self, sequence: RunningSequence) -> None:
        """Remember a finished sequence, if its row is wanted."""
        if sequence.prompt.row in self._awaited:
            self._awaited.remove(sequence.prompt.row)
            self._kept.append((sequence.anew(), sequence.result()))

    def run(self, *engines: Engine, between: Callable[[], None] = lambda: None) -> InvarianceReport:
        """Run each row alone on each engine, when no other scheduler uses these any more.

        Parameters
        ----------
        *engines : Engine
            The job's own, and others of the same model, with other numbers of threads.
        between : callable
            Asked before each row; what it raises stops the work.
        """
        assert not self._awaited, f"rows {sorted(self._awaited)} were wanted and never kept"
        report = InvarianceReport(threads=[engine.threads for engine in engines])
        for sequence, result in sorted(self._kept, key=lambda kept: kept[0].prompt.row):
            between()
            found = []
            for engine in engines:
                by = f" with {engine.threads} threads" if len(engines) > 1 else ""
                found += [
                    f"{what} alone{by}" for what in differences(result, alone(engine, sequence))
                ]
            report.add(sequence.prompt.where, found)
        return report


def alone(engine: Engine, sequence: RunningSequence) -> Result:
    """What a sequence gets that shares nothing: no step, no answer, no stored beginning."""
    scheduler = Scheduler(engine, BatchSize(1), engine.cache.token_bytes * engine.hparams["n_ctx"])
    again = sequence.anew()
    scheduler.add([again])
    while again.finish_reason is None:
        scheduler.step()
    return again.result()


def differences(found: Result, alone: Result) -> Iterator[str]:
    """What differs between a row's result and the one that it gets alone, down to the bits."""
    if not isinstance(found, Completion) or not isinstance(alone, Completion):
        if str(found) != str(alone):
            yield f"{_kind(found)}, but {_kind(alone)}"
        return
    if found.ids != alone.ids:
        pairs = enumerate(zip(found.ids, alone.ids, strict=False))
        n = next((n for n, (a, b) in pairs if a != b), min(len(found.ids), len(alone.ids)))
        yield f"completion_ids from {n} on {found.ids[n : n + 3]}, but {alone.ids[n : n + 3]}"
    for name in ("text", "finish_reason", "prompt_tokens"):
        one, other = getattr(found, name), getattr(alone, name)
        if one != other:
            yield f"{name} {shown(one)}, but {shown(other)}"
    if _bits(found.logprob) != _bits(alone.logprob):
        yield f"logprob {_with_bits(found.logprob)}, but {_with_bits(alone.logprob)}"


def _bits(logprob: float) -> int:
    return int(np.float32(logprob).view(np.uint32))


def _with_bits(logprob: float) -> str:
    return f"{logprob:.9g} ({_bits(logprob):#010x})"


def _kind(result: Result) -> str:
    return "a completion" if isinstance(result, Completion) else f"error {result.reason}"
