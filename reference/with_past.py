"""The same GPT-2 as programs drive it that generate by themselves.

Such a client holds the keys and values: it passes those of the tokens so far, the past, and gets
them back with the new ones behind them. Rows may be padded on either side. A mask says which tokens
are there, and each token's position is told.
"""

from typing import Any, TypedDict

import numpy as np

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
from .kv_cache import count


class LayerPast(TypedDict):
    """Keys and values of one block: [batch, n_head, n_past, n_embd / n_head] each.

    float32, or float16 for a past that takes half of the memory.
    """

    key: Array
    value: Array


def empty_past(hparams: HParams, batch: int, dtype: Any = np.float32) -> list[LayerPast]:
    """The past of rows that begin."""
    shape = (batch, hparams["n_head"], 0, hparams["n_embd"] // hparams["n_head"])
    return [
        {"key": np.zeros(shape, dtype), "value": np.zeros(shape, dtype)}
        for _ in range(hparams["n_layer"])
    ]


def hidden(input_ids: Array, attention_mask: Array, dtype: object) -> Array:
    # [batch, n_seq], [batch, n_past + n_seq] -> [batch, 1, n_seq, n_past + n_seq], added to scores
    places, new = count(attention_mask), count(input_ids)
    before = np.max(places, axis=-1, keepdims=True) - np.max(new, axis=-1, keepdims=True)
    later = places[:, None, None, :] > (before + new)[:, None, :, None]
    padding = attention_mask[:, None, None, :] == 0
    return (later | padding).astype(dtype) * MASKED


def logits_with_past(
    input_ids: Array,
    attention_mask: Array,
    position_ids: Array,
    past_key_values: list[LayerPast],
    wte: Array,
    wpe: Array,
    blocks: list[Params],
    ln_f: Params,
    n_head: int,
    lm_head: Array | None = None,
) -> tuple[Array, list[LayerPast]]:
    """Logits after each new token, and the past of the next ones.

    The same numbers as `gpt2` of each row without its padding, to rounding.

    Parameters
    ----------
    input_ids : int64 [batch, n_seq]
        New tokens; padding may be any valid id.
    attention_mask : int64 [batch, n_past + n_seq]
        1 for each token that is there, of the past and of the new ones; 0 for padding.
    position_ids : int64 [batch, n_seq]
        How many tokens stand before each; any valid position for padding.
    past_key_values : list of LayerPast
        One for each block.
    wte, wpe, blocks, ln_f, n_head, lm_head
        As in `gpt2`.

    Returns
    -------
    logits : float32 [batch, n_seq, n_vocab]
    present : list of LayerPast
        [batch, n_head, n_past + n_seq, n_embd / n_head] each, of the past's type.
    """
    x = wte[input_ids] + wpe[position_ids]
    mask = hidden(input_ids, attention_mask, x.dtype)
    present: list[LayerPast] = []
    for block, layer in zip(blocks, past_key_values, strict=True):
        qkv = linear(layer_norm(x, **block["ln_1"]), **block["attn"]["c_attn"])
        q, k, v = (split_heads(part, n_head) for part in np.split(qkv, 3, axis=-1))
        kept: LayerPast = {
            "key": np.concatenate([layer["key"], k.astype(layer["key"].dtype)], axis=2),
            "value": np.concatenate([layer["value"], v.astype(layer["value"].dtype)], axis=2),
        }
        present.append(kept)
        k, v = kept["key"].astype(x.dtype), kept["value"].astype(x.dtype)
        x = x + linear(merge_heads(attention(q, k, v, mask)), **block["attn"]["c_proj"])
        x = x + ffn(layer_norm(x, **block["ln_2"]), **block["mlp"])
    return unembed(layer_norm(x, **ln_f), wte if lm_head is None else lm_head), present
