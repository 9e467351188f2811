"""Prompts files -> chunks of rows, each a request or a reject, with the input's own columns."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import InputError
from .jsonl import MAX_NEW_TOKENS, JsonlScan, chunked, parse_line, scan_jsonl, table_of
from .messages import cut, shown, shown_names
from .records import Reject, Request
from .storage import Format, format_of, open_lines

CHUNK_ROWS = 1024  # rows in memory at a time

Row: TypeAlias = Request | Reject


class Chunk(Protocol):
    """Some rows of the input, in order, and their columns as they were."""

    rows: list[Row]

    def record_batches(self) -> list[pa.RecordBatch]:
        """The input's columns, under the source's schema."""

    def json_lines(self) -> list[bytes | None]:
        """Each row as one JSON object, without a newline; None where the line was none."""


class Source(Protocol):
    """A prompts file that passed every check that concerns the whole job."""

    name: str

    @property
    def n_rows(self) -> int: ...

    @property
    def column_names(self) -> list[str]: ...

    @property
    def schema(self) -> pa.Schema:
        """Of the input's columns; empty where types were not asked for."""

    def chunks(self) -> Iterator[Chunk]: ...


def open_source(
    path: Path, name: str, prompt_column: str, limit: int | None, *, typed: bool
) -> Source:
    """Open a prompts file and check what concerns all of its rows.

    Parameters
    ----------
    path : Path
        A local file.
    name : str
        What messages call it.
    prompt_column : str
        The column with texts or lists of token ids.
    limit : int or None
        Rows to take from the start.
    typed : bool
        Whether the output needs the columns' types (Parquet); JSONL has none of its own.

    Raises
    ------
    InputError
        Where the file is damaged, has no such column, or a column has no one type.
    """
    if format_of(str(path)) is Format.PARQUET:
        return ParquetSource.open(path, name, prompt_column, limit)
    scan = scan_jsonl(path, name, limit, prompt_column, typed=typed)
    if scan.n_objects and prompt_column not in scan.columns:
        raise _no_column(name, prompt_column, list(scan.columns))
    return JsonlSource(path, name, prompt_column, scan)


def _no_column(name: str, column: str, columns: list[str]) -> InputError:
    return InputError(
        f"{name}: no column {column!r}; its columns are {shown_names(columns) or 'none'}. "
        "Pass --prompt-column with one of them."
    )


# Parquet.


