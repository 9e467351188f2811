"""Prompts files of which each part may be read by another process."""

import gzip
import itertools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import InputError
from runner.places import Place, place_of
from runner.reader import open_source
from runner.rows import overlaps, spanned
from runner.sizes import Sizes
from runner.store_errors import StoreError
from tests.stores import ATTEMPTS, BUSY, FOR_EVER, fill, n_requests, reply

FEW = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ROOT = Path(__file__).parents[2]


def opened(*places, limit=None, requests=False):
    return open_source(places, "all of it", "prompt", limit, typed=False, requests=requests)


def local(*paths):
    return [Place.local(path, path.name) for path in paths]


def told(source, rows):
    """All that the rows of a range are."""
    chunks = list(source.chunks([rows]))
    lines = [line for chunk in chunks for line in chunk.json_lines()]
    return list(zip([row for chunk in chunks for row in chunk.rows], lines, strict=True))


def write(path, data):
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


# Marks: reading from the nearest one is reading from the start.


LINES = ["", " ", "\r", "\t\r", "{}", '{"prompt": "in"}\r', "\ufeff[]", "x" * 30, " " * 40, "\0"]


@FEW
@given(
    files=st.lists(st.lists(st.sampled_from(LINES), max_size=12), min_size=1, max_size=3),
    suffixes=st.lists(st.sampled_from(["jsonl", "jsonl", "jsonl.gz"]), min_size=3, max_size=3),
    mark_bytes=st.integers(1, 60),
    line_bytes=st.integers(8, 40),
    limit=st.one_of(st.none(), st.integers(1, 20)),
)
def test_any_rows_through_marks(tmp_path, files, suffixes, mark_bytes, line_bytes, limit):
    """Blank lines, long ones, a last one without its end, CRLF, a BOM, compressed files between."""
    paths = [
        write(tmp_path / f"{n}.{suffix}", "\n".join(texts).encode())
        for n, (texts, suffix) in enumerate(zip(files, suffixes, strict=False))
    ]
    with (
        mock.patch("runner.lines.LINE_BYTES", line_bytes),
        mock.patch("runner.lines.PIECE_BYTES", 7),
    ):
        # Whatever is on them: as lines of requests.
        plain = opened(*local(*paths), limit=limit, requests=True)
        expected = told(plain, range(plain.n_rows))
        with mock.patch("runner.jsonl.MARK_BYTES", mark_bytes):
            source = opened(*local(*paths), limit=limit, requests=True)
        assert source.n_rows == plain.n_rows
        for start in range(source.n_rows):
            for stop in (start + 1, start + 3, source.n_rows):
                assert told(source, range(start, stop)) == expected[start:stop]
        apart = [range(n, n + 1) for n in range(0, source.n_rows, 3)]
        rows = [row for chunk in source.chunks(apart) for row in chunk.rows]
        assert rows == [expected[r.start][0] for r in apart]


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_what_lies_far_before_a_row_is_not_read(tmp_path, suffix):
    lines = [b'{"prompt": "%06d %s"}\n' % (n, b"x" * 100) for n in range(30_000)]
    path = write(tmp_path / f"in.{suffix}", b"\n".join(lines))
    source = opened(*local(path))
    whole = told(source, range(29_000, 30_000))
    with path.open("rb+") as file:
        file.write(b"?" * 100)
    if suffix == "jsonl.gz":
        with pytest.raises(InputError, match="line 1 and after"):
            told(source, range(29_000, 30_000))
    else:
        assert told(source, range(29_000, 30_000)) == whole
        assert whole[0][0].where == f"in.jsonl:{2 * 29_000 + 1}"
    with path.open("rb+") as file:
        file.truncate(1000)
    if suffix == "jsonl":  # fewer rows than there were, which the job takes for a change
        assert told(source, range(29_000, 30_000)) == []


