"""Data files of every kind as rows; bad rows keep their place and reason."""

import gzip
import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.data import read_rows, read_texts
from runner.errors import InputError
from tests.runner.conftest import moto, store  # noqa: F401
from tests.stores import fill

ROWS = [{"text": f"row {n}", "n": n, "more": ["a", "b"]} for n in range(5)]


def write(file, rows=ROWS):
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file.name


def columns(data):
    return [row.columns for row in data.rows]


def test_rows_of_jsonl(tmp_path):
    data = read_rows([write(tmp_path / "a.jsonl")], tmp_path, "text", None)
    assert columns(data) == ROWS
    assert data.rows[1].where == f"{tmp_path}/a.jsonl:2"
    content = (tmp_path / "a.jsonl").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    assert data.files == [{"name": f"{tmp_path}/a.jsonl", "bytes": len(content), "sha256": sha256}]


def test_rows_of_parquet_are_those_of_jsonl(tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    data = read_rows(["a.parquet"], tmp_path, "text", None)
    assert columns(data) == ROWS
    assert data.rows[1].where == f"{tmp_path}/a.parquet: row 1"


def test_rows_of_several_sources_with_a_limit_over_all(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "b.jsonl", ROWS[2:4])
    with gzip.open(folder / "c.jsonl.gz", "wt") as file:
        file.write(json.dumps(ROWS[4]))
    first = write(tmp_path / "a.jsonl", ROWS[:2])
    assert columns(read_rows([first, "in"], tmp_path, "text", None)) == ROWS
    assert columns(read_rows([first, "in/*.jsonl*"], tmp_path, "text", 3)) == ROWS[:3]
    data = read_rows([first, "in"], tmp_path, "text", 2)
    assert columns(data) == ROWS[:2]
    assert len(data.files) == 1  # the others were not needed


def test_a_bad_line_is_told_and_no_other_is_lost(tmp_path):
    good = json.dumps(ROWS[0])
    (tmp_path / "a.jsonl").write_text(f'{good}\n{{"text": \n\n[1]\n{good}\n')
    data = read_rows(["a.jsonl"], tmp_path, "text", None)
    assert columns(data) == [ROWS[0]] * 2
    assert [bad.where for bad in data.bad_rows] == [f"{tmp_path}/a.jsonl:{n}" for n in (2, 4)]
    assert [bad.reason[:12] for bad in data.bad_rows] == ["not JSON (Ex", "a JSON array"]


def test_what_batch_would_refuse_of_a_row_is_none_of_ours(tmp_path):
    rows = [{"text": 3}, {"text": "x", "max_new_tokens": "many"}, {"other": 1}]
    data = read_rows([write(tmp_path / "a.jsonl", rows)], tmp_path, "text", None)
    assert columns(data) == rows


def test_a_column_that_no_row_has(tmp_path):
    name = write(tmp_path / "a.jsonl")
    with pytest.raises(InputError, match=r"""no column 'page'; .* text, n, more\. Say in "col"""):
        read_rows([name], tmp_path, "page", None)


def test_no_rows(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(InputError, match=r"a\.jsonl: no rows; expected at least one"):
        read_rows(["a.jsonl"], tmp_path, "text", None)


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "b.txt").write_text("\ufeffOne\n\n  two \r\n", newline="")
    (tmp_path / "a.txt").write_bytes(b"\xffbad\nthree")
    with gzip.open(tmp_path / "c.txt.gz", "wt") as file:
        file.write("packed")
    (tmp_path / "notes.md").write_text("notes")
    return tmp_path


def test_a_text_is_a_file(texts):
    data = read_texts(["b.txt"], texts, None)
    assert columns(data) == [{"text": "One\n\n  two \r\n"}]
    assert data.rows[0].where == f"{texts}/b.txt"
    sha256 = hashlib.sha256((texts / "b.txt").read_bytes()).hexdigest()
    assert [file["sha256"] for file in data.files] == [sha256]


def test_a_text_is_a_line(texts):
    data = read_texts(["."], texts, None, by_line=True)
    assert [row.columns["text"] for row in data.rows] == ["three", "One", "  two ", "packed"]
    assert data.rows[2].where == f"{texts}/b.txt:3"
    assert [bad.where for bad in data.bad_rows] == [f"{texts}/a.txt:1"]
    assert data.bad_rows[0].reason == "byte 0 is not valid UTF-8; expected text"


def test_texts_of_a_pattern_with_a_limit(texts):
    assert [row.where for row in read_texts(["*.md", "b*"], texts, None).rows] == [
        f"{texts}/notes.md",
        f"{texts}/b.txt",
    ]
    assert len(read_texts(["*.md", "b*"], texts, 1).rows) == 1


@pytest.mark.parametrize("source", ["none.txt", "*.none", "**/*.txt", "empty"])
def test_no_text(texts, source):
    (texts / "empty").mkdir()
    with pytest.raises(InputError, match="no such text; expected .* Check the path"):
        read_texts([source], texts, None)


def test_a_text_on_the_web(tmp_path):
    with pytest.raises(InputError, match="can only be read, and only as one file"):
        read_texts(["https://example.org/a.txt"], tmp_path, None)


def test_data_in_a_store(store, tmp_path):  # noqa: F811
    fill(store, **{"in/a.txt": b"one\ntwo", "in/b.md": b"no", "rows.jsonl": b'{"text": "x"}\n'})
    for source in ("s3://data-bucket/in", "s3://data-bucket/in/*.txt", "s3://data-bucket/in/a.txt"):
        data = read_texts([source], tmp_path, None, by_line=True)
        assert [row.columns["text"] for row in data.rows] == ["one", "two"]
        assert data.rows[1].where == "s3://data-bucket/in/a.txt:2"
    data = read_rows(["s3://data-bucket/rows.jsonl"], tmp_path, "text", None)
    assert columns(data) == [{"text": "x"}]
    assert data.files[0]["name"] == "s3://data-bucket/rows.jsonl"
