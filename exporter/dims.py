"""Lengths of symbolic axes, as the traced function sees them in `x.shape`."""

from typing import Any, NoReturn, TypeAlias, Union

from .errors import TraceError

Length: TypeAlias = Union[int, "Dim"]
Shape: TypeAlias = tuple[Length, ...]


class Dim:
    """The unknown length of an axis: may be passed on in a shape, added and multiplied.

    Parameters
    ----------
    name : str
        What the graph calls it: `batch`, or an expression such as `past + sequence`.
    lengths : tuple of int
        Its length in each of the probe runs. Only the batch axis has length 0 there.
    """

    __slots__ = ("lengths", "name")

    def __init__(self, name: str, lengths: tuple[int, ...]) -> None:
        self.name = name
        self.lengths = lengths

    @property
    def is_batch(self) -> bool:
        """Whether the rows of a batch lie along this axis."""
        return self.lengths[0] == 0

    def __add__(self, other: Length) -> "Dim":
        return _combine(self, other, "+", [a + b for a, b in _pairs(self, other)])

    def __mul__(self, other: Length) -> "Dim":
        if not isinstance(other, Dim) and other == 1:
            return self
        return _combine(self, other, "*", [a * b for a, b in _pairs(self, other)])

    __radd__ = __add__
    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        return self.name == other.name if isinstance(other, Dim) else self._refuse()

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name

    def _refuse(self, *_: object) -> NoReturn:
        raise TraceError(
            f"the length of axis `{self.name}` is used as a number, which is unknown while "
            "tracing; expected it only inside a shape. Give the axis a fixed length in its "
            "Input, or build what depends on it with operations on arrays."
        )

    __index__ = __int__ = __float__ = __bool__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __sub__ = __rsub__ = __floordiv__ = __rfloordiv__ = _refuse
    __truediv__ = __rtruediv__ = __mod__ = __rmod__ = __pow__ = __neg__ = _refuse


def length_in_run(length: Length, run: int) -> int:
    """The number that stands for a length in one of the probe runs."""
    return length.lengths[run] if isinstance(length, Dim) else length


def shape_in_run(shape: Any, run: int) -> Any:
    """A shape argument (a length, or a sequence of them) with numbers for its Dims."""
    if isinstance(shape, (tuple, list)):
        return type(shape)(length_in_run(length, run) for length in shape)
    return length_in_run(shape, run)


def is_batch(length: Length) -> bool:
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


def _pairs(left: Dim, right: Length) -> list[tuple[int, int]]:
    return [(a, length_in_run(right, run)) for run, a in enumerate(left.lengths)]


def _combine(left: Dim, right: Length, sign: str, lengths: list[int]) -> Dim:
    return Dim(f"{left.name} {sign} {right}", tuple(lengths))
