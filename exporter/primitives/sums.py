"""Rows of functions that sum or compare along axes: products and reductions."""

from typing import Any

import numpy as np

from ..errors import TraceError
from ..recorder import Recorder, label
from .elementwise import dtyped, loop_operands_unaligned
from .rows import Rows, normalize_axes, one_axis, refuse_batch

ROWS = Rows()


# Products. The axis that is summed over must not be the batch.


@ROWS.of(np.matmul)
def matmul(recorder: Recorder, x1: Any, x2: Any) -> str:
    summed = [x.shape[-1 if first or x.ndim == 1 else -2] for x, first in ((x1, True), (x2, False))]
    refuse_batch("matmul", summed)
    return recorder.node("MatMul", *loop_operands_unaligned(recorder, np.matmul, (x1, x2)))


@ROWS.of(np.dot)
def dot(recorder: Recorder, a: Any, b: Any) -> str:
    if not (np.ndim(a) >= 1 and 1 <= np.ndim(b) <= 2):
        raise TraceError(
            f"dot of {np.ndim(a)} and {np.ndim(b)} axes has no ONNX row; expected a vector or "
            "matrix on the right. Write np.matmul or np.multiply."
        )
    return matmul(recorder, a, b)


@ROWS.of(np.einsum)
def einsum(recorder: Recorder, subscripts: str, *operands: Any) -> str:
    inputs, _, result = subscripts.replace(" ", "").partition("->")
    if "->" not in subscripts or "." in subscripts:
        raise TraceError(
            f"einsum {subscripts!r}: expected every axis named and an explicit result, such as "
            "'bij,bjk->bik'."
        )
    for letters, x in zip(inputs.split(","), operands, strict=False):
        lengths = zip(letters, np.shape(x), strict=False)
        refuse_batch("einsum", [length for letter, length in lengths if letter not in result])
    dtype = np.result_type(*(dtyped(x) for x in operands))
    names = [recorder.operand(x, dtype) for x in operands]
    return recorder.node("Einsum", *names, equation=subscripts.replace(" ", ""))


# Reductions.


def reduction(function: Any, op: str, *, axes_input_from: int) -> None:
    """The row of a reduction whose operator takes its axes as an input from some opset on."""

    def row(recorder: Recorder, a: Any, axis: Any = None, *, keepdims: bool = False) -> str:
        axes = row_axes(label(function), a, axis)
        operand = recorder.operand(a, function(np.ones(1, a.dtype)).dtype)
        return reduce_(recorder, op, operand, axes, keepdims, axes_input_from)

    ROWS[function] = row


def row_axes(name: str, a: Any, axis: Any) -> tuple[int, ...]:
    """The axes of a reduction, none of which may be the batch."""
    axes = normalize_axes(axis, a.ndim)
    refuse_batch(name, [a.shape[axis] for axis in axes])
    return axes


def reduce_(
    recorder: Recorder, op: str, operand: str, axes: Any, keepdims: bool, axes_input_from: int
) -> str:
    if not axes:
        return recorder.node("Identity", operand)
    if recorder.opset >= axes_input_from:
        return recorder.node(op, operand, recorder.ints(*axes), keepdims=int(keepdims))
    return recorder.node(op, operand, axes=list(axes), keepdims=int(keepdims))


reduction(np.sum, "ReduceSum", axes_input_from=13)
for _function, _op in {
    np.mean: "ReduceMean",
    np.max: "ReduceMax",
    np.amax: "ReduceMax",
    np.min: "ReduceMin",
    np.amin: "ReduceMin",
    np.prod: "ReduceProd",
}.items():
    reduction(_function, _op, axes_input_from=18)


@ROWS.of(np.var)
def var(recorder: Recorder, a: Any, axis: Any = None, *, keepdims: bool = False) -> str:
    axes = row_axes("var", a, axis)
    operand = recorder.operand(a, np.var(np.ones(1, a.dtype)).dtype)
    mean = reduce_(recorder, "ReduceMean", operand, axes, keepdims=True, axes_input_from=18)
    deviation = recorder.node("Sub", operand, mean)
    squared = recorder.node("Mul", deviation, deviation)
    return reduce_(recorder, "ReduceMean", squared, axes, keepdims, axes_input_from=18)


@ROWS.of(np.std)
def std(recorder: Recorder, a: Any, axis: Any = None, *, keepdims: bool = False) -> str:
    return recorder.node("Sqrt", var(recorder, a, axis, keepdims=keepdims))


def arg_reduction(function: Any, op: str) -> None:
    def row(recorder: Recorder, a: Any, axis: Any = None, *, keepdims: bool = False) -> str:
        axis = one_axis(label(function), axis, a.ndim)
        row_axes(label(function), a, axis)
        return recorder.node(op, recorder.operand(a), axis=axis, keepdims=int(keepdims))

    ROWS[function] = row


arg_reduction(np.argmax, "ArgMax")
arg_reduction(np.argmin, "ArgMin")


@ROWS.of(np.cumsum)
def cumsum(recorder: Recorder, a: Any, axis: Any = None) -> str:
    axis = one_axis("cumsum", axis, a.ndim)
    row_axes("cumsum", a, axis)
    dtype = np.cumsum(np.ones(1, a.dtype)).dtype
    position = recorder.constant(np.array(axis, dtype=np.int64))
    return recorder.node("CumSum", recorder.operand(a, dtype), position)
