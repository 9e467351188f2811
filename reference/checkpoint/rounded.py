"""A model in 8 bits that is rounded once: the next start maps it from a file.

The file lies in the cache, in safetensors' format. Its name says what it was made from and by, so
that another file of that name holds the same; a note says which one is whole.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from .. import cache
from ..errors import ModelError
from ..files import as_object
from ..gpt2 import Array, HParams
from ..int8 import Int8Matrix, each_matrix, kv_scales, quantize
from ..tree import leaves
from .huggingface import read_header
from .stored import MappedFiles, identity
from .weights import REMEMBERED_BYTES, Checkpoint, is_sha256

KIND = "int8"
KV_SCALES = "kv_scales"
MADE_BY = cache.key(np.__version__, cache.source_sha256(Path(__file__).parent.parent))


class Rounded(NamedTuple):
    """Weights in 8 bits, and the scales of a KV cache: see `int8.py`."""

    checkpoint: Checkpoint
    kv_scales: Array


def round_weights(checkpoint: Checkpoint, hparams: HParams, *, unsigned: bool) -> Rounded:
    """The weights in 8 bits, found again or rounded.

    Parameters
    ----------
    checkpoint : Checkpoint
        float32.
    hparams : HParams
        The model's sizes.
    unsigned : bool
        Which kind of 8 bits, as in `int8.quantize`.
    """
    if sum(tensor.n_bytes for tensor in checkpoint.stored.values()) < REMEMBERED_BYTES:
        return _round(checkpoint, hparams, unsigned=unsigned)
    made_from = f"{checkpoint.sha256[:40]}.{'uint8' if unsigned else 'int8'}"
    found = _read(made_from, checkpoint)
    if found is None:
        rounded = _round(checkpoint, hparams, unsigned=unsigned)
        _write(made_from, rounded)
        found = _read(made_from, checkpoint) or rounded
    return found


def _round(checkpoint: Checkpoint, hparams: HParams, *, unsigned: bool) -> Rounded:
    params = quantize(checkpoint.params, unsigned=unsigned)
    return Rounded(Checkpoint.in_memory(hparams, params), kv_scales(checkpoint.params, hparams))


def _write(made_from: str, rounded: Rounded) -> None:
    """Keep it, where there is a place, instead of what other code made from the same."""
    tensors = {**dict(leaves(rounded.checkpoint.params)), KV_SCALES: rounded.kv_scales}
    path = _file(made_from)
    with contextlib.suppress(OSError, SafetensorError):
        with cache.new_file(KIND, path.name) as scratch:
            save_file(tensors, scratch)
            with scratch.open("rb") as stream:
                os.fsync(stream.fileno())
        note = {"sha256": rounded.checkpoint.sha256, "identity": identity(path.stat())}
        cache.store(KIND, path.stem, json.dumps(note).encode())
        for other in path.parent.glob(f"{made_from}.*"):
            if other.name not in (path.name, path.stem):
                other.unlink(missing_ok=True)


def _read(made_from: str, checkpoint: Checkpoint) -> Rounded | None:
    """What was kept, unless it is not the file that the note is about."""
    try:
        path = _file(made_from)
        note = as_object(json.loads(cache.load(KIND, path.stem) or b"{}"), path.stem, ModelError)
        if not is_sha256(note.get("sha256")):
            return None
        files = MappedFiles()
        stored = read_header(path)
        arrays = {leaf: files.array(tensor) for leaf, tensor in stored.items()}
        if note.get("identity") != [*files.identities[path]]:
            return None
        params = each_matrix(
            checkpoint.params,
            lambda leaf, _: Int8Matrix(q=arrays[f"{leaf}.q"], scale=arrays[f"{leaf}.scale"]),
        )
        scales = arrays[KV_SCALES]
    except (ModelError, OSError, ValueError, LookupError, RecursionError):
        return None
    weights = {leaf: tensor for leaf, tensor in stored.items() if leaf != KV_SCALES}
    kept = Checkpoint(params, note["sha256"], weights, checkpoint.files)
    return Rounded(kept, scales)


def _file(made_from: str) -> Path:
    return cache.folder().absolute() / KIND / f"{made_from}.{MADE_BY}.safetensors"
