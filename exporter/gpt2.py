"""The graphs of GPT-2 that leave the house, each traced from the function of its name."""

import functools
from typing import Any

import numpy as np

from reference import HParams, gpt2, next_logits
from reference.generate import greedy_step
from reference.gpt2 import Array
from reference.kv_cache import LayerCache, cached_attention_int8, cached_logits
from reference.score import score_step
from reference.tokenizer import Choices
from reference.with_past import logits_with_past

from .graph import Graph
from .tracer import DEFAULT_OPSET, Input, trace


def trace_forward(
    params: dict[str, Any],
    hparams: HParams,
    *,
    n_ctx: int | None = None,
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
    n_ctx : int, optional
        Length of the graph's rows; by default, and at most, the model's.
    target, opset
        As in `trace`.
    """
    return trace(
        gpt2,
        Input(["batch", n_ctx or hparams["n_ctx"]], np.int64, "input_ids"),
        *_weights(params, hparams),
        target=target,
        opset=opset,
        outputs=["logits"],
    )


def trace_next_logits(
    params: dict[str, Any],
    hparams: HParams,
    *,
    n_ctx: int | None = None,
    target: str = "portable",
    opset: int = DEFAULT_OPSET,
) -> Graph:
    """As `trace_forward`, with `last` int64 [batch] -> `logits` float32 [batch, n_vocab].

    `last` is the position of each row's last real token; the logits are those after it.
    """
    return trace(
        next_logits,
        Input(["batch", n_ctx or hparams["n_ctx"]], np.int64, "input_ids"),
        Input(["batch"], np.int64, "last"),
        *_weights(params, hparams),
        target=target,
        opset=opset,
        outputs=["logits"],
    )


def trace_with_past(
    params: dict[str, Any],
    hparams: HParams,
    *,
    past: Any = np.float32,
    target: str = "portable",
    opset: int = DEFAULT_OPSET,
) -> Graph:
    """The graph of `logits_with_past`, under the names that clients know.

    Inputs: `input_ids` and `position_ids` int64 [batch_size, sequence_length], `attention_mask`
    int64 [batch_size, past_sequence_length + sequence_length], and for each block N
    `past_key_values.N.key` and `.value` [batch_size, n_head, past_sequence_length, d].
    Outputs: `logits` float32 [batch_size, sequence_length, n_vocab], `present.N.key` and `.value`.

    Parameters
    ----------
    params, hparams
        As in a `Model`.
    past : dtype
        Of keys and values that come in and go out.
    target, opset
        As in `trace`.
    """
    batch, new, before = "batch_size", "sequence_length", "past_sequence_length"
    n_head, names = hparams["n_head"], ("key", "value")
    held = Input([batch, n_head, before, hparams["n_embd"] // n_head], past)

    @functools.wraps(logits_with_past)
    def with_past(*args: Any) -> list[Any]:
        logits, present = logits_with_past(*args)
        return [logits, *(layer[name] for layer in present for name in names)]  # type: ignore[literal-required]

    return trace(
        with_past,
        Input([batch, new], np.int64),
        Input([batch, f"{before} + {new}"], np.int64),
        Input([batch, new], np.int64),
        [{"key": held, "value": held} for _ in range(hparams["n_layer"])],
        *_weights(params, hparams),
        target=target,
        opset=opset,
        outputs=[
            "logits",
            *(f"present.{n}.{name}" for n in range(hparams["n_layer"]) for name in names),
        ],
    )


def trace_step(
    params: dict[str, Any],
    hparams: HParams,
    *,
    choices: Choices = slice(None),
    kv_scales: Array | None = None,
    target: str = "onnxruntime",
    opset: int = DEFAULT_OPSET,
) -> Graph:
    """One step of generation: new tokens in, and what follows them, chosen.

    Inputs as in `greedy_step`: `inputs` int64 [batch, n_seq], `past` int64 [batch], `read` int64
    [batch, n_read], and for each block N `cache.N.k` and `cache.N.v` [batch, n_head, n_cap, d],
    float32, or int8 where there are `kv_scales`. Outputs: `tokens` int64 and `logprobs` float32
    [batch * n_read], `logits` float32 [batch * n_read, n_vocab], and `grown.N.k` and `grown.N.v`,
    the caches with the new tokens.

    Parameters
    ----------
    params, hparams
        As in a `Model`.
    choices : slice or int64 array
        Ids that can be chosen, as `Tokenizer.choices`.
    kv_scales : float32 [n_layer, 2, 1, n_head, 1, d], optional
        Of a cache in 8 bits, as `int8.kv_scales`.
    target, opset
        As in `trace`.
    """

    @functools.wraps(greedy_step)
    def step(*args: Any) -> list[Any]:
        *found, grown = greedy_step(*args)
        return [*found, *_keys_and_values(grown)]

    return trace(
        step,
        *_new_tokens(),
        _cache(hparams, kv_scales),
        choices,
        *_weights(params, hparams),
        target=target,
        opset=opset,
        outputs=["tokens", "logprobs", "logits", *_grown_names(hparams)],
    )


def trace_prefill(
    params: dict[str, Any],
    hparams: HParams,
    *,
    kv_scales: Array | None = None,
    target: str = "onnxruntime",
    opset: int = DEFAULT_OPSET,
) -> Graph:
    """As `trace_step`, for many new tokens that nothing is read from: only the caches come out.

    Attention is computed in float32 in any case: operators that read 8 bits are made for one new
    token a row.
    """

    @functools.wraps(cached_logits)
    def prefill(*args: Any) -> list[Any]:
        _, grown = cached_logits(*args)
        return _keys_and_values(grown)

    return trace(
        prefill,
        *_new_tokens(),
        _cache(hparams, kv_scales),
        *_weights(params, hparams),
        target=target,
        opset=opset,
        outputs=_grown_names(hparams),
        expanded=[cached_attention_int8],
    )


def trace_score(
    params: dict[str, Any],
    hparams: HParams,
    *,
    kv_scales: Array | None = None,
    target: str = "onnxruntime",
    opset: int = DEFAULT_OPSET,
) -> Graph:
    """New tokens in, and the log-probabilities of what is said to follow some of them.

    Inputs as in `score_step`: `inputs` and `at` int64 [batch, n_seq], `past` int64 [batch], `read`
    and `targets` int64 [batch, n_read], `hidden` float32 [batch, 1, n_seq, n_cap], and the caches,
    as in `trace_step`. Outputs: `logprobs` float32 and `greedy` int64 [batch * n_read], and the
    caches with the new tokens.

    Attention is computed in float32 in any case, as in `trace_prefill`.
    """
    inputs, past, read = _new_tokens()

    @functools.wraps(score_step)
    def step(*args: Any) -> list[Any]:
        *found, grown = score_step(*args)
        return [*found, *_keys_and_values(grown)]

    return trace(
        step,
        inputs,
        past,
        read,
        Input(["batch", "n_read"], np.int64),
        Input(["batch", "n_seq"], np.int64),
        Input(["batch", 1, "n_seq", "n_cap"], np.float32),
        _cache(hparams, kv_scales),
        *_weights(params, hparams),
        target=target,
        opset=opset,
        outputs=["logprobs", "greedy", *_grown_names(hparams)],
        expanded=[cached_attention_int8],
    )


def _new_tokens() -> tuple[Input, Input, Input]:
    """What a step is given beside the caches: `inputs`, `past` and `read`."""
    read = Input(["batch", "n_read"], np.int64)
    return Input(["batch", "n_seq"], np.int64), Input(["batch"], np.int64), read


def _cache(hparams: HParams, kv_scales: Array | None) -> list[dict[str, Any]]:
    """Each block's keys and values as inputs, with their scales."""
    n_head = hparams["n_head"]
    shape: list[int | str] = ["batch", n_head, "n_cap", hparams["n_embd"] // n_head]
    held = Input(shape, np.float32 if kv_scales is None else np.int8)
    cache: list[dict[str, Any]] = [{"k": held, "v": held} for _ in range(hparams["n_layer"])]
    if kv_scales is not None:
        for layer, (k_scale, v_scale) in zip(cache, kv_scales, strict=True):
            layer.update(k_scale=k_scale, v_scale=v_scale)
    return cache


def _keys_and_values(cache: list[LayerCache]) -> list[Any]:
    return [array for layer in cache for array in (layer["k"], layer["v"])]


def _grown_names(hparams: HParams) -> list[str]:
    return [f"grown.{n}.{name}" for n in range(hparams["n_layer"]) for name in ("k", "v")]


def _weights(params: dict[str, Any], hparams: HParams) -> tuple[Any, ...]:
    """The model's arguments after its inputs, in order."""
    tied = params["wte"], params["wpe"], params["blocks"], params["ln_f"], hparams["n_head"]
    return (*tied, params["lm_head"]) if "lm_head" in params else tied
