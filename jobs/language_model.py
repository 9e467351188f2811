"""The model under evaluation, asked in texts: by the rules of lm-evaluation-harness.

White space at the end of a context moves to the continuation. The tokens of a continuation are
those that the context and it have together beyond the context's own; the model is fed the context's
tokens and then those. An empty context is end-of-text. Of what is too long the end is kept.

References
----------
EleutherAI, lm-evaluation-harness 0.4.13: how requests are encoded and cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference import Model
from runner.score import Continuation, Scored, Scorer


@dataclass(frozen=True)
class Unscorable:
    """Why a text has no score; takes its place among the results."""

    reason: str


@dataclass(frozen=True)
class TextScore:
    """What the model makes of a continuation.

    Attributes
    ----------
    loglikelihood : float
        Sum over its tokens, natural logarithm.
    is_greedy : bool
        Whether each token is the model's own choice.
    tokens : int
        How many.
    logprobs : float array [tokens]
    greedy : list of int
        The model's choice at each place.
    """

    loglikelihood: float
    is_greedy: bool
    tokens: int
    logprobs: Any
    greedy: list[int]


class LanguageModel:
    """A model and what runs it.

    Parameters
    ----------
    model : Model
        As loaded.
    scorer : Scorer
        Runs it.
    """

    def __init__(self, model: Model, scorer: Scorer) -> None:
        self.model = model
        self.tokenizer = model.tokenizer
        self.n_ctx = model.hparams["n_ctx"]
        self._scorer = scorer

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[TextScore | Unscorable]:
        """Score continuations of contexts, both texts; one result for each pair, in order."""
        raise NotImplementedError

    def loglikelihood_rolling(self, texts: Sequence[str]) -> list[TextScore | Unscorable]:
        """Score whole texts, each by itself, in windows of n_ctx."""
        raise NotImplementedError
