"""Models and caches that are damaged, changed or gone between two runs."""

import random
import shutil
from pathlib import Path

import pytest

import reference
from tests.faults.test_damage import DAMAGES, damage

DEMO = Path(reference.__file__).parent / "demo"


def copied_model(job):
    model = job.folder / "model"
    shutil.copytree(DEMO, model)
    return job.with_options("--model", "model")


def half_done(laws, job):
    child = laws.server.start(job.args, job.folder)
    while len(list(job.parts.glob("part-*.json"))) < 2:
        assert child.runs_after(0.001), child.outcome()
    child.kill_after(0)


MODEL_FILES = frozenset(f"model/{path.name}" for path in DEMO.iterdir()) | {"model"}


@pytest.mark.parametrize("kind", ["cut", "flip", "delete", "empty"])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocab.json", "merges.txt"])
def test_a_model_that_changed(laws, new_job, name, kind):
    """Refused as another or as damaged; or the change was none that counts."""
    plain = new_job("out.jsonl")
    laws.clean(plain)
    job = copied_model(plain)
    half_done(laws, job)
    file = job.folder / "model" / name
    whole = file.read_bytes()
    damage(file, kind, random.Random(f"{name} {kind}"))
    before = {path.name for path in job.parts.iterdir() if path.name.startswith("part-")}
    outcome = laws.run(job)
    laws.tally[f"model changed: {kind}"] += 1
    if outcome.code == 1:
        laws.refused(outcome)
        assert before <= {path.name for path in job.parts.iterdir()}
    file.write_bytes(whole)
    finished = laws.run(job) if outcome.code == 1 else outcome
    # The same weights and tokenizer: what the bundled model writes.
    laws.ends_well(plain, finished, extra=MODEL_FILES)


def test_another_weight_is_another_job(laws, new_job):
    job = copied_model(new_job("out.jsonl"))
    half_done(laws, job)
    file = job.folder / "model" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1000] ^= 1  # the lowest bits of a number
    file.write_bytes(data)
    laws.refused(laws.run(job), "weights_sha256 was")


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_cache_that_is_damaged(laws, new_job, folder, dtype):
    """What is remembered is found to be wrong, and made anew."""
    rng = random.Random(dtype)
    job = new_job("out.jsonl", "--dtype", dtype)
    cache = folder / "cache"
    env = {"PICOBATCH_CACHE_DIR": str(cache)}
    laws.ends_well(job, laws.run(job, env=env))
    files = [path.relative_to(cache) for path in cache.rglob("*") if path.is_file()]
    assert files
    for kind in DAMAGES:
        broken = folder / f"cache-{kind}"
        shutil.copytree(cache, broken)
        for file in files:
            damage(broken / file, kind, rng)
        other = new_job("out.jsonl", "--dtype", dtype)
        env = {"PICOBATCH_CACHE_DIR": str(broken)}
        laws.ends_well(other, laws.run(other, env=env))
        laws.tally[f"cache damaged: {kind}"] += len(files)


def test_a_cache_that_is_no_folder(laws, new_job, folder):
    (folder / "cache").write_text("a file")
    for name in ("cache", "cache/below"):
        job = new_job("out.jsonl")
        laws.ends_well(job, laws.run(job, env={"PICOBATCH_CACHE_DIR": str(folder / name)}))
        laws.tally["cache damaged: no folder"] += 1


def test_a_cache_that_cannot_be_written_to(laws, new_job, folder):
    cache = Path("/proc/picobatch")  # where nobody can make a folder
    job = new_job("out.jsonl", "--dtype", "int8")
    laws.ends_well(job, laws.run(job, env={"PICOBATCH_CACHE_DIR": str(cache)}))
    laws.tally["cache damaged: read-only"] += 1