def test_ranges_far_apart_are_each_read_from_a_mark(tmp_path):
    lines = [b'{"prompt": "%07d"}\n' % n for n in range(2000)]
    with mock.patch("runner.jsonl.MARK_BYTES", 200):  # each tenth row
        source = opened(*local(write(tmp_path / "in.jsonl", b"".join(lines))))
    (file,) = source._wanted([range(3, 5), range(5, 9), range(12, 13), range(25, 900)])
    assert [
        (mark.row, [rows for _, rows in together]) for mark, together in source._from_marks(*file)
    ] == [
        (0, [range(3, 5), range(5, 9)]),
        (10, [range(12, 13)]),
        (20, [range(25, 900)]),
    ]


# Costs.


def sized(tmp_path, kind, sizes, limit):
    """A source with prompts of so many letters, file by file."""
    paths = []
    for n, letters in enumerate(sizes):
        prompts = ["x" * some for some in letters]
        paths.append(tmp_path / f"{n}.{kind}")
        if kind == "parquet":
            table = pa.table({"prompt": pa.array(prompts, pa.string()), "y": [1] * len(prompts)})
            pq.write_table(table, paths[-1], row_group_size=3)
        else:
            write(paths[-1], b"".join(b'{"prompt": "%s"}\n' % p.encode() for p in prompts))
    return opened(*local(*paths), limit=limit)


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
@FEW
@given(
    sizes=st.lists(st.lists(st.integers(0, 50), max_size=10), min_size=1, max_size=4),
    limit=st.one_of(st.none(), st.integers(1, 20)),
    mark_bytes=st.integers(1, 100),
    cuts=st.lists(st.integers(0, 40), max_size=6),
)
def test_costs_add_up(tmp_path, kind, sizes, limit, mark_bytes, cuts):
    with mock.patch("runner.jsonl.MARK_BYTES", mark_bytes):
        source = sized(tmp_path, kind, sizes, limit)
    points = [0, *sorted(n for n in cuts if n < source.n_rows), source.n_rows]
    costs = [source.cost(range(*pair)) for pair in itertools.pairwise(points)]
    assert min(costs) >= 0
    assert sum(costs) == source.cost(range(source.n_rows))
    for start, stop in itertools.combinations(points, 2):  # never less for more rows
        assert source.cost(range(start, stop)) >= max(
            source.cost(range(start, max(start, stop - 1))), source.cost(range(start + 1, stop)), 0
        )
    if kind != "parquet":  # lines, of which the last has no end that counts
        letters = [n for some in sizes for n in some][:limit]
        assert sum(letters) <= source.cost(range(source.n_rows)) <= sum(letters) + 15 * len(letters)


def test_costs_are_those_of_prompts(tmp_path):
    letters = [5] * 300 + [1000] * 300
    with mock.patch("runner.jsonl.MARK_BYTES", 100):
        lines = sized(tmp_path, "jsonl", [letters], None)
    assert lines.cost(range(400, 500)) == 100 * 1015
    assert sized(tmp_path, "jsonl.gz", [letters[:300], letters[300:]], None).cost(
        range(400, 500)
    ) == pytest.approx(100 * 1015, rel=0.01)
    texts = ["é" * 5] * 300 + [os.urandom(500).hex() for _ in range(300)]
    table = pa.table({"prompt.x": ["y" * 5000] * 600, "prompt": [[n] * 9 for n in range(600)]})
    pq.write_table(table, tmp_path / "ids.parquet", use_dictionary=False)
    table = pa.table({"text": ["y" * 5000] * 600, "prompt": texts})
    pq.write_table(table, tmp_path / "texts.parquet", row_group_size=100)
    source = opened(*local(tmp_path / "texts.parquet"))
    groups = [pq.read_metadata(tmp_path / "texts.parquet").row_group(n) for n in range(6)]
    assert source.cost(range(300, 600)) == sum(
        g.column(1).total_uncompressed_size for g in groups[3:]
    )
    assert source.cost(range(350, 360)) == pytest.approx(10 * 1000, rel=0.1)
    assert source.cost(range(300)) < 1000
    assert opened(*local(tmp_path / "ids.parquet")).cost(range(100)) >= 100 * 9 * 8 * 0.9


