"""An exported directory, read back: graphs, their weights, and the manifest that proves them."""

import functools
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, numpy_helper

from reference import HParams, PicobatchError, param_shapes
from reference.checkpoint.layout import read_sizes
from reference.checkpoint.weights import weights_sha256
from reference.files import as_object, read_object
from reference.messages import shown
from reference.tree import tree_map

from .errors import ExportError
from .operators import stranger
from .variants import GRAPHS, VARIANTS, read_leaf

MANIFEST = "manifest.json"
FORMAT = 3
MOST_MANIFEST_BYTES = 1 << 24
FINGERPRINT = ("bytes", "sha256")
# Where graphs lie: a new export has a folder for them, as other runtimes expect it; beside a
# model's own weights they lie in the model's folder itself.
FOLDERS = ("onnx/", "")


@dataclass(frozen=True)
class Package:
    """An exported directory that holds together.

    Attributes
    ----------
    directory : Path
        Where it lies.
    manifest : dict
        What it says of itself: model, files, and for each number format graphs and parity.
    """

    directory: Path
    manifest: dict[str, Any]

    @functools.cached_property
    def hparams(self) -> HParams:
        """The sizes of the graphs, checked as those of any model."""
        sizes = self.manifest["model"]["hparams"]
        names = {name: name for name in HParams.__annotations__}
        return read_sizes(self.directory / MANIFEST, sizes, names)

    @property
    def n_tokens(self) -> int:
        """Ids that can have a token; those from there on pad the vocabulary."""
        found: int = self.manifest["model"]["n_tokens"]
        return found

    @property
    def eos_id(self) -> int | None:
        """The token that ends a text, if there is one."""
        found: int | None = self.manifest["model"]["eos_id"]
        return found

    @property
    def choices(self) -> slice:
        """What selects the logits of ids that can have a token."""
        return slice(self.n_tokens if self.n_tokens > 1 else None)

    @property
    def dtypes(self) -> list[str]:
        """The number formats that its graphs are in."""
        return list(self.manifest["variants"])

    def variant(self, dtype: str) -> dict[str, Any]:
        """What the manifest says of one format: `graphs`, `weights_sha256`, `parity`."""
        found: dict[str, Any] = self.manifest["variants"][dtype]
        return found

    def graph_path(self, name: str, dtype: str | None = None) -> Path:
        """The model file of a graph, by default in the first format."""
        graphs = self.variant(dtype or self.dtypes[0])["graphs"]
        return self.directory / str(graphs[name]["file"])

    def data_files(self, name: str, dtype: str) -> list[Path]:
        """The files in which a graph's weights lie."""
        path = self.graph_path(name, dtype)
        places = (_place(tensor, path, self.files) for tensor in outside(_read(path)))
        return sorted({file for file, _ in places})

    @property
    def files(self) -> set[Path]:
        """The files that the manifest names."""
        return {self.directory / name for name in self.manifest["files"]}

    def params(self, dtype: str | None = None) -> dict[str, Any]:
        """The parameter tree, read back from the weights that the graphs use (mapped).

        Parameters
        ----------
        dtype : str, optional
            Of which format; by default the first. The functions of the reference take the tree
            as it is, and compute with matrices in that format.

        Raises
        ------
        ExportError
            Where they are not the weights that the manifest names.
        """
        dtype = dtype or self.dtypes[0]
        path = self.graph_path("with_past", dtype)
        found = _initializers(path, self.files)

        def leaf(name: str, shape: tuple[int, ...]) -> Any:
            weight = read_leaf(name, shape, found)
            if weight is None:
                raise ExportError(
                    f"{path}: weight {name}, {dtype} {list(shape)}, is not in it; expected the "
                    "graph that was exported. Export it again."
                )
            return weight

        if self.hparams["n_layer"] > len(found):  # before a tree of that size is made
            raise ExportError(f"{path}: too few weights for {MANIFEST}. Export it again.")
        tied = not any(name.split(".")[0] == "lm_head" for name in found)
        tree: dict[str, Any] = tree_map(leaf, param_shapes(self.hparams, tied=tied))
        if weights_sha256(self.hparams, tree) != self.variant(dtype).get("weights_sha256"):
            raise ExportError(
                f"{path}: its weights are not those that {MANIFEST} names (another SHA-256). "
                "Export it again."
            )
        return tree


def open_package(directory: str | Path) -> Package:
    """An exported directory, refused where any of its files is not what was written.

    No graph of it reads a file but those that the manifest names: any program may open them.

    Raises
    ------
    ExportError
        Naming the file.
    ModelError
        Where the sizes are impossible.
    """
    directory = Path(directory)
    manifest = _read_manifest(directory)
    for name, file in manifest["files"].items():
        path = directory / _inside(name, directory / MANIFEST)
        if not _lies_in(directory, path):
            raise ExportError(
                f"{path}: missing, or a link that leads outside; {MANIFEST} names it. "
                "Export it again."
            )
        if fingerprint(path) != {key: file[key] for key in FINGERPRINT}:
            raise ExportError(
                f"{path}: is not the file that was exported (its size or SHA-256 differs from "
                f"{MANIFEST}). Export it again."
            )
    package = Package(directory, manifest)
    _check_tokens(package)
    for dtype in package.dtypes:
        for name in GRAPHS:
            path = package.graph_path(name, dtype)
            if found := stranger(_read(path)):
                raise ExportError(
                    f"{path}: holds {found}; expected a graph that `runner export` writes. "
                    "Do not run it in any program; export the model again."
                )
            package.data_files(name, dtype)
    return package


