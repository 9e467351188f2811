"""Changes to valid files: of bytes, of JSON values, of the fields of an ONNX model."""

import contextlib
import json
import random
from collections.abc import Callable
from typing import Any

import onnx
from onnx import TensorProto

ESCAPES = (
    "\x1b[31m",
    "\x1b]52;c;cm0gLXJmIH4=\x07",
    "\x9b2J",
    "\r\x08\x7f",
    "\u202egpj\u2066",
    "\u2028\x85",
    "\0",
    "\ud800",
    "\n",
)
PATHS = ("../../etc/passwd", "/etc/passwd", "..", ".", "", "a/../../b", "..\\b", "\0", "x" * 5000)
HUGE = (0, -1, 1, 2, 2**31, 2**31 - 1, 2**32, 2**53, 2**60, 2**63 - 1, 2**63, 2**64, -(2**63))
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    *HUGE,
    10**400,
    0.0,
    -0.5,
    1e308,
    float("nan"),
    float("inf"),
    *ESCAPES,
    *PATHS,
    [],
    {},
    [[]],
    [1, 2],
    ["a", "b"],
    [["a", 1]],
    {"a": 1},
    {"": {}},
    {"content": "\x1b"},
)
WORDS = (
    b"\0",
    b"\xff\xff\xff\xff",
    b"\xff" * 9 + b"\x01",
    b"\x80" * 20,
    b"\x1b[31m",
    b"[" * 3000,
    b'{"a":' * 3000,
    b"9" * 5000,
    b"\n" * 200,
    b'"\\ud800"',
    b"\xe2\x80\xae",
    b"1e999",
)

DEEP = '"deep"'  # what takes the place of JSON that is nested deeply

Random = random.Random
Mutator = Callable[[Random, bytes], bytes]


def change_bytes(rng: Random, data: bytes) -> bytes:
    """A few bits, bytes or stretches are others."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(7)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(out):
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del out[at : at + rng.choice((1, 2, 8, 100))]
        elif kind == 3:
            out[at:at] = rng.choice(WORDS)
        elif kind == 4:
            out[at:at] = out[at : at + rng.choice((1, 4, 30, 300))]
        elif kind == 5:
            size = rng.choice((4, 8))
            out[at : at + size] = (rng.choice(HUGE) % 2 ** (8 * size)).to_bytes(size, "little")
        else:
            del out[at:]
    return bytes(out)


def change_json(rng: Random, data: bytes) -> bytes:
    """Some values of a JSON text are others; bytes, where it is none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return change_bytes(rng, data)
    try:
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            found = _change_value(rng, found)
        text = json.dumps(found)
    except RecursionError:  # it is nested deeply already
        return change_bytes(rng, data)
    if rng.randrange(60) == 0:
        text = _nested(rng, text)
    return text.replace(DEEP, _nested(rng, "1")).encode()


def _change_value(rng: Random, value: Any) -> Any:
    """The same value but for one place in it."""
    if isinstance(value, dict) and value and rng.randrange(8):
        return _change_object(rng, value)
    if isinstance(value, list) and value and rng.randrange(8):
        at = rng.randrange(len(value))
        changed: list[list[Any]] = [[], [value[at]] * 2]
        n = rng.randrange(12)
        return [
            *value[:at],
            *(changed[n] if n < 2 else [_change_value(rng, value[at])]),
            *value[at + 1 :],
        ]
    if isinstance(value, str) and value and rng.randrange(3) == 0:
        at = rng.randrange(len(value) + 1)
        return value[:at] + rng.choice(ESCAPES) + value[at:]
    if type(value) is int and rng.randrange(2):
        return value + rng.choice((-1, 1, 7, 1 << 20))
    return "deep" if rng.randrange(100) == 0 else rng.choice(VALUES)


