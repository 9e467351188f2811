"""Any NumPy function of supported operations -> an ONNX graph; a model -> a package."""

from .cached import TracedModel, traced_onnx
from .errors import ExportError, TraceError
from .gpt2 import (
    trace_forward,
    trace_next_logits,
    trace_prefill,
    trace_score,
    trace_step,
    trace_with_past,
)
from .graph import Graph
from .model import Weights, check_file, save, to_onnx
from .package import Package, open_package
from .targets import writes_in_place
from .tracer import Input, trace
from .write import export

__all__ = [
    "ExportError",
    "Graph",
    "Input",
    "Package",
    "TraceError",
    "TracedModel",
    "Weights",
    "check_file",
    "export",
    "open_package",
    "save",
    "to_onnx",
    "trace",
    "trace_forward",
    "trace_next_logits",
    "trace_prefill",
    "trace_score",
    "trace_step",
    "trace_with_past",
    "traced_onnx",
    "writes_in_place",
]
