"""Files of finished rows -> one: what makes an output of parts, and of shards."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from .errors import InputError
from .lines import open_lines
from .messages import first_line
from .parquet_source import batch_rows, opened
from .places import Place
from .storage import Format, format_of
from .store_errors import StoreError
from .writer import ParquetRows, open_output

COPIED_BYTES = 1 << 20  # at a time
BATCH_ROWS = 1024  # a row group is filled up by so many


def join(
    files: Iterable[Place],
    target: Path,
    schema: pa.Schema | None,
    provenance: dict[str, Any],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write the rows of some files into one, in order.

    Parameters
    ----------
    files : iterable of Place
        Of the target's format; one is read before the next is asked for.
    target : Path
        A local file.
    schema : Schema or None
        Of all files, for Parquet.
    provenance : dict
        For the footer of a Parquet file; JSONL has no place for it.
    check : callable
        Asked now and then; what it raises stops the work.
    """
    if format_of(str(target)) is Format.PARQUET:
        _join_parquet(files, target, schema, provenance, check)
        return
    with open_output(target) as joined:
        for file in files:
            check()
            for piece in _pieces(file):  # a full disk is nothing that is wrong with the file
                joined.write(piece)


def _pieces(file: Place) -> Iterator[bytes]:
    with open_lines(file) as lines:
        while piece := lines.read(COPIED_BYTES):
            yield piece


def _join_parquet(
    files: Iterable[Place],
    target: Path,
    schema: pa.Schema,
    provenance: dict[str, Any],
    check: Callable[[], None],
) -> None:
    with ParquetRows(target, schema) as rows:
        for file in files:
            for batch in _batches(file, schema, check):
                rows.write(batch)
        rows.note(provenance)


def _batches(file: Place, schema: pa.Schema, check: Callable[[], None]) -> Iterator[pa.RecordBatch]:
    with reading(file), opened(file) as parquet:
        # One row group at a time: across them Arrow cannot join nested dictionaries.
        for group in range(parquet.num_row_groups):
            check()
            n_rows = batch_rows([parquet.metadata.row_group(group)], BATCH_ROWS)
            for batch in parquet.iter_batches(n_rows, row_groups=[group]):
                yield pa.record_batch(batch.columns, schema=schema)


@contextmanager
def reading(file: Place) -> Iterator[None]:
    """What is wrong with a file of finished rows, as an error for the user.

    Raises
    ------
    InputError
        Naming it.
    """
    try:
        yield
    except StoreError:
        raise  # which says what to do
    except (pa.ArrowException, OSError, ValueError, MemoryError) as e:
        raise InputError(
            f"{file.name}: {first_line(e)}; expected a readable, complete file. Copy it again "
            "from its source, or make it again."
        ) from None
