"""A driver without Ray: its tasks are done in this process, in order."""

import json
import pickle
from contextlib import contextmanager
from types import SimpleNamespace

import pyarrow as pa
import pytest
from click.testing import CliRunner

pytest.importorskip("ray")

from reference import HParams
from runner.batch_size import process_bytes
from runner.cli import cli
from runner.cluster import drive, ray_cluster, ray_session
from runner.cluster.node_model import from_anywhere
from runner.cluster.part_task import HowFar
from runner.cluster.tasks import Attempt, Begun, Ended, Failure, Fault
from runner.effort import Effort
from runner.errors import ClusterError, InputError, NodeError, SettingsError, StopError, TaskError
from runner.outcome import Outcome
from runner.parts import Part, PartRecord, Plan
from runner.planner import PlannedJob
from runner.process import DonePart
from runner.progress import Progress
from runner.report import ExitCode
from runner.run import run
from runner.settings import RunSettings


class Here:
    """A cluster of one node, which is this process; `before` is told of each task."""

    before = staticmethod(lambda number: None)
    settled = staticmethod(lambda: None)
    most_nodes, most_slots = 1, 2

    def __init__(self, function, payload, arguments, *_):
        self.function, self.payload, self.arguments = function, payload, arguments
        self.waiting, self.time_s = [], 0.0

    def look_for_room(self, *, grows):
        assert not grows

    def now_s(self):
        self.time_s += 0.1
        return self.time_s

    def nodes(self):
        return {"here": 2}

    def told(self):
        return {}

    def begun(self):
        return {attempt: Begun("here", 0.0) for attempt in self.waiting}

    def start(self, attempt, avoided):
        self.waiting.append(attempt)

    def wait(self, most_s):
        return [self.done(self.waiting.pop(0)) for _ in self.waiting[:2]]

    def done(self, attempt):
        here = SimpleNamespace(share=1.0, tell=lambda found: found())
        try:
            self.before(attempt.task)
            argument = pickle.loads(pickle.dumps(self.arguments(attempt.task)))
            return Ended(attempt, self.function(self.payload, argument, here))
        except TaskError as e:
            return Ended(attempt, failure=Failure(Fault(e.fault), "here", e))

    def cancel(self, attempt):
        self.waiting = [other for other in self.waiting if other != attempt]

    def settle(self):
        assert not self.waiting
        self.settled()


@pytest.fixture
def do(tmp_path, monkeypatch):
    """Runs a job on it."""

    @contextmanager
    def connected(_):
        yield True

    monkeypatch.setattr(ray_session, "open_ray", connected)
    monkeypatch.setattr(drive, "RayCluster", Here)
    monkeypatch.setattr(drive, "good_cpus_per_task", lambda *_: 1)
    monkeypatch.setattr(drive, "slots_now", lambda *_: {"here": 2})
    lines = [json.dumps({"prompt": f"one two {n}"}) + "\n" for n in range(24)]
    (tmp_path / "in.jsonl").write_text("".join(lines))

    def job(name="out.jsonl", engine="ray", **settings):
        more = {"max_new_tokens": 3, "part_rows": 4, "memory": 8 << 30} | settings
        source, output = str(tmp_path / "in.jsonl"), str(tmp_path / name)
        return run(RunSettings(source, output, engine=engine, **more))

    return job


def test_the_bytes_of_one_process(do, tmp_path):
    report = do()
    do("one.jsonl", engine="local", threads=1)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    assert report.elapsed_s["load"] > 0
    assert report.check.rows == 8


def test_an_input_that_changes_is_not_said_of_the_node(do, tmp_path, monkeypatch):
    def change(number):
        if number == 3:
            with (tmp_path / "in.jsonl").open("a") as file:
                file.write("{}\n")

    monkeypatch.setattr(Here, "before", staticmethod(change))
    with pytest.raises(InputError, match=r"in\.jsonl: changed while the job ran"):
        do()
    assert not (tmp_path / "out.jsonl").exists()


