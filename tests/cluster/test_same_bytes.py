"""A job on a cluster writes what it writes on one machine."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reference import PicobatchError
from runner import ExitCode
from runner.errors import OutputError, SettingsError, StopError
from runner.merge import merge
from runner.output import FileOutput
from runner.places import Place
from runner.processor import processor
from runner.provenance import read_provenance
from tests.cluster.jobs import data_hash, here, on_ray, rows_of, write_jsonl

SAME = ("rows", "bad_rows", "prompt_tokens", "completion_tokens", "first_bad_row", "exit_code")


def compare(source, one, many, **settings):
    """Both ways; the reports."""
    expected, found = here(source, one, **settings), on_ray(source, many, **settings)
    assert data_hash(many) == data_hash(one)
    for name in SAME:
        assert getattr(found, name) == getattr(expected, name)
    assert not many.with_name(f"{many.name}.parts").exists()
    return expected, found


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.jsonl.zst", "out.parquet"])
def test_every_format(nodes, tmp_path, name):
    source = write_jsonl(tmp_path / "in.jsonl", rows_of(60))
    _, found = compare(source, tmp_path / f"one-{name}", tmp_path / name)
    assert found.exit_code == ExitCode.BAD_ROWS
    assert (found.parts, found.resumed_parts) == (7, 0)
    assert found.cluster["nodes"] == found.cluster["tasks_at_a_time"] == 3


def test_files_of_several_kinds_as_one_input(nodes, tmp_path):
    folder = tmp_path / "inputs"
    folder.mkdir()
    rows = rows_of(50)
    write_jsonl(folder / "a.jsonl", rows[:20])
    write_jsonl(folder / "b.jsonl.gz", rows[20:33])
    write_jsonl(folder / "c.jsonl", rows[33:])
    compare(folder, tmp_path / "one.parquet", tmp_path / "many.parquet")


def test_parquet_and_columns_of_the_user(nodes, tmp_path):
    source = tmp_path / "in.parquet"
    table = pa.table(
        {
            "n": range(40),
            "text": [f"{n % 17} two" for n in range(40)],
            "max_new_tokens": [n % 6 for n in range(40)],
        }
    )
    pq.write_table(table, source, row_group_size=11)
    settings = {"prompt_column": "text", "column_prefix": "our_", "stop": ("a", "e")}
    compare(source, tmp_path / "one.parquet", tmp_path / "many.parquet", **settings)


@pytest.mark.parametrize("part_rows", [1, 1000])
def test_parts_of_any_length(nodes, tmp_path, part_rows):
    source = write_jsonl(tmp_path / "in.jsonl", rows_of(12))
    compare(source, tmp_path / "one.jsonl", tmp_path / "many.jsonl", part_rows=part_rows)


def test_no_rows(nodes, tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", [])
    compare(source, tmp_path / "one.jsonl", tmp_path / "many.jsonl")


def test_int8(nodes, tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", rows_of(40))
    compare(source, tmp_path / "one.jsonl", tmp_path / "many.jsonl", dtype="int8")


def test_requests_of_openai(nodes, tmp_path):
    body = {"model": "demo", "temperature": 0}
    rows = [
        {
            "custom_id": f"row-{n}",
            "method": "POST",
            "url": "/v1/completions",
            "body": body | {"prompt": f"{n} plus", "max_tokens": 1 + n % 5},
        }
        for n in range(30)
    ]
    source = write_jsonl(tmp_path / "in.jsonl", [*rows, {"custom_id": "bad"}])
    _, found = compare(source, tmp_path / "one.jsonl", tmp_path / "many.jsonl", format="openai")
    assert found.bad_rows == 1


def test_what_is_checked_is_what_was_asked_for(nodes, tmp_path):
    """Rows are chosen over all parts, not in each."""
    rows = [{"prompt": f"{n} and so on"} for n in range(60)]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    settings = {"check_rows": 11, "check_invariance": 7, "part_rows": 4, "seed": 3}
    expected, found = compare(source, tmp_path / "one.jsonl", tmp_path / "many.jsonl", **settings)
    assert (found.check.rows, found.invariance.rows) == (11, 7)
    assert found.check.positions == expected.check.positions
    assert found.check.agrees
    assert found.invariance.agrees
    assert "invariance: " in found.summary()


def test_where_the_output_came_from(nodes, tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", rows_of(30))
    for name in ("out.jsonl", "out.parquet"):
        report = on_ray(source, tmp_path / name)
        found = read_provenance(Place.local(tmp_path / name))
        found.pop("file", None)
        assert found == json.loads(json.dumps(report.provenance))
        assert found["settings"]["engine"] == "ray"
        assert found["parts"]["count"] == 4
        assert found["parts"]["rows_by_processor"] == {processor(): [[0, 30]]}
        assert found["engine"]["generated_tokens"] > 0
        assert found["cluster"] == report.cluster
        assert found["cluster"]["nodes"] == 3
        assert found["cluster"]["attempts"] >= 4
        assert found["cluster"]["failures"] == found["cluster"]["losses"] == 0
        assert found["cluster"]["excluded"] == {}


def test_shards(nodes, tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", rows_of(40))
    here(source, tmp_path / "one.jsonl")
    for number in range(3):
        on_ray(source, tmp_path / "many.jsonl", shard=(number, 3), part_rows=5)
    merge(str(tmp_path / "many.jsonl"), ())
    assert data_hash(tmp_path / "many.jsonl") == data_hash(tmp_path / "one.jsonl")


def test_a_finished_output_is_kept_or_taken_as_done_or_replaced(nodes, tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", rows_of(20))
    output = tmp_path / "out.jsonl"
    first = here(source, output)
    written = output.stat().st_mtime_ns
    with pytest.raises(OutputError, match="exists already; a finished output is kept"):
        on_ray(source, output)
    again = on_ray(source, output, resume=True)
    assert (again.rows, again.exit_code) == (first.rows, first.exit_code)
    assert output.stat().st_mtime_ns == written
    on_ray(source, output, overwrite=True, max_new_tokens=2)
    here(source, tmp_path / "one.jsonl", max_new_tokens=2)
    assert data_hash(output) == data_hash(tmp_path / "one.jsonl")


def test_a_job_goes_on_from_one_machine_to_many_and_back(nodes, tmp_path, monkeypatch):
    """Parts are parts, whoever did them."""
    source = write_jsonl(tmp_path / "in.jsonl", rows_of(60))
    here(source, tmp_path / "one.jsonl")
    output = tmp_path / "many.jsonl"
    original, n_counted = FileOutput.count, 0

    def count(self, part, record):
        nonlocal n_counted
        original(self, part, record)
        n_counted += 1
        if n_counted in (2, 4):
            raise KeyboardInterrupt

    monkeypatch.setattr(FileOutput, "count", count)
    for engine in (here, on_ray):
        with pytest.raises(KeyboardInterrupt):
            engine(source, output)
    assert here(source, output).resumed_parts >= 4
    assert data_hash(output) == data_hash(tmp_path / "one.jsonl")


def test_a_bad_row_under_fail_stops_the_job_and_is_named(nodes, tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", rows_of(60))
    with pytest.raises(StopError, match=r"in.jsonl:6: .*expected .*--on-error"):
        on_ray(source, tmp_path / "out.jsonl", on_error="fail", part_rows=3)
    assert not (tmp_path / "out.jsonl").exists()
    with pytest.raises(PicobatchError, match=r"in.jsonl:6: "):  # with the parts that are kept
        on_ray(source, tmp_path / "out.jsonl", on_error="fail", part_rows=3)


def test_standard_input_and_a_pipe(nodes, tmp_path, monkeypatch):
    source = write_jsonl(tmp_path / "in.jsonl", rows_of(20))
    here(source, tmp_path / "one.jsonl")
    with pytest.raises(SettingsError, match="output is -; expected a file"):
        on_ray(source, "-")
    with source.open() as stream, monkeypatch.context() as patch:
        patch.setattr("sys.stdin", stream)
        on_ray("-", tmp_path / "many.jsonl")
    assert data_hash(tmp_path / "many.jsonl") == data_hash(tmp_path / "one.jsonl")
