"""Rows of functions that compute element by element; NumPy says which types they run in."""

from typing import Any

import numpy as np

from ..errors import TraceError
from ..recorder import SCALARS, Recorder, as_array, is_tracer, label
from .rows import Rows

ROWS = Rows()


def elementwise(ufunc: Any, op: str, *, negate: bool = False) -> None:
    """The row of a ufunc that is one operator, or the negation of one."""

    def row(recorder: Recorder, *inputs: Any) -> str:
        name = recorder.node(op, *loop_operands(recorder, ufunc, inputs))
        return recorder.node("Not", name) if negate else name

    ROWS[ufunc] = row


def loop_operands(recorder: Recorder, ufunc: Any, inputs: Any) -> list[str]:
    """The operands' names, cast to the types that NumPy's loop takes them in."""
    kinds = [type(x) if type(x) in (int, float) else dtyped(x).dtype for x in inputs]
    try:
        dtypes = ufunc.resolve_dtypes((*kinds, *[None] * ufunc.nout))
    except TypeError as e:
        raise TraceError(f"{label(ufunc)}: {e}. Cast the operands with .astype first.") from None
    check_rows_apart(ufunc, inputs)
    return [recorder.operand(x, dtype) for x, dtype in zip(inputs, dtypes, strict=False)]


def loop_operands_unaligned(recorder: Recorder, ufunc: Any, inputs: Any) -> list[str]:
    """As `loop_operands`, for a ufunc whose last axes are not matched one to one."""
    dtypes = ufunc.resolve_dtypes((*(dtyped(x).dtype for x in inputs), None))
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


def dtyped(x: Any) -> Any:
    """An array of the operand's type, without its values where it is a tracer."""
    return np.empty((), x.dtype) if is_tracer(x) else as_array(x)


for _ufunc, _op in {
    np.add: "Add",
    np.subtract: "Sub",
    np.multiply: "Mul",
    np.divide: "Div",
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

    ROWS[ufunc] = row


logical(np.logical_and, "And")
logical(np.logical_or, "Or")
logical(np.logical_xor, "Xor")
logical(np.logical_not, "Not")


def bitwise(ufunc: Any, boolean_op: str, op: str) -> None:
    """The row of `&`, `|`, `^` and `~`: one operator for booleans, another for integers."""

    def row(recorder: Recorder, *inputs: Any) -> str:
        operands = loop_operands(recorder, ufunc, inputs)
        if all(dtyped(x).dtype == np.bool_ for x in inputs):
            return recorder.node(boolean_op, *operands)
        if recorder.opset < 18:
            raise TraceError(
                f"{label(ufunc)} of integers needs opset 18; the trace is at {recorder.opset}. "
                "Pass opset=18 or later."
            )
        return recorder.node(op, *operands)

    ROWS[ufunc] = row


bitwise(np.bitwise_and, "And", "BitwiseAnd")
bitwise(np.bitwise_or, "Or", "BitwiseOr")
bitwise(np.bitwise_xor, "Xor", "BitwiseXor")
bitwise(np.invert, "Not", "BitwiseNot")


@ROWS.of(np.power)
def power(recorder: Recorder, x: Any, y: Any) -> Any:
    if type(y) in SCALARS and y == 2:
        return np.square(x)
    if type(y) in SCALARS and y == 0.5:
        return np.sqrt(x)
    names = loop_operands(recorder, np.power, (x, y))
    if np.result_type(_weak(x), _weak(y)).kind != "f":
        raise TraceError(
            "power of integers has no exact ONNX row; expected floats. Multiply, or cast with "
            ".astype(np.float32) first."
        )
    return recorder.node("Pow", *names)


@ROWS.of(np.square)
def square(recorder: Recorder, x: Any) -> str:
    (name,) = loop_operands(recorder, np.square, (x,))
    return recorder.node("Mul", name, name)


@ROWS.of(np.isfinite)
def isfinite(recorder: Recorder, x: Any) -> str:
    name = recorder.operand(x)
    either = recorder.node("Or", recorder.node("IsNaN", name), recorder.node("IsInf", name))
    return recorder.node("Not", either)


@ROWS.of(np.remainder)
def remainder(recorder: Recorder, x: Any, y: Any) -> str:
    operands = loop_operands(recorder, np.remainder, (x, y))
    if np.result_type(dtyped(x), dtyped(y)).kind == "f":
        raise TraceError(
            "remainder of floats has no ONNX row (Mod keeps the dividend's sign); expected "
            "integers. Write x - y * np.floor(x / y), or np.fmod."
        )
    return recorder.node("Mod", *operands, fmod=0)


@ROWS.of(np.fmod)
def fmod(recorder: Recorder, x: Any, y: Any) -> str:
    return recorder.node("Mod", *loop_operands(recorder, np.fmod, (x, y)), fmod=1)


@ROWS.of(np.clip)
def clip(recorder: Recorder, a: Any, a_min: Any = None, a_max: Any = None) -> str:
    dtype = np.result_type(*(_weak(x) for x in (a, a_min, a_max) if x is not None))
    name = recorder.operand(a, dtype)
    if a_min is not None:
        name = recorder.node("Max", name, recorder.operand(a_min, dtype))
    if a_max is not None:
        name = recorder.node("Min", name, recorder.operand(a_max, dtype))
    return name


@ROWS.of(np.round)
def round_(recorder: Recorder, a: Any, decimals: int = 0) -> str:
    if decimals != 0:
        raise TraceError(
            f"round to {decimals} decimals has no ONNX row; expected decimals=0. "
            "Scale before and after it."
        )
    return recorder.node("Round", recorder.operand(a))


@ROWS.of(np.where)
def where(recorder: Recorder, condition: Any, x: Any, y: Any) -> str:
    dtype = np.result_type(_weak(x), _weak(y))
    check_rows_apart(np.where, (condition, x, y))
    operands = recorder.operand(x, dtype), recorder.operand(y, dtype)
    return recorder.node("Where", recorder.operand(condition, np.bool_), *operands)


def _weak(x: Any) -> Any:
    """What np.result_type needs to know of an operand: Python scalars stay weak."""
    return x if type(x) in SCALARS else dtyped(x)


# `astype` is a method without a function before NumPy 2.1: this one stands for it.


def astype(x: Any, dtype: Any) -> Any:
    return x.astype(dtype)


@ROWS.of(astype, np.astype)
def cast(recorder: Recorder, x: Any, dtype: Any) -> str:
    return recorder.node("Cast", recorder.operand(x), to=np.dtype(dtype))
