"""The folder of a run: `results.json`, and the rows of each task. It is there whole, or not."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from runner.errors import InputError, OutputError
from runner.places import sync_folder

from .result_file import as_bytes, read_results
from .results import EvalResult
from .rows_file import read_rows, write_rows

RESULTS = "results.json"
ROWS = "rows"
STAGED = ".tmp-"  # how the name of a folder begins that is being written


def make_output(output: Path) -> None:
    """Make the folder of the runs, before anything is done for one.

    Raises
    ------
    OutputError
        Where it cannot be made, or not be written to.
    """
    with _in_our_words(output):
        output.mkdir(parents=True, exist_ok=True)
        if not os.access(output, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def write_run(result: EvalResult, output: Path) -> Path:
    """Write the folder of a run into the folder of the runs.

    Returns
    -------
    Path
        Of the run.

    Raises
    ------
    OutputError
        Where it cannot be written; nothing is left then.
    """
    folder = output / result.run
    make_output(output)
    with _in_our_words(folder):
        staged = output / f"{STAGED}{result.run}"
        staged.mkdir()
        try:
            _write(result, staged)
            staged.rename(folder)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        sync_folder(output)
    return folder


def read_run(folder: Path) -> EvalResult:
    """A run with its rows.

    Raises
    ------
    InputError
        Where the folder is not what a run leaves.
    """
    result, n_rows = read_results(folder / RESULTS)
    tasks = {
        name: replace(task, rows=read_rows(_rows_file(folder, name)))
        for name, task in result.tasks.items()
    }
    for name, task in tasks.items():
        needed = {value for metric in task.metrics for value in (metric.of, metric.per) if value}
        there = {value for row in task.rows for value in row.values}
        if len(task.rows) != n_rows[name] or (task.rows and needed - there):
            raise InputError(
                f"{_rows_file(folder, name)}: not the {n_rows[name]:,} rows that {RESULTS} tells "
                "of; expected both of the same run. Copy the folder again."
            )
    return replace(result, tasks=tasks)


def _rows_file(folder: Path, task: str) -> Path:
    return folder / ROWS / f"{task}.parquet"


def _write(result: EvalResult, folder: Path) -> None:
    rows = folder / ROWS
    rows.mkdir()
    for name, task in result.tasks.items():
        write_rows(task.rows, rows / f"{name}.parquet")
    (folder / RESULTS).write_bytes(as_bytes(result))
    for file in (*rows.iterdir(), folder / RESULTS):
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())
    sync_folder(rows)
    sync_folder(folder)


@contextmanager
def _in_our_words(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise OutputError(
            f"{folder}: {e.strerror or e}; expected a folder to write to. Make room, mend its "
            "permissions, or name another output."
        ) from None
