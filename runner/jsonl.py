"""Lines of JSON -> objects, and the one schema that all rows of a file fit into."""

import json
import math
from array import array
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa

from .errors import InputError
from .lines import START, TOO_LONG, FileHash, Mark, compression_of, numbered_lines, too_long
from .messages import cut, is_unicode, shown
from .places import Place
from .rows import MAX_NEW_TOKENS, chunked
from .sizes import Sizes

SCAN_ROWS = 4096  # rows whose types are unified at a time
MARK_BYTES = 1 << 20  # from one mark to the next, or one line more


@dataclass
class JsonlScan:
    """What a first pass over all files tells.

    Attributes
    ----------
    files : list of dict
        `name`, `bytes` and `sha256` of each file that rows are taken from.
    firsts, bases : list of int
        Rows, lines that are not blank, before each of these files, and their bytes,
        decompressed; then those of all.
    sizes : Sizes
        Of rows, in bytes, decompressed. Stretches begin where files do, and further on in those
        that can be read from there: that are not compressed.
    lines : array of int64
        The number of the line where each stretch begins.
    n_objects : int
        Rows that are JSON objects; the others are bad rows.
    columns : dict
        Names of all keys, in the order in which they were met.
    schema : Schema
        A type for each column; empty where types were not asked for.
    """

    files: list[dict[str, Any]] = field(default_factory=list)
    firsts: list[int] = field(default_factory=lambda: [0])
    bases: list[int] = field(default_factory=lambda: [0])
    sizes: Sizes = field(default_factory=Sizes)
    lines: "array[int]" = field(default_factory=lambda: array("q", [START.line]))
    n_objects: int = 0
    columns: dict[str, None] = field(default_factory=dict)
    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))

    @property
    def n_rows(self) -> int:
        return self.firsts[-1]

    def mark(self, file: int, row: int) -> Mark:
        """Where to begin reading a file to come to one of its rows."""
        place = self.sizes.stretch(row)
        offset = self.sizes.n_bytes[place] - self.bases[file]
        return Mark(self.sizes.rows[place], self.lines[place], offset)

    def add_mark(self, mark: Mark) -> None:
        """Tell where reading the file behind all that are known can begin."""
        self.sizes.add(mark.row, self.bases[-1] + mark.offset)
        self.lines.append(mark.line)

    def add_file(self, file: dict[str, Any], n_rows: int, n_bytes: int) -> None:
        """Take in a file and the place where the next one begins."""
        self.files.append(file)
        self.firsts.append(self.n_rows + n_rows)
        self.bases.append(self.bases[-1] + n_bytes)
        self.add_mark(START._replace(row=self.n_rows))


def scan_jsonl(
    files: Sequence[Place], name: str, limit: int | None, prompt_column: str, *, typed: bool
) -> JsonlScan:
    """Count the rows, collect the columns and, where `typed`, find a type for each.

    Bad values in the columns that the job reads make bad rows, not a bad file: prompts are
    strings where any is (others as JSON text), or else lists of ids; limits are integers.

    Raises
    ------
    InputError
        Where a file cannot be read, or a column has no one type.
    """
    scan = JsonlScan()
    prompts = {"ids": False, "others": False}  # kinds that were met
    widened = False  # a column's type, by later rows
    for some in chunked(_scanned(scan, files, limit), SCAN_ROWS, n_bytes=len):
        objects = [found for found in map(parse_line, some) if isinstance(found, dict)]
        columns = dict.fromkeys(key for found in objects for key in found)
        scan.columns |= columns
        for found in objects:
            if (prompt := found.get(prompt_column)) is not None:
                prompts["ids" if _is_ids(prompt) else "others"] = True
        if typed:
            free = [c for c in columns if c not in (prompt_column, MAX_NEW_TOKENS)]
            before, scan.schema = scan.schema, _unify(scan, objects, free, name)
            widened |= any(f.type != scan.schema.field(f.name).type for f in before)
        scan.n_objects += len(objects)
    if typed:
        ids_only = prompts["ids"] and not prompts["others"]
        fields = {field.name: field.type for field in scan.schema}
        fields[prompt_column] = pa.list_(pa.int64()) if ids_only else pa.string()
        fields[MAX_NEW_TOKENS] = pa.int64()
        scan.schema = pa.schema([(column, fields[column]) for column in scan.columns])
    if widened:
        _prove(files, name, scan, prompt_column)
    return scan


def count_lines(files: Sequence[Place], limit: int | None) -> JsonlScan:
    """Only count the rows, whatever the lines hold.

    Raises
    ------
    InputError
        Where a file cannot be read.
    """
    scan = JsonlScan()
    for _ in _scanned(scan, files, limit):
        pass
    return scan


