"""Rows of indexing: slices, numbers, new axes and index arrays."""

import operator
from typing import Any

import numpy as np

from ..dims import Dim, Length, Shape, is_batch, same_length
from ..errors import TraceError
from ..recorder import Recorder, is_tracer
from .rows import Rows, one_axis

ROWS = Rows()

SLICE_END = np.iinfo(np.int64).max  # "to the end", in a Slice


@ROWS.of(operator.getitem)
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
            if isinstance(item, (bool, np.bool_)):
                raise TraceError("x[...] with True or False has no ONNX row. Write np.where.")
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


@ROWS.of(np.take)
def take(recorder: Recorder, a: Any, indices: Any, axis: Any = None) -> str:
    position = one_axis("take", axis, a.ndim)
    _check_indexed(a.shape[position])
    return _gather(recorder, recorder.operand(a), indices, position)


@ROWS.of(np.take_along_axis)
def take_along_axis(recorder: Recorder, arr: Any, indices: Any, axis: int | None = -1) -> str:
    position = one_axis("take_along_axis", axis, arr.ndim)
    for i, (has, wants) in enumerate(zip(arr.shape, np.shape(indices), strict=True)):
        widened = isinstance(has, int) and isinstance(wants, int) and wants == 1
        if i != position and not (widened or same_length(has, wants)):
            raise TraceError(
                f"take_along_axis: axis {i} has length {has} in the array and {wants} in the "
                "indices; expected equal lengths, or 1 beside a fixed one. Broadcast one of "
                "them first."
            )
    _check_indexed(arr.shape[position])
    if position == arr.ndim - 2 and np.shape(indices)[-1] == 1:  # whole rows are picked
        before = zip(arr.shape[:position], np.shape(indices)[:position], strict=True)
        if all(same_length(has, wants) for has, wants in before):
            operands = recorder.operand(arr), recorder.operand(indices, np.int64)
            return recorder.node("GatherND", *operands, batch_dims=position)
    # GatherElements wants indices as large as the result: widen their axes of length 1.
    shape = [
        1 if i == position or isinstance(length, Dim) else length
        for i, length in enumerate(arr.shape)
    ]
    wide = recorder.node("Expand", recorder.operand(indices, np.int64), recorder.ints(*shape))
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
        if item.start is not None or item.stop is not None or step != -1:
            raise TraceError(
                f"x[...] cuts the symbolic axis `{length}`, whose length then depends on how long "
                "it is; expected `:` or `::-1`. Give the axis a fixed length, or index one place."
            )
        return SLICE_END, -SLICE_END, step
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
