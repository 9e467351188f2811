"""What a job would do: `runner eval --dry-run`."""

import os

from reference.models import find_model
from reference.published import PUBLISHED
from runner.places import shown_place
from runner.tables import table

from .baseline import read_baseline
from .documents import read_data
from .formats import FORMATS, Format, plain
from .job_spec import JobSpec
from .task_spec import TaskSpec, Threshold
from .tasks import KINDS


def plan(spec: JobSpec, missing_for_report: str | None) -> str:
    """The plan of a job, in lines.

    Parameters
    ----------
    spec : JobSpec
    missing_for_report : str or None
        What would have to be installed for the report.

    Raises
    ------
    PicobatchError
        Where data or the baseline cannot be read.
    """
    checked = "all" if spec.check_rows is None else f"{spec.check_rows:,}"
    report = "report.html" if spec.report is not False else "none"
    if spec.report is not False and missing_for_report:
        report = f"none, without {missing_for_report}"
    lines = [
        f"job       {spec.name}, from {spec.file}",
        f"model     {_model(spec)}, {spec.dtype}, {_engine(spec)}",
        f"check     {checked} requests against the NumPy reference, chosen by seed {spec.seed}",
        f"runs      {spec.output}",
        f"history   {'not added to: a trial' if spec.is_trial else shown_place(spec.history)}",
        f"baseline  {_baseline(spec)}",
        f"report    {report}",
        "",
        *table(
            [("task", "kind", "rows", "metrics", "held to"), *map(_task, spec.tasks.values())],
            right=[2],
        ),
    ]
    for task in spec.tasks.values():
        read = f", read as {task.format}" if task.format else ""
        lines += [f"{task.name}: {shown_place(source)}{read}" for source in task.data]
    return "\n".join(lines)


def _model(spec: JobSpec) -> str:
    if spec.model in PUBLISHED and find_model(spec.model, spec.models_dir) is None:
        return f"{spec.model} (to be downloaded)"
    return spec.model


def _engine(spec: JobSpec) -> str:
    if spec.engine != "ray":
        return f"{spec.engine}, {spec.threads} threads"
    where = spec.ray_address or os.environ.get("RAY_ADDRESS") or "a Ray of its own, on this machine"
    cpus = f", {spec.cpus_per_task} CPUs a task" if spec.cpus_per_task else ""
    return f"onnxruntime on Ray: {where}{cpus}"


def _baseline(spec: JobSpec) -> str:
    if spec.baseline is None:
        return "none"
    place = spec.baselines / spec.baseline
    found = read_baseline(spec.baselines, spec.baseline, required=False)
    if found is None:
        return f"{place}: not there yet, make it with --bless {spec.baseline}"
    return f"{place}: run {found.run}; z = {spec.z:g}"


def _task(task: TaskSpec) -> tuple[str, ...]:
    held = [
        *(_bounds(metric, bounds) for metric, bounds in task.thresholds.items()),
        *(f"{metric} may worsen by {by:g}" for metric, by in task.allow.items()),
    ]
    rows = _n_rows(task)
    return (
        task.name,
        task.kind,
        "-" if rows is None else f"{rows:,}",
        ", ".join(KINDS[task.kind].metrics or ["those it returns"]),
        ", ".join(held) or "-",
    )


def _bounds(metric: str, bounds: Threshold) -> str:
    low = "" if bounds.min is None else f"{bounds.min:g} <= "
    high = "" if bounds.max is None else f" <= {bounds.max:g}"
    return f"{low}{metric}{high}"


def _n_rows(task: TaskSpec) -> int | None:
    """Rows of a task's data, bad ones too."""
    columns = KINDS[task.kind].columns
    if not task.data or not (task.format or columns):
        return None
    form = FORMATS[task.format] if task.format else Format(columns[:1], plain)
    return read_data(task, form, by_line=task.options.get("document") == "line").n_rows
