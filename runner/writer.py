"""Chunks and their results -> the completions file: every input column, then ours, in order."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import InputError, OutputError
from .messages import shown_names
from .provenance import FOOTER_KEY, write_manifest
from .reader import Chunk, Source, json_values
from .records import OUTPUT_SCHEMA, Result, output_row
from .storage import (
    COMPRESSIONS,
    STDIO,
    Format,
    format_of,
    manifest_path,
    open_lines,
    staged,
)

ROW_GROUP_ROWS = 1 << 16
ROW_GROUP_BYTES = 1 << 26  # in memory until a row group is written


class Writer(Protocol):
    """Takes chunks in input order, then the job's provenance."""

    def write(self, chunk: Chunk, results: list[Result]) -> None: ...

    def finish(self, provenance: dict[str, Any]) -> None: ...


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


@contextmanager
def open_writer(output: str, source: Source, prefix: str, *, overwrite: bool) -> Iterator[Writer]:
    """A writer whose output takes its name, with its manifest, only when all went well.

    Raises
    ------
    OutputError
        Where the disk is full or fails, or a column has a type that Parquet cannot hold.
    """
    if output == STDIO:
        if sys.stdout is None:
            raise OutputError("-: stdout is closed; expected it to take JSONL. Pass a file.")
        yield JsonlWriter(sys.stdout.buffer, prefix, None)
        return
    path = Path(output)
    with staged(path, manifest_path(output), overwrite=overwrite) as (part, manifest):
        if format_of(output) is Format.PARQUET:
            with _parquet_stream(part, source, prefix, manifest) as writer:
                yield writer
            return
        compression = COMPRESSIONS.get(path.suffix.lower())
        stream: Any = (
            pa.output_stream(str(part), compression=compression) if compression else part.open("wb")
        )
        with stream:
            yield JsonlWriter(stream, prefix, manifest)


class JsonlWriter:
    """One JSON object per line. The input's own JSON is kept to the letter."""

    def __init__(self, stream: IO[bytes], prefix: str, manifest: Path | None) -> None:
        self._stream = stream
        self._prefix = prefix
        self._manifest = manifest

    def write(self, chunk: Chunk, results: list[Result]) -> None:
        for line, result in zip(chunk.json_lines(), results, strict=True):
            row = {f"{self._prefix}{key}": value for key, value in output_row(result).items()}
            ours = json.dumps(row, ensure_ascii=False).encode()
            self._stream.write(_joined(line or b"{}", ours) + b"\n")

    def finish(self, provenance: dict[str, Any]) -> None:
        self._stream.flush()
        if self._manifest is not None:
            write_manifest(self._manifest, provenance)


def _joined(line: bytes, ours: bytes) -> bytes:
    """Two JSON objects as one, the first as it was written."""
    theirs = line.removeprefix(b"\xef\xbb\xbf")[:-1].rstrip()
    return theirs + (b"" if theirs == b"{" else b", ") + ours[1:]


@contextmanager
def _parquet_stream(
    part: Path, source: Source, prefix: str, manifest: Path
) -> Iterator["ParquetWriter"]:
    added = [pa.field(f"{prefix}{field.name}", field.type) for field in OUTPUT_SCHEMA]
    metadata = {
        key: value
        for key, value in (source.schema.metadata or {}).items()
        if key != FOOTER_KEY.encode()  # the provenance of the job that made our input
    }
    schema = pa.schema([*source.schema, *added], metadata=metadata)
    try:
        writer = pq.ParquetWriter(part, schema, compression="zstd")
    except pa.ArrowException as e:
        raise OutputError(
            f"{source.name}: {e}; expected columns that Parquet can hold. Write .jsonl instead."
        ) from None
    with writer:
        yield ParquetWriter(writer, schema, manifest)


class ParquetWriter:
    """A Parquet file whose schema is fixed before the first row."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema, manifest: Path) -> None:
        self._writer = writer
        self._schema = schema
        self._manifest = manifest
        self._pending: list[pa.RecordBatch] = []  # of the next row group

    def write(self, chunk: Chunk, results: list[Result]) -> None:
        rows = iter(results)
        for theirs in chunk.record_batches():
            ours = pa.RecordBatch.from_pylist(
                [output_row(result) for result in islice(rows, theirs.num_rows)],
                schema=OUTPUT_SCHEMA,
            )
            columns = [*theirs.columns, *ours.columns]
            self._pending.append(pa.record_batch(columns, schema=self._schema))
        n_rows = sum(batch.num_rows for batch in self._pending)
        n_bytes = sum(batch.nbytes for batch in self._pending)
        if n_rows >= ROW_GROUP_ROWS or n_bytes >= ROW_GROUP_BYTES:
            self._write_row_group()

    def finish(self, provenance: dict[str, Any]) -> None:
        self._write_row_group()
        self._writer.add_key_value_metadata({FOOTER_KEY: json.dumps(provenance)})
        write_manifest(self._manifest, provenance)

    def _write_row_group(self) -> None:
        if self._pending:
            self._writer.write_table(pa.Table.from_batches(self._pending, self._schema))
            self._pending = []


def read_rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Some columns of a completions file, row by row."""
    if format_of(str(path)) is Format.PARQUET:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=columns):
                values = [json_values(batch.column(name), name) for name in columns]
                for row in zip(*values, strict=True):
                    yield dict(zip(columns, row, strict=True))
    else:
        with open_lines(path) as stream:
            for line in stream:
                found = json.loads(line)
                yield {name: found.get(name) for name in columns}