@dataclass
class ParquetSource:
    """A Parquet file."""

    path: Path
    name: str
    prompt_column: str
    n_rows: int
    schema: pa.Schema

    @classmethod
    def open(cls, path: Path, name: str, prompt_column: str, limit: int | None) -> "ParquetSource":
        try:
            with pq.ParquetFile(path) as file:
                schema, n_rows = file.schema_arrow, file.metadata.num_rows
        except (pa.ArrowException, OSError) as e:
            raise InputError(
                f"{name}: not readable as Parquet ({_first_line(e)}); expected a complete file. "
                "Copy it again from its source."
            ) from None
        duplicate = next((n for n in schema.names if schema.names.count(n) > 1), None)
        if duplicate is not None:
            raise InputError(
                f"{name}: two columns are called {duplicate!r}; expected different names. "
                "Rename one."
            )
        if prompt_column not in schema.names:
            raise _no_column(name, prompt_column, schema.names)
        kind = schema.field(prompt_column).type
        if not (_is_text(kind) or _is_ids(kind) or pa.types.is_null(kind)):
            raise InputError(
                f"{name}: column {prompt_column!r} has type {kind}; expected strings, or lists of "
                "integers (token ids). Pass --prompt-column with another column, or cast it."
            )
        if MAX_NEW_TOKENS in schema.names:
            kind = schema.field(MAX_NEW_TOKENS).type
            if not (pa.types.is_integer(kind) or pa.types.is_null(kind)):
                raise InputError(
                    f"{name}: column {MAX_NEW_TOKENS!r} has type {kind}; expected integers. "
                    "Cast or rename it."
                )
        return cls(path, name, prompt_column, min(n_rows, limit or n_rows), schema)

    @property
    def column_names(self) -> list[str]:
        return list(self.schema.names)

    def chunks(self) -> Iterator["ParquetChunk"]:
        row = 0
        try:
            with pq.ParquetFile(self.path) as file:
                # One row group at a time: across them Arrow cannot join nested dictionaries.
                groups = (
                    file.iter_batches(CHUNK_ROWS, row_groups=[group])
                    for group in range(file.num_row_groups)
                )
                batches = _first_rows(chain.from_iterable(groups), self.n_rows)
                for some in chunked(
                    batches, CHUNK_ROWS, n_bytes=lambda b: b.nbytes, n_rows=lambda b: b.num_rows
                ):
                    rows = self._rows(some, row)
                    yield ParquetChunk(some, rows)
                    row += len(rows)
        except pa.ArrowNotImplementedError as e:
            raise InputError(
                f"{self.name}: row {row} and after: a type that cannot be read ({_first_line(e)}). "
                "Write the file again with simpler column types."
            ) from None
        except (pa.ArrowException, OSError) as e:
            raise InputError(
                f"{self.name}: row {row} and after: not readable ({_first_line(e)}); expected a "
                "complete file. Copy it again from its source."
            ) from None

    def _rows(self, batches: list[pa.RecordBatch], first: int) -> list[Row]:
        found: list[tuple[Any, Any]] = []  # prompt and limit of each row
        for batch in batches:
            prompts = json_values(batch.column(self.prompt_column), self.prompt_column)
            limits: list[Any] = [None] * batch.num_rows
            if MAX_NEW_TOKENS in self.schema.names:
                limits = batch.column(MAX_NEW_TOKENS).to_pylist()
            found += zip(prompts, limits, strict=True)
        return [
            make_row(row, f"{self.name}: row {row}", self.prompt_column, prompt, limit)
            for row, (prompt, limit) in enumerate(found, first)
        ]


def _first_rows(batches: Iterable[pa.RecordBatch], n_rows: int) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        kept = batch.slice(0, n_rows)
        if not kept.num_rows:
            return
        yield kept
        n_rows -= kept.num_rows


