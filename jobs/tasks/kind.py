"""What a kind of task is: the keys that it takes, the metrics that it gives, and how it runs."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from runner.errors import SettingsError
from runner.messages import shown, shown_names

from ..language_model import LanguageModel
from ..results import TaskResult
from ..task_spec import TaskSpec

Run: TypeAlias = Callable[[TaskSpec, LanguageModel], TaskResult]
ID = "id"  # the column that every kind with data may be given


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


def flag(*, default: bool) -> OptionShape:
    """`true` or `false`."""
    return OptionShape("true or false", lambda v: isinstance(v, bool), default)


def text(*, default: str | None = None, required: bool = False) -> OptionShape:
    """A string that is not empty."""
    return OptionShape("a string", lambda v: isinstance(v, str) and v != "", default, required)


def texts(*, default: tuple[str, ...] = ()) -> OptionShape:
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
    needs_data : bool
    """

    name: str
    run: Run
    options: dict[str, OptionShape] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    optional_columns: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    metrics: tuple[str, ...] | None = ()
    needs_data: bool = True

    def checked(self, spec: TaskSpec) -> TaskSpec:
        """A task with its options complete, if the kind can do it.

        Raises
        ------
        SettingsError
            Where a key is unknown, missing, or holds what the kind does not take.
        """
        if self.needs_data and not spec.data:
            raise SettingsError(
                f'{spec.where}: no "data"; a {self.name} task needs some. '
                "Name a file, a folder, a pattern, or a list of them."
            )
        self._check_columns(spec)
        for metric in (*spec.thresholds, *spec.allow):
            if self.metrics is not None and metric not in self.metrics:
                raise SettingsError(
                    f"{spec.where}: no metric {shown(metric)} in a {self.name} task; "
                    f"expected {_some(self.metrics)}. Correct the name."
                )
        return replace(spec, options=self._complete(spec))

    def _check_columns(self, spec: TaskSpec) -> None:
        if spec.format is not None:
            if spec.format not in self.formats:
                raise SettingsError(
                    f'{spec.where}: "format" is {shown(spec.format)}; a {self.name} task takes '
                    f'{_some(self.formats)}. Correct it, or map columns with "columns".'
                )
            if spec.columns:
                raise SettingsError(
                    f'{spec.where}: both "format" and "columns"; expected one: a format knows its '
                    "columns. Remove one of them."
                )
            return
        known = (*self.columns, *self.optional_columns, *([ID] if self.needs_data else []))
        for column in spec.columns:
            if column not in known:
                raise SettingsError(
                    f'{spec.where}: "columns" has {shown(column)}; a {self.name} task knows '
                    f"{_some(known)}. Correct the name: left what the kind calls it, right what "
                    "the file calls it."
                )

    def _complete(self, spec: TaskSpec) -> dict[str, Any]:
        """The options, and defaults for those that are not there."""
        for key, value in spec.options.items():
            shape = self.options.get(key)
            if shape is None:
                raise SettingsError(
                    f"{spec.where}: unknown key {shown(key)}; a {self.name} task takes "
                    f"{_some(self.options)} beside what every task takes. Correct or remove it."
                )
            if not shape.accepts(value):
                raise SettingsError(
                    f'{spec.where}: "{key}" is {shown(value)}; expected {shape.expected}. '
                    "Correct it."
                )
        for key, shape in self.options.items():
            if shape.required and key not in spec.options:
                raise SettingsError(f'{spec.where}: no "{key}"; expected {shape.expected}. Add it.')
        defaults = {key: shape.default for key, shape in self.options.items()}
        return defaults | spec.options


def _some(names: Iterable[str]) -> str:
    return shown_names(names) or "none"