def test_an_input_that_changes_in_the_end_is_noticed_after_all_tasks(do, tmp_path, monkeypatch):
    def change():
        with (tmp_path / "in.jsonl").open("a") as file:
            file.write("{}\n")

    monkeypatch.setattr(Here, "settled", staticmethod(change))
    with pytest.raises(InputError, match=r"in\.jsonl: changed while the job ran"):
        do()
    assert not (tmp_path / "out.jsonl").exists()


def test_what_was_cancelled_is_over_before_a_job_that_fails_ends(do, monkeypatch):
    def fail(number):
        raise StopError("no more")

    settled = []
    monkeypatch.setattr(Here, "before", staticmethod(fail))
    monkeypatch.setattr(Here, "settled", staticmethod(lambda: settled.append(True)))
    with pytest.raises(StopError, match="no more"):
        do()
    assert settled == [True]


def test_a_node_that_is_left_out_is_told_when_it_is(do, monkeypatch, capsys):
    def fail(number):
        raise NodeError("its disk is full")

    monkeypatch.setattr(Here, "before", staticmethod(fail))
    with pytest.raises(ClusterError, match="no node of the cluster can do it"):
        do()
    assert capsys.readouterr().err.count("node here gets no more parts: its disk is full\n") == 1


def test_the_longest_parts_go_first(do, tmp_path, monkeypatch):
    source = tmp_path / "in.jsonl"
    source.unlink()
    source.mkdir()
    for name, n_words in (("a", 1), ("b", 9), ("c", 5)):
        line = json.dumps({"prompt": "one two " * n_words}) + "\n"
        (source / f"{name}.jsonl").write_text(line * 8)
    begun = []
    monkeypatch.setattr(Here, "before", staticmethod(begun.append))
    do()
    assert [number // 2 for number in begun] == [1, 1, 2, 2, 0, 0]  # two parts of each file


def test_settings_hold_on_any_node(do, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = []
    monkeypatch.setattr(drive, "RayCluster", lambda *more: (made.append(more), Here(*more))[1])
    do(cpus_per_task=1, models_dir="models")
    [(_, on_nodes, _, cpus_per_task, memory)] = made
    found = on_nodes.job.settings
    assert found.threads == cpus_per_task == 1
    assert found.models_dir == str(tmp_path / "models")
    assert memory == 8 << 30


def test_parts_that_fail_for_good_are_done_by_the_next_run(do, tmp_path, monkeypatch):
    def fail(number):
        if number in (1, 4):
            raise TaskError("no luck")

    monkeypatch.setattr(Here, "before", staticmethod(fail))
    report = do()
    assert report.exit_code == ExitCode.BAD_ROWS
    assert [failed.part.number for failed in report.failed] == [1, 4]
    assert "failed: part 4 (rows 16 to 19): no luck (node here)" in report.summary()
    assert not report.provenance
    assert not (tmp_path / "out.jsonl").exists()
    started = []
    monkeypatch.setattr(Here, "before", staticmethod(started.append))
    assert do().exit_code == ExitCode.DONE
    assert started == [1, 4]
    do("one.jsonl", engine="local", threads=1)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_progress_goes_forward_and_ends_with_all_rows(do, tmp_path, monkeypatch):
    told = []
    advance = Progress.advance
    monkeypatch.setattr(
        Progress, "advance", lambda self, *more: (told.append(more), advance(self, *more))
    )
    do(metrics=str(tmp_path / "metrics.jsonl"))
    assert min(told) >= (0, 0)
    assert sum(rows for rows, _ in told) == 24
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["rows"], last["n_rows"], last["nodes"], last["tasks"]) == (24, 24, 1, 0)


def test_a_part_that_is_done_counts_once():
    how = HowFar(3, 30, {})
    cluster = SimpleNamespace(nodes=dict)
    of_running = {Attempt(0, 0): how, Attempt(0, 1): how._replace(rows=4), Attempt(1, 0): how}
    cluster.told = lambda: of_running
    so_far = drive._SoFar(cluster)
    assert so_far.take()[0] == 7
    del of_running[Attempt(0, 0)], of_running[Attempt(0, 1)]
    done = DonePart(PartRecord(rows=5), Outcome(Effort(generated_tokens=50)))
    so_far.add(Part(0, range(5)), done)
    assert so_far.take()[0] == 1
    assert so_far.take() == (0, 0)


def test_a_part_of_short_prompts_is_hardly_shorter():
    """It generates as much: by its prompts alone it would seem late, and be begun twice."""
    source = SimpleNamespace(cost=lambda rows: 4 * len(rows) * (100 if rows.start == 0 else 1))
    settings = RunSettings("in.jsonl", "out.jsonl", max_new_tokens=100)
    job = PlannedJob(settings, source, {}, {}, Plan(range(8), 4), pa.schema([]))
    long, short = map(job.cost, job.plan.parts)
    assert short < long < 1.5 * short


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"args": ["--engine=ray", "--threads=2"]}, "pass --cpus-per-task instead"),
        ({"args": ["--cpus-per-task=2"]}, "are for engine 'ray'"),
        ({"env": {"RUNNER_BATCH_RAY_ADDRESS": "auto"}}, "are for engine 'ray'"),
        ({"env": {"RUNNER_BATCH_ENGINE": "spark"}}, "'spark' is not one of 'local', 'ray'"),
        (
            {"args": ["--engine=ray"], "env": {"RUNNER_BATCH_CPUS_PER_TASK": "9999"}},
            "cpus_per_task is 9999; expected at most",
        ),
    ],
)
def test_options_that_do_not_fit(given, said):
    args = ["batch", "in.jsonl", "out.jsonl", *given.get("args", [])]
    found = CliRunner().invoke(cli, args, env=given.get("env"))
    assert found.exit_code == ExitCode.USAGE
    assert said in found.stderr


