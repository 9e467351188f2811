"""Bad input of every kind: what is said, the exit code, and that nothing is half written."""

import errno
import gzip
import json
import os
import re
import shutil
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from reference.models import DEMO_DIR
from runner.cli import cli

GOOD = {"prompt": "The capital of France is"}


def runner(*args, stdin=None):
    result = CliRunner().invoke(cli, [str(arg) for arg in args], input=stdin)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def batch(tmp_path, source, output="out.jsonl", *options):
    return runner(
        "batch",
        tmp_path / source,
        tmp_path / output,
        "--max-new-tokens",
        2,
        "--threads",
        1,
        *options,
    )


def jsonl(tmp_path, *lines):
    data = b"\n".join(
        line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines
    )
    (tmp_path / "in.jsonl").write_bytes(data + b"\n")
    return "in.jsonl"


def parquet(tmp_path, **columns):
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    return "in.parquet"


# The whole job is refused: exit code 1, nothing written.


def missing(tmp_path):
    return "nowhere.jsonl"


def a_folder(tmp_path):
    (tmp_path / "in.parquet").mkdir()
    return "in.parquet"


def unknown_format(tmp_path):
    (tmp_path / "in.csv").write_text("prompt\none\n")
    return "in.csv"


def wrong_column(tmp_path):
    return jsonl(tmp_path, {"text": "one", "id": 1}, {"text": "two"})


def wrong_column_parquet(tmp_path):
    return parquet(tmp_path, text=["one"], id=[1])


def numbers(tmp_path):
    return parquet(tmp_path, prompt=[1, 2])


def bad_limit_column(tmp_path):
    return parquet(tmp_path, prompt=["one"], max_new_tokens=["many"])


def clash(tmp_path):
    return jsonl(tmp_path, {"prompt": "one", "completion": "two"})


def clash_parquet(tmp_path):
    return parquet(tmp_path, prompt=["one"], error=["two"])


def truncated_parquet(tmp_path):
    name = parquet(tmp_path, prompt=["one"] * 1000)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    return name


def damaged_parquet(tmp_path):
    name = parquet(tmp_path, prompt=[f"{n} + {n} =" for n in range(1000)])
    data = bytearray((tmp_path / name).read_bytes())
    data[30:400] = os.urandom(370)
    (tmp_path / name).write_bytes(data)
    return name


def no_parquet(tmp_path):
    (tmp_path / "in.parquet").write_bytes(b"hello")
    return "in.parquet"


