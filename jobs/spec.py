"""A job file -> what it asks for, with all that is wrong with it told before anything runs."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from reference import ModelError
from reference.models import DEMO, find_model
from reference.published import PUBLISHED
from runner.errors import InputError, PlaceError
from runner.places import place_of, scheme_of
from runner.settings import DTYPES, MOST_THREADS, SIZE, available_threads, bytes_of
from runner.stores import STORES

from .data import find_files
from .formats import TEXT
from .job_spec import ENGINES, EXACT, JobSpec
from .task_spec import TaskSpec, Threshold
from .tasks import KINDS
from .tasks.kind import (
    Kind,
    OptionShape,
    flag,
    number,
    one_of,
    text,
    told,
    unknown,
    whole_number,
)
from .toml_table import Table, TomlFile

# Of jobs, tasks and baselines, which files and folders are named after.
NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?\Z", re.ASCII)
NAME_IN_WORDS = "a name of letters, digits, - _ and . within, at most 64"

SEED = OptionShape("a whole number from 0", lambda v: type(v) is int and v >= 0, 0)
THREADS = OptionShape(
    f"a whole number from 1 to {MOST_THREADS}",
    lambda v: type(v) is int and 1 <= v <= MOST_THREADS,
)
CHECK_ROWS = OptionShape(
    'a whole number from 0, or "all"', lambda v: v == "all" or (type(v) is int and v >= 0), 8
)
MEMORY = OptionShape(
    SIZE,
    lambda v: (type(v) is int and v > 0) or (isinstance(v, str) and bool(bytes_of(v))),
)
FINITE = OptionShape("a number", lambda v: type(v) in (int, float) and abs(v) < float("inf"))
DATA = OptionShape(
    "a file, a folder, a pattern, or a list of them",
    lambda v: is_text(v) or (isinstance(v, list) and bool(v) and all(map(is_text, v))),
    (),
)
TEXT_TABLE = OptionShape(
    "a table of strings", lambda v: isinstance(v, dict) and all(map(is_text, v.values())), {}
)


def is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def name_shape(default: str | None = None) -> OptionShape:
    return OptionShape(NAME_IN_WORDS, lambda v: is_text(v) and bool(NAME.match(v)), default)


def load_spec(path: Path, output: Path | None = None, *, finds_files: bool = True) -> JobSpec:
    """Read a job file.

    Parameters
    ----------
    path : Path
        Of the file. Relative paths in it are relative to its folder.
    output : Path, optional
        Folder of the runs, in place of the file's.
    finds_files : bool
        Whether data and the model's directory have to be there, as for a run.

    Raises
    ------
    JobFileError
        With all that is wrong with it.
    """
    file = TomlFile(path)
    root, folder = file.root, path.parent
    name = root.take("name", name_shape(None if NAME.match(path.stem) else "job"))
    name = name or path.stem
    told_output = root.take("output", text(default=f"runs/{name}"))
    output = output or _local(root, "output", told_output, folder)
    baseline = root.table("baseline")
    baseline_name = baseline.take("name", name_shape())
    baselines = baseline.take("folder", text())
    gate = root.table("gate")
    memory = root.take("memory", MEMORY)
    check_rows = root.take("check_rows", CHECK_ROWS)
    models_dir = root.take("models_dir", text())
    models_dir = models_dir and str(_local(root, "models_dir", models_dir, folder))
    spec = JobSpec(
        name=name,
        file=path,
        sha256=file.sha256,
        output=output,
        history=_history(root, folder, output),
        baselines=(
            output / "baselines"
            if baselines is None
            else _local(baseline, "folder", baselines, folder)
        ),
        baseline=baseline_name,
        tasks=_tasks(root, folder, finds_files=finds_files),
        model=_model(root, folder, models_dir, finds_files=finds_files),
        dtype=root.take("dtype", one_of(*DTYPES, EXACT)),
        engine=root.take("engine", one_of(*ENGINES)),
        threads=root.take("threads", THREADS) or available_threads(),
        memory=bytes_of(memory) if isinstance(memory, str) else memory,
        models_dir=models_dir,
        base_url=root.take("base_url", text()),
        seed=root.take("seed", SEED),
        check_rows=None if check_rows == "all" else check_rows,
        report=root.take("report", replace(flag(default=False), default=None)),
        z=float(gate.take("z", number(default=2.0))),
        ray_address=root.take("ray_address", text()),
        cpus_per_task=root.take("cpus_per_task", THREADS),
    )
    if spec.dtype == EXACT and spec.engine != "reference":
        root.fault("dtype", f'is "{EXACT}"; only engine = "reference" computes in it. Set that.')
    for key in ("ray_address", "cpus_per_task"):
        if key in root.found and spec.engine != "ray":
            root.fault(key, 'is for engine = "ray"; expected it with that only. Set that.')
    for table, whose in ((root, "a job"), (baseline, "a baseline"), (gate, "a gate")):
        table.finish(whose)
    file.check()
    return spec


def _history(root: Table, folder: Path, output: Path) -> str:
    """A folder, or an address of an object store; nobody is asked whether it is there."""
    told: str | None = root.take("history", text())
    if told is None:
        return str(output / "history")
    scheme = scheme_of(told)
    history = told if scheme is not None else tidy(folder / told)
    if scheme in STORES:
        return history
    try:
        place_of(history)
    except PlaceError as e:
        root.fault("history", f"is no place to add to: {e}")
    return history


def tidy(path: Path) -> str:
    """A path without `..`, where that leads to the same: beyond a link it does not."""
    short = os.path.normpath(path)
    try:
        return short if os.path.realpath(short) == os.path.realpath(path) else str(path)
    except (OSError, ValueError):  # ValueError: no path at all
        return str(path)


def _local(table: Table, key: str, path: str, folder: Path) -> Path:
    """A folder of this machine."""
    if scheme_of(path) is not None or "\0" in path:
        table.fault(key, f"is {told(path)}; expected a folder of this machine. Name one.")
        return folder
    return Path(tidy(folder / path))


def _model(root: Table, folder: Path, models_dir: str | None, *, finds_files: bool) -> str:
    """A name as it is, a directory from where the program runs."""
    model: str = root.take("model", text(default=DEMO))
    if model in (DEMO, *PUBLISHED):
        return model
    model = tidy(folder / model)
    try:
        if finds_files:
            find_model(model, models_dir)
    except (ModelError, OSError) as e:
        root.fault("model", f"cannot be had: {e}")
    return model


def _tasks(root: Table, folder: Path, *, finds_files: bool) -> dict[str, TaskSpec]:
    tasks = root.table("tasks")
    if not tasks.found and isinstance(root.found.get("tasks", {}), dict):
        root.fault("tasks", "has no table; expected a table for each task. Add [tasks.NAME].")
    found, seen = {}, set[str]()
    for name in tasks.found:
        if not NAME.match(name):
            tasks.fault(name, f"is no name for a task; expected {NAME_IN_WORDS}. Rename it.")
        elif name.lower() in seen:
            tasks.fault(name, "differs from another task only by its case. Rename one of them.")
        seen.add(name.lower())
        task = _task(tasks.table(name), name, folder, finds_files=finds_files)
        if task is not None:
            found[name] = task
    return found


def _task(table: Table, name: str, folder: Path, *, finds_files: bool) -> TaskSpec | None:
    kind = _kind(table)
    if kind is None:
        return None
    data = table.take("data", DATA)
    spec = TaskSpec(
        name=name,
        kind=kind.name,
        data=(data,) if isinstance(data, str) else tuple(data),
        format=table.take("format", text()),
        columns=table.take("columns", TEXT_TABLE),
        limit=table.take("limit", whole_number(least=1)),
        thresholds=_thresholds(table.table("thresholds")),
        allow=_allow(table.table("allow")),
        options=table.rest(),
        where=f"{table.file.name}: tasks.{name}",
        folder=folder,
    )
    for keys, said in kind.faults(spec):
        table.file.fault((*table.keys, *keys), said)
    try:
        if finds_files:
            find_files(spec.data, folder, is_text=spec.format == TEXT)
    except InputError as e:
        table.fault("data", f"cannot be read: {e}")
    return kind.completed(spec)


def _kind(table: Table) -> Kind | None:
    """The kind of a task; where it is none, nothing more can be said of the task."""
    kind = table.take("kind", replace(text(required=True), expected=f"one of {', '.join(KINDS)}"))
    if kind is not None and kind not in KINDS:
        table.fault("kind", f"is {told(kind)}: {unknown('kind', kind, KINDS, 'task')}")
    return KINDS.get(kind)


def _thresholds(table: Table) -> dict[str, Threshold]:
    found = {}
    for metric in table.found:
        bounds = table.table(metric)
        low, high = bounds.take("min", FINITE), bounds.take("max", FINITE)
        if isinstance(table.found[metric], dict) and not bounds.found:
            table.fault(metric, "is empty; expected min, max or both. Add one.")
        if low is not None and high is not None and low > high:
            bounds.fault("min", f"is {low}, above max, which is {high}. Correct one of them.")
        bounds.finish("a threshold")
        found[metric] = Threshold(low, high)
    return found


def _allow(table: Table) -> dict[str, float]:
    return {metric: table.take(metric, number(default=0.0)) for metric in table.found}
