"""Where finished rows go: into a file that appears when it is whole, or down a pipe."""

import errno
import shutil
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from reference.progress import say

from .commit import Committer, FolderCommitter
from .errors import OutputError
from .folder_access import open_folder
from .interrupts import Interrupts
from .job_folder import JobFolder
from .messages import printable
from .parts import Known, Part, PartRecord, Plan
from .places import STDIO, Place, place_of
from .provenance import is_as_written, read_manifest
from .publish import (
    changes_since,
    check_place,
    in_our_words,
    kept_error,
    publish,
    published,
    refuse_finished,
)
from .settings import RunSettings
from .storage import (
    Format,
    format_of,
    least_output_bytes,
    shard_name,
    suffix_of,
)
from .store_errors import StoreError
from .writer import JsonlWriter, Writer

FETCHED_AHEAD = 8  # parts of a store on this disk


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

    def known(self) -> Known:
        """What is known of rows whose part is not done."""

    @property
    def committer(self) -> Committer:
        """Where this process puts the parts that it does."""

    def count(self, part: Part, record: PartRecord) -> None:
        """Know of a part that is committed."""

    def shared(self) -> tuple[Place, str]:
        """Where other processes put parts, and what the job is called there."""

    def suspend(self, known: Known) -> None:
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
        output = FileOutput(settings, folder.output, folder)
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

    def known(self) -> Known:
        return Known()

    @property
    def committer(self) -> Committer:
        return self

    @contextmanager
    def writing(self, part: Part) -> Iterator[Writer]:  # noqa: ARG002
        yield JsonlWriter(sys.stdout.buffer, self._prefix)

    def commit(self, part: Part, record: PartRecord) -> None:
        pass

    def count(self, part: Part, record: PartRecord) -> None:
        self.records[part.number] = record

    def shared(self) -> tuple[Place, str]:
        raise AssertionError("nobody else writes to our stdout")

    def suspend(self, known: Known) -> None:
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
        self._known = Known()  # by an earlier run
        self._n_answers = 0  # of rows whose part is not done

    def finished(self, key: dict[str, Any]) -> dict[str, Any] | None:
        if (found := published(self._folder, key)) is not None:
            return found
        if self._settings.overwrite or not self._place.exists():
            return None
        if not self._settings.resume:
            raise kept_error(self._place)
        found = read_manifest(self._place)
        if changed := changes_since(found, key):
            raise OutputError(
                f"{self.name}: is the output of another job: {changed}. Choose another name, or "
                "pass --overwrite to replace it."
            )
        if not is_as_written(self._place, found):
            raise OutputError(
                f"{self.name}: is not the file that its manifest tells of; expected it as it was "
                "written. Copy it again from its source, or pass --overwrite to make it again."
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

    def known(self) -> Known:
        known = self._folder.known()
        self._known = Known(dict(known.answers), known.checks)
        return known

    @property
    def committer(self) -> Committer:
        return FolderCommitter(self.name, self._folder, self._schema, self._settings.our_prefix)

    def count(self, part: Part, record: PartRecord) -> None:
        self.records[part.number] = record

    def shared(self) -> tuple[Place, str]:
        return self._folder.output, self._folder.name

    def suspend(self, known: Known) -> None:
        part_of, done = self._plan.part_of, self.records
        before = self._known.answers.items()
        known.answers = {row: a for row, a in before if part_of(row) not in done} | known.answers
        with in_our_words(self.name):
            self._folder.save(known)
        self._n_answers = len(known.answers)

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
        """The parts as they were written; of a store's copies, some of which are made ahead."""
        if self._place.is_local:
            for part in self._parts:
                interrupts.check()
                yield self._verified(part)
            return
        with ThreadPoolExecutor(FETCHED_AHEAD) as pool:
            parts = iter(self._parts)
            coming = deque(pool.submit(self._verified, p) for p in islice(parts, FETCHED_AHEAD))
            try:
                while coming:
                    interrupts.check()
                    copy = coming.popleft().result()
                    coming.extend(pool.submit(self._verified, p) for p in islice(parts, 1))
                    yield copy
                    copy.remove()
            finally:
                for left in coming:
                    left.cancel()

    def _verified(self, part: Part) -> Place:
        folder, record = self._folder, self.records[part.number]
        try:
            if not self._place.is_local:
                return folder.fetched(part, record)
            folder.verify(part, record)
            return folder.part_place(part, record)
        except StoreError:
            raise  # the part may be fine
        except (ValueError, OSError) as e:
            if getattr(e, "errno", None) == errno.ENOSPC:  # where a copy of it was to be
                raise
            self._folder.drop(part, record)
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