def _scanned(scan: JsonlScan, files: Sequence[Place], limit: int | None) -> Iterator[bytes]:
    """The rows of all files; the scan is told of a file behind its last row, and of marks in it."""
    for place in files:
        left = None if limit is None else limit - scan.n_rows
        if scan.files and left == 0:
            return
        file = FileHash(place)
        n_rows, offset, line = 0, 0, b""
        step = math.inf if compression_of(place) else MARK_BYTES
        next_mark = step
        with closing(numbered_lines(place, file)) as lines:
            for number, offset, line in islice(lines, left):
                if offset >= next_mark:
                    scan.add_mark(Mark(scan.n_rows + n_rows, number, offset))
                    next_mark = offset + step
                n_rows += 1
                yield line
        scan.add_file(file.finish(), n_rows, offset + len(line))


def _prove(files: Sequence[Place], name: str, scan: JsonlScan, prompt_column: str) -> None:
    """See that the first rows still fit a schema that later ones widened."""
    lines = _scanned(JsonlScan(), files, scan.n_rows)
    for some in chunked(lines, SCAN_ROWS, n_bytes=len):
        objects = [found for found in map(parse_line, some) if isinstance(found, dict)]
        table_of(objects, scan.schema, prompt_column, name)


def parse_line(line: bytes) -> dict[str, Any] | str:
    """The object on a line, or what is wrong with it."""
    if line == TOO_LONG:
        return too_long()
    try:
        found = json.loads(line.removeprefix(b"\xef\xbb\xbf").decode())
    except UnicodeDecodeError as e:
        return f"byte {e.start} of the line is not valid UTF-8; expected a JSON object"
    except json.JSONDecodeError as e:
        return f"not JSON ({e.msg} at character {e.pos}); expected one object per line"
    except (ValueError, RecursionError) as e:  # numbers or nesting beyond what Python takes
        return f"not readable as JSON ({e}); expected one object per line"
    if not isinstance(found, dict):
        return f"a JSON {_kind(found)}; expected an object with the prompt in it"
    return found


def table_of(
    objects: list[dict[str, Any]], schema: pa.Schema, prompt_column: str, name: str
) -> pa.RecordBatch:
    """Rows as columns of the scan's schema."""
    columns = []
    for column in schema:
        values = [found.get(column.name) for found in objects]
        if column.name in (prompt_column, MAX_NEW_TOKENS):
            values = [_readable(value, column.type) for value in values]
        columns.append(_array(values, column.type, column.name, name))
    if not columns:  # of which a batch has as many rows as there are objects, all the same
        return pa.RecordBatch.from_struct_array(pa.array([{} for _ in objects], pa.struct([])))
    return pa.record_batch(columns, schema=schema)


def _readable(value: Any, kind: pa.DataType) -> Any:
    """A value of a column that the job reads, as the column's type can hold it."""
    if value is None:
        return None
    if kind == pa.string():
        return value if isinstance(value, str) else json.dumps(value)
    if kind == pa.int64():
        return value if _is_ids([value]) else None
    return value if _is_ids(value) else None


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(item) is int and -(2**63) <= item < 2**63 for item in value
    )


def _unify(
    scan: JsonlScan, objects: list[dict[str, Any]], columns: list[str], name: str
) -> pa.Schema:
    bad = next((column for column in columns if not is_unicode(column)), None)
    if bad is not None:
        raise _no_type(name, f"a column is called {shown(bad)}, which is not Unicode text")
    fields = [
        (column, _array([found.get(column) for found in objects], None, column, name).type)
        for column in columns
    ]
    try:
        return pa.unify_schemas([scan.schema, pa.schema(fields)], promote_options="permissive")
    except pa.ArrowException as e:
        raise _no_type(name, str(e).split("\n", maxsplit=1)[0]) from None


def _array(values: list[Any], kind: pa.DataType | None, column: str, name: str) -> pa.Array:
    try:
        return pa.array(values, type=kind)
    except UnicodeEncodeError:  # lone surrogates, which JSON can write and Arrow cannot hold
        try:
            return pa.array([_without_surrogates(value) for value in values], type=kind)
        except UnicodeEncodeError as e:  # in a key
            raise _no_type(name, f"column {column!r}: {e.reason} in a key") from None
        except RecursionError:
            raise _no_type(name, f"column {column!r}: nested too deeply") from None
    except (pa.ArrowException, OverflowError) as e:
        raise _no_type(name, f"column {column!r}: {e}") from None


def _no_type(name: str, found: str) -> InputError:
    return InputError(
        f"{name}: {cut(found)}; expected one type per column, as Parquet needs. "
        "Write .jsonl, which keeps the rows as they are, or mend the column."
    )


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", errors="replace").decode()
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_surrogates(item) for key, item in value.items()}
    return value


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "boolean", str: "string", list: "array"}
    return names.get(type(value), "number")
