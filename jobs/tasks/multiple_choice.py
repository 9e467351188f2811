"""Which of several choices the model finds likeliest after a context.

Each choice is scored behind a space, as lm-evaluation-harness does it. `acc` takes the choice with
the highest log-likelihood, `acc_norm` the one with the highest per character; of equals the first.

A row tells more, for those who draw it: the choice that was taken, and its probability among the
choices (the softmax of their log-likelihoods), which a calibrated model has right as often as that.
"""

import numpy as np

from ..documents import Asked, read_documents
from ..formats import Format, Question, question
from ..language_model import LanguageModel, TextScore, Unscorable
from ..results import BadRow, RowResult, TaskResult
from ..statistics import mean_metric
from ..task_spec import TaskSpec
from .kind import Kind

METRICS = ("acc", "acc_norm")


def run(spec: TaskSpec, model: LanguageModel) -> TaskResult:
    """Score the choices of a task's questions."""
    columns = ("context", "choices", "label")
    asked, result = read_documents(spec, Format(columns, question), Question)
    scores = iter(
        model.loglikelihood(
            [(a.document.context, f" {c}") for a in asked for c in a.document.choices]
        )
    )
    for a in asked:
        of_choices = [next(scores) for _ in a.document.choices]
        bad = next((s for s in of_choices if isinstance(s, Unscorable)), None)
        if bad is not None:
            result.bad_rows.append(BadRow(a.where, bad.reason))
        else:
            result.rows.append(_row(a, [s for s in of_choices if isinstance(s, TextScore)]))
    if result.rows:
        result.metrics = [mean_metric(result.rows, name) for name in METRICS]
    return result


def _row(asked: Asked[Question], scores: list[TextScore]) -> RowResult:
    choices, label = asked.document.choices, asked.document.label
    loglikelihoods = np.array([score.loglikelihood for score in scores])
    chosen = int(np.argmax(loglikelihoods))
    per_character = loglikelihoods / [len(choice) for choice in choices]
    others = np.exp(loglikelihoods - loglikelihoods[chosen])
    return RowResult(
        asked.id,
        prompt=asked.document.context,
        expected=choices[label],
        answer=choices[chosen],
        correct=chosen == label,
        values={
            "acc": float(chosen == label),
            "acc_norm": float(np.argmax(per_character) == label),
            "loglikelihood": scores[label].loglikelihood,
            "label": float(label),
            "chosen": float(chosen),
            "probability": float(1 / others.sum()),
        },
    )


KIND = Kind(
    "multiple_choice",
    run,
    columns=("context", "choices", "label"),
    formats=("hellaswag", "blimp", "cbt"),
    metrics=METRICS,
)
