"""GPT-2 in plain NumPy: the truth that every graph is traced from and checked against.

Every function takes any leading batch axes, written `...` in the shape comments, keeps
float32 in float32, and is called with arrays or with tracers alike. The shape of the code
follows picoGPT; the mathematics is in the reference below.

References
----------
Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
"""

import math
from typing import Any, TypeAlias, TypedDict

import numpy as np

from .dispatch import composite
from .tree import leaves

Array: TypeAlias = Any  # a NumPy array, or whatever stands in for one
Params: TypeAlias = dict[str, Any]  # the parameter tree: dicts and lists of arrays

LAYER_NORM_EPS = 1e-5
EMBEDDINGS = ("wte", "wpe")  # leaves of the parameter tree that tokens are looked up in
MASKED = -1e10  # added to a score before softmax; exp() of it is exactly 0 in float32


class HParams(TypedDict):
    """A model's sizes, under the names of OpenAI's `hparams.json`."""

    n_vocab: int
    n_ctx: int
    n_embd: int
    n_head: int
    n_layer: int


@composite
def gelu(x: Array) -> Array:  # [...] -> [...]
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


@composite
def softmax(x: Array) -> Array:  # [..., n] -> [..., n], each row sums to 1
    exp_x = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return exp_x / np.sum(exp_x, axis=-1, keepdims=True)


@composite
def log_softmax(x: Array) -> Array:  # [..., n] -> [..., n], the logarithm of softmax
    x = x - np.max(x, axis=-1, keepdims=True)
    return x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True))


@composite
def first_highest(x: Array) -> Array:  # [..., n] -> int64 [...], the first of equals
    return np.argmax(x, axis=-1)


@composite
def layer_norm(x: Array, g: Array, b: Array) -> Array:  # [..., n], [n], [n] -> [..., n]
    mean = np.mean(x, axis=-1, keepdims=True)
    variance = np.var(x, axis=-1, keepdims=True)
    return g * ((x - mean) / np.sqrt(variance + LAYER_NORM_EPS)) + b


@composite
def linear(
    x: Array, w: Array, b: Array
) -> Array:  # [..., n_in], [n_in, n_out], [n_out] -> [..., n_out]
    return x @ w + b


def ffn(
    x: Array, c_fc: Params, c_proj: Params
) -> Array:  # [..., n_seq, n_embd] -> [..., n_seq, n_embd]
    return linear(gelu(linear(x, **c_fc)), **c_proj)


@composite
def attention(q: Array, k: Array, v: Array, mask: Array) -> Array:
    # [..., n_q, d], [..., n_k, d], [..., n_k, d], [n_q, n_k] -> [..., n_q, d]
    scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])  # a Python float keeps float32
    return softmax(scores + mask) @ v


def causal_mask(n_seq: int, dtype: Any) -> Array:  # -> [n_seq, n_seq], MASKED above the diagonal
    return (1 - np.tri(n_seq, dtype=dtype)) * MASKED


