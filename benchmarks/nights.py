"""Nights of a job that never ran: a history, runs and a baseline to look at, all of them simulated.

    python -m benchmarks.nights FOLDER
    python -m benchmarks.nights FOLDER --nights 60 --seed 0

Nothing is evaluated: no model, no data, no clock. Each row of a task has a difficulty and an answer
that follow from the seed. A night is the same as the one before but for what happened to it:

night 20   another onnxruntime: log-likelihoods are rounded otherwise, by some 1e-6 of them
night 41   the weights are damaged: log-likelihoods fall, and some answers with them
night 44   the weights are what they were
each night the ratio of the throughput falls by a little, beside some noise

Everything says that it is simulated: the job, the model, the versions, the processor. FOLDER gets
`history/`, `baselines/good`, and `runs/` with a folder for each night; those that the gate stopped
and the last one have a report.
"""

import argparse
import datetime as dt
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from jobs import history, report
from jobs.baseline import bless, read_baseline
from jobs.gate import judge
from jobs.job_spec import JobSpec
from jobs.results import SCALES, EvalResult, Metric, RowResult, TaskResult, weighted_mean
from jobs.run_folder import write_run
from jobs.task_spec import TaskSpec, Threshold
from jobs.trends import trends
from runner.report import ExitCode

SIMULATED = "simulated"
NAME = "good"  # of the baseline: the first night
START = dt.datetime(2026, 1, 1, 3, tzinfo=dt.UTC)
NEW_RUNTIME, DAMAGED, MENDED = 20, 41, 44  # nights, the first is 1
ROUNDING = 1e-6
DAMAGE = 0.35  # nats that an answer of mean difficulty loses
DRIFT, SPEED_NOISE = 0.0015, 0.004  # of the ratio of the throughput, each night
RATIO = 0.62
N_ROWS = {"last_word": 400, "choices": 300, "pages": 60}
TASKS = {
    "last_word": TaskSpec(
        "last_word", "last_word", thresholds={"acc": Threshold(min=0.25)}, where=SIMULATED
    ),
    "choices": TaskSpec("choices", "multiple_choice", where=SIMULATED),
    "pages": TaskSpec("pages", "perplexity", where=SIMULATED),
    "speed": TaskSpec("speed", "throughput", allow={"ratio": 0.12}, where=SIMULATED),
}


def job(folder: Path) -> JobSpec:
    """What the nights are held to."""
    return JobSpec(
        "simulated-nights",
        folder / "simulated-nights.toml",
        SIMULATED,
        folder / "runs",
        str(folder / "history"),
        folder / "baselines",
        baseline=NAME,
        tasks=TASKS,
        model=SIMULATED,
    )


def rows_of(task: str, night: int, seed: int) -> list[RowResult]:
    """What a model that is not there answers to questions that nobody asked."""
    n = N_ROWS[task]
    rng = np.random.default_rng([seed, n])
    words = np.where(task == "pages", rng.integers(50, 900, n), 1)
    hard = rng.gamma(2.0, 1.1, n)
    margin = rng.normal(-0.4, 1.5, n)
    logs = -hard * words
    if night >= NEW_RUNTIME:
        logs = logs * (1 + ROUNDING * rng.normal(0, 1, n))
    if DAMAGED <= night < MENDED:
        harm = DAMAGE * rng.gamma(1.0, 1.0, n)
        logs, margin = logs - harm * words, margin - harm
    return [
        RowResult(
            f"{task}-{i}",
            f"{SIMULATED} question {i}, with one word left to",
            " say",
            " say" if margin[i] > 0 else f" other{i % 7}",
            None if task == "pages" else bool(margin[i] > 0),
            {
                "acc": float(margin[i] > 0),
                "loglikelihood": float(logs[i]),
                "words": float(words[i]),
            },
        )
        for i in range(n)
    ]


def mean(rows: list[RowResult], of: str) -> Metric:
    values = [row.values[of] for row in rows]
    stderr = float(np.std(values, ddof=1) / math.sqrt(len(rows)))
    return Metric(of, weighted_mean(rows, of, None), stderr, len(rows), True, of)


