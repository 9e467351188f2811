"""How a part comes to count: its file is whole before it has a name, its record follows it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import pyarrow as pa

from .job_folder import JobFolder
from .parts import Part, PartRecord
from .publish import in_our_words
from .writer import Writer, open_writer


class Committer(Protocol):
    """Takes finished rows, and makes parts of them that count."""

    def writing(self, part: Part) -> AbstractContextManager[Writer]:
        """A writer for a part's rows."""

    def commit(self, part: Part, record: PartRecord) -> None:
        """Count a part that was written as done."""


class FolderCommitter:
    """Writes parts to a job's folder, each of which counts when it is whole.

    Parameters
    ----------
    name : str
        Of the output, for messages.
    folder : JobFolder
        Where to.
    schema : Schema
        Of Parquet output.
    prefix : str or None
        Of our columns, as in `open_writer`.
    """

    def __init__(self, name: str, folder: JobFolder, schema: pa.Schema, prefix: str | None) -> None:
        self._name = name
        self._folder = folder
        self._schema = schema
        self._prefix = prefix

    @contextmanager
    def writing(self, part: Part) -> Iterator[Writer]:
        path = self._folder.staged_part(part)
        try:
            with in_our_words(self._name), open_writer(path, self._schema, self._prefix) as writer:
                yield writer
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def commit(self, part: Part, record: PartRecord) -> None:
        with in_our_words(self._name):
            self._folder.commit(part, record)
