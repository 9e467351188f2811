"""Whole jobs: every format in and out, settings, columns, provenance."""

import datetime as dt
import decimal
import gzip
import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reference import Tokenizer
from runner import ExitCode, RunSettings, SettingsError, run
from runner.records import OUTPUT_SCHEMA

PROMPTS = ["The capital of France is", "3 + 4 =", "", "The opposite of hot is", "Monday, Tuesday,"]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return str(path)


def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text().splitlines()]


def job(source, output, **settings):
    settings = {"max_new_tokens": 6, "check_rows": 2, "threads": 1} | settings
    return run(RunSettings(str(source), str(output), **settings))


@pytest.fixture
def prompts(tmp_path):
    return write_jsonl(
        tmp_path / "in.jsonl", [{"id": i, "prompt": p} for i, p in enumerate(PROMPTS)]
    )


@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet", "in.jsonl.gz", "in.jsonl.zst"])
@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet"])
def test_every_format_into_every_other(tmp_path, demo, oracle, source, output):
    table = pa.table({"id": range(len(PROMPTS)), "prompt": PROMPTS})
    lines = "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()
    if source.endswith(".parquet"):
        pq.write_table(table, tmp_path / source)
    elif source.endswith(".zst"):
        (tmp_path / source).write_bytes(pa.compress(lines, "zstd", asbytes=True))
    else:
        (tmp_path / source).write_bytes(gzip.compress(lines) if source.endswith("gz") else lines)
    report = job(tmp_path / source, tmp_path / output)
    rows = read(tmp_path / output)
    assert report.exit_code == ExitCode.DONE
    assert [row["id"] for row in rows] == list(range(len(PROMPTS)))
    for row, prompt in zip(rows, PROMPTS, strict=True):
        ids = demo.tokenizer.encode(prompt) or [demo.tokenizer.eos_id]
        assert row["completion_ids"] == oracle(ids, 6)
        assert row["completion"] == demo.tokenizer.decode(row["completion_ids"])
        assert row["prompt_tokens"] == len(ids)
        assert row["completion_tokens"] == len(row["completion_ids"])
        assert row["finish_reason"] == ("length" if row["completion_tokens"] == 6 else "stop")
        assert row["logprob"] <= 0
        assert row["error"] is None
    assert list(rows[0]) == ["id", "prompt", *OUTPUT_SCHEMA.names]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_output(tmp_path, prompts, suffix):
    job(prompts, tmp_path / f"out.jsonl{suffix}")
    job(prompts, tmp_path / "out.jsonl")
    with pa.input_stream(str(tmp_path / f"out.jsonl{suffix}"), compression="detect") as stream:
        assert stream.read() == (tmp_path / "out.jsonl").read_bytes()


def test_logprob_is_that_of_the_reference(tmp_path, prompts, demo):
    from reference import gpt2

    job(prompts, tmp_path / "out.jsonl")
    row = read(tmp_path / "out.jsonl")[0]
    ids = demo.tokenizer.encode(row["prompt"])
    both = np.array(ids + row["completion_ids"])
    logits = gpt2(both, **demo.params, n_head=demo.hparams["n_head"]).astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    chosen = logprobs[np.arange(len(ids) - 1, len(both) - 1), row["completion_ids"]]
    assert row["logprob"] == pytest.approx(chosen.sum(), abs=1e-4)


