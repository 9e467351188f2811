"""The only network code: a file is fetched so that what has its name is that file.

A file is fetched as `NAME.part` and takes its name when length and checksum hold. What was fetched
stays when a transfer breaks, and the next one, of this process or of another, goes on behind it.

References
----------
RFC 9110, sections 10.2.3 (Retry-After), 13.1.5 (If-Range) and 14 (Range).
"""

import contextlib
import hashlib
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from .errors import DownloadError, ModelError
from .part import Part, strong
from .progress import ByteProgress, say
from .published import Expected, without_user

ATTEMPTS = 6  # in a row that brought nothing
FIRST_WAIT_S = 1.0  # doubled after each
LONGEST_WAIT_S = 600.0  # whatever a server asks for
TIMEOUT_S = (10.0, 60.0)  # to connect; without a byte
CHUNK_BYTES = 1 << 16
BROUGHT_BYTES = 1 << 14  # by a transfer that counts as none of the failures
SLOWEST_BYTES_PER_S = 1000  # over as long as a server may be silent
MOST_REDIRECTS = 10
BUSY = (408, 429, 500, 502, 503, 504)
CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-\d{1,18}|\*)/(\d{1,18}|\*)")
LENGTH = re.compile(r"\d{1,18}")


class TransferError(Exception):
    """A transfer broke in a way that may mend itself."""

    def __init__(self, what: str, wait_s: float | None = None) -> None:
        super().__init__(what)
        self.wait_s = wait_s  # what the server asks for


class WrongFileError(Exception):
    """What was fetched is not the file."""


def fetch_file(url: str, path: Path) -> None:
    """Fetch one file of which nothing is known beforehand.

    Parameters
    ----------
    url : str
        http or https.
    path : Path
        What it becomes, in a folder that is there.

    Raises
    ------
    DownloadError
        Naming the address without secrets, what came back and what to do.
    """
    try:
        with PlainSession() as session:
            Transfer(session, url, path).run()
    except OSError as e:
        raise DownloadError(
            f"{path}: {e.strerror or e}; expected a disk with room to write. Make room, or set "
            "TMPDIR to another disk."
        ) from None


class PlainSession(requests.Session):
    """A session that leaves redirections to us: its own would read their bodies, however long."""

    def resolve_redirects(self, *_: Any, **__: Any) -> Iterator[Any]:
        return iter(())


