"""`results.json`: what a run found, as JSON; and read back, whoever wrote it.

A number that is not finite is null there, since JSON has none, and comes back as NaN.
"""

import datetime as dt
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner.errors import InputError
from runner.messages import cut, is_unicode, shown
from runner.shape import Shape, fits, is_count, is_deep, is_number, is_text, or_none

from .results import SCALES, BadRow, EvalResult, Metric, TaskResult

SCHEMA = 1
MOST_BYTES = 1 << 28
REMEDY = "Copy its folder again, or evaluate again."


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_time(value: Any) -> bool:
    try:
        return dt.datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def is_file_name(value: Any) -> bool:
    """Whether a text can name a file in a folder, and nothing outside of it."""
    return (
        is_text(value)
        and value not in {"", ".", ".."}
        and value.isprintable()
        and not {*value} & {*'/\\:*?"<>|'}
    )


HEAD = {
    "run": is_file_name,
    "job": {"name": is_text, "file": is_text, "sha256": is_text},
    "started": _is_time,
    "elapsed_s": is_number,
    "model": {"name": is_text, "weights_sha256": is_text, "dtype": is_text, "hparams": {}},
    "tasks": {},
    "check": {},
    "environment": {},
    "exit_code": is_count,
}
TASK = {
    "kind": is_text,
    "data": [{}],
    "rows": is_count,
    "bad_rows": [{"where": is_text, "reason": is_text}],
    "elapsed_s": is_number,
    "details": {},
    "metrics": {},
}
METRIC = {
    "value": or_none(is_number),
    "stderr": or_none(is_number),
    "n": is_count,
    "higher_is_better": _is_flag,
    "of": or_none(is_text),
    "per": or_none(is_text),
    "scale": lambda value: isinstance(value, str) and value in SCALES,
}
FINDING = {
    **dict.fromkeys(("task", "metric", "verdict", "reason"), is_text),
    **dict.fromkeys(("value", "before", "difference", "stderr"), or_none(is_number)),
    "paired": _is_flag,
    "rows": is_count,
}
FLIP = {
    **dict.fromkeys(("task", "id", "prompt", "expected", "before", "after"), is_text),
    "was_correct": _is_flag,
    "is_correct": _is_flag,
}
GATE = {
    "verdict": lambda value: value in ("passed", "failed", "not gated"),
    "baseline": or_none({"name": is_text, "run": is_text, "started": is_text}),
    "findings": [FINDING],
    "flipped": [FLIP],
    "notes": [is_text],
}


def as_document(result: EvalResult) -> dict[str, Any]:
    """The object that `results.json` holds: of rows their number, they have files of their own."""
    found = {
        "schema": SCHEMA,
        "run": result.run,
        "job": result.job,
        "started": result.started.isoformat(),
        "elapsed_s": result.elapsed_s,
        "model": result.model,
        "tasks": {
            name: _task_object(task) | {"kind": result.kinds[name]}
            for name, task in result.tasks.items()
        },
        "failed": result.failed,
        "check": result.check,
        "gate": result.gate,
        "environment": result.environment,
        "exit_code": result.exit_code,
    }
    return {name: _finite(value) for name, value in found.items()}


def as_bytes(result: EvalResult) -> bytes:
    """The file's content."""
    text = json.dumps(as_document(result), indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode(errors="backslashreplace")  # half a character, as JSON escapes it


def _task_object(task: TaskResult) -> dict[str, Any]:
    metrics = {metric.name: asdict(metric) for metric in task.metrics}
    for metric in metrics.values():
        del metric["name"]
    return {
        "data": task.data,
        "rows": len(task.rows),
        "bad_rows": [asdict(row) for row in task.bad_rows],
        "elapsed_s": task.elapsed_s,
        "details": task.details,
        "metrics": metrics,
    }


def _finite(value: Any) -> Any:
    """The same with null for numbers that JSON cannot write."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_results(file: Path) -> tuple[EvalResult, dict[str, int]]:
    """What a `results.json` tells, without rows, and how many rows each task has.

    Raises
    ------
    InputError
        Where it is not what `runner eval` writes.
    """
    try:
        n_bytes = file.stat().st_size
        if n_bytes > MOST_BYTES:
            raise _error(file, f"has {n_bytes:,} bytes; expected {MOST_BYTES:,} at most")
        found = json.loads(file.read_bytes())
    except OSError as e:
        raise _error(file, e.strerror or str(e)) from None
    except (ValueError, RecursionError) as e:
        raise _error(file, f"not JSON ({cut(str(e))})") from None
    return from_document(found, file)


def from_document(found: Any, file: Path) -> tuple[EvalResult, dict[str, int]]:
    """The same of the object that the file holds."""
    if not isinstance(found, dict) or is_deep(found):
        raise _error(file, f"is {shown(found)}; expected an object")
    if found.get("schema") != SCHEMA:
        raise _error(file, f'"schema" is {shown(found.get("schema"))}; this version reads {SCHEMA}')
    _check(file, "", found, HEAD)
    gate, failed = found.get("gate"), found.get("failed", {})
    if gate is not None:
        _check(file, "gate", gate, GATE)
    if not (isinstance(failed, dict) and all(map(is_text, (*failed, *failed.values())))):
        raise _error(file, '"failed" is not the reasons of tasks that failed')
    tasks = {name: _task(file, name, task) for name, task in found["tasks"].items()}
    started = dt.datetime.fromisoformat(found["started"]).astimezone(dt.UTC)
    same = ("run", "job", "elapsed_s", "model", "check", "environment", "exit_code")
    result = EvalResult(
        **{name: found[name] for name in same},
        started=started,
        kinds={name: task["kind"] for name, task in found["tasks"].items()},
        tasks=tasks,
        failed=failed,
        gate=gate,
    )
    return result, {name: task["rows"] for name, task in found["tasks"].items()}


def _task(file: Path, name: str, found: Any) -> TaskResult:
    if not is_file_name(name):
        raise _error(file, f"a task is called {shown(name)}; expected the name of a file")
    _check(file, f"tasks.{name}", found, TASK)
    metrics = []
    for metric, told in found["metrics"].items():
        where = f"tasks.{name}.metrics.{metric}"
        if not is_unicode(metric):
            raise _error(file, f"tasks.{name}: a metric is called {shown(metric)}")
        _check(file, where, told, METRIC)
        value, stderr = told["value"], told["stderr"]
        metrics.append(
            Metric(
                metric,
                math.nan if value is None else float(value),
                None if stderr is None else float(stderr),
                **{key: told[key] for key in METRIC if key not in {"value", "stderr"}},
            )
        )
    return TaskResult(
        metrics,
        bad_rows=[BadRow(row["where"], row["reason"]) for row in found["bad_rows"]],
        data=found["data"],
        details=found["details"],
        elapsed_s=found["elapsed_s"],
    )


def _check(file: Path, where: str, found: Any, shape: dict[str, Shape]) -> None:
    if not isinstance(found, dict):
        raise _error(file, f"{where} is {shown(found)}; expected an object")
    for name, of in shape.items():
        if name not in found:
            raise _error(file, f"{where or 'the file'} has no {name!r}")
        if not fits(found[name], of):
            said = shown(found[name])
            raise _error(file, f"{f'{where}.{name}'.lstrip('.')} is {said}, which it cannot be")


def _error(file: Path, said: str) -> InputError:
    return InputError(f"{file}: {said}; expected the results that `runner eval` wrote. {REMEDY}")
