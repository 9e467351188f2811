"""Files of lines: opened wherever they lie, decompressed by their suffix, in constant memory."""

import hashlib
import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

import pyarrow as pa

from .errors import InputError
from .messages import first_line
from .places import Place
from .storage import COMPRESSIONS
from .store_errors import StoreError

LINE_BYTES = 1 << 26  # of the longest line that is taken
TOO_LONG = b""  # stands for a longer one: a row of a file has at least one byte
PIECE_BYTES = 1 << 20  # read at a time
BUFFER_BYTES = 1 << 16  # of lines: where a file is damaged, so many may be lost before that


class Mark(NamedTuple):
    """Where in a file reading can begin.

    Attributes
    ----------
    row : int
        The first that is read then, over all files.
    line : int
        The number, from 1, of the first line that is read.
    offset : int
        How many bytes of the file lie before that line.
    """

    row: int
    line: int
    offset: int


START = Mark(row=0, line=1, offset=0)


def too_long() -> str:
    """What is wrong with a line that was not taken."""
    return f"longer than {LINE_BYTES >> 20} MiB; expected a JSON object of at most that on a line"


class FileHash(io.RawIOBase):
    """A file's bytes on their way to whoever reads them, and their hash.

    Parameters
    ----------
    place : Place
        The file.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._name = place.name
        self._stream = _opened(place)
        self._hash = hashlib.sha256()
        self._n_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n_bytes = int(self._stream.readinto(buffer))
        self._hash.update(memoryview(buffer)[:n_bytes])
        self._n_bytes += n_bytes
        return n_bytes

    def finish(self) -> dict[str, Any]:
        """Name, size and hash of the whole file, of which the rest is read."""
        buffer = bytearray(PIECE_BYTES)
        try:
            while self.readinto(buffer):
                pass
        except OSError as e:
            raise _unreadable(self._name, e) from None
        self._stream.close()
        return {"name": self._name, "bytes": self._n_bytes, "sha256": self._hash.hexdigest()}


def fingerprint(place: Place) -> dict[str, Any]:
    """Name, size and hash of a file as it lies there.

    Raises
    ------
    InputError
        Where it cannot be read.
    """
    return FileHash(place).finish()


@contextmanager
def open_lines(place: Place) -> Iterator[IO[bytes]]:
    """A file as a stream of lines, decompressed by its suffix.

    Raises
    ------
    InputError
        Where it cannot be opened, is no such archive, or ends in the middle.
    """
    try:
        with _decompressed(place, None) as stream:
            yield stream
    except (pa.ArrowException, OSError) as e:
        raise _unreadable(place.name, e) from None


def numbered_lines(
    place: Place, through: FileHash | None = None, start: Mark = START
) -> Generator[tuple[int, int, bytes], None, None]:
    """Lines that are not blank, without white space around them.

    Before each come its number, from 1, and how many bytes of the decompressed file lie before it.
    One of more than `LINE_BYTES` comes as `TOO_LONG`.

    Parameters
    ----------
    place : Place
        The file.
    through : FileHash, optional
        Through which it is read, from its start.
    start : Mark
        Where to begin; in a compressed file only at its start.

    Raises
    ------
    InputError
        Naming the line that cannot be read.
    """
    number, behind = start.line - 1, start.offset
    try:
        with _decompressed(place, through, start.offset) as stream:
            pieces = iter(partial(stream.readline, LINE_BYTES + 1), b"")
            for number, piece in enumerate(pieces, start.line):
                offset, behind = behind, behind + len(piece)
                if len(piece) <= LINE_BYTES or piece.endswith(b"\n"):
                    if line := piece.strip():
                        yield number, offset, line
                else:
                    is_blank, n_bytes = _rest_of(piece, stream)
                    behind += n_bytes
                    if not is_blank:
                        yield number, offset, TOO_LONG
    except (pa.ArrowException, OSError) as e:
        raise _unreadable(f"{place.name}: line {number + 1} and after", e) from None


def _rest_of(piece: bytes, stream: IO[bytes]) -> tuple[bool, int]:
    """Read the rest of a line and forget it: whether all of the line is blank, and its bytes."""
    is_blank, n_bytes = not piece.strip(), 0
    while piece and not piece.endswith(b"\n"):
        piece = stream.readline(PIECE_BYTES)
        is_blank = is_blank and not piece.strip()
        n_bytes += len(piece)
    return is_blank, n_bytes


def compression_of(place: Place) -> str | None:
    """What a file is compressed with, by its suffix."""
    return COMPRESSIONS.get(PurePosixPath(place.path).suffix.lower())


def _decompressed(place: Place, through: FileHash | None, offset: int = 0) -> io.BufferedReader:
    raw: Any = _opened(place) if through is None else through
    if offset:
        raw.seek(offset)
    if compression := compression_of(place):
        packed = raw if through is None else pa.PythonFile(raw, mode="r")
        raw = pa.CompressedInputStream(packed, compression)
    return io.BufferedReader(raw, BUFFER_BYTES)


def _opened(place: Place) -> Any:
    try:
        return place.open()
    except (pa.ArrowException, OSError) as e:
        raise _unreadable(place.name, e) from None


def _unreadable(where: str, error: Exception) -> InputError:
    if isinstance(error, StoreError):  # which says what to do
        return InputError(f"{where}: {error}")
    said = getattr(error, "strerror", None) or first_line(error)
    return InputError(
        f"{where}: {said}; expected a readable, complete file. Copy it again from its source."
    )
