"""Where files lie: on this machine, or in an object store, behind one small interface."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import pyarrow as pa
from pyarrow import fs

from reference import PicobatchError

from .errors import PlaceError
from .messages import is_unicode, shown
from .store_errors import plainly, reason
from .stores import STORES, StoreFile, identity, open_store, shown_uri, upload

STDIO = "-"
READ_ONLY = ("http", "https")
LIKE_A_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
SCHEMES = ("file", *STORES)
CLOSED = "I/O operation on closed file"  # what is heard of a file in gs:// that cannot be read
NO_UNICODE = "its name is no Unicode; expected bytes that are UTF-8. Rename it."
NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK)


@dataclass(frozen=True)
class Place:
    """A file, or where one will be.

    Its methods raise OSErrors, with `strerror` or with a message of ours; `explained` makes them
    errors for the user.

    Attributes
    ----------
    name : str
        What the user calls it, without secrets: for messages.
    filesystem : pyarrow.fs.FileSystem
        Of this machine, or an object store's.
    path : str
        In it.
    is_copy : bool
        Whether it is a temporary copy of something that could be read only once.
    """

    name: str
    filesystem: fs.FileSystem
    path: str
    is_copy: bool = False

    @classmethod
    def local(cls, path: str | Path, name: str | None = None, *, is_copy: bool = False) -> "Place":
        """A file of this machine."""
        return cls(name or str(path), fs.LocalFileSystem(), no_uri(str(path)), is_copy)

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which may have another current folder."""
        path = str(Path(self.path).absolute()) if self.is_local else self.path
        return self.__dict__ | {"path": path}

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def beside(self, suffix: str) -> "Place":
        """The place whose name goes on with a suffix."""
        return Place(f"{self.name}{suffix}", self.filesystem, f"{self.path}{suffix}")

    def __truediv__(self, child: str) -> "Place":
        return self.beside(child if self.path.endswith("/") else f"/{child}")

    @property
    def is_link(self) -> bool:
        # `Path.is_symlink` raises where a name is too long.
        return self.is_local and os.path.islink(self.path)  # noqa: PTH114

    def resolved(self) -> "Place":
        """What it stands for, where it is a link of this machine; there may be nothing yet."""
        return Place.local(os.path.realpath(self.path)) if self.is_link else self

    def exists(self) -> bool:
        return bool(self._info.type != fs.FileType.NotFound)

    def is_folder(self) -> bool:
        return bool(self._info.type == fs.FileType.Directory)

    def is_file(self) -> bool:
        """Whether a file is there, or a link to one: no pipe, whose opening would wait."""
        return bool(self._info.type == fs.FileType.File)

    def is_plain_file(self) -> bool:
        """The same where a link does not count: it may lead to what others own."""
        if self.is_local:
            return Path(self.path).is_file() and not Path(self.path).is_symlink()
        return self.is_file()

    @property
    def _info(self) -> fs.FileInfo:
        with plainly(self.name):
            return self.filesystem.get_file_info(self.path)

    def n_bytes(self) -> int:
        """Its length.

        Raises
        ------
        FileNotFoundError
            Where it is no file.
        """
        info = self._info
        if info.size is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.name)
        return int(info.size)

    def stamp(self) -> dict[str, int | str]:
        """What changes when the file does, as JSON holds it.

        Of a copy the content counts, since every run makes its own.
        """
        if self.is_copy:
            with Path(self.path).open("rb") as copy:
                return {
                    "n_bytes": self.n_bytes(),
                    "sha256": hashlib.file_digest(copy, "sha256").hexdigest(),
                }
        if self.is_local:
            found = Path(self.path).stat()
            return {
                "n_bytes": found.st_size,
                "mtime_ns": found.st_mtime_ns,
                "inode": found.st_ino,
            }
        with plainly(self.name), self.filesystem.open_input_file(self.path) as stream:
            n_bytes, told = int(stream.size()), identity(stream)
        return {"n_bytes": n_bytes, **(told or {"mtime_ns": self._info.mtime_ns or 0})}

    def open(self) -> Any:  # a pyarrow.NativeFile
        """The file's bytes, to be read from any position."""
        if not self.is_local:
            return pa.PythonFile(StoreFile(self.filesystem, self.path, self.name), mode="r")
        with plainly(self.name):
            return self.filesystem.open_input_file(self.path)

    def read_bytes(self, *, sealed: bool = False) -> bytes:
        """All of it; what is sealed tells by itself whether it is whole."""
        if sealed and not self.is_local:
            return StoreFile(self.filesystem, self.path, self.name, watched=False).read()
        with plainly(self.name), self.open() as stream:
            return bytes(stream.read())

    def names(self) -> list[str]:
        """What lies in this folder; nothing where there is none."""
        return sorted(self.listing())

    def listing(self) -> dict[str, int | None]:
        """The same with the lengths; of a folder it is None.

        Names on this machine that are no Unicode are left out: nothing of ours has one.
        """
        if self.is_local:
            return self._local_listing()
        with plainly(self.name):
            found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return {info.base_name: info.size for info in found}

    def _local_listing(self) -> dict[str, int | None]:
        found: dict[str, int | None] = {}
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    if is_unicode(entry.name):
                        found[entry.name] = _n_bytes_of(entry)
        except FileNotFoundError:
            return {}
        return found

    def put(self, part: Path) -> None:
        """Give a local file this place: it appears whole and is durable; `part` is gone then.

        On this machine `part` lies on the same disk.
        """
        if self.is_local:
            _sync(part)
            part.replace(self.path)
            sync_folder(Path(self.path).parent)
            return
        with plainly(self.name):
            upload(self.filesystem, self.path, part)
        part.unlink()

    def put_new(self, part: Path) -> None:
        """The same where nothing is there yet.

        On this machine nothing can come in between; in a store another job could.

        Raises
        ------
        FileExistsError
            Where the place is taken; `part` is then kept.
        """
        if not self.is_local:
            self._must_be_free()
            self.put(part)
            return
        _sync(part)
        try:
            Path(self.path).hardlink_to(part)
        except OSError as e:
            if e.errno not in NO_HARD_LINKS:
                raise
            self._must_be_free()
            part.rename(self.path)  # a file system without hard links
        else:
            part.unlink()
        sync_folder(Path(self.path).parent)

    def _must_be_free(self) -> None:
        if self.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.name)

    def remove(self) -> None:
        """Remove a file or a link, if it is there."""
        if self.is_local:
            Path(self.path).unlink(missing_ok=True)
            return
        with contextlib.suppress(FileNotFoundError), plainly(self.name):
            self.filesystem.delete_file(self.path)

    def remove_folder(self) -> None:
        """Remove a folder and what is in it, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            if self.is_local:
                shutil.rmtree(self.path)
                return
            if self.is_folder():
                with plainly(self.name):
                    self.filesystem.delete_dir(self.path)


def _n_bytes_of(entry: "os.DirEntry[str]") -> int | None:
    """Of a folder, or what is gone meanwhile, None."""
    try:
        return None if entry.is_dir() else entry.stat().st_size
    except OSError:
        return None


def _sync(file: Path) -> None:
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Make names that were given or taken in a folder outlive a loss of power."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def explained(place: Place | str, error: type[PicobatchError]) -> Iterator[None]:
    """Make what disks and stores say an error for the user, with the name of the place."""
    name = place if isinstance(place, str) else place.name
    try:
        yield
    except OSError as e:
        raise error(f"{name}: {reason(e)}") from None
    except ValueError as e:
        if str(e) != CLOSED:
            raise
        raise error(f"{name}: reading failed, again and again. Run again later.") from None


def scheme_of(text: str) -> str | None:
    """What stands before `://`, in small letters; None of a plain path."""
    scheme, colon, _ = text.partition("://")
    return scheme.lower() if colon and scheme.isalnum() else None


def shown_place(text: str) -> str:
    """What the user calls a place, without secrets."""
    return text if scheme_of(text) is None else shown_uri(text)


def without_options(text: str) -> tuple[str, str]:
    """An address, and the options behind it, which those of object stores have."""
    if scheme_of(text) not in STORES:
        return text, ""
    address, mark, options = text.partition("?")
    return address, mark + options


def place_of(text: str) -> Place:
    """What a path or a URI of the command line stands for.

    Raises
    ------
    PlaceError
        Where the scheme is unknown or can only be read, the store cannot be reached, or the text
        is no Unicode.
    """
    _check_unicode(text)
    scheme, rest = scheme_of(text), text.partition("://")[2]
    if scheme is None:
        return Place.local(_usable(text))
    if scheme in READ_ONLY:
        raise PlaceError(
            f"{shown_uri(text)}: can only be read, and only as one file; expected a path, or an "
            f"address of {_listed(SCHEMES)}. Choose another place."
        )
    if scheme == "file":
        host, slash, path = rest.partition("/")
        if host not in {"", "localhost"} or not slash:
            raise PlaceError(
                f"{shown_uri(text)}: names no file of this machine; expected file:///PATH."
            )
        return Place.local(_usable(url2pathname(f"/{path}")))
    if scheme not in STORES:
        raise PlaceError(
            f"{shown_uri(text)}: {scheme}:// is unknown; expected a path, or an address of "
            f"{_listed((*SCHEMES, *READ_ONLY))}. Copy it to one of these."
        )
    filesystem, path = open_store(scheme, rest)
    return Place(f"{scheme}://{path}", filesystem, path)


def is_same(place: Place, other: Place) -> bool:
    """Whether two places are one file, or would be."""
    if place.is_local and other.is_local:
        try:
            return Path(place.path).samefile(other.path)
        except (OSError, ValueError):  # one of them is not there
            return False
    return place.path == other.path and bool(place.filesystem.equals(other.filesystem))


def no_uri(path: str) -> str:
    """The same path as Arrow takes it for one: `run:1.jsonl` is a file, not an address."""
    return f"./{path}" if LIKE_A_URI.match(path) else path


def _usable(path: str) -> str:
    """A path of this machine, as Arrow takes it."""
    if "\0" in path:
        raise PlaceError(f"{shown(path)}: no path has a null byte. Check the path.")
    _check_unicode(path)
    return path


def _check_unicode(path: str) -> None:
    if not is_unicode(path):
        raise PlaceError(f"{shown_place(path)!a}: {NO_UNICODE}")


def _listed(schemes: tuple[str, ...]) -> str:
    return ", ".join(f"{scheme}://" for scheme in schemes)
