"""What stands around an evaluation: progress, the environment, `runner history`."""

import io
import json
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from jobs import history, progress
from jobs.cli import cli
from jobs.environment import commit_of
from tests.jobs import nights


def test_progress_is_told_in_plain_lines(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    told = progress.TaskProgress(2)
    with told.task("words", "last_word"):
        told.expect(400)
        for _ in range(4):
            now[0] += 4.0
            told.advance(50)
    with told.task("texts", "perplexity"):
        told.expect(10)
        told.advance(10)  # within seconds: nothing is said
    assert capsys.readouterr().err.splitlines() == [
        "task 1 of 2: words (last_word)",
        "words: 150 of 400 requests done, 20 s left",
        "task 2 of 2: texts (perplexity)",
    ]


def test_progress_on_a_terminal_is_a_bar(monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", screen)
    told = progress.TaskProgress(1)
    with told.task("words", "last_word"):
        told.expect(40)
        told.advance(40)
        told.expect(60)  # a second call of the same task
        told.advance(60)
    assert "0/40" in screen.getvalue()
    assert "40/100" in screen.getvalue()
    assert screen.getvalue().endswith("\r")  # it is gone when the task is done


def test_the_commit_is_the_one_that_git_says(tmp_path):
    def git(*arguments):
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert commit_of(tmp_path / "nowhere") is None
    git("init", "--quiet")
    assert commit_of(tmp_path) is None  # no commit yet
    (tmp_path / "a").write_text("a")
    git("add", "a")
    git("commit", "--quiet", "-m", "a")
    git("tag", "-a", "v1", "-m", "v1")
    head = git("rev-parse", "HEAD")
    assert commit_of(tmp_path) == head
    (tmp_path / "a").write_text("b")
    assert commit_of(tmp_path) == f"{head}-dirty"


@pytest.fixture
def kept(tmp_path):
    """A history of two jobs, five nights each."""
    for job in ("one", "two"):
        for n in range(5):
            rows = [nights.row(i, i % 3 < 2 or n == 4) for i in range(30)]
            found = nights.result(run=f"{job}{n}", job=job, words=nights.task(rows))
            found.started = found.started.replace(day=n + 1)
            history.append(found, str(tmp_path / "history"))
    return tmp_path / "history"


def shown(*arguments, code=0):
    done = CliRunner().invoke(cli, ["history", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def test_history_as_a_table(kept):
    out = shown(kept)
    assert out.count("words  acc") == 2
    assert "one: 5 runs" in out
    out = shown(kept, "--job", "two", "--metric", "acc", "--last", "3")
    assert "two: the last 3 of 5 runs" in out
    assert "one" not in out
    assert "perplexity" not in out


def test_history_as_json_is_what_the_files_hold(kept):
    rows = [json.loads(line) for line in shown(kept, "--json", "--last", "2").splitlines()]
    assert {row["run"] for row in rows} == {"one3", "one4", "two3", "two4"}
    held = [row for file in kept.iterdir() for row in pq.read_table(file).to_pylist()]
    for row in rows:
        (same,) = [h for h in held if all(h[k] == row[k] for k in ("run", "task", "metric"))]
        assert row == same | {"started": same["started"].isoformat()}
    assert [row["started"] for row in rows] == sorted(row["started"] for row in rows)


def test_history_of_a_job_file_whose_data_are_elsewhere(kept, tmp_path):
    job = tmp_path / "night.toml"
    job.write_text(
        'name = "two"\nhistory = "history"\n'
        '[tasks.words]\nkind = "last_word"\ndata = "not/here.jsonl"\nformat = "lambada"\n'
    )
    out = shown(job)
    assert "two: 5 runs" in out
    assert "one" not in out
    assert "one: 5 runs" in shown(job, "--job", "one")


def test_what_a_history_does_not_have(kept, tmp_path):
    for arguments, said in (
        ([tmp_path / "none"], "none: no runs; expected a history of `runner eval`."),
        ([kept, "--job", "three"], "no job 'three'; expected one of one, two."),
        ([kept, "--task", "wrds"], "no task 'wrds'; expected one of words."),
        ([kept, "--metric", "bleu"], "no metric 'bleu'; expected one of acc, bits, perplexity."),
    ):
        assert said in shown(*arguments, code=1)
    assert "No such file" in shown(Path("no.toml"), code=2)
