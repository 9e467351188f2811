"""A prompt being completed: what it has so far, and where it ends."""

from collections.abc import Sequence

import numpy as np

from reference import Tokenizer, TokenizerError

from .kv_cache import FloatArray
from .records import Completion, FinishReason, Prompt, Reject, Result


class RunningSequence:
    """A prompt being completed.

    Parameters
    ----------
    prompt : Prompt
        The row.
    tokenizer : Tokenizer
        For the bytes of a token.
    stop : sequence of str
        Texts that end the completion.
    eos_id : int or None
        Token that ends it.
    n_ctx : int
        Tokens that the model can look at.
    keep_logits : bool
        Record the logits that each token was chosen from, and the token.

    Attributes
    ----------
    ids : list of int
        Generated so far, without end-of-text.
    finish_reason : FinishReason or None
        None while it runs.
    chosen, logits : list
        Every choice, end-of-text included, and float32 [n_vocab] for each of the last ones, those
        that are not compared yet; empty unless asked for.
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
        self.logprob = 0.0
        self.keep_logits = keep_logits
        self.chosen: list[int] = []
        self.logits: list[FloatArray] = []
        self.finish_reason = None if self.limit else FinishReason.LENGTH
        self._n_ctx = n_ctx
        self._tokenizer = tokenizer
        self._stop = [text.encode() for text in stop]
        self._stopped = b""  # the text, where it is looked at for a stop
        self._eos_id = eos_id

    def anew(self) -> "RunningSequence":
        """The same prompt before its first token; its logits are not kept."""
        stop = [text.decode() for text in self._stop]
        return RunningSequence(
            self.prompt, self._tokenizer, stop, self._eos_id, self._n_ctx, keep_logits=False
        )

    @property
    def n_tokens(self) -> int:
        """Tokens that the cache may have to hold: the last new one is never fed back."""
        return len(self.prompt.ids) + self.limit - 1

    @property
    def text(self) -> bytes:
        """What was generated, up to a stop text.

        Raises
        ------
        TokenizerError
            Where a token stands for no text.
        """
        if self._stop:
            return self._stopped
        return b"".join(map(self._tokenizer.token_bytes, self.ids))

    def append(self, token: int, logprob: float) -> bool:
        """Take the next token; returns whether that ends the sequence."""
        if token == self._eos_id:
            self.finish_reason = FinishReason.STOP
            return True
        self.ids.append(token)
        self.logprob += logprob
        if self._stop and self._meets_stop(token):
            self.finish_reason = FinishReason.STOP
        elif len(self.ids) == self.limit:
            self.finish_reason = FinishReason.LENGTH
        return self.finish_reason is not None

    def record(self, token: int, logits: FloatArray) -> None:
        """Keep a choice, and a copy of what it was made from."""
        self.chosen.append(token)
        self.logits.append(logits.copy())

    def result(self) -> Result:
        """The row's completion, once it is finished."""
        assert self.finish_reason is not None
        try:
            text = self.text.decode("utf-8", errors="replace")
        except TokenizerError as e:
            return Reject(self.prompt.row, self.prompt.where, f"generated {e}")
        return Completion(
            text,
            self.ids,
            len(self.prompt.ids),
            self.finish_reason,
            float(np.float32(self.logprob)),
        )

    def _meets_stop(self, token: int) -> bool:
        """Add a token's text, and cut it before the first stop text."""
        before = len(self._stopped)
        self._stopped += self._tokenizer.token_bytes(token)
        ends = [self._stopped.find(s, max(0, before - len(s) + 1)) for s in self._stop]
        found = [end for end in ends if end >= 0]
        if found:
            self._stopped = self._stopped[: min(found)]
        return bool(found)
