"""Nights on which something fails after the figures are there, or nobody listens."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.cli import cli
from jobs.tasks import KINDS

ROOT = Path(__file__).parents[2]
JOB = f"""
output = "runs"
report = false
[tasks.words]
kind = "last_word"
data = "{ROOT}/jobs/samples/lambada.jsonl"
format = "lambada"
limit = 5
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    path = tmp_path / "night.toml"
    path.write_text(JOB)
    return path


def evaluated(*arguments):
    return CliRunner().invoke(cli, ["eval", *map(str, arguments)], catch_exceptions=False)


def test_a_baseline_that_cannot_be_written_costs_no_figures(job, tmp_path):
    (tmp_path / "runs" / "baselines" / ".good.lock").mkdir(parents=True)
    done = evaluated(job, "--bless", "good")
    assert done.exit_code == 1
    assert Path(done.stdout.strip()).is_dir()
    assert "not blessed: " in done.stderr
    assert "words  acc" in done.stderr


def test_figures_are_told_where_they_cannot_be_kept(job, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("jobs.run_folder.write_rows", full)
    done = evaluated(job)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "words  acc" in done.stderr
    assert "No space left on device; expected a folder to write to" in done.stderr


def test_an_error_of_ours_costs_one_task_and_is_traced(job, monkeypatch):
    def broken(*_):
        raise RuntimeError("a bug")

    job.write_text(JOB + JOB.partition("report = false")[2].replace("words", "more"))
    kind = KINDS["last_word"]
    runs = iter([broken, kind.run])
    monkeypatch.setitem(KINDS, "last_word", replace(kind, run=lambda *args: next(runs)(*args)))
    done = evaluated(job)
    assert done.exit_code == 1
    found = json.loads((Path(done.stdout.strip()) / "results.json").read_text())
    assert found["failed"] == {"words": "RuntimeError: a bug"}
    assert list(found["tasks"]) == ["more"]
    assert "in broken" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no such shell, no such device")
@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_a_night_that_nobody_hears_is_kept(job, tmp_path, where):
    command = f'"{sys.executable}" -m jobs.cli eval {job.name} {where}'
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, shell=True, env=env, check=False)
    (found,) = tmp_path.glob("runs/*/results.json")
    assert json.loads(found.read_text())["failed"] == {}
    assert len([*(tmp_path / "runs" / "history").iterdir()]) == 1
