"""How fast the engine generates and scores: in tokens per second, and beside the bare machine.

A speed tells as much of the machine, and of who else was on it, as of us. So what the machine can
do is timed before and after each repeat: NumPy multiplies small matrices, in as many threads as the
engine has. The ratio of the two, in multiplications per second, is what a job can be held to. Half
of it is half as fast, whatever the machine.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, median
from typing import Self

import numpy as np

from reference import HParams
from runner.checker import Checker
from runner.errors import SettingsError
from runner.sample import checked_rows

from ..language_model import LanguageModel
from ..results import Metric, TaskResult
from ..task_spec import TaskSpec
from .kind import Kind, whole_number

PROMPTS, PROMPT_TOKENS, MAX_NEW_TOKENS, REPEATS = 32, 32, 32, 5

SIDE = 48  # of a matrix: a product that BLAS gives to one thread
CALIBRATION_BYTES = 64 << 20  # of matrices, more than caches hold
CALIBRATION_S = 0.2

WHY_UNGATED = (
    "is told, but nothing can be held to it: it is the speed of one machine on one night. Name "
    "{ratio}, the same beside what the machine can do."
)


@dataclass(frozen=True)
class Load:
    """Something to time.

    Attributes
    ----------
    prefix : str
        Of its metrics' names.
    tokens : int
        That it is counted as.
    work : callable
    """

    prefix: str
    tokens: int
    work: Callable[[], object]


def run(spec: TaskSpec, model: LanguageModel) -> TaskResult:
    """Time generation and scoring, and the machine in between."""
    model = model.here
    options = spec.options
    n_tokens = options["prompt_tokens"] + options["max_new_tokens"]
    if n_tokens > model.n_ctx:
        raise SettingsError(
            f'{spec.where}: "prompt_tokens" and "max_new_tokens" are {n_tokens} together; expected '
            f"at most n_ctx = {model.n_ctx}. Lower one of them."
        )
    choices = np.arange(model.model.hparams["n_vocab"])[model.tokenizer.choices]
    ids = np.random.default_rng(0).choice(choices, (options["prompts"], n_tokens)).tolist()
    result = TaskResult()
    with Calibration(model.generator.threads) as calibration:
        for load in (_generation(model, ids, options["prompt_tokens"]), _scoring(model, ids)):
            timed = list(_timed(load, calibration, options["repeats"]))
            result.metrics += _metrics(load, timed, products_per_token(model.model.hparams))
            result.details[f"{load.prefix}repeats"] = [
                {"seconds": seconds, "machine_products_per_s": speed} for seconds, speed in timed
            ]
    return result


class Calibration:
    """What the machine can do: float32 products of NumPy's, each in one thread.

    Parameters
    ----------
    threads : int
        That multiply.
    """

    def __init__(self, threads: int) -> None:
        n = max(1, CALIBRATION_BYTES // (SIDE * SIDE * 4) // threads)
        self._left = [np.full((n, SIDE, SIDE), 1 / SIDE, np.float32) for _ in range(threads)]
        self._right = np.full((SIDE, SIDE), 1 / SIDE, np.float32)
        self._products = [np.zeros_like(left) for left in self._left]
        self._pool = ThreadPoolExecutor(threads)

    def __enter__(self) -> Self:
        self.products_per_s()  # the first one is slow
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def products_per_s(self) -> float:
        """Multiplications of two numbers, in all threads together."""
        return sum(self._pool.map(self._run, self._left, self._products))

    def _run(self, left: np.ndarray, products: np.ndarray) -> float:
        start_s, passes, seconds = time.perf_counter(), 0, 0.0
        while seconds < CALIBRATION_S:
            np.matmul(left, self._right, out=products)
            passes += 1
            seconds = time.perf_counter() - start_s
        return passes * left.size * SIDE / seconds


def products_per_token(hparams: HParams) -> int:
    """Multiplications by weights that one token needs."""
    n = hparams["n_embd"]
    return 12 * n * n * hparams["n_layer"] + n * hparams["n_vocab"]


def _generation(model: LanguageModel, ids: Sequence[list[int]], n_prompt: int) -> Load:
    prompts: list[str | list[int]] = [row[:n_prompt] for row in ids]
    n_new = len(ids[0]) - n_prompt

    def work() -> None:
        unchecked = Checker(model.model, checked_rows(len(prompts), 0, seed=0))
        model.generator.complete(prompts, n_new, ignore_eos=True, checker=unchecked)

    return Load("", len(prompts) * n_new, work)


def _scoring(model: LanguageModel, ids: Sequence[list[int]]) -> Load:
    """All tokens but the first of each row."""
    pairs = [(row[:1], row[1:]) for row in ids]
    tokens = sum(len(row) - 1 for row in ids)
    return Load("score_", tokens, lambda: model.loglikelihood_tokens(pairs))


def _timed(load: Load, calibration: Calibration, repeats: int) -> Iterator[tuple[float, float]]:
    """Seconds of each repeat, and what the machine could do around it."""
    load.work()  # for what is made at the first time
    seconds, speeds = [], [calibration.products_per_s()]
    for _ in range(repeats):
        start_s = time.perf_counter()
        load.work()
        seconds.append(time.perf_counter() - start_s)
        speeds.append(calibration.products_per_s())
    return zip(seconds, map(mean, pairwise(speeds)), strict=True)


def _metrics(load: Load, timed: Sequence[tuple[float, float]], per_token: int) -> list[Metric]:
    """A speed, and what share it is of the machine's.

    They have no standard error: repeats within a run differ by less than nights do.
    """
    tokens_per_s = median(load.tokens / seconds for seconds, _ in timed)
    ratio = median(load.tokens * per_token / seconds / speed for seconds, speed in timed)
    return [
        Metric(f"{load.prefix}{name}", value, None, len(timed), higher_is_better=True)
        for name, value in (("tokens_per_s", tokens_per_s), ("ratio", ratio))
    ]


KIND = Kind(
    "throughput",
    run,
    options={
        "prompts": whole_number(least=1, default=PROMPTS),
        "prompt_tokens": whole_number(least=1, default=PROMPT_TOKENS),
        "max_new_tokens": whole_number(least=1, default=MAX_NEW_TOKENS),
        "repeats": whole_number(least=1, default=REPEATS),
    },
    metrics=("ratio", "score_ratio"),
    ungated={
        f"{prefix}tokens_per_s": WHY_UNGATED.format(ratio=f"{prefix}ratio")
        for prefix in ("", "score_")
    },
    noisy=True,
    needs_data=False,
    takes_data=False,
)