def truncated_gzip(tmp_path):
    lines = b"".join(json.dumps({"prompt": f"{n} + {n}"}).encode() + b"\n" for n in range(5000))
    data = gzip.compress(lines)
    (tmp_path / "in.jsonl.gz").write_bytes(data[: len(data) // 2])
    return "in.jsonl.gz"


def no_gzip(tmp_path):
    (tmp_path / "in.jsonl.gz").write_bytes(b"hello")
    return "in.jsonl.gz"


def two_columns_of_one_name(tmp_path):
    table = pa.table([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"])
    pq.write_table(table, tmp_path / "in.parquet")
    return "in.parquet"


REFUSED = {
    missing: "nowhere.jsonl: no such file; expected .parquet, .jsonl",
    a_folder: "is a folder without a file to read",
    unknown_format: "in.csv: no known format; expected .parquet, .jsonl",
    wrong_column: "no column 'prompt'; its columns are text, id. Pass --prompt-column",
    wrong_column_parquet: "no column 'prompt'; its columns are text, id. Pass --prompt-column",
    numbers: "column 'prompt' has type int64; expected strings, or lists of integers",
    bad_limit_column: "column 'max_new_tokens' has type string; expected integers",
    clash: "has a column completion, which the output adds; expected other names. Pass --column-",
    clash_parquet: "has a column error, which the output adds",
    truncated_parquet: "not readable as Parquet",
    damaged_parquet: "row 0 and after: not readable",
    no_parquet: "not readable as Parquet",
    truncated_gzip: "in.jsonl.gz: ",
    no_gzip: "in.jsonl.gz: ",
    two_columns_of_one_name: "two columns are called 'prompt'",
}


@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_a_bad_file_is_refused_and_nothing_is_written(tmp_path, make, output):
    source = make(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    result = batch(tmp_path, source, output)
    assert result.exit_code == 1, result.output
    assert "Error: " in result.stderr
    assert REFUSED[make] in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before


# A bad row keeps its place: exit code 3, with its reason.

LONG = {"prompt": "one " * 300}
BAD_ROWS = [
    ({"prompt": None}, "'prompt' is null; expected a string or a list of token ids"),
    ({"prompt": 5}, "'prompt' is 5; expected a string"),
    ({"prompt": {"a": 1}}, "'prompt' is {'a': 1}; expected a string"),
    ({"prompt": ["one"]}, "'prompt' holds 'one' at 0; expected token ids, integers only"),
    ({"prompt": [1, True]}, "'prompt' holds True at 1"),
    ({"prompt": [99999]}, "token id 99999; expected 0 to"),
    ({"prompt": [-1]}, "token id -1; expected 0 to"),
    ({"other": "one"}, "no 'prompt'; this row has other"),
    (b'{"prompt": "one"', "not JSON (Expecting ',' delimiter at character 16)"),
    (b"[1]", "a JSON array; expected an object with the prompt in it"),
    (b"null", "a JSON null; expected an object"),
    (b'{"prompt": "\xff"}', "byte 12 of the line is not valid UTF-8"),
    (b"[" * 100_000, "not readable as JSON"),
    (b'{"prompt": ' + b"9" * 5000 + b"}", "not readable as JSON"),
    ({"prompt": "\ud800"}, "lone surrogate U+D800 at character 0"),
    (LONG, "tokens; expected at most 255, so that one can follow"),
    ({"prompt": "one", "max_new_tokens": -1}, "'max_new_tokens' is -1; expected a whole number"),
    ({"prompt": "one", "max_new_tokens": "3"}, "'max_new_tokens' is '3'"),
    ({"prompt": "one", "max_new_tokens": 1.5}, "'max_new_tokens' is 1.5"),
]


@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet"])
def test_bad_rows_keep_their_places(tmp_path, output):
    rows = [GOOD]
    for row, _ in BAD_ROWS:
        rows += [row, GOOD]
    messages = [message for _, message in BAD_ROWS]
    result = batch(tmp_path, jsonl(tmp_path, *rows), output)
    assert result.exit_code == 3, result.output
    found = (
        pq.read_table(tmp_path / output).to_pylist()
        if output.endswith("parquet")
        else [json.loads(line) for line in (tmp_path / output).read_text().splitlines()]
    )
    assert len(found) == len(rows)
    assert {row["completion"] for row in found[::2]} == {" Paris"}
    for row, message in zip(found[1::2], messages, strict=True):
        assert message in row["error"]
        assert row["finish_reason"] == "error"
        assert row["completion"] is None
        assert row["logprob"] is None
    assert f"{len(messages)} bad rows are kept" in result.stderr
    assert "in.jsonl:2: " in result.stderr


def test_bad_values_in_the_columns_that_are_read_do_not_spoil_parquet(tmp_path):
    rows = [{"prompt": [1]}, {"prompt": [2**70]}, {"prompt": True}, {"max_new_tokens": "x"}]
    result = batch(tmp_path, jsonl(tmp_path, *rows), "out.parquet")
    assert result.exit_code == 3
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("prompt").type == pa.string()
    assert table["prompt"].to_pylist() == ["[1]", f"[{2**70}]", "true", None]
    assert table["max_new_tokens"].to_pylist() == [None] * 4
    result = batch(tmp_path, jsonl(tmp_path, {"prompt": [1]}, {"prompt": None}), "ids.parquet")
    assert result.exit_code == 3
    assert pq.read_table(tmp_path / "ids.parquet")["prompt"].to_pylist() == [[1], None]
    assert batch(tmp_path, jsonl(tmp_path, {"prompt": [1]}), "all.parquet").exit_code == 0
    assert pq.read_table(tmp_path / "all.parquet")["prompt"].to_pylist() == [[1]]


def test_bad_rows_of_parquet(tmp_path):
    raw = pa.array([b"one", b"\xff\xfe", None], pa.binary())
    text = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2], raw.buffers()[0])
    result = batch(tmp_path, parquet(tmp_path, prompt=text), "out.jsonl")
    assert result.exit_code == 3
    errors = [
        json.loads(line)["error"] for line in (tmp_path / "out.jsonl").read_text().splitlines()
    ]
    assert errors == [
        None,
        "'prompt' is not valid UTF-8; expected text",
        "'prompt' is null; expected a string or a list of token ids",
    ]
    result = batch(tmp_path, "in.parquet", "out.parquet")
    assert result.exit_code == 3
    assert pq.read_table(tmp_path / "out.parquet")["error"].null_count == 1
    source = parquet(tmp_path, prompt=pa.nulls(2))
    assert batch(tmp_path, source, "nulls.parquet").exit_code == 3


def test_on_error_fail_stops_at_the_first_and_writes_nothing(tmp_path):
    source = jsonl(tmp_path, GOOD, {"prompt": None}, GOOD)
    result = batch(tmp_path, source, "out.jsonl", "--on-error", "fail")
    assert result.exit_code == 1
    assert "in.jsonl:2: 'prompt' is null; expected" in result.stderr
    assert "pass --on-error=skip to keep it as an error row" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]


def test_a_column_of_two_types_is_refused_for_parquet_and_kept_in_json(tmp_path):
    source = jsonl(tmp_path, GOOD | {"x": 1}, GOOD | {"x": "one"})
    result = batch(tmp_path, source, "out.parquet")
    assert result.exit_code == 1
    assert "column 'x'" in result.stderr
    assert "Write .jsonl, which keeps the rows as they are" in result.stderr
    assert batch(tmp_path, source, "out.jsonl").exit_code == 0


def test_a_column_that_parquet_cannot_hold(tmp_path):
    result = batch(tmp_path, jsonl(tmp_path, GOOD | {"x": {}}), "out.parquet")
    assert result.exit_code == 1
    assert "Write .jsonl" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]


def test_surrogates_in_other_columns(tmp_path):
    source = jsonl(tmp_path, GOOD | {"x": "\ud800", "y": [{"z": "\udfff"}]})
    assert batch(tmp_path, source, "out.jsonl").exit_code == 0
    assert json.loads((tmp_path / "out.jsonl").read_text())["x"] == "\ud800"
    assert batch(tmp_path, source, "out.parquet").exit_code == 0
    assert pq.read_table(tmp_path / "out.parquet")["x"].to_pylist() == ["?"]


# The output.


@pytest.mark.parametrize("n_bytes", [241, 242, 246, 255, 256, 300])
def test_how_long_the_name_of_an_output_can_be(tmp_path, n_bytes):
    source, name = jsonl(tmp_path, GOOD), "ä" * 20 + "o" * (n_bytes - 46) + ".jsonl"
    (tmp_path / "l.jsonl").symlink_to(name)
    for output in (name, "l.jsonl"):
        result = batch(tmp_path, source, output, "--overwrite")
        assert result.exit_code == (0 if n_bytes == 241 else 1)
        assert (f"has {n_bytes} bytes; expected at most 241" in result.stderr) == (n_bytes > 241)
        assert len(list(tmp_path.iterdir())) == (4 if n_bytes == 241 else 2)


def linked(tmp_path, name="out.jsonl"):
    """An output that is a link to another folder."""
    (tmp_path / "far").mkdir()
    (tmp_path / name).symlink_to(f"far/{name}")
    return tmp_path / "far" / name


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_an_output_that_is_a_link_is_written_where_it_leads(tmp_path, name):
    source, target = jsonl(tmp_path, GOOD), linked(tmp_path, name)
    manifest = target.with_name(f"{name}.manifest.json")
    assert batch(tmp_path, source, name).exit_code == 0
    assert sorted(target.parent.iterdir()) == [target, manifest]
    assert sorted(tmp_path.iterdir()) == [target.parent, tmp_path / source, tmp_path / name]
    first = target.read_bytes()
    assert "exists already; a finished" in batch(tmp_path, source, name).stderr
    assert batch(tmp_path, source, name, "--resume").exit_code == 0
    assert runner("inspect", tmp_path / name).exit_code == 0
    assert target.read_bytes() == first
    assert batch(tmp_path, source, name, "--overwrite", "--max-new-tokens", "1").exit_code == 0
    assert (tmp_path / name).is_symlink()
    assert target.read_bytes() != first
    assert sorted(target.parent.iterdir()) == [target, manifest]


def test_a_link_to_an_output_is_no_input(tmp_path):
    source, target = jsonl(tmp_path, GOOD), linked(tmp_path)
    assert batch(tmp_path, source).exit_code == 0
    result = batch(tmp_path, f"{tmp_path}/*.jsonl", "far/next.jsonl")
    assert "1 file; passed over 1 that a job wrote" in result.stderr
    assert (tmp_path / "far/next.jsonl").read_bytes() == target.read_bytes()


def test_links_that_lead_to_no_output(tmp_path):
    source = jsonl(tmp_path, GOOD)
    for link, target, said in [
        ("a.jsonl", "none/a.jsonl", "none/a.jsonl: the folder .*none is not there"),
        ("b.jsonl", "b.jsonl", "b.jsonl: is a link that leads back to itself"),
        (
            "c.jsonl",
            "c.parquet",
            "c.jsonl: is a link to .*c.parquet; expected a name with the same",
        ),
        ("d.jsonl", "in.jsonl", "in.jsonl: is an input itself"),
    ]:
        (tmp_path / link).symlink_to(target)
        for option in ([], ["--overwrite"]):
            result = batch(tmp_path, source, link, *option)
            assert result.exit_code == 1
            assert re.search(said, result.stderr), result.stderr
            assert (tmp_path / link).is_symlink()


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.manifest.json"])
def test_an_output_that_is_no_file_is_kept(tmp_path, name):
    source = jsonl(tmp_path, GOOD)
    os.mkfifo(tmp_path / name)
    (tmp_path / "link.jsonl").symlink_to("out.jsonl")
    for output in ("out.jsonl", "link.jsonl"):
        result = batch(tmp_path, source, output, "--overwrite")
        assert result.exit_code == 1
        assert f"{name}: is a pipe, a device or the like; expected a file" in result.stderr
        assert (tmp_path / name).is_fifo()


def test_an_output_that_exists_is_kept(tmp_path):
    source = jsonl(tmp_path, GOOD)
    (tmp_path / "out.jsonl").write_text("mine")
    result = batch(tmp_path, source)
    assert result.exit_code == 1
    assert "exists already; a finished output is kept. Pass --overwrite" in result.stderr
    assert (tmp_path / "out.jsonl").read_text() == "mine"
    assert batch(tmp_path, source, "out.jsonl", "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("no/out.jsonl", "is not there; expected an existing one. Make it first"),
        ("out.csv", "no known format; expected .parquet"),
        ("in.jsonl", "is an input itself"),
        ("folder.jsonl", "is a folder; expected a file name"),
    ],
)
def test_an_output_that_cannot_be(tmp_path, output, message):
    source = jsonl(tmp_path, GOOD)
    (tmp_path / "folder.jsonl").mkdir()
    result = batch(tmp_path, source, output, "--overwrite")
    assert result.exit_code == 1
    assert message in result.stderr
    assert json.loads((tmp_path / source).read_text()) == GOOD


