"""Runs as tests make them: a task of rows that are right or wrong, and what follows from them."""

import datetime as dt
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from jobs.job_spec import JobSpec
from jobs.results import SCALES, EvalResult, Metric, RowResult, TaskResult, weighted_mean
from jobs.task_spec import TaskSpec, Threshold

MODEL = {
    "name": "demo",
    "weights_sha256": "ab" * 32,
    "dtype": "float32",
    "hparams": {"n_embd": 8, "n_layer": 2, "n_ctx": 16, "n_vocab": 97, "n_head": 2},
}


def row(n, correct, loglikelihood=-1.0, **more):
    right = None if correct is None else bool(correct)
    values = {"acc": float(bool(correct)), "loglikelihood": float(loglikelihood), "words": 1.0 + n}
    made = RowResult(
        f"row {n}", f"{n} follows", f" {n + 1}", " 7" if not right else f" {n + 1}", right, values
    )
    return replace(made, **more)


def metric(name, rows, of, *, better=True, per=None, scale="mean"):
    """As a task makes it, with NumPy's standard error of a mean."""
    value = SCALES[scale](weighted_mean(rows, of, per))
    stderr = None
    if scale == "mean" and per is None and len(rows) > 1:
        stderr = float(np.std([r.values[of] for r in rows], ddof=1) / math.sqrt(len(rows)))
    return Metric(name, value, stderr, len(rows), better, of, per, scale)


def task(rows, *more):
    found = [
        metric("acc", rows, "acc"),
        metric("perplexity", rows, "loglikelihood", better=False, scale="perplexity"),
        metric("bits", rows, "loglikelihood", better=False, per="words", scale="bits"),
    ]
    return TaskResult([*found, *more], rows, data=[{"name": "d", "bytes": 1, "sha256": "0"}])


def result(run="r1", job="demo", started=dt.datetime(2026, 3, 1, 3, tzinfo=dt.UTC), **tasks):
    return EvalResult(
        run,
        {"name": job, "file": f"{job}.toml", "sha256": "cd" * 32},
        started,
        1.5,
        MODEL,
        dict.fromkeys(tasks, "last_word"),
        tasks,
        check={"agrees": True, "requests": 8, "offending": []},
        environment={"picobatch": "0.1", "onnxruntime": "1.31", "processor": "p", "commit": None},
    )


def spec(*, z=2.0, baseline="good", folder=Path(), tasks=("t",), thresholds=None, allow=None):
    bounds = {name: Threshold(*bound) for name, bound in (thresholds or {}).items()}
    of = {name: TaskSpec(name, "last_word", thresholds=bounds, allow=allow or {}) for name in tasks}
    return JobSpec(
        "demo",
        folder / "demo.toml",
        "cd" * 32,
        folder / "runs",
        str(folder / "history"),
        folder / "baselines",
        baseline=baseline,
        tasks=of,
        z=z,
    )
