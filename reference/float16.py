"""The same model with its matrices in half precision.

Matrices and embeddings are kept in float16, and a product takes and gives float16. What lies
between products is computed in float32, where activations as large as trained models have them
find room, and so are the logits, which lie close together far from zero. `in_float16` puts such
matrices into the parameter tree, and the functions of `gpt2.py` and `with_past.py` are called with
it as they are.
"""

from typing import Any

import numpy as np

from .dispatch import composite
from .gpt2 import Array, Params
from .int8 import each_linear

TABLES = ("wte", "wpe", "lm_head")
HALF = "half"  # a matrix's one array, in the parameter tree


class Float16Matrix(dict[str, Array]):
    """A matrix of a product: `half` float16 [n_in, n_out]. It takes part in `x @ w`."""

    __array_ufunc__ = None  # leaves `x @ w` to the method below

    def __rmatmul__(self, x: Array) -> Array:
        return float16_matmul(x, self[HALF])


class Float16Table(dict[str, Array]):
    """Embeddings: `half` float16 [n, n_embd], looked up as float32; so is its transpose."""

    @property
    def shape(self) -> Any:
        return self[HALF].shape

    def __getitem__(self, key: Any) -> Array:
        if isinstance(key, str):
            return super().__getitem__(key)
        return self[HALF][key].astype(np.float32)

    @property
    def T(self) -> Array:  # noqa: N802
        return self[HALF].astype(np.float32).T


def in_float16(params: Params) -> Params:
    """The parameter tree with every matrix and the embeddings in float16.

    Raises
    ------
    OverflowError
        Where a weight is too large.
    """
    tables = {n: Float16Table(half=_half(n, params[n])) for n in TABLES if n in params}
    blocks = each_linear(params, lambda path, w: Float16Matrix(half=_half(path, w)))
    return {**params, **tables, "blocks": blocks}


def _half(path: str, w: Array) -> Array:
    with np.errstate(over="ignore"):
        half = w.astype(np.float16)
    if not np.isfinite(half).all():
        raise OverflowError(f"{path}: numbers up to {np.max(np.abs(w)):.3g}")
    return half


@composite
def float16_matmul(x: Array, half: Array) -> Array:
    # float32 [..., n_in], float16 [n_in, n_out] -> float32 [..., n_out]
    rounded = x.astype(half.dtype).astype(x.dtype)  # and multiplied in float32
    return (rounded @ half.astype(x.dtype)).astype(half.dtype).astype(x.dtype)
