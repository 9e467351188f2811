"""Places on this machine and on the web: which files an input stands for, and how one is put."""

import errno
import io
import itertools
import json
import os
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from reference import DownloadError, download
from runner import RunSettings, run
from runner.errors import InputError, OutputError, PlaceError
from runner.inputs import input_files
from runner.places import Place, explained, place_of
from runner.storage import format_of
from runner.store_errors import reason
from tests import servers


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Files with their own paths as content, below the current folder."""
    monkeypatch.chdir(tmp_path)

    def make(*paths):
        for path in map(Path, paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(path))

    return make


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where copies are made; nothing may stay there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def names(source):
    with input_files(str(source)) as files:
        for file in files:
            below = Path(file.path).absolute().relative_to(Path.cwd())
            assert file.read_bytes().decode() == str(below)
        return [file.name for file in files]


TREE = (
    "data/b.jsonl",
    "data/a.JSONL.gz",
    "data/c d.ndjson",
    "data/in/d.jsonl.zst",
    "data/in/deep/e.jsonl",
    "data/.hidden.jsonl",
    "data/_log.jsonl",
    "data/_tmp/f.jsonl",
    "data/in/.git/g.jsonl",
    "data/gone.jsonl.manifest.json",
    "data/out.jsonl",
    "data/out.jsonl.manifest.json",
    "data/in/out.jsonl.gz",
    "data/in/out.jsonl.gz.manifest.json",
    "data/out.jsonl.parts/0.jsonl",
    "data/out.jsonl.parts/job.json",
    "data/README.md",
    "data/x[1].jsonl",
    "table.parquet",
)
ALL = [
    "data/a.JSONL.gz",
    "data/b.jsonl",
    "data/c d.ndjson",
    "data/in/d.jsonl.zst",
    "data/in/deep/e.jsonl",
    "data/x[1].jsonl",
]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("data", ALL),
        ("data/", ALL),
        ("./data", [f"./{name}" for name in ALL]),
        ("data/b.jsonl", ["data/b.jsonl"]),
        ("data/_log.jsonl", ["data/_log.jsonl"]),
        ("data/out.jsonl", ["data/out.jsonl"]),
        ("data/out*.parts/*.jsonl", ["data/out.jsonl.parts/0.jsonl"]),
        ("data/_tmp", ["data/_tmp/f.jsonl"]),
        ("data/out.jsonl.parts", ["data/out.jsonl.parts/0.jsonl"]),
        ("data/*.jsonl", ["data/b.jsonl", "data/x[1].jsonl"]),
        ("data/?.jsonl", ["data/b.jsonl"]),
        ("data/[ab]*.[jJ]*", ["data/a.JSONL.gz", "data/b.jsonl"]),
        ("data/x[1].jsonl", ["data/x[1].jsonl"]),
        ("data/x[[]1].jsonl", ["data/x[1].jsonl"]),
        ("data/_*.jsonl", ["data/_log.jsonl"]),
        ("data/*/*/*.jsonl", ["data/in/deep/e.jsonl"]),
        ("*/in/**/*.jsonl*", ["data/in/d.jsonl.zst", "data/in/deep/e.jsonl"]),
        ("**/[de].jsonl*", ["data/in/d.jsonl.zst", "data/in/deep/e.jsonl"]),
        ("data/in/**", ["data/in/d.jsonl.zst", "data/in/deep/e.jsonl"]),
        ("*.parquet", ["table.parquet"]),
        ("**/*.parquet", ["table.parquet"]),
    ],
)
def test_which_files_an_input_stands_for(tree, source, expected):
    tree(*TREE)
    assert names(source) == expected
    absolute = f"{Path.cwd()}/{source.removeprefix('./')}"
    whole = [f"{Path.cwd()}/{name.removeprefix('./')}" for name in expected]
    assert names(absolute) == whole
    assert names(f"file://{absolute.replace(' ', '%20')}") == whole


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("none.jsonl", "none.jsonl: no such file; expected .parquet"),
        ("data/*.parquet", r"data/\*.parquet: matches no file"),
        ("data/i*", "matches no file; .*it has to match files, not folders"),
        ("none/*", "matches no file"),
        ("data/b.jsonl/*", "matches no file"),
        ("docs", "docs: is a folder without a file to read"),
        ("data/README.md", "data/README.md: no known format"),
        ("data/R*", "data/README.md: no known format"),
        (".", "files of two formats, ./data/a.JSONL.gz and ./table.parquet; expected one"),
        ("**/*[lt]", "two formats, data/b.jsonl and table.parquet"),
        ("a\0b", "no path has a null byte"),
        ("", "no such file"),
        ("ftp://host/x.jsonl", r"ftp:// is unknown; expected a path, or an address of file://, s3"),
        ("file://host/x.jsonl", "names no file of this machine"),
        ("https://host/x", "https://host/x: no known format"),
        ("https://host/x?f=x.jsonl", "https://host/x: no known format"),
    ],
)
def test_inputs_that_are_refused(tree, source, said):
    tree(*TREE, "docs/README.md")
    with pytest.raises(InputError, match=said):
        names(source)


@pytest.fixture
def odd(tree):
    """A folder with a file whose name is no UTF-8, and that name."""
    tree("d/a.jsonl")
    name = os.fsdecode(b"x\xff.jsonl")
    try:
        Path("d", name).write_text("x")
    except OSError:
        pytest.skip("the file system takes no such name")
    return name


@pytest.mark.parametrize("source", ["d", "d/*", "d/x*", "d/**/*.jsonl", "d/{}", "https://h/{}"])
def test_names_that_are_no_unicode_are_refused(odd, source):
    with pytest.raises(InputError, match=r"x\\udcff.jsonl': its name is no Unicode; .*Rename"):
        names(source.format(odd))


def test_names_that_are_no_unicode_are_in_nobodys_way(odd):
    Path("d", odd).rename(Path("d", odd.replace("jsonl", "txt")))
    assert names("d") == names("d/a*") == ["d/a.jsonl"]
    assert Place.local("d").names() == ["a.jsonl"]
    Path("d/in").mkdir()
    assert Place.local("d").listing() == {"a.jsonl": 9, "in": None}
    assert Place.local("none").names() == []


@pytest.mark.parametrize("text", ["o\udcff.jsonl", "s3://b/o\udcff", "file:///o\udcff"])
def test_places_that_are_no_unicode_are_refused(text):
    with pytest.raises(PlaceError, match=r"o\\udcff.*is no Unicode"):
        place_of(text)


OURS = "d/out-00000-of-00002.jsonl"


@pytest.mark.parametrize("source", ["d", "d/*", "d/*.jsonl", "d/**", "**/*.jsonl", "*/*"])
def test_what_a_job_wrote_is_passed_over(tree, capsys, source):
    tree("d/a.jsonl", OURS, f"{OURS}.manifest.json")
    assert names(source) == ["d/a.jsonl"]
    said = f"{source}: 1 file; passed over 1 that a job wrote, such as {OURS}\n"
    assert capsys.readouterr().err == said
    assert names(OURS) == [OURS]
    assert capsys.readouterr().err == ""
    Path("d/a.jsonl").unlink()
    assert names(source) == [OURS]  # where nothing else is there, it is what is meant


def test_a_folder_says_what_it_passes_over(tree, capsys):
    tree("d/b.jsonl", "d/c.csv", "d/in/d.txt", "d/_s/a.jsonl", "d/_s/b.jsonl", "d/.e")
    tree("d/x.jsonl", "d/x.jsonl.manifest.json", "d/y.jsonl.parts/job.json", "d/esc\x1b")
    Path("d/a.jsonl").symlink_to("b.jsonl")
    assert names("d") == ["d/b.jsonl"]
    assert capsys.readouterr().err == (
        "d: 1 file; passed over 3 of no format that is read, such as d/c.csv; 2 that a job wrote, "
        "such as d/x.jsonl; 1 that are others under another name, such as d/a.jsonl; 2 with names "
        "that begin with . or _, such as d/.e\n"
    )
    tree("e/a.jsonl", "e/b.jsonl")
    names("e")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("source", ["d", "d/*", "d/**"])
def test_a_file_with_two_names_is_taken_once(tree, source):
    tree("d/b.jsonl", "far.jsonl")
    Path("d/a.jsonl").symlink_to("b.jsonl")
    Path("d/c.jsonl").hardlink_to("d/b.jsonl")
    for name in "zyx":
        Path(f"d/{name}.jsonl").symlink_to("../far.jsonl")
    with input_files(source) as files:
        assert [file.name for file in files] == ["d/b.jsonl", "d/x.jsonl"]
    with input_files("d/a.jsonl") as files:
        assert [file.name for file in files] == ["d/a.jsonl"]


@pytest.mark.parametrize("source", ["d", "d/**", "d/*/*", "d/**/*.jsonl", "d/**/*/*.jsonl"])
def test_a_folder_is_passed_over_only_where_it_is_of_a_job(tree, source):
    part = f"part-00000-{'0' * 16}.jsonl"
    tree("d/spare.parts/a.jsonl", f"d/x.jsonl.parts/{part}", "d/x.jsonl.parts/job.json")
    assert names(source) == ["d/spare.parts/a.jsonl"]


def test_a_shard_is_no_input_of_the_next(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text('{"prompt": "one"}\n' * 2)
    for source in (str(tmp_path), f"{tmp_path}/*.jsonl"):
        for n in range(2):
            settings = RunSettings(
                source, f"{tmp_path}/out.jsonl", shard=(n, 2), max_new_tokens=1, overwrite=True
            )
            assert run(settings).provenance["rows"] == [2 * n, 2 * n + 2]


def test_the_order_is_that_of_the_paths(tree):
    """Not that in which a disk lists them."""
    paths = [f"d/{a}{b}.jsonl" for a, b in itertools.product("zay", ("", "/1", "0"))]
    tree(*paths)
    assert names("d") == sorted(paths)
    assert names("d/**/*.jsonl") == sorted(paths)


def test_links(tree):
    tree("data/a.jsonl", "else/b.jsonl", "far.jsonl")
    Path("data/out").symlink_to("../else")
    Path("data/again").symlink_to("../else")
    Path("data/link.jsonl").symlink_to("../far.jsonl")
    Path("data/loop").symlink_to(".")
    Path("else/back").symlink_to("../data")
    with input_files("data") as files:
        assert [file.name for file in files] == [
            "data/a.jsonl",
            "data/again/b.jsonl",
            "data/link.jsonl",
        ]
        assert files[2].read_bytes() == b"far.jsonl"


def test_folders_that_all_lead_to_each_other(tree):
    """Twelve of them have 12! paths."""
    tree(*(f"data/{n}/{n}.jsonl" for n in range(12)))
    for a, b in itertools.permutations(range(12), 2):
        Path(f"data/{a}/to{b}").symlink_to(f"../{b}")
    for source in ("data", "data/**/*.jsonl"):
        with input_files(source) as files:
            assert len(files) == 12


def test_a_link_that_leads_nowhere_is_not_passed_over(tree):
    tree("data/a.jsonl")
    Path("data/b.jsonl").symlink_to("gone")
    with input_files("data") as files:
        said = "b.jsonl: No such file"
        with pytest.raises(InputError, match=said), explained(files[1], InputError):
            files[1].read_bytes()


def test_stdin_is_copied(temporary, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"rows")))
    with input_files("-") as files:
        assert [file.name for file in files] == ["-"]
        assert files[0].read_bytes() == b"rows"
        assert format_of(files[0].path) == "jsonl"
        stamp = files[0].stamp()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"rows")))
    with input_files("-") as files:
        assert files[0].stamp() == stamp  # another copy of the same


def test_a_pipe_is_copied(temporary, tmp_path):
    pipe = tmp_path / "rows.jsonl"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"rows",))
    writer.start()
    with input_files(str(pipe)) as files:
        assert files[0].read_bytes() == files[0].read_bytes() == b"rows"
        assert files[0].name == str(pipe)
    writer.join()
    pipe.rename(tmp_path / "rows")
    with pytest.raises(InputError, match="no known format"), input_files(str(tmp_path / "rows")):
        pass


CONTENT = bytes(range(256)) * 2000


@pytest.fixture
def web(tmp_path, temporary, monkeypatch):
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "x.jsonl").write_bytes(CONTENT)
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(download, "TIMEOUT_S", (2.0, 0.5))
    with servers.FaultyServer(folder) as running:
        yield running


def fetched(url):
    with input_files(url) as files:
        assert format_of(files[0].path) == "jsonl"
        return [(file.name, file.read_bytes()) for file in files]


def test_a_file_on_the_web(web):
    assert fetched(f"{web.url}/x.jsonl") == [(f"{web.url}/x.jsonl", CONTENT)]


@pytest.mark.parametrize(
    "faults",
    [
        [servers.drop_after(100_000), servers.drop_after(100_000)],
        [servers.hang(5)],
        [servers.status(429, Retry_After="0"), servers.status(503, Retry_After="0")],
        [servers.chunked(100_000)],
    ],
)
def test_a_fetch_goes_on_after_what_mends_itself(web, faults):
    web.plan["x.jsonl"] = list(faults)
    assert fetched(f"{web.url}/x.jsonl")[0][1] == CONTENT
    assert len(web.seen) == len(faults) + 1
    assert not web.plan["x.jsonl"]


def test_a_fetch_goes_on_where_it_broke(web):
    web.plan["x.jsonl"] = [servers.drop_after(100_000)]
    fetched(f"{web.url}/x.jsonl")
    assert [wanted for _, wanted, _ in web.seen] == [None, "bytes=100000-"]


def test_the_server_says_how_long_to_wait(web, monkeypatch):
    waits = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    web.plan["x.jsonl"] = [servers.status(429, Retry_After="7"), servers.status(503)]
    fetched(f"{web.url}/x.jsonl")
    assert waits == [7, 0.02]


@pytest.mark.parametrize(
    ("fault", "n_times", "said"),
    [
        (servers.status(404), 1, "the server answered 404 .*; expected the file. Check the addr"),
        (servers.status(403), 1, "the server answered 403 "),
        (
            servers.status(429),
            download.ATTEMPTS,
            "429 .*0 bytes had come. Run again later, or copy",
        ),
        (servers.drop_after(0), download.ATTEMPTS, "the transfer ended|the connection failed"),
        (servers.encoded, 1, "comes encoded as 'gzip'"),
    ],
)
def test_a_fetch_that_never_succeeds_ends(web, fault, n_times, said):
    web.plan["x.jsonl"] = [fault] * 20
    with pytest.raises(InputError, match=f"^{web.url}/x.jsonl: .*({said})") as caught:
        fetched(web.url.replace("//", "//user:secret@") + "/x.jsonl?signature=secret")
    assert len(web.seen) == n_times
    assert "secret" not in str(caught.value)


def test_a_file_whose_length_nobody_tells(web):
    web.plan["x.jsonl"] = [servers.without_length()]
    assert fetched(f"{web.url}/x.jsonl")[0][1] == CONTENT


def redirected(target):
    return servers.status(302, Location=target)


def test_redirections(web):
    web.plan["x.jsonl"] = [redirected("/other/x.jsonl")]
    assert fetched(f"{web.url}/x.jsonl?a=b") == [(f"{web.url}/x.jsonl", CONTENT)]
    web.plan["x.jsonl"] = [redirected("/x.jsonl")] * 20
    with pytest.raises(InputError, match="more than 10 redirections"):
        fetched(f"{web.url}/x.jsonl")


def test_nobody_is_sent_from_https_to_http(web, tmp_path, monkeypatch):
    """Without a certificate there is no https here, so the first answer is made up."""
    asked = []

    def answer(_, url, **__):
        asked.append(url)
        response = download.requests.Response()
        response.status_code, response.raw = 302, io.BytesIO()
        response.headers["Location"] = f"{web.url}/x.jsonl"
        return response

    monkeypatch.setattr(download.requests.Session, "get", answer)
    with pytest.raises(DownloadError, match="it is redirected away from https"):
        download.fetch_file("https://host/x.jsonl", tmp_path / "x")
    assert asked == ["https://host/x.jsonl"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://u:secret@host/x.jsonl?k=secret", "https://host/x.jsonl: can only be read"),
        (
            "HTTP://host/x.jsonl",
            "can only be read.* expected a path, or an address of file://, s3:",
        ),
        ("hdfs://host/x.jsonl", "hdfs:// is unknown; expected a path, or .*s3://, gs://, http://"),
        ("gs://user:secret@bucket/x", "gs://bucket/x: a user in gs:// can only be anonymous"),
        ("gs://bucket/x?region=secret", "'region' behind the question mark is no option"),
    ],
)
def test_places_that_are_refused(text, said):
    with pytest.raises(PlaceError, match=said) as caught:
        place_of(text)
    assert "secret" not in str(caught.value)


def test_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert place_of("a/b.jsonl").path == "a/b.jsonl"
    assert place_of("file:///a/b%20c.jsonl").path == "/a/b c.jsonl"
    place = place_of("gs://anonymous@bucket/a/b.jsonl?endpoint_override=127.0.0.1:9&scheme=http")
    assert (place.name, place.path) == ("gs://bucket/a/b.jsonl", "bucket/a/b.jsonl")
    assert not place.is_local
    assert (place / "c").name == "gs://bucket/a/b.jsonl/c"


def write(path, text):
    path.write_text(text)
    return path


def test_put_and_put_new(tmp_path):
    place = Place.local(tmp_path / "x.jsonl")
    assert not place.exists()
    place.put(write(tmp_path / "part", "1"))
    place.put(write(tmp_path / "part", "2"))
    kept = write(tmp_path / "kept", "3")
    with pytest.raises(FileExistsError):
        place.put_new(kept)
    assert kept.read_text() == "3"
    assert place.read_bytes() == b"2"
    place.remove()
    place.remove()
    place.put_new(kept)
    assert place.read_bytes() == b"3"
    assert place.n_bytes() == 1
    assert list(tmp_path.iterdir()) == [Path(place.path)]
    assert Path(place.path).stat().st_nlink == 1


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_put_new_without_hard_links(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    place, kept = Place.local(tmp_path / "x.jsonl"), write(tmp_path / "kept", "2")
    place.put_new(write(tmp_path / "part", "1"))
    with pytest.raises(FileExistsError):
        place.put_new(kept)
    assert place.read_bytes() == b"1"
    assert kept.exists()


def test_a_stamp_changes_with_the_file(tmp_path):
    place = Place.local(write(tmp_path / "x", "1"))
    stamps = [place.stamp(), place.stamp()]
    assert stamps[0] == json.loads(json.dumps(stamps[1]))
    times = Path(place.path).stat()
    write(tmp_path / "x", "22")
    stamps.append(place.stamp())
    place.put(write(tmp_path / "part", "33"))
    os.utime(place.path, ns=(times.st_atime_ns, times.st_mtime_ns))
    stamps.append(place.stamp())
    assert len({json.dumps(stamp) for stamp in stamps}) == 3


def test_folders(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    folder = Place.local(tmp_path / "a/b")
    assert folder.names() == []
    (folder / "x").put(write(tmp_path / "part", "1"))
    assert folder.names() == ["x"]
    assert folder.is_folder()
    folder.remove_folder()
    folder.remove_folder()
    assert not folder.exists()
    with pytest.raises(FileNotFoundError) as caught:
        (folder / "x").open()
    assert caught.value.strerror == "No such file or directory"
    with pytest.raises(FileNotFoundError):
        folder.n_bytes()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device. Mend that"),
        (
            OSError(
                "When reading information for key 'x' in bucket 'b': AWS Error UNKNOWN (HTTP status"
                " 301) during HeadObject operation: No response body."
            ),
            "the bucket lies in another region (HTTP status 301). Set AWS_REGION",
        ),
        (
            PermissionError(
                errno.EACCES,
                "google::cloud::Status(UNAUTHENTICATED: Permanent error, with a last message of "
                "<Error><Code>x</Code></Error> error_info={reason=, metadata={"
                "gcloud-cpp.retry.function=GetObjectMetadata, http_status_code=401}})",
            ),
            "access is denied (x); expected credentials that may do this. Set GOOGLE_APPLICATION_",
        ),
        (
            OSError(
                "google::cloud::Status(UNAVAILABLE: Retry policy exhausted, with a last message of "
                "x error_info={reason=, metadata={gcloud-cpp.retry.on-entry=false}})"
            ),
            "the store is busy (UNAVAILABLE) and remained so. Run again later",
        ),
        (
            OSError(
                "google::cloud::Status(UNAVAILABLE: Retry policy exhausted, with a last message of "
                "PerformWork() - CURL error [7]=Could not connect to server)"
            ),
            "the connection failed (could not connect to server), again and again. Check the net",
        ),
        (OSError("odd s3://key:secret@bucket"), "odd s3://bucket"),
    ],
)
def test_what_stores_say_in_our_words(error, said):
    assert reason(error).startswith(said)
    place = Place.local("/x", "gs://b/x")
    with pytest.raises(OutputError) as caught, explained(place, OutputError):
        raise error
    assert str(caught.value).startswith(f"gs://b/x: {said}")
