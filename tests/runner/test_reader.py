"""Prompts files: many at once, by ranges of rows, in constant memory."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner import lines
from runner.errors import InputError
from runner.places import Place
from runner.reader import open_source
from runner.records import Reject, Request

FEW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def opened(*paths, limit=None, typed=True, column="prompt"):
    places = [Place.local(path, path.name) for path in paths]
    return open_source(places, "all of it", column, limit, typed=typed)


def everything(source):
    return [row for chunk in source.chunks([range(source.n_rows)]) for row in chunk.rows]


def write_lines(path, *rows):
    data = b"".join(
        (row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows
    )
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


# Ranges of rows, against reading all of it in the plainest way.


def cut_points(most):
    """Ascending ranges, some of them empty, some that touch."""
    points = st.lists(st.integers(0, most), max_size=8).map(sorted)
    return points.map(lambda p: [range(*pair) for pair in zip(p[::2], p[1::2], strict=False)])


def taken(source, ranges, chunk_rows):
    """The chunks of some ranges, each seen to lie within one."""
    found = []
    for chunk in source.chunks(ranges):
        numbers = [row.row for row in chunk.rows]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert any(numbers[0] in r and numbers[-1] in r for r in ranges)
        assert sum(batch.num_rows for batch in chunk.record_batches()) == len(numbers)
        assert len(chunk.json_lines()) == len(numbers)
        assert len(numbers) < 2 * chunk_rows
        found.append(chunk)
    return found


def lines_of(most):
    prompt = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    good = st.builds(lambda p, n: json.dumps({"prompt": p, "n": n}), prompt, st.integers(0, 99))
    odd = ["", "  \t", "\r", "\0", "[1]", "nonsense", '{"n": 1}', "\u2028", "\ufeff"]
    return st.lists(st.one_of(good, good, st.sampled_from(odd)), max_size=most)


@FEW
@given(
    files=st.lists(lines_of(9), min_size=1, max_size=4),
    ending=st.sampled_from(["\n", "\r\n"]),
    suffix=st.sampled_from([".jsonl", ".jsonl.gz"]),
    limit=st.one_of(st.none(), st.integers(1, 20)),
    ranges=cut_points(24),
    mark_bytes=st.sampled_from([1, 20, 70, 1 << 20]),
)
def test_ranges_of_lines(tmp_path, files, ending, suffix, limit, ranges, mark_bytes):
    expected = []
    paths = []
    for n, texts in enumerate(files):
        data = ending.join(texts).encode()
        for number, line in enumerate(data.split(b"\n"), 1):
            if line.strip():
                expected.append((f"{n}{suffix}:{number}", line.strip()))
        paths.append(tmp_path / f"{n}{suffix}")
        paths[-1].write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    expected = expected[:limit]
    try:
        with mock.patch("runner.jsonl.MARK_BYTES", mark_bytes):
            source = opened(*paths, limit=limit)
    except InputError as e:
        assert "no column 'prompt'" in str(e)  # noqa: PT017
        assert not any(b'"prompt"' in line for _, line in expected)
        return
    assert source.n_rows == len(expected)
    with mock.patch("runner.jsonl_source.CHUNK_ROWS", 3):
        chunks = taken(source, ranges, 3)
    wanted = [n for r in ranges for n in r if n < len(expected)]
    rows = [row for chunk in chunks for row in chunk.rows]
    assert [row.row for row in rows] == wanted
    assert [row.where for row in rows] == [expected[n][0] for n in wanted]
    texts = [line for chunk in chunks for line in chunk.lines]
    assert texts == [expected[n][1] for n in wanted]
    for row, n in zip(rows, wanted, strict=True):
        assert isinstance(row, Request) == (b'"prompt"' in expected[n][1])
        if isinstance(row, Request):
            assert row.prompt == json.loads(expected[n][1])["prompt"]


@FEW
@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=4),
    group=st.integers(1, 5),
    limit=st.one_of(st.none(), st.integers(1, 30)),
    ranges=cut_points(40),
    batch=st.integers(1, 4),
)
def test_ranges_of_row_groups(tmp_path, sizes, group, limit, ranges, batch):
    paths, tables, where = [], [], []
    for n, size in enumerate(sizes):
        columns = {
            "prompt": [f"{n} {i}" for i in range(size)],
            "x": [n * 100 + i for i in range(size)],
        }
        types = pa.schema([("prompt", pa.string()), ("x", pa.int64())])
        table = pa.table(columns, schema=types)
        paths.append(tmp_path / f"{n}.parquet")
        pq.write_table(table, paths[-1], row_group_size=group)
        tables.append(table)
        where += [f"{n}.parquet: row {i}" for i in range(size)]
    whole = pa.concat_tables(tables)[: limit or 99]
    with (
        mock.patch("runner.parquet_source.BATCH_ROWS", batch),
        mock.patch("runner.parquet_source.CHUNK_ROWS", 4),
    ):
        source = opened(*paths, limit=limit)
        assert source.n_rows == whole.num_rows
        chunks = taken(source, ranges, 4)
    wanted = [n for r in ranges for n in r if n < whole.num_rows]
    rows = [row for chunk in chunks for row in chunk.rows]
    assert [(row.row, row.where) for row in rows] == [(n, where[n]) for n in wanted]
    assert [row.prompt for row in rows] == whole["prompt"].take(
        pa.array(wanted, pa.int64())
    ).to_pylist()
    batches = [b for chunk in chunks for b in chunk.record_batches()]
    assert pa.Table.from_batches(batches, whole.schema).equals(
        whole.take(pa.array(wanted, pa.int64()))
    )
    found = [json.loads(line) for chunk in chunks for line in chunk.json_lines()]
    assert found == whole.take(pa.array(wanted, pa.int64())).to_pylist()


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_what_is_not_asked_for_is_not_opened(tmp_path, suffix):
    paths = [tmp_path / f"{name}.{suffix}" for name in "abc"]
    for path in paths:
        rows = [{"prompt": path.stem + str(n)} for n in range(10)]
        if suffix == "jsonl":
            write_lines(path, *rows)
        else:
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=5)
    source = opened(*paths)
    for path in paths[::2]:
        path.unlink()
    (chunk,) = source.chunks([range(13, 15)])
    assert [row.prompt for row in chunk.rows] == ["b3", "b4"]
    # With a limit, files behind it do not even have to be there.
    assert opened(paths[1], tmp_path / f"none.{suffix}", limit=10).n_rows == 10
    with pytest.raises(InputError, match="none"):
        opened(paths[1], tmp_path / f"none.{suffix}", limit=11)


def test_row_groups_that_are_not_asked_for_may_be_damaged(tmp_path):
    path = tmp_path / "in.parquet"
    texts = [os.urandom(20).hex() for _ in range(3000)]
    pq.write_table(pa.table({"prompt": texts}), path, row_group_size=1000, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data[start + 500] ^= 1
    path.write_bytes(data)
    source = opened(path)
    rows = [row for chunk in source.chunks([range(5), range(2990, 3000)]) for row in chunk.rows]
    assert [row.prompt for row in rows] == texts[:5] + texts[-10:]
    with pytest.raises(InputError, match=r"in.parquet: row 1000 and after: not readable"):
        list(source.chunks([range(1500, 1501)]))


# Several files under one schema.


def parquet_files(tmp_path, *tables):
    paths = []
    for n, table in enumerate(tables):
        paths.append(tmp_path / f"{n}.parquet")
        pq.write_table(table, paths[-1])
    return paths


def read_all(source):
    batches = [b for c in source.chunks([range(source.n_rows)]) for b in c.record_batches()]
    return pa.Table.from_batches(batches, source.schema)


def test_columns_that_some_files_lack_or_have_only_nulls_in(tmp_path):
    first = pa.table(
        {"prompt": ["a"], "x": pa.nulls(1), "l": pa.array([[None]], pa.list_(pa.null()))}
    )
    first = first.replace_schema_metadata({"who": "first"})
    second = pa.table({"l": [[7]], "x": ["s"], "prompt": ["b"], "late": pa.array([1], pa.int8())})
    second = second.replace_schema_metadata({"who": "second"})
    third = pa.table({"prompt": pa.nulls(1)})
    source = opened(*parquet_files(tmp_path, first, second, third))
    assert source.column_names == ["prompt", "x", "l", "late"]
    assert source.schema.types == [pa.string(), pa.string(), pa.list_(pa.int64()), pa.int8()]
    assert source.schema.metadata == {b"who": b"first"}
    assert read_all(source).to_pylist() == [
        {"prompt": "a", "x": None, "l": [None], "late": None},
        {"prompt": "b", "x": "s", "l": [7], "late": 1},
        {"prompt": None, "x": None, "l": None, "late": None},
    ]
    assert "'prompt' is null" in everything(source)[2].reason


def test_a_column_that_must_not_be_null_and_is_missing_elsewhere_may_be_null(tmp_path):
    strict = pa.schema([pa.field("prompt", pa.string()), pa.field("x", pa.int64(), nullable=False)])
    first = pa.table({"prompt": ["a"], "x": [1]}, schema=strict)
    source = opened(*parquet_files(tmp_path, first, pa.table({"prompt": ["b"]})))
    assert source.schema.field("x").nullable
    assert opened(*parquet_files(tmp_path, first, first)).schema == strict


def test_dictionaries_of_their_own_in_each_file(tmp_path):
    made = [pa.array(values).dictionary_encode() for values in (["a", "b"], ["b", "c"])]
    tables = [pa.table({"prompt": array}) for array in made]
    source = opened(*parquet_files(tmp_path, *tables))
    assert pa.types.is_dictionary(source.schema.field("prompt").type)
    assert [row.prompt for row in everything(source)] == ["a", "b", "b", "c"]


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (pa.array([1]), pa.array(["s"]), "'x' has type string; in 0.parquet it has type int64"),
        (pa.array([1]), pa.array([1], pa.int32()), "'x' has type int32; in 0.parquet it has type"),
    ],
)
def test_types_that_contradict_each_other(tmp_path, one, other, message):
    tables = [pa.table({"prompt": ["a"], "x": column}) for column in (one, other)]
    paths = parquet_files(tmp_path, tables[0], tables[0], tables[1])
    with pytest.raises(InputError, match=f"^2.parquet: column {message}"):
        opened(*paths)


def test_a_name_twice_in_a_later_file(tmp_path):
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["x", "x"])
    with pytest.raises(InputError, match=r"^1.parquet: two columns are called 'x'"):
        opened(*parquet_files(tmp_path, pa.table({"prompt": ["a"]}), twice))


def test_files_of_two_formats(tmp_path):
    paths = [write_lines(tmp_path / "a.jsonl", {"prompt": "a"})]
    paths += parquet_files(tmp_path, pa.table({"prompt": ["a"]}))
    with pytest.raises(InputError, match=r"0.parquet is Parquet and a.jsonl is JSONL"):
        opened(*paths)


def test_several_files_of_lines_have_one_schema(tmp_path):
    a = write_lines(tmp_path / "a.jsonl", {"prompt": "a", "x": 1})
    b = write_lines(tmp_path / "b.jsonl.gz", {"y": "s", "x": 0.5, "prompt": [1]})
    source = opened(a, b)
    assert source.schema.types == [pa.string(), pa.float64(), pa.string()]
    assert read_all(source).to_pylist() == [
        {"prompt": "a", "x": 1.0, "y": None},
        {"prompt": "[1]", "x": 0.5, "y": "s"},
    ]
    b = write_lines(tmp_path / "b.jsonl", {"x": "s"})
    with pytest.raises(InputError, match=r"^all of it: .*x"):
        opened(a, b)
    assert opened(a, b, typed=False).n_rows == 2


@pytest.mark.parametrize("limit", [None, 1])
@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "parquet"])
def test_fingerprints_are_of_the_files_as_they_lie_there(tmp_path, suffix, limit):
    paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for path in paths:
        rows = [{"prompt": os.urandom(200).hex()} for _ in range(2000)]
        if suffix == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            write_lines(path, *rows)
    expected = [
        {"name": p.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for p in paths
        if (data := p.read_bytes())
    ]
    assert opened(*paths, limit=limit).files == expected[:limit]


# Damage is told with its file and row.


@pytest.mark.parametrize(
    ("compression", "damage"),
    # What Arrow and most programs write as zstd has no checksum: a bit in a text cannot be told.
    [("gzip", "cut"), ("gzip", "flipped"), ("zstd", "cut")],
)
def test_damaged_archives(tmp_path, compression, damage):
    path = tmp_path / f"in.jsonl.{'gz' if compression == 'gzip' else 'zst'}"
    lines = b"".join(b'{"prompt": "%s"}\n' % os.urandom(500).hex().encode() for _ in range(2000))
    with pa.output_stream(str(path), compression=compression) as stream:
        stream.write(lines)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: len(data) * 3 // 4]
    else:
        data[len(data) * 3 // 4] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"in.jsonl.*: line \d+ and after: .* complete") as found:
        opened(path, typed=False)
    number = int(str(found.value).split(": line ")[1].split()[0])
    assert 1000 < number <= 2001


def test_a_line_of_any_length_is_a_bad_row(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LINE_BYTES", 100)
    monkeypatch.setattr(lines, "PIECE_BYTES", 7)

    def line(n_bytes):
        return b'{"prompt": "' + b"x" * (n_bytes - 14) + b'"}'

    rows = [line(99), line(100), line(101), b" " * 300, line(98) + b"\r", line(5000), line(20)]
    source = opened(write_lines(tmp_path / "in.jsonl", *rows))
    found = everything(source)
    assert [isinstance(row, Reject) for row in found] == [False, False, True, False, True, False]
    assert [row.where for row in found][2:] == [f"in.jsonl:{n}" for n in (3, 5, 6, 7)]
    assert found[2].reason.startswith("longer than ")
    assert read_all(source)["prompt"].to_pylist()[2] is None
    (tmp_path / "end.jsonl").write_bytes(line(101))
    assert isinstance(everything(opened(tmp_path / "end.jsonl"))[0], Reject)


# Memory, in a process of its own.

PEAK = """
import sys
from runner.places import Place
from runner.reader import open_source

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) >> 10

