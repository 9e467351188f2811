"""What of a job is done, until its output is whole: the folder `OUTPUT.parts`.

A part is a file of finished rows and a record beside it, which is written after it: a part without
a record, or that is not what its record says, is not there. The file is named after its content, so
that a part which two processes do at once, with other bits maybe, is one of both in the end and
never a mixture. `job.json` says what the parts follow from, and each record names that job and its
rows. It is written first, says in the end which file the output will be, and is removed last: at
any instant the folder tells how far the job came.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from reference.progress import say

from .check_report import CheckReport
from .errors import OutputError
from .key import differences
from .messages import printable
from .parts import Known, Part, PartRecord
from .places import Place, sync_folder
from .records import Completion, FinishReason
from .sealed import seal, unseal
from .shape import fits, is_count, is_finite, is_text, is_token
from .store_errors import StoreError

FOLDER_SUFFIX = ".parts"
JOB, ANSWERS, LOCK = "job.json", "answers.json", "lock"
PART = "part-"  # which file, which record
PART_FILE = re.compile(rf"{PART}\d+(-[0-9a-f]+)?\.")  # records too
RECORD = re.compile(rf"{PART}\d+\.json")
STAGED = "tmp-"  # files that are being written
HASHED_BYTES = 1 << 20  # at a time
READERS = 16  # records that are read at a time: a store takes a while for each
NAME_DIGITS = 16  # of a part's hash, in its name
JOB_SHAPE = {"key": {"input": [{}]}, "part_rows": is_count}
ANSWER_SHAPE = (is_count, is_text, [is_token], is_token, is_text, is_finite)
REASONS = {FinishReason.STOP: FinishReason.STOP, FinishReason.LENGTH: FinishReason.LENGTH}


class JobFolder:
    """The folder of one output. Nobody else writes to it meanwhile.

    Parameters
    ----------
    output : Place
        Of the finished file.
    staging : Path
        A folder of this machine for files that are being written; on the same disk, where the
        output is on this machine.
    suffix : str
        Of the parts' files, such as `.parquet`.

    Attributes
    ----------
    name : str
        What tells the job that was begun here from others whose files may have got here.
    """

    def __init__(self, output: Place, staging: Path, suffix: str) -> None:
        self.output = output
        self.place = output.beside(FOLDER_SUFFIX)
        self._staging = staging
        self._suffix = suffix
        self.name = ""
        self._job: dict[str, Any] = {}
        self._mine = secrets.token_hex(4)  # in names of files that are being written
        self._is_gone = False  # from a store

    def begin(self, key: dict[str, Any], part_rows: int, *, overwrite: bool) -> int:
        """Take up the job that was begun here, or begin it.

        Parameters
        ----------
        key : dict
            What the output follows from.
        part_rows : int
            Rows of a part, where nothing was begun.
        overwrite : bool
            Drop what another job left.

        Returns
        -------
        int
            Rows of a part.

        Raises
        ------
        OutputError
            Where another job was begun here, and what it has that this one has not.
        """
        try:
            found = self._read_job()
        except ValueError:
            if not overwrite:
                raise OutputError(
                    f"{self.place.name}/{JOB}: damaged; expected what was written. Pass "
                    "--overwrite to start anew."
                ) from None
            found = None
        changed = differences(found["key"], key) if found is not None else ""
        if changed and not overwrite and self.is_worth_keeping():
            raise OutputError(
                f"{self.place.name}: holds parts of another job: {changed}. Run that job again to "
                "go on with it, or pass --overwrite to start anew, or choose another output."
            )
        if found is not None and not changed:
            self._take_up(found)
            return int(found["part_rows"])
        self._clear()
        self._take_up({"key": key, "part_rows": part_rows})
        self._write(JOB, self._job)
        if self.place.is_local:
            sync_folder(self._staging.parent)  # without it a loss of power takes the folder along
        return part_rows

    def take_part(self, job: str) -> None:
        """Add parts to what another process began.

        Parameters
        ----------
        job : str
            What that process calls it: its `name`.

        Raises
        ------
        ValueError
            Where that job is not here.
        """
        if (found := self._read_job()) is None:
            raise ValueError("is not there")
        self._take_up(found)
        if self.name != job:
            raise ValueError("is of another job")

    def _take_up(self, job: dict[str, Any]) -> None:
        self._job = job
        text = json.dumps([job["key"], job["part_rows"]], sort_keys=True)
        self.name = hashlib.sha256(text.encode()).hexdigest()

    def announce(self, n_bytes: int, sha256: str) -> None:
        """Say which file the output is going to be, before it gets its name."""
        self._job |= {"output": [n_bytes, sha256]}
        self._write(JOB, self._job)

    def is_announced(self) -> bool:
        """Whether the job that was begun here came so far as to give the output its name."""
        try:
            return "output" in (self._read_job() or {})
        except ValueError:
            return False

    def is_published(self) -> bool:
        """Whether the output is there as it was announced: only this folder is left to go."""
        try:
            found = self._read_job() or {}
            if "output" not in found or (self.output.is_local and not self.output.is_file()):
                return False
            return bool([*file_hash(self.output)] == found["output"])
        except StoreError:
            raise  # it may be there: nobody knows
        except (ValueError, OSError):
            return False

    def records(self, parts: Sequence[Part]) -> dict[int, PartRecord]:
        """The records of the parts that are done; what is damaged is said and dropped."""
        present = self.place.listing()
        there = [part for part in parts if self._record_name(part) in present]
        found, kept = {}, set()
        with ThreadPoolExecutor(READERS) as pool:
            read = pool.map(lambda part: self._whole_record(part, present), there)
            for part, record in zip(there, read, strict=True):
                if record is None:
                    told = f"part {part.number} is damaged; its rows are done again"
                    say(f"{self.place.name}: {told}")
                    (self.place / self._record_name(part)).remove()
                    continue
                found[part.number] = record
                kept |= {self._record_name(part), self._part_name(part, record)}
        for name in present:
            if PART_FILE.match(name) and name not in kept:
                self._remove(name)  # of no part that is whole: its room may be needed
        return found

    def _whole_record(self, part: Part, present: Mapping[str, int | None]) -> PartRecord | None:
        """The record of a part; None where it is damaged."""
        try:
            return self._record(part, present)
        except StoreError:
            raise  # the part may be fine
        except (ValueError, TypeError, LookupError, OSError):
            return None

    def _record(self, part: Part, present: Mapping[str, int | None]) -> PartRecord:
        """The record of a part, whose file is among those that are there with their lengths.

        Raises
        ------
        ValueError, TypeError, LookupError
            Where it is damaged, or of another part.
        """
        read = self._read(self._record_name(part)) or {}
        record = PartRecord.from_dict(read["record"])
        if read["of"] != self._name_of(part) or record.rows != len(part.rows):
            raise ValueError("of another part")
        if self.place.is_local:
            self.verify(part, record)
        elif present.get(self._part_name(part, record)) != record.n_bytes:
            raise ValueError("of another length")  # its hash in the end
        return record

    def verify(self, part: Part, record: PartRecord) -> None:
        """See that a part is what was written.

        Raises
        ------
        ValueError
            Where it is not.
        """
        place = self.part_place(part, record)
        if not place.is_plain_file() or file_hash(place) != (record.n_bytes, record.sha256):
            raise ValueError("another file")

    def fetched(self, part: Part, record: PartRecord) -> Place:
        """A local copy of a part that lies in a store, as it was written.

        Raises
        ------
        ValueError
            Where it is not.
        """
        copy = self.stage(f"copy-{part.number:05}{self._suffix}")
        with copy.open("wb") as target:
            if file_hash(self.part_place(part, record), target) != (record.n_bytes, record.sha256):
                raise ValueError("another file")
        return Place.local(copy)

    def stage(self, name: str) -> Path:
        """Where to write a file before it gets its place."""
        return self._staging / f"{STAGED}{self._mine}-{name}"

    def staged_part(self, part: Part) -> Path:
        return self.stage(f"{part.number:05}{self._suffix}")

    def commit(self, part: Part, record: PartRecord) -> None:
        """Make a staged part durable, then its record, which makes it count."""
        record.n_bytes, record.sha256 = file_hash(Place.local(self.staged_part(part)))
        self.part_place(part, record).put(self.staged_part(part))
        self._write(
            self._record_name(part), {"of": self._name_of(part), "record": record.as_dict()}
        )

    def part_place(self, part: Part, record: PartRecord) -> Place:
        return self.place / self._part_name(part, record)

    def drop(self, part: Part, record: PartRecord) -> None:
        """Forget a part."""
        (self.place / self._record_name(part)).remove()
        self.part_place(part, record).remove()

    def save(self, known: Known) -> None:
        """Keep what is known of rows whose part is not done."""
        rows = [
            [row, a.text, a.ids, a.prompt_tokens, a.finish_reason.value, a.logprob]
            for row, a in known.answers.items()
        ]
        checks = [[part, asdict(check)] for part, check in known.checks.items()]
        self._write(ANSWERS, {"of": self.name, "rows": rows, "checks": checks})

    def known(self) -> Known:
        """What was kept of rows whose part is not done."""
        try:
            found = self._read(ANSWERS)
            if found is None:
                return Known()
            if found["of"] != self.name:
                raise ValueError("of another job")  # noqa: TRY301 - as any other damage
            if not fits(found["rows"], [ANSWER_SHAPE]):
                raise ValueError("no answers")  # noqa: TRY301
            answers = {
                row: Completion(text, ids, n, REASONS[reason], logprob)
                for row, text, ids, n, reason, logprob in found["rows"]
            }
            checks = {part: CheckReport.from_dict(check) for part, check in found["checks"]}
            return Known(answers, checks)
        except (ValueError, TypeError, LookupError):
            say(f"{self.place.name}/{ANSWERS}: damaged; its rows are done again")
            return Known()

    def is_worth_keeping(self) -> bool:
        """Whether anything is here that the same job would go on from."""
        if self._is_gone:
            return False
        names = self.place.names()
        done = (name == ANSWERS or RECORD.fullmatch(name) for name in names)
        return JOB in names and (any(done) or self.is_announced())

    def dismiss(self) -> None:
        """Remove all of it: the output is whole, or nothing is worth being kept."""
        if not self.place.is_local:
            self._dismiss_from_store()
            return
        self._clear()
        folder = Path(self.place.path)  # the lock last: who gets it then finds it empty
        (folder / LOCK).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody else's lock
            folder.rmdir()

    def _dismiss_from_store(self) -> None:
        """It is tried once; where that fails the output is no worse for it."""
        if self._is_gone:
            return
        self._is_gone = True
        try:
            self._clear()
        except StoreError as e:
            say(printable(f"{self.place.name}: cannot be removed now: {e}"))

    def _clear(self) -> None:
        names = self.place.names()
        ours = [n for n in names if n == ANSWERS or PART_FILE.match(n) or n.startswith(STAGED)]
        if not self.place.is_local and names and {*ours, JOB} >= {*names}:
            # At one go: it takes fewer requests, and Arrow leaves an empty object for the folder
            # where a file in it is removed alone.
            with contextlib.suppress(StoreError):  # there are stores that cannot do that
                self.place.remove_folder()
                if not self.place.names():
                    return
        for name in ours:
            self._remove(name)
        if JOB in names:
            (self.place / JOB).remove()

    def _remove(self, name: str) -> None:
        with contextlib.suppress(IsADirectoryError):  # the user's
            (self.place / name).remove()

    def _part_name(self, part: Part, record: PartRecord) -> str:
        return f"{PART}{part.number:05}-{record.sha256[:NAME_DIGITS]}{self._suffix}"

    def _record_name(self, part: Part) -> str:
        return f"{PART}{part.number:05}.json"

    def _name_of(self, part: Part) -> list[Any]:
        return [self.name, part.number, part.rows.start, part.rows.stop]

    def _read_job(self) -> dict[str, Any] | None:
        found = self._read(JOB)
        if found is not None and not (fits(found, JOB_SHAPE) and found["part_rows"]):
            raise ValueError("another record")
        return found

    def _read(self, name: str) -> dict[str, Any] | None:
        """What a file says; None where there is none.

        Raises
        ------
        ValueError
            Where it is damaged, or a link or a pipe.
        """
        place = self.place / name
        if place.is_local and os.path.lexists(place.path) and not place.is_plain_file():
            raise ValueError("no file")
        try:
            return unseal(place.read_bytes(sealed=True))
        except FileNotFoundError:
            return None

    def _write(self, name: str, found: dict[str, Any]) -> None:
        self._is_gone = False
        staged = self.stage(name)
        staged.write_bytes(seal(found))
        (self.place / name).put(staged)


def file_hash(place: Place, copy: IO[bytes] | None = None) -> tuple[int, str]:
    """A file's length and SHA-256; on the way it can be copied."""
    digest, n_bytes = hashlib.sha256(), 0
    with place.open() as stream:
        while data := stream.read(HASHED_BYTES):
            digest.update(data)
            n_bytes += len(data)
            if copy is not None:
                copy.write(data)
    return n_bytes, digest.hexdigest()
