"""`runner eval` as a user runs it: what is left behind, what is said, and the exit code.

Files are read with pyarrow and json alone, figures are NumPy's.
"""

import importlib.util
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from jobs.cli import cli
from reference.models import DEMO_DIR
from runner.engine_scorer import EngineScorer
from runner.score import Scored

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "jobs" / "samples"
JOB = f"""
name = "night"
output = "runs"
baseline.name = "good"
seed = 3
[tasks.words]
kind = "last_word"
data = "{SAMPLES}/lambada.jsonl"
format = "lambada"
[tasks.choices]
kind = "multiple_choice"
data = "{SAMPLES}/blimp.jsonl"
format = "blimp"
limit = 60
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    path = tmp_path / "night.toml"
    path.write_text(JOB)
    return path


def run(*arguments, code=0):
    """Its stdout and its stderr."""
    done = CliRunner().invoke(cli, ["eval", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout, done.stderr


def evaluated(*arguments, code=0):
    """The run's folder, what `results.json` says, and what was said."""
    out, err = run(*arguments, "--no-report", code=code)
    folder = Path(out.strip())
    return folder, json.loads((folder / "results.json").read_text()), err


def damaged_model(folder):
    """The demo model with its matrices in less than 3 bits."""
    shutil.copytree(DEMO_DIR, folder)
    tensors = {}
    for name, array in load_file(DEMO_DIR / "model.safetensors").items():
        step = np.abs(array).max(axis=-1, keepdims=True) / 2 + 1e-9
        is_matrix = array.ndim == 2 and ".mlp." in name
        tensors[name] = (np.round(array / step) * step).astype(array.dtype) if is_matrix else array
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(
            tensors.values(), load_file(DEMO_DIR / "model.safetensors").values(), strict=True
        )
    )
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_night_and_what_it_leaves(job, tmp_path):
    folder, found, err = evaluated(job)
    assert sorted(p.name for p in folder.iterdir()) == ["results.json", "rows"]
    assert folder.parent.resolve() == (tmp_path / "runs")
    assert {p.name for p in folder.parent.iterdir()} == {folder.name, "history"}
    assert (found["schema"], found["run"], found["exit_code"]) == (1, folder.name, 0)
    assert found["model"]["dtype"] == "float32"
    assert found["gate"]["verdict"] == "not gated"
    assert found["check"]["agrees"] is True
    assert (found["check"]["requests"], found["failed"]) == (8, {})
    for name in ("words", "choices"):
        rows = pq.read_table(folder / "rows" / f"{name}.parquet")
        task = found["tasks"][name]
        assert task["rows"] == len(rows)
        acc = rows["acc"].to_numpy()
        assert task["metrics"]["acc"]["value"] == pytest.approx(acc.mean(), rel=1e-12)
        stderr = acc.std(ddof=1) / math.sqrt(len(acc))
        assert task["metrics"]["acc"]["stderr"] == pytest.approx(stderr, rel=1e-12)
        assert task["data"][0]["sha256"]
    assert found["tasks"]["choices"]["rows"] == 60
    perplexity = found["tasks"]["words"]["metrics"]["perplexity"]["value"]
    rows = pq.read_table(folder / "rows" / "words.parquet")
    assert perplexity == pytest.approx(math.exp(-rows["loglikelihood"].to_numpy().mean()), rel=1e-9)
    for said in ("task 1 of 2: words (last_word)", "night: not gated", "check: ok: 8 requests"):
        assert said in err
    (night,) = (tmp_path / "runs" / "history").iterdir()
    kept = pq.read_table(night).to_pylist()
    assert {(row["task"], row["metric"]) for row in kept} == {
        (task, metric) for task in found["tasks"] for metric in found["tasks"][task]["metrics"]
    }
    assert all(row["run"] == folder.name for row in kept)


