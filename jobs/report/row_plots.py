"""Plots of a task's rows: whether the model knows what it knows, and how it fares with length."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from runner.errors import InputError
from runner.messages import cut

from . import plots
from .bins import Bin, FloatArray, equal_counts, equal_widths

CORRECT = "correct"
PROMPT = "prompt"
PROBABILITY = "probability"  # of the choice that the model made
LOGLIKELIHOOD = "loglikelihood"
TOKENS = "tokens"  # that the log-likelihood is of
CHARACTERS = "characters of the prompt"
KNOWN = (CORRECT, PROBABILITY, LOGLIKELIHOOD, TOKENS)
FEWEST_ROWS = 20  # below, there is nothing to see

Columns: TypeAlias = dict[str, FloatArray]


@dataclass(frozen=True)
class RowPlots:
    """A task's plots; what its rows do not tell is empty.

    Attributes
    ----------
    task : str
    rows : int
    calibration, by_length : str
        SVG.
    """

    task: str
    rows: int
    calibration: str
    by_length: str


@dataclass(frozen=True)
class Lengths:
    """Groups of rows by length, and what both axes are called."""

    bins: list[Bin]
    names: tuple[str, str]


def row_plots(task: str, kind: str, folder: Path, baseline: Path | None) -> RowPlots:
    """The plots of one task.

    Parameters
    ----------
    task, kind : str
    folder, baseline : Path, Path or None
        Of the run, and of the one that it was compared with.

    Raises
    ------
    InputError
        Where a file of rows is not readable.
    """
    rows = columns(folder / "rows" / f"{task}.parquet")
    before = columns(baseline / "rows" / f"{task}.parquet") if baseline else {}
    return RowPlots(
        task,
        max(map(len, rows.values()), default=0),
        calibration(task, rows) if kind == "multiple_choice" else "",
        by_length(task, rows, before),
    )


def calibration(task: str, rows: Columns) -> str:
    probability, correct = rows.get(PROBABILITY), rows.get(CORRECT)
    if probability is None or correct is None:
        return ""
    known = np.isfinite(correct) & np.isfinite(probability)
    if known.sum() < FEWEST_ROWS:
        return ""
    bins = equal_widths(probability[known], correct[known])
    return plots.calibration(bins, f"calibration-{task}", told("Share correct", bins))


def by_length(task: str, rows: Columns, before: Columns) -> str:
    now, then = lengths(rows), lengths(before)
    if now is None or len(now.bins) < 2:
        return ""
    old = then.bins if then and then.names == now.names else []
    if len({part.y for part in (*now.bins, *old)}) == 1:  # as where all is right
        return ""
    return plots.by_length(now.bins, old, now.names, f"length-{task}", told(now.names[1], now.bins))


def lengths(rows: Columns) -> Lengths | None:
    """Rows by length: what share is correct, or, where nothing is, what a token costs."""
    correct, loglikelihood, tokens = (rows.get(name) for name in KNOWN if name != PROBABILITY)
    if correct is not None and np.isfinite(correct).any():
        x, y, names = rows.get(CHARACTERS), correct, (CHARACTERS, "share correct")
    elif tokens is not None and loglikelihood is not None:
        x, y, names = tokens, -loglikelihood / np.maximum(tokens, 1), ("tokens", "nats per token")
    else:
        return None
    if x is None:
        return None
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < FEWEST_ROWS:
        return None
    return Lengths(equal_counts(x[known], y[known], is_share=y is correct), names)


def told(what: str, bins: list[Bin]) -> str:
    """A plot in words."""
    parts = [f"{part.y:.3g} at {part.x:.3g} ({part.n:,} rows)" for part in bins]
    return f"{what}: {', '.join(parts)}"


def columns(file: Path) -> Columns:
    """What is known of a task's rows in numbers, NaN where a row has none; empty without a file.

    Texts are read a few at a time: only their lengths are kept.
    """
    if not file.exists():
        return {}
    try:
        with pq.ParquetFile(file) as parquet:
            names = [name for name in parquet.schema_arrow.names if name in KNOWN]
            if PROMPT not in parquet.schema_arrow.names:
                raise ValueError(f"no column {PROMPT!r}")  # noqa: TRY301
            table = parquet.read(columns=names)
            found = {name: numbers(table.column(name)) for name in names}
            batches = parquet.iter_batches(batch_size=1024, columns=[PROMPT])
            parts = [numbers(pc.utf8_length(batch.column(0))) for batch in batches]
    except (pa.ArrowException, OSError, ValueError) as e:
        raise InputError(
            f"{file}: not readable ({cut(str(e))}); expected the rows that `runner eval` wrote. "
            "Copy its folder again, or evaluate again."
        ) from None
    return {**found, CHARACTERS: np.concatenate(parts) if parts else np.zeros(0)}


def numbers(column: Any) -> FloatArray:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    found: FloatArray = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return found
