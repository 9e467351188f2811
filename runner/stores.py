"""Object stores: opening one, and writing to one so that no half file is ever seen.

References
----------
Apache Arrow, `cpp/src/arrow/filesystem/s3fs.cc`: an output stream finishes its upload when it is
closed, also by its destructor, whatever has been written.
"""

import contextlib
import ctypes
import datetime as dt
import io
import math
import os
import time
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import pyarrow as pa
from pyarrow import fs

from reference.published import without_user

from .errors import PlaceError
from .messages import cut
from .store_errors import ATTEMPTS_VARIABLE, StoreError, UnseenError, plainly, reason

ATTEMPTS = 6  # of a request, with waits of up to 1, 2, 4, 8 and 16 s between
TIMEOUT_VARIABLE = "PICOBATCH_TIMEOUT_S"
TIMEOUT_S = 60.0  # without a byte
CONNECT_TIMEOUT_S = 10.0
FIRST_WAIT_S = 1.0  # doubled after each
CHUNK_BYTES = 10 << 20  # Arrow's parts of an upload
CHUNKS_ON_THE_WAY = 4  # each of which Arrow copies
IDENTITIES = ("ETag", "generation")
FIRST_AHEAD_BYTES, AHEAD_BYTES = 1 << 18, 1 << 23  # read at once, of a file read in order
ANONYMOUS = "anonymous"  # as a user's name, in Arrow's own URIs of gs://

AWS_KEYS = {  # Arrow's options, and where they are in the environment
    "access_key": "AWS_ACCESS_KEY_ID",
    "secret_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
}
S3_OPTIONS = {"region", "scheme", "endpoint_override", "tls_ca_file_path", "allow_bucket_creation"}
GCS_OPTIONS = {"scheme", "endpoint_override", "project_id", "retry_limit_seconds"}


def open_store(scheme: str, rest: str) -> tuple[fs.FileSystem, str]:
    """The file system and the path in it that a URI stands for.

    Parameters
    ----------
    scheme : str
        A key of `STORES`.
    rest : str
        What follows `://`: `[user:password@]bucket[/path][?option=value&...]`.

    Raises
    ------
    PlaceError
        Where it stands for none, or the store cannot be reached.
    """
    address, _, query = rest.partition("?")
    authority, slash, key = address.partition("/")
    user, _, bucket = authority.rpartition("@")
    shown = shown_uri(f"{scheme}://{rest}")
    if ":" in bucket:
        raise PlaceError(
            f"{shown}: no name of a bucket; expected {scheme}://BUCKET/PATH. A slash in a key or "
            "password is written as %2F."
        )
    if not bucket:
        raise PlaceError(f"{shown}: no bucket; expected {scheme}://BUCKET/PATH. Name it.")
    opened, known = STORES[scheme]
    options = dict(parse_qsl(query, keep_blank_values=True))
    if strange := sorted(options.keys() - known) or (query if not options else ""):
        raise PlaceError(
            f"{shown}: {cut(strange[0])!a} behind the question mark is no option; expected "
            f"{', '.join(sorted(known))}. Of wildcards, * and [...] can be used in a URI."
        )
    try:
        filesystem = opened(bucket, user, tuple(sorted(options.items())), _settings())
        path = f"{bucket}{slash}{unquote(key)}".rstrip("/")
        return filesystem, filesystem.normalize_path(path)
    except (OSError, TypeError, ValueError, pa.ArrowException) as e:  # TypeError: an old Arrow
        raise PlaceError(f"{shown}: {reason(e)}") from None


def shown_uri(text: str) -> str:
    """A URI as messages show it: without who asks, and without options or a signature."""
    scheme, _, rest = text.partition("://")
    address = rest.partition("?")[0]
    if ":" in address.partition("/")[0] and scheme.lower() in STORES:
        address = address.rpartition("@")[2] if "@" in address else "..."  # a slash in a password
    return f"{scheme}://{without_user(f'//{address}')[2:]}"


def _settings() -> tuple[tuple[str, str], ...]:
    """What of the environment an open store depends on."""
    names = (
        ATTEMPTS_VARIABLE,
        TIMEOUT_VARIABLE,
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_CA_BUNDLE",
        *AWS_KEYS.values(),
        "AWS_PROFILE",
        "GOOGLE_APPLICATION_CREDENTIALS",
    )
    return tuple((name, os.environ[name]) for name in names if os.environ.get(name))


def attempts(settings: Iterable[tuple[str, str]]) -> int:
    """How often a request is made."""
    return math.ceil(_number(dict(settings), ATTEMPTS_VARIABLE, ATTEMPTS))


