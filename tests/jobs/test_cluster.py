"""Requests in chunks on a cluster that is made up: answers, counts and checks of one process."""

import itertools
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import chunk_task, cluster
from jobs.chunk_task import Completed, ModelOnNodes, PromptChunk, Question, ScoreChunk, do_chunk
from jobs.cluster import ClusterGenerator, ClusterScorer, Nodes, cut, questions_of
from jobs.generator import EngineGenerator
from jobs.language_model import LanguageModel
from jobs.task_spec import TaskSpec
from jobs.tasks import throughput
from reference import load_model
from reference.models import DEMO_DIR
from runner.check_report import CheckReport
from runner.checker import Checker
from runner.cluster.node_model import NodeModel, from_anywhere
from runner.cluster.tasks import Begun, Ended, Failure, Fault
from runner.engine_scorer import EngineScorer
from runner.errors import ClusterError, NodeError, TaskError
from runner.records import Completion, Reject
from runner.sample import checked_rows
from runner.score import Continuation
from tests.jobs.test_generator import PROMPTS

LOST = Failure(Fault.LOST, "a", TaskError("the node went away"))


def model_on_nodes(demo, dtype="float32", **more):
    found = NodeModel("demo", None, None, demo.weights_sha256, demo.tokenizer.sha256)
    return ModelOnNodes(found, dtype, 1, None, **more)


class OneByOne:
    """A cluster of two nodes in this process: what is handed in last is done first.

    `end(attempt, chunk, do)` says what becomes of an attempt: a result or a failure.
    """

    most_nodes, most_slots = 2, 3

    def __init__(self, shared, end=lambda attempt, chunk, do: do()):
        self.shared, self.end = shared, end
        self.chunks, self.waiting = {}, []
        self.cancelled = []

    def now_s(self):
        return 0.0

    def nodes(self):
        return {"a": 2, "b": 1}

    def start(self, attempt, avoided):
        self.waiting.append((attempt, pickle.loads(pickle.dumps(self.chunks[attempt.task]))))

    def begun(self):
        return {attempt: Begun("a", 0.0) for attempt, _ in self.waiting}

    def wait(self, most_s):
        if not self.waiting:
            return []
        attempt, chunk = self.waiting.pop()
        found = self.end(
            attempt, chunk, lambda: do_chunk(self.shared, chunk, SimpleNamespace(share=1.0))
        )
        if isinstance(found, Failure):
            return [Ended(attempt, failure=found)]
        return [Ended(attempt, pickle.loads(pickle.dumps(found)))]

    def cancel(self, attempt):
        self.cancelled.append(attempt)
        self.waiting = [(other, chunk) for other, chunk in self.waiting if other != attempt]


def nodes_of(demo, dtype="float32", end=None):
    made = OneByOne(model_on_nodes(demo, dtype), *([end] if end else []))
    return Nodes(made, made.chunks, 1), made


class Counting:
    """In place of a `TaskProgress`."""

    expected = done = 0

    def expect(self, n):
        self.expected += n

    def advance(self, n):
        self.done += n


def lost_at_first(attempt, chunk, do):
    return do() if attempt.number else LOST


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(cluster, "CHUNK_TOKENS", 150)


