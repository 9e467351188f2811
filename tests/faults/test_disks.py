"""Disks that are full, slow to say so, or not to be written to."""

import contextlib
import os
import subprocess

import pytest

from runner import ExitCode
from tests.faults.jobs import Job, rows, write_input

ROWS = rows(300)


@contextlib.contextmanager
def mounted(folder, *options):
    """A small disk; skips the test where this user may not mount one."""
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet", "out.jsonl.gz"])
def test_a_disk_of_any_size(laws, folder, output):
    """It gets full in a part, or when they are joined; room is made, and the job goes on."""
    options = ("--dtype", "int8") if output.endswith("gz") else ()
    full = 0
    sizes = range(160, 256, 16) if output == "out.jsonl" else range(52, 120, 12)
    for size in sizes:
        place = folder / f"disk-{size}"
        place.mkdir()
        with mounted(place, f"size={size}k"):
            job = Job(place, "in.jsonl", output, options)
            write_input(place / "in.jsonl", ROWS)
            outcome = laws.run(job)
            if outcome.code == ExitCode.FAILED:
                full += 1
                laws.tally["full disks"] += 1
                laws.tally["parts kept on full disks"] += len(list(job.parts.glob("part-*.json")))
                laws.refused(outcome, output)
                assert "the disk is full" in outcome.said or "bytes free" in outcome.said
                assert not job.file.exists()
                assert not list(job.parts.glob("tmp-*-output*")), "its room is not given back"
                outcome = None
            subprocess.run(["mount", "-o", "remount,size=8m", str(place)], check=True)
            laws.ends_well(job, outcome)
    assert full > 2, "the disks are too large"


def test_an_old_output_outlives_a_full_disk(laws, folder):
    place = folder / "disk"
    place.mkdir()
    with mounted(place, "size=180k"):
        job = Job(place, "in.jsonl", "out.jsonl", ("--overwrite",))
        write_input(place / "in.jsonl", ROWS)
        job.file.write_bytes(b"old")
        laws.refused(laws.run(job), "the disk is full")
        assert job.file.read_bytes() == b"old"
        subprocess.run(["mount", "-o", "remount,size=8m", str(place)], check=True)
        laws.ends_well(job)


def half_done(laws, new_job, *options):
    job = new_job("out.jsonl", *options)
    child = laws.server.start(job.args, job.folder)
    while len(list(job.parts.glob("part-*.json"))) < 2:
        assert child.runs_after(0.001), child.outcome()
    child.kill_after(0)
    return job


def test_a_disk_that_cannot_be_written_to(laws, new_job):
    job = half_done(laws, new_job)
    with mounted(job.folder, "size=1m"):
        pass  # whether this user may mount
    command = ["mount", "--bind", str(job.folder), str(job.folder)]
    subprocess.run(command, check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(job.folder)], check=True)
        before = sorted(path.name for path in job.parts.iterdir())
        laws.refused(laws.run(job), "out.jsonl")
        laws.tally["disks that cannot be written to"] += 1
        assert sorted(path.name for path in job.parts.iterdir()) == before
    finally:
        subprocess.run(["umount", "-l", str(job.folder)], check=True)
    laws.ends_well(job)


@pytest.mark.parametrize("which", ["folder", "parts", "files"])
def test_permissions(laws, new_job, which):
    job = half_done(laws, new_job)
    chosen = {
        "folder": [job.folder],
        "parts": [job.parts],
        "files": list(job.parts.iterdir()),
    }[which]
    modes = {path: path.stat().st_mode for path in chosen}
    before = {path.name: path.read_bytes() for path in job.parts.iterdir()}
    for path in chosen:
        path.chmod(0o555 if path.is_dir() else 0)
    outcome = laws.run(job, bound=True)
    for path, mode in modes.items():
        with contextlib.suppress(FileNotFoundError):
            path.chmod(mode)
    laws.tally[f"not permitted: {which}"] += 1
    laws.refused(outcome, "out.jsonl")
    after = {path.name: path.read_bytes() for path in job.parts.iterdir()}
    assert {name: after.get(name) for name in before if "tmp" not in name} == {
        name: data for name, data in before.items() if "tmp" not in name
    }
    laws.ends_well(job, laws.run(job, bound=True))


def test_a_file_where_the_folder_should_be(laws, new_job):
    job = new_job("out.jsonl")
    job.parts.write_text("mine")
    laws.refused(laws.run(job), "out.jsonl.parts: is no folder", "Move it away")
    assert job.parts.read_text() == "mine"
    job.parts.unlink()
    laws.ends_well(job)


def test_files_of_the_user_s_in_the_folder_are_kept(laws, new_job):
    job = new_job("out.jsonl")
    job.parts.mkdir()
    (job.parts / "notes.txt").write_text("mine")
    (job.parts / "part-of-me").mkdir()
    outcome = laws.run(job)
    kept = {"out.jsonl.parts", "out.jsonl.parts/notes.txt", "out.jsonl.parts/part-of-me"}
    laws.ends_well(job, outcome, extra=frozenset(kept))
    assert (job.parts / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet"])
def test_less_and_less_memory(laws, new_job, output):
    """Where there is too little, the job dies or says so; nothing is damaged."""
    died = 0
    for mebibytes in (300, 400, 500, 600, 800, 2400):
        job = new_job(output, data=ROWS)
        outcome = laws.run(job, limits={"RLIMIT_AS": mebibytes << 20}, dies=True)
        laws.tally["too little memory"] += outcome.code != ExitCode.BAD_ROWS
        died += outcome.code != ExitCode.BAD_ROWS
        laws.ends_well(job, outcome if outcome.code == ExitCode.BAD_ROWS else None)
    assert died > 1, "there was always enough"