def _change_object(rng: Random, value: dict[str, Any]) -> Any:
    key, other = rng.choice(list(value)), rng.choice((*ESCAPES, *PATHS))
    kind = rng.randrange(12)
    if kind == 0:
        return {k: v for k, v in value.items() if k != key}
    if kind == 1:
        return value | {other: value[key]}
    if kind == 2:
        return {other if k == key else k: v for k, v in value.items()}
    if kind == 3:
        return [[k, v] for k, v in value.items()]
    return value | {key: _change_value(rng, value[key])}


def _nested(rng: Random, text: str) -> str:
    """JSON text inside of many lists or objects: around the limit of what Python reads."""
    depth = rng.choice((100, 300, 480, 700, 900, 940, 980, 100_000))
    before, after = rng.choice((("[", "]"), ('{"a":', "}")))
    return before * depth + text + after * depth


def change_lines(rng: Random, data: bytes) -> bytes:
    """Each line is JSON, or else bytes."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = change_json(rng, lines[at])
    return b"\n".join(lines) if rng.randrange(4) else change_bytes(rng, data)


def change_safetensors(rng: Random, data: bytes) -> bytes:
    """Another header of the right length, or other bytes."""
    size = int.from_bytes(data[:8], "little")
    if size > len(data) or rng.randrange(4) == 0:
        return change_bytes(rng, data)
    header = change_json(rng, data[8 : 8 + size])
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def change_onnx(rng: Random, data: bytes) -> bytes:
    """Some fields of a model are others."""
    if rng.randrange(5) == 0:
        return change_bytes(rng, data)
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception:  # noqa: BLE001 - no model any more
        return change_bytes(rng, data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        _change_message(rng, model.graph if rng.randrange(8) else model)
    try:
        return bytes(model.SerializeToString())
    except (ValueError, UnicodeEncodeError):
        return change_bytes(rng, data)


def _change_message(rng: Random, message: Any) -> None:
    """One field somewhere below is another, or goes."""
    fields = message.ListFields()
    if not fields:
        return
    field, value = rng.choice(fields)
    name = field.name
    many = hasattr(value, "append") or hasattr(value, "add")
    if isinstance(message, TensorProto) and rng.randrange(3) == 0:
        _change_tensor(rng, message)
    elif field.message_type is not None and many:
        at = rng.randrange(len(value))
        kind = rng.randrange(10)
        if kind == 0:
            del value[at]
        elif kind == 1:
            value.add().CopyFrom(value[at])
        else:
            _change_message(rng, value[at])
    elif field.message_type is not None:
        _change_message(rng, value)
    elif many and len(value):
        at = rng.randrange(len(value))
        if rng.randrange(4) == 0:
            del value[at]
        else:
            value[at] = _scalar(rng, value[at])
    elif rng.randrange(6) == 0:
        message.ClearField(name)
    else:
        with contextlib.suppress(ValueError, TypeError):  # not for this field
            setattr(message, name, _scalar(rng, value))


def _change_tensor(rng: Random, tensor: TensorProto) -> None:
    kind = rng.randrange(5)
    if kind == 0:
        del tensor.dims[:]
        tensor.dims.extend(rng.choice(HUGE[:10]) for _ in range(rng.randrange(4)))
    elif kind == 1:
        tensor.data_type = rng.randrange(30)
    elif kind == 2:
        tensor.data_location = rng.randrange(2)
    else:
        entry = tensor.external_data.add()
        entry.key = rng.choice(("location", "offset", "length", "checksum", "__class__", "\x1b"))
        entry.value = rng.choice((*PATHS[:7], "-1", "0", str(2**63), "9" * 5000, "1.5", "\x1b[2J"))


def _scalar(rng: Random, value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return max(-(2**31), min(rng.choice((*HUGE, value + 1, value - 1)), 2**31 - 1))
    if isinstance(value, float):
        return rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e38))
    if isinstance(value, bytes):
        return change_bytes(rng, value)
    return rng.choice((*ESCAPES[:7], *PATHS[:7], "Loop", "Identity", "Expand", value + "x"))
