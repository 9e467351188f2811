"""What is to be done: inputs -> parts with fixed rows, and what all of them follow from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reference import Model, load_model

from .clock import Clock
from .errors import InputError
from .key import job_key
from .parts import Part, Plan, good_part_rows, shard_rows
from .places import Place, explained, shown_place, without_options
from .reader import Source, open_source
from .settings import RunSettings
from .storage import Format, format_of
from .store_errors import StoreError
from .writer import check_columns, output_schema

PROMPT_TOKEN_BYTES = 4  # of English
DECODE_COST = 3  # of a generated token, in tokens of a prompt; 2 and 5 in the runs of README.md


@dataclass(frozen=True)
class PlannedJob:
    """A job whose inputs are known to be good: all that a process has to know that does a part.

    Attributes
    ----------
    settings : RunSettings
        What was asked for.
    source : Source
        The rows.
    stamps : dict
        What told, before the first reading, that an input is the file it was.
    key : dict
        What the output follows from.
    plan : Plan
        The parts.
    schema : Schema
        Of Parquet output.
    """

    settings: RunSettings
    source: Source
    stamps: dict[str, Any]
    key: dict[str, Any]
    plan: Plan
    schema: pa.Schema

    def cost(self, part: Part) -> float:
        """About how long a part takes, in tokens of prompts: rows that generate are the most of it.

        By the prompts alone one of short ones would seem late where it is not.
        """
        generated = self.settings.max_new_tokens * len(part.rows)
        return self.source.cost(part.rows) / PROMPT_TOKEN_BYTES + DECODE_COST * generated

    def files_of(self, files: Sequence[Place], part: Part) -> list[Place]:
        """What to look at before a part counts: of files in stores only its own, as each costs."""
        own = [file for file in self.source.places_of(part.rows) if not file.is_local]
        return [file for file in files if file.is_local] + own

    def refuse_changed(self, files: Sequence[Place]) -> None:
        """See that inputs are the files that were looked at.

        Raises
        ------
        InputError
            Naming the one that is not.
        """
        for file in files:
            try:
                found = stamps_of([file])
            except StoreError as e:  # it may be as it was: nobody knows
                raise InputError(f"{file.name}: {e}") from None
            except OSError:  # it is gone
                found = {file.name: None}
            if any(self.stamps[name] != stamp for name, stamp in found.items()):
                raise changed(file.name)


def plan_job(
    settings: RunSettings,
    files: Sequence[Place],
    clock: Clock,
    n_at_a_time: Callable[[Model], int] | None = None,
) -> tuple[PlannedJob, Model]:
    """Look at all that a job takes, before anything is done.

    Parameters
    ----------
    settings : RunSettings
        What is asked for.
    files : sequence of Place
        Its inputs.
    clock : Clock
        Measures how long the model takes to load.
    n_at_a_time : callable, optional
        Parts of a model that a cluster does at a time.

    Raises
    ------
    PicobatchError
        Where an input or the model cannot be read as a whole.
    """
    name = shown_place(settings.input)
    with explained(name, InputError):
        stamps = stamps_of(files)  # before they are read for the first time
    source = open_source(
        files,
        name,
        settings.prompt_column,
        settings.limit,
        typed=format_of(without_options(settings.output)[0]) is Format.PARQUET,
        requests=settings.format == "openai",
    )
    check_columns(source.column_names, settings.column_prefix, source.name)
    with clock.measure("load"):
        model = load_model(
            settings.model, models_dir=settings.models_dir, base_url=settings.base_url
        )
    rows = shard_rows(source.n_rows, settings.shard)
    part_rows = settings.part_rows or good_part_rows(
        model.hparams, settings.max_new_tokens, len(rows), n_at_a_time and n_at_a_time(model)
    )
    job = PlannedJob(
        settings,
        source,
        stamps,
        job_key(settings, source, model),
        Plan(rows, part_rows),
        output_schema(source, settings.column_prefix),
    )
    return job, model


def stamps_of(files: Sequence[Place]) -> dict[str, Any]:
    """What tells that a file was changed; copies of ours nobody changes."""
    return {file.name: file.stamp() for file in files if not file.is_copy}


def changed(name: str) -> InputError:
    return InputError(
        f"{name}: changed while the job ran; expected a file that nobody writes to. Run again when "
        "it is whole, with --overwrite where parts were kept."
    )
