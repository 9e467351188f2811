"""Prompts of several lengths as inputs of the exported graphs, and what comes of them."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from exporter.variants import VARIANTS
from reference import HParams
from reference.with_past import empty_past

from .engine import IntArray
from .kv_cache import FloatArray

# On which sides a graph's rows may be padded.
PADDED = {"with_past": ("right", "left"), "forward": ("right",), "next_logits": ("right",)}

# (names of outputs, inputs by name) -> the outputs' arrays.
Run = Callable[[list[str], dict[str, Any]], list[Any]]


class WithPast:
    """The graph with past on a batch of prompts, fed in one or more calls."""

    def __init__(
        self, run: Run, hparams: HParams, dtype: str, prompts: Sequence[IntArray], side: str
    ) -> None:
        self._run = run
        self.ids, self.there = padded(prompts, max(map(len, prompts)), side)
        self._past = {
            f"past_key_values.{n}.{name}": array
            for n, layer in enumerate(empty_past(hparams, len(prompts), VARIANTS[dtype].past))
            for name, array in layer.items()
        }

    def logits(self, start: int, end: int) -> FloatArray:
        """After the tokens of these columns; those before them must have been fed."""
        positions = np.maximum(np.cumsum(self.there, axis=1) - 1, 0)
        feeds = {
            "input_ids": self.ids[:, start:end],
            "attention_mask": self.there[:, :end],
            "position_ids": positions[:, start:end],
        }
        present = [name.replace("past_key_values", "present") for name in self._past]
        logits, *kept = self._run(["logits", *present], feeds | self._past)
        self._past = dict(zip(self._past, kept, strict=True))
        found: FloatArray = logits
        return found

    def append(self, tokens: IntArray) -> None:
        """A new token for every row."""
        self.ids = np.concatenate([self.ids, tokens[:, None]], axis=1)
        self.there = np.concatenate([self.there, np.ones_like(tokens)[:, None]], axis=1)


def logits_of(
    name: str, run: Run, hparams: HParams, dtype: str, prompts: Sequence[IntArray], side: str
) -> list[FloatArray]:
    """A graph's logits of some prompts: at every position, or at the last."""
    if name == "with_past":
        return _logits_by_parts(WithPast(run, hparams, dtype, prompts, side), hparams["n_vocab"])
    ids, _ = padded(prompts, hparams["n_ctx"], side)
    if name == "forward":
        (logits,) = run(["logits"], {"input_ids": ids})
        return [row[: len(prompt)] for row, prompt in zip(logits, prompts, strict=True)]
    last = np.array([len(prompt) - 1 for prompt in prompts])
    (logits,) = run(["logits"], {"input_ids": ids, "last": last})
    return [row[None] for row in logits]


def _logits_by_parts(batch: WithPast, n_vocab: int) -> list[FloatArray]:
    """All positions' logits, from two calls: without a past, and with the first one's."""
    n_rows, width = batch.ids.shape
    whole = np.empty((n_rows, width, n_vocab), np.float32)
    for start, end in pairwise(sorted({0, (width + 1) // 2, width})):
        whole[:, start:end] = batch.logits(start, end)
    firsts, counts = batch.there.argmax(axis=1).tolist(), batch.there.sum(axis=1).tolist()
    return [row[n : n + count] for row, n, count in zip(whole, firsts, counts, strict=True)]


def greedy_tokens(
    run: Run,
    hparams: HParams,
    dtype: str,
    prompts: Sequence[IntArray],
    side: str,
    n_new: int,
    choices: slice,
) -> list[list[int]]:
    """What the graph with past generates for a batch of prompts, past end-of-text too."""
    batch = WithPast(run, hparams, dtype, prompts, side)
    width = batch.ids.shape[1]
    logits = batch.logits(0, width)
    last = np.array([np.flatnonzero(there)[-1] for there in batch.there])
    tokens = np.argmax(logits[np.arange(len(prompts)), last, choices], axis=-1)
    new = [tokens]
    while len(new) < n_new:
        batch.append(tokens)
        width += 1
        tokens = np.argmax(batch.logits(width - 1, width)[:, -1, choices], axis=-1)
        new.append(tokens)
    found: list[list[int]] = np.stack(new, axis=1).tolist()
    return found


def padded(prompts: Sequence[IntArray], width: int, side: str) -> tuple[IntArray, IntArray]:
    """Prompts as rows of one length, and 1 where their tokens are."""
    rows = np.zeros((len(prompts), width), dtype=np.int64)
    there = np.zeros_like(rows)
    for row, ids in enumerate(prompts):
        at = slice(width - len(ids), width) if side == "left" else slice(len(ids))
        rows[row, at], there[row, at] = ids, 1
    return rows, there