@dataclass
class ParquetChunk:
    batches: list[pa.RecordBatch]
    rows: list[Row]

    def record_batches(self) -> list[pa.RecordBatch]:
        return self.batches

    def json_lines(self) -> list[bytes | None]:
        lines: list[bytes | None] = []
        for batch in self.batches:
            names = batch.schema.names
            columns = [json_values(batch.column(name), name) for name in names]
            rows = (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
            lines += map(_json_line, rows)
        return lines


def _json_line(row: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(row, ensure_ascii=False, default=_json_value, allow_nan=False)
    except ValueError:  # JSON has no NaN and no infinity
        text = json.dumps(_finite(row), ensure_ascii=False, default=_json_value)
    return text.encode()


def _finite(value: Any) -> Any:
    """The same value with null for numbers that JSON cannot write."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_values(column: pa.Array, name: str) -> list[Any]:
    """A column as Python values that JSON or `_json_value` can write; bad UTF-8 stays bytes.

    Raises
    ------
    InputError
        Naming the column.
    """
    try:
        kind = _without_nanoseconds(column.type)
        if not _is_text(column.type):
            return list((column if kind == column.type else column.cast(kind)).to_pylist())
        try:
            return list(column.to_pylist())
        except UnicodeDecodeError:
            raw = column.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
            return [_decoded(value) for value in raw]
    except (pa.ArrowException, ValueError, OverflowError) as e:
        raise InputError(
            f"column {shown(name)} of type {column.type} cannot be written as JSON "
            f"({_first_line(e)}). Write .parquet, which keeps it, or cast it."
        ) from None


def _without_nanoseconds(kind: pa.DataType) -> pa.DataType:
    """A type with text for what Python has no type for: times finer than a microsecond."""
    if pa.types.is_temporal(kind) and getattr(kind, "unit", None) == "ns":
        return pa.int64() if pa.types.is_duration(kind) else pa.string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _without_nanoseconds(kind.value_type)
        made = pa.list_(inner) if pa.types.is_list(kind) else pa.large_list(inner)
        return kind if inner == kind.value_type else made
    if pa.types.is_struct(kind):
        inner = pa.struct([pa.field(f.name, _without_nanoseconds(f.type)) for f in kind])
        return kind if [f.type for f in inner] == [f.type for f in kind] else inner
    return kind


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _json_value(value: Any) -> str:
    """JSON for what it has no form of its own: dates in ISO 8601, bytes and decimals as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_ids(kind: pa.DataType) -> bool:
    nested = (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )
    return bool(nested and pa.types.is_integer(kind.value_type))


def _first_line(e: Exception) -> str:
    return cut(str(e).split("\n", maxsplit=1)[0].rstrip("."))


# JSONL.


@dataclass
class JsonlSource:
    """A file with one JSON object per line; blank lines are no rows."""

    path: Path
    name: str
    prompt_column: str
    scan: JsonlScan

    @property
    def n_rows(self) -> int:
        return self.scan.n_rows

    @property
    def column_names(self) -> list[str]:
        return list(self.scan.columns)

    @property
    def schema(self) -> pa.Schema:
        return self.scan.schema

    def chunks(self) -> Iterator["JsonlChunk"]:
        row = 0
        with open_lines(self.path) as stream:
            lines = ((number, line.strip()) for number, line in enumerate(stream, 1))
            filled = islice(((n, line) for n, line in lines if line), self.n_rows)
            for some in chunked(filled, CHUNK_ROWS, n_bytes=lambda item: len(item[1])):
                parsed = [parse_line(line) for _, line in some]
                rows = [
                    self._row(row + i, number, found)
                    for i, ((number, _), found) in enumerate(zip(some, parsed, strict=True))
                ]
                yield JsonlChunk(self, [line for _, line in some], parsed, rows)
                row += len(some)

    def _row(self, row: int, number: int, found: dict[str, Any] | str) -> Row:
        where = f"{self.name}:{number}"
        if isinstance(found, str):
            return Reject(row, where, found)
        if self.prompt_column not in found:
            return Reject(
                row,
                where,
                f"no {self.prompt_column!r}; this row has {shown_names(found) or 'nothing'}",
            )
        prompt, limit = found[self.prompt_column], found.get(MAX_NEW_TOKENS)
        return make_row(row, where, self.prompt_column, prompt, limit)


@dataclass
class JsonlChunk:
    source: JsonlSource
    lines: list[bytes]
    parsed: list[dict[str, Any] | str]
    rows: list[Row]

    def record_batches(self) -> list[pa.RecordBatch]:
        objects = [found if isinstance(found, dict) else {} for found in self.parsed]
        source = self.source
        return [table_of(objects, source.schema, source.prompt_column, source.name)]

    def json_lines(self) -> list[bytes | None]:
        return [
            line if isinstance(found, dict) else None
            for line, found in zip(self.lines, self.parsed, strict=True)
        ]


# One row, whatever it came from.


def make_row(row: int, where: str, column: str, prompt: Any, limit: Any) -> Row:
    """A request, or a reject that says what is wrong with the prompt or its limit."""
    reason = _prompt_fault(column, prompt) or _limit_fault(limit)
    return Reject(row, where, reason) if reason else Request(row, where, prompt, limit)


def _prompt_fault(column: str, prompt: Any) -> str | None:
    if isinstance(prompt, str):
        return None
    if isinstance(prompt, list):
        bad = next((i for i, token in enumerate(prompt) if type(token) is not int), None)
        if bad is None:
            return None
        return f"{column!r} holds {shown(prompt[bad])} at {bad}; expected token ids, integers only"
    if isinstance(prompt, bytes):
        return f"{column!r} is not valid UTF-8; expected text"
    return f"{column!r} is {shown(prompt)}; expected a string or a list of token ids"


def _limit_fault(limit: Any) -> str | None:
    if limit is None or (type(limit) is int and 0 <= limit < 2**63):
        return None
    return f"{MAX_NEW_TOKENS!r} is {shown(limit)}; expected a whole number, 0 to 2**63 - 1"