def _number(settings: dict[str, str], name: str, default: float) -> float:
    try:
        value = float(settings.get(name, default))
    except ValueError:
        value = 0.0
    if not 0 < value <= 1e6:
        raise PlaceError(
            f"{name}: {settings[name]!a}; expected a number above 0. Mend or unset it."
        )
    return value


class S3(fs.S3FileSystem):  # type: ignore[misc]  # pyarrow tells no types
    """Amazon's store or one like it, which another process opens as this one did.

    Arrow itself would tell it neither how often a request is made nor keys of the environment.
    """

    def __init__(self, how: tuple[Any, ...], **options: object) -> None:
        super().__init__(**options)
        self._how = how  # what `_s3` is to be called with there

    def __reduce__(self) -> tuple[Callable[..., fs.FileSystem], tuple[Any, ...]]:
        return _s3, self._how


@lru_cache(maxsize=16)
def _s3(
    bucket: str,
    user: str,
    options: tuple[tuple[str, str], ...],
    settings: tuple[tuple[str, str], ...],
) -> fs.FileSystem:
    """Open Amazon's store or one like it.

    `from_uri` would take neither timeouts nor a number of attempts, and asks for a region that the
    environment tells.
    """
    given, told = dict(settings), dict(options)
    timeout_s = _number(given, TIMEOUT_VARIABLE, TIMEOUT_S)
    endpoint = told.get("endpoint_override") or given.get(
        "AWS_ENDPOINT_URL_S3", given.get("AWS_ENDPOINT_URL", "")
    )
    scheme = told.get("scheme")
    if "://" in endpoint:
        endpoint_scheme, _, endpoint = endpoint.partition("://")
        scheme = scheme or endpoint_scheme
    environment = given.get("AWS_REGION", given.get("AWS_DEFAULT_REGION"))
    region = told.get("region") or (environment if endpoint else _region_of(bucket, environment))
    more: dict[str, object] = {}
    if user == ANONYMOUS:
        more["anonymous"] = True
    elif user:
        key, _, secret = user.partition(":")
        more |= {"access_key": unquote(key), "secret_key": unquote(secret)}
    elif AWS_KEYS["access_key"] in given and AWS_KEYS["secret_key"] in given:
        more |= {option: given[name] for option, name in AWS_KEYS.items() if name in given}
    if region:  # looked for once
        told["region"] = region
    make = partial(
        S3,
        (bucket, user, tuple(sorted(told.items())), settings),
        endpoint_override=endpoint.rstrip("/") or None,
        scheme=scheme or "https",
        region=region,
        request_timeout=timeout_s,
        connect_timeout=min(timeout_s, CONNECT_TIMEOUT_S),
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts(settings)),
        allow_bucket_creation=told.get("allow_bucket_creation") in {"true", "1"},
        background_writes=True,  # several parts at a time
        **more,
    )
    if certificates := told.get("tls_ca_file_path"):
        return make(tls_ca_file_path=certificates)
    if certificates := given.get("AWS_CA_BUNDLE"):
        with contextlib.suppress(TypeError):  # pyarrow 20 and before have no such option
            return make(tls_ca_file_path=certificates)
    return make()


def _region_of(bucket: str, otherwise: str | None) -> str:
    try:
        return str(fs.resolve_s3_region(bucket))
    except OSError:
        if otherwise is None:
            raise
        return otherwise


@lru_cache(maxsize=16)
def _gcs(
    _bucket: str,
    user: str,
    options: tuple[tuple[str, str], ...],
    settings: tuple[tuple[str, str], ...],
) -> fs.FileSystem:
    told = dict(options)
    if user not in {"", ANONYMOUS}:
        raise ValueError(f"a user in gs:// can only be {ANONYMOUS}")
    limit = _number(told, "retry_limit_seconds", 2 * _number(dict(settings), TIMEOUT_VARIABLE, 60))
    return fs.GcsFileSystem(
        anonymous=user == ANONYMOUS,
        scheme=told.get("scheme"),
        endpoint_override=told.get("endpoint_override"),
        project_id=told.get("project_id"),
        retry_time_limit=dt.timedelta(seconds=max(1, limit)),
    )


STORES: dict[str, tuple[Callable[..., fs.FileSystem], set[str]]] = {
    "s3": (_s3, S3_OPTIONS),
    "gs": (_gcs, GCS_OPTIONS),
}


