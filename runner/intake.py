"""Rows in, sequences out; results in, and rows out again in their order."""

import hashlib
import json
from array import array
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from reference import Model

from .checker import Checker
from .errors import BadRowError
from .generate import RunningSequence
from .invariance import InvarianceCheck
from .prompts import to_prompt
from .reader import Chunk
from .records import Completion, Prompt, Reject, Result
from .rows import Row
from .settings import RunSettings

KNOWN_TOKENS = 1 << 20  # of finished answers, kept for prompts that come again
ANSWER_TOKENS = 64  # that an answer counts for beside its own


@dataclass
class OpenChunk:
    """A chunk of rows that waits for results."""

    chunk: Chunk
    results: list[Result | None]
    n_missing: int


@dataclass
class Answer:
    """What one prompt got, or will get, and the rows that wait for it.

    Attributes
    ----------
    checked : bool
        Whether its logits are compared with the reference.
    superseded : bool
        Whether the prompt was run again meanwhile: this one is not kept.
    """

    rows: list[tuple[OpenChunk, int, Row]]
    checked: bool
    result: Result | None = None
    superseded: bool = False


class Intake:
    """Turns chunks of rows into sequences, and finished sequences into chunks of results.

    Rows with the same tokens, limit and stop texts share one sequence.

    Parameters
    ----------
    settings : RunSettings
        Of the job.
    model : Model
        For its tokenizer and sizes.
    checker : Checker
        Chooses the rows whose logits are kept.
    invariance : InvarianceCheck
        Chooses the rows that are run once more.
    known : dict of int to Completion, optional
        Answers of an earlier run, by row.

    Attributes
    ----------
    repeated_rows : int
        Rows that share the answer of another.
    """

    def __init__(
        self,
        settings: RunSettings,
        model: Model,
        checker: Checker,
        invariance: InvarianceCheck,
        known: dict[int, Completion] | None = None,
    ) -> None:
        self._settings = settings
        self._model = model
        self._checker = checker
        self._invariance = invariance
        self._known = known or {}
        self.repeated_rows = 0
        self._open: deque[OpenChunk] = deque()
        self._answers: OrderedDict[bytes, Answer] = OrderedDict()
        self._running: dict[int, Answer] = {}  # by the row that is generated
        self._known_tokens = 0
        self._settled = 0

    @property
    def n_open(self) -> int:
        """Chunks that wait for results."""
        return len(self._open)

    def open(self, chunk: Chunk) -> list[RunningSequence]:
        """Take in a chunk; returns the sequences that have to be run for it.

        Raises
        ------
        InputError
            At a bad row, under `--on-error fail`.
        """
        opened = OpenChunk(chunk, [None] * len(chunk.rows), len(chunk.rows))
        self._open.append(opened)
        sequences = []
        for place, row in enumerate(chunk.rows):
            prompt = to_prompt(row, self._model, self._settings)
            if isinstance(prompt, Reject):
                refuse_if_asked(prompt, self._settings)
                self._checker.wants(usable=False)
                self._invariance.wants(row.row, usable=False)
                self._settle(opened, place, prompt)
            elif (sequence := self._sequence(opened, place, row, prompt)) is not None:
                sequences.append(sequence)
        return sequences

    def finish(self, sequence: RunningSequence) -> None:
        """Give a sequence's result to the rows that wait for it."""
        self._invariance.keep(sequence)
        answer = self._running.pop(sequence.prompt.row)
        answer.result = sequence.result()
        for opened, place, row in answer.rows:
            self._settle(opened, place, _for_row(answer.result, row))
        answer.rows.clear()
        if not answer.superseded:
            self._known_tokens += _tokens(answer.result)
            self._forget()

    def answers(self) -> dict[int, Completion]:
        """What is known of the rows of chunks that are not complete."""
        return {
            row.row: result
            for opened in self._open
            for row, result in zip(opened.chunk.rows, opened.results, strict=True)
            if isinstance(result, Completion)
        }

    def take_settled(self) -> int:
        """Rows that got their results since this was last asked for."""
        settled, self._settled = self._settled, 0
        return settled

    def ready(self) -> Iterator[tuple[Chunk, list[Result]]]:
        """Chunks that are complete, in order."""
        while self._open and not self._open[0].n_missing:
            opened = self._open.popleft()
            yield opened.chunk, [result for result in opened.results if result is not None]

    def _sequence(
        self, opened: OpenChunk, place: int, row: Row, prompt: Prompt
    ) -> RunningSequence | None:
        """A sequence for a prompt, unless its answer is there or on its way."""
        limit = min(prompt.max_new_tokens, self._model.hparams["n_ctx"] - len(prompt.ids))
        stop = self._settings.stop if prompt.stop is None else prompt.stop
        key = _key(prompt.ids, limit, stop)
        answer = self._answers.get(key)
        proven = answer is not None and answer.checked
        kept = self._checker.wants(usable=limit > 0 and not proven)
        wanted = self._invariance.wants(row.row, usable=limit > 0) or kept
        known = self._known.pop(row.row, None)
        if known is not None and not wanted:
            self._settle(opened, place, known)
            return None
        if answer is not None and not wanted:
            self.repeated_rows += 1
            self._answers.move_to_end(key)
            if answer.result is None:
                answer.rows.append((opened, place, row))
            else:
                self._settle(opened, place, _for_row(answer.result, row))
            return None
        # A row that is to be checked is run, though its answer may be known.
        if answer is not None:  # the new one takes its place
            answer.superseded = True
            if answer.result is not None:
                self._known_tokens -= _tokens(answer.result)
        answer = self._answers[key] = Answer([(opened, place, row)], checked=kept or proven)
        tokenizer = self._model.tokenizer
        sequence = RunningSequence(
            prompt,
            tokenizer,
            stop,
            None if self._settings.ignore_eos else tokenizer.eos_id,
            self._model.hparams["n_ctx"],
            keep_logits=kept,
        )
        self._running[prompt.row] = answer
        if sequence.finish_reason is not None:  # asked for nothing
            self.finish(sequence)
            return None
        return sequence

    def _settle(self, opened: OpenChunk, place: int, result: Result) -> None:
        opened.results[place] = result
        opened.n_missing -= 1
        self._settled += 1

    def _forget(self) -> None:
        """Drop the answers that were not asked for longest, but for those that are awaited."""
        while self._known_tokens > KNOWN_TOKENS:
            key, answer = self._answers.popitem(last=False)
            if answer.result is None:
                self._answers[key] = answer
                continue
            self._known_tokens -= _tokens(answer.result)


def refuse_if_asked(reject: Reject | None, settings: RunSettings) -> None:
    """Stop at a bad row, under `--on-error fail`.

    Raises
    ------
    BadRowError
        With what is wrong with it.
    """
    if reject is not None and settings.on_error == "fail":
        raise BadRowError(
            f"{reject}. Fix the row, which begins the job anew, or pass --on-error=skip to keep it "
            "as an error row."
        )


def _key(ids: list[int], limit: int, stop: tuple[str, ...]) -> bytes:
    """Names a prompt with its limit and its stop texts."""
    numbers = array("q", [limit, len(ids), *ids])
    texts = json.dumps(stop).encode() if stop else b""
    return hashlib.blake2b(numbers.tobytes() + texts, digest_size=16).digest()


def _tokens(result: Result) -> int:
    """What an answer counts for while it is known."""
    return ANSWER_TOKENS + (0 if isinstance(result, Reject) else len(result.ids))


def _for_row(result: Result, row: Row) -> Result:
    if isinstance(result, Reject):
        return replace(result, row=row.row, where=row.where)
    return result
