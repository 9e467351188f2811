"""One batch job: reader, tokenizer, scheduler, engine, checker and writer, joined."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from reference import load_model

from .batch_size import BatchSize, cache_bytes
from .checker import Checker
from .clock import Clock, peak_bytes, used_bytes
from .engine import Engine
from .int8 import in_int8
from .intake import Intake
from .progress import Figures, Progress
from .provenance import provenance
from .reader import Chunk, Source, open_source
from .records import Result
from .report import RunReport
from .scheduler import Scheduler
from .settings import RunSettings
from .storage import (
    Format,
    check_output,
    check_space,
    format_of,
    least_output_bytes,
    local_input,
)
from .writer import check_columns, open_writer

CHECK_SHARE = 8  # one part in so many, of the memory for rows that run, is for logits to compare
MOST_OPEN_CHUNKS = 4  # in memory: rows that are read ahead, or wait for earlier ones


def run(settings: RunSettings) -> RunReport:
    """Complete every prompt of a file, in order.

    Parameters
    ----------
    settings : RunSettings
        What to do.

    Returns
    -------
    RunReport
        With the exit code that the job deserves.

    Raises
    ------
    PicobatchError
        Where the job cannot be done as a whole. The output is then not there.
    """
    clock = Clock()
    started = dt.datetime.now(dt.UTC)
    check_output(settings.output, settings.input, overwrite=settings.overwrite)
    with local_input(settings.input) as path:
        source = open_source(
            path,
            settings.input,
            settings.prompt_column,
            settings.limit,
            typed=format_of(settings.output) is Format.PARQUET,
        )
        check_columns(source.column_names, settings.column_prefix, source.name)
        check_space(settings.output, least_output_bytes(settings, path, source.n_rows))
        with clock.measure("load"):
            model = load_model(
                settings.model, models_dir=settings.models_dir, base_url=settings.base_url
            )
            computed = in_int8(model) if settings.dtype == "int8" else model
            engine = Engine(computed, settings.threads, profiled=settings.profiled)
            memory = cache_bytes(model.hparams, engine.cache.token_bytes, settings.memory)
        report = RunReport(settings.output)
        float32 = None if computed is model else model
        check_bytes = memory // CHECK_SHARE if settings.check_rows != 0 else 0
        checker = Checker(
            computed, source.n_rows, settings.check_rows, settings.seed, float32, check_bytes
        )
        report.check = checker.report
        job = Job(
            Intake(settings, model, checker, report),
            Scheduler(engine, BatchSize(settings.batch_size), memory - check_bytes),
            checker,
            clock,
            engine,
        )
        with (
            open_writer(
                settings.output, source, settings.column_prefix, overwrite=settings.overwrite
            ) as writer,
            Progress(source.n_rows, job.figures, settings.metrics) as progress,
        ):
            for chunk, results in job.complete(source, progress):
                with clock.measure("write"):
                    writer.write(chunk, results)
            report.elapsed_s = clock.seconds(
                prefill=engine.prefilled.seconds, decode=engine.decoded.seconds
            )
            report.engine = job.figures() | {"peak_bytes": peak_bytes()}
            if settings.profiled:
                report.engine["operators_s"] = engine.operator_seconds()
            report.provenance = provenance(settings, report, model, engine, source.name, started)
            writer.finish(report.provenance)
    return report


@dataclass
class Job:
    """The stages that a job's rows pass through."""

    intake: Intake
    scheduler: Scheduler
    checker: Checker
    clock: Clock
    engine: Engine

    def complete(self, source: Source, progress: Progress) -> Iterator[tuple[Chunk, list[Result]]]:
        """Each chunk with a result for each of its rows, in order."""
        chunks = source.chunks()
        exhausted = False
        while not exhausted or self.intake.n_open:
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
            "running": self.scheduler.n_running,
            "occupancy": round(found.live_rows / max(found.rows, 1), 4),
            "prefill_tokens": prefilled.tokens,
            "prefill_tokens_per_s": round(prefilled.tokens_per_s, 1),
            "decode_steps": found.steps,
            "decode_tokens_per_s": round(decoded.tokens_per_s, 1),
            "shared_prefix_tokens": found.shared_tokens,
            "memory_bytes": used_bytes(),
        }
