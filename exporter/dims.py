"""Lengths of symbolic axes, as the traced function sees them in `x.shape`."""

import math
import operator
from collections.abc import Sequence
from typing import Any, NoReturn, TypeAlias, Union

from .errors import TraceError

Length: TypeAlias = Union[int, "Dim"]
Shape: TypeAlias = tuple[Length, ...]


class Dim:
    """The unknown length of an axis: may be passed on in a shape, added and multiplied.

    Parameters
    ----------
    symbols : sequence of str
        Names whose lengths are multiplied: `batch`, or a sum such as `past + sequence`.
    lengths : tuple of int
        Its length in each of the probe runs. Only the batch axis has length 0 there.
    coefficient : int
        A number that is multiplied too.
    """

    __slots__ = ("coefficient", "lengths", "symbols")

    def __init__(
        self, symbols: Sequence[str], lengths: tuple[int, ...], coefficient: int = 1
    ) -> None:
        self.symbols = tuple(sorted(symbols))
        self.lengths = lengths
        self.coefficient = coefficient

    @property
    def name(self) -> str:
        """What the graph calls it: `batch`, or an expression such as `2 * batch`."""
        if self.coefficient == 1 and len(self.symbols) == 1:
            return self.symbols[0]
        factors = [f"({s})" if " + " in s else s for s in self.symbols]
        return " * ".join([str(self.coefficient)] * (self.coefficient != 1) + factors)

    @property
    def is_batch(self) -> bool:
        """Whether the rows of a batch lie along this axis."""
        return self.lengths[0] == 0

    def __add__(self, other: Length) -> "Dim":
        self._check(other)
        if not isinstance(other, Dim) and other == 0:
            return self
        lengths = tuple(n + length_in_run(other, run) for run, n in enumerate(self.lengths))
        return Dim([f"{self} + {other}"], lengths)

    def __mul__(self, other: Length) -> "Dim":
        self._check(other)
        symbols = [*self.symbols, *(other.symbols if isinstance(other, Dim) else ())]
        coefficient = other.coefficient if isinstance(other, Dim) else operator.index(other)
        lengths = tuple(n * length_in_run(other, run) for run, n in enumerate(self.lengths))
        return Dim(symbols, lengths, self.coefficient * coefficient)

    __radd__ = __add__
    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        # Lengths of two names may be equal in one run and differ in the next.
        return same_length(self, other) or self._refuse()

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name

    def _check(self, other: object) -> None:
        if not isinstance(other, (int, Dim)) or isinstance(other, bool):
            self._refuse()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TraceError(
            f"the length of axis `{self.name}` is used as a number, which is unknown while "
            "tracing; expected it only inside a shape. Give the axis a fixed length in its "
            "Input, or build what depends on it with operations on arrays."
        )

    __index__ = __int__ = __float__ = __bool__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __sub__ = __rsub__ = __floordiv__ = __rfloordiv__ = _refuse
    __truediv__ = __rtruediv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = _refuse
    __neg__ = __pos__ = __abs__ = __round__ = __invert__ = __divmod__ = __rdivmod__ = _refuse
    __and__ = __or__ = __xor__ = __lshift__ = __rshift__ = __array__ = _refuse


def same_length(left: object, right: object) -> bool:
    """Whether two lengths are equal for every length of the symbolic axes."""
    if isinstance(left, Dim) and isinstance(right, Dim):
        return left.name == right.name
    return not isinstance(left, Dim) and not isinstance(right, Dim) and left == right


def element_count(shape: Sequence[Length]) -> tuple[int, list[str]]:
    """A number of elements, as a number times symbols. On probes of a batch all are 0."""
    number = math.prod(n.coefficient if isinstance(n, Dim) else n for n in shape)
    return number, sorted(s for n in shape if isinstance(n, Dim) for s in n.symbols)


def length_in_run(length: Length, run: int) -> int:
    """The number that stands for a length in one of the probe runs."""
    return length.lengths[run] if isinstance(length, Dim) else length


def shape_in_run(shape: Shape, run: int) -> tuple[int, ...]:
    """A shape with numbers for its Dims."""
    return tuple(length_in_run(length, run) for length in shape)


def is_batch(length: Any) -> bool:
    return isinstance(length, Dim) and length.is_batch


def identify(lengths: tuple[int, ...], known: list[Dim]) -> Length | None:
    """The length that measures `lengths` in the probe runs: a number, a known Dim or a sum.

    Returns None where nothing known has these lengths.
    """
    if lengths[0] != 0 and len(set(lengths)) == 1:
        return lengths[0]
    for dim in known:
        if dim.lengths == lengths:
            return dim
    for position, left in enumerate(known):
        for right in known[position:]:
            if (total := left + right).lengths == lengths:
                return total
    return None