def test_rows_of_which_none_is_an_object_are_kept_in_parquet(tmp_path):
    """No column has a name then, but for ours."""
    result = batch(tmp_path, jsonl(tmp_path, b"one", b"[2]", b"{"), "out.parquet")
    assert result.exit_code == 3
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["finish_reason"].to_pylist() == ["error"] * 3


def test_addresses_that_cannot_be_read_or_written(tmp_path):
    source = jsonl(tmp_path, GOOD)
    result = runner("batch", "ftp://host/in.jsonl", tmp_path / "out.jsonl")
    assert (result.exit_code, "ftp:// is unknown" in result.stderr) == (1, True)
    result = runner("batch", tmp_path / source, "https://host/out.jsonl")
    assert (result.exit_code, "can only be read" in result.stderr) == (1, True)


def test_space_that_is_clearly_not_there_is_foreseen(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3))
    result = batch(tmp_path, jsonl(tmp_path, GOOD))
    assert result.exit_code == 1
    assert "3 bytes free on its disk; the output and its parts need at least" in result.stderr


@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet", "out.jsonl.gz"])
def test_a_disk_that_is_full_in_the_end(tmp_path, output):
    """Really full: a file system of 64 KiB, where one may be mounted."""
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=64k tmpfs {small} 2>/dev/null") != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        words = os.urandom(60_000).hex()
        rows = [GOOD | {"x": words[n : n + 40]} for n in range(0, len(words), 40)]
        source = jsonl(tmp_path, *rows)
        with pytest.MonkeyPatch.context() as monkey:
            monkey.setattr("runner.output.least_output_bytes", lambda *_: 0)
            result = batch(tmp_path, source, f"small/{output}", "--max-new-tokens", 0)
        assert result.exit_code == 1
        assert "the disk is full; it was not written" in result.stderr
        assert not list(small.iterdir())
    finally:
        # At once, even where a library still holds a file: a mount left behind would outlive us.
        assert os.system(f"umount -l {small}") == 0


