"""Graphs that were traced before: a second start neither traces nor checks them again."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

import reference
from reference import Model, cache
from reference.gpt2 import EMBEDDINGS
from reference.tree import leaves

from .errors import ExportError
from .graph import Graph
from .model import Weights, to_onnx
from .package import outside

KIND = "graphs"


@dataclass(frozen=True)
class TracedModel:
    """An ONNX model with its weights outside.

    Attributes
    ----------
    proto : bytes
        Serialized and checked.
    folder : Path or None
        Where the files lie that it names, which are the model's.
    weights : dict of str to array
        What takes the place of weights in files: without a folder all of them, otherwise the
        embeddings, which several sessions and the reference then look up in the same memory.
    """

    proto: bytes
    folder: Path | None
    weights: dict[str, npt.NDArray[Any]] = field(default_factory=dict)


def traced_onnx(trace_graph: Callable[..., Graph], model: Model, **options: Any) -> TracedModel:
    """The ONNX model of a graph of GPT-2, found again or traced.

    Parameters
    ----------
    trace_graph : callable
        `trace_forward` or `trace_next_logits`.
    model : Model
        From `load_model`. Where its files hold the weights as they are computed with, they are the
        external data.
    **options
        Of `trace_graph`.

    Raises
    ------
    ModelError
        Where the model's files were changed since it was loaded.

    Notes
    -----
    Found again under what it follows from: the weights' hash and places, the options, the versions
    of NumPy and onnx, and the source of `reference` and `exporter`.
    """
    model.check_files()
    folder, weights = _places(model)
    key = cache.key(
        trace_graph.__name__,
        sorted(options.items()),
        model.weights_sha256,
        sorted(weights.places.items()),
        (np.__version__, onnx.__version__, SOURCE_SHA256),
    )
    proto = cache.load(KIND, key)
    if proto is None or not _reads_only(proto, weights):
        graph = trace_graph(model.params, model.hparams, **options)
        proto = to_onnx(graph, weights).SerializeToString(deterministic=True)
        cache.store(KIND, key, proto)
    arrays = dict(leaves(model.params))
    if folder is not None:
        return TracedModel(proto, folder, {name: arrays[name] for name in EMBEDDINGS})
    used = {tensor.name for tensor in onnx.ModelProto.FromString(proto).graph.initializer}
    return TracedModel(proto, None, {n: arrays[n] for n in weights.places if n in used})


def _reads_only(proto: bytes, weights: Weights) -> bool:
    """Whether what was kept is a model that reads no other places than these."""
    try:
        tensors = [*outside(onnx.ModelProto.FromString(proto))]
    except Exception:  # noqa: BLE001 - a damaged protobuf fails in many ways
        return False
    for tensor in tensors:
        named = [(entry.key, entry.value) for entry in tensor.external_data]
        file, offset = weights.places.get(tensor.name, ("", -1))
        if named[:2] != [("location", file), ("offset", str(offset))] or len(named) != 3:
            return False
    return True


def _places(model: Model) -> tuple[Path | None, Weights]:
    """One folder and the places in its files, or no folder and a file that is never written."""
    # Hubs keep files behind links: what counts is where these lead.
    plain = {leaf: replace(t, path=t.path.resolve()) for leaf, t in model.checkpoint.stored.items()}
    folders = {tensor.path.parent for tensor in plain.values()}
    if len(folders) == 1:
        with contextlib.suppress(ExportError, UnicodeEncodeError):
            folder = folders.pop()
            str(folder).encode()  # onnxruntime takes names in UTF-8
            return folder, Weights.where_stored(plain)
    return None, Weights.lay_out("weights", dict(leaves(model.params)))


# Now, while it is the code that was imported.
SOURCE_SHA256 = cache.source_sha256(Path(reference.__file__).parent, Path(__file__).parent)
