import numpy as np
import pytest

from reference import HParams, gpt2, next_logits, param_count, param_shapes
from reference.gpt2 import causal_mask, gelu, layer_norm, softmax
from reference.tree import leaves


def test_everything_stays_float32(tiny):
    hparams, params = tiny
    logits = gpt2(np.arange(5), **params, n_head=hparams["n_head"])
    assert logits.dtype == np.float32
    assert logits.shape == (5, hparams["n_vocab"])


@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3)])
def test_leading_axes_are_independent_sequences(tiny, batch):
    hparams, params = tiny
    ids = np.random.default_rng(1).integers(0, hparams["n_vocab"], (*batch, 7))
    logits = gpt2(ids, **params, n_head=hparams["n_head"])
    assert logits.shape == (*batch, 7, hparams["n_vocab"])
    for place in np.ndindex(*batch):
        alone = gpt2(ids[place], **params, n_head=hparams["n_head"])
        # Other shapes, other blocking in NumPy's matmul: measured 7e-7 on logits of spread 2.
        np.testing.assert_allclose(logits[place], alone, atol=1e-5)


def test_a_position_does_not_see_what_follows(tiny):
    hparams, params = tiny
    ids = np.arange(10)
    changed = ids.copy()
    changed[6:] = 50
    before, after = (gpt2(x, **params, n_head=hparams["n_head"]) for x in (ids, changed))
    np.testing.assert_array_equal(before[:6], after[:6])
    assert not np.array_equal(before[6:], after[6:])


def test_next_logits_are_the_row_of_the_last_token(tiny):
    hparams, params = tiny
    ids = np.random.default_rng(2).integers(0, hparams["n_vocab"], (4, 9))
    last = np.array([8, 0, 3, 5])
    found = next_logits(ids, last, **params, n_head=hparams["n_head"])
    everything = gpt2(ids, **params, n_head=hparams["n_head"])
    np.testing.assert_allclose(found, everything[np.arange(4), last], atol=1e-5)


def test_a_sequence_longer_than_n_ctx_is_refused(tiny):
    hparams, params = tiny
    with pytest.raises(ValueError, match="17 tokens in a sequence; the model's n_ctx is 16"):
        gpt2(np.zeros(17, dtype=np.int64), **params, n_head=hparams["n_head"])


@pytest.mark.parametrize(
    ("name", "sizes", "count"),
    [
        ("124M", (50257, 1024, 768, 12, 12), 124_439_808),
        ("1558M", (50257, 1024, 1600, 25, 48), 1_557_611_200),
    ],
)
def test_param_count_of_openai_models(name, sizes, count):
    hparams = dict(zip(HParams.__annotations__, sizes, strict=True))
    assert param_count(hparams) == count


def test_param_count_is_the_size_of_the_tree(demo):
    assert param_count(demo.hparams) == sum(a.size for _, a in leaves(demo.params))
    shapes = dict(leaves(param_shapes(demo.hparams)))
    assert shapes == {path: array.shape for path, array in leaves(demo.params)}


def test_parts_against_their_definitions():
    x = np.array([[-2.0, -0.5, 0.0, 1.0, 3.0]], dtype=np.float32)
    # The tanh form of GELU by its formula in float64, Hendrycks and Gimpel 2016.
    exact = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x.astype(np.float64) + 0.044715 * x**3)))
    np.testing.assert_allclose(gelu(x), exact, atol=1e-6)
    np.testing.assert_allclose(softmax(x).sum(axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(softmax(x + 1000), softmax(x), atol=1e-6)
    normed = layer_norm(x, np.float32(2), np.float32(1))
    np.testing.assert_allclose(normed.mean(), 1, atol=1e-6)
    np.testing.assert_allclose(normed.std(), 2, atol=1e-4)
    assert causal_mask(3, np.float32).tolist() == [[0, -1e10, -1e10], [0, 0, -1e10], [0, 0, 0]]
