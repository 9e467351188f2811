"""The scores of a run against the NumPy reference: some requests, chosen by a seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference import Model, Tokenizer
from reference.generate import log_probability
from reference.gpt2 import first_highest
from runner.check_report import CheckReport, Int8Loss
from runner.checker import reference_logits
from runner.comparison import INT8_SHARE, TOLERANCE, Comparison, spread
from runner.engine import IntArray
from runner.kv_cache import FloatArray
from runner.messages import printable
from runner.score import Continuation, Scored, Scorer

from .language_model import decoded
from .progress import TaskProgress

# A log-probability is a logit less the logarithm of a sum over all of them: each may be off by as
# much as a logit. Measured: in all 2,013 requests of jobs/demo.toml, 31,051 tokens, onnxruntime and
# NumPy differ by 2.1e-5 at most, where 6.7e-3 and more is let pass; at 124M shapes with random
# weights, in 24 requests of up to 940 tokens, by 1.0e-5 standard deviations of the logits. In int8
# they differ by 0.14 at most; each of the 2,013 is within its own tolerance, of 0.27 and more.
PARTS = 2
STRETCH_TOKENS = 64  # compared at a time: float64 of a whole vocabulary takes memory
TOLD_TOKENS, TOLD_CHARACTERS = 16, 40  # of a context's end, and of a continuation


@dataclass(frozen=True)
class Request:
    """What was asked of a scorer, and its answer."""

    task: str
    wanted: Continuation
    found: Scored


class RequestSample:
    """Some of the requests that are made.

    Each is kept with the same probability, whatever it holds and however many there are; which are
    kept follows from the seed and their order.

    Parameters
    ----------
    count : int or None
        Requests to keep; None means all.
    seed : int
        Chooses them.

    Attributes
    ----------
    task : str
        Whose requests come next.
    kept : list of Request
    """

    def __init__(self, count: int | None, seed: int) -> None:
        self._count = count
        self._rng = random.Random(seed)  # noqa: S311 - a sample, no secret
        self._seen = 0
        self.task = ""
        self.kept: list[Request] = []

    def offer(self, wanted: Continuation, found: Scored) -> None:
        """Take in the next one. Vitter's algorithm R."""
        self._seen += 1
        place = len(self.kept)
        if self._count is not None and place >= self._count:
            place = self._rng.randrange(self._seen)
            if place >= self._count:
                return
        self.kept[place : place + 1] = [Request(self.task, wanted, found)]


class SampledScorer:
    """A scorer of whose requests a sample is taken.

    Parameters
    ----------
    scorer : Scorer
        Does the work.
    sample : RequestSample
        Other scorers may have the same one.
    progress : TaskProgress
        Told how many are asked for.
    """

    def __init__(self, scorer: Scorer, sample: RequestSample, progress: TaskProgress) -> None:
        self._scorer = scorer
        self._sample = sample
        self._progress = progress

    def score(self, wanted: Sequence[Continuation]) -> list[Scored]:
        """One result for each continuation, in the order given."""
        self._progress.expect(len(wanted))
        found = self._scorer.score(wanted)
        for one, scored in zip(wanted, found, strict=True):
            self._sample.offer(one, scored)
        return found


def check_scores(
    kept: Sequence[Request], model: Model, float32: Model | None = None
) -> CheckReport:
    """Compare what was kept with the reference.

    Parameters
    ----------
    kept : sequence of Request
    model : Model
        That was scored with.
    float32 : Model, optional
        What it was before it was rounded to 8 bits.

    Returns
    -------
    CheckReport
        Its rows are requests, its positions tokens, its differences those of log-probabilities.
    """
    report = CheckReport()
    for request in kept:
        tokens = np.array(request.wanted.tokens, np.int64)
        ids = np.array([*request.wanted.context, *tokens[:-1]], np.int64)
        reference = reference_logits(model, ids, len(tokens))
        starts = range(0, len(tokens), STRETCH_TOKENS)
        stretches = [slice(start, start + STRETCH_TOKENS) for start in starts]
        if float32 is None:
            tolerance = TOLERANCE * spread(reference)
        else:
            report.int8 = report.int8 or Int8Loss()
            exact = reference_logits(float32, ids, len(tokens))
            largest = [report.int8.add(reference[at], exact[at]) for at in stretches]
            tolerance = INT8_SHARE * float(np.max(largest))  # which keeps a NaN
        comparisons = [
            compare_scores(
                Scored(request.found.logprobs[at], request.found.greedy[at]),
                tokens[at],
                reference[at],
                tolerance,
            )
            for at in stretches
        ]
        report.add(_told(request, model.tokenizer), comparisons, "log-probabilities")
    return report


