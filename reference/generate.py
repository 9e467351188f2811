"""The slow greedy loop: no cache, one sequence, the oracle for everything faster."""

from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from .gpt2 import Params, gpt2


def greedy(
    ids: Sequence[int], params: Params, n_head: int, n_tokens: int | None = None
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
    n_tokens : int, optional
        Ids below it can be chosen; by default all of the model's.

    Yields
    ------
    int
        The next token id; prompt and yielded tokens together fill n_ctx at most.
    """
    n_ctx = params["wpe"].shape[0]
    ids = list(ids)
    while len(ids) < n_ctx:
        logits = gpt2(np.array(ids, dtype=np.int64), **params, n_head=n_head)
        ids.append(int(np.argmax(logits[-1, :n_tokens])))
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