def upload(filesystem: fs.FileSystem, path: str, part: Path) -> None:
    """Store a local file: it is seen under its name when it is whole, and not before.

    Arrow finishes an upload when its stream is closed or collected, with whatever was written. So
    one that did not go well is neither closed nor ever collected: what was sent of it stays
    invisible, until the store's rule for unfinished uploads removes it.

    Raises
    ------
    OSError
        Where the file is not there now as it is here.
    """
    n_bytes = part.stat().st_size
    before = filesystem.get_file_info(path)
    # Arrow would otherwise compress what has the name of something compressed.
    stream = filesystem.open_output_stream(path, compression=None)
    try:
        with part.open("rb") as source:
            chunks = iter(partial(source.read, CHUNK_BYTES), b"")
            for n_chunks, chunk in enumerate(chunks, 1):
                stream.write(chunk)
                if n_chunks % CHUNKS_ON_THE_WAY == 0:
                    stream.flush()
        stream.flush()
    except BaseException as e:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(stream))  # never collected
        if filesystem.type_name == "gcs":  # where a store was seen that ended one too early
            now = _changed(filesystem, before)
            if now is not None and now.size != n_bytes:
                filesystem.delete_file(path)
        if isinstance(e, ValueError):  # Arrow's, of a stream that such a store has closed
            raise OSError("the store ended the upload too early. Run again.") from None
        raise
    try:
        stream.close()
    except OSError:
        # It may have been finished, and only the answer lost.
        now = _changed(filesystem, before)
        if now is None or now.size != n_bytes:
            raise
    stored = filesystem.get_file_info(path).size
    if stored != n_bytes:
        filesystem.delete_file(path)
        raise OSError(f"{stored} bytes were stored; expected {n_bytes:,}. Run again.")


def _changed(filesystem: fs.FileSystem, before: fs.FileInfo) -> fs.FileInfo | None:
    """What is there now, where it is not what was there before."""
    try:
        now = filesystem.get_file_info(before.path)
    except OSError:
        return None
    if now.type != fs.FileType.File:
        return None
    return now if (now.size, now.mtime_ns) != (before.size, before.mtime_ns) else None


def identity(stream: pa.NativeFile) -> dict[str, str]:
    """What a store calls the state of a file that was opened."""
    told = stream.metadata() or {}
    return {
        name: value.decode(errors="replace") if isinstance(value, bytes) else value
        for name, value in told.items()
        if name in IDENTITIES
    }


class StoreFile(io.RawIOBase):
    """A file in a store, to be read from any position; it says what is wrong in our words.

    Arrow lets the store write into the memory of the bytes that are read. Where these are fewer
    than an error has, Arrow cannot see which error it is, and does not try again: we do. And of a
    file that was replaced by a shorter one meanwhile, it reads more than there is, so whoever reads
    to the end hears of a change.

    Each read is a request. So of a file that is read in order more is taken than was asked for,
    and more each time.

    Parameters
    ----------
    filesystem, path
        The file.
    name : str
        For messages.
    watched : bool
        Whether to see at the end that it is the file that was opened.
    """

    def __init__(
        self, filesystem: fs.FileSystem, path: str, name: str, *, watched: bool = True
    ) -> None:
        super().__init__()
        self._name = name
        self._watched = watched
        self._attempts = attempts(_settings())
        self._open = partial(filesystem.open_input_file, path)
        with plainly(name):
            self._file = self._open()
            self._identity = identity(self._file)
            self._n_bytes = self._file.size()
        self._at = 0
        self._kept, self._kept_at, self._ahead = b"", 0, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._n_bytes}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._n_bytes - self._at)
        n_bytes = left if size is None or size < 0 else min(size, left)
        if n_bytes == 0:
            return b""
        found = self._take(n_bytes)
        self._at += len(found)
        if self._at == self._n_bytes and self._watched:
            self._check_unchanged()
        return found

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, target: Any, /) -> int:
        with memoryview(target).cast("B") as memory:
            found = self.read(len(memory))
            memory[: len(found)] = found
        return len(found)

    def _take(self, n_bytes: int) -> bytes:
        start = self._at - self._kept_at
        if not 0 <= start <= len(self._kept):
            self._kept, self._kept_at, self._ahead, start = b"", self._at, 0, 0
        found = self._kept[start : start + n_bytes]
        if (missing := n_bytes - len(found)) == 0:
            return found
        self._kept_at += len(self._kept)
        left = self._n_bytes - self._kept_at
        self._kept = self._read_at(self._kept_at, min(left, max(missing, self._ahead)))
        self._ahead = min(max(2 * self._ahead, FIRST_AHEAD_BYTES), AHEAD_BYTES)
        return found + self._kept[:missing]

    def _read_at(self, start: int, n_bytes: int) -> bytes:
        for attempt in range(1, self._attempts + 1):
            try:
                with plainly(self._name):
                    found = bytes(self._file.read_at(n_bytes, start))
            except UnseenError:
                if attempt == self._attempts:
                    raise
                time.sleep(FIRST_WAIT_S * 2 ** (attempt - 1))
            else:
                break
        return found

    def _check_unchanged(self) -> None:
        with plainly(self._name), self._open() as now:
            if identity(now) != self._identity or now.size() != self._n_bytes:
                raise StoreError("the file has changed while it was read. Run again.")
