"""Whether a model still writes what it once wrote: a completions file that was found good."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runner.errors import InputError, SettingsError
from runner.inputs import input_files
from runner.messages import cut, shown
from runner.places import Place
from runner.provenance import read_provenance
from runner.records import Completion, Reject, Result
from runner.report import incomplete
from runner.shape import fits, is_count, is_text, or_none

from ..data import located
from ..documents import Asked, read_documents
from ..formats import Format, RowError, string
from ..language_model import LanguageModel
from ..results import Metric, RowResult, TaskResult, weighted_mean
from ..statistics import mean_metric
from ..task_spec import TaskSpec
from .kind import Kind, flag, texts, whole_number

TOLD_ROWS = 100  # that changed, with the place where they do
TOLD_TOKENS = 12  # from there on
SETTINGS_SHAPE = {
    "prompt_column": is_text,
    "column_prefix": is_text,
    "format": is_text,
    "dtype": is_text,
    "max_new_tokens": is_count,
    "stop": [is_text],
    "ignore_eos": lambda v: isinstance(v, bool),
    "truncate_prompt": or_none(is_text),
}
MODEL_SHAPE = {"name": is_text, "weights_sha256": is_text, "tokenizer_sha256": is_text}


@dataclass(frozen=True)
class Made:
    """How completions were made.

    Attributes
    ----------
    max_new_tokens, stop, ignore_eos, truncate
        As in `Generator.complete`.
    prompt_column, prefix : str
        Names of columns.
    model : dict of str to str or None
        `name`, `weights_sha256`, `tokenizer_sha256` and `dtype`; None where nothing tells.
    """

    max_new_tokens: int
    stop: tuple[str, ...]
    ignore_eos: bool
    truncate: bool
    prompt_column: str = "prompt"
    prefix: str = ""
    model: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Blessed:
    """A row of a completions file.

    Attributes
    ----------
    prompt : str or tuple of int
    completion : str or None
        None in an error row.
    ids : tuple of int or None
        Its tokens, where the file has them.
    max_new_tokens : int or None
        The row's own.
    """

    prompt: str | tuple[int, ...]
    completion: str | None
    ids: tuple[int, ...] | None
    max_new_tokens: int | None


def run(spec: TaskSpec, model: LanguageModel) -> TaskResult:
    """Complete the prompts of a completions file again, and compare."""
    made = _made(spec)
    names = {"prompt": made.prompt_column} | {
        column: f"{made.prefix}{column}" for column in ("completion", "completion_ids")
    }
    asked, result = read_documents(
        replace(spec, columns=names | spec.columns),
        Format(("prompt", "completion"), _blessed, ("completion_ids", "max_new_tokens")),
        Blessed,
    )
    good = [a for a in asked if a.document.completion is not None]
    differs = _differences(made, model)
    same_tokens = "tokenizer_sha256" not in differs
    changed: list[dict[str, Any]] = []
    for a, found in zip(good, _completed(good, made, model), strict=True):
        row, place = _compared(a, found, model, same_tokens=same_tokens)
        result.rows.append(row)
        if not row.correct and len(changed) < TOLD_ROWS:
            changed.append({"id": a.id, "where": a.where, **place})
    if result.rows:
        result.metrics = [mean_metric(result.rows, "same"), *_common_tokens(result.rows)]
    result.details = {
        "made_with": made.model,
        "differs": differs,
        "error_rows": len(asked) - len(good),
        "changed": changed,
    }
    return result


def _made(spec: TaskSpec) -> Made:
    """How all files were made, by their provenance; by the job file where there is none."""
    found: dict[str, Made] = {}
    for source in spec.data:
        with input_files(located(source, spec.folder)) as files:
            found |= {file.name: _made_of(file, spec) for file in files}
    name, made = next(iter(found.items()))
    for other, also in found.items():
        if also != made:
            raise InputError(
                f"{other}: was made by another model or with other settings than {name}; expected "
                "the files of one job. Give each a task of its own."
            )
    return made


def _made_of(file: Place, spec: TaskSpec) -> Made:
    options = spec.options
    try:
        provenance = read_provenance(file)
    except InputError as e:
        if options["max_new_tokens"] is None:
            raise InputError(
                f'{e} Or say in {spec.where} how it was made: "max_new_tokens", "stop", '
                '"ignore_eos" and "truncate".'
            ) from None
        return Made(
            options["max_new_tokens"],
            tuple(options["stop"] or ()),
            bool(options["ignore_eos"]),
            bool(options["truncate"]),
        )
    settings, model = provenance.get("settings"), provenance.get("model")
    if not fits(settings, SETTINGS_SHAPE) or not fits(model, MODEL_SHAPE):
        raise incomplete(file.name, ValueError("its settings are none"))
    assert isinstance(settings, dict)
    assert isinstance(model, dict)
    if settings["format"] != "rows":
        raise InputError(
            f"{file.name}: holds responses of OpenAI's batch interface; expected rows with their "
            "completions. Run `runner batch` without --format openai."
        )
    made = Made(
        settings["max_new_tokens"],
        tuple(settings["stop"]),
        settings["ignore_eos"],
        settings["truncate_prompt"] is not None,
        settings["prompt_column"],
        settings["column_prefix"],
        {key: model[key] for key in MODEL_SHAPE} | {"dtype": settings["dtype"]},
    )
    for key in ("max_new_tokens", "stop", "ignore_eos", "truncate"):
        told, was = options[key], getattr(made, key)
        if told is not None and (tuple(told) if key == "stop" else told) != was:
            raise SettingsError(
                f'{spec.where}: "{key}" is {cut(json.dumps(told))}, but {file.name} was made with '
                f"{cut(json.dumps(was))}. Remove the key, or make the file anew."
            )
    return made


def _blessed(row: Mapping[str, Any]) -> Blessed:
    prompt, ids, limit = row["prompt"], row.get("completion_ids"), row.get("max_new_tokens")
    if row["completion"] is None:  # whatever was wrong with it
        return Blessed("", None, None, None)
    if not _is_ids(prompt):
        prompt = string(row, "prompt")
    if ids is not None and not _is_ids(ids):
        raise RowError(f'"completion_ids" is {shown(ids)}; expected a list of token ids')
    if limit is not None and not is_count(limit):
        raise RowError(f'"max_new_tokens" is {shown(limit)}; expected a whole number')
    return Blessed(
        prompt if isinstance(prompt, str) else tuple(prompt),
        string(row, "completion"),
        None if ids is None else tuple(ids),
        limit,
    )


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(is_count(token) for token in value)


def _completed(
    asked: Sequence[Asked[Blessed]], made: Made, model: LanguageModel
) -> Iterator[Result]:
    """What the model writes now, in order; rows of one limit at a time."""
    limits = [
        made.max_new_tokens if a.document.max_new_tokens is None else a.document.max_new_tokens
        for a in asked
    ]
    found: dict[int, Result] = {}
    for limit in dict.fromkeys(limits):
        places = [place for place, own in enumerate(limits) if own == limit]
        prompts = [asked[place].document.prompt for place in places]
        results = model.generator.complete(
            [prompt if isinstance(prompt, str) else list(prompt) for prompt in prompts],
            limit,
            made.stop,
            ignore_eos=made.ignore_eos,
            truncate=made.truncate,
        )
        found |= dict(zip(places, results, strict=True))
    return (found[place] for place in range(len(asked)))


def _compared(
    asked: Asked[Blessed], found: Result, model: LanguageModel, *, same_tokens: bool
) -> tuple[RowResult, dict[str, Any]]:
    """A row, and where it changes: the number of the token, and what stands there and stood."""
    blessed, encode = asked.document, model.tokenizer.encode
    assert blessed.completion is not None
    after = f"error: {found.reason}" if isinstance(found, Reject) else found.text
    if isinstance(found, Completion) and same_tokens and blessed.ids is not None:
        old, new = list(blessed.ids), found.ids
    else:
        old, new = encode(blessed.completion), encode(after)
    common = next(
        (n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b),
        min(len(old), len(new)),
    )
    same = isinstance(found, Completion) and blessed.completion == after and old == new
    prompt = blessed.prompt
    row = RowResult(
        asked.id,
        prompt=prompt if isinstance(prompt, str) else model.tokenizer.decode(prompt),
        expected=blessed.completion,
        answer=after,
        correct=same,
        values={"same": float(same), "common_tokens": float(common), "tokens": float(len(old))},
    )
    decode = model.tokenizer.decode
    end = common + TOLD_TOKENS
    return row, {"token": common, "before": decode(old[common:end]), "now": decode(new[common:end])}


def _common_tokens(rows: Sequence[RowResult]) -> list[Metric]:
    """The share of tokens that come before the first change; none where there are no tokens."""
    if not any(row.values["tokens"] for row in rows):
        return []
    return [
        Metric(
            "common_tokens",
            weighted_mean(rows, "common_tokens", "tokens"),
            stderr=None,
            n=len(rows),
            higher_is_better=True,
            of="common_tokens",
            per="tokens",
        )
    ]


def _differences(made: Made, model: LanguageModel) -> list[str]:
    """What of the model is not as it was, by name: the reason for changes, perhaps."""
    if made.model is None:
        return []
    loaded = model.generator.float32 or model.model
    now = {
        "weights_sha256": loaded.weights_sha256,
        "tokenizer_sha256": loaded.tokenizer.sha256,
        "dtype": "float32" if model.model.kv_scales is None else "int8",
    }
    return [key for key, value in now.items() if made.model[key] != value]


KIND = Kind(
    "completions",
    run,
    options={
        "max_new_tokens": whole_number(),
        "stop": texts(default=None),
        "ignore_eos": flag(default=None),
        "truncate": flag(default=None),
    },
    columns=("prompt", "completion"),
    optional_columns=("completion_ids", "max_new_tokens"),
    metrics=("same", "common_tokens"),
)
