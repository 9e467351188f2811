"""Runs of a job that nobody made: folders as `runner eval` leaves them, and a history of nights.

`python -m tests.jobs.fake_run FOLDER` writes some with their reports, to be looked at.
"""

import datetime as dt
import hashlib
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jobs.gate import judge
from jobs.history import run_table
from jobs.job_spec import JobSpec
from jobs.results import SCALES, BadRow, EvalResult, Metric, RowResult, TaskResult, weighted_mean
from jobs.run_folder import write_run
from jobs.task_spec import TaskSpec, Threshold

TONIGHT = dt.datetime(2026, 11, 30, 3, 15, tzinfo=dt.UTC)
CITIES = [
    ("France", "Paris"),
    ("Japan", "Tokyo"),
    ("Egypt", "Cairo"),
    ("Peru", "Lima"),
    ("Kenya", "Nairobi"),
    ("Norway", "Oslo"),
    ("Greece", "Athens"),
    ("Chile", "Santiago"),
    ("Cuba", "Havana"),
    ("Iran", "Tehran"),
    ("Nepal", "Kathmandu"),
    ("Ghana", "Accra"),
]
ORDINARY = "one of the countries that many people like to visit in the summer, and whose capital is"
HPARAMS = {"n_vocab": 2304, "n_ctx": 256, "n_embd": 64, "n_head": 4, "n_layer": 4}

# What others may write: markup, templates, escapes of a terminal, marks that turn what follows.
HOSTILE = (
    '</dd></dl><script>alert(1)</script><img src="http://evil.example/x" onerror="alert(2)">'
    "{{ 7 * 7 }}{% raw %}\x00\x1b[2J\u202eevil\u202c &amp; ]]> <!-- '\" $x^2$"
)


@dataclass(frozen=True)
class Night:
    """What a run is of: how good the model is, and what it was made with."""

    n: int = 0  # before tonight
    skill: float = 1.0
    weights: str = "first"
    onnxruntime: str = "1.31.0"
    n_rows: int = 240

    @property
    def started(self):
        return TONIGHT - dt.timedelta(days=self.n)


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def draws(night, salt, n):
    """Noise that a row has in every night, and some that it has in this one alone."""
    steady = np.random.default_rng(len(salt)).standard_normal(n)
    fresh = np.random.default_rng([len(salt), *night.weights.encode()]).standard_normal(n)
    return steady + 0.35 * fresh


def mean_metric(rows, name):
    values = [row.values[name] for row in rows]
    stderr = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    mean = weighted_mean(rows, name, None)
    return Metric(name, mean, stderr, len(rows), higher_is_better=True, of=name)


def last_word(night):
    rows = []
    for n, noise in enumerate(draws(night, "last", night.n_rows)):
        country, city = CITIES[n % len(CITIES)]
        length = 1 + n % 9
        ease = 1.6 * night.skill - 0.12 * length + noise
        is_right = bool(ease > 0)
        answer = f" {city if is_right else CITIES[(n + 1) % len(CITIES)][1]}"
        prompt = f"{'It is true. ' * length}{country} is {ORDINARY}"
        loglikelihood = -math.log1p(math.exp(-ease)) - 0.05
        values = {"acc": float(is_right), "loglikelihood": loglikelihood}
        rows.append(RowResult(f"row-{n}", prompt, f" {city}", answer, is_right, values))
    mean = weighted_mean(rows, "loglikelihood", None)
    spread = np.std([row.values["loglikelihood"] for row in rows], ddof=1)
    stderr = float(math.exp(-mean) * spread / math.sqrt(len(rows)))
    perplexity = Metric(
        "perplexity",
        SCALES["perplexity"](mean),
        stderr,
        len(rows),
        higher_is_better=False,
        of="loglikelihood",
        scale="perplexity",
    )
    return TaskResult([mean_metric(rows, "acc"), perplexity], rows, elapsed_s=3.1)


def multiple_choice(night):
    rows = []
    for n, noise in enumerate(draws(night, "choice", night.n_rows * 2)):
        country, city = CITIES[n % len(CITIES)]
        ease = 0.9 * night.skill + noise
        is_right = bool(ease > 0)
        probability = 0.25 + 0.75 * abs(math.tanh(0.7 * ease))
        answer = city if is_right else CITIES[(n + 5) % len(CITIES)][1]
        values = {
            "acc": float(is_right),
            "acc_norm": float(ease > -0.2),
            "loglikelihood": -1.0 - abs(noise),
            "probability": probability,
        }
        prompt = f"Question {n}: what is the capital of {country}?\nAnswer:"
        rows.append(RowResult(f"q{n}", prompt, city, answer, is_right, values))
    metrics = [mean_metric(rows, "acc"), mean_metric(rows, "acc_norm")]
    bad = [
        BadRow("samples/choices.jsonl:17", '"label" is 7; expected 0 to 3. Correct the row.'),
        BadRow("samples/choices.jsonl:203", '"choices" is empty; expected two or more.'),
    ]
    return TaskResult(metrics, rows, bad, elapsed_s=5.4)


