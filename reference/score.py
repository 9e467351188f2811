"""What the model makes of given text: the log-probability of each token of a continuation."""

from collections.abc import Sequence

import numpy as np

from .generate import log_probability
from .gpt2 import Array, HParams, Params, first_highest, layer_norm, transformer, unembed
from .kv_cache import LayerCache, cached_logits, empty_cache


def last_logits(
    ids: Array, n_last: int, params: Params, hparams: HParams, kv_scales: Array | None = None
) -> Array:  # [n_seq], -> [n_last, n_vocab]
    """Logits for what follows each of a sequence's last tokens.

    Parameters
    ----------
    ids : int64 [n_seq]
        Token ids.
    n_last : int
        For how many of them; at least one.
    params : tree of float32 or float64
        As in `gpt2`; the result has its dtype.
    hparams : HParams
        Of the model.
    kv_scales : float32 [n_layer, 2, 1, n_head, 1, d], optional
        Where keys and values are in 8 bits: each token finds the others as the cache keeps them.
    """
    n_head = hparams["n_head"]
    if kv_scales is not None:
        read = np.arange(len(ids) - n_last, len(ids))[None]
        cache = empty_cache(hparams, 1, len(ids), kv_scales)
        start = np.zeros(1, np.int64)
        return cached_logits(ids[None], start, read, cache, **params, n_head=n_head)[0]
    x = transformer(ids, params["wte"], params["wpe"], params["blocks"], n_head)
    x = layer_norm(x[-n_last:], **params["ln_f"])
    return unembed(x, params.get("lm_head", params["wte"]))


def continuation_scores(
    context: Sequence[int],
    tokens: Sequence[int],
    params: Params,
    hparams: HParams,
    kv_scales: Array | None = None,
) -> tuple[Array, Array]:
    """Log-probabilities of tokens, each after the context and the tokens before it.

    Parameters
    ----------
    context : sequence of int
        At least one token id.
    tokens : sequence of int
        At least one; with the context at most n_ctx + 1 tokens.
    params, hparams, kv_scales
        As in `last_logits`.

    Returns
    -------
    logprobs : float [n_tokens]
        Natural logarithms.
    greedy : int64 [n_tokens]
        The most likely token at each place.
    """
    ids = np.array([*context, *tokens], dtype=np.int64)
    logits = last_logits(ids[:-1], len(tokens), params, hparams, kv_scales)
    return log_probability(logits, ids[-len(tokens) :]), first_highest(logits)


def score_step(
    inputs: Array,
    past: Array,
    read: Array,
    targets: Array,
    at: Array,
    hidden: Array,
    cache: list[LayerCache],
    wte: Array,
    wpe: Array,
    blocks: list[Params],
    ln_f: Params,
    n_head: int,
    lm_head: Array | None = None,
) -> tuple[Array, Array, list[LayerCache]]:
    """Take in new tokens, and score what is said to follow some of them.

    Parameters
    ----------
    inputs, past, read, at, hidden, cache, wte, wpe, blocks, ln_f, n_head, lm_head
        As in `cached_logits`.
    targets : int64 [batch, n_read]
        The token that is scored at each place that is read.

    Returns
    -------
    logprobs : float32 [batch * n_read]
        Natural log-probabilities of the targets, row after row.
    greedy : int64 [batch * n_read]
        The most likely tokens there, the first of equals.
    cache : list of LayerCache
        With the new tokens.
    """
    logits, cache = cached_logits(
        inputs, past, read, cache, wte, wpe, blocks, ln_f, n_head, lm_head, at, hidden
    )
    batch, n_read = targets.shape
    targets = np.reshape(targets, (batch * n_read,))
    return log_probability(logits, targets), first_highest(logits), cache