def test_parquet_columns_and_types_are_kept(tmp_path):
    rich = pa.table(
        {
            "when": pa.array(
                [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)] * 3, pa.timestamp("us", "UTC")
            ),
            "price": pa.array([decimal.Decimal("1.25")] * 3, pa.decimal128(9, 2)),
            "tags": pa.array([["a"], [], None]),
            "nested": pa.array([{"x": 1, "y": ["b"]}, None, {"x": None, "y": None}]),
            "kind": pa.array(["u", "v", "u"]).dictionary_encode(),
            "nothing": pa.nulls(3),
            "raw": pa.array([b"\xff\x00", b"", None], pa.binary()),
            "prompt": pa.array(["3 + 4 =", "one", "two"], pa.large_string()),
            "small": pa.array([1, None, 3], pa.int8()),
        }
    ).replace_schema_metadata({"owner": "us"})
    pq.write_table(rich, tmp_path / "in.parquet")
    job(tmp_path / "in.parquet", tmp_path / "out.parquet", max_new_tokens=2)
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.select(rich.column_names).equals(rich)
    assert found.schema.field("kind").type == rich.schema.field("kind").type
    assert found.schema.metadata[b"owner"] == b"us"
    assert found.schema.names[len(rich.schema) :] == OUTPUT_SCHEMA.names
    assert [found.schema.field(f.name).type for f in OUTPUT_SCHEMA] == OUTPUT_SCHEMA.types
    # The same rows as JSON: what JSON has no form for becomes text.
    job(tmp_path / "in.parquet", tmp_path / "out.jsonl", max_new_tokens=2)
    first = read(tmp_path / "out.jsonl")[0]
    assert first["when"] == "2026-01-01T00:00:00+00:00"
    assert first["price"] == "1.25"
    assert first["nested"] == {"x": 1, "y": ["b"]}


def test_json_is_kept_to_the_letter(tmp_path):
    line = '{"n": 1.50, "big": 123456789012345678901234567890, "prompt":"\\u0041", "z": [1,  2]}'
    (tmp_path / "in.jsonl").write_text(f"\ufeff{line}\r\n\r\n{line}  ", encoding="utf-8")
    job(tmp_path / "in.jsonl", tmp_path / "out.jsonl", max_new_tokens=1)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert all(found.startswith(line[:-1] + ', "completion": ') for found in lines)


def test_types_of_json_columns_are_found_over_the_whole_file(tmp_path):
    rows = [{"prompt": "one", "x": 1}] * 5000 + [{"prompt": "two", "x": 2.5, "late": {"y": [1]}}]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    job(source, tmp_path / "out.parquet", max_new_tokens=0, check_rows=0)
    schema = pq.read_schema(tmp_path / "out.parquet")
    assert schema.field("x").type == pa.float64()
    assert schema.field("late").type == pa.struct({"y": pa.list_(pa.int64())})
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 5001


def test_token_ids_as_prompts(tmp_path, demo):
    ids = demo.tokenizer.encode("The capital of France is")
    for kind in (pa.list_(pa.int64()), pa.large_list(pa.int16()), pa.list_(pa.int32(), len(ids))):
        pq.write_table(pa.table({"tokens": pa.array([ids], kind)}), tmp_path / "in.parquet")
        job(tmp_path / "in.parquet", tmp_path / "o.jsonl", prompt_column="tokens", overwrite=True)
        assert read(tmp_path / "o.jsonl")[0]["completion"] == " Paris."


def test_a_column_overrides_max_new_tokens(tmp_path):
    rows = [{"prompt": "3 + 4 =", "max_new_tokens": n} for n in (0, 1, None, 2)]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    for output in ("out.jsonl", "out.parquet"):
        job(source, tmp_path / output, ignore_eos=True, max_new_tokens=3, check_rows=None)
        found = read(tmp_path / output)
        assert [row["completion_tokens"] for row in found] == [0, 1, 3, 2]
        assert found[0]["completion"] == ""
        assert found[0]["logprob"] == 0


def test_end_of_text_stops_unless_it_is_ignored(tmp_path, prompts, demo):
    job(prompts, tmp_path / "a.jsonl", max_new_tokens=20)
    job(prompts, tmp_path / "b.jsonl", max_new_tokens=20, ignore_eos=True)
    stopped, went_on = read(tmp_path / "a.jsonl")[0], read(tmp_path / "b.jsonl")[0]
    assert stopped["finish_reason"] == "stop"
    assert demo.tokenizer.eos_id not in stopped["completion_ids"]
    n = stopped["completion_tokens"]
    assert went_on["completion_ids"][: n + 1] == [*stopped["completion_ids"], demo.tokenizer.eos_id]
    assert went_on["completion_tokens"] == 20


