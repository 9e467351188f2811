"""A table of rows, and what rows of several tables need."""

import operator
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ..dims import is_batch
from ..errors import TraceError
from ..recorder import Row

Emit = TypeVar("Emit", bound=Row)


class Rows(dict[Callable[..., Any], Row]):
    """NumPy function -> row."""

    def of(self, *functions: Callable[..., Any]) -> Callable[[Emit], Emit]:
        """Register the decorated row under the functions it serves."""

        def register(emit: Emit) -> Emit:
            self.update(dict.fromkeys(functions, emit))
            return emit

        return register


def normalize_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Axes as numbers from 0; None means all of them."""
    axes = range(ndim) if axis is None else axis
    return np.lib.array_utils.normalize_axis_tuple(axes, ndim)


def one_axis(name: str, axis: Any, ndim: int) -> int:
    """An axis as a number from 0, where NumPy would take None for a flattened array."""
    if axis is None:
        raise TraceError(
            f"{name} without an axis flattens the batch; expected an axis. Pass axis=-1 or another."
        )
    return normalize_axes(operator.index(axis), ndim)[0]


def refuse_batch(name: str, lengths: Any) -> None:
    """Refuse to compute along the batch axis."""
    if any(is_batch(length) for length in lengths):
        raise TraceError(
            f"{name} works along the batch axis, so that a row's answer would depend on its "
            "neighbours; expected rows to stay apart. Name another axis, such as axis=-1."
        )
