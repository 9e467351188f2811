"""What the model makes of given text: the log-probability of each token of a continuation."""

from collections.abc import Sequence

import numpy as np

from .generate import log_probability
from .gpt2 import Array, Params, first_highest, layer_norm, transformer, unembed
from .kv_cache import LayerCache, cached_logits


def continuation_scores(
    context: Sequence[int], tokens: Sequence[int], params: Params, n_head: int
) -> tuple[Array, Array]:
    """Log-probabilities of tokens, each after the context and the tokens before it.

    Parameters
    ----------
    context : sequence of int
        At least one token id.
    tokens : sequence of int
        At least one; with the context at most n_ctx + 1 tokens.
    params : tree of float32 or float64
        As in `gpt2`; the result has its dtype.
    n_head : int
        Attention heads.

    Returns
    -------
    logprobs : float [n_tokens]
        Natural logarithms.
    greedy : int64 [n_tokens]
        The most likely token at each place.
    """
    ids = np.array([*context, *tokens], dtype=np.int64)
    x = transformer(ids[:-1], params["wte"], params["wpe"], params["blocks"], n_head)
    x = layer_norm(x[-len(tokens) :], **params["ln_f"])
    logits = unembed(x, params.get("lm_head", params["wte"]))  # [n_tokens, n_vocab]
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
