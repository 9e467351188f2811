"""Jobs that meet: at one output, at one cache, as shards of one job."""

import signal

from runner import ExitCode
from tests.faults.jobs import FINISHED, result_of, rows, same


def begun(laws, job, **plan):
    """A job that holds its output."""
    child = laws.server.start(job.args, job.folder, **plan)
    while not (job.parts / "job.json").exists():
        assert child.runs_after(0.002), child.outcome()
    return child


def test_a_second_job_is_refused_and_the_first_is_none_the_worse(laws, new_job):
    job = new_job("out.jsonl")
    first = begun(laws, job)
    laws.refused(laws.run(job), "another job writes it now")
    laws.refused(laws.run(job.with_options("--overwrite")), "another job writes it now")
    laws.refused(laws.run(job.with_options("--resume")), "another job writes it now")
    laws.ends_well(job, first.outcome())
    laws.tally["second jobs"] += 3


def test_the_lock_of_a_killed_job_is_free_at_once(laws, new_job):
    job = new_job("out.parquet")
    child = begun(laws, job)
    child.signal(signal.SIGKILL)
    assert child.outcome().code == -signal.SIGKILL
    laws.ends_well(job)


def test_many_jobs_race_for_one_output(laws, new_job):
    """Exactly one does it; the others are refused, or find it done."""
    for _ in range(6):
        job = new_job("out.jsonl", data=rows(40))
        racers = [laws.server.start(job.args, job.folder) for _ in range(6)]
        outcomes = [racer.outcome() for racer in racers]
        winners = [o for o in outcomes if o.code == ExitCode.BAD_ROWS]
        assert len(winners) == 1, outcomes
        for outcome in outcomes:
            if outcome is not winners[0]:
                assert "another job writes it now" in outcome.said or FINISHED in outcome.said
        laws.tally["jobs in a race"] += len(racers)
        laws.ends_well(job, winners[0])


def test_racers_with_resume_all_find_it_done(laws, new_job):
    job = new_job("out.jsonl", "--resume", data=rows(40))
    racers = [laws.server.start(job.args, job.folder) for _ in range(6)]
    codes = [racer.outcome().code for racer in racers]
    assert set(codes) <= {ExitCode.BAD_ROWS, ExitCode.FAILED}
    laws.ends_well(job, extra=frozenset())


def test_two_jobs_share_a_fresh_cache(laws, new_job, folder):
    for dtype in ("float32", "int8"):
        jobs = [new_job(output, "--dtype", dtype) for output in ("out.jsonl", "out.parquet")]
        env = {"PICOBATCH_CACHE_DIR": str(folder / f"cache-{dtype}")}
        children = [laws.server.start(job.args, job.folder, env=env) for job in jobs]
        for job, child in zip(jobs, children, strict=True):
            laws.ends_well(job, child.outcome())


def test_shards_at_the_same_time_and_merged(laws, new_job):
    for output in ("out.jsonl", "out.parquet", "out.jsonl.gz"):
        job = new_job(output)
        clean, _ = laws.clean(job)
        children = [
            laws.server.start(job.with_options("--shard", f"{n}/3").args, job.folder)
            for n in range(3)
        ]
        assert {child.outcome().code for child in children} == {ExitCode.BAD_ROWS}
        merged = laws.server.run(["merge", output], job.folder)
        assert merged.code == clean.code, merged.said
        found = result_of(job, merged.code)
        assert same(found.data, clean.data)
        assert found.counts == clean.counts
        shards = {name for name in found.left if "-of-00003" in name}
        assert len(shards) == 6
        assert found.left - shards == clean.left
