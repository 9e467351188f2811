"""Rows of a task in a Parquet file: what was asked, what was answered, what metrics are made of."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from runner.errors import InputError, OutputError
from runner.messages import cut, is_unicode, shown

from .results import RowResult

TEXTS = ("id", "prompt", "expected", "answer")
CORRECT = "correct"
FIRST = (*TEXTS, CORRECT)  # columns; then a column for each value
REMEDY = "Copy its folder again, or evaluate again."


def rows_table(rows: Sequence[RowResult]) -> pa.Table:
    """Rows as a table; a value that only some rows have is null in the others.

    Raises
    ------
    OutputError
        Where a value has the name of another column.
    """
    values = list(dict.fromkeys(name for row in rows for name in row.values))
    for name in values:
        if name in FIRST:
            raise OutputError(
                f"rows: a value is called {name!r}, as a column of every row; expected another "
                "name. Rename it in the task."
            )
    columns = {name: pa.array([getattr(row, name) for row in rows], pa.string()) for name in TEXTS}
    columns[CORRECT] = pa.array([row.correct for row in rows], pa.bool_())
    for name in values:
        columns[name] = pa.array([row.values.get(name) for row in rows], pa.float64())
    return pa.table(columns)


def write_rows(rows: Sequence[RowResult], file: Path) -> None:
    """Write the file of a task's rows."""
    pq.write_table(rows_table(rows), file, compression="zstd")


def read_rows(file: Path) -> list[RowResult]:
    """The rows that a file holds.

    Raises
    ------
    InputError
        Where they are not what `runner eval` writes.
    """
    try:
        with file.open("rb") as stream:
            table = pq.ParquetFile(stream, page_checksum_verification=True).read()
        return _rows(table, file)
    except FileNotFoundError:
        raise _error(file, "no such file") from None
    except UnicodeDecodeError:
        raise _error(file, "holds text that is not UTF-8") from None
    except (pa.ArrowException, OSError, ValueError, MemoryError) as e:
        raise _error(file, f"not readable ({cut(str(e))})") from None


def _rows(table: pa.Table, file: Path) -> list[RowResult]:
    names = table.column_names
    if tuple(names[: len(FIRST)]) != FIRST or len({*names}) < len(names):
        raise _error(file, f"has the columns {shown(', '.join(names))}")
    for name in names:
        kind = table.schema.field(name).type
        if kind != _kind_of(name) or not is_unicode(name):
            raise _error(file, f"column {shown(name)} is of type {kind}; expected {_kind_of(name)}")
        if name in TEXTS and table.column(name).null_count:
            raise _error(file, f"column {shown(name)} holds null; expected texts")
    id_, prompt, expected, answer, correct, *values = (
        column.to_pylist() for column in table.columns
    )
    rows = []
    for n in range(len(table)):
        found = {name: column[n] for name, column in zip(names[len(FIRST) :], values, strict=True)}
        present = {name: value for name, value in found.items() if value is not None}
        rows.append(RowResult(id_[n], prompt[n], expected[n], answer[n], correct[n], present))
    return rows


def _kind_of(name: str) -> pa.DataType:
    if name in TEXTS:
        return pa.string()
    return pa.bool_() if name == CORRECT else pa.float64()


def _error(file: Path, said: str) -> InputError:
    return InputError(f"{file}: {said}; expected the rows that `runner eval` wrote. {REMEDY}")
