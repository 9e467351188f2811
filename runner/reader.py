"""Prompts files -> chunks of rows, each a request or a reject, with the input's own columns."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa

from .errors import InputError
from .jsonl_source import JsonlSource
from .parquet_source import ParquetSource
from .places import Place
from .rows import Row
from .storage import Format, format_of


class Chunk(Protocol):
    """Some rows of the input, in order, and their columns as they were."""

    rows: list[Row]

    def record_batches(self) -> list[pa.RecordBatch]:
        """The input's columns, under the source's schema."""

    def json_lines(self) -> list[bytes | None]:
        """Each row as one JSON object, without a newline; None where the line was none."""


class Source(Protocol):
    """Prompts files that passed every check that concerns the whole job.

    Attributes
    ----------
    name : str
        Of the input as a whole, for messages.
    files : list of dict
        `name`, `bytes` and `sha256` of each file that rows are taken from, as it lies there.
    """

    name: str

    @property
    def files(self) -> list[dict[str, Any]]: ...

    @property
    def n_rows(self) -> int:
        """Of all files together, after the limit."""

    @property
    def column_names(self) -> list[str]: ...

    @property
    def schema(self) -> pa.Schema:
        """Of the input's columns; empty where types were not asked for."""

    def places_of(self, rows: range) -> list[Place]:
        """The files that some rows are taken from."""

    def cost(self, rows: range) -> int:
        """About how many bytes of prompts some rows hold, to tell long parts from short ones."""

    def chunks(self, ranges: Sequence[range]) -> Iterator[Chunk]:
        """Rows by their numbers over all files.

        Parameters
        ----------
        ranges : sequence of range
            Ascending and disjoint. Each chunk lies within one of them; what is not asked for
            is passed over, and a file without wanted rows is not opened.
        """


def open_source(
    files: Sequence[Place],
    name: str,
    prompt_column: str,
    limit: int | None,
    *,
    typed: bool,
    requests: bool = False,
) -> Source:
    """Open prompts files and check what concerns all of their rows.

    Parameters
    ----------
    files : sequence of Place
        At least one, in the order of their rows; all Parquet or all JSONL.
    name : str
        What messages call all of them together.
    prompt_column : str
        The column with texts or lists of token ids.
    limit : int or None
        Rows to take from the start. Files behind them are not opened.
    typed : bool
        Whether the output needs the columns' types (Parquet); JSONL has none of its own.
    requests : bool
        Each line is a request of OpenAI's batch format; there is no prompt column then.

    Raises
    ------
    InputError
        Where a file is damaged, no file has such a column, or a column has no one type.
    """
    of_format: dict[Format, Place] = {}
    for file in files:
        of_format.setdefault(format_of(file.path) or Format.JSONL, file)
    if len(of_format) > 1:
        raise InputError(
            f"{name}: {of_format[Format.PARQUET].name} is Parquet and "
            f"{of_format[Format.JSONL].name} is JSONL; expected files of one format. Pass a "
            "pattern that takes one of them, for example *.parquet."
        )
    if Format.PARQUET in of_format:
        if requests:
            raise InputError(
                f"{name}: is Parquet; expected JSONL with one request per line. Pass a .jsonl file."
            )
        return ParquetSource.open(files, name, prompt_column, limit)
    return JsonlSource.open(files, name, prompt_column, limit, typed=typed, requests=requests)
