"""The same GPT-2 with a KV cache: what the tokens so far have to offer is computed once.

A row's cache has a fixed number of places, n_cap; the token at position p has its keys and
values at place p. New tokens go to the places after `past`, the number of those that are
there already, and attend to all up to their own. Rows are ragged: each has its own `past`,
and those with fewer new tokens than others are padded on the right. What padding leaves in a
cache lies behind the row's tokens, is never attended to, and is overwritten by later ones.

A cache may be kept in 8 bits, each channel (a number of a head) with a scale that is known
beforehand: what a token puts there follows from the token alone.
"""

from typing import NotRequired, TypedDict

import numpy as np

from .dispatch import composite
from .gpt2 import (
    MASKED,
    Array,
    HParams,
    Params,
    attention,
    ffn,
    layer_norm,
    linear,
    merge_heads,
    split_heads,
    unembed,
)


class LayerCache(TypedDict):
    """Keys and values of one block: [batch, n_head, n_cap, d] each, d = n_embd / n_head.

    float32, or int8 with scales, float32 [1, n_head, 1, d]: a number q stands for `q * scale`.
    """

    k: Array
    v: Array
    k_scale: NotRequired[Array]
    v_scale: NotRequired[Array]


def empty_cache(
    hparams: HParams, batch: int, n_cap: int, scales: Array | None = None
) -> list[LayerCache]:
    """A cache without tokens, for a batch of rows of up to `n_cap` tokens.

    In 8 bits where there are `scales`, float32 [n_layer, 2, 1, n_head, 1, d].
    """
    shape = (batch, hparams["n_head"], n_cap, hparams["n_embd"] // hparams["n_head"])

    def layer(n: int) -> LayerCache:
        if scales is None:
            return {"k": np.zeros(shape, np.float32), "v": np.zeros(shape, np.float32)}
        return {
            "k": np.zeros(shape, np.int8),
            "v": np.zeros(shape, np.int8),
            "k_scale": scales[n, 0],
            "v_scale": scales[n, 1],
        }

    return [layer(n) for n in range(hparams["n_layer"])]


def count(x: Array) -> Array:  # [..., n] -> int64 [..., n]: 0, 1, 2, ... in each row
    return np.cumsum(np.ones_like(x, dtype=np.int64), axis=-1) - 1


def put(cache: Array, new: Array, at: Array) -> Array:
    # [batch, n_head, n_cap, d], [batch, n_head, n_seq, d], [batch, n_seq] -> as cache
    at = at[:, None, :, None]
    first, last = np.min(at, axis=2, keepdims=True), np.max(at, axis=2, keepdims=True)
    places = count(cache[:, :1, :, 0])[..., None]  # [batch, 1, n_cap, 1]
    source = np.minimum(np.maximum(places - first, 0), last - first)
    here = (places >= first) & (places <= last)
    return np.where(here, np.take_along_axis(new, source, axis=2), cache)


def rounded(x: Array, scale: Array) -> Array:  # [..., n], [n] -> whole numbers that fit int8
    return np.clip(np.rint(x * (1 / scale)), -128, 127)


@composite
def cached_attention(
    qkv: Array,
    k_cache: Array,
    v_cache: Array,
    past: Array,
    n_head: int,
    hidden: Array | None = None,
) -> tuple[Array, Array, Array]:
    # [batch, n_seq, 3 * n_embd], [batch, n_head, n_cap, d] twice, [batch], [batch, 1, n_seq, n_cap]
    # -> [batch, n_seq, n_embd], and both caches with the new tokens
    at = past[:, None] + count(qkv[..., 0])  # [batch, n_seq]
    q, k, v = (split_heads(x, n_head) for x in np.split(qkv, 3, axis=-1))
    k_cache, v_cache = put(k_cache, k, at), put(v_cache, v, at)
    later = count(k_cache[:, :1, :, 0])[..., None, :] > at[:, None, :, None]
    mask = later.astype(qkv.dtype) * MASKED  # [batch, 1, n_seq, n_cap]
    if hidden is not None:
        mask = mask + hidden
    return merge_heads(attention(q, k_cache, v_cache, mask)), k_cache, v_cache


@composite
def cached_attention_int8(
    qkv: Array,
    k_cache: Array,
    v_cache: Array,
    past: Array,
    n_head: int,
    k_scale: Array,
    v_scale: Array,
    hidden: Array | None = None,
) -> tuple[Array, Array, Array]:
    # As `cached_attention` with int8 caches, and their scales [1, n_head, 1, d]
    q, k, v = np.split(qkv, 3, axis=-1)
    k_scale, v_scale = np.reshape(k_scale, (-1,)), np.reshape(v_scale, (-1,))  # [n_embd]
    # The caches' whole numbers take part as they are: the scales go to the queries and the result.
    whole = np.concatenate([q * k_scale, rounded(k, k_scale), rounded(v, v_scale)], axis=-1)
    k_cache, v_cache = k_cache.astype(qkv.dtype), v_cache.astype(qkv.dtype)
    x, k_cache, v_cache = cached_attention(whole, k_cache, v_cache, past, n_head, hidden)
    return x * v_scale, k_cache.astype(np.int8), v_cache.astype(np.int8)


def cached_logits(
    inputs: Array,
    past: Array,
    read: Array,
    cache: list[LayerCache],
    wte: Array,
    wpe: Array,
    blocks: list[Params],
    ln_f: Params,
    n_head: int,
    lm_head: Array | None = None,
    at: Array | None = None,
    hidden: Array | None = None,
) -> tuple[Array, list[LayerCache]]:
    """Take in new tokens, and give the logits for what follows some of them.

    With a cache in float32 the same numbers as `gpt2` of each row's tokens at those positions,
    to rounding.

    Parameters
    ----------
    inputs : int64 [batch, n_seq]
        New tokens of each row, padded on the right with any valid id.
    past : int64 [batch]
        Tokens that each row's cache holds; with the new ones at most n_cap.
    read : int64 [batch, n_read]
        Which of the new tokens to give logits for, 0 <= read < n_seq; n_read may be 0.
    cache : list of LayerCache
        One for each block. Left as it is.
    wte, wpe, blocks, ln_f, n_head, lm_head
        As in `gpt2`.
    at : int64 [batch, n_seq], optional
        Positions of the new tokens; by default those after `past`. Their places in the cache are
        these in any case.
    hidden : float32 [batch, 1, n_seq, n_cap], optional
        `MASKED` where a new token does not attend to a place before its own, and 0 elsewhere: so
        several continuations of one beginning can stand in one row.

    Returns
    -------
    logits : float32 [batch * n_read, n_vocab]
        Row after row.
    cache : list of LayerCache
        With the new tokens at the places from `past` on.
    """
    (batch, n_seq), n_read, n_embd = inputs.shape, read.shape[1], wte.shape[1]

    def chosen(x: Array) -> Array:  # [batch * n_seq, n_embd] -> [batch * n_read, n_embd]
        x = np.take_along_axis(np.reshape(x, (batch, n_seq, n_embd)), read[..., None], axis=1)
        return np.reshape(x, (batch * n_read, n_embd))

    if at is None:
        at = np.minimum(past[:, None] + count(inputs), wpe.shape[0] - 1)  # padding may lie beyond
    x = np.reshape(wte[inputs] + wpe[at], (batch * n_seq, n_embd))
    grown: list[LayerCache] = []
    for block, layer in zip(blocks, cache, strict=True):
        qkv = linear(layer_norm(x, **block["ln_1"]), **block["attn"]["c_attn"])
        qkv = np.reshape(qkv, (batch, n_seq, 3 * n_embd))
        if "k_scale" in layer:
            mixed, k, v = cached_attention_int8(
                qkv,
                layer["k"],
                layer["v"],
                past,
                n_head,
                layer["k_scale"],
                layer["v_scale"],
                hidden,
            )
        else:
            mixed, k, v = cached_attention(qkv, layer["k"], layer["v"], past, n_head, hidden)
        grown.append({**layer, "k": k, "v": v})
        mixed = np.reshape(mixed, (batch * n_seq, n_embd))
        if len(grown) == len(blocks):  # what follows is of use to no other token
            x, mixed = chosen(x), chosen(mixed)
        x = x + linear(mixed, **block["attn"]["c_proj"])
        x = x + ffn(layer_norm(x, **block["ln_2"]), **block["mlp"])
    return unembed(layer_norm(x, **ln_f), wte if lm_head is None else lm_head), grown
