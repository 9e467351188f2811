"""One row per NumPy function: how it is written in standard ONNX operators.

A row takes the recorder and the call's own arguments and returns the name of its result.
Its signature is its contract: a keyword that it lacks is refused by name. Shapes and types
are NumPy's business (`recorder.py`); a row only refuses what NumPy would let pass on probes.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .dims import is_batch
from .errors import TraceError
from .recorder import SCALARS, Recorder, Row, is_tracer, label
from .structure import STRUCTURE, check_axis, normalize_axes

PRIMITIVES: dict[Callable[..., Any], Row] = dict(STRUCTURE)


Emit = TypeVar("Emit", bound=Row)


def primitive(*functions: Callable[..., Any]) -> Callable[[Emit], Emit]:
    """Register a row under the functions it serves."""

    def register(emit: Emit) -> Emit:
        PRIMITIVES.update(dict.fromkeys(functions, emit))
        return emit

    return register


# Elementwise: NumPy says which types the loop runs in, operands are cast to those.


def elementwise(ufunc: Any, op: str, *, negate: bool = False) -> None:
    """The row of a ufunc that is one operator, or the negation of one."""

    def row(recorder: Recorder, *inputs: Any) -> str:
        name = recorder.node(op, *loop_operands(recorder, ufunc, inputs))
        return recorder.node("Not", name) if negate else name

    PRIMITIVES[ufunc] = row


def loop_operands(recorder: Recorder, ufunc: Any, inputs: Any) -> list[str]:
    """The operands' names, cast to the types that NumPy's loop takes them in."""
    kinds = [type(x) if type(x) in SCALARS else np.asarray(_dtyped(x)).dtype for x in inputs]
    try:
        dtypes = ufunc.resolve_dtypes((*kinds, *[None] * ufunc.nout))
    except TypeError as e:
        raise TraceError(f"{label(ufunc)}: {e}. Cast the operands with .astype first.") from None
    check_rows_apart(ufunc, inputs)
    return [recorder.operand(x, dtype) for x, dtype in zip(inputs, dtypes, strict=False)]


def check_rows_apart(ufunc: Any, inputs: Any) -> None:
    """Refuse two different symbolic lengths on one axis: probes cannot tell them apart."""
    shapes = [x.shape for x in inputs if is_tracer(x)]
    for lengths in zip(*(reversed(shape) for shape in shapes), strict=False):
        symbolic = {str(length) for length in lengths if not isinstance(length, int)}
        if len(symbolic) > 1:
            raise TraceError(
                f"{label(ufunc)}: axes of lengths {' and '.join(sorted(symbolic))} meet; "
                "expected equal lengths, or 1. Align the operands' axes."
            )


def _dtyped(x: Any) -> Any:
    return np.empty((), x.dtype) if is_tracer(x) else x


for _ufunc, _op in {
    np.add: "Add",
    np.subtract: "Sub",
    np.multiply: "Mul",
    np.divide: "Div",
    np.power: "Pow",
    np.negative: "Neg",
    np.absolute: "Abs",
    np.fabs: "Abs",
    np.sign: "Sign",
    np.sqrt: "Sqrt",
    np.reciprocal: "Reciprocal",
    np.exp: "Exp",
    np.log: "Log",
    np.floor: "Floor",
    np.ceil: "Ceil",
    np.rint: "Round",
    np.sin: "Sin",
    np.cos: "Cos",
    np.tan: "Tan",
    np.arcsin: "Asin",
    np.arccos: "Acos",
    np.arctan: "Atan",
    np.sinh: "Sinh",
    np.cosh: "Cosh",
    np.tanh: "Tanh",
    np.arcsinh: "Asinh",
    np.arccosh: "Acosh",
    np.arctanh: "Atanh",
    np.maximum: "Max",
    np.minimum: "Min",
    np.equal: "Equal",
    np.less: "Less",
    np.less_equal: "LessOrEqual",
    np.greater: "Greater",
    np.greater_equal: "GreaterOrEqual",
    np.isnan: "IsNaN",
    np.isinf: "IsInf",
}.items():
    elementwise(_ufunc, _op)
elementwise(np.not_equal, "Equal", negate=True)


def logical(ufunc: Any, op: str) -> None:
    """The row of a ufunc that reads its operands as true or false."""

    def row(recorder: Recorder, *inputs: Any) -> str:
        check_rows_apart(ufunc, inputs)
        return recorder.node(op, *(recorder.operand(x, np.bool_) for x in inputs))

    PRIMITIVES[ufunc] = row


logical(np.logical_and, "And")
logical(np.logical_or, "Or")
logical(np.logical_xor, "Xor")
logical(np.logical_not, "Not")


def bitwise(ufunc: Any, boolean_op: str, op: str) -> None:
    """The row of `&`, `|`, `^` and `~`: one operator for booleans, another for integers."""

    def row(recorder: Recorder, *inputs: Any) -> str:
        operands = loop_operands(recorder, ufunc, inputs)
        if all(np.asarray(_dtyped(x)).dtype == np.bool_ for x in inputs):
            return recorder.node(boolean_op, *operands)
        if recorder.opset < 18:
            raise TraceError(
                f"{label(ufunc)} of integers needs opset 18; the trace is at {recorder.opset}. "
                "Pass opset=18 or later."
            )
        return recorder.node(op, *operands)

    PRIMITIVES[ufunc] = row


bitwise(np.bitwise_and, "And", "BitwiseAnd")
bitwise(np.bitwise_or, "Or", "BitwiseOr")
bitwise(np.bitwise_xor, "Xor", "BitwiseXor")
bitwise(np.invert, "Not", "BitwiseNot")


@primitive(np.square)
def square(recorder: Recorder, x: Any) -> str:
    name = recorder.operand(x)
    return recorder.node("Mul", name, name)


@primitive(np.isfinite)
def isfinite(recorder: Recorder, x: Any) -> str:
    name = recorder.operand(x)
    either = recorder.node("Or", recorder.node("IsNaN", name), recorder.node("IsInf", name))
    return recorder.node("Not", either)


@primitive(np.remainder)
def remainder(recorder: Recorder, x: Any, y: Any) -> str:
    operands = loop_operands(recorder, np.remainder, (x, y))
    if np.result_type(_dtyped(x), _dtyped(y)).kind == "f":
        raise TraceError(
            "remainder of floats has no ONNX row (Mod keeps the dividend's sign); expected "
            "integers. Write x - y * np.floor(x / y), or np.fmod."
        )
    return recorder.node("Mod", *operands, fmod=0)


@primitive(np.fmod)
def fmod(recorder: Recorder, x: Any, y: Any) -> str:
    return recorder.node("Mod", *loop_operands(recorder, np.fmod, (x, y)), fmod=1)


@primitive(np.clip)
def clip(recorder: Recorder, a: Any, a_min: Any = None, a_max: Any = None) -> str:
    dtype = np.result_type(*(_weak(x) for x in (a, a_min, a_max) if x is not None))
    name = recorder.operand(a, dtype)
    if a_min is not None:
        name = recorder.node("Max", name, recorder.operand(a_min, dtype))
    if a_max is not None:
        name = recorder.node("Min", name, recorder.operand(a_max, dtype))
    return name


@primitive(np.round)
def round_(recorder: Recorder, a: Any, decimals: int = 0) -> str:
    if decimals != 0:
        raise TraceError(
            f"round to {decimals} decimals has no ONNX row; expected decimals=0. "
            "Scale before and after it."
        )
    return recorder.node("Round", recorder.operand(a))


@primitive(np.where)
def where(recorder: Recorder, condition: Any, x: Any, y: Any) -> str:
    dtype = np.result_type(_weak(x), _weak(y))
    check_rows_apart(np.where, (condition, x, y))
    operands = recorder.operand(x, dtype), recorder.operand(y, dtype)
    return recorder.node("Where", recorder.operand(condition, np.bool_), *operands)


def _weak(x: Any) -> Any:
    """What np.result_type needs to know of an operand: Python scalars stay weak."""
    return x if type(x) in SCALARS else _dtyped(x)


# Products. The axis that is summed over must not be the batch.


@primitive(np.matmul)
def matmul(recorder: Recorder, x1: Any, x2: Any) -> str:
    summed = [x.shape[-1 if first or x.ndim == 1 else -2] for x, first in ((x1, True), (x2, False))]
    _refuse_batch_sum("matmul", summed)
    return recorder.node("MatMul", *loop_operands_unaligned(recorder, np.matmul, (x1, x2)))


@primitive(np.dot)
def dot(recorder: Recorder, a: Any, b: Any) -> str:
    if not (np.ndim(a) >= 1 and 1 <= np.ndim(b) <= 2):
        raise TraceError(
            f"dot of {np.ndim(a)} and {np.ndim(b)} axes has no ONNX row; expected a vector or "
            "matrix on the right. Write np.matmul or np.multiply."
        )
    return matmul(recorder, a, b)


@primitive(np.einsum)
def einsum(recorder: Recorder, subscripts: str, *operands: Any) -> str:
    inputs, _, result = subscripts.replace(" ", "").partition("->")
    if "->" not in subscripts or "." in subscripts:
        raise TraceError(
            f"einsum {subscripts!r}: expected every axis named and an explicit result, such as "
            "'bij,bjk->bik'."
        )
    for letters, x in zip(inputs.split(","), operands, strict=False):
        lengths = zip(letters, np.shape(x), strict=False)
        _refuse_batch_sum("einsum", [length for letter, length in lengths if letter not in result])
    dtype = np.result_type(*(_dtyped(x) for x in operands))
    names = [recorder.operand(x, dtype) for x in operands]
    return recorder.node("Einsum", *names, equation=subscripts.replace(" ", ""))


def loop_operands_unaligned(recorder: Recorder, ufunc: Any, inputs: Any) -> list[str]:
    """As `loop_operands`, for a ufunc whose last axes are not matched one to one."""
    dtypes = ufunc.resolve_dtypes((*(np.asarray(_dtyped(x)).dtype for x in inputs), None))
    return [recorder.operand(x, dtype) for x, dtype in zip(inputs, dtypes, strict=False)]


def _refuse_batch_sum(name: str, lengths: Any) -> None:
    if any(is_batch(length) for length in lengths):
        raise TraceError(
            f"{name} sums over the batch axis, so that a row's answer would depend on its "
            "neighbours; expected sums within a row. Sum over another axis."
        )


# Reductions.


def reduction(function: Any, op: str, *, axes_input_from: int) -> None:
    """The row of a reduction whose operator takes its axes as an input from some opset on."""

    def row(recorder: Recorder, a: Any, axis: Any = None, *, keepdims: bool = False) -> str:
        axes = row_axes(label(function), a, axis)
        operand = recorder.operand(a, function(np.ones(1, a.dtype)).dtype)
        return reduce_(recorder, op, operand, axes, keepdims, axes_input_from)

    PRIMITIVES[function] = row


def row_axes(name: str, a: Any, axis: Any) -> tuple[int, ...]:
    """The axes of a reduction, none of which may be the batch."""
    axes = normalize_axes(axis, a.ndim)
    if any(is_batch(a.shape[axis]) for axis in axes):
        raise TraceError(
            f"{name} reduces over the batch axis, so that a row's answer would depend on its "
            "neighbours; expected a reduction within a row. Name the axis, such as axis=-1."
        )
    return axes


def reduce_(
    recorder: Recorder, op: str, operand: str, axes: Any, keepdims: bool, axes_input_from: int
) -> str:
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


@primitive(np.var)
def var(recorder: Recorder, a: Any, axis: Any = None, *, keepdims: bool = False) -> str:
    axes = row_axes("var", a, axis)
    operand = recorder.operand(a)
    mean = reduce_(recorder, "ReduceMean", operand, axes, keepdims=True, axes_input_from=18)
    deviation = recorder.node("Sub", operand, mean)
    squared = recorder.node("Mul", deviation, deviation)
    return reduce_(recorder, "ReduceMean", squared, axes, keepdims, axes_input_from=18)


@primitive(np.std)
def std(recorder: Recorder, a: Any, axis: Any = None, *, keepdims: bool = False) -> str:
    return recorder.node("Sqrt", var(recorder, a, axis, keepdims=keepdims))


def arg_reduction(function: Any, op: str) -> None:
    def row(recorder: Recorder, a: Any, axis: Any = None, *, keepdims: bool = False) -> str:
        axis = check_axis(label(function), axis, a.ndim)
        row_axes(label(function), a, axis)
        return recorder.node(op, recorder.operand(a), axis=axis, keepdims=int(keepdims))

    PRIMITIVES[function] = row


arg_reduction(np.argmax, "ArgMax")
arg_reduction(np.argmin, "ArgMin")


@primitive(np.cumsum)
def cumsum(recorder: Recorder, a: Any, axis: Any = None) -> str:
    axis = check_axis("cumsum", axis, a.ndim)
    row_axes("cumsum", a, axis)
    dtype = np.cumsum(np.ones(1, a.dtype)).dtype
    position = recorder.constant(np.array(axis, dtype=np.int64))
    return recorder.node("CumSum", recorder.operand(a, dtype), position)


# What an array offers as a method, and the function with the row. `astype` has no other home.


def astype(x: Any, dtype: Any) -> Any:
    return x.astype(dtype)


@primitive(astype, np.astype)
def cast(recorder: Recorder, x: Any, dtype: Any) -> str:
    return recorder.node("Cast", recorder.operand(x), to=np.dtype(dtype))


def _astype_method(x: Any, dtype: Any) -> Any:
    return x.recorder.call(astype, (x, dtype), {})


def _reshape_method(x: Any, *shape: Any) -> Any:
    return np.reshape(x, shape[0] if len(shape) == 1 else shape)


def _transpose_method(x: Any, *axes: Any) -> Any:
    return np.transpose(x, axes[0] if len(axes) == 1 else axes or None)


METHODS: dict[str, Callable[..., Any]] = {
    "argmax": np.argmax,
    "argmin": np.argmin,
    "astype": _astype_method,
    "clip": np.clip,
    "copy": np.copy,
    "cumsum": np.cumsum,
    "dot": np.dot,
    "flatten": np.ravel,
    "max": np.max,
    "mean": np.mean,
    "min": np.min,
    "prod": np.prod,
    "ravel": np.ravel,
    "reshape": _reshape_method,
    "round": np.round,
    "squeeze": np.squeeze,
    "std": np.std,
    "sum": np.sum,
    "swapaxes": np.swapaxes,
    "take": np.take,
    "transpose": _transpose_method,
    "var": np.var,
}
