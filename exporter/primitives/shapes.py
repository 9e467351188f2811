"""Rows of functions that move, join and cut without computing."""

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dims import Dim, Length, element_count, is_batch, same_length
from ..errors import TraceError
from ..recorder import Recorder, Row, as_array, is_tracer
from .rows import Rows, normalize_axes, one_axis

ROWS = Rows()


# Shapes.


@ROWS.of(np.reshape)
def reshape(recorder: Recorder, a: Any, shape: Any) -> Any:
    wanted = list(shape) if isinstance(shape, (tuple, list)) else [shape]
    if rest := [i for i, n in enumerate(wanted) if not isinstance(n, Dim) and n == -1]:
        if len(rest) > 1:
            raise TraceError(f"reshape to {wanted}: more than one -1. Give the other lengths.")
        wanted[rest[0]] = _missing_length(a.shape, wanted)
        return np.reshape(a, wanted)
    if element_count(a.shape) != element_count(wanted):
        raise TraceError(
            f"reshape of {list(a.shape)} to {wanted}: the numbers of elements differ; "
            "expected as many as before, with symbolic lengths passed on from x.shape."
        )
    if _before_batch(a.shape) != _before_batch(wanted):
        raise TraceError(
            f"reshape of {list(a.shape)} to {wanted} mixes the rows of the batch; expected as many "
            "elements before the batch axis as there were. Move it to the front with np.moveaxis."
        )
    target = [_reshape_code(a.shape, i, n) for i, n in enumerate(wanted)]
    if target.count(-1) <= 1:
        return recorder.node("Reshape", recorder.operand(a), recorder.ints(*target))
    if recorder.opset < 15:
        raise TraceError(
            f"reshape of {list(a.shape)} to {wanted}: more than one length is unknown, which needs "
            f"opset 15; the trace is at {recorder.opset}. Pass opset=15 or later."
        )
    parts = [
        recorder.length(n) if isinstance(n, Dim) else recorder.ints(operator.index(n))
        for n in wanted
    ]
    if parts.count(None) > 1:
        raise TraceError(
            f"reshape of {list(a.shape)} to {wanted}: more than one length is unknown; expected "
            "symbolic axes to keep their places or to be an input's, all but one. Move them with "
            "np.transpose first."
        )
    lengths = [recorder.ints(-1) if part is None else part for part in parts]
    # allowzero: an axis of an input may have no elements.
    shape = recorder.node("Concat", *lengths, axis=0)
    return recorder.node("Reshape", recorder.operand(a), shape, allowzero=int(None not in parts))


def _before_batch(shape: Sequence[Length]) -> tuple[int, list[str]] | None:
    """The number of elements that stand before the axis with the batch in it."""
    at = next((i for i, length in enumerate(shape) if is_batch(length)), None)
    return None if at is None else element_count(shape[:at])


def _reshape_code(found: Sequence[Length], place: int, wanted: Length) -> int:
    """What a Reshape takes for a length: 0 copies the input's there, -1 takes what is left."""
    if not isinstance(wanted, Dim):
        return operator.index(wanted)
    same_place = found[place] if place < len(found) else None
    return 0 if same_length(same_place, wanted) else -1


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


@ROWS.of(np.ravel)
def ravel(_: Recorder, a: Any) -> Any:
    return np.reshape(a, math.prod(a.shape))


@ROWS.of(np.transpose)
def transpose(recorder: Recorder, a: Any, axes: Any = None) -> str:
    perm = range(a.ndim)[::-1] if axes is None else normalize_axes(axes, a.ndim)
    return recorder.node("Transpose", recorder.operand(a), perm=list(perm))


@ROWS.of(np.swapaxes)
def swapaxes(recorder: Recorder, a: Any, axis1: int, axis2: int) -> str:
    perm = list(range(a.ndim))
    perm[axis1], perm[axis2] = perm[axis2], perm[axis1]
    return transpose(recorder, a, perm)


@ROWS.of(np.matrix_transpose)
def matrix_transpose(recorder: Recorder, x: Any) -> str:
    return swapaxes(recorder, x, -1, -2)


