"""One task of a job file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Threshold:
    """The bounds that a metric has to keep; None where there is none."""

    min: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class TaskSpec:
    """What a job file says of a task.

    Attributes
    ----------
    name : str
        Of its table.
    kind : str
        A key of `jobs.tasks.KINDS`.
    data : tuple of str
        Files, folders, patterns or addresses, as the job file has them.
    format : str or None
        A key of `jobs.formats.FORMATS`; None where `columns` says what the rows hold.
    columns : dict of str to str
        What the kind calls a column, and what the file calls it.
    limit : int or None
        Rows to take from the start.
    thresholds : dict of str to Threshold
        By metric.
    allow : dict of str to float
        Worsening against the baseline that is let pass, by metric, in its unit.
    options : dict
        The kind's own keys, checked and with their defaults.
    where : str
        File and table, for messages.
    folder : Path
        Of the job file: what relative paths are relative to.
    """

    name: str
    kind: str
    data: tuple[str, ...] = ()
    format: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
    thresholds: dict[str, Threshold] = field(default_factory=dict)
    allow: dict[str, float] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    where: str = ""
    folder: Path = Path()
