"""The download, against a real server that does what servers do."""

import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from filelock import FileLock, Timeout

from reference import DownloadError, HParams, ModelError, download, load_model, model_files
from reference.models import DEMO_DIR
from reference.published import FILES, PUBLISHED, Expected, Published
from runner.cli import cli
from tests import servers

GOLDEN = Path(__file__).parents[1] / "golden" / "tensorflow" / "gpt2"
DATA = "model.ckpt.data-00000-of-00001"
HPARAMS = HParams(n_vocab=290, n_ctx=24, n_embd=24, n_head=3, n_layer=2)


def serve_folder(folder):
    """A published model that is small enough for tests."""
    shutil.copytree(GOLDEN, folder)
    (folder / "model.ckpt.meta").write_bytes(b"a graph that nobody reads")
    return folder


def register(folder, hashes=("encoder.json", "vocab.bpe")):
    """What is known of it: lengths, the hashes of some files, nothing of the meta file."""
    files = {}
    for name in FILES:
        content = (folder / name).read_bytes()
        sha256 = hashlib.sha256(content).hexdigest() if name in hashes else None
        files[name] = Expected(len(content), sha256)
    files["model.ckpt.meta"] = Expected()
    PUBLISHED["tiny"] = Published(HPARAMS, files)


@pytest.fixture
def server(tmp_path, monkeypatch):
    folder = serve_folder(tmp_path / "served")
    register(folder)
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(download, "TIMEOUT_S", (2.0, 0.5))
    with servers.FaultyServer(folder) as running:
        yield running
    del PUBLISHED["tiny"]