def _read_manifest(directory: Path) -> dict[str, Any]:
    """What a folder says of itself, with all that reading the folder asks for."""
    try:
        manifest = read_object(directory / MANIFEST, ExportError, most=MOST_MANIFEST_BYTES)
        if type(found := manifest.get("format")) is not int or found != FORMAT:
            raise ValueError(f"format {found!r:.40}; this version reads {FORMAT}")  # noqa: TRY301
        files = as_object(manifest["files"], "files", ExportError)
        named = {
            dtype: {name: graph["file"] for name, graph in variant["graphs"].items()}
            for dtype, variant in manifest["variants"].items()
        }
        for file in files.values():
            _ = [file[key] for key in FINGERPRINT]
        if type(manifest["model"]["hparams"]) is not dict:
            raise TypeError("its sizes are not an object")  # noqa: TRY301
    except (PicobatchError, ValueError, LookupError, TypeError, AttributeError) as e:
        raise ExportError(
            f"{directory}: no {MANIFEST} of an export ({e}); expected a folder that "
            "`runner export` wrote. Export the model again, or check the path."
        ) from None
    if not _is_known(named, files):
        raise ExportError(
            f"{directory / MANIFEST}: names not the graphs and files of an export in format "
            f"{FORMAT}; expected what `runner export` wrote. Export it again."
        )
    return manifest


def _check_tokens(package: Package) -> None:
    model, n_vocab = package.manifest["model"], package.hparams["n_vocab"]
    n_tokens, eos_id = model.get("n_tokens"), model.get("eos_id", "")
    eos_fits = eos_id is None or _is_whole(eos_id, 0, n_vocab - 1)
    if not (_is_whole(n_tokens, 1, n_vocab) and eos_fits):
        raise ExportError(
            f"{package.directory / MANIFEST}: n_tokens is {shown(n_tokens)} and eos_id "
            f"{shown(eos_id)}; expected a number up to n_vocab, {n_vocab}, and an id or null. "
            "Export it again."
        )


def _is_whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_known(named: dict[str, dict[str, str]], files: dict[str, Any]) -> bool:
    """Whether these are graphs of an export, by format and name, and among its files."""
    expected = [
        {
            dtype: {name: folder + VARIANTS[dtype].file(name) for name in GRAPHS}
            for dtype in named
            if dtype in VARIANTS
        }
        for folder in FOLDERS
    ]
    if not named or named not in expected:
        return False
    return all(file in files for graphs in named.values() for file in graphs.values())


def _lies_in(directory: Path, path: Path) -> bool:
    try:
        return path.is_file() and path.resolve().is_relative_to(directory.resolve())
    except OSError:  # such as a name that is too long
        return False


def fingerprint(path: Path) -> dict[str, Any]:
    """Length and SHA-256 of a file."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _inside(name: str, where: Path) -> str:
    """A relative name that cannot leave its folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise ExportError(
            f"{where}: names the file {shown(name)}, which lies outside its folder; expected a "
            "plain relative name. Do not use this export."
        )
    return name


def _initializers(path: Path, files: set[Path]) -> dict[str, Any]:
    """A model's initializers by name, external ones mapped from one of `files`."""
    tensors = _read(path).graph.initializer
    try:
        return {tensor.name: _array(tensor, path, files) for tensor in tensors}
    except ExportError:
        raise
    except Exception as e:  # a damaged protobuf fails in many ways
        raise _unreadable(path, e) from e


def _read(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as e:
        raise _unreadable(path, e) from e


def _unreadable(path: Path, error: Exception) -> ExportError:
    return ExportError(
        f"{path}: not readable ({type(error).__name__}: {error!s:.200}); expected the graph "
        "that was exported. Export it again."
    )


def outside(message: Any) -> Iterator[TensorProto]:
    """Tensors that lie in other files: initializers, and wherever else a model may hold one."""
    if isinstance(message, TensorProto):
        if message.data_location == TensorProto.EXTERNAL or message.external_data:
            yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in (value,) if hasattr(value, "ListFields") else value:
                yield from outside(part)


def _array(tensor: TensorProto, path: Path, files: set[Path]) -> Any:
    if tensor.data_location != TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    file, offset = _place(tensor, path, files)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.memmap(file, dtype, "r", offset, tuple(tensor.dims))


def _place(tensor: TensorProto, path: Path, files: set[Path]) -> tuple[Path, int]:
    """The file that a tensor of the model at `path` lies in, one of `files`, and where it begins.

    Raises
    ------
    ExportError
        Where it lies elsewhere, or not all of it there.
    """
    try:
        # Of a key that is there twice, programs take the one or the other.
        if len({entry.key for entry in tensor.external_data}) < len(tensor.external_data):
            raise ValueError(f"weight {tensor.name} has two places")  # noqa: TRY301
        where = external_data_helper.ExternalDataInfo(tensor)
        file = path.parent / _inside(where.location, path)
        offset = int(where.offset or 0)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        n_bytes = math.prod(tensor.dims) * dtype.itemsize
        end = file.stat().st_size if file in files and file.is_file() else 0
    except ExportError:
        raise
    except Exception as e:  # a damaged protobuf fails in many ways
        raise _unreadable(path, e) from e
    last = offset + max(n_bytes, int(where.length or 0))
    if not (0 <= offset <= last <= end and min(tensor.dims, default=1) > 0):
        raise ExportError(
            f"{path}: weight {tensor.name} lies outside of the files that {MANIFEST} names; "
            "expected the graph that was exported. Export it again."
        )
    return file, offset
