"""A user's own task: a Python function that the job file names.

`function = "checks.py:spelling"` is a function in a file beside the job file,
`function = "package.module:function"` one that can be imported. It is called with the rows of the
task's data, each a dict as the file has it (none where there is no data), and the model:

    def spelling(task_rows: list[dict[str, Any]], model: LanguageModel) -> TaskResult

and returns one of three things: a `TaskResult`; a dict of metrics' names and numbers; or a list of
`RowResult`, whose `values` become metrics, the mean of each over the rows that have it. More is
taken to be better, but for those that `lower_is_better` names.
"""

import importlib
import importlib.util
import json
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stdout
from dataclasses import replace
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

from runner.errors import InputError
from runner.messages import cut, shown
from runner.shape import is_text

from ..data import Data, read_rows, read_texts
from ..formats import TEXT
from ..language_model import LanguageModel
from ..results import SCALES, Metric, RowResult, TaskResult
from ..rows_file import FIRST
from ..statistics import mean_metric
from ..task_spec import TaskSpec
from .kind import Kind, OptionShape, texts

TRACEBACK_LINES = 6  # of the user's own code, from its end
FUNCTION = re.compile(r"(.+\.py|[\w.]+):([A-Za-z_]\w*)\Z")
EXPECTED = "a TaskResult, a dict of names and numbers, or a list of RowResult"
ROW = "texts, true, false or None, and numbers"


def run(spec: TaskSpec, model: LanguageModel) -> TaskResult:
    """Call a task's function, and take what it returns.

    Raises
    ------
    InputError
        Where there is none, it fails, or it returns something else.
    """
    data = _data(spec)
    rows = [row.columns for row in data.rows]
    # What it prints is no result; where it goes, the paths of the job would follow.
    with _importable(spec.folder), chdir("."), redirect_stdout(sys.stderr):
        function = _called(spec, _function, spec)
        returned = _called(spec, function, rows, model)
    found = _result(spec, returned, len(rows))
    found.bad_rows = [*data.bad_rows, *found.bad_rows]
    found.data = found.data or data.files
    return found


def _data(spec: TaskSpec) -> Data:
    if not spec.data:
        return Data()
    if spec.format == TEXT:
        return read_texts(spec.data, spec.folder, spec.limit)
    return read_rows(spec.data, spec.folder, spec.columns.get("prompt", "prompt"), spec.limit)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """What lies beside the job file can be imported, but stands in the way of nothing else."""
    path = str(folder.resolve())
    sys.path.append(path)
    try:
        yield
    finally:
        sys.path.remove(path)


def _function(spec: TaskSpec) -> Callable[..., Any]:
    """The function that a task names."""
    home, _, name = spec.options["function"].rpartition(":")
    module = _loaded(spec.folder / home) if home.endswith(".py") else importlib.import_module(home)
    function = getattr(module, name, None)
    if not callable(function):
        raise AttributeError(f"{home} has no function {name}")  # noqa: TRY004 - as an import says it
    found: Callable[..., Any] = function
    return found


def _loaded(path: Path) -> ModuleType:
    """A module from its file."""
    name = f"_task_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _called(spec: TaskSpec, function: Callable[..., Any], *args: Any) -> Any:
    """What a user's code gives; what it raises becomes an error with the end of its traceback."""
    try:
        return function(*args)
    except (Exception, SystemExit) as e:  # noqa: BLE001 - whatever it is, it is the user's
        frames = [
            frame
            for frame in traceback.extract_tb(e.__traceback__)
            if frame.filename != __file__ and not frame.filename.startswith("<frozen ")
        ]
        said = [*traceback.format_list(frames), *traceback.format_exception_only(e)]
        lines = [cut(line) for line in "".join(said).splitlines()[-TRACEBACK_LINES:]]
        raise InputError(
            f"{spec.where}: {spec.options['function']} raised {type(e).__name__}; expected "
            f"{EXPECTED}. Its traceback ends with\n" + "\n".join(lines)
        ) from None


