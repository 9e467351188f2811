"""Places in S3, against a store that we did not write and a network that breaks."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner import stores as module
from runner.errors import InputError, OutputError, PlaceError
from runner.inputs import input_files
from runner.places import explained, place_of
from runner.store_errors import StoreError
from tests import stores
from tests.stores import (
    ATTEMPTS,
    BUSY,
    FOR_EVER,
    cut_answer,
    cut_request,
    fill,
    held,
    lost,
    n_requests,
    refused,
    silent,
    wrong_length,
)

MULTIPART = 11 << 20  # two parts


@pytest.fixture
def part(tmp_path):
    def make(n_bytes):
        file = tmp_path / "x.part"
        file.write_bytes(os.urandom(n_bytes))
        return file

    return make


def read(uri):
    with input_files(uri) as files:
        return [file.read_bytes() for file in files]


def names(uri):
    with input_files(uri) as files:
        return [file.name for file in files]


FILES = {
    "in/b.jsonl": b"b",
    "in/a.jsonl.gz": b"a",
    "in/deep/c.jsonl": b"c",
    "in/_log.jsonl": b"",
    "in/.x/y.jsonl": b"",
    "in/out.jsonl": b"o",
    "in/out.jsonl.manifest.json": b"",
    "in/out.jsonl.parts/0.jsonl": b"",
    "in/out.jsonl.parts/job.json": b"",
    "in/README.md": b"",
    "other/d.jsonl": b"d",
    "p[1].jsonl": b"p",
}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("in/b.jsonl", ["in/b.jsonl"]),
        ("in", ["in/a.jsonl.gz", "in/b.jsonl", "in/deep/c.jsonl"]),
        ("in/", ["in/a.jsonl.gz", "in/b.jsonl", "in/deep/c.jsonl"]),
        ("in/*.jsonl", ["in/b.jsonl"]),
        ("*/*.jsonl", ["in/b.jsonl", "other/d.jsonl"]),
        ("**/[cd].jsonl", ["in/deep/c.jsonl", "other/d.jsonl"]),
        ("in/**/*.jsonl*", ["in/a.jsonl.gz", "in/b.jsonl", "in/deep/c.jsonl"]),
        ("p[1].jsonl", ["p[1].jsonl"]),
    ],
)
def test_files_folders_and_patterns(store, uri, expected):
    fill(store, **FILES)
    assert names(f"s3://data-bucket/{uri}") == [f"s3://data-bucket/{name}" for name in expected]
    assert read(f"s3://data-bucket/{uri}") == [FILES[name] for name in expected]


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://data-bucket/none.jsonl", "no such file"),
        ("s3://data-bucket/none/*.jsonl", "matches no file"),
        ("s3://data-bucket/in/d*", "matches no file"),
        ("s3://data-bucket/in/**", "README.md: no known format"),
        ("s3://data-bucket/in/R*", "README.md: no known format"),
        ("s3://data-bucket/in/README.md", "no known format"),
        ("s3://none-bucket/x.jsonl", "no such bucket"),
        ("s3://data-*/x.jsonl", "bucket's name has no wildcards"),
        ("s3:///x.jsonl", "no bucket; expected s3://BUCKET/PATH"),
        ("s3://data-bucket/part-?.jsonl", r"'\.jsonl' behind the question mark is no option"),
        ("s3://data-bucket/x.jsonl?region=", "no such file"),
    ],
)
def test_inputs_that_are_not_there(store, uri, said):
    fill(store, **FILES)
    with pytest.raises(InputError, match=said):
        read(uri)


def test_a_folder_without_rows(store):
    fill(store, **{"docs/README.md": b""})
    with pytest.raises(InputError, match="is a folder without a file to read"):
        read("s3://data-bucket/docs")


@pytest.mark.parametrize(
    ("method", "act"), [("GET", cut_answer(1000)), ("GET", BUSY), ("HEAD", BUSY), ("GET", silent)]
)
def test_a_read_goes_on_after_what_mends_itself(store, method, act):
    content = os.urandom(300_000)
    fill(store, **{"x.jsonl": content})
    store.plan(method, "x.jsonl", act, times=ATTEMPTS - 1)
    assert read("s3://data-bucket/x.jsonl") == [content]
    assert store.n_faults == ATTEMPTS - 1


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (cut_answer(1000), "connection failed .transferred a partial file"),
        (BUSY, "the store is busy .S.*AWS_MAX_ATTEMPTS"),
        (silent, "connection failed .timeout was reached.*Check the network"),
        (refused(500, "InternalError"), "the store is busy"),
    ],
)
def test_a_read_that_never_succeeds_ends(store, act, said):
    fill(store, **{"x.jsonl": os.urandom(300_000)})
    store.plan("GET", "x.jsonl", act, times=FOR_EVER)
    with pytest.raises(StoreError, match=said):
        read("s3://data-bucket/x.jsonl")
    assert store.n_faults == n_requests(store, "GET", "x.jsonl") == ATTEMPTS


@pytest.mark.parametrize("times", [1, FOR_EVER])
def test_an_error_that_is_longer_than_what_is_read(store, monkeypatch, times):
    """Arrow does not try again by itself: it cannot see what it is told."""
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.01)
    fill(store, **{"x.jsonl": b"12345678"})
    place = place_of("s3://data-bucket/x.jsonl")
    store.plan("GET", "x.jsonl", BUSY, times=times)
    with place.open() as stream:
        stream.seek(6)
        if times == 1:
            assert stream.read(9) == b"78"
        else:
            with pytest.raises(StoreError, match="the store is busy"):
                stream.read(2)
    assert store.n_faults == (1 if times == 1 else ATTEMPTS)


def test_a_store_that_is_busy_for_a_while(store, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "4")
    fill(store, **{"x.jsonl": bytes(1000)})
    store.plan("GET", "x.jsonl", BUSY, times=3)
    assert read("s3://data-bucket/x.jsonl") == [bytes(1000)]
    assert store.n_faults == 3


def test_parquet_is_read_through_it(store, tmp_path):
    table = pa.table({"a": range(1000), "b": [str(n) for n in range(1000)]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=100)
    fill(store, **{"x.parquet": (tmp_path / "x.parquet").read_bytes()})
    store.plan("GET", "x.parquet", cut_answer(100))
    with place_of("s3://data-bucket/x.parquet").open() as stream:
        assert pq.ParquetFile(stream).read().equals(table)
    assert store.n_faults == 1


@pytest.mark.parametrize("n_bytes", [50, 100, 150])
def test_a_file_that_changes_while_it_is_read(store, n_bytes):
    """Of one that has become shorter, Arrow reads what happened to be in the memory."""
    fill(store, **{"x.jsonl": bytes(100)})
    with place_of("s3://data-bucket/x.jsonl").open() as stream:
        fill(store, **{"x.jsonl": b"1" * n_bytes})
        with pytest.raises(StoreError, match="the file has changed while it was read"):
            stream.read()


def test_a_stream_that_breaks_later_is_explained(store):
    fill(store, **{"x.jsonl": bytes(100)})
    with input_files("s3://data-bucket/x.jsonl") as files:
        stream = files[0].open()
        store.plan("GET", "x.jsonl", BUSY, times=FOR_EVER)
        said = "^s3://data-bucket/x.jsonl: the store is busy"
        with pytest.raises(InputError, match=said), explained(files[0], InputError):
            stream.read()


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_wrong_credentials(store, part, code):
    fill(store, **{"x.jsonl": b"x"})
    for method in ("HEAD", "PUT"):
        store.plan(method, "", refused(403, code), times=FOR_EVER)
    said = "s3://data-bucket/x.jsonl: access is denied .*Set AWS_ACCESS_KEY_ID and AWS_SECRET"
    with pytest.raises(InputError, match=said):
        read("s3://data-bucket/x.jsonl")
    file, place = part(10), place_of("s3://data-bucket/x.jsonl")
    with pytest.raises(OutputError, match=said), explained(place, OutputError):
        place.put(file)
    assert store.n_faults == 2
    assert held(store, "x.jsonl") == b"x"


def test_nobody_listens(store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="the connection failed .*Check the network"):
        read("s3://data-bucket/x.jsonl")


@pytest.mark.parametrize("n_bytes", [0, 10, 10 << 20, MULTIPART])
@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_what_is_put_is_there(store, part, monkeypatch, n_bytes, name):
    monkeypatch.setattr(module, "CHUNKS_ON_THE_WAY", 1)
    file = part(n_bytes)
    content, place = file.read_bytes(), place_of(f"s3://data-bucket/out/{name}")
    place.put(file)
    assert place.exists()
    assert place.n_bytes() == n_bytes
    assert held(store, f"out/{name}") == content
    assert not file.exists()


@pytest.mark.parametrize(
    ("n_bytes", "skip", "act", "old"),
    [
        (10, 0, BUSY, b"old"),
        (10, 0, cut_request(4), None),
        (MULTIPART, 0, cut_request(4), b"old"),
        (MULTIPART, 1, BUSY, None),
        (MULTIPART, 1, cut_request(100_000), b"old"),
    ],
)
def test_a_write_that_breaks_leaves_nothing(store, part, n_bytes, skip, act, old):
    if old is not None:
        fill(store, **{"x.jsonl": old})
    file, place = part(n_bytes), place_of("s3://data-bucket/x.jsonl")
    store.plan("PUT", "x.jsonl", act, times=FOR_EVER, skip=skip)
    with pytest.raises(StoreError, match="store is busy|connection failed"):
        place.put(file)
    gc.collect()
    assert store.n_faults >= ATTEMPTS
    assert held(store, "x.jsonl") == old
    assert file.stat().st_size == n_bytes  # to be tried again


@pytest.mark.parametrize("act", [BUSY, cut_request(4), lost])
@pytest.mark.parametrize("n_bytes", [10, MULTIPART])
def test_a_write_goes_on_after_what_mends_itself(store, part, n_bytes, act):
    file, place = part(n_bytes), place_of("s3://data-bucket/x.jsonl")
    content = file.read_bytes()
    store.plan("PUT", "x.jsonl", act)
    place.put(file)
    assert store.n_faults == 1
    assert held(store, "x.jsonl") == content


@pytest.mark.parametrize("old", [None, b"old"])
def test_an_upload_is_finished_and_nobody_says_so(store, part, old):
    if old is not None:
        fill(store, **{"x.jsonl": old})
    file, place = part(MULTIPART), place_of("s3://data-bucket/x.jsonl")
    content = file.read_bytes()
    store.plan("POST", "uploadId", lost, times=FOR_EVER)
    place.put(file)
    assert store.n_faults >= ATTEMPTS  # Arrow tries this one more often
    assert held(store, "x.jsonl") == content


def test_an_upload_that_cannot_be_finished(store, part):
    file, place = part(MULTIPART), place_of("s3://data-bucket/x.jsonl")
    store.plan("POST", "uploadId", BUSY, times=FOR_EVER)
    with pytest.raises(StoreError, match="store is busy"):
        place.put(file)
    assert held(store, "x.jsonl") is None


def test_a_length_that_is_wrong_afterwards_is_removed(store, part):
    file, place = part(100), place_of("s3://data-bucket/x.jsonl")
    store.plan("HEAD", "x.jsonl", wrong_length, skip=1)
    with pytest.raises(StoreError, match="7 bytes were stored; expected 100"):
        place.put(file)
    assert held(store, "x.jsonl") is None
    assert file.exists()


INTERRUPTED = """
import pathlib, sys
from runner.places import place_of

