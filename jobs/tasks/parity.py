"""Whether the engine computes what the model is: its logits beside those of the NumPy reference.

Random tokens, and prompts of the task's own where it has some, are completed greedily, and each
token's logits are compared. Differences are told in standard deviations of the logits. A row that
is out of tolerance also fails the job's own check.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from runner.check_report import CheckReport, Int8Loss
from runner.checker import Checker
from runner.generate import RunningSequence
from runner.records import Reject
from runner.sample import checked_rows

from ..documents import read_documents
from ..formats import Format, Text, string
from ..generator import Generator
from ..language_model import LanguageModel
from ..results import BadRow, Metric, RowResult, TaskResult, weighted_mean
from ..statistics import mean_metric
from ..task_spec import TaskSpec
from .kind import Kind, whole_number

RANDOM_PROMPTS = 8
MAX_NEW_TOKENS = 8
HASH_LETTERS = 16


class RowByRow(Checker):
    """Compares every prompt, each with a report of its own.

    Attributes
    ----------
    spread : dict of int to float
        Standard deviation of each prompt's logits.
    """

    def __init__(self, generator: Generator, n_prompts: int) -> None:
        super().__init__(
            generator.model,
            checked_rows(n_prompts, None, seed=0),
            float32=generator.float32,
            part_of=lambda number: number,
        )
        self.spread: dict[int, float] = {}
        self._choices = generator.model.tokenizer.choices

    def check(self, sequence: RunningSequence) -> None:
        logits = np.stack(sequence.logits)[:, self._choices]
        self.spread[sequence.prompt.row] = float(np.std(logits, dtype=np.float64))
        super().check(sequence)


def run(spec: TaskSpec, model: LanguageModel) -> TaskResult:
    """Complete prompts, and compare the logits of every new token."""
    given, result = (
        read_documents(spec, Format(("prompt",), _prompt), Text)
        if spec.data
        else ([], TaskResult())
    )
    n_new = min(spec.options["max_new_tokens"], model.n_ctx - 1)
    drawn = list(_random_prompts(model, spec.options["random_prompts"], model.n_ctx - n_new))
    prompts: list[str | list[int]] = [*drawn, *(a.document.text for a in given)]
    texts = [model.tokenizer.decode(ids) for ids in drawn] + [a.document.text for a in given]
    ids = [_hash(prompt) for prompt in drawn] + [a.id for a in given]
    checker = RowByRow(model.generator, len(prompts))
    found = model.generator.complete(
        prompts, n_new, ignore_eos=True, truncate=True, checker=checker
    )
    for number, (name, text, completion) in enumerate(zip(ids, texts, found, strict=True)):
        if isinstance(completion, Reject):  # one of the given, which follow the others
            result.bad_rows.append(BadRow(given[number - len(drawn)].where, completion.reason))
        elif number in checker.reports:  # else it is another one again
            report = checker.reports[number]
            result.rows.append(_row(name, text, report, checker.spread[number]))
    if result.rows:
        result.metrics = list(_metrics(result.rows, checker.reports.values()))
    return result


def _random_prompts(model: LanguageModel, count: int, longest: int) -> Iterator[list[int]]:
    """Of 1 to `longest` tokens, the same each night; lengths are spread by their logarithm."""
    rng = np.random.default_rng(0)
    choices = np.arange(model.model.hparams["n_vocab"])[model.tokenizer.choices]
    for length in np.geomspace(longest, 1, count).round().astype(int):
        yield rng.choice(choices, length).tolist()


def _hash(prompt: Sequence[int]) -> str:
    return hashlib.sha256(repr(list(prompt)).encode()).hexdigest()[:HASH_LETTERS]


def _row(name: str, text: str, report: CheckReport, spread: float) -> RowResult:
    positions = report.positions
    values = {
        "max_abs_diff": report.max_abs_diff / spread,
        "mean_abs_diff": report.mean_abs_diff / spread * positions,
        "top1_agreement": float(report.top1_agreement),
        "agrees": float(report.agrees),
        "positions": float(positions),
    }
    if report.int8 is not None:
        values["int8_kl_divergence"] = report.int8.kl_divergence * positions
        values["int8_top1_agreement"] = report.int8.top1_agreement * positions
    return RowResult(
        name,
        prompt=text,
        expected=f"max difference up to {report.tolerance:.3g}, {positions} of {positions} choices",
        answer=(
            f"max difference {report.max_abs_diff:.3g}, {report.top1_agreement} of {positions} "
            f"choices, {report.near_ties} near ties"
        ),
        correct=report.agrees,
        values=values,
    )


def _metrics(rows: Sequence[RowResult], reports: Iterable[CheckReport]) -> Iterator[Metric]:
    yield mean_metric(rows, "agrees")
    largest = float(np.max([row.values["max_abs_diff"] for row in rows]))  # which keeps a NaN
    yield Metric("max_abs_diff", largest, None, len(rows), higher_is_better=False)
    # Of no rows: another rounding, as of another version of a runtime, moves all of them alike.
    mean = weighted_mean(rows, "mean_abs_diff", "positions")
    yield Metric("mean_abs_diff", mean, None, len(rows), higher_is_better=False)
    yield _per_position(rows, "top1_agreement", higher_is_better=True)
    loss = Int8Loss()
    for report in reports:
        if report.int8 is not None:
            loss.merge(report.int8)
    if loss.positions:
        yield _per_position(rows, "int8_kl_divergence", higher_is_better=False)
        yield _per_position(rows, "int8_top1_agreement", higher_is_better=True)
        yield Metric("int8_rms", loss.rms_in_std, None, len(rows), higher_is_better=False)


def _per_position(rows: Sequence[RowResult], name: str, *, higher_is_better: bool) -> Metric:
    """A mean over all tokens."""
    return Metric(
        name,
        weighted_mean(rows, name, "positions"),
        stderr=None,
        n=len(rows),
        higher_is_better=higher_is_better,
        of=name,
        per="positions",
    )


def _prompt(row: Mapping[str, Any]) -> Text:
    prompt = string(row, "prompt")
    return Text(prompt, prompt)


KIND = Kind(
    "parity",
    run,
    options={
        "random_prompts": whole_number(least=1, default=RANDOM_PROMPTS),
        "max_new_tokens": whole_number(least=1, default=MAX_NEW_TOKENS),
    },
    columns=("prompt",),
    metrics=(
        "agrees",
        "max_abs_diff",
        "mean_abs_diff",
        "top1_agreement",
        "int8_kl_divergence",
        "int8_top1_agreement",
        "int8_rms",
    ),
    noisy=True,
    needs_data=False,
)
