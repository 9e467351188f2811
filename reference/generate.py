"""The slow greedy loop: no cache, one sequence, the oracle for everything faster."""

from collections.abc import Iterator, Sequence

import numpy as np

from .gpt2 import Array, Params, first_highest, gpt2, log_softmax
from .kv_cache import LayerCache, cached_logits
from .tokenizer import Choices


def most_likely(logits: Array, choices: Choices = slice(None)) -> Array:  # [..., n] -> [...]
    """The id of the highest logit, the first of equals, among those that can be chosen."""
    found = first_highest(logits[..., choices])
    return found if isinstance(choices, slice) else choices[found]


def log_probability(logits: Array, tokens: Array) -> Array:  # [..., n], [...] -> [...]
    """The natural log-probability of each token under its logits."""
    return np.take_along_axis(log_softmax(logits), tokens[..., None], axis=-1)[..., 0]


def greedy_step(
    inputs: Array,
    past: Array,
    read: Array,
    cache: list[LayerCache],
    choices: Choices,
    wte: Array,
    wpe: Array,
    blocks: list[Params],
    ln_f: Params,
    n_head: int,
    lm_head: Array | None = None,
) -> tuple[Array, Array, Array, list[LayerCache]]:
    """Take in new tokens, and choose what follows some of them.

    Parameters
    ----------
    inputs, past, read, cache, wte, wpe, blocks, ln_f, n_head, lm_head
        As in `cached_logits`.
    choices : slice or int64 array
        Ids that can be chosen, as `Tokenizer.choices`. What a model has beyond its tokenizer
        pads a matrix: it takes its share of the probability, as in the model, but stands for no
        text.

    Returns
    -------
    tokens : int64 [batch * n_read]
        The most likely ones, row after row.
    logprobs : float32 [batch * n_read]
        Their natural log-probabilities.
    logits : float32 [batch * n_read, n_vocab]
    cache : list of LayerCache
        With the new tokens.
    """
    logits, cache = cached_logits(
        inputs, past, read, cache, wte, wpe, blocks, ln_f, n_head, lm_head
    )
    tokens = most_likely(logits, choices)
    return tokens, log_probability(logits, tokens), logits, cache


def greedy(
    ids: Sequence[int], params: Params, n_head: int, choices: Choices = slice(None)
) -> Iterator[int]:
    """Yield the most likely next token, append it, and go on until n_ctx is full.

    Parameters
    ----------
    ids : sequence of int
        The prompt's token ids, at least one.
    params : tree of float32
        As in `gpt2`.
    n_head : int
        Attention heads.
    choices : slice or int64 array
        Ids that can be chosen, as `Tokenizer.choices`; by default all of the model's.

    Yields
    ------
    int
        The next token id; prompt and yielded tokens together fill n_ctx at most.
    """
    n_ctx = params["wpe"].shape[0]
    ids = list(ids)
    while len(ids) < n_ctx:
        logits = gpt2(np.array(ids, dtype=np.int64), **params, n_head=n_head)
        ids.append(int(most_likely(logits[-1], choices)))
        yield ids[-1]


def generate(
    ids: Sequence[int],
    params: Params,
    n_head: int,
    n_tokens_to_generate: int,
    *,
    progress: bool = True,
) -> list[int]:
    """The tutorial's loop: append the greedy choice `n_tokens_to_generate` times.

    Parameters
    ----------
    ids : sequence of int
        The prompt's token ids. Left as it is.
    params, n_head
        As in `gpt2`.
    n_tokens_to_generate : int
        New tokens; with the prompt they must stay below n_ctx.
    progress : bool
        Draw a bar called "generating" on stderr.

    Returns
    -------
    list of int
        The new ids only.

    Raises
    ------
    ValueError
        Where the prompt is empty, or prompt and new tokens reach n_ctx.
    """
    from tqdm import tqdm  # noqa: PLC0415 - a batch job does without

    n_ctx = params["wpe"].shape[0]
    if not ids:
        raise ValueError("the prompt has no tokens; expected at least one")
    if len(ids) + n_tokens_to_generate >= n_ctx:
        raise ValueError(
            f"{len(ids)} prompt tokens and {n_tokens_to_generate} new ones; "
            f"expected fewer than n_ctx = {n_ctx} together"
        )
    steps = zip(range(n_tokens_to_generate), greedy(ids, params, n_head), strict=False)
    bar = tqdm(steps, "generating", total=n_tokens_to_generate, disable=not progress)
    return [token for _, token in bar]
