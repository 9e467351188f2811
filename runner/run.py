"""One batch job: reader, tokenizer, scheduler, engine, checker and writer, joined."""

import datetime as dt
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from reference import Model, load_model

from .checker import Checker
from .engine import Engine, WindowEngine
from .errors import InputError
from .generate import RunningSequence, generate
from .progress import Progress
from .prompts import to_prompt
from .provenance import provenance
from .reader import Row, open_source
from .records import Prompt, Reject, Result
from .report import RunReport
from .scheduler import batches
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
            engine = WindowEngine(model, settings.threads)
        report = RunReport(settings.output)
        checker = Checker(model, source.n_rows, settings.check_rows, settings.seed)
        report.check = checker.report
        job = Job(settings, model, engine, checker, clock, report)
        with (
            open_writer(
                settings.output, source, settings.column_prefix, overwrite=settings.overwrite
            ) as writer,
            Progress(source.n_rows) as progress,
        ):
            for chunk in source.chunks():
                results = job.complete(chunk.rows, progress)
                with clock.measure("write"):
                    writer.write(chunk, results)
            report.elapsed_s = clock.seconds()
            report.provenance = provenance(settings, report, model, engine, source.name, started)
            writer.finish(report.provenance)
    return report


class Clock:
    """Seconds since it was made, and seconds by stage."""

    def __init__(self) -> None:
        self._start_s = time.perf_counter()
        self._stages = dict.fromkeys(("load", "generate", "check", "write"), 0.0)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start_s = time.perf_counter()
        yield
        self._stages[stage] += time.perf_counter() - start_s

    def seconds(self) -> dict[str, float]:
        total = time.perf_counter() - self._start_s
        return {name: round(s, 3) for name, s in {**self._stages, "total": total}.items()}


@dataclass
class Job:
    """The stages that a chunk's rows pass through."""

    settings: RunSettings
    model: Model
    engine: Engine[Any]
    checker: Checker
    clock: Clock
    report: RunReport

    def complete(self, rows: list[Row], progress: Progress) -> list[Result]:
        """A result for each row, in order."""
        results: dict[int, Result] = {}
        sequences = []
        for row in rows:
            prompt = to_prompt(row, self.model, self.settings)
            usable = isinstance(prompt, Prompt) and prompt.max_new_tokens > 0
            checked = self.checker.wants(row.row, usable=usable)
            if isinstance(prompt, Prompt):
                sequences.append(self._sequence(prompt, keep_logits=checked))
            else:
                self._refuse_if_asked(prompt)
                results[row.row] = prompt
        progress.advance(len(results), 0)
        for batch in batches(self.engine, sequences, self.settings.batch_size):
            with self.clock.measure("generate"):
                generate(self.engine, batch, self.model.tokenizer.choices)
            with self.clock.measure("check"):
                for sequence in batch:
                    if sequence.logits:
                        self.checker.check(sequence)
            results |= {sequence.prompt.row: sequence.result() for sequence in batch}
            progress.advance(len(batch), sum(len(sequence.ids) for sequence in batch))
        ordered = [results[row.row] for row in rows]
        self._count(ordered)
        return ordered

    def _sequence(self, prompt: Prompt, *, keep_logits: bool) -> RunningSequence:
        tokenizer = self.model.tokenizer
        return RunningSequence(
            prompt,
            tokenizer,
            self.settings.stop,
            None if self.settings.ignore_eos else tokenizer.eos_id,
            self.model.hparams["n_ctx"],
            keep_logits=keep_logits,
        )

    def _refuse_if_asked(self, reject: Reject) -> None:
        if self.settings.on_error == "fail":
            raise InputError(
                f"{reject}. Fix the row, or pass --on-error=skip to keep it as an error row."
            )

    def _count(self, results: list[Result]) -> None:
        for result in results:
            self.report.rows += 1
            if isinstance(result, Reject):
                self.report.bad_rows += 1
                self.report.first_bad_row = self.report.first_bad_row or str(result)
            else:
                self.report.prompt_tokens += result.prompt_tokens
                self.report.completion_tokens += len(result.ids)
