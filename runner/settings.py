"""What a job is asked to do."""

import os
from dataclasses import dataclass, field

from reference.models import DEMO

from .errors import SettingsError


def available_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class RunSettings:
    """A batch job.

    Attributes
    ----------
    input, output : str
        `.parquet`, `.jsonl`, `.jsonl.gz`, `.jsonl.zst`; `-` is JSONL on stdin or stdout.
    model : str
        `demo`, or a model directory.
    prompt_column : str
        Column with texts, or with lists of token ids.
    column_prefix : str
        Put before the names of the columns that the job adds.
    max_new_tokens : int
        Where the input has no column `max_new_tokens`.
    stop : tuple of str
        Texts that end a completion; they are not part of it.
    ignore_eos : bool
        Go on after end-of-text.
    batch_size : int or None
        Sequences that run together; None finds a size by their length.
    threads : int
        Threads of one model call.
    limit : int or None
        Rows to take from the start of the input.
    on_error : str
        `skip` keeps a bad row as an error row; `fail` stops the job at the first.
    truncate_prompt : str or None
        `left` keeps the end of a prompt that is too long; None makes it a bad row.
    check_rows : int or None
        Rows whose logits are compared with the reference; None means all.
    seed : int
        Chooses the rows that are checked.
    overwrite : bool
        Replace an existing output.
    """

    input: str
    output: str
    model: str = DEMO
    prompt_column: str = "prompt"
    column_prefix: str = ""
    max_new_tokens: int = 40
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    batch_size: int | None = None
    threads: int = field(default_factory=available_threads)
    limit: int | None = None
    on_error: str = "skip"
    truncate_prompt: str | None = None
    check_rows: int | None = 8
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        at_least = {
            "max_new_tokens": (self.max_new_tokens, 0),
            "batch_size": (self.batch_size, 1),
            "threads": (self.threads, 1),
            "limit": (self.limit, 1),
            "check_rows": (self.check_rows, 0),
        }
        for name, (value, least) in at_least.items():
            if value is not None and value < least:
                raise SettingsError(f"{name} is {value}; expected {least} or more.")
        if self.on_error not in ("skip", "fail"):
            raise SettingsError(f"on_error is {self.on_error!r}; expected 'skip' or 'fail'.")
        if self.truncate_prompt not in (None, "left"):
            raise SettingsError(f"truncate_prompt is {self.truncate_prompt!r}; expected 'left'.")
        if "" in self.stop:
            raise SettingsError("stop holds an empty text; expected at least one character.")