@given(costs=st.lists(st.integers(1, 2000), max_size=60), most=st.integers(1, 3000))
def test_cuts_lose_nothing_and_are_about_alike(costs, most):
    pieces = cut(costs, most)
    assert [at for piece in pieces for at in piece] == list(range(len(costs)))
    for piece in pieces:
        assert len(piece)
        assert sum(costs[piece.start : piece.stop]) < most + max(costs)
    assert len(pieces) <= -(-sum(costs) // most)


ids = st.integers(0, 5)
contexts = st.lists(ids, min_size=1, max_size=4).map(tuple)
headers = st.sampled_from([(), tuple(range(40)), tuple(range(70))])
asked = st.lists(
    st.tuples(
        st.tuples(headers, contexts).map(lambda both: both[0] + both[1]),
        st.lists(ids, min_size=1, max_size=4).map(tuple),
    ),
    unique=True,
    max_size=40,
)


@given(asked=asked, most=st.integers(1, 200))
def test_questions_are_whole_in_their_order_and_each_is_in_one_chunk(asked, most):
    questions = questions_of(asked)
    found = [(context, tokens) for context, some in questions for tokens in some]
    assert sorted(found) == sorted(asked)
    assert len({question.context for question in questions}) == len(questions)
    for context, some in questions:
        assert some == [tokens for other, tokens in asked if other == context]
    places = cut([question.n_tokens for question in questions], most)
    chunks = [questions[at.start : at.stop] for at in places]
    assert [q for chunk in chunks for q in chunk] == questions


@given(asked=asked)
def test_contexts_that_share_a_beginning_are_neighbours(asked):
    """Blocks of 32 tokens are shared: whoever has one that another has is beside such a one."""
    found = [question.context[:-1] for question in questions_of(asked)]
    begins = [context[:32] if len(context) >= 32 else None for context in found]
    for begin in {b for b in begins if b is not None}:
        first = begins.index(begin)
        assert begins[first : first + begins.count(begin)] == [begin] * begins.count(begin)


@st.composite
def question(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    context = rng.integers(0, 2000, draw(st.sampled_from([1, 15, 17, 60]))).tolist()
    if draw(st.booleans()):
        context = list(range(100, 164)) + context
    lengths = draw(st.lists(st.sampled_from([1, 2, 30]), min_size=1, max_size=4))
    return [Continuation(context, rng.integers(0, 2000, n).tolist()) for n in lengths]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@given(questions=st.lists(question(), max_size=8), data=st.data())
@settings(max_examples=15)
def test_scores_are_the_bits_of_one_process(dtype, questions, data):
    demo = load_model("demo")
    every = [continuation for asked in questions for continuation in asked]
    wanted = data.draw(st.permutations([*every, *every[:3]]))
    here = EngineScorer(chunk_task.Runners.of(model_on_nodes(demo, dtype), 1.0).scorer._model, 2)
    advanced = []
    nodes, made = nodes_of(demo, dtype, lost_at_first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "CHUNK_TOKENS", 150)
        found = ClusterScorer(nodes, advanced.append).score(wanted)
    for one, other in zip(found, here.score(wanted), strict=True):
        np.testing.assert_array_equal(one.logprobs, other.logprobs)
        np.testing.assert_array_equal(one.greedy, other.greedy)
        assert (one.logprobs.dtype, one.greedy.dtype) == (other.logprobs.dtype, other.greedy.dtype)
    assert sum(advanced) == len(wanted)
    assert not made.chunks
    said = nodes.describe()
    assert said["losses"] == said["chunks"] == len(advanced)
    assert said["attempts"] == 2 * said["chunks"]


LONG = "word " * 400
MIXED: list = [*PROMPTS, LONG, PROMPTS[2], [5, 6, 7], [10**6], "", PROMPTS[0], [5, 6, 7], LONG]


@pytest.mark.parametrize("how", [{}, {"truncate": True}, {"stop": ("s", "e")}])
@pytest.mark.usefixtures("small_chunks")
def test_completions_are_those_of_one_process(demo, how):
    """Bad ones, repeated ones, and those that are compared with the reference."""
    engine = EngineGenerator(demo, threads=1, check_rows=5, seed=3)
    nodes, made = nodes_of(demo, end=lost_at_first)
    here = EngineGenerator(demo, threads=2)
    counting = Counting()
    generator = ClusterGenerator(nodes, here, 5, 3, counting)
    expected = engine.complete(MIXED, 9, **how)
    assert generator.complete(MIXED, 9, **how) == expected
    assert nodes.describe()["chunks"] > 2
    assert not made.chunks
    n_sound = len({*map(str, MIXED)}) - (1 if "truncate" in how else 2)
    assert counting.expected == counting.done == n_sound
    for name in ("rows", "positions", "max_abs_diff", "tolerance", "top1_agreement", "agrees"):
        assert getattr(generator.check, name) == getattr(engine.check, name)
    assert generator.check.rows == 5
    assert here._engine is None
    kinds = [type(result) for result in expected]
    assert kinds.count(Reject) == (1 if "truncate" in how else 3)
    assert generator.complete(MIXED, 0, **how) == engine.complete(MIXED, 0, **how)
    assert generator.complete([], 9) == []


@pytest.mark.usefixtures("small_chunks")
def test_what_a_node_rejects_keeps_its_place_among_all_prompts(demo, monkeypatch):
    def reject(self, runners):
        found = [Reject(n, "here", "no luck") for n, _ in enumerate(self.prompts)]
        return Completed(found, CheckReport())

    monkeypatch.setattr(PromptChunk, "do", reject)
    nodes, _ = nodes_of(demo)
    generator = ClusterGenerator(nodes, EngineGenerator(demo, threads=1), 0, 0, Counting())
    prompts = [f"{n} and so on" for n in range(40)]
    found = generator.complete(prompts, 4)
    assert nodes.describe()["chunks"] > 1
    assert [one.row for one in found] == list(range(40))


@pytest.mark.usefixtures("small_chunks")
def test_in_8_bits_the_loss_is_told_as_by_one_process(demo):
    from runner.int8 import in_int8

    rounded = in_int8(demo)
    engine = EngineGenerator(rounded, demo, threads=1, check_rows=None)
    nodes, _ = nodes_of(demo, "int8")
    here = EngineGenerator(rounded, demo, threads=1)
    generator = ClusterGenerator(nodes, here, None, 0, Counting())
    assert generator.complete(PROMPTS, 6) == engine.complete(PROMPTS, 6)
    assert generator.check.rows == engine.check.rows == len(PROMPTS)
    assert generator.check.int8.rms_in_std == pytest.approx(engine.check.int8.rms_in_std)


def test_who_has_a_checker_of_his_own_is_served_here(demo):
    nodes, _ = nodes_of(demo)
    here = EngineGenerator(demo, threads=1)
    generator = ClusterGenerator(nodes, here, 5, 0, Counting())
    checker = Checker(demo, checked_rows(3, None, 0))
    found = generator.complete(PROMPTS[:3], 4, checker=checker)
    assert all(isinstance(result, Completion) for result in found)
    assert generator.check.rows == 3  # it counts in the job's
    assert nodes.describe()["chunks"] == 0


def test_speeds_are_those_of_this_machine(demo):
    nodes, _ = nodes_of(demo)
    engine = EngineGenerator(demo, threads=1)
    here = LanguageModel(demo, EngineScorer(demo, 1), engine)
    there = ClusterGenerator(nodes, engine, 5, 0, Counting())
    options = {"prompts": 2, "prompt_tokens": 2, "max_new_tokens": 2, "repeats": 1}
    spec = TaskSpec("speed", "throughput", options=options)
    found = throughput.run(spec, LanguageModel(demo, ClusterScorer(nodes), there, here))
    assert all(metric.value > 0 for metric in found.metrics)
    assert nodes.describe()["chunks"] == 0


@pytest.mark.usefixtures("small_chunks")
def test_a_chunk_that_fails_for_good_ends_its_call_alone(demo):
    def end(attempt, chunk, do):
        if isinstance(chunk, ScoreChunk) and attempt.task == 1:
            return Failure(Fault.TASK, "ab"[attempt.number % 2], TaskError("no luck"))
        return do()

    nodes, made = nodes_of(demo, end=end)
    wanted = [Continuation(list(range(n, n + 90)), [n, n + 1]) for n in range(20)]
    with pytest.raises(TaskError, match=r"^no luck \(node a, b\)$"):
        ClusterScorer(nodes).score(wanted)
    assert made.cancelled
    assert not made.waiting
    assert not made.chunks
    found = ClusterScorer(nodes).score(wanted)
    assert len(found) == 20
    assert nodes.describe()["failures"] == 3


def test_a_node_that_is_of_no_use_is_not_tried_by_the_next_task(demo):
    tried = []

    def end(attempt, chunk, do):
        tried.append(attempt)
        return Failure(Fault.NODE, "ab"[len(tried) - 1], TaskError("has another model"))

    nodes, _ = nodes_of(demo, end=end)
    for _ in range(2):
        with pytest.raises(ClusterError, match="no node of the cluster can do it: a, b: has an"):
            ClusterScorer(nodes).score([Continuation([1], [2])])
    assert len(tried) == 2
    assert nodes.summary().splitlines()[1:] == [
        "left out: node a: has another model",
        "left out: node b: has another model",
    ]


def test_what_a_node_can_lack(demo, monkeypatch):
    here = SimpleNamespace(share=1.0)
    shared = model_on_nodes(demo)
    chunk = ScoreChunk([Question((1,), [(2,)])])
    other = ModelOnNodes(NodeModel("demo", None, None, "another", "one"), "float32", 1, None)
    with pytest.raises(NodeError, match="has another model as demo: "):
        do_chunk(other, chunk, here)
    gone = ModelOnNodes(NodeModel("/no/model", None, None, "a", "b"), "float32", 1, None)
    with pytest.raises(NodeError, match="cannot load the model: /no/model: no such model"):
        do_chunk(gone, chunk, here)
    small = ModelOnNodes(shared.model, "float32", 1, 1 << 20)
    prompts = PromptChunk(["a"], 4, (), False, False, checked_rows(1, 0, 0))
    with pytest.raises(NodeError, match="cannot hold the model: memory is "):
        do_chunk(small, prompts, here)

    def short(self, wanted):
        raise MemoryError

    monkeypatch.setattr(EngineScorer, "score", short)
    with pytest.raises(TaskError, match="not enough memory"):
        do_chunk(shared, chunk, here)


def test_a_model_is_loaded_once(demo, monkeypatch):
    loads = itertools.count()
    load = NodeModel.load
    monkeypatch.setattr(NodeModel, "load", lambda self: (next(loads), load(self))[1])
    chunk_task._kept.clear()
    nodes, _ = nodes_of(demo)
    for n in range(3):
        ClusterScorer(nodes).score([Continuation([1, n], [2])])
    assert next(loads) == 1


def test_the_name_of_a_model_is_no_folder_that_happens_to_be_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "124M", "mine"):
        (tmp_path / name).mkdir()
    assert [from_anywhere(name) for name in ("demo", "124M")] == ["demo", "124M"]
    assert from_anywhere("mine") == str(tmp_path / "mine")
    assert from_anywhere(str(DEMO_DIR)) == str(DEMO_DIR)
