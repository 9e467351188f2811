"""How the metrics of jobs went from run to run, as text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import pyarrow as pa

from runner.messages import printable
from runner.tables import table as columns

from .finding import FAILING, ROUNDING, figure

BARS = "▁▂▃▄▅▆▇█"
FLAT = BARS[len(BARS) // 2 - 1]
NOTHING, CHANGED = "·", "▲"
SHOWN = 40  # characters of a name
TOLD_CHANGES = 6
HEADER = (
    "task",
    "metric",
    "last",
    "history",
    "change",
    "from baseline",
    "changed on",
    "verdict",
)
# What a change of a metric may come from: what it is called, and what of a run tells it.
CAUSES = (("weights", "weights_sha256"), ("onnxruntime", "onnxruntime"), ("processor", "processor"))

Row = dict[str, Any]


@dataclass(frozen=True)
class _Job:
    """Runs of a job in order of time, each as its rows."""

    name: str
    runs: list[list[Row]]


def trends(history: pa.Table, runs: int) -> str:
    """The last runs of each job: a line for each metric.

    Parameters
    ----------
    history : pyarrow.Table
        From `jobs.history.read`.
    runs : int
        How many are looked at.

    Returns
    -------
    str
        Lines; empty where there is no run.
    """
    rows = sorted(history.to_pylist(), key=lambda row: row["job"])
    blocks = []
    for name, of_job in groupby(rows, key=lambda row: row["job"]):
        grouped = [list(run) for _, run in groupby(of_job, key=lambda row: row["run"])]
        blocks.append("\n".join(_job_lines(_Job(name, grouped[-runs:]), len(grouped))))
    return "\n\n".join(blocks)


def _job_lines(job: _Job, n_runs: int) -> list[str]:
    n_shown = len(job.runs)
    some = f"{n_runs:,} run{'s' * (n_runs > 1)}"
    some = some if n_runs == n_shown else f"the last {n_shown:,} of {some}"
    first, last = job.runs[0][0], job.runs[-1][0]
    of_model = ", ".join(_short(last[name]) for name in ("model", "dtype") if last[name])
    head = f"{_short(job.name)}: {some}, {_day(first)} to {_day(last)}; {of_model}"
    metrics = dict.fromkeys((row["task"], row["metric"]) for run in job.runs for row in run)
    lines = [HEADER, *(_metric_line(job, *metric) for metric in metrics), *_exit_codes(job)]
    changes: list[tuple[str, str]] = []
    for what, name in CAUSES:
        found = [run[0][name] for run in job.runs]
        places = [n for n, (a, b) in enumerate(pairwise(found), 1) if a and b and a != b]
        days = [_day(job.runs[n][0]) for n in places]
        if places:
            marks = "".join(CHANGED if n in places else NOTHING for n in range(n_shown))
            lines.append(("", what, "", marks, "", "", days[-1], ""))
        changes += [
            (day, f"{day}: {what} changed, {_short(found[n - 1])} to {_short(found[n])}")
            for day, n in zip(days, places, strict=True)
        ]
    told = [text for _, text in sorted(changes)[-TOLD_CHANGES:]]
    return [head, *columns(lines, right=(2, 4, 5)), *told]


def _metric_line(job: _Job, task: str, metric: str) -> tuple[str, ...]:
    rows = [
        next((row for row in run if (row["task"], row["metric"]) == (task, metric)), None)
        for run in job.runs
    ]
    values = [_finite(row["value"] if row else None) for row in rows]
    last = rows[-1]
    before = values[-2] if len(values) > 1 else None
    moved = [n for n in range(1, len(values)) if _moved(values[n - 1], values[n])]
    verdict = (last["verdict"] or "") if last else "gone"
    return (
        _short(task),
        _short(metric),
        "none" if values[-1] is None else figure(values[-1]),
        sparkline(values),
        _change(before, values[-1]),
        _change(_finite(last["before"] if last else None), values[-1]),
        _day(job.runs[moved[-1]][0]) if moved else "",
        _short(verdict.upper() if verdict in FAILING else verdict),
    )


def _exit_codes(job: _Job) -> list[tuple[str, ...]]:
    codes = [run[0]["exit_code"] for run in job.runs]
    if not any(codes):
        return []
    marks = "".join(str(code)[-1] if code else NOTHING for code in codes)
    return [("", "exit code", "", marks, "", "", "", "")]


def sparkline(values: Sequence[float | None]) -> str:
    """A character for each value, by where it lies between the least and the largest.

    Parameters
    ----------
    values : sequence of float or None
        Finite; None leaves a gap.
    """
    known = [value for value in values if value is not None]
    least, most = min(known, default=0.0), max(known, default=0.0)
    is_flat = not _moved(least, most)
    return "".join(
        NOTHING
        if value is None
        else FLAT
        if is_flat
        else BARS[round((value / 2 - least / 2) / (most / 2 - least / 2) * (len(BARS) - 1))]
        for value in values
    )


def _moved(before: float | None, now: float | None) -> bool:
    """Whether a value is another, but for rounding."""
    if before is None or now is None:
        return before is not now
    return abs(now / 2 - before / 2) > ROUNDING * max(abs(now), abs(before)) / 2


def _change(before: float | None, now: float | None) -> str:
    if before is None or now is None:
        return ""
    return f"{now - before:+.4g}" if _moved(before, now) else "0"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _day(row: Row) -> str:
    return f"{row['started']:%Y-%m-%d}"


def _short(value: str) -> str:
    """A text from a history, whoever wrote it, in one line."""
    short = value if len(value) <= SHOWN else f"{value[:SHOWN]}..."
    return printable(short).replace("\n", "\\n")
