"""Options of the command that several of its parts have, and types of their values."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from reference.models import DEMO, MODELS_DIR_VARIABLE
from reference.published import BASE_URL_VARIABLE

from .settings import DTYPES, ENGINES, FORMATS, SIZE, Shard, available_threads, bytes_of

F = TypeVar("F", bound=Callable[..., Any])


class NumberOr(click.ParamType[int | None]):
    """A number from `least`, or a word that stands for None."""

    def __init__(self, word: str, least: int) -> None:
        self.name = f"N|{word}"
        self._word = word
        self._number = click.IntRange(min=least)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        return None if value == self._word else self._number.convert(value, param, ctx)


class MemorySize(click.ParamType[int]):
    """Bytes, or a number with a unit of 1024s: 512M, 8G, 8GiB."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        n_bytes = bytes_of(str(value))
        if n_bytes is None:
            self.fail(f"{value!r} is no size; expected {SIZE}.", param, ctx)
        return n_bytes


class ShardOf(click.ParamType[Shard]):
    """Which of how many, from 0: 0/4."""

    name = "I/N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Shard:
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", str(value), re.ASCII)
        if found is None:
            self.fail(f"{value!r} is no shard; expected such as 0/4, one of four.", param, ctx)
        return int(found[1]), int(found[2])


class StopText(click.ParamType[str]):
    """A text as it is: from the environment too it is one, with its blanks."""

    name = "TEXT"

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]


threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=available_threads,
    show_default="all cores",
    help="Threads of one model call.",
)


dtype_option = click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default="float32",
    show_default=True,
    help="Number format of matrices, keys and values. int8 is faster, takes less memory and "
    "rounds: the report says by how much.",
)
batch_size_option = click.option(
    "--batch-size",
    type=NumberOr("auto", 1),
    default="auto",
    show_default=True,
    help="Prompts that run together. Answers do not depend on it.",
)
memory_option = click.option(
    "--memory",
    type=MemorySize(),
    help="Memory that a process may take, weights included, such as 8G.  [default: half of what is "
    "free for keys and values]",
)


def job_options(command: F) -> F:
    """What only `batch` has: of files, and of what is done when."""
    for option in (
        click.option(
            "--cpus-per-task",
            type=click.IntRange(min=1),
            metavar="N",
            help="With --engine ray: CPUs of a task, and its threads.  [default: 1, or what leaves "
            "each process the memory that the model needs]",
        ),
        click.option(
            "--ray-address",
            metavar="ADDR",
            help="With --engine ray: a running cluster, such as HOST:6379 or auto.  [default: "
            "RAY_ADDRESS, or a Ray of the job's own on this machine]",
        ),
        click.option(
            "--engine",
            type=click.Choice(ENGINES),
            default="local",
            show_default=True,
            help="Do the job in this process, or its parts as tasks on Ray: the bytes are the "
            "same.",
        ),
        click.option(
            "--overwrite",
            is_flag=True,
            help="Replace OUTPUT if it exists, and what another job left unfinished there. "
            "What this very job left is gone on with.",
        ),
        click.option(
            "--resume",
            is_flag=True,
            help="Take a finished OUTPUT as done where it is this very job's. An unfinished one is "
            "gone on with in any case.",
        ),
        click.option(
            "--metrics",
            type=click.Path(dir_okay=False),
            metavar="FILE",
            help="Write figures of the run to FILE every few seconds, as JSON lines.",
        ),
        click.option(
            "--seed", default=0, show_default=True, help="Chooses the rows that are checked."
        ),
        click.option(
            "--check-invariance",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            metavar="N",
            help="Rows that are run once more at the end, each alone: other bits end the job with "
            "exit code 4.",
        ),
        click.option(
            "--check-rows",
            type=NumberOr("all", 0),
            default=8,
            show_default=True,
            help="Rows whose logits are compared with the reference; 0 is none.",
        ),
        click.option(
            "--on-error",
            type=click.Choice(["skip", "fail"]),
            default="skip",
            show_default=True,
            help="Keep a bad row as an error row (exit code 3), or stop at the first one.",
        ),
        click.option(
            "--part-rows",
            type=NumberOr("auto", 1),
            default="auto",
            show_default=True,
            help="Rows that are kept together when they are done; a job that is killed loses those "
            "in hand. auto goes by the sizes of model and settings; a job that goes on keeps what "
            "it began with.",
        ),
        click.option(
            "--shard",
            type=ShardOf(),
            help="Do the I-th of N equal runs of rows, counted from 0, and write "
            "OUTPUT-0000I-of-0000N. `runner merge` joins them.  [default: all rows]",
        ),
        click.option(
            "--limit",
            type=click.IntRange(min=1),
            help="Rows to take from the start.  [default: all]",
        ),
        memory_option,
        batch_size_option,
        click.option(
            "--column-prefix",
            default="",
            metavar="TEXT",
            help="Put before the names of the columns that are added, such as completion.",
        ),
        click.option(
            "--prompt-column",
            default="prompt",
            show_default=True,
            metavar="NAME",
            help="Column with the prompts: texts, or lists of token ids.",
        ),
        click.option(
            "--format",
            type=click.Choice(FORMATS),
            default="rows",
            show_default=True,
            help="What JSONL holds: rows, or requests of OpenAI's batch interface, which get "
            "--max-new-tokens where they have no max_tokens.",
        ),
    ):
        command = option(command)
    return command


def place_options(command: F) -> F:
    """Where published models lie, and where they come from."""
    for option in (
        click.option(
            "--base-url",
            metavar="URL",
            help="Download published models from URL/NAME/FILE.  "
            f"[default: {BASE_URL_VARIABLE}, or OpenAI's bucket]",
        ),
        click.option(
            "--models-dir",
            type=click.Path(file_okay=False),
            help=f"Folder of the published models.  [default: {MODELS_DIR_VARIABLE}, or a folder "
            "of yours]",
        ),
    ):
        command = option(command)
    return command


def generation_options(command: F) -> F:
    """What `batch` and `generate` have in common."""
    command = place_options(command)
    for option in (
        threads_option,
        dtype_option,
        click.option(
            "--truncate-prompt",
            type=click.Choice(["left"]),
            help="Keep the end of a prompt that is too long. By default such a prompt is bad.",
        ),
        click.option("--ignore-eos", is_flag=True, help="Go on after the end-of-text token."),
        click.option(
            "--stop",
            type=StopText(),
            multiple=True,
            help="End a completion before this text; may be given several times.",
        ),
        click.option(
            "--max-new-tokens",
            type=click.IntRange(min=0),
            default=40,
            show_default=True,
            help="Tokens to generate per prompt.",
        ),
        click.option(
            "--model",
            default=None,
            metavar="NAME|DIR",
            help="A model's name or directory; a published one is downloaded on first use.  "
            f"[default: {DEMO}, the bundled toy]",
        ),
    ):
        command = option(command)
    return command
