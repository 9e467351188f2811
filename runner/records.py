"""What flows between the stages: rows in, completions or rejects out."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import pyarrow as pa


@dataclass(frozen=True)
class Request:
    """A row as the reader found it.

    Attributes
    ----------
    row : int
        Its place in the input, from 0.
    where : str
        File and line or row, for messages.
    prompt : str or list of int
        Text, or token ids.
    max_new_tokens : int or None
        The row's own limit, where the input has such a column.
    stop : tuple of str or None
        The row's own stop texts; None where the job's hold.
    """

    row: int
    where: str
    prompt: str | list[int]
    max_new_tokens: int | None
    stop: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Reject:
    """A bad row: keeps its place in the output, with the reason in `error`."""

    row: int
    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True)
class Prompt:
    """A row ready for the engine: at least one token, and room for one more."""

    row: int
    where: str
    ids: list[int]
    max_new_tokens: int
    stop: tuple[str, ...] | None = None


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    ERROR = "error"


@dataclass(frozen=True)
class Completion:
    """What the model made of a prompt.

    Attributes
    ----------
    text : str
        The completion, without the stop text that ended it.
    ids : list of int
        The generated tokens, without end-of-text, with those of a stop text.
    prompt_tokens : int
        Tokens that the model was given; 1 for an empty prompt, which starts from end-of-text.
    finish_reason : FinishReason
        `STOP`, or `LENGTH` where max_new_tokens or n_ctx was reached.
    logprob : float
        Sum of the natural log-probabilities of `ids`.
    """

    text: str
    ids: list[int]
    prompt_tokens: int
    finish_reason: FinishReason
    logprob: float


Result: TypeAlias = Completion | Reject

OUTPUT_SCHEMA = pa.schema(
    [
        ("completion", pa.string()),
        ("completion_ids", pa.list_(pa.int32())),
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
        ("finish_reason", pa.string()),
        ("logprob", pa.float32()),
        ("error", pa.string()),
    ]
)


def output_row(result: Result) -> dict[str, Any]:
    """The columns that a job adds to a row; null in a bad row, but for what says so."""
    if isinstance(result, Reject):
        return dict.fromkeys(OUTPUT_SCHEMA.names) | {
            "finish_reason": FinishReason.ERROR.value,
            "error": result.reason,
        }
    return {
        "completion": result.text,
        "completion_ids": result.ids,
        "prompt_tokens": result.prompt_tokens,
        "completion_tokens": len(result.ids),
        "finish_reason": result.finish_reason.value,
        "logprob": result.logprob,
        "error": None,
    }
