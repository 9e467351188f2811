"""Files of lines: opened wherever they lie, decompressed by their suffix, in constant memory."""

import hashlib
import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import IO, Any

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
    place: Place, through: FileHash | None = None
) -> Generator[tuple[int, bytes], None, None]:
    """Lines that are not blank, without white space around them, numbered from 1.

    One of more than `LINE_BYTES` comes as `TOO_LONG`.

    Raises
    ------
    InputError
        Naming the line that cannot be read.
    """
    number = 0
    try:
        with _decompressed(place, through) as stream:
            pieces = iter(partial(stream.readline, LINE_BYTES + 1), b"")
            for number, piece in enumerate(pieces, 1):
                if len(piece) <= LINE_BYTES or piece.endswith(b"\n"):
                    if line := piece.strip():
                        yield number, line
                elif not _is_blank_to_its_end(piece, stream):
                    yield number, TOO_LONG
    except (pa.ArrowException, OSError) as e:
        raise _unreadable(f"{place.name}: line {number + 1} and after", e) from None


def _is_blank_to_its_end(piece: bytes, stream: IO[bytes]) -> bool:
    """Read the rest of a line and forget it."""
    blank = not piece.strip()
    while piece and not piece.endswith(b"\n"):
        piece = stream.readline(PIECE_BYTES)
        blank = blank and not piece.strip()
    return blank


def _decompressed(place: Place, through: FileHash | None) -> io.BufferedReader:
    raw: Any = _opened(place) if through is None else through
    if compression := COMPRESSIONS.get(PurePosixPath(place.path).suffix.lower()):
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
