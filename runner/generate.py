"""The greedy loop over a batch: choose, append, drop what is finished, decode the rest."""

from collections.abc import Callable, Sequence

import numpy as np

from reference import Tokenizer, TokenizerError, most_likely
from reference.tokenizer import Choices

from .engine import C, Engine, FloatArray, IntArray
from .records import Completion, FinishReason, Prompt, Reject, Result


class RunningSequence:
    """A prompt being completed.

    Parameters
    ----------
    prompt : Prompt
        The row.
    tokenizer : Tokenizer
        For the bytes of a token, and its end-of-text.
    stop : sequence of str
        Texts that end the completion.
    eos_id : int or None
        Token that ends it.
    n_ctx : int
        Tokens that the model can look at.
    keep_logits : bool
        Record the logits that each token was chosen from.
    """

    def __init__(
        self,
        prompt: Prompt,
        tokenizer: Tokenizer,
        stop: Sequence[str],
        eos_id: int | None,
        n_ctx: int,
        *,
        keep_logits: bool,
    ) -> None:
        self.prompt = prompt
        self.limit = min(prompt.max_new_tokens, n_ctx - len(prompt.ids))
        self.ids: list[int] = []
        self.text = b""
        self.logprob = 0.0
        self.logits: list[FloatArray] | None = [] if keep_logits else None
        self.finish_reason = None if self.limit else FinishReason.LENGTH
        self.fault: str | None = None
        self._tokenizer = tokenizer
        self._stop = [text.encode() for text in stop]
        self._eos_id = eos_id

    @property
    def n_tokens(self) -> int:
        """Tokens that the engine may have to look at: the last new one is never fed back."""
        return len(self.prompt.ids) + self.limit - 1

    def append(self, token: int, logprob: float, logits: FloatArray) -> None:
        """Take the engine's next token, and see whether that ends the sequence."""
        if self.logits is not None:
            self.logits.append(logits.copy())
        if token == self._eos_id:
            self.finish_reason = FinishReason.STOP
            return
        self.ids.append(token)
        self.logprob += logprob
        try:
            added = self._tokenizer.token_bytes(token)
        except TokenizerError as e:
            self.finish_reason, self.fault = FinishReason.ERROR, str(e)
            return
        before = len(self.text)
        self.text += added
        ends = [self.text.find(stop, max(0, before - len(stop) + 1)) for stop in self._stop]
        if found := [end for end in ends if end >= 0]:
            self.text = self.text[: min(found)]
            self.finish_reason = FinishReason.STOP
        elif len(self.ids) == self.limit:
            self.finish_reason = FinishReason.LENGTH

    def result(self) -> Result:
        """The row's completion, once it is finished."""
        assert self.finish_reason is not None
        if self.fault is not None:
            return Reject(self.prompt.row, self.prompt.where, f"generated {self.fault}")
        text = self.text.decode("utf-8", errors="replace")
        return Completion(
            text,
            self.ids,
            len(self.prompt.ids),
            self.finish_reason,
            float(np.float32(self.logprob)),
        )


def generate(
    engine: Engine[C],
    sequences: Sequence[RunningSequence],
    choices: Choices,
    on_step: Callable[[Sequence[RunningSequence]], None] | None = None,
) -> None:
    """Complete all sequences greedily, together.

    Parameters
    ----------
    engine : Engine
        Runs the model.
    sequences : sequence of RunningSequence
        Of one group of the engine; they hold the results afterwards.
    choices : slice or int64 array
        As in `choose`.
    on_step : callable
        Called after each step with the sequences that got a token.
    """
    live = [sequence for sequence in sequences if sequence.finish_reason is None]
    if not live:
        return
    prompts = [sequence.prompt.ids for sequence in live]
    cache, logits = engine.prefill(prompts, max(sequence.n_tokens for sequence in live))
    while True:
        tokens, logprobs = choose(logits, choices)
        for sequence, token, logprob, row in zip(live, tokens, logprobs, logits, strict=True):
            sequence.append(int(token), float(logprob), row)
        if on_step is not None:
            on_step(live)
        going = [slot for slot, s in enumerate(live) if s.finish_reason is None]
        if not going:
            return
        if len(going) < len(live):
            cache.keep(going)
            live = [live[slot] for slot in going]
        logits = engine.decode(cache, tokens[going])


def choose(logits: FloatArray, choices: Choices) -> tuple[IntArray, FloatArray]:
    """The greedy choice of each row, the first of equals, and its log-probability.

    Parameters
    ----------
    logits : float32 [n_slots, n_vocab]
        Of the model.
    choices : slice or int64 array
        Ids that can be chosen. What a model has beyond its tokenizer pads a matrix: it takes its
        share of the probability, as in the model, but stands for no text.

    Returns
    -------
    tokens : int64 [n_slots]
    logprobs : float32 [n_slots]
    """
    tokens = most_likely(logits, choices)
    chosen = np.take_along_axis(logits, tokens[:, None], axis=-1)
    highest = np.max(logits, axis=-1, keepdims=True)
    total = np.sum(np.exp(logits - highest), axis=-1, dtype=np.float64)
    return tokens, (chosen - highest)[:, 0] - np.log(total).astype(np.float32)
