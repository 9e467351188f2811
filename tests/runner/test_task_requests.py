"""What a task of a cluster asks of a store: the simulator of `benchmarks/` counts on it."""

from types import SimpleNamespace

import pytest

from benchmarks.cluster_simulation import TASK_REQUESTS
from runner import RunSettings
from runner.clock import Clock
from runner.cluster.part_task import PartsOnNodes, PartTask, do_part
from runner.inputs import input_files
from runner.output import open_output
from runner.planner import plan_job
from runner.process import Samples
from tests.stores import BUCKET, fill


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_a_task_makes_no_more_requests(store, monkeypatch, name):
    monkeypatch.setenv("PICOBATCH_TIMEOUT_S", "8")
    fill(store, **{"in.jsonl": b'{"prompt": "one two"}\n' * 50})
    settings = RunSettings(
        f"s3://{BUCKET}/in.jsonl", f"s3://{BUCKET}/{name}", max_new_tokens=1, part_rows=10
    )
    with input_files(settings.input) as files, open_output(settings, files) as output:
        job, _ = plan_job(settings, files, Clock())
        output.begin(job.key, job.plan, job.schema)
        here = SimpleNamespace(share=1.0, tell=lambda _: None)
        shared = PartsOnNodes(job, *output.shared())
        store.seen.clear()
        counts = []
        for part in job.plan.parts:
            samples = Samples.of(settings, len(part.rows))
            do_part(shared, PartTask(part, samples), here)
            counts.append(len(store.seen))
            store.seen.clear()
    assert set(counts) == {TASK_REQUESTS}
