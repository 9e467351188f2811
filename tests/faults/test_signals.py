"""SIGINT and SIGTERM: what is known is kept, and nothing is done twice."""

import json
import random
import re
import signal
import time

import pytest

from tests.faults.jobs import done_parts
from tests.faults.server import INTERRUPTED

SIGNALS = 40  # of all kinds together
IGNORED = re.compile(r"Exception ignored in.*?^SystemExit: \d+$", re.DOTALL | re.MULTILINE)


def answers_of(job):
    """Rows that are known though their part is not done."""
    path = job.parts / "answers.json"
    return (
        {row[0] for row in json.loads(path.read_bytes())["content"]["rows"]}
        if path.exists()
        else set()
    )


def generated(work):
    """Rows that were generated, as often as they were."""
    lines = work.read_text().splitlines() if work.exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith("row")]


@pytest.mark.parametrize(
    ("number", "output", "dtype"),
    [
        (signal.SIGINT, "out.jsonl", "int8"),
        (signal.SIGTERM, "out.parquet", "float32"),
        pytest.param(signal.SIGTERM, "out.jsonl", "int8", marks=pytest.mark.nightly),
        pytest.param(signal.SIGINT, "out.parquet", "float32", marks=pytest.mark.nightly),
    ],
)
def test_signals_at_random_times(laws, new_job, number, output, dtype):
    rng = random.Random(f"{number} {output}")
    options = ("--dtype", dtype, "--check-rows", "0")
    interrupted = 0
    while interrupted < SIGNALS / 2:
        job = new_job(output, *options)
        _, took_s = laws.clean(job)
        work = job.folder.parent / f"{job.folder.name}.work"
        known, seen = set(), 0
        while True:
            child = laws.server.start(job.args, job.folder, work=str(work))
            if child.runs_after(rng.uniform(0.2, 1) * took_s):
                child.signal(number)
            outcome = child.outcome()
            new = generated(work)[seen:]
            assert not known & set(new), "what was known is generated again"
            seen += len(new)
            if outcome.code != 128 + number:
                break
            assert outcome.said.count("Traceback") == 0
            known = answers_of(job)
            if list(job.parts.glob("part-*")) or known:
                assert "the same command goes on from there" in outcome.said
            assert not list(job.parts.glob("tmp-*"))
            interrupted += 1
            laws.tally[f"jobs stopped by {signal.Signals(number).name}"] += 1
            laws.tally["rows kept of unfinished parts"] += len(known)
        laws.ends_well(job, outcome)
        assert done_parts(work)["rows generated again"] == 0


def test_two_signals_in_a_row(laws, new_job):
    """The second one does not wait."""
    rng = random.Random(0)
    for n in range(12):
        job = new_job("out.jsonl")
        _, took_s = laws.clean(job)
        number = (signal.SIGINT, signal.SIGTERM)[n % 2]
        child = laws.server.start(job.args, job.folder)
        if child.runs_after(rng.uniform(0.2, 0.9) * took_s):
            child.signal(number)
            time.sleep(rng.choice([0, 0.001, 0.01]))
            child.signal(number)
        outcome = child.outcome()
        # A second SIGINT is what Python makes of it: the command says that it was aborted.
        assert outcome.code in {128 + number, 1, 3, INTERRUPTED, -number}, outcome
        # In a callback of Python's own none can exit: it is told, and the first signal holds.
        said = IGNORED.sub("", outcome.said)
        assert "runner/" not in said, f"a traceback of ours: {outcome.said}"
        laws.tally["jobs stopped by two signals"] += 1
        laws.ends_well(job, None if outcome.code != 3 else outcome)
