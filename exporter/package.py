"""The exported directory: graphs, their one weights file, tokenizer, and what proves them."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, numpy_helper

from reference import HParams, Model, __version__, param_shapes
from reference.tree import leaves, tree_map

from .errors import ExportError
from .gpt2 import trace_forward, trace_next_logits
from .graph import Graph
from .model import Weights, check_file, to_onnx
from .tracer import DEFAULT_OPSET

MANIFEST = "manifest.json"
WEIGHTS_FILE = "model.onnx_data"
GRAPHS: dict[str, tuple[str, Callable[..., Graph]]] = {
    "forward": ("onnx/model.onnx", trace_forward),
    "next_logits": ("onnx/next_logits.onnx", trace_next_logits),
}


@dataclass(frozen=True)
class Package:
    """An exported directory that holds together.

    Attributes
    ----------
    directory : Path
        Where it lies.
    manifest : dict
        What it says of itself: model, hashes, graphs, files, parity.
    """

    directory: Path
    manifest: dict[str, Any]

    @property
    def hparams(self) -> HParams:
        sizes: HParams = self.manifest["model"]["hparams"]
        return sizes

    def graph_path(self, name: str) -> Path:
        """The model file of a graph."""
        return self.directory / str(self.manifest["graphs"][name]["file"])

    def params(self) -> dict[str, Any]:
        """The parameter tree, read back from the weights that the graphs use (mapped)."""
        path = self.graph_path("forward")
        found = _initializers(path)

        def leaf(name: str, shape: tuple[int, ...]) -> Any:
            if name not in found or found[name].shape != shape:
                raise ExportError(
                    f"{path}: weight {name} with shape {list(shape)} is not in it; expected the "
                    "graph that was exported. Export it again."
                )
            return found[name]

        tree: dict[str, Any] = tree_map(leaf, param_shapes(self.hparams))
        return tree


def export(
    model: Model,
    directory: str | Path,
    *,
    opset: int = DEFAULT_OPSET,
    n_ctx: int | None = None,
    target: str = "portable",
    verify: Callable[[Package], dict[str, Any]] | None = None,
) -> Package:
    """Write a model as a directory that other runtimes load.

    Parameters
    ----------
    model : Model
        From `load_model`.
    directory : Path
        Must not exist, or be empty. It appears only when all of it is written.
    opset : int
        Version of ONNX's operator set.
    n_ctx : int, optional
        Length of the graphs' rows; by default, and at most, the model's.
    target : str
        As in `trace`.
    verify : callable, optional
        Compares the written package with the reference; what it returns goes into the
        manifest as `parity`. If it raises, nothing is left behind.

    Returns
    -------
    Package

    Raises
    ------
    ExportError
        Where the directory is in use, n_ctx is out of range, or a graph is not valid.
    """
    directory = Path(directory)
    _check_directory(directory)
    hparams, params = _shortened(model, n_ctx)
    part = directory.with_name(f"{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        (part / "onnx").mkdir(parents=True)
        graphs = {
            name: trace_graph(params, hparams, n_ctx=hparams["n_ctx"], target=target, opset=opset)
            for name, (_, trace_graph) in GRAPHS.items()
        }
        arrays = dict(leaves(params))
        weights = Weights.lay_out(WEIGHTS_FILE, arrays)
        weights.write(part / "onnx", arrays)
        for name, (file, _) in GRAPHS.items():
            proto = to_onnx(graphs[name], weights)
            (part / file).write_bytes(proto.SerializeToString(deterministic=True))
            check_file(part / file)
        for file in ("vocab.json", "merges.txt"):
            shutil.copyfile(model.directory / file, part / file)
        _write_json(part / "config.json", _config(hparams, model.tokenizer.eos_id))
        exported = Model(model.name, part, hparams, params, model.tokenizer)
        manifest = {
            "format": 1,
            "made_by": f"picobatch {__version__}",
            "model": {
                "name": model.name,
                "hparams": dict(hparams),
                "weights_sha256": exported.weights_sha256,
                "tokenizer_sha256": model.tokenizer.sha256,
            },
            "opset": opset,
            "target": target,
            "graphs": {name: _describe(graphs[name], file) for name, (file, _) in GRAPHS.items()},
            "files": {str(path): _fingerprint(part / path) for path in _files(part)},
            "parity": None,
        }
        if verify is not None:
            manifest["parity"] = verify(Package(part, manifest))
        _write_json(part / MANIFEST, manifest)
        if directory.exists():
            directory.rmdir()
        part.rename(directory)
    except OSError as e:
        raise ExportError(
            f"{directory}: {e.strerror or e}; nothing was left there. Mend that and export again."
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Package(directory, manifest)


def open_package(directory: str | Path) -> Package:
    """An exported directory, refused where any of its files is not what was written.

    Raises
    ------
    ExportError
        Naming the file.
    """
    directory = Path(directory)
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
        files, graphs, hparams = manifest["files"], manifest["graphs"], manifest["model"]["hparams"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ExportError(
            f"{directory}: no {MANIFEST} of an export ({e}); expected a folder that "
            "`runner export` wrote. Export the model again, or check the path."
        ) from None
    named = {str(graphs[name]["file"]) for name in GRAPHS if name in graphs}
    if len(named) < len(GRAPHS) or not named <= files.keys() or not hparams:
        raise ExportError(
            f"{directory / MANIFEST}: names not all of its graphs and files; expected what "
            "`runner export` wrote. Export it again."
        )
    for name, wanted in files.items():
        path = directory / _inside(name, directory / MANIFEST)
        if not path.is_file():
            raise ExportError(f"{path}: missing; {MANIFEST} names it. Export it again.")
        if _fingerprint(path) != wanted:
            raise ExportError(
                f"{path}: is not the file that was exported (its size or SHA-256 differs from "
                f"{MANIFEST}). Export it again."
            )
    return Package(directory, manifest)


def _check_directory(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ExportError(
            f"{directory}: is there and not empty; expected a new or empty folder. "
            "Choose another, or remove it."
        )
    if not directory.absolute().parent.is_dir():
        raise ExportError(
            f"{directory}: the folder {directory.parent} is not there. Make it first, or check "
            "the path."
        )


def _shortened(model: Model, n_ctx: int | None) -> tuple[HParams, dict[str, Any]]:
    """Sizes and weights for rows of `n_ctx` tokens."""
    most = model.hparams["n_ctx"]
    if n_ctx is None or n_ctx == most:
        return model.hparams, model.params
    if not 1 <= n_ctx < most:
        raise ExportError(
            f"n_ctx {n_ctx}: expected 1 to {most}, the model's own. Pass one of those."
        )
    hparams: HParams = {**model.hparams, "n_ctx": n_ctx}
    return hparams, {**model.params, "wpe": model.params["wpe"][:n_ctx]}


def _config(hparams: HParams, eos_id: int | None) -> dict[str, Any]:
    """Hugging Face's `config.json`, which other runtimes and our own loader read."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": hparams["n_vocab"],
        "n_positions": hparams["n_ctx"],
        "n_ctx": hparams["n_ctx"],
        "n_embd": hparams["n_embd"],
        "n_head": hparams["n_head"],
        "n_layer": hparams["n_layer"],
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-05,
        "bos_token_id": eos_id,
        "eos_token_id": eos_id,
    }


