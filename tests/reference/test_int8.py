"""The model with integer products: what it rounds, and that a row rounds alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from reference import gpt2
from reference.int8 import (
    EXACT_PRODUCTS,
    LIMIT,
    ZERO,
    Int8Matrix,
    int8_matmul,
    quantize,
    quantize_matrix,
    quantize_table,
    quantize_whole,
)
from reference.tree import leaves, tree_map

numbers = st.floats(-100, 100, width=32)


@given(
    w=arrays.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=numbers)
)
def test_a_matrix_is_rounded_column_by_column(w):
    found = quantize_matrix(w)
    assert found["q"].dtype == np.int8
    assert found["scale"].dtype == np.float32
    assert np.abs(found["q"]).max() <= LIMIT
    np.testing.assert_allclose(
        found["q"] * found["scale"], w, rtol=1e-5, atol=found["scale"].max() * 0.5001
    )
    largest = np.abs(w).max(axis=0)
    filled = largest > 1e-20
    assert (np.abs(found["q"]).max(axis=0)[filled] == LIMIT).all()


def exact_product(x, q, scale):
    """The same in whole numbers of any size."""
    row_scale = np.maximum(np.abs(x).max(axis=-1, keepdims=True), 1e-30) / np.float32(LIMIT)
    rounded = np.rint(x / row_scale).astype(np.int64)
    return (rounded @ q.astype(np.int64)) * row_scale.astype(np.float64) * scale


@pytest.mark.parametrize("n_in", [1, 7, EXACT_PRODUCTS, EXACT_PRODUCTS + 1, 3072])
def test_products_are_those_of_whole_numbers(n_in):
    """Also where all of them are as large as they get."""
    rng = np.random.default_rng(0)
    q = rng.integers(-127, 128, (n_in, 5)).astype(np.int8)
    q[:, 0] = 127
    scale = rng.random(5, np.float32) + 0.5
    x = rng.standard_normal((4, n_in), np.float32)
    x[0] = 3
    np.testing.assert_allclose(int8_matmul(x, q, scale), exact_product(x, q, scale), rtol=3e-7)


@pytest.mark.parametrize("n_in", [7, EXACT_PRODUCTS + 1])
def test_unsigned_ones_stand_for_the_same_numbers(n_in):
    rng = np.random.default_rng(2)
    w, x = rng.standard_normal((n_in, 5), np.float32), rng.standard_normal((4, n_in), np.float32)
    signed, unsigned = quantize_matrix(w), quantize_matrix(w, unsigned=True)
    assert unsigned["q"].dtype == np.uint8
    assert (unsigned["q"].astype(int) - ZERO == signed["q"]).all()
    np.testing.assert_array_equal(x @ unsigned, x @ signed)


def test_a_row_is_rounded_by_itself():
    rng = np.random.default_rng(1)
    w = quantize_matrix(rng.standard_normal((16, 8), np.float32))
    x = rng.standard_normal((2, 3, 16), np.float32)
    x[1] *= 1000
    together = x @ w
    for place in np.ndindex(2, 3):
        np.testing.assert_array_equal(together[place], (x[place][None] @ w)[0])


def test_zeros_stay_zeros():
    w = quantize_matrix(np.zeros((4, 3), np.float32))
    assert not (np.ones((2, 4), np.float32) @ w).any()
    w = quantize_matrix(np.eye(4, dtype=np.float32))
    assert not (np.zeros((2, 4), np.float32) @ w).any()


@pytest.mark.parametrize("tied", [True, False])
def test_the_functions_of_the_model_take_it_as_they_are(tiny, tied):
    hparams, params = tiny
    if not tied:
        params = {**params, "lm_head": params["wte"][::-1].copy()}
    found = quantize(params)
    assert isinstance(found["blocks"][1]["mlp"]["c_fc"]["w"], Int8Matrix)
    assert found["wte"] is params["wte"]
    assert found["lm_head"]["q"].shape == (hparams["n_embd"], hparams["n_vocab"])
    ids = np.arange(12).reshape(2, 6)
    exact = gpt2(ids, **params, n_head=3)
    logits = gpt2(ids, **found, n_head=3)
    assert logits.dtype == np.float32
    # Measured: 0.016 of the spread, tied or not.
    assert 0 < np.sqrt(np.mean((logits - exact) ** 2)) < 0.03 * exact.std()


def test_the_tree_keeps_its_kinds(tiny):
    found = quantize(tiny[1])
    again = tree_map(lambda _, array: array, found)
    assert [path for path, _ in leaves(again)] == [path for path, _ in leaves(found)]
    assert type(again["lm_head"]) is type(found["lm_head"])
    assert "blocks.0.attn.c_attn.w.q" in dict(leaves(found))


def test_a_model_in_int8_has_a_name_of_its_own(demo):
    found = demo.in_int8()
    assert found.hparams == demo.hparams
    assert found.weights_sha256 != demo.weights_sha256
    assert not found.checkpoint.stored


# With embeddings in 8 bits too, as it is exported.


def test_embeddings_in_8_bits_are_looked_up_and_multiplied_as_the_same_numbers():
    rng = np.random.default_rng(3)
    w, x = rng.standard_normal((7, 5), np.float32), rng.standard_normal((4, 5), np.float32)
    table = quantize_table(w)
    rows = (table["q"].astype(np.float32) - ZERO) * table["scale"][:, None]
    np.testing.assert_array_equal(table[[3, 0]], rows[[3, 0]])
    assert table[0].dtype == np.float32
    assert np.abs(rows - w).max() <= np.abs(w).max() / LIMIT / 2 * 1.001
    np.testing.assert_array_equal(x @ table.T, x @ quantize_matrix(w.T))


@pytest.mark.parametrize("tied", [True, False])
def test_the_whole_model_in_8_bits(tiny, tied):
    _, params = tiny
    if not tied:
        params = {**params, "lm_head": params["wte"][::-1].copy()}
    found = quantize_whole(params)
    assert ("lm_head" in found) == (not tied)
    assert {a.dtype.name for path, a in leaves(found) if path.endswith(".q")} == {"uint8"}
    ids = np.arange(12).reshape(2, 6)
    exact, logits = (gpt2(ids, **tree, n_head=3) for tree in (params, found))
    # Measured: 0.017 of the spread.
    assert 0 < np.sqrt(np.mean((logits - exact) ** 2)) < 0.03 * exact.std()