def test_a_damaged_model_does_not_pass(job, tmp_path, monkeypatch):
    _, _, err = evaluated(job, "--bless", "good")
    assert f"blessed: {tmp_path / 'runs' / 'baselines' / 'good'}" in err
    _, found, _ = evaluated(job)
    assert found["gate"]["verdict"] == "passed"
    assert found["gate"]["baseline"]["name"] == "good"
    assert {f["verdict"] for f in found["gate"]["findings"]} == {"same"}

    damaged_model(tmp_path / "damaged")
    job.write_text(f'model = "damaged"\n{JOB}')
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    _, found, err = evaluated(job, code=5)
    assert (found["gate"]["verdict"], found["exit_code"]) == ("failed", 5)
    worse = {
        (f["task"], f["metric"]) for f in found["gate"]["findings"] if f["verdict"] == "regression"
    }
    assert ("words", "perplexity") in worse
    assert "night: FAILED" in err
    assert found["gate"]["flipped"]
    assert found["check"]["agrees"] is True  # the engine computes what the weights say
    text = summary.read_text()
    assert text.startswith("before\n")
    assert "FAILED" in text
    # Blessed nevertheless, it is what later runs are compared with.
    _, _, err = evaluated(job, "--bless", "good", code=5)
    assert "blessed: " in err
    evaluated(job)


def test_thresholds(job):
    job.write_text(f"{JOB}thresholds.acc.min = 0.1\n")
    _, found, _ = evaluated(job)
    assert found["gate"]["verdict"] == "passed"
    job.write_text(f"{JOB}thresholds.acc.min = 0.999\n")
    _, found, err = evaluated(job, code=5)
    assert found["gate"]["findings"][0]["verdict"] == "threshold"
    assert "0.999" in err


def test_a_task_that_fails_does_not_lose_the_others(job, tmp_path):
    evaluated(job, "--bless", "good")
    (tmp_path / "other.jsonl").write_text('{"page": "no such column"}\n')
    job.write_text(JOB.replace(f"{SAMPLES}/lambada.jsonl", "other.jsonl"))
    folder, found, err = evaluated(job, code=1)
    assert list(found["tasks"]) == ["choices"]
    assert "other.jsonl: no column 'text'" in found["failed"]["words"]
    assert "words: failed: " in err
    missing = {f["metric"] for f in found["gate"]["findings"] if f["verdict"] == "missing"}
    assert missing == {"acc", "perplexity"}
    assert [p.name for p in (folder / "rows").iterdir()] == ["choices.parquet"]
    _, _, err = evaluated(job, "--bless", "other", code=1)
    assert "not blessed: a run with exit code 1 is no baseline" in err
    assert not (tmp_path / "runs" / "baselines" / "other").exists()


def test_bad_rows_are_counted(job, tmp_path):
    lines = (SAMPLES / "lambada.jsonl").read_text().splitlines()[:5]
    (tmp_path / "some.jsonl").write_text("\n".join([*lines, '{"text": 3}', '{"text": "word"']))
    job.write_text(JOB.replace(f"{SAMPLES}/lambada.jsonl", "some.jsonl"))
    _, found, err = evaluated(job, code=3)
    assert found["tasks"]["words"]["rows"] == 5
    assert len(found["tasks"]["words"]["bad_rows"]) == 2
    assert "words: 5 rows, 2 bad in " in err
    assert f"words: bad row: {tmp_path}/some.jsonl:6: " in err


def test_scores_that_disagree_with_the_reference(job, tmp_path, monkeypatch):
    """Every eighth log-probability is off, in a job that checks all."""
    right = EngineScorer.score

    def wrong(self, wanted):
        found = right(self, wanted)
        return [
            Scored(s.logprobs - 0.5, s.greedy) if n % 8 == 0 else s for n, s in enumerate(found)
        ]

    monkeypatch.setattr(EngineScorer, "score", wrong)
    job.write_text(f'check_rows = "all"\n{JOB}')
    _, found, err = evaluated(job, "--bless", "good", code=4)
    check = found["check"]
    assert not check["agrees"]
    assert check["max_abs_diff"] == pytest.approx(0.5, rel=1e-3)
    assert "check: FAILED: 264 requests" in err
    assert "not blessed: a run with exit code 4" in err
    assert found["exit_code"] == 4
    assert not (tmp_path / "runs" / "baselines").exists()
    job.write_text(f"check_rows = 0\n{JOB}")
    _, found, err = evaluated(job)
    assert "no scores were compared" in err


@pytest.mark.parametrize("setting", ['dtype = "int8"', 'engine = "reference"'])
def test_other_ways_to_compute(job, setting):
    job.write_text(f"{setting}\n{JOB}")
    _, found, _ = evaluated(job, "--limit", "12")
    _, expected, _ = evaluated(job, "--limit", "12")
    for task, metrics in ((t, found["tasks"][t]["metrics"]) for t in found["tasks"]):
        assert metrics == expected["tasks"][task]["metrics"]
    if "int8" in setting:
        assert 0 < found["check"]["int8"]["rms_in_std"] < 0.2
        assert found["check"]["requests"] == 8
    else:
        assert found["check"]["requests"] == 0
    assert found["environment"]["engine"] == ("reference" if "ref" in setting else "onnxruntime")


