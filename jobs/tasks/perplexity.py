"""How well whole texts are predicted: per token, word and byte.

Each document is scored by itself, from end-of-text on, in windows of n_ctx tokens. Words are what
white space separates in the original page, with an empty one at an end that is white space, as
lm-evaluation-harness counts them. It gives these figures no standard error, and so do we.
"""

import re

from runner.messages import cut

from ..documents import Asked, read_documents
from ..formats import TEXT, Format, Text, plain
from ..language_model import LanguageModel, TextScore, Unscorable
from ..results import SCALES, BadRow, Metric, RowResult, TaskResult, weighted_mean
from ..task_spec import TaskSpec
from .kind import Kind, one_of

METRICS = {  # the values that it is per, and the scale
    "token_perplexity": ("tokens", "perplexity"),
    "word_perplexity": ("words", "perplexity"),
    "byte_perplexity": ("bytes", "perplexity"),
    "bits_per_byte": ("bytes", "bits"),
}


def run(spec: TaskSpec, model: LanguageModel) -> TaskResult:
    """Score the documents of a task."""
    by_line = spec.options["document"] == "line"
    asked, result = read_documents(spec, Format(("text",), plain), Text, by_line=by_line)
    scores = model.loglikelihood_rolling([a.document.text for a in asked])
    for a, score in zip(asked, scores, strict=True):
        if isinstance(score, Unscorable):
            result.bad_rows.append(BadRow(a.where, score.reason))
        elif not score.tokens:
            result.bad_rows.append(BadRow(a.where, "an empty text; expected some"))
        else:
            result.rows.append(_row(a, score))
    if result.rows:
        result.metrics = [_metric(result, name) for name in METRICS]
    return result


def _row(asked: Asked[Text], score: TextScore) -> RowResult:
    page = asked.document.original
    return RowResult(
        asked.id,
        prompt=cut(page),
        expected="",
        answer="",
        correct=None,
        values={
            "loglikelihood": score.loglikelihood,
            "tokens": float(score.tokens),
            "words": float(len(re.split(r"\s+", page))),
            "bytes": float(len(page.encode())),
        },
    )


def _metric(result: TaskResult, name: str) -> Metric:
    per, scale = METRICS[name]
    return Metric(
        name,
        value=SCALES[scale](weighted_mean(result.rows, "loglikelihood", per)),
        stderr=None,
        n=len(result.rows),
        higher_is_better=False,
        of="loglikelihood",
        per=per,
        scale=scale,
    )


KIND = Kind(
    "perplexity",
    run,
    options={"document": one_of("file", "line")},
    columns=("text",),
    formats=("wikitext", "lambada", TEXT),
    metrics=tuple(METRICS),
)
