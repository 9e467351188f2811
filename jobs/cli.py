"""The command `runner` with `eval` and `history`: click, and nothing but click."""

import sys
from pathlib import Path
from typing import Any

import click

from runner.cli import cli
from runner.messages import printable
from runner.settings import MOST_THREADS

from .job_spec import ENGINES

__all__ = ["cli"]


@cli.command("eval")
@click.argument("job", metavar="JOB.toml", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option(
    "--bless",
    metavar="NAME",
    help="Make the run the baseline NAME, unless it failed or disagrees with the reference.",
)
@click.option(
    "--baseline",
    metavar="NAME",
    help="Compare with the baseline NAME, which has to be there.  [default: the job file's]",
)
@click.option(
    "--task",
    "tasks",
    metavar="NAME",
    multiple=True,
    help="Do this task only; may be given several times. Such a run is a trial: it is not added to "
    "the history.  [default: all]",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Rows to take of each task. Such a run is a trial, too.  [default: the job file's]",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the runs.  [default: the job file's]",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads of one model call.  [default: the job file's, or all cores]",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    help="What runs the model: onnxruntime in this process or, with ray, on the nodes of a "
    "cluster, with the same figures; or the NumPy reference.  [default: the job file's]",
)
@click.option(
    "--ray-address",
    metavar="ADDR",
    help="With engine ray: a running cluster, such as HOST:6379 or auto.  [default: the job "
    "file's, or RAY_ADDRESS, or a Ray of the job's own on this machine]",
)
@click.option(
    "--cpus-per-task",
    type=click.IntRange(min=1, max=MOST_THREADS),
    metavar="N",
    help="With engine ray: CPUs of a task, and its threads.  [default: the job file's, or 1, or "
    "what leaves each process the memory that the model needs]",
)
@click.option("--no-report", is_flag=True, help="Make no report.html.")
def eval_command(job: Path, *, dry_run: bool, bless: str | None, **options: Any) -> None:
    """Do the tasks of JOB.toml, and hold what is found to its thresholds and to a baseline.

    What is found is kept in a folder for each run, whose name is printed, and in the history. Where
    GITHUB_STEP_SUMMARY names a file, a summary is added to it.

    Exit codes: 0 done, 1 a task failed, 2 the job file is wrong, 3 finished with bad rows, 4 scores
    disagree with the NumPy reference, 5 a threshold is not kept or a metric is worse than in the
    baseline.
    """
    from .night import missing_for_report, run_job  # noqa: PLC0415 - slow to import
    from .plan import plan  # noqa: PLC0415
    from .wishes import asked  # noqa: PLC0415

    spec = asked(job, **options)
    if dry_run:
        click.echo(printable(plan(spec, missing_for_report())))
        return
    night = run_job(spec, needs_baseline=options["baseline"] is not None, blessed=bless)
    click.echo(printable(str(night.folder)))
    sys.exit(night.exit_code)


@cli.command("history")
@click.argument("source", metavar="HISTORY|JOB.toml")
@click.option("--job", metavar="NAME", help="Show this job only.  [default: all, or JOB.toml's]")
@click.option("--task", metavar="NAME", help="Show this task only.  [default: all]")
@click.option("--metric", metavar="NAME", help="Show this metric only.  [default: all]")
@click.option(
    "--last",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    help="Runs of each job to look at.",
)
@click.option("--json", "as_json", is_flag=True, help="All that is known of them, as JSON lines.")
def history_command(source: str, last: int, *, as_json: bool, **wanted: str | None) -> None:
    """Print how the metrics of HISTORY went, run after run.

    HISTORY is the folder that `runner eval` adds to, here or in an object store; a job file stands
    for the one that it names. It holds Parquet files, which pandas and DuckDB read as they are.
    """
    from .past import past  # noqa: PLC0415 - slow to import

    for line in past(source, wanted, last, as_json=as_json):
        click.echo(printable(line))


if __name__ == "__main__":
    cli()
