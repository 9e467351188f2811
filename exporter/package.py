"""The exported directory: graphs, their one weights file, tokenizer, and what proves them."""

import functools
import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, numpy_helper

from reference import HParams, Model, __version__, param_shapes
from reference.checkpoint.huggingface import read_config
from reference.models import weights_sha256
from reference.tree import leaves, tree_map

from .errors import ExportError
from .gpt2 import trace_forward, trace_next_logits
from .graph import Graph
from .model import Weights, check_file, to_onnx
from .tracer import DEFAULT_OPSET

MANIFEST = "manifest.json"
FORMAT = 1
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

    @functools.cached_property
    def hparams(self) -> HParams:
        """The sizes that `config.json` states, checked as those of any model."""
        return read_config(self.directory / "config.json")

    def graph_path(self, name: str) -> Path:
        """The model file of a graph."""
        return self.directory / GRAPHS[name][0]

    def params(self) -> dict[str, Any]:
        """The parameter tree, read back from the weights that the graphs use (mapped).

        Raises
        ------
        ExportError
            Where they are not the weights that the manifest names.
        """
        path = self.graph_path("forward")
        found = _initializers(path)

        def leaf(name: str, shape: tuple[int, ...]) -> Any:
            array = found.get(name)
            if array is None or array.shape != shape or array.dtype != np.float32:
                raise ExportError(
                    f"{path}: weight {name}, float32 {list(shape)}, is not in it; expected the "
                    "graph that was exported. Export it again."
                )
            return array

        if self.hparams["n_layer"] > len(found):  # before a tree of that size is made
            raise ExportError(f"{path}: too few weights for config.json. Export it again.")
        tree: dict[str, Any] = tree_map(leaf, param_shapes(self.hparams))
        if weights_sha256(self.hparams, tree) != self.manifest["model"].get("weights_sha256"):
            raise ExportError(
                f"{path}: its weights are not those that {MANIFEST} names (another SHA-256). "
                "Export it again."
            )
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
    directory = Path(directory).absolute()
    _check_directory(directory)
    hparams, params = _shortened(model, n_ctx)
    # Beside the directory, under a name that is nobody's.
    scratch = Path(tempfile.mkdtemp(".part", f".{directory.name[:60]}.", directory.parent))
    part = scratch / "export"
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
            "format": FORMAT,
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
        shutil.rmtree(scratch, ignore_errors=True)
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
        files = dict(manifest["files"])
        named = {name: graph["file"] for name, graph in manifest["graphs"].items()}
        fingerprints = {name: (file["bytes"], file["sha256"]) for name, file in files.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as e:
        raise ExportError(
            f"{directory}: no {MANIFEST} of an export ({e}); expected a folder that "
            "`runner export` wrote. Export the model again, or check the path."
        ) from None
    expected = {name: file for name, (file, _) in GRAPHS.items()}
    needed = {*expected.values(), "config.json", f"onnx/{WEIGHTS_FILE}"}
    if manifest.get("format") != FORMAT or named != expected or not needed <= files.keys():
        raise ExportError(
            f"{directory / MANIFEST}: names not the graphs and files of an export in format "
            f"{FORMAT}; expected what `runner export` wrote. Export it again."
        )
    for name, (n_bytes, sha256) in fingerprints.items():
        path = directory / _inside(name, directory / MANIFEST)
        if not path.is_file() or not path.resolve().is_relative_to(directory.resolve()):
            raise ExportError(
                f"{path}: missing, or a link that leads outside; {MANIFEST} names it. "
                "Export it again."
            )
        if _fingerprint(path) != {"bytes": n_bytes, "sha256": sha256}:
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
    if type(n_ctx) is not int or not 1 <= n_ctx < most:
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
    try:
        proto = onnx.load(path, load_external_data=False)
        return {tensor.name: _array(tensor, path) for tensor in proto.graph.initializer}
    except ExportError:
        raise
    except Exception as e:  # a damaged protobuf fails in many ways
        raise ExportError(
            f"{path}: not readable ({type(e).__name__}: {e}); expected the graph that was "
            "exported. Export it again."
        ) from e


def _array(tensor: TensorProto, path: Path) -> Any:
    if tensor.data_location != TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    where = external_data_helper.ExternalDataInfo(tensor)
    file = path.parent / _inside(where.location, path)
    offset, shape = int(where.offset or 0), tuple(tensor.dims)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    n_bytes = math.prod(shape) * dtype.itemsize
    end = file.stat().st_size if file.name == WEIGHTS_FILE and file.is_file() else 0
    if not (0 <= offset <= offset + n_bytes <= end and min(shape, default=1) > 0):
        raise ExportError(
            f"{path}: weight {tensor.name} lies outside of {WEIGHTS_FILE}; expected the file that "
            "was exported. Export it again."
        )
    return np.memmap(file, dtype, "r", offset, shape)
