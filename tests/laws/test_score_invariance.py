"""A score follows from its context and the choices asked for with it, down to the bit."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import HParams, load_model
from runner.engine_scorer import EngineScorer
from runner.int8 import in_int8
from runner.score import Continuation
from tests.laws.sequences import model_of

MODELS = {"float32": lambda: load_model("demo"), "int8": lambda: in_int8(load_model("demo"))}
HEADER = list(range(100, 164))  # two blocks that a context may share


@cache
def scorer(dtype, threads):
    return EngineScorer(MODELS[dtype](), threads)


@st.composite
def question(draw):
    """A context, perhaps behind the header, and what may follow it."""
    seed = draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    context = rng.integers(0, 2000, draw(st.sampled_from([1, 2, 15, 16, 17, 33, 60, 127]))).tolist()
    if draw(st.booleans()):
        context = HEADER[: draw(st.sampled_from([32, 64]))] + context
    n_choices = draw(st.sampled_from([1, 1, 2, 4]))
    lengths = [draw(st.sampled_from([1, 2, 5, 30])) for _ in range(n_choices)]
    return [Continuation(context, rng.integers(0, 2000, n).tolist()) for n in lengths]


OTHERS = [  # sizes that onnxruntime's attention takes in other ways, and odd lengths
    HParams(n_vocab=97, n_ctx=701, n_embd=32, n_head=2, n_layer=2),
    HParams(n_vocab=131, n_ctx=1023, n_embd=72, n_head=1, n_layer=2),
    HParams(n_vocab=97, n_ctx=601, n_embd=20, n_head=2, n_layer=2),  # heads of 10: no operator
]


@cache
def other(number, threads, random_params):
    hparams = OTHERS[number]
    params = random_params(hparams)
    return EngineScorer(model_of(hparams, params, load_model("demo").tokenizer), threads)


@pytest.mark.parametrize("number", range(len(OTHERS)), ids=lambda n: str(OTHERS[n]))
@given(seed=st.integers(0, 10**6), threads=st.sampled_from([1, 2, 5]))
@settings(max_examples=8)
def test_long_rows_and_stretches_change_no_bit(random_params, number, seed, threads):
    """As many scores as are taken at once, and one more, behind headers of many depths."""
    rng, hparams = np.random.default_rng(seed), OTHERS[number]

    def some(n):
        return rng.integers(0, hparams["n_vocab"], n).tolist()

    deep, questions = some(hparams["n_ctx"]), []
    for depth in rng.choice([0, 0, 31, 32, 33, 64, 257], 4):
        context = deep[:depth] + some(rng.choice([1, 15, 16, 17, 130]))
        room = hparams["n_ctx"] + 1 - len(context)
        lengths = rng.choice([1, 2, 30, 129, 511, 512, 513, room], rng.choice([1, 1, 3, 9]))
        questions.append([Continuation(context, some(min(n, room))) for n in lengths])
    wanted = [continuation for asked in questions for continuation in asked]
    together = other(number, threads, random_params).score(wanted)
    alone = [found for asked in questions for found in other(number, 1, random_params).score(asked)]
    for one, the_other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.logprobs, the_other.logprobs)
        np.testing.assert_array_equal(one.greedy, the_other.greedy)


@pytest.mark.parametrize("dtype", MODELS)
@given(questions=st.lists(question(), min_size=2, max_size=8), data=st.data())
@settings(max_examples=40)
def test_company_order_threads_and_sharing_change_no_bit(dtype, questions, data):
    unique = {tuple(q[0].context): q for q in questions}  # one question for each context
    order = data.draw(st.permutations([w for q in unique.values() for w in q]))
    threads = data.draw(st.sampled_from([1, 2, 3, 8]))
    together = dict(zip(map(id, order), scorer(dtype, threads).score(order), strict=True))
    for q in unique.values():
        alone = scorer(dtype, 1).score([w for w in order if any(w is o for o in q)])
        asked = [w for w in order if any(w is o for o in q)]
        for wanted, found in zip(asked, alone, strict=True):
            np.testing.assert_array_equal(together[id(wanted)].logprobs, found.logprobs)
            np.testing.assert_array_equal(together[id(wanted)].greedy, found.greedy)
