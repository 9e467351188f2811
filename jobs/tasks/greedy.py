"""Whether what the model writes is the right answer, or one of several."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..documents import Asked, read_documents
from ..formats import Format, Prompted, prompted
from ..language_model import LanguageModel, Unscorable
from ..results import BadRow, Metric, RowResult, TaskResult
from ..statistics import mean_metric
from ..task_spec import TaskSpec
from .kind import Kind, flag, texts, whole_number

EXACT_MATCH = "exact_match"
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
    groups: dict[str, list[RowResult]] = {}
    for a, completion in zip(asked, completions, strict=True):
        if isinstance(completion, Unscorable):
            result.bad_rows.append(BadRow(a.where, completion.reason))
            continue
        row = _row(a, completion, comparable)
        result.rows.append(row)
        groups.setdefault(a.document.group, []).append(row)
    if result.rows:
        result.metrics = [mean_metric(result.rows, EXACT_MATCH), *_by_group(groups)]
    return result


def _comparable(*, strip: bool, ignore_case: bool) -> Callable[[str], str]:
    """What of a text is compared."""

    def comparable(text: str) -> str:
        text = text.strip() if strip else text
        return text.casefold() if ignore_case else text

    return comparable


def _row(asked: Asked[Prompted], completion: str, comparable: Callable[[str], str]) -> RowResult:
    right = {comparable(answer) for answer in asked.document.answers}
    correct = comparable(completion) in right
    return RowResult(
        asked.id,
        prompt=asked.document.prompt,
        expected=" | ".join(asked.document.answers),
        answer=completion,
        correct=correct,
        values={EXACT_MATCH: float(correct)},
    )


def _by_group(groups: dict[str, list[RowResult]]) -> list[Metric]:
    """The same for each group, where there are several."""
    if len(groups) < 2:
        return []
    return [_of_group(name or "other", rows) for name, rows in sorted(groups.items())]


def _of_group(name: str, rows: Sequence[RowResult]) -> Metric:
    """A group's share; it does not follow from all rows."""
    return replace(mean_metric(rows, EXACT_MATCH), name=f"{EXACT_MATCH}/{name}", of=None)


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
