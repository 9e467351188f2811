"""A job for a cluster and for one machine, and what has to be alike."""

import gzip
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from runner import ExitCode, RunSettings, run

SETTINGS = {"max_new_tokens": 6, "part_rows": 9, "check_rows": 2}
N_ROWS, N_PARTS = 60, 7


def rows_of(n_rows: int) -> list[dict]:
    """Rows to complete: some are bad, some prompts come again."""
    words = ["The capital of France is", "one two", "Monday, Tuesday,", "3 + 4 =", ""]
    rows = [{"n": n, "prompt": f"{words[n % 5]} {n % 23}"} for n in range(n_rows)]
    for n in range(5, n_rows, 29):
        rows[n]["prompt"] = 7
    return rows


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def data_hash(path: Path) -> str:
    """SHA-256 of an output: of its bytes, of a Parquet file those of its columns."""
    if path.suffix == ".parquet":
        table = pq.read_table(path).replace_schema_metadata(None).combine_chunks()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return hashlib.sha256(sink.getvalue()).hexdigest()
    data = path.read_bytes()
    return hashlib.sha256(gzip.decompress(data) if path.suffix == ".gz" else data).hexdigest()


def on_ray(source, output, **settings):
    """A job on the cluster that this process is connected to."""
    return run(RunSettings(str(source), str(output), engine="ray", **(SETTINGS | settings)))


def here(source, output, **settings):
    """The same job in this process."""
    return run(RunSettings(str(source), str(output), threads=1, **(SETTINGS | settings)))


def see_that_all_is_there(report, output, expected):
    """No row is lost, none is there twice, and what was begun in vain is put away."""
    assert data_hash(output) == expected
    assert report.rows == N_ROWS
    assert report.exit_code == ExitCode.BAD_ROWS  # of the input
    assert not output.with_name(f"{output.name}.parts").exists()
    counts = report.cluster
    more = counts["failures"] + counts["losses"] + counts["spares"]
    assert counts["attempts"] == N_PARTS - report.resumed_parts + more


def times_of_parts(output):
    """When the files of parts were written, by name."""
    folder = output.with_name(f"{output.name}.parts")
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")}
