"""What a model makes of given text: the log-probability of each token of a continuation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from reference import Model
from reference.score import continuation_scores
from reference.tree import tree_map

from .engine import IntArray
from .kv_cache import FloatArray


@dataclass(frozen=True)
class Continuation:
    """Tokens that are scored where they follow others.

    Attributes
    ----------
    context : sequence of int
        At least one token.
    tokens : sequence of int
        At least one; with the context at most n_ctx + 1, as the last one is never fed.
    """

    context: Sequence[int]
    tokens: Sequence[int]


@dataclass(frozen=True)
class Scored:
    """What the model makes of a continuation.

    Attributes
    ----------
    logprobs : float32 or float64 [n]
        The natural log-probability of each token after those before it.
    greedy : int64 [n]
        The most likely token there, of the whole vocabulary, the first of equals.
    """

    logprobs: FloatArray
    greedy: IntArray


class Scorer(Protocol):
    """Scores continuations, in whatever order is fast."""

    def score(self, wanted: Sequence[Continuation]) -> list[Scored]:
        """One result for each continuation, in the order given."""


class ReferenceScorer:
    """The NumPy reference, one sequence at a time: the truth, and slow.

    Parameters
    ----------
    model : Model
        As loaded, or `in_int8`.
    dtype : dtype
        To compute in: float32, or float64 for what rounding costs.
    """

    def __init__(self, model: Model, dtype: type[np.floating] = np.float32) -> None:
        self._model = model
        self._params = (
            model.params
            if dtype is np.float32
            else tree_map(lambda _, a: a.astype(dtype), model.params)
        )

    def score(self, wanted: Sequence[Continuation]) -> list[Scored]:
        model = self._model
        return [
            Scored(
                *continuation_scores(
                    w.context, w.tokens, self._params, model.hparams, model.kv_scales
                )
            )
            for w in wanted
        ]
