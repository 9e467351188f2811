"""Whether the end of a text is the model's own choice: LAMBADA.

By `rule = "harness"`, as in lm-evaluation-harness, the last word is what follows the last space,
and it counts where each of its tokens is chosen. By `rule = "paper"` only the last *token* of the
text is asked for, after all tokens before it: figures like the 45.99 of GPT-2 124M in Radford et
al. 2019, table 3, come from that, and are not those of whole words.
"""

from collections.abc import Sequence

from ..documents import Asked, read_documents
from ..formats import Format, Text, plain
from ..language_model import LanguageModel, TextScore, Unscorable
from ..results import SCALES, BadRow, Metric, RowResult, TaskResult, weighted_mean
from ..statistics import mean_metric, perplexity_stderr
from ..task_spec import TaskSpec
from .kind import Kind, one_of

Ending = tuple[str, str]  # what is given, and what is asked for


def run(spec: TaskSpec, model: LanguageModel) -> TaskResult:
    """Score the ends of a task's texts."""
    asked, result = read_documents(spec, Format(("text",), plain), Text)
    by_rule = last_tokens if spec.options["rule"] == "paper" else last_words
    endings, scores = by_rule([a.document.text for a in asked], model)
    for a, ending, score in zip(asked, endings, scores, strict=True):
        if isinstance(score, Unscorable):
            result.bad_rows.append(BadRow(a.where, score.reason))
        else:
            result.rows.append(_row(a, ending, score, model))
    if result.rows:
        result.metrics = [mean_metric(result.rows, "acc"), _perplexity(result.rows)]
    return result


def last_words(
    texts: Sequence[str], model: LanguageModel
) -> tuple[list[Ending], list[TextScore | Unscorable]]:
    """What follows the last space of each text, with that space."""
    endings = []
    for text in texts:
        context, _, word = text.rpartition(" ")
        endings.append((context, f" {word}"))
    return endings, model.loglikelihood(endings)


def last_tokens(
    texts: Sequence[str], model: LanguageModel
) -> tuple[list[Ending], list[TextScore | Unscorable]]:
    """The last token of each text; before a text of one token stands end-of-text."""
    begin = [] if model.tokenizer.bos_id is None else model.beginning()
    endings, pairs = [], []
    for text in texts:
        ids = model.encode(text)
        endings.append((model.decode(ids[:-1]), model.decode(ids[-1:])))
        pairs.append((ids[:-1] or begin, ids[-1:]))
    return endings, model.loglikelihood_tokens(pairs)


def _row(asked: Asked[Text], ending: Ending, score: TextScore, model: LanguageModel) -> RowResult:
    return RowResult(
        asked.id,
        prompt=ending[0],
        expected=ending[1],
        answer=model.decode(score.greedy),
        correct=score.is_greedy,
        values={"acc": float(score.is_greedy), "loglikelihood": score.loglikelihood},
    )


def _perplexity(rows: Sequence[RowResult]) -> Metric:
    return Metric(
        "perplexity",
        value=SCALES["perplexity"](weighted_mean(rows, "loglikelihood", None)),
        stderr=perplexity_stderr([row.values["loglikelihood"] for row in rows]),
        n=len(rows),
        higher_is_better=False,
        of="loglikelihood",
        scale="perplexity",
    )


KIND = Kind(
    "last_word",
    run,
    options={"rule": one_of("harness", "paper")},
    columns=("text",),
    formats=("lambada",),
    metrics=("acc", "perplexity"),
)
