"""A model -> an exported directory: a new one, or graphs beside the model's own weights."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reference import HParams, Model, __version__
from reference.checkpoint.weights import Checkpoint
from reference.tokenizer_write import write_tokenizer
from reference.tree import leaves

from .clients import configurations
from .errors import ExportError
from .gpt2 import trace_forward, trace_next_logits, trace_with_past
from .graph import Graph
from .model import Weights, check_file, to_onnx
from .package import FORMAT, GRAPHS, MANIFEST, Package, fingerprint
from .readme import readme
from .tracer import DEFAULT_OPSET
from .vectors import FOLDER as VECTORS
from .vectors import vectors

WEIGHTS_FILE = "model.onnx_data"
TRACED_BY: dict[str, Callable[..., Graph]] = {
    "with_past": trace_with_past,
    "forward": trace_forward,
    "next_logits": trace_next_logits,
}
Verify = Callable[[Package], dict[str, Any]]


def export(
    model: Model,
    directory: str | Path,
    *,
    opset: int = DEFAULT_OPSET,
    n_ctx: int | None = None,
    target: str = "portable",
    verify: Verify | None = None,
) -> Package:
    """Write a model as a directory that other runtimes load.

    Parameters
    ----------
    model : Model
        From `load_model`.
    directory : Path
        Must not exist, or be empty; it appears only when all of it is written. Or the model's own
        directory: then the graphs are written into it and use the weights where they lie.
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
    ModelError
        Where the model's files were changed since it was loaded.
    """
    directory = Path(directory).absolute()
    _check_name(directory)
    model.check_files()
    try:
        if directory.is_dir() and directory.samefile(model.directory):
            write = _export_beside
            _check_beside(directory)
        else:
            write = _export_new
            _check_new(directory)
        return write(GraphSet.trace(_shortened(model, n_ctx), target, opset), directory, verify)
    except OSError as e:
        raise ExportError(
            f"{directory}: {e.strerror or e}; nothing was left there. Mend that and export again."
        ) from None


@dataclass(frozen=True)
class GraphSet:
    """The graphs of a model, and what they were traced with."""

    model: Model
    graphs: dict[str, Graph]
    target: str
    opset: int

    @classmethod
    def trace(cls, model: Model, target: str, opset: int) -> "GraphSet":
        """Trace every graph over the model's whole n_ctx."""
        traced = {
            name: trace_graph(model.params, model.hparams, target=target, opset=opset)
            for name, trace_graph in TRACED_BY.items()
        }
        return cls(model, traced, target, opset)

    def write(self, directory: Path, folder: str, weights: Weights, created: list[Path]) -> None:
        """Write the graphs' files, each new, and check them together with their weights."""
        for name, graph in self.graphs.items():
            path = directory / folder / GRAPHS[name]
            _write_new(path, to_onnx(graph, weights).SerializeToString(deterministic=True), created)
            check_file(path)

    def package(
        self,
        directory: Path,
        folder: str,
        files: Iterable[Path],
        verify: Verify | None,
        created: list[Path],
    ) -> Package:
        """The package that these graphs and files are; written when it has proved itself."""
        model = self.model
        manifest = {
            "format": FORMAT,
            "made_by": f"picobatch {__version__}",
            "model": {
                "name": model.name,
                "hparams": dict(model.hparams),
                "weights_sha256": model.weights_sha256,
                "tokenizer_sha256": model.tokenizer.sha256,
                "n_tokens": model.tokenizer.max_id + 1,
            },
            "opset": self.opset,
            "target": self.target,
            "graphs": {
                name: _describe(graph, folder + GRAPHS[name]) for name, graph in self.graphs.items()
            },
            "files": {
                path.relative_to(directory).as_posix(): fingerprint(path) for path in sorted(files)
            },
            "parity": None,
        }
        package = Package(directory, manifest)
        if verify is not None:
            manifest["parity"] = verify(package)
        _write_new(directory / MANIFEST, _json(manifest), created)
        return package


