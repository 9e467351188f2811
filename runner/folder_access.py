"""Who may write to a job's folder: one process that owns it, and those that do parts for it."""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reference import cache

from .errors import OutputError
from .job_folder import FOLDER_SUFFIX, LOCK, STAGED, JobFolder
from .lock import alone
from .places import Place
from .store_errors import StoreError


@contextmanager
def open_folder(output: Place, suffix: str) -> Iterator[JobFolder]:
    """The folder of an output, kept from other jobs; removed at the end where no part is in it.

    Where the output is a link, all of it lies at what the link leads to.

    Raises
    ------
    OutputError
        Where another job writes the same output.
    """
    output = output.resolved()
    with contextlib.ExitStack() as stack:
        if output.is_local:
            staging = Path(output.beside(FOLDER_SUFFIX).path)
            if staging.is_symlink():  # what lies behind it is somebody else's
                raise OutputError(
                    f"{staging}: is a link; expected a folder, or nothing. Move it away."
                )
            lock_file = staging / LOCK
        else:  # an object store has no locks: this one keeps off jobs of this machine
            staging = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="picobatch-")))
            name = hashlib.sha256(output.path.encode()).hexdigest()[:32]
            lock_file = cache.folder() / "locks" / name
            lock_file.parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(alone(lock_file, output.name))
        for left in staging.glob(f"{STAGED}*"):
            with contextlib.suppress(IsADirectoryError):
                left.unlink()
        folder = JobFolder(output, staging, suffix)
        try:
            yield folder
        finally:
            with contextlib.suppress(StoreError):  # of what went wrong before is told
                if not folder.is_worth_keeping():
                    folder.dismiss()


@contextmanager
def part_folder(output: Place, suffix: str, job: str) -> Iterator[JobFolder]:
    """The folder of a job that another process owns, for parts of it.

    Parameters
    ----------
    output : Place
        Of the finished file, no link.
    suffix : str
        Of the parts' files.
    job : str
        The job's name in its folder.

    Raises
    ------
    ValueError
        Where that job is not there.
    """
    with contextlib.ExitStack() as stack:
        if output.is_local:
            staging = Path(output.beside(FOLDER_SUFFIX).path)
        else:
            staging = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="picobatch-")))
        folder = JobFolder(output, staging, suffix)
        folder.take_part(job)
        yield folder
