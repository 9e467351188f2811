"""A job file, with what the command line wants otherwise."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from runner.errors import SettingsError
from runner.messages import shown, shown_names

from .baseline import checked_name
from .job_spec import JobSpec
from .spec import load_spec


def asked(
    job: Path,
    *,
    baseline: str | None = None,
    tasks: Collection[str] = (),
    limit: int | None = None,
    output: Path | None = None,
    threads: int | None = None,
    no_report: bool = False,
) -> JobSpec:
    """Read a job file.

    Parameters
    ----------
    job : Path
    baseline, tasks, limit, output, threads, no_report
        As the options of `runner eval`.

    Raises
    ------
    SettingsError
        Where the file is wrong, or has no such task.
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
    return replace(
        spec,
        tasks=chosen,
        baseline=spec.baseline if baseline is None else checked_name(baseline),
        threads=threads or spec.threads,
        report=False if no_report else spec.report,
        is_trial=bool(tasks) or limit is not None,
    )
