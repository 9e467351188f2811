"""Where files lie: on this machine, or in an object store, behind one small interface."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pyarrow import fs

from .errors import InputError

STDIO = "-"
COPY_BYTES = 1 << 20  # at a time


@dataclass(frozen=True)
class Place:
    """A file, or where one will be.

    Attributes
    ----------
    name : str
        What the user calls it, without secrets: for messages.
    filesystem : pyarrow.fs.FileSystem
        Of this machine, or an object store's.
    path : str
        In it.
    """

    name: str
    filesystem: fs.FileSystem
    path: str

    @classmethod
    def local(cls, path: str | Path, name: str | None = None) -> "Place":
        """A file of this machine."""
        return cls(name or str(path), fs.LocalFileSystem(), str(path))

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def beside(self, suffix: str) -> "Place":
        """The place whose name goes on with a suffix."""
        return Place(f"{self.name}{suffix}", self.filesystem, f"{self.path}{suffix}")

    def __truediv__(self, child: str) -> "Place":
        return self.beside(f"/{child}")

    def exists(self) -> bool:
        return bool(self._kind != fs.FileType.NotFound)

    def is_folder(self) -> bool:
        return bool(self._kind == fs.FileType.Directory)

    @property
    def _kind(self) -> fs.FileType:
        return self.filesystem.get_file_info(self.path).type

    def n_bytes(self) -> int:
        return int(self.filesystem.get_file_info(self.path).size)

    def open(self) -> Any:  # a pyarrow.NativeFile
        """The file's bytes, to be read from any position."""
        return self.filesystem.open_input_file(self.path)

    def read_bytes(self) -> bytes:
        with self.open() as stream:
            return bytes(stream.read())

    def names(self) -> list[str]:
        """What lies in this folder; nothing where there is none."""
        found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return sorted(info.base_name for info in found)

    def put(self, part: Path) -> None:
        """Give a local file this place: it appears whole and is durable; `part` is gone then.

        On this machine `part` lies on the same disk.
        """
        if self.is_local:
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
            part.replace(self.path)
            sync_folder(Path(self.path).parent)
            return
        with part.open("rb") as source, self.filesystem.open_output_stream(self.path) as target:
            shutil.copyfileobj(source, target, COPY_BYTES)
        part.unlink()

    def remove(self) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path)


def sync_folder(folder: Path) -> None:
    """Make names that were given or taken in a folder outlive a loss of power."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def place_of(text: str) -> Place:
    """What a path or a URI of the command line stands for."""
    return Place.local(text)


@contextmanager
def input_files(source: str) -> Iterator[list[Place]]:
    """The files that an input stands for, in the order in which their rows are taken.

    Raises
    ------
    InputError
        Where there are none, or they cannot be reached.
    """
    if source == STDIO:
        if sys.stdin is None:
            raise InputError("-: stdin is closed; expected JSONL on it. Pipe a file into it.")
        with _copied(sys.stdin.buffer, "stdin.jsonl") as copy:
            yield [Place.local(copy, STDIO)]
        return
    file = Path(source)
    if file.exists() and not file.is_file() and not file.is_dir():
        with file.open("rb") as stream, _copied(stream, file.name) as copy:  # read only once
            yield [Place.local(copy, source)]
        return
    yield [place_of(source)]


@contextmanager
def _copied(stream: IO[bytes], name: str) -> Iterator[Path]:
    """A temporary copy of what can be read only once."""
    with tempfile.TemporaryDirectory(prefix="picobatch-") as folder:
        copy = Path(folder) / name
        try:
            with copy.open("wb") as target:
                shutil.copyfileobj(stream, target)
        except OSError as e:
            raise InputError(
                f"{name}: cannot be copied to {folder} ({e.strerror or e}). Set TMPDIR to a disk "
                "with room for it, or pass a file."
            ) from None
        yield copy