def test_a_disk_that_fails(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("os.fsync", fail)
    result = batch(tmp_path, jsonl(tmp_path, GOOD))
    assert result.exit_code == 1
    assert "Input/output error; it was not written" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]


# The model.


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nowhere", "nowhere: no such model; expected demo, 124M"),
        ("124M", "the connection failed"),
        ("{tmp}", "no model: config.json, model.safetensors, vocab.json, merges.txt missing"),
    ],
)
def test_a_model_that_is_none(tmp_path, model, message):
    source = jsonl(tmp_path, GOOD)
    result = batch(tmp_path, source, "out.jsonl", "--model", model.format(tmp=tmp_path))
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_a_model_with_a_file_missing(tmp_path):
    shutil.copytree(DEMO_DIR, tmp_path / "m")
    (tmp_path / "m" / "merges.txt").unlink()
    result = batch(tmp_path, jsonl(tmp_path, GOOD), "out.jsonl", "--model", tmp_path / "m")
    assert result.exit_code == 1
    assert "no model: merges.txt missing" in result.stderr


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": {"\x1b[31m": "x" * 500}},
        {"\x1b[31m": 1, "x" * 500: 2, **{f"k{n}": n for n in range(1000)}},
        {"prompt": "one", "max_new_tokens": "\x1b[31m" + "x" * 500},
    ],
)
def test_terminal_escapes_and_long_texts_stay_out_of_messages(tmp_path, row):
    source = jsonl(tmp_path, {"prompt": "one"}, row)
    result = batch(tmp_path, source)
    assert result.exit_code == 3
    shutil.copy(tmp_path / source, tmp_path / "\x1b[32m.jsonl")
    results = [result, batch(tmp_path, "\x1b[32m.jsonl", "\x1b[33m.jsonl")]
    results += [batch(tmp_path, source, "o2.jsonl", "--prompt-column", "\x1b[34m")]
    assert "\x1b" not in runner("inspect", tmp_path / "\x1b[33m.jsonl", "--rows", 9).output
    for result in results:
        assert "\x1b" not in result.output
        assert "x" * 60 not in result.output
        assert len(result.output) < 4000