def _export_new(graphs: GraphSet, directory: Path, verify: Verify | None) -> Package:
    model = graphs.model
    # Beside the directory, under a name that is nobody's.
    scratch = Path(tempfile.mkdtemp(".part", f".{directory.name[:60]}.", directory.parent))
    part = scratch / "export"
    try:
        (part / "onnx").mkdir(parents=True)
        arrays = dict(leaves(model.params))
        weights = Weights.lay_out(WEIGHTS_FILE, arrays)
        weights.write(part / "onnx", arrays, model.checkpoint.stored)
        graphs.write(part, "onnx/", weights, [])
        write_tokenizer(model.tokenizer, part, model.hparams["n_ctx"])
        for file, content in configurations(model).items():
            (part / file).write_bytes(_json(content))
        (part / "README.md").write_text(readme(model), "utf-8", "replace")
        (part / VECTORS).mkdir()
        for file, data in vectors(model).items():
            (part / VECTORS / file).write_bytes(data)
        files = [path for path in part.rglob("*") if path.is_file()]
        package = graphs.package(part, "onnx/", files, verify, [])
        if directory.exists():
            directory.rmdir()
        part.rename(directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return replace(package, directory=directory)


def _export_beside(graphs: GraphSet, directory: Path, verify: Verify | None) -> Package:
    """Into the model's own directory: what is there is used, nothing of it is touched."""
    stored = graphs.model.checkpoint.stored
    weights = Weights.where_stored(stored)
    weights_files = {directory / tensor.path.name for tensor in stored.values()}
    created: list[Path] = []
    try:
        graphs.write(directory, "", weights, created)
        files = [*(directory / file for file in GRAPHS.values()), *weights_files]
        return graphs.package(directory, "", files, verify, created)
    except FileExistsError as e:
        _remove(created)
        raise ExportError(_taken(Path(e.filename))) from None
    except BaseException:
        _remove(created)
        raise


def _check_name(directory: Path) -> None:
    try:
        str(directory).encode()
    except UnicodeEncodeError:
        raise ExportError(
            f"{str(directory)!a}: is no name in UTF-8, which onnx and onnxruntime need. "
            "Choose another."
        ) from None


def _check_beside(directory: Path) -> None:
    for name in (*GRAPHS.values(), MANIFEST):
        if os.path.lexists(directory / name):
            raise ExportError(_taken(directory / name))


def _taken(path: Path) -> str:
    return (
        f"{path}: is there already; an export into the model's own folder replaces nothing. "
        "Remove it, or choose another folder."
    )


def _remove(created: list[Path]) -> None:
    for path in created:
        path.unlink(missing_ok=True)


def _check_new(directory: Path) -> None:
    if directory.is_symlink():
        raise ExportError(f"{directory}: is a link; expected a new or empty folder itself.")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ExportError(
            f"{directory}: is there and not empty; expected a new or empty folder. "
            "Choose another, or remove it."
        )
    if not directory.parent.is_dir():
        raise ExportError(
            f"{directory}: the folder {directory.parent} is not there. Make it first, or check "
            "the path."
        )


def _shortened(model: Model, n_ctx: int | None) -> Model:
    """The same model for rows of `n_ctx` tokens."""
    most = model.hparams["n_ctx"]
    if n_ctx is None:
        return model
    if type(n_ctx) is not int or not 1 <= n_ctx <= most:
        raise ExportError(
            f"n_ctx {n_ctx}: expected 1 to {most}, the model's own. Pass one of those."
        )
    if n_ctx == most:
        return model
    hparams: HParams = {**model.hparams, "n_ctx": n_ctx}
    params = {**model.params, "wpe": model.params["wpe"][:n_ctx]}
    checkpoint = Checkpoint.in_memory(hparams, params)
    if stored := dict(model.checkpoint.stored):
        stored["wpe"] = replace(stored["wpe"], shape=params["wpe"].shape, crc32c=None)
        checkpoint = replace(checkpoint, stored=stored, files=model.checkpoint.files)
    return replace(model, hparams=hparams, checkpoint=checkpoint)


def _describe(graph: Graph, file: str) -> dict[str, Any]:
    def shapes(values: Any) -> dict[str, str]:
        return {v.name: f"{v.dtype} [{', '.join(map(str, v.shape))}]" for v in values}

    return {
        "file": file,
        "inputs": shapes(graph.inputs),
        "outputs": shapes(graph.outputs),
        "nodes": len(graph.nodes),
    }


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _write_new(path: Path, content: bytes, created: list[Path]) -> None:
    """Write a file that must not be there, and note that it is ours."""
    with path.open("xb") as stream:
        created.append(path)
        stream.write(content)
