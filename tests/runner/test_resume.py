"""A job that is stopped goes on from what is done; what is finished is left alone."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reference.models import DEMO_DIR
from runner import ExitCode, RunSettings, run
from runner.errors import InputError, InterruptedJobError, OutputError, SettingsError
from runner.intake import Intake
from runner.pipeline import Pipeline
from runner.sealed import unseal


@pytest.fixture
def prompts(tmp_path):
    words = ["The capital of France is", "one two", "Monday, Tuesday,", "3 + 4 =", ""]
    rows = [{"n": n, "prompt": f"{words[n % 5]} {n % 31}"} for n in range(120)]
    rows[7]["prompt"] = rows[77]["prompt"] = 7
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "in.jsonl"


def job(prompts, output, **settings):
    settings = {"max_new_tokens": 5, "threads": 1, "part_rows": 25, "batch_size": 8} | settings
    return run(RunSettings(str(prompts), str(prompts.parent / output), **settings))


class Stopped(Exception):  # noqa: N818
    """What a test stops a job with."""


def stop_after(monkeypatch, n_commits):
    """Let a job die when so many parts are done."""
    from runner.job_folder import JobFolder

    original, done = JobFolder.commit, []

    def commit(self, part, record):
        if len(done) == n_commits:
            raise Stopped
        original(self, part, record)
        done.append(part.number)

    monkeypatch.setattr(JobFolder, "commit", commit)


def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).replace_schema_metadata(None)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl", "out.jsonl.gz", "out.jsonl.zst"])
def test_a_job_goes_on_from_the_parts_that_are_done(prompts, monkeypatch, capsys, name):
    clean = job(prompts, f"clean-{name}", check_rows=None)
    assert clean.parts == 5
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stopped):
            job(prompts, name, check_rows=None)
    folder = prompts.parent / f"{name}.parts"
    assert not (prompts.parent / name).exists()
    assert (
        "2 of 5 parts (50 of 120 rows) are kept; the same command goes on"
        in capsys.readouterr().err
    )
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")}
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(Stopped):
            job(prompts, name, check_rows=None)
    assert before.items() <= {p.name: p.stat().st_mtime_ns for p in folder.glob("part-*")}.items()
    report = job(prompts, name, check_rows=None)
    assert read(prompts.parent / name) == read(prompts.parent / f"clean-{name}")
    assert not folder.exists()
    assert (report.parts, report.resumed_parts) == (5, 3)
    assert report.exit_code == clean.exit_code == ExitCode.BAD_ROWS
    for count in ("rows", "bad_rows", "prompt_tokens", "completion_tokens", "first_bad_row"):
        assert getattr(report, count) == getattr(clean, count)
    # Rows that share an answer are checked once; where a run begins anew, once more.
    assert report.check.rows >= clean.check.rows
    assert report.check.agrees
    assert "3 of 5 parts are from earlier runs" in report.summary()


def test_nothing_is_left_where_no_part_was_done(prompts, monkeypatch):
    stop_after(monkeypatch, 0)
    with pytest.raises(Stopped):
        job(prompts, "out.parquet")
    assert [path.name for path in prompts.parent.iterdir()] == ["in.jsonl"]


def test_a_bad_row_under_fail_keeps_what_is_done(prompts, capsys):
    rows = prompts.read_text().splitlines(keepends=True)
    rows[7] = rows[8]
    prompts.write_text("".join(rows))
    with pytest.raises(InputError, match="in.jsonl:78"):
        job(prompts, "out.jsonl", on_error="fail")
    assert "are kept" in capsys.readouterr().err
    report = job(prompts, "out.jsonl")
    assert report.resumed_parts >= 1
    assert report.bad_rows == 1


CHANGES = {
    "max_new_tokens was 5, is 6": {"max_new_tokens": 6},
    "stop was [], is ['x']": {"stop": ("x",)},
    "dtype was 'float32', is 'int8'": {"dtype": "int8"},
    "ignore_eos was False, is True": {"ignore_eos": True},
    "limit was null, is 100": {"limit": 100},
    "column_prefix was '', is 'x_'": {"column_prefix": "x_"},
    "truncate_prompt was null, is 'left'": {"truncate_prompt": "left"},
}


@pytest.mark.parametrize("message", CHANGES)
def test_another_setting_is_refused_with_what_changed(prompts, monkeypatch, message):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stopped):
            job(prompts, "out.jsonl")
    before = sorted((prompts.parent / "out.jsonl.parts").glob("part-*"))
    with pytest.raises(OutputError) as refused:
        job(prompts, "out.jsonl", **CHANGES[message])
    assert message in str(refused.value)
    assert "--overwrite to start anew" in str(refused.value)
    assert sorted((prompts.parent / "out.jsonl.parts").glob("part-*")) == before
    report = job(prompts, "out.jsonl", overwrite=True, **CHANGES[message])
    assert report.resumed_parts == 0


def test_settings_that_change_no_row_may_change(prompts, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stopped):
            job(prompts, "out.jsonl")
    report = job(
        prompts, "out.jsonl", batch_size=3, part_rows=7, check_rows=1, seed=5, on_error="skip"
    )
    assert report.resumed_parts == 2
    job(prompts, "clean.jsonl")
    assert read(prompts.parent / "out.jsonl") == read(prompts.parent / "clean.jsonl")


def test_another_input_is_refused_and_the_same_under_another_name_is_not(prompts, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stopped):
            job(prompts, "out.jsonl")
    text = prompts.read_text()
    prompts.write_text(text.replace("France", "Spain"))
    with pytest.raises(OutputError, match="the input .*in.jsonl has other content"):
        job(prompts, "out.jsonl")
    moved = prompts.with_name("moved.jsonl")
    moved.write_text(text)
    assert job(moved, "out.jsonl").resumed_parts == 2


def test_another_model_is_refused(prompts, monkeypatch, tmp_path):
    """The same sizes and tokenizer, one weight is another."""
    import shutil

    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stopped):
            job(prompts, "out.jsonl")
    other = tmp_path / "other"
    shutil.copytree(DEMO_DIR, other)
    weights = next(other.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-2] ^= 1
    weights.write_bytes(data)
    with pytest.raises(OutputError, match="weights_sha256 was '8f3e"):
        job(prompts, "out.jsonl", model=str(other))


def test_an_input_that_changes_meanwhile_is_noticed(prompts, monkeypatch):
    original = Pipeline._take_in

    def touched(self, chunks):
        found = original(self, chunks)
        os.utime(prompts)
        return found

    monkeypatch.setattr(Pipeline, "_take_in", touched)
    with pytest.raises(InputError, match="changed while the job ran"):
        job(prompts, "out.jsonl")
    assert not (prompts.parent / "out.jsonl").exists()


def test_a_finished_output_is_kept_or_taken_as_done_or_replaced(prompts):
    first = job(prompts, "out.parquet")
    written = (prompts.parent / "out.parquet").read_bytes()
    with pytest.raises(OutputError, match="exists already; a finished output is kept"):
        job(prompts, "out.parquet")
    again = job(prompts, "out.parquet", resume=True)
    assert (prompts.parent / "out.parquet").read_bytes() == written
    assert (again.rows, again.bad_rows, again.exit_code) == (120, 2, first.exit_code)
    assert again.check == first.check
    with pytest.raises(OutputError, match="is the output of another job: max_new_tokens was 5"):
        job(prompts, "out.parquet", resume=True, max_new_tokens=2)
    job(prompts, "out.parquet", overwrite=True, max_new_tokens=2)
    assert (prompts.parent / "out.parquet").read_bytes() != written
    assert sorted(path.name for path in prompts.parent.iterdir()) == [
        "in.jsonl",
        "out.parquet",
        "out.parquet.manifest.json",
    ]


def test_an_output_that_was_changed_is_not_taken_as_done(prompts):
    job(prompts, "out.jsonl")
    (prompts.parent / "out.jsonl").write_text("junk\n")
    with pytest.raises(OutputError, match="is not the file that its manifest tells of"):
        job(prompts, "out.jsonl", resume=True)


def test_an_old_output_under_a_new_manifest_is_not_taken_as_done(prompts, monkeypatch):
    """Where a job dies between the two; the parts of the new one are kept."""
    from runner.places import Place

    job(prompts, "out.jsonl")
    original = Place.put

    def put(self, part):
        if self.path.endswith("out.jsonl"):
            raise Stopped
        original(self, part)

    with monkeypatch.context() as patch:
        patch.setattr(Place, "put", put)
        with pytest.raises(Stopped):
            job(prompts, "out.jsonl", overwrite=True, max_new_tokens=2)
    with pytest.raises(OutputError, match="is not the file that its manifest tells of"):
        job(prompts, "out.jsonl", resume=True, max_new_tokens=2)
    report = job(prompts, "out.jsonl", overwrite=True, max_new_tokens=2)
    assert report.resumed_parts == report.parts


def test_under_fail_a_bad_row_of_an_earlier_run_fails_too(prompts, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stopped):
            job(prompts, "out.jsonl")
    with pytest.raises(InputError, match="in.jsonl:8: .* pass --on-error=skip"):
        job(prompts, "out.jsonl", on_error="fail")
    job(prompts, "out.jsonl")
    with pytest.raises(InputError, match="in.jsonl:8: .* pass --on-error=skip"):
        job(prompts, "out.jsonl", on_error="fail", resume=True)
    assert "the first: " in job(prompts, "out.jsonl", resume=True).summary()
    assert "the first: None" not in job(prompts, "out.jsonl", resume=True).summary()


def test_what_a_check_found_outlives_a_signal(prompts, monkeypatch):
    """Logits that were found wrong stay so, though their answers are not computed again."""
    from runner.checker import Checker

    original, n = Checker.check, iter(range(1000))

    def check(self, sequence):
        sequence.logits = [logits + 1 + np.arange(len(logits)) % 2 for logits in sequence.logits]
        original(self, sequence)
        if next(n) == 5:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Checker, "check", check)
        with pytest.raises(InterruptedJobError):
            job(prompts, "out.jsonl", check_rows=None, part_rows=120)
    report = job(prompts, "out.jsonl", check_rows=0, part_rows=120)
    assert report.resumed_parts == 0
    assert report.check.offending_rows >= 6
    assert report.exit_code == ExitCode.DISAGREES


def test_figures_do_not_go_into_files_of_the_job(prompts, monkeypatch):
    monkeypatch.chdir(prompts.parent)
    before = prompts.read_bytes()
    for metrics in ("./in.jsonl", "../" + prompts.parent.name + "/in.jsonl"):
        with pytest.raises(SettingsError, match="a file that the job reads or writes"):
            job(prompts, "out.jsonl", metrics=metrics)
    for metrics in ("./out.jsonl", "out.jsonl.manifest.json"):
        with pytest.raises(SettingsError, match="a file that the job reads or writes"):
            job(prompts, "out.jsonl", metrics=metrics)
    with pytest.raises(SettingsError, match="a file that the job reads or writes"):
        job(prompts, "out.jsonl", metrics="out-00000-of-00002.jsonl", shard=(0, 2))
    assert prompts.read_bytes() == before


@pytest.mark.parametrize("make", [lambda p: p.symlink_to("/nonexistent"), lambda p: os.mkfifo(p)])
def test_something_else_where_the_parts_go(prompts, make):
    make(prompts.parent / "out.jsonl.parts")
    with pytest.raises(OutputError, match="out.jsonl.parts: is (no folder|a link)"):
        job(prompts, "out.jsonl")


def test_rows_that_are_run_again_can_be_stopped(prompts, monkeypatch):
    """And the verdict of a finished output is told again."""
    from runner import invariance

    original, n = invariance.alone, iter(range(1000))

    def alone(engine, sequence):
        if next(n) == 2:
            signal.raise_signal(signal.SIGTERM)
        return original(engine, sequence)

    with monkeypatch.context() as patch:
        patch.setattr(invariance, "alone", alone)
        with pytest.raises(InterruptedJobError):
            job(prompts, "out.jsonl", check_invariance=50)
    assert next(n) < 5
    report = job(prompts, "out.jsonl", check_invariance=50)
    assert (report.resumed_parts, report.invariance.rows) == (5, 0)
    assert "rows of earlier runs were not run again" in report.summary()
    job(prompts, "out.jsonl", check_invariance=5, overwrite=True)
    path = prompts.parent / "out.jsonl.manifest.json"
    found = json.loads(path.read_text())
    found["invariance"] |= {"differing_rows": 1, "differing": ["row 3: another"]}
    path.write_text(json.dumps(found))
    assert job(prompts, "out.jsonl", resume=True).exit_code == ExitCode.DISAGREES


@pytest.mark.parametrize("file", ["x", ["bytes"], 3, None])
def test_a_manifest_whose_file_is_none(prompts, file):
    job(prompts, "out.jsonl")
    path = prompts.parent / "out.jsonl.manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"file": file}))
    with pytest.raises(OutputError, match="is not the file that its manifest tells of"):
        job(prompts, "out.jsonl", resume=True)


def test_an_old_output_stays_until_the_new_one_is_whole(prompts, monkeypatch):
    job(prompts, "out.jsonl")
    old = read(prompts.parent / "out.jsonl")
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stopped):
            job(prompts, "out.jsonl", overwrite=True, max_new_tokens=2)
    assert read(prompts.parent / "out.jsonl") == old
    assert job(prompts, "out.jsonl", overwrite=True, max_new_tokens=2).resumed_parts == 2
    assert read(prompts.parent / "out.jsonl") != old


def test_a_part_that_is_damaged_is_done_again(prompts, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stopped):
            job(prompts, "out.jsonl")
    (part,) = (prompts.parent / "out.jsonl.parts").glob("part-00001-*.jsonl")
    data = bytearray(part.read_bytes())
    data[100] ^= 1
    part.write_bytes(data)
    assert job(prompts, "out.jsonl").resumed_parts == 2
    assert "part 1 is damaged; its rows are done again" in capsys.readouterr().err
    job(prompts, "clean.jsonl")
    assert read(prompts.parent / "out.jsonl") == read(prompts.parent / "clean.jsonl")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_keeps_every_answer(prompts, tmp_path, number):
    """Of a real process; the same command then computes what is missing, and nothing else."""
    rows = [{"prompt": f"{n} one two three"} for n in range(2000)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "out.jsonl"
    options = ["--max-new-tokens", "20", "--ignore-eos", "--part-rows", "500", "--threads", "1"]
    command = [sys.executable, "-m", "runner.cli", "batch", str(prompts), str(output), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    folder = tmp_path / "out.jsonl.parts"
    while not list(folder.glob("part-*.json")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}" in said
    assert "rows of others are kept; the same command goes on from there" in said
    kept = len(unseal((folder / "answers.json").read_bytes())["rows"])
    assert kept > 0
    taken = []
    original = Intake.__init__

    def init(self, settings, model, checker, invariance, known=None):
        taken.append(len(known))
        original(self, settings, model, checker, invariance, known)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Intake, "__init__", init)
        settings = {"max_new_tokens": 20, "ignore_eos": True, "batch_size": None}
        report = job(prompts, "out.jsonl", check_rows=0, **settings)
    assert taken == [kept]
    assert report.engine["generated_tokens"] <= 20 * (2000 - 500 * report.resumed_parts - kept)
    job(prompts, "clean.jsonl", **settings)
    assert read(output) == read(tmp_path / "clean.jsonl")


def test_two_jobs_with_one_output(prompts):
    """The second is refused while the first runs; that one is not disturbed."""
    from runner.job_folder import JobFolder

    original, refused = JobFolder.commit, []

    def commit(self, part, record):
        if part.number == 1:
            with pytest.raises(OutputError, match="another job writes it now"):
                job(prompts, "out.jsonl")
            refused.append(True)
        original(self, part, record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JobFolder, "commit", commit)
        job(prompts, "out.jsonl")
    assert refused
    job(prompts, "clean.jsonl")
    assert read(prompts.parent / "out.jsonl") == read(prompts.parent / "clean.jsonl")


def test_parquet_of_every_row_group_size_is_the_same(prompts):
    table = pa.table({"n": range(120), "prompt": [f"{n % 17} two" for n in range(120)]})
    pq.write_table(table, prompts.with_name("in.parquet"), row_group_size=11)
    source = prompts.with_name("in.parquet")
    job(source, "a.parquet", part_rows=1)
    job(source, "b.parquet", part_rows=1000)
    assert read(prompts.parent / "a.parquet").equals(read(prompts.parent / "b.parquet"))