def compare_scores(
    found: Scored, tokens: IntArray, logits: FloatArray, tolerance: float
) -> Comparison:
    """Compare the scores of a continuation with the reference's logits.

    Parameters
    ----------
    found : Scored
    tokens : int64 [n]
        That were scored.
    logits : float32 [n, n_vocab]
        Of the reference.
    tolerance : float
        By how much a logit may differ.

    Returns
    -------
    Comparison
        Of log-probabilities; another choice is a near tie where the reference's logits of both are
        less than twice that tolerance apart.
    """
    places = np.arange(len(tokens))
    diff = np.abs(found.logprobs.astype(np.float64) - log_probability(logits, tokens))
    expected = first_highest(logits)
    lost = logits[places, expected] - logits[places, found.greedy]
    same = found.greedy == expected
    near = int(np.sum(~same & (lost < 2 * tolerance)))
    return Comparison(
        positions=len(tokens),
        max_abs_diff=float(np.max(diff)),
        mean_abs_diff=float(np.mean(diff)),
        tolerance=PARTS * tolerance,
        top1_agreement=int(np.sum(same)),
        near_ties=near,
        disagreements=int(np.sum(~same)) - near,
    )


def as_check(scores: CheckReport, generated: CheckReport) -> dict[str, Any]:
    """What `results.json` says of the comparison with the reference: scores, and generation."""
    return {
        "agrees": scores.agrees and generated.agrees,
        "requests": scores.rows,
        "tokens": scores.positions,
        "max_abs_diff": scores.max_abs_diff,
        "mean_abs_diff": scores.mean_abs_diff,
        "tolerance": scores.tolerance,
        "same_choice": scores.top1_agreement,
        "near_ties": scores.near_ties,
        "disagreements": scores.disagreements,
        "offending": scores.offending,
        "int8": scores.as_dict()["int8"],
        "generation": generated.as_dict() if generated.rows else None,
    }


def check_in_words(check: dict[str, Any]) -> str:
    """The comparison in lines: of scores, and of generation where there was some."""
    lines = [
        "check: no scores were compared with the reference",
        *_in_words(check, "requests", "tokens", "log-probabilities", "same_choice"),
        *_in_words(check["generation"] or {}, "rows", "positions", "logits", "top1_agreement"),
    ]
    return "\n".join(lines[1:] or lines)


def _in_words(
    check: dict[str, Any], rows: str, positions: str, compared: str, same: str
) -> list[str]:
    if not check.get(rows):
        return []
    return [
        f"check: {'ok' if check['agrees'] else 'FAILED'}: {check[rows]:,} {rows}, "
        f"{check[positions]:,} {positions} against the NumPy reference: {compared} differ by "
        f"{check['max_abs_diff']:.2g} at most, {check['mean_abs_diff']:.2g} on average (tolerance "
        f"{check['tolerance']:.2g}); same choice at {check[same]:,}, near ties "
        f"{check['near_ties']:,}, disagreements {check['disagreements']:,}"
    ]


def _told(request: Request, tokenizer: Tokenizer) -> str:
    """A request as a message names it."""
    context = decoded(tokenizer, request.wanted.context[-TOLD_TOKENS:])[-TOLD_CHARACTERS:]
    tokens = decoded(tokenizer, request.wanted.tokens[:TOLD_TOKENS])[:TOLD_CHARACTERS]
    return printable(f"{request.task}: {context!r} -> {tokens!r}")
