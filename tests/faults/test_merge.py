"""Merging shards: stopped anywhere it goes on, and what does not belong is refused."""

import json
import random
import shutil
import signal

import pytest

from tests.faults.jobs import Job, result_of, rows, same
from tests.faults.test_damage import damage

N_SHARDS = 3
SETTINGS = {"data": rows(60), "part_rows": 30}


@pytest.fixture(scope="module")
def shards(laws, disk):
    """Folders with the finished shards of one job, by its output's name; not to be written to."""
    from tests.faults.jobs import write_input

    made = {}

    def make(output, *options):
        if (output, options) not in made:
            folder = disk / f"shards-{len(made)}"
            folder.mkdir()
            write_input(folder / "in.jsonl", SETTINGS["data"])
            job = Job(folder, "in.jsonl", output, options, SETTINGS["part_rows"])
            for n in range(N_SHARDS):
                outcome = laws.run(job.with_options("--shard", f"{n}/{N_SHARDS}"))
                assert outcome.code == laws.clean(job)[0].code, outcome.said
            made[output, options] = job
        return made[output, options]

    return make


def files_of(job):
    return {p.name: p.read_bytes() for p in job.folder.iterdir() if p.is_file()}


def merge(laws, job, *args, **plan):
    return laws.server.run(["merge", job.output, *args], job.folder, **plan)


def merged_well(laws, job, outcome, shards):
    clean, _ = laws.clean(job)
    assert outcome.code == clean.code, outcome.said
    found = result_of(job, outcome.code)
    assert same(found.data, clean.data)
    assert found.counts == clean.counts
    assert found.left == clean.left | {p.name for p in shards.folder.iterdir()}


@pytest.mark.parametrize(("output", "old"), [("out.jsonl", False), ("out.parquet", True)])
@pytest.mark.parametrize("after", [False, True])
def test_a_merge_that_is_killed_at_every_instant(laws, shards, folder, output, old, after):
    finished = shards(output)
    args = ["--overwrite"] if old else []
    for k in range(1, 200):
        job = finished.copied(folder / f"merge-{k}")
        if old:
            job.file.write_bytes(b"old")
            job.manifest.write_bytes(b"{}")
        outcome = merge(laws, job, *args, instants={"stop_at": k, "after": after})
        if outcome.code != -signal.SIGKILL:
            assert k > 20
            merged_well(laws, job, outcome, finished)
            return
        laws.tally["merges killed at every instant"] += 1
        outcome = merge(laws, job, *args)
        if outcome.code == 1 and "a finished output is kept" in outcome.said:
            assert not (job.parts / "job.json").exists()  # done: nothing was left but to end
            outcome = merge(laws, job, "--overwrite")
            laws.tally["finished before they were killed"] += 1
        merged_well(laws, job, outcome, finished)
        shutil.rmtree(job.folder)


@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet"])
def test_shards_that_do_not_belong(laws, shards, folder, output):
    rng = random.Random(output)
    finished = shards(output)
    foreign = shards(output, "--ignore-eos")
    names = sorted(p.name for p in finished.folder.iterdir() if "-of-" in p.name)
    first = names[0]

    def refused(job, words, *args):
        before = files_of(job)
        laws.refused(merge(laws, job, *args), *words)
        assert files_of(job) == before, "something is gone"
        assert not job.parts.exists()
        laws.tally["merges refused"] += 1

    for name in names:
        kinds = ["cut", "flip", "flip", "empty", "delete", "grow"]
        for n, kind in enumerate(kinds):
            job = finished.copied(folder / f"{name}-{n}")
            damage(job.folder / name, kind, rng)
            if name.endswith(".manifest.json") and kind == "flip":
                outcome = merge(laws, job)
                if outcome.code != 1:  # a space, or a number that nobody reads
                    clean, _ = laws.clean(job)
                    assert same(result_of(job, outcome.code).data, clean.data)
                    continue
                laws.refused(outcome, "out-0000")
            else:
                refused(job, ["out-0000"])
    job = finished.copied(folder / "missing")
    for name in names[:2]:
        (job.folder / name).unlink()
    refused(job, ["1 of 3 shards are missing"])
    job = finished.copied(folder / "twice")
    refused(job, ["expected each once"], first, first, *names[2::2])
    job = finished.copied(folder / "foreign")
    for name in names[:2]:
        shutil.copy(foreign.folder / name, job.folder)
    refused(job, ["is of another job", "ignore_eos"])
    job = finished.copied(folder / "swapped")
    for end in ("", ".manifest.json"):
        one, two = (job.folder / f"{names[i]}{end}" for i in (0, 2))
        one.rename(job.folder / "x")
        two.rename(one)
        (job.folder / "x").rename(two)
    outcome = merge(laws, job)  # the order is the manifests', not the names'
    merged_well(laws, job, outcome, finished)
    job = finished.copied(folder / "there")
    job.file.write_bytes(b"another program's")
    refused(job, ["a finished output is kept"])


def test_a_merge_keeps_the_parts_of_another_job(laws, shards, folder):
    finished = shards("out.jsonl")
    job = finished.copied(folder / "merge")
    other = job.with_options("--max-new-tokens", "3")
    child = laws.server.start(other.args, other.folder)
    while not (job.parts / "part-00000.json").exists():
        assert child.runs_after(0.001), child.outcome()
    child.kill_after(0)
    before = {p.name for p in job.parts.glob("part-*")}
    laws.refused(merge(laws, job), "holds parts of another job", "max_new_tokens was 3, is 5")
    assert {p.name for p in job.parts.glob("part-*")} == before
    merged_well(laws, job, merge(laws, job, "--overwrite"), finished)


def test_a_merge_takes_up_what_the_whole_job_left(laws, shards, folder):
    """The whole job and its shards are one job: the parts of the first are not needed any more."""
    finished = shards("out.jsonl")
    job = finished.copied(folder / "merge")
    child = laws.server.start(job.args, job.folder)
    while not (job.parts / "part-00000.json").exists():
        assert child.runs_after(0.001), child.outcome()
    child.kill_after(0)
    merged_well(laws, job, merge(laws, job), finished)


def test_manifests_are_json(shards):
    finished = shards("out.jsonl")
    for path in finished.folder.glob("*.manifest.json"):
        assert json.loads(path.read_bytes())["file"]["bytes"] > 0
