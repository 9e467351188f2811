"""Rows that move elements without computing: shapes, slices, joins, look-ups."""

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from .dims import Dim, Length, Shape, element_count, is_batch
from .errors import TraceError
from .recorder import Recorder, Row, is_tracer

STRUCTURE: dict[Callable[..., Any], Row] = {}

SLICE_END = np.iinfo(np.int64).max  # "to the end", in a Slice


Emit = TypeVar("Emit", bound=Row)


def row(*functions: Callable[..., Any]) -> Callable[[Emit], Emit]:
    """Register a row under the functions it serves."""

    def register(emit: Emit) -> Emit:
        STRUCTURE.update(dict.fromkeys(functions, emit))
        return emit

    return register


def normalize_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Axes as numbers from 0; None means all of them."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    return np.lib.array_utils.normalize_axis_tuple(axes, ndim)


def check_axis(name: str, axis: Any, ndim: int) -> int:
    if axis is None:
        raise TraceError(
            f"{name} without an axis flattens the batch; expected an axis. Pass axis=-1 or another."
        )
    return normalize_axes(axis, ndim)[0]


# Shapes.


@row(np.reshape)
def reshape(recorder: Recorder, a: Any, shape: Any) -> Any:
    wanted = list(shape) if isinstance(shape, (tuple, list)) else [shape]
    if rest := [i for i, n in enumerate(wanted) if not isinstance(n, Dim) and n == -1]:
        wanted[rest[0]] = _missing_length(a.shape, wanted)
        return np.reshape(a, wanted)
    if element_count(a.shape) != element_count(wanted):
        raise TraceError(
            f"reshape of {list(a.shape)} to {wanted}: the numbers of elements differ; "
            "expected as many as before, with symbolic lengths passed on from x.shape."
        )
    target = [_reshape_code(a.shape, i, n) for i, n in enumerate(wanted)]
    if target.count(-1) > 1:
        raise TraceError(
            f"reshape of {list(a.shape)} to {wanted}: more than one length is unknown; expected "
            "symbolic axes to keep their places, all but one. Move them with np.transpose first."
        )
    return recorder.node("Reshape", recorder.operand(a), recorder.ints(*target))


def _reshape_code(found: Sequence[Length], place: int, wanted: Length) -> int:
    """What a Reshape takes for a length: 0 copies the input's there, -1 takes what is left."""
    if not isinstance(wanted, Dim):
        return operator.index(wanted)
    same_place = found[place] if place < len(found) else None
    return 0 if isinstance(same_place, Dim) and same_place == wanted else -1


def _missing_length(found: Sequence[Length], wanted: Sequence[Length]) -> int:
    """The number that -1 stands for."""
    has = element_count(found)
    given = element_count([n for n in wanted if isinstance(n, Dim) or n != -1])
    if has[1] != given[1] or given[0] == 0 or has[0] % given[0]:
        raise TraceError(
            f"reshape of {list(found)} to {list(wanted)}: -1 would hold a symbolic length, or no "
            "whole number; expected a number. Pass x.shape[0], or a product of such lengths."
        )
    return has[0] // given[0]


@row(np.ravel)
def ravel(_: Recorder, a: Any) -> Any:
    return np.reshape(a, math.prod(a.shape))


@row(np.transpose)
def transpose(recorder: Recorder, a: Any, axes: Any = None) -> str:
    perm = range(a.ndim)[::-1] if axes is None else normalize_axes(axes, a.ndim)
    return recorder.node("Transpose", recorder.operand(a), perm=list(perm))


@row(np.swapaxes)
def swapaxes(recorder: Recorder, a: Any, axis1: int, axis2: int) -> str:
    perm = list(range(a.ndim))
    perm[axis1], perm[axis2] = perm[axis2], perm[axis1]
    return transpose(recorder, a, perm)


@row(np.matrix_transpose)
def matrix_transpose(recorder: Recorder, x: Any) -> str:
    return swapaxes(recorder, x, -1, -2)


