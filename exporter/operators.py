"""What the graphs of an export are made of. A graph with anything else is not one of ours.

A folder that somebody hands over is run in onnxruntime: loops, functions and operators that make
texts or images have no place there, nor have names that a log would print to a terminal.
"""

from collections.abc import Iterator
from typing import Any

import onnx
from onnx import AttributeProto

from .graph import MICROSOFT_DOMAIN

# What exports of every opset, target and number format hold (tests/exporter/test_operators.py).
# fmt: off
STANDARD = {
    "Abs", "Add", "Attention", "Cast", "Concat", "CumSum", "Div", "Equal", "Exp", "Expand",
    "Gather", "GatherND", "Gelu", "Gemm", "Greater", "LayerNormalization", "MatMul",
    "MatMulInteger", "Max", "Mul", "Or", "QuantizeLinear", "ReduceMax", "ReduceMean", "ReduceSum",
    "Reshape", "Round", "Shape", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tanh",
    "Transpose", "Unsqueeze",
}
# fmt: on
OPERATORS = {
    "": STANDARD,
    "ai.onnx": STANDARD,
    MICROSOFT_DOMAIN: {"FastGelu", "MatMulIntegerToFloat"},
}
ATTRIBUTES = {
    AttributeProto.FLOAT,
    AttributeProto.INT,
    AttributeProto.STRING,
    AttributeProto.FLOATS,
    AttributeProto.INTS,
}


def stranger(model: onnx.ModelProto) -> str | None:
    """What a model holds that an export does not; None where that is nothing."""
    if model.functions or model.training_info:
        return "functions of its own"
    if model.graph.sparse_initializer:
        return "sparse weights"
    for node in model.graph.node:
        if node.op_type not in OPERATORS.get(node.domain, ()):
            return f"the operator {node.domain}:{node.op_type}"
        if any(attribute.type not in ATTRIBUTES for attribute in node.attribute):
            return f"a graph or a tensor inside of {node.op_type}"
    odd = next((name for name in _names(model.graph) if not _is_plain(name)), None)
    return None if odd is None else f"a name like {odd!r:.40}"


def _names(graph: onnx.GraphProto) -> Iterator[Any]:
    yield graph.name
    for node in graph.node:
        yield from (node.name, *node.input, *node.output, *(a.name for a in node.attribute))
    for values in (graph.input, graph.output, graph.value_info, graph.initializer):
        yield from (value.name for value in values)
    for values in (graph.input, graph.output, graph.value_info):
        for value in values:
            yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)


def _is_plain(name: str) -> bool:
    return name.isascii() and name.isprintable()
