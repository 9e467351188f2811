"""The model under evaluation, asked in texts: by the rules of lm-evaluation-harness.

White space at the end of a context moves to the continuation. The tokens of a continuation are
those that the context and it have together beyond the context's own; the model is fed the context's
tokens and then those. An empty context is end-of-text, or what else a model's tokenizer has to
stand before texts (`bos_token`). Of what is too long the end is kept.

Where the harness fails, a pair is `Unscorable`: its context is white space only, its continuation
has no token of its own because it is empty or vanishes in a merge with the context, or it is longer
than n_ctx.

References
----------
EleutherAI, lm-evaluation-harness 0.4.13: how requests are encoded and cut.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from reference import Model, Tokenizer, TokenizerError
from runner.records import Reject
from runner.score import Continuation, Scored, Scorer

from .generator import Generator, ReferenceGenerator


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


Ids: TypeAlias = Sequence[int]
NO_CONTEXT = (
    "the context is white space only, which moves to the continuation; expected a context with "
    "a word in it, or an empty one"
)
NO_TOKENS = (
    "the continuation has no token of its own: it is empty, or merges with the context; expected "
    "text that begins a new token"
)
NO_END_OF_TEXT = "the model has no end-of-text token to begin with; expected a context"


class LanguageModel:
    """A model and what runs it.

    Parameters
    ----------
    model : Model
        As loaded.
    scorer : Scorer
        Scores texts with it.
    generator : Generator, optional
        Generates with it; by default the reference.
    here : LanguageModel, optional
        The same model, run in this process, for what measures this machine; by default this one.
    """

    def __init__(
        self,
        model: Model,
        scorer: Scorer,
        generator: Generator | None = None,
        here: "LanguageModel | None" = None,
    ) -> None:
        self.here = here or self
        self.model = model
        self.tokenizer = model.tokenizer
        self.n_ctx = model.hparams["n_ctx"]
        self.generator = generator or ReferenceGenerator(model)
        self._scorer = scorer

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[TextScore | Unscorable]:
        """Score continuations of contexts, both texts; one result for each pair, in order."""
        return self._score([self._one(*pair) for pair in pairs])

    def loglikelihood_tokens(
        self, pairs: Sequence[tuple[Ids, Ids]]
    ) -> list[TextScore | Unscorable]:
        """Score continuations of contexts, both token ids; one result for each pair, in order."""
        return self._score([self._cut(*pair) for pair in pairs])

    def loglikelihood_rolling(self, texts: Sequence[str]) -> list[TextScore | Unscorable]:
        """Score whole texts, each by itself, from end-of-text on, in windows of n_ctx.

        Each token is scored once. A text that goes on beyond n_ctx tokens is scored in windows
        that follow each other; the last has as much context as fits.
        """
        return self._score([self._rolled(text) for text in texts])

    def encode(self, text: str) -> list[int]:
        """The token ids of a text; `<|endoftext|>` in it is that token.

        Raises
        ------
        TokenizerError
            Where it is no Unicode text.
        """
        return self.tokenizer.encode(text, allow_special=True)

    def decode(self, ids: Ids) -> str:
        """The text of tokens; U+FFFD where a padded vocabulary's model chose one that is none."""
        return decoded(self.tokenizer, ids)

    def beginning(self) -> list[int]:
        """What stands for an empty context.

        Raises
        ------
        TokenizerError
            Where the model has no such token.
        """
        if self.tokenizer.bos_id is None:
            raise TokenizerError(NO_END_OF_TEXT)
        return [self.tokenizer.bos_id]

    def generate(
        self, prompts: Sequence[str], max_new_tokens: int, stop: Sequence[str] = ()
    ) -> list[str | Unscorable]:
        """Complete prompts greedily, up to end-of-text or a stop text, which is left out."""
        found = self.generator.complete(prompts, max_new_tokens, stop)
        return [Unscorable(f.reason) if isinstance(f, Reject) else f.text for f in found]

    def _one(self, context: str, text: str) -> list[Continuation] | Unscorable:
        try:
            return self._cut(*self._encoded(context, text))
        except TokenizerError as e:
            return Unscorable(str(e))

    def _encoded(self, context: str, text: str) -> tuple[Ids, Ids]:
        """The token ids of a context, and those of what follows it."""
        if not context:
            ids, begin = self.encode(text), self.beginning()
            # A text that itself begins with end-of-text is not given a second one.
            return (begin, ids) if ids[:1] != begin else (ids[:1], ids[1:])
        stripped = context.rstrip()
        before = self.encode(stripped)
        return before, self.encode(context + text)[len(before) :]

    def _cut(self, context: Ids, tokens: Ids) -> list[Continuation] | Unscorable:
        """The end of both, as far as it fits; the last token is never fed."""
        if not tokens:
            return Unscorable(NO_TOKENS)
        if not context:
            return Unscorable(NO_END_OF_TEXT if self.tokenizer.bos_id is None else NO_CONTEXT)
        if len(tokens) > self.n_ctx:
            return Unscorable(
                f"the continuation has {len(tokens)} tokens; expected at most n_ctx = {self.n_ctx}"
            )
        room = self.n_ctx + 1 - len(tokens)
        return [Continuation(context[-room:], tokens)]

    def _rolled(self, text: str) -> list[Continuation] | Unscorable:
        try:
            ids = [*self.beginning(), *self.encode(text)]
        except TokenizerError as e:
            return Unscorable(str(e))
        return list(windows(ids, self.n_ctx))

    def _score(
        self, wanted: Sequence[list[Continuation] | Unscorable]
    ) -> list[TextScore | Unscorable]:
        """Everything in one call: the scorer sorts, and sees what is asked twice."""
        parts = [part for some in wanted if isinstance(some, list) for part in some]
        scored = zip(parts, self._scorer.score(parts), strict=True)
        return [
            _joined([next(scored) for _ in some]) if isinstance(some, list) else some
            for some in wanted
        ]


def decoded(tokenizer: Tokenizer, ids: Ids) -> str:
    """The text of tokens; U+FFFD where one of them is none, as a padded vocabulary has some."""
    try:
        return tokenizer.decode(ids)
    except TokenizerError:
        return "\N{REPLACEMENT CHARACTER}"


def windows(ids: Ids, n_ctx: int) -> Iterator[Continuation]:
    """All tokens but the first, each scored once, at most n_ctx at a time."""
    for start in range(1, len(ids), n_ctx):
        stop = min(start + n_ctx, len(ids))
        yield Continuation(ids[max(stop - n_ctx - 1, 0) : start], ids[start:stop])


def _joined(parts: Sequence[tuple[Continuation, Scored]]) -> TextScore:
    """The score of a text in so many parts; an empty one has none, and nothing to be wrong in."""
    logprobs = np.concatenate([np.zeros(0, np.float32), *(found.logprobs for _, found in parts)])
    greedy = [int(token) for _, found in parts for token in found.greedy]
    tokens = [token for asked, _ in parts for token in asked.tokens]
    return TextScore(
        float(np.sum(logprobs, dtype=np.float64)),
        is_greedy=greedy == tokens,
        tokens=len(tokens),
        logprobs=logprobs,
        greedy=greedy,
    )
