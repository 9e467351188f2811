"""A job that ends at any call that changes the disk: by a kill, an error, a loss of power."""

import errno
import random
import signal

import pytest

from tests.faults.jobs import rows
from tests.faults.power import Loss

MOST_INSTANTS = 1000
SMALL = {"data": rows(48), "part_rows": 24}
CHEAP = ("--max-new-tokens", "2", "--check-rows", "1")
nightly = pytest.mark.nightly
OLD = b"an older output"


def instants(laws, new_job, output, *options, old=False, step=1, **plan):
    """A job for each instant of it, ended there; stops behind the last."""
    for k in range(1, MOST_INSTANTS, step):
        job = new_job(output, *CHEAP, *options, **SMALL)
        if old:
            job.file.write_bytes(OLD)
            job.manifest.write_bytes(b"{}")
        work = job.folder.parent / f"{job.folder.name}.work"
        outcome = laws.run(job, instants={"stop_at": k} | plan, work=str(work))
        if outcome.code != -signal.SIGKILL:
            assert k > 40, "few instants: the job is not watched"
            laws.ends_well(job, outcome)
            return
        yield job
    pytest.fail("the job never ends")


@pytest.mark.parametrize(
    ("output", "options", "old", "after"),
    [
        ("out.jsonl", (), False, False),
        *(
            pytest.param(output, ("--overwrite",) if old else (), old, after, marks=nightly)
            for output in ("out.jsonl", "out.jsonl.gz", "out.parquet")
            for old in (False, True)
            for after in (False, True)
        ),
    ],
)
def test_a_kill_at_every_instant(laws, new_job, output, options, old, after):
    for job in instants(laws, new_job, output, *options, old=old, after=after):
        laws.tally["jobs killed at every instant"] += 1
        if old:
            assert job.file.exists()
        else:
            assert job.file.exists() <= job.manifest.exists()
        laws.ends_well(job)


@pytest.mark.parametrize(
    ("output", "old", "seed"),
    [
        ("out.jsonl", False, 0),
        ("out.parquet", True, 0),
        *(
            pytest.param(output, old, seed, marks=nightly)
            for output in ("out.jsonl", "out.parquet")
            for old in (False, True)
            for seed in range(1, 5)
        ),
    ],
)
def test_a_loss_of_power_at_every_instant(laws, new_job, folder, output, old, seed):
    journal, shadow = folder / "journal", folder / "shadow"
    choose = random.Random(f"{output} {seed}")
    options = ("--overwrite",) if old else ()
    shadow.mkdir()
    plan = {"journal": str(journal), "shadow": str(shadow)}
    for n, job in enumerate(instants(laws, new_job, output, *options, old=old, **plan)):
        # All that can be lost, or some of it: in turn, and both where the output gets its name.
        late = any(job.parts.glob("tmp-*-manifest.json")) or job.manifest.exists()
        for of in (None, choose) if late else ((None, choose)[(n + seed) % 2],):
            left = job.elsewhere(folder / f"left-{n}-{of is None}")
            laws.tally["names and files lost with power"] += Loss(
                job.folder, journal, shadow, of
            ).make(left.folder)
            laws.tally["losses of power"] += 1
            assert (left.folder / left.source).exists()
            if not published(left):
                missing = [n for n in done(job) if not (left.parts / f"part-{n:05}.json").exists()]
                assert not missing, "what was done is lost"
            laws.ends_well(left)
        for link in shadow.iterdir():
            link.unlink()


def done(job):
    """Parts that a job had reported as done."""
    work = job.folder.parent / f"{job.folder.name}.work"
    lines = work.read_text().splitlines() if work.exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith("part")]


def published(job):
    return job.file.exists() and job.file.read_bytes() != OLD


@pytest.mark.parametrize(
    "error",
    [
        errno.EIO,
        pytest.param(errno.ENOSPC, marks=nightly),
        pytest.param(errno.EDQUOT, marks=nightly),
        pytest.param(errno.EROFS, marks=nightly),
    ],
)
def test_an_error_at_every_instant(laws, new_job, error):
    """Each call fails once: the job says so, or can do without it."""
    output = "out.parquet" if error in (errno.EIO, errno.EDQUOT) else "out.jsonl"
    options = ("--overwrite",) if error in (errno.EIO, errno.EROFS) else ()
    for k in range(1, MOST_INSTANTS):
        job = new_job(output, *CHEAP, *options, **SMALL)
        log = job.folder.parent / f"log-{k}"
        outcome = laws.run(job, instants={"fail_at": k, "error": error, "log": str(log)})
        if len(log.read_text().splitlines()) < k:
            laws.ends_well(job, outcome)
            return
        laws.tally[f"calls that failed with {errno.errorcode[error]}"] += 1
        if outcome.code == laws.clean(job)[0].code:  # it did not need that call
            laws.ends_well(job, outcome, extra=frozenset(left_over(job)))
            continue
        laws.refused(outcome, "out." if "tmp" not in outcome.said else "")
        laws.ends_well(job)
    pytest.fail("the job never ends")


def left_over(job):
    """What could not be removed."""
    return {str(p.relative_to(job.folder)) for p in (job.parts, *job.parts.glob("*"))}