@pytest.fixture
def models_dir(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def fetch(server, models_dir):
    return lambda: load_model("tiny", models_dir=models_dir, base_url=server.url)


def on_disk(models_dir):
    """Everything but the lock."""
    found = sorted(path.name for path in (models_dir / "tiny").glob("*"))
    return [name for name in found if name != ".lock"]


def requests_of(server, name):
    return [(wanted, condition) for seen, wanted, condition in server.seen if seen == name]


def test_the_seven_files_arrive_and_load(fetch, server, models_dir):
    model = fetch()
    assert on_disk(models_dir) == sorted(FILES)
    for name in FILES:
        assert (models_dir / "tiny" / name).read_bytes() == (server.folder / name).read_bytes()
    assert model.weights_sha256 == load_model(GOLDEN).weights_sha256
    assert [name for name, _, _ in server.seen] == list(FILES)


def test_nothing_is_asked_for_twice(fetch, server, models_dir):
    fetch()
    n_requests = len(server.seen)
    fetch()
    (models_dir / "tiny" / "model.ckpt.meta").unlink()  # which a copy made by hand may lack
    fetch()
    assert len(server.seen) == n_requests
    (models_dir / "tiny" / "vocab.bpe").unlink()
    fetch()
    asked = [name for name, _, _ in server.seen[n_requests:]]
    assert asked == ["vocab.bpe", "model.ckpt.meta"]


# What a server may do, and what then is on the disk: the whole file each time.
MENDED = {
    "drops the connection": [servers.drop_after(5000)],
    "drops it again and again": [servers.drop_after(20_000)] * 12,
    "sends headers and nothing": [servers.drop_after(0)] * 3,
    "says it has more than it sends": [servers.drop_after(88128 - 1)],
    "gives no length": [servers.without_length()],
    "gives no length and stops short": [servers.without_length(7000)],
    "sends chunks": [servers.chunked()],
    "breaks off in a chunk": [servers.chunked(7000)],
    "sends no byte for too long": [servers.hang(1.5)],
    "answers 503": [servers.status(503)] * 3,
    "answers 429 with Retry-After": [servers.status(429, Retry_After="0")],
    "answers 500 after a part": [servers.drop_after(20_000), servers.status(500)],
    "ignores Range": [servers.drop_after(20_000), servers.ignore_range],
    "sends another range": [servers.drop_after(20_000), servers.other_range],
    "answers 416": [servers.drop_after(20_000), servers.status(416)],
    "corrupts a byte of a tensor": [servers.corrupt(12345)],
    "corrupts a byte, then drops": [servers.corrupt(40), servers.drop_after(5000)],
    "sends more than the file": [servers.longer],
    "sends early hints": [servers.status(103)],
    "asks for an absurd wait": [servers.status(429, Retry_After="9" * 5000)] * 2,
    "asks for a wait that is over": [servers.status(503, Retry_After="-5")],
    "asks to wait for another age": [
        servers.status(503, Retry_After="Fri, 31 Dec 99999 23:59:59 GMT")
    ],
    "redirects": [servers.status(302, Location="/else/" + DATA), servers.honest],
    "has nothing at all": [servers.status(416, Content_Range="bytes */0")],
    "has an odd length": [servers.drop_after(5000), servers.odd_length],
    "wants a password in between": [servers.drop_after(80_000), *[servers.page()] * 3],
    "wants a password first": [servers.page()] * 3,
    "says that it is as it is": [servers.as_it_is],
    "has another file, and ignores If-Range": [servers.drop_after(20_000), servers.changed],
    "redirects, and talks on for ever": [servers.endless_redirect],
    "gives no ETag": [servers.without_etag(20_000)] * 3,
    "redirects to letters": [
        servers.status(302, Location="/els\u00c3\u00a9/" + DATA),  # UTF-8, as servers send it
        servers.honest,
    ],
}


@pytest.mark.parametrize("what", MENDED)
def test_what_mends_itself(fetch, server, models_dir, what):
    server.plan[DATA] = list(MENDED[what])
    fetch()
    assert on_disk(models_dir) == sorted(FILES)
    assert (models_dir / "tiny" / DATA).read_bytes() == (server.folder / DATA).read_bytes()


# What cannot be mended: the message, and what is left.
REFUSED = {
    "answers 404": ([servers.status(404)] * 9, "the server answered 404 Not Found", None),
    "answers 403": ([servers.status(403)] * 9, "the server answered 403 Forbidden", None),
    "is down for good": ([servers.status(503)] * 99, "the server answered 503 Service Una", None),
    "drops every time at once": ([servers.drop_after(0)] * 99, "the connection failed", 0),
    "claims less": ([servers.claim(100)] * 9, "the server offers 100 bytes; expected 88,128", None),
    "claims more": ([servers.claim(10**9)] * 9, "the server offers 1,000,000,000 bytes", None),
    "encodes": ([servers.encoded] * 9, "comes encoded as 'gzip'; expected it as it is", None),
    "redirects for ever": (
        [servers.status(302, Location="/else/" + DATA)] * 99,
        "more than 10 redirections",
        None,
    ),
    "redirects to nowhere": (
        [servers.status(302, Location="http://[")] * 9,
        "expected an address that can be fetched",
        None,
    ),
    "redirects to another scheme": (
        [servers.status(302, Location="file:///etc/passwd")] * 9,
        "expected an address that can be fetched",
        None,
    ),
    "brings the same again and again": (
        [servers.without_range(n) for n in (40_000, 20_000)] * 50,
        "the connection failed.* 40,000 bytes are kept",
        40_000,
    ),
    "answers ranges without saying which": (
        [servers.drop_after(40_000), servers.nameless_range] * 50,
        "40,000 bytes are kept",
        40_000,
    ),
    "redirects to no text": (
        [servers.status(302, Location="\u00ff\u00fe")] * 9,
        "codec can't decode .*; expected an address that can be fetched",
        None,
    ),
    "wants a password for good": ([servers.page()] * 99, "500 of 88,128. Nothing of it", None),
    "wants a password after a part": (
        [servers.drop_after(80_000)] + [servers.page()] * 99,
        "80,000 bytes are kept, and the same command goes on behind them",
        80_000,
    ),
    "drips": ([servers.drip] * 99, r"only [\d,]+ bytes came in", 0),
    "corrupts each time": (
        [servers.corrupt(12345)] * 9,
        r"it is damaged \(.*tensor model/h0/mlp/c_fc/w, bytes [\d,]+ to [\d,]+, is.*twice; nothing",
        None,
    ),
    "is stuck after a part": (
        [servers.drop_after(20_000)] + [servers.status(503)] * 99,
        "20,000 bytes are kept, and the same command goes on behind them",
        20_000,
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_mended(fetch, server, models_dir, what):
    plan, message, kept = REFUSED[what]
    server.plan[DATA] = list(plan)
    with pytest.raises(DownloadError, match=message) as caught:
        fetch()
    assert f"{server.url}/tiny/{DATA}: " in str(caught.value)
    left = [name for name in on_disk(models_dir) if name not in FILES]
    assert DATA not in on_disk(models_dir)
    assert len(requests_of(server, DATA)) < 20
    if what == "drips":
        pass
    elif kept is None:
        assert left == []
    else:
        assert (models_dir / "tiny" / f"{DATA}.part").stat().st_size == kept
        assert set(left) == {f"{DATA}.part", f"{DATA}.part.etag"}
    # Whatever it was: when the server is well again, the same call does it.
    server.plan[DATA].clear()
    fetch()
    assert on_disk(models_dir) == sorted(FILES)


def test_a_transfer_goes_on_behind_what_is_here(fetch, server):
    server.plan[DATA] = [servers.drop_after(50_000), servers.drop_after(30_000)]
    fetch()
    content = (server.folder / DATA).read_bytes()
    assert requests_of(server, DATA) == [
        (None, None),
        ("bytes=50000-", servers.etag(content)),
        ("bytes=80000-", servers.etag(content)),
    ]


def test_another_process_goes_on_behind_it_too(fetch, server, models_dir):
    server.plan[DATA] = [servers.drop_after(50_000)] + [servers.status(503)] * 99
    with pytest.raises(DownloadError):
        fetch()
    server.plan[DATA].clear()
    server.seen.clear()
    fetch()
    (one,) = requests_of(server, DATA)
    assert one[0] == "bytes=50000-"


def test_a_file_that_changed_meanwhile_is_fetched_anew(fetch, server, models_dir, monkeypatch):
    """If-Range: the end of one file is never put behind the beginning of another."""
    content = (server.folder / "model.ckpt.meta").read_bytes()
    server.plan["model.ckpt.meta"] = [servers.drop_after(10)] + [servers.status(503)] * 99
    with pytest.raises(DownloadError):
        fetch()
    server.plan["model.ckpt.meta"].clear()
    (server.folder / "model.ckpt.meta").write_bytes(content[::-1])
    fetch()
    assert (models_dir / "tiny" / "model.ckpt.meta").read_bytes() == content[::-1]


def test_a_part_that_is_whole_already_only_takes_its_name(fetch, server, models_dir):
    """A process that was killed between the last byte and the renaming."""
    (models_dir / "tiny").mkdir(parents=True)
    shutil.copy(server.folder / DATA, models_dir / "tiny" / f"{DATA}.part")
    shutil.copy(server.folder / "model.ckpt.meta", models_dir / "tiny" / "model.ckpt.meta.part")
    fetch()
    assert requests_of(server, DATA) == []
    assert len(requests_of(server, "model.ckpt.meta")) == 1  # 416: there is no more
    assert on_disk(models_dir) == sorted(FILES)


@pytest.mark.parametrize("junk", [b"junk", b"j" * 100_000])
def test_a_part_of_something_else_does_no_harm(fetch, server, models_dir, junk):
    (models_dir / "tiny").mkdir(parents=True)
    (models_dir / "tiny" / f"{DATA}.part").write_bytes(junk)
    fetch()
    assert (models_dir / "tiny" / DATA).read_bytes() == (server.folder / DATA).read_bytes()


def test_a_file_whose_length_nobody_tells_has_an_end(fetch, server, models_dir, monkeypatch):
    monkeypatch.setattr(model_files, "MOST_BYTES", 300)
    server.plan["model.ckpt.meta"] = [servers.longer] * 9
    with pytest.raises(DownloadError, match="model.ckpt.meta: more than 300 bytes came, twice"):
        fetch()
    assert "model.ckpt.meta.part" not in on_disk(models_dir)


@pytest.mark.parametrize("junk", [b"\xff\xfe", b'"two\nlines"', b"", b" blank"])
def test_a_validator_that_is_none_is_passed_over(fetch, server, models_dir, junk):
    server.plan[DATA] = [servers.drop_after(50_000)] + [servers.status(503)] * 99
    with pytest.raises(DownloadError):
        fetch()
    (models_dir / "tiny" / f"{DATA}.part.etag").write_bytes(junk)
    server.plan[DATA].clear()
    server.seen.clear()
    fetch()
    assert requests_of(server, DATA) == [("bytes=50000-", None)]


def waits(monkeypatch):
    found = []
    monkeypatch.setattr(download.time, "sleep", found.append)
    return found


def test_it_waits_as_long_as_it_is_asked_to_and_longer_each_time(fetch, server, monkeypatch):
    found = waits(monkeypatch)
    monkeypatch.setattr(download, "FIRST_WAIT_S", 1.0)
    server.plan[DATA] = [
        servers.status(429, Retry_After="7"),
        servers.status(429, Retry_After="99999"),
        *[servers.status(503)] * 3,
    ]
    fetch()
    assert found == [7, download.LONGEST_WAIT_S, 4, 8, 16]


def test_a_transfer_that_brought_something_is_none_of_the_failures(fetch, server, monkeypatch):
    found = waits(monkeypatch)
    server.plan[DATA] = [servers.drop_after(20_000)] + [servers.status(503)] * 99
    with pytest.raises(DownloadError):
        fetch()
    assert len(found) == download.ATTEMPTS  # one more than without
    assert found[0] == found[1] == download.FIRST_WAIT_S


def test_only_what_promises_the_same_bytes_is_asked_for(fetch, server, monkeypatch):
    """A weak ETag promises no more than the same meaning."""
    monkeypatch.setattr(servers, "etag", lambda _: 'W/"weak"')
    server.plan[DATA] = [servers.drop_after(20_000)]
    fetch()
    assert requests_of(server, DATA) == [(None, None), ("bytes=20000-", None)]


def test_a_part_makes_room_for_the_file_that_is_fetched_anew(fetch, server, monkeypatch):
    """A server without ranges, and a disk that does not hold the file twice."""
    usage = shutil.disk_usage("/")

    def room(folder):
        used = sum(path.stat().st_size for path in Path(folder).glob(f"{DATA}*"))
        return usage._replace(free=100_000 - used)

    monkeypatch.setattr(shutil, "disk_usage", room)
    server.plan[DATA] = [servers.drop_after(80_000), servers.ignore_range]
    fetch()


def test_a_password_is_not_shown(server, models_dir, tmp_path):
    secret = server.url.replace("//", "//me:secret@")
    server.plan[DATA] = [servers.status(503), servers.status(404)]
    place = ["--models-dir", models_dir, "--base-url", secret]
    result = invoke("models", "tiny", "--download", *place)
    assert "the server answered 404" in result.stderr
    assert "secret" not in result.output
    assert "secret" not in invoke("models", "tiny", "--download", *place[:3], secret + "[").output
    (tmp_path / "in.jsonl").write_text('{"prompt": "the"}\n')
    done = invoke("batch", tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--model", "tiny", *place)
    assert done.exit_code == 0, done.output
    assert "secret" not in done.output
    assert "secret" not in (tmp_path / "out.jsonl.manifest.json").read_text()


def test_a_folder_that_cannot_be_read_is_listed_as_that(server, models_dir):
    (models_dir / "tiny").mkdir(parents=True)
    shutil.copy(server.folder / "hparams.json", models_dir / "tiny")
    (models_dir / "tiny" / "checkpoint").touch()
    assert (
        "not readable: runner models tiny says why"
        in invoke("models", "--models-dir", models_dir).stdout
    )
    said = invoke("models", "tiny", "--models-dir", models_dir)
    assert "checkpoint: names no model_checkpoint_path" in said.stderr


def test_certificates_that_are_not_there(fetch, monkeypatch):
    def without(*_, **__):
        raise FileNotFoundError("Could not find a suitable TLS CA certificate bundle")

    monkeypatch.setattr(download.requests.Session, "get", without)
    with pytest.raises(DownloadError, match=r"suitable TLS CA certificate bundle; expected an add"):
        fetch()


def test_a_complete_folder_is_only_read(fetch, server, models_dir, monkeypatch):
    fetch()
    monkeypatch.setattr(model_files, "_alone", None)  # calling it would fail
    model_files.download("tiny", models_dir / "tiny", "http://127.0.0.1:9")


def test_a_name_is_not_given_to_another_model(tmp_path, server, models_dir):
    shutil.copytree(DEMO_DIR, models_dir / "tiny")
    with pytest.raises(ModelError, match="is another model than tiny: .*Pass it as a path"):
        load_model("tiny", models_dir=models_dir)


def test_a_hash_that_differs_is_named(fetch, server, models_dir):
    server.plan["vocab.bpe"] = [servers.corrupt(20)] * 9
    with pytest.raises(DownloadError, match=r"vocab.bpe: its SHA-256 is \w{64}; expected \w{64}, "):
        fetch()
    assert on_disk(models_dir) == ["checkpoint", "encoder.json", "hparams.json"]


@pytest.mark.parametrize("name", ["hparams.json", "model.ckpt.index"])
def test_small_files_are_read_before_they_take_their_name(fetch, server, models_dir, name):
    server.plan[name] = [servers.corrupt(5)] * 9
    with pytest.raises(DownloadError, match=rf"{name}: it is damaged"):
        fetch()
    assert name not in on_disk(models_dir)


def test_hparams_of_another_model(fetch, server, models_dir):
    text = (server.folder / "hparams.json").read_text()
    (server.folder / "hparams.json").write_text(text.replace('"n_head": 3', '"n_head": 4'))
    with pytest.raises(DownloadError, match=r"it is damaged \(expected .*'n_head': 3"):
        fetch()


# Offline, and places that cannot be written.


def test_without_a_connection_it_says_what_to_do(server, models_dir):
    with pytest.raises(DownloadError, match="the connection failed") as caught:
        load_model("tiny", models_dir=models_dir, base_url="http://127.0.0.1:9")
    said = str(caught.value)
    assert "run `runner models tiny --download --models-dir DIR` where there is one" in said
    assert f"copy DIR/tiny to {models_dir}, or name a mirror with --base-url" in said


@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://x", "http://", "http://[::bad", "http://a..b", "http://" + "a" * 99]
)
def test_addresses_that_are_none(server, models_dir, url):
    with pytest.raises(DownloadError, match="--base-url"):
        load_model("tiny", models_dir=models_dir, base_url=url)


def test_a_folder_that_cannot_be(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="expected a folder with room to write"):
        load_model("tiny", models_dir=tmp_path / "file", base_url=server.url)


def test_a_disk_without_room(fetch, server, models_dir, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DownloadError, match="bytes are needed, its disk has 1,000"):
        fetch()


def test_the_environment_chooses_place_and_source(server, models_dir, monkeypatch):
    monkeypatch.setenv("PICOBATCH_MODELS_DIR", str(models_dir))
    monkeypatch.setenv("PICOBATCH_BASE_URL", f"{server.url}/")
    assert load_model("tiny").directory == models_dir / "tiny"


def test_a_folder_of_that_name_is_used_where_nothing_was_downloaded(tmp_path, server, monkeypatch):
    shutil.copytree(server.folder, tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    load_model("tiny", models_dir=tmp_path / "none", base_url="http://127.0.0.1:9")


# Several at once.

CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.reference import test_download as t
from reference import download, load_model
download.FIRST_WAIT_S = 0.01
t.register(Path({folder!r}))
model = load_model("tiny", models_dir={models_dir!r}, base_url={url!r})
print(model.weights_sha256)
"""


def test_processes_at_once_do_not_tread_on_each_other(server, models_dir):
    def slowly(handler, content):
        time.sleep(0.3)
        servers.honest(handler, content)

    server.plan[DATA] = [slowly]
    source = CHILD.format(
        root=str(Path(__file__).parents[2]),
        folder=str(server.folder),
        models_dir=str(models_dir),
        url=server.url,
    )
    children = [
        subprocess.Popen([sys.executable, "-c", source], stdout=-1, stderr=-1, text=True)
        for _ in range(4)
    ]
    said = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0] * 4, said
    assert len({out for out, _ in said}) == 1
    assert sorted(name for name, _, _ in server.seen) == sorted(FILES)  # each once, by one of them
    assert sum("another process is fetching into it" in err for _, err in said) >= 1
    assert on_disk(models_dir) == sorted(FILES)


def test_a_process_that_was_killed_leaves_no_lock(fetch, server, models_dir):
    (models_dir / "tiny").mkdir(parents=True)
    lock = models_dir / "tiny" / ".lock"
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time; from filelock import FileLock; "
            f"lock = FileLock({str(lock)!r}); lock.acquire(); print(1, flush=True); "
            "time.sleep(60)",
        ],
        stdout=-1,
    )
    holder.stdout.readline()
    with pytest.raises(Timeout):
        FileLock(lock).acquire(timeout=0)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    fetch()


# The command.


def invoke(*args):
    return CliRunner().invoke(cli, list(map(str, args)))


def test_models_download(server, models_dir):
    place = ["--models-dir", models_dir]
    listed = invoke("models", *place)
    assert "not here: runner models tiny --download" in listed.stdout
    assert "not here" in invoke("models", "tiny", *place).stdout
    assert not server.seen
    done = invoke("models", "tiny", "--download", "--base-url", server.url, *place)
    assert done.exit_code == 0, done.output
    assert load_model(GOLDEN).weights_sha256 in done.stdout
    assert str(models_dir / "tiny") in invoke("models", *place).stdout
    again = invoke("models", "tiny", "--download", "--base-url", "http://127.0.0.1:9", *place)
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize("name", [[], ["demo"], ["else"]])
def test_models_download_of_what_is_not_published(name):
    result = invoke("models", *name, "--download")
    assert result.exit_code == 2
    assert "expected one of 124M, 355M, 774M, 1558M" in result.stderr


def test_batch_fetches_on_first_use(server, models_dir, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"prompt": "the"}\n')
    options = ["--model", "tiny", "--models-dir", models_dir, "--max-new-tokens", "2"]
    paths = [tmp_path / "in.jsonl", tmp_path / "out.jsonl"]
    first = invoke("batch", *paths, *options, "--base-url", server.url)
    assert first.exit_code == 0, first.output
    assert "check: ok" in first.stderr
    generated = invoke("generate", "the", *options)
    assert generated.exit_code == 0, generated.output


def test_a_download_that_fails_leaves_no_output(server, models_dir, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"prompt": "the"}\n')
    server.plan[DATA] = [servers.status(404)]
    place = ["--models-dir", models_dir, "--base-url", server.url]
    result = invoke(
        "batch", tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--model", "tiny", *place
    )
    assert result.exit_code == 1
    assert "the server answered 404 Not Found" in result.stderr
    assert not list(tmp_path.glob("out*"))


def test_progress_is_said_in_plain_lines_where_there_is_no_terminal(monkeypatch, capsys):
    from reference import progress

    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.0)
    bar = progress.ByteProgress("file", 3_000_000, 1_000_000)
    bar.advance(500_000)
    bar.close()
    assert "file: 1.5 of 3.0 MB" in capsys.readouterr().err


def test_what_was_published_is_complete():
    for name in ("124M", "355M", "774M", "1558M"):
        assert PUBLISHED[name].files.keys() == set(FILES)
        assert PUBLISHED[name].files["vocab.bpe"].sha256
    known = PUBLISHED["124M"].files
    assert all(known[name].n_bytes and known[name].sha256 for name in FILES)
    for name, n_bytes in {"124M": 497_759_232, "1558M": 6_230_444_800}.items():
        assert PUBLISHED[name].files[DATA].n_bytes == n_bytes
