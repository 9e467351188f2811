"""The last step of an output: its name, once all of it is there; and what stands against it."""

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from .errors import InputError, OutputError
from .interrupts import Interrupts
from .job_folder import JobFolder, file_hash
from .join import join
from .key import differences, key_of
from .places import STDIO, Place, is_same
from .provenance import manifest_bytes, read_provenance
from .storage import FORMATS, MANIFEST_SUFFIX, format_of, manifest_of, suffix_of
from .store_errors import StoreError

NAME_BYTES = 255  # of one name in a folder


def published(folder: JobFolder, key: dict[str, Any]) -> dict[str, Any] | None:
    """The provenance of an output whose job was stopped when all but its folder was done."""
    if not folder.is_published():
        return None
    try:
        found = read_provenance(folder.output)
    except InputError:
        return None
    if changes_since(found, key):
        return None
    folder.dismiss()
    return found


def publish(
    folder: JobFolder,
    files: Iterable[Place],
    schema: pa.Schema,
    provenance: dict[str, Any],
    *,
    overwrite: bool,
    interrupts: Interrupts,
) -> None:
    """Join files of finished rows to the folder's output, and remove the folder.

    The manifest takes its place before the output: whoever sees the output sees both.
    """
    output = folder.output
    manifest = manifest_of(output)
    joined = folder.stage(f"output{suffix_of(output.path)}")
    staged_manifest = folder.stage("manifest.json")
    try:
        join(files, joined, schema, provenance, interrupts.check)
        n_bytes, sha256 = file_hash(Place.local(joined))
        file = {"bytes": n_bytes, "sha256": sha256}
        staged_manifest.write_bytes(manifest_bytes(provenance | {"file": file}))
        interrupts.check()
        if not overwrite and not folder.is_announced():
            refuse_finished(folder)  # it may have come meanwhile
        folder.announce(n_bytes, sha256)
        manifest.put(staged_manifest)
        try:
            (output.put if overwrite else output.put_new)(joined)
        except FileExistsError:
            manifest.remove()
            raise OutputError(
                f"{output.name}: another program wrote it meanwhile; that one is kept. Choose "
                "another output, or pass --overwrite."
            ) from None
    except BaseException:  # a disk that is full has no room for it
        joined.unlink(missing_ok=True)
        staged_manifest.unlink(missing_ok=True)
        raise
    folder.dismiss()


def check_place(place: Place, inputs: Sequence[Place]) -> None:
    """Refuse an output that cannot be written, before anything is done for it.

    Raises
    ------
    OutputError
        Naming it.
    """
    with in_our_words(place.name):
        _check_place(place, inputs)


def _check_place(place: Place, inputs: Sequence[Place]) -> None:
    if format_of(place.path) is None:
        raise OutputError(f"{place.name}: no known format; expected {FORMATS}. Rename the output.")
    if place.is_local:
        _check_length(place)
    if place.is_link:
        _check_link(place, place.resolved())
        place = place.resolved()
        _check_length(place)
    if place.is_local:
        _check_folder(place)
    if any(is_same(place, file) for file in inputs):
        raise OutputError(f"{place.name}: is an input itself. Choose another output.")
    for written in (place, manifest_of(place)):
        if written.is_folder():
            raise OutputError(
                f"{written.name}: is a folder; expected a file name. Choose another output."
            )
        if written.is_local and written.exists() and not Path(written.path).is_file():
            raise OutputError(
                f"{written.name}: is a pipe, a device or the like; expected a file, or nothing. "
                f"Choose another output, or pass {STDIO} to write to a pipe."
            )


def _check_folder(place: Place) -> None:
    parent = Path(place.path).parent
    if not parent.is_dir():
        raise OutputError(
            f"{place.name}: the folder {parent} is not there; expected an existing one. "
            "Make it first, or check the path."
        )
    if not os.access(parent, os.W_OK):
        raise OutputError(
            f"{place.name}: the folder {parent} is not writable. Choose another, or mend its "
            "permissions."
        )


def _check_length(place: Place) -> None:
    """See that the manifest, which has the longest of the names beside an output, can be there."""
    n_bytes, most = len(os.fsencode(Path(place.path).name)), NAME_BYTES - len(MANIFEST_SUFFIX)
    if n_bytes > most:
        raise OutputError(
            f"{place.name}: the name has {n_bytes} bytes; expected at most {most}, since the name "
            f"of its manifest ends in {MANIFEST_SUFFIX}. Choose a shorter one."
        )


def _check_link(link: Place, target: Place) -> None:
    if target.is_link:
        raise OutputError(
            f"{link.name}: is a link that leads back to itself; expected one to a file. Remove it."
        )
    if suffix_of(target.path).lower() != suffix_of(link.path).lower():
        raise OutputError(
            f"{link.name}: is a link to {target.name}; expected a name with the same ending. Name "
            "the file itself."
        )


def refuse_finished(folder: JobFolder) -> None:
    """Keep an output that is there.

    Raises
    ------
    OutputError
        Naming it.
    """
    manifest = manifest_of(folder.output)
    if folder.output.exists() and not folder.is_published():
        raise kept_error(folder.output)
    if manifest.exists() and not folder.is_announced():  # then it may be ours
        raise OutputError(
            f"{manifest.name}: exists already; it would be replaced. Move it away, or pass "
            "--overwrite, or choose another output."
        )


def kept_error(place: Place) -> OutputError:
    return OutputError(
        f"{place.name}: exists already; a finished output is kept. Pass --overwrite to replace it, "
        "--resume to take it as done where it is this job's, or choose another name."
    )


def changes_since(provenance: dict[str, Any], key: dict[str, Any]) -> str:
    """In what the job that made an output differs from another."""
    try:
        return differences(key_of(provenance), key)
    except (LookupError, TypeError, AttributeError):
        return "it does not say what it was made from"


@contextmanager
def in_our_words(name: str) -> Iterator[None]:
    """What the system says of an output, as a message of ours."""
    try:
        yield
    except OSError as e:
        if e.errno == errno.ENOSPC:
            raise OutputError(
                f"{name}: the disk is full; it was not written. Make room and run the same command "
                "again."
            ) from None
        if isinstance(e, StoreError):  # which says what to do
            raise OutputError(f"{name}: {e}") from None
        raise OutputError(
            f"{name}: {e.strerror or e}; it was not written. Mend that and run the same command "
            "again."
        ) from None
