"""Rows for composites: which of our own functions a target has one operator for.

Fusion by name, before tracing: a target with a row for `layer_norm` gets
LayerNormalization; one without gets the body of `layer_norm`, operator by operator.
"""

from typing import Any

from reference.gpt2 import LAYER_NORM_EPS
from reference.gpt2 import gelu as gelu_reference
from reference.gpt2 import layer_norm as layer_norm_reference
from reference.gpt2 import softmax as softmax_reference

from .dims import is_batch, same_length
from .errors import TraceError
from .graph import MICROSOFT_DOMAIN
from .recorder import Recorder, Table, is_tracer

TARGETS = {
    "primitives": "every composite by its body; standard operators only",
    "portable": "standard operators, composites where the opset has one",
    "onnxruntime": "also onnxruntime's contrib operators",
}


def composites_of(target: str, opset: int) -> Table:
    """The composites that a target has an operator for at an opset.

    Raises
    ------
    TraceError
        Where there is no such target.
    """
    if target not in TARGETS:
        raise TraceError(f"target {target!r}: expected one of {', '.join(TARGETS)}.")
    if target == "primitives":
        return {}
    table: dict[Any, Any] = {softmax_reference: softmax}
    if opset >= 17:
        table[layer_norm_reference] = layer_norm
    if target == "onnxruntime":
        table[gelu_reference] = fast_gelu
    elif opset >= 20:
        table[gelu_reference] = gelu
    return table


def softmax(recorder: Recorder, x: Any) -> str | None:
    return recorder.node("Softmax", recorder.operand(x), axis=-1) if _row_wise(x) else None


def layer_norm(recorder: Recorder, x: Any, g: Any, b: Any) -> str | None:
    if not (_row_wise(x) and _is_vector_for(g, x) and _is_vector_for(b, x)):
        return None
    operands = recorder.operand(x), recorder.operand(g), recorder.operand(b)
    return recorder.node("LayerNormalization", *operands, axis=-1, epsilon=LAYER_NORM_EPS)


def _is_vector_for(w: Any, x: Any) -> bool:
    fits = is_tracer(w) and w.ndim == 1 and same_length(w.shape[0], x.shape[-1])
    return fits and bool(w.dtype == x.dtype)


def _row_wise(x: Any) -> bool:
    """Whether the last axis is one of floats within a row; if not, the body says what is wrong."""
    return is_tracer(x) and x.ndim > 0 and not is_batch(x.shape[-1]) and x.dtype.kind == "f"


def gelu(recorder: Recorder, x: Any) -> str:
    return recorder.node("Gelu", recorder.operand(x), approximate="tanh")


def fast_gelu(recorder: Recorder, x: Any) -> str:
    return recorder.node("FastGelu", recorder.operand(x), domain=MICROSOFT_DOMAIN)
