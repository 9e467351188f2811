"""TensorFlow's checkpoint format, the tensor bundle, read without TensorFlow.

A bundle is an index and its data. The index is a table of sorted keys in blocks, each guarded by
a checksum; its values are protocol buffers that say where a tensor lies in the data, and what the
checksum of its bytes is.

References
----------
TensorFlow: `tensor_bundle.h`, `tensor_bundle.proto`, `types.proto`; the table is LevelDB's
(`table_format.md`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from ..files import read_bytes
from ..messages import shown
from .crc32c import crc32c, unmask
from .stored import DTYPES, Stored

FOOTER_BYTES = 48
MAGIC = 0xDB4775248B80FB57
TRAILER_BYTES = 5  # after each block: how it is compressed, and its checksum
# Far beyond any checkpoint, and small enough that a hostile one costs nothing.
# Names share their beginnings: unpacked they take much more than they do in the file.
MOST_INDEX_BYTES = 1 << 23
MOST_KEY_BYTES = 1 << 10
MOST_TENSORS = 1 << 14
MOST_DIMENSIONS = 8
MOST_ELEMENTS = 1 << 62

# TensorFlow's numbers for types, under safetensors' names.
TENSORFLOW_DTYPES = {
    1: "F32",
    2: "F64",
    3: "I32",
    4: "U8",
    5: "I16",
    6: "I8",
    9: "I64",
    10: "BOOL",
    14: "BF16",
    19: "F16",
}


class MalformedError(ValueError):
    """Bytes that are not what the format says; the caller knows where."""


@dataclass(frozen=True)
class Handle:
    """Where a block lies in the index file."""

    offset: int
    size: int


def read_index(index: Path, data: Path) -> dict[str, Stored]:
    """The tensors of a bundle, by name.

    Parameters
    ----------
    index : Path
        `model.ckpt.index`.
    data : Path
        `model.ckpt.data-00000-of-00001`, which is not opened.

    Raises
    ------
    ModelError
        Where the index is cut short, corrupt, compressed, not TensorFlow's, or names tensors that
        one data file does not hold. The message names the block or the tensor.
    """
    table = read_bytes(index, ModelError, most=MOST_INDEX_BYTES)
    entries = _entries(index, table)
    name, header = next(entries, (None, b""))
    if name != b"":
        raise ModelError(
            f"{index}: no header before its first tensor; expected the index of a TensorFlow "
            "checkpoint. Copy the file again from its source."
        )
    _check_header(index, header)
    tensors: dict[str, Stored] = {}
    for name, value in entries:
        if len(tensors) >= MOST_TENSORS:
            raise ModelError(
                f"{index}: more than {MOST_TENSORS:,} tensors; expected those of one model. "
                "Copy the file again from its source."
            )
        found, stored = _tensor(index, data, name, value)
        tensors[found] = stored
    return tensors


def _entries(index: Path, table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All keys and values, in order."""
    footer = table[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or int.from_bytes(footer[-8:], "little") != MAGIC:
        raise ModelError(
            f"{index}: its last bytes are not those of a TensorFlow index; it is another format, "
            "or cut short. Copy the file again from its source."
        )
    try:
        _, at = _handle(footer, 0)  # of the metaindex, which TensorFlow leaves empty
        root, _ = _handle(footer, at)
    except MalformedError as e:
        raise _corrupt(index, "its footer", str(e)) from None
    last, end = None, 0
    for _, value in _block(index, table, root):
        try:
            handle, _ = _handle(value, 0)
        except MalformedError as e:
            raise _corrupt(index, f"the block at byte {root.offset:,}", str(e)) from None
        if handle.offset < end:
            raise _corrupt(index, f"the block at byte {handle.offset:,}", "it is listed too late")
        end = handle.offset + handle.size
        for key, entry in _block(index, table, handle):
            if last is not None and key <= last:
                raise _corrupt(index, f"the block at byte {handle.offset:,}", "keys out of order")
            last = key
            yield key, entry


def _block(index: Path, table: bytes, handle: Handle) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block whose checksum holds."""
    where = f"the block at byte {handle.offset:,}"
    end = handle.offset + handle.size
    if end + TRAILER_BYTES > len(table) - FOOTER_BYTES:
        raise _corrupt(index, where, f"it ends at {end:,}, past the end of the blocks")
    expected = unmask(int.from_bytes(table[end + 1 : end + TRAILER_BYTES], "little"))
    if crc32c(table[handle.offset : end + 1]) != expected:
        raise _corrupt(index, where, "its checksum differs from its content")
    if table[end]:
        raise ModelError(
            f"{index}: {where} is compressed (type {table[end]}); expected a plain one, as "
            "TensorFlow writes them. Save the checkpoint again with TensorFlow."
        )
    try:
        yield from _block_entries(table[handle.offset : end])
    except MalformedError as e:
        raise _corrupt(index, where, str(e)) from None


def _block_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys share their beginning with the key before; the block ends with restart points."""
    n_restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (n_restarts + 1)
    if end < 0:
        raise MalformedError("it is shorter than its list of restart points")
    key, at = b"", 0
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        value_size, at = _varint(block, at)
        if shared > len(key) or at + unshared + value_size > end:
            raise MalformedError("an entry reaches past its end")
        if shared + unshared > MOST_KEY_BYTES:
            raise MalformedError(f"a name has {shared + unshared:,} bytes")
        key = key[:shared] + block[at : at + unshared]
        at += unshared
        yield key, block[at : at + value_size]
        at += value_size


def _check_header(index: Path, header: bytes) -> None:
    """`BundleHeaderProto`: one shard, little-endian."""
    try:
        fields = dict(_fields(header))
    except MalformedError as e:
        raise _corrupt(index, "its header", str(e)) from None
    n_shards = fields.get(1, 0)
    if n_shards != 1:
        raise ModelError(
            f"{index}: its data is in {str(n_shards)[:20]} shards; expected one. "
            "Save the checkpoint again with tf.compat.v1.train.Saver(sharded=False)."
        )
    if fields.get(2, 0) != 0:
        raise ModelError(
            f"{index}: its data is big-endian; expected little-endian. "
            "Save the checkpoint again on a little-endian machine."
        )


def _tensor(index: Path, data: Path, key: bytes, value: bytes) -> tuple[str, Stored]:
    """`BundleEntryProto`."""
    name = key.decode("utf-8", errors="backslashreplace")
    try:
        entry = _fields(value)
        shape: tuple[int, ...] = ()
        fields: dict[int, int] = {}
        for number, found in entry:
            if number == 2:
                shape = _shape(found)
            elif number == 7:
                raise ModelError(
                    f"{index}: tensor {name} is partitioned into slices; expected it whole. "
                    "Save the checkpoint again without a partitioner."
                )
            elif isinstance(found, int):
                fields[number] = found
    except MalformedError as e:
        raise _corrupt(index, f"the entry of tensor {name}", str(e)) from None
    dtype = TENSORFLOW_DTYPES.get(fields.get(1, 0))
    if dtype is None:
        raise ModelError(
            f"{index}: tensor {name} has TensorFlow's type {fields.get(1, 0)}; expected numbers of "
            f"{', '.join(DTYPES)}. Save the checkpoint again without it."
        )
    if fields.get(3, 0):
        raise _corrupt(index, f"the entry of tensor {name}", "it lies in a shard that is not there")
    stored = Stored(name, data, fields.get(4, 0), dtype, shape, unmask(fields.get(6, 0)))
    if stored.n_bytes != fields.get(5, 0):
        raise _corrupt(
            index,
            f"the entry of tensor {name}",
            f"{dtype} {list(shape)} takes {stored.n_bytes:,} bytes, it says {fields.get(5, 0):,}",
        )
    return name, stored


def _shape(found: int | bytes) -> tuple[int, ...]:
    """`TensorShapeProto`."""
    shape = []
    for number, dim in _fields(found):
        if number == 2:
            shape.append(dict(_fields(dim)).get(1, 0))
            if len(shape) > MOST_DIMENSIONS:
                raise MalformedError(f"its shape has more than {MOST_DIMENSIONS} dimensions")
        elif number == 3 and dim:
            raise MalformedError("its shape has no rank")
    sizes = tuple(size for size in shape if isinstance(size, int))
    if len(sizes) < len(shape) or not 0 <= math.prod(sizes) < MOST_ELEMENTS:
        raise MalformedError(f"its shape is {shown(shape)}")
    return sizes


def _fields(message: int | bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a protocol buffer's fields."""
    if isinstance(message, int):
        raise MalformedError("a number stands where a message should")
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire_type == 2:
            size, at = _varint(message, at)
        else:
            size = {1: 8, 5: 4}.get(wire_type, len(message) + 1)
        if at + size > len(message):
            raise MalformedError("a field reaches past its end")
        content = message[at : at + size]
        yield number, content if wire_type == 2 else int.from_bytes(content, "little")
        at += size


def _handle(source: bytes, at: int) -> tuple[Handle, int]:
    offset, at = _varint(source, at)
    size, at = _varint(source, at)
    return Handle(offset, size), at


def _varint(source: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(source):
            raise MalformedError("it ends within a number")
        byte = source[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise MalformedError("a number has more than 64 bits")


def _corrupt(index: Path, where: str, what: str) -> ModelError:
    return ModelError(f"{index}: {where} is damaged: {what}. Copy the file again from its source.")