@row(np.moveaxis)
def moveaxis(recorder: Recorder, a: Any, source: Any, destination: Any) -> str:
    sources, places = normalize_axes(source, a.ndim), normalize_axes(destination, a.ndim)
    order = [axis for axis in range(a.ndim) if axis not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return transpose(recorder, a, order)


@row(np.expand_dims)
def expand_dims(recorder: Recorder, a: Any, axis: Any) -> str:
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    axes = normalize_axes(axis, a.ndim + count)
    return recorder.node("Unsqueeze", recorder.operand(a), recorder.ints(*axes))


@row(np.squeeze)
def squeeze(recorder: Recorder, a: Any, axis: Any = None) -> str:
    if axis is None:
        raise TraceError(
            "squeeze without an axis depends on the length of the batch; expected an axis. "
            "Pass axis=-1 or another."
        )
    axes = normalize_axes(axis, a.ndim)
    return recorder.node("Squeeze", recorder.operand(a), recorder.ints(*axes))


@row(np.broadcast_to)
def broadcast_to(recorder: Recorder, array: Any, shape: Any) -> str:
    lengths = list(shape) if isinstance(shape, (tuple, list)) else [shape]
    offset = len(lengths) - array.ndim
    target = []
    for position, length in enumerate(lengths):
        if isinstance(length, Dim):  # Expand keeps an input's length where the target says 1
            if position < offset or array.shape[position - offset] != length:
                raise TraceError(
                    f"broadcast_to {lengths}: axis `{length}` is new; expected the array to have "
                    "it already. Multiply by np.ones_like of an array that has that axis."
                )
            target.append(1)
        else:
            target.append(operator.index(length))
    return recorder.node("Expand", recorder.operand(array), recorder.ints(*target))


@row(np.tile)
def tile(recorder: Recorder, A: Any, reps: Any) -> str:  # noqa: N803
    repeats = [reps] if np.ndim(reps) == 0 else list(reps)
    if len(repeats) > A.ndim:
        raise TraceError(
            f"tile by {repeats} of {A.ndim} axes adds axes; expected at most one number per axis. "
            "Reshape first."
        )
    repeats = [1] * (A.ndim - len(repeats)) + repeats
    if any(n != 1 and is_batch(length) for n, length in zip(repeats, A.shape, strict=True)):
        raise TraceError("tile repeats the batch axis; expected rows to stay apart.")
    return recorder.node("Tile", recorder.operand(A), recorder.ints(*repeats))


@row(np.copy)
def copy(recorder: Recorder, a: Any) -> str:
    return recorder.node("Identity", recorder.operand(a))


def filled_like(value: Any) -> Row:
    def emit(recorder: Recorder, a: Any, dtype: Any = None) -> str:
        return full_like(recorder, a, value, dtype)

    return emit


@row(np.full_like)
def full_like(recorder: Recorder, a: Any, fill_value: Any, dtype: Any = None) -> str:
    shape = recorder.node("Shape", recorder.operand(a))
    fill = recorder.constant(np.asarray(fill_value, dtype=dtype or a.dtype))
    return recorder.node("Expand", fill, shape)


STRUCTURE[np.zeros_like] = filled_like(0)
STRUCTURE[np.ones_like] = filled_like(1)


# Joins and cuts.


@row(np.concatenate)
def concatenate(recorder: Recorder, arrays: Any, axis: int = 0) -> str:
    dtype = np.result_type(*(x.dtype for x in arrays))
    position = normalize_axes(axis, arrays[0].ndim)[0]
    if any(is_batch(x.shape[position]) for x in arrays):
        raise TraceError(
            "concatenate along the batch axis; expected rows to stay apart. Name another axis."
        )
    return recorder.node("Concat", *(recorder.operand(x, dtype) for x in arrays), axis=position)


@row(np.stack)
def stack(recorder: Recorder, arrays: Any, axis: int = 0) -> str:
    dtype = np.result_type(*(x.dtype for x in arrays))
    position = normalize_axes(axis, arrays[0].ndim + 1)[0]
    new = recorder.ints(position)
    parts = [recorder.node("Unsqueeze", recorder.operand(x, dtype), new) for x in arrays]
    return recorder.node("Concat", *parts, axis=position)


@row(np.split)
def split(recorder: Recorder, ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    position = normalize_axes(axis, ary.ndim)[0]
    length = ary.shape[position]
    if isinstance(indices_or_sections, int):
        sizes = [length // indices_or_sections] * indices_or_sections
    else:
        edges = [0, *indices_or_sections, length]
        sizes = [after - before for before, after in itertools.pairwise(edges)]
    operand = recorder.operand(ary)
    return recorder.nodes(
        "Split", operand, recorder.ints(*sizes), axis=position, outputs=len(sizes)
    )


@row(np.pad)
def pad(recorder: Recorder, array: Any, pad_width: Any, *, constant_values: Any = 0) -> str:
    widths = np.broadcast_to(np.asarray(pad_width, dtype=np.int64), (array.ndim, 2))
    if any(is_batch(n) and width.any() for n, width in zip(array.shape, widths, strict=True)):
        raise TraceError("pad of the batch axis adds rows; expected it left alone.")
    fill = recorder.constant(np.asarray(constant_values, dtype=array.dtype))
    return recorder.node("Pad", recorder.operand(array), recorder.ints(*widths.T.ravel()), fill)


def triangle(upper: int) -> Row:
    def emit(recorder: Recorder, m: Any, k: int = 0) -> str:
        if recorder.opset < 14:
            raise TraceError(
                f"tril and triu of a traced value need opset 14; the trace is at {recorder.opset}. "
                "Pass opset=14 or later."
            )
        offset = recorder.constant(np.array(k, dtype=np.int64))
        return recorder.node("Trilu", recorder.operand(m), offset, upper=upper)

    return emit


STRUCTURE[np.triu] = triangle(1)
STRUCTURE[np.tril] = triangle(0)


# Look-ups.


@row(operator.getitem)
def getitem(recorder: Recorder, x: Any, key: Any) -> str:
    items = _expand(key, x.ndim)
    arrays = [i for i, item in enumerate(items) if _is_array(item)]
    name = recorder.operand(x)
    if not arrays:
        return _basic(recorder, name, x.shape, items)
    if len(arrays) > 1 or any(not isinstance(i, slice) for i in items if not _is_array(i)):
        raise TraceError(
            "x[...] mixes an index array with another, with numbers or with None; expected one "
            "index array and slices. Index in two steps, or write np.take_along_axis."
        )
    axis = arrays[0]
    _check_indexed(x.shape[axis])
    rest = [slice(None) if i == axis else item for i, item in enumerate(items)]
    return _gather(recorder, _basic(recorder, name, x.shape, rest), items[axis], axis)


def _basic(recorder: Recorder, name: str, shape: Shape, items: list[Any]) -> str:
    """Slices, then numbers (slices of one element, squeezed), then new axes."""
    cuts: list[tuple[int, int, int, int]] = []  # axis, start, stop, step
    dropped: list[int] = []
    new_axes: list[int] = []
    axis = 0
    for item in items:
        if item is None:
            new_axes.append(axis - len(dropped) + len(new_axes))
            continue
        if not isinstance(item, slice):
            _check_indexed(shape[axis])
            index = operator.index(item)
            cuts.append((axis, index, index + 1 or SLICE_END, 1))
            dropped.append(axis)
        elif not _is_whole(item, shape[axis]):
            cuts.append((axis, *_slice(item, shape[axis])))
        axis += 1
    if cuts:
        axes, starts, stops, steps = (recorder.ints(*part) for part in zip(*cuts, strict=True))
        name = recorder.node("Slice", name, starts, stops, axes, steps)
    if dropped:
        name = recorder.node("Squeeze", name, recorder.ints(*dropped))
    if new_axes:
        name = recorder.node("Unsqueeze", name, recorder.ints(*new_axes))
    return name


@row(np.take)
def take(recorder: Recorder, a: Any, indices: Any, axis: Any = None) -> str:
    position = check_axis("take", axis, a.ndim)
    _check_indexed(a.shape[position])
    return _gather(recorder, recorder.operand(a), indices, position)


@row(np.take_along_axis)
def take_along_axis(recorder: Recorder, arr: Any, indices: Any, axis: int = -1) -> str:
    position = normalize_axes(axis, arr.ndim)[0]
    _check_indexed(arr.shape[position])
    # GatherElements wants indices as large as the result: widen their axes of length 1.
    shape = [
        1 if i == position or isinstance(length, Dim) else length
        for i, length in enumerate(arr.shape)
    ]
    wide = recorder.node("Expand", recorder.operand(indices), recorder.ints(*shape))
    return recorder.node("GatherElements", recorder.operand(arr), wide, axis=position)


def _gather(recorder: Recorder, name: str, indices: Any, axis: int) -> str:
    dtype = indices.dtype if is_tracer(indices) else np.asarray(indices).dtype
    if dtype.kind not in "iu":
        raise TraceError(
            f"index array of type {dtype}: what it selects depends on values; expected whole "
            "numbers. Write np.where instead of a mask."
        )
    wanted = dtype if dtype in (np.int32, np.int64) else np.int64
    return recorder.node("Gather", name, recorder.operand(indices, wanted), axis=axis)


def _expand(key: Any, ndim: int) -> list[Any]:
    """The key as a list with an item for each axis, and None for each new one."""
    items = list(key) if isinstance(key, tuple) else [key]
    used = sum(item is not None and item is not Ellipsis for item in items)
    if used > ndim:
        raise TraceError(f"x[...]: {used} indices for {ndim} axes; expected at most one each.")
    fill = [slice(None)] * (ndim - used)
    at = next((i for i, item in enumerate(items) if item is Ellipsis), None)
    if at is None:
        return items + fill
    return items[:at] + fill + items[at + 1 :]


def _is_array(item: Any) -> bool:
    return is_tracer(item) or isinstance(item, (list, np.ndarray))


def _is_whole(item: slice, length: Length) -> bool:
    if isinstance(length, Dim):
        return item == slice(None)
    return item.indices(length) == (0, length, 1)


def _slice(item: slice, length: Length) -> tuple[int, int, int]:
    if is_batch(length):
        raise TraceError(
            "x[...] slices the batch axis; expected `:` there, so that rows stay apart."
        )
    step = 1 if item.step is None else operator.index(item.step)
    if isinstance(length, Dim):
        start = (0 if step > 0 else SLICE_END) if item.start is None else operator.index(item.start)
        stop = (
            (SLICE_END if step > 0 else -SLICE_END)
            if item.stop is None
            else operator.index(item.stop)
        )
        return start, stop, step
    start, stop, step = item.indices(length)
    if not range(start, stop, step):
        raise TraceError(
            f"x[{item.start}:{item.stop}:{item.step}] of {length} elements is a zero-length axis; "
            "expected at least one element. Leave the empty part out."
        )
    return start, stop if stop >= 0 else -SLICE_END, step


def _check_indexed(length: Length) -> None:
    if is_batch(length):
        raise TraceError(
            "an index picks rows out of the batch axis; expected rows to stay apart. "
            "Index another axis, or write np.take_along_axis along one."
        )
