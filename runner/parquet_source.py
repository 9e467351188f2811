"""Parquet files -> rows, row group by row group, in constant memory.

A row group may have any size, so its columns are read through buffers of their own, a few rows at
a time. What cannot be read in pieces is a page: a writer may put a gigabyte into one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import InputError
from .json_values import is_text, json_line, json_values
from .lines import fingerprint
from .messages import first_line
from .places import Place
from .rows import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    MAX_NEW_TOKENS,
    Row,
    chunked,
    make_row,
    no_column,
    overlaps,
    spanned,
    within,
)
from .sizes import Sizes
from .store_errors import StoreError

BATCH_ROWS = 128  # read at once at most: what metadata says of a row's bytes is a mean
BATCH_BYTES = CHUNK_BYTES // 4  # so that a chunk is hardly larger than it may be
BUFFER_BYTES = 1 << 26  # of all columns together
GROUP_BYTES = 1 << 40  # of a row group's prompts: more is not believed
SMALL_BYTES = 1 << 20  # of a file that is read without buffers
COLUMN_BUFFER_BYTES = (1 << 16, 1 << 22)  # of one column, at least and at most


@dataclass(frozen=True)
class Part:
    """A file among several.

    Attributes
    ----------
    firsts : list of int
        Where its row groups begin, over all files, and where the last one ends.
    """

    place: Place
    firsts: list[int]
    batch_rows: int

    @property
    def first(self) -> int:
        return self.firsts[0]


class Piece(NamedTuple):
    """Rows of one file and one range."""

    range_number: int
    first: int  # over all files
    part: Part
    batch: pa.RecordBatch


@dataclass
class ParquetSource:
    """Parquet files under one schema.

    Attributes
    ----------
    firsts : list of int
        Where the rows of each file begin, and where the last one ends, whatever the limit.
    sizes : Sizes
        Of prompts, by row groups, as they are encoded.
    """

    name: str
    prompt_column: str
    n_rows: int
    schema: pa.Schema
    files: list[dict[str, Any]]
    parts: list[Part]
    firsts: list[int]
    sizes: Sizes

    @classmethod
    def open(
        cls, files: Sequence[Place], name: str, prompt_column: str, limit: int | None
    ) -> "ParquetSource":
        parts: list[Part] = []
        schemas, sizes = OneSchema(), Sizes()
        firsts = [0]
        for place in files:
            if parts and limit is not None and firsts[-1] >= limit:
                break
            try:
                with opened(place) as file:
                    schema, metadata = file.schema_arrow, file.metadata
                    groups = _groups(metadata)
                    prompt_bytes = list(_prompt_bytes(metadata, groups, prompt_column))
            except StoreError as e:  # which says what to do
                raise InputError(f"{place.name}: {e}") from None
            except (pa.ArrowException, OSError, UnicodeDecodeError) as e:
                raise InputError(
                    f"{place.name}: not readable as Parquet ({first_line(e)}); expected a complete "
                    "file. Copy it again from its source."
                ) from None
            schemas.add(place, schema)
            first_rows = list(accumulate((g.num_rows for g in groups), initial=firsts[-1]))
            parts.append(Part(place, first_rows, batch_rows(groups, BATCH_ROWS)))
            firsts.append(first_rows[-1])
            for end, n_bytes in zip(first_rows[1:], prompt_bytes, strict=True):
                sizes.add(end, sizes.n_bytes[-1] + n_bytes)
        schema = schemas.schema
        _check(schema, name, prompt_column)
        found = [fingerprint(part.place) for part in parts]
        n_rows = min(firsts[-1], limit or firsts[-1])
        return cls(name, prompt_column, n_rows, schema, found, parts, firsts, sizes)

    @property
    def column_names(self) -> list[str]:
        return list(self.schema.names)

    def places_of(self, rows: range) -> list[Place]:
        return [part.place for part in self._wanted(within([rows], self.n_rows))]

    def cost(self, rows: range) -> int:
        return self.sizes.of(rows)

    def _wanted(self, ranges: list[range]) -> Iterator[Part]:
        """The files that hold rows of some ranges."""
        for number in spanned(self.firsts, ranges):
            first, end = self.firsts[number : number + 2]
            if overlaps(ranges, first, end - first):
                yield self.parts[number]

    def chunks(self, ranges: Sequence[range]) -> Iterator["ParquetChunk"]:
        pieces = self._pieces(within(ranges, self.n_rows))
        for _, of_one_range in groupby(pieces, key=itemgetter(0)):
            for some in chunked(
                of_one_range,
                CHUNK_ROWS,
                n_bytes=lambda piece: piece.batch.nbytes,
                n_rows=lambda piece: piece.batch.num_rows,
            ):
                rows = [row for piece in some for row in self._rows(piece)]
                yield ParquetChunk([piece.batch for piece in some], rows)

    def _pieces(self, ranges: list[range]) -> Iterator[Piece]:
        for part in self._wanted(ranges):
            for row, batch in _batches(part, ranges):
                for number, rows in overlaps(ranges, row, batch.num_rows):
                    cut = batch.slice(rows.start - row, len(rows))
                    yield Piece(number, rows.start, part, self._under_schema(cut, part.place))

    def _under_schema(self, batch: pa.RecordBatch, place: Place) -> pa.RecordBatch:
        columns = []
        for field in self.schema:
            if field.name not in batch.schema.names:
                columns.append(pa.nulls(batch.num_rows, field.type))
                continue
            column = batch.column(field.name)
            if column.type != field.type:
                column = _widened(column, field, place)
            columns.append(column)
        return pa.record_batch(columns, schema=self.schema)

    def _rows(self, piece: Piece) -> list[Row]:
        batch, place = piece.batch, piece.part.place
        prompts = json_values(batch.column(self.prompt_column), self.prompt_column)
        limits: list[Any] = [None] * batch.num_rows
        if MAX_NEW_TOKENS in self.schema.names:
            limits = batch.column(MAX_NEW_TOKENS).to_pylist()
        return [
            make_row(
                row,
                f"{place.name}: row {row - piece.part.first}",
                self.prompt_column,
                prompt,
                limit,
            )
            for row, (prompt, limit) in enumerate(zip(prompts, limits, strict=True), piece.first)
        ]


def _widened(column: pa.Array, field: pa.Field, place: Place) -> pa.Array:
    """A column of nulls, or with such inside, as other files have it."""
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), field.type)
    try:
        return column.cast(field.type)
    except pa.ArrowException as e:
        raise InputError(
            f"{place.name}: column {field.name!r} has type {column.type}; with the other files it "
            f"is {field.type}, and cannot be made that ({first_line(e)}). Cast it in one of them, "
            "or run the files one by one."
        ) from None


def batch_rows(groups: Sequence[Any], most_rows: int) -> int:
    """Rows of some row groups to read at once."""
    most = max((g.total_byte_size // g.num_rows for g in groups if g.num_rows), default=0)
    return max(1, min(most_rows, BATCH_BYTES // max(most, 1)))


def _groups(metadata: pq.FileMetaData) -> list[pq.RowGroupMetaData]:
    """The row groups of a file, seen to have its rows."""
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    rows = [group.num_rows for group in groups]
    if min(rows, default=0) < 0 or sum(rows) != metadata.num_rows:
        raise pa.ArrowInvalid(f"{metadata.num_rows:,} rows, and {sum(rows):,} in its row groups")
    return groups


def _prompt_bytes(
    metadata: pq.FileMetaData, groups: Sequence[pq.RowGroupMetaData], prompt_column: str
) -> Iterator[int]:
    """What the prompts of each row group have, before they are compressed."""
    paths = [metadata.schema.column(n).path for n in range(metadata.num_columns)]
    columns = [
        n
        for n, path in enumerate(paths)
        if path == prompt_column or path.startswith(f"{prompt_column}.")  # of lists
    ]
    for group in groups:
        found = sum(group.column(column).total_uncompressed_size for column in columns)
        yield min(max(found, 0), GROUP_BYTES)


@contextmanager
def opened(place: Place) -> Iterator[pq.ParquetFile]:
    """A file whose columns are read through buffers: without them Arrow takes whole row groups.

    Of a small file it may: through a buffer it reserves whatever a damaged page says that it holds,
    up to 2 GiB for each column.
    """
    least, most = COLUMN_BUFFER_BYTES
    with place.open() as stream:
        metadata = pq.read_metadata(stream)
        buffer_bytes = max(least, min(most, BUFFER_BYTES // max(metadata.num_columns, 1)))
        is_small = stream.size() <= SMALL_BYTES
        with pq.ParquetFile(
            stream,
            metadata=metadata,
            pre_buffer=False,
            buffer_size=0 if is_small else buffer_bytes,
            page_checksum_verification=True,
        ) as file:
            yield file


def _batches(part: Part, ranges: list[range]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The row groups that hold wanted rows, in batches, each with the number of its first row."""
    row = part.first
    try:
        with opened(part.place) as file:
            for group in spanned(part.firsts, ranges):
                row, end = part.firsts[group : group + 2]
                wanted = overlaps(ranges, row, end - row)
                if not wanted:
                    continue
                # One row group at a time: across them Arrow cannot join nested dictionaries.
                for batch in file.iter_batches(part.batch_rows, row_groups=[group]):
                    yield row, batch
                    row += batch.num_rows
                    if row >= wanted[-1][1].stop:
                        break
    except pa.ArrowNotImplementedError as e:
        raise InputError(
            f"{part.place.name}: row {row - part.first} and after: a type that cannot be read "
            f"({first_line(e)}). Write the file again with simpler column types."
        ) from None
    except StoreError as e:
        raise InputError(f"{part.place.name}: row {row - part.first} and after: {e}") from None
    except (pa.ArrowException, OSError) as e:
        raise InputError(
            f"{part.place.name}: row {row - part.first} and after: not readable "
            f"({first_line(e)}); expected a complete file. Copy it again from its source."
        ) from None


