"""A score follows from its context and the choices asked for with it, down to the bit."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import load_model
from runner.engine_scorer import EngineScorer
from runner.int8 import in_int8
from runner.score import Continuation

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
