"""The files of all shards of a job -> the output that one job would have written."""

import datetime as dt
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .check_report import CheckReport
from .errors import InputError
from .folder_access import open_folder
from .interrupts import Interrupts
from .join import reading
from .key import differences, key_of
from .places import Place, place_of
from .provenance import is_as_written, read_manifest
from .publish import check_place, in_our_words, publish, published, refuse_finished
from .report import COUNTS, INCOMPLETE, RunReport, incomplete
from .settings import MOST_SHARDS, Shard
from .shape import fits, is_count, is_text, of_any_name
from .storage import Format, format_of, shard_name, suffix_of

NAMED_MISSING = 5
SHAPE = {
    "key": {"settings": {"shard": (is_count, is_count)}},
    "input": {"files": [{"sha256": is_text, "name": is_text}]},
    "rows": (is_count, is_count),
    "parts": {
        **dict.fromkeys(("count", "rows", "resumed"), is_count),
        "rows_by_processor": of_any_name([(is_count, is_count)]),
    },
    "file": {"bytes": is_count, "sha256": is_text},
    "started": is_text,
    **{name: {} for name in ("settings", "engine", "elapsed_s", "versions")},
}


@dataclass(frozen=True)
class ShardFile:
    """A finished output of a shard, and where it came from."""

    place: Place
    provenance: dict[str, Any]

    @property
    def shard(self) -> Shard:
        found = self.provenance["key"]["settings"]["shard"]
        return int(found[0]), int(found[1])

    def is_complete(self) -> bool:
        """Whether the provenance is that of a shard."""
        if not fits(self.provenance, SHAPE) or not self.provenance["parts"]["rows"]:
            return False
        return self.shard[0] < self.shard[1] <= MOST_SHARDS


def merge(output: str, shards: Sequence[str] = (), *, overwrite: bool = False) -> RunReport:
    """Join the outputs of all shards of a job.

    Parameters
    ----------
    output : str
        What the job would have been called without `--shard`.
    shards : sequence of str
        The files; by default those beside the output that are named after it.
    overwrite : bool
        Replace an output that is there.

    Returns
    -------
    RunReport
        Of all shards, with the exit code that the whole job deserves.

    Raises
    ------
    InputError
        Where a shard is missing, is not of the same job, or is not what was written.
    OutputError
        As for a job.
    """
    place = place_of(output)
    with in_our_words(place.name):
        files = [place_of(shard) for shard in shards] or _named_after(place)
        check_place(place, files)
    with in_our_words(place.name), open_folder(place, suffix_of(place.path)) as folder:
        if not overwrite:
            refuse_finished(folder)
        found = [ShardFile(file, read_manifest(file)) for file in files]
        try:
            found = _in_order(place, found)
            _prove(found)
            report, provenance = _of_all(place, found)
        except INCOMPLETE as e:
            raise incomplete(f"{place.name}: a shard", e) from None
        key = key_of(provenance)
        if (done := published(folder, key)) is not None:
            return RunReport.from_provenance(place.name, done)
        folder.begin(key, provenance["parts"]["rows"], overwrite=overwrite)
        with Interrupts() as interrupts:
            publish(
                folder,
                [file.place for file in found],
                _schema(found),
                provenance,
                overwrite=overwrite,
                interrupts=interrupts,
            )
    return report


def _named_after(output: Place) -> list[Place]:
    """The files beside an output that are shards of it by their names."""
    folder, _, name = output.path.rpartition("/")
    suffix = suffix_of(name)
    stem = re.escape(name.removesuffix(suffix))
    pattern = re.compile(rf"{stem}-\d{{5}}-of-\d{{5}}{re.escape(suffix)}")
    beside = Place(output.name.rpartition("/")[0] or ".", output.filesystem, folder or ".")
    names = [found for found in beside.names() if pattern.fullmatch(found)]
    if not names:
        expected = shard_name(name, (0, 4))
        raise InputError(
            f"{output.name}: no shards beside it; expected files such as {expected}. Name them, or "
            "run the job with --shard."
        )
    return [beside / found for found in names]


