"""Whether a run is good enough: against the thresholds of its job file, and against a baseline.

A metric regresses where it is worse than the baseline's by more than `allow`, and by more than `z`
standard errors of the difference. What cannot be compared does not pass for that: a metric that is
missing, or is no finite number, fails.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .difference import Key, keyed
from .environment import rounded_by
from .finding import FAILING, MISSING, NEW, THRESHOLD, Finding, breach, compare, figure, no_number
from .job_spec import JobSpec
from .results import EvalResult, Metric, RowResult, TaskResult
from .task_spec import TaskSpec
from .tasks import KINDS

PASSED, FAILED, NOT_GATED = "passed", "failed", "not gated"
HASH_SHOWN = 8  # characters
SIZES = ("n_embd", "n_layer", "n_ctx", "n_vocab")


@dataclass(frozen=True)
class Flip:
    """A row that was right and is wrong now, or the other way round."""

    task: str
    id: str
    prompt: str
    expected: str
    before: str
    after: str
    was_correct: bool
    is_correct: bool


@dataclass(frozen=True)
class Gate:
    """What a run was held to, and what came of it.

    Attributes
    ----------
    verdict : str
        `passed`, `failed`, or `not gated` where there is neither a threshold nor a baseline.
    baseline : dict or None
        `name`, `run` and `started` of what it was compared with.
    findings : list of Finding
        One for each metric that was compared, and one for each threshold that is not kept. None
        of metrics that nothing can be held to, such as a speed.
    flipped : list of Flip
        First those that are wrong now.
    notes : list of str
        What else a reader should know of the comparison.
    """

    verdict: str
    baseline: dict[str, str] | None = None
    findings: list[Finding] = field(default_factory=list)
    flipped: list[Flip] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return self.verdict == FAILED

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(spec: JobSpec, now: EvalResult, before: EvalResult | None) -> Gate:
    """Hold a run to what its job file says.

    Parameters
    ----------
    spec : JobSpec
        Its `baseline` is what `before` is called.
    now : EvalResult
    before : EvalResult or None
        The baseline; None where there is none yet.
    """
    findings: list[Finding] = []
    flipped: list[Flip] = []
    notes = _notes(spec, now, before)
    old_tasks = before.tasks if before else {}
    for name in dict.fromkeys((*spec.tasks, *now.tasks, *old_tasks)):
        task, old = now.tasks.get(name), old_tasks.get(name)
        wanted = spec.tasks.get(name) or TaskSpec(name, "")
        rows, old_rows = keyed(task.rows if task else []), keyed(old.rows if old else [])
        findings += _missing(wanted, task, old, now.failed.get(name))
        kind = KINDS.get(wanted.kind)
        ungated, noisy = (kind.ungated, kind.noisy) if kind else ({}, False)
        for metric in task.metrics if task else []:
            if metric.name in ungated:
                continue
            was = _metric(old, metric.name)
            if was is not None:
                allow = wanted.allow.get(metric.name)
                findings.append(
                    compare(name, metric, was, rows, old_rows, allow, spec.z, noisy=noisy)
                )
            findings += _alone(wanted, metric, was, compares=before is not None)
        flipped += _flipped(name, rows, old_rows)
        if task and old and rows.keys() != old_rows.keys():
            notes.append(_other_rows(name, rows, old_rows))
    is_held = before is not None or any(task.thresholds for task in spec.tasks.values())
    fails = any(finding.fails for finding in findings)
    return Gate(
        FAILED if fails else PASSED if is_held else NOT_GATED,
        None
        if before is None
        else {
            "name": spec.baseline or "",
            "run": before.run,
            "started": before.started.isoformat(),
        },
        findings,
        sorted(flipped, key=lambda flip: flip.is_correct),
        notes,
    )


def by_metric(gate: dict[str, Any] | None) -> dict[tuple[str, str], dict[str, Any]]:
    """What was found of each metric of each task, in one: with a verdict that fails, if any does.

    Parameters
    ----------
    gate : dict or None
        As `results.json` has it.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for finding in (gate or {}).get("findings", []):
        known = found.setdefault((finding["task"], finding["metric"]), {**finding})
        if finding["verdict"] in FAILING and known["verdict"] not in FAILING:
            known["verdict"] = finding["verdict"]
    return found


def _metric(task: TaskResult | None, name: str) -> Metric | None:
    return next((metric for metric in (task.metrics if task else []) if metric.name == name), None)