def test_a_footer_that_contradicts_its_row_groups(tmp_path, monkeypatch):
    """It would leave rows out, or promise some that are not there."""
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"prompt": ["a"] * 9}), path)
    footer = path.read_bytes()
    # Thrift's compact form: the third field of the file's metadata, an i64, 9 as a zigzag number.
    schema_end = footer.rindex(b"\x16\x12\x19\x1c")
    path.write_bytes(footer[: schema_end + 1] + b"\x10" + footer[schema_end + 2 :])
    assert pq.read_metadata(path).num_rows == 8
    with pytest.raises(InputError, match=r"8 rows, and 9 in its row groups\); expected a complete"):
        opened(*local(path))


# Which files, among many.


@given(
    lengths=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    points=st.lists(st.integers(0, 30), max_size=6).map(sorted),
)
def test_files_that_rows_lie_in(lengths, points):
    firsts = list(itertools.accumulate(lengths, initial=0))
    ranges = [range(*pair) for pair in zip(points[::2], points[1::2], strict=False)]
    ranges = [r for r in ranges if r]
    expected = {
        n
        for n, k in enumerate(lengths)
        for row in range(firsts[n], firsts[n] + k)
        if any(row in r for r in ranges)
    }
    found = [n for n in spanned(firsts, ranges) if overlaps(ranges, firsts[n], lengths[n])]
    assert set(found) == expected
    assert len(found) == len(expected)
    if len(ranges) == 1:  # empty ones in between apart
        assert {n for n in spanned(firsts, ranges) if lengths[n]} == expected


class Counted(list):
    """Numbers, and how often one was looked at."""

    n_looks = 0

    def __getitem__(self, place):
        self.n_looks += 1
        return super().__getitem__(place)


def test_few_of_many_stretches_are_looked_at():
    sizes = Sizes(Counted(range(50_001)), Counted(range(0, 500_010, 10)))
    assert sizes.of(range(40_000, 40_100)) == 1000
    assert sizes.rows.n_looks + sizes.n_bytes.n_looks < 60
    firsts = Counted(range(50_001))
    assert spanned(firsts, [range(40_000, 40_100)]) == range(40_000, 40_100)
    assert firsts.n_looks < 60


# To other processes.


READING = """
import pickle, sys
source = pickle.load(sys.stdin.buffer)
chunks = list(source.chunks([range(1, source.n_rows)]))
rows = [row for chunk in chunks for row in chunk.rows]
lines = [line for chunk in chunks for line in chunk.json_lines()]
pickle.dump((rows, lines, source.cost(range(source.n_rows)), source.schema), sys.stdout.buffer)
"""


