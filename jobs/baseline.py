"""Baselines: runs that later ones are compared with, each a folder `BASELINES/NAME`.

A baseline is swapped in by two renames, under a lock: the one before is set aside, the new one gets
the name. Whoever reads in between, or after the process died there, finds the one that was set
aside. So a reader sees the whole of the one or of the other.
"""

import contextlib
import math
import os
import shutil
from pathlib import Path

from runner.errors import InputError, OutputError, SettingsError
from runner.lock import alone
from runner.messages import shown, shown_names
from runner.places import explained, sync_folder

from .result_file import is_file_name
from .results import EvalResult
from .run_folder import RESULTS, ROWS, read_run

# What follows a name that begins with a dot: one being written, the one before, what is removed.
NEW, ASIDE, OLD, LOCK = ".new", ".before", ".old", ".lock"
ATTEMPTS = 20  # at reading, while others bless


def bless(run: Path, baselines: Path, name: str) -> Path:
    """Make a run the baseline of a name, in place of one that has it.

    Returns
    -------
    Path
        Of the baseline.

    Raises
    ------
    InputError
        Where the folder is not what a run leaves.
    OutputError
        Where the run is none to compare with, or the baseline cannot be written.
    SettingsError
        Where the name is none.
    """
    folder = baselines / checked_name(name)
    _check_sound(read_run(run), run)
    with explained(str(folder), OutputError):
        baselines.mkdir(parents=True, exist_ok=True)
        lock = _beside(folder, LOCK)
        with alone(lock, str(folder)):
            _swap_in(run, folder)
            with contextlib.suppress(OSError):  # a system where files that are open stay
                lock.unlink()
    return folder


def _swap_in(run: Path, folder: Path) -> None:
    new, aside, old = (_beside(folder, suffix) for suffix in (NEW, ASIDE, OLD))
    if aside.exists() and not folder.exists():  # a process died in between
        aside.rename(folder)
    _remove(new)
    _copy(run, new)
    _dispose(aside, old)
    if os.path.lexists(folder):
        folder.rename(aside)
    new.rename(folder)
    sync_folder(folder.parent)
    _dispose(aside, old)


def _dispose(aside: Path, old: Path) -> None:
    """Remove what is set aside; nobody finds a part of it, since it loses its name at once."""
    _remove(old)
    if os.path.lexists(aside):
        aside.rename(old)
        _remove(old)


def read_baseline(baselines: Path, name: str, *, required: bool) -> EvalResult | None:
    """The baseline of a name; None where there is none, which is right before the first.

    Parameters
    ----------
    baselines : Path
        Their folder; it may not be there.
    name : str
    required : bool
        Whether there has to be one.

    Raises
    ------
    InputError
        Where it is damaged, or required and not there.
    SettingsError
        Where the name is none.
    """
    folder = baselines / checked_name(name)
    with explained(str(folder), InputError):
        found = _read(folder, _beside(folder, ASIDE))
    if found is None and required:
        raise InputError(
            f"{folder}: no such baseline; there are: {shown_names(names(baselines)) or 'none'}. "
            f"Correct the name, or make it with `runner eval JOB --bless {name}`."
        )
    return found


def _read(folder: Path, aside: Path) -> EvalResult | None:
    for _ in range(ATTEMPTS):
        place = aside if aside.exists() and not folder.exists() else folder
        before = _stamp(place)
        if before is None:
            if aside.exists() or folder.exists():
                continue  # they were just swapped
            if folder.is_symlink():
                raise InputError(
                    f"{folder}: is a link that leads nowhere; expected a baseline, or nothing. "
                    "Mend it, or remove it."
                )
            return None
        try:
            found = read_run(place)
        except InputError as e:
            if _stamp(place) == before:
                raise InputError(
                    f"baseline {folder.name}: {e} Or remove {place}, and bless another run."
                ) from None
        else:
            if _stamp(place) == before:
                return found
    raise InputError(
        f"{folder}: was replaced while it was read, {ATTEMPTS} times; expected it to stay. Run "
        "again."
    )


def names(baselines: Path) -> list[str]:
    """What the baselines of a folder are called."""
    with contextlib.suppress(OSError):
        return sorted(
            entry.name
            for entry in baselines.iterdir()
            if not entry.name.startswith(".") and (entry / RESULTS).is_file()
        )
    return []


def checked_name(name: str) -> str:
    """A name that a baseline can have.

    Raises
    ------
    SettingsError
        Where none can.
    """
    if not is_file_name(name) or name.startswith("."):
        raise SettingsError(
            f"{shown(name)}: is no name of a baseline; expected that of a folder, without a dot in "
            "front. Choose another."
        )
    return name


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(f".{folder.name}{suffix}")


def _stamp(folder: Path) -> tuple[int, ...] | None:
    """What changes when another folder gets the name; None where there is none."""
    try:
        inode = folder.stat().st_ino
    except FileNotFoundError:
        return None
    try:
        found = (folder / RESULTS).stat()
    except FileNotFoundError:
        return (inode,)
    return inode, found.st_ino, found.st_mtime_ns, found.st_size


def _check_sound(result: EvalResult, run: Path) -> None:
    """A baseline without a figure would let it get lost."""
    said = [f"task {name} failed" for name in result.failed]
    said += [
        f"{metric.name} of {name} is {metric.value}"
        for name, task in result.tasks.items()
        for metric in task.metrics
        if not math.isfinite(metric.value)
    ]
    if result.check.get("agrees") is False:
        said.append("its logits disagree with the reference")
    if said:
        raise OutputError(
            f"{run}: {said[0]}; expected a run to hold others to. Mend that and run again."
        )


def _copy(run: Path, folder: Path) -> None:
    shutil.copytree(run / ROWS, folder / ROWS)
    shutil.copyfile(run / RESULTS, folder / RESULTS)
    for file in (*(folder / ROWS).iterdir(), folder / RESULTS):
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())
    sync_folder(folder / ROWS)
    sync_folder(folder)


def _remove(folder: Path) -> None:
    """Remove a folder; of a link, which may lead to a run, only itself."""
    with contextlib.suppress(FileNotFoundError):
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)