def split_heads(x: Array, n_head: int) -> Array:  # [..., n_seq, n_embd] -> [..., n_head, n_seq, d]
    *batch, n_seq, n_embd = x.shape
    return np.swapaxes(np.reshape(x, (*batch, n_seq, n_head, n_embd // n_head)), -2, -3)


def merge_heads(x: Array) -> Array:  # [..., n_head, n_seq, d] -> [..., n_seq, n_embd]
    *batch, n_head, n_seq, d = x.shape
    return np.reshape(np.swapaxes(x, -2, -3), (*batch, n_seq, n_head * d))


def mha(x: Array, c_attn: Params, c_proj: Params, n_head: int) -> Array:
    # [..., n_seq, n_embd] -> [..., n_seq, n_embd]
    q, k, v = np.split(linear(x, **c_attn), 3, axis=-1)
    q, k, v = split_heads(q, n_head), split_heads(k, n_head), split_heads(v, n_head)
    x = attention(q, k, v, causal_mask(x.shape[-2], x.dtype))
    return linear(merge_heads(x), **c_proj)


def transformer_block(
    x: Array, mlp: Params, attn: Params, ln_1: Params, ln_2: Params, n_head: int
) -> Array:  # [..., n_seq, n_embd] -> [..., n_seq, n_embd]
    x = x + mha(layer_norm(x, **ln_1), **attn, n_head=n_head)
    return x + ffn(layer_norm(x, **ln_2), **mlp)


def transformer(inputs: Array, wte: Array, wpe: Array, blocks: list[Params], n_head: int) -> Array:
    # int64 [..., n_seq] -> [..., n_seq, n_embd]
    n_seq, n_ctx = inputs.shape[-1], wpe.shape[0]
    if n_seq > n_ctx:
        raise ValueError(f"{n_seq} tokens in a sequence; the model's n_ctx is {n_ctx}")
    x = wte[inputs] + wpe[:n_seq]
    for block in blocks:
        x = transformer_block(x, **block, n_head=n_head)
    return x


@composite
def unembed(x: Array, w: Array) -> Array:  # [..., n_embd], [n_vocab, n_embd] -> [..., n_vocab]
    return x @ w.T


def gpt2(
    inputs: Array,
    wte: Array,
    wpe: Array,
    blocks: list[Params],
    ln_f: Params,
    n_head: int,
    lm_head: Array | None = None,
) -> Array:  # [..., n_seq] -> [..., n_seq, n_vocab]
    """Logits for every position: row i predicts token i + 1.

    Parameters
    ----------
    inputs : int64 [..., n_seq]
        Token ids, 0 <= id < n_vocab. Padding on the right changes nothing to its left.
    wte : float32 [n_vocab, n_embd]
        Token embeddings, also the output projection.
    wpe : float32 [n_ctx, n_embd]
        Position embeddings.
    blocks, ln_f : tree of float32
        The transformer's blocks and the final LayerNorm.
    n_head : int
        Attention heads; divides n_embd.
    lm_head : float32 [n_vocab, n_embd], optional
        The output projection of a model whose `wte` is not that too.

    Returns
    -------
    float32 [..., n_seq, n_vocab]

    Raises
    ------
    ValueError
        Where n_seq exceeds n_ctx.

    References
    ----------
    Radford et al. 2019; the tree and the names are those of OpenAI's checkpoints.
    """
    x = transformer(inputs, wte, wpe, blocks, n_head)
    return unembed(layer_norm(x, **ln_f), wte if lm_head is None else lm_head)


def next_logits(
    inputs: Array,
    last: Array,
    wte: Array,
    wpe: Array,
    blocks: list[Params],
    ln_f: Params,
    n_head: int,
    lm_head: Array | None = None,
) -> Array:  # [..., n_seq], [...] -> [..., n_vocab]
    """Logits for the token that follows position `last` of each sequence.

    The same numbers as `gpt2(inputs, ...)` at those positions, without the output
    projection of all the others.

    Parameters
    ----------
    inputs : int64 [..., n_seq]
        Token ids, padded on the right with any valid id.
    last : int64 [...]
        Position of the last real token, 0 <= last < n_seq.
    wte, wpe, blocks, ln_f, n_head, lm_head
        As in `gpt2`.

    Returns
    -------
    float32 [..., n_vocab]
    """
    x = transformer(inputs, wte, wpe, blocks, n_head)
    x = np.take_along_axis(x, last[..., None, None], axis=-2)[..., 0, :]  # [..., n_embd]
    return unembed(layer_norm(x, **ln_f), wte if lm_head is None else lm_head)


def param_shapes(hparams: HParams, *, tied: bool = True) -> Params:
    """The parameter tree of a model of these sizes, with a shape at each leaf.

    Where `wte` is not tied to the output projection, the tree ends with an `lm_head`.
    """
    n_embd = hparams["n_embd"]

    def norm() -> Params:
        return {"g": (n_embd,), "b": (n_embd,)}

    def dense(n_in: int, n_out: int) -> Params:
        return {"w": (n_in, n_out), "b": (n_out,)}

    def block() -> Params:
        return {
            "ln_1": norm(),
            "attn": {"c_attn": dense(n_embd, 3 * n_embd), "c_proj": dense(n_embd, n_embd)},
            "ln_2": norm(),
            "mlp": {"c_fc": dense(n_embd, 4 * n_embd), "c_proj": dense(4 * n_embd, n_embd)},
        }

    embedding = (hparams["n_vocab"], n_embd)
    return {
        "wte": embedding,
        "wpe": (hparams["n_ctx"], n_embd),
        "blocks": [block() for _ in range(hparams["n_layer"])],
        "ln_f": norm(),
        **({} if tied else {"lm_head": embedding}),
    }


def param_count(hparams: HParams, *, tied: bool = True) -> int:
    """How many numbers a model of these sizes has; a tied `wte` counts once.

    >>> param_count(HParams(n_vocab=50257, n_ctx=1024, n_embd=768, n_head=12, n_layer=12))
    124439808
    """
    return sum(math.prod(shape) for _, shape in leaves(param_shapes(hparams, tied=tied)))
