"""One batch job: reader, tokenizer, scheduler, engine, checker and writer, joined."""

import datetime as dt
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import onnx
import pyarrow as pa

from reference import Model, __version__, load_model

from .checker import Checker, CheckReport
from .engine import Engine, WindowEngine, runtime_version
from .errors import InputError
from .generate import RunningSequence, generate
from .progress import Progress
from .prompts import to_prompt
from .reader import Row, Source, open_source
from .records import Prompt, Reject, Result
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
from .writer import added_columns, open_writer


class ExitCode(IntEnum):
    """The command's exit codes, a contract."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    BAD_ROWS = 3
    DISAGREES = 4
    GATE = 5


@dataclass
class RunReport:
    """What a job did.

    Attributes
    ----------
    rows, bad_rows : int
        Rows written, and how many of them are error rows.
    prompt_tokens, completion_tokens : int
        Over all rows.
    elapsed_s : dict of str to float
        Seconds by stage: `load`, `generate`, `check`, `total`.
    check : CheckReport
        The comparison with the reference.
    provenance : dict
        What was written into the footer and the manifest.
    """

    output: str
    rows: int = 0
    bad_rows: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    elapsed_s: dict[str, float] = field(default_factory=dict)
    check: CheckReport = field(default_factory=CheckReport)
    provenance: dict[str, Any] = field(default_factory=dict)
    first_bad_row: str | None = None

    @property
    def exit_code(self) -> ExitCode:
        if not self.check.agrees:
            return ExitCode.DISAGREES
        return ExitCode.BAD_ROWS if self.bad_rows else ExitCode.DONE

    def summary(self) -> str:
        """The job in a few lines."""
        generate_s = self.elapsed_s["generate"]
        tokens_per_s = self.completion_tokens / max(generate_s, 1e-9)
        lines = [
            f"{self.output}: {self.rows:,} rows, {self.completion_tokens:,} tokens "
            f"in {self.elapsed_s['total']:.1f} s ({tokens_per_s:,.0f} tokens/s while generating)"
        ]
        if self.bad_rows:
            some = "1 bad row is" if self.bad_rows == 1 else f"{self.bad_rows:,} bad rows are"
            lines.append(f"{some} kept with finish_reason = error; the first: {self.first_bad_row}")
        if not self.check.agrees:
            lines.append(
                "The output is kept and marked. Find out why before using it: `runner check` "
                "tests an export, `runner inspect` shows the versions."
            )
        return "\n".join([*lines, self.check.summary()])


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
        added_columns(source.column_names, settings.column_prefix, source.name)
        check_space(settings.output, least_output_bytes(settings, path, source.n_rows))
        with clock.measure("load"):
            model = load_model(settings.model)
            engine = WindowEngine(model, settings.threads)
        report = RunReport(settings.output)
        checker = Checker(model, source.n_rows, settings.check_rows, settings.seed)
        report.check = checker.report
        job = Job(settings, model, engine, checker, clock, report)
        with (
            open_writer(settings.output, source, settings.column_prefix) as writer,
            Progress(source.n_rows) as progress,
        ):
            for chunk in source.chunks():
                results = job.complete(chunk.rows, progress)
                with clock.measure("write"):
                    writer.write(chunk, results)
            report.elapsed_s = clock.seconds()
            report.provenance = provenance(job, source, engine, started)
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
    engine: Engine
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
                generate(self.engine, batch)
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


def provenance(
    job: Job, source: Source, engine: WindowEngine, started: dt.datetime
) -> dict[str, Any]:
    """Everything that says where an output came from."""
    report, model = job.report, job.model
    return {
        "format": 1,
        "input": {"path": source.name, "rows": source.n_rows},
        "output": report.output,
        "model": {
            "name": model.name,
            "hparams": dict(model.hparams),
            "weights_sha256": model.weights_sha256,
            "tokenizer_sha256": model.tokenizer.sha256,
        },
        "graph": {"target": engine.target, "sha256_by_window": engine.graph_sha256},
        "settings": asdict(job.settings),
        "counts": {
            "rows": report.rows,
            "bad_rows": report.bad_rows,
            "prompt_tokens": report.prompt_tokens,
            "completion_tokens": report.completion_tokens,
        },
        "started": started.isoformat(timespec="seconds"),
        "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "elapsed_s": report.elapsed_s,
        "check": report.check.as_dict(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    return {
        "picobatch": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": runtime_version(),
        "pyarrow": pa.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }
