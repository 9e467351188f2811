"""Graph -> ONNX's `ModelProto`, checked; weights inside it or in a file beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from reference import __version__
from reference.checkpoint.stored import Stored

from .errors import ExportError
from .graph import MICROSOFT_DOMAIN, Graph, Value

PROTOBUF_LIMIT = 2**31 - 1  # bytes in one message, and so in a model file with its weights
INLINE_BYTES = 1024  # smaller tensors stay inside: onnxruntime needs shape constants there
COPIED_BYTES = 1 << 24  # at a time
IR_VERSIONS = range(3, onnx.IR_VERSION + 1)  # of the file format; models before 3 had no opset
ALIGNMENT = 4096  # of a tensor in the weights file, so that it can be mapped


@dataclass(frozen=True)
class Weights:
    """Where each weight lies in files beside the model.

    Attributes
    ----------
    places : dict of str to (str, int)
        By name: a file, relative to the model's folder, and the byte at which the weight begins.
    """

    places: dict[str, tuple[str, int]]

    @classmethod
    def lay_out(cls, file: str, weights: Mapping[str, npt.NDArray[Any]]) -> "Weights":
        """A place in a new file for every weight that is too large to stay inside the model."""
        places, end = {}, 0
        for name, array in weights.items():
            if array.nbytes >= INLINE_BYTES:
                start = end + -end % ALIGNMENT
                places[name] = file, start
                end = start + array.nbytes
        return cls(places)

    @classmethod
    def where_stored(cls, stored: Mapping[str, Stored]) -> "Weights":
        """The places in a model's own files, which lie in the ONNX model's folder.

        Raises
        ------
        ExportError
            Naming a weight that a graph cannot use where it is.
        """
        for name, tensor in stored.items():
            if not _is_utf8(tensor.path.name):
                raise ExportError(
                    f"{str(tensor.path)!a}: is no name in UTF-8, which onnx needs. Rename it, or "
                    "export to another folder."
                )
            if not tensor.is_weight or tensor.path.is_symlink():
                link = ", behind a link" if tensor.path.is_symlink() else ""
                raise ExportError(
                    f"{tensor.path}: weight {name} is {tensor.dtype} at byte {tensor.offset:,}"
                    f"{link}; a graph beside it needs aligned F32 in a plain file. "
                    "Export to another folder."
                )
        large = {name: t for name, t in stored.items() if t.n_bytes >= INLINE_BYTES}
        return cls({name: (t.path.name, t.offset) for name, t in large.items()})

    def write(
        self,
        directory: Path,
        weights: Mapping[str, npt.NDArray[Any]],
        stored: Mapping[str, Stored],
    ) -> None:
        """Write the weights files, one tensor after the other, from `stored` where it is there.

        Reading those files instead of their mapping keeps the weights out of this process.
        """
        for file in dict.fromkeys(file for file, _ in self.places.values()):
            with (directory / file).open("wb") as stream:
                for name in (n for n, (in_file, _) in self.places.items() if in_file == file):
                    stream.write(b"\0" * (self.places[name][1] - stream.tell()))
                    if name in stored and stored[name].is_weight:
                        _copy(stored[name], weights[name].nbytes, stream)
                    else:
                        stream.write(np.ascontiguousarray(weights[name]).data)


def least_ir_version(opset: int) -> int:
    """The smallest version of the file format that models at an opset are written in."""
    opsets = [helper.make_opsetid("", opset)]
    return int(helper.find_min_ir_version_for(opsets, ignore_unknown=True))


def chosen_ir_version(opset: int, ir_version: int | None) -> int:
    """An IR version for an opset: the smallest, for reach, or another that was chosen.

    Raises
    ------
    ExportError
        Where there is no such version, or the opset needs a later one.
    """
    least = least_ir_version(opset)
    if ir_version is None:
        return least
    if type(ir_version) is not int or not least <= ir_version <= onnx.IR_VERSION:
        raise ExportError(
            f"IR version {ir_version}: expected {least}, the smallest for opset {opset}, to "
            f"{onnx.IR_VERSION}, the newest that onnx {onnx.__version__} knows. Pass one of those, "
            "or none."
        )
    return ir_version


def to_onnx(
    graph: Graph, weights: Weights | None = None, *, ir_version: int | None = None
) -> onnx.ModelProto:
    """Build and check the ONNX model of a graph.

    Parameters
    ----------
    graph : Graph
        From `trace`.
    weights : Weights, optional
        Where the weights lie; without it they are inside the model.
    ir_version : int, optional
        Version of the file format; by default the smallest that the graph's opset has.

    Returns
    -------
    onnx.ModelProto
        Fully checked, with strict shape inference.

    Raises
    ------
    ExportError
        Where the weights do not fit into one protobuf message, the opset has no such IR version,
        or the check fails.
    """
    inside = sum(a.nbytes for a in [*graph.weights.values(), *graph.constants.values()])
    if weights is None and inside >= PROTOBUF_LIMIT:
        raise ExportError(
            f"graph {graph.name}: {inside:,} bytes of weights; one model file holds at most "
            f"{PROTOBUF_LIMIT:,}. Call exporter.save, which puts them into a file beside it."
        )
    tensors = [_tensor(name, array, weights) for name, array in graph.weights.items()]
    tensors += [numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    domains = {"": graph.opset} | {
        node.domain: 1 for node in graph.nodes if node.domain == MICROSOFT_DOMAIN
    }
    opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    proto = helper.make_model(
        helper.make_graph(
            [
                helper.make_node(
                    node.op,
                    node.inputs,
                    node.outputs,
                    name=node.outputs[0],
                    domain=node.domain,
                    **_attributes(node.attributes),
                )
                for node in graph.nodes
            ],
            _identifier(graph.name),
            [_value_info(value) for value in graph.inputs],
            [_value_info(value) for value in graph.outputs],
            initializer=tensors,
            value_info=[_value_info(value) for value in graph.values.values()],
        ),
        opset_imports=opsets,
        ir_version=chosen_ir_version(graph.opset, ir_version),
        producer_name="picobatch",
        producer_version=__version__,
    )
    _check(proto, graph.name)
    return proto


def save(graph: Graph, path: Path | str, *, limit: int = PROTOBUF_LIMIT // 2) -> None:
    """Write a graph as a model file, with large weights in a file beside it.

    Parameters
    ----------
    graph : Graph
        From `trace`.
    path : Path
        The model file. Where the weights exceed `limit`, they go into `<path>_data`.
    limit : int
        Bytes of weights that stay inside the model file.

    Raises
    ------
    ExportError
        Where the check fails.
    """
    path = Path(path)
    if sum(array.nbytes for array in graph.weights.values()) <= limit:
        path.write_bytes(to_onnx(graph).SerializeToString(deterministic=True))
        return
    weights = Weights.lay_out(f"{path.name}_data", graph.weights)
    weights.write(path.parent, graph.weights, {})
    path.write_bytes(to_onnx(graph, weights).SerializeToString(deterministic=True))
    check_file(path)


def versions(path: Path) -> tuple[int, int]:
    """The opset and the IR version of a model file."""
    proto = onnx.load(path, load_external_data=False)
    opsets = [opset.version for opset in proto.opset_import if opset.domain in ("", "ai.onnx")]
    return max(opsets, default=0), proto.ir_version


def least_model(opset: int, ir_version: int) -> bytes:
    """A model that any program runs which takes these versions at all."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "least", [x], [y])
    opsets = [helper.make_opsetid("", opset)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    return bytes(proto.SerializeToString())


def check_file(path: Path) -> None:
    """ONNX's full check of a model file together with its weights file.

    Raises
    ------
    ExportError
        With what the check says.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as e:
        raise ExportError(f"{path}: {e}; expected a valid model. Export it again.") from None


def _is_utf8(name: str) -> bool:
    return not any(0xD800 <= ord(letter) <= 0xDFFF for letter in name)


def _copy(tensor: Stored, n_bytes: int, stream: BinaryIO) -> None:
    """The first `n_bytes` of a tensor, from its file."""
    with tensor.path.open("rb") as source:
        source.seek(tensor.offset)
        while n_bytes:
            chunk = source.read(min(n_bytes, COPIED_BYTES))
            if not chunk:
                raise ExportError(
                    f"{tensor.path}: ends within tensor {tensor.name}; expected the file that was "
                    "loaded. Copy it again from its source, and export again."
                )
            stream.write(chunk)
            n_bytes -= len(chunk)


def _check(proto: onnx.ModelProto, name: str) -> None:
    try:
        onnx.checker.check_model(_without_external(proto), full_check=True)
        onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as e:
        raise ExportError(
            f"graph {name}: {e}; expected a graph that is valid at its opset. "
            "An operator may lack these element types: cast with .astype first. If not, a row in "
            "exporter/primitives or exporter/targets is wrong."
        ) from e


def _without_external(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with inputs for weights that lie outside: the check would look for a file."""
    outside = [t for t in proto.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    if not outside:
        return proto
    twin = onnx.ModelProto()
    twin.CopyFrom(proto)
    for tensor in outside:
        twin.graph.initializer.remove(tensor)
        twin.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    return twin


def _tensor(name: str, array: npt.NDArray[Any], weights: Weights | None) -> TensorProto:
    if weights is None or name not in weights.places:
        return numpy_helper.from_array(np.ascontiguousarray(array), name)
    tensor = TensorProto(
        name=name,
        dims=array.shape,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        data_location=TensorProto.EXTERNAL,
    )
    file, offset = weights.places[name]
    where = {"location": file, "offset": offset, "length": array.nbytes}
    for key, value in where.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _value_info(value: Value) -> onnx.ValueInfoProto:
    shape = [length if isinstance(length, int) else length.name for length in value.shape]
    return helper.make_tensor_value_info(
        value.name, helper.np_dtype_to_tensor_dtype(value.dtype), shape
    )


def _attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: helper.np_dtype_to_tensor_dtype(value) if isinstance(value, np.dtype) else value
        for key, value in attributes.items()
    }


def _identifier(name: str) -> str:
    return name if name.isidentifier() else "graph"
