"""Names of files: the formats they stand for, and those of shards and manifests."""

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import PurePosixPath

from .places import STDIO, Place, without_options
from .settings import RunSettings, Shard

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
FORMATS = ".parquet, .jsonl, .jsonl.gz or .jsonl.zst, or - for JSONL on a pipe"
MANIFEST_SUFFIX = ".manifest.json"
SUFFIX = re.compile(r"(\.parquet|\.(?:jsonl|ndjson)(?:\.gz|\.zst)?)\Z", re.IGNORECASE)

JSON_ROW_BYTES = 120  # of the columns that a job adds: their names alone take most of it
PARQUET_ROW_BYTES = 4  # of the same, compressed


class Format(StrEnum):
    PARQUET = "parquet"
    JSONL = "jsonl"


def suffix_of(path: str) -> str:
    """What of a path's name says its format; empty where nothing does that we know."""
    found = SUFFIX.search(path)
    return found[0] if found else ""


def format_of(path: str) -> Format | None:
    """The format that a path's name stands for; None where it stands for none that we know."""
    if path == STDIO:
        return Format.JSONL
    suffix = suffix_of(path).lower()
    if not suffix:
        return None
    return Format.PARQUET if suffix == ".parquet" else Format.JSONL


def shard_name(path: str, shard: Shard | None) -> str:
    """The file of a shard: `out.parquet`, 0 of 4 -> `out-00000-of-00004.parquet`."""
    if shard is None or path == STDIO:
        return path
    address, options = without_options(path)
    suffix = suffix_of(address)
    return f"{address.removesuffix(suffix)}-{shard[0]:05}-of-{shard[1]:05}{suffix}{options}"


def manifest_of(output: Place) -> Place:
    """Where the provenance lies beside an output; of a link maybe beside what it leads to."""
    beside = output.beside(MANIFEST_SUFFIX)
    if output.is_link and not beside.exists():
        return output.resolved().beside(MANIFEST_SUFFIX)
    return beside


def least_output_bytes(
    settings: RunSettings, inputs: Sequence[Place], n_rows: int, n_all_rows: int
) -> int:
    """What an output takes at the very least, so that no job is refused that would fit."""
    plain = {".jsonl", ".ndjson"}
    suffixes = {PurePosixPath(file.path).suffix for file in inputs}
    if n_rows == n_all_rows and suffixes <= plain and suffix_of(settings.output) in plain:
        return sum(file.n_bytes() for file in inputs) + n_rows * JSON_ROW_BYTES
    return n_rows * PARQUET_ROW_BYTES