def test_numbers_that_json_cannot_write_become_null(tmp_path):
    nan, inf = float("nan"), float("inf")
    source = parquet(tmp_path, prompt=["one"], x=[nan], y=[[1.5, inf]], z=[{"w": -inf}])
    assert batch(tmp_path, source).exit_code == 0
    text = (tmp_path / "out.jsonl").read_text()
    row = json.loads(text, parse_constant=pytest.fail)
    assert (row["x"], row["y"], row["z"]) == (None, [1.5, None], {"w": None})


def test_bytes_that_are_no_text_deep_inside_a_column(tmp_path):
    raw = pa.array([b"\xff"], pa.binary())
    text = pa.StringArray.from_buffers(1, raw.buffers()[1], raw.buffers()[2])
    nested = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), text)
    source = parquet(tmp_path, prompt=["one"], x=nested)
    result = batch(tmp_path, source)
    assert result.exit_code == 1
    assert "cannot be written as JSON" in result.stderr
    assert batch(tmp_path, source, "out.parquet").exit_code == 0


# Found by trying to break it.


def test_files_that_are_the_users_are_left_alone(tmp_path):
    source = jsonl(tmp_path, GOOD)
    (tmp_path / "out.jsonl.parts").mkdir()
    (tmp_path / "out.jsonl.parts" / "notes").write_text("mine")
    assert batch(tmp_path, source).exit_code == 0
    assert [path.name for path in (tmp_path / "out.jsonl.parts").iterdir()] == ["notes"]
    (tmp_path / "b.jsonl.manifest.json").write_text("mine")
    result = batch(tmp_path, source, "b.jsonl")
    assert result.exit_code == 1
    assert "b.jsonl.manifest.json: exists already" in result.stderr
    (tmp_path / "c.jsonl.manifest.json").mkdir()
    result = batch(tmp_path, source, "c.jsonl", "--overwrite")
    assert result.exit_code == 1
    assert "is a folder" in result.stderr
    assert not (tmp_path / "c.jsonl").exists()


