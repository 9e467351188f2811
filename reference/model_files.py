"""OpenAI's files of a published model: where they come from, and what makes them the right ones."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from .download import PlainSession, Transfer
from .errors import DownloadError
from .progress import say
from .published import (
    BASE_URL,
    BASE_URL_VARIABLE,
    FILES,
    PUBLISHED,
    Expected,
    Published,
    check_content,
    without_user,
)

MOST_BYTES = 1 << 26  # of a file whose length nobody tells


def download(name: str, directory: Path, base_url: str | None = None) -> None:
    """Fetch the files of a published model that are not here yet.

    Parameters
    ----------
    name : str
        A key of `PUBLISHED`.
    directory : Path
        Where to put them. Another process that fetches into it is waited for.
    base_url : str, optional
        Where `NAME/FILE` is found; by default `PICOBATCH_BASE_URL`, or OpenAI's bucket.

    Raises
    ------
    DownloadError
        Naming the address, what came back and what to do.
    """
    base_url = base_url or os.environ.get(BASE_URL_VARIABLE) or BASE_URL
    published = PUBLISHED[name]
    paths = [directory / file for file in FILES]
    try:
        if all(path.is_file() for path in paths):
            return
        directory.mkdir(parents=True, exist_ok=True)
        with _alone(directory), PlainSession() as session:
            for path in paths:
                if not path.is_file():
                    url = f"{base_url.rstrip('/')}/{name}/{path.name}"
                    PublishedTransfer(session, url, path, published).run()
    except OSError as e:
        raise DownloadError(
            f"{directory}: {e.strerror or e}; expected a folder with room to write, and a disk "
            "that has locks. What was "
            "fetched stays there, and the same command goes on behind it. Mend that, or choose "
            "another folder with --models-dir."
        ) from None


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep other processes from fetching into a directory; the lock of a dead one is free."""
    lock = FileLock(directory / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{directory}: another process is fetching into it; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@dataclass
class PublishedTransfer(Transfer):
    """A file of a published model on its way.

    Attributes
    ----------
    published : Published
        The model that it belongs to.
    """

    published: Published

    address_advice = "Check --base-url"
    elsewhere_advice = "another source with --base-url"
    room_advice = "choose another folder with --models-dir"

    @property
    def expected(self) -> Expected:
        return self.published.files[self.path.name]

    @property
    def most_bytes(self) -> int | None:
        return MOST_BYTES

    def url_in_messages(self) -> str:
        return without_user(self.url)

    def check_content(self) -> None:
        check_content(self.published, self.part.path, self.path)

    def remedy(self) -> str:
        name, models_dir = self.path.parent.name, self.path.parent.parent
        have = self.part.n_bytes
        kept = f"{have:,} bytes are kept, and the same command goes on behind them"
        return (
            f"{kept if have else 'Nothing of it has come'}. "
            f"Without a connection: run `runner models {name} --download --models-dir DIR` where "
            f"there is one and copy DIR/{name} to {models_dir}, or name a mirror with --base-url."
        )

    def must_hold(self) -> str:
        return f"; the address must hold {self.path.parent.name}/{self.path.name}"
