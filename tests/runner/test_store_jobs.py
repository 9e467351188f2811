"""Whole jobs whose files lie in S3: whatever breaks, the same command ends in the same rows."""

import gzip
import io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from pyarrow import fs

from runner import ExitCode, RunSettings, run
from runner.cli import cli
from runner.errors import InputError, OutputError
from runner.job_folder import JobFolder
from runner.merge import merge
from runner.process import Processing
from runner.sealed import unseal
from tests.servers import FaultyServer, drop_after
from tests.stores import (
    BUCKET,
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
)

ROOT = Path(__file__).parents[2]
N_ROWS, PART_ROWS = 100, 25
HERE = f"s3://{BUCKET}"
GOES_ON = "the same command goes on from there"


def lines(word="two"):
    rows = [{"n": n, "prompt": f"one {word} {n % 17}", "x": [n]} for n in range(N_ROWS)]
    rows[7]["prompt"] = rows[77]["prompt"] = 7
    return [json.dumps(row).encode() + b"\n" for row in rows]


ROWS = b"".join(lines())
PACKED = gzip.compress(ROWS, mtime=0)


def job(output, source=f"{HERE}/in.jsonl.gz", **settings):
    settings = {
        "max_new_tokens": 4,
        "ignore_eos": True,
        "threads": 1,
        "part_rows": PART_ROWS,
        "check_rows": 2,
    } | settings
    return run(RunSettings(str(source), str(output), **settings))


def command(output=f"{HERE}/out.jsonl", source=f"{HERE}/in.jsonl.gz", *options):
    return [
        *("batch", source, output, "--max-new-tokens", "4", "--threads", "1"),
        *("--part-rows", str(PART_ROWS), "--check-rows", "2", "--ignore-eos", *options),
    ]


def run_command(*args):
    result = CliRunner().invoke(cli, args)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def store(store, monkeypatch):
    """A store with prompts in it, and with time enough where much else runs."""
    monkeypatch.setenv("PICOBATCH_TIMEOUT_S", "8")
    fill(store, **{"in.jsonl.gz": PACKED})
    return store


def names(store):
    """All that is in the bucket but for the prompts, empty objects that stand for folders too."""
    found = store.straight.get_file_info(fs.FileSelector(BUCKET, recursive=True))
    return {info.path.removeprefix(f"{BUCKET}/") for info in found} - {"in.jsonl.gz"}


def rows_of(content, name="out.jsonl"):
    if name.endswith(".gz"):
        return gzip.decompress(content)
    if name.endswith(".parquet"):
        return pq.read_table(io.BytesIO(content)).replace_schema_metadata(None)
    return content