@pytest.mark.parametrize(
    ("stop", "text"), [("ris", " Pa"), ("Par", " "), (" ", ""), (".", " Paris"), ("zzz", " Paris.")]
)
def test_a_stop_text_ends_the_completion_before_it(tmp_path, prompts, stop, text):
    job(prompts, tmp_path / "out.jsonl", stop=("qqq", stop))
    row = read(tmp_path / "out.jsonl")[0]
    assert row["completion"] == text
    assert row["finish_reason"] == "stop"


def test_generation_ends_where_the_context_does(tmp_path, demo, oracle):
    n_ctx = demo.hparams["n_ctx"]
    word = demo.tokenizer.encode(" one")[:1]
    rows = [{"prompt": word * n} for n in (n_ctx - 1, n_ctx - 3, 1)]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    report = job(source, tmp_path / "o.jsonl", max_new_tokens=9, ignore_eos=True, check_rows=None)
    found = read(tmp_path / "o.jsonl")
    assert [row["completion_tokens"] for row in found] == [1, 3, 9]
    assert {row["finish_reason"] for row in found} == {"length"}
    assert report.check.positions == 13
    assert report.check.agrees


def test_a_prompt_too_long_is_bad_unless_it_is_cut(tmp_path, demo):
    n_ctx = demo.hparams["n_ctx"]
    ids = list(range(300, 300 + n_ctx))
    source = write_jsonl(tmp_path / "in.jsonl", [{"prompt": ids}])
    report = job(source, tmp_path / "o.jsonl")
    assert report.exit_code == ExitCode.BAD_ROWS
    assert "256 tokens; expected at most 255" in read(tmp_path / "o.jsonl")[0]["error"]
    report = job(source, tmp_path / "o.jsonl", truncate_prompt="left", overwrite=True)
    assert read(tmp_path / "o.jsonl")[0]["prompt_tokens"] == n_ctx - 6
    source = write_jsonl(tmp_path / "kept.jsonl", [{"prompt": ids[6:]}])
    job(source, tmp_path / "kept-out.jsonl")
    kept = read(tmp_path / "kept-out.jsonl")[0]["completion_ids"]
    assert read(tmp_path / "o.jsonl")[0]["completion_ids"] == kept


def test_limit_takes_the_first_rows(tmp_path, prompts):
    for output in ("out.jsonl", "out.parquet"):
        report = job(prompts, tmp_path / output, limit=2)
        assert report.rows == 2
        assert [row["id"] for row in read(tmp_path / output)] == [0, 1]
    job(tmp_path / "out.parquet", tmp_path / "again.jsonl", limit=1, column_prefix="second_")
    assert len(read(tmp_path / "again.jsonl")) == 1


def test_more_rows_than_a_chunk_keep_their_order(tmp_path):
    rows = [{"n": n, "prompt": "one two three" * (n % 40 + 1)} for n in range(2500)]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    report = job(source, tmp_path / "out.parquet", max_new_tokens=0)
    assert [row["n"] for row in read(tmp_path / "out.parquet")] == list(range(2500))
    assert report.rows == 2500
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 1


def test_row_groups_are_written_as_they_fill(tmp_path, monkeypatch):
    monkeypatch.setattr("runner.writer.ROW_GROUP_ROWS", 2000)
    rows = [{"n": n, "prompt": "one"} for n in range(5000)]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    job(source, tmp_path / "out.parquet", max_new_tokens=0)
    with pq.ParquetFile(tmp_path / "out.parquet") as file:
        sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert sizes == [2048, 2048, 904]
    assert [row["n"] for row in read(tmp_path / "out.parquet")] == list(range(5000))


