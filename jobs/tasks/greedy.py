"""Whether what the model writes is the right answer, or one of several."""

from collections.abc import Callable, Iterator, Sequence

from ..documents import Asked, read_documents
from ..formats import Format, Prompted, prompted
from ..language_model import LanguageModel, Unscorable
from ..results import BadRow, Metric, RowResult, TaskResult
from ..statistics import mean_metric
from ..task_spec import TaskSpec
from .kind import Kind, flag, texts, whole_number

EXACT_MATCH = "exact_match"
OTHER = "other"  # the group of rows that name none
MAX_NEW_TOKENS = 32
ANSWERS = Format(("prompt", "answer"), prompted, ("group",))


def run(spec: TaskSpec, model: LanguageModel) -> TaskResult:
    """Complete a task's prompts, and look whether that is what was expected."""
    asked, result = read_documents(spec, ANSWERS, Prompted)
    options = spec.options
    completions = model.generate(
        [a.document.prompt for a in asked], options["max_new_tokens"], options["stop"]
    )
    comparable = _comparable(strip=options["strip"], ignore_case=options["ignore_case"])
    has_groups = len({a.document.group for a in asked}) > 1
    for a, completion in zip(asked, completions, strict=True):
        if isinstance(completion, Unscorable):
            result.bad_rows.append(BadRow(a.where, completion.reason))
        else:
            result.rows.append(_row(a, completion, comparable, has_groups=has_groups))
    result.metrics = list(_metrics(result.rows))
    return result


def _comparable(*, strip: bool, ignore_case: bool) -> Callable[[str], str]:
    """What of a text is compared."""

    def comparable(text: str) -> str:
        text = text.strip() if strip else text
        return text.casefold() if ignore_case else text

    return comparable


def _row(
    asked: Asked[Prompted], completion: str, comparable: Callable[[str], str], *, has_groups: bool
) -> RowResult:
    """A row; it has a value of its own for its group, which rows of others have not."""
    question = asked.document
    correct = comparable(completion) in {comparable(answer) for answer in question.answers}
    names = [EXACT_MATCH, *([f"{EXACT_MATCH}/{question.group or OTHER}"] if has_groups else [])]
    return RowResult(
        asked.id,
        prompt=question.prompt,
        expected=" | ".join(question.answers),
        answer=completion,
        correct=correct,
        values=dict.fromkeys(names, float(correct)),
    )


def _metrics(rows: Sequence[RowResult]) -> Iterator[Metric]:
    """The share of all rows, and that of each group."""
    groups = sorted({name for row in rows for name in row.values} - {EXACT_MATCH})
    for name in [EXACT_MATCH, *groups] if rows else []:
        yield mean_metric([row for row in rows if name in row.values], name)


KIND = Kind(
    "greedy",
    run,
    options={
        "max_new_tokens": whole_number(least=1, default=MAX_NEW_TOKENS),
        "stop": texts(),
        "strip": flag(default=True),
        "ignore_case": flag(default=False),
    },
    columns=("prompt", "answer"),
    optional_columns=("group",),
    metrics=None,  # one for each group, as the data names them
)