def _result(spec: TaskSpec, returned: Any, n_rows: int) -> TaskResult:
    """What a function returned, as a result that can be written down."""
    if isinstance(returned, TaskResult):
        found = returned
    elif isinstance(returned, Mapping) and all(map(_is_number, returned.values())):
        found = TaskResult(
            [
                Metric(name, float(value), None, n_rows, _is_more_better(spec, name))
                for name, value in returned.items()
            ]
        )
    elif isinstance(returned, list) and all(isinstance(row, RowResult) for row in returned):
        found = TaskResult(rows=returned)
    else:
        raise _refused(spec, _told(returned), EXPECTED)
    if fault := next(_faults(found), None):
        raise _refused(spec, *fault)
    found.rows = [
        replace(row, values={name: float(value) for name, value in row.values.items()})
        for row in found.rows
    ]
    if found is not returned and found.rows:
        found.metrics = [
            replace(
                mean_metric([row for row in found.rows if name in row.values], name),
                higher_is_better=_is_more_better(spec, name),
            )
            for name in dict.fromkeys(name for row in found.rows for name in row.values)
        ]
    if not found.metrics:
        raise _refused(spec, "no metric", EXPECTED)
    return found


def _faults(found: TaskResult) -> Iterator[tuple[str, str]]:
    """What of a result could not be written down, and what was expected."""
    for row in found.rows:
        texts = (row.id, row.prompt, row.expected, row.answer)
        if not all(map(is_text, texts)) or not isinstance(row.correct, bool | None):
            yield (
                f"a row {shown(row.id)} with other fields than texts, and true, false or None",
                ROW,
            )
        elif taken := {*row.values} & {*FIRST}:
            yield f"a value {shown(min(taken))}, which every row has beside its values", ROW
        elif not all(is_text(k) and _is_number(v) for k, v in row.values.items()):
            yield f"a row {shown(row.id)} with other values than numbers", ROW
    names = [metric.name for metric in found.metrics]
    if not all(map(is_text, names)) or len({*names}) < len(names):
        yield "metrics without a name of their own each", "each name once"
    values = {name for row in found.rows for name in row.values}
    for metric in found.metrics:
        yield from _metric_faults(metric, values)
    try:
        json.dumps(found.details)
    except (TypeError, ValueError, RecursionError) as e:
        yield f"details that JSON does not hold ({cut(str(e))})", "what it does hold"


def _metric_faults(metric: Metric, values: Collection[str]) -> Iterator[tuple[str, str]]:
    if not _is_number(metric.value) or metric.scale not in SCALES:
        yield f"a metric {shown(metric.name)} whose value or scale is none", "a number"
    for name in (metric.of, metric.per):
        if name is not None and name not in values:
            yield f"a metric of {shown(name)}", "a value that rows have"


def _refused(spec: TaskSpec, found: str, expected: str) -> InputError:
    return InputError(
        f"{spec.where}: {spec.options['function']} returned {found}; expected {expected}. Correct "
        "what it returns."
    )


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, Real) and isinstance(float(value), float)
    except OverflowError:  # an integer of many digits
        return False


def _is_more_better(spec: TaskSpec, metric: str) -> bool:
    return metric not in spec.options["lower_is_better"]


def _told(returned: Any) -> str:
    """What something is, and the first of what it holds that it should not."""
    kind = type(returned).__name__
    if isinstance(returned, Mapping):
        return f"a {kind} with {shown(next(v for v in returned.values() if not _is_number(v)))}"
    if isinstance(returned, list):
        return f"a {kind} with {shown(next(r for r in returned if not isinstance(r, RowResult)))}"
    return f"{kind} {shown(returned)}"


KIND = Kind(
    "python",
    run,
    options={
        "function": OptionShape(
            'a function, as "file.py:name" beside the job file or "module:name"',
            lambda v: isinstance(v, str) and FUNCTION.match(v) is not None,
            required=True,
        ),
        "lower_is_better": texts(),
    },
    columns=("prompt",),
    formats=(TEXT,),
    metrics=None,
    needs_data=False,
)