class Part(type(pathlib.Path())):
    def open(self, mode):
        stream = super().open(mode)
        class Stream:
            def __enter__(self): return self
            def __exit__(self, *_): stream.close()
            def read(self, n):
                if stream.tell(): raise KeyboardInterrupt
                return stream.read(n)
        return Stream()

place_of("s3://data-bucket/x.jsonl").put(Part(sys.argv[1]))
"""


@pytest.mark.parametrize("n_bytes", [10, MULTIPART])
def test_an_interrupted_upload_is_not_finished_when_the_process_ends(store, part, n_bytes):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, part(n_bytes)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "KeyboardInterrupt" in done.stderr
    assert held(store, "x.jsonl") is None
    uploads = [path for method, path in store.seen if method == "POST"]
    assert len(uploads) == 1  # begun; none finished


def test_arrow_itself_would_finish_it(store):
    """Why `upload` is as it is: closing is what makes an object, whatever had to be written."""
    other = place_of("s3://data-bucket/x.jsonl").filesystem

    def write():
        with other.open_output_stream("data-bucket/x.jsonl") as out:
            out.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert held(store, "x.jsonl") == b"half"


def test_a_bucket_that_is_not_there(store, part):
    place = place_of("s3://none-bucket/x.jsonl")
    for n_bytes in (10, MULTIPART):
        with pytest.raises(StoreError, match="no such bucket; expected one"):
            place.put(part(n_bytes))


def test_a_place_that_is_taken(store, part):
    place, file = place_of("s3://data-bucket/x.jsonl"), part(10)
    content = file.read_bytes()
    place.put_new(file)
    again = part(20)
    with pytest.raises(FileExistsError):
        place.put_new(again)
    assert held(store, "x.jsonl") == content
    assert again.exists()


def test_a_stamp_changes_with_the_file(store, part):
    place = place_of("s3://data-bucket/x.jsonl")
    place.put(part(10))
    first = place.stamp()
    assert first == place.stamp()
    place.put(part(10))  # within the same second
    assert place.stamp() != first


def test_folders(store, part):
    folder = place_of("s3://data-bucket/job.parts")
    assert folder.names() == []
    for name in ("a", "b", "c/d"):
        (folder / name).put(part(3))
    assert folder.names() == ["a", "b", "c"]
    assert folder.is_folder()
    (folder / "a").remove()
    (folder / "a").remove()
    assert folder.names() == ["b", "c"]
    folder.remove_folder()
    folder.remove_folder()
    assert folder.names() == []
    assert not folder.exists()
    assert not (folder / "b").exists()
    with pytest.raises(FileNotFoundError):
        (folder / "b").n_bytes()
    with pytest.raises(FileNotFoundError, match="No such file"):
        (folder / "b").open()


def test_an_address_says_where_its_store_is(store, monkeypatch):
    fill(store, **{"x y.jsonl": b"x"})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    uri = "s3://data-bucket/x%20y.jsonl"
    options = f"endpoint_override={store.endpoint}&scheme=http&region=us-east-1"
    assert read(f"{uri}?{options}") == [b"x"]
    assert read(f"s3://anonymous@data-bucket/x y.jsonl?{options}") == [b"x"]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{store.endpoint}")
    assert read(uri) == [b"x"]


def test_nobody_reads_a_secret(store):
    place = place_of("s3://AKIA1:se%2Fcret@data-bucket/x.jsonl?region=us-east-1")
    assert place.name == "s3://data-bucket/x.jsonl"
    assert (place / "y").name == "s3://data-bucket/x.jsonl/y"
    store.plan("HEAD", "x.jsonl", refused(403, "AccessDenied"), times=FOR_EVER)
    for uri in (
        "s3://AKIA1:se%2Fcret@data-bucket/x.jsonl",
        "s3://AKIA1:se/cret@data-bucket/x.jsonl",
        "s3://AKIA1:se/cret@data-bucket/*.jsonl?a=cret",
        "s3://AKIA1:se/cret",
        "s3://AKIA1:se%2Fcret@/x.jsonl",
        "s3://data-bucket/x.jsonl?token=cret",
    ):
        with pytest.raises(InputError) as caught:
            read(uri)
        assert "cret" not in str(caught.value).replace("secret", "").replace("SECRET", "")
        assert "AKIA1" not in str(caught.value)


@pytest.mark.parametrize("name", ["AWS_MAX_ATTEMPTS", "PICOBATCH_TIMEOUT_S"])
@pytest.mark.parametrize("value", ["many", "0", "-1", "nan"])
def test_settings_that_are_no_numbers(store, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(PlaceError, match=f"{name}: '{value}'; expected a number above 0"):
        place_of("s3://data-bucket/x.jsonl")


def test_the_faults_are_seen(store):
    """A plan that never comes true would prove nothing."""
    fill(store, **{"x.jsonl": b"x"})
    store.plan("GET", "x.jsonl", BUSY)
    place_of("s3://data-bucket/x.jsonl").read_bytes()
    assert store.n_faults == 1
    assert n_requests(store, "GET", "x.jsonl") == 2
    assert stores.refused(403, "X") is not None
