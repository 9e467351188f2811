"""A part on a node, in this process: whose fault it is that it cannot be done."""

import os
from contextlib import contextmanager
from types import SimpleNamespace

import pyarrow as pa
import pytest

from reference import load_model
from runner.clock import Clock
from runner.cluster import part_task
from runner.cluster.node_model import NodeModel
from runner.cluster.part_task import PartsOnNodes, PartTask, do_part
from runner.errors import BadRowError, NodeError, OutputError, StopError, TaskError
from runner.inputs import input_files
from runner.job_folder import JobFolder
from runner.output import open_output
from runner.planner import plan_job
from runner.process import Samples
from runner.settings import RunSettings
from runner.store_errors import StoreError

HERE = SimpleNamespace(share=1.0, tell=lambda found: None)


@contextmanager
def begun(tmp_path, **settings):
    """A job whose driver has come so far that parts can be done."""
    prompts = tmp_path / "in.jsonl"
    prompts.write_text('{"prompt": "a b"}\n' * 4)
    asked = RunSettings(
        str(prompts), str(tmp_path / "out.jsonl"), part_rows=2, max_new_tokens=2, threads=1,
        memory=8 << 30, **settings,
    )  # fmt: skip
    with input_files(asked.input) as files, open_output(asked, files) as output:
        job, _ = plan_job(asked, files, Clock())
        output.begin(job.key, job.plan, job.schema)
        yield PartsOnNodes(job, *output.shared())


def task(shared, number):
    part = shared.job.plan.parts[number]
    return PartTask(part, Samples.of(shared.job.settings, len(part.rows)))


def test_a_part_is_done_and_says_what_it_took(tmp_path):
    with begun(tmp_path) as shared:
        part_task._kept.clear()
        done = [do_part(shared, task(shared, number), HERE) for number in (0, 1)]
        folder = JobFolder(shared.output, tmp_path / "out.jsonl.parts", ".jsonl")
        folder.take_part(shared.name)
        assert [*folder.records(shared.job.plan.parts)] == [0, 1]
    assert [one.record.rows for one in done] == [2, 2]
    assert done[0].found.effort.seconds["load"] > 0
    assert done[1].found.effort.seconds["load"] < done[0].found.effort.seconds["load"]


def test_what_goes_wrong_in_a_part_is_not_said_of_the_output(tmp_path, monkeypatch):
    """A ValueError is what many things raise, Arrow among them."""

    def broken(*_):
        raise ValueError("no such thing")

    monkeypatch.setattr(part_task, "process_part", broken)
    with begun(tmp_path) as shared, pytest.raises(ValueError, match="no such thing"):
        do_part(shared, task(shared, 0), HERE)


def test_a_folder_that_is_not_there_is_the_nodes_fault(tmp_path):
    with begun(tmp_path) as shared:
        (tmp_path / "out.jsonl.parts" / "job.json").unlink()
        with pytest.raises(NodeError, match=r"out\.jsonl\.parts is not there; expected the folder"):
            do_part(shared, task(shared, 0), HERE)


def test_without_a_folder_for_temporary_files_a_node_is_of_no_use(tmp_path, monkeypatch):
    def none(*_):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(part_task, "part_folder", none)
    with begun(tmp_path) as shared, pytest.raises(NodeError, match="set TMPDIR"):
        do_part(shared, task(shared, 0), HERE)


def test_a_folder_of_a_store_that_is_gone_ends_the_job(tmp_path, monkeypatch):
    def gone(*_):
        raise ValueError("is not there")

    with begun(tmp_path) as shared:
        monkeypatch.setattr(part_task, "part_folder", gone)
        monkeypatch.setattr(type(shared.output), "is_local", False)
        said = "is not there; expected what the driver made"
        with pytest.raises(StopError, match=said), part_task._folder(shared):
            pass


def test_another_file_as_the_input_is_the_nodes_fault(tmp_path):
    prompts = tmp_path / "in.jsonl"
    with begun(tmp_path) as shared:
        os.utime(prompts, (1, 1))
        with pytest.raises(NodeError, match=r"sees another file as the input .*in\.jsonl"):
            do_part(shared, task(shared, 0), HERE)
        prompts.unlink()
        with pytest.raises(NodeError, match=r"cannot read the input .*in\.jsonl: No such file"):
            do_part(shared, task(shared, 0), HERE)


def test_weights_and_tokenizer_have_to_be_the_drivers():
    demo = load_model("demo")
    weights, tokenizer = demo.weights_sha256, demo.tokenizer.sha256
    assert NodeModel("demo", None, None, weights, tokenizer).load().weights_sha256 == weights
    for other in ((weights, "another"), ("another", tokenizer)):
        with pytest.raises(NodeError, match="has another model as demo"):
            NodeModel("demo", None, None, *other).load()


def failed(cause):
    """An output that could not be written, and why."""
    found = OutputError("it was not written")
    found.__context__ = cause
    return found


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (failed(OSError(28, "No space left on device")), NodeError),
        (failed(StoreError("busy")), TaskError),
        (failed(pa.ArrowInvalid("no such type")), StopError),
        (BadRowError("in.jsonl:1: bad"), StopError),
        (MemoryError(), TaskError),
    ],
)
def test_whose_fault_it_is(tmp_path, error, kind):
    blamed = part_task._by_whose_fault
    with begun(tmp_path) as shared, pytest.raises(TaskError) as found, blamed(shared.output):
        raise error
    assert type(found.value) is kind
