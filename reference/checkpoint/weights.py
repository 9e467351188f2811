"""Stored tensors -> a parameter tree that is whole, finite and has a name: its hash."""

import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import cache
from ..errors import ModelError
from ..gpt2 import HParams, Params, param_shapes
from ..tree import leaves, tree_map
from .crc32c import crc32c
from .stored import Identity, MappedFiles, Stored, changed, identity

# Reading 64 MiB takes 0.1 s. What a larger model was found to be is remembered with its files'
# size, inode and times, as Git does with a work tree.
REMEMBERED_BYTES = 1 << 26
KIND = "weights"
REMEMBERED_AS = 1  # raise it when the digest, or what is verified, changes
UNSETTLED_S = 2.0  # a file changed so shortly ago could change again within its time stamp


class WeightsDigest:
    """Hash of sizes, names, shapes and values, whatever file they came from."""

    def __init__(self, hparams: HParams) -> None:
        # The number of heads is what the shapes do not tell.
        self._sha256 = hashlib.sha256(f"n_head {hparams['n_head']}\n".encode())

    def update(self, leaf: str, array: npt.NDArray[Any]) -> None:
        self._sha256.update(f"{leaf} {array.dtype.str} {array.shape}\n".encode())
        self._sha256.update(np.ascontiguousarray(array).data)

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


def weights_sha256(hparams: HParams, params: Params) -> str:
    """The digest of a whole tree."""
    digest = WeightsDigest(hparams)
    for leaf, array in leaves(params):
        digest.update(leaf, array)
    return digest.hexdigest()


@dataclass(frozen=True)
class Checkpoint:
    """A parameter tree, and where it came from.

    Attributes
    ----------
    params : tree of float32
        Views of the files where these hold float32, read-only; copies elsewhere.
    sha256 : str
        As `weights_sha256(hparams, params)`.
    stored : dict of str to Stored
        Where each leaf lies in the files; empty for a tree that was made in memory.
    files : dict of Path to Identity
        The files as they were.
    """

    params: Params
    sha256: str
    stored: Mapping[str, Stored] = field(default_factory=dict)
    files: Mapping[Path, Identity] = field(default_factory=dict)

    @classmethod
    def in_memory(cls, hparams: HParams, params: Params) -> "Checkpoint":
        """Of a tree without files."""
        return cls(params, weights_sha256(hparams, params))

    @property
    def unchanged(self) -> bool:
        """Whether the files are still those that were read."""
        try:
            return all(identity(path.stat()) == found for path, found in self.files.items())
        except OSError:
            return False


def is_sha256(text: Any) -> bool:
    """Whether this is such a hash: it becomes part of a file's name."""
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None


def read_weights(hparams: HParams, stored: Mapping[str, Stored], *, tied: bool) -> Checkpoint:
    """Read, verify and name a model's weights.

    Parameters
    ----------
    hparams : HParams
        The model's sizes.
    stored : mapping of str to Stored
        Each leaf's place, with the shape that the tree has there.
    tied : bool
        Whether `wte` is also the output projection.

    Raises
    ------
    ModelError
        Where a file is cut short, a checksum differs or a weight is not finite.
    """
    files = MappedFiles()
    shapes = param_shapes(hparams, tied=tied)
    for tensor in stored.values():
        files.raw(tensor)  # every file is mapped, and long enough
    large = sum(tensor.n_bytes for tensor in stored.values()) >= REMEMBERED_BYTES
    key = _key(hparams, stored, files) if large else None
    known = (cache.load(KIND, key) or b"").decode("ascii", "replace") if key else ""
    if is_sha256(known):
        params = tree_map(lambda leaf, _: files.float32(stored[leaf]), shapes)
        return Checkpoint(params, known, stored, files.identities)
    digest = WeightsDigest(hparams)

    def verified(leaf: str, _: Any) -> npt.NDArray[np.float32]:
        array = _verified(files, stored[leaf])
        digest.update(leaf, array)
        return array

    params = tree_map(verified, shapes)
    files.forget_pages()
    checkpoint = Checkpoint(params, digest.hexdigest(), stored, files.identities)
    if not checkpoint.unchanged:
        raise changed(next(iter(files.identities)))
    if key:
        cache.store(KIND, key, checkpoint.sha256.encode())
    return checkpoint


def check_sums(stored: Mapping[str, Stored]) -> None:
    """Compare each tensor with its checksum.

    Raises
    ------
    ModelError
        Naming the tensor that differs.
    """
    files = MappedFiles()
    for tensor in stored.values():
        _check_sum(files, tensor)


def _check_sum(files: MappedFiles, tensor: Stored) -> None:
    if tensor.crc32c is not None and crc32c(files.raw(tensor)) != tensor.crc32c:
        raise ModelError(
            f"{tensor.path}: tensor {tensor.name}, bytes {tensor.offset:,} to "
            f"{tensor.offset + tensor.n_bytes:,}, is damaged: its checksum differs from the one "
            "in the index. Copy the file again from its source."
        )


def _verified(files: MappedFiles, tensor: Stored) -> npt.NDArray[np.float32]:
    _check_sum(files, tensor)
    array = files.float32(tensor)
    finite = np.isfinite(array)
    if not finite.all():
        at = [int(i) for i in np.argwhere(~finite)[0]]
        raise ModelError(
            f"{tensor.path}: tensor {tensor.name} holds {array[tuple(at)]} at {at}; expected "
            "finite numbers. The file is damaged or the training diverged: take other weights."
        )
    return array


def _key(hparams: HParams, stored: Mapping[str, Stored], files: MappedFiles) -> str | None:
    """What the tree follows from; None while a file is too new to be told from its next version."""
    settled_ns = (time.time() - UNSETTLED_S) * 1e9
    if any(changed_ns > settled_ns for *_, changed_ns in files.identities.values()):
        return None
    places = [(str(path.resolve()), found) for path, found in sorted(files.identities.items())]
    tensors = [
        (leaf, t.path.name, t.offset, t.dtype, t.shape, t.crc32c) for leaf, t in stored.items()
    ]
    return cache.key(REMEMBERED_AS, sorted(hparams.items()), places, sorted(tensors))