def read_elsewhere(source, cwd):
    """What another process reads, in another folder and with another environment."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-c", READING],
        input=pickle.dumps(source),
        capture_output=True,
        cwd=cwd,
        env=known | {"PYTHONPATH": str(ROOT), "AWS_EC2_METADATA_DISABLED": "true"},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return pickle.loads(done.stdout)


def files_of(folder, kind):
    """Two files of prompts, by name."""
    for n in range(2):
        rows = [{"prompt": f"{n} {m}", "x": m} for m in range(4)]
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{n}.{kind}")
        else:
            lines = b"\n\n".join(json.dumps(row).encode() for row in rows)
            write(folder / f"{n}.{kind}", lines)
    return {f"{n}.{kind}": (folder / f"{n}.{kind}").read_bytes() for n in range(2)}


def same_elsewhere(source, cwd):
    rows, lines, cost, schema = read_elsewhere(source, cwd)
    assert list(zip(rows, lines, strict=True)) == told(source, range(1, 8))
    assert (cost, schema) == (source.cost(range(8)), source.schema)
    assert source.n_rows == 8


@pytest.fixture
def elsewhere(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
@pytest.mark.parametrize("how", ["path", "relative", "uri"])
def test_local_files_in_another_process(tmp_path, elsewhere, monkeypatch, kind, how):
    (tmp_path / "in:x").mkdir()
    monkeypatch.chdir(tmp_path)
    names = files_of(tmp_path / "in:x", kind)
    start = {"path": f"{tmp_path}/in:x", "relative": "in:x", "uri": f"file://{tmp_path}/in:x"}[how]
    places = [place_of(f"{start}/{name}") for name in names]
    with mock.patch("runner.jsonl.MARK_BYTES", 1):
        same_elsewhere(opened(*places), elsewhere)
    again = pickle.loads(pickle.dumps(places[0]))
    assert (again.name, again.read_bytes()) == (places[0].name, places[0].read_bytes())


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
@pytest.mark.parametrize("user", ["", "AKIA1:se%2Fcret@"])
def test_stored_files_in_another_process(tmp_path, elsewhere, store, kind, user):
    names = files_of(tmp_path, kind)
    fill(store, **names)
    places = [place_of(f"s3://{user}data-bucket/{name}") for name in names]
    with mock.patch("runner.jsonl.MARK_BYTES", 1):
        source = opened(*places)
    same_elsewhere(source, elsewhere)
    for shown in (repr(source), str(source), repr(places), repr(vars(source))):
        assert "cret" not in shown
        assert "hidden" not in shown


def test_a_store_is_opened_elsewhere_as_it_was_here(store, monkeypatch):
    fill(store, **{"x.jsonl": b"x"})
    places = {user: place_of(f"s3://{user}data-bucket/x.jsonl") for user in ("", "A:s%2Ft@")}
    pickled = {user: pickle.dumps(place) for user, place in places.items()}
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "5")
    for user, keys in {"": ("known", "hidden"), "A:s%2Ft@": ("A", "s/t")}.items():
        place = pickle.loads(pickled[user])
        assert place == places[user]
        # One store for all places of a process, and for all parts.
        assert pickle.loads(pickled[user]).filesystem is place.filesystem
        _, (options,) = super(type(place.filesystem), place.filesystem).__reduce__()
        assert (options["access_key"], options["secret_key"]) == keys
        assert options["request_timeout"] == 1
        store.plan("HEAD", "x.jsonl", BUSY, times=FOR_EVER)
        before = n_requests(store, "HEAD", "x.jsonl")
        with pytest.raises(StoreError, match="store is busy"):
            place.n_bytes()
        assert n_requests(store, "HEAD", "x.jsonl") == before + ATTEMPTS


def test_the_last_rows_of_a_stored_file_are_fetched_alone(store):
    data = b"".join(b'{"prompt": "%07d %s"}\n' % (n, b"x" * 4000) for n in range(4000))
    fill(store, **{"x.jsonl": data})
    source = opened(place_of("s3://data-bucket/x.jsonl"))
    asked = []

    def noted(handler, running):
        asked.append(handler.headers["Range"])
        reply(handler, *running.pass_on(handler))

    store.plan("GET", "x.jsonl", noted, times=FOR_EVER)
    rows = told(source, range(3900, 4000))
    assert rows[0][0].prompt.startswith("0003900")
    starts = [int(found.removeprefix("bytes=").split("-")[0]) for found in asked]
    assert min(starts) > len(data) - 3_000_000


def test_a_place_of_google_elsewhere():
    options = "endpoint_override=127.0.0.1:9&scheme=http&retry_limit_seconds=3"
    place = place_of(f"gs://anonymous@bucket/a.jsonl?{options}")
    again = pickle.loads(pickle.dumps(place))
    assert again == place
    assert again.name == "gs://bucket/a.jsonl"
