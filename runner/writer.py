"""Chunks and their results -> files of finished rows: every input column, then ours, in order."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import InputError, OutputError
from .json_values import json_values
from .jsonl_source import JsonlChunk
from .lines import open_lines
from .messages import shown_names
from .places import Place
from .provenance import FOOTER_KEY
from .reader import Chunk, Source
from .records import OUTPUT_SCHEMA, Result, output_row
from .storage import COMPRESSIONS, Format, format_of

ROW_GROUP_ROWS = 1 << 16
ROW_GROUP_BYTES = 1 << 26  # in memory until a row group is written

to_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps makes one for each row


class Writer(Protocol):
    """Takes chunks in input order."""

    def write(self, chunk: Chunk, results: Sequence[Result]) -> None: ...


def check_columns(source_columns: list[str], prefix: str, name: str) -> None:
    """Refuse columns of the input that a job would add.

    Raises
    ------
    InputError
        Naming them, and the option that renames ours.
    """
    clash = [c for c in source_columns if c in {f"{prefix}{n}" for n in OUTPUT_SCHEMA.names}]
    if clash:
        raise InputError(
            f"{name}: has a column {shown_names(clash)}, which the output adds; expected "
            "other names. Pass --column-prefix, for example --column-prefix gpt2_."
        )


def output_schema(source: Source, prefix: str) -> pa.Schema:
    """Of the finished file: the input's columns and ours, fixed before the first row."""
    added = [pa.field(f"{prefix}{field.name}", field.type) for field in OUTPUT_SCHEMA]
    metadata = {
        key: value
        for key, value in (source.schema.metadata or {}).items()
        if key != FOOTER_KEY.encode()  # the provenance of the job that made our input
    }
    return pa.schema([*source.schema, *added], metadata=metadata)


@contextmanager
def open_writer(path: Path, schema: pa.Schema, prefix: str | None) -> Iterator[Writer]:
    """A writer of a local file, in the format that its name stands for.

    Parameters
    ----------
    path : Path
        The file.
    schema : Schema
        From `output_schema`; JSONL has none.
    prefix : str or None
        Of our columns; None where the lines are responses.

    Raises
    ------
    OutputError
        Where a column has a type that Parquet cannot hold.
    """
    if format_of(str(path)) is Format.PARQUET:
        with ParquetRows(path, schema) as rows:
            yield ParquetWriter(rows)
        return
    with open_output(path) as stream:
        yield JsonlWriter(stream, prefix)


@contextmanager
def open_output(path: Path) -> Iterator[IO[bytes]]:
    """A local file for lines, compressed by its suffix."""
    compression = COMPRESSIONS.get(path.suffix.lower())
    stream: Any = (
        pa.output_stream(str(path), compression=compression) if compression else path.open("wb")
    )
    with stream:
        yield stream


class JsonlWriter:
    """One JSON object per line: a row, or a response to a request of OpenAI's batch interface.

    A row's own JSON is kept to the letter.

    Parameters
    ----------
    stream : binary file
        Where to.
    prefix : str or None
        Of our columns; None where the lines are responses.
    """

    def __init__(self, stream: IO[bytes], prefix: str | None) -> None:
        self._stream = stream
        self._prefix = prefix

    def write(self, chunk: Chunk, results: Sequence[Result]) -> None:
        for line in self._lines(chunk, results):
            self._stream.write(line + b"\n")
        self._stream.flush()

    def _lines(self, chunk: Chunk, results: Sequence[Result]) -> Iterator[bytes]:
        if self._prefix is None:
            assert isinstance(chunk, JsonlChunk), "requests are JSONL"
            yield from chunk.response_lines(results)
            return
        for line, result in zip(chunk.json_lines(), results, strict=True):
            row = {f"{self._prefix}{key}": value for key, value in output_row(result).items()}
            yield _joined(line or b"{}", to_json(row).encode())


def _joined(line: bytes, ours: bytes) -> bytes:
    """Two JSON objects as one, the first as it was written."""
    theirs = line.removeprefix(b"\xef\xbb\xbf")[:-1].rstrip()
    return theirs + (b"" if theirs == b"{" else b", ") + ours[1:]


class ParquetWriter:
    """The input's columns, and ours beside them."""

    def __init__(self, rows: "ParquetRows") -> None:
        self._rows = rows

    def write(self, chunk: Chunk, results: Sequence[Result]) -> None:
        left = iter(results)
        for theirs in chunk.record_batches():
            ours = pa.RecordBatch.from_pylist(
                [output_row(result) for result in islice(left, theirs.num_rows)],
                schema=OUTPUT_SCHEMA,
            )
            columns = [*theirs.columns, *ours.columns]
            self._rows.write(pa.record_batch(columns, schema=self._rows.schema))


class ParquetRows:
    """A Parquet file that is written row group by row group, each of a good size.

    Raises
    ------
    OutputError
        Where a column has a type that Parquet cannot hold.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.schema = schema
        try:
            self._writer = pq.ParquetWriter(
                path, schema, compression="zstd", write_page_checksum=True
            )
        except pa.ArrowException as e:
            raise OutputError(
                f"{path.name}: {e}; expected columns that Parquet can hold. Write .jsonl instead."
            ) from None
        self._pending: list[pa.RecordBatch] = []  # of the next row group
        self._n_rows = self._n_bytes = 0  # of them

    def write(self, batch: pa.RecordBatch) -> None:
        self._pending.append(batch)
        self._n_rows += batch.num_rows
        self._n_bytes += batch.nbytes
        if self._n_rows >= ROW_GROUP_ROWS or self._n_bytes >= ROW_GROUP_BYTES:
            self._write_row_group()

    def note(self, provenance: dict[str, Any]) -> None:
        """Put the provenance into the footer."""
        self._writer.add_key_value_metadata({FOOTER_KEY: json.dumps(provenance)})

    def _write_row_group(self) -> None:
        if self._pending:
            self._writer.write_table(pa.Table.from_batches(self._pending, self.schema))
            self._pending = []
            self._n_rows = self._n_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._write_row_group()
        self._writer.close()


def read_rows(place: Place, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Some columns of a completions file, row by row."""
    if format_of(place.path) is Format.PARQUET:
        with place.open() as stream, pq.ParquetFile(stream) as file:
            for batch in file.iter_batches(columns=columns):
                values = [json_values(batch.column(name), name) for name in columns]
                for row in zip(*values, strict=True):
                    yield dict(zip(columns, row, strict=True))
    else:
        with open_lines(place) as lines:
            for line in lines:
                found = json.loads(line)
                yield {name: found.get(name) for name in columns}