def test_a_missing_input_and_an_output_that_exists(tmp_path):
    (tmp_path / "out.jsonl").touch()
    assert batch(tmp_path, "nowhere.jsonl").exit_code == 1
    result = batch(tmp_path, "nowhere.jsonl", "out.jsonl", "--overwrite")
    assert "no such file" in result.stderr


def test_an_empty_model_name_is_no_model(tmp_path):
    result = batch(tmp_path, jsonl(tmp_path, GOOD), "out.jsonl", "--model", "")
    assert result.exit_code == 2
    assert "model is empty" in result.stderr


def test_times_finer_than_python_has_become_text_in_json(tmp_path):
    ns = pa.array([1_700_000_000_123_456_789], pa.timestamp("ns"))
    columns = {
        "prompt": ["one"],
        "t": ns,
        "d": pa.array([1_000_000_001], pa.duration("ns")),
        "l": pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), ns),
        "s": pa.StructArray.from_arrays([ns], ["x"]),
    }
    source = parquet(tmp_path, **columns)
    assert batch(tmp_path, source).exit_code == 0
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row["t"] == "2023-11-14 22:13:20.123456789"
    assert (row["l"], row["s"]) == ([row["t"]], {"x": row["t"]})
    assert row["d"] == 1_000_000_001
    assert batch(tmp_path, source, "out.parquet").exit_code == 0
    result = runner("inspect", tmp_path / "out.parquet", "--rows", 1)
    assert (result.exit_code, "'one' -> " in result.stdout) == (0, True)


def test_times_beyond_the_calendar_name_their_column(tmp_path):
    source = parquet(tmp_path, prompt=["one"], when=pa.array([2**38], pa.timestamp("s")))
    result = batch(tmp_path, source)
    assert result.exit_code == 1
    assert "column 'when' of type timestamp[ms] cannot be written as JSON" in result.stderr


def test_keys_that_are_no_text(tmp_path):
    for row in ({"\ud800": 1}, {"x": {"\ud800": 1}}):
        source = jsonl(tmp_path, GOOD | row)
        result = batch(tmp_path, source, "out.parquet")
        assert result.exit_code == 1
        assert "Write .jsonl" in result.stderr
        assert batch(tmp_path, source, "out.jsonl", "--overwrite").exit_code == 0