@dataclass
class Transfer:
    """One file on its way.

    Attributes
    ----------
    session : requests.Session
        Keeps the connection from file to file.
    url : str
        Where it comes from.
    path : Path
        What it becomes.
    """

    session: requests.Session
    url: str
    path: Path

    # What a user can do, in messages.
    address_advice = "Check the address"
    elsewhere_advice = "copy the file here by other means and pass its path"
    room_advice = "set TMPDIR to another disk"

    def __post_init__(self) -> None:
        self.part = Part(self.path)
        self.shown = self.url_in_messages()

    @property
    def expected(self) -> Expected:
        """What is known of the file."""
        return Expected()

    @property
    def most_bytes(self) -> int | None:
        """Of a file whose length nobody tells."""
        return None

    def url_in_messages(self) -> str:
        """Without who asks, and without the query: addresses are signed in it."""
        return without_user(self.url).partition("?")[0]

    def check_content(self) -> None:
        """Look into what has come.

        Raises
        ------
        ModelError
            Where it is damaged.
        """

    def remedy(self) -> str:
        """What to do where transfers go on to break."""
        have = self.part.n_bytes
        return f"{have:,} bytes had come. Run again later, or {self.elsewhere_advice}."

    def run(self) -> None:
        """Fetch until the file is whole and right, then give it its name.

        Raises
        ------
        DownloadError
            Where it cannot be had.
        """
        failures = wrong = 0
        furthest = self.part.n_bytes
        while True:
            have = self.part.n_bytes
            try:
                if have != self.expected.n_bytes:
                    self._fetch(have)
                self._verify()
            except TransferError as e:
                # Only what goes beyond all before counts: else it could go on for ever.
                failures = 0 if self.part.n_bytes >= furthest + BROUGHT_BYTES else failures + 1
                furthest = max(furthest, self.part.n_bytes)
                if failures == ATTEMPTS:
                    raise DownloadError(f"{self.shown}: {e}. {self.remedy()}") from None
                wait_s = e.wait_s or FIRST_WAIT_S * 2 ** max(failures - 1, 0)
                wait_s = min(wait_s, LONGEST_WAIT_S)
                say(f"{self.shown}: {e}; trying again in {wait_s:.0f} s")
                time.sleep(wait_s)
            except WrongFileError as e:
                self.part.discard()
                wrong += 1
                if wrong == 2:
                    raise DownloadError(
                        f"{self.shown}: {e}, twice; nothing of it was kept. Try again later, or "
                        f"{self.elsewhere_advice}."
                    ) from None
                say(f"{self.shown}: {e}; fetching it again")
            else:
                self.part.finish()
                return

    def _fetch(self, have: int) -> None:
        """Ask for what is missing, and add what comes."""
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if self.part.etag is not None:
                headers["If-Range"] = self.part.etag
        try:
            with self._answer(headers) as response:
                if response.status_code == requests.codes.requested_range_not_satisfiable and have:
                    self._beyond_the_end(response, have)
                    return
                self._check_status(response)
                self._receive(response, have)
        except requests.exceptions.InvalidURL as e:
            raise DownloadError(self._no_address(_reason(e))) from None
        except (
            HTTPError,
            requests.exceptions.ChunkedEncodingError,
            requests.exceptions.ConnectionError,
            requests.exceptions.Timeout,
        ) as e:
            raise TransferError(f"the connection failed ({_reason(e)})") from None
        except (requests.RequestException, ValueError) as e:
            raise DownloadError(self._no_address(_reason(e))) from None

    def _answer(self, headers: dict[str, str]) -> requests.Response:
        """The answer at the end of all redirections; the bodies of these are not read."""
        url = self.url
        for _ in range(MOST_REDIRECTS):
            try:
                response = self.session.get(
                    url, headers=headers, stream=True, timeout=TIMEOUT_S, allow_redirects=False
                )
            except requests.RequestException:
                raise
            except OSError as e:  # such as certificates that are not there
                raise DownloadError(self._no_address(str(e))) from None
            if not response.is_redirect:
                return response
            with response:
                before = urlsplit(url).scheme
                url = urljoin(url, self.session.get_redirect_target(response) or "")
            if before == "https" and urlsplit(url).scheme != "https":
                raise DownloadError(self._no_address("it is redirected away from https"))
        raise DownloadError(self._no_address(f"more than {MOST_REDIRECTS} redirections"))

    def _no_address(self, what: str) -> str:
        return (
            f"{self.shown}: {what}; expected an address that can be fetched. {self.address_advice}."
        )

    def _check_status(self, response: requests.Response) -> None:
        if response.status_code in (requests.codes.ok, requests.codes.partial_content):
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding.lower() == "identity":
                return
            raise DownloadError(
                f"{self.shown}: comes encoded as {encoding[:40]!a}; expected it as it is. "
                f"{self.address_advice}."
            )
        answer = f"the server answered {response.status_code} {response.reason}"
        again = (*BUSY, requests.codes.requested_range_not_satisfiable)
        if response.status_code in again or response.status_code < requests.codes.ok:
            raise TransferError(answer, _retry_after(response))
        raise DownloadError(
            f"{self.shown}: {answer}; expected the file. {self.address_advice}{self.must_hold()}."
        )

    def _receive(self, response: requests.Response, have: int) -> None:
        start, total = _span(response)
        if start not in (0, have):
            self.part.discard()
            which = "without saying which" if start is None else f"from {start:,}"
            raise TransferError(f"the server sent bytes {which}; asked for those from {have:,}")
        if total is not None and self.expected.n_bytes not in (None, total):
            raise DownloadError(
                f"{self.shown}: the server offers {total:,} bytes; expected "
                f"{self.expected.n_bytes:,}. It is another file. {self.address_advice}."
            )
        etag = strong(response.headers.get("ETag"))
        if start and etag and self.part.etag not in (None, etag):
            self._start_anew()
        n_bytes = self.expected.n_bytes or total
        if n_bytes:
            self._make_room(n_bytes - start)
        certain = total is not None or etag is not None
        with (
            contextlib.closing(ByteProgress(self.path.name, n_bytes, start)) as progress,
            self.part.writing(start, etag, certain=certain) as stream,
        ):
            for chunk in _chunks(response):
                stream.write(chunk)
                progress.advance(len(chunk))
                most = self.most_bytes if n_bytes is None else n_bytes
                if most is not None and stream.tell() > most:
                    raise WrongFileError(f"more than {most:,} bytes came")
            if n_bytes is not None and stream.tell() < n_bytes:
                raise TransferError(f"the transfer ended after {stream.tell():,} of {n_bytes:,}")

    def _beyond_the_end(self, response: requests.Response, have: int) -> None:
        """The server has nothing behind what is here: that is all of it, or of another file."""
        if _span(response)[1] != have:
            self._start_anew()

    def _start_anew(self) -> NoReturn:
        self.part.discard()
        raise TransferError("the file has changed on the server")

    def _make_room(self, n_bytes: int) -> None:
        """See that the disk has it; a part that is fetched anew goes first where it has not."""
        free, have = shutil.disk_usage(self.path.parent).free, self.part.n_bytes
        if n_bytes <= free:
            return
        if n_bytes == self.expected.n_bytes and n_bytes <= free + have:
            self.part.discard()
            return
        raise DownloadError(
            f"{self.path}: {n_bytes:,} bytes are needed, its disk has {free:,}. Make room, or "
            f"{self.room_advice}."
        )

    def _verify(self) -> None:
        """Length, hash and content of the whole file."""
        have, expected = self.part.n_bytes, self.expected
        if expected.n_bytes not in (None, have):
            raise WrongFileError(f"{have:,} bytes came; expected {expected.n_bytes:,}")
        if expected.sha256 is not None:
            with self.part.path.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != expected.sha256:
                raise WrongFileError(f"its SHA-256 is {found}; expected {expected.sha256}")
        try:
            self.check_content()
        except ModelError as e:
            raise WrongFileError(f"it is damaged ({e})") from None

    def must_hold(self) -> str:
        """More of what is wrong with an address that does not hold the file."""
        return ""


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """What comes, as it comes: a connection that breaks loses nothing of it."""
    start_s, n_bytes = time.monotonic(), 0
    while chunk := response.raw.read1(CHUNK_BYTES):
        yield chunk
        n_bytes += len(chunk)
        elapsed_s = time.monotonic() - start_s
        if elapsed_s > TIMEOUT_S[1]:
            if n_bytes < SLOWEST_BYTES_PER_S * elapsed_s:
                raise TransferError(f"only {n_bytes:,} bytes came in {elapsed_s:.0f} s")
            start_s, n_bytes = time.monotonic(), 0


def _span(response: requests.Response) -> tuple[int | None, int | None]:
    """Where the body begins in the file, and how long the file is."""
    if response.status_code == requests.codes.ok:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if LENGTH.fullmatch(length) else None
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if found is None:
        return None, None
    start, total = (int(text) if text and text != "*" else None for text in found.groups())
    return start, total


def _retry_after(response: requests.Response) -> float | None:
    try:
        return Retry().get_retry_after(response.raw)
    except (HTTPError, ValueError, OverflowError):  # it is no time
        return None


def _reason(error: Exception) -> str:
    """The innermost cause, short."""
    if isinstance(error, UnicodeError):  # whose first argument is the codec's name
        return str(error)
    cause = error.args[0] if error.args else error
    cause = getattr(cause, "reason", cause)
    said = cause.args[0] if isinstance(cause, Exception) and cause.args else cause
    return without_user(str(said if isinstance(said, str) else cause))[:200]
