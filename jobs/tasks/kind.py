"""What a kind of task is: the keys that it takes, the metrics that it gives, and how it runs."""

import datetime as dt
import difflib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from runner.errors import SettingsError
from runner.messages import shown, shown_names

from ..language_model import LanguageModel
from ..results import TaskResult
from ..task_spec import TaskSpec

Run: TypeAlias = Callable[[TaskSpec, LanguageModel], TaskResult]
Fault: TypeAlias = tuple[tuple[str, ...], str]  # the keys down to it, and what is wrong there
ID = "id"  # the column that every kind with data may be given
COMMON_KEYS = ("kind", "data", "format", "columns", "limit", "thresholds", "allow")
MOST_COMPARED = 60  # characters of a name that looks for its nearest


@dataclass(frozen=True)
class OptionShape:
    """What a key of a task's table takes.

    Attributes
    ----------
    expected : str
        That in words, for messages: `a whole number, 1 or more`.
    accepts : callable
        Whether a value, as TOML has it, is one.
    default : object
        What holds where the key is not there.
    required : bool
        Whether it has to be there.
    """

    expected: str
    accepts: Callable[[Any], bool]
    default: Any = None
    required: bool = False


def whole_number(*, least: int = 0, default: int | None = None) -> OptionShape:
    """An integer that is at least so much."""
    return OptionShape(
        f"a whole number, {least} or more", lambda v: type(v) is int and v >= least, default
    )


def number(*, least: float = 0.0, default: float | None = None) -> OptionShape:
    """A finite number that is at least so much."""
    return OptionShape(
        f"a number, {least:g} or more",
        lambda v: type(v) in (int, float) and math.isfinite(v) and v >= least,
        default,
    )


def one_of(*names: str, default: str | None = None) -> OptionShape:
    """One of some words; the first is the default where none is told."""
    words = " or ".join(f'"{name}"' for name in names)
    return OptionShape(words, lambda v: isinstance(v, str) and v in names, default or names[0])


def flag(*, default: bool | None) -> OptionShape:
    """`true` or `false`."""
    return OptionShape("true or false", lambda v: isinstance(v, bool), default)


def text(*, default: str | None = None, required: bool = False) -> OptionShape:
    """A string that is not empty."""
    return OptionShape(
        "a string that is not empty", lambda v: isinstance(v, str) and v != "", default, required
    )


def texts(*, default: tuple[str, ...] | None = ()) -> OptionShape:
    """A list of strings, none of them empty."""
    return OptionShape(
        "a list of strings, none empty",
        lambda v: isinstance(v, list) and all(isinstance(item, str) and item for item in v),
        default,
    )


def table() -> OptionShape:
    """A table of whatever it may be."""
    return OptionShape("a table", lambda v: isinstance(v, dict), {})


@dataclass(frozen=True)
class Kind:
    """A kind of task.

    Attributes
    ----------
    name : str
        What a job file calls it.
    run : callable
        Does a task: `(TaskSpec, LanguageModel) -> TaskResult`.
    options : dict of str to OptionShape
        Its own keys.
    columns : tuple of str
        What it reads of a row, where the task has no format.
    optional_columns : tuple of str
        What a row may have beside those, and its `id`.
    formats : tuple of str
        Formats whose rows it understands.
    metrics : tuple of str or None
        Names of those that it can give; None where anything may come.
    ungated : dict of str to str
        Metrics that are told and never held to anything, and why.
    noisy : bool
        Whether metrics that follow from no rows vary from night to night: they are then held to the
        baseline only where `allow` names them.
    needs_data, takes_data : bool
        Whether there has to be some, and whether there may be.
    """

    name: str
    run: Run
    options: dict[str, OptionShape] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    optional_columns: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    metrics: tuple[str, ...] | None = ()
    ungated: dict[str, str] = field(default_factory=dict)
    noisy: bool = False
    needs_data: bool = True
    takes_data: bool = True

    def checked(self, spec: TaskSpec) -> TaskSpec:
        """A task with its options complete, if the kind can do it.

        Raises
        ------
        SettingsError
            Where a key is unknown, missing, or holds what the kind does not take.
        """
        if faults := [f"{'.'.join(path)}: {said}" for path, said in self.faults(spec)]:
            raise SettingsError("\n".join(f"{spec.where}.{fault}" for fault in faults))
        return self.completed(spec)

    def completed(self, spec: TaskSpec) -> TaskSpec:
        """A task with the defaults of the options that it does not name."""
        defaults = {key: shape.default for key, shape in self.options.items()}
        return replace(spec, options=defaults | spec.options)

    def faults(self, spec: TaskSpec) -> Iterator[Fault]:
        """What the kind cannot do of a task: the keys down to it, and what is wrong there."""
        if self.needs_data and not spec.data:
            yield (
                ("data",),
                f"is missing; a {self.name} task needs some. Name a file, a folder, a pattern, or "
                "a list of them.",
            )
        if spec.data and not self.takes_data:
            yield ("data",), f"is there; a {self.name} task reads none. Remove it."
        yield from self._column_faults(spec)
        for table in ("thresholds", "allow"):
            for metric in getattr(spec, table):
                if metric in self.ungated:
                    yield (table, metric), self.ungated[metric]
                elif self.metrics is not None and metric not in self.metrics:
                    said = unknown("metric", metric, self.metrics, f"a {self.name} task")
                    yield (table, metric), f"is {said}"
        yield from self._option_faults(spec)

    def _option_faults(self, spec: TaskSpec) -> Iterator[Fault]:
        for key, value in spec.options.items():
            shape = self.options.get(key)
            if shape is None:
                known = (*self.options, *COMMON_KEYS)
                yield (key,), f"is {unknown('key', key, known, f'a {self.name} task')}"
            elif not shape.accepts(value):
                yield (key,), f"is {told(value)}; expected {shape.expected}. Correct it."
        for key, shape in self.options.items():
            if shape.required and key not in spec.options:
                yield (key,), f"is missing; expected {shape.expected}. Add it."

    def _column_faults(self, spec: TaskSpec) -> Iterator[Fault]:
        if spec.format is not None and spec.format not in self.formats:
            said = unknown("format", spec.format, self.formats, f"a {self.name} task")
            yield (
                ("format",),
                f'is {told(spec.format)}: {said[:-1]}, or map columns with "columns".',
            )
        if spec.format is not None and spec.columns:
            yield (
                ("columns",),
                'is there beside "format", which knows its columns; expected one of them. Remove '
                "the other.",
            )
        if spec.format is None:
            known = (*self.columns, *self.optional_columns, *([ID] if self.takes_data else []))
            for column in spec.columns:
                if column not in known:
                    said = unknown("column", column, known, f"a {self.name} task")
                    left = "left stands what the kind calls it, right what the file calls it"
                    yield ("columns", column), f"is {said[:-1]}: {left}."


def unknown(what: str, name: str, known: Iterable[str], whose: str) -> str:
    """What is said of a name that is not known, with those that are and the nearest of them."""
    known = list(known)
    near = difflib.get_close_matches(name[:MOST_COMPARED], known, n=1)
    remedy = f'Write "{near[0]}"' if near else "Correct or remove it"
    listed = f"expected {shown_names(known)}" if known else f"expected no {what}"
    return f"no {what} of {whose}; {listed}. {remedy}."


def told(value: Any) -> str:
    """A value of a job file, cut where it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, list)):
        what = "table" if isinstance(value, dict) else "list"
        return f"a {what}" if value else f"an empty {what}"
    if isinstance(value, (dt.date, dt.time)):
        return f"the time {value.isoformat()}"
    return shown(value)