def _missing(
    wanted: TaskSpec, task: TaskResult | None, old: TaskResult | None, failure: str | None
) -> Iterator[Finding]:
    """What the baseline has or the job file names, and the run has not."""
    olds = [metric.name for metric in (old.metrics if old else [])]
    for name in dict.fromkeys((*olds, *wanted.thresholds, *wanted.allow)):
        if _metric(task, name) is not None:
            continue
        was = _metric(old, name)
        said = "the job file names it" if was is None else f"was {figure(was.value)}"
        if failure is not None:
            why = f"the task failed: {failure}"
        elif task is None:
            why = "the task is not in this run"
        else:
            why = "the task does not give it"
        yield Finding(
            wanted.name, name, MISSING, None, f"{said}; {why}", None if was is None else was.value
        )


def _alone(
    wanted: TaskSpec, metric: Metric, was: Metric | None, *, compares: bool
) -> Iterator[Finding]:
    """What is found of a metric where it is not compared."""
    threshold = wanted.thresholds.get(metric.name)
    if threshold is not None:
        said = breach(metric, threshold)
        if said is not None:
            yield Finding(wanted.name, metric.name, THRESHOLD, metric.value, said)
    elif was is None and not math.isfinite(metric.value):
        yield Finding(wanted.name, metric.name, MISSING, metric.value, no_number(metric.value))
        return
    if compares and was is None:
        said = f"{figure(metric.value)}; the baseline has no such metric"
        yield Finding(wanted.name, metric.name, NEW, metric.value, said)


def _flipped(
    task: str, rows: Mapping[Key, RowResult], old_rows: Mapping[Key, RowResult]
) -> Iterator[Flip]:
    for key, row in rows.items():
        old = old_rows.get(key)
        if old is None or old.correct is None or row.correct is None:
            continue
        if old.correct != row.correct:
            yield Flip(
                task,
                row.id,
                row.prompt,
                row.expected,
                old.answer,
                row.answer,
                old.correct,
                row.correct,
            )


def _other_rows(task: str, rows: Mapping[Key, RowResult], old_rows: Mapping[Key, RowResult]) -> str:
    same = len(rows.keys() & old_rows.keys())
    return (
        f"other rows than the baseline's: {task} has {same:,} of its {len(old_rows):,}, and "
        f"{len(rows) - same:,} more"
    )


def _notes(spec: JobSpec, now: EvalResult, before: EvalResult | None) -> list[str]:
    if before is None:
        name = spec.baseline or "NAME"
        where = f" in {spec.baselines}" if spec.baseline else ""
        held = (
            "only thresholds are judged"
            if any(task.thresholds for task in spec.tasks.values())
            else "nothing is judged"
        )
        return [
            f"no baseline yet{where}: {held}; make this one with "
            f"`runner eval {spec.file} --bless {name}`",
            *_other_bits(now, None),
        ]
    return [
        *(
            f"the baseline is of another {what}: {old}; this run has {new}"
            for what, old, new in _told_apart(now, before)
            if old != new
        ),
        *_other_bits(now, before),
    ]


def _other_bits(now: EvalResult, before: EvalResult | None) -> Iterator[str]:
    """Processors that may give the same rows other bits."""
    found = rounded_by(now.environment)
    was = rounded_by(before.environment) if before else set()
    named, old = ("; ".join(sorted(kinds)) for kinds in (found, was))
    if len(found) > 1:
        yield (
            "processors with different instructions, which may round in different places, computed "
            f"this run: {named}"
        )
    if found and was and found != was:
        yield (
            "processors with other instructions, which may round in other places, computed the "
            f"baseline: {old}; and this run: {named}"
        )


def _told_apart(now: EvalResult, before: EvalResult) -> Iterator[tuple[str, Any, Any]]:
    """What both runs should have in common: what it is, in the baseline, and now."""
    yield "job", before.job["name"], now.job["name"]
    yield "dtype", before.model["dtype"], now.model["dtype"]
    tokenizer, now_tokenizer = (of.model.get("tokenizer_sha256") for of in (before, now))
    if tokenizer and now_tokenizer:  # what older runs do not tell
        yield "tokenizer", str(tokenizer)[:HASH_SHOWN], now_tokenizer[:HASH_SHOWN]
    sizes, now_sizes = before.model["hparams"], now.model["hparams"]
    for name in SIZES:
        yield f"model size, {name}", sizes.get(name), now_sizes.get(name)
    for task in now.tasks:
        if task in before.tasks:
            yield f"kind of task, {task}", before.kinds[task], now.kinds[task]
