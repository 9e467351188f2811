"""The model with matrices in half precision: what is rounded, and what is not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from reference import gpt2
from reference.float16 import Float16Matrix, Float16Table, in_float16
from reference.tree import leaves, tree_map
from reference.with_past import empty_past, logits_with_past

numbers = st.floats(-100, 100, width=32)


@given(
    x=arrays.arrays(np.float32, (3, 5), elements=numbers),
    w=arrays.arrays(np.float32, (5, 4), elements=numbers),
)
def test_a_product_is_that_of_rounded_numbers_rounded(x, w):
    half = w.astype(np.float16)
    found = x @ Float16Matrix(half=half)
    exact = x.astype(np.float16).astype(float) @ half.astype(float)
    assert found.dtype == np.float32
    assert (found == found.astype(np.float16)).all()
    most = np.abs(x).astype(np.float16).astype(float) @ np.abs(half).astype(float)
    assert (np.abs(found - exact) <= np.maximum(np.abs(exact) * 2**-11, 2**-24) + most * 1e-6).all()


def test_embeddings_are_looked_up_and_turned_as_float32():
    half = np.arange(12, dtype=np.float16).reshape(4, 3)
    table = Float16Table(half=half)
    assert table.shape == (4, 3)
    for found, expected in (
        (table[[2, 0]], half[[2, 0]]),
        (table[:2], half[:2]),
        (table.T, half.T),
    ):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("tied", [True, False])
def test_the_functions_of_the_model_take_it_as_they_are(tiny, tied):
    hparams, params = tiny
    if not tied:
        params = {**params, "lm_head": params["wte"][::-1].copy()}
    half = in_float16(params)
    assert {a.dtype.name for path, a in leaves(half) if path.endswith("half")} == {"float16"}
    assert "wpe.half" in dict(leaves(half))
    assert half["ln_f"] is params["ln_f"]
    ids = np.arange(12).reshape(2, 6)
    exact, logits = (gpt2(ids, **tree, n_head=3) for tree in (params, half))
    assert logits.dtype == np.float32
    # Measured: 7e-4 of the spread.
    assert 0 < np.sqrt(np.mean((logits - exact) ** 2)) < 2e-3 * exact.std()
    past = empty_past(hparams, 2, np.float16)
    mask, positions = np.ones((2, 6), int), np.arange(6)[None]
    found, present = logits_with_past(ids, mask, positions, past, **half, n_head=3)
    assert {array.dtype.name for _, array in leaves(present)} == {"float16"}
    assert 0 < np.sqrt(np.mean((found - exact) ** 2)) < 2e-3 * exact.std()


def test_a_number_that_finds_no_room(tiny):
    params = tree_map(lambda _, array: array.copy(), tiny[1])
    params["blocks"][1]["mlp"]["c_fc"]["w"][2, 3] = 7e4
    with pytest.raises(OverflowError, match=r"blocks.1.mlp.c_fc.w: numbers up to 7e\+04"):
        in_float16(params)


def test_the_tree_keeps_its_kinds(tiny):
    found = in_float16(tiny[1])
    again = tree_map(lambda _, array: array, found)
    assert type(again["wte"]) is Float16Table
    assert type(again["blocks"][0]["attn"]["c_attn"]["w"]) is Float16Matrix
