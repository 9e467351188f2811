"""The comparison of scores with the reference: what it lets pass, and what it must not.

The oracle is the reference in float64, computed here from whole logits.
"""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from jobs import score_check
from jobs.score_check import (
    RequestSample,
    SampledScorer,
    as_check,
    check_in_words,
    check_scores,
    compare_scores,
)
from reference import HParams
from reference.gpt2 import gpt2
from runner.check_report import CheckReport
from runner.comparison import TOLERANCE
from runner.engine_scorer import EngineScorer
from runner.int8 import in_int8
from runner.score import Continuation, ReferenceScorer, Scored
from tests.laws.sequences import model_of


class Silent:
    """Progress that nobody looks at."""

    def expect(self, n_requests):
        pass


class Numbered:
    """Says of each continuation which token it has, and is never run twice."""

    def score(self, wanted):
        return [Scored(np.array([-1.0 * w.tokens[0]]), np.array([0])) for w in wanted]


def requests(model, n=12, seed=0):
    rng = random.Random(seed)
    text = "The capital of France is Paris. One pear, two pears. The opposite of hot is cold."
    ids = model.tokenizer.encode(text)
    found = []
    for _ in range(n):
        at = rng.randrange(1, len(ids) - 4)
        found.append(Continuation(ids[:at], ids[at : at + rng.randrange(1, 4)]))
    return found


def asked(scorer, wanted, count=None, seed=0, task="words"):
    sample = RequestSample(count, seed)
    sample.task = task
    found = SampledScorer(scorer, sample, Silent()).score(wanted)
    assert [f.logprobs.tolist() for f in found] == [
        f.logprobs.tolist() for f in scorer.score(wanted)
    ]
    return sample.kept


def test_each_request_is_kept_as_often_as_the_others():
    wanted = [Continuation([0], [n]) for n in range(20)]
    counts = Counter()
    for seed in range(2000):
        sample = RequestSample(5, seed)
        scorers = [SampledScorer(Numbered(), sample, Silent()) for _ in range(2)]
        for start in (0, 3, 11):  # in several calls, of two scorers
            scorers[start % 2].score(wanted[start : {0: 3, 3: 11, 11: 20}[start]])
        assert len({r.wanted.tokens[0] for r in sample.kept}) == 5
        assert all(r.found.logprobs[0] == -r.wanted.tokens[0] for r in sample.kept)
        counts.update(r.wanted.tokens[0] for r in sample.kept)
    # Binomial with p = 1/4: 500 each, standard deviation 19.4.
    assert all(abs(counts[n] - 500) < 5 * 19.4 for n in range(20)), counts


def test_the_same_seed_keeps_the_same_requests():
    wanted = [Continuation([0], [n]) for n in range(50)]
    kept = [[r.wanted.tokens[0] for r in asked(Numbered(), wanted, 4, seed)] for seed in (1, 1, 2)]
    assert kept[0] == kept[1] != kept[2]
    assert [r.wanted.tokens[0] for r in asked(Numbered(), wanted)] == [*range(50)]
    assert asked(Numbered(), wanted, 0) == []


