"""The law that every parser is held to, whatever its input is.

Only our errors come out, with messages that a terminal may show; nothing is opened outside the
folders that were named, and nothing that runs code is called.
"""

import faulthandler
import os
import signal
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reference import PicobatchError

LONGEST_MESSAGE = 4000
MOST_SECONDS = 60  # after which a call hangs
IS_TIMED = "PICOBATCH_FUZZ_UNTIMED" not in os.environ  # libFuzzer has a timer of its own
FORBIDDEN = {
    "pickle.find_class",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.startfile",
    "socket.connect",
    "ctypes.dlopen",
}
OPENS = {"open", "os.mkdir", "os.truncate"}
OF_NAMES = {"os.remove", "os.rename", "os.link", "os.symlink"}  # which follow no link at the end
READ_BY_ALL = tuple(
    {
        sys.prefix,
        sys.base_prefix,
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("purelib"),
        str(Path(__file__).parents[2]),
        "/proc/",
        "/sys/",
        "/dev/null",
        "/etc/localtime",
        "/usr/share/zoneinfo",
    }
)

_folders: list[str] = []  # where the call that is watched may be
_breaches: list[str] = []


class BreachError(AssertionError):
    """The law was broken."""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _folders:
        return
    if event in FORBIDDEN:
        _breaches.append(f"{event}{arguments!r:.200}")
    elif event in OPENS | OF_NAMES and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = os.fsdecode(arguments[0])
        parent, name = os.path.split(path)
        path = (
            os.path.join(os.path.realpath(parent), name)  # noqa: PTH118
            if event in OF_NAMES
            else os.path.realpath(path)
        )
        if not path.startswith((*_folders, *READ_BY_ALL)) and "__pycache__" not in path:
            _breaches.append(f"{event} {path}")


sys.addaudithook(_watch)


def harmless(text: str, also: str = "\n") -> bool:
    """Whether a terminal obeys no part of a text."""
    return all(c.isprintable() or c in also for c in text)


@contextmanager
def watched(*folders: Path) -> Iterator[None]:
    """Watch what is opened, and for how long a call takes."""
    ours = Path(tempfile.gettempdir()) / "picobatch-"  # how our own temporary folders begin
    _folders[:] = [os.path.realpath(folder) for folder in (*folders, ours)]
    _breaches.clear()
    if IS_TIMED:
        alarmed = signal.signal(signal.SIGALRM, _hangs)
        signal.alarm(MOST_SECONDS)
        faulthandler.dump_traceback_later(
            MOST_SECONDS + 10, exit=True, file=sys.__stderr__
        )  # of what takes no signal
    try:
        yield
    finally:
        _folders.clear()
        if IS_TIMED:
            faulthandler.cancel_dump_traceback_later()
            signal.alarm(0)
            signal.signal(signal.SIGALRM, alarmed)
    if _breaches:
        raise BreachError(f"opened or called outside: {_breaches[:5]}")


def _hangs(*_: Any) -> None:
    raise BreachError(f"no answer after {MOST_SECONDS} s")


def obey(call: Callable[[], Any], *folders: Path) -> PicobatchError | None:
    """Make a call, hold it to the law; returns the error of ours that it ended with."""
    with watched(*folders), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers that overflow
        try:
            call()
        except PicobatchError as e:
            message = str(e)
            if not harmless(message):
                raise BreachError(f"a message with control characters: {message!r:.500}") from e
            if len(message) > LONGEST_MESSAGE:
                raise BreachError(
                    f"a message of {len(message):,} characters: {message[:300]}"
                ) from e
            if not message:
                raise BreachError("an error without a message") from e
            return e
    return None