class OneSchema:
    """The schema that several files have in common."""

    def __init__(self) -> None:
        self._first: pa.Schema | None = None
        self._fields: dict[str, pa.Field] = {}
        self._places: dict[str, Place] = {}  # where a column got its type
        self._seen: dict[str, int] = {}
        self._n_files = 0

    def add(self, place: Place, schema: pa.Schema) -> None:
        """Take in a file's schema.

        Raises
        ------
        InputError
            Where it has a column twice, or one of a type that no earlier file agrees with.
        """
        duplicate = next((n for n in schema.names if schema.names.count(n) > 1), None)
        if duplicate is not None:
            raise InputError(
                f"{place.name}: two columns are called {duplicate!r}; expected different names. "
                "Rename one."
            )
        self._first = schema if self._first is None else self._first
        self._n_files += 1
        for field in schema:
            self._seen[field.name] = self._seen.get(field.name, 0) + 1
            known = self._fields.get(field.name)
            if known is None:
                self._fields[field.name], self._places[field.name] = field, place
            elif not known.equals(field, check_metadata=True):
                self._fields[field.name] = self._merged(known, field, place)

    def _merged(self, known: pa.Field, field: pa.Field, place: Place) -> pa.Field:
        try:
            both = [pa.schema([known]), pa.schema([field])]
            merged = pa.unify_schemas(both, promote_options="default").field(0)
        except pa.ArrowException:
            raise InputError(
                f"{place.name}: column {field.name!r} has type {field.type}; in "
                f"{self._places[field.name].name} it has type {known.type}. Expected one type in "
                "all files. Cast it in one of them, or run the files one by one."
            ) from None
        if merged.type != known.type:
            self._places[field.name] = place
        return merged

    @property
    def schema(self) -> pa.Schema:
        """Columns in the order in which they were met, with the metadata of the first file."""
        assert self._first is not None
        fields = [
            field if self._seen[field.name] == self._n_files else field.with_nullable(True)
            for field in self._fields.values()
        ]
        return pa.schema(fields, metadata=self._first.metadata)


def _check(schema: pa.Schema, name: str, prompt_column: str) -> None:
    if prompt_column not in schema.names:
        raise no_column(name, prompt_column, schema.names)
    kind = schema.field(prompt_column).type
    if not (is_text(kind) or _is_ids(kind) or pa.types.is_null(kind)):
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


def _is_ids(kind: pa.DataType) -> bool:
    nested = (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )
    return bool(nested and pa.types.is_integer(kind.value_type))


@dataclass
class ParquetChunk:
    """Rows and their columns."""

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
            lines += map(json_line, rows)
        return lines
