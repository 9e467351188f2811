"""Scores of given text: the engine against the NumPy reference, whatever is shared."""

import numpy as np
import pytest

from reference import HParams, load_model
from reference.gpt2 import MASKED, gpt2, log_softmax
from reference.score import continuation_scores
from reference.tree import tree_map
from runner import engine_scorer
from runner.engine_scorer import EngineScorer, batches, plan, stretches
from runner.int8 import in_int8
from runner.score import Continuation, ReferenceScorer
from runner.score_engine import ScoreRow
from tests.laws.sequences import model_of

# Largest difference of a log-probability from float64, measured with the demo model: 1.9e-5.
FLOAT32 = 1e-4
LONG = 64  # tokens of a header that contexts share


def questions(n_vocab, n_ctx, seed=0):
    """Single continuations, choices of one context, shared headers, duplicates, whole windows."""
    rng = np.random.default_rng(seed)

    def some(least, most):
        return rng.integers(0, n_vocab, rng.integers(least, most + 1)).tolist()

    wanted = [Continuation(some(1, n_ctx // 4), some(1, 8)) for _ in range(16)]
    for _ in range(4):
        context = some(n_ctx // 8, n_ctx // 4)
        wanted += [Continuation(context, some(1, 12)) for _ in range(4)]
    header = some(LONG, LONG)
    for _ in range(3):
        context = header + some(1, 20)
        wanted += [Continuation(context, some(1, 6)) for _ in range(3)]
    wanted += [Continuation(some(1, 1), some(n_ctx, n_ctx)), wanted[3]]
    order = rng.permutation(len(wanted))
    return [wanted[n] for n in order]


def assert_close(found, expected, tolerance=FLOAT32):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.logprobs, theirs.logprobs, rtol=0, atol=tolerance)
        np.testing.assert_array_equal(ours.greedy, theirs.greedy)


def mean_difference(found, expected):
    pairs = zip(found, expected, strict=True)
    return np.mean([np.mean(np.abs(ours.logprobs - theirs.logprobs)) for ours, theirs in pairs])


@pytest.fixture(scope="module")
def wanted(demo):
    return questions(demo.hparams["n_vocab"], demo.hparams["n_ctx"])


def test_the_reference_is_gpt2_at_every_place(demo):
    context, tokens = [5, 9, 700], [3, 2000, 41]
    logprobs, greedy = continuation_scores(context, tokens, demo.params, demo.hparams)
    ids = np.array(context + tokens)
    whole = gpt2(ids, **demo.params, n_head=demo.hparams["n_head"])[2:5]
    # In one case all rows went through a product, in the other those that are read.
    np.testing.assert_allclose(logprobs, log_softmax(whole)[range(3), tokens], atol=FLOAT32)
    np.testing.assert_array_equal(greedy, np.argmax(whole, -1))


def test_the_engine_scores_what_the_reference_does(demo, wanted):
    expected = ReferenceScorer(demo, np.float64).score(wanted)
    assert_close(EngineScorer(demo, 2).score(wanted), expected)
    assert len(expected) == len(wanted)


def test_int8_scores_what_its_own_reference_does(demo, wanted):
    model = in_int8(demo)
    found = EngineScorer(model, 2).score(wanted)
    expected = ReferenceScorer(model).score(wanted)
    exact = ReferenceScorer(demo).score(wanted)
    # A rounding that falls the other way is passed on: by less than 8 bits change altogether.
    assert 0 < mean_difference(found, expected) < mean_difference(expected, exact) / 2


@pytest.mark.parametrize(
    "hparams",
    [
        HParams(n_vocab=97, n_ctx=96, n_embd=12, n_head=3, n_layer=2),  # heads of 4: no operator
        HParams(n_vocab=300, n_ctx=128, n_embd=32, n_head=1, n_layer=1),
        HParams(n_vocab=131, n_ctx=128, n_embd=48, n_head=6, n_layer=3),
    ],
    ids=str,
)
def test_models_of_any_sizes(hparams, random_params):
    model = model_of(hparams, random_params(hparams), load_model("demo").tokenizer)
    wanted = questions(hparams["n_vocab"], hparams["n_ctx"])
    assert_close(
        EngineScorer(model, 2).score(wanted), ReferenceScorer(model, np.float64).score(wanted)
    )


def test_an_output_projection_of_its_own(demo, random_params):
    hparams = HParams(n_vocab=97, n_ctx=64, n_embd=16, n_head=2, n_layer=1)
    params = random_params(hparams)
    params["lm_head"] = -params["wte"]
    model = model_of(hparams, params, demo.tokenizer)
    wanted = [Continuation([1, 2, 3], [4, 5]), Continuation([7], [8])]
    assert_close(
        EngineScorer(model, 1).score(wanted), ReferenceScorer(model, np.float64).score(wanted)
    )


def test_nothing_is_no_work(demo):
    assert EngineScorer(demo, 1).score([]) == []


def test_progress_counts_every_request_once(demo, wanted):
    counts = []
    EngineScorer(demo, 1, counts.append).score(wanted)
    assert sum(counts) == len(wanted)
    assert len(counts) > 5


def test_what_is_shared_is_computed_once(demo):
    rng = np.random.default_rng(0)
    header = rng.integers(0, 2000, LONG).tolist()
    scorer = EngineScorer(demo, 1)
    wanted = [
        Continuation([*header, *context], tokens)
        for context in rng.integers(0, 2000, (5, 10)).tolist()
        for tokens in rng.integers(0, 2000, (4, 3)).tolist()
    ]
    scorer.score(wanted)
    # The header once; of each question its context once, and its choices but for a last token.
    assert scorer.engine.tokens == LONG + 5 * (10 + 4 * 2)


def test_a_context_that_is_all_of_anothers_beginning(demo):
    """Its last token is not shared: what follows it is read there."""
    header = np.random.default_rng(0).integers(0, 2000, LONG).tolist()
    wanted = [Continuation([*header, 7, 8], [9]), Continuation(header, [5, 6])]
    assert_close(EngineScorer(demo, 1).score(wanted), ReferenceScorer(demo).score(wanted))


def test_the_same_request_is_computed_once(demo):
    scorer = EngineScorer(demo, 1)
    one = Continuation([1, 2, 3], [4, 5])
    first, second = scorer.score([one, Continuation((1, 2, 3), (4, 5))])
    assert scorer.engine.tokens == 4
    np.testing.assert_array_equal(first.logprobs, second.logprobs)


def test_choices_do_not_see_each_other():
    row = ScoreRow([7, 8])
    assert [row.add([1, 2, 3]), row.add([4]), row.add([5, 6])] == [
        slice(0, 3),
        slice(3, 4),
        slice(4, 6),
    ]
    assert row.ids == [7, 8, 1, 2, 5]
    assert row.at == [0, 1, 2, 3, 2]
    assert row.read == [1, 2, 3, 1, 1, 4]
    assert row.targets == [1, 2, 3, 4, 5, 6]
    hidden = np.zeros((5, 5), np.float32)
    row.hide(hidden, 0, 5)
    expected = np.zeros((5, 5), np.float32)
    expected[4, 2:4] = MASKED
    np.testing.assert_array_equal(hidden, expected)


def test_rows_keep_within_what_is_taken_at_once(monkeypatch):
    monkeypatch.setattr(engine_scorer, "MOST_SCORES", 64)
    monkeypatch.setattr(engine_scorer, "MOST_TOKENS", 128)
    context = tuple(range(20))
    choices = [(context, tuple(range(n, n + 30))) for n in range(7)]
    rows = plan([*choices, ((1,), tuple(range(200)))])
    assert [len(planned.continuations) for planned in rows] == [2, 2, 2, 1, 1]
    for planned in rows:
        row, _ = planned.row()
        assert (planned.n_tokens, planned.n_scores) == (len(row.ids), len(row.read))
    assert stretches(rows[-1], 0) == [(0, 64), (64, 128), (128, 192), (192, 200)]
    assert stretches(rows[0], 0) == [(0, rows[0].n_tokens)]
    groups = list(batches([planned for planned in rows if not planned.goes_alone]))
    assert sum(map(len, groups)) == 4
    for group in groups:
        longest = max(planned.n_tokens for planned in group)
        most = max(planned.n_scores for planned in group)
        assert len(group) == 1 or (len(group) * longest <= 128 and len(group) * most <= 64)


def test_stretches_change_nothing(demo, monkeypatch):
    rng = np.random.default_rng(3)
    wanted = [Continuation([1], rng.integers(0, 2000, 250).tolist())]
    whole = EngineScorer(demo, 2).score(wanted)
    monkeypatch.setattr(engine_scorer, "MOST_SCORES", 64)
    cut = EngineScorer(demo, 2).score(wanted)
    np.testing.assert_array_equal(whole[0].logprobs, cut[0].logprobs)


def test_float64_weights_are_computed_in_float64(demo):
    (found,) = ReferenceScorer(demo, np.float64).score([Continuation([1], [2])])
    assert found.logprobs.dtype == np.float64
    params = tree_map(lambda _, a: a.astype(np.float64), demo.params)
    logits = gpt2(np.array([1]), **params, n_head=demo.hparams["n_head"])
    np.testing.assert_allclose(found.logprobs, [log_softmax(logits)[0, 2]], rtol=1e-12)


def test_its_memory_is_taken_when_it_is_needed_and_given_back(demo):
    scorer, asked, wanted = EngineScorer(demo, 1), [], [Continuation([1], [2])]
    scorer.make_room = lambda: asked.append("room")
    (before,) = scorer.score(wanted)
    scorer.score(wanted)
    assert asked == ["room"]
    scorer.release()
    (after,) = scorer.score(wanted)
    assert asked == ["room", "room"]
    assert before.logprobs == after.logprobs
