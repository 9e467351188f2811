"""What the rows of an output follow from, and in what two jobs differ."""

from typing import Any

from reference import Model, __version__

from .engine import runtime_version
from .messages import cut, shown
from .reader import Source
from .settings import RunSettings

# Settings that change what is written. Batch size, threads, memory, what is checked and what
# happens at a bad row do not change a row.
DATA_SETTINGS = (
    "prompt_column",
    "column_prefix",
    "format",
    "max_new_tokens",
    "stop",
    "ignore_eos",
    "dtype",
    "limit",
    "shard",
    "truncate_prompt",
)
SHOWN_DIFFERENCES = 4


def job_key(settings: RunSettings, source: Source, model: Model) -> dict[str, Any]:
    """What an output follows from: contents, not names; all of it fits JSON."""
    found = {name: getattr(settings, name) for name in DATA_SETTINGS}
    if settings.format == "openai":  # which has no columns
        found |= {"prompt_column": None, "column_prefix": None}
    return {
        "input": source.files,
        "weights_sha256": model.weights_sha256,
        "tokenizer_sha256": model.tokenizer.sha256,
        "hparams": dict(model.hparams),
        "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()},
        "versions": {"picobatch": __version__, "onnxruntime": runtime_version()},
    }


def differences(before: dict[str, Any], now: dict[str, Any], *but: str) -> str:
    """What another job had, and this one has; empty where nothing differs.

    Parameters
    ----------
    before, now : dict
        From `job_key`.
    *but : str
        Settings that do not matter.
    """
    told = []
    old, new = before.get("input", []), now["input"]
    if [file.get("sha256") for file in old] != [file["sha256"] for file in new]:
        told.append(_changed_input(old, new))
    was, is_now = _flat(before), _flat(now)
    told += [
        f"{name} was {shown(was.get(name))}, is {shown(is_now[name])}"
        for name in is_now
        if name not in but and was.get(name) != is_now[name]
    ]
    more = [f"and {len(told) - SHOWN_DIFFERENCES} more"] if len(told) > SHOWN_DIFFERENCES else []
    return "; ".join([*told[:SHOWN_DIFFERENCES], *more])


def _changed_input(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> str:
    if len(old) != len(new):
        return f"the input was {len(old)} files, is {len(new)}"
    name = next(n["name"] for o, n in zip(old, new, strict=True) if o.get("sha256") != n["sha256"])
    return f"the input {cut(name)} has other content"


def _flat(key: dict[str, Any]) -> dict[str, Any]:
    """Everything but the input, one level deep."""
    flat: dict[str, Any] = {}
    for name, value in key.items():
        if name != "input":
            flat |= value if isinstance(value, dict) else {name: value}
    return flat


def key_of(provenance: dict[str, Any]) -> dict[str, Any]:
    """The key that an output was written with."""
    return {"input": provenance["input"]["files"], **provenance["key"]}