@ROWS.of(np.moveaxis)
def moveaxis(recorder: Recorder, a: Any, source: Any, destination: Any) -> str:
    sources, places = normalize_axes(source, a.ndim), normalize_axes(destination, a.ndim)
    order = [axis for axis in range(a.ndim) if axis not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return transpose(recorder, a, order)


@ROWS.of(np.expand_dims)
def expand_dims(recorder: Recorder, a: Any, axis: Any) -> str:
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    axes = normalize_axes(axis, a.ndim + count)
    return recorder.node("Unsqueeze", recorder.operand(a), recorder.ints(*axes))


@ROWS.of(np.squeeze)
def squeeze(recorder: Recorder, a: Any, axis: Any = None) -> str:
    if axis is None:
        raise TraceError(
            "squeeze without an axis depends on the length of the batch; expected an axis. "
            "Pass axis=-1 or another."
        )
    axes = normalize_axes(axis, a.ndim)
    return recorder.node("Squeeze", recorder.operand(a), recorder.ints(*axes))


@ROWS.of(np.broadcast_to)
def broadcast_to(recorder: Recorder, array: Any, shape: Any) -> str:
    lengths = list(shape) if isinstance(shape, (tuple, list)) else [shape]
    offset = len(lengths) - array.ndim
    target = []
    for position, length in enumerate(lengths):
        if isinstance(length, Dim):  # Expand keeps an input's length where the target says 1
            if position < offset or not same_length(array.shape[position - offset], length):
                raise TraceError(
                    f"broadcast_to {lengths}: axis `{length}` is new; expected the array to have "
                    "it already. Multiply by np.ones_like of an array that has that axis."
                )
            target.append(1)
        else:
            target.append(operator.index(length))
    return recorder.node("Expand", recorder.operand(array), recorder.ints(*target))


@ROWS.of(np.tile)
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


@ROWS.of(np.copy)
def copy(recorder: Recorder, a: Any) -> str:
    return recorder.node("Identity", recorder.operand(a))


def filled_like(value: Any) -> Row:
    def emit(recorder: Recorder, a: Any, dtype: Any = None) -> str:
        return full_like(recorder, a, value, dtype)

    return emit


@ROWS.of(np.full_like)
def full_like(recorder: Recorder, a: Any, fill_value: Any, dtype: Any = None) -> str:
    shape = recorder.node("Shape", recorder.operand(a))
    fill = recorder.constant(np.asarray(fill_value, dtype=dtype or a.dtype))
    return recorder.node("Expand", fill, shape)


ROWS[np.zeros_like] = filled_like(0)
ROWS[np.ones_like] = filled_like(1)


# Joins and cuts.


@ROWS.of(np.concatenate)
def concatenate(recorder: Recorder, arrays: Any, axis: int | None = 0) -> str:
    arrays = [x if is_tracer(x) else as_array(x) for x in arrays]
    dtype = np.result_type(*(x.dtype for x in arrays))
    position = one_axis("concatenate", axis, arrays[0].ndim)
    if any(is_batch(x.shape[position]) for x in arrays):
        raise TraceError(
            "concatenate along the batch axis; expected rows to stay apart. Name another axis."
        )
    return recorder.node("Concat", *(recorder.operand(x, dtype) for x in arrays), axis=position)


@ROWS.of(np.stack)
def stack(recorder: Recorder, arrays: Any, axis: int = 0) -> str:
    arrays = [x if is_tracer(x) else as_array(x) for x in arrays]
    dtype = np.result_type(*(x.dtype for x in arrays))
    position = normalize_axes(axis, arrays[0].ndim + 1)[0]
    new = recorder.ints(position)
    parts = [recorder.node("Unsqueeze", recorder.operand(x, dtype), new) for x in arrays]
    return recorder.node("Concat", *parts, axis=position)


@ROWS.of(np.split)
def split(recorder: Recorder, ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    position = normalize_axes(axis, ary.ndim)[0]
    length = ary.shape[position]
    if isinstance(indices_or_sections, int):
        sizes = [length // indices_or_sections] * indices_or_sections
    else:
        edges = [0, *indices_or_sections, length]
        sizes = [after - before for before, after in itertools.pairwise(edges)]
        if min(sizes) < 1:
            raise TraceError(
                f"split of {length} elements at {indices_or_sections}: expected rising places "
                "inside, so that no part is empty. Count them from the start."
            )
    operand = recorder.operand(ary)
    return recorder.nodes(
        "Split", operand, recorder.ints(*sizes), axis=position, outputs=len(sizes)
    )


@ROWS.of(np.pad)
def pad(recorder: Recorder, array: Any, pad_width: Any, *, constant_values: Any = 0) -> str:
    widths = np.broadcast_to(np.asarray(pad_width, dtype=np.int64), (array.ndim, 2))
    if any(isinstance(n, Dim) and w.any() for n, w in zip(array.shape, widths, strict=True)):
        raise TraceError(
            "pad of the batch axis or another symbolic one; expected it left alone. "
            "Pad the other axes, or np.concatenate."
        )
    if np.ndim(constant_values):
        raise TraceError("pad with several values has no ONNX row; expected one number.")
    fill = recorder.constant(np.asarray(constant_values, dtype=array.dtype))
    return recorder.node("Pad", recorder.operand(array), recorder.ints(*widths.T.ravel()), fill)


def triangle(upper: int) -> Row:
    def emit(recorder: Recorder, m: Any, k: int = 0) -> str:
        if recorder.opset < 14:
            raise TraceError(
                f"tril and triu of a traced value need opset 14; the trace is at {recorder.opset}. "
                "Pass opset=14 or later."
            )
        if any(is_batch(length) for length in m.shape[-2:]):
            raise TraceError(
                "tril and triu work along the batch axis, so that an answer would depend on a "
                "row's place; expected the batch further left. Move it with np.moveaxis."
            )
        offset = recorder.constant(np.array(operator.index(k), dtype=np.int64))
        return recorder.node("Trilu", recorder.operand(m), offset, upper=upper)

    return emit


ROWS[np.triu] = triangle(1)
ROWS[np.tril] = triangle(0)
