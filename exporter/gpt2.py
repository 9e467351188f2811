"""The graphs of GPT-2 that leave the house, each traced from the function of its name."""

from typing import Any

import numpy as np

from reference import HParams, gpt2, next_logits

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


def _weights(params: dict[str, Any], hparams: HParams) -> tuple[Any, ...]:
    """The model's arguments after its inputs, in order."""
    tied = params["wte"], params["wpe"], params["blocks"], params["ln_f"], hparams["n_head"]
    return (*tied, params["lm_head"]) if "lm_head" in params else tied