def test_the_engine_agrees_and_by_how_much(demo):
    wanted = requests(demo)
    report = check_scores(asked(EngineScorer(demo, 1), wanted), demo)
    assert report.agrees
    assert (report.rows, report.positions) == (12, sum(len(w.tokens) for w in wanted))
    # By hand: logits of the reference, and what the engine says of each token.
    params, n_head = demo.params, demo.hparams["n_head"]
    worst, tolerances = 0.0, []
    for one, found in zip(wanted, EngineScorer(demo, 1).score(wanted), strict=True):
        ids = np.array([*one.context, *one.tokens[:-1]])
        logits = np.asarray(gpt2(ids, **params, n_head=n_head))[-len(one.tokens) :]
        wide = logits.astype(np.float64)
        logprobs = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
        said = logprobs[np.arange(len(one.tokens)), one.tokens]
        worst = max(worst, np.abs(said - found.logprobs).max())
        tolerances.append(2 * TOLERANCE * wide.std())
    assert report.max_abs_diff == pytest.approx(worst, rel=0.2, abs=2e-6)
    assert report.tolerance == pytest.approx(min(tolerances), rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_what_is_off_is_found(demo, dtype):
    model = in_int8(demo) if dtype == "int8" else demo
    float32 = demo if dtype == "int8" else None
    kept = asked(EngineScorer(model, 1), requests(demo))
    right = check_scores(kept, model, float32)
    assert right.agrees
    assert (right.int8 is None) == (dtype == "float32")
    for off in (right.tolerance * 40, -5.0, np.nan):
        found = replace(kept[3].found, logprobs=kept[3].found.logprobs + np.float32(off))
        report = check_scores([*kept[:3], replace(kept[3], found=found), *kept[4:]], model, float32)
        assert report.offending_rows == 1
        assert report.offending[0].startswith("words: ")
        assert "log-probabilities differ by" in report.offending[0]
    least = ReferenceScorer(demo).score([kept[0].wanted])[0].greedy.copy()
    least[0] = (least[0] + 1) % 100  # no near tie
    report = check_scores(
        [replace(kept[0], found=replace(kept[0].found, greedy=least))], model, float32
    )
    assert (report.disagreements, report.agrees) == (1, False)


def test_weights_that_are_rounded_another_way_are_found(demo):
    """An engine with int8 weights in a job that is said to be float32."""
    kept = asked(EngineScorer(in_int8(demo), 1), requests(demo))
    assert not check_scores(kept, demo).agrees


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_request_is_compared_in_stretches_as_in_one(demo, dtype, monkeypatch):
    model, float32 = (in_int8(demo), demo) if dtype == "int8" else (demo, None)
    tokens = np.random.default_rng(0).integers(0, 2000, 150).tolist()
    kept = asked(EngineScorer(model, 1), [Continuation([1], tokens)])
    cut = check_scores(kept, model, float32)
    monkeypatch.setattr(score_check, "STRETCH_TOKENS", 1000)
    whole = check_scores(kept, model, float32)
    assert (cut.rows, cut.positions, cut.agrees) == (1, 150, True)
    assert (cut.max_abs_diff, cut.tolerance) == (whole.max_abs_diff, whole.tolerance)
    assert cut.mean_abs_diff == pytest.approx(whole.mean_abs_diff)
    assert cut.top1_agreement == whole.top1_agreement
    if float32:
        assert cut.int8.kl_divergence == pytest.approx(whole.int8.kl_divergence)
    wrong = replace(kept[0], found=replace(kept[0].found, logprobs=kept[0].found.logprobs.copy()))
    wrong.found.logprobs[140] = 0  # in the last stretch
    assert check_scores([wrong], model, float32).offending_rows == 1


def test_a_token_that_has_no_text_can_be_compared(demo, random_params):
    """A padded vocabulary: the model has embeddings beyond the tokenizer's."""
    hparams = HParams(n_vocab=len(demo.tokenizer) + 8, n_ctx=32, n_embd=16, n_head=2, n_layer=1)
    model = model_of(hparams, random_params(hparams), demo.tokenizer)
    kept = asked(EngineScorer(model, 1), [Continuation([1], [2, len(demo.tokenizer) + 3])])
    assert check_scores(kept, model).agrees


@pytest.mark.parametrize(("gap", "is_near"), [(0.015, True), (0.025, False)])
def test_a_near_tie_is_no_disagreement(gap, is_near):
    """Another choice counts where its logit is within twice the tolerance of the best."""
    logits = np.array([[4.0, 4.0 - gap, 1.0], [0.0, 0.0, 9.0]], np.float32)
    logprobs = np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))[[0, 1], [2, 2]]
    found = Scored(logprobs, np.array([1, 2]))
    compared = compare_scores(found, np.array([2, 2]), logits, tolerance=0.01)
    assert (compared.top1_agreement, compared.near_ties) == (1, int(is_near))
    assert compared.disagreements == int(not is_near)
    assert compared.agrees == is_near
    assert compared.tolerance == 0.02
    for off, agrees in ((0.019, True), (0.021, False)):
        found = Scored(logprobs + np.float32(off), np.array([0, 2]))
        assert compare_scores(found, np.array([2, 2]), logits, tolerance=0.01).agrees == agrees


def test_what_results_and_people_are_told(demo):
    scores = check_scores(asked(EngineScorer(demo, 1), requests(demo)), demo)
    told = as_check(scores, CheckReport())
    assert told["agrees"] is True
    assert (told["requests"], told["generation"]) == (12, None)
    assert check_in_words(told).startswith("check: ok: 12 requests, ")
    generated = CheckReport(rows=1, positions=2, offending_rows=1, offending=["row"])
    told = as_check(scores, generated)
    assert told["agrees"] is False  # either is enough
    assert "check: FAILED: 1 rows, 2 positions" in check_in_words(told)
    assert check_in_words(as_check(CheckReport(), CheckReport())) == (
        "check: no scores were compared with the reference"
    )
