"""A job that is killed again and again, at any time, ends as if nothing had happened."""

import itertools
import random
import signal

import pytest

from tests.faults.jobs import N_ROWS, PART_ROWS, done_parts

KILLS = 320  # of all kinds together
OLD = b"an older output"
JOBS = [
    ("out.jsonl", ()),
    ("out.parquet", ()),
    ("out.jsonl.gz", ()),
    ("out.jsonl", ("--dtype", "int8")),
    ("out.parquet", ("--dtype", "int8", "--overwrite")),
    ("out.jsonl", ("--overwrite",)),
    ("out.parquet", ("--overwrite",)),
    (
        "out.jsonl.gz",
        (
            "--dtype",
            "int8",
        ),
    ),
]


def kill_until_done(laws, job, rng, start, most, starts_in_s=0.0):
    """Kill a job at random times until it is done, `most` times at most; returns how often.

    Before `starts_in_s` is over nothing of it happens.
    """
    _, took_s = laws.clean(job)
    work = job.folder.parent / f"{job.folder.name}.work"
    if "--overwrite" in job.options:
        job.file.write_bytes(OLD)
        job.manifest.write_bytes(b"{}")
    for n in itertools.count():
        # What is left takes less time. The end comes up seldom, and there is most to be broken.
        left = 1 - len(list(job.parts.glob("part-*.json"))) / (N_ROWS / PART_ROWS)
        most_s = took_s * (0.4 + 0.6 * left)
        least_s = 0 if rng.random() < 0.7 else 0.7 * most_s
        child = start(job, work)
        if n >= most:
            outcome = child.outcome()
            break
        outcome = child.kill_after(starts_in_s + rng.uniform(least_s, most_s))
        if outcome.code != -signal.SIGKILL:
            break
        laws.tally["jobs killed at random times"] += 1
        if "--overwrite" not in job.options:
            assert job.file.exists() <= job.manifest.exists()
        elif (
            work.exists() and not (job.parts / "job.json").exists() and job.file.read_bytes() != OLD
        ):
            laws.tally["finished before they were killed"] += 1
            work.unlink()  # what replaces a finished output does all of it again
    laws.ends_well(job, outcome)
    if work.exists():
        laws.tally["rows generated again"] += done_parts(work)["rows generated again"]
    return n


@pytest.mark.parametrize(("output", "options"), JOBS)
def test_a_job_that_is_killed_again_and_again(laws, new_job, output, options):
    rng = random.Random(f"{output} {options}")
    n = 0
    while (left := KILLS // len(JOBS) - n) > 0:
        n += kill_until_done(
            laws,
            new_job(output, *options),
            rng,
            lambda job, work: laws.server.start(job.args, job.folder, work=str(work)),
            left,
        )
