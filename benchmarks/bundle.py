"""Writes TensorFlow's checkpoint format, for measurements and for tests of damaged files."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from reference.checkpoint.bundle import FOOTER_BYTES, MAGIC, TENSORFLOW_DTYPES
from reference.checkpoint.crc32c import MASK_DELTA, crc32c
from reference.checkpoint.stored import DTYPES

NUMBERS = {DTYPES[name]: number for number, name in TENSORFLOW_DTYPES.items() if name != "BF16"}
ENTRIES_PER_BLOCK = 64


def write_bundle(prefix: Path, tensors: Iterable[tuple[str, Callable[[], Any]]]) -> None:
    """Write `PREFIX.index` and `PREFIX.data-00000-of-00001`, one tensor in memory at a time.

    Parameters
    ----------
    prefix : Path
        Such as `DIR/model.ckpt`.
    tensors : iterable of (str, callable)
        Names, each with what makes its array.
    """
    entries = {b"": header()}
    with Path(f"{prefix}.data-00000-of-00001").open("wb") as stream:
        for name, make in sorted(tensors, key=lambda named: named[0].encode()):
            array = np.ascontiguousarray(make())
            entries[name.encode()] = entry(array, stream.tell())
            stream.write(array.data)
    Path(f"{prefix}.index").write_bytes(table(entries))


def table(entries: dict[bytes, bytes], *, kind: int = 0, repeat: int = 1) -> bytes:
    """An index file of these keys and values.

    `kind` is how its blocks claim to be compressed, `repeat` how often each is listed.
    """
    written, handles = b"", dict[bytes, bytes]()
    keys = list(entries)
    for start in range(0, len(keys), ENTRIES_PER_BLOCK):
        some = keys[start : start + ENTRIES_PER_BLOCK]
        handle, block = _block(len(written), {key: entries[key] for key in some}, kind)
        handles |= {some[-1] + b"\xff" * (i + 1): handle for i in range(repeat)}
        written += block
    meta_handle, block = _block(len(written), {}, kind)
    written += block
    root_handle, block = _block(len(written), handles, kind)
    footer = (meta_handle + root_handle).ljust(FOOTER_BYTES - 8, b"\0")
    return written + block + footer + MAGIC.to_bytes(8, "little")


def header(n_shards: int = 1, endianness: int = 0) -> bytes:
    """`BundleHeaderProto`."""
    return _number(1, n_shards) + _number(2, endianness)


def entry(array: Any, offset: int, *, dtype: int | None = None, more: bytes = b"") -> bytes:
    """`BundleEntryProto`; `more` is added as it is."""
    dims = b"".join(_message(2, _number(1, size)) for size in array.shape)
    crc = mask(crc32c(array.data if array.size else b""))
    number = NUMBERS[array.dtype] if dtype is None else dtype
    return (
        _number(1, number)
        + _message(2, dims)
        + _number(4, offset)
        + _number(5, math.prod(array.shape) * array.itemsize)
        + bytes([6 << 3 | 5])
        + crc.to_bytes(4, "little")
        + more
    )


def mask(crc: int) -> int:
    """What is stored of a CRC."""
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


def _block(start: int, entries: dict[bytes, bytes], kind: int) -> tuple[bytes, bytes]:
    """A block's handle and bytes; keys are shortened by what they share with the key before."""
    content, last = b"", b""
    for key, value in entries.items():
        shared = next((i for i, (a, b) in enumerate(zip(key, last)) if a != b), len(last))  # noqa: B905
        shared = min(shared, len(key))
        content += varint(shared) + varint(len(key) - shared) + varint(len(value))
        content += key[shared:] + value
        last = key
    content += (0).to_bytes(4, "little") + (1).to_bytes(4, "little")  # one restart, at 0
    guarded = content + bytes([kind])
    handle = varint(start) + varint(len(content))
    return handle, guarded + mask(crc32c(guarded)).to_bytes(4, "little")


def _number(field: int, value: int) -> bytes:
    return bytes([field << 3]) + varint(value) if value else b""


def _message(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """A number in groups of seven bits."""
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
