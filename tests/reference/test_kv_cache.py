"""The model with a KV cache against the model without one."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import HParams, gpt2
from reference.generate import greedy_step, log_probability
from reference.int8 import kv_scales
from reference.kv_cache import cached_logits, empty_cache, rounded

# In standard deviations of the logits: measured up to 2.3e-5 over 3,000 random models.
TOLERANCE = 1e-4


@st.composite
def models(draw):
    n_head = draw(st.integers(1, 3))
    return HParams(
        n_vocab=draw(st.integers(5, 40)),
        n_ctx=draw(st.integers(6, 20)),
        n_embd=n_head * draw(st.integers(1, 5)),
        n_head=n_head,
        n_layer=draw(st.integers(1, 3)),
    )


@settings(max_examples=60)
@given(hparams=models(), data=st.data())
def test_any_way_of_taking_tokens_in_gives_the_logits_of_the_whole(random_params, hparams, data):
    """Ragged rows, padded, in chunks of any lengths, in a cache of any capacity."""
    params, n_ctx = random_params(hparams), hparams["n_ctx"]
    batch = data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    lengths = rng.integers(1, n_ctx + 1, batch)
    ids = rng.integers(0, hparams["n_vocab"], (batch, n_ctx))
    expected = gpt2(ids, **params, n_head=hparams["n_head"])
    cache = empty_cache(hparams, batch, data.draw(st.integers(n_ctx, n_ctx + 5)))
    past = np.zeros(batch, dtype=np.int64)
    while (past < lengths).any():
        n_seq = data.draw(st.integers(1, n_ctx - int(past.max()) or 1))
        new = np.minimum(lengths - past, n_seq)
        inputs = np.zeros((batch, n_seq), dtype=np.int64)  # padded with 0
        for row in range(batch):
            inputs[row, : new[row]] = ids[row, past[row] : past[row] + new[row]]
        read = np.maximum(new - 1, 0)[:, None]
        logits, cache = cached_logits(inputs, past, read, cache, **params, n_head=hparams["n_head"])
        for row in np.nonzero(new)[0]:
            at = past[row] + new[row] - 1
            assert np.abs(logits[row] - expected[row, at]).max() <= TOLERANCE * expected.std()
        past = past + new


def test_what_padding_leaves_is_overwritten(tiny):
    hparams, params = tiny
    ids = np.arange(8)[None]
    cache = empty_cache(hparams, 1, 16)
    padded = np.array([[0, 1, 2, 90, 91, 92]])
    _, cache = cached_logits(
        padded, np.array([0]), np.zeros((1, 0), np.int64), cache, **params, n_head=3
    )
    logits, _ = cached_logits(ids[:, 3:], np.array([3]), np.array([[4]]), cache, **params, n_head=3)
    expected = gpt2(ids, **params, n_head=3)
    assert np.abs(logits[0] - expected[0, -1]).max() <= TOLERANCE * expected.std()


def test_positions_are_read_row_after_row_or_not_at_all(tiny):
    hparams, params = tiny
    ids = np.arange(10).reshape(2, 5)
    expected = gpt2(ids, **params, n_head=3)
    read = np.array([[4, 0], [1, 2]])
    tokens, logprobs, logits, _ = greedy_step(
        ids, np.zeros(2, np.int64), read, empty_cache(hparams, 2, 5), slice(50), **params, n_head=3
    )
    chosen = [expected[0, 4], expected[0, 0], expected[1, 1], expected[1, 2]]
    np.testing.assert_allclose(logits, chosen, rtol=0, atol=TOLERANCE * expected.std())
    assert tokens.tolist() == [int(row[:50].argmax()) for row in chosen]
    exact = np.array(chosen, np.float64)
    exact = exact[:, :50].max(1) - np.log(np.exp(exact).sum(1))
    np.testing.assert_allclose(logprobs, exact, atol=1e-5)
    nothing = greedy_step(
        ids,
        np.zeros(2, np.int64),
        np.zeros((2, 0), np.int64),
        empty_cache(hparams, 2, 5),
        slice(None),
        **params,
        n_head=3,
    )
    assert nothing[0].shape == (0,)
    assert nothing[2].shape == (0, 97)


def test_the_cache_that_is_given_stays_as_it_is(tiny):
    hparams, params = tiny
    cache = empty_cache(hparams, 1, 4)
    cached_logits(np.array([[1, 2]]), np.array([0]), np.array([[1]]), cache, **params, n_head=3)
    assert not any(layer["k"].any() or layer["v"].any() for layer in cache)


@settings(max_examples=30)
@given(hparams=models(), data=st.data())
def test_a_cache_in_8_bits_holds_the_same_whichever_way_tokens_came(random_params, hparams, data):
    params, n_ctx = random_params(hparams), hparams["n_ctx"]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    ids = rng.integers(0, hparams["n_vocab"], (2, n_ctx))
    scales = 10 * kv_scales(params, hparams)  # from a few tokens: others are larger by far
    nothing = np.zeros((2, 0), np.int64)

    def taken_in(ends, scales):
        cache = empty_cache(hparams, 2, n_ctx, scales)
        for start, end in pairwise(ends):
            past = np.full(2, start)
            _, cache = cached_logits(
                ids[:, start:end], past, nothing, cache, **params, n_head=hparams["n_head"]
            )
        return cache

    inner = data.draw(st.sets(st.integers(1, n_ctx - 1)))
    whole, parts = taken_in([0, n_ctx], scales), taken_in([0, *sorted(inner), n_ctx], scales)
    exact = taken_in([0, n_ctx], None)
    for n, (one, other, floats) in enumerate(zip(whole, parts, exact, strict=True)):
        for name in ("k", "v"):
            assert one[name].dtype == np.int8
            # A number on an edge may fall to the other side: in 1,500 random models none did.
            assert np.abs(one[name].astype(int) - other[name]).max() <= 1
            if n == 0:  # what 8 bits have not changed yet; in the smallest models some is cut off
                numbers = np.clip(floats[name] / one[f"{name}_scale"], -128, 127)
                assert np.abs(one[name] - numbers).max() <= 0.501


def test_numbers_beyond_8_bits_are_cut_off():
    x = np.array([[-1e9, -128.4, -0.5, 0.5, 1.5, 126.6, 1e9]], np.float32) * np.float32(0.25)
    found = rounded(x, np.full(7, 0.25, np.float32))
    assert found.tolist() == [[-128, -128, 0, 0, 2, 127, 127]]


def test_scales_leave_room_beyond_the_tokens_that_they_come_from(tiny):
    hparams, params = tiny
    scales = kv_scales(params, hparams)
    assert scales.dtype == np.float32
    assert scales.shape == (hparams["n_layer"], 2, 1, 3, 1, hparams["n_embd"] // 3)
    ids = np.random.default_rng(5).integers(0, hparams["n_vocab"], (1, 16))
    cache = empty_cache(hparams, 1, 16, scales)
    _, cache = cached_logits(
        ids, np.zeros(1, np.int64), np.zeros((1, 0), np.int64), cache, **params, n_head=3
    )
    held = np.array([[layer["k"], layer["v"]] for layer in cache])
    assert 40 < np.abs(held.astype(int)).max() < 127


def test_log_probability_of_any_token():
    logits = np.array([[0.0, 1.0, 3.0], [1e4, 0.0, 0.0]], np.float32)
    found = log_probability(logits, np.array([1, 0]))
    np.testing.assert_allclose(found, [1 - np.log(1 + np.e + np.e**3), 0], rtol=1e-6)
