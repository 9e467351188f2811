"""Any NumPy function of supported operations -> an ONNX graph; a model -> a package."""

from .errors import ExportError, TraceError
from .graph import Graph
from .tracer import Input, trace

__all__ = ["ExportError", "Graph", "Input", "TraceError", "trace"]
