"""What a job is asked to do."""

import os
import re
from dataclasses import dataclass, field

from reference.models import DEMO

from .errors import SettingsError
from .messages import is_unicode, shown

MOST_THREADS = 512
MOST_SHARDS = 100_000  # that five digits name
DTYPES = ("float32", "int8")
FORMATS = ("rows", "openai")
ENGINES = ("local", "ray")
SIZE = "bytes, or a size such as 512M or 8G"
MOST_DIGITS = 18  # of a size


Shard = tuple[int, int]  # which, from 0, of how many


def available_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bytes_of(size: str) -> int | None:
    """What a size such as 8G says, in bytes; None where it says nothing, or more than there is."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", size, re.IGNORECASE | re.ASCII)
    if found is None or len(found[1]) > MOST_DIGITS:
        return None
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


@dataclass(frozen=True)
class RunSettings:
    """A batch job.

    Attributes
    ----------
    input, output : str
        `.parquet`, `.jsonl`, `.jsonl.gz`, `.jsonl.zst`; `-` is JSONL on stdin or stdout.
    model : str
        `demo`, a published model such as `124M`, or a model directory.
    models_dir, base_url : str or None
        As in `load_model`: where published models lie, and where they are downloaded from.
    prompt_column : str
        Column with texts, or with lists of token ids.
    format : str
        Of JSONL: `rows`, or `openai`, the requests and responses of OpenAI's batch interface.
    column_prefix : str
        Put before the names of the columns that the job adds.
    max_new_tokens : int
        Where the input has no column `max_new_tokens`.
    stop : tuple of str
        Texts that end a completion; they are not part of it.
    ignore_eos : bool
        Go on after end-of-text.
    batch_size : int or None
        Sequences that run together; None finds a good size while they run.
    dtype : str
        `float32`, or `int8`: matrices, keys and values in 8 bits, which is faster and rounds.
    threads : int
        Threads of one model call.
    memory : int or None
        Bytes that the job may take, weights included; None shares what is free.
    limit : int or None
        Rows to take from the start of the input.
    shard : tuple of int or None
        Which of how many equal runs of these rows, counted from 0: (0, 4) is the first of four.
    part_rows : int or None
        Rows that are kept together when they are done; None goes by sizes of model and settings.
    on_error : str
        `skip` keeps a bad row as an error row; `fail` stops the job at the first.
    truncate_prompt : str or None
        `left` keeps the end of a prompt that is too long; None makes it a bad row.
    check_rows : int or None
        Rows whose logits are compared with the reference; None means all.
    check_invariance : int
        Rows that are run once more when all are done, each alone: they must get the same bits.
    seed : int
        Chooses the rows that are checked.
    profiled : bool
        Time each operator of the model: `operators_s` of the report's `engine`.
    metrics : str or None
        A file for figures of the run, as JSON lines.
    resume : bool
        Take a finished output of the very same job as done.
    overwrite : bool
        Replace an existing output, and what another job left unfinished there.
    engine : str
        `local` does the job in this process, `ray` its parts as tasks on Ray, with the same bytes
        as the result. `batch_size` and `memory` are then those of a task, and `cpus_per_task`
        stands for `threads`.
    ray_address : str or None
        Of a running cluster; None means the one that RAY_ADDRESS names, or a Ray of the job's own.
    cpus_per_task : int or None
        CPUs of a task, and its threads; None goes by the nodes.
    """

    input: str
    output: str
    model: str = DEMO
    prompt_column: str = "prompt"
    format: str = "rows"
    column_prefix: str = ""
    max_new_tokens: int = 40
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    batch_size: int | None = None
    dtype: str = "float32"
    threads: int = field(default_factory=available_threads)
    memory: int | None = None
    limit: int | None = None
    shard: Shard | None = None
    part_rows: int | None = None
    on_error: str = "skip"
    truncate_prompt: str | None = None
    check_rows: int | None = 8
    check_invariance: int = 0
    seed: int = 0
    profiled: bool = False
    metrics: str | None = None
    resume: bool = False
    overwrite: bool = False
    models_dir: str | None = None
    base_url: str | None = None
    engine: str = "local"
    ray_address: str | None = None
    cpus_per_task: int | None = None

    def __post_init__(self) -> None:
        at_least = {
            "max_new_tokens": (self.max_new_tokens, 0),
            "batch_size": (self.batch_size, 1),
            "threads": (self.threads, 1),
            "memory": (self.memory, 1),
            "limit": (self.limit, 1),
            "part_rows": (self.part_rows, 1),
            "check_rows": (self.check_rows, 0),
            "check_invariance": (self.check_invariance, 0),
            "cpus_per_task": (self.cpus_per_task, 1),
        }
        faults = [
            f"{name} is {value}; expected {least} or more."
            for name, (value, least) in at_least.items()
            if value is not None and value < least
        ]
        faults += [
            f"{name} is {shown(value)}; expected less than 2**63."
            for name, value in {
                "seed": self.seed,
                **{n: v for n, (v, _) in at_least.items()},
            }.items()
            if value is not None and value >= 2**63
        ]
        checks = {
            f"threads is {self.threads}; expected at most {MOST_THREADS}.": (
                self.threads <= MOST_THREADS
            ),
            f"dtype is {self.dtype!r}; expected one of {', '.join(DTYPES)}.": self.dtype in DTYPES,
            f"format is {self.format!r}; expected one of {', '.join(FORMATS)}.": (
                self.format in FORMATS
            ),
            f"on_error is {self.on_error!r}; expected 'skip' or 'fail'.": (
                self.on_error in ("skip", "fail")
            ),
            f"truncate_prompt is {self.truncate_prompt!r}; expected 'left'.": (
                self.truncate_prompt in (None, "left")
            ),
            f"engine is {self.engine!r}; expected one of {', '.join(ENGINES)}.": (
                self.engine in ENGINES
            ),
            "ray_address and cpus_per_task are for engine 'ray'; expected none of them without.": (
                self.engine == "ray" or (self.ray_address is None and self.cpus_per_task is None)
            ),
            "profiled is set, and engine is 'ray'; expected one of them.": (
                self.engine == "local" or not self.profiled
            ),
            f"cpus_per_task is {self.cpus_per_task}; expected at most {MOST_THREADS}.": (
                (self.cpus_per_task or 1) <= MOST_THREADS
            ),
            "output is -; expected a file: parts that are done on several nodes do not go down a "
            "pipe.": self.engine == "local" or self.output != "-",
            "prompt_column is 'max_new_tokens', which holds limits.": (
                self.prompt_column != "max_new_tokens"
            ),
            "metrics is the input or the output; expected a file of its own.": (
                self.metrics not in (self.input, self.output)
            ),
            f"shard is {self.shard}; expected which of how many, from 0, such as 0/4 and 3/4.": (
                self.shard is None or 0 <= self.shard[0] < self.shard[1] <= MOST_SHARDS
            ),
            "resume and overwrite are both set; expected one of them.": (
                not (self.resume and self.overwrite)
            ),
            "model is empty; expected a name or a directory.": bool(self.model),
            "stop holds an empty text; expected at least one character.": "" not in self.stop,
            "stop, column_prefix or prompt_column is not Unicode text.": all(
                map(is_unicode, (*self.stop, self.column_prefix, self.prompt_column))
            ),
        }
        faults += [fault for fault, fine in checks.items() if not fine]
        if faults:
            raise SettingsError(" ".join(faults))

    @property
    def our_prefix(self) -> str | None:
        """Of the columns that are added; None where the output is responses, not rows."""
        return self.column_prefix if self.format == "rows" else None
