"""Parts in, committed parts out: on one machine all of a job's, in a task of a cluster one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from reference import Model

from .batch_size import BatchSize, cache_bytes
from .check_report import CheckReport
from .checker import Checker
from .clock import Clock
from .commit import Committer
from .effort import Figures
from .engine import Engine
from .int8 import in_int8
from .intake import Intake
from .interrupts import Interrupts
from .invariance import InvarianceCheck, InvarianceReport
from .outcome import Outcome
from .parts import Known, Part, PartRecord
from .pipeline import Pipeline
from .places import Place
from .planner import PlannedJob, changed
from .processor import processor
from .progress import Advances
from .reader import Chunk
from .records import Completion, Result
from .sample import RowSample, checked_rows, repeated_rows
from .scheduler import Scheduler
from .settings import RunSettings

CHECK_SHARE = 8  # one part in so many, of the memory for rows that run, is for logits to compare


class Worker:
    """A model in this process, ready to do parts of any job with these settings.

    Parameters
    ----------
    model : Model
        As it was loaded.
    settings : RunSettings
        How it is run.
    share : float
        Of the memory that is free, where the settings do not say how much to take: others may work
        on this machine.

    Raises
    ------
    SettingsError
        Where there is not enough memory.
    """

    def __init__(self, model: Model, settings: RunSettings, share: float = 1.0) -> None:
        self.model = model
        self.computed = in_int8(model) if settings.dtype == "int8" else model
        self.engine = Engine(self.computed, settings.threads, profiled=settings.profiled)
        memory = cache_bytes(model.hparams, self.engine.cache.token_bytes, settings.memory, share)
        self.check_bytes = memory // CHECK_SHARE if settings.check_rows != 0 else 0
        self.row_bytes = memory - self.check_bytes
        self.size = BatchSize(settings.batch_size)


@dataclass(frozen=True)
class Samples:
    """Which rows are compared with the reference, and which are run once more."""

    checked: RowSample
    repeated: RowSample

    @classmethod
    def of(cls, settings: RunSettings, n_rows: int) -> "Samples":
        """Of all rows that a run has to do."""
        return cls(
            checked_rows(n_rows, settings.check_rows, settings.seed),
            repeated_rows(n_rows, settings.check_invariance, settings.seed),
        )

    def among(self, places: range) -> "Samples":
        """Of some of these rows, that are done by themselves."""
        return Samples(self.checked.among(places), self.repeated.among(places))


class Processing:
    """Parts that are done by one pipeline: their rows follow each other, no slot waits for a part.

    Parameters
    ----------
    job : PlannedJob
        Whose parts they are.
    files : sequence of Place
        Its inputs, which have to stay as they are.
    worker : Worker
        Does them.
    samples : Samples
        Of their rows.
    clock : Clock
        Is told what takes how long.
    interrupts : Interrupts
        Are looked at after each step.
    known : Known, optional
        By an earlier run.
    """

    def __init__(
        self,
        job: PlannedJob,
        files: Sequence[Place],
        worker: Worker,
        samples: Samples,
        clock: Clock,
        interrupts: Interrupts,
        known: Known | None = None,
    ) -> None:
        self._job = job
        self._files = files
        self._clock = clock
        self._engine = worker.engine
        self._interrupts = interrupts
        known = known or Known()
        worker.engine.begin_count()
        self._checker = Checker(
            worker.computed,
            samples.checked,
            None if worker.computed is worker.model else worker.model,
            worker.check_bytes,
            job.plan.part_of,
        )
        self._checker.reports.update(known.checks)
        self._invariance = InvarianceCheck(samples.repeated)
        self._intake = Intake(
            job.settings, worker.model, self._checker, self._invariance, known.answers
        )
        self._written: dict[int, Completion] = {}  # of the part in hand
        self.pipeline = Pipeline(
            self._intake,
            Scheduler(worker.engine, worker.size, worker.row_bytes),
            self._checker,
            clock,
            worker.engine,
            interrupts,
        )

    def run(
        self, parts: Sequence[Part], committer: Committer, progress: Advances
    ) -> Iterator[tuple[Part, PartRecord]]:
        """Do some parts, in order; each is committed when it is told.

        Raises
        ------
        InterruptedJobError
            After a step, where a signal came.
        InputError
            Where an input changed meanwhile.
        """
        source = self._job.source
        completed = self.pipeline.complete(source.chunks([part.rows for part in parts]), progress)
        for part in parts:
            record = PartRecord(processor=processor())
            self._written.clear()
            with committer.writing(part) as writer:
                for chunk, results in _of(part, completed, source.name):
                    with self._clock.measure("write"):
                        writer.write(chunk, results)
                    record.count(results)
                    self._written |= _answers(chunk, results)
            self._job.refuse_changed(self._job.files_of(self._files, part))
            record.check = self._checker.reports.pop(part.number, CheckReport())
            with self._clock.measure("write"):
                committer.commit(part, record)
            yield part, record

    def known(self) -> Known:
        """What is known of rows whose part is not done."""
        return Known(self._written | self._intake.answers(), dict(self._checker.reports))

    def run_again(self) -> InvarianceReport:
        """Run the chosen rows once more, each alone, when all parts are done."""
        return self._invariance.run(self._engine, between=self._interrupts.check)


@dataclass(frozen=True)
class DonePart:
    """A part that is committed, and what is said of it beside its record."""

    record: PartRecord
    found: Outcome


def process_part(
    job: PlannedJob,
    files: Sequence[Place],
    part: Part,
    worker: Worker,
    samples: Samples,
    clock: Clock,
    committer: Committer,
    advance: Callable[[int, int, Callable[[], Figures]], None],
) -> DonePart:
    """Do one part: what becomes of it follows from the job and the part's rows alone.

    Errors and parameters are those of `Processing`, but for two: the samples are those of the
    part's rows, and `advance` is told of finished rows, their tokens, and where to ask how the
    engine does.
    """
    processing = Processing(job, files, worker, samples, clock, Interrupts())
    progress = _Passed(advance, processing.pipeline.figures)
    [(_, record)] = processing.run([part], committer, progress)
    effort = processing.pipeline.effort()
    again = processing.run_again()
    return DonePart(record, Outcome(effort, again, worker.engine.describe()))


@dataclass(frozen=True)
class _Passed:
    """Passes on how far a pipeline is."""

    advance_with: Callable[[int, int, Callable[[], Figures]], None]
    figures: Callable[[], Figures]

    def advance(self, rows: int, tokens: int) -> None:
        self.advance_with(rows, tokens, self.figures)


def _of(
    part: Part, completed: Iterator[tuple[Chunk, list[Result]]], name: str
) -> Iterator[tuple[Chunk, list[Result]]]:
    """The chunks of one part."""
    left = len(part.rows)
    while left:
        if (found := next(completed, None)) is None:  # rows that were there at first
            raise changed(name)
        yield found
        left -= len(found[1])


def _answers(chunk: Chunk, results: Sequence[Result]) -> dict[int, Completion]:
    """By row, what need not be computed again."""
    return {
        row.row: result
        for row, result in zip(chunk.rows, results, strict=True)
        if isinstance(result, Completion)
    }
