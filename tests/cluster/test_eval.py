"""`runner eval --engine ray` on a real Ray: rows and figures of one process, whatever happens.

Workers have a `jobs.chunk_task` of the test's: it does what files in the folder of signs say.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from jobs import cluster
from jobs.cli import cli

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray"),
    pytest.mark.skipif(sys.platform == "win32", reason="signals"),
]

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120
N_CPUS = 2
PACKAGE = f"""
__path__ = [{{here!r}}, {str(ROOT / "jobs")!r}]
"""
HAUNTED = f"""
import os, signal, time
from dataclasses import replace
from pathlib import Path

_real = Path({str(ROOT / "jobs" / "chunk_task.py")!r})
exec(compile(_real.read_text(), str(_real), "exec"))
_do, _processor = do_chunk, processor


def _taken(sign):
    try:
        os.rename(sign, f"{{sign}}.taken")
    except OSError:
        return False
    return True


def do_chunk(shared, chunk, here):
    signs = Path(os.environ["SIGNS"])
    (signs / "begun").touch()
    while (signs / "wait").exists():
        time.sleep(0.02)
    if _taken(signs / "kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if (signs / "no scores").exists() and isinstance(chunk, ScoreChunk):
        raise TaskError("scores are out of luck")
    if (signs / "another model").exists():
        shared = replace(shared, model=replace(shared.model, weights_sha256="another"))
    done = _do(shared, chunk, here)
    other = _taken(signs / "another processor")
    return done._replace(processor="Another kind (avx2)") if other else done
"""
JOB = f"""
name = "night"
output = "runs"
check_rows = 20
[tasks.words]
kind = "last_word"
data = "{ROOT}/jobs/samples/lambada.jsonl"
format = "lambada"
limit = 50
[tasks.choices]
kind = "multiple_choice"
data = "{ROOT}/jobs/samples/hellaswag.jsonl"
format = "hellaswag"
limit = 30
[tasks.pages]
kind = "perplexity"
data = "{ROOT}/jobs/samples/wikitext.jsonl"
format = "wikitext"
limit = 20
[tasks.facts]
kind = "greedy"
data = "{ROOT}/jobs/samples/facts.jsonl"
columns = {{ group = "training" }}
max_new_tokens = 12
limit = 60
[tasks.logits]
kind = "parity"
random_prompts = 2
"""


@pytest.fixture(scope="module")
def haunted_ray():
    """A Ray of two CPUs that this process is connected to: its address, and its folder of signs."""
    folder = Path(tempfile.mkdtemp(prefix="e"))  # short: names of sockets have 107 bytes
    for name in ("ray", "signs", "jobs"):
        (folder / name).mkdir()
    (folder / "jobs" / "__init__.py").write_text(PACKAGE.format(here=str(folder / "jobs")))
    (folder / "jobs" / "chunk_task.py").write_text(HAUNTED)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # workers look there first
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{ROOT}")
        patch.setenv("SIGNS", str(folder / "signs"))
        for name in [n for n in os.environ if n.startswith("RAY_")]:
            patch.delenv(name)
        patch.setenv("RAY_AUTH_MODE", "disabled")  # as all tests in a process have to have it
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        before = signal.getsignal(signal.SIGTERM)
        ray.init(
            address="local",
            num_cpus=N_CPUS,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=100 << 20,
            _temp_dir=str(folder / "ray"),
        )
        signal.signal(signal.SIGTERM, before)
        try:
            yield ray.get_runtime_context().gcs_address, folder / "signs"
        finally:
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def signs(haunted_ray):
    yield haunted_ray[1]
    for sign in haunted_ray[1].iterdir():
        sign.unlink()


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setattr(cluster, "CHUNK_TOKENS", 200)
    path = tmp_path / "night.toml"
    path.write_text(JOB)
    return path


def evaluated(*arguments, code=0):
    """The run's folder, what `results.json` says, and what was said."""
    asked = ["eval", *map(str, arguments), "--no-report"]
    done = CliRunner().invoke(cli, asked, catch_exceptions=False)
    assert done.exit_code == code, done.output
    folder = Path(done.stdout.splitlines()[-1])
    return folder, json.loads((folder / "results.json").read_text()), done.stderr


def driver(job, address):
    """The command in a process of its own."""
    code = "from jobs.cli import cli; cli()"
    asked = ["eval", str(job), "--no-report", "--engine", "ray", "--ray-address", address]
    return subprocess.Popen(
        [sys.executable, "-c", code, *asked, "--cpus-per-task", "1"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def see_that_it_is_the_same(run, other):
    """Rows to the bit, metrics, bad rows and details; and the check agrees."""
    (folder, found, _), (other_folder, expected, _) = run, other
    assert list(found["tasks"]) == list(expected["tasks"])
    for name, task in found["tasks"].items():
        assert task["metrics"] == expected["tasks"][name]["metrics"]
        assert task["details"] == expected["tasks"][name]["details"]
        files = [of / "rows" / f"{name}.parquet" for of in (folder, other_folder)]
        assert pq.read_table(files[0]).equals(pq.read_table(files[1]))
    check = found["check"]
    assert check["agrees"] is True
    for name in ("requests", "tokens", "max_abs_diff", "same_choice"):
        assert check[name] == expected["check"][name]
        assert name == "requests" or check[name] > 0
    assert check["generation"]["rows"] == expected["check"]["generation"]["rows"] > 20


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_same_rows_and_figures(job, signs, dtype):
    job.write_text(f'dtype = "{dtype}"\n{JOB}')
    found = evaluated(job, "--engine", "ray", "--cpus-per-task", "1")
    see_that_it_is_the_same(found, evaluated(job))
    environment = found[1]["environment"]
    assert environment["engine"] == "ray"
    told = environment["cluster"]
    assert told["chunks"] == told["attempts"] - told["spares"] > 15
    assert (told["nodes"], told["tasks_at_a_time"], told["cpus_per_task"]) == (1, N_CPUS, 1)
    assert told["processors"] == [environment["processor"]]
    assert (told["failures"], told["losses"], told["excluded"]) == (0, 0, [])
    assert f"cluster: 1 node, {N_CPUS} tasks of 1 CPU at a time; " in found[2]


def test_a_process_that_is_killed_changes_nothing(job, signs, haunted_ray):
    """Nor does anything but the run's folder stand on stdout."""
    (signs / "kill").touch()
    process = driver(job, haunted_ray[0])
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert len(out.splitlines()) == 1, out
    folder = Path(out.strip())
    found = json.loads((folder / "results.json").read_text())
    see_that_it_is_the_same((folder, found, err), evaluated(job))
    told = found["environment"]["cluster"]
    assert (told["failures"], told["attempts"] - told["spares"]) == (1, told["chunks"] + 1)


def test_a_task_that_nodes_cannot_do_fails_alone(job, signs):
    (signs / "no scores").touch()
    folder, found, err = evaluated(job, "--engine", "ray", "--cpus-per-task", "1", code=1)
    assert list(found["tasks"]) == ["facts", "logits"]
    assert list(found["failed"]) == ["words", "choices", "pages"]
    for said in found["failed"].values():
        assert said.startswith("scores are out of luck (node ")
    assert "words: failed: scores are out of luck" in err
    assert sorted(path.stem for path in (folder / "rows").iterdir()) == ["facts", "logits"]


def test_nodes_with_another_model(job, signs):
    """None can do it; what this machine does itself is done."""
    (signs / "another model").touch()
    job.write_text(f'engine = "ray"\ncpus_per_task = {N_CPUS}\n{JOB}')
    _, found, err = evaluated(job, code=1)
    assert list(found["tasks"]) == ["logits"]
    (node,) = found["environment"]["cluster"]["excluded"]
    for said in found["failed"].values():
        assert said.startswith("no node of the cluster can do it: ")
        assert "has another model as demo: " in said
    assert f"left out: node {node}" in err
    assert found["environment"]["cluster"]["failures"] == 1


def test_another_kind_of_processor_is_told(job, signs):
    (signs / "another processor").touch()
    _, found, err = evaluated(job, "--engine", "ray", "--task", "words", "--cpus-per-task", "1")
    told = found["environment"]["cluster"]["processors"]
    assert len(told) == 2
    assert "Another kind (avx2)" in told
    assert found["environment"]["processor"] == "; ".join(told)
    said = "note: processors with different instructions, which may round in different places, "
    assert f"{said}computed this run: avx2; avx2 " in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_half_written(job, signs, haunted_ray, tmp_path, number):
    (signs / "wait").touch()
    process = driver(job, haunted_ray[0])
    until_s = time.monotonic() + PATIENCE_S
    while not (signs / "begun").exists():
        assert time.monotonic() < until_s
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + number, err
    assert f"stopped by {number.name}" in err
    assert "Traceback" not in err
    assert not out
    assert not [*(tmp_path / "runs").iterdir()]
