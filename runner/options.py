"""Options of the command that several of its parts have, and types of their values."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from reference.models import DEMO, MODELS_DIR_VARIABLE
from reference.published import BASE_URL_VARIABLE

from .settings import DTYPES, available_threads

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
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", str(value), re.IGNORECASE)
        if found is None:
            self.fail(f"{value!r} is no size; expected bytes, or such as 512M or 8G.", param, ctx)
        return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


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
    help="Memory that the job may take, weights included, such as 8G.  [default: half of what is "
    "free for keys and values]",
)


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
