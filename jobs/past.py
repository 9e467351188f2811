"""What was found before: `runner history`."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from runner.errors import InputError
from runner.messages import shown, shown_names
from runner.places import shown_place

from . import history
from .spec import load_spec
from .trends import trends

JOB_FILE = ".toml"


def past(
    source: str, wanted: dict[str, str | None], last: int, *, as_json: bool = False
) -> list[str]:
    """The last runs of a history, in lines.

    Parameters
    ----------
    source : str
        A history, or a job file, which names one.
    wanted : dict of str to str or None
        The `job`, the `task` and the `metric` that are asked for; None is all.
    last : int
        Runs of each job, from the end.
    as_json : bool
        A JSON object for each row, in place of a table for people.

    Raises
    ------
    InputError
        Where there is nothing to show.
    """
    place = source
    if source.lower().endswith(JOB_FILE):
        spec = load_spec(Path(source), finds_files=False)
        place, wanted = spec.history, wanted | {"job": wanted.get("job") or spec.name}
    table = history.read(place)
    if not len(table):
        raise InputError(
            f"{shown_place(place)}: no runs; expected a history of `runner eval`. Check the path, "
            "or run a job first."
        )
    for column, name in wanted.items():
        if name is not None:
            table = _only(table, column, name, shown_place(place))
    if not as_json:
        return trends(table, last).split("\n")
    return [json.dumps(_plain(row)) for row in _last(table, last)]


def _only(table: pa.Table, column: str, name: str, place: str) -> pa.Table:
    found = table.filter(pc.field(column) == name)
    if not len(found):
        known = shown_names(sorted(set(table.column(column).to_pylist())))
        raise InputError(
            f"{place}: no {column} {shown(name)}; expected one of {known}. Correct the name."
        )
    return found


def _last(table: pa.Table, last: int) -> list[dict[str, Any]]:
    """Rows of the last runs of each job, the oldest first."""
    rows: list[dict[str, Any]] = table.to_pylist()
    runs: dict[str, dict[str, None]] = {}
    for row in rows:
        runs.setdefault(row["job"], {})[row["run"]] = None
    kept = {(job, run) for job, of_job in runs.items() for run in [*of_job][-last:]}
    return [row for row in rows if (row["job"], row["run"]) in kept]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it: a time as text, and null for a number that is none."""
    found = row | {"started": row["started"].isoformat()}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in found.items()
    }
