"""A model -> an exported directory: a new one, or graphs beside the model's own weights."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reference import HParams, Model, __version__
from reference.checkpoint.weights import Checkpoint, weights_sha256
from reference.tokenizer_write import write_tokenizer
from reference.tree import leaves

from .clients import configurations
from .errors import ExportError
from .gpt2 import trace_forward, trace_next_logits, trace_with_past
from .graph import Graph
from .model import Weights, check_file, chosen_ir_version, to_onnx
from .package import FORMAT, MANIFEST, Package, fingerprint
from .readme import readme
from .tracer import DEFAULT_OPSET, check_opset
from .variants import GRAPHS, VARIANTS
from .vectors import FOLDER as VECTORS
from .vectors import vectors

Verify = Callable[[Package, Model], dict[str, dict[str, Any]]]


def export(
    model: Model,
    directory: str | Path,
    *,
    opset: int = DEFAULT_OPSET,
    ir_version: int | None = None,
    n_ctx: int | None = None,
    target: str = "portable",
    dtypes: Sequence[str] = ("float32",),
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
    ir_version : int, optional
        Version of ONNX's file format; by default the smallest that the opset has, which most
        programs read.
    n_ctx : int, optional
        Length of the graphs' rows; by default, and at most, the model's.
    target : str
        As in `trace`.
    dtypes : sequence of str
        Number formats, each with graphs and weights of its own: `float32`, `float16`, `int8`.
    verify : callable, optional
        Compares the written package with the model's reference; what it returns for each format
        goes into the manifest as `parity`. If it raises, nothing is left behind. Formats other than
        float32 are not written without.

    Returns
    -------
    Package

    Raises
    ------
    TraceError
        Where there is no such opset.
    ExportError
        Where the directory is in use, n_ctx or ir_version is out of range, a format does not fit,
        or a graph is not valid.
    ModelError
        Where the model's files were changed since it was loaded.
    """
    directory = Path(directory).absolute()
    _check_name(directory)
    dtypes = _check_dtypes(dtypes, verify)
    check_opset(opset)
    ir_version = chosen_ir_version(opset, ir_version)
    model.check_files()
    try:
        if directory.is_dir() and directory.samefile(model.directory):
            write = _export_beside
            _check_beside(directory, dtypes)
        else:
            write = _export_new
            _check_new(directory)
        order = Order(_shortened(model, n_ctx), dtypes, target, opset, ir_version)
        return write(order, directory, verify)
    except OSError as e:
        raise ExportError(
            f"{directory}: {e.strerror or e}; nothing was left there. Mend that and export again."
        ) from None


@dataclass(frozen=True)
class Order:
    """What is to be exported, and how."""

    model: Model
    dtypes: Sequence[str]
    target: str
    opset: int
    ir_version: int

    def rounded(self, dtype: str) -> dict[str, Any]:
        """The model's parameters in a format."""
        try:
            return VARIANTS[dtype].rounded(self.model.params)
        except OverflowError as e:
            raise ExportError(
                f"{self.model.name} in {dtype}: {e}; expected numbers that it can hold. Export the "
                "model in another format."
            ) from None

    def trace(self, params: dict[str, Any], dtype: str) -> dict[str, Graph]:
        """Every graph over the model's whole n_ctx."""
        options: dict[str, Any] = {"target": self.target, "opset": self.opset}
        hparams = self.model.hparams
        past = VARIANTS[dtype].past
        return {
            "with_past": trace_with_past(params, hparams, past=past, **options),
            "forward": trace_forward(params, hparams, **options),
            "next_logits": trace_next_logits(params, hparams, **options),
        }

    def write(
        self, directory: Path, folder: str, dtype: str, created: list[Path], *, beside: bool
    ) -> dict[str, Any]:
        """Write a format's graphs, and their weights if these do not lie there already.

        Returns what the manifest says of it.
        """
        variant, stored = VARIANTS[dtype], self.model.checkpoint.stored
        params = self.rounded(dtype)
        if beside:
            weights = Weights.where_stored(stored)
        else:
            arrays = dict(leaves(params))
            weights = Weights.lay_out(variant.weights_file, arrays)
            weights.write(directory / folder, arrays, stored)
        graphs = {}
        for name, graph in self.trace(params, dtype).items():
            path = directory / folder / variant.file(name)
            proto = to_onnx(graph, weights, ir_version=self.ir_version)
            _write_new(path, proto.SerializeToString(deterministic=True), created)
            check_file(path)
            graphs[name] = _describe(graph, folder + variant.file(name))
        digest = (
            self.model.weights_sha256
            if dtype == "float32"
            else weights_sha256(self.model.hparams, params)
        )
        return {"weights_sha256": digest, "graphs": graphs, "parity": None}

    def package(
        self,
        directory: Path,
        variants: dict[str, Any],
        files: Iterable[Path],
        verify: Verify | None,
        created: list[Path],
    ) -> Package:
        """The package that these variants and files are; written when it has proved itself."""
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
                "eos_id": model.tokenizer.eos_id,
            },
            "opset": self.opset,
            "ir_version": self.ir_version,
            "target": self.target,
            "variants": variants,
            "files": {
                path.relative_to(directory).as_posix(): fingerprint(path) for path in sorted(files)
            },
        }
        package = Package(directory, manifest)
        if verify is not None:
            found = verify(package, model)
            untold = [dtype for dtype in self.dtypes if dtype not in (*found, "float32")]
            if untold or found.keys() - variants.keys():
                raise ExportError(
                    f"`verify` returned {list(found)}; expected a record of each of "
                    f"{', '.join(self.dtypes)}. Pass verify=runner.parity.parity_record."
                )
            for dtype, parity in found.items():
                variants[dtype]["parity"] = parity
        _write_new(directory / MANIFEST, _json(manifest), created)
        return package


