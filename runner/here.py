"""The parts of a job on this machine, in this process."""

import contextlib
from collections.abc import Sequence

from reference import Model

from .clock import Clock
from .errors import InputError, InterruptedJobError
from .interrupts import Interrupts
from .outcome import Outcome
from .output import Output
from .parts import Part
from .places import Place
from .planner import PlannedJob
from .process import Processing, Samples, Worker
from .progress import Progress


def do_here(
    job: PlannedJob,
    files: Sequence[Place],
    model: Model,
    todo: Sequence[Part],
    output: Output,
    clock: Clock,
    interrupts: Interrupts,
) -> Outcome:
    """Do some parts, all through one pipeline.

    Raises
    ------
    InterruptedJobError
        After a step, where a signal came. What is known of unfinished parts is then kept.
    """
    settings = job.settings
    with clock.measure("load"):
        worker = Worker(model, settings)
    n_rows = sum(len(part.rows) for part in todo)
    samples = Samples.of(settings, n_rows)
    processing = Processing(job, files, worker, samples, clock, interrupts, output.known())
    with Progress(n_rows, processing.pipeline.figures, settings.metrics) as progress:
        try:
            for part, record in processing.run(todo, output.committer, progress):
                output.count(part, record)
        except InterruptedJobError:
            with contextlib.suppress(InputError):  # of a changed file nothing is kept
                job.refuse_changed(files)
                output.suspend(processing.known())
            raise
        job.refuse_changed(files)
    found = Outcome(processing.pipeline.effort(), engine=worker.engine.describe())
    if settings.profiled:
        found.engine["operators_s"] = worker.engine.operator_seconds()
    found.invariance = processing.run_again()
    return found
