"""A job file, with what the command line wants otherwise."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from runner.errors import SettingsError
from runner.messages import shown, shown_names

from .baseline import checked_name
from .job_spec import EXACT, JobSpec
from .spec import load_spec


def asked(
    job: Path,
    *,
    baseline: str | None = None,
    tasks: Collection[str] = (),
    limit: int | None = None,
    output: Path | None = None,
    threads: int | None = None,
    engine: str | None = None,
    ray_address: str | None = None,
    cpus_per_task: int | None = None,
    no_report: bool = False,
) -> JobSpec:
    """Read a job file.

    Parameters
    ----------
    job : Path
    baseline, tasks, limit, output, threads, engine, ray_address, cpus_per_task, no_report
        As the options of `runner eval`.

    Raises
    ------
    SettingsError
        Where the file is wrong, has no such task, or another engine than an option is for.
    """
    spec = load_spec(job, output)
    for name in tasks:
        if name not in spec.tasks:
            raise SettingsError(
                f"--task {shown(name)}: no such task in {job}; expected some of "
                f"{shown_names(spec.tasks)}. Correct the name."
            )
    chosen = {name: task for name, task in spec.tasks.items() if name in tasks or not tasks}
    if limit is not None:
        chosen = {
            name: replace(task, limit=min(limit, task.limit or limit))
            for name, task in chosen.items()
        }
    spec = _with_engine(spec, engine or spec.engine, ray_address, cpus_per_task)
    return replace(
        spec,
        tasks=chosen,
        baseline=spec.baseline if baseline is None else checked_name(baseline),
        threads=threads or spec.threads,
        report=False if no_report else spec.report,
        is_trial=bool(tasks) or limit is not None,
    )


def _with_engine(
    spec: JobSpec, engine: str, ray_address: str | None, cpus_per_task: int | None
) -> JobSpec:
    """The same with another engine; what the file says of Ray counts with Ray only."""
    if spec.dtype == EXACT and engine != "reference":
        raise SettingsError(
            f"--engine {engine}: {spec.file} has dtype = {EXACT!r}, which only 'reference' "
            "computes in. Leave the option out."
        )
    if engine == "ray":
        return replace(
            spec,
            engine=engine,
            ray_address=ray_address or spec.ray_address,
            cpus_per_task=cpus_per_task or spec.cpus_per_task,
        )
    if ray_address or cpus_per_task:
        raise SettingsError(
            f"--ray-address and --cpus-per-task are for engine 'ray'; this job's is {engine!r}. "
            "Add --engine ray, or leave them out."
        )
    return replace(spec, engine=engine, ray_address=None, cpus_per_task=None)
