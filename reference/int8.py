"""The same model with integer matrix products.

A matrix is kept in 8 bits with a scale for each output channel; a row of activations is rounded
to 8 bits with a scale of its own when it meets one. What a row becomes follows from that row
alone. `quantize` puts such matrices into the parameter tree, and the functions of `gpt2.py` and
`kv_cache.py` are called with it as they are: `x @ w` then means `int8_matmul`. `kv_scales` are
what a KV cache in 8 bits needs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .dispatch import composite
from .gpt2 import Array, HParams, Params
from .kv_cache import cached_logits, empty_cache

LIMIT = 127  # -127 to 127: as far down as up
ZERO = 128  # what stands for 0 in unsigned 8 bits
SMALLEST = 1e-30  # a scale's: a row or a channel of zeros has one too
# Keys and values may be so many times as large as those of the tokens that their scales come from.
MARGIN = 2
# Products of two 8-bit numbers that a float32 adds up without rounding.
EXACT_PRODUCTS = 2**24 // LIMIT**2


class Int8Matrix(dict[str, Array]):
    """A matrix in 8 bits: `q` int8 or uint8 [n_in, n_out] and `scale` float32 [n_out].

    Column n stands for `q[:, n] * scale[n]`. Where `q` is unsigned it stands for `(q - ZERO)`, the
    same numbers, for processors whose products of signed ones are not exact. It takes part in
    `x @ w` and has the transpose of a matrix; a dict, so that it is a part of the parameter tree.
    """

    __array_ufunc__ = None  # leaves `x @ w` to the method below

    def __rmatmul__(self, x: Array) -> Array:
        return int8_matmul(x, self["q"], self["scale"])


class Int8Table(dict[str, Array]):
    """Embeddings in 8 bits: `q` uint8 [n, n_embd] and `scale` float32 [n].

    Row n stands for `(q[n] - ZERO) * scale[n]`. Looked up as float32; transposed, an output
    projection with the same numbers.
    """

    def __getitem__(self, key: Any) -> Array:
        if isinstance(key, str):
            return super().__getitem__(key)
        q, scale = self["q"][key], self["scale"][key]
        return (q.astype(np.float32) - ZERO) * scale[..., None]

    @property
    def T(self) -> Int8Matrix:  # noqa: N802
        return Int8Matrix(q=np.transpose(self["q"]), scale=self["scale"])


def quantize_matrix(w: Array, *, unsigned: bool = False) -> Int8Matrix:
    """Round a float32 matrix [n_in, n_out] to 8 bits, each column by its largest number."""
    scale = np.maximum(np.max(np.abs(w), axis=0), SMALLEST) / np.float32(LIMIT)
    q = np.rint(w / scale)
    if unsigned:
        return Int8Matrix(q=(q + ZERO).astype(np.uint8, order="C"), scale=scale)
    return Int8Matrix(q=q.astype(np.int8, order="C"), scale=scale)


def quantize_table(w: Array) -> Int8Table:
    """Round embeddings [n, n_embd] to unsigned 8 bits, each row by its largest number."""
    columns = quantize_matrix(np.transpose(w), unsigned=True)
    return Int8Table(q=np.ascontiguousarray(columns["q"].T), scale=columns["scale"])


def quantize(params: Params, *, unsigned: bool = False) -> Params:
    """The parameter tree with every matrix of a product in 8 bits."""
    return each_matrix(params, lambda _, w: quantize_matrix(w, unsigned=unsigned))


def quantize_whole(params: Params) -> Params:
    """The parameter tree with every matrix in unsigned 8 bits, embeddings of tokens too.

    As it is exported: a tied `wte` is stored once, and processors of all kinds multiply unsigned
    numbers exactly. Positions, biases and LayerNorms stay as they are.
    """
    tables: Params = {n: quantize_table(params[n]) for n in ("wte", "lm_head") if n in params}
    blocks = each_linear(params, lambda _, w: quantize_matrix(w, unsigned=True))
    return {**params, **tables, "blocks": blocks}


def each_matrix(params: Params, replace: Callable[[str, Array], Int8Matrix]) -> Params:
    """The parameter tree with something else for every matrix of a product.

    Embeddings that are looked up, biases and LayerNorms stay as they are. The output projection
    becomes a leaf of its own, `lm_head`, whose channels are the vocabulary.

    Parameters
    ----------
    params : tree of float32
        As in `gpt2`.
    replace : callable
        Given a matrix's path in the new tree and the matrix [n_in, n_out]; returns what is there.
    """
    head: Array = params.get("lm_head", params["wte"])
    return {
        "wte": params["wte"],
        "wpe": params["wpe"],
        "blocks": each_linear(params, replace),
        "ln_f": params["ln_f"],
        "lm_head": Int8Head(replace("lm_head", np.transpose(head))),
    }


def each_linear(params: Params, replace: Callable[[str, Array], Params]) -> list[Params]:
    """The blocks of a parameter tree with something else for every matrix, as in `each_matrix`."""

    def linears(path: str, part: Params) -> Params:
        return {
            name: {**layer, "w": replace(f"{path}.{name}.w", layer["w"])}
            for name, layer in part.items()
        }

    return [
        {
            "ln_1": block["ln_1"],
            "attn": linears(f"blocks.{n}.attn", block["attn"]),
            "ln_2": block["ln_2"],
            "mlp": linears(f"blocks.{n}.mlp", block["mlp"]),
        }
        for n, block in enumerate(params["blocks"])
    ]


def kv_scales(params: Params, hparams: HParams) -> Array:
    """The scales of a KV cache in 8 bits, for each channel of each head.

    From the largest keys and values of n_ctx random tokens, so that every position takes part and
    no text has to be chosen for a model. What is larger than `MARGIN` times that is cut off.

    Parameters
    ----------
    params : tree of float32
        As in `gpt2`.
    hparams : HParams
        The model's sizes.

    Returns
    -------
    float32 [n_layer, 2, 1, n_head, 1, d]
        Of keys and of values.
    """
    n_ctx = hparams["n_ctx"]
    ids = np.random.default_rng(0).integers(0, hparams["n_vocab"], (1, n_ctx))
    nothing = np.zeros((1, 0), np.int64)
    cache = empty_cache(hparams, 1, n_ctx)
    _, cache = cached_logits(
        ids, np.zeros(1, np.int64), nothing, cache, **params, n_head=hparams["n_head"]
    )
    largest = [
        [np.max(np.abs(x), axis=2, keepdims=True) for x in (layer["k"], layer["v"])]
        for layer in cache
    ]
    return np.maximum(np.array(largest), SMALLEST) * np.float32(MARGIN / LIMIT)


class Int8Head(Int8Matrix):
    """An output projection, which the model takes transposed: it is kept as it is multiplied."""

    @property
    def T(self) -> Int8Matrix:  # noqa: N802
        return Int8Matrix(self)


@composite
def int8_matmul(x: Array, q: Array, scale: Array) -> Array:
    # float32 [..., n_in], int8 or uint8 [n_in, n_out], float32 [n_out] -> float32 [..., n_out]
    zero = ZERO if q.dtype == np.uint8 else 0
    row_scale = np.maximum(np.max(np.abs(x), axis=-1, keepdims=True), SMALLEST) / LIMIT
    rounded = np.rint(x / row_scale)  # whole numbers
    products = [  # exact, and at the speed of float32
        rounded[..., at] @ (q[at].astype(x.dtype) - zero)
        for at in (slice(n, n + EXACT_PRODUCTS) for n in range(0, q.shape[0], EXACT_PRODUCTS))
    ]
    return sum(products[1:], products[0]) * row_scale * scale