def name_of_part(store, number, output="out.jsonl"):
    """The file of a part that its record tells of."""
    record = unseal(held(store, f"{output}.parts/part-{number:05}.json"))["record"]
    begin = f"{output}.parts/part-{number:05}-{record['sha256'][:16]}."
    (found,) = (name for name in names(store) if name.startswith(begin))
    return found


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Rows of jobs on this machine, which nothing happens to."""
    folder, made = tmp_path_factory.mktemp("clean"), {}
    (folder / "in.jsonl.gz").write_bytes(PACKED)

    def rows(name="out.jsonl"):
        if name not in made:
            report = job(folder / name, folder / "in.jsonl.gz")
            assert (report.parts, report.bad_rows) == (4, 2)
            made[name] = rows_of((folder / name).read_bytes(), name)
        return made[name]

    return rows


def is_done(store, clean, name="out.jsonl"):
    """See that the output is what a job on this machine writes, and that nothing else is left."""
    assert rows_of(held(store, name), name) == clean(name)
    file = json.loads(held(store, f"{name}.manifest.json"))["file"]
    assert file["bytes"] == len(held(store, name))
    assert names(store) == {name, f"{name}.manifest.json"}


class Stopped(Exception):  # noqa: N818
    """What a test stops a job with."""


def before_part(monkeypatch, number, act):
    """Do something when a part is written and not yet counted."""
    original = JobFolder.commit

    def commit(self, part, record):
        if part.number == number:
            act()
        original(self, part, record)

    monkeypatch.setattr(JobFolder, "commit", commit)


def stop(*_):
    raise Stopped


def half_done(monkeypatch, name="out.jsonl", number=2, **settings):
    with monkeypatch.context() as patch:
        before_part(patch, number, stop)
        with pytest.raises(Stopped):
            job(f"{HERE}/{name}", **settings)


@pytest.fixture
def nothing_is_generated(monkeypatch):
    def do_parts(*_):
        pytest.fail("rows are generated")

    monkeypatch.setattr(Processing, "run", do_parts)


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl", "out.jsonl.gz"])
def test_a_job_in_a_store_is_a_job_here(store, clean, name):
    report = job(f"{HERE}/{name}")
    assert (report.rows, report.bad_rows, report.exit_code) == (N_ROWS, 2, ExitCode.BAD_ROWS)
    is_done(store, clean, name)


def as_parquet(content):
    table = pa.Table.from_pylist([json.loads(line) for line in content.splitlines() if line])
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=9)
    return sink.getvalue()


def test_inputs_of_all_kinds(store, tmp_path):
    ours = [line for n, line in enumerate(lines()) if n not in (7, 77)]
    first, second = b"".join(ours[:40]), b"".join(ours[40:])
    (tmp_path / "in.jsonl").write_bytes(first + second)
    for folder, suffix, make in (("l", "jsonl", bytes), ("p", "parquet", as_parquet)):
        fill(store, **{f"{folder}/a.{suffix}": make(first), f"{folder}/b.{suffix}": make(second)})
    job(tmp_path / "local.jsonl", tmp_path / "in.jsonl")
    expected = (tmp_path / "local.jsonl").read_bytes()
    for n, source in enumerate(("l", "l/", "l/*.jsonl", "**/[ab].jsonl", "p", "p/?.parquet")):
        if "?" in source:  # which begins the options of an address
            with pytest.raises(InputError, match="behind the question mark is no option"):
                job(tmp_path / f"{n}.jsonl", f"{HERE}/{source}")
            continue
        job(tmp_path / f"{n}.jsonl", f"{HERE}/{source}")
        assert (tmp_path / f"{n}.jsonl").read_bytes() == expected, source


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl.gz"])
def test_a_job_goes_on_from_the_parts_that_are_done(store, clean, monkeypatch, capsys, name):
    half_done(monkeypatch, name)
    assert f"2 of 4 parts (50 of 100 rows) are kept; {GOES_ON}" in capsys.readouterr().err
    suffix = name.removeprefix("out")
    folder = f"{name}.parts"
    records = {f"{folder}/part-0000{n}.json" for n in (0, 1)}
    files = {name_of_part(store, n, name) for n in (0, 1)}
    assert all(found.endswith(suffix) for found in files)
    assert names(store) == {folder, f"{folder}/job.json", *records, *files}
    store.seen.clear()
    report = job(f"{HERE}/{name}")
    assert (report.parts, report.resumed_parts) == (4, 2)
    assert f"{name}: going on: 2 of 4 parts (50 of 100 rows) are there" in capsys.readouterr().err
    is_done(store, clean, name)


KILLED_AT = {
    "while a part is written": ("PUT", "part-00001-", 1),
    "while its record is": ("POST", "part-00002.json?uploadId", 2),
    "while the output is": ("PUT", "out.jsonl?", 4),
    "while the folder goes": ("POST", "?delete", 4),
}


@pytest.mark.parametrize("instant", KILLED_AT)
def test_a_job_is_killed(store, clean, capsys, instant):
    method, inside, n_kept = KILLED_AT[instant]
    process = subprocess.Popen([sys.executable, "-m", "runner.cli", *command()], cwd=ROOT)
    store.plan(method, inside, lambda *_: process.kill())
    assert process.wait(60) == -signal.SIGKILL
    assert store.n_faults == 1
    assert (held(store, "out.jsonl") is None) == ("goes" not in instant)
    done = run_command(*command())
    assert done.exit_code == ExitCode.BAD_ROWS
    if "goes" in instant:
        assert "going on" not in done.stderr
    else:
        assert f"going on: {n_kept} of 4 parts" in done.stderr
    is_done(store, clean)


def test_a_signal_keeps_every_answer(store, tmp_path):
    content = b"".join(b'{"prompt": "one two %d"}\n' % n for n in range(N_ROWS))
    (tmp_path / "many.jsonl").write_bytes(content)
    fill(store, **{"many.jsonl": content})
    asked = command(f"{HERE}/out.jsonl", f"{HERE}/many.jsonl", "--batch-size", "8")
    process = subprocess.Popen(
        [sys.executable, "-m", "runner.cli", *asked], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )

    def terminate(handler, proxy):
        process.terminate()
        BUSY(handler, proxy)

    store.plan("POST", "part-00001.json?uploads", terminate)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "stopped by SIGTERM" in said
    assert GOES_ON in said
    kept = len(unseal(held(store, "out.jsonl.parts/answers.json"))["rows"])
    assert kept > 0
    report = job(f"{HERE}/out.jsonl", f"{HERE}/many.jsonl")
    assert report.resumed_parts == 2
    assert report.engine["generated_tokens"] <= 4 * (50 - kept)
    job(tmp_path / "out.jsonl", tmp_path / "many.jsonl")
    assert held(store, "out.jsonl") == (tmp_path / "out.jsonl").read_bytes()


def test_a_finished_output_is_kept_or_taken_as_done_or_replaced(store, clean):
    job(f"{HERE}/out.jsonl")
    before = held(store, "out.jsonl.manifest.json")
    refused = run_command(*command())
    assert refused.exit_code == ExitCode.FAILED
    assert "out.jsonl: exists already; a finished output is kept" in refused.stderr
    again = job(f"{HERE}/out.jsonl", resume=True)
    assert (again.rows, again.bad_rows) == (N_ROWS, 2)
    assert held(store, "out.jsonl.manifest.json") == before
    with pytest.raises(OutputError, match="of another job: max_new_tokens was 4, is 2"):
        job(f"{HERE}/out.jsonl", resume=True, max_new_tokens=2)
    job(f"{HERE}/out.jsonl", overwrite=True, max_new_tokens=2)
    assert held(store, "out.jsonl") != clean()
    job(f"{HERE}/out.jsonl", overwrite=True)
    is_done(store, clean)


def test_an_old_output_stays_until_the_new_one_is_whole(store, clean, monkeypatch):
    fill(store, **{"out.jsonl": b"old", "out.jsonl.manifest.json": b"{}"})
    half_done(monkeypatch, overwrite=True)
    assert held(store, "out.jsonl") == b"old"
    assert job(f"{HERE}/out.jsonl", overwrite=True).resumed_parts == 2
    is_done(store, clean)


def test_another_job_has_parts_here(store, clean, monkeypatch):
    half_done(monkeypatch)
    with pytest.raises(OutputError, match="holds parts of another job: max_new_tokens was 4, is 2"):
        job(f"{HERE}/out.jsonl", max_new_tokens=2)
    job(f"{HERE}/out.jsonl", max_new_tokens=2, overwrite=True)
    assert names(store) == {"out.jsonl", "out.jsonl.manifest.json"}
    assert held(store, "out.jsonl") != clean()


def test_shards_and_their_merge(store, clean, monkeypatch):
    """Options behind an address are no part of a name."""
    options = f"endpoint_override={store.endpoint}&scheme=http"
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        for n in range(3):
            output, source = f"{HERE}/out.parquet?{options}", f"{HERE}/in.jsonl.gz?{options}"
            job(output, source, shard=(n, 3))
    assert names(store) == {
        f"out-0000{n}-of-00003.parquet{end}" for n in range(3) for end in ("", ".manifest.json")
    }
    store.plan("GET", "out-00001", cut_answer(500))
    report = merge(f"{HERE}/out.parquet")
    assert (report.rows, report.bad_rows, store.n_faults) == (N_ROWS, 2, 1)
    assert rows_of(held(store, "out.parquet"), "out.parquet") == clean("out.parquet")
    assert not any("parts" in name for name in names(store))
    fill(store, **{"out-00002-of-00003.parquet": held(store, "out-00002-of-00003.parquet")[:-1]})
    with pytest.raises(InputError, match="is not the file that its manifest tells of"):
        merge(f"{HERE}/out.parquet", overwrite=True)


def test_what_is_not_ours_stays(store, clean, monkeypatch):
    """In the folder of the parts, and beside it: an object may stand for the folder itself."""
    half_done(monkeypatch, "deep/out.jsonl")
    fill(store, **{"deep/out.jsonl.parts/note.txt": b"mine"})
    job(f"{HERE}/deep/out.jsonl")
    assert held(store, "deep/out.jsonl") == clean()
    assert held(store, "deep/out.jsonl.parts/note.txt") == b"mine"
    job(f"{HERE}/deep/other.jsonl")
    assert "deep/other.jsonl.parts" not in names(store)
    assert "deep" in names(store)


MENDED = {
    "the input breaks off": ("GET", "in.jsonl.gz", cut_answer(100)),
    "the store is busy at first": ("HEAD", "in.jsonl.gz", BUSY),
    "a part breaks off": ("PUT", "part-00001-", cut_request(50)),
    "a part is not begun": ("POST", "part-00001-", BUSY),
    "the answer to a part is lost": ("PUT", "part-00002-", lost),
    "the answer to a record is lost": ("POST", "part-00002.json?uploadId", lost),
    "the store is slow": ("PUT", "part-00002-", silent),
    "a part comes back broken": ("GET", "part-00001-", cut_answer(50)),
    "the output breaks off": ("PUT", "out.jsonl?", cut_request(50)),
    "the answer to the output is lost": ("POST", "out.jsonl?uploadId", lost),
    "the answer to the end is lost": ("POST", "?delete", lost),
}


@pytest.mark.parametrize("fault", MENDED)
def test_what_mends_itself_is_not_noticed(store, clean, monkeypatch, fault):
    if "slow" in fault:
        monkeypatch.setenv("PICOBATCH_TIMEOUT_S", "1")
    store.plan(*MENDED[fault])
    assert job(f"{HERE}/out.jsonl").exit_code == ExitCode.BAD_ROWS
    assert store.n_faults == 1
    is_done(store, clean)


FOR_EVER_BROKEN = {
    "the input breaks off": ("GET", "in.jsonl.gz", cut_answer(100), 1, "connection failed"),
    "the input is busy when a part is done": (
        "HEAD",
        "in.jsonl.gz",
        BUSY,
        8,
        "the store is busy",
    ),
    "a part breaks off": ("PUT", "part-00001-", cut_request(50), 0, "connection failed"),
    "the store is busy": ("POST", "part-00001.json?", BUSY, 0, "the store is busy"),
    "the store is slow": ("POST", "part-00001-", silent, 0, "timeout was reached"),
    "parts come back broken": ("GET", "part-00001-", cut_answer(50), 0, "connection failed"),
    "the manifest breaks off": ("PUT", "out.jsonl.manifest", cut_request(50), 0, "connection f"),
    "the output breaks off": ("PUT", "out.jsonl?", cut_request(50), 0, "connection failed"),
    "the output is not finished": ("POST", "out.jsonl?uploadId", BUSY, 0, "the store is busy"),
}


@pytest.mark.parametrize("fault", FOR_EVER_BROKEN)
def test_what_does_not_mend_itself_ends_the_job_and_the_same_command_goes_on(
    store, clean, monkeypatch, fault
):
    if "slow" in fault:
        monkeypatch.setenv("PICOBATCH_TIMEOUT_S", "1")
    method, inside, act, skip, said = FOR_EVER_BROKEN[fault]
    store.plan(method, inside, act, times=FOR_EVER, skip=skip)
    failed = run_command(*command())
    assert failed.exit_code == ExitCode.FAILED
    assert store.n_faults > 0
    assert re.search(rf"^Error: {HERE}/\S+: .*{said}", failed.stderr, re.MULTILINE), failed.stderr
    assert "Traceback" not in failed.stderr
    assert "hidden" not in failed.stderr
    assert "damaged" not in failed.stderr
    assert held(store, "out.jsonl") is None
    kept = len([n for n in names(store) if re.search(r"part-\d+\.json$", n)])
    if kept:
        assert f"{kept} of 4 parts ({25 * kept} of 100 rows) are kept; {GOES_ON}" in failed.stderr
    store.faults.clear()
    monkeypatch.setenv("PICOBATCH_TIMEOUT_S", "8")
    done = run_command(*command())
    assert done.exit_code == ExitCode.BAD_ROWS
    assert ("going on: " in done.stderr) == (kept > 0)
    is_done(store, clean)


def test_a_store_that_is_gone_for_good_costs_no_part(store, clean, monkeypatch):
    """Also not where what is kept cannot be looked at, at the end or when the job goes on."""
    half_done(monkeypatch)
    before = names(store)
    for method, inside in (("GET", "prefix=out.jsonl.parts"), ("GET", "part-0"), ("GET", "job.j")):
        store.plan(method, inside, BUSY, times=FOR_EVER)
        failed = run_command(*command())
        assert failed.exit_code == ExitCode.FAILED
        assert "the store is busy" in failed.stderr
        assert "damaged" not in failed.stderr
        assert names(store) == before
        store.faults.clear()
    store.plan("PUT", "", BUSY, times=FOR_EVER)
    store.plan("POST", "", BUSY, times=FOR_EVER)
    assert "2 of 4 parts (50 of 100 rows) are kept" in run_command(*command()).stderr
    store.faults.clear()
    assert job(f"{HERE}/out.jsonl").resumed_parts == 2
    is_done(store, clean)


def test_a_folder_that_cannot_be_removed(store, clean):
    """The output is whole for all that; later the folder goes."""
    for method in ("DELETE", "POST"):
        store.plan(method, "delete" if method == "POST" else "", refused(403, "AccessDenied"), 99)
    done = run_command(*command())
    assert done.exit_code == ExitCode.BAD_ROWS
    assert "out.jsonl.parts: cannot be removed now: access is denied" in done.stderr
    assert rows_of(held(store, "out.jsonl")) == clean()
    assert "out.jsonl.parts/job.json" in names(store)
    store.faults.clear()
    assert run_command(*command()).exit_code == ExitCode.BAD_ROWS
    is_done(store, clean)


def test_a_store_that_removes_one_at_a_time(store, clean):
    store.plan("POST", "?delete", refused(501, "NotImplemented"), times=FOR_EVER)
    job(f"{HERE}/out.jsonl")
    assert store.n_faults > 0
    assert names(store) - {"out.jsonl.parts"} == {"out.jsonl", "out.jsonl.manifest.json"}
    assert held(store, "out.jsonl") == clean()


@pytest.mark.parametrize("where", ["in.jsonl.gz", "out.jsonl"])
@pytest.mark.usefixtures("nothing_is_generated")
def test_wrong_credentials_are_seen_at_once(store, where):
    for method in ("GET", "HEAD", "PUT", "POST"):
        store.plan(method, where, refused(403, "InvalidAccessKeyId"), times=FOR_EVER)
    failed = run_command(*command())
    assert failed.exit_code == ExitCode.FAILED
    assert f"Error: {HERE}/{where}: access is denied" in failed.stderr
    assert "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in failed.stderr
    assert names(store) == set()


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl"])
def test_what_is_in_a_store_can_be_inspected(store, name):
    job(f"{HERE}/{name}")
    shown = run_command("inspect", f"{HERE}/{name}", "--rows", "9")
    assert shown.exit_code == 0, shown.stderr
    assert f"input        {HERE}/in.jsonl.gz" in shown.stdout
    assert "'one two 1' -> '" in shown.stdout
    assert "-> error: 'prompt' is 7" in shown.stdout
    for method in ("GET", "HEAD"):
        store.plan(method, name, refused(403, "InvalidAccessKeyId"), times=FOR_EVER)
    failed = run_command("inspect", f"{HERE}/{name}")
    assert failed.exit_code == ExitCode.FAILED
    assert f"Error: {HERE}/{name}: access is denied" in failed.stderr


@pytest.mark.usefixtures("store")
def test_what_is_not_in_a_store_cannot_be_inspected():
    for name, said in (("none.jsonl", "no such file"), ("in.jsonl.gz", "no provenance")):
        failed = run_command("inspect", f"{HERE}/{name}")
        assert failed.exit_code == ExitCode.FAILED
        assert f"Error: {HERE}/{name}: {said}" in failed.stderr


@pytest.mark.usefixtures("nothing_is_generated")
def test_credentials_that_may_only_read(store):
    for method in ("PUT", "POST", "DELETE"):
        store.plan(method, "", refused(403, "AccessDenied"), times=FOR_EVER)
    failed = run_command(*command())
    assert failed.exit_code == ExitCode.FAILED
    assert f"Error: {HERE}/out.jsonl: access is denied" in failed.stderr
    assert names(store) == set()


@pytest.mark.usefixtures("nothing_is_generated", "store")
@pytest.mark.parametrize(
    ("output", "source", "said"),
    [
        (f"{HERE}/out.jsonl", "s3://no-such-bucket/in.jsonl", "in.jsonl: no such bucket"),
        ("s3://no-such-bucket/out.jsonl", f"{HERE}/in.jsonl.gz", "out.jsonl: no such bucket"),
        (f"{HERE}/in.jsonl.gz", f"{HERE}/in.jsonl.gz", "is an input itself"),
        (f"{HERE}/out.txt", f"{HERE}/in.jsonl.gz", "out.txt: no known format"),
        ("http://127.0.0.1:9/out.jsonl", f"{HERE}/in.jsonl.gz", "can only be read"),
    ],
)
def test_places_that_cannot_be(store, output, source, said):
    failed = run_command(*command(output, source))
    assert failed.exit_code == ExitCode.FAILED
    assert said in failed.stderr
    assert names(store) == set()


def test_an_early_failure_leaves_nothing(store, monkeypatch):
    before_part(monkeypatch, 0, stop)
    with pytest.raises(Stopped):
        job(f"{HERE}/out.jsonl")
    assert names(store) == set()
    assert n_requests(store, "PUT", "out.jsonl.parts/job.json") == 1


def test_an_input_that_is_replaced_meanwhile(store, clean, monkeypatch):
    """No row of another file is kept, so that the first file put back is gone on with."""
    rows = lines()
    files = {"in/a.jsonl": b"".join(rows[:60]), "in/b.jsonl": b"".join(rows[60:])}
    fill(store, **files)
    original = Processing.run

    def do_parts(self, *args):
        fill(store, **{"in/b.jsonl": b"".join(lines("six")[60:])})
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Processing, "run", do_parts)
        with pytest.raises(InputError, match="in/b.jsonl: changed while the job ran"):
            job(f"{HERE}/out.jsonl", f"{HERE}/in")
    with pytest.raises(OutputError, match="holds parts of another job: the input .* other content"):
        job(f"{HERE}/out.jsonl", f"{HERE}/in")
    fill(store, **files)
    assert job(f"{HERE}/out.jsonl", f"{HERE}/in").resumed_parts == 2
    assert held(store, "out.jsonl") == clean()


def test_an_input_that_is_replaced_at_the_very_end(store, monkeypatch):
    before_part(monkeypatch, 3, lambda: fill(store, **{"in.jsonl.gz": gzip.compress(ROWS + b" ")}))
    with pytest.raises(InputError, match="in.jsonl.gz: changed while the job ran"):
        job(f"{HERE}/out.jsonl")
    assert held(store, "out.jsonl") is None


def test_a_part_that_is_not_what_was_written(store, clean, monkeypatch, capsys):
    half_done(monkeypatch)
    name = name_of_part(store, 1)
    content = held(store, name)
    fill(store, **{name: content[:-1]})
    assert job(f"{HERE}/out.jsonl").resumed_parts == 1
    assert "part 1 is damaged; its rows are done again" in capsys.readouterr().err
    is_done(store, clean)
    half_done(monkeypatch, overwrite=True)
    fill(store, **{name: content.replace(b"o", b"0", 1)})  # as long as it was
    with pytest.raises(OutputError, match="part 1 is not what was written; it is dropped"):
        job(f"{HERE}/out.jsonl", overwrite=True)
    assert held(store, "out.jsonl") == clean()
    assert job(f"{HERE}/out.jsonl", overwrite=True).resumed_parts == 3
    is_done(store, clean)


def test_two_jobs_with_one_output(store, clean, monkeypatch):
    tried = []

    def second():
        with pytest.raises(OutputError, match="out.jsonl: another job writes it now"):
            job(f"{HERE}/out.jsonl")
        tried.append(True)

    with monkeypatch.context() as patch:
        before_part(patch, 1, second)
        job(f"{HERE}/out.jsonl")
    assert tried
    is_done(store, clean)


def test_an_output_that_comes_meanwhile(store, monkeypatch):
    before_part(monkeypatch, 3, lambda: fill(store, **{"out.jsonl": b"theirs"}))
    with pytest.raises(OutputError, match="out.jsonl: exists already"):
        job(f"{HERE}/out.jsonl")
    assert held(store, "out.jsonl") == b"theirs"


def test_requests_of_openai_s_batch_interface(store, tmp_path):
    body = {"model": "demo", "prompt": "one two", "max_tokens": 3, "temperature": 0}
    asked = [
        {"custom_id": f"r{n}", "method": "POST", "url": "/v1/completions", "body": body}
        for n in range(30)
    ]
    content = "".join(json.dumps(row) + "\n" for row in asked).encode()
    fill(store, **{"asked.jsonl": content})
    store.plan("PUT", "part-00001-", cut_request(10))
    job(f"{HERE}/out.jsonl", f"{HERE}/asked.jsonl", format="openai", part_rows=10)
    (tmp_path / "asked.jsonl").write_bytes(content)
    job(tmp_path / "out.jsonl", tmp_path / "asked.jsonl", format="openai", part_rows=10)

    def answers(found):
        rows = [json.loads(line) for line in found.splitlines()]
        return [(r["custom_id"], r["response"]["body"]["choices"]) for r in rows]

    assert answers(held(store, "out.jsonl")) == answers((tmp_path / "out.jsonl").read_bytes())
    assert store.n_faults == 1


def test_an_input_on_the_web_that_breaks_off(store, clean, tmp_path):
    (tmp_path / "in.jsonl.gz").write_bytes(PACKED)
    with FaultyServer(tmp_path) as server:
        server.plan["in.jsonl.gz"] += [drop_after(200)]
        job(f"{HERE}/out.jsonl", f"{server.url}/in.jsonl.gz?token=sEcReT")
        assert len(server.seen) == 2
    is_done(store, clean)
    assert b"sEcReT" not in held(store, "out.jsonl.manifest.json")


def everything(store):
    return {n: held(store, n) for n in names(store) if not n.endswith(".parts")}


def test_nobody_reads_a_secret(store, monkeypatch, capfd):
    secrets = "AKIAOWN", "zQ9", "sEcReT"
    source = f"s3://AKIAOWN:zQ9%2FsEcReT@{BUCKET}/in.jsonl.gz?region=us-east-1"
    output = f"s3://AKIAOWN:zQ9%2FsEcReT@{BUCKET}/out.parquet?region=us-east-1"
    with monkeypatch.context() as patch:
        before_part(patch, 2, stop)
        with pytest.raises(Stopped):
            job(output, source)
    found = everything(store)
    assert len(found) == 5
    store.plan("PUT", "part-00003-", refused(403, "SignatureDoesNotMatch"), times=FOR_EVER)
    messages = [run_command(*command(output, source)).stderr]
    store.faults.clear()
    messages += [run_command(*command(output, source)).stderr for _ in range(2)]
    messages.append(run_command(*command(output, f"{source}&x=sEcReT")).stderr)
    messages.append(run_command(*command(output, source, "--prompt-column", "none")).stderr)
    assert [bool(re.search("^Error: ", said, re.MULTILINE)) for said in messages] == [
        *(True, False, True, True, True)
    ]
    found |= everything(store)
    footer = pq.read_metadata(io.BytesIO(found["out.parquet"])).metadata[b"picobatch"]
    told = json.loads(footer)
    assert told["input"]["path"] == told["settings"]["input"] == f"{HERE}/in.jsonl.gz"
    assert told["settings"]["output"] == f"{HERE}/out.parquet"
    text = "".join(messages) + "".join(capfd.readouterr())
    for secret in (*secrets, "Signature=", "hidden"):
        assert secret not in text
        assert not [name for name, content in found.items() if secret.encode() in content]


def counted(store):
    found = len(store.seen)
    store.seen.clear()
    return found


def test_how_many_requests_a_job_makes(store, monkeypatch):
    """A job that goes on asks once which parts are there, and reads each one's record."""
    job(f"{HERE}/a.jsonl", part_rows=50)
    two = counted(store)
    job(f"{HERE}/b.jsonl", part_rows=20)
    five = counted(store)
    assert (five - two) / 3 <= 16
    half_done(monkeypatch, "c.jsonl", 4, part_rows=20)
    counted(store)
    before_part(monkeypatch, 4, stop)
    with pytest.raises(Stopped):
        job(f"{HERE}/c.jsonl", part_rows=20)
    of_parts = [path for _, path in store.seen if re.search(r"part-0000[0-3][-.]", path)]
    assert len(of_parts) == 2 * 4
    assert all(path.endswith(".json") for path in of_parts)
    assert counted(store) <= 2 * 4 + 30


def test_a_long_file_is_read_in_few_requests(store):
    content = b"".join(
        b'{"prompt": "one two", "x": "%s"}\n' % (b"%05d" % n * 40) for n in range(16_000)
    )
    fill(store, **{"long.jsonl": content})
    job(f"{HERE}/out.jsonl", f"{HERE}/long.jsonl", limit=16_000, max_new_tokens=1, part_rows=None)
    assert len(content) > 3 << 20
    assert n_requests(store, "GET", "long.jsonl") <= 12
