"""What is worth remembering between two starts: small files in a folder of the user's.

Everything here can be computed again: a cache that cannot be read or written is passed over.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import platformdirs

from .errors import PicobatchError
from .files import read_bytes

FOLDER_VARIABLE = "PICOBATCH_CACHE_DIR"
DIGEST_BYTES = 32
MOST_CACHED_BYTES = 1 << 31  # graphs are the largest, with what they hold inside


def folder() -> Path:
    """Where it lies: `PICOBATCH_CACHE_DIR`, or the platform's place for caches.

    Raises
    ------
    OSError
        Where the user has no home.
    """
    chosen = os.environ.get(FOLDER_VARIABLE)
    try:
        return Path(chosen or platformdirs.user_cache_path("picobatch", appauthor=False))
    except RuntimeError as e:
        raise OSError(str(e)) from None


def source_sha256(*packages: Path) -> str:
    """Hash of the code in some folders: what is stored may follow from it."""
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted(package.rglob("*.py")):
            if path.is_file():  # an editor's lock is a link that leads nowhere
                digest.update(path.read_bytes())
    return digest.hexdigest()


def key(*parts: object) -> str:
    """A file name that follows from what the cached thing was made of.

    Of arrays all numbers count, other things must tell themselves apart by their `repr`.
    """
    named = "\n".join(_whole(part) for part in parts)
    return hashlib.sha256(named.encode()).hexdigest()[:40]


def _whole(part: object) -> str:
    if isinstance(part, np.ndarray):  # whose `repr` leaves out what is in the middle
        content = np.ascontiguousarray(part).data
        return f"{part.dtype} {part.shape} {hashlib.sha256(content).hexdigest()}"
    if isinstance(part, (tuple, list)):
        return f"{type(part).__name__}({', '.join(map(_whole, part))})"
    return repr(part)


def load(kind: str, name: str) -> bytes | None:
    """What was stored under this name, if it is there and whole."""
    try:
        stored = read_bytes(folder() / kind / name, PicobatchError, most=MOST_CACHED_BYTES)
    except (OSError, ValueError, PicobatchError):
        return None
    digest, content = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
    return content if hashlib.sha256(content).digest() == digest else None


def store(kind: str, name: str, content: bytes) -> None:
    """Keep `content` for `load`; another process never sees half of it."""
    with contextlib.suppress(OSError, ValueError), new_file(kind, name) as scratch:
        scratch.write_bytes(hashlib.sha256(content).digest() + content)


@contextlib.contextmanager
def new_file(kind: str, name: str) -> Iterator[Path]:
    """A file to write to, which gets its name when that is done.

    Raises
    ------
    OSError
        Where there is no folder to write to.
    """
    place = folder() / kind
    place.mkdir(parents=True, exist_ok=True)
    handle, path = tempfile.mkstemp(".part", dir=place)
    os.close(handle)
    scratch = Path(path)
    try:
        yield scratch
        scratch.replace(place / name)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
