"""The documents of a task: its data, read in its format."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, Generic, TypeVar

from runner.messages import shown_names

from .data import Data, DataRow, read_rows, read_texts
from .formats import FORMATS, TEXT, Format, RowError
from .results import BadRow, TaskResult
from .task_spec import TaskSpec

ID = "id"
HASH_LETTERS = 16

D = TypeVar("D")


@dataclass(frozen=True)
class Asked(Generic[D]):
    """A document of a task.

    Attributes
    ----------
    where : str
        Its file and line or row.
    id : str
        The row's own, or a hash of the document; with a number behind it where it comes again.
    document : Text, Question, ...
        As its format or its kind makes it.
    """

    where: str
    id: str
    document: D


def read_documents(
    spec: TaskSpec, own: Format, kind: type[D], *, by_line: bool = False
) -> tuple[list[Asked[D]], TaskResult]:
    """The documents of a task, and a result with what is known of its data.

    Parameters
    ----------
    spec : TaskSpec
        Its data, format, columns and limit.
    own : Format
        The kind's own columns, where the task has no format.
    kind : type
        What a document has to be.
    by_line : bool
        Whether each line of plain text is a document; a file is one otherwise.

    Raises
    ------
    InputError
        Where the files cannot be read.
    """
    form = own if spec.format is None else FORMATS[spec.format]
    data = read_data(spec, form, by_line=by_line)
    asked: list[Asked[D]] = []
    result = TaskResult(bad_rows=data.bad_rows, data=data.files)
    seen: Counter[str] = Counter()
    for row in data.rows:
        try:
            document = form.document(_named(row, form, spec.columns))
        except RowError as e:
            result.bad_rows.append(BadRow(row.where, str(e)))
            continue
        assert isinstance(document, kind)
        name = _id(row, document, spec.columns)
        seen[name] += 1
        asked.append(
            Asked(row.where, name if seen[name] == 1 else f"{name}-{seen[name]}", document)
        )
    return asked, result


def read_data(spec: TaskSpec, form: Format, *, by_line: bool) -> Data:
    """The rows of a task's data, as they stand there.

    Raises
    ------
    InputError
        Where the files cannot be read, or lack the format's first column.
    """
    if spec.format == TEXT:
        return read_texts(spec.data, spec.folder, spec.limit, by_line=by_line)
    first = form.columns[0]
    return read_rows(spec.data, spec.folder, spec.columns.get(first, first), spec.limit)


def _named(row: DataRow, form: Format, columns: Mapping[str, str]) -> dict[str, Any]:
    """The columns of a row by the names that the format or the kind has for them."""
    found = {}
    for column in form.columns:
        its_name = columns.get(column, column)
        if its_name not in row.columns:
            raise RowError(f"no {its_name!r}; this row has {shown_names(row.columns) or 'nothing'}")
        found[column] = row.columns[its_name]
    for column in form.optional_columns:
        if (its_name := columns.get(column, column)) in row.columns:
            found[column] = row.columns[its_name]
    return found


def _id(row: DataRow, document: Any, columns: Mapping[str, str]) -> str:
    own = row.columns.get(columns.get(ID, ID))
    if isinstance(own, (str, int)) and own != "":
        return str(own)
    asked = json.dumps(astuple(document))
    return hashlib.sha256(asked.encode()).hexdigest()[:HASH_LETTERS]