@pytest.mark.parametrize("option", ["--stop", "--column-prefix"])
def test_options_that_are_no_text(tmp_path, option):
    result = batch(tmp_path, jsonl(tmp_path, GOOD), "out.jsonl", option, "\udcff")
    assert result.exit_code == 2
    assert "is not Unicode text" in result.stderr


def test_a_stop_text_from_the_environment_is_one_text(tmp_path):
    source = jsonl(tmp_path, GOOD)
    env = {"RUNNER_BATCH_STOP": "a  b"}
    CliRunner().invoke(cli, ["batch", str(tmp_path / source), str(tmp_path / "o.jsonl")], env=env)
    manifest = json.loads((tmp_path / "o.jsonl.manifest.json").read_text())
    assert manifest["settings"]["stop"] == ["a  b"]


def test_a_pipe_with_a_name_is_read_once(tmp_path):
    import threading

    os.mkfifo(tmp_path / "pipe.jsonl")
    line = json.dumps(GOOD).encode() + b"\n"
    feed = threading.Thread(target=(tmp_path / "pipe.jsonl").write_bytes, args=(line,))
    feed.start()
    assert batch(tmp_path, "pipe.jsonl").exit_code == 0
    feed.join()


def test_a_column_that_later_rows_widen_is_proved_before_the_job_starts(tmp_path, monkeypatch):
    rows = [GOOD | {"x": 2**53 + 1}] + [GOOD | {"x": 0.5}] * 5000
    monkeypatch.setattr(
        sys.modules["runner.planner"], "load_model", lambda *_, **__: pytest.fail("too late")
    )
    result = batch(tmp_path, jsonl(tmp_path, *rows), "out.parquet")
    assert result.exit_code == 1
    assert "column 'x'" in result.stderr


def test_limits_beyond_any_integer_are_bad_rows(tmp_path):
    source = jsonl(tmp_path, GOOD | {"max_new_tokens": 10**30}, {"prompt": [10**4000]})
    result = batch(tmp_path, source)
    assert result.exit_code == 3
    assert all(len(line) < 1000 for line in result.stderr.splitlines())


def test_few_long_lines_are_taken_a_few_at_a_time():
    from runner.rows import chunked

    sizes = [len(c) for c in chunked([b"x" * 2**20] * 100, 1024, n_bytes=len)]
    assert sizes == [16] * 6 + [4]


def test_nested_dictionaries_in_several_row_groups(tmp_path):
    values = pa.array(["a", "b"] * 4).dictionary_encode()
    nested = pa.ListArray.from_arrays(pa.array(range(9), pa.int32()), values)
    table = pa.table({"prompt": ["one"] * 8, "x": nested})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=2)
    assert batch(tmp_path, "in.parquet", "out.parquet").exit_code == 0
    assert pq.read_table(tmp_path / "out.parquet")["x"].to_pylist() == table["x"].to_pylist()


@pytest.mark.parametrize("where", ["/dev/full", "&-"])
def test_a_stdout_that_takes_nothing(tmp_path, where):
    source = jsonl(tmp_path, GOOD)
    command = f"{sys.executable} -m runner.cli batch {tmp_path / source} - >{where}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["[1]", "3", "{}", "[" * 100_000, '{"counts": 3}'])
def test_a_manifest_that_is_none(tmp_path, text):
    assert batch(tmp_path, jsonl(tmp_path, GOOD)).exit_code == 0
    (tmp_path / "out.jsonl.manifest.json").write_text(text)
    result = runner("inspect", tmp_path / "out.jsonl", "--rows", 1)
    assert result.exit_code == 1
    assert "Error: " in result.stderr


def test_a_value_that_spoils_a_column_is_not_shown_in_full(tmp_path):
    source = jsonl(tmp_path, GOOD | {"x": 1}, GOOD | {"x": "y" * 5000})
    result = batch(tmp_path, source, "out.parquet")
    assert result.exit_code == 1
    assert "y" * 300 not in result.stderr
