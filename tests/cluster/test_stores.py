"""A cluster between object stores: a server of loopback, which is not ours."""

import os
import signal

import pytest
from pyarrow import fs

from tests.cluster.haunted import GATES, PATIENCE_S, wait_until
from tests.cluster.jobs import data_hash, here, on_ray, rows_of, write_jsonl
from tests.cluster.test_failures import FULL_DISK, seen_dispatches


@pytest.fixture
def bucket(nodes, moto, monkeypatch, tmp_path):
    """An empty bucket, and a job with its input there."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in moto.items():
        monkeypatch.setenv(name, value)
    found = fs.S3FileSystem(
        endpoint_override=moto["AWS_ENDPOINT_URL"].removeprefix("http://"),
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
        allow_bucket_deletion=True,
    )
    found.create_dir("cluster")
    source = write_jsonl(tmp_path / "in.jsonl.gz", rows_of(60))
    with found.open_output_stream("cluster/in.jsonl.gz", compression=None) as stream:
        stream.write(source.read_bytes())
    yield found
    found.delete_dir("cluster")


def fetched(bucket, name, path):
    with bucket.open_input_file(f"cluster/{name}") as stream:
        path.write_bytes(stream.read())
    return path


def names(bucket):
    selector = fs.FileSelector("cluster", recursive=True)
    return sorted(info.base_name for info in bucket.get_file_info(selector))


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl"])
def test_from_a_store_to_a_store(bucket, begin, nodes, gate, tmp_path, name):
    """A process is killed meanwhile."""
    here(tmp_path / "in.jsonl.gz", tmp_path / f"one-{name}")
    gate.build(nodes, range(3), list(GATES)[name == "out.jsonl"])
    nodes.wake()
    running = begin(on_ray, "s3://cluster/in.jsonl.gz", f"s3://cluster/{name}")
    wait_until(lambda: running.done() or len(gate.waiting()) == 3)
    os.kill(gate.waiting()[1][2], signal.SIGKILL)
    gate.open()
    report = running.result(PATIENCE_S)
    assert (report.rows, report.cluster["failures"]) == (60, 1)
    assert data_hash(fetched(bucket, name, tmp_path / name)) == data_hash(tmp_path / f"one-{name}")
    assert names(bucket) == sorted(["in.jsonl.gz", name, f"{name}.manifest.json"])


NO_ROOM = """
import errno

class Full:
    def __getattr__(self, name):
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/picobatch-1")

tempfile = Full()
"""


def test_full_disks_for_temporary_files(bucket, begin, nodes, gate, tmp_path, monkeypatch):
    """Of two nodes; no other needs room there."""
    here(tmp_path / "in.jsonl.gz", tmp_path / "one.jsonl")
    nodes.haunt(1, "runner.job_folder", FULL_DISK.format(suffix=".jsonl"))
    nodes.haunt(2, "runner.folder_access", NO_ROOM)
    gate.build(nodes, [0], "rows are written")
    nodes.wake()
    made = seen_dispatches(monkeypatch)
    running = begin(on_ray, "s3://cluster/in.jsonl.gz", "s3://cluster/out.jsonl")
    wait_until(lambda: running.done() or (made and len(made[0].excluded) == 2))
    gate.open()
    report = running.result(PATIENCE_S)
    assert report.failed == []
    excluded = report.cluster["excluded"]
    assert "its disk for temporary files is full; expected room for a part" in excluded.pop(
        nodes.name(1)
    )
    [(name, why)] = excluded.items()
    assert name == nodes.name(2)
    assert "s3://cluster/out.jsonl: No space left on device; expected room for a part" in why
    assert "set TMPDIR" in why
    path = fetched(bucket, "out.jsonl", tmp_path / "out.jsonl")
    assert data_hash(path) == data_hash(tmp_path / "one.jsonl")