def test_a_trial_is_no_night(job, tmp_path):
    evaluated(job, "--bless", "good")
    n_nights = len([*(tmp_path / "runs" / "history").iterdir()])
    _, found, _ = evaluated(job, "--task", "choices", "--limit", "10")
    assert found["job"]["is_trial"] is True
    assert found["tasks"]["choices"]["rows"] == 10
    assert {f["task"] for f in found["gate"]["findings"]} == {"choices"}  # none is missing
    _, found, _ = evaluated(job, "--limit", "1000")
    assert found["tasks"]["choices"]["rows"] == 60  # the file's own limit is kept
    assert len([*(tmp_path / "runs" / "history").iterdir()]) == n_nights
    _, err = run(job, "--task", "choices", "--bless", "good", code=2)
    assert "--bless with --task or --limit" in err


def test_what_is_refused_before_anything_runs(job, tmp_path):
    for arguments, said in (
        (["--task", "wrds"], "--task 'wrds': no such task in "),
        (["--bless", "../x"], "is no name of a baseline"),
        (["--baseline", "a/b"], "is no name of a baseline"),
        (["--limit", "0"], "0 is not in the range x>=1"),
    ):
        _, err = run(job, *arguments, code=2)
        assert said in err
    _, err = run(job, "--baseline", "none", code=1)
    assert "none: no such baseline; there are: none." in err
    _, err = run(tmp_path / "no.toml", code=2)
    said = "No such file or directory; expected a job file. Check the path."
    assert err == f"Error: {tmp_path}/no.toml: {said}\n"
    assert not (tmp_path / "runs").exists()


def test_the_plan(job, tmp_path):
    job.write_text(f"{JOB}thresholds.acc = {{ min = 0.25, max = 0.9 }}\nallow.acc_norm = 0.01\n")
    out, err = run(job, "--dry-run", "--limit", "100")
    assert not err
    assert not (tmp_path / "runs").exists()
    lines = [" ".join(line.split()) for line in out.splitlines()]
    n_words = min(100, len((SAMPLES / "lambada.jsonl").read_text().splitlines()))
    for line in (
        f"job night, from {job}",
        f"runs {tmp_path}/runs",
        "history not added to: a trial",
        f"baseline {tmp_path}/runs/baselines/good: not there yet, make it with --bless good",
        f"words last_word {n_words} acc, perplexity -",
        "choices multiple_choice 60 acc, acc_norm 0.25 <= acc <= 0.9, acc_norm may worsen by 0.01",
        f"words: {SAMPLES}/lambada.jsonl, read as lambada",
    ):
        assert line in lines, out
    evaluated(job, "--bless", "good", "--output", "elsewhere")
    out, _ = run(job, "--dry-run", "--output", "elsewhere")
    assert "baselines/good: run 2" in out
    assert "history   elsewhere/history" in out


def test_the_plan_of_a_job_for_a_cluster(job, monkeypatch):
    def engine(*arguments):
        out, _ = run(job, "--dry-run", *arguments)
        (line,) = [line for line in out.splitlines() if line.startswith("model")]
        return line.removeprefix("model     demo, float32, ")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray = ("--engine", "ray")
    assert engine(*ray) == "onnxruntime on Ray: a Ray of its own, on this machine"
    assert engine(*ray, "--cpus-per-task", "3", "--ray-address", "h:1") == (
        "onnxruntime on Ray: h:1, 3 CPUs a task"
    )
    job.write_text(f'engine = "ray"\nray_address = "head:6379"\ncpus_per_task = 2\n{JOB}')
    assert engine() == "onnxruntime on Ray: head:6379, 2 CPUs a task"
    assert engine("--cpus-per-task", "4") == "onnxruntime on Ray: head:6379, 4 CPUs a task"
    assert engine("--engine", "reference", "--threads", "1") == "reference, 1 threads"
    job.write_text(JOB)
    monkeypatch.setenv("RAY_ADDRESS", "there:1")
    assert engine(*ray) == "onnxruntime on Ray: there:1"
    for options in (["--ray-address", "h:1"], ["--cpus-per-task", "2"]):
        _, err = run(job, *options, code=2)
        assert "--ray-address and --cpus-per-task are for engine 'ray'; this job's is 'onnx" in err
    job.write_text(f'engine = "reference"\ndtype = "float64"\n{JOB}')
    _, err = run(job, *ray, code=2)
    assert "--engine ray: " in err
    assert "which only 'reference' computes in" in err


