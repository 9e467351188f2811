"""One batch job: what is to be done, part by part, and what is made of it."""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from reference import Model

from .clock import Clock
from .errors import SettingsError
from .garbage import rare_collections
from .here import do_here
from .inputs import input_files
from .intake import refuse_if_asked
from .interrupts import Interrupts
from .outcome import Outcome
from .output import open_output
from .places import STDIO, Place, is_same, place_of, shown_place
from .planner import plan_job
from .provenance import provenance
from .report import RunReport
from .settings import RunSettings
from .storage import manifest_of, shard_name


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
    started = dt.datetime.now(dt.UTC)
    with (
        _engine(settings) as (do_parts, n_at_a_time),
        input_files(settings.input) as files,
        open_output(settings, files) as output,
    ):
        refuse_metrics(settings, files)
        job, model = plan_job(settings, files, clock, n_at_a_time)
        if (found := output.finished(job.key)) is not None:
            report = RunReport.from_provenance(output.name, found)
            refuse_if_asked(report.first_bad_row, settings)
            return report
        output.check_space(files, len(job.plan.rows), job.source.n_rows)
        job = replace(job, plan=output.begin(job.key, job.plan, job.schema))
        for record in output.records.values():
            refuse_if_asked(record.first_bad_row, settings)
        report = RunReport(output.name, resumed_parts=len(output.records))
        report.checks_invariance = settings.check_invariance > 0
        todo = [part for part in job.plan.parts if part.number not in output.records]
        with Interrupts() as interrupts, rare_collections():
            done = do_parts(job, files, model, todo, output, clock, interrupts)
            report.take(job.plan.parts, output.records)
            report.take_outcome(done)
            report.elapsed_s = clock.seconds(**done.effort.seconds)
            if done.failed:
                return report
            report.provenance = provenance(settings, report, model, job.key, job.plan, started)
            output.finish(report.provenance, interrupts)
    return report


Loop = tuple[Callable[..., Outcome], Callable[[Model], int] | None]


@contextmanager
def _engine(settings: RunSettings) -> Iterator[Loop]:
    """What does the parts, and how many a cluster does at a time; Ray is connected meanwhile."""
    if settings.engine == "local":
        yield do_here, None
        return
    from .cluster.ray_session import open_ray  # noqa: PLC0415 - Ray is an extra

    with open_ray(settings.ray_address) as is_ours:
        from .cluster.drive import do_on_nodes, n_slots  # noqa: PLC0415

        yield partial(do_on_nodes, grows=not is_ours), partial(n_slots, settings)


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