def test_tiny_row_groups_are_generated_together(tmp_path, monkeypatch):
    from runner import rows

    table = pa.table({"n": range(300), "prompt": ["one two"] * 300})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=7)
    sizes = []
    original = rows.chunked
    monkeypatch.setattr(
        "runner.parquet_source.chunked",
        lambda *a, **k: (sizes.append(len(c)) or c for c in original(*a, **k)),
    )
    job(tmp_path / "in.parquet", tmp_path / "out.parquet", max_new_tokens=1, limit=290)
    assert sizes == [42]  # row groups, all in one chunk
    assert [row["n"] for row in read(tmp_path / "out.parquet")] == list(range(290))
    job(tmp_path / "in.parquet", tmp_path / "out.jsonl", max_new_tokens=1)
    assert [row["n"] for row in read(tmp_path / "out.jsonl")] == list(range(300))


@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet"])
def test_no_rows_make_an_output_without_rows(tmp_path, output):
    (tmp_path / "in.jsonl").write_text("\n\n")
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / "in.parquet")
    for source in ("in.jsonl", "in.parquet"):
        report = job(tmp_path / source, tmp_path / output, overwrite=True)
        assert report.exit_code == ExitCode.DONE
        assert read(tmp_path / output) == []


def test_provenance_in_footer_and_manifest(tmp_path, prompts, demo):
    report = job(prompts, tmp_path / "out.parquet")
    footer = json.loads(pq.read_metadata(tmp_path / "out.parquet").metadata[b"picobatch"])
    manifest = json.loads((tmp_path / "out.parquet.manifest.json").read_text())
    written = (tmp_path / "out.parquet").read_bytes()
    file = {"bytes": len(written), "sha256": hashlib.sha256(written).hexdigest()}
    assert footer == json.loads(json.dumps(report.provenance))
    assert manifest == footer | {"file": file}
    assert footer["model"]["weights_sha256"] == demo.weights_sha256
    assert footer["model"]["tokenizer_sha256"] == demo.tokenizer.sha256
    assert footer["counts"]["rows"] == len(PROMPTS)
    assert footer["check"]["agrees"] is True
    assert footer["check"]["rows"] == 2
    assert footer["settings"]["max_new_tokens"] == 6
    assert set(footer["versions"]) >= {"picobatch", "numpy", "onnx", "onnxruntime", "pyarrow"}
    assert len(footer["engine"]["graphs_sha256"]["step"]) == 64
    assert footer["engine"]["most_slots"] == len(set(PROMPTS))
    stages = {"load", "read", "tokenize", "prefill", "decode", "check", "write", "total"}
    assert footer["elapsed_s"].keys() == stages
    assert sum(footer["elapsed_s"][stage] for stage in stages - {"total"}) > 0


def test_the_second_job_does_not_inherit_the_first_ones_footer(tmp_path, prompts):
    job(prompts, tmp_path / "a.parquet")
    job(tmp_path / "a.parquet", tmp_path / "b.parquet", column_prefix="second_", limit=1)
    footer = json.loads(pq.read_metadata(tmp_path / "b.parquet").metadata[b"picobatch"])
    assert footer["counts"]["rows"] == 1
    assert "second_completion" in pq.read_schema(tmp_path / "b.parquet").names


def test_a_token_beyond_the_vocabulary_is_a_bad_row(tmp_path, prompts, monkeypatch):
    def unknown(self, token_id):
        from reference import TokenizerError

        raise TokenizerError(f"id {token_id} is not in the vocabulary")

    monkeypatch.setattr(Tokenizer, "token_bytes", unknown)
    report = job(prompts, tmp_path / "out.jsonl", check_rows=0)
    assert report.exit_code == ExitCode.BAD_ROWS
    assert "is not in the vocabulary" in read(tmp_path / "out.jsonl")[0]["error"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens is -1; expected 0 or more"),
        ({"batch_size": 0}, "batch_size is 0; expected 1 or more"),
        ({"threads": 0}, "threads is 0"),
        ({"limit": 0}, "limit is 0"),
        ({"check_rows": -1}, "check_rows is -1"),
        ({"on_error": "ignore"}, "expected 'skip' or 'fail'"),
        ({"truncate_prompt": "right"}, "expected 'left'"),
        ({"stop": ("",)}, "empty text"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(SettingsError, match=message):
        RunSettings("in.jsonl", "out.jsonl", **settings)