def test_no_cluster(job, tmp_path, monkeypatch):
    """Where there is no Ray, or none at the address, nothing is run and nothing is left."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    asked = [job, "--engine", "ray", "--ray-address", f"127.0.0.1:{port}"]
    if importlib.util.find_spec("ray") is not None:
        _, err = run(*asked, code=1)
        assert f"the cluster 127.0.0.1:{port}: " in err
        assert "task 1 of 2" not in err
    monkeypatch.setattr("runner.cluster.ray_session.find_spec", lambda _: None)
    _, err = run(*asked, code=2)
    assert 'pip install "picobatch[ray]"' in err
    assert not [*(tmp_path / "runs").iterdir()]


def test_the_report(job):
    """Made where its libraries are; a report that was asked for is refused where they are not."""
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    out, _ = run(job)
    page = (Path(out.strip()) / "report.html").read_text()
    assert "night" in page
    code = (
        "import sys; sys.modules['matplotlib'] = None; sys.modules['jinja2'] = None\n"
        "import importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n in ('matplotlib', 'jinja2') else found(n, *a)\n"
        "from jobs.cli import cli; cli()"
    )
    command = [sys.executable, "-c", code, "eval", str(job)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert not (Path(done.stdout.strip()) / "report.html").exists()
    job.write_text(f"report = true\n{JOB}")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert "without jinja2 and matplotlib installed" in done.stderr
    assert 'pip install "picobatch[report]"' in done.stderr


def test_what_cannot_be_kept_is_said(job, tmp_path, monkeypatch):
    """The run's folder is there all the same."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "history").write_text("a file")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    _, found, err = evaluated(job, code=1)
    assert found["exit_code"] == 0
    assert "history: " in err
    assert "GITHUB_STEP_SUMMARY: " in err
    assert "night: not gated" in err
    (tmp_path / "runs" / "history").unlink()
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    (tmp_path / "runs" / "baselines").write_text("a file")
    job.write_text(JOB.replace('baseline.name = "good"', ""))
    _, _, err = evaluated(job, "--bless", "good", code=1)
    assert "night: not gated" in err
    assert "not blessed: " in err
    (tmp_path / "file").write_text("")
    _, err = run(job, "--no-report", "--output", tmp_path / "file" / "runs", code=1)
    assert "expected a folder to write to" in err


@pytest.mark.parametrize("step", ["write_rows", "as_bytes", "sync_folder"])
def test_a_run_that_is_stopped_while_it_is_written_is_not_there(job, tmp_path, monkeypatch, step):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"jobs.run_folder.{step}", stop)
    _, err = run(job, "--limit", "2", "--no-report", code=130)
    assert "stopped by SIGINT" in err
    assert not [*(tmp_path / "runs").iterdir()]


def test_memory_that_is_not_there_fails_a_task_alone(job, monkeypatch):
    right = EngineScorer.score

    def short(self, wanted):
        if len(wanted) > 20:  # two choices of ten rows
            raise MemoryError
        return right(self, wanted)

    monkeypatch.setattr(EngineScorer, "score", short)
    job.write_text(JOB.replace("limit = 60", "limit = 10"))
    _, found, _ = evaluated(job, code=1)
    assert found["failed"] == {"words": "there was not enough memory"}
    assert found["tasks"]["choices"]["rows"] == 10


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_half_written(job, tmp_path, number):
    job.write_text(f'engine = "reference"\ndtype = "float64"\n{JOB}')  # slow
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", "eval", str(job)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("task 1 of 2")
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists() or not [*(tmp_path / "runs").iterdir()]


def test_help_is_quick_to_come():
    """What an evaluation takes is imported by it alone."""
    code = (
        "import sys, jobs.cli\n"
        "print([m for m in ('jobs.night', 'jobs.tasks', 'jobs.spec', 'matplotlib', 'jinja2')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "[]\n"
