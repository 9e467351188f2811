"""Tensors where they lie in a model's files: mapped, and handed out as float32."""

import math
import mmap
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import ModelError

# Types under safetensors' names, and what NumPy reads them as. It has no bfloat16: those 16 bits
# are the upper half of a float32.
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
COMPUTED_WITH = ("F32", "I8", "U8")
WEIGHT_DTYPES = ("F32", "F16", "BF16")  # what float32 holds without loss

Identity: TypeAlias = tuple[int, ...]  # what tells a file from its next version


def identity(stat: os.stat_result) -> Identity:
    """Device, inode, size and times of a file."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def changed(path: Path) -> ModelError:
    """A file became another while it was read."""
    return ModelError(
        f"{path}: was changed while it was read; expected it to stay as it is. Load it again when "
        "it is whole."
    )


@dataclass(frozen=True)
class Stored:
    """A tensor in a file.

    Attributes
    ----------
    name : str
        What the file calls it.
    path : Path
        The file.
    offset : int
        Byte at which the tensor begins.
    dtype : str
        A key of `DTYPES`.
    shape : tuple of int
        Its shape.
    crc32c : int, optional
        Checksum of its bytes, where the format has one.
    version : Identity, optional
        Of the file when it was found to hold the tensor; without a checksum this is what ties
        the two together.
    """

    name: str
    path: Path
    offset: int
    dtype: str
    shape: tuple[int, ...]
    crc32c: int | None = None
    version: Identity | None = None

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    @property
    def is_weight(self) -> bool:
        """Whether the file's bytes are the weight itself, so that nothing needs to be copied."""
        n_bytes = DTYPES[self.dtype].itemsize
        ordered = n_bytes == 1 or sys.byteorder == "little"
        return self.dtype in COMPUTED_WITH and self.offset % n_bytes == 0 and ordered


class MappedFiles:
    """Files mapped read-only, each once; a mapping lives as long as an array made from it.

    Attributes
    ----------
    identities : dict of Path to Identity
        Of each mapped file.
    """

    def __init__(self) -> None:
        self._mappings: dict[Path, mmap.mmap] = {}
        self.identities: dict[Path, Identity] = {}

    def raw(self, stored: Stored) -> npt.NDArray[np.uint8]:
        """A tensor's bytes, not copied.

        Raises
        ------
        ModelError
            Where the file ends before the tensor does.
        """
        mapping = self._mapping(stored.path)
        if stored.version not in (None, self.identities[stored.path]):
            raise changed(stored.path)
        end = stored.offset + stored.n_bytes
        if end > len(mapping):
            raise ModelError(
                f"{stored.path}: ends at byte {len(mapping):,}; tensor {stored.name} takes bytes "
                f"{stored.offset:,} to {end:,}. The file is cut short: copy it again from its "
                "source."
            )
        return np.frombuffer(mapping, np.uint8, stored.n_bytes, stored.offset)

    def array(self, stored: Stored) -> npt.NDArray[Any]:
        """A tensor in its own type, not copied.

        Raises
        ------
        ModelError
            Where the file ends before the tensor does.
        """
        return self.raw(stored).view(DTYPES[stored.dtype]).reshape(stored.shape)

    def float32(self, stored: Stored) -> npt.NDArray[np.float32]:
        """A tensor as float32: a view of its file where that holds it so, else a copy.

        Raises
        ------
        ModelError
            Where the file ends before the tensor does.
        """
        array = self.array(stored)
        if stored.dtype == "BF16":
            array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
        elif not stored.is_weight:
            array = array.astype(np.float32)
        return array

    def forget_pages(self) -> None:
        """Give back the memory that reading has filled; what is used again is read again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapping in self._mappings.values():
                mapping.madvise(mmap.MADV_DONTNEED)

    def _mapping(self, path: Path) -> mmap.mmap:
        if path not in self._mappings:
            try:
                if not path.is_file():  # a pipe would be waited for
                    raise ValueError("it is no file")  # noqa: TRY301
                with path.open("rb") as file:
                    self.identities[path] = identity(os.fstat(file.fileno()))
                    self._mappings[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as e:  # ValueError: the file is empty
                raise ModelError(
                    f"{path}: not readable ({e}); expected the model's weights. "
                    "Copy the file again from its source."
                ) from None
        return self._mappings[path]