def test_a_profile_is_of_one_process():
    with pytest.raises(SettingsError, match="profiled is set, and engine is 'ray'"):
        RunSettings("in.jsonl", "out.jsonl", engine="ray", profiled=True)


def test_a_link_to_a_model_is_sent_as_it_is_called(tmp_path, monkeypatch):
    """What it leads to may have another path on other nodes."""
    (tmp_path / "disk1").mkdir()
    (tmp_path / "models").symlink_to(tmp_path / "disk1")
    monkeypatch.chdir(tmp_path)
    assert from_anywhere("models") == str(tmp_path / "models")
    assert from_anywhere("124M") == "124M"


@pytest.mark.parametrize(
    ("nodes", "cpus"),
    [
        ([(32, 128)], 1),
        ([(32, 20)], 2),  # as 16 processes and their room leave something of it
        ([(32, 128), (8, 2)], 4),  # the tightest node tells
        ([(2, 2)], 1),
        ([(4, 0.5)], 4),  # not one has room: it gets the whole node
        ([(0, 4)], 4),  # a head
        ([], 4),
    ],
)
def test_a_task_has_one_cpu_or_what_leaves_each_process_its_memory(monkeypatch, nodes, cpus):
    found = [
        {"Resources": {"CPU": float(n), "memory": gib * 2**30}, "Alive": True} for n, gib in nodes
    ]
    monkeypatch.setattr(ray_cluster, "_live_nodes", lambda: found)
    assert ray_cluster.good_cpus_per_task({}, "float32", 1 << 30) == cpus


def test_a_process_takes_more_of_a_larger_model():
    small = HParams(n_vocab=50257, n_ctx=1024, n_embd=768, n_head=12, n_layer=12)
    large = HParams(n_vocab=50257, n_ctx=1024, n_embd=1600, n_head=25, n_layer=48)
    assert 1.4e9 < process_bytes(small, "float32") < 1.7e9
    assert 0.6e9 < process_bytes(small, "int8") < 0.8e9
    assert 15e9 < process_bytes(large, "float32") < 20e9
