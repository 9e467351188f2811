"""Parity with the reference, and throughput beside what the machine can do."""

from pathlib import Path

import numpy as np
import pytest

from jobs.generator import EngineGenerator, ReferenceGenerator
from jobs.language_model import LanguageModel
from jobs.task_spec import TaskSpec, Threshold
from jobs.tasks import KINDS, throughput
from reference import gpt2
from reference.gpt2 import log_softmax
from reference.tree import tree_map
from runner.checker import reference_logits
from runner.comparison import TOLERANCE
from runner.errors import SettingsError
from runner.int8 import in_int8
from runner.score import ReferenceScorer

JOBS = Path(__file__).parents[2] / "jobs"
SMALL = {"random_prompts": 3, "max_new_tokens": 3}


def spec_of(kind, **keys):
    return TaskSpec("mine", kind, where="job.toml: tasks.mine", folder=JOBS, **keys)


def do(model, kind, **keys):
    return KINDS[kind].run(KINDS[kind].checked(spec_of(kind, **keys)), model)


def figures(result):
    return {metric.name: metric.value for metric in result.metrics}


def engine_of(model, float32=None):
    generator = EngineGenerator(model, float32, threads=1, check_rows=0)
    return LanguageModel(model, ReferenceScorer(model), generator)


def test_the_engine_agrees_on_random_tokens_and_given_prompts(demo):
    model = engine_of(demo)
    alone = do(model, "parity", options=SMALL)
    assert len(alone.rows) == 3
    found = figures(alone)
    assert found["agrees"] == found["top1_agreement"] == 1.0
    assert 0 < found["mean_abs_diff"] < found["max_abs_diff"] < TOLERANCE
    assert set(found) == {"agrees", "max_abs_diff", "mean_abs_diff", "top1_agreement"}
    given = do(model, "parity", data=("prompts.jsonl",), limit=4, options=SMALL)
    assert [row.id for row in given.rows[3:]] == ["0", "1", "2", "3"]
    assert [row.id for row in given.rows[:3]] == [row.id for row in alone.rows]
    assert given.rows[3].prompt == "The capital of France is"
    assert model.generator.check.rows == 10  # the job's own check takes part
    assert model.generator.check.positions == 30


def test_the_largest_difference_is_that_of_all_logits(demo, monkeypatch):
    """Against logits of ours, of weights that are not those of the engine."""
    model = engine_of(demo)
    model.generator.complete(["a"], 1)  # the engine is made of the right weights
    bias = demo.params["ln_f"]["b"] + 0.01
    damaged = demo.params | {"ln_f": demo.params["ln_f"] | {"b": bias}}
    right = demo.params
    monkeypatch.setattr(type(demo), "params", property(lambda _: damaged))
    result = do(model, "parity", options={"random_prompts": 1, "max_new_tokens": 1})
    (row,) = result.rows
    ids = np.random.default_rng(0).choice(np.arange(demo.hparams["n_vocab"]), 255)
    n_head = demo.hparams["n_head"]
    one = gpt2(ids, **right, n_head=n_head)[-1]
    other = gpt2(ids, **damaged, n_head=n_head)[-1]
    expected = float(np.max(np.abs(one - other)) / np.std(one))
    assert expected > 2 * TOLERANCE
    assert row.values["max_abs_diff"] == pytest.approx(expected, rel=1e-3)
    assert row.correct is False
    assert figures(result)["agrees"] == 0.0
    assert not model.generator.check.agrees


def test_what_8_bits_lose(demo):
    rounded = in_int8(demo)
    found = figures(do(engine_of(rounded, demo), "parity", options=SMALL))
    assert found["agrees"] == 1.0
    assert found["int8_kl_divergence"] > 0
    assert 0.005 < found["int8_rms"] < 0.1
    assert 0.5 < found["int8_top1_agreement"] <= 1.0
    assert "int8_rms" in KINDS["parity"].metrics


def test_what_8_bits_lose_is_the_divergence(demo):
    """Of one token, in float64, by the definition."""
    rounded = in_int8(demo)
    generator = ReferenceGenerator(rounded, float32=demo)
    model = LanguageModel(rounded, ReferenceScorer(rounded), generator)
    (row,) = do(model, "parity", options={"random_prompts": 1, "max_new_tokens": 1}).rows
    ids = np.random.default_rng(0).choice(np.arange(demo.hparams["n_vocab"]), 255)
    exact = gpt2(ids, **demo.params, n_head=demo.hparams["n_head"])[-1]
    p = log_softmax(exact.astype(np.float64))
    q = log_softmax(reference_logits(rounded, ids, 1)[0].astype(np.float64))
    expected = float(np.sum(np.exp(p) * (p - q)))
    assert row.values["int8_kl_divergence"] == pytest.approx(expected, rel=1e-3)
    assert row.values["max_abs_diff"] < 1e-5  # the reference beside itself


