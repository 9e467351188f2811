"""Runtimes that run any graph with inputs of ours."""

import importlib
import shutil
from typing import Any

import onnx
from onnx.reference import ReferenceEvaluator

from exporter import ExportError

from ..engine import RUNTIME_ERRORS, open_session, runtime_version
from ..reach import beyond_runtime
from .base import Feeds, GraphFile, Runtime, RuntimeMissingError, Session, python_package
from .node import NodeSession, node_package


class OnnxRuntime:
    def __init__(self, graph: GraphFile, threads: int) -> None:
        try:
            self._session = open_session(graph.path, threads, lean=graph.large)
        except RUNTIME_ERRORS as e:
            if (said := beyond_runtime(graph.path)) is None:
                raise
            raise ExportError(said) from e

    def run(self, outputs: list[str], feeds: Feeds) -> list[Any]:
        return list(self._session.run(outputs, feeds))


class Evaluator:
    """ONNX's own, in NumPy: slow, and nobody's kernels."""

    def __init__(self, graph: GraphFile, _: int) -> None:
        self._evaluator = ReferenceEvaluator(str(graph.path))

    def run(self, outputs: list[str], feeds: Feeds) -> list[Any]:
        return list(self._evaluator.run(outputs, feeds))


class OpenVino:
    def __init__(self, graph: GraphFile, threads: int) -> None:
        openvino = importlib.import_module("openvino")
        hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        self._model = openvino.Core().compile_model(graph.path, "CPU", hints)

    def run(self, outputs: list[str], feeds: Feeds) -> list[Any]:
        found = self._model(feeds)
        return [found[name] for name in outputs]


class Tract:
    def __init__(self, graph: GraphFile, _: int) -> None:
        tract = importlib.import_module("tract")
        self._graph = graph
        self._model = tract.onnx().load(str(graph.path)).into_model().into_runnable()

    def run(self, outputs: list[str], feeds: Feeds) -> list[Any]:
        found = self._model.run([feeds[name] for name in self._graph.inputs])
        arrays = {n: x.to_numpy() for n, x in zip(self._graph.outputs, found, strict=True)}
        return [arrays[name] for name in outputs]


class TinyGrad:
    """Compiles for each new shape: slow, and another way to everything."""

    def __init__(self, graph: GraphFile, _: int) -> None:
        self._tensor = importlib.import_module("tinygrad").Tensor
        self._runner = importlib.import_module("tinygrad.nn.onnx").OnnxRunner
        self._path = graph.path

    def run(self, outputs: list[str], feeds: Feeds) -> list[Any]:
        runner = self._runner(self._path)  # anew: it takes no other lengths than its first ones
        tensors = {
            name: self._tensor(array)
            if array.size
            else self._tensor.empty(*array.shape, dtype=runner.graph_inputs[name].dtype)
            for name, array in feeds.items()
        }
        found = runner(tensors)
        return [found[name].numpy() for name in outputs]


def tinygrad_version() -> str:
    version = python_package("tinygrad", install="tinygrad")()
    if shutil.which("clang") is None:
        raise RuntimeMissingError("not usable: clang is not there, with which it compiles")
    return version


def onnxruntime_web(graph: GraphFile, _: int) -> Session:
    return NodeSession("onnxruntime_web.mjs", "onnxruntime-web", graph)


SESSIONS = (
    Runtime("onnxruntime", runtime_version, OnnxRuntime),
    Runtime("reference-evaluator", lambda: str(onnx.__version__), Evaluator),
    Runtime("openvino", python_package("openvino", install="openvino"), OpenVino),
    Runtime("tract", python_package("tract", install="tract"), Tract),
    Runtime("tinygrad", tinygrad_version, TinyGrad, slow=True),
    Runtime("onnxruntime-web", node_package("onnxruntime-web"), onnxruntime_web),
)
