"""The stages that rows pass through: read, taken in, scheduled, checked, and in order again."""

from collections.abc import Iterator
from dataclasses import dataclass

from .checker import Checker
from .clock import Clock, used_bytes
from .engine import Engine
from .intake import Intake
from .interrupts import Interrupts
from .progress import Figures, Progress
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
        self, chunks: Iterator[Chunk], progress: Progress
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
        prefilled, decoded, found = (
            self.engine.prefilled,
            self.engine.decoded,
            self.scheduler.occupancy,
        )
        return {
            "batch_size": self.scheduler.size.wanted,
            "most_slots": found.most_slots,
            "generated_tokens": self.generated_tokens,
            "running": self.scheduler.n_running,
            "occupancy": round(found.live_rows / max(found.rows, 1), 4),
            "prefill_tokens": prefilled.tokens,
            "prefill_tokens_per_s": round(prefilled.tokens_per_s, 1),
            "decode_steps": found.steps,
            "decode_tokens_per_s": round(decoded.tokens_per_s, 1),
            "shared_prefix_tokens": found.shared_tokens,
            "memory_bytes": used_bytes(),
        }
