"""Shards of a job: which rows each has, and that their merged outputs are the whole job's."""

import json
from itertools import pairwise

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from runner import ExitCode, RunSettings, run
from runner.cli import cli
from runner.errors import InputError, OutputError
from runner.merge import merge
from runner.parts import shard_rows
from runner.storage import shard_name


@given(st.integers(0, 10**9), st.integers(1, 1000))
def test_shards_are_all_rows_once_in_order(n_rows, count):
    shards = [shard_rows(n_rows, (n, count)) for n in range(count)]
    assert shards[0].start == 0
    assert shards[-1].stop == n_rows
    assert all(a.stop == b.start for a, b in pairwise(shards))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_names():
    assert shard_name("a/out.parquet", (1, 4)) == "a/out-00001-of-00004.parquet"
    assert shard_name("out.jsonl.gz", (0, 12)) == "out-00000-of-00012.jsonl.gz"
    assert shard_name("out.jsonl", None) == "out.jsonl"


@pytest.fixture
def prompts(tmp_path):
    rows = [{"n": n, "prompt": f"one two {n % 19}", "x": [n]} for n in range(50)]
    rows[20]["prompt"] = None
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "in.jsonl"


def job(prompts, output, shard=None, **settings):
    settings = {"max_new_tokens": 4, "threads": 1, "check_rows": 2} | settings
    return run(RunSettings(str(prompts), str(prompts.parent / output), shard=shard, **settings))


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl", "out.jsonl.zst"])
@pytest.mark.parametrize("count", [1, 3, 60])
def test_merged_shards_are_the_whole_job(prompts, name, count):
    whole = job(prompts, f"whole-{name}")
    reports = [job(prompts, name, (n, count), part_rows=7 + n) for n in range(count)]
    assert sum(report.rows for report in reports) == 50
    report = merge(str(prompts.parent / name))
    found, expected = prompts.parent / name, prompts.parent / f"whole-{name}"
    if name.endswith("parquet"):
        a, b = pq.read_table(found), pq.read_table(expected)
        assert a.replace_schema_metadata(None).equals(b.replace_schema_metadata(None))
        assert a.schema.equals(b.schema)
    else:
        assert found.read_bytes() == expected.read_bytes()
    for count_name in ("rows", "bad_rows", "prompt_tokens", "completion_tokens", "exit_code"):
        assert getattr(report, count_name) == getattr(whole, count_name)
    assert report.check.rows == sum(r.check.rows for r in reports)
    assert report.provenance["rows"] == [0, 50]
    shown = CliRunner().invoke(cli, ["inspect", str(found)])
    assert shown.exit_code == 0, shown.output
    assert "rows         50, 1 of them bad" in shown.stdout
    assert job(prompts, name, resume=True).rows == 50  # it is what the job would have written


@pytest.fixture
def shards(prompts):
    for n in range(4):
        job(prompts, "out.jsonl", (n, 4))
    return prompts.parent


def refused(shards, message, *files, error=InputError):
    with pytest.raises(error, match=message):
        merge(str(shards / "out.jsonl"), [str(shards / file) for file in files])
    assert not (shards / "out.jsonl").exists()
    assert not (shards / "out.jsonl.parts").exists()


def test_a_shard_that_is_missing(shards):
    (shards / "out-00002-of-00004.jsonl").unlink()
    (shards / "out-00001-of-00004.jsonl").unlink()
    missing = "out-00001-of-00004.jsonl, out-00002-of-00004.jsonl"
    refused(shards, f"2 of 4 shards are missing: {missing}. Run")


def test_a_shard_of_another_job(shards, prompts):
    job(prompts, "out.jsonl", (2, 4), max_new_tokens=3, overwrite=True)
    refused(shards, "out-00002-of-00004.jsonl: is of another job .* max_new_tokens was 4, is 3")
    (shards / "in.jsonl").write_text((shards / "in.jsonl").read_text() + "{}\n")
    job(prompts, "out.jsonl", (2, 4), overwrite=True)
    refused(shards, "out-00002-of-00004.jsonl: is of another job .* has other content")


def test_a_shard_of_another_number_or_twice(shards, prompts):
    job(prompts, "b.jsonl", (0, 3))
    names = [f"out-0000{n}-of-00004.jsonl" for n in range(4)]
    refused(shards, "it is one of 3 shards, not of 4", *names, "b-00000-of-00003.jsonl")
    refused(shards, "is shard 1, as is", *names, names[1])
    job(prompts, "c.jsonl")
    refused(shards, "c.jsonl: is no shard", "c.jsonl")


def test_a_shard_that_was_changed_or_has_lost_its_manifest(shards):
    path = shards / "out-00003-of-00004.jsonl"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"two", b"too"))
    refused(shards, "out-00003-of-00004.jsonl: is not the file that its manifest tells of")
    path.write_bytes(data)
    (shards / "out-00003-of-00004.jsonl.manifest.json").unlink()
    refused(shards, "out-00003-of-00004.jsonl.manifest.json: no such file")


@pytest.mark.parametrize(
    ("name", "value"),
    [(n, None) for n in ("rows", "parts", "counts", "check", "invariance", "elapsed_s")]
    + [("rows", 3), ("parts", []), ("counts", {"rows": "x"}), ("file", 3)],
)
def test_a_manifest_that_is_not_complete(shards, name, value):
    path = shards / "out-00001-of-00004.jsonl.manifest.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {name: value}))
    refused(shards, "its provenance is not complete|is not the file that|is no shard")
    del found[name]
    path.write_text(json.dumps(found))
    refused(shards, "its provenance is not complete|is not the file that|is no shard")


def test_a_verdict_of_a_shard_is_one_of_the_whole(shards):
    path = shards / "out-00001-of-00004.jsonl.manifest.json"
    found = json.loads(path.read_text())
    found["invariance"] |= {"rows": 2, "differing_rows": 1, "differing": ["row 13: another"]}
    path.write_text(json.dumps(found))
    report = merge(str(shards / "out.jsonl"))
    assert report.exit_code == ExitCode.DISAGREES
    assert "row 13: another" in report.summary()


def test_an_output_that_exists_and_none_to_merge(shards, tmp_path):
    (shards / "out.jsonl").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        merge(str(shards / "out.jsonl"))
    assert (shards / "out.jsonl").read_text() == "mine"
    merge(str(shards / "out.jsonl"), overwrite=True)
    with pytest.raises(InputError, match="no shards beside it; expected files such as x-00000-of"):
        merge(str(tmp_path / "x.parquet"))


@pytest.mark.parametrize("shard", ["4/4", "0/0", "-1/2", "a", "1", "1/2/3", "../x", "0x1/2", "٣/4"])
def test_shards_that_are_none(prompts, shard):
    result = CliRunner().invoke(
        cli, ["batch", str(prompts), str(prompts.with_name("o.jsonl")), f"--shard={shard}"]
    )
    assert result.exit_code == 2
    assert "expected" in result.stderr
    assert [path.name for path in prompts.parent.iterdir()] == ["in.jsonl"]
