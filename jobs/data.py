"""Data files -> rows: whatever `runner batch` reads, and plain text."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

from runner.errors import InputError, NoColumnError, PlaceError
from runner.inputs import WILDCARDS, input_files
from runner.jsonl import parse_line
from runner.lines import fingerprint, open_lines
from runner.places import (
    READ_ONLY,
    Place,
    explained,
    place_of,
    scheme_of,
    shown_place,
    without_options,
)
from runner.reader import Chunk, open_source
from runner.records import Reject

from .results import BadRow

TEXT = "text"  # the column that plain text has
TEXT_SUFFIXES = (".txt", ".txt.gz", ".txt.zst")  # taken of a folder


@dataclass(frozen=True)
class DataRow:
    """A row as it stands in its file.

    Attributes
    ----------
    where : str
        File and line or row, for messages.
    columns : dict
        By name.
    """

    where: str
    columns: dict[str, Any]


@dataclass
class Data:
    """What was read.

    Attributes
    ----------
    rows : list of DataRow
        In order.
    bad_rows : list of BadRow
    files : list of dict
        `name`, `bytes` and `sha256` of each file.
    """

    rows: list[DataRow] = field(default_factory=list)
    bad_rows: list[BadRow] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)

    @property
    def n_rows(self) -> int:
        return len(self.rows) + len(self.bad_rows)


def read_rows(sources: Sequence[str], folder: Path, column: str, limit: int | None) -> Data:
    """The rows of data files.

    Parameters
    ----------
    sources : sequence of str
        Files, folders, patterns or addresses, as `runner batch` takes them.
    folder : Path
        What relative paths are relative to.
    column : str
        One that has to be there, with text in it.
    limit : int or None
        Rows to take from the start of all.

    Raises
    ------
    InputError
        Where files cannot be read, none has that column, or there is no row.
    """
    data = Data()
    for source in sources:
        if limit is None or data.n_rows < limit:
            left = None if limit is None else limit - data.n_rows
            _add_rows(data, located(source, folder), column, left)
    return _some(data, sources)


def read_texts(
    sources: Sequence[str], folder: Path, limit: int | None, *, by_line: bool = False
) -> Data:
    """Plain text, in UTF-8, as rows with a column `text`.

    Parameters
    ----------
    sources : sequence of str
        Files; folders, of which the files with a suffix of text are taken; or patterns, with
        wildcards in the last part of the path.
    folder : Path
        What relative paths are relative to.
    limit : int or None
        Rows to take from the start of all.
    by_line : bool
        Whether each line that is not blank is a row; a file is one otherwise.

    Raises
    ------
    InputError
        Where files cannot be read, or there is no row.
    """
    data = Data()
    for source in sources:
        for place in _text_files(located(source, folder)):
            left = None if limit is None else limit - data.n_rows
            if left == 0:
                break
            data.files.append(fingerprint(place))
            for where, content in islice(_texts_of(place, by_line=by_line), left):
                try:
                    data.rows.append(DataRow(where, {TEXT: content.decode("utf-8-sig")}))
                except UnicodeDecodeError as e:
                    reason = f"byte {e.start} is not valid UTF-8; expected text"
                    data.bad_rows.append(BadRow(where, reason))
    return _some(data, sources)


def find_files(sources: Sequence[str], folder: Path, *, is_text: bool) -> None:
    """Make sure that data files are there, without reading them; those on the web are not asked.

    Raises
    ------
    InputError
        Where some are not.
    """
    for source in sources:
        name = located(source, folder)
        if scheme_of(name) in READ_ONLY:
            continue
        if _is_odd(name):
            raise InputError(
                f"{shown_place(name)}: is a pipe, a device or the like; expected files, which "
                "are read each night anew. Name some."
            )
        if not _is_there(name) and scheme_of(name) is None and WILDCARDS.isdisjoint(name):
            raise InputError(
                f"{shown_place(name)}: no such file or folder; expected data. Put them there, or "
                "correct the path."
            )
        if is_text:
            _text_files(name)
        else:
            with input_files(name):
                pass


def _is_there(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises where a name is too long


def _is_odd(path: str) -> bool:
    """Whether it is there, and neither a file nor a folder."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return not (S_ISREG(mode) or S_ISDIR(mode))


def located(source: str, folder: Path) -> str:
    """A source as it is found from where the program runs."""
    return source if scheme_of(source) else str(folder / source)


def _some(data: Data, sources: Sequence[str]) -> Data:
    if not data.n_rows:
        names = ", ".join(map(shown_place, sources))
        raise InputError(f"{names}: no rows; expected at least one. Check the files.")
    return data


def _add_rows(data: Data, source: str, column: str, limit: int | None) -> None:
    with input_files(source) as files:
        try:
            opened = open_source(files, shown_place(source), column, limit, typed=False)
        except NoColumnError as e:
            raise InputError(f'{e.found} Say in "columns" what the file calls it.') from None
        for chunk in opened.chunks([range(opened.n_rows)]):
            _add_chunk(data, chunk)
        data.files += opened.files


def _add_chunk(data: Data, chunk: Chunk) -> None:
    """Rows with their columns. What `batch` would say of a prompt is nothing to us."""
    for row, line in zip(chunk.rows, chunk.json_lines(), strict=True):
        found = None if line is None else parse_line(line)
        if isinstance(found, dict):
            data.rows.append(DataRow(row.where, found))
        else:
            assert isinstance(row, Reject)
            data.bad_rows.append(BadRow(row.where, row.reason))


def _text_files(source: str) -> list[Place]:
    try:
        place = place_of(source)
    except PlaceError as e:
        raise InputError(str(e)) from None
    with explained(place, InputError):
        if place.is_folder():
            files = _files_in(place, lambda name: name.lower().endswith(TEXT_SUFFIXES))
            expected = f"a folder with some of {', '.join(TEXT_SUFFIXES)}"
        elif place.exists():
            return [place]
        else:
            address, options = without_options(source)
            parent, slash, pattern = address.rpartition("/")
            if WILDCARDS.isdisjoint(pattern) or not WILDCARDS.isdisjoint(parent):
                files, expected = [], "a file, a folder, or a pattern of names in one folder"
            else:
                files = _files_in(
                    place_of(f"{parent or slash or '.'}{options}"),
                    lambda name: fnmatchcase(name, pattern) and name[0] != ".",
                )
                expected = "files that match"
    if not files:
        raise InputError(f"{place.name}: no such text; expected {expected}. Check the path.")
    return files


def _files_in(folder: Place, is_meant: Callable[[str], bool]) -> list[Place]:
    return [file for name in folder.names() if is_meant(name) and (file := folder / name).is_file()]


def _texts_of(place: Place, *, by_line: bool) -> Iterator[tuple[str, bytes]]:
    with open_lines(place) as stream:
        if not by_line:
            yield place.name, stream.read()
            return
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield f"{place.name}:{number}", line.rstrip(b"\r\n")
