"""Files with one JSON object per line -> rows; blank lines are no rows."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa

from .jsonl import JsonlScan, count_lines, parse_line, scan_jsonl, table_of
from .lines import Mark, numbered_lines
from .messages import shown_names
from .openai_batch import request_of, response_line
from .places import Place
from .records import Reject, Result
from .rows import (
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


class Line(NamedTuple):
    """A line of one file and one range."""

    range_number: int
    row: int  # over all files
    where: str
    text: bytes


@dataclass
class JsonlSource:
    """Files of lines, in order, after a first pass over all of them."""

    places: Sequence[Place]
    name: str
    prompt_column: str
    scan: JsonlScan
    requests: bool = False

    @classmethod
    def open(
        cls,
        places: Sequence[Place],
        name: str,
        prompt_column: str,
        limit: int | None,
        *,
        typed: bool,
        requests: bool,
    ) -> "JsonlSource":
        if requests:
            return cls(places, name, prompt_column, count_lines(places, limit), requests=True)
        scan = scan_jsonl(places, name, limit, prompt_column, typed=typed)
        if scan.n_objects and prompt_column not in scan.columns:
            raise no_column(name, prompt_column, list(scan.columns))
        return cls(places, name, prompt_column, scan)

    @property
    def files(self) -> list[dict[str, Any]]:
        return self.scan.files

    @property
    def n_rows(self) -> int:
        return self.scan.n_rows

    @property
    def column_names(self) -> list[str]:
        return list(self.scan.columns)

    @property
    def schema(self) -> pa.Schema:
        return self.scan.schema

    def chunks(self, ranges: Sequence[range]) -> Iterator["JsonlChunk"]:
        lines = self._lines(within(ranges, self.n_rows))
        for _, of_one_range in groupby(lines, key=itemgetter(0)):
            for some in chunked(of_one_range, CHUNK_ROWS, n_bytes=lambda line: len(line.text)):
                parsed = [parse_line(line.text) for line in some]
                rows = [self._row(line, found) for line, found in zip(some, parsed, strict=True)]
                yield JsonlChunk(self, [line.text for line in some], parsed, rows)

    def places_of(self, rows: range) -> list[Place]:
        return [self.places[file] for file, _ in self._wanted(within([rows], self.n_rows))]

    def cost(self, rows: range) -> int:
        return self.scan.sizes.of(rows)

    def _wanted(self, ranges: list[range]) -> Iterator[tuple[int, list[tuple[int, range]]]]:
        """The files that hold rows of some ranges, and which."""
        firsts = self.scan.firsts
        for file in spanned(firsts, ranges):
            if found := overlaps(ranges, firsts[file], firsts[file + 1] - firsts[file]):
                yield file, found

    def _lines(self, ranges: list[range]) -> Iterator[Line]:
        for file, wanted in self._wanted(ranges):
            place = self.places[file]
            for start, together in self._from_marks(file, wanted):
                row = start.row
                with closing(numbered_lines(place, start=start)) as lines:
                    for range_number, rows in together:
                        asked = islice(lines, rows.start - row, rows.stop - row)
                        for row, (number, _, text) in zip(rows, asked, strict=False):
                            yield Line(range_number, row, f"{place.name}:{number}", text)
                        row = rows.stop

    def _from_marks(
        self, file: int, wanted: list[tuple[int, range]]
    ) -> list[tuple[Mark, list[tuple[int, range]]]]:
        """Ranges of a file's rows, together as far as no mark lies between them."""
        found: list[tuple[Mark, list[tuple[int, range]]]] = []
        behind = -1
        for range_number, rows in wanted:
            mark = self.scan.mark(file, rows.start)
            if mark.row > behind:
                found.append((mark, []))
            found[-1][1].append((range_number, rows))
            behind = rows.stop
        return found

    def _row(self, line: Line, found: dict[str, Any] | str) -> Row:
        row, where = line.row, line.where
        if isinstance(found, str):
            return Reject(row, where, found)
        if self.requests:
            return request_of(row, where, found)
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
    """Lines and what is on them."""

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

    def response_lines(self, results: Sequence[Result]) -> list[bytes]:
        """What each row got, where the lines are requests of OpenAI's batch format."""
        found = [found if isinstance(found, dict) else None for found in self.parsed]
        numbers = [row.row for row in self.rows]
        parts = zip(numbers, self.lines, found, results, strict=True)
        return [response_line(*of_one_row) for of_one_row in parts]
