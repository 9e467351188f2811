"""What a trace records: nodes between typed values, weights and constants by name."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .dims import Shape

ONNX_DOMAIN = ""
MICROSOFT_DOMAIN = "com.microsoft"


@dataclass(frozen=True)
class Value:
    """A tensor in the graph: its name, element type and shape, fixed when it is recorded."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} [{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Node:
    """One operator, its inputs and outputs by name."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    domain: str = ONNX_DOMAIN


@dataclass
class Graph:
    """A traced function.

    Attributes
    ----------
    name : str
        The function's name.
    opset : int
        Version of ONNX's operator set that its nodes are written in.
    inputs, outputs : list of Value
        In the order of the function's inputs and results.
    nodes : list of Node
        In an order in which they can be run.
    weights : dict of str to array
        Arrays that were passed to the function, named by their place in its arguments.
    constants : dict of str to array
        What NumPy computed while tracing because no input had a part in it.
    values : dict of str to Value
        Every value that stood for an array in the traced function.
    """

    name: str
    opset: int
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    constants: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)

    def prune(self) -> None:
        """Drop every node, weight and constant that no output depends on."""
        needed = {value.name for value in self.outputs}
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                kept.append(node)
                needed.update(node.inputs)
        self.nodes = kept[::-1]
        made = {name for node in kept for name in node.outputs}
        self.weights = {name: array for name, array in self.weights.items() if name in needed}
        self.constants = {name: array for name, array in self.constants.items() if name in needed}
        self.values = {name: value for name, value in self.values.items() if name in made}

    def __str__(self) -> str:
        lines = [f"{self.name}({', '.join(map(str, self.inputs))})"]
        for node in self.nodes:
            attributes = "".join(f" {key}={value}" for key, value in node.attributes.items())
            lines.append(
                f"  {', '.join(node.outputs)} = {node.op}({', '.join(node.inputs)}){attributes}"
            )
        return "\n".join([*lines, f"  return {', '.join(map(str, self.outputs))}"])