def _in_order(output: Place, files: Sequence[ShardFile]) -> list[ShardFile]:
    """Shards by number, all of them, and of one job.

    Raises
    ------
    InputError
        Naming the file that does not belong, or the shards that are missing.
    """
    for file in files:
        if not file.is_complete():
            raise InputError(
                f"{file.place.name}: is no shard; expected the output of a job with --shard. Name "
                "other files."
            )
        key, (_, count) = key_of(file.provenance), file.shard
        changed = differences(key_of(files[0].provenance), key, "shard")
        if count != files[0].shard[1]:
            changed = f"it is one of {count} shards, not of {files[0].shard[1]}"
        if changed:
            raise InputError(
                f"{file.place.name}: is of another job than {files[0].place.name}: {changed}. Run "
                "both with the same settings, model and input."
            )
        if format_of(file.place.path) != format_of(output.path):
            raise InputError(
                f"{file.place.name}: has another format than {output.name}; expected the same. "
                "Choose an output with that ending."
            )
    by_number: dict[int, ShardFile] = {}
    for file in files:
        if (other := by_number.get(file.shard[0])) is not None:
            raise InputError(
                f"{file.place.name}: is shard {file.shard[0]}, as is {other.place.name}; expected "
                "each once. Leave one out."
            )
        by_number[file.shard[0]] = file
    count = files[0].shard[1]
    missing = [n for n in range(count) if n not in by_number]
    if missing:
        name = PurePosixPath(output.path).name
        names = ", ".join(shard_name(name, (n, count)) for n in missing[:NAMED_MISSING])
        more = ", ..." if len(missing) > NAMED_MISSING else ""
        raise InputError(
            f"{output.name}: {len(missing)} of {count} shards are missing: {names}{more}. Run "
            "them, or copy them here."
        )
    return [by_number[n] for n in range(count)]


def _prove(files: Sequence[ShardFile]) -> None:
    """See that files are what was written, and their rows follow each other.

    Raises
    ------
    InputError
        Naming the file that is not.
    """
    row = 0
    for file in files:
        if not is_as_written(file.place, file.provenance):
            raise InputError(
                f"{file.place.name}: is not the file that its manifest tells of; expected it as it "
                "was written. Copy it again from its source, or run that shard again."
            )
        first, stop = file.provenance["rows"]
        if first != row:
            raise InputError(
                f"{file.place.name}: begins at row {first}; expected {row}. Run it again."
            )
        row = stop


def _schema(files: Sequence[ShardFile]) -> pa.Schema | None:
    first = files[0].place
    if format_of(first.path) is not Format.PARQUET:
        return None
    with reading(first), pq.ParquetFile(first.open()) as file:
        return file.schema_arrow


def _of_all(output: Place, files: Sequence[ShardFile]) -> tuple[RunReport, dict[str, Any]]:
    """The report and the provenance of the whole job."""
    reports = [RunReport.from_provenance(file.place.name, file.provenance) for file in files]
    report = RunReport(output.name, check=CheckReport())
    for shard in reports:
        report.check.merge(shard.check)
        report.invariance.merge(shard.invariance)
        report.first_bad_row = report.first_bad_row or shard.first_bad_row
        for name in COUNTS:
            setattr(report, name, getattr(report, name) + getattr(shard, name))
    first = files[0].provenance
    key = first["key"] | {"settings": first["key"]["settings"] | {"shard": None}}
    for file in files:
        for kind, rows in file.provenance["parts"]["rows_by_processor"].items():
            report.rows_by_processor.setdefault(kind, []).extend(rows)
    of_each = ("engine", "cluster", "elapsed_s", "versions")
    elapsed_s: Counter[str] = Counter()
    for file in files:
        elapsed_s.update(file.provenance["elapsed_s"])
    of_all = {name: first[name] for name in first if name not in ("engine", "cluster")}
    report.provenance = of_all | {
        "output": output.name,
        "key": key,
        "settings": first["settings"] | {"shard": None, "output": output.name},
        "rows": [0, files[-1].provenance["rows"][1]],
        "parts": first["parts"]
        | {
            "count": sum(file.provenance["parts"]["count"] for file in files),
            "resumed": sum(file.provenance["parts"]["resumed"] for file in files),
            "rows_by_processor": report.rows_by_processor,
        },
        "counts": {name: getattr(report, name) for name in COUNTS},
        "started": min(file.provenance["started"] for file in files),
        "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "first_bad_row": report.first_bad_row and asdict(report.first_bad_row),
        "elapsed_s": dict(elapsed_s),
        "check": report.check.as_dict(),
        "invariance": report.invariance.as_dict(),
        "shards": [
            {"path": file.place.name, **file.provenance["file"]}
            | {name: file.provenance[name] for name in of_each if name in file.provenance}
            for file in files
        ],
    }
    return report, report.provenance
