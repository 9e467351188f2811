"""The stages that rows pass through: read, taken in, scheduled, checked, and in order again."""

from collections.abc import Iterator
from dataclasses import dataclass

from .checker import Checker
from .clock import Clock, peak_bytes, used_bytes
from .effort import Effort, Figures
from .engine import Engine
from .intake import Intake
from .interrupts import Interrupts
from .progress import Advances
from .reader import Chunk
from .records import Result
from .scheduler import Scheduler

MOST_OPEN_CHUNKS = 4  # in memory: rows that are read ahead, or wait for earlier ones


@dataclass
class Pipeline:
    """The stages, joined."""

    intake: Intake
    scheduler: Scheduler
    checker: Checker
    clock: Clock
    engine: Engine
    interrupts: Interrupts
    generated_tokens: int = 0

    def complete(
        self, chunks: Iterator[Chunk], progress: Advances
    ) -> Iterator[tuple[Chunk, list[Result]]]:
        """Each chunk with a result for each of its rows, in order.

        Raises
        ------
        InterruptedJobError
            After a step, where a signal came.
        """
        exhausted = False
        while not exhausted or self.intake.n_open:
            self.interrupts.check()
            while (
                not exhausted
                and self.scheduler.wants_more
                and self.intake.n_open < MOST_OPEN_CHUNKS
            ):
                exhausted = not self._take_in(chunks)
            tokens = 0
            for sequence in self.scheduler.step():
                if sequence.keep_logits:
                    with self.clock.measure("check"):
                        self.checker.check(sequence)
                self.intake.finish(sequence)
                tokens += len(sequence.ids)
            with self.clock.measure("check"):
                self.checker.make_room(self.scheduler.recording)
            self.generated_tokens += tokens
            progress.advance(self.intake.take_settled(), tokens)
            yield from self.intake.ready()

    def _take_in(self, chunks: Iterator[Chunk]) -> bool:
        """Read a chunk; returns whether there was one."""
        with self.clock.measure("read"):
            chunk = next(chunks, None)
        if chunk is None:
            return False
        with self.clock.measure("tokenize"):
            sequences = self.intake.open(chunk)
            self.scheduler.add(sequences)
        return True

    def figures(self) -> Figures:
        """How the engine does."""
        now = {"running": self.scheduler.n_running, "memory_bytes": used_bytes()}
        return self.effort().figures() | now

    def effort(self) -> Effort:
        """What was done so far."""
        prefilled, decoded = self.engine.prefilled, self.engine.decoded
        spent = {"prefill": prefilled.seconds, "decode": decoded.seconds}
        return Effort(
            self.clock.stages | spent,
            prefilled.tokens,
            decoded.tokens,
            self.generated_tokens,
            self.intake.repeated_rows,
            self.scheduler.occupancy,
            self.scheduler.size.wanted,
            peak_bytes(),
        )
