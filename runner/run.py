"""One batch job: what is to be done, part by part, and what is made of it."""

import contextlib
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reference import Model, load_model

from .batch_size import BatchSize, cache_bytes
from .checker import Checker
from .clock import Clock, peak_bytes
from .engine import Engine
from .errors import InputError, InterruptedJobError, SettingsError
from .garbage import rare_collections
from .inputs import input_files
from .int8 import in_int8
from .intake import Intake, refuse_if_asked
from .interrupts import Interrupts
from .invariance import InvarianceCheck
from .key import job_key
from .output import Output, open_output
from .parts import Known, Part, PartRecord, Plan, good_part_rows, shard_rows
from .pipeline import Pipeline
from .places import (
    STDIO,
    Place,
    explained,
    is_same,
    place_of,
    shown_place,
    without_options,
)
from .processor import processor
from .progress import Progress
from .provenance import provenance
from .reader import Chunk, Source, open_source
from .records import Completion, Result
from .report import RunReport
from .scheduler import Scheduler
from .settings import RunSettings
from .storage import Format, format_of, manifest_of, shard_name
from .store_errors import StoreError
from .writer import check_columns, output_schema

CHECK_SHARE = 8  # one part in so many, of the memory for rows that run, is for logits to compare


def run(settings: RunSettings) -> RunReport:
    """Complete every prompt of an input, in order.

    Parts of the output are kept as they are done, beside where it will be; a job that was stopped
    and is run again goes on from them.

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
    with (
        input_files(settings.input) as files,
        open_output(settings, files) as output,
    ):
        name = shown_place(settings.input)
        with explained(name, InputError):
            stamps = stamps_of(files)  # before they are read for the first time
        source = open_source(
            files,
            name,
            settings.prompt_column,
            settings.limit,
            typed=format_of(without_options(settings.output)[0]) is Format.PARQUET,
            requests=settings.format == "openai",
        )
        refuse_metrics(settings, files)
        check_columns(source.column_names, settings.column_prefix, source.name)
        with clock.measure("load"):
            model = load_model(
                settings.model, models_dir=settings.models_dir, base_url=settings.base_url
            )
        key = job_key(settings, source, model)
        if (found := output.finished(key)) is not None:
            report = RunReport.from_provenance(output.name, found)
            refuse_if_asked(report.first_bad_row, settings)
            return report
        rows = shard_rows(source.n_rows, settings.shard)
        part_rows = settings.part_rows or good_part_rows(model.hparams, settings.max_new_tokens)
        output.check_space(files, len(rows), source.n_rows)
        plan = output.begin(
            key, Plan(rows, part_rows), output_schema(source, settings.column_prefix)
        )
        with Interrupts() as interrupts, rare_collections():
            job = Job(settings, clock, source, files, stamps, model, key, plan, interrupts)
            return job.run(output)


@dataclass
class Job:
    """A job whose inputs are known to be good.

    Attributes
    ----------
    key : dict
        What its output follows from.
    """

    settings: RunSettings
    clock: Clock
    source: Source
    files: Sequence[Place]
    stamps: dict[str, Any]
    model: Model
    key: dict[str, Any]
    plan: Plan
    interrupts: Interrupts

    def run(self, output: Output) -> RunReport:
        """Do the parts that are not done, and finish the output."""
        settings, clock, model = self.settings, self.clock, self.model
        started = dt.datetime.now(dt.UTC)
        report = RunReport(output.name)
        for record in output.records.values():
            refuse_if_asked(record.first_bad_row, settings)
        todo = [part for part in self.plan.parts if part.number not in output.records]
        report.resumed_parts = len(output.records)
        with clock.measure("load"):
            computed = in_int8(model) if settings.dtype == "int8" else model
            engine = Engine(computed, settings.threads, profiled=settings.profiled)
            memory = cache_bytes(model.hparams, engine.cache.token_bytes, settings.memory)
        check_bytes = memory // CHECK_SHARE if settings.check_rows != 0 else 0
        n_rows = sum(len(part.rows) for part in todo)
        checker = Checker(
            computed,
            n_rows,
            settings.check_rows,
            settings.seed,
            None if computed is model else model,
            check_bytes,
            self.plan.part_of,
        )
        invariance = InvarianceCheck(n_rows, settings.check_invariance, settings.seed)
        known = output.known()
        checker.reports.update(known.checks)
        pipeline = Pipeline(
            Intake(settings, model, checker, invariance, known.answers),
            Scheduler(engine, BatchSize(settings.batch_size), memory - check_bytes),
            checker,
            clock,
            engine,
            self.interrupts,
        )
        with Progress(n_rows, pipeline.figures, settings.metrics) as progress:
            self._complete(todo, output, pipeline, progress)
        report.repeated_rows = pipeline.intake.repeated_rows
        report.take([output.records[part.number] for part in self.plan.parts])
        report.elapsed_s = clock.seconds(
            prefill=engine.prefilled.seconds, decode=engine.decoded.seconds
        )
        report.engine = pipeline.figures() | {"peak_bytes": peak_bytes()}
        if settings.profiled:
            report.engine["operators_s"] = engine.operator_seconds()
        report.checks_invariance = settings.check_invariance > 0
        report.invariance = invariance.run(engine, between=self.interrupts.check)
        report.provenance = provenance(
            settings, report, model, engine, self.key, self.plan, started
        )
        output.finish(report.provenance, self.interrupts)
        return report

    def _complete(
        self, todo: Sequence[Part], output: Output, pipeline: Pipeline, progress: Progress
    ) -> None:
        """Do some parts. Their rows follow each other without a gap: no slot waits for a part."""
        chunks = self.source.chunks([part.rows for part in todo])
        completed = pipeline.complete(chunks, progress)
        written: dict[int, Completion] = {}  # of the part in hand
        try:
            for part in todo:
                record = PartRecord(processor=processor())
                written.clear()
                with output.writing(part) as writer:
                    for chunk, results in _of(part, completed, self.source.name):
                        with self.clock.measure("write"):
                            writer.write(chunk, results)
                        record.count(results)
                        written |= _answers(chunk, results)
                self._refuse_changed(self._files_of(part))
                record.check = pipeline.checker.reports.pop(part.number, record.check)
                with self.clock.measure("write"):
                    output.commit(part, record)
        except InterruptedJobError:
            with contextlib.suppress(InputError):  # of a changed file nothing is kept
                self._refuse_changed(self.files)
                answers = written | pipeline.intake.answers()
                output.suspend(Known(answers, dict(pipeline.checker.reports)))
            raise
        self._refuse_changed(self.files)

    def _files_of(self, part: Part) -> list[Place]:
        """What to look at before a part counts: of files in stores only its own, as each costs."""
        own = [file for file in self.source.places_of(part.rows) if not file.is_local]
        return [file for file in self.files if file.is_local] + own

    def _refuse_changed(self, files: Sequence[Place]) -> None:
        """See that inputs are the files that were looked at."""
        for file in files:
            try:
                found = stamps_of([file])
            except StoreError as e:  # it may be as it was: nobody knows
                raise InputError(f"{file.name}: {e}") from None
            except OSError:  # it is gone
                found = {file.name: None}
            if any(self.stamps[name] != stamp for name, stamp in found.items()):
                raise _changed(file.name)


def stamps_of(files: Sequence[Place]) -> dict[str, Any]:
    """What tells that a file was changed; copies of ours nobody changes."""
    return {file.name: file.stamp() for file in files if not file.is_copy}


def _changed(name: str) -> InputError:
    return InputError(
        f"{name}: changed while the job ran; expected a file that nobody writes to. Run again when "
        "it is whole, with --overwrite where parts were kept."
    )


def _of(
    part: Part, completed: Iterator[tuple[Chunk, list[Result]]], name: str
) -> Iterator[tuple[Chunk, list[Result]]]:
    """The chunks of one part."""
    left = len(part.rows)
    while left:
        if (found := next(completed, None)) is None:  # rows that were there at first
            raise _changed(name)
        yield found
        left -= len(found[1])


def _answers(chunk: Chunk, results: Sequence[Result]) -> dict[int, Completion]:
    """By row, what need not be computed again."""
    return {
        row.row: result
        for row, result in zip(chunk.rows, results, strict=True)
        if isinstance(result, Completion)
    }


def refuse_metrics(settings: RunSettings, files: Sequence[Place]) -> None:
    """See that the file for figures is no other file of the job.

    Raises
    ------
    SettingsError
        Where it is.
    """
    if settings.metrics is None:
        return
    metrics = Path(settings.metrics).resolve()
    taken: list[str] = []
    if settings.output != STDIO and (output := place_of(settings.output)).is_local:
        named = Path(shard_name(output.path, settings.shard))
        taken += [str(named), str(manifest_of(Place.local(named)).path)]
    place = Place.local(metrics)
    if any(is_same(place, file) for file in files) or metrics in map(_resolved, taken):
        raise SettingsError(
            f"metrics is {shown_place(settings.metrics)}, a file that the job reads or writes; "
            "expected one of its own."
        )


def _resolved(path: str) -> Path:
    return Path(path).resolve()