def scaled(name: str, rows: list[RowResult], per: str | None) -> Metric:
    value = SCALES["perplexity"](weighted_mean(rows, "loglikelihood", per))
    stderr = None
    if per is None:
        spread = float(np.std([row.values["loglikelihood"] for row in rows], ddof=1))
        stderr = value * spread / math.sqrt(len(rows))
    return Metric(name, value, stderr, len(rows), False, "loglikelihood", per, "perplexity")


def speed(night: int, seed: int) -> list[Metric]:
    rng = np.random.default_rng([seed, night])
    ratio = RATIO * (1 - DRIFT) ** night * (1 + SPEED_NOISE * rng.normal())
    machine = 4e4 * (1 + 0.1 * rng.normal())  # who else was on it
    return [
        Metric("tokens_per_s", ratio * machine, None, 5, True),
        Metric("ratio", ratio, None, 5, True),
    ]


def evaluate(night: int, seed: int) -> EvalResult:
    """A night's figures."""
    last_word, choices, pages = (rows_of(task, night, seed) for task in N_ROWS)
    found = {
        "last_word": [mean(last_word, "acc"), scaled("perplexity", last_word, None)],
        "choices": [mean(choices, "acc")],
        "pages": [scaled("word_perplexity", pages, "words")],
    }
    rows = {"last_word": last_word, "choices": choices, "pages": pages}
    tasks = {name: TaskResult(metrics, rows[name]) for name, metrics in found.items()}
    tasks["speed"] = TaskResult(speed(night, seed))
    started = START + dt.timedelta(days=night - 1)
    weights = "damaged" if DAMAGED <= night < MENDED else "whole"
    return EvalResult(
        f"{started:%Y%m%dT%H%M%SZ}-{night:04}",
        {"name": "simulated-nights", "file": SIMULATED, "sha256": SIMULATED},
        started,
        0.0,
        {
            "name": SIMULATED,
            "weights_sha256": f"{weights} ({SIMULATED})",
            "dtype": "float32",
            "hparams": {},
        },
        {name: task.kind for name, task in TASKS.items()},
        tasks,
        check={"agrees": True, "requests": 0, "tokens": 0, "offending": []},
        environment={
            "picobatch": SIMULATED,
            "onnxruntime": f"{SIMULATED} {2 if night >= NEW_RUNTIME else 1}",
            "processor": SIMULATED,
            "commit": None,
        },
    )


def simulate(folder: Path, nights: int, seed: int) -> list[EvalResult]:
    """Evaluate night after night, each held to the first; all is kept as a job keeps it."""
    spec, before, found = job(folder), None, []
    for night in range(1, nights + 1):
        result = evaluate(night, seed)
        gate = judge(spec, result, before)
        code = ExitCode.GATE if gate.failed else ExitCode.DONE
        result = replace(result, gate=gate.as_dict(), exit_code=int(code))
        run = write_run(result, spec.output)
        history.append(result, spec.history)
        if before is None:
            bless(run, spec.baselines, NAME)
            before = read_baseline(spec.baselines, NAME, required=True)
        found.append(result)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="is made; must hold no such runs yet")
    parser.add_argument("--nights", type=int, default=60, help="default: 60")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    wanted = parser.parse_args()
    found = simulate(wanted.folder, wanted.nights, wanted.seed)
    past = history.read(str(wanted.folder / "history"))
    print(trends(past, wanted.nights))
    for result in found:
        if not (result.exit_code or result is found[-1]):
            continue
        folder = wanted.folder / "runs" / result.run
        print(report.write(folder, wanted.folder / "baselines" / NAME, past.to_pylist()))
    failed = [n for n, result in enumerate(found, 1) if result.exit_code]
    print(f"simulated nights that the gate stopped: {', '.join(map(str, failed)) or 'none'}")


if __name__ == "__main__":
    main()
