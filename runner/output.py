"""Where finished rows go: into a file that appears when it is whole, or down a pipe."""

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from reference.progress import say

from .errors import InputError, OutputError
from .interrupts import Interrupts
from .job_folder import JobFolder, file_hash, open_folder
from .join import join
from .key import differences, key_of
from .messages import printable
from .parts import Part, PartRecord, Plan
from .places import STDIO, Place, place_of
from .provenance import manifest_bytes, read_provenance
from .records import Completion
from .settings import RunSettings
from .storage import (
    FORMATS,
    Format,
    format_of,
    least_output_bytes,
    manifest_of,
    shard_name,
    suffix_of,
)
from .store_errors import StoreError
from .writer import JsonlWriter, Writer, open_writer


class Output(Protocol):
    """Takes the parts of a job, in order.

    Attributes
    ----------
    name : str
        For messages and reports.
    records : dict of int to PartRecord
        What became of the parts that are done, by number.
    """

    name: str
    records: dict[int, PartRecord]

    def finished(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """The provenance of the output, where it is there and may be taken as done."""

    def check_space(self, inputs: Sequence[Place], n_rows: int, n_all_rows: int) -> None:
        """Refuse a disk that clearly cannot hold the output."""

    def begin(self, key: dict[str, Any], plan: Plan, schema: pa.Schema) -> Plan:
        """Begin a job, or take one up; returns the plan that it was begun with."""

    def answers(self) -> dict[int, Completion]:
        """What is known of rows whose part is not done."""

    def writing(self, part: Part) -> contextlib.AbstractContextManager[Writer]:
        """A writer for a part's rows."""

    def commit(self, part: Part, record: PartRecord) -> None:
        """Count a part that was written as done."""

    def suspend(self, answers: dict[int, Completion]) -> None:
        """Keep what is known of rows whose part is not done."""

    def finish(self, provenance: dict[str, Any], interrupts: Interrupts) -> None:
        """All parts are done: give the output its name."""


@contextmanager
def open_output(settings: RunSettings, inputs: Sequence[Place]) -> Iterator[Output]:
    """Where a job's rows go. No other job writes there meanwhile.

    Raises
    ------
    OutputError
        Where its format is unknown, its folder is missing or not writable, it exists and may
        not be replaced, it is the input, or another job writes it.
    """
    if settings.output == STDIO:
        if sys.stdout is None:
            raise OutputError("-: stdout is closed; expected it to take JSONL. Pass a file.")
        yield PipeOutput(settings)
        return
    place = place_of(shard_name(settings.output, settings.shard))
    with in_our_words(place.name):
        check_place(place, inputs)
    if settings.format == "openai" and format_of(place.path) is Format.PARQUET:
        raise OutputError(
            f"{place.name}: is Parquet; expected JSONL for responses of OpenAI's batch interface. "
            "Choose a name that ends in .jsonl."
        )
    with in_our_words(place.name), open_folder(place, suffix_of(place.path)) as folder:
        if not settings.overwrite and not settings.resume:
            refuse_finished(folder)
        output = FileOutput(settings, place, folder)
        try:
            yield output
        except (KeyboardInterrupt, SystemExit):  # by a signal, maybe while the model was loaded
            output.say_what_is_kept()
            raise
        except Exception:
            if output.is_begun:
                output.say_what_is_kept()
            raise


class PipeOutput:
    """JSONL on stdout. What was written cannot be taken back, or gone on from."""

    def __init__(self, settings: RunSettings) -> None:
        self.name = STDIO
        self.records: dict[int, PartRecord] = {}
        self._prefix = settings.our_prefix

    def finished(self, key: dict[str, Any]) -> dict[str, Any] | None:  # noqa: ARG002
        return None

    def check_space(self, inputs: Sequence[Place], n_rows: int, n_all_rows: int) -> None:
        pass

    def begin(self, key: dict[str, Any], plan: Plan, schema: pa.Schema) -> Plan:  # noqa: ARG002
        return plan

    def answers(self) -> dict[int, Completion]:
        return {}

    @contextmanager
    def writing(self, part: Part) -> Iterator[Writer]:  # noqa: ARG002
        yield JsonlWriter(sys.stdout.buffer, self._prefix)

    def commit(self, part: Part, record: PartRecord) -> None:
        self.records[part.number] = record

    def suspend(self, answers: dict[int, Completion]) -> None:
        pass

    def finish(self, provenance: dict[str, Any], interrupts: Interrupts) -> None:
        pass


class FileOutput:
    """A file, made of parts that are kept until it is whole."""

    def __init__(self, settings: RunSettings, place: Place, folder: JobFolder) -> None:
        self.name = place.name
        self.records: dict[int, PartRecord] = {}
        self._settings = settings
        self._place = place
        self._folder = folder
        self._plan = Plan(range(0), 1)
        self._parts: list[Part] = []
        self._schema = pa.schema([])
        self._answers: dict[int, Completion] = {}  # of an earlier run
        self._n_answers = 0  # of rows whose part is not done

    def finished(self, key: dict[str, Any]) -> dict[str, Any] | None:
        if (found := published(self._folder, key)) is not None:
            return found
        if self._settings.overwrite or not self._place.exists():
            return None
        if not self._settings.resume:
            raise _finished(self._place)
        found = read_provenance(self._place)
        if changed := _changes(found, key):
            raise OutputError(
                f"{self.name}: is the output of another job: {changed}. Choose another name, or "
                "pass --overwrite to replace it."
            )
        self._folder.dismiss()
        return found

    def check_space(self, inputs: Sequence[Place], n_rows: int, n_all_rows: int) -> None:
        if not self._place.is_local or self._folder.is_worth_keeping():
            return
        needed = 2 * least_output_bytes(self._settings, inputs, n_rows, n_all_rows)  # and parts
        free = shutil.disk_usage(Path(self._place.path).parent).free
        if free < needed:
            raise OutputError(
                f"{self.name}: {free:,} bytes free on its disk; the output and its parts need at "
                f"least {needed:,}. Make room, or choose another disk."
            )

    def begin(self, key: dict[str, Any], plan: Plan, schema: pa.Schema) -> Plan:
        overwrite = self._settings.overwrite
        part_rows = self._folder.begin(key, plan.part_rows, overwrite=overwrite)
        self._plan = plan = Plan(plan.rows, part_rows)
        self._schema = schema
        self._parts = plan.parts
        self.records = self._folder.records(self._parts)
        if self.records:
            say(printable(f"{self.name}: going on: {self._done()} are there"))
        return plan

    def answers(self) -> dict[int, Completion]:
        self._answers = self._folder.answers()
        return dict(self._answers)

    @contextmanager
    def writing(self, part: Part) -> Iterator[Writer]:
        path = self._folder.staged_part(part)
        prefix = self._settings.our_prefix
        try:
            with in_our_words(self.name), open_writer(path, self._schema, prefix) as writer:
                yield writer
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def commit(self, part: Part, record: PartRecord) -> None:
        with in_our_words(self.name):
            self._folder.commit(part, record)
        self.records[part.number] = record

    def suspend(self, answers: dict[int, Completion]) -> None:
        part_of, done = self._plan.part_of, self.records
        kept = {row: answer for row, answer in self._answers.items() if part_of(row) not in done}
        with in_our_words(self.name):
            self._folder.save_answers(kept | answers)
        self._n_answers = len(kept | answers)

    def finish(self, provenance: dict[str, Any], interrupts: Interrupts) -> None:
        files: Iterable[Place] = self._proven(interrupts)
        if self._place.is_local:
            files = list(files)  # all are looked at before any is joined
        with in_our_words(self.name):
            publish(
                self._folder,
                files,
                self._schema,
                provenance,
                overwrite=self._settings.overwrite,
                interrupts=interrupts,
            )
        self._parts = []

    def _proven(self, interrupts: Interrupts) -> Iterator[Place]:
        """The parts as they were written; of a store's a copy that is gone when the next is."""
        for part in self._parts:
            interrupts.check()
            yield self._verified(part)

    def _verified(self, part: Part) -> Place:
        folder, record = self._folder, self.records[part.number]
        try:
            if not self._place.is_local:
                return folder.fetched(part, record)
            folder.verify(part, record)
            return folder.part_place(part)
        except StoreError:
            raise  # the part may be fine
        except (ValueError, OSError) as e:
            if getattr(e, "errno", None) == errno.ENOSPC:  # where a copy of it was to be
                raise
            self._folder.drop(part)
            raise OutputError(
                f"{self.name}: part {part.number} is not what was written; it is dropped. Look "
                "after the disk, and run the same command again: it makes that part anew."
            ) from None

    @property
    def is_begun(self) -> bool:
        """Whether the parts are known, and the output is not whole."""
        return bool(self._parts)

    def say_what_is_kept(self) -> None:
        """Tell how to go on, where something was done and the output is not whole."""
        if self._is_anything_kept():
            where = self._folder.place.name
            done = self._done() if self._parts else "finished parts"
            say(printable(f"{where}: {done} are kept; the same command goes on from there"))

    def _is_anything_kept(self) -> bool:
        try:
            return self._folder.is_worth_keeping()
        except StoreError:  # it is told of already
            return bool(self.records)

    def _done(self) -> str:
        rows = sum(record.rows for record in self.records.values())
        total = sum(len(part.rows) for part in self._parts)
        more = f" and {self._n_answers:,} rows of others" if self._n_answers else ""
        return (
            f"{len(self.records):,} of {len(self._parts):,} parts ({rows:,} of {total:,} rows)"
            f"{more}"
        )


def published(folder: JobFolder, key: dict[str, Any]) -> dict[str, Any] | None:
    """The provenance of an output whose job was stopped when all but its folder was done."""
    if not folder.is_published():
        return None
    try:
        found = read_provenance(folder.output)
    except InputError:
        return None
    if _changes(found, key):
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
    if format_of(place.path) is None:
        raise OutputError(f"{place.name}: no known format; expected {FORMATS}. Rename the output.")
    if place.is_local:
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
    if any(_same(place, file) for file in inputs):
        raise OutputError(f"{place.name}: is an input itself. Choose another output.")
    for written in (place, manifest_of(place)):
        if written.is_folder():
            raise OutputError(
                f"{written.name}: is a folder; expected a file name. Choose another output."
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
        raise _finished(folder.output)
    if manifest.exists() and not folder.is_announced():  # then it may be ours
        raise OutputError(
            f"{manifest.name}: exists already; it would be replaced. Move it away, or pass "
            "--overwrite, or choose another output."
        )


def _finished(place: Place) -> OutputError:
    return OutputError(
        f"{place.name}: exists already; a finished output is kept. Pass --overwrite to replace it, "
        "--resume to take it as done where it is this job's, or choose another name."
    )


def _changes(provenance: dict[str, Any], key: dict[str, Any]) -> str:
    """In what the job that made an output differs from another."""
    try:
        return differences(key_of(provenance), key)
    except (LookupError, TypeError, AttributeError):
        return "it does not say what it was made from"


def _same(place: Place, other: Place) -> bool:
    if place.is_local and other.is_local:
        one, two = Path(place.path), Path(other.path)
        return one.exists() and two.exists() and one.samefile(two)
    return place.path == other.path and bool(place.filesystem.equals(other.filesystem))


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
