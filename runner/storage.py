"""Files: what format a path names, reading lines, and writing that is whole or not there."""

import errno
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from .errors import InputError, OutputError
from .settings import RunSettings

STDIO = "-"
JSON_ROW_BYTES = 120  # of the columns that a job adds: their names alone take most of it
PARQUET_ROW_BYTES = 4  # of the same, compressed
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


class Format(StrEnum):
    PARQUET = "parquet"
    JSONL = "jsonl"


def format_of(path: str) -> Format | None:
    """The format that a path's name stands for; None where it stands for none that we know."""
    if path == STDIO:
        return Format.JSONL
    name = Path(path).name.lower()
    for suffix in COMPRESSIONS:
        if name.endswith((f".jsonl{suffix}", f".ndjson{suffix}")):
            return Format.JSONL
    if name.endswith((".jsonl", ".ndjson")):
        return Format.JSONL
    return Format.PARQUET if name.endswith(".parquet") else None


FORMATS = ".parquet, .jsonl, .jsonl.gz or .jsonl.zst, or - for JSONL on a pipe"


@contextmanager
def local_input(path: str) -> Iterator[Path]:
    """A file that can be read twice: the input itself, or a copy of what stdin holds.

    Raises
    ------
    InputError
        Where the file is missing, is a folder, or is of no format that we read.
    """
    if path == STDIO:
        if sys.stdin is None:
            raise InputError("-: stdin is closed; expected JSONL on it. Pipe a file into it.")
        with _copied(sys.stdin.buffer, "stdin.jsonl") as copy:
            yield copy
        return
    if "://" in path:
        raise InputError(
            f"{path}: is a URI; this version reads local files. Copy it here, or pipe it as "
            "JSONL and pass -."
        )
    if format_of(path) is None:
        raise InputError(f"{path}: no known format; expected {FORMATS}. Rename or convert it.")
    file = Path(path)
    if file.is_dir():
        raise InputError(f"{path}: is a folder; expected a file. Pass one of the files in it.")
    if not file.exists():
        raise InputError(f"{path}: no such file; expected {FORMATS}. Check the path.")
    if file.is_file():
        yield file
        return
    with file.open("rb") as stream, _copied(stream, file.name) as copy:  # a pipe is read once
        yield copy


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


@contextmanager
def open_lines(path: Path) -> Iterator[IO[bytes]]:
    """A JSONL file as a stream of lines, decompressed by its suffix.

    Raises
    ------
    InputError
        Where it cannot be opened, is no such archive, or ends in the middle.
    """
    try:
        if compression := COMPRESSIONS.get(path.suffix.lower()):
            raw: Any = pa.input_stream(str(path), compression=compression)
            with io.BufferedReader(raw) as stream:
                yield stream
        else:
            with path.open("rb") as stream:
                yield stream
    except OSError as e:
        raise InputError(
            f"{path}: {e.strerror or e}; expected a readable, complete file. Copy it again from "
            "its source."
        ) from None


def check_output(path: str, source: str, *, overwrite: bool) -> None:
    """Refuse an output before anything is generated for it.

    Raises
    ------
    OutputError
        Where its format is unknown, its folder is missing or not writable, it exists and may
        not be replaced, or it is the input.
    """
    if path == STDIO:
        return
    if "://" in path:
        raise OutputError(f"{path}: is a URI; this version writes local files. Pass a local path.")
    if format_of(path) is None:
        raise OutputError(f"{path}: no known format; expected {FORMATS}. Rename the output.")
    file = Path(path)
    if not file.parent.is_dir():
        raise OutputError(
            f"{path}: the folder {file.parent} is not there; expected an existing one. "
            "Make it first, or check the path."
        )
    if not os.access(file.parent, os.W_OK):
        raise OutputError(
            f"{path}: the folder {file.parent} is not writable. Choose another, or mend its "
            "permissions."
        )
    if source != STDIO and file.exists() and Path(source).exists() and file.samefile(source):
        raise OutputError(f"{path}: is the input itself. Choose another output.")
    for written in (file, manifest_path(path)):
        if written.is_dir():
            raise OutputError(
                f"{written}: is a folder; expected a file name. Choose another output."
            )
        if written.exists() and not overwrite:
            raise OutputError(
                f"{written}: exists already; a finished output is kept. Pass --overwrite to "
                "replace it, or choose another name."
            )


def manifest_path(output: str) -> Path:
    """Where the provenance lies beside an output."""
    return Path(f"{output}.manifest.json")


def least_output_bytes(settings: RunSettings, source: Path, n_rows: int) -> int:
    """What an output takes at the very least, so that no job is refused that would fit."""
    plain = [".jsonl", ".ndjson"]
    if settings.limit is None and source.suffix in plain and Path(settings.output).suffix in plain:
        return source.stat().st_size + n_rows * JSON_ROW_BYTES
    return n_rows * PARQUET_ROW_BYTES


def check_space(path: str, needed_bytes: int) -> None:
    """Refuse an output that the disk clearly cannot hold.

    Raises
    ------
    OutputError
        Naming what is needed and what is free.
    """
    if path == STDIO:
        return
    free = shutil.disk_usage(Path(path).parent).free
    if free < needed_bytes:
        raise OutputError(
            f"{path}: {free:,} bytes free on its disk; the output needs at least "
            f"{needed_bytes:,}. Make room, or choose another disk."
        )


@contextmanager
def staged(*paths: Path, overwrite: bool) -> Iterator[list[Path]]:
    """Paths to write to, which take their final names together, when all went well.

    Each part has a name that no other job and no user has. Without `overwrite` a file that
    appeared meanwhile is kept.

    Raises
    ------
    OutputError
        Where the disk is full or fails, or an output appeared; nothing is left behind then.
    """
    parts: list[Path] = []
    published: list[Path] = []
    try:
        for path in paths:
            handle, name = tempfile.mkstemp(".part", f".{path.name[:60]}.", path.parent)
            parts.append(Path(name))
            os.fchmod(handle, 0o666 & ~_umask())
            os.close(handle)
        yield parts
        for part in parts:
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
        for part, path in zip(parts, paths, strict=True):
            _publish(part, path, overwrite=overwrite)
            published.append(path)
        published.clear()
    except FileExistsError:
        raise OutputError(
            f"{paths[0]}: another job wrote it meanwhile; that one is kept. Choose another "
            "output, or pass --overwrite."
        ) from None
    except OSError as e:
        if e.errno == errno.ENOSPC:
            raise OutputError(
                f"{paths[0]}: the disk is full; nothing was left there. Make room and run again."
            ) from None
        raise OutputError(
            f"{paths[0]}: {e.strerror or e}; nothing was left there. Mend that and run again."
        ) from None
    finally:
        for path in [*parts, *published]:
            path.unlink(missing_ok=True)


def _publish(part: Path, path: Path, *, overwrite: bool) -> None:
    """Give a part its final name, at once."""
    if overwrite:
        part.replace(path)
        return
    try:
        path.hardlink_to(part)
    except OSError as e:
        if e.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        part.rename(path)  # a file system without hard links


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
