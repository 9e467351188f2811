"""The graphs of GPT-2 that leave the house, each traced from the function of its name."""

import functools
from typing import Any

import numpy as np

from reference import HParams, gpt2, next_logits
from reference.generate import greedy_step
from reference.tokenizer import Choices
from reference.tree import leaves

from .graph import Graph
from .tracer import DEFAULT_OPSET, Input, trace


def trace_forward(
    params: dict[str, Any],
    hparams: HParams,
    *,
    n_ctx: int,
    target: str = "portable",
    opset: int = DEFAULT_OPSET,
) -> Graph:
    """`input_ids` int64 [batch, n_ctx] -> `logits` float32 [batch, n_ctx, n_vocab].

    Rows are padded on the right with any valid id: the causal mask keeps what stands to the
    left of it as it is.

    Parameters
    ----------
    params, hparams
        As in a `Model`.
    n_ctx : int
        Length of the graph's rows, at most the model's.
    target, opset
        As in `trace`.
    """
    return trace(
        gpt2,
        Input(["batch", n_ctx], np.int64, "input_ids"),
        *_weights(params, hparams),
        target=target,
        opset=opset,
        outputs=["logits"],
    )


def trace_next_logits(
    params: dict[str, Any],
    hparams: HParams,
    *,
    n_ctx: int,
    target: str = "portable",
    opset: int = DEFAULT_OPSET,
) -> Graph:
    """As `trace_forward`, with `last` int64 [batch] -> `logits` float32 [batch, n_vocab].

    `last` is the position of each row's last real token; the logits are those after it.
    """
    return trace(
        next_logits,
        Input(["batch", n_ctx], np.int64, "input_ids"),
        Input(["batch"], np.int64, "last"),
        *_weights(params, hparams),
        target=target,
        opset=opset,
        outputs=["logits"],
    )


def trace_step(
    params: dict[str, Any],
    hparams: HParams,
    *,
    choices: Choices = slice(None),
    target: str = "onnxruntime",
    opset: int = DEFAULT_OPSET,
) -> Graph:
    """One step of generation: new tokens in, and what follows them, chosen.

    Inputs as in `greedy_step`: `inputs` int64 [batch, n_seq], `past` int64 [batch], `read` int64
    [batch, n_read], and for each block N `cache.N.k` and `cache.N.v` float32 [batch, n_head,
    n_cap, d]. Outputs: `tokens` int64 and `logprobs` float32 [batch * n_read], `logits` float32
    [batch * n_read, n_vocab], and `grown.N.k` and `grown.N.v`, the caches with the new tokens.

    Parameters
    ----------
    params, hparams
        As in a `Model`.
    choices : slice or int64 array
        Ids that can be chosen, as `Tokenizer.choices`.
    target, opset
        As in `trace`.
    """
    n_head = hparams["n_head"]
    shape: list[int | str] = ["batch", n_head, "n_cap", hparams["n_embd"] // n_head]
    layer = {"k": Input(shape, np.float32), "v": Input(shape, np.float32)}
    cache = [layer] * hparams["n_layer"]

    @functools.wraps(greedy_step)
    def step(*args: Any) -> list[Any]:
        tokens, logprobs, logits, grown = greedy_step(*args)
        return [tokens, logprobs, logits, *(array for _, array in leaves(grown))]

    return trace(
        step,
        Input(["batch", "n_seq"], np.int64),
        Input(["batch"], np.int64),
        Input(["batch", "n_read"], np.int64),
        cache,
        choices,
        *_weights(params, hparams),
        target=target,
        opset=opset,
        outputs=["tokens", "logprobs", "logits", *(name for name, _ in leaves(cache, "grown"))],
    )


def _weights(params: dict[str, Any], hparams: HParams) -> tuple[Any, ...]:
    """The model's arguments after its inputs, in order."""
    tied = params["wte"], params["wpe"], params["blocks"], params["ln_f"], hparams["n_head"]
    return (*tied, params["lm_head"]) if "lm_head" in params else tied