def read(path):
    source = open_source([Place.local(path)], path, "prompt", None, typed=True)
    return sum(len(chunk.rows) for chunk in source.chunks([range(source.n_rows)]))

read(sys.argv[1])
before = peak()
n_rows = read(sys.argv[2])
print(n_rows, peak() - before)
"""


def grown_mib(small, large):
    """How many rows a file has, and what reading it takes beyond what a small one does."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the peak of a process is read from /proc")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, small, large], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.split()))


def test_one_row_group_of_any_size(tmp_path):
    """A quarter of a gigabyte in one row group takes 50 MiB; Arrow's own reader takes all of it."""
    texts = [os.urandom(250).hex() for _ in range(1000)]
    tables = [pa.table({"prompt": [f"{n}{t}" for n in range(k) for t in texts]}) for k in (1, 500)]
    paths = [tmp_path / "small.parquet", tmp_path / "large.parquet"]
    for table, path in zip(tables, paths, strict=True):
        pq.write_table(table, path, row_group_size=10**7, compression="none", use_dictionary=False)
    n_rows, grown = grown_mib(*paths)
    assert n_rows == 500_000
    assert grown < 100


def test_rows_of_a_megabyte(tmp_path):
    """Pages of a few rows, as careful writers make them: 200 MB for any number of rows."""
    texts = [os.urandom(1 << 19).hex() for _ in range(4)]
    paths = [tmp_path / "small.parquet", tmp_path / "large.parquet"]
    for k, path in zip((1, 200), paths, strict=True):
        table = pa.table({"prompt": texts * k})
        pq.write_table(table, path, compression="none", use_dictionary=False, write_batch_size=2)
    n_rows, grown = grown_mib(*paths)
    assert n_rows == 800
    assert grown < 300


def test_an_archive_that_unpacks_to_very_much(tmp_path):
    """A gigabyte that was one line, and that was a million lines of nothing."""
    small = write_lines(tmp_path / "small.jsonl", {"prompt": "one"})
    path = tmp_path / "in.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(b'{"prompt": "')
        for _ in range(64):
            stream.write(b"x" * (1 << 23))
        stream.write(b'"}\n' + b"\n" * 1_000_000 + b'{"prompt": "two"}')
    n_rows, grown = grown_mib(small, path)
    assert n_rows == 2
    assert grown < 300  # the longest line that is taken, while its pieces are joined