def perplexity(night):
    rows = []
    for n, noise in enumerate(draws(night, "text", max(2, night.n_rows // 4))):
        tokens = 40 + 11 * n
        loss = 2.4 + 0.6 / night.skill + 12 / tokens + 0.1 * noise
        values = {
            "loglikelihood": -loss * tokens,
            "tokens": float(tokens),
            "words": float(tokens * 3 // 4),
            "bytes": float(tokens * 4),
        }
        rows.append(RowResult(f"page-{n}", f"Page {n} of a book.", "", "", None, values))
    metrics = []
    for name, per, scale in (
        ("token_perplexity", "tokens", "perplexity"),
        ("word_perplexity", "words", "perplexity"),
        ("bits_per_byte", "bytes", "bits"),
    ):
        value = SCALES[scale](weighted_mean(rows, "loglikelihood", per))
        found = Metric(name, value, None, len(rows), False, "loglikelihood", per, scale)
        metrics.append(found)
    return TaskResult(metrics, rows, elapsed_s=8.8)


def throughput(night):
    speed = 812.0 + 40 * float(np.random.default_rng(night.n).standard_normal())
    metrics = [
        Metric("tokens_per_s", speed, None, 3, higher_is_better=True),
        Metric("of_calibration", speed / 900, 0.01, 3, higher_is_better=True),
    ]
    return TaskResult(metrics, elapsed_s=4.0)


TASKS = {
    "lambada": ("last_word", last_word),
    "capitals": ("multiple_choice", multiple_choice),
    "wikitext": ("perplexity", perplexity),
    "speed": ("throughput", throughput),
}


def fake_result(night=Night()):
    """A run, not yet held to anything."""
    tasks = {}
    for name, (_, make) in TASKS.items():
        data = [{"name": f"samples/{name}.jsonl", "bytes": 48_213, "sha256": sha256(name)}]
        tasks[name] = replace(make(night), data=[] if name == "speed" else data)
    return EvalResult(
        run=f"{night.started:%Y%m%dT%H%M%SZ}-{sha256(str(night))[:4]}",
        job={"name": "demo", "file": "jobs/demo.toml", "sha256": sha256("job")},
        started=night.started,
        elapsed_s=21.9,
        model={
            "name": "demo",
            "weights_sha256": sha256(night.weights),
            "dtype": "float32",
            "hparams": HPARAMS,
        },
        kinds={name: kind for name, (kind, _) in TASKS.items()},
        tasks=tasks,
        check={
            "agrees": True,
            "requests": 8,
            "tokens": 64,
            "max_abs_diff": 3.4e-6,
            "mean_abs_diff": 4.1e-7,
            "tolerance": 0.011,
            "same_choice": 64,
            "near_ties": 0,
            "disagreements": 0,
            "offending": [],
            "int8": None,
            "generation": None,
        },
        environment={
            "picobatch": "0.6.0",
            "onnxruntime": night.onnxruntime,
            "numpy": "2.4.6",
            "python": "3.11.7",
            "processor": "x86_64 with AVX-512",
            "machine": "Linux, 2 cores, 8 GiB",
            "commit": "0f2c9b1d7a",
        },
    )


def gated(result, before):
    """The same, held to a threshold and to a baseline."""
    bounds = {"acc": Threshold(min=0.5)}
    spec = JobSpec(
        name="demo",
        file=Path("jobs/demo.toml"),
        sha256=sha256("job"),
        output=Path("build/eval/demo"),
        history="build/eval/history",
        baselines=Path("build/eval/demo/baselines"),
        baseline="good",
        tasks={
            name: TaskSpec(name, kind, thresholds=bounds if name == "lambada" else {})
            for name, (kind, _) in TASKS.items()
        },
    )
    gate = judge(spec, result, before)
    return replace(result, gate=gate.as_dict(), exit_code=5 if gate.failed else 0)


def hostile_result(result):
    """The same run of hostile data."""
    task = result.tasks["lambada"]
    rows = [
        replace(row, prompt=f"{HOSTILE}{row.prompt}", expected=HOSTILE, answer=f"{n}{HOSTILE}")
        for n, row in enumerate(task.rows)
    ]
    assert rows[5].id == "row-5"  # which is lost
    rows[5] = replace(rows[5], prompt="a" * 1_000_000 + " the end", answer="\u0645\u0631" * 500_000)
    bad = [BadRow(HOSTILE, HOSTILE * 1000)]
    data = [{"name": HOSTILE, "bytes": 3, "sha256": HOSTILE}]
    metrics = [*task.metrics, Metric(f"<b>{HOSTILE}", 0.5, 0.1, 3, higher_is_better=True)]
    hostile = TaskResult(metrics, rows, bad, data, elapsed_s=1.0)
    return replace(
        result,
        tasks={**result.tasks, "lambada": hostile},
        model={**result.model, "name": HOSTILE, "dtype": HOSTILE},
        job={**result.job, "file": HOSTILE},
        environment={**result.environment, "processor": HOSTILE, HOSTILE: HOSTILE},
        check={**result.check, "agrees": False, "offending": [HOSTILE]},
    )


def nights(n=60, damaged=3):
    """Runs in order of time: the runtime changes once, and the weights of the last are worse."""
    found = []
    for back in reversed(range(n)):
        is_bad = back < damaged
        found.append(
            Night(
                n=back,
                skill=0.72 if is_bad else 1.0,
                weights="damaged" if is_bad else "first",
                onnxruntime="1.31.0" if back > n // 3 else "1.32.0",
            )
        )
    return found


def simulated(n=60, damaged=3):
    """The last run, the baseline, and the history of all."""
    runs = nights(n, damaged)
    before = fake_result(replace(runs[0], n=n))
    rows = []
    for night in runs:
        result = gated(fake_result(night), before)
        rows += run_table(result).to_pylist()
    return result, before, rows


if __name__ == "__main__":
    from jobs.report import write

    output = Path(sys.argv[1])
    for name, n, damaged in (("failed", 60, 3), ("passed", 60, 0), ("first", 1, 0)):
        result, before, rows = simulated(n, damaged)
        if name == "first":
            write(write_run(replace(result, gate=None), output / name))
            continue
        baseline = write_run(before, output / name / "baselines")
        write(write_run(result, output / name), baseline, rows)
