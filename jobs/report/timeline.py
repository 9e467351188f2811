"""Nights of a job, from its history: what was measured, what changed, since when it is bad."""

import datetime as dt
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.report import ExitCode

from ..finding import FAILING
from ..gate import by_metric
from ..results import EvalResult

# What a figure may follow from, by its column, and what it is called.
FACTS = {
    "model": "model",
    "weights_sha256": "weights",
    "dtype": "dtype",
    "onnxruntime": "onnxruntime",
    "picobatch": "picobatch",
    "processor": "processor",
}
HASHES = ("weights_sha256",)
HASH_SHOWN = 8  # characters


@dataclass
class Measured:
    """A metric in one run, and the gate's verdict on it."""

    value: float
    stderr: float | None
    verdict: str


@dataclass
class Run:
    """A run of the job.

    Attributes
    ----------
    name : str
    started : datetime
    facts : dict of str to str
        By the keys of `FACTS`.
    exit_code : int
    metrics : dict of (str, str) to Measured
        By task and metric.
    """

    name: str
    started: dt.datetime
    facts: dict[str, str]
    exit_code: int = 0
    metrics: dict[tuple[str, str], Measured] = field(default_factory=dict)


@dataclass(frozen=True)
class Since:
    """For how long something has been wrong.

    Attributes
    ----------
    run : Run
        The first of those, one after the other up to this one, in which it was.
    runs : int
        How many they are.
    changes : list of str
        What was another in it than in the run before: `onnxruntime 1.31.0 -> 1.32.0`.
    is_known : bool
        Whether there was a run before.
    """

    run: Run
    runs: int
    changes: list[str]
    is_known: bool


def timeline(history: Iterable[Mapping[str, Any]], result: EvalResult) -> list[Run]:
    """The runs of a job up to this one, in order of time, this one last.

    Parameters
    ----------
    history : iterable of dict
        Rows of the history; those of other jobs and of later runs are left out.
    result : EvalResult
        This run, which the history may hold already.
    """
    runs: dict[str, Run] = {}
    for row in history:
        name, started = row["run"], in_utc(row["started"])
        if row["job"] != result.job["name"] or name == result.run or started > result.started:
            continue
        if name not in runs:
            runs[name] = Run(name, started, facts(row), row.get("exit_code") or 0)
        runs[name].metrics[row["task"], row["metric"]] = Measured(
            number(row["value"]), row["stderr"], row["verdict"] or ""
        )
    before = sorted(runs.values(), key=lambda run: (run.started, run.name))
    return [*before, this_run(result)]


def this_run(result: EvalResult) -> Run:
    """The run itself, as a history will have it."""
    told = {**result.environment, **result.model, "model": result.model["name"]}
    run = Run(result.run, result.started, facts(told), result.exit_code)
    verdicts = {key: told["verdict"] for key, told in by_metric(result.gate).items()}
    for task, found in result.tasks.items():
        for metric in found.metrics:
            verdict = verdicts.get((task, metric.name), "")
            run.metrics[task, metric.name] = Measured(metric.value, metric.stderr, verdict)
    for key, verdict in verdicts.items():
        run.metrics.setdefault(key, Measured(math.nan, None, verdict))
    return run


def facts(told: Mapping[str, Any]) -> dict[str, str]:
    return {fact: str(told.get(fact) or "") for fact in FACTS}


def changes(before: Run, after: Run, facts: Iterable[str] = tuple(FACTS)) -> list[str]:
    """What is another in a run than in the one before it."""
    found = []
    for fact in facts:
        old, new = before.facts[fact], after.facts[fact]
        if old != new and old and new:
            if fact in HASHES:
                old, new = old[:HASH_SHOWN], new[:HASH_SHOWN]
            found.append(f"{FACTS[fact]} {old} \N{RIGHTWARDS ARROW} {new}")
    return found


def since(runs: Sequence[Run], is_wrong: Callable[[Run], bool]) -> Since:
    """For how long something has been wrong that is wrong in the last run.

    Parameters
    ----------
    runs : sequence of Run
    is_wrong : callable
        Tells it of a run.
    """
    first = len(runs) - 1
    while first > 0 and is_wrong(runs[first - 1]):
        first -= 1
    changed = changes(runs[first - 1], runs[first]) if first else []
    return Since(runs[first], len(runs) - first, changed, is_known=first > 0)


def refuses(task: str, metric: str) -> Callable[[Run], bool]:
    """Whether a run's gate refuses a metric."""

    def refused(run: Run) -> bool:
        measured = run.metrics.get((task, metric))
        return measured is not None and measured.verdict in FAILING

    return refused


def disagrees(run: Run) -> bool:
    """Whether a run disagreed with the reference."""
    return run.exit_code == ExitCode.DISAGREES


def number(value: Any) -> float:
    return math.nan if value is None else float(value)


def in_utc(moment: dt.datetime) -> dt.datetime:
    """A time of the history, which says UTC or means it."""
    return moment.replace(tzinfo=moment.tzinfo or dt.UTC).astimezone(dt.UTC)