def _describe(graph: Graph, file: str) -> dict[str, Any]:
    def shapes(values: Any) -> dict[str, str]:
        return {v.name: f"{v.dtype} [{', '.join(map(str, v.shape))}]" for v in values}

    return {
        "file": file,
        "inputs": shapes(graph.inputs),
        "outputs": shapes(graph.outputs),
        "nodes": len(graph.nodes),
    }


def _files(directory: Path) -> list[PurePosixPath]:
    return sorted(
        PurePosixPath(path.relative_to(directory).as_posix())
        for path in directory.rglob("*")
        if path.is_file()
    )


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _inside(name: str, where: Path) -> str:
    """A relative name that cannot leave its folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise ExportError(
            f"{where}: names the file {name!r}, which lies outside its folder; expected a plain "
            "relative name. Do not use this export."
        )
    return name


def _initializers(path: Path) -> dict[str, Any]:
    """A model's initializers by name, external ones mapped from their file."""
    proto = onnx.load(path, load_external_data=False)
    arrays: dict[str, Any] = {}
    for tensor in proto.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            arrays[tensor.name] = numpy_helper.to_array(tensor)
            continue
        where = external_data_helper.ExternalDataInfo(tensor)
        file = path.parent / _inside(where.location, path)
        offset, shape = int(where.offset or 0), tuple(tensor.dims)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        end = offset + int(np.prod(shape)) * dtype.itemsize
        if offset < 0 or not file.is_file() or end > file.stat().st_size:
            raise ExportError(
                f"{path}: weight {tensor.name} lies beyond the end of {file.name}; expected the "
                "file that was exported. Export it again."
            )
        arrays[tensor.name] = np.memmap(file, dtype, "r", offset, shape)
    return arrays