def test_a_long_prompt_is_cut_and_a_repeated_one_compared_once(demo, tmp_path):
    long = "The sun was warm. " * 100
    (tmp_path / "in.jsonl").write_text(
        f'{{"p": "{long}"}}\n{{"p": "a"}}\n{{"p": "a"}}\n{{"p": 1}}\n'
    )
    data, columns = (str(tmp_path / "in.jsonl"),), {"prompt": "p"}
    result = do(engine_of(demo), "parity", data=data, columns=columns, options=SMALL)
    assert [row.prompt[:8] for row in result.rows[3:]] == ["The sun ", "a"]
    assert [bad.reason for bad in result.bad_rows] == ['"prompt" is 1; expected a string']


# Throughput. No test asserts a time: the clock is ours.


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test advances."""
    ticks = {"s": 0.0}
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: ticks["s"])
    return ticks


class Slow:
    """Takes so many seconds for each call."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.threads, self.calls = clock, seconds, 1, []

    def complete(self, prompts, max_new_tokens, **_):
        self.calls.append((len(prompts), len(prompts[0]), max_new_tokens))
        self.clock["s"] += next(self.seconds)


def test_the_ratio_is_beside_what_the_machine_does(demo, clock, monkeypatch):
    generator = Slow(clock, iter([50.0, 2.0, 4.0, 4.0]))  # the first is not counted
    model = LanguageModel(demo, ReferenceScorer(demo), generator)
    scored = iter([9.0, 1.0, 1.0, 1.0])

    def score(pairs):
        clock["s"] += next(scored)

    monkeypatch.setattr(model, "loglikelihood_tokens", score)
    # The machine becomes half as fast from the third calibration on.
    speeds = iter([8e9, 8e9, 4e9, 4e9, 1e9, 1e9, 1e9, 1e9])
    monkeypatch.setattr(throughput.Calibration, "__enter__", lambda self: self)
    monkeypatch.setattr(throughput.Calibration, "products_per_s", lambda _: next(speeds))
    options = {"prompts": 4, "prompt_tokens": 6, "max_new_tokens": 5, "repeats": 3}
    result = do(model, "throughput", options=options)
    assert generator.calls == [(4, 6, 5)] * 4
    found = figures(result)
    n, layers, vocab = 128, 4, 2304
    per_token = 12 * n * n * layers + n * vocab
    assert found["tokens_per_s"] == 20 / 4
    # 20 tokens in 2 s beside 8e9, in 4 s beside 6e9, in 4 s beside 4e9: the middle one.
    shares = [20 * per_token / 2 / 8e9, 20 * per_token / 4 / 6e9, 20 * per_token / 4 / 4e9]
    assert found["ratio"] == pytest.approx(sorted(shares)[1])
    assert found["score_tokens_per_s"] == 4 * 10 / 1
    assert found["score_ratio"] == pytest.approx(40 * per_token / 1e9)
    assert all(metric.stderr is None for metric in result.metrics)


def test_multiplications_by_weights_are_counted(demo):
    matrices = []
    tree_map(lambda path, a: matrices.append((path, a)) or a, demo.params)
    expected = sum(a.size for path, a in matrices if path.endswith(".w") or path == "wte")
    assert throughput.products_per_token(demo.hparams) == expected


def test_the_machine_multiplies(demo):
    with throughput.Calibration(2) as calibration:
        assert calibration.products_per_s() > 1e6
    assert np.allclose(calibration._products[0], 1 / throughput.SIDE)


def test_it_runs_on_the_engine(demo):
    options = {"prompts": 2, "prompt_tokens": 3, "max_new_tokens": 2, "repeats": 1}
    model = engine_of(demo)
    found = figures(do(model, "throughput", options=options))
    assert list(found) == ["tokens_per_s", "ratio", "score_tokens_per_s", "score_ratio"]
    assert all(value > 0 for value in found.values())
    assert model.generator.check.rows == 0  # no time goes into comparing


def test_a_speed_cannot_be_bounded():
    spec = spec_of("throughput", thresholds={"tokens_per_s": Threshold(min=5.0)})
    with pytest.raises(SettingsError, match=r"thresholds.tokens_per_s: is told, but nothing can"):
        KINDS["throughput"].checked(spec)
    spec = spec_of("throughput", allow={"score_tokens_per_s": 5.0})
    with pytest.raises(SettingsError, match=r"speed of one machine on one night. Name score_ratio"):
        KINDS["throughput"].checked(spec)
    KINDS["throughput"].checked(spec_of("throughput", thresholds={"ratio": Threshold(min=0.1)}))


def test_more_tokens_than_the_context_are_refused(demo):
    with pytest.raises(SettingsError, match=r"are 264 together; expected at most n_ctx = 256"):
        do(engine_of(demo), "throughput", options={"prompt_tokens": 232})
