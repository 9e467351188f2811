"""What has arrived of a file that is being fetched: `NAME.part`, and whose beginning it is.

References
----------
RFC 9110, section 8.8.3 (ETag).
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

STRONG = re.compile(r'"[!#-~]*"')  # an ETag that promises the same bytes


class Part:
    """The beginning of a file.

    Beside it lies the ETag of that file, where the server gave one: with it in If-Range, the end
    of one file is never asked for behind the beginning of another.

    Parameters
    ----------
    whole : Path
        The file that it becomes.
    """

    def __init__(self, whole: Path) -> None:
        self.whole = whole
        self.path = whole.with_name(f"{whole.name}.part")
        self._again = whole.with_name(f"{whole.name}.part.again")
        self._validator = whole.with_name(f"{whole.name}.part.etag")

    @property
    def n_bytes(self) -> int:
        """How much has arrived."""
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def etag(self) -> str | None:
        """The ETag of the file that this is the beginning of, where it is known."""
        try:
            return strong(self._validator.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    @contextlib.contextmanager
    def writing(self, start: int, etag: str | None, *, certain: bool) -> Iterator[BinaryIO]:
        """A stream for the bytes from `start` on: behind this part, or from the beginning.

        Parameters
        ----------
        start : int
            `n_bytes` or 0. A file that begins anew takes this part's place when it is whole, or
            when it broke off and is the longer one.
        etag : str or None
            The ETag of what comes, where it begins anew.
        certain : bool
            Whether what comes from the beginning is known to be the file. What is not, such as
            the page that a network without access answers with, is not kept when it breaks off.
        """
        anew = start == 0
        behind_another = anew and self.n_bytes > 0
        if anew and not behind_another:
            self._remember(etag)
        came = self._again if behind_another else self.path
        opened = came.open("wb" if anew else "ab")
        whole = False
        try:
            with opened as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            whole = True
        finally:
            if anew and not (whole or certain):
                came.unlink(missing_ok=True)
            elif behind_another and (whole or came.stat().st_size > self.n_bytes):
                self._validator.unlink(missing_ok=True)
                came.replace(self.path)
                self._remember(etag)
            elif behind_another:
                came.unlink()

    def discard(self) -> None:
        """Keep nothing of it."""
        for path in (self._validator, self._again, self.path):
            path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the file its name."""
        self.path.replace(self.whole)
        self.discard()

    def _remember(self, etag: str | None) -> None:
        self._validator.unlink(missing_ok=True)
        if etag is not None:
            self._validator.write_text(etag, encoding="ascii")


def strong(etag: str | None) -> str | None:
    """An ETag, unless it is a weak one or none."""
    return etag if etag is not None and STRONG.fullmatch(etag) else None
