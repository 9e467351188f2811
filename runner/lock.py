"""One job at a time for each output. The lock of a job that died is free."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import OutputError


@contextmanager
def alone(lock_file: Path, output: str) -> Iterator[None]:
    """Keep other jobs from an output; the system lets go of the lock when the process ends.

    Parameters
    ----------
    lock_file : Path
        Made where it is missing, in a folder that is made too. Whoever holds the lock may
        remove both.
    output : str
        What messages call what is locked.

    Raises
    ------
    OutputError
        Where another job holds it.
    """
    while True:
        try:
            lock_file.parent.mkdir(exist_ok=True)
            if lock_file.is_symlink():  # through which a file of somebody else would be emptied
                raise OutputError(f"{lock_file}: is a link; expected none. Remove it.")
            lock_file.touch()
            before = lock_file.stat()
            lock = FileLock(lock_file)
            lock.acquire(timeout=0)
            if os.path.samestat(before, lock_file.stat()):
                break
        except (FileNotFoundError, FileExistsError):
            folder = lock_file.parent
            if os.path.lexists(folder) and not folder.is_dir():
                raise OutputError(
                    f"{folder}: is no folder; expected a folder, or nothing. Move it away."
                ) from None
            if not folder.parent.is_dir():
                raise OutputError(
                    f"{output}: the folder {folder.parent} is not there any more; expected it to "
                    "stay. Make it again, and run the same command again."
                ) from None
            continue  # the job before us removed the lock, or its folder, meanwhile
        except Timeout:
            raise OutputError(
                f"{output}: another job writes it now; expected one at a time. Wait for that one, "
                "or choose another output."
            ) from None
        lock.release()  # of a file that is not there any more
    try:
        yield
    finally:
        lock.release()
