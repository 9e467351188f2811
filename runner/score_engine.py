"""onnxruntime behind the scoring of given text: rows of tokens in, log-probabilities out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from exporter import trace_score, traced_onnx, writes_in_place
from reference import Model
from reference.gpt2 import MASKED

from .engine import TARGET, IntArray, bound, cache_names, even, open_session
from .kv_cache import CAPACITY_STEP, CacheArray, FloatArray, SlotCache


@dataclass
class ScoreRow:
    """A context and continuations of it, one after the other: each sees the context and itself.

    Attributes
    ----------
    ids : list of int
        The context's tokens, then those of each continuation but its last.
    at : list of int
        Their positions: each continuation goes on where the context ends.
    n_context : int
        How many are the context's.
    starts : list of int
        Where each continuation begins among `ids`.
    read, targets : list of int
        Places among `ids`, and the token that is scored after each.
    """

    ids: list[int]
    at: list[int] = field(init=False)
    n_context: int = field(init=False)
    starts: list[int] = field(default_factory=list)
    read: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.n_context = len(self.ids)
        self.at = list(range(self.n_context))

    def add(self, tokens: Sequence[int]) -> slice:
        """Put a continuation behind the others; returns where its scores will be."""
        first, start = len(self.read), len(self.ids)
        self.starts.append(start)
        self.read += [self.n_context - 1, *range(start, start + len(tokens) - 1)]
        self.targets += tokens
        self.at += range(self.n_context, self.n_context + len(tokens) - 1)
        self.ids += tokens[:-1]
        return slice(first, len(self.read))

    def hide(self, hidden: FloatArray, past: int, stop: int) -> None:
        """Mask from each continuation's tokens those of the continuations before it.

        Parameters
        ----------
        hidden : float32 [n_seq, n_cap]
            For the tokens from `past` on.
        past, stop : int
            Which of the row's tokens are new.
        """
        for start, end in zip(self.starts, [*self.starts[1:], stop], strict=True):
            hidden[max(start - past, 0) : max(end - past, 0), self.n_context : start] = MASKED


class ScoreEngine:
    """Runs the traced scoring step.

    Parameters
    ----------
    model : Model
        As for `Engine`.
    threads : int
        Threads of one call.
    """

    def __init__(self, model: Model, threads: int) -> None:
        kept_in = np.float32 if model.kv_scales is None else np.int8
        self._apart = SlotCache(model.hparams, kept_in)
        self._alone = SlotCache(model.hparams, kept_in)
        self._in_place = writes_in_place(model.hparams, TARGET)
        graph = traced_onnx(trace_score, model, kv_scales=model.kv_scales, target=TARGET)
        self.graph_sha256 = hashlib.sha256(graph.proto).hexdigest()
        self._session = open_session(graph, threads)
        self.tokens = 0  # that went through the model, without padding

    def score(self, rows: Sequence[ScoreRow]) -> tuple[FloatArray, IntArray]:
        """Score whole rows together.

        Returns
        -------
        logprobs : float32 [n_rows, n_read]
        greedy : int64 [n_rows, n_read]
            As long as the row with the most scores.
        """
        n_seq = even(max(len(row.ids) for row in rows))
        cache = self._apart.shaped(len(rows), n_seq)
        return self._run(rows, cache, n_seq, 0, None)

    def score_alone(self, row: ScoreRow, past: int, stop: int) -> tuple[FloatArray, IntArray]:
        """Score some tokens of a row, those before them being there from the calls before.

        Returns
        -------
        logprobs : float32 [n_read]
        greedy : int64 [n_read]
        """
        cache = self._room_for(len(row.ids), past)
        logprobs, greedy = self._run([row], cache, even(stop - past), past, stop)
        return logprobs[0], greedy[0]

    def _room_for(self, n_tokens: int, kept: int) -> list[CacheArray]:
        """The memory of what runs alone, with places for so many tokens."""
        if n_tokens + 1 > self._alone.n_cap:
            n_cap = n_tokens + 1 + -(n_tokens + 1) % CAPACITY_STEP
            self._alone.resize(1, n_cap, np.array([kept] if self._alone.n_slots else [], np.int64))
        return self._alone.arrays

    def _run(
        self,
        rows: Sequence[ScoreRow],
        cache: list[CacheArray],
        n_seq: int,
        past: int,
        stop: int | None,
    ) -> tuple[FloatArray, IntArray]:
        batch, n_cap = len(rows), cache[0].shape[2]
        spans = [slice(past, len(row.ids) if stop is None else stop) for row in rows]
        reads = [
            [i for i, place in enumerate(row.read) if span.start <= place < span.stop]
            for row, span in zip(rows, spans, strict=True)
        ]
        n_read = max(map(len, reads))
        inputs: dict[str, CacheArray] = {
            name: np.zeros((batch, length), np.int64)
            for name, length in (
                ("inputs", n_seq),
                ("at", n_seq),
                ("read", n_read),
                ("targets", n_read),
            )
        }
        inputs["past"] = np.full(batch, past, np.int64)
        inputs["hidden"] = np.zeros((batch, 1, n_seq, n_cap), np.float32)
        for n, (row, span, chosen) in enumerate(zip(rows, spans, reads, strict=True)):
            n_new = span.stop - span.start
            inputs["inputs"][n, :n_new] = row.ids[span]
            inputs["at"][n, :n_new] = row.at[span]
            inputs["read"][n, : len(chosen)] = [row.read[i] - past for i in chosen]
            inputs["targets"][n, : len(chosen)] = [row.targets[i] for i in chosen]
            row.hide(inputs["hidden"][n, 0], past, span.stop)
            self.tokens += n_new
        logprobs = np.zeros(batch * n_read, np.float32)
        greedy = np.zeros(batch * n_read, np.int64)
        grown = cache if self._in_place else [np.empty_like(array) for array in cache]
        names = cache_names(len(cache))
        held: dict[str, Any] = {
            f"cache.{name}": array for name, array in zip(names, cache, strict=True)
        }
        left = {f"grown.{name}": array for name, array in zip(names, grown, strict=True)}
        found: dict[str, Any] = {"logprobs": logprobs, "greedy": greedy}
        self._session.run_with_iobinding(bound(self._session, inputs | held, found | left))
        if grown is not cache:
            for array, new in zip(cache, grown, strict=True):
                array[...] = new
        return logprobs.reshape(batch, n_read), greedy.reshape(batch, n_read)