def _export_new(order: Order, directory: Path, verify: Verify | None) -> Package:
    model = order.model
    # Beside the directory, under a name that is nobody's.
    scratch = Path(tempfile.mkdtemp(".part", f".{directory.name[:60]}.", directory.parent))
    part = scratch / "export"
    try:
        (part / "onnx").mkdir(parents=True)
        variants = {
            dtype: order.write(part, "onnx/", dtype, [], beside=False) for dtype in order.dtypes
        }
        write_tokenizer(model.tokenizer, part, model.hparams["n_ctx"])
        for file, content in configurations(model, order.dtypes).items():
            (part / file).write_bytes(_json(content))
        (part / "README.md").write_text(readme(model, order.dtypes), "utf-8", "replace")
        (part / VECTORS).mkdir()
        for file, data in vectors(model).items():
            (part / VECTORS / file).write_bytes(data)
        files = [path for path in part.rglob("*") if path.is_file()]
        package = order.package(part, variants, files, verify, [])
        if directory.exists():
            directory.rmdir()
        part.rename(directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return replace(package, directory=directory)


def _export_beside(order: Order, directory: Path, verify: Verify | None) -> Package:
    """Into the model's own directory: what is there is used, nothing of it is touched."""
    weights_files = {directory / t.path.name for t in order.model.checkpoint.stored.values()}
    created: list[Path] = []
    try:
        variants = {
            dtype: order.write(directory, "", dtype, created, beside=True) for dtype in order.dtypes
        }
        return order.package(directory, variants, {*created, *weights_files}, verify, created)
    except FileExistsError as e:
        _remove(created)
        raise ExportError(_taken(Path(e.filename))) from None
    except BaseException:
        _remove(created)
        raise


def _check_dtypes(dtypes: Sequence[str], verify: Verify | None) -> list[str]:
    """The formats, each once; float32 first, as programs look for it."""
    unknown = [dtype for dtype in dtypes if dtype not in VARIANTS]
    if unknown or not dtypes:
        raise ExportError(
            f"dtypes {list(dtypes)}: expected one or several of {', '.join(VARIANTS)}. Pass those."
        )
    if verify is None and set(dtypes) != {"float32"}:
        raise ExportError(
            f"dtypes {list(dtypes)} without `verify`: a model that is rounded is written with a "
            "record of what that costs only. Pass verify=runner.parity.parity_record."
        )
    return [dtype for dtype in VARIANTS if dtype in dtypes]


def _check_name(directory: Path) -> None:
    try:
        str(directory).encode()
    except UnicodeEncodeError:
        raise ExportError(
            f"{str(directory)!a}: is no name in UTF-8, which onnx and onnxruntime need. "
            "Choose another."
        ) from None


def _check_beside(directory: Path, dtypes: Sequence[str]) -> None:
    if dtypes != ["float32"]:
        raise ExportError(
            f"{directory}: is the model's own folder, whose weights are used as they are; "
            f"{', '.join(dtypes)} would need others. Export to another folder."
        )
    for name in (*map(VARIANTS["float32"].file, GRAPHS), MANIFEST):
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
